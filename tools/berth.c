/* SPDX-License-Identifier: MIT */
/*
 * berth: the command. main() finds the subcommand; each lives in a file of its
 * own. Under the names umount.berth and umount.fuse.berthfs the same program
 * is umount(8)'s helper, so that plain umount waits as well.
 *
 * The shared helpers at the end print, and find and ask mounts; everything
 * that fails says on stderr, in one line, what is wrong with what.
 */
#include "berth.h"

#include "berth/log.h"

#include <getopt.h>
#include <libsmartcols.h>
#include <locale.h>
#include <stdio.h>
#include <unistd.h>

typedef struct Subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} Subcommand;

static const Subcommand subcommands[] = {
    {"mount", cmd_mount, "mount an image or a block device"},
    {"get", cmd_get, "copy files out of an image"},
    {"put", cmd_put, "copy files into an image"},
    {"ls", cmd_ls, "list a directory in an image"},
    {"mkfs", cmd_mkfs, "make a filesystem"},
    {"fsck", cmd_fsck, "check and repair a filesystem"},
    {"umount", cmd_umount, "unmount, and wait until everything is on disk"},
    {"list", cmd_list, "list the mounts, or the filesystem types"},
    {"probe", cmd_probe, "say what an image holds"},
    {"stats", cmd_stats, "show a mount's statistics"},
    {"status", cmd_status, "show a mount's state"},
    {"restart", cmd_restart, "replace a mount's daemon by the program on disk"},
    {"sync", cmd_sync, "write everything of a mount to disk"},
    {"top", cmd_top, "watch what the mounts do"},
};

static void berth_help(void) {
    printf("Usage: berth COMMAND [ARGUMENT...]\n"
           "       berth COMMAND --help\n"
           "\n"
           "Mounts disk images that are not trusted, each behind a process that owns nothing else."
           "\n\nCommands:\n");
    for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++) {
        printf("  %-8s %s\n", subcommands[i].name, subcommands[i].summary);
    }
    printf("\nOptions:\n"
           "  -h, --help     show this\n"
           "  -V, --version  show the version\n");
}

static int berth_run(int argc, char **argv) {
    static const struct option long_options[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    int option = getopt_long(argc, argv, "+hV", long_options, NULL);

    if (option == 'h') {
        berth_help();
        return EXIT_OK;
    }
    if (option == 'V') {
        printf("berth %s\n", BERTH_VERSION);
        return EXIT_OK;
    }
    if (option != -1) {
        return EXIT_USAGE; /* getopt has said why */
    }
    if (optind == argc) {
        log_error("which command? Try berth --help");
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++) {
        if (strcmp(argv[optind], subcommands[i].name) == 0) {
            int first = optind;

            optind = 0; /* the subcommand starts anew */
            return subcommands[i].run(argc - first, argv + first);
        }
    }
    log_error("no command %s. Try berth --help", argv[optind]);
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "berth";
    int code;

    (void)setlocale(LC_ALL, "");
    (void)setlocale(LC_NUMERIC, "C"); /* numbers are read by scripts, and by ourselves */
    if (strcmp(name, "umount.berth") == 0 || strcmp(name, "umount.fuse.berthfs") == 0) {
        log_init(name, LOG_LEVEL_NOTICE);
        return cmd_umount(argc, argv);
    }
    log_init("berth", LOG_LEVEL_NOTICE);
    code = berth_run(argc, argv);
    if (fflush(stdout) != 0) {
        log_error("stdout: %s", strerror(errno));
        return code == EXIT_OK ? EXIT_SYSTEM : code;
    }
    return code;
}

int tool_print(const char *text, size_t length) {
    if (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0) {
        log_error("stdout: %s", strerror(errno));
        return EXIT_SYSTEM;
    }
    return EXIT_OK;
}

int tool_print_document(const Text *document) {
    int code = tool_print(text_string(document), document->length);

    if (code == EXIT_OK &&
        (document->length == 0 || document->data[document->length - 1] != '\n')) {
        code = tool_print("\n", 1);
    }
    return code;
}

int tool_table_finish(struct libscols_table *table, int error) {
    int r = error == 0 ? scols_print_table(table) : error;

    scols_unref_table(table);
    if (r != 0) {
        log_error("cannot print the table: %s", strerror(r < 0 ? -r : r));
    }
    return r == 0 ? EXIT_OK : EXIT_SYSTEM;
}

void tool_mounts_done(ToolMounts *mounts) {
    mounts_free(mounts->entries, mounts->count);
    *mounts = (ToolMounts){0};
}

/* The mount of this source, when there is just one. */
static const MountEntry *tool_mount_of_source(const ToolMounts *mounts, const char *name) {
    _cleanup_free_ char *resolved = realpath(name, NULL);
    const MountEntry *found = NULL;

    for (size_t i = 0; i < mounts->count; i++) {
        const char *source = mounts->entries[i].source;

        if (strcmp(source, resolved != NULL ? resolved : name) == 0) {
            if (found != NULL) {
                return NULL;
            }
            found = &mounts->entries[i];
        }
    }
    return found;
}

int tool_mount_find(ToolMounts *mounts, const char *name, const MountEntry **ret) {
    int r = mounts_read(&mounts->entries, &mounts->count);

    if (r < 0) {
        log_error("cannot read the mount table: %s", strerror(-r));
        return EXIT_SYSTEM;
    }
    *ret = mounts_find(mounts->entries, mounts->count, name);
    if (*ret == NULL) {
        *ret = tool_mount_of_source(mounts, name);
    }
    if (*ret == NULL) {
        log_error("%s: no berth mount is there", name);
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

/* control_call(), with a message on stderr when it fails. */
static int mount_ask(const MountEntry *mount, const char *command, Text *reply) {
    int r = control_call(mount->device, mount->owner, command, reply);

    if (r == 0) {
        return EXIT_OK;
    }
    if (reply->length > 0) {
        log_error("%s: %s: %s", mount->directory, command, text_string(reply));
    } else if (r == -ENOENT || r == -ECONNREFUSED) {
        log_error("%s: its front-end does not answer", mount->directory);
    } else {
        log_error("%s: cannot ask its front-end: %s", mount->directory, strerror(-r));
    }
    return r == -EPERM || r == -EACCES ? EXIT_USAGE : EXIT_SYSTEM;
}

int tool_ask(const char *name, const char *command, Text *reply) {
    ToolMounts mounts = {0};
    const MountEntry *mount = NULL;
    int code = tool_mount_find(&mounts, name, &mount);

    if (code == EXIT_OK) {
        code = mount_ask(mount, command, reply);
    }
    tool_mounts_done(&mounts);
    return code;
}

const char *tool_silence(int error) {
    switch (error) {
    case -ENOENT:
    case -ECONNREFUSED:
        return "dead";
    case -EACCES:
    case -EPERM:
        return "not accessible";
    case -ETIMEDOUT:
        return "stalled";
    default:
        return "unknown";
    }
}
