/* SPDX-License-Identifier: MIT */
/* Logs every request of the device below: what, where, how it ended, how long it took. */
#include "berth/log.h"
#include "berth/stats.h"
#include "internal.h"
#include <assert.h>
#include <inttypes.h>

typedef struct TraceState {
    BlockBackend backend;
    BlockDevice *lower;
} TraceState;

/* Lies in request->backend. */
typedef struct TraceScratch {
    uint64_t started_ns;
} TraceScratch;
static_assert(sizeof(TraceScratch) <= sizeof(((BlockRequest *)NULL)->backend), "scratch space");

static const char *op_name(BlockOp op) {
    switch (op) {
    case BLOCK_READ:
        return "read";
    case BLOCK_WRITE:
        return "write";
    case BLOCK_FLUSH:
        return "flush";
    case BLOCK_DISCARD:
        return "discard";
    }
    return "?";
}

static void trace_after(BlockRequest *request, int result) {
    const TraceScratch *scratch = (const void *)request->backend;
    uint64_t took = clock_monotonic_ns() - scratch->started_ns;

    log_info("block %s %" PRIu64 "+%" PRIu64 ": %s, %" PRIu64 " us", op_name(request->op),
             request->offset, request->length, result < 0 ? strerror(-result) : "ok", took / 1000);
    block_complete(request, result);
}

static void trace_submit(BlockDevice *device, BlockRequest *request) {
    const TraceState *state = device->state;
    TraceScratch *scratch = (void *)request->backend;

    scratch->started_ns = clock_monotonic_ns();
    stacked_forward(state->lower, request, request->offset, request->length, trace_after);
}

static void trace_free(BlockDevice *device) {
    free(device->state);
}

int block_trace_new(BlockDevice *lower, BlockDevice **ret) {
    TraceState *state = calloc(1, sizeof(*state));
    BlockDevice *device;

    if (state == NULL) {
        return -ENOMEM;
    }
    state->backend = (BlockBackend){.name = "trace", .submit = trace_submit, .free = trace_free};
    state->lower = lower;
    device = stacked_device_new(&state->backend, state, lower, lower->size);
    if (device == NULL) {
        free(state);
        return -ENOMEM;
    }
    *ret = device;
    return 0;
}
