/* SPDX-License-Identifier: MIT */
/*
 * Daemons that replace each other, over real channels: the fence, the spare that waits for
 * MOUNT, requests sent again, FREEZE, and an end without the front-end. (What a
 * takeover does to files: test_recover_fat.c.)
 */
#include "fat_support.h"
#include "serve_peer.h"
#include <liburing.h>
#include <poll.h>
#include <signal.h>

static int image_fd, lifeline;
static Peer first, second;

static void setup(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    image_make(8192, "-F 16 -s 1");
    image_fd = open(image_path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(image_fd, 0);
    ck_assert_int_eq(lifeline_memory_new(0, PEER_SLOTS, &lifeline), 0);
}

static void teardown(void) {
    (void)close(image_fd);
    (void)close(lifeline);
    support_done();
}

static void start(Peer *peer) {
    ck_assert_int_eq(peer_start_on(peer, "fat", image_fd, lifeline), 0);
}

/* A request that may be sent again. */
static FSRequest numbered(unsigned slot, uint64_t seq, FSRequest request) {
    request.request_id = fs_request_id((uint16_t)slot, seq);
    request.time_ns = TIME_NS;
    return request;
}

static int exchange(Peer *peer, FSRequest request) {
    peer_send(peer, &request);
    if (peer_receive(peer) < 0) {
        return -EPIPE;
    }
    ck_assert_uint_eq(peer->response.request_id, request.request_id);
    return peer->response.result;
}

static FSRequest create_request(unsigned slot, uint64_t seq, const char *name) {
    return numbered(slot, seq,
                    (FSRequest){.type = FS_MSG_CREATE_FILE,
                                .file_id = FS_ROOT_ID,
                                .name = name_of(name),
                                .file_type = FS_TYPE_FILE,
                                .mode = 0644});
}

static int mount_on(Peer *peer, bool recover, uint64_t last) {
    return exchange(peer, numbered(PEER_SLOTS - 1, peer->seq += 100,
                                   (FSRequest){.type = FS_MSG_MOUNT,
                                               .flags = recover ? FS_REQ_RECOVER : 0,
                                               .offset = last}));
}

static int simple(Peer *peer, FSMessageType type) {
    return exchange(peer,
                    numbered(PEER_SLOTS - 2, ++peer->seq, (FSRequest){.type = (uint16_t)type}));
}

static bool fence_has_ended(const Peer *peer, int timeout_ms) {
    struct pollfd fence = {.fd = peer->fence, .events = POLLIN};

    return poll(&fence, 1, timeout_ms) > 0 && (fence.revents & POLLHUP);
}

static void kill_peer(Peer *peer) {
    int status;

    ck_assert_int_eq(kill(peer->pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(peer->pid, &status, 0), peer->pid);
    peer->channel = channel_free(peer->channel);
    peer->written = arena_free(peer->written);
    peer->read = arena_free(peer->read);
    (void)close(peer->image);
    (void)close(peer->lifeline);
}

static void check_image(const char *what) {
    image_load();
    check_clean(what);
}

/* ---- the fence ---- */

/* Does the process have a descriptor of this pipe? */
static bool holds_pipe(pid_t pid, int fd) {
    char path[64], ours[64], theirs[64];
    ssize_t length;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    length = readlink(path, ours, sizeof(ours) - 1);
    ck_assert_int_gt(length, 0);
    ours[length] = '\0';
    for (int other = 0; other < 100; other++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, other);
        length = readlink(path, theirs, sizeof(theirs) - 1);
        theirs[MAX(length, 0)] = '\0';
        if (length > 0 && strcmp(ours, theirs) == 0) {
            return true;
        }
    }
    return false;
}

/* It ends when the daemon is dead, not before; with a ring only the ring has it. */
START_TEST(fence) {
    struct io_uring probe;
    bool ring = _i == 0 && io_uring_queue_init(1, &probe, 0) == 0;

    if (ring) {
        io_uring_queue_exit(&probe);
        unsetenv("BERTH_NO_URING");
    } else {
        setenv("BERTH_NO_URING", "1", 1);
    }
    start(&first);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    ck_assert_int_eq(holds_pipe(first.pid, first.fence), !ring);
    ck_assert_int_eq(exchange(&first, create_request(0, 1, "file")), 0);
    ck_assert_int_eq(simple(&first, FS_MSG_SYNC), 0);
    ck_assert(!fence_has_ended(&first, 50));
    kill_peer(&first);
    ck_assert_msg(fence_has_ended(&first, 20000), "the fence never ends");
    (void)close(first.fence);
    unsetenv("BERTH_NO_URING");
}
END_TEST

static uint64_t image_sum(void) {
    uint64_t sum = 0;

    image_load();
    for (uint64_t i = 0; i < image_size; i++) {
        sum = sum * 1099511628211u + image[i];
    }
    return sum;
}

/* Killed with writes under way: when the fence has ended, nothing is written any more. */
START_TEST(fence_ends_after_the_writes) {
    ArenaSlot slots[2];
    uint64_t file, sum;

    start(&first);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    ck_assert_int_eq(exchange(&first, create_request(0, 1, "file")), 0);
    file = first.response.attr.file_id;
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(arena_slot_get(first.written, FS_IO_MAX, false, &slots[i]), 0);
        memset(slots[i].data, (int)(0x41 + i), FS_IO_MAX);
    }
    for (unsigned i = 0; i < 30; i++) {
        const FSRequest request = numbered(1 + i, 1,
                                           (FSRequest){.type = FS_MSG_WRITE_FILE,
                                                       .flags = FS_REQ_ARENA,
                                                       .file_id = file,
                                                       .offset = (uint64_t)(i % 5) * FS_IO_MAX,
                                                       .length = FS_IO_MAX,
                                                       .arena_offset = slots[i % 2].offset,
                                                       .arena_length = slots[i % 2].length});
        peer_send(&first, &request);
    }
    ck_assert_int_eq(peer_receive(&first), 0);
    kill_peer(&first);
    ck_assert(fence_has_ended(&first, 20000));
    sum = image_sum();
    ck_assert_int_eq(poll(NULL, 0, 200), 0);
    ck_assert_uint_eq(image_sum(), sum);
    (void)close(first.fence);
}
END_TEST

/* A device write that seems to be under way still: all of the volume. */
static void leave_a_write(void) {
    _cleanup_(lifeline_freep) Lifeline *mine = NULL;
    BlockInflight *writes;
    unsigned count;

    ck_assert_int_eq(lifeline_open(lifeline, PEER_SLOTS, &mine), 0);
    writes = lifeline_inflight(mine, &count);
    writes[count - 1] = (BlockInflight){.offset = 0, .length = image_size};
}

static FSRequest write_request(unsigned slot, uint64_t seq, uint64_t file) {
    static const uint8_t bytes[1000] = {1, 2, 3};

    return numbered(slot, seq,
                    (FSRequest){.type = FS_MSG_WRITE_FILE,
                                .file_id = file,
                                .length = sizeof(bytes),
                                .payload = bytes,
                                .payload_length = sizeof(bytes)});
}

static bool answers(const Peer *peer, int timeout_ms) {
    struct pollfd channel = {.fd = channel_fd(peer->channel), .events = POLLIN};

    return poll(&channel, 1, timeout_ms) > 0;
}

/* What would touch the place of a late write waits for FENCE, everything else does not. */
START_TEST(late_writes_are_waited_for) {
    FSRequest waiting[2];
    uint64_t file;

    start(&first);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    ck_assert_int_eq(exchange(&first, create_request(0, 1, "file")), 0);
    file = first.response.attr.file_id;
    kill_peer(&first);
    leave_a_write();
    start(&second);
    ck_assert_int_eq(mount_on(&second, true, first.response.number), 0);
    waiting[0] = numbered(1, 1, (FSRequest){.type = FS_MSG_SYNC});
    waiting[1] = write_request(2, 1, file);
    peer_send(&second, &waiting[0]);
    peer_send(&second, &waiting[1]);
    ck_assert(!answers(&second, 100));
    ck_assert_int_eq(exchange(&second, create_request(3, 1, "other")), 0);
    ck_assert_int_eq(
        exchange(
            &second,
            numbered(3, 2, (FSRequest){.type = FS_MSG_READ_FILE, .file_id = file, .length = 100})),
        0);
    ck_assert(!answers(&second, 100));
    peer_send(&second, &(FSRequest){.type = FS_MSG_FENCE, .request_id = fs_request_id(4, 1)});
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(peer_receive(&second), 0);
        ck_assert_int_ge(second.response.result, 0);
    }
    ck_assert_int_eq(simple(&second, FS_MSG_SHUTDOWN), 0);
    ck_assert_int_eq(peer_end(&second), 0);
    check_image("late writes");
}
END_TEST

/* ---- a spare takes over ---- */

START_TEST(requests_sent_again) {
    uint64_t file, last;
    FSRequest request;

    start(&first);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    start(&second); /* a spare, while the other one lives */
    ck_assert_int_eq(simple(&second, FS_MSG_PING), 0);
    ck_assert_uint_eq(second.response.number, 1);
    ck_assert_int_eq(simple(&second, FS_MSG_STATFS), -ENOTCONN);
    request = create_request(3, 7, "file");
    ck_assert_int_eq(exchange(&first, request), 0);
    file = first.response.attr.file_id;
    ck_assert_int_eq(exchange(&first, create_request(4, 7, "another")), 0);
    last = first.response.number;
    kill_peer(&first);
    ck_assert_int_eq(mount_on(&second, true, last), 0);
    ck_assert_uint_eq(second.response.number, last + 1);
    ck_assert_int_eq(simple(&second, FS_MSG_SYNC), 0); /* nothing was under way */
    /* It is as if the answer had got lost. */
    ck_assert_int_eq(exchange(&second, request), 0);
    ck_assert_uint_eq(second.response.attr.file_id, file);
    ck_assert_uint_eq(second.response.flags & (FS_RESP_ATTR | FS_RESP_PARENT_ATTR | FS_RESP_EXACT),
                      FS_RESP_ATTR | FS_RESP_PARENT_ATTR | FS_RESP_EXACT);
    ck_assert_uint_eq(second.response.parent.file_id, FS_ROOT_ID);
    ck_assert_uint_eq(second.response.number, last + 3);
    ck_assert(fence_has_ended(&first, 20000));
    ck_assert_int_eq(simple(&second, FS_MSG_FENCE), 0);
    /* The next in the slot is a new request. */
    ck_assert_int_eq(exchange(&second, create_request(3, 8, "file")), -EEXIST);
    /* One of before the last: nobody sends that. */
    ck_assert_int_eq(exchange(&second, create_request(4, 6, "older")), -EPIPE);
    ck_assert_int_eq(peer_end(&second), 1);
    check_image("requests sent again");
}
END_TEST

/* The kind of request is part of what was recorded. */
START_TEST(another_request_of_the_same_number) {
    start(&first);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    ck_assert_int_eq(exchange(&first, create_request(3, 7, "file")), 0);
    kill_peer(&first);
    start(&second);
    ck_assert_int_eq(mount_on(&second, true, first.response.number), 0);
    ck_assert_int_eq(exchange(&second, numbered(3, 7,
                                                (FSRequest){.type = FS_MSG_DELETE_FILE,
                                                            .file_id = FS_ROOT_ID,
                                                            .name = name_of("file")})),
                     -EIO);
    ck_assert_int_eq(exchange(&second, numbered(3, 8,
                                                (FSRequest){.type = FS_MSG_LOOKUP,
                                                            .file_id = FS_ROOT_ID,
                                                            .name = name_of("file")})),
                     0);
    ck_assert_int_eq(simple(&second, FS_MSG_FENCE), 0);
    ck_assert_int_eq(simple(&second, FS_MSG_SHUTDOWN), 0);
    ck_assert_int_eq(peer_end(&second), 0);
}
END_TEST

/* The front-end dies as well, before it could tell of the fence. */
START_TEST(end_without_fence) {
    start(&first);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    ck_assert_int_eq(exchange(&first, create_request(0, 1, "file")), 0);
    kill_peer(&first);
    leave_a_write();
    start(&second);
    ck_assert_int_eq(mount_on(&second, true, first.response.number), 0);
    ck_assert_int_eq(exchange(&second, create_request(1, 1, "other")), 0);
    if (_i == 1) { /* something waits for it already */
        const FSRequest request = numbered(2, 1, (FSRequest){.type = FS_MSG_SYNC});

        peer_send(&second, &request);
        ck_assert_int_eq(simple(&second, FS_MSG_PING), 0);
    }
    ck_assert_int_eq(peer_end(&second), 0);
    check_image("end without fence");
    mount_image("ro");
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), 2);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* What makes no sense in the lifeline: an error, and the other daemon's work stays there. */
START_TEST(mount_of_nonsense) {
    uint8_t byte = 0x5a;

    start(&first);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    ck_assert_int_eq(exchange(&first, create_request(0, 1, "file")), 0);
    kill_peer(&first);
    ck_assert_int_eq(pwrite(lifeline, &byte, 1, 4), 1); /* its version */
    start(&second);
    ck_assert_int_lt(mount_on(&second, true, first.response.number), 0);
    ck_assert_uint_gt(second.response.data_length, 0);
    ck_assert_int_eq(simple(&second, FS_MSG_STATFS), -ENOTCONN);
    ck_assert_int_eq(peer_end(&second), 0);
}
END_TEST

/* ---- freeze ---- */

static uint8_t *lifeline_bytes(uint64_t *ret_length) {
    struct stat st;
    uint8_t *bytes;

    ck_assert_int_eq(fstat(lifeline, &st), 0);
    bytes = malloc((size_t)st.st_size);
    ck_assert_int_eq(pread(lifeline, bytes, (size_t)st.st_size, 0), st.st_size);
    *ret_length = (uint64_t)st.st_size;
    return bytes;
}

/* Frozen, it changes nothing, be it asked for signs of life. Then it goes on. */
START_TEST(freeze_and_thaw) {
    _cleanup_free_ uint8_t *before = NULL, *after = NULL;
    uint64_t length, sum;

    start(&first);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    for (unsigned i = 0; i < 20; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "file%u", i);
        ck_assert_int_eq(exchange(&first, create_request(i, 1, name)), 0);
    }
    ck_assert_int_eq(simple(&first, FS_MSG_FREEZE), 0);
    before = lifeline_bytes(&length);
    sum = image_sum();
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_int_eq(simple(&first, FS_MSG_PING), 0);
    }
    after = lifeline_bytes(&length);
    ck_assert_int_eq(memcmp(before, after, length), 0);
    ck_assert_uint_eq(image_sum(), sum);
    ck_assert_int_eq(exchange(&first, create_request(0, 2, "thawed")), 0);
    ck_assert_int_eq(simple(&first, FS_MSG_SYNC), 0);
    ck_assert_int_eq(simple(&first, FS_MSG_FREEZE), 0);
    ck_assert_int_eq(simple(&first, FS_MSG_FREEZE), 0);
    ck_assert_int_eq(simple(&first, FS_MSG_UNMOUNT), 0);
    ck_assert_int_eq(simple(&first, FS_MSG_FREEZE), -ENOTCONN);
    ck_assert_int_eq(simple(&first, FS_MSG_SHUTDOWN), 0);
    ck_assert_int_eq(peer_end(&first), 0);
    check_image("frozen and thawed");
}
END_TEST

/* A new one takes over while the old one stands still; that one's end changes nothing. */
START_TEST(replaced_while_frozen) {
    start(&first);
    start(&second);
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    ck_assert_int_eq(exchange(&first, create_request(0, 1, "file")), 0);
    ck_assert_int_eq(simple(&first, FS_MSG_FREEZE), 0);
    ck_assert_int_eq(mount_on(&second, true, first.response.number), 0);
    ck_assert_int_eq(exchange(&second, create_request(0, 2, "other")), 0);
    if (_i == 0) {
        channel_shutdown(first.channel); /* the other process has a copy of its descriptor */
        ck_assert_int_eq(peer_end(&first), 0);
    } else {
        ck_assert_int_eq(kill(first.pid, SIGTERM), 0);
        ck_assert_int_eq(peer_receive(&first), -EPIPE);
        ck_assert_int_eq(peer_end(&first), 0);
    }
    ck_assert_int_eq(simple(&second, FS_MSG_FENCE), 0);
    ck_assert_int_eq(exchange(&second, create_request(0, 3, "third")), 0);
    ck_assert_int_eq(simple(&second, FS_MSG_UNMOUNT), 0);
    ck_assert_int_eq(peer_end(&second), 0);
    check_image("replaced");
    mount_image("ro");
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), 3);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* ---- who was it? ---- */

static void spin(uint64_t offset, uint32_t flags) {
    (void)flags;
    while (offset == 700) {
        __asm__ volatile("" ::: "memory");
    }
}

START_TEST(running_request_is_known) {
    uint64_t file, running = 1;
    FSRequest request;

    toy.on_map = spin; /* in the child */
    ck_assert_int_eq(peer_start(&first, "toy"), 0);
    toy.on_map = NULL;
    ck_assert_int_eq(mount_on(&first, false, 0), 0);
    ck_assert_int_eq(exchange(&first, create_request(5, 3, "file")), 0);
    file = first.response.attr.file_id;
    ck_assert_int_eq(exchange(&first, numbered(6, 1,
                                               (FSRequest){.type = FS_MSG_WRITE_FILE,
                                                           .file_id = file,
                                                           .length = 1024,
                                                           .payload = (const uint8_t[1024]){0},
                                                           .payload_length = 1024})),
                     1024);
    ck_assert_int_eq(simple(&first, FS_MSG_PING), 0); /* the fiber has ended by then */
    ck_assert_int_eq(lifeline_memory_running(first.lifeline, &running), 0);
    ck_assert_uint_eq(running, 0);
    request = numbered(
        7, 9, (FSRequest){.type = FS_MSG_READ_FILE, .file_id = file, .offset = 700, .length = 10});
    peer_send(&first, &request);
    for (unsigned i = 0; i < 2000 && running == 0; i++) {
        (void)poll(NULL, 0, 10);
        ck_assert_int_eq(lifeline_memory_running(first.lifeline, &running), 0);
    }
    ck_assert_uint_eq(running, request.request_id);
    kill_peer(&first);
    (void)close(first.fence);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("takeover");
    TCase *c = tcase_create("all");
    SRunner *runner;
    int failed_tests;

    log_init("test_takeover", LOG_LEVEL_ERROR);
    tcase_set_timeout(c, 20);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, fence, 0, 2);
    tcase_add_test(c, fence_ends_after_the_writes);
    tcase_add_test(c, late_writes_are_waited_for);
    tcase_add_test(c, requests_sent_again);
    tcase_add_test(c, another_request_of_the_same_number);
    tcase_add_loop_test(c, end_without_fence, 0, 2);
    tcase_add_test(c, mount_of_nonsense);
    tcase_add_test(c, freeze_and_thaw);
    tcase_add_loop_test(c, replaced_while_frozen, 0, 2);
    tcase_add_test(c, running_request_is_known);
    suite_add_tcase(suite, c);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed_tests = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_tests == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
