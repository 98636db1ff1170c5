/* SPDX-License-Identifier: MIT */
/*
 * Changing attributes and sizes. What HFS cannot store is dropped in silence where programs
 * expect to get away with it (permission bits), and refused where dropping would lie (owners,
 * suid). A file that shrinks gets its size in one transaction, and its space is freed in the
 * same if that is not too much, else in steps behind it: a fork may be longer than its file.
 *
 * Locks: the inode's lock exclusive.
 */
#include "types.h"
#include <linux/falloc.h>

/* Groups of extents freed in one transaction; halved when the log is small. */
#define CUT_STEP 64u

void hfs_record_apply(HfsVolume *volume, const FsSetattr *set, HfsRecord *record) {
    bool directory = record->type == HFS_RECORD_DIR;
    be32 *modified = directory ? &record->dir.modified : &record->file.modified;
    be32 *created = directory ? &record->dir.created : &record->file.created;

    /* Of all bits only "nobody may write" can be kept, and that for files. */
    if (set->mask & FS_SET_MODE && !directory) {
        if (set->mode & 0222) {
            record->file.flags &= (uint8_t)~HFS_FILE_LOCKED;
        } else {
            record->file.flags |= HFS_FILE_LOCKED;
        }
    }
    if (set->mask & FS_SET_MTIME) {
        *modified = hfs_time_encode(set->mtime_ns, volume->time_offset_ns);
    }
    if (set->mask & FS_SET_BTIME) {
        *created = hfs_time_encode(set->btime_ns, volume->time_offset_ns);
    }
}

typedef struct AttrChange {
    HfsInode *inode;
    int64_t time_ns;
    const FsSetattr *set; /* NULL: only space is freed */
    bool cut;
    bool renew;      /* hfs_fork_renew() */
    uint32_t keep;   /* blocks that stay */
    uint32_t groups; /* of extents that may go at once */
} AttrChange;

static int change_body(Txn *txn, void *arg) {
    static const uint8_t no_info[HFS_FINDER_INFO_SIZE];
    const AttrChange *change = arg;
    HfsInode *inode = change->inode;
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsForkIndex index = hfs_stream(inode);
    HfsRecord record;
    int r = hfs_inode_record_get(inode, txn, &record);

    if (r == 0 && change->cut) {
        HfsFork *fork = &hfs_object(inode)->forks[index];

        r = hfs_fork_cut(txn, volume, fork, inode->cnid, hfs_fork_kind(index), change->keep,
                         change->groups);
        hfs_record_set_fork(volume, &record, index, fork);
    }
    if (r == 0 && inode->face == HFS_FACE_DOUBLE && change->set != NULL &&
        change->set->mask & FS_SET_SIZE && change->set->size == 0) {
        hfs_finder_set(&record, no_info);
        r = hfs_double_cleared(txn, inode);
    }
    if (r == 0 && change->renew && change->set != NULL) {
        r = hfs_fork_renew(txn, hfs_object(inode));
    }
    if (r < 0) {
        return r;
    }
    if (change->set != NULL) {
        if (change->set->mask & FS_SET_SIZE) {
            hfs_record_set_size(&record, index, hfs_stream_offset(inode, change->set->size));
            record.file.modified = hfs_time_encode(change->time_ns, volume->time_offset_ns);
        }
        hfs_record_apply(volume, change->set, &record);
    }
    r = hfs_inode_record_put(txn, inode, &record);
    return r == 0 ? hfs_mdb_touch(txn, volume, change->time_ns) : r;
}

/* The size first; what is not freed with it follows. */
static int shrink(HfsInode *inode, const FsCall *call, const FsSetattr *set, bool renew) {
    HfsVolume *volume = hfs_inode_volume(inode);
    const HfsFork *fork = &hfs_object(inode)->forks[hfs_stream(inode)];
    AttrChange change = {.inode = inode,
                         .time_ns = call->time_ns,
                         .set = set,
                         .cut = true,
                         .renew = renew,
                         .keep = hfs_blocks_for(volume, hfs_stream_offset(inode, set->size)),
                         .groups = CUT_STEP};
    const TxnReply *reply = call->reply;
    int r = hfs_inode_fork(inode, hfs_stream(inode));

    if (r == 0 && fork->blocks < change.keep) {
        return report_corrupt(volume->base.reporter, true, "catalog record", inode->cnid,
                              "logical length", inode->base.attr.size,
                              "only %u blocks are allocated", fork->blocks);
    }
    hfs_unreserve(&inode->base, 0);
    while (r == 0 && (change.set != NULL || fork->blocks > change.keep)) {
        r = txn_run(volume->base.cache, reply, change_body, &change);
        if (r == -E2BIG && change.groups > 1) {
            change.groups /= 2;
            r = 0;
            continue;
        }
        if (r < 0 && change.set == NULL) {
            /* The file has its size; it keeps the space. */
            log_warning("hfs: freeing a truncated file's blocks: %s", strerror(-r));
            return 0;
        }
        change.set = NULL;
        reply = NULL;
    }
    return r;
}

/* Beyond the old end come zeros: HFS has no holes. */
static int grow(HfsInode *inode, const FsCall *call, uint64_t size, const FsSetattr *set) {
    uint64_t old_size = inode->base.attr.size;
    int r = hfs_reserve(&inode->base, size);

    if (r == 0) {
        r = fs_file_zero(&inode->base, old_size, size);
    }
    if (r == 0) {
        r = hfs_grow_commit(inode, call, size, set);
    }
    if (r < 0) {
        hfs_unreserve(&inode->base, inode->base.attr.size);
    }
    return r;
}

int hfs_setattr(FsInode *base, const FsCall *call, const FsSetattr *set) {
    HfsInode *inode = hfs_inode(base);
    AttrChange change = {.inode = inode, .time_ns = call->time_ns, .set = set};

    if (inode->face == HFS_FACE_LIST || (set->mask & FS_SET_UID && set->uid != base->attr.uid) ||
        (set->mask & FS_SET_GID && set->gid != base->attr.gid) ||
        (set->mask & FS_SET_MODE && set->mode & 07000)) {
        return -EPERM;
    }
    if (set->mask & FS_SET_SIZE) {
        if (inode->directory) {
            return -EISDIR;
        }
        return set->size > base->attr.size ? grow(inode, call, set->size, set)
                                           : shrink(inode, call, set, false);
    }
    return txn_run(base->fs->cache, call->reply, change_body, &change);
}

int hfs_stream_empty(HfsInode *inode, const FsCall *call) {
    const FsSetattr set = {.mask = FS_SET_SIZE};

    return shrink(inode, call, &set, true);
}

int hfs_fallocate(FsInode *base, const FsCall *call, uint32_t mode, uint64_t offset,
                  uint64_t length) {
    HfsInode *inode = hfs_inode(base);
    uint64_t end;

    if (mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE) {
        return -EOPNOTSUPP;
    }
    if (!u64_add(offset, length, &end) || end > HFS_FILE_SIZE_MAX) {
        return -EFBIG;
    }
    if (end <= base->attr.size) {
        return 0; /* inside the size everything is allocated already */
    }
    return mode & FALLOC_FL_KEEP_SIZE ? hfs_allocate_commit(inode, call, end)
                                      : grow(inode, call, end, NULL);
}
