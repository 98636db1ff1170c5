/* SPDX-License-Identifier: MIT */
/*
 * The side journal's format, and its conversion. One header of a sector, which is never
 * written in two halves; at SIDEJOURNAL_BODY the batch, one entry after the other:
 *
 *     SideJournalDiskEntry, a checksum for each 512 bytes of what lay there, the block
 *
 * blocks ascending. The header of a batch carries the checksum of the whole body, seeded
 * with the sequence number: header and body are written without a flush between, and a
 * batch of which a part is missing does not count.
 */
#ifndef BERTH_CACHE_SIDEJOURNAL_CODEC_H
#define BERTH_CACHE_SIDEJOURNAL_CODEC_H

#include "berth/bytes.h"
#include "berth/sidejournal.h"
#include <assert.h>

#define SIDEJOURNAL_VERSION 1u
#define SIDEJOURNAL_BODY UINT64_C(4096)
#define SIDEJOURNAL_UNIT 512u /* what a cut leaves whole */

typedef struct SideJournalDiskHeader {
    uint8_t magic[8]; /* "berthjnl" */
    le32 version;
    le32 state; /* 0: empty, 1: holds a batch */
    le64 sequence;
    le64 volume_size;
    char type[32];
    char serial[64];
    le32 block_size; /* from here on 0 in an empty one */
    le32 reserved;
    le64 blocks;
    le64 body_length;
    le64 body_checksum;
    le64 log_end; /* where the batch ends in the log that it was made from */
    uint8_t zero[336];
    le64 checksum; /* of all before */
} SideJournalDiskHeader;
static_assert(sizeof(SideJournalDiskHeader) == 512, "header");
static_assert(offsetof(SideJournalDiskHeader, block_size) == 128, "header");

typedef struct SideJournalDiskEntry {
    le64 block;
    le32 flags; /* 1: the checksums are known */
    le32 reserved;
} SideJournalDiskEntry;
static_assert(sizeof(SideJournalDiskEntry) == 16, "entry");

typedef struct SideJournalHeader {
    bool committed;
    uint64_t sequence;
    SideJournalVolume volume;
    uint32_t block_size;
    uint64_t blocks, body_length, body_checksum, log_end;
} SideJournalHeader;

typedef struct SideJournalEntry {
    uint64_t block;
    bool known;
} SideJournalEntry;

void sidejournal_header_encode(const SideJournalHeader *header, SideJournalDiskHeader *ret);
/* capacity: of the file. 1, 0: blank, -EUCLEAN and *text. All sizes fit and agree then. */
int sidejournal_header_decode(const SideJournalDiskHeader *disk, uint64_t capacity,
                              SideJournalHeader *ret, const char **text);
/* Length of an entry with all that follows it. */
uint64_t sidejournal_entry_length(uint32_t block_size);
SideJournalDiskEntry sidejournal_entry_encode(const SideJournalEntry *entry);
/* `least`: one above the last entry's block. 0 or -EUCLEAN. */
int sidejournal_entry_decode(const SideJournalDiskEntry *disk, const SideJournalHeader *header,
                             uint64_t least, SideJournalEntry *ret);
/* Of one unit. */
uint64_t sidejournal_unit_checksum(const uint8_t *bytes);

#endif
