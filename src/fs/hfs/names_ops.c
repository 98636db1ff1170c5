/* SPDX-License-Identifier: MIT */
/*
 * Creating and unlinking: the entry, its thread, the directory's valence, the volume's counts, in
 * one transaction. An unlinked object becomes an orphan; its space is freed when the last
 * user lets go of it.
 *
 * Locks: directory and victim exclusive.
 */
#include "types.h"

/* ---- counts ---- */

static uint32_t adjust(uint32_t count, int change, uint32_t most) {
    if (change < 0) {
        return count - (count > 0);
    }
    return count + (count < most);
}

int hfs_volume_adjust(Txn *txn, HfsVolume *volume, bool directory, int change) {
    uint32_t *count = directory ? &volume->mdb.dir_count : &volume->mdb.file_count;
    int r = hfs_mdb_save(txn, volume);

    if (r == 0) {
        *count = adjust(*count, change, UINT32_MAX);
    }
    return r;
}

int hfs_dir_adjust(Txn *txn, HfsInode *dir, bool directory, int change, int64_t time_ns) {
    HfsVolume *volume = hfs_inode_volume(dir);
    uint16_t *root_count = directory ? &volume->mdb.root_dirs : &volume->mdb.root_files;
    HfsRecord record;
    uint32_t valence;
    int r = hfs_inode_record_get(dir, txn, &record);

    if (r < 0) {
        return r;
    }
    valence = be16_get(record.dir.valence);
    if (change > 0 && valence == UINT16_MAX) {
        return -ENOSPC; /* more entries than a directory can count */
    }
    if (change != 0) {
        record.dir.valence = be16_make((uint16_t)adjust(valence, change, UINT16_MAX));
    }
    record.dir.modified = hfs_time_encode(time_ns, volume->time_offset_ns);
    r = hfs_inode_record_put(txn, dir, &record);
    if (r == 0 && change != 0 && dir->cnid == HFS_CNID_ROOT) {
        r = hfs_mdb_save(txn, volume);
        if (r == 0) {
            *root_count = (uint16_t)adjust(*root_count, change, UINT16_MAX);
        }
    }
    return r;
}

/* ---- create ---- */

typedef struct Create {
    HfsInode *dir;
    const FsCall *call;
    const FsCreate *what;
    HfsKey key;
    FsEntry *ret;
} Create;

static int take_cnid(Txn *txn, HfsVolume *volume, uint32_t *ret) {
    uint32_t cnid = volume->mdb.next_cnid;
    int r = hfs_mdb_save(txn, volume);

    if (r < 0) {
        return r;
    }
    if (cnid == UINT32_MAX) {
        return -ENOSPC;
    }
    if (cnid < HFS_CNID_FIRST_USER || fs_inode_peek(&volume->base, hfs_file_id(cnid)) != NULL ||
        hfs_place_find(volume, cnid) != NULL) {
        return report_corrupt(volume->base.reporter, true, "MDB", HFS_MDB_SECTOR * HFS_SECTOR,
                              "drNxtCNID", cnid, "the number is in use");
    }
    volume->mdb.next_cnid = cnid + 1;
    *ret = cnid;
    return 0;
}

static void new_record(const HfsVolume *volume, const Create *create, uint32_t cnid,
                       HfsRecord *ret) {
    be32 now = hfs_time_encode(create->call->time_ns, volume->time_offset_ns);

    *ret = (HfsRecord){.id = cnid};
    if (create->what->type == FS_TYPE_DIRECTORY) {
        ret->type = HFS_RECORD_DIR;
        ret->dir = (HfsDiskDir){
            .type = HFS_RECORD_DIR, .id = be32_make(cnid), .created = now, .modified = now};
        return;
    }
    ret->type = HFS_RECORD_FILE;
    ret->file = (HfsDiskFile){
        .type = HFS_RECORD_FILE,
        .flags = create->what->mode & 0222 ? HFS_FILE_USED : HFS_FILE_USED | HFS_FILE_LOCKED,
        .info = {.type = {'?', '?', '?', '?'}, .creator = {'?', '?', '?', '?'}},
        .id = be32_make(cnid),
        .created = now,
        .modified = now,
    };
}

static int create_body(Txn *txn, void *arg) {
    const Create *create = arg;
    HfsVolume *volume = hfs_inode_volume(create->dir);
    bool directory = create->what->type == FS_TYPE_DIRECTORY;
    HfsRecord record;
    uint32_t cnid = 0;
    int r = take_cnid(txn, volume, &cnid);

    if (r < 0) {
        return r;
    }
    new_record(volume, create, cnid, &record);
    r = hfs_catalog_insert(txn, volume, &create->key, &record, NULL);
    if (r == 0 && directory) {
        r = hfs_thread_put(txn, volume, cnid, true, &create->key);
    }
    if (r == 0) {
        r = hfs_dir_adjust(txn, create->dir, directory, 1, create->call->time_ns);
    }
    if (r == 0) {
        r = hfs_volume_adjust(txn, volume, directory, 1);
    }
    if (r == 0) {
        r = hfs_mdb_touch(txn, volume, create->call->time_ns);
    }
    /* The reply is encoded at commit: it must find these. */
    *create->ret =
        (FsEntry){.file_id = hfs_file_id(cnid), .position = create->dir->cnid, .exact = true};
    if (create->what->attr != NULL) {
        hfs_attr_fill(volume, &record, create->what->attr);
    }
    return r;
}

int hfs_create(FsInode *base, const FsCall *call, const FsName *name, const FsCreate *what,
               FsEntry *ret) {
    HfsInode *dir = hfs_inode(base);
    Create create = {.dir = dir, .call = call, .what = what, .ret = ret};
    int r;

    if (what->type != FS_TYPE_DIRECTORY && what->type != FS_TYPE_FILE) {
        return -EPERM;
    }
    if (dir->face != HFS_FACE_NONE) {
        return what->type == FS_TYPE_FILE ? -ENOENT : -EPERM; /* forks come with their files */
    }
    if (what->type == FS_TYPE_FILE) {
        r = hfs_double_create(dir, call, name, what, ret);
        if (r != -ENOENT) {
            return r;
        }
    }
    r = hfs_name_key(dir, name, &create.key);
    if (r == 0) {
        r = txn_run(base->fs->cache, call->reply, create_body, &create);
    }
    if (r == 0) {
        hfs_place_note(hfs_inode_volume(dir), (uint32_t)ret->file_id, &create.key);
    }
    return r;
}

/* ---- unlink, rmdir ---- */

typedef struct Unlink {
    HfsInode *dir, *victim;
    const FsCall *call;
} Unlink;

int hfs_victim_forget(Txn *txn, HfsInode *victim) {
    HfsVolume *volume = hfs_inode_volume(victim);
    HfsRecord record;
    int r = hfs_inode_record_get(victim, txn, &record);

    if (r == 0 && (victim->directory || record.file.flags & HFS_FILE_THREAD)) {
        r = hfs_thread_remove(txn, volume, victim->cnid);
    }
    if (r == 0) {
        r = hfs_inode_unlinked(txn, victim);
    }
    return r == 0 ? hfs_volume_adjust(txn, volume, victim->directory, -1) : r;
}

static int unlink_body(Txn *txn, void *arg) {
    const Unlink *unlink = arg;
    HfsInode *victim = unlink->victim;
    HfsVolume *volume = hfs_inode_volume(unlink->dir);
    int r = hfs_victim_forget(txn, victim);

    if (r == 0) {
        /* A directory stays until what was moved out of it has its new names. */
        r = hfs_catalog_remove(txn, volume, &victim->key, hfs_dir_left(txn, victim));
    }
    if (r == 0) {
        r = hfs_dir_adjust(txn, unlink->dir, unlink->victim->directory, -1, unlink->call->time_ns);
    }
    return r == 0 ? hfs_mdb_touch(txn, volume, unlink->call->time_ns) : r;
}

int hfs_entry_check(HfsInode *dir, const FsName *name, const HfsInode *object) {
    HfsDiskCatalogKey wanted, present;
    HfsKey key;
    int r = hfs_name_key(dir, name, &key);

    if (r < 0) {
        return r;
    }
    hfs_key_encode(&key, &wanted);
    hfs_key_encode(&object->key, &present);
    if (hfs_catalog_format.compare((const uint8_t *)&wanted, (const uint8_t *)&present) != 0) {
        return report_corrupt(dir->base.fs->reporter, true, "catalog", object->cnid, "id",
                              object->cnid, "two records have this number");
    }
    return 0;
}

int hfs_unlink(FsInode *base, const FsCall *call, const FsName *name, const FsEntry *entry,
               FsInode *victim) {
    HfsInode *dir = hfs_inode(base);
    Unlink unlink = {.dir = dir, .victim = hfs_inode(victim), .call = call};
    int r;

    (void)entry; /* the victim knows where it is */
    if (unlink.victim->face == HFS_FACE_FORK || unlink.victim->face == HFS_FACE_DOUBLE) {
        return hfs_fork_unlink(dir, call, name, unlink.victim);
    }
    if (unlink.victim->face != HFS_FACE_NONE) {
        return -EPERM;
    }
    r = hfs_entry_check(dir, name, unlink.victim);
    if (r == 0 && unlink.victim->directory) {
        r = hfs_dir_check_empty(unlink.victim);
    }
    if (r == 0) {
        r = txn_run(base->fs->cache, call->reply, unlink_body, &unlink);
    }
    if (r == 0) {
        hfs_place_left(hfs_inode_volume(dir), unlink.victim->cnid, &unlink.victim->key);
        hfs_fork_unlinked(unlink.victim);
    }
    return r;
}
