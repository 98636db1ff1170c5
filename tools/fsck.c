/* SPDX-License-Identifier: MIT */
/*
 * The fsck programs' common part: options and exit codes of fsck(8), the
 * volume in its partition, and the reporter, which answers for the user or
 * asks, and prints in words or JSON.
 *
 * Where the volume lies is found out by the isolated probe; whether it is one
 * is the check's to say. The same locks as a mount's keep a mounted volume
 * from being changed beneath it. Once all is open, and before the check reads
 * the first byte, the process locks itself in as a daemon does.
 */
#include "fsck.h"
#include "berth/block.h"
#include "berth/log.h"
#include "berth/sandbox.h"
#include "berth/text.h"
#include "volume.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

/* fsck(8)'s exit codes. */
enum {
    FSCK_CORRECTED = 1,
    FSCK_UNCORRECTED = 4,
    FSCK_FAILED = 8,
    FSCK_USAGE = 16,
};

typedef enum Mode { MODE_ASK, MODE_NO, MODE_YES, MODE_PREEN } Mode;

typedef struct Fsck {
    CheckReporter reporter;
    const FsckFormat *format;
    const char *path, *part;
    Mode mode;
    bool mode_given, force, verbose, json;
    bool all;    /* asking: the answer to all that follows is yes */
    bool manual; /* -p met what it may not repair */
    SandboxMode sandbox;
    int progress_fd; /* -1: none */
    Text out;
    Json writer;
} Fsck;

static void help(const FsckFormat *format) {
    printf("Usage: %s [OPTION...] FILE\n"
           "\n"
           "Checks and repairs a %s volume on an image file or a block device.\n"
           "\n"
           "  -n             change nothing, answer no to all questions\n"
           "  -p, -a         repair what can be repaired safely, without asking\n"
           "  -y             answer yes to all questions\n"
           "  -f, --force    check even if the volume says that it is sound\n"
           "  -v, --verbose  say how much there is on the volume\n"
           "  -C FD          write progress to a file descriptor, one line for each step:\n"
           "                 pass, position, maximum, device\n"
           "      --part P   the partition, by number or name\n"
           "      --sandbox MODE  auto, require or off: how the check locks itself in\n"
           "  -J, --json     one object on stdout; takes -n, -p or -y\n"
           "  -h, --help     show this\n"
           "  -V, --version  show the version\n"
           "\n"
           "Exit code: the sum of 0 no problems, 1 problems corrected, 4 problems left,\n"
           "8 failure, 16 usage error.\n",
           format->program, format->title);
}

/* ---- the reporter ---- */

static bool ask(Fsck *fsck, const char *repair) {
    char line[64];

    if (fsck->all) {
        printf(" %s? yes\n", repair);
        return true;
    }
    for (;;) {
        printf(" %s (y/n/a for all)? ", repair);
        (void)fflush(stdout);
        if (fgets(line, sizeof(line), stdin) == NULL) {
            printf("no\n");
            return false;
        }
        switch (line[0]) {
        case 'a':
        case 'A':
            fsck->all = true;
            return true;
        case 'y':
        case 'Y':
            return true;
        case 'n':
        case 'N':
            return false;
        default:
            break;
        }
    }
}

static bool answer(Fsck *fsck, const CheckProblem *problem) {
    if (problem->repair == NULL) {
        return false;
    }
    switch (fsck->mode) {
    case MODE_YES:
        return true;
    case MODE_PREEN:
        fsck->manual = fsck->manual || !problem->automatic;
        return problem->automatic && !fsck->manual;
    case MODE_ASK:
    case MODE_NO:
    default:
        return false;
    }
}

static const char *severity_name(CheckSeverity severity) {
    switch (severity) {
    case CHECK_MINOR:
        return "minor";
    case CHECK_DAMAGE:
        return "damage";
    case CHECK_NOTICE:
    default:
        return "notice";
    }
}

/* Details have names from the volume in them: nothing may reach the terminal as control. */
static void print_text(const char *text) {
    for (; *text != '\0'; text++) {
        (void)putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
    }
}

static bool tell_words(Fsck *fsck, const CheckProblem *problem, const char *detail) {
    bool repair;

    printf("%s: ", problem->text);
    print_text(detail);
    (void)putchar('.');
    if (problem->repair == NULL) {
        printf("%s\n", problem->severity == CHECK_NOTICE ? "" : " Cannot be repaired.");
        return false;
    }
    if (fsck->mode == MODE_ASK) {
        return ask(fsck, problem->repair);
    }
    repair = answer(fsck, problem);
    printf(" %s? %s\n", problem->repair, repair ? "yes" : "no");
    return repair;
}

static bool tell_json(Fsck *fsck, const CheckProblem *problem, const char *detail) {
    Json *json = &fsck->writer;
    bool repair = answer(fsck, problem);

    json_begin_object(json, NULL);
    json_string(json, "code", problem->code);
    json_string(json, "severity", severity_name(problem->severity));
    json_string(json, "text", problem->text);
    json_string(json, "detail", detail);
    if (problem->repair != NULL) {
        json_string(json, "repair", problem->repair);
    } else {
        json_null(json, "repair");
    }
    json_bool(json, "repaired", repair);
    json_end_object(json);
    return repair;
}

static bool on_problem(CheckReporter *reporter, const CheckProblem *problem, const char *detail) {
    Fsck *fsck = container_of(reporter, Fsck, reporter);

    return fsck->json ? tell_json(fsck, problem, detail) : tell_words(fsck, problem, detail);
}

static void on_progress(CheckReporter *reporter, unsigned pass, unsigned passes, uint64_t done,
                        uint64_t total) {
    Fsck *fsck = container_of(reporter, Fsck, reporter);

    (void)passes;
    /* A reader who has gone must not end a repair: SIGPIPE is ignored. */
    if (fsck->progress_fd >= 0) {
        char line[1024];
        int length = snprintf(line, sizeof(line), "%u %" PRIu64 " %" PRIu64 " %s\n", pass, done,
                              total, fsck->path);

        (void)!write(fsck->progress_fd, line, MIN((size_t)length, sizeof(line) - 1));
    }
}

/* ---- the result ---- */

static int exit_code(const CheckResult *result) {
    int code = result->changed ? FSCK_CORRECTED : 0;

    return result->repaired < result->found ? code | FSCK_UNCORRECTED : code;
}

static void say_result(const Fsck *fsck, const CheckResult *result) {
    if (result->skipped) {
        printf("%s: clean\n", fsck->path);
        return;
    }
    if (result->found == 0) {
        printf("%s: no problems\n", fsck->path);
    } else {
        printf("%s: %u problem%s, %u repaired%s\n", fsck->path, result->found,
               result->found == 1 ? "" : "s", result->repaired,
               result->changed ? "" : "; nothing was written");
    }
    if (fsck->manual) {
        printf("%s: needs a check by hand: run %s without -p\n", fsck->path, fsck->format->program);
    }
    if (fsck->verbose) {
        printf("%s: %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " of %" PRIu64
               " blocks of %" PRIu32 " bytes used\n",
               fsck->path, result->files, result->directories, result->blocks - result->blocks_free,
               result->blocks, result->block_size);
    }
}

/* The object was begun before the check; its array of problems ends here. */
static int print_json(Fsck *fsck, const CheckResult *result, int code, const char *error) {
    Json *json = &fsck->writer;

    json_end_array(json);
    json_bool(json, "skipped", result->skipped);
    json_bool(json, "changed", result->changed);
    json_u64(json, "found", result->found);
    json_u64(json, "repaired", result->repaired);
    json_u64(json, "files", result->files);
    json_u64(json, "directories", result->directories);
    json_u64(json, "blocks", result->blocks);
    json_u64(json, "blocks_free", result->blocks_free);
    json_u64(json, "block_size", result->block_size);
    if (error != NULL) {
        json_string(json, "error", error);
    } else {
        json_null(json, "error");
    }
    json_i64(json, "exit", code);
    json_end_object(json);
    text_append(&fsck->out, "\n", 1);
    if (fsck->out.failed ||
        fwrite(fsck->out.data, 1, fsck->out.length, stdout) != fsck->out.length) {
        log_error("cannot print the result");
        return FSCK_FAILED;
    }
    return code;
}

/* From here on there is nothing but the volume and the descriptors that were open before. */
static int lock_in(const Fsck *fsck, uint64_t image_end) {
    static char out[BUFSIZ], in[BUFSIZ];
    const LoopConfig loop_config = {.no_ring = true};
    SandboxConfig config = {.mode = fsck->sandbox, .image_end = image_end, .memory_fd = -1};
    char layers[SANDBOX_LAYERS_MAX], text[128] = "";
    int r;

    /* Else the first use of a stream asks what it is, which is not allowed any more. */
    (void)setvbuf(stdout, out, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, sizeof(out));
    (void)setvbuf(stdin, in, _IOLBF, sizeof(in));
    r = loop_new(&loop_config, &config.loop); /* never freed: its threads end with the process */
    if (r == 0) {
        r = sandbox_enter(&config, layers, text);
    }
    if (r < 0) {
        log_error("%s: cannot lock itself in: %s", fsck->format->program,
                  text[0] != '\0' ? text : strerror(-r));
    }
    return r;
}

static int check_device(Fsck *fsck, const OpenVolume *volume) {
    CheckConfig config = {.force = fsck->force};
    BlockDevice *device = volume->device;
    CheckResult result = {0};
    char text[CHECK_TEXT] = "";
    int code, r;

    if (!volume_time_local(&config.now)) {
        log_error("SOURCE_DATE_EPOCH is not a number");
        return FSCK_USAGE;
    }
    if (lock_in(fsck, volume->start + device->size) < 0) {
        return FSCK_FAILED;
    }
    if (fsck->json) {
        fsck->writer = (Json){.out = &fsck->out};
        json_begin_object(&fsck->writer, NULL);
        json_string(&fsck->writer, "file", fsck->path);
        json_string(&fsck->writer, "type", fsck->format->type);
        json_begin_array(&fsck->writer, "problems");
    }
    r = fsck->format->check(device, &config, &fsck->reporter, &result, text);
    if (r < 0) {
        log_error("%s: %s", fsck->path, text);
        code = r == -EUCLEAN ? FSCK_UNCORRECTED : FSCK_FAILED;
    } else {
        code = exit_code(&result);
    }
    if (fsck->json) {
        return print_json(fsck, &result, code, r < 0 ? text : NULL);
    }
    if (r == 0) {
        say_result(fsck, &result);
    }
    return code;
}

/* ---- command line ---- */

static int set_mode(Fsck *fsck, Mode mode) {
    if (fsck->mode_given && fsck->mode != mode) {
        log_error("only one of -n, -p and -y");
        return FSCK_USAGE;
    }
    fsck->mode = mode;
    fsck->mode_given = true;
    return 0;
}

static int parse_fd(Fsck *fsck, const char *text) {
    char *end;
    long fd = strtol(text, &end, 10);

    if (end == text || *end != '\0' || fd < 0 || fd > INT32_MAX) {
        log_error("-C %s: not a file descriptor", text);
        return FSCK_USAGE;
    }
    fsck->progress_fd = (int)fd == STDIN_FILENO ? STDERR_FILENO : (int)fd;
    return 0;
}

enum { OPTION_PART = 256, OPTION_SANDBOX };

static int parse_option(int option, Fsck *fsck) {
    switch (option) {
    case 'n':
        return set_mode(fsck, MODE_NO);
    case 'p':
    case 'a':
        return set_mode(fsck, MODE_PREEN);
    case 'y':
        return set_mode(fsck, MODE_YES);
    case 'f':
        fsck->force = true;
        return 0;
    case 'v':
        fsck->verbose = true;
        return 0;
    case 'J':
        fsck->json = true;
        return 0;
    case 'C':
        return parse_fd(fsck, optarg);
    case OPTION_PART:
        fsck->part = optarg;
        return 0;
    case OPTION_SANDBOX:
        if (sandbox_mode_parse(optarg, &fsck->sandbox) < 0) {
            log_error("--sandbox %s: not auto, require or off", optarg);
            return FSCK_USAGE;
        }
        return 0;
    case 'l': /* fsck(8)'s own, harmless here */
    case 'M':
    case 'T':
    case 'r':
        return 0;
    default:
        return FSCK_USAGE;
    }
}

/* 0, an exit code, or -1: help or version was asked for and given. */
static int parse(int argc, char **argv, Fsck *fsck) {
    static const struct option long_options[] = {
        {"force", no_argument, NULL, 'f'},
        {"verbose", no_argument, NULL, 'v'},
        {"json", no_argument, NULL, 'J'},
        {"part", required_argument, NULL, OPTION_PART},
        {"sandbox", required_argument, NULL, OPTION_SANDBOX},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0}};
    int option, r;

    while ((option = getopt_long(argc, argv, "npayfvJC:lMTrhV", long_options, NULL)) != -1) {
        if (option == 'h') {
            help(fsck->format);
            return -1;
        }
        if (option == 'V') {
            printf("%s (berth) %s\n", fsck->format->program, BERTH_VERSION);
            return -1;
        }
        r = parse_option(option, fsck);
        if (r != 0) {
            return r;
        }
    }
    if (argc - optind != 1) {
        log_error("which FILE? Try %s --help", fsck->format->program);
        return FSCK_USAGE;
    }
    if (fsck->mode == MODE_ASK && (fsck->json || !isatty(STDIN_FILENO))) {
        log_error("nobody to ask: give one of -n, -p and -y");
        return FSCK_USAGE;
    }
    fsck->path = argv[optind];
    return 0;
}

static int open_and_check(Fsck *fsck) {
    VolumeOpenConfig config = {.path = fsck->path,
                               .part = fsck->part,
                               .type = fsck->format->type,
                               .readonly = fsck->mode == MODE_NO};
    OpenVolume volume;
    int code;

    if (volume_open(&config, &volume) < 0) {
        return FSCK_FAILED;
    }
    if (volume.device->readonly && fsck->mode != MODE_NO) {
        log_error("%s: can only be read: -n to check it all the same", fsck->path);
        code = FSCK_FAILED;
    } else {
        code = check_device(fsck, &volume);
    }
    volume_close(&volume);
    return code;
}

int fsck_main(int argc, char **argv, const FsckFormat *format) {
    Fsck fsck = {
        .reporter = {.problem = on_problem, .progress = on_progress},
        .format = format,
        .progress_fd = -1,
    };
    int code;

    log_init(format->program, LOG_LEVEL_WARNING);
    (void)signal(SIGPIPE, SIG_IGN);
    code = parse(argc, argv, &fsck);
    if (code != 0) {
        return code < 0 ? 0 : code;
    }
    code = open_and_check(&fsck);
    text_done(&fsck.out);
    if (fflush(stdout) != 0) {
        log_error("stdout: %s", strerror(errno));
        code |= FSCK_FAILED;
    }
    return code;
}
