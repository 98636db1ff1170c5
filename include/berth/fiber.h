/* SPDX-License-Identifier: MIT */
/*
 * Fibers: one thread, many stacks. A fiber runs until it suspends; fibers are
 * created, run and die on the thread that owns the scheduler, so plain
 * variables need no locks; what must stay unchanged over a suspension needs
 * one of the fiber locks below.
 *
 * Code that runs on a backend that never suspends (tools, fuzzers) may use
 * the locks without any scheduler, as long as they are not contended: a wait
 * outside a fiber is a programming error and aborts.
 */
#ifndef BERTH_FIBER_H
#define BERTH_FIBER_H

#include "berth/base.h"
#include "berth/hashmap.h"

typedef struct Fiber Fiber;
typedef void FiberFn(void *arg);

#define FIBER_STACK_SIZE (64 * 1024)

/* Scheduler of the calling thread. max_fibers bounds the live ones (stacks are pooled). */
int fiber_sched_init(unsigned max_fibers);
/* No fiber may be alive. Releases pooled stacks. */
void fiber_sched_done(void);

/*
 * Makes a runnable fiber; it starts when the scheduler next runs. name is kept,
 * not copied. NULL with errno = EAGAIN at the cap, or ENOMEM.
 */
Fiber *fiber_spawn(FiberFn *fn, void *arg, const char *name);
/* The running fiber, or NULL outside any (scheduler context, or no scheduler). */
Fiber *fiber_self(void);
/*
 * Suspends the running fiber until fiber_wake(). A wake that came first is not lost: one is
 * remembered. So wakes can also be left over; test the condition and suspend again in a loop.
 */
MAY_YIELD void fiber_suspend(void);
/* Makes a suspended fiber runnable. From the same thread only. Idempotent until it runs. */
void fiber_wake(Fiber *fiber);
/* Back of the run queue. */
MAY_YIELD void fiber_yield(void);
/*
 * Runs runnable fibers until none is left (those woken meanwhile included). Called
 * by the loop, not from a fiber. Returns how many switches were made.
 */
unsigned fiber_run_ready(void);
bool fiber_any_ready(void);
unsigned fiber_count(void);
/* Deepest use of the stacks so far, in bytes; 0 where it is not measured (valgrind). Reads all
 * stacks: for statistics and tests. */
size_t fiber_stack_high_water(void);
/* A tag the owner may hang on the running fiber (the request being served). Outside fibers the
 * thread has one of its own. */
void fiber_set_local(void *value);
void *fiber_local(void);

/*
 * A word that the scheduler keeps equal to the running fiber's tag, 0 while none runs or its tag
 * is not set: what was being done when the process died. NULL: nowhere.
 */
void fiber_note_running(uint64_t *word);
/* Around a system call that may take long: who dies in it did not die of what the fiber does, so the
 * word is 0 meanwhile. */
void fiber_syscall_begin(void);
void fiber_syscall_end(void);
/* The tag of the running fiber, from now on; one of a fiber that spawns another is not inherited. */
void fiber_set_tag(uint64_t tag);

/*
 * Asserts that no suspension happens between enter and leave (transaction
 * bodies). Nests. Works without a scheduler.
 */
void fiber_no_yield_enter(void);
void fiber_no_yield_leave(void);
bool fiber_may_yield(void);

/*
 * Debug aid: with a non-zero seed every uncontended lock and every call of
 * fiber_maybe_yield() suspends in a seeded random half of the cases (and aborts inside a
 * section that must not yield, where such a call has no place).
 */
void fiber_set_chaos(uint64_t seed);
/* Marks a point where suspension is allowed; does nothing unless chaos is on. */
MAY_YIELD void fiber_maybe_yield(void);

/* FIFO wait queue, the base of all locks. */
typedef struct FiberQueue {
    List waiters;
} FiberQueue;
void fiber_queue_init(FiberQueue *queue);
MAY_YIELD void fiber_queue_wait(FiberQueue *queue);
/* Wakes the first / all; true when there was one. */
bool fiber_queue_wake_one(FiberQueue *queue);
bool fiber_queue_wake_all(FiberQueue *queue);
bool fiber_queue_empty(const FiberQueue *queue);

/* Not recursive; granted in arrival order. */
typedef struct FiberMutex {
    bool held;
    Fiber *owner;
    FiberQueue queue;
} FiberMutex;
void fiber_mutex_init(FiberMutex *mutex);
MAY_YIELD void fiber_mutex_lock(FiberMutex *mutex);
bool fiber_mutex_try(FiberMutex *mutex);
void fiber_mutex_unlock(FiberMutex *mutex);

/* Many readers or one writer, granted in arrival order (a waiting writer stops later readers). */
typedef struct FiberRwlock {
    unsigned readers;
    bool writer;
    List waiters;
} FiberRwlock;
void fiber_rwlock_init(FiberRwlock *lock);
MAY_YIELD void fiber_rwlock_read(FiberRwlock *lock);
MAY_YIELD void fiber_rwlock_write(FiberRwlock *lock);
void fiber_rwlock_unlock(FiberRwlock *lock); /* of either kind */
bool fiber_rwlock_held_write(const FiberRwlock *lock);

typedef struct FiberCond {
    FiberQueue queue;
} FiberCond;
void fiber_cond_init(FiberCond *cond);
/* Unlocks, waits, locks again. */
MAY_YIELD void fiber_cond_wait(FiberCond *cond, FiberMutex *mutex);
void fiber_cond_signal(FiberCond *cond);
void fiber_cond_broadcast(FiberCond *cond);

/* Bounded parallelism inside one operation: start up to `limit` at once, wait for all, first
 * error wins (the others still run). Where there is no fiber to be had (outside a scheduler, at
 * the cap), a task runs in place. */
typedef struct FiberGroup {
    unsigned running, limit;
    int first_error;
    FiberQueue queue;
} FiberGroup;
typedef int FiberTask(void *arg);
void fiber_group_init(FiberGroup *group, unsigned limit);
MAY_YIELD void fiber_group_start(FiberGroup *group, FiberTask *task, void *arg);
MAY_YIELD int fiber_group_wait(FiberGroup *group);

#endif
