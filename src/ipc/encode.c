/* SPDX-License-Identifier: MIT */
/*
 * FSRequest and FSResponse to bytes (man berth-protocol.7). Encoding writes only
 * the fields that the type uses, all else is zero, and refuses what the other side
 * would refuse: a message that leaves this file is one that decode accepts.
 */
#include "rules.h"

/* Copies `length` bytes to *at and zeroes the padding behind them. */
static void append_padded(uint8_t **at, const void *bytes, uint32_t length) {
    uint32_t padded = wire_padded(length);

    if (length > 0) {
        memcpy(*at, bytes, length);
    }
    memset(*at + length, 0, padded - length);
    *at += padded;
}

static void encode_set(const FsSetattr *set, WireRequest *wire) {
    wire->set_mask = le32_make(set->mask);
    wire->set_mode = le32_make(set->mask & FS_SET_MODE ? set->mode : 0);
    wire->set_uid = le32_make(set->mask & FS_SET_UID ? set->uid : 0);
    wire->set_gid = le32_make(set->mask & FS_SET_GID ? set->gid : 0);
    wire->set_size = le64_make(set->mask & FS_SET_SIZE ? set->size : 0);
    wire->set_atime_ns = le64_make(set->mask & FS_SET_ATIME ? (uint64_t)set->atime_ns : 0);
    wire->set_mtime_ns = le64_make(set->mask & FS_SET_MTIME ? (uint64_t)set->mtime_ns : 0);
    wire->set_ctime_ns = le64_make(set->mask & FS_SET_CTIME ? (uint64_t)set->ctime_ns : 0);
    wire->set_btime_ns = le64_make(set->mask & FS_SET_BTIME ? (uint64_t)set->btime_ns : 0);
}

static void encode_request_header(const FSRequest *request, uint32_t used, uint32_t total,
                                  WireRequest *wire) {
    memset(wire, 0, sizeof(*wire));
    wire->magic = le32_make(FS_PROTOCOL_MAGIC);
    wire->version = le16_make(FS_PROTOCOL_VERSION);
    wire->type = le16_make(request->type);
    wire->total_length = le32_make(total);
    wire->flags = le16_make(request->flags);
    wire->request_id = le64_make(request->request_id);
    wire->deadline_ms = le32_make(request->deadline_ms);
    wire->uid = le32_make(request->uid);
    wire->gid = le32_make(request->gid);
    wire->pid = le32_make(request->pid);
    wire->time_ns = le64_make((uint64_t)request->time_ns);

    wire->file_id = le64_make(used & RF_FILE_ID ? request->file_id : 0);
    wire->file_id2 = le64_make(used & RF_FILE_ID2 ? request->file_id2 : 0);
    wire->offset = le64_make(used & RF_ANY_OFFSET ? request->offset : 0);
    wire->length = le32_make(used & RF_LENGTH ? request->length : 0);
    wire->length64 = le64_make(used & RF_LENGTH64 ? request->length64 : 0);
    wire->mode = le32_make(used & RF_MODE ? request->mode : 0);
    wire->file_type = le32_make(used & RF_FILE_TYPE ? request->file_type : 0);
    wire->rdev = le32_make(used & RF_RDEV ? request->rdev : 0);
    wire->rename_flags = le32_make(used & RF_RENAME_FLAGS ? request->rename_flags : 0);
    if (used & RF_SET) {
        encode_set(&request->set, wire);
    }
    if (used & RF_ARENA) {
        wire->arena_offset = le64_make(request->arena_offset);
        wire->arena_length = le32_make(request->arena_length);
    }
    wire->name_length = le16_make((uint16_t)request->name.length);
    wire->name2_length = le16_make((uint16_t)request->name2.length);
    wire->payload_length = le32_make(request->payload_length);
}

int fs_request_encode(const FSRequest *request, uint8_t *buf, size_t capacity) {
    const MessageRule *rule = message_rule(request->type);
    FSRequest whole = *request;
    WireRequest wire;
    uint32_t used, total;
    uint8_t *at = buf;

    if (rule == NULL) {
        return -EINVAL;
    }
    used = message_request_fields(rule, request);
    /* A value's length need not be said twice. */
    if ((used & RF_VALUE) && !(used & RF_ARENA) && whole.length == 0) {
        whole.length = whole.payload_length;
    }
    if (message_check_request(&whole, NULL) < 0) {
        return -EINVAL;
    }
    total = FS_REQUEST_HEADER + wire_padded(whole.name.length) + wire_padded(whole.name2.length) +
            wire_padded(whole.payload_length);
    assert(total <= FS_MESSAGE_MAX);
    if (total > capacity) {
        return -EMSGSIZE;
    }
    encode_request_header(&whole, used, total, &wire);
    memcpy(at, &wire, sizeof(wire));
    at += sizeof(wire);
    append_padded(&at, whole.name.text, whole.name.length);
    append_padded(&at, whole.name2.text, whole.name2.length);
    append_padded(&at, whole.payload, whole.payload_length);
    return (int)total;
}

void message_attr_encode(const FsAttr *attr, WireAttr *wire) {
    wire->file_id = le64_make(attr->file_id);
    wire->generation = le32_make(attr->generation);
    wire->type = le32_make(attr->type);
    wire->mode = le32_make(attr->mode);
    wire->nlink = le32_make(attr->nlink);
    wire->uid = le32_make(attr->uid);
    wire->gid = le32_make(attr->gid);
    wire->rdev = le32_make(attr->rdev);
    wire->block_size = le32_make(attr->block_size);
    wire->size = le64_make(attr->size);
    wire->blocks = le64_make(attr->blocks);
    wire->atime_ns = le64_make((uint64_t)attr->atime_ns);
    wire->mtime_ns = le64_make((uint64_t)attr->mtime_ns);
    wire->ctime_ns = le64_make((uint64_t)attr->ctime_ns);
    wire->btime_ns = le64_make((uint64_t)attr->btime_ns);
}

int fs_response_encode(const FSResponse *response, uint8_t *buf, size_t capacity) {
    const MessageRule *rule = message_rule(response->type);
    WireResponse wire = {0};
    uint32_t inline_length, total;
    uint8_t *at = buf;

    if (rule == NULL || message_check_response(response, NULL) < 0) {
        return -EINVAL;
    }
    inline_length = response->flags & FS_RESP_ARENA ? 0 : response->data_length;
    total = FS_RESPONSE_HEADER + wire_padded(inline_length);
    assert(total <= FS_MESSAGE_MAX);
    if (total > capacity) {
        return -EMSGSIZE;
    }
    wire.magic = le32_make(FS_PROTOCOL_MAGIC);
    wire.version = le16_make(FS_PROTOCOL_VERSION);
    wire.type = le16_make(response->type);
    wire.total_length = le32_make(total);
    wire.flags = le16_make(response->flags);
    wire.request_id = le64_make(response->request_id);
    wire.number = le64_make(response->number);
    wire.result = le32_make((uint32_t)response->result);
    wire.data_length = le32_make(response->data_length);
    wire.param1 = le64_make(rule->response_fields & SF_PARAM1 ? response->param1 : 0);
    if (response->flags & FS_RESP_ATTR) {
        message_attr_encode(&response->attr, &wire.attr);
    }
    if (response->flags & FS_RESP_PARENT_ATTR) {
        message_attr_encode(&response->parent, &wire.parent);
    }
    memcpy(at, &wire, sizeof(wire));
    at += sizeof(wire);
    append_padded(&at, response->data, inline_length);
    return (int)total;
}
