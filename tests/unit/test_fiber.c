/* SPDX-License-Identifier: MIT */
/*
 * The scheduler: order, wakes, the pool and its cap, stacks, and the sections
 * that must not yield.
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

typedef struct Steps {
    const char *name;
    unsigned count;
} Steps;

static void yielding_fiber(void *arg) {
    const Steps *steps = arg;

    for (unsigned i = 1; i <= steps->count; i++) {
        char what[16];

        (void)snprintf(what, sizeof(what), "%s%u", steps->name, i);
        trace_add(what);
        fiber_yield();
    }
}

START_TEST(test_yield_order) {
    Steps a = {"a", 3}, b = {"b", 2}, c = {"c", 1};

    ck_assert_ptr_nonnull(fiber_spawn(yielding_fiber, &a, "a"));
    ck_assert_ptr_nonnull(fiber_spawn(yielding_fiber, &b, "b"));
    ck_assert_ptr_nonnull(fiber_spawn(yielding_fiber, &c, "c"));
    ck_assert_str_eq(trace, "");
    ck_assert(fiber_any_ready());
    ck_assert_uint_eq(fiber_count(), 3);
    /* Each runs once more than it yields. */
    ck_assert_uint_eq(fiber_run_ready(), 4 + 3 + 2);
    ck_assert_str_eq(trace, "a1 b1 c1 a2 b2 a3");
    ck_assert(!fiber_any_ready());
    ck_assert_ptr_null(fiber_self());
}
END_TEST

static Fiber *sleeper_fiber;

static void suspending_fiber(void *arg) {
    unsigned *rounds = arg;

    ck_assert_ptr_eq(fiber_self(), sleeper_fiber);
    for (;;) {
        fiber_suspend();
        if (*rounds == 0) {
            return;
        }
        (*rounds)--;
        trace_add("woken");
    }
}

START_TEST(test_suspend_wake) {
    unsigned rounds = 2;

    sleeper_fiber = fiber_spawn(suspending_fiber, &rounds, "sleeper");
    ck_assert_uint_eq(fiber_run_ready(), 1);
    ck_assert_uint_eq(fiber_run_ready(), 0);
    fiber_wake(sleeper_fiber);
    fiber_wake(sleeper_fiber); /* idempotent until it runs */
    ck_assert_uint_eq(fiber_run_ready(), 1);
    ck_assert_str_eq(trace, "woken");
    fiber_wake(sleeper_fiber);
    ck_assert_uint_eq(fiber_run_ready(), 1);
    ck_assert_uint_eq(rounds, 0);
    fiber_wake(sleeper_fiber);
    ck_assert_uint_eq(fiber_run_ready(), 1);
    ck_assert_str_eq(trace, "woken woken");
}
END_TEST

static uint64_t running_word;

static void tagged_fiber(void *arg) {
    uint64_t tag = *(const uint64_t *)arg;

    ck_assert_uint_eq(running_word, 0); /* nobody's, whatever the last one was */
    fiber_set_tag(tag);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(running_word, tag);
        fiber_syscall_begin();
        ck_assert_uint_eq(running_word, 0);
        fiber_syscall_end();
        ck_assert_uint_eq(running_word, tag);
        fiber_yield();
    }
    fiber_set_tag(tag + 100);
    ck_assert_uint_eq(running_word, tag + 100);
}

static void untagged_fiber(void *arg) {
    (void)arg;
    fiber_yield();
    ck_assert_uint_eq(running_word, 0);
}

/* The word tells of the running fiber, and of nothing else. */
START_TEST(test_running_word) {
    static const uint64_t tags[] = {7, 8};
    uint64_t other = 5;

    fiber_note_running(&running_word);
    fiber_set_tag(99); /* outside fibers: nobody's */
    ck_assert_uint_eq(running_word, 0);
    ck_assert_ptr_nonnull(fiber_spawn(tagged_fiber, (void *)(uintptr_t)&tags[0], "tagged"));
    ck_assert_ptr_nonnull(fiber_spawn(untagged_fiber, NULL, "untagged"));
    ck_assert_ptr_nonnull(fiber_spawn(tagged_fiber, (void *)(uintptr_t)&tags[1], "tagged too"));
    (void)fiber_run_ready();
    ck_assert_uint_eq(running_word, 0);
    running_word = 55;
    fiber_note_running(&other); /* the old one is left clean, the new one is true */
    ck_assert_uint_eq(running_word, 0);
    ck_assert_uint_eq(other, 0);
    fiber_note_running(NULL);
    other = 3;
    ck_assert_ptr_nonnull(fiber_spawn(untagged_fiber, NULL, "untagged"));
    (void)fiber_run_ready();
    ck_assert_uint_eq(other, 3);
}
END_TEST

static void early_wake_fiber(void *arg) {
    (void)arg;
    fiber_wake(fiber_self()); /* running: remembered, once */
    fiber_wake(fiber_self());
    fiber_suspend();
    trace_add("first");
    fiber_yield(); /* woken while it is ready on its own account: remembered too */
    fiber_suspend();
    trace_add("second");
    fiber_suspend();
    trace_add("third");
}

static void waker_fiber(void *arg) {
    fiber_wake(arg);
}

START_TEST(test_wake_is_not_lost) {
    Fiber *early = fiber_spawn(early_wake_fiber, NULL, "early");

    ck_assert_ptr_nonnull(fiber_spawn(waker_fiber, early, "waker"));
    (void)fiber_run_ready();
    ck_assert_str_eq(trace, "first second");
    ck_assert_uint_eq(fiber_count(), 1);
    fiber_wake(early);
    (void)fiber_run_ready();
    ck_assert_str_eq(trace, "first second third");
}
END_TEST

static void woken_before_start(void *arg) {
    bool *passed = arg;

    fiber_suspend();
    *passed = true;
}

START_TEST(test_wake_before_start) {
    bool passed = false;

    fiber_wake(fiber_spawn(woken_before_start, &passed, "fresh"));
    (void)fiber_run_ready();
    ck_assert(passed);
}
END_TEST

static void nested_spawner(void *arg) {
    unsigned *depth = arg;

    if (--*depth > 0) {
        ck_assert_ptr_nonnull(fiber_spawn(nested_spawner, depth, "nested"));
    }
}

START_TEST(test_many_switches) {
    unsigned depth = 5000;
    Steps quiet = {"", 0};

    /* The pool gives the same few stacks again and again. */
    ck_assert_ptr_nonnull(fiber_spawn(nested_spawner, &depth, "nested"));
    ck_assert_uint_eq(fiber_run_ready(), 5000);
    ck_assert_uint_eq(depth, 0);
    for (unsigned i = 0; i < 64; i++) {
        ck_assert_ptr_nonnull(fiber_spawn(yielding_fiber, &quiet, "quiet"));
    }
    ck_assert_uint_eq(fiber_run_ready(), 64);
}
END_TEST

/* Values in callee-saved registers and floating point survive the switches of others. */
static void computing_fiber(void *arg) {
    uint64_t *sum = arg;
    uint64_t a = *sum, b = a * 3, c = a * 5, d = a * 7, e = a * 11;
    double x = (double)a, y = x / 3;

    for (unsigned i = 0; i < 2000; i++) {
        fiber_yield();
        a += b ^ i, b += c, c += d ^ a, d += e, e += a;
        x += y, y += 1.5;
    }
    *sum = a + b + c + d + e + (uint64_t)x;
}

START_TEST(test_registers_survive) {
    uint64_t together[8], alone[8];

    for (uint64_t i = 0; i < 8; i++) {
        together[i] = alone[i] = i + 1;
        ck_assert_ptr_nonnull(fiber_spawn(computing_fiber, &together[i], "together"));
    }
    (void)fiber_run_ready();
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_ptr_nonnull(fiber_spawn(computing_fiber, &alone[i], "alone"));
        (void)fiber_run_ready();
        ck_assert_uint_eq(together[i], alone[i]);
    }
}
END_TEST

START_TEST(test_cap) {
    Fiber *fibers[64];
    bool passed = false;
    unsigned rounds = 0;

    for (unsigned i = 0; i < 64; i++) {
        fibers[i] = fiber_spawn(woken_before_start, &passed, "one of many");
        ck_assert_ptr_nonnull(fibers[i]);
    }
    errno = 0;
    ck_assert_ptr_null(fiber_spawn(suspending_fiber, &rounds, "too many"));
    ck_assert_int_eq(errno, EAGAIN);
    (void)fiber_run_ready();
    ck_assert_uint_eq(fiber_count(), 64);
    for (unsigned i = 0; i < 64; i++) {
        fiber_wake(fibers[i]);
    }
    (void)fiber_run_ready();
    ck_assert_uint_eq(fiber_count(), 0);
    sleeper_fiber = fiber_spawn(suspending_fiber, &rounds, "room again");
    ck_assert_ptr_nonnull(sleeper_fiber);
    fiber_wake(sleeper_fiber);
    (void)fiber_run_ready();
    ck_assert_int_eq(fiber_sched_init(1), -EBUSY);
}
END_TEST

static void local_fiber(void *arg) {
    ck_assert_ptr_null(fiber_local());
    fiber_set_local(arg);
    fiber_yield();
    ck_assert_ptr_eq(fiber_local(), arg);
    trace_add("ok");
}

START_TEST(test_local) {
    int a, b;

    fiber_set_local(&a);
    ck_assert_ptr_nonnull(fiber_spawn(local_fiber, &a, "a"));
    ck_assert_ptr_nonnull(fiber_spawn(local_fiber, &b, "b"));
    (void)fiber_run_ready();
    ck_assert_str_eq(trace, "ok ok");
    ck_assert_ptr_eq(fiber_local(), &a);
    fiber_set_local(NULL);
}
END_TEST

static volatile unsigned char sink;

/* Uses about 1 KiB of stack for each level. */
static void __attribute__((noinline)) descend(unsigned levels) {
    volatile unsigned char frame[1024];

    memset((void *)frame, 0xa5, sizeof(frame));
    if (levels > 1) {
        descend(levels - 1);
    }
    sink = frame[levels % sizeof(frame)];
}

static void deep_fiber(void *arg) {
    descend(*(const unsigned *)arg);
    trace_add("back");
}

START_TEST(test_high_water) {
    unsigned levels = 4;
    size_t shallow, deep;

    ck_assert_ptr_nonnull(fiber_spawn(deep_fiber, &levels, "shallow"));
    (void)fiber_run_ready();
    shallow = fiber_stack_high_water();
    if (shallow == 0) {
        return; /* valgrind: not measured */
    }
    ck_assert_uint_ge(shallow, 4 * 1024);
    ck_assert_uint_le(shallow, (WITH_ASAN ? 4 : 1) * 16 * 1024);
    levels = 20;
    ck_assert_ptr_nonnull(fiber_spawn(deep_fiber, &levels, "deep"));
    (void)fiber_run_ready();
    deep = fiber_stack_high_water();
    ck_assert_uint_ge(deep, shallow + 15 * 1024);
    ck_assert_uint_le(deep, (WITH_ASAN ? 4 : 1) * FIBER_STACK_SIZE);
}
END_TEST

static void overflow_stack(void) {
    unsigned levels = 1000;

    (void)fiber_spawn(deep_fiber, &levels, "endless");
    (void)fiber_run_ready();
}

START_TEST(test_guard_page) {
    ck_assert(dies_by(SIGSEGV, overflow_stack));
}
END_TEST

static void no_yield_fiber(void *arg) {
    fiber_no_yield_enter();
    ck_assert(!fiber_may_yield());
    fiber_no_yield_enter();
    fiber_no_yield_leave();
    ck_assert(!fiber_may_yield());
    if (arg != NULL) {
        fiber_yield();
    }
    fiber_no_yield_leave();
    ck_assert(fiber_may_yield());
    fiber_yield();
    trace_add("ok");
}

static void yield_in_section(void) {
    (void)fiber_spawn(no_yield_fiber, (void *)"yield", "transaction");
    (void)fiber_run_ready();
}

static void no_yield_left_open(void *arg) {
    (void)arg;
    fiber_no_yield_enter();
}

static void end_in_section(void) {
    (void)fiber_spawn(no_yield_left_open, NULL, "forgetful");
    (void)fiber_run_ready();
}

START_TEST(test_no_yield) {
    ck_assert(!fiber_may_yield()); /* outside any fiber */
    ck_assert_ptr_nonnull(fiber_spawn(no_yield_fiber, NULL, "well-behaved"));
    (void)fiber_run_ready();
    ck_assert_str_eq(trace, "ok");
    ck_assert(dies_by(SIGABRT, yield_in_section));
    ck_assert(dies_by(SIGABRT, end_in_section));
    ck_assert(dies_by(SIGABRT, fiber_suspend));
    ck_assert(dies_by(SIGABRT, fiber_yield));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fiber");
    TCase *tcase = tcase_create("scheduler");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_yield_order);
    tcase_add_test(tcase, test_suspend_wake);
    tcase_add_test(tcase, test_running_word);
    tcase_add_test(tcase, test_wake_is_not_lost);
    tcase_add_test(tcase, test_wake_before_start);
    tcase_add_test(tcase, test_many_switches);
    tcase_add_test(tcase, test_registers_survive);
    tcase_add_test(tcase, test_cap);
    tcase_add_test(tcase, test_local);
    tcase_add_test(tcase, test_high_water);
    tcase_add_test(tcase, test_guard_page);
    tcase_add_test(tcase, test_no_yield);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
