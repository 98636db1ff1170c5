/* SPDX-License-Identifier: MIT */
/*
 * The lifeline: the memory that a daemon leaves behind when it dies. The
 * front-end owns it (a memfd, sealed against any change of size) and gives it to
 * each daemon of the volume in turn; only the daemon maps it (man
 * berth-recovery.7, section 1).
 *
 *     header page | slots | objects | device writes under way | ring of records
 *
 * Its layout follows from the file's size and the number of slots alone, never
 * from what lies in it, and either side treats what it finds there as hostile
 * bytes: a daemon may have written anything before it died.
 */
#ifndef BERTH_LIFELINE_H
#define BERTH_LIFELINE_H

#include "berth/sidejournal.h"

/* ---- the owner's side: nothing is mapped, so that nobody can make an access fault ---- */

#define LIFELINE_RING_DEFAULT (UINT64_C(16) << 20)

/*
 * Makes the memory: ring_bytes (0: the default; clamped to 64 KiB ... 64 MiB, rounded up to 64
 * KiB), that many slots (1 to 4096). All but the ring and the table of objects is allocated at once,
 * so that a machine without memory is -ENOMEM here; the daemon allocates a part of these before it
 * uses it.
 */
int lifeline_memory_new(uint64_t ring_bytes, unsigned slots, int *ret_fd);
/* The request that was being executed when the daemon last switched: a request_id, 0: none, or
 * unknown. Of a live daemon: what it says at this moment. 0 or -errno. */
int lifeline_memory_running(int fd, uint64_t *ret_request_id);
/* The file_ids in the object table, each once per object; at most `capacity` of them. Returns how
 * many, or -errno. */
int lifeline_memory_objects(int fd, unsigned slots, uint64_t *ret_ids, unsigned capacity);

typedef struct LifelineRescue {
    uint64_t records, bytes; /* of the log that were read */
    uint64_t blocks;         /* written to the device */
    char text[128];          /* what was found wrong, where the result is an error; or "" */
} LifelineRescue;
/*
 * Writes everything committed in the log to the device, in the order and classes of a checkpoint,
 * with no code of any filesystem, through the journal if there is one (NULL: none). The daemon is
 * dead and its device writes have ended. What comes
 * after a damaged record is not written: -EUCLEAN then. Changes nothing in the lifeline, so it can
 * be repeated.
 */
int lifeline_memory_rescue(int fd, unsigned slots, BlockDevice *device, SideJournal *journal,
                           LifelineRescue *ret);
/* After a rescue without an error: the log is empty for whoever takes over next; slots and objects
 * stay, with those of the last record. No daemon maps the memory. 0 or -errno. */
int lifeline_memory_settle(int fd);

/* ---- the daemon's side ---- */

typedef struct Lifeline Lifeline;

/* Checks size and seals, maps. Reads nothing of the contents. fd stays the caller's (the lifeline
 * keeps a duplicate, which it needs to allocate the ring). -EPROTO: not such a memory. */
int lifeline_open(int fd, unsigned slots, Lifeline **ret);
/* In private memory, for volumes without a front-end. */
int lifeline_new(uint64_t ring_bytes, unsigned slots, Lifeline **ret);
Lifeline *lifeline_free(Lifeline *lifeline);
DEFINE_CLEANUP(Lifeline *, lifeline_free);
/* Where the scheduler notes whose fiber runs (fiber_note_running()). */
uint64_t *lifeline_running_word(Lifeline *lifeline);
/* The duplicate of its descriptor, -1 if it has none: a sandbox may want to allow fallocate() of it
 * and of nothing else. */
int lifeline_fd(const Lifeline *lifeline);
/* The table of device writes under way, for block_inflight_new(). */
BlockInflight *lifeline_inflight(Lifeline *lifeline, unsigned *ret_count);

#endif
