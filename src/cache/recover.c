/* SPDX-License-Identifier: MIT */
/*
 * Taking over a predecessor's log (man berth-recovery.7, section 8). No code of
 * any filesystem runs here, and every byte is hostile: the predecessor may
 * have stored anything before it died.
 *
 *   1. The header is copied, then checked.
 *   2. Records [tail, head) are checked and applied in order to private memory:
 *      blocks (dirty, as after the last commit), pending frees, batches. If a
 *      record is damaged, all is dropped and done again up to there, so that no
 *      half of a record is ever applied.
 *   3. Replies and objects of records from `applied` on are stored once more.
 *   4. batch_start := head.
 *
 * The shared memory is not changed before 3, and 3 and 4 can be repeated: a
 * successor that dies in here leaves what it found.
 */
#include "berth/log.h"
#include "internal.h"
#include <assert.h>
#include <inttypes.h>

typedef struct Replay {
    Cache *cache;
    LogRecord record; /* being applied */
    uint64_t batch_begin;
    uint8_t classes; /* of the record */
} Replay;

static void forget_all(HashNode *node, void *arg) {
    (void)arg;
    cache_buffer_detach(container_of(node, CacheBuffer, hash));
}

static void replay_drop(Cache *cache) {
    hashmap_iterate(&cache->buffers, forget_all, NULL);
    pending_done(&cache->pending);
    pending_init(&cache->pending);
    cache->batch_first = cache->batch_count = 0;
}

/* More than a log of this size can have made dirty (txn_new_block() holds to it as well)? */
static bool too_many_dirty(const Cache *cache) {
    uint64_t dirty = (uint64_t)cache->stats.dirty_buffers << cache->block_shift;

    return dirty > 2 * cache->log->ring_size + FRESH_BYTES_MAX;
}

static int replay_block(Replay *replay, const LogItem *item) {
    Cache *cache = replay->cache;
    CacheBuffer *buffer = cache_buffer_lookup(cache, item->block);
    bool has_base = buffer != NULL && buffer->base_lsn >= replay->batch_begin;
    int r;

    if (!has_base && item->type != ITEM_BASE && item->type != ITEM_ZERO) {
        return -EUCLEAN;
    }
    if (buffer != NULL) {
        cache_buffer_ref(buffer);
    } else {
        r = too_many_dirty(cache) ? -EUCLEAN
                                  : cache_buffer_new(cache, item->block, BUFFER_PRESENT, &buffer);
        if (r < 0) {
            return r;
        }
    }
    record_item_apply(item, buffer->bytes, cache->config.block_size);
    if (!has_base || item->type == ITEM_BASE) {
        buffer->base_lsn = replay->record.lsn;
    }
    if (item->type != ITEM_BASE) {
        replay->classes |= (uint8_t)(1U << item->class);
    }
    cache_buffer_set_dirty(buffer, replay->record.end);
    cache_buffer_unref(buffer);
    return 0;
}

static int replay_item(Replay *replay, const LogItem *item) {
    switch (item->type) {
    case ITEM_BASE:
    case ITEM_ZERO:
    case ITEM_RANGE:
    case ITEM_BITS:
        return replay_block(replay, item);
    case ITEM_FREE:
        return pending_add(&replay->cache->pending, item->block, item->count);
    case ITEM_OBJECT:
        return 0;
    }
    return -EUCLEAN;
}

static int replay_batch(Replay *replay) {
    Cache *cache = replay->cache;
    int r;

    if (!replay->record.starts_batch) {
        /* The first one after the tail does. */
        return cache->batch_count == 0 ? -EUCLEAN : 0;
    }
    r = VECTOR_RESERVE(cache->batches, cache->batch_capacity, cache->batch_count + 1);
    if (r < 0) {
        return r;
    }
    cache->batches[cache->batch_count++] = (CacheBatch){.begin = replay->record.lsn};
    replay->batch_begin = replay->record.lsn;
    return 0;
}

static int replay_record(Replay *replay) {
    const LogRecord *record = &replay->record;
    Cache *cache = replay->cache;
    LogCursor cursor = {0};
    LogItem item;
    int r;

    if (record->slot != TXN_SLOT_INTERNAL && record->slot >= cache->log->slot_count) {
        return -EUCLEAN;
    }
    r = replay_batch(replay);
    if (r < 0) {
        return r;
    }
    replay->classes = 0;
    do {
        r = record_next(&cache->view, record, &cursor, &item);
        if (r > 0) {
            int applied = replay_item(replay, &item);
            r = applied < 0 ? applied : r;
        }
    } while (r > 0);
    if (r == 0) {
        cache->batches[cache->batch_count - 1].classes |= replay->classes;
        pending_commit(&cache->pending, record->end, cache_forget_range, cache);
    }
    return r;
}

/* Applies [tail, end) to private memory. -EUCLEAN: the record at *ret_bad is damaged. */
static int replay_log(Cache *cache, uint64_t tail, uint64_t end, uint64_t *ret_bad) {
    Replay replay = {.cache = cache};
    uint64_t lsn = tail;

    while (lsn < end) {
        int r = record_decode(&cache->view, lsn, end, &replay.record);

        if (r == 0) {
            r = replay_record(&replay);
        }
        if (r < 0) {
            *ret_bad = lsn;
            return r;
        }
        lsn = replay.record.end;
    }
    return 0;
}

/* Replies and objects of the last records may not have reached their tables. */
static void apply_tables(Cache *cache, uint64_t lsn, uint64_t applied) {
    LogRecord record;

    while (lsn < cache->log->head &&
           record_decode(&cache->view, lsn, cache->log->head, &record) == 0) {
        lsn = record.end;
        if (record.end <= applied) {
            continue;
        }
        if (record.slot != TXN_SLOT_INTERNAL) {
            lifeline_store_reply(cache->log, record.slot, record.seq, record.lsn, record.reply,
                                 record.reply_length);
        }
        if (!cache_objects_apply(cache, &record)) {
            log_error("the object table that the predecessor left has no room for its last object");
            cache->damaged = true;
        }
    }
}

/* The whole log, or as much of it as is good. *ret_end: where that ends. */
static int replay_good_part(Cache *cache, const LifelineHeader *header, uint64_t *ret_end) {
    uint64_t end = header->head;
    uint64_t bad = 0;
    int r;

    while ((r = replay_log(cache, header->tail, end, &bad)) == -EUCLEAN && bad < end) {
        replay_drop(cache);
        end = bad;
    }
    if (r < 0) {
        return r;
    }
    if (end < header->head) {
        log_error("the log has a damaged record at position %" PRIu64
                  ": what was committed from there on (%" PRIu64
                  " bytes of log) is lost, the volume is read-only",
                  end, header->head - end);
        cache->damaged = true;
    }
    *ret_end = end;
    return 0;
}

/* The reply of a record that there cannot have been would make every request older than itself. */
static bool slot_possible(const LifelineSlot *entry, uint64_t head) {
    return entry->seq == 0 || (entry->lsn < head && entry->length <= LIFELINE_REPLY_MAX);
}

static bool slots_possible(const Cache *cache, uint64_t head) {
    bool possible = true;

    for (unsigned i = 0; possible && i < cache->log->slot_count; i++) {
        const LifelineSlot entry = cache->log->slots[i];

        possible = slot_possible(&entry, head);
    }
    return possible;
}

int cache_recover(Cache *cache) {
    const LifelineGeometry geometry = {.block_size = cache->config.block_size,
                                       .volume_size = cache->config.device->size,
                                       .ring_size = cache->log->ring_size,
                                       .slot_count = cache->log->slot_count};
    LifelineHeader header;
    const char *text = NULL;
    uint64_t end = 0;
    int r;

    memcpy(&header, cache->log->header, sizeof(header));
    r = lifeline_check(&header, &geometry, &text);
    if (r < 0) {
        log_error("the lifeline that the predecessor left is unusable: %s", text);
        return r;
    }
    lifeline_adopt(cache->log, &header, header.tail);
    /* A log of one who lied about its length may lie in memory that does not exist yet. */
    r = lifeline_back(cache->log, header.head);
    if (r == 0) {
        r = replay_good_part(cache, &header, &end);
    }
    if (r < 0) {
        return r;
    }
    lifeline_adopt(cache->log, &header, end);
    if (!slots_possible(cache, header.head)) {
        log_error(
            "the table of replies that the predecessor left is damaged, the volume is read-only");
        cache->damaged = true;
    }
    if (!cache_objects_adopt(cache)) {
        log_error("the object table that the predecessor left is damaged, the volume is read-only");
        cache->damaged = true;
    }
    cache->note = header.note;
    cache->recovered = cache->unsettled = cache->foreign_writes = true;
    cache->part_written = true;
    apply_tables(cache, header.tail, header.applied);
    if (!cache->damaged) {
        lifeline_set_applied(cache->log);
    }
    lifeline_set_batch_start(cache->log, end);
    if (cache->damaged && cache->config.failed != NULL) {
        cache->config.failed(cache->config.arg, -EUCLEAN);
    }
    return 0;
}

/* ---- what a successor asks ---- */

bool cache_recovered(const Cache *cache) {
    return cache->recovered;
}

bool cache_damaged(const Cache *cache) {
    return cache->damaged;
}

int cache_slot_reply(Cache *cache, unsigned slot, uint64_t seq, uint8_t ret[256]) {
    LifelineSlot entry;

    if (slot >= cache->log->slot_count) {
        return -EPROTO;
    }
    entry = cache->log->slots[slot];
    if (seq > entry.seq || !slot_possible(&entry, cache->log->head)) {
        return 0;
    }
    if (seq < entry.seq) {
        return -EPROTO;
    }
    memcpy(ret, entry.reply, entry.length);
    return (int)entry.length;
}

uint64_t cache_note(const Cache *cache) {
    return cache->note;
}

void cache_set_note(Cache *cache, uint64_t note) {
    cache->note = note;
    __atomic_store_n(&cache->log->header->note, note, __ATOMIC_RELEASE);
}
