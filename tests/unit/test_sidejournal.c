/* SPDX-License-Identifier: MIT */
/*
 * The side journal: its format byte by byte, whose it is, and what becomes of its batch
 * when a power cut, somebody else or a full disk comes between. (tests/crash cuts at random.)
 */
#include "../../src/cache/sidejournal.h"
#include "berth/log.h"
#include "cache_support.h"
#include <xxhash.h>

#define BLOCKS 64u
#define RING (256u << 10)

static const SideJournalVolume identity = {.size = BLOCKS * BLOCK, .type = "toy", .serial = "0001"};

static void say_nothing(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

typedef struct World {
    Volume volume;
    BlockDevice *journal_memory;
    BlockDevice *journal_device; /* the same, or stacked on it */
    SideJournal *journal;
    BlockFaults faults, journal_faults;
} World;

static int begin(World *world, const SideJournalVolume *volume, char text[256]) {
    text[0] = '\0';
    return sidejournal_begin(world->journal, volume, 0, world->volume.memory, false, text);
}

/* A volume over devices that fail on demand, with a fresh journal. */
static void world_open(World *world) {
    char text[256];

    *world = (World){0};
    log_set_sink(say_nothing, NULL);
    volume_fill(&world->volume, BLOCKS * BLOCK);
    ck_assert_int_eq(block_memory_new(sidejournal_size(RING, BLOCKS * BLOCK), BLOCK, NULL,
                                      &world->journal_memory),
                     0);
    ck_assert_int_eq(
        block_fault_new(world->journal_memory, &world->journal_faults, &world->journal_device), 0);
    ck_assert_int_eq(block_fault_new(world->volume.memory, &world->faults, &world->volume.device),
                     0);
    ck_assert_int_eq(sidejournal_new(world->journal_device, &world->journal), 0);
    ck_assert_int_eq(begin(world, &identity, text), 0);
    volume_cache(&world->volume, (CacheConfig){.journal = world->journal, .log_size = RING});
}

/* As if the machine had gone down: what is on the media is all there is. */
static void world_cut(World *world) {
    world->volume.cache = cache_free(world->volume.cache);
    world->faults = world->journal_faults = (BlockFaults){0};
    (void)sidejournal_free(world->journal);
    ck_assert_int_eq(sidejournal_new(world->journal_device, &world->journal), 0);
}

static void world_close(World *world) {
    volume_close(&world->volume);
    (void)sidejournal_free(world->journal);
    (void)block_free(world->journal_device);
    (void)block_free(world->journal_memory);
}

typedef struct Change {
    World *world;
    uint64_t first;
    uint8_t byte;
} Change;

static int change_body(Txn *txn, void *arg) {
    const Change *change = arg;
    Cache *cache = change->world->volume.cache;
    int r = 0;

    for (uint64_t i = 0; r == 0 && i < 8; i++) {
        _cleanup_(cache_putp) Buffer *buffer = NULL;

        /* The last one is made anew, in two classes. */
        r = i == 7 ? txn_new_block(txn, change->first + i, 0, &buffer)
                   : cache_get(cache, change->first + i, &buffer);
        if (r == 0) {
            r = txn_write(txn, buffer, (uint32_t)(i * 3), &change->byte, 1, (unsigned)(i % 3));
        }
    }
    return r;
}

/* Blocks [first, first + 8) in one transaction; the model follows. */
static void change(World *world, uint64_t first, uint8_t byte) {
    Change what = {.world = world, .first = first, .byte = byte};

    ck_assert_int_eq(txn_run(world->volume.cache, NULL, change_body, &what), 0);
    memset(world->volume.model + (first + 7) * BLOCK, 0, BLOCK);
    for (uint64_t i = 0; i < 8; i++) {
        world->volume.model[(first + i) * BLOCK + i * 3] = byte;
    }
}

/* A batch in the journal, of which some blocks are in place: `done` of two runs. */
static void leave_batch(World *world, uint64_t done) {
    change(world, 2, 0xa1);
    change(world, 40, 0xa2);
    world->faults = (BlockFaults){.fail_write_at = done + 1, .sticky = true};
    ck_assert_int_eq(cache_sync(world->volume.cache), -EIO);
    ck_assert_int_eq(world->volume.failed, -EIO);
    world_cut(world);
}

static uint8_t *journal_bytes(World *world) {
    return block_memory_data(world->journal_memory);
}

static bool journal_committed(World *world) {
    SideJournalDiskHeader disk;

    memcpy(&disk, journal_bytes(world), sizeof(disk));
    return le32_get(disk.state) == 1;
}

/* ---- the format ---- */

static SideJournalHeader some_header(void) {
    SideJournalHeader header = {.committed = true,
                                .sequence = 77,
                                .volume = identity,
                                .block_size = BLOCK,
                                .blocks = 3,
                                .body_length = 3 * sidejournal_entry_length(BLOCK),
                                .body_checksum = 0x1234567890abcdef,
                                .log_end = 4096};

    return header;
}

#define CAPACITY (UINT64_C(1) << 20)

START_TEST(test_header_round_trip) {
    SideJournalHeader header = some_header(), again;
    SideJournalDiskHeader disk;
    const char *text = NULL;

    sidejournal_header_encode(&header, &disk);
    ck_assert_int_eq(sidejournal_header_decode(&disk, CAPACITY, &again, &text), 1);
    ck_assert_int_eq(again.committed, 1);
    ck_assert_uint_eq(again.sequence, 77);
    ck_assert_uint_eq(again.volume.size, identity.size);
    ck_assert_str_eq(again.volume.type, "toy");
    ck_assert_str_eq(again.volume.serial, "0001");
    ck_assert_uint_eq(again.blocks, 3);
    ck_assert_uint_eq(again.body_checksum, 0x1234567890abcdef);
    ck_assert_uint_eq(again.log_end, 4096);
    /* The file has become too short for it. */
    ck_assert_int_eq(sidejournal_header_decode(&disk, SIDEJOURNAL_BODY + 1000, &again, &text),
                     -EUCLEAN);
    memset(&disk, 0, sizeof(disk));
    ck_assert_int_eq(sidejournal_header_decode(&disk, CAPACITY, &again, &text), 0);
}
END_TEST

START_TEST(test_header_each_byte) {
    SideJournalHeader header = some_header(), again;
    SideJournalDiskHeader disk;
    uint8_t *bytes = (uint8_t *)&disk;

    header.committed = _i == 0;
    sidejournal_header_encode(&header, &disk);
    for (size_t i = 0; i < sizeof(disk); i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            const char *text = NULL;

            bytes[i] ^= (uint8_t)(1U << bit);
            ck_assert_int_eq(sidejournal_header_decode(&disk, CAPACITY, &again, &text), -EUCLEAN);
            ck_assert_ptr_nonnull(text);
            bytes[i] ^= (uint8_t)(1U << bit);
        }
    }
}
END_TEST

/* With a right checksum: somebody means it. */
START_TEST(test_header_hostile) {
    static const struct {
        size_t offset;
        uint64_t value;
        size_t length;
    } cases[] = {
        {offsetof(SideJournalDiskHeader, version), 2, 4},
        {offsetof(SideJournalDiskHeader, state), 2, 4},
        {offsetof(SideJournalDiskHeader, volume_size), UINT64_MAX, 8},
        {offsetof(SideJournalDiskHeader, volume_size), 0, 8},
        {offsetof(SideJournalDiskHeader, type), 0x1b, 1},
        {offsetof(SideJournalDiskHeader, serial) + 63, 'x', 1},
        {offsetof(SideJournalDiskHeader, block_size), 0, 4},
        {offsetof(SideJournalDiskHeader, block_size), 513, 4},
        {offsetof(SideJournalDiskHeader, block_size), 1U << 31, 4},
        {offsetof(SideJournalDiskHeader, reserved), 1, 4},
        {offsetof(SideJournalDiskHeader, blocks), 0, 8},
        {offsetof(SideJournalDiskHeader, blocks), UINT64_MAX / 512, 8},
        {offsetof(SideJournalDiskHeader, blocks), BLOCKS + 1, 8},
        {offsetof(SideJournalDiskHeader, body_length), 1, 8},
        {offsetof(SideJournalDiskHeader, body_length), UINT64_MAX, 8},
        {offsetof(SideJournalDiskHeader, zero) + 100, 1, 1},
    };
    SideJournalHeader header = some_header(), again;
    SideJournalDiskHeader disk;
    const char *text = NULL;
    le64 value = le64_make(cases[_i].value);

    sidejournal_header_encode(&header, &disk);
    memcpy((uint8_t *)&disk + cases[_i].offset, &value, cases[_i].length);
    disk.checksum = le64_make(XXH3_64bits(&disk, offsetof(SideJournalDiskHeader, checksum)));
    ck_assert_int_eq(sidejournal_header_decode(&disk, CAPACITY, &again, &text), -EUCLEAN);
    ck_assert_str_ne(text, "has a damaged header");
}
END_TEST

START_TEST(test_size) {
    /* A floppy's is hardly larger than the floppy, a large volume's depends on the log alone. */
    ck_assert_uint_lt(sidejournal_size(0, 1440 << 10), 2 << 20);
    ck_assert_uint_eq(sidejournal_size(0, UINT64_C(1) << 40), sidejournal_size(0, UINT64_MAX / 2));
    ck_assert_uint_lt(sidejournal_size(UINT64_MAX, UINT64_C(1) << 40), 200 << 20);
    ck_assert_uint_eq(sidejournal_size(1, 1) % 4096, 0);
}
END_TEST

/* ---- whose it is ---- */

START_TEST(test_other_volume) {
    SideJournalVolume other = identity;
    char text[256];
    World world;

    world_open(&world);
    leave_batch(&world, 0);
    strcpy(other.serial, "0002");
    ck_assert_int_eq(begin(&world, &other, text), -EXDEV);
    ck_assert_ptr_nonnull(strstr(text, "another volume: toy 0001"));
    other = identity;
    other.size -= BLOCK;
    ck_assert_int_eq(begin(&world, &other, text), -EXDEV);
    other = identity;
    strcpy(other.type, "fat");
    ck_assert_int_eq(begin(&world, &other, text), -EXDEV);
    ck_assert(journal_committed(&world)); /* it waits for its own */
    ck_assert_int_eq(begin(&world, &identity, text), 0);
    volume_check_medium(&world.volume);
    world_close(&world);
}
END_TEST

START_TEST(test_something_else) {
    char text[256];
    World world;

    world_open(&world);
    world_cut(&world);
    memset(journal_bytes(&world), 0, 4096);
    journal_bytes(&world)[1024] = 'B'; /* as an image may begin, with nothing in its first sector */
    ck_assert_int_eq(begin(&world, &identity, text), -EUCLEAN);
    ck_assert_int_eq(journal_bytes(&world)[0], 0);
    ck_assert_int_eq(sidejournal_look((const uint8_t *)"some thesis", 11), SIDEJOURNAL_FOREIGN);
    ck_assert_int_eq(sidejournal_look((const uint8_t *)"berthjnl", 8), SIDEJOURNAL_FOREIGN);
    ck_assert_int_eq(sidejournal_look((const uint8_t *)"", 0), SIDEJOURNAL_BLANK);
    world_close(&world);
}
END_TEST

START_TEST(test_too_small) {
    char text[256];
    World world;

    world_open(&world);
    world_cut(&world);
    ck_assert_int_eq(sidejournal_begin(world.journal, &identity, UINT64_C(1) << 30,
                                       world.volume.memory, false, text),
                     -ENOSPC);
    ck_assert_ptr_nonnull(strstr(text, "needs 1073741824 bytes"));
    world_close(&world);
}
END_TEST

/* ---- what becomes of a batch ---- */

/* Nothing of it in place, or a part. */
START_TEST(test_replay) {
    char text[256];
    World world;

    world_open(&world);
    leave_batch(&world, (uint64_t)_i);
    ck_assert(journal_committed(&world));
    ck_assert_int_eq(begin(&world, &identity, text), 0);
    volume_check_medium(&world.volume);
    ck_assert(!journal_committed(&world));
    ck_assert_uint_eq(sidejournal_stats(world.journal)->replayed, 16);
    world_close(&world);
}
END_TEST

/* A cut in the middle of the replay: it is done again. */
START_TEST(test_replay_again) {
    char text[256];
    World world;

    world_open(&world);
    leave_batch(&world, 0);
    world.faults = (BlockFaults){.fail_write_at = (uint64_t)_i + 1, .sticky = true};
    ck_assert_int_eq(
        sidejournal_begin(world.journal, &identity, 0, world.volume.device, false, text), -EIO);
    ck_assert(journal_committed(&world));
    world_cut(&world);
    ck_assert_int_eq(begin(&world, &identity, text), 0);
    volume_check_medium(&world.volume);
    world_close(&world);
}
END_TEST

START_TEST(test_read_only) {
    char text[256];
    World world;

    world_open(&world);
    leave_batch(&world, 1);
    ck_assert_int_eq(
        sidejournal_begin(world.journal, &identity, 0, world.volume.memory, true, text), -EROFS);
    ck_assert(journal_committed(&world));
    ck_assert_int_eq(begin(&world, &identity, text), 0);
    volume_check_medium(&world.volume);
    ck_assert_int_eq(
        sidejournal_begin(world.journal, &identity, 0, world.volume.memory, true, text), 0);
    world_close(&world);
}
END_TEST

/* Somebody has mounted the volume without its journal. */
START_TEST(test_changed_since) {
    uint8_t *medium, *copy = malloc(BLOCKS * BLOCK);
    char text[256];
    World world;

    ck_assert_ptr_nonnull(copy);
    world_open(&world);
    leave_batch(&world, (uint64_t)_i % 2);
    medium = block_memory_data(world.volume.memory);
    medium[(_i < 2 ? 3 : 41) * BLOCK + 500] ^= 1;
    memcpy(copy, medium, BLOCKS * BLOCK);
    ck_assert_int_eq(begin(&world, &identity, text), -ESTALE);
    ck_assert_ptr_nonnull(strstr(text, "changed without it"));
    ck_assert_mem_eq(medium, copy, BLOCKS * BLOCK);
    ck_assert(journal_committed(&world));
    world_close(&world);
    free(copy);
}
END_TEST

/* A byte that has not reached the journal: nothing of the batch counts. */
START_TEST(test_incomplete) {
    size_t body = 16 * (size_t)sidejournal_entry_length(BLOCK);
    uint8_t *before = malloc(BLOCKS * BLOCK);
    char text[256];

    ck_assert_ptr_nonnull(before);
    for (size_t at = (size_t)_i; at < body; at += 97) {
        World world;

        world_open(&world);
        memcpy(before, block_memory_data(world.volume.memory), BLOCKS * BLOCK);
        leave_batch(&world, 0);
        journal_bytes(&world)[SIDEJOURNAL_BODY + at] ^= 0x40;
        ck_assert_int_eq(begin(&world, &identity, text), 0);
        ck_assert_mem_eq(block_memory_data(world.volume.memory), before, BLOCKS * BLOCK);
        ck_assert(!journal_committed(&world));
        world_close(&world);
    }
    free(before);
}
END_TEST

/* A body that was made by somebody who knows how: each entry by itself is checked. */
START_TEST(test_hostile_body) {
    size_t entry = (size_t)sidejournal_entry_length(BLOCK);
    uint64_t blocks[] = {BLOCKS, UINT64_MAX, 2};
    uint8_t *before = malloc(BLOCKS * BLOCK);
    SideJournalDiskHeader *disk;
    SideJournalDiskEntry change;
    uint8_t *body;
    char text[256];
    World world;

    ck_assert_ptr_nonnull(before);
    world_open(&world);
    leave_batch(&world, 0);
    memcpy(before, block_memory_data(world.volume.memory), BLOCKS * BLOCK);
    disk = (SideJournalDiskHeader *)(void *)journal_bytes(&world);
    body = journal_bytes(&world) + SIDEJOURNAL_BODY + 5 * entry;
    memcpy(&change, body, sizeof(change));
    if (_i < 3) {
        change.block = le64_make(blocks[_i]);
    } else if (_i == 3) {
        change.flags = le32_make(2);
    } else {
        change.reserved = le32_make(1);
    }
    memcpy(body, &change, sizeof(change));
    disk->body_checksum = le64_make(XXH3_64bits_withSeed(journal_bytes(&world) + SIDEJOURNAL_BODY,
                                                         16 * entry, le64_get(disk->sequence)));
    disk->checksum = le64_make(XXH3_64bits(disk, offsetof(SideJournalDiskHeader, checksum)));
    ck_assert_int_eq(begin(&world, &identity, text), -EUCLEAN);
    ck_assert_mem_eq(block_memory_data(world.volume.memory), before, BLOCKS * BLOCK);
    world_close(&world);
    free(before);
}
END_TEST

/* No room for the journal: fsync says so, the volume is as it was, and so is what it shows. */
START_TEST(test_no_space) {
    uint8_t *before = malloc(BLOCKS * BLOCK);
    char text[256];
    World world;

    ck_assert_ptr_nonnull(before);
    world_open(&world);
    memcpy(before, block_memory_data(world.volume.memory), BLOCKS * BLOCK);
    change(&world, 2, 0xa1);
    world.journal_faults =
        (BlockFaults){.fail_write_at = (uint64_t)_i + 1, .sticky = true, .error = ENOSPC};
    ck_assert_int_eq(cache_sync(world.volume.cache), -ENOSPC);
    ck_assert_int_eq(world.volume.failed, -ENOSPC);
    volume_check_cache(&world.volume, BLOCKS);
    ck_assert_mem_eq(block_memory_data(world.volume.memory), before, BLOCKS * BLOCK);
    world_cut(&world);
    ck_assert_int_eq(begin(&world, &identity, text), 0);
    ck_assert_mem_eq(block_memory_data(world.volume.memory), before, BLOCKS * BLOCK);
    world_close(&world);
    free(before);
}
END_TEST

/* Once is no harm: it is tried again. */
START_TEST(test_passing_fault) {
    World world;

    world_open(&world);
    change(&world, 2, 0xa1);
    if (_i < 2) {
        world.journal_faults = (BlockFaults){.fail_write_at = (uint64_t)_i + 1};
    } else if (_i < 4) {
        world.journal_faults = (BlockFaults){.fail_flush_at = (uint64_t)_i - 1};
    } else {
        world.faults = (BlockFaults){.fail_write_at = 1, .tear = true};
    }
    ck_assert_int_eq(cache_sync(world.volume.cache), 0);
    volume_check_medium(&world.volume);
    ck_assert(!journal_committed(&world));
    change(&world, 20, 0xb1);
    ck_assert_int_eq(cache_sync(world.volume.cache), 0);
    volume_check_medium(&world.volume);
    world_close(&world);
}
END_TEST

/* ---- after a daemon's death ---- */

/* The successor finds half of a batch in place, changes more, and the power goes after all. */
START_TEST(test_takeover) {
    char text[256];
    Lifeline *lifeline = NULL;
    CacheConfig config = {.log_size = RING};
    World world;

    world_open(&world);
    ck_assert_int_eq(
        sidejournal_begin(world.journal, &identity, 0, world.volume.memory, false, text), 0);
    world.volume.cache = cache_free(world.volume.cache);
    ck_assert_int_eq(lifeline_new(RING, 4, &lifeline), 0);
    config.lifeline = lifeline;
    config.journal = world.journal;
    volume_cache(&world.volume, config);
    leave_batch(&world, 1);
    world.volume.failed = 0;

    config.recover = true;
    config.journal = world.journal;
    volume_cache(&world.volume, config);
    ck_assert(cache_recovered(world.volume.cache));
    cache_settled(world.volume.cache);
    volume_check_cache(&world.volume, BLOCKS);
    change(&world, 4, 0xc1);
    if (_i < 3) { /* 0, 1, 2 runs of it in place */
        /* Before them: the predecessor's batch, 16 blocks one by one. */
        world.faults = (BlockFaults){.fail_write_at = 16 + (uint64_t)_i + 1, .sticky = true};
        ck_assert_int_eq(cache_sync(world.volume.cache), _i == 2 ? 0 : -EIO);
        world_cut(&world);
        ck_assert_int_eq(begin(&world, &identity, text), 0);
    } else {
        ck_assert_int_eq(cache_sync(world.volume.cache), 0);
        ck_assert_uint_eq(sidejournal_stats(world.journal)->replayed, 16);
    }
    volume_check_medium(&world.volume);
    world_close(&world);
    (void)lifeline_free(lifeline);
}
END_TEST

/* The same without a successor. */
START_TEST(test_rescue) {
    LifelineRescue report;
    Lifeline *lifeline = NULL;
    CacheConfig config = {.log_size = RING};
    char text[256];
    World world;

    world_open(&world);
    world.volume.cache = cache_free(world.volume.cache);
    ck_assert_int_eq(lifeline_new(RING, 4, &lifeline), 0);
    config.lifeline = lifeline;
    config.journal = world.journal;
    volume_cache(&world.volume, config);
    leave_batch(&world, 1);
    world.faults = (BlockFaults){.fail_write_at = (uint64_t)_i, .sticky = true};
    if (_i > 0) {
        ck_assert_int_lt(lifeline_memory_rescue(lifeline_fd(lifeline), 4, world.volume.device,
                                                world.journal, &report),
                         0);
        world_cut(&world);
    }
    if (_i == 3) { /* the power goes instead */
        ck_assert_int_eq(begin(&world, &identity, text), 0);
    } else {
        ck_assert_int_eq(lifeline_memory_rescue(lifeline_fd(lifeline), 4, world.volume.device,
                                                world.journal, &report),
                         0);
    }
    volume_check_medium(&world.volume);
    ck_assert(!journal_committed(&world));
    world_close(&world);
    (void)lifeline_free(lifeline);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("side journal");
    TCase *format = tcase_create("format");
    TCase *cases = tcase_create("cases");

    tcase_add_test(format, test_header_round_trip);
    tcase_add_loop_test(format, test_header_each_byte, 0, 2);
    tcase_add_loop_test(format, test_header_hostile, 0, 16);
    tcase_add_test(format, test_size);
    suite_add_tcase(suite, format);
    tcase_add_test(cases, test_other_volume);
    tcase_add_test(cases, test_something_else);
    tcase_add_test(cases, test_too_small);
    tcase_add_loop_test(cases, test_replay, 0, 2);
    tcase_add_loop_test(cases, test_replay_again, 0, 16);
    tcase_add_test(cases, test_read_only);
    tcase_add_loop_test(cases, test_changed_since, 0, 4);
    tcase_add_loop_test(cases, test_incomplete, 0, 8);
    tcase_add_loop_test(cases, test_hostile_body, 0, 5);
    tcase_add_loop_test(cases, test_no_space, 0, 2);
    tcase_add_loop_test(cases, test_passing_fault, 0, 5);
    tcase_add_loop_test(cases, test_takeover, 0, 4);
    tcase_add_loop_test(cases, test_rescue, 0, 4);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
