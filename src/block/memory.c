/* SPDX-License-Identifier: MIT */
/* A device in memory, its own or the caller's. Never suspends, never fails, discards to zeros. */
#include "internal.h"
#include <assert.h>

typedef struct MemoryState {
    uint8_t *data;
    bool owned;
} MemoryState;

static void memory_submit(BlockDevice *device, BlockRequest *request) {
    const MemoryState *state = device->state;
    uint8_t *at = state->data + request->offset;

    if (request->op == BLOCK_DISCARD) {
        memset(at, 0, request->length);
    } else if (request->op != BLOCK_FLUSH) {
        for (int i = 0; i < request->iov_count; i++) {
            const struct iovec *iov = &request->iov[i];

            if (iov->iov_len == 0) {
                continue;
            }
            if (request->op == BLOCK_READ) {
                memcpy(iov->iov_base, at, iov->iov_len);
            } else {
                memcpy(at, iov->iov_base, iov->iov_len);
            }
            at += iov->iov_len;
        }
    }
    block_complete(request, 0);
}

static void memory_free(BlockDevice *device) {
    MemoryState *state = device->state;

    if (state->owned) {
        free(state->data);
    }
    free(state);
}

static const BlockBackend memory_backend = {
    .name = "memory", .suspends = false, .submit = memory_submit, .free = memory_free};

int block_memory_new(uint64_t size, uint32_t sector_size, void *data, BlockDevice **ret) {
    _cleanup_free_ MemoryState *state = calloc(1, sizeof(*state));
    _cleanup_free_ uint8_t *own = NULL;
    BlockDevice *device;

    if (size > PTRDIFF_MAX || !is_power_of_2(sector_size)) {
        return -EINVAL;
    }
    if (data == NULL) {
        own = calloc(1, size > 0 ? size : 1);
    }
    if (state == NULL || (data == NULL && own == NULL)) {
        return -ENOMEM;
    }
    state->owned = data == NULL;
    state->data = data != NULL ? data : own;
    device = block_device_new(&memory_backend, state, size, sector_size);
    if (device == NULL) {
        return -ENOMEM;
    }
    (void)STEAL_PTR(own);
    (void)STEAL_PTR(state);
    *ret = device;
    return 0;
}

uint8_t *block_memory_data(BlockDevice *device) {
    const MemoryState *state = device->state;

    assert(device->backend == &memory_backend);
    return state->data;
}
