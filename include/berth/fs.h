/* SPDX-License-Identifier: MIT */
/*
 * What a filesystem is to the framework: a table of operations over inodes, and
 * what the framework offers it. A filesystem owns its layout, its allocation and its
 * transactions; the framework owns messages, the inode table, locks, name rules,
 * the generic file I/O and the reply (man berth-architecture.7).
 *
 * Guaranteed before any operation is called: offsets and lengths are not
 * negative and do not overflow int64; names are 1 to 255 bytes of valid UTF-8,
 * without '/' and NUL, not "." or ".."; directory arguments are live
 * directories; no mutator runs on a read-only volume; the inode locks of
 * man berth-locking.7 are held; for unlink, rmdir and rename the victims are
 * loaded and locked, and a rename makes no cycle.
 *
 * All operations return 0 (or a count) or a negative errno, and may suspend.
 * -EUCLEAN: the image is corrupt (reported), -EIO: the device failed.
 */
#ifndef BERTH_FS_H
#define BERTH_FS_H

#include "berth/block.h"
#include "berth/cache.h"
#include "berth/report.h"

#define FS_NAME_MAX 255
#define FS_ROOT_ID UINT64_C(1) /* file_id of every volume's root; others are >= 2 */

typedef struct FileSystem FileSystem;
typedef struct FsInode FsInode;

typedef enum FsFileType {
    FS_TYPE_UNKNOWN,
    FS_TYPE_FILE,
    FS_TYPE_DIRECTORY,
    FS_TYPE_SYMLINK,
    FS_TYPE_FIFO,
    FS_TYPE_SOCKET,
    FS_TYPE_CHAR,
    FS_TYPE_BLOCK,
    FS_TYPE_COUNT,
} FsFileType;

typedef struct FsAttr {
    uint64_t file_id;
    uint32_t generation;
    uint32_t type; /* FsFileType */
    uint32_t mode; /* permission bits, 07777 */
    uint32_t nlink;
    uint32_t uid, gid;
    uint32_t rdev;
    uint32_t block_size; /* preferred I/O size, bytes */
    uint64_t size;
    uint64_t blocks;                                /* of 512 bytes */
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns; /* since 1970, UTC; btime INT64_MIN: none */
} FsAttr;

typedef struct FsName {
    const char *text; /* not terminated */
    uint32_t length;
} FsName;

/* Who calls, when, and the reply that its record must carry. */
typedef struct FsCall {
    uint32_t uid, gid, pid;
    int64_t time_ns;       /* the time to stamp (never the clock: a re-execution writes the same) */
    const TxnReply *reply; /* for the one visible transaction; NULL: no exactly-once (tools) */
} FsCall;

typedef struct FsEntry {
    uint64_t file_id;
    uint64_t position; /* the filesystem's hint for inode_load, unlink, rename; valid while the
                          directory stays locked */
    bool exact;        /* the stored spelling equals the name asked for, byte by byte */
} FsEntry;

typedef struct FsCreate {
    uint32_t type; /* FsFileType */
    uint32_t mode; /* umask applied */
    uint32_t rdev;
    const char *target; /* symlink */
    uint32_t target_length;
    /* Where the body leaves what inode_load() would say of the new object, file_id included: the
     * record's reply is encoded from it. May be NULL. */
    FsAttr *attr;
} FsCreate;

enum FsSetattrMask {
    FS_SET_MODE = 1 << 0,
    FS_SET_UID = 1 << 1,
    FS_SET_GID = 1 << 2,
    FS_SET_SIZE = 1 << 3,
    FS_SET_ATIME = 1 << 4,
    FS_SET_MTIME = 1 << 5,
    FS_SET_CTIME = 1 << 6,
    FS_SET_KILL_SUIDGID = 1 << 7, /* clear suid and sgid as a write would */
    FS_SET_BTIME = 1 << 8,
};
typedef struct FsSetattr {
    uint32_t mask; /* FsSetattrMask */
    uint32_t mode, uid, gid;
    uint64_t size;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
} FsSetattr;

enum FsRenameFlags { FS_RENAME_NOREPLACE = 1, FS_RENAME_EXCHANGE = 2 };
typedef struct FsRename {
    FsInode *old_dir, *new_dir; /* may be the same */
    FsName old_name, new_name;
    FsInode *moved;
    FsEntry moved_entry;
    FsInode *victim; /* what new_name names, or NULL; may equal moved (another spelling) */
    FsEntry victim_entry;
    uint32_t flags;
} FsRename;

typedef enum FsExtentKind {
    FS_EXTENT_DATA,
    FS_EXTENT_HOLE,
    FS_EXTENT_UNWRITTEN,
    FS_EXTENT_INLINE, /* not on the device: what is written there write_begin has taken */
} FsExtentKind;
typedef struct FsExtent {
    FsExtentKind kind;
    uint64_t device_offset; /* bytes, DATA and UNWRITTEN */
    uint64_t length;        /* bytes from the asked offset on, at least 1 */
    const uint8_t *bytes;   /* INLINE: good until something suspends */
} FsExtent;

typedef struct FsStatfs {
    uint64_t blocks, blocks_free, blocks_available, files, files_free;
    uint32_t block_size, fragment_size, name_max;
} FsStatfs;

/* Directory listing: the filesystem calls fs_dir_emit() per entry, which checks and bounds it. */
typedef struct FsDirEntry {
    const char *name;
    uint32_t name_length;
    uint64_t cookie; /* where to go on after this entry; never 0 */
    uint64_t file_id;
    uint64_t position; /* hint, as in FsEntry */
    FsFileType type;
    bool has_attr; /* attr is complete: the entry may be granted as if looked up */
    FsAttr attr;
} FsDirEntry;
typedef struct FsDirEmit {
    /* 0: go on, 1: full (stop, return 0), negative: an error to return */
    int (*emit)(struct FsDirEmit *emit, const FsDirEntry *entry);
} FsDirEmit;
static inline int fs_dir_emit(FsDirEmit *emit, const FsDirEntry *entry) {
    return emit->emit(emit, entry);
}

/* Options every volume understands; the rest of the string is the filesystem's. */
typedef struct FsMountOptions {
    bool readonly;
    uint32_t uid, gid;
    uint32_t fmask, dmask; /* permission bits to clear, for formats without modes */
    ErrorsPolicy errors;
    uint64_t commit_ns;
    size_t cache_bytes, log_bytes; /* 0: default */
    bool case_exact;               /* names compare byte by byte */
    char extra[512];               /* what the framework did not know, comma separated */
} FsMountOptions;
/*
 * Parses an option string: ro rw uid= gid= umask= fmask= dmask= (octal) errors=remount-ro|continue|
 * panic commit=SECONDS cache=SIZE log=SIZE case=exact|fold. Unknown options land in `extra`.
 * Without options: rw, uid and gid 0, masks 022. 0, or -EINVAL with *text (128 bytes) naming the
 * option.
 */
int fs_options_parse(const char *options, FsMountOptions *ret, char text[128]);

/*
 * The operations. [S] the inode's lock is held shared, [X] exclusive. NULL means
 * "not supported" (the errno is the table's in dispatch).
 */
typedef struct FileSystemOps {
    /* fs->device, ->cache(NULL), ->options, ->reporter are set. Reads the volume, makes the cache
     * with fs_cache_new(), fills ->label, ->uuid, ->block_size, ->case_insensitive,
     * ->read_only_reason. Leaves nothing behind on failure, but for ->cache, which the framework
     * frees. A read-only mount writes nothing. When fs_cache_new() has set ->recovered, the cache
     * shows the volume as a predecessor left it, and nothing can wait for the log yet. */
    int (*mount)(FileSystem *fs);
    /* All is synced, no inode is in core. Marks the volume clean (rw), releases everything of its
     * own; the framework then syncs and frees ->cache. */
    int (*unmount)(FileSystem *fs);
    int (*statfs)(FileSystem *fs, FsStatfs *ret);
    /* Brings in-core summaries into transactions (FSInfo, counts) before a checkpoint. May be NULL.
     */
    int (*sync)(FileSystem *fs);
    /* After a mount that took over from a predecessor, when requests are served already: goes on
     * with what that one left half done (chains to be reclaimed). May be NULL. */
    int (*recovered)(FileSystem *fs);
    /* readonly: mark clean and stop writing; not readonly: mark dirty. */
    int (*remount)(FileSystem *fs, bool readonly);

    /* [X] file_id is set (position: hint or 0); fills attr and the private part. -ESTALE: no such
     * object. */
    int (*inode_load)(FsInode *inode, uint64_t position);
    /* [X] nobody needs it: frees the private part. nlink == 0: reclaims its space first. An id with
     * an ALIAS or ORPHAN object gets here only when the other side has let go of it (granted is 0):
     * the object goes as well. The inode is freed even after an error. */
    int (*inode_evict)(FsInode *inode);
    int (*setattr)(FsInode *inode, const FsCall *call, const FsSetattr *set); /* [X] */

    int (*lookup)(FsInode *dir, const FsName *name, FsEntry *ret);  /* [S] -ENOENT */
    int (*readdir)(FsInode *dir, uint64_t cookie, FsDirEmit *emit); /* [S] no . and .. */
    int (*create)(FsInode *dir, const FsCall *call, const FsName *name, const FsCreate *what,
                  FsEntry *ret); /* dir [X]; -EEXIST was excluded by a lookup under the same lock;
                                    *ret and what->attr are there before the commit */
    int (*link)(FsInode *dir, const FsCall *call, const FsName *name, FsInode *target);
    /* dir, victim [X]; a directory victim is empty or -ENOTEMPTY. victim->attr.nlink drops; its
     * space is reclaimed at eviction. */
    int (*unlink)(FsInode *dir, const FsCall *call, const FsName *name, const FsEntry *entry,
                  FsInode *victim);
    int (*rename)(FileSystem *fs, const FsCall *call, const FsRename *rename); /* all [X] */
    int (*readlink)(FsInode *inode, char *buf, uint32_t capacity);             /* [S] length */
    /* A directory's parent, for the cycle check and "..". [S] */
    int (*parent)(FsInode *dir, uint64_t *ret_file_id);

    /* [S] The extent at offset < size (with FS_MAP_RESERVED also in reserved space). */
    int (*map)(FsInode *inode, uint64_t offset, uint32_t flags, FsExtent *ret);
    /* [S] Makes sure that space for [0, end) exists, in core only: allocated or reserved, in order
     * of calls. -ENOSPC, -EFBIG. Must be callable while earlier reservations are uncommitted. */
    int (*reserve)(FsInode *inode, uint64_t end);
    /* Drops reservations beyond keep_end (bytes; never what is committed). No I/O to them is in
     * flight. Does not suspend. */
    void (*unreserve)(FsInode *inode, uint64_t keep_end);
    /* [S] Before anything else of a write, in order of arrival: takes the bytes that will map to
     * INLINE, in a transaction without the reply. They may change meanwhile. May be NULL. */
    int (*write_begin)(FsInode *inode, const FsCall *call, uint64_t offset, const void *bytes,
                       uint32_t length);
    /* [S] One transaction: [offset, offset + length) has been written; links reserved space up to
     * its end, grows the size to it (never shrinks), stamps mtime and ctime. Calls for one inode
     * that grow it come in order, one at a time. */
    int (*write_commit)(FsInode *inode, const FsCall *call, uint64_t offset, uint64_t length);
    int (*fallocate)(FsInode *inode, const FsCall *call, uint32_t mode, uint64_t offset,
                     uint64_t length); /* [X] */

    int (*getxattr)(FsInode *inode, const FsName *name, void *buf, uint32_t capacity); /* [S] */
    int (*setxattr)(FsInode *inode, const FsCall *call, const FsName *name, const void *value,
                    uint32_t length, uint32_t flags);                           /* [X] */
    int (*listxattr)(FsInode *inode, char *buf, uint32_t capacity);             /* [S] */
    int (*removexattr)(FsInode *inode, const FsCall *call, const FsName *name); /* [X] */
} FileSystemOps;

#define FS_MAP_RESERVED 1u

typedef struct FsProbe {
    char label[256];
    char uuid[64];
    char subtype[32];
    char serial[64]; /* tells it from others where the format has no UUID; may be "" */
} FsProbe;

typedef struct FileSystemType {
    const char *name;   /* "fat" */
    const char *daemon; /* "fatd" */
    size_t fs_size;     /* of the structure that embeds FileSystem first */
    size_t inode_size;  /* of the one that embeds FsInode first */
    /* Is it ours? 0 yes, -ENOENT no, -EUCLEAN ours but broken. May be NULL. */
    int (*probe)(BlockDevice *device, FsProbe *ret);
    const FileSystemOps *ops;
    /* A file's mtime is stored rounded down to a multiple of this, and its ctime is not stored: so
     * who holds the attributes knows which times would change nothing. 0: not promised. */
    int64_t mtime_step_ns;
    /* file_ids that differ in these bits only are faces of one object (its forks): a change of one
     * may change attributes and names of all, and when one is unlinked, or gets an extended
     * attribute, the daemon wants to hear (EVICT) which of the others nobody holds. 0: there are
     * none. Names of those that have any of the bits get no timeout in the kernel. */
    uint64_t face_bits;
} FileSystemType;

struct FileSystem {
    const FileSystemType *type;
    BlockDevice *device;
    Cache *cache;
    Lifeline *lifeline; /* for fs_cache_new(), NULL outside daemons */
    SideJournal *journal; /* the same; NULL: none */
    bool recover;       /* take over what is in it */
    bool recovered;     /* that has happened: set by fs_cache_new() */
    Loop *loop; /* NULL outside daemons */
    Reporter *reporter;
    FsMountOptions options;
    bool readonly; /* now: by option, by policy or by the image's state */
    char read_only_reason[128];
    char label[256], uuid[64], subtype[32];
    uint32_t block_size; /* allocation unit, bytes */
    bool case_insensitive;
    /* The framework's. */
    struct FsInodeTable *inodes;
    FiberMutex rename_lock;
    uint64_t name_changes; /* counts create, unlink, rename: lets tests see cache rules */
};

/* Byte ranges of one file: readers shared, writers exclusive, granted in arrival order. */
typedef struct FsRangeLock {
    List held, waiting;
} FsRangeLock;
typedef struct FsRangeHold {
    ListNode node;
    uint64_t start, end;
    bool exclusive;
    Fiber *fiber;
} FsRangeHold;

struct FsInode {
    FileSystem *fs;
    uint64_t file_id;
    FsAttr attr; /* committed state; change under [X] or in write_commit, with txn_save() */
    FiberRwlock lock;
    FsRangeLock ranges;
    /* The framework's. */
    unsigned refs;
    bool loaded, dead; /* dead: nlink is 0 */
    bool evicting;     /* on its way out: who wants the id waits, then loads anew */
    int load_error;    /* why it never became loaded */
    uint64_t granted;  /* number of the last response that named it (EVICT rule) */
    HashNode node;
    ListNode lru;            /* unreferenced, oldest first; or among those to be evicted */
    struct FsAppend *append; /* pipelined extending writes, vfs/fileio.c */
};

/* ---- what the framework offers ---- */

/* Registry: name to type, all linked-in types. NULL-terminated table given by the program. */
const FileSystemType *fs_type_find(const FileSystemType *const *types, const char *name);

/* Mounts: allocates the FileSystem, calls type->ops->mount. device stays the caller's. *text gets
 * one line on failure. */
MAY_YIELD int fs_mount(const FileSystemType *type, BlockDevice *device, Loop *loop,
                       const FsMountOptions *options, FileSystem **ret, char text[256]);
/* The same with a lifeline and a side journal (which may be NULL); recover: take over what a
 * predecessor left there. */
MAY_YIELD int fs_mount_with(const FileSystemType *type, BlockDevice *device, Loop *loop,
                            Lifeline *lifeline, SideJournal *journal, bool recover, const FsMountOptions *options,
                            FileSystem **ret, char text[256]);
/* Evicts all, syncs, unmounts, frees. The first error is returned, everything is freed anyway. */
MAY_YIELD int fs_unmount(FileSystem *fs);
/* The same as if the process had died: nothing is written. */
MAY_YIELD void fs_abandon(FileSystem *fs);
/* Goes on with what a predecessor left half done (FileSystemOps.recovered), once. Who is short of
 * space meanwhile waits for it (fs_reclaim()). Runs beside requests, not beside fs_unmount(). */
MAY_YIELD void fs_resume(FileSystem *fs);
/* Waits until nothing goes on behind the requests' backs: evictions, fs_resume(). No request runs. */
MAY_YIELD void fs_quiesce(FileSystem *fs);
MAY_YIELD int fs_sync(FileSystem *fs);
/* What was committed is on the medium; summaries (FileSystemOps.sync) wait for fs_sync(). */
MAY_YIELD int fs_fsync(FileSystem *fs);
/* Makes fs->cache with the volume's options and hooks. released() gets fs as its arg. */
int fs_cache_new(FileSystem *fs, uint32_t block_size,
                 void (*released)(void *arg, uint64_t start, uint64_t count));
/* Turns the volume read-only (policy, write failure). reason is kept in read_only_reason. */
void fs_set_readonly(FileSystem *fs, const char *reason);

/* Inode table. get loads on a miss; the reference keeps it in core until put. */
MAY_YIELD int fs_inode_get(FileSystem *fs, uint64_t file_id, uint64_t position, FsInode **ret);
/*
 * Rises when an eviction begins and when one ends. An id that a lookup or listing gave may be one
 * that its object had only while in core (an alias): if it is not in core and this has changed
 * since, or an eviction is under way, the id may be gone.
 */
uint64_t fs_inode_eviction_steps(const FileSystem *fs);
bool fs_inode_evictions_pending(const FileSystem *fs);
/* Only if in core. */
FsInode *fs_inode_peek(FileSystem *fs, uint64_t file_id);
/* The last reference to a dead inode that nobody holds has it evicted: by a fiber of its own where
 * there is a loop (so this never suspends there), in place where there is none. */
void fs_inode_put(FsInode *inode);
DEFINE_CLEANUP(FsInode *, fs_inode_put);
/* The front-end let go of file_id, having seen responses up to `seen`. Unknown ids are fine. */
MAY_YIELD int fs_inode_forget(FileSystem *fs, uint64_t file_id, uint64_t seen);
/* A response numbered `number` names it: it is held by the other side from now on. */
void fs_inode_grant(FsInode *inode, uint64_t number);
/* Response `number` names inodes that are not in core. They need no entry: what is loaded later
 * counts as granted by the last response that granted anything, which errs on the safe side. */
void fs_inode_grant_absent(FileSystem *fs, uint64_t number);
/* Short of space: evicts what waits for it and lets freed blocks be used again. True when trying
 * again makes sense. Takes no lock but those of inodes that nobody can reach. */
MAY_YIELD bool fs_reclaim(FileSystem *fs);
size_t fs_inode_count(const FileSystem *fs); /* in core */
/* Held by the other side, or referenced here: its id must stay its own. */
bool fs_inode_held(const FsInode *inode);
/* An object that a create just made: enters it as loaded and referenced, for the caller to fill
 * before it suspends. -EEXIST: the id is in core. Ids are for life: they never change. */
int fs_inode_new(FileSystem *fs, uint64_t file_id, FsInode **ret);

/* Name rules of FileSystemOps' preamble: 0, -ENAMETOOLONG, -EINVAL, -EILSEQ. */
int fs_name_check(const FsName *name);

/* Byte-range locks (man berth-recovery.7, section 5). */
void fs_range_init(FsRangeLock *lock);
MAY_YIELD void fs_range_lock(FsRangeLock *lock, FsRangeHold *hold, uint64_t start, uint64_t length,
                             bool exclusive);
void fs_range_unlock(FsRangeLock *lock, FsRangeHold *hold);

/*
 * Generic file I/O over map/reserve/write_commit (vfs/fileio.c). buf is where the payload lies (the
 * shared arena: it goes to the device as it is). Called with the inode's lock shared.
 * file_read returns bytes read, 0 at or past the end.
 */
MAY_YIELD int64_t fs_file_read(FsInode *inode, uint64_t offset, void *buf, uint32_t length);
MAY_YIELD int64_t fs_file_write(FsInode *inode, const FsCall *call, uint64_t offset,
                                const void *buf, uint32_t length);
/* Zeroes [start, end) of a file in reserved or allocated space, outside any transaction. */
MAY_YIELD int fs_file_zero(FsInode *inode, uint64_t start, uint64_t end);

/* Filesystem types. */
extern const FileSystemType fat_type, hfs_type;

#endif
