/* SPDX-License-Identifier: MIT */
/*
 * Writing what the passes changed, so that a cut at any moment leaves a volume
 * from which the next check gets at least as much. The volume is marked as not
 * sound first. A tree that was made anew goes to free blocks, if there are
 * enough in a row, and the master directory block leads to the old one until
 * all else is written; only without such room it is written over the old one.
 */
#include "check_store.h"
#include "check_forks.h"

/* ---- master directory blocks ---- */

uint64_t check_alternate_place(const Check *check) {
    return (check->device->size / HFS_SECTOR - HFS_ALT_MDB_FROM_END) * HFS_SECTOR;
}

static int write_mdb(Check *check, uint64_t place) {
    uint8_t sector[HFS_SECTOR];
    int r = block_read(check->device, place, sector, sizeof(sector));

    if (r == 0) {
        hfs_mdb_encode(&check->mdb, &check->disk_mdb);
        memcpy(sector, &check->disk_mdb, sizeof(check->disk_mdb));
        r = block_write(check->device, place, sector, sizeof(sector));
    }
    return r;
}

static int write_first_mdb(Check *check, bool sound) {
    uint16_t marks = HFS_ATTR_UNMOUNTED | HFS_ATTR_INCONSISTENT;
    int r;

    check->mdb.attributes =
        (uint16_t)((check->mdb.attributes & ~marks) | (sound ? HFS_ATTR_UNMOUNTED : 0));
    r = write_mdb(check, (uint64_t)HFS_MDB_SECTOR * HFS_SECTOR);
    return r < 0 ? r : block_flush(check->device);
}

int check_mark_unsound(Check *check) {
    uint64_t place = (uint64_t)HFS_MDB_SECTOR * HFS_SECTOR;
    uint8_t sector[HFS_SECTOR];
    HfsDiskMdb mdb;
    int r = block_read(check->device, place, sector, sizeof(sector));

    memcpy(&mdb, sector, sizeof(mdb));
    if (r < 0 || be16_get(mdb.signature) != HFS_SIGNATURE) {
        return r;
    }
    mdb.attributes = be16_make((uint16_t)(be16_get(mdb.attributes) & ~HFS_ATTR_UNMOUNTED));
    memcpy(sector, &mdb, sizeof(mdb));
    r = block_write(check->device, place, sector, sizeof(sector));
    return r < 0 ? r : block_flush(check->device);
}

/* ---- trees at another place ---- */

static void mark_extent(Check *check, const HfsExtent *extent, bool used) {
    for (uint32_t i = 0; i < extent->count; i++) {
        uint32_t block = (uint32_t)extent->start + i;
        uint8_t mask = (uint8_t)(0x80u >> block % 8);
        uint8_t *byte = &check->bitmap[block / 8];

        *byte = (uint8_t)(used ? *byte | mask : *byte & ~mask);
    }
    if (used) {
        bitmap_set_range(check->used, extent->start, extent->count);
    } else {
        bitmap_clear_range(check->used, extent->start, extent->count);
    }
    check->bitmap_changed = true;
}

/* The first so many free blocks in a row. */
static bool find_run(const Check *check, uint32_t count, HfsExtent *ret) {
    uint64_t limit = check->mdb.block_count, at = 0;

    while (at < limit) {
        uint64_t start = bitmap_find_clear(check->used, at, limit);
        uint64_t end = bitmap_find_set(check->used, start, limit);

        if (end - start >= count) {
            *ret = (HfsExtent){(uint16_t)start, (uint16_t)count};
            return true;
        }
        at = MAX(end, start + 1);
    }
    return false;
}

/* All of it will be written: nothing is known of what the new blocks hold. */
static void forget_original(CheckTree *tree) {
    for (uint32_t i = 0; i < tree->nodes; i++) {
        tree->original[(size_t)i * HFS_NODE_SIZE] =
            (uint8_t)~tree->bytes[(size_t)i * HFS_NODE_SIZE];
    }
}

/* first: its extents in the MDB. */
static void move_tree(Check *check, CheckTree *tree, HfsExtent first[HFS_EXTENTS_IN_RECORD]) {
    uint32_t blocks = 0;
    HfsExtent place;

    for (unsigned i = 0; i < tree->extent_count; i++) {
        blocks += tree->extents[i].count;
    }
    if (blocks > UINT16_MAX || !find_run(check, blocks, &place)) {
        return;
    }
    for (unsigned i = 0; i < tree->extent_count; i++) {
        mark_extent(check, &tree->extents[i], false);
    }
    mark_extent(check, &place, true);
    tree->extents[0] = place;
    tree->extent_count = 1;
    memset(first, 0, HFS_EXTENTS_IN_RECORD * sizeof(*first));
    first[0] = place;
    forget_original(tree);
    check->mdb_changed = true;
    check->alternate_changed = true;
}

/* The moved catalog is in one piece: its overflow records have no meaning any more. Only now, as
 * the old one was needed until its place was given up. */
static int drop_catalog_overflow(Check *check) {
    int r = 0;

    for (size_t i = 0; r == 0 && i < check->claimed_count; i++) {
        const HfsDiskExtentKey *key = &check->claimed[i];

        if (be32_get(key->file) == HFS_CNID_CATALOG) {
            r = btree_remove(&check->extents.tree, (const uint8_t *)key);
            r = r == -ENOENT ? 0 : r;
        }
    }
    return r < 0 ? r : check_tree_store(check, &check->extents);
}

static void move_trees(Check *check) {
    if (check->catalog.anew) {
        move_tree(check, &check->catalog, check->mdb.catalog_file);
    }
    if (check->extents.anew) {
        move_tree(check, &check->extents, check->mdb.extents_file);
    }
}

/* ---- the whole ---- */

static bool tree_changed(const CheckTree *tree) {
    return memcmp(tree->bytes, tree->original, (size_t)tree->nodes * HFS_NODE_SIZE) != 0;
}

static int write_contents(Check *check) {
    int r = check_mark_unsound(check);

    if (r == 0) {
        move_trees(check);
        r = check_tree_store(check, &check->extents);
    }
    if (r == 0) {
        r = check_tree_store(check, &check->catalog);
    }
    if (r == 0) {
        r = block_flush(check->device);
    }
    if (r == 0 && check->bitmap_changed) {
        r = block_write(check->device, (uint64_t)check->mdb.bitmap_start * HFS_SECTOR,
                        check->bitmap, check->bitmap_size);
    }
    if (r == 0) {
        r = write_first_mdb(check, false);
    }
    if (r == 0 && check->catalog.anew && check->catalog.extent_count == 1) {
        r = drop_catalog_overflow(check);
    }
    return r < 0 ? r : block_flush(check->device);
}

int check_store(Check *check, bool sound, bool was_clean) {
    CheckResult *result = &check->result;
    bool contents = check->mdb_changed || check->bitmap_changed || tree_changed(&check->extents) ||
                    tree_changed(&check->catalog);
    int r = 0;

    result->changed = contents || check->alternate_changed || (sound && !was_clean);
    if (contents) {
        check->mdb.modified = be32_get(hfs_time_encode(check->config.now * INT64_C(1000000000), 0));
        check->mdb.write_count++;
        r = write_contents(check);
    }
    if (r == 0 && check->alternate_changed &&
        check_alternate_place(check) >= hfs_mdb_blocks_end(&check->mdb)) {
        check->mdb.attributes |= HFS_ATTR_UNMOUNTED;
        r = write_mdb(check, check_alternate_place(check));
    }
    if (r == 0 && result->changed) {
        r = write_first_mdb(check, sound);
    }
    return r;
}
