/* SPDX-License-Identifier: MIT */
/*
 * What is in core equals what the blocks in the cache say. A second, plain reader of FAT walks all
 * directories through the cache and compares: attributes, positions and chains of every
 * inode in core, names in directory indexes, identities and objects, the maps of free clusters.
 * Each used cluster belongs to one chain. On the way it makes a fingerprint of what users see.
 */
#ifndef FAT_INVARIANT_H
#define FAT_INVARIANT_H

#include "../../src/fs/fat/types.h"
#include "fat_support.h"

typedef struct Invariant {
    FatVolume *volume;
    const char *what;
    uint32_t end;      /* clusters are 2 to end - 1 */
    uint32_t *cells;   /* normalised */
    uint8_t *owned;    /* chains that a cluster belongs to */
    uint8_t *reserved; /* promised to an inode in core */
    uint64_t fingerprint;
    struct {
        uint32_t cluster; /* 0: the fixed root */
        uint32_t parent;  /* as '..' names it */
        uint64_t hash;    /* of its path */
        FatInode *inode;  /* NULL: not in core */
    } directories[64];
    unsigned count;
} Invariant;

/* Not ck_assert(): that tells its parent of every one that holds. */
#define HOLDS(invariant, condition, fmt, ...)                                       \
    do {                                                                            \
        if (!(condition)) {                                                         \
            ck_abort_msg("%s: " fmt, (invariant)->what __VA_OPT__(, ) __VA_ARGS__); \
        }                                                                           \
    } while (0)

static uint64_t hash_add(uint64_t hash, const void *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* ---- chains ---- */

/* Its clusters, each claimed for this chain; the content's hash, at most `size` bytes. */
static uint32_t invariant_chain(Invariant *in, uint32_t first, uint32_t size, uint64_t *hash) {
    const FatGeometry *geo = &in->volume->geo;
    uint32_t length = 0;

    for (uint32_t cluster = first; cluster != 0 && cluster != FAT_CELL_END; length++) {
        HOLDS(in, cluster >= 2 && cluster < in->end, "cluster %u in a chain", cluster);
        HOLDS(in, in->cells[cluster] != FAT_CELL_FREE, "free cluster %u in a chain", cluster);
        HOLDS(in, in->owned[cluster]++ == 0, "cluster %u in two chains", cluster);
        if (hash != NULL) {
            uint32_t part = MIN(size, geo->cluster_size);
            *hash = hash_add(*hash, image + fat_cluster_offset(geo, cluster), part);
            size -= part;
        }
        cluster = in->cells[cluster];
    }
    return length;
}

/* The part of a chain that is in core is how it begins. */
static void invariant_runs(Invariant *in, const FatChain *chain, uint32_t first) {
    uint32_t cluster = first;

    if (chain->fixed_root) {
        return;
    }
    HOLDS(in, chain->first == first, "first cluster %u in core, %u stored", chain->first, first);
    for (uint32_t i = 0; i < chain->runs.length; i++) {
        const FatRun *run = fat_runs_find(&chain->runs, i);
        HOLDS(in, run->cluster + (i - run->index) == cluster, "cluster %u of chain %u", i, first);
        cluster = in->cells[cluster];
    }
    HOLDS(in, !chain->complete || cluster == FAT_CELL_END || first == 0, "chain %u ends early",
          first);
    HOLDS(in, !chain->damaged, "chain %u is said to be damaged", first);
}

static void invariant_reserved(Invariant *in, const FatInode *inode) {
    for (uint32_t i = 0; i < inode->reserved.length; i++) {
        const FatRun *run = fat_runs_find(&inode->reserved, i);
        uint32_t cluster = run->cluster + (i - run->index);
        HOLDS(in, in->cells[cluster] == FAT_CELL_FREE, "reserved cluster %u is in use", cluster);
        HOLDS(in, in->reserved[cluster]++ == 0, "cluster %u is reserved twice", cluster);
    }
}

/* ---- inodes ---- */

static void invariant_attr(Invariant *in, const FsAttr *core, const FsAttr *stored,
                           bool is_directory) {
    uint64_t id = stored->file_id;

    HOLDS(in, core->file_id == id && core->type == stored->type, "%llx: id, type",
          (unsigned long long)id);
    HOLDS(in, core->mode == stored->mode && core->nlink == stored->nlink, "%llx: mode, nlink",
          (unsigned long long)id);
    HOLDS(in, core->uid == stored->uid && core->gid == stored->gid, "%llx: owner",
          (unsigned long long)id);
    HOLDS(in, is_directory || (core->size == stored->size && core->blocks == stored->blocks),
          "%llx: size %llu in core, %llu stored", (unsigned long long)id,
          (unsigned long long)core->size, (unsigned long long)stored->size);
    HOLDS(in, core->mtime_ns == stored->mtime_ns && core->atime_ns == stored->atime_ns,
          "%llx: mtime, atime", (unsigned long long)id);
    HOLDS(in, core->ctime_ns == stored->ctime_ns && core->btime_ns == stored->btime_ns,
          "%llx: ctime, btime", (unsigned long long)id);
}

/* The entry at position, and its inode if there is one in core. */
static FatInode *invariant_inode(Invariant *in, uint64_t position, const FatEntry *entry) {
    FatInode *inode;
    FsInode *base;
    FsAttr stored;
    uint64_t id;

    if (!fat_identity_at(in->volume, position, &id)) {
        return NULL;
    }
    base = fs_inode_peek(&in->volume->base, id);
    if (base == NULL || !base->loaded) {
        return NULL;
    }
    inode = fat_inode(base);
    fat_attr_fill(in->volume, entry, id, &stored);
    invariant_attr(in, &base->attr, &stored, inode->directory);
    HOLDS(in, inode->entry == position, "entry at %llu, in core %llu", (unsigned long long)position,
          (unsigned long long)inode->entry);
    HOLDS(in, inode->attributes == entry->attributes && !base->dead, "attributes of %llx",
          (unsigned long long)id);
    HOLDS(in, inode->directory == ((entry->attributes & FAT_ATTR_DIRECTORY) != 0), "type of %llx",
          (unsigned long long)id);
    invariant_runs(in, &inode->chain, entry->first_cluster);
    invariant_reserved(in, inode);
    return inode;
}

/* ---- directories ---- */

/* A loaded index finds the entry by its names. */
static void invariant_index(Invariant *in, FatInode *dir, uint32_t slot, const FatEntry *entry,
                            const FatLongName *name, bool has_long) {
    FatDirIter iter;
    FatDirEntry found;
    FatSearch search;

    fat_search_init_short(&search, in->volume->codepage, entry->name);
    HOLDS(in, fat_index_find(dir, &search, UINT32_MAX, &iter, &found) == 0 && found.slot == slot,
          "the index does not find slot %u", slot);
    if (has_long) {
        search.length = name->length;
        for (unsigned i = 0; i < name->length; i++) {
            search.folded[i] = utf16_upper(name->units[i]);
        }
        HOLDS(in,
              fat_index_find(dir, &search, UINT32_MAX, &iter, &found) == 0 && found.slot == slot,
              "the index does not find slot %u by its long name", slot);
    }
}

/* No row of so many free slots begins before where the index would look for one. */
static void invariant_free_row(Invariant *in, const FatInode *dir, uint32_t start,
                               uint32_t length) {
    for (uint32_t k = 1; dir->index != NULL && k <= MIN(length, FAT_LONG_SLOTS_MAX + 1); k++) {
        HOLDS(in, fat_index_free_from(dir, k) <= start, "%u free slots at %u are not looked at", k,
              start);
    }
}

static void invariant_entry(Invariant *in, uint32_t parent, uint64_t path, uint64_t position,
                            const FatEntry *entry, const FatLongName *name, bool has_long) {
    uint64_t hash = hash_add(path, entry->name, sizeof(entry->name));
    FatInode *inode = invariant_inode(in, position, entry);
    uint32_t length;

    if (has_long) {
        hash = hash_add(hash, name->units, name->length * sizeof(name->units[0]));
    }
    hash = hash_add(hash, &entry->attributes, 2);
    hash = hash_add(hash, &entry->size, sizeof(entry->size));
    hash = hash_add(hash, &entry->mtime_ns, 3 * sizeof(entry->mtime_ns));
    if (entry->attributes & FAT_ATTR_DIRECTORY) {
        ck_assert_uint_lt(in->count, ARRAY_SIZE(in->directories));
        in->directories[in->count].cluster = entry->first_cluster;
        in->directories[in->count].parent = parent;
        in->directories[in->count].inode = inode;
        in->directories[in->count++].hash = hash;
    } else {
        length = invariant_chain(in, entry->first_cluster, entry->size, &hash);
        HOLDS(in, length == fat_clusters_for(in->volume, entry->size), "%u bytes in %u clusters",
              entry->size, length);
    }
    in->fingerprint += hash;
}

static uint64_t slot_position(const Invariant *in, uint32_t *cluster, uint32_t slot) {
    const FatGeometry *geo = &in->volume->geo;
    uint32_t per_cluster = geo->cluster_size / FAT_ENTRY_SIZE;

    if (*cluster == 0) {
        return slot >= geo->root_entries
                   ? 0
                   : ((uint64_t)geo->root_start << geo->sector_shift) + slot * FAT_ENTRY_SIZE;
    }
    if (slot > 0 && slot % per_cluster == 0) {
        *cluster = in->cells[*cluster];
    }
    return *cluster == FAT_CELL_END
               ? 0
               : fat_cluster_offset(geo, *cluster) + slot % per_cluster * (uint64_t)FAT_ENTRY_SIZE;
}

/* number: what '..' of its children holds. dir: its inode, NULL: not in core. */
static void invariant_directory(Invariant *in, uint32_t cluster, uint32_t number, uint64_t path,
                                FatInode *dir) {
    uint32_t slot = 0, row = 0;
    bool ended = false, has_long = false;
    uint64_t position;
    FatLongName name;

    fat_long_reset(&name);
    for (; (position = slot_position(in, &cluster, slot)) != 0; slot++) {
        FatDiskEntry disk;
        FatSlotKind kind;
        FatEntry entry;

        HOLDS(in, fat_entry_read(in->volume, position, &disk) == 0, "cannot read an entry");
        kind = fat_slot_kind(&disk);
        ended |= kind == FAT_SLOT_END;
        if (ended || kind == FAT_SLOT_FREE) {
            row++;
            continue;
        }
        if (dir != NULL) {
            invariant_free_row(in, dir, slot - row, row);
        }
        row = 0;
        if (kind == FAT_SLOT_LONG) {
            (void)fat_long_add(&name, (const FatDiskLong *)&disk);
            continue;
        }
        has_long = kind == FAT_SLOT_ENTRY && name.parts > 0 && fat_long_finish(&name, disk.name);
        HOLDS(in, name.parts == 0 || has_long, "parts of a long name without an entry, slot %u",
              slot);
        if (kind == FAT_SLOT_ENTRY) {
            fat_entry_decode(&in->volume->geo, &disk, &entry);
            invariant_entry(in, number, path, position, &entry, &name, has_long);
            if (dir != NULL && dir->index != NULL) {
                invariant_index(in, dir, slot, &entry, &name, has_long);
            }
        } else if (kind == FAT_SLOT_LABEL) {
            in->fingerprint += hash_add(path, disk.name, sizeof(disk.name));
        }
        fat_long_reset(&name);
    }
    if (dir != NULL) {
        invariant_free_row(in, dir, slot - row, row);
    }
}

/* "." and ".." */
static void invariant_dots(Invariant *in, uint32_t cluster, uint32_t parent) {
    const FatGeometry *geo = &in->volume->geo;

    for (int i = 0; i < 2; i++) {
        uint64_t position = fat_cluster_offset(geo, cluster) + (uint64_t)i * FAT_ENTRY_SIZE;
        FatDiskEntry disk;
        FatEntry entry;

        HOLDS(in, fat_entry_read(in->volume, position, &disk) == 0, "cannot read an entry");
        fat_entry_decode(geo, &disk, &entry);
        HOLDS(in, fat_slot_dots(&disk) == i + 1, "slot %d of directory %u", i, cluster);
        HOLDS(in, entry.first_cluster == (i == 0 ? cluster : parent), "'..' of %u is %u", cluster,
              entry.first_cluster);
    }
}

static void invariant_tree(Invariant *in) {
    const FatGeometry *geo = &in->volume->geo;
    FsInode *root = fs_inode_peek(&in->volume->base, FS_ROOT_ID);

    in->directories[0].cluster = geo->root_cluster;
    in->directories[0].hash = UINT64_C(0xcbf29ce484222325);
    in->directories[0].inode = root != NULL && root->loaded ? fat_inode(root) : NULL;
    in->count = 1;
    for (unsigned i = 0; i < in->count; i++) {
        uint32_t cluster = in->directories[i].cluster;
        FatInode *dir = in->directories[i].inode;
        uint32_t length = invariant_chain(in, cluster, 0, NULL);

        if (i > 0) {
            invariant_dots(in, cluster, in->directories[i].parent);
        } else if (dir != NULL) {
            invariant_runs(in, &dir->chain, cluster);
        }
        if (dir != NULL && !dir->chain.fixed_root) {
            HOLDS(in,
                  dir->chain.complete && dir->chain.runs.length == length &&
                      dir->base.attr.size == (uint64_t)length << geo->cluster_shift,
                  "size of directory %u", cluster);
        }
        invariant_directory(in, cluster, i > 0 ? cluster : 0, in->directories[i].hash, dir);
    }
}

/* ---- identities ---- */

static int invariant_object(void *arg, uint64_t id, TxnObjectKind kind, const void *blob,
                            uint32_t length) {
    Invariant *in = arg;
    const FatIdentity *identity = fat_identity_find(in->volume, id);
    FsInode *base = fs_inode_peek(&in->volume->base, id);
    FatDiskEntry disk;
    FatEntry entry;
    FsAttr stored;

    if (id == FS_ROOT_ID) { /* has no entry: its times are here */
        HOLDS(in, kind == FAT_OBJECT_ROOT && length == sizeof(disk), "the root's object");
        memcpy(&disk, blob, sizeof(disk));
        fat_entry_decode(&in->volume->geo, &disk, &entry);
        HOLDS(in,
              base == NULL ||
                  (base->attr.mtime_ns == entry.mtime_ns && base->attr.atime_ns == entry.atime_ns),
              "times of the root");
        return 0;
    }
    if (kind == TXN_OBJECT_ALIAS) {
        HOLDS(in,
              length == sizeof(le64) && identity != NULL &&
                  identity->position == le64_get(*(const le64 *)blob),
              "alias %llx", (unsigned long long)id);
        HOLDS(in, fat_entry_read(in->volume, identity->position, &disk) == 0, "cannot read");
        HOLDS(in, fat_slot_kind(&disk) == FAT_SLOT_ENTRY, "alias %llx has no entry",
              (unsigned long long)id);
        return 0;
    }
    HOLDS(in, length == sizeof(disk), "%u bytes of object %llx", length, (unsigned long long)id);
    memcpy(&disk, blob, sizeof(disk));
    fat_entry_decode(&in->volume->geo, &disk, &entry);
    (void)invariant_chain(in, entry.first_cluster, 0, NULL);
    if (kind != TXN_OBJECT_ORPHAN) {
        return 0;
    }
    HOLDS(in, identity != NULL && identity->position == 0, "orphan %llx", (unsigned long long)id);
    if (base != NULL && base->loaded) {
        const FatInode *inode = fat_inode(base);
        HOLDS(in, inode->entry == 0, "orphan %llx has an entry", (unsigned long long)id);
        fat_attr_fill(in->volume, &entry, id, &stored);
        stored.nlink = 0;
        invariant_attr(in, &base->attr, &stored, inode->directory);
        invariant_runs(in, &inode->chain, entry.first_cluster);
        invariant_reserved(in, inode);
    }
    return 0;
}

static void invariant_identity(HashNode *node, void *arg) {
    const FatIdentity *identity = container_of(node, FatIdentity, by_id);
    Invariant *in = arg;
    uint8_t blob[TXN_OBJECT_BLOB_MAX];

    HOLDS(in,
          cache_object_get(in->volume->base.cache, identity->id,
                           identity->position != 0 ? TXN_OBJECT_ALIAS : TXN_OBJECT_ORPHAN, blob,
                           sizeof(blob)) > 0,
          "identity %llx without an object", (unsigned long long)identity->id);
}

/* ---- free clusters ---- */

static void invariant_clusters(Invariant *in) {
    const FatVolume *fat = in->volume;
    const FatGeometry *geo = &fat->geo;
    const FatAlloc *alloc = &fat->alloc;
    uint32_t free_count = 0, reserved = 0, available = 0;

    for (uint32_t c = 2; c < in->end; c++) {
        const FatSegment *segment = &alloc->segments[(c - 2) / FAT_SEGMENT_CLUSTERS];
        bool is_free = in->cells[c] == FAT_CELL_FREE;
        bool pending = cache_range_pending(
            fat->base.cache, fat_cluster_offset(geo, c) >> geo->sector_shift, geo->cluster_sectors);

        free_count += is_free;
        reserved += in->reserved[c];
        available += is_free && !in->reserved[c] && !pending;
        HOLDS(in, is_free || in->owned[c] == 1 || in->cells[c] == FAT_CELL_BAD,
              "cluster %u is lost", c);
        HOLDS(in,
              !segment->ready || bitmap_test(segment->bits, (c - 2) % FAT_SEGMENT_CLUSTERS) ==
                                     (!is_free || in->reserved[c] || pending),
              "cluster %u in the map", c);
    }
    HOLDS(in, !alloc->free_known || alloc->free_count == free_count, "%u free, counted %u",
          alloc->free_count, free_count);
    HOLDS(in, alloc->reserved == reserved, "%u reserved, counted %u", alloc->reserved, reserved);
    ck_assert_uint_eq(alloc->segment_count, 1);
    HOLDS(in, alloc->segments[0].reserved == reserved, "reserved in the segment");
    HOLDS(in, !alloc->segments[0].counted || alloc->segments[0].available == available,
          "%u available, counted %u", alloc->segments[0].available, available);
}

/* Returns the fingerprint. Nothing is under way. */
static uint64_t invariant_check(const char *what) {
    Invariant in = {.volume = fat_volume(volume_fs(volume)), .what = what};

    in.end = in.volume->geo.cluster_count + 2;
    in.cells = calloc(in.end, sizeof(*in.cells));
    in.owned = calloc(in.end, 1);
    in.reserved = calloc(in.end, 1);
    for (uint32_t c = 2; c < in.end; c++) {
        HOLDS(&in, fat_table_get(in.volume, c, &in.cells[c]) == 0, "cannot read cell %u", c);
    }
    invariant_tree(&in);
    ck_assert_int_eq(cache_object_iterate(in.volume->base.cache, invariant_object, &in), 0);
    hashmap_iterate(&in.volume->identities.by_id, invariant_identity, &in);
    invariant_clusters(&in);
    free(in.cells);
    free(in.owned);
    free(in.reserved);
    return in.fingerprint;
}

#endif
