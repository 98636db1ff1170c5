/* SPDX-License-Identifier: MIT */
/*
 * The replier of one daemon: receives, decodes a private copy, finds the
 * request it answers, checks the one against the other, finishes. It never waits
 * for a slot, an arena slot or the daemon's queue, so it always drains. What the
 * daemon must not do ends the daemon, with one line saying what it was.
 *
 * Waking the replier costs more than many an answer. So a thread whose request is
 * alone in flight may take the replier's place: it takes the ring's sleeping flag
 * down (the daemon wakes nobody then), sends, looks at the ring for a moment, and
 * takes what has come. Then it raises the flag again, on behalf of the replier, which has
 * been asleep in poll(2) all the time, and looks once more, as everybody does who
 * raises it. Nothing is left to this thread after that: death, hanging, the end of the
 * channel and slow answers are met by the replier. A thread that finds a rule broken
 * says which and shuts the channel, which wakes the replier.
 *
 * replies->lock makes the two one consumer: the ring is read, the answers' numbers are
 * compared, and requests are finished only with it, so everything is done in the order
 * of the answers. The replier lets go of it while it sleeps, and only with the flag raised:
 * whoever has the lock may therefore take the flag down, and must raise it before letting go. A
 * wake-up that was already on its way is one for nothing.
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

/* One message that was taken, with the lock: its length, or what the transport said instead. 1, 0:
 * the end, -EAGAIN, or -EPROTO with replies->text. */
static int take_in(DaemonProcess *daemon, int length) {
    Replies *replies = &daemon->replies;
    char text[128] = "not a message in its place";

    if (length > 0 && replies_handle(daemon, replies->message, (size_t)length,
                                     &replies->last_number, replies->scratch, text) < 0) {
        length = -EPROTO;
    }
    if (length == -EPROTO) {
        memcpy(replies->text, text, sizeof(text));
    }
    return MIN(length, 1);
}

static void *replies_thread(void *arg) {
    DaemonProcess *daemon = arg;
    Front *front = daemon->front;
    Replies *replies = &daemon->replies;
    int r = 1;

    pthread_mutex_lock(&replies->lock);
    while (r > 0) {
        r = transport_receive_unlocking(daemon->transport, &replies->lock, replies->message,
                                        FS_MESSAGE_MAX);
        r = replies->text[0] != 0 ? -EPROTO : take_in(daemon, r);
    }
    replies->ended = true;
    pthread_mutex_unlock(&replies->lock);
    if (r == -EPROTO) {
        log_error("%s: %s broke the protocol and is stopped: a response: %s", front->source_given,
                  front->type->daemon, replies->text);
        daemon_kill(daemon);
    }
    pending_gone(front, daemon);
    keeper_channel_lost(front);
    return NULL;
}

int replies_start(DaemonProcess *daemon) {
    Replies *replies = &daemon->replies;
    int r;

    pthread_mutex_init(&replies->lock, NULL);
    replies->message = malloc(FS_MESSAGE_MAX);
    replies->scratch = malloc(ARENA_SMALL);
    if (replies->message == NULL || replies->scratch == NULL) {
        return -ENOMEM;
    }
    r = thread_start(&daemon->replier, replies_thread, daemon);
    daemon->replier_started = r == 0;
    return r;
}

void replies_done(DaemonProcess *daemon) {
    if (daemon->replies.message != NULL) {
        pthread_mutex_destroy(&daemon->replies.lock);
    }
    free(daemon->replies.message);
    free(daemon->replies.scratch);
}

/* ---- in the replier's place ---- */

static TransportWait wait_for(FSMessageType type) {
    return type == FS_MSG_READ_FILE || type == FS_MSG_FSYNC || type == FS_MSG_SYNC
               ? TRANSPORT_WAIT_DEVICE
               : TRANSPORT_WAIT_ANSWER;
}

uint32_t replies_claim(DaemonProcess *daemon, FSMessageType type) {
    Replies *replies = &daemon->replies;
    uint32_t limit_ns;

    if (!transport_has_ring(daemon->transport) || pthread_mutex_trylock(&replies->lock) != 0) {
        return 0;
    }
    replies->wait = wait_for(type);
    limit_ns = replies->ended || replies->text[0] != 0
                   ? 0
                   : transport_look_limit(daemon->transport, replies->wait);
    if (limit_ns > 0) {
        transport_awake(daemon->transport);
    } else {
        pthread_mutex_unlock(&replies->lock);
    }
    return limit_ns;
}

/* Takes all that is there. False: nothing more is to be taken. */
static bool take_all(DaemonProcess *daemon) {
    int r;

    do {
        r = take_in(daemon, transport_try_receive(daemon->transport, daemon->replies.message,
                                                  FS_MESSAGE_MAX));
    } while (r > 0);
    return r == -EAGAIN;
}

void replies_take(DaemonProcess *daemon, uint32_t limit_ns) {
    struct fuse_session *session = daemon->front->session;
    bool more = true;

    if (transport_look(daemon->transport, daemon->replies.wait, limit_ns,
                       session != NULL ? fuse_session_fd(session) : -1)) {
        more = take_all(daemon);
    }
    while (more && !transport_prepare_sleep(daemon->transport)) {
        more = take_all(daemon);
    }
    if (!more) {
        transport_shutdown(daemon->transport); /* the replier wakes, and sees to what it means */
    }
    pthread_mutex_unlock(&daemon->replies.lock);
}
