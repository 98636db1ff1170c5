/* SPDX-License-Identifier: MIT */
/*
 * A daemon that dies: a child process with a volume on shared memory and a lifeline, and
 * the front-end's part of a takeover. Requests lie in cells of shared memory, one per slot; one
 * byte in a pipe says which is new, one in another which is answered. The child dies
 * at the event whose number it was given: device writes (half done), requests
 * taken, answers not yet sent or just sent. Its successor mounts with RECOVER, and what
 * was not answered is sent again, in the old order. FENCE comes at a random moment, or when
 * nothing moves any more.
 *
 * All is repeatable from the seed, but for deaths by timer (peer_timer): those come at
 * any instruction.
 */
#ifndef BERTH_TESTS_RECOVER_PEER_H
#define BERTH_TESTS_RECOVER_PEER_H

#include "berth/service.h"
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#ifndef VOLUME_TYPE
#define VOLUME_TYPE fat_type /* another format's tests define it */
#endif
#define PEER_SLOTS 16u /* the last one is for MOUNT, FENCE and the like */
#define PEER_OWN_SLOT (PEER_SLOTS - 1)
#define PEER_IO 65536u
#define PEER_DIED 99 /* exit code */

/* One request and its answer, in shared memory. */
typedef struct PeerCell {
    FSRequest request; /* names and payload point into the cell */
    FSResponse response;
    char name[FS_NAME_MAX + 1], name2[FS_NAME_MAX + 1];
    uint8_t in[PEER_IO], out[PEER_IO];
} PeerCell;

typedef struct PeerShared {
    uint64_t die_at; /* event, 0: never */
    uint64_t events; /* seen by the present child */
    PeerCell cells[PEER_SLOTS];
} PeerShared;

typedef struct RecoverPeer {
    PeerShared *shared;
    uint8_t *image;
    uint64_t image_size;
    const char *options;
    int lifeline;
    pid_t pid;
    int to, from; /* pipes */
    bool in_flight[PEER_SLOTS];
    uint64_t order[PEER_SLOTS]; /* of sending */
    uint64_t sent, last_number, own_seq;
    bool fenced;    /* the present child knows */
    uint64_t state; /* of random numbers */
    uint64_t deaths, early_deaths, timer_deaths, resent;
    uint64_t death_range; /* die_at is below this; 0: it lives */
    bool timers;          /* deaths by timer as well */
    bool chaos;           /* fibers suspend at random */
    void (*answered)(struct RecoverPeer *peer, unsigned slot);
} RecoverPeer;

static uint64_t peer_random(RecoverPeer *peer, uint64_t below) {
    peer->state = peer->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (peer->state >> 20) % below;
}

/* ---- the child ---- */

static RecoverPeer *here; /* in the child */

/* One more; true: this is the one to die at. */
static bool peer_event(void) {
    return ++here->shared->events == here->shared->die_at;
}

static void peer_die_here(void) {
    if (peer_event()) {
        _exit(PEER_DIED);
    }
}

/* A device on the shared image; a fatal write is done in part. */
static void dying_submit(BlockDevice *disk, BlockRequest *request) {
    uint8_t *at = here->image + request->offset;
    uint64_t limit = request->length;
    bool fatal = request->op != BLOCK_READ && peer_event();

    (void)disk;
    if (fatal) {
        limit = peer_random(here, request->length / 512 + 1) * 512;
    }
    if (request->op == BLOCK_DISCARD) {
        memset(at, 0, limit);
    }
    for (int i = 0; i < request->iov_count && request->op != BLOCK_DISCARD; i++) {
        uint64_t part = MIN(request->iov[i].iov_len, limit);

        if (request->op == BLOCK_READ) {
            memcpy(request->iov[i].iov_base, at, part);
        } else if (request->op == BLOCK_WRITE) {
            memcpy(at, request->iov[i].iov_base, part);
        }
        at += part;
        limit -= part;
    }
    if (fatal) {
        _exit(PEER_DIED);
    }
    block_complete(request, 0);
}

static void dying_free(BlockDevice *disk) {
    (void)disk;
}

static const BlockBackend dying_backend = {
    .name = "dying", .suspends = false, .submit = dying_submit, .free = dying_free};

static Volume *peer_volume; /* in the child */

static void peer_done(void *ctx, FSResponse *answer) {
    PeerCell *cell = ctx;
    uint8_t slot = (uint8_t)(cell - here->shared->cells);
    bool shutdown = answer->type == FS_MSG_SHUTDOWN;

    cell->response = *answer;
    cell->response.data = answer->data_length > 0 ? cell->out : NULL;
    peer_die_here();
    if (write(here->from, &slot, 1) != 1 || shutdown) {
        _exit(0); /* leaves everything to the kernel, as a death does: nothing may be needed */
    }
    peer_die_here();
}

static void peer_take(void *arg, short revents) {
    uint8_t slot;

    (void)arg;
    (void)revents;
    if (read(here->to, &slot, 1) != 1) {
        _exit(1);
    }
    peer_die_here();
    {
        PeerCell *cell = &here->shared->cells[slot];
        const ServiceBuffers buffers = {cell->in, cell->out, sizeof(cell->out)};

        if (fs_op_async(peer_volume, &cell->request, &buffers, peer_done, cell) < 0) {
            _exit(2);
        }
    }
}

static void peer_child(RecoverPeer *peer, unsigned timer_us) {
    const LoopConfig config = {.no_ring = true};
    const struct itimerval timer = {.it_value = {.tv_usec = (suseconds_t)timer_us}};
    static BlockBackend backend;
    Lifeline *lifeline;
    BlockDevice *disk;
    Loop *loop;

    here = peer;
    backend = dying_backend;
    peer->shared->events = 0;
    (void)signal(SIGALRM, SIG_DFL);
    if (loop_new(&config, &loop) < 0 || lifeline_open(peer->lifeline, PEER_SLOTS, &lifeline) < 0 ||
        block_memory_new(peer->image_size, 512, peer->image, &disk) < 0) {
        _exit(3);
    }
    disk->backend = &backend;
    if (volume_new(&VOLUME_TYPE, disk, loop, &peer_volume) < 0) {
        _exit(4);
    }
    volume_set_lifeline(peer_volume, lifeline);
    if (loop_watch_new(loop, peer->to, POLLIN, peer_take, NULL) == NULL) {
        _exit(5);
    }
    if (peer->chaos) {
        fiber_set_chaos(peer->state | 1);
    }
    if (timer_us > 0) {
        (void)setitimer(ITIMER_REAL, &timer, NULL);
    }
    (void)loop_run(loop);
    _exit(6);
}

/* ---- the front-end ---- */

static void peer_pump(RecoverPeer *peer);

static void peer_post(RecoverPeer *peer, unsigned slot) {
    uint8_t byte = (uint8_t)slot;

    peer->in_flight[slot] = true;
    (void)!write(peer->to, &byte, 1); /* if it is dead, it is sent again */
}

/* Copies the request into its slot's cell and sends it. */
static void peer_send(RecoverPeer *peer, const FSRequest *request) {
    unsigned slot = fs_request_slot(request->request_id);
    PeerCell *cell = &peer->shared->cells[slot];

    ck_assert(!peer->in_flight[slot]);
    cell->request = *request;
    if (request->name.length > 0) {
        memcpy(cell->name, request->name.text, request->name.length);
    }
    if (request->name2.length > 0) {
        memcpy(cell->name2, request->name2.text, request->name2.length);
    }
    if (request->payload_length > 0) {
        ck_assert_uint_le(request->payload_length, PEER_IO);
        memcpy(cell->in, request->payload, request->payload_length);
    }
    cell->request.name.text = cell->name;
    cell->request.name2.text = cell->name2;
    cell->request.payload = cell->in;
    peer->order[slot] = ++peer->sent;
    peer_post(peer, slot);
}

static void peer_own(RecoverPeer *peer, FSRequest request) {
    request.request_id = fs_request_id(PEER_OWN_SLOT, ++peer->own_seq);
    peer_send(peer, &request);
}

static void peer_fence(RecoverPeer *peer) {
    if (!peer->fenced && !peer->in_flight[PEER_OWN_SLOT]) {
        peer->fenced = true;
        peer_own(peer, (FSRequest){.type = FS_MSG_FENCE});
    }
}

/* The front-end would get it over the wire. */
static void peer_check_answer(const FSResponse *answer) {
    static uint8_t message[FS_MESSAGE_MAX];
    FSResponse sent = *answer;

    if (sent.data_length > FS_INLINE_MAX) {
        sent.flags |= FS_RESP_ARENA;
        sent.data = NULL;
    }
    ck_assert_msg(fs_response_encode(&sent, message, sizeof(message)) > 0,
                  "%s: the wire cannot express the answer", fs_message_name(answer->type));
}

static void peer_take_answers(RecoverPeer *peer) {
    uint8_t slots[PEER_SLOTS * 2];
    ssize_t count = read(peer->from, slots, sizeof(slots));

    for (ssize_t i = 0; i < count; i++) {
        unsigned slot = slots[i];
        const FSResponse *answer = &peer->shared->cells[slot].response;

        ck_assert_uint_lt(slot, PEER_SLOTS);
        ck_assert(peer->in_flight[slot]);
        ck_assert_uint_eq(answer->request_id, peer->shared->cells[slot].request.request_id);
        ck_assert_uint_eq(answer->type, peer->shared->cells[slot].request.type);
        ck_assert_msg(answer->number > peer->last_number, "number %llu after %llu",
                      (unsigned long long)answer->number, (unsigned long long)peer->last_number);
        peer_check_answer(answer);
        peer->last_number = answer->number;
        peer->in_flight[slot] = false;
        if (peer->answered != NULL) {
            peer->answered(peer, slot);
        }
    }
}

static void peer_spawn(RecoverPeer *peer) {
    bool by_timer = peer->timers && peer->death_range > 0 && peer_random(peer, 3) == 0;
    unsigned timer_us = by_timer ? 50 + (unsigned)peer_random(peer, 6000) : 0;
    int to[2], from[2];

    peer->shared->die_at =
        peer->death_range > 0 && !by_timer ? 1 + peer_random(peer, peer->death_range) : 0;
    ck_assert_int_eq(pipe2(to, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
    peer->pid = fork();
    ck_assert_int_ge(peer->pid, 0);
    peer->to = peer->pid == 0 ? to[0] : to[1];
    peer->from = peer->pid == 0 ? from[1] : from[0];
    (void)close(peer->pid == 0 ? to[1] : to[0]);
    (void)close(peer->pid == 0 ? from[0] : from[1]);
    if (peer->pid == 0) {
        peer_child(peer, timer_us);
    }
}

static void peer_reap(RecoverPeer *peer) {
    int status;

    ck_assert_int_eq(waitpid(peer->pid, &status, 0), peer->pid);
    (void)close(peer->to);
    (void)close(peer->from);
    peer->deaths++;
    if (WIFSIGNALED(status)) {
        int signal = WTERMSIG(status);

        peer->timer_deaths += signal == SIGALRM;
        ck_assert_msg(signal == SIGALRM || signal == SIGKILL, "the daemon died of signal %d",
                      signal);
        return;
    }
    ck_assert_msg(WEXITSTATUS(status) == PEER_DIED, "the daemon ended with %d",
                  WEXITSTATUS(status));
}

/* Waits for an answer or an end. False: neither came in time. */
static bool peer_wait(RecoverPeer *peer, int timeout_ms) {
    struct pollfd from = {.fd = peer->from, .events = POLLIN};

    return poll(&from, 1, timeout_ms) > 0;
}

static bool peer_is_dead(RecoverPeer *peer) {
    struct pollfd from = {.fd = peer->from, .events = POLLIN};

    return poll(&from, 1, 0) > 0 && !(from.revents & POLLIN);
}

/* MOUNT, until a child survives it. */
static void peer_mount(RecoverPeer *peer, bool recover) {
    bool pending[PEER_SLOTS];

    memcpy(pending, peer->in_flight, sizeof(pending));
    memset(peer->in_flight, 0, sizeof(peer->in_flight));
    for (;;) {
        peer_spawn(peer);
        peer->fenced = !recover;
        peer->in_flight[PEER_OWN_SLOT] = false;
        peer_own(peer, (FSRequest){.type = FS_MSG_MOUNT,
                                   .flags = recover ? FS_REQ_RECOVER : 0,
                                   .offset = recover ? peer->last_number : 0,
                                   .payload = (const uint8_t *)peer->options,
                                   .payload_length = (uint32_t)strlen(peer->options)});
        while (peer->in_flight[PEER_OWN_SLOT] && !peer_is_dead(peer)) {
            ck_assert_msg(peer_wait(peer, 20000), "MOUNT hangs");
            if (!peer_is_dead(peer)) {
                peer_take_answers(peer);
            }
        }
        if (!peer->in_flight[PEER_OWN_SLOT]) {
            break;
        }
        peer_reap(peer);
        peer->early_deaths++;
        /* Whatever it had written: the second one need not find it. */
    }
    ck_assert_msg(peer->shared->cells[PEER_OWN_SLOT].response.result == 0, "MOUNT: %d %.*s",
                  peer->shared->cells[PEER_OWN_SLOT].response.result,
                  (int)peer->shared->cells[PEER_OWN_SLOT].response.data_length,
                  (const char *)peer->shared->cells[PEER_OWN_SLOT].out);
    pending[PEER_OWN_SLOT] = false;
    if (peer_random(peer, 3) == 0) {
        peer_fence(peer);
    }
    for (unsigned n = 0; n < PEER_SLOTS; n++) { /* in the order of their first sending */
        int next = -1;

        for (unsigned i = 0; i < PEER_SLOTS; i++) {
            if (pending[i] && (next < 0 || peer->order[i] < peer->order[next])) {
                next = (int)i;
            }
        }
        if (next >= 0) {
            pending[next] = false;
            peer->resent++;
            peer_post(peer, (unsigned)next);
        }
    }
}

/* The present child shall die at its count-th event from now on. */
static __attribute__((unused)) void peer_arm(RecoverPeer *peer, uint64_t count) {
    peer->shared->die_at = peer->shared->events + count;
}

/* The present child is dead, or is killed. */
static void peer_take_over(RecoverPeer *peer) {
    (void)kill(peer->pid, SIGKILL);
    peer_reap(peer);
    peer_mount(peer, true);
}

/* One answer at least, or a new daemon. */
static void peer_pump(RecoverPeer *peer) {
    if (!peer->fenced && peer_random(peer, 8) == 0) {
        peer_fence(peer);
    }
    if (!peer_wait(peer, peer->fenced ? 20000 : 10)) {
        ck_assert_msg(!peer->fenced, "nothing moves any more");
        peer_fence(peer);
        return;
    }
    if (peer_is_dead(peer)) {
        peer_take_over(peer);
    } else {
        peer_take_answers(peer);
    }
}

static void peer_call(RecoverPeer *peer, const FSRequest *request) {
    unsigned slot = fs_request_slot(request->request_id);

    peer_send(peer, request);
    while (peer->in_flight[slot]) {
        peer_pump(peer);
    }
}

/* From now on nobody dies. */
static void peer_live(RecoverPeer *peer) {
    peer->death_range = 0;
    peer_take_over(peer);
    while (peer->in_flight[PEER_OWN_SLOT]) {
        peer_pump(peer);
    }
}

static void peer_begin(RecoverPeer *peer, const uint8_t *bytes, uint64_t size) {
    peer->image_size = size;
    peer->shared =
        mmap(NULL, sizeof(PeerShared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    peer->image = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(peer->shared != MAP_FAILED && peer->image != MAP_FAILED);
    memcpy(peer->image, bytes, size);
    ck_assert_int_eq(lifeline_memory_new(65536, PEER_SLOTS, &peer->lifeline), 0);
    (void)signal(SIGPIPE, SIG_IGN);
    peer_mount(peer, true); /* of nothing: a lifeline that was never used is a fresh one */
}

/* Unmounts; the image as it is then goes to ret_bytes. */
static void peer_end(RecoverPeer *peer, uint8_t *ret_bytes) {
    int status;

    peer_fence(peer);
    while (peer->in_flight[PEER_OWN_SLOT]) {
        peer_pump(peer);
    }
    peer_own(peer, (FSRequest){.type = FS_MSG_UNMOUNT});
    while (peer->in_flight[PEER_OWN_SLOT]) {
        peer_pump(peer);
    }
    ck_assert_int_eq(peer->shared->cells[PEER_OWN_SLOT].response.result, 0);
    memcpy(ret_bytes, peer->image, peer->image_size);
    (void)kill(peer->pid, SIGKILL);
    ck_assert_int_eq(waitpid(peer->pid, &status, 0), peer->pid);
    (void)close(peer->to);
    (void)close(peer->from);
    (void)close(peer->lifeline);
    (void)munmap(peer->image, peer->image_size);
    (void)munmap(peer->shared, sizeof(PeerShared));
}

#endif
