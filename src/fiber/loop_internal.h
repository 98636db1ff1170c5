/* SPDX-License-Identifier: MIT */
/*
 * The loop's inside, shared by its public part (loop.c), the two ways to wait
 * (loop_ring.c, loop_poll.c), the timers (timer.c) and the helper threads
 * (offload.c). Everything belongs to the loop's thread, except what offload.c
 * keeps under its own mutex.
 */
#ifndef BERTH_LOOP_INTERNAL_H
#define BERTH_LOOP_INTERNAL_H

#include "berth/loop.h"

#include <poll.h>

#define NSEC_PER_SEC UINT64_C(1000000000)

#define LOOP_FIXED_FILES 64

typedef struct Offload Offload;

struct Loop {
    bool has_ring;
    bool stop;
    bool in_step;
    List timers;      /* LoopTimer.node, earliest first */
    List watches;     /* LoopWatch.node, also those that were freed and wait for their end */
    Offload *offload; /* NULL until first used */

    struct io_uring ring;
    int fixed_fds[LOOP_FIXED_FILES]; /* the ring's file table, -1: free */
    LoopIo *done_first;              /* completed, done() not yet called */
    LoopIo **done_last;              /* where the next one is linked */
    unsigned inflight;               /* LoopIos attached and not delivered, polls included */
    unsigned polls_armed;
    List dirty; /* LoopWatch.dirty_node: what the ring polls must be adapted */

    struct pollfd *pollfds; /* loop_poll.c: one for each watch that is not paused */
    size_t pollfds_capacity;
};

/*
 * A watch may be freed in any callback, its own included: it is only marked
 * dead, is not called again, and its memory goes when neither the kernel nor
 * a walk over the list can still refer to it.
 */
struct LoopWatch {
    Loop *loop;
    int fd;
    short events;  /* 0: paused */
    short revents; /* loop_poll.c: seen by this turn's poll */
    bool dead;
    void (*fn)(void *arg, short revents);
    void *arg;
    ListNode node;

    LoopIo io; /* the ring's poll request, in flight while armed */
    bool armed;
    bool cancelled; /* its removal has been asked for */
    short armed_events;
    ListNode dirty_node;
};

uint64_t loop_now_ns(void);

/* timer.c: calls what is due. */
void loop_timers_run(Loop *loop);
/* How long to wait for the earliest timer. False: no timer, wait without a limit. */
bool loop_timers_timeout(const Loop *loop, struct timespec *ret);

/* loop_ring.c. A turn: submit, wait if told to, call what has completed. 0 or -errno. */
int loop_ring_init(Loop *loop, unsigned entries, bool closed);
void loop_ring_done(Loop *loop);
int loop_ring_turn(Loop *loop, bool wait);
/* The watch was made, changed or freed. */
void loop_ring_watch_changed(LoopWatch *watch);

/* loop_poll.c: the same with poll(2). */
int loop_poll_turn(Loop *loop, bool wait);
void loop_poll_done(Loop *loop);

/* offload.c. */
Offload *offload_free(Offload *offload);

#endif
