/* SPDX-License-Identifier: MIT */
/*
 * Encoding and decoding of log records (record.h). Pure functions over memory;
 * the only state is the builder's.
 */
#include "record.h"
#include <assert.h>
#include <xxhash.h>

static_assert(sizeof(RecordHeader) == 48, "record header");
static_assert(offsetof(RecordHeader, checksum) == 40, "checksum is the last field");
static_assert(sizeof(RecordItem) == 20, "item header");
static_assert(LIFELINE_BLOB_MAX == TXN_OBJECT_BLOB_MAX, "object blobs");

static uint64_t record_checksum(const RecordHeader *header, const uint8_t *rest, size_t length) {
    uint64_t seed = XXH3_64bits(header, offsetof(RecordHeader, checksum));

    return XXH3_64bits_withSeed(rest, length, seed);
}

int record_decode(const LogView *log, uint64_t lsn, uint64_t head, LogRecord *ret) {
    const uint8_t *start = log->ring + lsn % log->ring_size;
    uint64_t space = head > lsn ? MIN(head - lsn, log->ring_size) : 0;
    uint32_t length, items_length, reply_length;
    RecordHeader header;

    if (space < sizeof(header) || lsn % RECORD_ALIGN != 0) {
        return -EUCLEAN;
    }
    memcpy(&header, start, sizeof(header));
    length = le32_get(header.length);
    items_length = le32_get(header.items_length);
    reply_length = le32_get(header.reply_length);
    if (le32_get(header.magic) != RECORD_MAGIC || le64_get(header.lsn) != lsn) {
        return -EUCLEAN;
    }
    if (length > space || reply_length > LIFELINE_REPLY_MAX || items_length > space ||
        align_up(sizeof(header) + (uint64_t)items_length + reply_length, RECORD_ALIGN) != length) {
        return -EUCLEAN;
    }
    if (record_checksum(&header, start + sizeof(header), length - sizeof(header)) !=
        le64_get(header.checksum)) {
        return -EUCLEAN;
    }
    *ret = (LogRecord){
        .lsn = lsn,
        .end = lsn + length,
        .seq = le64_get(header.seq),
        .slot = le16_get(header.slot),
        .starts_batch = (le16_get(header.flags) & RECORD_STARTS_BATCH) != 0,
        .items = le32_get(header.items),
        .items_start = start + sizeof(header),
        .items_length = items_length,
        .reply = start + sizeof(header) + items_length,
        .reply_length = reply_length,
    };
    return 0;
}

/* Are the fields of an item possible in this volume? Its bytes are in bounds already. */
static bool item_valid(const LogView *log, const LogItem *item) {
    bool in_block =
        item->block < log->block_count && range_inside(item->offset, item->length, log->block_size);

    switch (item->type) {
    case ITEM_BASE:
        return in_block && item->length == log->block_size;
    case ITEM_ZERO:
        return in_block && item->length == 0 && item->class < TXN_CLASS_MAX;
    case ITEM_RANGE:
        return in_block && item->length > 0 && item->class < TXN_CLASS_MAX;
    case ITEM_BITS:
        return in_block && item->length > 0 && item->length <= RECORD_BITS_MAX &&
               item->class < TXN_CLASS_MAX;
    case ITEM_FREE:
        return item->count > 0 && range_inside(item->block, item->count, log->block_count);
    case ITEM_OBJECT:
        return item->class >= TXN_OBJECT_ALIAS && item->class <= TXN_OBJECT_RECLAIM &&
               item->offset <= 1 && item->length <= LIFELINE_BLOB_MAX;
    }
    return false;
}

int record_item_decode(const LogView *log, const uint8_t *bytes, uint32_t available, LogItem *ret) {
    uint64_t payload;
    RecordItem header;
    LogItem item;

    if (available < sizeof(header)) {
        return -EUCLEAN;
    }
    memcpy(&header, bytes, sizeof(header));
    if (header.type < ITEM_BASE || header.type > ITEM_OBJECT) {
        return -EUCLEAN;
    }
    item = (LogItem){
        .type = (ItemType)header.type,
        .class = header.class,
        .offset = le32_get(header.offset),
        .length = le32_get(header.length),
        .block = le64_get(header.block),
        .bytes = bytes + sizeof(header),
    };
    payload = item.type == ITEM_BITS ? 2 * (uint64_t)item.length : item.length;
    if (payload > available - sizeof(header)) {
        return -EUCLEAN;
    }
    if (item.type == ITEM_BITS) {
        item.mask = item.bytes;
        item.bytes += item.length;
    } else if (item.type == ITEM_FREE) {
        le64 count;

        if (item.length != sizeof(count)) {
            return -EUCLEAN;
        }
        memcpy(&count, item.bytes, sizeof(count));
        item.count = le64_get(count);
    }
    if (!item_valid(log, &item)) {
        return -EUCLEAN;
    }
    *ret = item;
    return (int)(sizeof(header) + payload);
}

int record_next(const LogView *log, const LogRecord *record, LogCursor *cursor, LogItem *ret) {
    int used;

    if (cursor->index == record->items) {
        return cursor->offset == record->items_length ? 0 : -EUCLEAN;
    }
    used = record_item_decode(log, record->items_start + cursor->offset,
                              record->items_length - cursor->offset, ret);
    if (used < 0) {
        return used;
    }
    cursor->offset += (uint32_t)used;
    cursor->index++;
    return 1;
}

void record_item_apply(const LogItem *item, uint8_t *data, uint32_t block_size) {
    switch (item->type) {
    case ITEM_BASE:
    case ITEM_RANGE:
        memcpy(data + item->offset, item->bytes, item->length);
        break;
    case ITEM_ZERO:
        memset(data, 0, block_size);
        break;
    case ITEM_BITS:
        for (uint32_t i = 0; i < item->length; i++) {
            uint8_t *byte = &data[item->offset + i];

            *byte = (uint8_t)((*byte & ~item->mask[i]) | (item->bytes[i] & item->mask[i]));
        }
        break;
    case ITEM_FREE:
    case ITEM_OBJECT:
        break;
    }
}

void record_begin(RecordBuilder *builder, uint8_t *start, uint32_t reservation) {
    assert(reservation > RECORD_OVERHEAD);
    *builder = (RecordBuilder){
        .start = start,
        .limit = (uint32_t)(reservation - (RECORD_OVERHEAD - sizeof(RecordHeader))),
        .used = sizeof(RecordHeader),
    };
}

/*
 * A write that continues the last item, or repeats part of it, goes into that
 * item: directory entries are written field by field.
 */
static bool merge_range(RecordBuilder *builder, const LogItem *item) {
    uint32_t start, length, skip;
    RecordItem last;
    uint8_t *bytes;

    if (builder->last == 0 || item->type != ITEM_RANGE) {
        return false;
    }
    memcpy(&last, builder->start + builder->last, sizeof(last));
    start = le32_get(last.offset);
    length = le32_get(last.length);
    if (last.type != ITEM_RANGE || last.class != item->class ||
        le64_get(last.block) != item->block || item->offset < start ||
        item->offset > start + length) {
        return false;
    }
    skip = item->offset - start;
    if (skip + item->length > length) {
        uint32_t more = skip + item->length - length;

        if (more > builder->limit - builder->used) {
            return false;
        }
        builder->used += more;
        last.length = le32_make(length + more);
        memcpy(builder->start + builder->last, &last, sizeof(last));
    }
    bytes = builder->start + builder->last + sizeof(last) + skip;
    memcpy(bytes, item->bytes, item->length);
    return true;
}

int record_append(RecordBuilder *builder, const LogItem *item) {
    RecordItem header = {
        .type = (uint8_t)item->type,
        .class = (uint8_t)item->class,
        .offset = le32_make(item->offset),
        .length = le32_make(item->type == ITEM_FREE ? (uint32_t)sizeof(le64) : item->length),
        .block = le64_make(item->block),
    };
    uint64_t payload = le32_get(header.length);
    uint8_t *at = builder->start + builder->used;

    if (merge_range(builder, item)) {
        return 0;
    }
    if (item->type == ITEM_BITS) {
        payload *= 2;
    }
    if (sizeof(header) + payload > builder->limit - builder->used) {
        return -ENOSPC;
    }
    memcpy(at, &header, sizeof(header));
    at += sizeof(header);
    if (item->type == ITEM_FREE) {
        le64 count = le64_make(item->count);

        memcpy(at, &count, sizeof(count));
    } else {
        if (item->type == ITEM_BITS) {
            memcpy(at, item->mask, item->length);
            at += item->length;
        }
        if (item->length > 0) {
            memcpy(at, item->bytes, item->length);
        }
    }
    builder->last = builder->used;
    builder->used += (uint32_t)(sizeof(header) + payload);
    builder->items++;
    return 0;
}

LogRecord record_builder_view(const RecordBuilder *builder, uint64_t lsn) {
    return (LogRecord){
        .lsn = lsn,
        .items = builder->items,
        .items_start = builder->start + sizeof(RecordHeader),
        .items_length = builder->used - (uint32_t)sizeof(RecordHeader),
    };
}

uint32_t record_finish(RecordBuilder *builder, uint64_t lsn, uint16_t slot, uint64_t seq,
                       unsigned flags, const uint8_t *reply, uint32_t reply_length) {
    uint32_t unpadded = builder->used + reply_length;
    uint32_t length = (uint32_t)align_up(unpadded, RECORD_ALIGN);
    RecordHeader header = {
        .magic = le32_make(RECORD_MAGIC),
        .length = le32_make(length),
        .lsn = le64_make(lsn),
        .seq = le64_make(seq),
        .slot = le16_make(slot),
        .flags = le16_make((uint16_t)flags),
        .items = le32_make(builder->items),
        .items_length = le32_make(builder->used - (uint32_t)sizeof(RecordHeader)),
        .reply_length = le32_make(reply_length),
    };

    assert(reply_length <= LIFELINE_REPLY_MAX);
    if (reply_length > 0) {
        memcpy(builder->start + builder->used, reply, reply_length);
    }
    memset(builder->start + unpadded, 0, length - unpadded);
    header.checksum = le64_make(
        record_checksum(&header, builder->start + sizeof(header), length - sizeof(header)));
    memcpy(builder->start, &header, sizeof(header));
    return length;
}
