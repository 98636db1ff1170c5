/* SPDX-License-Identifier: MIT */
/*
 * The layers that change what the process is: whom it belongs to, which part of the
 * system it sees, which privileges it has, how much it may take.
 *
 * The empty file tree needs care. A mount namespace is a copy of all mounts of the
 * system, and a copy keeps its filesystem alive when somebody unmounts the original.
 * So the copy is thrown away as a whole at once, and not made at all where that
 * cannot work.
 */
#include "sandbox_layers.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define NOBODY 65534
/* Ourselves, the loop's helper threads, and the workers of io_uring, which count as well: without
 * room for them what cannot be done at once is cancelled. */
#define PROCESSES_MAX 64

int sandbox_users(Sandbox *sandbox) {
    if (unshare(CLONE_NEWUSER) < 0) {
        return -errno;
    }
    sandbox->own_users = true;
    return 0;
}

int sandbox_namespaces(Sandbox *sandbox) {
    return unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ? -errno : 0;
}

/* Only a mounted directory other than the kernel's first one can be exchanged. */
static int check_root(void) {
    struct statx stx;
    struct statfs fs;

    if (statx(AT_FDCWD, "/", 0, STATX_TYPE, &stx) < 0 || statfs("/", &fs) < 0) {
        return -errno;
    }
    if ((stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0 &&
        (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0) {
        return -EXDEV;
    }
    return fs.f_type == RAMFS_MAGIC || fs.f_type == TMPFS_MAGIC ? -EXDEV : 0;
}

int sandbox_root(Sandbox *sandbox) {
    int r = check_root();

    if (r < 0) {
        return r;
    }
    if (unshare(CLONE_NEWNS) < 0) {
        return -errno;
    }
    /* Seen by nobody else: not shared, and it goes with the process. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
        mount("berth-empty", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "size=4k,nr_inodes=2,mode=555") < 0 ||
        chdir("/proc") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) {
        return -errno;
    }
    return 0;
}

int sandbox_ids(Sandbox *sandbox) {
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0) {
        return -errno;
    }
    return 0;
}

int sandbox_privileges(Sandbox *sandbox) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    /* Dropping from the bounding set takes a privilege. Without it there is none to lose either:
     * no program can be executed that would give one. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        return -errno;
    }
    return 0;
}

static int set_limit(int resource, rlim_t value) {
    struct rlimit limit;

    if (getrlimit((__rlimit_resource_t)resource, &limit) < 0) {
        return -errno;
    }
    limit.rlim_cur = limit.rlim_max = MIN(value, limit.rlim_max);
    return setrlimit((__rlimit_resource_t)resource, &limit) < 0 ? -errno : 0;
}

/* The number that the next descriptor would get: with this limit there will be none. */
static int next_descriptor(void) {
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    (void)close(fd);
    return fd;
}

/* No limit on address space: caches are as large as the mount options say. */
int sandbox_limits(Sandbox *sandbox) {
    int next_fd = next_descriptor();
    int r;

    (void)signal(SIGXFSZ, SIG_IGN); /* a write too far is an error, not a death */
    if (next_fd < 0) {
        return next_fd;
    }
    r = set_limit(RLIMIT_NOFILE, (rlim_t)next_fd);
    if (r == 0) {
        r = set_limit(RLIMIT_FSIZE, (rlim_t)sandbox->config->image_end);
    }
    if (r == 0) {
        r = set_limit(RLIMIT_CORE, 0);
    }
    /* Counted per user: only in a namespace of our own are they our processes alone. */
    if (r == 0 && sandbox->own_users) {
        r = set_limit(RLIMIT_NPROC, PROCESSES_MAX);
    }
    return r;
}
