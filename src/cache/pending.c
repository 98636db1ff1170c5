/* SPDX-License-Identifier: MIT */
/* The set of freed, unreleased ranges (pending.h). */
#include "pending.h"
#include <assert.h>

void pending_init(Pending *pending) {
    *pending = (Pending){.random = UINT64_C(0x2545f4914f6cdd1d)};
    list_init(&pending->queue);
}

void pending_done(Pending *pending) {
    ListNode *node;

    while ((node = list_first(&pending->queue)) != NULL) {
        list_remove(node);
        free(container_of(node, PendingRange, node));
    }
    *pending = (Pending){0};
}

/* Each level holds about a quarter of the one below; deterministic, so that tests repeat. */
static unsigned random_levels(Pending *pending) {
    unsigned levels = 1;
    uint64_t bits;

    pending->random ^= pending->random << 13;
    pending->random ^= pending->random >> 7;
    pending->random ^= pending->random << 17;
    bits = pending->random >> 16;
    while (levels < PENDING_LEVELS && (bits & 3) == 0) {
        levels++;
        bits >>= 2;
    }
    return levels;
}

/* For each level the link that leads to the first range with start >= `start`. */
static void find_links(Pending *pending, uint64_t start, PendingRange ***ret_links) {
    PendingRange **next = pending->head;

    for (unsigned level = PENDING_LEVELS; level-- > 0;) {
        while (next[level] != NULL && next[level]->start < start) {
            next = next[level]->next;
        }
        ret_links[level] = &next[level];
    }
}

const PendingRange *pending_find(const Pending *pending, uint64_t start) {
    PendingRange *const *next = pending->head;
    const PendingRange *before = NULL;

    for (unsigned level = PENDING_LEVELS; level-- > 0;) {
        while (next[level] != NULL && next[level]->start <= start) {
            before = next[level];
            next = next[level]->next;
        }
    }
    if (before != NULL && start - before->start < before->count) {
        return before;
    }
    return next[0];
}

int pending_add(Pending *pending, uint64_t start, uint64_t count) {
    PendingRange **links[PENDING_LEVELS];
    const PendingRange *near = pending_find(pending, start);
    unsigned levels = random_levels(pending);
    PendingRange *range;

    if (near != NULL && near->start < start + count) {
        return -EUCLEAN;
    }
    range = malloc(sizeof(*range) + levels * sizeof(range->next[0]));
    if (range == NULL) {
        return -ENOMEM;
    }
    range->start = start;
    range->count = count;
    range->lsn = PENDING_OPEN;
    range->levels = levels;
    find_links(pending, start, links);
    for (unsigned level = 0; level < levels; level++) {
        range->next[level] = *links[level];
        *links[level] = range;
    }
    list_append(&pending->queue, &range->node);
    pending->blocks += count;
    return 0;
}

static void remove_range(Pending *pending, PendingRange *range) {
    PendingRange **links[PENDING_LEVELS];

    find_links(pending, range->start, links);
    for (unsigned level = 0; level < range->levels; level++) {
        assert(*links[level] == range);
        *links[level] = range->next[level];
    }
    list_remove(&range->node);
    pending->blocks -= range->count;
    free(range);
}

void pending_commit(Pending *pending, uint64_t lsn, PendingFn *fn, void *arg) {
    for (ListNode *node = pending->queue.head.prev; node != &pending->queue.head;
         node = node->prev) {
        PendingRange *range = container_of(node, PendingRange, node);

        if (range->lsn != PENDING_OPEN) {
            break;
        }
        range->lsn = lsn;
        fn(arg, range->start, range->count);
    }
}

void pending_abort(Pending *pending) {
    ListNode *node;

    while ((node = list_last(&pending->queue)) != NULL) {
        PendingRange *range = container_of(node, PendingRange, node);

        if (range->lsn != PENDING_OPEN) {
            break;
        }
        remove_range(pending, range);
    }
}

void pending_release(Pending *pending, uint64_t tail, PendingFn *fn, void *arg) {
    ListNode *node;

    while ((node = list_first(&pending->queue)) != NULL) {
        PendingRange *range = container_of(node, PendingRange, node);
        uint64_t start = range->start, count = range->count;

        if (range->lsn > tail) {
            break;
        }
        /* Out of the set first: the listener may look. */
        remove_range(pending, range);
        if (fn != NULL) {
            fn(arg, start, count);
        }
    }
}
