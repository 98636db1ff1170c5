/* SPDX-License-Identifier: MIT */
/*
 * The volume as the daemon has it: MOUNT with the options that are its own, what
 * it says about itself, REMOUNT.
 */
#include "private.h"

#include <stdio.h>

#define MOUNT_MS (10u * 60 * 1000)
#define RECOVER_MS 60000u
#define RECOVER_MS_LEAST 10000u
#define RECOVER_HEARTBEATS 4u

static void copy_value(char *to, size_t capacity, const char *value) {
    (void)snprintf(to, capacity, "%s", value);
}

static void info_line(VolumeInfo *info, const char *key, const char *value) {
    uint64_t number;

    if (strcmp(key, "label") == 0) {
        copy_value(info->label, sizeof(info->label), value);
    } else if (strcmp(key, "uuid") == 0) {
        copy_value(info->uuid, sizeof(info->uuid), value);
    } else if (strcmp(key, "subtype") == 0) {
        copy_value(info->subtype, sizeof(info->subtype), value);
    } else if (strcmp(key, "block_size") == 0) {
        char *end;

        number = strtoull(value, &end, 10);
        info->block_size = *end == 0 && number <= UINT32_MAX ? (uint32_t)number : 0;
    } else if (strcmp(key, "case") == 0) {
        info->case_insensitive = strcmp(value, "fold") == 0;
    } else if (strcmp(key, "readonly") == 0) {
        if (strcmp(value, "0") != 0 && strcmp(value, "no") != 0 && strcmp(value, "false") != 0) {
            atomic_store(&info->readonly, true);
        }
    } else if (strcmp(key, "read_only_reason") == 0) {
        copy_value(info->read_only_reason, sizeof(info->read_only_reason), value);
    }
}

/* "key=value" lines; what is not known is for somebody else. */
static void info_parse(VolumeInfo *info, char *text) {
    char *state = NULL, *equals;

    for (char *line = strtok_r(text, "\n", &state); line != NULL;
         line = strtok_r(NULL, "\n", &state)) {
        equals = strchr(line, '=');
        if (equals != NULL) {
            *equals = 0;
            info_line(info, line, equals + 1);
        }
    }
}

static void say_failure(Front *front, int error, const Text *text) {
    char death[160];
    int status;

    if (front->daemon != NULL && daemon_reap(front->daemon, 200, &status)) {
        daemon_death_text(front->daemon, status, death);
        log_error("%s: %s %s", front->source_given, front->type->daemon, death);
        return;
    }
    if (text->length > 0) {
        copy_value(front->volume.told, sizeof(front->volume.told), text_string(text));
    } else {
        if (front->daemon != NULL) {
            daemon_log(front->daemon); /* it may say why */
        }
    }
    log_error("%s: %s", front->source_given,
              text->length > 0 ? text_string(text) : strerror(-error));
}

int volume_mount(Front *front) {
    _cleanup_(text_done) Text options = {0};
    _cleanup_(text_done) Text answer = {0};
    bool readonly = front->options.readonly || front->image_readonly;
    FSResponse response;
    int r = front_options_for_volume(&front->options, readonly, &options);

    if (r == 0 && options.length > FS_INLINE_MAX) {
        log_error("%s: the mount options are longer than %u bytes", front->source_given,
                  FS_INLINE_MAX);
        return -EINVAL;
    }
    if (r == 0) {
        r = front_call(front, FS_MSG_MOUNT, readonly ? FS_REQ_READONLY : 0, text_string(&options),
                       MOUNT_MS, &response, &answer);
    }
    if (r < 0) {
        say_failure(front, r, &answer);
        return r;
    }
    atomic_store(&front->volume_mounted, true);
    atomic_store(&front->volume.readonly, readonly || (response.flags & FS_RESP_READONLY) != 0);
    if (answer.length > 0) {
        info_parse(&front->volume, answer.data);
    }
    if (atomic_load(&front->volume.readonly) && !readonly) {
        log_warning("%s: mounted read-only%s%s", front->source_given,
                    front->volume.read_only_reason[0] != 0 ? ": " : "",
                    front->volume.read_only_reason);
        copy_value(front->volume.told, sizeof(front->volume.told), front->volume.read_only_reason);
    }
    r = front_call(front, FS_MSG_LIST_XATTR, 0, NULL, MOUNT_MS, &response, NULL);
    front->volume.no_xattr = r == -EOPNOTSUPP || r == -ENOSYS;
    return 0;
}

/* How long a successor may take: one that hangs must not hold up the volume for much longer than
 * the heartbeat would let it. */
static unsigned recover_ms(const Front *front) {
    unsigned heartbeat = front->options.heartbeat;

    if (heartbeat == 0 || heartbeat > RECOVER_MS / 1000 / RECOVER_HEARTBEATS) {
        return RECOVER_MS;
    }
    return MAX(heartbeat * 1000 * RECOVER_HEARTBEATS, RECOVER_MS_LEAST);
}

int volume_recover(Front *front, DaemonProcess *daemon, bool readonly, Text *ret_text) {
    _cleanup_(text_done) Text options = {0};
    uint16_t flags = FS_REQ_RECOVER;
    FSResponse response;
    int r;

    readonly = readonly || front->options.readonly || front->image_readonly;
    r = front_options_for_volume(&front->options, readonly, &options);
    if (r < 0) {
        return r;
    }
    if (readonly) {
        flags |= FS_REQ_READONLY;
    }
    r = front_call_at(front, daemon, FS_MSG_MOUNT, flags, atomic_load(&front->last_number),
                      text_string(&options), recover_ms(front), &response, ret_text);
    if (r == 0) {
        pthread_mutex_lock(&front->pending.lock);
        front->pending.base = atomic_load(&front->last_number);
        pthread_mutex_unlock(&front->pending.lock);
    }
    if (r == 0 && front->volume.block_size == 0 && ret_text->length > 0) {
        info_parse(&front->volume, ret_text->data); /* a new front-end hears it the first time */
    }
    return r;
}

int volume_remount(Front *front, bool readonly, Text *ret_text) {
    FSResponse response;
    int r;

    if (!readonly && front->image_readonly) {
        text_printf(ret_text, "the image was opened for reading only: unmount and mount again");
        return -EROFS;
    }
    r = front_call(front, FS_MSG_REMOUNT, readonly ? FS_REQ_READONLY : 0, NULL, 60000, &response,
                   ret_text);
    if (r == 0) {
        atomic_store(&front->volume.readonly, readonly);
        front->options.readonly = readonly;
        if (front->keepsake.header != NULL) {
            front->keepsake.header->readonly = readonly;
        }
        ret_text->length = 0;
    } else if (ret_text->length == 0) {
        text_printf(ret_text, "%s", strerror(-r));
    }
    return r;
}
