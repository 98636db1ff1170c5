/* SPDX-License-Identifier: MIT */
/*
 * Switching stacks with nothing but the C library, for machines that have no
 * assembly here. ucontext enters a new stack once; from then on
 * sigsetjmp/siglongjmp do the switching, because swapcontext would make two
 * system calls for the signal mask each time.
 */

/* The fortified longjmp takes a jump to a lower stack for an attack; here it is the purpose. */
#undef _FORTIFY_SOURCE

#include "sanitizer.h"
#include "switch.h"

#include <stdint.h>
#include <stdlib.h>
#include <ucontext.h>

/* makecontext() hands over ints only: the context's address comes in two halves. */
static void context_entry(unsigned high, unsigned low) {
    FiberContext *context = (FiberContext *)(uintptr_t)((uint64_t)high << 32 | low);

    context->entry(context->arg);
    abort(); /* entry must not return */
}

void fiber_context_make(FiberContext *context, void *stack, size_t stack_size,
                        void (*entry)(void *arg), void *arg) {
    context->entered = false;
    context->stack = stack;
    context->stack_size = stack_size;
    context->entry = entry;
    context->arg = arg;
}

/* Never unwound, so its frame must not leave red zones on the stack it comes from. */
static FIBER_NO_ASAN void __attribute__((noreturn)) context_enter(FiberContext *context) {
    uint64_t address = (uintptr_t)context;
    ucontext_t fresh;

    context->entered = true;
    if (getcontext(&fresh) < 0) {
        abort();
    }
    fresh.uc_stack.ss_sp = context->stack;
    fresh.uc_stack.ss_size = context->stack_size;
    fresh.uc_link = NULL;
    makecontext(&fresh, (void (*)(void))context_entry, 2, (unsigned)(address >> 32),
                (unsigned)address);
    (void)setcontext(&fresh);
    abort();
}

FIBER_NO_ASAN void fiber_context_switch(FiberContext *from, FiberContext *to) {
    if (sigsetjmp(from->env, 0) != 0) {
        return; /* somebody switched back */
    }
    from->entered = true;
    if (to->entered) {
        siglongjmp(to->env, 1);
    }
    context_enter(to);
}
