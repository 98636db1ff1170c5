/* SPDX-License-Identifier: MIT */
/*
 * berth top: the command line, and --batch, which prints what the screen would
 * show, for files and pipes.
 */
#include "top.h"

#include "berth/log.h"
#include "berth/options.h"
#include "berth/stats.h"

#include <getopt.h>
#include <stdio.h>
#include <time.h>

#define DELAY_LEAST 0.1
#define BATCH_WIDTH 512

static void top_help(void) {
    printf("Usage: berth top [-d SECONDS] [-n ROUNDS] [-s ORDER] [--batch]\n"
           "\n"
           "Shows what the mounts do, again and again. Keys: q quits, s sorts by the next column,\n"
           "h explains the columns.\n"
           "\n"
           "  -b, --batch          print instead of drawing, for files and pipes\n"
           "  -d, --delay SECONDS  between two rounds, 0.1 at least (default: 1)\n"
           "  -n, --rounds ROUNDS  end after so many\n"
           "  -s, --sort ORDER    ");
    for (unsigned i = 0; i < TOP_SORT_COUNT; i++) {
        printf("%s %s", i > 0 ? "," : "", top_sort_name((TopSort)i));
    }
    printf("\n"
           "  -h, --help           show this\n");
}

static int parse_sort(const char *name, TopSort *ret) {
    for (unsigned i = 0; i < TOP_SORT_COUNT; i++) {
        if (strcmp(name, top_sort_name((TopSort)i)) == 0) {
            *ret = (TopSort)i;
            return 0;
        }
    }
    log_error("top: no order %s. Try berth top --help", name);
    return -EINVAL;
}

static int parse_delay(const char *text, unsigned *ret) {
    double seconds;

    if (parse_seconds(text, &seconds) < 0 || seconds < DELAY_LEAST) {
        log_error("top: %s: not a delay in seconds of %.1f or more", text, DELAY_LEAST);
        return -EINVAL;
    }
    *ret = (unsigned)(seconds * 1000);
    return 0;
}

static int parse_rounds(const char *text, uint64_t *ret) {
    if (parse_u64(text, ret) < 0 || *ret == 0) {
        log_error("top: %s: not a number of rounds", text);
        return -EINVAL;
    }
    return 0;
}

/* ---- batch ---- */

static void print_snapshot(TopSnapshot *snapshot, TopSort sort, bool first) {
    char line[TOP_LINE_MAX];

    top_sort(snapshot, sort);
    top_format_head(snapshot, BATCH_WIDTH, line);
    printf("%s%s\n", first ? "" : "\n", line);
    top_format_titles(BATCH_WIDTH, line);
    printf("%s\n", line);
    for (size_t i = 0; i < snapshot->count; i++) {
        top_format_row(&snapshot->rows[i], BATCH_WIDTH, line);
        printf("%s\n", line);
    }
}

static void sleep_until(uint64_t due_ns) {
    struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000),
                           .tv_nsec = (long)(due_ns % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) {
    }
}

static int top_batch(const TopConfig *config) {
    TopSampler *sampler = top_sampler_new();
    int r = sampler == NULL ? -ENOMEM : 0;
    uint64_t round = 0;

    while (r == 0) {
        uint64_t begun_ns = clock_monotonic_ns();
        TopSnapshot snapshot;

        r = top_sample(sampler, &snapshot);
        if (r < 0) {
            break;
        }
        print_snapshot(&snapshot, config->sort, round == 0);
        top_snapshot_done(&snapshot);
        if (fflush(stdout) != 0) {
            r = -errno;
        }
        if (r < 0 || ++round == config->rounds) {
            break;
        }
        sleep_until(begun_ns + config->delay_ms * UINT64_C(1000000));
    }
    top_sampler_free(sampler);
    if (r < 0) {
        log_error("top: %s", strerror(-r));
    }
    return r < 0 ? EXIT_SYSTEM : EXIT_OK;
}

int cmd_top(int argc, char **argv) {
    static const struct option long_options[] = {
        {"batch", no_argument, NULL, 'b'},        {"delay", required_argument, NULL, 'd'},
        {"rounds", required_argument, NULL, 'n'}, {"sort", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},         {0},
    };
    TopConfig config = {.delay_ms = 1000};
    bool batch = false;
    int option, r = 0;

    while (r == 0 && (option = getopt_long(argc, argv, "bd:n:s:h", long_options, NULL)) != -1) {
        switch (option) {
        case 'b':
            batch = true;
            break;
        case 'd':
            r = parse_delay(optarg, &config.delay_ms);
            break;
        case 'n':
            r = parse_rounds(optarg, &config.rounds);
            break;
        case 's':
            r = parse_sort(optarg, &config.sort);
            break;
        case 'h':
            top_help();
            return EXIT_OK;
        default:
            return EXIT_USAGE;
        }
    }
    if (r == 0 && optind != argc) {
        log_error("top takes no argument. Try berth top --help");
        r = -EINVAL;
    }
    if (r < 0) {
        return EXIT_USAGE;
    }
    if (!batch && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))) {
        log_error("top draws on a terminal, and this is none. Try berth top --batch");
        return EXIT_USAGE;
    }
    return batch ? top_batch(&config) : top_screen(&config);
}
