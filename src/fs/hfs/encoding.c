/* SPDX-License-Identifier: MIT */
/*
 * The Mac's scripts over the tables of contrib/gen_macscripts.py. They are
 * built in, as a daemon in its sandbox can load nothing.
 *
 * Both directions go through an array of code points, one for each character
 * of the name. Text that comes in is composed first; what its bytes then say
 * must be the same code points again, or the name is refused: that one check
 * keeps a file from having two names, whatever the tables hold. Stateless.
 */
#include "encoding.h"
#include "berth/text.h"
#include "encoding_tables.h"
#include <strings.h>

struct HfsEncoding {
    const char *name;
    const uint16_t *high;        /* characters of the bytes 0x80 to 0xff, 0: none; NULL: MacRoman */
    const uint16_t *const *rows; /* by lead byte - 0x80; NULL: no characters of two bytes */
    uint16_t backslash;          /* what byte 0x5c stands for */
};

static const HfsEncoding encodings[] = {
    {"macroman", NULL, NULL, '\\'},
    {"macarabic", script_arabic, NULL, '\\'},
    {"maccentraleurope", script_centraleurope, NULL, '\\'},
    {"maccroatian", script_croatian, NULL, '\\'},
    {"maccyrillic", script_cyrillic, NULL, '\\'},
    {"macfarsi", script_farsi, NULL, '\\'},
    {"macgreek", script_greek, NULL, '\\'},
    {"machebrew", script_hebrew, NULL, '\\'},
    {"macicelandic", script_icelandic, NULL, '\\'},
    {"macjapanese", script_japanese, script_japanese_rows, 0xa5},
    {"macromanian", script_romanian, NULL, '\\'},
    {"macthai", script_thai, NULL, '\\'},
    {"macturkish", script_turkish, NULL, '\\'},
};

#define TRAILS 188u /* 0x40 to 0x7e and 0x80 to 0xfc */

const HfsEncoding *hfs_encoding_find(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(encodings); i++) {
        if (strcasecmp(encodings[i].name, name) == 0) {
            return &encodings[i];
        }
    }
    return NULL;
}

const HfsEncoding *hfs_encoding_default(void) {
    return &encodings[0];
}

const char *hfs_encoding_name(const HfsEncoding *encoding) {
    return encoding->name;
}

const HfsEncoding *hfs_encoding_at(size_t index) {
    return index < ARRAY_SIZE(encodings) ? &encodings[index] : NULL;
}

/* ---- from the Mac ---- */

static uint32_t escape(uint8_t byte) {
    return HFS_ESCAPE_FIRST + byte;
}

static const uint16_t *high_of(const HfsEncoding *encoding) {
    return encoding->high != NULL ? encoding->high : macroman_high();
}

static uint32_t decode_single(const HfsEncoding *encoding, uint8_t byte) {
    uint32_t character;

    if (byte < 0x20 || byte == 0x7f || byte == ':') {
        return escape(byte);
    }
    if (byte == '/') {
        return ':';
    }
    if (byte == '\\') {
        return encoding->backslash;
    }
    character = byte < 0x80 ? byte : high_of(encoding)[byte - 0x80];
    return character != 0 ? character : escape(byte);
}

/* 0: no such pair. */
static uint32_t decode_pair(const HfsEncoding *encoding, uint8_t lead, uint8_t trail) {
    const uint16_t *row;

    if (encoding->rows == NULL || lead < 0x80 || trail < 0x40 || trail == 0x7f || trail > 0xfc) {
        return 0;
    }
    row = encoding->rows[lead - 0x80];
    return row == NULL ? 0 : row[trail - 0x40u - (trail > 0x7f)];
}

/* Returns the number of characters. */
static unsigned decode_name(const HfsEncoding *encoding, const uint8_t *mac, unsigned length,
                            uint32_t points[HFS_NAME_BYTES]) {
    unsigned count = 0;

    for (unsigned at = 0; at < length;) {
        uint32_t pair = at + 1 < length ? decode_pair(encoding, mac[at], mac[at + 1]) : 0;

        points[count++] = pair != 0 ? pair : decode_single(encoding, mac[at]);
        at += pair != 0 ? 2 : 1;
    }
    if (points[0] == '.' && (count == 1 || (count == 2 && points[1] == '.'))) {
        points[0] = escape('.');
    }
    return count;
}

int hfs_name_to_utf8(const HfsEncoding *encoding, const uint8_t *mac, unsigned length, char *out,
                     size_t capacity) {
    uint32_t points[HFS_NAME_BYTES];
    unsigned count;
    size_t used = 0;

    if (length == 0 || length > HFS_NAME_BYTES) {
        return -EINVAL;
    }
    count = decode_name(encoding, mac, length, points);
    for (unsigned i = 0; i < count; i++) {
        char bytes[4];
        int n = utf8_encode(points[i], bytes);

        if (n < 0 || (size_t)n > capacity - used) {
            return n < 0 ? n : -ENAMETOOLONG;
        }
        memcpy(out + used, bytes, (size_t)n);
        used += (size_t)n;
    }
    return (int)used;
}

/* ---- to the Mac ---- */

/* The composed character of two, or the usual one for another code point of the same; 0: none. */
static uint32_t compose(uint32_t first, uint32_t second) {
    size_t low = 0, high = ARRAY_SIZE(compositions);

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const Composition *at = &compositions[middle];

        if (at->first == first && at->second == second) {
            return at->composed;
        }
        if (at->first < first || (at->first == first && at->second < second)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return 0;
}

static int encode_single(const HfsEncoding *encoding, uint32_t character, uint8_t *out) {
    if (character >= HFS_ESCAPE_FIRST && character <= HFS_ESCAPE_FIRST + 0xff) {
        *out = (uint8_t)(character - HFS_ESCAPE_FIRST);
        return 1;
    }
    if (character == encoding->backslash) {
        *out = '\\';
        return 1;
    }
    if (character < 0x80 && character != '\\') {
        *out = character == ':' ? '/' : (uint8_t)character;
        return 1;
    }
    for (unsigned i = 0; i < 128; i++) {
        if (high_of(encoding)[i] == character) {
            *out = (uint8_t)(0x80 + i);
            return 1;
        }
    }
    return 0;
}

/* Returns the number of bytes, 1 or 2; 0 when the script does not have it. */
static int encode_character(const HfsEncoding *encoding, uint32_t character, uint8_t out[2]) {
    int n = encode_single(encoding, character, out);

    for (unsigned lead = 0; n == 0 && encoding->rows != NULL && lead < 128; lead++) {
        const uint16_t *row = encoding->rows[lead];

        for (unsigned i = 0; row != NULL && i < TRAILS; i++) {
            if (row[i] == character) {
                out[0] = (uint8_t)(0x80 + lead);
                out[1] = (uint8_t)(0x40 + i + (i >= 0x3f));
                return 2;
            }
        }
    }
    return n;
}

/* Does the script have it as a character of its own? Then it is not part of another. */
static bool is_known(const HfsEncoding *encoding, uint32_t character) {
    uint8_t bytes[2];

    return encode_character(encoding, character, bytes) != 0;
}

/* One more character; a mark that the script does not have joins the letter before it. */
static int add_character(const HfsEncoding *encoding, uint32_t points[HFS_NAME_BYTES],
                         unsigned *count, uint32_t character) {
    if (character >= 0x80 && !is_known(encoding, character)) {
        uint32_t same = compose(character, 0);
        uint32_t composed = *count > 0 ? compose(points[*count - 1], character) : 0;

        if (composed != 0) {
            points[*count - 1] = composed;
            return 0;
        }
        character = same != 0 ? same : character;
    }
    if (*count == HFS_NAME_BYTES) {
        return -ENAMETOOLONG;
    }
    points[(*count)++] = character;
    return 0;
}

/* Composed characters of the text; at most as many as a name has bytes. */
static int read_text(const HfsEncoding *encoding, const char *text, size_t length,
                     uint32_t points[HFS_NAME_BYTES], unsigned *ret_count) {
    unsigned count = 0;

    for (size_t at = 0; at < length;) {
        uint32_t character;
        int n = utf8_decode(text + at, length - at, &character);
        int r = n < 0 ? n : character == '/' ? -EINVAL : 0;

        if (r == 0) {
            r = add_character(encoding, points, &count, character);
        }
        if (r < 0) {
            return r;
        }
        at += (size_t)n;
    }
    *ret_count = count;
    return count > 0 ? 0 : -EINVAL;
}

int hfs_name_from_utf8(const HfsEncoding *encoding, const char *text, size_t length,
                       uint8_t out[HFS_NAME_BYTES], unsigned *ret_length) {
    uint32_t points[HFS_NAME_BYTES], again[HFS_NAME_BYTES];
    uint8_t name[HFS_NAME_BYTES];
    unsigned count, used = 0;
    int r = read_text(encoding, text, length, points, &count);

    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < count; i++) {
        uint8_t bytes[2];
        int n = encode_character(encoding, points[i], bytes);

        if (n == 0) {
            return -EILSEQ;
        }
        if ((unsigned)n > HFS_NAME_BYTES - used) {
            return -ENAMETOOLONG;
        }
        memcpy(name + used, bytes, (size_t)n);
        used += (unsigned)n;
    }
    if (decode_name(encoding, name, used, again) != count ||
        memcmp(points, again, count * sizeof(points[0])) != 0) {
        return -EILSEQ;
    }
    memcpy(out, name, used);
    *ret_length = used;
    return 0;
}
