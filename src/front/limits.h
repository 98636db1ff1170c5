/* SPDX-License-Identifier: MIT */
/* What the system allows a mount, against what it needs (limits.c). */
#ifndef BERTH_FRONT_LIMITS_H
#define BERTH_FRONT_LIMITS_H

#include "berth/base.h"

/*
 * Before anything is started. Raises what we may raise ourselves; says on stderr, once and with the
 * name of the knob, what is too little to work well, and what is too little to work at all: then
 * -EMFILE, -ENOMEM or -EAGAIN.
 */
int limits_check(void);

/* How many more tasks the control groups of a process allow. */
typedef struct LimitsTasks {
    uint64_t room;   /* UINT64_MAX: no limit is known */
    char where[640]; /* the file with the narrowest limit */
} LimitsTasks;

/* membership: its /proc/PID/cgroup; root: where control groups are mounted. */
void limits_tasks(const char *membership, const char *root, LimitsTasks *ret);

#endif
