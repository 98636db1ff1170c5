/* SPDX-License-Identifier: MIT */
/*
 * The table of message types and the checks of values (see rules.h). Pure
 * functions over structures in private memory: nothing here allocates or keeps
 * state. A change of the table is a change of man berth-protocol.7.
 */
#include "rules.h"

#include <stdarg.h>
#include <stdio.h>

#define RESP_FILE (FS_RESP_READONLY | FS_RESP_ATTR)
#define RESP_NAME (RESP_FILE | FS_RESP_PARENT_ATTR | FS_RESP_EXACT)
#define RESP_NONE FS_RESP_READONLY

static const MessageRule rules[FS_MSG_COUNT] = {
    [FS_MSG_READ_FILE] = {"READ_FILE", RF_FILE_ID | RF_OFFSET | RF_LENGTH | RF_ARENA, FS_REQ_ARENA,
                          RESP_FILE | FS_RESP_ARENA, SF_COUNT | SF_DATA},
    [FS_MSG_WRITE_FILE] = {"WRITE_FILE", RF_FILE_ID | RF_OFFSET | RF_LENGTH | RF_ARENA | RF_VALUE,
                           FS_REQ_ARENA | FS_REQ_KILL_SUIDGID, RESP_FILE, SF_COUNT},
    [FS_MSG_LIST_DIR] = {"LIST_DIR", RF_FILE_ID | RF_COOKIE | RF_LENGTH | RF_ARENA, FS_REQ_ARENA,
                         RESP_FILE | FS_RESP_ARENA | FS_RESP_END, SF_DATA},
    [FS_MSG_LOOKUP] = {"LOOKUP", RF_FILE_ID | RF_NAME, 0, RESP_NAME, SF_ATTR},
    [FS_MSG_CREATE_FILE] = {"CREATE_FILE",
                            RF_FILE_ID | RF_NAME | RF_MODE | RF_FILE_TYPE | RF_RDEV | RF_TARGET, 0,
                            RESP_NAME, SF_ATTR},
    [FS_MSG_DELETE_FILE] = {"DELETE_FILE", RF_FILE_ID | RF_NAME, FS_REQ_RMDIR, RESP_NAME,
                            SF_PARAM1},
    [FS_MSG_GET_STATS] = {"GET_STATS", RF_LENGTH | RF_ARENA, FS_REQ_ARENA,
                          RESP_NONE | FS_RESP_ARENA, SF_DATA},
    [FS_MSG_MOUNT] = {"MOUNT", RF_COOKIE | RF_TEXT, FS_REQ_READONLY | FS_REQ_RECOVER, RESP_FILE,
                      SF_DATA | SF_ERROR_TEXT},
    [FS_MSG_UNMOUNT] = {"UNMOUNT", 0, 0, RESP_NONE, 0},
    [FS_MSG_SHUTDOWN] = {"SHUTDOWN", 0, 0, RESP_NONE, 0},
    [FS_MSG_GET_ATTR] = {"GET_ATTR", RF_FILE_ID, 0, RESP_FILE, SF_ATTR},
    [FS_MSG_SET_ATTR] = {"SET_ATTR", RF_FILE_ID | RF_SET, 0, RESP_FILE, SF_ATTR},
    [FS_MSG_RENAME] = {"RENAME", RF_FILE_ID | RF_FILE_ID2 | RF_NAME | RF_NAME2 | RF_RENAME_FLAGS, 0,
                       RESP_NAME, SF_PARAM1},
    [FS_MSG_LINK] = {"LINK", RF_FILE_ID | RF_FILE_ID2 | RF_NAME, 0, RESP_NAME, SF_ATTR},
    [FS_MSG_READ_LINK] = {"READ_LINK", RF_FILE_ID, 0, RESP_FILE, SF_DATA},
    [FS_MSG_STATFS] = {"STATFS", 0, 0, RESP_NONE, SF_DATA},
    [FS_MSG_FSYNC] = {"FSYNC", RF_FILE_ID, FS_REQ_DATASYNC, RESP_FILE, 0},
    [FS_MSG_SYNC] = {"SYNC", 0, 0, RESP_NONE, 0},
    [FS_MSG_FALLOCATE] = {"FALLOCATE", RF_FILE_ID | RF_OFFSET | RF_LENGTH64 | RF_MODE, 0, RESP_FILE,
                          0},
    [FS_MSG_GET_XATTR] = {"GET_XATTR", RF_FILE_ID | RF_XATTR | RF_LENGTH | RF_ARENA, FS_REQ_ARENA,
                          RESP_FILE | FS_RESP_ARENA, SF_DATA | SF_PARAM1},
    [FS_MSG_SET_XATTR] = {"SET_XATTR",
                          RF_FILE_ID | RF_XATTR | RF_MODE | RF_LENGTH | RF_ARENA | RF_VALUE,
                          FS_REQ_ARENA, RESP_FILE, 0},
    [FS_MSG_LIST_XATTR] = {"LIST_XATTR", RF_FILE_ID | RF_LENGTH | RF_ARENA, FS_REQ_ARENA,
                           RESP_FILE | FS_RESP_ARENA, SF_DATA | SF_PARAM1},
    [FS_MSG_REMOVE_XATTR] = {"REMOVE_XATTR", RF_FILE_ID | RF_XATTR, 0, RESP_FILE, 0},
    [FS_MSG_EVICT] = {"EVICT", RF_COOKIE | RF_IDS, 0, RESP_NONE, 0},
    [FS_MSG_PING] = {"PING", 0, 0, RESP_NONE, 0},
    [FS_MSG_REMOUNT] = {"REMOUNT", RF_TEXT, FS_REQ_READONLY, RESP_NONE, SF_ERROR_TEXT},
    [FS_MSG_SEEK] = {"SEEK", RF_FILE_ID | RF_OFFSET | RF_MODE, 0, RESP_FILE, SF_PARAM1},
    [FS_MSG_FENCE] = {"FENCE", 0, 0, RESP_NONE, 0},
    [FS_MSG_FREEZE] = {"FREEZE", 0, 0, RESP_NONE, 0},
};

const MessageRule *message_rule(unsigned type) {
    return type < FS_MSG_COUNT ? &rules[type] : NULL;
}

const char *fs_message_name(unsigned type) {
    static _Thread_local char unknown[24]; /* a caller prints it at once */
    const MessageRule *rule = message_rule(type);

    if (rule != NULL) {
        return rule->name;
    }
    (void)snprintf(unknown, sizeof(unknown), "type-%u", type);
    return unknown;
}

uint32_t message_request_fields(const MessageRule *rule, const FSRequest *request) {
    uint32_t used = rule->fields;

    if ((request->flags & FS_REQ_ARENA) == 0) {
        used &= ~(uint32_t)RF_ARENA;
    }
    if (request->type == FS_MSG_MOUNT && (request->flags & FS_REQ_RECOVER) == 0) {
        used &= ~(uint32_t)RF_COOKIE;
    }
    if (request->file_type != FS_TYPE_CHAR && request->file_type != FS_TYPE_BLOCK) {
        used &= ~(uint32_t)RF_RDEV;
    }
    if (request->file_type != FS_TYPE_SYMLINK) {
        used &= ~(uint32_t)RF_TARGET;
    }
    if (used & RF_SET) {
        used |= RF_SET_FIELD(request->set.mask & WIRE_SET_ALL);
    }
    return used;
}

int message_bad(char text[128], const char *fmt, ...) {
    va_list args;

    if (text != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(text, 128, fmt, args);
        va_end(args);
    }
    return -EPROTO;
}

/* What a name may hold at this level; UTF-8 and "." are the framework's to refuse, with an errno
 * of their own. */
static int check_name(const FsName *name, const char *what, uint32_t max, bool slash,
                      char text[128]) {
    if (name->length == 0 || name->length > max) {
        return message_bad(text, "%s: length %u is not 1 to %u", what, name->length, max);
    }
    if (memchr(name->text, 0, name->length) != NULL) {
        return message_bad(text, "%s: contains NUL", what);
    }
    if (!slash && memchr(name->text, '/', name->length) != NULL) {
        return message_bad(text, "%s: contains '/'", what);
    }
    return 0;
}

static int check_names(const FSRequest *request, uint32_t used, char text[128]) {
    int r = 0;

    if (used & RF_ANY_NAME) {
        r = check_name(&request->name, "name", FS_NAME_MAX, (used & RF_XATTR) != 0, text);
    } else if (request->name.length != 0) {
        r = message_bad(text, "name: %s has none", fs_message_name(request->type));
    }
    if (r < 0) {
        return r;
    }
    if (used & RF_TARGET) {
        return check_name(&request->name2, "target", WIRE_TARGET_MAX, true, text);
    }
    if (used & RF_NAME2) {
        return check_name(&request->name2, "name2", FS_NAME_MAX, false, text);
    }
    if (request->name2.length != 0) {
        return message_bad(text, "name2: %s has none", fs_message_name(request->type));
    }
    return 0;
}

static int check_arena(const FSRequest *request, char text[128]) {
    if (request->arena_length == 0 || request->arena_length > FS_IO_MAX) {
        return message_bad(text, "arena_length %u is not 1 to %u", request->arena_length,
                           FS_IO_MAX);
    }
    if (request->arena_offset % WIRE_ARENA_ALIGN != 0 ||
        request->arena_offset > (uint64_t)INT64_MAX - request->arena_length) {
        return message_bad(text, "arena_offset %llu is not a slot",
                           (unsigned long long)request->arena_offset);
    }
    if (request->length > request->arena_length) {
        return message_bad(text, "length %u exceeds arena_length %u", request->length,
                           request->arena_length);
    }
    return 0;
}

static int check_payload(const FSRequest *request, uint32_t used, char text[128]) {
    uint32_t length = request->payload_length;
    bool arena = (used & RF_ARENA) != 0;

    if (length > 0 && ((used & RF_ANY_PAYLOAD) == 0 || arena)) {
        return message_bad(text, "payload_length %u: there is none inline", length);
    }
    if (length > FS_INLINE_MAX) {
        return message_bad(text, "payload_length %u exceeds %u", length, FS_INLINE_MAX);
    }
    if ((used & RF_VALUE) && !arena && length != request->length) {
        return message_bad(text, "payload_length %u is not length %u", length, request->length);
    }
    if ((used & RF_TEXT) && length > 0 && memchr(request->payload, 0, length) != NULL) {
        return message_bad(text, "payload: option string contains NUL");
    }
    if (used & RF_IDS) {
        if (length == 0 || length % sizeof(le64) != 0) {
            return message_bad(text, "payload_length %u: not a list of file_ids", length);
        }
        for (uint32_t at = 0; at < length; at += (uint32_t)sizeof(le64)) {
            if (wire_is_zero(request->payload + at, sizeof(le64))) {
                return message_bad(text, "payload: file_id 0 at byte %u", at);
            }
        }
    }
    return 0;
}

static int check_offsets(const FSRequest *request, uint32_t used, char text[128]) {
    uint64_t length = used & RF_LENGTH64 ? request->length64 : request->length;

    if ((used & RF_LENGTH64) && length > INT64_MAX) {
        return message_bad(text, "length64 %llu is negative", (unsigned long long)length);
    }
    if ((used & (RF_LENGTH64 | RF_LENGTH)) == 0) {
        length = 0;
    }
    if ((used & RF_OFFSET) && request->offset > (uint64_t)INT64_MAX - length) {
        return message_bad(text, "offset %llu is beyond the largest file",
                           (unsigned long long)request->offset);
    }
    /* Without a slot the answer, or the value, must fit into a message. */
    if ((used & RF_LENGTH) && (used & RF_ARENA) == 0 && request->length > FS_INLINE_MAX) {
        return message_bad(text, "length %u exceeds %u without an arena slot", request->length,
                           FS_INLINE_MAX);
    }
    return 0;
}

static int check_scalars(const FSRequest *request, uint32_t used, char text[128]) {
    unsigned type = request->type;
    uint32_t mode_max = UINT32_MAX; /* FALLOCATE: its modes are the operation's to refuse */

    if ((used & RF_FILE_ID) && request->file_id == 0) {
        return message_bad(text, "file_id 0");
    }
    if ((used & RF_FILE_ID2) && request->file_id2 == 0) {
        return message_bad(text, "file_id2 0");
    }
    if (type == FS_MSG_CREATE_FILE) {
        mode_max = 07777;
    } else if (type == FS_MSG_SET_XATTR) {
        mode_max = 3; /* XATTR_CREATE, XATTR_REPLACE */
    } else if (type == FS_MSG_SEEK) {
        mode_max = SEEK_HOLE;
    }
    if ((used & RF_MODE) && request->mode > mode_max) {
        return message_bad(text, "mode %#o is out of range", request->mode);
    }
    if (type == FS_MSG_SEEK && request->mode != SEEK_DATA && request->mode != SEEK_HOLE) {
        return message_bad(text, "mode %u is not SEEK_DATA or SEEK_HOLE", request->mode);
    }
    if ((used & RF_FILE_TYPE) &&
        (request->file_type == FS_TYPE_UNKNOWN || request->file_type >= FS_TYPE_COUNT)) {
        return message_bad(text, "file_type %u is unknown", request->file_type);
    }
    if ((used & RF_RENAME_FLAGS) &&
        (request->rename_flags & ~(uint32_t)(FS_RENAME_NOREPLACE | FS_RENAME_EXCHANGE)) != 0) {
        return message_bad(text, "rename_flags %#x has unknown bits", request->rename_flags);
    }
    return 0;
}

static int check_set(const FsSetattr *set, char text[128]) {
    if ((set->mask & ~WIRE_SET_ALL) != 0) {
        return message_bad(text, "set.mask %#x has unknown bits", set->mask);
    }
    if ((set->mask & FS_SET_MODE) && set->mode > 07777) {
        return message_bad(text, "set.mode %#o is out of range", set->mode);
    }
    if ((set->mask & FS_SET_SIZE) && set->size > INT64_MAX) {
        return message_bad(text, "set.size %llu is negative", (unsigned long long)set->size);
    }
    return 0;
}

int message_check_request(const FSRequest *request, char text[128]) {
    const MessageRule *rule = message_rule(request->type);
    uint32_t used;
    int r;

    if (rule == NULL) {
        return message_bad(text, "type %u is unknown", request->type);
    }
    if ((request->flags & ~rule->request_flags) != 0) {
        return message_bad(text, "flags %#x: not for %s", request->flags, rule->name);
    }
    used = message_request_fields(rule, request);
    r = check_scalars(request, used, text);
    if (r == 0 && (used & RF_SET)) {
        r = check_set(&request->set, text);
    }
    if (r == 0 && (used & RF_ARENA)) {
        r = check_arena(request, text);
    }
    if (r == 0) {
        r = check_offsets(request, used, text);
    }
    if (r == 0) {
        r = check_names(request, used, text);
    }
    if (r == 0) {
        r = check_payload(request, used, text);
    }
    return r;
}

int message_check_attr(const FsAttr *attr, const char *what, char text[128]) {
    if (attr->file_id == 0) {
        return message_bad(text, "%s.file_id 0", what);
    }
    if (attr->type == FS_TYPE_UNKNOWN || attr->type >= FS_TYPE_COUNT) {
        return message_bad(text, "%s.type %u is unknown", what, attr->type);
    }
    if (attr->mode > 07777) {
        return message_bad(text, "%s.mode %#o is out of range", what, attr->mode);
    }
    if (attr->size > INT64_MAX || attr->blocks > INT64_MAX) {
        return message_bad(text, "%s.size %llu, blocks %llu: negative", what,
                           (unsigned long long)attr->size, (unsigned long long)attr->blocks);
    }
    return 0;
}

static int check_result(const FSResponse *response, const MessageRule *rule, char text[128]) {
    int32_t max = rule->response_fields & SF_COUNT ? (int32_t)FS_IO_MAX : 0;

    if (response->result < -WIRE_ERRNO_MAX || response->result > max) {
        return message_bad(text, "result %d is out of range for %s", response->result, rule->name);
    }
    if ((rule->response_fields & SF_ATTR) && response->result == 0 &&
        (response->flags & FS_RESP_ATTR) == 0) {
        return message_bad(text, "%s succeeded without attr", rule->name);
    }
    if (response->type == FS_MSG_SEEK && response->param1 > INT64_MAX) {
        return message_bad(text, "param1 %llu: the offset is negative",
                           (unsigned long long)response->param1);
    }
    return 0;
}

static int check_data(const FSResponse *response, const MessageRule *rule, char text[128]) {
    uint32_t length = response->data_length;
    bool arena = (response->flags & FS_RESP_ARENA) != 0;
    bool allowed = (rule->response_fields & (response->result < 0 ? SF_ERROR_TEXT : SF_DATA)) != 0;

    if (length > (arena ? FS_IO_MAX : FS_INLINE_MAX)) {
        return message_bad(text, "data_length %u is too large", length);
    }
    if (length > 0 && !allowed) {
        return message_bad(text, "data_length %u: %s with result %d has no data", length,
                           rule->name, response->result);
    }
    if (response->type == FS_MSG_READ_FILE && response->result >= 0 &&
        length != (uint32_t)response->result) {
        return message_bad(text, "data_length %u is not result %d", length, response->result);
    }
    if (response->type == FS_MSG_STATFS && response->result == 0 && length != WIRE_STATFS_LENGTH) {
        return message_bad(text, "data_length %u: STATFS has %u", length, WIRE_STATFS_LENGTH);
    }
    return 0;
}

int message_check_response(const FSResponse *response, char text[128]) {
    const MessageRule *rule = message_rule(response->type);
    int r;

    if (rule == NULL) {
        return message_bad(text, "type %u is unknown", response->type);
    }
    if ((response->flags & ~rule->response_flags) != 0) {
        return message_bad(text, "flags %#x: not for %s", response->flags, rule->name);
    }
    if (response->number == 0) {
        return message_bad(text, "number 0");
    }
    r = check_result(response, rule, text);
    if (r == 0) {
        r = check_data(response, rule, text);
    }
    if (r == 0 && (response->flags & FS_RESP_ATTR)) {
        r = message_check_attr(&response->attr, "attr", text);
    }
    if (r == 0 && (response->flags & FS_RESP_PARENT_ATTR)) {
        r = message_check_attr(&response->parent, "parent", text);
    }
    return r;
}
