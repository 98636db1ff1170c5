/* SPDX-License-Identifier: MIT */
/*
 * The object table: what an object's natural place on the medium cannot tell
 * and a successor must know. It lies in the lifeline and changes only by the
 * OBJECT items of committed records, so that redo can repeat each change; the
 * open transaction's own changes are read back from its record.
 *
 * The index (linear probing, never more than half full) is private memory.
 */
#include "internal.h"
#include <assert.h>

#define ADOPT_STEP 64U /* entries that are copied at a time */

static_assert(LIFELINE_OBJECTS % ADOPT_STEP == 0, "the table is read in steps");

static uint32_t object_start(uint64_t file_id, uint32_t kind) {
    uint64_t mixed = (file_id + kind * UINT64_C(0x632be59bd9b4e019)) * UINT64_C(0x9e3779b97f4a7c15);

    return (uint32_t)(mixed >> 40) % OBJECT_INDEX_SIZE;
}

/* Place in the index that holds the object, or the empty one where it would go. */
static uint32_t object_place(const Cache *cache, uint64_t file_id, uint32_t kind) {
    uint32_t at = object_start(file_id, kind);

    while (cache->objects->place[at] != 0) {
        const LifelineObject *entry = &cache->log->objects[cache->objects->place[at] - 1];

        if (entry->file_id == file_id && entry->kind == kind) {
            break;
        }
        at = (at + 1) % OBJECT_INDEX_SIZE;
    }
    return at;
}

int cache_objects_init(Cache *cache) {
    cache->objects = calloc(1, sizeof(*cache->objects));
    if (cache->objects == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = LIFELINE_OBJECTS; i-- > 0;) {
        cache->objects->free[cache->objects->free_count++] = (uint16_t)i;
    }
    return 0;
}

/* The kind is stored last and erased first, so that death in between leaves no entry that nobody
 * put: the record is applied again by the successor then. */
static bool object_store(Cache *cache, uint64_t lsn, const LogItem *item) {
    ObjectIndex *index = cache->objects;
    uint32_t at = object_place(cache, item->block, item->class);
    LifelineObject *entry;

    if (index->place[at] == 0) {
        uint32_t free_entry;

        if (index->free_count == 0) {
            return false;
        }
        free_entry = index->free[index->free_count - 1];
        if (lifeline_back_object(cache->log, free_entry) < 0) {
            return false;
        }
        index->free_count--;
        index->place[at] = (uint16_t)(free_entry + 1);
        index->top = MAX(index->top, free_entry + 1);
    }
    entry = &cache->log->objects[cache->objects->place[at] - 1];
    entry->file_id = item->block;
    entry->lsn = lsn;
    entry->length = item->length;
    memcpy(entry->blob, item->bytes, item->length);
    __atomic_store_n(&entry->kind, item->class, __ATOMIC_RELEASE);
    return true;
}

static void object_erase(Cache *cache, const LogItem *item) {
    ObjectIndex *index = cache->objects;
    uint32_t hole = object_place(cache, item->block, item->class);
    uint32_t entry;

    if (index->place[hole] == 0) {
        return;
    }
    entry = index->place[hole] - 1U;
    __atomic_store_n(&cache->log->objects[entry].kind, 0, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    memset(&cache->log->objects[entry], 0, sizeof(cache->log->objects[entry]));
    index->free[index->free_count++] = (uint16_t)entry;
    index->place[hole] = 0;
    /* Closes the gap: whoever follows moves up unless that would put it before its start. */
    for (uint32_t at = (hole + 1) % OBJECT_INDEX_SIZE; index->place[at] != 0;
         at = (at + 1) % OBJECT_INDEX_SIZE) {
        const LifelineObject *other = &cache->log->objects[index->place[at] - 1];
        uint32_t start = object_start(other->file_id, other->kind);

        if ((at - start) % OBJECT_INDEX_SIZE >= (at - hole) % OBJECT_INDEX_SIZE) {
            index->place[hole] = index->place[at];
            index->place[at] = 0;
            hole = at;
        }
    }
}

static bool object_valid(const LifelineObject *entry) {
    return entry->kind >= TXN_OBJECT_ALIAS && entry->kind <= TXN_OBJECT_RECLAIM &&
           entry->length <= LIFELINE_BLOB_MAX;
}

static bool object_adopt(Cache *cache, uint32_t number, const LifelineObject *entry) {
    ObjectIndex *index = cache->objects;
    uint32_t at;

    if (entry->kind == 0) {
        index->free[index->free_count++] = (uint16_t)number;
        return true;
    }
    index->top = MAX(index->top, number + 1);
    if (!object_valid(entry)) {
        return false;
    }
    at = object_place(cache, entry->file_id, entry->kind);
    if (index->place[at] != 0) {
        return false;
    }
    index->place[at] = (uint16_t)(number + 1);
    return true;
}

bool cache_objects_adopt(Cache *cache) {
    _cleanup_free_ LifelineObject *entries = calloc(ADOPT_STEP, sizeof(*entries));
    bool good = entries != NULL;

    cache->objects->free_count = cache->objects->top = 0;
    for (uint32_t first = LIFELINE_OBJECTS; first > 0;) {
        first -= ADOPT_STEP;
        if (entries == NULL || lifeline_read_objects(cache->log, first, ADOPT_STEP, entries) < 0) {
            good = false; /* neither free nor known */
            continue;
        }
        for (uint32_t i = ADOPT_STEP; i-- > 0;) {
            good = object_adopt(cache, first + i, &entries[i]) && good;
        }
    }
    return good;
}

bool cache_objects_apply(Cache *cache, const LogRecord *record) {
    LogCursor cursor = {0};
    bool good = true;
    LogItem item;

    while (record_next(&cache->view, record, &cursor, &item) > 0) {
        if (item.type == ITEM_OBJECT && item.offset == 1) {
            good = object_store(cache, record->lsn, &item) && good;
        } else if (item.type == ITEM_OBJECT) {
            object_erase(cache, &item);
        }
    }
    return good;
}

/* The open transaction's last word on an object. */
static bool find_in_record(const Txn *txn, uint64_t file_id, TxnObjectKind kind, LogItem *ret) {
    LogRecord record = record_builder_view(&txn->record, txn->lsn);
    LogCursor cursor = {0};
    bool found = false;
    LogItem item;

    while (record_next(&txn->cache->view, &record, &cursor, &item) > 0) {
        if (item.type == ITEM_OBJECT && item.block == file_id && item.class == (unsigned)kind) {
            *ret = item;
            found = true;
        }
    }
    return found;
}

static bool object_kind_valid(TxnObjectKind kind) {
    return kind >= TXN_OBJECT_ALIAS && kind <= TXN_OBJECT_RECLAIM;
}

int txn_object_put(Txn *txn, uint64_t file_id, TxnObjectKind kind, const void *blob,
                   uint32_t length) {
    Cache *cache = txn->cache;
    LogItem item = {.type = ITEM_OBJECT,
                    .class = (unsigned)kind,
                    .offset = 1,
                    .length = length,
                    .block = file_id,
                    .bytes = blob};
    const ObjectIndex *index = cache->objects;
    bool is_new;
    int r;

    if (!object_kind_valid(kind) || length > TXN_OBJECT_BLOB_MAX) {
        return cache_txn_fail(txn, -EINVAL);
    }
    is_new = index->place[object_place(cache, file_id, (uint32_t)kind)] == 0;
    if (is_new && txn->object_puts >= index->free_count) {
        return cache_txn_fail(txn, -ENOSPC);
    }
    if (is_new) { /* storing it after the commit cannot fail then */
        r = lifeline_back_object(cache->log, index->free[index->free_count - 1 - txn->object_puts]);
        if (r < 0) {
            return cache_txn_fail(txn, r);
        }
    }
    r = cache_txn_append(txn, &item);
    if (r < 0) {
        return r;
    }
    txn->object_puts += is_new;
    txn->object_items++;
    return 0;
}

int txn_object_remove(Txn *txn, uint64_t file_id, TxnObjectKind kind) {
    LogItem item = {.type = ITEM_OBJECT, .class = (unsigned)kind, .block = file_id};
    int r;

    if (!object_kind_valid(kind)) {
        return cache_txn_fail(txn, -EINVAL);
    }
    r = cache_txn_append(txn, &item);
    if (r == 0) {
        txn->object_items++;
    }
    return r;
}

int cache_object_get(Cache *cache, uint64_t file_id, TxnObjectKind kind, void *blob,
                     uint32_t capacity) {
    const uint8_t *bytes;
    uint32_t length, at;
    LogItem item;

    if (!object_kind_valid(kind)) {
        return -EINVAL;
    }
    if (cache->txn.open && cache->txn.object_items > 0 &&
        find_in_record(&cache->txn, file_id, kind, &item)) {
        if (item.offset == 0) {
            return -ENOENT;
        }
        bytes = item.bytes;
        length = item.length;
    } else {
        at = object_place(cache, file_id, (uint32_t)kind);
        if (cache->objects->place[at] == 0) {
            return -ENOENT;
        }
        bytes = cache->log->objects[cache->objects->place[at] - 1].blob;
        length = cache->log->objects[cache->objects->place[at] - 1].length;
        length = MIN(length, (uint32_t)LIFELINE_BLOB_MAX);
    }
    memcpy(blob, bytes, MIN(length, capacity));
    return (int)length;
}

int cache_object_iterate(Cache *cache,
                         int (*fn)(void *arg, uint64_t file_id, TxnObjectKind kind,
                                   const void *blob, uint32_t length),
                         void *arg) {
    for (uint32_t i = 0; i < cache->objects->top; i++) {
        LifelineObject entry = cache->log->objects[i];
        int r;

        /* Entries that a predecessor left damaged are in no index. */
        if (entry.kind == 0 ||
            cache->objects->place[object_place(cache, entry.file_id, entry.kind)] != i + 1) {
            continue;
        }
        r = fn(arg, entry.file_id, (TxnObjectKind)entry.kind, entry.blob,
               MIN(entry.length, (uint32_t)LIFELINE_BLOB_MAX));
        if (r != 0) {
            return r;
        }
    }
    return 0;
}
