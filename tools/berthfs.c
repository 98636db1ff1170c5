/* SPDX-License-Identifier: MIT */
/*
 * berthfs: mounts an image. Arguments only; the work is the front-end's
 * (berth/front.h). Called as mount.fuse.berthfs or mount.berth it is mount(8)'s
 * helper, whose -f means "fake": check, do nothing.
 */
#include "types.h"

#include "berth/front.h"
#include "berth/log.h"

#include <getopt.h>
#include <stdio.h>

typedef struct Arguments {
    FrontConfig config;
    bool helper, fake;
} Arguments;

static void usage(FILE *out) {
    (void)fprintf(
        out,
        "Usage: berthfs [-f] [-r] [-t TYPE] [-o OPTIONS] SOURCE DIRECTORY\n"
        "Mounts the filesystem in an image file or block device through FUSE.\n"
        "\n"
        "  -f, --foreground     stay in the foreground until unmounted\n"
        "  -r, --read-only      the same as -o ro\n"
        "  -w, --rw             the same as -o rw\n"
        "  -t, --types TYPE     filesystem type (the same as -o type=)\n"
        "  -o, --options LIST   mount options, see berthfs(8)\n"
        "  -d, --debug          print every message in words (implies -f)\n"
        "  -h, --help           this text\n"
        "  -V, --version        version\n"
        "\n"
        "Options: ro rw type= part= start= uid= gid= umask= fmask= dmask= allow_other\n"
        "         errors= commit= case= journal= daemon=always|auto|never direct remount debug\n"
        "Types:  ");
    for (size_t i = 0; berth_types[i] != NULL; i++) {
        (void)fprintf(out, " %s", berth_types[i]->name);
    }
    (void)fprintf(out, "\n");
}

static int add_options(FrontOptions *options, const char *list) {
    char text[256];
    int r = front_options_add(options, list, text);

    if (r < 0) {
        log_error("%s", r == -EINVAL ? text : strerror(-r));
    }
    return r;
}

/* mount(8) passes the mount's type, which is not the filesystem's. */
static int add_type(FrontOptions *options, const char *type) {
    char option[64];

    if (strncmp(type, "fuse", 4) == 0 || strcmp(type, "berth") == 0 ||
        strcmp(type, "berthfs") == 0) {
        return 0;
    }
    if ((size_t)snprintf(option, sizeof(option), "type=%s", type) >= sizeof(option)) {
        log_error("%s: not a filesystem type", type);
        return -EINVAL;
    }
    return add_options(options, option);
}

/* -1: go on; otherwise an exit code. */
static int one_argument(Arguments *arguments, int c) {
    FrontOptions *options = &arguments->config.options;
    int r = 0;

    switch (c) {
    case 'f':
        if (arguments->helper) {
            arguments->fake = true;
        } else {
            options->foreground = true;
        }
        break;
    case 'd':
        options->debug = true;
        break;
    case 'r':
        r = add_options(options, "ro");
        break;
    case 'w':
        r = add_options(options, "rw");
        break;
    case 'o':
        r = add_options(options, optarg);
        break;
    case 't':
        r = add_type(options, optarg);
        break;
    case 'a':
        arguments->config.attach_fd = atoi(optarg);
        break;
    case 'n': /* mtab, sloppiness, noise, a namespace: nothing to us */
    case 's':
    case 'v':
    case 'N':
        break;
    case 'h':
        usage(stdout);
        return FRONT_EXIT_OK;
    case 'V':
        (void)printf("berthfs %s\n", BERTH_VERSION);
        return FRONT_EXIT_OK;
    default:
        usage(stderr);
        return FRONT_EXIT_USAGE;
    }
    return r < 0 ? FRONT_EXIT_USAGE : -1;
}

static int parse_arguments(Arguments *arguments, int argc, char **argv) {
    static const struct option long_options[] = {
        {"foreground", no_argument, NULL, 'f'},
        {"read-only", no_argument, NULL, 'r'},
        {"rw", no_argument, NULL, 'w'},
        {"types", required_argument, NULL, 't'},
        {"options", required_argument, NULL, 'o'},
        {"debug", no_argument, NULL, 'd'},
        {"attach", required_argument, NULL, 'a'}, /* the holder's: not for people */
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int c, code;

    while ((c = getopt_long(argc, argv, "frwt:o:dnsvN:hV", long_options, NULL)) != -1) {
        code = one_argument(arguments, c);
        if (code >= 0) {
            return code;
        }
    }
    if (argc - optind != 2) {
        log_error("a source and a directory are needed (berthfs --help)");
        return FRONT_EXIT_USAGE;
    }
    if (arguments->config.options.debug) {
        arguments->config.options.foreground = true; /* nobody reads it otherwise */
    }
    arguments->config.source = argv[optind];
    arguments->config.directory = argv[optind + 1];
    return -1;
}

int main(int argc, char **argv) {
    Arguments arguments = {.config = {.types = berth_types, .argv = argv}};
    const char *slash = strrchr(argv[0], '/');
    int code;

    log_init("berthfs", LOG_LEVEL_NOTICE);
    if (argc > 1 && strncmp(argv[1], "--hold=", 7) == 0) {
        char *hold = argv[1] + 7;

        argv[1] = argv[0];
        return front_hold(atoi(hold), argv + 1);
    }
    arguments.helper = strncmp(slash != NULL ? slash + 1 : argv[0], "mount.", 6) == 0;
    front_options_init(&arguments.config.options);
    code = parse_arguments(&arguments, argc, argv);
    if (code < 0 && arguments.fake) {
        code = FRONT_EXIT_OK;
    }
    if (code < 0) {
        code = arguments.config.options.remount ? front_remount(&arguments.config)
                                                : front_run(&arguments.config);
    }
    front_options_done(&arguments.config.options);
    return code;
}
