/* SPDX-License-Identifier: MIT */
/*
 * The loop's wait on poll(2), for where io_uring is refused. There are only a
 * few watches (a channel, the helper threads' eventfd), so the array is built
 * anew each turn and nothing has to be kept in step.
 */
#include "loop_internal.h"

#include <time.h>

static void forget_dead(Loop *loop) {
    ListNode *node = list_first(&loop->watches);

    while (node != NULL) {
        LoopWatch *watch = container_of(node, LoopWatch, node);

        node = list_next(&loop->watches, node);
        if (watch->dead) {
            list_remove(&watch->node);
            free(watch);
        }
    }
}

/* Fills loop->pollfds in list order; their number or -ENOMEM. */
static int build_pollfds(Loop *loop) {
    size_t count = 0;

    for (ListNode *node = list_first(&loop->watches); node != NULL;
         node = list_next(&loop->watches, node)) {
        const LoopWatch *watch = container_of(node, LoopWatch, node);

        if (watch->events == 0) {
            continue;
        }
        if (count == loop->pollfds_capacity) {
            size_t capacity = MAX(count * 2, (size_t)8);
            struct pollfd *grown = reallocarray(loop->pollfds, capacity, sizeof(*grown));

            if (grown == NULL) {
                return -ENOMEM;
            }
            loop->pollfds = grown;
            loop->pollfds_capacity = capacity;
        }
        loop->pollfds[count++] = (struct pollfd){.fd = watch->fd, .events = watch->events};
    }
    return (int)count;
}

/* Notes what poll saw before any callback can change the list. */
static void take_revents(Loop *loop) {
    size_t i = 0;

    for (ListNode *node = list_first(&loop->watches); node != NULL;
         node = list_next(&loop->watches, node)) {
        LoopWatch *watch = container_of(node, LoopWatch, node);

        watch->revents = watch->events != 0 ? loop->pollfds[i++].revents : 0;
    }
}

static void call_watches(Loop *loop) {
    for (ListNode *node = list_first(&loop->watches); node != NULL;
         node = list_next(&loop->watches, node)) {
        LoopWatch *watch = container_of(node, LoopWatch, node);
        /* An earlier callback may have paused this one, or asked for less. */
        short wanted = (short)(watch->events | POLLERR | POLLHUP | POLLNVAL);
        short revents = (short)(watch->revents & wanted);

        if (watch->dead || watch->events == 0 || revents == 0) {
            continue;
        }
        if ((revents & POLLNVAL) != 0) {
            watch->events = 0;
        }
        watch->fn(watch->arg, revents);
    }
}

int loop_poll_turn(Loop *loop, bool wait) {
    struct timespec limit = {0};
    bool limited = !wait || loop_timers_timeout(loop, &limit);
    int count, r;

    forget_dead(loop);
    count = build_pollfds(loop);
    if (count < 0) {
        return count;
    }
    if (count == 0 && !wait) {
        return 0;
    }
    r = ppoll(loop->pollfds, (nfds_t)count, limited ? &limit : NULL, NULL);
    if (r < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    if (r > 0) {
        take_revents(loop);
        call_watches(loop);
    }
    return 0;
}

void loop_poll_done(Loop *loop) {
    free(loop->pollfds);
    loop->pollfds = NULL;
}
