/* SPDX-License-Identifier: MIT */
/* A part of another device: a partition. Only the offset changes. */
#include "internal.h"

typedef struct SliceState {
    BlockBackend backend;
    BlockDevice *lower;
    uint64_t start;
} SliceState;

static void slice_submit(BlockDevice *device, BlockRequest *request) {
    const SliceState *state = device->state;

    stacked_forward(state->lower, request, state->start + request->offset, request->length,
                    block_complete);
}

static void slice_free(BlockDevice *device) {
    free(device->state);
}

int block_slice_new(BlockDevice *lower, uint64_t start, uint64_t length, BlockDevice **ret) {
    SliceState *state;
    BlockDevice *device;

    if (!range_inside(start, length, lower->size)) {
        return -ERANGE;
    }
    state = calloc(1, sizeof(*state));
    if (state == NULL) {
        return -ENOMEM;
    }
    state->backend = (BlockBackend){.name = "slice", .submit = slice_submit, .free = slice_free};
    state->lower = lower;
    state->start = start;
    device = stacked_device_new(&state->backend, state, lower, length);
    if (device == NULL) {
        free(state);
        return -ENOMEM;
    }
    *ret = device;
    return 0;
}
