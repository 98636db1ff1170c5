/* SPDX-License-Identifier: MIT */
/*
 * HELLO, the first message in each direction (man berth-protocol.7): its layout is
 * the same in every version, since it is what the versions are agreed with. Its
 * strings reach log lines, so control characters are replaced when encoding and
 * refused when decoding.
 */
#include "rules.h"

#define ARENA_SIZE_MAX (UINT64_C(1) << 40)

static bool is_control(char c) {
    return (unsigned char)c < 0x20 || c == 0x7f;
}

/* The part of text that fits, terminated, zeros behind. */
static void put_text(uint8_t *field, size_t size, const char *text) {
    size_t length = strnlen(text, size - 1);

    memset(field, 0, size);
    for (size_t i = 0; i < length; i++) {
        field[i] = (uint8_t)(is_control(text[i]) ? '?' : text[i]);
    }
}

void hello_encode(const Hello *hello, uint8_t buf[HELLO_SIZE]) {
    WireHello wire = {0};

    wire.magic = le32_make(WIRE_HELLO_MAGIC);
    wire.version = le32_make(hello->version);
    wire.features = le64_make(hello->features);
    wire.epoch = le32_make(hello->epoch);
    wire.slots = le32_make(hello->slots);
    wire.arena_out_size = le64_make(hello->arena_out_size);
    wire.arena_in_size = le64_make(hello->arena_in_size);
    wire.image_start = le64_make(hello->image_start);
    wire.image_length = le64_make(hello->image_length);
    wire.flags = le32_make((hello->readonly ? WIRE_HELLO_READONLY : 0) |
                           (hello->held ? WIRE_HELLO_HELD : 0));
    wire.pid = le32_make(hello->pid);
    wire.result = le32_make((uint32_t)hello->result);
    put_text(wire.type, sizeof(wire.type), hello->type);
    put_text(wire.source, sizeof(wire.source), hello->source);
    put_text(wire.text, sizeof(wire.text), hello->text);
    memcpy(buf, &wire, sizeof(wire));
}

static int get_text(const uint8_t *field, size_t size, const char *what, char *ret,
                    char text[128]) {
    size_t length = strnlen((const char *)field, size);

    if (length == size || !wire_is_zero(field + length, size - length)) {
        return message_bad(text, "hello: %s is not terminated and padded with zeros", what);
    }
    for (size_t i = 0; i < length; i++) {
        if (is_control((char)field[i])) {
            return message_bad(text, "hello: %s has a control character", what);
        }
    }
    memcpy(ret, field, size);
    return 0;
}

static int check_numbers(const Hello *hello, uint32_t flags, char text[128]) {
    uint64_t end;

    if (hello->version == 0) {
        return message_bad(text, "hello: version 0");
    }
    if (hello->result > 0 || hello->result < -WIRE_ERRNO_MAX) {
        return message_bad(text, "hello: result %d is out of range", hello->result);
    }
    /* A refusal need not repeat what it refuses. */
    if (hello->slots > WIRE_SLOTS_MAX || (hello->slots == 0 && hello->result == 0)) {
        return message_bad(text, "hello: slots %u is not 1 to %u", hello->slots, WIRE_SLOTS_MAX);
    }
    if (hello->arena_out_size % WIRE_ARENA_ALIGN != 0 || hello->arena_out_size > ARENA_SIZE_MAX ||
        hello->arena_in_size % WIRE_ARENA_ALIGN != 0 || hello->arena_in_size > ARENA_SIZE_MAX) {
        return message_bad(text, "hello: arena sizes %llu and %llu",
                           (unsigned long long)hello->arena_out_size,
                           (unsigned long long)hello->arena_in_size);
    }
    if (!u64_add(hello->image_start, hello->image_length, &end) || end > INT64_MAX) {
        return message_bad(text, "hello: image %llu+%llu overflows",
                           (unsigned long long)hello->image_start,
                           (unsigned long long)hello->image_length);
    }
    if ((flags & ~(WIRE_HELLO_READONLY | WIRE_HELLO_HELD)) != 0) {
        return message_bad(text, "hello: flags %#x has unknown bits", flags);
    }
    return 0;
}

static int check_type(const char *type, char text[128]) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.+";

    if (type[strspn(type, allowed)] != '\0') {
        return message_bad(text, "hello: type has a character that no type has");
    }
    return 0;
}

int hello_decode(const uint8_t *buf, size_t length, Hello *ret, char text[128]) {
    WireHello wire;
    Hello hello = {0};
    uint32_t flags;
    int r;

    if (length != sizeof(wire)) {
        return message_bad(text, "hello: packet of %zu bytes", length);
    }
    memcpy(&wire, buf, sizeof(wire));
    if (le32_get(wire.magic) != WIRE_HELLO_MAGIC) {
        return message_bad(text, "hello: magic %#x", le32_get(wire.magic));
    }
    if (!wire_is_zero(wire.reserved1, sizeof(wire.reserved1)) ||
        !wire_is_zero(wire.reserved2, sizeof(wire.reserved2))) {
        return message_bad(text, "hello: a reserved byte is not zero");
    }
    hello.version = le32_get(wire.version);
    hello.features = le64_get(wire.features);
    hello.epoch = le32_get(wire.epoch);
    hello.slots = le32_get(wire.slots);
    hello.arena_out_size = le64_get(wire.arena_out_size);
    hello.arena_in_size = le64_get(wire.arena_in_size);
    hello.image_start = le64_get(wire.image_start);
    hello.image_length = le64_get(wire.image_length);
    hello.pid = le32_get(wire.pid);
    hello.result = (int32_t)le32_get(wire.result);
    flags = le32_get(wire.flags);
    hello.readonly = (flags & WIRE_HELLO_READONLY) != 0;
    hello.held = (flags & WIRE_HELLO_HELD) != 0;
    r = check_numbers(&hello, flags, text);
    if (r == 0) {
        r = get_text(wire.type, sizeof(wire.type), "type", hello.type, text);
    }
    if (r == 0) {
        r = get_text(wire.source, sizeof(wire.source), "source", hello.source, text);
    }
    if (r == 0) {
        r = get_text(wire.text, sizeof(wire.text), "text", hello.text, text);
    }
    if (r == 0) {
        r = check_type(hello.type, text);
    }
    if (r < 0) {
        return r;
    }
    *ret = hello;
    return 0;
}
