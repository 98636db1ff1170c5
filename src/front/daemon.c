/* SPDX-License-Identifier: MIT */
/*
 * A daemon's process: finding its program, starting it with nothing but a socket and
 * a place for log lines, the HELLO that hands over the image, the arenas and the
 * lifeline, and its end. After the HELLO it is locked in and waits for its MOUNT, so
 * that it may as well be a spare. The daemon ends by itself when the socket does; a
 * front-end that is killed leaves it time to finish cleanly, so there is no
 * parent-death signal.
 *
 * No locks: a DaemonProcess belongs to one thread at a time; its replier and those
 * that send use the transport, which lives until daemon_free().
 */
#include "private.h"

#include "berth/registry.h"
#include "manager.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HELLO_TIMEOUT_MS 20000
#define CHILD_CHANNEL 3
#define CHILD_LOCK 4
#define STATUS_UNKNOWN (1 << 16) /* no status has this bit */

/*
 * Between fork and exec, in what may be a threaded process: system calls only. The daemon never
 * hears of lock_fd: it keeps the image locked until it has ended, should we end before.
 */
static void child_exec(const char *path, char *const argv[], int channel_fd, int log_fd,
                       int lock_fd) {
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid(); /* a Ctrl-C at the terminal is for the front-end, which then ends us cleanly */
    /* Both come from above: never in the way of the numbers they go to. */
    channel_fd = fcntl(channel_fd, F_DUPFD, 10);
    log_fd = fcntl(log_fd, F_DUPFD, 10);
    lock_fd = fcntl(lock_fd, F_DUPFD, 10);
    if (null_fd < 0 || channel_fd < 0 || log_fd < 0 || dup2(null_fd, 0) < 0 ||
        dup2(null_fd, 1) < 0 || dup2(log_fd, 2) < 0 || dup2(channel_fd, CHILD_CHANNEL) < 0 ||
        dup2(lock_fd, CHILD_LOCK) < 0) {
        _exit(126);
    }
    (void)syscall(SYS_close_range, CHILD_LOCK + 1, ~0u, 0);
    execv(path, argv);
    _exit(127);
}

static int make_pipe(int *ret_read, int *ret_write) {
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    *ret_read = fds[0];
    *ret_write = fds[1];
    return fcntl(*ret_read, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int daemon_spawn(DaemonProcess *daemon, const char *path) {
    _cleanup_close_ int peer_fd = -1, log_write_fd = -1;
    const Front *front = daemon->front;
    Channel *channel = NULL;
    char *argv[] = {(char *)front->type->daemon,
                    (char *)"--channel-fd",
                    (char *)"3",
                    (char *)"--sandbox",
                    (char *)sandbox_mode_name(front->options.sandbox),
                    NULL};
    int r = channel_pair(&channel, &peer_fd);

    if (r == 0) {
        r = transport_new(channel, &daemon->transport);
    }
    if (r == 0) {
        r = make_pipe(&daemon->log_fd, &log_write_fd);
    }
    if (r < 0) {
        return r;
    }
    daemon->pid = fork();
    if (daemon->pid < 0) {
        r = -errno;
        daemon->pid = 0;
        return r;
    }
    if (daemon->pid == 0) {
        child_exec(path, argv, peer_fd, log_write_fd, front->image_fd);
    }
    daemon->pidfd = pidfd_open(daemon->pid, 0);
    return daemon->pidfd < 0 ? -errno : 0;
}

/* One that the service manager starts: which process it is, its first message tells. */
static int daemon_connect(DaemonProcess *daemon, const char *socket) {
    Channel *channel = NULL;
    int fd, r = activate_connect(socket, &fd);

    if (r == 0) {
        r = channel_new(fd, &channel);
    }
    return r == 0 ? transport_new(channel, &daemon->transport) : r;
}

static void hello_fill(const DaemonProcess *daemon, Hello *hello) {
    const Front *front = daemon->front;

    memset(hello, 0, sizeof(*hello));
    hello->version = FS_PROTOCOL_VERSION;
    hello->features = HELLO_FEATURE_ARENA;
    hello->epoch = daemon->epoch;
    hello->held = attach_is_held(front);
    hello->slots = PENDING_TOTAL;
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
static unsigned offer_ring(const DaemonProcess *daemon, Hello *hello, int fds[HELLO_FD_MAX]) {
    int r;

    if (daemon->front->options.transport == FRONT_TRANSPORT_SOCKET) {
        return HELLO_FD_COUNT;
    }
    r = transport_ring_offer(daemon->transport, hello->slots, fds + HELLO_FD_RING);
    if (r < 0) {
        log_warning("%s: no rings, the socket serves: %s", daemon->front->source_given,
                    strerror(-r));
        return HELLO_FD_COUNT;
    }
    hello->features |= HELLO_FEATURE_RING;
    return HELLO_FD_COUNT + HELLO_RING_FDS;
}

/* Sends the HELLO with everything that the daemon will ever have. */
static int hello_send(DaemonProcess *daemon, Hello *hello, char text[128]) {
    _cleanup_close_ int fence_fd = -1; /* only the daemon's end may stay open */
    const Front *front = daemon->front;
    uint8_t buf[HELLO_SIZE];
    unsigned fd_count;
    int r = make_pipe(&daemon->fence_fd, &fence_fd);
    int fds[HELLO_FD_MAX] = {
        [HELLO_FD_IMAGE] = daemon->image_fd,
        [HELLO_FD_ARENA_OUT] = arena_fd(front->arena_out),
        [HELLO_FD_ARENA_IN] = arena_fd(front->arena_in),
        [HELLO_FD_LIFELINE] = front->lifeline_fd,
        [HELLO_FD_FENCE] = fence_fd,
    };

    if (r < 0) {
        (void)snprintf(text, 128, "%s", strerror(-r));
        return r;
    }
    hello_fill(daemon, hello);
    fd_count = offer_ring(daemon, hello, fds);
    if (front->journal_fd >= 0) {
        hello->features |= HELLO_FEATURE_JOURNAL;
        fds[fd_count++] = front->journal_fd;
    }
    hello_encode(hello, buf);
    r = channel_send_fds(transport_channel(daemon->transport), buf, sizeof(buf), fds, fd_count);
    if (r < 0) {
        (void)snprintf(text, 128, "%s", r == -EPIPE ? "it ended at once" : strerror(-r));
    }
    return r;
}

static int hello_exchange(DaemonProcess *daemon, char text[128]) {
    Channel *channel = transport_channel(daemon->transport);
    uint8_t buf[HELLO_SIZE];
    unsigned fd_count;
    uint64_t offered;
    Hello hello;
    int r = hello_send(daemon, &hello, text);

    if (r < 0) {
        return r;
    }
    offered = hello.features;
    if (daemon->pidfd < 0) {
        r = activate_peer(channel_fd(channel), HELLO_TIMEOUT_MS, &daemon->pid, &daemon->pidfd);
        if (r < 0) {
            (void)snprintf(text, 128, "%s", r == -EPIPE ? "it ended at once" : strerror(-r));
            return r;
        }
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
    if (hello.version != FS_PROTOCOL_VERSION || hello.epoch != daemon->epoch ||
        (hello.features & HELLO_FEATURE_ARENA) == 0 || (hello.features & ~offered) != 0 ||
        ((offered & ~hello.features) & HELLO_FEATURE_JOURNAL) != 0) {
        (void)snprintf(text, 128, "it speaks version %u, features %#llx", hello.version,
                       (unsigned long long)hello.features);
        return -EPROTO;
    }
    (void)snprintf(daemon->sandbox, sizeof(daemon->sandbox), "%s", hello.text);
    transport_ring_settle(daemon->transport, (hello.features & HELLO_FEATURE_RING) != 0);
    return 0;
}

static DaemonProcess *daemon_new(Front *front) {
    DaemonProcess *daemon = calloc(1, sizeof(*daemon));

    if (daemon != NULL) {
        *daemon = (DaemonProcess){.front = front,
                                  .pidfd = -1,
                                  .log_fd = -1,
                                  .fence_fd = -1,
                                  .image_fd = steal_fd(&front->next_image_fd),
                                  .epoch = ++front->epoch};
        front->next_image_fd = source_reopen(front);
        if (front->keepsake.header != NULL) {
            front->keepsake.header->epoch = front->epoch;
        }
    }
    return daemon;
}

/* path: of the program, or of the socket on which the manager starts one. 0 or -errno with *text.
 */
static int bring_up(DaemonProcess *daemon, const char *path, char text[128]) {
    bool unit = daemon->front->options.daemon == FRONT_DAEMON_UNIT;
    int r = daemon->image_fd < 0 ? -EMFILE
            : unit               ? daemon_connect(daemon, path)
                                 : daemon_spawn(daemon, path);

    if (r == 0) {
        r = hello_exchange(daemon, text);
    }
    if (r == 0) {
        attach_note_daemon(daemon->front, daemon);
        r = replies_start(daemon);
    }
    if (r < 0 && text[0] == 0) {
        (void)snprintf(text, 128, "%s", strerror(-r));
    }
    return r;
}

/* Where to start one; the caller's. NULL: nowhere. */
static char *daemon_find(const FrontOptions *options, const char *name) {
    char socket[sizeof(options->daemon_socket)];

    if (options->daemon != FRONT_DAEMON_UNIT) {
        return registry_find_daemon(name, NULL);
    }
    if (options->daemon_socket[0] != 0) {
        return strdup(options->daemon_socket);
    }
    return registry_socket_path(name, socket, sizeof(socket)) == 0 ? strdup(socket) : NULL;
}

int daemon_start(Front *front, bool quiet, DaemonProcess **ret) {
    _cleanup_free_ char *path = daemon_find(&front->options, front->type->daemon);
    DaemonProcess *daemon;
    char text[128] = "";
    int r;

    if (path == NULL) {
        if (!quiet) {
            log_error("%s: the daemon %s was not found (BERTH_DAEMON_DIR, beside berthfs, %s)",
                      front->source_given, front->type->daemon, registry_installed_directory());
        }
        return -ENOENT;
    }
    daemon = daemon_new(front);
    if (daemon == NULL) {
        return -ENOMEM;
    }
    r = bring_up(daemon, path, text);
    if (r < 0) {
        if (daemon->log_fd >= 0) {
            daemon_log(daemon);
        }
        if (!quiet) {
            log_error("%s: cannot start %s: %s", front->source_given, path, text);
        }
        daemon_free(daemon);
        return r;
    }
    *ret = daemon;
    return 0;
}

void daemon_kill(DaemonProcess *daemon) {
    daemon->killed = true;
    if (daemon->pidfd >= 0) {
        (void)pidfd_send_signal(daemon->pidfd, SIGKILL, NULL, 0);
    }
}

void daemon_drain(DaemonProcess *daemon) {
    if (daemon->replier_started) {
        /* What it sent is taken; whoever else has its end of the channel does not hold us up. */
        transport_shutdown(daemon->transport);
        pthread_join(daemon->replier, NULL);
        daemon->replier_started = false;
    }
}

bool daemon_is_stopped(const DaemonProcess *daemon) {
    char path[64], line[512] = "", *after;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)daemon->pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    after = fgets(line, sizeof(line), file) != NULL ? strrchr(line, ')') : NULL;
    (void)fclose(file);
    return after != NULL && (after[2] == 'T' || after[2] == 't');
}

bool daemon_reap(DaemonProcess *daemon, int timeout_ms, int *ret_status) {
    struct pollfd fd = {.fd = daemon->pidfd, .events = POLLIN};
    int r;

    *ret_status = 0;
    if (daemon->pid <= 0) {
        return true;
    }
    do {
        r = poll(&fd, 1, timeout_ms);
    } while (r < 0 && errno == EINTR);
    if (r <= 0) {
        return false;
    }
    daemon_log(daemon);
    if (waitpid(daemon->pid, ret_status, 0) < 0) {
        *ret_status = STATUS_UNKNOWN; /* not our child */
    }
    daemon->pid = 0;
    return true;
}

void daemon_death_text(const DaemonProcess *daemon, int status, char text[160]) {
    if (daemon->stopped) {
        (void)snprintf(text, 160, "had been stopped by somebody and was ended");
    } else if (daemon->killed) {
        (void)snprintf(text, 160, "was ended because it hung or broke the protocol");
    } else if (status == STATUS_UNKNOWN) {
        (void)snprintf(text, 160, "ended");
    } else if (WIFSIGNALED(status)) {
        (void)snprintf(text, 160, "was ended by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    } else {
        (void)snprintf(text, 160, "exited with status %d", WEXITSTATUS(status));
    }
}

DaemonProcess *daemon_free(DaemonProcess *daemon) {
    int status;

    if (daemon == NULL) {
        return NULL;
    }
    attach_forget_daemon(daemon->front, daemon);
    if (daemon->pid > 0) {
        daemon_kill(daemon);
        (void)daemon_reap(daemon, -1, &status);
    }
    daemon_drain(daemon);
    base_closep(&daemon->pidfd);
    base_closep(&daemon->log_fd);
    base_closep(&daemon->fence_fd);
    base_closep(&daemon->image_fd);
    replies_done(daemon);
    transport_free(daemon->transport);
    free(daemon);
    return NULL;
}
