/* SPDX-License-Identifier: MIT */
/*
 * The front-end's own structures and the functions that its files offer each
 * other. One Front per process. Threads:
 *   receiver   reads /dev/fuse, runs the start half of each operation (fuse_*.c), sends
 *   replier    receives from the daemon, runs the finish half, writes the reply
 *   main       supervises: signals, the daemon's death and its log lines, the end of the mount
 *   control    serves the control socket
 *   chores     EVICTs that nothing else has sent for a moment; in direct mode the timed commit
 * Locks, all leaves: pending.lock, nodes.lock, chores.lock, direct's own.
 */
#ifndef BERTH_FRONT_PRIVATE_H
#define BERTH_FRONT_PRIVATE_H

#define FUSE_USE_VERSION 314

#include "berth/bytes.h"
#include "berth/channel.h"
#include "berth/control.h"
#include "berth/front.h"
#include "berth/log.h"
#include "berth/message.h"
#include "berth/partition.h"
#include "berth/service.h"
#include "berth/transport.h"
#include "nodes.h"
#include "pending.h"
#include <assert.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdatomic.h>

/* The daemon's process (daemon.c, supervise.c). */
typedef struct DaemonProcess {
    pid_t pid; /* 0: none */
    int pidfd;
    int log_fd;           /* read end of its stderr */
    Transport *transport; /* NULL: none yet */
    uint32_t epoch;
    char sandbox[SANDBOX_LAYERS_MAX]; /* the layers in force, as it says, comma separated */
    char log_line[512];               /* a line not yet complete */
    size_t log_length;
} DaemonProcess;

/* What goes over /dev/fuse beside libfuse (wire.c). */
#define WIRE_OPCODES 64u
typedef struct Wire {
    _Atomic uint64_t count[WIRE_OPCODES]; /* requests by opcode; the last: any above */
    _Atomic uint64_t getattrs_answered;   /* without the daemon */
    uint32_t write_flags;                 /* of the request at hand, if it is a WRITE */
    uint64_t init_unique;
    bool kill_priv; /* the kernel offers to leave the clearing of suid to us */
} Wire;

typedef struct Direct Direct;
typedef struct Chores Chores;

/* What the MOUNT response said. */
typedef struct VolumeInfo {
    char label[256], uuid[64], subtype[32];
    uint32_t block_size;
    bool case_insensitive;
    bool no_xattr; /* the format has none at all: the kernel need not ask twice */
    char read_only_reason[128];
    char told[256]; /* why it cannot be mounted (writable): the daemon need not log it again */
    _Atomic bool readonly;
} VolumeInfo;

struct Front {
    FrontOptions options;
    const FileSystemType *const *types;
    const FileSystemType *type;
    char *source, *directory; /* absolute */
    const char *source_given; /* as the user wrote it, for messages */
    int ready_fd;             /* -1, or where the waiting parent hears the outcome */

    int image_fd;
    bool image_readonly;
    uint64_t volume_start, volume_length; /* inside the image */

    DaemonProcess daemon;
    Direct *direct; /* daemon=never */
    Arena *arena_out, *arena_in;
    PendingTable pending;
    Nodes nodes;
    Chores *chores;
    VolumeInfo volume;

    struct fuse_session *session;
    Wire wire;
    dev_t device;           /* st_dev of the mount */
    _Atomic bool inc_epoch; /* the kernel takes FUSE_NOTIFY_INC_EPOCH */
    double long_timeout;
    ArenaSlot landing;  /* where the receiver's next request lands */
    bool landing_taken; /* a WRITE keeps it */
    int stop_fd;        /* eventfd: the receiver has ended */
    int init_fd;        /* eventfd: INIT has been answered */
    bool receiver_started, replier_started, volume_mounted;
    pthread_t receiver, replier;
    ControlServer *control;
    uint64_t started_ns;
    _Atomic bool closing; /* end of file from the daemon is expected */
    _Atomic bool daemon_dead;
};

/* image.c */
int source_open(Front *front);
/* detect.c: fills type, volume_start, volume_length. */
int source_detect(Front *front);

/* daemon.c */
/* Starts front->type's daemon and does the HELLO. 0 or -errno (said on stderr unless quiet). */
int daemon_start(Front *front, bool quiet);
void daemon_release(DaemonProcess *daemon);
/* The daemon broke the rules, or is in the way: SIGKILL. */
void daemon_kill(Front *front);
/* supervise.c */
/* Forwards waiting log lines of the daemon. False at end of file. */
bool supervise_log(Front *front);
/* The replier found the channel closed. */
void supervise_channel_lost(Front *front);
/* Collects the daemon if it has ended (waits for that at most so long) and says how. */
bool supervise_reap(Front *front, int timeout_ms);
/* Serves until the mount is gone or a signal ends it. */
void supervise_run(Front *front);
/* Unmounts DIR, lazily if need be. */
int supervise_unmount(Front *front, bool lazy);
/* SYNC, UNMOUNT, SHUTDOWN, and the daemon's end. 0 or -errno, said on stderr. */
int supervise_shutdown(Front *front);

/* direct.c */
int direct_new(Front *front, Direct **ret);
Direct *direct_free(Direct *direct);
void direct_execute(Front *front, Pending *pending);

/* volume.c */
int volume_mount(Front *front);
int volume_remount(Front *front, bool readonly, Text *ret_text);

/* receive.c, replies.c */
void *receive_thread(void *arg);
void *replies_thread(void *arg);

/* session.c */
int session_mount(Front *front);
void session_done(Front *front);

/* wire.c */
/* Right after the mount, before the first request is read. 0 or -errno. */
int wire_attach(Front *front);
/* A request that was read, in private memory but for a WRITE's payload, before libfuse gets it. */
void wire_request(Front *front, const void *request, size_t length);
/* Shall the WRITE at hand clear suid and sgid? */
bool wire_write_kills_suid(const Front *front);
void wire_stats_json(Front *front, Json *json);

/* status.c: the control socket's commands. */
int status_command(void *arg, const char *command, Text *reply);

/* accept.c: may lower the result to an error. */
void response_accept(Front *front, const Pending *pending, FSResponse *response);

/* run.c */
/* pthread_create() with all signals blocked in the new thread. 0 or -errno. */
int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg);

/* chores.c, invalidate.c */
int chores_new(Front *front, Chores **ret);
Chores *chores_free(Chores *chores);
/* The kernel has no lookups of these left: the daemon is told soon, of many at a time. Never waits.
 * Returns how many are waiting. */
#define EVICT_BATCH 64u
unsigned chores_evict(Chores *chores, const uint64_t *file_ids, unsigned count);
/* Sends what waits, if anything does. Not on the replier: it waits for a slot. */
void chores_evict_now(Chores *chores);
/* Makes the kernel look up every name again. Call before the reply that makes them stale. */
void invalidate_names(Front *front);
/* Attributes changed by a way that the kernel does not know to change them (an extended attribute). */
void attributes_changed(Front *front, uint64_t file_id);

/* fuse_ops.c: the table, and what the halves share. */
extern const struct fuse_lowlevel_ops front_fuse_ops;
/* The start half: a pending request of this type on `ino` for the caller of `req`. */
Pending *fuse_begin(fuse_req_t req, FSMessageType type, fuse_ino_t ino, PendingFinish *finish);
/* Gives it up and answers the kernel. */
void fuse_abandon(Front *front, Pending *pending, int error);
/* False (answered) when the name cannot be asked for. */
bool fuse_name(fuse_req_t req, const char *text, FsName *ret);
void finish_error_only(Front *front, Pending *pending, const FSResponse *response);
void attr_to_stat(const FsAttr *attr, struct stat *ret);
double entry_timeout(const Front *front, bool exact);
void evict_send(Front *front, const uint64_t *file_ids, unsigned count, uint64_t seen);
/* The kernel takes `count` lookups back, or never got the reply that gave them. */
void forget_later(Front *front, uint64_t file_id);

void op_init(void *userdata, struct fuse_conn_info *conn);
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *fi);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
              struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                 int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
              unsigned flags, const void *in, size_t in_size, size_t out_size);

#endif
