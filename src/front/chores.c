/* SPDX-License-Identifier: MIT */
/*
 * Chores: EVICTs, and in direct mode the timed commit, which a daemon has in its
 * own loop.
 *
 * The kernel forgets objects one by one, after every unlink for instance. They
 * wait here for company: EVICT goes out when EVICT_BATCH are waiting, before a
 * request that may need the space of unlinked files, or after EVICT_MS, by the
 * thread of this file. The replier can add to them, as adding never waits. Whether
 * an object is still forgotten, and with which `seen`, is decided when the message
 * is made (nodes_keep_gone()).
 *
 * Locks: chores->lock, a leaf.
 */
#include "private.h"

#include <time.h>

struct Chores {
    Front *front;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t *waiting; /* file_ids to evict */
    size_t room;
    _Atomic unsigned count;
    bool stop;
};

#define COMMIT_MS 5000u
#define EVICT_MS 50u

static struct timespec after_ms(unsigned ms) {
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

static void commit_direct(Front *front) {
    FSResponse response;

    if (front->direct != NULL && front->session != NULL && !atomic_load(&front->closing) &&
        !atomic_load(&front->volume.readonly)) {
        (void)front_call(front, FS_MSG_SYNC, 0, NULL, 60000, &response, NULL);
    }
}

/* Waits until there is something to evict; then a little more, for others to join. */
static bool wait_for_work(Chores *chores, bool *ret_evict) {
    struct timespec until = after_ms(COMMIT_MS);
    int r = 0;

    pthread_mutex_lock(&chores->lock);
    while (atomic_load(&chores->count) == 0 && !chores->stop && r == 0) {
        r = pthread_cond_timedwait(&chores->changed, &chores->lock, &until);
    }
    *ret_evict = atomic_load(&chores->count) > 0;
    until = after_ms(EVICT_MS);
    for (r = 0; *ret_evict && !chores->stop && r == 0;) {
        r = pthread_cond_timedwait(&chores->changed, &chores->lock, &until);
    }
    r = chores->stop ? -1 : 0;
    pthread_mutex_unlock(&chores->lock);
    return r == 0;
}

static void *chores_thread(void *arg) {
    Chores *chores = arg;
    uint64_t commit_ns = clock_monotonic_ns();
    bool evict;

    while (wait_for_work(chores, &evict)) {
        if (evict) {
            chores_evict_now(chores);
        }
        if (clock_monotonic_ns() - commit_ns >= COMMIT_MS * UINT64_C(1000000)) {
            commit_direct(chores->front);
            commit_ns = clock_monotonic_ns();
        }
    }
    return NULL;
}

static void chores_release(Chores *chores) {
    pthread_cond_destroy(&chores->changed);
    pthread_mutex_destroy(&chores->lock);
    free(chores->waiting);
    free(chores);
}

int chores_new(Front *front, Chores **ret) {
    Chores *chores = calloc(1, sizeof(*chores));
    pthread_condattr_t attr;
    int r;

    if (chores == NULL) {
        return -ENOMEM;
    }
    chores->front = front;
    pthread_mutex_init(&chores->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&chores->changed, &attr);
    pthread_condattr_destroy(&attr);
    r = thread_start(&chores->thread, chores_thread, chores);
    if (r < 0) {
        chores_release(chores);
        return r;
    }
    *ret = chores;
    return 0;
}

/* What still waits is not sent: the daemon has unmounted, and holds nothing any more. */
Chores *chores_free(Chores *chores) {
    if (chores != NULL) {
        pthread_mutex_lock(&chores->lock);
        chores->stop = true;
        pthread_cond_signal(&chores->changed);
        pthread_mutex_unlock(&chores->lock);
        pthread_join(chores->thread, NULL);
        chores_release(chores);
    }
    return NULL;
}

/* Room for `count` more; without memory the daemon keeps some inodes longer than it need. */
static bool make_room(Chores *chores, size_t count) {
    size_t room = MAX(chores->room * 2, (size_t)EVICT_BATCH * 2);
    uint64_t *more;

    if (chores->room - chores->count >= count) {
        return true;
    }
    more = reallocarray(chores->waiting, room, sizeof(*more));
    if (more == NULL) {
        return false;
    }
    chores->waiting = more;
    chores->room = room;
    return room - chores->count >= count;
}

unsigned chores_evict(Chores *chores, const uint64_t *file_ids, unsigned count) {
    unsigned waiting;

    if (chores == NULL) {
        return 0;
    }
    pthread_mutex_lock(&chores->lock);
    waiting = atomic_load(&chores->count);
    if (make_room(chores, count)) {
        memcpy(chores->waiting + waiting, file_ids, count * sizeof(*file_ids));
        atomic_store(&chores->count, waiting + count);
        if (waiting == 0) {
            pthread_cond_signal(&chores->changed);
        }
        waiting += count;
    }
    pthread_mutex_unlock(&chores->lock);
    return waiting;
}

void chores_evict_now(Chores *chores) {
    uint64_t *file_ids, seen;
    unsigned count;

    if (chores == NULL || atomic_load(&chores->count) == 0) {
        return; /* the usual case, without a lock: it precedes every request that writes */
    }
    pthread_mutex_lock(&chores->lock);
    file_ids = chores->waiting;
    count = atomic_load(&chores->count);
    chores->waiting = NULL;
    chores->room = 0;
    atomic_store(&chores->count, 0);
    pthread_mutex_unlock(&chores->lock);
    count = nodes_keep_gone(&chores->front->nodes, file_ids, count, &seen);
    if (count > 0) {
        evict_send(chores->front, file_ids, count, seen);
    }
    free(file_ids);
}
