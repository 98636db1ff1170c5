/* SPDX-License-Identifier: MIT */
/*
 * Byte-range locks of one file (man berth-recovery.7, section 5): readers shared,
 * writers exclusive. Granted in arrival order: a request waits for whatever
 * conflicts with it among the holders and among those that wait before it, so
 * no stream of readers can starve a writer.
 *
 * Invariants: no two conflicting holds are on `held`; every hold on `waiting`
 * conflicts with one on `held` or with one before it on `waiting`. A hold's
 * `fiber` is set exactly while it waits. An empty range conflicts with nothing.
 * The lists are short (a file's requests in flight), so scanning them is fine.
 */
#include "berth/fs.h"
#include "berth/log.h"

void fs_range_init(FsRangeLock *lock) {
    list_init(&lock->held);
    list_init(&lock->waiting);
}

static bool holds_conflict(const FsRangeHold *a, const FsRangeHold *b) {
    return (a->exclusive || b->exclusive) && a->start < b->end && b->start < a->end;
}

/* Does hold conflict with a member of list that stands before `until` (NULL: with any)? */
static bool list_conflicts(const List *list, const FsRangeHold *hold, const ListNode *until) {
    for (const ListNode *node = list_first(list); node != NULL && node != until;
         node = list_next(list, node)) {
        if (holds_conflict(container_of(node, FsRangeHold, node), hold)) {
            return true;
        }
    }
    return false;
}

MAY_YIELD void fs_range_lock(FsRangeLock *lock, FsRangeHold *hold, uint64_t start, uint64_t length,
                             bool exclusive) {
    uint64_t end;

    if (!u64_add(start, length, &end)) {
        end = UINT64_MAX;
    }
    *hold = (FsRangeHold){.start = start, .end = end, .exclusive = exclusive};
    if (!list_conflicts(&lock->held, hold, NULL) && !list_conflicts(&lock->waiting, hold, NULL)) {
        list_append(&lock->held, &hold->node);
        return;
    }
    hold->fiber = fiber_self();
    if (hold->fiber == NULL) {
        log_error("a byte-range lock is contended outside any fiber");
        abort();
    }
    list_append(&lock->waiting, &hold->node);
    while (hold->fiber != NULL) {
        fiber_suspend();
    }
}

void fs_range_unlock(FsRangeLock *lock, FsRangeHold *hold) {
    list_remove(&hold->node);
    for (ListNode *node = list_first(&lock->waiting), *next; node != NULL; node = next) {
        FsRangeHold *waiter = container_of(node, FsRangeHold, node);
        Fiber *fiber = waiter->fiber;

        next = list_next(&lock->waiting, node);
        if (list_conflicts(&lock->held, waiter, NULL) ||
            list_conflicts(&lock->waiting, waiter, node)) {
            continue;
        }
        list_remove(node);
        list_append(&lock->held, node);
        waiter->fiber = NULL;
        fiber_wake(fiber);
    }
}
