/* SPDX-License-Identifier: MIT */
/*
 * Encoding and decoding of recorded replies (reply.h): a fixed head, then one
 * fixed block for each attribute set that is present. Little-endian, pure
 * functions, no state. Attributes take 88 bytes instead of the wire's, so that
 * a file's and its directory's fit together.
 */
#include "reply.h"
#include "berth/bytes.h"

typedef struct ReplyHead {
    le16 type, flags;
    le32 result;
    le64 param1, param2;
} ReplyHead;
_Static_assert(sizeof(ReplyHead) == 24, "recorded reply head");

typedef struct ReplyAttr {
    le64 file_id;
    le32 generation;
    le16 type, mode;
    le32 nlink, uid, gid, rdev;
    le64 size, blocks;
    le64 atime, mtime, ctime, btime;
    le32 block_size, reserved;
} ReplyAttr;
_Static_assert(sizeof(ReplyAttr) == 88, "recorded attributes");
_Static_assert(sizeof(ReplyHead) + 2 * sizeof(ReplyAttr) <= SERVICE_REPLY_MAX, "a slot's reply");

#define REPLY_FLAGS (FS_RESP_ATTR | FS_RESP_PARENT_ATTR | FS_RESP_EXACT | FS_RESP_READONLY)

static ReplyAttr attr_encode(const FsAttr *attr) {
    return (ReplyAttr){
        .file_id = le64_make(attr->file_id),
        .generation = le32_make(attr->generation),
        .type = le16_make((uint16_t)attr->type),
        .mode = le16_make((uint16_t)attr->mode),
        .nlink = le32_make(attr->nlink),
        .uid = le32_make(attr->uid),
        .gid = le32_make(attr->gid),
        .rdev = le32_make(attr->rdev),
        .size = le64_make(attr->size),
        .blocks = le64_make(attr->blocks),
        .atime = le64_make((uint64_t)attr->atime_ns),
        .mtime = le64_make((uint64_t)attr->mtime_ns),
        .ctime = le64_make((uint64_t)attr->ctime_ns),
        .btime = le64_make((uint64_t)attr->btime_ns),
        .block_size = le32_make(attr->block_size),
    };
}

static int attr_decode(const uint8_t *buf, FsAttr *ret) {
    ReplyAttr raw;

    memcpy(&raw, buf, sizeof(raw));
    *ret = (FsAttr){
        .file_id = le64_get(raw.file_id),
        .generation = le32_get(raw.generation),
        .type = le16_get(raw.type),
        .mode = le16_get(raw.mode),
        .nlink = le32_get(raw.nlink),
        .uid = le32_get(raw.uid),
        .gid = le32_get(raw.gid),
        .rdev = le32_get(raw.rdev),
        .block_size = le32_get(raw.block_size),
        .size = le64_get(raw.size),
        .blocks = le64_get(raw.blocks),
        .atime_ns = (int64_t)le64_get(raw.atime),
        .mtime_ns = (int64_t)le64_get(raw.mtime),
        .ctime_ns = (int64_t)le64_get(raw.ctime),
        .btime_ns = (int64_t)le64_get(raw.btime),
    };
    return ret->file_id == 0 || ret->type >= FS_TYPE_COUNT || ret->mode > 07777 ||
                   ret->size > INT64_MAX || le32_get(raw.reserved) != 0
               ? -EPROTO
               : 0;
}

int service_reply_encode(const FSResponse *response, uint8_t *buf, uint32_t capacity) {
    const ReplyHead head = {
        .type = le16_make(response->type),
        .flags = le16_make(response->flags & REPLY_FLAGS),
        .result = le32_make((uint32_t)response->result),
        .param1 = le64_make(response->param1),
        .param2 = le64_make(response->param2),
    };
    const struct {
        unsigned flag;
        const FsAttr *attr;
    } parts[] = {{FS_RESP_ATTR, &response->attr}, {FS_RESP_PARENT_ATTR, &response->parent}};
    uint32_t length = sizeof(head);

    if (capacity < sizeof(head)) {
        return -EMSGSIZE;
    }
    memcpy(buf, &head, sizeof(head));
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        ReplyAttr raw;

        if (!(response->flags & parts[i].flag)) {
            continue;
        }
        if (capacity - length < sizeof(raw)) {
            return -EMSGSIZE;
        }
        raw = attr_encode(parts[i].attr);
        memcpy(buf + length, &raw, sizeof(raw));
        length += (uint32_t)sizeof(raw);
    }
    return (int)length;
}

int service_reply_decode(const uint8_t *buf, uint32_t length, FSResponse *ret) {
    FSResponse response = {0};
    ReplyHead head;
    uint32_t wanted = sizeof(head), at = sizeof(head);
    int r = 0;

    if (length < sizeof(head)) {
        return -EPROTO;
    }
    memcpy(&head, buf, sizeof(head));
    response.type = le16_get(head.type);
    response.flags = le16_get(head.flags);
    response.result = (int32_t)le32_get(head.result);
    response.param1 = le64_get(head.param1);
    response.param2 = le64_get(head.param2);
    wanted += response.flags & FS_RESP_ATTR ? (uint32_t)sizeof(ReplyAttr) : 0;
    wanted += response.flags & FS_RESP_PARENT_ATTR ? (uint32_t)sizeof(ReplyAttr) : 0;
    if (response.type >= FS_MSG_COUNT || (response.flags & ~REPLY_FLAGS) != 0 ||
        response.result < -4095 || length != wanted) {
        return -EPROTO;
    }
    if (response.flags & FS_RESP_ATTR) {
        r = attr_decode(buf + at, &response.attr);
        at += (uint32_t)sizeof(ReplyAttr);
    }
    if (r == 0 && (response.flags & FS_RESP_PARENT_ATTR)) {
        r = attr_decode(buf + at, &response.parent);
    }
    if (r == 0) {
        *ret = response;
    }
    return r;
}
