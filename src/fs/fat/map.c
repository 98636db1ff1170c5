/* SPDX-License-Identifier: MIT */
/*
 * Where a file's bytes are, and how it grows: reserved clusters (in core only)
 * take the data first; write_commit links them, sets size and times in one
 * transaction. What does not fit one record is linked in steps before it, as a
 * chain beyond the end of the file.
 *
 * Locks: the inode's lock shared. Commits that grow a file come one at a time;
 * reserve() may run beside them, so it collects its clusters privately and adds
 * them between suspensions.
 */
#include "types.h"

/* Clusters linked by one transaction; halved when the log is too small. */
#define LINK_STEP 8192u
/* Bytes for which a chain is walked ahead of the offset asked for. */
#define MAP_AHEAD (1024u * 1024u)

/* ---- map ---- */

static int extent_at(FatVolume *volume, const FatRunList *list, uint32_t index, uint64_t offset,
                     FsExtent *ret) {
    const FatRun *run = fat_runs_find(list, index);
    uint64_t inside = offset & (volume->geo.cluster_size - 1);
    uint64_t start = fat_cluster_offset(&volume->geo, run->cluster + (index - run->index));
    uint64_t length = (uint64_t)(run->index + run->count - index) << volume->geo.cluster_shift;
    uint64_t limit = volume->base.device->size;

    start += inside;
    length -= inside;
    if (start >= limit) {
        return -EIO; /* the device is shorter than the volume */
    }
    *ret = (FsExtent){
        .kind = FS_EXTENT_DATA, .device_offset = start, .length = MIN(length, limit - start)};
    return 0;
}

int fat_map(FsInode *base, uint64_t offset, uint32_t flags, FsExtent *ret) {
    FatInode *inode = fat_inode(base);
    FatVolume *volume = fat_inode_volume(inode);
    uint64_t wanted = offset >> volume->geo.cluster_shift;
    FatChain *chain = &inode->chain;
    uint32_t index;
    int r;

    if (inode->directory || offset > FAT_FILE_SIZE_MAX) {
        return inode->directory ? -EISDIR : -EFBIG;
    }
    index = (uint32_t)wanted;
    r = fat_chain_load(volume, chain, index + 1, false);
    if (r < 0) {
        return r;
    }
    if (index < chain->runs.length) {
        uint64_t end = MIN(base->attr.size, offset + MAP_AHEAD);
        if (!chain->damaged && end > offset) {
            (void)fat_chain_load(volume, chain, fat_clusters_for(volume, end), false);
        }
        return extent_at(volume, &chain->runs, index, offset, ret);
    }
    index -= chain->runs.length;
    if (flags & FS_MAP_RESERVED && index < inode->reserved.length) {
        return extent_at(volume, &inode->reserved, index, offset, ret);
    }
    return report_corrupt(volume->base.reporter, false, "directory entry", inode->entry,
                          "DIR_FileSize", base->attr.size, "only %u clusters are allocated",
                          chain->runs.length);
}

/* ---- reserving ---- */

int fat_reserve(FsInode *base, uint64_t end) {
    FatInode *inode = fat_inode(base);
    FatVolume *volume = fat_inode_volume(inode);
    FatChain *chain = &inode->chain;
    uint32_t need, have, goal;
    int r;

    if (end > FAT_FILE_SIZE_MAX) {
        return -EFBIG;
    }
    need = fat_clusters_for(volume, end);
    r = fat_chain_load(volume, chain, need, true);
    if (r < 0) {
        return r;
    }
    while ((have = chain->runs.length + inode->reserved.length) < need) {
        FatRunList fresh = {0};

        if (chain->runs.length < fat_clusters_for(volume, base->attr.size)) {
            return report_corrupt(volume->base.reporter, true, "directory entry", inode->entry,
                                  "DIR_FileSize", base->attr.size, "only %u clusters are allocated",
                                  chain->runs.length);
        }
        goal = fat_runs_last(inode->reserved.length > 0 ? &inode->reserved : &chain->runs);
        r = fat_alloc_reserve(volume, goal == 0 ? 0 : goal + 1, need - have, &fresh);
        if (r == 0) {
            r = fat_runs_room(&inode->reserved, fresh.count);
        }
        if (r == 0 && chain->runs.length + inode->reserved.length == have) {
            for (uint32_t i = 0; i < fresh.count; i++) {
                (void)fat_runs_append(&inode->reserved, fresh.runs[i].cluster,
                                      fresh.runs[i].count); /* room was made */
            }
        } else {
            fat_alloc_release(volume, &fresh, 0); /* failed, or reservations changed meanwhile */
        }
        fat_runs_done(&fresh);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

void fat_unreserve(FsInode *base, uint64_t keep_end) {
    FatInode *inode = fat_inode(base);
    FatVolume *volume = fat_inode_volume(inode);
    uint64_t keep = (keep_end + volume->geo.cluster_size - 1) >> volume->geo.cluster_shift;
    uint32_t linked = inode->chain.runs.length;
    uint32_t from;

    keep = MAX(keep, inode->kept);
    from = keep > linked ? (uint32_t)MIN(keep - linked, inode->reserved.length) : 0;

    fat_alloc_release(volume, &inode->reserved, from);
    fat_runs_truncate(&inode->reserved, from);
}

/* ---- committing ---- */

typedef struct Commit {
    FatInode *inode;
    uint32_t link; /* reserved clusters that join the chain */
    bool visible;  /* size and times change as well: the last step */
    uint64_t size; /* new size, if larger */
    int64_t time_ns;
    const FsSetattr *set;
} Commit;

/* The reserved runs are the chain's from now on. */
static void commit_done(void *arg) {
    const Commit *commit = arg;
    FatInode *inode = commit->inode;
    uint32_t rest = commit->link;

    for (uint32_t i = 0; rest > 0; i++) {
        const FatRun *run = &inode->reserved.runs[i];
        uint32_t part = MIN(run->count, rest);
        (void)fat_runs_append(&inode->chain.runs, run->cluster, part); /* room was made */
        rest -= part;
    }
    inode->chain.complete = true;
    fat_runs_drop_head(&inode->reserved, commit->link);
}

/* Cells of the new clusters, and the pointer to them from the old end. */
/*
 * The class for the old end's link to the new clusters. A sector is written whole, so where
 * it holds the new cells as well there is nothing to order, and fsync saves a flush.
 */
static FatClass link_class(FatVolume *volume, const Commit *commit, uint32_t last) {
    uint32_t rest = commit->link;

    for (uint32_t i = 0; rest > 0; i++) {
        const FatRun *run = &commit->inode->reserved.runs[i];
        uint32_t part = MIN(run->count, rest);

        if (!fat_table_same_sector(volume, last, run->cluster) ||
            !fat_table_same_sector(volume, last, run->cluster + part - 1)) {
            return FAT_CLASS_LINK;
        }
        rest -= part;
    }
    return FAT_CLASS_NEW;
}

static int link_reserved(Txn *txn, const Commit *commit) {
    FatInode *inode = commit->inode;
    FatVolume *volume = fat_inode_volume(inode);
    uint32_t last = fat_runs_last(&inode->chain.runs);
    uint32_t rest = commit->link;
    int r;

    for (uint32_t i = 0; rest > 0; i++) {
        const FatRun *run = &inode->reserved.runs[i];
        uint32_t part = MIN(run->count, rest);
        rest -= part;
        r = fat_table_link(txn, volume, run->cluster, part,
                           rest > 0 ? run[1].cluster : FAT_CELL_END, FAT_CLASS_NEW);
        if (r < 0) {
            return r;
        }
    }
    if (last != 0) {
        r = fat_table_link(txn, volume, last, 1, inode->reserved.runs[0].cluster,
                           link_class(volume, commit, last));
        if (r < 0) {
            return r;
        }
    }
    return fat_alloc_use_list(txn, volume, &inode->reserved, commit->link);
}

static int commit_body(Txn *txn, void *arg) {
    Commit *commit = arg;
    FatInode *inode = commit->inode;
    FatVolume *volume = fat_inode_volume(inode);
    bool first = commit->link > 0 && inode->chain.runs.length == 0;
    FatDiskEntry disk;
    int r;

    if (commit->link > 0) {
        r = link_reserved(txn, commit);
        if (r == 0) {
            r = txn_on_commit(txn, commit_done, commit);
        }
        if (r < 0) {
            return r;
        }
    }
    if (!first && !commit->visible) {
        return 0;
    }
    r = fat_inode_entry_get(inode, &disk);
    if (r < 0) {
        return r;
    }
    if (first) {
        fat_entry_set_cluster(&volume->geo, &disk, inode->reserved.runs[0].cluster);
    }
    if (commit->visible) {
        disk.size = le32_make((uint32_t)MAX(commit->size, inode->base.attr.size));
        disk.attributes |= FAT_ATTR_ARCHIVE;
        fat_entry_set_mtime(&volume->geo, &disk, commit->time_ns);
        if (commit->set != NULL) {
            fat_entry_apply(inode, commit->set, &disk);
        }
    }
    return fat_inode_entry_put(txn, inode, &disk);
}

int fat_grow_commit(FatInode *inode, const FsCall *call, uint64_t size, const FsSetattr *set) {
    FatVolume *volume = fat_inode_volume(inode);
    Commit commit = {.inode = inode, .size = size, .time_ns = call->time_ns, .set = set};
    uint32_t need = fat_clusters_for(volume, size);
    uint32_t limit = LINK_STEP;

    for (;;) {
        uint32_t linked = inode->chain.runs.length;
        uint32_t rest = inode->chain.complete && need > linked ? need - linked : 0;
        int r;

        assert(rest <= inode->reserved.length);
        commit.link = MIN(rest, limit);
        commit.visible = commit.link == rest;
        fat_table_prefetch_write(volume, &inode->reserved, 0, commit.link);
        r = fat_runs_room(&inode->chain.runs, inode->reserved.count);
        if (r == 0) {
            r = txn_run(volume->base.cache, commit.visible ? call->reply : NULL, commit_body,
                        &commit);
        }
        if (r == -E2BIG && limit > 1) {
            limit = MAX(commit.link / 2, 1u);
            continue;
        }
        if (r < 0 || commit.visible) {
            return r;
        }
    }
}

int fat_write_commit(FsInode *inode, const FsCall *call, uint64_t offset, uint64_t length) {
    return fat_grow_commit(fat_inode(inode), call, offset + length, NULL);
}
