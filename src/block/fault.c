/* SPDX-License-Identifier: MIT */
/*
 * Injects faults between a device and its user: the Nth request of a kind
 * fails, a failing write may be torn, a range is bad, completions come late.
 * The BlockFaults structure is the caller's and may be changed at any time.
 *
 * A held completion has its result already; block_poll() counts it down. Only
 * block_submit() completions are held: a blocking form has nobody to poll.
 */
#include "internal.h"
#include <assert.h>

typedef struct FaultState {
    BlockBackend backend;
    BlockDevice *lower;
    BlockFaults *faults;
    List held;
} FaultState;

/* Lies in request->backend. */
typedef struct FaultScratch {
    int error; /* injected, 0: none */
    int result;
    unsigned steps;
} FaultScratch;
static_assert(sizeof(FaultScratch) <= sizeof(((BlockRequest *)NULL)->backend), "scratch space");

static FaultScratch *fault_scratch(BlockRequest *request) {
    return (void *)request->backend;
}

static bool count_down(uint64_t *at, bool sticky) {
    if (*at == 0) {
        return false;
    }
    if (*at > 1) {
        --*at;
        return false;
    }
    if (!sticky) {
        *at = 0;
    }
    return true;
}

static bool touches_bad_range(const BlockFaults *faults, const BlockRequest *request) {
    uint64_t start = faults->fail_range_start, length = faults->fail_range_length;

    return request->offset >= start ? request->offset - start < length
                                    : start - request->offset < request->length && length > 0;
}

/* Counts the request; true when it shall fail. */
static bool draw_fault(BlockFaults *faults, const BlockRequest *request) {
    bool bad = false;

    switch (request->op) {
    case BLOCK_READ:
        faults->reads++;
        bad =
            count_down(&faults->fail_read_at, faults->sticky) || touches_bad_range(faults, request);
        break;
    case BLOCK_WRITE:
        faults->writes++;
        bad = count_down(&faults->fail_write_at, faults->sticky) ||
              touches_bad_range(faults, request);
        break;
    case BLOCK_FLUSH:
        faults->flushes++;
        bad = count_down(&faults->fail_flush_at, faults->sticky);
        break;
    case BLOCK_DISCARD:
        break;
    }
    return bad;
}

static void fault_after(BlockRequest *request, int result) {
    FaultState *state = request->device->state;
    FaultScratch *scratch = fault_scratch(request);

    scratch->result = scratch->error != 0 ? scratch->error : result;
    if (state->faults->delay_steps == 0 || request->in_place) {
        block_complete(request, scratch->result);
        return;
    }
    scratch->steps = state->faults->delay_steps;
    list_append(&state->held, &request->node);
    block_poll_later(request->device);
}

static void fault_submit(BlockDevice *device, BlockRequest *request) {
    FaultState *state = device->state;
    FaultScratch *scratch = fault_scratch(request);
    uint64_t half;

    scratch->error = 0;
    if (!draw_fault(state->faults, request)) {
        stacked_forward(state->lower, request, request->offset, request->length, fault_after);
        return;
    }
    scratch->error = state->faults->error != 0 ? -state->faults->error : -EIO;
    half = align_down(request->length / 2, device->sector_size);
    if (request->op == BLOCK_WRITE && state->faults->tear && half > 0) {
        stacked_forward(state->lower, request, request->offset, half, fault_after);
    } else {
        fault_after(request, scratch->error);
    }
}

static unsigned fault_poll(BlockDevice *device) {
    FaultState *state = device->state;
    List ready;
    ListNode *node, *next;
    unsigned count = 0;

    list_init(&ready);
    for (node = list_first(&state->held); node != NULL; node = next) {
        FaultScratch *scratch = fault_scratch(container_of(node, BlockRequest, node));

        next = list_next(&state->held, node);
        if (scratch->steps-- == 0) {
            list_remove(node);
            list_append(&ready, node);
        }
    }
    if (!list_empty(&state->held)) {
        block_poll_later(device);
    }
    while ((node = list_first(&ready)) != NULL) {
        BlockRequest *request = container_of(node, BlockRequest, node);

        list_remove(node);
        block_complete(request, fault_scratch(request)->result);
        count++;
    }
    return count;
}

static void fault_free(BlockDevice *device) {
    FaultState *state = device->state;

    assert(list_empty(&state->held));
    free(state);
}

int block_fault_new(BlockDevice *lower, BlockFaults *faults, BlockDevice **ret) {
    FaultState *state = calloc(1, sizeof(*state));
    BlockDevice *device;

    if (state == NULL) {
        return -ENOMEM;
    }
    state->backend = (BlockBackend){
        .name = "fault", .submit = fault_submit, .poll = fault_poll, .free = fault_free};
    state->lower = lower;
    state->faults = faults;
    list_init(&state->held);
    device = stacked_device_new(&state->backend, state, lower, lower->size);
    if (device == NULL) {
        free(state);
        return -ENOMEM;
    }
    *ret = device;
    return 0;
}
