/* SPDX-License-Identifier: MIT */
/*
 * Cuts a transfer into parts for the direct and the buffered description.
 *
 * The rule that no update is lost: a part is direct only where it covers whole
 * pages of the image file (offset and length multiples of `step`), and every
 * other byte goes through the page cache, in exactly the range asked for. So
 * each page of the cache is either wholly inside a direct part or not touched
 * by it. If a direct write covered half a page, a buffered write to the other
 * half, racing with it, would read the page before the direct bytes had landed
 * and write the old ones back over them.
 *
 * Memory decides as well: a run of memory whose address is not aligned where
 * the image offset is goes buffered as a whole.
 */
#include "uring_split.h"
#include <assert.h>

/* How the bytes from here on in one stretch of memory go, and how many of them. */
static uint64_t classify(const SplitRule *rule, uint64_t offset, const void *memory,
                         uint64_t length, bool *ret_direct) {
    uint64_t head, whole;

    *ret_direct = false;
    if (!rule->direct) {
        return length;
    }
    head = align_up(offset, rule->step) - offset;
    if (head >= length || ((uintptr_t)memory + head) % rule->memory_step != 0) {
        return length;
    }
    whole = align_down(length - head, rule->step);
    if (whole == 0) {
        return length;
    }
    if (head > 0) {
        return head;
    }
    *ret_direct = true;
    return whole;
}

void uring_split_next(const SplitRule *rule, const IovCursor *at, uint64_t offset,
                      uint64_t remaining, struct iovec *out, int capacity, SplitPart *ret) {
    IovCursor cursor = *at;
    SplitPart part = {.length = 0};

    assert(remaining > 0 && capacity > 0);
    while (part.iov_count < capacity && part.length < remaining && part.length < rule->length_max) {
        size_t stretch;
        void *memory = iov_cursor_peek(&cursor, &stretch);
        uint64_t length = MIN((uint64_t)stretch, remaining - part.length);
        bool direct;

        assert(length > 0);
        length = classify(rule, offset + part.length, memory, length, &direct);
        if (part.length > 0 && direct != part.direct) {
            break;
        }
        part.direct = direct;
        length = MIN(length, rule->length_max - part.length);
        out[part.iov_count++] = (struct iovec){.iov_base = memory, .iov_len = (size_t)length};
        part.length += length;
        iov_cursor_advance(&cursor, length);
    }
    *ret = part;
}
