/* SPDX-License-Identifier: MIT */
/*
 * The front-end's own structures and the functions that its files offer each
 * other. One Front per process. Threads:
 *   receiver   reads /dev/fuse, runs the start half of each operation (fuse_*.c), sends
 *   replier    receives from the daemon, runs the finish half, writes the reply; one per daemon.
 *              The receiver does that for a request that is alone in flight (replies.c)
 *   keeper     keeps a daemon there: its death, its successor, the spare, its log lines
 *   main       signals, and the end of the mount
 *   control    serves the control socket
 *   chores     EVICTs that nothing else has sent for a moment; in direct mode the timed commit
 * Locks: a daemon's replies.lock, held over finish halves; below it, all leaves, pending.lock,
 * nodes.lock, chores.lock, fences.lock, health.lock; direct's own.
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
#include "holder.h"
#include "keepsake.h"
#include "nodes.h"
#include "pending.h"
#include <assert.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdatomic.h>

/* Who takes a daemon's answers, and what they must know of the ones before (replies.c). */
typedef struct Replies {
    pthread_mutex_t lock; /* held from taking a message to having finished its request */
    uint8_t *message, *scratch;
    uint64_t last_number;
    TransportWait wait; /* what the thread that claimed the replies waits for */
    bool ended;     /* the replier has: nothing is taken any more */
    char text[128]; /* which rule was broken, "" none: nothing is taken any more */
} Replies;

/* A daemon's process, from its start to its end (daemon.c). */
struct DaemonProcess {
    Front *front;
    pid_t pid; /* 0: collected */
    int pidfd;
    int log_fd;   /* read end of its stderr; -1 after its end of file */
    int fence_fd; /* end of file there: all its device I/O has ended; -1: given away */
    int image_fd; /* its own description of the image */
    Transport *transport;
    uint32_t epoch;
    pthread_t replier;
    bool replier_started;
    Replies replies;
    bool gone; /* guarded by pending.lock: nothing that is sent would be answered any more */
    _Atomic bool killed;              /* by us: it hung, or broke the protocol */
    bool stopped;                     /* from outside (SIGSTOP), and therefore killed */
    char sandbox[SANDBOX_LAYERS_MAX]; /* the layers in force, as it says, comma separated */
    char log_line[512];               /* a line not yet complete */
    size_t log_length;
};

/* What others may know of the daemon at any moment, as a copy (keeper.c). */
typedef struct DaemonHealth {
    pid_t pid, spare_pid; /* 0: none */
    uint64_t restarts;    /* successors that took over */
    uint64_t recovery_us; /* of the last: from noticing the death to the last request sent again */
    const char *state;    /* "running", "recovering", "read-only", "failed" */
    char last_error[160]; /* how the last one died, "" */
    bool ring;            /* messages travel through rings, not over the socket */
    char sandbox[SANDBOX_LAYERS_MAX];
} DaemonHealth;

/* Ends of file to wait for, and the arena slots that nobody may use before (fences.c). The kernel
 * ends at most 64 rings at a time, of all processes: those of daemons that died over a slow device
 * must leave room for the rings of whoever serves that device. */
#define FENCES_MAX 16u
typedef struct HeldSlot {
    Arena *arena;
    ArenaSlot slot;
} HeldSlot;
typedef struct Fences {
    pthread_mutex_t lock;
    int fds[FENCES_MAX];
    unsigned count;
    bool stuck; /* there were too many, and one was given up: they never all fall */
    HeldSlot *slots;
    size_t slot_count, slot_capacity;
} Fences;

/* What goes over /dev/fuse beside libfuse (wire.c). */
#define WIRE_OPCODES 64u
typedef struct Wire {
    _Atomic uint64_t count[WIRE_OPCODES]; /* requests by opcode; the last: any above */
    _Atomic uint64_t getattrs_answered;   /* without the daemon */
    uint32_t write_flags;                 /* of the request at hand, if it is a WRITE */
    uint64_t unique;                      /* of the request at hand */
    uint64_t init_unique;
    bool replaying; /* INIT's answer does not go to the kernel */
    bool kill_priv; /* the kernel offers to leave the clearing of suid to us */
} Wire;

typedef struct Direct Direct;
typedef struct Chores Chores;
typedef struct Keeper Keeper;

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

    int image_fd;      /* holds the lock */
    int next_image_fd; /* the description for the daemon that is started next */
    int lifeline_fd;   /* -1: direct mode */
    int journal_fd;    /* -1: no side journal */
    char *journal;     /* its path, absolute */
    bool image_readonly;
    uint64_t volume_start, volume_length; /* inside the image */

    /* That serves; the keeper's from the mount on. NULL: none (direct mode, or given up). */
    _Atomic(DaemonProcess *) daemon;
    _Atomic uint32_t epoch;       /* of the daemon started last */
    _Atomic uint64_t last_number; /* of the responses received */
    Keeper *keeper;
    Channel *hold;        /* to the holder; NULL: none */
    bool stored;          /* the service manager holds instead */
    char **argv;          /* to be started again with; NULL: not at all */
    Keepsake keepsake;    /* header NULL: direct mode */
    int fuse_fd;          /* a dead front-end's; -1: we are the first */
    unsigned proto_minor; /* of FUSE, the kernel's */
    DaemonHealth health;
    pthread_mutex_t health_lock;
    Fences fences;
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
    bool receiver_started;
    _Atomic bool volume_mounted; /* from here on a daemon's death is the keeper's business */
    pthread_t receiver;
    ControlServer *control;
    pid_t registrar; /* makes the entry for umount(8) */
    bool registered; /* the entry is made, or being made */
    uint64_t started_ns;
    _Atomic bool closing;     /* the daemon has been told to end */
    _Atomic bool daemon_dead; /* for good: everything is answered with errors */
    _Atomic bool rescued;     /* but all that was acknowledged is on the image */
};

/* image.c */
int source_open(Front *front);
/* Opens and locks another file in the same way. The descriptor, or -errno: said if it is in use. */
int source_claim(const char *path, const char *given, bool readonly);
/* sidejournal.c */
/* After the detection: opens the file that the options name, if they do. 0 or -errno, said. */
int sidejournal_open(Front *front);
/* detect.c: fills type, volume_start, volume_length. */
int source_detect(Front *front);

/* image.c */
/* Another open file description of the image: what one daemon's fdatasync() has been told of lost
 * writes, the next one's is told as well, if its description is older than they are. -errno. */
int source_reopen(const Front *front);

/* daemon.c */
/* Starts one of front->type's daemons, does the HELLO, starts its replier. 0 or -errno (said on
 * stderr unless quiet). */
int daemon_start(Front *front, bool quiet, DaemonProcess **ret);
/* Of one that has ended, or must: SIGKILL, collects it, joins its replier, frees. NULL is fine. */
DaemonProcess *daemon_free(DaemonProcess *daemon);
/* It broke the rules, or is in the way: SIGKILL. */
void daemon_kill(DaemonProcess *daemon);
/* Joins its replier, which ends when it has taken all that the daemon, now dead, had sent. */
void daemon_drain(DaemonProcess *daemon);
/* Has somebody stopped it (SIGSTOP, a debugger)? */
bool daemon_is_stopped(const DaemonProcess *daemon);
/* Collects it if it has ended (waits for that at most so long, < 0: for ever). */
bool daemon_reap(DaemonProcess *daemon, int timeout_ms, int *ret_status);
/* "was ended by signal 11 (Segmentation fault)" */
void daemon_death_text(const DaemonProcess *daemon, int status, char text[160]);

/* daemon_log.c */
/* Forwards waiting log lines of the daemon; closes log_fd at the end of file. */
void daemon_log(DaemonProcess *daemon);

/* attach.c */
/* Starts the process that keeps what must outlive us, where the kernel is able to go on with
 * another front-end. Without one there is a warning, nothing else. */
void attach_start_holder(Front *front);
/* The mount is there: gives the holder all that makes it up. */
void attach_give(Front *front);
void attach_note_daemon(Front *front, const DaemonProcess *daemon);
/* It has been buried. */
void attach_forget_daemon(Front *front, const DaemonProcess *daemon);
bool attach_is_held(const Front *front);
/* Has the service manager started us to go on with a mount of a berthfs that died? */
bool attach_is_restart(void);
/* An orderly end: it need not do anything. */
void attach_end_holder(Front *front);
/* We are the next front-end: takes over what the holder has at the other end of fd (0: what the
 * manager has passed), ends the old daemons. 0 or -errno. */
int attach_take(Front *front, int fd);
/* The kernel sends again what the dead one had read and not answered. */
int attach_resend(Front *front);

/* keeper.c */
/* Makes front->keeper, which watches front->daemon from now on and keeps a spare. 0 or -errno. */
int keeper_new(Front *front);
/* Ends the watching, and the spare. The daemon is left as it is. */
void keeper_stop(Keeper *keeper);
/* After the daemon's replier has ended. NULL is fine. */
Keeper *keeper_free(Keeper *keeper);
/* A replier has met the end of its channel. */
void keeper_channel_lost(Front *front);
/* Replaces the daemon by the program that is on disk now. Waits for the outcome: 0 or -errno with
 * one line in *text. Not on the keeper's thread. */
int keeper_restart(Keeper *keeper, char text[160]);
DaemonHealth keeper_health(Front *front);
void keeper_note_state(Front *front, const char *state, const char *error);

/* takeover.c */
/* How the last daemons of this volume died, weighted (takeover.c). */
typedef struct DeathRecord {
    unsigned in_recovery; /* in a row, before they were ready */
    unsigned unexplained; /* crashes that no request explains, within a minute of each other */
    unsigned no_progress; /* in a row, without one request answered in between */
    uint64_t answered;    /* requests answered at the last death */
    uint64_t unexplained_ns;
    bool serially; /* after too many of these: one suspect at a time */
    bool sending;  /* and not all have been sent yet: takeover_go_on() */
    enum { STAGE_NORMAL, STAGE_RESCUED, STAGE_FAILED } stage;
} DeathRecord;
/* front->daemon has died, or its channel has; *spare (may be NULL) is used if there is one. On
 * return there is a new front->daemon, or none, and everything is answered with errors. */
void takeover_after_death(Front *front, DeathRecord *record, DaemonProcess **spare);
/* From time to time while record->sending. */
void takeover_go_on(Front *front, DeathRecord *record);
/* In order, while nothing is under way. 0 or -errno with *text: the old daemon goes on then, unless
 * it has died (-EPIPE). */
int takeover_upgrade(Front *front, char text[160]);

/* fences.c */
void fences_init(Fences *fences);
void fences_done(Fences *fences);
/* Takes the descriptor over. Waits, but not for ever, when there are too many. */
void fences_add(Fences *fences, int fd);
/* Gives the slot back when all fences have fallen. False when there is none: it is free now. */
bool fences_hold(Fences *fences, Arena *arena, const ArenaSlot *slot);
/* Looks (or waits, at most so long) for fences that have fallen. True when none is left. */
bool fences_check(Fences *fences, int timeout_ms);
/* Waits as long as one may for a device, which the heartbeat says, and not beyond the mount's end.
 * True when none is left. */
bool fences_wait(Front *front);
unsigned fences_count(Fences *fences);

/* rescue.c */
/* Writes what the log holds to the image in a process of its own, then empties the log. 0 or
 * -errno with *text. */
int rescue_run(Front *front, char text[160]);

/* supervise.c */
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
/* MOUNT with RECOVER for a successor. 0 or -errno (-EPIPE: it died). */
int volume_recover(Front *front, DaemonProcess *daemon, bool readonly, Text *ret_text);

/* receive.c, replies.c */
void *receive_thread(void *arg); /* Front */
/* Starts the replier. 0 or -errno; replies_done() in any case, after it was joined. */
int replies_start(DaemonProcess *daemon);
void replies_done(DaemonProcess *daemon);
/* For a thread that is about to send what will be alone in flight: may it wait for the answer by
 * itself? For how long, 0: no. If so, replies_take() follows, after sending. */
uint32_t replies_claim(DaemonProcess *daemon, FSMessageType type);
/* Waits so long (less when the kernel has another request), takes what has come, and leaves
 * the rest to the replier. */
void replies_take(DaemonProcess *daemon, uint32_t limit_ns);
/* One message of the daemon's, in private memory. *last_number is the one before's, at first 0;
 * scratch has room for ARENA_SMALL. 0, or -EPROTO with *text: what it must not do. */
int replies_handle(const DaemonProcess *daemon, const uint8_t *message, size_t length,
                   uint64_t *last_number, uint8_t *scratch, char text[128]);

/* session.c */
/* A dead mount that is in the way goes. */
void session_detach_stale(Front *front);
int session_mount(Front *front);
/* The same for a mount that is there already. */
int session_attach(Front *front);
void session_done(Front *front);

/* wire.c */
/* Right after the mount, before the first request is read. 0 or -errno. */
int wire_attach(Front *front, int fd);
/* Instead of the kernel's INIT: the one that the first front-end got. */
int wire_replay_init(Front *front);
/* Of the request at hand: the kernel's number, and whether an earlier front-end has read it too. */
uint64_t wire_unique(const Front *front);
bool wire_is_resent(const Front *front);
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
/* Attributes changed by a way that the kernel does not know to change them (an extended attribute).
 */
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
double entry_timeout(const Front *front, uint64_t file_id, bool exact);
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
