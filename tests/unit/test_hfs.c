/* SPDX-License-Identifier: MIT */
/*
 * HFS through dispatch, as the daemon serves it: what other programs wrote is read right, what is
 * written here satisfies the checker and hfsutils, and what cannot be is refused.
 */
#include "hfs_support.h"

#define FINDER "user.com.apple.FinderInfo"
#define RESOURCE "user.com.apple.ResourceFork"

/* ---- reading what hfsutils wrote ---- */

START_TEST(reads_what_hfsutils_wrote) {
    static const char text[] = "line one\nline two\n";
    static uint8_t expected[50000];
    char list_of_names[256] = "";
    int64_t id;

    image_format(2048);
    image_store();
    fill(expected, sizeof(expected), 5, 0);
    {
        char path[160];
        FILE *file;

        (void)snprintf(path, sizeof(path), "%s/data", directory);
        file = fopen(path, "wb");
        ck_assert_uint_eq(fwrite(expected, 1, sizeof(expected), file), sizeof(expected));
        ck_assert_int_eq(fclose(file), 0);
    }
    ck_assert_int_eq(hfs_tool("printf 'line one\\nline two\\n' >small; hmkdir :Folder; hmkdir "
                              "':Folder:In it'; hcopy -r data ':Folder:In it:Big File'; "
                              "hcopy -r small ':Read Me'; hattrib -t TEXT -c ttxt ':Read Me'",
                              list_of_names, sizeof(list_of_names)),
                     0);
    image_load();
    mount_image("ro");
    ck_assert_str_eq(volume_fs(volume)->label, "Old Disk");
    id = resolve("Folder/In it/Big File");
    ck_assert_int_ge(id, 16);
    expect_file((uint64_t)id, 5, sizeof(expected));
    /* The Mac's order knows no case, and the spelling that is there is told. */
    ck_assert_int_eq(resolve("FOLDER/in IT/big file"), id);
    id = resolve("Read Me");
    ck_assert_int_eq(read_at((uint64_t)id, 0, 100), (int)strlen(text));
    ck_assert_int_eq(memcmp(response.data, text, strlen(text)), 0);
    ck_assert_int_eq(get_xattr((uint64_t)id, FINDER), 32);
    ck_assert_int_eq(memcmp(response.data, "TEXTttxt", 8), 0);
    ck_assert_int_eq(get_xattr((uint64_t)id, RESOURCE), -ENODATA);
    ck_assert_int_eq(resolve("Folder/nothing"), -ENOENT);
    ck_assert_int_eq(list(FS_ROOT_ID, 65536, NULL, NULL), 2);
    ck_assert_int_eq(write_at((uint64_t)id, 0, "x", 1), -EROFS);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

START_TEST(foreign_volumes_are_refused_by_name) {
    const struct {
        uint16_t signature, embedded;
        const char *word;
    } cases[] = {
        {0xd2d7, 0, "MFS"}, {0x482b, 0, "HFS+"}, {0x4858, 0, "HFS+"}, {0x4244, 0x482b, "wrapper"}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        be16 signature = be16_make(cases[i].signature), embedded = be16_make(cases[i].embedded);
        FsProbe probe;

        image_create(1 << 20, 512);
        memcpy(image + 1024, &signature, 2);
        memcpy(image + 1024 + offsetof(HfsDiskMdb, embed_signature), &embedded, 2);
        ck_assert_int_eq(mount_try(""), -EMEDIUMTYPE);
        ck_assert_msg(memmem(response.data, response.data_length, cases[i].word,
                             strlen(cases[i].word)) != NULL,
                      "%.*s", (int)response.data_length, (const char *)response.data);
        ck_assert_int_eq(hfs_type.probe(device, &probe), -ENOENT);
        client = local_client_free(client);
        volume = volume_free(volume);
        device = block_free(device);
    }
}
END_TEST

START_TEST(the_alternate_mdb_helps_to_read) {
    image_create(1 << 20, 512);
    mount_image("");
    ck_assert(!failed(put_file("kept", 1, 5000, 5000)));
    ck_assert_int_eq(unmount_image(), 0);
    memset(image + 1024, 0, 512);
    mount_image("");
    expect_file((uint64_t)resolve("kept"), 1, 5000);
    ck_assert_int_eq(make("new", FS_TYPE_FILE), -EROFS);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* ---- writing ---- */

START_TEST(what_is_written_is_there) {
    const uint64_t block_sizes[] = {512, 1024, 17920, 4096, 31744};
    uint64_t block_size = block_sizes[_i];
    uint8_t info[32] = "TEXTttxt";
    static uint8_t fork[30000];
    char out[4096];
    int64_t id;

    image_create(8 << 20, block_size);
    fill(fork, sizeof(fork), 9, 0);
    mount_image("");
    ck_assert(!failed(make("Folder", FS_TYPE_DIRECTORY)));
    ck_assert(!failed(make("Folder/Inner", FS_TYPE_DIRECTORY)));
    id = put_file("Folder/Inner/Caf\xc3\xa9 a/b:c", 3, 0, 1);
    ck_assert(failed(id)); /* '/' never gets here as part of a name */
    id = put_file("Folder/Inner/Caf\xc3\xa9 a:c", 3, 200001, 7777);
    ck_assert(!failed(id));
    ck_assert_int_eq(set_xattr((uint64_t)id, FINDER, info, 32), 0);
    ck_assert_int_eq(set_xattr((uint64_t)id, RESOURCE, fork, sizeof(fork)), 0);
    ck_assert_int_eq(set_xattr((uint64_t)id, FINDER, info, 31), -EINVAL);
    expect_file((uint64_t)id, 3, 200001);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after writing");
    ck_assert_int_eq(hfs_tool("hls -l ':Folder:Inner:'", out, sizeof(out)), 0);
    ck_assert_msg(strstr(out, "TEXT/ttxt     30000    200001") != NULL, "%s", out);

    mount_image("");
    id = resolve("folder/inner/CAF\xc3\x89 A:C");
    expect_file((uint64_t)id, 3, 200001);
    ck_assert_int_eq(get_xattr((uint64_t)id, RESOURCE), sizeof(fork));
    ck_assert_int_eq(memcmp(response.data, fork, sizeof(fork)), 0);
    ck_assert_int_eq(set_xattr((uint64_t)id, RESOURCE, "short", 5), 0);
    ck_assert_int_eq(get_xattr((uint64_t)id, RESOURCE), 5);
    ck_assert_int_eq(set_size((uint64_t)id, 100), 0);
    ck_assert_int_eq(set_size((uint64_t)id, 150000), 0);
    ck_assert_int_eq(read_at((uint64_t)id, 90, 100), 100);
    for (unsigned i = 10; i < 100; i++) {
        ck_assert_uint_eq(response.data[i], 0);
    }
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after truncating");
    mount_image("");
    ck_assert_int_eq(remove_path("Folder/Inner", true), -ENOTEMPTY);
    ck_assert_int_eq(remove_path("Folder/Inner/Caf\xc3\xa9 a:c", false), 0);
    ck_assert_int_eq(remove_path("Folder/Inner", true), 0);
    ck_assert_int_eq(remove_path("Folder", true), 0);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after removing");
}
END_TEST

START_TEST(an_unlinked_file_lives_while_it_is_held) {
    CheckResult before, after;
    int64_t id;

    image_create(4 << 20, 1024);
    ck_assert_int_eq(image_check(&before), 0);
    mount_image("");
    id = put_file("held", 7, 100000, 10000);
    ck_assert_int_eq(remove_path("held", false), 0);
    ck_assert_int_eq(resolve("held"), -ENOENT);
    expect_file((uint64_t)id, 7, 100000);
    ck_assert_int_eq(write_at((uint64_t)id, 100000, "more", 4), 4);
    ck_assert_int_eq(get_attr((uint64_t)id), 0);
    ck_assert_uint_eq(response.attr.nlink, 0);
    ck_assert(!failed(put_file("held", 8, 1000, 1000)));
    evict((uint64_t)id);
    ck_assert_int_eq(get_attr((uint64_t)id), -ESTALE);
    /* Another one stays held until the unmount. */
    id = put_file("second", 9, 50000, 10000);
    ck_assert_int_eq(remove_path("second", false), 0);
    ck_assert_int_eq(remove_path("held", false), 0);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after unmount");
    ck_assert_int_eq(image_check(&after), 0);
    ck_assert_uint_eq(before.blocks_free, after.blocks_free);
}
END_TEST

START_TEST(renames_carry_everything_along) {
    int64_t file, other, dir;

    image_create(4 << 20, 1024);
    mount_image("");
    ck_assert(!failed(make("A", FS_TYPE_DIRECTORY)));
    dir = make("A/Sub", FS_TYPE_DIRECTORY);
    ck_assert(!failed(make("B", FS_TYPE_DIRECTORY)));
    file = put_file("A/Sub/file", 1, 3000, 3000);
    other = put_file("B/other", 2, 4000, 4000);
    ck_assert_int_eq(rename_path("A/Sub", "B/Moved", 0), 0);
    ck_assert_int_eq(resolve("B/Moved"), dir);
    ck_assert_int_eq(resolve("B/Moved/file"), file);
    ck_assert_int_eq(rename_path("B", "B/Moved/B", 0), -EINVAL);
    ck_assert_int_eq(rename_path("B/Moved/file", "B/OTHER", FS_RENAME_NOREPLACE), -EEXIST);
    ck_assert_int_eq(rename_path("B/Moved/file", "B/OTHER", FS_RENAME_EXCHANGE), 0);
    ck_assert_int_eq(resolve("B/other"), file);
    ck_assert_int_eq(resolve("B/Moved/file"), other);
    ck_assert_int_eq(rename_path("B/other", "B/Moved/FILE", 0), 0);
    ck_assert_int_eq(resolve("B/Moved/file"), file);
    ck_assert_int_eq(resolve("B/other"), -ENOENT);
    expect_file((uint64_t)other, 2, 4000); /* replaced, still held */
    ck_assert_int_eq(rename_path("B/Moved/file", "B/Moved/File", 0), 0);
    ck_assert_int_eq(rename_path("A", "B/Moved", 0), -ENOTEMPTY);
    ck_assert_int_eq(rename_path("B", "A", 0), 0);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after renames");
    mount_image("");
    ck_assert_int_eq(resolve("A/Moved/File"), file);
    expect_file((uint64_t)file, 1, 3000);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* Ids are CNIDs: one that nobody has in core is found without a hint, by a new daemon too. */
START_TEST(ids_are_found_again) {
    uint64_t ids[300];

    image_create(4 << 20, 512);
    mount_image("");
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        char name[40];

        (void)snprintf(name, sizeof(name), "file number %u", i * 7919 % 1000);
        ids[i] = (uint64_t)put_file(name, i, 10 + i, 1000);
    }
    ck_assert_int_eq(unmount_image(), 0);
    mount_image("");
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        expect_file(ids[i], i, 10 + i);
    }
    ck_assert_int_eq(get_attr(15), -ESTALE);
    ck_assert_int_eq(get_attr(5000), -ESTALE);
    ck_assert_int_eq(get_attr(UINT64_C(1) << 40), -ESTALE);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

static uint16_t mark_of(uint64_t offset) {
    HfsDiskMdb mdb;

    memcpy(&mdb, image + offset, sizeof(mdb));
    return be16_get(mdb.attributes) & HFS_ATTR_UNMOUNTED;
}

START_TEST(a_volume_in_use_is_marked) {
    HfsDiskMdb mdb;

    image_create(1 << 20, 512);
    ck_assert_uint_ne(mark_of(1024), 0);
    mount_image("ro");
    ck_assert_uint_ne(mark_of(1024), 0);
    ck_assert_int_eq(unmount_image(), 0);
    mount_image("");
    ck_assert_uint_eq(mark_of(1024), 0); /* before anything is written */
    ck_assert(!failed(put_file("file", 1, 1000, 1000)));
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_REMOUNT,
                                      .payload = (const uint8_t *)"ro",
                                      .payload_length = 2}),
                     0);
    ck_assert_uint_ne(mark_of(1024), 0);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_REMOUNT,
                                      .payload = (const uint8_t *)"rw",
                                      .payload_length = 2}),
                     0);
    ck_assert_uint_eq(mark_of(1024), 0);
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert_uint_ne(mark_of(1024), 0);
    ck_assert_int_eq(memcmp(image + 1024, image + image_size - 1024, sizeof(mdb)), 0);
    hfs_clean("unmounted");

    /* Who finds it so leaves it so. */
    memcpy(&mdb, image + 1024, sizeof(mdb));
    mdb.attributes = be16_make(0);
    ck_assert_uint_eq(be32_get(mdb.next_cnid), 17);
    mdb.next_cnid = be32_make(16); /* in use: a crash may leave it so */
    memcpy(image + 1024, &mdb, sizeof(mdb));
    mount_image("");
    ck_assert_int_eq(put_file("another", 1, 1000, 1000), 17);
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert_uint_eq(mark_of(1024), 0);
    /* A locked volume is not written to. */
    mdb.attributes = be16_make(HFS_ATTR_UNMOUNTED | HFS_ATTR_SOFTWARE_LOCK);
    memcpy(image + 1024, &mdb, sizeof(mdb));
    mount_image("");
    ck_assert_int_eq(make("new", FS_TYPE_FILE), -EROFS);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

START_TEST(options_of_its_own) {
    const int64_t hour = INT64_C(3600) * 1000000000;
    int64_t id;

    image_create(1 << 20, 512);
    ck_assert_int_eq(mount_try("encoding=klingon"), -EINVAL);
    (void)unmount_image();
    ck_assert_int_eq(mount_try("tz=noon"), -EINVAL);
    (void)unmount_image();
    mount_image("tz=+02:30,encoding=maccyrillic");
    id = make("\xd0\xa4\xd0\xb0\xd0\xb9\xd0\xbb", FS_TYPE_FILE); /* Файл */
    ck_assert(!failed(id));
    ck_assert_int_eq(response.attr.mtime_ns, TIME_NS);
    ck_assert_int_eq(response.attr.btime_ns, TIME_NS);
    ck_assert_int_eq(make("\xc3\xa9", FS_TYPE_FILE), -EILSEQ);
    ck_assert_int_eq(unmount_image(), 0);
    mount_image("time_offset=-30");
    ck_assert_int_eq(resolve("\xd0\xa4\xd0\xb0\xd0\xb9\xd0\xbb"), -ENOENT);
    ck_assert_int_eq(resolve("\xc3\xad\xc2\xaf\xc3\x88\xc3\x8e"), -ENOENT);
    ck_assert_int_eq(get_attr((uint64_t)id), 0);
    ck_assert_int_eq(response.attr.mtime_ns, TIME_NS + 3 * hour);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

START_TEST(space_ahead_of_the_size) {
    static uint8_t bytes[5000];
    int64_t id;

    image_create(1 << 20, 1024);
    mount_image("");
    id = put_file("file", 3, 1500, 1500);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_FALLOCATE,
                                      .file_id = (uint64_t)id,
                                      .mode = 1 /* FALLOC_FL_KEEP_SIZE */,
                                      .length64 = 100000}),
                     0);
    ck_assert_int_eq(get_attr((uint64_t)id), 0);
    ck_assert_uint_eq(response.attr.size, 1500);
    ck_assert_uint_eq(response.attr.blocks, 98 * 2);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("a fork that is longer than its file");
    mount_image("");
    expect_file((uint64_t)id, 3, 1500);
    fill(bytes, sizeof(bytes), 3, 1500);
    ck_assert_int_eq(write_at((uint64_t)id, 1500, bytes, sizeof(bytes)), sizeof(bytes));
    expect_file((uint64_t)id, 3, 6500);
    ck_assert_int_eq(get_attr((uint64_t)id), 0);
    ck_assert_uint_eq(response.attr.blocks, 98 * 2);
    ck_assert_int_eq(set_size((uint64_t)id, 6500), 0);
    ck_assert_int_eq(get_attr((uint64_t)id), 0);
    ck_assert_uint_eq(response.attr.blocks, 7 * 2);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after truncating it");
}
END_TEST

/* ---- listings ---- */

typedef struct Removing {
    unsigned seen[2000];
    unsigned count;
    uint64_t dir;
} Removing;

static void note_name(void *arg, const FsDirEntry *entry) {
    Removing *removing = arg;
    char text[64];
    unsigned number = 0;

    (void)snprintf(text, sizeof(text), "%.*s", (int)entry->name_length, entry->name);
    ck_assert_msg(sscanf(text, "a long common beginning %u", &number) == 1, "%s", text);
    removing->seen[number]++;
    removing->count++;
}

static void note_and_remove(void *arg, const FsDirEntry *entry) {
    Removing *removing = arg;
    uint8_t saved_data[256];
    char name[64];

    note_name(arg, entry);
    (void)snprintf(name, sizeof(name), "%.*s", (int)entry->name_length, entry->name);
    (void)saved_data;
    if (removing->count % 2 == 0) {
        ck_assert_int_eq(call((FSRequest){.type = FS_MSG_DELETE_FILE,
                                          .file_id = removing->dir,
                                          .name = name_of(name)}),
                         0);
    }
}

START_TEST(listings_survive_changes) {
    static Removing removing;
    unsigned files = 1500;

    memset(&removing, 0, sizeof(removing));
    image_create(4 << 20, 512);
    mount_image("");
    removing.dir = (uint64_t)make("dir", FS_TYPE_DIRECTORY);
    for (unsigned i = 0; i < files; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "dir/a long common beginning %u", i);
        ck_assert(!failed(make(name, FS_TYPE_FILE)));
    }
    ck_assert_int_eq(list(removing.dir, 700, note_and_remove, &removing), (int)files);
    for (unsigned i = 0; i < files; i++) {
        ck_assert_uint_eq(removing.seen[i], 1);
    }
    /* A new daemon does not know what cookies it gave. */
    ck_assert_int_eq(
        call((FSRequest){.type = FS_MSG_LIST_DIR, .file_id = removing.dir, .length = 5000}), 0);
    {
        FsDirEntry entry;
        uint64_t cookie = 0;
        uint32_t at = 0;
        unsigned first = 0;

        memset(removing.seen, 0, sizeof(removing.seen));
        removing.count = 0;
        while (at < response.data_length) {
            int used = fs_dirent_decode(response.data + at, response.data_length - at, &entry);

            ck_assert_int_gt(used, 0);
            note_name(&removing, &entry);
            cookie = entry.cookie;
            at += (uint32_t)used;
            first++;
        }
        ck_assert_uint_lt(first, 750);
        ck_assert_int_eq(unmount_image(), 0);
        mount_image("");
        while (first < 750) {
            ck_assert_int_eq(call((FSRequest){.type = FS_MSG_LIST_DIR,
                                              .file_id = removing.dir,
                                              .offset = cookie,
                                              .length = 65536}),
                             0);
            ck_assert_uint_gt(response.data_length, 0);
            for (at = 0; at < response.data_length; first++) {
                int used = fs_dirent_decode(response.data + at, response.data_length - at, &entry);

                ck_assert_int_gt(used, 0);
                note_name(&removing, &entry);
                cookie = entry.cookie;
                at += (uint32_t)used;
            }
        }
        for (unsigned i = 0; i < files; i++) {
            ck_assert_uint_le(removing.seen[i], 1);
        }
        ck_assert_uint_eq(removing.count, 750);
    }
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after listing");
}
END_TEST

/* ---- space ---- */

START_TEST(forks_in_many_pieces) {
    CheckResult before, after;
    uint8_t byte = 1;
    int64_t one, two;

    image_create(2 << 20, 512);
    ck_assert_int_eq(image_check(&before), 0);
    mount_image("");
    one = make("one", FS_TYPE_FILE);
    two = make("two", FS_TYPE_FILE);
    /* By turns, so that no block of a file lies behind the one before. */
    for (unsigned i = 0; i < 900; i++) {
        static uint8_t bytes[512];

        fill(bytes, sizeof(bytes), 1, i * 512);
        ck_assert_int_eq(write_at((uint64_t)one, i * 512, bytes, 512), 512);
        fill(bytes, sizeof(bytes), 2, i * 512);
        ck_assert_int_eq(write_at((uint64_t)two, i * 512, bytes, 512), 512);
    }
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("two forks of 900 pieces");
    mount_image("");
    expect_file((uint64_t)one, 1, 900 * 512);
    ck_assert_int_eq(set_size((uint64_t)one, 100 * 512 + 7), 0);
    ck_assert_int_eq(set_size((uint64_t)one, 101 * 512), 0);
    ck_assert_int_eq(write_at((uint64_t)one, 400 * 512, &byte, 1), 1);
    expect_file((uint64_t)two, 2, 900 * 512);
    ck_assert_int_eq(remove_path("two", false), 0);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after cutting");
    mount_image("");
    ck_assert_int_eq(remove_path("one", false), 0);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after removing");
    ck_assert_int_eq(image_check(&after), 0);
    /* The overflow file keeps the nodes it has got. */
    ck_assert_uint_le(before.blocks_free - after.blocks_free, 200);
}
END_TEST

START_TEST(a_full_volume_says_so) {
    static uint8_t bytes[65536];
    unsigned files = 0;
    int64_t id = 0;
    int r = 0;

    image_create(800 * 1024, 512);
    mount_image("");
    id = make("filler", FS_TYPE_FILE);
    for (uint64_t at = 0; r >= 0; at += sizeof(bytes)) {
        r = write_at((uint64_t)id, at, bytes, sizeof(bytes));
    }
    ck_assert_int_eq(r, -ENOSPC);
    for (uint64_t at = 1 << 20; r != 0 && at > 0; at -= 512) {
        r = set_size((uint64_t)id, at);
        r = r == -ENOSPC ? r : 0;
    }
    for (r = 0; r >= 0; files++) {
        char name[40];
        int64_t made;

        (void)snprintf(name, sizeof(name), "file %u", files);
        made = make(name, FS_TYPE_FILE);
        r = failed(made) ? (int)made : 0;
    }
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("full");
    mount_image("");
    ck_assert_int_eq(remove_path("filler", false), 0);
    evict((uint64_t)id);
    ck_assert(!failed(put_file("again", 4, 300000, 30000)));
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("after making room");
}
END_TEST

/* ---- ._NAME ---- */

#define DOUBLE_MOST 400u

/* A header with these entries (id, offset, length), whose bytes are all `filling`. */
static uint32_t double_header(uint8_t bytes[DOUBLE_MOST], uint32_t magic, unsigned count,
                              const uint32_t entries[][3], uint8_t filling) {
    be32 word = be32_make(magic);
    be16 number = be16_make((uint16_t)count);

    memset(bytes, filling, DOUBLE_MOST);
    memcpy(bytes, &word, 4);
    word = be32_make(0x00020000);
    memcpy(bytes + 4, &word, 4);
    memcpy(bytes + 24, &number, 2);
    for (unsigned i = 0; i < MIN(count, 3u); i++) {
        for (unsigned n = 0; n < 3; n++) {
            word = be32_make(entries[i][n]);
            memcpy(bytes + 26 + i * 12 + n * 4, &word, 4);
        }
    }
    return DOUBLE_MOST;
}

START_TEST(headers_are_taken_apart) {
    static const struct {
        uint32_t magic;
        unsigned count;
        uint32_t entries[3][3];
        int result;
    } cases[] = {
        {0x00051607, 2, {{9, 50, 32}, {2, 82, 318}}, 0},
        {0x00051607, 2, {{2, 150, 250}, {9, 100, 50}}, 0},
        {0x00051607, 1, {{2, 38, 362}}, 0},
        {0x00051607, 3, {{9, 62, 16}, {4, 94, 6}, {2, 100, UINT32_MAX}}, 0},
        {0x00051600, 2, {{9, 50, 32}, {2, 82, 318}}, -EINVAL},
        {0x00051607, 2, {{9, 50, 32}, {2, 81, 318}}, -EINVAL}, /* in each other */
        {0x00051607, 2, {{2, 50, 32}, {9, 82, 318}}, -EINVAL}, /* the fork is not last */
        {0x00051607, 2, {{2, 50, 32}, {2, 82, 318}}, -EINVAL}, /* two forks */
        {0x00051607, 3, {{9, 62, 32}, {9, 94, 32}, {2, 126, 1}}, -EINVAL},
        {0x00051607, 2, {{9, 390, 32}, {2, 430, 1}}, -EINVAL}, /* not in this write */
        {0x00051607, 2, {{9, UINT32_MAX, 32}, {2, 82, 318}}, -EINVAL},
        {0x00051607, 2, {{4, UINT32_MAX, UINT32_MAX}, {2, 82, 318}}, -EINVAL},
        {0x00051607, 2, {{9, 50, 32}, {2, 65537, 318}}, -EINVAL},
        {0x00051607, 1, {{2, 37, 318}}, -EINVAL}, /* in the header */
        {0x00051607, 1, {{9, 50, 32}}, -EINVAL},  /* bytes behind it that are nobody's */
        {0x00051607, 33, {{2, 82, 318}}, -EINVAL},
        {0x00051607, 65535, {{2, 82, 318}}, -EINVAL},
        {0x00051607, 0, {{0}}, -EINVAL},
    };

    image_create(1 << 20, 512);
    mount_image("appledouble");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t bytes[DOUBLE_MOST];
        char name[20], double_name[20];
        int64_t file, id;
        uint32_t length = double_header(bytes, cases[i].magic, cases[i].count, cases[i].entries, 7);
        int r;

        (void)snprintf(name, sizeof(name), "case %zu", i);
        (void)snprintf(double_name, sizeof(double_name), "._case %zu", i);
        file = make(name, FS_TYPE_FILE);
        ck_assert_int_eq(resolve(double_name), -ENOENT);
        id = make(double_name, FS_TYPE_FILE);
        ck_assert_int_eq(id, file | INT64_C(3) << 32);
        ck_assert_int_eq(resolve(double_name), id);
        r = write_at((uint64_t)id, 0, bytes, length);
        ck_assert_msg(r == (cases[i].result < 0 ? cases[i].result : (int)length), "case %zu: %d", i,
                      r);
        r = get_xattr((uint64_t)file, RESOURCE);
        ck_assert_int_eq(r, cases[i].result < 0
                                ? -ENODATA
                                : (int)(length - cases[i].entries[cases[i].count - 1][1]) +
                                      (i == 1 ? 100 - 150 : 0));
    }
    ck_assert_int_eq(unmount_image(), 0);
    hfs_clean("with forks of several kinds");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hfs");
    TCase *tc = tcase_create("hfs");
    SRunner *runner;
    int failures;

    log_init("test_hfs", LOG_LEVEL_ERROR);
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, directory_make, support_done);
    tcase_add_test(tc, reads_what_hfsutils_wrote);
    tcase_add_test(tc, foreign_volumes_are_refused_by_name);
    tcase_add_test(tc, the_alternate_mdb_helps_to_read);
    tcase_add_loop_test(tc, what_is_written_is_there, 0, 5);
    tcase_add_test(tc, an_unlinked_file_lives_while_it_is_held);
    tcase_add_test(tc, renames_carry_everything_along);
    tcase_add_test(tc, ids_are_found_again);
    tcase_add_test(tc, a_volume_in_use_is_marked);
    tcase_add_test(tc, options_of_its_own);
    tcase_add_test(tc, space_ahead_of_the_size);
    tcase_add_test(tc, listings_survive_changes);
    tcase_add_test(tc, forks_in_many_pieces);
    tcase_add_test(tc, a_full_volume_says_so);
    tcase_add_test(tc, headers_are_taken_apart);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? 0 : 1;
}
