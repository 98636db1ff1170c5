/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of looks (spin.h).
 */
#include "spin.h"

#include <sched.h>

#define SPIN_MIN_NS 20000u /* below that the clock and the switches decide */
#define WAKE_FIRST_NS 20000u
#define WAKE_MAX_NS 200000u /* more was somebody else's time slice */
#define WEIGHT 8u           /* of the mean: how many wake-ups it remembers */
#define MISSES_MIN 4u       /* so many are bad luck */
#define SKIP_SHIFT_MAX 7u   /* at most 127 sleeps without a look */
/* A peer on this processor gives it back sooner; somebody else's time slice is longer. */
#define LOST_NS 1000000u
#define STREAK_MIN 8u /* looks before it is worth three system calls */
#define BUSY_MIN_NS UINT64_C(10000000)
#define BUSY_MAX_NS UINT64_C(1600000000)

void spin_init(Spin *spin, uint32_t wakes) {
    cpu_set_t set;

    *spin = (Spin){.wakes = wakes, .wake_ns = WAKE_FIRST_NS};
    CPU_ZERO(&set);
    spin->never = sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) < 2;
}

void spin_woken(Spin *spin, uint64_t took_ns) {
    uint32_t wake_ns = (uint32_t)MIN(took_ns, (uint64_t)WAKE_MAX_NS);

    spin->wake_ns = (spin->wake_ns * (WEIGHT - 1) + wake_ns) / WEIGHT;
}

uint32_t spin_limit(Spin *spin, uint64_t now_ns) {
    if (spin->never || now_ns < spin->busy_end_ns) {
        return 0;
    }
    if (spin->skip > 0) {
        spin->skip--;
        return 0;
    }
    return MIN(SPIN_MIN_NS + spin->wake_ns * spin->wakes, SPIN_MAX_NS);
}

void spin_looked(Spin *spin, bool seen, uint64_t away_ns, uint64_t now_ns) {
    spin->streak += seen;
    if (away_ns >= LOST_NS) {
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
        spin->misses++;
        if (spin->misses >= MISSES_MIN) {
            spin->skip = (1u << MIN(spin->misses - MISSES_MIN + 1, SKIP_SHIFT_MAX)) - 1;
        }
    }
}

void spin_stay(Spin *spin) {
    cpu_set_t here;
    int cpu;

    if (spin->stays || spin->cannot_stay || spin->streak < STREAK_MIN) {
        return;
    }
    cpu = sched_getcpu();
    if (cpu >= 0 && sched_getaffinity(0, sizeof(spin->before), &spin->before) == 0) {
        CPU_ZERO(&here);
        CPU_SET((size_t)cpu, &here);
        spin->stays = sched_setaffinity(0, sizeof(here), &here) == 0;
    }
    spin->cannot_stay = !spin->stays;
}

void spin_sleep(Spin *spin) {
    spin->streak = 0;
    if (spin->stays) {
        (void)sched_setaffinity(0, sizeof(spin->before), &spin->before);
        spin->stays = false;
    }
}
