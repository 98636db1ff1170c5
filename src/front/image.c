/* SPDX-License-Identifier: MIT */
/*
 * Opening the image and locking it: O_EXCL on block devices, flock on both kinds,
 * shared for read-only mounts. The lock hangs on the open file description, which
 * the daemon gets too: it lasts until both have let go, that is, until the last
 * byte is down. Unmounting is asynchronous, so somebody who meets the lock waits
 * for a moment; then he is told who holds it.
 */
#include "private.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define LOCK_STEP_MS 50
#define LOCK_STEPS 60 /* 3 s */

static void step(void) {
    const struct timespec delay = {.tv_nsec = LOCK_STEP_MS * 1000000L};

    (void)nanosleep(&delay, NULL);
}

/* The mount that has this file open, by its own word (fsname). */
static bool holder_mount(const struct stat *image, char *text, size_t capacity) {
    MountEntry *entries = NULL;
    size_t count = 0;
    struct stat st;
    bool found = false;

    if (mounts_read(&entries, &count) < 0) {
        return false;
    }
    for (size_t i = 0; i < count && !found; i++) {
        if (stat(entries[i].source, &st) == 0 && st.st_dev == image->st_dev &&
            st.st_ino == image->st_ino) {
            (void)snprintf(text, capacity, "mounted at %s", entries[i].directory);
            found = true;
        }
    }
    mounts_free(entries, count);
    return found;
}

static void process_name(long pid, char *name, size_t capacity) {
    char path[64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
    file = fopen(path, "re");
    if (file == NULL || fgets(name, (int)capacity, file) == NULL) {
        (void)snprintf(name, capacity, "?");
    }
    name[strcspn(name, "\n")] = 0;
    if (file != NULL) {
        (void)fclose(file);
    }
}

/* /proc/locks: "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF" */
static bool holder_process(const struct stat *image, char *text, size_t capacity) {
    char line[256], name[32];
    unsigned dev_major, dev_minor;
    unsigned long inode;
    bool found = false;
    long pid;
    FILE *file = fopen("/proc/locks", "re");

    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%*s FLOCK %*s %*s %ld %x:%x:%lu", &pid, &dev_major, &dev_minor, &inode) ==
                4 &&
            dev_major == major(image->st_dev) && dev_minor == minor(image->st_dev) &&
            inode == image->st_ino) {
            process_name(pid, name, sizeof(name));
            (void)snprintf(text, capacity, "held by process %ld (%s)", pid, name);
            found = true;
        }
    }
    (void)fclose(file);
    return found;
}

static void say_holder(const char *path, const char *given) {
    char who[1024] = "", process[128] = "";
    struct stat st;

    if (stat(path, &st) == 0) {
        bool mounted = holder_mount(&st, who, sizeof(who));

        if (holder_process(&st, process, sizeof(process))) {
            size_t used = strlen(who);

            (void)snprintf(who + used, sizeof(who) - used, "%s%s", mounted ? ", " : "", process);
        }
    }
    log_error("%s: in use: %s", given,
              who[0] != 0 ? who : "another process or the kernel has it open");
}

static int open_once(const char *path, bool readonly, bool *ret_block) {
    struct stat st;
    int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (readonly ? O_RDONLY : O_RDWR), fd;

    if (stat(path, &st) < 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        return -EISDIR;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return -EMEDIUMTYPE;
    }
    *ret_block = S_ISBLK(st.st_mode);
    fd = open(path, flags | (*ret_block ? O_EXCL : 0));
    if (fd < 0) {
        return -errno;
    }
    /* Wanted for the open alone (a FIFO may have taken the file's place): io_uring would refuse to
     * wait on such a descriptor. */
    if (fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    return fd;
}

/* Opens, waiting while somebody else's exclusive claim lasts. */
static int open_wait(const char *path, bool readonly) {
    bool block = false;
    int fd = -EBUSY;

    for (unsigned i = 0; i < LOCK_STEPS && fd == -EBUSY; i++) {
        if (i > 0) {
            step();
        }
        fd = open_once(path, readonly, &block);
    }
    return fd;
}

static int lock_wait(int fd, bool shared) {
    int r = -EWOULDBLOCK;

    for (unsigned i = 0; i < LOCK_STEPS && r == -EWOULDBLOCK; i++) {
        if (i > 0) {
            step();
        }
        r = flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0 ? -errno : 0;
    }
    return r;
}

/* 0 or -errno, said. */
static int source_lock(int fd, const char *path, const char *given, bool shared) {
    int r = lock_wait(fd, shared);

    if (r == -EWOULDBLOCK) {
        say_holder(path, given);
    } else if (r < 0) {
        log_error("%s: locking: %s", given, strerror(-r));
    }
    return r;
}

int source_reopen(const Front *front) {
    char path[64];
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", front->image_fd);
    fd = open(path, O_CLOEXEC | O_NOCTTY | (front->image_readonly ? O_RDONLY : O_RDWR));
    if (fd < 0) {
        log_debug("%s: opening it again: %m", front->source_given);
        fd = fcntl(front->image_fd, F_DUPFD_CLOEXEC, 3);
    }
    return fd < 0 ? -errno : fd;
}

int source_claim(const char *path, const char *given, bool readonly) {
    int fd = open_wait(path, readonly), r;

    if (fd == -EBUSY) {
        say_holder(path, given);
    }
    if (fd < 0) {
        return fd;
    }
    r = source_lock(fd, path, given, readonly);
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

int source_open(Front *front) {
    bool readonly = front->options.readonly;
    int fd = open_wait(front->source, readonly), r;

    if ((fd == -EROFS || fd == -EACCES || fd == -EPERM) && !readonly) {
        r = fd;
        fd = open_wait(front->source, true);
        if (fd >= 0 && front->options.readwrite) {
            close(fd);
            fd = r;
        } else if (fd >= 0) {
            log_notice("%s: write-protected, mounting read-only", front->source_given);
            readonly = true;
        }
    }
    if (fd == -EBUSY) {
        say_holder(front->source, front->source_given);
        return fd;
    }
    if (fd < 0) {
        log_error("%s: %s", front->source_given,
                  fd == -EMEDIUMTYPE ? "not a file or a block device" : strerror(-fd));
        return fd;
    }
    r = source_lock(fd, front->source, front->source_given, readonly);
    if (r < 0) {
        close(fd);
        return r;
    }
    front->image_fd = fd;
    front->image_readonly = readonly;
    front->next_image_fd = source_reopen(front);
    return 0;
}
