/* SPDX-License-Identifier: MIT */
/*
 * Where a file's bytes are, and how it grows: reserved blocks (in core only) take the data
 * first; write_commit makes them extents of the fork, sets size and times in one transaction. What
 * has too many pieces for one record joins the fork in steps before it: a fork may be longer than
 * its file.
 *
 * Locks: the inode's lock shared. Commits that grow a file come one at a time; reserve() may
 * run beside them, but does not suspend once the fork is loaded.
 */
#include "types.h"

/* Pieces of reserved space that join a fork in one transaction; halved when the log is small. */
#define JOIN_STEP 192u

int hfs_fork_extent(HfsInode *inode, HfsForkIndex index, uint64_t offset, uint32_t flags,
                    FsExtent *ret) {
    HfsVolume *volume = hfs_inode_volume(inode);
    const HfsFork *fork = &hfs_object(inode)->forks[index];
    uint64_t wanted = offset / volume->mdb.block_size, inside = offset % volume->mdb.block_size;
    uint64_t start_byte, length, limit = volume->base.device->size;
    uint32_t start, count;
    int r = hfs_inode_fork(inode, index);

    if (r < 0) {
        return r;
    }
    if (wanted > HFS_BLOCKS_MAX) {
        return -EFBIG;
    }
    if (!hfs_fork_find(fork, (uint32_t)wanted, &start, &count) &&
        (!(flags & FS_MAP_RESERVED) || wanted < fork->blocks ||
         !hfs_runs_find(&fork->reserved, (uint32_t)wanted - fork->blocks, &start, &count))) {
        return report_corrupt(volume->base.reporter, false, "catalog record", inode->cnid,
                              "logical length", inode->base.attr.size,
                              "only %u blocks are allocated", fork->blocks);
    }
    start_byte = hfs_block_sector(volume, start) * HFS_SECTOR + inside;
    length = (uint64_t)count * volume->mdb.block_size - inside;
    if (start_byte >= limit) {
        return -EIO; /* the device is shorter than the volume */
    }
    *ret = (FsExtent){.kind = FS_EXTENT_DATA,
                      .device_offset = start_byte,
                      .length = MIN(length, limit - start_byte)};
    return 0;
}

int hfs_map(FsInode *base, uint64_t offset, uint32_t flags, FsExtent *ret) {
    HfsInode *inode = hfs_inode(base);

    if (inode->face == HFS_FACE_DOUBLE && offset < inode->start) {
        return hfs_double_map(inode, offset, ret);
    }
    offset = hfs_stream_offset(inode, offset);
    return inode->directory ? -EISDIR
                            : hfs_fork_extent(inode, hfs_stream(inode), offset, flags, ret);
}

int hfs_reserve(FsInode *base, uint64_t end) {
    HfsInode *inode = hfs_inode(base);
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsFork *fork = &hfs_object(inode)->forks[hfs_stream(inode)];
    uint32_t need, have;
    uint64_t size;
    int r;

    end = hfs_stream_offset(inode, end);
    size = hfs_stream_offset(inode, base->attr.size);
    if (end > HFS_FILE_SIZE_MAX) {
        return -EFBIG;
    }
    r = hfs_inode_fork(inode, hfs_stream(inode));
    if (r < 0) {
        return r;
    }
    need = hfs_blocks_for(volume, end);
    have = fork->blocks + fork->reserved.blocks;
    if (need > HFS_BLOCKS_MAX) {
        return -ENOSPC;
    }
    if (fork->blocks < hfs_blocks_for(volume, size)) {
        return report_corrupt(volume->base.reporter, true, "catalog record", inode->cnid,
                              "logical length", size, "only %u blocks are allocated", fork->blocks);
    }
    return need <= have
               ? 0
               : hfs_alloc_reserve(volume, hfs_fork_goal(fork), need - have, &fork->reserved);
}

void hfs_unreserve(FsInode *base, uint64_t keep_end) {
    HfsInode *inode = hfs_inode(base);
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsFork *fork = &hfs_object(inode)->forks[hfs_stream(inode)];
    uint64_t keep = div_ceil(hfs_stream_offset(inode, keep_end), volume->mdb.block_size);
    uint32_t from = keep > fork->blocks
                        ? (uint32_t)MIN(keep - fork->blocks, (uint64_t)fork->reserved.blocks)
                        : 0;

    hfs_alloc_release(volume, &fork->reserved, from);
    hfs_runs_truncate(&fork->reserved, from);
}

/* ---- committing ---- */

typedef struct Commit {
    HfsInode *inode;
    uint32_t join; /* reserved blocks that join the fork */
    bool visible;  /* size and times change as well: the last step */
    uint64_t size; /* new size, if larger */
    int64_t time_ns;
    const FsSetattr *set;
} Commit;

static int commit_body(Txn *txn, void *arg) {
    const Commit *commit = arg;
    HfsInode *inode = commit->inode;
    HfsVolume *volume = hfs_inode_volume(inode);
    HfsForkIndex index = hfs_stream(inode);
    HfsFork *fork = &hfs_object(inode)->forks[index];
    unsigned rank = 0;
    HfsRecord record;
    int r = hfs_inode_record_get(inode, txn, &record);

    if (r == 0 && commit->join > 0) {
        r = hfs_fork_append(txn, volume, fork, inode->cnid, hfs_fork_kind(index), commit->join,
                            &rank);
        if (r == 0) {
            hfs_record_set_fork(volume, &record, index, fork);
        }
    }
    if (r < 0) {
        return r;
    }
    if (commit->visible) {
        hfs_record_set_size(&record, index,
                            MAX(commit->size, (uint64_t)hfs_record_size(&record, index)));
        record.file.modified = hfs_time_encode(commit->time_ns, volume->time_offset_ns);
        if (commit->set != NULL) {
            hfs_record_apply(volume, commit->set, &record);
        }
    }
    r = hfs_inode_record_put(txn, inode, &record);
    return r == 0 ? hfs_mdb_touch(txn, volume, commit->time_ns) : r;
}

/* Blocks of the first `pieces` runs, at most `most`. */
static uint32_t blocks_in(const HfsRuns *runs, uint32_t pieces, uint32_t most) {
    uint32_t blocks = 0;

    for (uint32_t i = 0; i < MIN(pieces, runs->count); i++) {
        blocks += runs->runs[i].count;
    }
    return MIN(blocks, most);
}

/* Reserved blocks join until the fork has `need`; the last step carries the reply. */
static int commit_run(const FsCall *call, Commit *commit, uint32_t need, bool visible) {
    HfsVolume *volume = hfs_inode_volume(commit->inode);
    const HfsFork *fork = &hfs_object(commit->inode)->forks[hfs_stream(commit->inode)];
    uint32_t pieces = JOIN_STEP;

    for (;;) {
        uint32_t rest = fork->loaded && need > fork->blocks ? need - fork->blocks : 0;
        bool last;
        int r;

        assert(rest <= fork->reserved.blocks);
        commit->join = blocks_in(&fork->reserved, pieces, rest);
        last = commit->join == rest;
        commit->visible = last && visible;
        r = txn_run(volume->base.cache, last ? call->reply : NULL, commit_body, commit);
        if (r == -E2BIG && pieces > 1) {
            pieces /= 2;
            continue;
        }
        if (r < 0 || last) {
            return r;
        }
    }
}

int hfs_grow_commit(HfsInode *inode, const FsCall *call, uint64_t size, const FsSetattr *set) {
    Commit commit = {.inode = inode, .time_ns = call->time_ns, .set = set};

    size = hfs_stream_offset(inode, size);
    commit.size = size;

    return commit_run(call, &commit, hfs_blocks_for(hfs_inode_volume(inode), size), true);
}

int hfs_allocate_commit(HfsInode *inode, const FsCall *call, uint64_t end) {
    Commit commit = {.inode = inode, .time_ns = call->time_ns};
    int r = hfs_reserve(&inode->base, end);

    if (r == 0) {
        r = commit_run(call, &commit,
                       hfs_blocks_for(hfs_inode_volume(inode), hfs_stream_offset(inode, end)),
                       false);
    }
    if (r < 0) {
        hfs_unreserve(&inode->base, inode->base.attr.size);
    }
    return r;
}

int hfs_write_commit(FsInode *inode, const FsCall *call, uint64_t offset, uint64_t length) {
    return hfs_grow_commit(hfs_inode(inode), call, offset + length, NULL);
}
