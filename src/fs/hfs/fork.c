/* SPDX-License-Identifier: MIT */
/*
 * Forks: their extents in core, as groups of three as they lie on disk, and how they get longer and
 * shorter. Group 0 is in the catalog record (or the MDB), the others are records of
 * the extents overflow tree.
 *
 * Locks: the inode's; for the trees' own forks none, as they change in bodies only.
 */
#include "types.h"

/* Groups that there is room for beyond what a fork is about to get: its tree may grow once more in
 * the same transaction. */
#define ROOM_SPARE 32u

/* ---- runs ---- */

void hfs_runs_done(HfsRuns *runs) {
    free(runs->runs);
    *runs = (HfsRuns){0};
}

int hfs_runs_append(HfsRuns *runs, uint32_t start, uint32_t count) {
    HfsExtent *last = runs->count > 0 ? &runs->runs[runs->count - 1] : NULL;

    if (last != NULL && (uint32_t)last->start + last->count == start &&
        last->count + count <= UINT16_MAX) {
        last->count = (uint16_t)(last->count + count);
        runs->blocks += count;
        return 0;
    }
    if (runs->count == runs->capacity) {
        uint32_t capacity = MAX(runs->capacity * 2, 4u);
        HfsExtent *grown = realloc(runs->runs, capacity * sizeof(*grown));

        if (grown == NULL) {
            return -ENOMEM;
        }
        runs->runs = grown;
        runs->capacity = capacity;
    }
    runs->runs[runs->count++] = (HfsExtent){(uint16_t)start, (uint16_t)count};
    runs->blocks += count;
    return 0;
}

void hfs_runs_drop_head(HfsRuns *runs, uint32_t blocks) {
    uint32_t gone = 0;

    assert(blocks <= runs->blocks);
    runs->blocks -= blocks;
    while (blocks > 0) {
        HfsExtent *run = &runs->runs[gone];
        uint32_t part = MIN(blocks, run->count);

        run->start = (uint16_t)(run->start + part);
        run->count = (uint16_t)(run->count - part);
        blocks -= part;
        gone += run->count == 0;
    }
    runs->count -= gone;
    if (gone > 0) {
        memmove(runs->runs, runs->runs + gone, runs->count * sizeof(*runs->runs));
    }
}

void hfs_runs_truncate(HfsRuns *runs, uint32_t blocks) {
    while (runs->blocks > blocks) {
        HfsExtent *last = &runs->runs[runs->count - 1];
        uint32_t part = MIN(runs->blocks - blocks, last->count);

        last->count = (uint16_t)(last->count - part);
        runs->blocks -= part;
        runs->count -= last->count == 0;
    }
}

bool hfs_runs_find(const HfsRuns *runs, uint32_t index, uint32_t *ret_start, uint32_t *ret_count) {
    for (uint32_t i = 0; i < runs->count; i++) {
        if (index < runs->runs[i].count) {
            *ret_start = runs->runs[i].start + index;
            *ret_count = runs->runs[i].count - index;
            return true;
        }
        index -= runs->runs[i].count;
    }
    return false;
}

/* ---- groups ---- */

static uint32_t group_blocks(const HfsExtent extents[HFS_EXTENTS_IN_RECORD]) {
    return (uint32_t)extents[0].count + extents[1].count + extents[2].count;
}

static int groups_room(HfsFork *fork, uint32_t extra) {
    uint32_t capacity = fork->count + extra;
    HfsGroup *grown;

    if (capacity <= fork->capacity) {
        return 0;
    }
    capacity = MAX(capacity, fork->capacity * 2);
    grown = realloc(fork->groups, capacity * sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    fork->groups = grown;
    fork->capacity = capacity;
    return 0;
}

static int groups_add(HfsFork *fork, const HfsExtent extents[HFS_EXTENTS_IN_RECORD]) {
    HfsGroup *group;
    int r = groups_room(fork, 1);

    if (r < 0) {
        return r;
    }
    group = &fork->groups[fork->count++];
    group->first = fork->blocks;
    memcpy(group->extents, extents, sizeof(group->extents));
    fork->blocks += group_blocks(extents);
    return 0;
}

bool hfs_fork_find(const HfsFork *fork, uint32_t index, uint32_t *ret_start, uint32_t *ret_count) {
    uint32_t low = 0, high = fork->count;
    const HfsGroup *group;

    if (index >= fork->blocks) {
        return false;
    }
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;

        if (fork->groups[middle].first <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    group = &fork->groups[low];
    index -= group->first;
    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD; i++) {
        if (index < group->extents[i].count) {
            *ret_start = group->extents[i].start + index;
            *ret_count = group->extents[i].count - index;
            return true;
        }
        index -= group->extents[i].count;
    }
    return false;
}

/* The last extent of a group, NULL: it is empty. */
static HfsExtent *group_last(HfsGroup *group) {
    for (unsigned i = HFS_EXTENTS_IN_RECORD; i > 0; i--) {
        if (group->extents[i - 1].count > 0) {
            return &group->extents[i - 1];
        }
    }
    return NULL;
}

uint32_t hfs_fork_goal(const HfsFork *fork) {
    const HfsExtent *last = NULL;

    if (fork->reserved.count > 0) {
        last = &fork->reserved.runs[fork->reserved.count - 1];
    } else if (fork->count > 0) {
        last = group_last(&fork->groups[fork->count - 1]);
    }
    return last != NULL ? (uint32_t)last->start + last->count : 0;
}

const HfsExtent *hfs_fork_first(const HfsFork *fork) {
    static const HfsExtent none[HFS_EXTENTS_IN_RECORD];

    return fork->count > 0 ? fork->groups[0].extents : none;
}

/* ---- loading ---- */

static bool overlaps_tree(const HfsTree *tree, const HfsExtent *extent) {
    for (uint32_t i = 0; i < tree->fork.count; i++) {
        for (unsigned n = 0; n < HFS_EXTENTS_IN_RECORD; n++) {
            const HfsExtent *other = &tree->fork.groups[i].extents[n];

            if (extent->start < other->start + other->count &&
                other->start < extent->start + extent->count) {
                return true;
            }
        }
    }
    return false;
}

/* Inside the volume, and not where a tree lies: what is written to a file must not go there. */
static int check_extents(HfsVolume *volume, uint32_t cnid,
                         const HfsExtent extents[HFS_EXTENTS_IN_RECORD]) {
    Corruption corruption;

    if (hfs_extents_check(&volume->mdb, extents, "extents", cnid, &corruption) < 0) {
        return report_corruption(volume->base.reporter, &corruption, false);
    }
    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD; i++) {
        if (cnid >= HFS_CNID_FIRST_USER && extents[i].count > 0 &&
            (overlaps_tree(&volume->catalog, &extents[i]) ||
             overlaps_tree(&volume->extents, &extents[i]))) {
            return report_corrupt(volume->base.reporter, false, "extents", cnid, "xdrStABN",
                                  extents[i].start, "it lies in the volume's own files");
        }
    }
    return 0;
}

static int load_overflow(HfsVolume *volume, HfsFork *fork, uint32_t cnid, uint8_t kind) {
    HfsDiskExtentKey key = hfs_extent_key(cnid, kind, (uint16_t)fork->blocks);
    HfsExtent extents[HFS_EXTENTS_IN_RECORD];
    HfsDiskExtentRecord disk = {0};
    int r = hfs_tree_lookup(volume, &volume->extents, NULL, &key, &disk, sizeof(disk));

    if (r < 0) {
        return r;
    }
    hfs_extents_decode(&disk, extents);
    if (r < (int)sizeof(disk) || extents[0].count == 0) {
        return report_corrupt(volume->base.reporter, false, "extents", cnid, "xdrNumABlks", 0,
                              "an overflow record without extents");
    }
    r = check_extents(volume, cnid, extents);
    return r < 0 ? r : groups_add(fork, extents);
}

int hfs_fork_load(HfsVolume *volume, HfsFork *fork, uint32_t cnid, uint8_t kind,
                  const HfsExtent first[HFS_EXTENTS_IN_RECORD], uint64_t size) {
    uint32_t need = hfs_blocks_for(volume, size);
    HfsFork loaded = {.loaded = true};
    int r = check_extents(volume, cnid, first);

    if (r == 0) {
        r = groups_add(&loaded, first);
    }
    while (r == 0 && loaded.blocks < need && loaded.blocks <= UINT16_MAX) {
        r = load_overflow(volume, &loaded, cnid, kind);
    }
    if (r == -ENOENT || (r == 0 && loaded.blocks < need)) {
        r = report_corrupt(volume->base.reporter, false, "extents", cnid, "allocated length", size,
                           "only %u blocks of %u are there", loaded.blocks, need);
    }
    if (r < 0 || fork->loaded) {
        free(loaded.groups); /* somebody else was here meanwhile */
        return r;
    }
    assert(fork->reserved.blocks == 0);
    *fork = loaded;
    return 0;
}

void hfs_fork_done(HfsVolume *volume, HfsFork *fork) {
    hfs_alloc_release(volume, &fork->reserved, 0);
    hfs_runs_done(&fork->reserved);
    free(fork->groups);
    *fork = (HfsFork){0};
}

/* ---- in bodies ---- */

/* *rank rises to the record's. */
static int group_store(Txn *txn, HfsVolume *volume, const HfsGroup *group, uint32_t cnid,
                       uint8_t kind, bool fresh, unsigned *rank) {
    HfsDiskExtentKey key = hfs_extent_key(cnid, kind, (uint16_t)group->first);
    HfsDiskExtentRecord disk;
    HfsView view;
    int r;

    if (cnid == HFS_CNID_EXTENTS) {
        return -ENOSPC; /* it cannot hold its own extents */
    }
    hfs_extents_encode(group->extents, &disk);
    hfs_view_init(&view, volume, &volume->extents, txn);
    r = fresh ? btree_insert(&view.tree, (const uint8_t *)&key, &disk, sizeof(disk))
              : btree_update(&view.tree, (const uint8_t *)&key, &disk, sizeof(disk));
    *rank = MAX(*rank, view.tree.put.rank);
    if (r == -EEXIST || r == -ENOENT) {
        r = report_corrupt(volume->base.reporter, true, "extents", cnid, "xkrFABN", group->first,
                           fresh ? "there is such a record already" : "the record is gone");
    }
    return r;
}

static int group_remove(Txn *txn, HfsVolume *volume, const HfsGroup *group, uint32_t cnid,
                        uint8_t kind) {
    HfsDiskExtentKey key = hfs_extent_key(cnid, kind, (uint16_t)group->first);
    HfsView view;
    int r;

    hfs_view_init(&view, volume, &volume->extents, txn);
    r = btree_remove(&view.tree, (const uint8_t *)&key);
    if (r == -ENOENT) {
        r = report_corrupt(volume->base.reporter, true, "extents", cnid, "xkrFABN", group->first,
                           "the record is gone");
    }
    return r;
}

static int fork_save(Txn *txn, HfsFork *fork) {
    int r = txn_save(txn, &fork->count, sizeof(fork->count));

    if (r == 0) {
        r = txn_save(txn, &fork->joining, sizeof(fork->joining));
    }
    if (r == 0) {
        r = txn_save(txn, &fork->blocks, sizeof(fork->blocks));
    }
    if (r == 0 && fork->count > 0) {
        HfsGroup *last = &fork->groups[fork->count - 1];
        r = txn_save(txn, last, sizeof(*last));
    }
    return r;
}

/* Puts a run behind the others, in the last group or (there is room) a new one. */
static void fork_add(HfsFork *fork, uint32_t start, uint32_t count) {
    HfsGroup *group = &fork->groups[fork->count - 1];
    HfsExtent *last = group_last(group);
    HfsExtent *next = last == NULL ? group->extents : last + 1;

    if (last != NULL && (uint32_t)last->start + last->count == start) {
        last->count = (uint16_t)(last->count + count);
    } else {
        if (next == group->extents + HFS_EXTENTS_IN_RECORD) {
            group = &fork->groups[fork->count++];
            *group = (HfsGroup){.first = fork->blocks};
            next = group->extents;
        }
        *next = (HfsExtent){(uint16_t)start, (uint16_t)count};
    }
    fork->blocks += count;
}

static void append_done(void *arg) {
    HfsFork *fork = arg;

    hfs_runs_drop_head(&fork->reserved, fork->joining);
    fork->joining = 0;
}

int hfs_fork_room(HfsFork *fork) {
    return groups_room(fork, fork->reserved.count / HFS_EXTENTS_IN_RECORD + ROOM_SPARE);
}

/* Promised runs, but for those that joined in this transaction already, become extents. */
static int append_runs(Txn *txn, HfsVolume *volume, HfsFork *fork, uint32_t blocks) {
    uint32_t skip = fork->joining;
    int r = 0;

    for (uint32_t i = 0; r == 0 && blocks > 0; i++) {
        HfsExtent run = fork->reserved.runs[i];
        uint32_t skipped = MIN(skip, run.count), part = MIN(run.count - skipped, blocks);

        skip -= skipped;
        if (part == 0) {
            continue;
        }
        if (fork->count == fork->capacity) {
            return -ENOMEM; /* it must not move any more: parts of it are saved */
        }
        r = hfs_alloc_use(txn, volume, run.start + skipped, part);
        if (r == 0) {
            fork_add(fork, run.start + skipped, part);
        }
        blocks -= part;
    }
    return r;
}

int hfs_fork_append(Txn *txn, HfsVolume *volume, HfsFork *fork, uint32_t cnid, uint8_t kind,
                    uint32_t blocks, unsigned *rank) {
    uint32_t before = fork->count, old_blocks = fork->blocks;
    int r = 0;

    assert(fork->loaded && fork->count > 0 && blocks <= fork->reserved.blocks - fork->joining);
    if (fork->blocks + blocks > UINT16_MAX) {
        return -EFBIG;
    }
    if (fork->joining == 0) {
        r = hfs_fork_room(fork);
    }
    if (r == 0) {
        r = fork_save(txn, fork);
    }
    if (r == 0) {
        r = append_runs(txn, volume, fork, blocks);
    }
    for (uint32_t i = MAX(before, 2u) - 1; r == 0 && i < fork->count; i++) {
        const HfsGroup *group = &fork->groups[i];

        if (group->first + group_blocks(group->extents) > old_blocks) {
            r = group_store(txn, volume, group, cnid, kind, i >= before, rank);
        }
    }
    if (r == 0) {
        r = txn_on_commit(txn, append_done, fork);
    }
    fork->joining += blocks;
    return r;
}

/* Frees what lies in the group from its block `keep` on. */
static int group_cut(Txn *txn, HfsVolume *volume, HfsGroup *group, uint32_t keep) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < HFS_EXTENTS_IN_RECORD; i++) {
        HfsExtent *extent = &group->extents[i];
        uint32_t stays = MIN(keep, extent->count);

        if (extent->count > stays) {
            r = hfs_alloc_free(txn, volume, extent->start + stays, extent->count - stays);
        }
        keep -= stays;
        extent->count = (uint16_t)stays;
        extent->start = stays > 0 ? extent->start : 0;
    }
    return r;
}

int hfs_fork_cut(Txn *txn, HfsVolume *volume, HfsFork *fork, uint32_t cnid, uint8_t kind,
                 uint32_t keep, uint32_t groups_max) {
    unsigned rank = 0;
    int r = fork_save(txn, fork);

    assert(fork->loaded && fork->count > 0);
    while (r == 0 && fork->blocks > keep && groups_max-- > 0) {
        uint32_t index = fork->count - 1;
        HfsGroup *group = &fork->groups[index];
        uint32_t stays = keep > group->first ? keep - group->first : 0;

        r = txn_save(txn, group, sizeof(*group));
        if (r == 0) {
            r = group_cut(txn, volume, group, stays);
        }
        if (r == 0 && index > 0) {
            r = stays > 0 ? group_store(txn, volume, group, cnid, kind, false, &rank)
                          : group_remove(txn, volume, group, cnid, kind);
        }
        fork->blocks = group->first + stays;
        fork->count -= index > 0 && stays == 0;
    }
    return r;
}
