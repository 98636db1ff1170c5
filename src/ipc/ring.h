/* SPDX-License-Identifier: MIT */
/*
 * One direction of a ring pair: a queue of messages in shared memory with one
 * producer and one consumer (man berth-protocol.7, RINGS). A Ring is one side's
 * private view of it: where that side stands is kept here and only published in
 * the shared memory, and what the peer has published is read once, bounded, and
 * then used from the private copy. Whatever the peer writes there, an operation
 * ends after one message with a message, -EAGAIN or -EPROTO.
 *
 * Order of memory. Records are published by the store to `tail`, which the
 * consumer loads before it reads them (release, acquire); room is given back by
 * the store to `head` in the same way. Falling asleep is the one place where each
 * side stores first and then loads what the other stores:
 *
 *     producer  put             store tail;          then load sleeping
 *     consumer  prepare_sleep   store sleeping = 1;  then load tail
 *
 * All four are sequentially consistent, so at least one of the two sees the
 * other's store: the producer the flag, and wakes; or the consumer the record, and
 * stays awake. Whoever wakes takes the flag down by an exchange, so one sleep
 * costs one wake-up, however many messages follow. A wake-up may come although
 * the consumer saw the record itself; it means nothing but "look again".
 *
 * No locks: a side that has several threads serializes them itself.
 */
#ifndef BERTH_IPC_RING_H
#define BERTH_IPC_RING_H

#include "berth/base.h"

#include <stdatomic.h>

#define RING_CONTROL_SIZE 256u
#define RING_RECORD_HEADER 8u /* the message's length, then 4 bytes of zero */

/* In shared memory. Positions in cache lines of their own: they have different
 * writers. */
typedef struct RingControl {
    _Alignas(64) _Atomic uint64_t tail;     /* producer: bytes ever put */
    _Alignas(64) _Atomic uint32_t sleeping; /* consumer: 1; the producer that wakes it: 0 */
    _Atomic uint64_t rung;                  /* producer: when it last did so (CLOCK_MONOTONIC) */
    _Alignas(64) _Atomic uint64_t head;     /* consumer: bytes ever taken */
    uint8_t reserved[120];
} RingControl;

typedef struct Ring {
    RingControl *control;
    uint8_t *data;
    uint64_t size;     /* of data, a multiple of 8 */
    uint64_t position; /* ours: bytes ever put, or taken */
    uint64_t offset;   /* position modulo size */
    uint64_t peer;     /* the peer's position as last read and checked */
    bool asleep;       /* consumer: the flag was raised */
} Ring;

/* Both sides start at 0, on memory that is zero. */
void ring_init(Ring *ring, void *control, void *data, uint64_t size);

/*
 * Producer. -EPROTO: the peer's position is impossible, or there is no room: the rings are so large
 * that a peer who keeps to the limit of slots leaves some. Thread-unsafe.
 */
int ring_put(Ring *ring, const void *message, size_t length);
/* After ring_put(): must the consumer be woken? May be called by several threads. */
bool ring_must_wake(Ring *ring);

/* Consumer: bytes copied (> 0), -EAGAIN, -EPROTO. */
int ring_take(Ring *ring, void *buf, size_t capacity);
/* Has something been put, or the position become impossible? A hint: ring_take() decides. */
bool ring_has_more(const Ring *ring);
/* Raises the flag. False: something has come meanwhile, or is broken; take again first. */
bool ring_prepare_sleep(Ring *ring);
void ring_awake(Ring *ring);

#endif
