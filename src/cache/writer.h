/* SPDX-License-Identifier: MIT */
/*
 * Writes the blocks of a folded batch to the device, one class at a time:
 * blocks are built in private memory, adjacent ones go out in one request.
 */
#ifndef BERTH_CACHE_WRITER_H
#define BERTH_CACHE_WRITER_H

#include "berth/sidejournal.h"
#include "fold.h"

/* All blocks with items of that class; not flushed yet. Adds them to *blocks. 0 or -errno. */
MAY_YIELD int fold_write_class(const Fold *fold, BlockDevice *device, unsigned class,
                               uint64_t *blocks);
/* All blocks as they are after the last class, in no order. */
MAY_YIELD int fold_write_all(const Fold *fold, BlockDevice *device, uint64_t *blocks);
/* journalled.c: the same into a journal, flushed. look: a predecessor may have written a part of
 * the fold; its batch is completed first. 1: the blocks are to be written now, then the journal to
 * be cleared; 0: nothing has to be written; -errno. */
MAY_YIELD int fold_commit_journalled(const Fold *fold, SideJournal *journal, BlockDevice *device,
                                     bool look);

#endif
