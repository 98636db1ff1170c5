/* SPDX-License-Identifier: MIT */
/* Bitmaps over caller's memory: an array of 64-bit words, bit i in word i / 64. */
#ifndef BERTH_BITMAP_H
#define BERTH_BITMAP_H

#include "berth/base.h"

#define BITMAP_WORDS(bits) (((bits) + 63) / 64)

static inline bool bitmap_test(const uint64_t *map, uint64_t bit) {
    return (map[bit / 64] >> (bit % 64)) & 1;
}
static inline void bitmap_set(uint64_t *map, uint64_t bit) {
    map[bit / 64] |= UINT64_C(1) << (bit % 64);
}
static inline void bitmap_clear(uint64_t *map, uint64_t bit) {
    map[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}
void bitmap_set_range(uint64_t *map, uint64_t first, uint64_t count);
void bitmap_clear_range(uint64_t *map, uint64_t first, uint64_t count);
/* First set (clear) bit in [from, limit), or limit. */
uint64_t bitmap_find_set(const uint64_t *map, uint64_t from, uint64_t limit);
uint64_t bitmap_find_clear(const uint64_t *map, uint64_t from, uint64_t limit);
uint64_t bitmap_count_set(const uint64_t *map, uint64_t limit);

#endif
