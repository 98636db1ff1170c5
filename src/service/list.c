/* SPDX-License-Identifier: MIT */
/*
 * LIST_DIR. The filesystem emits entries one by one and may suspend between
 * them, so they are collected in private memory; at the end, when the response
 * gets its number, the attributes of files in core are brought up to date, the
 * grants are noted, and all is copied to where the other side reads it. So an
 * entry's attributes are never older than the response's number says, and nothing
 * is ever read back from shared memory. An entry whose id may have gone meanwhile
 * (it is not in core, and something was evicted since) loses its attributes: then
 * nothing is granted, and the other side looks the name up when it needs it.
 *
 * Locks: the directory [S]; files listed are not locked (their attributes are
 * committed state, copied without suspending).
 */
#include "internal.h"

typedef struct ListEmit {
    FsDirEmit base;
    Operation *op;
    uint32_t capacity;
    bool full;
} ListEmit;

static int list_emit(FsDirEmit *base, const FsDirEntry *entry) {
    ListEmit *emit = container_of(base, ListEmit, base);
    Operation *op = emit->op;
    int r = fs_dirent_encode(entry, op->listing + op->listing_length,
                             emit->capacity - op->listing_length);

    if (r == -EMSGSIZE) {
        emit->full = true;
        return 1;
    }
    if (r >= 0) {
        op->listing_length += (uint32_t)r;
    }
    /* What cannot be told (a name that is no name, from a corrupt image) is left out. */
    return 0;
}

MAY_YIELD int service_list_dir(Operation *op) {
    ListEmit emit = {
        .base = {list_emit},
        .op = op,
        .capacity = MIN(op->request->length, service_capacity(op)),
    };
    int r;

    if (emit.capacity == 0) {
        return -EINVAL;
    }
    op->listing = malloc(emit.capacity);
    if (op->listing == NULL) {
        return -ENOMEM;
    }
    op->listing_steps = fs_inode_eviction_steps(op->fs);
    r = op->fs->type->ops->readdir(op->inode, op->request->offset, &emit.base);
    if (r < 0) {
        return r;
    }
    if (emit.full && op->listing_length == 0) {
        return -EINVAL; /* not even one entry fits */
    }
    service_answer_inode(op, service_ref(op->inode), false);
    op->response->flags |= emit.full ? 0 : FS_RESP_END;
    return 0;
}

void service_list_finish(Operation *op) {
    uint8_t *out = op->buffers->out;
    uint64_t number = op->response->number;
    bool granted = false;
    bool settled =
        op->listing_steps == fs_inode_eviction_steps(op->fs) && !fs_inode_evictions_pending(op->fs);

    for (uint32_t at = 0; at < op->listing_length;) {
        FsDirEntry entry;
        FsInode *inode;
        int length = fs_dirent_decode(op->listing + at, op->listing_length - at, &entry);

        if (length < 0) {
            op->listing_length = at; /* cannot be: it was encoded here */
            break;
        }
        inode = entry.has_attr ? fs_inode_peek(op->fs, entry.file_id) : NULL;
        if (inode != NULL) {
            fs_inode_grant(inode, number);
            entry.attr = inode->attr;
        } else if (!settled) {
            entry.has_attr = false;
        }
        granted = granted || entry.has_attr;
        if (fs_dirent_encode(&entry, out + at, op->listing_length - at) != length) {
            memcpy(out + at, op->listing + at, (size_t)length);
        }
        at += (uint32_t)length;
    }
    if (granted) {
        fs_inode_grant_absent(op->fs, number);
    }
    service_answer_data(op, op->listing_length);
}
