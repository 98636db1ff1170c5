/* SPDX-License-Identifier: MIT */
/*
 * The rescue writer: when one daemon after the other dies over the log, its contents
 * are written to the image without them (man berth-recovery.7, section 11). The log is
 * as hostile as whoever wrote it, so that happens in a process of its own, which has
 * nothing but the image and the lifeline to lose.
 */
#include "private.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define RESCUE_MS 600000

typedef struct RescueOutcome {
    int result;
    char text[128];
} RescueOutcome;

/* In the child. The locks of the logs may be held by threads that are not here: it says nothing. */
static RescueOutcome rescue(const Front *front) {
    const BlockOpenConfig image = {.fd = front->image_fd,
                                   .start = front->volume_start,
                                   .length = front->volume_length,
                                   .direct = 0};
    _cleanup_(block_freep) BlockDevice *device = NULL, *journal_device = NULL;
    _cleanup_(sidejournal_freep) SideJournal *journal = NULL;
    RescueOutcome outcome = {0};
    LifelineRescue report = {0};

    outcome.result = block_posix_new(&image, &device);
    if (outcome.result == 0 && front->journal_fd >= 0) {
        outcome.result = sidejournal_new_posix(front->journal_fd, false, &journal_device, &journal);
    }
    if (outcome.result == 0) {
        outcome.result =
            lifeline_memory_rescue(front->lifeline_fd, PENDING_TOTAL, device, journal, &report);
        memcpy(outcome.text, report.text, sizeof(outcome.text));
    }
    return outcome;
}

static int child_collect(pid_t pid, int read_fd, RescueOutcome *ret) {
    _cleanup_close_ int pidfd = pidfd_open(pid, 0);
    struct pollfd fd = {.fd = pidfd, .events = POLLIN};
    ssize_t n;
    int r, status;

    do {
        r = poll(&fd, 1, RESCUE_MS);
    } while (r < 0 && errno == EINTR);
    if (r <= 0) {
        (void)kill(pid, SIGKILL);
    }
    (void)waitpid(pid, &status, 0);
    do {
        n = read(read_fd, ret, sizeof(*ret));
    } while (n < 0 && errno == EINTR);
    ret->text[sizeof(ret->text) - 1] = 0;
    return n == (ssize_t)sizeof(*ret) ? ret->result : -EIO;
}

int rescue_run(Front *front, char text[160]) {
    _cleanup_close_ int read_fd = -1, write_fd = -1;
    RescueOutcome outcome = {.text = ""};
    int fds[2], r;
    pid_t pid;

    if (front->image_readonly) {
        return 0; /* there is nothing to write */
    }
    if (!fences_wait(front)) {
        (void)snprintf(text, 160, "the dead daemon's writes do not end");
        return -ETIMEDOUT;
    }
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    read_fd = fds[0];
    write_fd = fds[1];
    pid = fork();
    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        outcome = rescue(front);
        _exit(write(write_fd, &outcome, sizeof(outcome)) == (ssize_t)sizeof(outcome) ? 0 : 1);
    }
    close(steal_fd(&write_fd));
    r = child_collect(pid, read_fd, &outcome);
    if (r == 0) {
        r = lifeline_memory_settle(front->lifeline_fd);
    }
    if (r < 0) {
        (void)snprintf(text, 160, "%s", outcome.text[0] != 0 ? outcome.text : strerror(-r));
    }
    return r;
}
