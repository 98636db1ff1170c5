/* SPDX-License-Identifier: MIT */
/* What the files of the side journal share: sidejournal.c writes, sidejournal_replay.c reads. */
#ifndef BERTH_CACHE_SIDEJOURNAL_H
#define BERTH_CACHE_SIDEJOURNAL_H

#include "sidejournal_codec.h"

#define SIDEJOURNAL_CHUNK ((size_t)1 << 20)

struct SideJournal {
    BlockDevice *device;
    uint64_t capacity;        /* bytes of the device that are used */
    SideJournalHeader header; /* as on the medium, or about to be there */
    SideJournalStats stats;
};

/* Aligned for direct I/O, to be freed; NULL: no memory. */
uint8_t *sidejournal_chunk_new(void);
/* As journal->header says, flushed. */
MAY_YIELD int sidejournal_store_header(SideJournal *journal);

typedef enum SideJournalOutcome {
    SIDEJOURNAL_REPLAYED,
    SIDEJOURNAL_INCOMPLETE, /* it was being written when the power went: nothing of it counts */
} SideJournalOutcome;
/*
 * Writes the batch of journal->header to the image and flushes. With `compare` nothing is
 * written, and it is -ESTALE, if a unit on the image is neither as before nor as in the batch.
 * SideJournalOutcome or -errno.
 */
MAY_YIELD int sidejournal_replay(SideJournal *journal, BlockDevice *image, bool compare);

#endif
