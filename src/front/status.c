/* SPDX-License-Identifier: MIT */
/*
 * What the control socket is asked: status, stats, sync, restart, remount. Runs on the
 * control thread; the daemon is asked like by anybody else, through the pending
 * table.
 */
#include "private.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#define CONTROL_MS 9000u /* below the control socket's own limit */

/* None without a daemon. */
static void sandbox_json(const DaemonHealth *health, Json *json) {
    char layers[SANDBOX_LAYERS_MAX], *rest = layers, *layer;

    memcpy(layers, health->sandbox, sizeof(layers));
    json_begin_array(json, "sandbox");
    while ((layer = strsep(&rest, ",")) != NULL) {
        if (layer[0] != '\0') {
            json_string(json, NULL, layer);
        }
    }
    json_end_array(json);
}

static void pid_json(Json *json, const char *key, pid_t pid) {
    if (pid > 0) {
        json_i64(json, key, pid);
    } else {
        json_null(json, key);
    }
}

/* The daemon that serves now, and how its predecessors fared. */
static void daemon_json(const DaemonHealth *health, Json *json) {
    json_begin_object(json, "daemon");
    pid_json(json, "pid", health->pid);
    pid_json(json, "spare_pid", health->spare_pid);
    json_u64(json, "restarts", health->restarts);
    json_u64(json, "recovery_us", health->recovery_us);
    json_string(json, "last_error", health->last_error);
    json_end_object(json);
}

/* What the daemon says of a volume that it made read-only while it ran: not among what it told at
 * the mount. Cut where JSON would have to escape. */
static void reason_of_daemon(Front *front, char *ret, size_t size) {
    static const char member[] = "\"read_only_reason\": \"";
    _cleanup_(text_done) Text stats = {0};
    FSResponse response;
    const char *found;

    if (front_call(front, FS_MSG_GET_STATS, 0, NULL, CONTROL_MS, &response, &stats) == 0) {
        found = strstr(text_string(&stats), member);
        if (found != NULL) {
            found += strlen(member);
            (void)snprintf(ret, size, "%.*s", (int)strcspn(found, "\"\\"), found);
        }
    }
}

/* "" when the mount can be written. */
static void read_only_reason(Front *front, const DaemonHealth *health, char *ret, size_t size) {
    const char *reason = front->volume.read_only_reason;

    ret[0] = '\0';
    if (!atomic_load(&front->volume.readonly)) {
        return;
    }
    if (front->options.readonly) {
        reason = "mounted with ro";
    } else if (front->image_readonly) {
        reason = "the image cannot be written";
    } else if (reason[0] == '\0' && strcmp(health->state, "read-only") == 0) {
        reason = health->last_error;
    }
    (void)snprintf(ret, size, "%s", reason);
    if (ret[0] == '\0') {
        reason_of_daemon(front, ret, size);
    }
}

/* How messages travel to the daemon, whatever the option says. */
static const char *transport_name(const Front *front, const DaemonHealth *health) {
    if (front->direct != NULL) {
        return "none";
    }
    return health->ring ? "ring" : "socket";
}

/* Where it is now: it may have been moved. */
static void journal_json(const Front *front, Json *json) {
    _cleanup_free_ char *path = calloc(1, PATH_MAX);
    char link[64];

    if (front->journal_fd < 0 || path == NULL) {
        return;
    }
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", front->journal_fd);
    if (readlink(link, path, PATH_MAX - 1) >= 0) {
        json_string(json, "journal", path);
    }
}

static int command_status(Front *front, Text *reply) {
    _cleanup_(text_done) Text options = {0};
    bool readonly = atomic_load(&front->volume.readonly);
    const DaemonHealth health = keeper_health(front);
    char reason[256];
    Json json = {.out = reply};
    int r = front_options_for_volume(&front->options, readonly, &options);

    if (r < 0) {
        return r;
    }
    read_only_reason(front, &health, reason, sizeof(reason));
    json_begin_object(&json, NULL);
    json_string(&json, "source", front->source);
    json_string(&json, "directory", front->directory);
    json_string(&json, "type", front->type->name);
    json_string(&json, "subtype", front->volume.subtype);
    json_string(&json, "label", front->volume.label);
    json_string(&json, "uuid", front->volume.uuid);
    json_string(&json, "options", text_string(&options));
    journal_json(front, &json);
    json_string(&json, "transport", transport_name(front, &health));
    json_i64(&json, "frontend_pid", getpid());
    pid_json(&json, "daemon_pid", health.pid);
    daemon_json(&health, &json);
    json_u64(&json, "uptime", (clock_monotonic_ns() - front->started_ns) / 1000000000u);
    json_bool(&json, "readonly", readonly);
    json_string(&json, "read_only_reason", reason);
    json_bool(&json, "lost", atomic_load(&front->daemon_dead) && !atomic_load(&front->rescued));
    json_string(&json, "state", health.state);
    sandbox_json(&health, &json);
    json_end_object(&json);
    text_append(reply, "\n", 1);
    return reply->failed ? -ENOMEM : 0;
}

/* Puts the front-end's own numbers into the daemon's object, as its last member. */
static void append_own_stats(Front *front, Text *reply) {
    size_t end = reply->length;
    Json json = {.out = reply};

    while (end > 0 && (reply->data[end - 1] == '\n' || reply->data[end - 1] == ' ')) {
        end--;
    }
    if (end < 3 || reply->data[0] != '{' || reply->data[end - 1] != '}') {
        return; /* not what a daemon of ours says: passed on as it is */
    }
    reply->length = end - 1;
    text_printf(reply, ", \"frontend\": ");
    wire_stats_json(front, &json);
    text_append(reply, "}\n", 2);
}

/* The daemon's JSON as it is, but for what could harm a terminal. */
static int command_stats(Front *front, Text *reply) {
    FSResponse response;
    int r = front_call(front, FS_MSG_GET_STATS, 0, NULL, CONTROL_MS, &response, reply);

    if (r < 0) {
        reply->length = 0;
        text_printf(reply, "%s", strerror(-r));
        return r;
    }
    for (size_t i = 0; i < reply->length; i++) {
        unsigned char c = (unsigned char)reply->data[i];

        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
            reply->data[i] = ' ';
        }
    }
    append_own_stats(front, reply);
    return reply->failed ? -ENOMEM : 0;
}

/* Everything: what the kernel still holds of files, then what the daemon holds. */
static int command_sync(Front *front, Text *reply) {
    _cleanup_close_ int fd = open(front->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FSResponse response;
    int r = 0;

    if (fd < 0 || syncfs(fd) < 0) {
        r = -errno;
    }
    if (r == 0 && !atomic_load(&front->volume.readonly)) {
        r = front_call(front, FS_MSG_SYNC, 0, NULL, CONTROL_MS, &response, NULL);
    }
    if (r < 0) {
        text_printf(reply, "%s", strerror(-r));
    }
    return r;
}

static int command_restart(Front *front, Text *reply) {
    char text[160] = "";
    int r = -EOPNOTSUPP;

    if (front->keeper == NULL) {
        text_printf(reply, "the filesystem runs inside berthfs");
    } else {
        r = keeper_restart(front->keeper, text);
        text_printf(reply, "%s", text);
    }
    return r;
}

int status_command(void *arg, const char *command, Text *reply) {
    Front *front = arg;

    if (strcmp(command, "status") == 0) {
        return command_status(front, reply);
    }
    if (strcmp(command, "stats") == 0) {
        return command_stats(front, reply);
    }
    if (strcmp(command, "sync") == 0) {
        return command_sync(front, reply);
    }
    if (strcmp(command, "restart") == 0) {
        return command_restart(front, reply);
    }
    if (strcmp(command, "remount ro") == 0) {
        return volume_remount(front, true, reply);
    }
    if (strcmp(command, "remount rw") == 0) {
        return volume_remount(front, false, reply);
    }
    text_printf(reply, "unknown command");
    return -EINVAL;
}
