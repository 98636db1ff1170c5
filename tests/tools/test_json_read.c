/* SPDX-License-Identifier: MIT */
/*
 * The JSON reader of berth: what it must read, what it must refuse, and that
 * neither a cut nor a changed byte of a valid document makes it misbehave
 * (which the sanitizer build would see).
 */
#include "../../tools/berth.h"

#include <check.h>
#include <stdio.h>

static void collect(void *arg, const char *path, JsonKind kind, const char *value) {
    static const char kinds[] = {
        [JSON_STRING] = 's', [JSON_NUMBER] = 'n', [JSON_BOOL] = 'b', [JSON_NULL] = '0'};

    text_printf(arg, "%s=%c:%s;", path, kinds[kind], value);
}

static void ignore(void *arg, const char *path, JsonKind kind, const char *value) {
    *(size_t *)arg += strlen(path) + strlen(value);
}

static const char document[] =
    " {\"a\": 1, \"b\" : [true, false, null, {\"c\": \"x\\\"\\\\\\n\\u00e9\\ud83d\\ude00\"}],"
    "\"empty\": {}, \"none\": [], \"d\": -1.5e3} \n";

START_TEST(reads_all_kinds) {
    Text seen = {0};

    ck_assert_int_eq(json_read(document, strlen(document), collect, &seen), 0);
    ck_assert_str_eq(text_string(&seen), "a=n:1;b.0=b:true;b.1=b:false;b.2=0:;"
                                         "b.3.c=s:x\"\\\n\xc3\xa9\xf0\x9f\x98\x80;d=n:-1.5e3;");
    text_done(&seen);
    ck_assert_int_eq(json_read("5", 1, collect, &seen), 0);
    ck_assert_str_eq(text_string(&seen), "=n:5;");
    text_done(&seen);
}
END_TEST

START_TEST(reads_what_the_writer_wrote) {
    Text text = {0}, seen = {0};
    Json json = {.out = &text};

    json_begin_object(&json, NULL);
    json_string(&json, "odd \"key\"", "\x01\x7f\xff end");
    json_end_object(&json);
    ck_assert_int_eq(json_read(text_string(&text), text.length, collect, &seen), 0);
    ck_assert_str_eq(text_string(&seen), "odd \"key\"=s:\x01\x7f\xef\xbf\xbd end;");
    text_done(&text);
    text_done(&seen);
}
END_TEST

START_TEST(refuses) {
    static const char *const bad[] = {
        "",          " ",           "{",           "}",
        "{\"a\"}",   "{\"a\":}",    "{\"a\":1,}",  "[1,]",
        "[1 2]",     "{a:1}",       "\"abc",       "\"\\x\"",
        "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\u0000\"",
        "\"\n\"",    "\"\xff\"",    "nul",         "1 2",
        "{} {}",     "\"\\",        "[\"a\":1]",   "\"\\ud800\\u0041\"",
    };
    size_t total = 0;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_msg(json_read(bad[i], strlen(bad[i]), ignore, &total) == -EBADMSG, "case %zu: %s",
                      i, bad[i]);
    }
}
END_TEST

START_TEST(bounds) {
    char deep[70], name[600], number[100];
    size_t total = 0;

    memset(deep, '[', 32);
    memset(deep + 32, ']', 32);
    ck_assert_int_eq(json_read(deep, 64, ignore, &total), 0);
    memset(deep, '[', 33);
    memset(deep + 33, ']', 33);
    ck_assert_int_eq(json_read(deep, 66, ignore, &total), -EBADMSG);
    (void)snprintf(name, sizeof(name), "{\"%0520d\": 1}", 0);
    ck_assert_int_eq(json_read(name, strlen(name), ignore, &total), -EBADMSG);
    memset(number, '1', sizeof(number));
    ck_assert_int_eq(json_read(number, sizeof(number), ignore, &total), -EBADMSG);
}
END_TEST

START_TEST(every_cut_and_every_changed_byte) {
    char copy[sizeof(document)];
    size_t length = strlen(document), total = 0;

    for (size_t i = 0; i < length - 2; i++) { /* blanks at the end may go */
        _cleanup_free_ char *cut = malloc(i + 1);

        memcpy(cut, document, i);
        ck_assert_int_eq(json_read(cut, i, ignore, &total), -EBADMSG);
    }
    for (size_t i = 0; i < length; i++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            int r;

            memcpy(copy, document, length);
            copy[i] = (char)byte;
            r = json_read(copy, length, ignore, &total);
            if (r != 0 && r != -EBADMSG) {
                ck_abort_msg("byte %zu as %u: %d", i, byte, r);
            }
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("json_read");
    TCase *tests = tcase_create("json_read");
    SRunner *runner;
    int failed;

    tcase_add_test(tests, reads_all_kinds);
    tcase_add_test(tests, reads_what_the_writer_wrote);
    tcase_add_test(tests, refuses);
    tcase_add_test(tests, bounds);
    tcase_add_test(tests, every_cut_and_every_changed_byte);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
