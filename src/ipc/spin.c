/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of looks (spin.h).
 */
#include "spin.h"

#include <sched.h>

#define SPIN_MIN_NS 20000u /* below that the clock and the switches decide */
#define ROOM 4u            /* a look may take so many times the mean */
#define WEIGHT 8u          /* of the mean: how many looks it remembers */
#define MISSES_MIN 4u      /* so many are bad luck */
#define SKIP_SHIFT_MAX 7u  /* at most 127 sleeps without a look */
/* A peer on this processor gives it back sooner; somebody else's time slice is longer. */
#define LOST_NS (2u * SPIN_MAX_NS)
#define BUSY_MIN_NS UINT64_C(50000000)
#define BUSY_MAX_NS UINT64_C(1600000000)

void spin_init(Spin *spin) {
    cpu_set_t set;

    *spin = (Spin){.mean_ns = SPIN_MIN_NS / 2};
    CPU_ZERO(&set);
    spin->never = sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) < 2;
}

uint32_t spin_limit(Spin *spin, uint64_t now_ns) {
    if (spin->never || now_ns < spin->busy_end_ns) {
        return 0;
    }
    if (spin->skip > 0) {
        spin->skip--;
        return 0;
    }
    return MIN(MAX(spin->mean_ns * ROOM, SPIN_MIN_NS), SPIN_MAX_NS);
}

void spin_looked(Spin *spin, bool seen, uint64_t looked_ns, uint64_t now_ns) {
    if (looked_ns >= LOST_NS) {
        spin->busy_ns = MIN(MAX(spin->busy_ns * 2, BUSY_MIN_NS), BUSY_MAX_NS);
        spin->busy_end_ns = now_ns + spin->busy_ns;
        return;
    }
    if (now_ns - spin->busy_end_ns >= spin->busy_ns) {
        spin->busy_ns = 0; /* it has been calm for as long */
    }
    if (seen) {
        spin->misses /= 2;
    } else {
        looked_ns = SPIN_MAX_NS / ROOM; /* perhaps the waits have become longer */
        spin->misses++;
        if (spin->misses >= MISSES_MIN) {
            spin->skip = (1u << MIN(spin->misses - MISSES_MIN + 1, SKIP_SHIFT_MAX)) - 1;
        }
    }
    spin->mean_ns = (spin->mean_ns * (WEIGHT - 1) + (uint32_t)looked_ns) / WEIGHT;
}
