/* SPDX-License-Identifier: MIT */
/*
 * The plain backend: pread, pwrite, fdatasync, in place. For tools and tests;
 * it blocks the thread, so daemons use uring.
 */
#include "internal.h"

#define CALL_IOV_MAX 64

static int transfer(const BlockImage *image, const BlockRequest *request) {
    IovCursor cursor;
    uint64_t moved = 0;

    iov_cursor_init(&cursor, request->iov, request->iov_count);
    while (moved < request->length) {
        struct iovec iov[CALL_IOV_MAX];
        uint64_t bytes;
        int count = iov_cursor_take(&cursor, request->length - moved, iov, CALL_IOV_MAX, &bytes);
        ssize_t n = image_call(image->fd, request->op, iov, count,
                               image->start + request->offset + moved, bytes);

        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            return -EIO; /* the end of the file inside the device: truncated under us */
        }
        iov_cursor_advance(&cursor, (uint64_t)n);
        moved += (uint64_t)n;
    }
    return 0;
}

static void posix_submit(BlockDevice *device, BlockRequest *request) {
    const BlockImage *image = device->state;
    int result;

    if (request->op == BLOCK_READ || request->op == BLOCK_WRITE) {
        result = transfer(image, request);
    } else {
        result = (int)image_call(image->fd, request->op, NULL, 0, image->start + request->offset,
                                 request->length);
    }
    block_complete(request, result);
}

static void posix_free(BlockDevice *device) {
    BlockImage *image = device->state;

    (void)close(image->fd);
    free(image);
}

static const BlockBackend posix_backend = {
    .name = "posix", .suspends = false, .submit = posix_submit, .free = posix_free};

int block_posix_new(const BlockOpenConfig *config, BlockDevice **ret) {
    _cleanup_free_ BlockImage *image = calloc(1, sizeof(*image));
    BlockDevice *device;
    int r;

    if (config->direct > 0) {
        return -EOPNOTSUPP;
    }
    if (image == NULL) {
        return -ENOMEM;
    }
    r = image_open(config, image);
    if (r < 0) {
        return r;
    }
    device = block_device_new(&posix_backend, image, image->size, image->sector_size);
    if (device == NULL) {
        (void)close(image->fd);
        return -ENOMEM;
    }
    device->readonly = image->readonly;
    (void)STEAL_PTR(image);
    *ret = device;
    return 0;
}
