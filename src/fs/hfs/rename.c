/* SPDX-License-Identifier: MIT */
/*
 * Rename and exchange: a record is put into the catalog under another key and then taken away
 * under the old one, with what points to it (its thread) and what counts it. All in one
 * transaction, so nobody sees less than all of it; a power cut in the write-out of it may leave
 * both names, which is a matter for the checker.
 *
 * Locks: both directories, the moved object and the victim, exclusive.
 */
#include "types.h"
#include <stdio.h>

typedef struct Rename {
    HfsVolume *volume;
    const FsCall *call;
    HfsInode *old_dir, *new_dir, *moved;
    HfsInode *victim; /* another object that goes away or is exchanged, or NULL */
    HfsKey old_key, new_key;
} Rename;

/* The object's record lies under this key now: what leads to it follows. */
static int follow(Txn *txn, HfsInode *object, const HfsRecord *record, const HfsKey *key) {
    HfsVolume *volume = hfs_inode_volume(object);
    bool thread = object->directory || record->file.flags & HFS_FILE_THREAD;
    int r = thread ? hfs_thread_turn(txn, volume, object->cnid, object->directory, key) : 0;

    if (r == 0) {
        r = txn_save(txn, &object->key, sizeof(object->key));
    }
    if (r == 0) {
        object->key = *key;
    }
    return r;
}

/* Both directories' counts and times. */
static int adjust_both(Txn *txn, const Rename *rename) {
    int64_t now = rename->call->time_ns;
    int r;

    if (rename->old_dir == rename->new_dir) {
        return hfs_dir_adjust(txn, rename->old_dir, rename->moved->directory, 0, now);
    }
    r = hfs_dir_adjust(txn, rename->old_dir, rename->moved->directory, -1, now);
    return r == 0 ? hfs_dir_adjust(txn, rename->new_dir, rename->moved->directory, 1, now) : r;
}

static bool same_place(const HfsKey *a, const HfsKey *b) {
    HfsDiskCatalogKey one, other;

    hfs_key_encode(a, &one);
    hfs_key_encode(b, &other);
    return hfs_catalog_format.compare((const uint8_t *)&one, (const uint8_t *)&other) == 0;
}

const BtreePlace *hfs_dir_left(const Txn *txn, const HfsInode *dir) {
    return dir->left_batch == txn_batch(txn) ? &dir->left : NULL;
}

/* Something that was in this directory is in another one now. */
static int note_left(Txn *txn, HfsInode *dir, const BtreePlace *put) {
    int r = txn_save(txn, &dir->left, sizeof(dir->left));

    if (r == 0) {
        r = txn_save(txn, &dir->left_batch, sizeof(dir->left_batch));
    }
    if (r < 0) {
        return r;
    }
    if (dir->left_batch != txn_batch(txn)) {
        dir->left = (BtreePlace){.node = BTREE_SOMEWHERE};
    }
    dir->left_batch = txn_batch(txn);
    dir->left.rank = MAX(dir->left.rank, put->rank);
    return 0;
}

/* The new name first: the old one stays on the medium until that is there. */
static int move_record(Txn *txn, const Rename *rename, const HfsRecord *record) {
    const HfsKey *from = &rename->old_key, *to = &rename->new_key;
    bool stays = same_place(from, to); /* in another spelling */
    const BtreePlace *left = rename->victim != NULL ? hfs_dir_left(txn, rename->victim) : NULL;
    BtreePlace put = {0};
    int r = stays || rename->victim != NULL
                ? hfs_catalog_replace(txn, rename->volume, to, record, left, &put)
                : hfs_catalog_insert(txn, rename->volume, to, record, &put);

    if (r < 0 || stays) {
        return r;
    }
    if (rename->old_dir != rename->new_dir) {
        r = note_left(txn, rename->old_dir, &put);
    }
    return r == 0 ? hfs_catalog_remove(txn, rename->volume, from, &put) : r;
}

static int rename_body(Txn *txn, void *arg) {
    const Rename *rename = arg;
    HfsInode *moved = rename->moved, *victim = rename->victim;
    HfsRecord record;
    int r = hfs_inode_record_get(moved, txn, &record);

    if (r == 0 && victim != NULL) {
        r = hfs_victim_forget(txn, victim);
        if (r == 0) {
            r = hfs_dir_adjust(txn, rename->new_dir, victim->directory, -1, rename->call->time_ns);
        }
    }
    if (r == 0) {
        r = move_record(txn, rename, &record);
    }
    if (r == 0) {
        r = follow(txn, moved, &record, &rename->new_key);
    }
    if (r == 0) {
        r = adjust_both(txn, rename);
    }
    return r == 0 ? hfs_mdb_touch(txn, rename->volume, rename->call->time_ns) : r;
}

/* ---- exchange ---- */

/* A name that nobody has. */
static int spare_name(Txn *txn, const Rename *rename, HfsKey *ret) {
    HfsKey key = {.parent = rename->old_key.parent};
    char name[HFS_NAME_MAX + 1];

    for (unsigned i = 0; i < HFS_SPARE_NAMES; i++) {
        HfsRecord record;
        int r;

        key.length = (uint8_t)snprintf(name, sizeof(name), HFS_SPARE_NAME, i);
        memcpy(key.name, name, key.length);
        r = hfs_catalog_find(rename->volume, txn, &key, &record, NULL);
        if (r == -ENOENT) {
            *ret = key;
            return 0;
        }
        if (r < 0) {
            return r;
        }
    }
    return -ENOSPC;
}

/*
 * Each record under the other's key. Where they cannot change at once, the second one gets a spare
 * name for the time that its own is taken by the first: so at every step on the medium each has a
 * name.
 */
static int exchange_records(Txn *txn, const Rename *rename, const HfsRecord *mine,
                            const HfsRecord *theirs) {
    HfsVolume *volume = rename->volume;
    const HfsKey *one = &rename->old_key, *other = &rename->new_key;
    BtreePlace put = {0};
    HfsKey spare;
    int r = hfs_catalog_together(txn, volume, one, other);

    if (r == 1 && mine->type == theirs->type) {
        r = hfs_catalog_update(txn, volume, one, theirs);
        return r == 0 ? hfs_catalog_update(txn, volume, other, mine) : r;
    }
    if (r >= 0) {
        r = spare_name(txn, rename, &spare);
    }
    if (r == 0) {
        r = hfs_catalog_insert(txn, volume, &spare, theirs, &put);
    }
    if (r == 0) {
        r = hfs_catalog_replace(txn, volume, other, mine, &put, &put);
    }
    if (r == 0) {
        r = hfs_catalog_replace(txn, volume, one, theirs, &put, &put);
    }
    if (r == 0 && rename->old_dir != rename->new_dir) {
        r = note_left(txn, rename->old_dir, &put);
    }
    if (r == 0 && rename->old_dir != rename->new_dir) {
        r = note_left(txn, rename->new_dir, &put);
    }
    return r == 0 ? hfs_catalog_remove(txn, volume, &spare, &put) : r;
}

static int exchange_body(Txn *txn, void *arg) {
    const Rename *rename = arg;
    HfsInode *moved = rename->moved, *other = rename->victim;
    HfsRecord mine, theirs;
    int64_t now = rename->call->time_ns;
    int r = hfs_inode_record_get(moved, txn, &mine);

    if (r == 0) {
        r = hfs_inode_record_get(other, txn, &theirs);
    }
    if (r == 0) {
        r = exchange_records(txn, rename, &mine, &theirs);
    }
    if (r == 0) {
        r = follow(txn, moved, &mine, &rename->new_key);
    }
    if (r == 0) {
        r = follow(txn, other, &theirs, &rename->old_key);
    }
    /* Each directory loses one and gains one, perhaps of another kind. */
    if (r == 0) {
        r = hfs_dir_adjust(txn, rename->old_dir, moved->directory, -1, now);
    }
    if (r == 0) {
        r = hfs_dir_adjust(txn, rename->old_dir, other->directory, 1, now);
    }
    if (r == 0) {
        r = hfs_dir_adjust(txn, rename->new_dir, other->directory, -1, now);
    }
    if (r == 0) {
        r = hfs_dir_adjust(txn, rename->new_dir, moved->directory, 1, now);
    }
    return r == 0 ? hfs_mdb_touch(txn, rename->volume, now) : r;
}

/* The entries' new places, after commit. */
static void note_places(const Rename *rename, bool exchange) {
    HfsVolume *volume = rename->volume;

    hfs_place_left(volume, rename->moved->cnid, &rename->old_key);
    hfs_place_note(volume, rename->moved->cnid, &rename->moved->key);
    if (rename->victim != NULL) {
        hfs_place_left(volume, rename->victim->cnid, &rename->new_key);
        if (exchange) {
            hfs_place_note(volume, rename->victim->cnid, &rename->victim->key);
        } else {
            hfs_fork_unlinked(rename->victim);
        }
    }
}

static bool is_face(FsInode *inode) {
    return inode != NULL && hfs_inode(inode)->face != HFS_FACE_NONE;
}

int hfs_rename(FileSystem *fs, const FsCall *call, const FsRename *what) {
    bool exchange = what->flags & FS_RENAME_EXCHANGE;
    bool itself = what->victim == what->moved;
    Rename rename = {
        .volume = hfs_volume(fs),
        .call = call,
        .old_dir = hfs_inode(what->old_dir),
        .new_dir = hfs_inode(what->new_dir),
        .moved = hfs_inode(what->moved),
    };
    HfsRecord record;
    FsEntry entry;
    int r;

    if (is_face(what->old_dir) || is_face(what->new_dir) || is_face(what->moved) ||
        is_face(what->victim)) {
        return -EPERM; /* forks go where their files go */
    }
    /* What a plain file ._NAME would hide stays in sight. */
    r = hfs_double_find(rename.new_dir, &what->new_name, &entry, &record);
    if (r != -ENOENT && what->victim == NULL) {
        return r == 0 ? -EPERM : r;
    }
    r = hfs_entry_check(rename.old_dir, &what->old_name, rename.moved);
    if (r == 0) {
        r = hfs_name_key(rename.new_dir, &what->new_name, &rename.new_key);
    }
    if (r < 0 || (itself && (exchange || what->victim_entry.exact))) {
        return r; /* old and new name are one */
    }
    rename.old_key = rename.moved->key;
    if (what->victim != NULL && !itself) {
        rename.victim = hfs_inode(what->victim);
        r = what->flags & FS_RENAME_NOREPLACE
                ? -EEXIST
                : hfs_entry_check(rename.new_dir, &what->new_name, rename.victim);
    }
    if (r == 0 && exchange) {
        if (rename.victim == NULL) {
            return -ENOENT;
        }
        rename.new_key = rename.victim->key; /* its spelling stays */
    } else if (r == 0 && rename.victim != NULL && rename.victim->directory) {
        r = hfs_dir_check_empty(rename.victim);
    }
    if (r == 0) {
        r = txn_run(fs->cache, call->reply, exchange ? exchange_body : rename_body, &rename);
    }
    if (r == 0) {
        note_places(&rename, exchange);
    }
    return r;
}
