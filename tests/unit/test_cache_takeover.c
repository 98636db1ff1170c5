/* SPDX-License-Identifier: MIT */
/*
 * Taking over, case by case: lifelines that are new, damaged, of somebody else;
 * what waits for the predecessor's device writes; standing still for a
 * successor; the table of writes under way. (test_recover.c lets daemons die at
 * random.)
 */
#include "../../src/cache/internal.h"
#include "berth/log.h"
#include "cache_support.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SLOTS 8u
#define BLOCKS 100u

/* ---- a predecessor that leaves ten transactions ---- */

static char logged[512];

static void keep_line(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)level;
    (void)snprintf(logged, sizeof(logged), "%s", line);
}

typedef struct Heir {
    Volume volume;
    int fd;
    Lifeline *lifeline;
    uint64_t lsn[11]; /* of transaction i; [10]: the head */
    uint64_t number;  /* transaction under way */
} Heir;

static int heir_encode(void *arg, uint8_t *buf, uint32_t capacity) {
    (void)capacity;
    memcpy(buf, arg, sizeof(uint64_t));
    return sizeof(uint64_t);
}

/* Number i: i in block 0 and at the start of block i, block 50 + i freed, object i put. */
static int heir_body(Txn *txn, void *arg) {
    Heir *heir = arg;
    uint64_t number = heir->number;
    int r = 0;

    heir->lsn[number - 1] = txn->lsn;
    for (unsigned i = 0; r == 0 && i < 2; i++) {
        _cleanup_(cache_putp) Buffer *buffer = NULL;

        r = cache_get(heir->volume.cache, i * number, &buffer);
        if (r == 0) {
            r = txn_write(txn, buffer, 0, &number, sizeof(number), i);
        }
    }
    if (r == 0) {
        r = txn_free_blocks(txn, 50 + number, 1);
    }
    return r == 0 ? txn_object_put(txn, number, TXN_OBJECT_ALIAS, "blob", 4) : r;
}

static int heir_step(Heir *heir, uint64_t number) {
    TxnReply reply = {
        .slot = (uint16_t)(number % SLOTS), .seq = number, .encode = heir_encode, .arg = &number};
    int r;

    heir->number = number;
    r = txn_run(heir->volume.cache, &reply, heir_body, heir);
    if (r == 0) {
        memcpy(heir->volume.model, &number, sizeof(number));
        memcpy(heir->volume.model + number * BLOCK, &number, sizeof(number));
        heir->lsn[number] = heir->volume.cache->log->head;
    }
    return r;
}

static int heir_cache_with(Heir *heir, CacheConfig config) {
    config.device = heir->volume.device;
    config.block_size = config.block_size == 0 ? BLOCK : config.block_size;
    config.lifeline = heir->lifeline;
    config.released = volume_released;
    config.failed = volume_failed;
    config.arg = &heir->volume;
    return cache_new(&config, &heir->volume.cache);
}

/* The daemon is gone, what it left stays. */
static void heir_die(Heir *heir) {
    heir->volume.cache = cache_free(heir->volume.cache);
    heir->lifeline = lifeline_free(heir->lifeline);
}

static int heir_succeed(Heir *heir) {
    ck_assert_int_eq(lifeline_open(heir->fd, SLOTS, &heir->lifeline), 0);
    return heir_cache_with(heir, (CacheConfig){.recover = true});
}

static void heir_open(Heir *heir, uint64_t steps) {
    *heir = (Heir){0};
    logged[0] = '\0';
    log_set_sink(keep_line, NULL);
    volume_fill(&heir->volume, BLOCKS * BLOCK);
    ck_assert_int_eq(lifeline_memory_new(64 << 10, SLOTS, &heir->fd), 0);
    ck_assert_int_eq(lifeline_open(heir->fd, SLOTS, &heir->lifeline), 0);
    ck_assert_int_eq(heir_cache_with(heir, (CacheConfig){0}), 0);
    ck_assert(!cache_recovered(heir->volume.cache));
    for (uint64_t i = 1; i <= steps; i++) {
        ck_assert_int_eq(heir_step(heir, i), 0);
    }
}

static void heir_close(Heir *heir) {
    heir_die(heir);
    if (heir->volume.device != heir->volume.memory) {
        (void)block_free(heir->volume.device);
    }
    (void)block_free(heir->volume.memory);
    free(heir->volume.model);
    (void)close(heir->fd);
    log_set_sink(NULL, NULL);
}

/* ---- ordinary cases ---- */

START_TEST(test_take_over) {
    BlockFaults faults = {0};
    uint8_t reply[256];
    uint64_t ids[20], number = 0;
    Heir heir;

    heir_open(&heir, 10);
    cache_set_note(heir.volume.cache, 77);
    heir_die(&heir);
    ck_assert_int_eq(block_fault_new(heir.volume.memory, &faults, &heir.volume.device), 0);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    ck_assert(cache_recovered(heir.volume.cache));
    ck_assert(!cache_damaged(heir.volume.cache));
    ck_assert_uint_eq(cache_note(heir.volume.cache), 77);
    volume_check_cache(&heir.volume, BLOCKS);
    /* Redo reads nothing: the rest came from the device. */
    ck_assert_uint_eq(heir.volume.device->stats.reads, BLOCKS - 11);
    ck_assert_uint_eq(cache_pending_blocks(heir.volume.cache), 10);
    ck_assert(cache_range_pending(heir.volume.cache, 60, 1));
    ck_assert_int_eq(lifeline_memory_objects(heir.fd, SLOTS, ids, 20), 10);
    ck_assert_int_eq(lifeline_memory_objects(heir.fd, SLOTS, ids, 3), 3);
    ck_assert_int_eq(cache_slot_reply(heir.volume.cache, 10 % SLOTS, 10, reply), 8);
    memcpy(&number, reply, sizeof(number));
    ck_assert_uint_eq(number, 10);
    ck_assert_int_eq(cache_slot_reply(heir.volume.cache, 10 % SLOTS, 11, reply), 0);
    ck_assert_int_eq(cache_slot_reply(heir.volume.cache, 10 % SLOTS, 9, reply), -EPROTO);
    ck_assert_int_eq(cache_slot_reply(heir.volume.cache, 0, 1, reply), -EPROTO); /* 8 was there */
    ck_assert_int_eq(cache_slot_reply(heir.volume.cache, SLOTS, 1, reply), -EPROTO);
    /* Nothing is written before the fence, and nobody can wait here. */
    ck_assert_int_eq(cache_sync(heir.volume.cache), -EAGAIN);
    ck_assert_uint_eq(faults.writes + faults.flushes, 0);
    cache_settled(heir.volume.cache);
    ck_assert_int_eq(cache_sync(heir.volume.cache), 0);
    ck_assert_uint_eq(heir.volume.released_blocks, 10);
    volume_check_medium(&heir.volume);
    heir_close(&heir);
}
END_TEST

/* What the dead one wrote and never flushed is flushed, also when this one wrote nothing. */
START_TEST(test_flush_of_the_dead) {
    BlockFaults faults = {0};
    Heir heir;

    heir_open(&heir, 0);
    heir_die(&heir);
    ck_assert_int_eq(block_fault_new(heir.volume.memory, &faults, &heir.volume.device), 0);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    cache_settled(heir.volume.cache);
    faults.fail_flush_at = 1;
    ck_assert_int_eq(cache_sync(heir.volume.cache), -EIO);
    ck_assert_uint_eq(faults.flushes, 2);
    ck_assert_int_eq(cache_sync(heir.volume.cache), 0);
    ck_assert_uint_eq(faults.flushes, 2);
    heir_close(&heir);
}
END_TEST

START_TEST(test_new_lifelines) {
    uint8_t reply[256];
    uint64_t word = 1;
    Heir heir;

    heir_open(&heir, 10);
    cache_set_note(heir.volume.cache, 5);
    *lifeline_running_word(heir.lifeline) = 99;
    ck_assert_int_eq(lifeline_memory_running(heir.fd, &word), 0);
    ck_assert_uint_eq(word, 99);
    heir_die(&heir);
    /* Made anew: nothing of it is left, only the scheduler's word is not ours. */
    ck_assert_int_eq(lifeline_open(heir.fd, SLOTS, &heir.lifeline), 0);
    ck_assert_int_eq(heir_cache_with(&heir, (CacheConfig){0}), 0);
    ck_assert(!cache_recovered(heir.volume.cache));
    ck_assert_uint_eq(cache_note(heir.volume.cache), 0);
    ck_assert_int_eq(cache_slot_reply(heir.volume.cache, 2, 10, reply), 0);
    ck_assert_int_eq(lifeline_memory_objects(heir.fd, SLOTS, &word, 1), 0);
    ck_assert_int_eq(lifeline_memory_running(heir.fd, &word), 0);
    ck_assert_uint_eq(word, 99);
    ck_assert_uint_eq(cache_pending_blocks(heir.volume.cache), 0);
    ck_assert_int_eq(cache_sync(heir.volume.cache), 0);
    /* Whoever died while making it left one that was never used. */
    heir.lifeline->header->magic = 0;
    heir.lifeline->header->head = 12345;
    heir_die(&heir);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    ck_assert(!cache_recovered(heir.volume.cache));
    memcpy(heir.volume.model, block_memory_data(heir.volume.memory), BLOCKS * BLOCK);
    ck_assert_int_eq(heir_step(&heir, 1), 0);
    heir_close(&heir);
}
END_TEST

START_TEST(test_not_a_lifeline) {
    Lifeline *lifeline = NULL;
    BlockDevice *device;
    LifelineRescue report;
    uint64_t id;
    int fd, plain;

    ck_assert_int_eq(lifeline_memory_new(0, 0, &fd), -EINVAL);
    ck_assert_int_eq(lifeline_memory_new(0, 5000, &fd), -EINVAL);
    ck_assert_int_eq(lifeline_memory_new(1, SLOTS, &fd), 0);
    ck_assert_int_eq(ftruncate(fd, 1), -1);
    ck_assert_int_eq(lifeline_open(fd, 0, &lifeline), -EPROTO);
    ck_assert_int_eq(lifeline_open(fd, 4097, &lifeline), -EPROTO);
    /* Many slots more: the ring would be too small, or none. */
    ck_assert_int_eq(lifeline_open(fd, 4096, &lifeline), -EPROTO);
    ck_assert_int_eq(lifeline_open(-1, SLOTS, &lifeline), -EPROTO);
    plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(plain, 0);
    ck_assert_int_eq(ftruncate(plain, lseek(fd, 0, SEEK_END)), 0);
    ck_assert_int_eq(lifeline_open(plain, SLOTS, &lifeline), -EPROTO);
    ck_assert_int_eq(fcntl(plain, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    ck_assert_int_eq(lifeline_open(plain, SLOTS, &lifeline), 0);
    lifeline = lifeline_free(lifeline);
    (void)close(plain);
    plain = open("/dev/null", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(plain, 0);
    ck_assert_int_eq(lifeline_open(plain, SLOTS, &lifeline), -EPROTO);
    ck_assert_int_lt(lifeline_memory_objects(plain, SLOTS, &id, 1), 0);
    ck_assert_int_lt(lifeline_memory_running(plain, &id), 0);
    ck_assert_int_eq(block_memory_new(BLOCK, BLOCK, NULL, &device), 0);
    ck_assert_int_eq(lifeline_memory_rescue(plain, SLOTS, device, NULL, &report), -EPROTO);
    ck_assert_str_ne(report.text, "");
    /* Never used: nothing to rescue. */
    ck_assert_int_eq(lifeline_memory_rescue(fd, SLOTS, device, NULL, &report), 0);
    ck_assert_uint_eq(report.records, 0);
    (void)block_free(device);
    (void)close(plain);
    (void)close(fd);
}
END_TEST

START_TEST(test_ring_too_small) {
    Heir heir;

    heir_open(&heir, 1);
    heir.volume.cache = cache_free(heir.volume.cache);
    ck_assert_int_eq(heir_cache_with(&heir, (CacheConfig){.block_size = 4096}), -EINVAL);
    ck_assert_ptr_nonnull(strstr(logged, "too small"));
    ck_assert_int_eq(heir_cache_with(&heir, (CacheConfig){.block_size = 2048}), 0);
    heir_close(&heir);
}
END_TEST

static uint64_t allocated(int fd) {
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* What is there from the start: all but objects and ring. */
static uint64_t least_allocated(void) {
    LifelineLayout layout = lifeline_layout(SLOTS);

    return layout.objects + layout.ring - layout.writes;
}

/* The ring is allocated as it is used, at most once around; without memory an operation fails. An
 * empty one goes back. */
START_TEST(test_ring_allocation) {
    uint64_t control = least_allocated();
    Heir heir;

    heir_open(&heir, 0);
    heir_die(&heir);
    (void)close(heir.fd);
    ck_assert_int_eq(lifeline_memory_new(4 << 20, SLOTS, &heir.fd), 0);
    ck_assert_uint_eq(allocated(heir.fd), control);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    ck_assert_int_eq(heir_step(&heir, 1), 0);
    control += 16 << 10; /* its object */
    ck_assert_uint_eq(allocated(heir.fd), control + (64 << 10));
    ck_assert_int_eq(lifeline_back(heir.lifeline, heir.lifeline->head + (1 << 20)), 0);
    lifeline_release_ring(heir.lifeline); /* it has a record */
    ck_assert_uint_ge(allocated(heir.fd), control + (1 << 20));
    ck_assert_int_eq(cache_sync(heir.volume.cache), 0);
    lifeline_release_ring(heir.lifeline);
    ck_assert_uint_eq(allocated(heir.fd), control);
    ck_assert_int_eq(heir_step(&heir, 2), 0);
    ck_assert_uint_eq(allocated(heir.fd), control + (64 << 10));
    /* As if the machine had no more memory: the next piece cannot be allocated. */
    ck_assert_int_eq(lifeline_back(heir.lifeline, heir.lifeline->head + (2 << 20)), 0);
    ck_assert_uint_eq(allocated(heir.fd), control + (3 << 20));
    heir.lifeline->backed_to = heir.lifeline->head;
    ck_assert_int_eq(dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), heir.lifeline->fd),
                     heir.lifeline->fd);
    ck_assert_int_lt(heir_step(&heir, 3), 0);
    volume_check_cache(&heir.volume, BLOCKS);
    heir_close(&heir);
}
END_TEST

/* The table of objects is allocated as it fills; a successor makes nothing of what is empty, and a
 * volume that begins anew gives all of it back. */
START_TEST(test_object_allocation) {
    uint64_t least = least_allocated();
    Heir heir;

    heir_open(&heir, 3);
    ck_assert_uint_eq(allocated(heir.fd), least + (80 << 10));
    heir_die(&heir);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    ck_assert_uint_eq(allocated(heir.fd), least + (80 << 10));
    /* An entry far behind, as by one who had used many: those before it have no memory. */
    heir.lifeline->objects[LIFELINE_OBJECTS - 1] =
        (LifelineObject){.kind = TXN_OBJECT_ALIAS, .file_id = 99, .length = 4, .blob = "blob"};
    heir_die(&heir);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    ck_assert_uint_le(allocated(heir.fd), least + (88 << 10));
    ck_assert_int_eq(cache_object_get(heir.volume.cache, 99, TXN_OBJECT_ALIAS, (char[4]){0}, 4), 4);
    ck_assert_int_eq(lifeline_back_object(heir.lifeline, LIFELINE_OBJECTS - 1), 0);
    ck_assert_uint_eq(allocated(heir.fd), lifeline_layout(SLOTS).ring + (64 << 10));
    heir_die(&heir);
    {
        Lifeline *again;

        ck_assert_int_eq(lifeline_open(heir.fd, SLOTS, &again), 0);
        lifeline_format(again, BLOCK, BLOCK);
        ck_assert_uint_eq(again->objects[LIFELINE_OBJECTS - 1].kind, 0);
        ck_assert_uint_le(allocated(heir.fd), least + (68 << 10));
        (void)lifeline_free(again);
    }
    heir_close(&heir);
}
END_TEST

/* Once around and over the end of the ring, which is no multiple of a step. */
START_TEST(test_ring_allocation_turns) {
    Lifeline *lifeline;
    uint64_t ring = (3 << 20) + (64 << 10);
    uint64_t control =
        lifeline_layout(1).objects + lifeline_layout(1).ring - lifeline_layout(1).writes;

    ck_assert_int_eq(lifeline_new(ring, 1, &lifeline), 0);
    lifeline_format(lifeline, BLOCK, BLOCK);
    ck_assert_uint_eq(lifeline->head, ring);
    ck_assert_int_eq(lifeline_back(lifeline, ring + 1), 0);
    ck_assert_uint_eq(lifeline->backed_to, ring + (64 << 10));
    ck_assert_int_eq(lifeline_back(lifeline, 2 * ring), 0);
    ck_assert_uint_eq(allocated(lifeline->fd), control + ring);
    ck_assert_uint_eq(lifeline->backed_to, 2 * ring);
    ck_assert_int_eq(lifeline_back(lifeline, 5 * ring), 0);
    ck_assert_uint_eq(lifeline->backed_to, 2 * ring);
    (void)lifeline_free(lifeline);
    /* A successor in the middle of it. */
    ck_assert_int_eq(lifeline_new(ring, 1, &lifeline), 0);
    lifeline_adopt(lifeline,
                   &(LifelineHeader){.head = 9 * ring + 2345672, .tail = 9 * ring + 2345672},
                   9 * ring + 2345672);
    ck_assert_int_eq(lifeline_back(lifeline, 10 * ring + 2345672), 0);
    ck_assert_uint_eq(allocated(lifeline->fd), control + ring);
    (void)lifeline_free(lifeline);
}
END_TEST

/* ---- damage ---- */

/* Everything of the memory, to see that nothing was changed. */
static uint8_t *memory_copy(int fd, size_t *ret_size) {
    off_t size = lseek(fd, 0, SEEK_END);
    uint8_t *copy = malloc((size_t)size);

    ck_assert_ptr_nonnull(copy);
    ck_assert_int_eq(pread(fd, copy, (size_t)size, 0), size);
    *ret_size = (size_t)size;
    return copy;
}

static void check_rescue_fails(const Heir *heir, uint64_t blocks) {
    LifelineRescue report;

    ck_assert_int_eq(lifeline_memory_rescue(heir->fd, SLOTS, heir->volume.memory, NULL, &report),
                     -EUCLEAN);
    ck_assert_str_ne(report.text, "");
    ck_assert_uint_eq(report.blocks, blocks);
}

START_TEST(test_bad_header) {
    static const struct {
        size_t offset;
        unsigned size;
    } fields[] = {
#define FIELD(name) {offsetof(LifelineHeader, name), sizeof(((LifelineHeader *)0)->name)}
        FIELD(magic),     FIELD(version),    FIELD(block_size),   FIELD(volume_size),
        FIELD(ring_size), FIELD(slot_count), FIELD(object_count), FIELD(head),
        FIELD(tail),      FIELD(applied),    FIELD(batch_start),  FIELD(classes_done),
#undef FIELD
    };
    _cleanup_free_ uint8_t *before = NULL, *after = NULL;
    size_t size;
    Heir heir;

    heir_open(&heir, 10);
    heir_die(&heir);
    before = memory_copy(heir.fd, &size);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        static const uint64_t values[] = {1, 4, 1 << 20, UINT64_MAX, UINT64_C(1) << 63};

        for (unsigned j = 0; j < ARRAY_SIZE(values); j++) {
            /* 0 and 1 are good ones there. */
            bool possible = fields[i].offset == offsetof(LifelineHeader, classes_done) ||
                            fields[i].offset == offsetof(LifelineHeader, version);

            if (possible && (uint32_t)values[j] < 2) {
                continue;
            }
            ck_assert_int_eq(pwrite(heir.fd, &values[j], fields[i].size, (off_t)fields[i].offset),
                             fields[i].size);
            logged[0] = '\0';
            ck_assert_msg(heir_succeed(&heir) == -EUCLEAN, "field %u, value %u", i, j);
            ck_assert_ptr_nonnull(strstr(logged, "unusable"));
            heir_die(&heir);
            check_rescue_fails(&heir, 0);
            ck_assert_int_eq(
                pwrite(heir.fd, before + fields[i].offset, fields[i].size, (off_t)fields[i].offset),
                fields[i].size);
        }
    }
    after = memory_copy(heir.fd, &size);
    ck_assert_int_eq(memcmp(before, after, size), 0);
    /* It still is a good one. */
    ck_assert_int_eq(heir_succeed(&heir), 0);
    volume_check_cache(&heir.volume, BLOCKS);
    heir_close(&heir);
}
END_TEST

/* Transaction `bad` + 1 cannot be read: the ones before it are all there is. */
START_TEST(test_bad_record) {
    uint64_t bad = (uint64_t)_i;
    uint8_t *initial;
    Heir heir;

    heir_open(&heir, 10);
    initial = malloc(BLOCKS * BLOCK);
    ck_assert_ptr_nonnull(initial);
    memcpy(initial, block_memory_data(heir.volume.memory), BLOCKS * BLOCK);
    memcpy(heir.volume.model, initial, BLOCKS * BLOCK);
    for (uint64_t i = 1; i <= bad; i++) {
        memcpy(heir.volume.model, &i, sizeof(i));
        memcpy(heir.volume.model + i * BLOCK, &i, sizeof(i));
    }
    lifeline_at(heir.lifeline, heir.lsn[bad])[60 + bad] ^= 1;
    heir_die(&heir);
    for (unsigned i = 0; i < 2; i++) {
        /* Once more: a successor's successor learns of it as well. */
        heir.volume.failed = 0;
        ck_assert_int_eq(heir_succeed(&heir), 0);
        ck_assert(cache_recovered(heir.volume.cache) && cache_damaged(heir.volume.cache));
        ck_assert_int_eq(heir.volume.failed, -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(logged, "damaged record"));
        ck_assert_uint_eq(cache_pending_blocks(heir.volume.cache), bad);
        volume_check_cache(&heir.volume, BLOCKS);
        ck_assert_int_eq(heir_step(&heir, 10), -EROFS);
        if (i == 0) {
            heir_die(&heir);
            check_rescue_fails(&heir, bad == 0 ? 0 : 2 + (bad - 1));
            volume_check_medium(&heir.volume);
            memcpy(block_memory_data(heir.volume.memory), initial, BLOCKS * BLOCK);
        }
    }
    cache_settled(heir.volume.cache);
    ck_assert_int_eq(cache_sync(heir.volume.cache), 0);
    volume_check_medium(&heir.volume);
    ck_assert_uint_eq(heir.lifeline->header->head, heir.lsn[10]);
    heir_close(&heir);
    free(initial);
}
END_TEST

/* Bytes that keep the checksum right: what a daemon's own bug could write. */
static void forge(Heir *heir, LogItem item, unsigned flags) {
    RecordBuilder builder;
    uint64_t lsn = heir->lsn[10];
    uint8_t bytes[BLOCK] = {0};

    item.bytes = bytes;
    item.mask = item.type == ITEM_BITS ? bytes : NULL;
    record_begin(&builder, lifeline_at(heir->lifeline, lsn), 8192);
    ck_assert_int_eq(record_append(&builder, &item), 0);
    heir->lifeline->header->head =
        lsn + record_finish(&builder, lsn, (uint16_t)(flags >> 8), 11, flags & 1, NULL, 0);
}

START_TEST(test_forged_records) {
    static const struct {
        LogItem item;
        unsigned flags;
    } cases[] = {
        {{.type = ITEM_RANGE, .block = 40, .length = 8}, 0}, /* without a base */
        {{.type = ITEM_RANGE, .block = 0, .length = 8}, 1},  /* its base is in the batch before */
        {{.type = ITEM_RANGE, .block = BLOCKS, .length = 8}, 0},
        {{.type = ITEM_RANGE, .block = 0, .length = 8, .offset = BLOCK - 4}, 0},
        {{.type = ITEM_RANGE, .block = 0, .length = 8, .class = 8}, 0},
        {{.type = ITEM_ZERO, .block = UINT64_MAX}, 0},
        {{.type = ITEM_BASE, .block = 0, .length = BLOCK / 2}, 0},
        {{.type = ITEM_FREE, .block = 55, .count = 1}, 0}, /* freed twice */
        {{.type = ITEM_FREE, .block = BLOCKS - 1, .count = 2}, 0},
        {{.type = ITEM_OBJECT, .block = 1, .class = 9, .offset = 1}, 0},
        {{.type = ITEM_RANGE, .block = 0, .length = 8, .class = 7}, SLOTS << 8}, /* no such slot */
    };
    Heir heir;

    heir_open(&heir, 10);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        forge(&heir, cases[i].item, cases[i].flags);
        heir_die(&heir);
        heir.volume.failed = 0;
        ck_assert_int_eq(heir_succeed(&heir), 0);
        ck_assert_msg(cache_damaged(heir.volume.cache), "case %u", i);
        volume_check_cache(&heir.volume, BLOCKS);
    }
    heir_close(&heir);
}
END_TEST

START_TEST(test_bad_tables) {
    uint8_t reply[256];
    unsigned seen = 0;
    uint64_t ids[10];
    Heir heir;

    heir_open(&heir, 10);
    for (unsigned i = 0; i < 10; i++) {
        const LifelineObject *entry = &heir.lifeline->objects[i];

        ck_assert_uint_eq(entry->file_id, i + 1);
        ck_assert_uint_eq(entry->lsn, heir.lsn[i]);
    }
    heir.lifeline->objects[0].kind = 77;
    heir.lifeline->objects[1].length = TXN_OBJECT_BLOB_MAX + 1;
    heir.lifeline->objects[2].file_id = 4; /* twice then */
    heir.lifeline->slots[3].length = 257;
    heir_die(&heir);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    ck_assert(cache_damaged(heir.volume.cache));
    ck_assert_ptr_nonnull(strstr(logged, "object table"));
    volume_check_cache(&heir.volume, BLOCKS);
    for (uint64_t id = 0; id < 100; id++) {
        uint8_t blob[TXN_OBJECT_BLOB_MAX];
        int r = cache_object_get(heir.volume.cache, id, TXN_OBJECT_ALIAS, blob, sizeof(blob));

        ck_assert_int_eq(r, id >= 4 && id <= 10 ? 4 : -ENOENT);
        seen += r == 4;
    }
    ck_assert_uint_eq(seen, 7);
    ck_assert_int_eq(cache_slot_reply(heir.volume.cache, 3, 3, reply), 0); /* no reply at all */
    ck_assert_int_le(lifeline_memory_objects(heir.fd, SLOTS, ids, 10), 10);
    heir_close(&heir);
}
END_TEST

static int count_objects(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                         uint32_t length) {
    (void)file_id;
    (void)kind;
    (void)blob;
    (void)length;
    ++*(unsigned *)arg;
    return 0;
}

/* As if the daemon had died before it had told the tables of the last three records. */
static void spoil_tables(Heir *heir) {
    heir->lifeline->header->applied = heir->lsn[7];
    memset(&heir->lifeline->objects[9], 0, sizeof(LifelineObject));
    memset(heir->lifeline->objects[8].blob, 'x', 3);
    heir->lifeline->slots[10 % SLOTS].seq = 2;
    memset(heir->lifeline->slots[9 % SLOTS].reply, 'x', 8);
}

static void check_tables(const Heir *heir) {
    unsigned seen = 0;
    uint8_t reply[256];

    for (uint64_t id = 1; id <= 10; id++) {
        uint8_t blob[4];

        ck_assert_int_eq(cache_object_get(heir->volume.cache, id, TXN_OBJECT_ALIAS, blob, 4), 4);
        ck_assert_mem_eq(blob, "blob", 4);
    }
    ck_assert_int_eq(cache_object_iterate(heir->volume.cache, count_objects, &seen), 0);
    ck_assert_uint_eq(seen, 10);
    ck_assert_int_eq(cache_slot_reply(heir->volume.cache, 10 % SLOTS, 10, reply), 8);
    ck_assert_int_eq(cache_slot_reply(heir->volume.cache, 9 % SLOTS, 9, reply), 8);
    ck_assert_mem_eq(reply, &(uint64_t){9}, 8);
}

/* Objects of the last record that did not reach the table, or only in part; twice. */
START_TEST(test_tables_applied_again) {
    Heir heir;

    heir_open(&heir, 10);
    spoil_tables(&heir);
    heir_die(&heir);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    ck_assert(!cache_damaged(heir.volume.cache));
    check_tables(&heir);
    ck_assert_uint_eq(heir.lifeline->header->applied, heir.lsn[10]);
    ck_assert_uint_eq(heir.lifeline->header->batch_start, heir.lsn[10]);
    heir_close(&heir);
}
END_TEST

/* A class that is on the medium is not written again, by neither. */
START_TEST(test_classes_done) {
    uint8_t *medium;
    LifelineRescue report;
    Heir heir;

    heir_open(&heir, 3);
    medium = block_memory_data(heir.volume.memory);
    heir.lifeline->header->classes_done = 1;
    heir_die(&heir);
    ck_assert_int_eq(lifeline_memory_rescue(heir.fd, SLOTS, heir.volume.memory, NULL, &report), 0);
    /* Block 0 is of class 0, which counts as written. */
    ck_assert_uint_eq(report.blocks, 3);
    ck_assert_uint_eq(report.records, 3);
    ck_assert_int_ne(memcmp(medium, heir.volume.model, BLOCK), 0);
    ck_assert_int_eq(memcmp(medium + BLOCK, heir.volume.model + BLOCK, 3 * BLOCK), 0);
    memset(medium + BLOCK, 0, 3 * BLOCK);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    cache_settled(heir.volume.cache);
    ck_assert_int_eq(cache_sync(heir.volume.cache), 0);
    ck_assert_uint_eq(cache_stats(heir.volume.cache)->blocks_written, 3);
    ck_assert_int_ne(memcmp(medium, heir.volume.model, BLOCK), 0);
    ck_assert_int_eq(memcmp(medium + BLOCK, heir.volume.model + BLOCK, 3 * BLOCK), 0);
    heir_close(&heir);
}
END_TEST

START_TEST(test_settled_by_the_owner) {
    LifelineRescue report;
    Heir heir;

    heir_open(&heir, 10);
    if (_i == 1) {
        spoil_tables(&heir);
    }
    heir_die(&heir);
    ck_assert_int_eq(lifeline_memory_rescue(heir.fd, SLOTS, heir.volume.memory, NULL, &report), 0);
    ck_assert_uint_eq(report.records, 10);
    ck_assert_uint_eq(report.bytes, heir.lsn[10] - heir.lsn[0]);
    volume_check_medium(&heir.volume);
    ck_assert_int_eq(lifeline_memory_settle(heir.fd), 0);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    ck_assert(!cache_damaged(heir.volume.cache));
    ck_assert_uint_eq(cache_stats(heir.volume.cache)->dirty_buffers, 0);
    ck_assert_uint_eq(cache_pending_blocks(heir.volume.cache), 0);
    check_tables(&heir);
    volume_check_cache(&heir.volume, BLOCKS);
    heir_close(&heir);
}
END_TEST

START_TEST(test_rescue_write_error) {
    BlockFaults faults = {.fail_write_at = 2};
    BlockDevice *device;
    LifelineRescue report;
    Heir heir;

    heir_open(&heir, 10);
    heir_die(&heir);
    ck_assert_int_eq(block_fault_new(heir.volume.memory, &faults, &device), 0);
    ck_assert_int_eq(lifeline_memory_rescue(heir.fd, SLOTS, device, NULL, &report), -EIO);
    ck_assert_str_ne(report.text, "");
    ck_assert_int_eq(lifeline_memory_rescue(heir.fd, SLOTS, device, NULL, &report), 0);
    volume_check_medium(&heir.volume);
    (void)block_free(device);
    heir_close(&heir);
}
END_TEST

/* ---- waiting ---- */

typedef struct Waiter {
    Heir *heir;
    uint64_t number; /* 0: cache_sync() */
    int result;
    bool done;
} Waiter;

static void waiter_fiber(void *arg) {
    Waiter *waiter = arg;

    waiter->result = waiter->number == 0 ? cache_sync(waiter->heir->volume.cache)
                                         : heir_step(waiter->heir, waiter->number);
    waiter->done = true;
}

static void freeze_fiber(void *arg) {
    Waiter *waiter = arg;

    cache_freeze(waiter->heir->volume.cache);
    waiter->done = true;
}

static void start(FiberFn *fn, Waiter *waiter) {
    waiter->done = false;
    ck_assert_ptr_nonnull(fiber_spawn(fn, waiter, "test"));
    (void)fiber_run_ready();
}

static int fill_body(Txn *txn, void *arg) {
    const Heir *heir = arg;
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    uint8_t bytes[400];
    int r = cache_get(heir->volume.cache, 30, &buffer);

    memset(bytes, 7, sizeof(bytes));
    return r < 0 ? r : txn_write(txn, buffer, 0, bytes, sizeof(bytes), 7);
}

/* Until the fence a successor works on in what is left of the log; who needs more waits, as does
 * fsync. */
START_TEST(test_waiting_for_the_fence) {
    Waiter step, sync;
    Heir heir;
    int r;

    ck_assert_int_eq(fiber_sched_init(8), 0);
    heir_open(&heir, 9);
    heir_die(&heir);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    memset(heir.volume.model + 30 * BLOCK, 7, 400);
    do {
        r = txn_run(heir.volume.cache, NULL, fill_body, &heir);
    } while (r == 0);
    ck_assert_int_eq(r, -EAGAIN);
    step = (Waiter){.heir = &heir, .number = 10};
    sync = (Waiter){.heir = &heir};
    start(waiter_fiber, &step);
    start(waiter_fiber, &sync);
    ck_assert(!step.done && !sync.done);
    ck_assert_uint_eq(heir.volume.device->stats.writes, 0);
    cache_settled(heir.volume.cache);
    (void)fiber_run_ready();
    ck_assert(step.done && sync.done);
    ck_assert_int_eq(step.result, 0);
    ck_assert_int_eq(sync.result, 0);
    ck_assert_int_eq(cache_sync(heir.volume.cache), 0);
    volume_check_medium(&heir.volume);
    heir_close(&heir);
    fiber_sched_done();
}
END_TEST

START_TEST(test_freeze) {
    static SlowDevice slow;
    Waiter sync, freeze, later;
    uint64_t writes;
    Heir heir;

    ck_assert_int_eq(fiber_sched_init(8), 0);
    heir_open(&heir, 10);
    heir_die(&heir);
    slow_open(&slow, &heir.volume);
    ck_assert_int_eq(heir_succeed(&heir), 0);
    cache_settled(heir.volume.cache);
    sync = freeze = later = (Waiter){.heir = &heir};
    start(waiter_fiber, &sync);
    ck_assert_uint_gt(slow.count, 0);
    /* The checkpoint under way ends first. */
    start(freeze_fiber, &freeze);
    ck_assert(!freeze.done);
    slow_pump(&slow);
    ck_assert(freeze.done && sync.done);
    ck_assert_int_eq(sync.result, 0);
    ck_assert_uint_eq(lifeline_used(heir.lifeline), 0);
    writes = heir.volume.device->stats.writes;
    heir.volume.blocks = BLOCKS;
    start(waiter_fiber, &later);
    slow_pump(&slow);
    ck_assert(!later.done);
    ck_assert_uint_eq(heir.volume.device->stats.writes, writes);
    cache_thaw(heir.volume.cache);
    slow_pump(&slow);
    ck_assert(later.done);
    ck_assert_int_eq(later.result, 0);
    volume_check_medium(&heir.volume);
    heir_close(&heir);
    fiber_sched_done();
}
END_TEST

static Suite *takeover_suite(void) {
    Suite *suite = suite_create("cache take-over");
    TCase *cases = tcase_create("cases");

    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_take_over);
    tcase_add_test(cases, test_flush_of_the_dead);
    tcase_add_test(cases, test_new_lifelines);
    tcase_add_test(cases, test_not_a_lifeline);
    tcase_add_test(cases, test_ring_too_small);
    tcase_add_test(cases, test_ring_allocation);
    tcase_add_test(cases, test_object_allocation);
    tcase_add_test(cases, test_ring_allocation_turns);
    tcase_add_test(cases, test_bad_header);
    tcase_add_loop_test(cases, test_bad_record, 0, 10);
    tcase_add_test(cases, test_forged_records);
    tcase_add_test(cases, test_bad_tables);
    tcase_add_test(cases, test_tables_applied_again);
    tcase_add_test(cases, test_classes_done);
    tcase_add_loop_test(cases, test_settled_by_the_owner, 0, 2);
    tcase_add_test(cases, test_rescue_write_error);
    tcase_add_test(cases, test_waiting_for_the_fence);
    tcase_add_test(cases, test_freeze);
    suite_add_tcase(suite, cases);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(takeover_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
