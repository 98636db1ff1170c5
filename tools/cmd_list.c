/* SPDX-License-Identifier: MIT */
/*
 * berth list: one row per mount, from the mount table and from each mount's
 * own status. A mount that does not answer is listed all the same; what only
 * it knows stays empty (null), and its state says why.
 *
 * A row is an array of texts indexed by Column; the table and the JSON are
 * written from the same rows.
 */
#include "berth.h"

#include "berth/log.h"
#include "berth/options.h"

#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <strings.h>

typedef enum Column {
    COLUMN_SOURCE,
    COLUMN_DIRECTORY,
    COLUMN_TYPE,
    COLUMN_OPTIONS,
    COLUMN_FRONTEND_PID,
    COLUMN_DAEMON_PID,
    COLUMN_UPTIME,
    COLUMN_READONLY,
    COLUMN_READ_ONLY_REASON,
    COLUMN_STATE,
    COLUMN_COUNT,
} Column;

typedef struct ColumnInfo {
    const char *name; /* also the JSON member and the status member */
    JsonKind kind;
    int flags; /* of libsmartcols */
} ColumnInfo;

static const ColumnInfo columns[COLUMN_COUNT] = {
    [COLUMN_SOURCE] = {"source", JSON_STRING, 0},
    [COLUMN_DIRECTORY] = {"directory", JSON_STRING, 0},
    [COLUMN_TYPE] = {"type", JSON_STRING, 0},
    [COLUMN_OPTIONS] = {"options", JSON_STRING, SCOLS_FL_TRUNC},
    [COLUMN_FRONTEND_PID] = {"frontend_pid", JSON_NUMBER, SCOLS_FL_RIGHT},
    [COLUMN_DAEMON_PID] = {"daemon_pid", JSON_NUMBER, SCOLS_FL_RIGHT},
    [COLUMN_UPTIME] = {"uptime", JSON_NUMBER, SCOLS_FL_RIGHT},
    [COLUMN_READONLY] = {"readonly", JSON_BOOL, 0},
    [COLUMN_READ_ONLY_REASON] = {"read_only_reason", JSON_STRING, 0},
    [COLUMN_STATE] = {"state", JSON_STRING, 0},
};

typedef struct Row {
    char *cells[COLUMN_COUNT]; /* NULL: not known */
} Row;

typedef struct Selection {
    Column columns[COLUMN_COUNT];
    unsigned count;
} Selection;

static void row_done(Row *row) {
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        free(row->cells[i]);
    }
}

static void row_set(Row *row, Column column, const char *value) {
    free(row->cells[column]);
    row->cells[column] = value == NULL ? NULL : strdup(value);
}

/* Takes a status member of the right kind, unless the mount table has said it already. */
static void row_visit(void *arg, const char *path, JsonKind kind, const char *value) {
    Row *row = arg;

    for (unsigned i = COLUMN_TYPE; i < COLUMN_COUNT; i++) {
        if (strcmp(path, columns[i].name) == 0 && kind == columns[i].kind) {
            row_set(row, (Column)i, value);
        }
    }
}

/* Numbers come from the other side as text: what does not fit is not passed on. Nor is what means
 * "none". */
static void row_check(Row *row) {
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        if (columns[i].kind == JSON_NUMBER && row->cells[i] != NULL) {
            char whole[32];
            uint64_t number;

            (void)snprintf(whole, sizeof(whole), "%.*s", (int)strcspn(row->cells[i], "."),
                           row->cells[i]);
            row_set(row, (Column)i, parse_u64(whole, &number) == 0 ? whole : NULL);
        }
    }
    if (row->cells[COLUMN_DAEMON_PID] != NULL && strcmp(row->cells[COLUMN_DAEMON_PID], "0") == 0) {
        row_set(row, COLUMN_DAEMON_PID, NULL); /* daemon=never */
    }
    if (row->cells[COLUMN_READ_ONLY_REASON] != NULL &&
        row->cells[COLUMN_READ_ONLY_REASON][0] == '\0') {
        row_set(row, COLUMN_READ_ONLY_REASON, NULL);
    }
}

static const char *row_silence(int error) {
    switch (error) {
    case -ENOENT:
    case -ECONNREFUSED:
        return "dead";
    case -EACCES:
    case -EPERM:
        return "not accessible";
    case -ETIMEDOUT:
        return "stalled";
    default:
        return "unknown";
    }
}

static void row_fill(Row *row, const MountEntry *mount) {
    Text reply = {0};
    int r = control_call(mount->device, mount->owner, "status", &reply);

    row_set(row, COLUMN_OPTIONS, mount->options);
    row_set(row, COLUMN_READONLY, mount->readonly ? "true" : "false");
    if (r == 0) {
        r = json_read(text_string(&reply), reply.length, row_visit, row);
    }
    row_set(row, COLUMN_SOURCE, mount->source);
    row_set(row, COLUMN_DIRECTORY, mount->directory);
    row_check(row);
    if (r < 0) {
        row_set(row, COLUMN_STATE, row_silence(r));
    }
    text_done(&reply);
}

/* ---- output ---- */

static int list_json(const Row *rows, size_t count, const Selection *selection) {
    Text out = {0};
    Json json = {.out = &out};
    int code;

    json_begin_object(&json, NULL);
    json_begin_array(&json, "mounts");
    for (size_t i = 0; i < count; i++) {
        json_begin_object(&json, NULL);
        for (unsigned j = 0; j < selection->count; j++) {
            const ColumnInfo *info = &columns[selection->columns[j]];
            const char *cell = rows[i].cells[selection->columns[j]];
            uint64_t number = 0;

            if (cell == NULL) {
                json_null(&json, info->name);
            } else if (info->kind == JSON_NUMBER && parse_u64(cell, &number) == 0) {
                json_u64(&json, info->name, number);
            } else if (info->kind == JSON_BOOL) {
                json_bool(&json, info->name, strcmp(cell, "true") == 0);
            } else {
                json_string(&json, info->name, cell);
            }
        }
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    text_append(&out, "\n", 1);
    if (out.failed) {
        log_error("out of memory");
        code = EXIT_SYSTEM;
    } else {
        code = tool_print(out.data, out.length);
    }
    text_done(&out);
    return code;
}

/* Seconds as people read them: "4d 03:02:01". */
static void list_duration(const char *seconds, char out[40]) {
    uint64_t value = 0;

    (void)parse_u64(seconds, &value);
    if (value >= 86400) {
        (void)snprintf(out, 40, "%" PRIu64 "d %02u:%02u:%02u", value / 86400,
                       (unsigned)(value / 3600 % 24), (unsigned)(value / 60 % 60),
                       (unsigned)(value % 60));
    } else {
        (void)snprintf(out, 40, "%02u:%02u:%02u", (unsigned)(value / 3600),
                       (unsigned)(value / 60 % 60), (unsigned)(value % 60));
    }
}

static int list_add_row(struct libscols_table *table, const Row *row, const Selection *selection) {
    struct libscols_line *line = scols_table_new_line(table, NULL);
    int r = line == NULL ? -ENOMEM : 0;

    for (unsigned j = 0; j < selection->count && r == 0; j++) {
        Column column = selection->columns[j];
        const char *cell = row->cells[column];
        char duration[40];

        if (cell != NULL && column == COLUMN_UPTIME) {
            list_duration(cell, duration);
            cell = duration;
        }
        if (cell != NULL) {
            r = scols_line_set_data(line, j, cell);
        }
    }
    return r;
}

static int list_table(const Row *rows, size_t count, const Selection *selection, bool headings) {
    struct libscols_table *table = scols_new_table();
    int r = table == NULL ? -ENOMEM : scols_table_enable_noheadings(table, !headings);

    for (unsigned j = 0; j < selection->count && r == 0; j++) {
        const ColumnInfo *info = &columns[selection->columns[j]];
        char title[32];
        size_t length = strlen(info->name);

        for (size_t i = 0; i <= length; i++) {
            title[i] = (char)(info->name[i] == '_' ? '-' : toupper(info->name[i]));
        }
        r = scols_table_new_column(table, title, 0, info->flags) == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        r = list_add_row(table, &rows[i], selection);
    }
    return tool_table_finish(table, r);
}

/* ---- command line ---- */

static void list_help(void) {
    printf("Usage: berth list [--json] [--noheadings] [-o COLUMNS]\n"
           "\n"
           "Lists the mounts of berth.\n"
           "\n"
           "  -J, --json            an object with an array \"mounts\"\n"
           "  -n, --noheadings      no line of column names\n"
           "  -o, --output COLUMNS  these columns, with commas between:\n"
           "                       ");
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        printf(" %s%s", columns[i].name, i + 1 < COLUMN_COUNT ? "," : "\n");
        if (i == COLUMN_UPTIME) {
            printf("\n                       ");
        }
    }
    printf("  -h, --help            show this\n");
}

static int list_select(void *arg, const char *name, const char *value) {
    Selection *selection = arg;

    for (unsigned i = 0; i < COLUMN_COUNT && value == NULL; i++) {
        char dashed[32];

        (void)snprintf(dashed, sizeof(dashed), "%s", columns[i].name);
        for (char *c = strchr(dashed, '_'); c != NULL; c = strchr(c, '_')) {
            *c = '-';
        }
        if (strcasecmp(name, columns[i].name) == 0 || strcasecmp(name, dashed) == 0) {
            if (selection->count == COLUMN_COUNT) {
                return -E2BIG;
            }
            selection->columns[selection->count++] = (Column)i;
            return 0;
        }
    }
    log_error("list: no column %s. Try berth list --help", name);
    return -EINVAL;
}

static int list_print(const Selection *selection, bool json, bool headings) {
    ToolMounts mounts = {0};
    Row *rows;
    int r = mounts_read(&mounts.entries, &mounts.count), code;

    if (r < 0) {
        log_error("cannot read the mount table: %s", strerror(-r));
        return EXIT_SYSTEM;
    }
    rows = calloc(mounts.count + 1, sizeof(*rows));
    if (rows == NULL) {
        log_error("out of memory");
        tool_mounts_done(&mounts);
        return EXIT_SYSTEM;
    }
    for (size_t i = 0; i < mounts.count; i++) {
        row_fill(&rows[i], &mounts.entries[i]);
    }
    code = json ? list_json(rows, mounts.count, selection)
                : list_table(rows, mounts.count, selection, headings);
    for (size_t i = 0; i < mounts.count; i++) {
        row_done(&rows[i]);
    }
    free(rows);
    tool_mounts_done(&mounts);
    return code;
}

int cmd_list(int argc, char **argv) {
    static const struct option long_options[] = {
        {"json", no_argument, NULL, 'J'},
        {"noheadings", no_argument, NULL, 'n'},
        {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool json = false, headings = true;
    Selection selection = {0};
    int option;

    while ((option = getopt_long(argc, argv, "Jno:h", long_options, NULL)) != -1) {
        switch (option) {
        case 'J':
            json = true;
            break;
        case 'n':
            headings = false;
            break;
        case 'o':
            if (options_parse(optarg, list_select, &selection) != 0) {
                return EXIT_USAGE;
            }
            break;
        case 'h':
            list_help();
            return EXIT_OK;
        default:
            return EXIT_USAGE;
        }
    }
    if (optind != argc) {
        log_error("list takes no argument. Try berth list --help");
        return EXIT_USAGE;
    }
    if (selection.count == 0) {
        selection.count = json ? COLUMN_COUNT : COLUMN_UPTIME + 1;
        for (unsigned i = 0; i < selection.count; i++) {
            selection.columns[i] = (Column)i;
        }
    }
    return list_print(&selection, json, headings);
}
