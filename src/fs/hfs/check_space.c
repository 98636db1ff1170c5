/* SPDX-License-Identifier: MIT */
/*
 * What is left over when all forks are known: records of the overflow tree
 * that no fork led to, and the volume's bitmap against the blocks of the forks.
 */
#include "check_forks.h"
#include <inttypes.h>

/* ---- overflow records ---- */

static int key_compare(const void *a, const void *b) {
    return hfs_extents_format.compare(a, b);
}

static bool is_claimed(const Check *check, const HfsDiskExtentKey *key) {
    return check->claimed_count > 0 &&
           bsearch(key, check->claimed, check->claimed_count, sizeof(*key), key_compare) != NULL;
}

typedef struct Orphans {
    HfsDiskExtentKey *keys;
    size_t count;
} Orphans;

static int check_record(Check *check, const BtreeRecord *record, Orphans *orphans) {
    HfsDiskExtentKey key, *keys;

    memcpy(&key, record->key, sizeof(key));
    if (is_claimed(check, &key) ||
        !check_found(check, HFS_PROBLEM_EXTENT_ORPHAN, "of file %" PRIu32 ", from its block %u on",
                     be32_get(key.file), be16_get(key.first_block))) {
        return 0;
    }
    keys = reallocarray(orphans->keys, orphans->count + 1, sizeof(*keys));
    if (keys == NULL) {
        return -ENOMEM;
    }
    orphans->keys = keys;
    orphans->keys[orphans->count++] = key;
    return 0;
}

static int find_orphans(Check *check, Orphans *orphans) {
    HfsDiskExtentKey lowest = hfs_extent_key(0, HFS_FORK_DATA, 0);
    BtreeCursor cursor;
    int r = btree_cursor_init(&cursor, &check->extents.tree);

    if (r == 0) {
        r = btree_seek(&cursor, (const uint8_t *)&lowest);
    }
    if (r == 1) {
        r = btree_next(&cursor);
    }
    while (r == 0) {
        BtreeRecord record;

        btree_get(&cursor, &record);
        r = check_record(check, &record, orphans);
        if (r == 0) {
            r = btree_next(&cursor);
        }
    }
    btree_cursor_done(&cursor);
    return r == -ENOENT ? 0 : r;
}

int check_overflow(Check *check) {
    Orphans orphans = {0};
    int r;

    if (check->claimed_count > 0) {
        qsort(check->claimed, check->claimed_count, sizeof(*check->claimed), key_compare);
    }
    r = find_orphans(check, &orphans);
    for (size_t i = 0; r == 0 && i < orphans.count; i++) {
        r = btree_remove(&check->extents.tree, (const uint8_t *)&orphans.keys[i]);
    }
    free(orphans.keys);
    return r;
}

/* ---- the bitmap ---- */

static bool bit_get(const uint8_t *bitmap, uint32_t bit) {
    return (bitmap[bit / 8] & 0x80u >> bit % 8) != 0;
}

static void bit_set(uint8_t *bitmap, uint32_t bit, bool value) {
    uint8_t mask = (uint8_t)(0x80u >> bit % 8);

    bitmap[bit / 8] = (uint8_t)(value ? bitmap[bit / 8] | mask : bitmap[bit / 8] & ~mask);
}

/* Blocks that are so in fact but not on the bitmap. */
static uint32_t count_wrong(const Check *check, bool used, uint32_t *ret_first) {
    uint32_t count = 0;

    for (uint32_t i = 0; i < check->mdb.block_count; i++) {
        if (bitmap_test(check->used, i) == used && bit_get(check->bitmap, i) != used) {
            *ret_first = count == 0 ? i : *ret_first;
            count++;
        }
    }
    return count;
}

static void check_bits(Check *check, HfsProblem problem, bool used) {
    uint32_t first = 0, count = count_wrong(check, used, &first);

    if (count == 0 ||
        !check_found(check, problem, "%" PRIu32 ", the first is %" PRIu32, count, first)) {
        return;
    }
    for (uint32_t i = 0; i < check->mdb.block_count; i++) {
        if (bitmap_test(check->used, i) == used) {
            bit_set(check->bitmap, i, used);
        }
    }
    check->bitmap_changed = true;
}

int check_bitmap(Check *check) {
    HfsMdb *mdb = &check->mdb;
    uint32_t free_blocks =
        mdb->block_count - (uint32_t)bitmap_count_set(check->used, mdb->block_count);
    int r;

    check->bitmap_size = (size_t)div_ceil(mdb->block_count, 8 * HFS_SECTOR) * HFS_SECTOR;
    check->bitmap = malloc(check->bitmap_size);
    if (check->bitmap == NULL) {
        return -ENOMEM;
    }
    r = block_read(check->device, (uint64_t)mdb->bitmap_start * HFS_SECTOR, check->bitmap,
                   check->bitmap_size);
    if (r < 0) {
        return r;
    }
    check_bits(check, HFS_PROBLEM_BITMAP_FREE, true);
    check_bits(check, HFS_PROBLEM_BITMAP_LOST, false);
    if (mdb->free_blocks != free_blocks &&
        check_found(check, HFS_PROBLEM_FREE_COUNT, "%u, but there are %" PRIu32, mdb->free_blocks,
                    free_blocks)) {
        mdb->free_blocks = (uint16_t)free_blocks;
        check->mdb_changed = true;
    }
    check->result.blocks = mdb->block_count;
    check->result.blocks_free = free_blocks;
    check->result.block_size = mdb->block_size;
    return 0;
}
