/* SPDX-License-Identifier: MIT */
/*
 * The service manager's notification socket, as sd_notify(3) documents it: newline-
 * separated assignments in one datagram to the address in NOTIFY_SOCKET. Everything is
 * set once, before there are threads; sending takes no lock. The socket's queue is
 * short (ten messages by default), so what must arrive waits for a busy manager; one that does
 * not listen at all holds up a mount once, for SEND_MS. Failures are not told.
 */
#include "manager.h"

#include "berth/options.h"
#include "berth/stats.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SEND_MS 5000
#define RETRY_NS UINT64_C(100000000)

static int notify_fd = -1;
static bool has_store;
static uint64_t watchdog_ns; /* half of what the manager allows; 0: no watchdog */
static _Atomic uint64_t alive_ns;

/* A path, or with '@' a name in the abstract namespace. */
static int notify_connect(const char *name) {
    const struct timeval patience = {.tv_sec = SEND_MS / 1000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    int fd;

    if ((name[0] != '/' && name[0] != '@') || length < 2 || length >= sizeof(address.sun_path)) {
        return -EINVAL;
    }
    memcpy(address.sun_path, name, length);
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
        connect(fd, (const struct sockaddr *)&address,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0) {
        int r = -errno;

        (void)close(fd);
        return r;
    }
    return fd;
}

void notify_init(void) {
    const char *name = getenv("NOTIFY_SOCKET"), *interval = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    uint64_t usec, wanted;

    if (name != NULL) {
        notify_fd = notify_connect(name);
        if (notify_fd < 0) {
            log_warning("NOTIFY_SOCKET=%s: %s", name, strerror(-notify_fd));
        }
    }
    if (notify_fd >= 0 && interval != NULL && parse_u64(interval, &usec) == 0 && usec > 0 &&
        usec <= UINT64_MAX / 1000 &&
        (pid == NULL || (parse_u64(pid, &wanted) == 0 && wanted == (uint64_t)getpid()))) {
        watchdog_ns = usec * 1000 / 2;
    }
    has_store = getenv("FDSTORE") != NULL || getenv("BERTH_FDSTORE") != NULL;
    (void)unsetenv("FDSTORE");
    (void)unsetenv("BERTH_FDSTORE");
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
}

bool notify_has_store(void) {
    return notify_fd >= 0 && has_store;
}

bool notify_active(void) {
    return notify_fd >= 0;
}

/* 0 or -errno. A manager that has not listened for SEND_MS is not waited for again until it does.
 */
static int notify_bytes(const char *text, size_t length, bool wait) {
    static _Atomic bool deaf;
    int flags = MSG_NOSIGNAL | (wait && !atomic_load(&deaf) ? 0 : MSG_DONTWAIT);
    int r = send(notify_fd, text, length, flags) < 0 ? -errno : 0;

    if (flags == MSG_NOSIGNAL || r == 0) {
        atomic_store(&deaf, r == -EAGAIN);
    }
    return r;
}

void notify_send(const char *fmt, ...) {
    char text[1024];
    va_list args;
    int length;

    if (notify_fd < 0) {
        return;
    }
    va_start(args, fmt);
    length = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (length > 0) {
        (void)notify_bytes(text, MIN((size_t)length, sizeof(text) - 1), true);
    }
}

void notify_status(const char *fmt, ...) {
    char text[1024] = "STATUS=";
    size_t head = strlen(text);
    va_list args;
    int length;

    if (notify_fd < 0) {
        return;
    }
    va_start(args, fmt);
    length = vsnprintf(text + head, sizeof(text) - head, fmt, args);
    va_end(args);
    if (length > 0) {
        (void)notify_bytes(text, MIN(head + (size_t)length, sizeof(text) - 1), false);
    }
}

int notify_send_fd(const char *text, int fd) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.space = {0}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *item = CMSG_FIRSTHDR(&message);

    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(item), &fd, sizeof(fd));
    return sendmsg(notify_fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int notify_alive_ms(void) {
    uint64_t now = clock_monotonic_ns(), due = atomic_load(&alive_ns) + watchdog_ns;

    if (watchdog_ns == 0) {
        return -1;
    }
    return due <= now ? 0 : (int)MIN(div_ceil(due - now, 1000000), (uint64_t)INT32_MAX);
}

void notify_alive(void) {
    uint64_t now = clock_monotonic_ns();

    if (watchdog_ns > 0 && notify_alive_ms() == 0) {
        static const char text[] = "WATCHDOG=1";
        int r = notify_bytes(text, strlen(text), false);

        /* What did not arrive is tried again soon. */
        atomic_store(&alive_ns, r < 0 ? now - watchdog_ns + MIN(watchdog_ns, RETRY_NS) : now);
    }
}
