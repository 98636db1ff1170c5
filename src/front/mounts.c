/* SPDX-License-Identifier: MIT */
/*
 * Which mounts are ours: /proc/self/mountinfo, read in one go and cut into
 * entries. The kernel writes the lines, but sources and directories in them
 * are chosen by users: blanks, newlines and backslashes arrive as octal
 * escapes, and a line that does not have the documented shape is passed over,
 * so that a strange mount elsewhere cannot keep ours from being found.
 * Also the entry in libmount's table that lets umount(8) find our helper. No
 * state, no locks.
 */
#include "berth/control.h"

#include "berth/options.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define MOUNTS_TYPE "fuse.berthfs"
#define MOUNTS_TEXT_MAX (64u << 20) /* far above any real table */

/* Fields of a line, as proc(5) numbers them up to the optional ones. */
enum {
    FIELD_DEVICE = 2,
    FIELD_DIRECTORY = 4,
    FIELD_OPTIONS = 5,
    FIELD_OPTIONAL = 6,
};

static bool mounts_is_octal(const char *digits) {
    for (int i = 0; i < 3; i++) {
        if (digits[i] < '0' || digits[i] > (i == 0 ? '3' : '7')) {
            return false;
        }
    }
    return true;
}

/* In place: "\040" to a blank, and the like. */
static void mounts_unescape(char *text) {
    char *out = text;

    while (*text != '\0') {
        if (text[0] == '\\' && mounts_is_octal(text + 1)) {
            *out++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 4;
        } else {
            *out++ = *text++;
        }
    }
    *out = '\0';
}

/* A list's "ro" or "rw" decides about readonly; the other options are appended to *all. */
static void mounts_take_options(char *list, Text *all, bool *readonly, uid_t *owner) {
    char *save = NULL;

    for (char *item = strtok_r(list, ",", &save); item != NULL; item = strtok_r(NULL, ",", &save)) {
        uint32_t id;

        if (strcmp(item, "ro") == 0) {
            *readonly = true;
        } else if (strcmp(item, "rw") != 0) {
            text_printf(all, ",%s", item);
        }
        if (strncmp(item, "user_id=", 8) == 0 && parse_u32(item + 8, &id) == 0) {
            *owner = id;
        }
    }
}

static void mounts_entry_done(MountEntry *entry) {
    free(entry->source);
    free(entry->directory);
    free(entry->options);
    *entry = (MountEntry){0};
}

static int mounts_fill(MountEntry *entry, char *fields[FIELD_OPTIONAL], char *source,
                       char *super_options) {
    Text rest = {0}, options = {0};
    unsigned device_major, device_minor;
    char tail;

    if (sscanf(fields[FIELD_DEVICE], "%u:%u%c", &device_major, &device_minor, &tail) != 2) {
        return -EINVAL;
    }
    entry->device = makedev(device_major, device_minor);
    entry->owner = (uid_t)-1;
    mounts_take_options(fields[FIELD_OPTIONS], &rest, &entry->readonly, &entry->owner);
    mounts_take_options(super_options, &rest, &entry->readonly, &entry->owner);
    text_printf(&options, "%s%s", entry->readonly ? "ro" : "rw", text_string(&rest));
    mounts_unescape(source);
    mounts_unescape(fields[FIELD_DIRECTORY]);
    entry->source = strdup(source);
    entry->directory = strdup(fields[FIELD_DIRECTORY]);
    if (rest.failed || options.failed || entry->source == NULL || entry->directory == NULL) {
        text_done(&rest);
        text_done(&options);
        return -ENOMEM;
    }
    text_done(&rest);
    mounts_unescape(options.data);
    entry->options = options.data; /* the entry's from here on */
    return 0;
}

/* One line, changed in place. 1: *ret is filled; 0: not one of ours. */
static int mounts_parse_line(char *line, MountEntry *ret) {
    char *fields[FIELD_OPTIONAL], *type, *source, *super_options, *save = NULL;
    MountEntry entry = {0};
    int r;

    for (int i = 0; i < FIELD_OPTIONAL; i++) {
        fields[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (fields[i] == NULL) {
            return 0;
        }
    }
    do { /* any number of optional fields, then a dash */
        type = strtok_r(NULL, " ", &save);
        if (type == NULL) {
            return 0;
        }
    } while (strcmp(type, "-") != 0);
    type = strtok_r(NULL, " ", &save);
    source = strtok_r(NULL, " ", &save);
    super_options = strtok_r(NULL, " ", &save);
    if (super_options == NULL || strcmp(type, MOUNTS_TYPE) != 0) {
        return 0;
    }
    r = mounts_fill(&entry, fields, source, super_options);
    if (r < 0) {
        mounts_entry_done(&entry);
        return r == -EINVAL ? 0 : r;
    }
    *ret = entry;
    return 1;
}

int mounts_parse(const char *text, size_t length, MountEntry **ret, size_t *ret_count) {
    _cleanup_free_ char *copy = strndup(text, length);
    MountEntry *entries = NULL;
    size_t count = 0;
    char *save = NULL;

    if (copy == NULL) {
        return -ENOMEM;
    }
    for (char *line = strtok_r(copy, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        MountEntry entry;
        MountEntry *larger;
        int r = mounts_parse_line(line, &entry);

        if (r == 0) {
            continue;
        }
        larger = r < 0 ? NULL : reallocarray(entries, count + 1, sizeof(*entries));
        if (larger == NULL) {
            if (r > 0) {
                mounts_entry_done(&entry);
            }
            mounts_free(entries, count);
            return -ENOMEM;
        }
        entries = larger;
        entries[count++] = entry;
    }
    *ret = entries;
    *ret_count = count;
    return 0;
}

int mounts_read(MountEntry **ret, size_t *ret_count) {
    _cleanup_close_ int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    char block[1024];
    Text text = {0};
    ssize_t got;
    int r;

    if (fd < 0) {
        return -errno;
    }
    do {
        got = read(fd, block, sizeof(block));
        if (got > 0) {
            text_append(&text, block, (size_t)got);
        }
    } while ((got > 0 && text.length <= MOUNTS_TEXT_MAX) || (got < 0 && errno == EINTR));
    if (got < 0) {
        r = -errno;
    } else if (text.failed) {
        r = -ENOMEM;
    } else if (got > 0) {
        r = -E2BIG;
    } else {
        r = mounts_parse(text_string(&text), text.length, ret, ret_count);
    }
    text_done(&text);
    return r;
}

void mounts_free(MountEntry *entries, size_t count) {
    for (size_t i = 0; i < count; i++) {
        mounts_entry_done(&entries[i]);
    }
    free(entries);
}

static const MountEntry *mounts_find_exactly(const MountEntry *entries, size_t count,
                                             const char *directory) {
    for (size_t i = count; i > 0; i--) {
        if (strcmp(entries[i - 1].directory, directory) == 0) {
            return &entries[i - 1];
        }
    }
    return NULL;
}

const MountEntry *mounts_find(const MountEntry *entries, size_t count, const char *directory) {
    /* A mount whose front-end died may not resolve: then the text itself has to match. */
    _cleanup_free_ char *resolved = realpath(directory, NULL);

    return mounts_find_exactly(entries, count, resolved != NULL ? resolved : directory);
}

/* Starts mount(8) or umount(8), which know how to write utab, in silence. 0: it cannot be had. */
static pid_t mounts_spawn(const char *const arguments[]) {
    posix_spawn_file_actions_t actions;
    pid_t child = 0;

    if (posix_spawn_file_actions_init(&actions) != 0) {
        return 0;
    }
    if (posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO) != 0 ||
        posix_spawn(&child, arguments[0], &actions, NULL, (char *const *)(uintptr_t)arguments,
                    environ) != 0) {
        child = 0;
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return child;
}

void mounts_registered(pid_t helper) {
    while (helper > 0 && waitpid(helper, NULL, 0) < 0 && errno == EINTR) {
    }
}

pid_t mounts_register(const char *source, const char *directory) {
    const char *const arguments[] = {
        "/bin/mount", "--fake",    "--internal-only", "--no-canonicalize",
        "--types",    MOUNTS_TYPE, "--options",       "uhelper=berth",
        "--",         source,      directory,         NULL};

    return geteuid() == 0 ? mounts_spawn(arguments) : 0;
}

void mounts_forget(const char *directory) {
    const char *const arguments[] = {
        "/bin/umount", "--fake", "--internal-only", "--no-canonicalize", "--", directory, NULL};
    MountEntry *entries = NULL;
    bool taken = true;
    size_t count = 0;

    if (geteuid() != 0) {
        return;
    }
    /* The place may have a new mount, and its entry, by now. It must not be looked up: an automount
     * there lets nobody pass before umount(8) is done, which waits for us. */
    if (mounts_read(&entries, &count) == 0) {
        taken = mounts_find_exactly(entries, count, directory) != NULL;
        mounts_free(entries, count);
    }
    if (!taken) {
        mounts_registered(mounts_spawn(arguments));
    }
}
