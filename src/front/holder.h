/* SPDX-License-Identifier: MIT */
/*
 * The holder: a small process that keeps what must outlive the front-end (the kernel's
 * FUSE descriptor, the image with its lock, the lifeline, the keepsake, and handles of
 * the daemons), and starts a new front-end when the one it belongs to dies. Between
 * them lies one socket; each packet is a HoldPacket, with descriptors where it says so:
 *
 *     front-end -> holder   KEEP name, 1 descriptor     replaces what had the name
 *                           DAEMON, pidfd and fence     of each daemon that is started
 *                           END                         an orderly unmount
 *     holder -> front-end   all it keeps, in the same packets, then END
 */
#ifndef BERTH_FRONT_HOLDER_H
#define BERTH_FRONT_HOLDER_H

#include "berth/channel.h"

enum HoldName {
    HOLD_FUSE,
    HOLD_IMAGE,
    HOLD_LIFELINE,
    HOLD_KEEPSAKE,
    HOLD_NODES,
    HOLD_JOURNAL, /* where there is one */
    HOLD_NAMES,   /* how many */
};
enum HoldKind { HOLD_KEEP = 1, HOLD_DAEMON, HOLD_END };

typedef struct HoldPacket {
    uint32_t kind, name;
} HoldPacket;

#define HOLD_DAEMONS 64u

/* What a new front-end is given. */
typedef struct Held {
    int fds[HOLD_NAMES]; /* -1: never kept */
    struct HeldDaemon {
        int pidfd, fence_fd;
    } daemons[HOLD_DAEMONS];
    unsigned daemon_count;
} Held;

void held_init(Held *held);
void held_done(Held *held);
/* One packet, added to *ret: 1, 0 for END, -EPROTO, -EPIPE. */
int held_receive_one(Channel *channel, Held *ret);
/* All until END. 0, or -EPROTO, -EPIPE. */
int held_receive(Channel *channel, Held *ret);

int hold_keep(Channel *channel, enum HoldName name, int fd);
int hold_daemon(Channel *channel, int pidfd, int fence_fd);
int hold_end(Channel *channel);

#endif
