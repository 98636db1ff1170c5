/* SPDX-License-Identifier: MIT */
/*
 * Both ends of a front-end's death, as the front-end sees them (man berth-recovery.7,
 * section 13): what it gives to the holder while it lives, and how it begins when it
 * is the successor of one that died. Then the old daemons are ended first, so that a
 * new one can take over the log; the kernel is told INIT's old answer by not telling
 * it anything; and it sends everything again that nobody has answered. Such a request
 * is known by the kernel's number for it, and keeps its slot and sequence.
 */
#include "private.h"

#include "berth/options.h"
#include "manager.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/utsname.h>

#define NOTIFY_RESEND 7
#define HOLD_FD 3

/* ---- while it lives ---- */

/* A holder in the background lets go of the terminal, and of pipes that somebody reads. */
static int let_go_of_standard_fds(posix_spawn_file_actions_t *actions) {
    int r = 0;

    for (int fd = STDIN_FILENO; r == 0 && fd <= STDERR_FILENO; fd++) {
        r = posix_spawn_file_actions_addopen(actions, fd, "/dev/null", O_RDWR, 0);
    }
    return r;
}

static int spawn_holder(Front *front, int fd) {
    posix_spawn_file_actions_t actions;
    size_t count = 0;
    char **argv;
    static char option[] = "--hold=3";
    pid_t pid;
    int r;

    while (front->argv[count] != NULL) {
        count++;
    }
    argv = calloc(count + 2, sizeof(*argv));
    if (argv == NULL) {
        return -ENOMEM;
    }
    argv[0] = front->argv[0];
    argv[1] = option;
    memcpy(argv + 2, front->argv + 1, (count - 1) * sizeof(*argv));
    r = posix_spawn_file_actions_init(&actions);
    if (r == 0) {
        r = posix_spawn_file_actions_adddup2(&actions, fd, HOLD_FD);
        r = r == 0 && !front->options.foreground ? let_go_of_standard_fds(&actions) : r;
        r = r == 0 ? posix_spawn_file_actions_addclosefrom_np(&actions, HOLD_FD + 1) : r;
        r = r == 0 ? posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ) : r;
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    free(argv);
    return -r;
}

/* In the service manager's store (sd_notify(3), FDSTORE) descriptors have names. */
static const char *const store_names[HOLD_NAMES] = {
    [HOLD_FUSE] = "berth-fuse",         [HOLD_IMAGE] = "berth-image",
    [HOLD_LIFELINE] = "berth-lifeline", [HOLD_KEEPSAKE] = "berth-keepsake",
    [HOLD_NODES] = "berth-nodes",       [HOLD_JOURNAL] = "berth-sidejournal"};
#define STORE_DAEMON "berth-daemon-"

static int store(const char *name, int fd) {
    char text[96];

    (void)snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
    return notify_send_fd(text, fd);
}

static void store_remove(const char *name) {
    notify_send("FDSTOREREMOVE=1\nFDNAME=%s", name);
}

static int keep(Front *front, enum HoldName name, int fd) {
    if (front->stored) {
        store_remove(store_names[name]); /* an earlier one */
        return store(store_names[name], fd);
    }
    return front->hold != NULL ? hold_keep(front->hold, name, fd) : 0;
}

static int give_all(Front *front) {
    const int fds[HOLD_NAMES] = {
        [HOLD_FUSE] = fuse_session_fd(front->session), [HOLD_IMAGE] = front->image_fd,
        [HOLD_LIFELINE] = front->lifeline_fd,          [HOLD_KEEPSAKE] = front->keepsake.fd,
        [HOLD_NODES] = front->keepsake.nodes_fd,       [HOLD_JOURNAL] = front->journal_fd};
    int r = 0;

    for (unsigned i = 0; r == 0 && i < HOLD_NAMES; i++) {
        r = fds[i] >= 0 ? keep(front, (enum HoldName)i, fds[i]) : 0;
    }
    return r;
}

/* FUSE_NOTIFY_RESEND came with Linux 6.9. */
static bool kernel_resends(void) {
    struct utsname name;
    unsigned major, minor;

    return uname(&name) == 0 && sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 9));
}

void attach_start_holder(Front *front) {
    Channel *channel = NULL;
    int peer_fd = -1, r;

    if (front->options.noholder || !kernel_resends()) {
        return;
    }
    front->stored = notify_has_store();
    if (front->argv == NULL || front->stored) {
        return;
    }
    r = channel_pair(&channel, &peer_fd);
    if (r == 0) {
        r = spawn_holder(front, peer_fd);
        close(peer_fd);
    }
    if (r < 0) {
        channel_free(channel);
        log_warning("%s: no holder: if berthfs is killed, so is the mount: %s", front->source_given,
                    strerror(-r));
        return;
    }
    front->hold = channel;
}

void attach_give(Front *front) {
    if (give_all(front) < 0) {
        log_warning("%s: the holder has gone: if berthfs is killed, so is the mount",
                    front->source_given);
    }
}

bool attach_is_held(const Front *front) {
    return front->hold != NULL || front->stored;
}

void attach_note_daemon(Front *front, const DaemonProcess *daemon) {
    char name[64];

    if (front->stored) {
        /* Both go again by themselves: the manager drops what has met its end of file, and the
         * process's handle when attach_forget_daemon() says so. */
        (void)snprintf(name, sizeof(name), STORE_DAEMON "%u", daemon->epoch);
        (void)store(name, daemon->pidfd);
        (void)store(STORE_DAEMON "fence", daemon->fence_fd);
    }
    if (front->hold != NULL && hold_daemon(front->hold, daemon->pidfd, daemon->fence_fd) < 0) {
        log_debug("the holder has gone");
    }
}

void attach_forget_daemon(Front *front, const DaemonProcess *daemon) {
    char name[64];

    if (front->stored) {
        (void)snprintf(name, sizeof(name), STORE_DAEMON "%u", daemon->epoch);
        store_remove(name);
    }
}

void attach_end_holder(Front *front) {
    for (unsigned i = 0; front->stored && i < HOLD_NAMES; i++) {
        store_remove(store_names[i]);
    }
    if (front->hold != NULL) {
        /* Its end is the image's lock's. */
        if (hold_end(front->hold) == 0) {
            HoldPacket packet;

            (void)channel_receive(front->hold, &packet, sizeof(packet));
        }
        front->hold = channel_free(front->hold);
    }
}

/* ---- after another one's death ---- */

/* They end by themselves when their front-end does; one that stands still does not. */
static void end_daemons(Front *front, Held *held) {
    for (unsigned i = 0; i < held->daemon_count; i++) {
        struct pollfd fd = {.fd = held->daemons[i].pidfd, .events = POLLIN};

        if (fd.fd >= 0) {
            (void)pidfd_send_signal(fd.fd, SIGKILL, NULL, 0);
            while (poll(&fd, 1, -1) < 0 && errno == EINTR) {
            }
        }
        if (held->daemons[i].fence_fd >= 0) {
            (void)fcntl(held->daemons[i].fence_fd, F_SETFL, O_NONBLOCK);
            fences_add(&front->fences, steal_fd(&held->daemons[i].fence_fd));
        }
    }
}

static int take_paths(Front *front) {
    const KeepsakeHeader *header = front->keepsake.header;

    front->source = strndup(header->source, sizeof(header->source));
    front->directory = strndup(header->directory, sizeof(header->directory));
    front->type = NULL;
    for (const FileSystemType *const *type = front->types; *type != NULL; type++) {
        if (strncmp((*type)->name, header->type, sizeof(header->type)) == 0) {
            front->type = *type;
        }
    }
    front->volume_start = header->volume_start;
    front->volume_length = header->volume_length;
    front->options.readonly = front->options.readonly || header->readonly != 0;
    atomic_store(&front->volume.readonly, front->options.readonly);
    front->epoch = header->epoch;
    atomic_store(&front->last_number, header->last_number);
    return front->source == NULL || front->directory == NULL ? -ENOMEM
           : front->type == NULL                             ? -EPROTO
                                                             : 0;
}

/* The n-th descriptor that the manager passed, by its name. */
static void take_stored(Held *held, const char *name, int fd) {
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    for (unsigned i = 0; i < HOLD_NAMES; i++) {
        if (strcmp(name, store_names[i]) == 0) {
            base_closep(&held->fds[i]);
            held->fds[i] = fd;
            return;
        }
    }
    if (held->daemon_count == HOLD_DAEMONS) {
        close(fd);
    } else if (strcmp(name, STORE_DAEMON "fence") == 0) {
        held->daemons[held->daemon_count++] = (struct HeldDaemon){.pidfd = -1, .fence_fd = fd};
    } else if (strncmp(name, STORE_DAEMON, strlen(STORE_DAEMON)) == 0) {
        held->daemons[held->daemon_count++] = (struct HeldDaemon){.pidfd = fd, .fence_fd = -1};
    } else {
        close(fd);
    }
}

#define LISTEN_FDS_START 3

/* sd_listen_fds(3). */
static void held_from_manager(Held *held) {
    const char *count_text = getenv("LISTEN_FDS"), *names_text = getenv("LISTEN_FDNAMES");
    _cleanup_free_ char *names = names_text != NULL ? strdup(names_text) : NULL;
    char *rest = names, *name;
    uint64_t count = 0;

    if (names == NULL || count_text == NULL || parse_u64(count_text, &count) < 0) {
        return;
    }
    for (int i = 0; (uint64_t)i < MIN(count, UINT64_C(1024)); i++) {
        name = strsep(&rest, ":");
        take_stored(held, name != NULL ? name : "", LISTEN_FDS_START + i);
    }
}

bool attach_is_restart(void) {
    const char *pid_text = getenv("LISTEN_PID"), *names = getenv("LISTEN_FDNAMES");
    uint64_t pid;

    return pid_text != NULL && names != NULL && parse_u64(pid_text, &pid) == 0 &&
           pid == (uint64_t)getpid() && strstr(names, store_names[HOLD_FUSE]) != NULL;
}

int attach_take(Front *front, int fd) {
    Held held;
    int flags, r = 0;

    held_init(&held);
    if (fd > 0) {
        r = channel_new(fd, &front->hold);
        if (r == 0) {
            r = held_receive(front->hold, &held);
        }
    } else {
        held_from_manager(&held);
        front->stored = true;
    }
    for (unsigned i = 0; r == 0 && i < HOLD_NAMES; i++) {
        bool needed = i != HOLD_JOURNAL || front->options.journal.length > 0;

        r = held.fds[i] < 0 && needed ? -EPROTO : 0;
    }
    if (r == 0) {
        keepsake_done(&front->keepsake);
        r = keepsake_open(&front->keepsake, steal_fd(&held.fds[HOLD_KEEPSAKE]),
                          steal_fd(&held.fds[HOLD_NODES]));
    }
    if (r == 0) {
        r = take_paths(front);
    }
    if (r == 0) {
        front->fuse_fd = steal_fd(&held.fds[HOLD_FUSE]);
        front->image_fd = steal_fd(&held.fds[HOLD_IMAGE]);
        front->lifeline_fd = steal_fd(&held.fds[HOLD_LIFELINE]);
        front->journal_fd = steal_fd(&held.fds[HOLD_JOURNAL]);
        flags = fcntl(front->image_fd, F_GETFL);
        front->image_readonly = (flags & O_ACCMODE) == O_RDONLY;
        front->next_image_fd = source_reopen(front);
        end_daemons(front, &held);
        r = nodes_adopt(&front->nodes);
        front->pending.keepsake = front->keepsake.header;
        pending_adopt(&front->pending);
    }
    held_done(&held);
    return r;
}

int attach_resend(Front *front) {
    const struct fuse_out_header notify = {.len = sizeof(notify), .error = NOTIFY_RESEND};

    if (write(fuse_session_fd(front->session), &notify, sizeof(notify)) !=
        (ssize_t)sizeof(notify)) {
        log_error("%s: the kernel does not send again what was lost: %m", front->source_given);
        return -errno;
    }
    return 0;
}
