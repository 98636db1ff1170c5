/* SPDX-License-Identifier: MIT */
/*
 * A JSON reader for what the control socket answers. The other side belongs to
 * the mount's owner, who need not be our friend when root asks: depth, path
 * length and every byte are checked, and strings arrive at the visitor as
 * valid UTF-8 without NUL bytes.
 */
#include "berth.h"

#include <stdio.h>

#define JSON_READ_DEPTH 32
#define JSON_READ_PATH 512

typedef struct Reader {
    const char *at, *end;
    JsonVisitor *visit;
    void *arg;
    char path[JSON_READ_PATH];
    size_t path_length;
    unsigned depth;
} Reader;

static int reader_value(Reader *reader);

static void reader_skip_blanks(Reader *reader) {
    while (reader->at < reader->end && memchr(" \t\r\n", *reader->at, 4) != NULL) {
        reader->at++;
    }
}

/* Takes the next character when it is this one. */
static bool reader_take(Reader *reader, char c) {
    reader_skip_blanks(reader);
    if (reader->at < reader->end && *reader->at == c) {
        reader->at++;
        return true;
    }
    return false;
}

static bool reader_take_word(Reader *reader, const char *word) {
    size_t length = strlen(word);

    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) {
        return false;
    }
    reader->at += length;
    return true;
}

/* Four hexadecimal digits. */
static int reader_hex4(Reader *reader, uint32_t *ret) {
    static const char digits[] = "0123456789abcdef";
    uint32_t value = 0;

    if (reader->end - reader->at < 4) {
        return -EBADMSG;
    }
    for (int i = 0; i < 4; i++) {
        char c = *reader->at++;
        const char *digit = memchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c, 16);

        if (digit == NULL) {
            return -EBADMSG;
        }
        value = value << 4 | (uint32_t)(digit - digits);
    }
    *ret = value;
    return 0;
}

static int reader_escape(Reader *reader, Text *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t unit, low;
    const char *simple;
    char bytes[4];
    int length;

    if (reader->at == reader->end) {
        return -EBADMSG;
    }
    simple = memchr(from, *reader->at, sizeof(from) - 1);
    if (simple != NULL) {
        reader->at++;
        text_append(out, &to[simple - from], 1);
        return 0;
    }
    if (*reader->at++ != 'u' || reader_hex4(reader, &unit) < 0) {
        return -EBADMSG;
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
        if (!reader_take_word(reader, "\\u") || reader_hex4(reader, &low) < 0 || low < 0xdc00 ||
            low > 0xdfff) {
            return -EBADMSG;
        }
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    length = unit == 0 ? -EILSEQ : utf8_encode(unit, bytes);
    if (length < 0) {
        return -EBADMSG;
    }
    text_append(out, bytes, (size_t)length);
    return 0;
}

/* The rest of a string after its opening quote. */
static int reader_string(Reader *reader, Text *out) {
    while (reader->at < reader->end && *reader->at != '"') {
        uint32_t character;
        int used;

        if (*reader->at == '\\') {
            reader->at++;
            if (reader_escape(reader, out) < 0) {
                return -EBADMSG;
            }
            continue;
        }
        used = utf8_decode(reader->at, (size_t)(reader->end - reader->at), &character);
        if (used < 0 || character < 0x20) {
            return -EBADMSG;
        }
        text_append(out, reader->at, (size_t)used);
        reader->at += used;
    }
    if (reader->at == reader->end) {
        return -EBADMSG;
    }
    reader->at++;
    return out->failed ? -ENOMEM : 0;
}

/* Reads the value of one member, its name added to the path for the time being. */
static int reader_member(Reader *reader, const char *name) {
    size_t old_length = reader->path_length;
    int length = snprintf(reader->path + old_length, sizeof(reader->path) - old_length, "%s%s",
                          old_length == 0 ? "" : ".", name);
    int r;

    if (length < 0 || (size_t)length >= sizeof(reader->path) - old_length) {
        return -EBADMSG;
    }
    reader->path_length += (size_t)length;
    r = reader_value(reader);
    reader->path_length = old_length;
    reader->path[old_length] = '\0';
    return r;
}

static int reader_object(Reader *reader) {
    if (reader_take(reader, '}')) {
        return 0;
    }
    do {
        Text name = {0};
        int r = reader_take(reader, '"') ? reader_string(reader, &name) : -EBADMSG;

        if (r == 0 && !reader_take(reader, ':')) {
            r = -EBADMSG;
        }
        if (r == 0) {
            r = reader_member(reader, text_string(&name));
        }
        text_done(&name);
        if (r < 0) {
            return r;
        }
    } while (reader_take(reader, ','));
    return reader_take(reader, '}') ? 0 : -EBADMSG;
}

static int reader_array(Reader *reader) {
    unsigned index = 0;

    if (reader_take(reader, ']')) {
        return 0;
    }
    do {
        char name[16];
        int r;

        (void)snprintf(name, sizeof(name), "%u", index++);
        r = reader_member(reader, name);
        if (r < 0) {
            return r;
        }
    } while (reader_take(reader, ','));
    return reader_take(reader, ']') ? 0 : -EBADMSG;
}

static int reader_number(Reader *reader) {
    const char *start = reader->at;
    char number[64];
    size_t length;

    while (reader->at < reader->end && memchr("+-.0123456789eE", *reader->at, 15) != NULL) {
        reader->at++;
    }
    length = (size_t)(reader->at - start);
    if (length == 0 || length >= sizeof(number)) {
        return -EBADMSG;
    }
    memcpy(number, start, length);
    number[length] = '\0';
    reader->visit(reader->arg, reader->path, JSON_NUMBER, number);
    return 0;
}

static int reader_scalar(Reader *reader) {
    Text text = {0};
    int r;

    if (reader_take(reader, '"')) {
        r = reader_string(reader, &text);
        if (r == 0) {
            reader->visit(reader->arg, reader->path, JSON_STRING, text_string(&text));
        }
        text_done(&text);
        return r;
    }
    if (reader_take_word(reader, "null")) {
        reader->visit(reader->arg, reader->path, JSON_NULL, "");
        return 0;
    }
    if (reader_take_word(reader, "true")) {
        reader->visit(reader->arg, reader->path, JSON_BOOL, "true");
        return 0;
    }
    if (reader_take_word(reader, "false")) {
        reader->visit(reader->arg, reader->path, JSON_BOOL, "false");
        return 0;
    }
    return reader_number(reader);
}

/* Recursion ends at JSON_READ_DEPTH. */
static int reader_value(Reader *reader) {
    bool object = reader_take(reader, '{');
    int r;

    if (!object && !reader_take(reader, '[')) {
        return reader_scalar(reader);
    }
    if (reader->depth == JSON_READ_DEPTH) {
        return -EBADMSG;
    }
    reader->depth++;
    r = object ? reader_object(reader) : reader_array(reader);
    reader->depth--;
    return r;
}

int json_read(const char *text, size_t length, JsonVisitor *visit, void *arg) {
    Reader reader = {.at = text, .end = text + length, .visit = visit, .arg = arg};
    int r = reader_value(&reader);

    if (r < 0) {
        return r;
    }
    reader_skip_blanks(&reader);
    return reader.at == reader.end ? 0 : -EBADMSG;
}
