/* SPDX-License-Identifier: MIT */
/*
 * The keeper: the thread that sees to it that the volume has a daemon. It notices the
 * death (by the process, the channel, or a heartbeat that stays away), has a
 * successor take over (takeover.c), keeps a spare ready, tells the successor when the
 * dead one's I/O has ended, forwards log lines, and replaces the daemon when asked.
 *
 * It alone touches front->daemon and the spare while it runs, and never waits for
 * anything that only a daemon could bring about without a limit.
 *
 * Locks: keeper->lock guards what others ask of it; health_lock the copy of what
 * others may know.
 */
#include "private.h"

#include "manager.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define SPARE_FIRST_NS UINT64_C(100000000) /* whoever mounts is not kept waiting for it */
#define SPARE_RETRY_NS UINT64_C(1000000000)
#define SPARE_RETRY_MAX_NS UINT64_C(60000000000)
#define SERIAL_MS 2
#define SOON_MS 20 /* while something is expected that no descriptor tells of */
#define KEPT_NS UINT64_C(10000000000)
#define OBJECTS_MAX 4096u
#define RESTART_MS 120000u

enum { FENCE_NONE, FENCE_OWED, FENCE_TOLD };

struct Keeper {
    Front *front;
    pthread_t thread;
    int kick_fd; /* eventfd: look at the fields below */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
    unsigned restarts_wanted, restarts_done; /* tickets */
    int restart_result;
    char restart_text[160];
    /* The thread's own. */
    DaemonProcess *spare;
    uint64_t spare_ns, spare_delay_ns; /* when to start the next one */
    DeathRecord record;
    _Atomic int fence;   /* is the daemon to be told that its predecessors' I/O has ended? */
    bool reconcile;      /* what the dead one was told to evict may not have been done */
    uint64_t release_ns; /* when a dead front-end's requests will not come again any more, or 0 */
    uint64_t tick_ns;    /* of the heartbeat: next look */
    uint64_t answered;
    uint64_t ping_ns; /* unanswered since then, 0: none */
    _Atomic bool pong;
};

/* ---- what others may know ---- */

DaemonHealth keeper_health(Front *front) {
    DaemonHealth health;

    pthread_mutex_lock(&front->health_lock);
    health = front->health;
    pthread_mutex_unlock(&front->health_lock);
    return health;
}

void keeper_note_state(Front *front, const char *state, const char *error) {
    pthread_mutex_lock(&front->health_lock);
    front->health.state = state;
    if (error != NULL) {
        (void)snprintf(front->health.last_error, sizeof(front->health.last_error), "%s", error);
    }
    front->health.pid = front->daemon != NULL ? front->daemon->pid : 0;
    if (front->daemon != NULL) {
        front->health.ring = transport_has_ring(front->daemon->transport);
        memcpy(front->health.sandbox, front->daemon->sandbox, sizeof(front->health.sandbox));
    }
    pthread_mutex_unlock(&front->health_lock);
    notify_status("%s on %s (%s): %s%s%s", front->source, front->directory, front->type->name,
                  state, error != NULL ? ", last: " : "", error != NULL ? error : "");
}

static void note_spare(Keeper *keeper) {
    pthread_mutex_lock(&keeper->front->health_lock);
    keeper->front->health.spare_pid = keeper->spare != NULL ? keeper->spare->pid : 0;
    pthread_mutex_unlock(&keeper->front->health_lock);
}

/* ---- the spare ---- */

static void spare_drop(Keeper *keeper) {
    keeper->spare = daemon_free(keeper->spare);
    note_spare(keeper);
}

static void spare_want(Keeper *keeper) {
    uint64_t now = clock_monotonic_ns();

    if (keeper->spare != NULL || now < keeper->spare_ns || keeper->record.stage == STAGE_FAILED) {
        return;
    }
    if (daemon_start(keeper->front, true, &keeper->spare) == 0) {
        keeper->spare_delay_ns = 0;
    } else {
        /* Without one a successor is started when it is needed. */
        keeper->spare = NULL;
        keeper->spare_delay_ns =
            MIN(MAX(keeper->spare_delay_ns * 2, SPARE_RETRY_NS), SPARE_RETRY_MAX_NS);
        keeper->spare_ns = now + keeper->spare_delay_ns;
    }
    note_spare(keeper);
}

/* ---- after a death ---- */

/* The daemon serves now. What it must be told later is noted. */
static void serve_from_here(Keeper *keeper) {
    atomic_store(&keeper->fence, FENCE_OWED);
    keeper->reconcile = keeper->front->daemon != NULL;
    keeper->ping_ns = 0;
    note_spare(keeper);
}

static void recover(Keeper *keeper) {
    takeover_after_death(keeper->front, &keeper->record, &keeper->spare);
    serve_from_here(keeper);
}

static void finish_fence(Front *front, Pending *pending, const FSResponse *response) {
    Keeper *keeper = pending->context;

    (void)front;
    atomic_store(&keeper->fence, response->result == 0 ? FENCE_NONE : FENCE_OWED);
}

/* Checkpoints, and writes where the dead may still write, wait for this. Nobody here waits for the
 * answer: a daemon that hangs is the heartbeat's business. */
static void tell_fence(Keeper *keeper) {
    Front *front = keeper->front;
    Pending *pending;

    if (atomic_load(&keeper->fence) != FENCE_OWED || !fences_check(&front->fences, 0)) {
        return;
    }
    pending = pending_reserved(&front->pending, PENDING_FENCE, FS_MSG_FENCE, finish_fence, 0);
    if (pending != NULL) {
        atomic_store(&keeper->fence, FENCE_TOLD);
        pending->context = keeper;
        pending_start_at(front, pending, front->daemon);
    }
}

/*
 * An EVICT that the dead one had answered may not have been carried out, and one in flight may have
 * been: the daemon is told again of every object of its table that the kernel does not hold. Not
 * before the requests that were in flight have been answered: until then they hold what they name.
 */
static void reconcile(Keeper *keeper) {
    Front *front = keeper->front;
    _cleanup_free_ uint64_t *ids = NULL;
    uint64_t seen;
    int count;

    if (keeper->release_ns != 0 && clock_monotonic_ns() >= keeper->release_ns) {
        pending_release_kept(&front->pending);
        keeper->release_ns = 0;
    }
    if (!keeper->reconcile || pending_any_granting(&front->pending)) {
        return;
    }
    keeper->reconcile = false;
    ids = calloc(OBJECTS_MAX, sizeof(*ids));
    count = ids == NULL
                ? -ENOMEM
                : lifeline_memory_objects(front->lifeline_fd, PENDING_TOTAL, ids, OBJECTS_MAX);
    if (count > 0) {
        count = (int)nodes_keep_gone(&front->nodes, ids, (unsigned)count, &seen);
    }
    if (count > 0) {
        (void)chores_evict(front->chores, ids, (unsigned)count);
    }
}

/* ---- the heartbeat ---- */

static void finish_ping(Front *front, Pending *pending, const FSResponse *response) {
    Keeper *keeper = pending->context;

    (void)front;
    if (response->result == 0) {
        atomic_store(&keeper->pong, true);
    }
}

static void ping(Keeper *keeper, uint64_t now) {
    Front *front = keeper->front;
    Pending *pending = pending_reserved(&front->pending, PENDING_PING, FS_MSG_PING, finish_ping, 0);

    if (keeper->ping_ns == 0) {
        keeper->ping_ns = now;
    }
    if (pending != NULL) {
        atomic_store(&keeper->pong, false);
        pending->context = keeper;
        pending_start_at(front, pending, front->daemon);
    }
}

/* A daemon in which nothing moves is asked whether it lives. */
static void heartbeat(Keeper *keeper) {
    Front *front = keeper->front;
    DaemonProcess *daemon = front->daemon;
    uint64_t deadline_ns = front->options.heartbeat * UINT64_C(1000000000);
    uint64_t now = clock_monotonic_ns(), answered;
    unsigned waiting;

    if (deadline_ns == 0 || daemon == NULL || now < keeper->tick_ns) {
        return;
    }
    keeper->tick_ns = now + deadline_ns / 2;
    waiting = pending_count(&front->pending, &answered);
    if (atomic_load(&keeper->pong) || answered != keeper->answered) {
        keeper->ping_ns = 0;
    }
    atomic_store(&keeper->pong, false);
    if (keeper->ping_ns != 0 && now - keeper->ping_ns >= deadline_ns) {
        log_error("%s: %s (process %d) has not answered for %u s and is stopped",
                  front->source_given, front->type->daemon, (int)daemon->pid,
                  front->options.heartbeat);
        daemon->stopped = daemon_is_stopped(daemon);
        daemon_kill(daemon);
    } else if (waiting > 0 && answered == keeper->answered) {
        ping(keeper, now);
    }
    keeper->answered = answered;
}

/* ---- replacing the daemon in order ---- */

static bool restart_wanted(Keeper *keeper) {
    bool wanted;

    pthread_mutex_lock(&keeper->lock);
    wanted = keeper->restarts_wanted != keeper->restarts_done;
    pthread_mutex_unlock(&keeper->lock);
    return wanted;
}

/* One new daemon is the answer to all that have asked by now. */
static void restart(Keeper *keeper) {
    char text[160] = "there is no daemon any more";
    unsigned wanted;
    int r;

    pthread_mutex_lock(&keeper->lock);
    wanted = keeper->restarts_wanted;
    pthread_mutex_unlock(&keeper->lock);
    spare_drop(keeper); /* it is of the old program */
    r = keeper->front->daemon == NULL ? -EIO : takeover_upgrade(keeper->front, text);
    if (r == 0) {
        serve_from_here(keeper);
    }
    pthread_mutex_lock(&keeper->lock);
    keeper->restarts_done = wanted;
    keeper->restart_result = r;
    memcpy(keeper->restart_text, text, sizeof(text));
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
}

static void kick(const Keeper *keeper) {
    const uint64_t one = 1;

    if (write(keeper->kick_fd, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        log_error("cannot wake the keeper: %m");
    }
}

int keeper_restart(Keeper *keeper, char text[160]) {
    struct timespec until;
    unsigned ticket;
    int r = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += RESTART_MS / 1000;
    pthread_mutex_lock(&keeper->lock);
    ticket = ++keeper->restarts_wanted;
    kick(keeper);
    while ((int)(keeper->restarts_done - ticket) < 0 && !keeper->stop && r == 0) {
        r = pthread_cond_timedwait(&keeper->changed, &keeper->lock, &until);
    }
    if ((int)(keeper->restarts_done - ticket) >= 0) {
        r = keeper->restart_result;
        memcpy(text, keeper->restart_text, sizeof(keeper->restart_text));
    } else {
        r = r == 0 ? -ECANCELED : -ETIMEDOUT;
        (void)snprintf(text, 160, "%s", strerror(-r));
    }
    pthread_mutex_unlock(&keeper->lock);
    return r;
}

/* ---- the thread ---- */

void keeper_channel_lost(Front *front) {
    if (front->keeper != NULL) {
        kick(front->keeper);
    } else {
        pending_fail_all(front, -EIO); /* the mount fails */
    }
}

enum { WATCH_KICK, WATCH_DAEMON, WATCH_LOG, WATCH_SPARE, WATCH_SPARE_LOG, WATCH_FENCES };
#define WATCH_MAX (WATCH_FENCES + FENCES_MAX)

static unsigned watch(const Keeper *keeper, struct pollfd fds[WATCH_MAX]) {
    const DaemonProcess *daemon = keeper->front->daemon, *spare = keeper->spare;
    const Fences *fences = &keeper->front->fences; /* nobody else changes them */
    unsigned count = WATCH_FENCES;

    for (unsigned i = 0; i < WATCH_FENCES; i++) {
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    }
    fds[WATCH_KICK].fd = keeper->kick_fd;
    if (daemon != NULL) {
        fds[WATCH_DAEMON].fd = daemon->pidfd;
        fds[WATCH_LOG].fd = daemon->log_fd;
    }
    if (spare != NULL) {
        fds[WATCH_SPARE].fd = spare->pidfd;
        fds[WATCH_SPARE_LOG].fd = spare->log_fd;
    }
    for (unsigned i = 0; i < fences->count; i++) {
        fds[count++] = (struct pollfd){.fd = fences->fds[i], .events = POLLIN};
    }
    return count;
}

/* Milliseconds until something is due that no descriptor tells of, -1: nothing is. */
static int patience(Keeper *keeper) {
    const FrontOptions *options = &keeper->front->options;
    uint64_t now = clock_monotonic_ns(), due = UINT64_MAX;

    if (keeper->record.sending) {
        return SERIAL_MS;
    }
    if (keeper->front->daemon == NULL) {
        return -1;
    }
    if (keeper->reconcile || restart_wanted(keeper) ||
        (atomic_load(&keeper->fence) == FENCE_OWED && fences_count(&keeper->front->fences) == 0)) {
        return SOON_MS;
    }
    if (options->heartbeat != 0) {
        due = keeper->tick_ns;
    }
    if (keeper->spare == NULL) {
        due = MIN(due, keeper->spare_ns);
    }
    if (due == UINT64_MAX) {
        return -1;
    }
    return due <= now ? 0 : (int)MIN((due - now) / 1000000 + 1, UINT64_C(60000));
}

/* Collects what others ask for. True: the end. */
static bool take_kick(Keeper *keeper) {
    uint64_t count;
    bool stop;

    if (read(keeper->kick_fd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
        log_error("the keeper's eventfd: %m");
    }
    pthread_mutex_lock(&keeper->lock);
    stop = keeper->stop;
    pthread_mutex_unlock(&keeper->lock);
    return stop;
}

static void *keeper_thread(void *arg) {
    Keeper *keeper = arg;
    Front *front = keeper->front;
    struct pollfd fds[WATCH_MAX];

    for (;;) {
        unsigned count = watch(keeper, fds);

        if (poll(fds, count, patience(keeper)) < 0 && errno != EINTR) {
            log_error("%s: poll: %m", front->source_given);
            return NULL;
        }
        if (take_kick(keeper)) {
            return NULL;
        }
        if (fds[WATCH_LOG].revents != 0) {
            daemon_log(front->daemon);
        }
        if (fds[WATCH_SPARE_LOG].revents != 0) {
            daemon_log(keeper->spare);
        }
        if (fds[WATCH_SPARE].revents != 0) {
            spare_drop(keeper);
        }
        if (front->daemon == NULL) {
            (void)fences_check(&front->fences, 0); /* or they would end each poll */
            if (restart_wanted(keeper)) {
                restart(keeper);
            }
            continue;
        }
        if (fds[WATCH_DAEMON].revents != 0 || pending_is_gone(&front->pending, front->daemon)) {
            if (atomic_load(&front->closing)) {
                daemon_drain(front->daemon); /* its answer to SHUTDOWN may be among the last */
                pending_fail_all(front, -EIO);
                return NULL;
            }
            recover(keeper);
            continue;
        }
        takeover_go_on(front, &keeper->record);
        tell_fence(keeper);
        /* Not while what it has been sent may be waiting for the fence. */
        if (restart_wanted(keeper) && !keeper->record.sending &&
            atomic_load(&keeper->fence) == FENCE_NONE) {
            restart(keeper);
            continue;
        }
        reconcile(keeper);
        heartbeat(keeper);
        spare_want(keeper);
    }
}

int keeper_new(Front *front) {
    Keeper *keeper = calloc(1, sizeof(*keeper));
    int r;

    if (keeper == NULL) {
        return -ENOMEM;
    }
    keeper->front = front;
    keeper->reconcile = front->fuse_fd >= 0; /* it has taken over already */
    atomic_store(&keeper->fence, keeper->reconcile ? FENCE_OWED : FENCE_NONE);
    keeper->release_ns = front->fuse_fd >= 0 ? clock_monotonic_ns() + KEPT_NS : 0;
    keeper->spare_ns = keeper->reconcile ? 0 : clock_monotonic_ns() + SPARE_FIRST_NS;
    keeper->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_cond_init(&keeper->changed, NULL);
    keeper_note_state(front, "running", NULL);
    front->keeper = keeper; /* before the thread: repliers tell it of the end of their channel */
    r = keeper->kick_fd < 0 ? -errno : thread_start(&keeper->thread, keeper_thread, keeper);
    if (r < 0) {
        front->keeper = NULL;
        base_closep(&keeper->kick_fd);
        free(keeper);
    }
    return r;
}

void keeper_stop(Keeper *keeper) {
    pthread_mutex_lock(&keeper->lock);
    keeper->stop = true;
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
    kick(keeper);
    pthread_join(keeper->thread, NULL);
    spare_drop(keeper);
}

Keeper *keeper_free(Keeper *keeper) {
    if (keeper != NULL) {
        close(keeper->kick_fd);
        pthread_cond_destroy(&keeper->changed);
        pthread_mutex_destroy(&keeper->lock);
        free(keeper);
    }
    return NULL;
}
