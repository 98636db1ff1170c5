/* SPDX-License-Identifier: MIT */
/*
 * The table of requests in flight over the death of a daemon (man
 * berth-recovery.7, section 7): stopping, finding whom to blame, sending again. Only
 * the keeper's thread calls these, so there is one of them at a time.
 *
 * Order: while table->daemon is NULL every new request goes to the end of
 * `in_flight` without being sent, so that list is the order of sending; when all
 * of it has been sent, `daemon` is set under the same hold of the lock.
 */
#include "private.h"

#include <time.h>

#define SEND_MS 10000u

static void deadline_in(unsigned timeout_ms, struct timespec *ret) {
    clock_gettime(CLOCK_MONOTONIC, ret);
    ret->tv_sec += timeout_ms / 1000;
    ret->tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (ret->tv_nsec >= 1000000000) {
        ret->tv_sec++;
        ret->tv_nsec -= 1000000000;
    }
}

void pending_halt(PendingTable *table) {
    pthread_mutex_lock(&table->lock);
    table->daemon = NULL;
    table->waiting = true;
    while (table->sending > 0) {
        pthread_cond_wait(&table->progress, &table->lock);
    }
    table->waiting = false;
    pthread_mutex_unlock(&table->lock);
}

/* With the lock. The first from `node` on that was sent to this daemon; NULL. */
static Pending *find_sent(const PendingTable *table, const DaemonProcess *daemon) {
    for (ListNode *node = list_first(&table->in_flight); node != NULL;
         node = list_next(&table->in_flight, node)) {
        Pending *pending = container_of(node, Pending, node);

        if (pending->sent_to == daemon) {
            return pending;
        }
    }
    return NULL;
}

int pending_settle(PendingTable *table, DaemonProcess *daemon, unsigned timeout_ms) {
    struct timespec until;
    int r = 0;

    deadline_in(timeout_ms, &until);
    pthread_mutex_lock(&table->lock);
    table->waiting = true;
    while (r == 0 && !daemon->gone && find_sent(table, daemon) != NULL) {
        r = pthread_cond_timedwait(&table->progress, &table->lock, &until);
    }
    table->waiting = false;
    r = daemon->gone ? -EPIPE : find_sent(table, daemon) != NULL ? -ETIMEDOUT : 0;
    pthread_mutex_unlock(&table->lock);
    return r;
}

/* ---- after a death ---- */

/* Writes another place for the result into the message. The rest of it stays byte for byte. */
static int move_result(Pending *pending, const ArenaSlot *slot) {
    _cleanup_free_ uint8_t *moved = malloc(FS_MESSAGE_MAX);
    FSRequest request;
    int r = moved == NULL ? -ENOMEM
                          : fs_request_decode(pending->message, (size_t)pending->message_length,
                                              &request, NULL);

    if (r == 0) {
        request.arena_offset = slot->offset;
        request.arena_length = slot->length;
        r = fs_request_encode(&request, moved, FS_MESSAGE_MAX);
    }
    if (r != pending->message_length) {
        return r < 0 ? r : -EPROTO;
    }
    memcpy(pending->message, moved, (size_t)r);
    pending->request.arena_offset = slot->offset;
    pending->request.arena_length = slot->length;
    return 0;
}

/* What the dead one may still write to serves nobody until its fence has fallen. When there is no
 * other place to be had, that is waited for, and the old one is as good as a new one; if it does
 * not fall in time the request fails. */
static void renew_result(Front *front, Pending *pending) {
    ArenaSlot fresh;
    int r = arena_slot_get(front->arena_in, pending->in.length, false, &fresh);

    if (r == 0 && move_result(pending, &fresh) == 0) {
        if (!fences_hold(&front->fences, front->arena_in, &pending->in)) {
            arena_slot_put(front->arena_in, &pending->in);
        }
        pending->in = fresh;
        return;
    }
    if (r == 0) {
        arena_slot_put(front->arena_in, &fresh);
    }
    if (!fences_wait(front)) {
        (void)fences_hold(&front->fences, front->arena_in, &pending->in);
        pending->has_in = false;
        pending_give_up(front, pending, -EIO);
    }
}

void pending_doubt(Front *front, const DaemonProcess *dead) {
    PendingTable *table = &front->pending;

    /* Without the lock: nobody else finishes what was sent to the dead one, its replier has been
     * joined, and others only append. */
    for (unsigned i = 0; i < PENDING_SLOTS; i++) {
        Pending *pending = &table->slots[i];
        bool its;

        pthread_mutex_lock(&table->lock);
        its = pending->in_flight && pending->sent_to == dead;
        if (its) {
            pending->suspect = true;
            pending->sent_to = NULL; /* the dead one's address may come again */
        } else if (pending->in_flight) {
            pending->suspect = false;
        }
        pthread_mutex_unlock(&table->lock);
        if (its) {
            pending->doubtful = true;
            if (pending->has_in) {
                renew_result(front, pending);
            }
        }
    }
}

Pending *pending_blame(PendingTable *table, const DaemonProcess *dead, uint64_t request_id,
                       unsigned weight) {
    Pending *found = NULL;
    unsigned sent = 0;

    pthread_mutex_lock(&table->lock);
    for (ListNode *node = list_first(&table->in_flight); node != NULL;
         node = list_next(&table->in_flight, node)) {
        Pending *pending = container_of(node, Pending, node);

        if (pending->sent_to == dead) {
            sent++;
            if (request_id == 0 || pending->request.request_id == request_id) {
                found = pending;
            }
        }
    }
    if (request_id == 0 && sent > 1) {
        found = NULL;
    }
    if (found != NULL) {
        found->guilt += weight;
    }
    pthread_mutex_unlock(&table->lock);
    return found;
}

void pending_give_up(Front *front, Pending *pending, int error) {
    const FSResponse response = {
        .type = pending->request.type, .request_id = pending->request.request_id, .result = error};

    pending_finish(front, pending, &response);
}

/* ---- sending again ---- */

void pending_renew(Front *front, Pending *pending) {
    _cleanup_free_ uint8_t *renewed = malloc(FS_MESSAGE_MAX);
    _cleanup_free_ uint64_t *ids = malloc(FS_INLINE_MAX);
    FSRequest request;
    unsigned count;
    int r =
        renewed == NULL || ids == NULL
            ? -ENOMEM
            : fs_request_decode(pending->message, (size_t)pending->message_length, &request, NULL);

    if (r < 0) {
        return; /* ignored by the daemon, then: some objects stay until the unmount */
    }
    count = request.payload_length / (unsigned)sizeof(le64);
    for (unsigned i = 0; i < count; i++) {
        le64 raw;

        memcpy(&raw, request.payload + i * sizeof(raw), sizeof(raw));
        ids[i] = le64_get(raw);
    }
    count = nodes_keep_gone(&front->nodes, ids, count, &request.offset);
    for (unsigned i = 0; i < count; i++) {
        const le64 raw = le64_make(ids[i]);

        memcpy(&ids[i], &raw, sizeof(raw));
    }
    request.payload = (const uint8_t *)ids;
    request.payload_length = count * (uint32_t)sizeof(le64);
    r = fs_request_encode(&request, renewed, FS_MESSAGE_MAX);
    if (r > 0) {
        memcpy(pending->message, renewed, (size_t)r);
        pending->message_length = r;
        pending->request.offset = request.offset;
    }
}

/* The next one that this daemon has not got, now marked and held; NULL: none, and `daemon` is the
 * table's from now on, or (*ret_wait) a suspect that was sent alone has not been answered yet. */
static Pending *next_unsent(PendingTable *table, DaemonProcess *daemon, bool serially,
                            bool *ret_wait) {
    Pending *found = NULL;
    bool alone = false;

    pthread_mutex_lock(&table->lock);
    for (ListNode *node = list_first(&table->in_flight); node != NULL && found == NULL;
         node = list_next(&table->in_flight, node)) {
        Pending *pending = container_of(node, Pending, node);

        found = pending->sent_to != daemon ? pending : NULL;
        alone = alone || (pending->sent_to == daemon && pending->suspect);
    }
    *ret_wait = serially && alone && found != NULL;
    if (*ret_wait) {
        found = NULL;
    } else if (found == NULL) {
        table->daemon = daemon->gone ? NULL : daemon;
    } else {
        found->sent_to = daemon;
        found->holders++;
        table->sending++;
    }
    pthread_mutex_unlock(&table->lock);
    return found;
}

/* A new daemon that takes nothing for so long is as good as dead: the keeper must not wait for it.
 */
static int send_patiently(DaemonProcess *daemon, const Pending *pending) {
    const struct timespec nap = {.tv_nsec = 1000000};
    int r = -EAGAIN;

    for (unsigned i = 0; i < SEND_MS && r == -EAGAIN; i++) {
        r = transport_try_send(daemon->transport, pending->message,
                               (size_t)pending->message_length);
        if (r == -EAGAIN) {
            (void)nanosleep(&nap, NULL);
        }
    }
    if (r == -EAGAIN) {
        daemon_kill(daemon);
    }
    return r == -EAGAIN ? -EPIPE : r;
}

int pending_resend(Front *front, DaemonProcess *daemon, bool serially) {
    PendingTable *table = &front->pending;
    Pending *pending;
    bool wait = false;
    int r = 0;

    while (r == 0 && (pending = next_unsent(table, daemon, serially, &wait)) != NULL) {
        if (pending->request.type == FS_MSG_EVICT) {
            pending_renew(front, pending);
        }
        r = send_patiently(daemon, pending);
        pending_sent(front, pending);
    }
    pthread_mutex_lock(&table->lock);
    r = daemon->gone ? -EPIPE : r < 0 ? r : wait ? -EAGAIN : 0;
    if (r < 0) {
        table->daemon = NULL;
    }
    pthread_mutex_unlock(&table->lock);
    return r;
}

/* ---- the keeper's own requests ---- */

Pending *pending_reserved(PendingTable *table, enum PendingReserved which, FSMessageType type,
                          PendingFinish *finish, unsigned timeout_ms) {
    Pending *pending = &table->slots[which];
    struct timespec until;
    bool busy;
    int r = timeout_ms == 0 ? ETIMEDOUT : 0;

    deadline_in(timeout_ms, &until);
    pthread_mutex_lock(&table->lock);
    while (pending->reserved && r == 0) {
        r = pthread_cond_timedwait(&table->changed, &table->lock, &until);
    }
    busy = pending->reserved;
    if (!busy) {
        pending_clear(pending, type, finish);
        pending->reserved = true;
    }
    pthread_mutex_unlock(&table->lock);
    return busy ? NULL : pending;
}

void pending_start_at(Front *front, Pending *pending, DaemonProcess *daemon) {
    PendingTable *table = &front->pending;
    int length = pending_prepare(front, pending), sent = 0;
    bool gone;

    pthread_mutex_lock(&table->lock);
    gone = daemon->gone;
    pending->in_flight = true;
    pending->holders = 2;
    pending->sent_to = gone ? NULL : daemon; /* pending_gone() leaves it to us then */
    table->sending++;
    pthread_mutex_unlock(&table->lock);
    if (length < 0 || gone) {
        pending_give_up(front, pending, length < 0 ? -EINVAL : -EPIPE);
    } else {
        sent = transport_try_send(daemon->transport, pending->message, (size_t)length);
    }
    if (sent == -EAGAIN) {
        pending_give_up(front, pending, -EAGAIN); /* it does not read */
    }
    pending_sent(front, pending);
}

void pending_gone(Front *front, DaemonProcess *daemon) {
    PendingTable *table = &front->pending;

    pthread_mutex_lock(&table->lock);
    daemon->gone = true;
    pthread_cond_broadcast(&table->progress);
    pthread_mutex_unlock(&table->lock);
    for (unsigned i = PENDING_SLOTS; i < PENDING_TOTAL; i++) {
        Pending *pending = &table->slots[i];
        bool its;

        pthread_mutex_lock(&table->lock);
        its = pending->in_flight && pending->sent_to == daemon;
        pthread_mutex_unlock(&table->lock);
        if (its) {
            pending_give_up(front, pending, -EPIPE);
        }
    }
}

bool pending_is_gone(PendingTable *table, const DaemonProcess *daemon) {
    bool gone;

    pthread_mutex_lock(&table->lock);
    gone = daemon->gone;
    pthread_mutex_unlock(&table->lock);
    return gone;
}

/* Does its answer give the kernel an object? */
static bool grants(const Pending *pending) {
    switch (pending->request.type) {
    case FS_MSG_LOOKUP:
    case FS_MSG_CREATE_FILE:
    case FS_MSG_LINK:
    case FS_MSG_LIST_DIR:
        return true;
    default:
        return false;
    }
}

bool pending_any_granting(PendingTable *table) {
    bool any = false;

    pthread_mutex_lock(&table->lock);
    for (unsigned i = 0; i < PENDING_SLOTS && !any; i++) {
        any = table->slots[i].kept;
    }
    for (ListNode *node = list_first(&table->in_flight); node != NULL && !any;
         node = list_next(&table->in_flight, node)) {
        const Pending *pending = container_of(node, Pending, node);

        any = pending->suspect && grants(pending);
    }
    pthread_mutex_unlock(&table->lock);
    return any;
}

unsigned pending_count(PendingTable *table, uint64_t *ret_answered) {
    unsigned count;

    pthread_mutex_lock(&table->lock);
    count = table->in_flight_count;
    *ret_answered = table->answered;
    pthread_mutex_unlock(&table->lock);
    return count;
}
