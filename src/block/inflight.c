/* SPDX-License-Identifier: MIT */
/*
 * Writes noted in memory that outlives the process. An entry is stored before
 * its request goes down and cleared after it has ended, so whatever a dead
 * process may still have under way is in the table.
 *
 * `foreign` is what was found there: a private copy, because the table is
 * shared memory. The entries themselves stay until block_inflight_settled():
 * if this process dies as well, its successor must find them.
 *
 * A request that may not go down yet waits in arrival order; those behind it
 * may pass it, as writes under way at the same time have no order anyway.
 */
#include "internal.h"
#include <assert.h>

typedef struct InflightState {
    BlockBackend backend;
    BlockDevice *lower;
    BlockInflight *table;   /* shared */
    BlockInflight *foreign; /* copy of the entries found, length 0: none */
    bool *mine;             /* entries of requests under way */
    unsigned count;
    unsigned next; /* where to look first for a free one */
    bool looked, settled;
    bool draining;
    List waiting;
} InflightState;

/* Lies in request->backend. */
typedef struct InflightScratch {
    unsigned entry;
} InflightScratch;
static_assert(sizeof(InflightScratch) <= sizeof(((BlockRequest *)NULL)->backend), "scratch space");

static InflightScratch *inflight_scratch(BlockRequest *request) {
    return (void *)request->backend;
}

static void settle(InflightState *state) {
    for (unsigned i = 0; i < state->count; i++) {
        if (state->foreign[i].length > 0) {
            __atomic_store_n(&state->table[i].length, 0, __ATOMIC_RELEASE);
        }
    }
    state->settled = true;
}

/* Takes note of what predecessors left, once. */
static void look(InflightState *state, uint64_t size) {
    bool found = false;

    if (state->looked) {
        return;
    }
    state->looked = true;
    for (unsigned i = 0; i < state->count; i++) {
        uint64_t length = __atomic_load_n(&state->table[i].length, __ATOMIC_ACQUIRE);
        uint64_t offset = __atomic_load_n(&state->table[i].offset, __ATOMIC_RELAXED);

        if (length > 0 && !range_inside(offset, length, size)) {
            offset = 0;
            length = size;
        }
        state->foreign[i] = (BlockInflight){.offset = offset, .length = length};
        found |= length > 0;
    }
    if (!found || !state->backend.suspends) {
        settle(state);
    }
}

static bool overlaps_foreign(const InflightState *state, const BlockRequest *request) {
    if (state->settled) {
        return false;
    }
    for (unsigned i = 0; i < state->count; i++) {
        const BlockInflight *entry = &state->foreign[i];

        if (request->offset < entry->offset + entry->length &&
            entry->offset < request->offset + request->length) {
            return true;
        }
    }
    return false;
}

/* An entry that is neither ours nor a predecessor's. False: there is none. */
static bool find_entry(InflightState *state, unsigned *ret) {
    for (unsigned i = 0; i < state->count; i++) {
        unsigned at = (state->next + i) % state->count;

        if (!state->mine[at] && (state->settled || state->foreign[at].length == 0)) {
            state->next = (at + 1) % state->count;
            *ret = at;
            return true;
        }
    }
    return false;
}

static void drain(InflightState *state);

static void inflight_after(BlockRequest *request, int result) {
    InflightState *state = request->device->state;
    unsigned entry = inflight_scratch(request)->entry;
    bool others = !list_empty(&state->waiting);

    __atomic_store_n(&state->table[entry].length, 0, __ATOMIC_RELEASE);
    state->mine[entry] = false;
    block_complete(request, result);
    /* Without others the device may be gone by now. */
    if (others) {
        drain(state);
    }
}

/* False: it has to wait. */
static bool try_start(InflightState *state, BlockRequest *request) {
    unsigned entry;

    if (overlaps_foreign(state, request) || !find_entry(state, &entry)) {
        return false;
    }
    state->mine[entry] = true;
    inflight_scratch(request)->entry = entry;
    /* The length makes it an entry. */
    __atomic_store_n(&state->table[entry].offset, request->offset, __ATOMIC_RELAXED);
    __atomic_store_n(&state->table[entry].length, request->length, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (list_linked(&request->node)) {
        list_remove(&request->node);
    }
    stacked_forward(state->lower, request, request->offset, request->length, inflight_after);
    return true;
}

/* Starts what can start. A request may end in place and free an entry for one that was skipped, so
 * the search begins again after each. */
static void drain(InflightState *state) {
    bool started = true;

    if (state->draining) {
        return;
    }
    state->draining = true;
    while (started) {
        ListNode *node, *next;

        started = false;
        for (node = list_first(&state->waiting); node != NULL && !started; node = next) {
            next = list_next(&state->waiting, node);
            started = try_start(state, container_of(node, BlockRequest, node));
        }
    }
    state->draining = false;
}

static void inflight_submit(BlockDevice *device, BlockRequest *request) {
    InflightState *state = device->state;

    if (request->op == BLOCK_READ || request->op == BLOCK_FLUSH) {
        stacked_forward(state->lower, request, request->offset, request->length, block_complete);
        return;
    }
    look(state, device->size);
    request->node = (ListNode){0};
    if (!try_start(state, request)) {
        list_append(&state->waiting, &request->node);
    }
}

static void inflight_free(BlockDevice *device) {
    InflightState *state = device->state;

    assert(list_empty(&state->waiting));
    free(state->foreign);
    free(state->mine);
    free(state);
}

int block_inflight_new(BlockDevice *lower, BlockInflight *entries, unsigned count,
                       BlockDevice **ret) {
    InflightState *state = calloc(1, sizeof(*state));
    BlockDevice *device = NULL;

    assert(count > 0);
    if (state == NULL) {
        return -ENOMEM;
    }
    state->backend =
        (BlockBackend){.name = "inflight", .submit = inflight_submit, .free = inflight_free};
    state->lower = lower;
    state->table = entries;
    state->count = count;
    list_init(&state->waiting);
    state->foreign = calloc(count, sizeof(*state->foreign));
    state->mine = calloc(count, sizeof(*state->mine));
    if (state->foreign != NULL && state->mine != NULL) {
        device = stacked_device_new(&state->backend, state, lower, lower->size);
    }
    if (device == NULL) {
        free(state->foreign);
        free(state->mine);
        free(state);
        return -ENOMEM;
    }
    *ret = device;
    return 0;
}

static InflightState *inflight_state(const BlockDevice *device) {
    InflightState *state = device->state;

    assert(device->backend->submit == inflight_submit);
    look(state, device->size);
    return state;
}

void block_inflight_settled(BlockDevice *device) {
    InflightState *state = inflight_state(device);

    if (state->settled) {
        return;
    }
    settle(state);
    if (!list_empty(&state->waiting)) {
        drain(state);
    }
}

bool block_inflight_unsettled(const BlockDevice *device) {
    return !inflight_state(device)->settled;
}
