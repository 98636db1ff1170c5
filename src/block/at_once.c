/* SPDX-License-Identifier: MIT */
/*
 * See at_once.h.
 */
#include "at_once.h"

#define PENALTY_MAX 255u

bool at_once_next(AtOnce *at_once) {
    if (at_once->skip > 0) {
        at_once->skip--;
        return false;
    }
    return true;
}

void at_once_took(AtOnce *at_once, uint64_t took_ns) {
    if (took_ns <= at_once->quick_ns) {
        at_once->penalty /= 2;
        return;
    }
    at_once->penalty = MIN(at_once->penalty * 2 + 1, PENALTY_MAX);
    at_once->skip = at_once->penalty;
}
