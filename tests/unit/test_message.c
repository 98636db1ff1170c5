/* SPDX-License-Identifier: MIT */
/*
 * Messages, directory entries and HELLO: what is encoded decodes to the same
 * fields; whatever is done to the bytes, decoding refuses it or yields a value
 * that encodes to exactly those bytes. Random cases print their seed.
 */
#include <check.h>
#include <stdio.h>

#include "berth/channel.h"
#include "berth/message.h"

#include "../protocol/samples.h"

/* ---- comparing ---- */

#define SAME(field) ck_assert_msg(a->field == b->field, "%s: " #field, fs_message_name(a->type))

static void assert_same_name(const FsName *a, const FsName *b) {
    ck_assert_uint_eq(a->length, b->length);
    ck_assert(a->length == 0 || memcmp(a->text, b->text, a->length) == 0);
}

static void assert_same_request(const FSRequest *a, const FSRequest *b) {
    SAME(type);
    SAME(flags);
    SAME(request_id);
    SAME(file_id);
    SAME(file_id2);
    SAME(offset);
    SAME(length64);
    SAME(length);
    SAME(deadline_ms);
    SAME(uid);
    SAME(gid);
    SAME(pid);
    SAME(time_ns);
    SAME(mode);
    SAME(file_type);
    SAME(rdev);
    SAME(rename_flags);
    SAME(arena_offset);
    SAME(arena_length);
    SAME(payload_length);
    SAME(set.mask);
    SAME(set.mode);
    SAME(set.uid);
    SAME(set.gid);
    SAME(set.size);
    SAME(set.atime_ns);
    SAME(set.mtime_ns);
    SAME(set.ctime_ns);
    SAME(set.btime_ns);
    assert_same_name(&a->name, &b->name);
    assert_same_name(&a->name2, &b->name2);
    ck_assert(a->payload_length == 0 || memcmp(a->payload, b->payload, a->payload_length) == 0);
}

static void assert_same_attr(const FsAttr *a, const FsAttr *b) {
    SAME(file_id);
    SAME(generation);
    SAME(type);
    SAME(mode);
    SAME(nlink);
    SAME(uid);
    SAME(gid);
    SAME(rdev);
    SAME(block_size);
    SAME(size);
    SAME(blocks);
    SAME(atime_ns);
    SAME(mtime_ns);
    SAME(ctime_ns);
    SAME(btime_ns);
}

static void assert_same_response(const FSResponse *a, const FSResponse *b) {
    SAME(type);
    SAME(flags);
    SAME(request_id);
    SAME(number);
    SAME(result);
    SAME(data_length);
    SAME(param1);
    SAME(param2);
    assert_same_attr(&a->attr, &b->attr);
    assert_same_attr(&a->parent, &b->parent);
    ck_assert((a->data == NULL) == (b->data == NULL));
    ck_assert(a->data == NULL || memcmp(a->data, b->data, a->data_length) == 0);
}

/* ---- round trips ---- */

#define ROUNDS 100

START_TEST(request_round_trip) {
    unsigned type = (unsigned)_i;
    static uint8_t buf[FS_MESSAGE_MAX];
    char text[128] = "";

    for (unsigned seed = 1; seed <= ROUNDS; seed++) {
        FSRequest request, back;
        int n, r;

        random_state = seed * 1000003u + type;
        request = random_request(type);
        n = fs_request_encode(&request, buf, sizeof(buf));
        ck_assert_msg(n >= (int)FS_REQUEST_HEADER, "%s seed %u: %d", fs_message_name(type), seed,
                      n);
        r = fs_request_decode(buf, (size_t)n, &back, text);
        ck_assert_msg(r == 0, "%s seed %u: %d %s", fs_message_name(type), seed, r, text);
        assert_same_request(&request, &back);
        ck_assert_int_eq(fs_request_encode(&request, buf, (size_t)n - 1), -EMSGSIZE);
    }
}
END_TEST

START_TEST(response_round_trip) {
    unsigned type = (unsigned)_i;
    static uint8_t buf[FS_MESSAGE_MAX];
    char text[128] = "";

    for (unsigned seed = 1; seed <= ROUNDS; seed++) {
        FSResponse response, back;
        int n, r;

        random_state = seed * 1000003u + type;
        response = random_response(type);
        n = fs_response_encode(&response, buf, sizeof(buf));
        ck_assert_msg(n >= (int)FS_RESPONSE_HEADER, "%s seed %u: %d", fs_message_name(type), seed,
                      n);
        r = fs_response_decode(buf, (size_t)n, &back, text);
        ck_assert_msg(r == 0, "%s seed %u: %d %s", fs_message_name(type), seed, r, text);
        assert_same_response(&response, &back);
        ck_assert_int_eq(fs_response_encode(&response, buf, (size_t)n - 1), -EMSGSIZE);
    }
}
END_TEST

START_TEST(failure_round_trip) {
    unsigned type = (unsigned)_i;
    FSResponse response = {.type = (uint16_t)type, .number = 1, .result = -ENOENT}, back;
    static uint8_t buf[FS_MESSAGE_MAX];
    int n = fs_response_encode(&response, buf, sizeof(buf));

    ck_assert_int_eq(n, FS_RESPONSE_HEADER);
    ck_assert_int_eq(fs_response_decode(buf, (size_t)n, &back, NULL), 0);
    ck_assert_int_eq(back.result, -ENOENT);
}
END_TEST

/* ---- hostile bytes ---- */

/* The bytes lie at the end of an allocation of their own, so that a sanitizer sees every overrun.
 */
static bool request_is_canonical(const uint8_t *bytes, size_t length) {
    _cleanup_free_ uint8_t *copy = malloc(length > 0 ? length : 1);
    static uint8_t again[FS_MESSAGE_MAX];
    char text[128] = "", line[256];
    FSRequest request;
    int r;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, length);
    r = fs_request_decode(copy, length, &request, text);
    if (r < 0) {
        ck_assert_int_eq(r, -EPROTO);
        ck_assert(text[0] != '\0');
        return true;
    }
    (void)fs_request_to_text(&request, line, sizeof(line));
    return fs_request_encode(&request, again, sizeof(again)) == (int)length &&
           memcmp(again, bytes, length) == 0;
}

static bool response_is_canonical(const uint8_t *bytes, size_t length) {
    _cleanup_free_ uint8_t *copy = malloc(length > 0 ? length : 1);
    static uint8_t again[FS_MESSAGE_MAX];
    char text[128] = "", line[256];
    FSResponse response;
    int r;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, length);
    r = fs_response_decode(copy, length, &response, text);
    if (r < 0) {
        ck_assert_int_eq(r, -EPROTO);
        ck_assert(text[0] != '\0');
        return true;
    }
    (void)fs_response_to_text(&response, line, sizeof(line));
    return fs_response_encode(&response, again, sizeof(again)) == (int)length &&
           memcmp(again, bytes, length) == 0;
}

/* Every bit of the header and of the body's ends flipped, every length from nothing to all. */
static void try_all_damage(uint8_t *buf, size_t length, size_t header,
                           bool (*canonical)(const uint8_t *, size_t), const char *what) {
    ck_assert_msg(canonical(buf, length), "%s", what);
    for (size_t at = 0; at < length; at++) {
        if (at > header + 16 && at + 16 < length) {
            continue;
        }
        for (unsigned bit = 0; bit < 8; bit++) {
            buf[at] ^= (uint8_t)(1u << bit);
            ck_assert_msg(canonical(buf, length), "%s: byte %zu bit %u", what, at, bit);
            buf[at] ^= (uint8_t)(1u << bit);
        }
    }
    for (size_t cut = 0; cut < length; cut++) {
        ck_assert_msg(canonical(buf, cut), "%s: cut to %zu", what, cut);
    }
}

START_TEST(request_damaged) {
    unsigned type = (unsigned)_i;
    static uint8_t buf[FS_MESSAGE_MAX];

    for (unsigned seed = 1; seed <= 4; seed++) {
        char what[64];
        FSRequest request;
        int n;

        random_state = seed * 7919u + type;
        request = random_request(type);
        n = fs_request_encode(&request, buf, sizeof(buf));
        ck_assert_int_gt(n, 0);
        (void)snprintf(what, sizeof(what), "%s seed %u", fs_message_name(type), seed);
        try_all_damage(buf, (size_t)n, FS_REQUEST_HEADER, request_is_canonical, what);
    }
}
END_TEST

START_TEST(response_damaged) {
    unsigned type = (unsigned)_i;
    static uint8_t buf[FS_MESSAGE_MAX];

    for (unsigned seed = 1; seed <= 4; seed++) {
        char what[64];
        FSResponse response;
        int n;

        random_state = seed * 7919u + type;
        response = random_response(type);
        n = fs_response_encode(&response, buf, sizeof(buf));
        ck_assert_int_gt(n, 0);
        (void)snprintf(what, sizeof(what), "%s seed %u", fs_message_name(type), seed);
        try_all_damage(buf, (size_t)n, FS_RESPONSE_HEADER, response_is_canonical, what);
    }
}
END_TEST

/* Bytes of a header at fixed places, by the page: what must be refused, and with which word. */
static void assert_patched(const FSRequest *request, size_t offset, uint64_t value, size_t size,
                           const char *word) {
    static uint8_t buf[FS_MESSAGE_MAX];
    char text[128] = "";
    FSRequest back;
    int n = fs_request_encode(request, buf, sizeof(buf));

    ck_assert_int_gt(n, 0);
    for (size_t i = 0; i < size; i++) {
        buf[offset + i] = (uint8_t)(value >> (8 * i));
    }
    ck_assert_int_eq(fs_request_decode(buf, (size_t)n, &back, text), -EPROTO);
    ck_assert_msg(strstr(text, word) != NULL, "\"%s\" does not say %s", text, word);
}

START_TEST(request_refused) {
    FSRequest read = {.type = FS_MSG_READ_FILE, .file_id = 2, .length = 4096};
    FSRequest lookup = {.type = FS_MSG_LOOKUP, .file_id = 1, .name = {"abc", 3}};
    FSRequest create = {
        .type = FS_MSG_CREATE_FILE, .file_id = 1, .file_type = FS_TYPE_FILE, .name = {"abc", 3}};
    FSRequest set = {.type = FS_MSG_SET_ATTR, .file_id = 2};
    uint8_t ids[8] = {1};
    FSRequest evict = {.type = FS_MSG_EVICT, .payload = ids, .payload_length = 8};
    FSRequest mount = {.type = FS_MSG_MOUNT}, fence = {.type = FS_MSG_FENCE};

    assert_patched(&read, 0, 0x41414141, 4, "magic");
    assert_patched(&read, 4, 2, 2, "version");
    assert_patched(&read, 6, FS_MSG_COUNT, 2, "type");
    assert_patched(&read, 8, FS_REQUEST_HEADER + 8, 4, "total_length");
    assert_patched(&read, 12, 0x8000, 2, "flags");
    assert_patched(&read, 12, FS_REQ_RMDIR, 2, "flags");
    assert_patched(&read, 12, FS_REQ_ARENA, 2, "arena_length");
    assert_patched(&read, 14, 8, 2, "name");
    assert_patched(&read, 24, 0, 8, "file_id");
    assert_patched(&read, 32, 5, 8, "file_id2");
    assert_patched(&read, 40, INT64_MAX, 8, "offset");
    assert_patched(&read, 40, UINT64_MAX, 8, "offset");
    assert_patched(&read, 64, 4097, 4, "length");
    assert_patched(&read, 112, 1, 4, "set_mask");
    assert_patched(&read, 170, 1, 2, "reserved");
    assert_patched(&read, 172, 0xfffffff8, 4, "payload");
    assert_patched(&read, 191, 1, 1, "reserved");
    assert_patched(&lookup, 192, '/', 1, "'/'");
    assert_patched(&lookup, 193, 0, 1, "NUL");
    assert_patched(&lookup, 195, 1, 1, "padding");
    assert_patched(&create, 96, 010000, 4, "mode");
    assert_patched(&create, 100, FS_TYPE_COUNT, 4, "file_type");
    assert_patched(&create, 100, FS_TYPE_UNKNOWN, 4, "file_type");
    assert_patched(&create, 100, FS_TYPE_SYMLINK, 4, "target");
    assert_patched(&create, 104, 1, 4, "rdev");
    assert_patched(&set, 112, 0x200, 4, "set.mask");
    assert_patched(&set, 120, 1, 4, "set_uid");
    assert_patched(&evict, 192, 0, 1, "file_id 0");
    assert_patched(&evict, 172, 4, 4, "payload");
    assert_patched(&mount, 40, 1, 8, "offset"); /* only with RECOVER */
    assert_patched(&fence, 12, FS_REQ_RECOVER, 2, "flags");
    assert_patched(&fence, 24, 1, 8, "file_id");
}
END_TEST

START_TEST(request_inexpressible) {
    static char name[300];
    static uint8_t buf[FS_MESSAGE_MAX], big[FS_INLINE_MAX + 1] = {0};
    FSRequest request = {.type = FS_MSG_LOOKUP, .file_id = 1, .name = {name, 256}};

    memset(name, 'x', sizeof(name));
    ck_assert_int_eq(fs_request_encode(&request, buf, sizeof(buf)), -EINVAL);
    request.name.length = 0;
    ck_assert_int_eq(fs_request_encode(&request, buf, sizeof(buf)), -EINVAL);
    request.name.length = 255;
    ck_assert_int_gt(fs_request_encode(&request, buf, sizeof(buf)), 0);
    request.flags = FS_REQ_DATASYNC;
    ck_assert_int_eq(fs_request_encode(&request, buf, sizeof(buf)), -EINVAL);
    request = (FSRequest){.type = FS_MSG_COUNT};
    ck_assert_int_eq(fs_request_encode(&request, buf, sizeof(buf)), -EINVAL);
    request = (FSRequest){.type = FS_MSG_WRITE_FILE,
                          .file_id = 2,
                          .length = sizeof(big),
                          .payload = big,
                          .payload_length = sizeof(big)};
    ck_assert_int_eq(fs_request_encode(&request, buf, sizeof(buf)), -EINVAL);
}
END_TEST

/* Fields that a type does not use stay behind; a value's length is filled in. */
START_TEST(request_unused_dropped) {
    static uint8_t buf[FS_MESSAGE_MAX], value[3] = {1, 2, 3};
    FSRequest request = {.type = FS_MSG_PING, .file_id = 7, .offset = 8, .mode = 9, .rdev = 1};
    FSRequest back;
    int n = fs_request_encode(&request, buf, sizeof(buf));

    ck_assert_int_eq(n, FS_REQUEST_HEADER);
    ck_assert_int_eq(fs_request_decode(buf, (size_t)n, &back, NULL), 0);
    ck_assert(back.file_id == 0 && back.offset == 0 && back.mode == 0 && back.rdev == 0);

    request = (FSRequest){.type = FS_MSG_SET_XATTR,
                          .file_id = 2,
                          .name = {"user.a/b", 8},
                          .payload = value,
                          .payload_length = 3};
    n = fs_request_encode(&request, buf, sizeof(buf));
    ck_assert_int_eq(n, FS_REQUEST_HEADER + 8 + 8);
    ck_assert_int_eq(fs_request_decode(buf, (size_t)n, &back, NULL), 0);
    ck_assert_uint_eq(back.length, 3);
}
END_TEST

START_TEST(response_refused) {
    static uint8_t buf[FS_MESSAGE_MAX];
    FsAttr attr = {.file_id = 2, .type = FS_TYPE_FILE, .mode = 0644};
    FSResponse good = {.type = FS_MSG_LOOKUP, .number = 1, .flags = FS_RESP_ATTR, .attr = attr};
    FSResponse bad;

    ck_assert_int_gt(fs_response_encode(&good, buf, sizeof(buf)), 0);
#define REFUSED(assignment)                                                    \
    do {                                                                       \
        bad = good;                                                            \
        assignment;                                                            \
        ck_assert_int_eq(fs_response_encode(&bad, buf, sizeof(buf)), -EINVAL); \
    } while (0)
    REFUSED(bad.number = 0);
    REFUSED(bad.flags = 0);
    REFUSED(bad.flags |= FS_RESP_ARENA);
    REFUSED(bad.result = 1);
    REFUSED(bad.result = -4096);
    REFUSED(bad.data_length = 8);
    REFUSED(bad.attr.type = FS_TYPE_UNKNOWN);
    REFUSED(bad.attr.type = FS_TYPE_COUNT);
    REFUSED(bad.attr.mode = 010000);
    REFUSED(bad.attr.file_id = 0);
    REFUSED(bad.attr.size = (uint64_t)INT64_MAX + 1);
    REFUSED(bad.type = FS_MSG_STATFS; bad.flags = 0);
    REFUSED(bad.type = FS_MSG_READ_FILE; bad.result = 4);
    REFUSED(bad.type = FS_MSG_READ_FILE; bad.result = (int32_t)FS_IO_MAX + 1);
#undef REFUSED
}
END_TEST

/* ---- directory entries ---- */

static FsDirEntry sample_entry(void) {
    FsDirEntry entry = {.name = "h\xc3\xa9llo.txt",
                        .name_length = 10,
                        .cookie = 77,
                        .file_id = 12,
                        .position = 4096,
                        .type = FS_TYPE_FILE,
                        .has_attr = true};

    random_state = 3;
    entry.attr = random_attr();
    entry.attr.file_id = entry.file_id;
    entry.attr.type = (uint32_t)entry.type;
    return entry;
}

START_TEST(dirent_round_trip) {
    FsDirEntry entry = sample_entry(), back;
    uint8_t buf[1024];
    int first, second;

    first = fs_dirent_encode(&entry, buf, sizeof(buf));
    ck_assert_int_eq(first, FS_DIRENT_HEADER + 16);
    entry.has_attr = false;
    second = fs_dirent_encode(&entry, buf + first, sizeof(buf) - (size_t)first);
    ck_assert_int_eq(second, first);
    ck_assert_int_eq(fs_dirent_encode(&entry, buf, (size_t)first - 1), -EMSGSIZE);

    ck_assert_int_eq(fs_dirent_decode(buf, (size_t)(first + second), &back), first);
    ck_assert(back.has_attr && back.cookie == 77 && back.file_id == 12 && back.position == 4096);
    ck_assert_uint_eq(back.name_length, entry.name_length);
    ck_assert_int_eq(memcmp(back.name, entry.name, entry.name_length), 0);
    assert_same_attr(&entry.attr, &back.attr);
    ck_assert_int_eq(fs_dirent_decode(buf + first, (size_t)second, &back), second);
    ck_assert(!back.has_attr);
}
END_TEST

START_TEST(dirent_random) {
    uint8_t buf[512];

    for (unsigned seed = 1; seed <= ROUNDS; seed++) {
        FsDirEntry entry, back;
        int n;

        random_state = seed * 1000003u;
        entry = random_entry();
        n = fs_dirent_encode(&entry, buf, sizeof(buf));
        ck_assert_msg(n > 0, "seed %u", seed);
        ck_assert_msg(fs_dirent_decode(buf, (size_t)n, &back) == n, "seed %u", seed);
        ck_assert(back.cookie == entry.cookie && back.position == entry.position);
        ck_assert(back.type == entry.type && back.has_attr == entry.has_attr);
        assert_same_attr(&entry.attr, &back.attr);
    }
}
END_TEST

START_TEST(dirent_damaged) {
    FsDirEntry entry = sample_entry(), back;
    uint8_t buf[256], again[256];
    int n = fs_dirent_encode(&entry, buf, sizeof(buf));

    ck_assert_int_gt(n, 0);
    for (int at = 0; at < n; at++) {
        for (unsigned value = 0; value < 256; value++) {
            uint8_t saved = buf[at];
            int r;

            buf[at] = (uint8_t)value;
            r = fs_dirent_decode(buf, (size_t)n, &back);
            if (r != -EPROTO) {
                ck_assert_int_eq(fs_dirent_encode(&back, again, sizeof(again)), r);
                ck_assert_msg(memcmp(again, buf, (size_t)r) == 0, "byte %d value %u", at, value);
            }
            buf[at] = saved;
        }
    }
    for (int cut = 0; cut < n; cut++) {
        _cleanup_free_ uint8_t *copy = malloc((size_t)cut + 1);

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, buf, (size_t)cut);
        ck_assert_int_eq(fs_dirent_decode(copy, (size_t)cut, &back), -EPROTO);
    }
}
END_TEST

START_TEST(dirent_names) {
    static const char *const bad[] = {".", "..", "a/b", "\xff", "\xc0\xaf", "\xed\xa0\x80"};
    FsDirEntry entry = sample_entry();
    uint8_t buf[1024];

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        entry.name = bad[i];
        entry.name_length = (uint32_t)strlen(bad[i]);
        ck_assert_msg(fs_dirent_encode(&entry, buf, sizeof(buf)) == -EINVAL, "\"%s\"", bad[i]);
    }
    entry.name = "...";
    entry.name_length = 3;
    ck_assert_int_gt(fs_dirent_encode(&entry, buf, sizeof(buf)), 0);
    /* The attributes must be this entry's. */
    entry.attr.file_id++;
    ck_assert_int_eq(fs_dirent_encode(&entry, buf, sizeof(buf)), -EINVAL);
}
END_TEST

/* ---- HELLO ---- */

static Hello sample_hello(void) {
    Hello hello = {.version = 1,
                   .features = HELLO_FEATURE_ARENA,
                   .epoch = 3,
                   .slots = 256,
                   .arena_out_size = 1 << 20,
                   .arena_in_size = 1 << 21,
                   .image_start = 1 << 20,
                   .image_length = 1 << 30,
                   .readonly = true,
                   .type = "fat",
                   .source = "/dev/sdb1",
                   .pid = 42};

    return hello;
}

START_TEST(hello_round_trip) {
    Hello hello = sample_hello(), back;
    uint8_t buf[HELLO_SIZE];

    (void)snprintf(hello.source, sizeof(hello.source), "a\nb\x1b[31m");
    (void)snprintf(hello.text, sizeof(hello.text), "no such volume");
    hello.result = -ENODEV;
    hello_encode(&hello, buf);
    ck_assert_int_eq(hello_decode(buf, sizeof(buf), &back, NULL), 0);
    ck_assert_str_eq(back.source, "a?b?[31m");
    ck_assert_str_eq(back.text, "no such volume");
    ck_assert_str_eq(back.type, "fat");
    ck_assert(back.version == 1 && back.features == HELLO_FEATURE_ARENA && back.epoch == 3);
    ck_assert(back.slots == 256 && back.arena_out_size == 1 << 20 && back.pid == 42);
    ck_assert(back.arena_in_size == 1 << 21 && back.image_start == 1 << 20 && back.readonly);
    ck_assert(back.image_length == 1 << 30 && back.result == -ENODEV);
}
END_TEST

START_TEST(hello_refused) {
    Hello hello, back;
    uint8_t buf[HELLO_SIZE];
    char text[128];

#define REFUSED(assignment)                                                     \
    do {                                                                        \
        hello = sample_hello();                                                 \
        assignment;                                                             \
        hello_encode(&hello, buf);                                              \
        ck_assert_int_eq(hello_decode(buf, sizeof(buf), &back, text), -EPROTO); \
    } while (0)
    REFUSED(hello.version = 0);
    REFUSED(hello.slots = 0);
    REFUSED(hello.slots = 4097);
    REFUSED(hello.arena_out_size = 4095);
    REFUSED(hello.arena_in_size = UINT64_MAX - 4095);
    REFUSED(hello.image_start = UINT64_MAX);
    REFUSED(hello.image_length = INT64_MAX);
    REFUSED(hello.result = 1);
    REFUSED(hello.result = -4096);
    REFUSED(memcpy(hello.type, "../fat", 7));
#undef REFUSED
}
END_TEST

START_TEST(hello_damaged) {
    Hello hello = sample_hello(), back;
    static uint8_t buf[HELLO_SIZE], again[HELLO_SIZE];

    hello_encode(&hello, buf);
    for (size_t at = 0; at < sizeof(buf); at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            buf[at] ^= (uint8_t)(1u << bit);
            if (hello_decode(buf, sizeof(buf), &back, NULL) == 0) {
                hello_encode(&back, again);
                ck_assert_msg(memcmp(buf, again, sizeof(buf)) == 0, "byte %zu bit %u", at, bit);
            }
            buf[at] ^= (uint8_t)(1u << bit);
        }
    }
    for (size_t cut = 0; cut < sizeof(buf); cut++) {
        _cleanup_free_ uint8_t *copy = malloc(cut + 1);

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, buf, cut);
        ck_assert_int_eq(hello_decode(copy, cut, &back, NULL), -EPROTO);
    }
}
END_TEST

/* ---- words ---- */

START_TEST(to_text) {
    FSRequest request = {.type = FS_MSG_LOOKUP,
                         .request_id = fs_request_id(3, 17),
                         .file_id = 1,
                         .name = {"a\nb\"", 4}};
    FSResponse response = {.type = FS_MSG_LOOKUP, .number = 9, .result = -ENOENT};
    char line[256], tiny[8];

    (void)fs_request_to_text(&request, line, sizeof(line));
    ck_assert_str_eq(line, "LOOKUP 3:17 uid 0 gid 0 pid 0 file_id 1 name \"a\\x0ab\\x22\"");
    (void)fs_request_to_text(&request, tiny, sizeof(tiny));
    ck_assert_str_eq(tiny, "LOOKUP ");
    (void)fs_response_to_text(&response, line, sizeof(line));
    ck_assert_str_eq(line, "LOOKUP 0:0 number 9 result -2");
    ck_assert_str_eq(fs_message_name(FS_MSG_SEEK), "SEEK");
    ck_assert_str_eq(fs_message_name(1000), "type-1000");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("message");
    TCase *c = tcase_create("all");
    SRunner *runner;
    int failed;

    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, request_round_trip, 0, FS_MSG_COUNT);
    tcase_add_loop_test(c, response_round_trip, 0, FS_MSG_COUNT);
    tcase_add_loop_test(c, failure_round_trip, 0, FS_MSG_COUNT);
    tcase_add_loop_test(c, request_damaged, 0, FS_MSG_COUNT);
    tcase_add_loop_test(c, response_damaged, 0, FS_MSG_COUNT);
    tcase_add_test(c, request_refused);
    tcase_add_test(c, request_inexpressible);
    tcase_add_test(c, request_unused_dropped);
    tcase_add_test(c, response_refused);
    tcase_add_test(c, dirent_round_trip);
    tcase_add_test(c, dirent_random);
    tcase_add_test(c, dirent_damaged);
    tcase_add_test(c, dirent_names);
    tcase_add_test(c, hello_round_trip);
    tcase_add_test(c, hello_refused);
    tcase_add_test(c, hello_damaged);
    tcase_add_test(c, to_text);
    suite_add_tcase(suite, c);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
