/* SPDX-License-Identifier: MIT */
/*
 * The receiver: reads requests from /dev/fuse. Each lands so that its header lies
 * in private memory, directly before an arena slot, and a WRITE's payload at the
 * start of the slot, where it may stay. Every other request is copied to private
 * memory before anything looks at it, with zeros behind it: no name or value can
 * run past its end, whatever its bytes.
 */
#include "private.h"

#include <linux/fuse.h>
#include <poll.h>

#define WRITE_HEADER (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define RECEIVE_MAX (WRITE_HEADER + FS_IO_MAX)
/* The largest value of a request that libfuse finds by its own count. */
#define SLACK (128u * 1024u)

static_assert(WRITE_HEADER == 80, "the arena's head room");

typedef struct Receiver {
    Front *front;
    uint8_t *copy; /* RECEIVE_MAX + SLACK, zero behind `used` */
    size_t used;
} Receiver;

static const void *copy_request(Receiver *receiver, const uint8_t *request, size_t length) {
    memcpy(receiver->copy, request, length);
    if (receiver->used > length) {
        memset(receiver->copy + length, 0, receiver->used - length);
    }
    receiver->used = length;
    return receiver->copy;
}

static void process(Receiver *receiver, size_t length) {
    Front *front = receiver->front;
    uint8_t *request = front->landing.data - WRITE_HEADER;
    struct fuse_buf buf = {.size = length, .mem = request};
    struct fuse_in_header header;

    memcpy(&header, request, sizeof(header));
    if (header.opcode != FUSE_WRITE) {
        buf.mem = (void *)copy_request(receiver, request, length);
    }
    wire_request(front, buf.mem, length);
    fuse_session_process_buf(front->session, &buf);
}

/* Waits in poll(2), not in read(2): a thread that is killed while it sleeps in read(2) still takes
 * the request that comes at the same moment, cannot have it any more, and the kernel answers it
 * with EIO, although a successor could serve it. */
static ssize_t read_request(Front *front) {
    struct pollfd request = {.fd = fuse_session_fd(front->session), .events = POLLIN};

    (void)poll(&request, 1, -1);
    return read(request.fd, front->landing.data - WRITE_HEADER, RECEIVE_MAX);
}

/* One request; false at the end of the mount. */
static bool receive_one(Receiver *receiver) {
    Front *front = receiver->front;
    ssize_t n = read_request(front);

    if (n < 0) {
        if (errno == ENODEV) {
            return false;
        }
        if (errno == EINTR || errno == EAGAIN || errno == ENOENT) {
            return true; /* ENOENT: the request was interrupted before it got here */
        }
        log_error("%s: reading /dev/fuse: %m", front->source_given);
        return false;
    }
    if ((size_t)n < sizeof(struct fuse_in_header)) {
        log_error("%s: short read of %zd bytes from /dev/fuse", front->source_given, n);
        return false;
    }
    process(receiver, (size_t)n);
    if (front->landing_taken) {
        front->landing_taken = false;
        if (arena_slot_get(front->arena_out, FS_IO_MAX, true, &front->landing) < 0) {
            log_error("%s: no memory for the next request", front->source_given);
            return false;
        }
    }
    return true;
}

void *receive_thread(void *arg) {
    Front *front = arg;
    _cleanup_free_ uint8_t *copy = calloc(1, RECEIVE_MAX + SLACK);
    Receiver receiver = {.front = front, .copy = copy};
    uint64_t one = 1;
    int r =
        copy == NULL ? -ENOMEM : arena_slot_get(front->arena_out, FS_IO_MAX, true, &front->landing);

    if (r < 0) {
        log_error("%s: no memory to receive requests in", front->source_given);
    } else {
        while (receive_one(&receiver)) {
        }
        arena_slot_put(front->arena_out, &front->landing);
    }
    if (write(front->stop_fd, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        log_error("%s: cannot tell that the mount has ended: %m", front->source_given);
    }
    return NULL;
}
