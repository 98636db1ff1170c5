/* SPDX-License-Identifier: MIT */
/*
 * Operations on attributes: GETATTR, SETATTR, STATFS. GETATTR is mostly answered
 * from the attributes that came with earlier responses: the kernel asks again
 * after every change of a directory and every close of a written file, and the
 * answer is known.
 */
#include "private.h"

#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static void reply_attr(Front *front, fuse_req_t req, const FsAttr *attr) {
    struct stat st;

    attr_to_stat(attr, &st);
    fuse_reply_attr(req, &st, front->long_timeout);
}

static void finish_attr(Front *front, Pending *pending, const FSResponse *response) {
    if (response->result < 0) {
        fuse_reply_err(pending->fuse, -response->result);
        return;
    }
    reply_attr(front, pending->fuse, &response->attr);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    Front *front = fuse_req_userdata(req);
    FsAttr attr;

    if (nodes_attr_get(&front->nodes, ino, &attr)) {
        atomic_fetch_add(&front->wire.getattrs_answered, 1);
        reply_attr(front, req, &attr);
        return;
    }
    pending_start(front, fuse_begin(req, FS_MSG_GET_ATTR, ino, finish_attr));
}

static int64_t timespec_to_ns(const struct timespec *ts) {
    int64_t ns;

    /* Beyond what 64 bits of ns can say (1677 to 2262): the nearest that they can. */
    if (__builtin_mul_overflow((int64_t)ts->tv_sec, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, (int64_t)ts->tv_nsec, &ns)) {
        return ts->tv_sec < 0 ? INT64_MIN + 1 : INT64_MAX;
    }
    return ns;
}

/*
 * The kernel writes back the times of a file after its last name has gone. They will never be on
 * the medium: the answer is given here.
 */
static bool setattr_unlinked(Front *front, uint64_t file_id, const FsSetattr *set, FsAttr *ret) {
    if ((set->mask & ~(uint32_t)(FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME)) != 0 ||
        !nodes_attr_get(&front->nodes, file_id, ret) || ret->nlink != 0) {
        return false;
    }
    ret->atime_ns = set->mask & FS_SET_ATIME ? set->atime_ns : ret->atime_ns;
    ret->mtime_ns = set->mask & FS_SET_MTIME ? set->mtime_ns : ret->mtime_ns;
    ret->ctime_ns = set->mask & FS_SET_CTIME ? set->ctime_ns : ret->ctime_ns;
    nodes_attr_store(&front->nodes, ret);
    return true;
}

/* Is anything under way that sets the file's mtime? What waits to be sent counts as well. */
static bool mtime_changes(PendingTable *table, uint64_t file_id) {
    bool found = false;

    pthread_mutex_lock(&table->lock);
    for (ListNode *node = list_first(&table->in_flight); node != NULL && !found;
         node = list_next(&table->in_flight, node)) {
        const FSRequest *request = &container_of(node, Pending, node)->request;

        found = request->file_id == file_id &&
                (request->type == FS_MSG_WRITE_FILE || request->type == FS_MSG_SET_ATTR ||
                 request->type == FS_MSG_FALLOCATE);
    }
    pthread_mutex_unlock(&table->lock);
    return found;
}

/*
 * With the write cache the kernel keeps a file's mtime, and stores it when the data has
 * been written. Mostly that is what the WRITE has set already, as far as the format can
 * tell. In this order: an answer is entered among the attributes before it leaves the table.
 */
static bool setattr_unneeded(Front *front, uint64_t file_id, const FsSetattr *set, FsAttr *ret) {
    uint64_t step = (uint64_t)front->type->mtime_step_ns;

    return step > 0 && (set->mask & ~(uint32_t)FS_SET_CTIME) == FS_SET_MTIME &&
           !mtime_changes(&front->pending, file_id) &&
           nodes_attr_get(&front->nodes, file_id, ret) && ret->type == FS_TYPE_FILE &&
           set->mtime_ns >= ret->mtime_ns &&
           (uint64_t)set->mtime_ns - (uint64_t)ret->mtime_ns < step;
}

static FsSetattr to_setattr(const struct stat *attr, int to_set, int64_t now_ns) {
    FsSetattr set = {0};

    if (to_set & FUSE_SET_ATTR_MODE) {
        set.mask |= FS_SET_MODE;
        set.mode = attr->st_mode & 07777;
    }
    if (to_set & FUSE_SET_ATTR_UID) {
        set.mask |= FS_SET_UID;
        set.uid = attr->st_uid;
    }
    if (to_set & FUSE_SET_ATTR_GID) {
        set.mask |= FS_SET_GID;
        set.gid = attr->st_gid;
    }
    if (to_set & FUSE_SET_ATTR_SIZE) {
        set.mask |= FS_SET_SIZE;
        set.size = (uint64_t)attr->st_size;
    }
    if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
        set.mask |= FS_SET_ATIME;
        set.atime_ns = to_set & FUSE_SET_ATTR_ATIME_NOW ? now_ns : timespec_to_ns(&attr->st_atim);
    }
    if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
        set.mask |= FS_SET_MTIME;
        set.mtime_ns = to_set & FUSE_SET_ATTR_MTIME_NOW ? now_ns : timespec_to_ns(&attr->st_mtim);
    }
    if (to_set & FUSE_SET_ATTR_CTIME) {
        set.mask |= FS_SET_CTIME;
        set.ctime_ns = timespec_to_ns(&attr->st_ctim);
    }
    if (((unsigned)to_set & FATTR_KILL_SUIDGID) != 0) { /* libfuse passes the bit on unnamed */
        set.mask |= FS_SET_KILL_SUIDGID;
    }
    return set;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                struct fuse_file_info *fi) {
    Front *front = fuse_req_userdata(req);
    int64_t now_ns = clock_realtime_ns();
    const FsSetattr set = to_setattr(attr, to_set, now_ns);
    Pending *pending;
    FsAttr known;

    if (setattr_unlinked(front, ino, &set, &known) || setattr_unneeded(front, ino, &set, &known)) {
        reply_attr(front, req, &known);
        return;
    }
    if ((set.mask & FS_SET_SIZE) != 0) {
        chores_evict_now(front->chores); /* it may need the space */
    }
    pending = fuse_begin(req, FS_MSG_SET_ATTR, ino, finish_attr);
    pending->request.time_ns = now_ns;
    pending->request.set = set;
    pending_start(front, pending);
}

static void finish_statfs(Front *front, Pending *pending, const FSResponse *response) {
    struct statvfs st = {0};
    le64 words[7];

    if (response->result < 0) {
        fuse_reply_err(pending->fuse, -response->result);
        return;
    }
    memcpy(words, response->data, sizeof(words));
    st.f_blocks = le64_get(words[0]);
    st.f_bfree = le64_get(words[1]);
    st.f_bavail = le64_get(words[2]);
    st.f_files = le64_get(words[3]);
    st.f_ffree = le64_get(words[4]);
    st.f_bsize = st.f_frsize = (uint32_t)le64_get(words[5]);
    st.f_namemax = (uint32_t)le64_get(words[6]);
    fuse_reply_statfs(pending->fuse, &st);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino) {
    Pending *pending = fuse_begin(req, FS_MSG_STATFS, ino, finish_statfs);

    pending->request.file_id = 0; /* the volume's, not a file's */
    pending_start(fuse_req_userdata(req), pending);
}
