/* SPDX-License-Identifier: MIT */
/*
 * Probing in a process that can do nothing but answer.
 *
 * The child keeps two descriptors: the image, opened again read-only where
 * that is allowed (so the file offset of the caller's stays its own), and the
 * write end of a pipe. It has limits on time and memory, no way to open, start
 * or reach anything (a system-call filter that refuses all but reading and
 * memory), and dies with its parent. Its answer is one structure of fixed
 * size, which the parent copies and then checks field by field; only what the
 * table counts is taken over.
 *
 * The parent waits for at most ten seconds, and for the child's end always.
 */
#include "berth/stats.h"
#include "berth/text.h"
#include "internal.h"
#include "partition_internal.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PROBE_SECONDS 10u
#define PROBE_MEMORY (256u * 1024u * 1024u)
#define ANSWER_MAGIC 0x62727062u

typedef struct Answer {
    uint32_t magic;
    int32_t status;
    char text[PROBE_TEXT];
    ImageProbe probe;
} Answer;

/* ---- the child ---- */

static void set_limit(int resource, rlim_t value) {
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value};

    (void)setrlimit((__rlimit_resource_t)resource, &limit);
}

/* The address space is the parent's at first, so the limit is relative to it. */
static void limit_memory(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL) {
        return;
    }
    if (fscanf(file, "%lu", &pages) == 1) {
        set_limit(RLIMIT_AS, pages * (rlim_t)sysconf(_SC_PAGESIZE) + PROBE_MEMORY);
    }
    (void)fclose(file);
}

static void close_all_but(int a, int b) {
    unsigned low = (unsigned)MIN(a, b), high = (unsigned)MAX(a, b);

    if (low > 3) {
        (void)close_range(3, low - 1, 0);
    }
    if (high - low > 1) {
        (void)close_range(low + 1, high - 1, 0);
    }
    (void)close_range(high + 1, ~0u, 0);
    (void)close(STDIN_FILENO);
    (void)close(STDOUT_FILENO);
    if (!PROBE_SANITIZED) {
        (void)close(STDERR_FILENO);
    }
}

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#endif

#define FILTER_ALLOW(name)                                 \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Everything else fails with EPERM, which the libraries take as "not available". */
static void filter_calls(void) {
#ifdef FILTER_ARCH
    static const struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        FILTER_ALLOW(read),
        FILTER_ALLOW(pread64),
        FILTER_ALLOW(preadv),
        FILTER_ALLOW(lseek),
        FILTER_ALLOW(write),
        FILTER_ALLOW(close),
        FILTER_ALLOW(fstat),
        FILTER_ALLOW(newfstatat),
        FILTER_ALLOW(fcntl),
        FILTER_ALLOW(ioctl),
        FILTER_ALLOW(fadvise64),
        FILTER_ALLOW(mmap),
        FILTER_ALLOW(munmap),
        FILTER_ALLOW(mremap),
        FILTER_ALLOW(mprotect),
        FILTER_ALLOW(madvise),
        FILTER_ALLOW(brk),
        FILTER_ALLOW(futex),
        FILTER_ALLOW(getrandom),
        FILTER_ALLOW(clock_gettime),
        FILTER_ALLOW(rt_sigreturn),
        FILTER_ALLOW(exit),
        FILTER_ALLOW(exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    const struct sock_fprog program = {
        .len = (unsigned short)ARRAY_SIZE(filter),
        .filter = (struct sock_filter *)(uintptr_t)filter,
    };

    if (!PROBE_SANITIZED) {
        (void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    }
#endif
}

/* Returns the descriptors to use from now on. */
static void enter_isolation(pid_t parent, unsigned seconds, int *image_fd, int *answer_fd) {
    char path[32];
    int fd;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1); /* it died before the call above */
    }
    fd = fcntl(*answer_fd, F_DUPFD_CLOEXEC, 3);
    *answer_fd = fd >= 0 ? fd : *answer_fd;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", *image_fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    *image_fd = fd >= 3 ? fd : *image_fd;
    close_all_but(*image_fd, *answer_fd);
    if (!PROBE_SANITIZED) {
        limit_memory();
    }
    set_limit(RLIMIT_CPU, seconds + 1); /* should the parent be stopped */
    set_limit(RLIMIT_CORE, 0);
    set_limit(RLIMIT_FSIZE, 0);
    set_limit(RLIMIT_NPROC, 0);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    filter_calls();
}

typedef struct Errand {
    ProbeFn *fn;
    unsigned seconds;
    int image_fd;
    uint64_t size;
} Errand;

__attribute__((noreturn)) static void child_main(const Errand *errand, pid_t parent, int answer_fd,
                                                 Answer *answer) {
    const uint8_t *at = (const uint8_t *)answer;
    size_t left = sizeof(*answer);
    int image_fd = errand->image_fd;

    enter_isolation(parent, errand->seconds, &image_fd, &answer_fd);
    answer->magic = ANSWER_MAGIC;
    answer->status = errand->fn(image_fd, errand->size, &answer->probe, answer->text);
    while (left > 0) {
        ssize_t n = write(answer_fd, at, left);

        if (n <= 0) {
            _exit(1);
        }
        at += n;
        left -= (size_t)n;
    }
    _exit(0);
}

/* ---- the answer ---- */

static bool text_ok(const char *text, size_t capacity) {
    const char *end = memchr(text, '\0', capacity);

    return end != NULL && utf8_valid(text, (size_t)(end - text));
}

static bool volume_ok(const VolumeProbe *volume, uint64_t start, uint64_t length) {
    return volume->start == start && volume->length == length &&
           text_ok(volume->type, sizeof(volume->type)) &&
           text_ok(volume->subtype, sizeof(volume->subtype)) &&
           text_ok(volume->label, sizeof(volume->label)) &&
           text_ok(volume->uuid, sizeof(volume->uuid));
}

static bool probe_ok(const ImageProbe *probe, uint64_t size) {
    const PartitionTable *table = &probe->table;
    const ImageContainer *container = &probe->container;

    if (probe->size != size || (unsigned)table->kind > PARTITION_APM ||
        table->count > PARTITION_MAX || !is_power_of_2(table->sector_size) ||
        table->sector_size < 512 || table->sector_size > 65536 ||
        (unsigned)container->kind > CONTAINER_MACBINARY_DISKCOPY ||
        (unsigned)container->checksum > CHECKSUM_BAD ||
        !range_inside(container->start, container->length, size) ||
        (container->kind == CONTAINER_NONE && container->length != size)) {
        return false;
    }
    if (table->kind == PARTITION_NONE) {
        return table->count == 0 && volume_ok(&probe->whole, container->start, container->length);
    }
    for (unsigned i = 0; i < table->count; i++) {
        const Partition *entry = &table->entries[i];

        if (entry->number == 0 || entry->length == 0 ||
            !range_inside(entry->start, entry->length, size) ||
            !text_ok(entry->type, sizeof(entry->type)) ||
            !text_ok(entry->name, sizeof(entry->name)) ||
            !text_ok(entry->uuid, sizeof(entry->uuid)) ||
            !volume_ok(&probe->volumes[i], entry->start, entry->length)) {
            return false;
        }
    }
    return true;
}

static bool answer_ok(const Answer *answer, uint64_t size) {
    if (answer->magic != ANSWER_MAGIC || answer->status > 0 || answer->status < -4095 ||
        !text_ok(answer->text, sizeof(answer->text))) {
        return false;
    }
    return answer->status != 0 || probe_ok(&answer->probe, size);
}

static void take_over(const ImageProbe *probe, ImageProbe *ret) {
    memset(ret, 0, sizeof(*ret));
    ret->size = probe->size;
    ret->container = probe->container;
    ret->table.kind = probe->table.kind;
    ret->table.sector_size = probe->table.sector_size;
    ret->table.count = probe->table.count;
    ret->whole = probe->whole;
    memcpy(ret->table.entries, probe->table.entries, probe->table.count * sizeof(Partition));
    memcpy(ret->volumes, probe->volumes, probe->table.count * sizeof(VolumeProbe));
}

/* ---- the parent ---- */

/* Reads one Answer. -ETIMEDOUT, -EPROTO when the pipe ends early, other -errno. */
static int receive(int fd, unsigned seconds, Answer *answer) {
    uint64_t deadline = clock_monotonic_ns() + seconds * 1000000000ull;
    size_t have = 0;

    while (have < sizeof(*answer)) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        uint64_t now = clock_monotonic_ns();
        ssize_t n;
        int r;

        if (now >= deadline) {
            return -ETIMEDOUT;
        }
        r = poll(&ready, 1, (int)((deadline - now) / 1000000) + 1);
        if (r < 0 && errno != EINTR) {
            return -errno;
        }
        if (r <= 0) {
            continue;
        }
        n = read(fd, (uint8_t *)answer + have, sizeof(*answer) - have);
        if (n == 0) {
            return -EPROTO;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        have += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int end_child(pid_t pid) {
    int status = 0;

    (void)kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

static int run_child(const Errand *errand, Answer *answer, char *text) {
    _cleanup_close_ int read_end = -1;
    int ends[2], status, r;
    pid_t parent = getpid(), pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    read_end = ends[0];
    pid = fork();
    if (pid == 0) {
        child_main(errand, parent, ends[1], answer);
    }
    r = -errno;
    (void)close(ends[1]);
    if (pid < 0) {
        (void)snprintf(text, PROBE_TEXT, "no process to probe in: %s", strerror(-r));
        return r;
    }
    r = receive(read_end, errand->seconds, answer);
    status = end_child(pid);
    if (r == -ETIMEDOUT) {
        (void)snprintf(text, PROBE_TEXT, "probing took more than %u seconds", errand->seconds);
    } else if (r == -EPROTO && WIFSIGNALED(status)) {
        (void)snprintf(text, PROBE_TEXT, "the probing process died of signal %d", WTERMSIG(status));
    } else if (r < 0) {
        (void)snprintf(text, PROBE_TEXT, "the probing process gave no answer");
    } else if (!answer_ok(answer, errand->size)) {
        (void)snprintf(text, PROBE_TEXT, "the probing process gave a wrong answer");
        r = -EPROTO;
    }
    return r;
}

int probe_isolated(int fd, ProbeFn *fn, unsigned seconds, ImageProbe *ret, char *text) {
    _cleanup_free_ Answer *answer = calloc(1, sizeof(*answer));
    BlockOpenConfig config = {.fd = fd, .readonly = true};
    BlockImage image;
    Errand errand;
    int r;

    text[0] = '\0';
    if (answer == NULL) {
        return -ENOMEM;
    }
    r = image_open(&config, &image);
    if (r < 0) {
        (void)snprintf(text, PROBE_TEXT, "%s", strerror(-r));
        return r;
    }
    errand = (Errand){.fn = fn, .seconds = seconds, .image_fd = image.fd, .size = image.size};
    r = run_child(&errand, answer, text);
    (void)close(image.fd);
    if (r < 0) {
        return r;
    }
    if (answer->status == 0) {
        take_over(&answer->probe, ret);
    } else {
        memcpy(text, answer->text, PROBE_TEXT);
    }
    return answer->status;
}

int partition_probe_isolated(int fd, ImageProbe *ret, char text[256]) {
    return probe_isolated(fd, probe_image, PROBE_SECONDS, ret, text);
}
