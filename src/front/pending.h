/* SPDX-License-Identifier: MIT */
/*
 * The table of requests in flight: slots, sequence numbers, and the one place
 * where a request is finished. A slot belongs to whoever got it until
 * pending_start(); then to the table; then, once, to its finish function; and
 * only after the reply was written may it be used again (man berth-recovery.7).
 *
 * Locks: table->lock guards the free list, the in-flight list and `up`. It is
 * never held while a message is sent or a reply is written.
 */
#ifndef BERTH_FRONT_PENDING_H
#define BERTH_FRONT_PENDING_H

#include "berth/channel.h"
#include "berth/message.h"
#include <pthread.h>
#include <stdatomic.h>

#define PENDING_SLOTS 256u

typedef struct Front Front;
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
    uint16_t slot;
    bool in_flight;
    unsigned holders; /* of a started request: whoever sends it, whoever finishes it */
    int message_length;
    uint8_t *message; /* as sent; kept so that it can be sent again */
    ListNode node;    /* free or in flight, the latter in order of sending */
};

typedef struct PendingTable {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a slot came free */
    Pending slots[PENDING_SLOTS];
    uint8_t *messages; /* PENDING_SLOTS * FS_MESSAGE_MAX */
    List free, in_flight;
    unsigned in_flight_count;
    _Atomic uint64_t next_seq;
    bool up; /* there is somebody to send to */
} PendingTable;

int pending_table_init(PendingTable *table);
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
/* The request in flight that this response answers, NULL if none does. It stays in flight. */
Pending *pending_match(PendingTable *table, const FSResponse *response);
/* The one reply site: finishes, then frees arena slots and slot. */
void pending_finish(Front *front, Pending *pending, const FSResponse *response);
/* Down: nothing is sent any more, all in flight is finished with `error` (below 0). */
void pending_fail_all(Front *front, int error);
void pending_set_up(PendingTable *table, bool up);
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

#endif
