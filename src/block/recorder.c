/* SPDX-License-Identifier: MIT */
/*
 * Keeps a copy of every write in order of completion, with the number of good
 * flushes before it, for tests that build the states a power cut may leave.
 * A write belongs to the epoch after a flush unless it had completed when that
 * flush began; so a flush remembers how many writes there were at its start,
 * and renumbers the later ones when it succeeds. A failed flush starts no
 * epoch, a failed write is not logged (stack the recorder below the faults to
 * see what of it reached the medium).
 */
#include "internal.h"
#include <assert.h>

typedef struct RecorderState {
    BlockBackend backend;
    BlockDevice *lower;
    BlockRecording *recording;
} RecorderState;

/* Lies in request->backend. */
typedef struct RecorderScratch {
    size_t count_at_start;
} RecorderScratch;
static_assert(sizeof(RecorderScratch) <= sizeof(((BlockRequest *)NULL)->backend), "scratch space");

static RecorderScratch *recorder_scratch(BlockRequest *request) {
    return (void *)request->backend;
}

static bool make_room(BlockRecording *recording) {
    size_t capacity = recording->capacity > 0 ? recording->capacity * 2 : 64;
    RecordedWrite *writes;

    if (recording->count < recording->capacity) {
        return true;
    }
    writes = reallocarray(recording->writes, capacity, sizeof(*writes));
    if (writes == NULL) {
        return false;
    }
    recording->writes = writes;
    recording->capacity = capacity;
    return true;
}

static void record_write(BlockRecording *recording, const BlockRequest *request) {
    uint8_t *data = calloc(1, request->length);
    uint8_t *at = data;

    if (data == NULL || !make_room(recording)) {
        free(data);
        recording->failed = true;
        return;
    }
    for (int i = 0; request->op == BLOCK_WRITE && i < request->iov_count; i++) {
        if (request->iov[i].iov_len > 0) {
            memcpy(at, request->iov[i].iov_base, request->iov[i].iov_len);
            at += request->iov[i].iov_len;
        }
    }
    recording->writes[recording->count++] = (RecordedWrite){
        .offset = request->offset,
        .length = request->length,
        .moment = recording->clock != NULL ? ++*recording->clock : 0,
        .epoch = recording->epoch,
        .data = data,
    };
}

static void note_flush(BlockRecording *recording) {
    size_t capacity = recording->flush_capacity > 0 ? recording->flush_capacity * 2 : 64;
    uint64_t *flushes = recording->flushes;

    if (recording->flush_count == recording->flush_capacity) {
        flushes = reallocarray(flushes, capacity, sizeof(*flushes));
        if (flushes == NULL) {
            recording->failed = true;
            return;
        }
        recording->flushes = flushes;
        recording->flush_capacity = capacity;
    }
    flushes[recording->flush_count++] = ++*recording->clock;
}

static void record_flush(BlockRecording *recording, size_t count_at_start) {
    if (count_at_start < recording->durable) {
        return; /* a flush that began later has ended already and covers more */
    }
    recording->durable = count_at_start;
    recording->epoch++;
    if (recording->clock != NULL) {
        note_flush(recording);
    }
    for (size_t i = count_at_start; i < recording->count; i++) {
        recording->writes[i].epoch = recording->epoch;
    }
}

static void recorder_after(BlockRequest *request, int result) {
    const RecorderState *state = request->device->state;

    if (result == 0 && (request->op == BLOCK_WRITE || request->op == BLOCK_DISCARD)) {
        record_write(state->recording, request);
    } else if (result == 0 && request->op == BLOCK_FLUSH) {
        record_flush(state->recording, recorder_scratch(request)->count_at_start);
    }
    block_complete(request, result);
}

static void recorder_submit(BlockDevice *device, BlockRequest *request) {
    const RecorderState *state = device->state;

    recorder_scratch(request)->count_at_start = state->recording->count;
    stacked_forward(state->lower, request, request->offset, request->length, recorder_after);
}

static void recorder_free(BlockDevice *device) {
    free(device->state);
}

int block_recorder_new(BlockDevice *lower, BlockRecording *recording, BlockDevice **ret) {
    RecorderState *state = calloc(1, sizeof(*state));
    BlockDevice *device;

    if (state == NULL) {
        return -ENOMEM;
    }
    state->backend =
        (BlockBackend){.name = "recorder", .submit = recorder_submit, .free = recorder_free};
    state->lower = lower;
    state->recording = recording;
    device = stacked_device_new(&state->backend, state, lower, lower->size);
    if (device == NULL) {
        free(state);
        return -ENOMEM;
    }
    *ret = device;
    return 0;
}

void block_recording_done(BlockRecording *recording) {
    for (size_t i = 0; i < recording->count; i++) {
        free(recording->writes[i].data);
    }
    free(recording->writes);
    free(recording->flushes);
    *recording = (BlockRecording){.writes = NULL};
}
