/* SPDX-License-Identifier: MIT */
/*
 * Small things every module uses: markers, checked arithmetic, cleanup
 * attributes. No module state, no functions with side effects.
 */
#ifndef BERTH_BASE_H
#define BERTH_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A function marked MAY_YIELD may suspend the calling fiber: other requests
 * run before it returns. Hold the fiber lock that protects what is used
 * afterwards, or look it up again. Never call one inside a transaction body.
 */
#define MAY_YIELD

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define MIN(a, b)                          \
    __extension__({                        \
        __typeof__(a) min_a_ = (a);        \
        __typeof__(b) min_b_ = (b);        \
        min_a_ < min_b_ ? min_a_ : min_b_; \
    })
#define MAX(a, b)                          \
    __extension__({                        \
        __typeof__(a) max_a_ = (a);        \
        __typeof__(b) max_b_ = (b);        \
        max_a_ > max_b_ ? max_a_ : max_b_; \
    })

/* Checked arithmetic: true and *ret on success, false on overflow (then *ret is untouched). */
static inline bool u64_add(uint64_t a, uint64_t b, uint64_t *ret) {
    uint64_t sum;

    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *ret = sum;
    return true;
}

static inline bool u64_mul(uint64_t a, uint64_t b, uint64_t *ret) {
    uint64_t product;

    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *ret = product;
    return true;
}

/* Does [offset, offset + length) lie inside [0, size)? An empty range at size does. */
static inline bool range_inside(uint64_t offset, uint64_t length, uint64_t size) {
    return offset <= size && length <= size - offset;
}

static inline bool is_power_of_2(uint64_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

/* step must be a power of two; the caller knows that value + step does not overflow. */
static inline uint64_t align_down(uint64_t value, uint64_t step) {
    return value & ~(step - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t step) {
    return (value + step - 1) & ~(step - 1);
}

static inline uint64_t div_ceil(uint64_t value, uint64_t step) {
    return value / step + (value % step != 0);
}

/* log2 of a power of two. */
static inline unsigned log2_u64(uint64_t value) {
    return (unsigned)__builtin_ctzll(value);
}

/*
 * Cleanup attributes. DEFINE_CLEANUP(Thing *, thing_free) gives
 * thing_freep(); `_cleanup_(thing_freep) Thing *t = NULL;` releases t at the
 * end of the scope. Releasing functions take NULL.
 */
#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define DEFINE_CLEANUP(type, fn)          \
    static inline void fn##p(type *ptr) { \
        if (*ptr != NULL) {               \
            (void)fn(*ptr);               \
        }                                 \
    }                                     \
    struct berth_swallow_semicolon

static inline void base_freep(void *ptr) {
    void *memory;

    memcpy(&memory, ptr, sizeof(memory));
    free(memory);
}

static inline void base_closep(const int *fd) {
    if (*fd >= 0) {
        int saved = errno;
        (void)close(*fd);
        errno = saved;
    }
}

#define _cleanup_free_ _cleanup_(base_freep)
#define _cleanup_close_ _cleanup_(base_closep)

/* Gives the value away: returns *ptr and leaves NULL (or -1) behind. */
#define STEAL_PTR(ptr)                   \
    __extension__({                      \
        __typeof__(ptr) stolen_ = (ptr); \
        (ptr) = NULL;                    \
        stolen_;                         \
    })
static inline int steal_fd(int *fd) {
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

#endif
