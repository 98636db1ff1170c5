/* SPDX-License-Identifier: MIT */
/*
 * Buffer cache for metadata blocks, and the only way to change them:
 * transactions whose bodies never suspend, logged as "base image at first
 * touch, byte ranges after" and written to the image from the log, class by
 * class (man berth-recovery.7).
 *
 * A block here is the filesystem's metadata unit: no block may hold both
 * metadata and file data (FAT: the sector). Blocks are numbered from the start
 * of the device; the last one may be short on the device, it is zero-filled in
 * memory.
 *
 * One cache belongs to one volume and one thread.
 */
#ifndef BERTH_CACHE_H
#define BERTH_CACHE_H

#include "berth/block.h"
#include "berth/lifeline.h"
#include "berth/sidejournal.h"

typedef struct Cache Cache;
typedef struct Txn Txn;

typedef struct Buffer {
    uint64_t block;
    const uint8_t *data; /* block_size bytes; change only through txn_write() */
} Buffer;

/* Order in which a checkpoint writes what belongs to one batch; formats name their own. */
#define TXN_CLASS_MAX 8

typedef struct CacheConfig {
    BlockDevice *device; /* stays the caller's */
    uint32_t block_size; /* 512 to 65536, power of two */
    size_t memory_limit; /* bytes of clean buffers kept, 0: 8 MiB */
    size_t log_size; /* bytes of the ring, 0: 16 MiB; rounded up, 64 KiB and 32 blocks to 64 MiB */
    /* Where the log lives; log_size does not count then. NULL: private memory. Stays the caller's.
     */
    Lifeline *lifeline;
    /* Take over what a predecessor left there, if it left anything; else it is made anew. */
    bool recover;
    /* Write-out goes through it, all classes of a checkpoint at once; begun already unless the log
     * is taken over. Stays the caller's. NULL: class by class. */
    SideJournal *journal;
    Loop *loop;         /* for the timed commit; NULL: none, checkpoints run in place */
    uint64_t commit_ns; /* timed commit, 0: 5 s */
    /* A freed range may be used again: the record that freed it has been checkpointed. May be
     * NULL. Never suspends. */
    void (*released)(void *arg, uint64_t start, uint64_t count);
    /* Write-out failed for good (the log is kept, the device is left alone from now on): the
     * volume must turn read-only. May be NULL. Never suspends. */
    void (*failed)(void *arg, int error);
    void *arg;
} CacheConfig;

typedef struct CacheStats {
    uint64_t hits, misses, evictions, prefetched;
    uint64_t transactions, restarts, aborts;
    uint64_t checkpoints, batches, blocks_written, class_flushes;
    uint64_t log_bytes;
    size_t buffers, dirty_buffers;
} CacheStats;

int cache_new(const CacheConfig *config, Cache **ret);
/* Everything must have been synced or is dropped; all buffers have been put. Waits for a
 * checkpoint under way. NULL is fine. */
Cache *cache_free(Cache *cache);
DEFINE_CLEANUP(Cache *, cache_free);
const CacheStats *cache_stats(Cache *cache);

/* ---- taking over from a predecessor (man berth-recovery.7, section 8) ---- */

/* Did cache_new() find a predecessor's log? Its blocks are in the cache, dirty, as after its last
 * commit. No checkpoint runs until cache_settled(). */
bool cache_recovered(const Cache *cache);
/*
 * A part of that log, or of what lies beside it, was damaged and is lost; a line was logged, and
 * CacheConfig.failed was called with -EUCLEAN before cache_new() returned. What came before is in
 * the cache and is written out as ever; transactions get -EROFS. (-EUCLEAN of cache_new(): the
 * header itself is damaged, or of another volume.)
 */
bool cache_damaged(const Cache *cache);
/* All device writes of predecessors have ended: checkpoints may run. Until then a transaction that
 * finds the log full waits, and so does cache_sync() (-EAGAIN where there is nothing to wait with:
 * neither fiber nor loop). */
void cache_settled(Cache *cache);
/*
 * Has this request been committed? Its recorded reply (1 to 256 bytes, copied), 0: no, run it;
 * -EPROTO: the slot has seen a later one.
 */
int cache_slot_reply(Cache *cache, unsigned slot, uint64_t seq, uint8_t ret[256]);
/* 64 bits of the filesystem's own that a successor finds again (how the volume was found at the
 * first mount). 0 in a fresh lifeline. Not transactional: set at mount only. */
uint64_t cache_note(const Cache *cache);
void cache_set_note(Cache *cache, uint64_t note);
/* Waits for a checkpoint under way and lets none start until cache_thaw(): the lifeline and the
 * device stay as they are while a successor tries to take over. */
MAY_YIELD void cache_freeze(Cache *cache);
void cache_thaw(Cache *cache);
uint32_t cache_block_size(const Cache *cache);

/*
 * The block with its current contents, referenced until cache_put(). Outside a
 * transaction body a miss suspends; inside one it is noted and -ERESTART is
 * returned (the body returns it at once; txn_run() loads and repeats). Contents
 * may change at any suspension unless a lock of the filesystem forbids it.
 * -ERANGE outside the device, -EIO, -ENOMEM.
 */
#ifndef ERESTART
#define ERESTART 85
#endif
MAY_YIELD int cache_get(Cache *cache, uint64_t block, Buffer **ret);
void cache_put(Buffer *buffer);
DEFINE_CLEANUP(Buffer *, cache_put);
/*
 * Loads what is missing of [block, block + count) with few large reads. Inside
 * a transaction body: notes what is missing and returns -ERESTART if anything is.
 * At most 1 MiB at a time is loaded (more is cut off silently: it is a hint).
 */
MAY_YIELD int cache_prefetch(Cache *cache, uint64_t block, uint64_t count);

/* ---- transactions ---- */

/* The reply that belongs to the record (man berth-recovery.7, section 2): exactly-once. */
typedef struct TxnReply {
    uint16_t slot;
    uint64_t seq;
    /* Encodes the operation's reply, at commit, without suspending. Returns the bytes used
     * (at most 256) or -errno. */
    int (*encode)(void *arg, uint8_t *buf, uint32_t capacity);
    void *arg;
} TxnReply;
#define TXN_SLOT_INTERNAL 0xffff

typedef int TxnBody(Txn *txn, void *arg);

/*
 * Runs body as one transaction and commits it: begin, body, and on -ERESTART
 * abort, load what it missed (suspending), body again from its start, with the
 * caller's inode locks held throughout. Any other error of body aborts (all
 * bytes and saved memory restored) and is returned; so is a result above 0
 * after commit. A body that got an error from a txn_ function (or -ERESTART
 * from any) cannot commit, whatever it returns. At most one transaction is
 * open at a time, which holds by itself as bodies do not suspend; nesting
 * aborts the process. Waits for log space before (may run a checkpoint).
 * -E2BIG: the record exceeds a quarter of the log, or it makes more than 8 MiB of new blocks.
 * -EROFS after a write-out failure. reply NULL: internal work; a body that changed nothing then
 * leaves no record.
 */
MAY_YIELD int txn_run(Cache *cache, const TxnReply *reply, TxnBody *body, void *arg);

/*
 * Changes bytes [offset, offset + length) of a block got inside this body.
 * class: 0 to TXN_CLASS_MAX - 1, the write-out order. Class 0 may be on the
 * medium before the data of files is: it is for what nothing there refers to
 * and what refers to no data itself. A transaction must not
 * write the same bytes with a lower class than before: -EUCLEAN, as only
 * structures that overlap on a corrupt image lead there. The Buffer may be put
 * directly afterwards. -ERESTART (on any device: the record needs more log
 * space, or must begin a new batch), -ENOMEM, -E2BIG, -ERANGE outside the
 * block, -ESTALE: the block was freed since the buffer was got.
 */
int txn_write(Txn *txn, Buffer *buffer, uint32_t offset, const void *bytes, uint32_t length,
              unsigned class);
/* The same for the bits set in mask only (FAT12 cells, bitmaps): new = (old & ~mask) | (bits &
 * mask). length at most 64. */
int txn_write_bits(Txn *txn, Buffer *buffer, uint32_t offset, const uint8_t *bits,
                   const uint8_t *mask, uint32_t length, unsigned class);
/* A newly allocated metadata block: never read from the device, starts as zeros (of class).
 * Higher classes may be written over the zeros in the same transaction. -EBUSY: the block is
 * freed and not released. */
int txn_new_block(Txn *txn, uint64_t block, unsigned class, Buffer **ret);
/*
 * These blocks are freed by this transaction: they leave the cache at commit,
 * and CacheConfig.released is called when the image itself has forgotten them.
 * -EUCLEAN: part of the range is pending already (freed twice). -ERANGE.
 */
int txn_free_blocks(Txn *txn, uint64_t start, uint64_t count);
/* In-core memory that abort must restore: saves its present bytes. */
int txn_save(Txn *txn, void *memory, size_t length);
/* Runs fn(arg) after the commit point, before txn_run() returns; dropped on abort. */
int txn_on_commit(Txn *txn, void (*fn)(void *arg), void *arg);
/* Runs fn(arg) on abort (restarts included), in reverse order, after memory was restored. */
int txn_on_abort(Txn *txn, void (*fn)(void *arg), void *arg);
/*
 * Batches are written out one after the other; inside one only classes are ordered. A body whose
 * change must not reach the image before that of an earlier record, although their classes do not
 * say so (a name that was just erased elsewhere), compares the batches (txn_batch: the one this
 * record belongs to) and asks for one of its own: 0 if this record begins a batch, else -ERESTART,
 * to be returned at once.
 */
uint64_t txn_batch(const Txn *txn);
int txn_separate(Txn *txn);
/*
 * The highest class in which the record's batch has written any of these bytes so far: the lowest
 * that they can be written in without a new batch. 0 also where nothing has been written.
 */
unsigned txn_class_written(const Txn *txn, uint64_t block, uint32_t offset, uint32_t length);
/* The open transaction, or NULL. */
Txn *txn_current(Cache *cache);

/* Survivors of a daemon (man berth-recovery.7, section 1): what an object's natural place cannot
 * tell. */
typedef enum TxnObjectKind {
    TXN_OBJECT_ALIAS = 1,
    TXN_OBJECT_ORPHAN,
    TXN_OBJECT_RECLAIM
} TxnObjectKind;
#define TXN_OBJECT_BLOB_MAX 512
/* -ENOSPC when the table (4096 objects) is full. */
int txn_object_put(Txn *txn, uint64_t file_id, TxnObjectKind kind, const void *blob,
                   uint32_t length);
int txn_object_remove(Txn *txn, uint64_t file_id, TxnObjectKind kind);
/* Committed objects (or, inside a body, including its own changes). Returns length or -ENOENT. */
int cache_object_get(Cache *cache, uint64_t file_id, TxnObjectKind kind, void *blob,
                     uint32_t capacity);
/* fn returns 0 to go on. It must not change objects. */
int cache_object_iterate(Cache *cache,
                         int (*fn)(void *arg, uint64_t file_id, TxnObjectKind kind,
                                   const void *blob, uint32_t length),
                         void *arg);

/* ---- write-out ---- */

/*
 * Joins the first checkpoint that starts after the call, or runs one; all
 * committed before is then on stable storage, file data written to the device
 * included. Returns that checkpoint's status.
 */
MAY_YIELD int cache_sync(Cache *cache);
/* Is a freed range still waiting for its checkpoint? (It must not be handed out then.) */
bool cache_range_pending(Cache *cache, uint64_t start, uint64_t count);
/* Blocks freed and not released. Allocators: when short, cache_sync(), then look again. */
uint64_t cache_pending_blocks(Cache *cache);
/* Calls fn for each pending range that overlaps [start, start + count). */
void cache_pending_iterate(Cache *cache, uint64_t start, uint64_t count,
                           void (*fn)(void *arg, uint64_t start, uint64_t count), void *arg);

/* ---- test switches (always built; off by default) ---- */
typedef struct CacheDebug {
    uint64_t restart_at;   /* the Nth cache_get inside a body returns -ERESTART although present;
                              0: never. Counts calls over all bodies; fires once. */
    uint64_t abort_at;     /* the Nth txn_write gives -EIO */
    bool restart_all;      /* each block is missed once per txn_run: as if the cache were cold */
    uint64_t gets, writes; /* seen so far */
} CacheDebug;
CacheDebug *cache_debug(Cache *cache);
/*
 * Property tests of write-out: stops checkpoints from running by themselves
 * (a transaction that finds the log full then gets -EAGAIN; cache_sync() still
 * runs one), and lets the test run them one class at a time.
 */
void cache_debug_hold_checkpoints(Cache *cache, bool hold);
/* While held: writes and flushes the next class of the oldest batch, after closing the newest.
 * 1 when one was written, 0 when nothing is left, -errno. */
MAY_YIELD int cache_debug_step(Cache *cache);
/* The log as it stands, for tests of fold: committed batches from tail to head. */
typedef struct CacheDebugBatch {
    uint64_t begin, end; /* LSN */
    uint8_t classes;     /* bit per class in use */
} CacheDebugBatch;
size_t cache_debug_batches(Cache *cache, CacheDebugBatch *out, size_t capacity);
/* Blocks of batch [begin, end) as fold builds them for items of class <= class; fn gets those
 * with ranges of exactly `class`. 0 or -EUCLEAN for a bad log. */
int cache_debug_fold(Cache *cache, uint64_t begin, uint64_t end, unsigned class,
                     void (*fn)(void *arg, uint64_t block, const uint8_t *data), void *arg);

#endif
