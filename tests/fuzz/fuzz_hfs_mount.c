/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: an HFS volume of our own making (names in two levels of nodes, forks in pieces),
 * some of whose metadata is changed, is mounted, walked, read, written to and unmounted through the
 * in-process client. The first byte chooses read-only or read-write, and how resource forks are
 * shown; then come the changes, four bytes each: 24 bits of offset and the new value. With
 * appledouble the changes are also what is written to a file's ._NAME.
 */
#include "berth/hfs.h"
#include "berth/log.h"
#include "volume_driver.h"
#include <stdio.h>

#define IMAGE_SIZE (600u * 1024u)
#define METADATA (64u * 1024u) /* both trees lie in front */

static uint8_t *good;

static void ignore_line(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

static void fill_volume(BlockDevice *device) {
    static uint8_t bytes[3000];
    Driver driver;
    char path[64];

    if (driver_mount_type(&driver, &hfs_type, device, "log=128K") != 0) {
        abort();
    }
    (void)driver_create(&driver, "dir", FS_TYPE_DIRECTORY);
    (void)driver_create(&driver, "dir/sub", FS_TYPE_DIRECTORY);
    for (unsigned i = 0; i < 50; i++) {
        (void)snprintf(path, sizeof(path), "%sa file with number %u", i % 2 == 0 ? "dir/" : "", i);
        (void)driver_create(&driver, path, FS_TYPE_FILE);
        (void)driver_write(&driver, path, 0, bytes, i * 60);
    }
    (void)driver_create(&driver, "dir/sub/one", FS_TYPE_FILE);
    (void)driver_create(&driver, "dir/sub/two", FS_TYPE_FILE);
    for (unsigned i = 0; i < 60; i++) {
        (void)driver_write(&driver, "dir/sub/one", i * 512, bytes, 512);
        (void)driver_write(&driver, "dir/sub/two", i * 512, bytes, 512);
    }
    (void)driver_unmount(&driver);
}

static void make_good(void) {
    const HfsMakeConfig config = {
        .size = IMAGE_SIZE, .block_size = 512, .label = "Fuzz", .encoding = "macroman"};
    char text[HFS_MAKE_TEXT];
    BlockDevice *device;
    HfsMakePlan plan;

    good = calloc(1, IMAGE_SIZE);
    if (good == NULL || hfs_make_plan(&config, &plan, text) < 0 ||
        block_memory_new(IMAGE_SIZE, 512, good, &device) < 0 || hfs_make(device, &plan) < 0) {
        abort();
    }
    fill_volume(device);
    block_free(device);
}

static void write_a_little(Driver *driver) {
    static uint8_t bytes[20000];

    (void)driver_create(driver, "new file", FS_TYPE_FILE);
    (void)driver_write(driver, "new file", 100, bytes, sizeof(bytes));
    (void)driver_create(driver, "NEWDIR", FS_TYPE_DIRECTORY);
    (void)driver_rename(driver, "new file", "NEWDIR/moved");
    (void)driver_write(driver, "dir/sub/one", 40000, bytes, 600);
    (void)driver_truncate(driver, "dir/sub/two", 10);
    (void)driver_unlink(driver, "a file with number 17", false);
    (void)driver_exchange(driver, "a file with number 19", "dir/sub");
    (void)driver_rename(driver, "dir", "NEWDIR/dir");
    (void)driver_sync(driver);
}

static void write_forks(Driver *driver, const uint8_t *data, size_t size) {
    static const char fork[] = "dir/sub/..namedfork/two", double_name[] = "dir/sub/._two";
    static uint8_t bytes[5000];

    (void)driver_write(driver, fork, 3, bytes, sizeof(bytes));
    (void)driver_truncate(driver, fork, 700);
    (void)driver_create(driver, double_name, FS_TYPE_FILE);
    (void)driver_write(driver, double_name, 0, data, (uint32_t)size);
    (void)driver_write(driver, double_name, 40, data, (uint32_t)size);
    (void)driver_write(driver, double_name, 1000, bytes, sizeof(bytes));
    (void)driver_truncate(driver, double_name, 90);
    (void)driver_unlink(driver, "dir/sub/._one", false);
    (void)driver_unlink(driver, "dir/sub/..namedfork/one", false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t image[IMAGE_SIZE], before[IMAGE_SIZE];
    BlockDevice *device = NULL;
    Driver driver;
    unsigned errors = 0;
    char options[64];
    bool writing;

    log_set_sink(ignore_line, NULL);
    if (good == NULL) {
        make_good();
    }
    if (size < 1) {
        return 0;
    }
    writing = data[0] & 1;
    memcpy(image, good, IMAGE_SIZE);
    for (size_t i = 1; i + 4 <= size; i += 4) {
        uint32_t offset = ((uint32_t)data[i] << 16 | (uint32_t)data[i + 1] << 8 | data[i + 2]);
        image[1024 + offset % METADATA] = data[i + 3];
    }
    memcpy(before, image, IMAGE_SIZE);
    if (block_memory_new(IMAGE_SIZE, 512, image, &device) < 0) {
        return 0;
    }
    (void)snprintf(options, sizeof(options), "log=128K%s%s", writing ? "" : ",ro",
                   data[0] & 2 ? ",appledouble" : "");
    if (driver_mount_type(&driver, &hfs_type, device, options) == 0) {
        (void)driver_walk(&driver, 300, 100000, &errors);
        if (writing) {
            write_forks(&driver, data + 1, MIN(size - 1, (size_t)4096));
            write_a_little(&driver);
        }
        (void)driver_unmount(&driver);
    }
    if (!writing && memcmp(image, before, IMAGE_SIZE) != 0) {
        abort(); /* a read-only mount wrote */
    }
    block_free(device);
    return 0;
}
