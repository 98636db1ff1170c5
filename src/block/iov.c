/* SPDX-License-Identifier: MIT */
/*
 * A position in a caller's iovec list. The list itself is never changed: short
 * transfers and split requests move the position and describe what is left in
 * a fresh small array.
 */
#include "internal.h"

static void skip_used(IovCursor *cursor) {
    while (cursor->count > 0 && cursor->offset >= cursor->iov->iov_len) {
        cursor->offset -= cursor->iov->iov_len;
        cursor->iov++;
        cursor->count--;
    }
}

void iov_cursor_init(IovCursor *cursor, const struct iovec *iov, int count) {
    *cursor = (IovCursor){.iov = iov, .count = count};
    skip_used(cursor);
}

void *iov_cursor_peek(const IovCursor *cursor, size_t *ret_length) {
    if (cursor->count == 0) {
        *ret_length = 0;
        return NULL;
    }
    *ret_length = cursor->iov->iov_len - cursor->offset;
    return (uint8_t *)cursor->iov->iov_base + cursor->offset;
}

void iov_cursor_advance(IovCursor *cursor, uint64_t bytes) {
    cursor->offset += (size_t)bytes;
    skip_used(cursor);
}

int iov_cursor_take(const IovCursor *cursor, uint64_t bytes, struct iovec *out, int capacity,
                    uint64_t *ret_bytes) {
    IovCursor at = *cursor;
    uint64_t taken = 0;
    int used = 0;

    while (used < capacity && taken < bytes && at.count > 0) {
        size_t length;
        void *memory = iov_cursor_peek(&at, &length);

        length = (size_t)MIN((uint64_t)length, bytes - taken);
        out[used++] = (struct iovec){.iov_base = memory, .iov_len = length};
        taken += length;
        iov_cursor_advance(&at, length);
    }
    *ret_bytes = taken;
    return used;
}
