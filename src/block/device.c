/* SPDX-License-Identifier: MIT */
/*
 * The gate and the two ways through it.
 *
 * Every request is checked here, once per device it is given to: range, iovec
 * list, read-only. What is refused, or has nothing to do (no bytes; a flush
 * when nothing was written), never reaches a backend.
 *
 * block_submit() promises that done runs exactly once and never before it
 * returns. A completion that comes while the request is still `starting` goes
 * to device->finished, which block_poll() drains; on a thread with a loop a
 * timer of no delay does that at the next turn. Completions that come later
 * are in the loop already and call done at once. The blocking forms mark their
 * request `in_place` and skip the queue.
 *
 * What a flush covers: `written` counts completed writes, a flush remembers
 * the count at its start and, if it succeeds, raises `flushed` to it. A failed
 * write counts as well, since a part of it may have reached the medium.
 *
 * One thread per device; no locks.
 */
#include "internal.h"
#include <assert.h>
#include <limits.h>

static void turn_fn(void *arg) {
    (void)block_poll(arg);
}

BlockDevice *block_device_new(const BlockBackend *backend, void *state, uint64_t size,
                              uint32_t sector_size) {
    BlockDevice *device = calloc(1, sizeof(*device));

    if (device == NULL) {
        return NULL;
    }
    device->backend = backend;
    device->state = state;
    device->size = size;
    device->sector_size = sector_size;
    list_init(&device->finished);
    loop_timer_init(&device->turn, turn_fn, device);
    return device;
}

BlockDevice *block_free(BlockDevice *device) {
    if (device == NULL) {
        return NULL;
    }
    assert(device->stats.inflight == 0);
    assert(list_empty(&device->finished));
    if (device->turn_loop != NULL && device->turn_loop == loop_current()) {
        loop_timer_stop(device->turn_loop, &device->turn);
    }
    device->backend->free(device);
    free(device);
    return NULL;
}

bool block_suspends(const BlockDevice *device) {
    return device->backend->suspends;
}

/* ---- the gate ---- */

static int check_iov(const BlockRequest *request) {
    uint64_t total = 0;

    if (request->iov_count < 0 || request->iov_count > IOV_MAX) {
        return -EINVAL;
    }
    for (int i = 0; i < request->iov_count; i++) {
        if (!u64_add(total, request->iov[i].iov_len, &total)) {
            return -EINVAL;
        }
    }
    return total == request->length ? 0 : -EINVAL;
}

/* 1: the backend has to do it; 0: nothing to do; -errno: refused. */
static int pass_gate(const BlockDevice *device, const BlockRequest *request) {
    int r;

    switch (request->op) {
    case BLOCK_FLUSH:
        return device->unflushed > 0 || request->forced;
    case BLOCK_READ:
    case BLOCK_WRITE:
        r = check_iov(request);
        if (r < 0) {
            return r;
        }
        break;
    case BLOCK_DISCARD:
        break;
    default:
        return -EINVAL;
    }
    if (!range_inside(request->offset, request->length, device->size)) {
        return -ERANGE;
    }
    if (request->op != BLOCK_READ && device->readonly) {
        return -EROFS;
    }
    return request->length > 0;
}

static void hand_to_backend(BlockDevice *device, BlockRequest *request) {
    BlockStats *stats = &device->stats;

    switch (request->op) {
    case BLOCK_READ:
        stats->reads++;
        stats->read_bytes += request->length;
        break;
    case BLOCK_WRITE:
        stats->writes++;
        stats->write_bytes += request->length;
        break;
    case BLOCK_FLUSH:
        stats->flushes++;
        request->flush_mark = device->written;
        break;
    case BLOCK_DISCARD:
        stats->discards++;
        break;
    }
    stats->inflight++;
    stats->inflight_max = MAX(stats->inflight_max, stats->inflight);
    device->backend->submit(device, request);
}

/* ---- completions ---- */

void block_poll_later(BlockDevice *device) {
    Loop *loop = loop_current();

    if (loop != NULL) {
        device->turn_loop = loop;
        loop_timer_start(loop, &device->turn, 0);
    }
}

static void finish(BlockRequest *request, int result) {
    BlockDevice *device = request->device;

    request->result = result;
    if (request->starting && !request->in_place) {
        list_append(&device->finished, &request->node);
        block_poll_later(device);
    } else if (request->done != NULL) {
        request->done(request);
    }
}

void block_complete(BlockRequest *request, int result) {
    BlockDevice *device = request->device;

    assert(device->stats.inflight > 0);
    device->stats.inflight--;
    if (result < 0) {
        device->stats.errors++;
    }
    if (request->op == BLOCK_WRITE || request->op == BLOCK_DISCARD) {
        device->written++;
    } else if (request->op == BLOCK_FLUSH && result == 0) {
        device->flushed = MAX(device->flushed, request->flush_mark);
    }
    device->unflushed = device->written - device->flushed;
    finish(request, result);
}

unsigned block_poll(BlockDevice *device) {
    unsigned count = device->backend->poll != NULL ? device->backend->poll(device) : 0;
    List ready;
    ListNode *node;

    /* What the callbacks submit waits for the next poll; the last one may free the device. */
    list_init(&ready);
    while ((node = list_first(&device->finished)) != NULL) {
        list_remove(node);
        list_append(&ready, node);
    }
    while ((node = list_first(&ready)) != NULL) {
        BlockRequest *request = container_of(node, BlockRequest, node);

        list_remove(node);
        request->done(request);
        count++;
    }
    return count;
}

/* ---- submission ---- */

void block_submit(BlockDevice *device, BlockRequest *request) {
    int r;

    assert(request->done != NULL);
    request->device = device;
    request->in_place = false;
    request->starting = true;
    r = pass_gate(device, request);
    if (r <= 0) {
        finish(request, r);
    } else {
        hand_to_backend(device, request);
    }
    /* Still the caller's untouched memory: done has not run. */
    request->starting = false;
}

void block_start(BlockDevice *device, BlockRequest *request) {
    int r;

    request->device = device;
    request->in_place = true;
    request->starting = false;
    r = pass_gate(device, request);
    if (r <= 0) {
        finish(request, r);
    } else {
        hand_to_backend(device, request);
    }
}

int block_perform(BlockDevice *device, BlockRequest *request) {
    assert(!device->backend->suspends);
    request->done = NULL;
    block_start(device, request);
    return request->result;
}

/* ---- the fiber forms ---- */

typedef struct Waiter {
    Fiber *fiber;
    bool waiting, finished;
} Waiter;

static void waiter_done(BlockRequest *request) {
    Waiter *waiter = request->arg;

    waiter->finished = true;
    if (waiter->waiting && waiter->fiber != NULL) {
        fiber_wake(waiter->fiber);
    }
}

static MAY_YIELD int run(BlockDevice *device, BlockRequest *request) {
    Waiter waiter = {.fiber = NULL};

    if (!device->backend->suspends) {
        return block_perform(device, request);
    }
    waiter.fiber = fiber_self();
    request->done = waiter_done;
    /* cppcheck-suppress autoVariables; done before this returns */
    request->arg = &waiter;
    block_start(device, request);
    waiter.waiting = true;
    while (!waiter.finished) {
        if (waiter.fiber != NULL) {
            fiber_suspend();
        } else {
            int r = loop_step(loop_current(), true);

            /* A ring that fails leaves requests in the kernel that point at this frame. */
            assert(r >= 0);
            (void)r;
        }
    }
    return request->result;
}

MAY_YIELD int block_readv(BlockDevice *device, uint64_t offset, const struct iovec *iov,
                          int iov_count) {
    BlockRequest request = {.op = BLOCK_READ, .offset = offset, .iov = iov, .iov_count = iov_count};

    for (int i = 0; i < iov_count; i++) {
        request.length += iov[i].iov_len;
    }
    return run(device, &request);
}

MAY_YIELD int block_writev(BlockDevice *device, uint64_t offset, const struct iovec *iov,
                           int iov_count) {
    BlockRequest request = {
        .op = BLOCK_WRITE, .offset = offset, .iov = iov, .iov_count = iov_count};

    for (int i = 0; i < iov_count; i++) {
        request.length += iov[i].iov_len;
    }
    return run(device, &request);
}

MAY_YIELD int block_read(BlockDevice *device, uint64_t offset, void *buf, uint64_t length) {
    struct iovec iov = {.iov_base = buf, .iov_len = length};

    return block_readv(device, offset, &iov, 1);
}

MAY_YIELD int block_write(BlockDevice *device, uint64_t offset, const void *buf, uint64_t length) {
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = length};

    return block_writev(device, offset, &iov, 1);
}

MAY_YIELD int block_flush(BlockDevice *device) {
    BlockRequest request = {.op = BLOCK_FLUSH};

    return run(device, &request);
}

MAY_YIELD int block_flush_all(BlockDevice *device) {
    BlockRequest request = {.op = BLOCK_FLUSH, .forced = true};

    return run(device, &request);
}

MAY_YIELD int block_discard(BlockDevice *device, uint64_t offset, uint64_t length) {
    BlockRequest request = {.op = BLOCK_DISCARD, .offset = offset, .length = length};

    return run(device, &request);
}
