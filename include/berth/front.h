/* SPDX-License-Identifier: MIT */
/*
 * The FUSE front-end: one process per mount, with the user's rights. It opens
 * and locks the image, starts the daemon, turns the kernel's requests into
 * FSRequests and FSResponses into the kernel's replies, and sees to it that
 * everything is down on the image before it goes. It parses no filesystem.
 */
#ifndef BERTH_FRONT_H
#define BERTH_FRONT_H

#include "berth/fs.h"
#include "berth/sandbox.h"
#include "berth/text.h"

/* Exit codes, as mount(8) has them. */
enum FrontExit {
    FRONT_EXIT_OK = 0,
    FRONT_EXIT_USAGE = 1,  /* wrong invocation, or no permission */
    FRONT_EXIT_SYSTEM = 2, /* no memory, no fork, no /dev/fuse */
    FRONT_EXIT_BUG = 4,
    FRONT_EXIT_SIGNAL = 8, /* ended by a signal before the mount was there */
    FRONT_EXIT_FAIL = 32,  /* the mount failed */
};

typedef enum FrontDaemonMode {
    FRONT_DAEMON_ALWAYS, /* default */
    FRONT_DAEMON_AUTO,   /* without a daemon when it cannot be started, with a warning */
    FRONT_DAEMON_NEVER,  /* the filesystem runs inside the front-end */
    FRONT_DAEMON_UNIT,   /* a service manager starts it (berth/registry.h) */
} FrontDaemonMode;

typedef enum FrontTransport {
    FRONT_TRANSPORT_RING, /* default; the socket where the daemon has no rings */
    FRONT_TRANSPORT_SOCKET,
} FrontTransport;

#define FRONT_HEARTBEAT_DEFAULT 15u

typedef struct FrontOptions {
    bool readonly;
    bool readwrite; /* rw was asked for: a write-protected source is an error then */
    bool remount, allow_other, debug, foreground;
    bool noholder; /* nothing goes on with the mount when berthfs dies */
    FrontDaemonMode daemon;
    char daemon_socket[108]; /* of the unit; "": the daemon's usual one */
    FrontTransport transport;
    SandboxMode sandbox; /* the daemon's */
    unsigned heartbeat;  /* seconds after which a daemon in which nothing moves is replaced, 0: never */
    char type[32];  /* "": detect */
    char part[112]; /* "": the whole image, or the only partition that can be mounted */
    bool has_start;
    uint64_t start; /* bytes */
    uint32_t uid, gid, fmask, dmask;
    Text journal; /* path of the side journal, "": none */
    Text volume; /* options for the daemon that only it understands, comma separated, escaped */
    Text kernel; /* options for mount(2), comma separated */
} FrontOptions;

/* Defaults: uid and gid of the caller, masks 022. */
void front_options_init(FrontOptions *options);
void front_options_done(FrontOptions *options);
/* Adds one -o string. 0, -ENOMEM, or -EINVAL with *text naming the option. */
int front_options_add(FrontOptions *options, const char *list, char text[256]);
/* The option string of the MOUNT message. 0 or -ENOMEM. */
int front_options_for_volume(const FrontOptions *options, bool readonly, Text *ret);

typedef struct FrontConfig {
    const char *source, *directory; /* as given */
    FrontOptions options;
    const FileSystemType *const *types; /* linked in: names, daemons, and daemon=never */
    char **argv;   /* of this program, NULL at its end, for the holder; NULL: no holder */
    int attach_fd; /* above 0: to the holder, for the successor of a front-end that died */
} FrontConfig;

/*
 * Mounts and serves. In the background the caller's process returns from here as soon as the mount
 * can be used (or has failed), and the child never returns; with options.foreground it returns
 * after the unmount. The result is an exit code; everything has been said on stderr.
 */
int front_run(const FrontConfig *config);

/* -o remount: tells the running front-end and the kernel. Never starts a daemon. */
int front_remount(const FrontConfig *config);

/* The holder's process: serves the front-end at the other end of fd, which was started with argv.
 * Returns an exit code. */
int front_hold(int fd, char **argv);

#endif
