/* SPDX-License-Identifier: MIT */
/*
 * Names of HFS: every name of one and two bytes in every script goes to UTF-8
 * and back, no UTF-8 has two ways in, and the order is the one that hfsutils
 * writes (bytes_in_order was read from a catalog it made).
 */
#include "../../src/fs/hfs/encoding.h"
#include "../../src/fs/hfs/order.h"
#include "berth/text.h"
#include <check.h>
#include <stdio.h>

static void check_back(const HfsEncoding *encoding, const uint8_t *mac, unsigned length) {
    char text[HFS_NAME_UTF8_BYTES];
    uint8_t back[HFS_NAME_BYTES];
    unsigned back_length = 0;
    int n = hfs_name_to_utf8(encoding, mac, length, text, sizeof(text));
    int r = n < 0 ? n : hfs_name_from_utf8(encoding, text, (size_t)n, back, &back_length);

    if (n <= 0 || r < 0 || back_length != length || memcmp(back, mac, length) != 0 ||
        memchr(text, '/', (size_t)n) != NULL || memchr(text, '\0', (size_t)n) != NULL ||
        !utf8_valid(text, (size_t)n) || (n == 1 && text[0] == '.') ||
        (n == 2 && memcmp(text, "..", 2) == 0)) {
        ck_abort_msg("%s: %02x %02x (%u bytes) -> \"%.*s\" -> error %d, %02x %02x (%u bytes)",
                     hfs_encoding_name(encoding), mac[0], length > 1 ? mac[1] : 0, length,
                     n > 0 ? n : 0, text, r, back[0], back[1], back_length);
    }
}

START_TEST(every_short_name_comes_back) {
    const HfsEncoding *encoding = hfs_encoding_at((size_t)_i);

    ck_assert_ptr_nonnull(encoding);
    for (unsigned first = 0; first < 256; first++) {
        uint8_t name[2] = {(uint8_t)first, 0};

        check_back(encoding, name, 1);
        for (unsigned second = 0; second < 256; second++) {
            name[1] = (uint8_t)second;
            check_back(encoding, name, 2);
        }
    }
}
END_TEST

START_TEST(long_names_come_back) {
    uint32_t state = 12345;

    for (unsigned round = 0; round < 20000; round++) {
        const HfsEncoding *encoding = hfs_encoding_at(round % 13);
        uint8_t name[HFS_NAME_BYTES];

        for (unsigned i = 0; i < sizeof(name); i++) {
            state = state * 1664525 + 1013904223;
            name[i] = (uint8_t)(state >> 24);
        }
        check_back(encoding, name, 1 + round % HFS_NAME_BYTES);
    }
}
END_TEST

typedef struct NameCase {
    const char *encoding, *text;
    const char *mac; /* NULL: refused */
    int error;
} NameCase;

static const NameCase cases[] = {
    {"macroman", "Read Me", "Read Me", 0},
    {"MacRoman", "Caf\u00e9", "Caf\x8e", 0},
    {"macroman", "Cafe\u0301", "Caf\x8e", 0},
    {"macroman", "A\u030angstro\u0308m", "\x81ngstr\x9am", 0},
    {"macroman", "\u212bngstro\u0308m", "\x81ngstr\x9am", 0},
    {"macroman", "\uf8ff 5\u20ac", "\xf0 5\xdb", 0},
    {"macroman", "1:2", "1/2", 0},
    {"macroman", "Icon\uf00d", "Icon\r", 0},
    {"macroman", "\uf03a", ":", 0},
    {"macroman", "\uf02e", ".", 0},
    {"macroman", "\uf02e.", "..", 0},
    {"macroman", "...", "...", 0},
    {"macroman", ".rc", ".rc", 0},
    {"macroman", "a\\b", "a\\b", 0},
    {"macroman", ".", NULL, -EILSEQ},
    {"macroman", "..", NULL, -EILSEQ},
    {"macroman", "Icon\r", NULL, -EILSEQ},
    {"macroman", "\uf041", NULL, -EILSEQ},
    {"macroman", "\uf02ea", NULL, -EILSEQ},
    {"macroman", "\uf0ff", NULL, -EILSEQ},
    {"macroman", "1/2", NULL, -EINVAL},
    {"macroman", "", NULL, -EINVAL},
    {"macroman", "\u0416", NULL, -EILSEQ},
    {"macroman", "e\u0302\u0301", NULL, -EILSEQ},
    {"macroman", "\xff", NULL, -EILSEQ},
    {"macroman", "1234567890123456789012345678901", "1234567890123456789012345678901", 0},
    {"macroman", "12345678901234567890123456789012", NULL, -ENAMETOOLONG},
    {"maccyrillic", "\u0416\u0439", "\x86\xe9", 0},
    {"maccyrillic", "\u0416\u0438\u0306", "\x86\xe9", 0},
    {"macgreek", "\u03a9", "\xbf", 0},
    {"macgreek", "\u03b1\u0301", "\xc0", 0},
    {"maccentraleurope", "\u017c\u00f3\u0142w", "\xfd\x97\xb8w", 0},
    {"macturkish", "\u0130\u011f", "\xdc\xdb", 0},
    {"macicelandic", "\u00fe", "\xdf", 0},
    {"macarabic", "\u0627", "\xc7", 0},
    {"macarabic", "\u0627\u0653", "\xc2", 0},
    {"machebrew", "\u05d0", "\xe0", 0},
    {"machebrew", "\u05d5\u05b9", "\xe5\xdd", 0},
    {"macjapanese", "\u65e5\u672c", "\x93\xfa\x96\x7b", 0},
    {"macjapanese", "\u304b\u3099", "\x82\xaa", 0},
    {"macjapanese", "\u00a5\\", "\x5c\x80", 0},
    {"macjapanese", "\uf081@", NULL, -EILSEQ},
    {"macjapanese",
     "\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5\u65e5"
     "\u65e5\u65e5\u65e5",
     NULL, -ENAMETOOLONG},
};

START_TEST(names_in) {
    const NameCase *c = &cases[_i];
    const HfsEncoding *encoding = hfs_encoding_find(c->encoding);
    uint8_t mac[HFS_NAME_BYTES];
    unsigned length = 0;
    int r;

    ck_assert_ptr_nonnull(encoding);
    r = hfs_name_from_utf8(encoding, c->text, strlen(c->text), mac, &length);
    ck_assert_msg(r == c->error, "%s: %d", c->text, r);
    if (c->mac != NULL) {
        ck_assert_uint_eq(length, strlen(c->mac));
        ck_assert_mem_eq(mac, c->mac, length);
    }
}
END_TEST

START_TEST(limits) {
    const HfsEncoding *encoding = hfs_encoding_default();
    uint8_t name[HFS_NAME_BYTES + 1] = "caf\x8e";
    char text[HFS_NAME_UTF8_BYTES];

    ck_assert_int_eq(hfs_name_to_utf8(encoding, name, 4, text, 5), 5);
    ck_assert_int_eq(hfs_name_to_utf8(encoding, name, 4, text, 4), -ENAMETOOLONG);
    ck_assert_int_eq(hfs_name_to_utf8(encoding, name, 0, text, sizeof(text)), -EINVAL);
    ck_assert_int_eq(hfs_name_to_utf8(encoding, name, sizeof(name), text, sizeof(text)), -EINVAL);
    ck_assert_ptr_null(hfs_encoding_find("macintosh"));
    ck_assert_ptr_null(hfs_encoding_at(1000));
    ck_assert_ptr_eq(hfs_encoding_find("macroman"), encoding);
}
END_TEST

/* ---- order ---- */

/* As hfsutils had put them in a catalog; ':' and NUL cannot be in one. */
static const char bytes_in_order[] =
    "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16"
    "\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x20\x21\x22\xd2\xd3\xc7\xc8\x23\x24\x25\x26\x27\xd4"
    "\xd5\x28\x29\x2b\x2c\x2d\x2e\x2f\x30\x31\x32\x33\x34\x35\x36\x37\x38\x39\x3b\x3c\x3d\x3e"
    "\x40\x61\x88\x8a\x8b\x81\xae\x60\x87\x89\xbb\x42\x63\x82\x44\x45\x83\x8f\x90\x91\x66\x67"
    "\x48\x69\x92\x93\x94\x95\x4a\x6b\x6c\x4d\x6e\x84\x6f\x85\x9b\xaf\xcf\x97\x98\x99\xbc\x70"
    "\x71\x72\x53\xa7\x54\x55\x86\x9c\x9d\x9e\x76\x57\x78\x59\xd8\x5a\x5b\x5d\x5e\x5f\x7c\x7d"
    "\x7e\x7f\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa8\xa9\xaa\xab\xac\xad\xb0\xb1\xb2\xb3\xb4\xb5\xb6"
    "\xb7\xb8\xb9\xba\xbd\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc9\xd0\xd1\xd6\xd7\xd9\xda\xdb\xdc\xdd"
    "\xde\xdf\xe0\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xeb\xec\xed\xee\xef\xf0\xf1\xf2\xf3"
    "\xf4\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff";

/* Each group is one name to the Mac. */
static const char *const equal_bytes[] = {
    "\x20\xca", "\x41\x61", "\x42\x62", "\x43\x63", "\x44\x64", "\x45\x65", "\x46\x66", "\x47\x67",
    "\x48\x68", "\x49\x69", "\x4a\x6a", "\x4b\x6b", "\x4c\x6c", "\x4d\x6d", "\x4e\x6e", "\x4f\x6f",
    "\x50\x70", "\x51\x71", "\x52\x72", "\x53\x73", "\x54\x74", "\x55\x75", "\x56\x76", "\x57\x77",
    "\x58\x78", "\x59\x79", "\x5a\x7a", "\x80\x8a", "\x81\x8c", "\x82\x8d", "\x83\x8e", "\x84\x96",
    "\x85\x9a", "\x86\x9f", "\x88\xcb", "\x8b\xcc", "\x9b\xcd", "\xae\xbe", "\xaf\xbf", "\xce\xcf"};

static int compare(const char *a, const char *b) {
    return hfs_name_compare((const uint8_t *)a, (unsigned)strlen(a), (const uint8_t *)b,
                            (unsigned)strlen(b));
}

START_TEST(bytes_have_the_macs_order) {
    for (size_t i = 0; i + 2 < sizeof(bytes_in_order); i++) {
        char a[] = {'x', bytes_in_order[i], '\0'}, b[] = {'x', bytes_in_order[i + 1], '\0'};

        ck_assert_msg(compare(a, b) < 0, "%02x %02x", (uint8_t)a[1], (uint8_t)b[1]);
        ck_assert_int_gt(compare(b, a), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(equal_bytes); i++) {
        for (const char *at = equal_bytes[i] + 1; *at != '\0'; at++) {
            char a[] = {equal_bytes[i][0], '\0'}, b[] = {*at, '\0'};

            ck_assert_msg(compare(a, b) == 0, "%02x %02x", (uint8_t)a[0], (uint8_t)b[0]);
            ck_assert_uint_eq(hfs_name_place((uint8_t)a[0]), hfs_name_place((uint8_t)b[0]));
        }
    }
}
END_TEST

START_TEST(names_have_an_order) {
    ck_assert_int_eq(compare("README", "ReadMe"), 0);
    ck_assert_int_lt(compare("a", "ab"), 0);
    ck_assert_int_lt(compare("a", "B"), 0);
    ck_assert_int_gt(compare("b", "A"), 0);
    ck_assert_int_lt(compare("", "a"), 0);
    ck_assert_int_eq(compare("", ""), 0);
    ck_assert_int_ne(compare("caf\x8e", "cafe"), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hfs_encoding");
    TCase *tcase = tcase_create("names");
    SRunner *runner;
    int failed, encodings = 0;

    while (hfs_encoding_at((size_t)encodings) != NULL) {
        encodings++;
    }
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, every_short_name_comes_back, 0, encodings);
    tcase_add_test(tcase, long_names_come_back);
    tcase_add_loop_test(tcase, names_in, 0, (int)ARRAY_SIZE(cases));
    tcase_add_test(tcase, limits);
    tcase_add_test(tcase, bytes_have_the_macs_order);
    tcase_add_test(tcase, names_have_an_order);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
