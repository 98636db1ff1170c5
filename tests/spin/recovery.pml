/* SPDX-License-Identifier: MIT */
/*
 * Recovery as a model for spin: requests in slots, a daemon that may die between any two steps, its
 * device I/O that goes on after its death, the successor, the front-end (man berth-recovery.7).
 * Operation 1, 3, … is a WRITE: one transfer to the one data block, then one record, then the
 * reply. Operation 2, 4, … is a READ into a place of the arena. A checkpoint writes the records to
 * the one metadata block and moves the tail.
 *
 * Checked: each WRITE is committed once, and before its reply; nothing acknowledged is lost (neither the
 * data block nor what lies behind the tail goes back to an older state); a READ's answer is its own; every
 * request is answered (no deadlock). Each rule can be left out, and then the check must fail:
 *
 *     -DNO_EPOCH       answers count by slot alone, whoever sent them and whenever
 *     -DNO_FENCE       the dead daemon's I/O is taken to have ended with it
 *     -DNO_SLOTS       no table of last replies: the successor knows what the log still holds
 *     -DNO_APPLIED     the successor takes the table as it is, though a record may be ahead of it
 *     -DNO_PIDFD       the successor starts when the old one seems to hang, before it is dead
 *     -DNO_QUARANTINE  a place of the arena in use at a death is used on
 *     -DEARLY_REPLY    the reply is sent when the data is written, before the record is committed
 *
 * -DOPS=n operations in all, -DDEATHS=n deaths.
 */
#ifndef OPS
#define OPS 4
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#define SLOTS 2
#define PLACES 4 /* in the arena */
#define GENERATIONS (DEATHS + 1)
#define IS_WRITE(op) ((op) % 2 == 1)
#define RECORDS (2 * OPS) /* twice what correct daemons need */

/* ---- the lifeline ---- */
byte head, tail, applied; /* positions: counts of records */
byte record[RECORDS];     /* operation */
byte last_seq[SLOTS];
bool in_flight; /* the table of device writes: the data block is being written */

/* ---- device, arena and processes ---- */
byte data;  /* operation that the data block comes from */
byte meta;  /* how many records the metadata block contains */
byte arena[PLACES];
byte going_data[GENERATIONS], going_meta[GENERATIONS]; /* transfers under way; 0: none */
byte going_read[GENERATIONS], going_place[GENERATIONS];
bool dead[GENERATIONS], fence_passed[GENERATIONS];
byte generation;
chan requests[GENERATIONS] = [SLOTS] of {byte, byte, byte, byte}; /* slot, seq, operation, place */
chan responses[GENERATIONS] = [SLOTS] of {byte, byte};            /* slot, seq */

/* ---- what the judge knows ---- */
byte commits[OPS + 1];
byte data_expected; /* the last WRITE committed */
byte slot_of[OPS + 1], seq_of[OPS + 1];

/* Transfers end when they like; those of the dead may also be cancelled. */
proctype Device(byte g) {
end:
    do
    :: d_step { going_data[g] != 0 -> data = going_data[g]; going_data[g] = 0 }
    :: d_step { going_meta[g] != 0 -> meta = going_meta[g]; assert(meta >= tail); going_meta[g] = 0 }
    :: d_step { going_read[g] != 0 -> arena[going_place[g]] = going_read[g]; going_read[g] = 0 }
    :: d_step { dead[g] && going_data[g] != 0 -> going_data[g] = 0 }
    :: d_step { dead[g] && going_meta[g] != 0 -> going_meta[g] = 0 }
    :: d_step { dead[g] && going_read[g] != 0 -> going_read[g] = 0 }
    od
}

/* Stages of a request in the daemon. */
#define IDLE 0
#define TAKEN 1
#define TRANSFER 2
#define WRITTEN 3
#define STORED 4 /* the record is behind head */
#define COMMITTED 5
#define DONE 6

#ifdef NO_FENCE
#define SETTLED(g) true
#else
#define SETTLED(g) ((g) == 0 || fence_passed[g])
#endif

inline advance(s) {
    if
    :: empty(requests[me]) && stage[s] == TAKEN && IS_WRITE(work[s]) && !range_locked && (!overlaps || SETTLED(me)) ->
        d_step { range_locked = true; overlaps = false; in_flight = true;
                 going_data[me] = work[s]; stage[s] = TRANSFER }
    :: empty(requests[me]) && stage[s] == TAKEN && !IS_WRITE(work[s]) && going_read[me] == 0 && !reading ->
        d_step { going_place[me] = place[s]; going_read[me] = work[s]; reading = true;
                 stage[s] = TRANSFER }
    :: stage[s] == TRANSFER && IS_WRITE(work[s]) && going_data[me] == 0 ->
        d_step { in_flight = false; stage[s] = WRITTEN }
#ifdef EARLY_REPLY
        responses[me]!s, seq[s]
#endif
    :: stage[s] == TRANSFER && !IS_WRITE(work[s]) && going_read[me] == 0 ->
        d_step { reading = false; stage[s] = DONE }
    :: stage[s] == WRITTEN && !storing ->
        d_step { record[head] = work[s]; storing = true; stage[s] = STORED }
    :: stage[s] == STORED ->
        d_step { head++; commits[work[s]]++; data_expected = work[s]; range_locked = false;
                 assert(commits[work[s]] == 1); assert(data == data_expected);
                 stage[s] = COMMITTED }
    :: stage[s] == COMMITTED ->
        d_step { last_seq[s] = seq[s]; applied = head; storing = false; stage[s] = DONE }
    :: stage[s] == DONE ->
        atomic {
#ifdef EARLY_REPLY
            if
            :: !IS_WRITE(work[s]) -> responses[me]!s, seq[s]
            :: else
            fi;
#else
            responses[me]!s, seq[s];
#endif
            stage[s] = IDLE; work[s] = 0; seq[s] = 0; place[s] = 0
        }
    fi
}

proctype Daemon(byte me) {
    byte work[SLOTS], seq[SLOTS], place[SLOTS], stage[SLOTS];
    byte s, q, op, p, i, target;
    bool range_locked, reading, storing, checkpointing, overlaps, known;

    {
        /* Take over: replies that are behind head but not in the table; whose write may still land. */
#ifdef NO_APPLIED
        applied = head;
#endif
        do
        :: applied < head ->
            d_step { last_seq[slot_of[record[applied]]] = seq_of[record[applied]]; applied++ }
        :: applied >= head -> break
        od;
        overlaps = in_flight;
end:
        do
        :: atomic { requests[me]?s, q, op, p ->
            known = false;
#ifdef NO_SLOTS
            i = tail;
            do
            :: i < head -> known = known || record[i] == op; i++
            :: else -> break
            od;
#else
            assert(q >= last_seq[s]);
            known = last_seq[s] == q;
#endif
            if
            :: known && IS_WRITE(op) -> responses[me]!s, q
            :: else -> work[s] = op; seq[s] = q; place[s] = p; stage[s] = TAKEN
            fi;
            s = 0; q = 0; op = 0; p = 0; i = 0; known = false }
        :: advance(0)
        :: advance(1)
        :: !checkpointing && !storing && tail < head && SETTLED(me) ->
            d_step { target = head; going_meta[me] = head; checkpointing = true }
        :: checkpointing && going_meta[me] == 0 ->
            d_step { tail = target; target = 0; checkpointing = false; assert(meta >= tail) }
        od
    } unless {
        d_step { dead[me] -> /* what it knew is gone, also for spin's table of states */
                 work[0] = 0; seq[0] = 0; place[0] = 0; stage[0] = 0;
                 work[1] = 0; seq[1] = 0; place[1] = 0; stage[1] = 0;
                 s = 0; q = 0; op = 0; p = 0; i = 0; target = 0; range_locked = false;
                 reading = false; storing = false; checkpointing = false; overlaps = false;
                 known = false }
    }
}

/* Dies between any two steps, or not at all. */
proctype Killer() {
end:
    do
    :: generation < DEATHS && !dead[generation] -> dead[generation] = true
    od
}

/* Has all I/O of this generation ended, if it is one of the dead? (DEATHS is at most 2.) */
#define ENDED(g) ((g) >= generation || going_data[g] + going_meta[g] + going_read[g] == 0)
#define ALL_ENDED (ENDED(0) && ENDED(DEATHS / 2))

inline take_place(s) {
    i = 0;
    do
    :: i < PLACES && (used[i] || quarantined[i]) -> i++
    :: else -> break
    od;
    assert(i < PLACES); /* slots and quarantines need no more: only one death is not yet fenced here */
    where[s] = i; used[i] = true; i = 0
}

inline issue(s) {
    atomic {
        next <= OPS && op[s] == 0 && (s == 0 || op[0] != 0) && !dead[generation] ->
        op[s] = next; seq[s]++; slot_of[next] = s; seq_of[next] = seq[s]; next++;
        if
        :: !IS_WRITE(op[s]) -> take_place(s)
        :: else
        fi;
        requests[generation]!s, seq[s], op[s], where[s]
    }
}

inline accept(s, q) {
    if
#ifdef NO_EPOCH
    :: op[s] != 0 ->
#else
    :: op[s] != 0 && seq[s] == q ->
#endif
        if
        :: IS_WRITE(op[s]) -> assert(commits[op[s]] == 1)
        :: else -> assert(arena[where[s]] == op[s]); arena[where[s]] = 0; used[where[s]] = false; where[s] = 0
        fi;
        op[s] = 0
    :: else
    fi;
    s = 0; q = 0
}

/* In original order: operations are numbered in the order of their arrival. */
inline send_again() {
    i = 1;
    do
    :: i < next ->
        s = 0;
        do
        :: s < SLOTS && op[s] == i ->
#ifndef NO_QUARANTINE
            if
            :: !IS_WRITE(i) ->
                used[where[s]] = false; quarantined[where[s]] = true;
                q = i; take_place(s); i = q; q = 0
            :: else
            fi;
#endif
            requests[generation]!s, seq[s], op[s], where[s]; s++
        :: s < SLOTS && op[s] != i -> s++
        :: s >= SLOTS -> break
        od;
        i++
    :: else -> break
    od;
    i = 0; s = 0
}

#ifdef NO_PIDFD
#define SEEMS_DEAD true
#else
#define SEEMS_DEAD dead[generation]
#endif

proctype Front() {
    byte op[SLOTS], seq[SLOTS], where[SLOTS];
    bool used[PLACES], quarantined[PLACES];
    byte next = 1, i, s, q;

    do
    :: issue(0)
    :: issue(1)
    :: atomic { responses[generation]?s, q -> accept(s, q) }
#ifdef NO_EPOCH
    :: atomic { generation > 0 && nempty(responses[generation - 1]) ->
                responses[generation - 1]?s, q -> accept(s, q) }
#endif
    :: atomic { SEEMS_DEAD && generation < DEATHS ->
#ifndef NO_EPOCH
            do
            :: responses[generation]?s, q -> accept(s, q)
            :: empty(responses[generation]) -> break
            od;
#endif
            generation++;
            run Daemon(generation);
            send_again() }
    :: atomic { generation > 0 && !fence_passed[generation] && ALL_ENDED ->
            fence_passed[generation] = true;
            do
            :: i < PLACES -> quarantined[i] = false; i++
            :: else -> break
            od;
            i = 0 }
    :: next > OPS && op[0] == 0 && op[1] == 0 -> break
    od;
    /* All is answered. When the last transfer has ended, everything must be there. */
    atomic {
        going_data[0] + going_data[DEATHS / 2] + going_data[DEATHS] == 0; /* at most 2 deaths */
        assert(data == data_expected);
        assert(meta >= tail);
        i = 1;
        do
        :: i <= OPS -> assert(!IS_WRITE(i) || commits[i] == 1); i++
        :: else -> break
        od
    }
}

init {
    atomic {
        byte g = 0;
        do
        :: g < GENERATIONS -> run Device(g); g++
        :: else -> break
        od;
        run Daemon(0);
        run Killer();
        run Front()
    }
}
