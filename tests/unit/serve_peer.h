/* SPDX-License-Identifier: MIT */
/*
 * A front-end for tests of the serve loop: starts a daemon in a child process, for the toy
 * filesystem unless a test brings an image of another one, says HELLO over a real channel,
 * and exchanges messages with it. The last response lies in the peer it came from.
 */
#ifndef BERTH_TESTS_SERVE_PEER_H
#define BERTH_TESTS_SERVE_PEER_H

#include "berth/service.h"
#include "toyfs.h"
#include <check.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

typedef struct Peer {
    pid_t pid;
    Channel *channel;
    Arena *written, *read;
    int fence; /* read end: ends with the daemon's last I/O */
    int lifeline, image;
    uint64_t seq;
    uint8_t message[FS_MESSAGE_MAX]; /* the response points into it */
    FSResponse response;
} Peer;

#define PEER_SLOTS 40u

static inline void peer_fork(Peer *peer) {
    static const FileSystemType *const types[] = {&toy_type, &fat_type, NULL};
    int peer_fd;

    ck_assert_int_eq(channel_pair(&peer->channel, &peer_fd), 0);
    peer->pid = fork();
    if (peer->pid == 0) {
        const ServeConfig config = {.types = types, .channel_fd = peer_fd};

        channel_free(peer->channel);
        _exit(service_main(&config));
    }
    (void)close(peer_fd);
}

/* HELLO to a daemon that was just started; its answer's result. */
static inline int peer_hello(Peer *peer, const char *type) {
    Hello hello = {
        .version = FS_PROTOCOL_VERSION,
        .features = HELLO_FEATURE_ARENA,
        .epoch = 1,
        .slots = PEER_SLOTS,
        .pid = (uint32_t)getpid(),
    };
    int fds[HELLO_FD_COUNT], fence[2];
    char text[128];
    struct stat st;

    ck_assert_int_eq(fstat(peer->image, &st), 0);
    hello.image_length = (uint64_t)st.st_size;
    /* After the fork: this process has the only other copies. */
    ck_assert_int_eq(pipe2(fence, O_CLOEXEC), 0);
    peer->fence = fence[0];
    fds[HELLO_FD_IMAGE] = peer->image;
    fds[HELLO_FD_ARENA_OUT] = arena_fd(peer->written);
    fds[HELLO_FD_ARENA_IN] = arena_fd(peer->read);
    fds[HELLO_FD_LIFELINE] = peer->lifeline;
    fds[HELLO_FD_FENCE] = fence[1];
    hello.arena_out_size = arena_size(peer->written);
    hello.arena_in_size = arena_size(peer->read);
    (void)snprintf(hello.type, sizeof(hello.type), "%s", type);
    hello_encode(&hello, peer->message);
    ck_assert_int_eq(
        channel_send_fds(peer->channel, peer->message, HELLO_SIZE, fds, HELLO_FD_COUNT), 0);
    (void)close(fence[1]);
    ck_assert_int_eq(channel_receive(peer->channel, peer->message, sizeof(peer->message)),
                     HELLO_SIZE);
    ck_assert_int_eq(hello_decode(peer->message, HELLO_SIZE, &hello, text), 0);
    return hello.result;
}

/* Starts a daemon over image and lifeline (duplicated) and says HELLO. */
static inline int peer_start_on(Peer *peer, const char *type, int image_fd, int lifeline) {
    *peer = (Peer){.image = fcntl(image_fd, F_DUPFD_CLOEXEC, 3),
                   .lifeline = fcntl(lifeline, F_DUPFD_CLOEXEC, 3)};
    ck_assert_int_eq(arena_new("out", 4, 2, 0, true, &peer->written), 0);
    ck_assert_int_eq(arena_new("in", 4, 2, 0, false, &peer->read), 0);
    peer_fork(peer);
    return peer_hello(peer, type);
}

/* The same for the toy type (or one that is refused), over fresh ones. */
static inline int peer_start(Peer *peer, const char *type) {
    int image_fd = memfd_create("image", MFD_CLOEXEC), lifeline, r;

    ck_assert_int_eq(ftruncate(image_fd, TOY_BLOCKS * TOY_BLOCK), 0);
    ck_assert_int_eq(lifeline_memory_new(1, PEER_SLOTS, &lifeline), 0);
    r = peer_start_on(peer, type, image_fd, lifeline);
    (void)close(image_fd);
    (void)close(lifeline);
    return r;
}

static inline void peer_send(Peer *peer, const FSRequest *request) {
    static uint8_t message[FS_MESSAGE_MAX];
    int length = fs_request_encode(request, message, sizeof(message));

    ck_assert_msg(length > 0, "%s cannot be encoded", fs_message_name(request->type));
    ck_assert_int_eq(channel_send(peer->channel, message, (size_t)length), 0);
}

/* 0 or, at end of file, -EPIPE. */
static inline int peer_receive(Peer *peer) {
    char text[128] = "";
    int length = channel_receive(peer->channel, peer->message, sizeof(peer->message));

    if (length <= 0) {
        return -EPIPE;
    }
    ck_assert_msg(fs_response_decode(peer->message, (size_t)length, &peer->response, text) == 0,
                  "bad response: %s", text);
    return 0;
}

static inline int peer_call(Peer *peer, FSRequest request) {
    request.request_id = fs_request_id((uint16_t)(peer->seq % PEER_SLOTS), peer->seq + 1);
    peer->seq++;
    peer_send(peer, &request);
    ck_assert_int_eq(peer_receive(peer), 0);
    ck_assert_uint_eq(peer->response.request_id, request.request_id);
    return peer->response.result;
}

/* Waits for the daemon's end; its exit code. */
static inline int peer_end(Peer *peer) {
    int status = 0;

    peer->channel = channel_free(peer->channel);
    ck_assert_int_eq(waitpid(peer->pid, &status, 0), peer->pid);
    peer->written = arena_free(peer->written);
    peer->read = arena_free(peer->read);
    (void)close(peer->image);
    (void)close(peer->lifeline);
    (void)close(peer->fence);
    ck_assert_msg(WIFEXITED(status), "the daemon died of signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

#endif
