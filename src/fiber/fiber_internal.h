/* SPDX-License-Identifier: MIT */
/*
 * What the files of this folder share of the scheduler.
 */
#ifndef BERTH_FIBER_INTERNAL_H
#define BERTH_FIBER_INTERNAL_H

#include "berth/fiber.h"
#include "stack.h"
#include "switch.h"

/* A fiber in the list of a lock. It waits for one thing at a time, so it needs one of these. */
typedef struct FiberWaiter {
    ListNode node;
    bool write; /* FiberRwlock only */
    bool granted;
} FiberWaiter;

typedef enum FiberState {
    FIBER_FREE,
    FIBER_READY,
    FIBER_RUNNING,
    FIBER_SUSPENDED,
} FiberState;

struct Fiber {
    FiberContext context; /* valid while not running */
    FiberStack stack;
    FiberState state;
    bool woken;        /* READY because of a wake: another one changes nothing */
    bool wake_pending; /* a wake came while not suspended: the next suspension returns at once */
    FiberFn *fn;
    void *arg;
    const char *name;
    void *local;
    uint64_t tag;        /* what the noted word says while it runs */
    void *fake_stack;    /* AddressSanitizer's, while not running */
    ListNode queue_node; /* in Sched.ready or Sched.pool */
    ListNode live_node;
    FiberWaiter waiter;
};

/* Logs the message with the running fiber's name and aborts: a programming error. */
void fiber_panic(const char *message) __attribute__((noreturn));

/* As fiber_run_ready(), but makes at most `limit` switches. */
unsigned fiber_run_some(unsigned limit);

#endif
