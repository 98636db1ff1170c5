/* SPDX-License-Identifier: MIT */
/*
 * Reading missing blocks. Adjacent ones are read together through a bounce
 * buffer (one aligned large read, then copies), single ones straight into
 * their buffer; many reads are in flight at a time.
 *
 * Whoever finds a block absent makes its buffer in state LOADING and reads it;
 * others that want it meanwhile hold a reference and wait. A transaction may
 * detach a loading buffer (the block was freed or made anew): then what was
 * read is stale and everyone looks again.
 */
#include "internal.h"
#include <assert.h>

#define LOAD_MAX (1U << 20)
#define WAVE_RUNS 32
#define WAVE_BYTES (4U << 20)

typedef struct LoadRun {
    TxnMiss *first;
    size_t count;
    uint8_t *bounce; /* NULL: straight into the buffer */
} LoadRun;

static uint64_t run_offset(const Cache *cache, const LoadRun *run) {
    return run->first->block << cache->block_shift;
}

/* The device's last block may be short. */
static uint64_t run_length(const Cache *cache, const LoadRun *run) {
    uint64_t left = cache->config.device->size - run_offset(cache, run);

    return MIN((uint64_t)run->count << cache->block_shift, left);
}

/* ret_own: this call must read it. */
static void claim(Cache *cache, TxnMiss *miss, bool *ret_own) {
    CacheBuffer *buffer = cache_buffer_lookup(cache, miss->block);

    *ret_own = false;
    miss->error = 0;
    if (buffer != NULL) {
        cache_buffer_ref(buffer);
    } else {
        miss->error = cache_buffer_new(cache, miss->block, BUFFER_LOADING, &buffer);
        *ret_own = miss->error == 0;
    }
    miss->buffer = miss->error == 0 ? buffer : NULL;
}

static void publish(CacheBuffer *buffer, int error) {
    buffer->state = error == 0 ? BUFFER_PRESENT : BUFFER_FAILED;
    buffer->error = error;
    if (error != 0 && buffer->attached) {
        cache_buffer_detach(buffer);
    }
    (void)fiber_queue_wake_all(&buffer->waiters);
}

static int start_run(Cache *cache, BlockBatch *batch, LoadRun *run) {
    uint64_t length = run_length(cache, run);
    uint8_t *target = run->first->buffer->bytes;

    if (run->count > 1) {
        void *bounce = NULL;

        if (posix_memalign(&bounce, 4096, run->count << cache->block_shift) != 0) {
            return -ENOMEM;
        }
        target = run->bounce = bounce;
    }
    memset(target + length, 0, (run->count << cache->block_shift) - length);
    return block_batch_read(batch, run_offset(cache, run), target, length);
}

/* One bad sector must not fail its neighbours: reads the run block by block. */
static void finish_run_singly(Cache *cache, const LoadRun *run) {
    for (size_t i = 0; i < run->count; i++) {
        LoadRun one = {.first = &run->first[i], .count = 1};
        CacheBuffer *buffer = one.first->buffer;
        uint64_t length = run_length(cache, &one);

        memset(buffer->bytes + length, 0, cache->config.block_size - length);
        publish(buffer,
                block_read(cache->config.device, run_offset(cache, &one), buffer->bytes, length));
    }
}

static void finish_run(Cache *cache, const LoadRun *run, bool good) {
    if (!good) {
        finish_run_singly(cache, run);
        return;
    }
    for (size_t i = 0; i < run->count; i++) {
        CacheBuffer *buffer = run->first[i].buffer;

        if (run->bounce != NULL) {
            memcpy(buffer->bytes, run->bounce + (i << cache->block_shift),
                   cache->config.block_size);
        }
        publish(buffer, 0);
    }
}

static void run_wave(Cache *cache, LoadRun *runs, size_t count) {
    BlockBatch batch;
    int r = 0;

    block_batch_init(&batch, cache->config.device);
    for (size_t i = 0; i < count && r == 0; i++) {
        r = start_run(cache, &batch, &runs[i]);
    }
    /* Wait in any case: what was started writes into our memory. */
    if (block_batch_wait(&batch) < 0) {
        r = -EIO;
    }
    for (size_t i = 0; i < count; i++) {
        finish_run(cache, &runs[i], r == 0);
        free(runs[i].bounce);
    }
}

/* Claims misses from *index on and reads those nobody else reads; returns with *index advanced. */
static void load_wave(Cache *cache, TxnMiss *misses, size_t count, size_t *index,
                      uint64_t *counter) {
    LoadRun runs[WAVE_RUNS];
    size_t run_count = 0;
    uint64_t bytes = 0;

    while (*index < count && bytes < WAVE_BYTES) {
        TxnMiss *miss = &misses[*index];
        LoadRun *last = run_count > 0 ? &runs[run_count - 1] : NULL;
        bool joins = last != NULL && last->first + last->count == miss &&
                     last->first->block + last->count == miss->block &&
                     (last->count + 1) << cache->block_shift <= LOAD_MAX;
        bool own;

        if (!joins && run_count == WAVE_RUNS) {
            break;
        }
        claim(cache, miss, &own);
        *index += 1;
        if (!own) {
            continue;
        }
        *counter += 1;
        bytes += cache->config.block_size;
        if (joins) {
            last->count++;
        } else {
            runs[run_count++] = (LoadRun){.first = miss, .count = 1};
        }
    }
    if (run_count > 0) {
        run_wave(cache, runs, run_count);
    }
}

/* Waits for a block that another fiber reads; looks again if it was replaced meanwhile. */
static void settle(Cache *cache, TxnMiss *miss, uint64_t *counter) {
    while (miss->error == 0) {
        CacheBuffer *buffer = miss->buffer;
        size_t index = 0;

        while (buffer->state == BUFFER_LOADING) {
            cache_wait(cache, &buffer->waiters);
        }
        if (buffer->state == BUFFER_PRESENT && buffer->attached) {
            return;
        }
        miss->error = buffer->state == BUFFER_FAILED ? buffer->error : 0;
        cache_buffer_unref(buffer);
        miss->buffer = NULL;
        if (miss->error == 0) {
            load_wave(cache, miss, 1, &index, counter);
        }
    }
}

static int compare_misses(const void *left, const void *right) {
    uint64_t a = ((const TxnMiss *)left)->block;
    uint64_t b = ((const TxnMiss *)right)->block;

    return (a > b) - (a < b);
}

size_t cache_load_many(Cache *cache, TxnMiss *misses, size_t count, uint64_t *counter) {
    size_t unique = 0;
    size_t index = 0;

    if (count == 0) {
        return 0;
    }
    qsort(misses, count, sizeof(*misses), compare_misses);
    for (size_t i = 0; i < count; i++) {
        if (unique == 0 || misses[unique - 1].block != misses[i].block) {
            misses[unique++] = misses[i];
        }
    }
    while (index < unique) {
        load_wave(cache, misses, unique, &index, counter);
    }
    for (size_t i = 0; i < unique; i++) {
        settle(cache, &misses[i], counter);
    }
    return unique;
}

int cache_load_one(Cache *cache, uint64_t block, CacheBuffer **ret) {
    TxnMiss miss = {.block = block};

    (void)cache_load_many(cache, &miss, 1, &cache->stats.misses);
    if (miss.error < 0) {
        return miss.error;
    }
    *ret = miss.buffer;
    return 0;
}

/* In a body: notes what is missing. */
static int prefetch_in_body(Cache *cache, uint64_t block, uint64_t count) {
    int result = 0;

    for (uint64_t i = block; i < block + count; i++) {
        const CacheBuffer *buffer = cache_buffer_lookup(cache, i);
        const TxnMiss *miss = NULL;

        if (buffer == NULL || buffer->state != BUFFER_PRESENT) {
            /* What could not be read is for cache_get() to report. */
            miss = cache_txn_find_miss(&cache->txn, i);
            if (miss == NULL || miss->error == 0) {
                result = cache_txn_note_miss(&cache->txn, i);
            }
        }
    }
    return result;
}

int cache_prefetch(Cache *cache, uint64_t block, uint64_t count) {
    _cleanup_free_ TxnMiss *misses = NULL;
    /* Never more than half of what may be kept, or it would push itself out. */
    uint64_t most = MIN((uint64_t)LOAD_MAX >> cache->block_shift, cache->clean_limit / 2);
    size_t missing = 0;

    if (block >= cache->block_count) {
        return -ERANGE;
    }
    count = MIN(count, cache->block_count - block);
    count = MIN(count, most);
    if (cache->txn.open && block_suspends(cache->config.device)) {
        return prefetch_in_body(cache, block, count);
    }
    misses = calloc(count + 1, sizeof(*misses));
    if (misses == NULL) {
        return -ENOMEM;
    }
    for (uint64_t i = block; i < block + count; i++) {
        if (cache_buffer_lookup(cache, i) == NULL) {
            misses[missing++].block = i;
        }
    }
    missing = cache_load_many(cache, misses, missing, &cache->stats.prefetched);
    for (size_t i = 0; i < missing; i++) {
        if (misses[i].buffer != NULL) {
            cache_buffer_unref(misses[i].buffer);
        }
    }
    return 0;
}
