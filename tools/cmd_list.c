/* SPDX-License-Identifier: MIT */
/*
 * berth list: one row per mount, from the mount table and from each mount's
 * own status. A mount that does not answer is listed all the same; what only
 * it knows stays empty (null), and its state says why. With --types: one row for
 * each filesystem type (list_types.c).
 */
#include "table.h"

#include "berth/log.h"

#include <getopt.h>
#include <libsmartcols.h>
#include <stdio.h>

enum {
    COLUMN_SOURCE,
    COLUMN_DIRECTORY,
    COLUMN_TYPE,
    COLUMN_SUBTYPE,
    COLUMN_LABEL,
    COLUMN_UUID,
    COLUMN_OPTIONS,
    COLUMN_FRONTEND_PID,
    COLUMN_DAEMON_PID,
    COLUMN_SPARE_PID,
    COLUMN_UPTIME,
    COLUMN_STATE,
    COLUMN_RESTARTS,
    COLUMN_LAST_ERROR,
    COLUMN_READONLY,
    COLUMN_READ_ONLY_REASON,
    COLUMN_TRANSPORT,
    COLUMN_SANDBOX,
    COLUMN_COUNT,
};

static const TableColumn columns[COLUMN_COUNT] = {
    [COLUMN_SOURCE] = {"source", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_DIRECTORY] = {"directory", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_TYPE] = {"type", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_SUBTYPE] = {"subtype", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_LABEL] = {"label", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_UUID] = {"uuid", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_OPTIONS] = {"options", JSON_STRING, TABLE_PLAIN, SCOLS_FL_TRUNC},
    [COLUMN_FRONTEND_PID] = {"frontend_pid", JSON_NUMBER, TABLE_PLAIN, SCOLS_FL_RIGHT},
    [COLUMN_DAEMON_PID] = {"daemon_pid", JSON_NUMBER, TABLE_PLAIN, SCOLS_FL_RIGHT},
    [COLUMN_SPARE_PID] = {"spare_pid", JSON_NUMBER, TABLE_PLAIN, SCOLS_FL_RIGHT},
    [COLUMN_UPTIME] = {"uptime", JSON_NUMBER, TABLE_SECONDS, SCOLS_FL_RIGHT},
    [COLUMN_STATE] = {"state", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_RESTARTS] = {"restarts", JSON_NUMBER, TABLE_PLAIN, SCOLS_FL_RIGHT},
    [COLUMN_LAST_ERROR] = {"last_error", JSON_STRING, TABLE_PLAIN, SCOLS_FL_TRUNC},
    [COLUMN_READONLY] = {"readonly", JSON_BOOL, TABLE_PLAIN, 0},
    [COLUMN_READ_ONLY_REASON] = {"read_only_reason", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_TRANSPORT] = {"transport", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_SANDBOX] = {"sandbox", JSON_STRING, TABLE_PLAIN, SCOLS_FL_TRUNC},
};

/* Without -o. JSON has all. */
static const int shown[] = {
    COLUMN_SOURCE,   COLUMN_DIRECTORY,        COLUMN_TYPE, COLUMN_STATE, COLUMN_UPTIME,
    COLUMN_RESTARTS, COLUMN_READ_ONLY_REASON, -1};

typedef struct Row {
    Table *table;
    size_t index;
    Text sandbox; /* the array's items, joined */
} Row;

/* Takes a member of the status of the right kind. Those of "daemon" count like the outer ones. */
static void row_visit(void *arg, const char *path, JsonKind kind, const char *value) {
    Row *row = arg;
    const char *name = strncmp(path, "daemon.", 7) == 0 ? path + 7 : path;

    if (strncmp(path, "sandbox.", 8) == 0 && kind == JSON_STRING) {
        text_printf(&row->sandbox, "%s%s", row->sandbox.length > 0 ? "," : "", value);
        return;
    }
    for (unsigned i = COLUMN_TYPE; i < COLUMN_COUNT; i++) {
        if (strcmp(name, columns[i].name) == 0 && kind == columns[i].kind &&
            !(i == COLUMN_STATE && name != path)) {
            /* An empty text, and a process 0, stand for "none". */
            bool none = kind == JSON_STRING ? value[0] == '\0'
                                            : i <= COLUMN_SPARE_PID && strcmp(value, "0") == 0;

            table_set(row->table, row->index, i, none ? NULL : value);
        }
    }
}

static void list_add_mount(Table *table, const MountEntry *mount) {
    Row row = {.table = table, .index = table_add_row(table)};
    Text reply = {0};
    int r = control_call(mount->device, mount->owner, "status", &reply);

    table_set(table, row.index, COLUMN_OPTIONS, mount->options);
    table_set(table, row.index, COLUMN_READONLY, mount->readonly ? "true" : "false");
    if (r == 0) {
        r = json_read(text_string(&reply), reply.length, row_visit, &row);
    }
    /* What the kernel says of these counts. */
    table_set(table, row.index, COLUMN_SOURCE, mount->source);
    table_set(table, row.index, COLUMN_DIRECTORY, mount->directory);
    if (row.sandbox.length > 0) {
        table_set(table, row.index, COLUMN_SANDBOX, text_string(&row.sandbox));
    }
    if (r < 0) {
        table_set(table, row.index, COLUMN_STATE, tool_silence(r));
    }
    table->failed = table->failed || reply.failed || row.sandbox.failed;
    text_done(&row.sandbox);
    text_done(&reply);
}

static int list_print(Table *table) {
    ToolMounts mounts = {0};
    int r = mounts_read(&mounts.entries, &mounts.count);

    if (r < 0) {
        log_error("cannot read the mount table: %s", strerror(-r));
        return EXIT_SYSTEM;
    }
    for (size_t i = 0; i < mounts.count; i++) {
        list_add_mount(table, &mounts.entries[i]);
    }
    tool_mounts_done(&mounts);
    return table_print(table, "mounts");
}

static void list_help(const Table *table, bool types) {
    printf("Usage: berth list [--types] [--json] [--noheadings] [--bytes] [-o COLUMNS]\n"
           "\n"
           "%s\n"
           "\n"
           "  -t, --types           the filesystem types and their daemons instead of the mounts\n",
           types ? "Lists the filesystem types, and where the daemons are that serve them."
                 : "Lists the mounts of berth.");
    table_help(table);
}

/* --types decides what columns there are, wherever it stands among the options. */
static bool list_wants_types(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-t") == 0 || strcmp(argv[i], "--types") == 0) {
            return true;
        }
    }
    return false;
}

int cmd_list(int argc, char **argv) {
    static const struct option long_options[] = {
        TABLE_LONG_OPTIONS,
        {"types", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool types = list_wants_types(argc, argv), chosen = false;
    int option, code = -1;
    Table table;

    if (types) {
        list_types_init(&table);
    } else {
        table_init(&table, columns, COLUMN_COUNT, shown);
    }
    while (code <= 0 &&
           (option = getopt_long(argc, argv, TABLE_SHORT_OPTIONS "th", long_options, NULL)) != -1) {
        chosen = chosen || option == 'o';
        code = table_option(&table, "list", option, optarg);
        if (option == 'h') {
            list_help(&table, types);
            table_done(&table);
            return EXIT_OK;
        }
        if (code < 0 && option != 't') {
            code = EXIT_USAGE; /* getopt has said why */
        }
    }
    if (code <= 0 && optind != argc) {
        log_error("list takes no argument. Try berth list --help");
        code = EXIT_USAGE;
    }
    if (table.json && !chosen) {
        table_select_all(&table);
    }
    if (code <= 0) {
        code = types ? list_types_print(&table) : list_print(&table);
    }
    table_done(&table);
    return code;
}
