/* SPDX-License-Identifier: MIT */
/*
 * Two ends of a transport in one process, with rings, and what tests do with them.
 */
#ifndef BERTH_TEST_TRANSPORT_PAIR_H
#define BERTH_TEST_TRANSPORT_PAIR_H

#include "berth/transport.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#define SLOTS 8u
#define RING_BYTES 36864u /* 8 * 4608, which is whole pages */
#define MEMORY_SIZE (4096u + 2 * RING_BYTES)

/* Offsets in the shared memory. */
enum {
    REQUESTS_TAIL = 0,
    REQUESTS_SLEEPING = 64,
    REQUESTS_RUNG = 72,
    REQUESTS_HEAD = 128,
    RESPONSES_TAIL = 256,
    RESPONSES_SLEEPING = 320,
    RESPONSES_HEAD = 384,
    REQUESTS_DATA = 4096,
    RESPONSES_DATA = 4096 + RING_BYTES,
};

typedef struct Pair {
    Transport *front, *daemon;
    uint8_t *memory; /* what either of them can scribble on */
    int bell_fd;     /* the daemon's end of the pipe that wakes the front-end */
} Pair;

static inline void make_sockets(Pair *pair) {
    Channel *a = NULL, *b = NULL;
    int fd;

    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(channel_pair(&a, &fd), 0);
    ck_assert_int_eq(channel_new(fd, &b), 0);
    ck_assert_int_eq(transport_new(a, &pair->front), 0);
    ck_assert_int_eq(transport_new(b, &pair->daemon), 0);
}

static inline void make_pair(Pair *pair, unsigned slots) {
    int fds[HELLO_RING_FDS], theirs[HELLO_RING_FDS];

    *pair = (Pair){0};
    make_sockets(pair);
    ck_assert_int_eq(transport_ring_offer(pair->front, slots, fds), 0);
    ck_assert(!transport_has_ring(pair->front));
    for (size_t i = 0; i < HELLO_RING_FDS; i++) {
        theirs[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        ck_assert_int_ge(theirs[i], 0);
    }
    pair->memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    ck_assert_ptr_ne(pair->memory, MAP_FAILED);
    pair->bell_fd = fcntl(fds[2], F_DUPFD_CLOEXEC, 0);
    transport_ring_settle(pair->front, true);
    ck_assert_int_eq(transport_ring_accept(pair->daemon, slots, theirs), 0);
    for (size_t i = 0; i < HELLO_RING_FDS; i++) {
        ck_assert_int_eq(theirs[i], -1);
    }
    ck_assert(transport_has_ring(pair->front) && transport_has_ring(pair->daemon));
}

static inline void close_bell(Pair *pair) {
    if (pair->bell_fd >= 0) {
        (void)close(pair->bell_fd);
        pair->bell_fd = -1;
    }
}

static inline void end_pair(Pair *pair) {
    close_bell(pair);
    (void)munmap(pair->memory, MEMORY_SIZE);
    transport_free(pair->front);
    transport_free(pair->daemon);
}

static inline bool readable(int fd) {
    struct pollfd waited = {.fd = fd, .events = POLLIN};

    return poll(&waited, 1, 0) > 0;
}

static inline void put64(Pair *pair, size_t at, uint64_t value) {
    memcpy(pair->memory + at, &value, sizeof(value));
}

static inline uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* As an event loop does it. */
static inline int receive_as_loop(Transport *transport, void *buf, size_t capacity) {
    for (;;) {
        struct pollfd waited = {.fd = transport_wake_fd(transport), .events = POLLIN};
        int r = transport_try_receive(transport, buf, capacity);

        if (r != -EAGAIN) {
            return r;
        }
        if (transport_prepare_sleep(transport)) {
            ck_assert_msg(poll(&waited, 1, 20000) == 1, "a wake-up was lost");
            r = transport_woken(transport);
            if (r < 0) {
                return r;
            }
        }
    }
}

static inline void *echo(void *arg) {
    Transport *transport = arg;
    static uint8_t buf[FS_MESSAGE_MAX];
    int n;

    while ((n = receive_as_loop(transport, buf, sizeof(buf))) > 0) {
        if (transport_send(transport, buf, (size_t)n) < 0) {
            break;
        }
    }
    return NULL;
}

#endif
