/* SPDX-License-Identifier: MIT */
/*
 * Damaged volumes: chains, directories and boot sectors that are wrong in one
 * chosen place or in random ones, and devices that end too early. Every answer is
 * allowed that says so or that gives the good part; what is checked beyond that is
 * that there is an answer, and that writing stops.
 */
#ifndef FAT_DAMAGE_H
#define FAT_DAMAGE_H

#include "fat_support.h"

static unsigned walked;

static void walk(uint64_t dir, unsigned depth);

typedef struct Children {
    uint64_t ids[64];
    FsFileType types[64];
    unsigned count;
} Children;

static void collect(void *arg, const FsDirEntry *entry) {
    Children *children = arg;
    char name[256];

    if (children->count < ARRAY_SIZE(children->ids) && walked++ < 2000) {
        (void)snprintf(name, sizeof(name), "%.*s", (int)entry->name_length, entry->name);
        ck_assert(utf8_valid(entry->name, entry->name_length));
        children->types[children->count] = entry->type;
        children->ids[children->count++] = entry->file_id;
    }
}

static void walk(uint64_t dir, unsigned depth) {
    Children children = {.count = 0};

    (void)list(dir, 4096, collect, &children);
    for (unsigned i = 0; i < children.count; i++) {
        if (get_attr(children.ids[i]) < 0) {
            continue;
        }
        if (response.attr.type == FS_TYPE_DIRECTORY) {
            if (depth < 6) {
                walk(children.ids[i], depth + 1);
            }
            continue;
        }
        (void)read_at(children.ids[i], 0, 65536);
        (void)read_at(children.ids[i], response.attr.size / 2, 4096);
    }
}

/* Everything a user might try on a volume that may be damaged. */
static void try_everything(void) {
    static uint8_t bytes[20000];
    int64_t id;

    walked = 0;
    walk(FS_ROOT_ID, 0);
    (void)call((FSRequest){.type = FS_MSG_STATFS, .file_id = FS_ROOT_ID});
    id = make("new file with a long name", FS_TYPE_FILE);
    if (!failed(id)) {
        (void)write_at((uint64_t)id, 5000, bytes, sizeof(bytes));
    }
    (void)make("tree/sub/new directory", FS_TYPE_DIRECTORY);
    id = resolve("tree/file");
    if (!failed(id)) {
        (void)write_at((uint64_t)id, 60000, bytes, sizeof(bytes));
        (void)set_size((uint64_t)id, 100);
    }
    (void)rename_path("tree/sub", "elsewhere", 0);
    (void)rename_path("tree/file", "tree/other/file", 0);
    (void)remove_path("tree/UPPER.TXT", false);
    (void)remove_path("tree/other", true);
    (void)call((FSRequest){.type = FS_MSG_SET_XATTR,
                           .file_id = FS_ROOT_ID,
                           .name = name_of("user.fat.label"),
                           .length = 3,
                           .payload = (const uint8_t *)"NEW",
                           .payload_length = 3});
    walked = 0;
    walk(FS_ROOT_ID, 0);
}

static void make_tree(void) {
    static uint8_t bytes[50000];

    mount_image("");
    for (unsigned i = 0; i < 3; i++) {
        static const char *const dirs[] = {"tree", "tree/sub", "tree/other"};
        ck_assert(!failed(make(dirs[i], FS_TYPE_DIRECTORY)));
    }
    for (unsigned i = 0; i < 4; i++) {
        static const char *const files[] = {"tree/file", "tree/UPPER.TXT",
                                            "tree/sub/a long name of a file", "tree/other/x"};
        int64_t id = make(files[i], FS_TYPE_FILE);
        ck_assert(!failed(id));
        for (uint32_t at = 0; at < sizeof(bytes); at += 1000 * (i + 1)) {
            /* Interleaved, so that chains have jumps. */
            ck_assert_int_gt(write_at((uint64_t)id, at, bytes, 1000), 0);
            ck_assert_int_gt(write_at((uint64_t)resolve("tree/file"), at, bytes, 1000), 0);
        }
    }
    ck_assert_int_eq(unmount_image(), 0);
}

static void no_log(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

/* ---- the FAT16 tree of make_tree(), wrong in one place ---- */

static void set_cell16(uint32_t cluster, uint16_t value) {
    for (unsigned copy = 0; copy < 2; copy++) {
        uint64_t at = (le16_get(*(le16 *)(image + 14)) + copy * le16_get(*(le16 *)(image + 22))) *
                      UINT64_C(512);
        le16 cell = le16_make(value);
        memcpy(image + at + cluster * 2, &cell, 2);
    }
}

static uint16_t get_cell16(uint32_t cluster) {
    le16 cell;

    memcpy(&cell, image + le16_get(*(le16 *)(image + 14)) * UINT64_C(512) + cluster * 2, 2);
    return le16_get(cell);
}

/* The bytes of a short entry, by its eleven bytes. */
static uint8_t *find_entry(const char *name) {
    uint8_t *at = memmem(image, image_size, name, 11);

    ck_assert_ptr_nonnull(at);
    return at;
}

static uint32_t first_cluster(const uint8_t *entry) {
    return (uint32_t)entry[26] | (uint32_t)entry[27] << 8;
}

typedef struct Damage {
    uint16_t cell; /* put into the second cell of tree/UPPER.TXT; 1: the file's first cluster */
    const char *what;
} Damage;

static const Damage damages[] = {{0, "free"},     {0xfff7, "bad"}, {0xfff0, "reserved"},
                                 {0x7fff, "far"}, {1, "loop"},     {0xffff, "short"}};

/* The good part can be read, the rest says EUCLEAN, writing turns the volume read-only. */
START_TEST(test_broken_chain) {
    const Damage *damage = &damages[_i];
    uint32_t first, second;
    uint64_t id;

    image_make(8 * 1024, "-F 16 -s 2");
    make_tree();
    first = first_cluster(find_entry("UPPER   TXT"));
    second = get_cell16(first);
    set_cell16(second, damage->cell == 1 ? (uint16_t)first : damage->cell);
    log_set_sink(no_log, NULL);
    mount_image("");
    id = (uint64_t)resolve("tree/UPPER.TXT");
    ck_assert_int_eq(read_at(id, 0, 2048), 2048);
    if (damage->cell == 1) {
        ck_assert_int_eq(read_at(id, 40000, 2048), -EUCLEAN);
    } else {
        ck_assert_int_eq(read_at(id, 2048, 2048), -EUCLEAN);
    }
    ck_assert_uint_gt(reporter_count(volume_fs(volume)->reporter), 0);
    ck_assert_msg(!failed(make("still writable", FS_TYPE_FILE)), "%s", damage->what);
    ck_assert_int_eq(set_size(id, 10), -EUCLEAN);
    ck_assert_int_eq((int)make("no more", FS_TYPE_FILE), -EROFS);
    ck_assert_int_eq(unmount_image(), 0);
    /* It did not become clean by that. */
    ck_assert_uint_eq(image[37] & 1, 1);
    log_set_sink(NULL, NULL);
}
END_TEST

/* Directories in directories that they lie in. */
START_TEST(test_directory_damage) {
    uint8_t *tree, *sub, *other;
    uint64_t id;

    image_make(8 * 1024, "-F 16 -s 2");
    make_tree();
    tree = find_entry("TREE       ");
    sub = find_entry("SUB        ");
    other = find_entry("OTHER      ");
    log_set_sink(no_log, NULL);
    switch (_i) {
    case 0: /* tree/sub is tree */
        memcpy(sub + 26, tree + 26, 2);
        mount_image("");
        ck_assert_int_eq((int)resolve("tree/sub"), -EUCLEAN);
        ck_assert_int_eq(remove_path("tree/sub", true), -EUCLEAN);
        break;
    case 1: /* tree/sub has no clusters: empty, and stays so */
        memset(sub + 26, 0, 2);
        mount_image("");
        ck_assert(!failed(resolve("tree/sub")));
        ck_assert_int_eq(list((uint64_t)resolve("tree/sub"), 4096, NULL, NULL), 0);
        ck_assert_int_eq((int)make("tree/sub/x", FS_TYPE_FILE), -EUCLEAN);
        ck_assert_int_eq((int)make("x", FS_TYPE_FILE), -EROFS);
        break;
    case 2: /* a cluster outside the volume */
        memset(sub + 26, 0xfe, 2);
        mount_image("");
        ck_assert_int_eq(list((uint64_t)resolve("tree/sub"), 4096, NULL, NULL), 0);
        break;
    case 3: /* '..' of sub names other: a rename does not follow it for ever */
        memcpy(
            image + (first_cluster(sub) - 2) * 1024u +
                ((size_t)(find_entry(".          ") - image) - (first_cluster(tree) - 2) * 1024u) +
                32 + 26,
            other + 26, 2);
        mount_image("");
        (void)rename_path("tree/other", "tree/sub/inside", 0);
        (void)rename_path("tree/sub", "tree/other/sub", 0);
        break;
    default: /* the chain of sub runs in a circle */
        set_cell16(first_cluster(sub), (uint16_t)first_cluster(sub));
        mount_image("");
        id = (uint64_t)resolve("tree/sub");
        ck_assert_int_ge(list(id, 4096, NULL, NULL), 1);
        (void)make("tree/sub/more", FS_TYPE_FILE);
        break;
    }
    try_everything();
    (void)unmount_image();
    log_set_sink(NULL, NULL);
}
END_TEST

/* Two files share clusters: what one frees the other must not free again. */
START_TEST(test_crossed_chains) {
    uint8_t *one, *two;

    image_make(8 * 1024, "-F 16 -s 2");
    make_tree();
    one = find_entry("FILE       ");
    two = find_entry("UPPER   TXT");
    set_cell16(first_cluster(one), get_cell16(first_cluster(two)));
    log_set_sink(no_log, NULL);
    mount_image("errors=continue");
    ck_assert_int_gt(read_at((uint64_t)resolve("tree/UPPER.TXT"), 0, 60000), 0);
    ck_assert_int_eq(remove_path("tree/file", false), 0);
    evict(response.param1);
    ck_assert_int_eq(set_size((uint64_t)resolve("tree/UPPER.TXT"), 0), -EUCLEAN);
    try_everything();
    (void)unmount_image();
    log_set_sink(NULL, NULL);
}
END_TEST

START_TEST(test_remount) {
    uint64_t id;

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    id = (uint64_t)make("file", FS_TYPE_FILE);
    ck_assert_int_eq(write_at(id, 0, "x", 1), 1);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_REMOUNT,
                                      .flags = FS_REQ_READONLY,
                                      .payload = (const uint8_t *)"ro",
                                      .payload_length = 2}),
                     0);
    check_clean("read-only after remount");
    ck_assert_int_eq(write_at(id, 0, "x", 1), -EROFS);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_REMOUNT,
                                      .payload = (const uint8_t *)"rw",
                                      .payload_length = 2}),
                     0);
    ck_assert_uint_eq(image[37] & 1, 1);
    ck_assert_int_eq(write_at(id, 1, "y", 1), 1);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("after remount");
}
END_TEST

/* Random damage to metadata: answers, whatever they are, and an end. */
START_TEST(test_random_damage) {
    static const char *const args[] = {"-F 12 -s 1 -r 112", "-F 16 -s 1", "-F 32 -s 1"};
    static const unsigned kib[] = {1000, 4200, 2000};
    uint64_t state = 1 + (uint64_t)_i;
    uint8_t *fresh;
    uint64_t metadata;

    image_make(kib[_i], args[_i]);
    make_tree();
    fresh = malloc(image_size);
    memcpy(fresh, image, image_size);
    metadata = MIN(image_size, 128u * 1024);
    log_set_sink(no_log, NULL);
    for (unsigned round = 0; round < 400; round++) {
        unsigned hits = 1 + round % 6;
        memcpy(image, fresh, image_size);
        for (unsigned i = 0; i < hits; i++) {
            static const uint8_t values[] = {0, 1, 2, 0xff, 0xf7, 0xe5, 0x0f, 0x10};
            uint64_t at;
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            at = (state >> 33) % metadata;
            if (round % 3 == 0) {
                at %= 96; /* the boot sector's fields */
            }
            /* Where there is something: most of the FAT is zero. */
            for (unsigned tries = 0; image[at] == 0 && tries < 4096 && round % 3 != 0; tries++) {
                at = (at + 1) % metadata;
            }
            image[at] = (state >> 13) % 3 == 0 ? (uint8_t)(state >> 20)
                                               : values[(state >> 20) % ARRAY_SIZE(values)];
        }
        if (mount_try(round % 2 == 0 ? "errors=continue" : "codepage=932") == 0) {
            try_everything();
        }
        (void)unmount_image();
    }
    log_set_sink(NULL, NULL);
    free(fresh);
}
END_TEST

/* An image that ends too early: what is there can be read, nothing is written. */
START_TEST(test_short_device) {
    image_make(8 * 1024, "-F 16 -s 2");
    make_tree();
    log_set_sink(no_log, NULL);
    for (uint64_t size = image_size; size > 0; size = size > 40001 ? size - 40001 : size - 1000) {
        image_size = size;
        if (mount_try("") == 0) {
            if (size < 8 * 1024 * 1024) {
                ck_assert_int_eq((int)make("x", FS_TYPE_FILE), -EROFS);
            }
            try_everything();
        }
        (void)unmount_image();
        if (size <= 1000) {
            break;
        }
    }
    log_set_sink(NULL, NULL);
}
END_TEST

#endif
