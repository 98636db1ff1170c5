/* SPDX-License-Identifier: MIT */
/*
 * The JSON writer. It owns commas, escapes and nesting; the caller owns the
 * meaning. Every string may come from an image or a peer, so anything that is
 * not UTF-8 becomes U+FFFD and every control character is escaped: the output
 * is always valid JSON. Numbers are written independent of the locale.
 */
#include "berth/text.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 32

static void json_append_string(Text *out, const char *value) {
    size_t length = strlen(value), at = 0;

    text_append(out, "\"", 1);
    while (at < length) {
        uint32_t character;
        int used = utf8_decode(value + at, length - at, &character);

        if (used < 0) {
            text_append(out, "\xef\xbf\xbd", 3);
            at++;
            continue;
        }
        if (character == '"' || character == '\\') {
            text_append(out, "\\", 1);
            text_append(out, value + at, 1);
        } else if (character < 0x20 || character == 0x7f) {
            text_printf(out, "\\u%04" PRIx32, character);
        } else {
            text_append(out, value + at, (size_t)used);
        }
        at += (size_t)used;
    }
    text_append(out, "\"", 1);
}

/* The comma before an item, and its key. */
static void json_lead(Json *json, const char *key) {
    if (json->depth > 0) {
        uint32_t bit = UINT32_C(1) << (json->depth - 1);

        if ((json->has_item & bit) != 0) {
            text_append(json->out, ", ", 2);
        }
        json->has_item |= bit;
    }
    if (key != NULL) {
        json_append_string(json->out, key);
        text_append(json->out, ": ", 2);
    }
}

static void json_begin(Json *json, const char *key, const char *bracket) {
    assert(json->depth < JSON_DEPTH_MAX);
    json_lead(json, key);
    text_append(json->out, bracket, 1);
    json->has_item &= ~(UINT32_C(1) << json->depth);
    json->depth++;
}

static void json_end(Json *json, const char *bracket) {
    assert(json->depth > 0);
    json->depth--;
    text_append(json->out, bracket, 1);
}

void json_begin_object(Json *json, const char *key) {
    json_begin(json, key, "{");
}

void json_end_object(Json *json) {
    json_end(json, "}");
}

void json_begin_array(Json *json, const char *key) {
    json_begin(json, key, "[");
}

void json_end_array(Json *json) {
    json_end(json, "]");
}

void json_string(Json *json, const char *key, const char *value) {
    json_lead(json, key);
    json_append_string(json->out, value);
}

void json_u64(Json *json, const char *key, uint64_t value) {
    json_lead(json, key);
    text_printf(json->out, "%" PRIu64, value);
}

void json_i64(Json *json, const char *key, int64_t value) {
    json_lead(json, key);
    text_printf(json->out, "%" PRId64, value);
}

void json_double(Json *json, const char *key, double value) {
    char number[64];

    json_lead(json, key);
    if (!isfinite(value)) {
        text_append(json->out, "null", 4);
        return;
    }
    (void)snprintf(number, sizeof(number), "%.15g", value);
    for (char *c = number; *c != '\0'; c++) {
        if (strchr("0123456789+-e", *c) == NULL) {
            *c = '.'; /* whatever the locale writes there */
        }
    }
    text_append(json->out, number, strlen(number));
}

void json_bool(Json *json, const char *key, bool value) {
    json_lead(json, key);
    if (value) {
        text_append(json->out, "true", 4);
    } else {
        text_append(json->out, "false", 5);
    }
}

void json_null(Json *json, const char *key) {
    json_lead(json, key);
    text_append(json->out, "null", 4);
}
