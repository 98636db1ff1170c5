/* SPDX-License-Identifier: MIT */
/*
 * Whether an operation that may block is better done at once, on the loop's thread,
 * than given to a worker. A worker costs two wake-ups (src/ipc/spin.h says how long they
 * take); done at once, everybody waits as long as the operation takes. So: while
 * it has been quick lately. After a slow one a growing number goes to
 * workers before the next is tried. Not thread-safe.
 */
#ifndef BERTH_BLOCK_AT_ONCE_H
#define BERTH_BLOCK_AT_ONCE_H

#include "berth/base.h"

typedef struct AtOnce {
    uint64_t quick_ns; /* so long is still quick */
    unsigned skip, penalty;
} AtOnce;

/* Is the next one to be done at once? If so, at_once_took() follows, with how long it took. */
bool at_once_next(AtOnce *at_once);
void at_once_took(AtOnce *at_once, uint64_t took_ns);

#endif
