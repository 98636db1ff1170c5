/* SPDX-License-Identifier: MIT */
/*
 * HFS volumes in memory, made by hfsutils or by hfs_make(), mounted in this process by way
 * of fat_support.h, and judged after unmounting by the checker and by hfsutils.
 */
#ifndef HFS_SUPPORT_H
#define HFS_SUPPORT_H

#define VOLUME_TYPE hfs_type
#include "../../src/fs/hfs/types.h"
#include "berth/hfs.h"
#include "fat_support.h"

static UNUSED void directory_make(void) {
    if (directory[0] == '\0') {
        (void)snprintf(directory, sizeof(directory), "/tmp/test_hfs.XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        (void)setenv("HOME", directory, 1); /* hfsutils keep the mounted volume's name there */
    }
    (void)snprintf(image_path, sizeof(image_path), "%s/image", directory);
}

/* By hformat. */
static UNUSED void image_format(unsigned kib) {
    directory_make();
    ck_assert_int_eq(run("rm -f %s; truncate -s %uK %s && hformat -l 'Old Disk' %s 0 >/dev/null",
                         image_path, kib, image_path, image_path),
                     0);
    image_load();
}

/* By hfs_make(), with a catalog that is too small from the start. */
static UNUSED void image_create(uint64_t size, uint64_t block_size) {
    const HfsMakeConfig config = {.size = size,
                                  .block_size = block_size,
                                  .clump_size = block_size,
                                  .catalog_clump = block_size,
                                  .label = "Fresh",
                                  .encoding = "macroman",
                                  .time = 1700000000};
    char text[HFS_MAKE_TEXT] = "";
    HfsMakePlan plan;

    directory_make();
    ck_assert_msg(hfs_make_plan(&config, &plan, text) == 0, "%s", text);
    free(image);
    image_size = size;
    image = calloc(1, size);
    ck_assert_ptr_nonnull(image);
    ck_assert_int_eq(block_memory_new(size, 512, image, &device), 0);
    ck_assert_int_eq(hfs_make(device, &plan), 0);
    device = block_free(device);
}

static char found_problems[2048];

static bool note_problem(CheckReporter *reporter, const CheckProblem *problem, const char *detail) {
    size_t length = strlen(found_problems);

    (void)reporter;
    (void)snprintf(found_problems + length, sizeof(found_problems) - length, "%s (%s); ",
                   problem->code, detail);
    return false;
}

/* How many problems the checker finds in the image; they are in found_problems. -errno. */
static UNUSED int image_check(CheckResult *ret) {
    CheckReporter reporter = {.problem = note_problem};
    const CheckConfig config = {.force = true};
    char text[CHECK_TEXT] = "";
    BlockDevice *checked;
    int r;

    found_problems[0] = '\0';
    ck_assert_int_eq(block_memory_new(image_size, 512, image, &checked), 0);
    r = hfs_check(checked, &config, &reporter, ret, text);
    (void)block_free(checked);
    if (r < 0) {
        (void)snprintf(found_problems, sizeof(found_problems), "%s", text);
    }
    return r < 0 ? r : (int)ret->found;
}

static UNUSED void hfs_clean(const char *what) {
    CheckResult result = {0};

    if (image_check(&result) != 0) {
        image_store();
        (void)run("cp %s /tmp/test_hfs.failed", image_path);
        ck_abort_msg("%s: %s (image kept as /tmp/test_hfs.failed)", what, found_problems);
    }
}

/* hfsutils, on the image as it is. Volume-relative paths begin with ':'. */
static UNUSED int hfs_tool(const char *command, char *out, size_t capacity) {
    FILE *file;
    int r;

    image_store();
    r = run("cd %s && hmount image 0 >/dev/null && { %s ; } >out 2>&1; r=$?; humount >/dev/null; "
            "exit $r",
            directory, command);
    if (out != NULL) {
        char path[160];
        size_t got;

        (void)snprintf(path, sizeof(path), "%s/out", directory);
        file = fopen(path, "rb");
        ck_assert_ptr_nonnull(file);
        got = fread(out, 1, capacity - 1, file);
        out[got] = '\0';
        (void)fclose(file);
    }
    return r;
}

/* ---- requests ---- */

static UNUSED int set_xattr(uint64_t id, const char *name, const void *value, uint32_t length) {
    return call((FSRequest){.type = FS_MSG_SET_XATTR,
                            .file_id = id,
                            .name = name_of(name),
                            .length = length,
                            .payload = value,
                            .payload_length = length});
}

static UNUSED int get_xattr(uint64_t id, const char *name) {
    int r = call((FSRequest){
        .type = FS_MSG_GET_XATTR, .file_id = id, .name = name_of(name), .length = 65536});

    return r < 0 ? r : (int)response.param1;
}

/* A file with `length` bytes of fill(seed), written piece by piece. */
static UNUSED int64_t put_file(const char *path, uint32_t seed, uint64_t length, uint32_t piece) {
    _cleanup_free_ uint8_t *bytes = malloc(piece);
    int64_t id = make(path, FS_TYPE_FILE);

    for (uint64_t at = 0; !failed(id) && at < length; at += piece) {
        uint32_t part = (uint32_t)MIN((uint64_t)piece, length - at);
        int r;

        fill(bytes, part, seed, at);
        r = write_at((uint64_t)id, at, bytes, part);
        if (r < 0) {
            return r;
        }
        ck_assert_int_eq(r, (int)part);
    }
    return id;
}

static UNUSED void expect_file(uint64_t id, uint32_t seed, uint64_t length) {
    static uint8_t expected[65536];

    ck_assert_int_eq(get_attr(id), 0);
    ck_assert_uint_eq(response.attr.size, length);
    for (uint64_t at = 0; at < length; at += sizeof(expected)) {
        uint32_t part = (uint32_t)MIN((uint64_t)sizeof(expected), length - at);

        ck_assert_int_eq(read_at(id, at, part), (int)part);
        fill(expected, part, seed, at);
        ck_assert_msg(memcmp(response.data, expected, part) == 0, "file %llu differs near %llu",
                      (unsigned long long)id, (unsigned long long)at);
    }
}

#endif
