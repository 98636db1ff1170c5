/* SPDX-License-Identifier: MIT */
/*
 * The system-call filter, the innermost layer: a list of what a daemon does once it
 * serves. Nothing on it opens, starts, reaches or signals anything else.
 *
 * Whatever is on no list kills the process (SIGSYS; the kernel logs the number):
 * our own code never does it, so somebody else's code runs here, and must not get a
 * second try. The exception is what the C library asks for by itself and can do
 * without (a locale's messages, the number of processors): that gets EPERM.
 *
 * Some of the allowed calls are narrowed by their arguments: memory cannot become
 * executable; the ring's table is all that can be registered; memory can be allocated for one
 * file, the lifeline; and plain writes stay below the volume's end. The ring's writes have the
 * file size limit for that.
 */
#include "sandbox_layers.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <seccomp.h>
#include <sys/mman.h>

/* Always. */
static const int allowed[] = {
    /* the front-end, the log, the helper threads' announcements */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(close),
    /* the image: beside the ring, or in its place */
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(preadv2),
    SCMP_SYS(fdatasync),
    /* memory */
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    /* waiting */
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(futex),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(sched_yield),
    /* the time, random numbers for the allocator, who am I */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    /* the helper threads' first steps may come after this filter */
    SCMP_SYS(rseq),
    SCMP_SYS(set_robust_list),
    /* signals of our own, and the end */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* Refused with EPERM instead of death: asked for by libraries on their own. */
static const int refused[] = {
    SCMP_SYS(open),        SCMP_SYS(openat),     SCMP_SYS(stat),       SCMP_SYS(lstat),
    SCMP_SYS(fstat),       SCMP_SYS(newfstatat), SCMP_SYS(statx),      SCMP_SYS(access),
    SCMP_SYS(faccessat),   SCMP_SYS(readlink),   SCMP_SYS(readlinkat), SCMP_SYS(getcwd),
    SCMP_SYS(lseek),       SCMP_SYS(fcntl),      SCMP_SYS(ioctl),      SCMP_SYS(uname),
    SCMP_SYS(sysinfo),     SCMP_SYS(getrusage),  SCMP_SYS(getrlimit),  SCMP_SYS(prlimit64),
    SCMP_SYS(getuid),      SCMP_SYS(geteuid),    SCMP_SYS(getgid),     SCMP_SYS(getegid),
    SCMP_SYS(sigaltstack), SCMP_SYS(membarrier),
};

#if SANDBOX_TEST_PROFILE
/* The sanitizers' run time: reports, shadow memory. */
static const int for_sanitizers[] = {
    SCMP_SYS(sigaltstack), SCMP_SYS(prlimit64),         SCMP_SYS(getrlimit),
    SCMP_SYS(fstat),       SCMP_SYS(sched_getaffinity), SCMP_SYS(getuid),
};

/* The leak checker stops all threads from a process of its own: not in here. */
int __lsan_is_turned_off(void);
static bool leak_check_off;
int __lsan_is_turned_off(void) {
    return leak_check_off;
}
#endif

static int add_list(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count) {
    int r = 0;

    for (size_t i = 0; i < count && r == 0; i++) {
        r = seccomp_rule_add(filter, action, calls[i], 0);
        r = r == -EDOM ? 0 : r; /* not a call of this architecture */
    }
    return r;
}

/* Allowed when argument `index` compares so; for a masked comparison `a` is the mask. */
static int allow_if(scmp_filter_ctx filter, int call, unsigned index, enum scmp_compare op,
                    uint64_t a, uint64_t b) {
    const struct scmp_arg_cmp condition = {.arg = index, .op = op, .datum_a = a, .datum_b = b};

    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &condition);
}

/* A write through a descriptor of the image must begin below the end of the volume. */
static int add_writes(scmp_filter_ctx filter, uint64_t end) {
    const uint64_t discard = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int r = allow_if(filter, SCMP_SYS(pwrite64), 3, SCMP_CMP_LT, end, 0);

    if (r == 0) {
        r = allow_if(filter, SCMP_SYS(pwritev), 3, SCMP_CMP_LT, end, 0);
    }
    return r < 0 ? r : allow_if(filter, SCMP_SYS(fallocate), 1, SCMP_CMP_EQ, discard, 0);
}

/* Both arguments at once: discarding is allowed on any descriptor, allocating on this one. */
static int allow_allocation(scmp_filter_ctx filter, int fd) {
    const struct scmp_arg_cmp conditions[] = {
        {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = (uint64_t)fd},
        {.arg = 1, .op = SCMP_CMP_EQ, .datum_a = 0},
    };

    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(fallocate),
                                  ARRAY_SIZE(conditions), conditions);
}

static int add_memory(scmp_filter_ctx filter, int memory_fd) {
    int r = allow_if(filter, SCMP_SYS(mmap), 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);

    if (r == 0) {
        r = allow_if(filter, SCMP_SYS(mprotect), 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    }
    if (r == 0 && memory_fd >= 0) {
        r = allow_allocation(filter, memory_fd);
    }
    return r;
}

/* A thread may say on which processors it runs (src/ipc/spin.c), for itself alone. */
static int add_placing(scmp_filter_ctx filter) {
    int r = allow_if(filter, SCMP_SYS(sched_getaffinity), 0, SCMP_CMP_EQ, 0, 0);

    return r < 0 ? r : allow_if(filter, SCMP_SYS(sched_setaffinity), 0, SCMP_CMP_EQ, 0, 0);
}

static int add_ring(scmp_filter_ctx filter) {
    int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(io_uring_enter), 0);

    return r < 0 ? r
                 : allow_if(filter, SCMP_SYS(io_uring_register), 1, SCMP_CMP_EQ,
                            IORING_REGISTER_FILES_UPDATE, 0);
}

static int add_rules(scmp_filter_ctx filter, const Sandbox *sandbox) {
    int r = add_list(filter, SCMP_ACT_ALLOW, allowed, ARRAY_SIZE(allowed));

#if SANDBOX_TEST_PROFILE
    /* Here everything unknown gets EPERM, so that a report can still be written. */
    (void)refused;
    if (r == 0) {
        r = add_list(filter, SCMP_ACT_ALLOW, for_sanitizers, ARRAY_SIZE(for_sanitizers));
    }
#else
    if (r == 0) {
        r = add_list(filter, SCMP_ACT_ERRNO(EPERM), refused, ARRAY_SIZE(refused));
    }
#endif
    if (r == 0) {
        r = add_placing(filter);
    }
    if (r == 0 && loop_has_ring(sandbox->config->loop)) {
        r = add_ring(filter);
    }
    if (r == 0) {
        r = add_writes(filter, sandbox->config->image_end);
    }
    if (r == 0) {
        r = add_memory(filter, sandbox->config->memory_fd);
    }
    if (r == 0) { /* abort() */
        r = allow_if(filter, SCMP_SYS(tgkill), 0, SCMP_CMP_EQ, (uint64_t)getpid(), 0);
    }
    return r;
}

int sandbox_seccomp(Sandbox *sandbox) {
    scmp_filter_ctx filter =
        seccomp_init(SANDBOX_TEST_PROFILE ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_KILL_PROCESS);
    int r;

    if (filter == NULL) {
        return -ENOMEM;
    }
    r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1); /* the helper threads as well */
    if (r == 0) {
        r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
    }
    if (r == 0) {
        r = add_rules(filter, sandbox);
    }
    if (r == 0) {
        r = seccomp_load(filter);
    }
    seccomp_release(filter);
#if SANDBOX_TEST_PROFILE
    leak_check_off = r == 0;
#endif
    return r;
}
