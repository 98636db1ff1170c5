/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the cache share: seeded random numbers, transactions as
 * data (so that a restarted body repeats itself) with a model of what they do,
 * and a device that suspends and ends its requests late and out of order.
 */
#ifndef BERTH_TEST_CACHE_SUPPORT_H
#define BERTH_TEST_CACHE_SUPPORT_H

#include "../../src/block/internal.h"
#include "berth/cache.h"
#include <check.h>
#include <stdio.h>

#define BLOCK 512u

static uint64_t random_state = 1;

static inline void random_seed(uint64_t seed) {
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static inline uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state >> 8;
}

static inline uint32_t random_below(uint64_t bound) {
    return (uint32_t)(random_next() % bound);
}

/* ---- a volume in memory ---- */

typedef struct Volume {
    BlockDevice *memory; /* what is on the medium */
    BlockDevice *device; /* what the cache writes to: memory, or stacked on it */
    Cache *cache;
    uint8_t *model; /* committed state */
    uint64_t blocks;
    uint64_t released_blocks;
    int failed;
} Volume;

static inline void volume_released(void *arg, uint64_t start, uint64_t count) {
    Volume *volume = arg;

    (void)start;
    volume->released_blocks += count;
}

static inline void volume_failed(void *arg, int error) {
    Volume *volume = arg;

    ck_assert_int_eq(volume->failed, 0);
    volume->failed = error;
}

static inline void volume_fill(Volume *volume, uint64_t size) {
    volume->blocks = div_ceil(size, BLOCK);
    ck_assert_int_eq(block_memory_new(size, BLOCK, NULL, &volume->memory), 0);
    volume->model = calloc(volume->blocks, BLOCK);
    ck_assert_ptr_nonnull(volume->model);
    for (uint64_t i = 0; i < size; i++) {
        volume->model[i] = (uint8_t)random_next();
    }
    memcpy(block_memory_data(volume->memory), volume->model, size);
    volume->device = volume->memory;
}

static inline void volume_cache(Volume *volume, CacheConfig config) {
    config.device = volume->device;
    config.block_size = BLOCK;
    config.released = volume_released;
    config.failed = volume_failed;
    config.arg = volume;
    ck_assert_int_eq(cache_new(&config, &volume->cache), 0);
}

static inline void volume_open(Volume *volume, uint64_t blocks, CacheConfig config) {
    *volume = (Volume){0};
    volume_fill(volume, blocks * BLOCK);
    volume_cache(volume, config);
}

static inline void volume_close(Volume *volume) {
    (void)cache_free(volume->cache);
    if (volume->device != volume->memory) {
        (void)block_free(volume->device);
    }
    (void)block_free(volume->memory);
    free(volume->model);
}

/* The committed state as the cache shows it. */
static inline void volume_check_cache(Volume *volume, uint64_t blocks) {
    for (uint64_t i = 0; i < blocks; i++) {
        Buffer *buffer;

        ck_assert_int_eq(cache_get(volume->cache, i, &buffer), 0);
        ck_assert_msg(memcmp(buffer->data, volume->model + i * BLOCK, BLOCK) == 0,
                      "block %u differs from the model", (unsigned)i);
        cache_put(buffer);
    }
}

static inline void volume_check_medium(Volume *volume) {
    const uint8_t *data = block_memory_data(volume->memory);

    for (uint64_t i = 0; i < volume->memory->size; i++) {
        ck_assert_msg(data[i] == volume->model[i], "byte %u of block %u on the medium is wrong",
                      (unsigned)(i % BLOCK), (unsigned)(i / BLOCK));
    }
}

/* ---- transactions as data ---- */

typedef enum OpKind { OP_WRITE, OP_BITS, OP_NEW } OpKind;

typedef struct Op {
    OpKind kind;
    uint64_t block;
    uint32_t offset, length;
    unsigned class;
    uint8_t bytes[24], mask[24];
} Op;

#define PLAN_MAX 12
typedef struct Plan {
    Volume *volume;
    Op ops[PLAN_MAX];
    unsigned count;
    int fail; /* the body gives this after its work */
    unsigned runs;
    uint32_t saved; /* in-core state under txn_save() */
} Plan;

/* Classes of one plan rise, so that no byte is written with falling ones. */
static inline void plan_random(Plan *plan, Volume *volume, uint64_t blocks) {
    unsigned class = random_below(TXN_CLASS_MAX);

    *plan = (Plan){.volume = volume, .count = 1 + random_below(PLAN_MAX)};
    for (unsigned i = 0; i < plan->count; i++) {
        Op *op = &plan->ops[i];

        op->kind = random_below(12) == 0 ? OP_NEW : (random_below(3) == 0 ? OP_BITS : OP_WRITE);
        op->block = random_below(blocks);
        op->length = 1 + random_below(sizeof(op->bytes));
        op->offset = random_below(BLOCK - op->length + 1);
        if (random_below(4) == 0) {
            class = MIN(class + 1, TXN_CLASS_MAX - 1u);
        }
        op->class = class;
        for (unsigned j = 0; j < op->length; j++) {
            op->bytes[j] = (uint8_t)random_next();
            op->mask[j] = (uint8_t)random_next();
        }
    }
}

static inline int op_run(Txn *txn, Cache *cache, const Op *op) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r;

    if (op->kind == OP_NEW) {
        return txn_new_block(txn, op->block, op->class, &buffer);
    }
    r = cache_get(cache, op->block, &buffer);
    if (r < 0) {
        return r;
    }
    if (op->kind == OP_BITS) {
        return txn_write_bits(txn, buffer, op->offset, op->bytes, op->mask, op->length, op->class);
    }
    return txn_write(txn, buffer, op->offset, op->bytes, op->length, op->class);
}

static inline int plan_body(Txn *txn, void *arg) {
    Plan *plan = arg;
    int r;

    plan->runs++;
    for (unsigned i = 0; i < plan->count; i++) {
        r = txn_save(txn, &plan->saved, sizeof(plan->saved));
        if (r < 0) {
            return r;
        }
        plan->saved++;
        r = op_run(txn, plan->volume->cache, &plan->ops[i]);
        if (r < 0) {
            return r;
        }
    }
    return plan->fail;
}

static inline void plan_model(const Plan *plan) {
    for (unsigned i = 0; i < plan->count; i++) {
        const Op *op = &plan->ops[i];
        uint8_t *data = plan->volume->model + op->block * BLOCK;

        if (op->kind == OP_NEW) {
            memset(data, 0, BLOCK);
            continue;
        }
        for (unsigned j = 0; j < op->length; j++) {
            uint8_t mask = op->kind == OP_BITS ? op->mask[j] : 0xff;
            uint8_t *byte = &data[op->offset + j];

            *byte = (uint8_t)((*byte & ~mask) | (op->bytes[j] & mask));
        }
    }
}

/* Runs it and keeps the model: what was committed is in it, nothing else is. */
static inline int plan_run(Plan *plan) {
    int r;

    plan->saved = 0;
    r = txn_run(plan->volume->cache, NULL, plan_body, plan);
    ck_assert_uint_eq(plan->saved, r < 0 ? 0 : plan->count);
    if (r >= 0) {
        plan_model(plan);
    }
    return r;
}

/* ---- a device that suspends ---- */

/* Keeps requests until pump_one() ends one of them, any one; its work is done only then. */
typedef struct SlowDevice {
    BlockBackend backend;
    BlockDevice *lower;
    BlockRequest *waiting[256];
    unsigned count;
    bool stopped; /* nothing ends */
} SlowDevice;

static inline void slow_submit(BlockDevice *device, BlockRequest *request) {
    SlowDevice *slow = device->state;

    ck_assert_uint_lt(slow->count, ARRAY_SIZE(slow->waiting));
    slow->waiting[slow->count++] = request;
}

static inline void slow_free(BlockDevice *device) {
    (void)device;
}

static inline void slow_open(SlowDevice *slow, Volume *volume) {
    *slow = (SlowDevice){
        .backend = {.name = "slow", .suspends = true, .submit = slow_submit, .free = slow_free},
        .lower = volume->memory,
    };
    volume->device = block_device_new(&slow->backend, slow, volume->memory->size, BLOCK);
    ck_assert_ptr_nonnull(volume->device);
}

static inline bool slow_end_one(SlowDevice *slow) {
    BlockRequest *request;
    unsigned pick;
    int r = 0;

    if (slow->count == 0 || slow->stopped) {
        return false;
    }
    pick = random_below(slow->count);
    request = slow->waiting[pick];
    slow->waiting[pick] = slow->waiting[--slow->count];
    if (request->op == BLOCK_READ) {
        r = block_readv(slow->lower, request->offset, request->iov, request->iov_count);
    } else if (request->op == BLOCK_WRITE) {
        r = block_writev(slow->lower, request->offset, request->iov, request->iov_count);
    } else {
        r = block_flush(slow->lower);
    }
    block_complete(request, r);
    return true;
}

/* Until every fiber has ended or all wait for a stopped device. */
static inline void slow_pump(SlowDevice *slow) {
    do {
        (void)fiber_run_ready();
    } while (slow_end_one(slow));
}

#endif
