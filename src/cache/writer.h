/* SPDX-License-Identifier: MIT */
/*
 * Writes the blocks of a folded batch to the device, one class at a time:
 * blocks are built in private memory, adjacent ones go out in one request.
 */
#ifndef BERTH_CACHE_WRITER_H
#define BERTH_CACHE_WRITER_H

#include "fold.h"

/* All blocks with items of that class; not flushed yet. Adds them to *blocks. 0 or -errno. */
MAY_YIELD int fold_write_class(const Fold *fold, BlockDevice *device, unsigned class,
                               uint64_t *blocks);

#endif
