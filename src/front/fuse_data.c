/* SPDX-License-Identifier: MIT */
/*
 * Operations on contents: READ, WRITE, FSYNC, FALLOCATE, LSEEK. Bytes above
 * FS_INLINE_MAX travel through the arena: a large WRITE stays where the kernel
 * put it, a middling one moves to a small slot so that the landing slot is free
 * for the next request; a READ's reply is written from the slot the daemon
 * filled.
 */
#include "private.h"

static void finish_read(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result < 0) {
        fuse_reply_err(pending->fuse, -response->result);
        return;
    }
    fuse_reply_buf(pending->fuse, (const char *)response->data, response->data_length);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    Front *front = fuse_req_userdata(req);
    Pending *pending;
    int r = 0;

    if (off < 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    pending = fuse_begin(req, FS_MSG_READ_FILE, ino, finish_read);
    pending->request.offset = (uint64_t)off;
    pending->request.length = (uint32_t)MIN(size, (size_t)FS_IO_MAX);
    if (pending->request.length > FS_INLINE_MAX) {
        r = pending_take_in(front, pending, pending->request.length);
    }
    if (r < 0) {
        fuse_abandon(front, pending, r);
        return;
    }
    pending_start(front, pending);
}

static void finish_write(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result < 0) {
        fuse_reply_err(pending->fuse, -response->result);
        return;
    }
    fuse_reply_write(pending->fuse, (size_t)response->result);
}

/* Puts the payload where the daemon finds it. */
static int place_payload(Front *front, Pending *pending, const char *buf, uint32_t size) {
    int r;

    if (size <= FS_INLINE_MAX || front->direct != NULL) {
        pending->request.payload = (const uint8_t *)buf;
        pending->request.payload_length = size;
        return 0;
    }
    if (size > ARENA_SMALL && (const uint8_t *)buf == front->landing.data) {
        pending->out = front->landing;
        pending->has_out = true;
        front->landing_taken = true;
        pending->request.flags |= FS_REQ_ARENA;
        pending->request.arena_offset = pending->out.offset;
        pending->request.arena_length = pending->out.length;
        return 0;
    }
    r = pending_take_out(front, pending, size);
    if (r == 0) {
        memcpy(pending->out.data, buf, size);
    }
    return r;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
              struct fuse_file_info *fi) {
    Front *front = fuse_req_userdata(req);
    Pending *pending;
    int r;

    if (off < 0 || size > FS_IO_MAX) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    pending = fuse_begin(req, FS_MSG_WRITE_FILE, ino, finish_write);
    pending->request.offset = (uint64_t)off;
    pending->request.length = (uint32_t)size;
    if (wire_write_kills_suid(front)) {
        pending->request.flags |= FS_REQ_KILL_SUIDGID;
    }
    r = place_payload(front, pending, buf, (uint32_t)size);
    if (r < 0) {
        fuse_abandon(front, pending, r);
        return;
    }
    pending_start(front, pending);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
    Pending *pending = fuse_begin(req, FS_MSG_FSYNC, ino, finish_error_only);

    pending->request.flags = datasync ? FS_REQ_DATASYNC : 0;
    pending_start(fuse_req_userdata(req), pending);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  struct fuse_file_info *fi) {
    Pending *pending;

    if (offset < 0 || length <= 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    pending = fuse_begin(req, FS_MSG_FALLOCATE, ino, finish_error_only);
    pending->request.offset = (uint64_t)offset;
    pending->request.length64 = (uint64_t)length;
    pending->request.mode = (uint32_t)mode;
    pending_start(fuse_req_userdata(req), pending);
}

static void finish_lseek(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result < 0) {
        fuse_reply_err(pending->fuse, -response->result);
        return;
    }
    fuse_reply_lseek(pending->fuse, (off_t)response->param1);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi) {
    Pending *pending;

    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if (off < 0) {
        fuse_reply_err(req, ENXIO);
        return;
    }
    pending = fuse_begin(req, FS_MSG_SEEK, ino, finish_lseek);
    pending->request.offset = (uint64_t)off;
    pending->request.mode = (uint32_t)whence;
    pending_start(fuse_req_userdata(req), pending);
}
