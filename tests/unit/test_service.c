/* SPDX-License-Identifier: MIT */
/*
 * Dispatch and its two ways in, over the toy filesystem: the answers of every
 * message through local_call(), the slot and arena rules of the serve loop over a
 * real channel, hostile requests, and the recorded reply's encoding.
 */
#include "../../src/service/reply.h"
#include "berth/bytes.h"
#include "berth/log.h"
#include "serve_peer.h"
#include "service_crowd.h"
#include "toyfs.h"
#include <check.h>
#include <signal.h>

static BlockDevice *device;
static Volume *volume;
static LocalClient *client;
static FSResponse response;

static FsName name_of(const char *text) {
    return (FsName){text, (uint32_t)strlen(text)};
}

static int call(FSRequest request) {
    static uint64_t seq;

    request.request_id = fs_request_id(0, ++seq);
    return local_call(client, &request, &response);
}

static int mount_toy(const char *options) {
    return call((FSRequest){.type = FS_MSG_MOUNT,
                            .payload = (const uint8_t *)options,
                            .payload_length = (uint32_t)strlen(options)});
}

static void setup(void) {
    toy = (struct ToyKnobs){0};
    ck_assert_int_eq(block_memory_new(TOY_BLOCKS * TOY_BLOCK, 512, NULL, &device), 0);
    ck_assert_int_eq(volume_new(&toy_type, device, NULL, &volume), 0);
    ck_assert_int_eq(local_client_new(volume, &client), 0);
}

static void setup_mounted(void) {
    setup();
    ck_assert_int_eq(mount_toy(""), 0);
}

static void teardown(void) {
    client = local_client_free(client);
    volume = volume_free(volume);
    ck_assert(!toy.mounted);
    device = block_free(device);
}

static int lookup(uint64_t dir, const char *name) {
    return call((FSRequest){.type = FS_MSG_LOOKUP, .file_id = dir, .name = name_of(name)});
}

static uint64_t create(uint64_t dir, const char *name, uint32_t type) {
    int r = call((FSRequest){.type = FS_MSG_CREATE_FILE,
                             .file_id = dir,
                             .name = name_of(name),
                             .file_type = type,
                             .mode = 0644,
                             .time_ns = 1000});

    ck_assert_msg(r == 0, "create %s: %d", name, r);
    return response.attr.file_id;
}

static int remove_name(uint64_t dir, const char *name, uint16_t flags) {
    return call((FSRequest){
        .type = FS_MSG_DELETE_FILE, .flags = flags, .file_id = dir, .name = name_of(name)});
}

static int rename_to(uint64_t dir, const char *name, uint64_t dir2, const char *name2,
                     uint32_t flags) {
    return call((FSRequest){.type = FS_MSG_RENAME,
                            .file_id = dir,
                            .name = name_of(name),
                            .file_id2 = dir2,
                            .name2 = name_of(name2),
                            .rename_flags = flags});
}

static int write_at(uint64_t file_id, uint64_t offset, const void *bytes, uint32_t length) {
    return call((FSRequest){.type = FS_MSG_WRITE_FILE,
                            .file_id = file_id,
                            .offset = offset,
                            .length = length,
                            .payload = bytes,
                            .payload_length = length});
}

static int read_at(uint64_t file_id, uint64_t offset, uint32_t length) {
    return call((FSRequest){
        .type = FS_MSG_READ_FILE, .file_id = file_id, .offset = offset, .length = length});
}

static int evict(uint64_t file_id, uint64_t seen) {
    le64 id = le64_make(file_id);

    return call((FSRequest){.type = FS_MSG_EVICT,
                            .offset = seen,
                            .payload = (const uint8_t *)&id,
                            .payload_length = sizeof(id)});
}

START_TEST(test_mount_and_unmount) {
    char text[64] = "";

    ck_assert_int_eq(lookup(FS_ROOT_ID, "a"), -ENOTCONN);
    ck_assert_int_eq(mount_toy("uid=x"), -EINVAL);
    ck_assert_uint_gt(response.data_length, 0);
    ck_assert_int_eq(mount_toy("broken"), -EUCLEAN);
    memcpy(text, response.data, MIN(response.data_length, 63u));
    ck_assert_msg(strstr(text, "toy") != NULL, "text: %s", text);
    ck_assert_ptr_null(volume_fs(volume));

    ck_assert_int_eq(mount_toy("uid=5"), 0);
    ck_assert_uint_eq(response.attr.file_id, FS_ROOT_ID);
    ck_assert_uint_eq(response.flags & FS_RESP_ATTR, FS_RESP_ATTR);
    ck_assert_msg(memmem(response.data, response.data_length, "label=toy\n", 10) != NULL &&
                      memmem(response.data, response.data_length, "block_size=512\n", 15) != NULL &&
                      memmem(response.data, response.data_length, "readonly=0\n", 11) != NULL,
                  "mount answered: %.*s", (int)response.data_length, (const char *)response.data);
    ck_assert_int_eq(mount_toy(""), -EBUSY);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_UNMOUNT}), 0);
    ck_assert(!toy.mounted);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_UNMOUNT}), -ENOTCONN);
    ck_assert_int_eq(mount_toy(""), 0);
}
END_TEST

START_TEST(test_names) {
    uint64_t file, dir;
    uint64_t number = response.number;

    file = create(FS_ROOT_ID, "Readme", FS_TYPE_FILE);
    ck_assert_uint_gt(response.number, number);
    ck_assert_uint_eq(response.flags, FS_RESP_ATTR | FS_RESP_PARENT_ATTR | FS_RESP_EXACT);
    ck_assert_uint_eq(response.parent.file_id, FS_ROOT_ID);
    ck_assert_int_eq(response.parent.mtime_ns, 1000);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_CREATE_FILE,
                                      .file_id = FS_ROOT_ID,
                                      .name = name_of("README"),
                                      .file_type = FS_TYPE_FILE}),
                     -EEXIST);
    ck_assert_int_eq(lookup(FS_ROOT_ID, "README"), 0);
    ck_assert_uint_eq(response.attr.file_id, file);
    ck_assert_uint_eq(response.flags & FS_RESP_EXACT, 0);
    ck_assert_int_eq(lookup(FS_ROOT_ID, "Readme"), 0);
    ck_assert_uint_eq(response.flags & FS_RESP_EXACT, FS_RESP_EXACT);
    ck_assert_int_eq(lookup(FS_ROOT_ID, "other"), -ENOENT);
    ck_assert_int_eq(lookup(file, "x"), -ENOTDIR);
    ck_assert_int_eq(lookup(FS_ROOT_ID, "."), -EINVAL);
    ck_assert_int_eq(lookup(9999, "x"), -ESTALE);

    dir = create(FS_ROOT_ID, "dir", FS_TYPE_DIRECTORY);
    (void)create(dir, "inner", FS_TYPE_FILE);
    ck_assert_int_eq(remove_name(FS_ROOT_ID, "dir", 0), -EISDIR);
    ck_assert_int_eq(remove_name(FS_ROOT_ID, "Readme", FS_REQ_RMDIR), -ENOTDIR);
    ck_assert_int_eq(remove_name(FS_ROOT_ID, "dir", FS_REQ_RMDIR), -ENOTEMPTY);
    ck_assert_int_eq(remove_name(dir, "INNER", 0), 0);
    ck_assert_uint_eq(response.flags & FS_RESP_EXACT, 0);
    ck_assert_uint_eq(response.attr.nlink, 0);
    ck_assert_uint_eq(response.parent.file_id, dir);
    ck_assert_uint_eq(response.param1, response.attr.file_id);
    ck_assert_int_eq(remove_name(FS_ROOT_ID, "dir", FS_REQ_RMDIR), 0);
    ck_assert_int_eq(lookup(dir, "x"), -ENOENT); /* held, but no longer a live directory */
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_CREATE_FILE,
                                      .file_id = FS_ROOT_ID,
                                      .name = name_of("link"),
                                      .file_type = FS_TYPE_SYMLINK,
                                      .name2 = name_of("target")}),
                     -EPERM);
    ck_assert_int_eq(
        call((FSRequest){
            .type = FS_MSG_LINK, .file_id = file, .file_id2 = FS_ROOT_ID, .name = name_of("hard")}),
        -EPERM);
}
END_TEST

START_TEST(test_rename) {
    uint64_t a = create(FS_ROOT_ID, "a", FS_TYPE_DIRECTORY);
    uint64_t b = create(a, "b", FS_TYPE_DIRECTORY);
    uint64_t c = create(b, "c", FS_TYPE_DIRECTORY);
    uint64_t file = create(FS_ROOT_ID, "file", FS_TYPE_FILE);
    uint64_t other = create(a, "other", FS_TYPE_FILE);

    ck_assert_int_eq(rename_to(FS_ROOT_ID, "a", c, "a", 0), -EINVAL);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "a", a, "a", 0), -EINVAL);
    ck_assert_int_eq(rename_to(b, "c", FS_ROOT_ID, "a", 0), -ENOTEMPTY);
    ck_assert_int_eq(rename_to(a, "b", FS_ROOT_ID, "a", 0), -ENOTEMPTY);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "file", FS_ROOT_ID, "a", 0), -EISDIR);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "a", FS_ROOT_ID, "file", 0), -ENOTDIR);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "none", FS_ROOT_ID, "x", 0), -ENOENT);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "file", a, "other", FS_RENAME_NOREPLACE), -EEXIST);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "file", a, "none", FS_RENAME_EXCHANGE), -ENOENT);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "file", a, "other", FS_RENAME_EXCHANGE), -EINVAL);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "a", a, "b", FS_RENAME_EXCHANGE), -EINVAL);
    ck_assert_int_eq(rename_to(a, "b", FS_ROOT_ID, "a", FS_RENAME_EXCHANGE), -EINVAL);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "file", FS_ROOT_ID, "file", 0), 0);
    ck_assert_uint_eq(response.attr.file_id, file);
    ck_assert_uint_eq(response.param1, 0);

    ck_assert_int_eq(rename_to(FS_ROOT_ID, "file", a, "Other", 0), 0);
    ck_assert_uint_eq(response.attr.file_id, file);
    ck_assert_uint_eq(response.parent.file_id, a);
    ck_assert_uint_eq(response.param1, other);
    ck_assert_uint_eq(response.flags & FS_RESP_EXACT, 0);
    ck_assert_int_eq(lookup(a, "Other"), 0);
    ck_assert_uint_eq(response.attr.file_id, file);

    /* Another spelling of the same entry is a rename, even with NOREPLACE. */
    ck_assert_int_eq(rename_to(a, "Other", a, "OTHER", FS_RENAME_NOREPLACE), 0);
    ck_assert_int_eq(lookup(a, "OTHER"), 0);
    ck_assert_uint_eq(response.flags & FS_RESP_EXACT, FS_RESP_EXACT);

    ck_assert_int_eq(rename_to(b, "c", FS_ROOT_ID, "c", 0), 0);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "a", c, "a", 0), 0);
}
END_TEST

/* A ring of directories, as only a corrupt image has it, ends with an error and not in a loop. */
START_TEST(test_rename_in_a_ring) {
    uint64_t a = create(FS_ROOT_ID, "a", FS_TYPE_DIRECTORY);
    uint64_t b = create(a, "b", FS_TYPE_DIRECTORY);

    (void)create(FS_ROOT_ID, "d", FS_TYPE_DIRECTORY);
    toy_file(volume_fs(volume), a)->parent = b;
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "d", b, "d", 0), -EUCLEAN);
    ck_assert_uint_eq(response.flags, FS_RESP_READONLY); /* met while writing */
    toy_file(volume_fs(volume), a)->parent = FS_ROOT_ID;
}
END_TEST

START_TEST(test_data) {
    uint64_t file = create(FS_ROOT_ID, "f", FS_TYPE_FILE);
    static uint8_t bytes[3000];

    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7 + 1);
    }
    ck_assert_int_eq(read_at(file, 0, 100), 0);
    ck_assert_int_eq(write_at(file, 1000, bytes, 3000), 3000);
    ck_assert_uint_eq(response.attr.size, 4000);
    ck_assert_int_eq(read_at(file, 0, 8192), 4000);
    ck_assert_uint_eq(response.data_length, 4000);
    for (size_t i = 0; i < 1000; i++) {
        ck_assert_msg(response.data[i] == 0, "byte %zu of the gap is %u", i, response.data[i]);
    }
    ck_assert_mem_eq(response.data + 1000, bytes, 3000);
    ck_assert_int_eq(write_at(file, 10, "hello", 5), 5);
    ck_assert_int_eq(read_at(file, 9, 7), 7);
    ck_assert_mem_eq(response.data, "\0hello\0", 7);

    ck_assert_int_eq(write_at(file, 65000, bytes, 3000), -EFBIG);
    ck_assert_int_eq(write_at(file, UINT64_MAX - 5, bytes, 3), -EINVAL);
    ck_assert_int_eq(write_at(file, INT64_MAX - 5, bytes, 30), -EFBIG);
    ck_assert_int_eq(read_at(FS_ROOT_ID, 0, 10), -EISDIR);
    ck_assert_int_eq(
        call((FSRequest){.type = FS_MSG_SEEK, .file_id = file, .offset = 5, .mode = SEEK_HOLE}), 0);
    ck_assert_uint_eq(response.param1, 4000);
    ck_assert_int_eq(
        call((FSRequest){.type = FS_MSG_SEEK, .file_id = file, .offset = 5, .mode = SEEK_DATA}), 0);
    ck_assert_uint_eq(response.param1, 5);
    ck_assert_int_eq(
        call((FSRequest){.type = FS_MSG_SEEK, .file_id = file, .offset = 4000, .mode = SEEK_DATA}),
        -ENXIO);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_SET_ATTR,
                                      .file_id = file,
                                      .set = {.mask = FS_SET_SIZE, .size = 12}}),
                     0);
    ck_assert_uint_eq(response.attr.size, 12);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_FSYNC, .file_id = file}), 0);
    ck_assert_int_eq(
        call((FSRequest){
            .type = FS_MSG_GET_XATTR, .file_id = file, .name = name_of("user.x"), .length = 100}),
        -EOPNOTSUPP);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_STATFS}), 0);
    ck_assert_uint_eq(response.data_length, 56);
}
END_TEST

START_TEST(test_suid_falls_on_write) {
    uint64_t file = create(FS_ROOT_ID, "f", FS_TYPE_FILE);

    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_SET_ATTR,
                                      .file_id = file,
                                      .set = {.mask = FS_SET_MODE, .mode = 06755}}),
                     0);
    ck_assert_int_eq(write_at(file, 0, "x", 1), 1);
    ck_assert_uint_eq(response.attr.mode, 06755);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_WRITE_FILE,
                                      .flags = FS_REQ_KILL_SUIDGID,
                                      .file_id = file,
                                      .length = 1,
                                      .payload = (const uint8_t *)"y",
                                      .payload_length = 1}),
                     1);
    ck_assert_uint_eq(response.attr.mode, 0755);
}
END_TEST

START_TEST(test_list) {
    uint64_t cookie = 0;
    unsigned seen = 0, rounds = 0;
    bool end = false;

    for (unsigned i = 0; i < 20; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "file%u", i);
        (void)create(FS_ROOT_ID, name, FS_TYPE_FILE);
    }
    /* In core, and newer than what the filesystem's directory says. */
    ck_assert_int_eq(write_at(TOY_ID(3), 0, "abc", 3), 3);
    toy_file(volume_fs(volume), TOY_ID(3))->attr.size = 77;
    while (!end) {
        ck_assert_int_eq(
            call((FSRequest){
                .type = FS_MSG_LIST_DIR, .file_id = FS_ROOT_ID, .offset = cookie, .length = 1000}),
            0);
        ck_assert_uint_le(response.data_length, 1000);
        for (uint32_t at = 0; at < response.data_length;) {
            FsDirEntry entry;
            int r = fs_dirent_decode(response.data + at, response.data_length - at, &entry);

            ck_assert_int_gt(r, 0);
            at += (uint32_t)r;
            cookie = entry.cookie;
            ck_assert_uint_eq(entry.attr.size, entry.file_id == TOY_ID(3) ? 3 : 0);
            ck_assert_uint_eq(fs_inode_peek(volume_fs(volume), entry.file_id)->granted,
                              response.number);
            seen++;
        }
        end = (response.flags & FS_RESP_END) != 0;
        ck_assert_uint_lt(++rounds, 20);
    }
    ck_assert_uint_eq(seen, 20);
    ck_assert_uint_gt(rounds, 2);
    ck_assert_int_eq(
        call((FSRequest){.type = FS_MSG_LIST_DIR, .file_id = FS_ROOT_ID, .length = 50}), -EINVAL);
}
END_TEST

/* An unlinked file lives until the other side lets go, and not when the EVICT is outdated. */
START_TEST(test_unlinked_but_held) {
    uint64_t file = create(FS_ROOT_ID, "f", FS_TYPE_FILE);
    uint64_t granted = response.number;

    ck_assert_int_eq(write_at(file, 0, "data", 4), 4);
    ck_assert_int_eq(remove_name(FS_ROOT_ID, "f", 0), 0);
    ck_assert_int_eq(evict(file, granted - 1), 0);
    ck_assert_int_eq(read_at(file, 0, 10), 4);
    ck_assert_mem_eq(response.data, "data", 4);
    ck_assert_uint_eq(toy_blocks_used(volume_fs(volume)), 1);
    ck_assert_int_eq(evict(file, response.number), 0);
    ck_assert_uint_eq(toy_blocks_used(volume_fs(volume)), 0);
    ck_assert_int_eq(read_at(file, 0, 10), -ESTALE);
    ck_assert_int_eq(evict(file, response.number), 0); /* unknown ids are fine */
    ck_assert_int_eq(evict(FS_ROOT_ID, response.number), 0);
}
END_TEST

START_TEST(test_readonly) {
    uint64_t file = create(FS_ROOT_ID, "f", FS_TYPE_FILE);
    const uint8_t ro[] = "ro";

    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_REMOUNT, .payload = ro, .payload_length = 2}),
                     0);
    ck_assert_uint_eq(response.flags, FS_RESP_READONLY);
    ck_assert_int_eq(write_at(file, 0, "x", 1), -EROFS);
    ck_assert_int_eq(remove_name(FS_ROOT_ID, "f", 0), -EROFS);
    ck_assert_int_eq(rename_to(FS_ROOT_ID, "f", FS_ROOT_ID, "g", 0), -EROFS);
    ck_assert_int_eq(lookup(FS_ROOT_ID, "f"), 0);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_REMOUNT}), 0);
    ck_assert_int_eq(write_at(file, 0, "x", 1), 1);
    fs_set_readonly(volume_fs(volume), "broken");
    ck_assert_int_eq(lookup(FS_ROOT_ID, "f"), 0);
    ck_assert_uint_eq(response.flags & FS_RESP_READONLY, FS_RESP_READONLY);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_REMOUNT}), -EROFS);
}
END_TEST

START_TEST(test_stats) {
    Text text = {0};

    (void)create(FS_ROOT_ID, "f", FS_TYPE_FILE);
    (void)lookup(FS_ROOT_ID, "none");
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_GET_STATS, .length = 65536}), 0);
    text_append(&text, (const char *)response.data, response.data_length);
    ck_assert_ptr_nonnull(strstr(text_string(&text), "\"CREATE_FILE\""));
    ck_assert_uint_eq(volume_stats(volume)->errors[FS_MSG_LOOKUP], 1);
    ck_assert_uint_eq(volume_stats(volume)->latency[FS_MSG_CREATE_FILE].count, 1);
    text_done(&text);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_GET_STATS, .length = 10}), -ERANGE);
}
END_TEST

/* Every type, with fields from a list of nasty values: an answer, and nothing breaks. */
START_TEST(test_hostile_requests) {
    static const uint64_t values[] = {0,         1, 2, 100, 101, INT64_MAX, (uint64_t)INT64_MAX + 1,
                                      UINT64_MAX};
    static const char *const names[] = {"", ".", "..", "a/b", "f", "dir", "\xff\xfe", "x"};
    static uint8_t payload[512];
    unsigned seed = 20240501;

    (void)create(FS_ROOT_ID, "f", FS_TYPE_FILE);
    (void)create(FS_ROOT_ID, "dir", FS_TYPE_DIRECTORY);
#define PICK(list) ((list)[(unsigned)rand_r(&seed) % ARRAY_SIZE(list)])
    for (unsigned i = 0; i < 60000; i++) {
        FSRequest request = {
            .type = (uint16_t)(i % (FS_MSG_COUNT + 3)),
            .flags = (uint16_t)rand_r(&seed),
            .file_id = PICK(values),
            .file_id2 = PICK(values),
            .offset = PICK(values),
            .length64 = PICK(values),
            .length = (uint32_t)PICK(values),
            .mode = (uint32_t)PICK(values),
            .file_type = (uint32_t)rand_r(&seed) % 10,
            .rename_flags = (uint32_t)rand_r(&seed) % 8,
            .set = {.mask = (uint32_t)rand_r(&seed) % 1024, .size = PICK(values)},
            .name = name_of(PICK(names)),
            .name2 = name_of(PICK(names)),
            .payload = payload,
            .payload_length = (uint32_t)rand_r(&seed) % sizeof(payload),
        };

        if (request.type == FS_MSG_WRITE_FILE || request.type == FS_MSG_SET_XATTR) {
            request.length = request.payload_length;
        }
        (void)call(request);
        ck_assert_msg(response.result <= (int)FS_IO_MAX && response.result > -4096,
                      "step %u: %s gave %d", i, fs_message_name(request.type), response.result);
        ck_assert_uint_le(response.data_length, FS_IO_MAX);
        if (volume_fs(volume) == NULL) {
            ck_assert_int_eq(mount_toy(""), 0);
        }
    }
#undef PICK
}
END_TEST

START_TEST(test_reply_round_trip) {
    FSResponse original = {
        .type = FS_MSG_RENAME,
        .flags = FS_RESP_ATTR | FS_RESP_PARENT_ATTR | FS_RESP_EXACT,
        .result = 0,
        .param1 = 77,
        .attr = {.file_id = 5,
                 .generation = 3,
                 .type = FS_TYPE_FILE,
                 .mode = 0644,
                 .nlink = 1,
                 .uid = 1000,
                 .gid = 100,
                 .rdev = 9,
                 .block_size = 4096,
                 .size = 123456789012,
                 .blocks = 99,
                 .atime_ns = -5,
                 .mtime_ns = 6,
                 .ctime_ns = 7,
                 .btime_ns = INT64_MIN},
        .parent = {.file_id = 1, .type = FS_TYPE_DIRECTORY, .mode = 0755, .nlink = 2},
    };
    FSResponse decoded;
    uint8_t buf[SERVICE_REPLY_MAX];
    int length = service_reply_encode(&original, buf, sizeof(buf));

    ck_assert_int_gt(length, 0);
    ck_assert_int_eq(service_reply_decode(buf, (uint32_t)length, &decoded), 0);
    ck_assert_int_eq(memcmp(&original, &decoded, sizeof(original)), 0);
    ck_assert_int_eq(service_reply_decode(buf, (uint32_t)length - 1, &decoded), -EPROTO);
    ck_assert_int_eq(service_reply_encode(&original, buf, 200 - 1), -EMSGSIZE);
    original = (FSResponse){.type = FS_MSG_WRITE_FILE, .result = -ENOSPC};
    length = service_reply_encode(&original, buf, sizeof(buf));
    ck_assert_int_eq(length, 24);
    ck_assert_int_eq(service_reply_decode(buf, 24, &decoded), 0);
    ck_assert_int_eq(decoded.result, -ENOSPC);
    for (unsigned i = 0; i < 24; i++) {
        uint8_t bent[24];

        memcpy(bent, buf, sizeof(bent));
        bent[i] = 0xff;
        (void)service_reply_decode(bent, sizeof(bent), &decoded); /* an answer, whichever */
    }
}
END_TEST

/* The callback form: once, from a fiber, never before the call has returned. */
typedef struct AsyncSeen {
    unsigned calls;
    bool returned, too_early, in_fiber;
    int32_t result;
} AsyncSeen;

static void async_done(void *ctx, FSResponse *answer) {
    AsyncSeen *seen = ctx;

    seen->calls++;
    seen->too_early = !seen->returned;
    seen->in_fiber = fiber_self() != NULL;
    seen->result = answer->result;
}

/* Replaces the fixture's volume by one with a loop, used from outside fibers: calls drive it. */
static Loop *enter_loop(void) {
    Loop *loop;

    ck_assert_int_eq(loop_new(&(LoopConfig){.no_ring = true}, &loop), 0);
    volume = volume_free(volume);
    client = local_client_free(client);
    ck_assert_int_eq(volume_new(&toy_type, device, loop, &volume), 0);
    ck_assert_int_eq(local_client_new(volume, &client), 0);
    ck_assert_int_eq(mount_toy(""), 0);
    return loop;
}

static void leave_loop(Loop *loop) {
    client = local_client_free(client);
    volume = volume_free(volume); /* unmounts, driving the loop */
    ck_assert(!toy.mounted);
    loop_free(loop);
}

START_TEST(test_local_over_a_loop) {
    const FSRequest stat = {.type = FS_MSG_GET_ATTR, .file_id = FS_ROOT_ID};
    const ServiceBuffers buffers = {0};
    AsyncSeen seen = {0};
    Loop *loop = enter_loop();

    toy.load_yields = 3;
    (void)create(FS_ROOT_ID, "f", FS_TYPE_FILE);
    ck_assert_int_eq(lookup(FS_ROOT_ID, "f"), 0);
    ck_assert_int_eq(fs_op_async(volume, &stat, &buffers, async_done, &seen), 0);
    seen.returned = true;
    ck_assert_uint_eq(seen.calls, 0);
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(loop_step(loop, false), 0);
    }
    ck_assert_uint_eq(seen.calls, 1);
    ck_assert(!seen.too_early && seen.in_fiber);
    ck_assert_int_eq(seen.result, 0);
    leave_loop(loop);
}
END_TEST

START_TEST(test_crowd) {
    Loop *loop = enter_loop();

    crowd_run(volume, loop, 40u + (unsigned)_i, 3000);
    leave_loop(loop);
}
END_TEST

/* ---- the serve loop, in a process of its own ---- */

START_TEST(test_serve_a_session) {
    static Peer peer;
    ArenaSlot out, in;
    uint64_t file;

    ck_assert_int_eq(peer_start(&peer, "toy"), 0);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_PING}), 0);
    ck_assert_uint_eq(peer.response.number, 1);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_GET_ATTR, .file_id = 1}),
                     -ENOTCONN);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_MOUNT}), 0);
    ck_assert_uint_eq(peer.response.number, 3);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_CREATE_FILE,
                                                  .file_id = FS_ROOT_ID,
                                                  .name = name_of("f"),
                                                  .mode = 0644,
                                                  .file_type = FS_TYPE_FILE}),
                     0);
    file = peer.response.attr.file_id;
    ck_assert_int_eq(arena_slot_get(peer.written, 50000, false, &out), 0);
    ck_assert_int_eq(arena_slot_get(peer.read, 60000, false, &in), 0);
    for (unsigned i = 0; i < 50000; i++) {
        out.data[i] = (uint8_t)(i * 31 >> 3);
    }
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_WRITE_FILE,
                                                  .flags = FS_REQ_ARENA,
                                                  .file_id = file,
                                                  .offset = 100,
                                                  .length = 50000,
                                                  .arena_offset = out.offset,
                                                  .arena_length = out.length}),
                     50000);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_READ_FILE,
                                                  .flags = FS_REQ_ARENA,
                                                  .file_id = file,
                                                  .length = 60000,
                                                  .arena_offset = in.offset,
                                                  .arena_length = in.length}),
                     50100);
    ck_assert_uint_eq(peer.response.flags & FS_RESP_ARENA, FS_RESP_ARENA);
    ck_assert_mem_eq(in.data + 100, out.data, 50000);
    ck_assert_int_eq(
        peer_call(&peer, (FSRequest){.type = FS_MSG_READ_FILE, .file_id = file, .length = 4000}),
        4000);
    ck_assert_mem_eq(peer.response.data + 100, out.data, 3900);
    ck_assert_int_eq(
        peer_call(&peer,
                  (FSRequest){.type = FS_MSG_LIST_DIR, .file_id = FS_ROOT_ID, .length = 4000}),
        0);
    ck_assert_uint_eq(peer.response.flags & FS_RESP_END, FS_RESP_END);
    arena_slot_put(peer.written, &out);
    arena_slot_put(peer.read, &in);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_UNMOUNT}), 0);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_SHUTDOWN}), 0);
    ck_assert_int_eq(peer_receive(&peer), -EPIPE);
    ck_assert_int_eq(peer_end(&peer), 0);
}
END_TEST

/* Many at once: every one answered, once, numbered in the order of arrival here. */
START_TEST(test_serve_many_at_once) {
    static Peer peer;
    uint64_t number, expected = 0;
    bool answered[PEER_SLOTS] = {false};

    ck_assert_int_eq(peer_start(&peer, "toy"), 0);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_MOUNT}), 0);
    number = peer.response.number;
    peer.seq = 100;
    for (unsigned slot = 0; slot < PEER_SLOTS; slot++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "file%u", slot);
        peer_send(&peer, &(FSRequest){.type = FS_MSG_CREATE_FILE,
                                      .request_id = fs_request_id((uint16_t)slot, 100),
                                      .file_id = FS_ROOT_ID,
                                      .name = name_of(name),
                                      .file_type = FS_TYPE_FILE});
    }
    for (unsigned i = 0; i < PEER_SLOTS; i++) {
        ck_assert_int_eq(peer_receive(&peer), 0);
        ck_assert_int_eq(peer.response.result, 0);
        ck_assert_uint_eq(peer.response.number, number + ++expected);
        ck_assert(!answered[fs_request_slot(peer.response.request_id)]);
        answered[fs_request_slot(peer.response.request_id)] = true;
    }
    ck_assert_int_eq(peer_end(&peer), 0); /* end of file without UNMOUNT: in order as well */
}
END_TEST

START_TEST(test_serve_refuses_a_type) {
    static Peer peer;

    ck_assert_int_eq(peer_start(&peer, "nonesuch"), -ENODEV);
    ck_assert_int_eq(peer_end(&peer), 1);
}
END_TEST

/* Each breaks the protocol after a good MOUNT: no answer, end of file, exit code 1. */
START_TEST(test_serve_broken_protocol) {
    static Peer peer;

    ck_assert_int_eq(peer_start(&peer, "toy"), 0);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_MOUNT}), 0);
    switch (_i) {
    case 0: /* the same request_id again */
        peer_send(&peer, &(FSRequest){.type = FS_MSG_PING, .request_id = fs_request_id(0, 1)});
        break;
    case 1: /* a slot that was not agreed on */
        peer_send(&peer,
                  &(FSRequest){.type = FS_MSG_PING, .request_id = fs_request_id(PEER_SLOTS, 9)});
        break;
    case 2: /* payload outside the arena */
        peer_send(&peer, &(FSRequest){.type = FS_MSG_WRITE_FILE,
                                      .flags = FS_REQ_ARENA,
                                      .request_id = fs_request_id(1, 1),
                                      .file_id = 100,
                                      .length = 5000,
                                      .arena_offset = arena_size(peer.written),
                                      .arena_length = 65536});
        break;
    case 3: /* results outside the arena */
        peer_send(&peer, &(FSRequest){.type = FS_MSG_READ_FILE,
                                      .flags = FS_REQ_ARENA,
                                      .request_id = fs_request_id(1, 1),
                                      .file_id = 100,
                                      .length = 5000,
                                      .arena_offset = arena_size(peer.read) - 4096,
                                      .arena_length = 65536});
        break;
    default: /* not a message at all */
        ck_assert_int_eq(channel_send(peer.channel, "hello", 5), 0);
        break;
    }
    ck_assert_int_eq(peer_receive(&peer), -EPIPE);
    ck_assert_int_eq(peer_end(&peer), 1);
}
END_TEST

START_TEST(test_serve_sigterm) {
    static Peer peer;

    ck_assert_int_eq(peer_start(&peer, "toy"), 0);
    ck_assert_int_eq(peer_call(&peer, (FSRequest){.type = FS_MSG_MOUNT}), 0);
    ck_assert_int_eq(kill(peer.pid, SIGTERM), 0);
    ck_assert_int_eq(peer_receive(&peer), -EPIPE);
    ck_assert_int_eq(peer_end(&peer), 0);
}
END_TEST

static Suite *service_suite(void) {
    Suite *suite = suite_create("service");
    TCase *plain = tcase_create("plain");
    TCase *mounted = tcase_create("mounted");
    TCase *serve = tcase_create("serve");

    tcase_add_checked_fixture(plain, setup, teardown);
    tcase_add_test(plain, test_mount_and_unmount);
    tcase_add_test(plain, test_reply_round_trip);
    tcase_add_test(plain, test_local_over_a_loop);
    tcase_add_loop_test(plain, test_crowd, 0, 5);
    suite_add_tcase(suite, plain);
    tcase_add_checked_fixture(mounted, setup_mounted, teardown);
    tcase_add_test(mounted, test_names);
    tcase_add_test(mounted, test_rename);
    tcase_add_test(mounted, test_rename_in_a_ring);
    tcase_add_test(mounted, test_data);
    tcase_add_test(mounted, test_suid_falls_on_write);
    tcase_add_test(mounted, test_list);
    tcase_add_test(mounted, test_unlinked_but_held);
    tcase_add_test(mounted, test_readonly);
    tcase_add_test(mounted, test_stats);
    tcase_add_test(mounted, test_hostile_requests);
    suite_add_tcase(suite, mounted);
    tcase_add_test(serve, test_serve_a_session);
    tcase_add_test(serve, test_serve_many_at_once);
    tcase_add_test(serve, test_serve_refuses_a_type);
    tcase_add_loop_test(serve, test_serve_broken_protocol, 0, 5);
    tcase_add_test(serve, test_serve_sigterm);
    suite_add_tcase(suite, serve);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(service_suite());
    int failed;

    log_init("test_service", LOG_LEVEL_ERROR);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
