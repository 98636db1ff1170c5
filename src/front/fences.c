/* SPDX-License-Identifier: MIT */
/*
 * Fences: the ends of the dead daemons' device I/O (man berth-recovery.7, section 7).
 * A daemon's ring goes on for some tens of milliseconds after the process. Until then
 * the kernel may still write to the arena slots of its reads and read those of its
 * writes, so these slots serve nobody else.
 *
 * Locks: fences->lock, a leaf. Fences are added and looked at by the keeper alone.
 */
#include "private.h"

#include <poll.h>

#define ADD_WAIT_S 30u
#define WAIT_HEARTBEATS 8u /* two minutes by default: devices try again for long */

void fences_init(Fences *fences) {
    memset(fences, 0, sizeof(*fences));
    pthread_mutex_init(&fences->lock, NULL);
}

/* With the lock. */
static void release_slots(Fences *fences) {
    for (size_t i = 0; i < fences->slot_count; i++) {
        arena_slot_put(fences->slots[i].arena, &fences->slots[i].slot);
    }
    free(fences->slots);
    fences->slots = NULL;
    fences->slot_count = fences->slot_capacity = 0;
}

void fences_done(Fences *fences) {
    for (unsigned i = 0; i < fences->count; i++) {
        close(fences->fds[i]);
    }
    free(fences->slots); /* the arenas go as well */
    pthread_mutex_destroy(&fences->lock);
}

unsigned fences_count(Fences *fences) {
    unsigned count;

    pthread_mutex_lock(&fences->lock);
    count = fences->count;
    pthread_mutex_unlock(&fences->lock);
    return count;
}

void fences_add(Fences *fences, int fd) {
    for (unsigned i = 0; i < ADD_WAIT_S && fences_count(fences) == FENCES_MAX; i++) {
        (void)fences_check(fences, 1000);
    }
    pthread_mutex_lock(&fences->lock);
    if (fences->count < FENCES_MAX) {
        fences->fds[fences->count++] = fd;
    } else {
        fences->stuck = true;
        close(fd);
    }
    pthread_mutex_unlock(&fences->lock);
}

bool fences_hold(Fences *fences, Arena *arena, const ArenaSlot *slot) {
    bool hold;

    pthread_mutex_lock(&fences->lock);
    hold = fences->count > 0 || fences->stuck;
    if (hold && fences->slot_count == fences->slot_capacity) {
        size_t capacity = MAX(fences->slot_capacity * 2, (size_t)64);
        HeldSlot *more = reallocarray(fences->slots, capacity, sizeof(*more));

        if (more != NULL) {
            fences->slots = more;
            fences->slot_capacity = capacity;
        }
    }
    if (hold && fences->slot_count < fences->slot_capacity) {
        fences->slots[fences->slot_count++] = (HeldSlot){arena, *slot};
    } else if (hold) {
        log_warning("no memory: a slot of the arena is lost until the unmount");
    }
    pthread_mutex_unlock(&fences->lock);
    return hold;
}

/* Has it fallen? Nothing is ever written there, but a daemon may have: only the end counts. */
static bool has_fallen(int fd) {
    char bytes[1024];
    ssize_t n = 1;

    /* At most what a pipe holds: somebody may go on writing. */
    for (unsigned i = 0; i < 64 && n != 0; i++) {
        n = read(fd, bytes, sizeof(bytes));
        if (n < 0 && errno != EINTR) {
            return false;
        }
    }
    return n == 0;
}

bool fences_check(Fences *fences, int timeout_ms) {
    struct pollfd fds[FENCES_MAX];
    unsigned count = fences_count(fences), left = 0;

    if (count == 0 && !fences->stuck) {
        return true;
    }
    for (unsigned i = 0; i < count; i++) {
        fds[i] = (struct pollfd){.fd = fences->fds[i], .events = POLLIN};
    }
    (void)poll(fds, count, timeout_ms);
    pthread_mutex_lock(&fences->lock);
    for (unsigned i = 0; i < count; i++) {
        if (fds[i].revents != 0 && has_fallen(fds[i].fd)) {
            close(fds[i].fd);
        } else {
            fences->fds[left++] = fds[i].fd;
        }
    }
    fences->count = left;
    left += fences->stuck;
    if (left == 0) {
        release_slots(fences);
    }
    pthread_mutex_unlock(&fences->lock);
    return left == 0;
}

bool fences_wait(Front *front) {
    uint64_t started_ns = clock_monotonic_ns();
    uint64_t most_ns = front->options.heartbeat * (uint64_t)WAIT_HEARTBEATS * 1000000000;

    while (!fences_check(&front->fences, 1000)) {
        if (atomic_load(&front->closing) ||
            (most_ns != 0 && clock_monotonic_ns() - started_ns >= most_ns)) {
            return false;
        }
        log_warning("%s: waiting for the dead daemon's I/O to end", front->source_given);
    }
    return true;
}
