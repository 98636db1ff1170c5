/* SPDX-License-Identifier: MIT */
/*
 * One request, from its decoded form to its filled-in response. This is the page
 * to read first: the table says for every message what it needs and which locks
 * are held (the same rows as man berth-locking.7), service_dispatch() does what
 * all have in common, and the handler it names does the rest.
 *
 * Lock order: volume lock, rename lock, directories by file_id, other inodes by
 * file_id, byte ranges. Two directories are locked together only under the rename
 * lock, so a corrupt image in which directories contain each other cannot make
 * two requests wait for one another.
 *
 * The end of a request does not suspend: attributes are captured, the response is
 * numbered and grants are noted in one go, so that a higher number always means
 * newer attributes, and EVICT's rule (src/vfs/inode.c) can rely on the numbers.
 */
#include "berth/log.h"
#include "internal.h"
#include "reply.h"
#include <assert.h>

enum RowFlags {
    ROW_WRITER = 1 << 0,    /* refused on a read-only volume */
    ROW_DIRECTORY = 1 << 1, /* file_id is a live directory */
    ROW_FILE = 1 << 2,      /* file_id is a regular file */
    ROW_NAME = 1 << 3,      /* name is a component */
    ROW_NAME2 = 1 << 4,     /* name2 is one too */
    ROW_UNMOUNTED = 1 << 5, /* answered without a mounted volume as well */
    ROW_RANGE = 1 << 6,     /* offset + length is a byte range of a file */
};

typedef enum VolumeLock { VOLUME_NONE, VOLUME_SHARED, VOLUME_EXCLUSIVE } VolumeLock;
typedef enum InodeLock {
    INODE_NONE,      /* no inode at all */
    INODE_REFERENCE, /* looked up, not locked */
    INODE_SHARED,
    INODE_EXCLUSIVE,
    INODE_HANDLER, /* several inodes, or a rename lock first: the handler's part of this order */
} InodeLock;

typedef struct MessageRow {
    ServiceHandler *handler;
    unsigned flags; /* RowFlags */
    VolumeLock volume;
    InodeLock inode;
} MessageRow;

/* clang-format off */
static const MessageRow rows[FS_MSG_COUNT] = {
    [FS_MSG_READ_FILE]    = {service_read,         ROW_FILE | ROW_RANGE,                  VOLUME_SHARED,    INODE_SHARED},
    [FS_MSG_WRITE_FILE]   = {service_write,        ROW_FILE | ROW_RANGE | ROW_WRITER,     VOLUME_SHARED,    INODE_SHARED},
    [FS_MSG_LIST_DIR]     = {service_list_dir,     ROW_DIRECTORY,                         VOLUME_SHARED,    INODE_SHARED},
    [FS_MSG_LOOKUP]       = {service_lookup,       ROW_DIRECTORY | ROW_NAME,              VOLUME_SHARED,    INODE_SHARED},
    [FS_MSG_CREATE_FILE]  = {service_create,       ROW_DIRECTORY | ROW_NAME | ROW_WRITER, VOLUME_SHARED,    INODE_EXCLUSIVE},
    [FS_MSG_DELETE_FILE]  = {service_delete,       ROW_NAME | ROW_WRITER,                 VOLUME_SHARED,    INODE_HANDLER},
    [FS_MSG_GET_STATS]    = {service_stats,        ROW_UNMOUNTED,                         VOLUME_SHARED,    INODE_NONE},
    [FS_MSG_MOUNT]        = {service_mount,        ROW_UNMOUNTED,                         VOLUME_EXCLUSIVE, INODE_NONE},
    [FS_MSG_UNMOUNT]      = {service_unmount,      0,                                     VOLUME_EXCLUSIVE, INODE_NONE},
    [FS_MSG_SHUTDOWN]     = {service_shutdown,     ROW_UNMOUNTED,                         VOLUME_EXCLUSIVE, INODE_NONE},
    [FS_MSG_GET_ATTR]     = {service_get_attr,     0,                                     VOLUME_SHARED,    INODE_REFERENCE},
    [FS_MSG_SET_ATTR]     = {service_set_attr,     ROW_WRITER,                            VOLUME_SHARED,    INODE_EXCLUSIVE},
    [FS_MSG_RENAME]       = {service_rename,       ROW_NAME | ROW_NAME2 | ROW_WRITER,     VOLUME_SHARED,    INODE_HANDLER},
    [FS_MSG_LINK]         = {service_link,         ROW_NAME | ROW_WRITER,                 VOLUME_SHARED,    INODE_HANDLER},
    [FS_MSG_READ_LINK]    = {service_read_link,    0,                                     VOLUME_SHARED,    INODE_SHARED},
    [FS_MSG_STATFS]       = {service_statfs,       0,                                     VOLUME_SHARED,    INODE_NONE},
    [FS_MSG_FSYNC]        = {service_fsync,        0,                                     VOLUME_SHARED,    INODE_REFERENCE},
    [FS_MSG_SYNC]         = {service_sync,         0,                                     VOLUME_SHARED,    INODE_NONE},
    [FS_MSG_FALLOCATE]    = {service_fallocate,    ROW_FILE | ROW_RANGE | ROW_WRITER,     VOLUME_SHARED,    INODE_EXCLUSIVE},
    [FS_MSG_GET_XATTR]    = {service_get_xattr,    0,                                     VOLUME_SHARED,    INODE_SHARED},
    [FS_MSG_SET_XATTR]    = {service_set_xattr,    ROW_WRITER,                            VOLUME_SHARED,    INODE_EXCLUSIVE},
    [FS_MSG_LIST_XATTR]   = {service_list_xattr,   0,                                     VOLUME_SHARED,    INODE_SHARED},
    [FS_MSG_REMOVE_XATTR] = {service_remove_xattr, ROW_WRITER,                            VOLUME_SHARED,    INODE_EXCLUSIVE},
    [FS_MSG_EVICT]        = {service_evict,        0,                                     VOLUME_SHARED,    INODE_NONE},
    [FS_MSG_PING]         = {service_ping,         ROW_UNMOUNTED,                         VOLUME_NONE,      INODE_NONE},
    [FS_MSG_REMOUNT]      = {service_remount,      0,                                     VOLUME_EXCLUSIVE, INODE_NONE},
    [FS_MSG_SEEK]         = {service_seek,         ROW_FILE | ROW_RANGE,                  VOLUME_SHARED,    INODE_SHARED},
    [FS_MSG_FENCE]        = {service_fence,        ROW_UNMOUNTED,                         VOLUME_NONE,      INODE_NONE},
    [FS_MSG_FREEZE]       = {service_freeze,       0,                                     VOLUME_EXCLUSIVE, INODE_NONE},
};
/* clang-format on */

/* What can be refused before anything is looked up or waited for. */
static int check_request(const Operation *op, const MessageRow *row) {
    const FSRequest *request = op->request;
    uint64_t length = request->type == FS_MSG_FALLOCATE ? request->length64 : request->length;
    int r;

    if (row->flags & ROW_NAME) {
        r = fs_name_check(&request->name);
        if (r < 0) {
            return r;
        }
    }
    if (row->flags & ROW_NAME2) {
        r = fs_name_check(&request->name2);
        if (r < 0) {
            return r;
        }
    }
    if (row->flags & ROW_RANGE) {
        if (request->offset > INT64_MAX) {
            return -EINVAL;
        }
        if (length > INT64_MAX - request->offset) {
            return -EFBIG;
        }
    }
    return 0;
}

/* What is known of the file only when it is in core. */
static int check_inode(const FsInode *inode, const MessageRow *row) {
    if (row->flags & ROW_DIRECTORY) {
        if (inode->attr.type != FS_TYPE_DIRECTORY) {
            return -ENOTDIR;
        }
        if (inode->attr.nlink == 0) {
            return -ENOENT;
        }
    }
    if (row->flags & ROW_FILE) {
        if (inode->attr.type == FS_TYPE_DIRECTORY) {
            return -EISDIR;
        }
        if (inode->attr.type != FS_TYPE_FILE) {
            return -EINVAL;
        }
    }
    return 0;
}

/* Called at the commit point of the operation's visible transaction: no suspension. Handlers have
 * named everything that the answer tells by then. */
static int encode_reply(void *arg, uint8_t *buf, uint32_t capacity) {
    const Operation *op = arg;
    FSResponse response = *op->response;

    response.result = op->request->type == FS_MSG_WRITE_FILE ? (int32_t)op->request->length : 0;
    if (op->subject != NULL || op->created.file_id != 0) {
        response.flags |= FS_RESP_ATTR;
        response.attr = op->subject != NULL ? op->subject->attr : op->created;
    }
    if (op->parent != NULL) {
        response.flags |= FS_RESP_PARENT_ATTR;
        response.parent = op->parent->attr;
    }
    return service_reply_encode(&response, buf, capacity);
}

/* Finds and locks what the row says, checks it, runs the handler. */
MAY_YIELD static int run_on_inode(Operation *op, const MessageRow *row) {
    int r = 0;

    if (row->inode != INODE_NONE && row->inode != INODE_HANDLER) {
        r = fs_inode_get(op->fs, op->request->file_id, 0, &op->inode);
        if (r < 0) {
            return r;
        }
    }
    if (row->inode == INODE_SHARED) {
        fiber_rwlock_read(&op->inode->lock);
    } else if (row->inode == INODE_EXCLUSIVE) {
        fiber_rwlock_write(&op->inode->lock);
    }
    if (op->inode != NULL) {
        r = check_inode(op->inode, row);
    }
    return r < 0 ? r : row->handler(op);
}

/* The end, in which nothing suspends: see the header comment. */
static void finish(Operation *op, const MessageRow *row, int result) {
    FSResponse *response = op->response;

    response->result = result;
    if (result < 0) {
        response->param1 = 0;
        response->flags = 0;
    }
    if (result >= 0 && (op->subject != NULL || op->created.file_id != 0)) {
        response->flags |= FS_RESP_ATTR;
        response->attr = op->subject != NULL ? op->subject->attr : op->created;
    }
    if (result >= 0 && op->parent != NULL) {
        response->flags |= FS_RESP_PARENT_ATTR;
        response->parent = op->parent->attr;
    }
    if (op->volume->fs != NULL && op->volume->fs->readonly) {
        response->flags |= FS_RESP_READONLY;
    }
    if (op->inode != NULL && (row->inode == INODE_SHARED || row->inode == INODE_EXCLUSIVE)) {
        fiber_rwlock_unlock(&op->inode->lock);
    }
    response->number = volume_next_number(op->volume);
    if (result >= 0 && op->grant && op->subject != NULL) {
        fs_inode_grant(op->subject, response->number);
    } else if (result >= 0 && op->grant) {
        fs_inode_grant_absent(op->fs, response->number);
    }
    if (result >= 0 && op->listing != NULL) {
        service_list_finish(op);
    }
    free(op->listing);
    fs_inode_put(op->parent);
    fs_inode_put(op->subject);
    fs_inode_put(op->inode);
}

static void count(Volume *volume, const FSResponse *response, uint64_t started_ns) {
    VolumeStats *stats = &volume->stats;

    histogram_add(&stats->latency[response->type], clock_monotonic_ns() - started_ns);
    if (response->result < 0) {
        stats->errors[response->type]++;
    } else if (response->type == FS_MSG_READ_FILE) {
        stats->bytes_read += (uint64_t)response->result;
    } else if (response->type == FS_MSG_WRITE_FILE) {
        stats->bytes_written += (uint64_t)response->result;
    }
}

/* The volume is locked as the row says. */
MAY_YIELD static int execute(Operation *op, const MessageRow *row) {
    int r = row->volume != VOLUME_NONE ? service_replay(op) : 0;

    if (r < 0 || op->replayed) {
        return r;
    }
    r = check_request(op, row);
    if (r < 0) {
        return r;
    }
    if (op->fs == NULL && !(row->flags & ROW_UNMOUNTED)) {
        return -ENOTCONN;
    }
    if ((row->flags & ROW_WRITER) && op->fs->readonly) {
        return -EROFS;
    }
    return run_on_inode(op, row);
}

MAY_YIELD int service_dispatch(Volume *volume, const FSRequest *request,
                               const ServiceBuffers *buffers, FSResponse *response) {
    const MessageRow *row = request->type < FS_MSG_COUNT ? &rows[request->type] : NULL;
    uint64_t started_ns = clock_monotonic_ns();
    Operation op = {
        .volume = volume,
        .request = request,
        .buffers = buffers,
        .response = response,
        .call = {request->uid, request->gid, request->pid, request->time_ns,
                 request->request_id != 0 ? &op.reply : NULL},
        .reply = {fs_request_slot(request->request_id), fs_request_seq(request->request_id),
                  encode_reply, &op},
    };
    int result;

    *response = (FSResponse){.type = request->type, .request_id = request->request_id};
    if (row == NULL) {
        response->result = -ENOSYS;
        response->number = volume_next_number(volume);
        return 0;
    }
    volume->stats.in_service++;
    volume->stats.in_service_max = MAX(volume->stats.in_service_max, volume->stats.in_service);
    if (row->volume == VOLUME_SHARED) {
        fiber_rwlock_read(&volume->lock);
    } else if (row->volume == VOLUME_EXCLUSIVE) {
        fiber_rwlock_write(&volume->lock);
    }
    if (volume->frozen && request->type != FS_MSG_PING) {
        volume_thaw(volume);
    }
    op.fs = volume->fs;
    result = execute(&op, row);
    finish(&op, row, result);
    if (row->volume != VOLUME_NONE) {
        fiber_rwlock_unlock(&volume->lock);
    }
    volume->stats.in_service--;
    count(volume, response, started_ns);
    return op.outdated ? -EPROTO : 0;
}
