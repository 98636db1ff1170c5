/* SPDX-License-Identifier: MIT */
/*
 * Changing attributes and sizes. What FAT cannot store is dropped in silence
 * where programs expect to get away with it (permission bits), and refused where
 * dropping would lie (owners, suid). Shrinking frees in the same transaction; a
 * long rest of a chain is cut off as a whole and freed in steps.
 *
 * Locks: the inode's lock exclusive.
 */
#include "types.h"
#include <linux/falloc.h>

/* Clusters freed together with the cut. */
#define CUT_FREES_MAX 1024u

void fat_entry_apply(FatInode *inode, const FsSetattr *set, FatDiskEntry *disk) {
    const FatGeometry *geo = &fat_inode_volume(inode)->geo;

    /* Of all bits only "nobody may write" can be kept, and that for files. */
    if (set->mask & FS_SET_MODE && !inode->directory) {
        if (set->mode & 0222) {
            disk->attributes &= (uint8_t)~FAT_ATTR_READ_ONLY;
        } else {
            disk->attributes |= FAT_ATTR_READ_ONLY;
        }
    }
    if (set->mask & FS_SET_ATIME) {
        fat_entry_set_atime(geo, disk, set->atime_ns);
    }
    if (set->mask & FS_SET_MTIME) {
        fat_entry_set_mtime(geo, disk, set->mtime_ns);
    }
    if (set->mask & FS_SET_BTIME) {
        fat_entry_set_btime(geo, disk, set->btime_ns);
    }
}

typedef struct AttrChange {
    FatInode *inode;
    const FsCall *call;
    const FsSetattr *set;
    /* Shrinking: */
    uint32_t keep, drop; /* clusters */
    uint64_t reclaim;    /* object that the dropped ones go to; 0: freed at once */
} AttrChange;

static void shrink_done(void *arg) {
    const AttrChange *change = arg;

    fat_runs_truncate(&change->inode->chain.runs, change->keep);
}

/* The chain ends after `keep` clusters; what was behind is freed or listed. */
static int cut_chain(Txn *txn, const AttrChange *change) {
    FatInode *inode = change->inode;
    FatVolume *volume = fat_inode_volume(inode);
    const FatRunList *runs = &inode->chain.runs;
    const FatRun *run;
    int r;

    run = fat_runs_find(runs, change->keep);
    r = change->reclaim != 0 ? fat_reclaim_put(txn, volume, change->reclaim, TXN_OBJECT_RECLAIM,
                                               run->cluster + (change->keep - run->index))
                             : fat_chain_free(txn, volume, runs, change->keep, change->drop);
    if (r == 0 && change->keep > 0) {
        run = fat_runs_find(runs, change->keep - 1);
        r = fat_table_link(txn, volume, run->cluster + (change->keep - 1 - run->index), 1,
                           FAT_CELL_END, FAT_CLASS_CUT);
    }
    return r == 0 ? txn_on_commit(txn, shrink_done, (void *)(uintptr_t)change) : r;
}

static int change_body(Txn *txn, void *arg) {
    const AttrChange *change = arg;
    FatInode *inode = change->inode;
    FatVolume *volume = fat_inode_volume(inode);
    FatDiskEntry disk;
    int r = change->drop > 0 ? cut_chain(txn, change) : 0;

    if (r == 0) {
        r = fat_inode_entry_get(inode, &disk);
    }
    if (r < 0) {
        return r;
    }
    if (change->set->mask & FS_SET_SIZE) {
        disk.size = le32_make((uint32_t)change->set->size);
        disk.attributes |= FAT_ATTR_ARCHIVE;
        fat_entry_set_mtime(&volume->geo, &disk, change->call->time_ns);
        if (change->keep == 0) {
            fat_entry_set_cluster(&volume->geo, &disk, 0);
        }
    }
    fat_entry_apply(inode, change->set, &disk);
    return fat_inode_entry_put(txn, inode, &disk);
}

/* Cuts the rest off with an object, then frees it in steps. */
static int shrink_in_steps(AttrChange *change) {
    FatInode *inode = change->inode;
    FatVolume *volume = fat_inode_volume(inode);
    FatChain rest = {.complete = true, .power = 1};
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < inode->chain.runs.count; i++) {
        const FatRun *run = &inode->chain.runs.runs[i];
        uint32_t skip = run->index < change->keep ? change->keep - run->index : 0;
        if (skip < run->count) {
            r = fat_runs_append(&rest.runs, run->cluster + skip, run->count - skip);
        }
    }
    if (r == 0) {
        rest.first = rest.runs.runs[0].cluster;
        change->reclaim = fat_identity_fresh(volume);
        r = txn_run(volume->base.cache, change->call->reply, change_body, change);
    }
    if (r == 0) {
        /* The file has its size; what fails now is tried again at unmount. */
        int reclaimed = fat_chain_reclaim(volume, &rest, change->reclaim, TXN_OBJECT_RECLAIM);
        if (reclaimed < 0) {
            log_warning("fat: freeing a truncated file's clusters: %s", strerror(-reclaimed));
        }
    }
    fat_chain_done(&rest);
    return r;
}

static int shrink(FatInode *inode, const FsCall *call, const FsSetattr *set) {
    FatVolume *volume = fat_inode_volume(inode);
    AttrChange change = {.inode = inode, .call = call, .set = set};
    FatChain *chain = &inode->chain;
    int r;

    inode->kept = 0;
    fat_unreserve(&inode->base, 0);
    r = fat_chain_load(volume, chain, UINT32_MAX, true);
    if (r < 0) {
        return r;
    }
    change.keep = fat_clusters_for(volume, set->size);
    if (fat_clusters_for(volume, inode->base.attr.size) > chain->runs.length) {
        return report_corrupt(volume->base.reporter, true, "directory entry", inode->entry,
                              "DIR_FileSize", inode->base.attr.size,
                              "only %u clusters are allocated", chain->runs.length);
    }
    change.drop = chain->runs.length - change.keep;
    fat_table_prefetch_write(volume, &chain->runs, change.keep, MIN(change.drop, CUT_FREES_MAX));
    if (change.drop <= CUT_FREES_MAX) {
        r = txn_run(volume->base.cache, call->reply, change_body, &change);
        if (r != -E2BIG || change.drop == 0) {
            return r;
        }
    }
    return shrink_in_steps(&change);
}

/* Beyond the old end come zeros: FAT has no holes. */
static int grow(FatInode *inode, const FsCall *call, uint64_t size, const FsSetattr *set) {
    uint64_t old_size = inode->base.attr.size;
    int r;

    if (size > FAT_FILE_SIZE_MAX) {
        return -EFBIG;
    }
    r = fat_reserve(&inode->base, size);
    if (r == 0) {
        r = fs_file_zero(&inode->base, old_size, size);
    }
    if (r == 0) {
        r = fat_grow_commit(inode, call, size, set);
    }
    if (r < 0) {
        fat_unreserve(&inode->base, inode->base.attr.size);
    }
    return r;
}

int fat_setattr(FsInode *base, const FsCall *call, const FsSetattr *set) {
    FatInode *inode = fat_inode(base);
    FatVolume *volume = fat_inode_volume(inode);
    AttrChange change = {.inode = inode, .call = call, .set = set};

    if ((set->mask & FS_SET_UID && set->uid != base->attr.uid) ||
        (set->mask & FS_SET_GID && set->gid != base->attr.gid) ||
        (set->mask & FS_SET_MODE && set->mode & 07000)) {
        return -EPERM;
    }
    if (set->mask & FS_SET_SIZE) {
        if (inode->directory) {
            return -EISDIR;
        }
        return set->size > base->attr.size ? grow(inode, call, set->size, set)
                                           : shrink(inode, call, set);
    }
    return txn_run(volume->base.cache, call->reply, change_body, &change);
}

int fat_fallocate(FsInode *base, const FsCall *call, uint32_t mode, uint64_t offset,
                  uint64_t length) {
    FatInode *inode = fat_inode(base);
    uint64_t end;
    int r;

    if (mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE) {
        return -EOPNOTSUPP;
    }
    if (!u64_add(offset, length, &end) || end > FAT_FILE_SIZE_MAX) {
        return -EFBIG;
    }
    if (end <= base->attr.size) {
        return 0; /* inside the size everything is allocated already */
    }
    if (!(mode & FALLOC_FL_KEEP_SIZE)) {
        return grow(inode, call, end, NULL);
    }
    /* An entry must not have more clusters than its size needs: this is a promise in core only,
     * kept until the file is truncated or nobody knows it any more. */
    r = fat_reserve(base, end);
    if (r == 0) {
        inode->kept = MAX(inode->kept, fat_clusters_for(fat_inode_volume(inode), end));
    } else {
        fat_unreserve(base, base->attr.size);
    }
    return r;
}
