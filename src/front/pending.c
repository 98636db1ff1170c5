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

static void cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

int pending_table_init(PendingTable *table) {
    memset(table, 0, sizeof(*table));
    table->messages = malloc((size_t)PENDING_TOTAL * FS_MESSAGE_MAX);
    if (table->messages == NULL) {
        return -ENOMEM;
    }
    pthread_mutex_init(&table->lock, NULL);
    cond_init(&table->changed);
    cond_init(&table->progress);
    list_init(&table->free);
    list_init(&table->in_flight);
    for (unsigned i = 0; i < PENDING_TOTAL; i++) {
        table->slots[i].slot = (uint16_t)i;
        table->slots[i].message = table->messages + (size_t)i * FS_MESSAGE_MAX;
        if (i < PENDING_SLOTS) {
            list_append(&table->free, &table->slots[i].node);
        }
    }
    return 0;
}

void pending_table_done(PendingTable *table) {
    assert(table->in_flight_count == 0);
    free(table->messages);
    pthread_cond_destroy(&table->changed);
    pthread_cond_destroy(&table->progress);
    pthread_mutex_destroy(&table->lock);
}

void pending_adopt(PendingTable *table) {
    uint64_t seq = table->keepsake->next_seq;

    for (unsigned i = 0; i < PENDING_TOTAL; i++) {
        KeepsakeSlot *kept = &table->keepsake->slots[i];
        Pending *pending = &table->slots[i];

        seq = MAX(seq, fs_request_seq(kept->request_id));
        if (i < PENDING_SLOTS && kept->type != 0 && kept->unique != 0) {
            pending->kept = true;
            list_remove(&pending->node);
        } else {
            kept->type = 0;
        }
    }
    /* The number is stored without a lock, so it may be behind by one for each thread. */
    atomic_store(&table->next_seq, seq + PENDING_TOTAL);
}

void pending_release_kept(PendingTable *table) {
    pthread_mutex_lock(&table->lock);
    for (unsigned i = 0; i < PENDING_SLOTS; i++) {
        if (table->slots[i].kept) {
            table->slots[i].kept = false;
            table->keepsake->slots[i].type = 0;
            list_append(&table->free, &table->slots[i].node);
        }
    }
    pthread_cond_broadcast(&table->changed);
    pthread_mutex_unlock(&table->lock);
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

void pending_clear(Pending *pending, FSMessageType type, PendingFinish *finish) {
    uint16_t slot = pending->slot;
    uint8_t *message = pending->message;

    memset(pending, 0, sizeof(*pending));
    pending->slot = slot;
    pending->message = message;
    pending->finish = finish;
    pending->request.type = (uint16_t)type;
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
    pending_clear(pending, type, finish);
    pthread_mutex_unlock(&table->lock);
    return pending;
}

void pending_put(Front *front, Pending *pending) {
    PendingTable *table = &front->pending;

    if (pending->has_out &&
        (!pending->doubtful || !fences_hold(&front->fences, front->arena_out, &pending->out))) {
        arena_slot_put(front->arena_out, &pending->out);
    }
    if (pending->has_in) {
        arena_slot_put(front->arena_in, &pending->in);
    }
    pending->has_out = pending->has_in = false;
    pthread_mutex_lock(&table->lock);
    if (pending->reserved) {
        pending->reserved = false;
    } else {
        list_append(&table->free, &pending->node);
    }
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

/* What a request meets when it enters the order of sending. */
typedef struct Flight {
    DaemonProcess *daemon; /* to send it to now; NULL: it waits, or, with failed below 0, nobody
                              will answer it */
    int failed;
    uint64_t base;
    bool alone; /* nothing else is unanswered */
} Flight;

static Flight enter_flight(PendingTable *table, Pending *pending) {
    DaemonProcess *daemon;
    Flight flight;

    pthread_mutex_lock(&table->lock);
    flight.alone = list_empty(&table->in_flight);
    pending->in_flight = true;
    pending->holders = 2;
    list_append(&table->in_flight, &pending->node);
    table->in_flight_count++;
    daemon = table->daemon;
    if (daemon != NULL) {
        pending->sent_to = daemon;
        table->sending++;
    }
    flight.daemon = daemon;
    flight.failed = table->failed;
    flight.base = table->base;
    pthread_mutex_unlock(&table->lock);
    return flight;
}

/* The last of sender and finisher gives the slot back: an answer may overtake the sender's return
 * from transport_send(), and the message must stay as it is until then. */
static void release(Front *front, Pending *pending, bool sent) {
    PendingTable *table = &front->pending;
    bool last;

    pthread_mutex_lock(&table->lock);
    last = --pending->holders == 0;
    if (last && !pending->reserved) {
        table->in_flight_count--;
    }
    if (sent && --table->sending == 0) {
        pthread_cond_broadcast(&table->progress);
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

Pending *pending_claim(Front *front, uint64_t unique, FSMessageType type, PendingFinish *finish) {
    PendingTable *table = &front->pending;
    Pending *pending = NULL;

    if (table->keepsake == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&table->lock);
    for (unsigned i = 0; i < PENDING_SLOTS && pending == NULL; i++) {
        const KeepsakeSlot *kept = &table->keepsake->slots[i];

        if (table->slots[i].kept && kept->unique == unique && kept->type == (uint32_t)type + 1) {
            pending = &table->slots[i];
        }
    }
    if (pending != NULL) {
        pending_clear(pending, type, finish);
        pending->request.request_id = table->keepsake->slots[pending->slot].request_id;
        pending->suspect = true; /* until it is answered nothing is reconciled */
    }
    pthread_mutex_unlock(&table->lock);
    return pending;
}

/* The highest one: several threads send, and one that was held up must not take it back. */
static void keep_seq(struct KeepsakeHeader *keepsake, uint64_t seq) {
    uint64_t kept = __atomic_load_n(&keepsake->next_seq, __ATOMIC_RELAXED);

    while (kept < seq && !__atomic_compare_exchange_n(&keepsake->next_seq, &kept, seq, false,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* Notes what is in flight for a front-end that may have to go on with it. */
static void keep(PendingTable *table, const Pending *pending, uint64_t seq) {
    if (table->keepsake != NULL) {
        KeepsakeSlot *kept = &table->keepsake->slots[pending->slot];

        kept->unique = pending->unique;
        kept->request_id = pending->request.request_id;
        __atomic_store_n(&kept->type, (uint32_t)pending->request.type + 1, __ATOMIC_RELEASE);
        keep_seq(table->keepsake, seq);
    }
}

/* The kernel has its answer. */
static void unkeep(PendingTable *table, const Pending *pending) {
    if (table->keepsake != NULL) {
        __atomic_store_n(&table->keepsake->slots[pending->slot].type, UINT32_C(0),
                         __ATOMIC_RELEASE);
    }
}

/* Gives it its id (a claimed one has it) and its form on the wire. Length or -errno. */
int pending_prepare(Front *front, Pending *pending) {
    uint64_t seq = atomic_fetch_add(&front->pending.next_seq, 1) + 1;
    int length;

    if (pending->request.request_id == 0) {
        pending->request.request_id = fs_request_id(pending->slot, seq);
    }
    keep(&front->pending, pending, seq);
    if (log_level() >= LOG_LEVEL_DEBUG) {
        debug_request(pending);
    }
    if (front->direct != NULL) {
        return 0;
    }
    length = fs_request_encode(&pending->request, pending->message, FS_MESSAGE_MAX);
    pending->request.name.text = (const char *)pending->message + FS_REQUEST_HEADER;
    pending->message_length = length;
    return length;
}

/* Until release() the daemon's transport stays: the keeper waits for those who are sending. That
 * includes waiting for the answer, which is short. */
static void send_to(DaemonProcess *daemon, const Pending *pending, bool alone) {
    /* The receiver's own, and nothing else that the replier would have to be woken for. */
    uint32_t limit_ns =
        alone && pending->fuse != NULL ? replies_claim(daemon, pending->request.type) : 0;

    /* A failure means that the daemon has gone: the keeper finds this among those in flight. */
    (void)transport_send(daemon->transport, pending->message, (size_t)pending->message_length);
    if (limit_ns > 0) {
        replies_take(daemon, limit_ns);
    }
}

void pending_start(Front *front, Pending *pending) {
    int length = pending_prepare(front, pending);
    const Flight flight = enter_flight(&front->pending, pending);

    if (front->direct != NULL) {
        direct_execute(front, pending);
    } else if (length < 0) {
        finish_with(front, pending, length == -EMSGSIZE ? -EIO : length);
    } else if (flight.daemon != NULL) {
        if (pending->request.type == FS_MSG_EVICT && pending->request.offset < flight.base) {
            pending_renew(front, pending);
        }
        send_to(flight.daemon, pending, flight.alone);
    } else if (flight.failed < 0) {
        finish_with(front, pending, flight.failed);
    }
    release(front, pending, flight.daemon != NULL);
}

void pending_sent(Front *front, Pending *pending) {
    release(front, pending, true);
}

Pending *pending_match(PendingTable *table, const DaemonProcess *daemon,
                       const FSResponse *response) {
    uint16_t slot = fs_request_slot(response->request_id);
    Pending *pending = NULL;

    pthread_mutex_lock(&table->lock);
    if (slot < PENDING_TOTAL && table->slots[slot].in_flight &&
        table->slots[slot].sent_to == daemon &&
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
    if (!pending->reserved) {
        list_remove(&pending->node);
    }
    table->answered++;
    if (table->waiting) {
        pthread_cond_broadcast(&table->progress);
    }
    pthread_mutex_unlock(&table->lock);

    if (log_level() >= LOG_LEVEL_DEBUG) {
        debug_response(response);
    }
    pending->finish(front, pending, response);
    unkeep(table, pending);

    release(front, pending, false);
}

void pending_set_daemon(PendingTable *table, DaemonProcess *daemon) {
    pthread_mutex_lock(&table->lock);
    table->daemon = daemon;
    pthread_mutex_unlock(&table->lock);
}

void pending_fail_all(Front *front, int error) {
    PendingTable *table = &front->pending;
    ListNode *first;

    for (;;) {
        pthread_mutex_lock(&table->lock);
        table->daemon = NULL;
        table->failed = error;
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
