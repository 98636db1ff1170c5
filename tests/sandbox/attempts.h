/* SPDX-License-Identifier: MIT */
/*
 * What a taken-over daemon would try. Each attempt runs in the daemon, inside
 * mount(), and returns 0 when it got its way, else the errno it was refused with,
 * negative; or it never returns.
 */
#ifndef BERTH_TESTS_SANDBOX_ATTEMPTS_H
#define BERTH_TESTS_SANDBOX_ATTEMPTS_H

#include "berth/fs.h"

/* The image: larger than the cache's log may be, every byte of its first block this one. */
#define ESCAPE_IMAGE_SIZE (UINT64_C(128) << 20)
#define ESCAPE_PATTERN 0x5a

#define KILLED 0  /* the refusal: the daemon dies of SIGSYS */
#define ALLOWED 1 /* no refusal: daemons need it */

typedef struct Attempt {
    const char *name;
    int (*run)(FileSystem *fs);
    int refusal;     /* KILLED, ALLOWED, or -errno */
    bool works_free; /* gets its way without a sandbox: proves that the sandbox refuses it */
    bool needs_ring;
} Attempt;

extern const Attempt escape_attempts[];
extern const size_t escape_attempt_count;

#endif
