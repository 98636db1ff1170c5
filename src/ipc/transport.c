/* SPDX-License-Identifier: MIT */
/*
 * Socket or rings (transport.h). One memfd holds both rings:
 *     page 0           RingControl of the requests, then that of the responses
 *     then             the requests' data, then the responses' data
 * The front-end makes it, sealed against shrinking so that no access lies behind its end.
 *
 * send_lock covers `out`; `in` belongs to the receiving thread. `state` says how it
 * ended; it is set before the socket is shut, so that whoever is woken by that
 * finds it.
 */
#include "berth/transport.h"

#include "format.h"
#include "memfile.h"
#include "ring.h"
#include "spin.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

/* The largest message there is, with its record's header, per slot. */
#define RING_BYTES_PER_SLOT 4608u
#define RING_BYTES_MIN 16384u /* FS_MESSAGE_MAX must fit, whatever the slots */
#define CONTROL_PAGE 4096u
/* An honest peer wakes at most once per message, and per thread that sends. */
#define EMPTY_WAKEUPS_MAX 1024u
/* Of a look: loads between two looks at the clock (about half a microsecond), and how often busy_fd
 * is asked. */
#define LOOK_LOADS 16u
#define LOOK_BUSY_NS 5000u

static_assert(FS_REQUEST_HEADER + 256 + FS_INLINE_MAX + RING_RECORD_HEADER <= RING_BYTES_PER_SLOT,
              "request in a ring");
static_assert(FS_RESPONSE_HEADER + FS_INLINE_MAX + RING_RECORD_HEADER <= RING_BYTES_PER_SLOT,
              "response in a ring");

/* How many wake-ups (spin.h). Before the next request there are two for each that the kernel makes
 * of the front-end in between; until an answer the daemon's and ours, and a device's wake-up has a
 * processor to wake as well. */
static const uint32_t wakes_spared[] = {
    [TRANSPORT_WAIT_MESSAGE] = 8,
    [TRANSPORT_WAIT_ANSWER] = 4,
    [TRANSPORT_WAIT_DEVICE] = 4,
};

enum { FD_MEMORY, FD_WAKE, FD_BELL }; /* in the order of HelloFd, from HELLO_FD_RING on */

struct Transport {
    Channel *channel;
    _Atomic int state; /* 0, -EPIPE: ended, -EPROTO: the peer broke the rules */
    bool ring;
    ArenaMap memory;
    Ring in, out;
    int wake_fd, bell_fd; /* where we are woken, where we wake */
    int peer_fds[HELLO_RING_FDS];
    pthread_mutex_t send_lock;
    unsigned empty_wakeups; /* since the last message */
    Spin spin[TRANSPORT_WAIT_DEVICE + 1];
};

int transport_new(Channel *channel, Transport **ret) {
    Transport *transport = calloc(1, sizeof(*transport));

    if (transport == NULL) {
        channel_free(channel);
        return -ENOMEM;
    }
    transport->channel = channel;
    transport->wake_fd = transport->bell_fd = -1;
    for (size_t i = 0; i < HELLO_RING_FDS; i++) {
        transport->peer_fds[i] = -1;
    }
    (void)pthread_mutex_init(&transport->send_lock, NULL);
    *ret = transport;
    return 0;
}

static void close_fd(int *fd) {
    base_closep(fd);
    *fd = -1;
}

static void close_peer_fds(Transport *transport) {
    for (size_t i = 0; i < HELLO_RING_FDS; i++) {
        close_fd(&transport->peer_fds[i]);
    }
}

static void drop_ring(Transport *transport) {
    transport->ring = false;
    arena_unmap(&transport->memory);
    close_fd(&transport->wake_fd);
    close_fd(&transport->bell_fd);
    close_peer_fds(transport);
}

Transport *transport_free(Transport *transport) {
    if (transport != NULL) {
        drop_ring(transport);
        channel_free(transport->channel);
        (void)pthread_mutex_destroy(&transport->send_lock);
        free(transport);
    }
    return NULL;
}

Channel *transport_channel(Transport *transport) {
    return transport->channel;
}

bool transport_has_ring(const Transport *transport) {
    return transport->ring;
}

static uint64_t now_ns(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- setting up ---- */

static uint64_t ring_bytes(unsigned slots) {
    return MAX(align_up((uint64_t)slots * RING_BYTES_PER_SLOT, CONTROL_PAGE),
               (uint64_t)RING_BYTES_MIN);
}

static uint64_t memory_size(unsigned slots) {
    return CONTROL_PAGE + 2 * ring_bytes(slots);
}

/* requests, responses: our own views of the two rings. */
static void init_rings(Transport *transport, unsigned slots, Ring *requests, Ring *responses) {
    uint8_t *base = transport->memory.base;
    uint64_t bytes = ring_bytes(slots);

    ring_init(requests, base, base + CONTROL_PAGE, bytes);
    ring_init(responses, base + RING_CONTROL_SIZE, base + CONTROL_PAGE + bytes, bytes);
    for (size_t i = 0; i < ARRAY_SIZE(wakes_spared); i++) {
        spin_init(&transport->spin[i], wakes_spared[i]);
    }
}

/* Its pages come with use, from the first byte on: a spare that is never spoken to, and a mount
 * that does little, have next to none. The kernel has promised all of them already (memfd_create()
 * accounts the whole size), as it has for what malloc() gives. */
static int make_memory(uint64_t size, int *ret) {
    _cleanup_close_ int fd = -1;
    int r = memfile_new("berth-rings", size, &fd);

    if (r < 0) {
        return r == -ENOSPC ? -ENOMEM : r;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        return -errno;
    }
    *ret = steal_fd(&fd);
    return 0;
}

static int make_pipe(int *ret_read, int *ret_write) {
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    *ret_read = fds[0];
    *ret_write = fds[1];
    return 0;
}

int transport_ring_offer(Transport *transport, unsigned slots, int fds[HELLO_RING_FDS]) {
    uint64_t size = memory_size(slots);
    int r = make_memory(size, &transport->peer_fds[FD_MEMORY]);

    if (r == 0) {
        r = arena_map(transport->peer_fds[FD_MEMORY], size, true, &transport->memory);
    }
    if (r == 0) {
        r = make_pipe(&transport->peer_fds[FD_WAKE], &transport->bell_fd);
    }
    if (r == 0) {
        r = make_pipe(&transport->wake_fd, &transport->peer_fds[FD_BELL]);
    }
    if (r < 0) {
        drop_ring(transport);
        return r;
    }
    init_rings(transport, slots, &transport->out, &transport->in);
    memcpy(fds, transport->peer_fds, sizeof(transport->peer_fds));
    return 0;
}

void transport_ring_settle(Transport *transport, bool agreed) {
    if (!agreed) {
        drop_ring(transport);
        return;
    }
    /* The end of file of wake_fd is a death notice only if nobody else holds the other end. */
    close_peer_fds(transport);
    transport->ring = true;
}

static int check_pipe(int fd) {
    struct stat st;
    int flags;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISFIFO(st.st_mode)) {
        return -EPROTO;
    }
    flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int transport_ring_accept(Transport *transport, unsigned slots, int fds[HELLO_RING_FDS]) {
    int r = check_pipe(fds[FD_WAKE]);

    if (r == 0) {
        r = check_pipe(fds[FD_BELL]);
    }
    if (r == 0) {
        r = arena_map(fds[FD_MEMORY], memory_size(slots), true, &transport->memory);
    }
    if (r < 0) {
        return r;
    }
    init_rings(transport, slots, &transport->in, &transport->out);
    transport->wake_fd = steal_fd(&fds[FD_WAKE]);
    transport->bell_fd = steal_fd(&fds[FD_BELL]);
    close_fd(&fds[FD_MEMORY]); /* the mapping stays */
    transport->ring = true;
    return 0;
}

/* ---- the end ---- */

/* The first reason stays. */
static void end_with(Transport *transport, int error) {
    int none = 0;

    (void)atomic_compare_exchange_strong(&transport->state, &none, error);
    channel_shutdown(transport->channel);
}

void transport_shutdown(Transport *transport) {
    end_with(transport, -EPIPE);
}

int transport_try_end(Transport *transport) {
    uint8_t packet[64];
    int state = atomic_load(&transport->state);
    int r;

    if (state < 0) {
        return state;
    }
    r = channel_try_receive(transport->channel, packet, sizeof(packet));
    if (r == -EAGAIN) {
        return 0;
    }
    return r > 0 || r == -EPROTO ? -EPROTO : -EPIPE;
}

/* ---- sending ---- */

static void wake_peer(Transport *transport) {
    ssize_t n;

    atomic_store_explicit(&transport->out.control->rung, now_ns(), memory_order_relaxed);
    /* A full pipe is a wake-up already; a closed one is the receiving side's to find. */
    do {
        n = write(transport->bell_fd, "", 1);
    } while (n < 0 && errno == EINTR);
}

static int send_by_ring(Transport *transport, const void *message, size_t length) {
    int r = atomic_load(&transport->state);

    if (r < 0) {
        return r;
    }
    (void)pthread_mutex_lock(&transport->send_lock);
    r = ring_put(&transport->out, message, length);
    (void)pthread_mutex_unlock(&transport->send_lock);
    if (r == -EPROTO) {
        end_with(transport, r); /* the receiving thread is to hear of it as well */
    } else if (r == 0 && ring_must_wake(&transport->out)) {
        wake_peer(transport);
    }
    return r;
}

int transport_send(Transport *transport, const void *message, size_t length) {
    return transport->ring ? send_by_ring(transport, message, length)
                           : channel_send(transport->channel, message, length);
}

int transport_try_send(Transport *transport, const void *message, size_t length) {
    return transport->ring ? send_by_ring(transport, message, length)
                           : channel_try_send(transport->channel, message, length);
}

/* ---- receiving ---- */

int transport_try_receive(Transport *transport, void *buf, size_t capacity) {
    int r;

    if (!transport->ring) {
        return channel_try_receive(transport->channel, buf, capacity);
    }
    r = ring_take(&transport->in, buf, capacity);
    if (r > 0) {
        transport->empty_wakeups = 0;
    } else if (r == -EPROTO) {
        end_with(transport, r);
    }
    return r;
}

bool transport_prepare_sleep(Transport *transport) {
    bool sleep = !transport->ring || ring_prepare_sleep(&transport->in);

    if (sleep) {
        spin_sleep(&transport->spin[TRANSPORT_WAIT_MESSAGE]);
    }
    return sleep;
}

void transport_awake(Transport *transport) {
    if (transport->ring) {
        ring_awake(&transport->in);
    }
}

/* ---- looking ---- */

static bool is_readable(int fd) {
    struct pollfd waited = {.fd = fd, .events = POLLIN};

    return fd >= 0 && poll(&waited, 1, 0) > 0;
}

uint32_t transport_look_limit(Transport *transport, TransportWait wait) {
    return transport->ring ? spin_limit(&transport->spin[wait], now_ns()) : 0;
}

/* Something has come, or a position is impossible, which receiving finds out. */
static bool look_briefly(const Transport *transport) {
    for (unsigned i = 0; i < LOOK_LOADS; i++) {
        if (ring_has_more(&transport->in)) {
            return true;
        }
        spin_pause();
    }
    return false;
}

bool transport_look(Transport *transport, TransportWait wait, uint32_t limit_ns, int busy_fd) {
    const uint64_t started = now_ns();
    uint64_t now = started, last = started, asked = started, away_ns = 0;
    bool seen;

    for (;;) {
        seen = look_briefly(transport);
        now = now_ns();
        away_ns = MAX(away_ns, now - last);
        last = now;
        if (seen || now - started >= limit_ns) {
            break;
        }
        if (now - asked >= LOOK_BUSY_NS) {
            asked = now;
            if (is_readable(busy_fd)) {
                return false; /* that says nothing about the peer */
            }
        }
        (void)sched_yield();
    }
    spin_looked(&transport->spin[wait], seen, away_ns, now);
    if (wait == TRANSPORT_WAIT_MESSAGE) {
        spin_stay(&transport->spin[wait]);
    }
    return seen;
}

int transport_wake_fd(const Transport *transport) {
    return transport->wake_fd;
}

/* By the peer's word, which may be anything, and which an older peer does not give. */
static void woken_since(Transport *transport, uint64_t rung_ns) {
    uint64_t took_ns = now_ns() - rung_ns;

    for (size_t i = 0; rung_ns != 0 && i < ARRAY_SIZE(transport->spin); i++) {
        spin_woken(&transport->spin[i], took_ns);
    }
}

int transport_woken(Transport *transport) {
    uint8_t bytes[256];
    uint64_t rung = atomic_load_explicit(&transport->in.control->rung, memory_order_relaxed);

    /* What does not fit wakes once more. At end of file the peer has gone. */
    if (read(transport->wake_fd, bytes, sizeof(bytes)) == 0) {
        return -EPIPE;
    }
    ring_awake(&transport->in);
    woken_since(transport, rung);
    return ++transport->empty_wakeups > EMPTY_WAKEUPS_MAX ? -EPROTO : 0;
}

static void unlock(pthread_mutex_t *lock) {
    if (lock != NULL) {
        (void)pthread_mutex_unlock(lock);
    }
}

static void relock(pthread_mutex_t *lock) {
    if (lock != NULL) {
        (void)pthread_mutex_lock(lock);
    }
}

/* Sleeps, without the lock, until there may be something to take: 0, -EPIPE, -EPROTO. */
static int sleep_once(Transport *transport, pthread_mutex_t *lock) {
    struct pollfd fds[] = {
        {.fd = transport->wake_fd, .events = POLLIN},
        {.fd = channel_fd(transport->channel), .events = POLLIN},
    };
    int r;

    unlock(lock);
    r = poll(fds, ARRAY_SIZE(fds), -1) < 0 ? -errno : 0;
    relock(lock);
    if (r < 0) {
        return r == -EINTR ? 0 : r;
    }
    if (fds[0].revents != 0) {
        r = transport_woken(transport);
    }
    return r == 0 && fds[1].revents != 0 ? transport_try_end(transport) : r;
}

static int receive_by_socket(Transport *transport, pthread_mutex_t *lock, void *buf,
                             size_t capacity) {
    int r;

    unlock(lock);
    r = channel_receive(transport->channel, buf, capacity);
    relock(lock);
    return r;
}

int transport_receive_unlocking(Transport *transport, pthread_mutex_t *lock, void *buf,
                                size_t capacity) {
    int end = 0;

    if (!transport->ring) {
        return receive_by_socket(transport, lock, buf, capacity);
    }
    for (;;) {
        int r = transport_try_receive(transport, buf, capacity);

        if (r != -EAGAIN) {
            return r;
        }
        if (end < 0) { /* and what was sent before it has been taken */
            end_with(transport, end);
            return atomic_load(&transport->state) == -EPIPE ? 0 : -EPROTO;
        }
        if (ring_prepare_sleep(&transport->in)) {
            end = sleep_once(transport, lock);
            if (end == -EPROTO) { /* at once: nothing would find it again */
                end_with(transport, end);
                return end;
            }
        }
    }
}

int transport_receive(Transport *transport, void *buf, size_t capacity) {
    return transport_receive_unlocking(transport, NULL, buf, capacity);
}
