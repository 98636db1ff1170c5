/* SPDX-License-Identifier: MIT */
/* Growable arrays: pointer, capacity and count stay three plain fields of their owner. */
#ifndef BERTH_CACHE_VECTOR_H
#define BERTH_CACHE_VECTOR_H

#include "berth/base.h"

/* Makes room for `need` elements. 0 or -ENOMEM (the array is untouched then). */
static inline int vector_reserve(void *array_pointer, size_t *capacity, size_t need, size_t size) {
    size_t grown = *capacity == 0 ? 16 : *capacity;
    void *old, *fresh;

    if (need <= *capacity) {
        return 0;
    }
    while (grown < need) {
        grown *= 2;
    }
    memcpy(&old, array_pointer, sizeof(old));
    fresh = reallocarray(old, grown, size);
    if (fresh == NULL) {
        return -ENOMEM;
    }
    memcpy(array_pointer, &fresh, sizeof(fresh));
    *capacity = grown;
    return 0;
}

#define VECTOR_RESERVE(array, capacity, need) \
    vector_reserve(&(array), &(capacity), (need), sizeof(*(array)))

#endif
