/* SPDX-License-Identifier: MIT */
/*
 * Fiber locks. A waiter stays in the lock's list until it is granted: the one
 * who releases takes it out, gives it the lock and wakes it, so that nobody
 * can slip in between and arrival order holds.
 *
 * A waiting fiber may be woken for other reasons too (a wake that was
 * remembered); it goes on waiting until it has been granted.
 *
 * Outside a scheduler the same locks work as long as nothing has to wait.
 */
#include "fiber_internal.h"

#include <assert.h>

static void wait_in(List *waiters, bool write) {
    Fiber *self = fiber_self();

    if (self == NULL) {
        fiber_panic("would wait for a lock or an event outside a fiber");
    }
    self->waiter.write = write;
    self->waiter.granted = false;
    list_append(waiters, &self->waiter.node);
    while (!self->waiter.granted) {
        fiber_suspend();
    }
}

static void grant(Fiber *fiber) {
    list_remove(&fiber->waiter.node);
    fiber->waiter.granted = true;
    fiber_wake(fiber);
}

static Fiber *first_waiter(const List *waiters) {
    ListNode *node = list_first(waiters);

    return node != NULL ? container_of(node, Fiber, waiter.node) : NULL;
}

void fiber_queue_init(FiberQueue *queue) {
    list_init(&queue->waiters);
}

void fiber_queue_wait(FiberQueue *queue) {
    wait_in(&queue->waiters, false);
}

bool fiber_queue_wake_one(FiberQueue *queue) {
    Fiber *waiter = first_waiter(&queue->waiters);

    if (waiter == NULL) {
        return false;
    }
    grant(waiter);
    return true;
}

bool fiber_queue_wake_all(FiberQueue *queue) {
    bool any = false;

    while (fiber_queue_wake_one(queue)) {
        any = true;
    }
    return any;
}

bool fiber_queue_empty(const FiberQueue *queue) {
    return list_empty(&queue->waiters);
}

void fiber_mutex_init(FiberMutex *mutex) {
    mutex->held = false;
    mutex->owner = NULL;
    fiber_queue_init(&mutex->queue);
}

bool fiber_mutex_try(FiberMutex *mutex) {
    if (mutex->held) {
        return false;
    }
    mutex->held = true;
    mutex->owner = fiber_self();
    return true;
}

void fiber_mutex_lock(FiberMutex *mutex) {
    fiber_maybe_yield();
    if (fiber_mutex_try(mutex)) {
        return;
    }
    if (fiber_self() != NULL && mutex->owner == fiber_self()) {
        fiber_panic("locks a mutex that it holds");
    }
    fiber_queue_wait(&mutex->queue);
    assert(mutex->held && mutex->owner == fiber_self());
}

void fiber_mutex_unlock(FiberMutex *mutex) {
    Fiber *next = first_waiter(&mutex->queue.waiters);

    assert(mutex->held && mutex->owner == fiber_self());
    if (next == NULL) {
        mutex->held = false;
        mutex->owner = NULL;
        return;
    }
    mutex->owner = next; /* held all the while */
    grant(next);
}

void fiber_rwlock_init(FiberRwlock *lock) {
    lock->readers = 0;
    lock->writer = false;
    list_init(&lock->waiters);
}

void fiber_rwlock_read(FiberRwlock *lock) {
    fiber_maybe_yield();
    if (!lock->writer && list_empty(&lock->waiters)) {
        lock->readers++;
        return;
    }
    wait_in(&lock->waiters, false);
}

void fiber_rwlock_write(FiberRwlock *lock) {
    fiber_maybe_yield();
    if (!lock->writer && lock->readers == 0) {
        assert(list_empty(&lock->waiters));
        lock->writer = true;
        return;
    }
    wait_in(&lock->waiters, true);
}

/* Grants from the front of the queue as far as the lock's state allows. */
static void rwlock_grant(FiberRwlock *lock) {
    Fiber *waiter;

    while (!lock->writer && (waiter = first_waiter(&lock->waiters)) != NULL) {
        if (waiter->waiter.write) {
            if (lock->readers > 0) {
                return;
            }
            lock->writer = true;
        } else {
            lock->readers++;
        }
        grant(waiter);
    }
}

void fiber_rwlock_unlock(FiberRwlock *lock) {
    assert(lock->writer || lock->readers > 0);
    if (lock->writer) {
        lock->writer = false;
    } else {
        lock->readers--;
    }
    rwlock_grant(lock);
}

bool fiber_rwlock_held_write(const FiberRwlock *lock) {
    return lock->writer;
}

void fiber_cond_init(FiberCond *cond) {
    fiber_queue_init(&cond->queue);
}

void fiber_cond_wait(FiberCond *cond, FiberMutex *mutex) {
    /* Unlocking does not suspend, so no signal can pass before the wait. */
    fiber_mutex_unlock(mutex);
    fiber_queue_wait(&cond->queue);
    fiber_mutex_lock(mutex);
}

void fiber_cond_signal(FiberCond *cond) {
    (void)fiber_queue_wake_one(&cond->queue);
}

void fiber_cond_broadcast(FiberCond *cond) {
    (void)fiber_queue_wake_all(&cond->queue);
}
