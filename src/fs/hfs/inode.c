/* SPDX-License-Identifier: MIT */
/*
 * Inodes: loading one from its catalog record, letting it go, and keeping record and in-core
 * attributes equal. An orphan (unlinked, still in use) has no record in the catalog: its object
 * holds the bytes of the one it had, with the first extents of its forks.
 *
 * Locks: the framework's inode lock; record_put runs in transaction bodies.
 */
#include "types.h"

/* Groups of extents that one step of reclaiming frees. */
#define RECLAIM_STEP 64u

static uint32_t attr_mode(const HfsVolume *volume, const HfsRecord *record) {
    if (record->type == HFS_RECORD_DIR) {
        return 0777 & ~volume->base.options.dmask;
    }
    return (record->file.flags & HFS_FILE_LOCKED ? 0555u : 0777u) & ~volume->base.options.fmask;
}

void hfs_attr_fill(HfsVolume *volume, const HfsRecord *record, FsAttr *ret) {
    bool directory = record->type == HFS_RECORD_DIR;
    be32 modified = directory ? record->dir.modified : record->file.modified;
    be32 created = directory ? record->dir.created : record->file.created;
    uint64_t allocated = directory ? 0
                                   : (uint64_t)be32_get(record->file.data_allocated) +
                                         be32_get(record->file.resource_allocated);

    *ret = (FsAttr){
        .file_id = hfs_file_id(record->id),
        .type = directory ? FS_TYPE_DIRECTORY : FS_TYPE_FILE,
        .mode = attr_mode(volume, record),
        .nlink = 1,
        .uid = volume->base.options.uid,
        .gid = volume->base.options.gid,
        .block_size = volume->mdb.block_size,
        .size = directory ? be16_get(record->dir.valence) : be32_get(record->file.data_size),
        .blocks = allocated / 512,
        .mtime_ns = hfs_time_decode(modified, volume->time_offset_ns),
        .btime_ns = hfs_time_decode(created, volume->time_offset_ns),
    };
    ret->atime_ns = ret->ctime_ns = ret->mtime_ns;
}

/* ---- the record ---- */

static int orphan_get(HfsVolume *volume, uint32_t cnid, HfsRecord *ret) {
    uint8_t blob[sizeof(HfsDiskFile)];
    Corruption corruption;
    int r = cache_object_get(volume->base.cache, hfs_file_id(cnid), TXN_OBJECT_ORPHAN, blob,
                             sizeof(blob));

    if (r <= 0) {
        return r == 0 ? -ENOENT : r;
    }
    if (hfs_record_decode(blob, MIN((unsigned)r, (unsigned)sizeof(blob)), cnid, ret, &corruption) <
            0 ||
        ret->id != cnid) {
        return -EUCLEAN; /* a predecessor's memory was damaged */
    }
    return 0;
}

static int orphan_check(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                        uint32_t length) {
    HfsRecord record;

    (void)arg;
    if (kind == TXN_OBJECT_ALIAS) {
        return !hfs_fork_kept_sound(file_id, length);
    }
    return kind != TXN_OBJECT_ORPHAN || file_id < HFS_CNID_FIRST_USER || file_id > UINT32_MAX ||
           length == 0 || hfs_record_decode(blob, length, file_id, &record, NULL) < 0 ||
           record.id != file_id ||
           (record.type != HFS_RECORD_DIR && record.type != HFS_RECORD_FILE);
}

bool hfs_orphans_sound(HfsVolume *volume) {
    return cache_object_iterate(volume->base.cache, orphan_check, NULL) == 0;
}

static int orphan_put(Txn *txn, const HfsRecord *record) {
    bool directory = record->type == HFS_RECORD_DIR;

    return txn_object_put(txn, hfs_file_id(record->id), TXN_OBJECT_ORPHAN,
                          directory ? (const void *)&record->dir : (const void *)&record->file,
                          directory ? sizeof(record->dir) : sizeof(record->file));
}

static bool same_key(const HfsKey *a, const HfsKey *b) {
    return a->parent == b->parent && a->length == b->length &&
           memcmp(a->name, b->name, a->length) == 0;
}

/* Who holds the lock of a face only may find the object renamed or unlinked meanwhile. */
int hfs_inode_record_get(HfsInode *inode, Txn *txn, HfsRecord *ret) {
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsKey key;
    int r;

    inode = hfs_object(inode);
    do {
        key = inode->key;
        if (inode->base.attr.nlink == 0) {
            return orphan_get(volume, inode->cnid, ret);
        }
        r = hfs_catalog_find(volume, txn, &key, ret, NULL);
    } while (txn == NULL && (inode->base.attr.nlink == 0 || !same_key(&key, &inode->key)));
    if (r == -ENOENT || (r == 0 && ((ret->type != HFS_RECORD_DIR && ret->type != HFS_RECORD_FILE) ||
                                    ret->id != inode->cnid))) {
        r = report_corrupt(volume->base.reporter, txn != NULL, "catalog", inode->cnid, "key",
                           inode->key.parent, "the record is not where it was");
    }
    return r;
}

int hfs_inode_record_put(Txn *txn, HfsInode *inode, const HfsRecord *record) {
    HfsVolume *volume = hfs_inode_volume(inode);
    FsAttr *attr;
    uint32_t nlink;
    int r;

    inode = hfs_object(inode);
    attr = &inode->base.attr;
    nlink = attr->nlink;
    r = txn_save(txn, attr, sizeof(*attr));
    if (r < 0) {
        return r;
    }
    hfs_attr_fill(volume, record, attr);
    attr->nlink = nlink;
    r = hfs_faces_follow(txn, inode, record);
    if (r < 0) {
        return r;
    }
    return nlink == 0 ? orphan_put(txn, record)
                      : hfs_catalog_update(txn, volume, &inode->key, record);
}

int hfs_inode_unlinked(Txn *txn, HfsInode *victim) {
    FsAttr *attr = &victim->base.attr;
    HfsRecord record;
    int r = hfs_inode_record_get(victim, txn, &record);

    if (r == 0) {
        r = orphan_put(txn, &record);
    }
    if (r == 0) {
        r = txn_save(txn, attr, sizeof(*attr));
    }
    if (r == 0) {
        attr->nlink = 0;
        r = hfs_fork_keep(txn, victim);
    }
    return r == 0 ? hfs_faces_follow(txn, victim, NULL) : r;
}

/* ---- forks ---- */

uint32_t hfs_record_size(const HfsRecord *record, HfsForkIndex index) {
    return be32_get(index == HFS_DATA ? record->file.data_size : record->file.resource_size);
}

void hfs_record_set_size(HfsRecord *record, HfsForkIndex index, uint64_t size) {
    be32 value = be32_make((uint32_t)MIN(size, (uint64_t)UINT32_MAX));

    if (index == HFS_DATA) {
        record->file.data_size = value;
    } else {
        record->file.resource_size = value;
    }
}

static void record_fork(const HfsRecord *record, HfsForkIndex index,
                        HfsExtent ret[HFS_EXTENTS_IN_RECORD], uint64_t *ret_size) {
    bool data = index == HFS_DATA;

    hfs_extents_decode(data ? &record->file.data_extents : &record->file.resource_extents, ret);
    *ret_size = be32_get(data ? record->file.data_allocated : record->file.resource_allocated);
}

int hfs_inode_fork(HfsInode *inode, HfsForkIndex index) {
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsExtent first[HFS_EXTENTS_IN_RECORD];
    HfsRecord record;
    uint64_t size;
    int r;

    inode = hfs_object(inode);
    if (inode->forks[index].loaded) {
        return 0;
    }
    if (inode->directory) {
        return -EISDIR;
    }
    r = hfs_inode_record_get(inode, NULL, &record);
    if (r < 0 || inode->forks[index].loaded) {
        return r;
    }
    record_fork(&record, index, first, &size);
    return hfs_fork_load(volume, &inode->forks[index], inode->cnid, hfs_fork_kind(index), first,
                         size);
}

void hfs_record_set_fork(HfsVolume *volume, HfsRecord *record, HfsForkIndex index,
                         const HfsFork *fork) {
    uint64_t bytes = (uint64_t)fork->blocks * volume->mdb.block_size;
    be32 allocated = be32_make((uint32_t)MIN(bytes, (uint64_t)UINT32_MAX));
    HfsDiskFile *file = &record->file;

    if (index == HFS_DATA) {
        file->data_allocated = allocated;
        hfs_extents_encode(hfs_fork_first(fork), &file->data_extents);
    } else {
        file->resource_allocated = allocated;
        hfs_extents_encode(hfs_fork_first(fork), &file->resource_extents);
    }
}

/* ---- loading ---- */

int hfs_inode_load(FsInode *base, uint64_t position) {
    HfsInode *inode = hfs_inode(base);
    HfsVolume *volume = hfs_inode_volume(inode);
    uint64_t id = base->file_id;
    HfsRecord record;
    bool orphan = true;
    int r;

    (void)position; /* the id tells */
    if (hfs_id_face(id) != HFS_FACE_NONE) {
        return hfs_face_load(inode);
    }
    if (id != FS_ROOT_ID && (id < HFS_CNID_FIRST_USER || id > UINT32_MAX)) {
        return -ESTALE;
    }
    inode->cnid = id == FS_ROOT_ID ? HFS_CNID_ROOT : (uint32_t)id;
    r = id == FS_ROOT_ID ? -ENOENT : orphan_get(volume, inode->cnid, &record);
    if (r == -ENOENT) {
        orphan = false;
        r = hfs_catalog_locate(volume, inode->cnid, &inode->key, &record);
    }
    if (r < 0) {
        return r;
    }
    inode->directory = record.type == HFS_RECORD_DIR;
    hfs_attr_fill(volume, &record, &base->attr);
    base->attr.nlink = orphan ? 0 : 1;
    return 0;
}

/* ---- letting go ---- */

typedef struct Reclaim {
    HfsInode *inode;
    uint32_t groups; /* of each fork in one step */
} Reclaim;

static int reclaim_body(Txn *txn, void *arg) {
    const Reclaim *reclaim = arg;
    HfsInode *inode = reclaim->inode;
    HfsVolume *volume = hfs_inode_volume(inode);
    uint32_t left = 0;
    HfsRecord record;
    int r = hfs_inode_record_get(inode, txn, &record);

    if (r == 0) {
        r = hfs_mdb_save(txn, volume);
    }
    for (unsigned i = 0; r == 0 && i < HFS_FORKS && !inode->directory; i++) {
        HfsFork *fork = &inode->forks[i];

        if (fork->loaded) {
            r = hfs_fork_cut(txn, volume, fork, inode->cnid, hfs_fork_kind(i), 0, reclaim->groups);
            hfs_record_set_fork(volume, &record, i, fork);
            left += fork->blocks;
        }
    }
    if (r == 0) {
        r = left > 0 ? orphan_put(txn, &record)
                     : txn_object_remove(txn, hfs_file_id(inode->cnid), TXN_OBJECT_ORPHAN);
    }
    return r == 0 ? hfs_mdb_store(txn, volume, false) : r;
}

/* Frees what an orphan has, in bounded steps; its object goes with the last. */
static int reclaim(HfsInode *inode) {
    HfsVolume *volume = hfs_inode_volume(inode);
    Reclaim steps = {.inode = inode, .groups = RECLAIM_STEP};
    int r = 0;

    for (unsigned i = 0; i < HFS_FORKS && !inode->directory && r == 0; i++) {
        r = hfs_inode_fork(inode, i);
        if (r == -EUCLEAN) {
            r = 0; /* reported; what cannot be found stays allocated */
        }
    }
    while (r == 0) {
        uint32_t left = 0;

        r = txn_run(volume->base.cache, NULL, reclaim_body, &steps);
        if (r == -E2BIG && steps.groups > 1) {
            steps.groups /= 2;
            r = 0;
            continue;
        }
        for (unsigned i = 0; i < HFS_FORKS; i++) {
            left += inode->forks[i].blocks;
        }
        if (left == 0) {
            break;
        }
    }
    return r;
}

int hfs_inode_evict(FsInode *base) {
    HfsInode *inode = hfs_inode(base);
    HfsVolume *volume = hfs_inode_volume(inode);
    int r = 0;

    if (inode->face != HFS_FACE_NONE) {
        return hfs_face_evict(inode);
    }
    if (base->attr.nlink == 0 && !volume->base.readonly && !inode->directory) {
        r = hfs_fork_outlives(inode);
    }
    if (base->attr.nlink == 0 && !volume->base.readonly && r == 0) {
        for (unsigned i = 0; i < HFS_FORKS; i++) {
            hfs_alloc_release(volume, &inode->forks[i].reserved, 0);
            hfs_runs_truncate(&inode->forks[i].reserved, 0);
        }
        r = reclaim(inode);
    }
    for (unsigned i = 0; i < HFS_FORKS; i++) {
        hfs_fork_done(volume, &inode->forks[i]);
    }
    return MIN(r, 0);
}

/* ---- orphans that nobody has in core ---- */

typedef struct OrphanSearch {
    uint64_t id;
    bool found;
} OrphanSearch;

static int orphan_seen(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                       uint32_t length) {
    OrphanSearch *search = arg;

    (void)blob;
    (void)length;
    if (kind != TXN_OBJECT_ORPHAN) {
        return 0;
    }
    search->id = file_id;
    search->found = true;
    return 1;
}

bool hfs_orphans_exist(HfsVolume *volume) {
    OrphanSearch search = {0};

    (void)cache_object_iterate(volume->base.cache, orphan_seen, &search);
    return search.found;
}

int hfs_orphans_finish(HfsVolume *volume) {
    for (;;) {
        OrphanSearch search = {0};
        HfsInode inode = {.base = {.fs = &volume->base}};
        HfsRecord record;
        int r;

        (void)cache_object_iterate(volume->base.cache, orphan_seen, &search);
        if (!search.found) {
            return 0;
        }
        inode.cnid = (uint32_t)search.id;
        inode.base.file_id = search.id;
        r = orphan_get(volume, inode.cnid, &record);
        if (r < 0) {
            return r;
        }
        inode.directory = record.type == HFS_RECORD_DIR;
        r = reclaim(&inode);
        for (unsigned i = 0; i < HFS_FORKS; i++) {
            hfs_fork_done(volume, &inode.forks[i]);
        }
        if (r < 0) {
            return r;
        }
    }
}
