/* SPDX-License-Identifier: MIT */
/*
 * Daemons that a service manager starts, one for each connection to their unit's
 * socket (Accept=yes; the connection is the daemon's descriptor 3). What the
 * front-end hands over is an open image, so whoever listens must be root or
 * ourselves; and to notice a daemon's death and to end it, its process has to be
 * known. A connected socket only has the listener's credentials: the daemon's come
 * with what it sends.
 */
#include "manager.h"

#include "berth/stats.h"

#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>

int activate_connect(const char *path, int *ret_fd) {
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int on = 1;
    struct ucred listener;
    socklen_t length = sizeof(listener);

    if (fd < 0) {
        return -errno;
    }
    if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
        sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    /* Messages carry their sender's credentials only if this is set before they are sent. */
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &length) < 0) {
        return -errno;
    }
    if (listener.uid != 0 && listener.uid != geteuid()) {
        return -EPERM;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* The credentials of the first message that waits; it stays there. 0: end of file. */
static int peek_sender(int fd, struct ucred *ret) {
    char byte;
    union {
        char space[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (got <= 0) {
        return got == 0 ? 0 : -errno;
    }
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item != NULL;
         item = CMSG_NXTHDR(&message, item)) {
        if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_CREDENTIALS &&
            item->cmsg_len == CMSG_LEN(sizeof(*ret))) {
            memcpy(ret, CMSG_DATA(item), sizeof(*ret));
            return 1;
        }
    }
    return -EPROTO;
}

static int wait_readable(int fd, int timeout_ms) {
    uint64_t due = clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    int r;

    do {
        uint64_t now = clock_monotonic_ns();

        r = poll(&polled, 1, now < due ? (int)div_ceil(due - now, 1000000) : 0);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

int activate_peer(int fd, int timeout_ms, pid_t *ret_pid, int *ret_pidfd) {
    const int off = 0;
    struct pollfd polled = {.fd = fd, .events = 0};
    struct ucred sender = {0};
    int r = wait_readable(fd, timeout_ms), pidfd;

    if (r == 0) {
        r = peek_sender(fd, &sender);
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off));
    if (r <= 0) {
        return r == 0 ? -EPIPE : r;
    }
    if (sender.pid <= 1) {
        return -EPROTO; /* in a process namespace that we do not see */
    }
    pidfd = pidfd_open(sender.pid, 0);
    if (pidfd < 0) {
        return errno == ESRCH ? -EPIPE : -errno;
    }
    /* Its end of the connection is still open: so it lives, and the number is not another's. */
    if (poll(&polled, 1, 0) < 0 || (polled.revents & (POLLHUP | POLLERR)) != 0) {
        (void)close(pidfd);
        return -EPIPE;
    }
    *ret_pid = sender.pid;
    *ret_pidfd = pidfd;
    return 0;
}
