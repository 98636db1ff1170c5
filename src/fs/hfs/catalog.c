/* SPDX-License-Identifier: MIT */
/*
 * The catalog: finding records by key and by CNID, walking along a directory's entries, and
 * putting records in and out.
 *
 * A directory's entries lie together, behind its thread record, in the order of their names. They
 * do not change while the directory is locked; the leaves they lie in do, with other directories'.
 */
#include "types.h"

static int record_take(HfsVolume *volume, bool writing, const HfsKey *key, const BtreeRecord *from,
                       HfsRecord *ret) {
    Corruption corruption;

    if (hfs_record_decode(from->data, from->data_size, key->parent, ret, &corruption) < 0) {
        return report_corruption(volume->base.reporter, &corruption, writing);
    }
    return 0;
}

static int find_once(HfsView *view, BtreeCursor *cursor, const HfsKey *key, HfsRecord *ret,
                     HfsKey *ret_stored) {
    HfsDiskCatalogKey disk;
    BtreeRecord record;
    int r;

    hfs_key_encode(key, &disk);
    r = btree_seek(cursor, (const uint8_t *)&disk);
    if (r != 0) {
        return r == 1 ? -ENOENT : r;
    }
    btree_get(cursor, &record);
    if (ret_stored != NULL) {
        hfs_key_decode(record.key, ret_stored);
    }
    return record_take(view->volume, view->txn != NULL, key, &record, ret);
}

int hfs_catalog_find(HfsVolume *volume, Txn *txn, const HfsKey *key, HfsRecord *ret,
                     HfsKey *ret_stored) {
    BtreeCursor cursor;
    HfsView view;
    int r;

    do {
        hfs_view_init(&view, volume, &volume->catalog, txn);
        r = btree_cursor_init(&cursor, &view.tree);
        if (r == 0) {
            r = find_once(&view, &cursor, key, ret, ret_stored);
        }
        btree_cursor_done(&cursor);
    } while (r == -EAGAIN && txn == NULL);
    return r;
}

int hfs_catalog_thread(HfsVolume *volume, Txn *txn, uint32_t cnid, HfsKey *ret) {
    const HfsKey key = {.parent = cnid};
    HfsRecord record;
    int r = hfs_catalog_find(volume, txn, &key, &record, NULL);

    if (r < 0) {
        return r;
    }
    if (record.type != HFS_RECORD_DIR_THREAD && record.type != HFS_RECORD_FILE_THREAD) {
        return report_corrupt(volume->base.reporter, txn != NULL, "catalog record", cnid, "cdrType",
                              record.type, "should be a thread");
    }
    *ret = record.target;
    return 0;
}

/* ---- walking ---- */

int hfs_walk_init(HfsWalk *walk, HfsVolume *volume, uint32_t directory) {
    *walk = (HfsWalk){.volume = volume, .directory = directory, .last = {.parent = directory}};
    hfs_view_init(&walk->view, volume, &volume->catalog, NULL);
    return btree_cursor_init(&walk->cursor, &walk->view.tree);
}

void hfs_walk_done(HfsWalk *walk) {
    btree_cursor_done(&walk->cursor);
}

void hfs_walk_from(HfsWalk *walk, const HfsKey *key) {
    walk->last = *key;
    walk->placed = false;
}

static int walk_place(HfsWalk *walk) {
    HfsDiskCatalogKey disk;
    int r;

    hfs_view_init(&walk->view, walk->volume, &walk->volume->catalog, NULL);
    hfs_key_encode(&walk->last, &disk);
    r = btree_seek(&walk->cursor, (const uint8_t *)&disk);
    walk->placed = r >= 0;
    return r;
}

/* Is the cursor behind `last`? Where index nodes are wrong, a seek ends too early. */
static bool walk_is_behind(const HfsWalk *walk) {
    HfsDiskCatalogKey disk;
    BtreeRecord record;

    hfs_key_encode(&walk->last, &disk);
    btree_get(&walk->cursor, &record);
    return hfs_catalog_format.compare(record.key, (const uint8_t *)&disk) > 0;
}

/* The next record of any kind. */
static int walk_step(HfsWalk *walk, HfsKey *ret_key, BtreeRecord *ret) {
    int r;

    do {
        r = 0;
        if (!walk->placed || walk->view.expected != walk->volume->tree_changes) {
            r = walk_place(walk);
        }
        /* Keys rise, so this ends. */
        do {
            r = r < 0 ? r : btree_next(&walk->cursor);
        } while (r == 0 && !walk_is_behind(walk));
        if (r == -EAGAIN) {
            walk->placed = false;
        }
    } while (r == -EAGAIN);
    if (r == 0) {
        btree_get(&walk->cursor, ret);
        hfs_key_decode(ret->key, ret_key);
    }
    return r;
}

int hfs_walk_next(HfsWalk *walk, HfsKey *ret_key, HfsRecord *ret) {
    for (;;) {
        BtreeRecord record;
        HfsKey key;
        int r = walk_step(walk, &key, &record);

        if (r < 0) {
            return r;
        }
        if (walk->directory != 0 && key.parent != walk->directory) {
            return -ENOENT;
        }
        walk->last = key;
        r = record_take(walk->volume, false, &key, &record, ret);
        if (r == 0 && key.length > 0 &&
            (ret->type == HFS_RECORD_DIR || ret->type == HFS_RECORD_FILE)) {
            *ret_key = key;
            return 0;
        }
        /* Threads, and what is broken by itself, are passed over. */
    }
}

int hfs_dir_check_empty(HfsInode *dir) {
    HfsRecord record;
    HfsWalk walk;
    HfsKey key;
    int r = hfs_walk_init(&walk, hfs_inode_volume(dir), dir->cnid);

    if (r == 0) {
        r = hfs_walk_next(&walk, &key, &record);
        r = r == 0 ? -ENOTEMPTY : r == -ENOENT ? 0 : r;
    }
    hfs_walk_done(&walk);
    return r;
}

/* ---- by CNID ---- */

/* Is it there? */
static int verify(HfsVolume *volume, uint32_t cnid, const HfsKey *key, HfsRecord *ret) {
    HfsRecord record;
    int r = hfs_catalog_find(volume, NULL, key, &record, NULL);

    if (r == 0 &&
        ((record.type != HFS_RECORD_DIR && record.type != HFS_RECORD_FILE) || record.id != cnid)) {
        r = -ENOENT;
    }
    if (r == 0) {
        *ret = record;
    }
    return r;
}

/* Others go on meanwhile, and keep what they change up to date. */
int hfs_catalog_look_through(HfsVolume *volume) {
    uint64_t forgotten = volume->places.forgotten;
    HfsRecord record;
    HfsWalk walk;
    HfsKey key;
    int r = hfs_walk_init(&walk, volume, 0);

    while (r == 0) {
        r = hfs_walk_next(&walk, &key, &record);
        if (r == 0) {
            hfs_place_note(volume, record.id, &key);
        }
    }
    hfs_walk_done(&walk);
    if (r != -ENOENT) {
        return r;
    }
    volume->places.complete = volume->places.forgotten == forgotten;
    return 0;
}

/* Where it was seen last, if it is there still. */
static int from_place(HfsVolume *volume, uint32_t cnid, HfsKey *ret_key, HfsRecord *ret) {
    const HfsKey *place = hfs_place_find(volume, cnid);
    HfsKey key;
    int r;

    if (place == NULL) {
        return -ENOENT;
    }
    key = *place;
    r = verify(volume, cnid, &key, ret);
    if (r == 0) {
        *ret_key = key;
    }
    return r;
}

static int from_thread(HfsVolume *volume, uint32_t cnid, HfsKey *ret_key, HfsRecord *ret) {
    HfsKey key;
    int r = hfs_catalog_thread(volume, NULL, cnid, &key);

    if (r == 0) {
        r = verify(volume, cnid, &key, ret);
    }
    if (r == 0) {
        hfs_place_note(volume, cnid, &key);
        *ret_key = key;
    }
    return r;
}

int hfs_catalog_locate(HfsVolume *volume, uint32_t cnid, HfsKey *ret_key, HfsRecord *ret) {
    bool known = hfs_place_find(volume, cnid) != NULL;
    int r = from_place(volume, cnid, ret_key, ret);

    if (r == -ENOENT) {
        r = from_thread(volume, cnid, ret_key, ret);
    }
    if (r == -ENOENT && (known || !volume->places.complete)) {
        hfs_place_forget(volume, cnid);
        r = hfs_catalog_look_through(volume);
        r = r == 0 ? -ENOENT : r;
    }
    if (r == -ENOENT) {
        r = from_place(volume, cnid, ret_key, ret); /* found by us, or by somebody else meanwhile */
    }
    return r == -ENOENT ? -ESTALE : r;
}

/* ---- changing ---- */

static const void *record_bytes(const HfsRecord *record, unsigned *ret_size) {
    *ret_size = record->type == HFS_RECORD_DIR ? sizeof(record->dir) : sizeof(record->file);
    return record->type == HFS_RECORD_DIR ? (const void *)&record->dir
                                          : (const void *)&record->file;
}

static int missing(HfsVolume *volume, uint32_t where, int r) {
    return r != -ENOENT ? r
                        : report_corrupt(volume->base.reporter, true, "catalog", where, "key",
                                         where, "a record is gone");
}

int hfs_catalog_insert(Txn *txn, HfsVolume *volume, const HfsKey *key, const HfsRecord *record,
                       BtreePlace *ret_put) {
    HfsDiskCatalogKey disk;
    unsigned size;
    const void *bytes = record_bytes(record, &size);
    HfsView view;
    int r;

    /* A body that is made again must come to the same nodes. */
    r = txn_save(txn, &volume->catalog.newest, sizeof(volume->catalog.newest));
    if (r < 0) {
        return r;
    }
    hfs_key_encode(key, &disk);
    hfs_view_init(&view, volume, &volume->catalog, txn);
    view.tree.bare = ret_put == NULL;
    view.tree.newest = &volume->catalog.newest;
    r = btree_insert(&view.tree, (const uint8_t *)&disk, bytes, size);
    if (ret_put != NULL) {
        *ret_put = view.tree.put;
    }
    return r;
}

int hfs_catalog_replace(Txn *txn, HfsVolume *volume, const HfsKey *key, const HfsRecord *record,
                        const BtreePlace *after, BtreePlace *ret_put) {
    HfsDiskCatalogKey disk;
    unsigned size;
    const void *bytes = record_bytes(record, &size);
    HfsView view;
    int r;

    hfs_key_encode(key, &disk);
    hfs_view_init(&view, volume, &volume->catalog, txn);
    view.tree.after = after != NULL ? *after : (BtreePlace){0};
    r = btree_replace(&view.tree, (const uint8_t *)&disk, bytes, size);
    *ret_put = view.tree.put;
    return missing(volume, key->parent, r);
}

int hfs_catalog_update(Txn *txn, HfsVolume *volume, const HfsKey *key, const HfsRecord *record) {
    HfsDiskCatalogKey disk;
    unsigned size;
    const void *bytes = record_bytes(record, &size);
    HfsView view;

    hfs_key_encode(key, &disk);
    hfs_view_init(&view, volume, &volume->catalog, txn);
    return missing(volume, key->parent,
                   btree_update(&view.tree, (const uint8_t *)&disk, bytes, size));
}

int hfs_catalog_remove(Txn *txn, HfsVolume *volume, const HfsKey *key, const BtreePlace *after) {
    HfsDiskCatalogKey disk;
    HfsView view;

    hfs_key_encode(key, &disk);
    hfs_view_init(&view, volume, &volume->catalog, txn);
    view.tree.after = after != NULL ? *after : (BtreePlace){0};
    return missing(volume, key->parent, btree_remove(&view.tree, (const uint8_t *)&disk));
}

static int leaf_of(HfsView *view, const HfsKey *key, uint32_t *ret) {
    HfsDiskCatalogKey disk;
    BtreeCursor cursor;
    int r = btree_cursor_init(&cursor, &view->tree);

    hfs_key_encode(key, &disk);
    if (r == 0) {
        r = btree_seek(&cursor, (const uint8_t *)&disk);
        *ret = cursor.number;
    }
    btree_cursor_done(&cursor);
    return MIN(r, 0);
}

int hfs_catalog_together(Txn *txn, HfsVolume *volume, const HfsKey *a, const HfsKey *b) {
    uint32_t leaf_a = 0, leaf_b = 0;
    HfsView view;
    int r;

    hfs_view_init(&view, volume, &volume->catalog, txn);
    r = leaf_of(&view, a, &leaf_a);
    if (r == 0) {
        r = leaf_of(&view, b, &leaf_b);
    }
    return r < 0 ? r : leaf_a == leaf_b;
}

/* ---- threads ---- */

int hfs_thread_remove(Txn *txn, HfsVolume *volume, uint32_t cnid) {
    const HfsKey key = {.parent = cnid};

    return hfs_catalog_remove(txn, volume, &key, NULL);
}

static int thread_store(Txn *txn, HfsVolume *volume, uint32_t cnid, bool directory,
                        const HfsKey *target, bool fresh) {
    const HfsKey key = {.parent = cnid};
    HfsDiskCatalogKey disk;
    HfsDiskThread thread;
    HfsView view;

    hfs_key_encode(&key, &disk);
    hfs_thread_encode(directory ? HFS_RECORD_DIR_THREAD : HFS_RECORD_FILE_THREAD, target, &thread);
    hfs_view_init(&view, volume, &volume->catalog, txn);
    view.tree.bare = true;
    return fresh ? btree_insert(&view.tree, (const uint8_t *)&disk, &thread, sizeof(thread))
                 : btree_replace(&view.tree, (const uint8_t *)&disk, &thread, sizeof(thread));
}

int hfs_thread_put(Txn *txn, HfsVolume *volume, uint32_t cnid, bool directory,
                   const HfsKey *target) {
    int r = thread_store(txn, volume, cnid, directory, target, true);

    if (r == -EEXIST) {
        r = report_corrupt(volume->base.reporter, true, "catalog", cnid, "drNxtCNID", cnid,
                           "the number is in use");
    }
    return r;
}

int hfs_thread_turn(Txn *txn, HfsVolume *volume, uint32_t cnid, bool directory,
                    const HfsKey *target) {
    return missing(volume, cnid, thread_store(txn, volume, cnid, directory, target, false));
}
