/* SPDX-License-Identifier: MIT */
/*
 * Chores: a thread for what the replier may not do because it would wait for a
 * slot (which only the replier frees): EVICTs of objects whose grant never reached
 * the kernel. In direct mode it is also the clock of the timed commit, which a
 * daemon has in its own loop.
 *
 * Locks: chores->lock, a leaf.
 */
#include "private.h"

#include <time.h>

typedef struct Chore {
    struct Chore *next;
    uint64_t file_id, seen;
} Chore;

struct Chores {
    Front *front;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    Chore *first;
    bool stop;
};

#define COMMIT_SECONDS 5

/* The next chore; NULL at a tick of the clock or at the end (*ret_stop). */
static Chore *next_chore(Chores *chores, bool *ret_stop) {
    struct timespec until;
    Chore *chore;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += COMMIT_SECONDS;
    pthread_mutex_lock(&chores->lock);
    while (chores->first == NULL && !chores->stop && r == 0) {
        r = pthread_cond_timedwait(&chores->changed, &chores->lock, &until);
    }
    chore = chores->first;
    if (chore != NULL) {
        chores->first = chore->next;
    }
    *ret_stop = chores->stop && chore == NULL;
    pthread_mutex_unlock(&chores->lock);
    return chore;
}

static void commit_direct(Front *front) {
    FSResponse response;

    if (front->direct != NULL && front->session != NULL && !atomic_load(&front->closing) &&
        !atomic_load(&front->volume.readonly)) {
        (void)front_call(front, FS_MSG_SYNC, 0, NULL, 60000, &response, NULL);
    }
}

static void *chores_thread(void *arg) {
    Chores *chores = arg;
    bool stop = false;

    while (!stop) {
        Chore *chore = next_chore(chores, &stop);

        if (chore != NULL) {
            evict_send(chores->front, &chore->file_id, 1, chore->seen);
            free(chore);
        } else if (!stop) {
            commit_direct(chores->front);
        }
    }
    return NULL;
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
        pthread_cond_destroy(&chores->changed);
        pthread_mutex_destroy(&chores->lock);
        free(chores);
        return r;
    }
    *ret = chores;
    return 0;
}

Chores *chores_free(Chores *chores) {
    if (chores != NULL) {
        pthread_mutex_lock(&chores->lock);
        chores->stop = true;
        pthread_cond_signal(&chores->changed);
        pthread_mutex_unlock(&chores->lock);
        pthread_join(chores->thread, NULL);
        pthread_cond_destroy(&chores->changed);
        pthread_mutex_destroy(&chores->lock);
        free(chores);
    }
    return NULL;
}

void chores_evict(Chores *chores, uint64_t file_id, uint64_t seen) {
    Chore *chore = malloc(sizeof(*chore));

    if (chore == NULL || chores == NULL) {
        free(chore);
        return; /* the daemon keeps an inode longer than it need */
    }
    chore->file_id = file_id;
    chore->seen = seen;
    pthread_mutex_lock(&chores->lock);
    chore->next = chores->first;
    chores->first = chore;
    pthread_cond_signal(&chores->changed);
    pthread_mutex_unlock(&chores->lock);
}
