/* SPDX-License-Identifier: MIT */
/*
 * The first frame of a stack for the assembly switches: it looks as if the
 * fiber had once been switched away from at the very start of
 * fiber_context_start(), with the entry function and its argument in two
 * callee-saved registers. The order of the words is that of the .S files.
 */
#include "switch.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
/* r15 r14 r13 r12 rbx rbp return-address; popping all of it leaves the stack aligned for a call */
enum { FRAME_WORDS = 7, FRAME_ENTRY = 2, FRAME_ARG = 3, FRAME_START = 6 };
#elif defined(__aarch64__)
/* d8-d15, x19-x28, x29 x30 */
enum { FRAME_WORDS = 20, FRAME_ENTRY = 8, FRAME_ARG = 9, FRAME_START = 19 };
#else
#error "no assembly switch for this machine: configure with -Dfiber_switch=portable"
#endif

/* In the .S file; not to be called from C. */
void fiber_context_start(void);

void fiber_context_make(FiberContext *context, void *stack, size_t stack_size,
                        void (*entry)(void *arg), void *arg) {
    uintptr_t *frame = (uintptr_t *)(void *)((char *)stack + stack_size) - FRAME_WORDS;

    assert(((uintptr_t)stack + stack_size) % 16 == 0);
    memset(frame, 0, FRAME_WORDS * sizeof(*frame));
    frame[FRAME_ENTRY] = (uintptr_t)entry;
    frame[FRAME_ARG] = (uintptr_t)arg;
    frame[FRAME_START] = (uintptr_t)fiber_context_start;
    context->sp = frame;
}
