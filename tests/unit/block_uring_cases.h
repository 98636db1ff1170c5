/* SPDX-License-Identifier: MIT */
/*
 * The suspending backend against a model of the image: on a disk filesystem
 * and on tmpfs, with a ring and without, with direct I/O and without, at
 * aligned and unaligned starts of the volume. Part of test_block.c.
 */
#ifndef BERTH_TESTS_BLOCK_URING_CASES_H
#define BERTH_TESTS_BLOCK_URING_CASES_H

#include "block_testing.h"
#include <linux/magic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/vfs.h>

typedef struct UringCase {
    const char *directory;
    bool no_ring;
    int direct;
    uint64_t start; /* of the device in the image */
} UringCase;

static const UringCase uring_cases[] = {
    {"/tmp", false, -1, 0},      {"/tmp", false, 0, 0},      {"/tmp", true, -1, 0},
    {"/tmp", false, -1, 512},    {"/tmp", false, -1, 32256}, {"/dev/shm", false, -1, 0},
    {"/dev/shm", true, -1, 512}, {"/dev/shm", false, 0, 0},
};

#define URING_IMAGE_SIZE (3 * 1024 * 1024 + 1234)

typedef struct UringTest {
    const UringCase *what;
    int fd;
    uint8_t *model; /* of the whole image */
    BlockDevice *device;
    uint8_t *memory; /* page-aligned, as large as the image and some */
} UringTest;

static void uring_start(UringTest *test) {
    BlockOpenConfig config = {
        .fd = test->fd, .start = test->what->start, .direct = test->what->direct};

    ck_assert_int_eq(block_uring_new(&config, loop_current(), &test->device), 0);
    ck_assert_uint_eq(test->device->size, URING_IMAGE_SIZE - test->what->start);
    ck_assert(block_suspends(test->device));
}

static void run_uring(int index, void (*body)(void *arg)) {
    UringTest test = {.what = &uring_cases[index]};

    random_state = SEED + (unsigned)index;
    test.fd = make_image(test.what->directory, URING_IMAGE_SIZE, &test.model);
    test.memory = aligned_alloc(4096, align_up(URING_IMAGE_SIZE + 65536, 4096));
    in_loop(test.what->no_ring, body, &test);
    assert_file_equals(test.fd, test.model, URING_IMAGE_SIZE);
    (void)close(test.fd);
    free(test.model);
    free(test.memory);
}

static void random_range(uint64_t size, uint64_t *ret_offset, uint64_t *ret_length) {
    static const uint64_t steps[] = {1, 512, 4096};
    uint64_t step = steps[random_below(3)];
    uint64_t limit = random_below(8) == 0 ? size : 70000;
    uint64_t offset = align_down(random_below(size), step);
    uint64_t length = align_up(random_below(MIN(limit, size - offset)) + 1, step);

    *ret_offset = offset;
    *ret_length = MIN(length, size - offset);
}

static void uring_model_body(void *arg) {
    UringTest *test = arg;
    uint8_t *model = test->model + test->what->start;

    uring_start(test);
    for (unsigned round = 0; round < 400; round++) {
        uint64_t offset, length;
        uint8_t *buf = test->memory + (random_below(2) ? 0 : random_below(8192));

        random_range(test->device->size, &offset, &length);
        if (round % 2 == 0) {
            random_bytes(buf, length);
            ck_assert_int_eq(block_write(test->device, offset, buf, length), 0);
            memcpy(model + offset, buf, length);
        } else {
            memset(buf, 0, length);
            ck_assert_int_eq(block_read(test->device, offset, buf, length), 0);
            ck_assert_msg(memcmp(buf, model + offset, length) == 0,
                          "case seed %u round %u: read of %ju+%ju differs", SEED, round,
                          (uintmax_t)offset, (uintmax_t)length);
        }
    }
    ck_assert_int_eq(block_flush(test->device), 0);
    ck_assert_uint_eq(test->device->unflushed, 0);
    test->device = block_free(test->device);
}

START_TEST(uring_agrees_with_a_model) {
    run_uring(_i, uring_model_body);
}
END_TEST

static bool in_memory(int fd) {
    struct statfs st;

    return fstatfs(fd, &st) == 0 && st.f_type == TMPFS_MAGIC;
}

/* Neighbouring writes, cut anywhere, all in flight: pages are shared by buffered heads and tails
 * and sit beside direct parts. None may overwrite another's bytes. */
static void uring_neighbours_body(void *arg) {
    UringTest *test = arg;
    uint8_t *model = test->model + test->what->start;

    uring_start(test);
    for (unsigned round = 0; round < 12; round++) {
        BlockBatch batch;
        uint64_t size = test->device->size, at = 0;

        random_bytes(test->memory, size);
        memcpy(model, test->memory, size);
        block_batch_init(&batch, test->device);
        while (at < size) {
            /* The first is large enough for direct I/O, so that the others are not alone. */
            const uint32_t most[] = {300, 20000, 20000, 140000};
            uint64_t length = at == 0 ? 140000 : random_below(most[random_below(4)]) + 1;

            length = MIN(length, size - at);
            ck_assert_int_eq(block_batch_write(&batch, at, test->memory + at, length), 0);
            at += length;
        }
        /* In memory each is done at once, and buffered ones while they are quick. */
        if (!in_memory(test->fd) && test->what->direct != 0) {
            ck_assert_uint_gt(test->device->stats.inflight_max, test->what->no_ring ? 1 : 50);
        }
        ck_assert_int_eq(block_batch_wait(&batch), 0);
        ck_assert_int_eq(block_flush(test->device), 0);
        memset(test->memory, 0, size);
        for (at = 0; at < size; at += 5000) {
            ck_assert_int_eq(
                block_batch_read(&batch, at, test->memory + at, MIN((uint64_t)5000, size - at)), 0);
        }
        ck_assert_int_eq(block_batch_wait(&batch), 0);
        ck_assert_msg(memcmp(test->memory, model, size) == 0, "seed %u round %u", SEED, round);
    }
    test->device = block_free(test->device);
}

START_TEST(uring_neighbours_do_not_lose_updates) {
    run_uring(_i, uring_neighbours_body);
}
END_TEST

static void uring_vectors_body(void *arg) {
    UringTest *test = arg;
    struct iovec *iov = calloc(700, sizeof(*iov));
    uint8_t *model = test->model + test->what->start;
    uint64_t total = 0;

    uring_start(test);
    for (int i = 0; i < 700; i++) {
        iov[i] = (struct iovec){test->memory + (size_t)i * 4096, i % 7 == 3 ? 512 : 4096};
        random_bytes(iov[i].iov_base, iov[i].iov_len);
        memcpy(model + 4096 + total, iov[i].iov_base, iov[i].iov_len);
        total += iov[i].iov_len;
    }
    ck_assert_int_eq(block_writev(test->device, 4096, iov, 700), 0);
    memset(test->memory, 0, 700 * 4096);
    ck_assert_int_eq(block_readv(test->device, 4096, iov, 700), 0);
    for (int i = 0, at = 4096; i < 700; at += (int)iov[i++].iov_len) {
        ck_assert_mem_eq(iov[i].iov_base, model + at, iov[i].iov_len);
    }
    free(iov);
    test->device = block_free(test->device);
}

START_TEST(uring_takes_long_iovec_lists) {
    run_uring(_i, uring_vectors_body);
}
END_TEST

static void uring_truncated_body(void *arg) {
    UringTest *test = arg;
    uint64_t left = 1024 * 1024 + 100; /* of the device */

    uring_start(test);
    ck_assert_int_eq(ftruncate(test->fd, (off_t)(test->what->start + left)), 0);
    ck_assert_int_eq(block_read(test->device, 0, test->memory, left), 0);
    ck_assert_int_eq(block_read(test->device, 0, test->memory, left + 1), -EIO);
    ck_assert_int_eq(block_read(test->device, left, test->memory, 1), -EIO);
    ck_assert_int_eq(block_read(test->device, 2 * 1024 * 1024, test->memory, 65536), -EIO);
    ck_assert_int_eq(block_read(test->device, 0, test->memory, test->device->size), -EIO);
    ck_assert_uint_eq(test->device->stats.inflight, 0);
    test->device = block_free(test->device);
    ck_assert_int_eq(pwrite(test->fd, test->model, URING_IMAGE_SIZE, 0), URING_IMAGE_SIZE);
}

START_TEST(uring_truncated_image_is_an_io_error) {
    run_uring(_i, uring_truncated_body);
}
END_TEST

static void uring_submit_body(void *arg) {
    UringTest *test = arg;
    Counted *counted[64];
    unsigned waiting = 64;

    uring_start(test);
    for (uint64_t i = 0; i < 64; i++) {
        /* Hot pages (just written by make_image) end inside the submission: done still waits. */
        counted[i] = counted_new(i % 2 ? BLOCK_READ : BLOCK_WRITE, i * 4096, 4096);
        memcpy(counted[i]->bytes, test->model + test->what->start + i * 4096, 4096);
        block_submit(test->device, &counted[i]->request);
        ck_assert_uint_eq(counted[i]->done, 0);
    }
    for (unsigned turn = 0; turn < 5000 && waiting > 0; turn++) {
        loop_sleep(loop_current(), 1000 * 1000);
        waiting = 0;
        for (unsigned i = 0; i < 64; i++) {
            ck_assert_uint_le(counted[i]->done, 1);
            waiting += counted[i]->done == 0;
        }
    }
    ck_assert_uint_eq(waiting, 0);
    for (unsigned i = 0; i < 64; i++) {
        ck_assert_int_eq(counted[i]->request.result, 0);
        ck_assert_mem_eq(counted[i]->bytes, test->model + test->what->start + i * 4096, 4096);
        free(counted[i]);
    }
    test->device = block_free(test->device);
}

START_TEST(uring_submit_is_done_once_and_later) {
    run_uring(_i, uring_submit_body);
}
END_TEST

static void uring_stacked_body(void *arg) {
    UringTest *test = arg;
    BlockDevice *slice, *faulty;
    BlockFaults faults = {.fail_write_at = 2, .tear = true};
    uint8_t *model = test->model + test->what->start;

    uring_start(test);
    ck_assert_int_eq(block_slice_new(test->device, 8192, 1 << 20, &slice), 0);
    ck_assert_int_eq(block_fault_new(slice, &faults, &faulty), 0);
    ck_assert(block_suspends(faulty));
    random_bytes(test->memory, 65536);
    ck_assert_int_eq(block_write(faulty, 100, test->memory, 30000), 0);
    memcpy(model + 8192 + 100, test->memory, 30000);
    ck_assert_int_eq(block_write(faulty, 40960, test->memory, 8192), -EIO);
    memcpy(model + 8192 + 40960, test->memory, 4096); /* torn: the first half is there */
    ck_assert_int_eq(block_read(faulty, 0, test->memory, 65536), 0);
    ck_assert_mem_eq(test->memory, model + 8192, 65536);
    ck_assert_int_eq(block_flush(faulty), 0);
    ck_assert_int_eq(block_discard(faulty, 65536, 65536), 0);
    memset(model + 8192 + 65536, 0, 65536);
    (void)block_free(faulty);
    (void)block_free(slice);
    test->device = block_free(test->device);
}

START_TEST(uring_carries_stacked_devices) {
    run_uring(_i, uring_stacked_body);
}
END_TEST

/* Under a limit on processes the ring cannot start workers and cancels what would need one. */
static void uring_workerless_body(void *arg) {
    UringTest *test = arg;
    uint8_t *model = test->model + test->what->start;

    uring_start(test);
    random_bytes(test->memory, 200000);
    memcpy(model + 100, test->memory, 200000);
    ck_assert_int_eq(block_write(test->device, 100, test->memory, 200000), 0);
    ck_assert_int_eq(block_flush(test->device), 0);
    ck_assert_int_eq(block_discard(test->device, 8192, 8192), 0);
    memset(model + 8192, 0, 8192);
    ck_assert_int_eq(block_read(test->device, 0, test->memory, 300000), 0);
    ck_assert_mem_eq(test->memory, model, 300000);
    test->device = block_free(test->device);
}

START_TEST(uring_lives_without_workers) {
    struct rlimit before, none;

    if (geteuid() == 0) { /* root has no limit; the test's process is its own */
        ck_assert_int_eq(setresgid(65534, 65534, 65534), 0);
        ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
        ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0);
    }
    ck_assert_int_eq(getrlimit(RLIMIT_NPROC, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NPROC, &none), 0);
    run_uring(_i, uring_workerless_body);
    ck_assert_int_eq(setrlimit(RLIMIT_NPROC, &before), 0);
}
END_TEST

START_TEST(uring_works_outside_fibers) {
    Loop *loop = NULL;
    BlockDevice *device = NULL;
    LoopConfig loop_config = {.no_ring = _i == 1};
    uint8_t *model;
    int fd = make_image("/tmp", 100000, &model);
    uint8_t *buf = malloc(100000);
    BlockOpenConfig config = {.fd = fd, .direct = -1};

    ck_assert_int_eq(loop_new(&loop_config, &loop), 0);
    ck_assert_int_eq(block_uring_new(&config, loop, &device), 0);
    ck_assert_int_eq(block_read(device, 0, buf, 100000), 0);
    ck_assert_mem_eq(buf, model, 100000);
    memset(buf, 7, 50000);
    ck_assert_int_eq(block_write(device, 333, buf, 50000), 0);
    memset(model + 333, 7, 50000);
    ck_assert_int_eq(block_flush(device), 0);
    (void)block_free(device);
    (void)loop_free(loop);
    assert_file_equals(fd, model, 100000);
    (void)close(fd);
    free(buf);
    free(model);
}
END_TEST

static TCase *uring_cases_new(void) {
    TCase *uring = tcase_create("uring");
    int cases = (int)ARRAY_SIZE(uring_cases);

    tcase_set_timeout(uring, 60);
    tcase_add_loop_test(uring, uring_works_outside_fibers, 0, 2);
    tcase_add_loop_test(uring, uring_agrees_with_a_model, 0, cases);
    tcase_add_loop_test(uring, uring_neighbours_do_not_lose_updates, 0, cases);
    tcase_add_loop_test(uring, uring_takes_long_iovec_lists, 0, cases);
    tcase_add_loop_test(uring, uring_truncated_image_is_an_io_error, 0, cases);
    tcase_add_loop_test(uring, uring_submit_is_done_once_and_later, 0, cases);
    tcase_add_loop_test(uring, uring_carries_stacked_devices, 0, cases);
    tcase_add_loop_test(uring, uring_lives_without_workers, 0, 2);
    return uring;
}

#endif
