/* SPDX-License-Identifier: MIT */
/*
 * Bytes to FSRequest and FSResponse (man berth-protocol.7). The bytes are a private
 * copy, so that nothing changes between check and use; every one of them is hostile.
 * Accepted is exactly what encode writes: fields that the type does not use, reserved
 * bytes and padding are zero, the lengths add up to the packet, values are in range.
 */
#include "rules.h"

/* A field that only some types use: it must be zero in the others. */
typedef struct OptionalField {
    const char *name;
    uint16_t offset, size;
    uint32_t bits; /* any of these RequestFields: it is used */
} OptionalField;

#define OPTIONAL(field, bits) \
    { #field, offsetof(WireRequest, field), sizeof(((WireRequest *)0)->field), bits }

static const OptionalField optional_fields[] = {
    OPTIONAL(file_id, RF_FILE_ID),
    OPTIONAL(file_id2, RF_FILE_ID2),
    OPTIONAL(offset, RF_ANY_OFFSET),
    OPTIONAL(length64, RF_LENGTH64),
    OPTIONAL(arena_offset, RF_ARENA),
    OPTIONAL(length, RF_LENGTH),
    OPTIONAL(arena_length, RF_ARENA),
    OPTIONAL(mode, RF_MODE),
    OPTIONAL(file_type, RF_FILE_TYPE),
    OPTIONAL(rdev, RF_RDEV),
    OPTIONAL(rename_flags, RF_RENAME_FLAGS),
    OPTIONAL(set_mask, RF_SET),
    OPTIONAL(set_mode, RF_SET_FIELD(FS_SET_MODE)),
    OPTIONAL(set_uid, RF_SET_FIELD(FS_SET_UID)),
    OPTIONAL(set_gid, RF_SET_FIELD(FS_SET_GID)),
    OPTIONAL(set_size, RF_SET_FIELD(FS_SET_SIZE)),
    OPTIONAL(set_atime_ns, RF_SET_FIELD(FS_SET_ATIME)),
    OPTIONAL(set_mtime_ns, RF_SET_FIELD(FS_SET_MTIME)),
    OPTIONAL(set_ctime_ns, RF_SET_FIELD(FS_SET_CTIME)),
    OPTIONAL(set_btime_ns, RF_SET_FIELD(FS_SET_BTIME)),
    OPTIONAL(reserved1, 0),
    OPTIONAL(reserved2, 0),
};

static int check_unused(const WireRequest *wire, uint32_t used, unsigned type, char text[128]) {
    const uint8_t *bytes = (const uint8_t *)wire;

    for (size_t i = 0; i < ARRAY_SIZE(optional_fields); i++) {
        const OptionalField *field = &optional_fields[i];

        if ((used & field->bits) == 0 && !wire_is_zero(bytes + field->offset, field->size)) {
            return message_bad(text, "%s is not zero, unused by this %s", field->name,
                               fs_message_name(type));
        }
    }
    return 0;
}

/* What requests and responses begin with. */
static int check_start(const uint8_t *buf, size_t length, size_t header, char text[128]) {
    WireRequest start = {0}; /* the first 16 bytes are alike in both */
    uint32_t magic, version, total;

    static_assert(offsetof(WireRequest, total_length) == offsetof(WireResponse, total_length),
                  "both headers start alike");
    if (length < header || length > FS_MESSAGE_MAX) {
        return message_bad(text, "packet of %zu bytes", length);
    }
    memcpy(&start, buf, offsetof(WireRequest, flags));
    magic = le32_get(start.magic);
    version = le16_get(start.version);
    total = le32_get(start.total_length);
    if (magic != FS_PROTOCOL_MAGIC) {
        return message_bad(text, "magic %#x", magic);
    }
    if (version != FS_PROTOCOL_VERSION) {
        return message_bad(text, "version %u", version);
    }
    if (total != length) {
        return message_bad(text, "total_length %u in a packet of %zu bytes", total, length);
    }
    return 0;
}

/*
 * The next part of the body. *at never passes the end of the packet: the caller has compared the
 * sum of all parts with its length.
 */
static int take_padded(const uint8_t **at, uint32_t length, const char *what, const uint8_t **ret,
                       char text[128]) {
    uint32_t padded = wire_padded(length);

    if (!wire_is_zero(*at + length, padded - length)) {
        return message_bad(text, "padding of %s is not zero", what);
    }
    *ret = length > 0 ? *at : NULL;
    *at += padded;
    return 0;
}

static void decode_request_header(const WireRequest *wire, FSRequest *ret) {
    *ret = (FSRequest){
        .type = le16_get(wire->type),
        .flags = le16_get(wire->flags),
        .request_id = le64_get(wire->request_id),
        .file_id = le64_get(wire->file_id),
        .file_id2 = le64_get(wire->file_id2),
        .offset = le64_get(wire->offset),
        .length64 = le64_get(wire->length64),
        .length = le32_get(wire->length),
        .deadline_ms = le32_get(wire->deadline_ms),
        .uid = le32_get(wire->uid),
        .gid = le32_get(wire->gid),
        .pid = le32_get(wire->pid),
        .time_ns = (int64_t)le64_get(wire->time_ns),
        .mode = le32_get(wire->mode),
        .file_type = le32_get(wire->file_type),
        .rdev = le32_get(wire->rdev),
        .rename_flags = le32_get(wire->rename_flags),
        .arena_offset = le64_get(wire->arena_offset),
        .arena_length = le32_get(wire->arena_length),
        .payload_length = le32_get(wire->payload_length),
        .name.length = le16_get(wire->name_length),
        .name2.length = le16_get(wire->name2_length),
        .set.mask = le32_get(wire->set_mask),
        .set.mode = le32_get(wire->set_mode),
        .set.uid = le32_get(wire->set_uid),
        .set.gid = le32_get(wire->set_gid),
        .set.size = le64_get(wire->set_size),
        .set.atime_ns = (int64_t)le64_get(wire->set_atime_ns),
        .set.mtime_ns = (int64_t)le64_get(wire->set_mtime_ns),
        .set.ctime_ns = (int64_t)le64_get(wire->set_ctime_ns),
        .set.btime_ns = (int64_t)le64_get(wire->set_btime_ns),
    };
}

/* The lengths are bounded by the packet's before anything of the body is looked at. */
static int decode_request_body(const uint8_t *buf, size_t length, FSRequest *request,
                               char text[128]) {
    const uint8_t *at = buf + FS_REQUEST_HEADER;
    const uint8_t *name = NULL, *name2 = NULL;
    uint64_t sum = FS_REQUEST_HEADER + wire_padded(request->name.length) +
                   wire_padded(request->name2.length) + align_up(request->payload_length, 8);
    int r;

    if (sum != length) {
        return message_bad(text, "name %u, name2 %u, payload %u bytes in a packet of %zu",
                           request->name.length, request->name2.length, request->payload_length,
                           length);
    }
    r = take_padded(&at, request->name.length, "name", &name, text);
    if (r == 0) {
        r = take_padded(&at, request->name2.length, "name2", &name2, text);
    }
    if (r == 0) {
        r = take_padded(&at, request->payload_length, "payload", &request->payload, text);
    }
    if (r == 0) {
        request->name.text = (const char *)name;
        request->name2.text = (const char *)name2;
    }
    return r;
}

int fs_request_decode(const uint8_t *buf, size_t length, FSRequest *ret, char text[128]) {
    const MessageRule *rule;
    WireRequest wire;
    FSRequest request;
    int r;

    r = check_start(buf, length, sizeof(wire), text);
    if (r < 0) {
        return r;
    }
    memcpy(&wire, buf, sizeof(wire));
    decode_request_header(&wire, &request);
    r = decode_request_body(buf, length, &request, text);
    if (r < 0) {
        return r;
    }
    r = message_check_request(&request, text);
    if (r < 0) {
        return r;
    }
    rule = message_rule(request.type);
    r = check_unused(&wire, message_request_fields(rule, &request), request.type, text);
    if (r < 0) {
        return r;
    }
    *ret = request;
    return 0;
}

void message_attr_decode(const WireAttr *wire, FsAttr *ret) {
    *ret = (FsAttr){
        .file_id = le64_get(wire->file_id),
        .generation = le32_get(wire->generation),
        .type = le32_get(wire->type),
        .mode = le32_get(wire->mode),
        .nlink = le32_get(wire->nlink),
        .uid = le32_get(wire->uid),
        .gid = le32_get(wire->gid),
        .rdev = le32_get(wire->rdev),
        .block_size = le32_get(wire->block_size),
        .size = le64_get(wire->size),
        .blocks = le64_get(wire->blocks),
        .atime_ns = (int64_t)le64_get(wire->atime_ns),
        .mtime_ns = (int64_t)le64_get(wire->mtime_ns),
        .ctime_ns = (int64_t)le64_get(wire->ctime_ns),
        .btime_ns = (int64_t)le64_get(wire->btime_ns),
    };
}

static int check_unused_response(const WireResponse *wire, const FSResponse *response,
                                 char text[128]) {
    const MessageRule *rule = message_rule(response->type);
    const char *field = NULL;

    if (!wire_is_zero(wire->reserved1, sizeof(wire->reserved1)) ||
        !wire_is_zero(wire->reserved2, sizeof(wire->reserved2))) {
        field = "a reserved byte";
    } else if (response->param1 != 0 && (rule->response_fields & SF_PARAM1) == 0) {
        field = "param1";
    } else if (response->param2 != 0) {
        field = "param2"; /* no type of this version has one */
    } else if ((response->flags & FS_RESP_ATTR) == 0 &&
               !wire_is_zero(&wire->attr, sizeof(wire->attr))) {
        field = "attr";
    } else if ((response->flags & FS_RESP_PARENT_ATTR) == 0 &&
               !wire_is_zero(&wire->parent, sizeof(wire->parent))) {
        field = "parent";
    }
    if (field != NULL) {
        return message_bad(text, "%s is not zero, unused by this %s", field, rule->name);
    }
    return 0;
}

int fs_response_decode(const uint8_t *buf, size_t length, FSResponse *ret, char text[128]) {
    const uint8_t *at;
    WireResponse wire;
    FSResponse response;
    uint32_t inline_length;
    int r;

    r = check_start(buf, length, sizeof(wire), text);
    if (r < 0) {
        return r;
    }
    memcpy(&wire, buf, sizeof(wire));
    response = (FSResponse){
        .type = le16_get(wire.type),
        .flags = le16_get(wire.flags),
        .request_id = le64_get(wire.request_id),
        .number = le64_get(wire.number),
        .result = (int32_t)le32_get(wire.result),
        .data_length = le32_get(wire.data_length),
        .param1 = le64_get(wire.param1),
        .param2 = le64_get(wire.param2),
    };
    message_attr_decode(&wire.attr, &response.attr);
    message_attr_decode(&wire.parent, &response.parent);
    /* Bounds data_length, so that the sum below cannot wrap. */
    r = message_check_response(&response, text);
    if (r < 0) {
        return r;
    }
    inline_length = response.flags & FS_RESP_ARENA ? 0 : response.data_length;
    if (FS_RESPONSE_HEADER + wire_padded(inline_length) != length) {
        return message_bad(text, "data_length %u in a packet of %zu bytes", inline_length, length);
    }
    at = buf + FS_RESPONSE_HEADER;
    r = take_padded(&at, inline_length, "data", &response.data, text);
    if (r < 0) {
        return r;
    }
    r = check_unused_response(&wire, &response, text);
    if (r < 0) {
        return r;
    }
    *ret = response;
    return 0;
}
