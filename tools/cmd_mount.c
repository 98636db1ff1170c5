/* SPDX-License-Identifier: MIT */
/*
 * berth mount: becomes berthfs, which lies beside this program in the build
 * tree and in bindir alike. Nothing is checked here that berthfs checks.
 */
#include "berth.h"

#include "berth/log.h"

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

static void mount_help(void) {
    printf("Usage: berth mount [-f] [-r] [-t TYPE] [-o OPTIONS] SOURCE DIR\n"
           "\n"
           "Mounts SOURCE, an image file or a block device, on DIR. The options are those of\n"
           "berthfs(8).\n"
           "\n"
           "  -f, --foreground    stay in the foreground\n"
           "  -r, --read-only     mount read-only, as -o ro\n"
           "  -t, --types TYPE    do not guess what SOURCE holds, as -o type=TYPE\n"
           "  -o, --options LIST  mount options, with commas between\n"
           "  -h, --help          show this\n");
}

/* "name=value" as one more option, its commas and backslashes escaped. */
static void mount_add_option(Text *options, const char *name, const char *value) {
    text_printf(options, "%s%s", options->length > 0 ? "," : "", name);
    for (const char *c = value; c != NULL && *c != '\0'; c++) {
        if (c == value) {
            text_append(options, "=", 1);
        }
        if (*c == ',' || *c == '\\') {
            text_append(options, "\\", 1);
        }
        text_append(options, c, 1);
    }
}

/* Replaces this process; returns only when that failed. */
static int mount_exec(char **argv) {
    char path[1024];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - sizeof("/berthfs"));
    char *slash;

    if (length > 0) {
        path[length] = '\0';
        slash = strrchr(path, '/');
        if (slash != NULL) {
            memcpy(slash + 1, "berthfs", sizeof("berthfs"));
            (void)execv(path, argv);
        }
    }
    (void)execv(BERTH_BINDIR "/berthfs", argv);
    (void)execvp("berthfs", argv);
    log_error("cannot start berthfs: %s", strerror(errno));
    return EXIT_SYSTEM;
}

int cmd_mount(int argc, char **argv) {
    static const struct option long_options[] = {
        {"foreground", no_argument, NULL, 'f'},  {"read-only", no_argument, NULL, 'r'},
        {"types", required_argument, NULL, 't'}, {"options", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},        {0},
    };
    static char program[] = "berthfs", foreground[] = "-f", dash_o[] = "-o", dashes[] = "--";
    char *arguments[8] = {program};
    unsigned count = 1;
    Text options = {0};
    int option, code;

    while ((option = getopt_long(argc, argv, "frt:o:h", long_options, NULL)) != -1) {
        switch (option) {
        case 'f':
            arguments[1] = foreground;
            count = 2;
            break;
        case 'r':
            mount_add_option(&options, "ro", NULL);
            break;
        case 't':
            mount_add_option(&options, "type", optarg);
            break;
        case 'o':
            text_printf(&options, "%s%s", options.length > 0 ? "," : "", optarg);
            break;
        case 'h':
            mount_help();
            text_done(&options);
            return EXIT_OK;
        default:
            text_done(&options);
            return EXIT_USAGE;
        }
    }
    if (argc - optind != 2) {
        log_error("mount takes a SOURCE and a DIR. Try berth mount --help");
        text_done(&options);
        return EXIT_USAGE;
    }
    if (options.length > 0) {
        arguments[count++] = dash_o;
        arguments[count++] = options.data;
    }
    arguments[count++] = dashes;
    arguments[count++] = argv[optind];
    arguments[count] = argv[optind + 1];
    if (options.failed) {
        log_error("out of memory");
        code = EXIT_SYSTEM;
    } else {
        code = mount_exec(arguments);
    }
    text_done(&options);
    return code;
}
