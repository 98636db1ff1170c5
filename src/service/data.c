/* SPDX-License-Identifier: MIT */
/*
 * READ_FILE, WRITE_FILE, FALLOCATE, SEEK and FSYNC: file contents. Regular files
 * only; offset and length were checked to be a byte range (dispatch.c). Reading
 * and writing hold the inode's lock shared and order themselves by byte ranges
 * (src/vfs/fileio.c); what changes the size otherwise holds it exclusive.
 */
#include "internal.h"

#define SUID_SGID 06000u

MAY_YIELD int service_read(Operation *op) {
    uint32_t length = MIN(op->request->length, service_capacity(op));
    int64_t r = fs_file_read(op->inode, op->request->offset, op->buffers->out, length);

    if (r < 0) {
        return (int)r;
    }
    service_answer_inode(op, service_ref(op->inode), false);
    service_answer_data(op, (uint32_t)r);
    return (int)r;
}

/* Whoever writes without the right to keep them loses suid and sgid. Trades the lock for a moment.
 */
MAY_YIELD static int kill_suid_sgid(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    const FsSetattr set = {.mask = FS_SET_KILL_SUIDGID};
    FsCall call = op->call;
    int r = 0;

    if (!(op->request->flags & FS_REQ_KILL_SUIDGID) || !(op->inode->attr.mode & SUID_SGID) ||
        ops->setattr == NULL) {
        return 0;
    }
    call.reply = NULL; /* the write that follows is what the reply belongs to */
    fiber_rwlock_unlock(&op->inode->lock);
    fiber_rwlock_write(&op->inode->lock);
    r = ops->setattr(op->inode, &call, &set);
    fiber_rwlock_unlock(&op->inode->lock);
    fiber_rwlock_read(&op->inode->lock);
    return r;
}

MAY_YIELD int service_write(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    uint32_t length = op->request->length;
    int64_t r;

    if (length > FS_IO_MAX || (length > 0 && op->buffers->in == NULL)) {
        return -EINVAL;
    }
    if (ops->reserve == NULL || ops->write_commit == NULL) {
        return -EPERM;
    }
    service_answer_inode(op, service_ref(op->inode), false);
    r = kill_suid_sgid(op);
    if (r == 0) {
        r = fs_file_write(op->inode, &op->call, op->request->offset, op->buffers->in, length);
    }
    return (int)r;
}

MAY_YIELD int service_fallocate(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    const FSRequest *request = op->request;
    int r;

    if (request->length64 == 0) {
        return -EINVAL;
    }
    if (ops->fallocate == NULL) {
        return -EOPNOTSUPP;
    }
    service_answer_inode(op, service_ref(op->inode), false);
    r = ops->fallocate(op->inode, &op->call, request->mode, request->offset, request->length64);
    if (r == -ENOSPC && fs_reclaim(op->fs)) {
        r = ops->fallocate(op->inode, &op->call, request->mode, request->offset, request->length64);
    }
    return r;
}

/* Unwritten space reads as zeros, so it counts as a hole; the end of the file is one as well. */
MAY_YIELD int service_seek(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    bool want_data = op->request->mode == SEEK_DATA;
    uint64_t offset = op->request->offset, size = op->inode->attr.size;

    if (!want_data && op->request->mode != SEEK_HOLE) {
        return -EINVAL;
    }
    while (offset < size) {
        FsExtent extent;
        int r = ops->map(op->inode, offset, 0, &extent);

        if (r < 0) {
            return r;
        }
        if ((extent.kind == FS_EXTENT_DATA || extent.kind == FS_EXTENT_INLINE) == want_data) {
            break;
        }
        offset += MIN(extent.length, size - offset);
    }
    if (op->request->offset >= size || (want_data && offset >= size)) {
        return -ENXIO;
    }
    service_answer_inode(op, service_ref(op->inode), false);
    op->response->param1 = offset;
    return 0;
}

/* Joins the checkpoint of the whole volume; the file's own blocks are in it. */
MAY_YIELD int service_fsync(Operation *op) {
    service_answer_inode(op, service_ref(op->inode), false);
    return fs_fsync(op->fs);
}
