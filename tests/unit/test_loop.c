/* SPDX-License-Identifier: MIT */
/*
 * The event loop. What does not need the ring itself runs twice: on io_uring
 * and on poll(2) (the test's index, _i).
 */
#include "fiber_support.h"

#include "berth/log.h"
#include "berth/loop.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#define MSEC UINT64_C(1000000)

enum { ON_RING, ON_POLL };

static Loop *new_loop(int backend) {
    LoopConfig config = {.ring_entries = 8, .no_ring = backend == ON_POLL};
    Loop *loop = NULL;

    trace[0] = '\0';
    ck_assert_ptr_null(loop_current());
    ck_assert_int_eq(loop_new(&config, &loop), 0);
    ck_assert_ptr_eq(loop_current(), loop);
    if (backend == ON_POLL) {
        ck_assert(!loop_has_ring(loop));
    } else if (!loop_has_ring(loop)) {
        (void)fprintf(stderr, "io_uring is refused here: this ran on poll(2)\n");
    }
    return loop;
}

START_TEST(test_loop_empty) {
    Loop *loop = new_loop(_i);

    ck_assert_int_eq(loop_step(loop, false), 0);
    /* Nothing could ever wake it: an error, not a hang. */
    ck_assert_int_eq(loop_step(loop, true), -EDEADLK);
    ck_assert_int_eq(loop_run(loop), -EDEADLK);
    loop_stop(loop);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(loop_inflight(loop), 0);
    loop_free(loop);
    ck_assert_ptr_null(loop_current());
    ck_assert_ptr_null(loop_free(NULL));
}
END_TEST

static void trace_timer(void *arg) {
    ck_assert_ptr_null(fiber_self());
    trace_add(arg);
}

static void stop_timer(void *arg) {
    trace_add("stop");
    loop_stop(arg);
}

START_TEST(test_timers_order) {
    Loop *loop = new_loop(_i);
    LoopTimer a, b, c, d, e, stop;

    loop_timer_init(&a, trace_timer, (char *)"a");
    loop_timer_init(&b, trace_timer, (char *)"b");
    loop_timer_init(&c, trace_timer, (char *)"c");
    loop_timer_init(&d, trace_timer, (char *)"d");
    loop_timer_init(&e, trace_timer, (char *)"e");
    loop_timer_init(&stop, stop_timer, loop);
    loop_timer_start(loop, &stop, 40 * MSEC);
    loop_timer_start(loop, &c, 30 * MSEC);
    loop_timer_start(loop, &a, 10 * MSEC);
    loop_timer_start(loop, &b, 20 * MSEC);
    loop_timer_start(loop, &d, 1 * MSEC);
    loop_timer_start(loop, &e, UINT64_MAX); /* never */
    loop_timer_start(loop, &d, 35 * MSEC);  /* moved */
    loop_timer_stop(loop, &b);
    loop_timer_stop(loop, &b);
    ck_assert_uint_eq(b.deadline_ns, 0);
    ck_assert_uint_ne(a.deadline_ns, 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_str_eq(trace, "a c d stop");
    ck_assert_uint_eq(a.deadline_ns, 0);
    loop_timer_stop(loop, &e);
    loop_free(loop);
}
END_TEST

static LoopTimer *timer_to_stop;
static unsigned restarts;

static void stopping_timer(void *arg) {
    trace_add("stopping");
    loop_timer_stop(arg, timer_to_stop);
}

static LoopTimer restarting;

static void restarting_timer(void *arg) {
    if (++restarts == 3) {
        loop_stop(arg);
    } else {
        loop_timer_start(arg, &restarting, 0);
    }
}

/* Two due in the same turn, the first stops the second; one starts itself again. */
START_TEST(test_timers_change_in_callback) {
    Loop *loop = new_loop(_i);
    LoopTimer first, second;

    restarts = 0;
    loop_timer_init(&first, stopping_timer, loop);
    loop_timer_init(&second, trace_timer, (char *)"second");
    loop_timer_init(&restarting, restarting_timer, loop);
    timer_to_stop = &second;
    loop_timer_start(loop, &first, 0);
    loop_timer_start(loop, &second, 0);
    loop_timer_start(loop, &restarting, 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_str_eq(trace, "stopping");
    ck_assert_uint_eq(restarts, 3);
    loop_free(loop);
}
END_TEST

typedef struct SleepArgs {
    Loop *loop;
    const char *name;
    uint64_t delay;
} SleepArgs;

static void sleeping_fiber(void *arg) {
    const SleepArgs *args = arg;

    fiber_wake(fiber_self()); /* a stray wake does not shorten the sleep */
    loop_sleep(args->loop, args->delay);
    trace_add(args->name);
    if (args->delay == 30 * MSEC) {
        loop_stop(args->loop);
    }
}

START_TEST(test_sleep) {
    Loop *loop = new_loop(_i);
    SleepArgs args[] = {{loop, "30", 30 * MSEC}, {loop, "10", 10 * MSEC}, {loop, "0", 0}};

    for (size_t i = 0; i < ARRAY_SIZE(args); i++) {
        ck_assert_ptr_nonnull(fiber_spawn(sleeping_fiber, &args[i], "sleeper"));
    }
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_str_eq(trace, "0 10 30");
    loop_free(loop);
}
END_TEST

typedef struct Pipe {
    Loop *loop;
    int ends[2];
    LoopWatch *watch, *other;
    unsigned calls;
    short revents;
} Pipe;

static void pipe_open(Pipe *pipe, Loop *loop) {
    memset(pipe, 0, sizeof(*pipe));
    pipe->loop = loop;
    ck_assert_int_eq(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pipe->ends), 0);
}

static void pipe_close(Pipe *pipe) {
    (void)close(pipe->ends[0]);
    (void)close(pipe->ends[1]);
}

static void pipe_ready(void *arg, short revents) {
    Pipe *pipe = arg;

    ck_assert_ptr_null(fiber_self());
    pipe->calls++;
    pipe->revents = revents;
}

/* Turns until nothing more comes by itself; enough for a request to be armed and to complete. */
static void spin(Loop *loop) {
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(loop_step(loop, false), 0);
    }
}

static void check_watch(Loop *loop, bool registered) {
    Pipe p;
    char byte;
    int index = -1;

    pipe_open(&p, loop);
    if (registered && loop_has_ring(loop)) {
        index = loop_register_fd(loop, p.ends[0]);
        ck_assert_int_ge(index, 0);
    }
    p.watch = loop_watch_new(loop, p.ends[0], POLLIN, pipe_ready, &p);
    ck_assert_ptr_nonnull(p.watch);
    spin(loop);
    ck_assert_uint_eq(p.calls, 0);
    ck_assert_int_eq(write(p.ends[1], "x", 1), 1);
    ck_assert_int_eq(loop_step(loop, true), 0);
    ck_assert_uint_eq(p.calls, 1);
    ck_assert_int_eq(p.revents, POLLIN);
    /* Level-triggered: not read, so called again. */
    ck_assert_int_eq(loop_step(loop, true), 0);
    ck_assert_uint_eq(p.calls, 2);
    loop_watch_set_events(p.watch, 0);
    spin(loop);
    ck_assert_uint_eq(p.calls, 2);
    loop_watch_set_events(p.watch, POLLOUT);
    ck_assert_int_eq(loop_step(loop, true), 0);
    ck_assert_uint_eq(p.calls, 3);
    ck_assert_int_eq(p.revents, POLLOUT);
    loop_watch_set_events(p.watch, POLLIN);
    ck_assert_int_eq(read(p.ends[0], &byte, 1), 1);
    spin(loop);
    ck_assert_uint_eq(p.calls, 3);
    (void)close(p.ends[1]);
    ck_assert_int_eq(loop_step(loop, true), 0);
    ck_assert_uint_eq(p.calls, 4);
    ck_assert_int_ne(p.revents & POLLHUP, 0);
    p.watch = loop_watch_free(p.watch);
    spin(loop);
    ck_assert_uint_eq(p.calls, 4);
    if (index >= 0) {
        loop_unregister_fd(loop, index);
    }
    (void)close(p.ends[0]);
}

START_TEST(test_watch) {
    Loop *loop = new_loop(_i);

    check_watch(loop, false);
    check_watch(loop, true);
    loop_free(loop);
}
END_TEST

/* A paused watch that is changed back and forth within a turn. */
START_TEST(test_watch_toggled) {
    Loop *loop = new_loop(_i);
    Pipe p;

    pipe_open(&p, loop);
    p.watch = loop_watch_new(loop, p.ends[0], 0, pipe_ready, &p);
    ck_assert_int_eq(write(p.ends[1], "x", 1), 1);
    for (unsigned i = 0; i < 5; i++) {
        loop_watch_set_events(p.watch, POLLIN);
        loop_watch_set_events(p.watch, 0);
    }
    spin(loop);
    ck_assert_uint_eq(p.calls, 0);
    ck_assert_int_eq(loop_step(loop, true), -EDEADLK);
    loop_watch_set_events(p.watch, POLLIN);
    ck_assert_int_eq(loop_step(loop, true), 0);
    ck_assert_uint_eq(p.calls, 1);
    loop_watch_set_events(p.watch, 0);
    loop_watch_set_events(p.watch, POLLIN);
    ck_assert_int_eq(loop_step(loop, true), 0);
    ck_assert_uint_eq(p.calls, 2);
    loop_watch_free(p.watch);
    pipe_close(&p);
    loop_free(loop);
}
END_TEST

static void freeing_ready(void *arg, short revents) {
    Pipe *pipe = arg;

    (void)revents;
    pipe->calls++;
    if (pipe->watch != NULL) {
        pipe->watch = loop_watch_free(pipe->watch);
        pipe->other = loop_watch_free(pipe->other);
        loop_stop(pipe->loop);
    }
}

/* Both are ready; whichever is called first frees both. */
START_TEST(test_watch_free_in_callback) {
    Loop *loop = new_loop(_i);
    Pipe p;

    pipe_open(&p, loop);
    p.watch = loop_watch_new(loop, p.ends[0], POLLIN, freeing_ready, &p);
    p.other = loop_watch_new(loop, p.ends[0], POLLIN, freeing_ready, &p);
    ck_assert_int_eq(write(p.ends[1], "x", 1), 1);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(p.calls, 1);
    ck_assert_ptr_null(p.other);
    spin(loop);
    ck_assert_uint_eq(p.calls, 1);
    /* Freed while its poll waits, and the loop goes before the poll ends. */
    ck_assert_int_eq(read(p.ends[0], &(char){0}, 1), 1);
    p.watch = loop_watch_new(loop, p.ends[0], POLLIN, pipe_ready, &p);
    spin(loop);
    p.watch = loop_watch_free(p.watch);
    loop_free(loop);
    pipe_close(&p);
}
END_TEST

START_TEST(test_watch_bad_fd) {
    Loop *loop = new_loop(_i);
    Pipe p = {.loop = loop};

    p.watch = loop_watch_new(loop, 1000000, POLLIN, pipe_ready, &p);
    ck_assert_int_eq(loop_step(loop, true), 0);
    ck_assert_uint_eq(p.calls, 1);
    ck_assert_int_eq(p.revents, POLLNVAL);
    spin(loop);
    ck_assert_uint_eq(p.calls, 1);
    loop_watch_free(p.watch);
    loop_free(loop);
}
END_TEST

/* Fibers that yield for ever do not starve descriptors. */
static void busy_fiber(void *arg) {
    const Pipe *pipe = arg;

    while (pipe->calls == 0) {
        fiber_yield();
    }
}

START_TEST(test_yielding_does_not_starve) {
    Loop *loop = new_loop(_i);
    Pipe p;

    pipe_open(&p, loop);
    p.watch = loop_watch_new(loop, p.ends[0], POLLIN, pipe_ready, &p);
    ck_assert_int_eq(write(p.ends[1], "x", 1), 1);
    ck_assert_ptr_nonnull(fiber_spawn(busy_fiber, &p, "busy"));
    while (fiber_count() > 0) {
        ck_assert_int_eq(loop_step(loop, true), 0);
    }
    loop_watch_free(p.watch);
    pipe_close(&p);
    loop_free(loop);
}
END_TEST

/* ---- I/O through the ring ---- */

typedef struct FileRead {
    LoopIo io;
    Loop *loop;
    int fd, index;
    off_t offset;
    uint32_t value;
    int result;
    bool completed;
    Fiber *fiber;
} FileRead;

static unsigned reads_completed;

static void read_completed(LoopIo *io, int result) {
    FileRead *read = container_of(io, FileRead, io);

    ck_assert_ptr_null(fiber_self());
    read->result = result;
    read->completed = true;
    reads_completed++;
    if (read->fiber != NULL) {
        fiber_wake(read->fiber);
    }
}

static void start_read(FileRead *read) {
    struct io_uring_sqe *sqe = loop_sqe(read->loop);

    read->io.done = read_completed;
    read->completed = false;
    io_uring_prep_read(sqe, read->index >= 0 ? read->index : read->fd, &read->value,
                       sizeof(read->value), (uint64_t)read->offset);
    if (read->index >= 0) {
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    loop_sqe_attach(read->loop, sqe, &read->io);
}

static void reading_fiber(void *arg) {
    FileRead *read = arg;

    read->fiber = fiber_self();
    for (unsigned round = 0; round < 3; round++) {
        start_read(read);
        ck_assert(!read->completed); /* never before the caller suspends */
        while (!read->completed) {
            fiber_suspend();
        }
        ck_assert_int_eq(read->result, sizeof(read->value));
        ck_assert_uint_eq(read->value, (uint32_t)(read->offset / 4) * 2654435761u);
        read->value = 0;
    }
}

static int numbers_file(void) {
    char name[] = "/tmp/test_fiber.XXXXXX";
    int fd = mkstemp(name);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(unlink(name), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t value = i * 2654435761u;

        ck_assert_int_eq(write(fd, &value, sizeof(value)), sizeof(value));
    }
    return fd;
}

START_TEST(test_ring_reads) {
    static FileRead reads[200];
    Loop *loop = new_loop(ON_RING);
    int fd = numbers_file(), index;

    if (!loop_has_ring(loop)) {
        (void)close(fd);
        loop_free(loop);
        return;
    }
    reads_completed = 0;
    index = loop_register_fd(loop, fd);
    ck_assert_int_ge(index, 0);
    for (unsigned i = 0; i < 200; i++) {
        reads[i] = (FileRead){
            .loop = loop, .fd = fd, .index = i % 2 != 0 ? index : -1, .offset = (off_t)i * 20};
        ck_assert_ptr_nonnull(fiber_spawn(reading_fiber, &reads[i], "reader"));
    }
    while (fiber_count() > 0) {
        ck_assert_int_eq(loop_step(loop, true), 0);
    }
    ck_assert_uint_eq(reads_completed, 600);
    ck_assert_uint_eq(loop_inflight(loop), 0);
    loop_unregister_fd(loop, index);
    (void)close(fd);
    loop_free(loop);
}
END_TEST

/* Many more in flight than either queue holds, none submitted by a turn of the loop. */
START_TEST(test_ring_no_completion_lost) {
    static FileRead reads[5000];
    Loop *loop = new_loop(ON_RING);
    int fd = numbers_file();

    if (loop_has_ring(loop)) {
        reads_completed = 0;
        for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
            reads[i] = (FileRead){.loop = loop, .fd = fd, .index = -1, .offset = i % 1000 * 4};
            start_read(&reads[i]);
            ck_assert_uint_eq(reads_completed, 0);
        }
        ck_assert_uint_eq(loop_inflight(loop), ARRAY_SIZE(reads));
        while (loop_inflight(loop) > 0) {
            ck_assert_int_eq(loop_step(loop, true), 0);
        }
        ck_assert_uint_eq(reads_completed, ARRAY_SIZE(reads));
        for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
            ck_assert_int_eq(reads[i].result, sizeof(uint32_t));
            ck_assert_uint_eq(reads[i].value, i % 1000 * 2654435761u);
        }
    }
    (void)close(fd);
    loop_free(loop);
}
END_TEST

START_TEST(test_ring_errors) {
    Loop *loop = new_loop(ON_RING);

    if (loop_has_ring(loop)) {
        FileRead read = {.loop = loop, .fd = -1, .index = -1};

        start_read(&read);
        while (!read.completed) {
            ck_assert_int_eq(loop_step(loop, true), 0);
        }
        ck_assert_int_eq(read.result, -EBADF);
        read = (FileRead){.loop = loop, .index = 63}; /* an empty slot of the table */
        start_read(&read);
        while (!read.completed) {
            ck_assert_int_eq(loop_step(loop, true), 0);
        }
        ck_assert_int_eq(read.result, -EBADF);
    }
    loop_free(loop);
}
END_TEST

START_TEST(test_register_fd) {
    Loop *loop = new_loop(_i);
    int fd = numbers_file();

    if (loop_has_ring(loop)) {
        int indices[64];

        ck_assert_int_lt(loop_register_fd(loop, -1), 0);
        for (unsigned i = 0; i < 64; i++) {
            indices[i] = loop_register_fd(loop, fd);
            ck_assert_int_ge(indices[i], 0);
        }
        ck_assert_int_eq(loop_register_fd(loop, fd), -ENFILE);
        loop_unregister_fd(loop, indices[17]);
        ck_assert_int_eq(loop_register_fd(loop, fd), indices[17]);
    } else {
        ck_assert_int_eq(loop_register_fd(loop, fd), -EOPNOTSUPP);
    }
    (void)close(fd);
    loop_free(loop);
}
END_TEST

/* ---- helper threads ---- */

static pthread_t main_thread;

typedef struct Work {
    Loop *loop;
    int number;
    bool on_helper;
    int result;
    bool completed;
} Work;

static int work(void *arg) {
    Work *work_item = arg;

    ck_assert_ptr_null(loop_current());
    work_item->on_helper = !pthread_equal(pthread_self(), main_thread);
    return work_item->number * 2;
}

static int work_in_place(void *arg) {
    Work *work_item = arg;

    work_item->on_helper = !pthread_equal(pthread_self(), main_thread);
    return -EIO;
}

static void offloading_fiber(void *arg) {
    Work *item = arg;

    fiber_wake(fiber_self()); /* a stray wake does not end the wait */
    item->result = loop_offload(item->loop, work, item);
    item->completed = true;
}

START_TEST(test_offload_from_fibers) {
    Work items[40];
    Loop *loop = new_loop(_i);

    main_thread = pthread_self();
    for (int i = 0; i < 40; i++) {
        items[i] = (Work){.loop = loop, .number = i};
        ck_assert_ptr_nonnull(fiber_spawn(offloading_fiber, &items[i], "offloading"));
    }
    while (fiber_count() > 0) {
        ck_assert_int_eq(loop_step(loop, true), 0);
    }
    for (int i = 0; i < 40; i++) {
        ck_assert(items[i].completed && items[i].on_helper);
        ck_assert_int_eq(items[i].result, 2 * i);
    }
    /* All done: the helpers' descriptor does not keep the loop waiting. */
    ck_assert_int_eq(loop_step(loop, true), -EDEADLK);
    loop_free(loop);
}
END_TEST

static void work_done(void *arg, int result) {
    Work *item = arg;

    ck_assert_ptr_null(fiber_self());
    ck_assert(pthread_equal(pthread_self(), main_thread));
    item->result = result;
    item->completed = true;
}

START_TEST(test_offload_callback) {
    Work items[10], in_place;
    Loop *loop = new_loop(_i);
    unsigned completed = 0;

    main_thread = pthread_self();
    ck_assert_int_eq(loop_offload_start(loop), 0);
    ck_assert_int_eq(loop_offload_start(loop), 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++) {
            items[i] = (Work){.loop = loop, .number = i + round};
            ck_assert_int_eq(loop_offload_submit(loop, work, &items[i], work_done), 0);
            ck_assert(!items[i].completed);
        }
        for (completed = 0; completed < 10;) {
            ck_assert_int_eq(loop_step(loop, true), 0);
            completed = 0;
            for (int i = 0; i < 10; i++) {
                completed += items[i].completed;
            }
        }
        for (int i = 0; i < 10; i++) {
            ck_assert(items[i].on_helper);
            ck_assert_int_eq(items[i].result, 2 * (i + round));
        }
    }
    in_place = (Work){.loop = loop};
    ck_assert_int_eq(loop_offload(loop, work_in_place, &in_place), -EIO);
    ck_assert(!in_place.on_helper);
    loop_free(loop);
}
END_TEST

/* ---- the refusal of io_uring ---- */

static unsigned notices;

static void count_notices(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)line;
    notices += level == LOG_LEVEL_NOTICE;
}

START_TEST(test_no_uring_in_environment) {
    LoopConfig config = {0};
    Loop *loop = NULL;

    notices = 0;
    log_set_sink(count_notices, NULL);
    ck_assert_int_eq(setenv("BERTH_NO_URING", "1", 1), 0);
    ck_assert_int_eq(loop_new(&config, &loop), 0);
    ck_assert(!loop_has_ring(loop));
    ck_assert_uint_eq(notices, 1);
    loop_free(loop);
    (void)unsetenv("BERTH_NO_URING");
    log_set_sink(NULL, NULL);
}
END_TEST

static void nested_step_timer(void *arg) {
    (void)loop_step(arg, false);
}

static void step_in_callback(void) {
    LoopTimer timer;
    Loop *loop = new_loop(ON_POLL);

    loop_timer_init(&timer, nested_step_timer, loop);
    loop_timer_start(loop, &timer, 0);
    (void)loop_step(loop, true);
}

START_TEST(test_steps_do_not_nest) {
    ck_assert(dies_by(SIGABRT, step_in_callback));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("loop");
    TCase *tcase = tcase_create("loop");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, test_loop_empty, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_timers_order, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_timers_change_in_callback, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_sleep, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_watch, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_watch_toggled, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_watch_free_in_callback, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_watch_bad_fd, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_yielding_does_not_starve, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_register_fd, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_offload_from_fibers, ON_RING, ON_POLL + 1);
    tcase_add_loop_test(tcase, test_offload_callback, ON_RING, ON_POLL + 1);
    tcase_add_test(tcase, test_ring_reads);
    tcase_add_test(tcase, test_ring_no_completion_lost);
    tcase_add_test(tcase, test_ring_errors);
    tcase_add_test(tcase, test_no_uring_in_environment);
    tcase_add_test(tcase, test_steps_do_not_nest);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
