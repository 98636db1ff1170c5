/* SPDX-License-Identifier: MIT */
/*
 * What the kernel knows of the volume's objects: one node per file_id with the
 * kernel's lookup count and the attributes last seen.
 *
 * The rule that keeps daemon and front-end in step: counts are raised before
 * `seen` moves past the response that granted them, and both before the reply
 * goes to the kernel. So an EVICT that carries `seen` is either newer than every
 * grant of its object, or the daemon knows of a later one and ignores it.
 *
 * One mutex, a leaf: nothing else is taken while it is held.
 */
#ifndef BERTH_FRONT_NODES_H
#define BERTH_FRONT_NODES_H

#include "berth/fs.h"
#include "berth/hashmap.h"
#include <pthread.h>

typedef struct Nodes {
    pthread_mutex_t lock;
    HashMap map;
    uint64_t seen; /* number of the last response that was processed */
} Nodes;

/* Enters the root, which the kernel never forgets. 0 or -ENOMEM. */
int nodes_init(Nodes *nodes);
void nodes_done(Nodes *nodes);

/* The kernel is about to be told of file_id once more. 0 or -ENOMEM. */
int nodes_grant(Nodes *nodes, uint64_t file_id);
void nodes_saw(Nodes *nodes, uint64_t number);
typedef struct NodeForget {
    uint64_t file_id, lookups;
} NodeForget;
/*
 * The kernel takes lookups back. Returns how many objects it now has none of; their ids go to
 * ret_ids (room for `count`), and the daemon is to be told with *ret_seen, which holds for all of
 * them as they left under one hold of the lock.
 */
unsigned nodes_forget(Nodes *nodes, const NodeForget *forgets, unsigned count, uint64_t *ret_ids,
                      uint64_t *ret_seen);
uint64_t nodes_count(Nodes *nodes);

/* Attributes of what the kernel holds; objects it does not hold are passed over in silence. */
void nodes_attr_store(Nodes *nodes, const FsAttr *attr);
void nodes_attr_drop(Nodes *nodes, uint64_t file_id);
bool nodes_attr_get(Nodes *nodes, uint64_t file_id, FsAttr *ret);

#endif
