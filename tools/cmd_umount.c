/* SPDX-License-Identifier: MIT */
/*
 * berth umount, and umount(8)'s helper. The kernel detaches a FUSE mount
 * before the processes behind it have written everything, so after the unmount
 * this waits until the front-end and the daemon are gone: then the image is
 * complete and unlocked.
 *
 * The order matters: the pids come from the mount's own status and are turned
 * into pidfds while the mount still stands, so that a pid that is given anew
 * is never waited for. The pids are the word of the mount's owner: unless that
 * is root, only processes of that user are waited for, and never for ever.
 */
#include "berth.h"

#include "berth/log.h"
#include "berth/options.h"
#include "berth/stats.h"

#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define UMOUNT_BUSY_MS 5000   /* how long a busy mount is tried again */
#define SUCCESSOR_NAPS 50u    /* of 100 ms */
#define UMOUNT_NOTICE_MS 5000 /* when we say what we wait for */
#define UMOUNT_WAIT_MS 600000 /* a slow medium with much to write */
#define UMOUNT_LAZY_MS 2000   /* a lazy unmount may stay in use for ever */

typedef struct UmountOptions {
    bool force, lazy;
} UmountOptions;

/* The processes behind a mount: pidfds, -1 where there is none. */
typedef struct Processes {
    uid_t owner;
    int front_fd, daemon_fd;
    uint64_t front_pid, daemon_pid;
    bool daemon_dead; /* for good, and with what it had not written */
} Processes;

/* ---- processes ---- */

static void processes_visit(void *arg, const char *path, JsonKind kind, const char *value) {
    Processes *processes = arg;

    if (kind == JSON_NUMBER && strcmp(path, "frontend_pid") == 0) {
        (void)parse_u64(value, &processes->front_pid);
    } else if (kind == JSON_NUMBER && strcmp(path, "daemon_pid") == 0) {
        (void)parse_u64(value, &processes->daemon_pid);
    } else if (kind == JSON_BOOL && strcmp(path, "lost") == 0) {
        processes->daemon_dead = strcmp(value, "true") == 0;
    }
}

/* Does the process run as this user? Asked after its pidfd was opened. */
static bool process_belongs_to(uint64_t pid, uid_t owner) {
    char path[64], line[256];
    bool belongs = false;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%llu/status", (unsigned long long)pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned real, effective;

        if (sscanf(line, "Uid: %u %u", &real, &effective) == 2) {
            belongs = real == owner || effective == owner;
            break;
        }
    }
    (void)fclose(file);
    return belongs;
}

static int process_open(uint64_t pid, uid_t owner) {
    _cleanup_close_ int fd = -1;

    if (pid <= 1 || pid > INT32_MAX) {
        return -1;
    }
    fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    return fd >= 0 && (owner == 0 || process_belongs_to(pid, owner)) ? steal_fd(&fd) : -1;
}

/* One that was killed leaves a dead mount, or another one that goes on with it and answers soon. */
static bool answers_soon(const MountEntry *mount, int error) {
    struct statvfs st;

    return (error == -ENOENT || error == -ECONNREFUSED) &&
           (statvfs(mount->directory, &st) == 0 || errno != ENOTCONN);
}

/* Without an answer there is nobody to wait for: the front-end is dead or not ours to ask. */
static void processes_open(const MountEntry *mount, Processes *ret) {
    const struct timespec nap = {.tv_nsec = 100000000};
    Text reply = {0};
    int r = control_call(mount->device, mount->owner, "status", &reply);

    for (unsigned i = 0; i < SUCCESSOR_NAPS && answers_soon(mount, r); i++) {
        (void)nanosleep(&nap, NULL);
        r = control_call(mount->device, mount->owner, "status", &reply);
    }
    *ret = (Processes){.owner = mount->owner, .front_fd = -1, .daemon_fd = -1};
    if (r == 0) {
        r = json_read(text_string(&reply), reply.length, processes_visit, ret);
    }
    if (r == 0) {
        ret->front_fd = process_open(ret->front_pid, ret->owner);
        ret->daemon_fd = process_open(ret->daemon_pid, ret->owner);
    } else {
        log_notice("%s: its front-end does not answer (%s): not waiting for it", mount->directory,
                   strerror(-r));
    }
    text_done(&reply);
}

static void processes_close(Processes *processes) {
    base_closep(&processes->front_fd);
    base_closep(&processes->daemon_fd);
    processes->front_fd = processes->daemon_fd = -1;
}

static bool process_gone(int fd, int timeout_ms) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};

    return fd < 0 || poll(&polled, 1, timeout_ms) > 0;
}

/* Waits for one of them until the deadline; says so once when it takes long. */
static bool process_wait(int fd, const char *what, const char *directory, uint64_t start,
                         uint64_t limit_ms, bool *said) {
    for (;;) {
        uint64_t passed = (clock_monotonic_ns() - start) / 1000000;

        if (process_gone(fd, 0)) {
            return true;
        }
        if (passed >= limit_ms) {
            return false;
        }
        if (passed >= UMOUNT_NOTICE_MS && !*said) {
            *said = true;
            log_notice("%s: waiting until the %s has written everything", directory, what);
        }
        (void)process_gone(fd, (int)MIN(limit_ms - passed, UINT64_C(1000)));
    }
}

/* Is the volume still mounted elsewhere (a bind mount)? Then nothing ends. */
static bool mounted_elsewhere(dev_t device) {
    ToolMounts mounts = {0};
    bool found = false;

    if (mounts_read(&mounts.entries, &mounts.count) == 0) {
        for (size_t i = 0; i < mounts.count; i++) {
            found = found || mounts.entries[i].device == device;
        }
        tool_mounts_done(&mounts);
    }
    return found;
}

static int processes_wait(const Processes *processes, const MountEntry *mount,
                          const UmountOptions *options) {
    uint64_t limit = options->lazy ? UMOUNT_LAZY_MS : UMOUNT_WAIT_MS;
    uint64_t start = clock_monotonic_ns();
    bool said = false;

    if (mounted_elsewhere(mount->device)) {
        return EXIT_OK;
    }
    if (process_wait(processes->front_fd, "front-end", mount->directory, start, limit, &said) &&
        process_wait(processes->daemon_fd, "daemon", mount->directory, start, limit, &said)) {
        return EXIT_OK;
    }
    if (options->lazy) {
        log_notice("%s: detached, but still in use", mount->directory);
        return EXIT_OK;
    }
    log_error("%s: unmounted, but its processes do not end: %s may be incomplete", mount->directory,
              mount->source);
    return EXIT_MOUNT;
}

/* ---- the unmount itself ---- */

/* fusermount3's output tells a busy mount from one that is not ours. */
static int umount_read_output(int fd) {
    char output[512];
    size_t length = 0;
    ssize_t got;

    while (length < sizeof(output) - 1 &&
           (got = read(fd, output + length, sizeof(output) - 1 - length)) != 0) {
        if (got < 0 && errno != EINTR) {
            break;
        }
        length += got > 0 ? (size_t)got : 0;
    }
    output[length] = '\0';
    if (strstr(output, "busy") != NULL) {
        return -EBUSY;
    }
    /* A mount of somebody else is not in its table ("not found"). */
    if (strstr(output, "not permitted") != NULL || strstr(output, "not found") != NULL) {
        return -EPERM;
    }
    return -EIO;
}

static int umount_by_fusermount(const char *directory, bool lazy) {
    const char *const arguments[] = {"fusermount3",           "-u",
                                     lazy ? "-z" : "--",      lazy ? "--" : directory,
                                     lazy ? directory : NULL, NULL};
    int pipe_fds[2], status = 0, r;
    pid_t child;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    child = fork();
    if (child == 0) {
        (void)setenv("LC_ALL", "C", 1);
        if (dup2(pipe_fds[1], STDERR_FILENO) >= 0) {
            (void)execvp(arguments[0], (char *const *)(uintptr_t)arguments);
        }
        _exit(127);
    }
    (void)close(pipe_fds[1]);
    r = child < 0 ? -EAGAIN : umount_read_output(pipe_fds[0]);
    (void)close(pipe_fds[0]);
    if (child < 0) {
        return r;
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        return -ENOENT;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : r;
}

static int umount_once(const char *directory, const UmountOptions *options) {
    int flags = UMOUNT_NOFOLLOW;

    if (geteuid() != 0) {
        return umount_by_fusermount(directory, options->lazy);
    }
    flags |= options->force ? MNT_FORCE : 0;
    flags |= options->lazy ? MNT_DETACH : 0;
    return umount2(directory, flags) < 0 ? -errno : 0;
}

/* A program that has just closed its last file may still be on its way out: try for a while. */
static int umount_with_patience(const char *directory, const UmountOptions *options) {
    uint64_t start = clock_monotonic_ns();
    int pause_ms = 20, r;

    while ((r = umount_once(directory, options)) == -EBUSY) {
        if ((clock_monotonic_ns() - start) / 1000000 >= UMOUNT_BUSY_MS) {
            break;
        }
        (void)poll(NULL, 0, pause_ms);
        pause_ms = MIN(pause_ms * 2, 500);
    }
    return r;
}

/* Unmounting went well, but not all that was written is on disk. */
static int report_dead_daemon(const MountEntry *mount) {
    if (mount->readonly) {
        return EXIT_OK;
    }
    log_error(
        "%s: unmounted, but its daemon had died: what was not yet written to %s is lost; check it",
        mount->directory, mount->source);
    return EXIT_MOUNT;
}

static int umount_one(const char *name, const UmountOptions *options) {
    ToolMounts mounts = {0};
    const MountEntry *mount = NULL;
    Processes processes;
    int code = tool_mount_find(&mounts, name, &mount), r;

    if (code != EXIT_OK) {
        tool_mounts_done(&mounts);
        return code == EXIT_USAGE ? EXIT_MOUNT : code;
    }
    if (geteuid() != 0 && mount->owner != geteuid() && mount->owner != (uid_t)-1) {
        log_error("%s: not yours to unmount", mount->directory);
        tool_mounts_done(&mounts);
        return EXIT_USAGE;
    }
    processes_open(mount, &processes);
    r = umount_with_patience(mount->directory, options);
    if (r == 0) {
        code = processes_wait(&processes, mount, options);
        if (code == EXIT_OK && processes.daemon_dead) {
            code = report_dead_daemon(mount);
        }
    } else if (r == -EBUSY) {
        log_error("%s: busy: something still uses it (fuser -vm shows what)", mount->directory);
        code = EXIT_MOUNT;
    } else if (r == -EPERM) {
        log_error("%s: not yours to unmount", mount->directory);
        code = EXIT_USAGE;
    } else {
        log_error("%s: cannot unmount: %s", mount->directory,
                  r == -ENOENT ? "fusermount3 is not installed" : strerror(-r));
        code = EXIT_MOUNT;
    }
    processes_close(&processes);
    tool_mounts_done(&mounts);
    return code;
}

/* ---- command line ---- */

static void umount_help(void) {
    printf("Usage: berth umount [-l] [-f] DIR...\n"
           "\n"
           "Unmounts, and returns when everything is on disk and the processes are gone.\n"
           "DIR may also be the image, where it is mounted once.\n"
           "\n"
           "  -f, --force  also when the front-end does not answer (root)\n"
           "  -l, --lazy   detach now, finish when nothing uses it any more\n"
           "  -h, --help   show this\n"
           "\n"
           "As umount.fuse.berthfs it also takes, for umount(8): -n -r -v -t TYPE -N NAMESPACE\n");
}

/* umount(8) names another mount namespace by a pid or a path. */
static int umount_enter_namespace(const char *name) {
    _cleanup_close_ int fd = -1;
    char path[64];
    uint32_t pid;

    if (parse_u32(name, &pid) == 0) {
        (void)snprintf(path, sizeof(path), "/proc/%u/ns/mnt", pid);
        name = path;
    }
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNS) < 0) {
        log_error("%s: cannot enter the mount namespace: %s", name, strerror(errno));
        return EXIT_SYSTEM;
    }
    return EXIT_OK;
}

int cmd_umount(int argc, char **argv) {
    static const struct option long_options[] = {
        {"force", no_argument, NULL, 'f'},
        {"lazy", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    UmountOptions options = {0};
    int option, code = EXIT_OK;

    while ((option = getopt_long(argc, argv, "flnrvt:N:hV", long_options, NULL)) != -1) {
        switch (option) {
        case 'f':
            options.force = true;
            break;
        case 'l':
            options.lazy = true;
            break;
        case 'n': /* there is no mtab */
        case 'r': /* a volume that cannot be unmounted stays as it is */
        case 'v':
        case 't': /* only our own mounts are touched, whatever the type is called */
            break;
        case 'N':
            code = umount_enter_namespace(optarg);
            if (code != EXIT_OK) {
                return code;
            }
            break;
        case 'h':
            umount_help();
            return EXIT_OK;
        case 'V':
            printf("berth %s\n", BERTH_VERSION);
            return EXIT_OK;
        default:
            return EXIT_USAGE;
        }
    }
    if (optind == argc) {
        log_error("umount takes a directory. Try berth umount --help");
        return EXIT_USAGE;
    }
    for (; optind < argc; optind++) {
        int one = umount_one(argv[optind], &options);

        code = code == EXIT_OK ? one : code;
    }
    return code;
}
