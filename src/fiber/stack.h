/* SPDX-License-Identifier: MIT */
/*
 * Memory for fiber stacks. See stack.c.
 */
#ifndef BERTH_FIBER_STACK_H
#define BERTH_FIBER_STACK_H

#include "berth/base.h"

typedef struct FiberStack {
    uint8_t *base; /* lowest usable byte; the guard lies below */
    size_t size;
    unsigned valgrind_id;
} FiberStack;

/* 0 or -ENOMEM. */
int fiber_stack_map(FiberStack *stack);
void fiber_stack_unmap(FiberStack *stack);
/* Between two fibers on the same stack: forgets what sanitizers know of the first one's frames. */
void fiber_stack_recycle(FiberStack *stack);
/* How many bytes from the top were ever written; 0 where that cannot be measured. */
size_t fiber_stack_depth(const FiberStack *stack);

#endif
