/* SPDX-License-Identifier: MIT */
/*
 * Block devices: a byte range that can be read, written, flushed. The device
 * is the only layer that knows whether I/O suspends: the uring backend does,
 * the posix, memory, fault and recorder backends never do, so the same
 * filesystem code serves daemons, tools, tests and fuzzers.
 *
 * Every request passes the gate of the device it is given to: a range outside
 * [0, size) is refused with -ERANGE before any backend sees it, a write to a
 * read-only device with -EROFS. Transfers are all or nothing: success means
 * every byte. Past a short image's end (truncated under us) reads give -EIO.
 */
#ifndef BERTH_BLOCK_H
#define BERTH_BLOCK_H

#include "berth/base.h"
#include "berth/loop.h"
#include <sys/uio.h>

typedef struct BlockDevice BlockDevice;

typedef enum BlockOp { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD } BlockOp;

/*
 * One request, in the caller's memory until done. iov covers exactly length
 * bytes (READ, WRITE). done is called exactly once, from the loop, never
 * before block_submit() returns (non-suspending backends queue it: it runs at
 * the next block_poll() or loop turn). result: 0 or -errno.
 */
typedef struct BlockRequest {
    BlockOp op;
    uint64_t offset;
    uint64_t length;
    const struct iovec *iov;
    int iov_count;
    void (*done)(struct BlockRequest *request);
    void *arg;
    int result;
    /* the gate's */
    ListNode node;
    struct BlockDevice *device;
    uint64_t flush_mark; /* FLUSH: writes that had completed when it started */
    bool forced;         /* FLUSH: goes to the medium whatever was written through the device */
    bool starting;       /* inside block_submit(): done must wait */
    bool in_place;       /* a blocking form's: done may run inside the submission */
    /* the backend's */
    void *backend[12];
} BlockRequest;

typedef struct BlockStats {
    uint64_t reads, writes, flushes, discards; /* requests that reached the backend */
    uint64_t read_bytes, write_bytes;
    uint64_t errors;
    unsigned inflight, inflight_max;
} BlockStats;

/* Backends implement this; stacked devices hold the lower one. */
typedef struct BlockBackend {
    const char *name;
    bool suspends;
    /* Starts the request. Non-suspending backends may finish it in place and return. Must end in
     * block_complete(). */
    void (*submit)(BlockDevice *device, BlockRequest *request);
    /* Optional: finishes what the backend held back; returns how many requests. */
    unsigned (*poll)(BlockDevice *device);
    /* Releases device->state; nothing is in flight. */
    void (*free)(BlockDevice *device);
} BlockBackend;

struct BlockDevice {
    const BlockBackend *backend;
    uint64_t size;             /* bytes */
    uint32_t sector_size;      /* smallest unit the medium writes atomically: 512 or 4096 */
    uint32_t direct_alignment; /* offset and length alignment for direct I/O, 0: none possible */
    bool readonly;
    /* Writes completed since the last successful flush began; 0: flush is free. */
    uint64_t unflushed;
    BlockStats stats;
    uint64_t written, flushed; /* writes ever completed; of those, covered by a good flush */
    List finished;             /* completions waiting for block_poll() or the loop's next turn */
    LoopTimer turn;            /* that turn, on the loop below (NULL: none) */
    Loop *turn_loop;
    void *state; /* backend's */
};

/* Nothing may be in flight, and no done callback of the device running. */
BlockDevice *block_free(BlockDevice *device);
DEFINE_CLEANUP(BlockDevice *, block_free);

void block_submit(BlockDevice *device, BlockRequest *request);
/* For backends: finishes a request (result set). */
void block_complete(BlockRequest *request, int result);
/* Runs waiting completions; returns how many. On a thread with a loop the loop does it by itself.
 */
unsigned block_poll(BlockDevice *device);
bool block_suspends(const BlockDevice *device);

/*
 * The fiber form: submits, suspends (on a suspending backend inside a fiber), returns the result.
 * A backend that does not suspend answers in place. Outside fibers a suspending one turns the
 * thread's loop until the answer is there: for set-up code, never from a loop callback.
 */
MAY_YIELD int block_read(BlockDevice *device, uint64_t offset, void *buf, uint64_t length);
MAY_YIELD int block_write(BlockDevice *device, uint64_t offset, const void *buf, uint64_t length);
MAY_YIELD int block_readv(BlockDevice *device, uint64_t offset, const struct iovec *iov,
                          int iov_count);
MAY_YIELD int block_writev(BlockDevice *device, uint64_t offset, const struct iovec *iov,
                           int iov_count);
/* Everything completed before the call is on stable storage. Free when nothing was written. */
MAY_YIELD int block_flush(BlockDevice *device);
/* The same, also for what others have written to the medium: never free. */
MAY_YIELD int block_flush_all(BlockDevice *device);
MAY_YIELD int block_discard(BlockDevice *device, uint64_t offset, uint64_t length);

/* Many requests of one operation in flight: add any number, then wait for all; first error wins. */
typedef struct BlockBatch {
    BlockDevice *device;
    unsigned pending;
    int first_error;
    Fiber *waiter;
    List requests; /* heap copies, freed by wait */
} BlockBatch;
void block_batch_init(BlockBatch *batch, BlockDevice *device);
/* buf stays the caller's until wait returns. -ENOMEM only. */
int block_batch_read(BlockBatch *batch, uint64_t offset, void *buf, uint64_t length);
int block_batch_write(BlockBatch *batch, uint64_t offset, const void *buf, uint64_t length);
int block_batch_writev(BlockBatch *batch, uint64_t offset, const struct iovec *iov, int iov_count);
MAY_YIELD int block_batch_wait(BlockBatch *batch);

/* ---- backends ---- */

typedef struct BlockOpenConfig {
    int fd; /* image or block device, opened by someone else; duplicated */
    bool readonly;
    uint64_t start;  /* first byte of the volume */
    uint64_t length; /* 0: to the end */
    int direct;      /* O_DIRECT: -1 when the medium allows it, 0 never, 1 require */
} BlockOpenConfig;

/* pread, pwrite, fdatasync in place. */
int block_posix_new(const BlockOpenConfig *config, BlockDevice **ret);
/*
 * io_uring: registered file, direct I/O where aligned (a second description
 * from /proc/self/fd, so before any sandbox closes), buffered otherwise,
 * short transfers continued, EAGAIN and unasked ECANCELED retried. On a loop
 * without a ring the same device stands on the loop's thread pool. The device
 * must be freed before its loop.
 */
int block_uring_new(const BlockOpenConfig *config, Loop *loop, BlockDevice **ret);
/* A zeroed memory device; or over caller's bytes (not freed) when data is not NULL. */
int block_memory_new(uint64_t size, uint32_t sector_size, void *data, BlockDevice **ret);
uint8_t *block_memory_data(BlockDevice *device);
/* [start, start + length) of another device, which stays the caller's. */
int block_slice_new(BlockDevice *lower, uint64_t start, uint64_t length, BlockDevice **ret);

/* Stacked on another device (kept by the caller): injects faults. */
typedef struct BlockFaults {
    /* The Nth read from now fails with error (1 = next), 0: never. Counted down; 0 again after it
     * has fired, unless sticky. */
    uint64_t fail_read_at;
    uint64_t
        fail_write_at; /* the Nth write; with tear, its first half (whole sectors) is written */
    uint64_t fail_flush_at;
    bool tear;
    bool sticky; /* all later ones of the kind fail as well */
    int error;   /* errno to give, positive; default EIO */
    /* Completions of block_submit() are held back for this many block_poll() calls. */
    unsigned delay_steps;
    uint64_t reads, writes, flushes;              /* seen so far */
    uint64_t fail_range_start, fail_range_length; /* reads and writes that touch it fail */
} BlockFaults;
int block_fault_new(BlockDevice *lower, BlockFaults *faults, BlockDevice **ret);

/*
 * Stacked: keeps a log of every write and flush, so that crash states can be
 * built: epoch N holds the writes between flush N and N + 1. Writes are logged
 * at completion; one that completes while a flush is under way is not covered
 * by it and gets the later epoch. A discard is logged as zeros.
 */
typedef struct RecordedWrite {
    uint64_t offset;
    uint64_t length;
    uint64_t moment; /* by the recording's clock, 0 without one */
    uint32_t epoch;
    uint8_t *data;
} RecordedWrite;
typedef struct BlockRecording {
    RecordedWrite *writes;
    size_t count, capacity;
    uint32_t epoch;
    /* Ticks at each write and good flush: one for several devices tells the order of theirs. NULL:
     * none. */
    uint64_t *clock;
    uint64_t *flushes; /* with a clock: the moment at which epoch i + 1 began */
    size_t flush_count, flush_capacity;
    size_t durable; /* writes[0 .. durable) were complete when the last good flush began */
    bool failed;    /* out of memory: recording incomplete */
} BlockRecording;
int block_recorder_new(BlockDevice *lower, BlockRecording *recording, BlockDevice **ret);
void block_recording_done(BlockRecording *recording);

/*
 * Stacked: notes each write in a table that outlives the process, from before it reaches the lower
 * device until it has completed. Entries found there at the first write (or question about them)
 * are writes of predecessors that may still be under way: a write that overlaps one waits for
 * block_inflight_settled(). So the device may be made while a predecessor still runs. The table
 * is shared memory: entries are copied, ranges outside the device count as the whole of it. When
 * the table is full, a write waits until an entry is free. A lower device that does not suspend
 * leaves nothing under way when its process dies: nothing waits there. (man berth-recovery.7,
 * section 8)
 */
typedef struct BlockInflight {
    uint64_t offset, length; /* bytes; length 0: free */
} BlockInflight;
int block_inflight_new(BlockDevice *lower, BlockInflight *entries, unsigned count,
                       BlockDevice **ret);
/* All writes of predecessors have ended: clears their entries, lets go of what waited. Once only
 * has an effect. */
void block_inflight_settled(BlockDevice *device);
/* Is there still one that may be under way? */
bool block_inflight_unsettled(const BlockDevice *device);

/* Stacked: one log_info line per request, with its length, result and duration. */
int block_trace_new(BlockDevice *lower, BlockDevice **ret);

#endif
