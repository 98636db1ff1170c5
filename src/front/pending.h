/* SPDX-License-Identifier: MIT */
/*
 * The table of requests in flight: slots, sequence numbers, and the one place
 * where a request is finished. A slot belongs to whoever got it until
 * pending_start(); then to the table; then, once, to its finish function; and
 * only after the reply was written may it be used again (man berth-recovery.7).
 *
 * What is in flight when the daemon dies stays in the table, in order, and is sent
 * again to the next one (pending_resend()); what is started meanwhile queues behind
 * it. So a request is finished by an answer, or with an error when there will be no
 * daemon any more, or when it was given up as the one that kills daemons.
 *
 * Locks: table->lock guards the lists and everything marked so. It is never held
 * while a message is sent or a reply is written.
 */
#ifndef BERTH_FRONT_PENDING_H
#define BERTH_FRONT_PENDING_H

#include "berth/channel.h"
#include "berth/message.h"
#include <pthread.h>
#include <stdatomic.h>

#define PENDING_SLOTS 256u
/* Beside them: places that are always there for the keeper. */
enum PendingReserved { PENDING_CALL = PENDING_SLOTS, PENDING_PING, PENDING_FENCE, PENDING_TOTAL };

typedef struct Front Front;
typedef struct DaemonProcess DaemonProcess;
typedef struct Pending Pending;
struct fuse_req;

/* Turns the response (or, when there is none to come, one made up with a result below 0) into the
 * answer. Runs on the replier thread, or on the one that called pending_start(). */
typedef void PendingFinish(Front *front, Pending *pending, const FSResponse *response);

struct Pending {
    /* name2 and payload are the caller's until pending_start() returns. name is copied by then: the
     * answer's books are kept by it (accept.c). */
    FSRequest request;
    PendingFinish *finish;
    struct fuse_req *fuse; /* the kernel's request, NULL for our own */
    ArenaSlot out, in;     /* payload to write, room for the result */
    bool has_out, has_in;
    /* What finish needs of the FUSE request. */
    uint64_t offset;
    uint32_t size;
    void *context;
    /* The table's. */
    uint64_t unique; /* the kernel's number for its request; 0: our own */
    uint16_t slot;
    bool kept;     /* a dead front-end's: waits for pending_claim() */
    bool reserved; /* the keeper's own: in no list, never sent again */
    bool in_flight;
    DaemonProcess *sent_to; /* the last one it was sent to; NULL: none yet */
    unsigned guilt;         /* deaths it is blamed for, weighted */
    bool suspect;           /* in flight at the last death */
    bool doubtful;          /* a dead daemon's I/O may still read its payload's slot */
    unsigned holders;       /* of a started request: whoever sends it, whoever finishes it */
    int message_length;
    uint8_t *message; /* as sent; kept so that it can be sent again */
    ListNode node;    /* free or in flight, the latter in order of sending */
};

typedef struct PendingTable {
    pthread_mutex_t lock;
    pthread_cond_t changed;  /* a slot came free */
    pthread_cond_t progress; /* something was answered, a sender has returned, a daemon is gone */
    Pending slots[PENDING_TOTAL];
    uint8_t *messages; /* PENDING_TOTAL * FS_MESSAGE_MAX */
    List free, in_flight;
    unsigned in_flight_count;
    _Atomic uint64_t next_seq;
    DaemonProcess *daemon; /* whom to send to; NULL: requests wait in `in_flight` */
    int failed;            /* below 0: there will be none any more */
    unsigned sending;      /* threads that are in transport_send() to `daemon` */
    uint64_t answered;     /* requests finished, ever */
    uint64_t base; /* the daemon counts everything as granted by this response: pending_renew() */
    struct KeepsakeHeader *keepsake; /* the slots are noted there; NULL: nowhere */
    bool waiting;                    /* somebody waits for `progress` */
} PendingTable;

int pending_table_init(PendingTable *table);
/* The keepsake is a dead front-end's: its slots in flight wait for their requests to come again. */
void pending_adopt(PendingTable *table);
/* The place of the kernel's request `unique` if it is one of these, cleared and with its old id. */
Pending *pending_claim(Front *front, uint64_t unique, FSMessageType type, PendingFinish *finish);
/* Those that have not come again were answered. */
void pending_release_kept(PendingTable *table);
void pending_table_done(PendingTable *table);

/* A cleared slot for a request of this type; waits until one is free. */
Pending *pending_get(Front *front, FSMessageType type, PendingFinish *finish);
/* The same; NULL when none came free in time (a daemon that stands still). */
Pending *pending_get_timed(Front *front, FSMessageType type, PendingFinish *finish,
                           unsigned timeout_ms);
/* Gives an unstarted slot (and its arena slots) back. */
void pending_put(Front *front, Pending *pending);
/* A place in the arena for the result or the payload; waits. 0 or -errno. */
int pending_take_in(Front *front, Pending *pending, uint32_t length);
int pending_take_out(Front *front, Pending *pending, uint32_t length);
/*
 * Sends. Whatever happens, finish is called exactly once, perhaps before this returns.
 */
void pending_start(Front *front, Pending *pending);
/* The request in flight at this daemon that the response answers, NULL if none does. It stays in
 * flight. */
Pending *pending_match(PendingTable *table, const DaemonProcess *daemon,
                       const FSResponse *response);
/* The one reply site: finishes, then frees arena slots and slot. */
void pending_finish(Front *front, Pending *pending, const FSResponse *response);
/* From now on, and for all in flight, `error` (below 0). */
void pending_fail_all(Front *front, int error);
/* Requests go there from now on. Nothing is in flight. */
void pending_set_daemon(PendingTable *table, DaemonProcess *daemon);

/* ---- the keeper's (resend.c) ---- */

/* Shared with pending.c: a cleared place, its message made (length or -errno), and its sender done
 * with it (which entered it in `sending` and `holders`). */
void pending_clear(Pending *pending, FSMessageType type, PendingFinish *finish);
int pending_prepare(Front *front, Pending *pending);
void pending_sent(Front *front, Pending *pending);
/* Requests wait from now on. Returns when no thread is sending any more. */
void pending_halt(PendingTable *table);
/* Waits until all that was sent to this daemon has been answered. -ETIMEDOUT, or -EPIPE: it died.
 */
int pending_settle(PendingTable *table, DaemonProcess *daemon, unsigned timeout_ms);
/* What was in flight at a dead daemon: marks it, and gives reads another place for their result.
 * May wait for the fence. */
void pending_doubt(Front *front, const DaemonProcess *dead);
/* Who among them is to blame: the request with this id, or, where 0, the only one that was sent.
 * NULL: nobody known. */
Pending *pending_blame(PendingTable *table, const DaemonProcess *dead, uint64_t request_id,
                       unsigned weight);
/* Gives one in flight up with an error. Nothing is being sent. */
void pending_give_up(Front *front, Pending *pending, int error);
/*
 * Sends what is in flight to this daemon, in order; then new requests go there as well. serially:
 * each suspect alone: -EAGAIN while one is unanswered, to be called again then. -EPIPE: it died
 * meanwhile.
 */
int pending_resend(Front *front, DaemonProcess *daemon, bool serially);
/* A reserved place, cleared; NULL: still in use after so long. Who hears an answer may come back
 * before the thread that brought it has left the place. */
Pending *pending_reserved(PendingTable *table, enum PendingReserved which, FSMessageType type,
                          PendingFinish *finish, unsigned timeout_ms);
/* Sends it to this daemon at once. */
void pending_start_at(Front *front, Pending *pending, DaemonProcess *daemon);
/* The channel has ended and was drained: its reserved requests fail. */
void pending_gone(Front *front, DaemonProcess *daemon);
bool pending_is_gone(PendingTable *table, const DaemonProcess *daemon);
/* Requests in flight, and how many were ever answered. */
unsigned pending_count(PendingTable *table, uint64_t *ret_answered);
/* Is one still unanswered that was in flight at the last death, and that gives the kernel an
 * object? */
bool pending_any_granting(PendingTable *table);
/*
 * An EVICT whose `seen` is older than the daemon would be ignored by it: what the kernel still does
 * not hold, as of now. Called by its sender.
 */
void pending_renew(Front *front, Pending *pending);
/* Waits until nothing is in flight: 0 or -ETIMEDOUT. */
int pending_drain(PendingTable *table, unsigned timeout_ms);

/* May the daemon give this response to that request? 0 or -EPROTO with *text naming what is wrong
 * (response.c). data in the arena is not looked at. */
int response_check(const Pending *pending, const FSResponse *response, char text[128]);
int response_check_attr(const FsAttr *attr, uint64_t file_id, char text[128]);

/*
 * A request of our own, waited for. payload may be NULL. *ret is filled on any answer, its data
 * moved to *ret_data (appended; may be NULL). Returns the response's result, or -ETIMEDOUT (the
 * answer may still come and is dropped), -ENOMEM, -EIO (no daemon). (call.c)
 */
int front_call(Front *front, FSMessageType type, uint16_t flags, const char *payload,
               unsigned timeout_ms, FSResponse *ret, Text *ret_data);
/* The keeper's form: to this daemon, at once, whatever else waits. -EPIPE: it died. */
int front_call_at(Front *front, DaemonProcess *daemon, FSMessageType type, uint16_t flags,
                  uint64_t offset, const char *payload, unsigned timeout_ms, FSResponse *ret,
                  Text *ret_data);

#endif
