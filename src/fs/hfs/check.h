/* SPDX-License-Identifier: MIT */
/*
 * The parts of the HFS checker. Everything is read into memory: the two trees
 * as they are, the records of the catalog as an array in the order of their
 * keys. Passes look at that, and change it where a repair is wanted; the last
 * one writes what became different (check_store.c). Only copies of forks are
 * written before, to blocks that are free.
 */
#ifndef HFS_CHECK_H
#define HFS_CHECK_H

#include "berth/bitmap.h"
#include "berth/block.h"
#include "berth/check.h"
#include "codec.h"

/* In the order of hfs_problems. */
typedef enum HfsProblem {
    HFS_PROBLEM_MDB,
    HFS_PROBLEM_ALTERNATE,
    HFS_PROBLEM_NOT_CLEAN,
    HFS_PROBLEM_LOCKED,
    HFS_PROBLEM_SHORT,
    HFS_PROBLEM_TREE_PLACE,
    HFS_PROBLEM_TREE_HEADER,
    HFS_PROBLEM_TREE_NODE,
    HFS_PROBLEM_TREE_LINK,
    HFS_PROBLEM_TREE_ORDER,
    HFS_PROBLEM_TREE_INDEX,
    HFS_PROBLEM_TREE_MAP,
    HFS_PROBLEM_TREE_COUNT,
    HFS_PROBLEM_RECORD,
    HFS_PROBLEM_ROOT,
    HFS_PROBLEM_ROOT_NAME,
    HFS_PROBLEM_TWO_NAMES,
    HFS_PROBLEM_ID_TWICE,
    HFS_PROBLEM_ID_RESERVED,
    HFS_PROBLEM_NEXT_ID,
    HFS_PROBLEM_LOST,
    HFS_PROBLEM_LOOP,
    HFS_PROBLEM_THREAD_MISSING,
    HFS_PROBLEM_THREAD_WRONG,
    HFS_PROBLEM_THREAD_ORPHAN,
    HFS_PROBLEM_THREAD_FLAG,
    HFS_PROBLEM_VALENCE,
    HFS_PROBLEM_COUNTS,
    HFS_PROBLEM_EXTENT_RANGE,
    HFS_PROBLEM_EXTENT_TWICE,
    HFS_PROBLEM_EXTENT_ORPHAN,
    HFS_PROBLEM_FORK_ALLOCATED,
    HFS_PROBLEM_FORK_SIZE,
    HFS_PROBLEM_BITMAP_FREE,
    HFS_PROBLEM_BITMAP_LOST,
    HFS_PROBLEM_FREE_COUNT,
    HFS_PROBLEM_COUNT,
} HfsProblem;

/* A tree's file in memory. */
typedef struct CheckTree {
    BtreeSource source;
    Btree tree;
    const BtreeFormat *format;
    uint8_t *bytes;
    uint8_t *original; /* as read */
    uint32_t nodes;
    HfsExtent *extents; /* where the file lies */
    unsigned extent_count;
    bool anew;      /* was made from its records */
    uint64_t *seen; /* by node: reached, or header or map */
    /* What was found in leaves beside another record with an equal key, which was taken. */
    BtreeRecord *others;
    size_t other_count;
} CheckTree;

/* A record of the catalog. */
typedef struct CheckEntry {
    HfsKey key;
    HfsRecord record;
    uint32_t children; /* of a directory: entries found in it */
    uint8_t reach;     /* of a directory: CheckReach */
    bool dropped;
} CheckEntry;

typedef enum CheckReach { REACH_UNKNOWN, REACH_WALKING, REACH_ROOT } CheckReach;

/* Where a file or directory with this id is in entries. */
typedef struct CheckId {
    uint32_t id;
    uint32_t entry;
} CheckId;

typedef struct Check {
    BlockDevice *device;
    CheckConfig config;
    CheckReporter *reporter;
    CheckResult result;
    char *text; /* CHECK_TEXT: why it cannot go on */
    HfsDiskMdb disk_mdb;
    HfsMdb mdb;
    bool mdb_changed, alternate_changed;
    CheckTree extents, catalog;
    CheckEntry *entries;
    size_t entry_count, entry_capacity;
    CheckId *ids; /* sorted */
    size_t id_count;
    uint64_t *used; /* by allocation block */
    HfsDiskExtentKey
        *claimed; /* overflow records that belong to a fork, sorted when all are there */
    size_t claimed_count, claimed_capacity;
    size_t claimed_catalog; /* the first of them are the catalog's */
    uint8_t *bitmap;        /* the volume's, as it will be */
    size_t bitmap_size;
    bool bitmap_changed;
    bool frozen;
    bool incomplete; /* a record stays that nobody can read: what it owns is not known */
} Check;

/* check.c: tells of a problem; true when it is to be repaired. A repair that is not made freezes
 * the check when `needed`. */
bool check_found(Check *check, HfsProblem problem, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same, when there is no way to repair it here. */
void check_told(Check *check, HfsProblem problem, const char *fmt, ...) PRINTF_LIKE(3, 4);
void check_progress(Check *check, unsigned pass, uint64_t done, uint64_t total);
int check_fail(Check *check, int error, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* check_tree.c */
void check_tree_done(CheckTree *tree);
/* Reads the file that lies in those extents (taken over). */
MAY_YIELD int check_tree_load(Check *check, CheckTree *tree, const BtreeFormat *format,
                              HfsExtent *extents, unsigned extent_count, uint32_t size);
/* Walks it; makes it anew from its records when it is damaged. */
int check_tree(Check *check, CheckTree *tree);
/* Writes the nodes that changed. */
MAY_YIELD int check_tree_store(Check *check, CheckTree *tree);

/* check_build.c: fills the tree's file with these records, sorted by key (changed). -ENOSPC. */
int check_tree_build(CheckTree *tree, BtreeRecord *records, size_t count);

/* check_catalog.c: records, ids, directories. */
int check_catalog(Check *check);
/* Can they be together? */
bool check_key_fits(const HfsKey *key, const HfsRecord *record);
/* After entries were added or dropped. */
int check_sort_ids(Check *check);
/* The entry of a file or directory; NULL: there is none. */
CheckEntry *check_find(const Check *check, uint32_t id);
int check_entry_update(Check *check, const CheckEntry *entry);
int check_entry_drop(Check *check, CheckEntry *entry);
/* Invalidates pointers to entries. */
int check_entry_add(Check *check, const HfsKey *key, const HfsRecord *record);

/* check_names.c: of two names for one file or directory, one goes. */
int check_names(Check *check);

/* check_lost.c: moves what has no directory to lost+found. */
int check_lost(Check *check);

/* check_threads.c: threads, valences, counts. */
int check_threads(Check *check);
int check_counts(Check *check);

/* check_forks.c, check_space.c: the places of all forks, and the bitmap. */
MAY_YIELD int check_forks(Check *check);
MAY_YIELD int check_bitmap(Check *check);

#endif
