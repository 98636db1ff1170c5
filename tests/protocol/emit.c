/* SPDX-License-Identifier: MIT */
/*
 * The library's side of the protocol test (see decode.py):
 *     emit write SEED MESSAGES EXPECTED
 *         writes encoded sample messages and, a JSON line each, the fields they were made from
 *     emit read MESSAGES
 *         decodes messages and prints a JSON line each: the fields, or {"error": why}
 * MESSAGES is a row of records: kind (Q request, A response, D directory entry, H hello), length
 * (32 bits, little-endian), bytes. Names and payload are printed in hexadecimal.
 */
#include <stdio.h>

#include "berth/bytes.h"
#include "berth/channel.h"
#include "berth/message.h"
#include "berth/text.h"

#include "samples.h"

#define ROUNDS 12

/* ---- JSON ---- */

static void put_hex(Json *json, const char *key, const void *bytes, size_t length) {
    static char hex[2 * FS_MESSAGE_MAX + 1];

    hex[0] = '\0';
    for (size_t i = 0; i < length; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
    }
    json_string(json, key, hex);
}

static void put_request(Json *json, const FSRequest *request) {
    json_u64(json, "type", request->type);
    json_u64(json, "flags", request->flags);
    json_u64(json, "request_id", request->request_id);
    json_u64(json, "file_id", request->file_id);
    json_u64(json, "file_id2", request->file_id2);
    json_u64(json, "offset", request->offset);
    json_u64(json, "length64", request->length64);
    json_u64(json, "arena_offset", request->arena_offset);
    json_u64(json, "length", request->length);
    json_u64(json, "deadline_ms", request->deadline_ms);
    json_u64(json, "uid", request->uid);
    json_u64(json, "gid", request->gid);
    json_u64(json, "pid", request->pid);
    json_u64(json, "arena_length", request->arena_length);
    json_i64(json, "time_ns", request->time_ns);
    json_u64(json, "mode", request->mode);
    json_u64(json, "file_type", request->file_type);
    json_u64(json, "rdev", request->rdev);
    json_u64(json, "rename_flags", request->rename_flags);
    json_u64(json, "set_mask", request->set.mask);
    json_u64(json, "set_mode", request->set.mode);
    json_u64(json, "set_uid", request->set.uid);
    json_u64(json, "set_gid", request->set.gid);
    json_u64(json, "set_size", request->set.size);
    json_i64(json, "set_atime_ns", request->set.atime_ns);
    json_i64(json, "set_mtime_ns", request->set.mtime_ns);
    json_i64(json, "set_ctime_ns", request->set.ctime_ns);
    json_i64(json, "set_btime_ns", request->set.btime_ns);
    put_hex(json, "name", request->name.text, request->name.length);
    put_hex(json, "name2", request->name2.text, request->name2.length);
    put_hex(json, "payload", request->payload, request->payload_length);
}

static void put_attr(Json *json, const char *key, const FsAttr *attr) {
    json_begin_object(json, key);
    json_u64(json, "file_id", attr->file_id);
    json_u64(json, "generation", attr->generation);
    json_u64(json, "type", attr->type);
    json_u64(json, "mode", attr->mode);
    json_u64(json, "nlink", attr->nlink);
    json_u64(json, "uid", attr->uid);
    json_u64(json, "gid", attr->gid);
    json_u64(json, "rdev", attr->rdev);
    json_u64(json, "block_size", attr->block_size);
    json_u64(json, "size", attr->size);
    json_u64(json, "blocks", attr->blocks);
    json_i64(json, "atime_ns", attr->atime_ns);
    json_i64(json, "mtime_ns", attr->mtime_ns);
    json_i64(json, "ctime_ns", attr->ctime_ns);
    json_i64(json, "btime_ns", attr->btime_ns);
    json_end_object(json);
}

static void put_response(Json *json, const FSResponse *response) {
    size_t length = response->flags & FS_RESP_ARENA ? 0 : response->data_length;

    json_u64(json, "type", response->type);
    json_u64(json, "flags", response->flags);
    json_u64(json, "request_id", response->request_id);
    json_u64(json, "number", response->number);
    json_i64(json, "result", response->result);
    json_u64(json, "data_length", response->data_length);
    json_u64(json, "param1", response->param1);
    json_u64(json, "param2", response->param2);
    put_attr(json, "attr", &response->attr);
    put_attr(json, "parent", &response->parent);
    put_hex(json, "data", response->data, length);
}

static void put_entry(Json *json, const FsDirEntry *entry) {
    json_u64(json, "type", (uint64_t)entry->type);
    json_u64(json, "flags", entry->has_attr);
    json_u64(json, "cookie", entry->cookie);
    json_u64(json, "file_id", entry->file_id);
    json_u64(json, "position", entry->position);
    put_attr(json, "attr", &entry->attr);
    put_hex(json, "name", entry->name, entry->name_length);
}

static void put_hello(Json *json, const Hello *hello) {
    json_u64(json, "version", hello->version);
    json_u64(json, "features", hello->features);
    json_u64(json, "epoch", hello->epoch);
    json_u64(json, "slots", hello->slots);
    json_u64(json, "arena_out_size", hello->arena_out_size);
    json_u64(json, "arena_in_size", hello->arena_in_size);
    json_u64(json, "image_start", hello->image_start);
    json_u64(json, "image_length", hello->image_length);
    json_u64(json, "flags", (hello->readonly ? 1u : 0u) | (hello->held ? 2u : 0u));
    json_u64(json, "pid", hello->pid);
    json_i64(json, "result", hello->result);
    put_hex(json, "type", hello->type, strlen(hello->type));
    put_hex(json, "source", hello->source, strlen(hello->source));
    put_hex(json, "text", hello->text, strlen(hello->text));
}

/* ---- emit write ---- */

typedef struct Output {
    FILE *messages, *expected;
} Output;

static void begin_line(Text *text, Json *json) {
    *text = (Text){0};
    *json = (Json){.out = text};
    json_begin_object(json, NULL);
}

static void end_line(Text *text, Json *json, FILE *file) {
    json_end_object(json);
    (void)fprintf(file, "%s\n", text_string(text));
    text_done(text);
}

static void write_record(Output *output, char kind, const uint8_t *bytes, int length) {
    le32 wire = le32_make((uint32_t)length);

    if (length < 0) {
        (void)fprintf(stderr, "emit: a sample of kind %c does not encode: %d\n", kind, length);
        exit(EXIT_FAILURE);
    }
    (void)fputc(kind, output->messages);
    (void)fwrite(&wire, sizeof(wire), 1, output->messages);
    (void)fwrite(bytes, (size_t)length, 1, output->messages);
}

static void write_request(Output *output, const FSRequest *request) {
    static uint8_t buf[FS_MESSAGE_MAX];
    Text text;
    Json json;

    write_record(output, 'Q', buf, fs_request_encode(request, buf, sizeof(buf)));
    begin_line(&text, &json);
    put_request(&json, request);
    end_line(&text, &json, output->expected);
}

static void write_response(Output *output, const FSResponse *response) {
    static uint8_t buf[FS_MESSAGE_MAX];
    Text text;
    Json json;

    write_record(output, 'A', buf, fs_response_encode(response, buf, sizeof(buf)));
    begin_line(&text, &json);
    put_response(&json, response);
    end_line(&text, &json, output->expected);
}

static void write_entry(Output *output, const FsDirEntry *entry) {
    uint8_t buf[512];
    Text text;
    Json json;

    write_record(output, 'D', buf, fs_dirent_encode(entry, buf, sizeof(buf)));
    begin_line(&text, &json);
    put_entry(&json, entry);
    end_line(&text, &json, output->expected);
}

static void write_hello(Output *output) {
    uint8_t buf[HELLO_SIZE];
    Hello hello = {
        .version = 1 + (uint32_t)random_value(UINT32_MAX - 1),
        .features = random_value(UINT64_MAX),
        .epoch = random_u32(),
        .slots = 1 + (uint32_t)random_value(4095),
        .arena_out_size = random_value(1 << 28) * 4096,
        .arena_in_size = random_value(1 << 28) * 4096,
        .image_length = random_value(INT64_MAX),
        .readonly = random_below(2) != 0,
        .held = random_below(2) != 0,
        .type = "fat",
        .source = "/dev/disk/by-label/caf\xc3\xa9",
        .pid = random_u32(),
        .result = -(int32_t)random_value(4095),
    };
    Text text;
    Json json;

    hello.image_start = random_value((uint64_t)INT64_MAX - hello.image_length);
    (void)snprintf(hello.text, sizeof(hello.text), "seed state %llx",
                   (unsigned long long)random_state);
    hello_encode(&hello, buf);
    write_record(output, 'H', buf, sizeof(buf));
    begin_line(&text, &json);
    put_hello(&json, &hello);
    end_line(&text, &json, output->expected);
}

static int run_write(unsigned long seed, const char *messages, const char *expected) {
    Output output = {.messages = fopen(messages, "wb"), .expected = fopen(expected, "w")};

    if (output.messages == NULL || output.expected == NULL) {
        (void)fprintf(stderr, "emit: %s or %s: %s\n", messages, expected, strerror(errno));
        return EXIT_FAILURE;
    }
    random_state = seed * 2654435761u + 1;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned type = 0; type < FS_MSG_COUNT; type++) {
            FSRequest request = random_request(type);
            FSResponse response, failure;

            write_request(&output, &request);
            response = random_response(type);
            write_response(&output, &response);
            failure = (FSResponse){.type = (uint16_t)type,
                                   .request_id = request.request_id,
                                   .number = random_id(),
                                   .result = -1 - (int32_t)random_value(4094)};
            write_response(&output, &failure);
        }
        for (unsigned i = 0; i < 10; i++) {
            FsDirEntry entry = random_entry();

            write_entry(&output, &entry);
            write_hello(&output);
        }
    }
    return fclose(output.messages) == 0 && fclose(output.expected) == 0 ? EXIT_SUCCESS
                                                                        : EXIT_FAILURE;
}

/* ---- emit read ---- */

static void read_record(char kind, const uint8_t *bytes, size_t length) {
    char why[128] = "directory entry";
    FSRequest request;
    FSResponse response;
    FsDirEntry entry;
    Hello hello;
    Text text;
    Json json;
    int r = -EINVAL;

    begin_line(&text, &json);
    if (kind == 'Q' && (r = fs_request_decode(bytes, length, &request, why)) == 0) {
        put_request(&json, &request);
    } else if (kind == 'A' && (r = fs_response_decode(bytes, length, &response, why)) == 0) {
        put_response(&json, &response);
    } else if (kind == 'D' && (r = fs_dirent_decode(bytes, length, &entry)) > 0) {
        put_entry(&json, &entry);
    } else if (kind == 'H' && (r = hello_decode(bytes, length, &hello, why)) == 0) {
        put_hello(&json, &hello);
    }
    if (r < 0) {
        json_string(&json, "error", why);
    }
    end_line(&text, &json, stdout);
}

static int run_read(const char *messages) {
    FILE *file = fopen(messages, "rb");
    int kind;

    if (file == NULL) {
        (void)fprintf(stderr, "emit: %s: %s\n", messages, strerror(errno));
        return EXIT_FAILURE;
    }
    while ((kind = fgetc(file)) != EOF) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t length;
        le32 wire;

        if (fread(&wire, sizeof(wire), 1, file) != 1) {
            break;
        }
        length = le32_get(wire);
        /* Exactly as large as the message, so that a sanitizer sees an overrun. */
        bytes = malloc(length > 0 ? length : 1);
        if (bytes == NULL || fread(bytes, 1, length, file) != length) {
            break;
        }
        read_record((char)kind, bytes, length);
    }
    (void)fclose(file);
    return kind == EOF ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "write") == 0) {
        return run_write(strtoul(argv[2], NULL, 10), argv[3], argv[4]);
    }
    if (argc == 3 && strcmp(argv[1], "read") == 0) {
        return run_read(argv[2]);
    }
    (void)fprintf(stderr, "usage: emit write SEED MESSAGES EXPECTED | emit read MESSAGES\n");
    return EXIT_FAILURE;
}
