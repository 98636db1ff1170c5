/* SPDX-License-Identifier: MIT */
/*
 * The loop's wait on io_uring.
 *
 * Every SQE carries a LoopIo, or nothing where the result does not matter. CQEs
 * are first collected into the loop's done list (linked through the LoopIos, so
 * there is always room) and delivered after that: loop_sqe() can make room in
 * a full completion queue without calling anybody back. Should the queue
 * overflow nevertheless, the kernel keeps the rest (IORING_FEAT_NODROP is
 * required) and hands it over at the next enter: no completion can be lost.
 *
 * Watches are one-shot poll requests, armed again after each callback, which
 * makes them level-triggered. Changes to watches are applied just before the
 * next submission; pausing and resuming in one turn costs nothing.
 *
 * A sandboxed ring lives under IORING_RESTRICTION_SQE_FLAGS_REQUIRED =
 * IOSQE_FIXED_FILE (loop_ring_open). So polls use the fixed file of a registered descriptor,
 * removals carry the flag (they use no file), and the time limit of a wait is
 * an argument of io_uring_enter (IORING_FEAT_EXT_ARG), not a TIMEOUT request.
 */
#include "loop_internal.h"

#include "berth/log.h"
#include "fiber_internal.h"
#include "sanitizer.h"

#include <assert.h>
#include <limits.h>
#include <sys/syscall.h>
#include <time.h>

static const unsigned setup_flags[] = {
    /* Linux 6.1: completions are processed when we ask, not by interrupting us. */
    IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL |
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_DEFER_TASKRUN,
    /* 5.19 */
    IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
};

static int register_table(Loop *loop) {
    int r = io_uring_register_files_sparse(&loop->ring, LOOP_FIXED_FILES);

    if (r == -EINVAL) { /* before 5.19: a table of -1 says the same */
        r = io_uring_register_files(&loop->ring, loop->fixed_fds, LOOP_FIXED_FILES);
    }
    return r;
}

int loop_ring_init(Loop *loop, unsigned entries, bool closed) {
    const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
    /* submit_and_poll() needs completions that are posted without being asked for. */
    size_t i = fiber_on_valgrind() ? ARRAY_SIZE(setup_flags) - 1 : 0;
    int r = -EINVAL;

    for (; i < ARRAY_SIZE(setup_flags) && r == -EINVAL; i++) {
        struct io_uring_params params = {.flags = setup_flags[i], .cq_entries = entries * 4};

        if (closed) {
            params.flags |= IORING_SETUP_R_DISABLED;
        }
        r = io_uring_queue_init_params(entries, &loop->ring, &params);
    }
    if (r < 0) {
        return r;
    }
    r = (loop->ring.features & needed) == needed ? register_table(loop) : -ENOSYS;
    if (r < 0) {
        io_uring_queue_exit(&loop->ring);
        return r;
    }
    return 0;
}

void loop_ring_done(Loop *loop) {
    io_uring_queue_exit(&loop->ring);
}

/* What devices and watches submit, and what ends that. */
static const uint8_t allowed_opcodes[] = {
    IORING_OP_NOP,          IORING_OP_READ,    IORING_OP_READV,       IORING_OP_WRITE,
    IORING_OP_WRITEV,       IORING_OP_FSYNC,   IORING_OP_FALLOCATE,   IORING_OP_POLL_ADD,
    IORING_OP_ASYNC_CANCEL, IORING_OP_TIMEOUT, IORING_OP_POLL_REMOVE,
};

static int register_call(const Loop *loop, unsigned opcode, const void *arg, size_t count) {
    /* By hand: the shared library of liburing 2.3 does not export these two. */
    return syscall(SYS_io_uring_register, loop->ring.ring_fd, opcode, arg, count) < 0 ? -errno : 0;
}

int loop_ring_open(Loop *loop) {
    enum { OTHER_RULES = 3 };
    struct io_uring_restriction rules[ARRAY_SIZE(allowed_opcodes) + OTHER_RULES] = {
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
         .sqe_flags = IOSQE_FIXED_FILE | IOSQE_ASYNC},
        /* To let go of a file before the end: a ring is taken down some time after its process,
         * and the image's lock would last until then. What is in the table was ours before. */
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES_UPDATE},
    };
    int r, r2;

    assert(loop->has_ring);
    for (size_t i = 0; i < ARRAY_SIZE(allowed_opcodes); i++) {
        rules[OTHER_RULES + i] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP,
                                                               .sqe_op = allowed_opcodes[i]};
    }
    r = register_call(loop, IORING_REGISTER_RESTRICTIONS, rules, ARRAY_SIZE(rules));
    r2 = register_call(loop, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    return r < 0 ? r : r2;
}

int loop_register_fd(Loop *loop, int fd) {
    if (!loop->has_ring) {
        return -EOPNOTSUPP;
    }
    if (fd < 0) {
        return -EBADF; /* to the kernel, -1 means an empty slot */
    }
    for (unsigned i = 0; i < LOOP_FIXED_FILES; i++) {
        if (loop->fixed_fds[i] < 0) {
            int r = io_uring_register_files_update(&loop->ring, i, &fd, 1);

            if (r < 0) {
                return r;
            }
            loop->fixed_fds[i] = fd;
            return (int)i;
        }
    }
    return -ENFILE;
}

/* No descriptor's number: whatever gets the number of a kept file is another one. */
#define KEPT_FILE INT_MAX

int loop_keep_file(Loop *loop, int fd) {
    int index = loop_register_fd(loop, fd);

    if (index < 0) {
        return index;
    }
    loop->fixed_fds[index] = KEPT_FILE;
    return 0;
}

void loop_unregister_fd(Loop *loop, int index) {
    const int none = -1;

    assert(loop->has_ring && index >= 0 && index < LOOP_FIXED_FILES && loop->fixed_fds[index] >= 0);
    /* If refused, the table keeps the file until the end. */
    if (io_uring_register_files_update(&loop->ring, (unsigned)index, &none, 1) >= 0) {
        loop->fixed_fds[index] = -1;
    }
}

static int fixed_index(const Loop *loop, int fd) {
    for (int i = 0; i < LOOP_FIXED_FILES; i++) {
        if (loop->fixed_fds[i] == fd) {
            return i;
        }
    }
    return -1;
}

/* Bits the kernel sets when an enter would bring completions that the queue does not show. */
static bool kernel_holds_completions(const Loop *loop) {
    return (IO_URING_READ_ONCE(*loop->ring.sq.kflags) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* Moves what the completion queue shows to the done list. */
static void reap(Loop *loop) {
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;

    io_uring_for_each_cqe(&loop->ring, head, cqe) {
        LoopIo *io = io_uring_cqe_get_data(cqe);

        if (io != NULL) {
            io->result = cqe->res;
            io->next = NULL;
            *loop->done_last = io;
            loop->done_last = &io->next;
        }
        count++;
    }
    io_uring_cq_advance(&loop->ring, count);
}

static void deliver(Loop *loop) {
    LoopIo *io = loop->done_first;

    /* Only what is there now: callbacks may reap more, which waits for the next turn. */
    loop->done_first = NULL;
    loop->done_last = &loop->done_first;
    while (io != NULL) {
        LoopIo *next = io->next; /* done() may free or reuse io */

        loop->inflight--;
        io->done(io, io->result);
        io = next;
    }
}

/* The kernel is short of memory for a moment, or its overflow list is full. */
static bool is_transient(int error) {
    return error == -EAGAIN || error == -EBUSY || error == -EINTR || error == -ETIME;
}

static void breathe(void) {
    const struct timespec moment = {.tv_nsec = 1000000};

    (void)nanosleep(&moment, NULL);
}

struct io_uring_sqe *loop_sqe(Loop *loop) {
    struct io_uring_sqe *sqe;

    assert(loop->has_ring);
    while ((sqe = io_uring_get_sqe(&loop->ring)) == NULL) {
        int r = io_uring_submit(&loop->ring);

        if (r > 0) {
            continue;
        }
        if (r < 0 && !is_transient(r)) {
            log_error("io_uring refuses submissions: %s", strerror(-r));
            abort();
        }
        (void)io_uring_get_events(&loop->ring);
        reap(loop);
        breathe();
    }
    memset(sqe, 0, sizeof(*sqe));
    return sqe;
}

void loop_sqe_attach(Loop *loop, struct io_uring_sqe *sqe, LoopIo *io) {
    assert(io->done != NULL);
    io_uring_sqe_set_data(sqe, io);
    loop->inflight++;
}

unsigned loop_inflight(const Loop *loop) {
    return loop->inflight - loop->polls_armed;
}

void loop_ring_watch_changed(LoopWatch *watch) {
    if (!list_linked(&watch->dirty_node)) {
        list_append(&watch->loop->dirty, &watch->dirty_node);
    }
}

static void poll_completed(LoopIo *io, int result) {
    LoopWatch *watch = container_of(io, LoopWatch, io);
    short wanted = (short)(watch->events | POLLERR | POLLHUP | POLLNVAL);
    short revents = 0;

    watch->armed = watch->cancelled = false;
    watch->loop->polls_armed--;
    loop_ring_watch_changed(watch); /* armed again, or freed, before the next submission */
    if (watch->dead || watch->events == 0) {
        return;
    }
    if (result >= 0) {
        revents = (short)(result & wanted);
    } else if (result != -ECANCELED) {
        /* As poll(2) says it of a bad descriptor; paused, for it would not get better. */
        watch->events = 0;
        revents = POLLNVAL;
        if (result == -EACCES) {
            log_error("descriptor %d was not registered before the ring was restricted", watch->fd);
        }
    }
    if (revents != 0) {
        watch->fn(watch->arg, revents);
    }
}

static void arm(Loop *loop, LoopWatch *watch) {
    struct io_uring_sqe *sqe = loop_sqe(loop);
    int index = fixed_index(loop, watch->fd);

    io_uring_prep_poll_add(sqe, index >= 0 ? index : watch->fd, (unsigned short)watch->events);
    if (index >= 0) {
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    watch->io.done = poll_completed;
    loop_sqe_attach(loop, sqe, &watch->io);
    watch->armed = true;
    watch->armed_events = watch->events;
    loop->polls_armed++;
}

static void disarm(Loop *loop, LoopWatch *watch) {
    struct io_uring_sqe *sqe = loop_sqe(loop);

    io_uring_prep_poll_remove(sqe, (uintptr_t)&watch->io);
    sqe->flags |= IOSQE_FIXED_FILE;
    watch->cancelled = true;
}

/* Brings the kernel's polls in line with the watches. */
static void apply_watches(Loop *loop) {
    ListNode *node;

    while ((node = list_first(&loop->dirty)) != NULL) {
        LoopWatch *watch = container_of(node, LoopWatch, dirty_node);
        bool obsolete = watch->dead || watch->events != watch->armed_events;

        list_remove(node);
        if (watch->armed) {
            if (obsolete && !watch->cancelled) {
                disarm(loop, watch);
            }
        } else if (watch->dead) {
            list_remove(&watch->node);
            free(watch);
        } else if (watch->events != 0) {
            arm(loop, watch);
        }
    }
}

/*
 * For valgrind: it takes io_uring_enter for a call that does not block and runs no
 * other thread meanwhile, so a wait for a helper thread would never end.
 */
static int submit_and_poll(Loop *loop, const struct timespec *limit) {
    struct pollfd ready = {.fd = loop->ring.ring_fd, .events = POLLIN};
    int r = io_uring_submit(&loop->ring);

    if (r < 0) {
        return r;
    }
    if (ppoll(&ready, 1, limit, NULL) < 0) {
        return -errno;
    }
    return io_uring_get_events(&loop->ring);
}

static int submit_and_wait(Loop *loop) {
    struct __kernel_timespec limit;
    struct io_uring_cqe *cqe;
    struct timespec left;
    bool limited = loop_timers_timeout(loop, &left);

    if (fiber_on_valgrind()) {
        return submit_and_poll(loop, limited ? &left : NULL);
    }
    if (!limited) {
        return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, NULL, NULL);
    }
    limit.tv_sec = left.tv_sec;
    limit.tv_nsec = left.tv_nsec;
    return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &limit, NULL);
}

int loop_ring_turn(Loop *loop, bool wait) {
    int r = 0;

    apply_watches(loop);
    if (wait && loop->done_first == NULL) {
        r = submit_and_wait(loop);
    } else if (io_uring_sq_ready(&loop->ring) > 0 || kernel_holds_completions(loop)) {
        r = io_uring_submit_and_get_events(&loop->ring);
    }
    if (r < 0 && !is_transient(r)) {
        return r;
    }
    if (r == -EAGAIN || r == -EBUSY) {
        breathe();
    }
    reap(loop);
    deliver(loop);
    return 0;
}
