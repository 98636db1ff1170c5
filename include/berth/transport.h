/* SPDX-License-Identifier: MIT */
/*
 * How messages travel between front-end and daemon once HELLO is done: over the
 * channel's socket, or, where both sides agree (HELLO_FEATURE_RING), through a pair
 * of rings in shared memory. Then the socket only tells of the peer's end: a
 * packet on it is a breach of the protocol.
 *
 * A side that finds its ring empty may look at it for a moment (as long as the wake-ups
 * take that it may spare, at most 1 ms, and only where looking has paid lately:
 * transport_look()); then it raises the ring's
 * sleeping flag, looks once more, and sleeps on a pipe; the peer writes a byte there
 * only when it finds the flag raised. A pipe and not an eventfd, because the two ends of a pipe
 * are open file descriptions of their own: a hostile peer can neither take
 * O_NONBLOCK off ours nor fill it in a way that makes a write of ours block.
 *
 * The rings have room for the largest message in every slot, so sending never
 * waits: a full ring means that the peer gave answers to what it did not take, or
 * takes no answers, and is -EPROTO.
 *
 * Threads: any number may send. One at a time receives; with a lock of the callers'
 * around all calls that do, several may take turns, also while one of them sleeps in
 * transport_receive_unlocking(). SIGPIPE must be ignored.
 */
#ifndef BERTH_TRANSPORT_H
#define BERTH_TRANSPORT_H

#include "berth/channel.h"
#include <pthread.h>

typedef struct Transport Transport;

/* Takes the channel over (also on failure). Messages go over the socket. */
int transport_new(Channel *channel, Transport **ret);
Transport *transport_free(Transport *transport);
DEFINE_CLEANUP(Transport *, transport_free);
/* For HELLO, and for watching the socket. */
Channel *transport_channel(Transport *transport);
bool transport_has_ring(const Transport *transport);

/*
 * Front-end, before its HELLO: makes the rings for that many slots. fds, the descriptors for the
 * HELLO from HELLO_FD_RING on, stay the transport's. Nothing travels there before settle.
 */
int transport_ring_offer(Transport *transport, unsigned slots, int fds[HELLO_RING_FDS]);
/* Front-end, after the daemon's HELLO: uses the rings or drops them; in any case lets go of the
 * peer's descriptors. */
void transport_ring_settle(Transport *transport, bool agreed);
/* Daemon: checks and maps what came with the HELLO, and uses it. Takes the descriptors over (they
 * become -1) when it succeeds. */
int transport_ring_accept(Transport *transport, unsigned slots, int fds[HELLO_RING_FDS]);

/* 0, -EPIPE, -EPROTO, -EMSGSIZE; try on a socket: -EAGAIN. Messages are never mixed. */
int transport_send(Transport *transport, const void *message, size_t length);
int transport_try_send(Transport *transport, const void *message, size_t length);
/* Bytes received (> 0), 0 at the end (after all that the peer sent before), -EPROTO. */
int transport_receive(Transport *transport, void *buf, size_t capacity);
/* The same. lock, which the caller holds, is free while this thread sleeps. */
int transport_receive_unlocking(Transport *transport, pthread_mutex_t *lock, void *buf,
                                size_t capacity);
/* The same without waiting: -EAGAIN. A ring does not see the peer's end: transport_try_end(). */
int transport_try_receive(Transport *transport, void *buf, size_t capacity);

/*
 * For an event loop, with a ring:
 *   before it waits        transport_prepare_sleep(); false: do not wait, receive again
 *   when wake_fd can be read   transport_woken(), then receive; -EPROTO after a storm of wake-ups
 *                          that brought no message
 *   when the socket can be read   receive all, then transport_try_end(): 0 nothing, -EPIPE the
 *                          peer has gone, -EPROTO
 */
bool transport_prepare_sleep(Transport *transport);
int transport_wake_fd(const Transport *transport);
int transport_woken(Transport *transport);
int transport_try_end(Transport *transport);

/* What is waited for, as far as it tells how long that takes. */
typedef enum TransportWait {
    TRANSPORT_WAIT_MESSAGE, /* the peer's next one, nobody knows which */
    TRANSPORT_WAIT_ANSWER,  /* of a request that a daemon can mostly serve from memory */
    TRANSPORT_WAIT_DEVICE,  /* of one that has it read from the device or flush it */
} TransportWait;

/*
 * Before falling asleep. transport_look_limit() says for how many nanoseconds it pays to look (0:
 * not at all, and always over a socket; ask once for each time that the thread would fall asleep).
 * transport_look() looks: true, something has come; false: nothing, or busy_fd (-1: none) can be
 * read, which is asked every 5 us. It takes nothing and never fails.
 */
uint32_t transport_look_limit(Transport *transport, TransportWait wait);
bool transport_look(Transport *transport, TransportWait wait, uint32_t limit_ns, int busy_fd);
/* The peer need not wake anybody: the caller receives, until transport_prepare_sleep() returns
 * true. For whoever takes a turn while another thread sleeps. */
void transport_awake(Transport *transport);

/* Every blocked or later call ends, here and at the peer, but what has been sent can be received.
 */
void transport_shutdown(Transport *transport);

#endif
