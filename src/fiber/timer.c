/* SPDX-License-Identifier: MIT */
/*
 * One-shot timers in a list sorted by deadline. There are few (one per
 * sleeping fiber and module), and most are started with the same delays, so a
 * new one belongs near the end, where the search for its place begins.
 */
#include "loop_internal.h"

#include <assert.h>
#include <time.h>

void loop_timer_init(LoopTimer *timer, void (*fn)(void *arg), void *arg) {
    *timer = (LoopTimer){.fn = fn, .arg = arg};
}

void loop_timer_start(Loop *loop, LoopTimer *timer, uint64_t delay_ns) {
    uint64_t deadline = UINT64_MAX;
    ListNode *after;

    loop_timer_stop(loop, timer);
    (void)u64_add(loop_now_ns(), delay_ns, &deadline);
    timer->deadline_ns = deadline;
    /* Equal deadlines keep the order in which they were started. */
    after = loop->timers.head.prev;
    while (after != &loop->timers.head &&
           container_of(after, LoopTimer, node)->deadline_ns > deadline) {
        after = after->prev;
    }
    list_insert_before(after->next, &timer->node);
}

void loop_timer_stop(Loop *loop, LoopTimer *timer) {
    (void)loop;
    if (list_linked(&timer->node)) {
        list_remove(&timer->node);
    }
    timer->deadline_ns = 0;
}

bool loop_timers_timeout(const Loop *loop, struct timespec *ret) {
    ListNode *node = list_first(&loop->timers);
    uint64_t now, left;

    if (node == NULL) {
        return false;
    }
    now = loop_now_ns();
    left = container_of(node, LoopTimer, node)->deadline_ns;
    left = left > now ? left - now : 0;
    ret->tv_sec = (time_t)(left / NSEC_PER_SEC);
    ret->tv_nsec = (long)(left % NSEC_PER_SEC);
    return true;
}

void loop_timers_run(Loop *loop) {
    ListNode *node = list_first(&loop->timers);
    uint64_t now;
    List due;

    if (node == NULL) {
        return;
    }
    /* Those due now move to a list of their own, from which callbacks may stop them; one that
     * starts itself again waits for the next turn. */
    now = loop_now_ns();
    list_init(&due);
    while (node != NULL && container_of(node, LoopTimer, node)->deadline_ns <= now) {
        list_remove(node);
        list_append(&due, node);
        node = list_first(&loop->timers);
    }
    while ((node = list_first(&due)) != NULL) {
        LoopTimer *timer = container_of(node, LoopTimer, node);

        list_remove(node);
        timer->deadline_ns = 0;
        timer->fn(timer->arg);
    }
}

typedef struct Sleeper {
    LoopTimer timer;
    Fiber *fiber;
    bool over;
} Sleeper;

static void sleep_over(void *arg) {
    Sleeper *sleeper = arg;

    sleeper->over = true;
    fiber_wake(sleeper->fiber);
}

void loop_sleep(Loop *loop, uint64_t delay_ns) {
    Sleeper sleeper = {.fiber = fiber_self()};

    loop_timer_init(&sleeper.timer, sleep_over, &sleeper);
    loop_timer_start(loop, &sleeper.timer, delay_ns);
    while (!sleeper.over) {
        fiber_suspend();
    }
}
