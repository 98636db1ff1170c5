/* SPDX-License-Identifier: MIT */
/*
 * What one message costs between front-end and daemon, without FUSE and without a
 * filesystem: PING to a real daemon process in a fork of this one, by socket and by
 * ring, in turns, with one or more requests in flight.
 *
 *     ping [COUNT [DEPTH]]
 *
 * Prints per transport the median and mean time of a round trip, the requests per
 * second, and the CPU time of both processes per request.
 */
#include "berth/service.h"
#include "berth/transport.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define IMAGE_SIZE (1u << 20)
#define ROUNDS 5u
#define DEPTH_MAX 256u

static const FileSystemType *const types[] = {&fat_type, NULL};

typedef struct Peer {
    pid_t pid;
    Transport *transport;
    uint64_t seq[DEPTH_MAX];
    uint64_t sent_ns[DEPTH_MAX];
} Peer;

typedef struct Sums {
    double median_us, mean_us, rate, cpu_us;
} Sums;

static void check(int r, const char *what) {
    if (r < 0) {
        (void)fprintf(stderr, "ping: %s: %s\n", what, strerror(-r));
        exit(1);
    }
}

static uint64_t now_ns(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void say_hello(Peer *peer, bool ring, unsigned slots) {
    Hello hello = {
        .version = FS_PROTOCOL_VERSION,
        .features = HELLO_FEATURE_ARENA,
        .epoch = 1,
        .slots = slots,
        .image_length = IMAGE_SIZE,
        .type = "fat",
    };
    _cleanup_(arena_freep) Arena *out = NULL, *in = NULL;
    int fds[HELLO_FD_MAX], fence[2];
    uint8_t buf[HELLO_SIZE];
    char text[128] = "";

    check(arena_new("out", 1, 1, 0, true, &out), "arena");
    check(arena_new("in", 1, 1, 0, false, &in), "arena");
    fds[HELLO_FD_IMAGE] = memfd_create("image", MFD_CLOEXEC);
    check(ftruncate(fds[HELLO_FD_IMAGE], IMAGE_SIZE) < 0 ? -errno : 0, "image");
    fds[HELLO_FD_ARENA_OUT] = arena_fd(out);
    fds[HELLO_FD_ARENA_IN] = arena_fd(in);
    check(lifeline_memory_new(0, slots, &fds[HELLO_FD_LIFELINE]), "lifeline");
    check(pipe2(fence, O_CLOEXEC) < 0 ? -errno : 0, "pipe");
    fds[HELLO_FD_FENCE] = fence[1];
    hello.arena_out_size = arena_size(out);
    hello.arena_in_size = arena_size(in);
    if (ring) {
        hello.features |= HELLO_FEATURE_RING;
        check(transport_ring_offer(peer->transport, slots, fds + HELLO_FD_RING), "rings");
    }
    hello_encode(&hello, buf);
    check(channel_send_fds(transport_channel(peer->transport), buf, sizeof(buf), fds,
                           ring ? HELLO_FD_COUNT + HELLO_RING_FDS : HELLO_FD_COUNT),
          "HELLO");
    check(channel_receive(transport_channel(peer->transport), buf, sizeof(buf)), "HELLO");
    check(hello_decode(buf, sizeof(buf), &hello, text), text);
    check(hello.result, hello.text);
    transport_ring_settle(peer->transport, ring);
    (void)close(fds[HELLO_FD_IMAGE]);
    (void)close(fds[HELLO_FD_LIFELINE]);
    (void)close(fence[0]);
    (void)close(fence[1]);
}

static void start(Peer *peer, bool ring, unsigned depth) {
    Channel *channel = NULL;
    int peer_fd;

    check(channel_pair(&channel, &peer_fd), "socket");
    check(transport_new(channel, &peer->transport), "transport");
    peer->pid = fork();
    if (peer->pid == 0) {
        const ServeConfig config = {.types = types, .channel_fd = peer_fd};

        peer->transport = transport_free(peer->transport);
        _exit(service_main(&config));
    }
    (void)close(peer_fd);
    say_hello(peer, ring, depth);
}

static void send_ping(Peer *peer, unsigned slot) {
    FSRequest request = {.type = FS_MSG_PING};
    uint8_t message[FS_REQUEST_HEADER];

    request.request_id = fs_request_id((uint16_t)slot, ++peer->seq[slot]);
    check(fs_request_encode(&request, message, sizeof(message)), "encode");
    peer->sent_ns[slot] = now_ns();
    check(transport_send(peer->transport, message, sizeof(message)), "send");
}

/* The slot that was answered. */
static unsigned receive_pong(Peer *peer) {
    static uint8_t message[FS_MESSAGE_MAX];
    FSResponse response;
    char text[128] = "";
    int n = transport_receive(peer->transport, message, sizeof(message));

    check(n == 0 ? -EPIPE : n, "receive");
    check(fs_response_decode(message, (size_t)n, &response, text), text);
    return fs_request_slot(response.request_id);
}

static double cpu_us(int who) {
    struct rusage usage;

    (void)getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static Sums run(bool ring, unsigned count, unsigned depth) {
    _cleanup_free_ double *times = calloc(count, sizeof(*times));
    double cpu = cpu_us(RUSAGE_SELF) + cpu_us(RUSAGE_CHILDREN);
    Peer *peer = calloc(1, sizeof(*peer));
    Sums sums = {0};
    uint64_t started;

    if (times == NULL || peer == NULL) {
        check(-ENOMEM, "memory");
    }
    start(peer, ring, depth);
    started = now_ns();
    for (unsigned i = 0; i < depth; i++) {
        send_ping(peer, i);
    }
    for (unsigned done = 0; done < count; done++) {
        unsigned slot = receive_pong(peer);

        times[done] = (double)(now_ns() - peer->sent_ns[slot]) / 1e3;
        if (done + depth < count) {
            send_ping(peer, slot);
        }
    }
    sums.mean_us = (double)(now_ns() - started) / 1e3 / count;
    sums.rate = 1e6 / sums.mean_us;
    peer->transport = transport_free(peer->transport);
    (void)waitpid(peer->pid, NULL, 0);
    sums.cpu_us = (cpu_us(RUSAGE_SELF) + cpu_us(RUSAGE_CHILDREN) - cpu) / count;
    qsort(times, count, sizeof(*times), compare);
    sums.median_us = times[count / 2];
    free(peer);
    return sums;
}

int main(int argc, char **argv) {
    unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 50000;
    unsigned depth = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1;

    if (depth == 0 || depth > DEPTH_MAX || count < depth) {
        (void)fprintf(stderr, "usage: ping [COUNT [DEPTH]], DEPTH at most %u\n", DEPTH_MAX);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)printf("%-8s %10s %10s %12s %10s\n", "", "median us", "mean us", "per second", "CPU us");
    for (unsigned i = 0; i < ROUNDS * 2; i++) {
        bool ring = i % 2 != 0;
        Sums sums = run(ring, count, depth);

        (void)printf("%-8s %10.2f %10.2f %12.0f %10.2f\n", ring ? "ring" : "socket", sums.median_us,
                     sums.mean_us, sums.rate, sums.cpu_us);
    }
    return 0;
}
