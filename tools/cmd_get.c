/* SPDX-License-Identifier: MIT */
/*
 * berth get and berth put: files out of an image and into it, without mounting
 * it, with all that a Mac's file has if asked for.
 */
#include "berth.h"
#include "berth/log.h"
#include "copy.h"
#include "forks.h"
#include "place.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>

enum { OPTION_AS = 400, OPTION_ENCODING };

typedef struct CopyOptions {
    PlaceOptions place;
    MacForm form;
    const char *encoding;
    bool recursive;
} CopyOptions;

static void copy_help(const char *command) {
    bool get = strcmp(command, "get") == 0;

    printf("Usage: berth %s [-r] [--as FORM] %s\n"
           "\n"
           "%s\n"
           "\n"
           "  -r, --recursive      directories too, with all that is in them\n"
           "      --as FORM        %s as\n"
           "                       macbinary, appledouble (beside the data, as ._NAME) or binhex\n"
           "      --encoding NAME  the Mac's script of names in these forms (macroman)\n",
           command, get ? "IMAGE[@PART]:/PATH [DEST]" : "SOURCE... IMAGE[@PART]:/PATH",
           get ? "Copies a file out of an image. DEST is a file, a directory, or - for stdout."
               : "Copies files into an image: into the directory PATH, or one file as PATH.",
           get ? "write both forks and the Finder's information of a Mac's file"
               : "what is copied is a Mac's file with both forks, written");
    place_help();
}

/* 0, an exit code, or -1: help was asked for and given. */
static int parse(int argc, char **argv, CopyOptions *options) {
    static const struct option long_options[] = {
        {"recursive", no_argument, NULL, 'r'},
        {"as", required_argument, NULL, OPTION_AS},
        {"encoding", required_argument, NULL, OPTION_ENCODING},
        {"help", no_argument, NULL, 'h'},
        PLACE_LONG_OPTIONS,
        {0},
    };
    int option;

    *options = (CopyOptions){.encoding = "macroman"};
    while ((option = getopt_long(argc, argv, "rh" PLACE_SHORT_OPTIONS, long_options, NULL)) != -1) {
        switch (option) {
        case 'r':
            options->recursive = true;
            break;
        case OPTION_AS:
            if (!mac_form_parse(optarg, &options->form)) {
                log_error("--as %s: not macbinary, appledouble or binhex", optarg);
                return EXIT_USAGE;
            }
            break;
        case OPTION_ENCODING:
            options->encoding = optarg;
            break;
        case 'h':
            copy_help(argv[0]);
            return -1;
        default:
            if (!place_option(&options->place, option, optarg)) {
                return EXIT_USAGE;
            }
            break;
        }
    }
    return EXIT_OK;
}

/* Opens the place, and checks that its filesystem has what the form is for. */
static int copy_open(const char *text, const CopyOptions *options, bool readonly, Place *place,
                     Copy *ret) {
    Session *session = NULL;
    int r = place_parse(text, place);

    if (r == 0) {
        r = place_open(place, &options->place, readonly, &session);
    }
    if (r < 0) {
        return r == -EINVAL ? EXIT_USAGE : EXIT_SYSTEM;
    }
    *ret = (Copy){.session = session,
                  .form = options->form,
                  .encoding = options->encoding,
                  .recursive = options->recursive,
                  .newest_ns = INT64_MAX};
    if (options->form != MAC_PLAIN && !forks_known(session)) {
        log_error("%s: files on %s have no resource forks: leave out --as", place->image,
                  session_type(session));
        (void)session_close(session);
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

static int copy_close(Copy *copy, Place *place) {
    int r = session_close(copy->session);

    place_done(place);
    return r < 0 || copy->failed ? EXIT_SYSTEM : EXIT_OK;
}

/* ---- get ---- */

static const char *form_suffix(MacForm form) {
    return form == MAC_BINARY ? ".bin" : form == MAC_BINHEX ? ".hqx" : "";
}

static int get_to(Copy *copy, const char *path, const char *dest) {
    _cleanup_(text_done) Text name = {0};
    const char *last = place_name(path);
    struct stat st;
    FsAttr attr;
    int r = session_lookup(copy->session, path, &attr);

    if (r < 0) {
        return copy_failed(copy, path, r);
    }
    if (dest == NULL || (strcmp(dest, "-") != 0 && stat(dest, &st) == 0 && S_ISDIR(st.st_mode))) {
        const char *suffix = attr.type == FS_TYPE_FILE ? form_suffix(copy->form) : "";

        if (last[0] == '\0' && dest == NULL) {
            return copy_failed(copy, path, -EINVAL);
        }
        text_printf(&name, "%s%s%s%s", dest != NULL ? dest : "", dest != NULL ? "/" : "", last,
                    suffix);
        if (name.failed) {
            return copy_failed(copy, path, -ENOMEM);
        }
        dest = text_string(&name);
    }
    return copy_out(copy, &attr, last, AT_FDCWD, dest);
}

int cmd_get(int argc, char **argv) {
    CopyOptions options;
    Place place = {0};
    Copy copy;
    int code = parse(argc, argv, &options);

    if (code != EXIT_OK) {
        return code < 0 ? EXIT_OK : code;
    }
    if (argc - optind < 1 || argc - optind > 2) {
        log_error("get takes IMAGE:/PATH and where to. Try berth get --help");
        return EXIT_USAGE;
    }
    code = copy_open(argv[optind], &options, true, &place, &copy);
    if (code != EXIT_OK) {
        place_done(&place);
        return code;
    }
    (void)get_to(&copy, place.path, argc - optind == 2 ? argv[optind + 1] : NULL);
    return copy_close(&copy, &place);
}

/* ---- put ---- */

/* Into the directory that `path` is; or one source under that name. */
static int put_all(Copy *copy, char **sources, int count, const char *path) {
    const char *name = NULL;
    FsAttr directory;
    int r = session_lookup(copy->session, path, &directory);

    if (r == -ENOENT || (r == 0 && directory.type != FS_TYPE_DIRECTORY)) {
        r = count == 1 ? session_parent(copy->session, path, &directory, &name)
            : r == 0   ? -ENOTDIR
                       : r;
    }
    if (r < 0) {
        return copy_failed(copy, path, r);
    }
    for (int i = 0; i < count; i++) {
        size_t length = strlen(sources[i]);

        while (length > 1 && sources[i][length - 1] == '/') {
            sources[i][--length] = '\0';
        }
        (void)copy_in(copy, sources[i], directory.file_id, name);
    }
    return 0;
}

int cmd_put(int argc, char **argv) {
    CopyOptions options;
    Place place = {0};
    Copy copy;
    int code = parse(argc, argv, &options);

    if (code != EXIT_OK) {
        return code < 0 ? EXIT_OK : code;
    }
    if (argc - optind < 2) {
        log_error("put takes what to copy, and IMAGE:/PATH. Try berth put --help");
        return EXIT_USAGE;
    }
    code = copy_open(argv[argc - 1], &options, false, &place, &copy);
    if (code != EXIT_OK) {
        place_done(&place);
        return code;
    }
    (void)put_all(&copy, argv + optind, argc - optind - 1, place.path);
    return copy_close(&copy, &place);
}
