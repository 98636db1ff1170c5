/* SPDX-License-Identifier: MIT */
/*
 * Write-out: freed ranges, fibers that go on while a checkpoint waits for its
 * device, who joins which checkpoint, failures, the timed commit.
 */
#include "cache_support.h"

/* ---- freed ranges ---- */

typedef struct Free {
    uint64_t start, count;
    int result;
} Free;

static int free_body(Txn *txn, void *arg) {
    const Free *range = arg;
    int r = txn_free_blocks(txn, range->start, range->count);

    return r < 0 ? r : range->result;
}

static void sum_range(void *arg, uint64_t start, uint64_t count) {
    (void)start;
    *(uint64_t *)arg += count;
}

START_TEST(test_freed_ranges) {
    Volume volume;
    Buffer *held, *again;
    uint64_t sum = 0;

    volume_open(&volume, 1000, (CacheConfig){0});
    ck_assert_int_eq(cache_get(volume.cache, 105, &held), 0);
    ck_assert_int_eq(txn_run(volume.cache, NULL, free_body, &(Free){100, 10, -EEXIST}), -EEXIST);
    ck_assert_uint_eq(cache_pending_blocks(volume.cache), 0);
    ck_assert_int_eq(txn_run(volume.cache, NULL, free_body, &(Free){100, 10, 0}), 0);
    ck_assert_int_eq(txn_run(volume.cache, NULL, free_body, &(Free){120, 5, 0}), 0);
    ck_assert_int_eq(txn_run(volume.cache, NULL, free_body, &(Free){990, 11, 0}), -ERANGE);
    /* Freed twice: corruption. */
    ck_assert_int_eq(txn_run(volume.cache, NULL, free_body, &(Free){90, 11, 0}), -EUCLEAN);
    ck_assert_int_eq(txn_run(volume.cache, NULL, free_body, &(Free){109, 1, 0}), -EUCLEAN);
    ck_assert_uint_eq(cache_pending_blocks(volume.cache), 15);
    ck_assert(cache_range_pending(volume.cache, 0, 101));
    ck_assert(!cache_range_pending(volume.cache, 0, 100));
    ck_assert(cache_range_pending(volume.cache, 109, 1));
    ck_assert(!cache_range_pending(volume.cache, 110, 10));
    ck_assert(cache_range_pending(volume.cache, 110, 11));
    cache_pending_iterate(volume.cache, 105, 100, sum_range, &sum);
    ck_assert_uint_eq(sum, 15);
    /* Held memory stays, but it is not the cache's any more. */
    ck_assert_int_eq(memcmp(held->data, volume.model + 105 * BLOCK, BLOCK), 0);
    ck_assert_int_eq(cache_get(volume.cache, 105, &again), 0);
    ck_assert_ptr_ne(held, again);
    cache_put(held);
    cache_put(again);
    ck_assert_uint_eq(volume.released_blocks, 0);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    ck_assert_uint_eq(volume.released_blocks, 15);
    ck_assert_uint_eq(cache_pending_blocks(volume.cache), 0);
    ck_assert(!cache_range_pending(volume.cache, 0, 1000));
    volume_close(&volume);
}
END_TEST

static int run_op(Volume *volume, Op op) {
    Plan plan = {.volume = volume, .count = 1, .ops = {op}};

    return plan_run(&plan);
}

/* A batch that is written releases its own ranges, not those of the next. */
START_TEST(test_release_by_batch) {
    Volume volume;

    volume_open(&volume, 100, (CacheConfig){0});
    cache_debug_hold_checkpoints(volume.cache, true);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .class = 1}), 0);
    ck_assert_int_eq(txn_run(volume.cache, NULL, free_body, &(Free){50, 2, 0}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .class = 0}), 0);
    ck_assert_int_eq(txn_run(volume.cache, NULL, free_body, &(Free){60, 5, 0}), 0);
    ck_assert_uint_eq(cache_debug_batches(volume.cache, NULL, 0), 2);
    ck_assert_int_eq(cache_debug_step(volume.cache), 1);
    ck_assert_uint_eq(volume.released_blocks, 2);
    ck_assert(!cache_range_pending(volume.cache, 50, 2));
    ck_assert(cache_range_pending(volume.cache, 60, 1));
    ck_assert_int_eq(cache_debug_step(volume.cache), 1);
    ck_assert_uint_eq(volume.released_blocks, 7);
    ck_assert_int_eq(cache_debug_step(volume.cache), 0);
    volume_close(&volume);
}
END_TEST

/* Many ranges against a plain map of blocks. */
START_TEST(test_freed_ranges_random) {
    static bool map[4000];
    Volume volume;

    random_seed((uint64_t)_i);
    volume_open(&volume, ARRAY_SIZE(map), (CacheConfig){0});
    for (unsigned round = 0; round < 3; round++) {
        memset(map, 0, sizeof(map));
        for (unsigned i = 0; i < 600; i++) {
            Free range = {random_below(3990), 1 + random_below(10), random_below(5) ? 0 : -EIO};
            bool overlap = false;
            int r;

            for (uint64_t j = range.start; j < range.start + range.count; j++) {
                overlap |= map[j];
            }
            ck_assert_int_eq(cache_range_pending(volume.cache, range.start, range.count), overlap);
            r = txn_run(volume.cache, NULL, free_body, &range);
            ck_assert_int_eq(r, overlap ? -EUCLEAN : range.result);
            if (r == 0) {
                memset(map + range.start, true, range.count);
            }
        }
        ck_assert_int_eq(cache_sync(volume.cache), 0);
        ck_assert_uint_eq(cache_pending_blocks(volume.cache), 0);
    }
    volume_close(&volume);
}
END_TEST

/* ---- fibers ---- */

#define WORKERS 6u

typedef struct Worker {
    Volume *volume;
    unsigned rounds;
    bool done;
} Worker;

static void worker_fiber(void *arg) {
    Worker *worker = arg;
    Volume *volume = worker->volume;

    for (unsigned i = 0; i < worker->rounds; i++) {
        uint64_t block = random_below(volume->blocks);
        Buffer *buffer;
        Plan plan;

        plan_random(&plan, volume, volume->blocks);
        plan.fail = random_below(10) == 0 ? -EEXIST : 0;
        ck_assert_int_eq(plan_run(&plan), plan.fail);
        ck_assert_int_eq(cache_get(volume->cache, block, &buffer), 0);
        ck_assert_int_eq(memcmp(buffer->data, volume->model + block * BLOCK, BLOCK), 0);
        cache_put(buffer);
        if (random_below(50) == 0) {
            ck_assert_int_eq(cache_sync(volume->cache), 0);
        }
        if (random_below(20) == 0) {
            ck_assert_int_eq(cache_prefetch(volume->cache, block, 10), 0);
        }
    }
    worker->done = true;
}

START_TEST(test_fibers_on_a_slow_device) {
    static SlowDevice slow;
    Worker workers[WORKERS];
    Volume volume = {0};

    random_seed((uint64_t)_i);
    ck_assert_int_eq(fiber_sched_init(32), 0);
    fiber_set_chaos((uint64_t)_i);
    volume_fill(&volume, 100 * BLOCK);
    slow_open(&slow, &volume);
    volume_cache(&volume, (CacheConfig){.log_size = 64 << 10, .memory_limit = 20 * BLOCK});
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (Worker){.volume = &volume, .rounds = 300};
        ck_assert_ptr_nonnull(fiber_spawn(worker_fiber, &workers[i], "worker"));
    }
    slow_pump(&slow);
    for (unsigned i = 0; i < WORKERS; i++) {
        ck_assert_msg(workers[i].done, "seed %d: worker %u hangs", _i, i);
    }
    ck_assert_uint_gt(cache_stats(volume.cache)->checkpoints, 10);
    ck_assert_uint_gt(cache_stats(volume.cache)->restarts, 100);
    ck_assert_uint_eq(fiber_count(), 0);
    workers[0].rounds = 0;
    volume_close(&volume);
    fiber_sched_done();
}
END_TEST

typedef struct SyncFiber {
    Volume *volume;
    int status;
    bool done;
} SyncFiber;

static void sync_fiber(void *arg) {
    SyncFiber *sync = arg;

    sync->status = cache_sync(sync->volume->cache);
    sync->done = true;
}

static void plan_fiber(void *arg) {
    Plan *plan = arg;

    ck_assert_int_eq(plan_run(plan), 0);
}

static void spawn_and_run(FiberFn *fn, void *arg) {
    ck_assert_ptr_nonnull(fiber_spawn(fn, arg, "test"));
    (void)fiber_run_ready();
}

/* Commits beside a checkpoint that waits: they are not in it, and a sync that comes then gets its
 * own. */
START_TEST(test_join) {
    static uint8_t before[10 * BLOCK];
    static SlowDevice slow;
    SyncFiber first, second;
    Volume volume = {0};
    Plan plan = {.volume = &volume, .count = 1};

    random_seed(3);
    ck_assert_int_eq(fiber_sched_init(8), 0);
    volume_fill(&volume, 10 * BLOCK);
    slow_open(&slow, &volume);
    volume_cache(&volume, (CacheConfig){0});
    plan.ops[0] = (Op){.kind = OP_WRITE, .block = 5, .length = 5, .bytes = "first"};
    ck_assert_ptr_nonnull(fiber_spawn(plan_fiber, &plan, "test"));
    slow_pump(&slow);
    ck_assert_uint_eq(plan.runs, 2);
    memcpy(before, volume.model, sizeof(before));

    slow.stopped = true;
    first = second = (SyncFiber){.volume = &volume};
    spawn_and_run(sync_fiber, &first);
    ck_assert_uint_eq(slow.count, 1);
    memcpy(plan.ops[0].bytes, "later", 5);
    spawn_and_run(plan_fiber, &plan);
    ck_assert_uint_eq(plan.runs, 3);
    spawn_and_run(sync_fiber, &second);
    ck_assert(!first.done && !second.done);

    /* Step by step, to see the medium when the first one ends. */
    slow.stopped = false;
    while (!first.done) {
        ck_assert(slow_end_one(&slow));
        ck_assert(!second.done);
        if (cache_stats(volume.cache)->batches == 0) {
            (void)fiber_run_ready();
        }
        if (first.done) {
            ck_assert_int_eq(memcmp(block_memory_data(volume.memory), before, sizeof(before)), 0);
        }
    }
    slow_pump(&slow);
    ck_assert(second.done);
    ck_assert_int_eq(first.status, 0);
    ck_assert_int_eq(second.status, 0);
    ck_assert_uint_eq(cache_stats(volume.cache)->checkpoints, 2);
    volume_check_medium(&volume);
    volume_close(&volume);
    fiber_sched_done();
}
END_TEST

static void get_fiber(void *arg) {
    Volume *volume = arg;
    Buffer *buffer;

    ck_assert_int_eq(cache_get(volume->cache, 7, &buffer), 0);
    ck_assert_int_eq(memcmp(buffer->data, volume->model + 7 * BLOCK, BLOCK), 0);
    cache_put(buffer);
    volume->released_blocks++;
}

/* Two fibers, one read; and a body that misses several blocks reads them together. */
START_TEST(test_shared_reads) {
    static SlowDevice slow;
    Volume volume = {0};
    Plan plan = {.volume = &volume, .count = 4};

    ck_assert_int_eq(fiber_sched_init(8), 0);
    volume_fill(&volume, 40 * BLOCK);
    slow_open(&slow, &volume);
    volume_cache(&volume, (CacheConfig){0});
    spawn_and_run(get_fiber, &volume);
    spawn_and_run(get_fiber, &volume);
    ck_assert_uint_eq(volume.released_blocks, 0);
    ck_assert_uint_eq(slow.count, 1);
    slow_pump(&slow);
    ck_assert_uint_eq(volume.released_blocks, 2);
    ck_assert_uint_eq(cache_stats(volume.cache)->misses, 1);
    for (unsigned i = 0; i < 4; i++) {
        plan.ops[i] = (Op){.kind = OP_WRITE, .block = 20 + i, .length = 1, .bytes = {1}};
    }
    ck_assert_ptr_nonnull(fiber_spawn(plan_fiber, &plan, "test"));
    slow_pump(&slow);
    ck_assert_uint_eq(plan.runs, 5);
    volume_close(&volume);
    fiber_sched_done();
}
END_TEST

/* The same workers on the real device. */
START_TEST(test_fibers_on_a_file) {
    char path[] = "/tmp/berth-test-cache-XXXXXX";
    Worker workers[WORKERS];
    Volume volume = {0};
    unsigned done = 0;
    uint8_t *image;
    Loop *loop;
    int fd = mkstemp(path);

    random_seed((uint64_t)_i);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(loop_new(&(LoopConfig){.no_ring = _i == 1}, &loop), 0);
    volume_fill(&volume, 100 * BLOCK);
    ck_assert_int_eq(pwrite(fd, volume.model, 100 * BLOCK, 0), 100 * BLOCK);
    ck_assert_int_eq(
        block_uring_new(&(BlockOpenConfig){.fd = fd, .direct = -1}, loop, &volume.device), 0);
    volume_cache(&volume, (CacheConfig){.log_size = 64 << 10, .memory_limit = 20 * BLOCK});
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (Worker){.volume = &volume, .rounds = 60};
        ck_assert_ptr_nonnull(fiber_spawn(worker_fiber, &workers[i], "worker"));
    }
    while (done < WORKERS) {
        ck_assert_int_eq(loop_step(loop, true), 0);
        for (done = 0; done < WORKERS && workers[done].done;) {
            done++;
        }
    }
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    image = malloc(100 * BLOCK);
    ck_assert_int_eq(pread(fd, image, 100 * BLOCK, 0), 100 * BLOCK);
    ck_assert_int_eq(memcmp(image, volume.model, 100 * BLOCK), 0);
    free(image);
    volume_close(&volume);
    (void)close(fd);
    (void)loop_free(loop);
}
END_TEST

/* ---- failures ---- */

static void open_faulty(Volume *volume, BlockFaults *faults) {
    *volume = (Volume){0};
    volume_fill(volume, 20 * BLOCK);
    ck_assert_int_eq(block_fault_new(volume->memory, faults, &volume->device), 0);
    volume_cache(volume, (CacheConfig){0});
}

START_TEST(test_write_failure) {
    BlockFaults faults = {0};
    Volume volume;

    open_faulty(&volume, &faults);
    /* Once is nothing. */
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .class = 2}), 0);
    faults.fail_write_at = 1;
    faults.tear = true;
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    volume_check_medium(&volume);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .class = 2}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 5, .length = 9, .class = 0}), 0);
    faults.fail_write_at = 1;
    faults.sticky = true;
    ck_assert_int_eq(cache_sync(volume.cache), -EIO);
    ck_assert_int_eq(volume.failed, -EIO);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1}), -EROFS);
    ck_assert_int_eq(cache_sync(volume.cache), -EIO);
    /* Nothing of it is lost in memory. */
    ck_assert_uint_eq(cache_debug_batches(volume.cache, NULL, 0), 1);
    volume_check_cache(&volume, volume.blocks);
    volume_close(&volume);
}
END_TEST

START_TEST(test_lost_data_is_told) {
    BlockFaults faults = {0};
    Volume volume;

    open_faulty(&volume, &faults);
    ck_assert_int_eq(block_write(volume.device, 0, volume.model, BLOCK), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1}), 0);
    faults.fail_flush_at = 1;
    ck_assert_int_eq(cache_sync(volume.cache), -EIO);
    ck_assert_int_eq(volume.failed, 0);
    volume_check_medium(&volume);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    /* With no record at all as well. */
    ck_assert_int_eq(block_write(volume.device, 0, volume.model, BLOCK), 0);
    faults.fail_flush_at = 1;
    ck_assert_int_eq(cache_sync(volume.cache), -EIO);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    volume_close(&volume);
}
END_TEST

/* What is on the medium of a batch is not taken back to an older class by a repetition. */
START_TEST(test_retry_goes_on) {
    BlockFaults faults = {0};
    Volume volume;
    uint64_t writes;

    open_faulty(&volume, &faults);
    cache_debug_hold_checkpoints(volume.cache, true);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .class = 0}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .offset = 9, .length = 1, .class = 1}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 4, .offset = 9, .length = 1, .class = 2}), 0);
    ck_assert_int_eq(cache_debug_step(volume.cache), 1);
    ck_assert_int_eq(cache_debug_step(volume.cache), 1);
    faults.fail_write_at = 1;
    ck_assert_int_eq(cache_debug_step(volume.cache), -EIO);
    writes = faults.writes;
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    ck_assert_uint_eq(faults.writes, writes + 1);
    ck_assert_int_eq(cache_debug_step(volume.cache), 0);
    volume_check_medium(&volume);
    volume_close(&volume);
}
END_TEST

START_TEST(test_flush_counts) {
    Volume volume;

    volume_open(&volume, 20, (CacheConfig){0});
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    ck_assert_uint_eq(volume.device->stats.flushes, 0);
    /* One sector: all classes at once. */
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .class = 0}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .offset = 9, .length = 1, .class = 4}), 0);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    ck_assert_uint_eq(volume.device->stats.writes, 1);
    ck_assert_uint_eq(volume.device->stats.flushes, 1);
    /* Two classes in two blocks, adjacent ones in one write. */
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .class = 1}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 4, .length = 1, .class = 1}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 9, .length = 1, .class = 7}), 0);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    ck_assert_uint_eq(volume.device->stats.writes, 3);
    ck_assert_uint_eq(volume.device->stats.flushes, 3);
    volume_check_medium(&volume);
    volume_close(&volume);
}
END_TEST

/* ---- which classes the batch has written ---- */

typedef struct Written {
    unsigned whole, bytes, beside, fresh, other;
} Written;

static int written_body(Txn *txn, void *arg) {
    *(Written *)arg = (Written){
        .whole = txn_class_written(txn, 3, 0, BLOCK),
        .bytes = txn_class_written(txn, 3, 15, 10),
        .beside = txn_class_written(txn, 3, 20, 1),
        .fresh = txn_class_written(txn, 4, 100, 1),
        .other = txn_class_written(txn, 9, 0, BLOCK),
    };
    return 0;
}

static void check_written(Volume *volume, Written expected) {
    Written written;

    ck_assert_int_eq(txn_run(volume->cache, NULL, written_body, &written), 0);
    ck_assert_uint_eq(written.whole, expected.whole);
    ck_assert_uint_eq(written.bytes, expected.bytes);
    ck_assert_uint_eq(written.beside, expected.beside);
    ck_assert_uint_eq(written.fresh, expected.fresh);
    ck_assert_uint_eq(written.other, expected.other);
}

START_TEST(test_class_written) {
    Volume volume;

    volume_open(&volume, 20, (CacheConfig){0});
    check_written(&volume, (Written){0});
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .offset = 10, .length = 10, .class = 3}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.kind = OP_NEW, .block = 4, .class = 2}), 0);
    check_written(&volume, (Written){.whole = 3, .bytes = 3, .fresh = 2});
    ck_assert_int_eq(run_op(&volume, (Op){.block = 4, .offset = 100, .length = 1, .class = 5}), 0);
    check_written(&volume, (Written){.whole = 3, .bytes = 3, .fresh = 5});
    /* A lower one begins a batch, which has written nothing else. */
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .offset = 12, .length = 1, .class = 1}), 0);
    check_written(&volume, (Written){.whole = 1});
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    check_written(&volume, (Written){0});
    volume_close(&volume);
}
END_TEST

/* ---- the timed commit ---- */

static void open_with_loop(Volume *volume, Loop **ret_loop, uint64_t commit_ns) {
    ck_assert_int_eq(loop_new(&(LoopConfig){0}, ret_loop), 0);
    *volume = (Volume){0};
    volume_fill(volume, 20 * BLOCK);
    volume_cache(volume,
                 (CacheConfig){.loop = *ret_loop, .commit_ns = commit_ns, .log_size = 64 << 10});
}

START_TEST(test_timed_commit) {
    Volume volume;
    Loop *loop;

    open_with_loop(&volume, &loop, 1);
    for (unsigned i = 1; i <= 3; i++) {
        ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .bytes = {(uint8_t)i}}), 0);
        while (cache_stats(volume.cache)->checkpoints < i) {
            ck_assert_int_eq(loop_step(loop, true), 0);
        }
        volume_check_medium(&volume);
    }
    /* Idle: nothing would ever wake the loop. */
    while (fiber_any_ready()) {
        ck_assert_int_eq(loop_step(loop, false), 0);
    }
    ck_assert_uint_eq(fiber_count(), 0);
    volume_close(&volume);
    (void)loop_free(loop);
}
END_TEST

START_TEST(test_half_full_commit) {
    Volume volume;
    Loop *loop;

    open_with_loop(&volume, &loop, UINT64_C(3600) * 1000000000);
    while (fiber_count() == 0) {
        ck_assert_int_eq(run_op(&volume, (Op){.block = random_below(20), .length = 1}), 0);
        ck_assert_uint_eq(cache_stats(volume.cache)->checkpoints, 0);
    }
    while (fiber_count() > 0) {
        ck_assert_int_eq(loop_step(loop, false), 0);
    }
    ck_assert_uint_eq(cache_stats(volume.cache)->checkpoints, 1);
    volume_check_medium(&volume);
    volume_close(&volume);
    (void)loop_free(loop);
}
END_TEST

/* Freed with the timer running, and with the fiber spawned but never run. */
START_TEST(test_free_while_pending) {
    Volume volume;
    Loop *loop;

    open_with_loop(&volume, &loop, UINT64_C(3600) * 1000000000);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1}), 0);
    volume_close(&volume);
    (void)loop_free(loop);
    open_with_loop(&volume, &loop, UINT64_C(3600) * 1000000000);
    while (fiber_count() == 0) {
        ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1}), 0);
    }
    volume_close(&volume);
    ck_assert_uint_eq(fiber_count(), 0);
    (void)loop_free(loop);
}
END_TEST

static Suite *writeout_suite(void) {
    Suite *suite = suite_create("cache write-out");
    TCase *fibers = tcase_create("fibers");
    TCase *rest = tcase_create("rest");

    tcase_set_timeout(fibers, 60);
    tcase_add_loop_test(fibers, test_fibers_on_a_slow_device, 0, 8);
    tcase_add_loop_test(fibers, test_fibers_on_a_file, 0, 2);
    tcase_add_test(fibers, test_join);
    tcase_add_test(fibers, test_shared_reads);
    suite_add_tcase(suite, fibers);
    tcase_add_test(rest, test_freed_ranges);
    tcase_add_test(rest, test_release_by_batch);
    tcase_add_loop_test(rest, test_freed_ranges_random, 1, 4);
    tcase_add_test(rest, test_write_failure);
    tcase_add_test(rest, test_lost_data_is_told);
    tcase_add_test(rest, test_retry_goes_on);
    tcase_add_test(rest, test_flush_counts);
    tcase_add_test(rest, test_class_written);
    tcase_add_test(rest, test_timed_commit);
    tcase_add_test(rest, test_half_full_commit);
    tcase_add_test(rest, test_free_while_pending);
    suite_add_tcase(suite, rest);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(writeout_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
