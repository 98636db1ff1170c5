/* SPDX-License-Identifier: MIT */
/*
 * Standing on a lower device. The lower one sees a request of its own, since a
 * request's private fields belong to the device it was given to. On a lower
 * device that does not suspend the child lives on the stack and everything
 * happens in place; otherwise it is a heap copy that its completion frees.
 */
#include "internal.h"

typedef struct Forwarded {
    BlockRequest child;
    BlockRequest *parent;
    StackedAfter *after;
    struct iovec iov[]; /* only for a shortened request */
} Forwarded;

BlockDevice *stacked_device_new(BlockBackend *backend, void *state, const BlockDevice *lower,
                                uint64_t size) {
    BlockDevice *device = block_device_new(backend, state, size, lower->sector_size);

    if (device != NULL) {
        backend->suspends = lower->backend->suspends;
        device->direct_alignment = lower->direct_alignment;
        device->readonly = lower->readonly;
    }
    return device;
}

static void forwarded_done(BlockRequest *child) {
    Forwarded *forwarded = child->arg;
    BlockRequest *parent = forwarded->parent;
    StackedAfter *after = forwarded->after;
    int result = child->result;

    free(forwarded);
    after(parent, result);
}

void stacked_forward(BlockDevice *lower, BlockRequest *request, uint64_t offset, uint64_t length,
                     StackedAfter *after) {
    bool shortened = length < request->length && request->iov_count > 0;
    BlockRequest child = {
        .op = request->op,
        .offset = offset,
        .length = length,
        .iov = request->iov,
        .iov_count = request->iov_count,
        .forced = request->forced,
    };
    Forwarded *forwarded;

    if (!lower->backend->suspends && !shortened) {
        after(request, block_perform(lower, &child));
        return;
    }
    forwarded = malloc(sizeof(*forwarded) + (size_t)request->iov_count * sizeof(struct iovec));
    if (forwarded == NULL) {
        after(request, -ENOMEM);
        return;
    }
    if (shortened) {
        IovCursor cursor;
        uint64_t bytes;

        iov_cursor_init(&cursor, request->iov, request->iov_count);
        child.iov_count =
            iov_cursor_take(&cursor, length, forwarded->iov, request->iov_count, &bytes);
        child.iov = forwarded->iov;
    }
    child.done = forwarded_done;
    child.arg = forwarded;
    forwarded->child = child;
    forwarded->parent = request;
    forwarded->after = after;
    block_start(lower, &forwarded->child);
}
