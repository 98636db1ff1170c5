/* SPDX-License-Identifier: MIT */
/*
 * Looking at a ring before falling asleep, and several threads that take turns in
 * receiving while one of them sleeps.
 */
#include "../../src/ipc/spin.h"
#include "transport_pair.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

START_TEST(look_finds_and_takes_nothing) {
    uint8_t buf[64];
    Pair pair;

    make_pair(&pair, SLOTS);
    ck_assert(!transport_look(pair.daemon, TRANSPORT_WAIT_MESSAGE, 1000, -1));
    ck_assert_int_eq(transport_send(pair.front, "here", 4), 0);
    ck_assert(!readable(transport_wake_fd(pair.daemon))); /* no flag was raised */
    ck_assert(transport_look(pair.daemon, TRANSPORT_WAIT_MESSAGE, 1000, -1));
    ck_assert(transport_look(pair.daemon, TRANSPORT_WAIT_MESSAGE, 1000, -1));
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), 4);
    ck_assert(!transport_look(pair.daemon, TRANSPORT_WAIT_MESSAGE, 1000, -1));
    put64(&pair, REQUESTS_TAIL, UINT64_MAX); /* to be looked at by who can say what is wrong */
    ck_assert(transport_look(pair.daemon, TRANSPORT_WAIT_MESSAGE, 1000, -1));
    ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), -EPROTO);
    end_pair(&pair);
}
END_TEST

static uint64_t elapsed_ns(const struct timespec *since) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)(now.tv_sec - since->tv_sec) * 1000000000u + (uint64_t)now.tv_nsec -
           (uint64_t)since->tv_nsec;
}

/* A peer that is silent costs at most 1 ms, and after a while next to nothing. */
START_TEST(look_is_bounded) {
    unsigned looks = 0;
    Pair pair;

    make_pair(&pair, SLOTS);
    for (unsigned i = 0; i < 2000; i++) {
        uint32_t limit = transport_look_limit(pair.daemon, TRANSPORT_WAIT_MESSAGE);

        ck_assert_uint_le(limit, SPIN_MAX_NS);
        if (limit > 0) {
            ck_assert(!transport_look(pair.daemon, TRANSPORT_WAIT_MESSAGE, limit, -1));
            looks++;
        }
    }
    ck_assert_uint_le(looks, 32);
    end_pair(&pair);
}
END_TEST

/* The longer wake-ups take, the longer a look, within bounds whatever the peer says of them. */
START_TEST(look_is_as_long_as_wake_ups) {
    const uint64_t said[] = {0, 1, UINT64_MAX, UINT64_MAX / 2};
    uint32_t quick, slow;
    Spin spin;
    Pair pair;

    spin_init(&spin, 8);
    if (spin.never) {
        return; /* one processor: nobody looks */
    }
    for (unsigned i = 0; i < 100; i++) {
        spin_woken(&spin, 5000);
    }
    quick = spin_limit(&spin, 1);
    for (unsigned i = 0; i < 100; i++) {
        spin_woken(&spin, 50000);
    }
    slow = spin_limit(&spin, 1);
    ck_assert_uint_ge(quick, 8 * 4000);
    ck_assert_uint_le(quick, 100000);
    ck_assert_uint_ge(slow, 8 * 40000);
    make_pair(&pair, SLOTS);
    for (unsigned i = 0; i < 100 * ARRAY_SIZE(said); i++) {
        put64(&pair, REQUESTS_RUNG, said[i / 100]);
        ck_assert_int_eq(transport_woken(pair.daemon), 0);
        ck_assert_uint_le(transport_look_limit(pair.daemon, TRANSPORT_WAIT_MESSAGE), SPIN_MAX_NS);
    }
    end_pair(&pair);
}
END_TEST

/* Looks that succeed keep the thread where it is, until it sleeps. */
START_TEST(look_stays_on_its_processor) {
    cpu_set_t before, now;
    uint8_t buf[64];
    Pair pair;

    ck_assert_int_eq(sched_getaffinity(0, sizeof(before), &before), 0);
    if (CPU_COUNT(&before) < 2) {
        return;
    }
    make_pair(&pair, SLOTS);
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_int_eq(transport_send(pair.front, "here", 4), 0);
        ck_assert(transport_look(pair.daemon, TRANSPORT_WAIT_MESSAGE, 100000, -1));
        ck_assert_int_eq(transport_try_receive(pair.daemon, buf, sizeof(buf)), 4);
    }
    ck_assert_int_eq(sched_getaffinity(0, sizeof(now), &now), 0);
    ck_assert_int_eq(CPU_COUNT(&now), 1);
    ck_assert(transport_prepare_sleep(pair.daemon));
    ck_assert_int_eq(sched_getaffinity(0, sizeof(now), &now), 0);
    ck_assert(CPU_EQUAL(&now, &before));
    end_pair(&pair);
}
END_TEST

/* A processor that others want for long is left to them: for 10 ms, and longer each time. */
START_TEST(look_leaves_a_busy_machine) {
    uint64_t now = 1000000000, away = 0;
    Spin spin;

    spin_init(&spin, 4);
    if (spin.never) {
        return;
    }
    for (unsigned i = 0; i < 12; i++) {
        uint64_t before = away;

        ck_assert_uint_gt(spin_limit(&spin, now), 0);
        spin_looked(&spin, true, 3000000, now);
        for (away = 0; spin_limit(&spin, now + away) == 0; away += 1000000) {
            ck_assert_uint_lt(away, 2000000000);
        }
        ck_assert_uint_ge(away, MAX(before, (uint64_t)10000000));
        now += away;
    }
    ck_assert_uint_ge(away, 1000000000);
}
END_TEST

/* Something else to do ends it early. */
START_TEST(look_gives_way) {
    struct timespec started;
    int fds[2];
    Pair pair;

    make_pair(&pair, SLOTS);
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(write(fds[1], "", 1), 1);
    (void)clock_gettime(CLOCK_MONOTONIC, &started);
    ck_assert(!transport_look(pair.daemon, TRANSPORT_WAIT_MESSAGE, UINT32_MAX, fds[0]));
    ck_assert_uint_lt(elapsed_ns(&started), 2000000000u); /* and not the four seconds */
    (void)close(fds[0]);
    (void)close(fds[1]);
    end_pair(&pair);
}
END_TEST

START_TEST(look_never_by_socket) {
    Pair pair = {0};

    make_sockets(&pair);
    ck_assert_uint_eq(transport_look_limit(pair.front, TRANSPORT_WAIT_MESSAGE), 0);
    transport_free(pair.front);
    transport_free(pair.daemon);
}
END_TEST

#define TURNS 30000u

typedef struct Turns {
    Transport *front;
    pthread_mutex_t lock;
    _Atomic unsigned taken;
    unsigned by_sleeper, by_sender;
} Turns;

/* As the front-end's replier: sleeps while others may take its turn. */
static void *sleep_and_take(void *arg) {
    Turns *turns = arg;
    static uint8_t buf[FS_MESSAGE_MAX];

    (void)pthread_mutex_lock(&turns->lock);
    while (transport_receive_unlocking(turns->front, &turns->lock, buf, sizeof(buf)) > 0) {
        unsigned number;

        memcpy(&number, buf, sizeof(number));
        ck_assert_uint_eq(number, atomic_load(&turns->taken));
        atomic_fetch_add(&turns->taken, 1);
        turns->by_sleeper++;
    }
    (void)pthread_mutex_unlock(&turns->lock);
    return NULL;
}

static void take_all(Turns *turns) {
    static uint8_t buf[FS_MESSAGE_MAX];

    while (transport_try_receive(turns->front, buf, sizeof(buf)) > 0) {
        unsigned number;

        memcpy(&number, buf, sizeof(number));
        ck_assert_uint_eq(number, atomic_load(&turns->taken));
        atomic_fetch_add(&turns->taken, 1);
        turns->by_sender++;
    }
}

/* The sender takes the sleeper's turn every now and then, and gives it back at any moment, with the
 * answer taken or not: each answer comes once and in order, and none stays. */
START_TEST(taking_turns) {
    uint64_t random = (uint64_t)_i + 1;
    Turns turns = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t sleeper, echoer;
    Pair pair;

    make_pair(&pair, SLOTS);
    turns.front = pair.front;
    ck_assert_int_eq(pthread_create(&echoer, NULL, echo, pair.daemon), 0);
    ck_assert_int_eq(pthread_create(&sleeper, NULL, sleep_and_take, &turns), 0);
    for (unsigned i = 0; i < TURNS; i++) {
        bool claimed = next_random(&random) % 4 != 0 && pthread_mutex_trylock(&turns.lock) == 0;
        struct timespec started;

        if (claimed) {
            transport_awake(pair.front);
        }
        ck_assert_int_eq(transport_send(pair.front, &i, sizeof(i)), 0);
        if (claimed) {
            if (next_random(&random) % 3 != 0) {
                (void)transport_look(pair.front, TRANSPORT_WAIT_MESSAGE,
                                     (uint32_t)(next_random(&random) % 20000), -1);
                take_all(&turns);
            }
            while (!transport_prepare_sleep(pair.front)) {
                take_all(&turns);
            }
            (void)pthread_mutex_unlock(&turns.lock);
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &started);
        while (atomic_load(&turns.taken) <= i) {
            ck_assert_msg(elapsed_ns(&started) < 20000000000u, "seed %d: answer %u was lost",
                          _i + 1, i);
            sched_yield();
        }
    }
    (void)pthread_mutex_lock(&turns.lock);
    ck_assert_uint_eq(turns.by_sleeper + turns.by_sender, TURNS);
    ck_assert_uint_gt(turns.by_sleeper, 0);
    ck_assert_uint_gt(turns.by_sender, 0);
    (void)pthread_mutex_unlock(&turns.lock);
    transport_shutdown(pair.front);
    (void)pthread_join(sleeper, NULL);
    close_bell(&pair);
    pair.front = transport_free(pair.front);
    (void)pthread_join(echoer, NULL);
    end_pair(&pair);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("transport_look");
    TCase *look = tcase_create("look");
    SRunner *runner;
    int failed;

    tcase_set_timeout(look, 100);
    tcase_add_test(look, look_finds_and_takes_nothing);
    tcase_add_test(look, look_is_bounded);
    tcase_add_test(look, look_is_as_long_as_wake_ups);
    tcase_add_test(look, look_stays_on_its_processor);
    tcase_add_test(look, look_leaves_a_busy_machine);
    tcase_add_test(look, look_gives_way);
    tcase_add_test(look, look_never_by_socket);
    tcase_add_loop_test(look, taking_turns, 0, 2);
    suite_add_tcase(suite, look);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
