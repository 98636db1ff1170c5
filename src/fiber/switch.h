/* SPDX-License-Identifier: MIT */
/*
 * Changing stacks, the only part of the fibers that depends on the machine.
 * A FiberContext is where a stopped flow of control continues; a switch saves
 * the callee-saved registers on the old stack, which is all the ABI promises a
 * caller. Signal masks and floating-point modes belong to the thread and are
 * not switched.
 *
 * Implemented by switch_asm.c with the machine's .S file, or by
 * switch_portable.c; the build option fiber_switch chooses.
 */
#ifndef BERTH_FIBER_SWITCH_H
#define BERTH_FIBER_SWITCH_H

#include <stddef.h>

#if FIBER_SWITCH_ASM

typedef struct FiberContext {
    void *sp; /* the saved registers lie there */
} FiberContext;

#else

#include <setjmp.h>
#include <stdbool.h>

typedef struct FiberContext {
    sigjmp_buf env; /* valid once entered and left again */
    bool entered;
    void *stack;
    size_t stack_size;
    void (*entry)(void *arg);
    void *arg;
} FiberContext;

#endif

/* Prepares a context that calls entry(arg) on the given stack; entry must never return. */
void fiber_context_make(FiberContext *context, void *stack, size_t stack_size,
                        void (*entry)(void *arg), void *arg);
/* Stores the caller in *from and continues at *to; returns when somebody switches back. */
void fiber_context_switch(FiberContext *from, FiberContext *to);

#endif
