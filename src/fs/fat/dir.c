/* SPDX-License-Identifier: MIT */
/*
 * Reading directories: one iterator, used by lookup, readdir, the test for
 * emptiness, the search for room, and the search for a parent. Slots are
 * counted from the directory's start; bounds come from its chain, which is in
 * core, and from the 65536 slots that a directory may have.
 *
 * The caller holds the directory's lock, so that slots stay where they are while
 * a cache miss suspends.
 */
#include "types.h"

#define NO_SLOT UINT32_MAX
/* readdir cookies: number of the next slot, above what means "start", "." and "..". */
#define COOKIE_BASE 16u
/* Directory bytes loaded ahead. */
#define READ_AHEAD (64u * 1024u)

uint32_t fat_dir_slots(FatVolume *volume, const FatChain *chain) {
    uint64_t bytes;

    if (chain->fixed_root) {
        return volume->geo.root_entries;
    }
    bytes = (uint64_t)chain->runs.length << volume->geo.cluster_shift;
    return (uint32_t)MIN(bytes / FAT_ENTRY_SIZE, FAT_DIR_SLOTS_MAX);
}

bool fat_dir_slot_position(FatVolume *volume, const FatChain *chain, uint32_t slot, uint64_t *ret) {
    uint64_t byte = (uint64_t)slot * FAT_ENTRY_SIZE;
    uint32_t index = (uint32_t)(byte >> volume->geo.cluster_shift);
    const FatRun *run;

    if (slot >= fat_dir_slots(volume, chain)) {
        return false;
    }
    if (chain->fixed_root) {
        *ret = ((uint64_t)volume->geo.root_start << volume->geo.sector_shift) + byte;
        return true;
    }
    run = fat_runs_find(&chain->runs, index);
    *ret = fat_cluster_offset(&volume->geo, run->cluster + (index - run->index)) +
           (byte & (volume->geo.cluster_size - 1));
    return true;
}

/* ---- the iterator ---- */

void fat_dir_iter_init(FatDirIter *iter, FatVolume *volume, const FatChain *chain, uint32_t slot) {
    iter->volume = volume;
    iter->chain = chain;
    iter->slot = slot;
    iter->slot_count = iter->end_slot = fat_dir_slots(volume, chain);
    iter->want_free = 0;
    iter->free_slot = iter->free_start = iter->long_slot = NO_SLOT;
    iter->buffer = NULL;
    fat_long_reset(&iter->name);
}

void fat_dir_iter_done(FatDirIter *iter) {
    if (iter->buffer != NULL) {
        cache_put(iter->buffer);
        iter->buffer = NULL;
    }
}

/* Loads the directory's sectors around a position in one read, as far as they are contiguous. */
static void read_ahead(FatDirIter *iter, uint64_t position) {
    FatVolume *volume = iter->volume;
    uint64_t bytes = (uint64_t)(iter->slot_count - iter->slot) * FAT_ENTRY_SIZE;

    if (!iter->chain->fixed_root) {
        uint64_t byte = (uint64_t)iter->slot * FAT_ENTRY_SIZE;
        uint32_t index = (uint32_t)(byte >> volume->geo.cluster_shift);
        const FatRun *run = fat_runs_find(&iter->chain->runs, index);
        uint64_t run_end = (uint64_t)(run->index + run->count) << volume->geo.cluster_shift;
        bytes = MIN(bytes, run_end - byte);
    }
    bytes = MIN(bytes, READ_AHEAD);
    (void)cache_prefetch(volume->base.cache, fat_block_of(volume, position),
                         div_ceil(bytes, volume->geo.sector_size));
}

/* The bytes of the slot that is next. */
static int slot_load(FatDirIter *iter, uint64_t *ret_position, const FatDiskEntry **ret) {
    FatVolume *volume = iter->volume;
    uint64_t position = 0;
    uint64_t block;
    int r;

    if (!fat_dir_slot_position(volume, iter->chain, iter->slot, &position)) {
        return -ERANGE;
    }
    block = fat_block_of(volume, position);
    if (iter->buffer != NULL && iter->buffer->block != block) {
        fat_dir_iter_done(iter);
    }
    if (iter->buffer == NULL) {
        if (iter->slot * FAT_ENTRY_SIZE % READ_AHEAD == 0 || block % 8 == 0) {
            read_ahead(iter, position);
        }
        r = cache_get(volume->base.cache, block, &iter->buffer);
        if (r < 0) {
            return r == -ERANGE ? -EIO : r; /* the device is shorter than the volume */
        }
    }
    *ret_position = position;
    *ret = (const FatDiskEntry *)(iter->buffer->data + fat_block_offset(volume, position));
    return 0;
}

/* Counts the row of free slots that ends before `end`. */
static void note_free(FatDirIter *iter, uint32_t end) {
    if (iter->free_slot == NO_SLOT && iter->free_start != NO_SLOT && iter->want_free > 0 &&
        end - iter->free_start >= iter->want_free) {
        iter->free_slot = iter->free_start;
    }
}

/* Takes one slot. 1: *ret is an entry, 0: go on, 2: the end. */
static int take_slot(FatDirIter *iter, uint64_t position, const FatDiskEntry *disk,
                     FatDirEntry *ret) {
    uint32_t slot = iter->slot;
    FatSlotKind kind = fat_slot_kind(disk);
    bool has_long;

    if (kind == FAT_SLOT_END || kind == FAT_SLOT_FREE) {
        fat_long_reset(&iter->name);
        iter->long_slot = NO_SLOT;
        if (iter->free_start == NO_SLOT) {
            iter->free_start = slot;
        }
        if (kind == FAT_SLOT_END) {
            iter->end_slot = slot;
            return 2;
        }
        note_free(iter, slot + 1);
        return 0;
    }
    iter->free_start = NO_SLOT;
    if (kind == FAT_SLOT_LONG) {
        bool first = disk->name[0] & FAT_LONG_LAST;
        if (!fat_long_add(&iter->name, (const FatDiskLong *)disk)) {
            iter->long_slot = NO_SLOT;
        } else if (first) {
            iter->long_slot = slot;
        }
        return 0;
    }
    has_long = kind == FAT_SLOT_ENTRY && iter->long_slot != NO_SLOT &&
               fat_long_finish(&iter->name, disk->name);
    if (kind == FAT_SLOT_ENTRY) {
        fat_entry_decode(&iter->volume->geo, disk, &ret->entry);
        ret->slot = slot;
        ret->first_slot = has_long ? iter->long_slot : slot;
        ret->position = position;
        ret->long_name = has_long ? iter->name.units : NULL;
        ret->long_length = has_long ? iter->name.length : 0;
    }
    /* The units stay valid for the caller; the next slot starts afresh. */
    iter->name.parts = iter->name.expected = 0;
    iter->long_slot = NO_SLOT;
    return kind == FAT_SLOT_ENTRY ? 1 : 0;
}

int fat_dir_iter_next(FatDirIter *iter, FatDirEntry *ret) {
    while (iter->slot < iter->end_slot) {
        const FatDiskEntry *disk = NULL;
        uint64_t position = 0;
        int r = slot_load(iter, &position, &disk);

        if (r < 0) {
            return r;
        }
        r = take_slot(iter, position, disk, ret);
        if (r == 2) {
            break;
        }
        iter->slot += 1;
        if (r == 1) {
            return 1;
        }
    }
    /* Behind the end mark everything is free, up to what is allocated. */
    note_free(iter, iter->slot_count);
    return 0;
}

int fat_dir_entry_at(FatInode *dir, uint32_t slot, FatDirIter *iter, FatDirEntry *ret) {
    int r;

    fat_dir_iter_init(iter, fat_inode_volume(dir), &dir->chain,
                      slot > FAT_LONG_SLOTS_MAX ? slot - FAT_LONG_SLOTS_MAX : 0);
    do {
        r = fat_dir_iter_next(iter, ret);
    } while (r > 0 && ret->slot < slot);
    fat_dir_iter_done(iter);
    if (r < 0) {
        return r;
    }
    return r > 0 && ret->slot == slot ? 0 : -ENOENT;
}

int fat_dir_check_empty(FatInode *dir) {
    FatDirIter iter;
    FatDirEntry entry;
    int r;

    fat_dir_iter_init(&iter, fat_inode_volume(dir), &dir->chain, 0);
    r = fat_dir_iter_next(&iter, &entry);
    fat_dir_iter_done(&iter);
    return r > 0 ? -ENOTEMPTY : r;
}

int fat_dir_find_label(FatVolume *volume, const FatChain *root, uint8_t ret[FAT_SHORT_LENGTH],
                       uint64_t *ret_position) {
    FatDirIter iter;
    int r = -ENOENT;

    fat_dir_iter_init(&iter, volume, root, 0);
    while (iter.slot < iter.slot_count) {
        const FatDiskEntry *disk = NULL;
        uint64_t position;
        FatSlotKind kind;

        r = slot_load(&iter, &position, &disk);
        if (r < 0) {
            break;
        }
        kind = fat_slot_kind(disk);
        r = -ENOENT;
        if (kind == FAT_SLOT_END) {
            break;
        }
        if (kind == FAT_SLOT_LABEL) {
            memcpy(ret, disk->name, FAT_SHORT_LENGTH);
            if (ret_position != NULL) {
                *ret_position = position;
            }
            r = 0;
            break;
        }
        iter.slot += 1;
    }
    fat_dir_iter_done(&iter);
    return r;
}

/* ---- operations ---- */

/* A directory inside itself, or the root inside another: nothing to walk into. */
static int check_child(FatInode *dir, const FatDirEntry *entry) {
    FatVolume *volume = fat_inode_volume(dir);
    uint32_t first = entry->entry.first_cluster;

    if (!(entry->entry.attributes & FAT_ATTR_DIRECTORY) || first == 0 ||
        (first != dir->chain.first && first != volume->geo.root_cluster)) {
        return 0;
    }
    return report_corrupt(volume->base.reporter, false, "directory entry", entry->position,
                          "DIR_FstClus", first, "a directory that contains itself");
}

/* Where the device fails within the directory, what comes before can still be found. */
static int search_slots(FatInode *dir, const FatSearch *search, FatDirIter *iter,
                        FatDirEntry *ret) {
    int r;

    fat_dir_iter_init(iter, fat_inode_volume(dir), &dir->chain, 0);
    do {
        r = fat_dir_iter_next(iter, ret);
    } while (r > 0 && !fat_search_match(search, ret));
    fat_dir_iter_done(iter);
    return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

int fat_lookup(FsInode *base, const FsName *name, FsEntry *ret) {
    FatInode *dir = fat_inode(base);
    FatVolume *volume = fat_inode_volume(dir);
    FatSearch search;
    FatDirIter iter;
    FatDirEntry entry;
    FsEntry found;
    char text[FS_NAME_MAX + 1];
    int r = fat_search_init(&search, volume->codepage, name, volume->base.options.case_exact);

    if (r < 0) {
        return r;
    }
    r = fat_index_load(dir);
    if (r == 0) {
        r = fat_index_find(dir, &search, NO_SLOT, &iter, &entry);
    } else {
        r = search_slots(dir, &search, &iter, &entry);
    }
    if (r == 0) {
        r = check_child(dir, &entry);
    }
    if (r < 0) {
        return r;
    }
    found.position = entry.slot;
    found.exact = fat_name_display(volume->codepage, &entry, text) == name->length &&
                  memcmp(text, name->text, name->length) == 0;
    r = fat_identity_settle(volume, entry.position, &found.file_id);
    if (r == 0) {
        *ret = found;
    }
    return r;
}

/* The attributes of a directory that is not in memory, if its clusters are one run: else its size
 * would be a walk along its chain, which a LOOKUP may take and a listing must not. */
static bool small_directory_attr(FatVolume *volume, const FatEntry *entry, uint64_t file_id,
                                 FsAttr *ret) {
    uint32_t count, next;

    if (!fat_cluster_valid(&volume->geo, entry->first_cluster) ||
        fat_table_follow(volume, entry->first_cluster, &count, &next) < 0 ||
        next != FAT_CELL_END) {
        return false; /* what is wrong is LOOKUP's to say */
    }
    fat_attr_fill(volume, entry, file_id, ret);
    ret->size = ((uint64_t)count + 1) << volume->geo.cluster_shift;
    ret->blocks = ret->size / 512;
    return ret->size <= (uint64_t)FAT_DIR_SLOTS_MAX * FAT_ENTRY_SIZE;
}

static int emit_entry(FatInode *dir, const FatDirEntry *entry, FsDirEmit *emit) {
    FatVolume *volume = fat_inode_volume(dir);
    char name[FS_NAME_MAX + 1];
    bool directory = entry->entry.attributes & FAT_ATTR_DIRECTORY;
    FsDirEntry out = {
        .name = name,
        .name_length = fat_name_display(volume->codepage, entry, name),
        .cookie = (uint64_t)entry->slot + 1 + COOKIE_BASE,
        .position = entry->slot,
        .type = directory ? FS_TYPE_DIRECTORY : FS_TYPE_FILE,
    };

    if (!fat_identity_at(volume, entry->position, &out.file_id)) {
        out.file_id = fat_id_natural(entry->position) | FAT_ID_UNSETTLED;
    } else {
        const FsInode *inode = fs_inode_peek(&volume->base, out.file_id);

        out.has_attr = true;
        if (inode != NULL) {
            out.attr = inode->attr;
        } else if (directory) {
            out.has_attr = small_directory_attr(volume, &entry->entry, out.file_id, &out.attr);
        } else {
            fat_attr_fill(volume, &entry->entry, out.file_id, &out.attr);
        }
    }
    return fs_dir_emit(emit, &out);
}

int fat_readdir(FsInode *base, uint64_t cookie, FsDirEmit *emit) {
    FatInode *dir = fat_inode(base);
    FatVolume *volume = fat_inode_volume(dir);
    FatDirIter iter;
    FatDirEntry entry;
    uint64_t slot = cookie > COOKIE_BASE ? cookie - COOKIE_BASE : 0;
    int r;

    if (slot >= fat_dir_slots(volume, &dir->chain)) {
        return 0;
    }
    fat_dir_iter_init(&iter, volume, &dir->chain, (uint32_t)slot);
    do {
        r = fat_dir_iter_next(&iter, &entry);
        if (r > 0) {
            r = emit_entry(dir, &entry, emit);
            r = r == 0 ? 1 : r < 0 ? r : 0;
        }
    } while (r > 0);
    fat_dir_iter_done(&iter);
    return r;
}

/* First cluster that '..' of a directory names, normalised: 0 for the root. */
static int read_dotdot(FatVolume *volume, const FatChain *chain, uint32_t *ret) {
    FatDiskEntry disk;
    FatEntry entry;
    uint64_t position = 0;
    int r;

    if (!fat_dir_slot_position(volume, chain, 1, &position)) {
        return -ENOENT;
    }
    r = fat_entry_read(volume, position, &disk);
    if (r < 0) {
        return r;
    }
    if (fat_slot_dots(&disk) != 2) {
        return report_corrupt(volume->base.reporter, false, "directory entry", position, "DIR_Name",
                              disk.name[0], "should be '..'");
    }
    fat_entry_decode(&volume->geo, &disk, &entry);
    *ret = entry.first_cluster == volume->geo.root_cluster ? 0 : entry.first_cluster;
    return 0;
}

/* A directory that may not be in core, by its number; 0: the root. */
static int load_by_number(FatVolume *volume, uint32_t number, FatChain *ret) {
    bool fixed = number == 0 && volume->geo.kind != FAT_KIND_32;
    int r;

    fat_chain_init(ret, number == 0 ? volume->geo.root_cluster : number);
    ret->fixed_root = fixed;
    r = fat_chain_load(volume, ret, fat_clusters_for(volume, FAT_DIR_SLOTS_MAX * FAT_ENTRY_SIZE),
                       false);
    return r == -EUCLEAN && ret->runs.length > 0 ? 0 : r;
}

/* The entry for directory `number` in the directory `in`. */
static int find_number(FatVolume *volume, const FatChain *in, uint32_t number,
                       uint64_t *ret_file_id) {
    FatDirIter iter;
    FatDirEntry entry;
    int r;

    fat_dir_iter_init(&iter, volume, in, 0);
    do {
        r = fat_dir_iter_next(&iter, &entry);
    } while (r > 0 &&
             !(entry.entry.attributes & FAT_ATTR_DIRECTORY && entry.entry.first_cluster == number));
    fat_dir_iter_done(&iter);
    if (r <= 0) {
        return r < 0 ? r : -ENOENT;
    }
    return fat_identity_settle(volume, entry.position, ret_file_id);
}

int fat_parent(FsInode *base, uint64_t *ret_file_id) {
    FatInode *dir = fat_inode(base);
    FatVolume *volume = fat_inode_volume(dir);
    FatChain parent, grandparent;
    uint32_t number, above;
    int r;

    if (base->file_id == FS_ROOT_ID) {
        *ret_file_id = FS_ROOT_ID;
        return 0;
    }
    r = read_dotdot(volume, &dir->chain, &number);
    if (r < 0) {
        return r;
    }
    if (number == 0) {
        *ret_file_id = FS_ROOT_ID;
        return 0;
    }
    r = load_by_number(volume, number, &parent);
    if (r == 0) {
        r = read_dotdot(volume, &parent, &above);
    }
    fat_chain_done(&parent);
    if (r < 0) {
        return r;
    }
    r = load_by_number(volume, above, &grandparent);
    if (r == 0) {
        r = find_number(volume, &grandparent, number, ret_file_id);
    }
    fat_chain_done(&grandparent);
    return r;
}
