/* SPDX-License-Identifier: MIT */
/*
 * berth stats: what a mount has counted. For people two tables: the kinds of
 * requests with their latencies, and whatever else there is as lines "path value",
 * so that new counters need no change here; counters that are zero are left out.
 * For programs: JSON as the mount says it, once it has been checked, or Prometheus'
 * text format, of one mount or of all.
 */
#include "prometheus.h"
#include "table.h"
#include "values.h"

#include "berth/log.h"

#include <getopt.h>
#include <libsmartcols.h>
#include <stdio.h>

enum {
    COLUMN_OPERATION,
    COLUMN_COUNT,
    COLUMN_ERRORS,
    COLUMN_MEAN,
    COLUMN_P50,
    COLUMN_P90,
    COLUMN_P99,
    COLUMN_P999,
    COLUMN_MAX,
    COLUMNS,
};

static const TableColumn columns[COLUMNS] = {
    [COLUMN_OPERATION] = {"operation", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_COUNT] = {"count", JSON_NUMBER, TABLE_PLAIN, SCOLS_FL_RIGHT},
    [COLUMN_ERRORS] = {"errors", JSON_NUMBER, TABLE_PLAIN, SCOLS_FL_RIGHT},
    [COLUMN_MEAN] = {"mean", JSON_NUMBER, TABLE_DURATION, SCOLS_FL_RIGHT},
    [COLUMN_P50] = {"p50", JSON_NUMBER, TABLE_DURATION, SCOLS_FL_RIGHT},
    [COLUMN_P90] = {"p90", JSON_NUMBER, TABLE_DURATION, SCOLS_FL_RIGHT},
    [COLUMN_P99] = {"p99", JSON_NUMBER, TABLE_DURATION, SCOLS_FL_RIGHT},
    [COLUMN_P999] = {"p999", JSON_NUMBER, TABLE_DURATION, SCOLS_FL_RIGHT},
    [COLUMN_MAX] = {"max", JSON_NUMBER, TABLE_DURATION, SCOLS_FL_RIGHT},
};

/* The members of a request's object, in the columns' order. */
static const char *const members[COLUMNS] = {NULL,     "count",  "errors",  "mean_ns", "p50_ns",
                                             "p90_ns", "p99_ns", "p999_ns", "max_ns"};

static const int shown[] = {COLUMN_OPERATION, COLUMN_COUNT, COLUMN_ERRORS, COLUMN_MEAN, COLUMN_P50,
                            COLUMN_P90,       COLUMN_P99,   COLUMN_MAX,    -1};

static void add_operations(Table *table, const Values *values) {
    for (size_t i = 0; i < values->count; i++) {
        const char *path = values->items[i].path, *name;
        size_t length = values_request(path, "count", &name), row;
        char member[160];

        if (length == 0 || length > 100) {
            continue;
        }
        row = table_add_row(table);
        (void)snprintf(member, sizeof(member), "%.*s", (int)length, name);
        table_set(table, row, COLUMN_OPERATION, member);
        for (unsigned j = COLUMN_COUNT; j < COLUMNS; j++) {
            const Value *value;

            (void)snprintf(member, sizeof(member), "requests.%.*s.%s", (int)length, name,
                           members[j]);
            value = values_find(values, member);
            table_set(table, row, j, value != NULL ? value->text : NULL);
        }
    }
}

/* The rest: what is zero or empty tells nothing. */
static int print_counters(const Values *values, const Table *like) {
    enum { NAME, VALUE };
    static const TableColumn names[] = {[NAME] = {"name", JSON_STRING, TABLE_PLAIN, 0},
                                        [VALUE] = {"value", JSON_STRING, TABLE_PLAIN, 0}};
    static const int both[] = {NAME, VALUE, -1};
    Table table;
    int code;

    table_init(&table, names, ARRAY_SIZE(names), both);
    table.no_headings = like->no_headings;
    for (size_t i = 0; i < values->count; i++) {
        const Value *value = &values->items[i];
        size_t row, length = strlen(value->path);
        char number[TABLE_NUMBER_MAX];
        bool size = (length >= 6 && strcmp(value->path + length - 6, "_bytes") == 0) ||
                    strcmp(value->path, "device.size") == 0 ||
                    strncmp(value->path, "bytes_", 6) == 0;

        if (strncmp(value->path, "requests.", 9) == 0 || value->text[0] == '\0' ||
            value->kind == JSON_NULL || (value->kind == JSON_NUMBER && value->number == 0)) {
            continue;
        }
        row = table_add_row(&table);
        table_set(&table, row, NAME, value->path);
        if (size && value->kind == JSON_NUMBER && !like->bytes) {
            table_format(TABLE_BYTES, (uint64_t)MIN(value->number, 1e18), number);
            table_set(&table, row, VALUE, number);
        } else {
            table_set(&table, row, VALUE, value->text);
        }
    }
    code = table_print(&table, "counters");
    table_done(&table);
    return code;
}

static int print_people(Table *table, const Values *values, bool chosen) {
    int code = EXIT_OK;

    add_operations(table, values);
    if (table->row_count > 0 || chosen) {
        code = table_print(table, "requests");
    }
    if (code == EXIT_OK && !chosen) {
        code = table->row_count > 0 ? tool_print("\n", 1) : EXIT_OK;
        code = code == EXIT_OK ? print_counters(values, table) : code;
    }
    return code;
}

static int stats_one(Table *table, const char *name, bool chosen) {
    Values values = {0};
    Text reply = {0};
    int code = values_query(&values, name, "stats", &reply);

    if (code == EXIT_OK) {
        code = table->json && !chosen ? tool_print_document(&reply)
                                      : print_people(table, &values, chosen);
    }
    values_done(&values);
    text_done(&reply);
    return code;
}

/* ---- Prometheus ---- */

static void prometheus_ask(const MountEntry *entry, PrometheusMount *ret) {
    int r = values_ask(&ret->values, "status.", entry, "status", 0);

    ret->directory = entry->directory;
    ret->source = entry->source;
    ret->error = r < 0 ? r : values_ask(&ret->values, "", entry, "stats", 0);
}

/* name NULL: every mount. One that does not answer is there with berth_up 0. */
static int stats_prometheus(const char *name) {
    ToolMounts mounts = {0};
    const MountEntry *only = NULL;
    PrometheusMount *asked = NULL;
    size_t count = 0;
    Text out = {0};
    int code = EXIT_OK, r;

    if (name != NULL) {
        code = tool_mount_find(&mounts, name, &only);
    } else {
        r = mounts_read(&mounts.entries, &mounts.count);
        if (r < 0) {
            log_error("cannot read the mount table: %s", strerror(-r));
            code = EXIT_SYSTEM;
        }
    }
    if (code == EXIT_OK) {
        asked = calloc(mounts.count + 1, sizeof(*asked));
        for (size_t i = 0; asked != NULL && i < mounts.count; i++) {
            if (only == NULL || only == &mounts.entries[i]) {
                prometheus_ask(&mounts.entries[i], &asked[count++]);
            }
        }
        if (asked != NULL) {
            prometheus_write(&out, asked, count);
        }
        if (asked == NULL || out.failed) {
            log_error("out of memory");
            code = EXIT_SYSTEM;
        } else {
            code = tool_print(text_string(&out), out.length);
        }
    }
    for (size_t i = 0; i < count; i++) {
        values_done(&asked[i].values);
    }
    free(asked);
    text_done(&out);
    tool_mounts_done(&mounts);
    return code;
}

/* ---- command line ---- */

static void stats_help(const Table *table) {
    printf("Usage: berth stats [--json] [--noheadings] [--bytes] [-o COLUMNS] DIR\n"
           "       berth stats --prometheus [DIR]\n"
           "\n"
           "Shows what the mount at DIR has counted: requests and their latencies, cache, device.\n"
           "Counters that are zero are not listed. A percentile is the upper bound of a bucket of\n"
           "its histogram, each twice as wide as the one before.\n"
           "\n"
           "  -P, --prometheus      the text format of Prometheus; without DIR: of all mounts\n");
    table_help(table);
    printf("With -o only the table of requests is shown; --json without -o shows everything.\n");
}

int cmd_stats(int argc, char **argv) {
    static const struct option long_options[] = {
        TABLE_LONG_OPTIONS,
        {"prometheus", no_argument, NULL, 'P'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool prometheus = false, chosen = false;
    int option, code = -1;
    Table table;

    table_init(&table, columns, COLUMNS, shown);
    while (code <= 0 &&
           (option = getopt_long(argc, argv, TABLE_SHORT_OPTIONS "Ph", long_options, NULL)) != -1) {
        chosen = chosen || option == 'o' || option == TABLE_OPTION_ALL;
        prometheus = prometheus || option == 'P';
        code = table_option(&table, "stats", option, optarg);
        if (option == 'h') {
            stats_help(&table);
            table_done(&table);
            return EXIT_OK;
        }
        if (code < 0 && option != 'P') {
            code = EXIT_USAGE; /* getopt has said why */
        }
    }
    if (code <= 0 && prometheus && (table.json || chosen || argc - optind > 1)) {
        log_error("stats --prometheus takes one DIR at most, and no other format");
        code = EXIT_USAGE;
    } else if (code <= 0 && !prometheus && argc - optind != 1) {
        log_error("stats takes one DIR. Try berth stats --help");
        code = EXIT_USAGE;
    }
    if (code <= 0) {
        code = prometheus ? stats_prometheus(argv[optind]) /* NULL at the end of argv */
                          : stats_one(&table, argv[optind], chosen);
    }
    table_done(&table);
    return code;
}
