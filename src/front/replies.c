/* SPDX-License-Identifier: MIT */
/*
 * The replier: receives from the daemon, decodes a private copy, finds the
 * request it answers, checks the one against the other, finishes. It never waits
 * for a slot, an arena slot or the daemon's queue, so it always drains. What the
 * daemon must not do ends the daemon, with one line saying what it was.
 */
#include "private.h"

/* Copy, then check: what lies in the arena may change under us. A READ's bytes are the file's
 * contents, which nobody here looks at. */
static int fetch_data(const Pending *pending, FSResponse *response, uint8_t *scratch) {
    if ((response->flags & FS_RESP_ARENA) == 0) {
        return 0;
    }
    if (pending->request.type == FS_MSG_READ_FILE) {
        response->data = pending->in.data;
        return 0;
    }
    if (response->data_length > ARENA_SMALL) {
        return -EPROTO;
    }
    memcpy(scratch, pending->in.data, response->data_length);
    response->data = scratch;
    return 0;
}

/* 0, or -EPROTO with *text. */
static int handle(Front *front, const uint8_t *message, size_t length, uint64_t *last_number,
                  uint8_t *scratch, char text[128]) {
    FSResponse response;
    Pending *pending;
    int r = fs_response_decode(message, length, &response, text);

    if (r < 0) {
        return r;
    }
    if (response.number <= *last_number) {
        strcpy(text, "number is not above the last one's");
        return -EPROTO;
    }
    *last_number = response.number;
    pending = pending_match(&front->pending, &response);
    if (pending == NULL) {
        strcpy(text, "answers no request in flight");
        return -EPROTO;
    }
    r = response_check(pending, &response, text);
    if (r == 0) {
        r = fetch_data(pending, &response, scratch);
    }
    if (r < 0) {
        return r;
    }
    response_accept(front, pending, &response);
    pending_finish(front, pending, &response);
    return 0;
}

void *replies_thread(void *arg) {
    Front *front = arg;
    _cleanup_free_ uint8_t *message = malloc(FS_MESSAGE_MAX);
    _cleanup_free_ uint8_t *scratch = malloc(ARENA_SMALL);
    char text[128] = "out of memory";
    uint64_t last_number = 0;
    int r = message == NULL || scratch == NULL ? -EPROTO : 1;

    while (r > 0) {
        r = transport_receive(front->daemon.transport, message, FS_MESSAGE_MAX);
        if (r > 0 && handle(front, message, (size_t)r, &last_number, scratch, text) < 0) {
            r = -EPROTO;
        } else if (r == -EPROTO) {
            strcpy(text, "not a message in its place");
        }
    }
    if (r == -EPROTO) {
        log_error("%s: %s broke the protocol and is stopped: a response: %s", front->source_given,
                  front->type->daemon, text);
        daemon_kill(front);
    }
    supervise_channel_lost(front);
    return NULL;
}
