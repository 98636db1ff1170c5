/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: any bytes as a FAT image are mounted, walked, read, written to and unmounted through
 * the in-process client. The first byte chooses read-only or read-write; the rest is the image.
 */
#include "berth/log.h"
#include "volume_driver.h"

#define IMAGE_MAX (4u << 20)

static void ignore_line(void *arg, LogLevel level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

static void write_a_little(Driver *driver) {
    static uint8_t bytes[20000];

    (void)driver_create(driver, "new file with a long name.txt", FS_TYPE_FILE);
    (void)driver_write(driver, "new file with a long name.txt", 100, bytes, sizeof(bytes));
    (void)driver_create(driver, "NEWDIR", FS_TYPE_DIRECTORY);
    (void)driver_rename(driver, "new file with a long name.txt", "NEWDIR/moved");
    (void)driver_write(driver, "SMALL.TXT", 3, bytes, 600);
    (void)driver_truncate(driver, "a longer file name.dat", 10);
    (void)driver_unlink(driver, "a longer file name.dat", false);
    (void)driver_rename(driver, "dir", "NEWDIR/dir");
    (void)driver_unlink(driver, "dir/sub directory with a long name", true);
    (void)driver_sync(driver);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    BlockDevice *device = NULL;
    Driver driver;
    unsigned errors = 0;

    if (size < 2 || size > IMAGE_MAX) {
        return 0;
    }
    log_set_sink(ignore_line, NULL);
    uint8_t *image = malloc(size - 1);
    if (image == NULL) {
        return 0;
    }
    memcpy(image, data + 1, size - 1);
    bool writing = (data[0] & 1) != 0;
    if (block_memory_new(size - 1, 512, image, &device) == 0) {
        if (driver_mount(&driver, device, writing ? "log=128K" : "ro,log=128K") == 0) {
            (void)driver_walk(&driver, 300, 200000, &errors);
            if (writing) {
                write_a_little(&driver);
            }
            (void)driver_unmount(&driver);
        }
        if (!writing && memcmp(image, data + 1, size - 1) != 0) {
            abort(); /* a read-only mount wrote */
        }
        block_free(device);
    }
    free(image);
    return 0;
}
