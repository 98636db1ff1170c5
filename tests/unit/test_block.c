/* SPDX-License-Identifier: MIT */
/*
 * Block devices: the gate, completion rules, what a flush covers, the plain
 * and the stacked backends, the direct/buffered split; and the suspending
 * backend, whose cases lie in block_uring_cases.h.
 */
#include "../../src/block/at_once.h"
#include "../../src/block/uring_split.h"
#include "berth/log.h"
#include "block_testing.h"
#include "block_uring_cases.h"

/* ---- the gate ---- */

START_TEST(gate_refuses_what_is_outside) {
    static const struct {
        uint64_t offset, length;
        int result;
    } cases[] = {
        {0, 0, 0},
        {8192, 0, 0},
        {8193, 0, -ERANGE},
        {0, 8192, 0},
        {0, 8193, -ERANGE},
        {8191, 1, 0},
        {8191, 2, -ERANGE},
        {8192, 1, -ERANGE},
        {UINT64_MAX, 1, -ERANGE},
        {UINT64_MAX - 4095, 4096, -ERANGE},
    };
    _cleanup_(block_freep) BlockDevice *device = NULL;
    static uint8_t buf[8200];

    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &device), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert_int_eq(block_read(device, cases[i].offset, buf, cases[i].length),
                         cases[i].result);
        ck_assert_int_eq(block_write(device, cases[i].offset, buf, cases[i].length),
                         cases[i].result);
        ck_assert_int_eq(block_discard(device, cases[i].offset, cases[i].length), cases[i].result);
    }
    /* Refused and empty ones never reached the backend. */
    ck_assert_uint_eq(device->stats.reads, 2);
    ck_assert_uint_eq(device->stats.writes, 2);
    ck_assert_uint_eq(device->stats.discards, 2);
    ck_assert_int_eq(block_discard(device, 0, UINT64_MAX), -ERANGE);
}
END_TEST

START_TEST(gate_refuses_writes_and_bad_lists) {
    _cleanup_(block_freep) BlockDevice *device = NULL;
    _cleanup_free_ Counted *counted = counted_new(BLOCK_READ, 0, 512);
    uint8_t byte = 1;

    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &device), 0);
    device->readonly = true;
    ck_assert_int_eq(block_write(device, 0, &byte, 1), -EROFS);
    ck_assert_int_eq(block_discard(device, 0, 1), -EROFS);
    ck_assert_int_eq(block_flush(device), 0);
    ck_assert_int_eq(block_read(device, 0, &byte, 1), 0);
    ck_assert_int_eq(byte, 0);

    counted->request.length = 513;
    block_submit(device, &counted->request);
    ck_assert_uint_eq(block_poll(device), 1);
    ck_assert_int_eq(counted->request.result, -EINVAL);
    counted->request.length = 512;
    counted->request.iov_count = -1;
    block_submit(device, &counted->request);
    ck_assert_uint_eq(block_poll(device), 1);
    ck_assert_int_eq(counted->request.result, -EINVAL);
    ck_assert_uint_eq(device->stats.reads, 1);
}
END_TEST

START_TEST(submit_is_never_done_before_it_returns) {
    _cleanup_(block_freep) BlockDevice *device = NULL;
    _cleanup_free_ Counted *good = counted_new(BLOCK_WRITE, 512, 512);
    _cleanup_free_ Counted *refused = counted_new(BLOCK_READ, 8192, 512);
    _cleanup_free_ Counted *free_flush = counted_new(BLOCK_FLUSH, 0, 0);

    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &device), 0);
    block_submit(device, &free_flush->request);
    block_submit(device, &good->request);
    block_submit(device, &refused->request);
    ck_assert_uint_eq(good->done + refused->done + free_flush->done, 0);
    ck_assert_uint_eq(block_poll(device), 3);
    ck_assert_uint_eq(good->done, 1);
    ck_assert_uint_eq(refused->done, 1);
    ck_assert_uint_eq(free_flush->done, 1);
    ck_assert_int_eq(good->request.result, 0);
    ck_assert_int_eq(refused->request.result, -ERANGE);
    ck_assert_uint_eq(block_poll(device), 0);
    ck_assert_uint_eq(device->stats.flushes, 0);
    ck_assert_uint_eq(device->stats.inflight, 0);
}
END_TEST

static void loop_turn_body(void *arg) {
    BlockDevice *device = arg;
    _cleanup_free_ Counted *counted = counted_new(BLOCK_READ, 0, 512);

    block_submit(device, &counted->request);
    ck_assert_uint_eq(counted->done, 0);
    for (unsigned i = 0; i < 1000 && counted->done == 0; i++) {
        loop_sleep(loop_current(), 1000 * 1000);
    }
    ck_assert_uint_eq(counted->done, 1);
}

START_TEST(a_loop_polls_by_itself) {
    _cleanup_(block_freep) BlockDevice *device = NULL;

    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &device), 0);
    in_loop(false, loop_turn_body, device);
}
END_TEST

/* ---- flush accounting ---- */

START_TEST(flush_is_free_until_something_is_written) {
    _cleanup_(block_freep) BlockDevice *memory = NULL, *device = NULL;
    BlockFaults faults = {.fail_flush_at = 1};
    uint8_t byte = 1;

    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &memory), 0);
    ck_assert_int_eq(block_fault_new(memory, &faults, &device), 0);
    ck_assert_int_eq(block_flush(device), 0);
    ck_assert_uint_eq(faults.flushes, 0);
    ck_assert_int_eq(block_write(device, 0, &byte, 1), 0);
    ck_assert_int_eq(block_write(device, 1, &byte, 1), 0);
    ck_assert_uint_eq(device->unflushed, 2);
    ck_assert_int_eq(block_flush(device), -EIO);
    ck_assert_uint_eq(device->unflushed, 2);
    ck_assert_int_eq(block_flush(device), 0);
    ck_assert_uint_eq(device->unflushed, 0);
    ck_assert_int_eq(block_flush(device), 0);
    ck_assert_uint_eq(faults.flushes, 2);
    ck_assert_int_eq(block_discard(device, 0, 512), 0);
    ck_assert_uint_eq(device->unflushed, 1);
}
END_TEST

START_TEST(flush_covers_what_completed_before_it_began) {
    Held held;
    _cleanup_free_ Counted *first = counted_new(BLOCK_WRITE, 0, 512);
    _cleanup_free_ Counted *second = counted_new(BLOCK_WRITE, 512, 512);
    _cleanup_free_ Counted *flush_1 = counted_new(BLOCK_FLUSH, 0, 0);
    _cleanup_free_ Counted *flush_2 = counted_new(BLOCK_FLUSH, 0, 0);

    held_init(&held);
    block_submit(&held.device, &first->request);
    block_submit(&held.device, &second->request);
    held_end(&held, 0, 0); /* first */
    block_submit(&held.device, &flush_1->request);
    held_end(&held, 0, 0); /* second, under the flush */
    ck_assert_uint_eq(held.device.unflushed, 2);
    block_submit(&held.device, &flush_2->request);
    held_end(&held, 1, 0); /* flush 2 overtakes flush 1 */
    ck_assert_uint_eq(held.device.unflushed, 0);
    held_end(&held, 0, 0);
    ck_assert_uint_eq(held.device.unflushed, 0);
    ck_assert_uint_eq(flush_1->done + flush_2->done, 2);

    /* The other order: the early flush leaves the second write uncovered. */
    block_submit(&held.device, &first->request);
    held_end(&held, 0, 0);
    block_submit(&held.device, &flush_1->request);
    block_submit(&held.device, &second->request);
    held_end(&held, 1, -EIO);
    held_end(&held, 0, 0);
    ck_assert_uint_eq(held.device.unflushed, 1);
    ck_assert_uint_eq(held.device.stats.errors, 1);
}
END_TEST

/* ---- memory, posix, slice, trace ---- */

static void check_vectors(BlockDevice *device, uint64_t size) {
    _cleanup_free_ uint8_t *model = calloc(1, size);
    _cleanup_free_ uint8_t *buf = calloc(1, size);

    ck_assert_int_eq(block_read(device, 0, model, size), 0);
    for (unsigned round = 0; round < 200; round++) {
        uint64_t offset = random_below(size), length = random_below(size - offset) + 1;
        uint64_t cut = random_below(length + 1), cut2 = cut + random_below(length - cut + 1);
        struct iovec iov[4] = {
            {buf, cut}, {NULL, 0}, {buf + cut, cut2 - cut}, {buf + cut2, length - cut2}};

        if (round % 2 == 0) {
            random_bytes(buf, length);
            ck_assert_int_eq(block_writev(device, offset, iov, 4), 0);
            memcpy(model + offset, buf, length);
        } else {
            ck_assert_int_eq(block_readv(device, offset, iov, 4), 0);
            ck_assert_mem_eq(buf, model + offset, length);
        }
    }
    ck_assert_int_eq(block_read(device, 0, buf, size), 0);
    ck_assert_mem_eq(buf, model, size);
}

START_TEST(memory_and_slice_keep_what_is_written) {
    _cleanup_(block_freep) BlockDevice *memory = NULL, *slice = NULL;
    static uint8_t data[20000], before[20000];

    random_bytes(data, sizeof(data));
    memcpy(before, data, sizeof(data));
    ck_assert_int_eq(block_memory_new(sizeof(data), 512, data, &memory), 0);
    ck_assert_ptr_eq(block_memory_data(memory), data);
    ck_assert_int_eq(block_slice_new(memory, 1000, 19001, &slice), -ERANGE);
    ck_assert_int_eq(block_slice_new(memory, UINT64_MAX, 2, &slice), -ERANGE);
    ck_assert_int_eq(block_slice_new(memory, 1000, 9000, &slice), 0);
    check_vectors(slice, 9000);
    ck_assert_mem_eq(data, before, 1000);
    ck_assert_mem_eq(data + 10000, before + 10000, 10000);
    ck_assert_int_eq(block_read(slice, 8999, before, 2), -ERANGE);
    ck_assert_int_eq(block_discard(slice, 0, 9000), 0);
    ck_assert_int_eq(data[1000] | data[9999], 0);
}
END_TEST

START_TEST(posix_keeps_what_is_written) {
    _cleanup_(block_freep) BlockDevice *device = NULL;
    _cleanup_free_ uint8_t *model = NULL;
    _cleanup_close_ int fd = make_image("/tmp", 50001, &model);
    BlockOpenConfig config = {.fd = fd, .start = 700, .length = 40000};
    _cleanup_free_ uint8_t *buf = malloc(50001);

    ck_assert_int_eq(block_posix_new(&config, &device), 0);
    ck_assert_uint_eq(device->size, 40000);
    check_vectors(device, 40000);
    ck_assert_int_eq(block_flush(device), 0);
    ck_assert_int_eq(block_read(device, 0, model + 700, 40000), 0);
    assert_file_equals(fd, model, 50001);

    /* Truncated under us: the part that is gone is an I/O error. */
    ck_assert_int_eq(ftruncate(fd, 10000), 0);
    ck_assert_int_eq(block_read(device, 0, buf, 9300), 0);
    ck_assert_int_eq(block_read(device, 0, buf, 9301), -EIO);
    ck_assert_int_eq(block_read(device, 30000, buf, 1), -EIO);
}
END_TEST

START_TEST(opening_checks_its_arguments) {
    BlockDevice *device = NULL;
    _cleanup_free_ uint8_t *model = NULL;
    _cleanup_close_ int fd = make_image("/tmp", 5000, &model);
    _cleanup_close_ int directory = open("/tmp", O_RDONLY | O_DIRECTORY);
    _cleanup_close_ int null = open("/dev/null", O_RDWR);
    char path[64];
    BlockOpenConfig config = {.fd = -1};

    ck_assert_int_eq(block_posix_new(&config, &device), -EBADF);
    config.fd = directory;
    ck_assert_int_eq(block_posix_new(&config, &device), -EISDIR);
    config.fd = null;
    ck_assert_int_eq(block_posix_new(&config, &device), -ENOTBLK);
    config = (BlockOpenConfig){.fd = fd, .start = 5001};
    ck_assert_int_eq(block_posix_new(&config, &device), -ERANGE);
    config = (BlockOpenConfig){.fd = fd, .start = 1, .length = 5000};
    ck_assert_int_eq(block_posix_new(&config, &device), -ERANGE);
    ck_assert_ptr_null(device);

    config = (BlockOpenConfig){.fd = fd, .readonly = true};
    ck_assert_int_eq(block_posix_new(&config, &device), 0);
    ck_assert(device->readonly);
    device = block_free(device);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    config = (BlockOpenConfig){.fd = open(path, O_RDONLY)};
    ck_assert_int_ge(config.fd, 0);
    ck_assert_int_eq(block_posix_new(&config, &device), 0);
    ck_assert_msg(device->readonly, "a read-only descriptor makes a read-only device");
    (void)close(config.fd);
    ck_assert_int_eq(block_read(device, 0, path, 10), 0);
    device = block_free(device);
}
END_TEST

static unsigned trace_lines;

static void trace_sink(void *arg, LogLevel level, const char *line) {
    trace_lines += strstr(line, "block write 512+1024: ok") != NULL ||
                   strstr(line, "block read 0+512: ok") != NULL;
}

START_TEST(trace_logs_every_request) {
    _cleanup_(block_freep) BlockDevice *memory = NULL, *device = NULL;
    uint8_t buf[1024] = {1};

    log_init("test", LOG_LEVEL_INFO);
    log_set_sink(trace_sink, NULL);
    trace_lines = 0;
    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &memory), 0);
    ck_assert_int_eq(block_trace_new(memory, &device), 0);
    ck_assert_int_eq(block_write(device, 512, buf, 1024), 0);
    ck_assert_int_eq(block_read(device, 0, buf, 512), 0);
    ck_assert_uint_eq(trace_lines, 2);
    log_set_sink(NULL, NULL);
}
END_TEST

/* ---- the split ---- */

START_TEST(split_tiles_the_range_and_keeps_pages_whole) {
    uint8_t *memory = aligned_alloc(4096, 1 << 20);

    random_state = SEED;
    for (unsigned round = 0; round < 4000; round++) {
        SplitRule rule = {.direct = round % 8 != 0,
                          .step = 4096,
                          .memory_step = round % 2 ? 512 : 4,
                          .length_max = 65536};
        struct iovec iov[6], out[4];
        uint64_t offset = random_below(1 << 20), total = 0, used = 0, done = 0;
        IovCursor cursor;

        if (round % 3 == 0) {
            offset = align_down(offset, 512);
        }
        for (int i = 0; i < 6; i++) {
            uint64_t skip = random_below(3) == 0 ? random_below(5000) : random_below(3) * 512;
            uint64_t length = random_below(4) == 0 ? random_below(100) : random_below(100000);

            iov[i] = (struct iovec){memory + used + skip, length};
            used += skip + length;
            total += length;
        }
        iov_cursor_init(&cursor, iov, 6);
        while (done < total) {
            SplitPart part;
            uint64_t covered = 0;

            uring_split_next(&rule, &cursor, offset + done, total - done, out, 4, &part);
            ck_assert_msg(part.length > 0 && part.length <= total - done &&
                              part.length <= rule.length_max && part.iov_count <= 4,
                          "round %u", round);
            ck_assert(!part.direct || rule.direct);
            if (part.direct) {
                ck_assert_uint_eq((offset + done) % 4096, 0);
                ck_assert_uint_eq(part.length % 4096, 0);
            }
            for (int i = 0; i < part.iov_count; i++) {
                size_t stretch;

                ck_assert_ptr_eq(iov_cursor_peek(&cursor, &stretch), out[i].iov_base);
                ck_assert_uint_le(out[i].iov_len, stretch);
                if (part.direct) {
                    ck_assert_uint_eq((uintptr_t)out[i].iov_base % rule.memory_step, 0);
                    ck_assert_uint_eq(out[i].iov_len % 4096, 0);
                } else if (rule.direct && (uintptr_t)out[i].iov_base % 4096 == 0 &&
                           (offset + done + covered) % 4096 == 0) {
                    ck_assert_msg(MIN(stretch, total - done - covered) < 4096,
                                  "round %u: an aligned page went buffered", round);
                }
                covered += out[i].iov_len;
                iov_cursor_advance(&cursor, out[i].iov_len);
            }
            ck_assert_uint_eq(covered, part.length);
            done += part.length;
        }
    }
    free(memory);
}
END_TEST

/* ---- batches ---- */

START_TEST(batch_keeps_the_first_error) {
    _cleanup_(block_freep) BlockDevice *memory = NULL, *device = NULL;
    BlockFaults faults = {.fail_range_start = 1024, .fail_range_length = 1, .error = ENOSPC};
    BlockBatch batch;
    uint8_t buf[512] = {9};

    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &memory), 0);
    ck_assert_int_eq(block_fault_new(memory, &faults, &device), 0);
    block_batch_init(&batch, device);
    for (uint64_t i = 0; i < 4; i++) {
        ck_assert_int_eq(block_batch_write(&batch, i * 512, buf, 512), 0);
    }
    ck_assert_int_eq(block_batch_write(&batch, 8192, buf, 512), 0);
    ck_assert_int_eq(block_batch_wait(&batch), -ENOSPC);
    ck_assert_int_eq(block_memory_data(memory)[3 * 512], 9);
    ck_assert_int_eq(block_batch_wait(&batch), 0); /* usable again */
}
END_TEST

typedef struct BatchTest {
    Held held;
    int result;
    bool waited;
} BatchTest;

static void batch_waiter(void *arg) {
    BatchTest *test = arg;
    BlockBatch batch;
    uint8_t buf[3][512];
    struct iovec iov[2] = {{buf[0], 512}, {buf[1], 512}};

    block_batch_init(&batch, &test->held.device);
    ck_assert_int_eq(block_batch_read(&batch, 0, buf[2], 512), 0);
    ck_assert_int_eq(block_batch_writev(&batch, 512, iov, 2), 0);
    ck_assert_int_eq(block_batch_write(&batch, 4096, buf[1], 512), 0);
    test->result = block_batch_wait(&batch);
    test->waited = true;
}

static void batch_order_body(void *arg) {
    BatchTest *test = arg;

    ck_assert_ptr_nonnull(fiber_spawn(batch_waiter, test, "waiter"));
    fiber_yield();
    ck_assert(!test->waited);
    held_end(&test->held, 2, -EROFS);
    held_end(&test->held, 0, -EIO);
    fiber_yield();
    ck_assert_msg(!test->waited, "one is still in flight");
    held_end(&test->held, 0, 0);
    fiber_yield();
    ck_assert(test->waited);
    ck_assert_int_eq(test->result, -EROFS);
}

START_TEST(batch_waits_for_all) {
    BatchTest *test = calloc(1, sizeof(*test));

    held_init(&test->held);
    in_loop(false, batch_order_body, test);
    free(test);
}
END_TEST

/* ---- faults ---- */

START_TEST(fault_fails_exactly_the_nth) {
    for (uint64_t n = 1; n <= 5; n++) {
        _cleanup_(block_freep) BlockDevice *memory = NULL, *device = NULL;
        BlockFaults faults = {
            .fail_read_at = n, .fail_write_at = n, .fail_flush_at = n, .sticky = _i == 1};
        uint8_t buf[512] = {0};

        ck_assert_int_eq(block_memory_new(8192, 512, NULL, &memory), 0);
        ck_assert_int_eq(block_fault_new(memory, &faults, &device), 0);
        for (uint64_t i = 1; i <= 8; i++) {
            int expected = i == n || (_i == 1 && i > n) ? -EIO : 0;

            memset(buf, (int)i, sizeof(buf));
            ck_assert_int_eq(block_write(device, i * 512, buf, 512), expected);
            ck_assert_int_eq(block_memory_data(memory)[i * 512], expected == 0 ? (int)i : 0);
            ck_assert_int_eq(block_read(device, 0, buf, 512), expected);
            ck_assert_int_eq(block_flush(device), expected);
        }
        ck_assert_uint_eq(faults.reads, 8);
        ck_assert_uint_eq(faults.writes, 8);
        ck_assert_uint_eq(faults.flushes, 8);
    }
}
END_TEST

START_TEST(fault_tears_a_write) {
    _cleanup_(block_freep) BlockDevice *memory = NULL, *device = NULL;
    BlockFaults faults = {.fail_write_at = 1, .tear = true};
    static uint8_t buf[2560];
    struct iovec iov[2] = {{buf, 700}, {buf + 700, 1860}};
    const uint8_t *data;

    memset(buf, 0xaa, sizeof(buf));
    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &memory), 0);
    ck_assert_int_eq(block_fault_new(memory, &faults, &device), 0);
    ck_assert_int_eq(block_writev(device, 512, iov, 2), -EIO);
    data = block_memory_data(memory);
    ck_assert_int_eq(data[512], 0xaa);
    ck_assert_int_eq(data[512 + 1023], 0xaa);
    ck_assert_int_eq(data[512 + 1024], 0); /* half of five sectors: two */
    faults.fail_write_at = 1;
    ck_assert_int_eq(block_write(device, 4096, buf, 512), -EIO);
    ck_assert_int_eq(data[4096], 0); /* one sector is never torn */
}
END_TEST

START_TEST(fault_range_and_delay) {
    _cleanup_(block_freep) BlockDevice *memory = NULL, *device = NULL;
    BlockFaults faults = {.fail_range_start = 1000, .fail_range_length = 100};
    _cleanup_free_ Counted *counted = counted_new(BLOCK_READ, 0, 512);
    static uint8_t buf[2048];

    ck_assert_int_eq(block_memory_new(8192, 512, NULL, &memory), 0);
    ck_assert_int_eq(block_fault_new(memory, &faults, &device), 0);
    ck_assert_int_eq(block_read(device, 0, buf, 1000), 0);
    ck_assert_int_eq(block_read(device, 0, buf, 1001), -EIO);
    ck_assert_int_eq(block_read(device, 1099, buf, 1), -EIO);
    ck_assert_int_eq(block_write(device, 1100, buf, 100), 0);
    faults = (BlockFaults){.delay_steps = 2};
    block_submit(device, &counted->request);
    ck_assert_uint_eq(block_poll(device), 0);
    ck_assert_uint_eq(block_poll(device), 0);
    ck_assert_uint_eq(counted->done, 0);
    ck_assert_uint_eq(block_poll(device), 1);
    ck_assert_uint_eq(counted->done, 1);
    ck_assert_int_eq(block_read(device, 0, buf, 512), 0); /* a blocking form does not wait */
}
END_TEST

/* ---- recordings ---- */

START_TEST(recorder_counts_epochs) {
    _cleanup_(block_freep) BlockDevice *memory = NULL, *faulty = NULL, *device = NULL;
    BlockFaults faults = {.fail_flush_at = 2, .fail_write_at = 4};
    BlockRecording recording = {.writes = NULL};
    uint8_t buf[512];

    ck_assert_int_eq(block_memory_new(65536, 512, NULL, &memory), 0);
    ck_assert_int_eq(block_fault_new(memory, &faults, &faulty), 0);
    ck_assert_int_eq(block_recorder_new(faulty, &recording, &device), 0);
    for (uint64_t i = 0; i < 6; i++) {
        memset(buf, (int)i + 1, sizeof(buf));
        ck_assert_int_eq(block_write(device, i * 512, buf, 512), i == 3 ? -EIO : 0);
        if (i % 2 == 1) {
            ck_assert_int_eq(block_flush(device), i == 3 ? -EIO : 0);
        }
    }
    /* Writes 0 1 | 2 (3 failed, flush failed) 4 5 | */
    ck_assert_uint_eq(recording.count, 5);
    ck_assert_uint_eq(recording.epoch, 2);
    ck_assert_uint_eq(recording.durable, 5);
    ck_assert(!recording.failed);
    for (size_t i = 0; i < 5; i++) {
        uint64_t write = i < 3 ? i : i + 1;

        ck_assert_uint_eq(recording.writes[i].offset, write * 512);
        ck_assert_uint_eq(recording.writes[i].length, 512);
        ck_assert_uint_eq(recording.writes[i].data[511], write + 1);
        ck_assert_uint_eq(recording.writes[i].epoch, write < 2 ? 0 : 1);
    }
    block_recording_done(&recording);
    ck_assert_uint_eq(recording.count, 0);
}
END_TEST

START_TEST(recorder_puts_late_writes_after_the_flush) {
    Held held;
    _cleanup_(block_freep) BlockDevice *device = NULL;
    BlockRecording recording = {.writes = NULL};
    _cleanup_free_ Counted *early = counted_new(BLOCK_WRITE, 0, 512);
    _cleanup_free_ Counted *late = counted_new(BLOCK_WRITE, 512, 512);
    _cleanup_free_ Counted *flush = counted_new(BLOCK_FLUSH, 0, 0);

    held_init(&held);
    ck_assert_int_eq(block_recorder_new(&held.device, &recording, &device), 0);
    block_submit(device, &early->request);
    held_end(&held, 0, 0);
    block_submit(device, &late->request);
    block_submit(device, &flush->request);
    held_end(&held, 0, 0); /* late completes under the flush */
    ck_assert_uint_eq(recording.writes[1].epoch, 0);
    held_end(&held, 0, 0);
    ck_assert_uint_eq(flush->done, 1);
    ck_assert_uint_eq(recording.writes[0].epoch, 0);
    ck_assert_uint_eq(recording.writes[1].epoch, 1);
    ck_assert_uint_eq(recording.durable, 1);
    ck_assert_uint_eq(device->unflushed, 1);
    block_recording_done(&recording);
}
END_TEST

/* Of operations that are slow all the time hardly any is done at once; quick ones bring it back. */
START_TEST(at_once_while_quick) {
    AtOnce at_once = {.quick_ns = 1000};
    unsigned tried = 0;

    for (unsigned i = 0; i < 100; i++) {
        ck_assert(at_once_next(&at_once));
        at_once_took(&at_once, 1000);
    }
    for (unsigned i = 0; i < 2000; i++) {
        if (at_once_next(&at_once)) {
            tried++;
            at_once_took(&at_once, 1001);
        }
    }
    ck_assert_uint_ge(tried, 8);
    ck_assert_uint_le(tried, 16);
    for (unsigned i = 0; i < 256 && !at_once_next(&at_once); i++) {
    }
    for (unsigned i = 0; i < 10; i++) {
        at_once_took(&at_once, 10);
        ck_assert(at_once_next(&at_once));
    }
    at_once_took(&at_once, 1001); /* once is bad luck */
    ck_assert(!at_once_next(&at_once));
    ck_assert(at_once_next(&at_once));
}
END_TEST

static Suite *block_suite(void) {
    Suite *suite = suite_create("block");
    TCase *plain = tcase_create("plain");

    tcase_add_test(plain, gate_refuses_what_is_outside);
    tcase_add_test(plain, gate_refuses_writes_and_bad_lists);
    tcase_add_test(plain, submit_is_never_done_before_it_returns);
    tcase_add_test(plain, a_loop_polls_by_itself);
    tcase_add_test(plain, batch_waits_for_all);
    tcase_add_test(plain, flush_is_free_until_something_is_written);
    tcase_add_test(plain, flush_covers_what_completed_before_it_began);
    tcase_add_test(plain, memory_and_slice_keep_what_is_written);
    tcase_add_test(plain, posix_keeps_what_is_written);
    tcase_add_test(plain, opening_checks_its_arguments);
    tcase_add_test(plain, trace_logs_every_request);
    tcase_add_test(plain, split_tiles_the_range_and_keeps_pages_whole);
    tcase_add_test(plain, batch_keeps_the_first_error);
    tcase_add_loop_test(plain, fault_fails_exactly_the_nth, 0, 2);
    tcase_add_test(plain, fault_tears_a_write);
    tcase_add_test(plain, fault_range_and_delay);
    tcase_add_test(plain, recorder_counts_epochs);
    tcase_add_test(plain, recorder_puts_late_writes_after_the_flush);
    tcase_add_test(plain, at_once_while_quick);
    suite_add_tcase(suite, plain);

    suite_add_tcase(suite, uring_cases_new());
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(block_suite());
    int failed;

    random_state = SEED;
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
