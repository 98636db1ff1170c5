/* SPDX-License-Identifier: MIT */
/*
 * With the option `appledouble`: a file's Finder information and resource fork as a file
 * ._NAME beside it, in the form that other systems keep them in (AppleDouble, version 2). It
 * begins with a header that is made when it is read; the rest is the fork as it lies on the
 * volume, so its bytes go the way of all data (map.c).
 *
 * What is written to the header is taken apart before the rest of the write is given space: the
 * Finder's information goes into the file's record, and where the header says that the
 * fork begins somewhere else, that is noted (HfsInode.start) for as long as the face is held.
 * What says something else than what can be kept is refused.
 *
 * Locks: those of the face; the header is taken in by one writer at a time, in order of arrival.
 */
#include "berth/bytes.h"
#include "types.h"

#define DOUBLE_MAGIC 0x00051607u
#define DOUBLE_VERSION 0x00020000u
#define DOUBLE_VERSION_OLD 0x00010000u
#define DOUBLE_RESOURCE 2u
#define DOUBLE_FINDER 9u
#define DOUBLE_ENTRIES_MAX 32u
#define DOUBLE_START_MAX 65536u

typedef struct DoubleHeader {
    be32 magic;
    be32 version;
    uint8_t filler[16];
    be16 entries;
} DoubleHeader;
typedef struct DoubleEntry {
    be32 id;
    be32 offset;
    be32 length;
} DoubleEntry;
_Static_assert(sizeof(DoubleHeader) == 26 && sizeof(DoubleEntry) == 12, "AppleDouble");

/* The header as it is made: two entries, the Finder's information, and then the fork. */
#define INFO_OFFSET (sizeof(DoubleHeader) + 2 * sizeof(DoubleEntry))
#define LENGTH_OFFSET (INFO_OFFSET - 4) /* of the fork's entry */
#define FILLER_OFFSET 8u
_Static_assert(INFO_OFFSET + HFS_FINDER_INFO_SIZE == HFS_DOUBLE_START, "where the fork begins");

/* ---- what there is ---- */

bool hfs_double_empty(const HfsRecord *record) {
    static const uint8_t zeros[HFS_FINDER_INFO_SIZE];
    uint8_t info[HFS_FINDER_INFO_SIZE];

    hfs_finder_get(record, info);
    return be32_get(record->file.resource_size) == 0 &&
           (memcmp(info, zeros, 8) == 0 || memcmp(info, "????????", 8) == 0) &&
           memcmp(info + 8, zeros, sizeof(info) - 8) == 0;
}

/* Bytes of the header; what follows up to the fork is zeros. */
static uint32_t header_make(const HfsRecord *record, uint32_t start,
                            uint8_t out[HFS_DOUBLE_START]) {
    bool whole = start >= HFS_DOUBLE_START;
    DoubleHeader header = {.magic = be32_make(DOUBLE_MAGIC),
                           .version = be32_make(DOUBLE_VERSION),
                           .entries = be16_make(whole ? 2 : 1)};
    DoubleEntry entries[2] = {{.id = be32_make(DOUBLE_FINDER),
                               .offset = be32_make(INFO_OFFSET),
                               .length = be32_make(HFS_FINDER_INFO_SIZE)}};

    entries[whole] = (DoubleEntry){.id = be32_make(DOUBLE_RESOURCE),
                                   .offset = be32_make(start),
                                   .length = record->file.resource_size};
    memcpy(header.filler, "Mac OS X        ", sizeof(header.filler));
    memset(out, 0, HFS_DOUBLE_START);
    memcpy(out, &header, sizeof(header));
    memcpy(out + sizeof(header), entries, sizeof(DoubleEntry) * (whole ? 2 : 1));
    if (whole) {
        hfs_finder_get(record, out + INFO_OFFSET);
    }
    return whole ? HFS_DOUBLE_START : (uint32_t)(sizeof(header) + sizeof(DoubleEntry));
}

int hfs_double_map(HfsInode *inode, uint64_t offset, FsExtent *ret) {
    static const uint8_t zeros[4096];
    HfsRecord record;
    uint32_t length;
    int r = hfs_inode_record_get(inode, NULL, &record);

    if (r < 0) {
        return r;
    }
    length = header_make(&record, inode->start, inode->header);
    *ret = (FsExtent){.kind = FS_EXTENT_INLINE};
    if (offset < length) {
        ret->bytes = inode->header + offset;
        ret->length = length - offset;
    } else {
        ret->bytes = zeros;
        ret->length = MIN(inode->start - offset, (uint64_t)sizeof(zeros));
    }
    return 0;
}

/* ---- names ---- */

int hfs_double_find(HfsInode *dir, const FsName *name, FsEntry *ret, HfsRecord *ret_record) {
    HfsVolume *volume = hfs_inode_volume(dir);
    char text[HFS_NAME_UTF8_BYTES];
    FsName rest;
    HfsKey key, stored;
    int length, r;

    if (!volume->appledouble || dir->face != HFS_FACE_NONE || name->length <= 2 ||
        memcmp(name->text, "._", 2) != 0) {
        return -ENOENT;
    }
    rest = (FsName){.text = name->text + 2, .length = name->length - 2};
    if (hfs_name_key(dir, &rest, &key) < 0) {
        return -ENOENT;
    }
    r = hfs_catalog_find(volume, NULL, &key, ret_record, &stored);
    if (r < 0 || ret_record->type != HFS_RECORD_FILE) {
        return r < 0 ? r : -ENOENT;
    }
    length = hfs_name_to_utf8(volume->encoding, stored.name, stored.length, text, sizeof(text));
    *ret = (FsEntry){
        .file_id = hfs_face_id(ret_record->id, HFS_FACE_DOUBLE),
        .position = dir->cnid,
        .exact = length >= 0 && (uint32_t)length == rest.length &&
                 memcmp(text, rest.text, rest.length) == 0,
    };
    if (volume->base.options.case_exact && !ret->exact) {
        return -ENOENT;
    }
    hfs_place_note(volume, ret_record->id, &stored);
    hfs_fork_shown(volume);
    return 0;
}

bool hfs_double_listed(HfsVolume *volume, const HfsKey *key, const HfsRecord *record) {
    HfsKey real = {.parent = key->parent, .length = 2, .name = "._"};
    HfsRecord other;

    if (!volume->appledouble || record->type != HFS_RECORD_FILE || hfs_double_empty(record)) {
        return false;
    }
    if (key->length + 2u > sizeof(real.name)) {
        return true;
    }
    memcpy(real.name + 2, key->name, key->length);
    real.length = (uint8_t)(key->length + 2);
    return hfs_catalog_find(volume, NULL, &real, &other, NULL) == -ENOENT;
}

/* ---- writing ---- */

typedef struct Header {
    bool has_info, has_fork;
    uint8_t info[HFS_FINDER_INFO_SIZE];
    uint32_t start;
} Header;

/* A header, from its beginning. bytes may change under us: everything is copied once. */
static int header_take(const uint8_t *bytes, uint32_t length, Header *ret) {
    DoubleHeader header;
    Header taken = {0};
    uint64_t end;

    memcpy(&header, bytes, sizeof(header));
    end = sizeof(header) + (uint64_t)be16_get(header.entries) * sizeof(DoubleEntry);
    if (be32_get(header.magic) != DOUBLE_MAGIC ||
        (be32_get(header.version) != DOUBLE_VERSION &&
         be32_get(header.version) != DOUBLE_VERSION_OLD) ||
        be16_get(header.entries) > DOUBLE_ENTRIES_MAX || end > length) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < be16_get(header.entries); i++) {
        uint32_t offset, size;
        DoubleEntry entry;

        memcpy(&entry, bytes + sizeof(header) + i * sizeof(entry), sizeof(entry));
        offset = be32_get(entry.offset);
        size = be32_get(entry.length);
        if (be32_get(entry.id) == DOUBLE_RESOURCE) {
            if (taken.has_fork) {
                return -EINVAL;
            }
            taken.has_fork = true;
            taken.start = offset;
            continue;
        }
        end = MAX(end, (uint64_t)offset + size);
        if (be32_get(entry.id) == DOUBLE_FINDER) {
            if (taken.has_info || !range_inside(offset, size, length)) {
                return -EINVAL;
            }
            taken.has_info = true;
            memcpy(taken.info, bytes + offset, MIN(size, HFS_FINDER_INFO_SIZE));
        }
    }
    if (!taken.has_fork) {
        taken.start = (uint32_t)MIN(end, (uint64_t)DOUBLE_START_MAX + 1);
    }
    /* The fork is last: all that is written behind its beginning is the fork's. */
    if (taken.start < end || taken.start > DOUBLE_START_MAX ||
        (!taken.has_fork && length > taken.start)) {
        return -EINVAL;
    }
    *ret = taken;
    return 0;
}

/* Part of a header as it is made: only the Finder's information may differ (and what says
 * nothing: the filler, and the length of the fork, which the file's size tells). */
static int header_change(HfsInode *inode, uint64_t offset, const uint8_t *bytes, uint32_t length,
                         Header *ret) {
    uint8_t made[HFS_DOUBLE_START];
    HfsRecord record;
    uint32_t size;
    int r = hfs_inode_record_get(inode, NULL, &record);

    if (r < 0) {
        return r;
    }
    size = header_make(&record, inode->start, made);
    *ret = (Header){.start = inode->start, .has_info = size == HFS_DOUBLE_START};
    hfs_finder_get(&record, ret->info);
    for (uint64_t at = offset; at < MIN(offset + length, (uint64_t)inode->start); at++) {
        uint8_t byte = bytes[at - offset];
        bool is_info = ret->has_info && at >= INFO_OFFSET && at < HFS_DOUBLE_START;
        bool is_free = (at >= FILLER_OFFSET && at < FILLER_OFFSET + 16) ||
                       (at >= LENGTH_OFFSET && at < INFO_OFFSET);

        if (is_info) {
            ret->info[at - INFO_OFFSET] = byte;
        } else if (!is_free && byte != (at < size ? made[at] : 0)) {
            return -EINVAL;
        }
    }
    return 0;
}

typedef struct Take {
    HfsInode *inode;
    const FsCall *call;
    const Header *header;
} Take;

static int take_body(Txn *txn, void *arg) {
    const Take *take = arg;
    HfsInode *object = hfs_object(take->inode);
    HfsRecord record;
    int r = hfs_inode_record_get(object, txn, &record);

    if (r == 0 && take->header->has_info) {
        hfs_finder_set(&record, take->header->info);
    }
    if (r == 0) {
        r = hfs_double_begins(txn, take->inode, take->header->start, hfs_double_empty(&record));
    }
    if (r == 0) {
        r = hfs_inode_record_put(txn, object, &record);
    }
    return r == 0 ? hfs_mdb_touch(txn, hfs_inode_volume(object), take->call->time_ns) : r;
}

static int header_write(HfsInode *inode, const FsCall *call, uint64_t offset, const uint8_t *bytes,
                        uint32_t length) {
    Header header;
    const Take take = {.inode = inode, .call = call, .header = &header};
    int r = offset == 0 && length >= sizeof(DoubleHeader)
                ? header_take(bytes, length, &header)
                : header_change(inode, offset, bytes, length, &header);

    if (r == 0 && header.start != inode->start && inode->base.attr.size > inode->start) {
        r = -EINVAL; /* what is there would move */
    }
    return r == 0 ? txn_run(inode->base.fs->cache, NULL, take_body, (void *)&take) : r;
}

int hfs_write_begin(FsInode *base, const FsCall *call, uint64_t offset, const void *bytes,
                    uint32_t length) {
    HfsInode *inode = hfs_inode(base);
    int r = 0;

    if (inode->face != HFS_FACE_DOUBLE) {
        return 0;
    }
    fiber_mutex_lock(&inode->header_lock);
    if (offset < inode->start) {
        r = header_write(inode, call, offset, bytes, length);
    }
    fiber_mutex_unlock(&inode->header_lock);
    return r;
}
