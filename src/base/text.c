/* SPDX-License-Identifier: MIT */
/*
 * The growing string. Invariant: data is NULL, or holds length bytes and a
 * NUL within capacity. A failed allocation is remembered in `failed` and
 * everything later is dropped, so that a writer of many pieces checks once.
 */
#include "berth/text.h"

#include <stdarg.h>
#include <stdio.h>

void text_done(Text *text) {
    free(text->data);
    *text = (Text){0};
}

/* Room for `more` bytes and the NUL. */
static bool text_reserve(Text *text, size_t more) {
    size_t need, capacity;
    char *data;

    if (text->failed) {
        return false;
    }
    if (__builtin_add_overflow(text->length, more, &need) || need >= SIZE_MAX / 2) {
        text->failed = true;
        return false;
    }
    if (need < text->capacity) {
        return true;
    }
    capacity = MAX(text->capacity * 2, (size_t)64);
    capacity = MAX(capacity, need + 1);
    data = realloc(text->data, capacity);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void text_append(Text *text, const char *bytes, size_t length) {
    if (length == 0 || !text_reserve(text, length)) {
        return;
    }
    memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void text_printf(Text *text, const char *fmt, ...) {
    va_list args;
    int length;

    va_start(args, fmt);
    length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (length < 0) {
        text->failed = true;
        return;
    }
    if (!text_reserve(text, (size_t)length)) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text->data + text->length, (size_t)length + 1, fmt, args);
    va_end(args);
    text->length += (size_t)length;
}

const char *text_string(const Text *text) {
    return text->data == NULL ? "" : text->data;
}
