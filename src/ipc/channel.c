/* SPDX-License-Identifier: MIT */
/*
 * Channels over SOCK_SEQPACKET. The kernel keeps packets whole and in order, and
 * its send buffer is the bounded queue, so a channel has no state but its
 * descriptor: no lock, and any number of threads may send and receive. The
 * descriptor stays blocking; the try forms pass MSG_DONTWAIT.
 *
 * What a peer sends beyond the room given (bytes or descriptors) is dropped or
 * closed, never installed, and the message is refused.
 */
#include "berth/channel.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* Doubled by the kernel: room for 256 requests with an inline payload each, as it accounts them (a
 * packet of 4 KiB and a header costs about twice its size). */
#define QUEUE_BYTES (2 * 1024 * 1024)
#define FDS_MAX 16

struct Channel {
    int fd;
};

/* A Unix socket's queue is bounded by the sender's buffer alone. Best effort: a smaller one only
 * means that the sender waits sooner. */
static void set_queue(int fd) {
    int bytes = QUEUE_BYTES;

    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    }
}

static int check_socket(int fd) {
    int type = 0, domain = 0;
    socklen_t length = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0) {
        return -errno;
    }
    length = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0) {
        return -errno;
    }
    return type == SOCK_SEQPACKET && domain == AF_UNIX ? 0 : -EPROTOTYPE;
}

static int prepare_socket(int fd) {
    int flags, r;

    r = check_socket(fd);
    if (r < 0) {
        return r;
    }
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return -errno;
    }
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
        return -errno;
    }
    set_queue(fd);
    return 0;
}

int channel_new(int fd, Channel **ret) {
    _cleanup_close_ int owned = fd;
    Channel *channel;
    int r;

    r = prepare_socket(owned);
    if (r < 0) {
        return r;
    }
    channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return -ENOMEM;
    }
    channel->fd = steal_fd(&owned);
    *ret = channel;
    return 0;
}

int channel_pair(Channel **ret, int *ret_peer_fd) {
    _cleanup_close_ int peer = -1;
    int fds[2], r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        return -errno;
    }
    peer = fds[1];
    r = channel_new(fds[0], ret);
    if (r < 0) {
        return r;
    }
    *ret_peer_fd = steal_fd(&peer);
    return 0;
}

Channel *channel_free(Channel *channel) {
    if (channel != NULL) {
        (void)close(channel->fd);
        free(channel);
    }
    return NULL;
}

int channel_fd(const Channel *channel) {
    return channel->fd;
}

void channel_shutdown(Channel *channel) {
    (void)shutdown(channel->fd, SHUT_RDWR);
}

/* ---- sending ---- */

static int send_message(Channel *channel, const struct msghdr *message, bool wait) {
    int flags = MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT);

    for (;;) {
        if (sendmsg(channel->fd, message, flags) >= 0) {
            return 0; /* a packet goes as a whole */
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno == ECONNRESET || errno == ENOTCONN || errno == ECONNREFUSED) {
            return -EPIPE;
        }
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

int channel_send2(Channel *channel, const void *head, size_t head_length, const void *body,
                  size_t body_length, bool wait) {
    struct iovec parts[2] = {
        {.iov_base = (void *)head, .iov_len = head_length},
        {.iov_base = (void *)body, .iov_len = body_length},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = body_length > 0 ? 2 : 1};

    /* An empty packet would look like the end of file to the receiver. */
    assert(head_length > 0);
    if (head_length > FS_MESSAGE_MAX || body_length > FS_MESSAGE_MAX - head_length) {
        return -EMSGSIZE;
    }
    return send_message(channel, &message, wait);
}

int channel_send(Channel *channel, const void *message, size_t length) {
    return channel_send2(channel, message, length, NULL, 0, true);
}

int channel_try_send(Channel *channel, const void *message, size_t length) {
    return channel_send2(channel, message, length, NULL, 0, false);
}

int channel_send_fds(Channel *channel, const void *message, size_t length, const int *fds,
                     unsigned count) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)message, .iov_len = length};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};

    assert(length > 0 && count <= FDS_MAX);
    if (length > FS_MESSAGE_MAX) {
        return -EMSGSIZE;
    }
    if (count > 0) {
        struct cmsghdr *rights = &control.align;

        packet.msg_control = control.bytes;
        packet.msg_controllen = CMSG_SPACE(count * sizeof(int));
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
    }
    return send_message(channel, &packet, true);
}

/* ---- receiving ---- */

/* Bytes, 0 at end of file, negative errno; message->msg_flags is the caller's to look at. */
static int receive_message(Channel *channel, struct msghdr *message, bool wait) {
    size_t control_length = message->msg_controllen;

    for (;;) {
        ssize_t n;

        message->msg_controllen = control_length;
        n = recvmsg(channel->fd, message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
        if (n >= 0) {
            assert(n <= INT32_MAX);
            return (int)n;
        }
        /* The peer closed with messages of ours unread: reported once, before what it had sent.
         * That, and then the end of file, is still to be read. */
        if (errno == EINTR || errno == ECONNRESET) {
            continue;
        }
        if (errno == ENOTCONN) {
            return 0;
        }
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

/* Without room for control data the kernel drops unasked descriptors and says MSG_CTRUNC. */
static int receive_plain(Channel *channel, void *buf, size_t capacity, bool wait) {
    struct iovec part = {.iov_base = buf, .iov_len = capacity};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int n = receive_message(channel, &message, wait);

    if (n < 0) {
        return n;
    }
    return message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EPROTO : n;
}

int channel_receive(Channel *channel, void *buf, size_t capacity) {
    return receive_plain(channel, buf, capacity, true);
}

int channel_try_receive(Channel *channel, void *buf, size_t capacity) {
    return receive_plain(channel, buf, capacity, false);
}

static int64_t now_ms(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until there is something to read (or an end): 0 or -ETIMEDOUT. deadline_ms < 0: for ever. */
static int wait_readable(Channel *channel, int64_t deadline_ms) {
    struct pollfd waited = {.fd = channel->fd, .events = POLLIN};

    for (;;) {
        int64_t left = deadline_ms < 0 ? -1 : MAX(deadline_ms - now_ms(), (int64_t)0);
        int n = poll(&waited, 1, (int)MIN(left, (int64_t)INT32_MAX));

        if (n > 0) {
            return 0;
        }
        if (n == 0 && left == 0) {
            return -ETIMEDOUT;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
    }
}

/* All descriptors that arrived, at most FDS_MAX by the size of the control buffer. */
static unsigned collect_fds(struct msghdr *message, int fds[FDS_MAX]) {
    unsigned count = 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        size_t bytes;

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        bytes = part->cmsg_len - CMSG_LEN(0);
        assert(count + bytes / sizeof(int) <= FDS_MAX);
        memcpy(fds + count, CMSG_DATA(part), bytes);
        count += (unsigned)(bytes / sizeof(int));
    }
    return count;
}

int channel_receive_fds(Channel *channel, void *buf, size_t buf_capacity, int *fds,
                        unsigned capacity, unsigned *ret_count, int timeout_ms) {
    int64_t deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = buf, .iov_len = buf_capacity};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes};
    int got[FDS_MAX], n, r;
    unsigned count;

    assert(capacity <= FDS_MAX);
    do {
        r = wait_readable(channel, deadline);
        if (r < 0) {
            return r;
        }
        message.msg_controllen = sizeof(control.bytes);
        n = receive_message(channel, &message, false);
    } while (n == -EAGAIN); /* another thread took it */
    if (n < 0) {
        return n;
    }
    count = collect_fds(&message, got);
    if (count > capacity || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        for (unsigned i = 0; i < count; i++) {
            (void)close(got[i]);
        }
        return -EPROTO;
    }
    if (count > 0) {
        memcpy(fds, got, count * sizeof(int));
    }
    *ret_count = count;
    return n;
}
