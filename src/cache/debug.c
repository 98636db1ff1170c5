/* SPDX-License-Identifier: MIT */
/* Test switches of the cache, and the log as tests of fold see it. */
#include "internal.h"
#include <assert.h>

CacheDebug *cache_debug(Cache *cache) {
    return &cache->debug;
}

void cache_debug_hold_checkpoints(Cache *cache, bool hold) {
    cache->held = hold;
    if (!hold) {
        cache_commit_later(cache);
    }
}

int cache_debug_step(Cache *cache) {
    assert(cache->held && !cache->checkpoint_running);
    cache_batch_close(cache);
    return cache_checkpoint_step(cache);
}

size_t cache_debug_batches(Cache *cache, CacheDebugBatch *out, size_t capacity) {
    for (size_t i = 0; i < MIN(cache->batch_count, capacity); i++) {
        const CacheBatch *batch = &cache->batches[cache->batch_first + i];

        out[i] = (CacheDebugBatch){
            .begin = batch->begin, .end = cache_batch_end(cache, i), .classes = batch->classes};
    }
    return cache->batch_count;
}

int cache_debug_fold(Cache *cache, uint64_t begin, uint64_t end, unsigned class,
                     void (*fn)(void *arg, uint64_t block, const uint8_t *data), void *arg) {
    _cleanup_free_ uint8_t *data = malloc(cache->config.block_size);
    Fold fold;
    int r;

    if (data == NULL) {
        return -ENOMEM;
    }
    if (begin < cache->log->tail || end > cache->log->head) {
        return -ERANGE;
    }
    r = fold_init(&fold, &cache->view, begin, end);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; r == 0 && i < fold.block_count; i++) {
        if ((fold.blocks[i].classes & 1U << class) != 0) {
            r = fold_block(&fold, &fold.blocks[i], class, data);
            if (r == 0) {
                fn(arg, fold.blocks[i].block, data);
            }
        }
    }
    fold_done(&fold);
    return r;
}
