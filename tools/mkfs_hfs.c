/* SPDX-License-Identifier: MIT */
/*
 * mkfs.hfs: makes a classic HFS volume, on the whole of a device or image, or
 * in an Apple partition map of its own. Command line, checks and messages;
 * layout and writing are the library's (berth/hfs.h).
 *
 * What is there already is looked at by the isolated probe, and kept unless
 * --force says otherwise. A lock on the image (and O_EXCL on a device) keeps
 * mounted volumes safe, force or not.
 */
#include "berth/hfs.h"
#include "berth/log.h"
#include "copy.h"
#include "mkfs.h"
#include "volume.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#define LABEL_DEFAULT "Untitled"

typedef struct Options {
    const char *path, *label, *encoding;
    const char *directory; /* what to fill it with */
    bool appledouble;
    uint64_t size; /* of the file to make; 0: as it is */
    uint64_t block_size, clump_size, catalog_clump, extents_clump;
    bool apm, force, dry_run, quiet;
} Options;

static void help(void) {
    printf(
        "Usage: mkfs.hfs [OPTION...] FILE\n"
        "\n"
        "Makes a classic HFS volume on an image file or a block device.\n"
        "\n"
        "  -L, --label NAME          the volume's name (default " LABEL_DEFAULT ")\n"
        "  -b, --block-size SIZE     of allocation blocks, a multiple of 512\n"
        "      --clump-size SIZE     by which files grow\n"
        "      --catalog-clump SIZE  first size and growth of the catalog\n"
        "      --extents-clump SIZE  the same for the extents overflow file\n"
        "  -d, --directory DIR       fill it with the files in DIR\n"
        "      --appledouble         where ._NAME lies beside NAME, it has NAME's resource fork\n"
        "                            and Finder information\n"
        "      --apm                 in an Apple partition map\n"
        "      --encoding NAME       the Mac's script that the label is stored in\n"
        "                            (default macroman)\n"
        "  -s, --size SIZE           make FILE so large, creating it if need be\n"
        "  -F, --force               even where something is already\n"
        "  -n, --dry-run             say what would be made, write nothing\n"
        "  -q, --quiet               say nothing when all goes well\n"
        "  -h, --help                show this\n"
        "  -V, --version             show the version\n"
        "\n"
        "A SIZE is in bytes, or has the suffix K, M or G. SOURCE_DATE_EPOCH sets the dates.\n");
}

enum {
    OPTION_CLUMP = 256,
    OPTION_CATALOG,
    OPTION_EXTENTS,
    OPTION_APM,
    OPTION_ENCODING,
    OPTION_DOUBLE
};

static int parse_size(const char *option, const char *text, uint64_t *ret) {
    if (!mkfs_parse_size(text, ret)) {
        log_error("%s %s: not a size", option, text);
        return MKFS_USAGE;
    }
    return 0;
}

static int parse_option(int option, Options *options) {
    switch (option) {
    case 'L':
        options->label = optarg;
        return 0;
    case 'b':
        return parse_size("--block-size", optarg, &options->block_size);
    case OPTION_CLUMP:
        return parse_size("--clump-size", optarg, &options->clump_size);
    case OPTION_CATALOG:
        return parse_size("--catalog-clump", optarg, &options->catalog_clump);
    case OPTION_EXTENTS:
        return parse_size("--extents-clump", optarg, &options->extents_clump);
    case 's':
        return parse_size("--size", optarg, &options->size);
    case OPTION_APM:
        options->apm = true;
        return 0;
    case OPTION_ENCODING:
        options->encoding = optarg;
        return 0;
    case 'd':
        options->directory = optarg;
        return 0;
    case OPTION_DOUBLE:
        options->appledouble = true;
        return 0;
    case 'F':
        options->force = true;
        return 0;
    case 'n':
        options->dry_run = true;
        return 0;
    case 'q':
        options->quiet = true;
        return 0;
    default:
        return MKFS_USAGE;
    }
}

/* 0 and *options, or what to exit with; -1: help or version was asked for and given. */
static int parse(int argc, char **argv, Options *options) {
    static const struct option long_options[] = {
        {"label", required_argument, NULL, 'L'},
        {"block-size", required_argument, NULL, 'b'},
        {"clump-size", required_argument, NULL, OPTION_CLUMP},
        {"catalog-clump", required_argument, NULL, OPTION_CATALOG},
        {"extents-clump", required_argument, NULL, OPTION_EXTENTS},
        {"apm", no_argument, NULL, OPTION_APM},
        {"encoding", required_argument, NULL, OPTION_ENCODING},
        {"size", required_argument, NULL, 's'},
        {"directory", required_argument, NULL, 'd'},
        {"appledouble", no_argument, NULL, OPTION_DOUBLE},
        {"force", no_argument, NULL, 'F'},
        {"dry-run", no_argument, NULL, 'n'},
        {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0}};
    int option, r;

    while ((option = getopt_long(argc, argv, "L:b:s:d:FnqhV", long_options, NULL)) != -1) {
        if (option == 'h') {
            help();
            return -1;
        }
        if (option == 'V') {
            printf("mkfs.hfs (berth) %s\n", BERTH_VERSION);
            return -1;
        }
        r = parse_option(option, options);
        if (r != 0) {
            return r;
        }
    }
    if (argc - optind != 1) {
        log_error("which FILE? Try mkfs.hfs --help");
        return MKFS_USAGE;
    }
    options->path = argv[optind];
    return 0;
}

/* ---- from options to a plan ---- */

static int make_plan(const Options *options, uint64_t size, HfsMakePlan *ret) {
    HfsMakeConfig config = {
        .size = size,
        .block_size = options->block_size,
        .clump_size = options->clump_size,
        .catalog_clump = options->catalog_clump,
        .extents_clump = options->extents_clump,
        .label = options->label,
        .encoding = options->encoding,
    };
    char text[HFS_MAKE_TEXT] = "";

    if (!volume_time_local(&config.time)) {
        log_error("SOURCE_DATE_EPOCH is not a number");
        return MKFS_FAILED;
    }
    if (hfs_make_plan(&config, ret, text) < 0) {
        log_error("%s: %s", options->path, text);
        return MKFS_FAILED;
    }
    return 0;
}

static void say_plan(const Options *options, const HfsMakePlan *plan, uint64_t start) {
    printf("%s%s: HFS volume \"%s\" of %" PRIu32 " blocks of %" PRIu32 " bytes",
           options->dry_run ? "would make on " : "", options->path, options->label,
           plan->block_count, plan->block_size);
    if (start > 0) {
        printf(", in a partition from byte %" PRIu64 " on", start);
    }
    printf("; catalog of %" PRIu32 ", extents overflow of %" PRIu32 ", clumps of %" PRIu32
           " bytes\n",
           plan->catalog_clump, plan->extents_clump, plan->clump_size);
}

/* ---- the whole ---- */

static int write_volume(BlockDevice *device, const Options *options, const HfsMakePlan *plan,
                        uint64_t start) {
    _cleanup_(block_freep) BlockDevice *volume = NULL;
    int r = block_slice_new(device, start, plan->size, &volume);

    if (r == 0) {
        r = hfs_make(volume, plan);
    }
    /* The map last: without it nobody finds a volume that was not finished. */
    if (r == 0 && options->apm) {
        r = hfs_make_map(device);
    }
    if (r < 0) {
        log_error("%s: %s", options->path, strerror(-r));
        return MKFS_FAILED;
    }
    return 0;
}

static int make(const Options *options) {
    _cleanup_(mkfs_target_done) MkfsTarget target = {.fd = -1};
    HfsMakePlan plan;
    uint64_t start = 0, length;
    int r =
        mkfs_target_open(options->path, options->size, options->dry_run, options->force, &target);

    if (r != 0) {
        return r;
    }
    length = target.size;
    if (options->apm && hfs_make_map_plan(target.size, &start, &length) < 0) {
        log_error("%s: too small for a partition map and a volume of 400 KiB", options->path);
        return MKFS_FAILED;
    }
    r = make_plan(options, length, &plan);
    if (r != 0) {
        return r;
    }
    if (!options->dry_run) {
        r = mkfs_target_ready(&target);
        if (r == 0) {
            r = write_volume(target.device, options, &plan, start);
        }
    }
    if (r == 0 && !options->quiet) {
        say_plan(options, &plan, start);
    }
    return r;
}

/* Through the filesystem itself, as berth put does it; the volume is complete when it begins. */
static int fill(const Options *options) {
    _cleanup_(text_done) Text mount = {0};
    SessionConfig config = {.image = options->path, .type = "hfs"};
    int64_t now = 0;
    Copy copy = {.form = options->appledouble ? MAC_DOUBLE : MAC_PLAIN,
                 .encoding = options->encoding,
                 .recursive = true,
                 .newest_ns = INT64_MAX};
    int r;

    if (getenv("SOURCE_DATE_EPOCH") != NULL && volume_time(&now)) {
        copy.newest_ns = now * 1000000000;
    }
    text_printf(&mount, "encoding=%s", options->encoding);
    config.options = text_string(&mount);
    r = mount.failed ? -ENOMEM : session_open(&config, &copy.session);
    if (r < 0) {
        return MKFS_FAILED;
    }
    r = copy_in_entries(&copy, options->directory, FS_ROOT_ID);
    r = MIN(session_close(copy.session), r);
    return r < 0 || copy.failed ? MKFS_FAILED : 0;
}

int main(int argc, char **argv) {
    Options options = {.label = LABEL_DEFAULT, .encoding = "macroman"};
    int r;

    log_init("mkfs.hfs", LOG_LEVEL_NOTICE);
    r = parse(argc, argv, &options);
    if (r != 0) {
        return r < 0 ? 0 : r;
    }
    r = make(&options);
    if (r == 0 && options.directory != NULL && !options.dry_run) {
        r = fill(&options);
    }
    if (fflush(stdout) != 0) {
        log_error("stdout: %s", strerror(errno));
        return MKFS_FAILED;
    }
    return r;
}
