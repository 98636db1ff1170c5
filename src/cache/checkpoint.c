/* SPDX-License-Identifier: MIT */
/*
 * Write-out. The log is a row of batches; a checkpoint closes the newest (X :=
 * head) and writes all up to X, oldest first, each class by class with a flush
 * behind each: fold builds the blocks in private memory, adjacent ones go out
 * in one write. The first flush, of file data and class 0, is one for both.
 * Then the tail moves past the batch, freed ranges are released
 * and its buffers are clean.
 *
 * One checkpoint runs at a time (checkpoint_running); cache_sync() waits for
 * one that started after it was called. While it waits for the device, other
 * fibers commit to later batches; nothing it reads from the log changes before
 * the tail has passed it.
 *
 * Classes that are on the medium are not written again after an error: that
 * would take the blocks back to an older state while others are newer.
 */
#include "internal.h"
#include <assert.h>

#define RESPAWN_NS UINT64_C(100000000)

/* ---- batches ---- */

void cache_batch_begin(Cache *cache, uint64_t lsn) {
    size_t next = cache->batch_first + cache->batch_count;

    assert(next < cache->batch_capacity);
    cache->batches[next] = (CacheBatch){.begin = lsn};
    cache->batch_count++;
    lifeline_set_batch_start(cache->log, lsn);
}

uint64_t cache_batch_end(const Cache *cache, size_t index) {
    return index + 1 < cache->batch_count ? cache->batches[cache->batch_first + index + 1].begin
                                          : cache->log->head;
}

/* Room in the table for one more, so that a commit cannot fail. */
static int reserve_batch(Cache *cache) {
    if (cache->batch_first > 0 && cache->batch_first >= cache->batch_count) {
        memmove(cache->batches, cache->batches + cache->batch_first,
                cache->batch_count * sizeof(*cache->batches));
        cache->batch_first = 0;
    }
    return VECTOR_RESERVE(cache->batches, cache->batch_capacity,
                          cache->batch_first + cache->batch_count + 1);
}

void cache_batch_close(Cache *cache) {
    lifeline_set_batch_start(cache->log, cache->log->head);
}

/* ---- steps ---- */

/* All blocks of a class, not flushed yet. */
static int write_class(Cache *cache, unsigned class) {
    return fold_write_class(&cache->fold, cache->config.device, class,
                            &cache->stats.blocks_written);
}

/* What a predecessor wrote counts as well, until it has been flushed once. */
int cache_flush_device(Cache *cache) {
    BlockDevice *device = cache->config.device;
    int r = cache->foreign_writes ? block_flush_all(device) : block_flush(device);

    if (r == 0) {
        cache->foreign_writes = false;
    }
    return r;
}

static void unfold(Cache *cache) {
    fold_done(&cache->fold);
    cache->folded = false;
}

void cache_release_batch(Cache *cache, uint64_t end) {
    unfold(cache);
    cache->batch_first++;
    cache->batch_count--;
    lifeline_set_tail(cache->log, end);
    cache_clean_until(cache, end);
    pending_release(&cache->pending, end, cache->config.released, cache->config.arg);
    if (cache->log->head == end) {
        assert(cache->stats.dirty_buffers == 0 && cache->pending.blocks == 0);
    }
    cache->stats.batches++;
    (void)fiber_queue_wake_all(&cache->progress);
}

/*
 * Lowest class of the batch that is not written. A batch that touches a
 * single block within one sector needs no order: all its classes go at once.
 */
static unsigned next_class(const Cache *cache, unsigned missing) {
    const BlockDevice *device = cache->config.device;

    if (cache->fold.block_count == 1 && cache->log->classes_done == 0 &&
        cache->config.block_size <= device->sector_size) {
        return 31U - (unsigned)__builtin_clz(missing);
    }
    return (unsigned)__builtin_ctz(missing);
}

/* 1: the oldest closed batch is folded, 0: there is none. */
static int fold_oldest(Cache *cache) {
    uint64_t begin = cache->log->tail;
    int r;

    if (cache->batch_count == 0 || begin == cache->log->batch_start) {
        return 0;
    }
    if (!cache->folded) {
        r = fold_init(&cache->fold, &cache->view, begin, cache_batch_end(cache, 0));
        if (r < 0) {
            return r;
        }
        cache->folded = true;
    }
    return 1;
}

static unsigned missing_classes(const Cache *cache) {
    return cache->fold.classes & ~cache->log->classes_done;
}

static void class_done(Cache *cache, unsigned class) {
    lifeline_set_classes_done(cache->log, (2U << class) - 1);
    cache->stats.class_flushes++;
}

int cache_checkpoint_step(Cache *cache) {
    unsigned class;
    int r = fold_oldest(cache);

    if (r <= 0) {
        return r;
    }
    if (missing_classes(cache) != 0) {
        class = next_class(cache, missing_classes(cache));
        r = write_class(cache, class);
        if (r == 0) {
            r = cache_flush_device(cache);
        }
        if (r < 0) {
            return r;
        }
        class_done(cache, class);
    }
    if (missing_classes(cache) == 0) {
        cache_release_batch(cache, cache_batch_end(cache, 0));
    }
    return 1;
}

/*
 * Nothing on the medium refers to what class 0 writes, so it may be there before the
 * data is and share the flush of the data. True: that flush completes the class.
 * A failure is left to the step that writes the class again.
 */
static bool write_unreferenced(Cache *cache) {
    unsigned missing = fold_oldest(cache) > 0 ? missing_classes(cache) : 0;

    return (missing & 1) != 0 && next_class(cache, missing) == 0 && write_class(cache, 0) == 0;
}

/* Steps until the tail has reached target; a step that fails is tried again a few times. */
static int write_out(Cache *cache, uint64_t target) {
    unsigned failures = 0;

    while (cache->log->tail < target) {
        int r = cache_checkpoint_step(cache);

        if (r >= 0) {
            failures = 0;
            continue;
        }
        failures++;
        if (r == -EUCLEAN || failures == CACHE_ATTEMPTS) {
            return r;
        }
    }
    return 0;
}

static void give_up(Cache *cache, int error) {
    cache->failed = error;
    if (cache->config.failed != NULL) {
        cache->config.failed(cache->config.arg, error);
    }
}

/*
 * Data first: metadata must never point at data that is not there. A failed
 * flush may have dropped that data, so callers hear of it (*ret_lost) even
 * when the repetition succeeds.
 */
static int flush_data(Cache *cache, int *ret_lost) {
    int r = cache_flush_device(cache);

    *ret_lost = r;
    for (unsigned i = 1; r < 0 && i < CACHE_ATTEMPTS; i++) {
        r = cache_flush_device(cache);
    }
    return r;
}

static int checkpoint(Cache *cache) {
    uint64_t target = cache->log->head;
    bool ahead;
    int lost;
    int r;

    if (cache->failed < 0) {
        return cache->failed;
    }
    cache->stats.checkpoints++;
    cache_batch_close(cache);
    ahead = cache->config.journal == NULL && write_unreferenced(cache);
    r = flush_data(cache, &lost);
    if (cache->log->tail == target) {
        return lost;
    }
    if (r == 0 && ahead) {
        class_done(cache, 0);
    }
    if (r == 0) {
        r = cache->config.journal != NULL ? cache_write_journalled(cache, target)
                                          : write_out(cache, target);
    }
    if (r < 0) {
        give_up(cache, r);
        return r;
    }
    return lost;
}

/* ---- who runs it, who waits ---- */

static void run_now(Cache *cache) {
    uint64_t number = ++cache->checkpoints_started;
    int status;

    assert(!cache->checkpoint_running);
    cache->checkpoint_running = true;
    if (cache->config.loop != NULL) {
        loop_timer_stop(cache->config.loop, &cache->commit_timer);
    }
    status = checkpoint(cache);
    if (status < 0) {
        cache->failed_number = number;
        cache->failed_status = status;
    }
    cache->checkpoint_running = false;
    cache->checkpoints_finished = number;
    (void)fiber_queue_wake_all(&cache->progress);
    cache_commit_later(cache);
}

static bool may_start(const Cache *cache) {
    return !cache->unsettled && !cache->frozen;
}

/* Until something has moved. -EAGAIN: nobody would wake us. */
static MAY_YIELD int wait_progress(Cache *cache) {
    if (cache->stopping) {
        return -ECANCELED;
    }
    if (fiber_self() == NULL && cache->config.loop == NULL) {
        return -EAGAIN;
    }
    cache_wait(cache, &cache->progress);
    return 0;
}

int cache_sync(Cache *cache) {
    uint64_t number = cache->checkpoints_started + 1;

    assert(!cache->txn.open);
    while (cache->checkpoints_finished < number) {
        int r = 0;

        if (cache->checkpoint_running || !may_start(cache)) {
            r = wait_progress(cache);
        } else {
            run_now(cache);
        }
        if (r < 0) {
            return r;
        }
    }
    /* If another one failed since, before this fiber ran again, its news is as good. */
    return cache->failed_number >= number ? cache->failed_status : 0;
}

/*
 * No room for a record of this length? Dirty buffers count as well: blocks made
 * anew cost memory but hardly any log.
 */
static bool log_full(const Cache *cache, uint64_t length) {
    uint64_t dirty = (uint64_t)cache->stats.dirty_buffers << cache->block_shift;

    return cache->log->ring_size - lifeline_used(cache->log) < length ||
           dirty > cache->log->ring_size;
}

int cache_log_reserve(Cache *cache, uint32_t length) {
    int r = 0;

    while (r == 0 && cache->failed == 0 && !cache->damaged && log_full(cache, length)) {
        if (cache->held && !cache->checkpoint_running) {
            r = -EAGAIN;
        } else if (cache->checkpoint_running || !may_start(cache)) {
            r = wait_progress(cache);
        } else {
            run_now(cache);
        }
    }
    if (cache->failed < 0 || cache->damaged) {
        return -EROFS;
    }
    if (r == 0) {
        r = lifeline_back(cache->log, cache->log->head + length);
    }
    return r < 0 ? r : reserve_batch(cache);
}

void cache_settled(Cache *cache) {
    cache->unsettled = false;
    (void)fiber_queue_wake_all(&cache->progress);
    cache_commit_later(cache);
}

void cache_freeze(Cache *cache) {
    cache->frozen = true;
    while (cache->checkpoint_running) {
        cache_wait(cache, &cache->progress);
    }
}

void cache_thaw(Cache *cache) {
    cache->frozen = false;
    (void)fiber_queue_wake_all(&cache->progress);
    cache_commit_later(cache);
}

/* ---- the timed commit ---- */

/* Lives for one round only: an idle volume has neither fiber nor timer. */
static void commit_fiber(void *arg) {
    Cache *cache = arg;

    if (lifeline_used(cache->log) > 0 && !cache->held && !cache->stopping && may_start(cache)) {
        (void)cache_sync(cache);
        lifeline_release_ring(cache->log);
    }
    cache->commit_fiber = false;
    (void)fiber_queue_wake_all(&cache->progress);
    cache_commit_later(cache);
}

static void start_commit_fiber(Cache *cache) {
    cache->commit_fiber = fiber_spawn(commit_fiber, cache, "commit") != NULL;
    if (!cache->commit_fiber) {
        loop_timer_start(cache->config.loop, &cache->commit_timer, RESPAWN_NS);
    }
}

static void timer_fired(void *arg) {
    Cache *cache = arg;

    if (!cache->commit_fiber && !cache->stopping) {
        start_commit_fiber(cache);
    }
}

void cache_commit_later(Cache *cache) {
    if (cache->config.loop == NULL || cache->held || cache->failed < 0 || cache->stopping ||
        cache->commit_fiber || cache->checkpoint_running || !may_start(cache) ||
        lifeline_used(cache->log) == 0) {
        return;
    }
    if (log_full(cache, cache->log->ring_size / 2)) {
        loop_timer_stop(cache->config.loop, &cache->commit_timer);
        start_commit_fiber(cache);
    } else if (cache->commit_timer.deadline_ns == 0) {
        loop_timer_start(cache->config.loop, &cache->commit_timer, cache->config.commit_ns);
    }
}

void cache_checkpoint_init(Cache *cache) {
    loop_timer_init(&cache->commit_timer, timer_fired, cache);
}

void cache_checkpoint_done(Cache *cache) {
    cache->stopping = true;
    (void)fiber_queue_wake_all(&cache->progress);
    if (cache->config.loop != NULL) {
        loop_timer_stop(cache->config.loop, &cache->commit_timer);
    }
    while (cache->commit_fiber || cache->checkpoint_running) {
        cache_wait(cache, &cache->progress);
    }
    unfold(cache);
    free(cache->batches);
    cache->batches = NULL;
}

/* ---- what is freed and not released ---- */

bool cache_range_pending(Cache *cache, uint64_t start, uint64_t count) {
    const PendingRange *range = pending_find(&cache->pending, start);

    return range != NULL && range->start < start + count;
}

uint64_t cache_pending_blocks(Cache *cache) {
    return cache->pending.blocks;
}

void cache_pending_iterate(Cache *cache, uint64_t start, uint64_t count,
                           void (*fn)(void *arg, uint64_t start, uint64_t count), void *arg) {
    const PendingRange *range = pending_find(&cache->pending, start);

    while (range != NULL && range->start < start + count) {
        fn(arg, range->start, range->count);
        range = range->next[0];
    }
}
