/* SPDX-License-Identifier: MIT */
/*
 * What the tests of fibers, fiber locks and the loop share: a trace of what
 * happened, and children that are expected to die.
 */
#ifndef BERTH_TEST_FIBER_SUPPORT_H
#define BERTH_TEST_FIBER_SUPPORT_H

#include "berth/fiber.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

/* What happened, in order, as text: "a1 b1 a2". */
static char trace[4096];

static inline void trace_add(const char *what) {
    size_t used = strlen(trace);

    ck_assert_uint_lt(used + strlen(what) + 2, sizeof(trace));
    (void)snprintf(trace + used, sizeof(trace) - used, "%s%s", used > 0 ? " " : "", what);
}

/* Runs fn in a child; true when it died by the signal (or by the sanitizer that caught it). */
static inline bool dies_by(int signal, void (*fn)(void)) {
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        const struct rlimit no_core = {0};

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        fn();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WITH_ASAN && signal == SIGSEGV) {
        /* ASan's own end: an exit code, or with abort_on_error=1 its abort. */
        return WIFEXITED(status) ? WEXITSTATUS(status) != 0 : WTERMSIG(status) == SIGABRT;
    }
    return WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

#endif
