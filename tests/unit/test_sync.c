/* SPDX-License-Identifier: MIT */
/*
 * Fiber locks and groups: exclusion and arrival order, also under chaos, where
 * the seed of a failing run is part of the message; and their use without a
 * scheduler.
 */
#include "fiber_support.h"

static void setup(void) {
    trace[0] = '\0';
    ck_assert_int_eq(fiber_sched_init(64), 0);
}

static void teardown(void) {
    fiber_set_chaos(0);
    ck_assert_uint_eq(fiber_count(), 0);
    fiber_sched_done();
}

typedef struct Contest {
    FiberMutex mutex;
    FiberRwlock lock;
    FiberCond cond;
    const char *failure;
    unsigned holders;                /* of the mutex */
    unsigned inside, readers_inside; /* the rwlock */
    unsigned done;
    unsigned items, taken;
} Contest;

static void contest_init(Contest *contest) {
    memset(contest, 0, sizeof(*contest));
    fiber_mutex_init(&contest->mutex);
    fiber_rwlock_init(&contest->lock);
    fiber_cond_init(&contest->cond);
}

static void mutex_contestant(void *arg) {
    Contest *contest = arg;

    for (unsigned i = 0; i < 5; i++) {
        fiber_mutex_lock(&contest->mutex);
        if (++contest->holders != 1) {
            contest->failure = "two fibers hold the mutex";
        }
        fiber_maybe_yield();
        fiber_maybe_yield();
        contest->holders--;
        fiber_mutex_unlock(&contest->mutex);
        fiber_maybe_yield();
    }
    contest->done++;
}

static void read_contestant(void *arg) {
    Contest *contest = arg;

    for (unsigned i = 0; i < 5; i++) {
        fiber_rwlock_read(&contest->lock);
        contest->readers_inside++;
        fiber_maybe_yield();
        if (contest->inside != 0) {
            contest->failure = "a writer beside a reader";
        }
        contest->readers_inside--;
        fiber_rwlock_unlock(&contest->lock);
    }
    contest->done++;
}

static void write_contestant(void *arg) {
    Contest *contest = arg;

    for (unsigned i = 0; i < 5; i++) {
        fiber_rwlock_write(&contest->lock);
        if (++contest->inside != 1 || contest->readers_inside != 0) {
            contest->failure = "a writer is not alone";
        }
        fiber_maybe_yield();
        if (!fiber_rwlock_held_write(&contest->lock) || contest->inside != 1 ||
            contest->readers_inside != 0) {
            contest->failure = "a writer is not alone after a suspension";
        }
        contest->inside--;
        fiber_rwlock_unlock(&contest->lock);
    }
    contest->done++;
}

static void consumer(void *arg) {
    Contest *contest = arg;

    fiber_mutex_lock(&contest->mutex);
    while (contest->items == 0) {
        fiber_cond_wait(&contest->cond, &contest->mutex);
    }
    contest->items--;
    contest->taken++;
    fiber_mutex_unlock(&contest->mutex);
    contest->done++;
}

static void producer(void *arg) {
    Contest *contest = arg;

    for (unsigned i = 0; i < 2; i++) {
        fiber_mutex_lock(&contest->mutex);
        contest->items += 2;
        fiber_cond_signal(&contest->cond);
        fiber_maybe_yield();
        fiber_cond_broadcast(&contest->cond);
        fiber_mutex_unlock(&contest->mutex);
        fiber_maybe_yield();
    }
    contest->done++;
}

static void run_contest(uint64_t seed) {
    static FiberFn *const contestants[] = {
        mutex_contestant, read_contestant,  write_contestant, consumer,
        mutex_contestant, write_contestant, read_contestant,  consumer,
        producer,         read_contestant,  producer,         consumer,
    };
    Contest contest;

    contest_init(&contest);
    fiber_set_chaos(seed);
    for (size_t i = 0; i < ARRAY_SIZE(contestants); i++) {
        ck_assert_ptr_nonnull(fiber_spawn(contestants[i], &contest, "contestant"));
    }
    (void)fiber_run_ready();
    ck_assert_msg(contest.failure == NULL, "seed %llu: %s", (unsigned long long)seed,
                  contest.failure);
    ck_assert_msg(contest.done == ARRAY_SIZE(contestants) && fiber_count() == 0,
                  "seed %llu: %u fibers never finished", (unsigned long long)seed, fiber_count());
    ck_assert_uint_eq(contest.taken, 3);
}

START_TEST(test_exclusion_under_chaos) {
    for (uint64_t seed = 0; seed < 500; seed++) {
        run_contest(seed);
    }
}
END_TEST

static void disturbed_writer(void *arg) {
    Contest *contest = arg;

    fiber_rwlock_write(&contest->lock);
    if (++contest->inside != 1) {
        contest->failure = "two writers";
    }
    for (unsigned i = 0; i < 5; i++) {
        fiber_yield();
    }
    contest->inside--;
    fiber_rwlock_unlock(&contest->lock);
    contest->done++;
}

START_TEST(test_stray_wakes) {
    Fiber *victims[2];
    Contest contest;

    contest_init(&contest);
    fiber_rwlock_write(&contest.lock); /* uncontended: needs no fiber */
    victims[0] = fiber_spawn(disturbed_writer, &contest, "victim");
    victims[1] = fiber_spawn(disturbed_writer, &contest, "victim");
    for (unsigned i = 0; i < 5; i++) {
        (void)fiber_run_ready();
        fiber_wake(victims[0]);
        fiber_wake(victims[1]);
    }
    (void)fiber_run_ready();
    ck_assert_uint_eq(contest.inside, 0);
    fiber_rwlock_unlock(&contest.lock);
    (void)fiber_run_ready();
    ck_assert_ptr_null(contest.failure);
    ck_assert_uint_eq(contest.done, 2);
}
END_TEST

typedef struct Turn {
    Contest *contest;
    const char *name;
    char kind; /* m(utex), r(ead), w(rite) */
} Turn;

static void turn_fiber(void *arg) {
    const Turn *turn = arg;
    Contest *contest = turn->contest;

    if (turn->kind == 'm') {
        fiber_mutex_lock(&contest->mutex);
    } else if (turn->kind == 'r') {
        fiber_rwlock_read(&contest->lock);
    } else {
        fiber_rwlock_write(&contest->lock);
    }
    trace_add(turn->name);
    fiber_yield();
    if (turn->kind == 'm') {
        fiber_mutex_unlock(&contest->mutex);
    } else {
        fiber_rwlock_unlock(&contest->lock);
    }
}

static void take_turns(Turn *turns, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ck_assert_ptr_nonnull(fiber_spawn(turn_fiber, &turns[i], turns[i].name));
    }
    (void)fiber_run_ready();
    ck_assert_uint_eq(fiber_count(), 0);
}

START_TEST(test_mutex_arrival_order) {
    Contest c;
    Turn turns[] = {{&c, "1", 'm'}, {&c, "2", 'm'}, {&c, "3", 'm'}, {&c, "4", 'm'}};

    contest_init(&c);
    take_turns(turns, ARRAY_SIZE(turns));
    ck_assert_str_eq(trace, "1 2 3 4");
    ck_assert(fiber_mutex_try(&c.mutex));
    ck_assert(!fiber_mutex_try(&c.mutex));
    fiber_mutex_unlock(&c.mutex);
}
END_TEST

START_TEST(test_rwlock_arrival_order) {
    Contest c;
    /* The readers that come after the first writer wait for it, then go together. */
    Turn turns[] = {{&c, "r1", 'r'}, {&c, "r2", 'r'}, {&c, "w1", 'w'},
                    {&c, "r3", 'r'}, {&c, "r4", 'r'}, {&c, "w2", 'w'}};

    contest_init(&c);
    take_turns(turns, ARRAY_SIZE(turns));
    ck_assert_str_eq(trace, "r1 r2 w1 r3 r4 w2");
    ck_assert_uint_eq(c.lock.readers, 0);
    ck_assert(!c.lock.writer);
}
END_TEST

static void readers_overlap_fiber(void *arg) {
    Contest *contest = arg;

    fiber_rwlock_read(&contest->lock);
    contest->inside++;
    fiber_yield();
    contest->taken = MAX(contest->taken, contest->inside);
    contest->inside--;
    fiber_rwlock_unlock(&contest->lock);
}

START_TEST(test_readers_share) {
    Contest c;

    contest_init(&c);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_ptr_nonnull(fiber_spawn(readers_overlap_fiber, &c, "reader"));
    }
    (void)fiber_run_ready();
    ck_assert_uint_eq(c.taken, 4);
}
END_TEST

static void queue_waiter(void *arg) {
    fiber_queue_wait(arg);
    trace_add(fiber_local() != NULL ? "?" : "q");
}

START_TEST(test_queue) {
    FiberQueue queue;

    fiber_queue_init(&queue);
    ck_assert(!fiber_queue_wake_one(&queue));
    ck_assert(!fiber_queue_wake_all(&queue));
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_ptr_nonnull(fiber_spawn(queue_waiter, &queue, "waiter"));
    }
    (void)fiber_run_ready();
    ck_assert(!fiber_queue_empty(&queue));
    ck_assert(fiber_queue_wake_one(&queue));
    (void)fiber_run_ready();
    ck_assert_str_eq(trace, "q");
    ck_assert(fiber_queue_wake_all(&queue));
    ck_assert(fiber_queue_empty(&queue));
    (void)fiber_run_ready();
    ck_assert_str_eq(trace, "q q q");
}
END_TEST

static void recursive_lock(void *arg) {
    fiber_mutex_lock(arg);
    fiber_mutex_lock(arg);
}

static void lock_recursively(void) {
    FiberMutex mutex;

    fiber_mutex_init(&mutex);
    (void)fiber_spawn(recursive_lock, &mutex, "recursive");
    (void)fiber_run_ready();
}

START_TEST(test_mutex_is_not_recursive) {
    ck_assert(dies_by(SIGABRT, lock_recursively));
}
END_TEST

static void contended_outside(void) {
    FiberMutex mutex;

    fiber_mutex_init(&mutex);
    fiber_mutex_lock(&mutex);
    fiber_mutex_lock(&mutex);
}

static void contended_rwlock_outside(void) {
    FiberRwlock lock;

    fiber_rwlock_init(&lock);
    fiber_rwlock_read(&lock);
    fiber_rwlock_write(&lock);
}

static void group_of_none(void) {
    (void)fiber_spawn(queue_waiter, NULL, "no scheduler");
}

static int negative_task(void *arg) {
    trace_add("task");
    return *(int *)arg;
}

/* Without any scheduler: what tools and fuzzers do. */
START_TEST(test_without_scheduler) {
    int results[] = {0, -EIO, -ENOSPC};
    FiberMutex mutex;
    FiberRwlock lock;
    FiberGroup group;
    FiberCond cond;

    trace[0] = '\0';
    fiber_set_chaos(7);
    fiber_mutex_init(&mutex);
    fiber_rwlock_init(&lock);
    fiber_cond_init(&cond);
    fiber_mutex_lock(&mutex);
    fiber_mutex_unlock(&mutex);
    fiber_rwlock_read(&lock);
    fiber_rwlock_read(&lock);
    fiber_rwlock_unlock(&lock);
    fiber_rwlock_unlock(&lock);
    fiber_rwlock_write(&lock);
    fiber_rwlock_unlock(&lock);
    fiber_cond_signal(&cond);
    fiber_no_yield_enter();
    fiber_no_yield_leave();
    fiber_maybe_yield();
    fiber_set_chaos(0);
    ck_assert_uint_eq(fiber_run_ready(), 0);
    ck_assert_uint_eq(fiber_count(), 0);
    ck_assert_uint_eq(fiber_stack_high_water(), 0);
    fiber_group_init(&group, 2);
    for (unsigned i = 0; i < 3; i++) {
        fiber_group_start(&group, negative_task, &results[i]);
    }
    ck_assert_str_eq(trace, "task task task");
    ck_assert_int_eq(fiber_group_wait(&group), -EIO);
    ck_assert(dies_by(SIGABRT, contended_outside));
    ck_assert(dies_by(SIGABRT, contended_rwlock_outside));
    ck_assert(dies_by(SIGABRT, group_of_none));
}
END_TEST

/* ---- groups ---- */

typedef struct GroupRun {
    unsigned limit, count;
    unsigned active, most_active, finished;
    unsigned failing; /* this task and the next fail */
    int result;
} GroupRun;

static GroupRun *group_run;

static int group_task(void *arg) {
    unsigned number = *(const unsigned *)arg;
    GroupRun *run = group_run;

    run->active++;
    run->most_active = MAX(run->most_active, run->active);
    for (unsigned i = 0; i < 1 + number % 3; i++) {
        fiber_maybe_yield();
        fiber_yield();
    }
    run->active--;
    run->finished++;
    if (number == run->failing) {
        return -EIO;
    }
    return number == run->failing + 3 ? -ENOSPC : 0;
}

static void group_owner(void *arg) {
    GroupRun *run = arg;
    unsigned numbers[100];
    FiberGroup group;

    fiber_group_init(&group, run->limit);
    for (unsigned i = 0; i < run->count; i++) {
        numbers[i] = i;
        fiber_group_start(&group, group_task, &numbers[i]);
    }
    run->result = fiber_group_wait(&group);
    /* Empty again, and usable again. */
    ck_assert_int_eq(fiber_group_wait(&group), run->result);
}

static GroupRun run_group(unsigned limit, unsigned count, unsigned failing, uint64_t seed) {
    GroupRun run = {.limit = limit, .count = count, .failing = failing, .result = 1};

    group_run = &run;
    fiber_set_chaos(seed);
    ck_assert_ptr_nonnull(fiber_spawn(group_owner, &run, "owner"));
    (void)fiber_run_ready();
    ck_assert_uint_eq(fiber_count(), 0);
    ck_assert_uint_eq(run.finished, count);
    return run;
}

START_TEST(test_group_limit) {
    for (uint64_t seed = 0; seed < 50; seed++) {
        GroupRun run = run_group(4, 30, 1000, seed);

        ck_assert_uint_eq(run.most_active, 4);
        ck_assert_int_eq(run.result, 0);
    }
    ck_assert_uint_eq(run_group(0, 5, 1000, 0).most_active, 1);
    ck_assert_int_eq(run_group(3, 0, 1000, 0).result, 0);
}
END_TEST

START_TEST(test_group_first_error) {
    ck_assert_int_eq(run_group(2, 20, 5, 0).result, -EIO);
    ck_assert_int_eq(run_group(1, 20, 5, 0).result, -EIO);
}
END_TEST

/* At the cap of fibers, tasks run in the owner. */
START_TEST(test_group_at_cap) {
    GroupRun run = run_group(80, 100, 5, 0);

    ck_assert_uint_eq(run.most_active, 64);
    ck_assert_int_eq(run.result, -EIO);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sync");
    TCase *tcase = tcase_create("locks and groups");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_exclusion_under_chaos);
    tcase_add_test(tcase, test_stray_wakes);
    tcase_add_test(tcase, test_mutex_arrival_order);
    tcase_add_test(tcase, test_rwlock_arrival_order);
    tcase_add_test(tcase, test_readers_share);
    tcase_add_test(tcase, test_queue);
    tcase_add_test(tcase, test_mutex_is_not_recursive);
    tcase_add_test(tcase, test_group_limit);
    tcase_add_test(tcase, test_group_first_error);
    tcase_add_test(tcase, test_group_at_cap);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("no scheduler");
    tcase_add_test(tcase, test_without_scheduler);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
