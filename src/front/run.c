/* SPDX-License-Identifier: MIT */
/*
 * One mount from start to end, in order: paths, image, detection, arenas, daemon
 * (or none), MOUNT, the kernel's mount, the control socket; and back. In the
 * background all of it happens in a child forked before anything is opened; the
 * parent waits on a pipe for the outcome and hands it on as its exit code.
 */
#include "private.h"

#include "limits.h"
#include "manager.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>

#define SMALL_SLOTS 256u
#define LARGE_SLOTS 40u
#define HEAD_ROOM 80u /* a WRITE's header lands directly before its payload */

static void block_signals(sigset_t *ret_old) {
    sigset_t all;

    sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, ret_old);
}

int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg) {
    sigset_t old;
    int r;

    block_signals(&old);
    r = pthread_create(ret, NULL, fn, arg);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}

/* ---- setting up ---- */

/* Of a file that need not be there yet. The caller's; NULL: no memory. */
static char *absolute_path(const char *path) {
    _cleanup_free_ char *here = path[0] != '/' ? getcwd(NULL, 0) : NULL;
    char *all;

    if (here == NULL) {
        return strdup(path);
    }
    return asprintf(&all, "%s/%s", here, path) < 0 ? NULL : all;
}

static int resolve_paths(Front *front, const FrontConfig *config) {
    struct stat st;

    front->source = realpath(config->source, NULL);
    if (front->source == NULL) {
        log_error("%s: %m", config->source);
        return -errno;
    }
    front->directory = realpath(config->directory, NULL);
    if (front->directory == NULL) {
        log_error("%s: %m", config->directory);
        return -errno;
    }
    /* ENOTCONN: a dead mount, which session_mount() moves out of the way. */
    if (stat(front->directory, &st) < 0 ? errno != ENOTCONN : !S_ISDIR(st.st_mode)) {
        log_error("%s: not a directory that can be mounted on", config->directory);
        return -ENOTDIR;
    }
    if (front->options.journal.length > 0) {
        front->journal = absolute_path(text_string(&front->options.journal));
        if (front->journal == NULL) {
            return -ENOMEM;
        }
    }
    if (chdir("/") < 0) {
        return -errno;
    }
    return 0;
}

static int front_init(Front *front, const FrontConfig *config, int ready_fd) {
    int r;

    *front = (Front){.options = config->options,
                     .types = config->types,
                     .source_given = config->source,
                     .ready_fd = ready_fd,
                     .image_fd = -1,
                     .next_image_fd = -1,
                     .lifeline_fd = -1,
                     .journal_fd = -1,
                     .fuse_fd = -1,
                     .argv = config->argv,
                     .started_ns = clock_monotonic_ns()};
    pthread_mutex_init(&front->health_lock, NULL);
    fences_init(&front->fences);
    front->health.state = front->options.daemon == FRONT_DAEMON_NEVER ? "direct" : "running";
    front->stop_fd = eventfd(0, EFD_CLOEXEC);
    front->init_fd = eventfd(0, EFD_CLOEXEC);
    r = front->stop_fd < 0 || front->init_fd < 0 ? -errno : 0;
    if (r == 0 && front->options.daemon != FRONT_DAEMON_NEVER) {
        r = keepsake_new(&front->keepsake);
    }
    if (r == 0) {
        r = pending_table_init(&front->pending);
        front->pending.keepsake = front->keepsake.header;
    }
    if (r == 0) {
        r = nodes_init(&front->nodes, front->keepsake.header != NULL ? &front->keepsake : NULL);
    }
    return r;
}

static int make_arenas(Front *front) {
    int r = arena_new("berth-out", SMALL_SLOTS, LARGE_SLOTS, HEAD_ROOM, true, &front->arena_out);

    if (r == 0) {
        r = arena_new("berth-in", SMALL_SLOTS, LARGE_SLOTS, 0, false, &front->arena_in);
    }
    if (r == 0) {
        r = chores_new(front, &front->chores);
    }
    if (r < 0) {
        log_error("%s: shared memory: %s", front->source_given, strerror(-r));
    }
    return r;
}

static int start_direct(Front *front) {
    int r = direct_new(front, &front->direct);

    if (r < 0) {
        log_error("%s: %s", front->source_given, strerror(-r));
    }
    return r;
}

/* What a daemon leaves to the next one. Its size is the volume's option `log`. */
static int make_lifeline(Front *front) {
    _cleanup_(text_done) Text text = {0};
    FsMountOptions options;
    char why[128] = "";
    int r = front_options_for_volume(&front->options, true, &text);

    if (r == 0) {
        r = fs_options_parse(text_string(&text), &options, why);
    }
    if (r < 0) {
        log_error("%s: %s", front->source_given, why[0] != 0 ? why : strerror(-r));
        return r;
    }
    r = lifeline_memory_new(options.log_bytes, PENDING_TOTAL, &front->lifeline_fd);
    if (r < 0) {
        log_error("%s: memory for the log: %s", front->source_given, strerror(-r));
    }
    return r;
}

static int start_service(Front *front) {
    FrontDaemonMode mode = front->options.daemon;
    DaemonProcess *daemon = NULL;
    int r;

    if (mode == FRONT_DAEMON_NEVER) {
        return start_direct(front);
    }
    r = make_lifeline(front);
    if (r < 0) {
        return r;
    }
    r = daemon_start(front, mode == FRONT_DAEMON_AUTO, &daemon);
    if (r < 0 && mode == FRONT_DAEMON_AUTO) {
        log_warning("%s: %s cannot be started (%s): the filesystem runs inside berthfs, without a "
                    "sandbox",
                    front->source_given, front->type->daemon, strerror(-r));
        return start_direct(front);
    }
    if (r < 0) {
        return r;
    }
    front->daemon = daemon;
    pending_set_daemon(&front->pending, daemon);
    return 0;
}

static void to_syslog(void *arg, LogLevel level, const char *line) {
    static const int priorities[] = {[LOG_LEVEL_ERROR] = LOG_ERR,
                                     [LOG_LEVEL_WARNING] = LOG_WARNING,
                                     [LOG_LEVEL_NOTICE] = LOG_NOTICE,
                                     [LOG_LEVEL_INFO] = LOG_INFO,
                                     [LOG_LEVEL_DEBUG] = LOG_DEBUG};

    syslog(priorities[level], "%s", line);
}

/* Tells the parent, and lets go of the terminal (and of pipes that somebody reads to the end). */
static void report_ready(Front *front) {
    const unsigned char code = FRONT_EXIT_OK;
    int null_fd;

    if (front->ready_fd < 0) {
        return;
    }
    /* Not before the mount: an automount lets nobody pass while it waits for one, but those of the
     * process group that mounts. */
    (void)setsid();
    openlog("berthfs", LOG_PID, LOG_DAEMON);
    log_set_sink(to_syslog, NULL);
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null_fd >= 0 && fd <= 2; fd++) {
        (void)dup2(null_fd, fd);
    }
    if (null_fd > 2) {
        close(null_fd);
    }
    if (write(front->ready_fd, &code, 1) != 1) {
        log_warning("%s: nobody waits for the mount: %m", front->source_given);
    }
    close(steal_fd(&front->ready_fd));
}

static void start_control(Front *front) {
    int r = control_server_new(front->device, status_command, front, &front->control);

    if (r < 0) {
        front->control = NULL;
        log_warning("%s: no control socket (%s): berth will not find this mount",
                    front->source_given, strerror(-r));
    }
}

/* What umount(8) needs, made while the daemon starts. */
static void start_registering(Front *front) {
    session_detach_stale(front); /* it has an entry for this directory as well */
    front->registrar = mounts_register(front->source, front->directory);
    front->registered = true;
}

static void finish_registering(Front *front) {
    mounts_registered(front->registrar);
    front->registrar = 0;
}

/* What another front-end could not find out again. */
static void keep_facts(Front *front) {
    KeepsakeHeader *header = front->keepsake.header;

    (void)snprintf(header->type, sizeof(header->type), "%s", front->type->name);
    (void)snprintf(header->source, sizeof(header->source), "%s", front->source);
    (void)snprintf(header->directory, sizeof(header->directory), "%s", front->directory);
    header->volume_start = front->volume_start;
    header->volume_length = front->volume_length;
    header->readonly = front->options.readonly;
}

/* From here on a signal unmounts; supervise_run() reads them. */
static void take_signals(void) {
    sigset_t ours;

    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &ours, NULL);
}

/* Under a service manager log lines go to the journal, with fields. */
static void start_journal(const Front *front) {
    if (front->options.foreground && journal_is_stderr() &&
        journal_start("berthfs", front->source, front->directory, front->type->name) < 0) {
        log_debug("the journal takes no fields");
    }
}

/* The steps in order; an exit code. On failure the caller takes down what stands. */
static int bring_up(Front *front, const FrontConfig *config) {
    if (limits_check() < 0) {
        return FRONT_EXIT_SYSTEM;
    }
    if (resolve_paths(front, config) < 0 || source_open(front) < 0 || source_detect(front) < 0 ||
        sidejournal_open(front) < 0) {
        return FRONT_EXIT_FAIL;
    }
    start_journal(front);
    if (make_arenas(front) < 0) {
        return FRONT_EXIT_SYSTEM;
    }
    if (front->keepsake.header != NULL) {
        keep_facts(front);
        attach_start_holder(front);
    }
    start_registering(front);
    if (start_service(front) < 0 || volume_mount(front) < 0) {
        return FRONT_EXIT_FAIL;
    }
    if (front->daemon != NULL) {
        daemon_log(front->daemon); /* what it has to say about the volume, while somebody listens */
        if (keeper_new(front) < 0) {
            log_error("%s: no thread to watch the daemon", front->source_given);
            return FRONT_EXIT_SYSTEM;
        }
    }
    take_signals();
    if (session_mount(front) < 0) {
        return FRONT_EXIT_FAIL;
    }
    attach_give(front);
    start_control(front);
    finish_registering(front);
    return FRONT_EXIT_OK;
}

/* The same for a mount whose front-end has died: what is there is taken over. */
static int go_on(Front *front, const FrontConfig *config) {
    _cleanup_(text_done) Text text = {0};
    DaemonProcess *daemon;
    int r = attach_take(front, config->attach_fd);

    if (r == 0) {
        start_journal(front);
        r = make_arenas(front);
    }
    if (r == 0) {
        r = daemon_start(front, false, &daemon);
    }
    if (r == 0) {
        front->daemon = daemon;
        r = volume_recover(front, daemon, false, &text);
    }
    if (r == 0) {
        atomic_store(&front->volume_mounted, true);
        pending_set_daemon(&front->pending, daemon);
        r = keeper_new(front);
    }
    if (r == 0) {
        take_signals();
        r = session_attach(front);
    }
    if (r < 0) {
        log_error("%s: cannot go on with the mount: %s", front->source_given,
                  text.length > 0 ? text_string(&text) : strerror(-r));
        return FRONT_EXIT_FAIL;
    }
    attach_give(front); /* the session's descriptor is the same, the spare is new */
    start_control(front);
    front->registered = true; /* by the first of them */
    return FRONT_EXIT_OK;
}

/* ---- taking down ---- */

/* True when the receiver has ended by itself. A second signal ends us while somebody still uses the
 * detached mount: then the thread stays in its read until the process goes. */
static bool join_receiver(Front *front) {
    uint64_t count;

    if (!front->receiver_started) {
        return true;
    }
    if (fcntl(front->stop_fd, F_SETFL, O_NONBLOCK) < 0 ||
        read(front->stop_fd, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        return false;
    }
    pthread_join(front->receiver, NULL);
    return true;
}

/* Everything that bring_up() made, in reverse. 0 or -errno: something did not reach the image. */
static int take_down(Front *front) {
    bool received, served = front->epoch > 0 || front->direct != NULL;
    int r = 0;

    /* First: the mount's device number may be another mount's at any moment. */
    front->control = control_server_free(front->control);
    received = join_receiver(front);
    finish_registering(front);
    if (front->registered) {
        mounts_forget(front->directory);
    }
    if (served) {
        r = supervise_shutdown(front);
    }
    attach_end_holder(front);
    if (!received || r == -ETIMEDOUT) {
        return r; /* threads still run: the process's end releases the rest */
    }
    front->daemon = daemon_free(front->daemon);
    if (front->direct == NULL) {
        pending_fail_all(front, -EIO); /* EVICTs that it did not answer any more */
    }
    front->keeper = keeper_free(front->keeper);
    front->chores = chores_free(front->chores);
    session_done(front);
    front->direct = direct_free(front->direct);
    fences_done(&front->fences);
    arena_free(front->arena_in);
    arena_free(front->arena_out);
    base_closep(&front->lifeline_fd);
    base_closep(&front->journal_fd);
    base_closep(&front->next_image_fd);
    base_closep(&front->image_fd);
    pthread_mutex_destroy(&front->health_lock);
    nodes_done(&front->nodes);
    pending_table_done(&front->pending);
    if (front->keepsake.header != NULL) {
        keepsake_done(&front->keepsake);
    }
    close(front->stop_fd);
    close(front->init_fd);
    free(front->source);
    free(front->directory);
    free(front->journal);
    return r;
}

/* A mount that failed half-way: nothing was written, the daemon only has to go. */
static int serve(const FrontConfig *config, int ready_fd) {
    _cleanup_free_ Front *front = calloc(1, sizeof(*front));
    int code, r = front == NULL ? -ENOMEM : front_init(front, config, ready_fd);

    if (r < 0) {
        log_error("%s: %s", config->source, strerror(-r));
        return FRONT_EXIT_SYSTEM;
    }
    if (config->attach_fd > 0 || attach_is_restart()) {
        if (config->attach_fd > 0) { /* nobody reads our stderr */
            (void)prctl(PR_SET_NAME, "berthfs");
            openlog("berthfs", LOG_PID, LOG_DAEMON);
            log_set_sink(to_syslog, NULL);
        }
        code = go_on(front, config);
        if (code != FRONT_EXIT_OK) {
            _exit(code); /* as if killed: the holder has all of it, and tries again */
        }
    } else {
        code = bring_up(front, config);
    }
    if (code == FRONT_EXIT_OK) {
        notify_send("READY=1\nSTATUS=%s on %s", front->source, front->directory);
        report_ready(front);
        supervise_run(front);
        notify_send("STOPPING=1\nSTATUS=bringing everything to %s", front->source);
    }
    r = take_down(front);
    if (code == FRONT_EXIT_OK && r < 0) {
        code = FRONT_EXIT_FAIL;
    }
    if (r == -ETIMEDOUT) {
        exit(code);
    }
    return code;
}

/* ---- background ---- */

static int child_outcome(pid_t pid) {
    int status;

    if (waitpid(pid, &status, 0) < 0) {
        return FRONT_EXIT_SYSTEM;
    }
    if (WIFEXITED(status)) {
        return WEXITSTATUS(status);
    }
    log_error("ended by signal %d before the mount was there", WTERMSIG(status));
    return WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGTERM ? FRONT_EXIT_SIGNAL
                                                                     : FRONT_EXIT_BUG;
}

static int run_in_background(const FrontConfig *config) {
    unsigned char code;
    int fds[2];
    pid_t pid;
    ssize_t n;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        log_error("pipe: %m");
        return FRONT_EXIT_SYSTEM;
    }
    pid = fork();
    if (pid < 0) {
        log_error("fork: %m");
        return FRONT_EXIT_SYSTEM;
    }
    if (pid == 0) {
        /* Nothing of the caller's stays open: locks and pipes of his would live on with us. */
        int ready_fd = dup2(fds[1], 3);

        (void)fcntl(ready_fd, F_SETFD, FD_CLOEXEC);
        (void)syscall(SYS_close_range, 4, ~0u, 0);
        exit(serve(config, ready_fd));
    }
    close(fds[1]);
    do {
        n = read(fds[0], &code, 1);
    } while (n < 0 && errno == EINTR);
    close(fds[0]);
    return n == 1 ? code : child_outcome(pid);
}

/* Standard descriptors that the caller closed must not become the image, which log lines would then
 * be written to. */
static int fill_standard_fds(void) {
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            return -errno;
        }
    } while (fd <= STDERR_FILENO);
    close(fd);
    return 0;
}

int front_run(const FrontConfig *config) {
    (void)signal(SIGPIPE, SIG_IGN);
    if (fill_standard_fds() < 0) {
        return FRONT_EXIT_SYSTEM;
    }
    notify_init();
    if (config->options.debug) {
        (void)setenv("BERTH_DEBUG", "1", 1); /* the daemon's side as well */
        log_init("berthfs", LOG_LEVEL_DEBUG);
    }
    return config->options.foreground || config->attach_fd > 0 ? serve(config, -1)
                                                               : run_in_background(config);
}
