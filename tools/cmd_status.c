/* SPDX-License-Identifier: MIT */
/*
 * berth status and sync: questions to one mount's control socket. A status is a
 * JSON object; for people every member of it becomes a line "path value", so
 * that a new member needs no change here.
 */
#include "table.h"
#include "values.h"

#include "berth/log.h"
#include "berth/options.h"

#include <getopt.h>
#include <libsmartcols.h>
#include <stdio.h>

enum { COLUMN_NAME, COLUMN_VALUE, COLUMN_COUNT };

static const TableColumn columns[COLUMN_COUNT] = {
    [COLUMN_NAME] = {"name", JSON_STRING, TABLE_PLAIN, 0},
    [COLUMN_VALUE] = {"value", JSON_STRING, TABLE_PLAIN, 0},
};

static const int both[] = {COLUMN_NAME, COLUMN_VALUE, -1};
static const int value_only[] = {COLUMN_VALUE, -1};

typedef struct StatusPrint {
    Table table;
    const Values *values;
    unsigned missing;
} StatusPrint;

/* The length of "sandbox" in "sandbox.0"; 0: not an item of an array. */
static size_t array_length(const char *path) {
    const char *dot = strrchr(path, '.');

    return dot != NULL && dot[1] != '\0' && strspn(dot + 1, "0123456789") == strlen(dot + 1)
               ? (size_t)(dot - path)
               : 0;
}

/* An array is one line, its items with commas between. */
static bool append_item(StatusPrint *print, const Value *value, size_t length) {
    size_t last = print->table.row_count - 1;
    const char *name = table_get(&print->table, last, COLUMN_NAME);
    const char *items = table_get(&print->table, last, COLUMN_VALUE);
    Text joined = {0};

    if (name == NULL || strlen(name) != length || memcmp(name, value->path, length) != 0) {
        return false;
    }
    text_printf(&joined, "%s,%s", items != NULL ? items : "", value->text);
    table_set(&print->table, last, COLUMN_VALUE, text_string(&joined));
    text_done(&joined);
    return true;
}

static void print_member(StatusPrint *print, const Value *value) {
    size_t row, length = array_length(value->path);
    char duration[TABLE_NUMBER_MAX], name[160];

    if (length > 0 && length < sizeof(name) && append_item(print, value, length)) {
        return;
    }
    row = table_add_row(&print->table);
    (void)snprintf(name, sizeof(name), "%.*s", length > 0 ? (int)length : (int)sizeof(name),
                   value->path);
    table_set(&print->table, row, COLUMN_NAME, name);
    if (strcmp(value->path, "uptime") == 0 && value->kind == JSON_NUMBER) {
        table_format(TABLE_SECONDS, (uint64_t)MIN(value->number, 1e15), duration);
        table_set(&print->table, row, COLUMN_VALUE, duration);
    } else {
        table_set(&print->table, row, COLUMN_VALUE, value->text);
    }
}

/* "state", "daemon.restarts", "sandbox": the member, or all that are in it. */
static int select_member(void *arg, const char *name, const char *value) {
    StatusPrint *print = arg;
    const Values *values = print->values;
    size_t length = strlen(name);
    bool found = false;

    for (size_t i = 0; i < values->count && value == NULL; i++) {
        const char *path = values->items[i].path;

        if (strncmp(path, name, length) == 0 && (path[length] == '\0' || path[length] == '.')) {
            print_member(print, &values->items[i]);
            found = true;
        }
    }
    if (!found) {
        log_error("status: no member %s in this mount's status", name);
        print->missing++;
    }
    return 0;
}

static int status_print(const Values *values, const char *chosen, bool no_headings) {
    StatusPrint print = {.values = values};
    int code;

    table_init(&print.table, columns, COLUMN_COUNT, no_headings ? value_only : both);
    print.table.no_headings = true;
    if (chosen != NULL) {
        if (options_parse(chosen, select_member, &print) != 0) {
            print.missing++;
        }
    } else {
        for (size_t i = 0; i < values->count; i++) {
            if (values->items[i].text[0] != '\0') {
                print_member(&print, &values->items[i]);
            }
        }
    }
    code = print.missing > 0 ? EXIT_USAGE : table_print(&print.table, "status");
    table_done(&print.table);
    return code;
}

typedef struct StatusArguments {
    const char *members;
    bool json, no_headings;
} StatusArguments;

static int status_query(const char *name, const StatusArguments *arguments) {
    Values values = {0};
    Text reply = {0};
    int code = values_query(&values, name, "status", &reply);

    if (code == EXIT_OK) {
        code = arguments->json ? tool_print_document(&reply)
                               : status_print(&values, arguments->members, arguments->no_headings);
    }
    values_done(&values);
    text_done(&reply);
    return code;
}

static void status_help(void) {
    printf("Usage: berth status [--json | [--noheadings] [-o MEMBERS]] DIR\n"
           "\n"
           "Shows the state of the mount at DIR.\n"
           "\n"
           "  -J, --json            the whole status, as JSON\n"
           "  -n, --noheadings      the values without their names\n"
           "  -o, --output MEMBERS  these only, with commas between, as \"state\" or \"daemon\"\n"
           "  -h, --help            show this\n");
}

int cmd_status(int argc, char **argv) {
    static const struct option long_options[] = {
        {"json", no_argument, NULL, 'J'},
        {"noheadings", no_argument, NULL, 'n'},
        {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    StatusArguments arguments = {0};
    int option;

    while ((option = getopt_long(argc, argv, "Jno:h", long_options, NULL)) != -1) {
        switch (option) {
        case 'J':
            arguments.json = true;
            break;
        case 'n':
            arguments.no_headings = true;
            break;
        case 'o':
            arguments.members = optarg;
            break;
        case 'h':
            status_help();
            return EXIT_OK;
        default:
            return EXIT_USAGE;
        }
    }
    if (argc - optind != 1 || (arguments.json && arguments.members != NULL)) {
        log_error("status takes one DIR, and --json shows all. Try berth status --help");
        return EXIT_USAGE;
    }
    return status_query(argv[optind], &arguments);
}
