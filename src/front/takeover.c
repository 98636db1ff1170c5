/* SPDX-License-Identifier: MIT */
/*
 * What a daemon's death means (man berth-recovery.7, sections 7 and 11): the steps from
 * the last sign of one to the first answer of the next, whom to blame, and the way
 * down when successors die as well:
 *
 *     STAGE_NORMAL   a successor takes over the log
 *     STAGE_RESCUED  the log is written to the image without any daemon's code; the next
 *                    one finds it empty, and the volume is read-only
 *     STAGE_FAILED   no daemon; everything is answered with EIO until the unmount
 *
 * Weights: a crash counts four times as much as being killed from outside, which says
 * little about what was being done.
 */
#include "private.h"

#include "manager.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#define WEIGHT_CRASH 4u
#define WEIGHT_KILL 1u
#define GUILT_MAX (3 * WEIGHT_CRASH)
#define RECOVERY_MAX (3 * WEIGHT_CRASH)
#define UNEXPLAINED_MAX (10 * WEIGHT_CRASH)
#define UNEXPLAINED_SERIAL (2 * WEIGHT_CRASH)
#define UNEXPLAINED_NS UINT64_C(60000000000)
#define NO_PROGRESS_MAX (8 * WEIGHT_CRASH)
#define NO_PROGRESS_CALM (2 * WEIGHT_CRASH)
#define LEAVE_MS 200 /* for a daemon that has closed its channel to end by itself */
#define STUCK_MS 10000
#define SETTLE_MS 30000u
#define START_ATTEMPTS 16u /* half a minute: programs are replaced while mounts run */
#define START_NAP_MS 3000u
#define PROGRESS_ENOUGH 100u /* requests answered between two deaths: not the same trouble */

static void nap_ms(unsigned ms) {
    const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&nap, NULL);
}

/* ---- the end of one ---- */

/* How it died; its channel has been drained on return, and its I/O has a fence. */
static unsigned bury(Front *front, DaemonProcess *dead, char text[160]) {
    bool told = false;
    int status = 0;

    if (!daemon_reap(dead, LEAVE_MS, &status)) {
        daemon_kill(dead);
        while (!daemon_reap(dead, STUCK_MS, &status)) {
            if (!told) {
                log_error("%s: %s (process %d) is stuck in the kernel; the volume waits for it",
                          front->source_given, front->type->daemon, (int)dead->pid);
            }
            told = true;
        }
    }
    pending_halt(&front->pending);
    daemon_drain(dead);
    daemon_death_text(dead, status, text);
    if (dead->fence_fd >= 0) {
        fences_add(&front->fences, steal_fd(&dead->fence_fd));
    }
    if (dead->stopped) {
        return WEIGHT_KILL;
    }
    return dead->killed || (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) ||
                   (WIFEXITED(status) && WEXITSTATUS(status) != 0)
               ? WEIGHT_CRASH
               : WEIGHT_KILL;
}

static void give_up(Front *front, Pending *pending) {
    char line[512];

    log_error("%s: a request has ended %s several times and is answered with an error: %s",
              front->source_given, front->type->daemon,
              fs_request_to_text(&pending->request, line, sizeof(line)));
    pending_give_up(front, pending, -EIO);
}

/* Which request was it? One that has done it too often is given up. */
static void blame(Front *front, DeathRecord *record, const DaemonProcess *dead, unsigned weight) {
    uint64_t request_id = 0, answered, now = clock_monotonic_ns();
    Pending *culprit;
    bool fresh;

    if (lifeline_memory_running(front->lifeline_fd, &request_id) < 0) {
        request_id = 0;
    }
    (void)pending_count(&front->pending, &answered);
    culprit = pending_blame(&front->pending, dead, request_id, weight);
    pending_doubt(front, dead);
    if (culprit != NULL && culprit->guilt >= GUILT_MAX) {
        give_up(front, culprit);
    } else if (culprit == NULL && weight >= WEIGHT_CRASH) {
        fresh = now - record->unexplained_ns > UNEXPLAINED_NS ||
                answered - record->answered >= PROGRESS_ENOUGH;
        record->unexplained = (fresh ? 0 : record->unexplained) + weight;
        record->unexplained_ns = now;
    }
    record->no_progress = answered == record->answered ? record->no_progress + weight : 0;
    record->answered = answered;
}

/* ---- going down ---- */

static void become_readonly(Front *front, const char *why) {
    if (!atomic_exchange(&front->volume.readonly, true)) {
        (void)snprintf(front->volume.read_only_reason, sizeof(front->volume.read_only_reason),
                       "%s died too often", front->type->daemon);
    }
    front->options.readonly = true;
    front->keepsake.header->readonly = true;
    log_error("%s: %s died too often: %s; the volume is read-only", front->source_given,
              front->type->daemon, why);
}

/* One step further down. What the next successor finds is as the new stage says. An empty lifeline
 * is no further step: ids that the kernel holds would name other files. */
static void go_down(Front *front, DeathRecord *record, DaemonProcess **spare) {
    char text[160] = "";

    *spare = daemon_free(*spare); /* it would be no different */
    record->in_recovery = record->unexplained = record->no_progress = 0;
    if (record->stage == STAGE_NORMAL) {
        if (rescue_run(front, text) == 0) {
            record->stage = STAGE_RESCUED;
            atomic_store(&front->rescued, true);
            become_readonly(front, "what it had acknowledged has been written to the image");
            return;
        }
        log_error("%s: the log cannot be written to the image: %s", front->source_given, text);
    }
    record->stage = STAGE_FAILED;
}

static void fail(Front *front) {
    log_error("%s: no %s can serve the volume any more; everything is answered with an error until "
              "it is unmounted",
              front->source_given, front->type->daemon);
    front->daemon = NULL;
    atomic_store(&front->daemon_dead, true);
    keeper_note_state(front, "failed", NULL);
    pending_fail_all(front, -EIO);
}

/* ---- the next one ---- */

/* A spare, or a new one; NULL: none can be started. */
static DaemonProcess *find_successor(Front *front, DaemonProcess **spare) {
    DaemonProcess *next = *spare;

    *spare = NULL;
    if (next != NULL && !pending_is_gone(&front->pending, next)) {
        return next;
    }
    daemon_free(next);
    next = NULL;
    for (unsigned i = 0; i < START_ATTEMPTS && next == NULL; i++) {
        if (i > 0) {
            nap_ms(i < 5 ? 100u << i : START_NAP_MS);
        }
        if (daemon_start(front, false, &next) < 0) {
            next = NULL;
        }
    }
    return next;
}

/* Has the successor take over and get everything that is in flight. 0, -EAGAIN: not all of it yet;
 * or it cannot, or died. */
static int install(Front *front, DeathRecord *record, DaemonProcess *next) {
    bool serially = record->unexplained >= UNEXPLAINED_SERIAL;
    _cleanup_(text_done) Text text = {0};
    int r = volume_recover(front, next, record->stage != STAGE_NORMAL, &text);

    if (r < 0) {
        if (r != -EPIPE) {
            log_error("%s: %s cannot take over: %s", front->source_given, front->type->daemon,
                      text.length > 0 ? text_string(&text) : strerror(-r));
        }
        return r;
    }
    record->in_recovery = 0;
    record->serially = serially;
    return pending_resend(front, next, serially);
}

static bool too_often(const DeathRecord *record) {
    return record->in_recovery >= RECOVERY_MAX || record->unexplained >= UNEXPLAINED_MAX ||
           record->no_progress >= NO_PROGRESS_MAX;
}

static void say_recovered(Front *front, const char *death, pid_t pid, uint64_t started_ns) {
    uint64_t took_us = (clock_monotonic_ns() - started_ns) / 1000;

    pthread_mutex_lock(&front->health_lock);
    front->health.restarts++;
    front->health.recovery_us = took_us;
    pthread_mutex_unlock(&front->health_lock);
    keeper_note_state(front, atomic_load(&front->volume.readonly) ? "read-only" : "running", death);
    notify_send("STATUS=%s on %s, daemon replaced %llu times", front->source, front->directory,
                (unsigned long long)keeper_health(front).restarts);
    log_warning("%s: %s (process %d) %s; process %d took over within %.1f ms", front->source_given,
                front->type->daemon, (int)pid, death, (int)front->daemon->pid,
                (double)took_us / 1000);
}

void takeover_go_on(Front *front, DeathRecord *record) {
    /* A death is the keeper's to notice. */
    if (record->sending && pending_resend(front, front->daemon, record->serially) != -EAGAIN) {
        record->sending = false;
    }
}

void takeover_after_death(Front *front, DeathRecord *record, DaemonProcess **spare) {
    uint64_t started_ns = clock_monotonic_ns();
    DaemonProcess *dead = front->daemon;
    pid_t pid = dead->pid;
    char first[160] = "", text[160];
    unsigned weight, deaths = 0;
    int r;

    keeper_note_state(front, "recovering", NULL);
    for (;;) {
        weight = bury(front, dead, text);
        if (deaths == 0) {
            memcpy(first, text, sizeof(first));
        } else {
            if (deaths == 1) {
                log_warning("%s: %s (process %d) %s", front->source_given, front->type->daemon,
                            (int)pid, first);
            }
            log_warning("%s: its successor %s", front->source_given, text);
        }
        deaths++;
        blame(front, record, dead, weight);
        daemon_free(dead);
        record->in_recovery += weight;
        if (too_often(record)) {
            go_down(front, record, spare);
        } else if (record->no_progress >= NO_PROGRESS_CALM) {
            nap_ms(MIN(20u * record->no_progress, 500u));
        }
        dead = record->stage == STAGE_FAILED ? NULL : find_successor(front, spare);
        if (dead == NULL) {
            fail(front);
            return;
        }
        front->daemon = dead;
        r = install(front, record, dead);
        if (r == 0 || r == -EAGAIN) {
            break;
        }
    }
    record->sending = r == -EAGAIN;
    say_recovered(front, first, pid, started_ns);
}

/* ---- in order ---- */

/* The old one stands still with nothing under way. 0, -EPIPE, -errno. */
static int quiesce(Front *front, DaemonProcess *old, char text[160]) {
    FSResponse response;
    int r;

    pending_halt(&front->pending);
    r = pending_settle(&front->pending, old, SETTLE_MS);
    if (r == 0) {
        r = front_call_at(front, old, FS_MSG_FREEZE, 0, 0, NULL, SETTLE_MS, &response, NULL);
    }
    if (r < 0) {
        (void)snprintf(text, 160, "the running one does not come to rest: %s", strerror(-r));
    }
    return r;
}

int takeover_upgrade(Front *front, char text[160]) {
    uint64_t started_ns = clock_monotonic_ns();
    DaemonProcess *old = front->daemon, *next = NULL;
    _cleanup_(text_done) Text answer = {0};
    pid_t pid = old->pid;
    char death[160];
    int r = daemon_start(front, false, &next);

    if (r < 0) {
        (void)snprintf(text, 160, "the new one cannot be started: %s", strerror(-r));
        return r;
    }
    keeper_note_state(front, "recovering", NULL);
    started_ns = clock_monotonic_ns();
    r = quiesce(front, old, text);
    if (r == 0) {
        r = volume_recover(front, next, false, &answer);
        if (r < 0) {
            (void)snprintf(text, 160, "the new one cannot take over: %s",
                           answer.length > 0 ? text_string(&answer) : strerror(-r));
        }
    }
    if (r < 0) {
        daemon_free(next);
        (void)pending_resend(front, old, false); /* thaws it */
        keeper_note_state(front, "running", NULL);
        return r;
    }
    front->daemon = next;
    daemon_kill(old); /* it stands still: nothing is lost with it */
    (void)bury(front, old, death);
    daemon_free(old);
    /* If the new one dies now, that is a death like any other. */
    (void)pending_resend(front, next, false);
    say_recovered(front, "was replaced", pid, started_ns);
    return 0;
}
