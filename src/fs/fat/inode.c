/* SPDX-License-Identifier: MIT */
/*
 * Inodes: loading one from its short entry, letting it go, and keeping entry
 * and in-core attributes equal. An inode without an entry is the root, or an
 * orphan; what an entry would say of them lives in an object.
 *
 * Locks: the framework's inode lock; entry_put runs in transaction bodies.
 */
#include "types.h"

static uint32_t attr_mode(const FatVolume *volume, uint8_t attributes) {
    if (attributes & FAT_ATTR_DIRECTORY) {
        return 0777 & ~volume->base.options.dmask;
    }
    return (attributes & FAT_ATTR_READ_ONLY ? 0555u : 0777u) & ~volume->base.options.fmask;
}

void fat_attr_fill(FatVolume *volume, const FatEntry *entry, uint64_t file_id, FsAttr *ret) {
    bool directory = entry->attributes & FAT_ATTR_DIRECTORY;
    uint64_t size = directory ? 0 : entry->size;

    *ret = (FsAttr){
        .file_id = file_id,
        .type = directory ? FS_TYPE_DIRECTORY : FS_TYPE_FILE,
        .mode = attr_mode(volume, entry->attributes),
        .nlink = 1,
        .uid = volume->base.options.uid,
        .gid = volume->base.options.gid,
        .block_size = volume->geo.cluster_size,
        .size = size,
        .blocks = (uint64_t)fat_clusters_for(volume, size) * (volume->geo.cluster_size / 512),
        .atime_ns = entry->atime_ns,
        .mtime_ns = entry->mtime_ns,
        .ctime_ns = entry->mtime_ns,
        .btime_ns = entry->btime_ns,
    };
}

/* ---- entries ---- */

int fat_entry_read(FatVolume *volume, uint64_t position, FatDiskEntry *ret) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r = cache_get(volume->base.cache, fat_block_of(volume, position), &buffer);

    if (r == 0) {
        memcpy(ret, buffer->data + fat_block_offset(volume, position), sizeof(*ret));
    }
    return r == -ERANGE ? -EIO : r;
}

int fat_entry_write(Txn *txn, FatVolume *volume, uint64_t position, const FatDiskEntry *disk,
                    FatClass class) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r = cache_get(volume->base.cache, fat_block_of(volume, position), &buffer);

    if (r < 0) {
        return r;
    }
    return txn_write(txn, buffer, fat_block_offset(volume, position), disk, sizeof(*disk), class);
}

void fat_inode_entry_make(const FatInode *inode, FatDiskEntry *ret) {
    const FatGeometry *geo = &container_of(inode->base.fs, FatVolume, base)->geo;
    const FsAttr *attr = &inode->base.attr;
    FatEntry again, entry = {
                        .attributes = inode->attributes,
                        .first_cluster = inode->chain.first,
                        .size = inode->directory ? 0 : (uint32_t)attr->size,
                        .mtime_ns = attr->mtime_ns,
                        .atime_ns = attr->atime_ns,
                        .btime_ns = attr->btime_ns,
                    };

    fat_entry_encode(geo, &entry, ret);
    fat_entry_decode(geo, ret, &again);
    if (again.atime_ns != attr->atime_ns) {
        ret->access_date = le16_make(0); /* it never had one: mtime stands for it */
    }
}

/* Of an inode that has no entry on disk: the kind of object that holds its entry. */
static TxnObjectKind entry_object(const FatInode *inode) {
    return inode->base.file_id == FS_ROOT_ID ? FAT_OBJECT_ROOT : TXN_OBJECT_ORPHAN;
}

int fat_inode_entry_get(FatInode *inode, FatDiskEntry *ret) {
    FatVolume *volume = fat_inode_volume(inode);
    int r;

    if (inode->entry != 0) {
        return fat_entry_read(volume, inode->entry, ret);
    }
    r = fat_object_get(volume, inode->base.file_id, entry_object(inode), ret);
    if (r == -ENOENT) {
        fat_inode_entry_make(inode, ret);
        r = 0;
    }
    return r;
}

/* In core what the entry says; nlink and a directory's size come from elsewhere. */
static void inode_take_entry(FatInode *inode, const FatDiskEntry *disk) {
    FatVolume *volume = fat_inode_volume(inode);
    FsAttr *attr = &inode->base.attr;
    FsAttr old = *attr;
    FatEntry entry;

    fat_entry_decode(&volume->geo, disk, &entry);
    fat_attr_fill(volume, &entry, inode->base.file_id, attr);
    attr->nlink = old.nlink;
    if (inode->directory) {
        attr->size = old.size;
        attr->blocks = old.blocks;
    }
    inode->attributes = entry.attributes;
}

int fat_inode_entry_put(Txn *txn, FatInode *inode, const FatDiskEntry *disk) {
    FatVolume *volume = fat_inode_volume(inode);
    FatEntry entry;
    int r = txn_save(txn, &inode->base.attr, sizeof(inode->base.attr));

    if (r == 0) {
        r = txn_save(txn, &inode->attributes, sizeof(inode->attributes));
    }
    if (r == 0) {
        r = txn_save(txn, &inode->chain.first, sizeof(inode->chain.first));
    }
    if (r < 0) {
        return r;
    }
    inode_take_entry(inode, disk);
    fat_entry_decode(&volume->geo, disk, &entry);
    if (inode->base.file_id != FS_ROOT_ID) {
        inode->chain.first = entry.first_cluster;
    }
    if (inode->entry != 0) {
        return fat_entry_write(txn, volume, inode->entry, disk, FAT_CLASS_ENTRY);
    }
    return fat_object_put(txn, inode->base.file_id, entry_object(inode), disk);
}

int fat_inode_touch(Txn *txn, FatInode *inode, int64_t time_ns) {
    FatDiskEntry disk;
    int r = fat_inode_entry_get(inode, &disk);

    if (r < 0) {
        return r;
    }
    fat_entry_set_mtime(&fat_inode_volume(inode)->geo, &disk, time_ns);
    return fat_inode_entry_put(txn, inode, &disk);
}

/* ---- loading ---- */

/* Walks a directory's chain: its slots must be found without suspending later. */
static int load_directory(FatVolume *volume, FatInode *inode) {
    uint32_t most = fat_clusters_for(volume, (uint64_t)FAT_DIR_SLOTS_MAX * FAT_ENTRY_SIZE);
    FatChain *chain = &inode->chain;
    int r = 0;

    if (!chain->fixed_root && chain->first == 0) {
        chain->damaged = true;
        (void)report_corrupt(volume->base.reporter, false, "directory entry", inode->entry,
                             "DIR_FstClus", 0, "a directory without clusters");
    } else {
        r = fat_chain_load(volume, chain, most, false);
    }
    if (r == 0 && !chain->fixed_root && !chain->complete && !chain->damaged) {
        uint32_t count, next;
        r = fat_table_follow(volume, fat_runs_last(&chain->runs), &count, &next);
        if (r == 0 && (count > 0 || next != FAT_CELL_END)) {
            r = report_corrupt(volume->base.reporter, false, "FAT", chain->first, "chain", most,
                               "the directory has more than %u entries", FAT_DIR_SLOTS_MAX);
        } else if (r == 0) {
            chain->complete = true;
        }
    }
    if (r < 0 && r != -EUCLEAN) {
        return r;
    }
    inode->base.attr.size = chain->fixed_root
                                ? (uint64_t)volume->geo.root_entries * FAT_ENTRY_SIZE
                                : (uint64_t)chain->runs.length << volume->geo.cluster_shift;
    inode->base.attr.blocks = (inode->base.attr.size + 511) / 512;
    return 0;
}

static int load_root(FatVolume *volume, FatInode *inode) {
    const int64_t epoch = fat_time_decode(le16_make(0), le16_make(0), 0);
    FatDiskEntry disk;
    FatEntry entry = {.attributes = FAT_ATTR_DIRECTORY,
                      .mtime_ns = epoch,
                      .atime_ns = epoch,
                      .btime_ns = FAT_TIME_NONE};

    if (fat_object_get(volume, FS_ROOT_ID, FAT_OBJECT_ROOT, &disk) == 0) {
        fat_entry_decode(&volume->geo, &disk, &entry);
        entry.attributes |= FAT_ATTR_DIRECTORY;
    }
    fat_attr_fill(volume, &entry, FS_ROOT_ID, &inode->base.attr);
    inode->attributes = entry.attributes;
    inode->directory = true;
    fat_chain_init(&inode->chain, volume->geo.root_cluster);
    inode->chain.fixed_root = volume->geo.kind != FAT_KIND_32;
    return load_directory(volume, inode);
}

static int load_orphan(FatVolume *volume, FatInode *inode) {
    FatDiskEntry disk;
    FatEntry entry;
    int r = fat_object_get(volume, inode->base.file_id, TXN_OBJECT_ORPHAN, &disk);

    if (r < 0) {
        return r;
    }
    fat_entry_decode(&volume->geo, &disk, &entry);
    inode->directory = entry.attributes & FAT_ATTR_DIRECTORY;
    inode_take_entry(inode, &disk);
    inode->base.attr.nlink = 0;
    fat_chain_init(&inode->chain, entry.first_cluster);
    return inode->directory ? load_directory(volume, inode) : 0;
}

/* May a directory lie there? An id is the other side's claim. */
static int check_position(FatVolume *volume, uint64_t position) {
    const FatGeometry *geo = &volume->geo;
    uint64_t data = (uint64_t)geo->data_start << geo->sector_shift;
    uint64_t root = (uint64_t)geo->root_start << geo->sector_shift;
    uint32_t value;
    int r;

    if (position < data) {
        bool in_root = geo->kind != FAT_KIND_32 && position >= root &&
                       position < root + (uint64_t)geo->root_entries * FAT_ENTRY_SIZE;
        return in_root ? 0 : -ESTALE;
    }
    if ((position - data) >> geo->cluster_shift >= geo->cluster_count) {
        return -ESTALE;
    }
    r = fat_table_get(volume, (uint32_t)((position - data) >> geo->cluster_shift) + 2, &value);
    if (r < 0) {
        return r;
    }
    return value == FAT_CELL_FREE || value == FAT_CELL_BAD ? -ESTALE : 0;
}

static int load_entry(FatVolume *volume, FatInode *inode, uint64_t position) {
    FatDiskEntry disk;
    FatEntry entry;
    int r = check_position(volume, position);

    if (r == 0) {
        r = fat_entry_read(volume, position, &disk);
    }
    if (r < 0) {
        return r;
    }
    if (fat_slot_kind(&disk) != FAT_SLOT_ENTRY) {
        return -ESTALE;
    }
    fat_entry_decode(&volume->geo, &disk, &entry);
    inode->entry = position;
    inode->directory = entry.attributes & FAT_ATTR_DIRECTORY;
    inode->base.attr.nlink = 1;
    inode_take_entry(inode, &disk);
    fat_chain_init(&inode->chain, entry.first_cluster);
    if (inode->directory) {
        return load_directory(volume, inode);
    }
    if (entry.size > 0 && entry.first_cluster == 0) {
        (void)report_corrupt(volume->base.reporter, false, "directory entry", position,
                             "DIR_FileSize", entry.size, "a size, but no clusters");
    }
    return 0;
}

int fat_inode_load(FsInode *base, uint64_t position) {
    FatInode *inode = fat_inode(base);
    FatVolume *volume = fat_inode_volume(inode);
    uint64_t id = base->file_id;
    const FatIdentity *identity = fat_identity_find(volume, id);
    uint64_t owner;
    int r;

    (void)position; /* the id tells */
    if (id == FS_ROOT_ID) {
        r = load_root(volume, inode);
    } else if (identity != NULL && identity->position == 0) {
        r = load_orphan(volume, inode);
    } else if (identity != NULL) {
        r = load_entry(volume, inode, identity->position);
    } else if (id < FAT_SECTOR_MIN / FAT_ENTRY_SIZE || id >= FAT_ID_UNSETTLED ||
               id > UINT64_MAX / FAT_ENTRY_SIZE) {
        r = -ESTALE;
    } else if (!fat_identity_at(volume, id * FAT_ENTRY_SIZE, &owner) || owner != id) {
        r = -ESTALE; /* another object sits there */
    } else {
        r = load_entry(volume, inode, id * FAT_ENTRY_SIZE);
    }
    if (r < 0) {
        fat_chain_done(&inode->chain);
    }
    return r;
}

/* ---- letting go ---- */

static int forget_body(Txn *txn, void *arg) {
    FatInode *inode = arg;

    return fat_identity_forget(txn, fat_inode_volume(inode), inode->base.file_id);
}

int fat_inode_evict(FsInode *base) {
    FatInode *inode = fat_inode(base);
    FatVolume *volume = fat_inode_volume(inode);
    int r = 0;

    fat_alloc_release(volume, &inode->reserved, 0);
    fat_runs_done(&inode->reserved);
    fat_index_drop(inode);
    if (!volume->base.readonly && fat_identity_find(volume, base->file_id) != NULL) {
        r = base->attr.nlink == 0
                ? fat_chain_reclaim(volume, &inode->chain, base->file_id, TXN_OBJECT_ORPHAN)
                : txn_run(volume->base.cache, NULL, forget_body, inode);
    }
    fat_chain_done(&inode->chain);
    return r;
}
