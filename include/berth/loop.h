/* SPDX-License-Identifier: MIT */
/*
 * The event loop of a thread: runs ready fibers, submits what they queued in
 * one io_uring_enter, waits for completions, descriptors and timers. Where
 * io_uring is refused, the same interface stands on poll(2) and a small pool
 * of threads; loop_has_ring() tells, and the loop says so once in the log.
 *
 * A loop belongs to the thread that made it, and does not survive a fork: make
 * it after going into the background. Callbacks run outside fibers, one after
 * the other; they must not call loop_step() or loop_run().
 */
#ifndef BERTH_LOOP_H
#define BERTH_LOOP_H

#include "berth/base.h"
#include "berth/fiber.h"
#include <liburing.h>

typedef struct Loop Loop;

typedef struct LoopConfig {
    unsigned ring_entries; /* submission queue size, 0: 256 */
    unsigned max_fibers;   /* 0: 320 */
    bool no_ring;          /* never use io_uring (tests, BERTH_NO_URING=1 in the environment) */
    bool closed;           /* the ring takes nothing before loop_ring_open() */
} LoopConfig;

/* Makes the loop and the thread's fiber scheduler. 0 or -errno. */
int loop_new(const LoopConfig *config, Loop **ret);
/* No fiber, watch, timer, offloaded job or submission (loop_inflight()) may be left. */
Loop *loop_free(Loop *loop);
DEFINE_CLEANUP(Loop *, loop_free);
/* The loop of this thread, NULL if none. */
Loop *loop_current(void);

bool loop_has_ring(const Loop *loop);
/*
 * Registers a descriptor in the ring's fixed file table (index returned), so
 * that a restricted ring may use it; without a ring, returns -EOPNOTSUPP. The
 * descriptor must stay open until loop_unregister_fd().
 */
int loop_register_fd(Loop *loop, int fd);
void loop_unregister_fd(Loop *loop, int index);
/*
 * Puts the file into the table for as long as the ring exists: closing the descriptor does not
 * close it, only the ring's final teardown does, when all I/O submitted to it has ended. Before
 * loop_ring_open(), if the loop is closed. -EOPNOTSUPP without a ring.
 */
int loop_keep_file(Loop *loop, int fd);

/*
 * Opens the ring of a closed loop: from now on, and for ever, this thread can submit what devices
 * and watches need, on registered descriptors, and nothing else. 0, or -errno of a kernel that
 * cannot restrict rings: then it is open for everything.
 */
int loop_ring_open(Loop *loop);

/* Runs until loop_stop(). Returns 0, or -errno when the ring itself fails. */
int loop_run(Loop *loop);
/*
 * One turn: submits what is queued; waits for an event if `wait` and no fiber is ready; calls back
 * what has completed and the timers that are due; runs ready fibers. What these queue is submitted
 * by the next turn. Returns early after a signal. -EDEADLK: asked to wait although nothing is
 * outstanding that could ever end the wait.
 */
int loop_step(Loop *loop, bool wait);
void loop_stop(Loop *loop);

/*
 * Completion-based I/O: the caller fills an SQE from loop_sqe() (never NULL: it submits
 * and waits for room) and attaches a LoopIo as user data by loop_sqe_attach(). done() is
 * called from the loop, outside any fiber, with the CQE's result; the LoopIo must live until then.
 * Only with a ring. Fill the SQE before taking the next one, which may submit it; linked SQEs may
 * be torn apart that way. A prep function overwrites sqe->flags: set IOSQE_FIXED_FILE after it.
 */
typedef struct LoopIo {
    void (*done)(struct LoopIo *io, int result);
    struct LoopIo *next; /* the loop's, from attach to done() */
    int result;
} LoopIo;
struct io_uring_sqe *loop_sqe(Loop *loop);
void loop_sqe_attach(Loop *loop, struct io_uring_sqe *sqe, LoopIo *io);
/* Submissions that have no completion yet. */
unsigned loop_inflight(const Loop *loop);

/*
 * Level-triggered readiness of a descriptor. events: POLLIN, POLLOUT; POLLHUP and POLLERR come
 * unasked. POLLNVAL says that the descriptor cannot be polled, and pauses the watch. Callbacks may
 * free any watch, their own included; a freed one is not called again. With a ring the kernel lets
 * go of the file in the next turn. A registered descriptor is polled as a fixed file. NULL: ENOMEM.
 */
typedef struct LoopWatch LoopWatch;
LoopWatch *loop_watch_new(Loop *loop, int fd, short events, void (*fn)(void *arg, short revents),
                          void *arg);
LoopWatch *loop_watch_free(LoopWatch *watch);
void loop_watch_set_events(LoopWatch *watch, short events); /* 0 pauses */

/* One-shot timers; fn runs outside fibers. Starting a started one moves it. */
typedef struct LoopTimer {
    uint64_t deadline_ns; /* CLOCK_MONOTONIC, 0: not started */
    void (*fn)(void *arg);
    void *arg;
    ListNode node;
} LoopTimer;
void loop_timer_init(LoopTimer *timer, void (*fn)(void *arg), void *arg);
void loop_timer_start(Loop *loop, LoopTimer *timer, uint64_t delay_ns);
void loop_timer_stop(Loop *loop, LoopTimer *timer);
/* Sleeps the running fiber. */
MAY_YIELD void loop_sleep(Loop *loop, uint64_t delay_ns);

/*
 * Runs fn(arg) on a helper thread (at most 4, started when first needed) and
 * returns its result: for long computations, and for blocking I/O where there
 * is no ring. From a fiber it suspends; outside one, or when no thread can be
 * started, it calls fn in place.
 */
MAY_YIELD int loop_offload(Loop *loop, int (*fn)(void *arg), void *arg);
/* The callback form: done(arg, result) runs from the loop, never before this returns. */
int loop_offload_submit(Loop *loop, int (*fn)(void *arg), void *arg,
                        void (*done)(void *arg, int result));
/* Starts all helper threads now, for a sandbox that will not allow it later. */
int loop_offload_start(Loop *loop);

#endif
