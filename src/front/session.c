/* SPDX-License-Identifier: MIT */
/*
 * The kernel's side of a mount: the FUSE session, what INIT agrees on, mount(2)
 * (or fusermount3 for ordinary users), and the limits of the mount's backing
 * device, which root may raise.
 *
 * What is not wanted matters as much as what is: ATOMIC_O_TRUNC loses truncation
 * without OPEN; AUTO_INVAL_DATA drops a cache that only we can make stale;
 * HANDLE_KILLPRIV would cost a round per write (its second version does not:
 * wire.c); SPLICE_READ would take the receiving buffer out of our hands.
 */
#include "private.h"

#include <fcntl.h>
#include <fuse3/fuse_log.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#define LONG_TIMEOUT 3600.0
#define EPOCH_MINOR 44u /* FUSE_NOTIFY_INC_EPOCH came with 7.44 */

void op_init(void *userdata, struct fuse_conn_info *conn) {
    const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
                            FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_READDIRPLUS |
                            FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPEN_SUPPORT |
                            FUSE_CAP_NO_OPENDIR_SUPPORT;
    Front *front = userdata;
    uint64_t one = 1;

    conn->want = conn->capable & wanted;
    conn->max_write = FS_IO_MAX;
    conn->max_read = FS_IO_MAX;
    conn->max_background = PENDING_SLOTS;
    conn->congestion_threshold = PENDING_SLOTS * 3 / 4;
    front->proto_minor = conn->proto_minor;
    front->inc_epoch = conn->proto_minor >= EPOCH_MINOR;
    log_debug("FUSE 7.%u, capable %#x, wanted %#x", conn->proto_minor, conn->capable, conn->want);
    if (write(front->init_fd, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
        log_error("%s: cannot tell that the kernel said hello: %m", front->source_given);
    }
}

/* fsname may hold anything: commas and backslashes are escaped for libfuse's parser. */
static void append_escaped(Text *text, const char *value) {
    for (; *value != 0; value++) {
        if (*value == ',' || *value == '\\') {
            text_append(text, "\\", 1);
        }
        text_append(text, value, 1);
    }
}

static int session_options(const Front *front, Text *ret) {
    text_printf(ret, "subtype=berthfs,default_permissions,max_read=%u", FS_IO_MAX);
    if (front->options.allow_other) {
        text_printf(ret, ",allow_other");
    }
    if (atomic_load(&front->volume.readonly)) {
        text_printf(ret, ",ro");
    }
    if (front->options.kernel.length > 0) {
        text_printf(ret, ",%s", text_string(&front->options.kernel));
    }
    text_printf(ret, ",fsname=");
    append_escaped(ret, front->source);
    return ret->failed ? -ENOMEM : 0;
}

/* A mount whose server died answers ENOTCONN to what its caches cannot: out of the way with it. */
void session_detach_stale(Front *front) {
    struct statvfs st;

    for (unsigned layers = 0; layers < 8; layers++) {
        if (statvfs(front->directory, &st) == 0 || errno != ENOTCONN) {
            return;
        }
        log_notice("%s: detaching a dead mount that was in the way", front->directory);
        if (supervise_unmount(front, true) < 0) {
            return;
        }
        mounts_forget(front->directory);
    }
}

static void write_bdi(dev_t device, const char *name, unsigned value) {
    char path[96];
    _cleanup_close_ int fd = -1;

    (void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/%s", major(device), minor(device),
                   name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || dprintf(fd, "%u\n", value) < 0) {
        log_debug("%s: %m", path);
    }
}

/* Read-ahead of several requests of the largest size, so that one is in flight while another is
 * copied out (a single one was a third slower), and write-back that is not throttled like an
 * untrusted server's. Ordinary users may not, and keep the kernel's careful defaults. */
static void raise_limits(dev_t device) {
    if (geteuid() == 0) {
        write_bdi(device, "read_ahead_kb", 4 * FS_IO_MAX / 1024);
        write_bdi(device, "strict_limit", 0);
        write_bdi(device, "max_ratio", 100);
    }
}

/* INIT comes by itself after mount(2); nothing works before it was answered. */
static int wait_for_init(Front *front) {
    struct pollfd fds[] = {{.fd = front->init_fd, .events = POLLIN},
                           {.fd = front->stop_fd, .events = POLLIN}};
    int r;

    do {
        r = poll(fds, ARRAY_SIZE(fds), 10000);
    } while (r < 0 && errno == EINTR);
    return r > 0 && (fds[0].revents & POLLIN) != 0 ? 0 : -EIO;
}

/* libfuse says what went wrong in lines of its own, to a function without argument: while we mount
 * (one thread), the last one is kept for our own line. */
static char library_text[160];

PRINTF_LIKE(2, 0)
static void library_keep(enum fuse_log_level level, const char *fmt, va_list args) {
    if (level <= FUSE_LOG_WARNING) {
        (void)vsnprintf(library_text, sizeof(library_text), fmt, args);
        library_text[strcspn(library_text, "\n")] = 0;
    }
}

PRINTF_LIKE(2, 0)
static void library_log(enum fuse_log_level level, const char *fmt, va_list args) {
    char line[160];

    (void)vsnprintf(line, sizeof(line), fmt, args);
    line[strcspn(line, "\n")] = 0;
    log_debug("%s", line);
}

static struct fuse_session *session_make(Front *front, const char *options) {
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *session = NULL;

    if (fuse_opt_add_arg(&args, "berthfs") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
        fuse_opt_add_arg(&args, options) == 0) {
        session = fuse_session_new(&args, &front_fuse_ops, sizeof(front_fuse_ops), front);
    }
    fuse_opt_free_args(&args);
    return session;
}

/* The thread that reads requests, and what is to be known of the mount once it answers. */
static int session_start(Front *front) {
    struct stat st;
    int r = 0;

    /* Before anything is read: the kernel would send again what we have begun to execute. */
    if (front->fuse_fd >= 0) {
        r = attach_resend(front);
    }
    if (r == 0) {
        r = thread_start(&front->receiver, receive_thread, front);
    }

    if (r < 0) {
        return r;
    }
    front->receiver_started = true;
    r = wait_for_init(front);
    if (r == 0 && stat(front->directory, &st) < 0) {
        r = -errno;
    }
    if (r < 0) {
        log_error("%s: the mount does not answer: %s", front->directory, strerror(-r));
        return r;
    }
    front->device = st.st_dev;
    return 0;
}

int session_attach(Front *front) {
    _cleanup_(text_done) Text options = {0};
    int r = session_options(front, &options);

    if (r < 0) {
        return r;
    }
    front->long_timeout = LONG_TIMEOUT;
    fuse_set_log_func(library_log);
    front->session = session_make(front, text_string(&options));
    r = front->session == NULL ? -ENOMEM : wire_attach(front, front->fuse_fd);
    if (r == 0) {
        r = wire_replay_init(front);
    }
    if (r < 0) {
        log_error("%s: cannot go on with the mount: %s", front->source_given, strerror(-r));
        return r;
    }
    return session_start(front);
}

int session_mount(Front *front) {
    _cleanup_(text_done) Text options = {0};
    int r = session_options(front, &options);

    if (r < 0) {
        return r;
    }
    front->long_timeout = LONG_TIMEOUT;
    fuse_set_log_func(library_keep);
    front->session = session_make(front, text_string(&options));
    if (front->session == NULL || fuse_session_mount(front->session, front->directory) < 0) {
        log_error("%s: cannot mount on %s%s%s", front->source_given, front->directory,
                  library_text[0] != 0 ? ": " : "", library_text);
        if (front->session != NULL) {
            fuse_session_destroy(front->session);
            front->session = NULL;
        }
        return -EPERM;
    }
    fuse_set_log_func(library_log);
    r = wire_attach(front, fuse_session_fd(front->session));
    if (r < 0) {
        (void)supervise_unmount(front, true);
        return r;
    }
    r = session_start(front);
    if (r < 0) {
        (void)supervise_unmount(front, true);
        return r;
    }
    raise_limits(front->device);
    return 0;
}

void session_done(Front *front) {
    if (front->session != NULL) {
        /* Sees by itself that the mount has gone, and unmounts only what has not. */
        fuse_session_unmount(front->session);
        fuse_session_destroy(front->session);
        front->session = NULL;
    }
}
