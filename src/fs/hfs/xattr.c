/* SPDX-License-Identifier: MIT */
/*
 * What HFS stores and POSIX has no call for, as extended attributes under the names that other
 * systems use for them (man hfsd.8): the Finder's information (32 bytes; all zero: there is
 * none) and the resource fork. A new resource fork is written to space of its own, which
 * then takes the old one's place in one transaction.
 *
 * Locks: the inode's, exclusive for changes, and the fork's after it.
 */
#include "types.h"
#include <sys/xattr.h>

#define NAME_FINDER "user.com.apple.FinderInfo"
#define NAME_RESOURCE "user.com.apple.ResourceFork"
#define VALUE_MAX 65536u /* the kernel's limit */

typedef enum XattrKind { XATTR_UNKNOWN, XATTR_FINDER, XATTR_RESOURCE } XattrKind;

static XattrKind xattr_kind(const HfsInode *inode, const FsName *name) {
    if (inode->face != HFS_FACE_NONE) {
        return XATTR_UNKNOWN;
    }
    if (name->length == strlen(NAME_FINDER) && memcmp(name->text, NAME_FINDER, name->length) == 0) {
        return XATTR_FINDER;
    }
    if (!inode->directory && name->length == strlen(NAME_RESOURCE) &&
        memcmp(name->text, NAME_RESOURCE, name->length) == 0) {
        return XATTR_RESOURCE;
    }
    return XATTR_UNKNOWN;
}

void hfs_finder_get(const HfsRecord *record, uint8_t ret[HFS_FINDER_INFO_SIZE]) {
    if (record->type == HFS_RECORD_DIR) {
        memcpy(ret, record->dir.info, 16);
        memcpy(ret + 16, record->dir.more_info, 16);
    } else {
        memcpy(ret, &record->file.info, 16);
        memcpy(ret + 16, record->file.more_info, 16);
    }
}

void hfs_finder_set(HfsRecord *record, const uint8_t info[HFS_FINDER_INFO_SIZE]) {
    if (record->type == HFS_RECORD_DIR) {
        memcpy(record->dir.info, info, 16);
        memcpy(record->dir.more_info, info + 16, 16);
    } else {
        memcpy(&record->file.info, info, 16);
        memcpy(record->file.more_info, info + 16, 16);
    }
}

static bool is_zero(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* ---- reading ---- */

static int resource_get(HfsInode *inode, uint8_t *buf, uint32_t capacity) {
    FsInode *fork;
    uint64_t size;
    int r = hfs_fork_get(inode, &fork);

    if (r < 0) {
        return r;
    }
    fiber_rwlock_read(&fork->lock);
    size = hfs_stream_offset(hfs_inode(fork), fork->attr.size);
    if (size == 0) {
        r = -ENODATA;
    } else if (size > VALUE_MAX) {
        r = -E2BIG;
    } else if (capacity > 0 && size > capacity) {
        r = -ERANGE;
    } else if (capacity > 0) {
        r = (int)fs_file_read(fork, hfs_inode(fork)->start, buf, (uint32_t)size);
    } else {
        r = (int)size;
    }
    fiber_rwlock_unlock(&fork->lock);
    fs_inode_put(fork);
    return r;
}

int hfs_getxattr(FsInode *base, const FsName *name, void *buf, uint32_t capacity) {
    HfsInode *inode = hfs_inode(base);
    XattrKind kind = xattr_kind(inode, name);
    uint8_t info[HFS_FINDER_INFO_SIZE];
    HfsRecord record;
    int r;

    if (kind == XATTR_UNKNOWN) {
        return -ENODATA;
    }
    r = hfs_inode_record_get(inode, NULL, &record);
    if (r < 0) {
        return r;
    }
    if (kind == XATTR_RESOURCE) {
        return be32_get(record.file.resource_size) == 0 ? -ENODATA
                                                        : resource_get(inode, buf, capacity);
    }
    hfs_finder_get(&record, info);
    if (is_zero(info, sizeof(info))) {
        return -ENODATA;
    }
    if (capacity > 0 && capacity < sizeof(info)) {
        return -ERANGE;
    }
    if (capacity > 0) {
        memcpy(buf, info, sizeof(info));
    }
    return (int)sizeof(info);
}

int hfs_listxattr(FsInode *base, char *buf, uint32_t capacity) {
    HfsInode *inode = hfs_inode(base);
    char names[sizeof(NAME_FINDER) + sizeof(NAME_RESOURCE)];
    uint8_t info[HFS_FINDER_INFO_SIZE];
    uint32_t length = 0;
    HfsRecord record;
    int r;

    if (inode->face != HFS_FACE_NONE) {
        return 0;
    }
    r = hfs_inode_record_get(inode, NULL, &record);
    if (r < 0) {
        return r;
    }
    hfs_finder_get(&record, info);
    if (!is_zero(info, sizeof(info))) {
        memcpy(names, NAME_FINDER, sizeof(NAME_FINDER));
        length = sizeof(NAME_FINDER);
    }
    if (!inode->directory && be32_get(record.file.resource_size) > 0) {
        memcpy(names + length, NAME_RESOURCE, sizeof(NAME_RESOURCE));
        length += (uint32_t)sizeof(NAME_RESOURCE);
    }
    if (capacity > 0 && length > capacity) {
        return -ERANGE;
    }
    if (capacity > 0) {
        memcpy(buf, names, length);
    }
    return (int)length;
}

/* ---- changing ---- */

typedef struct XattrChange {
    HfsInode *inode;
    const FsCall *call;
    XattrKind kind;
    uint8_t info[HFS_FINDER_INFO_SIZE];
    uint32_t size; /* of the new resource fork, whose space is reserved */
} XattrChange;

/* The old fork goes, the new one takes its place. */
static int resource_replace(Txn *txn, const XattrChange *change, HfsRecord *record) {
    HfsInode *inode = change->inode;
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsFork *fork = &inode->forks[HFS_RESOURCE];
    unsigned rank = 0;
    int r = hfs_fork_cut(txn, volume, fork, inode->cnid, HFS_FORK_RESOURCE, 0, UINT32_MAX);

    if (r == 0) {
        r = hfs_fork_append(txn, volume, fork, inode->cnid, HFS_FORK_RESOURCE,
                            fork->reserved.blocks, &rank);
    }
    hfs_record_set_fork(volume, record, HFS_RESOURCE, fork);
    record->file.resource_size = be32_make(change->size);
    return r;
}

static int change_body(Txn *txn, void *arg) {
    const XattrChange *change = arg;
    HfsInode *inode = change->inode;
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsRecord record;
    int r = hfs_inode_record_get(inode, txn, &record);

    if (r == 0 && change->kind == XATTR_RESOURCE) {
        r = resource_replace(txn, change, &record);
        record.file.modified = hfs_time_encode(change->call->time_ns, volume->time_offset_ns);
    } else if (r == 0) {
        hfs_finder_set(&record, change->info);
    }
    if (r == 0) {
        r = hfs_inode_record_put(txn, inode, &record);
    }
    if (r == 0 && !inode->directory && (change->kind == XATTR_RESOURCE || volume->appledouble)) {
        r = hfs_fork_renew(txn, inode);
    }
    return r == 0 ? hfs_mdb_touch(txn, volume, change->call->time_ns) : r;
}

static int resource_write(HfsInode *inode, const HfsRuns *runs, const uint8_t *bytes,
                          uint32_t size) {
    HfsVolume *volume = hfs_inode_volume(inode);
    uint32_t done = 0;
    int r = 0;

    for (uint32_t i = 0; r == 0 && done < size; i++) {
        uint64_t room = (uint64_t)runs->runs[i].count * volume->mdb.block_size;
        uint32_t part = (uint32_t)MIN(room, (uint64_t)(size - done));

        r = block_write(volume->base.device,
                        hfs_block_sector(volume, runs->runs[i].start) * HFS_SECTOR, bytes + done,
                        part);
        done += part;
    }
    return r;
}

/* With the lock of the fork. */
static int resource_change(HfsInode *inode, const FsCall *call, const uint8_t *bytes,
                           uint32_t size) {
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsFork *fork = &inode->forks[HFS_RESOURCE];
    XattrChange change = {.inode = inode, .call = call, .kind = XATTR_RESOURCE, .size = size};
    int r = hfs_inode_fork(inode, HFS_RESOURCE);

    if (r == 0) {
        r = hfs_alloc_reserve(volume, 0, hfs_blocks_for(volume, size), &fork->reserved);
    }
    if (r == 0) {
        r = hfs_fork_room(fork);
    }
    if (r == 0) {
        r = resource_write(inode, &fork->reserved, bytes, size);
    }
    if (r == 0) {
        r = txn_run(volume->base.cache, call->reply, change_body, &change);
    }
    hfs_alloc_release(volume, &fork->reserved, 0);
    hfs_runs_truncate(&fork->reserved, 0);
    return r;
}

static int set_resource(HfsInode *inode, const FsCall *call, const uint8_t *bytes, uint32_t size) {
    FsInode *fork;
    int r = hfs_fork_get(inode, &fork);

    if (r < 0) {
        return r;
    }
    fiber_rwlock_write(&fork->lock);
    r = resource_change(inode, call, bytes, size);
    fiber_rwlock_unlock(&fork->lock);
    fs_inode_put(fork);
    return r;
}

static int set_finder(HfsInode *inode, const FsCall *call, const uint8_t *info) {
    XattrChange change = {.inode = inode, .call = call, .kind = XATTR_FINDER};

    memcpy(change.info, info, sizeof(change.info));
    return txn_run(inode->base.fs->cache, call->reply, change_body, &change);
}

int hfs_setxattr(FsInode *base, const FsCall *call, const FsName *name, const void *value,
                 uint32_t length, uint32_t flags) {
    HfsInode *inode = hfs_inode(base);
    XattrKind kind = xattr_kind(inode, name);
    int r;

    if (kind == XATTR_UNKNOWN) {
        return -EOPNOTSUPP;
    }
    if (kind == XATTR_FINDER && length != HFS_FINDER_INFO_SIZE) {
        return -EINVAL;
    }
    r = hfs_getxattr(base, name, NULL, 0);
    if (r < 0 && r != -ENODATA && r != -E2BIG) {
        return r;
    }
    if ((flags & XATTR_CREATE && r != -ENODATA) || (flags & XATTR_REPLACE && r == -ENODATA)) {
        return r == -ENODATA ? -ENODATA : -EEXIST;
    }
    return kind == XATTR_FINDER ? set_finder(inode, call, value)
                                : set_resource(inode, call, value, length);
}

int hfs_removexattr(FsInode *base, const FsCall *call, const FsName *name) {
    static const uint8_t zeros[HFS_FINDER_INFO_SIZE];
    HfsInode *inode = hfs_inode(base);
    XattrKind kind = xattr_kind(inode, name);
    int r = hfs_getxattr(base, name, NULL, 0);

    if (r < 0 && r != -E2BIG) {
        return r;
    }
    return kind == XATTR_FINDER ? set_finder(inode, call, zeros)
                                : set_resource(inode, call, NULL, 0);
}
