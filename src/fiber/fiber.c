/* SPDX-License-Identifier: MIT */
/*
 * The scheduler of a thread and its fibers.
 *
 * Fibers never switch to each other: each suspension returns to the scheduler
 * (the stack that called fiber_run_ready()), which picks the next of the run
 * queue. So "outside any fiber" is one place, and that is where the loop's
 * callbacks run.
 *
 * A fiber is in exactly one place:
 *   READY      in the run queue
 *   RUNNING    on the processor, sched->running
 *   SUSPENDED  in no list; whoever will wake it knows it
 *   FREE       in the pool, its stack kept for the next one
 * Every fiber that is not FREE is in sched->live, for debuggers.
 *
 * All state is per thread, and there are no locks.
 */
#include "berth/fiber.h"

#include "berth/log.h"
#include "fiber_internal.h"
#include "sanitizer.h"

#include <assert.h>
#include <limits.h>

typedef struct Sched {
    FiberContext context; /* where fiber_run_some() waits for the running fiber */
    Fiber *running;
    List ready;
    List live;
    List pool;
    unsigned count, max;
    void *fake_stack;
    const void *stack_bottom; /* of the scheduler's stack, as AddressSanitizer tells */
    size_t stack_size;
} Sched;

static _Thread_local Sched *sched;
static _Thread_local unsigned no_yield_depth;
static _Thread_local uint64_t chaos_state;
static _Thread_local void *thread_local_value; /* fiber_local() outside any fiber */
static _Thread_local uint64_t unnoted;         /* where tags go that nobody wants to know */
static _Thread_local uint64_t *running_tag;    /* of fiber_note_running(), or &unnoted */

void fiber_panic(const char *message) {
    Fiber *self = fiber_self();

    log_error("fiber %s: %s", self != NULL ? self->name : "(none)", message);
    abort();
}

int fiber_sched_init(unsigned max_fibers) {
    Sched *fresh;

    assert(max_fibers > 0);
    if (sched != NULL) {
        return -EBUSY;
    }
    fresh = calloc(1, sizeof(*fresh));
    if (fresh == NULL) {
        return -ENOMEM;
    }
    list_init(&fresh->ready);
    list_init(&fresh->live);
    list_init(&fresh->pool);
    fresh->max = max_fibers;
    sched = fresh;
    running_tag = &unnoted;
    return 0;
}

void fiber_sched_done(void) {
    if (sched == NULL) {
        return;
    }
    assert(sched->running == NULL && sched->count == 0);
    while (!list_empty(&sched->pool)) {
        Fiber *fiber = container_of(list_first(&sched->pool), Fiber, queue_node);

        list_remove(&fiber->queue_node);
        fiber_stack_unmap(&fiber->stack);
        free(fiber);
    }
    free(sched);
    sched = NULL;
}

/* Back to the scheduler. The state says what is to become of the running fiber. */
static void leave_fiber(Fiber *self) {
    fiber_asan_leave(self->state == FIBER_FREE ? NULL : &self->fake_stack, sched->stack_bottom,
                     sched->stack_size);
    fiber_context_switch(&self->context, &sched->context);
    fiber_asan_arrive(self->fake_stack, &sched->stack_bottom, &sched->stack_size);
}

/* The bottom frame of every fiber. */
static void fiber_main(void *arg) {
    Fiber *self = arg;

    fiber_asan_arrive(NULL, &sched->stack_bottom, &sched->stack_size);
    self->fn(self->arg);
    if (no_yield_depth != 0) {
        fiber_panic("ends inside a section that must not yield");
    }
    self->state = FIBER_FREE;
    leave_fiber(self);
    fiber_panic("was resumed after its end");
}

/* A fiber from the pool, or a new one; NULL without memory. */
static Fiber *take_fiber(void) {
    ListNode *node = list_first(&sched->pool);
    Fiber *fiber;

    if (node != NULL) {
        list_remove(node);
        return container_of(node, Fiber, queue_node);
    }
    fiber = calloc(1, sizeof(*fiber));
    if (fiber == NULL) {
        return NULL;
    }
    if (fiber_stack_map(&fiber->stack) < 0) {
        free(fiber);
        return NULL;
    }
    return fiber;
}

Fiber *fiber_spawn(FiberFn *fn, void *arg, const char *name) {
    Fiber *fiber;

    if (sched == NULL) {
        fiber_panic("spawn without a scheduler");
    }
    if (sched->count >= sched->max) {
        errno = EAGAIN;
        return NULL;
    }
    fiber = take_fiber();
    if (fiber == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    fiber->fn = fn;
    fiber->arg = arg;
    fiber->name = name;
    fiber->local = NULL;
    fiber->tag = 0;
    fiber->fake_stack = NULL;
    fiber->woken = fiber->wake_pending = false;
    fiber->state = FIBER_READY;
    fiber_context_make(&fiber->context, fiber->stack.base, fiber->stack.size, fiber_main, fiber);
    list_append(&sched->ready, &fiber->queue_node);
    list_append(&sched->live, &fiber->live_node);
    sched->count++;
    return fiber;
}

static void release_fiber(Fiber *fiber) {
    list_remove(&fiber->live_node);
    sched->count--;
    fiber_stack_recycle(&fiber->stack);
    /* The last one used comes first: its pages are in the caches. */
    list_prepend(&sched->pool, &fiber->queue_node);
}

static void enter_fiber(Fiber *fiber) {
    fiber->state = FIBER_RUNNING;
    fiber->woken = false;
    sched->running = fiber;
    *running_tag = fiber->tag;
    fiber_asan_leave(&sched->fake_stack, fiber->stack.base, fiber->stack.size);
    fiber_context_switch(&sched->context, &fiber->context);
    fiber_asan_arrive(sched->fake_stack, NULL, NULL);
    sched->running = NULL;
    *running_tag = 0;
    if (fiber->state == FIBER_FREE) {
        release_fiber(fiber);
    }
}

unsigned fiber_run_some(unsigned limit) {
    unsigned switches = 0;

    if (sched == NULL) {
        return 0;
    }
    if (sched->running != NULL) {
        fiber_panic("a fiber cannot run the scheduler");
    }
    while (switches < limit && !list_empty(&sched->ready)) {
        Fiber *fiber = container_of(list_first(&sched->ready), Fiber, queue_node);

        list_remove(&fiber->queue_node);
        enter_fiber(fiber);
        switches++;
    }
    return switches;
}

unsigned fiber_run_ready(void) {
    return fiber_run_some(UINT_MAX);
}

bool fiber_any_ready(void) {
    return sched != NULL && !list_empty(&sched->ready);
}

unsigned fiber_count(void) {
    return sched != NULL ? sched->count : 0;
}

Fiber *fiber_self(void) {
    return sched != NULL ? sched->running : NULL;
}

/* The running fiber, which is about to suspend. */
static Fiber *self_checked(void) {
    Fiber *self = fiber_self();

    if (self == NULL) {
        fiber_panic("cannot suspend outside a fiber");
    }
    if (no_yield_depth != 0) {
        fiber_panic("suspends inside a section that must not yield");
    }
    return self;
}

void fiber_suspend(void) {
    Fiber *self = self_checked();

    if (self->wake_pending) {
        self->wake_pending = false;
        return;
    }
    self->state = FIBER_SUSPENDED;
    leave_fiber(self);
}

void fiber_yield(void) {
    Fiber *self = self_checked();

    self->state = FIBER_READY;
    list_append(&sched->ready, &self->queue_node);
    leave_fiber(self);
}

void fiber_wake(Fiber *fiber) {
    assert(sched != NULL && fiber->state != FIBER_FREE);
    if (fiber->state == FIBER_SUSPENDED) {
        fiber->state = FIBER_READY;
        fiber->woken = true;
        list_append(&sched->ready, &fiber->queue_node);
    } else if (!fiber->woken) {
        fiber->wake_pending = true;
    }
}

size_t fiber_stack_high_water(void) {
    size_t depth = 0;

    if (sched == NULL) {
        return 0;
    }
    for (ListNode *node = list_first(&sched->live); node != NULL;
         node = list_next(&sched->live, node)) {
        depth = MAX(depth, fiber_stack_depth(&container_of(node, Fiber, live_node)->stack));
    }
    for (ListNode *node = list_first(&sched->pool); node != NULL;
         node = list_next(&sched->pool, node)) {
        depth = MAX(depth, fiber_stack_depth(&container_of(node, Fiber, queue_node)->stack));
    }
    return depth;
}

void fiber_set_local(void *value) {
    Fiber *self = fiber_self();

    *(self != NULL ? &self->local : &thread_local_value) = value;
}

void *fiber_local(void) {
    Fiber *self = fiber_self();

    return self != NULL ? self->local : thread_local_value;
}

void fiber_note_running(uint64_t *word) {
    Fiber *self = fiber_self();

    assert(sched != NULL);
    *running_tag = 0; /* the word so far is somebody else's from now on */
    running_tag = word != NULL ? word : &unnoted;
    *running_tag = self != NULL ? self->tag : 0;
}

void fiber_syscall_begin(void) {
    assert(sched != NULL);
    *running_tag = 0;
}

void fiber_syscall_end(void) {
    Fiber *self = fiber_self();

    assert(sched != NULL);
    *running_tag = self != NULL ? self->tag : 0;
}

void fiber_set_tag(uint64_t tag) {
    Fiber *self = fiber_self();

    if (self != NULL) {
        self->tag = tag;
        *running_tag = tag;
    }
}

/* One depth for the thread is enough: while it is not zero, no other fiber can run. */
void fiber_no_yield_enter(void) {
    no_yield_depth++;
}

void fiber_no_yield_leave(void) {
    assert(no_yield_depth > 0);
    no_yield_depth--;
}

bool fiber_may_yield(void) {
    return fiber_self() != NULL && no_yield_depth == 0;
}

void fiber_set_chaos(uint64_t seed) {
    chaos_state = seed;
}

void fiber_maybe_yield(void) {
    if (chaos_state == 0 || fiber_self() == NULL) {
        return;
    }
    /* xorshift: never becomes zero, and the same seed gives the same run. */
    chaos_state ^= chaos_state << 13;
    chaos_state ^= chaos_state >> 7;
    chaos_state ^= chaos_state << 17;
    if ((chaos_state >> 32 & 1) != 0) {
        fiber_yield();
    }
}
