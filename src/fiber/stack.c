/* SPDX-License-Identifier: MIT */
/*
 * Fiber stacks: one anonymous mapping each, with an inaccessible page below,
 * so that an overflow is a SIGSEGV at once and never a neighbour's data. Pages
 * become real when touched.
 *
 * The depth needs no painting: fresh pages are zero, so the lowest byte that
 * is not tells how far down a stack ever reached, over all the fibers that
 * used it. A read of an untouched page costs no memory either.
 */
#include "stack.h"

#include "berth/fiber.h"
#include "sanitizer.h"

#include <sys/mman.h>

/* Sanitizers surround every variable with red zones: frames become several times larger. */
#if FIBER_ASAN
#define STACK_SCALE 4
#else
#define STACK_SCALE 1
#endif

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

int fiber_stack_map(FiberStack *stack) {
    size_t guard = page_size();
    size_t size = (size_t)align_up(FIBER_STACK_SIZE * STACK_SCALE, guard);
    uint8_t *memory = mmap(NULL, guard + size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (memory == MAP_FAILED) {
        return -ENOMEM;
    }
    if (mprotect(memory, guard, PROT_NONE) < 0) {
        (void)munmap(memory, guard + size);
        return -ENOMEM;
    }
    stack->base = memory + guard;
    stack->size = size;
    stack->valgrind_id = fiber_valgrind_stack_register(stack->base, size);
    return 0;
}

void fiber_stack_unmap(FiberStack *stack) {
    size_t guard = page_size();

    fiber_stack_recycle(stack);
    fiber_valgrind_stack_deregister(stack->valgrind_id);
    (void)munmap(stack->base - guard, guard + stack->size);
    stack->base = NULL;
}

void fiber_stack_recycle(FiberStack *stack) {
    fiber_asan_unpoison(stack->base, stack->size);
}

/* Reads other fibers' frames, live ones too: nothing a sanitizer could approve of. */
FIBER_NO_ASAN size_t fiber_stack_depth(const FiberStack *stack) {
    const uint64_t *words = (const uint64_t *)(const void *)stack->base;
    size_t count = stack->size / sizeof(*words);
    size_t i = 0;

    if (fiber_on_valgrind()) {
        return 0;
    }
    while (i < count && words[i] == 0) {
        i++;
    }
    return stack->size - i * sizeof(*words);
}
