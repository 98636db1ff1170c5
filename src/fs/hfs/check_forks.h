/* SPDX-License-Identifier: MIT */
/* Forks as the checker sees them: what check.c needs to find the catalog's file. */
#ifndef HFS_CHECK_FORKS_H
#define HFS_CHECK_FORKS_H

#include "check.h"

typedef struct CheckFork {
    uint32_t file;
    uint8_t type;       /* HFS_FORK_ */
    HfsExtent *extents; /* malloc'ed */
    unsigned count;
    uint32_t blocks;
    size_t claimed; /* its overflow records are the last of those claimed, from here on */
    bool cut;       /* there is more that cannot be */
} CheckFork;

/* From its first extents (NULL: it has none of its own) and, if wanted, the overflow tree; its
 * overflow records are claimed. */
int check_fork_collect(Check *check, uint32_t file, uint8_t type, const HfsExtent *first,
                       bool overflow, CheckFork *ret);

/* check_space.c: overflow records that no fork has claimed. */
int check_overflow(Check *check);

#endif
