/* SPDX-License-Identifier: MIT */
/*
 * What the control socket is asked: status, stats, sync, remount. Runs on the
 * control thread; the daemon is asked like by anybody else, through the pending
 * table.
 */
#include "private.h"

#include <fcntl.h>
#include <stdio.h>

#define CONTROL_MS 9000u /* below the control socket's own limit */

static const char *state_name(const Front *front) {
    if (front->direct != NULL) {
        return "direct";
    }
    return atomic_load(&front->daemon_dead) ? "daemon dead" : "running";
}

/* None without a daemon. */
static void sandbox_json(const Front *front, Json *json) {
    char layers[SANDBOX_LAYERS_MAX], *rest = layers, *layer;

    memcpy(layers, front->daemon.sandbox, sizeof(layers));
    json_begin_array(json, "sandbox");
    while ((layer = strsep(&rest, ",")) != NULL) {
        if (layer[0] != '\0') {
            json_string(json, NULL, layer);
        }
    }
    json_end_array(json);
}

static int command_status(Front *front, Text *reply) {
    _cleanup_(text_done) Text options = {0};
    bool readonly = atomic_load(&front->volume.readonly);
    Json json = {.out = reply};
    int r = front_options_for_volume(&front->options, readonly, &options);

    if (r < 0) {
        return r;
    }
    json_begin_object(&json, NULL);
    json_string(&json, "source", front->source);
    json_string(&json, "directory", front->directory);
    json_string(&json, "type", front->type->name);
    json_string(&json, "subtype", front->volume.subtype);
    json_string(&json, "label", front->volume.label);
    json_string(&json, "uuid", front->volume.uuid);
    json_string(&json, "options", text_string(&options));
    json_i64(&json, "frontend_pid", getpid());
    if (front->daemon.pid > 0) {
        json_i64(&json, "daemon_pid", front->daemon.pid);
    } else {
        json_null(&json, "daemon_pid");
    }
    json_u64(&json, "uptime", (clock_monotonic_ns() - front->started_ns) / 1000000000u);
    json_bool(&json, "readonly", readonly);
    json_string(&json, "read_only_reason", front->volume.read_only_reason);
    json_string(&json, "state", state_name(front));
    sandbox_json(front, &json);
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
    if (strcmp(command, "remount ro") == 0) {
        return volume_remount(front, true, reply);
    }
    if (strcmp(command, "remount rw") == 0) {
        return volume_remount(front, false, reply);
    }
    text_printf(reply, "unknown command");
    return -EINVAL;
}
