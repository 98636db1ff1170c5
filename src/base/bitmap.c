/* SPDX-License-Identifier: MIT */
/*
 * Bitmap ranges and searches, a word at a time. Bits at and beyond a call's
 * limit are neither read into a result nor changed, whatever they hold.
 */
#include "berth/bitmap.h"

/* The bits of word `index` that lie in [first, end); the word must overlap the range. */
static uint64_t bitmap_mask(uint64_t index, uint64_t first, uint64_t end) {
    uint64_t mask = UINT64_MAX;

    if (first > index * 64) {
        mask <<= first - index * 64;
    }
    if (end - index * 64 < 64) {
        mask &= (UINT64_C(1) << (end - index * 64)) - 1;
    }
    return mask;
}

void bitmap_set_range(uint64_t *map, uint64_t first, uint64_t count) {
    uint64_t end = first + count;

    for (uint64_t i = first / 64; i < BITMAP_WORDS(end) && count > 0; i++) {
        map[i] |= bitmap_mask(i, first, end);
    }
}

void bitmap_clear_range(uint64_t *map, uint64_t first, uint64_t count) {
    uint64_t end = first + count;

    for (uint64_t i = first / 64; i < BITMAP_WORDS(end) && count > 0; i++) {
        map[i] &= ~bitmap_mask(i, first, end);
    }
}

/* First bit in [from, limit) that is set after xor with flip. */
static uint64_t bitmap_find(const uint64_t *map, uint64_t from, uint64_t limit, uint64_t flip) {
    if (from >= limit) {
        return limit;
    }
    for (uint64_t i = from / 64; i < BITMAP_WORDS(limit); i++) {
        uint64_t word = (map[i] ^ flip) & bitmap_mask(i, from, limit);

        if (word != 0) {
            return i * 64 + (unsigned)__builtin_ctzll(word);
        }
    }
    return limit;
}

uint64_t bitmap_find_set(const uint64_t *map, uint64_t from, uint64_t limit) {
    return bitmap_find(map, from, limit, 0);
}

uint64_t bitmap_find_clear(const uint64_t *map, uint64_t from, uint64_t limit) {
    return bitmap_find(map, from, limit, UINT64_MAX);
}

uint64_t bitmap_count_set(const uint64_t *map, uint64_t limit) {
    uint64_t count = 0;

    for (uint64_t i = 0; i < BITMAP_WORDS(limit); i++) {
        count += (unsigned)__builtin_popcountll(map[i] & bitmap_mask(i, 0, limit));
    }
    return count;
}
