/* SPDX-License-Identifier: MIT */
/*
 * The FAT filesystem, operation by operation, on images by mkfs.fat and mtools:
 * what others wrote is read, what we write pleases fsck.fat and comes out of
 * mtools unchanged. Random sequences are compared with a model (fat_model.h), also
 * with every block missing at first and with transactions aborted at every
 * write.
 */
#include "../../src/fs/fat/types.h"
#include "fat_damage.h"
#include "fat_features.h"
#include "fat_model.h"
#include "fat_parallel.h"
#include "fat_support.h"

/* ---- volumes of all types ---- */

typedef struct Format {
    unsigned kib;
    const char *args;
    const char *subtype;
} Format;

static const Format formats[] = {
    {1440, "-F 12", "fat12"},
    {2000, "-F 12 -s 1 -r 112", "fat12"},
    {16 * 1024, "-F 16 -s 4", "fat16"},
    {30 * 1024, "-F 16 -s 1", "fat16"},
    {40 * 1024, "-F 32 -s 1", "fat32"},
    {80 * 1024, "-F 32 -s 1 -f 1", "fat32"},
    {32 * 1024, "-F 16 -S 4096 -s 1", "fat16"},
    {16 * 1024, "-F 16 -S 2048 -s 2 -f 1", "fat16"},
    {160 * 1024, "-F 32 -s 4 -n LABEL", "fat32"},
};

START_TEST(test_read_foreign) {
    const Format *format = &formats[_i];
    static uint8_t expected[70000];
    int64_t id;
    FILE *file;

    image_make(format->kib, format->args);
    fill(expected, sizeof(expected), 1, 0);
    (void)run("mkdir -p %s/tree/sub", directory);
    for (unsigned i = 0; i < 2; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/tree/%s", directory,
                       i == 0 ? "A long file name.data" : "sub/UPPER.TXT");
        file = fopen(path, "wb");
        ck_assert_ptr_nonnull(file);
        ck_assert_uint_eq(fwrite(expected, 1, sizeof(expected) - i * 69000, file),
                          sizeof(expected) - i * 69000);
        ck_assert_int_eq(fclose(file), 0);
    }
    ck_assert_int_eq(run("mcopy -s -i %s %s/tree ::/", image_path, directory), 0);
    image_load();
    mount_image("ro");
    ck_assert_str_eq(volume_fs(volume)->subtype, format->subtype);
    id = resolve("TREE/a LONG file name.data");
    ck_assert_msg(id > 0, "lookup: %d", (int)id);
    ck_assert_uint_eq(response.attr.size, sizeof(expected));
    ck_assert_uint_eq(response.flags & FS_RESP_EXACT, 0);
    ck_assert_int_eq(read_at((uint64_t)id, 0, sizeof(expected)), sizeof(expected));
    ck_assert_mem_eq(response.data, expected, sizeof(expected));
    ck_assert_int_eq(read_at((uint64_t)id, 69999, 4096), 1);
    ck_assert_int_eq(read_at((uint64_t)id, 70000, 4096), 0);
    id = resolve("tree/sub/UPPER.TXT");
    ck_assert_int_gt(id, 0);
    ck_assert_uint_eq(response.attr.size, 1000);
    ck_assert_uint_eq(response.flags & FS_RESP_EXACT, FS_RESP_EXACT);
    ck_assert_int_eq(lookup(FS_ROOT_ID, "ALONGF~1.DAT"), -ENOENT);
    ck_assert_int_gt(resolve("tree/ALONGF~1.DAT"), 0);
    ck_assert_int_eq(list((uint64_t)resolve("tree"), 4096, NULL, NULL), 2);
    ck_assert_int_eq(make("new", FS_TYPE_FILE), -EROFS);
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert_int_eq(run("cp %s %s/before", image_path, directory), 0);
    image_store();
    ck_assert_msg(run("cmp %s %s/before", image_path, directory) == 0,
                  "a read-only mount has written");
}
END_TEST

START_TEST(test_write_all_types) {
    const Format *format = &formats[_i];
    static uint8_t bytes[300000], back[300000];
    int64_t id;
    FILE *file;
    char path[128];

    image_make(format->kib, format->args);
    mount_image("");
    id = make("Some File with a Name.bin", FS_TYPE_FILE);
    ck_assert_msg(id > 0, "create: %d", (int)id);
    fill(bytes, sizeof(bytes), 7, 0);
    for (uint32_t at = 0; at < sizeof(bytes); at += 50000) {
        ck_assert_int_eq(write_at((uint64_t)id, at, bytes + at, 50000), 50000);
    }
    ck_assert_int_eq(write_at((uint64_t)id, 1000, bytes, 2000), 2000);
    memcpy(bytes + 1000, memcpy(back, bytes, 2000), 2000);
    ck_assert_int_eq(get_attr((uint64_t)id), 0);
    ck_assert_uint_eq(response.attr.size, sizeof(bytes));
    ck_assert_int_gt(make("Directory", FS_TYPE_DIRECTORY), 0);
    ck_assert_int_gt(make("Directory/sub", FS_TYPE_DIRECTORY), 0);
    ck_assert_int_gt(make("Directory/sub/UPPER.TXT", FS_TYPE_FILE), 0);
    ck_assert_int_eq(make("directory", FS_TYPE_FILE), -EEXIST);
    ck_assert_int_eq(rename_path("Some File with a Name.bin", "Directory/sub/moved file", 0), 0);
    ck_assert_int_eq((int)resolve("Some File with a Name.bin"), -ENOENT);
    ck_assert_int_eq(remove_path("Directory/sub", true), -ENOTEMPTY);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean(format->args);
    (void)snprintf(path, sizeof(path), "%s/out", directory);
    ck_assert_int_eq(run("mcopy -n -i %s '::/Directory/sub/moved file' %s", image_path, path), 0);
    file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(back, 1, sizeof(back), file), sizeof(bytes));
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_mem_eq(back, bytes, sizeof(bytes));

    image_load();
    mount_image("");
    ck_assert_int_eq(remove_path("Directory/sub/moved file", false), 0);
    ck_assert_int_eq(remove_path("Directory/sub/upper.txt", false), 0);
    ck_assert_int_eq(remove_path("Directory/sub", true), 0);
    ck_assert_int_eq(remove_path("Directory", true), 0);
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), 0);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean(format->args);
}
END_TEST

/* ---- names ---- */

static void count_name(void *arg, const FsDirEntry *entry) {
    const char **wanted = arg;

    if (entry->name_length == strlen(wanted[0]) &&
        memcmp(entry->name, wanted[0], entry->name_length) == 0) {
        wanted[1] = wanted[0];
    }
}

START_TEST(test_names) {
    static const char *const good[] = {"A",
                                       "lower",
                                       "MixedCase.Txt",
                                       "UPPER.TXT",
                                       "a.b.c.d",
                                       ".hidden",
                                       "two  spaces",
                                       " leading",
                                       "plus+comma,semi;eq=[x]",
                                       "\303\234n\303\257c\303\266d\303\251.txt",
                                       "\360\237\230\200 smile",
                                       "\346\227\245\346\234\254\350\252\236",
                                       "x.toolongext",
                                       "exactly8.abc",
                                       "~1",
                                       "a~1.txt"};
    static const char *const bad[] = {"a:b", "a*",          "q?",   "\"q\"",  "a|b",  "<",
                                      ">",   "back\\slash", "dot.", "space ", "tab\t"};
    char name[300];

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        const char *wanted[2] = {good[i], NULL};
        int64_t id = make(good[i], FS_TYPE_FILE);
        ck_assert_msg(id > 0, "create %s: %d", good[i], (int)id);
        (void)list(FS_ROOT_ID, 4096, count_name, wanted);
        ck_assert_msg(wanted[1] != NULL, "%s is not listed", good[i]);
        ck_assert_int_gt(resolve(good[i]), 0);
        ck_assert_uint_ne(response.flags & FS_RESP_EXACT, 0);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_msg(make(bad[i], FS_TYPE_FILE) == -EINVAL, "create %s", bad[i]);
    }
    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    ck_assert_int_gt(make(name, FS_TYPE_FILE), 0);
    ck_assert_int_gt(resolve(name), 0);
    name[255] = 'n';
    name[256] = '\0';
    ck_assert_int_eq((int)lookup(FS_ROOT_ID, name), -ENAMETOOLONG);
    /* Folding is Unicode's, and short names answer too. */
    ck_assert_int_gt(resolve("\303\274N\303\217C\303\226D\303\211.TXT"), 0);
    ck_assert_int_gt(resolve("XTOOLO~1"), -ENOENT - 1);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("names");
}
END_TEST

/* NT's lower-case bits; a long name that does not belong to its entry gives way. */
START_TEST(test_foreign_entries) {
    const char *wanted[2] = {"upper.txt", NULL};
    uint8_t *entry;

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    ck_assert(!failed(make("UPPER.TXT", FS_TYPE_FILE)));
    ck_assert(!failed(make("A long name for this", FS_TYPE_FILE)));
    ck_assert_int_eq(unmount_image(), 0);
    entry = memmem(image, image_size, "UPPER   TXT", 11);
    ck_assert_ptr_nonnull(entry);
    entry[12] = 0x18;
    entry = memmem(image, image_size, "ALONGN~1   ", 11);
    ck_assert_ptr_nonnull(entry);
    entry[0] = 'B';
    mount_image("");
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, count_name, wanted), 2);
    ck_assert_ptr_nonnull(wanted[1]);
    ck_assert(!failed(resolve("upper.txt")));
    ck_assert_uint_ne(response.flags & FS_RESP_EXACT, 0);
    ck_assert_int_eq((int)resolve("A long name for this"), -ENOENT);
    ck_assert(!failed(resolve("BLONGN~1")));
    ck_assert_uint_ne(response.flags & FS_RESP_EXACT, 0);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* What lies behind the end mark of a directory is nothing, and stays nothing. */
START_TEST(test_garbage_behind_end) {
    uint8_t *entry;

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    ck_assert(!failed(make("FIRST", FS_TYPE_FILE)));
    ck_assert_int_eq(unmount_image(), 0);
    entry = memmem(image, image_size, "FIRST      ", 11);
    ck_assert_ptr_nonnull(entry);
    for (unsigned i = 2; i < 16; i++) {
        memcpy(entry + (size_t)i * 32, entry, 32);
        memcpy(entry + (size_t)i * 32, "GARBAGE ", 8);
    }
    mount_image("");
    for (unsigned i = 0; i < 3; i++) {
        static const char *const names[] = {"SECOND", "a long name that takes some slots", "X"};
        ck_assert(!failed(make(names[i], FS_TYPE_FILE)));
        ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), (int)i + 2);
    }
    ck_assert_int_eq((int)resolve("GARBAGE"), -ENOENT);
    ck_assert_int_eq(unmount_image(), 0);
    /* fsck.fat does not stop at the mark, so it is not asked. */
}
END_TEST

/* A directory of fixed size does not wear out. */
START_TEST(test_slots_are_reused) {
    char name[64];

    image_make(1440, "-F 12 -r 32");
    mount_image("");
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), i % 2 == 0 ? "SHORT%u" : "a longer name, number %u", i);
        ck_assert_msg(!failed(make(name, FS_TYPE_FILE)), "round %u", i);
        evict(response.attr.file_id);
        ck_assert_int_eq(remove_path(name, false), 0);
        evict(response.param1);
    }
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("reuse");
}
END_TEST

/* A freed cluster is not given to another file before the image has forgotten it. */
START_TEST(test_freed_clusters_wait) {
    static uint8_t bytes[3000];
    uint8_t first[2];
    uint8_t *entry;

    image_make(8 * 1024, "-F 16 -s 2");
    memset(bytes, 1, sizeof(bytes));
    mount_image("");
    ck_assert_int_eq(write_at((uint64_t)make("OLD", FS_TYPE_FILE), 0, bytes, 3000), 3000);
    ck_assert_int_eq(unmount_image(), 0);
    entry = memmem(image, image_size, "OLD        ", 11);
    ck_assert_ptr_nonnull(entry);
    memcpy(first, entry + 26, 2);
    mount_image("");
    ck_assert_int_eq(remove_path("OLD", false), 0);
    evict(response.param1);
    ck_assert_int_eq(write_at((uint64_t)make("NEW", FS_TYPE_FILE), 0, bytes, 3000), 3000);
    ck_assert_int_eq(unmount_image(), 0);
    entry = memmem(image, image_size, "NEW        ", 11);
    ck_assert_ptr_nonnull(entry);
    ck_assert_int_ne(memcmp(entry + 26, first, 2), 0);
    check_clean("deferred reuse");
}
END_TEST

/* FAT32: one active FAT only, and cells whose upper four bits are somebody else's. */
START_TEST(test_active_fat) {
    const uint32_t fat = 32 * 512;
    uint8_t *before;
    uint32_t size;
    le32 cell;

    image_make(40 * 1024, "-F 32 -s 1");
    size = le32_get(*(le32 *)(image + 36)) * 512;
    for (uint32_t i = 3; i < 200; i++) {
        image[fat + size + i * 4 + 3] = 0xa0;
    }
    image[40] = 0x81;
    before = malloc(size);
    memcpy(before, image + fat, size);
    mount_image("");
    ck_assert(!failed(make("file", FS_TYPE_FILE)));
    ck_assert_int_eq(write_at((uint64_t)resolve("file"), 0, before, 4000), 4000);
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert_mem_eq(image + fat, before, size);
    free(before);
    for (uint32_t i = 3; i < 200; i++) {
        memcpy(&cell, image + fat + size + i * 4, 4);
        ck_assert_uint_eq(le32_get(cell) >> 28, 0xa);
    }
    memcpy(&cell, image + fat + size + 3 * 4, 4);
    ck_assert_uint_eq(le32_get(cell), 0xa0000004);
    mount_image("ro");
    ck_assert_int_eq(read_at((uint64_t)resolve("file"), 0, 8000), 4000);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* Many names with one short basis: each gets a tail of its own. */
START_TEST(test_short_name_collisions) {
    char name[64];

    image_make(32 * 1024, "-F 32 -s 1");
    mount_image("");
    ck_assert_int_gt(make("dir", FS_TYPE_DIRECTORY), 0);
    for (unsigned i = 0; i < 1200; i++) {
        (void)snprintf(name, sizeof(name), "dir/Colliding long name %u.text", i);
        ck_assert_int_gt(make(name, FS_TYPE_FILE), 0);
    }
    ck_assert_int_gt(resolve("dir/COLLID~4.TEX"), 0);
    ck_assert_int_eq((int)resolve("dir/COLLID~5.TEX"), -ENOENT);
    ck_assert_int_eq((int)make("dir/collid~1.tex", FS_TYPE_FILE), -EEXIST);
    for (unsigned i = 0; i < 1200; i += 3) {
        (void)snprintf(name, sizeof(name), "dir/colliding LONG name %u.text", i);
        ck_assert_int_eq(remove_path(name, false), 0);
    }
    ck_assert_int_eq(list((uint64_t)resolve("dir"), 2048, NULL, NULL), 800);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("collisions");
}
END_TEST

START_TEST(test_rename) {
    int64_t a, b;

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    a = make("Alpha", FS_TYPE_FILE);
    b = make("Beta", FS_TYPE_FILE);
    ck_assert_int_eq(write_at((uint64_t)a, 0, "aaaa", 4), 4);
    ck_assert_int_eq(write_at((uint64_t)b, 0, "bb", 2), 2);
    /* Case only. */
    ck_assert_int_eq(rename_path("Alpha", "ALPHA", 0), 0);
    ck_assert_int_eq(resolve("ALPHA"), a);
    ck_assert_uint_ne(response.flags & FS_RESP_EXACT, 0);
    ck_assert_int_eq(rename_path("ALPHA", "alpha", 0), 0);
    ck_assert_int_eq(resolve("alpha"), a);
    ck_assert_uint_ne(response.flags & FS_RESP_EXACT, 0);
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), 2);
    /* Over an existing one: same spelling, then another. */
    ck_assert_int_eq(rename_path("alpha", "Beta", FS_RENAME_NOREPLACE), -EEXIST);
    ck_assert_int_eq(rename_path("alpha", "Beta", 0), 0);
    ck_assert_int_eq(resolve("Beta"), a);
    ck_assert_uint_eq(response.attr.size, 4);
    /* The replaced one is still open. */
    ck_assert_int_eq(get_attr((uint64_t)b), 0);
    ck_assert_uint_eq(response.attr.nlink, 0);
    ck_assert_int_eq(read_at((uint64_t)b, 0, 10), 2);
    ck_assert_mem_eq(response.data, "bb", 2);
    ck_assert_int_eq(write_at((uint64_t)b, 2, "cc", 2), 2);
    ck_assert_int_eq(read_at((uint64_t)b, 0, 10), 4);
    evict((uint64_t)b);
    ck_assert(!failed(make("gamma", FS_TYPE_FILE)));
    ck_assert_int_eq(rename_path("gamma", "BETA", 0), 0);
    ck_assert(!failed(resolve("BETA")));
    ck_assert_uint_ne(response.flags & FS_RESP_EXACT, 0);
    ck_assert_uint_eq(response.attr.size, 0);
    ck_assert_int_eq(list(FS_ROOT_ID, 4096, NULL, NULL), 1);
    /* Directories across parents. */
    ck_assert(!failed(make("one", FS_TYPE_DIRECTORY)));
    ck_assert(!failed(make("two", FS_TYPE_DIRECTORY)));
    ck_assert(!failed(make("one/child", FS_TYPE_DIRECTORY)));
    ck_assert(!failed(make("one/child/leaf", FS_TYPE_FILE)));
    ck_assert_int_eq(rename_path("one", "one/child/loop", 0), -EINVAL);
    ck_assert_int_eq(rename_path("one/child", "two/kid", 0), 0);
    ck_assert(!failed(resolve("two/kid/leaf")));
    ck_assert_int_eq(rename_path("two/kid", "kid", 0), 0);
    ck_assert_int_eq(rename_path("two", "one", 0), 0);
    ck_assert_int_eq(rename_path("one", "kid", 0), -ENOTEMPTY);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("rename");
}
END_TEST

/* ids stay with their objects, whatever happens to positions. */
START_TEST(test_identity) {
    int64_t a, b, c;

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("");
    a = make("A", FS_TYPE_FILE);
    ck_assert_int_eq(rename_path("A", "B", 0), 0);
    ck_assert_int_eq(resolve("B"), a);
    b = make("A", FS_TYPE_FILE); /* may take A's old slot */
    ck_assert_int_ne(b, a);
    ck_assert_int_eq(remove_path("A", false), 0);
    c = make("C", FS_TYPE_FILE);
    ck_assert_int_ne(c, a);
    ck_assert_int_ne(c, b);
    ck_assert_int_eq(resolve("B"), a);
    ck_assert_int_eq(resolve("C"), c);
    ck_assert_int_eq(get_attr((uint64_t)b), 0);
    ck_assert_uint_eq(response.attr.nlink, 0);
    evict((uint64_t)b);
    ck_assert_int_eq(get_attr((uint64_t)b), -ESTALE);
    evict((uint64_t)a);
    evict((uint64_t)c);
    ck_assert_int_gt(resolve("B"), 0);
    ck_assert_int_gt(resolve("C"), 0);
    ck_assert_int_eq(get_attr(UINT64_C(1) << 40), -ESTALE);
    ck_assert_int_eq(get_attr(3), -ESTALE);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("identity");
}
END_TEST

/* ---- attributes and sizes ---- */

START_TEST(test_attributes) {
    int64_t id;
    FSRequest set = {.type = FS_MSG_SET_ATTR};

    image_make(8 * 1024, "-F 16 -s 2");
    mount_image("uid=7,gid=8,fmask=0133,dmask=022");
    id = make("file", FS_TYPE_FILE);
    ck_assert_uint_eq(response.attr.mode, 0644);
    ck_assert_uint_eq(response.attr.uid, 7);
    ck_assert_int_eq(response.attr.mtime_ns, TIME_NS);
    set.file_id = (uint64_t)id;
    set.set = (FsSetattr){.mask = FS_SET_MODE, .mode = 0444};
    ck_assert_int_eq(call(set), 0);
    ck_assert_uint_eq(response.attr.mode, 0444);
    set.set = (FsSetattr){.mask = FS_SET_MODE, .mode = 0755};
    ck_assert_int_eq(call(set), 0);
    ck_assert_uint_eq(response.attr.mode, 0644);
    set.set = (FsSetattr){.mask = FS_SET_MODE, .mode = 04755};
    ck_assert_int_eq(call(set), -EPERM);
    set.set = (FsSetattr){.mask = FS_SET_UID, .uid = 9};
    ck_assert_int_eq(call(set), -EPERM);
    set.set = (FsSetattr){.mask = FS_SET_UID | FS_SET_GID, .uid = 7, .gid = 8};
    ck_assert_int_eq(call(set), 0);
    set.set = (FsSetattr){.mask = FS_SET_MTIME | FS_SET_ATIME,
                          .mtime_ns = TIME_NS + 3 * INT64_C(1000000000) + 5,
                          .atime_ns = TIME_NS};
    ck_assert_int_eq(call(set), 0);
    ck_assert_int_eq(response.attr.mtime_ns, TIME_NS + 2 * INT64_C(1000000000));
    ck_assert_int_eq(response.attr.atime_ns, TIME_NS - TIME_NS % (86400 * INT64_C(1000000000)));
    set.set = (FsSetattr){.mask = FS_SET_MTIME, .mtime_ns = 0};
    ck_assert_int_eq(call(set), 0);
    ck_assert_int_eq(response.attr.mtime_ns, INT64_C(315532800) * 1000000000);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("attributes");
}
END_TEST

START_TEST(test_truncate) {
    static const uint8_t zeros[40000];
    static uint8_t bytes[40000];
    uint64_t id;

    image_make(40 * 1024, "-F 32 -s 1");
    mount_image(_i == 0 ? "" : "log=65536");
    id = (uint64_t)make("file", FS_TYPE_FILE);
    fill(bytes, sizeof(bytes), 3, 0);
    ck_assert_int_eq(write_at(id, 0, bytes, sizeof(bytes)), sizeof(bytes));
    ck_assert_int_eq(set_size(id, 1000), 0);
    ck_assert_int_eq(set_size(id, 30000), 0);
    ck_assert_uint_eq(response.attr.size, 30000);
    ck_assert_int_eq(read_at(id, 0, 40000), 30000);
    ck_assert_mem_eq(response.data, bytes, 1000);
    ck_assert_mem_eq(response.data + 1000, zeros, 29000);
    ck_assert_int_eq(set_size(id, 0), 0);
    ck_assert_uint_eq(response.attr.blocks, 0);
    ck_assert_int_eq(set_size(id, UINT64_C(0x100000000)), -EFBIG);
    ck_assert_int_eq(set_size(id, 0xffffffff), -ENOSPC);
    /* More than one transaction's worth of clusters. */
    ck_assert_int_eq(set_size(id, 20 << 20), 0);
    ck_assert_int_eq(set_size(id, 3), 0);
    ck_assert_int_eq(
        call((FSRequest){.type = FS_MSG_FALLOCATE, .file_id = id, .offset = 10, .length64 = 90}),
        0);
    ck_assert_int_eq(get_attr(id), 0);
    ck_assert_uint_eq(response.attr.size, 100);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("truncate");
}
END_TEST

/* Full volumes: ENOSPC leaves them clean, and what is freed can be used at once. */
START_TEST(test_full) {
    static uint8_t bytes[65536];
    uint64_t id, at = 0;
    char name[32];
    int r;

    image_make(1440, _i == 0 ? "-F 12" : "-F 32 -s 1");
    mount_image("");
    id = (uint64_t)make("big", FS_TYPE_FILE);
    fill(bytes, sizeof(bytes), 1, 0);
    while ((r = write_at(id, at, bytes, sizeof(bytes))) > 0) {
        at += (unsigned)r;
    }
    ck_assert_int_eq(r, -ENOSPC);
    while ((r = write_at(id, at, bytes, 512)) > 0) {
        at += (unsigned)r;
    }
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_int_eq((int)make("dir", FS_TYPE_DIRECTORY), -ENOSPC);
    ck_assert_int_eq(set_size(id, at - 600 * 512), 0);
    ck_assert_int_eq(write_at(id, at - 600 * 512, bytes, 65536), 65536);
    ck_assert_int_eq(remove_path("big", false), 0);
    evict(id);
    id = (uint64_t)make("again", FS_TYPE_FILE);
    for (at = 0; at < 15 * 65536; at += 65536) {
        ck_assert_int_eq(write_at(id, at, bytes, 65536), 65536);
    }
    /* The fixed root is full at some time; a directory on clusters grows. */
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "FILE%u", i);
        r = (int)MIN(make(name, FS_TYPE_FILE), 0);
        ck_assert_msg(r == 0 || (_i == 0 && r == -ENOSPC && i > 200), "%s: %d", name, r);
    }
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("full");
}
END_TEST

START_TEST(test_dirty_mark) {
    static uint8_t *copy;
    LogLevel level = log_level();

    image_make(8 * 1024, _i == 0 ? "-F 16 -s 2" : "-F 32 -s 1");
    mount_image("");
    ck_assert_int_gt(make("file", FS_TYPE_FILE), 0);
    ck_assert_int_eq(sync_volume(), 0);
    copy = malloc(image_size);
    memcpy(copy, image, image_size);
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("clean after unmount");
    /* As if the power had gone: the mark is there, and stays over a mount. */
    memcpy(image, copy, image_size);
    free(copy);
    ck_assert_uint_eq(image[_i == 0 ? 37 : 65] & 1, 1);
    log_init("test_fat", LOG_LEVEL_ERROR);
    mount_image("");
    ck_assert_int_gt(resolve("file"), 0);
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert_uint_eq(image[_i == 0 ? 37 : 65] & 1, 1);
    log_init("test_fat", level);
}
END_TEST

/* ---- many at once ---- */

START_TEST(test_parallel) {
    image_make(_i == 0 ? 4096 : 40 * 1024, _i == 0 ? "-F 12 -s 4" : "-F 32 -s 1");
    parallel_run((unsigned)_i + 1);
}
END_TEST

/* ---- models ---- */

START_TEST(test_model) {
    static const char *const args[] = {"-F 12 -s 1", "-F 16 -s 1", "-F 32 -s 1", "-F 32 -s 8"};
    static const unsigned kib[] = {1440, 8192, 4096, 40960};

    for (unsigned seed = 1; seed <= 6; seed++) {
        image_make(kib[_i], args[_i]);
        /* The smallest log makes everything that can be split into steps be split. */
        model_run(seed * 100 + (unsigned)_i, 400, seed % 2 == 0, seed % 3 == 0 ? "log=65536" : "");
    }
}
END_TEST

START_TEST(test_model_sweep) {
    image_make(1440, _i == 0 ? "-F 12 -s 1" : "-F 32 -s 1");
    model_sweep(_i == 0 ? 11 : 12);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fat");
    TCase *volumes = tcase_create("volumes");
    TCase *operations = tcase_create("operations");
    TCase *models = tcase_create("models");
    TCase *features = tcase_create("features");
    SRunner *runner;
    int failures;

    if (run("PATH=$PATH:/usr/sbin:/sbin; { command -v mkfs.fat && command -v fsck.fat && "
            "command -v mcopy; } >/dev/null") != 0) {
        (void)fprintf(stderr, "skipped: dosfstools or mtools are not installed\n");
        return 77;
    }
    tcase_add_checked_fixture(volumes, NULL, support_done);
    tcase_set_timeout(volumes, 60);
    tcase_add_loop_test(volumes, test_read_foreign, 0, ARRAY_SIZE(formats));
    tcase_add_loop_test(volumes, test_write_all_types, 0, ARRAY_SIZE(formats));
    tcase_add_loop_test(volumes, test_dirty_mark, 0, 2);
    suite_add_tcase(suite, volumes);

    tcase_add_checked_fixture(operations, NULL, support_done);
    tcase_set_timeout(operations, 60);
    tcase_add_test(operations, test_names);
    tcase_add_test(operations, test_foreign_entries);
    tcase_add_test(operations, test_garbage_behind_end);
    tcase_add_test(operations, test_slots_are_reused);
    tcase_add_test(operations, test_freed_clusters_wait);
    tcase_add_test(operations, test_active_fat);
    tcase_add_test(operations, test_short_name_collisions);
    tcase_add_test(operations, test_rename);
    tcase_add_test(operations, test_identity);
    tcase_add_test(operations, test_attributes);
    tcase_add_loop_test(operations, test_truncate, 0, 2);
    tcase_add_loop_test(operations, test_full, 0, 2);
    tcase_add_loop_test(operations, test_random_damage, 0, 3);
    tcase_add_test(operations, test_short_device);
    tcase_add_loop_test(operations, test_broken_chain, 0, ARRAY_SIZE(damages));
    tcase_add_loop_test(operations, test_directory_damage, 0, 5);
    tcase_add_test(operations, test_crossed_chains);
    tcase_add_test(operations, test_remount);
    suite_add_tcase(suite, operations);

    tcase_add_checked_fixture(models, NULL, support_done);
    tcase_set_timeout(models, 100);
    tcase_add_loop_test(models, test_model, 0, 4);
    tcase_add_loop_test(models, test_model_sweep, 0, 2);
    tcase_add_loop_test(models, test_parallel, 0, 2);
    suite_add_tcase(suite, models);

    tcase_add_checked_fixture(features, NULL, support_done);
    tcase_set_timeout(features, 60);
    features_add(features);
    suite_add_tcase(suite, features);

    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? 0 : 1;
}
