/* SPDX-License-Identifier: MIT */
/*
 * Free allocation blocks. A volume has at most 65535, so the whole bitmap is in core, where a bit
 * is also set for what is promised to somebody, or has been freed and is not forgotten by
 * the image yet. The bitmap on disk changes in bodies, bit by bit.
 *
 * Nothing here suspends but the loading, so it needs no lock.
 */
#include "types.h"

#define SECTOR_BITS (HFS_SECTOR * 8u)
#define PIECE_BYTES 64u /* of one txn_write_bits() */

typedef struct FreeRun {
    uint32_t start, count;
} FreeRun;

/* ---- loading ---- */

static void mark_pending(void *arg, uint64_t start, uint64_t count) {
    HfsVolume *volume = arg;
    uint32_t sectors = hfs_block_sectors(volume);

    if (start < volume->mdb.first_block) {
        return;
    }
    for (uint64_t at = start - volume->mdb.first_block; count > 0; at += sectors) {
        if (at / sectors < volume->mdb.block_count) {
            bitmap_set(volume->alloc.bits, at / sectors);
        }
        count -= MIN(count, sectors);
    }
}

int hfs_alloc_load(HfsVolume *volume) {
    HfsAlloc *alloc = &volume->alloc;
    uint32_t count = volume->mdb.block_count, used;

    alloc->bits = calloc(BITMAP_WORDS(HFS_BLOCKS_MAX + 1), sizeof(*alloc->bits));
    if (alloc->bits == NULL) {
        return -ENOMEM;
    }
    for (uint32_t first = 0; first < count; first += SECTOR_BITS) {
        _cleanup_(cache_putp) Buffer *buffer = NULL;
        int r =
            cache_get(volume->base.cache, volume->mdb.bitmap_start + first / SECTOR_BITS, &buffer);

        if (r < 0) {
            return r;
        }
        for (uint32_t i = 0; i < MIN(count - first, SECTOR_BITS); i++) {
            if (buffer->data[i / 8] & 0x80u >> i % 8) {
                bitmap_set(alloc->bits, first + i);
            }
        }
    }
    used = (uint32_t)bitmap_count_set(alloc->bits, count);
    if (volume->mdb.free_blocks != count - used) {
        log_warning("hfs: the volume counts %u free blocks, its bitmap has %u",
                    volume->mdb.free_blocks, count - used);
        volume->mdb.free_blocks = (uint16_t)(count - used);
    }
    alloc->hint = volume->mdb.alloc_hint < count ? volume->mdb.alloc_hint : 0;
    cache_pending_iterate(volume->base.cache, 0, UINT64_MAX, mark_pending, volume);
    return 0;
}

void hfs_alloc_done(HfsVolume *volume) {
    free(volume->alloc.bits);
    volume->alloc.bits = NULL;
}

/* ---- promising ---- */

/* The free run at or behind `from` and below `limit`, no longer than needed. */
static bool run_at(const HfsVolume *volume, uint32_t from, uint32_t limit, uint32_t want,
                   FreeRun *ret) {
    const uint64_t *bits = volume->alloc.bits;
    uint32_t start = (uint32_t)bitmap_find_clear(bits, from, limit);

    if (start >= limit) {
        return false;
    }
    limit = MIN(limit, start + want);
    *ret = (FreeRun){start, (uint32_t)bitmap_find_set(bits, start, limit) - start};
    return true;
}

/* The first run that begins in [from, to) and is long enough, else the longest. */
static void run_search(const HfsVolume *volume, uint32_t from, uint32_t to, uint32_t limit,
                       uint32_t want, FreeRun *best) {
    FreeRun run;

    while (best->count < want && from < to && run_at(volume, from, limit, want, &run)) {
        if (run.count > best->count) {
            *best = run;
        }
        from = run.start + run.count;
    }
}

/* The last block comes last: Apple's checker takes an extent that ends there for a wrong one. */
static FreeRun run_choose(const HfsVolume *volume, uint32_t goal, uint32_t want) {
    uint32_t count = volume->mdb.block_count, last = count - 1;
    FreeRun best = {0};

    /* What goes on where the file ends is best, however short. */
    if (goal > 0 && goal < last && !bitmap_test(volume->alloc.bits, goal) &&
        run_at(volume, goal, last, want, &best)) {
        return best;
    }
    run_search(volume, volume->alloc.hint, last, last, want, &best);
    run_search(volume, 0, MIN(volume->alloc.hint, last), last, want, &best);
    if (best.count == 0) {
        (void)run_at(volume, last, count, want, &best);
    }
    return best;
}

int hfs_alloc_reserve(HfsVolume *volume, uint32_t goal, uint32_t want, HfsRuns *runs) {
    HfsAlloc *alloc = &volume->alloc;
    uint32_t before = runs->blocks;
    int r = 0;

    while (r == 0 && runs->blocks - before < want) {
        FreeRun run = run_choose(volume, goal, want - (runs->blocks - before));

        r = run.count == 0 ? -ENOSPC : hfs_runs_append(runs, run.start, run.count);
        if (r == 0) {
            bitmap_set_range(alloc->bits, run.start, run.count);
            alloc->reserved += run.count;
            goal = run.start + run.count;
            alloc->hint = goal < volume->mdb.block_count ? goal : 0;
        }
    }
    if (r < 0) {
        hfs_alloc_release(volume, runs, before);
        hfs_runs_truncate(runs, before);
    }
    return r;
}

void hfs_alloc_release(HfsVolume *volume, const HfsRuns *runs, uint32_t from) {
    HfsAlloc *alloc = &volume->alloc;
    uint32_t index = 0;

    for (uint32_t i = 0; i < runs->count; i++) {
        const HfsExtent *run = &runs->runs[i];
        uint32_t skip = from > index ? MIN(from - index, run->count) : 0;

        bitmap_clear_range(alloc->bits, run->start + skip, run->count - skip);
        assert(alloc->reserved >= run->count - skip);
        alloc->reserved -= run->count - skip;
        index += run->count;
    }
}

/* ---- in bodies ---- */

static bool bits_are(const uint8_t *bytes, const uint8_t *mask, uint32_t length, bool set) {
    for (uint32_t i = 0; i < length; i++) {
        if ((bytes[i] & mask[i]) != (set ? mask[i] : 0)) {
            return false;
        }
    }
    return true;
}

/* Bits of blocks that lie in one piece of one sector. */
static int change_piece(Txn *txn, HfsVolume *volume, uint32_t start, uint32_t count, bool set) {
    static const uint8_t zeros[PIECE_BYTES];
    uint64_t sector = volume->mdb.bitmap_start + start / SECTOR_BITS;
    uint32_t bit = start % SECTOR_BITS, offset = bit / 8;
    uint32_t length = (bit % 8 + count + 7) / 8;
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    uint8_t mask[PIECE_BYTES] = {0};
    int r = cache_get(volume->base.cache, sector, &buffer);

    if (r < 0) {
        return r;
    }
    for (uint32_t i = bit % 8; i < bit % 8 + count; i++) {
        mask[i / 8] |= (uint8_t)(0x80u >> i % 8);
    }
    if (!bits_are(buffer->data + offset, mask, length, !set)) {
        return report_corrupt(
            volume->base.reporter, true, "bitmap", sector * HFS_SECTOR, "block", start,
            set ? "a free block is marked as used" : "a file's block is marked as free");
    }
    return txn_write_bits(txn, buffer, offset, set ? mask : zeros, mask, length, HFS_CLASS);
}

static int change_bits(Txn *txn, HfsVolume *volume, uint32_t start, uint32_t count, bool set) {
    const uint32_t piece = PIECE_BYTES * 8;
    int r = 0;

    for (uint32_t part; r == 0 && count > 0; start += part, count -= part) {
        part = MIN(count, piece - start % piece);
        r = change_piece(txn, volume, start, part, set);
    }
    return r;
}

int hfs_alloc_use(Txn *txn, HfsVolume *volume, uint32_t start, uint32_t count) {
    HfsAlloc *alloc = &volume->alloc;
    int r = hfs_mdb_save(txn, volume);

    if (r == 0) {
        r = txn_save(txn, &alloc->reserved, sizeof(alloc->reserved));
    }
    if (r == 0) {
        r = change_bits(txn, volume, start, count, true);
    }
    if (r < 0) {
        return r;
    }
    assert(alloc->reserved >= count && volume->mdb.free_blocks >= count);
    alloc->reserved -= count;
    volume->mdb.free_blocks = (uint16_t)(volume->mdb.free_blocks - count);
    volume->mdb.alloc_hint = (uint16_t)alloc->hint;
    return 0;
}

int hfs_alloc_free(Txn *txn, HfsVolume *volume, uint32_t start, uint32_t count) {
    int r = hfs_mdb_save(txn, volume);

    if (r == 0) {
        r = change_bits(txn, volume, start, count, false);
    }
    if (r < 0) {
        return r;
    }
    volume->mdb.free_blocks = (uint16_t)(volume->mdb.free_blocks + count);
    return txn_free_blocks(txn, hfs_block_sector(volume, start),
                           (uint64_t)count * hfs_block_sectors(volume));
}

void hfs_alloc_released(void *arg, uint64_t block, uint64_t count) {
    HfsVolume *volume = hfs_volume(arg);
    uint64_t from, to;

    if (volume->alloc.bits == NULL || block < volume->mdb.first_block) {
        return;
    }
    from = (block - volume->mdb.first_block) / hfs_block_sectors(volume);
    to = MIN((block + count - volume->mdb.first_block) / hfs_block_sectors(volume),
             (uint64_t)volume->mdb.block_count);
    if (from < to) {
        bitmap_clear_range(volume->alloc.bits, from, to - from);
    }
}
