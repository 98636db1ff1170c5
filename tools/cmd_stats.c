/* SPDX-License-Identifier: MIT */
/*
 * berth stats, status and sync: questions to one mount's control socket. The
 * answers of the first two are JSON, which --json passes on as it is once it
 * has been checked; otherwise every value becomes a line "path.of.it  value",
 * so that new counters need no change here. Counters that are zero are left
 * out of that table.
 */
#include "berth.h"

#include "berth/log.h"

#include <getopt.h>
#include <libsmartcols.h>
#include <stdio.h>

typedef struct StatsTable {
    struct libscols_table *table; /* NULL: only check the document */
    bool skip_zero;
    int error;
} StatsTable;

static void stats_visit(void *arg, const char *path, JsonKind kind, const char *value) {
    StatsTable *stats = arg;
    struct libscols_line *line;

    if (stats->table == NULL || stats->error != 0 || kind == JSON_NULL ||
        (stats->skip_zero && kind == JSON_NUMBER && strcmp(value, "0") == 0)) {
        return;
    }
    line = scols_table_new_line(stats->table, NULL);
    if (line == NULL || scols_line_set_data(line, 0, path) != 0 ||
        scols_line_set_data(line, 1, value) != 0) {
        stats->error = -ENOMEM;
    }
}

static int stats_print_json(const Text *reply) {
    int code = tool_print(text_string(reply), reply->length);

    if (code == EXIT_OK && (reply->length == 0 || reply->data[reply->length - 1] != '\n')) {
        code = tool_print("\n", 1);
    }
    return code;
}

static int stats_print(const Text *reply, const char *directory, bool json, bool skip_zero) {
    StatsTable stats = {.skip_zero = skip_zero};
    int code = EXIT_OK, r = 0;

    if (!json) {
        stats.table = scols_new_table();
        if (stats.table == NULL || scols_table_enable_noheadings(stats.table, 1) != 0 ||
            scols_table_new_column(stats.table, "NAME", 0, 0) == NULL ||
            scols_table_new_column(stats.table, "VALUE", 0, 0) == NULL) {
            stats.error = -ENOMEM;
        }
    }
    r = json_read(text_string(reply), reply->length, stats_visit, &stats);
    if (r == 0) {
        r = stats.error;
    }
    if (r < 0) {
        log_error("%s: %s", directory,
                  r == -EBADMSG ? "its front-end's answer makes no sense" : strerror(-r));
        code = EXIT_SYSTEM;
    } else if (json) {
        code = stats_print_json(reply);
    } else if (scols_print_table(stats.table) != 0) {
        log_error("cannot print the table");
        code = EXIT_SYSTEM;
    }
    scols_unref_table(stats.table);
    return code;
}

/* Asks the mount at `name` and prints the answer. */
static int stats_query(const char *name, const char *command, bool json, bool skip_zero) {
    ToolMounts mounts = {0};
    const MountEntry *mount = NULL;
    Text reply = {0};
    int code = tool_mount_find(&mounts, name, &mount);

    if (code == EXIT_OK) {
        code = tool_mount_ask(mount, command, &reply);
    }
    if (code == EXIT_OK) {
        code = stats_print(&reply, mount->directory, json, skip_zero);
    }
    text_done(&reply);
    tool_mounts_done(&mounts);
    return code;
}

/* The shared command line: [--json] DIR. Exit code when it ends here, -1 to go on. */
static int stats_parse(int argc, char **argv, const char *help, bool *json) {
    static const struct option long_options[] = {
        {"json", no_argument, NULL, 'J'}, {"help", no_argument, NULL, 'h'}, {0}};
    int option;

    while ((option = getopt_long(argc, argv, json != NULL ? "Jh" : "h", long_options, NULL)) !=
           -1) {
        if (option == 'h') {
            printf("Usage: berth %s%s DIR\n\n%s\n  -h, --help  show this\n", argv[0],
                   json != NULL ? " [--json]" : "", help);
            return EXIT_OK;
        }
        if (option == 'J' && json == NULL) {
            log_error("%s has no option --json", argv[0]);
        }
        if (option != 'J' || json == NULL) {
            return EXIT_USAGE; /* said above, or by getopt */
        }
        *json = true;
    }
    if (argc - optind != 1) {
        log_error("%s takes one DIR. Try berth %s --help", argv[0], argv[0]);
        return EXIT_USAGE;
    }
    return -1;
}

int cmd_stats(int argc, char **argv) {
    bool json = false;
    int code = stats_parse(argc, argv,
                           "Shows the statistics of the mount at DIR: requests, latencies, cache,\n"
                           "device. Counters that are zero are not listed.\n\n"
                           "  -J, --json  everything, as JSON",
                           &json);

    return code >= 0 ? code : stats_query(argv[optind], "stats", json, true);
}

int cmd_status(int argc, char **argv) {
    bool json = false;
    int code = stats_parse(argc, argv,
                           "Shows the state of the mount at DIR.\n\n  -J, --json  as JSON", &json);

    return code >= 0 ? code : stats_query(argv[optind], "status", json, false);
}

int cmd_sync(int argc, char **argv) {
    ToolMounts mounts = {0};
    const MountEntry *mount = NULL;
    Text reply = {0};
    int code = stats_parse(
        argc, argv, "Returns when everything written to the mount at DIR is on disk.\n", NULL);

    if (code >= 0) {
        return code;
    }
    code = tool_mount_find(&mounts, argv[optind], &mount);
    if (code == EXIT_OK) {
        code = tool_mount_ask(mount, "sync", &reply);
    }
    text_done(&reply);
    tool_mounts_done(&mounts);
    return code;
}
