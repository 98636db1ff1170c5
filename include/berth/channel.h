/* SPDX-License-Identifier: MIT */
/*
 * Channels carry whole messages between front-end and daemon: SOCK_SEQPACKET
 * over a Unix socket, one message a packet, descriptors beside the HELLO. The
 * queue is bounded by the socket; send and receive come in blocking and try
 * forms. And the arena: two sealed memfds of the front-end's for payloads above
 * FS_INLINE_MAX, `out` for what is written (the daemon may only read it), `in`
 * for what is read.
 */
#ifndef BERTH_CHANNEL_H
#define BERTH_CHANNEL_H

#include "berth/base.h"
#include "berth/message.h"

typedef struct Channel Channel;

/* A connected pair; the second descriptor is for the other process. */
int channel_pair(Channel **ret, int *ret_peer_fd);
/* Takes ownership of fd (also on failure). */
int channel_new(int fd, Channel **ret);
Channel *channel_free(Channel *channel);
DEFINE_CLEANUP(Channel *, channel_free);
int channel_fd(const Channel *channel);
/* Shuts both directions: every blocked or later call ends (-EPIPE, or 0 bytes). */
void channel_shutdown(Channel *channel);

/*
 * 0, -EAGAIN (try form, queue full), -EPIPE (the peer is gone), -EMSGSIZE. Thread-safe: messages
 * are never mixed.
 */
int channel_send(Channel *channel, const void *message, size_t length);
int channel_try_send(Channel *channel, const void *message, size_t length);
/* Two parts, one message (header, payload): saves a copy. */
int channel_send2(Channel *channel, const void *head, size_t head_length, const void *body,
                  size_t body_length, bool wait);
/* Bytes received (> 0), 0 at end of file, -EAGAIN (try form), -EPROTO for a truncated message or
 * unasked descriptors (closed). */
int channel_receive(Channel *channel, void *buf, size_t capacity);
int channel_try_receive(Channel *channel, void *buf, size_t capacity);
int channel_send_fds(Channel *channel, const void *message, size_t length, const int *fds,
                     unsigned count);
/* At most `capacity` (16) descriptors (close-on-exec), *ret_count says how many; extra ones are
 * closed and make it -EPROTO. timeout_ms < 0: wait for ever; -ETIMEDOUT. */
int channel_receive_fds(Channel *channel, void *buf, size_t buf_capacity, int *fds,
                        unsigned capacity, unsigned *ret_count, int timeout_ms);

/* ---- HELLO ---- */

/* Descriptors that go with the front-end's HELLO, in this order; the rings' only with
 * HELLO_FEATURE_RING, the journal's only with HELLO_FEATURE_JOURNAL. */
enum HelloFd {
    HELLO_FD_IMAGE,
    HELLO_FD_ARENA_OUT,
    HELLO_FD_ARENA_IN,
    HELLO_FD_LIFELINE, /* man berth-recovery.7, section 1 */
    HELLO_FD_FENCE,    /* pipe, write end: closed when all device I/O of the daemon has ended */
    HELLO_FD_COUNT,
    HELLO_FD_RING = HELLO_FD_COUNT, /* memory of both rings */
    HELLO_FD_RING_WAKE,             /* pipe, read end: wakes the daemon */
    HELLO_FD_RING_BELL,             /* pipe, write end: wakes the front-end */
    HELLO_FD_JOURNAL, /* side journal: the last that is sent, whatever comes before it */
    HELLO_FD_MAX,
};
#define HELLO_RING_FDS 3

#define HELLO_FEATURE_ARENA (UINT64_C(1) << 0)
#define HELLO_FEATURE_RING (UINT64_C(1) << 1)
#define HELLO_FEATURE_JOURNAL (UINT64_C(1) << 2) /* not to be refused when offered */
#define HELLO_FEATURES_KNOWN (HELLO_FEATURE_ARENA | HELLO_FEATURE_RING | HELLO_FEATURE_JOURNAL)

typedef struct Hello {
    uint32_t version;                       /* highest spoken; the answer carries the one chosen */
    uint64_t features;                      /* offered; the answer carries the common ones */
    uint32_t epoch;                         /* of this channel, from the front-end */
    uint32_t slots;                         /* admission limit, 1 to 4096 */
    uint64_t arena_out_size, arena_in_size; /* bytes */
    uint64_t image_start, image_length;     /* the volume inside the image descriptor */
    bool readonly;
    bool held;        /* end of file: end at once, somebody else goes on with the lifeline */
    char type[32];    /* filesystem asked for */
    char source[256]; /* for log lines only */
    uint32_t pid;     /* the sender's */
    int32_t result;   /* the answer's: 0 or -errno */
    char text[128];   /* the answer's: one line when result is not 0 */
} Hello;
#define HELLO_SIZE 512u
/* Control characters in source and text become '?'. decode: -EPROTO for fields out of range (slots
 * may be 0 in a refusal only); unknown feature bits are kept, they are the sender's offer. */
void hello_encode(const Hello *hello, uint8_t buf[HELLO_SIZE]);
int hello_decode(const uint8_t *buf, size_t length, Hello *ret, char text[128]);

/* ---- arena ---- */

typedef struct ArenaMap {
    uint8_t *base;
    uint64_t size;
} ArenaMap;
/* The daemon's side: maps a received memfd; writable or read-only. Checks size and seals (SHRINK
 * and GROW must be set, so that no access can fault). */
int arena_map(int fd, uint64_t size, bool writable, ArenaMap *ret);
void arena_unmap(ArenaMap *map);
/* NULL unless [offset, offset + length) lies inside. */
void *arena_at(const ArenaMap *map, uint64_t offset, uint64_t length);

/*
 * The front-end's side: makes the memfd and hands out slots, thread-safe. Small slots are 64 KiB,
 * large ones FS_IO_MAX. A slot's memory is allocated (fallocate) when first used, as much of it as
 * is asked for, so that a full machine is -ENOMEM here and never SIGBUS.
 */
typedef struct Arena Arena;
typedef struct ArenaSlot {
    uint8_t *data;
    uint64_t offset;
    uint32_t length;
    uint32_t index;
} ArenaSlot;
#define ARENA_SMALL 65536u
/* head_room: bytes of private memory mapped directly before each large slot's data (0, or up to a
 * page): where a FUSE request's header lands, in one read of head_room + FS_IO_MAX bytes. The page
 * behind a slot is inaccessible. seal_readonly: others can map it for reading only. */
int arena_new(const char *name, unsigned small_count, unsigned large_count, size_t head_room,
              bool seal_readonly, Arena **ret);
Arena *arena_free(Arena *arena);
DEFINE_CLEANUP(Arena *, arena_free);
int arena_fd(const Arena *arena);
uint64_t arena_size(const Arena *arena);
/*
 * A slot of at least length bytes: a small one up to ARENA_SMALL (never a large one instead, so
 * that small requests cannot starve large ones; an arena without small slots serves all from the
 * large). Waits until one is free (or, without wait, -EAGAIN). -ENOMEM, -EMSGSIZE when no slot of
 * this arena is that large, -ESHUTDOWN after arena_shutdown().
 */
int arena_slot_get(Arena *arena, uint32_t length, bool wait, ArenaSlot *ret);
void arena_slot_put(Arena *arena, const ArenaSlot *slot);
void arena_shutdown(Arena *arena);

#endif
