/* SPDX-License-Identifier: MIT */
/*
 * Room for names in directories: finding free slots and a free short name,
 * growing by zeroed clusters, writing the slots of an entry, erasing them.
 *
 * Inside a batch only classes are ordered (man berth-recovery.7), which two things
 * here must not run into. The parts of a long name that lie in another sector than
 * its short entry are written a class before it and erased a class after it, so a
 * power cut leaves at most parts without an entry, never an entry that has lost its
 * name. And a name that was erased in this batch is not written again in it,
 * elsewhere in the directory: a cut could leave both. That is noted in a table of
 * hashes (volume->erased_in): a false alarm costs a batch, nothing is missed.
 * The same table notes directories that something has moved out of: one is not
 * removed in that batch, as a cut could find the directory gone and the new name
 * not there yet.
 *
 * Lock: the directory's, exclusive, from fat_place_find() to the end of the
 * transaction; so places stay free and only the body's writes are repeated.
 */
#include "types.h"
#include <stdio.h>

#define NO_SLOT UINT32_MAX
/* So many names are tried for the spare one of an exchange. */
#define SPARE_NAMES 1000u

/* Byte offset of a slot, be it in the directory or in the clusters that it will get. */
static uint64_t place_position(const FatPlace *place, uint32_t slot) {
    FatVolume *volume = fat_inode_volume(place->dir);
    uint32_t slots = fat_dir_slots(volume, &place->dir->chain);
    uint64_t position = 0;
    uint64_t byte;
    const FatRun *run;
    uint32_t index;

    if (fat_dir_slot_position(volume, &place->dir->chain, slot, &position)) {
        return position;
    }
    byte = (uint64_t)(slot - slots) * FAT_ENTRY_SIZE;
    index = (uint32_t)(byte >> volume->geo.cluster_shift);
    run = fat_runs_find(&place->grow, index);
    assert(run != NULL);
    return fat_cluster_offset(&volume->geo, run->cluster + (index - run->index)) +
           (byte & (volume->geo.cluster_size - 1));
}

/* A short name that nothing in the directory answers to. */
static int choose_short_name(FatInode *dir, FatNewName *name, uint32_t skip_slot) {
    for (unsigned n = name->lossy ? 1 : 0; n < FAT_VARIANTS_MAX; n++) {
        uint8_t short_name[FAT_SHORT_LENGTH];
        FatSearch search;
        FatDirIter iter;
        FatDirEntry entry;
        int r;

        fat_short_variant(name, n, short_name);
        fat_search_init_short(&search, name->page, short_name);
        r = fat_index_find(dir, &search, skip_slot, &iter, &entry);
        if (r == -ENOENT) {
            memcpy(name->short_name, short_name, sizeof(short_name));
            if (n > 0) {
                name->needs_long = true;
                name->nt_flags = 0;
            }
            return 0;
        }
        if (r < 0) {
            return r;
        }
    }
    return -ENOSPC;
}

/* After a walk to the end: where the free slots there begin. */
static uint32_t tail_start(const FatDirIter *iter) {
    return iter->free_start != NO_SLOT ? iter->free_start : iter->slot_count;
}

/* Walks to the first row of so many free slots, or to the end. */
static int scan(FatInode *dir, uint32_t slots, FatDirIter *iter) {
    FatVolume *volume = fat_inode_volume(dir);
    uint32_t from = fat_index_free_from(dir, slots);
    FatDirEntry entry;
    int r;

    from = MIN(from, fat_dir_slots(volume, &dir->chain));
    fat_dir_iter_init(iter, volume, &dir->chain, from);
    iter->want_free = slots;
    do {
        r = fat_dir_iter_next(iter, &entry);
    } while (r > 0 && iter->free_slot == NO_SLOT);
    fat_dir_iter_done(iter);
    if (r < 0) {
        return r;
    }
    from = iter->free_slot != NO_SLOT ? iter->free_slot : tail_start(iter);
    fat_index_searched(dir, slots, from);
    return 0;
}

/* The directory is too small by that many slots. */
static int reserve_growth(FatPlace *place, uint32_t missing) {
    FatInode *dir = place->dir;
    FatVolume *volume = fat_inode_volume(dir);
    uint32_t clusters = fat_clusters_for(volume, (uint64_t)missing * FAT_ENTRY_SIZE);
    int r;

    if (dir->chain.fixed_root || !dir->chain.complete ||
        fat_dir_slots(volume, &dir->chain) + missing > FAT_DIR_SLOTS_MAX) {
        return -ENOSPC;
    }
    r = fat_alloc_reserve(volume, fat_runs_last(&dir->chain.runs) + 1, clusters, &place->grow);
    return r < 0 ? r : fat_runs_room(&dir->chain.runs, place->grow.count);
}

static int choose_slots(const FatDirIter *iter, FatPlace *place) {
    uint32_t tail = tail_start(iter);
    uint32_t end;

    if (iter->free_slot != NO_SLOT) {
        place->slot = iter->free_slot;
        end = place->slot + place->slots;
        place->moves_end = end > iter->end_slot && end < iter->slot_count;
        return 0;
    }
    place->slot = tail;
    return reserve_growth(place, place->slots - (iter->slot_count - tail));
}

static int check_growable(FatInode *dir) {
    if (!dir->chain.damaged) {
        return 0;
    }
    return report_corrupt(dir->base.fs->reporter, true, "directory entry", dir->entry,
                          "DIR_FstClus", dir->chain.first,
                          "the directory's chain is broken: nothing is added to it");
}

int fat_place_find_room(FatInode *dir, FatNewName *name, FatPlace *ret) {
    FatPlace place = {.dir = dir, .name = name, .slots = fat_new_name_slots(name)};
    FatDirIter iter;
    int r = check_growable(dir);

    if (r == 0) {
        r = fat_index_load(dir);
    }
    if (r == 0) {
        r = scan(dir, place.slots, &iter);
    }
    if (r == 0) {
        r = choose_slots(&iter, &place);
    }
    if (r < 0) {
        fat_place_done(&place);
        return r;
    }
    place.position = place_position(&place, place.slot + place.slots - 1);
    *ret = place;
    return 0;
}

int fat_place_find(FatInode *dir, FatNewName *name, uint32_t skip_slot, FatPlace *ret) {
    int r = check_growable(dir);

    if (r < 0) {
        return r;
    }
    fat_index_trim(dir);
    r = fat_index_load(dir);
    if (r == 0) {
        r = choose_short_name(dir, name, skip_slot);
    }
    return r < 0 ? r : fat_place_find_room(dir, name, ret);
}

int fat_place_find_spare(FatInode *dir, FatNewName *name, FatPlace *ret) {
    int r = check_growable(dir);

    if (r == 0) {
        r = fat_index_load(dir);
    }
    for (unsigned n = 0; r == 0 && n < SPARE_NAMES; n++) {
        char text[FAT_SHORT_LENGTH + 1];
        FatSearch search;
        FatDirIter iter;
        FatDirEntry entry;

        (void)snprintf(text, sizeof(text), "EXCHG%03uTMP", n);
        *name = (FatNewName){.page = fat_inode_volume(dir)->codepage};
        memcpy(name->short_name, text, FAT_SHORT_LENGTH);
        fat_search_init_short(&search, name->page, name->short_name);
        r = fat_index_find(dir, &search, NO_SLOT, &iter, &entry);
        if (r == -ENOENT) {
            return fat_place_find_room(dir, name, ret);
        }
    }
    return r < 0 ? r : -ENOSPC;
}

void fat_place_done(FatPlace *place) {
    if (place->dir != NULL) {
        fat_alloc_release(fat_inode_volume(place->dir), &place->grow, 0);
    }
    fat_runs_done(&place->grow);
}

/* ---- writing ---- */

static void place_written(void *arg) {
    FatPlace *place = arg;

    for (uint32_t i = 0; i < place->grow.count; i++) {
        const FatRun *run = &place->grow.runs[i];
        (void)fat_runs_append(&place->dir->chain.runs, run->cluster, run->count); /* has room */
    }
    fat_runs_truncate(&place->grow, 0);
    fat_index_added(place->dir, place->name, place->slot, place->slots);
}

/* Zeroed clusters at the directory's end. */
static int grow_directory(Txn *txn, FatPlace *place) {
    FatInode *dir = place->dir;
    FatVolume *volume = fat_inode_volume(dir);
    FsAttr *attr = &dir->base.attr;
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < place->grow.count; i++) {
        const FatRun *run = &place->grow.runs[i];
        uint32_t next = i + 1 < place->grow.count ? run[1].cluster : FAT_CELL_END;
        r = fat_table_link(txn, volume, run->cluster, run->count, next, FAT_CLASS_NEW);
        if (r == 0) {
            r = fat_blocks_zero(txn, volume, run->cluster, run->count);
        }
    }
    if (r == 0) {
        r = fat_table_link(txn, volume, fat_runs_last(&dir->chain.runs), 1,
                           place->grow.runs[0].cluster, FAT_CLASS_LINK);
    }
    if (r == 0) {
        r = fat_alloc_use_list(txn, volume, &place->grow, place->grow.length);
    }
    if (r == 0) {
        r = txn_save(txn, attr, sizeof(*attr));
    }
    if (r < 0) {
        return r;
    }
    attr->size += (uint64_t)place->grow.length << volume->geo.cluster_shift;
    attr->blocks = attr->size / 512;
    return 0;
}

int fat_blocks_zero(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count) {
    uint64_t block = fat_block_of(volume, fat_cluster_offset(&volume->geo, cluster));
    uint64_t end = block + (uint64_t)count * volume->geo.cluster_sectors;

    for (; block < end; block++) {
        Buffer *buffer = NULL;
        int r = txn_new_block(txn, block, FAT_CLASS_NEW, &buffer);
        if (r < 0) {
            return r;
        }
        cache_put(buffer);
    }
    return 0;
}

/* Garbage behind the old end mark must not come alive. */
static int move_end(Txn *txn, const FatPlace *place) {
    FatVolume *volume = fat_inode_volume(place->dir);
    uint64_t position = place_position(place, place->slot + place->slots);
    FatDiskEntry disk;
    int r = fat_entry_read(volume, position, &disk);

    if (r < 0 || fat_slot_kind(&disk) == FAT_SLOT_END) {
        return r;
    }
    disk.name[0] = FAT_NAME_END;
    return fat_entry_write(txn, volume, position, &disk, FAT_CLASS_NEW);
}

/* The bucket of a directory's name; two buckets for an entry, as its names may differ. */
static uint64_t *erased_bucket(FatInode *dir, uint32_t hash) {
    FatVolume *volume = fat_inode_volume(dir);

    return &volume->erased_in[(hash ^ dir->chain.first * 2654435761u) % FAT_ERASED_BUCKETS];
}

static uint32_t short_hash(const uint8_t name[FAT_SHORT_LENGTH]) {
    uint16_t units[FAT_SHORT_LENGTH];

    for (unsigned i = 0; i < FAT_SHORT_LENGTH; i++) {
        units[i] = name[i];
    }
    return fat_name_hash(units, FAT_SHORT_LENGTH);
}

/* Remembered although the transaction may abort: then it is a false alarm. */
static void note_erased(Txn *txn, FatInode *dir, uint32_t hash) {
    *erased_bucket(dir, hash) = txn_batch(txn) + 1; /* 0 means never */
}

static int check_erased(Txn *txn, FatInode *dir, uint32_t hash) {
    return *erased_bucket(dir, hash) == txn_batch(txn) + 1 ? txn_separate(txn) : 0;
}

static int place_write(Txn *txn, FatPlace *place, const FatDiskEntry *entry, FatClass class) {
    FatVolume *volume = fat_inode_volume(place->dir);
    const FatNewName *name = place->name;
    uint8_t checksum = fat_short_checksum(name->short_name);
    int r = check_erased(txn, place->dir, short_hash(name->short_name));

    if (r == 0 && name->needs_long) {
        r = check_erased(txn, place->dir, fat_name_hash(name->units, name->length));
    }
    if (r == 0 && place->grow.length > 0) {
        r = grow_directory(txn, place);
    }
    if (r == 0 && place->moves_end) {
        r = move_end(txn, place);
    }
    for (uint32_t i = 0; r == 0 && i < place->slots; i++) {
        FatDiskEntry disk = *entry;
        uint64_t position = place_position(place, place->slot + i);
        bool apart = fat_block_of(volume, position) != fat_block_of(volume, place->position);
        if (i + 1 < place->slots) {
            FatDiskLong part;
            fat_long_encode(name->units, name->length, place->slots - 1 - i, checksum, &part);
            memcpy(&disk, &part, sizeof(disk));
        } else {
            memcpy(disk.name, name->short_name, sizeof(disk.name));
            disk.nt_flags = name->nt_flags;
        }
        r = fat_entry_write(txn, volume, position, &disk, apart ? class - 1 : class);
    }
    return r == 0 ? txn_on_commit(txn, place_written, place) : r;
}

int fat_place_write(Txn *txn, FatPlace *place, const FatDiskEntry *entry) {
    return place_write(txn, place, entry, FAT_CLASS_ENTRY);
}

int fat_place_write_spare(Txn *txn, FatPlace *place, const FatDiskEntry *entry) {
    return place_write(txn, place, entry, FAT_CLASS_LINK);
}

/* ---- erasing ---- */

int fat_place_locate(FatInode *dir, const FsEntry *entry, const FatInode *inode, FatSpan *ret) {
    FatDirIter iter;
    FatDirEntry found;
    int r = fat_dir_entry_at(dir, (uint32_t)MIN(entry->position, UINT32_MAX - 1), &iter, &found);

    if (r < 0) {
        return r;
    }
    if (found.position != inode->entry) {
        return -ESTALE;
    }
    *ret = (FatSpan){.first_slot = found.first_slot, .slot = found.slot};
    if (found.long_name != NULL) {
        ret->long_hash = fat_name_hash(found.long_name, found.long_length);
    }
    return 0;
}

static int erase_slot(Txn *txn, FatVolume *volume, uint64_t position, FatClass class) {
    const uint8_t deleted = FAT_NAME_DELETED;
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r = cache_get(volume->base.cache, fat_block_of(volume, position), &buffer);

    return r < 0 ? r
                 : txn_write(txn, buffer, fat_block_offset(volume, position), &deleted, 1, class);
}

int fat_place_erase(Txn *txn, FatInode *dir, const FatSpan *span, FatClass class) {
    FatVolume *volume = fat_inode_volume(dir);
    uint64_t short_position = 0;
    FatDiskEntry disk;
    int r;

    if (!fat_dir_slot_position(volume, &dir->chain, span->slot, &short_position)) {
        return -ERANGE;
    }
    r = fat_entry_read(volume, short_position, &disk);
    if (r < 0) {
        return r;
    }
    fat_index_erased(dir, span->first_slot); /* a hint: right even if this is aborted */
    note_erased(txn, dir, short_hash(disk.name));
    if (span->first_slot != span->slot) {
        note_erased(txn, dir, span->long_hash);
    }
    for (uint32_t i = span->first_slot; r == 0 && i <= span->slot; i++) {
        uint64_t position = 0;
        bool apart;

        if (!fat_dir_slot_position(volume, &dir->chain, i, &position)) {
            return -ERANGE;
        }
        apart = fat_block_of(volume, position) != fat_block_of(volume, short_position);
        r = erase_slot(txn, volume, position, apart ? class + 1 : class);
    }
    return r;
}

int fat_place_erase_spare(Txn *txn, FatPlace *place) {
    assert(place->slots == 1);
    fat_index_erased(place->dir, place->slot);
    note_erased(txn, place->dir, short_hash(place->name->short_name));
    return erase_slot(txn, fat_inode_volume(place->dir), place->position, FAT_CLASS_SPARE);
}

/* ---- leaving a directory ---- */

/* No name's hash: a departure shares the table of erased names. */
#define DEPARTURE_HASH 0x9e3779b9u

void fat_place_note_departure(Txn *txn, FatInode *dir) {
    note_erased(txn, dir, DEPARTURE_HASH);
}

int fat_place_check_departures(Txn *txn, FatInode *dir) {
    return check_erased(txn, dir, DEPARTURE_HASH);
}
