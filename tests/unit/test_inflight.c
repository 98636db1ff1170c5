/* SPDX-License-Identifier: MIT */
/*
 * The device that notes its writes in memory that outlives it: what lies there
 * when, who waits for a predecessor's writes, full tables, hostile ones.
 */
#include "cache_support.h"
#include <sys/mman.h>
#include <sys/wait.h>

#define ENTRIES 4u
#define SIZE (100 * BLOCK)

typedef struct Setup {
    Volume volume; /* ->device is the slow one */
    SlowDevice slow;
    BlockInflight table[ENTRIES];
    BlockDevice *device;
} Setup;

typedef struct Write {
    BlockRequest request;
    struct iovec iov;
    uint8_t bytes[2 * BLOCK];
    bool done;
} Write;

static void write_done(BlockRequest *request) {
    Write *write = request->arg;

    write->done = true;
}

static void submit(Setup *setup, Write *write, BlockOp op, uint64_t block, uint64_t blocks) {
    *write = (Write){0};
    memset(write->bytes, (int)block + 1, sizeof(write->bytes));
    write->iov = (struct iovec){.iov_base = write->bytes, .iov_len = blocks * BLOCK};
    write->request = (BlockRequest){.op = op,
                                    .offset = block * BLOCK,
                                    .length = blocks * BLOCK,
                                    .iov = op == BLOCK_FLUSH ? NULL : &write->iov,
                                    .iov_count = op != BLOCK_FLUSH,
                                    .done = write_done,
                                    .arg = write};
    block_submit(setup->device, &write->request);
}

static void open_setup(Setup *setup) {
    setup->volume = (Volume){0};
    volume_fill(&setup->volume, SIZE);
    slow_open(&setup->slow, &setup->volume);
    ck_assert_int_eq(
        block_inflight_new(setup->volume.device, setup->table, ENTRIES, &setup->device), 0);
}

static void close_setup(Setup *setup) {
    (void)block_free(setup->device);
    volume_close(&setup->volume);
}

/* Ends all that is under way in the lower device, and what follows from it. */
static void end_all(Setup *setup) {
    while (slow_end_one(&setup->slow)) {
        (void)block_poll(setup->device);
    }
}

static unsigned used(const Setup *setup) {
    unsigned count = 0;

    for (unsigned i = 0; i < ENTRIES; i++) {
        count += setup->table[i].length > 0;
    }
    return count;
}

static bool noted(const Setup *setup, uint64_t block, uint64_t blocks) {
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (setup->table[i].offset == block * BLOCK && setup->table[i].length == blocks * BLOCK) {
            return true;
        }
    }
    return false;
}

START_TEST(test_entries) {
    Setup setup = {0};
    Write writes[2], read, flush, discard;

    open_setup(&setup);
    ck_assert(block_suspends(setup.device));
    ck_assert_uint_eq(setup.device->size, SIZE);
    ck_assert(!block_inflight_unsettled(setup.device));
    submit(&setup, &writes[0], BLOCK_WRITE, 7, 2);
    submit(&setup, &writes[1], BLOCK_WRITE, 7, 1); /* nothing of ours waits for ours */
    submit(&setup, &discard, BLOCK_DISCARD, 50, 1);
    submit(&setup, &read, BLOCK_READ, 7, 2);
    ck_assert_uint_eq(setup.slow.count, 4);
    ck_assert_uint_eq(used(&setup), 3);
    ck_assert(noted(&setup, 7, 2) && noted(&setup, 7, 1) && noted(&setup, 50, 1));
    end_all(&setup);
    ck_assert(writes[0].done && writes[1].done && read.done && discard.done);
    ck_assert_uint_eq(used(&setup), 0);
    /* Its own gate counts what the lower one's counts. */
    ck_assert_uint_eq(setup.device->unflushed, 3);
    submit(&setup, &flush, BLOCK_FLUSH, 0, 0);
    ck_assert_uint_eq(setup.slow.count, 1);
    end_all(&setup);
    ck_assert_uint_eq(setup.device->unflushed, 0);
    ck_assert_uint_eq(setup.volume.device->unflushed, 0);
    close_setup(&setup);
}
END_TEST

START_TEST(test_overlap_waits) {
    Setup setup = {.table = {[1] = {10 * BLOCK, 5 * BLOCK}}};
    Write inside, before, across, after;

    open_setup(&setup);
    ck_assert(block_inflight_unsettled(setup.device));
    submit(&setup, &inside, BLOCK_WRITE, 12, 1);
    submit(&setup, &across, BLOCK_WRITE, 9, 2);
    submit(&setup, &before, BLOCK_WRITE, 8, 2);
    submit(&setup, &after, BLOCK_WRITE, 15, 1);
    ck_assert_uint_eq(setup.slow.count, 2);
    end_all(&setup);
    ck_assert(before.done && after.done && !inside.done && !across.done);
    /* The predecessor's entry stays: if we die now, our successor needs it. */
    ck_assert(noted(&setup, 10, 5));
    ck_assert_uint_eq(used(&setup), 1);
    /* A read does not wait. */
    submit(&setup, &before, BLOCK_READ, 12, 1);
    end_all(&setup);
    ck_assert(before.done);
    block_inflight_settled(setup.device);
    ck_assert(!block_inflight_unsettled(setup.device));
    ck_assert(noted(&setup, 12, 1) && noted(&setup, 9, 2) && !noted(&setup, 10, 5));
    block_inflight_settled(setup.device);
    ck_assert_uint_eq(used(&setup), 2);
    end_all(&setup);
    ck_assert(inside.done && across.done);
    ck_assert_uint_eq(used(&setup), 0);
    ck_assert_mem_eq(block_memory_data(setup.volume.memory) + 12 * BLOCK, inside.bytes, BLOCK);
    close_setup(&setup);
}
END_TEST

START_TEST(test_table_full) {
    Setup setup = {.table = {[0] = {90 * BLOCK, BLOCK}}};
    Write writes[6];

    open_setup(&setup);
    for (unsigned i = 0; i < 6; i++) {
        submit(&setup, &writes[i], BLOCK_WRITE, 10 * i, 1);
    }
    /* One entry is not ours. */
    ck_assert_uint_eq(setup.slow.count, 3);
    ck_assert_uint_eq(used(&setup), 4);
    ck_assert(slow_end_one(&setup.slow));
    ck_assert_uint_eq(setup.slow.count, 3);
    ck_assert(noted(&setup, 30, 1)); /* the first that waited */
    block_inflight_settled(setup.device);
    ck_assert_uint_eq(setup.slow.count, 4);
    ck_assert(noted(&setup, 40, 1));
    end_all(&setup);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert(writes[i].done && writes[i].request.result == 0);
    }
    ck_assert_uint_eq(used(&setup), 0);
    close_setup(&setup);
}
END_TEST

START_TEST(test_hostile_entries) {
    static const BlockInflight entries[] = {
        {SIZE, 1}, {0, SIZE + 1}, {UINT64_MAX, UINT64_MAX}, {UINT64_MAX - 10, 20}, {1, UINT64_MAX},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++) {
        Setup setup = {.table = {[2] = entries[i]}};
        Write write;

        open_setup(&setup);
        submit(&setup, &write, BLOCK_WRITE, 50, 1);
        ck_assert_uint_eq(setup.slow.count, 0);
        block_inflight_settled(setup.device);
        end_all(&setup);
        ck_assert(write.done);
        close_setup(&setup);
    }
}
END_TEST

/* All entries are a predecessor's: a write without overlap waits for one all the same. */
START_TEST(test_all_foreign) {
    Setup setup = {0};
    Write write;

    for (unsigned i = 0; i < ENTRIES; i++) {
        setup.table[i] = (BlockInflight){i * BLOCK, BLOCK};
    }
    open_setup(&setup);
    submit(&setup, &write, BLOCK_WRITE, 50, 1);
    ck_assert_uint_eq(setup.slow.count, 0);
    block_inflight_settled(setup.device);
    ck_assert_uint_eq(setup.slow.count, 1);
    end_all(&setup);
    ck_assert(write.done);
    close_setup(&setup);
}
END_TEST

/* The device may be made while the predecessor still works: its table is read when it matters. */
START_TEST(test_looks_late) {
    Setup setup = {0};
    Write write;

    open_setup(&setup);
    setup.table[3] = (BlockInflight){20 * BLOCK, BLOCK};
    submit(&setup, &write, BLOCK_WRITE, 20, 1);
    ck_assert_uint_eq(setup.slow.count, 0);
    block_inflight_settled(setup.device);
    end_all(&setup);
    ck_assert(write.done);
    close_setup(&setup);
}
END_TEST

/* A device that does not suspend leaves nothing under way when its process dies. */
START_TEST(test_in_place) {
    BlockInflight table[2] = {{0, SIZE}, {0, SIZE}};
    uint8_t bytes[BLOCK] = {1};
    Volume volume = {0};
    BlockDevice *device;

    volume_fill(&volume, SIZE);
    ck_assert_int_eq(block_inflight_new(volume.memory, table, 2, &device), 0);
    ck_assert(!block_suspends(device));
    ck_assert_int_eq(block_write(device, 5 * BLOCK, bytes, BLOCK), 0);
    ck_assert(!block_inflight_unsettled(device));
    ck_assert_uint_eq(table[0].length + table[1].length, 0);
    (void)block_free(device);
    volume_close(&volume);
}
END_TEST

/* A flush of everything reaches the medium through all layers, though nothing was written. */
START_TEST(test_forced_flush) {
    BlockInflight table[2] = {0};
    BlockFaults faults = {0};
    Volume volume = {0};
    BlockDevice *device, *slice;

    volume_fill(&volume, SIZE);
    ck_assert_int_eq(block_fault_new(volume.memory, &faults, &volume.device), 0);
    ck_assert_int_eq(block_slice_new(volume.device, 0, SIZE / 2, &slice), 0);
    ck_assert_int_eq(block_inflight_new(slice, table, 2, &device), 0);
    ck_assert_int_eq(block_flush(device), 0);
    ck_assert_uint_eq(faults.flushes, 0);
    ck_assert_int_eq(block_flush_all(device), 0);
    ck_assert_uint_eq(faults.flushes, 1);
    ck_assert_uint_eq(volume.memory->stats.flushes, 1);
    (void)block_free(device);
    (void)block_free(slice);
    volume_close(&volume);
}
END_TEST

/* A lower device that ends a request as it gets it, as one that fails at once does. */
static void hasty_submit(BlockDevice *device, BlockRequest *request) {
    (void)device;
    block_complete(request, -EIO);
}

START_TEST(test_many_end_at_once) {
    static Write writes[1000];
    BlockBackend hasty = {
        .name = "hasty", .suspends = true, .submit = hasty_submit, .free = slow_free};
    Setup setup = {.table = {[0] = {0, SIZE}}};
    BlockDevice *lower = block_device_new(&hasty, NULL, SIZE, BLOCK);

    ck_assert_ptr_nonnull(lower);
    ck_assert_int_eq(block_inflight_new(lower, setup.table, ENTRIES, &setup.device), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
        submit(&setup, &writes[i], BLOCK_WRITE, i % 90, 1);
    }
    block_inflight_settled(setup.device);
    (void)block_poll(setup.device);
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
        ck_assert(writes[i].done && writes[i].request.result == -EIO);
    }
    ck_assert_uint_eq(used(&setup), 0);
    (void)block_free(setup.device);
    (void)block_free(lower);
}
END_TEST

/* A process that dies leaves its writes in the table, and its predecessor's that were not settled.
 */
START_TEST(test_death) {
    BlockInflight *shared = mmap(NULL, sizeof(BlockInflight) * ENTRIES, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    Setup setup = {0};
    Write writes[3];
    pid_t child;
    int status;

    ck_assert_ptr_ne(shared, MAP_FAILED);
    shared[3] = (BlockInflight){70 * BLOCK, BLOCK};
    child = fork();
    ck_assert_int_ge(child, 0);
    volume_fill(&setup.volume, SIZE);
    slow_open(&setup.slow, &setup.volume);
    ck_assert_int_eq(block_inflight_new(setup.volume.device, shared, ENTRIES, &setup.device), 0);
    if (child == 0) {
        submit(&setup, &writes[0], BLOCK_WRITE, 5, 1);
        submit(&setup, &writes[1], BLOCK_WRITE, 8, 2);
        submit(&setup, &writes[2], BLOCK_WRITE, 70, 1);
        _exit(setup.slow.count == 2 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    submit(&setup, &writes[0], BLOCK_WRITE, 5, 1);
    submit(&setup, &writes[1], BLOCK_WRITE, 9, 1);
    submit(&setup, &writes[2], BLOCK_WRITE, 70, 1);
    ck_assert_uint_eq(setup.slow.count, 0);
    block_inflight_settled(setup.device);
    ck_assert_uint_eq(setup.slow.count, 3);
    end_all(&setup);
    close_setup(&setup);
    (void)munmap(shared, sizeof(BlockInflight) * ENTRIES);
}
END_TEST

static Suite *inflight_suite(void) {
    Suite *suite = suite_create("writes under way");
    TCase *cases = tcase_create("cases");

    tcase_add_test(cases, test_entries);
    tcase_add_test(cases, test_overlap_waits);
    tcase_add_test(cases, test_table_full);
    tcase_add_test(cases, test_hostile_entries);
    tcase_add_test(cases, test_all_foreign);
    tcase_add_test(cases, test_looks_late);
    tcase_add_test(cases, test_in_place);
    tcase_add_test(cases, test_forced_flush);
    tcase_add_test(cases, test_many_end_at_once);
    tcase_add_test(cases, test_death);
    suite_add_tcase(suite, cases);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(inflight_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
