/* SPDX-License-Identifier: MIT */
/*
 * -o remount: finds the running front-end by its mount and tells it; then the
 * kernel, which asks nobody when a FUSE superblock changes. To read-only the
 * kernel goes first (it writes back what it holds), to read-write the daemon
 * does. Nothing is opened and no daemon is started.
 */
#include "private.h"

#include <sys/mount.h>
#include <sys/statvfs.h>

static unsigned long flags_of(const struct statvfs *st) {
    static const unsigned long map[][2] = {
        {ST_NOSUID, MS_NOSUID},           {ST_NODEV, MS_NODEV},
        {ST_NOEXEC, MS_NOEXEC},           {ST_NOATIME, MS_NOATIME},
        {ST_NODIRATIME, MS_NODIRATIME},   {ST_RELATIME, MS_RELATIME},
        {ST_SYNCHRONOUS, MS_SYNCHRONOUS},
    };
    unsigned long flags = 0;

    for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
        if (st->f_flag & map[i][0]) {
            flags |= map[i][1];
        }
    }
    return flags;
}

static int remount_kernel(const MountEntry *entry, bool readonly) {
    struct statvfs st;
    unsigned long flags;

    if (statvfs(entry->directory, &st) < 0) {
        return -errno;
    }
    flags = flags_of(&st) | MS_REMOUNT | (readonly ? MS_RDONLY : 0);
    return mount(entry->source, entry->directory, "fuse.berthfs", flags, NULL) < 0 ? -errno : 0;
}

static int remount_daemon(const MountEntry *entry, bool readonly) {
    _cleanup_(text_done) Text reply = {0};
    int r =
        control_call(entry->device, entry->owner, readonly ? "remount ro" : "remount rw", &reply);

    if (r < 0) {
        log_error("%s: %s", entry->directory,
                  reply.length > 0 ? text_string(&reply) : strerror(-r));
    }
    return r;
}

static int remount_entry(const MountEntry *entry, bool readonly) {
    int r;

    if (entry->readonly == readonly) {
        return FRONT_EXIT_OK;
    }
    if (!readonly && remount_daemon(entry, false) < 0) {
        return FRONT_EXIT_FAIL;
    }
    r = remount_kernel(entry, readonly);
    if (r < 0) {
        log_error("%s: remount: %s", entry->directory, strerror(-r));
        if (!readonly) {
            (void)remount_daemon(entry, true);
        }
        return r == -EPERM ? FRONT_EXIT_USAGE : FRONT_EXIT_FAIL;
    }
    if (readonly && remount_daemon(entry, true) < 0) {
        return FRONT_EXIT_FAIL;
    }
    return FRONT_EXIT_OK;
}

int front_remount(const FrontConfig *config) {
    MountEntry *entries = NULL;
    const MountEntry *entry;
    size_t count = 0;
    int code, r = mounts_read(&entries, &count);

    if (r < 0) {
        log_error("/proc/self/mountinfo: %s", strerror(-r));
        return FRONT_EXIT_SYSTEM;
    }
    entry = mounts_find(entries, count, config->directory);
    if (entry == NULL) {
        log_error("%s: not a mount of berth's", config->directory);
        code = FRONT_EXIT_FAIL;
    } else {
        code = remount_entry(entry, config->options.readonly);
    }
    mounts_free(entries, count);
    return code;
}
