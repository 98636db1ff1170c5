/* SPDX-License-Identifier: MIT */
/*
 * The two ioctls that mean something to a FAT volume, as the kernel's own vfat
 * has them: get and set the attribute byte. They need no message of their own:
 * the byte is the extended attribute user.DOSATTRIB. Everything else, and these
 * on a volume that has no such attribute, is ENOTTY.
 */
#include "private.h"

#include "berth/options.h"
#include <linux/msdos_fs.h>
#include <stdio.h>

#define ATTRIBUTE_NAME "user.DOSATTRIB"
#define ATTRIBUTE_TEXT_MAX 16u

static const FsName attribute_name = {.text = ATTRIBUTE_NAME, .length = sizeof(ATTRIBUTE_NAME) - 1};

static int ioctl_error(int result) {
    bool absent = result == -ENODATA || result == -EOPNOTSUPP;

    return absent ? ENOTTY : -result;
}

static void finish_get(Front *front, Pending *pending, const FSResponse *response) {
    char text[ATTRIBUTE_TEXT_MAX + 1] = "";
    uint32_t bits = 0;

    if (response->result < 0) {
        fuse_reply_err(pending->fuse, ioctl_error(response->result));
        return;
    }
    if (response->data_length > 0) {
        memcpy(text, response->data, MIN(response->data_length, ATTRIBUTE_TEXT_MAX));
    }
    if (parse_u32(text, &bits) < 0 || bits > UINT8_MAX) {
        fuse_reply_err(pending->fuse, EIO);
        return;
    }
    fuse_reply_ioctl(pending->fuse, 0, &bits, sizeof(bits));
}

static void finish_set(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result < 0) {
        fuse_reply_err(pending->fuse, ioctl_error(response->result));
        return;
    }
    attributes_changed(front, pending->request.file_id);
    fuse_reply_ioctl(pending->fuse, 0, NULL, 0);
}

static void get_attributes(fuse_req_t req, fuse_ino_t ino) {
    Pending *pending = fuse_begin(req, FS_MSG_GET_XATTR, ino, finish_get);

    pending->request.name = attribute_name;
    pending->request.length = ATTRIBUTE_TEXT_MAX;
    pending_start(fuse_req_userdata(req), pending);
}

static void set_attributes(fuse_req_t req, fuse_ino_t ino, uint32_t bits) {
    Front *front = fuse_req_userdata(req);
    char text[ATTRIBUTE_TEXT_MAX];
    Pending *pending;
    FsAttr attr;

    /* The kernel checks no permission here; vfat wants the owner. */
    if (fuse_req_ctx(req)->uid != 0 &&
        !(nodes_attr_get(&front->nodes, ino, &attr) && attr.uid == fuse_req_ctx(req)->uid)) {
        fuse_reply_err(req, EPERM);
        return;
    }
    if (bits > UINT8_MAX) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    pending = fuse_begin(req, FS_MSG_SET_XATTR, ino, finish_set);
    pending->request.name = attribute_name;
    pending->request.length = (uint32_t)snprintf(text, sizeof(text), "0x%02x", bits);
    pending->request.payload = (const uint8_t *)text;
    pending->request.payload_length = pending->request.length;
    pending_start(front, pending); /* copies the payload into the message */
}

void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
              unsigned flags, const void *in, size_t in_size, size_t out_size) {
    uint32_t bits;

    if (cmd == (unsigned)FAT_IOCTL_GET_ATTRIBUTES && out_size >= sizeof(bits)) {
        get_attributes(req, ino);
    } else if (cmd == (unsigned)FAT_IOCTL_SET_ATTRIBUTES && in_size >= sizeof(bits)) {
        memcpy(&bits, in, sizeof(bits));
        set_attributes(req, ino, bits);
    } else {
        fuse_reply_err(req, ENOTTY);
    }
}
