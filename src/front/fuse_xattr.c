/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes. Volumes whose format has none are answered with ENOSYS,
 * which keeps the kernel from asking again (it asks for security.capability at
 * every write otherwise). Names in security.* and ACLs are the front-end's to
 * refuse: no format that gets here implements them.
 */
#include "private.h"

#include <sys/xattr.h>

static bool is_private_name(const char *name) {
    return strncmp(name, "security.", 9) == 0 || strncmp(name, "system.posix_acl_", 17) == 0;
}

/* False (answered) when the request goes no further. */
static bool xattr_name(fuse_req_t req, const char *name, int private_error, FsName *ret) {
    const Front *front = fuse_req_userdata(req);
    size_t length = strlen(name);

    if (front->volume.no_xattr) {
        fuse_reply_err(req, ENOSYS);
        return false;
    }
    if (is_private_name(name)) {
        fuse_reply_err(req, private_error);
        return false;
    }
    if (length == 0 || length > FS_NAME_MAX) {
        fuse_reply_err(req, ERANGE);
        return false;
    }
    ret->text = name;
    ret->length = (uint32_t)length;
    return true;
}

/* GETXATTR and LISTXATTR with size 0 ask for the size alone. */
static void finish_value(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result < 0) {
        fuse_reply_err(pending->fuse, -response->result);
    } else if (pending->size == 0) {
        fuse_reply_xattr(pending->fuse, (size_t)MIN(response->param1, (uint64_t)XATTR_SIZE_MAX));
    } else {
        fuse_reply_buf(pending->fuse, (const char *)response->data, response->data_length);
    }
}

static void value_start(fuse_req_t req, Pending *pending, size_t size) {
    Front *front = fuse_req_userdata(req);
    int r = 0;

    pending->size = (uint32_t)MIN(size, (size_t)XATTR_SIZE_MAX);
    pending->request.length = pending->size;
    if (pending->size > FS_INLINE_MAX) {
        r = pending_take_in(front, pending, pending->size);
    }
    if (r < 0) {
        fuse_abandon(front, pending, r);
        return;
    }
    pending_start(front, pending);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
    Pending *pending;
    FsName checked;

    if (!xattr_name(req, name, strncmp(name, "security.", 9) == 0 ? ENODATA : EOPNOTSUPP,
                    &checked)) {
        return;
    }
    pending = fuse_begin(req, FS_MSG_GET_XATTR, ino, finish_value);
    pending->request.name = checked;
    value_start(req, pending, size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    const Front *front = fuse_req_userdata(req);

    if (front->volume.no_xattr) {
        fuse_reply_err(req, ENOSYS);
        return;
    }
    value_start(req, fuse_begin(req, FS_MSG_LIST_XATTR, ino, finish_value), size);
}

/* What a value stands for may show in the attributes: FAT's read-only bit does. */
static void finish_changed(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result >= 0) {
        attributes_changed(front, pending->request.file_id);
    }
    finish_error_only(front, pending, response);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                 int flags) {
    Front *front = fuse_req_userdata(req);
    Pending *pending;
    FsName checked;
    int r = 0;

    if (!xattr_name(req, name, EOPNOTSUPP, &checked)) {
        return;
    }
    if (size > XATTR_SIZE_MAX || (flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    pending = fuse_begin(req, FS_MSG_SET_XATTR, ino, finish_changed);
    pending->request.name = checked;
    pending->request.mode = (uint32_t)flags;
    pending->request.length = (uint32_t)size;
    if (size <= FS_INLINE_MAX || front->direct != NULL) {
        pending->request.payload = (const uint8_t *)value;
        pending->request.payload_length = (uint32_t)size;
    } else {
        r = pending_take_out(front, pending, (uint32_t)size);
        if (r == 0) {
            memcpy(pending->out.data, value, size);
        }
    }
    if (r < 0) {
        fuse_abandon(front, pending, r);
        return;
    }
    pending_start(front, pending);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name) {
    Pending *pending;
    FsName checked;

    if (!xattr_name(req, name, ENODATA, &checked)) {
        return;
    }
    pending = fuse_begin(req, FS_MSG_REMOVE_XATTR, ino, finish_changed);
    pending->request.name = checked;
    pending_start(fuse_req_userdata(req), pending);
}
