/* SPDX-License-Identifier: MIT */
/*
 * How long it pays to look at a place in shared memory before falling asleep. A
 * wake-up costs both sides a system call and a switch, or, where a processor has
 * gone to sleep as well, much more: 40 to 150 microseconds were measured on a virtual
 * machine whose host was virtual too. A look costs the time it takes. Four rules:
 *
 *   - a look is as long as the wake-ups it may spare, and how long one takes is measured
 *     whenever we sleep. Between a daemon's answer and the next request lie the client's
 *     and the front-end's, often several times (the kernel asks for a directory's
 *     attributes before each name, and the front-end knows them);
 *   - after some in vain, most sleeps begin without one;
 *   - who looks offers its processor to others all the time, as the peer may be waiting for
 *     this very one. If somebody else takes it, and for long, the machine is busy: then
 *     wake-ups are cheap and looking takes from others, so there is none for a while,
 *     which doubles as long as that goes on;
 *   - with one processor nobody looks.
 *
 * A look that succeeds keeps its processor awake, and the scheduler lets the client and the
 * front-end share another one, since none is idle: their wake-ups are then switches on one
 * processor, the cheapest there are. So looks must be long enough to get there.
 *
 * Nothing here orders memory or keeps a promise: a look that ends too early is only
 * slower. Times are nanoseconds of one clock. Not thread-safe.
 */
#ifndef BERTH_IPC_SPIN_H
#define BERTH_IPC_SPIN_H

#include "berth/base.h"

#include <sched.h>

#define SPIN_MAX_NS 1000000u

typedef struct Spin {
    bool never;           /* one processor: who is waited for could not run */
    uint32_t wakes;       /* so many wake-ups a look may spare */
    uint32_t wake_ns;     /* what one takes, in the mean */
    uint32_t misses;      /* looks in vain, more or less in a row */
    uint32_t skip;        /* sleeps that begin without one */
    uint32_t streak;      /* looks that saw something since the last sleep */
    bool stays;           /* on its processor */
    bool cannot_stay;     /* somebody's filter refuses it */
    cpu_set_t before;     /* stays: where it may run otherwise */
    uint64_t busy_ns;     /* how long to stay away from a busy machine; 0: it was not */
    uint64_t busy_end_ns; /* and until when */
} Spin;

/* wakes: 1 to 16. */
void spin_init(Spin *spin, uint32_t wakes);
/* We were woken, took_ns after the peer said so: by its word, which may be anything. */
void spin_woken(Spin *spin, uint64_t took_ns);
/* How long to look now; 0: not at all. */
uint32_t spin_limit(Spin *spin, uint64_t now_ns);
/* A look has ended now and seen something or not. away_ns: the longest time in it that others had
 * our processor. */
void spin_looked(Spin *spin, bool seen, uint64_t away_ns, uint64_t now_ns);

/* Once looks have seen something for a while the thread stays on its processor until it sleeps:
 * where the scheduler moves it about, the others must find their places anew each time. For the
 * one thread that does all the looking with this Spin. */
void spin_stay(Spin *spin);
void spin_sleep(Spin *spin);

/* Tells the processor that this is a loop that waits. */
static inline void spin_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
