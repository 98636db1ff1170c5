/* SPDX-License-Identifier: MIT */
/*
 * The side journal: whose it is, and writing a batch (berth/sidejournal.h). The order
 * that makes it work is the caller's but for one rule kept here: a header that says
 * "empty" is flushed before anybody may change what the batch was about in another way.
 */
#include "sidejournal.h"
#include "berth/log.h"
#include "fold.h"
#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

uint8_t *sidejournal_chunk_new(void) {
    void *chunk = NULL;

    return posix_memalign(&chunk, 4096, SIDEJOURNAL_CHUNK) == 0 ? chunk : NULL;
}

int sidejournal_new(BlockDevice *device, SideJournal **ret) {
    SideJournal *journal = calloc(1, sizeof(*journal));

    if (journal == NULL) {
        return -ENOMEM;
    }
    journal->device = device;
    journal->capacity = align_down(device->size, SIDEJOURNAL_BODY);
    *ret = journal;
    return 0;
}

int sidejournal_new_posix(int fd, bool readonly, BlockDevice **ret_device, SideJournal **ret) {
    const BlockOpenConfig config = {.fd = fd, .readonly = readonly, .direct = 0};
    int r = block_posix_new(&config, ret_device);

    return r < 0 ? r : sidejournal_new(*ret_device, ret);
}

SideJournal *sidejournal_free(SideJournal *journal) {
    free(journal);
    return NULL;
}

const SideJournalStats *sidejournal_stats(const SideJournal *journal) {
    return &journal->stats;
}

uint64_t sidejournal_capacity(const SideJournal *journal) {
    return journal->capacity;
}

/* ---- the header ---- */

int sidejournal_store_header(SideJournal *journal) {
    void *page = NULL;
    int r;

    if (posix_memalign(&page, 4096, SIDEJOURNAL_BODY) != 0) {
        return -ENOMEM;
    }
    memset(page, 0, SIDEJOURNAL_BODY);
    sidejournal_header_encode(&journal->header, page);
    r = block_write(journal->device, 0, page, SIDEJOURNAL_BODY);
    free(page);
    return r < 0 ? r : block_flush(journal->device);
}

/* 1, 0: blank, -errno and *text. */
static int load_header(SideJournal *journal, const char **text) {
    _cleanup_free_ uint8_t *chunk = sidejournal_chunk_new();
    uint64_t length = MIN((uint64_t)SIDEJOURNAL_LOOK, journal->device->size);
    int r = chunk == NULL ? -ENOMEM : 0;

    *text = "";
    if (r == 0 && length < sizeof(SideJournalDiskHeader)) {
        return 0;
    }
    if (r == 0) {
        r = block_read(journal->device, 0, chunk, length);
    }
    if (r < 0) {
        *text = "cannot be read";
        return r;
    }
    if (sidejournal_look(chunk, (size_t)length) == SIDEJOURNAL_FOREIGN) {
        *text = "is not one: something else lies there";
        return -EUCLEAN;
    }
    return sidejournal_header_decode((const SideJournalDiskHeader *)(const void *)chunk,
                                     journal->capacity, &journal->header, text);
}

int sidejournal_clear(SideJournal *journal) {
    journal->header.committed = false;
    return sidejournal_store_header(journal);
}

/* ---- the beginning ---- */

static bool same_volume(const SideJournalVolume *a, const SideJournalVolume *b) {
    return a->size == b->size && strcmp(a->type, b->type) == 0 && strcmp(a->serial, b->serial) == 0;
}

static int refuse(int error, char text[256], const char *what) {
    (void)snprintf(text, 256, "the side journal %.200s", what);
    return error;
}

static int refuse_volume(const SideJournalVolume *its, const SideJournalVolume *ours,
                         char text[256]) {
    (void)snprintf(text, 256,
                   "the side journal belongs to another volume: %.12s %.36s, %" PRIu64
                   " bytes; this is %.12s %.36s, %" PRIu64,
                   its->type, its->serial, its->size, ours->type, ours->serial, ours->size);
    return -EXDEV;
}

static int replay_at_mount(SideJournal *journal, BlockDevice *image, char text[256]) {
    int r = sidejournal_replay(journal, image, true);

    if (r == -ESTALE) {
        return refuse(r, text,
                      "holds changes, but the volume has been changed without it since: "
                      "remove the journal to drop them, and check the volume");
    }
    if (r < 0) {
        (void)snprintf(text, 256, "the side journal cannot be replayed: %s",
                       r == -EUCLEAN ? "it is damaged" : strerror(-r));
        return r;
    }
    if (r == SIDEJOURNAL_REPLAYED) {
        log_notice("the power went while the volume was being written: %" PRIu64
                   " blocks were written again from the side journal",
                   journal->header.blocks);
    } else {
        log_notice("the power went while the side journal was being written: what it has of the "
                   "last batch is dropped, and the volume is as it was before");
    }
    return 0;
}

int sidejournal_begin(SideJournal *journal, const SideJournalVolume *volume, uint64_t need,
                      BlockDevice *image, bool readonly, char text[256]) {
    const char *what;
    int r = load_header(journal, &what);
    bool blank = r == 0, committed = r > 0 && journal->header.committed;

    readonly = readonly || image->readonly || journal->device->readonly;
    if (r < 0) {
        return refuse(r, text, what[0] != '\0' ? what : strerror(-r));
    }
    if (!blank && !same_volume(&journal->header.volume, volume)) {
        return refuse_volume(&journal->header.volume, volume, text);
    }
    if (readonly && committed) {
        return refuse(-EROFS, text,
                      "holds changes that must be written to the volume first: mount it with rw");
    }
    if (!readonly && journal->capacity < need) {
        (void)snprintf(text, 256, "the side journal is too small: it needs %" PRIu64 " bytes",
                       need);
        return -ENOSPC;
    }
    journal->header.volume = *volume;
    r = committed ? replay_at_mount(journal, image, text) : 0;
    if (r == 0 && (committed || blank) && !readonly) {
        r = sidejournal_clear(journal);
        if (r < 0) {
            return refuse(r, text, strerror(-r));
        }
    }
    return r;
}

int sidejournal_resume(SideJournal *journal, BlockDevice *image, uint64_t *ret_end) {
    const char *what;
    int r = load_header(journal, &what);

    *ret_end = 0;
    if (r == 0) {
        what = "has been emptied by somebody";
        r = -EUCLEAN;
    }
    if (r > 0 && journal->header.volume.size != image->size) {
        what = "is another volume's now";
        r = -EUCLEAN;
    }
    if (r < 0) {
        log_error("the side journal %s", what[0] != '\0' ? what : strerror(-r));
        return r;
    }
    if (!journal->header.committed) {
        return 0;
    }
    r = sidejournal_replay(journal, image, false);
    if (r == SIDEJOURNAL_REPLAYED) {
        *ret_end = journal->header.log_end;
    }
    return r < 0 ? r : sidejournal_clear(journal);
}

/* ---- writing a batch ---- */

typedef struct BatchWriter {
    BlockDevice *device;
    uint8_t *chunk;
    size_t used;
    uint64_t offset; /* of the chunk, on the device */
    XXH3_state_t *hash;
} BatchWriter;

static int flush_chunk(BatchWriter *writer) {
    uint64_t length = align_up(writer->used, SIDEJOURNAL_BODY);
    int r;

    memset(writer->chunk + writer->used, 0, length - writer->used);
    r = length > 0 ? block_write(writer->device, writer->offset, writer->chunk, length) : 0;
    writer->offset += length;
    writer->used = 0;
    return r;
}

static int put(BatchWriter *writer, const void *bytes, size_t length) {
    const uint8_t *at = bytes;
    int r = 0;

    (void)XXH3_64bits_update(writer->hash, bytes, length);
    while (r == 0 && length > 0) {
        size_t part = MIN(length, SIDEJOURNAL_CHUNK - writer->used);

        memcpy(writer->chunk + writer->used, at, part);
        writer->used += part;
        at += part;
        length -= part;
        if (writer->used == SIDEJOURNAL_CHUNK) {
            r = flush_chunk(writer);
        }
    }
    return r;
}

/* What lies in the block's place: 1 known, 0 nobody needs it, -errno. */
static int read_before(const Fold *fold, const FoldBlock *block, BlockDevice *image, bool look,
                       uint8_t *data) {
    uint64_t offset = block->block * fold->log.block_size;
    int r = fold_base(fold, block, data);

    if (r <= 0 || !look) {
        return r;
    }
    if (offset >= image->size) {
        return -EUCLEAN;
    }
    memset(data, 0, fold->log.block_size);
    r = block_read(image, offset, data, MIN((uint64_t)fold->log.block_size, image->size - offset));
    return r < 0 ? r : 1;
}

static int put_block(BatchWriter *writer, const Fold *fold, const FoldBlock *block,
                     BlockDevice *image, bool look, uint8_t *data) {
    SideJournalEntry entry = {.block = block->block};
    SideJournalDiskEntry disk;
    int r = read_before(fold, block, image, look, data);

    if (r < 0) {
        return r;
    }
    entry.known = r == 1;
    disk = sidejournal_entry_encode(&entry);
    r = put(writer, &disk, sizeof(disk));
    for (uint32_t at = 0; r == 0 && at < fold->log.block_size; at += SIDEJOURNAL_UNIT) {
        le64 sum = le64_make(entry.known ? sidejournal_unit_checksum(data + at) : 0);

        r = put(writer, &sum, sizeof(sum));
    }
    if (r == 0) {
        r = fold_block(fold, block, FOLD_ALL, data);
    }
    return r < 0 ? r : put(writer, data, fold->log.block_size);
}

static uint64_t count_blocks(const Fold *fold) {
    uint64_t count = 0;

    for (size_t i = 0; i < fold->block_count; i++) {
        count += fold->blocks[i].classes != 0;
    }
    return count;
}

static int put_body(BatchWriter *writer, const Fold *fold, BlockDevice *image, bool look) {
    _cleanup_free_ void *data = NULL;
    int r = posix_memalign(&data, 4096, MAX(fold->log.block_size, 4096U)) == 0 ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < fold->block_count; i++) {
        if (fold->blocks[i].classes != 0) {
            r = put_block(writer, fold, &fold->blocks[i], image, look, data);
        }
    }
    return r < 0 ? r : flush_chunk(writer);
}

int sidejournal_commit(SideJournal *journal, const Fold *fold, BlockDevice *image, bool look) {
    SideJournalHeader *header = &journal->header;
    BatchWriter writer = {.device = journal->device, .offset = SIDEJOURNAL_BODY};
    uint64_t blocks = count_blocks(fold);
    uint64_t length = blocks * sidejournal_entry_length(fold->log.block_size);
    int r = -ENOMEM;

    if (blocks == 0) {
        return 0;
    }
    if (journal->capacity < SIDEJOURNAL_BODY || length > journal->capacity - SIDEJOURNAL_BODY) {
        return -ENOSPC;
    }
    header->sequence++;
    writer.chunk = sidejournal_chunk_new();
    writer.hash = XXH3_createState();
    if (writer.chunk != NULL && writer.hash != NULL) {
        (void)XXH3_64bits_reset_withSeed(writer.hash, header->sequence);
        r = put_body(&writer, fold, image, look);
    }
    if (r == 0) {
        header->block_size = fold->log.block_size;
        header->blocks = blocks;
        header->body_length = length;
        header->body_checksum = XXH3_64bits_digest(writer.hash);
        header->log_end = fold->end;
        header->committed = true;
        r = sidejournal_store_header(journal);
    }
    (void)XXH3_freeState(writer.hash);
    free(writer.chunk);
    if (r < 0) {
        return r;
    }
    journal->stats.batches++;
    journal->stats.blocks += blocks;
    journal->stats.bytes += SIDEJOURNAL_BODY + length;
    return 1;
}
