/* SPDX-License-Identifier: MIT */
/*
 * Many requests in flight, one wait. On a device that does not suspend each
 * request is done as it is added; otherwise a heap copy of request and iovec
 * list lives until the wait. The first error in order of completion is kept.
 */
#include "internal.h"
#include <assert.h>

typedef struct BatchEntry {
    ListNode node;
    BlockBatch *batch;
    BlockRequest request;
    struct iovec iov[];
} BatchEntry;

void block_batch_init(BlockBatch *batch, BlockDevice *device) {
    *batch = (BlockBatch){.device = device};
    list_init(&batch->requests);
}

static void note_result(BlockBatch *batch, int result) {
    if (result < 0 && batch->first_error == 0) {
        batch->first_error = result;
    }
}

static void entry_done(BlockRequest *request) {
    BatchEntry *entry = request->arg;
    BlockBatch *batch = entry->batch;

    assert(batch->pending > 0);
    batch->pending--;
    note_result(batch, request->result);
    if (batch->pending == 0 && batch->waiter != NULL) {
        fiber_wake(batch->waiter);
    }
}

static int add(BlockBatch *batch, BlockOp op, uint64_t offset, const struct iovec *iov,
               int iov_count) {
    BlockRequest request = {.op = op, .offset = offset, .iov = iov, .iov_count = iov_count};
    BatchEntry *entry;

    for (int i = 0; i < iov_count; i++) {
        request.length += iov[i].iov_len;
    }
    if (!block_suspends(batch->device)) {
        note_result(batch, block_perform(batch->device, &request));
        return 0;
    }
    entry = malloc(sizeof(*entry) + (size_t)iov_count * sizeof(*iov));
    if (entry == NULL) {
        return -ENOMEM;
    }
    *entry = (BatchEntry){.batch = batch, .request = request};
    memcpy(entry->iov, iov, (size_t)iov_count * sizeof(*iov));
    entry->request.iov = entry->iov;
    entry->request.done = entry_done;
    entry->request.arg = entry;
    list_append(&batch->requests, &entry->node);
    batch->pending++;
    block_start(batch->device, &entry->request);
    return 0;
}

int block_batch_read(BlockBatch *batch, uint64_t offset, void *buf, uint64_t length) {
    struct iovec iov = {.iov_base = buf, .iov_len = length};

    return add(batch, BLOCK_READ, offset, &iov, 1);
}

int block_batch_write(BlockBatch *batch, uint64_t offset, const void *buf, uint64_t length) {
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = length};

    return add(batch, BLOCK_WRITE, offset, &iov, 1);
}

int block_batch_writev(BlockBatch *batch, uint64_t offset, const struct iovec *iov, int iov_count) {
    return add(batch, BLOCK_WRITE, offset, iov, iov_count);
}

MAY_YIELD int block_batch_wait(BlockBatch *batch) {
    int result;
    ListNode *node;
    Fiber *self = batch->pending > 0 ? fiber_self() : NULL;

    batch->waiter = self;
    while (batch->pending > 0) {
        if (self != NULL) {
            fiber_suspend();
        } else {
            int r = loop_step(loop_current(), true);

            assert(r >= 0);
            (void)r;
        }
    }
    while ((node = list_first(&batch->requests)) != NULL) {
        list_remove(node);
        free(container_of(node, BatchEntry, node));
    }
    result = batch->first_error;
    batch->first_error = 0;
    batch->waiter = NULL;
    return result;
}
