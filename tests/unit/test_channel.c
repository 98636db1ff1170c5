/* SPDX-License-Identifier: MIT */
/*
 * Channels over real sockets: whole messages, descriptors, back-pressure, ends of
 * file, what a hostile peer may try. And the arena: slots, waiting, seals, and the
 * layout that a FUSE read relies on.
 */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "berth/channel.h"

/* Both ends as channels. */
static void make_pair(Channel **ret_a, Channel **ret_b) {
    int fd = -1;

    ck_assert_int_eq(channel_pair(ret_a, &fd), 0);
    ck_assert_int_eq(channel_new(fd, ret_b), 0);
}

static unsigned count_fds(void) {
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

/* ---- messages ---- */

START_TEST(whole_messages) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    char buf[64];

    make_pair(&a, &b);
    ck_assert_int_eq(channel_send(a, "one", 3), 0);
    ck_assert_int_eq(channel_send2(a, "head", 4, "body", 4, true), 0);
    ck_assert_int_eq(channel_send2(a, "only", 4, NULL, 0, false), 0);
    ck_assert_int_eq(channel_receive(b, buf, sizeof(buf)), 3);
    ck_assert_int_eq(channel_receive(b, buf, sizeof(buf)), 8);
    ck_assert_int_eq(memcmp(buf, "headbody", 8), 0);
    ck_assert_int_eq(channel_try_receive(b, buf, sizeof(buf)), 4);
    ck_assert_int_eq(channel_try_receive(b, buf, sizeof(buf)), -EAGAIN);
    ck_assert(fcntl(channel_fd(a), F_GETFD) & FD_CLOEXEC);
    ck_assert(fcntl(channel_fd(b), F_GETFD) & FD_CLOEXEC);
}
END_TEST

START_TEST(truncated_message) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    static char big[FS_MESSAGE_MAX + 1];
    char buf[16];

    make_pair(&a, &b);
    ck_assert_int_eq(channel_send(a, big, 17), 0);
    ck_assert_int_eq(channel_send(a, "next", 4), 0);
    ck_assert_int_eq(channel_receive(b, buf, sizeof(buf)), -EPROTO);
    ck_assert_int_eq(channel_receive(b, buf, sizeof(buf)), 4);
    ck_assert_int_eq(channel_send(a, big, sizeof(big)), -EMSGSIZE);
    ck_assert_int_eq(channel_send2(a, big, 1, big, FS_MESSAGE_MAX, true), -EMSGSIZE);
}
END_TEST

START_TEST(wrong_sockets) {
    Channel *channel = NULL;
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(channel_new(fds[0], &channel), -EPROTOTYPE);
    ck_assert_int_eq(fcntl(fds[0], F_GETFD), -1); /* it took ownership */
    (void)close(fds[1]);
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_lt(channel_new(fds[0], &channel), 0);
    (void)close(fds[1]);
    ck_assert_int_lt(channel_new(-1, &channel), 0);
    ck_assert_ptr_null(channel);
}
END_TEST

START_TEST(back_pressure) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    static char message[FS_REQUEST_HEADER + FS_INLINE_MAX];
    static char buf[FS_MESSAGE_MAX];
    unsigned sent = 0;
    int r;

    make_pair(&a, &b);
    do {
        r = channel_try_send(a, message, sizeof(message));
        sent += r == 0;
    } while (r == 0 && sent < 100000);
    ck_assert_int_eq(r, -EAGAIN);
    ck_assert_msg(geteuid() != 0 || sent >= 256, "only %u messages are queued", sent);
    for (unsigned i = 0; i < sent; i++) {
        ck_assert_int_eq(channel_try_receive(b, buf, sizeof(buf)), (int)sizeof(message));
    }
    ck_assert_int_eq(channel_try_receive(b, buf, sizeof(buf)), -EAGAIN);
    ck_assert_int_eq(channel_try_send(a, message, sizeof(message)), 0);
}
END_TEST

static void *send_many(void *arg) {
    Channel *channel = arg;
    uint32_t numbers[256];

    for (uint32_t i = 0; i < 20000; i++) {
        for (size_t k = 0; k < ARRAY_SIZE(numbers); k++) {
            numbers[k] = i;
        }
        if (channel_send(channel, numbers, sizeof(numbers)) < 0) {
            return NULL;
        }
    }
    return channel;
}

/* More than the queue holds, from two threads: each message arrives whole, each sender's in order.
 */
START_TEST(blocking_senders) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    pthread_t threads[2];
    uint32_t numbers[256];

    make_pair(&a, &b);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, send_many, a), 0);
    }
    for (unsigned i = 0; i < 40000; i++) {
        ck_assert_int_eq(channel_receive(b, numbers, sizeof(numbers)), (int)sizeof(numbers));
        ck_assert_uint_eq(numbers[0], numbers[255]);
    }
    for (unsigned i = 0; i < 2; i++) {
        void *result;

        ck_assert_int_eq(pthread_join(threads[i], &result), 0);
        ck_assert_ptr_nonnull(result);
    }
}
END_TEST

/* ---- ends ---- */

/* A peer that died with our messages unread: what it had sent before is still delivered. */
START_TEST(end_of_file) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    char buf[16];

    make_pair(&a, &b);
    ck_assert_int_eq(channel_send(a, "unread", 6), 0);
    ck_assert_int_eq(channel_send(b, "last", 4), 0);
    b = channel_free(b);
    ck_assert_int_eq(channel_receive(a, buf, sizeof(buf)), 4);
    ck_assert_int_eq(channel_receive(a, buf, sizeof(buf)), 0);
    ck_assert_int_eq(channel_try_receive(a, buf, sizeof(buf)), 0);
    ck_assert_int_eq(channel_send(a, "x", 1), -EPIPE);
    ck_assert_int_eq(channel_try_send(a, "x", 1), -EPIPE);
}
END_TEST

static void *receive_one(void *arg) {
    char buf[16];

    return (void *)(intptr_t)channel_receive(arg, buf, sizeof(buf));
}

START_TEST(shutdown_wakes) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    pthread_t thread;
    void *result = &thread;

    make_pair(&a, &b);
    ck_assert_int_eq(pthread_create(&thread, NULL, receive_one, a), 0);
    channel_shutdown(a);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_null(result);
    ck_assert_int_eq(channel_send(a, "x", 1), -EPIPE);
    ck_assert_int_eq(channel_send(b, "x", 1), -EPIPE);
}
END_TEST

/* ---- descriptors ---- */

START_TEST(descriptors) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    int pipes[2], fds[2] = {-1, -1};
    unsigned count = 99;
    char buf[16];

    make_pair(&a, &b);
    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert_int_eq(channel_send_fds(a, "hi", 2, pipes, 2), 0);
    ck_assert_int_eq(channel_receive_fds(b, buf, sizeof(buf), fds, 2, &count, 1000), 2);
    ck_assert_uint_eq(count, 2);
    ck_assert(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    ck_assert_int_eq(write(fds[1], "z", 1), 1);
    ck_assert_int_eq(read(pipes[0], buf, 1), 1);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(fds[i]);
    }
    ck_assert_int_eq(channel_send_fds(a, "none", 4, NULL, 0), 0);
    ck_assert_int_eq(channel_receive_fds(b, buf, sizeof(buf), fds, 2, &count, -1), 4);
    ck_assert_uint_eq(count, 0);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(pipes[i]);
    }
}
END_TEST

/* One too many, far too many, and some where none was asked for: refused, and nothing leaks. */
START_TEST(descriptors_unasked) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    int many[16], fds[16];
    unsigned count = 99, before;
    char buf[16];

    make_pair(&a, &b);
    before = count_fds();
    for (unsigned i = 0; i < 16; i++) {
        many[i] = 2;
    }
    ck_assert_int_eq(channel_send_fds(a, "hi", 2, many, 4), 0);
    ck_assert_int_eq(channel_receive_fds(b, buf, sizeof(buf), fds, 3, &count, 1000), -EPROTO);
    ck_assert_int_eq(channel_send_fds(a, "hi", 2, many, 16), 0);
    ck_assert_int_eq(channel_receive_fds(b, buf, sizeof(buf), fds, 3, &count, 1000), -EPROTO);
    ck_assert_int_eq(channel_send_fds(a, "hi", 2, many, 16), 0);
    ck_assert_int_eq(channel_receive(b, buf, sizeof(buf)), -EPROTO);
    ck_assert_int_eq(channel_send_fds(a, "hi", 2, many, 1), 0);
    ck_assert_int_eq(channel_try_receive(b, buf, sizeof(buf)), -EPROTO);
    /* A truncated message takes its descriptors with it. */
    ck_assert_int_eq(channel_send_fds(a, "long", 4, many, 2), 0);
    ck_assert_int_eq(channel_receive_fds(b, buf, 3, fds, 3, &count, 1000), -EPROTO);
    ck_assert_uint_eq(count, 99);
    ck_assert_uint_eq(count_fds(), before);
}
END_TEST

/* More than any of our own senders may attach: the kernel's limit is 253. */
START_TEST(descriptors_flood) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(200 * sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)"x", .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    int *numbers = (int *)CMSG_DATA(&control.align), fds[3];
    unsigned count = 99, before;
    char buf[16];

    make_pair(&a, &b);
    before = count_fds();
    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    control.align.cmsg_len = CMSG_LEN(200 * sizeof(int));
    for (unsigned i = 0; i < 200; i++) {
        numbers[i] = 2;
    }
    ck_assert_int_eq(sendmsg(channel_fd(a), &message, 0), 1);
    ck_assert_int_eq(channel_receive_fds(b, buf, sizeof(buf), fds, 3, &count, 1000), -EPROTO);
    ck_assert_uint_eq(count_fds(), before);
}
END_TEST

START_TEST(descriptors_timeout) {
    _cleanup_(channel_freep) Channel *a = NULL, *b = NULL;
    unsigned count = 99;
    char buf[16];
    int fds[3];

    make_pair(&a, &b);
    ck_assert_int_eq(channel_receive_fds(b, buf, sizeof(buf), fds, 3, &count, 0), -ETIMEDOUT);
    ck_assert_int_eq(channel_receive_fds(b, buf, sizeof(buf), fds, 3, &count, 20), -ETIMEDOUT);
    a = channel_free(a);
    ck_assert_int_eq(channel_receive_fds(b, buf, sizeof(buf), fds, 3, &count, 20), 0);
    ck_assert_uint_eq(count, 0);
}
END_TEST

/* ---- arena ---- */

START_TEST(arena_slots) {
    _cleanup_(arena_freep) Arena *arena = NULL;
    ArenaSlot small, large, again;

    ck_assert_int_eq(arena_new("berth-test", 2, 1, 0, false, &arena), 0);
    ck_assert_uint_eq(arena_size(arena), 2 * ARENA_SMALL + FS_IO_MAX);
    ck_assert_int_eq(arena_slot_get(arena, ARENA_SMALL, false, &small), 0);
    ck_assert_int_eq(arena_slot_get(arena, ARENA_SMALL + 1, false, &large), 0);
    ck_assert_uint_eq(small.length, ARENA_SMALL);
    ck_assert_uint_eq(large.length, FS_IO_MAX);
    ck_assert_uint_eq(large.offset, 2 * ARENA_SMALL);
    memset(small.data, 1, small.length);
    memset(large.data, 2, large.length);
    ck_assert_int_eq(arena_slot_get(arena, FS_IO_MAX, false, &again), -EAGAIN);
    ck_assert_int_eq(arena_slot_get(arena, FS_IO_MAX + 1, false, &again), -EMSGSIZE);
    /* The last one given back comes first. */
    arena_slot_put(arena, &small);
    ck_assert_int_eq(arena_slot_get(arena, 1, false, &again), 0);
    ck_assert_uint_eq(again.index, small.index);
    /* Small requests leave the large slots alone. */
    arena_slot_put(arena, &large);
    ck_assert_int_eq(arena_slot_get(arena, 1, false, &small), 0);
    ck_assert_uint_ne(again.index, small.index);
    ck_assert_int_eq(arena_slot_get(arena, 1, false, &small), -EAGAIN);
    arena_shutdown(arena);
    ck_assert_int_eq(arena_slot_get(arena, 1, true, &small), -ESHUTDOWN);
    ck_assert_int_eq(arena_slot_get(arena, FS_IO_MAX, false, &small), -ESHUTDOWN);
}
END_TEST

START_TEST(arena_arguments) {
    Arena *arena = NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ArenaSlot slot;

    ck_assert_int_eq(arena_new("berth-test", 0, 0, 0, false, &arena), -EINVAL);
    ck_assert_int_eq(arena_new("berth-test", 1, 1, page + 1, false, &arena), -EINVAL);
    ck_assert_ptr_null(arena);
    /* Without small slots a large one serves; without large ones only small requests are. */
    ck_assert_int_eq(arena_new("berth-test", 0, 1, page, false, &arena), 0);
    ck_assert_int_eq(arena_slot_get(arena, 1, false, &slot), 0);
    ck_assert_uint_eq(slot.length, FS_IO_MAX);
    arena = arena_free(arena);
    ck_assert_int_eq(arena_new("berth-test", 1, 0, 0, false, &arena), 0);
    ck_assert_int_eq(arena_slot_get(arena, ARENA_SMALL + 1, true, &slot), -EMSGSIZE);
    arena = arena_free(arena);
}
END_TEST

/* A slot's memory exists from its first use on, as much as was asked for, and not before. */
START_TEST(arena_allocation) {
    _cleanup_(arena_freep) Arena *arena = NULL;
    ArenaSlot slot;
    struct stat st;

    ck_assert_int_eq(arena_new("berth-test", 1, 2, 80, true, &arena), 0);
    ck_assert_int_eq(fstat(arena_fd(arena), &st), 0);
    ck_assert_int_eq(st.st_blocks, 0);
    ck_assert_int_eq(arena_slot_get(arena, ARENA_SMALL + 1, false, &slot), 0);
    ck_assert_uint_eq(slot.length, FS_IO_MAX);
    ck_assert_int_eq(fstat(arena_fd(arena), &st), 0);
    ck_assert_int_ge(st.st_blocks, (ARENA_SMALL + 4096) / 512);
    ck_assert_int_lt(st.st_blocks, 2 * ARENA_SMALL / 512);
    arena_slot_put(arena, &slot);
    ck_assert_int_eq(arena_slot_get(arena, FS_IO_MAX, false, &slot), 0);
    ck_assert_int_eq(fstat(arena_fd(arena), &st), 0);
    ck_assert_int_eq(st.st_blocks, FS_IO_MAX / 512);
}
END_TEST

typedef struct Contest {
    Arena *arena;
    int result;
    bool wrong; /* another holder's bytes were seen in a slot of ours */
} Contest;

static void *contend(void *arg) {
    Contest *contest = arg;

    for (unsigned i = 0; i < 2000; i++) {
        ArenaSlot slot;

        contest->result = arena_slot_get(contest->arena, 100, true, &slot);
        if (contest->result < 0) {
            return NULL;
        }
        memcpy(slot.data, &arg, sizeof(arg));
        (void)sched_yield();
        contest->wrong |= memcmp(slot.data, &arg, sizeof(arg)) != 0;
        arena_slot_put(contest->arena, &slot);
    }
    return NULL;
}

START_TEST(arena_contention) {
    _cleanup_(arena_freep) Arena *arena = NULL;
    pthread_t threads[6];
    Contest contests[6];

    ck_assert_int_eq(arena_new("berth-test", 2, 1, 0, false, &arena), 0);
    for (unsigned i = 0; i < 6; i++) {
        contests[i] = (Contest){.arena = arena};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, contend, &contests[i]), 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert_int_eq(contests[i].result, 0);
        ck_assert(!contests[i].wrong);
    }
}
END_TEST

static void *wait_large(void *arg) {
    Contest *contest = arg;
    ArenaSlot slot;

    contest->result = arena_slot_get(contest->arena, FS_IO_MAX, true, &slot);
    return NULL;
}

START_TEST(arena_shutdown_wakes) {
    _cleanup_(arena_freep) Arena *arena = NULL;
    pthread_t threads[3];
    Contest contests[3];
    ArenaSlot slot;

    ck_assert_int_eq(arena_new("berth-test", 1, 1, 0, false, &arena), 0);
    ck_assert_int_eq(arena_slot_get(arena, FS_IO_MAX, true, &slot), 0);
    for (unsigned i = 0; i < 3; i++) {
        contests[i] = (Contest){.arena = arena, .result = 1};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_large, &contests[i]), 0);
    }
    arena_shutdown(arena);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert_int_eq(contests[i].result, -ESHUTDOWN);
    }
    arena_slot_put(arena, &slot); /* still legal afterwards */
}
END_TEST

/* One read puts 80 bytes into private memory and the rest into the file. */
START_TEST(arena_head_room) {
    _cleanup_(arena_freep) Arena *arena = NULL;
    ArenaMap map = {0};
    ArenaSlot slots[2];
    static uint8_t bytes[80 + 4096];
    int pipes[2];

    ck_assert_int_eq(arena_new("berth-test", 1, 2, 80, true, &arena), 0);
    ck_assert_int_eq(arena_map(arena_fd(arena), arena_size(arena), false, &map), 0);
    ck_assert_int_eq(pipe(pipes), 0);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *shared;

        ck_assert_int_eq(arena_slot_get(arena, FS_IO_MAX, false, &slots[i]), 0);
        ck_assert_uint_eq((uintptr_t)slots[i].data % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
        memset(bytes, 'H' + (int)i, 80);
        memset(bytes + 80, 'P' + (int)i, 4096);
        ck_assert_int_eq(write(pipes[1], bytes, sizeof(bytes)), (int)sizeof(bytes));
        ck_assert_int_eq(read(pipes[0], slots[i].data - 80, 80 + FS_IO_MAX), (int)sizeof(bytes));
        ck_assert_int_eq(memcmp(slots[i].data - 80, bytes, sizeof(bytes)), 0);
        shared = arena_at(&map, slots[i].offset, FS_IO_MAX);
        ck_assert_ptr_nonnull(shared);
        ck_assert_int_eq(memcmp(shared, bytes + 80, 4096), 0);
        /* The header is nowhere in what the other side can see. */
        ck_assert_ptr_null(memmem(map.base, (size_t)map.size, bytes, 80));
    }
    ck_assert(slots[0].data[-1] == 'H' && slots[1].data[-1] == 'I');
    /* Behind the slot there is nothing. */
    ck_assert_int_eq(write(pipes[1], bytes, sizeof(bytes)), (int)sizeof(bytes));
    ck_assert_int_eq(read(pipes[0], slots[0].data + FS_IO_MAX, 1), -1);
    ck_assert_int_eq(errno, EFAULT);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    arena_unmap(&map);
}
END_TEST

static void assert_not_writable(int fd, size_t size) {
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    ck_assert_ptr_eq(base, MAP_FAILED);
    ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1);
    ck_assert_int_ne(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(base, MAP_FAILED);
    ck_assert_int_ne(mprotect(base, size, PROT_READ | PROT_WRITE), 0);
    (void)munmap(base, size);
}

START_TEST(arena_readonly) {
    _cleanup_(arena_freep) Arena *arena = NULL;
    ArenaMap map = {0};
    ArenaSlot slot;
    char path[64];
    int fd;

    ck_assert_int_eq(arena_new("berth-test", 1, 1, 0, true, &arena), 0);
    assert_not_writable(arena_fd(arena), (size_t)arena_size(arena));
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", arena_fd(arena));
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        assert_not_writable(fd, (size_t)arena_size(arena));
        (void)close(fd);
    }
    ck_assert_int_lt(arena_map(arena_fd(arena), arena_size(arena), true, &map), 0);
    ck_assert_int_eq(arena_map(arena_fd(arena), arena_size(arena), false, &map), 0);
    /* Ours stays writable, and theirs sees it. */
    ck_assert_int_eq(arena_slot_get(arena, 8, false, &slot), 0);
    memcpy(slot.data, "visible", 8);
    ck_assert_str_eq(arena_at(&map, slot.offset, 8), "visible");
    arena_unmap(&map);
    ck_assert_ptr_null(map.base);
}
END_TEST

START_TEST(arena_sealed) {
    _cleanup_(arena_freep) Arena *arena = NULL;
    ArenaMap map = {0};
    ArenaSlot slot;
    int fd;

    ck_assert_int_eq(arena_new("berth-test", 1, 1, 0, false, &arena), 0);
    fd = arena_fd(arena);
    ck_assert_int_ne(ftruncate(fd, 0), 0);
    ck_assert_int_ne(ftruncate(fd, (off_t)arena_size(arena) * 2), 0);
    ck_assert_int_ne(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    ck_assert_int_eq(arena_map(fd, arena_size(arena), true, &map), 0);
    ck_assert_int_eq(arena_slot_get(arena, FS_IO_MAX, false, &slot), 0);
    memcpy(arena_at(&map, slot.offset, 8), "answer!", 8);
    ck_assert_str_eq((char *)slot.data, "answer!");
    arena_unmap(&map);
}
END_TEST

/* What a hostile front-end might hand over. */
START_TEST(arena_map_refuses) {
    _cleanup_close_ int fd = memfd_create("berth-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ArenaMap map = {0};

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 65536), 0);
    ck_assert_int_eq(arena_map(fd, 65536, true, &map), -EPROTO);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    ck_assert_int_eq(arena_map(fd, 65536, true, &map), -EPROTO);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    ck_assert_int_eq(arena_map(fd, 65536 * 2, true, &map), -EPROTO);
    ck_assert_int_eq(arena_map(fd, 0, true, &map), -EINVAL);
    ck_assert_int_eq(arena_map(fd, 100, true, &map), -EINVAL);
    ck_assert_int_eq(arena_map(STDERR_FILENO, 65536, true, &map), -EPROTO);
    ck_assert_int_lt(arena_map(-1, 65536, true, &map), 0);
    ck_assert_ptr_null(arena_at(&map, 0, 0));
    ck_assert_int_eq(arena_map(fd, 65536, true, &map), 0);
    ck_assert_ptr_eq(arena_at(&map, 0, 65536), map.base);
    ck_assert_ptr_nonnull(arena_at(&map, 65536, 0));
    ck_assert_ptr_null(arena_at(&map, 65536, 1));
    ck_assert_ptr_null(arena_at(&map, 1, 65536));
    ck_assert_ptr_null(arena_at(&map, UINT64_MAX, 2));
    ck_assert_ptr_null(arena_at(&map, 2, UINT64_MAX));
    arena_unmap(&map);
}
END_TEST

/* HELLO with its descriptors between two processes. */
START_TEST(hello_across_processes) {
    _cleanup_(channel_freep) Channel *channel = NULL;
    _cleanup_(arena_freep) Arena *out = NULL, *in = NULL;
    uint8_t buf[HELLO_SIZE];
    ArenaSlot slot;
    Hello hello = {.version = FS_PROTOCOL_VERSION, .slots = 8, .type = "fat"}, answer;
    int peer = -1, status, fds[HELLO_FD_COUNT];
    pid_t child;

    ck_assert_int_eq(channel_pair(&channel, &peer), 0);
    ck_assert_int_eq(arena_new("out", 1, 1, 80, true, &out), 0);
    ck_assert_int_eq(arena_new("in", 1, 1, 0, false, &in), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        Channel *theirs = NULL;
        Hello got = {0};
        ArenaMap map = {0};
        unsigned count = 0;

        channel = channel_free(channel);
        if (channel_new(peer, &theirs) < 0 ||
            channel_receive_fds(theirs, buf, sizeof(buf), fds, HELLO_FD_COUNT, &count, 5000) !=
                (int)sizeof(buf) ||
            count != HELLO_FD_COUNT || hello_decode(buf, sizeof(buf), &got, NULL) < 0 ||
            arena_map(fds[HELLO_FD_ARENA_IN], got.arena_in_size, true, &map) < 0) {
            _exit(1);
        }
        memcpy(map.base, "from child", 11);
        got.result = -ENODEV;
        hello_encode(&got, buf);
        _exit(channel_send(theirs, buf, sizeof(buf)) == 0 ? 0 : 2);
    }
    (void)close(peer);
    hello.arena_out_size = arena_size(out);
    hello.arena_in_size = arena_size(in);
    hello_encode(&hello, buf);
    fds[HELLO_FD_IMAGE] = STDIN_FILENO;
    fds[HELLO_FD_ARENA_OUT] = arena_fd(out);
    fds[HELLO_FD_ARENA_IN] = arena_fd(in);
    fds[HELLO_FD_LIFELINE] = fds[HELLO_FD_FENCE] = STDIN_FILENO;
    ck_assert_int_eq(channel_send_fds(channel, buf, sizeof(buf), fds, HELLO_FD_COUNT), 0);
    ck_assert_int_eq(channel_receive(channel, buf, sizeof(buf)), HELLO_SIZE);
    ck_assert_int_eq(hello_decode(buf, sizeof(buf), &answer, NULL), 0);
    ck_assert_int_eq(answer.result, -ENODEV);
    ck_assert_int_eq(arena_slot_get(in, 1, false, &slot), 0);
    ck_assert_str_eq((char *)slot.data, "from child");
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(channel_receive(channel, buf, sizeof(buf)), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("channel");
    TCase *c = tcase_create("all");
    SRunner *runner;
    int failed;

    tcase_set_timeout(c, 60);
    tcase_add_test(c, whole_messages);
    tcase_add_test(c, truncated_message);
    tcase_add_test(c, wrong_sockets);
    tcase_add_test(c, back_pressure);
    tcase_add_test(c, blocking_senders);
    tcase_add_test(c, end_of_file);
    tcase_add_test(c, shutdown_wakes);
    tcase_add_test(c, descriptors);
    tcase_add_test(c, descriptors_unasked);
    tcase_add_test(c, descriptors_flood);
    tcase_add_test(c, descriptors_timeout);
    tcase_add_test(c, arena_slots);
    tcase_add_test(c, arena_arguments);
    tcase_add_test(c, arena_allocation);
    tcase_add_test(c, arena_contention);
    tcase_add_test(c, arena_shutdown_wakes);
    tcase_add_test(c, arena_head_room);
    tcase_add_test(c, arena_readonly);
    tcase_add_test(c, arena_sealed);
    tcase_add_test(c, arena_map_refuses);
    tcase_add_test(c, hello_across_processes);
    suite_add_tcase(suite, c);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
