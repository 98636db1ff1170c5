/* SPDX-License-Identifier: MIT */
/*
 * What the files of this module share: the Volume, one request being executed
 * (Operation), and the message handlers that the table in dispatch.c names.
 */
#ifndef BERTH_SERVICE_INTERNAL_H
#define BERTH_SERVICE_INTERNAL_H

#include "berth/service.h"

struct Volume {
    const FileSystemType *type;
    BlockDevice *device;
    Lifeline *lifeline;   /* NULL: the log lives in private memory */
    SideJournal *journal; /* NULL: none */
    BlockDevice *guard;   /* device, with writes noted in the lifeline; while mounted */
    bool settled;         /* no device write of a predecessor is under way */
    bool frozen;          /* FREEZE was answered, and nothing came since */
    Loop *loop;
    FileSystem *fs;      /* NULL: not mounted */
    FiberRwlock lock;    /* shared by every request, exclusive for what changes `fs` */
    uint64_t number;     /* of the last response */
    uint64_t started_ns; /* monotonic */
    VolumeStats stats;
};

/*
 * One request being executed. Handlers get `inode` (the request's file_id)
 * referenced and locked as their row says, and leave behind what the response shall
 * tell; service_dispatch() captures attributes, unlocks, numbers, grants and drops.
 */
typedef struct Operation {
    Volume *volume;
    FileSystem *fs;
    const FSRequest *request;
    const ServiceBuffers *buffers;
    FSResponse *response;
    FsCall call;
    TxnReply reply;
    FsInode *inode;   /* referenced, and locked unless the row says otherwise; may be NULL */
    FsInode *subject; /* referenced: whose attributes the response carries; may be NULL */
    bool grant;       /* the response gives subject's id to the other side */
    FsInode *parent;  /* referenced: whose attributes go with it as the directory's; may be NULL */
    FsAttr created;   /* of the object made, from before its commit; file_id 0: none */
    bool replayed;    /* answered from the record of its first run */
    bool outdated;    /* its slot has seen a later request: there is no answer to this one */
    uint8_t *listing; /* LIST_DIR: entries, private until they are final; to be freed */
    uint32_t listing_length;
    uint64_t listing_steps; /* fs_inode_eviction_steps() before the first entry */
} Operation;

/* Handlers return a result (>= 0) or a negative errno. */
typedef int ServiceHandler(Operation *op);

/* dispatch_names.c: what finds, makes, moves and removes names */
/* Looks a name up under the directory's lock and gets its inode: a reference in *ret. */
MAY_YIELD int service_find(Operation *op, FsInode *dir, const FsName *name, FsEntry *ret_entry,
                           FsInode **ret);
ServiceHandler service_lookup, service_create, service_delete, service_rename, service_link;
/* list.c */
ServiceHandler service_list_dir;
/* Brings the entries' attributes up to date, grants, copies them out. Does not suspend. */
void service_list_finish(Operation *op);
/* attrs.c: attributes and extended attributes */
ServiceHandler service_get_attr, service_set_attr, service_read_link, service_get_xattr,
    service_set_xattr, service_list_xattr, service_remove_xattr;
/* data.c: file contents */
ServiceHandler service_read, service_write, service_fallocate, service_seek, service_fsync;
/* volume.c: the volume as a whole */
ServiceHandler service_mount, service_unmount, service_remount, service_statfs, service_sync,
    service_stats, service_evict, service_ping, service_shutdown, service_fence, service_freeze;

/* sidejournal.c */
/* Before the volume is parsed: its journal's batch, if any, is brought to it. */
MAY_YIELD int volume_journal_begin(Volume *volume, const FsMountOptions *options, bool recover,
                                   char text[256]);
/* Of GET_STATS. */
void volume_journal_json(const Volume *volume, Json *json);
/* takeover.c */
/* Before and after anything is mounted: whose writes are under way, who is running. */
int volume_lifeline_begin(Volume *volume, bool recover);
void volume_lifeline_end(Volume *volume);
/* Goes on with what a predecessor left half done, once this request is answered. */
void volume_resume(Volume *volume);
/* Does anything of a mount wait for FENCE? And what FENCE does. */
bool volume_settled(const Volume *volume);
void volume_settle(Volume *volume);
/* The answer that was recorded for this request: op->replayed is set then. Otherwise 0, or -EPROTO
 * and op->outdated. */
MAY_YIELD int service_replay(Operation *op);
bool volume_frozen(const Volume *volume);
void volume_thaw(Volume *volume);
/* Lets go of a mounted volume as if this process had died. */
MAY_YIELD void volume_abandon(Volume *volume);

/* The most bytes the response's data may have. */
static inline uint32_t service_capacity(const Operation *op) {
    return op->buffers->out != NULL ? MIN(op->buffers->out_capacity, FS_IO_MAX) : 0;
}

/* Data of the response: `length` bytes at buffers->out. */
static inline void service_answer_data(Operation *op, uint32_t length) {
    op->response->data_length = length;
    op->response->data = length > 0 ? op->buffers->out : NULL;
}

/* Names the file whose attributes the response carries; takes the caller's reference over. */
static inline void service_answer_inode(Operation *op, FsInode *inode, bool grant) {
    op->subject = inode;
    op->grant = grant;
}

/* Another reference to an inode that is referenced already. */
static inline FsInode *service_ref(FsInode *inode) {
    inode->refs++;
    return inode;
}

/* A number for a response that goes out at once. */
static inline uint64_t volume_next_number(Volume *volume) {
    return ++volume->number;
}

#endif
