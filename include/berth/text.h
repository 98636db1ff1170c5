/* SPDX-License-Identifier: MIT */
/*
 * Text: UTF-8 and UTF-16 conversion, a growing string, a JSON writer over it.
 */
#ifndef BERTH_TEXT_H
#define BERTH_TEXT_H

#include "berth/base.h"

/*
 * Decodes one character at text[0..length). Returns the bytes used (1 to 4)
 * and *ret, or -EILSEQ for overlong forms, surrogates, values above U+10FFFF
 * and truncation. length must be at least 1.
 */
int utf8_decode(const char *text, size_t length, uint32_t *ret);
/* Writes 1 to 4 bytes, returns the count; -EILSEQ for a surrogate or above U+10FFFF. */
int utf8_encode(uint32_t character, char out[4]);
bool utf8_valid(const char *text, size_t length);

/*
 * UTF-8 to UTF-16 code units (host order). Returns the number of units,
 * -EILSEQ, or -ENAMETOOLONG when more than capacity units are needed.
 */
int utf8_to_utf16(const char *text, size_t length, uint16_t *out, size_t capacity);
/*
 * UTF-16 to UTF-8, not terminated. An unpaired surrogate is -EILSEQ. Returns
 * bytes written, or -ENAMETOOLONG.
 */
int utf16_to_utf8(const uint16_t *units, size_t count, char *out, size_t capacity);

/* Simple upper-case mapping of one UTF-16 unit (Unicode simple case mapping, BMP; own table). */
uint16_t utf16_upper(uint16_t unit);

/* MacRoman: the characters of the bytes from 0x80 on. */
const uint16_t *macroman_high(void);
/* For people: control characters become U+FFFD. Terminated; capacity at least 1. Returns the length,
 * -ENAMETOOLONG. */
int macroman_to_utf8(const uint8_t *bytes, size_t length, char *out, size_t capacity);

/* A growing string. Zero-initialised is empty. After a failed allocation `failed` is set and
 * everything later is dropped: check once, at the end. */
typedef struct Text {
    char *data; /* NUL-terminated when length > 0; may be NULL when empty */
    size_t length, capacity;
    bool failed;
} Text;

void text_done(Text *text);
void text_append(Text *text, const char *bytes, size_t length);
void text_printf(Text *text, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "" when empty. */
const char *text_string(const Text *text);

/*
 * JSON into a Text: begin/end pairs nest to depth 32 (asserted); commas and
 * escapes are the writer's. key is NULL inside arrays and at the top. Bytes
 * that are not UTF-8 come out as U+FFFD.
 */
typedef struct Json {
    Text *out;
    unsigned depth;
    uint32_t has_item; /* bit per depth */
} Json;

void json_begin_object(Json *json, const char *key);
void json_end_object(Json *json);
void json_begin_array(Json *json, const char *key);
void json_end_array(Json *json);
void json_string(Json *json, const char *key, const char *value);
void json_u64(Json *json, const char *key, uint64_t value);
void json_i64(Json *json, const char *key, int64_t value);
void json_double(Json *json, const char *key, double value);
void json_bool(Json *json, const char *key, bool value);
void json_null(Json *json, const char *key);

#endif
