/* SPDX-License-Identifier: MIT */
/*
 * The front-end's side of an arena: one sealed memfd, cut into small and large
 * slots, each kind with its own stack of free ones (last used, first given: its
 * memory is warm). The kinds are strict: a request for at most ARENA_SMALL bytes
 * takes a small slot and never a large one, however many are free, so that small
 * I/O cannot starve large; the caller who prefers a large slot asks for FS_IO_MAX.
 *
 * In the file the small slots come first, then the large ones, without gaps. In
 * memory the large ones have a private page before them (when head_room is asked
 * for) and an inaccessible one behind:
 *     [small ...] ... [head | slot | guard] [head | slot | guard] ...
 * so that one read(2) can put a request's header into private memory and its
 * payload into the slot, and one that overruns gets -EFAULT.
 *
 * A slot's memory is allocated when it is first given out, as much of it as was asked for: an idle
 * mount has little. Its pages are mapped then, the one before it as well: read(2) on /dev/fuse must
 * not meet one that is missing. If the process is being killed just then, the kernel cannot fetch
 * the page, and answers the request with EIO although a successor could serve it.
 *
 * lock covers the stacks, Slot.used and closed. Slot.backed belongs to whoever
 * holds the slot. The mappings and counts never change.
 */
#include "memfile.h"

#include "berth/channel.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define BACK_STEP (UINT64_C(16) << 10) /* FS_IO_MAX and ARENA_SMALL are multiples of it */

static_assert(FS_IO_MAX % BACK_STEP == 0 && ARENA_SMALL % BACK_STEP == 0, "whole steps");

typedef struct Slot {
    uint8_t *data;
    uint64_t offset;
    bool used;       /* given out */
    uint32_t backed; /* so much of its memory has been allocated */
} Slot;

/* Slots of one size: slots[first .. first + count). */
typedef struct Pool {
    uint32_t length;
    unsigned first, count;
    uint32_t *free_stack; /* indices */
    unsigned free_count;
    pthread_cond_t freed;
} Pool;

struct Arena {
    int fd;
    uint64_t size;
    size_t head;   /* of private memory before each large slot */
    uint8_t *base; /* the whole reservation, mapped or not */
    size_t base_length;
    Slot *slots;
    Pool small, large;
    pthread_mutex_t lock;
    bool closed;
};

/* ---- making ---- */

static int map_shared(Arena *arena, uint8_t *at, size_t length, uint64_t offset) {
    void *mapped =
        mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, arena->fd, (off_t)offset);

    return mapped == MAP_FAILED ? -errno : 0;
}

static int map_large(Arena *arena, uint8_t *at, size_t head, size_t guard) {
    for (unsigned i = 0; i < arena->large.count; i++) {
        Slot *slot = &arena->slots[arena->large.first + i];
        int r;

        if (head > 0 && mprotect(at, head, PROT_READ | PROT_WRITE) < 0) {
            return -errno;
        }
        slot->data = at + head;
        r = map_shared(arena, slot->data, FS_IO_MAX, slot->offset);
        if (r < 0) {
            return r;
        }
        at += head + FS_IO_MAX + guard;
    }
    return 0;
}

static int map_all(Arena *arena, size_t head) {
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    size_t small_length = (size_t)arena->small.count * ARENA_SMALL;
    uint8_t *at;
    void *base;
    int r;

    arena->base_length = small_length + guard + arena->large.count * (head + FS_IO_MAX + guard);
    base = mmap(NULL, arena->base_length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (base == MAP_FAILED) {
        return -errno;
    }
    arena->base = at = base;
    if (small_length > 0) {
        r = map_shared(arena, at, small_length, 0);
        if (r < 0) {
            return r;
        }
    }
    for (unsigned i = 0; i < arena->small.count; i++) {
        arena->slots[i].data = at + (size_t)i * ARENA_SMALL;
    }
    return map_large(arena, at + small_length + guard, head, guard);
}

/* Our own mappings exist by now: FUTURE_WRITE leaves them writable, and only them. */
static int seal_file(int fd, bool readonly) {
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

    if (readonly) {
        seals |= F_SEAL_FUTURE_WRITE;
    }
    return fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

static int pool_init(Pool *pool, uint32_t length, unsigned first, unsigned count) {
    pool->length = length;
    pool->first = first;
    pool->count = pool->free_count = count;
    pool->free_stack = calloc(MAX(count, 1u), sizeof(*pool->free_stack));
    if (pool->free_stack == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        pool->free_stack[i] = first + count - 1 - i; /* the first on top */
    }
    return 0;
}

static int arena_init(Arena *arena, const char *name, size_t head, bool seal_readonly) {
    unsigned small_count = arena->small.count, large_count = arena->large.count;
    int r;

    arena->slots = calloc((size_t)small_count + large_count, sizeof(*arena->slots));
    if (arena->slots == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < small_count + large_count; i++) {
        arena->slots[i].offset = arena->size;
        arena->size += i < small_count ? ARENA_SMALL : FS_IO_MAX;
    }
    r = memfile_new(name, arena->size, &arena->fd);
    if (r < 0) {
        return r;
    }
    arena->head = head;
    r = map_all(arena, head);
    if (r < 0) {
        return r;
    }
    return seal_file(arena->fd, seal_readonly);
}

int arena_new(const char *name, unsigned small_count, unsigned large_count, size_t head_room,
              bool seal_readonly, Arena **ret) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    _cleanup_(arena_freep) Arena *arena = NULL;
    int r;

    if (small_count > 65536 || large_count > 65536 || small_count + large_count == 0 ||
        head_room > page) {
        return -EINVAL;
    }
    arena = calloc(1, sizeof(*arena));
    if (arena == NULL) {
        return -ENOMEM;
    }
    arena->fd = -1;
    (void)pthread_mutex_init(&arena->lock, NULL);
    (void)pthread_cond_init(&arena->small.freed, NULL);
    (void)pthread_cond_init(&arena->large.freed, NULL);
    r = pool_init(&arena->small, ARENA_SMALL, 0, small_count);
    if (r == 0) {
        r = pool_init(&arena->large, FS_IO_MAX, small_count, large_count);
    }
    if (r == 0) {
        r = arena_init(arena, name, head_room > 0 ? page : 0, seal_readonly);
    }
    if (r < 0) {
        return r;
    }
    *ret = STEAL_PTR(arena);
    return 0;
}

Arena *arena_free(Arena *arena) {
    if (arena == NULL) {
        return NULL;
    }
    if (arena->base != NULL) {
        (void)munmap(arena->base, arena->base_length);
    }
    if (arena->fd >= 0) {
        (void)close(arena->fd);
    }
    free(arena->slots);
    free(arena->small.free_stack);
    free(arena->large.free_stack);
    (void)pthread_cond_destroy(&arena->small.freed);
    (void)pthread_cond_destroy(&arena->large.freed);
    (void)pthread_mutex_destroy(&arena->lock);
    free(arena);
    return NULL;
}

int arena_fd(const Arena *arena) {
    return arena->fd;
}

uint64_t arena_size(const Arena *arena) {
    return arena->size;
}

/* ---- slots ---- */

static int take_free(Arena *arena, Pool *pool, bool wait, uint32_t *ret) {
    int r = 0;

    (void)pthread_mutex_lock(&arena->lock);
    while (wait && pool->free_count == 0 && !arena->closed) {
        (void)pthread_cond_wait(&pool->freed, &arena->lock);
    }
    if (arena->closed) {
        r = -ESHUTDOWN;
    } else if (pool->free_count == 0) {
        r = -EAGAIN;
    } else {
        *ret = pool->free_stack[--pool->free_count];
        assert(!arena->slots[*ret].used);
        arena->slots[*ret].used = true;
    }
    (void)pthread_mutex_unlock(&arena->lock);
    return r;
}

static void give_back(Arena *arena, Pool *pool, uint32_t index) {
    (void)pthread_mutex_lock(&arena->lock);
    assert(arena->slots[index].used && pool->free_count < pool->count);
    arena->slots[index].used = false;
    pool->free_stack[pool->free_count++] = index;
    (void)pthread_cond_signal(&pool->freed);
    (void)pthread_mutex_unlock(&arena->lock);
}

/* Allocates the slot's memory up to `length`, for good, and populates the mapping. */
static int back_with_memory(Arena *arena, Slot *slot, uint32_t length) {
    uint32_t missing = length - slot->backed;
    int r;

    do {
        r = fallocate(arena->fd, 0, (off_t)(slot->offset + slot->backed), missing) < 0 ? -errno : 0;
    } while (r == -EINTR);
    if (r < 0) {
        return r == -ENOSPC ? -ENOMEM : r;
    }
    (void)madvise(slot->data + slot->backed, missing, MADV_POPULATE_WRITE);
    if (arena->head > 0 && slot->backed == 0 && slot >= &arena->slots[arena->large.first]) {
        (void)madvise(slot->data - arena->head, arena->head, MADV_POPULATE_WRITE);
    }
    slot->backed = length;
    return 0;
}

int arena_slot_get(Arena *arena, uint32_t length, bool wait, ArenaSlot *ret) {
    Pool *pool = length <= ARENA_SMALL && arena->small.count > 0 ? &arena->small : &arena->large;
    uint32_t index = 0;
    Slot *slot;
    int r;

    if (length > FS_IO_MAX || pool->count == 0) {
        return -EMSGSIZE;
    }
    r = take_free(arena, pool, wait, &index);
    if (r < 0) {
        return r;
    }
    slot = &arena->slots[index];
    length = (uint32_t)align_up(length, BACK_STEP);
    if (slot->backed < length) {
        r = back_with_memory(arena, slot, length);
        if (r < 0) {
            give_back(arena, pool, index);
            return r;
        }
    }
    *ret = (ArenaSlot){
        .data = slot->data, .offset = slot->offset, .length = pool->length, .index = index};
    return 0;
}

void arena_slot_put(Arena *arena, const ArenaSlot *slot) {
    assert(slot->index < arena->small.count + arena->large.count);
    give_back(arena, slot->index < arena->large.first ? &arena->small : &arena->large, slot->index);
}

void arena_shutdown(Arena *arena) {
    (void)pthread_mutex_lock(&arena->lock);
    arena->closed = true;
    (void)pthread_cond_broadcast(&arena->small.freed);
    (void)pthread_cond_broadcast(&arena->large.freed);
    (void)pthread_mutex_unlock(&arena->lock);
}
