/* SPDX-License-Identifier: MIT */
/*
 * What libfuse 3.14 keeps to itself of the kernel's requests and replies:
 *   - the flags of a WRITE;
 *   - FUSE_HANDLE_KILLPRIV_V2, which it cannot ask for. Without it the kernel
 *     asks for security.capability at every write(2), with it once per inode.
 *     Clearing suid and sgid is ours then: WRITE and SETATTR say so and pass it on
 *     to the daemon, which does it (a format with such bits does it in fallocate
 *     as well, where the kernel says nothing);
 *   - which operations came, for the statistics.
 * Requests are seen here before libfuse gets them, in private memory; the reply to
 * INIT is changed on its way out.
 *
 * The fields are the receiver thread's, but for the counters.
 */
#include "private.h"

#include <linux/fuse.h>
#include <sys/uio.h>

#define INIT_IN_LEAST offsetof(struct fuse_init_in, flags2)

static const char *const opcode_names[WIRE_OPCODES] = {
    [FUSE_LOOKUP] = "LOOKUP",
    [FUSE_FORGET] = "FORGET",
    [FUSE_GETATTR] = "GETATTR",
    [FUSE_SETATTR] = "SETATTR",
    [FUSE_READLINK] = "READLINK",
    [FUSE_SYMLINK] = "SYMLINK",
    [FUSE_MKNOD] = "MKNOD",
    [FUSE_MKDIR] = "MKDIR",
    [FUSE_UNLINK] = "UNLINK",
    [FUSE_RMDIR] = "RMDIR",
    [FUSE_RENAME] = "RENAME",
    [FUSE_LINK] = "LINK",
    [FUSE_OPEN] = "OPEN",
    [FUSE_READ] = "READ",
    [FUSE_WRITE] = "WRITE",
    [FUSE_STATFS] = "STATFS",
    [FUSE_RELEASE] = "RELEASE",
    [FUSE_FSYNC] = "FSYNC",
    [FUSE_SETXATTR] = "SETXATTR",
    [FUSE_GETXATTR] = "GETXATTR",
    [FUSE_LISTXATTR] = "LISTXATTR",
    [FUSE_REMOVEXATTR] = "REMOVEXATTR",
    [FUSE_FLUSH] = "FLUSH",
    [FUSE_INIT] = "INIT",
    [FUSE_OPENDIR] = "OPENDIR",
    [FUSE_READDIR] = "READDIR",
    [FUSE_RELEASEDIR] = "RELEASEDIR",
    [FUSE_FSYNCDIR] = "FSYNCDIR",
    [FUSE_ACCESS] = "ACCESS",
    [FUSE_CREATE] = "CREATE",
    [FUSE_INTERRUPT] = "INTERRUPT",
    [FUSE_DESTROY] = "DESTROY",
    [FUSE_IOCTL] = "IOCTL",
    [FUSE_FALLOCATE] = "FALLOCATE",
    [FUSE_READDIRPLUS] = "READDIRPLUS",
    [FUSE_RENAME2] = "RENAME2",
    [FUSE_LSEEK] = "LSEEK",
    [FUSE_COPY_FILE_RANGE] = "COPY_FILE_RANGE",
    [FUSE_BATCH_FORGET] = "BATCH_FORGET",
};

/* A front-end that comes after us hears it from us: the kernel says it once. */
static void keep_init(Front *front, const void *request, size_t length) {
    KeepsakeHeader *keepsake = front->keepsake.header;

    if (keepsake != NULL && length <= sizeof(keepsake->init)) {
        memcpy(keepsake->init, request, length);
        keepsake->init_length = (uint32_t)length;
    }
}

/* The kernel's number for the request at hand; one that is sent again has it with the top bit set.
 */
#define UNIQUE_RESENT (UINT64_C(1) << 63)

uint64_t wire_unique(const Front *front) {
    return front->wire.unique & ~UNIQUE_RESENT;
}

bool wire_is_resent(const Front *front) {
    return (front->wire.unique & UNIQUE_RESENT) != 0;
}

void wire_request(Front *front, const void *request, size_t length) {
    Wire *wire = &front->wire;
    const uint8_t *body = (const uint8_t *)request + sizeof(struct fuse_in_header);
    struct fuse_in_header header;
    struct fuse_write_in write_in;

    memcpy(&header, request, sizeof(header));
    length -= sizeof(header);
    atomic_fetch_add(&wire->count[MIN(header.opcode, WIRE_OPCODES - 1)], 1);
    wire->unique = header.unique;
    wire->write_flags = 0;
    if (header.opcode == FUSE_WRITE && length >= sizeof(write_in)) {
        memcpy(&write_in, body, sizeof(write_in));
        wire->write_flags = write_in.write_flags;
    }
    if (header.opcode == FUSE_INIT && length >= INIT_IN_LEAST) {
        struct fuse_init_in init = {0};

        memcpy(&init, body, INIT_IN_LEAST);
        wire->init_unique = header.unique;
        keep_init(front, request, length + sizeof(header));
        wire->kill_priv = (init.flags & FUSE_HANDLE_KILLPRIV_V2) != 0;
    }
}

bool wire_write_kills_suid(const Front *front) {
    return (front->wire.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
}

/* The reply to INIT, with what we want beside. libfuse's own copy stays as it is. */
static ssize_t write_init_reply(int fd, struct iovec *iov, int count, size_t flags_at) {
    uint8_t reply[sizeof(struct fuse_out_header) + sizeof(struct fuse_init_out)];
    size_t length = 0;
    uint32_t flags;

    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > sizeof(reply) - length) {
            return writev(fd, iov, count);
        }
        memcpy(reply + length, iov[i].iov_base, iov[i].iov_len);
        length += iov[i].iov_len;
    }
    if (length >= flags_at + sizeof(flags)) {
        memcpy(&flags, reply + flags_at, sizeof(flags));
        flags |= FUSE_HANDLE_KILLPRIV_V2;
        memcpy(reply + flags_at, &flags, sizeof(flags));
    }
    return write(fd, reply, length);
}

static ssize_t wire_writev(int fd, struct iovec *iov, int count, void *userdata) {
    Front *front = userdata;
    struct fuse_out_header header;

    if ((!front->wire.kill_priv && !front->wire.replaying) || count < 2 ||
        iov[0].iov_len != sizeof(header)) {
        return writev(fd, iov, count);
    }
    memcpy(&header, iov[0].iov_base, sizeof(header));
    if (front->wire.replaying && header.unique == front->wire.init_unique) {
        size_t length = 0; /* the kernel has its answer since the first front-end */

        for (int i = 0; i < count; i++) {
            length += iov[i].iov_len;
        }
        front->wire.replaying = false;
        return (ssize_t)length;
    }
    if (header.unique != front->wire.init_unique || header.error != 0) {
        return writev(fd, iov, count);
    }
    return write_init_reply(fd, iov, count, sizeof(header) + offsetof(struct fuse_init_out, flags));
}

/* Never called: the receiver reads by itself (receive.c). */
static ssize_t wire_read(int fd, void *buf, size_t length, void *userdata) {
    return read(fd, buf, length);
}

int wire_attach(Front *front, int fd) {
    static const struct fuse_custom_io io = {.writev = wire_writev, .read = wire_read};

    return fuse_session_custom_io(front->session, &io, fd) == 0 ? 0 : -EINVAL;
}

void wire_stats_json(Front *front, Json *json) {
    const NodesStats stats = nodes_stats(&front->nodes);
    uint64_t other = 0;

    json_begin_object(json, NULL);
    json_u64(json, "nodes", stats.nodes);
    json_u64(json, "names", stats.names);
    json_u64(json, "lookups_answered", stats.answers);
    json_u64(json, "getattrs_answered", atomic_load(&front->wire.getattrs_answered));
    json_begin_object(json, "requests");
    for (unsigned i = 0; i < WIRE_OPCODES; i++) {
        uint64_t count = atomic_load(&front->wire.count[i]);

        if (opcode_names[i] == NULL) {
            other += count;
        } else if (count > 0) {
            json_u64(json, opcode_names[i], count);
        }
    }
    if (other > 0) {
        json_u64(json, "other", other);
    }
    json_end_object(json);
    json_end_object(json);
}

int wire_replay_init(Front *front) {
    const KeepsakeHeader *keepsake = front->keepsake.header;
    uint8_t request[KEEPSAKE_INIT_MAX] = {0};
    struct fuse_buf buf = {.size = keepsake->init_length, .mem = request};

    if (keepsake->init_length < sizeof(struct fuse_in_header) + INIT_IN_LEAST) {
        return -EPROTO;
    }
    memcpy(request, keepsake->init, keepsake->init_length);
    front->wire.replaying = true;
    wire_request(front, request, keepsake->init_length);
    fuse_session_process_buf(front->session, &buf);
    return front->wire.replaying ? -EPROTO : 0;
}
