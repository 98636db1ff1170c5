/* SPDX-License-Identifier: MIT */
/*
 * The queue itself (ring.h). A record is a header with the length and the message
 * filled up to 8 bytes; it may wrap around the end of the data, its header never
 * does. Positions count bytes and only grow; 64 bits do not overflow in any life
 * of a process.
 */
#include "ring.h"

#include "berth/message.h"

#include <assert.h>

static_assert(sizeof(RingControl) == RING_CONTROL_SIZE, "ring control");
static_assert(offsetof(RingControl, sleeping) == 64, "sleeping");
static_assert(offsetof(RingControl, rung) == 72, "rung");
static_assert(offsetof(RingControl, head) == 128, "head");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared atomics");

void ring_init(Ring *ring, void *control, void *data, uint64_t size) {
    assert(size % RING_RECORD_HEADER == 0);
    *ring = (Ring){.control = control, .data = data, .size = size};
}

static uint64_t record_length(uint32_t length) {
    return RING_RECORD_HEADER + align_up(length, RING_RECORD_HEADER);
}

static uint64_t forward(const Ring *ring, uint64_t offset, uint64_t length) {
    offset += length;
    return offset >= ring->size ? offset - ring->size : offset;
}

static void copy_in(Ring *ring, uint64_t offset, const void *from, size_t length) {
    size_t first = (size_t)MIN((uint64_t)length, ring->size - offset);

    memcpy(ring->data + offset, from, first);
    memcpy(ring->data, (const uint8_t *)from + first, length - first);
}

static void copy_out(const Ring *ring, uint64_t offset, void *to, size_t length) {
    size_t first = (size_t)MIN((uint64_t)length, ring->size - offset);

    memcpy(to, ring->data + offset, first);
    memcpy((uint8_t *)to + first, ring->data, length - first);
}

/* ---- producer ---- */

/* Looks how far the consumer is. It may only have gone forward, and not beyond us. */
static int refresh_head(Ring *ring) {
    uint64_t head = atomic_load_explicit(&ring->control->head, memory_order_acquire);

    if (head - ring->peer > ring->position - ring->peer) {
        return -EPROTO;
    }
    ring->peer = head;
    return 0;
}

int ring_put(Ring *ring, const void *message, size_t length) {
    uint64_t record;
    uint32_t header[2];

    assert(length > 0);
    if (length > FS_MESSAGE_MAX) {
        return -EMSGSIZE;
    }
    header[0] = (uint32_t)length;
    header[1] = 0;
    record = record_length(header[0]);
    if (ring->size - (ring->position - ring->peer) < record) {
        if (refresh_head(ring) < 0 || ring->size - (ring->position - ring->peer) < record) {
            return -EPROTO;
        }
    }
    copy_in(ring, ring->offset, header, sizeof(header));
    copy_in(ring, forward(ring, ring->offset, sizeof(header)), message, length);
    ring->position += record;
    ring->offset = forward(ring, ring->offset, record);
    atomic_store(&ring->control->tail, ring->position);
    return 0;
}

bool ring_must_wake(Ring *ring) {
    /* The load spares the exchange while the consumer is awake. */
    return atomic_load(&ring->control->sleeping) != 0 &&
           atomic_exchange(&ring->control->sleeping, 0) != 0;
}

/* ---- consumer ---- */

/* Looks how far the producer is: at least where it was, and not more than the data ahead of us. */
static int refresh_tail(Ring *ring) {
    uint64_t tail = atomic_load(&ring->control->tail);

    if (tail - ring->position > ring->size || tail % RING_RECORD_HEADER != 0) {
        return -EPROTO;
    }
    ring->peer = tail;
    return 0;
}

int ring_take(Ring *ring, void *buf, size_t capacity) {
    uint32_t header[2];
    uint64_t record;

    if (ring->asleep) {
        ring_awake(ring);
    }
    if (ring->peer == ring->position) {
        if (refresh_tail(ring) < 0) {
            return -EPROTO;
        }
        if (ring->peer == ring->position) {
            return -EAGAIN;
        }
    }
    copy_out(ring, ring->offset, header, sizeof(header));
    if (header[0] == 0 || header[0] > MIN(capacity, (size_t)FS_MESSAGE_MAX) || header[1] != 0) {
        return -EPROTO;
    }
    record = record_length(header[0]);
    if (record > ring->peer - ring->position) {
        return -EPROTO;
    }
    copy_out(ring, forward(ring, ring->offset, sizeof(header)), buf, header[0]);
    ring->position += record;
    ring->offset = forward(ring, ring->offset, record);
    atomic_store_explicit(&ring->control->head, ring->position, memory_order_release);
    return (int)header[0];
}

bool ring_has_more(const Ring *ring) {
    /* Nothing is read on the strength of this: ring_take() loads tail again, and in order. */
    return ring->peer != ring->position ||
           atomic_load_explicit(&ring->control->tail, memory_order_relaxed) != ring->position;
}

bool ring_prepare_sleep(Ring *ring) {
    if (ring->peer != ring->position) {
        return false;
    }
    ring->asleep = true;
    atomic_store(&ring->control->sleeping, 1);
    if (atomic_load(&ring->control->tail) != ring->position) {
        ring_awake(ring);
        return false;
    }
    return true;
}

void ring_awake(Ring *ring) {
    ring->asleep = false;
    atomic_store_explicit(&ring->control->sleeping, 0, memory_order_relaxed);
}
