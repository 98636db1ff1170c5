/* SPDX-License-Identifier: MIT */
/*
 * Finding and listing names. A cookie is the CNID of the entry it stands behind, and the first
 * places of its name in the Mac's order. The CNID tells where to go on: from where the entry was
 * last seen, in memory; if that is not known (another daemon gave the cookie), from the entry with
 * this CNID among the names that begin so; if the entry is gone, from the first of these. So an
 * entry that stays is listed exactly once while nobody dies, and never left out.
 *
 * Locks: the directory's, shared.
 */
#include "order.h"
#include "types.h"

#define COOKIE_PLACES 3u
#define COOKIE_DOUBLE (UINT64_C(1) << 60) /* and behind the next entry's ._NAME */

static uint64_t cookie_make(const HfsKey *key, uint32_t cnid) {
    uint64_t cookie = 0;

    for (unsigned i = 0; i < COOKIE_PLACES; i++) {
        cookie = cookie << 8 | (i < key->length ? hfs_name_place(key->name[i]) : 0);
    }
    return cookie << 32 | cnid;
}

/* A key at or before all names that begin with the cookie's places. */
static void cookie_key(uint64_t cookie, uint32_t directory, HfsKey *ret) {
    *ret = (HfsKey){.parent = directory};
    for (unsigned i = 0; i < COOKIE_PLACES; i++) {
        uint8_t place = (uint8_t)(cookie >> (32 + 8 * (COOKIE_PLACES - 1 - i)));
        unsigned byte = 0;

        while (byte < 256 && hfs_name_place((uint8_t)byte) != place) {
            byte++;
        }
        if (place == 0 || byte == 256) {
            break;
        }
        ret->name[ret->length++] = (uint8_t)byte;
    }
}

static void entry_fill(HfsVolume *volume, const HfsKey *key, const HfsRecord *record, char *text,
                       FsDirEntry *ret) {
    int length =
        hfs_name_to_utf8(volume->encoding, key->name, key->length, text, HFS_NAME_UTF8_BYTES);

    *ret = (FsDirEntry){
        .name = text,
        .name_length = (uint32_t)MAX(length, 0),
        .cookie = cookie_make(key, record->id),
        .file_id = hfs_file_id(record->id),
        .position = key->parent,
        .type = record->type == HFS_RECORD_DIR ? FS_TYPE_DIRECTORY : FS_TYPE_FILE,
        .has_attr = true,
    };
    hfs_attr_fill(volume, record, &ret->attr);
}

/* The entry is the file's resource fork, or ._NAME. */
static void entry_show_fork(HfsVolume *volume, const HfsRecord *record, HfsFace face,
                            FsDirEntry *entry) {
    hfs_fork_shown(volume);
    entry->file_id = hfs_face_id(record->id, face);
    hfs_face_attr(volume, record, face, &entry->attr);
}

int hfs_name_key(const HfsInode *dir, const FsName *name, HfsKey *ret) {
    const HfsVolume *volume = container_of(dir->base.fs, HfsVolume, base);
    unsigned length = 0;
    int r;

    *ret = (HfsKey){.parent = dir->cnid};
    r = hfs_name_from_utf8(volume->encoding, name->text, name->length, ret->name, &length);
    ret->length = (uint8_t)length;
    return r;
}

/* An entry that is called so comes first: nothing on the volume shall be out of reach. */
static bool is_list_name(const HfsInode *dir, const FsName *name) {
    return dir->face == HFS_FACE_NONE &&
           !container_of(dir->base.fs, HfsVolume, base)->appledouble &&
           name->length == strlen(HFS_LIST_NAME) &&
           memcmp(name->text, HFS_LIST_NAME, name->length) == 0;
}

static int double_lookup(HfsInode *dir, const FsName *name, FsEntry *ret) {
    HfsRecord record;
    int r = hfs_double_find(dir, name, ret, &record);

    return r == 0 && hfs_double_empty(&record) &&
                   !hfs_double_created(hfs_inode_volume(dir), record.id)
               ? -ENOENT
               : r;
}

int hfs_lookup(FsInode *base, const FsName *name, FsEntry *ret) {
    HfsInode *dir = hfs_inode(base);
    HfsVolume *volume = hfs_inode_volume(dir);
    char text[HFS_NAME_UTF8_BYTES];
    HfsKey key, stored;
    HfsRecord record;
    int length, r = hfs_name_key(dir, name, &key);

    if (r < 0 && double_lookup(dir, name, ret) == 0) {
        return 0;
    }
    if (r < 0) {
        return r == -EILSEQ || r == -EINVAL ? -ENOENT : r; /* no file can be called so */
    }
    r = hfs_catalog_find(volume, NULL, &key, &record, &stored);
    if (r == -ENOENT && volume->appledouble) {
        return double_lookup(dir, name, ret);
    }
    if (r == -ENOENT && is_list_name(dir, name)) {
        *ret = (FsEntry){.file_id = hfs_face_id(dir->cnid, HFS_FACE_LIST), .exact = true};
        return 0;
    }
    if (r < 0) {
        return r;
    }
    if (record.type != HFS_RECORD_DIR && record.type != HFS_RECORD_FILE) {
        return report_corrupt(volume->base.reporter, false, "catalog", dir->cnid, "cdrType",
                              record.type, "a thread under a name");
    }
    length = hfs_name_to_utf8(volume->encoding, stored.name, stored.length, text, sizeof(text));
    *ret = (FsEntry){
        .file_id = hfs_file_id(record.id),
        .position = dir->cnid,
        .exact = length >= 0 && (uint32_t)length == name->length &&
                 memcmp(text, name->text, name->length) == 0,
    };
    if (base->fs->options.case_exact && !ret->exact) {
        return -ENOENT;
    }
    if (dir->face == HFS_FACE_LIST) {
        if (record.type != HFS_RECORD_FILE) {
            return -ENOENT;
        }
        hfs_fork_shown(volume);
        ret->file_id = hfs_face_id(record.id, HFS_FACE_FORK);
    }
    hfs_place_note(volume, record.id, &stored);
    return 0;
}

/* The last entry before all names that begin as the cookie says. */
static int before_group(HfsWalk *walk, uint64_t cookie, HfsKey *ret) {
    HfsRecord record;
    HfsKey key;
    int r;

    cookie_key(cookie, walk->directory, ret);
    if (ret->length > 0) {
        ret->length--; /* a name may consist of just these places */
    }
    hfs_walk_from(walk, ret);
    while ((r = hfs_walk_next(walk, &key, &record)) == 0 &&
           cookie_make(&key, 0) < cookie >> 32 << 32) {
        *ret = key;
    }
    return r == -ENOENT ? 0 : r;
}

/* Goes behind the entry with this CNID among those that begin as the cookie says. */
static int resume_by_search(HfsWalk *walk, uint64_t cookie) {
    HfsKey start, key;
    HfsRecord record;
    int r = before_group(walk, cookie, &start);

    if (r < 0) {
        return r;
    }
    hfs_walk_from(walk, &start);
    while ((r = hfs_walk_next(walk, &key, &record)) == 0 &&
           cookie_make(&key, 0) == cookie >> 32 << 32) {
        if (record.id == (uint32_t)cookie) {
            return 0;
        }
    }
    hfs_walk_from(walk, &start);
    return r == -ENOENT ? 0 : r;
}

static int resume(HfsWalk *walk, uint64_t cookie) {
    HfsVolume *volume = walk->volume;
    uint32_t cnid = (uint32_t)cookie;
    const HfsKey *place = hfs_place_find(volume, cnid);

    if (cookie == 0) {
        return 0;
    }
    if (place == NULL || place->parent != walk->directory || cookie_make(place, cnid) != cookie) {
        place = hfs_place_ghost(volume, walk->directory, cnid);
    }
    if (place != NULL) {
        hfs_walk_from(walk, place);
        return 0;
    }
    return resume_by_search(walk, cookie);
}

/* ._NAME, before NAME: who removes all that is listed finds both. */
static int emit_double(HfsVolume *volume, const HfsRecord *record, FsDirEntry entry,
                       uint64_t cookie, FsDirEmit *emit) {
    entry.name -= 2;
    entry.name_length += 2;
    entry.cookie = cookie;
    entry_show_fork(volume, record, HFS_FACE_DOUBLE, &entry);
    return fs_dir_emit(emit, &entry);
}

int hfs_readdir(FsInode *base, uint64_t cookie, FsDirEmit *emit) {
    HfsInode *dir = hfs_inode(base);
    HfsVolume *volume = hfs_inode_volume(dir);
    char text[2 + HFS_NAME_UTF8_BYTES] = "._";
    bool double_given = cookie & COOKIE_DOUBLE;
    HfsRecord record;
    HfsWalk walk;
    HfsKey key;
    int r = hfs_walk_init(&walk, volume, dir->cnid);

    cookie &= ~COOKIE_DOUBLE;
    if (r == 0) {
        r = resume(&walk, cookie);
    }
    while (r == 0 && (r = hfs_walk_next(&walk, &key, &record)) == 0) {
        FsDirEntry entry;

        hfs_place_note(volume, record.id, &key);
        entry_fill(volume, &key, &record, text + 2, &entry);
        if (!double_given && hfs_double_listed(volume, &key, &record)) {
            r = emit_double(volume, &record, entry, cookie | COOKIE_DOUBLE, emit);
            if (r != 0) {
                break;
            }
        }
        double_given = false;
        cookie = entry.cookie;
        if (dir->face == HFS_FACE_LIST) {
            if (record.type != HFS_RECORD_FILE || be32_get(record.file.resource_size) == 0) {
                continue;
            }
            entry_show_fork(volume, &record, HFS_FACE_FORK, &entry);
        }
        r = fs_dir_emit(emit, &entry);
    }
    hfs_walk_done(&walk);
    return r == 1 || r == -ENOENT ? 0 : r;
}

int hfs_parent(FsInode *dir, uint64_t *ret_file_id) {
    uint32_t parent = hfs_inode(dir)->key.parent;

    if (hfs_inode(dir)->face != HFS_FACE_NONE) {
        *ret_file_id = dir->file_id & ~HFS_FACE_BITS;
        return 0;
    }
    *ret_file_id = dir->file_id == FS_ROOT_ID ? FS_ROOT_ID : hfs_file_id(parent);
    return 0;
}
