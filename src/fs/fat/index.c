/* SPDX-License-Identifier: MIT */
/*
 * The names of a directory in core: a hash table from folded names (long and
 * short ones) to slots, so that neither a lookup nor a create walks a large
 * directory, and where free slots may be found.
 *
 * Every entry of the directory is in the table. What is in the table need not be
 * in the directory any more: a slot is read and compared before it counts, and
 * a table with too many dead slots is made anew.
 *
 * Locks: built under the directory's lock of either kind, changed under the
 * exclusive one (in commit hooks, which is why growing may fail: then the
 * table is dropped).
 */
#include "types.h"

typedef struct IndexCell {
    uint32_t hash;
    uint32_t slot; /* plus 1; 0: empty */
} IndexCell;

struct FatIndex {
    IndexCell *cells;
    uint32_t capacity; /* power of two */
    uint32_t count, erased;
    /* No row of k free slots begins before free_from[k]. */
    uint32_t free_from[FAT_LONG_SLOTS_MAX + 2];
};

static FatIndex *index_free(FatIndex *index) {
    if (index != NULL) {
        free(index->cells);
        free(index);
    }
    return NULL;
}

void fat_index_drop(FatInode *dir) {
    dir->index = index_free(dir->index);
}

/* FNV-1a over folded units. */
uint32_t fat_name_hash(const uint16_t *units, unsigned length) {
    uint32_t hash = 2166136261u;

    for (unsigned i = 0; i < length; i++) {
        uint16_t unit = utf16_upper(units[i]);
        hash = (hash ^ (unit & 0xff)) * 16777619u;
        hash = (hash ^ (uint32_t)(unit >> 8)) * 16777619u;
    }
    return hash;
}

static void cell_put(FatIndex *index, uint32_t hash, uint32_t slot_plus_1) {
    uint32_t at = hash & (index->capacity - 1);

    while (index->cells[at].slot != 0) {
        at = (at + 1) & (index->capacity - 1);
    }
    index->cells[at].hash = hash;
    index->cells[at].slot = slot_plus_1;
}

static int index_enter(FatIndex *index, uint32_t hash, uint32_t slot) {
    if ((index->count + 1) * 2 > index->capacity) {
        FatIndex larger = {.capacity = MAX(index->capacity * 2, 64u)};
        larger.cells = calloc(larger.capacity, sizeof(*larger.cells));
        if (larger.cells == NULL) {
            return -ENOMEM;
        }
        for (uint32_t i = 0; i < index->capacity; i++) {
            if (index->cells[i].slot != 0) {
                cell_put(&larger, index->cells[i].hash, index->cells[i].slot);
            }
        }
        free(index->cells);
        index->cells = larger.cells;
        index->capacity = larger.capacity;
    }
    cell_put(index, hash, slot + 1);
    index->count += 1;
    return 0;
}

/* Both names of an entry. long_name may be NULL. */
static int enter_names(FatInode *dir, FatIndex *index, const uint16_t *long_name,
                       unsigned long_length, const uint8_t short_name[FAT_SHORT_LENGTH],
                       uint32_t slot) {
    uint16_t units[FAT_SHORT_TEXT_MAX];
    unsigned length = fat_short_text(fat_inode_volume(dir)->codepage, short_name, 0, units);
    uint32_t hash = fat_name_hash(units, length);
    int r = index_enter(index, hash, slot);

    if (r == 0 && long_name != NULL) {
        uint32_t long_hash = fat_name_hash(long_name, long_length);
        if (long_hash != hash) {
            r = index_enter(index, long_hash, slot);
        }
    }
    return r;
}

static int index_build(FatInode *dir, FatIndex *index) {
    FatDirIter iter;
    FatDirEntry entry;
    int r;

    fat_dir_iter_init(&iter, fat_inode_volume(dir), &dir->chain, 0);
    do {
        r = fat_dir_iter_next(&iter, &entry);
        if (r > 0) {
            int entered = enter_names(dir, index, entry.long_name, entry.long_length,
                                      entry.entry.name, entry.slot);
            r = entered < 0 ? entered : 1;
        }
    } while (r > 0);
    fat_dir_iter_done(&iter);
    return r;
}

int fat_index_load(FatInode *dir) {
    FatIndex *index;
    int r;

    if (dir->index != NULL) {
        return 0;
    }
    index = calloc(1, sizeof(*index));
    r = index == NULL ? -ENOMEM : index_build(dir, index);
    if (r < 0 || dir->index != NULL) {
        (void)index_free(index); /* failed, or another reader was faster */
        return r;
    }
    dir->index = index;
    return 0;
}

int fat_index_find(FatInode *dir, const FatSearch *search, uint32_t skip_slot, FatDirIter *iter,
                   FatDirEntry *ret) {
    const FatIndex *index = dir->index;
    uint32_t hash = fat_name_hash(search->folded, search->length);

    if (index->capacity == 0) {
        return -ENOENT;
    }
    for (uint32_t at = hash & (index->capacity - 1); index->cells[at].slot != 0;
         at = (at + 1) & (index->capacity - 1)) {
        uint32_t slot = index->cells[at].slot - 1;
        int r;
        if (index->cells[at].hash != hash || slot == skip_slot) {
            continue;
        }
        r = fat_dir_entry_at(dir, slot, iter, ret);
        if (r == -ENOENT) {
            continue; /* erased since */
        }
        if (r < 0 || fat_search_match(search, ret)) {
            return r;
        }
    }
    return -ENOENT;
}

/* ---- changes ---- */

void fat_index_added(FatInode *dir, const FatNewName *name, uint32_t slot, uint32_t slots) {
    FatIndex *index = dir->index;

    if (index == NULL) {
        return;
    }
    if (enter_names(dir, index, name->needs_long ? name->units : NULL, name->length,
                    name->short_name, slot + slots - 1) < 0) {
        fat_index_drop(dir);
    }
}

void fat_index_searched(FatInode *dir, uint32_t slots, uint32_t slot) {
    FatIndex *index = dir->index;

    for (uint32_t k = slots; k < ARRAY_SIZE(index->free_from); k++) {
        index->free_from[k] = MAX(index->free_from[k], slot);
    }
}

void fat_index_erased(FatInode *dir, uint32_t first_slot) {
    FatIndex *index = dir->index;

    if (index == NULL) {
        return;
    }
    index->erased += 2;
    for (uint32_t k = 0; k < ARRAY_SIZE(index->free_from); k++) {
        /* A row that became long enough begins at most k - 1 slots earlier. */
        uint32_t earliest = first_slot > k ? first_slot - k : 0;
        index->free_from[k] = MIN(index->free_from[k], earliest);
    }
}

void fat_index_trim(FatInode *dir) {
    if (dir->index != NULL && dir->index->erased > dir->index->count / 2 + 64) {
        fat_index_drop(dir);
    }
}

uint32_t fat_index_free_from(const FatInode *dir, uint32_t slots) {
    assert(slots < ARRAY_SIZE(dir->index->free_from));
    return dir->index->free_from[slots];
}
