/* SPDX-License-Identifier: MIT */
/*
 * Messages in words, one line each, for the debug log: the fields that the type
 * uses, names with anything unprintable escaped. A line that does not fit is cut;
 * payload bytes are never shown.
 */
#include "rules.h"

#include <stdarg.h>
#include <stdio.h>

typedef struct Line {
    char *buf;
    size_t capacity, length;
} Line;

static void line_printf(Line *line, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void line_printf(Line *line, const char *fmt, ...) {
    size_t room = line->capacity - line->length;
    va_list args;
    int n;

    if (room <= 1) {
        return;
    }
    va_start(args, fmt);
    n = vsnprintf(line->buf + line->length, room, fmt, args);
    va_end(args);
    if (n > 0) {
        line->length += MIN((size_t)n, room - 1);
    }
}

static void line_name(Line *line, const char *key, const FsName *name) {
    line_printf(line, " %s \"", key);
    for (uint32_t i = 0; i < name->length; i++) {
        unsigned char c = (unsigned char)name->text[i];

        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\') {
            line_printf(line, "\\x%02x", c);
        } else {
            line_printf(line, "%c", c);
        }
    }
    line_printf(line, "\"");
}

static void line_u64(Line *line, const char *key, uint64_t value) {
    line_printf(line, " %s %llu", key, (unsigned long long)value);
}

static void line_attr(Line *line, const char *key, const FsAttr *attr) {
    line_printf(line, " %s {file_id %llu type %u mode %#o nlink %u size %llu mtime_ns %lld}", key,
                (unsigned long long)attr->file_id, attr->type, attr->mode, attr->nlink,
                (unsigned long long)attr->size, (long long)attr->mtime_ns);
}

static void line_set(Line *line, const FsSetattr *set) {
    line_printf(line, " set %#x", set->mask);
    if (set->mask & FS_SET_MODE) {
        line_printf(line, " mode %#o", set->mode);
    }
    if (set->mask & FS_SET_UID) {
        line_u64(line, "uid", set->uid);
    }
    if (set->mask & FS_SET_GID) {
        line_u64(line, "gid", set->gid);
    }
    if (set->mask & FS_SET_SIZE) {
        line_u64(line, "size", set->size);
    }
    if (set->mask & FS_SET_MTIME) {
        line_printf(line, " mtime_ns %lld", (long long)set->mtime_ns);
    }
}

static void line_request_fields(Line *line, const FSRequest *request, uint32_t used) {
    if (used & RF_FILE_ID) {
        line_u64(line, "file_id", request->file_id);
    }
    if (used & RF_ANY_NAME) {
        line_name(line, "name", &request->name);
    }
    if (used & RF_FILE_ID2) {
        line_u64(line, "file_id2", request->file_id2);
    }
    if (used & RF_ANY_NAME2) {
        line_name(line, used & RF_TARGET ? "target" : "name2", &request->name2);
    }
    if (used & RF_ANY_OFFSET) {
        line_u64(line, "offset", request->offset);
    }
    if (used & RF_LENGTH) {
        line_u64(line, "length", request->length);
    }
    if (used & RF_LENGTH64) {
        line_u64(line, "length64", request->length64);
    }
    if (used & RF_MODE) {
        line_printf(line, " mode %#o", request->mode);
    }
    if (used & RF_FILE_TYPE) {
        line_u64(line, "file_type", request->file_type);
    }
    if (used & RF_RDEV) {
        line_printf(line, " rdev %#x", request->rdev);
    }
    if (used & RF_RENAME_FLAGS) {
        line_printf(line, " rename_flags %#x", request->rename_flags);
    }
    if (used & RF_SET) {
        line_set(line, &request->set);
    }
    if (used & RF_ARENA) {
        line_printf(line, " arena %llu+%u", (unsigned long long)request->arena_offset,
                    request->arena_length);
    }
    if (used & RF_ANY_PAYLOAD) {
        line_u64(line, "payload", request->payload_length);
    }
}

const char *fs_request_to_text(const FSRequest *request, char *buf, size_t capacity) {
    const MessageRule *rule = message_rule(request->type);
    Line line = {.buf = buf, .capacity = capacity};

    assert(capacity > 0);
    buf[0] = '\0';
    line_printf(&line, "%s %u:%llu", fs_message_name(request->type),
                fs_request_slot(request->request_id),
                (unsigned long long)fs_request_seq(request->request_id));
    if (request->flags != 0) {
        line_printf(&line, " flags %#x", request->flags);
    }
    line_printf(&line, " uid %u gid %u pid %u", request->uid, request->gid, request->pid);
    if (rule != NULL) {
        line_request_fields(&line, request, message_request_fields(rule, request));
    }
    return buf;
}

const char *fs_response_to_text(const FSResponse *response, char *buf, size_t capacity) {
    Line line = {.buf = buf, .capacity = capacity};

    assert(capacity > 0);
    buf[0] = '\0';
    line_printf(&line, "%s %u:%llu number %llu result %d", fs_message_name(response->type),
                fs_request_slot(response->request_id),
                (unsigned long long)fs_request_seq(response->request_id),
                (unsigned long long)response->number, response->result);
    if (response->flags != 0) {
        line_printf(&line, " flags %#x", response->flags);
    }
    if (response->data_length != 0) {
        line_u64(&line, "data", response->data_length);
    }
    if (response->param1 != 0) {
        line_u64(&line, "param1", response->param1);
    }
    if (response->flags & FS_RESP_ATTR) {
        line_attr(&line, "attr", &response->attr);
    }
    if (response->flags & FS_RESP_PARENT_ATTR) {
        line_attr(&line, "parent", &response->parent);
    }
    return buf;
}
