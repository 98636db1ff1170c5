/* SPDX-License-Identifier: MIT */
/*
 * Falling asleep and being woken as a model for spin (man berth-architecture.7, "Rings, and pipes to
 * wake"): the responses' ring, whose producer is the daemon, and the two threads of the front-end that
 * take turns as its one consumer. The sender puts requests one after the other; before some of them it
 * takes the replier's turn if the lock is free, and after a look, which may end at any moment, it gives
 * the turn back. The replier sleeps without the lock, but never without having raised the flag. The
 * daemon answers each request, and has a byte put into the pipe if it finds the flag raised.
 *
 * Stores and loads are steps of their own, in an order that all agree on: those of tail and sleeping are
 * sequentially consistent (src/ipc/ring.h).
 *
 * Checked: every answer is taken once and in order, by whoever has the lock; none stays (no deadlock).
 * Each rule can be left out, and then the check must fail:
 *
 *     -DNO_SECOND_LOOK  the flag is raised, and tail not loaded again
 *     -DNO_RAISE        the turn is given back with the flag down
 *     -DNO_LOCK         the sender takes its turn whoever is at it
 *     -DFLAG_AFTER      the daemon loads the flag before it stores tail
 *
 * -DREQUESTS=n in all.
 */
#ifndef REQUESTS
#define REQUESTS 3
#endif
#define NOBODY 0
#define REPLIER 1
#define SENDER 2

byte requests; /* put so far */
byte tail;     /* answers put */
byte position; /* answers taken: the consumer's own */
bool sleeping; /* the flag */
byte bytes;    /* in the pipe */
byte lock;     /* who has it */
byte finished;

/* The consumer's step: with the lock. Two, so that another one could come between. */
inline take(seen) {
    seen = tail;
    if
    :: seen > position ->
        seen = position;
        sleeping = false;
        assert(seen == position); /* nobody else takes */
        position = seen + 1;
        finished++
    :: else
    fi
}

/* False in `raised`: there is something to take. */
inline prepare_sleep(raised) {
    sleeping = true;
#ifdef NO_SECOND_LOOK
    raised = true
#else
    if
    :: tail != position -> sleeping = false; raised = false
    :: else -> raised = true
    fi
#endif
}

active proctype Daemon() {
    byte answered;
    bool wake;

end:
    do
    :: answered < requests ->
        answered++;
#ifdef FLAG_AFTER
        wake = sleeping;
        tail = answered;
#else
        tail = answered;
        wake = sleeping;
#endif
        if
        :: wake ->
            atomic { wake = sleeping; sleeping = false }; /* the exchange */
            if
            :: wake && bytes < 2 -> bytes++
            :: else
            fi
        :: else
        fi;
        wake = false
    od
}

active proctype Replier() {
    byte seen;
    bool raised;

    do
    :: atomic { lock == NOBODY -> lock = REPLIER };
        do
        :: position < tail -> take(seen)
        :: else ->
            prepare_sleep(raised);
            if
            :: raised -> break
            :: else
            fi
        od;
        lock = NOBODY;
        if
        :: bytes > 0 ->
            atomic { lock == NOBODY -> lock = REPLIER };
            bytes = 0;
            sleeping = false;
            lock = NOBODY
        :: finished == REQUESTS -> break
        fi
    od
}

active proctype Sender() {
    byte seen;
    bool raised, claimed;

    do
    :: requests < REQUESTS ->
        claimed = false;
        if
#ifdef NO_LOCK
        :: claimed = true
#else
        :: atomic { lock == NOBODY -> lock = SENDER }; claimed = true
#endif
        :: skip
        fi;
        if
        :: claimed -> sleeping = false
        :: else
        fi;
        requests++;
        if
        :: claimed ->
            do
            :: position < tail -> take(seen)
            :: break /* the look may end at any moment */
            od;
#ifndef NO_RAISE
            do
            :: prepare_sleep(raised);
                if
                :: raised -> break
                :: else -> take(seen)
                fi
            od;
#endif
#ifndef NO_LOCK
            lock = NOBODY
#endif
        :: else
        fi
    :: requests == finished && requests == REQUESTS -> break
    od;
    assert(position == REQUESTS && finished == REQUESTS)
}
