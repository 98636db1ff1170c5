/* SPDX-License-Identifier: MIT */
/*
 * The table of FUSE operations and what their halves share. Each operation has a
 * start half, which runs on the receiver thread and builds an FSRequest, and a
 * finish half, which turns the FSResponse into the kernel's reply; they stand
 * side by side in fuse_names.c, fuse_list.c, fuse_data.c, fuse_attr.c and
 * fuse_xattr.c. Operations that need nobody's help are answered here.
 */
#include "private.h"

#include <stdio.h>
#include <sys/stat.h>

/* May it need, or tell of, space that an unlinked file still occupies? */
static bool wants_space(FSMessageType type) {
    switch ((unsigned)type) {
    case FS_MSG_READ_FILE:
    case FS_MSG_LIST_DIR:
    case FS_MSG_LOOKUP:
    case FS_MSG_DELETE_FILE:
    case FS_MSG_GET_ATTR:
    case FS_MSG_SET_ATTR: /* op_setattr() sees to its size */
    case FS_MSG_READ_LINK:
    case FS_MSG_GET_XATTR:
    case FS_MSG_LIST_XATTR:
    case FS_MSG_SEEK:
        return false;
    default:
        return true;
    }
}

Pending *fuse_begin(fuse_req_t req, FSMessageType type, fuse_ino_t ino, PendingFinish *finish) {
    Front *front = fuse_req_userdata(req);
    const struct fuse_ctx *caller = fuse_req_ctx(req);
    Pending *pending;

    if (wants_space(type)) {
        chores_evict_now(front->chores);
    }
    pending = wire_is_resent(front) ? pending_claim(front, wire_unique(front), type, finish) : NULL;
    if (pending == NULL) {
        pending = pending_get(front, type, finish);
    }
    pending->unique = wire_unique(front);
    pending->fuse = req;
    pending->request.file_id = ino;
    pending->request.uid = caller->uid;
    pending->request.gid = caller->gid;
    pending->request.pid = (uint32_t)caller->pid;
    pending->request.time_ns = clock_realtime_ns();
    return pending;
}

void fuse_abandon(Front *front, Pending *pending, int error) {
    fuse_reply_err(pending->fuse, -error);
    pending_put(front, pending);
}

bool fuse_name(fuse_req_t req, const char *text, FsName *ret) {
    size_t length = strlen(text);
    FsName name = {.text = text, .length = (uint32_t)MIN(length, (size_t)FS_NAME_MAX + 1)};
    int r = length > FS_NAME_MAX ? -ENAMETOOLONG : fs_name_check(&name);

    if (r < 0) {
        fuse_reply_err(req, -r);
        return false;
    }
    *ret = name;
    return true;
}

void finish_error_only(Front *front, Pending *pending, const FSResponse *response) {
    fuse_reply_err(pending->fuse, response->result < 0 ? -response->result : 0);
}

static struct timespec ns_to_timespec(int64_t ns) {
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    if (ts.tv_nsec < 0) {
        ts.tv_sec--;
        ts.tv_nsec += 1000000000;
    }
    return ts;
}

static mode_t type_to_mode(uint32_t type) {
    static const mode_t modes[FS_TYPE_COUNT] = {
        [FS_TYPE_FILE] = S_IFREG,  [FS_TYPE_DIRECTORY] = S_IFDIR, [FS_TYPE_SYMLINK] = S_IFLNK,
        [FS_TYPE_FIFO] = S_IFIFO,  [FS_TYPE_SOCKET] = S_IFSOCK,   [FS_TYPE_CHAR] = S_IFCHR,
        [FS_TYPE_BLOCK] = S_IFBLK,
    };

    return type < FS_TYPE_COUNT ? modes[type] : 0;
}

void attr_to_stat(const FsAttr *attr, struct stat *ret) {
    /* The kernel takes the logarithm of the block size: give it nothing odd. */
    uint32_t block_size =
        is_power_of_2(attr->block_size) && attr->block_size >= 512 && attr->block_size <= FS_IO_MAX
            ? attr->block_size
            : 4096;

    memset(ret, 0, sizeof(*ret));
    ret->st_ino = attr->file_id;
    ret->st_mode = type_to_mode(attr->type) | (attr->mode & 07777);
    ret->st_nlink = attr->nlink;
    ret->st_uid = attr->uid;
    ret->st_gid = attr->gid;
    ret->st_rdev = attr->rdev;
    ret->st_blksize = (blksize_t)block_size;
    ret->st_size = (off_t)attr->size;
    ret->st_blocks = (blkcnt_t)attr->blocks;
    ret->st_atim = ns_to_timespec(attr->atime_ns);
    ret->st_mtim = ns_to_timespec(attr->mtime_ns);
    ret->st_ctim = ns_to_timespec(attr->ctime_ns);
}

/*
 * How long the kernel may trust a name. Where names fold case, one object answers to many
 * spellings, and the kernel knows nothing of it: only the stored spelling may be kept, and only
 * where it can be revoked before the change that makes it wrong is answered.
 */
double entry_timeout(const Front *front, uint64_t file_id, bool exact) {
    if (front->type != NULL && (file_id & front->type->face_bits) != 0) {
        return 0; /* its name goes with that of another object */
    }
    if (!front->volume.case_insensitive) {
        return front->long_timeout;
    }
    return exact && front->inc_epoch ? front->long_timeout : 0;
}

static void finish_evict(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result < 0) {
        log_debug("EVICT: %s", strerror(-response->result));
    }
}

void evict_send(Front *front, const uint64_t *file_ids, unsigned count, uint64_t seen) {
    _cleanup_free_ le64 *wire = malloc(FS_INLINE_MAX);
    const unsigned most = FS_INLINE_MAX / sizeof(*wire);
    Pending *pending;
    unsigned n;

    if (wire == NULL) {
        return; /* the daemon keeps some inodes longer than it need */
    }
    for (unsigned at = 0; at < count; at += n) {
        n = MIN(count - at, most);
        for (unsigned i = 0; i < n; i++) {
            wire[i] = le64_make(file_ids[at + i]);
        }
        pending = pending_get(front, FS_MSG_EVICT, finish_evict);
        pending->request.time_ns = clock_realtime_ns();
        pending->request.offset = seen;
        pending->request.payload = (const uint8_t *)wire;
        pending->request.payload_length = n * (uint32_t)sizeof(*wire);
        pending_start(front, pending);
    }
}

void forget_later(Front *front, uint64_t file_id) {
    NodeForget forget = {.file_id = file_id, .lookups = 1};
    uint64_t gone;

    if (nodes_forget(&front->nodes, &forget, 1, &gone) > 0) {
        (void)chores_evict(front->chores, &gone, 1);
    }
}

#define FORGET_BATCH 32u

static void forget(Front *front, const NodeForget *forgets, unsigned count) {
    uint64_t gone[FORGET_BATCH];
    unsigned gone_count = nodes_forget(&front->nodes, forgets, count, gone);

    if (gone_count > 0 && chores_evict(front->chores, gone, gone_count) >= EVICT_BATCH) {
        chores_evict_now(front->chores);
    }
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count) {
    const NodeForget one = {.file_id = ino, .lookups = count};

    forget(fuse_req_userdata(req), &one, 1);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
    NodeForget batch[FORGET_BATCH];
    unsigned n;

    for (size_t at = 0; at < count; at += n) {
        n = (unsigned)MIN(count - at, (size_t)FORGET_BATCH);
        for (unsigned i = 0; i < n; i++) {
            batch[i].file_id = forgets[at + i].ino;
            batch[i].lookups = forgets[at + i].nlookup;
        }
        forget(fuse_req_userdata(req), batch, n);
    }
    fuse_reply_none(req);
}

/* ENOSYS once, and the kernel opens and closes by itself from then on. */
static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    fuse_reply_err(req, ENOSYS);
}

/* Files that were open before the kernel knew. */
static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    fuse_reply_err(req, 0);
}

/* No CREATE (ENOSYS, once): it would leave an open file behind, and the kernel would send a RELEASE
 * for it. It uses MKNOD then, and opens the file by itself like any other; that nobody else made it
 * first, and that a mode without w does not stand in the maker's way, the kernel sees to. */
const struct fuse_lowlevel_ops front_fuse_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .symlink = op_symlink,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .opendir = op_open,
    .release = op_release,
    .releasedir = op_release,
    .flush = op_open,
    .readdirplus = op_readdirplus,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .fsyncdir = op_fsync,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .statfs = op_statfs,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
    .ioctl = op_ioctl,
};
