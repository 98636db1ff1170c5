/* SPDX-License-Identifier: MIT */
/*
 * The main thread once the mount is there: signals, and the end. The mount's end comes
 * from the kernel (the receiver reads ENODEV) whoever unmounted; then everything goes
 * down in order: requests in flight, SYNC, UNMOUNT, SHUTDOWN, the daemon's end, the
 * image's lock. Until SHUTDOWN the keeper is there, so a daemon that dies on the way
 * loses nothing either.
 */
#include "private.h"

#include "manager.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define SHUTDOWN_MS 60000u

extern char **environ;

/* ---- unmounting ---- */

static int run_fusermount(const char *directory, bool lazy) {
    const char *argv[] = {"fusermount3", "-u", "-q", "--", directory, NULL};
    const char *lazy_argv[] = {"fusermount3", "-u", "-q", "-z", "--", directory, NULL};
    pid_t pid;
    int status, r;

    r = posix_spawnp(&pid, "fusermount3", NULL, NULL, (char **)(lazy ? lazy_argv : argv), environ);
    if (r != 0) {
        return -r;
    }
    if (waitpid(pid, &status, 0) < 0) {
        return -errno;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int supervise_unmount(Front *front, bool lazy) {
    if (geteuid() != 0) {
        return run_fusermount(front->directory, lazy);
    }
    return umount2(front->directory, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}

static void end_by_signal(Front *front, uint32_t signal) {
    log_notice("%s: unmounting %s: %s", front->source_given, front->directory,
               strsignal((int)signal));
    if (supervise_unmount(front, false) < 0) {
        log_notice("%s: still in use; it goes when the last user does", front->directory);
        (void)supervise_unmount(front, true);
    }
}

enum { WATCH_STOP, WATCH_SIGNAL, WATCH_COUNT };

static void restart_daemon(Front *front) {
    char text[160] = "";

    if (front->keeper == NULL) {
        log_notice("%s: SIGHUP: there is no daemon to be replaced", front->source_given);
    } else if (keeper_restart(front->keeper, text) < 0) {
        log_error("%s: SIGHUP: the daemon was not replaced: %s", front->source_given, text);
    }
}

/* False: a second signal while waiting for the last user of the mount. */
static bool on_signal(Front *front, int signal_fd, unsigned *count) {
    struct signalfd_siginfo info;

    if (read(signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return true;
    }
    if (info.ssi_signo == SIGHUP) {
        restart_daemon(front);
        return true;
    }
    if ((*count)++ > 0) {
        return false;
    }
    end_by_signal(front, info.ssi_signo);
    return true;
}

void supervise_run(Front *front) {
    _cleanup_close_ int signal_fd = -1;
    struct pollfd fds[WATCH_COUNT];
    unsigned signals = 0;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    fds[WATCH_STOP] = (struct pollfd){.fd = front->stop_fd, .events = POLLIN};
    fds[WATCH_SIGNAL] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
    for (;;) {
        if (poll(fds, WATCH_COUNT, notify_alive_ms()) < 0 && errno != EINTR) {
            log_error("%s: poll: %m", front->source_given);
            return;
        }
        notify_alive();
        if (fds[WATCH_SIGNAL].revents != 0 && !on_signal(front, signal_fd, &signals)) {
            return;
        }
        if (fds[WATCH_STOP].revents != 0) {
            return;
        }
    }
}

/* ---- the end ---- */

static int last_call(Front *front, FSMessageType type) {
    FSResponse response;
    int r;

    /* The manager must not end us over what takes long on a slow medium. */
    notify_send("EXTEND_TIMEOUT_USEC=%u", 2 * SHUTDOWN_MS * 1000);
    notify_alive();
    r = front_call(front, type, 0, NULL, SHUTDOWN_MS, &response, NULL);

    if (r < 0) {
        log_error("%s: %s: %s", front->source_given, fs_message_name(type), strerror(-r));
    }
    return r;
}

/* All on the image, and the volume marked clean. */
static int unmount_volume(Front *front) {
    int r = 0, r2;

    if (pending_drain(&front->pending, SHUTDOWN_MS) < 0) {
        log_error("%s: %u requests still unanswered after %u s", front->source_given,
                  front->pending.in_flight_count, SHUTDOWN_MS / 1000);
        return -ETIMEDOUT;
    }
    if (!atomic_load(&front->volume_mounted)) {
        return 0;
    }
    if (atomic_load(&front->daemon_dead)) {
        return atomic_load(&front->rescued) ? 0 : -EIO; /* what it had not written is lost */
    }
    r = atomic_load(&front->volume.readonly) ? 0 : last_call(front, FS_MSG_SYNC);
    r2 = r == -ETIMEDOUT ? r : last_call(front, FS_MSG_UNMOUNT);
    return r < 0 ? r : r2;
}

/* The daemon ends: by itself, as it is told to, or by force. */
static int end_daemon(Front *front, int r) {
    DaemonProcess *daemon;
    char text[160];
    int status = 0;
    pid_t pid;

    atomic_store(&front->closing, true);
    if (r != -ETIMEDOUT && front->daemon != NULL) {
        (void)last_call(front, FS_MSG_SHUTDOWN); /* it ends, whatever it answers */
    }
    if (front->keeper != NULL) {
        keeper_stop(front->keeper);
    }
    daemon = front->daemon;
    if (daemon == NULL) {
        return r;
    }
    pid = daemon->pid;
    if (r != -ETIMEDOUT) {
        transport_shutdown(daemon->transport);
    }
    if (r == -ETIMEDOUT || !daemon_reap(daemon, (int)SHUTDOWN_MS, &status)) {
        log_error("%s: %s does not end; it is stopped", front->source_given, front->type->daemon);
        daemon_kill(daemon);
        (void)daemon_reap(daemon, (int)SHUTDOWN_MS, &status);
        r = r < 0 ? r : -ETIMEDOUT;
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        daemon_death_text(daemon, status, text);
        log_error("%s: %s (process %d) %s", front->source_given, front->type->daemon, (int)pid,
                  text);
        r = r < 0 ? r : -EIO;
    }
    return r;
}

int supervise_shutdown(Front *front) {
    int r = unmount_volume(front);

    return front->direct != NULL ? r : end_daemon(front, r);
}
