/* SPDX-License-Identifier: MIT */
/*
 * Indexing a batch and building its blocks (fold.h). Items are grouped by
 * block through a small open-addressing table, which is cheaper than sorting
 * all items; only the blocks are sorted, so that write-out can coalesce.
 */
#include "fold.h"
#include "vector.h"

#define TABLE_MIN 256

static size_t table_start(const Fold *fold, uint64_t block) {
    return (size_t)((block * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (fold->table_size - 1);
}

static void table_enter(Fold *fold, size_t index) {
    size_t at = table_start(fold, fold->blocks[index].block);

    while (fold->table[at] != 0) {
        at = (at + 1) & (fold->table_size - 1);
    }
    fold->table[at] = (uint32_t)index + 1;
}

/* At most half full, so that probing ends. */
static int table_grow(Fold *fold) {
    size_t size = fold->table_size == 0 ? TABLE_MIN : fold->table_size * 2;
    uint32_t *table;

    if (2 * (fold->block_count + 1) <= fold->table_size) {
        return 0;
    }
    table = calloc(size, sizeof(*table));
    if (table == NULL) {
        return -ENOMEM;
    }
    free(fold->table);
    fold->table = table;
    fold->table_size = size;
    for (size_t i = 0; i < fold->block_count; i++) {
        table_enter(fold, i);
    }
    return 0;
}

static int find_block(Fold *fold, uint64_t block, FoldBlock **ret) {
    int r = table_grow(fold);

    if (r < 0) {
        return r;
    }
    for (size_t at = table_start(fold, block); fold->table[at] != 0;
         at = (at + 1) & (fold->table_size - 1)) {
        if (fold->blocks[fold->table[at] - 1].block == block) {
            *ret = &fold->blocks[fold->table[at] - 1];
            return 0;
        }
    }
    r = VECTOR_RESERVE(fold->blocks, fold->block_capacity, fold->block_count + 1);
    if (r < 0) {
        return r;
    }
    fold->blocks[fold->block_count] =
        (FoldBlock){.block = block, .first = FOLD_NONE, .last = FOLD_NONE};
    table_enter(fold, fold->block_count);
    *ret = &fold->blocks[fold->block_count++];
    return 0;
}

static int index_item(Fold *fold, const LogItem *item, uint32_t position) {
    FoldBlock *block = NULL;
    int r;

    if (item->type == ITEM_FREE || item->type == ITEM_OBJECT) {
        return 0;
    }
    r = VECTOR_RESERVE(fold->items, fold->item_capacity, fold->item_count + 1);
    if (r == 0) {
        r = find_block(fold, item->block, &block);
    }
    if (r < 0) {
        return r;
    }
    if (block->first == FOLD_NONE) {
        /* Without its base a block would be built from whatever lies on the medium. */
        if (item->type != ITEM_BASE && item->type != ITEM_ZERO) {
            return -EUCLEAN;
        }
        block->first = (uint32_t)fold->item_count;
    } else {
        fold->items[block->last].next = (uint32_t)fold->item_count;
    }
    block->last = (uint32_t)fold->item_count;
    if (item->type != ITEM_BASE) {
        block->classes |= (uint8_t)(1U << item->class);
        fold->classes |= block->classes;
    }
    fold->items[fold->item_count++] = (FoldItem){.position = position, .next = FOLD_NONE};
    return 0;
}

static int index_record(Fold *fold, const LogRecord *record) {
    uint32_t base = (uint32_t)(record->lsn - fold->begin) + (uint32_t)sizeof(RecordHeader);
    LogCursor cursor = {0};

    for (;;) {
        uint32_t position = base + cursor.offset;
        LogItem item;
        int r = record_next(&fold->log, record, &cursor, &item);

        if (r <= 0) {
            return r;
        }
        r = index_item(fold, &item, position);
        if (r < 0) {
            return r;
        }
    }
}

static int compare_blocks(const void *left, const void *right) {
    uint64_t a = ((const FoldBlock *)left)->block;
    uint64_t b = ((const FoldBlock *)right)->block;

    return (a > b) - (a < b);
}

int fold_init(Fold *fold, const LogView *log, uint64_t begin, uint64_t end) {
    uint64_t lsn = begin;
    int r = 0;

    *fold = (Fold){.log = *log, .begin = begin, .end = end};
    if (end < begin || end - begin > log->ring_size) {
        return -EUCLEAN;
    }
    while (lsn < end) {
        LogRecord record;

        r = record_decode(log, lsn, end, &record);
        if (r == 0) {
            r = index_record(fold, &record);
        }
        if (r < 0) {
            fold_done(fold);
            fold->end = lsn;
            return r;
        }
        lsn = record.end;
    }
    free(fold->table);
    fold->table = NULL;
    if (fold->block_count > 0) {
        qsort(fold->blocks, fold->block_count, sizeof(*fold->blocks), compare_blocks);
    }
    return 0;
}

void fold_done(Fold *fold) {
    free(fold->items);
    free(fold->blocks);
    free(fold->table);
    *fold = (Fold){0};
}

/* Decoded again although the index was built from it: the ring is shared memory. */
static int item_again(const Fold *fold, const FoldBlock *block, uint32_t index, LogItem *ret) {
    uint32_t length = (uint32_t)(fold->end - fold->begin);
    uint32_t position = fold->items[index].position;
    const uint8_t *at = fold->log.ring + (fold->begin + position) % fold->log.ring_size;
    int r = record_item_decode(&fold->log, at, length - position, ret);

    return r < 0 || ret->block != block->block ? -EUCLEAN : 0;
}

int fold_base(const Fold *fold, const FoldBlock *block, uint8_t *data) {
    LogItem item;
    int r = item_again(fold, block, block->first, &item);

    if (r < 0 || item.type != ITEM_BASE) {
        return r;
    }
    record_item_apply(&item, data, fold->log.block_size);
    return 1;
}

int fold_block(const Fold *fold, const FoldBlock *block, unsigned class, uint8_t *data) {
    for (uint32_t i = block->first; i != FOLD_NONE; i = fold->items[i].next) {
        LogItem item;
        int r = item_again(fold, block, i, &item);

        if (r < 0) {
            return r;
        }
        /* A base counts whatever its class; ZERO is one when it comes first. A later BASE (the
         * block was freed and read again) starts over. */
        if (i == block->first || item.type == ITEM_BASE || item.class <= class) {
            record_item_apply(&item, data, fold->log.block_size);
        }
    }
    return 0;
}
