/* SPDX-License-Identifier: MIT */
/*
 * The main thread once the mount is there: signals, the daemon's death, its log
 * lines, and the end. The mount's end comes from the kernel (the receiver reads
 * ENODEV) whoever unmounted; then everything goes down in order: requests in
 * flight, SYNC, UNMOUNT, SHUTDOWN, the daemon's end, the image's lock.
 *
 * Everything that a daemon's death means is decided here; operations only ever
 * see a failed response.
 */
#include "private.h"

#include <ctype.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define SHUTDOWN_MS 60000u

extern char **environ;

/* ---- the daemon's log lines ---- */

/* "fatd: warning: text" keeps its level under our own name. */
static LogLevel line_level(const char *line, size_t length, size_t *ret_skip) {
    static const struct {
        const char *word;
        LogLevel level;
    } words[] = {{": error: ", LOG_LEVEL_ERROR},
                 {": warning: ", LOG_LEVEL_WARNING},
                 {": notice: ", LOG_LEVEL_NOTICE},
                 {": info: ", LOG_LEVEL_INFO},
                 {": debug: ", LOG_LEVEL_DEBUG}};
    const char *colon = memchr(line, ':', length);

    for (size_t i = 0; colon != NULL && i < ARRAY_SIZE(words); i++) {
        size_t word_length = strlen(words[i].word);

        if ((size_t)(line + length - colon) >= word_length &&
            memcmp(colon, words[i].word, word_length) == 0) {
            *ret_skip = (size_t)(colon - line) + word_length;
            return words[i].level;
        }
    }
    *ret_skip = 0;
    return LOG_LEVEL_NOTICE;
}

/* Said by ourselves already: one line for one thing, unless every line is asked for. */
static bool is_told(const Front *front) {
    const char *told = front->volume.told;

    return told[0] != 0 && log_level() < LOG_LEVEL_DEBUG &&
           memmem(front->daemon.log_line, front->daemon.log_length, told, strlen(told)) != NULL;
}

/* A daemon may write anything: only what cannot harm a terminal or a log goes on. */
static void log_line_out(Front *front) {
    DaemonProcess *daemon = &front->daemon;
    LogLevel level;
    size_t skip;

    for (size_t i = 0; i < daemon->log_length; i++) {
        if (iscntrl((unsigned char)daemon->log_line[i])) {
            daemon->log_line[i] = '?';
        }
    }
    level = line_level(daemon->log_line, daemon->log_length, &skip);
    if (daemon->log_length > skip && !is_told(front)) {
        log_write(level, "%s: %.*s", front->type->daemon, (int)(daemon->log_length - skip),
                  daemon->log_line + skip);
    }
    daemon->log_length = 0;
}

bool supervise_log(Front *front) {
    DaemonProcess *daemon = &front->daemon;
    char buf[1024];
    ssize_t n;

    if (daemon->log_fd < 0) {
        return false;
    }
    /* At most some lines at a time: a flood must not keep the main thread here. */
    for (unsigned round = 0; round < 16; round++) {
        n = read(daemon->log_fd, buf, sizeof(buf));
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] == '\n' || daemon->log_length == sizeof(daemon->log_line)) {
                log_line_out(front);
            }
            if (buf[i] != '\n') {
                daemon->log_line[daemon->log_length++] = buf[i];
            }
        }
        if (n == 0) {
            log_line_out(front);
            return false;
        }
    }
    return true;
}

/* ---- death ---- */

static void say_death(const Front *front, int status) {
    const char *name = front->type->daemon;

    if (WIFSIGNALED(status)) {
        log_error("%s: %s (process %d) was ended by signal %d (%s); the volume answers with errors "
                  "until it is unmounted",
                  front->source_given, name, (int)front->daemon.pid, WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    } else {
        log_error("%s: %s (process %d) exited with status %d; the volume answers with errors until "
                  "it is unmounted",
                  front->source_given, name, (int)front->daemon.pid, WEXITSTATUS(status));
    }
}

bool supervise_reap(Front *front, int timeout_ms) {
    struct pollfd fd = {.fd = front->daemon.pidfd, .events = POLLIN};
    bool expected = atomic_load(&front->closing);
    int status = 0, r;

    if (front->daemon.pid <= 0) {
        return true;
    }
    do {
        r = poll(&fd, 1, timeout_ms);
    } while (r < 0 && errno == EINTR);
    if (r <= 0) {
        return false;
    }
    supervise_log(front);
    if (waitpid(front->daemon.pid, &status, 0) == front->daemon.pid &&
        (!expected || !WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        say_death(front, status);
    }
    atomic_store(&front->daemon_dead, true);
    front->daemon.pid = 0;
    return true;
}

void supervise_channel_lost(Front *front) {
    if (!atomic_load(&front->closing)) {
        atomic_store(&front->daemon_dead, true);
    }
    pending_fail_all(front, -EIO);
}

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

enum { WATCH_STOP, WATCH_SIGNAL, WATCH_DAEMON, WATCH_LOG, WATCH_COUNT };

/* False: a second signal while waiting for the last user of the mount. */
static bool on_signal(Front *front, int signal_fd, unsigned *count) {
    struct signalfd_siginfo info;

    if (read(signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
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
    fds[WATCH_DAEMON] = (struct pollfd){.fd = front->daemon.pidfd, .events = POLLIN};
    fds[WATCH_LOG] = (struct pollfd){.fd = front->daemon.log_fd, .events = POLLIN};
    for (;;) {
        if (poll(fds, WATCH_COUNT, -1) < 0 && errno != EINTR) {
            log_error("%s: poll: %m", front->source_given);
            return;
        }
        if (fds[WATCH_LOG].revents != 0 && !supervise_log(front)) {
            fds[WATCH_LOG].fd = -1;
        }
        if (fds[WATCH_DAEMON].revents != 0 && supervise_reap(front, 0)) {
            fds[WATCH_DAEMON].fd = -1;
        }
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
    int r = front_call(front, type, 0, NULL, SHUTDOWN_MS, &response, NULL);

    if (r < 0) {
        log_error("%s: %s: %s", front->source_given, fs_message_name(type), strerror(-r));
    }
    return r;
}

int supervise_shutdown(Front *front) {
    int r = 0, r2;

    if (pending_drain(&front->pending, SHUTDOWN_MS) < 0) {
        log_error("%s: %u requests still unanswered after %u s", front->source_given,
                  front->pending.in_flight_count, SHUTDOWN_MS / 1000);
        r = -ETIMEDOUT;
    }
    atomic_store(&front->closing, true);
    if (r == 0 && front->volume_mounted && !atomic_load(&front->daemon_dead)) {
        r = atomic_load(&front->volume.readonly) ? 0 : last_call(front, FS_MSG_SYNC);
        r2 = r == -ETIMEDOUT ? r : last_call(front, FS_MSG_UNMOUNT);
        r = r < 0 ? r : r2;
    }
    if (front->direct != NULL) {
        return r;
    }
    if (r == 0 && front->volume_mounted && atomic_load(&front->daemon_dead)) {
        r = -EIO; /* whatever it had not written is lost */
    }
    if (r != -ETIMEDOUT && !atomic_load(&front->daemon_dead)) {
        (void)last_call(front, FS_MSG_SHUTDOWN); /* the daemon ends, whatever it answers */
    }
    if (r != -ETIMEDOUT && front->daemon.transport != NULL) {
        transport_shutdown(front->daemon.transport);
    }
    if (r == -ETIMEDOUT || !supervise_reap(front, (int)SHUTDOWN_MS)) {
        log_error("%s: %s does not end; it is stopped", front->source_given, front->type->daemon);
        daemon_kill(front);
        (void)supervise_reap(front, (int)SHUTDOWN_MS);
        r = r < 0 ? r : -ETIMEDOUT;
    }
    return r;
}
