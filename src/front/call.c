/* SPDX-License-Identifier: MIT */
/*
 * Requests of the front-end's own, waited for: MOUNT, SYNC, GET_STATS and their
 * like. The waiter and the finish half share a heap structure, so that a caller
 * may give up and a late answer still finds somewhere to go.
 */
#include "private.h"

#include <time.h>

#define PLACE_MS 5000u /* for the thread that brought the last answer to be done with it */

typedef struct Waiter {
    pthread_mutex_t lock;
    pthread_cond_t done_changed;
    bool done, abandoned;
    FSResponse response;
    Text data;
} Waiter;

static Waiter *waiter_new(void) {
    Waiter *waiter = calloc(1, sizeof(*waiter));
    pthread_condattr_t attr;

    if (waiter == NULL) {
        return NULL;
    }
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&waiter->done_changed, &attr);
    pthread_condattr_destroy(&attr);
    return waiter;
}

static void waiter_free(Waiter *waiter) {
    pthread_cond_destroy(&waiter->done_changed);
    pthread_mutex_destroy(&waiter->lock);
    text_done(&waiter->data);
    free(waiter);
}

static void finish_call(Front *front, Pending *pending, const FSResponse *response) {
    Waiter *waiter = pending->context;
    bool abandoned;

    pthread_mutex_lock(&waiter->lock);
    waiter->response = *response;
    waiter->response.data = NULL;
    if (response->data_length > 0 && response->data != NULL) {
        text_append(&waiter->data, (const char *)response->data, response->data_length);
    }
    waiter->done = true;
    abandoned = waiter->abandoned;
    pthread_cond_signal(&waiter->done_changed);
    pthread_mutex_unlock(&waiter->lock);
    if (abandoned) {
        waiter_free(waiter);
    }
}

/* True when the answer came in time; false: the waiter now belongs to whoever finishes. */
static bool waiter_wait(Waiter *waiter, unsigned timeout_ms) {
    struct timespec until;
    int r = 0;
    bool done;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->done && r == 0) {
        r = pthread_cond_timedwait(&waiter->done_changed, &waiter->lock, &until);
    }
    done = waiter->done;
    waiter->abandoned = !done;
    pthread_mutex_unlock(&waiter->lock);
    return done;
}

static void fill(Pending *pending, Waiter *waiter, uint16_t flags, const char *payload) {
    pending->context = waiter;
    pending->request.flags = flags;
    pending->request.uid = (uint32_t)getuid();
    pending->request.gid = (uint32_t)getgid();
    pending->request.pid = (uint32_t)getpid();
    pending->request.time_ns = clock_realtime_ns();
    if (payload != NULL) {
        pending->request.payload = (const uint8_t *)payload;
        pending->request.payload_length = (uint32_t)strlen(payload);
    }
}

static int collect(Waiter *waiter, unsigned timeout_ms, FSResponse *ret, Text *ret_data) {
    int r;

    if (!waiter_wait(waiter, timeout_ms)) {
        return -ETIMEDOUT;
    }
    *ret = waiter->response;
    r = waiter->response.result;
    if (ret_data != NULL) {
        text_append(ret_data, text_string(&waiter->data), waiter->data.length);
    }
    waiter_free(waiter);
    return r;
}

int front_call(Front *front, FSMessageType type, uint16_t flags, const char *payload,
               unsigned timeout_ms, FSResponse *ret, Text *ret_data) {
    Waiter *waiter = waiter_new();
    Pending *pending;
    int r;

    if (waiter == NULL) {
        return -ENOMEM;
    }
    pending = pending_get_timed(front, type, finish_call, timeout_ms);
    if (pending == NULL) {
        waiter_free(waiter);
        return -ETIMEDOUT;
    }
    fill(pending, waiter, flags, payload);
    if (type == FS_MSG_LIST_XATTR) {
        pending->request.file_id = FS_ROOT_ID;
    }
    if (type == FS_MSG_GET_STATS) {
        pending->request.length = ARENA_SMALL;
        r = pending_take_in(front, pending, ARENA_SMALL);
        if (r < 0) {
            pending_put(front, pending);
            waiter_free(waiter);
            return r;
        }
    }
    pending_start(front, pending);
    return collect(waiter, timeout_ms, ret, ret_data);
}

int front_call_at(Front *front, DaemonProcess *daemon, FSMessageType type, uint16_t flags,
                  uint64_t offset, const char *payload, unsigned timeout_ms, FSResponse *ret,
                  Text *ret_data) {
    Waiter *waiter = waiter_new();
    Pending *pending;

    if (waiter == NULL) {
        return -ENOMEM;
    }
    pending = pending_reserved(&front->pending, PENDING_CALL, type, finish_call, PLACE_MS);
    if (pending == NULL) {
        waiter_free(waiter);
        return -EBUSY; /* the last one has timed out, and its daemon still lives */
    }
    fill(pending, waiter, flags, payload);
    pending->request.offset = offset;
    pending_start_at(front, pending, daemon);
    return collect(waiter, timeout_ms, ret, ret_data);
}
