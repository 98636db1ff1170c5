/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: an HFS volume is made, damaged as the input says, checked and repaired. A check that
 * refuses everything must write nothing; a volume that was repaired wholly must be sound at the
 * second look.
 *
 * Input: pieces of four bytes, each of which changes one byte of the metadata: place (24 bits,
 * taken modulo what there is) and value. So every input is near a volume, which random bytes never
 * are.
 */
#include "berth/hfs.h"
#include "berth/log.h"
#include "volume_driver.h"
#include <stdio.h>

#define IMAGE_SIZE (420u * 1024u)
#define PIECE 4u
#define PIECES_MAX 64u

static uint8_t *base;   /* the sound volume */
static size_t metadata; /* bytes of it, from the start: up to the end of the trees */

static void ignore_line(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

typedef struct Answer {
    CheckReporter reporter;
    bool repair;
} Answer;

static bool give_answer(CheckReporter *reporter, const CheckProblem *problem, const char *detail) {
    (void)detail;
    return container_of(reporter, Answer, reporter)->repair && problem->repair != NULL;
}

static int check(uint8_t *image, bool repair, CheckResult *ret) {
    Answer answer = {.reporter = {.problem = give_answer}, .repair = repair};
    const CheckConfig config = {.force = true};
    BlockDevice *device = NULL;
    char text[CHECK_TEXT];
    int r = block_memory_new(IMAGE_SIZE, 512, image, &device);

    if (r < 0) {
        return r;
    }
    device->readonly = !repair;
    r = hfs_check(device, &config, &answer.reporter, ret, text);
    (void)block_free(device);
    return r;
}

static void fill(BlockDevice *device) {
    static uint8_t bytes[3000];
    char name[64];
    Driver driver;

    if (driver_mount_type(&driver, &hfs_type, device, "") < 0) {
        abort();
    }
    (void)driver_create(&driver, "Folder", FS_TYPE_DIRECTORY);
    (void)driver_create(&driver, "Folder/Inner", FS_TYPE_DIRECTORY);
    for (unsigned i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof(name), "%sA file with the number %u",
                       i % 2 == 0 ? "Folder/" : "", i);
        (void)driver_create(&driver, name, FS_TYPE_FILE);
    }
    for (unsigned i = 0; i < 24; i++) { /* in turns: forks of many pieces */
        (void)snprintf(name, sizeof(name), "Folder/A file with the number %u", i % 3 * 2);
        (void)driver_write(&driver, name, i / 3 * sizeof(bytes), bytes, sizeof(bytes));
    }
    if (driver_unmount(&driver) < 0) {
        abort();
    }
}

static void make_base(void) {
    const HfsMakeConfig config = {
        .size = IMAGE_SIZE, .label = "Fuzz", .encoding = "macroman", .catalog_clump = 16384};
    BlockDevice *device = NULL;
    char text[HFS_MAKE_TEXT];
    HfsMakePlan plan;
    CheckResult result;

    base = calloc(1, IMAGE_SIZE);
    if (base == NULL || hfs_make_plan(&config, &plan, text) < 0 ||
        block_memory_new(IMAGE_SIZE, 512, base, &device) < 0 || hfs_make(device, &plan) < 0) {
        abort();
    }
    fill(device);
    (void)block_free(device);
    metadata = plan.first_block * 512u +
               (size_t)(plan.extents_blocks + plan.catalog_blocks) * plan.block_size;
    if (check(base, false, &result) < 0 || result.found > 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *image = malloc(IMAGE_SIZE), *copy = malloc(IMAGE_SIZE);
    CheckResult result;

    log_set_sink(ignore_line, NULL);
    if (base == NULL) {
        make_base();
    }
    if (image == NULL || copy == NULL) {
        abort();
    }
    memcpy(image, base, IMAGE_SIZE);
    for (size_t i = 0; i + PIECE <= size && i < PIECES_MAX * PIECE; i += PIECE) {
        uint32_t place =
            (uint32_t)data[i] | (uint32_t)data[i + 1] << 8 | (uint32_t)data[i + 2] << 16;

        image[1024 + place % (metadata - 1024)] = data[i + 3];
    }
    memcpy(copy, image, IMAGE_SIZE);
    (void)check(image, false, &result);
    if (memcmp(image, copy, IMAGE_SIZE) != 0) {
        abort(); /* it was told to change nothing */
    }
    if (check(image, true, &result) == 0 && result.repaired == result.found &&
        (check(image, false, &result) < 0 || result.found > 0)) {
        abort(); /* it said that all was repaired */
    }
    free(image);
    free(copy);
    return 0;
}
