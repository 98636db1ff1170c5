/* SPDX-License-Identifier: MIT */
/*
 * Reading a batch of the side journal back: once to see whether all of it is there, and
 * whether the volume is still as it was left; then once more to write it. The file may
 * change between: each pass checks every entry by itself and the whole at its end.
 */
#include "berth/log.h"
#include "sidejournal.h"
#include <inttypes.h>
#include <xxhash.h>

typedef struct BatchReader {
    BlockDevice *device;
    const SideJournalHeader *header;
    uint8_t *chunk;
    size_t filled, at;
    uint64_t offset, left; /* on the device: what has not been read into the chunk */
    XXH3_state_t *hash;
    /* The entry at hand. */
    SideJournalEntry entry;
    uint8_t *sums; /* le64 per unit */
    uint8_t *data; /* block_size */
    uint8_t *now;  /* the same on the image */
} BatchReader;

static int reader_init(BatchReader *reader, const SideJournal *journal) {
    uint32_t block_size = journal->header.block_size;
    void *now = NULL;

    *reader = (BatchReader){.device = journal->device, .header = &journal->header};
    reader->chunk = sidejournal_chunk_new();
    reader->hash = XXH3_createState();
    reader->sums = malloc(block_size / SIDEJOURNAL_UNIT * sizeof(le64));
    reader->data = malloc(block_size);
    if (posix_memalign(&now, 4096, MAX(block_size, 4096U)) == 0) {
        reader->now = now;
    }
    return reader->chunk != NULL && reader->hash != NULL && reader->sums != NULL &&
                   reader->data != NULL && reader->now != NULL
               ? 0
               : -ENOMEM;
}

static void reader_done(BatchReader *reader) {
    free(reader->chunk);
    (void)XXH3_freeState(reader->hash);
    free(reader->sums);
    free(reader->data);
    free(reader->now);
}

static void rewind_body(BatchReader *reader) {
    reader->filled = reader->at = 0;
    reader->offset = SIDEJOURNAL_BODY;
    reader->left = reader->header->body_length;
    (void)XXH3_64bits_reset_withSeed(reader->hash, reader->header->sequence);
}

static int fill_chunk(BatchReader *reader) {
    /* The header's decoder has seen to it that the rounded length lies in the file. */
    uint64_t length = MIN((uint64_t)SIDEJOURNAL_CHUNK, align_up(reader->left, SIDEJOURNAL_BODY));
    int r = block_read(reader->device, reader->offset, reader->chunk, length);

    reader->filled = (size_t)MIN(length, reader->left);
    reader->at = 0;
    reader->offset += length;
    reader->left -= reader->filled;
    return r;
}

static int get(BatchReader *reader, void *bytes, size_t length) {
    uint8_t *to = bytes;

    while (length > 0) {
        size_t part;

        if (reader->at == reader->filled) {
            int r = fill_chunk(reader);

            if (r < 0) {
                return r;
            }
        }
        part = MIN(length, reader->filled - reader->at);
        if (part == 0) {
            return -EUCLEAN; /* body_length and the number of entries agree: never */
        }
        memcpy(to, reader->chunk + reader->at, part);
        (void)XXH3_64bits_update(reader->hash, to, part);
        reader->at += part;
        to += part;
        length -= part;
    }
    return 0;
}

/* 0, -EUCLEAN: the entry is impossible; all its bytes have been taken even so. */
static int next_entry(BatchReader *reader, uint64_t least) {
    uint32_t block_size = reader->header->block_size;
    SideJournalDiskEntry disk;
    int r = get(reader, &disk, sizeof(disk));

    if (r == 0) {
        r = get(reader, reader->sums, block_size / SIDEJOURNAL_UNIT * sizeof(le64));
    }
    if (r == 0) {
        r = get(reader, reader->data, block_size);
    }
    return r < 0 ? r : sidejournal_entry_decode(&disk, reader->header, least, &reader->entry);
}

static bool body_is_whole(const BatchReader *reader) {
    return XXH3_64bits_digest(reader->hash) == reader->header->body_checksum;
}

/* Where the entry's block lies, and how much of it: the volume's last one may be short. */
static uint64_t block_place(const BatchReader *reader, uint64_t *ret_length) {
    uint64_t offset = reader->entry.block * reader->header->block_size;

    *ret_length = MIN((uint64_t)reader->header->block_size, reader->header->volume.size - offset);
    return offset;
}

/* Is each unit on the image as before, or as in the batch? 0, -ESTALE, -errno. */
static int compare_block(BatchReader *reader, BlockDevice *image) {
    uint32_t block_size = reader->header->block_size;
    uint64_t length, offset = block_place(reader, &length);
    int r;

    if (!reader->entry.known) {
        return 0;
    }
    memset(reader->now, 0, block_size);
    r = block_read(image, offset, reader->now, length);
    for (uint32_t at = 0; r == 0 && at < length; at += SIDEJOURNAL_UNIT) {
        size_t part = MIN((size_t)SIDEJOURNAL_UNIT, (size_t)(length - at));
        le64 sum;

        memcpy(&sum, reader->sums + at / SIDEJOURNAL_UNIT * sizeof(sum), sizeof(sum));
        if (memcmp(reader->now + at, reader->data + at, part) != 0 &&
            sidejournal_unit_checksum(reader->now + at) != le64_get(sum)) {
            r = -ESTALE;
        }
    }
    return r;
}

/* SIDEJOURNAL_REPLAYED: it can be. */
static int check_body(BatchReader *reader, BlockDevice *image, bool compare) {
    uint64_t least = 0;
    int bad = 0, stale = 0;

    rewind_body(reader);
    for (uint64_t i = 0; i < reader->header->blocks; i++) {
        int r = next_entry(reader, least);

        if (r < 0 && r != -EUCLEAN) {
            return r;
        }
        if (r < 0) {
            bad = r; /* and on to the end: only the checksum tells damage from half a batch */
            continue;
        }
        least = reader->entry.block + 1;
        if (compare && bad == 0 && stale == 0) {
            r = compare_block(reader, image);
            if (r < 0 && r != -ESTALE) {
                return r;
            }
            stale = r;
        }
    }
    if (!body_is_whole(reader)) {
        return SIDEJOURNAL_INCOMPLETE;
    }
    return bad < 0 ? bad : stale < 0 ? stale : SIDEJOURNAL_REPLAYED;
}

static int write_body(BatchReader *reader, BlockDevice *image) {
    uint64_t least = 0;

    rewind_body(reader);
    for (uint64_t i = 0; i < reader->header->blocks; i++) {
        uint64_t offset, length;
        int r = next_entry(reader, least);

        if (r < 0) {
            return r;
        }
        least = reader->entry.block + 1;
        offset = block_place(reader, &length);
        memcpy(reader->now, reader->data, reader->header->block_size); /* aligned */
        r = block_write(image, offset, reader->now, length);
        if (r < 0) {
            return r;
        }
    }
    return body_is_whole(reader) ? block_flush_all(image) : -EUCLEAN;
}

int sidejournal_replay(SideJournal *journal, BlockDevice *image, bool compare) {
    BatchReader reader;
    int r;

    if (journal->header.volume.size != image->size) {
        return -EUCLEAN;
    }
    r = reader_init(&reader, journal);
    if (r == 0) {
        r = check_body(&reader, image, compare);
    }
    if (r == SIDEJOURNAL_REPLAYED) {
        r = write_body(&reader, image);
        if (r == 0) {
            r = SIDEJOURNAL_REPLAYED;
            journal->stats.replayed += journal->header.blocks;
        }
    }
    reader_done(&reader);
    return r;
}
