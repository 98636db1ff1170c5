/* SPDX-License-Identifier: MIT */
/*
 * FiberGroup: bounded parallelism inside one operation. The group lies with
 * its owner, who waits for every task before it goes away; a task touches the
 * group last when it counts itself out.
 *
 * Where no fiber can be had (outside a scheduler, at the cap, out of memory)
 * the task runs in place: slower, and never an error of its own.
 */
#include "fiber_internal.h"

#include <assert.h>

typedef struct GroupTask {
    FiberGroup *group;
    FiberTask *task;
    void *arg;
} GroupTask;

void fiber_group_init(FiberGroup *group, unsigned limit) {
    group->running = 0;
    group->limit = MAX(limit, 1u);
    group->first_error = 0;
    fiber_queue_init(&group->queue);
}

static void note_result(FiberGroup *group, int result) {
    if (result < 0 && group->first_error == 0) {
        group->first_error = result;
    }
}

static void group_fiber(void *arg) {
    GroupTask *start = arg;
    FiberGroup *group = start->group;
    FiberTask *task = start->task;
    void *task_arg = start->arg;

    free(start);
    note_result(group, task(task_arg));
    group->running--;
    /* Only the owner waits here: for room, or for the last one. */
    (void)fiber_queue_wake_one(&group->queue);
}

void fiber_group_start(FiberGroup *group, FiberTask *task, void *arg) {
    GroupTask *start = NULL;

    if (fiber_self() != NULL) {
        while (group->running >= group->limit) {
            fiber_queue_wait(&group->queue);
        }
        start = malloc(sizeof(*start));
    }
    if (start != NULL) {
        *start = (GroupTask){.group = group, .task = task, .arg = arg};
        group->running++;
        if (fiber_spawn(group_fiber, start, "group task") != NULL) {
            return;
        }
        group->running--;
        free(start);
    }
    note_result(group, task(arg));
}

int fiber_group_wait(FiberGroup *group) {
    while (group->running > 0) {
        fiber_queue_wait(&group->queue);
    }
    assert(fiber_queue_empty(&group->queue));
    return group->first_error;
}
