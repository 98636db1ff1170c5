/* SPDX-License-Identifier: MIT */
/*
 * A running mount's control socket, and how to find it. Each front-end listens
 * on RUNTIME/MAJOR:MINOR.sock, named after the mount's st_dev; RUNTIME is /run/berth for root,
 * $XDG_RUNTIME_DIR/berth or /run/user/UID/berth for others where that exists, else /tmp/berth-UID
 * (mode 0700, ownership checked). A client sends one line (the command), the server answers "ok\n"
 * or "error ERRNO TEXT\n", then the body, and closes. Only root and the mount's owner are heard
 * (SO_PEERCRED).
 *
 * Commands: "status" (JSON object: source, directory, type, subtype, label, uuid, options,
 * transport, frontend_pid, daemon_pid, uptime (seconds), readonly, read_only_reason, state, daemon
 * (an object), sandbox (an array)), "stats" (JSON: the daemon's numbers, and the front-end's as
 * "frontend"), "sync", "remount ro", "remount rw".
 */
#ifndef BERTH_CONTROL_H
#define BERTH_CONTROL_H

#include "berth/base.h"
#include "berth/text.h"
#include <sys/types.h>

typedef struct ControlServer ControlServer;
/* Runs on the server's own thread. 0: reply is the body; -errno: reply is one line of text. */
typedef int ControlHandler(void *arg, const char *command, Text *reply);
/* Listens and serves on a thread of its own, one client at a time, 10 s limit each. */
int control_server_new(dev_t device, ControlHandler *handler, void *arg, ControlServer **ret);
/* Stops, joins, unlinks the socket. */
ControlServer *control_server_free(ControlServer *server);

/* Asks the mount with this st_dev owned by `owner`. The body is appended to *reply; on -errno from
 * the other side, its text. -ENOENT: no control socket; -ECONNREFUSED: dead. */
int control_call(dev_t device, uid_t owner, const char *command, Text *reply);
/* The same with a patience of one's own in milliseconds; 0: the usual. Over: -ETIMEDOUT. */
int control_call_within(dev_t device, uid_t owner, const char *command, unsigned patience_ms,
                        Text *reply);

/* berth's mounts in /proc/self/mountinfo (type fuse.berthfs), unescaped. */
typedef struct MountEntry {
    char *source, *directory, *options; /* options: per-mount and superblock ones joined */
    dev_t device;
    uid_t owner; /* user_id= */
    bool readonly;
} MountEntry;
int mounts_read(MountEntry **ret, size_t *ret_count);
/* The same from the text of such a file. */
int mounts_parse(const char *text, size_t length, MountEntry **ret, size_t *ret_count);
void mounts_free(MountEntry *entries, size_t count);
/* The last (topmost) entry whose directory is this path after realpath(3); NULL. */
const MountEntry *mounts_find(const MountEntry *entries, size_t count, const char *directory);

/*
 * Root's umount(8) takes a mount's type from statfs(2), which says no more than "fuse", and so
 * finds no helper of ours. An entry in libmount's utab makes it call umount.berth, which waits
 * until everything is on disk. The front-end makes it before it mounts, since libmount looks only at
 * entries of what is mounted, and takes it back when the mount is gone or never came. Nothing
 * happens for other users, whose umount(8) finds the helper by itself; failure only costs the
 * waiting.
 */
/* Begins to make it. That takes some milliseconds, in which something else can be done;
 * mounts_registered() waits for the end. */
pid_t mounts_register(const char *source, const char *directory);
void mounts_registered(pid_t helper);
void mounts_forget(const char *directory);

#endif
