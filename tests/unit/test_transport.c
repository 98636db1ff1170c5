/* SPDX-License-Identifier: MIT */
/*
 * Rings between two ends in one process (threads stand for processes; the memory
 * and the pipes are the real ones) and across a fork: order, wrap-around, full
 * rings, falling asleep and waking, ends, and everything that a hostile peer can
 * write into the shared memory, field by field, at the offsets of
 * man berth-protocol.7.
 */
#include "transport_pair.h"

#include <stdatomic.h>
#include <sys/wait.h>

/* ---- messages ---- */

START_TEST(messages_in_order_both_ways) {
    static uint8_t buf[FS_MESSAGE_MAX];
    Pair pair;

    make_pair(&pair, SLOTS);
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), -EAGAIN);
    ck_assert_int_eq(transport_send(pair.front, "one", 3), 0);
    ck_assert_int_eq(transport_try_send(pair.front, "second", 6), 0);
    ck_assert_int_eq(transport_send(pair.daemon, "back", 4), 0);
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), 3);
    ck_assert_mem_eq(buf, "one", 3);
    ck_assert_int_eq(transport_receive(pair.daemon, buf, sizeof(buf)), 6);
    ck_assert_mem_eq(buf, "second", 6);
    ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), 4);
    ck_assert_mem_eq(buf, "back", 4);
    ck_assert_int_eq(transport_try_receive(pair.front, buf, sizeof(buf)), -EAGAIN);
    ck_assert_int_eq(transport_send(pair.front, buf, FS_MESSAGE_MAX + 1), -EMSGSIZE);
    ck_assert_int_eq(transport_try_end(pair.front), 0);
    end_pair(&pair);
}
END_TEST

static void fill(uint8_t *buf, size_t length, uint64_t number) {
    for (size_t i = 0; i < length; i++) {
        buf[i] = (uint8_t)(number * 31 + i);
    }
}

/* Lengths of all kinds, the largest included, with 0 to 3 messages waiting: many times around. */
START_TEST(messages_wrap_around) {
    uint64_t random = (uint64_t)_i + 1;
    static uint8_t buf[FS_MESSAGE_MAX], expected[FS_MESSAGE_MAX];
    size_t lengths[4];
    unsigned sent = 0, taken = 0;
    Pair pair;

    make_pair(&pair, SLOTS);
    while (taken < 5000) {
        if (sent - taken < 4 && next_random(&random) % 2 == 0) {
            size_t length = 1 + next_random(&random) % FS_MESSAGE_MAX;

            fill(buf, length, sent);
            lengths[sent % 4] = length;
            ck_assert_int_eq(transport_send(pair.front, buf, length), 0);
            sent++;
        } else if (taken < sent) {
            size_t length = lengths[taken % 4];
            int n = transport_try_receive(pair.daemon, buf, sizeof(buf));

            fill(expected, length, taken);
            ck_assert_msg(n == (int)length && memcmp(buf, expected, length) == 0,
                          "seed %d: message %u of %zu bytes came as %d", _i + 1, taken, length, n);
            taken++;
        }
    }
    end_pair(&pair);
}
END_TEST

/* Every slot's largest message fits; one who does not take them breaks the rules. */
START_TEST(full_ring) {
    static uint8_t buf[FS_MESSAGE_MAX];
    Pair pair;
    int r = 0;

    make_pair(&pair, SLOTS);
    for (unsigned i = 0; i < SLOTS; i++) {
        ck_assert_int_eq(transport_send(pair.front, buf, 4544), 0);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), 4544);
    }
    for (unsigned i = 0; i < 2 * SLOTS && r == 0; i++) {
        r = transport_send(pair.front, buf, 4544);
    }
    ck_assert_int_eq(r, -EPROTO);
    ck_assert_int_eq(transport_send(pair.front, buf, 1), -EPROTO);
    ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), -EPROTO);
    ck_assert_int_eq(transport_try_end(pair.daemon), -EPIPE);
    end_pair(&pair);
}
END_TEST

START_TEST(socket_when_not_agreed) {
    int fds[HELLO_RING_FDS];
    uint8_t buf[64];
    Pair pair = {0};

    make_sockets(&pair);
    ck_assert_int_eq(transport_ring_offer(pair.front, SLOTS, fds), 0);
    transport_ring_settle(pair.front, false);
    ck_assert(!transport_has_ring(pair.front));
    ck_assert_int_lt(fcntl(fds[0], F_GETFD), 0); /* nothing is left open */
    ck_assert_int_eq(transport_send(pair.front, "hello", 5), 0);
    ck_assert_int_eq(transport_receive(pair.daemon, buf, sizeof(buf)), 5);
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), -EAGAIN);
    ck_assert(transport_prepare_sleep(pair.daemon));
    transport_shutdown(pair.front);
    ck_assert_int_eq(transport_receive(pair.daemon, buf, sizeof(buf)), 0);
    ck_assert_int_eq(transport_send(pair.front, "x", 1), -EPIPE);
    transport_free(pair.front);
    transport_free(pair.daemon);
}
END_TEST

/* What a hostile front-end might hand over. */
START_TEST(accept_refuses) {
    int fds[HELLO_RING_FDS], bad[HELLO_RING_FDS];
    Pair pair = {0};

    make_sockets(&pair);
    ck_assert_int_eq(transport_ring_offer(pair.front, SLOTS, fds), 0);
    ck_assert_int_lt(transport_ring_accept(pair.daemon, SLOTS + 10, fds), 0); /* too small */
    for (size_t i = 0; i < HELLO_RING_FDS; i++) {
        memcpy(bad, fds, sizeof(bad));
        bad[i] = -1;
        ck_assert_int_lt(transport_ring_accept(pair.daemon, SLOTS, bad), 0);
        bad[i] = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        ck_assert_int_eq(ftruncate(bad[i], MEMORY_SIZE), 0);
        ck_assert_int_eq(transport_ring_accept(pair.daemon, SLOTS, bad), -EPROTO);
        (void)close(bad[i]);
    }
    ck_assert(!transport_has_ring(pair.daemon));
    transport_free(pair.front);
    transport_free(pair.daemon);
}
END_TEST

/* ---- sleeping and waking ---- */

START_TEST(wakes_only_who_sleeps) {
    uint8_t buf[64];
    Pair pair;
    int wake;

    make_pair(&pair, SLOTS);
    wake = transport_wake_fd(pair.daemon);
    ck_assert_int_eq(transport_send(pair.front, "awake", 5), 0);
    ck_assert(!readable(wake));
    ck_assert(!transport_prepare_sleep(pair.daemon)); /* there is something */
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), 5);
    ck_assert(transport_prepare_sleep(pair.daemon));
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(transport_send(pair.front, "asleep", 6), 0);
    }
    ck_assert_int_eq(read(wake, buf, sizeof(buf)), 1); /* three messages, one wake-up */
    ck_assert_int_eq(transport_woken(pair.daemon), 0);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), 6);
    }
    ck_assert_int_eq(transport_send(pair.front, "awake", 5), 0);
    ck_assert(!readable(wake));
    /* Woken by something else: taking a message ends the sleep as well. */
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), 5);
    ck_assert(transport_prepare_sleep(pair.daemon));
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), -EAGAIN);
    ck_assert_int_eq(transport_send(pair.front, "awake", 5), 0);
    ck_assert(!readable(wake));
    end_pair(&pair);
}
END_TEST

#define SENDERS 4u
#define MESSAGES 20000u

typedef struct Sender {
    Transport *transport;
    _Atomic unsigned *in_ring; /* never more than SLOTS */
    uint32_t number;
} Sender;

static void *send_many(void *arg) {
    Sender *sender = arg;
    uint64_t random = sender->number + 1;

    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t message[8] = {sender->number, i};

        while (atomic_fetch_add(sender->in_ring, 1) >= SLOTS) {
            atomic_fetch_sub(sender->in_ring, 1);
            sched_yield();
        }
        if (transport_send(sender->transport, message, 8 + next_random(&random) % 24) < 0) {
            return sender;
        }
        if (next_random(&random) % 16 == 0) {
            sched_yield(); /* lets the other side fall asleep */
        }
    }
    return NULL;
}

/* Odd rounds the daemon's way of receiving, even rounds the front-end's. */
START_TEST(sleep_races) {
    Sender senders[SENDERS];
    pthread_t threads[SENDERS];
    uint32_t next[SENDERS] = {0};
    _Atomic unsigned in_ring = 0;
    bool as_loop = _i % 2 != 0;
    Pair pair;

    make_pair(&pair, SLOTS);
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (Sender){as_loop ? pair.front : pair.daemon, &in_ring, i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, send_many, &senders[i]), 0);
    }
    for (unsigned i = 0; i < SENDERS * MESSAGES; i++) {
        static uint32_t message[FS_MESSAGE_MAX / sizeof(uint32_t)];
        int n = as_loop ? receive_as_loop(pair.daemon, message, sizeof(message))
                        : transport_receive(pair.front, message, sizeof(message));

        ck_assert_int_ge(n, 8);
        ck_assert_uint_lt(message[0], SENDERS);
        ck_assert_uint_eq(message[1], next[message[0]]);
        next[message[0]]++;
        atomic_fetch_sub(&in_ring, 1);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        void *failed = NULL;

        (void)pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    end_pair(&pair);
}
END_TEST

/* One message at a time: both sides fall asleep every time. */
START_TEST(ping_pong) {
    uint8_t buf[64];
    pthread_t thread;
    Pair pair;

    make_pair(&pair, SLOTS);
    ck_assert_int_eq(pthread_create(&thread, NULL, echo, pair.daemon), 0);
    for (unsigned i = 0; i < 20000; i++) {
        ck_assert_int_eq(transport_send(pair.front, &i, sizeof(i)), 0);
        ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), sizeof(i));
        ck_assert_mem_eq(buf, &i, sizeof(i));
    }
    close_bell(&pair);
    pair.front = transport_free(pair.front); /* the other side sees the end of its pipe */
    (void)pthread_join(thread, NULL);
    end_pair(&pair);
}
END_TEST

/* ---- ends ---- */

static void *receive_one(void *arg) {
    uint8_t buf[64];

    return (void *)(intptr_t)transport_receive(arg, buf, sizeof(buf));
}

START_TEST(shutdown_ends_a_blocked_receive) {
    uint8_t buf[64];
    pthread_t thread;
    void *result;
    Pair pair;

    make_pair(&pair, SLOTS);
    ck_assert_int_eq(pthread_create(&thread, NULL, receive_one, pair.front), 0);
    if (_i > 0) {
        usleep(20000); /* so that it does sleep; without it is right as well */
    }
    transport_shutdown(pair.front);
    (void)pthread_join(thread, &result);
    ck_assert_int_eq((int)(intptr_t)result, 0);
    ck_assert_int_eq(transport_send(pair.front, "x", 1), -EPIPE);
    ck_assert_int_eq(transport_try_end(pair.daemon), -EPIPE);
    ck_assert_int_eq(transport_receive(pair.daemon, buf, sizeof(buf)), 0);
    end_pair(&pair);
}
END_TEST

/* The peer is killed: what it had sent comes, then the end; nothing blocks. */
START_TEST(peer_death) {
    uint8_t buf[64];
    Pair pair;
    int ready[2];
    pid_t child;

    make_pair(&pair, SLOTS);
    ck_assert_int_eq(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        pair.front = transport_free(pair.front);
        (void)transport_send(pair.daemon, "last", 4);
        (void)transport_send(pair.daemon, "words", 5);
        (void)write(ready[1], "", 1);
        (void)pause();
        _exit(0);
    }
    close_bell(&pair);
    pair.daemon = transport_free(pair.daemon);
    ck_assert_int_eq(read(ready[0], buf, 1), 1);
    if (_i == 0) { /* before or while we sleep */
        ck_assert_int_eq(kill(child, SIGKILL), 0);
    } else {
        ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), 4);
        ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), 5);
        if (fork() == 0) {
            usleep(20000);
            _exit(kill(child, SIGKILL));
        }
    }
    if (_i == 0) {
        ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), 4);
        ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), 5);
    }
    ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), 0);
    ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), 0);
    ck_assert_int_eq(transport_send(pair.front, "x", 1), -EPIPE);
    while (wait(NULL) > 0) {
    }
    (void)close(ready[0]);
    (void)close(ready[1]);
    end_pair(&pair);
}
END_TEST

/* ---- a hostile peer ---- */

static void put32(Pair *pair, size_t at, uint32_t value) {
    memcpy(pair->memory + at, &value, sizeof(value));
}

/* What the consumer answers to a tail that nothing stands behind. */
static const struct {
    uint64_t tail;
    int expected;
} tails[] = {
    {1, -EPROTO},
    {7, -EPROTO},
    {8, -EPROTO},          /* a record of length 0 */
    {RING_BYTES, -EPROTO}, /* the same, in a full ring */
    {RING_BYTES + 8, -EPROTO},
    {UINT64_MAX, -EPROTO},
    {UINT64_MAX - 7, -EPROTO}, /* before the start */
    {UINT64_C(1) << 32, -EPROTO},
    {UINT64_C(1) << 63, -EPROTO},
    {0, -EAGAIN},
};

START_TEST(hostile_tail) {
    static uint8_t buf[FS_MESSAGE_MAX];
    Pair pair;

    make_pair(&pair, SLOTS);
    put64(&pair, REQUESTS_TAIL, tails[_i].tail);
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), tails[_i].expected);
    put64(&pair, RESPONSES_TAIL, tails[_i].tail);
    if (tails[_i].expected == -EPROTO) {
        ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), -EPROTO);
        ck_assert_int_eq(transport_try_end(pair.daemon), -EPROTO);
    }
    end_pair(&pair);
}
END_TEST

/* length, reserved, tail: a record of its own at the start. */
static const struct {
    uint32_t length, reserved;
    uint64_t tail;
    int expected;
} records[] = {
    {4, 0, 16, 4},
    {4, 0, 24, 4},
    {4, 1, 16, -EPROTO},
    {0, 0, 16, -EPROTO},
    {9, 0, 16, -EPROTO}, /* beyond the tail */
    {8, 0, 8, -EPROTO},
    {FS_MESSAGE_MAX, 0, 8 + FS_MESSAGE_MAX, FS_MESSAGE_MAX},
    {FS_MESSAGE_MAX, 0, FS_MESSAGE_MAX, -EPROTO},
    {FS_MESSAGE_MAX + 1, 0, RING_BYTES, -EPROTO},
    {INT32_MAX, 0, RING_BYTES, -EPROTO},
    {UINT32_MAX, 0, RING_BYTES, -EPROTO},
    {UINT32_MAX - 6, 0, RING_BYTES, -EPROTO}, /* wraps to 0 when filled up */
};

START_TEST(hostile_record) {
    static uint8_t buf[FS_MESSAGE_MAX];
    Pair pair;

    make_pair(&pair, SLOTS);
    for (size_t side = 0; side < 2; side++) {
        put32(&pair, side ? RESPONSES_DATA : REQUESTS_DATA, records[_i].length);
        put32(&pair, (side ? RESPONSES_DATA : REQUESTS_DATA) + 4, records[_i].reserved);
        put64(&pair, side ? RESPONSES_TAIL : REQUESTS_TAIL, records[_i].tail);
        ck_assert_int_eq(transport_try_receive(side ? pair.front : pair.daemon, buf, sizeof(buf)),
                         records[_i].expected);
    }
    end_pair(&pair);
}
END_TEST

/* The consumer's position is looked at when the ring seems full. */
static const struct {
    uint64_t head; /* after 8 messages of 4544 bytes were sent and 8 were taken */
    int expected;
} heads[] = {
    {8 * 4552, 0},
    {4552, 0},
    {1, -EPROTO},
    {0, -EPROTO},
    /* none taken: full */ {8 * 4552 + 8, -EPROTO},
    {UINT64_MAX, -EPROTO},
    {UINT64_C(1) << 63, -EPROTO},
};

START_TEST(hostile_head) {
    static const uint8_t message[4544];
    Pair pair;

    make_pair(&pair, SLOTS);
    for (unsigned i = 0; i < SLOTS; i++) {
        ck_assert_int_eq(transport_send(pair.front, message, sizeof(message)), 0);
        ck_assert_int_eq(transport_send(pair.daemon, message, sizeof(message)), 0);
    }
    put64(&pair, REQUESTS_HEAD, heads[_i].head);
    put64(&pair, RESPONSES_HEAD, heads[_i].head);
    ck_assert_int_eq(transport_send(pair.front, message, sizeof(message)), heads[_i].expected);
    if (heads[_i].expected == 0) {
        ck_assert_int_eq(transport_send(pair.daemon, message, sizeof(message)), 0);
    }
    end_pair(&pair);
}
END_TEST

/* A position that has been seen does not come back. */
START_TEST(hostile_head_backwards) {
    static const uint8_t message[4544];
    static uint8_t buf[FS_MESSAGE_MAX];
    Pair pair;

    make_pair(&pair, SLOTS);
    for (unsigned i = 0; i < SLOTS + 1; i++) {
        ck_assert_int_eq(transport_send(pair.front, message, sizeof(message)), 0);
        ck_assert_int_gt(transport_try_receive(pair.daemon, buf, sizeof(buf)), 0);
    }
    for (unsigned i = 0; i < SLOTS - 1; i++) {
        ck_assert_int_eq(transport_send(pair.front, message, sizeof(message)), 0);
    }
    put64(&pair, REQUESTS_HEAD, 0);
    ck_assert_int_eq(transport_send(pair.front, message, sizeof(message)), -EPROTO);
    end_pair(&pair);
}
END_TEST

/* The flag up all the time, and nobody reading the pipe: sending goes on without blocking. */
START_TEST(hostile_flag) {
    uint8_t buf[64];
    Pair pair;

    make_pair(&pair, SLOTS);
    for (unsigned i = 0; i < 70000; i++) { /* more than a pipe holds */
        put32(&pair, REQUESTS_SLEEPING, UINT32_MAX);
        ck_assert_int_eq(transport_send(pair.front, "x", 1), 0);
        ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), 1);
    }
    end_pair(&pair);
}
END_TEST

static void *ring_the_bell(void *arg) {
    const Pair *pair = arg;

    /* Ends when the other end is closed. */
    while (write(pair->bell_fd, "", 1) == 1 || errno == EAGAIN) {
    }
    return NULL;
}

START_TEST(hostile_storm) {
    uint8_t buf[64];
    pthread_t thread;
    Pair pair;

    make_pair(&pair, SLOTS);
    ck_assert_int_eq(pthread_create(&thread, NULL, ring_the_bell, &pair), 0);
    ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), -EPROTO);
    pair.front = transport_free(pair.front);
    (void)pthread_join(thread, NULL);
    end_pair(&pair);
}
END_TEST

START_TEST(hostile_packet) {
    static uint8_t buf[FS_MESSAGE_MAX];
    Pair pair;

    make_pair(&pair, SLOTS);
    ck_assert_int_eq(channel_send(transport_channel(pair.daemon), "packet", 6), 0);
    ck_assert_int_eq(transport_receive(pair.front, buf, sizeof(buf)), -EPROTO);
    ck_assert_int_eq(channel_send(transport_channel(pair.daemon), "packet", 6), -EPIPE);
    end_pair(&pair);
}
END_TEST

/* Somebody scribbles over all of it while both sides work: every call comes back with something
 * bounded. */
START_TEST(hostile_scribbles) {
    static uint8_t buf[FS_MESSAGE_MAX];
    uint64_t random = (uint64_t)_i + 1;

    for (unsigned round = 0; round < 60; round++) {
        Pair pair;

        make_pair(&pair, SLOTS);
        for (unsigned i = 0; i < 200; i++) {
            size_t at = next_random(&random) % (next_random(&random) % 2 ? 512 : MEMORY_SIZE);
            int n;

            if (next_random(&random) % 4 == 0) {
                pair.memory[at] = (uint8_t)next_random(&random);
            }
            (void)transport_send(pair.front, buf, 1 + next_random(&random) % FS_MESSAGE_MAX);
            n = transport_try_receive(pair.daemon, buf, sizeof(buf));
            ck_assert_msg(n == -EAGAIN || n == -EPROTO || (n > 0 && n <= (int)sizeof(buf)),
                          "seed %d, round %u: %d", _i + 1, round, n);
            (void)transport_prepare_sleep(pair.daemon);
        }
        end_pair(&pair);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("transport");
    TCase *plain = tcase_create("plain"), *hostile = tcase_create("hostile");
    SRunner *runner;
    int failed;

    tcase_set_timeout(plain, 100);
    tcase_add_test(plain, messages_in_order_both_ways);
    tcase_add_loop_test(plain, messages_wrap_around, 0, 4);
    tcase_add_test(plain, full_ring);
    tcase_add_test(plain, socket_when_not_agreed);
    tcase_add_test(plain, accept_refuses);
    tcase_add_test(plain, wakes_only_who_sleeps);
    tcase_add_loop_test(plain, sleep_races, 0, 4);
    tcase_add_test(plain, ping_pong);
    tcase_add_loop_test(plain, shutdown_ends_a_blocked_receive, 0, 2);
    tcase_add_loop_test(plain, peer_death, 0, 2);
    suite_add_tcase(suite, plain);
    tcase_set_timeout(hostile, 100);
    tcase_add_loop_test(hostile, hostile_tail, 0, (int)ARRAY_SIZE(tails));
    tcase_add_loop_test(hostile, hostile_record, 0, (int)ARRAY_SIZE(records));
    tcase_add_loop_test(hostile, hostile_head, 0, (int)ARRAY_SIZE(heads));
    tcase_add_test(hostile, hostile_head_backwards);
    tcase_add_test(hostile, hostile_flag);
    tcase_add_test(hostile, hostile_storm);
    tcase_add_test(hostile, hostile_packet);
    tcase_add_loop_test(hostile, hostile_scribbles, 0, 4);
    suite_add_tcase(suite, hostile);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
