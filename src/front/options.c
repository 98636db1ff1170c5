/* SPDX-License-Identifier: MIT */
/*
 * Mount options sort themselves into four: berthfs's own (type=, part=,
 * daemon= …), those of the kernel (noexec, noatime …), those that fstab and
 * mount(8) pass along and that mean nothing here, and the rest, which belongs to
 * the daemon. Pure: nothing is opened, nothing logged.
 */
#include "berth/options.h"
#include "berth/front.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>

typedef struct Parse {
    FrontOptions *options;
    char *text; /* 256 bytes */
} Parse;

/* Meant for others, or what we do anyway. */
static const char *const dropped[] = {
    "auto",       "noauto",     "nofail",      "_netdev",       "user",
    "nouser",     "users",      "nousers",     "owner",         "noowner",
    "group",      "nogroup",    "defaults",    "comment",       "uhelper",
    "helper",     "exec",       "async",       "atime",         "diratime",
    "relatime",   "norelatime", "strictatime", "nostrictatime", "lazytime",
    "nolazytime", "iversion",   "noiversion",  "mand",          "nomand",
    "silent",     "loud",       "nosuid",      "nodev",         "default_permissions",
    "fsname",     "subtype",    "loop",        "nodiratime",
};

static const char *const kernel_flags[] = {"noexec", "noatime", "sync", "dirsync"};
/* Only an administrator may lift the defaults. */
static const char *const admin_flags[] = {"suid", "dev"};

static bool in_list(const char *name, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void append_option(Text *text, const char *name, const char *value) {
    if (text->length > 0) {
        text_append(text, ",", 1);
    }
    text_append(text, name, strlen(name));
    if (value == NULL) {
        return;
    }
    text_append(text, "=", 1);
    for (; *value != 0; value++) {
        if (*value == ',' || *value == '\\') {
            text_append(text, "\\", 1);
        }
        text_append(text, value, 1);
    }
}

static int complain(const Parse *parse, const char *name, const char *value, const char *why) {
    (void)snprintf(parse->text, 256, "option %.60s%s%.80s: %s", name, value != NULL ? "=" : "",
                   value != NULL ? value : "", why);
    return -EINVAL;
}

static int set_string(const Parse *parse, char *to, size_t capacity, const char *name,
                      const char *value) {
    if (value == NULL || value[0] == 0 || strlen(value) >= capacity) {
        return complain(parse, name, value, "a value is needed, and not such a long one");
    }
    memcpy(to, value, strlen(value) + 1);
    return 0;
}

static int set_id(const Parse *parse, const char *name, const char *value, bool group,
                  uint32_t *ret) {
    const struct passwd *user;
    const struct group *members;
    uint32_t id;

    if (value == NULL) {
        return complain(parse, name, value, "a number or a name is needed");
    }
    if (parse_u32(value, &id) == 0) {
        *ret = id;
        return 0;
    }
    if (group) {
        members = getgrnam(value);
        if (members != NULL) {
            *ret = members->gr_gid;
            return 0;
        }
    } else {
        user = getpwnam(value);
        if (user != NULL) {
            *ret = user->pw_uid;
            return 0;
        }
    }
    return complain(parse, name, value, group ? "no such group" : "no such user");
}

static int set_mask(const Parse *parse, const char *name, const char *value) {
    FrontOptions *options = parse->options;
    uint32_t mask;

    if (value == NULL || parse_octal(value, 0777, &mask) < 0) {
        return complain(parse, name, value, "an octal number up to 777 is needed");
    }
    if (name[0] != 'd') {
        options->fmask = mask;
    }
    if (name[0] != 'f') {
        options->dmask = mask;
    }
    return 0;
}

static int set_daemon(const Parse *parse, const char *name, const char *value) {
    FrontOptions *options = parse->options;

    if (value != NULL && strcmp(value, "always") == 0) {
        options->daemon = FRONT_DAEMON_ALWAYS;
    } else if (value != NULL && strcmp(value, "auto") == 0) {
        options->daemon = FRONT_DAEMON_AUTO;
    } else if (value != NULL && strcmp(value, "never") == 0) {
        options->daemon = FRONT_DAEMON_NEVER;
    } else if (value != NULL && strcmp(value, "unit") == 0) {
        options->daemon = FRONT_DAEMON_UNIT;
    } else {
        return complain(parse, name, value, "always, auto, never or unit");
    }
    return 0;
}

static int set_daemon_socket(const Parse *parse, const char *name, const char *value) {
    FrontOptions *options = parse->options;

    if (value == NULL || value[0] != '/' || strlen(value) >= sizeof(options->daemon_socket)) {
        return complain(parse, name, value, "the absolute path of a socket is needed");
    }
    (void)snprintf(options->daemon_socket, sizeof(options->daemon_socket), "%s", value);
    options->daemon = FRONT_DAEMON_UNIT;
    return 0;
}

static int set_transport(const Parse *parse, const char *name, const char *value) {
    FrontOptions *options = parse->options;

    if (value != NULL && strcmp(value, "ring") == 0) {
        options->transport = FRONT_TRANSPORT_RING;
    } else if (value != NULL && strcmp(value, "socket") == 0) {
        options->transport = FRONT_TRANSPORT_SOCKET;
    } else {
        return complain(parse, name, value, "ring or socket");
    }
    return 0;
}

static int set_sandbox(const Parse *parse, const char *name, const char *value) {
    if (value == NULL || sandbox_mode_parse(value, &parse->options->sandbox) < 0) {
        return complain(parse, name, value, "auto, require or off");
    }
    return 0;
}

static int set_heartbeat(const Parse *parse, const char *name, const char *value) {
    uint32_t seconds;

    if (value == NULL || parse_u32(value, &seconds) < 0 || seconds > 86400) {
        return complain(parse, name, value, "a number of seconds is needed, 0 for none");
    }
    parse->options->heartbeat = seconds;
    return 0;
}

static int set_journal(const Parse *parse, const char *name, const char *value) {
    Text *journal = &parse->options->journal;

    if (value == NULL || value[0] == 0) {
        return complain(parse, name, value, "the name of a file is needed");
    }
    journal->length = 0;
    text_append(journal, value, strlen(value));
    return journal->failed ? -ENOMEM : 0;
}

static int set_start(const Parse *parse, const char *name, const char *value) {
    if (value == NULL || (parse_u64(value, &parse->options->start) < 0 &&
                          parse_size(value, &parse->options->start) < 0)) {
        return complain(parse, name, value, "a number of bytes is needed");
    }
    parse->options->has_start = true;
    return 0;
}

/* 1: one of berthfs's flags without a value. */
static int own_flag(FrontOptions *options, const char *name) {
    if (strcmp(name, "ro") == 0) {
        options->readonly = true;
        options->readwrite = false;
    } else if (strcmp(name, "rw") == 0) {
        options->readonly = false;
        options->readwrite = true;
    } else if (strcmp(name, "remount") == 0) {
        options->remount = true;
    } else if (strcmp(name, "allow_other") == 0) {
        options->allow_other = true;
    } else if (strcmp(name, "debug") == 0) {
        options->debug = true;
    } else if (strcmp(name, "noholder") == 0) {
        options->noholder = true;
    } else if (strcmp(name, "direct") == 0) {
        options->daemon = FRONT_DAEMON_NEVER;
    } else {
        return 0;
    }
    return 1;
}

/* 1: not one of berthfs's options with a value. */
static int own_value(const Parse *parse, const char *name, const char *value) {
    FrontOptions *options = parse->options;

    if (strcmp(name, "type") == 0) {
        return set_string(parse, options->type, sizeof(options->type), name, value);
    }
    if (strcmp(name, "part") == 0) {
        return set_string(parse, options->part, sizeof(options->part), name, value);
    }
    if (strcmp(name, "journal") == 0) {
        return set_journal(parse, name, value);
    }
    if (strcmp(name, "start") == 0) {
        return set_start(parse, name, value);
    }
    if (strcmp(name, "daemon") == 0) {
        return set_daemon(parse, name, value);
    }
    if (strcmp(name, "daemon-socket") == 0) {
        return set_daemon_socket(parse, name, value);
    }
    if (strcmp(name, "transport") == 0) {
        return set_transport(parse, name, value);
    }
    if (strcmp(name, "sandbox") == 0) {
        return set_sandbox(parse, name, value);
    }
    if (strcmp(name, "heartbeat") == 0) {
        return set_heartbeat(parse, name, value);
    }
    if (strcmp(name, "uid") == 0) {
        return set_id(parse, name, value, false, &options->uid);
    }
    if (strcmp(name, "gid") == 0) {
        return set_id(parse, name, value, true, &options->gid);
    }
    if (strcmp(name, "umask") == 0 || strcmp(name, "fmask") == 0 || strcmp(name, "dmask") == 0) {
        return set_mask(parse, name, value);
    }
    return 1;
}

static bool is_dropped(const char *name) {
    return strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0 ||
           in_list(name, dropped, ARRAY_SIZE(dropped));
}

static int one_option(void *arg, const char *name, const char *value) {
    Parse *parse = arg;
    FrontOptions *options = parse->options;
    int r;

    if (value == NULL && own_flag(options, name) == 1) {
        return 0;
    }
    r = own_value(parse, name, value);
    if (r != 1) {
        return r;
    }
    if (value == NULL && in_list(name, kernel_flags, ARRAY_SIZE(kernel_flags))) {
        append_option(&options->kernel, name, NULL);
    } else if (value == NULL && in_list(name, admin_flags, ARRAY_SIZE(admin_flags))) {
        if (geteuid() == 0) {
            append_option(&options->kernel, name, NULL);
        }
    } else if (!is_dropped(name)) {
        append_option(&options->volume, name, value);
    }
    return options->kernel.failed || options->volume.failed ? -ENOMEM : 0;
}

void front_options_init(FrontOptions *options) {
    *options = (FrontOptions){.uid = (uint32_t)getuid(),
                              .gid = (uint32_t)getgid(),
                              .fmask = 022,
                              .dmask = 022,
                              .heartbeat = FRONT_HEARTBEAT_DEFAULT};
}

void front_options_done(FrontOptions *options) {
    text_done(&options->journal);
    text_done(&options->volume);
    text_done(&options->kernel);
}

int front_options_add(FrontOptions *options, const char *list, char text[256]) {
    Parse parse = {.options = options, .text = text};
    int r;

    text[0] = 0;
    r = options_parse(list, one_option, &parse);
    if (r == -EINVAL && text[0] == 0) {
        (void)snprintf(text, 256, "the option string is too long");
    }
    return r;
}

int front_options_for_volume(const FrontOptions *options, bool readonly, Text *ret) {
    text_printf(ret, "%s,uid=%u,gid=%u,fmask=%03o,dmask=%03o", readonly ? "ro" : "rw", options->uid,
                options->gid, options->fmask, options->dmask);
    if (options->volume.length > 0) {
        text_printf(ret, ",%s", text_string(&options->volume));
    }
    return ret->failed ? -ENOMEM : 0;
}
