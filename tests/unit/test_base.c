/* SPDX-License-Identifier: MIT */
/*
 * The base module: every public function, with the inputs that users, images
 * and peers would choose to break it. Where a function has an obvious slow
 * form (bitmaps, UTF round trips), the fast one is compared with it over a
 * fixed pseudo-random sequence.
 */
#include "berth/bitmap.h"
#include "berth/bytes.h"
#include "berth/hashmap.h"
#include "berth/log.h"
#include "berth/options.h"
#include "berth/report.h"
#include "berth/stats.h"
#include "berth/text.h"

#include <check.h>
#include <math.h>
#include <stdio.h>

static uint64_t test_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* ---- base.h, bytes.h ---- */

START_TEST(arithmetic) {
    uint64_t value = 7;

    ck_assert(!u64_add(UINT64_MAX, 1, &value));
    ck_assert(!u64_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &value));
    ck_assert_uint_eq(value, 7);
    ck_assert(u64_add(UINT64_MAX - 1, 1, &value));
    ck_assert_uint_eq(value, UINT64_MAX);
    ck_assert(range_inside(10, 0, 10));
    ck_assert(range_inside(0, 10, 10));
    ck_assert(!range_inside(11, 0, 10));
    ck_assert(!range_inside(1, UINT64_MAX, 10));
    ck_assert_uint_eq(div_ceil(UINT64_MAX, 2), UINT64_C(1) << 63);
    ck_assert_uint_eq(align_up(513, 512), 1024);
    ck_assert_uint_eq(align_down(1023, 512), 512);
}
END_TEST

START_TEST(byte_order) {
    le32 little = {{0x78, 0x56, 0x34, 0x12}};
    be32 big = {{0x12, 0x34, 0x56, 0x78}};

    ck_assert_uint_eq(le32_get(little), 0x12345678);
    ck_assert_uint_eq(be32_get(big), 0x12345678);
    ck_assert_uint_eq(le16_get(le16_make(0xfe01)), 0xfe01);
    ck_assert_uint_eq(le16_make(0xfe01).b[0], 0x01);
    ck_assert_uint_eq(be16_get(be16_make(0xfe01)), 0xfe01);
    ck_assert_uint_eq(le64_get(le64_make(UINT64_C(0xfedcba9876543210))),
                      UINT64_C(0xfedcba9876543210));
    ck_assert_uint_eq(be64_get(be64_make(UINT64_C(0xfedcba9876543210))),
                      UINT64_C(0xfedcba9876543210));
    ck_assert_uint_eq(be64_make(UINT64_C(0xfedcba9876543210)).b[0], 0xfe);
}
END_TEST

/* ---- log and report ---- */

typedef struct Lines {
    unsigned count;
    char last[1100];
} Lines;

static void lines_sink(void *arg, LogLevel level, const char *line) {
    Lines *lines = arg;

    lines->count++;
    (void)snprintf(lines->last, sizeof(lines->last), "%s", line);
}

START_TEST(log_lines) {
    static char longest[4096];
    Lines lines = {0};

    log_set_sink(lines_sink, &lines);
    log_init("prog", LOG_LEVEL_NOTICE);
    log_info("not shown");
    ck_assert_uint_eq(lines.count, 0);
    log_warning("label %s", "a\nb\033[2J");
    ck_assert_str_eq(lines.last, "prog: warning: label a?b?[2J");
    memset(longest, 'x', sizeof(longest) - 1);
    log_error("%s", longest);
    ck_assert_uint_eq(strlen(lines.last), 1023);
    log_init("prog", LOG_LEVEL_DEBUG);
    log_debug("%d", 5);
    ck_assert_str_eq(lines.last, "prog: debug: 5");
    log_set_sink(NULL, NULL);
}
END_TEST

START_TEST(log_to_stderr_is_one_line) {
    char buffer[64] = "";
    int saved = dup(STDERR_FILENO);
    int pipe_fds[2];

    ck_assert_int_eq(pipe(pipe_fds), 0);
    ck_assert_int_eq(dup2(pipe_fds[1], STDERR_FILENO), STDERR_FILENO);
    log_init("prog", LOG_LEVEL_NOTICE);
    errno = ENOENT;
    log_notice("one");
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_int_eq(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    ck_assert_int_eq(read(pipe_fds[0], buffer, sizeof(buffer) - 1), 18);
    ck_assert_str_eq(buffer, "prog: notice: one\n");
    (void)close(saved);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}
END_TEST

static void count_call(void *arg) {
    ++*(unsigned *)arg;
}

START_TEST(report_policy) {
    _cleanup_(reporter_freep) Reporter *reporter = reporter_new("disk.img", ERRORS_REMOUNT_RO);
    Lines lines = {0};
    unsigned calls = 0;

    log_set_sink(lines_sink, &lines);
    log_init("prog", LOG_LEVEL_WARNING);
    reporter_on_readonly(reporter, count_call, &calls);
    ck_assert_str_eq(reporter_last(reporter), "");
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(
            report_corrupt(reporter, false, "FAT", 12, "entry", 0xfff, "loops to %d", 5), -EUCLEAN);
    }
    ck_assert_uint_eq(lines.count, 1);
    ck_assert_uint_eq(reporter_count(reporter), 3);
    ck_assert_uint_eq(calls, 0);
    ck_assert_ptr_nonnull(strstr(lines.last, "disk.img"));
    ck_assert_ptr_nonnull(strstr(reporter_last(reporter), "FAT at 12: entry is 4095 (0xfff): "
                                                          "loops to 5"));
    (void)report_corrupt(reporter, true, "FAT", 12, "entry", 1, "x");
    (void)report_corrupt(reporter, true, "FAT", 13, "entry", 1, "x");
    ck_assert_uint_eq(calls, 1);
    log_set_sink(NULL, NULL);
}
END_TEST

START_TEST(report_lines_are_bounded) {
    _cleanup_(reporter_freep) Reporter *reporter = reporter_new("v", ERRORS_CONTINUE);
    Lines lines = {0};
    unsigned calls = 0;

    log_set_sink(lines_sink, &lines);
    log_init("prog", LOG_LEVEL_WARNING);
    reporter_on_readonly(reporter, count_call, &calls);
    for (unsigned i = 0; i < 5000; i++) {
        (void)report_corrupt(reporter, true, "FAT", i, "entry", i, "bad");
    }
    ck_assert_uint_eq(reporter_count(reporter), 5000);
    ck_assert_uint_gt(lines.count, 100);
    ck_assert_uint_lt(lines.count, 500);
    ck_assert_uint_eq(calls, 0);
    log_set_sink(NULL, NULL);
}
END_TEST

START_TEST(report_panic) {
    Reporter *reporter = reporter_new("v", ERRORS_PANIC);

    (void)report_corrupt(reporter, true, "FAT", 1, "entry", 1, "bad"); /* exits with status 70 */
    (void)reporter_free(reporter);
}
END_TEST

START_TEST(corruption_is_plain_data) {
    Corruption corruption;

    ck_assert_int_eq(corruption_set(NULL, "s", 1, "f", 2, "%d", 3), -EUCLEAN);
    ck_assert_int_eq(corruption_set(&corruption, "s", 1, "f", 2, "%0200d", 3), -EUCLEAN);
    ck_assert_uint_eq(strlen(corruption.text), sizeof(corruption.text) - 1);
    ck_assert_uint_eq(corruption.where, 1);
    ck_assert_uint_eq(corruption.value, 2);
}
END_TEST

/* ---- containers ---- */

typedef struct Item {
    HashNode hash;
    ListNode list;
    uint64_t value;
} Item;

typedef struct Removal {
    HashMap *map;
    unsigned seen;
} Removal;

static void remove_and_free(HashNode *node, void *arg) {
    Removal *removal = arg;

    removal->seen++;
    hashmap_remove(removal->map, node);
    free(container_of(node, Item, hash));
}

START_TEST(hashmap_many) {
    HashMap map;
    Removal removal = {&map, 0};

    hashmap_init(&map);
    ck_assert_ptr_null(hashmap_lookup(&map, 0));
    hashmap_iterate(&map, remove_and_free, &removal);
    for (uint64_t i = 0; i < 10000; i++) {
        Item *item = calloc(1, sizeof(*item));

        item->value = i;
        ck_assert_int_eq(hashmap_enter(&map, &item->hash, i << 32), 0);
    }
    for (uint64_t i = 0; i < 10000; i += 2) {
        HashNode *node = hashmap_lookup(&map, i << 32);

        ck_assert_ptr_nonnull(node);
        ck_assert_uint_eq(container_of(node, Item, hash)->value, i);
        hashmap_remove(&map, node);
        ck_assert_ptr_null(hashmap_lookup(&map, i << 32));
        free(container_of(node, Item, hash));
    }
    ck_assert_uint_eq(map.count, 5000);
    ck_assert_ptr_nonnull(hashmap_lookup(&map, UINT64_C(9999) << 32));
    hashmap_iterate(&map, remove_and_free, &removal);
    ck_assert_uint_eq(removal.seen, 5000);
    ck_assert_uint_eq(map.count, 0);
    hashmap_done(&map);
}
END_TEST

START_TEST(list_order) {
    Item items[3] = {0};
    List list;

    list_init(&list);
    ck_assert_ptr_null(list_first(&list));
    list_append(&list, &items[1].list);
    list_append(&list, &items[2].list);
    list_prepend(&list, &items[0].list);
    ck_assert_ptr_eq(list_first(&list), &items[0].list);
    ck_assert_ptr_eq(list_next(&list, &items[0].list), &items[1].list);
    ck_assert_ptr_null(list_next(&list, &items[2].list));
    list_remove(&items[1].list);
    ck_assert(!list_linked(&items[1].list));
    ck_assert_ptr_eq(list_next(&list, &items[0].list), &items[2].list);
    ck_assert_ptr_eq(list_last(&list), &items[2].list);
}
END_TEST

START_TEST(bitmap_against_slow_form) {
    enum { BITS = 300 };
    uint64_t map[BITMAP_WORDS(BITS)] = {0};
    bool slow[BITS] = {0};
    uint64_t state = 1;

    for (unsigned round = 0; round < 3000; round++) {
        uint64_t first = test_random(&state) % (BITS + 1);
        uint64_t count = test_random(&state) % (BITS - first + 1);
        uint64_t from = test_random(&state) % (BITS + 1);
        bool set = test_random(&state) % 2 == 0;
        uint64_t next[2] = {first + count, first + count}, ones = 0;

        if (set) {
            bitmap_set_range(map, first, count);
        } else {
            bitmap_clear_range(map, first, count);
        }
        for (uint64_t i = first; i < first + count; i++) {
            slow[i] = set;
        }
        for (uint64_t i = 0; i < BITS; i++) {
            if (bitmap_test(map, i) != slow[i]) {
                ck_abort_msg("round %u bit %u", round, (unsigned)i);
            }
        }
        for (uint64_t i = 0; i < first + count; i++) {
            ones += slow[i];
        }
        for (unsigned kind = 0; kind < 2; kind++) {
            for (uint64_t i = from; i < first + count && next[kind] == first + count; i++) {
                if (slow[i] == (kind == 1)) {
                    next[kind] = i;
                }
            }
        }
        ck_assert_uint_eq(bitmap_count_set(map, first + count), ones);
        ck_assert_uint_eq(bitmap_find_clear(map, from, first + count), next[0]);
        ck_assert_uint_eq(bitmap_find_set(map, from, first + count), next[1]);
    }
}
END_TEST

/* ---- text ---- */

START_TEST(utf8_refuses) {
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc3",
        "\xc3(",
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xe2\x82",
        "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xf0\x9f\x98",
    };
    uint32_t character = 1;
    char out[4];

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_msg(utf8_decode(bad[i], strlen(bad[i]), &character) == -EILSEQ, "case %zu", i);
        ck_assert(!utf8_valid(bad[i], strlen(bad[i])));
    }
    ck_assert_uint_eq(character, 1);
    ck_assert_int_eq(utf8_encode(0xd800, out), -EILSEQ);
    ck_assert_int_eq(utf8_encode(0xdfff, out), -EILSEQ);
    ck_assert_int_eq(utf8_encode(0x110000, out), -EILSEQ);
    ck_assert(utf8_valid("", 0));
}
END_TEST

/* Every character; plain comparisons, since a check costs a message to the test runner. */
START_TEST(utf_round_trip) {
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char bytes[4], back[4];
        uint16_t units[2];
        uint32_t decoded = 0;
        int used, count;

        if (c >= 0xd800 && c <= 0xdfff) {
            continue;
        }
        used = utf8_encode(c, bytes);
        if (utf8_decode(bytes, (size_t)used, &decoded) != used || decoded != c) {
            ck_abort_msg("U+%04X does not survive UTF-8", c);
        }
        if (used > 1 && utf8_decode(bytes, (size_t)used - 1, &decoded) != -EILSEQ) {
            ck_abort_msg("U+%04X is accepted when cut short", c);
        }
        count = utf8_to_utf16(bytes, (size_t)used, units, 2);
        if (count != (c < 0x10000 ? 1 : 2) ||
            utf16_to_utf8(units, (size_t)count, back, 4) != used ||
            memcmp(bytes, back, (size_t)used) != 0) {
            ck_abort_msg("U+%04X does not survive UTF-16", c);
        }
    }
}
END_TEST

START_TEST(utf16_limits) {
    static const uint16_t lone_high[] = {'a', 0xd83d}, high_then_letter[] = {0xd83d, 'a'},
                          lone_low[] = {0xde00}, pair[] = {0xd83d, 0xde00};
    uint16_t units[2];
    char out[4];

    ck_assert_int_eq(utf16_to_utf8(lone_high, 2, out, 4), -EILSEQ);
    ck_assert_int_eq(utf16_to_utf8(high_then_letter, 2, out, 4), -EILSEQ);
    ck_assert_int_eq(utf16_to_utf8(lone_low, 1, out, 4), -EILSEQ);
    ck_assert_int_eq(utf16_to_utf8(pair, 2, out, 3), -ENAMETOOLONG);
    ck_assert_int_eq(utf16_to_utf8(pair, 2, out, 4), 4);
    ck_assert_mem_eq(out, "\xf0\x9f\x98\x80", 4);
    ck_assert_int_eq(utf16_to_utf8(pair, 0, out, 0), 0);
    ck_assert_int_eq(utf8_to_utf16("abc", 3, units, 2), -ENAMETOOLONG);
    ck_assert_int_eq(utf8_to_utf16("\xf0\x9f\x98\x80", 4, units, 1), -ENAMETOOLONG);
    ck_assert_int_eq(utf8_to_utf16("a\xff", 2, units, 2), -EILSEQ);
}
END_TEST

START_TEST(upper_case) {
    ck_assert_uint_eq(utf16_upper('a'), 'A');
    ck_assert_uint_eq(utf16_upper('z'), 'Z');
    ck_assert_uint_eq(utf16_upper('A'), 'A');
    ck_assert_uint_eq(utf16_upper('`'), '`');
    ck_assert_uint_eq(utf16_upper('{'), '{');
    ck_assert_uint_eq(utf16_upper(0x00e4), 0x00c4); /* a umlaut */
    ck_assert_uint_eq(utf16_upper(0x00df), 0x00df); /* sharp s has no simple upper case */
    ck_assert_uint_eq(utf16_upper(0x00f7), 0x00f7); /* division sign, amid letters */
    ck_assert_uint_eq(utf16_upper(0x00ff), 0x0178); /* y with diaeresis */
    ck_assert_uint_eq(utf16_upper(0x0101), 0x0100);
    ck_assert_uint_eq(utf16_upper(0x0100), 0x0100);
    ck_assert_uint_eq(utf16_upper(0x03c9), 0x03a9); /* omega */
    ck_assert_uint_eq(utf16_upper(0x0436), 0x0416); /* Cyrillic zhe */
    ck_assert_uint_eq(utf16_upper(0x1f80), 0x1f88); /* one character only in simple mapping */
    ck_assert_uint_eq(utf16_upper(0xff41), 0xff21); /* full-width a */
    for (uint32_t i = 0; i < 0x10000; i++) {
        uint16_t upper = utf16_upper((uint16_t)i);

        if (utf16_upper(upper) != upper || (i >= 0xd800 && i <= 0xdfff && upper != i)) {
            ck_abort_msg("U+%04X", i);
        }
    }
}
END_TEST

START_TEST(text_grows) {
    Text text = {0};

    ck_assert_str_eq(text_string(&text), "");
    text_append(&text, "", 0);
    for (int i = 0; i < 1000; i++) {
        text_printf(&text, "%03d", i);
    }
    text_append(&text, "end", 3);
    ck_assert(!text.failed);
    ck_assert_uint_eq(text.length, 3003);
    ck_assert_uint_eq(strlen(text_string(&text)), 3003);
    ck_assert_str_eq(text_string(&text) + 2997, "999end");
    text.failed = true;
    text_append(&text, "x", 1);
    text_printf(&text, "x");
    ck_assert_uint_eq(text.length, 3003);
    text_done(&text);
    ck_assert_uint_eq(text.length, 0);
    ck_assert(!text.failed);
}
END_TEST

START_TEST(json_document) {
    Text text = {0};
    Json json = {.out = &text};

    json_begin_object(&json, NULL);
    json_string(&json, "s", "a\"b\\c\n\xff\xc3\xa9");
    json_begin_array(&json, "list");
    json_u64(&json, NULL, UINT64_MAX);
    json_i64(&json, NULL, INT64_MIN);
    json_begin_object(&json, NULL);
    json_end_object(&json);
    json_end_array(&json);
    json_bool(&json, "t", true);
    json_bool(&json, "f", false);
    json_null(&json, "n");
    json_double(&json, "d", 1.5);
    json_double(&json, "nan", NAN);
    json_end_object(&json);
    ck_assert_str_eq(text_string(&text),
                     "{\"s\": \"a\\\"b\\\\c\\u000a\xef\xbf\xbd\xc3\xa9\", "
                     "\"list\": [18446744073709551615, -9223372036854775808, {}], "
                     "\"t\": true, \"f\": false, \"n\": null, \"d\": 1.5, \"nan\": null}");
    text_done(&text);
}
END_TEST

START_TEST(json_deepest) {
    Text text = {0};
    Json json = {.out = &text};

    for (int i = 0; i < 32; i++) {
        json_begin_array(&json, NULL);
    }
    json_u64(&json, NULL, 1);
    json_u64(&json, NULL, 2);
    for (int i = 0; i < 32; i++) {
        json_end_array(&json);
    }
    ck_assert_uint_eq(text.length, 32 + 4 + 32);
    ck_assert_ptr_nonnull(strstr(text_string(&text), "[1, 2]"));
    text_done(&text);
}
END_TEST

/* ---- stats ---- */

START_TEST(latency_histogram) {
    Histogram histogram = {0};

    ck_assert_uint_eq(histogram_percentile(&histogram, 50), 0);
    histogram_add(&histogram, 0);
    histogram_add(&histogram, 1);
    histogram_add(&histogram, 2);
    histogram_add(&histogram, 1023);
    histogram_add(&histogram, 1024);
    ck_assert_uint_eq(histogram.bucket[0], 2);
    ck_assert_uint_eq(histogram.bucket[1], 1);
    ck_assert_uint_eq(histogram.bucket[9], 1);
    ck_assert_uint_eq(histogram.bucket[10], 1);
    ck_assert_uint_eq(histogram.sum_ns, 2050);
    ck_assert_uint_eq(histogram_percentile(&histogram, 0), 2);
    ck_assert_uint_eq(histogram_percentile(&histogram, 40), 2);
    ck_assert_uint_eq(histogram_percentile(&histogram, 60), 4);
    ck_assert_uint_eq(histogram_percentile(&histogram, 100), 2048);
    histogram_add(&histogram, UINT64_MAX);
    ck_assert_uint_eq(histogram.bucket[HISTOGRAM_BUCKETS - 1], 1);
    ck_assert_uint_eq(histogram_percentile(&histogram, 100), UINT64_MAX);
    ck_assert_uint_gt(clock_monotonic_ns(), 0);
    ck_assert_int_gt(clock_realtime_ns(), INT64_C(1600000000) * 1000000000);
}
END_TEST

/* ---- options ---- */

static int collect_option(void *arg, const char *name, const char *value) {
    Text *text = arg;

    text_printf(text, "<%s>%s%s;", name, value == NULL ? "" : "=", value == NULL ? "" : value);
    return strcmp(name, "stop") == 0 ? -EPERM : 0;
}

START_TEST(option_strings) {
    static char huge[70000];
    Text text = {0};

    ck_assert_int_eq(options_parse("", collect_option, &text), 0);
    ck_assert_uint_eq(text.length, 0);
    ck_assert_int_eq(
        options_parse(",ro,,uid=1000,label=a\\,b\\\\c\\d=e,x=,", collect_option, &text), 0);
    ck_assert_str_eq(text_string(&text), "<ro>;<uid>=1000;<label>=a,b\\c\\d=e;<x>=;");
    text_done(&text);
    ck_assert_int_eq(options_parse("a,stop,b", collect_option, &text), -EPERM);
    ck_assert_str_eq(text_string(&text), "<a>;<stop>;");
    text_done(&text);
    memset(huge, 'a', 4095);
    ck_assert_int_eq(options_parse(huge, collect_option, &text), 0);
    huge[4095] = 'a';
    ck_assert_int_eq(options_parse(huge, collect_option, &text), -EINVAL);
    memset(huge, ',', sizeof(huge) - 1);
    ck_assert_int_eq(options_parse(huge, collect_option, &text), -EINVAL);
    text_done(&text);
}
END_TEST

typedef struct NumberCase {
    const char *text;
    int result;
    uint64_t value;
} NumberCase;

START_TEST(numbers) {
    static const NumberCase whole[] = {
        {"0", 0, 0},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"99999999999999999999999", -ERANGE, 0},
        {"99999999999999999999999x", -EINVAL, 0},
        {"0xff", 0, 255},
        {"0XFF", 0, 255},
        {"010", 0, 10},
        {"", -EINVAL, 0},
        {"0x", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {"1a", -EINVAL, 0},
    };
    static const NumberCase sizes[] = {
        {"4096", 0, 4096},         {"0x100", 0, 256},   {"0x10k", 0, 16384},
        {"0x", -EINVAL, 0},        {"1k", 0, 1024},     {"1K", 0, 1024},
        {"2M", 0, 2097152},        {"1G", 0, 1u << 30}, {"16777215T", 0, UINT64_C(16777215) << 40},
        {"1KB", -EINVAL, 0},       {"K", -EINVAL, 0},   {"1X", -EINVAL, 0},
        {"16777216T", -ERANGE, 0}, {"", -EINVAL, 0},
    };
    uint64_t value;
    uint32_t small = 1;
    double seconds = -1;

    for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
        value = 0;
        ck_assert_msg(parse_u64(whole[i].text, &value) == whole[i].result, "%s", whole[i].text);
        ck_assert_uint_eq(value, whole[i].value);
    }
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        value = 0;
        ck_assert_msg(parse_size(sizes[i].text, &value) == sizes[i].result, "%s", sizes[i].text);
        ck_assert_uint_eq(value, sizes[i].value);
    }
    ck_assert_int_eq(parse_u32("4294967296", &small), -ERANGE);
    ck_assert_int_eq(parse_octal("0778", 0777, &small), -EINVAL);
    ck_assert_int_eq(parse_octal("1000", 0777, &small), -ERANGE);
    ck_assert_uint_eq(small, 1);
    ck_assert_int_eq(parse_octal("0755", 0777, &small), 0);
    ck_assert_uint_eq(small, 0755);
    ck_assert_int_eq(parse_seconds("5", &seconds), 0);
    ck_assert(seconds > 4.999 && seconds < 5.001);
    ck_assert_int_eq(parse_seconds("0.25", &seconds), 0);
    ck_assert(seconds > 0.2499 && seconds < 0.2501);
    ck_assert_int_eq(parse_seconds("86401", &seconds), -ERANGE);
    ck_assert_int_eq(parse_seconds("-1", &seconds), -EINVAL);
    ck_assert_int_eq(parse_seconds("1.", &seconds), -EINVAL);
    ck_assert_int_eq(parse_seconds("nan", &seconds), -EINVAL);
    ck_assert_int_eq(parse_seconds("1e3", &seconds), -EINVAL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("base");
    TCase *tests = tcase_create("base");
    SRunner *runner;
    int failed;

    tcase_add_test(tests, arithmetic);
    tcase_add_test(tests, byte_order);
    tcase_add_test(tests, log_lines);
    tcase_add_test(tests, log_to_stderr_is_one_line);
    tcase_add_test(tests, report_policy);
    tcase_add_test(tests, report_lines_are_bounded);
    tcase_add_exit_test(tests, report_panic, 70);
    tcase_add_test(tests, corruption_is_plain_data);
    tcase_add_test(tests, hashmap_many);
    tcase_add_test(tests, list_order);
    tcase_add_test(tests, bitmap_against_slow_form);
    tcase_add_test(tests, utf8_refuses);
    tcase_add_test(tests, utf_round_trip);
    tcase_add_test(tests, utf16_limits);
    tcase_add_test(tests, upper_case);
    tcase_add_test(tests, text_grows);
    tcase_add_test(tests, json_document);
    tcase_add_test(tests, json_deepest);
    tcase_add_test(tests, latency_histogram);
    tcase_add_test(tests, option_strings);
    tcase_add_test(tests, numbers);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
