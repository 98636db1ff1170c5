/* SPDX-License-Identifier: MIT */
/*
 * One transaction from begin to commit. The record is built in place behind
 * the log's head, so that commit is a checksum and one store, and abort is
 * forgetting. From begin to commit or abort nothing suspends; what makes a
 * body start again (a block was missed, the reservation was short, a batch
 * must begin) is put right between two attempts, where suspending is allowed.
 *
 * Attempts end: each adds a loaded and pinned block, doubles a bounded
 * reservation, or sets the new-batch mark.
 */
#include "internal.h"
#include <assert.h>
#include <stdio.h>

#define RESERVATION_FIRST (32U << 10)

Txn *txn_current(Cache *cache) {
    return cache->txn.open ? &cache->txn : NULL;
}

const TxnMiss *cache_txn_find_miss(const Txn *txn, uint64_t block) {
    const TxnRun *run = txn->run;

    for (size_t i = 0; i < run->miss_count; i++) {
        if (run->misses[i].block == block) {
            return &run->misses[i];
        }
    }
    return NULL;
}

int cache_txn_note_miss(Txn *txn, uint64_t block) {
    TxnRun *run = txn->run;
    int r = VECTOR_RESERVE(run->misses, run->miss_capacity, run->miss_count + 1);

    if (r < 0) {
        return cache_txn_fail(txn, r);
    }
    run->misses[run->miss_count++] = (TxnMiss){.block = block};
    return cache_txn_fail(txn, -ERESTART);
}

static void run_load(Cache *cache, TxnRun *run) {
    if (run->miss_count == run->loaded) {
        return;
    }
    run->miss_count =
        run->loaded + cache_load_many(cache, run->misses + run->loaded,
                                      run->miss_count - run->loaded, &cache->stats.misses);
    run->loaded = run->miss_count;
}

static void run_done(TxnRun *run) {
    for (size_t i = 0; i < run->loaded; i++) {
        if (run->misses[i].buffer != NULL) {
            cache_buffer_unref(run->misses[i].buffer);
        }
    }
    free(run->misses);
}

static void begin(Cache *cache, TxnRun *run) {
    Txn *txn = &cache->txn;

    assert(list_empty(&txn->touched) && txn->undo_count == 0);
    txn->run = run;
    txn->open = true;
    txn->restart = false;
    txn->error = 0;
    txn->lsn = cache->log->head;
    txn->batch_begin = run->new_batch ? txn->lsn : cache->log->batch_start;
    txn->classes = 0;
    txn->fresh_bytes = 0;
    txn->object_items = txn->object_puts = 0;
    txn->commit_hook_count = txn->abort_hook_count = 0;
    record_begin(&txn->record, lifeline_at(cache->log, txn->lsn), run->reservation);
}

static void abort_buffers(Txn *txn) {
    ListNode *node;

    while ((node = list_first(&txn->touched)) != NULL) {
        CacheBuffer *buffer = container_of(node, CacheBuffer, touched);

        list_remove(node);
        if (buffer->based) {
            cache_class_map_done(&buffer->classes);
            buffer->classes = buffer->classes_before;
            buffer->classes_before = (ClassMap){0};
            buffer->based = false;
        }
        if (buffer->fresh) {
            buffer->fresh = false;
            cache_buffer_detach(buffer);
        }
        cache_buffer_unref(buffer);
    }
}

static void abort_attempt(Txn *txn) {
    cache_txn_undo(txn);
    abort_buffers(txn);
    pending_abort(&txn->cache->pending);
    txn->open = false;
    while (txn->abort_hook_count > 0) {
        const TxnHook *hook = &txn->abort_hooks[--txn->abort_hook_count];

        hook->fn(hook->arg);
    }
}

static void commit_buffers(Txn *txn, uint64_t end) {
    ListNode *node;

    while ((node = list_first(&txn->touched)) != NULL) {
        CacheBuffer *buffer = container_of(node, CacheBuffer, touched);

        list_remove(node);
        if (buffer->based) {
            cache_class_map_done(&buffer->classes_before);
            buffer->base_lsn = txn->lsn;
            buffer->based = false;
        }
        buffer->fresh = false;
        /* Nothing of a block is logged without its base in the batch. A buffer touched by a
         * change that failed never gets here. */
        assert(buffer->base_lsn >= txn->batch_begin);
        cache_buffer_set_dirty(buffer, end);
        cache_buffer_unref(buffer);
    }
}

/* The reply, encoded before anything is decided: it may still fail. Length or -errno. */
static int encode_reply(const TxnReply *reply, unsigned slots, uint8_t *buf) {
    int length = 0;

    if (reply == NULL) {
        return 0;
    }
    if (reply->slot != TXN_SLOT_INTERNAL && reply->slot >= slots) {
        return -EINVAL;
    }
    if (reply->encode != NULL) {
        length = reply->encode(reply->arg, buf, LIFELINE_REPLY_MAX);
    }
    return length > LIFELINE_REPLY_MAX ? -EMSGSIZE : length;
}

/* Makes the record the log's newest and tells the tables. Cannot fail. */
static void publish(Txn *txn, const TxnReply *reply, const uint8_t *bytes, uint32_t length) {
    Cache *cache = txn->cache;
    uint16_t slot = reply == NULL ? TXN_SLOT_INTERNAL : reply->slot;
    uint64_t seq = reply == NULL ? 0 : reply->seq;
    bool starts_batch = txn->batch_begin == txn->lsn;
    uint64_t end = txn->lsn + record_finish(&txn->record, txn->lsn, slot, seq,
                                            starts_batch ? RECORD_STARTS_BATCH : 0, bytes, length);

    if (starts_batch) {
        cache_batch_begin(cache, txn->lsn);
    }
    cache->batches[cache->batch_first + cache->batch_count - 1].classes |= txn->classes;
    lifeline_publish_head(cache->log, end);
    if (slot != TXN_SLOT_INTERNAL) {
        lifeline_store_reply(cache->log, slot, seq, txn->lsn, bytes, length);
    }
    if (txn->object_items > 0) {
        LogRecord record = record_builder_view(&txn->record, txn->lsn);

        bool stored = cache_objects_apply(cache, &record);

        assert(stored); /* txn_object_put() has counted */
        (void)stored;
    }
    lifeline_set_applied(cache->log);
    commit_buffers(txn, end);
    pending_commit(&cache->pending, end, cache_forget_range, cache);
    cache->stats.log_bytes += end - txn->lsn;
}

static int commit(Txn *txn, const TxnReply *reply) {
    Cache *cache = txn->cache;
    uint8_t bytes[LIFELINE_REPLY_MAX];
    int length = encode_reply(reply, cache->log->slot_count, bytes);

    if (length < 0) {
        return cache_txn_fail(txn, length);
    }
    /* A body that changed nothing and owes no reply leaves no record. */
    if (txn->record.items > 0 || reply != NULL) {
        publish(txn, reply, bytes, (uint32_t)length);
        cache_commit_later(cache);
    }
    assert(list_empty(&txn->touched));
    cache->stats.transactions++;
    txn->undo_count = txn->undo_used = 0;
    txn->open = false;
    for (size_t i = 0; i < txn->commit_hook_count; i++) {
        txn->commit_hooks[i].fn(txn->commit_hooks[i].arg);
    }
    return 0;
}

/* -ERESTART: again. */
static int attempt(Cache *cache, TxnRun *run, const TxnReply *reply, TxnBody *body, void *arg) {
    Txn *txn = &cache->txn;
    int r;

    begin(cache, run);
    fiber_no_yield_enter();
    r = body(txn, arg);
    if (r >= 0 && !txn->restart && txn->error == 0) {
        int committed = commit(txn, reply);

        r = committed < 0 ? committed : r;
    } else if (txn->error < 0) {
        /* The first failure counts, whatever the body made of it. */
        r = txn->error;
    } else if (txn->restart) {
        r = -ERESTART;
    } else if (r == -ERESTART) {
        /* Nothing was missed: repeating would not end. */
        r = -EIO;
    }
    if (r < 0) {
        abort_attempt(txn);
    }
    fiber_no_yield_leave();
    return r;
}

int txn_run(Cache *cache, const TxnReply *reply, TxnBody *body, void *arg) {
    uint64_t most = cache->log->ring_size / 4;
    TxnRun run = {.reservation = (uint32_t)MIN((uint64_t)RESERVATION_FIRST, most)};
    int r;

    if (cache->txn.open) {
        (void)fputs("txn_run: a transaction is open already\n", stderr);
        abort();
    }
    for (;;) {
        fiber_mutex_lock(&cache->txn_turn);
        r = cache_log_reserve(cache, run.reservation);
        if (r == 0) {
            r = attempt(cache, &run, reply, body, arg);
        }
        fiber_mutex_unlock(&cache->txn_turn);
        if (r != -ERESTART) {
            break;
        }
        cache->stats.restarts++;
        run_load(cache, &run);
    }
    cache->stats.aborts += r < 0;
    run_done(&run);
    return r;
}
