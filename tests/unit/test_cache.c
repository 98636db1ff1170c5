/* SPDX-License-Identifier: MIT */
/*
 * The buffer cache and its transactions: replacement, loading, random
 * transactions against a model with aborts and restarts forced everywhere,
 * write-out order under power cuts, freed ranges, objects, records.
 */
#include "cache_support.h"

#include "../../src/cache/fold.h"

/* ---- buffers ---- */

static uint64_t misses_of(Volume *volume, uint64_t first, uint64_t count) {
    uint64_t before = cache_stats(volume->cache)->misses;

    for (uint64_t i = first; i < first + count; i++) {
        Buffer *buffer;

        ck_assert_int_eq(cache_get(volume->cache, i, &buffer), 0);
        ck_assert_int_eq(memcmp(buffer->data, volume->model + i * BLOCK, BLOCK), 0);
        cache_put(buffer);
    }
    return cache_stats(volume->cache)->misses - before;
}

START_TEST(test_hits_and_limit) {
    Volume volume;
    Buffer *buffer;

    volume_open(&volume, 4000, (CacheConfig){.memory_limit = 128 * BLOCK});
    ck_assert_uint_eq(misses_of(&volume, 0, 10), 10);
    ck_assert_uint_eq(misses_of(&volume, 0, 10), 0);
    ck_assert_uint_eq(misses_of(&volume, 1000, 128), 128);
    ck_assert_uint_eq(misses_of(&volume, 0, 10), 10);
    /* They came back: now they are hot, and a scan cannot push them out. */
    ck_assert_uint_eq(misses_of(&volume, 2000, 1000), 1000);
    ck_assert_uint_eq(misses_of(&volume, 0, 10), 0);
    ck_assert_uint_le(cache_stats(volume.cache)->buffers, 128);
    ck_assert_int_eq(cache_get(volume.cache, 4000, &buffer), -ERANGE);
    ck_assert_int_eq(cache_get(volume.cache, UINT64_MAX, &buffer), -ERANGE);
    ck_assert_int_eq(cache_prefetch(volume.cache, 4000, 1), -ERANGE);
    volume_close(&volume);
}
END_TEST

START_TEST(test_prefetch) {
    Volume volume;

    volume_open(&volume, 4000, (CacheConfig){0});
    ck_assert_int_eq(cache_prefetch(volume.cache, 100, 1000), 0);
    ck_assert_uint_eq(volume.device->stats.reads, 1);
    ck_assert_uint_eq(cache_stats(volume.cache)->prefetched, 1000);
    ck_assert_uint_eq(misses_of(&volume, 100, 1000), 0);
    /* Past the end and over the limit is cut off. */
    ck_assert_int_eq(cache_prefetch(volume.cache, 3990, UINT64_MAX), 0);
    ck_assert_uint_eq(misses_of(&volume, 3990, 10), 0);
    ck_assert_int_eq(cache_prefetch(volume.cache, 1000, UINT64_MAX), 0);
    ck_assert_uint_eq(cache_stats(volume.cache)->prefetched, 1000 + 10 + 2048 - 100);
    volume_close(&volume);
}
END_TEST

START_TEST(test_read_errors) {
    BlockFaults faults = {.fail_range_start = 20 * BLOCK, .fail_range_length = 1};
    Volume volume = {0};
    Buffer *buffer;

    volume_fill(&volume, 100 * BLOCK);
    ck_assert_int_eq(block_fault_new(volume.memory, &faults, &volume.device), 0);
    volume_cache(&volume, (CacheConfig){0});
    ck_assert_int_eq(cache_prefetch(volume.cache, 10, 30), 0);
    ck_assert_uint_eq(misses_of(&volume, 10, 10), 0);
    ck_assert_uint_eq(misses_of(&volume, 21, 19), 0);
    ck_assert_int_eq(cache_get(volume.cache, 20, &buffer), -EIO);
    faults.fail_range_length = 0;
    ck_assert_uint_eq(misses_of(&volume, 20, 1), 1);
    volume_close(&volume);
}
END_TEST

START_TEST(test_short_last_block) {
    Volume volume = {0};
    Plan plan = {.volume = &volume, .count = 1};

    volume_fill(&volume, 10 * BLOCK + 100);
    volume_cache(&volume, (CacheConfig){0});
    plan.ops[0] = (Op){.kind = OP_WRITE, .block = 10, .offset = 50, .length = 10, .bytes = "last"};
    ck_assert_int_eq(plan_run(&plan), 0);
    volume_check_cache(&volume, 11);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    volume_check_medium(&volume);
    volume_close(&volume);
}
END_TEST

/* ---- transactions ---- */

typedef struct Hooked {
    Cache *cache;
    char *trace;
    int result;
} Hooked;

static void hook_x(void *arg) {
    strcat(arg, "x");
}

static void hook_y(void *arg) {
    strcat(arg, "y");
}

static int hooked_body(Txn *txn, void *arg) {
    Hooked *hooked = arg;

    ck_assert_ptr_eq(txn_current(hooked->cache), txn);
    strcat(hooked->trace, "b");
    ck_assert_int_eq(txn_on_commit(txn, hook_x, hooked->trace), 0);
    ck_assert_int_eq(txn_on_commit(txn, hook_y, hooked->trace), 0);
    ck_assert_int_eq(txn_on_abort(txn, hook_x, hooked->trace), 0);
    ck_assert_int_eq(txn_on_abort(txn, hook_y, hooked->trace), 0);
    return hooked->result;
}

START_TEST(test_hooks) {
    char trace[16] = "";
    Volume volume;
    Hooked hooked;

    volume_open(&volume, 10, (CacheConfig){0});
    hooked = (Hooked){.cache = volume.cache, .trace = trace};
    ck_assert_int_eq(txn_run(volume.cache, NULL, hooked_body, &hooked), 0);
    ck_assert_str_eq(trace, "bxy");
    ck_assert_ptr_null(txn_current(volume.cache));
    trace[0] = '\0';
    hooked.result = -EEXIST;
    ck_assert_int_eq(txn_run(volume.cache, NULL, hooked_body, &hooked), -EEXIST);
    ck_assert_str_eq(trace, "byx");
    ck_assert_uint_eq(cache_stats(volume.cache)->log_bytes, 0);
    volume_close(&volume);
}
END_TEST

START_TEST(test_random_transactions) {
    Volume volume;

    random_seed((uint64_t)_i);
    volume_open(&volume, 40, (CacheConfig){.log_size = 64 << 10, .memory_limit = 16 * BLOCK});
    for (unsigned i = 0; i < 3000; i++) {
        Plan plan;
        int r;

        plan_random(&plan, &volume, volume.blocks);
        plan.fail = random_below(10) == 0 ? -EEXIST : 0;
        r = plan_run(&plan);
        ck_assert_msg(r == plan.fail, "seed %d, transaction %u: %d", _i, i, r);
        if (random_below(20) == 0) {
            volume_check_cache(&volume, volume.blocks);
        }
        if (random_below(200) == 0) {
            ck_assert_int_eq(cache_sync(volume.cache), 0);
            volume_check_medium(&volume);
        }
    }
    volume_check_cache(&volume, volume.blocks);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    volume_check_medium(&volume);
    ck_assert_uint_gt(cache_stats(volume.cache)->checkpoints, 50);
    ck_assert_uint_gt(cache_stats(volume.cache)->batches, cache_stats(volume.cache)->checkpoints);
    ck_assert_uint_eq(cache_stats(volume.cache)->dirty_buffers, 0);
    volume_close(&volume);
}
END_TEST

START_TEST(test_abort_everywhere) {
    Volume volume;

    random_seed(7);
    volume_open(&volume, 12, (CacheConfig){.log_size = 64 << 10});
    for (unsigned i = 0; i < 300; i++) {
        Plan plan;
        int r;

        plan_random(&plan, &volume, volume.blocks);
        for (unsigned at = 1;; at++) {
            cache_debug(volume.cache)->writes = 0;
            cache_debug(volume.cache)->abort_at = at;
            r = plan_run(&plan);
            volume_check_cache(&volume, volume.blocks);
            if (r == 0) {
                break;
            }
            ck_assert_int_eq(r, -EIO);
            ck_assert_uint_le(at, 2 * plan.count);
        }
        cache_debug(volume.cache)->abort_at = 0;
    }
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    volume_check_medium(&volume);
    volume_close(&volume);
}
END_TEST

START_TEST(test_restart_everywhere) {
    Volume volume;

    random_seed(8);
    volume_open(&volume, 12, (CacheConfig){.log_size = 64 << 10});
    for (unsigned i = 0; i < 300; i++) {
        for (unsigned at = 1; at <= PLAN_MAX; at++) {
            Plan plan;

            plan_random(&plan, &volume, volume.blocks);
            cache_debug(volume.cache)->gets = 0;
            cache_debug(volume.cache)->restart_at = at;
            ck_assert_int_eq(plan_run(&plan), 0);
            if (cache_debug(volume.cache)->gets >= at) {
                ck_assert_uint_ge(plan.runs, 2);
            }
            cache_debug(volume.cache)->restart_at = 0;
        }
        volume_check_cache(&volume, volume.blocks);
    }
    cache_debug(volume.cache)->restart_all = true;
    for (unsigned i = 0; i < 300; i++) {
        Plan plan;
        uint64_t seen = 0;

        plan_random(&plan, &volume, volume.blocks);
        for (unsigned j = 0; j < plan.count; j++) {
            seen |= plan.ops[j].kind == OP_NEW ? 0 : UINT64_C(1) << plan.ops[j].block;
        }
        ck_assert_int_eq(plan_run(&plan), 0);
        ck_assert_uint_ge(plan.runs, 1 + (unsigned)__builtin_popcountll(seen));
    }
    volume_check_cache(&volume, volume.blocks);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    volume_check_medium(&volume);
    volume_close(&volume);
}
END_TEST

static int ignoring_body(Txn *txn, void *arg) {
    Plan *plan = arg;

    plan->runs++;
    for (unsigned i = 0; i < plan->count; i++) {
        (void)op_run(txn, plan->volume->cache, &plan->ops[i]);
    }
    return 0;
}

/* A body that ignores what it is told still cannot commit a part of its work. */
START_TEST(test_ignored_errors) {
    Volume volume;
    Plan plan;

    volume_open(&volume, 10, (CacheConfig){0});
    plan_random(&plan, &volume, volume.blocks);
    plan.count = 3;
    for (unsigned i = 0; i < 3; i++) {
        plan.ops[i].kind = OP_WRITE;
        plan.ops[i].class = 0;
    }
    cache_debug(volume.cache)->restart_at = 2;
    ck_assert_int_eq(txn_run(volume.cache, NULL, ignoring_body, &plan), 0);
    ck_assert_uint_eq(plan.runs, 2);
    plan_model(&plan);
    volume_check_cache(&volume, volume.blocks);
    plan.ops[1].bytes[0] ^= 1;
    cache_debug(volume.cache)->abort_at = cache_debug(volume.cache)->writes + 2;
    ck_assert_int_eq(txn_run(volume.cache, NULL, ignoring_body, &plan), -EIO);
    volume_check_cache(&volume, volume.blocks);
    volume_close(&volume);
}
END_TEST

typedef struct Big {
    Cache *cache;
    unsigned blocks;
} Big;

static int big_body(Txn *txn, void *arg) {
    const Big *big = arg;

    for (unsigned i = 0; i < big->blocks; i++) {
        const Op op = {.kind = OP_WRITE, .block = i, .length = 1, .bytes = {(uint8_t)i}};
        int r = op_run(txn, big->cache, &op);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

START_TEST(test_too_big) {
    Volume volume;
    Big big;

    volume_open(&volume, 2000, (CacheConfig){.log_size = 512 << 10});
    big = (Big){.cache = volume.cache, .blocks = 2000};
    ck_assert_int_eq(txn_run(volume.cache, NULL, big_body, &big), -E2BIG);
    volume_check_cache(&volume, volume.blocks);
    /* More than the first reservation is a matter of restarts. */
    big.blocks = 200;
    ck_assert_int_eq(txn_run(volume.cache, NULL, big_body, &big), 0);
    ck_assert_uint_ge(cache_stats(volume.cache)->restarts, 2);
    for (unsigned i = 0; i < big.blocks; i++) {
        volume.model[i * BLOCK] = (uint8_t)i;
    }
    volume_check_cache(&volume, volume.blocks);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    volume_check_medium(&volume);
    volume_close(&volume);
}
END_TEST

static int run_op(Volume *volume, Op op) {
    Plan plan = {.volume = volume, .count = 1, .ops = {op}};

    return plan_run(&plan);
}

static int run_two_ops(Volume *volume, Op first, Op second) {
    Plan plan = {.volume = volume, .count = 2, .ops = {first, second}};

    return plan_run(&plan);
}

START_TEST(test_bad_arguments) {
    Volume volume;

    volume_open(&volume, 10, (CacheConfig){0});
    ck_assert_int_eq(run_op(&volume, (Op){.block = 10, .length = 1}), -ERANGE);
    ck_assert_int_eq(run_op(&volume, (Op){.kind = OP_NEW, .block = 10}), -ERANGE);
    ck_assert_int_eq(run_op(&volume, (Op){.offset = 510, .length = 3}), -ERANGE);
    ck_assert_int_eq(run_op(&volume, (Op){.offset = UINT32_MAX, .length = 3}), -ERANGE);
    ck_assert_int_eq(run_op(&volume, (Op){.offset = 510, .length = 2}), 0);
    volume_close(&volume);
}
END_TEST

/* ---- batches ---- */

static size_t batch_count(Volume *volume) {
    return cache_debug_batches(volume->cache, NULL, 0);
}

START_TEST(test_regress) {
    Op bytes = {.kind = OP_WRITE, .block = 1, .offset = 10, .length = 10, .class = 3};
    Op nibble = {.kind = OP_BITS, .block = 2, .length = 1, .class = 5, .mask = {0x0f}};
    Volume volume;

    volume_open(&volume, 10, (CacheConfig){0});
    ck_assert_int_eq(run_op(&volume, bytes), 0);
    ck_assert_uint_eq(batch_count(&volume), 1);
    /* Beside those bytes, or upwards: no matter. */
    bytes.class = 1;
    bytes.offset = 20;
    ck_assert_int_eq(run_op(&volume, bytes), 0);
    bytes.class = 4;
    bytes.offset = 15;
    ck_assert_int_eq(run_op(&volume, bytes), 0);
    ck_assert_uint_eq(batch_count(&volume), 1);
    /* One byte of class 4 is hit. */
    bytes.class = 3;
    bytes.offset = 24;
    ck_assert_int_eq(run_op(&volume, bytes), 0);
    ck_assert_uint_eq(batch_count(&volume), 2);
    /* Halves of one byte do not know each other. */
    ck_assert_int_eq(run_op(&volume, nibble), 0);
    nibble.mask[0] = 0xf0;
    nibble.class = 0;
    ck_assert_int_eq(run_op(&volume, nibble), 0);
    ck_assert_uint_eq(batch_count(&volume), 2);
    nibble.mask[0] = 0x01;
    ck_assert_int_eq(run_op(&volume, nibble), 0);
    ck_assert_uint_eq(batch_count(&volume), 3);
    /* Zeros count for the whole block. */
    ck_assert_int_eq(run_op(&volume, (Op){.kind = OP_NEW, .block = 3, .class = 2}), 0);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .length = 1, .class = 2}), 0);
    ck_assert_uint_eq(batch_count(&volume), 3);
    ck_assert_int_eq(run_op(&volume, (Op){.block = 3, .offset = 9, .length = 1, .class = 1}), 0);
    ck_assert_uint_eq(batch_count(&volume), 4);
    volume_check_cache(&volume, volume.blocks);
    ck_assert_int_eq(cache_sync(volume.cache), 0);
    ck_assert_uint_eq(cache_stats(volume.cache)->batches, 4);
    volume_check_medium(&volume);
    volume_close(&volume);
}
END_TEST

/* An attempt that began a batch and failed leaves the old batch's classes as they were. */
START_TEST(test_regress_then_abort) {
    Volume volume;
    Plan plan = {.volume = &volume, .count = 1, .fail = -EEXIST};

    volume_open(&volume, 10, (CacheConfig){0});
    plan.ops[0] = (Op){.block = 1, .offset = 10, .length = 10, .class = 1};
    ck_assert_int_eq(run_op(&volume, (Op){.block = 1, .offset = 15, .length = 1, .class = 3}), 0);
    ck_assert_int_eq(plan_run(&plan), -EEXIST);
    ck_assert_uint_eq(plan.runs, 2);
    ck_assert_uint_eq(batch_count(&volume), 1);
    plan.fail = 0;
    ck_assert_int_eq(plan_run(&plan), 0);
    ck_assert_uint_eq(plan.runs, 4);
    ck_assert_uint_eq(batch_count(&volume), 2);
    volume_close(&volume);
}
END_TEST

START_TEST(test_regress_inside_one) {
    Op high = {.kind = OP_WRITE, .block = 1, .offset = 10, .length = 10, .class = 3};
    Op low = {.kind = OP_WRITE, .block = 1, .offset = 19, .length = 1, .class = 2};
    Volume volume;

    volume_open(&volume, 10, (CacheConfig){0});
    ck_assert_int_eq(run_two_ops(&volume, low, high), 0);
    ck_assert_int_eq(run_two_ops(&volume, high, low), -EUCLEAN);
    volume_check_cache(&volume, volume.blocks);
    low.offset = 20;
    ck_assert_int_eq(run_two_ops(&volume, high, low), 0);
    volume_check_cache(&volume, volume.blocks);
    volume_close(&volume);
}
END_TEST

static void apply_fold(void *arg, uint64_t block, const uint8_t *data) {
    memcpy((uint8_t *)arg + block * BLOCK, data, BLOCK);
}

/* All classes of all batches give the committed state; stepping does the same to the medium. */
START_TEST(test_fold_is_redo) {
    static CacheDebugBatch batches[256];
    uint8_t *image;
    Volume volume;
    size_t count;

    random_seed((uint64_t)_i);
    volume_open(&volume, 30, (CacheConfig){.log_size = 4 << 20});
    image = malloc(30 * BLOCK);
    memcpy(image, volume.model, 30 * BLOCK);
    cache_debug_hold_checkpoints(volume.cache, true);
    for (unsigned i = 0; i < 200; i++) {
        Plan plan;

        plan_random(&plan, &volume, volume.blocks);
        ck_assert_int_eq(plan_run(&plan), 0);
    }
    count = cache_debug_batches(volume.cache, batches, ARRAY_SIZE(batches));
    ck_assert_uint_le(count, ARRAY_SIZE(batches));
    ck_assert_uint_gt(count, 2);
    for (size_t i = 0; i < count; i++) {
        for (unsigned class = 0; class < TXN_CLASS_MAX; class ++) {
            ck_assert_int_eq(cache_debug_fold(volume.cache, batches[i].begin, batches[i].end, class,
                                              apply_fold, image),
                             0);
        }
    }
    ck_assert_int_eq(memcmp(image, volume.model, 30 * BLOCK), 0);
    ck_assert_uint_eq(volume.device->stats.writes, 0);
    while (cache_debug_step(volume.cache) > 0) {
    }
    volume_check_medium(&volume);
    free(image);
    volume_close(&volume);
}
END_TEST

/* ---- objects ---- */

typedef struct ObjectOp {
    Cache *cache;
    uint64_t file_id;
    TxnObjectKind kind;
    const char *blob; /* NULL: remove */
    int result;
} ObjectOp;

static int object_body(Txn *txn, void *arg) {
    const ObjectOp *op = arg;
    uint32_t length = op->blob == NULL ? 0 : (uint32_t)strlen(op->blob);
    char blob[TXN_OBJECT_BLOB_MAX];
    int r;

    r = op->blob == NULL ? txn_object_remove(txn, op->file_id, op->kind)
                         : txn_object_put(txn, op->file_id, op->kind, op->blob, length);
    if (r < 0) {
        return r;
    }
    /* It sees its own changes. */
    r = cache_object_get(op->cache, op->file_id, op->kind, blob, sizeof(blob));
    ck_assert_int_eq(r, op->blob == NULL ? -ENOENT : (int)length);
    ck_assert(r < 0 || memcmp(blob, op->blob, length) == 0);
    return op->result;
}

static void assert_object(Cache *cache, uint64_t file_id, TxnObjectKind kind, const char *blob) {
    char got[TXN_OBJECT_BLOB_MAX];
    int r = cache_object_get(cache, file_id, kind, got, sizeof(got));

    ck_assert_int_eq(r, blob == NULL ? -ENOENT : (int)strlen(blob));
    ck_assert(r < 0 || memcmp(got, blob, (size_t)r) == 0);
}

static int count_object(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                        uint32_t length) {
    (void)file_id;
    (void)kind;
    (void)blob;
    (void)length;
    ++*(unsigned *)arg;
    return 0;
}

START_TEST(test_objects) {
    Volume volume;
    ObjectOp op;

    volume_open(&volume, 10, (CacheConfig){0});
    op = (ObjectOp){.cache = volume.cache, .file_id = 7, .kind = TXN_OBJECT_ORPHAN, .blob = "one"};
    ck_assert_int_eq(txn_run(volume.cache, NULL, object_body, &op), 0);
    assert_object(volume.cache, 7, TXN_OBJECT_ORPHAN, "one");
    assert_object(volume.cache, 7, TXN_OBJECT_ALIAS, NULL);
    op.result = -EIO;
    op.blob = "two";
    ck_assert_int_eq(txn_run(volume.cache, NULL, object_body, &op), -EIO);
    assert_object(volume.cache, 7, TXN_OBJECT_ORPHAN, "one");
    op.blob = NULL;
    ck_assert_int_eq(txn_run(volume.cache, NULL, object_body, &op), -EIO);
    assert_object(volume.cache, 7, TXN_OBJECT_ORPHAN, "one");
    op.result = 0;
    ck_assert_int_eq(txn_run(volume.cache, NULL, object_body, &op), 0);
    assert_object(volume.cache, 7, TXN_OBJECT_ORPHAN, NULL);
    volume_close(&volume);
}
END_TEST

START_TEST(test_objects_full) {
    unsigned count = 0;
    Volume volume;
    ObjectOp op;

    volume_open(&volume, 10, (CacheConfig){.log_size = 64 << 10});
    op = (ObjectOp){.cache = volume.cache, .kind = TXN_OBJECT_ALIAS, .blob = "x"};
    for (op.file_id = 0; op.file_id < 4096; op.file_id++) {
        ck_assert_int_eq(txn_run(volume.cache, NULL, object_body, &op), 0);
    }
    ck_assert_int_eq(txn_run(volume.cache, NULL, object_body, &op), -ENOSPC);
    /* Replacing needs no room. */
    op.file_id = 17;
    op.blob = "y";
    ck_assert_int_eq(txn_run(volume.cache, NULL, object_body, &op), 0);
    op.blob = NULL;
    for (op.file_id = 0; op.file_id < 4096; op.file_id += 2) {
        ck_assert_int_eq(txn_run(volume.cache, NULL, object_body, &op), 0);
    }
    for (uint64_t id = 0; id < 4096; id++) {
        assert_object(volume.cache, id, TXN_OBJECT_ALIAS,
                      id % 2 == 0 ? NULL : (id == 17 ? "y" : "x"));
    }
    ck_assert_int_eq(cache_object_iterate(volume.cache, count_object, &count), 0);
    ck_assert_uint_eq(count, 2048);
    volume_close(&volume);
}
END_TEST

/* ---- records ---- */

static int encode_reply(void *arg, uint8_t *buf, uint32_t capacity) {
    int length = *(int *)arg;

    ck_assert_uint_eq(capacity, 256);
    for (int i = 0; i < length && i < 256; i++) {
        buf[i] = (uint8_t)(i + 1);
    }
    return length;
}

START_TEST(test_replies) {
    int lengths[] = {0, 1, 100, 256};
    Volume volume;
    TxnReply reply = {.slot = 4095, .seq = 9, .encode = encode_reply};
    Plan plan = {.volume = &volume, .count = 1};
    int length;

    volume_open(&volume, 10, (CacheConfig){0});
    plan.ops[0] = (Op){.block = 1, .length = 1, .bytes = {1}};
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        reply.arg = &lengths[i];
        ck_assert_int_eq(txn_run(volume.cache, &reply, plan_body, &plan), 0);
    }
    /* A reply that cannot be encoded undoes the operation. */
    plan_model(&plan);
    plan.ops[0].bytes[0] = 2;
    reply.arg = &length;
    length = 257;
    ck_assert_int_eq(txn_run(volume.cache, &reply, plan_body, &plan), -EMSGSIZE);
    length = -ENOMEM;
    ck_assert_int_eq(txn_run(volume.cache, &reply, plan_body, &plan), -ENOMEM);
    reply.slot = 4096;
    ck_assert_int_eq(txn_run(volume.cache, &reply, plan_body, &plan), -EINVAL);
    volume_check_cache(&volume, volume.blocks);
    volume_close(&volume);
}
END_TEST

#define RING_SIZE 8192u

/* A ring "mapped twice": two copies in a row. */
typedef struct Ring {
    uint8_t bytes[2 * RING_SIZE];
    LogView view;
    uint64_t lsn, head;
} Ring;

static void ring_build(Ring *ring, uint64_t lsn) {
    static const uint8_t text[] = "some bytes of a block", mask[] = {1, 2, 3};
    uint8_t base[BLOCK];
    const LogItem items[] = {
        {.type = ITEM_BASE, .block = 3, .length = BLOCK, .bytes = base},
        {.type = ITEM_RANGE, .block = 3, .offset = 9, .length = 5, .class = 1, .bytes = text},
        {.type = ITEM_RANGE, .block = 3, .offset = 14, .length = 5, .class = 1, .bytes = text + 5},
        {.type = ITEM_RANGE, .block = 3, .offset = 20, .length = 2, .class = 1, .bytes = text},
        {.type = ITEM_BITS, .block = 3, .length = 3, .class = 2, .mask = mask, .bytes = text},
        {.type = ITEM_ZERO, .block = 4, .class = 7},
        {.type = ITEM_FREE, .block = 90, .count = 10},
        {.type = ITEM_OBJECT, .block = 77, .class = 2, .offset = 1, .length = 4, .bytes = text},
    };
    RecordBuilder builder;

    memset(base, 0x5a, sizeof(base));
    *ring = (Ring){.lsn = lsn};
    ring->view = (LogView){
        .ring = ring->bytes, .ring_size = RING_SIZE, .block_size = BLOCK, .block_count = 100};
    record_begin(&builder, ring->bytes + lsn % RING_SIZE, 2048);
    for (unsigned i = 0; i < ARRAY_SIZE(items); i++) {
        ck_assert_int_eq(record_append(&builder, &items[i]), 0);
    }
    ck_assert_uint_eq(builder.items, ARRAY_SIZE(items) - 1);
    ring->head = lsn + record_finish(&builder, lsn, 5, 6, RECORD_STARTS_BATCH, text, 21);
}

/* Reads the record as a successor would. */
static int ring_read(const Ring *ring, LogRecord *record, unsigned *ret_items) {
    int r = record_decode(&ring->view, ring->lsn, ring->head, record);
    LogCursor cursor = {0};
    LogItem item;

    *ret_items = 0;
    while (r == 0 && (r = record_next(&ring->view, record, &cursor, &item)) > 0) {
        uint8_t block[BLOCK];

        record_item_apply(&item, block, BLOCK);
        ++*ret_items;
        r = 0;
    }
    return r;
}

START_TEST(test_record_round_trip) {
    static Ring ring;
    LogCursor cursor = {0};
    LogRecord record;
    LogItem item;
    unsigned items;

    ring_build(&ring, 3 * RING_SIZE - 512);
    ck_assert_int_eq(ring_read(&ring, &record, &items), 0);
    ck_assert_uint_eq(items, 7);
    ck_assert_uint_eq(record.end, ring.head);
    ck_assert_uint_eq(record.slot, 5);
    ck_assert_uint_eq(record.seq, 6);
    ck_assert(record.starts_batch);
    ck_assert_uint_eq(record.reply_length, 21);
    ck_assert_str_eq((const char *)record.reply, "some bytes of a block");
    (void)record_next(&ring.view, &record, &cursor, &item);
    (void)record_next(&ring.view, &record, &cursor, &item);
    ck_assert_int_eq(item.type, ITEM_RANGE);
    ck_assert_uint_eq(item.length, 10);
    ck_assert_int_eq(memcmp(item.bytes, "some bytes", 10), 0);
    /* Not from another place, and not past head. */
    ck_assert_int_eq(record_decode(&ring.view, ring.lsn + RING_SIZE, UINT64_MAX, &record),
                     -EUCLEAN);
    ck_assert_int_eq(record_decode(&ring.view, ring.lsn, ring.head - 8, &record), -EUCLEAN);
    ck_assert_int_eq(record_decode(&ring.view, ring.lsn, ring.lsn, &record), -EUCLEAN);
}
END_TEST

START_TEST(test_record_bit_flips) {
    static Ring good, bad;
    LogRecord record;
    unsigned items;

    ring_build(&good, 5 * RING_SIZE + 64);
    for (uint64_t bit = 0; bit < 8 * (good.head - good.lsn); bit++) {
        bad = good;
        bad.view.ring = bad.bytes;
        bad.bytes[64 + bit / 8] ^= (uint8_t)(1U << bit % 8);
        ck_assert_msg(ring_read(&bad, &record, &items) == -EUCLEAN, "bit %u", (unsigned)bit);
    }
}
END_TEST

/* Behind a good checksum every field may still lie; a good lie must stay inside the record. */
START_TEST(test_record_lies) {
    static Ring ring;
    LogRecord record;
    Fold fold;

    random_seed((uint64_t)_i);
    for (unsigned i = 0; i < 20000; i++) {
        RecordBuilder builder;
        unsigned items;
        int r;

        ring_build(&ring, RING_SIZE);
        builder = (RecordBuilder){.start = ring.bytes, .items = random_below(9)};
        builder.used = 48 + random_below(700);
        for (unsigned j = 0; j < 3; j++) {
            uint32_t at = 48 + (random_below(2) ? 532 : 0) + random_below(120);

            ring.bytes[at] = random_below(2) ? 0xff : (uint8_t)random_next();
        }
        ring.head = ring.lsn + record_finish(&builder, ring.lsn, 5, 6, 0, ring.bytes, 0);
        r = ring_read(&ring, &record, &items);
        ck_assert(r == 0 || r == -EUCLEAN);
        if (fold_init(&fold, &ring.view, ring.lsn, ring.head) == 0) {
            for (size_t j = 0; j < fold.block_count; j++) {
                uint8_t block[BLOCK];

                ck_assert_int_eq(fold_block(&fold, &fold.blocks[j], 7, block), 0);
            }
            fold_done(&fold);
        }
    }
}
END_TEST

static Suite *cache_suite(void);

int main(void) {
    SRunner *runner = srunner_create(cache_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static Suite *cache_suite(void) {
    Suite *suite = suite_create("cache");
    TCase *buffers = tcase_create("buffers");
    TCase *transactions = tcase_create("transactions");
    TCase *batches = tcase_create("batches");
    TCase *records = tcase_create("records");

    tcase_add_test(buffers, test_hits_and_limit);
    tcase_add_test(buffers, test_prefetch);
    tcase_add_test(buffers, test_read_errors);
    tcase_add_test(buffers, test_short_last_block);
    suite_add_tcase(suite, buffers);
    tcase_add_test(transactions, test_hooks);
    tcase_add_loop_test(transactions, test_random_transactions, 1, 5);
    tcase_add_test(transactions, test_abort_everywhere);
    tcase_add_test(transactions, test_restart_everywhere);
    tcase_add_test(transactions, test_ignored_errors);
    tcase_add_test(transactions, test_too_big);
    tcase_add_test(transactions, test_bad_arguments);
    tcase_set_timeout(transactions, 60);
    suite_add_tcase(suite, transactions);
    tcase_add_test(batches, test_regress);
    tcase_add_test(batches, test_regress_inside_one);
    tcase_add_test(batches, test_regress_then_abort);
    tcase_add_loop_test(batches, test_fold_is_redo, 1, 10);
    suite_add_tcase(suite, batches);
    tcase_add_test(records, test_objects);
    tcase_add_test(records, test_objects_full);
    tcase_add_test(records, test_replies);
    tcase_add_test(records, test_record_round_trip);
    tcase_add_test(records, test_record_bit_flips);
    tcase_add_loop_test(records, test_record_lies, 1, 4);
    suite_add_tcase(suite, records);
    return suite;
}
