/* SPDX-License-Identifier: MIT */
/*
 * The room for tasks, read from directories that look like control groups: both
 * hierarchies, limits of the groups above, and files that say nothing or nonsense.
 */
#include "../../src/front/limits.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static char root[64];

static void setup(void) {
    (void)snprintf(root, sizeof(root), "/tmp/berth-limits.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void teardown(void) {
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
}

static void write_file(const char *directory, const char *name, const char *text) {
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s%s/%s", root, directory, name);
    file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

/* NULL: no such file. */
static void make_group(const char *directory, const char *most, const char *current) {
    char path[256];

    (void)snprintf(path, sizeof(path), "%s%s", root, directory);
    ck_assert(mkdir(path, 0700) == 0 || errno == EEXIST);
    if (most != NULL) {
        write_file(directory, "pids.max", most);
    }
    if (current != NULL) {
        write_file(directory, "pids.current", current);
    }
}

static uint64_t room(const char *membership, const char *where) {
    char path[256], expected[256] = "";
    LimitsTasks tasks;

    write_file("", "membership", membership);
    (void)snprintf(path, sizeof(path), "%s/membership", root);
    limits_tasks(path, root, &tasks);
    if (where[0] != '\0') {
        (void)snprintf(expected, sizeof(expected), "%s%s/pids.max", root, where);
    }
    ck_assert_str_eq(tasks.where, expected);
    return tasks.room;
}

START_TEST(test_unified) {
    make_group("/system.slice", "max\n", "40\n");
    make_group("/system.slice/berth", "25\n", "5\n");
    ck_assert_uint_eq(room("0::/system.slice/berth\n", "/system.slice/berth"), 20);
    ck_assert_uint_eq(room("0::/system.slice\n", ""), UINT64_MAX);
    ck_assert_uint_eq(room("0::/\n", ""), UINT64_MAX);
    make_group("/system.slice/berth", "25\n", "30\n"); /* the limit was lowered later */
    ck_assert_uint_eq(room("0::/system.slice/berth\n", "/system.slice/berth"), 0);
}
END_TEST

START_TEST(test_group_above) {
    make_group("/user.slice", "50\n", "43\n");
    make_group("/user.slice/session", "max\n", "3\n");
    ck_assert_uint_eq(room("0::/user.slice/session\n", "/user.slice"), 7);
    make_group("/user.slice/session", "9\n", "3\n");
    ck_assert_uint_eq(room("0::/user.slice/session\n", "/user.slice/session"), 6);
}
END_TEST

START_TEST(test_older_hierarchy) {
    make_group("/pids", NULL, NULL);
    make_group("/pids/a", "100\n", "1\n");
    make_group("/memory", NULL, NULL);
    make_group("/memory/a", "2\n", "1\n"); /* does not count tasks */
    ck_assert_uint_eq(room("9:name=systemd:/a\n8:pids:/a\n4:memory:/a\n0::/\n", "/pids/a"), 99);
    ck_assert_uint_eq(room("8:pids:/\n", ""), UINT64_MAX);
}
END_TEST

START_TEST(test_nonsense) {
    char path[700];

    make_group("/a", "nonsense\n", "1\n");
    make_group("/b", "100\n", NULL);
    make_group("/c", "", "1\n");
    ck_assert_uint_eq(room("0::/a\n", ""), UINT64_MAX);
    ck_assert_uint_eq(room("0::/b\n", ""), UINT64_MAX);
    ck_assert_uint_eq(room("0::/c\n", ""), UINT64_MAX);
    ck_assert_uint_eq(room("\n:\n::\n0::\n0::nothing\n0:pids\n", ""), UINT64_MAX);
    memset(path, 'x', sizeof(path) - 1);
    memcpy(path, "0::/", 4);
    path[sizeof(path) - 1] = '\0';
    ck_assert_uint_eq(room(path, ""), UINT64_MAX);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("limits");
    TCase *cases = tcase_create("cases");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_unified);
    tcase_add_test(cases, test_group_above);
    tcase_add_test(cases, test_older_hierarchy);
    tcase_add_test(cases, test_nonsense);
    suite_add_tcase(suite, cases);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
