/* SPDX-License-Identifier: MIT */
/*
 * RENAME: the one operation on two directories and two files.
 *
 * Locks, in this order: the rename lock (one rename or rmdir at a time, so the
 * tree of directories stands still for the cycle check), both directories [X] by
 * file_id, then what is moved and what is replaced [X] by file_id. Whoever holds
 * two directories holds the rename lock, and holders of a file's lock wait for
 * nothing, so there is no cycle of waiters even where the image's tree has one.
 */
#include "internal.h"

/* No path is longer; a corrupt image's ".." entries may well be a ring. */
#define ANCESTORS_MAX 65536u

/* Locks both [X] by file_id; the same one, or NULL, once. */
MAY_YIELD static void lock_two(FsInode *a, FsInode *b) {
    FsInode *first = a, *second = b;

    if (b != NULL && b->file_id < a->file_id) {
        first = b;
        second = a;
    }
    fiber_rwlock_write(&first->lock);
    if (second != NULL && second != first) {
        fiber_rwlock_write(&second->lock);
    }
}

static void unlock_two(FsInode *a, FsInode *b) {
    fiber_rwlock_unlock(&a->lock);
    if (b != NULL && b != a) {
        fiber_rwlock_unlock(&b->lock);
    }
}

/* The parent of dir, which is locked here unless the rename holds it already. */
MAY_YIELD static int parent_of(const FsRename *rename, FsInode *dir, uint64_t *ret) {
    bool held = dir == rename->old_dir || dir == rename->new_dir;
    int r;

    if (!held) {
        fiber_rwlock_read(&dir->lock);
    }
    r = dir->fs->type->ops->parent(dir, ret);
    if (!held) {
        fiber_rwlock_unlock(&dir->lock);
    }
    return r;
}

/* Would `moved`, put into `into`, end up inside itself? Both directories are locked. */
MAY_YIELD static int check_cycle(Operation *op, const FsRename *rename, const FsInode *moved,
                                 FsInode *into) {
    FsInode *dir = service_ref(into);
    unsigned steps = 0;
    int r = 0;

    while (r == 0 && dir->file_id != FS_ROOT_ID) {
        uint64_t parent_id;
        FsInode *parent = NULL;

        if (dir == moved) {
            r = -EINVAL;
            break;
        }
        if (++steps > ANCESTORS_MAX) {
            r = report_corrupt(op->fs->reporter, true, "directory tree", dir->file_id, "parent",
                               dir->file_id, "the way up does not end at the root");
            break;
        }
        r = parent_of(rename, dir, &parent_id);
        if (r == 0) {
            r = fs_inode_get(op->fs, parent_id, 0, &parent);
        }
        if (r == 0 && parent->attr.type != FS_TYPE_DIRECTORY) {
            fs_inode_put(parent);
            r = -EUCLEAN;
        }
        if (r == 0) {
            fs_inode_put(dir);
            dir = parent;
        }
    }
    fs_inode_put(dir);
    return r;
}

static int stop_at_first(FsDirEmit *emit, const FsDirEntry *entry) {
    (void)emit;
    (void)entry;
    return -ENOTEMPTY;
}

/* Rules for what may replace what. Directories are locked, the files are not yet. */
static int check_replace(const FsRename *rename) {
    const FsInode *moved = rename->moved, *victim = rename->victim;
    bool moves_directory = moved->attr.type == FS_TYPE_DIRECTORY;

    if (moved == rename->old_dir || moved->file_id == FS_ROOT_ID) {
        return -EBUSY; /* only a corrupt image has such an entry */
    }
    if (moved == rename->new_dir) {
        return -EINVAL;
    }
    if (rename->flags & FS_RENAME_EXCHANGE) {
        if (victim == NULL) {
            return -ENOENT;
        }
        if (victim == rename->old_dir) {
            return -EINVAL; /* it would move into itself */
        }
        return victim == rename->new_dir || victim->file_id == FS_ROOT_ID ? -EBUSY : 0;
    }
    if (victim == NULL || victim == moved) {
        return 0;
    }
    if (rename->flags & FS_RENAME_NOREPLACE) {
        return -EEXIST;
    }
    if (moves_directory && victim->attr.type != FS_TYPE_DIRECTORY) {
        return -ENOTDIR;
    }
    if (!moves_directory && victim->attr.type == FS_TYPE_DIRECTORY) {
        return -EISDIR;
    }
    if (victim == rename->old_dir) {
        return -ENOTEMPTY; /* it holds what is moved */
    }
    return victim == rename->new_dir || victim->file_id == FS_ROOT_ID ? -EBUSY : 0;
}

/* Old and new name stand for one file, and it is not about another spelling of one entry. */
static bool is_nothing_to_do(const FsRename *rename) {
    if (rename->victim != rename->moved) {
        return false;
    }
    if (rename->old_dir != rename->new_dir ||
        rename->moved_entry.position != rename->victim_entry.position) {
        return true; /* hard links: POSIX wants both names kept */
    }
    return rename->old_name.length == rename->new_name.length &&
           memcmp(rename->old_name.text, rename->new_name.text, rename->old_name.length) == 0;
}

/* Finds what both names stand for; fills the rest of *rename. Both directories are locked. */
MAY_YIELD static int find_both(Operation *op, FsRename *rename) {
    int r;

    if (rename->old_dir->attr.nlink == 0 || rename->new_dir->attr.nlink == 0) {
        return -ENOENT;
    }
    r = service_find(op, rename->old_dir, &rename->old_name, &rename->moved_entry, &rename->moved);
    if (r < 0) {
        return r;
    }
    r = service_find(op, rename->new_dir, &rename->new_name, &rename->victim_entry,
                     &rename->victim);
    return r == -ENOENT ? 0 : r;
}

/* All four are locked. */
MAY_YIELD static int rename_locked(Operation *op, const FsRename *rename) {
    const FileSystemOps *ops = op->fs->type->ops;
    FsInode *victim = rename->victim != rename->moved ? rename->victim : NULL;
    bool replaces = victim != NULL && (rename->flags & FS_RENAME_EXCHANGE) == 0;
    int r;

    if (replaces && victim->attr.type == FS_TYPE_DIRECTORY) {
        FsDirEmit emit = {stop_at_first};

        r = ops->readdir(victim, 0, &emit);
        if (r < 0) {
            return r;
        }
    }
    r = ops->rename(op->fs, &op->call, rename);
    if (r == -ENOSPC && fs_reclaim(op->fs)) {
        r = ops->rename(op->fs, &op->call, rename);
    }
    if (r == 0) {
        op->fs->name_changes++;
        if (replaces) {
            victim->dead = victim->attr.nlink == 0;
        }
    }
    return r;
}

MAY_YIELD static int check_cycles(Operation *op, const FsRename *rename) {
    bool exchange = rename->flags & FS_RENAME_EXCHANGE;
    bool down = rename->moved->attr.type == FS_TYPE_DIRECTORY;
    bool up = exchange && rename->victim->attr.type == FS_TYPE_DIRECTORY;
    int r = 0;

    if ((down || up) && op->fs->type->ops->parent == NULL) {
        return -EXDEV;
    }
    if (down) {
        r = check_cycle(op, rename, rename->moved, rename->new_dir);
    }
    return r == 0 && up ? check_cycle(op, rename, rename->victim, rename->old_dir) : r;
}

/* The rename lock and both directories are held. */
MAY_YIELD static int rename_in(Operation *op, FsRename *rename) {
    bool crosses = rename->old_dir != rename->new_dir;
    bool exact;
    int r = find_both(op, rename);

    if (r == 0) {
        r = check_replace(rename);
    }
    if (r == 0 && crosses) {
        r = check_cycles(op, rename);
    }
    if (r < 0) {
        return r;
    }
    /* Before anything is changed: the record carries the answer. */
    service_answer_inode(op, service_ref(rename->moved), false);
    op->parent = service_ref(rename->new_dir);
    exact = rename->moved_entry.exact && (rename->victim == NULL || rename->victim_entry.exact);
    op->response->flags |= exact ? FS_RESP_EXACT : 0;
    if (is_nothing_to_do(rename)) {
        return 0;
    }
    if (rename->victim != NULL && rename->victim != rename->moved) {
        op->response->param1 = rename->victim->file_id;
    }
    lock_two(rename->moved, rename->victim);
    r = rename_locked(op, rename);
    unlock_two(rename->moved, rename->victim);
    return r;
}

MAY_YIELD static int get_directory(Operation *op, uint64_t file_id, FsInode **ret) {
    int r = fs_inode_get(op->fs, file_id, 0, ret);

    return r == 0 && (*ret)->attr.type != FS_TYPE_DIRECTORY ? -ENOTDIR : r;
}

MAY_YIELD int service_rename(Operation *op) {
    const FSRequest *request = op->request;
    FsRename rename = {
        .old_name = request->name,
        .new_name = request->name2,
        .flags = request->rename_flags,
    };
    int r;

    if (op->fs->type->ops->rename == NULL) {
        return -EPERM;
    }
    if (request->rename_flags != 0 && request->rename_flags != FS_RENAME_NOREPLACE &&
        request->rename_flags != FS_RENAME_EXCHANGE) {
        return -EINVAL; /* both exclude each other */
    }
    r = get_directory(op, request->file_id, &rename.old_dir);
    if (r == 0) {
        r = get_directory(op, request->file_id2, &rename.new_dir);
    }
    if (r == 0) {
        fiber_mutex_lock(&op->fs->rename_lock);
        lock_two(rename.old_dir, rename.new_dir);
        r = rename_in(op, &rename);
        unlock_two(rename.old_dir, rename.new_dir);
        fiber_mutex_unlock(&op->fs->rename_lock);
    }
    fs_inode_put(rename.victim);
    fs_inode_put(rename.moved);
    fs_inode_put(rename.new_dir);
    fs_inode_put(rename.old_dir);
    return r;
}
