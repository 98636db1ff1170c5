/* SPDX-License-Identifier: MIT */
/*
 * What a front-end leaves behind when it dies, beside the lifeline: which of the
 * kernel's requests sits in which slot under which number, how often the kernel
 * looked each object up, and what the mount is. It lies in two memfds that the holder
 * keeps (holder.c); the next front-end finds them there (attach.c).
 *
 * Every store is made before what depends on it can be seen outside: a slot before its
 * request is sent, a lookup before its reply is written.
 *
 * Locks: none of its own. A slot's entry belongs to whoever has the slot; the nodes
 * are written under nodes->lock.
 */
#ifndef BERTH_FRONT_KEEPSAKE_H
#define BERTH_FRONT_KEEPSAKE_H

#include "berth/base.h"

#define KEEPSAKE_SLOTS 512u
#define KEEPSAKE_INIT_MAX 256u

typedef struct KeepsakeSlot {
    uint64_t unique; /* the kernel's, 0: a request of our own */
    uint64_t request_id;
    uint32_t type; /* FSMessageType + 1; 0: nothing in flight */
    uint32_t reserved;
} KeepsakeSlot;

typedef struct KeepsakeHeader {
    uint64_t magic;
    uint32_t version, slot_count;
    uint64_t volume_start, volume_length;
    uint64_t next_seq;    /* none above it was ever used */
    uint64_t last_number; /* of the responses received */
    uint32_t epoch;       /* of the last daemon started */
    uint32_t readonly;
    uint32_t kill_priv; /* as the INIT agreed */
    uint32_t init_length;
    char type[32];
    char source[4096], directory[4096]; /* absolute */
    uint8_t init[KEEPSAKE_INIT_MAX];    /* the kernel's INIT request */
    KeepsakeSlot slots[KEEPSAKE_SLOTS];
} KeepsakeHeader;

typedef struct KeepsakeNode {
    uint64_t file_id; /* 0: free */
    uint64_t lookups;
} KeepsakeNode;

typedef struct Keepsake {
    KeepsakeHeader *header;
    KeepsakeNode *nodes;
    uint32_t node_capacity;
    uint32_t *free; /* places in nodes, a stack */
    uint32_t free_count;
    int fd, nodes_fd;
} Keepsake;

/* 0 or -errno. */
int keepsake_new(Keepsake *keepsake);
/* Takes the descriptors over. -EPROTO: not such memories. */
int keepsake_open(Keepsake *keepsake, int fd, int nodes_fd);
/* Fine on a zeroed one with descriptors of -1. */
void keepsake_done(Keepsake *keepsake);

/* A place for a node, or -ENOMEM. */
int keepsake_node_take(Keepsake *keepsake, uint64_t file_id, uint32_t *ret_place);
/* lookups 0: the place is free. */
void keepsake_node_set(Keepsake *keepsake, uint32_t place, uint64_t lookups);

#endif
