/* SPDX-License-Identifier: MIT */
/*
 * Making and mapping the lifeline. The memory is a memfd even while the
 * daemon itself owns it: mapping one object twice is what makes the ring
 * contiguous, and another owner needs nothing but the descriptor.
 */
#include "lifeline.h"
#include <assert.h>
#include <sys/mman.h>

static_assert(sizeof(LifelineHeader) <= LIFELINE_HEADER_SIZE, "header page");
static_assert(sizeof(LifelineSlot) == 288, "slot");
static_assert(sizeof(LifelineObject) == 536, "object");

static uint64_t slots_size(void) {
    return align_up(LIFELINE_SLOTS * sizeof(LifelineSlot), LIFELINE_HEADER_SIZE);
}

static uint64_t objects_size(void) {
    return align_up(LIFELINE_OBJECTS * sizeof(LifelineObject), LIFELINE_HEADER_SIZE);
}

static int map_ring(Lifeline *lifeline, uint64_t offset) {
    size_t size = (size_t)lifeline->ring_size;
    uint8_t *space = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (space == MAP_FAILED) {
        return -errno;
    }
    for (unsigned turn = 0; turn < 2; turn++) {
        void *half = mmap(space + turn * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                          lifeline->fd, (off_t)offset);

        if (half == MAP_FAILED) {
            int error = -errno;
            (void)munmap(space, 2 * size);
            return error;
        }
    }
    lifeline->ring = space;
    return 0;
}

static int map_all(Lifeline *lifeline) {
    uint8_t *control;
    int r = map_ring(lifeline, lifeline->control_size);

    if (r < 0) {
        return r;
    }
    control =
        mmap(NULL, lifeline->control_size, PROT_READ | PROT_WRITE, MAP_SHARED, lifeline->fd, 0);
    if (control == MAP_FAILED) {
        return -errno;
    }
    lifeline->header = (LifelineHeader *)(void *)control;
    lifeline->slots = (LifelineSlot *)(void *)(control + LIFELINE_HEADER_SIZE);
    lifeline->objects = (LifelineObject *)(void *)(control + LIFELINE_HEADER_SIZE + slots_size());
    return 0;
}

int lifeline_init(Lifeline *lifeline, uint64_t ring_size, uint32_t block_size,
                  uint64_t volume_size) {
    int r;

    assert(ring_size >= LIFELINE_RING_MIN && ring_size <= LIFELINE_RING_MAX);
    *lifeline = (Lifeline){.ring_size = ring_size, .fd = -1};
    lifeline->control_size =
        (size_t)align_up(LIFELINE_HEADER_SIZE + slots_size() + objects_size(), LIFELINE_ALIGN);
    lifeline->fd = memfd_create("berth-lifeline", MFD_CLOEXEC);
    if (lifeline->fd < 0) {
        return -errno;
    }
    r = ftruncate(lifeline->fd, (off_t)(lifeline->control_size + ring_size)) < 0 ? -errno : 0;
    if (r == 0) {
        r = map_all(lifeline);
    }
    if (r < 0) {
        lifeline_done(lifeline);
        return r;
    }
    /* LSNs start one turn in, so that 0 means "never". */
    lifeline->head = lifeline->tail = lifeline->batch_start = ring_size;
    *lifeline->header = (LifelineHeader){
        .magic = LIFELINE_MAGIC,
        .version = LIFELINE_VERSION,
        .block_size = block_size,
        .volume_size = volume_size,
        .slot_count = LIFELINE_SLOTS,
        .object_count = LIFELINE_OBJECTS,
        .slots_offset = LIFELINE_HEADER_SIZE,
        .objects_offset = LIFELINE_HEADER_SIZE + slots_size(),
        .ring_offset = lifeline->control_size,
        .ring_size = ring_size,
        .head = ring_size,
        .tail = ring_size,
        .applied = ring_size,
        .batch_start = ring_size,
    };
    return 0;
}

void lifeline_done(Lifeline *lifeline) {
    if (lifeline->ring_size == 0) {
        return;
    }
    if (lifeline->header != NULL) {
        (void)munmap(lifeline->header, lifeline->control_size);
    }
    if (lifeline->ring != NULL) {
        (void)munmap(lifeline->ring, 2 * (size_t)lifeline->ring_size);
    }
    if (lifeline->fd >= 0) {
        (void)close(lifeline->fd);
    }
    *lifeline = (Lifeline){.fd = -1};
}

static void check_positions(const Lifeline *lifeline) {
    assert(lifeline->tail <= lifeline->batch_start);
    assert(lifeline->batch_start <= lifeline->head);
    assert(lifeline->head - lifeline->tail <= lifeline->ring_size);
}

void lifeline_publish_head(Lifeline *lifeline, uint64_t head) {
    lifeline->head = head;
    check_positions(lifeline);
    __atomic_store_n(&lifeline->header->head, head, __ATOMIC_RELEASE);
}

void lifeline_set_batch_start(Lifeline *lifeline, uint64_t batch_start) {
    lifeline->batch_start = batch_start;
    check_positions(lifeline);
    __atomic_store_n(&lifeline->header->batch_start, batch_start, __ATOMIC_RELEASE);
}

void lifeline_set_classes_done(Lifeline *lifeline, uint32_t classes) {
    lifeline->classes_done = classes;
    __atomic_store_n(&lifeline->header->classes_done, classes, __ATOMIC_RELEASE);
}

void lifeline_set_tail(Lifeline *lifeline, uint64_t tail) {
    /* The classes go first: a reader between the two stores repeats the batch, which is allowed;
     * the other order would have it skip classes of the next one. */
    lifeline_set_classes_done(lifeline, 0);
    lifeline->tail = tail;
    check_positions(lifeline);
    __atomic_store_n(&lifeline->header->tail, tail, __ATOMIC_RELEASE);
}

void lifeline_set_applied(Lifeline *lifeline) {
    __atomic_store_n(&lifeline->header->applied, lifeline->head, __ATOMIC_RELEASE);
}

void lifeline_store_reply(Lifeline *lifeline, unsigned slot, uint64_t seq, uint64_t lsn,
                          const uint8_t *reply, uint32_t length) {
    LifelineSlot *entry = &lifeline->slots[slot];

    assert(slot < LIFELINE_SLOTS && length <= LIFELINE_REPLY_MAX);
    memcpy(entry->reply, reply, length);
    entry->length = length;
    entry->lsn = lsn;
    __atomic_store_n(&entry->seq, seq, __ATOMIC_RELEASE);
}
