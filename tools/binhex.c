/* SPDX-License-Identifier: MIT */
/*
 * BinHex 4.0: a header and both forks, each with a checksum, runs shortened by
 * a mark byte, six bits to a character, lines of 64 between two colons.
 */
#include "berth/bytes.h"
#include "macfile.h"
#include <assert.h>

#define LINE 64u
#define RUN_MARK 0x90u
#define RUN_MAX 255u
#define BANNER "(This file must be converted with BinHex 4.0)"

static const char alphabet[] = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr";
static_assert(sizeof(alphabet) == 65, "six bits");

/* ---- writing ---- */

typedef struct Writer {
    Text *out;
    uint32_t bits;
    unsigned bit_count, column;
    int run_byte; /* -1: none */
    unsigned run_length;
} Writer;

static void put_char(Writer *writer, char c) {
    if (writer->column == LINE) {
        text_append(writer->out, "\n", 1);
        writer->column = 0;
    }
    text_append(writer->out, &c, 1);
    writer->column++;
}

static void put_raw(Writer *writer, uint8_t byte) {
    writer->bits = writer->bits << 8 | byte;
    writer->bit_count += 8;
    while (writer->bit_count >= 6) {
        writer->bit_count -= 6;
        put_char(writer, alphabet[writer->bits >> writer->bit_count & 0x3f]);
    }
}

static void put_literal(Writer *writer, uint8_t byte) {
    put_raw(writer, byte);
    if (byte == RUN_MARK) {
        put_raw(writer, 0);
    }
}

static void end_run(Writer *writer) {
    unsigned length = writer->run_length;

    if (length > 3) {
        put_literal(writer, (uint8_t)writer->run_byte);
        put_raw(writer, RUN_MARK);
        put_raw(writer, (uint8_t)length);
    } else {
        for (unsigned i = 0; i < length; i++) {
            put_literal(writer, (uint8_t)writer->run_byte);
        }
    }
    writer->run_length = 0;
}

static void put_bytes(Writer *writer, const uint8_t *bytes, uint64_t size) {
    for (uint64_t i = 0; i < size; i++) {
        if (writer->run_length > 0 &&
            (bytes[i] != writer->run_byte || writer->run_length == RUN_MAX)) {
            end_run(writer);
        }
        writer->run_byte = bytes[i];
        writer->run_length++;
    }
}

static void put_with_crc(Writer *writer, const uint8_t *bytes, uint64_t size) {
    be16 crc = be16_make(mac_crc(0, bytes, size));

    put_bytes(writer, bytes, size);
    put_bytes(writer, (const uint8_t *)&crc, sizeof(crc));
}

/* After the name. */
typedef struct BinhexHeader {
    uint8_t version;
    uint8_t info[10]; /* type, creator, flags */
    be32 data_size;
    be32 resource_size;
} BinhexHeader;
static_assert(sizeof(BinhexHeader) == 19, "BinHex 4.0");

void mac_binhex_encode(const MacFile *file, Text *ret) {
    Writer writer = {.out = ret, .run_byte = -1, .column = 1};
    uint8_t header[1 + MAC_NAME_MAX + sizeof(BinhexHeader)];
    BinhexHeader fields = {.data_size = be32_make((uint32_t)file->data_size),
                           .resource_size = be32_make((uint32_t)file->resource_size)};

    memcpy(fields.info, file->info, sizeof(fields.info));
    header[0] = file->name_length;
    memcpy(header + 1, file->name, file->name_length);
    memcpy(header + 1 + file->name_length, &fields, sizeof(fields));
    text_append(ret, BANNER "\n\n:", sizeof(BANNER "\n\n:") - 1);
    put_with_crc(&writer, header, 1u + file->name_length + sizeof(fields));
    put_with_crc(&writer, file->data, file->data_size);
    put_with_crc(&writer, file->resource, file->resource_size);
    end_run(&writer);
    if (writer.bit_count > 0) {
        put_char(&writer, alphabet[writer.bits << (6 - writer.bit_count) & 0x3f]);
    }
    put_char(&writer, ':');
    text_append(ret, "\n", 1);
}

/* ---- reading ---- */

typedef struct Reader {
    const uint8_t *at, *end;
    uint32_t bits;
    unsigned bit_count;
    uint8_t last;
    unsigned repeat;
    uint8_t values[256]; /* of characters; 0xff: none of the alphabet */
    uint16_t crc;
} Reader;

/* -1: the end, or what is no BinHex. */
static int get_raw(Reader *reader) {
    while (reader->bit_count < 8) {
        uint8_t value;

        if (reader->at == reader->end) {
            return -1;
        }
        value = reader->values[*reader->at];
        if (value == 0xff) {
            if (*reader->at != '\n' && *reader->at != '\r') {
                return -1;
            }
        } else {
            reader->bits = reader->bits << 6 | value;
            reader->bit_count += 6;
        }
        reader->at++;
    }
    reader->bit_count -= 8;
    return (int)(reader->bits >> reader->bit_count & 0xff);
}

static int get_byte(Reader *reader) {
    int byte, count;

    if (reader->repeat > 0) {
        reader->repeat--;
        return reader->last;
    }
    byte = get_raw(reader);
    if (byte != RUN_MARK) {
        reader->last = (uint8_t)byte;
        return byte;
    }
    count = get_raw(reader);
    if (count == 0) {
        reader->last = RUN_MARK;
        return RUN_MARK;
    }
    if (count < 2) {
        return -1;
    }
    reader->repeat = (unsigned)count - 2; /* one was there before the mark, one is returned */
    return reader->last;
}

static bool get_bytes(Reader *reader, uint8_t *out, size_t size) {
    for (size_t i = 0; i < size; i++) {
        int byte = get_byte(reader);

        if (byte < 0) {
            return false;
        }
        out[i] = (uint8_t)byte;
    }
    reader->crc = mac_crc(reader->crc, out, size);
    return true;
}

/* The checksum that follows what was read since the last one. */
static bool check_crc(Reader *reader) {
    uint16_t computed = reader->crc;
    be16 stored;

    if (!get_bytes(reader, (uint8_t *)&stored, sizeof(stored))) {
        return false;
    }
    reader->crc = 0;
    return be16_get(stored) == computed;
}

/* From behind the first colon of a line after the banner. */
static bool find_start(const uint8_t *bytes, size_t size, Reader *reader) {
    static const char banner[] = "(This file must be converted with BinHex";
    const uint8_t *at = memmem(bytes, size, banner, sizeof(banner) - 1);

    while (at != NULL && at < bytes + size - 1) {
        at = memchr(at, ':', (size_t)(bytes + size - at));
        if (at == NULL) {
            break;
        }
        at++;
        if (at[-2] == '\n' || at[-2] == '\r') {
            *reader = (Reader){.at = at, .end = bytes + size};
            memset(reader->values, 0xff, sizeof(reader->values));
            for (unsigned i = 0; i < 64; i++) {
                reader->values[(uint8_t)alphabet[i]] = (uint8_t)i;
            }
            return true;
        }
    }
    return false;
}

/* A fork cannot have more bytes than runs can make of what is left. */
static int get_fork(Reader *reader, uint64_t size, uint8_t **ret, const char **why) {
    uint64_t most = ((uint64_t)(reader->end - reader->at) + 2) * RUN_MAX;
    uint8_t *fork;

    *why = "a fork is shorter than its header says";
    if (size > MAC_FORK_MAX || size > most) {
        return -EBADMSG;
    }
    fork = malloc(MAX(size, UINT64_C(1)));
    if (fork == NULL) {
        return -ENOMEM;
    }
    if (!get_bytes(reader, fork, size)) {
        free(fork);
        return -EBADMSG;
    }
    if (!check_crc(reader)) {
        *why = "a fork's checksum is wrong";
        free(fork);
        return -EBADMSG;
    }
    *ret = fork;
    return 0;
}

int mac_binhex_decode(const uint8_t *bytes, size_t size, MacFile *ret, const char **why) {
    MacFile file = {0};
    BinhexHeader fields;
    Reader reader;
    int r;

    *why = "not a BinHex file";
    if (!find_start(bytes, size, &reader) || !get_bytes(&reader, &file.name_length, 1) ||
        file.name_length == 0 || file.name_length > MAC_NAME_MAX ||
        !get_bytes(&reader, file.name, file.name_length) ||
        !get_bytes(&reader, (uint8_t *)&fields, sizeof(fields))) {
        return -EBADMSG;
    }
    *why = "the header's checksum is wrong";
    if (!check_crc(&reader)) {
        return -EBADMSG;
    }
    memcpy(file.info, fields.info, sizeof(fields.info));
    file.data_size = be32_get(fields.data_size);
    file.resource_size = be32_get(fields.resource_size);
    r = get_fork(&reader, file.data_size, &file.data, why);
    if (r == 0) {
        r = get_fork(&reader, file.resource_size, &file.resource, why);
    }
    if (r < 0) {
        mac_file_done(&file);
        return r;
    }
    *ret = file;
    return 0;
}
