/* SPDX-License-Identifier: MIT */
/*
 * Broken and hostile HFS volumes: every field of the MDB with values that make no sense, and the
 * trees, their records and the bitmap with bytes changed. The volume is mounted if it lets itself
 * be, all of it is walked and read, and it is written to. Nothing may crash, hang or go round in
 * circles; the sanitizers' builds watch for the rest.
 */
#include "hfs_support.h"

#define WALK_MAX 400u
#define LISTED_MAX 20000u
#define IMAGE_SIZE (UINT64_C(600) << 10)

static uint64_t random_state, seed;
static uint8_t *good;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

/* Directories, names in two levels of nodes, forks in pieces. */
static void make_good(void) {
    int64_t one, two;

    image_create(IMAGE_SIZE, 512);
    mount_image("");
    ck_assert(!failed(make("dir", FS_TYPE_DIRECTORY)));
    ck_assert(!failed(make("dir/sub", FS_TYPE_DIRECTORY)));
    for (unsigned i = 0; i < 60; i++) {
        char path[60];

        (void)snprintf(path, sizeof(path), "%sa file with number %u", i % 2 == 0 ? "dir/" : "", i);
        ck_assert(!failed(put_file(path, i, i * 100, 1000)));
    }
    one = make("dir/sub/one", FS_TYPE_FILE);
    two = make("dir/sub/two", FS_TYPE_FILE);
    for (unsigned i = 0; i < 90; i++) {
        ck_assert_int_eq(write_at((uint64_t)one, i * 512, image, 512), 512);
        ck_assert_int_eq(write_at((uint64_t)two, i * 512, image, 512), 512);
    }
    ck_assert_int_eq(set_xattr((uint64_t)one, "user.com.apple.ResourceFork", image, 3000), 0);
    ck_assert_int_eq(unmount_image(), 0);
    good = malloc(IMAGE_SIZE);
    ck_assert_ptr_nonnull(good);
    memcpy(good, image, IMAGE_SIZE);
}

static void good_done(void) {
    free(good);
    support_done();
}

/* ---- using a volume for all it is worth ---- */

typedef struct Walk {
    uint64_t ids[WALK_MAX];
    bool directories[WALK_MAX];
    unsigned count, listed;
} Walk;

static void note_entry(void *arg, const FsDirEntry *entry) {
    Walk *walk = arg;

    if (++walk->listed > LISTED_MAX) {
        ck_abort_msg("a listing goes round in circles (seed %llu)", (unsigned long long)seed);
    }
    if (walk->count < WALK_MAX) {
        walk->directories[walk->count] = entry->type == FS_TYPE_DIRECTORY;
        walk->ids[walk->count++] = entry->file_id;
    }
}

static void use_file(uint64_t id) {
    (void)read_at(id, 0, 65536);
    (void)get_xattr(id, "user.com.apple.ResourceFork");
    (void)get_xattr(id, "user.com.apple.FinderInfo");
    switch (random_below(8)) {
    case 0:
        (void)write_at(id, random_below(100000), good, 1 + random_below(5000));
        break;
    case 1:
        (void)set_size(id, random_below(60000));
        break;
    case 2:
        (void)set_xattr(id, "user.com.apple.ResourceFork", good, random_below(5000));
        break;
    default:
        break;
    }
}

static void use_names(void) {
    char name[60];

    for (unsigned i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof(name), "%sa file with number %u",
                       random_below(2) == 0 ? "dir/" : "", random_below(60));
        switch (random_below(4)) {
        case 0:
            (void)remove_path(name, false);
            break;
        case 1:
            (void)rename_path(name, "dir/sub/renamed", 0);
            break;
        case 2:
            (void)make(name, FS_TYPE_FILE);
            break;
        default:
            (void)resolve(name);
            break;
        }
    }
    (void)make("another directory", FS_TYPE_DIRECTORY);
    (void)rename_path("dir/sub", "another directory/sub", 0);
    (void)rename_path("dir", "another directory/sub/dir", 0);
    (void)remove_path("dir/sub/two", false);
    (void)remove_path("another directory", true);
}

static void use_volume(void) {
    static Walk walk;
    FsProbe probe;
    int r;

    r = mount_try("errors=continue");
    (void)hfs_type.probe(device, &probe);
    if (r == 0) {
        walk.count = walk.listed = 0;
        note_entry(&walk, &(FsDirEntry){.type = FS_TYPE_DIRECTORY, .file_id = FS_ROOT_ID});
        for (unsigned i = 0; i < walk.count; i++) {
            if (walk.directories[i]) {
                (void)list(walk.ids[i], 2000 + random_below(3000), note_entry, &walk);
            } else {
                use_file(walk.ids[i]);
            }
        }
        use_names();
        (void)sync_volume();
        (void)unmount_image();
        return;
    }
    client = local_client_free(client);
    volume = volume_free(volume);
    device = block_free(device);
}

/* ---- what is broken ---- */

START_TEST(any_field_of_the_mdb) {
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};

    for (unsigned at = 0; at < sizeof(HfsDiskMdb); at += 2) {
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            random_state = seed = at * 100 + i;
            memcpy(image, good, IMAGE_SIZE);
            if (i % 2 == 0) {
                memset(image + 1024 + at, values[i], 2);
            } else {
                image[1024 + at + 1] = values[i];
            }
            use_volume();
        }
    }
}
END_TEST

/* Where the metadata is: MDB, bitmap and both trees lie at the start of the blocks. */
START_TEST(any_bytes_of_the_metadata) {
    uint32_t metadata = 60 * 1024;

    for (unsigned round = 0; round < 400; round++) {
        random_state = seed = (uint64_t)_i * 100000 + round;
        memcpy(image, good, IMAGE_SIZE);
        for (unsigned changes = 1 + random_below(3); changes > 0; changes--) {
            uint32_t at = 1024 + random_below(metadata);

            /* Rather where something is than in empty space. */
            for (unsigned tries = 0; tries < 20 && image[at] == 0; tries++) {
                at = 1024 + random_below(metadata);
            }
            image[at] = (uint8_t)(random_below(3) == 0 ? random_below(256)
                                                       : image[at] + 1 - 2 * random_below(2));
        }
        use_volume();
    }
}
END_TEST

/* Sectors in the wrong place, twice, or gone. */
START_TEST(any_sectors_of_the_metadata) {
    for (unsigned round = 0; round < 300; round++) {
        uint32_t from, to;

        random_state = seed = 5000000 + round;
        memcpy(image, good, IMAGE_SIZE);
        from = 3 + random_below(100);
        to = 3 + random_below(100);
        if (random_below(3) == 0) {
            memset(image + to * 512, (int)random_below(256), 512);
        } else {
            memcpy(image + to * 512, good + from * 512, 512);
        }
        use_volume();
    }
}
END_TEST

START_TEST(short_devices) {
    for (uint64_t size = 0; size < IMAGE_SIZE; size += size < 4096 ? 512 : 30000) {
        FsProbe probe;

        memcpy(image, good, IMAGE_SIZE);
        image_size = MAX(size, UINT64_C(512));
        use_volume();
        ck_assert_int_eq(block_memory_new(image_size, 512, image, &device), 0);
        (void)hfs_type.probe(device, &probe);
        device = block_free(device);
    }
    image_size = IMAGE_SIZE;
}
END_TEST

/* ---- known traps ---- */

/* Fails to write over the catalog by way of a file whose extents claim its blocks. */
START_TEST(files_cannot_lie_in_the_trees) {
    HfsDiskMdb mdb;
    HfsDiskFile *record = NULL;
    int64_t id;

    memcpy(image, good, IMAGE_SIZE);
    memcpy(&mdb, image + 1024, sizeof(mdb));
    for (uint32_t at = 0; at + sizeof(*record) < IMAGE_SIZE; at += 2) {
        HfsDiskFile *here = (HfsDiskFile *)(void *)(image + at);

        if (here->type == HFS_RECORD_FILE && here->reserved == 0 &&
            be32_get(here->data_size) == 5900 && be32_get(here->data_allocated) == 6144) {
            record = here;
        }
    }
    ck_assert_ptr_nonnull(record);
    record->data_extents.extents[0].start = mdb.catalog_file.extents[0].start;
    mount_image("");
    id = resolve("a file with number 59");
    ck_assert_int_ge(id, 16);
    ck_assert_int_eq(read_at((uint64_t)id, 0, 100), -EUCLEAN);
    ck_assert_int_eq(write_at((uint64_t)id, 0, "x", 1), -EUCLEAN);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hfs_evil");
    TCase *tc = tcase_create("evil");
    SRunner *runner;
    int failures;

    log_init("test_hfs_evil", LOG_LEVEL_ERROR);
    tcase_set_timeout(tc, 100);
    tcase_add_unchecked_fixture(tc, make_good, good_done);
    tcase_add_test(tc, any_field_of_the_mdb);
    tcase_add_loop_test(tc, any_bytes_of_the_metadata, 0, 3);
    tcase_add_test(tc, any_sectors_of_the_metadata);
    tcase_add_test(tc, short_devices);
    tcase_add_test(tc, files_cannot_lie_in_the_trees);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? 0 : 1;
}
