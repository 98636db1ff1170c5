/* SPDX-License-Identifier: MIT */
/*
 * For the tests of block devices: images with a model of their bytes, a body
 * run in a fiber of a loop of its own, requests that count their completions,
 * and a device ("held") that suspends and ends a request only when told, so
 * that orders of completion can be chosen.
 */
#ifndef BERTH_TESTS_BLOCK_TESTING_H
#define BERTH_TESTS_BLOCK_TESTING_H

#include "berth/block.h"
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define SEED 20261121u

static uint64_t random_state;

static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t random_below(uint64_t bound) {
    return random_next() % bound;
}

static void random_bytes(void *buf, size_t length) {
    uint8_t *at = buf;

    for (size_t i = 0; i < length; i++) {
        at[i] = (uint8_t)(random_next() >> 24);
    }
}

/* An unlinked file of `size` random bytes; *ret_model (malloc) has the same bytes. */
static int make_image(const char *directory, size_t size, uint8_t **ret_model) {
    char path[128];
    uint8_t *model = malloc(size);
    int fd;

    (void)snprintf(path, sizeof(path), "%s/berth-test-block-XXXXXX", directory);
    fd = mkstemp(path);
    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_ptr_nonnull(model);
    random_bytes(model, size);
    ck_assert_int_eq(pwrite(fd, model, size, 0), (ssize_t)size);
    *ret_model = model;
    return fd;
}

static void assert_file_equals(int fd, const uint8_t *model, size_t size) {
    uint8_t *bytes = malloc(size);
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_eq((uint64_t)st.st_size, size);
    ck_assert_int_eq(pread(fd, bytes, size, 0), (ssize_t)size);
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != model[i]) { /* an assertion per byte would take seconds */
            ck_abort_msg("byte %zu of the image differs (seed %u)", i, SEED);
        }
    }
    free(bytes);
}

/* Runs fn(arg) in a fiber of a loop of its own. */
typedef struct InLoop {
    void (*fn)(void *arg);
    void *arg;
    Loop *loop;
} InLoop;

static void in_loop_main(void *arg) {
    InLoop *in = arg;

    in->fn(in->arg);
    loop_stop(in->loop);
}

static void in_loop(bool no_ring, void (*fn)(void *arg), void *arg) {
    InLoop in = {.fn = fn, .arg = arg};
    LoopConfig config = {.no_ring = no_ring};

    ck_assert_int_eq(loop_new(&config, &in.loop), 0);
    ck_assert_ptr_nonnull(fiber_spawn(in_loop_main, &in, "test"));
    ck_assert_int_eq(loop_run(in.loop), 0);
    (void)loop_free(in.loop);
}

/* ---- a device that waits to be told ---- */

typedef struct Held {
    BlockDevice device;
    List requests;
} Held;

static void held_submit(BlockDevice *device, BlockRequest *request) {
    Held *held = container_of(device, Held, device);

    list_append(&held->requests, &request->node);
}

static void held_free(BlockDevice *device) {
}

static const BlockBackend held_backend = {
    .name = "held", .suspends = true, .submit = held_submit, .free = held_free};

static void held_init(Held *held) {
    memset(held, 0, sizeof(*held));
    held->device.backend = &held_backend;
    held->device.size = 1 << 20;
    held->device.sector_size = 512;
    list_init(&held->device.finished);
    list_init(&held->requests);
}

/* Ends the index-th waiting request. */
static void held_end(Held *held, unsigned index, int result) {
    ListNode *node = list_first(&held->requests);

    while (index-- > 0) {
        node = list_next(&held->requests, node);
    }
    list_remove(node);
    block_complete(container_of(node, BlockRequest, node), result);
}

/* A request whose completions are counted. */
typedef struct Counted {
    BlockRequest request;
    unsigned done;
    struct iovec iov;
    uint8_t bytes[4096];
} Counted;

static void counted_done(BlockRequest *request) {
    Counted *counted = container_of(request, Counted, request);

    counted->done++;
}

static Counted *counted_new(BlockOp op, uint64_t offset, uint64_t length) {
    Counted *counted = calloc(1, sizeof(*counted));

    counted->iov = (struct iovec){.iov_base = counted->bytes, .iov_len = length};
    counted->request = (BlockRequest){.op = op,
                                      .offset = offset,
                                      .length = length,
                                      .iov = &counted->iov,
                                      .iov_count = op <= BLOCK_WRITE ? 1 : 0,
                                      .done = counted_done};
    return counted;
}

#endif
