/* SPDX-License-Identifier: MIT */
/*
 * What the files of the cache share. Who owns what:
 *
 *   cache.c       buffers: hash, references, replacement, memory limit
 *   load.c        reading missing blocks
 *   txn.c         one run of a transaction: begin, restart, abort, commit
 *   change.c      what a body does to blocks: write, new, free, save, hooks
 *   objects.c     the object table and its index
 *   checkpoint.c  batches, write-out, who waits for it, the timed commit
 *   journalled.c  write-out by way of a side journal
 *   recover.c     taking over a predecessor's log
 *   debug.c       test switches
 *   lifeline.[ch] record.[ch] fold.[ch] writer.[ch] pending.[ch]: know nothing of the cache
 *   memory.c      the owner's side of the lifeline, which maps nothing; rescue
 *
 * A buffer is *dirty* while the log between tail and head has items for it:
 * the device's copy is stale, so it may not be evicted. A dirty buffer's
 * contents are never written from memory; write-out builds them from the log.
 */
#ifndef BERTH_CACHE_INTERNAL_H
#define BERTH_CACHE_INTERNAL_H

#include "berth/cache.h"
#include "fold.h"
#include "lifeline.h"
#include "pending.h"
#include "record.h"
#include "vector.h"
#include "writer.h"

typedef enum BufferState { BUFFER_LOADING, BUFFER_PRESENT, BUFFER_FAILED } BufferState;

/* Which bytes of a dirty block the current batch has written, and in which class: two 4-bit
 * entries for the halves of each byte, class + 1, 0: not written. */
typedef struct ClassMap {
    uint8_t *entries; /* NULL: all are `fill` */
    uint8_t fill;
    uint8_t top; /* highest entry: the quick test */
} ClassMap;

typedef struct CacheBuffer {
    Buffer public;
    struct Cache *cache;
    uint8_t *bytes; /* the memory behind public.data */
    BufferState state;
    int error; /* BUFFER_FAILED: why */
    uint32_t refs;
    bool attached;     /* in the hash; otherwise it lives for its holders only */
    bool hot;          /* belongs to the queue of the often used */
    uint64_t base_lsn; /* record with the newest BASE or ZERO; 0: none */
    uint64_t last_lsn; /* end of the newest record that touched it */
    ClassMap classes;
    /* Of the open transaction: */
    bool based; /* its BASE or ZERO is in this record */
    bool fresh; /* made by txn_new_block(): abort drops it */
    ClassMap classes_before;
    FiberQueue waiters; /* while loading */
    HashNode hash;
    ListNode idle, dirty, touched;
} CacheBuffer;

/* A block number evicted not long ago: coming back it is hot. */
typedef struct CacheGhost {
    HashNode hash;
    ListNode node;
} CacheGhost;

typedef struct TxnUndo {
    void *target;
    size_t length;
    size_t saved; /* offset in undo_bytes */
} TxnUndo;

typedef struct TxnHook {
    void (*fn)(void *arg);
    void *arg;
} TxnHook;

/* A block that a body missed: loaded and pinned until its transaction ends, or in error. */
typedef struct TxnMiss {
    uint64_t block;
    CacheBuffer *buffer; /* NULL: not loaded */
    int error;
} TxnMiss;

/* Lives over all attempts of one txn_run(). */
typedef struct TxnRun {
    TxnMiss *misses;
    size_t miss_count, miss_capacity;
    size_t loaded; /* the first so many are from earlier attempts, sorted by nothing */
    uint32_t reservation;
    bool new_batch; /* the record must start one */
} TxnRun;

/* One attempt. There is one Txn per cache, as bodies do not suspend. */
struct Txn {
    Cache *cache;
    TxnRun *run;
    bool open;
    bool restart; /* something was missed, or the run was changed: this attempt cannot commit */
    int error;    /* a change failed: this attempt cannot commit */
    uint64_t lsn;
    uint64_t batch_begin; /* of the batch that the record will belong to */
    RecordBuilder record;
    uint8_t classes;       /* bits, of the items so far */
    uint32_t object_items; /* OBJECT items so far, and how many may need a new entry */
    uint32_t object_puts;
    uint64_t fresh_bytes; /* of txn_new_block() */
    TxnUndo *undo;
    size_t undo_count, undo_capacity;
    uint8_t *undo_bytes;
    size_t undo_used, undo_size;
    TxnHook *commit_hooks, *abort_hooks;
    size_t commit_hook_count, commit_hook_capacity;
    size_t abort_hook_count, abort_hook_capacity;
    List touched;
};

typedef struct CacheBatch {
    uint64_t begin; /* ends where the next begins, the last one at head */
    uint8_t classes;
} CacheBatch;

#define OBJECT_INDEX_SIZE (2 * LIFELINE_OBJECTS)
typedef struct ObjectIndex {
    uint16_t place[OBJECT_INDEX_SIZE]; /* entry + 1, 0: empty */
    uint16_t free[LIFELINE_OBJECTS];
    uint32_t free_count;
    uint32_t top; /* no entry from here on was ever used */
} ObjectIndex;

struct Cache {
    CacheConfig config;
    CacheStats stats;
    CacheDebug debug;
    unsigned block_shift;
    uint64_t block_count;
    Lifeline *log; /* the config's, or our own */
    Lifeline *own_log;
    LogView view;
    Txn txn;
    FiberMutex txn_turn; /* held while waiting for log space and over the body: no overtaking */

    HashMap buffers;
    List cold, hot; /* idle buffers: seen once, seen again; oldest first */
    size_t cold_count, hot_count;
    List dirty; /* by last_lsn */
    HashMap ghosts;
    List ghost_queue;
    size_t clean_limit; /* buffers */

    ObjectIndex *objects;
    Pending pending;

    CacheBatch *batches; /* [first, first + count) */
    size_t batch_first, batch_count, batch_capacity;
    Fold fold; /* of the oldest batch, while it is written */
    bool folded;
    bool held; /* by a test: nothing runs by itself */
    bool recovered;
    bool unsettled;      /* device writes of a predecessor may be under way: no checkpoint */
    bool frozen;         /* a successor may be taking over: no checkpoint */
    bool damaged;        /* a part of the log was lost: no transactions */
    bool foreign_writes; /* what predecessors wrote is not known to be flushed */
    bool part_written;   /* they may have written any part of the log to the device */
    uint64_t note;
    bool checkpoint_running;
    bool stopping;     /* cache_free() has begun */
    bool commit_fiber; /* spawned and not yet gone */
    int failed;        /* write-out gave up with this error */
    uint64_t checkpoints_started, checkpoints_finished;
    uint64_t failed_number; /* newest checkpoint that failed, and how; 0: none */
    int failed_status;
    FiberQueue progress; /* woken when the tail moves or a checkpoint ends */
    LoopTimer commit_timer;
};

static inline CacheBuffer *cache_buffer(Buffer *buffer) {
    return container_of(buffer, CacheBuffer, public);
}

/* cache.c */
CacheBuffer *cache_buffer_lookup(Cache *cache, uint64_t block);
/* Makes an attached buffer with one reference, contents undefined. -ENOMEM. */
int cache_buffer_new(Cache *cache, uint64_t block, BufferState state, CacheBuffer **ret);
void cache_buffer_ref(CacheBuffer *buffer);
void cache_buffer_unref(CacheBuffer *buffer);
/* Takes it out of the cache; the memory lives on while someone holds it. */
void cache_buffer_detach(CacheBuffer *buffer);
void cache_buffer_set_dirty(CacheBuffer *buffer, uint64_t lsn);
/* Everything whose last record ends at or before tail becomes clean. */
void cache_clean_until(Cache *cache, uint64_t tail);
/*
 * Freed blocks leave the cache. Their log items stay and are written out with their batch:
 * harmless, since nobody else may use the block before that. arg: the cache.
 */
void cache_forget_range(void *arg, uint64_t start, uint64_t count);
void cache_class_map_done(ClassMap *map);
/* Sleeps on a queue; outside fibers turns the loop instead. */
MAY_YIELD void cache_wait(Cache *cache, FiberQueue *queue);

/* load.c */
/* Brings block in; a reference in *ret. */
MAY_YIELD int cache_load_one(Cache *cache, uint64_t block, CacheBuffer **ret);
/* Sorts the misses, drops duplicates, loads all, each with its own result: a reference or an
 * error. Returns how many are left; adds to *counter those that had to be read. */
MAY_YIELD size_t cache_load_many(Cache *cache, TxnMiss *misses, size_t count, uint64_t *counter);

/* txn.c */
/* Notes that the open body needs this block. Always -ERESTART or -ENOMEM. */
int cache_txn_note_miss(Txn *txn, uint64_t block);
const TxnMiss *cache_txn_find_miss(const Txn *txn, uint64_t block);

/* recover.c */
/* Takes over what lies in the lifeline; 0, or an error that makes the volume unusable. */
int cache_recover(Cache *cache);
/* Blocks that are made dirty without their contents in the log, in one transaction: bounds what a
 * successor must keep in memory. */
#define FRESH_BYTES_MAX (UINT64_C(8) << 20)

/* objects.c */
int cache_objects_init(Cache *cache);
/* The index of what a predecessor left in the table. Entries that cannot be are left out: false. */
bool cache_objects_adopt(Cache *cache);
/* After the commit point: applies the OBJECT items of a record that lies in the log. Can be
 * repeated. False: no room, which no record of this process meets. */
bool cache_objects_apply(Cache *cache, const LogRecord *record);

/* change.c */
/* Remembers why the open transaction cannot commit; returns error. */
int cache_txn_fail(Txn *txn, int error);
/* Appends to the record; grows the reservation (by a restart) when it is full. */
int cache_txn_append(Txn *txn, const LogItem *item);
/* Puts all saved memory back, newest first. */
void cache_txn_undo(Txn *txn);

/* checkpoint.c */
/* Room for one more record of this size, and for its batch. May suspend. */
MAY_YIELD int cache_log_reserve(Cache *cache, uint32_t length);
/* After a commit: starts the timer, or write-out when half of the log is used. */
void cache_commit_later(Cache *cache);
/* The record about to be published starts a batch / adds classes to the current one. */
void cache_batch_begin(Cache *cache, uint64_t lsn);
/* The next class of the oldest batch: 1 written, 0 nothing left, -errno. */
MAY_YIELD int cache_checkpoint_step(Cache *cache);
uint64_t cache_batch_end(const Cache *cache, size_t index);
/* What is committed from now on belongs to a later batch. */
void cache_batch_close(Cache *cache);
/* The oldest batch is on the medium, and ends at `end`. */
void cache_release_batch(Cache *cache, uint64_t end);
MAY_YIELD int cache_flush_device(Cache *cache);
#define CACHE_ATTEMPTS 3 /* at writing, before the volume turns read-only */
/* journalled.c */
/* All batches up to target, which is their end, atomically. 0 or -errno. */
MAY_YIELD int cache_write_journalled(Cache *cache, uint64_t target);
void cache_checkpoint_init(Cache *cache);
/* Stops the timer, waits for a running checkpoint and the commit fiber, frees. */
MAY_YIELD void cache_checkpoint_done(Cache *cache);

#endif
