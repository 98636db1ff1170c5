/* SPDX-License-Identifier: MIT */
/*
 * fatd with planted bugs, for tests of what the front-end does about a daemon that keeps dying.
 * Names choose the bug, and how it ends the daemon (segv, abort, exit, loop):
 *
 *     POISON-segv…     in the lookup of that name
 *     TOXIC-segv…      in an unlink or rename of it, or a create that gives it
 *     ONCE-segv…       the same, but after the operation has been committed, before its reply
 *
 * A write of exactly 6661, 6662, 6663 or 6664 bytes behind the first MiB of a file ends it like
 * segv, abort, exit, loop before its commit, one of 100 more after it. BERTH_POISON_MOUNT chooses
 * bugs that no request explains:
 *
 *     recover     each mount that finds something left by a predecessor dies
 *     any         each mount dies but a first, writable one
 *     later       the mount succeeds, the daemon dies right afterwards
 */
#include "berth/service.h"

static FileSystemOps poisoned_ops;
static const char *poisoned_mount = "";

enum { LENGTH_BEFORE = 6661, LENGTH_AFTER = LENGTH_BEFORE + 100, POISON_OFFSET = 1 << 20 };
static const char *const ends[] = {"segv", "abort", "exit", "loop"};

static void die(const char *how) {
    static int *volatile nowhere;
    static volatile unsigned turns;

    if (strcmp(how, "segv") == 0) {
        *nowhere = 1;
    } else if (strcmp(how, "exit") == 0) {
        _exit(3);
    } else if (strcmp(how, "loop") == 0) {
        for (;;) {
            turns++;
        }
    }
    abort();
}

/* Dies if the name is MARK-HOW…; it may have any case. */
static void taste(const FsName *name, const char *mark) {
    char text[FS_NAME_MAX + 1];
    size_t length = strlen(mark);

    memcpy(text, name->text, name->length);
    text[name->length] = '\0';
    if (strncasecmp(text, mark, length) != 0 || text[length] != '-') {
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        if (strncasecmp(text + length + 1, ends[i], strlen(ends[i])) == 0) {
            die(ends[i]);
        }
    }
}

static void taste_length(uint64_t offset, uint64_t length, uint64_t first) {
    if (offset >= POISON_OFFSET && length >= first && length < first + ARRAY_SIZE(ends)) {
        die(ends[length - first]);
    }
}

static int poisoned_lookup(FsInode *dir, const FsName *name, FsEntry *ret) {
    taste(name, "POISON");
    return fat_type.ops->lookup(dir, name, ret);
}

static int poisoned_create(FsInode *dir, const FsCall *call, const FsName *name,
                           const FsCreate *what, FsEntry *ret) {
    int r;

    taste(name, "TOXIC");
    r = fat_type.ops->create(dir, call, name, what, ret);
    if (r == 0) {
        taste(name, "ONCE");
    }
    return r;
}

static int poisoned_unlink(FsInode *dir, const FsCall *call, const FsName *name,
                           const FsEntry *entry, FsInode *victim) {
    int r;

    taste(name, "TOXIC");
    r = fat_type.ops->unlink(dir, call, name, entry, victim);
    if (r == 0) {
        taste(name, "ONCE");
    }
    return r;
}

static int poisoned_rename(FileSystem *fs, const FsCall *call, const FsRename *rename) {
    int r;

    taste(&rename->old_name, "TOXIC");
    r = fat_type.ops->rename(fs, call, rename);
    if (r == 0) {
        taste(&rename->old_name, "ONCE");
    }
    return r;
}

static int poisoned_write_commit(FsInode *inode, const FsCall *call, uint64_t offset,
                                 uint64_t length) {
    int r;

    taste_length(offset, length, LENGTH_BEFORE);
    r = fat_type.ops->write_commit(inode, call, offset, length);
    if (r == 0) {
        taste_length(offset, length, LENGTH_AFTER);
    }
    return r;
}

static int poisoned_fs_mount(FileSystem *fs) {
    int r;

    if ((fs->recover || fs->options.readonly) && strcmp(poisoned_mount, "any") == 0) {
        die("abort");
    }
    r = fat_type.ops->mount(fs);
    if (fs->recovered && cache_stats(fs->cache)->dirty_buffers > 0 &&
        strcmp(poisoned_mount, "recover") == 0) {
        die("abort");
    }
    return r;
}

static int poisoned_recovered(FileSystem *fs) {
    if (strcmp(poisoned_mount, "later") == 0) {
        die("abort");
    }
    return fat_type.ops->recovered != NULL ? fat_type.ops->recovered(fs) : 0;
}

int main(int argc, char **argv) {
    static FileSystemType type;
    static const FileSystemType *const types[] = {&type, NULL};
    const char *mount = getenv("BERTH_POISON_MOUNT");

    poisoned_mount = mount != NULL ? mount : "";
    poisoned_ops = *fat_type.ops;
    poisoned_ops.lookup = poisoned_lookup;
    poisoned_ops.create = poisoned_create;
    poisoned_ops.unlink = poisoned_unlink;
    poisoned_ops.rename = poisoned_rename;
    poisoned_ops.write_commit = poisoned_write_commit;
    poisoned_ops.mount = poisoned_fs_mount;
    poisoned_ops.recovered = poisoned_recovered;
    type = fat_type;
    type.ops = &poisoned_ops;
    return daemon_main(argc, argv, types);
}
