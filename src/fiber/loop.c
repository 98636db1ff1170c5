/* SPDX-License-Identifier: MIT */
/*
 * The event loop: what is common to io_uring and poll(2). A step is
 *
 *   1. submit what was queued since the last step and, if the caller wants to
 *      wait and no fiber is ready, wait (one system call for both);
 *   2. call back what has completed, descriptors included;
 *   3. call back timers that are due;
 *   4. run the ready fibers, which queue the I/O of the next step.
 *
 * So callbacks never run inside a fiber, and a request that arrives costs one
 * system call however much I/O it starts. Steps do not nest.
 */
#include "loop_internal.h"

#include "berth/log.h"
#include "fiber_internal.h"

#include <assert.h>
#include <time.h>

#define DEFAULT_RING_ENTRIES 256
#define DEFAULT_MAX_FIBERS 320

/* Fibers that keep yielding to each other must not starve descriptors and timers. */
#define SWITCHES_PER_STEP 4096

static _Thread_local Loop *current;

uint64_t loop_now_ns(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static void start_backend(Loop *loop, const LoopConfig *config) {
    const char *no_uring = getenv("BERTH_NO_URING");
    int r;

    if (config->no_ring) {
        return;
    }
    if (no_uring != NULL && strcmp(no_uring, "1") == 0) {
        log_notice("BERTH_NO_URING is set: using poll and threads instead of io_uring");
        return;
    }
    r = loop_ring_init(loop,
                       config->ring_entries != 0 ? config->ring_entries : DEFAULT_RING_ENTRIES,
                       config->closed);
    if (r < 0) {
        log_notice("io_uring is not available (%s): using poll and threads instead", strerror(-r));
        return;
    }
    loop->has_ring = true;
}

int loop_new(const LoopConfig *config, Loop **ret) {
    Loop *loop;
    int r;

    assert(current == NULL);
    loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return -ENOMEM;
    }
    list_init(&loop->timers);
    list_init(&loop->watches);
    list_init(&loop->dirty);
    loop->done_last = &loop->done_first;
    for (size_t i = 0; i < ARRAY_SIZE(loop->fixed_fds); i++) {
        loop->fixed_fds[i] = -1;
    }
    r = fiber_sched_init(config->max_fibers != 0 ? config->max_fibers : DEFAULT_MAX_FIBERS);
    if (r < 0) {
        free(loop);
        return r;
    }
    start_backend(loop, config);
    current = loop;
    *ret = loop;
    return 0;
}

Loop *loop_free(Loop *loop) {
    if (loop == NULL) {
        return NULL;
    }
    assert(loop == current && !loop->in_step && fiber_count() == 0);
    assert(loop_inflight(loop) == 0);
    loop->offload = offload_free(loop->offload);
    if (loop->has_ring) {
        loop_ring_done(loop);
    } else {
        loop_poll_done(loop);
    }
    while (!list_empty(&loop->watches)) {
        LoopWatch *watch = container_of(list_first(&loop->watches), LoopWatch, node);

        assert(watch->dead);
        list_remove(&watch->node);
        free(watch);
    }
    assert(list_empty(&loop->timers));
    fiber_sched_done();
    current = NULL;
    free(loop);
    return NULL;
}

Loop *loop_current(void) {
    return current;
}

bool loop_has_ring(const Loop *loop) {
    return loop->has_ring;
}

/* Can anything at all still happen by itself? */
static bool can_wake(const Loop *loop) {
    if (!list_empty(&loop->timers) || loop_inflight(loop) > 0) {
        return true;
    }
    for (ListNode *node = list_first(&loop->watches); node != NULL;
         node = list_next(&loop->watches, node)) {
        const LoopWatch *watch = container_of(node, LoopWatch, node);

        if (!watch->dead && watch->events != 0) {
            return true;
        }
    }
    return false;
}

int loop_step(Loop *loop, bool wait) {
    int r;

    assert(loop == current && fiber_self() == NULL && !loop->in_step);
    wait = wait && !fiber_any_ready() && !loop->stop;
    if (wait && !can_wake(loop)) {
        return -EDEADLK;
    }
    loop->in_step = true;
    r = loop->has_ring ? loop_ring_turn(loop, wait) : loop_poll_turn(loop, wait);
    if (r == 0) {
        loop_timers_run(loop);
        (void)fiber_run_some(SWITCHES_PER_STEP);
    }
    loop->in_step = false;
    return r;
}

int loop_run(Loop *loop) {
    int r = 0;

    while (!loop->stop && r == 0) {
        r = loop_step(loop, true);
    }
    loop->stop = false;
    return r;
}

void loop_stop(Loop *loop) {
    loop->stop = true;
}

LoopWatch *loop_watch_new(Loop *loop, int fd, short events, void (*fn)(void *arg, short revents),
                          void *arg) {
    LoopWatch *watch = calloc(1, sizeof(*watch));

    if (watch == NULL) {
        return NULL;
    }
    watch->loop = loop;
    watch->fd = fd;
    watch->events = events;
    watch->fn = fn;
    watch->arg = arg;
    list_append(&loop->watches, &watch->node);
    if (loop->has_ring) {
        loop_ring_watch_changed(watch);
    }
    return watch;
}

LoopWatch *loop_watch_free(LoopWatch *watch) {
    if (watch == NULL) {
        return NULL;
    }
    assert(!watch->dead);
    watch->dead = true;
    if (watch->loop->has_ring) {
        loop_ring_watch_changed(watch);
    }
    return NULL;
}

void loop_watch_set_events(LoopWatch *watch, short events) {
    assert(!watch->dead);
    watch->events = events;
    if (watch->loop->has_ring) {
        loop_ring_watch_changed(watch);
    }
}
