/* SPDX-License-Identifier: MIT */
/*
 * GET_ATTR, SET_ATTR, READ_LINK and the extended attributes. The inode is locked
 * as the table in dispatch.c says. Extended attributes that a format does not
 * have are -EOPNOTSUPP, which the other side remembers.
 */
#include "internal.h"

#define XATTR_VALUE_MAX 65536u /* the kernel's own limits */
#define READ_LINK_MAX 4095u

#define SET_ALL                                                                          \
    (FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_SIZE | FS_SET_ATIME | FS_SET_MTIME | \
     FS_SET_CTIME | FS_SET_KILL_SUIDGID | FS_SET_BTIME)

/* Not locked: attributes are committed state at every suspension, copied in one go at the end. */
int service_get_attr(Operation *op) {
    service_answer_inode(op, service_ref(op->inode), false);
    return 0;
}

/* [X]. A file that is unlinked and still held may be changed like any other. */
MAY_YIELD int service_set_attr(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    FsSetattr set = op->request->set;
    int r;

    if ((set.mask & ~(uint32_t)SET_ALL) != 0) {
        return -EINVAL;
    }
    if (set.mask & FS_SET_SIZE) {
        if (op->inode->attr.type != FS_TYPE_FILE) {
            return op->inode->attr.type == FS_TYPE_DIRECTORY ? -EISDIR : -EINVAL;
        }
        if (set.size > INT64_MAX) {
            return -EFBIG;
        }
    }
    set.mode &= 07777;
    service_answer_inode(op, service_ref(op->inode), false);
    if (set.mask == 0) {
        return 0;
    }
    if (ops->setattr == NULL) {
        return -EPERM;
    }
    r = ops->setattr(op->inode, &op->call, &set);
    if (r == -ENOSPC && fs_reclaim(op->fs)) {
        r = ops->setattr(op->inode, &op->call, &set);
    }
    return r;
}

MAY_YIELD int service_read_link(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    int r;

    if (op->inode->attr.type != FS_TYPE_SYMLINK || ops->readlink == NULL) {
        return -EINVAL;
    }
    r = ops->readlink(op->inode, (char *)op->buffers->out,
                      MIN(service_capacity(op), READ_LINK_MAX));
    if (r < 0) {
        return r;
    }
    service_answer_inode(op, service_ref(op->inode), false);
    service_answer_data(op, (uint32_t)r);
    return 0;
}

static int check_xattr_name(const FsName *name) {
    if (name->length == 0 || name->text == NULL || memchr(name->text, '\0', name->length) != NULL) {
        return -EINVAL;
    }
    return name->length > FS_NAME_MAX ? -ERANGE : 0;
}

/* size: what the operation answered. The value is there when it was asked for. */
static int answer_xattr(Operation *op, int size) {
    if (size < 0) {
        return size;
    }
    op->response->param1 = (uint64_t)size;
    if (op->request->length > 0) {
        service_answer_data(op, (uint32_t)size);
    }
    return 0;
}

MAY_YIELD int service_get_xattr(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    uint32_t capacity = MIN(op->request->length, service_capacity(op));
    int r = check_xattr_name(&op->request->name);

    if (r < 0) {
        return r;
    }
    if (ops->getxattr == NULL) {
        return -EOPNOTSUPP;
    }
    return answer_xattr(op,
                        ops->getxattr(op->inode, &op->request->name, op->buffers->out, capacity));
}

MAY_YIELD int service_list_xattr(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    uint32_t capacity = MIN(op->request->length, service_capacity(op));

    if (ops->listxattr == NULL) {
        return -EOPNOTSUPP;
    }
    return answer_xattr(op, ops->listxattr(op->inode, (char *)op->buffers->out, capacity));
}

MAY_YIELD int service_set_xattr(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    const FSRequest *request = op->request;
    int r = check_xattr_name(&request->name);

    if (r < 0) {
        return r;
    }
    if (request->length > XATTR_VALUE_MAX) {
        return -E2BIG;
    }
    if (request->length > 0 && op->buffers->in == NULL) {
        return -EINVAL;
    }
    if (ops->setxattr == NULL) {
        return -EOPNOTSUPP;
    }
    service_answer_inode(op, service_ref(op->inode), false);
    return ops->setxattr(op->inode, &op->call, &request->name, op->buffers->in, request->length,
                         request->mode);
}

MAY_YIELD int service_remove_xattr(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    int r = check_xattr_name(&op->request->name);

    if (r < 0) {
        return r;
    }
    if (ops->removexattr == NULL) {
        return -EOPNOTSUPP;
    }
    service_answer_inode(op, service_ref(op->inode), false);
    return ops->removexattr(op->inode, &op->call, &op->request->name);
}
