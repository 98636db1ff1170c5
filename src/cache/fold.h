/* SPDX-License-Identifier: MIT */
/*
 * fold(B, E, k): the blocks of one batch of the log as they are after its
 * items of class 0 to k. A pure function of the log's bytes: it reads neither
 * the image nor the cache, so it serves write-out, redo and rescue alike.
 *
 * A Fold indexes one batch: for each block the chain of its items, in log
 * order. Its memory is proportional to the number of items, thus bounded by
 * the ring; block contents are built one at a time into the caller's memory.
 */
#ifndef BERTH_CACHE_FOLD_H
#define BERTH_CACHE_FOLD_H

#include "record.h"

typedef struct FoldItem {
    uint32_t position; /* of the item, from the batch's begin */
    uint32_t next;     /* index of the block's next item, FOLD_NONE at the end */
} FoldItem;
#define FOLD_NONE UINT32_MAX

typedef struct FoldBlock {
    uint64_t block;
    uint32_t first, last; /* items */
    uint8_t classes;      /* bit per class with items in this block */
} FoldBlock;

typedef struct Fold {
    LogView log;
    uint64_t begin, end;
    FoldItem *items;
    size_t item_count, item_capacity;
    FoldBlock *blocks; /* ascending by block */
    size_t block_count, block_capacity;
    uint32_t *table; /* while indexing: block number to index + 1 */
    size_t table_size;
    uint8_t classes; /* of all blocks */
} Fold;

/* Indexes the records of [begin, end). -EUCLEAN: a bad record, or an item without a base; then
 * fold->end says where it lies, and nothing needs fold_done(). */
int fold_init(Fold *fold, const LogView *log, uint64_t begin, uint64_t end);
void fold_done(Fold *fold);
/* Builds one block from its items of class <= class. 0 or -EUCLEAN. */
int fold_block(const Fold *fold, const FoldBlock *block, unsigned class, uint8_t *data);
#define FOLD_ALL (TXN_CLASS_MAX - 1)
/* What the block held before its first item. 1, 0: nobody has looked (it was made anew), -EUCLEAN.
 */
int fold_base(const Fold *fold, const FoldBlock *block, uint8_t *data);

#endif
