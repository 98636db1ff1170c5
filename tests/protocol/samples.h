/* SPDX-License-Identifier: MIT */
/*
 * Sample messages of every type from a seeded generator: small values, large ones
 * and the borders of each field. Used by the unit test of src/ipc and by emit.c, which
 * hands them to the independent decoder. What a type uses is written down here a
 * second time, from man berth-protocol.7, so that the table in src/ipc is held to it.
 */
#ifndef BERTH_TESTS_SAMPLES_H
#define BERTH_TESTS_SAMPLES_H

#include "berth/message.h"

static uint64_t random_state;

static uint64_t random_u64(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint32_t random_below(uint32_t limit) {
    return (uint32_t)(random_u64() % limit);
}

/* Small values, large ones and the borders are equally likely. */
static uint64_t random_value(uint64_t max) {
    switch (random_below(4)) {
    case 0:
        return 0;
    case 1:
        return max;
    case 2:
        return random_below(1000) % (max < UINT64_MAX ? max + 1 : max);
    default:
        return max < UINT64_MAX ? random_u64() % (max + 1) : random_u64();
    }
}

static uint32_t random_u32(void) {
    return (uint32_t)random_value(UINT32_MAX);
}

static uint64_t random_id(void) {
    return 1 + random_value(UINT64_MAX - 1);
}

/* ---- making messages ---- */

static char name_bytes[FS_NAME_MAX], name2_bytes[4095];
static uint8_t payload_bytes[FS_INLINE_MAX];

static FsName random_name(char *bytes, uint32_t max, bool slash) {
    FsName name = {.text = bytes, .length = 1 + (uint32_t)random_value(max - 1)};

    for (uint32_t i = 0; i < name.length; i++) {
        do {
            bytes[i] = (char)(1 + random_below(255));
        } while (bytes[i] == '/' && !slash);
    }
    return name;
}

static void random_payload(FSRequest *request, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) {
        payload_bytes[i] = (uint8_t)(1 + random_below(255));
    }
    request->payload = length > 0 ? payload_bytes : NULL;
    request->payload_length = length;
}

/* length, and the slot or the inline room for it. */
static void random_bulk(FSRequest *request) {
    if (random_below(2) == 0) {
        request->flags |= FS_REQ_ARENA;
        request->arena_offset = random_value(INT64_MAX >> 13) << 12;
        request->arena_length = 1 + (uint32_t)random_value(FS_IO_MAX - 1);
        request->length = (uint32_t)random_value(request->arena_length);
    } else {
        request->length = (uint32_t)random_value(FS_INLINE_MAX);
    }
}

static void random_value_payload(FSRequest *request) {
    random_bulk(request);
    if ((request->flags & FS_REQ_ARENA) == 0) {
        random_payload(request, request->length);
    }
}

static void random_set(FsSetattr *set) {
    set->mask = random_below(0x200);
    set->mode = set->mask & FS_SET_MODE ? random_below(010000) : 0;
    set->uid = set->mask & FS_SET_UID ? random_u32() : 0;
    set->gid = set->mask & FS_SET_GID ? random_u32() : 0;
    set->size = set->mask & FS_SET_SIZE ? random_value(INT64_MAX) : 0;
    set->atime_ns = set->mask & FS_SET_ATIME ? (int64_t)random_u64() : 0;
    set->mtime_ns = set->mask & FS_SET_MTIME ? (int64_t)random_u64() : 0;
    set->ctime_ns = set->mask & FS_SET_CTIME ? INT64_MIN : 0;
    set->btime_ns = set->mask & FS_SET_BTIME ? (int64_t)random_u64() : 0;
}

static void random_create(FSRequest *request) {
    request->mode = random_below(010000);
    request->file_type = 1 + random_below(FS_TYPE_COUNT - 1);
    if (request->file_type == FS_TYPE_CHAR || request->file_type == FS_TYPE_BLOCK) {
        request->rdev = random_u32();
    }
    if (request->file_type == FS_TYPE_SYMLINK) {
        request->name2 = random_name(name2_bytes, sizeof(name2_bytes), true);
    }
}

/* What each type uses, by the page: the table in src/ipc must agree. */
static void random_fields(FSRequest *request) {
    request->file_id = random_id();
    switch ((FSMessageType)request->type) {
    case FS_MSG_READ_FILE:
        random_bulk(request);
        request->offset = random_value((uint64_t)INT64_MAX - request->length);
        return;
    case FS_MSG_WRITE_FILE:
        random_value_payload(request);
        request->offset = random_value((uint64_t)INT64_MAX - request->length);
        request->flags |= random_below(2) ? FS_REQ_KILL_SUIDGID : 0;
        return;
    case FS_MSG_LIST_DIR:
        random_bulk(request);
        request->offset = random_value(UINT64_MAX);
        return;
    case FS_MSG_DELETE_FILE:
        request->flags |= random_below(2) ? FS_REQ_RMDIR : 0;
        request->name = random_name(name_bytes, FS_NAME_MAX, false);
        return;
    case FS_MSG_LOOKUP:
        request->name = random_name(name_bytes, FS_NAME_MAX, false);
        return;
    case FS_MSG_CREATE_FILE:
        request->name = random_name(name_bytes, FS_NAME_MAX, false);
        random_create(request);
        return;
    case FS_MSG_RENAME:
        request->name2 = random_name(name2_bytes, FS_NAME_MAX, false);
        request->rename_flags = random_below(4);
        request->file_id2 = random_id();
        request->name = random_name(name_bytes, FS_NAME_MAX, false);
        return;
    case FS_MSG_LINK:
        request->file_id2 = random_id();
        request->name = random_name(name_bytes, FS_NAME_MAX, false);
        return;
    case FS_MSG_SET_ATTR:
        random_set(&request->set);
        return;
    case FS_MSG_FSYNC:
        request->flags |= random_below(2) ? FS_REQ_DATASYNC : 0;
        return;
    case FS_MSG_FALLOCATE:
        request->length64 = random_value(INT64_MAX);
        request->offset = random_value((uint64_t)INT64_MAX - request->length64);
        request->mode = random_u32();
        return;
    case FS_MSG_SEEK:
        request->offset = random_value(INT64_MAX);
        request->mode = random_below(2) ? SEEK_DATA : SEEK_HOLE;
        return;
    case FS_MSG_GET_XATTR:
        random_bulk(request);
        request->name = random_name(name_bytes, FS_NAME_MAX, true);
        return;
    case FS_MSG_SET_XATTR:
        random_value_payload(request);
        request->mode = random_below(4);
        request->name = random_name(name_bytes, FS_NAME_MAX, true);
        return;
    case FS_MSG_REMOVE_XATTR:
        request->name = random_name(name_bytes, FS_NAME_MAX, true);
        return;
    case FS_MSG_LIST_XATTR:
        random_bulk(request);
        return;
    case FS_MSG_GET_ATTR:
    case FS_MSG_READ_LINK:
        return;
    case FS_MSG_GET_STATS:
        request->file_id = 0;
        random_bulk(request);
        return;
    case FS_MSG_EVICT:
        request->file_id = 0;
        request->offset = random_value(UINT64_MAX);
        random_payload(request, 8 * (1 + (uint32_t)random_value(511)));
        return;
    case FS_MSG_MOUNT:
    case FS_MSG_REMOUNT:
        request->file_id = 0;
        if (request->type == FS_MSG_MOUNT && random_below(2) == 0) {
            request->flags |= FS_REQ_RECOVER;
            request->offset = random_value(UINT64_MAX);
        }
        request->flags |= random_below(2) ? FS_REQ_READONLY : 0;
        random_payload(request, (uint32_t)random_value(FS_INLINE_MAX));
        return;
    case FS_MSG_UNMOUNT:
    case FS_MSG_SHUTDOWN:
    case FS_MSG_STATFS:
    case FS_MSG_SYNC:
    case FS_MSG_PING:
    case FS_MSG_FENCE:
    case FS_MSG_FREEZE:
        request->file_id = 0;
        return;
    case FS_MSG_COUNT:
        break;
    }
    abort();
}

static FSRequest random_request(unsigned type) {
    FSRequest request = {
        .type = (uint16_t)type,
        .request_id = random_value(UINT64_MAX),
        .deadline_ms = random_u32(),
        .uid = random_u32(),
        .gid = random_u32(),
        .pid = random_u32(),
        .time_ns = (int64_t)random_u64(),
    };

    random_fields(&request);
    return request;
}

static FsAttr random_attr(void) {
    return (FsAttr){
        .file_id = random_id(),
        .generation = random_u32(),
        .type = 1 + random_below(FS_TYPE_COUNT - 1),
        .mode = random_below(010000),
        .nlink = random_u32(),
        .uid = random_u32(),
        .gid = random_u32(),
        .rdev = random_u32(),
        .block_size = random_u32(),
        .size = random_value(INT64_MAX),
        .blocks = random_value(INT64_MAX),
        .atime_ns = (int64_t)random_u64(),
        .mtime_ns = (int64_t)random_u64(),
        .ctime_ns = (int64_t)random_u64(),
        .btime_ns = INT64_MIN,
    };
}

/* A successful answer; some types with data. */
static FSResponse random_response(unsigned type) {
    FSResponse response = {
        .type = (uint16_t)type,
        .request_id = random_value(UINT64_MAX),
        .number = random_id(),
        .flags = random_below(2) ? FS_RESP_READONLY : 0,
    };
    bool names = type == FS_MSG_LOOKUP || type == FS_MSG_CREATE_FILE || type == FS_MSG_LINK ||
                 type == FS_MSG_RENAME || type == FS_MSG_DELETE_FILE;
    bool bulk = type == FS_MSG_READ_FILE || type == FS_MSG_LIST_DIR || type == FS_MSG_GET_STATS ||
                type == FS_MSG_GET_XATTR || type == FS_MSG_LIST_XATTR;

    if (names || type == FS_MSG_GET_ATTR || type == FS_MSG_SET_ATTR || type == FS_MSG_READ_FILE) {
        response.flags |= FS_RESP_ATTR;
        response.attr = random_attr();
    }
    if (names && random_below(2)) {
        response.flags |= FS_RESP_PARENT_ATTR | FS_RESP_EXACT;
        response.parent = random_attr();
    }
    if (type == FS_MSG_DELETE_FILE || type == FS_MSG_RENAME || type == FS_MSG_GET_XATTR) {
        response.param1 = random_value(UINT64_MAX);
    }
    if (bulk && random_below(2)) {
        response.flags |= FS_RESP_ARENA;
        response.data_length = (uint32_t)random_value(FS_IO_MAX);
    } else if (bulk || type == FS_MSG_READ_LINK || type == FS_MSG_MOUNT) {
        response.data_length = (uint32_t)random_value(FS_INLINE_MAX);
    } else if (type == FS_MSG_STATFS) {
        response.data_length = 56;
    }
    if (type == FS_MSG_READ_FILE) {
        response.result = (int32_t)response.data_length;
    } else if (type == FS_MSG_WRITE_FILE) {
        response.result = (int32_t)random_value(FS_IO_MAX);
    }
    if ((response.flags & FS_RESP_ARENA) == 0 && response.data_length > 0) {
        memset(payload_bytes, 0xa5, response.data_length);
        response.data = payload_bytes;
    }
    return response;
}

/* An entry with attributes or without; the name is not always ASCII. */
static FsDirEntry random_entry(void) {
    static const char *const names[] = {"a", "...", "h\xc3\xa9llo.txt", "\xf0\x9f\x90\xa7", " "};
    const char *name = names[random_below(ARRAY_SIZE(names))];
    FsDirEntry entry = {
        .name = name,
        .name_length = (uint32_t)strlen(name),
        .cookie = random_id(),
        .file_id = random_id(),
        .position = random_value(UINT64_MAX),
        .type = (FsFileType)random_below(FS_TYPE_COUNT),
        .has_attr = random_below(2) != 0,
    };

    if (entry.has_attr) {
        entry.attr = random_attr();
        entry.attr.file_id = entry.file_id;
        entry.type = (FsFileType)entry.attr.type;
    }
    return entry;
}

#endif
