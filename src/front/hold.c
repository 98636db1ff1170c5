/* SPDX-License-Identifier: MIT */
/* The packets between front-end and holder (holder.h), both ways. No state, no locks. */
#include "holder.h"

void held_init(Held *held) {
    *held = (Held){.daemon_count = 0};
    for (unsigned i = 0; i < HOLD_NAMES; i++) {
        held->fds[i] = -1;
    }
}

void held_done(Held *held) {
    for (unsigned i = 0; i < HOLD_NAMES; i++) {
        base_closep(&held->fds[i]);
    }
    for (unsigned i = 0; i < held->daemon_count; i++) {
        base_closep(&held->daemons[i].pidfd);
        base_closep(&held->daemons[i].fence_fd);
    }
    held_init(held);
}

static int send_packet(Channel *channel, HoldPacket packet, const int *fds, unsigned count) {
    return count == 0 ? channel_send(channel, &packet, sizeof(packet))
                      : channel_send_fds(channel, &packet, sizeof(packet), fds, count);
}

int hold_keep(Channel *channel, enum HoldName name, int fd) {
    return send_packet(channel, (HoldPacket){HOLD_KEEP, (uint32_t)name}, &fd, 1);
}

int hold_daemon(Channel *channel, int pidfd, int fence_fd) {
    const int fds[] = {pidfd, fence_fd};

    return send_packet(channel, (HoldPacket){HOLD_DAEMON, 0}, fds, 2);
}

int hold_end(Channel *channel) {
    return send_packet(channel, (HoldPacket){HOLD_END, 0}, NULL, 0);
}

int held_receive_one(Channel *channel, Held *ret) {
    int fds[2] = {-1, -1};
    unsigned count = 0;
    HoldPacket packet;
    int r = channel_receive_fds(channel, &packet, sizeof(packet), fds, 2, &count, -1);

    if (r <= 0) {
        return r < 0 ? r : -EPIPE;
    }
    r = r == sizeof(packet) ? 1 : -EPROTO;
    if (r == 1 && packet.kind == HOLD_KEEP && packet.name < HOLD_NAMES && count == 1) {
        base_closep(&ret->fds[packet.name]);
        ret->fds[packet.name] = fds[0];
        return 1;
    }
    if (r == 1 && packet.kind == HOLD_DAEMON && count == 2 && ret->daemon_count < HOLD_DAEMONS) {
        ret->daemons[ret->daemon_count++] = (struct HeldDaemon){fds[0], fds[1]};
        return 1;
    }
    base_closep(&fds[0]);
    base_closep(&fds[1]);
    return r == 1 && packet.kind == HOLD_END && count == 0 ? 0 : -EPROTO;
}

int held_receive(Channel *channel, Held *ret) {
    int r;

    do {
        r = held_receive_one(channel, ret);
    } while (r > 0);
    return r;
}
