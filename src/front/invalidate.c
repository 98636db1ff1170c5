/* SPDX-License-Identifier: MIT */
/*
 * Revoking what the kernel remembers of names. The epoch notification (Linux
 * 6.16) makes every cached name be looked up again; it is one write without
 * waiting, so it can come before the reply to the change that made a name stale.
 * Where the kernel lacks it, names of case-folding volumes are never cached
 * (entry_timeout()), because the other notification must come after the reply.
 * Attributes are revoked by inode, which takes no lock that a request may hold.
 */
#include "private.h"

#include <linux/fuse.h>

#define NOTIFY_INC_EPOCH 8 /* FUSE_NOTIFY_INC_EPOCH, newer than the build machine's headers */

void invalidate_names(Front *front) {
    struct fuse_out_header header = {.len = sizeof(header), .error = NOTIFY_INC_EPOCH};
    ssize_t n;

    if (!front->inc_epoch || front->session == NULL) {
        return;
    }
    n = write(fuse_session_fd(front->session), &header, sizeof(header));
    if (n != (ssize_t)sizeof(header) && errno == EINVAL) {
        log_warning("%s: the kernel refuses to forget names; other spellings of renamed or deleted "
                    "files may linger",
                    front->source_given);
        front->inc_epoch = false;
    }
}

void attributes_changed(Front *front, uint64_t file_id) {
    nodes_attr_drop(&front->nodes, file_id);
    if (front->session != NULL) {
        /* A negative offset: attributes only. The kernel may have forgotten it by now. */
        (void)fuse_lowlevel_notify_inval_inode(front->session, file_id, -1, 0);
    }
}
