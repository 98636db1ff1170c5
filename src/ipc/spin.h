/* SPDX-License-Identifier: MIT */
/*
 * How long it pays to look at a place in shared memory before falling asleep. A
 * wake-up costs both sides a system call and a switch, or, where a processor has
 * gone to sleep as well, much more; a look costs the time it takes. Three rules:
 *
 *   - a look is as long as the waits that looks have ended lately, with some room, at
 *     most SPIN_MAX_NS;
 *   - after some in vain, most sleeps begin without one;
 *   - who looks offers its processor to others all the time, as the peer may be waiting for
 *     this very one. If somebody else takes it, and for long, the machine is busy: then
 *     wake-ups are cheap and looking takes from others, so there is none for a while,
 *     which doubles as long as that goes on.
 *
 * Nothing here orders memory or keeps a promise: a look that ends too early is only
 * slower. Times are nanoseconds of one clock. Not thread-safe.
 */
#ifndef BERTH_IPC_SPIN_H
#define BERTH_IPC_SPIN_H

#include "berth/base.h"

#define SPIN_MAX_NS 100000u

typedef struct Spin {
    bool never;           /* one processor: who is waited for could not run */
    uint32_t mean_ns;     /* of the looks that saw something */
    uint32_t misses;      /* looks in vain, more or less in a row */
    uint32_t skip;        /* sleeps that begin without one */
    uint64_t busy_ns;     /* how long to stay away from a busy machine; 0: it was not */
    uint64_t busy_end_ns; /* and until when */
} Spin;

void spin_init(Spin *spin);
/* How long to look now; 0: not at all. */
uint32_t spin_limit(Spin *spin, uint64_t now_ns);
/* A look that ended now has taken so long, and seen something or not. */
void spin_looked(Spin *spin, bool seen, uint64_t looked_ns, uint64_t now_ns);

/* Tells the processor that this is a loop that waits. */
static inline void spin_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
