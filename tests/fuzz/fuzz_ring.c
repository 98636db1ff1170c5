/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the rings, held by a front-end, with a peer that writes whatever it
 * likes into the memory they share, before and (by a thread that never rests) while
 * it is read. What may come out of it: a message that is within bounds, nothing, or
 * -EPROTO, after which it is over; and always after a bounded time.
 *
 *     mode (1) | { operation (1) | its parameters }
 */
#include "../../src/ipc/ring.h"
#include "berth/transport.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define SLOTS 2u
#define CONTROL_BYTES 4096u
#define PROTECTED 64u /* bytes around the receiver's buffer that must stay as they are */

enum { MODE_DISTURB = 1 };
enum { PUT_RECORD, PUT_WORD, PUT_BYTES, RECEIVE, SEND, WAKE, SLEEP, ADVANCE, OPERATIONS };

typedef struct Input {
    const uint8_t *at;
    size_t left;
} Input;

static struct {
    Transport *transport;
    Channel *peer;
    uint8_t *memory;
    size_t size;
    int bell_fd, wake_fd;
    uint64_t tail; /* of the responses, as an honest peer would have it */
} end;

static pthread_mutex_t disturb_lock = PTHREAD_MUTEX_INITIALIZER;
static bool disturbing; /* with the lock */

static void require(bool holds) {
    if (!holds) {
        abort();
    }
}

static uint64_t take(Input *input, unsigned bytes) {
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes && input->left > 0; i++, input->left--) {
        value |= (uint64_t)*input->at++ << 8 * i;
    }
    return value;
}

/* Changes what is read while it is read. The lock only keeps the memory there. */
static void *disturb(void *arg) {
    const struct timespec nap = {.tv_nsec = 20000};
    uint64_t random = 88172645463325252u;

    (void)arg;
    for (;;) {
        (void)pthread_mutex_lock(&disturb_lock);
        for (unsigned i = 0; disturbing && i < 100; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            ((volatile uint8_t *)end.memory)[random % ((random >> 40 & 1) != 0 ? 512 : end.size)] ^=
                (uint8_t)(1u << (random >> 60 & 7));
        }
        (void)pthread_mutex_unlock(&disturb_lock);
        (void)nanosleep(&nap, NULL);
    }
    return NULL;
}

static void set_disturbing(bool on) {
    (void)pthread_mutex_lock(&disturb_lock);
    disturbing = on;
    (void)pthread_mutex_unlock(&disturb_lock);
}

static uint64_t ring_size(void) {
    return (end.size - CONTROL_BYTES) / 2;
}

static void set_up(void) {
    int fds[HELLO_RING_FDS], peer_fd;
    Channel *channel = NULL;
    struct stat st;

    (void)signal(SIGPIPE, SIG_IGN);
    require(channel_pair(&channel, &peer_fd) == 0 && channel_new(peer_fd, &end.peer) == 0);
    require(transport_new(channel, &end.transport) == 0);
    require(transport_ring_offer(end.transport, SLOTS, fds) == 0);
    require(fstat(fds[0], &st) == 0);
    end.size = (size_t)st.st_size;
    end.memory = mmap(NULL, end.size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    require(end.memory != MAP_FAILED);
    end.wake_fd = fcntl(fds[1], F_DUPFD_CLOEXEC, 0);
    end.bell_fd = fcntl(fds[2], F_DUPFD_CLOEXEC, 0);
    require(fcntl(end.bell_fd, F_SETFL, O_NONBLOCK) == 0);
    transport_ring_settle(end.transport, true);
    end.tail = 0;
}

static void tear_down(void) {
    set_disturbing(false);
    transport_free(end.transport);
    channel_free(end.peer);
    (void)munmap(end.memory, end.size);
    (void)close(end.wake_fd);
    (void)close(end.bell_fd);
}

/* ---- the peer ---- */

static void put_word(uint64_t offset, uint64_t value) {
    memcpy(end.memory + offset % (end.size - sizeof(value)), &value, sizeof(value));
}

static void put_response_bytes(uint64_t position, const void *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        end.memory[CONTROL_BYTES + ring_size() + (position + i) % ring_size()] =
            ((const uint8_t *)bytes)[i];
    }
}

/* A record as it should be, but for its length perhaps. */
static void put_record(Input *input) {
    uint32_t length = (uint32_t)take(input, 2), header[2] = {length, 0};
    uint8_t lie = (uint8_t)take(input, 1);

    header[0] += lie & 15;
    header[1] = lie >> 7;
    put_response_bytes(end.tail, header, sizeof(header));
    end.tail += RING_RECORD_HEADER + align_up(length, (uint64_t)RING_RECORD_HEADER);
    put_word(RING_CONTROL_SIZE + offsetof(RingControl, tail), end.tail);
}

static void put_bytes(Input *input) {
    uint64_t offset = take(input, 3);

    for (unsigned n = (unsigned)take(input, 1); n > 0 && input->left > 0; n--) {
        end.memory[offset++ % end.size] = (uint8_t)take(input, 1);
    }
}

/* ---- our end ---- */

/* Below 0: over. */
static int receive(void) {
    static uint8_t buf[FS_MESSAGE_MAX + 2 * PROTECTED];
    int r;

    memset(buf, 0x5a, PROTECTED);
    memset(buf + FS_MESSAGE_MAX + PROTECTED, 0x5a, PROTECTED);
    r = transport_try_receive(end.transport, buf + PROTECTED, FS_MESSAGE_MAX);
    for (size_t i = 0; i < PROTECTED; i++) {
        require(buf[i] == 0x5a && buf[FS_MESSAGE_MAX + PROTECTED + i] == 0x5a);
    }
    require(r == -EAGAIN || r == -EPROTO || (r > 0 && r <= (int)FS_MESSAGE_MAX));
    return r == -EAGAIN ? 0 : r;
}

static int send_one(size_t length) {
    static const uint8_t bytes[FS_MESSAGE_MAX];
    int r = transport_send(end.transport, bytes, 1 + length % FS_MESSAGE_MAX);

    require(r == 0 || r == -EPROTO || r == -EPIPE);
    return r;
}

/* A storm is found out; a few of them are not. */
static void wake(unsigned count) {
    int r = 0;

    for (unsigned i = 0; i <= count; i++) {
        (void)!write(end.bell_fd, "", 1); /* there always is one, or the read would be an error */
        r = transport_woken(end.transport);
        require(r == 0 || r == -EPROTO);
    }
    require(count < 1024 || r == -EPROTO);
}

static int operate(Input *input) {
    uint64_t offset;

    switch (take(input, 1) % OPERATIONS) {
    case PUT_RECORD:
        put_record(input);
        return 0;
    case PUT_WORD: /* of the control words, mostly */
        offset = take(input, 1) * 8;
        put_word(offset % (2 * RING_CONTROL_SIZE), take(input, 8));
        return 0;
    case PUT_BYTES:
        put_bytes(input);
        return 0;
    case RECEIVE:
        return receive();
    case SEND:
        return send_one(take(input, 2));
    case WAKE:
        wake((unsigned)take(input, 2) % 2048);
        return 0;
    case SLEEP:
        (void)transport_prepare_sleep(end.transport);
        return 0;
    default: /* all that was sent has been taken */
        memcpy(&offset, end.memory + offsetof(RingControl, tail), sizeof(offset));
        put_word(offsetof(RingControl, head), offset);
        return 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static pthread_t thread;
    static bool started;
    Input input = {.at = data, .left = size};
    uint8_t mode = (uint8_t)take(&input, 1);
    int r = 0;

    if (!started) {
        started = true;
        require(pthread_create(&thread, NULL, disturb, NULL) == 0);
        (void)pthread_detach(thread);
    }
    set_up();
    set_disturbing((mode & MODE_DISTURB) != 0);
    while (input.left > 0 && r >= 0) {
        r = operate(&input);
    }
    if (r < 0) { /* once is for good */
        require(transport_try_end(end.transport) < 0);
    }
    tear_down();
    return 0;
}
