/* SPDX-License-Identifier: MIT */
/*
 * Many fibers at once on one volume over io_uring, with a cache so small that
 * nearly every block is missed, and with suspensions at random: each works on
 * files of its own in a directory that all share.
 */
#ifndef FAT_PARALLEL_H
#define FAT_PARALLEL_H

#include "fat_support.h"
#include <fcntl.h>

#define PARALLEL_FIBERS 24
#define PARALLEL_ROUNDS 12
#define PARALLEL_BYTES 6000u

typedef struct ParallelTask {
    unsigned number;
    uint64_t dir;
    unsigned *running;
    uint64_t seq;
    uint8_t in[PARALLEL_BYTES], out[PARALLEL_BYTES];
    FSResponse answer;
} ParallelTask;

static int parallel_call(ParallelTask *task, FSRequest request) {
    const ServiceBuffers buffers = {
        .in = task->in, .out = task->out, .out_capacity = sizeof(task->out)};

    request.request_id = fs_request_id((uint16_t)(task->number + 1), ++task->seq);
    request.time_ns = TIME_NS;
    service_dispatch(volume, &request, &buffers, &task->answer);
    return task->answer.result;
}

static void parallel_round(ParallelTask *task, unsigned round) {
    char first[64], second[64];
    uint64_t id;
    int r;

    (void)snprintf(first, sizeof(first), "fiber %u has a file, round %u", task->number, round);
    (void)snprintf(second, sizeof(second), "F%uR%u.TXT", task->number, round);
    r = parallel_call(task, (FSRequest){.type = FS_MSG_CREATE_FILE,
                                        .file_id = task->dir,
                                        .name = name_of(first),
                                        .file_type = FS_TYPE_FILE,
                                        .mode = 0644});
    ck_assert_msg(r == 0, "create %s: %d", first, r);
    id = task->answer.attr.file_id;
    for (uint32_t at = 0; at < 5 * PARALLEL_BYTES; at += PARALLEL_BYTES) {
        fill(task->in, PARALLEL_BYTES, task->number * 100 + round, at);
        r = parallel_call(task, (FSRequest){.type = FS_MSG_WRITE_FILE,
                                            .file_id = id,
                                            .offset = at,
                                            .length = PARALLEL_BYTES});
        ck_assert_msg(r == PARALLEL_BYTES, "write %s at %u: %d", first, at, r);
    }
    r = parallel_call(task, (FSRequest){.type = FS_MSG_RENAME,
                                        .file_id = task->dir,
                                        .name = name_of(first),
                                        .file_id2 = task->dir,
                                        .name2 = name_of(second)});
    ck_assert_msg(r == 0, "rename %s: %d", first, r);
    for (uint32_t at = 0; at < 5 * PARALLEL_BYTES; at += PARALLEL_BYTES) {
        r = parallel_call(task, (FSRequest){.type = FS_MSG_READ_FILE,
                                            .file_id = id,
                                            .offset = at,
                                            .length = PARALLEL_BYTES});
        ck_assert_msg(r == PARALLEL_BYTES, "read %s at %u: %d", second, at, r);
        fill(task->in, PARALLEL_BYTES, task->number * 100 + round, at);
        ck_assert_mem_eq(task->answer.data, task->in, PARALLEL_BYTES);
    }
    if (round % 3 != 0) {
        r = parallel_call(
            task,
            (FSRequest){.type = FS_MSG_DELETE_FILE, .file_id = task->dir, .name = name_of(second)});
        ck_assert_msg(r == 0, "unlink %s: %d", second, r);
        le64 wire = le64_make(id);
        r = parallel_call(task, (FSRequest){.type = FS_MSG_EVICT,
                                            .offset = task->answer.number,
                                            .payload = (const uint8_t *)&wire,
                                            .payload_length = sizeof(wire)});
        ck_assert_msg(r == 0, "evict %s: %d", second, r);
    }
}

static void parallel_fiber(void *arg) {
    ParallelTask *task = arg;

    for (unsigned round = 0; round < PARALLEL_ROUNDS; round++) {
        parallel_round(task, round);
    }
    *task->running -= 1;
}

static void parallel_run(unsigned seed) {
    static ParallelTask tasks[PARALLEL_FIBERS];
    const char *options = "cache=65536,log=262144";
    BlockOpenConfig open_config = {.direct = 0};
    LoopConfig loop_config = {0};
    unsigned running = PARALLEL_FIBERS;
    Loop *loop;
    int64_t dir;

    ck_assert_int_eq(loop_new(&loop_config, &loop), 0);
    open_config.fd = open(image_path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(open_config.fd, 0);
    ck_assert_int_eq(block_uring_new(&open_config, loop, &device), 0);
    ck_assert_int_eq(volume_new(&fat_type, device, loop, &volume), 0);
    ck_assert_int_eq(local_client_new(volume, &client), 0);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_MOUNT,
                                      .payload = (const uint8_t *)options,
                                      .payload_length = (uint32_t)strlen(options)}),
                     0);
    dir = make("shared", FS_TYPE_DIRECTORY);
    ck_assert(!failed(dir));
    fiber_set_chaos(seed);
    for (unsigned i = 0; i < PARALLEL_FIBERS; i++) {
        tasks[i].number = i;
        tasks[i].dir = (uint64_t)dir;
        tasks[i].running = &running;
        ck_assert_ptr_nonnull(fiber_spawn(parallel_fiber, &tasks[i], "task"));
    }
    while (running > 0) {
        ck_assert_int_ge(loop_step(loop, true), 0);
    }
    fiber_set_chaos(0);
    ck_assert_int_eq(list((uint64_t)dir, 4096, NULL, NULL),
                     PARALLEL_FIBERS * ((PARALLEL_ROUNDS + 2) / 3));
    ck_assert_int_eq(unmount_image(), 0);
    (void)loop_free(loop);
    (void)close(open_config.fd);
    image_load();
    check_clean("parallel");
}

#endif
