/* SPDX-License-Identifier: MIT */
/*
 * The table of requests in flight (pending.h): getting a slot, sending, matching
 * an answer, finishing once. Sending blocks when the daemon's queue is full; that
 * is the back-pressure on the kernel. Finishing never waits for a slot.
 *
 * Locks: table->lock, never held over I/O.
 */
#include "private.h"

#include <assert.h>
#include <time.h>

int pending_table_init(PendingTable *table) {
    memset(table, 0, sizeof(*table));
    table->messages = malloc((size_t)PENDING_SLOTS * FS_MESSAGE_MAX);
    if (table->messages == NULL) {
        return -ENOMEM;
    }
    pthread_mutex_init(&table->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&table->changed, &attr);
    pthread_condattr_destroy(&attr);
    list_init(&table->free);
    list_init(&table->in_flight);
    for (unsigned i = 0; i < PENDING_SLOTS; i++) {
        table->slots[i].slot = (uint16_t)i;
        table->slots[i].message = table->messages + (size_t)i * FS_MESSAGE_MAX;
        list_append(&table->free, &table->slots[i].node);
    }
    return 0;
}

void pending_table_done(PendingTable *table) {
    assert(table->in_flight_count == 0);
    free(table->messages);
    pthread_cond_destroy(&table->changed);
    pthread_mutex_destroy(&table->lock);
}

/* CLOCK_MONOTONIC, timeout_ms from now. */
static struct timespec deadline_after(unsigned timeout_ms) {
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

Pending *pending_get(Front *front, FSMessageType type, PendingFinish *finish) {
    Pending *pending;

    do {
        pending = pending_get_timed(front, type, finish, 3600000);
    } while (pending == NULL);
    return pending;
}

Pending *pending_get_timed(Front *front, FSMessageType type, PendingFinish *finish,
                           unsigned timeout_ms) {
    const struct timespec until = deadline_after(timeout_ms);
    PendingTable *table = &front->pending;
    Pending *pending;
    uint16_t slot;
    uint8_t *message;
    int r = 0;

    pthread_mutex_lock(&table->lock);
    while (list_empty(&table->free) && r == 0) {
        r = pthread_cond_timedwait(&table->changed, &table->lock, &until);
    }
    if (list_empty(&table->free)) {
        pthread_mutex_unlock(&table->lock);
        return NULL;
    }
    pending = container_of(list_first(&table->free), Pending, node);
    list_remove(&pending->node);
    pthread_mutex_unlock(&table->lock);

    slot = pending->slot;
    message = pending->message;
    memset(pending, 0, sizeof(*pending));
    pending->slot = slot;
    pending->message = message;
    pending->finish = finish;
    pending->request.type = (uint16_t)type;
    return pending;
}

void pending_put(Front *front, Pending *pending) {
    PendingTable *table = &front->pending;

    if (pending->has_out) {
        arena_slot_put(front->arena_out, &pending->out);
    }
    if (pending->has_in) {
        arena_slot_put(front->arena_in, &pending->in);
    }
    pending->has_out = pending->has_in = false;
    pthread_mutex_lock(&table->lock);
    list_append(&table->free, &pending->node);
    pthread_cond_broadcast(&table->changed);
    pthread_mutex_unlock(&table->lock);
}

static void use_arena(Pending *pending, const ArenaSlot *slot) {
    pending->request.flags |= FS_REQ_ARENA;
    pending->request.arena_offset = slot->offset;
    pending->request.arena_length = slot->length;
}

int pending_take_in(Front *front, Pending *pending, uint32_t length) {
    int r;

    if (front->direct != NULL) {
        return 0; /* results lie in the client's own buffer */
    }
    r = arena_slot_get(front->arena_in, length, true, &pending->in);
    if (r == 0) {
        pending->has_in = true;
        use_arena(pending, &pending->in);
    }
    return r;
}

int pending_take_out(Front *front, Pending *pending, uint32_t length) {
    int r = arena_slot_get(front->arena_out, length, true, &pending->out);

    if (r == 0) {
        pending->has_out = true;
        use_arena(pending, &pending->out);
    }
    return r;
}

static void finish_with(Front *front, Pending *pending, int error) {
    FSResponse response = {
        .type = pending->request.type, .request_id = pending->request.request_id, .result = error};

    pending_finish(front, pending, &response);
}

/* Enters the request into the order of sending. */
static bool enter_flight(PendingTable *table, Pending *pending, unsigned holders) {
    bool up;

    pthread_mutex_lock(&table->lock);
    pending->in_flight = true;
    pending->holders = holders;
    list_append(&table->in_flight, &pending->node);
    table->in_flight_count++;
    up = table->up;
    pthread_mutex_unlock(&table->lock);
    return up;
}

/* The last of sender and finisher gives the slot back: an answer may overtake the sender's return
 * from transport_send(), and the message must stay as it is until then. */
static void release(Front *front, Pending *pending) {
    PendingTable *table = &front->pending;
    bool last;

    pthread_mutex_lock(&table->lock);
    last = --pending->holders == 0;
    if (last) {
        table->in_flight_count--;
    }
    pthread_mutex_unlock(&table->lock);
    if (last) {
        pending_put(front, pending);
    }
}

static void debug_response(const FSResponse *response) {
    char line[512];

    log_debug("<- %s", fs_response_to_text(response, line, sizeof(line)));
}

static void debug_request(const Pending *pending) {
    char line[512];

    log_debug("-> %s", fs_request_to_text(&pending->request, line, sizeof(line)));
}

void pending_start(Front *front, Pending *pending) {
    uint64_t seq = atomic_fetch_add(&front->pending.next_seq, 1) + 1;
    int length = 0;
    bool up;

    pending->request.request_id = fs_request_id(pending->slot, seq);
    if (log_level() >= LOG_LEVEL_DEBUG) {
        debug_request(pending);
    }
    if (front->direct != NULL) {
        enter_flight(&front->pending, pending, 1);
        direct_execute(front, pending);
        return;
    }
    length = fs_request_encode(&pending->request, pending->message, FS_MESSAGE_MAX);
    pending->request.name.text = (const char *)pending->message + FS_REQUEST_HEADER;
    up = enter_flight(&front->pending, pending, length < 0 ? 1 : 2);
    if (length < 0) {
        finish_with(front, pending, length == -EMSGSIZE ? -EIO : length);
        return;
    }
    pending->message_length = length;
    if (up) {
        /* A failure means that the daemon has gone: the replier finds the end of file, and this
         * request among those in flight. */
        (void)transport_send(front->daemon.transport, pending->message, (size_t)length);
    } else {
        finish_with(front, pending, -EIO);
    }
    release(front, pending);
}

Pending *pending_match(PendingTable *table, const FSResponse *response) {
    uint16_t slot = fs_request_slot(response->request_id);
    Pending *pending = NULL;

    pthread_mutex_lock(&table->lock);
    if (slot < PENDING_SLOTS && table->slots[slot].in_flight &&
        table->slots[slot].request.request_id == response->request_id) {
        pending = &table->slots[slot];
    }
    pthread_mutex_unlock(&table->lock);
    return pending;
}

void pending_finish(Front *front, Pending *pending, const FSResponse *response) {
    PendingTable *table = &front->pending;

    pthread_mutex_lock(&table->lock);
    assert(pending->in_flight);
    pending->in_flight = false;
    list_remove(&pending->node);
    pthread_mutex_unlock(&table->lock);

    if (log_level() >= LOG_LEVEL_DEBUG) {
        debug_response(response);
    }
    pending->finish(front, pending, response);

    release(front, pending);
}

void pending_set_up(PendingTable *table, bool up) {
    pthread_mutex_lock(&table->lock);
    table->up = up;
    pthread_mutex_unlock(&table->lock);
}

void pending_fail_all(Front *front, int error) {
    PendingTable *table = &front->pending;
    ListNode *first;

    for (;;) {
        pthread_mutex_lock(&table->lock);
        table->up = false;
        first = list_first(&table->in_flight);
        pthread_mutex_unlock(&table->lock);
        if (first == NULL) {
            return;
        }
        finish_with(front, container_of(first, Pending, node), error);
    }
}

int pending_drain(PendingTable *table, unsigned timeout_ms) {
    const struct timespec until = deadline_after(timeout_ms);
    int r = 0;

    pthread_mutex_lock(&table->lock);
    while (table->in_flight_count > 0 && r == 0) {
        r = pthread_cond_timedwait(&table->changed, &table->lock, &until);
    }
    r = table->in_flight_count > 0 ? -ETIMEDOUT : 0;
    pthread_mutex_unlock(&table->lock);
    return r;
}
