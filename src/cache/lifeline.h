/* SPDX-License-Identifier: MIT */
/*
 * The lifeline from inside: its layout, and the stores that keep it consistent
 * at every instruction (berth/lifeline.h says what it is for).
 *
 *     header page | slots | objects | device writes under way | ring
 *
 * A position in the log is an LSN: a byte count that never wraps; ring offset
 * = lsn % ring_size. This module knows the layout and stores positions with
 * the needed memory order. It knows nothing of transactions. The positions are
 * kept privately as well: after a predecessor's have been checked once,
 * nothing is read back from the shared header.
 */
#ifndef BERTH_CACHE_LIFELINE_H
#define BERTH_CACHE_LIFELINE_H

#include "berth/lifeline.h"

#define LIFELINE_MAGIC UINT64_C(0x656e696c6566696c) /* "lifeline" */
#define LIFELINE_VERSION 1
#define LIFELINE_HEADER_SIZE 4096
#define LIFELINE_ALIGN (UINT64_C(64) << 10) /* of the ring: no page is larger */
#define LIFELINE_SLOTS_MAX 4096
#define LIFELINE_OBJECTS 4096
#define LIFELINE_WRITES 1024 /* entries for device writes under way */
#define LIFELINE_REPLY_MAX 256
#define LIFELINE_BLOB_MAX 512
#define LIFELINE_RING_MIN (UINT64_C(64) << 10)
#define LIFELINE_RING_MAX (UINT64_C(64) << 20)
#define LIFELINE_LSN_MAX (UINT64_C(1) << 62)

typedef struct LifelineHeader {
    uint64_t magic; /* 0: nothing has been stored yet, or it is being made anew */
    uint32_t version;
    uint32_t block_size;
    uint64_t volume_size;
    uint64_t ring_size;
    uint32_t slot_count, object_count;
    uint64_t head, tail, applied, batch_start;
    uint32_t classes_done; /* bits: classes of the batch at tail that are on the medium */
    uint32_t reserved;
    uint64_t running; /* tag of the running fiber; the scheduler's, kept when it is made anew */
    uint64_t note;    /* the filesystem's */
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

/* Where the parts begin: follows from the number of slots alone. */
typedef struct LifelineLayout {
    uint64_t slots, objects, writes, ring;
} LifelineLayout;
LifelineLayout lifeline_layout(unsigned slots);
/* Size of the ring in a memory of that size, 0: not a lifeline's. */
uint64_t lifeline_ring_size(uint64_t size, unsigned slots);

struct Lifeline {
    LifelineHeader *header;
    LifelineSlot *slots;
    LifelineObject *objects;
    BlockInflight *writes;
    uint8_t *ring; /* 2 * ring_size bytes of address space */
    uint64_t ring_size;
    uint64_t head, tail, batch_start, applied;
    uint32_t classes_done;
    unsigned slot_count;
    uint64_t backed_from, backed_to; /* LSNs: memory is allocated for this part of the ring */
    uint64_t objects_backed;         /* bytes of the table that are known to be allocated */
    bool blank;                      /* just made: all zeros */
    int fd;
    size_t control_size; /* all before the ring */
};

/* Empties it for a volume. Whoever dies in here leaves one that counts as never used. */
void lifeline_format(Lifeline *lifeline, uint32_t block_size, uint64_t volume_size);

typedef struct LifelineGeometry {
    uint32_t block_size;
    uint64_t volume_size;
    uint64_t ring_size;
    unsigned slot_count;
} LifelineGeometry;
/*
 * Is a header (a copy of it) possible and of this volume? 0, or -EUCLEAN and what is wrong with it.
 * Geometry and positions are as they should be then: all in order, aligned, within the ring.
 */
int lifeline_check(const LifelineHeader *header, const LifelineGeometry *expected,
                   const char **ret_text);
/* Goes on where the checked header of a predecessor stands; its log ends at head for us. */
void lifeline_adopt(Lifeline *lifeline, const LifelineHeader *header, uint64_t head);

/*
 * Allocates the memory of the ring from the last position allocated up to end, which is at most
 * ring_size ahead of it: storing there cannot fault then. -ENOMEM.
 */
int lifeline_back(Lifeline *lifeline, uint64_t end);

/* An empty log's memory goes back, unless it is little. It is allocated again as it fills. */
void lifeline_release_ring(Lifeline *lifeline);
/* The same for the table's entries up to this one. -ENOMEM. */
int lifeline_back_object(Lifeline *lifeline, uint32_t index);
/* Copies entries, without making memory for those that never had any. 0 or -errno. */
int lifeline_read_objects(const Lifeline *lifeline, uint32_t first, uint32_t count,
                          LifelineObject *ret);

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
/* slot < slot_count, length <= LIFELINE_REPLY_MAX. */
void lifeline_store_reply(Lifeline *lifeline, unsigned slot, uint64_t seq, uint64_t lsn,
                          const uint8_t *reply, uint32_t length);

#endif
