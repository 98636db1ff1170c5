/* SPDX-License-Identifier: MIT */
/*
 * The side journal (-o journal=FILE): a file beside the image that makes write-out
 * atomic under power cuts, whatever the format. A checkpoint writes all its blocks
 * there and flushes before the first of them goes to its place on the volume; the next
 * mount finds a whole batch and writes it again, or drops a part of one (man
 * berth-recovery.7, section 14).
 *
 * The file holds at most one batch. It knows its volume by type, serial number and
 * size, and each sector of a batch by a checksum of what lay there before: a journal
 * of another volume, or of one that was changed without it, is refused. Every byte of it
 * is untrusted.
 *
 * One journal belongs to one volume and its thread; calls do not overlap.
 */
#ifndef BERTH_SIDEJOURNAL_H
#define BERTH_SIDEJOURNAL_H

#include "berth/block.h"

typedef struct SideJournal SideJournal;
typedef struct Fold Fold;

/* Whose journal it is. Strings are filled up with zeros. */
typedef struct SideJournalVolume {
    uint64_t size; /* bytes */
    char type[32];
    char serial[64]; /* "": the format has none */
} SideJournalVolume;

typedef struct SideJournalStats {
    uint64_t batches, blocks, bytes; /* journalled */
    uint64_t replayed;               /* blocks written to the volume at its mount or takeover */
} SideJournalStats;

/* Bytes that a journal needs for a volume of this size with a log of ring_bytes (0: the default).
 */
uint64_t sidejournal_size(uint64_t ring_bytes, uint64_t volume_size);

/* What a file begins with: fewer bytes than this mean that it is no longer. */
#define SIDEJOURNAL_LOOK 65536u
typedef enum SideJournalLook {
    SIDEJOURNAL_BLANK, /* nothing, or zeros only */
    SIDEJOURNAL_OURS,
    SIDEJOURNAL_FOREIGN /* something else, which must not be overwritten */
} SideJournalLook;
SideJournalLook sidejournal_look(const uint8_t *bytes, size_t length);

/* device stays the caller's. Nothing is read yet. */
int sidejournal_new(BlockDevice *device, SideJournal **ret);
/* The same over a posix device of fd's, for who has no loop. *ret_device is to be freed after it,
 * also on failure. */
int sidejournal_new_posix(int fd, bool readonly, BlockDevice **ret_device, SideJournal **ret);
SideJournal *sidejournal_free(SideJournal *journal);
DEFINE_CLEANUP(SideJournal *, sidejournal_free);
const SideJournalStats *sidejournal_stats(const SideJournal *journal);
uint64_t sidejournal_capacity(const SideJournal *journal);

/*
 * Before the volume is parsed at its mount: checks whose it is, brings the batch that it may hold
 * to the volume, and leaves it empty. 0, or an error with *text: -EUCLEAN damaged, -ESTALE the
 * volume was changed without it, -EXDEV another volume's, -EROFS a batch has to be written and the
 * volume cannot be, or with `readonly` must not be, -ENOSPC smaller than `need`.
 */
MAY_YIELD int sidejournal_begin(SideJournal *journal, const SideJournalVolume *volume,
                                uint64_t need, BlockDevice *image, bool readonly, char text[256]);
/*
 * The same for who takes over the log of one that died with the volume mounted: its writes have
 * ended, and the volume has been ours throughout, so nothing is compared. *ret_end: up to where in
 * that log all is on the volume now; 0: nobody knows.
 */
MAY_YIELD int sidejournal_resume(SideJournal *journal, BlockDevice *image, uint64_t *ret_end);

/*
 * All blocks of the fold, flushed: from the return on a power cut leaves all of them or none. What
 * lay in their places is taken from the fold's bases, or with `look` read from the image: where a
 * part of the fold may have been written already. 1: there is a batch, to be followed by
 * sidejournal_clear() after the blocks have been written and flushed; 0: it has no blocks.
 * -ENOSPC: it does not fit, or the file cannot grow. After an error the volume must not be
 * written; the call may be repeated.
 */
MAY_YIELD int sidejournal_commit(SideJournal *journal, const Fold *fold, BlockDevice *image,
                                 bool look);
MAY_YIELD int sidejournal_clear(SideJournal *journal);

#endif
