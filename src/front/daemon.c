/* SPDX-License-Identifier: MIT */
/*
 * Starting a daemon: finding its program, giving it nothing but a socket and a
 * place for log lines, and the HELLO that hands over the image and the arenas.
 * The daemon ends by itself when the socket does; a front-end that is killed
 * leaves it time to finish cleanly, so there is no parent-death signal.
 */
#include "private.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HELLO_TIMEOUT_MS 20000
#define CHILD_CHANNEL 3

/* dir/more/name if it can be run; NULL. */
static char *runnable(const char *dir, const char *more, const char *name) {
    char *path;

    if (asprintf(&path, "%s/%s%s", dir, more, name) < 0) {
        return NULL;
    }
    if (access(path, X_OK) == 0) {
        return path;
    }
    free(path);
    return NULL;
}

/* BERTH_DAEMON_DIR alone if it is set; beside this program in the build tree; where it is
 * installed. */
static char *daemon_find(const char *name) {
    const char *dir = secure_getenv("BERTH_DAEMON_DIR");
    _cleanup_free_ char *self = NULL;
    char *slash, *path = NULL;

    if (dir != NULL) {
        return runnable(dir, "", name);
    }
    self = realpath("/proc/self/exe", NULL);
    slash = self != NULL ? strrchr(self, '/') : NULL;
    if (slash != NULL) {
        *slash = 0;
        path = runnable(self, "../daemons/", name);
    }
    return path != NULL ? path : runnable(BERTH_LIBEXECDIR, "", name);
}

/* Between fork and exec, in what may be a threaded process: system calls only. */
static void child_exec(const char *path, char *const argv[], int channel_fd, int log_fd) {
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid(); /* a Ctrl-C at the terminal is for the front-end, which then ends us cleanly */
    /* Both come from above: never in the way of the numbers they go to. */
    channel_fd = fcntl(channel_fd, F_DUPFD, 10);
    log_fd = fcntl(log_fd, F_DUPFD, 10);
    if (null_fd < 0 || channel_fd < 0 || log_fd < 0 || dup2(null_fd, 0) < 0 ||
        dup2(null_fd, 1) < 0 || dup2(log_fd, 2) < 0 || dup2(channel_fd, CHILD_CHANNEL) < 0) {
        _exit(126);
    }
    (void)syscall(SYS_close_range, CHILD_CHANNEL + 1, ~0u, 0);
    execv(path, argv);
    _exit(127);
}

static int daemon_spawn(Front *front, const char *path) {
    _cleanup_close_ int peer_fd = -1, log_write_fd = -1;
    DaemonProcess *daemon = &front->daemon;
    Channel *channel = NULL;
    char *argv[] = {(char *)front->type->daemon,
                    (char *)"--channel-fd",
                    (char *)"3",
                    (char *)"--sandbox",
                    (char *)sandbox_mode_name(front->options.sandbox),
                    NULL};
    int pipe_fds[2], r;

    r = channel_pair(&channel, &peer_fd);
    if (r == 0) {
        r = transport_new(channel, &daemon->transport);
    }
    if (r < 0) {
        return r;
    }
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    daemon->log_fd = pipe_fds[0];
    log_write_fd = pipe_fds[1];
    (void)fcntl(daemon->log_fd, F_SETFL, O_NONBLOCK);
    daemon->pid = fork();
    if (daemon->pid < 0) {
        r = -errno;
        daemon->pid = 0;
        return r;
    }
    if (daemon->pid == 0) {
        child_exec(path, argv, peer_fd, log_write_fd);
    }
    daemon->pidfd = pidfd_open(daemon->pid, 0);
    return daemon->pidfd < 0 ? -errno : 0;
}

static void hello_fill(const Front *front, Hello *hello) {
    memset(hello, 0, sizeof(*hello));
    hello->version = FS_PROTOCOL_VERSION;
    hello->features = HELLO_FEATURE_ARENA;
    hello->epoch = front->daemon.epoch;
    hello->slots = PENDING_SLOTS;
    hello->arena_out_size = arena_size(front->arena_out);
    hello->arena_in_size = arena_size(front->arena_in);
    hello->image_start = front->volume_start;
    hello->image_length = front->volume_length;
    hello->readonly = front->image_readonly;
    hello->pid = (uint32_t)getpid();
    (void)snprintf(hello->type, sizeof(hello->type), "%s", front->type->name);
    /* For log lines: the end of a long path says more than its start. */
    (void)snprintf(hello->source, sizeof(hello->source), "%s",
                   strlen(front->source) < sizeof(hello->source)
                       ? front->source
                       : front->source + strlen(front->source) - sizeof(hello->source) + 1);
}

/* The rings are worth having, not needed: without them the messages go over the socket. */
static unsigned offer_ring(Front *front, Hello *hello, int fds[HELLO_FD_MAX]) {
    int r;

    if (front->options.transport == FRONT_TRANSPORT_SOCKET) {
        return HELLO_FD_COUNT;
    }
    r = transport_ring_offer(front->daemon.transport, hello->slots, fds + HELLO_FD_RING);
    if (r < 0) {
        log_warning("%s: no rings, the socket serves: %s", front->source_given, strerror(-r));
        return HELLO_FD_COUNT;
    }
    hello->features |= HELLO_FEATURE_RING;
    return HELLO_FD_MAX;
}

static int hello_exchange(Front *front, char text[128]) {
    Channel *channel = transport_channel(front->daemon.transport);
    int fds[HELLO_FD_MAX] = {
        [HELLO_FD_IMAGE] = front->image_fd,
        [HELLO_FD_ARENA_OUT] = arena_fd(front->arena_out),
        [HELLO_FD_ARENA_IN] = arena_fd(front->arena_in),
    };
    uint8_t buf[HELLO_SIZE];
    unsigned fd_count;
    uint64_t offered;
    Hello hello;
    int r;

    hello_fill(front, &hello);
    fd_count = offer_ring(front, &hello, fds);
    offered = hello.features;
    hello_encode(&hello, buf);
    r = channel_send_fds(channel, buf, sizeof(buf), fds, fd_count);
    if (r < 0) {
        (void)snprintf(text, 128, "%s", r == -EPIPE ? "it ended at once" : strerror(-r));
        return r;
    }
    r = channel_receive_fds(channel, buf, sizeof(buf), NULL, 0, &fd_count, HELLO_TIMEOUT_MS);
    if (r <= 0) {
        (void)snprintf(text, 128, "%s", r == 0 ? "it ended without an answer" : strerror(-r));
        return r == 0 ? -EPIPE : r;
    }
    r = hello_decode(buf, (size_t)r, &hello, text);
    if (r < 0) {
        return r;
    }
    if (hello.result < 0) {
        (void)snprintf(text, 128, "%s", hello.text);
        return hello.result;
    }
    if (hello.version != FS_PROTOCOL_VERSION || hello.epoch != front->daemon.epoch ||
        (hello.features & HELLO_FEATURE_ARENA) == 0 || (hello.features & ~offered) != 0) {
        (void)snprintf(text, 128, "it speaks version %u, features %#llx", hello.version,
                       (unsigned long long)hello.features);
        return -EPROTO;
    }
    (void)snprintf(front->daemon.sandbox, sizeof(front->daemon.sandbox), "%s", hello.text);
    transport_ring_settle(front->daemon.transport, (hello.features & HELLO_FEATURE_RING) != 0);
    return 0;
}

int daemon_start(Front *front, bool quiet) {
    _cleanup_free_ char *path = daemon_find(front->type->daemon);
    char text[128] = "";
    int r;

    if (path == NULL) {
        if (!quiet) {
            log_error("%s: the daemon %s was not found (BERTH_DAEMON_DIR, beside berthfs, %s)",
                      front->source_given, front->type->daemon, BERTH_LIBEXECDIR);
        }
        return -ENOENT;
    }
    front->daemon.epoch++;
    r = daemon_spawn(front, path);
    if (r < 0) {
        (void)snprintf(text, sizeof(text), "%s", strerror(-r));
    } else {
        r = hello_exchange(front, text);
    }
    if (r == 0) {
        return 0;
    }
    supervise_log(front);
    if (!quiet) {
        log_error("%s: cannot start %s: %s", front->source_given, path, text);
    }
    daemon_kill(front);
    daemon_release(&front->daemon);
    return r;
}

void daemon_kill(Front *front) {
    if (front->daemon.pidfd >= 0) {
        (void)pidfd_send_signal(front->daemon.pidfd, SIGKILL, NULL, 0);
    }
}

void daemon_release(DaemonProcess *daemon) {
    if (daemon->pid > 0) {
        (void)waitpid(daemon->pid, NULL, 0);
    }
    if (daemon->pidfd >= 0) {
        close(daemon->pidfd);
    }
    if (daemon->log_fd >= 0) {
        close(daemon->log_fd);
    }
    transport_free(daemon->transport);
    *daemon = (DaemonProcess){.pidfd = -1, .log_fd = -1, .epoch = daemon->epoch};
}
