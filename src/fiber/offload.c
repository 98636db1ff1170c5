/* SPDX-License-Identifier: MIT */
/*
 * A few helper threads for what would hold up the loop. Jobs wait in one FIFO;
 * finished ones come back in another, announced by an eventfd that the loop
 * watches while jobs are outstanding.
 *
 * lock protects the two queues, idle and stopping; all else belongs to the
 * loop's thread. A helper touches nothing of the fibers or the loop.
 */
#include "loop_internal.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#define MAX_THREADS 4
#define THREAD_STACK_SIZE (1024 * 1024)

typedef struct Job {
    struct Job *next;
    int (*fn)(void *arg);
    void *arg;
    int result;
    void (*done)(struct Job *job); /* on the loop's thread */
} Job;

typedef struct JobQueue {
    Job *first;
    Job **last;
} JobQueue;

struct Offload {
    Loop *loop;
    int event_fd;
    int event_index; /* in the ring's file table, negative: not there */
    LoopWatch *watch;
    unsigned outstanding; /* submitted and not yet done */
    unsigned thread_count;
    pthread_t threads[MAX_THREADS];

    pthread_mutex_t lock;
    pthread_cond_t work;
    JobQueue queued, finished;
    unsigned queued_count;
    unsigned idle; /* threads waiting for work */
    bool stopping;
};

static void queue_init(JobQueue *queue) {
    queue->first = NULL;
    queue->last = &queue->first;
}

static void queue_put(JobQueue *queue, Job *job) {
    job->next = NULL;
    *queue->last = job;
    queue->last = &job->next;
}

static Job *queue_get(JobQueue *queue) {
    Job *job = queue->first;

    if (job != NULL) {
        queue->first = job->next;
        if (queue->first == NULL) {
            queue->last = &queue->first;
        }
    }
    return job;
}

static void announce(const Offload *offload) {
    const uint64_t one = 1;
    ssize_t n;

    do {
        n = write(offload->event_fd, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
    assert(n == (ssize_t)sizeof(one));
}

static void *helper_main(void *arg) {
    Offload *offload = arg;

    (void)pthread_mutex_lock(&offload->lock);
    for (;;) {
        Job *job = queue_get(&offload->queued);
        bool first;

        if (job == NULL) {
            if (offload->stopping) {
                break;
            }
            offload->idle++;
            (void)pthread_cond_wait(&offload->work, &offload->lock);
            offload->idle--;
            continue;
        }
        offload->queued_count--;
        (void)pthread_mutex_unlock(&offload->lock);
        job->result = job->fn(job->arg);
        (void)pthread_mutex_lock(&offload->lock);
        first = offload->finished.first == NULL;
        queue_put(&offload->finished, job);
        if (first) {
            announce(offload);
        }
    }
    (void)pthread_mutex_unlock(&offload->lock);
    return NULL;
}

/* On the loop's thread: hands back what is finished. */
static void collect(void *arg, short revents) {
    Offload *offload = arg;
    uint64_t count;
    JobQueue batch;
    Job *job;

    (void)revents;
    (void)pthread_mutex_lock(&offload->lock);
    /* Cleared under the lock, so that no announcement falls between this and the queue. */
    (void)!read(offload->event_fd, &count, sizeof(count));
    batch = offload->finished;
    queue_init(&offload->finished);
    (void)pthread_mutex_unlock(&offload->lock);
    while ((job = batch.first) != NULL) {
        batch.first = job->next;
        offload->outstanding--;
        job->done(job);
    }
    if (offload->outstanding == 0) {
        loop_watch_set_events(offload->watch, 0);
    }
}

/* One more thread, with all signals blocked: they are for the loop's. */
static int start_thread(Offload *offload) {
    pthread_attr_t attributes;
    sigset_t all, before;
    int r;

    r = pthread_attr_init(&attributes);
    if (r != 0) {
        return -r;
    }
    (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&offload->threads[offload->thread_count], &attributes, helper_main, offload);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    if (r != 0) {
        return -r;
    }
    offload->thread_count++;
    return 0;
}

static int offload_new(Loop *loop, Offload **ret) {
    Offload *offload = calloc(1, sizeof(*offload));

    if (offload == NULL) {
        return -ENOMEM;
    }
    offload->loop = loop;
    queue_init(&offload->queued);
    queue_init(&offload->finished);
    offload->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (offload->event_fd < 0) {
        int r = -errno;

        free(offload);
        return r;
    }
    offload->watch = loop_watch_new(loop, offload->event_fd, 0, collect, offload);
    if (offload->watch == NULL) {
        (void)close(offload->event_fd);
        free(offload);
        return -ENOMEM;
    }
    offload->event_index = loop_register_fd(loop, offload->event_fd);
    (void)pthread_mutex_init(&offload->lock, NULL);
    (void)pthread_cond_init(&offload->work, NULL);
    *ret = offload;
    return 0;
}

Offload *offload_free(Offload *offload) {
    if (offload == NULL) {
        return NULL;
    }
    assert(offload->outstanding == 0);
    (void)pthread_mutex_lock(&offload->lock);
    offload->stopping = true;
    (void)pthread_cond_broadcast(&offload->work);
    (void)pthread_mutex_unlock(&offload->lock);
    for (unsigned i = 0; i < offload->thread_count; i++) {
        (void)pthread_join(offload->threads[i], NULL);
    }
    offload->watch = loop_watch_free(offload->watch);
    if (offload->event_index >= 0) {
        loop_unregister_fd(offload->loop, offload->event_index);
    }
    (void)close(offload->event_fd);
    (void)pthread_cond_destroy(&offload->work);
    (void)pthread_mutex_destroy(&offload->lock);
    free(offload);
    return NULL;
}

int loop_offload_start(Loop *loop) {
    int r = 0;

    if (loop->offload == NULL) {
        r = offload_new(loop, &loop->offload);
    }
    while (r == 0 && loop->offload->thread_count < MAX_THREADS) {
        r = start_thread(loop->offload);
    }
    return r;
}

/* Queues the job; fails only when there is not a single thread to run it. */
static int submit(Loop *loop, Job *job) {
    Offload *offload;
    bool more;

    if (loop->offload == NULL) {
        int r = offload_new(loop, &loop->offload);

        if (r < 0) {
            return r;
        }
    }
    offload = loop->offload;
    (void)pthread_mutex_lock(&offload->lock);
    more = offload->queued_count >= offload->idle && offload->thread_count < MAX_THREADS;
    (void)pthread_mutex_unlock(&offload->lock);
    if (more) {
        int r = start_thread(offload);

        if (r < 0 && offload->thread_count == 0) {
            return r;
        }
    }
    if (offload->outstanding++ == 0) {
        loop_watch_set_events(offload->watch, POLLIN);
    }
    (void)pthread_mutex_lock(&offload->lock);
    queue_put(&offload->queued, job);
    offload->queued_count++;
    (void)pthread_cond_signal(&offload->work);
    (void)pthread_mutex_unlock(&offload->lock);
    return 0;
}

typedef struct FiberJob {
    Job job;
    Fiber *fiber;
    bool finished;
} FiberJob;

static void fiber_job_done(Job *job) {
    FiberJob *waiting = container_of(job, FiberJob, job);

    waiting->finished = true;
    fiber_wake(waiting->fiber);
}

int loop_offload(Loop *loop, int (*fn)(void *arg), void *arg) {
    FiberJob waiting = {.job = {.fn = fn, .arg = arg, .done = fiber_job_done},
                        .fiber = fiber_self()};

    if (waiting.fiber == NULL || submit(loop, &waiting.job) < 0) {
        return fn(arg);
    }
    while (!waiting.finished) {
        fiber_suspend();
    }
    return waiting.job.result;
}

typedef struct CallbackJob {
    Job job;
    void (*done)(void *arg, int result);
} CallbackJob;

static void callback_job_done(Job *job) {
    CallbackJob *callback = container_of(job, CallbackJob, job);
    void (*done)(void *arg, int result) = callback->done;
    void *arg = job->arg;
    int result = job->result;

    free(callback);
    done(arg, result);
}

int loop_offload_submit(Loop *loop, int (*fn)(void *arg), void *arg,
                        void (*done)(void *arg, int result)) {
    CallbackJob *callback = malloc(sizeof(*callback));
    int r;

    if (callback == NULL) {
        return -ENOMEM;
    }
    *callback =
        (CallbackJob){.job = {.fn = fn, .arg = arg, .done = callback_job_done}, .done = done};
    r = submit(loop, &callback->job);
    if (r < 0) {
        free(callback);
    }
    return r;
}
