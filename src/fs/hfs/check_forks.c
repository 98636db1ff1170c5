/* SPDX-License-Identifier: MIT */
/*
 * Where forks lie. Each fork's extents are collected from its record and the
 * overflow tree, cut at the first that cannot be; the blocks of all of them are
 * marked, those of the trees and the bad blocks' file first. A fork that meets
 * blocks which are marked already is copied to free ones as a whole, after all
 * others are known. Forks that changed are stored anew, and then everything is
 * marked once more.
 */
#include "check_forks.h"
#include <inttypes.h>
#include <stdio.h>

typedef struct Twice {
    size_t entry;
    uint8_t type;
    uint32_t block; /* one that both have */
} Twice;

typedef struct Forks {
    Check *check;
    Twice *twice;
    size_t twice_count;
    bool quiet; /* the second time: nothing is said or changed */
    bool changed;
} Forks;

/* ---- collecting ---- */

static int fork_push(CheckFork *fork, HfsExtent extent) {
    HfsExtent *extents =
        reallocarray(fork->extents, fork->count + 1, sizeof(*extents)); /* few, mostly */

    if (extents == NULL) {
        return -ENOMEM;
    }
    fork->extents = extents;
    fork->extents[fork->count++] = extent;
    fork->blocks += extent.count;
    return 0;
}

static int claim(Check *check, const HfsDiskExtentKey *key) {
    if (check->claimed_count == check->claimed_capacity) {
        size_t capacity = MAX(check->claimed_capacity * 2, (size_t)64);
        HfsDiskExtentKey *claimed = reallocarray(check->claimed, capacity, sizeof(*claimed));

        if (claimed == NULL) {
            return -ENOMEM;
        }
        check->claimed = claimed;
        check->claimed_capacity = capacity;
    }
    check->claimed[check->claimed_count++] = *key;
    return 0;
}

/* Takes a record's extents. 1: it was full, there may be more; 0: the fork ends here. */
static int take_extents(const Check *check, CheckFork *fork, const HfsExtent *extents) {
    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD; i++) {
        uint64_t end = (uint64_t)extents[i].start + extents[i].count;
        int r;

        if (extents[i].count == 0) {
            for (unsigned j = i + 1; j < HFS_EXTENTS_IN_RECORD; j++) {
                fork->cut = fork->cut || extents[j].count != 0;
            }
            return 0;
        }
        if (end > check->mdb.block_count ||
            ((uint64_t)fork->blocks + extents[i].count) * check->mdb.block_size > UINT32_MAX) {
            fork->cut = true;
            return 0;
        }
        r = fork_push(fork, extents[i]);
        if (r < 0) {
            return r;
        }
    }
    return 1;
}

int check_fork_collect(Check *check, uint32_t file, uint8_t type, const HfsExtent *first,
                       bool overflow, CheckFork *ret) {
    CheckFork fork = {.file = file, .type = type, .claimed = check->claimed_count};
    int r = first == NULL ? 1 : take_extents(check, &fork, first);

    while (r == 1 && overflow && fork.blocks <= UINT16_MAX) {
        HfsDiskExtentKey key = hfs_extent_key(file, type, (uint16_t)fork.blocks);
        HfsDiskExtentRecord record;
        HfsExtent extents[HFS_EXTENTS_IN_RECORD];
        uint32_t before = fork.blocks;

        r = btree_lookup(&check->extents.tree, (const uint8_t *)&key, &record, sizeof(record));
        if (r < (int)sizeof(record)) {
            fork.cut = fork.cut || r >= 0;
            r = r == -ENOENT || r >= 0 ? 0 : r;
            break;
        }
        hfs_extents_decode(&record, extents);
        r = claim(check, &key);
        if (r == 0) {
            r = take_extents(check, &fork, extents);
        }
        if (r == 1 && fork.blocks == before) {
            break;
        }
    }
    if (r < 0) {
        free(fork.extents);
        return r;
    }
    *ret = fork;
    return 0;
}

/* ---- storing ---- */

static HfsDiskExtentRecord record_of(const CheckFork *fork, unsigned first) {
    HfsExtent extents[HFS_EXTENTS_IN_RECORD] = {0};
    HfsDiskExtentRecord record;

    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD && first + i < fork->count; i++) {
        extents[i] = fork->extents[first + i];
    }
    hfs_extents_encode(extents, &record);
    return record;
}

/* The fork's overflow records, anew. It was collected just now: the old ones are the last claimed.
 */
static int store_overflow(Check *check, const CheckFork *fork) {
    uint32_t blocks = 0;
    int r = 0;

    for (size_t i = fork->claimed; r == 0 && i < check->claimed_count; i++) {
        r = btree_remove(&check->extents.tree, (const uint8_t *)&check->claimed[i]);
        r = r == -ENOENT ? 0 : r;
    }
    check->claimed_count = fork->claimed;
    for (unsigned i = 0; r == 0 && i < fork->count; i += HFS_EXTENTS_IN_RECORD) {
        HfsDiskExtentKey key = hfs_extent_key(fork->file, fork->type, (uint16_t)blocks);
        HfsDiskExtentRecord record = record_of(fork, i);

        for (unsigned j = i; j < i + HFS_EXTENTS_IN_RECORD && j < fork->count; j++) {
            blocks += fork->extents[j].count;
        }
        if (i > 0) { /* one that no fork led to may be in its place */
            r = btree_remove(&check->extents.tree, (const uint8_t *)&key);
            r = r == -ENOENT ? 0 : r;
        }
        if (i > 0 && r == 0) {
            r = btree_insert(&check->extents.tree, (const uint8_t *)&key, &record, sizeof(record));
        }
    }
    return r == -ENOSPC ? check_fail(check, -EUCLEAN,
                                     "the extents overflow file has no room for another record")
                        : r;
}

static int store_fork(Check *check, CheckEntry *entry, const CheckFork *fork) {
    HfsDiskFile *file = &entry->record.file;
    uint32_t allocated = fork->blocks * check->mdb.block_size;
    bool data = fork->type == HFS_FORK_DATA;
    be32 *size = data ? &file->data_size : &file->resource_size;
    int r = store_overflow(check, fork);

    if (data) {
        file->data_extents = record_of(fork, 0);
        file->data_allocated = be32_make(allocated);
    } else {
        file->resource_extents = record_of(fork, 0);
        file->resource_allocated = be32_make(allocated);
    }
    *size = be32_make(MIN(be32_get(*size), allocated));
    return r < 0 ? r : check_entry_update(check, entry);
}

/* ---- marking ---- */

/* Marks the fork's blocks; the first that was marked already, or UINT32_MAX. */
static uint32_t mark(Check *check, const CheckFork *fork) {
    uint32_t twice = UINT32_MAX;

    for (unsigned i = 0; i < fork->count; i++) {
        uint32_t start = fork->extents[i].start, end = start + fork->extents[i].count;
        uint64_t found = bitmap_find_set(check->used, start, end);

        if (found < end && twice == UINT32_MAX) {
            twice = (uint32_t)found;
        }
        bitmap_set_range(check->used, start, fork->extents[i].count);
    }
    return twice;
}

static const char *fork_name(uint8_t type) {
    return type == HFS_FORK_DATA ? "data fork" : "resource fork";
}

static int check_sizes(Forks *forks, CheckEntry *entry, const CheckFork *fork) {
    Check *check = forks->check;
    HfsDiskFile *file = &entry->record.file;
    bool data = fork->type == HFS_FORK_DATA, changed = false;
    be32 *size = data ? &file->data_size : &file->resource_size;
    be32 *allocated = data ? &file->data_allocated : &file->resource_allocated;
    uint32_t has = fork->blocks * check->mdb.block_size;

    if (be32_get(*size) > has &&
        check_found(check, HFS_PROBLEM_FORK_SIZE,
                    "file %" PRIu32 ", %s: %" PRIu32 " bytes in %" PRIu32, entry->record.id,
                    fork_name(fork->type), be32_get(*size), has)) {
        *size = be32_make(has);
        changed = true;
    }
    if (be32_get(*allocated) != has &&
        check_found(check, HFS_PROBLEM_FORK_ALLOCATED,
                    "file %" PRIu32 ", %s: %" PRIu32 ", but it has %" PRIu32, entry->record.id,
                    fork_name(fork->type), be32_get(*allocated), has)) {
        *allocated = be32_make(has);
        changed = true;
    }
    return changed ? check_entry_update(check, entry) : 0;
}

static int check_place(Forks *forks, size_t at, CheckFork *fork) {
    Check *check = forks->check;
    CheckEntry *entry = &check->entries[at];
    uint32_t twice = mark(check, fork);

    if (forks->quiet) {
        return 0;
    }
    if (twice != UINT32_MAX) {
        Twice *list = reallocarray(forks->twice, forks->twice_count + 1, sizeof(*list));

        if (list == NULL) {
            return -ENOMEM;
        }
        forks->twice = list;
        forks->twice[forks->twice_count++] = (Twice){at, fork->type, twice};
    }
    if (!fork->cut) {
        return check_sizes(forks, entry, fork);
    }
    if (!check_found(check, HFS_PROBLEM_EXTENT_RANGE,
                     "file %" PRIu32 ", %s, after %" PRIu32 " blocks", entry->record.id,
                     fork_name(fork->type), fork->blocks)) {
        return 0;
    }
    forks->changed = true;
    return store_fork(check, entry, fork);
}

static int collect(Check *check, const CheckEntry *entry, uint8_t type, CheckFork *ret) {
    const HfsDiskFile *file = &entry->record.file;
    HfsExtent first[HFS_EXTENTS_IN_RECORD];
    /* Of several files with one number, the first has what the number stands for. */
    bool overflow = check_find(check, entry->record.id) == entry;

    hfs_extents_decode(type == HFS_FORK_DATA ? &file->data_extents : &file->resource_extents,
                       first);
    return check_fork_collect(check, entry->record.id, type, first, overflow, ret);
}

static int check_fork(Forks *forks, size_t at, uint8_t type) {
    CheckFork fork;
    int r = collect(forks->check, &forks->check->entries[at], type, &fork);

    if (r == 0) {
        r = check_place(forks, at, &fork);
        free(fork.extents);
    }
    return r;
}

/* The trees, and the file of bad blocks, which has no record in the catalog. */
static int mark_system(Forks *forks) {
    Check *check = forks->check;
    CheckFork trees[2] = {
        {.extents = check->extents.extents, .count = check->extents.extent_count},
        {.extents = check->catalog.extents, .count = check->catalog.extent_count},
    };
    CheckFork bad;
    int r;

    for (unsigned i = 0; i < 2; i++) {
        uint32_t twice = mark(check, &trees[i]);

        if (twice != UINT32_MAX && !forks->quiet) {
            (void)check_found(check, HFS_PROBLEM_TREE_PLACE, "block %" PRIu32 " is in both trees",
                              twice);
        }
    }
    r = check_fork_collect(check, HFS_CNID_BAD_BLOCKS, HFS_FORK_DATA, NULL, true, &bad);
    if (r == 0) {
        (void)mark(check, &bad);
        free(bad.extents);
    }
    return r;
}

static int mark_all(Forks *forks) {
    Check *check = forks->check;
    int r;

    memset(check->used, 0, BITMAP_WORDS((size_t)check->mdb.block_count) * sizeof(uint64_t));
    check->claimed_count = check->claimed_catalog;
    r = mark_system(forks);
    for (size_t i = 0; r == 0 && i < check->entry_count; i++) {
        const CheckEntry *entry = &check->entries[i];

        if (!forks->quiet && i % 256 == 0) {
            check_progress(check, 4, i, check->entry_count);
        }
        if (entry->dropped || entry->record.type != HFS_RECORD_FILE) {
            continue;
        }
        r = check_fork(forks, i, HFS_FORK_DATA);
        if (r == 0) {
            r = check_fork(forks, i, HFS_FORK_RESOURCE);
        }
    }
    return r;
}

/* ---- blocks used twice ---- */

/* Free blocks for a copy of the fork, marked; as few pieces as can be had from the start. */
static int allocate_copy(Check *check, const CheckFork *fork, CheckFork *ret) {
    CheckFork copy = {.file = fork->file, .type = fork->type, .claimed = fork->claimed};
    uint64_t at = 0, limit = check->mdb.block_count;
    int r = 0;

    while (r == 0 && copy.blocks < fork->blocks) {
        uint64_t start = bitmap_find_clear(check->used, at, limit);
        uint64_t end = bitmap_find_set(check->used, start, limit);
        uint32_t count = (uint32_t)MIN(end - start, (uint64_t)(fork->blocks - copy.blocks));

        r = start == limit ? -ENOSPC
                           : fork_push(&copy, (HfsExtent){(uint16_t)start, (uint16_t)count});
        at = start + count;
    }
    if (r < 0) {
        free(copy.extents);
        return r;
    }
    (void)mark(check, &copy);
    *ret = copy;
    return 0;
}

static uint64_t block_place(const Check *check, uint32_t block) {
    return (uint64_t)check->mdb.first_block * HFS_SECTOR + (uint64_t)block * check->mdb.block_size;
}

/* The fork's nth block. */
static uint32_t nth_block(const CheckFork *fork, uint32_t n) {
    unsigned i = 0;

    while (n >= fork->extents[i].count) {
        n -= fork->extents[i++].count;
    }
    return fork->extents[i].start + n;
}

static int copy_blocks(Check *check, const CheckFork *from, const CheckFork *to) {
    uint8_t buffer[HFS_SECTOR];
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < from->blocks; i++) {
        uint64_t source = block_place(check, nth_block(from, i));
        uint64_t target = block_place(check, nth_block(to, i));

        for (uint32_t at = 0; r == 0 && at < check->mdb.block_size; at += HFS_SECTOR) {
            r = block_read(check->device, source + at, buffer, sizeof(buffer));
            if (r == 0) {
                r = block_write(check->device, target + at, buffer, sizeof(buffer));
            }
        }
    }
    return r;
}

static int resolve_twice(Check *check, const Twice *twice) {
    CheckEntry *entry = &check->entries[twice->entry];
    uint64_t free_blocks =
        check->mdb.block_count - bitmap_count_set(check->used, check->mdb.block_count);
    CheckFork fork, copy;
    int r = collect(check, entry, twice->type, &fork);

    if (r < 0) {
        return r;
    }
    if (fork.blocks > free_blocks) {
        check_told(check, HFS_PROBLEM_EXTENT_TWICE,
                   "file %" PRIu32 ", %s, block %" PRIu32 "; there is no room for a copy",
                   entry->record.id, fork_name(twice->type), twice->block);
    } else if (check_found(check, HFS_PROBLEM_EXTENT_TWICE, "file %" PRIu32 ", %s, block %" PRIu32,
                           entry->record.id, fork_name(twice->type), twice->block)) {
        r = allocate_copy(check, &fork, &copy);
        if (r == 0) {
            r = copy_blocks(check, &fork, &copy);
            if (r == 0) {
                r = store_fork(check, entry, &copy);
            }
            free(copy.extents);
        }
    }
    free(fork.extents);
    return r;
}

int check_forks(Check *check) {
    Forks forks = {.check = check};
    int r = mark_all(&forks);

    for (size_t i = 0; r == 0 && i < forks.twice_count; i++) {
        r = resolve_twice(check, &forks.twice[i]);
    }
    if (r == 0 && (forks.changed || forks.twice_count > 0)) {
        forks.quiet = true;
        r = mark_all(&forks);
    }
    free(forks.twice);
    return r < 0 ? r : check_overflow(check);
}
