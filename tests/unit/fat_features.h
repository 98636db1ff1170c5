/* SPDX-License-Identifier: MIT */
/*
 * What FAT has beyond files and directories: code pages, lower-case bits, labels,
 * attributes, time zones, copies that differ, marks, odd geometries, exchange. fsck.fat
 * and mtools judge what is written; bytes in the image are looked at where they have no opinion.
 */
#ifndef FAT_FEATURES_H
#define FAT_FEATURES_H

#include "../../src/fs/fat/types.h"
#include "fat_support.h"
#include <linux/falloc.h>
#include <sys/mman.h>

/* ---- names ---- */

typedef struct PageCase {
    const char *page;
    const char *name;          /* UTF-8 */
    const char short_name[12]; /* what must stand in the image */
    const char *upper;         /* another spelling that finds it */
} PageCase;

static const PageCase page_cases[] = {
    {"437", "\303\251t\303\251.txt", "\220T\220     TXT", "\303\211T\303\211.TXT"},
    {"850", "\303\241b.txt", "\265B      TXT", "\303\201B.TXT"},
    {"852", "\305\231e\304\215.txt", "\374E\254     TXT", "\305\230E\304\214.TXT"},
    {"866", "\320\274\320\270\321\200.txt", "\214\210\220     TXT", "\320\234\320\230\320\240.TXT"},
    {"1252", "\303\245\303\244.x", "\305\304      X  ", "\303\205\303\204.X"},
    /* U+65E5 U+672C; then U+8577, whose first byte 0xe5 is stored as 0x05. */
    {"932", "\346\227\245\346\234\254.txt", "\223\372\226{    TXT", "\346\227\245\346\234\254.TXT"},
    {"932", "\350\225\267a", "\005\120A        ", "\350\225\267A"},
};

static UNUSED bool image_has(const char *short_name) {
    return memmem(image, image_size, short_name, FAT_SHORT_LENGTH) != NULL;
}

START_TEST(test_codepages) {
    const PageCase *page = &page_cases[_i];
    char options[32];
    uint8_t *entry;
    int64_t id;

    image_make(8 * 1024, "-F 16 -s 2");
    (void)snprintf(options, sizeof(options), "codepage=%s", page->page);
    mount_image(options);
    id = make(page->name, FS_TYPE_FILE);
    ck_assert_msg(!failed(id), "%s: create %d", page->page, (int)id);
    ck_assert_int_eq(resolve(page->upper), id);
    ck_assert_int_eq(unmount_image(), 0);
    entry = memmem(image, image_size, page->short_name, FAT_SHORT_LENGTH);
    ck_assert_msg(entry != NULL, "%s: no such short name in the image", page->page);
    check_clean(page->page);
    /* Without the long name the short one is shown, and found by any spelling. */
    ck_assert_uint_eq(entry[-32 + 11], FAT_ATTR_LONG_NAME);
    entry[-32] = FAT_NAME_DELETED;
    mount_image(options);
    ck_assert(!failed(resolve(page->upper)));
    ck_assert_uint_ne(response.flags & FS_RESP_EXACT, 0);
    ck_assert(!failed(resolve(page->name)));
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* All characters of a page of two bytes come back, or are said not to exist. */
START_TEST(test_codepage_tables) {
    static const char *const names[] = {"437", "850", "852", "866", "932", "1252", "cp1251"};

    for (unsigned n = 0; n < ARRAY_SIZE(names); n++) {
        const FatCodepage *page = fat_codepage_find(names[n]);
        unsigned known = 0;
        ck_assert_ptr_nonnull(page);
        for (unsigned unit = 1; unit < 0x10000; unit++) {
            uint8_t bytes[2];
            uint16_t back = 0;
            unsigned count = fat_codepage_encode(page, (uint16_t)unit, bytes);
            if (count == 0) {
                continue;
            }
            known += 1;
            ck_assert_uint_eq(fat_codepage_decode(page, bytes, count, &back), count);
            ck_assert_uint_eq(back, unit);
        }
        ck_assert_uint_ge(known, strcmp(names[n], "932") == 0 ? 9000 : 240);
    }
    ck_assert_ptr_null(fat_codepage_find("999"));
    ck_assert_ptr_null(fat_codepage_find(""));
}
END_TEST

/* Double-byte names longer than eight bytes are not cut inside a character. */
START_TEST(test_codepage_cut) {
    static const char name[] = "a\346\227\245\346\234\254\350\252\236\346\227\245\346\234\254";

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("codepage=932");
    ck_assert(!failed(make(name, FS_TYPE_FILE)));
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert(image_has("A\223\372\226{~1    "));
    check_clean("cut");
}
END_TEST

/* 8.3 names in lower case need no long name, and mtools shows them as we do. */
START_TEST(test_lower_case_bits) {
    static const struct {
        const char *name;
        const char *short_name;
        uint8_t bits;
    } cases[] = {
        {"lower.txt", "LOWER   TXT", 0x18}, {"base.TXT", "BASE    TXT", 0x08},
        {"EXT.txt", "EXT     TXT", 0x10},   {"UPPER.TXT", "UPPER   TXT", 0},
        {"noext", "NOEXT      ", 0x08},     {"n123~x", "N123~X     ", 0x08},
    };

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert(!failed(make(cases[i].name, FS_TYPE_FILE)));
    }
    ck_assert(!failed(make("Mixed.txt", FS_TYPE_FILE)));
    /* A change of case is a change of the bits. */
    ck_assert_int_eq(rename_path("lower.txt", "LOWER.txt", 0), 0);
    ck_assert_int_eq(rename_path("LOWER.txt", "lower.txt", 0), 0);
    ck_assert(!failed(resolve("lower.txt")));
    ck_assert_uint_ne(response.flags & FS_RESP_EXACT, 0);
    ck_assert_int_eq(rename_path("lower.txt", "Lower.txt", 0), 0);
    ck_assert_int_eq(rename_path("Lower.txt", "lower.txt", 0), 0);
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), ARRAY_SIZE(cases) + 1);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("lower case");
    for (unsigned i = 1; i < ARRAY_SIZE(cases); i++) {
        const uint8_t *entry = memmem(image, image_size, cases[i].short_name, FAT_SHORT_LENGTH);
        ck_assert_msg(entry != NULL, "%s", cases[i].name);
        ck_assert_uint_eq(entry[12], cases[i].bits);
        ck_assert_uint_ne(entry[-32 + 11], FAT_ATTR_LONG_NAME);
        ck_assert_msg(run("mdir -b -i %s ::/ | grep -qxF '::/%s'", image_path, cases[i].name) == 0,
                      "mtools does not show %s", cases[i].name);
    }
    ck_assert_int_eq(run("mdir -b -i %s ::/ | grep -qxF ::/lower.txt", image_path), 0);
    ck_assert_int_eq(run("mdir -b -i %s ::/ | grep -qxF ::/Mixed.txt", image_path), 0);
}
END_TEST

/* Names of devices elsewhere are names here; what FAT cannot hold is refused. */
START_TEST(test_special_names) {
    static const char *const devices[] = {"CON", "nul", "com1.txt", "AUX.c", "prn", "LPT9"};
    static const char *const refused[] = {"dot.", "dots..", "blank ", "a:b", "\001x", "..."};

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
        ck_assert(!failed(make(devices[i], FS_TYPE_FILE)));
        ck_assert(!failed(resolve(devices[i])));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        ck_assert_int_eq((int)make(refused[i], FS_TYPE_FILE), -EINVAL);
        ck_assert_int_eq((int)resolve(refused[i]), -ENOENT);
        ck_assert_int_eq(rename_path("CON", refused[i], 0), -EINVAL);
    }
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("device names");
}
END_TEST

START_TEST(test_case_exact) {
    int64_t a, b;

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("case=exact");
    a = make("name", FS_TYPE_FILE);
    ck_assert_int_eq((int)resolve("NAME"), -ENOENT);
    b = make("NAME", FS_TYPE_FILE);
    ck_assert(!failed(a) && !failed(b) && a != b);
    ck_assert(!failed(make("Name", FS_TYPE_FILE)));
    ck_assert_int_eq(resolve("name"), a);
    ck_assert_int_eq(resolve("NAME"), b);
    ck_assert_int_eq(remove_path("nAME", false), -ENOENT);
    ck_assert_int_eq(rename_path("name", "nAME", 0), 0);
    ck_assert_int_eq(resolve("nAME"), a);
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), 3);
    ck_assert_int_eq(remove_path("NAME", false), 0);
    ck_assert_int_eq(resolve("nAME"), a);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("case=exact");
}
END_TEST

/* ---- extended attributes ---- */

static int set_x(uint64_t id, const char *name, const char *value, int flags) {
    return call((FSRequest){.type = FS_MSG_SET_XATTR,
                            .file_id = id,
                            .name = name_of(name),
                            .mode = (uint32_t)flags,
                            .length = (uint32_t)strlen(value),
                            .payload = (const uint8_t *)value,
                            .payload_length = (uint32_t)strlen(value)});
}

static int get_x(uint64_t id, const char *name, char out[64]) {
    int r = call(
        (FSRequest){.type = FS_MSG_GET_XATTR, .file_id = id, .name = name_of(name), .length = 63});

    if (r < 0) {
        return r;
    }
    memcpy(out, response.data, response.data_length);
    out[response.data_length] = '\0';
    return 0;
}

START_TEST(test_dos_attributes) {
    char text[64];
    uint64_t id, dir;

    image_make(8 * 1024, _i == 0 ? "-F 16 -s 2" : "-F 12 -s 4");
    mount_image("xattr");
    id = (uint64_t)make("file", FS_TYPE_FILE);
    dir = (uint64_t)make("dir", FS_TYPE_DIRECTORY);
    ck_assert_int_eq(get_x(id, "user.DOSATTRIB", text), 0);
    ck_assert_str_eq(text, "0x20");
    ck_assert_int_eq(set_x(id, "user.DOSATTRIB", "0x27", 0), 0);
    ck_assert_uint_eq(response.attr.mode & 0222, 0);
    ck_assert_int_eq(set_x(dir, "user.DOSATTRIB", "12", 0), 0);
    ck_assert_int_eq(get_x(dir, "user.DOSATTRIB", text), 0);
    ck_assert_str_eq(text, "0x12");
    ck_assert_int_eq(set_x(id, "user.DOSATTRIB", "0x10", 0), -EINVAL);
    ck_assert_int_eq(set_x(id, "user.DOSATTRIB", "0x08", 0), -EINVAL);
    ck_assert_int_eq(set_x(id, "user.DOSATTRIB", "", 0), -EINVAL);
    ck_assert_int_eq(set_x(id, "user.DOSATTRIB", "0x", 0), -EINVAL);
    ck_assert_int_eq(set_x(id, "user.DOSATTRIB", "0x2g", 0), -EINVAL);
    ck_assert_int_eq(set_x(id, "user.DOSATTRIB", "0x20", 1), -EEXIST);
    ck_assert_int_eq(set_x(id, "user.other", "x", 0), -EOPNOTSUPP);
    ck_assert_int_eq(get_x(id, "user.other", text), -ENODATA);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_GET_XATTR,
                                      .file_id = id,
                                      .name = name_of("user.DOSATTRIB"),
                                      .length = 2}),
                     -ERANGE);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_LIST_XATTR, .file_id = id}), 0);
    ck_assert_uint_eq(response.param1, sizeof("user.DOSATTRIB"));
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("attributes");
    ck_assert_int_eq(run("mattrib -i %s ::/file | grep -q 'A.*S.*H.*R'", image_path), 0);
    /* Without the option there are none to be listed. */
    mount_image("");
    id = (uint64_t)resolve("file");
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_LIST_XATTR, .file_id = id}), -EOPNOTSUPP);
    ck_assert_int_eq(get_x(id, "user.DOSATTRIB", text), 0);
    ck_assert_str_eq(text, "0x27");
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

START_TEST(test_label) {
    static const char *const formats[] = {"-F 16 -s 2", "-F 32 -s 1 -n OLD", "-F 12 -s 8"};
    static const char *const bad[] = {"", "a*b", "twelve chars", "x.y", " lead"};
    char text[64];

    image_make(_i == 1 ? 40 * 1024 : 8 * 1024, formats[_i]);
    mount_image("");
    ck_assert_int_eq(get_x(FS_ROOT_ID, "user.fat.label", text), _i == 1 ? 0 : -ENODATA);
    ck_assert(!failed(make("NEW LABEL", FS_TYPE_FILE))); /* no rival of the label */
    ck_assert_int_eq(set_x(FS_ROOT_ID, "user.fat.label", "new label", 0), 0);
    ck_assert_int_eq(get_x(FS_ROOT_ID, "user.fat.label", text), 0);
    ck_assert_str_eq(text, "NEW LABEL");
    ck_assert_str_eq(volume_fs(volume)->label, "NEW LABEL");
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_int_lt(set_x(FS_ROOT_ID, "user.fat.label", bad[i], 0), 0);
    }
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), 1);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("label");
    ck_assert_int_eq(run("mlabel -s -i %s :: | grep -q 'NEW LABEL'", image_path), 0);
    ck_assert_int_eq(
        run("PATH=$PATH:/usr/sbin:/sbin fatlabel %s | grep -qx 'NEW LABEL'", image_path), 0);
    mount_image("");
    ck_assert_str_eq(volume_fs(volume)->label, "NEW LABEL");
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_REMOVE_XATTR,
                                      .file_id = FS_ROOT_ID,
                                      .name = name_of("user.fat.label")}),
                     0);
    ck_assert_int_eq(get_x(FS_ROOT_ID, "user.fat.label", text), -ENODATA);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("no label");
    mount_image("");
    ck_assert_str_eq(volume_fs(volume)->label, "");
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* ---- times ---- */

START_TEST(test_time_offset) {
    static const struct {
        const char *options;
        int minutes;
    } cases[] = {{"", 0},
                 {"tz=UTC", 0},
                 {"tz=+2", 120},
                 {"tz=-03:30", -210},
                 {"tz=+05:45", 345},
                 {"time_offset=90", 90},
                 {"time_offset=-60", -60}};
    static const char *const bad[] = {"tz=CET",      "tz=+",          "tz=+123",
                                      "tz=+1:99",    "time_offset=x", "time_offset=99999",
                                      "codepage=12", "xattr=1",       "tz"};
    const FatGeometry plain = {0};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        FatDiskEntry disk;
        FatEntry entry;
        const uint8_t *found;

        image_make(1440, "-F 12");
        mount_image(cases[i].options);
        ck_assert(!failed(make("STAMPED", FS_TYPE_FILE)));
        ck_assert_int_eq(response.attr.mtime_ns, TIME_NS);
        ck_assert_int_eq(response.attr.btime_ns, TIME_NS);
        ck_assert_int_eq(unmount_image(), 0);
        found = memmem(image, image_size, "STAMPED    ", FAT_SHORT_LENGTH);
        ck_assert_ptr_nonnull(found);
        memcpy(&disk, found, sizeof(disk));
        fat_entry_decode(&plain, &disk, &entry);
        ck_assert_int_eq(entry.mtime_ns - TIME_NS, cases[i].minutes * INT64_C(60000000000));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_msg(mount_try(bad[i]) == -EINVAL, "mounted with %s", bad[i]);
        (void)unmount_image();
    }
}
END_TEST

/* ---- damage that has a remedy, marks ---- */

/* Offset of FAT copy n in the image. */
static uint32_t fat_at(unsigned n) {
    FatGeometry geo;

    ck_assert_int_eq(fat_boot_decode((const FatDiskBoot *)image, &geo, NULL), 0);
    return (geo.reserved_sectors + n * geo.fat_sectors) * geo.sector_size;
}

START_TEST(test_copies_differ) {
    static const char *const formats[] = {"-F 12 -s 1", "-F 16 -s 2", "-F 32 -s 1"};
    static uint8_t bytes[20000];
    LogLevel level = log_level();

    image_make(_i == 2 ? 40 * 1024 : _i == 1 ? 16 * 1024 : 1440, formats[_i]);
    fill(bytes, sizeof(bytes), 9, 0);
    mount_image("");
    ck_assert_int_eq(write_at((uint64_t)make("file", FS_TYPE_FILE), 0, bytes, sizeof(bytes)),
                     sizeof(bytes));
    ck_assert_int_eq(unmount_image(), 0);
    log_init("test_fat", LOG_LEVEL_ERROR);
    for (unsigned round = 0; round < 2; round++) {
        uint8_t *fat = image + fat_at(0);
        /* First only what follows the marks, then the beginning as well. */
        memset(fat + (round == 0 ? 16 : 0), 0, 200);
        mount_image("");
        ck_assert_int_eq(read_at((uint64_t)resolve("file"), 0, sizeof(bytes)), sizeof(bytes));
        ck_assert_mem_eq(response.data, bytes, sizeof(bytes));
        ck_assert(volume_fs(volume)->readonly);
        ck_assert_str_eq(volume_fs(volume)->read_only_reason, "the copies of the FAT differ");
        ck_assert_int_eq((int)make("more", FS_TYPE_FILE), -EROFS);
        ck_assert_int_eq(unmount_image(), 0);
    }
    log_init("test_fat", level);
}
END_TEST

/* A sector of the first FAT that cannot be read is read from the second one. */
START_TEST(test_unreadable_fat) {
    static uint8_t bytes[5000];
    LogLevel level = log_level();
    BlockFaults faults = {0};
    BlockDevice *faulty;

    image_make(16 * 1024, "-F 16 -s 2");
    mount_image("");
    ck_assert_int_eq(write_at((uint64_t)make("file", FS_TYPE_FILE), 0, bytes, 5000), 5000);
    ck_assert_int_eq(unmount_image(), 0);
    log_init("test_fat", LOG_LEVEL_ERROR);
    ck_assert_int_eq(block_memory_new(image_size, 512, image, &device), 0);
    ck_assert_int_eq(block_fault_new(device, &faults, &faulty), 0);
    ck_assert_int_eq(volume_new(&fat_type, faulty, NULL, &volume), 0);
    ck_assert_int_eq(local_client_new(volume, &client), 0);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_MOUNT}), 0);
    (void)resolve("file");
    faults.fail_range_start = fat_at(0) + 512;
    faults.fail_range_length = 512;
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_STATFS}), 0);
    ck_assert_int_eq(read_at((uint64_t)resolve("file"), 0, 5000), 5000);
    faults.fail_range_length = 0;
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_UNMOUNT}), 0);
    client = local_client_free(client);
    volume = volume_free(volume);
    faulty = block_free(faulty);
    device = block_free(device);
    log_init("test_fat", level);
    /* The error is noted in cell 1: still clean, but no longer sound. */
    ck_assert_uint_eq(image[fat_at(0) + 3], 0xbf);
}
END_TEST

/* FSInfo and its copy beside the backup boot sector say the same, and the truth. */
START_TEST(test_fsinfo_backup) {
    static uint8_t bytes[10000];
    FatDiskFsinfo info[2];

    image_make(40 * 1024, "-F 32 -s 1");
    mount_image("");
    ck_assert_int_eq(write_at((uint64_t)make("file", FS_TYPE_FILE), 0, bytes, sizeof(bytes)),
                     sizeof(bytes));
    ck_assert_int_eq(unmount_image(), 0);
    memcpy(&info[0], image + 512, 512);
    memcpy(&info[1], image + 7 * 512, 512);
    ck_assert_mem_eq(&info[0], &info[1], 512);
    mount_image("ro");
    ck_assert_uint_eq(le32_get(info[0].free_count),
                      fat_volume(volume_fs(volume))->geo.cluster_count - 21);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("FSInfo");
}
END_TEST

/* ---- geometries ---- */

START_TEST(test_geometries) {
    static const struct {
        unsigned kib;
        const char *args;
    } cases[] = {
        {8 * 1024, "-F 16 -S 1024 -s 1"},  {64 * 1024, "-F 16 -S 4096 -s 1"},
        {40 * 1024, "-F 32 -S 2048 -s 1"}, {64 * 1024, "-F 12 -S 4096 -s 64"},
        {40 * 1024, "-F 32 -S 4096 -s 1"}, {4096, "-F 32 -s 1"},
        {64 * 1024, "-F 16 -s 32"},
    };
    static uint8_t bytes[700000];
    uint64_t id;

    image_make(cases[_i].kib, cases[_i].args);
    mount_image("log=65536");
    fill(bytes, sizeof(bytes), 4, 0);
    ck_assert(!failed(make("dir", FS_TYPE_DIRECTORY)));
    ck_assert(!failed(make("dir/A name that is long", FS_TYPE_DIRECTORY)));
    id = (uint64_t)make("dir/A name that is long/file.bin", FS_TYPE_FILE);
    ck_assert(!failed((int64_t)id));
    ck_assert_int_eq(write_at(id, 0, bytes, sizeof(bytes)), sizeof(bytes));
    ck_assert_int_eq(read_at(id, 1, sizeof(bytes)), sizeof(bytes) - 1);
    ck_assert_mem_eq(response.data, bytes + 1, sizeof(bytes) - 1);
    ck_assert_int_eq(set_size(id, 300000), 0);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean(cases[_i].args);
}
END_TEST

/* Clusters that are marked bad are never handed out. */
START_TEST(test_bad_clusters) {
    static uint8_t bytes[65536];
    uint64_t id, at = 0;
    uint8_t *fat;
    int r;

    image_make(4096, "-F 16 -s 1");
    for (unsigned copy = 0; copy < 2; copy++) {
        fat = image + fat_at(copy);
        for (unsigned cluster = 100; cluster < 200; cluster++) {
            fat[cluster * 2] = 0xf7;
            fat[cluster * 2 + 1] = 0xff;
        }
    }
    mount_image("");
    id = (uint64_t)make("big", FS_TYPE_FILE);
    while ((r = write_at(id, at, bytes, 512)) > 0) {
        at += (unsigned)r;
    }
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_int_eq(unmount_image(), 0);
    fat = image + fat_at(0);
    for (unsigned cluster = 100; cluster < 200; cluster++) {
        ck_assert_uint_eq(fat[cluster * 2] | (unsigned)fat[cluster * 2 + 1] << 8, 0xfff7);
    }
    check_clean("bad clusters");
}
END_TEST

START_TEST(test_keep_size) {
    static uint8_t bytes[1 << 16];
    uint64_t id;
    FSRequest request = {.type = FS_MSG_FALLOCATE, .mode = FALLOC_FL_KEEP_SIZE};
    uint64_t before;

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    id = (uint64_t)make("file", FS_TYPE_FILE);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_STATFS}), 0);
    request.file_id = id;
    request.length64 = 4 << 20;
    ck_assert_int_eq(call(request), 0);
    ck_assert_int_eq(get_attr(id), 0);
    ck_assert_uint_eq(response.attr.size, 0);
    /* Nobody else gets it, its owner does. */
    before = (uint64_t)make("other", FS_TYPE_FILE);
    ck_assert_int_eq(set_size(before, 5 << 20), -ENOSPC);
    ck_assert_int_eq(write_at(before, 0, bytes, sizeof(bytes)), sizeof(bytes));
    for (uint64_t at = 0; at < 4 << 20; at += sizeof(bytes)) {
        ck_assert_int_eq(write_at(id, at, bytes, sizeof(bytes)), sizeof(bytes));
    }
    /* Truncation ends the promise. */
    request.length64 = 6 << 20;
    ck_assert_int_eq(call(request), 0);
    ck_assert_int_eq(set_size(id, 10), 0);
    ck_assert_int_eq(set_size(before, 6 << 20), 0);
    request.length64 = 100 << 20;
    ck_assert_int_eq(call(request), -ENOSPC);
    request.mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
    request.length64 = 5;
    ck_assert_int_eq(call(request), -EOPNOTSUPP);
    /* What stays promised is not written. */
    request.mode = FALLOC_FL_KEEP_SIZE;
    request.length64 = 1 << 20;
    ck_assert_int_eq(call(request), 0);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("keep size");
}
END_TEST

/* ---- exchange: below the messages ---- */

static int exchange_names(const char *from, const char *to) {
    const char *old_name, *new_name;
    uint64_t old_dir = (uint64_t)resolve_parent(from, &old_name);
    uint64_t new_dir = (uint64_t)resolve_parent(to, &new_name);
    FsCall who = {.time_ns = TIME_NS};
    FsRename rename = {
        .old_name = name_of(old_name), .new_name = name_of(new_name), .flags = FS_RENAME_EXCHANGE};
    FileSystem *fs = volume_fs(volume);
    int r;

    ck_assert_int_eq(fs_inode_get(fs, old_dir, 0, &rename.old_dir), 0);
    ck_assert_int_eq(fs_inode_get(fs, new_dir, 0, &rename.new_dir), 0);
    ck_assert_int_eq(fat_type.ops->lookup(rename.old_dir, &rename.old_name, &rename.moved_entry),
                     0);
    ck_assert_int_eq(fat_type.ops->lookup(rename.new_dir, &rename.new_name, &rename.victim_entry),
                     0);
    ck_assert_int_eq(fs_inode_get(fs, rename.moved_entry.file_id, 0, &rename.moved), 0);
    ck_assert_int_eq(fs_inode_get(fs, rename.victim_entry.file_id, 0, &rename.victim), 0);
    r = fat_type.ops->rename(fs, &who, &rename);
    fs_inode_put(rename.moved);
    fs_inode_put(rename.victim);
    fs_inode_put(rename.old_dir);
    fs_inode_put(rename.new_dir);
    return r;
}

START_TEST(test_exchange) {
    int64_t a, b, c, one, two;

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    a = make("Alpha, a long name", FS_TYPE_FILE);
    b = make("beta", FS_TYPE_FILE);
    ck_assert_int_eq(write_at((uint64_t)a, 0, "aaaa", 4), 4);
    ck_assert_int_eq(write_at((uint64_t)b, 0, "b", 1), 1);
    ck_assert_int_eq(exchange_names("Alpha, a long name", "beta"), 0);
    ck_assert_int_eq(resolve("Alpha, a long name"), b);
    ck_assert_uint_eq(response.attr.size, 1);
    ck_assert_int_eq(resolve("beta"), a);
    ck_assert_uint_eq(response.attr.size, 4);
    /* Directories across parents, and a file against a directory. */
    one = make("one", FS_TYPE_DIRECTORY);
    two = make("two", FS_TYPE_DIRECTORY);
    ck_assert(!failed(make("one/x", FS_TYPE_DIRECTORY)));
    ck_assert(!failed(make("one/x/leaf", FS_TYPE_FILE)));
    ck_assert(!failed(make("two/y", FS_TYPE_DIRECTORY)));
    ck_assert_int_eq(exchange_names("one/x", "two/y"), 0);
    ck_assert(!failed(resolve("two/y/leaf")));
    ck_assert_int_eq((int)resolve("one/x/leaf"), -ENOENT);
    c = resolve("two/y");
    ck_assert_int_eq(exchange_names("beta", "two/y"), 0);
    ck_assert_int_eq(resolve("beta"), c);
    ck_assert_int_eq(resolve("two/y"), a);
    ck_assert(!failed(resolve("beta/leaf")));
    ck_assert(one > 0 && two > 0);
    /* Back again: nothing is an exception any more. */
    ck_assert_int_eq(exchange_names("beta", "two/y"), 0);
    ck_assert_int_eq(exchange_names("beta", "Alpha, a long name"), 0);
    ck_assert_int_eq(resolve("beta"), b);
    ck_assert_int_eq(resolve("Alpha, a long name"), a);
    ck_assert_int_eq(remove_path("beta", false), 0);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("exchange");
}
END_TEST

/* ---- faults ---- */

/* 0 or an errno; what it does shows in what fault_state() tells. */
static int fault_operation(int which) {
    switch (which) {
    case 0:
        return exchange_names("one/a file", "two/d");
    case 1:
        return set_x(FS_ROOT_ID, "user.fat.label", "LABEL", 0);
    case 2:
        return call((FSRequest){
            .type = FS_MSG_REMOVE_XATTR, .file_id = FS_ROOT_ID, .name = name_of("user.fat.label")});
    case 3:
        return set_x((uint64_t)resolve("one/a file"), "user.DOSATTRIB", "0x02", 0);
    default:
        return rename_path("lower", "LOWER", 0);
    }
}

typedef struct FaultState {
    int64_t a, d;
    bool exact;
    char label[64], attributes[64];
} FaultState;

static FaultState fault_state(void) {
    FaultState state;

    memset(&state, 0, sizeof(state));
    state.a = resolve("one/a file");
    state.d = resolve("two/d");
    ck_assert(!failed(resolve("lower")));
    state.exact = response.flags & FS_RESP_EXACT;
    (void)get_x(FS_ROOT_ID, "user.fat.label", state.label);
    (void)get_x((uint64_t)state.a, "user.DOSATTRIB", state.attributes);
    return state;
}

/* Aborted at each write in turn, nothing has changed; then it succeeds. */
START_TEST(test_feature_faults) {
    static const char *const dirs[] = {"one", "two", "two/d"};
    CacheDebug *debug;
    FaultState before, after;
    unsigned aborts = 0;
    int r = -EIO;

    image_make(8 * 1024, _i == 2 ? "-F 16 -s 2 -n OLD" : "-F 16 -s 2");
    mount_image("");
    for (unsigned i = 0; i < ARRAY_SIZE(dirs); i++) {
        ck_assert(!failed(make(dirs[i], FS_TYPE_DIRECTORY)));
    }
    ck_assert(!failed(make("one/a file", FS_TYPE_FILE)));
    ck_assert(!failed(make("two/d/leaf", FS_TYPE_FILE)));
    ck_assert(!failed(make("lower", FS_TYPE_FILE)));
    debug = cache_debug(volume_fs(volume)->cache);
    debug->restart_all = true;
    before = fault_state();
    for (; r == -EIO && aborts < 50; aborts++) {
        debug->abort_at = debug->writes + aborts + 1;
        r = fault_operation(_i);
        after = fault_state();
        ck_assert(r == -EIO || r == 0);
        ck_assert((memcmp(&before, &after, sizeof(before)) == 0) == (r != 0));
    }
    ck_assert_int_eq(r, 0);
    ck_assert_uint_gt(aborts, 1);
    debug->abort_at = 0;
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("after faults");
}
END_TEST

/* ---- size ---- */

/* The free map stays small: segments are dropped and read again. */
START_TEST(test_free_map_bound) {
    static uint8_t bytes[65536];
    FatAlloc *alloc;
    uint64_t id;

    image_make(160 * 1024, "-F 32 -s 1"); /* ten segments */
    mount_image("");
    alloc = &fat_volume(volume_fs(volume))->alloc;
    alloc->map_limit = 2;
    id = (uint64_t)make("big", FS_TYPE_FILE);
    for (uint64_t at = 0; at < 150 << 20; at += sizeof(bytes)) {
        fill(bytes, 512, 1, at);
        ck_assert_int_eq(write_at(id, at, bytes, sizeof(bytes)), sizeof(bytes));
        ck_assert_uint_le(alloc->map_count, 4);
    }
    ck_assert_int_eq(set_size(id, 20 << 20), 0);
    ck_assert_int_eq(sync_volume(), 0);
    for (uint64_t at = 20 << 20; at < 150 << 20; at += sizeof(bytes)) {
        ck_assert_int_eq(write_at(id, at, bytes, sizeof(bytes)), sizeof(bytes));
    }
    ck_assert_uint_le(alloc->map_count, 4);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("free map");
}
END_TEST

static uint32_t volume_clusters(void) {
    return fat_volume(volume_fs(volume))->geo.cluster_count;
}

/* Growing a file over parts of the FAT that are not in core: they are loaded before the body, which
 * would have to run again (on a device that suspends), and many at a time. */
START_TEST(test_cold_append) {
    static uint8_t bytes[1 << 20];
    const CacheStats *stats;
    uint64_t id, before;

    image_make(160 * 1024, "-F 32 -s 8");
    mount_image("");
    id = (uint64_t)make("file", FS_TYPE_FILE);
    ck_assert_int_eq(write_at(id, 0, bytes, 512), 512);
    stats = cache_stats(volume_fs(volume)->cache);
    before = stats->misses;
    for (uint32_t at = 512; at < 100 << 20; at += sizeof(bytes)) {
        ck_assert_int_eq(write_at(id, at, bytes, sizeof(bytes)), sizeof(bytes));
    }
    ck_assert_uint_le(stats->misses - before, 16);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("cold append");
}
END_TEST

/* 2 TiB in memory that nobody has touched: what is not written costs nothing. */
START_TEST(test_huge_volume) {
    const uint64_t bytes = UINT64_C(2) << 40;
    const uint32_t total = 0xffffffffu, fat_sectors = 524288, reserved = 32;
    FatDiskBoot boot = {.fat32 = {.bpb = {.jump = {0xeb, 0x58, 0x90},
                                          .bytes_per_sector = le16_make(512),
                                          .sectors_per_cluster = 64,
                                          .reserved_sectors = le16_make(32),
                                          .fat_count = 2,
                                          .media = 0xf8,
                                          .total_sectors32 = le32_make(total)},
                                  .fat_size32 = le32_make(fat_sectors),
                                  .root_cluster = le32_make(2),
                                  .fsinfo_sector = le16_make(1),
                                  .extended = {.signature = FAT_EXTENDED_SIGNATURE},
                                  .boot_signature = le16_make(FAT_BOOT_SIGNATURE)}};
    FatDiskFsinfo info = {.lead_signature = le32_make(FAT_FSINFO_LEAD),
                          .struct_signature = le32_make(FAT_FSINFO_STRUCT),
                          .free_count = le32_make(FAT_FSINFO_UNKNOWN),
                          .next_free = le32_make(67000000),
                          .trail_signature = le32_make(FAT_FSINFO_TRAIL)};
    const uint32_t cells[3] = {0x0ffffff8, 0x0fffffff, 0x0fffffff};
    static uint8_t data[100000];
    FatAlloc *alloc;
    uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int64_t id;

    if (map == MAP_FAILED) {
        return; /* an address space that is limited, as under sanitizers */
    }
    memcpy(map, &boot, sizeof(boot));
    memcpy(map + 512, &info, sizeof(info));
    for (unsigned copy = 0; copy < 2; copy++) {
        for (unsigned i = 0; i < 3; i++) {
            le32 cell = le32_make(cells[i]);
            memcpy(map + (reserved + (uint64_t)copy * fat_sectors) * 512 + i * 4, &cell, 4);
        }
    }
    fill(data, sizeof(data), 2, 0);
    for (unsigned round = 0; round < 2; round++) {
        ck_assert_int_eq(block_memory_new((uint64_t)total * 512, 512, map, &device), 0);
        ck_assert_int_eq(volume_new(&fat_type, device, NULL, &volume), 0);
        ck_assert_int_eq(local_client_new(volume, &client), 0);
        ck_assert_int_eq(call((FSRequest){.type = FS_MSG_MOUNT}), 0);
        alloc = &fat_volume(volume_fs(volume))->alloc;
        id = round == 0 ? make("far away.bin", FS_TYPE_FILE) : resolve("far away.bin");
        ck_assert(!failed(id));
        if (round == 0) {
            ck_assert_int_eq(write_at((uint64_t)id, 0, data, sizeof(data)), sizeof(data));
            ck_assert_uint_gt(
                fat_inode(fs_inode_peek(volume_fs(volume), (uint64_t)id))->chain.first, 66999999);
        }
        ck_assert_int_eq(read_at((uint64_t)id, 0, sizeof(data)), sizeof(data));
        ck_assert_mem_eq(response.data, data, sizeof(data));
        ck_assert_int_eq(call((FSRequest){.type = FS_MSG_STATFS}), 0);
        ck_assert_uint_le(alloc->map_count, 1024);
        ck_assert_uint_eq(alloc->free_count, volume_clusters() - 5);
        ck_assert_int_eq(unmount_image(), 0);
    }
    ck_assert_int_eq(munmap(map, bytes), 0);
}
END_TEST

/* As many entries as a directory can have. */
START_TEST(test_large_directory) {
    char name[32];
    int64_t dir;

    image_make(40 * 1024, "-F 32 -s 1");
    mount_image("");
    dir = make("d", FS_TYPE_DIRECTORY);
    for (unsigned i = 0; i < 65534; i++) {
        (void)snprintf(name, sizeof(name), "f%u.txt", i);
        ck_assert_int_eq(call((FSRequest){.type = FS_MSG_CREATE_FILE,
                                          .file_id = (uint64_t)dir,
                                          .name = name_of(name),
                                          .file_type = FS_TYPE_FILE,
                                          .mode = 0644}),
                         0);
    }
    ck_assert_int_eq((int)make("d/one too many", FS_TYPE_FILE), -ENOSPC);
    ck_assert_int_eq(list((uint64_t)dir, 1 << 17, NULL, NULL), 65534);
    for (unsigned i = 0; i < 65534; i += 7) {
        (void)snprintf(name, sizeof(name), "F%u.TXT", i);
        ck_assert_int_eq(lookup((uint64_t)dir, name), 0);
    }
    /* fsck.fat compares every name with every other one: that many would take it minutes. */
    for (unsigned i = 0; i < 65534; i++) {
        if (i % 16 != 0) {
            (void)snprintf(name, sizeof(name), "d/f%u.txt", i);
            ck_assert_int_eq(remove_path(name, false), 0);
            evict(response.param1);
        }
    }
    ck_assert(!failed(make("d/f1.new", FS_TYPE_FILE)));
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("large directory");
}
END_TEST

static void features_add(TCase *features) {
    tcase_add_loop_test(features, test_codepages, 0, ARRAY_SIZE(page_cases));
    tcase_add_test(features, test_codepage_tables);
    tcase_add_test(features, test_codepage_cut);
    tcase_add_test(features, test_lower_case_bits);
    tcase_add_test(features, test_special_names);
    tcase_add_test(features, test_case_exact);
    tcase_add_loop_test(features, test_dos_attributes, 0, 2);
    tcase_add_loop_test(features, test_label, 0, 3);
    tcase_add_test(features, test_time_offset);
    tcase_add_loop_test(features, test_copies_differ, 0, 3);
    tcase_add_test(features, test_unreadable_fat);
    tcase_add_loop_test(features, test_geometries, 0, 7);
    tcase_add_test(features, test_fsinfo_backup);
    tcase_add_test(features, test_bad_clusters);
    tcase_add_test(features, test_keep_size);
    tcase_add_test(features, test_exchange);
    tcase_add_loop_test(features, test_feature_faults, 0, 5);
    tcase_add_test(features, test_free_map_bound);
    tcase_add_test(features, test_cold_append);
    tcase_add_test(features, test_huge_volume);
    tcase_add_test(features, test_large_directory);
}

#endif
