/* SPDX-License-Identifier: MIT */
/*
 * What the files of the block module share: making devices, starting requests
 * whose completion may come in place, cutting iovec lists, opening images, and
 * standing on a lower device.
 */
#ifndef BERTH_BLOCK_INTERNAL_H
#define BERTH_BLOCK_INTERNAL_H

#include "berth/block.h"
#include <sys/types.h>

/* ---- device.c ---- */

/* A device over state (taken over on success only); NULL: no memory. */
BlockDevice *block_device_new(const BlockBackend *backend, void *state, uint64_t size,
                              uint32_t sector_size);
/* block_submit() whose done may run before it returns. */
void block_start(BlockDevice *device, BlockRequest *request);
/* The whole request on a device that does not suspend: no done, the result returned. */
int block_perform(BlockDevice *device, BlockRequest *request);
/* Has block_poll() called at the loop's next turn, if the thread has a loop. */
void block_poll_later(BlockDevice *device);

/* ---- iov.c: a position in a caller's iovec list ---- */

typedef struct IovCursor {
    const struct iovec *iov;
    int count;     /* elements from iov on */
    size_t offset; /* bytes of iov[0] already used */
} IovCursor;

void iov_cursor_init(IovCursor *cursor, const struct iovec *iov, int count);
/* The contiguous memory at the position; *ret_length is 0 at the end. */
void *iov_cursor_peek(const IovCursor *cursor, size_t *ret_length);
void iov_cursor_advance(IovCursor *cursor, uint64_t bytes);
/* Describes up to `bytes` from the position on in at most `capacity` elements; returns how many
 * elements, *ret_bytes what they cover. The position stays. */
int iov_cursor_take(const IovCursor *cursor, uint64_t bytes, struct iovec *out, int capacity,
                    uint64_t *ret_bytes);

/* ---- image.c: an image file or block device ---- */

typedef struct BlockImage {
    int fd;         /* own duplicate */
    uint64_t start; /* of the volume in the image */
    uint64_t size;  /* of the volume */
    uint32_t sector_size;
    bool readonly;
} BlockImage;

int image_open(const BlockOpenConfig *config, BlockImage *ret);
/*
 * One blocking system call for a request or a part of one: bytes moved (may be
 * fewer than asked), 0 for flush and discard, -errno. EINTR is retried.
 */
ssize_t image_call(int fd, BlockOp op, const struct iovec *iov, int iov_count, uint64_t offset,
                   uint64_t length);

/* ---- stacked.c: devices that stand on another one ---- */

/* Called with the lower device's result; must end in block_complete(). */
typedef void StackedAfter(BlockRequest *request, int result);

/* A device like lower, suspending as it does. *backend is a copy that the state owns. */
BlockDevice *stacked_device_new(BlockBackend *backend, void *state, const BlockDevice *lower,
                                uint64_t size);
/* Passes the first `length` bytes of request on to lower, at offset; then after(). */
void stacked_forward(BlockDevice *lower, BlockRequest *request, uint64_t offset, uint64_t length,
                     StackedAfter *after);

#endif
