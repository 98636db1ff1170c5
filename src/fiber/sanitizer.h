/* SPDX-License-Identifier: MIT */
/*
 * What AddressSanitizer and valgrind must be told about stacks that are not
 * the thread's own; nothing at all in builds without them. The switch calls
 * come in pairs: leave before the switch, arrive after it, on the other stack.
 */
#ifndef BERTH_FIBER_SANITIZER_H
#define BERTH_FIBER_SANITIZER_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifndef FIBER_ASAN
#define FIBER_ASAN 0
#endif

#if FIBER_ASAN

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

#define FIBER_NO_ASAN __attribute__((no_sanitize_address))

/* save: NULL when the stack left behind will never be returned to. */
static inline void fiber_asan_leave(void **save, const void *bottom, size_t size) {
    __sanitizer_start_switch_fiber(save, bottom, size);
}

static inline void fiber_asan_arrive(void *saved, const void **ret_bottom, size_t *ret_size) {
    __sanitizer_finish_switch_fiber(saved, ret_bottom, ret_size);
}

static inline void fiber_asan_unpoison(const void *memory, size_t size) {
    __asan_unpoison_memory_region(memory, size);
}

#else

#define FIBER_NO_ASAN

static inline void fiber_asan_leave(void **save, const void *bottom, size_t size) {
    (void)save, (void)bottom, (void)size;
}

static inline void fiber_asan_arrive(void *saved, const void **ret_bottom, size_t *ret_size) {
    (void)saved, (void)ret_bottom, (void)ret_size;
}

static inline void fiber_asan_unpoison(const void *memory, size_t size) {
    (void)memory, (void)size;
}

#endif

#if FIBER_VALGRIND

#include <valgrind/valgrind.h>

static inline bool fiber_on_valgrind(void) {
    return RUNNING_ON_VALGRIND != 0;
}

static inline unsigned fiber_valgrind_stack_register(void *base, size_t size) {
    return (unsigned)VALGRIND_STACK_REGISTER(base, (char *)base + size);
}

static inline void fiber_valgrind_stack_deregister(unsigned id) {
    VALGRIND_STACK_DEREGISTER(id);
}

#else

static inline bool fiber_on_valgrind(void) {
    return false;
}

static inline unsigned fiber_valgrind_stack_register(void *base, size_t size) {
    (void)base, (void)size;
    return 0;
}

static inline void fiber_valgrind_stack_deregister(unsigned id) {
    (void)id;
}

#endif

#endif
