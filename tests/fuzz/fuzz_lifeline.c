/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: a lifeline that a hostile or mad daemon left. The input says what
 * lies in it: a header, slots, objects, entries of writes under way, and records
 * whose checksums are put right here, as nobody could guess them. It is taken
 * over, used, written out; and the rescue writer works on a copy of the medium.
 * Where both find the whole log good they must leave the same medium.
 *
 *     mode (1) | header, with MODE_HEADER | tables, with MODE_TABLES: 4 times
 *     { place (1) | object (24) }, 4 times slot (24), 2 writes under way (32)
 *     records: flags (1) | slot (1) | items (1) | length of their bytes (2) | bytes
 */
#include "../../src/cache/internal.h"
#include "berth/log.h"
#include <xxhash.h>

#define SLOTS 8u
#define BLOCK 512u
#define SIZE (64 * BLOCK + 100)
#define TAIL UINT64_C(0x10000) /* one turn in */

enum { MODE_HEADER = 1, MODE_TABLES = 2, MODE_RAW = 4, MODE_ROUND = 8 };
enum { RECORD_REPLY = 2, RECORD_BROKEN = 4 }; /* beside RECORD_STARTS_BATCH */

typedef struct Input {
    const uint8_t *at;
    size_t left;
} Input;

/* What is missing at the end reads as zeros. */
static void take(Input *input, void *ret, size_t length) {
    size_t have = MIN(length, input->left);

    memset(ret, 0, length);
    memcpy(ret, input->at, have);
    input->at += have;
    input->left -= have;
}

static uint8_t take_byte(Input *input) {
    uint8_t byte;

    take(input, &byte, 1);
    return byte;
}

static void ignore_line(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

/* One record at lsn; returns its length, 0: no room. */
static uint32_t put_record(Lifeline *lifeline, Input *input, uint64_t lsn, uint64_t end) {
    uint8_t *start = lifeline_at(lifeline, lsn);
    uint8_t flags = take_byte(input), slot = take_byte(input), items = take_byte(input);
    uint8_t low = take_byte(input), high = take_byte(input);
    uint32_t bytes = (uint32_t)MIN((size_t)(low | high << 8), input->left);
    uint32_t reply = (flags & RECORD_REPLY) != 0 ? 8 : 0;
    uint32_t length =
        (uint32_t)align_up(sizeof(RecordHeader) + bytes + reply, (uint64_t)RECORD_ALIGN);
    RecordHeader header = {
        .magic = le32_make(RECORD_MAGIC),
        .length = le32_make(length),
        .lsn = le64_make(lsn),
        .seq = le64_make(lsn / 64),
        .slot = le16_make(slot == 0 ? TXN_SLOT_INTERNAL : slot),
        .flags = le16_make(flags & RECORD_STARTS_BATCH),
        .items = le32_make(items),
        .items_length = le32_make(bytes),
        .reply_length = le32_make(reply),
    };
    uint64_t seed = XXH3_64bits(&header, offsetof(RecordHeader, checksum));

    if (end - lsn < length) {
        return 0;
    }
    memset(start, 0, length);
    take(input, start + sizeof(header), bytes);
    header.checksum =
        le64_make(XXH3_64bits_withSeed(start + sizeof(header), length - sizeof(header), seed) +
                  ((flags & RECORD_BROKEN) != 0));
    memcpy(start, &header, sizeof(header));
    return length;
}

static void put_tables(Lifeline *lifeline, Input *input) {
    for (unsigned i = 0; i < 4; i++) {
        take(input, &lifeline->objects[take_byte(input) * 16], 24);
    }
    for (unsigned i = 0; i < 4; i++) {
        take(input, &lifeline->slots[i], 24);
    }
    take(input, lifeline->writes, 32);
}

static void fill(Lifeline *lifeline, Input *input, uint8_t mode) {
    LifelineHeader *header = lifeline->header;
    /* MODE_ROUND: the log runs over the ring's end. */
    uint64_t tail = (mode & MODE_ROUND) != 0 ? TAIL + 65000 : TAIL;
    uint64_t lsn = tail, end = tail + lifeline->ring_size;
    uint32_t length;

    lifeline_format(lifeline, BLOCK, SIZE);
    if ((mode & MODE_HEADER) != 0) {
        take(input, header, sizeof(*header));
    }
    if ((mode & MODE_TABLES) != 0) {
        put_tables(lifeline, input);
    }
    if ((mode & MODE_RAW) != 0) {
        take(input, lifeline_at(lifeline, lsn), MIN(input->left, (size_t)lifeline->ring_size));
    }
    while (input->left > 0 && (length = put_record(lifeline, input, lsn, end)) > 0) {
        lsn += length;
    }
    if ((mode & MODE_HEADER) == 0) {
        header->tail = header->applied = header->batch_start = tail;
        header->head = lsn;
    }
}

static int rewrite_body(Txn *txn, void *arg) {
    Cache *cache = arg;
    int r = 0;

    for (uint64_t block = 0; r == 0 && block < 65; block += 8) {
        _cleanup_(cache_putp) Buffer *buffer = NULL;

        r = cache_get(cache, block, &buffer);
        if (r == 0) {
            r = txn_write(txn, buffer, 17, "changed", 7, (unsigned)block / 8 % TXN_CLASS_MAX);
        }
    }
    if (r == 0) {
        r = txn_object_put(txn, 5, TXN_OBJECT_RECLAIM, "blob", 4);
    }
    return r == 0 ? txn_object_remove(txn, 6, TXN_OBJECT_ALIAS) : r;
}

static int look_at_object(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                          uint32_t length) {
    uint8_t copy[TXN_OBJECT_BLOB_MAX];

    if (cache_object_get(arg, file_id, kind, copy, sizeof(copy)) != (int)length ||
        memcmp(copy, blob, length) != 0) {
        abort();
    }
    return 0;
}

static void use(Cache *cache) {
    uint8_t reply[256];

    for (unsigned slot = 0; slot <= SLOTS; slot++) {
        (void)cache_slot_reply(cache, slot, 1, reply);
        (void)cache_slot_reply(cache, slot, 1024, reply);
    }
    (void)cache_object_iterate(cache, look_at_object, cache);
    for (unsigned i = 0; i < 3; i++) {
        int r = txn_run(cache, NULL, rewrite_body, cache);

        if ((r == -EROFS) != cache_damaged(cache)) {
            abort();
        }
    }
    if (cache_sync(cache) != 0) {
        abort();
    }
}

/* Takes over; true: found the whole log good, and wrote it. */
static bool take_over(Lifeline *lifeline, BlockDevice *device, bool *ret_good) {
    const CacheConfig config = {
        .device = device, .block_size = BLOCK, .lifeline = lifeline, .recover = true};
    Cache *cache = NULL;
    int r = cache_new(&config, &cache);

    *ret_good = r == 0 && !cache_damaged(cache);
    if (r < 0) {
        return false;
    }
    cache_settled(cache);
    if (cache_sync(cache) != 0) {
        abort();
    }
    (void)cache_free(cache);
    return true;
}

/* Once more, after work on what was found. */
static void take_over_and_use(Lifeline *lifeline, BlockDevice *device) {
    const CacheConfig config = {
        .device = device, .block_size = BLOCK, .lifeline = lifeline, .recover = true};
    Cache *cache = NULL;

    if (cache_new(&config, &cache) == 0) {
        cache_settled(cache);
        use(cache);
        (void)cache_free(cache);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t first[SIZE], second[SIZE], third[SIZE];
    BlockDevice *devices[3];
    Input input = {.at = data, .left = size};
    uint8_t mode = take_byte(&input);
    Lifeline *lifeline = NULL;
    LifelineHeader header;
    LifelineRescue report;
    bool good, taken;
    int rescued;

    log_set_sink(ignore_line, NULL);
    memset(first, 0x5a, SIZE);
    memset(second, 0x5a, SIZE);
    memset(third, 0x5a, SIZE);
    if (block_memory_new(SIZE, BLOCK, first, &devices[0]) < 0 ||
        block_memory_new(SIZE, BLOCK, second, &devices[1]) < 0 ||
        block_memory_new(SIZE, BLOCK, third, &devices[2]) < 0 ||
        lifeline_new(64 << 10, SLOTS, &lifeline) < 0 ||
        lifeline_back(lifeline, lifeline->ring_size) < 0) {
        abort();
    }
    fill(lifeline, &input, mode);
    rescued = lifeline_memory_rescue(lifeline->fd, SLOTS, devices[0], NULL, &report);
    header = *lifeline->header;
    taken = take_over(lifeline, devices[1], &good);
    if (taken && good && (rescued != 0 || memcmp(first, second, SIZE) != 0)) {
        abort(); /* rescue and checkpoint do the same */
    }
    /* The same log once more, as if that daemon had died before its checkpoint. */
    *lifeline->header = header;
    take_over_and_use(lifeline, devices[2]);
    *lifeline->header = header;
    if (rescued == 0 && lifeline_memory_settle(lifeline->fd) != 0) {
        abort();
    }
    take_over_and_use(lifeline, devices[2]);
    (void)lifeline_free(lifeline);
    for (unsigned i = 0; i < 3; i++) {
        (void)block_free(devices[i]);
    }
    return 0;
}
