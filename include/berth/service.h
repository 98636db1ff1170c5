/* SPDX-License-Identifier: MIT */
/*
 * What a daemon is: a Volume (one mounted filesystem, its statistics), the
 * dispatch of one request to it, and the two ways in: the serve loop over a
 * channel, and the in-process client that tools, tests, fuzzers and
 * `daemon=never` use. Both take the same path through service_dispatch(), so
 * the same tables and checks hold.
 */
#ifndef BERTH_SERVICE_H
#define BERTH_SERVICE_H

#include "berth/channel.h"
#include "berth/fs.h"
#include "berth/message.h"
#include "berth/sandbox.h"
#include "berth/stats.h"
#include "berth/text.h"

typedef struct Volume Volume;

typedef struct VolumeStats {
    Histogram latency[FS_MSG_COUNT]; /* from admission to reply, per message type */
    uint64_t errors[FS_MSG_COUNT];
    uint64_t bytes_read, bytes_written;
    uint64_t replayed; /* requests that were answered from the record of a predecessor */
    unsigned in_service, in_service_max;
} VolumeStats;

/* device and loop stay the caller's and must outlive the volume. Nothing is mounted yet. */
int volume_new(const FileSystemType *type, BlockDevice *device, Loop *loop, Volume **ret);
/* Where the log shall live and device writes are noted (before MOUNT; stays the caller's and must
 * outlive the volume). Nothing of it is touched before MOUNT. */
void volume_set_lifeline(Volume *volume, Lifeline *lifeline);
/* The side journal that write-out shall go through (the same rules). */
void volume_set_journal(Volume *volume, SideJournal *journal);
/* Unmounts if need be. */
Volume *volume_free(Volume *volume);
DEFINE_CLEANUP(Volume *, volume_free);
FileSystem *volume_fs(Volume *volume); /* NULL until MOUNT succeeded */
const VolumeStats *volume_stats(const Volume *volume);
/* Statistics of volume, cache, device and fibers as JSON, appended to *ret (GET_STATS). */
int volume_stats_json(Volume *volume, Text *ret);

/* Where a request's bulk bytes lie: resolved by the caller (arena or private memory). */
typedef struct ServiceBuffers {
    const uint8_t *in; /* WRITE_FILE, SET_XATTR: request->length or payload_length bytes */
    uint8_t *out;      /* READ_FILE, LIST_DIR …: out_capacity bytes */
    uint32_t out_capacity;
} ServiceBuffers;

/*
 * Executes one request: checks it, finds and locks inodes by the static table, calls the
 * operation, fills *response (result, attributes after the operation, params; data points to
 * buffers->out when data_length > 0). Never fails itself. response->number is set to the number it
 * will be sent under; the caller must send responses in that order of numbering (serve: directly
 * after this returns, without suspending in between). 0, or -EPROTO: the request is older than the
 * last one that was done in its slot; there is no response then.
 */
MAY_YIELD int service_dispatch(Volume *volume, const FSRequest *request,
                                const ServiceBuffers *buffers, FSResponse *response);

/* In-process client: the same call, synchronously; a private buffer of FS_IO_MAX for data. */
typedef struct LocalClient LocalClient;
int local_client_new(Volume *volume, LocalClient **ret);
LocalClient *local_client_free(LocalClient *client);
DEFINE_CLEANUP(LocalClient *, local_client_free);
/* response->data points into the client's buffer until the next call. Outside fibers a
 * suspending volume is driven by its loop until the answer is there. Returns response->result. */
int local_call(LocalClient *client, const FSRequest *request, FSResponse *response);

/*
 * The callback form: runs the request in a fiber of its own, calls done once, from that fiber,
 * never before this returns. request, its names and buffers must live until then. -EAGAIN: too
 * many fibers.
 */
typedef void FsOpDone(void *ctx, FSResponse *response);
int fs_op_async(Volume *volume, const FSRequest *request, const ServiceBuffers *buffers,
                FsOpDone *done, void *ctx);

/* Serves a channel until SHUTDOWN or end of file; see man fatd.8. Returns an exit code. */
typedef struct ServeConfig {
    const FileSystemType *const *types; /* linked in */
    int channel_fd;                     /* connected socket, taken over */
    SandboxMode sandbox;
    bool debug;                         /* log every message */
} ServeConfig;
int service_main(const ServeConfig *config);
/* main() of a daemon: parses --channel-fd N, --sandbox MODE, --version, --help, BERTH_DEBUG; calls
 * service_main(). */
int daemon_main(int argc, char **argv, const FileSystemType *const *types);

#endif
