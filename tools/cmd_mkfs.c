/* SPDX-License-Identifier: MIT */
/*
 * berth mkfs and berth fsck: become mkfs.TYPE or fsck.TYPE, which take all
 * further arguments. They lie beside this program in the build tree, in sbindir
 * when installed; those of other people (fsck.fat) are found by PATH.
 */
#include "berth.h"

#include "berth/log.h"
#include "berth/partition.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>

#define TYPE_MAX 31u

/* Types are parts of file names: nothing but letters and digits. */
static bool is_type(const char *type) {
    size_t length = strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789");

    return length > 0 && length <= TYPE_MAX && type[length] == '\0';
}

/* Replaces this process; returns only when that failed. */
static int become(const char *tool, const char *type, char **argv) {
    char name[64], path[1024];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - sizeof(name));
    char *slash;

    (void)snprintf(name, sizeof(name), "%s.%s", tool, type);
    argv[0] = name;
    if (length > 0) {
        path[length] = '\0';
        slash = strrchr(path, '/');
        if (slash != NULL) {
            (void)snprintf(slash + 1, sizeof(name), "%s", name);
            (void)execv(path, argv);
        }
    }
    (void)snprintf(path, sizeof(path), "%s/%s", BERTH_SBINDIR, name);
    (void)execv(path, argv);
    (void)execvp(name, argv);
    log_error("cannot start %s: %s", name, strerror(errno));
    return EXIT_SYSTEM;
}

static void become_help(const char *tool) {
    printf("Usage: berth %s %s [ARGUMENT...]\n"
           "\n"
           "Runs %s.TYPE with the arguments: berth %s -t hfs --help says more.\n"
           "%s"
           "\n"
           "  -t, --type TYPE  the filesystem: hfs, or any other that has such a program\n"
           "  -h, --help       show this\n",
           tool, strcmp(tool, "mkfs") == 0 ? "-t TYPE" : "[-t TYPE]", tool, tool,
           strcmp(tool, "fsck") == 0
               ? "Without -t the type is the one that the last argument, an image, holds.\n"
               : "");
}

/* "-tTYPE", "-t TYPE", "--type=TYPE", "--type TYPE" as the first argument. Returns how many
 * arguments that is. */
static int take_type(int argc, char **argv, const char **ret) {
    const char *first = argc > 1 ? argv[1] : "";

    if (strcmp(first, "-t") == 0 || strcmp(first, "--type") == 0) {
        *ret = argc > 2 ? argv[2] : "";
        return argc > 2 ? 2 : 1;
    }
    if (strncmp(first, "-t", 2) == 0) {
        *ret = first + 2;
        return 1;
    }
    if (strncmp(first, "--type=", 7) == 0) {
        *ret = first + 7;
        return 1;
    }
    return 0;
}

/* What the image holds; "" when that is nothing, or several things. */
static void probe_type(const char *file, char ret[TYPE_MAX + 1]) {
    _cleanup_free_ ImageProbe *probe = calloc(1, sizeof(*probe));
    _cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char text[256];
    const char *type = "";

    ret[0] = '\0';
    if (probe == NULL || fd < 0 || partition_probe_isolated(fd, probe, text) < 0) {
        return;
    }
    if (probe->table.kind == PARTITION_NONE) {
        type = probe->whole.type;
    }
    for (unsigned i = 0; i < probe->table.count; i++) {
        const char *is = probe->volumes[i].type;

        if (is[0] != '\0') {
            type = type[0] == '\0' || strcmp(type, is) == 0 ? is : "?";
        }
    }
    if (is_type(type)) {
        (void)snprintf(ret, TYPE_MAX + 1, "%s", type);
    }
}

static int run_tool(const char *tool, bool guess, int argc, char **argv) {
    char guessed[TYPE_MAX + 1];
    const char *type = NULL;
    int taken = take_type(argc, argv, &type);

    if (taken == 0 && argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        become_help(tool);
        return EXIT_OK;
    }
    if (type == NULL && guess && argc > 1) {
        probe_type(argv[argc - 1], guessed);
        if (guessed[0] == '\0') {
            log_error("%s: cannot tell its type: say -t TYPE", argv[argc - 1]);
            return EXIT_USAGE;
        }
        type = guessed;
    }
    if (type == NULL || !is_type(type)) {
        log_error("which type? Try berth %s --help", tool);
        return EXIT_USAGE;
    }
    return become(tool, type, argv + taken);
}

int cmd_mkfs(int argc, char **argv) {
    return run_tool("mkfs", false, argc, argv);
}

int cmd_fsck(int argc, char **argv) {
    return run_tool("fsck", true, argc, argv);
}
