/* SPDX-License-Identifier: MIT */
/*
 * What a mounted FAT volume is in core, and what its files offer each other.
 *
 * Invariants: a transaction body changes in-core state only so that an abort
 * restores it (txn_save, or a hook). What a body needs is looked up or reserved
 * before it, under the inode locks that the framework holds, and stays valid
 * because of them: a directory's slots and chain under its exclusive lock, a
 * file's chain under its lock of either kind (shared holders only append).
 *
 * Write-out order (man berth-recovery.7): see FatClass.
 */
#ifndef FAT_TYPES_H
#define FAT_TYPES_H

#include "berth/bitmap.h"
#include "berth/cache.h"
#include "berth/fs.h"
#include "berth/hashmap.h"
#include "berth/log.h"
#include "berth/text.h"
#include "codec.h"
#include "codepage.h"

/* Classes of txn_write(): a power cut between two of them leaves at most lost clusters. */
typedef enum FatClass {
    FAT_CLASS_NEW = 0,   /* cells of new clusters, new directory clusters */
    FAT_CLASS_LINK = 1,  /* the old end of a chain points to new clusters */
    FAT_CLASS_ENTRY = 2, /* directory entries: created, changed, unlinked */
    FAT_CLASS_OLD = 3,   /* the old name of a rename */
    FAT_CLASS_SPARE = 4, /* the spare name of an exchange goes */
    FAT_CLASS_CUT = 5,   /* an earlier cluster becomes the end of a chain */
    FAT_CLASS_FREE = 6,  /* freed cells, FSInfo */
} FatClass;

/* ---- runs and chains (chain.c) ---- */

typedef struct FatRun {
    uint32_t index; /* clusters of the list before this run */
    uint32_t cluster, count;
} FatRun;

/* Clusters in file order, neighbours merged. */
typedef struct FatRunList {
    FatRun *runs;
    uint32_t count, capacity;
    uint32_t length; /* clusters in all */
} FatRunList;

void fat_runs_done(FatRunList *list);
/* Makes sure that `extra` appends will not fail. */
int fat_runs_room(FatRunList *list, uint32_t extra);
int fat_runs_append(FatRunList *list, uint32_t cluster, uint32_t count);
/* The run that holds cluster number index of the list, NULL past its end. */
const FatRun *fat_runs_find(const FatRunList *list, uint32_t index);
uint32_t fat_runs_last(const FatRunList *list); /* 0: empty */
void fat_runs_truncate(FatRunList *list, uint32_t length);
/* Removes the first `count` clusters. */
void fat_runs_drop_head(FatRunList *list, uint32_t count);

/* The part of a cluster chain that has been walked so far. */
typedef struct FatChain {
    bool fixed_root; /* FAT12, FAT16: the root directory, which has no clusters */
    bool complete;   /* runs reach the end mark */
    bool damaged;    /* behind runs lies `damage_value`, which is no cluster */
    uint32_t first;  /* 0: none */
    uint32_t damage_value;
    FatRunList runs;
    /* Brent's cycle search over the jumps of the chain. */
    uint32_t tortoise, jumps, power;
} FatChain;

void fat_chain_init(FatChain *chain, uint32_t first);
void fat_chain_done(FatChain *chain);

typedef struct FatVolume FatVolume;
typedef struct FatInode FatInode;
typedef struct FatIndex FatIndex;

/* Walks until `clusters` are known or the chain ends. -EUCLEAN: it is broken before that. */
MAY_YIELD int fat_chain_load(FatVolume *volume, FatChain *chain, uint32_t clusters, bool writing);
/* Frees all clusters of a chain that no entry refers to, in bounded steps; `object` (0: none) of
 * `kind` follows it and goes away with the last step. */
MAY_YIELD int fat_chain_reclaim(FatVolume *volume, FatChain *chain, uint64_t object,
                                TxnObjectKind kind);
/* In a body: zeroes the cells of chain clusters [from, from + count) and frees them. */
int fat_chain_free(Txn *txn, FatVolume *volume, const FatRunList *runs, uint32_t from,
                   uint32_t count);

/* ---- FAT cells (table.c) ---- */

#define FAT_CELL_FREE 0u
#define FAT_CELL_BAD 0x0ffffff7u /* normalised over the FAT types */
#define FAT_CELL_END 0x0fffffffu

MAY_YIELD int fat_table_get(FatVolume *volume, uint32_t cluster, uint32_t *ret);
/* How many of the cells from `cluster` on point to their direct neighbour (*ret_count, without
 * leaving the sector), and what the cell after them holds. */
MAY_YIELD int fat_table_follow(FatVolume *volume, uint32_t cluster, uint32_t *ret_count,
                               uint32_t *ret_next);
/* Sets bit (cluster + i - 2 - base) of map for each used cell; stops at the sector's end. */
MAY_YIELD int fat_table_scan(FatVolume *volume, uint32_t cluster, uint32_t max, uint32_t base,
                             uint64_t *map, uint32_t *ret_count);
/* Hint: cells [cluster, cluster + count) will be read. */
MAY_YIELD int fat_table_prefetch(FatVolume *volume, uint32_t cluster, uint32_t count);
/* Hint before a transaction: the cells of these clusters will be written, in all copies. */
MAY_YIELD void fat_table_prefetch_write(FatVolume *volume, const FatRunList *list, uint32_t from,
                                        uint32_t count);
/* The cell's value in another copy of the FAT, if that one makes sense. -ENOENT. */
MAY_YIELD int fat_table_second_opinion(FatVolume *volume, uint32_t cluster, uint32_t *ret);
/* Cells of [cluster, cluster + count) point to their neighbour, the last one holds `next`. */
int fat_table_link(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count, uint32_t next,
                   FatClass class);
int fat_table_free(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count);
/* Do the cells of both clusters lie in one sector? (FAT12: never said, a cell may lie in two.) */
bool fat_table_same_sector(const FatVolume *volume, uint32_t one, uint32_t other);
/* Cell 1's marks: cleanly unmounted, and no I/O errors met. */
MAY_YIELD int fat_table_get_marks(FatVolume *volume, bool *ret_clean, bool *ret_sound);
int fat_table_set_marks(Txn *txn, FatVolume *volume, bool clean, bool sound, FatClass class);
/* Before the first use of the FAT: another copy is read if the active one does not even begin
 * like a FAT. */
MAY_YIELD void fat_table_choose_copy(FatVolume *volume);

/* ---- free clusters (alloc.c) ---- */

#define FAT_SEGMENT_CLUSTERS 32768u

typedef struct FatSegment {
    /* A set bit: not to be handed out (used, reserved, or freed and not yet forgotten by the
     * image). NULL: not in core; it can be read again, as long as nothing in it is reserved. */
    uint64_t *bits;
    uint32_t available; /* clear bits, kept up to date while bits are not in core as well */
    uint32_t reserved;
    bool counted; /* available is known */
    bool ready;   /* bits are complete */
} FatSegment;

typedef struct FatAlloc {
    FatSegment *segments;
    uint32_t segment_count, counted_count;
    uint32_t map_count, map_limit; /* segments in core */
    uint32_t hand;                 /* where the search for one to drop goes on */
    uint32_t hint;                 /* where the next search begins */
    bool free_known;
    bool touched;        /* something was allocated or freed: FSInfo is behind */
    uint32_t free_count; /* clusters whose committed cell is free */
    uint32_t reserved;   /* of those, promised to somebody */
    FiberMutex scan_lock;
} FatAlloc;

int fat_alloc_init(FatVolume *volume);
void fat_alloc_done(FatVolume *volume);
/* Appends `want` clusters to list, near `goal` (0: anywhere) if possible. All or nothing. */
MAY_YIELD int fat_alloc_reserve(FatVolume *volume, uint32_t goal, uint32_t want, FatRunList *list);
/* Gives reserved clusters back that were not used. */
void fat_alloc_release(FatVolume *volume, const FatRunList *list, uint32_t from);
/* In a body: a run of reserved clusters is now in use; one of clusters in use has been freed. */
int fat_alloc_use(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count);
/* The same for the first `count` clusters of a list. */
int fat_alloc_use_list(Txn *txn, FatVolume *volume, const FatRunList *list, uint32_t count);
int fat_alloc_free(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count);
/* CacheConfig.released. */
void fat_alloc_released(void *arg, uint64_t block, uint64_t count);
MAY_YIELD int fat_alloc_count(FatVolume *volume, uint32_t *ret_free);

/* ---- identity (identity.c) ---- */

/* An object that is not where its id says. */
typedef struct FatIdentity {
    HashNode by_id, by_position; /* by_position only if position is not 0 */
    uint64_t id;
    uint64_t position; /* of its entry; 0: it has none (orphan) */
} FatIdentity;

typedef struct FatIdentities {
    HashMap by_id, by_position;
    uint64_t next_fresh;
    /* RECLAIM objects that a predecessor left. */
    uint64_t *inherited;
    uint32_t inherited_count, inherited_room;
} FatIdentities;

#define FAT_ID_FRESH (UINT64_C(1) << 63)
/* Shown in listings only, for an entry whose own id is not settled. */
#define FAT_ID_UNSETTLED (UINT64_C(1) << 62)

static inline uint64_t fat_id_natural(uint64_t position) {
    return position / FAT_ENTRY_SIZE;
}
int fat_identities_load(FatVolume *volume);
void fat_identities_done(FatVolume *volume);
const FatIdentity *fat_identity_find(FatVolume *volume, uint64_t id);
/* The id of the entry at position; false: its natural one is still held by another object. */
bool fat_identity_at(FatVolume *volume, uint64_t position, uint64_t *ret_id);
/* The same, giving it a fresh id in that case. */
MAY_YIELD int fat_identity_settle(FatVolume *volume, uint64_t position, uint64_t *ret_id);
uint64_t fat_identity_fresh(FatVolume *volume);
/* In a body. move: id's entry is now at position. orphan: it has none, its data is at first.
 * forget: nobody holds it. */
int fat_identity_move(Txn *txn, FatVolume *volume, uint64_t id, uint64_t position);
int fat_identity_orphan(Txn *txn, FatVolume *volume, uint64_t id, const FatDiskEntry *entry);
int fat_identity_forget(Txn *txn, FatVolume *volume, uint64_t id);
/*
 * What has no entry on disk has one in an object: ORPHAN, RECLAIM (only the first cluster counts),
 * and the root's, which is there as soon as something of it was changed. get: -ENOENT.
 */
#define FAT_OBJECT_ROOT TXN_OBJECT_ALIAS
int fat_object_put(Txn *txn, uint64_t id, TxnObjectKind kind, const FatDiskEntry *entry);
int fat_object_get(FatVolume *volume, uint64_t id, TxnObjectKind kind, FatDiskEntry *ret);
/* In a body: the chain that is left to be freed. */
int fat_reclaim_put(Txn *txn, FatVolume *volume, uint64_t id, TxnObjectKind kind, uint32_t first);
bool fat_orphans_exist(FatVolume *volume);
/* Finishes what objects still list: at unmount. */
MAY_YIELD int fat_orphans_finish(FatVolume *volume);
/* Goes on with the chains that a predecessor was freeing. */
MAY_YIELD int fat_recovered(FileSystem *fs);

/* ---- the volume and its inodes ---- */

#define FAT_ERASED_BUCKETS 512u

struct FatVolume {
    FileSystem base;
    FatGeometry geo;
    const FatCodepage *codepage; /* of short names */
    int time_offset_minutes;     /* local time minus UTC */
    bool list_xattrs;            /* option xattr */
    FatAlloc alloc;
    FatIdentities identities;
    bool has_fsinfo;
    uint32_t fsinfo_free, fsinfo_next;      /* as on disk */
    bool found_dirty;                       /* not cleanly unmounted before us: the mark stays */
    bool marked;                            /* we marked it dirty */
    bool unsound;                           /* cell 1 says that there were I/O errors */
    uint64_t erased_in[FAT_ERASED_BUCKETS]; /* batches in which names were erased, see place.c */
};

struct FatInode {
    FsInode base;
    uint64_t entry; /* byte offset of the short entry; 0: none (root, orphan) */
    uint8_t attributes;
    bool directory;
    FatChain chain;
    FatRunList reserved; /* promised to this file, behind its chain */
    uint32_t kept;       /* clusters in all that fallocate wants to stay promised */
    FatIndex *index;     /* a directory's names; NULL: not read */
};

static inline FatVolume *fat_volume(FileSystem *fs) {
    return container_of(fs, FatVolume, base);
}
static inline FatInode *fat_inode(FsInode *inode) {
    return container_of(inode, FatInode, base);
}
static inline FatVolume *fat_inode_volume(FatInode *inode) {
    return fat_volume(inode->base.fs);
}
static inline uint64_t fat_block_of(const FatVolume *volume, uint64_t offset) {
    return offset >> volume->geo.sector_shift;
}
static inline uint32_t fat_block_offset(const FatVolume *volume, uint64_t offset) {
    return (uint32_t)(offset & (volume->geo.sector_size - 1));
}
static inline uint32_t fat_clusters_for(const FatVolume *volume, uint64_t bytes) {
    return (uint32_t)((bytes + volume->geo.cluster_size - 1) >> volume->geo.cluster_shift);
}
/* What stands in '..' and in entries for a directory: its first cluster, 0 for the root. */
static inline uint32_t fat_dir_number(FatInode *dir) {
    return dir->base.file_id == FS_ROOT_ID ? 0 : dir->chain.first;
}

/* ---- options.c ---- */

int fat_options_parse(FatVolume *volume);

/* ---- super.c ---- */

/* Read-only for as long as it is mounted: a remount does not change that. */
void fat_refuse_writes(FatVolume *volume, const char *reason);
int fat_probe(BlockDevice *device, FsProbe *ret);
MAY_YIELD int fat_mount(FileSystem *fs);
MAY_YIELD int fat_unmount(FileSystem *fs);
MAY_YIELD int fat_statfs(FileSystem *fs, FsStatfs *ret);
MAY_YIELD int fat_sync(FileSystem *fs);
MAY_YIELD int fat_remount(FileSystem *fs, bool readonly);

/* ---- inode.c ---- */

MAY_YIELD int fat_inode_load(FsInode *inode, uint64_t position);
MAY_YIELD int fat_inode_evict(FsInode *inode);
/* Attributes of an entry, without an inode. */
void fat_attr_fill(FatVolume *volume, const FatEntry *entry, uint64_t file_id, FsAttr *ret);
/* The short entry at a position in the volume. */
MAY_YIELD int fat_entry_read(FatVolume *volume, uint64_t position, FatDiskEntry *ret);
int fat_entry_write(Txn *txn, FatVolume *volume, uint64_t position, const FatDiskEntry *disk,
                    FatClass class);
/* The entry that loading would turn into what is in core. Without a name. */
void fat_inode_entry_make(const FatInode *inode, FatDiskEntry *ret);
/* In a body: what describes the inode (its short entry, or the same in an object where it has
 * none), and storing that with all in-core copies. */
int fat_inode_entry_get(FatInode *inode, FatDiskEntry *ret);
int fat_inode_entry_put(Txn *txn, FatInode *inode, const FatDiskEntry *disk);
/* In a body: stamps mtime. */
int fat_inode_touch(Txn *txn, FatInode *inode, int64_t time_ns);

/* ---- attr.c ---- */

/* Puts what a setattr asks for, but for the size, into an entry. */
void fat_entry_apply(FatInode *inode, const FsSetattr *set, FatDiskEntry *disk);
MAY_YIELD int fat_setattr(FsInode *inode, const FsCall *call, const FsSetattr *set);
MAY_YIELD int fat_fallocate(FsInode *inode, const FsCall *call, uint32_t mode, uint64_t offset,
                            uint64_t length);

/* ---- xattr.c ---- */

MAY_YIELD int fat_getxattr(FsInode *inode, const FsName *name, void *buf, uint32_t capacity);
MAY_YIELD int fat_setxattr(FsInode *inode, const FsCall *call, const FsName *name,
                           const void *value, uint32_t length, uint32_t flags);
MAY_YIELD int fat_listxattr(FsInode *inode, char *buf, uint32_t capacity);
MAY_YIELD int fat_removexattr(FsInode *inode, const FsCall *call, const FsName *name);

/* ---- map.c ---- */

MAY_YIELD int fat_map(FsInode *inode, uint64_t offset, uint32_t flags, FsExtent *ret);
MAY_YIELD int fat_reserve(FsInode *inode, uint64_t end);
void fat_unreserve(FsInode *inode, uint64_t keep_end);
MAY_YIELD int fat_write_commit(FsInode *inode, const FsCall *call, uint64_t offset,
                               uint64_t length);
/* The same for a file that grows to `size`, with other changes of a setattr (NULL: none). */
MAY_YIELD int fat_grow_commit(FatInode *inode, const FsCall *call, uint64_t size,
                              const FsSetattr *set);

/* ---- dir.c ---- */

/* One entry as a walk over a directory finds it. */
typedef struct FatDirEntry {
    uint32_t slot;       /* of the short entry */
    uint32_t first_slot; /* of its long name; slot without one */
    uint64_t position;   /* byte offset of the short entry in the volume */
    FatEntry entry;
    const uint16_t *long_name; /* NULL: none (that fits) */
    unsigned long_length;
} FatDirEntry;

typedef struct FatDirIter {
    FatVolume *volume;
    const FatChain *chain;
    uint32_t slot; /* the next one */
    uint32_t slot_count;
    uint32_t end_slot;   /* where the end mark was found, or slot_count */
    uint32_t want_free;  /* looks for this many free slots in a row */
    uint32_t free_slot;  /* start of the first such row, or UINT32_MAX */
    uint32_t free_start; /* start of the present row, or UINT32_MAX */
    uint32_t long_slot;  /* where the present long name began */
    Buffer *buffer;
    FatLongName name;
} FatDirIter;

/* The chain must be loaded (directories are when their inode is). */
void fat_dir_iter_init(FatDirIter *iter, FatVolume *volume, const FatChain *chain, uint32_t slot);
void fat_dir_iter_done(FatDirIter *iter);
/* 1: *ret is the next entry (valid until the next call), 0: no more, or a negative errno. */
MAY_YIELD int fat_dir_iter_next(FatDirIter *iter, FatDirEntry *ret);
/* Byte offset of a slot in the volume; false past the end. */
bool fat_dir_slot_position(FatVolume *volume, const FatChain *chain, uint32_t slot, uint64_t *ret);
uint32_t fat_dir_slots(FatVolume *volume, const FatChain *chain);
/* The entry whose short slot is `slot`. -ENOENT. */
MAY_YIELD int fat_dir_entry_at(FatInode *dir, uint32_t slot, FatDirIter *iter, FatDirEntry *ret);
MAY_YIELD int fat_dir_check_empty(FatInode *dir);
/* The volume label's entry in the root directory, and where it is (may be NULL). -ENOENT. */
MAY_YIELD int fat_dir_find_label(FatVolume *volume, const FatChain *root,
                                 uint8_t ret[FAT_SHORT_LENGTH], uint64_t *ret_position);
MAY_YIELD int fat_lookup(FsInode *dir, const FsName *name, FsEntry *ret);
MAY_YIELD int fat_readdir(FsInode *dir, uint64_t cookie, FsDirEmit *emit);
MAY_YIELD int fat_parent(FsInode *dir, uint64_t *ret_file_id);

/* ---- name.c ---- */

/* A name to be stored. */
typedef struct FatNewName {
    uint16_t units[FAT_LONG_NAME_MAX + 1];
    unsigned length;
    const FatCodepage *page;
    bool needs_long;
    uint8_t nt_flags; /* lower case, where the short form is all that is stored */
    bool lossy;       /* the short form does not tell the long one: a ~N is needed */
    uint8_t short_name[FAT_SHORT_LENGTH];
} FatNewName;
static inline unsigned fat_new_name_slots(const FatNewName *name) {
    return 1 + (name->needs_long ? fat_long_slots(name->length) : 0);
}

/* A name to be found. */
typedef struct FatSearch {
    const FatCodepage *page;
    const FsName *name;
    bool exact_only;
    unsigned length;
    uint16_t folded[FAT_LONG_NAME_MAX];
} FatSearch;

/* Checks what FAT can hold and makes the short form's basis: -EINVAL, -ENAMETOOLONG. */
int fat_name_prepare(const FatCodepage *page, const FsName *name, FatNewName *ret);
/* The name that users see, at most FS_NAME_MAX bytes; returns its length. */
unsigned fat_name_display(const FatCodepage *page, const FatDirEntry *entry,
                          char out[FS_NAME_MAX + 1]);
/* A volume label as text, without the blanks at its end; "" for "NO NAME". */
#define FAT_LABEL_TEXT_MAX (FAT_SHORT_LENGTH * 3 + 1)
void fat_label_text(const FatCodepage *page, const uint8_t label[FAT_SHORT_LENGTH], char *out,
                    size_t capacity);
/* The bytes of a label: in upper case, blanks behind. -EINVAL, -ENAMETOOLONG. */
int fat_label_make(const FatCodepage *page, const char *text, size_t length,
                   uint8_t ret[FAT_SHORT_LENGTH]);
int fat_search_init(FatSearch *search, const FatCodepage *page, const FsName *name,
                    bool exact_only);
bool fat_search_match(const FatSearch *search, const FatDirEntry *entry);

/* The short name's n-th variant: 0 is the basis, then come ~1 to ~4, then hashed ones. */
#define FAT_VARIANTS_MAX 65536u
void fat_short_variant(const FatNewName *name, unsigned n, uint8_t ret[FAT_SHORT_LENGTH]);
/* "BASE.EXT"; nt_flags as stored, or 0 for plain upper case. Returns the length. */
#define FAT_SHORT_TEXT_MAX 12
unsigned fat_short_text(const FatCodepage *page, const uint8_t name[FAT_SHORT_LENGTH],
                        uint8_t nt_flags, uint16_t out[FAT_SHORT_TEXT_MAX]);
/* Searches for what would answer to this short name. */
void fat_search_init_short(FatSearch *search, const FatCodepage *page,
                           const uint8_t name[FAT_SHORT_LENGTH]);

/* ---- index.c: the names of a directory, in core ---- */

/* Of folded units. */
uint32_t fat_name_hash(const uint16_t *units, unsigned length);
MAY_YIELD int fat_index_load(FatInode *dir);
void fat_index_drop(FatInode *dir);
/* The entry that a loaded index has for the search, other than skip_slot. -ENOENT. */
MAY_YIELD int fat_index_find(FatInode *dir, const FatSearch *search, uint32_t skip_slot,
                             FatDirIter *iter, FatDirEntry *ret);
/* After a commit: an entry of so many slots begins at slot; one that began at first_slot is gone.
 */
void fat_index_added(FatInode *dir, const FatNewName *name, uint32_t slot, uint32_t slots);
void fat_index_erased(FatInode *dir, uint32_t first_slot);
/* Drops an index that is mostly dead. The directory's lock is held exclusive. */
void fat_index_trim(FatInode *dir);
/* Before this slot there is no row of so many free slots; a search has found that out. */
uint32_t fat_index_free_from(const FatInode *dir, uint32_t slots);
void fat_index_searched(FatInode *dir, uint32_t slots, uint32_t slot);

/* ---- place.c: room for new entries ---- */

/* Where a new entry goes, and the clusters by which the directory must grow for it. */
typedef struct FatPlace {
    FatInode *dir;
    uint32_t slot;  /* first one */
    uint32_t slots; /* how many */
    bool moves_end; /* the slot behind becomes the new end of the directory */
    const FatNewName *name;
    FatRunList grow;
    uint64_t position; /* of the short entry */
} FatPlace;
/* skip_slot: this entry's names do not count as taken (UINT32_MAX: none). Completes name. */
/* name must live as long as the place. */
MAY_YIELD int fat_place_find(FatInode *dir, FatNewName *name, uint32_t skip_slot, FatPlace *ret);
/* The same for an entry whose short name is what it is: the label. */
MAY_YIELD int fat_place_find_room(FatInode *dir, FatNewName *name, FatPlace *ret);
/* The same for a name that nobody asked for and that lives inside one record; makes name. */
MAY_YIELD int fat_place_find_spare(FatInode *dir, FatNewName *name, FatPlace *ret);
void fat_place_done(FatPlace *place);
/* In a body. entry's name is filled in. */
int fat_place_write(Txn *txn, FatPlace *place, const FatDiskEntry *entry);
/* In a body: a spare name comes, in class LINK, and goes again in class SPARE. */
int fat_place_write_spare(Txn *txn, FatPlace *place, const FatDiskEntry *entry);
int fat_place_erase_spare(Txn *txn, FatPlace *place);
/* Directory clusters that were just allocated. */
int fat_blocks_zero(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count);

/* Where an existing entry lies, and what it is called. */
typedef struct FatSpan {
    uint32_t first_slot, slot; /* of the long name, of the short entry */
    uint32_t long_hash;        /* of the folded long name; 0 without one */
} FatSpan;
/* The entry that the framework found under the same locks. -ESTALE: it is not inode's. */
MAY_YIELD int fat_place_locate(FatInode *dir, const FsEntry *entry, const FatInode *inode,
                               FatSpan *ret);
/* In a body. */
int fat_place_erase(Txn *txn, FatInode *dir, const FatSpan *span, FatClass class);
/* In a body: something has moved out of the directory; the directory itself will be removed. */
void fat_place_note_departure(Txn *txn, FatInode *dir);
int fat_place_check_departures(Txn *txn, FatInode *dir);

/* ---- names_ops.c, rename.c ---- */

MAY_YIELD int fat_create(FsInode *dir, const FsCall *call, const FsName *name, const FsCreate *what,
                         FsEntry *ret);
/* In a body: the object has lost its entry. */
int fat_inode_unlinked(Txn *txn, FatInode *victim);
MAY_YIELD int fat_unlink(FsInode *dir, const FsCall *call, const FsName *name, const FsEntry *entry,
                         FsInode *victim);
MAY_YIELD int fat_rename(FileSystem *fs, const FsCall *call, const FsRename *rename);

#endif
