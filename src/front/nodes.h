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
 * Names (nodes_lookup()): a LOOKUP of a known name is answered here and raises
 * the count as a grant of the daemon's would, without the daemon hearing of it.
 * That keeps the rule because it happens only while the count is above zero: the
 * daemon's own grant is still out then, as EVICT is sent only for a node whose
 * count has reached zero, and such a node goes, with all its names, under the
 * same hold of the lock. After that the name is unknown again and the daemon is
 * asked; a file_id that it has given to something else meanwhile (FAT's are
 * positions) is never answered from here. For the same reason names go with the
 * node of their directory.
 *
 * A known name is never wrong: responses are accepted in the order of their
 * numbers, which is the order in which the daemon did the work, and we own the
 * volume. So the names are those of the volume as of the last response accepted, and
 * every change that the kernel has been told of is among these. Where names fold case,
 * each spelling that was asked for is kept for itself, with whether it is the
 * stored one, and goes when its file is renamed or removed, by whatever spelling:
 * until then the format lets no other file have a name that is equal to it. Absence
 * is not kept: which names are equal is the format's business, and where it compares
 * bytes the kernel keeps absences itself.
 *
 * The end of a listing (nodes_list_end_store()) is kept by the same order: an offset in
 * the directory behind which the daemon had no more entries, known until a name in it
 * changes. A reader that goes on from there is at the end; a listing from the start is
 * always the daemon's.
 *
 * One mutex, a leaf: nothing else is taken while it is held.
 */
#ifndef BERTH_FRONT_NODES_H
#define BERTH_FRONT_NODES_H

#include "berth/fs.h"
#include "berth/hashmap.h"
#include "keepsake.h"
#include "names.h"
#include <pthread.h>
#include <stdatomic.h>

typedef struct Nodes {
    pthread_mutex_t lock;
    HashMap map;
    Names names;
    uint64_t seen;            /* number of the last response that was processed */
    uint64_t answers;         /* lookups and ends of listings answered here */
    _Atomic uint64_t id_bits; /* those that any file_id ever had */
    Keepsake *keepsake;       /* counts are kept there as well; NULL: nowhere */
} Nodes;

static inline uint64_t nodes_id_bits(const Nodes *nodes) {
    return atomic_load(&nodes->id_bits);
}
/* Enters the root, which the kernel never forgets. The keepsake stays the caller's. 0 or -ENOMEM.
 */
int nodes_init(Nodes *nodes, Keepsake *keepsake);
/* The keepsake is a predecessor's now: starts anew with what it left there. 0 or -ENOMEM. */
int nodes_adopt(Nodes *nodes);
void nodes_done(Nodes *nodes);

/* The kernel is about to be told of file_id once more. 0 or -ENOMEM. */
int nodes_grant(Nodes *nodes, uint64_t file_id);
void nodes_saw(Nodes *nodes, uint64_t number);
typedef struct NodeForget {
    uint64_t file_id, lookups;
} NodeForget;
/* The kernel takes lookups back. Returns how many objects it now has none of; their ids go to
 * ret_ids (room for `count`). */
unsigned nodes_forget(Nodes *nodes, const NodeForget *forgets, unsigned count, uint64_t *ret_ids);
/*
 * Before an EVICT of objects that nodes_forget() returned some time ago: removes from file_ids
 * those that the kernel has come to hold again, and returns how many are left. *ret_seen holds for
 * all of them, as they are looked up under one hold of the lock.
 */
unsigned nodes_keep_gone(Nodes *nodes, uint64_t *file_ids, unsigned count, uint64_t *ret_seen);
uint64_t nodes_count(Nodes *nodes);

/* Attributes of what the kernel holds; objects it does not hold are passed over in silence. */
void nodes_attr_store(Nodes *nodes, const FsAttr *attr);
void nodes_attr_drop(Nodes *nodes, uint64_t file_id);
bool nodes_attr_get(Nodes *nodes, uint64_t file_id, FsAttr *ret);

/* In this directory the name stands for file_id (exact: spelled as stored). Kept if both are held.
 */
void nodes_name_store(Nodes *nodes, uint64_t directory, const FsName *name, bool exact,
                      uint64_t file_id);
/* LOOKUP without the daemon: true when the name is known; the file is granted once more then. */
bool nodes_lookup(Nodes *nodes, uint64_t directory, const FsName *name, FsAttr *ret,
                  bool *ret_exact);
/* All names of the file, and all names in the directory, are to be asked for again. */
void nodes_name_drop_of(Nodes *nodes, uint64_t file_id);
void nodes_name_drop_in(Nodes *nodes, uint64_t directory);

/* Behind this offset of the directory nothing was listed. */
void nodes_list_end_store(Nodes *nodes, uint64_t directory, uint64_t offset);
/* Is that still so? */
bool nodes_list_ended(Nodes *nodes, uint64_t directory, uint64_t offset);
/* A name in the directory has changed, or may have. */
void nodes_list_end_drop(Nodes *nodes, uint64_t directory);

typedef struct NodesStats {
    uint64_t nodes, names, answers;
} NodesStats;
NodesStats nodes_stats(Nodes *nodes);

#endif
