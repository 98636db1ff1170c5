/* SPDX-License-Identifier: MIT */
/*
 * A mount's life: the registry of types, fs_mount() and fs_unmount(), sync, and
 * the two ways in which a volume turns read-only (the corruption policy and a
 * failed write-out). A FileSystem is made here and belongs to the caller of
 * fs_mount(); its reporter, inode table and cache are freed here, whatever the
 * filesystem's own mount() or unmount() answered.
 *
 * No locks: the caller sees to it that no operation runs beside mount, unmount
 * and remount (the volume's lock in src/service).
 */
#include "berth/log.h"
#include "inode.h"
#include <stdio.h>

const FileSystemType *fs_type_find(const FileSystemType *const *types, const char *name) {
    for (; *types != NULL; types++) {
        if (strcmp((*types)->name, name) == 0) {
            return *types;
        }
    }
    return NULL;
}

void fs_set_readonly(FileSystem *fs, const char *reason) {
    if (fs->readonly) {
        return;
    }
    fs->readonly = true;
    (void)snprintf(fs->read_only_reason, sizeof(fs->read_only_reason), "%s", reason);
    log_warning("%s: the volume is read-only now: %s", fs->type->name, reason);
}

static void on_corruption_readonly(void *arg) {
    FileSystem *fs = arg;

    fs_set_readonly(fs, "the image is corrupt");
}

static void on_write_out_failed(void *arg, int error) {
    FileSystem *fs = arg;
    char reason[128];

    if (error == -EUCLEAN) {
        (void)snprintf(reason, sizeof(reason), "the log is damaged, a part of it is lost");
    } else {
        (void)snprintf(reason, sizeof(reason), "writing failed: %s", strerror(abs(error)));
    }
    fs_set_readonly(fs, reason);
}

int fs_cache_new(FileSystem *fs, uint32_t block_size,
                 void (*released)(void *arg, uint64_t start, uint64_t count)) {
    const CacheConfig config = {
        .device = fs->device,
        .block_size = block_size,
        .memory_limit = fs->options.cache_bytes,
        .log_size = fs->options.log_bytes,
        .lifeline = fs->lifeline,
        .recover = fs->recover,
        .journal = fs->journal,
        .loop = fs->loop,
        .commit_ns = fs->options.commit_ns,
        .released = released,
        .failed = on_write_out_failed,
        .arg = fs,
    };

    int r = cache_new(&config, &fs->cache);

    fs->recovered = r == 0 && cache_recovered(fs->cache);
    return r;
}

static void fs_free(FileSystem *fs) {
    fs_inodes_free(fs);
    fs->cache = cache_free(fs->cache);
    fs->reporter = reporter_free(fs->reporter);
    free(fs);
}

static void describe_failure(const FileSystem *fs, int error, char text[256]) {
    const char *last = reporter_last(fs->reporter);

    if (error == -EUCLEAN && last[0] != '\0') {
        (void)snprintf(text, 256, "%.250s", last);
    } else if (fs->read_only_reason[0] != '\0') {
        (void)snprintf(text, 256, "%s (%s)", strerror(-error), fs->read_only_reason);
    } else {
        (void)snprintf(text, 256, "%s", strerror(-error));
    }
}

MAY_YIELD int fs_mount(const FileSystemType *type, BlockDevice *device, Loop *loop,
                       const FsMountOptions *options, FileSystem **ret, char text[256]) {
    return fs_mount_with(type, device, loop, NULL, NULL, false, options, ret, text);
}

MAY_YIELD int fs_mount_with(const FileSystemType *type, BlockDevice *device, Loop *loop,
                            Lifeline *lifeline, SideJournal *journal, bool recover,
                            const FsMountOptions *options, FileSystem **ret, char text[256]) {
    FileSystem *fs = calloc(1, type->fs_size);
    int r;

    text[0] = '\0';
    if (fs == NULL) {
        return -ENOMEM;
    }
    fs->type = type;
    fs->device = device;
    fs->lifeline = lifeline;
    fs->journal = journal;
    fs->recover = recover;
    fs->loop = loop;
    fs->options = *options;
    fs->readonly = options->readonly || device->readonly;
    fiber_mutex_init(&fs->rename_lock);
    fs->reporter = reporter_new(type->name, options->errors);
    r = fs->reporter == NULL ? -ENOMEM : fs_inodes_new(fs);
    if (r == 0) {
        reporter_on_readonly(fs->reporter, on_corruption_readonly, fs);
        r = type->ops->mount(fs);
    }
    if (r < 0) {
        if (fs->reporter != NULL) {
            describe_failure(fs, r, text);
        }
        fs_free(fs);
        return r;
    }
    *ret = fs;
    return 0;
}

MAY_YIELD int fs_sync(FileSystem *fs) {
    int r = 0;

    if (!fs->readonly && fs->type->ops->sync != NULL) {
        r = fs->type->ops->sync(fs);
    }
    return r < 0 ? r : fs_fsync(fs);
}

MAY_YIELD int fs_fsync(FileSystem *fs) {
    return fs->cache != NULL ? cache_sync(fs->cache) : block_flush(fs->device);
}

MAY_YIELD void fs_abandon(FileSystem *fs) {
    fs->readonly = true;
    (void)fs_inodes_evict_all(fs);
    (void)fs->type->ops->unmount(fs);
    fs_free(fs);
}

MAY_YIELD int fs_unmount(FileSystem *fs) {
    int first_error = fs_inodes_evict_all(fs);
    int r = fs_sync(fs);

    if (first_error == 0) {
        first_error = r;
    }
    r = fs->type->ops->unmount(fs);
    if (first_error == 0) {
        first_error = r;
    }
    r = fs_fsync(fs);
    if (first_error == 0) {
        first_error = r;
    }
    fs_free(fs);
    return first_error;
}
