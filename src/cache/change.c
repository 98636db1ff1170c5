/* SPDX-License-Identifier: MIT */
/*
 * What a transaction body does: each change saves the old bytes for undo,
 * appends an item to the record behind the log's head, and changes the buffer.
 * A change that fails leaves the transaction unable to commit, even if the
 * body goes on.
 *
 * Write-out order (log_would_regress): within a batch the bytes of a block may
 * only be written with rising classes, since class k is written out as "all
 * items of class <= k". A write of a lower class than the bytes have already
 * restarts the transaction as the first of a new batch. If that happens within
 * one record no batch can help: it is refused as -EUCLEAN, as only structures
 * that overlap on a corrupt image make a format do so.
 */
#include "internal.h"
#include <assert.h>

int cache_txn_fail(Txn *txn, int error) {
    assert(txn->open && error < 0);
    if (error == -ERESTART) {
        txn->restart = true;
    } else if (txn->error == 0) {
        txn->error = error;
    }
    return error;
}

int cache_txn_append(Txn *txn, const LogItem *item) {
    uint64_t most = txn->cache->log->ring_size / 4;

    assert(txn->open);
    if (record_append(&txn->record, item) == 0) {
        return 0;
    }
    if (txn->run->reservation >= most) {
        return cache_txn_fail(txn, -E2BIG);
    }
    txn->run->reservation = (uint32_t)MIN(UINT64_C(2) * txn->run->reservation, most);
    return cache_txn_fail(txn, -ERESTART);
}

/* ---- undo ---- */

static int undo_push(Txn *txn, void *target, size_t length) {
    int r = VECTOR_RESERVE(txn->undo, txn->undo_capacity, txn->undo_count + 1);

    if (r == 0) {
        r = VECTOR_RESERVE(txn->undo_bytes, txn->undo_size, txn->undo_used + length);
    }
    if (r < 0) {
        return cache_txn_fail(txn, r);
    }
    memcpy(txn->undo_bytes + txn->undo_used, target, length);
    txn->undo[txn->undo_count++] =
        (TxnUndo){.target = target, .length = length, .saved = txn->undo_used};
    txn->undo_used += length;
    return 0;
}

void cache_txn_undo(Txn *txn) {
    while (txn->undo_count > 0) {
        const TxnUndo *undo = &txn->undo[--txn->undo_count];

        memcpy(undo->target, txn->undo_bytes + undo->saved, undo->length);
    }
    txn->undo_used = 0;
}

int txn_save(Txn *txn, void *memory, size_t length) {
    return length == 0 ? 0 : undo_push(txn, memory, length);
}

/* ---- the class map ---- */

/* Does any written part of these bytes (under mask) have a higher class? */
static bool would_regress(const ClassMap *map, const LogItem *item) {
    unsigned entry = item->class + 1;

    if (map->top <= entry) {
        return false;
    }
    if (map->entries == NULL) {
        return map->fill > entry;
    }
    for (uint32_t i = 0; i < item->length; i++) {
        unsigned old = map->entries[item->offset + i];
        unsigned mask = item->mask == NULL ? 0xff : item->mask[i];

        if (((mask & 0x0f) != 0 && (old & 0x0f) > entry) ||
            ((mask & 0xf0) != 0 && old >> 4 > entry)) {
            return true;
        }
    }
    return false;
}

static int class_map_expand(Cache *cache, ClassMap *map) {
    if (map->entries == NULL) {
        map->entries = malloc(cache->config.block_size);
        if (map->entries == NULL) {
            return -ENOMEM;
        }
        memset(map->entries, map->fill | map->fill << 4, cache->config.block_size);
    }
    return 0;
}

static int class_map_set(Txn *txn, ClassMap *map, const LogItem *item) {
    unsigned entry = item->class + 1;
    int r = class_map_expand(txn->cache, map);

    if (r < 0) {
        return cache_txn_fail(txn, r);
    }
    r = undo_push(txn, &map->entries[item->offset], item->length);
    if (r == 0 && map->top < entry) {
        r = undo_push(txn, &map->top, sizeof(map->top));
        map->top = (uint8_t)entry;
    }
    for (uint32_t i = 0; r == 0 && i < item->length; i++) {
        unsigned mask = item->mask == NULL ? 0xff : item->mask[i];
        unsigned value = map->entries[item->offset + i];

        value = (mask & 0x0f) != 0 ? (value & 0xf0) | entry : value;
        value = (mask & 0xf0) != 0 ? (value & 0x0f) | entry << 4 : value;
        map->entries[item->offset + i] = (uint8_t)value;
    }
    return r;
}

/* ---- changing blocks ---- */

/* The buffer becomes one of this transaction's: referenced, and listed for commit and abort. */
static void touch(Txn *txn, CacheBuffer *buffer) {
    if (!list_linked(&buffer->touched)) {
        cache_buffer_ref(buffer);
        list_append(&txn->touched, &buffer->touched);
    }
}

/* Is the block's base in the batch that this record belongs to? */
static bool has_base(const Txn *txn, const CacheBuffer *buffer) {
    return buffer->based || (buffer->base_lsn >= txn->batch_begin && buffer->base_lsn != 0);
}

static void start_class_map(CacheBuffer *buffer) {
    buffer->based = true;
    buffer->classes_before = buffer->classes;
    buffer->classes = (ClassMap){0};
}

static int log_base(Txn *txn, CacheBuffer *buffer) {
    LogItem base = {.type = ITEM_BASE,
                    .length = txn->cache->config.block_size,
                    .block = buffer->public.block,
                    .bytes = buffer->bytes};
    int r;

    if (has_base(txn, buffer)) {
        return 0;
    }
    r = cache_txn_append(txn, &base);
    if (r == 0) {
        start_class_map(buffer);
    }
    return r;
}

/* The batch rule, for a block that has its base. */
static int check_order(Txn *txn, const CacheBuffer *buffer, const LogItem *item) {
    if (!would_regress(&buffer->classes, item)) {
        return 0;
    }
    if (buffer->based || txn->run->new_batch) {
        /* All of the map is this record's own doing. */
        return cache_txn_fail(txn, -EUCLEAN);
    }
    txn->run->new_batch = true;
    return cache_txn_fail(txn, -ERESTART);
}

/* Appends the item and enters it in the class map; bytes: the part of the block it covers. */
static int log_item(Txn *txn, CacheBuffer *buffer, const LogItem *item, const LogItem *bytes) {
    int r = check_order(txn, buffer, bytes);

    if (r == 0) {
        r = cache_txn_append(txn, item);
    }
    if (r == 0) {
        r = class_map_set(txn, &buffer->classes, bytes);
    }
    if (r == 0) {
        r = undo_push(txn, buffer->bytes + bytes->offset, bytes->length);
    }
    if (r == 0) {
        txn->classes |= (uint8_t)(1U << item->class);
    }
    return r;
}

static int change(Txn *txn, Buffer *public, LogItem *item) {
    CacheBuffer *buffer = cache_buffer(public);
    Cache *cache = txn->cache;
    int r;

    assert(txn->open && buffer->cache == cache && item->class < TXN_CLASS_MAX);
    item->block = public->block;
    if (++cache->debug.writes == cache->debug.abort_at) {
        return cache_txn_fail(txn, -EIO);
    }
    if (!range_inside(item->offset, item->length, cache->config.block_size)) {
        return cache_txn_fail(txn, -ERANGE);
    }
    if (!buffer->attached) {
        /* Freed by another transaction since the caller got it. */
        return cache_txn_fail(txn, -ESTALE);
    }
    if (item->length == 0) {
        return 0;
    }
    touch(txn, buffer);
    r = log_base(txn, buffer);
    if (r == 0) {
        r = log_item(txn, buffer, item, item);
    }
    if (r == 0) {
        record_item_apply(item, buffer->bytes, cache->config.block_size);
    }
    return r;
}

int txn_write(Txn *txn, Buffer *buffer, uint32_t offset, const void *bytes, uint32_t length,
              unsigned class) {
    LogItem item = {
        .type = ITEM_RANGE, .class = class, .offset = offset, .length = length, .bytes = bytes};

    return change(txn, buffer, &item);
}

int txn_write_bits(Txn *txn, Buffer *buffer, uint32_t offset, const uint8_t *bits,
                   const uint8_t *mask, uint32_t length, unsigned class) {
    LogItem item = {.type = ITEM_BITS,
                    .class = class,
                    .offset = offset,
                    .length = length,
                    .mask = mask,
                    .bytes = bits};

    assert(length <= RECORD_BITS_MAX);
    return change(txn, buffer, &item);
}

/* The buffer of a block whose old contents do not matter, referenced. */
static int new_block_buffer(Txn *txn, uint64_t block, CacheBuffer **ret) {
    CacheBuffer *buffer = cache_buffer_lookup(txn->cache, block);
    int r;

    if (buffer != NULL && buffer->state == BUFFER_PRESENT) {
        cache_buffer_ref(buffer);
        *ret = buffer;
        return 0;
    }
    if (buffer != NULL) {
        /* Whoever reads it now looks again afterwards. */
        cache_buffer_detach(buffer);
    }
    r = cache_buffer_new(txn->cache, block, BUFFER_PRESENT, &buffer);
    if (r < 0) {
        return cache_txn_fail(txn, r);
    }
    memset(buffer->bytes, 0, txn->cache->config.block_size);
    buffer->fresh = true;
    *ret = buffer;
    return 0;
}

static int log_zero(Txn *txn, CacheBuffer *buffer, unsigned class) {
    LogItem zero = {.type = ITEM_ZERO, .class = class, .block = buffer->public.block};
    LogItem whole = {.class = class, .length = txn->cache->config.block_size};
    int r;

    touch(txn, buffer);
    if (has_base(txn, buffer)) {
        r = log_item(txn, buffer, &zero, &whole);
    } else {
        r = cache_txn_append(txn, &zero);
        if (r < 0) {
            return r;
        }
        start_class_map(buffer);
        buffer->classes.fill = buffer->classes.top = (uint8_t)(class + 1);
        txn->classes |= (uint8_t)(1U << class);
        r = buffer->fresh ? 0 : undo_push(txn, buffer->bytes, whole.length);
    }
    if (r == 0) {
        memset(buffer->bytes, 0, whole.length);
    }
    return r;
}

int txn_new_block(Txn *txn, uint64_t block, unsigned class, Buffer **ret) {
    CacheBuffer *buffer = NULL;
    Cache *cache = txn->cache;
    int r;

    assert(txn->open && class < TXN_CLASS_MAX);
    if (++cache->debug.writes == cache->debug.abort_at) {
        return cache_txn_fail(txn, -EIO);
    }
    if (block >= cache->block_count) {
        return cache_txn_fail(txn, -ERANGE);
    }
    if (cache_range_pending(cache, block, 1)) {
        return cache_txn_fail(txn, -EBUSY);
    }
    txn->fresh_bytes += cache->config.block_size;
    if (txn->fresh_bytes > FRESH_BYTES_MAX) {
        return cache_txn_fail(txn, -E2BIG);
    }
    r = new_block_buffer(txn, block, &buffer);
    if (r < 0) {
        return r;
    }
    r = log_zero(txn, buffer, class);
    if (r < 0) {
        cache_buffer_unref(buffer);
        return r;
    }
    *ret = &buffer->public;
    return 0;
}

int txn_free_blocks(Txn *txn, uint64_t start, uint64_t count) {
    LogItem item = {.type = ITEM_FREE, .block = start, .count = count};
    int r;

    if (count == 0) {
        return 0;
    }
    if (!range_inside(start, count, txn->cache->block_count)) {
        return cache_txn_fail(txn, -ERANGE);
    }
    r = pending_add(&txn->cache->pending, start, count);
    if (r < 0) {
        return cache_txn_fail(txn, r);
    }
    return cache_txn_append(txn, &item);
}

/* ---- batches ---- */

uint64_t txn_batch(const Txn *txn) {
    return txn->batch_begin;
}

int txn_separate(Txn *txn) {
    if (txn->batch_begin == txn->lsn) {
        return 0;
    }
    txn->run->new_batch = true;
    return cache_txn_fail(txn, -ERESTART);
}

unsigned txn_class_written(const Txn *txn, uint64_t block, uint32_t offset, uint32_t length) {
    const CacheBuffer *buffer = cache_buffer_lookup(txn->cache, block);
    unsigned top = 0;

    assert(range_inside(offset, length, txn->cache->config.block_size));
    /* What has been written is in memory until it is on the medium. */
    if (buffer == NULL || buffer->state != BUFFER_PRESENT || !has_base(txn, buffer)) {
        return 0;
    }
    if (buffer->classes.entries == NULL || length == txn->cache->config.block_size) {
        top = buffer->classes.top;
        length = 0;
    }
    for (uint32_t i = 0; i < length; i++) {
        unsigned entry = buffer->classes.entries[offset + i];

        top = MAX(top, entry & 0x0f);
        top = MAX(top, entry >> 4);
    }
    return top > 0 ? top - 1 : 0;
}

/* ---- hooks ---- */

int txn_on_commit(Txn *txn, void (*fn)(void *arg), void *arg) {
    int r =
        VECTOR_RESERVE(txn->commit_hooks, txn->commit_hook_capacity, txn->commit_hook_count + 1);

    if (r < 0) {
        return cache_txn_fail(txn, r);
    }
    txn->commit_hooks[txn->commit_hook_count++] = (TxnHook){fn, arg};
    return 0;
}

int txn_on_abort(Txn *txn, void (*fn)(void *arg), void *arg) {
    int r = VECTOR_RESERVE(txn->abort_hooks, txn->abort_hook_capacity, txn->abort_hook_count + 1);

    if (r < 0) {
        return cache_txn_fail(txn, r);
    }
    txn->abort_hooks[txn->abort_hook_count++] = (TxnHook){fn, arg};
    return 0;
}
