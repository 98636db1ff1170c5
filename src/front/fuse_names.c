/* SPDX-License-Identifier: MIT */
/*
 * Operations on names: LOOKUP, MKNOD and its kin, LINK, UNLINK, RMDIR, RENAME,
 * READLINK. Lookup counts were raised when the response was accepted
 * (accept.c); a reply that does not reach the kernel takes them back.
 */
#include "private.h"

#include <sys/stat.h>

/* Tells the kernel of an object that has been granted for it. */
static void reply_granted(Front *front, fuse_req_t req, const FsAttr *attr, bool exact) {
    struct fuse_entry_param entry = {
        .ino = attr->file_id,
        .generation = attr->generation,
        .attr_timeout = front->long_timeout,
        .entry_timeout = entry_timeout(front, attr->file_id, exact),
    };

    attr_to_stat(attr, &entry.attr);
    if (fuse_reply_entry(req, &entry) < 0) {
        forget_later(front, attr->file_id);
    }
}

static void finish_entry(Front *front, Pending *pending, const FSResponse *response) {
    struct fuse_entry_param entry = {0};

    if (response->result == -ENOENT && pending->request.type == FS_MSG_LOOKUP &&
        !front->volume.case_insensitive) {
        /* No node: the kernel keeps "no such name". */
        entry.entry_timeout = entry_timeout(front, pending->request.file_id, true);
        fuse_reply_entry(pending->fuse, &entry);
        return;
    }
    if (response->result < 0) {
        fuse_reply_err(pending->fuse, -response->result);
        return;
    }
    reply_granted(front, pending->fuse, &response->attr, (response->flags & FS_RESP_EXACT) != 0);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
    Front *front = fuse_req_userdata(req);
    Pending *pending;
    FsName checked;
    FsAttr attr;
    bool exact;

    if (!fuse_name(req, name, &checked)) {
        return;
    }
    if (!atomic_load(&front->daemon_dead) &&
        nodes_lookup(&front->nodes, parent, &checked, &attr, &exact)) {
        reply_granted(front, req, &attr, exact);
        return;
    }
    pending = fuse_begin(req, FS_MSG_LOOKUP, parent, finish_entry);
    pending->request.name = checked;
    pending_start(front, pending);
}

static uint32_t mode_to_type(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return FS_TYPE_DIRECTORY;
    case S_IFLNK:
        return FS_TYPE_SYMLINK;
    case S_IFIFO:
        return FS_TYPE_FIFO;
    case S_IFSOCK:
        return FS_TYPE_SOCKET;
    case S_IFCHR:
        return FS_TYPE_CHAR;
    case S_IFBLK:
        return FS_TYPE_BLOCK;
    default:
        return FS_TYPE_FILE;
    }
}

static void create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
                   const char *target) {
    Front *front = fuse_req_userdata(req);
    Pending *pending;
    FsName checked;

    if (!fuse_name(req, name, &checked)) {
        return;
    }
    pending = fuse_begin(req, FS_MSG_CREATE_FILE, parent, finish_entry);
    pending->request.name = checked;
    pending->request.file_type = mode_to_type(mode);
    pending->request.mode = mode & 07777;
    pending->request.rdev = (uint32_t)rdev;
    if (target != NULL) {
        pending->request.name2.text = target;
        pending->request.name2.length = (uint32_t)strlen(target);
    }
    pending_start(front, pending);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev) {
    create(req, parent, name, mode, rdev, NULL);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
    create(req, parent, name, (mode & 07777) | S_IFDIR, 0, NULL);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
    create(req, parent, name, 0777 | S_IFLNK, 0, target);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name) {
    Pending *pending;
    FsName checked;

    if (!fuse_name(req, name, &checked)) {
        return;
    }
    pending = fuse_begin(req, FS_MSG_LINK, ino, finish_entry);
    pending->request.file_id2 = parent;
    pending->request.name = checked;
    pending_start(fuse_req_userdata(req), pending);
}

/* A name went away, or moved. Asked for under another spelling than the stored one, that one may
 * still be in the kernel's cache, for longer than its object lives. */
static void finish_removal(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result == 0 && front->volume.case_insensitive &&
        (response->flags & FS_RESP_EXACT) == 0) {
        invalidate_names(front);
    }
    finish_error_only(front, pending, response);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, uint16_t flags) {
    Pending *pending;
    FsName checked;

    if (!fuse_name(req, name, &checked)) {
        return;
    }
    pending = fuse_begin(req, FS_MSG_DELETE_FILE, parent, finish_removal);
    pending->request.flags = flags;
    pending->request.name = checked;
    pending_start(fuse_req_userdata(req), pending);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
    remove_name(req, parent, name, 0);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
    remove_name(req, parent, name, FS_REQ_RMDIR);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags) {
    Pending *pending;
    FsName checked, new_checked;

    if ((flags & ~(unsigned)(FS_RENAME_NOREPLACE | FS_RENAME_EXCHANGE)) != 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if (!fuse_name(req, name, &checked) || !fuse_name(req, new_name, &new_checked)) {
        return;
    }
    pending = fuse_begin(req, FS_MSG_RENAME, parent, finish_removal);
    pending->request.file_id2 = new_parent;
    pending->request.name = checked;
    pending->request.name2 = new_checked;
    pending->request.rename_flags = flags;
    pending_start(fuse_req_userdata(req), pending);
}

static void finish_readlink(Front *front, Pending *pending, const FSResponse *response) {
    _cleanup_free_ char *target = NULL;

    if (response->result < 0 || response->data_length == 0) {
        fuse_reply_err(pending->fuse, response->result < 0 ? -response->result : EIO);
        return;
    }
    target = strndup((const char *)response->data, response->data_length);
    if (target == NULL) {
        fuse_reply_err(pending->fuse, ENOMEM);
        return;
    }
    fuse_reply_readlink(pending->fuse, target);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino) {
    pending_start(fuse_req_userdata(req), fuse_begin(req, FS_MSG_READ_LINK, ino, finish_readlink));
}
