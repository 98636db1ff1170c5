/* SPDX-License-Identifier: MIT */
/*
 * What the system allows a mount, against what it needs: descriptors, mappings,
 * tasks, locked memory. A mount that runs into one of these later fails in some odd
 * place (a thread that cannot be started, an image that cannot be opened again after
 * a daemon's death), so it is said before, with the name of the knob.
 *
 * The numbers were read off running mounts (contrib/bench/many_mounts shows them) and
 * rounded up.
 */
#include "limits.h"

#include "berth/log.h"
#include "berth/options.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#define FILES_LEAST 64u  /* a quiet mount has 32, a spare and a takeover come on top */
#define FILES_GOOD 1024u /* handles of daemons whose I/O has not ended, requests from berth(1) */
#define MAPPINGS_LEAST 2048u /* of one process: the front-end's arenas, a busy daemon's stacks */
#define TASKS_LEAST 20u /* front-end, daemon, spare, holder: one thread each, and their helpers */
#define TASKS_GOOD 64u  /* and io_uring's workers */
#define LOCKED_LEAST (256u << 10) /* two rings; counted on old kernels only */

static void fclosep_(FILE **file) {
    if (*file != NULL) {
        (void)fclose(*file);
    }
}

/* A file that holds one number; UINT64_MAX for "max", or when it cannot be read. */
static uint64_t read_number(const char *path) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[32];
    uint64_t number;
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (got <= 0) {
        return UINT64_MAX;
    }
    text[got] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return parse_u64(text, &number) == 0 ? number : UINT64_MAX;
}

static int check_files(void) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return -errno;
    }
    if (limit.rlim_cur < FILES_GOOD && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)FILES_GOOD);
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < FILES_LEAST) {
        log_error("a mount needs %u open files, and %" PRIu64 " are allowed: raise the hard limit "
                  "(ulimit -Hn, LimitNOFILE=)",
                  FILES_LEAST, (uint64_t)limit.rlim_cur);
        return -EMFILE;
    }
    return 0;
}

static int check_mappings(void) {
    uint64_t allowed = read_number("/proc/sys/vm/max_map_count");

    if (allowed < MAPPINGS_LEAST) {
        log_error("a busy mount needs %u memory mappings, and %" PRIu64 " are allowed: raise the "
                  "sysctl vm.max_map_count",
                  MAPPINGS_LEAST, allowed);
        return -ENOMEM;
    }
    return 0;
}

/* The directory's own limit, if it has one: *room becomes less, and *where says by whom. */
static void look_at_group(const char *directory, LimitsTasks *tasks) {
    char path[640];
    uint64_t allowed, used, room;

    (void)snprintf(path, sizeof(path), "%s/pids.max", directory);
    allowed = read_number(path);
    (void)snprintf(path, sizeof(path), "%s/pids.current", directory);
    used = read_number(path);
    if (allowed == UINT64_MAX || used == UINT64_MAX) {
        return;
    }
    room = allowed > used ? allowed - used : 0;
    if (room < tasks->room) {
        tasks->room = room;
        (void)snprintf(tasks->where, sizeof(tasks->where), "%s/pids.max", directory);
    }
}

/* A line of /proc/PID/cgroup, "NUMBER:CONTROLLERS:PATH": of the unified hierarchy, or of the older
 * one that counts tasks? The path, or NULL. */
static const char *group_of_line(const char *line, bool *ret_unified) {
    const char *controllers = strchr(line, ':');
    const char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

    if (path == NULL || path[1] != '/') {
        return NULL;
    }
    *ret_unified = path == controllers + 1;
    return *ret_unified || strncmp(controllers, ":pids:", 6) == 0 ? path + 1 : NULL;
}

void limits_tasks(const char *membership, const char *root, LimitsTasks *ret) {
    _cleanup_(fclosep_) FILE *file = fopen(membership, "re");
    char line[512], directory[608];

    *ret = (LimitsTasks){.room = UINT64_MAX};
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *group;
        bool unified;
        char *top;

        line[strcspn(line, "\n")] = '\0';
        group = group_of_line(line, &unified);
        if (group == NULL || snprintf(directory, sizeof(directory), "%s%s%s", root,
                                      unified ? "" : "/pids", group) >= (int)sizeof(directory)) {
            continue;
        }
        /* The limits of all groups above hold as well. */
        top = directory + strlen(directory) - strlen(group);
        for (char *end = directory + strlen(directory); end != NULL && end >= top;
             end = strrchr(directory, '/')) {
            *end = '\0';
            look_at_group(directory, ret);
        }
    }
}

static int check_tasks(void) {
    LimitsTasks tasks;

    limits_tasks("/proc/self/cgroup", "/sys/fs/cgroup", &tasks);
    if (tasks.room < TASKS_LEAST) {
        log_error("a mount needs %u tasks, and its control group allows %" PRIu64 " more: raise "
                  "TasksMax= (%s)",
                  TASKS_LEAST, tasks.room, tasks.where);
        return -EAGAIN;
    }
    if (tasks.room < TASKS_GOOD) {
        log_warning("the control group allows %" PRIu64 " more tasks; a busy mount may need %u: "
                    "TasksMax= (%s)",
                    tasks.room, TASKS_GOOD, tasks.where);
    }
    return 0;
}

/* Since Linux 5.12 a ring's memory is its control group's, and buffers are not registered. */
static void check_locked(void) {
    struct rlimit limit;
    struct utsname name;
    unsigned major, minor;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2 || major > 5 ||
        (major == 5 && minor >= 12) || geteuid() == 0) {
        return;
    }
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_max < LOCKED_LEAST) {
        log_warning("%" PRIu64 " bytes may be locked, the daemons' rings need %u: without them the "
                    "daemons use threads (ulimit -Hl, LimitMEMLOCK=)",
                    (uint64_t)limit.rlim_max, LOCKED_LEAST);
    }
}

int limits_check(void) {
    int r = check_files();

    if (r == 0) {
        r = check_mappings();
    }
    if (r == 0) {
        r = check_tasks();
    }
    if (r == 0) {
        check_locked();
    }
    return r;
}
