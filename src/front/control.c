/* SPDX-License-Identifier: MIT */
/*
 * The control socket: where it lies, the server on its own thread, the client.
 *
 * Trust: the socket's directory belongs to the mount's owner and nobody else
 * may write there; the server hears only root and its own user, the client
 * hears only a server that runs as the mount's owner. Both sides bound what
 * they read and how long they wait, so a client that stalls delays the next
 * one by CONTROL_CLIENT_MS at most, and nothing else.
 *
 * Locks: none. The thread owns the listening socket and the connection; other
 * threads only write to stop_fd. The handler runs on the server's thread and
 * does its own locking. The kernel gives a device number to one mount at a
 * time, so a socket found under our name is a dead one's; on the way out only
 * our own is unlinked, since the number may have gone to a new mount already.
 */
#include "berth/control.h"

#include "berth/log.h"
#include "berth/stats.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#define CONTROL_COMMAND_MAX 256
#define CONTROL_REPLY_MAX (16u << 20)
#define CONTROL_CLIENT_MS 10000  /* the server's patience with one client's transfers */
#define CONTROL_QUERY_MS 10000   /* the client's patience with "status" and "stats" */
#define CONTROL_ACTION_MS 600000 /* and with commands that write to the medium */
#define CONTROL_DIRECTORIES 3

struct ControlServer {
    pthread_t thread;
    int listen_fd;
    int stop_fd;
    ControlHandler *handler;
    void *arg;
    struct sockaddr_un address;
    dev_t socket_device; /* identity of the socket file */
    ino_t socket_inode;
};

/* ---- where ---- */

/* The index-th place where `owner` may keep sockets, best first; false: no such place. */
static bool control_directory(uid_t owner, unsigned index, char *ret, size_t size) {
    const char *runtime = owner == geteuid() ? getenv("XDG_RUNTIME_DIR") : NULL;
    int length = -1;

    if (index == CONTROL_DIRECTORIES - 1) {
        length = snprintf(ret, size, "/tmp/berth-%u", owner);
    } else if (owner == 0) {
        length = index == 0 ? snprintf(ret, size, "/run/berth") : -1;
    } else if (index == 0) {
        length = runtime != NULL ? snprintf(ret, size, "%s/berth", runtime) : -1;
    } else {
        length = snprintf(ret, size, "/run/user/%u/berth", owner);
    }
    return length > 0 && (size_t)length < size && ret[0] == '/';
}

/* The owner's own, and nobody else can write there? */
static int control_directory_check(const char *path, uid_t owner) {
    struct stat status;

    if (lstat(path, &status) < 0) {
        return -errno;
    }
    if (!S_ISDIR(status.st_mode) || status.st_uid != owner || (status.st_mode & 022) != 0) {
        return -EPERM;
    }
    return 0;
}

static int control_address(const char *directory, dev_t device, struct sockaddr_un *ret) {
    int length;

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    length = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%u:%u.sock", directory,
                      major(device), minor(device));
    return length < 0 || (size_t)length >= sizeof(ret->sun_path) ? -ENAMETOOLONG : 0;
}

/* ---- transfers with a deadline ---- */

/* Milliseconds left, rounded up, 0 when over. */
static int control_time_left(uint64_t deadline) {
    uint64_t now = clock_monotonic_ns();

    return now >= deadline ? 0 : (int)div_ceil(deadline - now, 1000000);
}

/* 0 when fd is ready, -ETIMEDOUT, -ECANCELED when stop_fd (may be -1) became readable. */
static int control_wait(int fd, short events, int stop_fd, uint64_t deadline) {
    for (;;) {
        struct pollfd polled[2] = {{.fd = fd, .events = events}, {.fd = stop_fd, .events = POLLIN}};
        int r = poll(polled, 2, control_time_left(deadline));

        if (r < 0 && errno != EINTR) {
            return -errno;
        }
        if (r == 0) {
            return -ETIMEDOUT;
        }
        if (r > 0 && polled[1].revents != 0) {
            return -ECANCELED;
        }
        if (r > 0) {
            return 0;
        }
    }
}

static int control_send_all(int fd, const char *bytes, size_t length, int stop_fd,
                            uint64_t deadline) {
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent >= 0) {
            bytes += sent;
            length -= (size_t)sent;
        } else if (errno == EAGAIN) {
            int r = control_wait(fd, POLLOUT, stop_fd, deadline);

            if (r < 0) {
                return r;
            }
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* Bytes received, 0 at end of file, -errno. */
static ssize_t control_receive(int fd, char *buffer, size_t size, int stop_fd, uint64_t deadline) {
    for (;;) {
        ssize_t got = recv(fd, buffer, size, MSG_DONTWAIT);

        if (got >= 0) {
            return got;
        }
        if (errno == EAGAIN) {
            int r = control_wait(fd, POLLIN, stop_fd, deadline);

            if (r < 0) {
                return r;
            }
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

/* ---- server ---- */

static int control_read_command(int fd, int stop_fd, uint64_t deadline,
                                char command[CONTROL_COMMAND_MAX]) {
    size_t length = 0;

    while (length < CONTROL_COMMAND_MAX) {
        ssize_t got =
            control_receive(fd, command + length, CONTROL_COMMAND_MAX - length, stop_fd, deadline);
        char *end;

        if (got <= 0) {
            return got == 0 ? -EPIPE : (int)got;
        }
        end = memchr(command + length, '\n', (size_t)got);
        if (end != NULL) {
            *end = '\0';
            return 0;
        }
        length += (size_t)got;
    }
    return -EMSGSIZE;
}

static bool control_peer_is(int fd, uid_t wanted, bool or_root) {
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) {
        return false;
    }
    return peer.uid == wanted || (or_root && peer.uid == 0);
}

/* The answer's first line for a failed command; text may be anything, only its first line counts.
 */
static void control_put_error(Text *answer, int error, const char *text) {
    text_printf(answer, "error %d %.*s\n", -error, (int)strcspn(text, "\n"), text);
}

static void control_serve_client(ControlServer *server, int fd) {
    uint64_t patience = CONTROL_CLIENT_MS * UINT64_C(1000000);
    char command[CONTROL_COMMAND_MAX];
    Text reply = {0}, answer = {0};
    int r = control_read_command(fd, server->stop_fd, clock_monotonic_ns() + patience, command);

    if (r == -EMSGSIZE) {
        control_put_error(&answer, -EINVAL, "the command is too long");
    } else if (r < 0) {
        return;
    } else if (!control_peer_is(fd, geteuid(), true)) {
        control_put_error(&answer, -EPERM, "only the mount's owner and root may ask");
    } else {
        r = server->handler(server->arg, command, &reply);
        if (r == 0 && reply.failed) {
            r = -ENOMEM;
        }
        if (r < 0) {
            control_put_error(&answer, r, reply.length > 0 ? text_string(&reply) : strerror(-r));
        } else {
            text_printf(&answer, "ok\n");
            text_append(&answer, text_string(&reply), reply.length);
        }
    }
    if (!answer.failed) {
        (void)control_send_all(fd, answer.data, answer.length, server->stop_fd,
                               clock_monotonic_ns() + patience);
    }
    text_done(&reply);
    text_done(&answer);
}

static void *control_thread(void *arg) {
    ControlServer *server = arg;

    for (;;) {
        struct pollfd polled[2] = {{.fd = server->listen_fd, .events = POLLIN},
                                   {.fd = server->stop_fd, .events = POLLIN}};
        int client;

        if (poll(polled, 2, -1) < 0 && errno != EINTR) {
            log_error("control socket: poll: %s", strerror(errno));
            return NULL;
        }
        if (polled[1].revents != 0) {
            return NULL;
        }
        client = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0) {
            control_serve_client(server, client);
            (void)close(client);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
            (void)poll(&polled[1], 1, 100); /* the waiting client would make us spin */
        }
    }
}

/* Binds in the first usable directory. */
static int control_server_bind(ControlServer *server, dev_t device) {
    int result = -ENOENT;

    for (unsigned i = 0; i < CONTROL_DIRECTORIES; i++) {
        char directory[sizeof(server->address.sun_path)];
        struct stat status;
        int r;

        if (!control_directory(geteuid(), i, directory, sizeof(directory))) {
            continue;
        }
        (void)mkdir(directory, 0700); /* it may be there; the check decides */
        r = control_directory_check(directory, geteuid());
        if (r == 0) {
            r = control_address(directory, device, &server->address);
        }
        if (r == 0) {
            (void)unlink(server->address.sun_path);
            if (bind(server->listen_fd, (const struct sockaddr *)&server->address,
                     sizeof(server->address)) < 0 ||
                lstat(server->address.sun_path, &status) < 0) {
                r = -errno;
            }
        }
        if (r == 0) {
            (void)chmod(server->address.sun_path, 0600);
            server->socket_device = status.st_dev;
            server->socket_inode = status.st_ino;
            return 0;
        }
        result = r;
    }
    return result;
}

static void control_server_unlink(const ControlServer *server) {
    struct stat status;

    if (server->socket_inode != 0 && lstat(server->address.sun_path, &status) == 0 &&
        status.st_ino == server->socket_inode && status.st_dev == server->socket_device) {
        (void)unlink(server->address.sun_path);
    }
}

static void control_server_release(ControlServer *server) {
    control_server_unlink(server);
    if (server->listen_fd >= 0) {
        (void)close(server->listen_fd);
    }
    if (server->stop_fd >= 0) {
        (void)close(server->stop_fd);
    }
    free(server);
}

/* The front-end's other threads handle signals: this one must not be picked for them. */
static int control_server_start(ControlServer *server) {
    sigset_t all, old;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&server->thread, NULL, control_thread, server);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}

int control_server_new(dev_t device, ControlHandler *handler, void *arg, ControlServer **ret) {
    ControlServer *server = calloc(1, sizeof(*server));
    int r = 0;

    if (server == NULL) {
        return -ENOMEM;
    }
    server->handler = handler;
    server->arg = arg;
    server->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->listen_fd < 0 || server->stop_fd < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = control_server_bind(server, device);
    }
    if (r == 0 && listen(server->listen_fd, 16) < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = control_server_start(server);
    }
    if (r < 0) {
        control_server_release(server);
        return r;
    }
    *ret = server;
    return 0;
}

ControlServer *control_server_free(ControlServer *server) {
    if (server != NULL) {
        uint64_t one = 1;
        ssize_t written = write(server->stop_fd, &one, sizeof(one));

        assert(written == (ssize_t)sizeof(one));
        (void)written;
        (void)pthread_join(server->thread, NULL);
        control_server_release(server);
    }
    return NULL;
}

/* ---- client ---- */

static int control_connect(const struct sockaddr_un *address, uint64_t deadline) {
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -errno;
    }
    while (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            return -errno;
        }
        if (control_time_left(deadline) == 0) {
            return -ETIMEDOUT;
        }
        (void)poll(NULL, 0, 20); /* its queue is full; there is nothing to wait on */
    }
    return steal_fd(&fd);
}

/* A connection to the owner's server for this device. */
static int control_open(dev_t device, uid_t owner, uint64_t deadline) {
    int result = -ENOENT;

    for (unsigned i = 0; i < CONTROL_DIRECTORIES; i++) {
        struct sockaddr_un address;
        char directory[sizeof(address.sun_path)];
        int r;

        if (!control_directory(owner, i, directory, sizeof(directory))) {
            continue;
        }
        r = control_directory_check(directory, owner);
        if (r == 0) {
            r = control_address(directory, device, &address);
        }
        if (r == 0) {
            r = control_connect(&address, deadline);
        }
        if (r >= 0 && !control_peer_is(r, owner, false)) {
            (void)close(r);
            r = -EPERM;
        }
        if (r >= 0) {
            return r;
        }
        if (r != -ENOENT && r != -ENAMETOOLONG) {
            result = r; /* worth telling, should no other place answer */
        }
    }
    return result;
}

/* Splits "ok\nBODY" or "error ERRNO TEXT\n"; the useful part is appended to *reply. */
static int control_take_answer(const Text *answer, Text *reply) {
    const char *text = text_string(answer);
    const char *end = memchr(text, '\n', answer->length);
    int error = 0, at = 0;

    if (answer->failed) {
        return -ENOMEM;
    }
    if (end == NULL) {
        return -EPROTO;
    }
    if (end - text == 2 && memcmp(text, "ok", 2) == 0) {
        text_append(reply, end + 1, answer->length - 3);
        return reply->failed ? -ENOMEM : 0;
    }
    if (sscanf(text, "error %4d %n", &error, &at) != 1 || error <= 0 || error > 4095 || at == 0) {
        return -EPROTO;
    }
    if (end > text + at) {
        text_append(reply, text + at, (size_t)(end - text - at));
    }
    return -error;
}

int control_call(dev_t device, uid_t owner, const char *command, Text *reply) {
    return control_call_within(device, owner, command, 0, reply);
}

int control_call_within(dev_t device, uid_t owner, const char *command, unsigned patience_ms,
                        Text *reply) {
    bool query = strcmp(command, "status") == 0 || strcmp(command, "stats") == 0;
    uint64_t usual = query ? CONTROL_QUERY_MS : CONTROL_ACTION_MS;
    uint64_t patience = patience_ms > 0 ? patience_ms : usual;
    uint64_t deadline = clock_monotonic_ns() + patience * 1000000;
    _cleanup_close_ int fd = -1;
    char line[CONTROL_COMMAND_MAX + 1], block[1024];
    Text answer = {0};
    int length = snprintf(line, sizeof(line), "%s\n", command);
    ssize_t got;
    int r;

    if (length < 0 || length > CONTROL_COMMAND_MAX || strchr(command, '\n') != NULL) {
        return -EINVAL;
    }
    fd = control_open(device, owner, deadline);
    if (fd < 0) {
        return fd;
    }
    r = control_send_all(fd, line, (size_t)length, -1, deadline);
    if (r < 0) {
        return r;
    }
    do {
        got = control_receive(fd, block, sizeof(block), -1, deadline);
        if (got > 0) {
            text_append(&answer, block, (size_t)got);
        }
    } while (got > 0 && answer.length <= CONTROL_REPLY_MAX);
    if (got < 0) {
        r = (int)got;
    } else {
        r = got > 0 ? -EPROTO : control_take_answer(&answer, reply);
    }
    text_done(&answer);
    return r;
}
