/* SPDX-License-Identifier: MIT */
/*
 * The HFS checker where programs cannot reach it: a device that fails at the
 * Nth read or write, repairs that are cut off after the Nth write and made
 * again, and damage at random. What it repairs is by problem in
 * tests/tools/test_fsck_hfs.py.
 */
#include "hfs_support.h"

#define IMAGE_SIZE (480u * 1024u)

static uint8_t *good; /* the image before any damage */

typedef struct Answers {
    CheckReporter reporter;
    bool repair;
} Answers;

static bool give_answer(CheckReporter *reporter, const CheckProblem *problem, const char *detail) {
    const Answers *answers = container_of(reporter, Answers, reporter);

    (void)note_problem(reporter, problem, detail);
    ck_assert(problem->code != NULL && problem->text != NULL && detail[0] != '\0');
    return answers->repair && problem->repair != NULL;
}

static int check_device(BlockDevice *checked, bool repair, CheckResult *ret) {
    Answers answers = {.reporter = {.problem = give_answer}, .repair = repair};
    const CheckConfig config = {.force = true, .now = 1700000000};
    char text[CHECK_TEXT] = "";
    int r;

    memset(ret, 0, sizeof(*ret));
    found_problems[0] = '\0';
    r = hfs_check(checked, &config, &answers.reporter, ret, text);
    ck_assert_int_eq(r < 0, text[0] != '\0');
    if (r < 0) {
        size_t length = strlen(found_problems);

        (void)snprintf(found_problems + length, sizeof(found_problems) - length, "ended: %s", text);
    }
    return r;
}

static int check_bytes(uint8_t *bytes, bool repair, CheckResult *ret) {
    BlockDevice *memory = NULL;
    int r;

    ck_assert_int_eq(block_memory_new(IMAGE_SIZE, 512, bytes, &memory), 0);
    r = check_device(memory, repair, ret);
    (void)block_free(memory);
    return r;
}

/* Directories, files of one and of many pieces. */
static void make_good(void) {
    CheckResult result;
    char name[64];

    image_create(IMAGE_SIZE, 512);
    mount_image("");
    ck_assert_int_gt(make("First", FS_TYPE_DIRECTORY), 0);
    ck_assert_int_gt(make("First/Second", FS_TYPE_DIRECTORY), 0);
    for (unsigned i = 0; i < 60; i++) {
        (void)snprintf(name, sizeof(name), "%sFile with a number %u", i % 3 == 0 ? "First/" : "",
                       i);
        (void)put_file(name, i, 1 + i * 37, 4096);
    }
    for (unsigned i = 0; i < 12; i++) { /* by turns: none gets two blocks in a row */
        for (unsigned j = 0; j < 4; j++) {
            (void)snprintf(name, sizeof(name), "First/Second/Pieces %u", j);
            int64_t id = i == 0 ? make(name, FS_TYPE_FILE) : resolve(name);
            ck_assert_int_eq(write_at((uint64_t)id, i * 2560, good, 2560), 2560);
        }
    }
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert_int_eq(image_check(&result), 0);
    ck_assert_uint_eq(result.files, 64);
    memcpy(good, image, IMAGE_SIZE);
}

static void setup(void) {
    good = calloc(1, IMAGE_SIZE);
    ck_assert_ptr_nonnull(good);
    make_good();
}

static void teardown(void) {
    free(good);
    support_done();
}

/* ---- where things are ---- */

static HfsMdb mdb_of(const uint8_t *bytes) {
    HfsDiskMdb disk;
    HfsMdb mdb;

    memcpy(&disk, bytes + HFS_MDB_SECTOR * HFS_SECTOR, sizeof(disk));
    ck_assert_int_eq(hfs_mdb_decode(&disk, &mdb, NULL), 0);
    return mdb;
}

static uint8_t *catalog_node(uint8_t *bytes, uint32_t number) {
    HfsMdb mdb = mdb_of(good);
    uint32_t block = number; /* of 512 bytes, as nodes are */

    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD; i++) {
        if (block < mdb.catalog_file[i].count) {
            return bytes + mdb.first_block * HFS_SECTOR +
                   (mdb.catalog_file[i].start + block) * HFS_SECTOR;
        }
        block -= mdb.catalog_file[i].count;
    }
    return bytes + HFS_MDB_SECTOR * HFS_SECTOR; /* further away than the MDB says */
}

/* Damage of many kinds at once. */
static void damage(uint8_t *bytes) {
    HfsMdb mdb = mdb_of(bytes);
    BtreeHeader header;
    BtreeNode node;

    btree_header_decode(catalog_node(bytes, 0), &header);
    ck_assert_uint_gt(header.depth, 1);
    btree_node_decode(catalog_node(bytes, header.first_leaf), &node);
    node.next = 0;
    btree_node_encode(&node, catalog_node(bytes, header.first_leaf));
    bytes[mdb.bitmap_start * HFS_SECTOR] = 0;
    memset(bytes + HFS_MDB_SECTOR * HFS_SECTOR + offsetof(HfsDiskMdb, file_count), 7, 4);
    memset(bytes + IMAGE_SIZE - HFS_ALT_MDB_FROM_END * HFS_SECTOR, 0, HFS_SECTOR);
}

/* ---- failing devices ---- */

START_TEST(reads_that_fail) {
    uint64_t reads = UINT64_MAX;

    for (uint64_t n = 1; n <= reads; n++) {
        BlockFaults faults = {.fail_read_at = n};
        BlockDevice *memory = NULL, *faulty = NULL;
        CheckResult result;
        int r;

        memcpy(image, good, IMAGE_SIZE);
        damage(image);
        ck_assert_int_eq(block_memory_new(IMAGE_SIZE, 512, image, &memory), 0);
        ck_assert_int_eq(block_fault_new(memory, &faults, &faulty), 0);
        r = check_device(faulty, true, &result);
        (void)block_free(faulty);
        (void)block_free(memory);
        if (faults.reads < n) {
            ck_assert_int_eq(r, 0);
            break;
        }
        ck_assert_msg(r == -EIO, "read %lu: %d", (unsigned long)n, r);
    }
}
END_TEST

START_TEST(writes_that_fail) {
    for (uint64_t n = 1;; n++) {
        BlockFaults faults = {.fail_write_at = n, .sticky = true, .tear = n % 2 == 0};
        BlockDevice *memory = NULL, *faulty = NULL;
        CheckResult result;
        int r;

        memcpy(image, good, IMAGE_SIZE);
        damage(image);
        ck_assert_int_eq(block_memory_new(IMAGE_SIZE, 512, image, &memory), 0);
        ck_assert_int_eq(block_fault_new(memory, &faults, &faulty), 0);
        r = check_device(faulty, true, &result);
        (void)block_free(faulty);
        (void)block_free(memory);
        if (faults.writes < n) {
            ck_assert_int_eq(r, 0);
            ck_assert_uint_gt(n, 5);
            break;
        }
        ck_assert_msg(r == -EIO, "write %lu: %d", (unsigned long)n, r);
        ck_assert_uint_eq(result.repaired, 0);
        /* What it got done does not stand in the way of the next one. */
        r = check_bytes(image, true, &result);
        ck_assert_msg(r == 0 && result.repaired == result.found, "after write %lu: %s",
                      (unsigned long)n, found_problems);
        ck_assert_int_eq(check_bytes(image, false, &result), 0);
        ck_assert_msg(result.found == 0, "after write %lu: %s", (unsigned long)n, found_problems);
        ck_assert_uint_eq(result.files, 64); /* a tree made anew never takes the old one's place */
    }
}
END_TEST

START_TEST(refusing_everything_changes_nothing) {
    BlockDevice *memory = NULL;
    CheckResult result;

    damage(image);
    memcpy(good, image, IMAGE_SIZE);
    ck_assert_int_eq(block_memory_new(IMAGE_SIZE, 512, image, &memory), 0);
    memory->readonly = true;
    ck_assert_int_eq(check_device(memory, false, &result), 0);
    (void)block_free(memory);
    ck_assert_uint_gt(result.found, 2);
    ck_assert_uint_eq(result.repaired, 0);
    ck_assert(result.frozen && !result.changed);
    ck_assert_mem_eq(image, good, IMAGE_SIZE);
}
END_TEST

/* ---- at random ---- */

static uint64_t random_state;

static uint32_t draw(uint32_t limit) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 20) % limit;
}

static void damage_at_random(uint8_t *bytes) {
    HfsMdb mdb = mdb_of(good);
    uint64_t trees = (uint64_t)mdb.extents_size + mdb.catalog_size;

    for (unsigned changes = 1 + draw(10); changes > 0; changes--) {
        static const uint8_t values[] = {0, 1, 2, 3, 4, 0x7f, 0x80, 0xff};
        uint8_t *at;

        switch (draw(8)) {
        case 0:
            at = bytes + HFS_MDB_SECTOR * HFS_SECTOR + draw(sizeof(HfsDiskMdb));
            break;
        case 1:
            at = bytes + HFS_BITMAP_SECTOR * HFS_SECTOR + draw(mdb.block_count / 8u);
            break;
        case 2: /* a node's descriptor */
            at = catalog_node(bytes, draw(mdb.catalog_size / HFS_NODE_SIZE)) + draw(14);
            break;
        case 3: /* its offsets */
            at = catalog_node(bytes, draw(mdb.catalog_size / HFS_NODE_SIZE)) +
                 (HFS_NODE_SIZE - 1 - draw(12));
            break;
        default:
            at = bytes + mdb.first_block * HFS_SECTOR + draw((uint32_t)trees);
            break;
        }
        *at = draw(2) == 0 ? values[draw(ARRAY_SIZE(values))] : (uint8_t)draw(256);
    }
}

START_TEST(random_damage) {
    const char *given = getenv("TEST_SEED"), *rounds_given = getenv("TEST_ROUNDS");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 20260801 + (uint64_t)_i;
    unsigned rounds = rounds_given != NULL ? (unsigned)atoi(rounds_given) : 1500;
    unsigned repaired = 0;

    random_state = seed * 2654435761u + 1;
    for (unsigned round = 0; round < rounds; round++) {
        CheckResult result, again;
        int r;

        memcpy(image, good, IMAGE_SIZE);
        damage_at_random(image);
        r = check_bytes(image, true, &result);
        ck_assert_msg(r == 0 || r == -EUCLEAN || r == -EMEDIUMTYPE, "seed %lu, round %u: %d",
                      (unsigned long)seed, round, r);
        if (r == 0 && result.repaired == result.found) {
            char before[sizeof(found_problems)];

            (void)snprintf(before, sizeof(before), "%s", found_problems);
            repaired++;
            r = check_bytes(image, false, &again);
            ck_assert_msg(r == 0 && again.found == 0, "seed %lu, round %u: %s THEN %s",
                          (unsigned long)seed, round, before, found_problems);
        }
    }
    ck_assert_uint_gt(repaired, rounds / 2); /* most damage can be repaired */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hfs_check");
    TCase *tcase = tcase_create("check");
    SRunner *runner;
    int failures;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, reads_that_fail);
    tcase_add_test(tcase, writes_that_fail);
    tcase_add_test(tcase, refusing_everything_changes_nothing);
    tcase_add_loop_test(tcase, random_damage, 0, 2);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? 0 : 1;
}
