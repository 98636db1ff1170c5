/* SPDX-License-Identifier: MIT */
/*
 * The callback form of an operation: a fiber of its own runs the request and calls
 * done, exactly once and never before fs_op_async() has returned (a new fiber
 * starts when the scheduler next runs). Everything the caller passed stays the
 * caller's; only this file's small task is freed here.
 */
#include "internal.h"

typedef struct AsyncOp {
    Volume *volume;
    const FSRequest *request;
    ServiceBuffers buffers;
    FsOpDone *done;
    void *ctx;
} AsyncOp;

MAY_YIELD static void async_fiber(void *arg) {
    AsyncOp op = *(AsyncOp *)arg;
    FSResponse response;

    free(arg);
    service_dispatch(op.volume, op.request, &op.buffers, &response);
    op.done(op.ctx, &response);
}

int fs_op_async(Volume *volume, const FSRequest *request, const ServiceBuffers *buffers,
                FsOpDone *done, void *ctx) {
    AsyncOp *op = malloc(sizeof(*op));

    if (op == NULL) {
        return -ENOMEM;
    }
    *op = (AsyncOp){volume, request, *buffers, done, ctx};
    if (fiber_spawn(async_fiber, op, "request") == NULL) {
        int r = errno == EAGAIN ? -EAGAIN : -ENOMEM;

        free(op);
        return r;
    }
    return 0;
}
