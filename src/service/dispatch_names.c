/* SPDX-License-Identifier: MIT */
/*
 * LOOKUP, CREATE_FILE, DELETE_FILE and LINK: what finds, makes and removes names
 * in one directory. (RENAME: rename.c.)
 *
 * Locks: the directory first, then the file that a name stands for. When that
 * file is a directory itself (rmdir) the rename lock comes before both, as in
 * RENAME: see dispatch.c. Positions that a lookup gave stay good because the
 * directory stays locked until the operation is over. What the answer tells is named
 * before the operation runs, for its record carries the answer.
 */
#include "internal.h"

#define FIND_TRIES 4

/* -ENOSPC may only mean that freed space is still on its way back. */
MAY_YIELD static bool worth_retrying(Operation *op, int r) {
    return r == -ENOSPC && fs_reclaim(op->fs);
}

static void answer_exact(Operation *op, bool exact) {
    op->response->flags |= exact ? FS_RESP_EXACT : 0;
}

/* Directory [S]. */
MAY_YIELD int service_find(Operation *op, FsInode *dir, const FsName *name, FsEntry *ret_entry,
                           FsInode **ret) {
    int r = -ESTALE;

    /* Between the two calls the object may leave core, and with it an id that it had only there:
     * then the name leads to another id. */
    for (unsigned tries = 0; r == -ESTALE && tries < FIND_TRIES; tries++) {
        r = op->fs->type->ops->lookup(dir, name, ret_entry);
        if (r == 0) {
            r = fs_inode_get(op->fs, ret_entry->file_id, ret_entry->position, ret);
        }
    }
    return r;
}

MAY_YIELD int service_lookup(Operation *op) {
    FsInode *child;
    FsEntry entry;
    int r = service_find(op, op->inode, &op->request->name, &entry, &child);

    if (r < 0) {
        return r;
    }
    service_answer_inode(op, child, true);
    op->parent = service_ref(op->inode);
    answer_exact(op, entry.exact);
    return 0;
}

static int check_create(const FSRequest *request, FsCreate *ret) {
    if (request->file_type == FS_TYPE_UNKNOWN || request->file_type >= FS_TYPE_COUNT) {
        return -EINVAL;
    }
    if (request->file_type == FS_TYPE_SYMLINK) {
        if (request->name2.length == 0) {
            return -ENOENT;
        }
        if (request->name2.length >= FS_INLINE_MAX) {
            return -ENAMETOOLONG;
        }
        if (memchr(request->name2.text, '\0', request->name2.length) != NULL) {
            return -EINVAL;
        }
    }
    *ret = (FsCreate){
        .type = request->file_type,
        .mode = request->mode & 07777,
        .rdev = request->rdev,
        .target = request->name2.text,
        .target_length = request->name2.length,
    };
    return 0;
}

/* Directory [X]. */
MAY_YIELD int service_create(Operation *op) {
    const FileSystemOps *ops = op->fs->type->ops;
    const FsName *name = &op->request->name;
    FsInode *child;
    FsCreate what;
    FsEntry entry;
    int r = check_create(op->request, &what);

    if (r < 0) {
        return r;
    }
    if (ops->create == NULL) {
        return -EPERM;
    }
    r = ops->lookup(op->inode, name, &entry);
    if (r != -ENOENT) {
        return r < 0 ? r : -EEXIST;
    }
    op->parent = service_ref(op->inode);
    answer_exact(op, true);
    what.attr = &op->created;
    r = ops->create(op->inode, &op->call, name, &what, &entry);
    if (worth_retrying(op, r)) {
        r = ops->create(op->inode, &op->call, name, &what, &entry);
    }
    if (r < 0) {
        return r == -EOPNOTSUPP ? -EPERM : r;
    }
    op->fs->name_changes++;
    r = fs_inode_get(op->fs, entry.file_id, entry.position, &child);
    if (r == 0) {
        service_answer_inode(op, child, true);
    } else if (op->created.file_id != 0) {
        op->grant = true; /* it exists, and that is what the record says */
        r = 0;
    }
    return r;
}

/* May this file be removed from this directory by this kind of request? */
static int check_victim(const Operation *op, const FsInode *dir, const FsInode *victim) {
    bool rmdir = (op->request->flags & FS_REQ_RMDIR) != 0;

    if (victim->file_id == FS_ROOT_ID || victim == dir) {
        return -EBUSY; /* only a corrupt image names them */
    }
    if (victim->attr.type == FS_TYPE_DIRECTORY) {
        return rmdir ? 0 : -EISDIR;
    }
    return rmdir ? -ENOTDIR : 0;
}

/* Directory [X]. Finds the victim, locks it [X], removes it. */
MAY_YIELD static int delete_locked(Operation *op, FsInode *dir) {
    const FileSystemOps *ops = op->fs->type->ops;
    FsInode *victim;
    FsEntry entry;
    int r;

    if (dir->attr.nlink == 0) {
        return -ENOENT;
    }
    r = service_find(op, dir, &op->request->name, &entry, &victim);
    if (r < 0) {
        return r;
    }
    service_answer_inode(op, victim, false);
    r = check_victim(op, dir, victim);
    if (r < 0) {
        return r;
    }
    op->response->param1 = victim->file_id;
    answer_exact(op, entry.exact);
    fiber_rwlock_write(&victim->lock);
    r = ops->unlink(dir, &op->call, &op->request->name, &entry, victim);
    fiber_rwlock_unlock(&victim->lock);
    if (r == 0) {
        op->fs->name_changes++;
        victim->dead = victim->attr.nlink == 0;
    }
    return r;
}

MAY_YIELD int service_delete(Operation *op) {
    bool rmdir = (op->request->flags & FS_REQ_RMDIR) != 0;
    int r;

    if (op->fs->type->ops->unlink == NULL) {
        return -EPERM;
    }
    r = fs_inode_get(op->fs, op->request->file_id, 0, &op->parent);
    if (r < 0) {
        return r;
    }
    if (op->parent->attr.type != FS_TYPE_DIRECTORY) {
        return -ENOTDIR;
    }
    if (rmdir) {
        fiber_mutex_lock(&op->fs->rename_lock);
    }
    fiber_rwlock_write(&op->parent->lock);
    r = delete_locked(op, op->parent);
    fiber_rwlock_unlock(&op->parent->lock);
    if (rmdir) {
        fiber_mutex_unlock(&op->fs->rename_lock);
    }
    return r;
}

/* Directory [X], target [X] and no directory. */
MAY_YIELD static int link_locked(Operation *op, FsInode *dir, FsInode *target) {
    const FileSystemOps *ops = op->fs->type->ops;
    FsEntry entry;
    int r;

    if (dir->attr.nlink == 0 || target->attr.nlink == 0) {
        return -ENOENT;
    }
    r = ops->lookup(dir, &op->request->name, &entry);
    if (r != -ENOENT) {
        return r < 0 ? r : -EEXIST;
    }
    answer_exact(op, true);
    r = ops->link(dir, &op->call, &op->request->name, target);
    if (worth_retrying(op, r)) {
        r = ops->link(dir, &op->call, &op->request->name, target);
    }
    if (r == 0) {
        op->fs->name_changes++;
    }
    return r;
}

MAY_YIELD int service_link(Operation *op) {
    FsInode *target;
    int r;

    if (op->fs->type->ops->link == NULL) {
        return -EPERM;
    }
    r = fs_inode_get(op->fs, op->request->file_id, 0, &target);
    if (r < 0) {
        return r;
    }
    service_answer_inode(op, target, true);
    if (target->attr.type == FS_TYPE_DIRECTORY) {
        return -EPERM;
    }
    r = fs_inode_get(op->fs, op->request->file_id2, 0, &op->parent);
    if (r < 0) {
        return r;
    }
    if (op->parent->attr.type != FS_TYPE_DIRECTORY) {
        return -ENOTDIR;
    }
    fiber_rwlock_write(&op->parent->lock);
    fiber_rwlock_write(&target->lock);
    r = link_locked(op, op->parent, target);
    fiber_rwlock_unlock(&target->lock);
    fiber_rwlock_unlock(&op->parent->lock);
    return r;
}
