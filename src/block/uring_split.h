/* SPDX-License-Identifier: MIT */
/* Which bytes of a request may go by direct I/O: see uring_split.c. */
#ifndef BERTH_BLOCK_URING_SPLIT_H
#define BERTH_BLOCK_URING_SPLIT_H

#include "internal.h"

typedef struct SplitRule {
    bool direct;          /* there is a description for direct I/O */
    uint64_t step;        /* of image offsets and lengths: a power of two, at least a page */
    uint64_t memory_step; /* of addresses: a power of two that divides step */
    uint64_t length_max;  /* of one part: a multiple of step */
} SplitRule;

typedef struct SplitPart {
    bool direct;
    uint64_t length;
    int iov_count;
} SplitPart;

/*
 * The next part of a transfer of `remaining` (> 0) bytes that has reached the
 * image offset `offset` and the memory at *at; out receives its memory.
 */
void uring_split_next(const SplitRule *rule, const IovCursor *at, uint64_t offset,
                      uint64_t remaining, struct iovec *out, int capacity, SplitPart *ret);

#endif
