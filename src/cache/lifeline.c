/* SPDX-License-Identifier: MIT */
/*
 * Making, mapping and storing into the lifeline. The memory is a memfd even
 * while the daemon itself owns it: mapping one object twice is what makes the
 * ring contiguous. All of it is allocated before it is stored to, the ring and the
 * table of objects bit by bit, the rest when it is made: a machine without memory is
 * -ENOMEM for one operation then, not SIGBUS for the daemon. What an idle volume does
 * not need is not allocated, nor read through the mapping, which would allocate it.
 *
 * Death comes between any two instructions. A process that dies has executed
 * all its stores in program order up to that point, so it suffices that the
 * compiler keeps them in order where it matters: hence the atomic stores.
 */
#include "lifeline.h"
#include <assert.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

static_assert(sizeof(LifelineHeader) <= LIFELINE_HEADER_SIZE, "header page");
static_assert(offsetof(LifelineHeader, running) % 8 == 0, "stored at each switch");
static_assert(sizeof(LifelineSlot) == 288, "slot");
static_assert(sizeof(LifelineObject) == 536, "object");
static_assert(sizeof(BlockInflight) == 16, "device write");

#define RING_DEFAULT LIFELINE_RING_DEFAULT
/* What is allocated at a time: as much again as there is, within these bounds. */
#define BACK_LEAST LIFELINE_ALIGN
#define BACK_MOST (UINT64_C(1) << 20)
#define OBJECTS_STEP (UINT64_C(16) << 10)
/* A ring that has become larger than this is given back when it is empty. */
#define BACKED_IDLE (UINT64_C(256) << 10)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

LifelineLayout lifeline_layout(unsigned slots) {
    LifelineLayout layout = {.slots = LIFELINE_HEADER_SIZE};

    layout.objects =
        layout.slots + align_up(slots * sizeof(LifelineSlot), (uint64_t)LIFELINE_HEADER_SIZE);
    layout.writes = layout.objects + align_up(LIFELINE_OBJECTS * sizeof(LifelineObject),
                                              (uint64_t)LIFELINE_HEADER_SIZE);
    layout.ring = align_up(layout.writes + LIFELINE_WRITES * sizeof(BlockInflight), LIFELINE_ALIGN);
    return layout;
}

uint64_t lifeline_ring_size(uint64_t size, unsigned slots) {
    uint64_t control = lifeline_layout(slots).ring;
    uint64_t ring = size > control ? size - control : 0;

    if (ring < LIFELINE_RING_MIN || ring > LIFELINE_RING_MAX || ring % LIFELINE_ALIGN != 0) {
        return 0;
    }
    return ring;
}

/* ---- making and mapping ---- */

/* -ENOMEM where there is no room. */
static int allocate(int fd, uint64_t offset, uint64_t length) {
    int r;

    do {
        r = fallocate(fd, 0, (off_t)offset, (off_t)length);
    } while (r < 0 && errno == EINTR);
    if (r == 0) {
        return 0;
    }
    return errno == ENOSPC ? -ENOMEM : -errno;
}

/* It reads as zeros then, and takes no memory. */
static int release(int fd, uint64_t offset, uint64_t length) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) <
                   0
               ? -errno
               : 0;
}

static int memory_init(int fd, const LifelineLayout *layout, uint64_t ring) {
    int r;

    if (ftruncate(fd, (off_t)(layout->ring + ring)) < 0) {
        return -errno;
    }
    r = allocate(fd, 0, layout->objects);
    if (r == 0) {
        r = allocate(fd, layout->writes, layout->ring - layout->writes);
    }
    if (r == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0) {
        r = -errno;
    }
    return r;
}

int lifeline_memory_new(uint64_t ring_bytes, unsigned slots, int *ret_fd) {
    uint64_t ring = ring_bytes == 0 ? RING_DEFAULT : MIN(ring_bytes, LIFELINE_RING_MAX);
    LifelineLayout layout;
    int fd, r;

    if (slots == 0 || slots > LIFELINE_SLOTS_MAX) {
        return -EINVAL;
    }
    ring = align_up(MAX(ring, LIFELINE_RING_MIN), LIFELINE_ALIGN);
    layout = lifeline_layout(slots);
    fd = memfd_create("berth-lifeline", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    r = memory_init(fd, &layout, ring);
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

static int map_ring(Lifeline *lifeline) {
    size_t size = (size_t)lifeline->ring_size;
    uint8_t *space = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (space == MAP_FAILED) {
        return -errno;
    }
    lifeline->ring = space;
    for (unsigned turn = 0; turn < 2; turn++) {
        void *half = mmap(space + turn * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                          lifeline->fd, (off_t)lifeline->control_size);

        if (half == MAP_FAILED) {
            return -errno;
        }
    }
    return 0;
}

static int map_all(Lifeline *lifeline) {
    LifelineLayout layout = lifeline_layout(lifeline->slot_count);
    uint8_t *control;

    lifeline->control_size = (size_t)layout.ring;
    control =
        mmap(NULL, lifeline->control_size, PROT_READ | PROT_WRITE, MAP_SHARED, lifeline->fd, 0);
    if (control == MAP_FAILED) {
        return -errno;
    }
    lifeline->header = (LifelineHeader *)(void *)control;
    lifeline->slots = (LifelineSlot *)(void *)(control + layout.slots);
    lifeline->objects = (LifelineObject *)(void *)(control + layout.objects);
    lifeline->writes = (BlockInflight *)(void *)(control + layout.writes);
    return map_ring(lifeline);
}

int lifeline_open(int fd, unsigned slots, Lifeline **ret) {
    _cleanup_(lifeline_freep) Lifeline *lifeline = NULL;
    struct stat st;
    int seals, r;

    if (slots == 0 || slots > LIFELINE_SLOTS_MAX) {
        return -EPROTO;
    }
    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 || st.st_size < 0 ||
        lifeline_ring_size((uint64_t)st.st_size, slots) == 0) {
        return -EPROTO;
    }
    lifeline = calloc(1, sizeof(*lifeline));
    if (lifeline == NULL) {
        return -ENOMEM;
    }
    lifeline->slot_count = slots;
    lifeline->ring_size = lifeline_ring_size((uint64_t)st.st_size, slots);
    lifeline->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (lifeline->fd < 0) {
        return -errno;
    }
    r = map_all(lifeline);
    if (r < 0) {
        return r;
    }
    *ret = STEAL_PTR(lifeline);
    return 0;
}

int lifeline_new(uint64_t ring_bytes, unsigned slots, Lifeline **ret) {
    int fd = -1;
    int r = lifeline_memory_new(ring_bytes, slots, &fd);

    if (r < 0) {
        return r;
    }
    r = lifeline_open(fd, slots, ret);
    (void)close(fd);
    if (r == 0) {
        (*ret)->blank = true;
    }
    return r;
}

Lifeline *lifeline_free(Lifeline *lifeline) {
    if (lifeline == NULL) {
        return NULL;
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
    free(lifeline);
    return NULL;
}

uint64_t *lifeline_running_word(Lifeline *lifeline) {
    return &lifeline->header->running;
}

int lifeline_fd(const Lifeline *lifeline) {
    return lifeline->fd;
}

BlockInflight *lifeline_inflight(Lifeline *lifeline, unsigned *ret_count) {
    *ret_count = LIFELINE_WRITES;
    return lifeline->writes;
}

/* ---- beginning and taking over ---- */

static void set_positions(Lifeline *lifeline, uint64_t tail, uint64_t batch_start, uint64_t head) {
    lifeline->tail = tail;
    lifeline->batch_start = batch_start;
    lifeline->applied = lifeline->head = head;
    lifeline->backed_from = lifeline->backed_to = align_down(head, LIFELINE_ALIGN);
}

static void clear_tables(Lifeline *lifeline) {
    uint64_t offset = lifeline_layout(lifeline->slot_count).objects;
    uint64_t length = LIFELINE_OBJECTS * sizeof(*lifeline->objects);

    memset(lifeline->slots, 0, lifeline->slot_count * sizeof(*lifeline->slots));
    lifeline->objects_backed = 0;
    if (release(lifeline->fd, offset, align_up(length, (uint64_t)LIFELINE_HEADER_SIZE)) < 0) {
        memset(lifeline->objects, 0, (size_t)length);
    }
}

void lifeline_format(Lifeline *lifeline, uint32_t block_size, uint64_t volume_size) {
    LifelineHeader *header = lifeline->header;
    /* LSNs start one turn in, so that 0 means "never". */
    uint64_t start = lifeline->ring_size;

    __atomic_store_n(&header->magic, 0, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (!lifeline->blank) {
        clear_tables(lifeline);
    }
    lifeline->blank = false;
    header->version = LIFELINE_VERSION;
    header->block_size = block_size;
    header->volume_size = volume_size;
    header->ring_size = lifeline->ring_size;
    header->slot_count = lifeline->slot_count;
    header->object_count = LIFELINE_OBJECTS;
    header->head = header->tail = header->applied = header->batch_start = start;
    header->classes_done = 0;
    header->reserved = 0;
    header->note = 0;
    __atomic_store_n(&header->magic, LIFELINE_MAGIC, __ATOMIC_RELEASE);
    set_positions(lifeline, start, start, start);
    lifeline->classes_done = 0;
}

static bool classes_possible(uint32_t classes) {
    /* They are written in ascending order. */
    return classes <= 0xff && (classes & (classes + 1)) == 0;
}

static bool positions_possible(const LifelineHeader *header) {
    return header->tail >= header->ring_size && header->tail <= header->batch_start &&
           header->tail <= header->applied && header->batch_start <= header->head &&
           header->applied <= header->head && header->head < LIFELINE_LSN_MAX &&
           header->head - header->tail <= header->ring_size &&
           (header->tail | header->batch_start | header->applied | header->head) % 8 == 0;
}

int lifeline_check(const LifelineHeader *header, const LifelineGeometry *expected,
                   const char **ret_text) {
    const char *text = NULL;

    if (header->magic != LIFELINE_MAGIC) {
        text = "not a lifeline";
    } else if (header->version != LIFELINE_VERSION) {
        text = "of another version";
    } else if (header->block_size != expected->block_size ||
               header->volume_size != expected->volume_size) {
        text = "of another volume";
    } else if (header->ring_size != expected->ring_size ||
               header->slot_count != expected->slot_count ||
               header->object_count != LIFELINE_OBJECTS) {
        text = "of another size";
    } else if (!positions_possible(header)) {
        text = "its positions are impossible";
    } else if (!classes_possible(header->classes_done)) {
        text = "its classes are impossible";
    }
    if (text == NULL) {
        return 0;
    }
    *ret_text = text;
    return -EUCLEAN;
}

void lifeline_adopt(Lifeline *lifeline, const LifelineHeader *header, uint64_t head) {
    assert(head >= header->tail && head <= header->head);
    set_positions(lifeline, header->tail, MIN(header->batch_start, head), head);
    lifeline->classes_done = header->classes_done;
    lifeline->blank = false;
}

static uint64_t step_after(uint64_t backed) {
    return backed < BACK_LEAST ? BACK_LEAST : MIN(backed, BACK_MOST);
}

int lifeline_back(Lifeline *lifeline, uint64_t end) {
    while (lifeline->backed_to < end &&
           lifeline->backed_to - lifeline->backed_from < lifeline->ring_size) {
        uint64_t at = lifeline->backed_to % lifeline->ring_size;
        uint64_t length = step_after(lifeline->backed_to - lifeline->backed_from);
        int r;

        length = MIN(length, lifeline->ring_size - at);
        r = allocate(lifeline->fd, lifeline->control_size + at, length);
        if (r < 0) {
            return r;
        }
        lifeline->backed_to += length;
    }
    return 0;
}

void lifeline_release_ring(Lifeline *lifeline) {
    if (lifeline_used(lifeline) == 0 && lifeline->backed_to - lifeline->backed_from > BACKED_IDLE &&
        release(lifeline->fd, lifeline->control_size, lifeline->ring_size) == 0) {
        lifeline->backed_from = lifeline->backed_to = align_down(lifeline->head, LIFELINE_ALIGN);
    }
}

int lifeline_back_object(Lifeline *lifeline, uint32_t index) {
    uint64_t begin = lifeline->objects_backed;
    uint64_t end = (index + UINT64_C(1)) * sizeof(*lifeline->objects);
    int r;

    assert(index < LIFELINE_OBJECTS);
    if (end <= begin) {
        return 0;
    }
    end = MIN(align_up(end, OBJECTS_STEP), (uint64_t)LIFELINE_OBJECTS * sizeof(*lifeline->objects));
    r = allocate(lifeline->fd, lifeline_layout(lifeline->slot_count).objects + begin, end - begin);
    if (r == 0) {
        lifeline->objects_backed = end;
    }
    return r;
}

int lifeline_read_objects(const Lifeline *lifeline, uint32_t first, uint32_t count,
                          LifelineObject *ret) {
    uint64_t offset =
        lifeline_layout(lifeline->slot_count).objects + first * sizeof(LifelineObject);
    size_t size = count * sizeof(*ret), done = 0;

    while (done < size) {
        ssize_t got =
            pread(lifeline->fd, (uint8_t *)ret + done, size - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? -errno : -EPROTO;
        }
        done += (size_t)got;
    }
    return 0;
}

/* ---- stores of the running daemon ---- */

static void check_positions(const Lifeline *lifeline) {
    assert(lifeline->tail <= lifeline->batch_start);
    assert(lifeline->batch_start <= lifeline->head);
    assert(lifeline->tail <= lifeline->applied && lifeline->applied <= lifeline->head);
    assert(lifeline->head - lifeline->tail <= lifeline->ring_size);
}

void lifeline_publish_head(Lifeline *lifeline, uint64_t head) {
    lifeline->head = head;
    check_positions(lifeline);
    __atomic_store_n(&lifeline->header->head, head, __ATOMIC_RELEASE);
    /* Slots and objects come after it, never before. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
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
    /* Freed space is filled after that. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void lifeline_set_applied(Lifeline *lifeline) {
    lifeline->applied = lifeline->head;
    __atomic_store_n(&lifeline->header->applied, lifeline->head, __ATOMIC_RELEASE);
}

void lifeline_store_reply(Lifeline *lifeline, unsigned slot, uint64_t seq, uint64_t lsn,
                          const uint8_t *reply, uint32_t length) {
    LifelineSlot *entry = &lifeline->slots[slot];

    assert(slot < lifeline->slot_count && length <= LIFELINE_REPLY_MAX);
    memcpy(entry->reply, reply, length);
    entry->length = length;
    entry->lsn = lsn;
    __atomic_store_n(&entry->seq, seq, __ATOMIC_RELEASE);
}
