/* SPDX-License-Identifier: MIT */
/*
 * Freed ranges that must not be used again yet: each belongs to the record
 * that freed it and leaves when the log's tail has passed that record. Ranges
 * are disjoint; a skip list orders them by start for the allocator's questions,
 * a queue by age for the release.
 *
 * Ranges of the open transaction are in the set already (it must not reuse
 * what it frees itself) but have no LSN until they are committed.
 */
#ifndef BERTH_CACHE_PENDING_H
#define BERTH_CACHE_PENDING_H

#include "berth/hashmap.h"

#define PENDING_LEVELS 16

typedef struct PendingRange {
    uint64_t start, count;
    uint64_t lsn;  /* end of the freeing record, PENDING_OPEN before commit */
    ListNode node; /* by age */
    unsigned levels;
    struct PendingRange *next[]; /* by start */
} PendingRange;
#define PENDING_OPEN UINT64_MAX

typedef struct Pending {
    PendingRange *head[PENDING_LEVELS];
    List queue;
    uint64_t blocks;
    uint64_t random;
} Pending;

typedef void PendingFn(void *arg, uint64_t start, uint64_t count);

void pending_init(Pending *pending);
void pending_done(Pending *pending);
/* Enters a range of the open transaction. -EUCLEAN when part of it is in the set: freed twice. */
int pending_add(Pending *pending, uint64_t start, uint64_t count);
/* The open transaction's ranges get their LSN; fn sees each. */
void pending_commit(Pending *pending, uint64_t lsn, PendingFn *fn, void *arg);
void pending_abort(Pending *pending);
/* Drops what belongs to records that end at or before tail; fn (may be NULL) sees each. */
void pending_release(Pending *pending, uint64_t tail, PendingFn *fn, void *arg);
/* First range that ends after start, or NULL. */
const PendingRange *pending_find(const Pending *pending, uint64_t start);

#endif
