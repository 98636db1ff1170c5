/* SPDX-License-Identifier: MIT */
/*
 * The volume's two B*-trees as sources of nodes: through the cache, in a body with its
 * transaction, or outside one. Outside, a read may suspend, and a body of somebody else may
 * change the tree meanwhile; the nodes already seen are then worth nothing. So a view notes
 * tree_changes when it begins, and gives -EAGAIN when that is no longer true.
 *
 * A tree's file grows in the body that needs the nodes, which are zeros: Apple's checker finds
 * fault with a free node that holds anything. So a tree grows by no more than can be noted as
 * zeros in a small log. First the overflow tree has the new extents, if it has any of them, then
 * the MDB the file's new length, and nodes behind its former end have no lower rank than
 * that: so the file can be read at every moment.
 *
 * A node's rank (btree.h) is the class that it is written in.
 */
#include "types.h"

#define GROW_BYTES (128u * 1024)
#define GROW_ZERO_NODES 512u

static int view_sector(HfsView *view, uint32_t node, uint64_t *ret) {
    HfsVolume *volume = view->volume;
    uint64_t offset = (uint64_t)node * HFS_NODE_SIZE;
    uint32_t start, count;

    if (offset / volume->mdb.block_size > UINT16_MAX ||
        !hfs_fork_find(&view->which->fork, (uint32_t)(offset / volume->mdb.block_size), &start,
                       &count)) {
        return -ERANGE;
    }
    *ret = hfs_block_sector(volume, start) + offset % volume->mdb.block_size / HFS_SECTOR;
    return 0;
}

/*
 * With the first node of a window come its neighbours, in one read: leaves that follow one another
 * in the tree mostly do so in its file, and a node alone costs the device as much. What the cache
 * drops again is read node by node.
 */
static int view_read_around(HfsView *view, uint32_t node, uint64_t sector) {
    uint32_t window = node / HFS_WINDOW_NODES, first = node, end = node + 1;
    uint32_t *seen = &view->which->windows[window % HFS_WINDOWS];
    uint64_t other;
    int r;

    if (*seen == window + 1) {
        return 0;
    }
    *seen = window + 1;
    while (first > window * HFS_WINDOW_NODES && view_sector(view, first - 1, &other) == 0 &&
           other + (node - first + 1) == sector) {
        first--;
    }
    while (end < (window + 1) * HFS_WINDOW_NODES && view_sector(view, end, &other) == 0 &&
           other == sector + (end - node)) {
        end++;
    }
    r = cache_prefetch(view->volume->base.cache, sector - (node - first), end - first);
    return r == -ERESTART ? r : 0; /* the rest is a hint */
}

static int view_get(HfsView *view, uint32_t node, Buffer **ret) {
    uint64_t sector;
    int r = view_sector(view, node, &sector);

    if (r == 0) {
        r = view_read_around(view, node, sector);
    }
    if (r == 0) {
        r = cache_get(view->volume->base.cache, sector, ret);
        r = r == -ERANGE ? -EIO : r; /* the device is shorter than the volume */
    }
    return r;
}

static int view_read(BtreeSource *source, uint32_t node, uint8_t *out) {
    HfsView *view = container_of(source, HfsView, source);
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r = view_get(view, node, &buffer);

    if (r < 0) {
        return r;
    }
    if (view->txn == NULL && view->expected != view->volume->tree_changes) {
        return -EAGAIN;
    }
    memcpy(out, buffer->data, HFS_NODE_SIZE);
    return 0;
}

static bool view_has_grown(const HfsView *view, uint32_t node) {
    const HfsGrowth *growth = &view->which->growth;

    return node >= growth->from && growth->known && growth->batch == txn_batch(view->txn);
}

static unsigned view_rank(BtreeSource *source, uint32_t node, uint32_t offset, uint32_t length) {
    HfsView *view = container_of(source, HfsView, source);
    unsigned least = view_has_grown(view, node) ? view->which->growth.rank : 0, rank;
    uint64_t sector;

    if (view_sector(view, node, &sector) < 0) {
        return least; /* whoever asks finds out */
    }
    rank = txn_class_written(view->txn, sector, offset, length);
    return MAX(rank, least);
}

/* A change that takes more ranks than there are classes begins a batch, where all are free again.
 */
static int view_class(HfsView *view, unsigned *rank) {
    if (*rank < TXN_CLASS_MAX) {
        return 0;
    }
    *rank = TXN_CLASS_MAX - 1; /* no change takes more by itself */
    return txn_separate(view->txn);
}

static int view_write(BtreeSource *source, uint32_t node, uint32_t offset, const uint8_t *bytes,
                      uint32_t length, unsigned rank) {
    HfsView *view = container_of(source, HfsView, source);
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r = view_get(view, node, &buffer);

    if (r == 0) {
        r = view_class(view, &rank);
    }
    if (r < 0) {
        return r;
    }
    view->volume->tree_changes++;
    return txn_write(view->txn, buffer, offset, bytes, length, rank);
}

/* So that what lay there need not be read. */
static int view_fresh(BtreeSource *source, uint32_t node, unsigned rank) {
    HfsView *view = container_of(source, HfsView, source);
    Buffer *buffer = NULL;
    uint64_t sector;
    int r = view_sector(view, node, &sector);

    if (r == 0) {
        r = view_class(view, &rank);
    }
    if (r == 0) {
        view->volume->tree_changes++;
        r = txn_new_block(view->txn, sector, rank, &buffer);
    }
    if (r == 0) {
        cache_put(buffer);
    }
    return r;
}

static int view_corrupt(BtreeSource *source, const Corruption *corruption) {
    HfsView *view = container_of(source, HfsView, source);

    return report_corruption(view->volume->base.reporter, corruption, view->txn != NULL);
}

/* ---- growth ---- */

/* What a tree has been promised is the transaction's that asked for it. */
static void grow_aborted(void *arg) {
    HfsTree *which = arg;
    HfsVolume *volume = which->volume;

    volume->alloc.reserved += which->fork.reserved.blocks; /* as it was before has been restored */
    hfs_alloc_release(volume, &which->fork.reserved, 0);
    hfs_runs_truncate(&which->fork.reserved, 0);
}

/*
 * A clump (GROW_BYTES of it at the most), or what can be had. The overflow file has room for three
 * extents and no more, so it doubles, and takes one piece at a time.
 */
static int grow_reserve(HfsView *view, uint32_t clump) {
    HfsVolume *volume = view->volume;
    HfsFork *fork = &view->which->fork;
    bool one_piece = view->which == &volume->extents;
    uint32_t before = fork->reserved.blocks, pieces = fork->reserved.count;
    uint32_t want = MAX(MIN(clump, GROW_BYTES) / volume->mdb.block_size, 1u);
    int r = -ENOSPC;

    want = MIN(one_piece ? MAX(want, fork->blocks) : want, (uint32_t)volume->mdb.free_blocks);
    for (; r == -ENOSPC && want > 0; want /= 2) {
        r = hfs_alloc_reserve(volume, hfs_fork_goal(fork), want, &fork->reserved);
        if (r == 0 && one_piece && fork->reserved.count > pieces + 1 && want > 1) {
            hfs_alloc_release(volume, &fork->reserved, before);
            hfs_runs_truncate(&fork->reserved, before);
            r = -ENOSPC;
        }
    }
    return r;
}

/* More than that, as when a large overflow file doubles, is left as it is: whoever takes a node
 * writes all of it. */
static int grow_zero(BtreeSource *source, uint32_t from, uint32_t to) {
    int r = 0;

    for (uint32_t node = from; r == 0 && to - from <= GROW_ZERO_NODES && node < to; node++) {
        r = view_fresh(source, node, view_rank(source, node, 0, HFS_NODE_SIZE));
    }
    return r;
}

/* The MDB says with this rank that the file goes on. */
static int grow_note(const HfsView *view, uint32_t from, unsigned rank) {
    HfsGrowth *growth = &view->which->growth;
    uint64_t batch = txn_batch(view->txn);
    int r = txn_save(view->txn, growth, sizeof(*growth));

    if (r < 0) {
        return r;
    }
    if (!growth->known || growth->batch != batch) {
        *growth = (HfsGrowth){.known = true, .from = from, .batch = batch, .rank = rank};
    }
    growth->rank = MAX(growth->rank, rank);
    return 0;
}

static int view_grow(BtreeSource *source, uint32_t node_count, uint32_t *ret_count) {
    HfsView *view = container_of(source, HfsView, source);
    HfsVolume *volume = view->volume;
    HfsTree *which = view->which;
    bool catalog = which == &volume->catalog;
    uint32_t *size = catalog ? &volume->mdb.catalog_size : &volume->mdb.extents_size;
    HfsExtent *first = catalog ? volume->mdb.catalog_file : volume->mdb.extents_file;
    unsigned rank = 0;
    uint64_t bytes;
    int r = hfs_mdb_save(view->txn, volume);

    if (r == 0) {
        r = txn_save(view->txn, &volume->alloc.reserved, sizeof(volume->alloc.reserved));
    }
    if (r == 0) {
        /* A body that is made again must come to the same blocks, or it might never end. */
        r = txn_save(view->txn, &volume->alloc.hint, sizeof(volume->alloc.hint));
    }
    if (r == 0) {
        r = txn_on_abort(view->txn, grow_aborted, which);
    }
    if (r == 0) {
        r = grow_reserve(view, catalog ? volume->mdb.catalog_clump : volume->mdb.extents_clump);
    }
    if (r == 0) {
        r = hfs_fork_append(view->txn, volume, &which->fork, which->cnid, HFS_FORK_DATA,
                            which->fork.reserved.blocks - which->fork.joining, &rank);
    }
    if (r == 0) {
        unsigned least = hfs_mdb_trees_class(view->txn);

        rank = MAX(rank > 0 ? rank + 1 : 0, least);
        r = view_class(view, &rank);
    }
    if (r == 0) {
        r = grow_note(view, node_count, rank);
    }
    if (r < 0) {
        return r;
    }
    bytes = (uint64_t)which->fork.blocks * volume->mdb.block_size;
    if (bytes > HFS_FILE_SIZE_MAX || bytes / HFS_NODE_SIZE <= node_count) {
        return -ENOSPC;
    }
    *size = (uint32_t)bytes;
    memcpy(first, hfs_fork_first(&which->fork), HFS_EXTENTS_IN_RECORD * sizeof(*first));
    *ret_count = (uint32_t)(bytes / HFS_NODE_SIZE);
    r = grow_zero(source, node_count, *ret_count);
    return r == 0 ? hfs_mdb_grown(view->txn, volume, rank) : r;
}

/* ---- views ---- */

void hfs_view_init(HfsView *view, HfsVolume *volume, HfsTree *which, Txn *txn) {
    *view = (HfsView){
        .source = {.node_size = HFS_NODE_SIZE, .read = view_read, .corrupt = view_corrupt},
        .tree = {.format = which->format, .source = &view->source, .free_hint = &which->free_hint},
        .volume = volume,
        .which = which,
        .txn = txn,
        .expected = volume->tree_changes,
    };
    if (txn != NULL) {
        view->source.write = view_write;
        view->source.fresh = view_fresh;
        view->source.rank = view_rank;
        view->source.grow = view_grow;
    }
}

int hfs_tree_lookup(HfsVolume *volume, HfsTree *which, Txn *txn, const void *key, void *out,
                    unsigned capacity) {
    HfsView view;
    int r;

    do {
        hfs_view_init(&view, volume, which, txn);
        r = btree_lookup(&view.tree, key, out, capacity);
    } while (r == -EAGAIN && txn == NULL);
    return r;
}

static int tree_open(HfsVolume *volume, HfsTree *which, uint32_t size,
                     const HfsExtent first[HFS_EXTENTS_IN_RECORD]) {
    HfsView view;
    int r = hfs_fork_load(volume, &which->fork, which->cnid, HFS_FORK_DATA, first, size);

    if (r == 0) {
        hfs_view_init(&view, volume, which, NULL);
        r = btree_open(&view.tree, which->format, &view.source,
                       (uint64_t)which->fork.blocks * volume->mdb.block_size / HFS_NODE_SIZE);
    }
    return r;
}

/* The overflow file first: the catalog's own extents may go on there. */
int hfs_trees_open(HfsVolume *volume) {
    int r;

    volume->extents =
        (HfsTree){.volume = volume, .format = &hfs_extents_format, .cnid = HFS_CNID_EXTENTS};
    volume->catalog =
        (HfsTree){.volume = volume, .format = &hfs_catalog_format, .cnid = HFS_CNID_CATALOG};
    r = tree_open(volume, &volume->extents, volume->mdb.extents_size, volume->mdb.extents_file);
    if (r == 0) {
        r = tree_open(volume, &volume->catalog, volume->mdb.catalog_size, volume->mdb.catalog_file);
    }
    return r;
}

void hfs_trees_done(HfsVolume *volume) {
    hfs_fork_done(volume, &volume->catalog.fork);
    hfs_fork_done(volume, &volume->extents.fork);
}
