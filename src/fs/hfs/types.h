/* SPDX-License-Identifier: MIT */
/*
 * What a mounted HFS volume is in core, and what its files offer each other.
 *
 * Files are known by their CNID, directories too; the root directory (CNID 2) has
 * file_id 1. An inode holds the key under which its catalog record lies, and the extents of
 * its forks as far as they were asked for; the record itself is read when it is needed.
 *
 * Invariants: a transaction body changes in-core state only so that an abort restores it
 * (txn_save, or a hook). The two trees belong to everybody: who reads one outside a body looks
 * at tree_changes after each suspension and begins anew when a body has been there (tree.c).
 * An inode's key and forks change under its exclusive lock, or, where a fork only gets longer,
 * under its shared one by one holder at a time. The resource fork is under the lock of the face
 * that shows it (faces.c), which is taken after the file's own if both are.
 *
 * Write-out order (man berth-recovery.7): see HFS_CLASS.
 */
#ifndef HFS_TYPES_H
#define HFS_TYPES_H

#include "berth/bitmap.h"
#include "berth/cache.h"
#include "berth/fs.h"
#include "berth/hashmap.h"
#include "berth/log.h"
#include "codec.h"
#include "encoding.h"

/*
 * The class of what a checker can make again: the bitmap, the MDB's counts. The trees' nodes have
 * their ranks (btree.h), records of files at least this one, as extents must not be there
 * before the data that they name. Where the trees lie is known before their nodes are used
 * (tree.c).
 */
#define HFS_CLASS 1u

typedef struct HfsVolume HfsVolume;
typedef struct HfsInode HfsInode;

/* ---- forks (fork.c) ---- */

/* Allocation blocks promised to somebody, in file order. */
typedef struct HfsRuns {
    HfsExtent *runs;
    uint32_t count, capacity;
    uint32_t blocks; /* in all */
} HfsRuns;

void hfs_runs_done(HfsRuns *runs);
int hfs_runs_append(HfsRuns *runs, uint32_t start, uint32_t count);
/* Removes the first blocks; those from `blocks` on. */
void hfs_runs_drop_head(HfsRuns *runs, uint32_t blocks);
void hfs_runs_truncate(HfsRuns *runs, uint32_t blocks);

/* Extents as they lie on disk, three by three: group 0 in the record, the others in the overflow
 * file under the number of their first block in the fork. */
typedef struct HfsGroup {
    uint32_t first;
    HfsExtent extents[HFS_EXTENTS_IN_RECORD];
} HfsGroup;

typedef struct HfsFork {
    bool loaded;
    uint32_t blocks; /* in all */
    HfsGroup *groups;
    uint32_t count, capacity;
    HfsRuns reserved; /* promised, behind the others */
    uint32_t joining; /* of those, what the open transaction has put into groups */
} HfsFork;

/* Reads the groups behind the record's. size: what the record says is allocated, bytes. */
MAY_YIELD int hfs_fork_load(HfsVolume *volume, HfsFork *fork, uint32_t cnid, uint8_t kind,
                            const HfsExtent first[HFS_EXTENTS_IN_RECORD], uint64_t size);
void hfs_fork_done(HfsVolume *volume, HfsFork *fork);
/* Where block `index` of the fork lies, and how many follow it there. False: past its end. */
bool hfs_fork_find(const HfsFork *fork, uint32_t index, uint32_t *ret_start, uint32_t *ret_count);
bool hfs_runs_find(const HfsRuns *runs, uint32_t index, uint32_t *ret_start, uint32_t *ret_count);
uint32_t hfs_fork_goal(const HfsFork *fork); /* where it would like to go on; 0: anywhere */
/*
 * In a body. append: the first `blocks` reserved blocks join the fork; -ENOSPC: it cannot have more
 * extents. cut: the last groups go until `keep` blocks are left, at most groups_max of them, and
 * their blocks are freed. The record's own extents are for the caller to store.
 */
/* Makes sure that append needs no memory: before a body that cuts first. */
int hfs_fork_room(HfsFork *fork);
/* *rank rises to that of the overflow records, where there are any. */
int hfs_fork_append(Txn *txn, HfsVolume *volume, HfsFork *fork, uint32_t cnid, uint8_t kind,
                    uint32_t blocks, unsigned *rank);
int hfs_fork_cut(Txn *txn, HfsVolume *volume, HfsFork *fork, uint32_t cnid, uint8_t kind,
                 uint32_t keep, uint32_t groups_max);
const HfsExtent *hfs_fork_first(const HfsFork *fork);

/* ---- trees (tree.c) ---- */

/* A tree's file became longer in this batch: its nodes from here on have at least this rank. */
typedef struct HfsGrowth {
    bool known;
    uint32_t from;
    uint64_t batch;
    unsigned rank;
} HfsGrowth;

#define HFS_WINDOW_NODES 32u
#define HFS_WINDOWS 64u /* remembered at a time */

typedef struct HfsTree {
    HfsVolume *volume;
    const BtreeFormat *format;
    uint32_t cnid;
    HfsFork fork;
    uint32_t free_hint;
    BtreeNewest newest;
    HfsGrowth growth;
    uint32_t windows[HFS_WINDOWS]; /* read lately: each one's number plus 1, by its low bits */
} HfsTree;

/* A tree as one operation sees it. */
typedef struct HfsView {
    BtreeSource source;
    Btree tree;
    HfsVolume *volume;
    HfsTree *which;
    Txn *txn;          /* NULL: reading, outside a body */
    uint64_t expected; /* tree_changes when it began */
} HfsView;

/* Outside a body (txn NULL) any tree function may then give -EAGAIN: the tree changed while
 * it waited, begin anew with another view. */
void hfs_view_init(HfsView *view, HfsVolume *volume, HfsTree *which, Txn *txn);
MAY_YIELD int hfs_trees_open(HfsVolume *volume);
void hfs_trees_done(HfsVolume *volume);
/* btree_lookup() in either tree, begun anew as often as it takes; txn NULL: outside a body. */
MAY_YIELD int hfs_tree_lookup(HfsVolume *volume, HfsTree *which, Txn *txn, const void *key,
                              void *out, unsigned capacity);

/* ---- catalog (catalog.c) ---- */

/* The record under a key; spelling: as it is stored (may be NULL). -ENOENT. */
MAY_YIELD int hfs_catalog_find(HfsVolume *volume, Txn *txn, const HfsKey *key, HfsRecord *ret,
                               HfsKey *ret_stored);
/* The same for a thread: where the object with this CNID is. */
MAY_YIELD int hfs_catalog_thread(HfsVolume *volume, Txn *txn, uint32_t cnid, HfsKey *ret);
/* Where is it? From memory, by its thread, or by looking through the whole catalog. -ESTALE. */
MAY_YIELD int hfs_catalog_locate(HfsVolume *volume, uint32_t cnid, HfsKey *ret_key, HfsRecord *ret);
/* Looks through all of it once, and remembers where everything is. */
MAY_YIELD int hfs_catalog_look_through(HfsVolume *volume);
/*
 * In a body. record: the bytes of HfsDiskDir, HfsDiskFile. replace: the key's spelling as well, and
 * the size may be another. ret_put: where it is now; NULL: it is new, and has no data. after (may
 * be NULL): what is replaced or removed stays on the medium until what was put there is.
 */
int hfs_catalog_insert(Txn *txn, HfsVolume *volume, const HfsKey *key, const HfsRecord *record,
                       BtreePlace *ret_put);
int hfs_catalog_replace(Txn *txn, HfsVolume *volume, const HfsKey *key, const HfsRecord *record,
                        const BtreePlace *after, BtreePlace *ret_put);
int hfs_catalog_update(Txn *txn, HfsVolume *volume, const HfsKey *key, const HfsRecord *record);
int hfs_catalog_remove(Txn *txn, HfsVolume *volume, const HfsKey *key, const BtreePlace *after);
/* Are both in one leaf? Then they change together. */
int hfs_catalog_together(Txn *txn, HfsVolume *volume, const HfsKey *a, const HfsKey *b);
/* A new thread; another target for one that is there. */
int hfs_thread_put(Txn *txn, HfsVolume *volume, uint32_t cnid, bool directory,
                   const HfsKey *target);
int hfs_thread_turn(Txn *txn, HfsVolume *volume, uint32_t cnid, bool directory,
                    const HfsKey *target);
int hfs_thread_remove(Txn *txn, HfsVolume *volume, uint32_t cnid);
/* The first entry of directory `cnid` behind a name (length 0: the first of all). -ENOENT. */
typedef struct HfsWalk {
    HfsVolume *volume;
    uint32_t directory;
    HfsKey last; /* the entry that was given */
    BtreeCursor cursor;
    HfsView view;
    bool placed; /* the cursor is at `last` */
} HfsWalk;
int hfs_walk_init(HfsWalk *walk, HfsVolume *volume, uint32_t directory);
void hfs_walk_done(HfsWalk *walk);
/* Goes on behind this name, whether it is there or not. */
void hfs_walk_from(HfsWalk *walk, const HfsKey *key);
MAY_YIELD int hfs_walk_next(HfsWalk *walk, HfsKey *ret_key, HfsRecord *ret);
MAY_YIELD int hfs_dir_check_empty(HfsInode *dir);

/* ---- places (place.c): where objects were last seen ---- */

#define HFS_PLACES_MAX (1u << 18)
#define HFS_GHOSTS 1024u

typedef struct HfsPlace {
    HashNode node; /* by CNID */
    HfsKey key;
} HfsPlace;

/* An entry that went away: a listing may still want to go on behind it. */
typedef struct HfsGhost {
    uint32_t cnid;
    HfsKey key;
} HfsGhost;

typedef struct HfsPlaces {
    HashMap map;
    bool complete;      /* everything in the catalog is here */
    uint64_t forgotten; /* rises whenever something may be missing again */
    HfsGhost *ghosts;
    unsigned next_ghost;
    uint32_t highest; /* CNID ever noted */
} HfsPlaces;

int hfs_places_init(HfsVolume *volume);
void hfs_places_done(HfsVolume *volume);
void hfs_place_note(HfsVolume *volume, uint32_t cnid, const HfsKey *key);
const HfsKey *hfs_place_find(HfsVolume *volume, uint32_t cnid);
void hfs_place_forget(HfsVolume *volume, uint32_t cnid);
/* It is not there any more; another note may follow. */
void hfs_place_left(HfsVolume *volume, uint32_t cnid, const HfsKey *key);
/* Where it was in this directory, NULL: not known. */
const HfsKey *hfs_place_ghost(HfsVolume *volume, uint32_t directory, uint32_t cnid);

/* ---- free blocks (alloc.c) ---- */

typedef struct HfsAlloc {
    uint64_t *bits;    /* set: used, promised, or freed and not yet forgotten by the image */
    uint32_t reserved; /* promised */
    uint32_t hint;     /* where the next search begins */
} HfsAlloc;

MAY_YIELD int hfs_alloc_load(HfsVolume *volume);
void hfs_alloc_done(HfsVolume *volume);
/* Appends `want` blocks, near goal (0: anywhere) if possible. All or nothing; -ENOSPC. */
int hfs_alloc_reserve(HfsVolume *volume, uint32_t goal, uint32_t want, HfsRuns *runs);
/* Gives back the promised blocks from number `from` of the list on. */
void hfs_alloc_release(HfsVolume *volume, const HfsRuns *runs, uint32_t from);
/* In a body: promised blocks are used now; used ones are free. */
int hfs_alloc_use(Txn *txn, HfsVolume *volume, uint32_t start, uint32_t count);
int hfs_alloc_free(Txn *txn, HfsVolume *volume, uint32_t start, uint32_t count);
/* CacheConfig.released. */
void hfs_alloc_released(void *arg, uint64_t block, uint64_t count);

/* ---- the volume and its inodes ---- */

struct HfsVolume {
    FileSystem base;
    HfsMdb mdb;                /* as the open transaction, or else the last committed one, has it */
    uint64_t alternate_sector; /* of the alternate MDB; 0: there is none */
    const HfsEncoding *encoding;
    int64_t time_offset_ns; /* local time minus UTC */
    HfsTree catalog, extents;
    uint64_t tree_changes; /* rises whenever a body changes a node */
    HfsAlloc alloc;
    HfsPlaces places;
    bool found_dirty; /* not cleanly unmounted before us: the mark stays */
    bool marked;      /* we marked it as in use */
    bool appledouble; /* the option */
    bool forks_shown; /* a fork has been found by name: somebody may hold it from then on */
};

typedef enum HfsForkIndex { HFS_DATA, HFS_RESOURCE, HFS_FORKS } HfsForkIndex;

/*
 * What else a file or directory is seen as, with a file_id of its own: bits 32 and 33 over the
 * object's. A face has no record; it holds a reference to the object, and has its own lock, byte
 * ranges and attributes.
 */
typedef enum HfsFace {
    HFS_FACE_NONE,
    HFS_FACE_FORK,   /* of a file: its resource fork */
    HFS_FACE_LIST,   /* of a directory: its files' resource forks */
    HFS_FACE_DOUBLE, /* of a file, with the option appledouble and instead of both: ._NAME */
} HfsFace;
#define HFS_FACE_SHIFT 32
#define HFS_FACE_BITS (UINT64_C(3) << HFS_FACE_SHIFT)
#define HFS_LIST_NAME "..namedfork"
/* Where the fork begins in ._NAME, unless it was written otherwise. */
#define HFS_DOUBLE_START 82u
/* For a successor (cache_note()). */
#define HFS_NOTE_KNOWN UINT64_C(1)
#define HFS_NOTE_FOUND_DIRTY UINT64_C(2)
#define HFS_NOTE_FORKS_SHOWN UINT64_C(4)

struct HfsInode {
    FsInode base;
    uint32_t cnid;
    bool directory;
    HfsFace face;
    HfsInode *object; /* of a face: what it is one of, referenced; else NULL */
    HfsKey key;       /* of its record, which an orphan does not have; a face's is the object's */
    /* Of a directory: where what was moved out of it in this batch has been put. */
    BtreePlace left;
    uint64_t left_batch;
    uint32_t start;                   /* of ._NAME: where the fork begins; else 0 */
    FiberMutex header_lock;           /* of ._NAME */
    uint8_t header[HFS_DOUBLE_START]; /* of ._NAME, as it was made last */
    HfsFork forks[HFS_FORKS]; /* of the object, under the lock of the inode that shows the fork */
};

static inline HfsVolume *hfs_volume(FileSystem *fs) {
    return container_of(fs, HfsVolume, base);
}
static inline HfsInode *hfs_inode(FsInode *inode) {
    return container_of(inode, HfsInode, base);
}
static inline HfsVolume *hfs_inode_volume(HfsInode *inode) {
    return hfs_volume(inode->base.fs);
}
static inline uint64_t hfs_file_id(uint32_t cnid) {
    return cnid == HFS_CNID_ROOT ? FS_ROOT_ID : cnid;
}
static inline HfsFace hfs_id_face(uint64_t file_id) {
    return (HfsFace)((file_id & HFS_FACE_BITS) >> HFS_FACE_SHIFT);
}
static inline uint64_t hfs_face_id(uint32_t cnid, HfsFace face) {
    return hfs_file_id(cnid) | (uint64_t)face << HFS_FACE_SHIFT;
}
/* Whose record and forks it is about. */
static inline HfsInode *hfs_object(HfsInode *inode) {
    return inode->object != NULL ? inode->object : inode;
}
/* The fork that the inode's bytes are. */
static inline HfsForkIndex hfs_stream(const HfsInode *inode) {
    return inode->face == HFS_FACE_FORK || inode->face == HFS_FACE_DOUBLE ? HFS_RESOURCE : HFS_DATA;
}
/* Where in it an offset in the inode is. */
static inline uint64_t hfs_stream_offset(const HfsInode *inode, uint64_t offset) {
    return offset > inode->start ? offset - inode->start : 0;
}
static inline uint32_t hfs_block_sectors(const HfsVolume *volume) {
    return volume->mdb.block_size / HFS_SECTOR;
}
/* First sector of an allocation block. */
static inline uint64_t hfs_block_sector(const HfsVolume *volume, uint32_t block) {
    return volume->mdb.first_block + (uint64_t)block * hfs_block_sectors(volume);
}
static inline uint32_t hfs_blocks_for(const HfsVolume *volume, uint64_t bytes) {
    return (uint32_t)div_ceil(bytes, volume->mdb.block_size);
}
static inline uint8_t hfs_fork_kind(HfsForkIndex index) {
    return index == HFS_DATA ? HFS_FORK_DATA : HFS_FORK_RESOURCE;
}

/* ---- options.c ---- */

int hfs_options_parse(HfsVolume *volume);

/* ---- super.c ---- */

int hfs_probe(BlockDevice *device, FsProbe *ret);
MAY_YIELD int hfs_mount(FileSystem *fs);
MAY_YIELD int hfs_unmount(FileSystem *fs);
MAY_YIELD int hfs_statfs(FileSystem *fs, FsStatfs *ret);
MAY_YIELD int hfs_remount(FileSystem *fs, bool readonly);
/* In a body, before volume->mdb is changed; and after it: to be written. alternate: that one too.
 */
int hfs_mdb_save(Txn *txn, HfsVolume *volume);
int hfs_mdb_store(Txn *txn, HfsVolume *volume, bool alternate);
/* When a tree has grown: where it lies is written in this class; and the lowest that it can be. */
int hfs_mdb_grown(Txn *txn, HfsVolume *volume, unsigned class);
unsigned hfs_mdb_trees_class(const Txn *txn);
/* In a body, last: counts as a write to the volume, and stores the MDB. */
int hfs_mdb_touch(Txn *txn, HfsVolume *volume, int64_t time_ns);

/* ---- inode.c ---- */

MAY_YIELD int hfs_inode_load(FsInode *inode, uint64_t position);
MAY_YIELD int hfs_inode_evict(FsInode *inode);
/* Attributes of a record, without an inode. */
void hfs_attr_fill(HfsVolume *volume, const HfsRecord *record, FsAttr *ret);
/* What describes the inode: its record, or what its object says. txn NULL: outside a body. */
MAY_YIELD int hfs_inode_record_get(HfsInode *inode, Txn *txn, HfsRecord *ret);
/* In a body: stores it, with all in-core copies. */
int hfs_inode_record_put(Txn *txn, HfsInode *inode, const HfsRecord *record);
/* In a body: the name is gone, the object stays until nobody holds it. */
int hfs_inode_unlinked(Txn *txn, HfsInode *victim);
/* Brings in all extents of a fork. */
MAY_YIELD int hfs_inode_fork(HfsInode *inode, HfsForkIndex index);
uint32_t hfs_record_size(const HfsRecord *record, HfsForkIndex index);
void hfs_record_set_size(HfsRecord *record, HfsForkIndex index, uint64_t size);
/* Puts a fork's extents and its allocated length into the record. */
void hfs_record_set_fork(HfsVolume *volume, HfsRecord *record, HfsForkIndex index,
                         const HfsFork *fork);
/* Frees what the orphans on the list of objects still have: at unmount. */
MAY_YIELD int hfs_orphans_finish(HfsVolume *volume);
bool hfs_orphans_exist(HfsVolume *volume);
/* Does what a predecessor left on the list of objects make sense? */
bool hfs_orphans_sound(HfsVolume *volume);

/* ---- dir.c ---- */

MAY_YIELD int hfs_lookup(FsInode *dir, const FsName *name, FsEntry *ret);
MAY_YIELD int hfs_readdir(FsInode *dir, uint64_t cookie, FsDirEmit *emit);
MAY_YIELD int hfs_parent(FsInode *dir, uint64_t *ret_file_id);

/* ---- faces.c ---- */

MAY_YIELD int hfs_face_load(HfsInode *inode);
MAY_YIELD int hfs_face_evict(HfsInode *inode);
/* Attributes of the face of what the record describes. */
void hfs_face_attr(HfsVolume *volume, const HfsRecord *record, HfsFace face, FsAttr *ret);
/* In a body: the object's record and in-core attributes have changed, its faces follow. record
 * NULL: its name is gone. */
int hfs_faces_follow(Txn *txn, HfsInode *object, const HfsRecord *record);
/* In a body: the object loses its name. Where its fork may be held, that must outlive us. */
int hfs_fork_keep(Txn *txn, HfsInode *object);
/* After it: a fork that nobody can hold goes with its file. */
MAY_YIELD void hfs_fork_unlinked(HfsInode *object);
/* In a body: the fork's bytes changed behind the back of who may hold it. It gets another
 * generation, so that they are not taken for what he knows. */
int hfs_fork_renew(Txn *txn, HfsInode *object);
/* A fork has been given out by name. */
void hfs_fork_shown(HfsVolume *volume);
/* Is the fork held still, when the file itself is not? Notes that it is not. */
MAY_YIELD int hfs_fork_outlives(HfsInode *object);
/* Does what a predecessor noted of a fork make sense? */
bool hfs_fork_kept_sound(uint64_t file_id, uint32_t length);
/* Forgets what is noted of forks: at unmount. */
MAY_YIELD int hfs_forks_finish(HfsVolume *volume);
/* In a body: the fork begins there in ._NAME from now on. empty: hfs_double_empty(), still. */
int hfs_double_begins(Txn *txn, HfsInode *inode, uint32_t start, bool empty);
/* In a body: nothing is left that would make ._NAME be there. */
int hfs_double_cleared(Txn *txn, HfsInode *inode);
/* Is it there although there is nothing in it: just created? */
bool hfs_double_created(HfsVolume *volume, uint32_t cnid);
MAY_YIELD int hfs_double_create(HfsInode *dir, const FsCall *call, const FsName *name,
                                const FsCreate *what, FsEntry *ret);
/* The face of a file, for the attribute of the same content: a reference. */
MAY_YIELD int hfs_fork_get(HfsInode *object, FsInode **ret);
MAY_YIELD int hfs_fork_unlink(HfsInode *list, const FsCall *call, const FsName *name,
                              HfsInode *fork);

/* ---- doubles.c ---- */

/* Is there nothing that ._NAME would be for? */
bool hfs_double_empty(const HfsRecord *record);
MAY_YIELD int hfs_double_map(HfsInode *inode, uint64_t offset, FsExtent *ret);
/* ._NAME in dir, where the option is given and NAME is a file; whether it is empty or not. */
MAY_YIELD int hfs_double_find(HfsInode *dir, const FsName *name, FsEntry *ret,
                              HfsRecord *ret_record);
/* Is ._NAME listed beside this entry? */
MAY_YIELD bool hfs_double_listed(HfsVolume *volume, const HfsKey *key, const HfsRecord *record);
MAY_YIELD int hfs_write_begin(FsInode *inode, const FsCall *call, uint64_t offset,
                              const void *bytes, uint32_t length);

/* ---- names_ops.c, rename.c ---- */

MAY_YIELD int hfs_create(FsInode *dir, const FsCall *call, const FsName *name, const FsCreate *what,
                         FsEntry *ret);
MAY_YIELD int hfs_unlink(FsInode *dir, const FsCall *call, const FsName *name, const FsEntry *entry,
                         FsInode *victim);
MAY_YIELD int hfs_rename(FileSystem *fs, const FsCall *call, const FsRename *what);
/* In a body: directory `dir` gained (or, -1, lost) an entry; stamps its time. */
int hfs_dir_adjust(Txn *txn, HfsInode *dir, bool directory, int change, int64_t time_ns);
/* The volume's counts of files and directories. */
int hfs_volume_adjust(Txn *txn, HfsVolume *volume, bool directory, int change);
/* In a body: an object that goes away loses its thread, and is an orphan. Its record, and the
 * counts of its directory, are the caller's. */
int hfs_victim_forget(Txn *txn, HfsInode *victim);
/* In a body: what the directory's record may not go before; NULL: nothing. */
const BtreePlace *hfs_dir_left(const Txn *txn, const HfsInode *dir);
/* Is the name in dir that of the object? On a corrupt image two records may have one CNID. */
int hfs_entry_check(HfsInode *dir, const FsName *name, const HfsInode *object);
/* The key that a new name in dir gets. -EINVAL, -EILSEQ, -ENAMETOOLONG. */
int hfs_name_key(const HfsInode *dir, const FsName *name, HfsKey *ret);

/* ---- map.c ---- */

MAY_YIELD int hfs_map(FsInode *inode, uint64_t offset, uint32_t flags, FsExtent *ret);
MAY_YIELD int hfs_reserve(FsInode *inode, uint64_t end);
void hfs_unreserve(FsInode *inode, uint64_t keep_end);
MAY_YIELD int hfs_write_commit(FsInode *inode, const FsCall *call, uint64_t offset,
                               uint64_t length);
/* The same for a file that grows to `size`, with other changes of a setattr (NULL: none). */
MAY_YIELD int hfs_grow_commit(HfsInode *inode, const FsCall *call, uint64_t size,
                              const FsSetattr *set);
/* Space up to `end`, whatever the size is. */
MAY_YIELD int hfs_allocate_commit(HfsInode *inode, const FsCall *call, uint64_t end);
MAY_YIELD int hfs_fork_extent(HfsInode *inode, HfsForkIndex index, uint64_t offset, uint32_t flags,
                              FsExtent *ret);

/* ---- attr.c ---- */

/* Cuts a stream to nothing. renew: see hfs_fork_renew(). */
MAY_YIELD int hfs_stream_empty(HfsInode *inode, const FsCall *call);

/* Puts what a setattr asks for, but for the size, into a record. */
void hfs_record_apply(HfsVolume *volume, const FsSetattr *set, HfsRecord *record);
MAY_YIELD int hfs_setattr(FsInode *inode, const FsCall *call, const FsSetattr *set);
MAY_YIELD int hfs_fallocate(FsInode *inode, const FsCall *call, uint32_t mode, uint64_t offset,
                            uint64_t length);

/* ---- xattr.c ---- */

void hfs_finder_get(const HfsRecord *record, uint8_t ret[HFS_FINDER_INFO_SIZE]);
void hfs_finder_set(HfsRecord *record, const uint8_t info[HFS_FINDER_INFO_SIZE]);

MAY_YIELD int hfs_getxattr(FsInode *inode, const FsName *name, void *buf, uint32_t capacity);
MAY_YIELD int hfs_setxattr(FsInode *inode, const FsCall *call, const FsName *name,
                           const void *value, uint32_t length, uint32_t flags);
MAY_YIELD int hfs_listxattr(FsInode *inode, char *buf, uint32_t capacity);
MAY_YIELD int hfs_removexattr(FsInode *inode, const FsCall *call, const FsName *name);

#endif
