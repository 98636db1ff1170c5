/* SPDX-License-Identifier: MIT */
/*
 * Records of the log: header, items, reply, padding to 8 bytes. Building
 * happens in place behind the log's head; reading treats the ring as hostile
 * bytes: every header is copied before it is checked, every length is bounded
 * by the one around it, and the checksum covers the whole record.
 *
 * LogView is all that a reader needs; it is deliberately free of the cache, so
 * that redo and rescue can use the same code.
 */
#ifndef BERTH_CACHE_RECORD_H
#define BERTH_CACHE_RECORD_H

#include "berth/bytes.h"
#include "berth/cache.h"
#include "lifeline.h"

#define RECORD_MAGIC UINT32_C(0x64726362) /* "bcrd" */
#define RECORD_ALIGN 8
#define RECORD_BITS_MAX 64

enum { RECORD_STARTS_BATCH = 1 };

typedef struct RecordHeader {
    le32 magic;
    le32 length; /* with header and padding */
    le64 lsn;    /* its own position: a stale record of the last turn cannot pass for a new one */
    le64 seq;
    le16 slot;
    le16 flags;
    le32 items;
    le32 items_length;
    le32 reply_length;
    le64 checksum; /* xxh3 of all other bytes */
} RecordHeader;

typedef enum ItemType {
    ITEM_BASE = 1, /* block, its bytes before the change */
    ITEM_ZERO,     /* block, class: all zeros from here on */
    ITEM_RANGE,    /* block, offset, class, bytes */
    ITEM_BITS,     /* block, offset, class, mask, bytes: (old & ~mask) | (bytes & mask) */
    ITEM_FREE,     /* first block, count */
    ITEM_OBJECT,   /* file_id, kind, blob; put or remove */
} ItemType;

typedef struct RecordItem {
    uint8_t type;
    uint8_t class; /* OBJECT: kind */
    le16 reserved;
    le32 offset; /* OBJECT: 1 put, 0 remove */
    le32 length; /* of the bytes (BITS: of each of the two strings) */
    le64 block;  /* OBJECT: file_id */
} RecordItem;

/* An item as read: pointers lead into the ring. */
typedef struct LogItem {
    ItemType type;
    unsigned class;
    uint32_t offset, length;
    uint64_t block;
    uint64_t count;      /* FREE */
    const uint8_t *mask; /* BITS, else NULL */
    const uint8_t *bytes;
} LogItem;

typedef struct LogView {
    const uint8_t *ring; /* mapped twice */
    uint64_t ring_size;
    uint32_t block_size;
    uint64_t block_count;
} LogView;

typedef struct LogRecord {
    uint64_t lsn, end;
    uint64_t seq;
    uint16_t slot;
    bool starts_batch;
    uint32_t items;
    const uint8_t *items_start;
    uint32_t items_length;
    const uint8_t *reply;
    uint32_t reply_length;
} LogRecord;

/* Reads and checks the record at lsn, which must end at or before head. 0 or -EUCLEAN. */
int record_decode(const LogView *log, uint64_t lsn, uint64_t head, LogRecord *ret);

typedef struct LogCursor {
    uint32_t offset, index;
} LogCursor;
/* 1 and the next item, 0 after the last, -EUCLEAN. Start with a zeroed cursor. */
int record_next(const LogView *log, const LogRecord *record, LogCursor *cursor, LogItem *ret);
/* One item from bytes of which `available` may be read. Length used, or -EUCLEAN. */
int record_item_decode(const LogView *log, const uint8_t *bytes, uint32_t available, LogItem *ret);

/* Applies a RANGE, BITS, ZERO or BASE to a block. */
void record_item_apply(const LogItem *item, uint8_t *data, uint32_t block_size);

/* ---- building ---- */

typedef struct RecordBuilder {
    uint8_t *start;
    uint32_t limit; /* bytes that items may use up to, header included */
    uint32_t used;
    uint32_t items;
    uint32_t last; /* offset of the last item, 0: none */
} RecordBuilder;

/* Bytes of a reservation that are not for items. */
#define RECORD_OVERHEAD (sizeof(RecordHeader) + LIFELINE_REPLY_MAX + RECORD_ALIGN)

void record_begin(RecordBuilder *builder, uint8_t *start, uint32_t reservation);
/* Appends an item; mask and bytes of the item may be NULL where it has none. -ENOSPC: more than
 * was reserved; nothing has changed then. */
int record_append(RecordBuilder *builder, const LogItem *item);
/* The items so far, to be read like those of a record. */
LogRecord record_builder_view(const RecordBuilder *builder, uint64_t lsn);
/* Fills in the header; returns the record's length. */
uint32_t record_finish(RecordBuilder *builder, uint64_t lsn, uint16_t slot, uint64_t seq,
                       unsigned flags, const uint8_t *reply, uint32_t reply_length);

#endif
