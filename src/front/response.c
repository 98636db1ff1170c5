/* SPDX-License-Identifier: MIT */
/*
 * May the daemon give this response to that request? The message itself was
 * decoded from a private copy and checked by its type's rules; here it is held
 * against what was asked. Pure functions, no locks.
 */
#include "private.h"

#include <stdio.h>

static int bad(char text[128], const char *what, uint64_t value) {
    (void)snprintf(text, 128, "%s %llu", what, (unsigned long long)value);
    return -EPROTO;
}

int response_check_attr(const FsAttr *attr, uint64_t file_id, char text[128]) {
    if (attr->file_id == 0 || (file_id != 0 && attr->file_id != file_id)) {
        return bad(text, "attributes of another file:", attr->file_id);
    }
    if (attr->type == FS_TYPE_UNKNOWN || attr->type >= FS_TYPE_COUNT) {
        return bad(text, "attr.type", attr->type);
    }
    if (attr->size > INT64_MAX) {
        return bad(text, "attr.size", attr->size);
    }
    return 0;
}

/* Most bytes of data that the request allows. */
static uint32_t data_limit(const Pending *pending, const FSResponse *response) {
    const FSRequest *request = &pending->request;

    if (response->flags & FS_RESP_ARENA) {
        return MIN(request->length, pending->in.length);
    }
    switch (request->type) {
    case FS_MSG_READ_FILE:
    case FS_MSG_LIST_DIR:
    case FS_MSG_GET_XATTR:
    case FS_MSG_LIST_XATTR:
        return MIN(request->length, FS_INLINE_MAX);
    default:
        return FS_INLINE_MAX;
    }
}

/* Operations that name an object answer with that object, never with the root. */
static bool names_object(uint16_t type) {
    return type == FS_MSG_LOOKUP || type == FS_MSG_CREATE_FILE || type == FS_MSG_LINK;
}

static int check_object(const FSRequest *request, const FSResponse *response, char text[128]) {
    uint64_t expected = 0;

    if ((response->flags & FS_RESP_ATTR) == 0) {
        return names_object(request->type) ? bad(text, "no attributes, flags", response->flags) : 0;
    }
    switch (request->type) {
    case FS_MSG_GET_ATTR:
    case FS_MSG_SET_ATTR:
    case FS_MSG_READ_FILE:
    case FS_MSG_WRITE_FILE:
    case FS_MSG_LINK:
        expected = request->file_id;
        break;
    default:
        break;
    }
    if (names_object(request->type) && response->attr.file_id == FS_ROOT_ID) {
        return bad(text, "the root under a name: file_id", response->attr.file_id);
    }
    return response_check_attr(&response->attr, expected, text);
}

int response_check(const Pending *pending, const FSResponse *response, char text[128]) {
    const FSRequest *request = &pending->request;
    bool counts = request->type == FS_MSG_READ_FILE || request->type == FS_MSG_WRITE_FILE;

    if (response->type != request->type) {
        return bad(text, "is of type", response->type);
    }
    if (response->result > 0 && (!counts || (uint32_t)response->result > request->length)) {
        return bad(text, "result", (uint64_t)response->result);
    }
    if ((response->flags & FS_RESP_ARENA) != 0 && !pending->has_in) {
        return bad(text, "data in an arena slot that was not given, flags", response->flags);
    }
    if (response->data_length > data_limit(pending, response)) {
        return bad(text, "data_length", response->data_length);
    }
    if (response->result < 0) {
        return 0;
    }
    if (request->type == FS_MSG_READ_FILE && response->data_length != (uint32_t)response->result) {
        return bad(text, "data_length is not the result:", response->data_length);
    }
    if (request->type == FS_MSG_STATFS && response->data_length != 7 * sizeof(le64)) {
        return bad(text, "data_length", response->data_length);
    }
    return check_object(request, response, text);
}
