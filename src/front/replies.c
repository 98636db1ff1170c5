/* SPDX-License-Identifier: MIT */
/*
 * The replier of one daemon: receives, decodes a private copy, finds the
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

int replies_handle(const DaemonProcess *daemon, const uint8_t *message, size_t length,
                   uint64_t *last_number, uint8_t *scratch, char text[128]) {
    Front *front = daemon->front;
    FSResponse response;
    Pending *pending;
    int r = fs_response_decode(message, length, &response, text);

    if (r < 0) {
        return r;
    }
    pending = pending_match(&front->pending, daemon, &response);
    if (pending == NULL) {
        strcpy(text, "answers no request in flight");
        return -EPROTO;
    }
    /* A successor goes on from its predecessor's numbers. */
    *last_number =
        MAX(*last_number, pending->request.type == FS_MSG_MOUNT ? pending->request.offset : 0);
    /* A successor that could not take over knows no numbers to go on from. */
    if (response.number <= *last_number && !(pending->reserved && response.result < 0)) {
        strcpy(text, "number is not above the last one's");
        return -EPROTO;
    }
    *last_number = MAX(*last_number, response.number);
    r = response_check(pending, &response, text);
    if (r == 0) {
        r = fetch_data(pending, &response, scratch);
    }
    if (r < 0) {
        return r;
    }
    /* A successor that could not take over has done nothing to the volume. */
    if (!pending->reserved || response.result == 0) {
        atomic_store(&front->last_number, response.number);
        if (front->keepsake.header != NULL) {
            front->keepsake.header->last_number = response.number;
        }
        response_accept(front, pending, &response);
    }
    pending_finish(front, pending, &response);
    return 0;
}

void *replies_thread(void *arg) {
    DaemonProcess *daemon = arg;
    Front *front = daemon->front;
    _cleanup_free_ uint8_t *message = malloc(FS_MESSAGE_MAX);
    _cleanup_free_ uint8_t *scratch = malloc(ARENA_SMALL);
    char text[128] = "out of memory";
    uint64_t last_number = 0;
    int r = message == NULL || scratch == NULL ? -EPROTO : 1;

    while (r > 0) {
        r = transport_receive(daemon->transport, message, FS_MESSAGE_MAX);
        if (r > 0 && replies_handle(daemon, message, (size_t)r, &last_number, scratch, text) < 0) {
            r = -EPROTO;
        } else if (r == -EPROTO) {
            strcpy(text, "not a message in its place");
        }
    }
    if (r == -EPROTO) {
        log_error("%s: %s broke the protocol and is stopped: a response: %s", front->source_given,
                  front->type->daemon, text);
        daemon_kill(daemon);
    }
    pending_gone(front, daemon);
    keeper_channel_lost(front);
    return NULL;
}
