/* SPDX-License-Identifier: MIT */
/*
 * The holder's process (holder.h): one thread, nothing mapped, nothing parsed. It
 * outlives signals that are meant for the front-end, whose own end it waits for. A
 * front-end that does not stay is started again a few times; then the log is written
 * to the image from here, and the mount is left to die.
 */
#include "holder.h"

#include "berth/front.h"
#include "berth/log.h"
#include "berth/stats.h"
#include "keepsake.h"
#include "pending.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>

#define RESTARTS_MAX 60u
#define RESTART_STEP_MS 5u /* one that does not stay is started slower each time */
#define RESTARTS_NS UINT64_C(60000000000)
#define ATTACH_FD 3

/* A daemon that is dead and whose I/O has ended need not be known any more. */
static bool daemon_is_over(const struct HeldDaemon *daemon) {
    struct pollfd fds[] = {{.fd = daemon->pidfd, .events = POLLIN},
                           {.fd = daemon->fence_fd, .events = POLLIN}};

    return poll(fds, ARRAY_SIZE(fds), 0) == 2;
}

static void prune_daemons(Held *held) {
    unsigned left = 0;

    for (unsigned i = 0; i < held->daemon_count; i++) {
        if (daemon_is_over(&held->daemons[i])) {
            close(held->daemons[i].pidfd);
            close(held->daemons[i].fence_fd);
        } else {
            held->daemons[left++] = held->daemons[i];
        }
    }
    held->daemon_count = left;
}

/* Serves one front-end to its end. True: that was in order. */
static bool serve(Channel *channel, Held *held) {
    for (;;) {
        Held more;
        int r;

        held_init(&more);
        r = held_receive_one(channel, &more);
        for (unsigned i = 0; i < HOLD_NAMES; i++) {
            if (more.fds[i] >= 0) {
                base_closep(&held->fds[i]);
                held->fds[i] = steal_fd(&more.fds[i]);
            }
        }
        if (more.daemon_count > 0) {
            prune_daemons(held);
            if (held->daemon_count < HOLD_DAEMONS) {
                held->daemons[held->daemon_count++] = more.daemons[0];
                more.daemon_count = 0;
            }
        }
        held_done(&more);
        if (r <= 0) {
            return r == 0;
        }
    }
}

static int give_all(Channel *channel, const Held *held) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < HOLD_NAMES; i++) {
        r = held->fds[i] >= 0 ? hold_keep(channel, (enum HoldName)i, held->fds[i]) : 0;
    }
    for (unsigned i = 0; r == 0 && i < held->daemon_count; i++) {
        r = hold_daemon(channel, held->daemons[i].pidfd, held->daemons[i].fence_fd);
    }
    return r == 0 ? hold_end(channel) : r;
}

/* argv with the option that makes it attach, as its first. */
static char **attach_argv(char **argv) {
    size_t count = 0;
    char **all;

    while (argv[count] != NULL) {
        count++;
    }
    all = calloc(count + 2, sizeof(*all));
    if (all != NULL) {
        static char option[] = "--attach=3";

        all[0] = argv[0];
        all[1] = option;
        for (size_t i = 1; i < count; i++) {
            all[i + 1] = argv[i];
        }
    }
    return all;
}

/* Starts a front-end that attaches to what is held. Its end of the socket is ours on success. */
static int start_front(char **argv, const Held *held, Channel **ret) {
    Channel *channel = NULL;
    int peer_fd, r = channel_pair(&channel, &peer_fd);
    pid_t pid;

    if (r < 0) {
        return r;
    }
    pid = fork();
    if (pid == 0) {
        char **all = attach_argv(argv);

        (void)signal(SIGTERM, SIG_DFL);
        (void)signal(SIGINT, SIG_DFL);
        (void)signal(SIGHUP, SIG_DFL);
        (void)signal(SIGCHLD, SIG_DFL);
        if (all == NULL || dup2(peer_fd, ATTACH_FD) < 0) {
            _exit(126);
        }
        (void)fcntl(ATTACH_FD, F_SETFD, 0);
        (void)syscall(SYS_close_range, ATTACH_FD + 1, ~0u, 0);
        (void)setsid();
        (void)execv("/proc/self/exe", all);
        _exit(127);
    }
    close(peer_fd);
    r = pid < 0 ? -errno : give_all(channel, held);
    if (r < 0) {
        channel_free(channel);
        return r;
    }
    *ret = channel;
    return 0;
}

/* The last thing that can be done for what was acknowledged. */
static void rescue(const Held *held) {
    _cleanup_(block_freep) BlockDevice *device = NULL, *journal_device = NULL;
    _cleanup_(sidejournal_freep) SideJournal *journal = NULL;
    LifelineRescue report = {.text = ""};
    Keepsake keepsake;
    BlockOpenConfig image = {.fd = held->fds[HOLD_IMAGE]};
    int r = keepsake_open(&keepsake, dup(held->fds[HOLD_KEEPSAKE]), dup(held->fds[HOLD_NODES]));

    if (r == 0) {
        image.start = keepsake.header->volume_start;
        image.length = keepsake.header->volume_length;
        keepsake_done(&keepsake);
        r = block_posix_new(&image, &device);
    }
    for (unsigned i = 0; i < held->daemon_count; i++) {
        struct pollfd fence = {.fd = held->daemons[i].fence_fd, .events = POLLIN};

        (void)poll(&fence, 1, -1);
    }
    if (r == 0 && held->fds[HOLD_JOURNAL] >= 0) {
        r = sidejournal_new_posix(held->fds[HOLD_JOURNAL], false, &journal_device, &journal);
    }
    if (r == 0) {
        r = lifeline_memory_rescue(held->fds[HOLD_LIFELINE], PENDING_TOTAL, device, journal,
                                   &report);
    }
    syslog(LOG_ERR, "berthfs does not stay; its log was %swritten to the image%s%s",
           r < 0 ? "not " : "", report.text[0] != 0 ? ": " : "", report.text);
}

static bool is_complete(const Held *held) {
    for (unsigned i = 0; i < HOLD_NAMES; i++) {
        if (held->fds[i] < 0 && i != HOLD_JOURNAL) {
            return false;
        }
    }
    return true;
}

int front_hold(int fd, char **argv) {
    uint64_t first_ns = clock_monotonic_ns();
    Channel *channel = NULL;
    unsigned restarts = 0;
    Held held;

    held_init(&held);
    (void)prctl(PR_SET_NAME, "berth-holder");
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_IGN); /* nobody waits for them */
    openlog("berthfs", LOG_PID, LOG_DAEMON);
    if (channel_new(fd, &channel) < 0) {
        return FRONT_EXIT_SYSTEM;
    }
    while (!serve(channel, &held)) {
        channel = channel_free(channel);
        if (!is_complete(&held)) {
            return FRONT_EXIT_FAIL; /* it died before there was anything to keep */
        }
        if (clock_monotonic_ns() - first_ns > RESTARTS_NS) {
            first_ns = clock_monotonic_ns();
            restarts = 0;
        }
        if (++restarts > RESTARTS_MAX || start_front(argv, &held, &channel) < 0) {
            rescue(&held); /* and the kernel's descriptor goes with us: the mount is dead */
            return FRONT_EXIT_FAIL;
        }
        syslog(LOG_WARNING, "berthfs died and has been started again");
        (void)poll(NULL, 0, (int)(restarts * RESTART_STEP_MS));
    }
    held_done(&held);
    channel_free(channel); /* the front-end waits for this */
    return FRONT_EXIT_OK;
}
