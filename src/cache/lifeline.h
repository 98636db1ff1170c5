/* SPDX-License-Identifier: MIT */
/*
 * The lifeline: the memory that holds what a dead daemon must leave behind:
 * positions of the log, the last reply of each slot, the object table, and the
 * ring of records, mapped twice in a row so that no record wraps.
 *
 *     header page | slots | objects | ring
 *
 * A position in the log is an LSN: a byte count that never wraps; ring offset
 * = lsn % ring_size. This module knows the layout and stores positions with
 * the needed memory order. It knows nothing of transactions. The positions are
 * kept privately as well and never read back from the shared page.
 */
#ifndef BERTH_CACHE_LIFELINE_H
#define BERTH_CACHE_LIFELINE_H

#include "berth/base.h"

#define LIFELINE_MAGIC UINT64_C(0x656e696c6566696c) /* "lifeline" */
#define LIFELINE_VERSION 1
#define LIFELINE_HEADER_SIZE 4096
#define LIFELINE_ALIGN (UINT64_C(64) << 10) /* of the ring: no page is larger */
#define LIFELINE_SLOTS 4096
#define LIFELINE_OBJECTS 4096
#define LIFELINE_REPLY_MAX 256
#define LIFELINE_BLOB_MAX 512
#define LIFELINE_RING_MIN (UINT64_C(64) << 10)
#define LIFELINE_RING_MAX (UINT64_C(64) << 20)

typedef struct LifelineHeader {
    uint64_t magic;
    uint32_t version;
    uint32_t block_size;
    uint64_t volume_size;
    uint32_t slot_count, object_count;
    uint64_t slots_offset, objects_offset, ring_offset, ring_size;
    uint64_t head, tail, applied, batch_start;
    uint32_t classes_done; /* bits: classes of the batch at tail that are on the medium */
    uint32_t reserved;
} LifelineHeader;

typedef struct LifelineSlot {
    uint64_t seq; /* 0: never used */
    uint64_t lsn; /* of the record that carried the reply */
    uint32_t length;
    uint32_t reserved[3];
    uint8_t reply[LIFELINE_REPLY_MAX];
} LifelineSlot;

typedef struct LifelineObject {
    uint64_t file_id;
    uint64_t lsn;  /* of the record that stored it */
    uint32_t kind; /* 0: free */
    uint32_t length;
    uint8_t blob[LIFELINE_BLOB_MAX];
} LifelineObject;

typedef struct Lifeline {
    LifelineHeader *header;
    LifelineSlot *slots;
    LifelineObject *objects;
    uint8_t *ring; /* 2 * ring_size bytes of address space */
    uint64_t ring_size;
    uint64_t head, tail, batch_start;
    uint32_t classes_done;
    int fd;
    size_t control_size; /* header, slots and objects */
} Lifeline;

/* ring_size must be a multiple of LIFELINE_ALIGN within the bounds above. */
int lifeline_init(Lifeline *lifeline, uint64_t ring_size, uint32_t block_size,
                  uint64_t volume_size);
/* Fine on a zeroed one that was never initialised. */
void lifeline_done(Lifeline *lifeline);

/* Where the record at lsn lies; at least ring_size bytes may be used from there. */
static inline uint8_t *lifeline_at(const Lifeline *lifeline, uint64_t lsn) {
    return lifeline->ring + lsn % lifeline->ring_size;
}
static inline uint64_t lifeline_used(const Lifeline *lifeline) {
    return lifeline->head - lifeline->tail;
}

/* The commit point: everything stored before is visible to whoever sees the new head. */
void lifeline_publish_head(Lifeline *lifeline, uint64_t head);
void lifeline_set_batch_start(Lifeline *lifeline, uint64_t batch_start);
void lifeline_set_classes_done(Lifeline *lifeline, uint32_t classes);
/* Gives the space before tail back; no class of the next batch is on the medium then. */
void lifeline_set_tail(Lifeline *lifeline, uint64_t tail);
/* Replies and objects of all records before head are in their tables. */
void lifeline_set_applied(Lifeline *lifeline);
/* slot < LIFELINE_SLOTS, length <= LIFELINE_REPLY_MAX. */
void lifeline_store_reply(Lifeline *lifeline, unsigned slot, uint64_t seq, uint64_t lsn,
                          const uint8_t *reply, uint32_t length);

#endif
