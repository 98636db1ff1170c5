/* SPDX-License-Identifier: MIT */
/* Reading and writing files of this side as a whole, and telling of failures. */
#include "copy.h"
#include "berth/log.h"

#include <sys/stat.h>

#define WHOLE_MAX (2 * MAC_FORK_MAX + MAC_FORK_MAX) /* BinHex takes half as much again */

int copy_failed(Copy *copy, const char *name, int error) {
    log_error("%s: %s", name, strerror(-error));
    copy->failed = true;
    return error;
}

int copy_read_all(int fd, uint8_t **ret, size_t *ret_size) {
    size_t capacity = 65536, size = 0;
    uint8_t *bytes = malloc(capacity);

    for (;;) {
        ssize_t n = bytes == NULL ? -1 : read(fd, bytes + size, capacity - size);

        if (n <= 0) {
            int r = bytes == NULL ? -ENOMEM : n < 0 ? -errno : 0;

            if (r < 0) {
                free(bytes);
                return r;
            }
            *ret = bytes;
            *ret_size = size;
            return 0;
        }
        size += (size_t)n;
        if (size > WHOLE_MAX) {
            free(bytes);
            return -EFBIG;
        }
        if (size == capacity) {
            uint8_t *more = realloc(bytes, capacity * 2);

            if (more == NULL) {
                free(bytes);
            }
            bytes = more;
            capacity *= 2;
        }
    }
}

int copy_write_all(int fd, const void *bytes, uint64_t size) {
    const uint8_t *at = bytes;

    while (size > 0) {
        ssize_t n = write(fd, at, MIN(size, UINT64_C(1) << 30));

        if (n < 0) {
            return -errno;
        }
        at += n;
        size -= (uint64_t)n;
    }
    return 0;
}
