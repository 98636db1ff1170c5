/* SPDX-License-Identifier: MIT */
/*
 * Faces: a file's resource fork as a file of its own, under the file's name in the
 * directory's unlisted directory `..namedfork`. Both are inodes whose file_id has bits above the
 * object's, and which hold a reference to it. Reading, writing and cutting a fork is what it is
 * for the data fork (map.c, attr.c); here is what faces have of their own.
 *
 * An object outlives its name as long as its fork is held. While the fork's inode is in core its
 * reference sees to that. For when it is not (the daemon died) an object (TXN_OBJECT_ALIAS)
 * under the fork's id says that the fork may be held; it goes when the other side has let go of
 * the id. It also keeps the fork's generation, which changes with the bytes when they are changed
 * in another way than through the fork: who holds it knows by that to begin anew.
 *
 * Locks: the fork's bytes are under the lock of its face. The file's name, and with it the link
 * count of both, may change while only that is held.
 */
#include "berth/bytes.h"
#include "types.h"

#define OBJECTS_FOR_FORKS 3072u
#define KEPT_FILE_GONE 1u /* nobody holds the file itself any more */
#define KEPT_CREATED 2u   /* ._NAME was made, and may have nothing in it yet */

typedef struct ForkKept {
    le32 generation;
    le32 flags;
    le32 start; /* HfsInode.start, 0: as usual */
    le32 reserved;
} ForkKept;

/* As what files' forks are shown. */
static HfsFace fork_face(const HfsVolume *volume) {
    return volume->appledouble ? HFS_FACE_DOUBLE : HFS_FACE_FORK;
}

static int kept_get(HfsVolume *volume, uint32_t cnid, ForkKept *ret) {
    ForkKept kept;
    int r = cache_object_get(volume->base.cache, hfs_face_id(cnid, fork_face(volume)),
                             TXN_OBJECT_ALIAS, &kept, sizeof(kept));

    if (r != (int)sizeof(kept)) {
        return -ENOENT;
    }
    *ret = kept;
    return 0;
}

bool hfs_fork_kept_sound(uint64_t file_id, uint32_t length) {
    HfsFace face = hfs_id_face(file_id);

    return (face == HFS_FACE_FORK || face == HFS_FACE_DOUBLE) && length == sizeof(ForkKept);
}

static int kept_put(Txn *txn, const HfsVolume *volume, uint32_t cnid, const ForkKept *kept) {
    return txn_object_put(txn, hfs_face_id(cnid, fork_face(volume)), TXN_OBJECT_ALIAS, kept,
                          sizeof(*kept));
}

static HfsInode *face_peek(HfsInode *object) {
    HfsFace kind = object->directory ? HFS_FACE_LIST : fork_face(hfs_inode_volume(object));
    FsInode *face = fs_inode_peek(object->base.fs, hfs_face_id(object->cnid, kind));

    return face != NULL ? hfs_inode(face) : NULL;
}

static int count_object(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                        uint32_t length) {
    (void)file_id;
    (void)kind;
    (void)blob;
    (void)length;
    *(unsigned *)arg += 1;
    return 0;
}

/* The table is for unlinked files first. What is a convenience only goes without. */
static bool objects_scarce(HfsVolume *volume) {
    unsigned count = 0;

    (void)cache_object_iterate(volume->base.cache, count_object, &count);
    return count >= OBJECTS_FOR_FORKS;
}

/* ---- attributes ---- */

static uint32_t kept_start(HfsFace face, const ForkKept *kept) {
    if (face != HFS_FACE_DOUBLE) {
        return 0;
    }
    return le32_get(kept->start) != 0 ? le32_get(kept->start) : HFS_DOUBLE_START;
}

static void face_attr_fill(HfsVolume *volume, const HfsRecord *record, HfsFace face, uint32_t start,
                           FsAttr *ret) {
    hfs_attr_fill(volume, record, ret);
    ret->file_id = hfs_face_id(record->id, face);
    if (face != HFS_FACE_LIST) {
        ret->size = face == HFS_FACE_DOUBLE && hfs_double_empty(record)
                        ? 0
                        : (uint64_t)start + be32_get(record->file.resource_size);
        ret->blocks = be32_get(record->file.resource_allocated) / 512;
    }
}

void hfs_face_attr(HfsVolume *volume, const HfsRecord *record, HfsFace face, FsAttr *ret) {
    ForkKept kept = {0};

    if (face != HFS_FACE_LIST) {
        (void)kept_get(volume, record->id, &kept);
    }
    face_attr_fill(volume, record, face, kept_start(face, &kept), ret);
    ret->generation = le32_get(kept.generation);
}

int hfs_faces_follow(Txn *txn, HfsInode *object, const HfsRecord *record) {
    HfsInode *face = face_peek(object);
    FsAttr *attr;
    uint32_t generation;
    int r;

    if (face == NULL) {
        return 0;
    }
    attr = &face->base.attr;
    generation = attr->generation;
    r = txn_save(txn, attr, sizeof(*attr));
    if (r < 0) {
        return r;
    }
    if (record != NULL) {
        face_attr_fill(hfs_inode_volume(object), record, face->face, face->start, attr);
        attr->generation = generation;
    }
    attr->nlink = object->base.attr.nlink;
    return 0;
}

/* ---- in core ---- */

int hfs_face_load(HfsInode *inode) {
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsFace face = hfs_id_face(inode->base.file_id);
    ForkKept kept = {0};
    HfsRecord record;
    HfsInode *object;
    FsInode *base;
    int r;

    if (face != fork_face(volume) && (face != HFS_FACE_LIST || volume->appledouble)) {
        return -ESTALE;
    }
    r = fs_inode_get(&volume->base, inode->base.file_id & ~HFS_FACE_BITS, 0, &base);
    if (r < 0) {
        return r;
    }
    object = hfs_inode(base);
    r = object->directory == (face == HFS_FACE_LIST) ? hfs_inode_record_get(object, NULL, &record)
                                                     : -ESTALE;
    if (r < 0) {
        fs_inode_put(base);
        return r;
    }
    inode->cnid = object->cnid;
    inode->directory = object->directory;
    inode->face = face;
    inode->object = object;
    fiber_mutex_init(&inode->header_lock);
    if (face != HFS_FACE_LIST) {
        (void)kept_get(volume, inode->cnid, &kept);
    }
    inode->start = kept_start(face, &kept);
    hfs_face_attr(volume, &record, face, &inode->base.attr);
    inode->base.attr.nlink = object->base.attr.nlink;
    return 0;
}

static int forget_body(Txn *txn, void *arg) {
    const HfsInode *face = arg;

    return txn_object_remove(txn, face->base.file_id, TXN_OBJECT_ALIAS);
}

int hfs_face_evict(HfsInode *inode) {
    HfsVolume *volume = hfs_inode_volume(inode);
    FsInode *object = &inode->object->base;
    ForkKept kept = {0};
    int r = 0;

    if (inode->face != HFS_FACE_LIST && kept_get(volume, inode->cnid, &kept) == 0 &&
        !volume->base.readonly) {
        r = txn_run(volume->base.cache, NULL, forget_body, inode);
    }
    if (le32_get(kept.flags) & KEPT_FILE_GONE) {
        (void)fs_inode_forget(&volume->base, object->file_id, UINT64_MAX);
    }
    fs_inode_put(object);
    return r;
}

int hfs_fork_get(HfsInode *object, FsInode **ret) {
    return fs_inode_get(object->base.fs,
                        hfs_face_id(object->cnid, fork_face(hfs_inode_volume(object))), 0, ret);
}

void hfs_fork_shown(HfsVolume *volume) {
    if (!volume->forks_shown) {
        volume->forks_shown = true;
        cache_set_note(volume->base.cache, cache_note(volume->base.cache) | HFS_NOTE_FORKS_SHOWN);
    }
}

/* ---- who holds it ---- */

/* What is not in core was given out before it left, for all that is known. */
static bool fork_may_be_held(HfsInode *object) {
    const HfsInode *face = face_peek(object);

    return hfs_inode_volume(object)->forks_shown && (face == NULL || fs_inode_held(&face->base));
}

int hfs_fork_keep(Txn *txn, HfsInode *object) {
    ForkKept kept = {0};

    if (object->directory || !fork_may_be_held(object)) {
        return 0;
    }
    (void)kept_get(hfs_inode_volume(object), object->cnid, &kept);
    return kept_put(txn, hfs_inode_volume(object), object->cnid, &kept);
}

/* Without the note a successor does not know the generation: then what is open is stale once more.
 */
int hfs_fork_renew(Txn *txn, HfsInode *object) {
    HfsVolume *volume = hfs_inode_volume(object);
    HfsInode *face = face_peek(object);
    ForkKept kept = {0};
    uint32_t generation;
    bool noted;
    int r = 0;

    if (!fork_may_be_held(object)) {
        return 0;
    }
    noted = kept_get(volume, object->cnid, &kept) == 0;
    generation = MAX(le32_get(kept.generation), face != NULL ? face->base.attr.generation : 0) + 1;
    kept.generation = le32_make(generation);
    kept.flags = le32_make(le32_get(kept.flags) & ~KEPT_CREATED);
    if (noted || !objects_scarce(volume)) {
        r = kept_put(txn, volume, object->cnid, &kept);
    }
    if (r == 0 && face != NULL) {
        r = txn_save(txn, &face->base.attr, sizeof(face->base.attr));
    }
    if (r == 0 && face != NULL) {
        face->base.attr.generation = generation;
    }
    return r;
}

void hfs_fork_unlinked(HfsInode *object) {
    HfsInode *face = object->directory ? NULL : face_peek(object);

    /* If any was shown, the other side says for each whether it has it. */
    if (face != NULL && !hfs_inode_volume(object)->forks_shown) {
        (void)fs_inode_forget(object->base.fs, face->base.file_id, UINT64_MAX);
    }
}

typedef struct Outlives {
    HfsVolume *volume;
    uint32_t cnid;
    ForkKept kept;
} Outlives;

static int outlives_body(Txn *txn, void *arg) {
    const Outlives *outlives = arg;

    return kept_put(txn, outlives->volume, outlives->cnid, &outlives->kept);
}

int hfs_fork_outlives(HfsInode *object) {
    HfsVolume *volume = hfs_inode_volume(object);
    Outlives outlives = {.volume = volume, .cnid = object->cnid};
    int r = kept_get(volume, object->cnid, &outlives.kept);

    if (r < 0) {
        return 0;
    }
    outlives.kept.flags = le32_make(le32_get(outlives.kept.flags) | KEPT_FILE_GONE);
    r = txn_run(volume->base.cache, NULL, outlives_body, &outlives);
    return r < 0 ? r : 1;
}

/* ---- what is noted of ._NAME ---- */

static int start_set(Txn *txn, HfsInode *inode, uint32_t start) {
    int r = txn_save(txn, &inode->start, sizeof(inode->start));

    if (r == 0) {
        inode->start = start;
    }
    return r;
}

int hfs_double_begins(Txn *txn, HfsInode *inode, uint32_t start, bool empty) {
    HfsVolume *volume = hfs_inode_volume(inode);
    ForkKept before = {0}, kept;
    bool noted = kept_get(volume, inode->cnid, &before) == 0;
    int r = 0;

    kept = before;
    kept.start = le32_make(start == HFS_DOUBLE_START ? 0 : start);
    if (!empty) {
        kept.flags = le32_make(le32_get(kept.flags) & ~KEPT_CREATED);
    }
    if (le32_get(kept.start) == 0 && le32_get(kept.flags) == 0 && le32_get(kept.generation) == 0) {
        r = noted ? txn_object_remove(txn, inode->base.file_id, TXN_OBJECT_ALIAS) : 0;
    } else if (memcmp(&kept, &before, sizeof(kept)) != 0) {
        r = noted || !objects_scarce(volume) ? kept_put(txn, volume, inode->cnid, &kept) : -ENOSPC;
    }
    return r == 0 && start != inode->start ? start_set(txn, inode, start) : r;
}

int hfs_double_cleared(Txn *txn, HfsInode *inode) {
    HfsVolume *volume = hfs_inode_volume(inode);
    ForkKept kept;
    int r = 0;

    if (kept_get(volume, inode->cnid, &kept) == 0 && le32_get(kept.start) != 0) {
        kept.start = le32_make(0);
        r = kept_put(txn, volume, inode->cnid, &kept);
    }
    return r == 0 ? start_set(txn, inode, HFS_DOUBLE_START) : r;
}

bool hfs_double_created(HfsVolume *volume, uint32_t cnid) {
    ForkKept kept;

    return kept_get(volume, cnid, &kept) == 0 && le32_get(kept.flags) & KEPT_CREATED;
}

typedef struct DoubleCreate {
    HfsVolume *volume;
    const HfsRecord *record;
    const FsCreate *what;
} DoubleCreate;

static int double_create_body(Txn *txn, void *arg) {
    const DoubleCreate *create = arg;
    ForkKept kept = {0};
    int r = 0;

    (void)kept_get(create->volume, create->record->id, &kept);
    kept.flags = le32_make(le32_get(kept.flags) | KEPT_CREATED);
    if (!objects_scarce(create->volume)) {
        r = kept_put(txn, create->volume, create->record->id, &kept);
    }
    if (r == 0 && create->what->attr != NULL) {
        hfs_face_attr(create->volume, create->record, HFS_FACE_DOUBLE, create->what->attr);
    }
    return r;
}

int hfs_double_create(HfsInode *dir, const FsCall *call, const FsName *name, const FsCreate *what,
                      FsEntry *ret) {
    HfsRecord record;
    DoubleCreate create = {.volume = hfs_inode_volume(dir), .record = &record, .what = what};
    int r = hfs_double_find(dir, name, ret, &record);

    return r == 0 ? txn_run(create.volume->base.cache, call->reply, double_create_body, &create)
                  : r;
}

/* ---- at unmount ---- */

static int kept_seen(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                     uint32_t length) {
    HfsInode *face = arg;

    (void)blob;
    (void)length;
    face->base.file_id = file_id;
    return kind == TXN_OBJECT_ALIAS;
}

int hfs_forks_finish(HfsVolume *volume) {
    HfsInode face = {.base = {.fs = &volume->base}};
    int r = 0;

    while (r == 0 && cache_object_iterate(volume->base.cache, kept_seen, &face) > 0) {
        r = txn_run(volume->base.cache, NULL, forget_body, &face);
    }
    return r;
}

/* ---- unlink ---- */

/* What has the name is another file's by now, perhaps: the list's lock does not hold names. */
int hfs_fork_unlink(HfsInode *list, const FsCall *call, const FsName *name, HfsInode *fork) {
    FsName file = *name;
    HfsDiskCatalogKey wanted, present;
    HfsKey key;
    int r;

    if (fork->face == HFS_FACE_DOUBLE) {
        file = (FsName){.text = name->text + 2, .length = name->length - 2};
    }
    r = hfs_name_key(list, &file, &key);
    if (r < 0) {
        return r;
    }
    hfs_key_encode(&key, &wanted);
    hfs_key_encode(&fork->object->key, &present);
    if (fork->object->base.attr.nlink == 0 ||
        hfs_catalog_format.compare((const uint8_t *)&wanted, (const uint8_t *)&present) != 0) {
        return -ENOENT;
    }
    return hfs_stream_empty(fork, call);
}
