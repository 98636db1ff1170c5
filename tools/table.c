/* SPDX-License-Identifier: MIT */
/*
 * Rows of named cells, and their two shapes. libsmartcols draws the table, and
 * lets no control character of a label or a path through; JSON is written by our
 * own writer, because cells may hold bytes that are not UTF-8, which libsmartcols
 * would pass on into a document that nobody could read.
 *
 * Cells are texts, also the numbers: they come as text from the other side, which
 * need not be a friend. A number that is none is shown as unknown.
 */
#include "table.h"

#include "berth/log.h"
#include "berth/options.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <strings.h>

/* ---- numbers for people ---- */

/* 1023 -> "1023B", 1536 -> "1.5K", 33554432 -> "32M". */
static void format_bytes(uint64_t value, char out[TABLE_NUMBER_MAX]) {
    static const char units[] = "BKMGTPE";
    uint64_t divisor = 1;
    unsigned unit = 0;

    while (unit + 1 < sizeof(units) - 1 && value / divisor >= 1024) {
        divisor *= 1024;
        unit++;
    }
    if (value % divisor == 0 || value / divisor >= 100) {
        (void)snprintf(out, TABLE_NUMBER_MAX, "%" PRIu64 "%c", value / divisor, units[unit]);
    } else {
        (void)snprintf(out, TABLE_NUMBER_MAX, "%.1f%c", (double)value / (double)divisor,
                       units[unit]);
    }
}

static void format_duration(uint64_t ns, char out[TABLE_NUMBER_MAX]) {
    static const char *const units[] = {"ns", "us", "ms", "s"};
    double value = (double)ns;
    unsigned unit = 0;

    while (value >= 1000 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1000;
        unit++;
    }
    (void)snprintf(out, TABLE_NUMBER_MAX, value < 10 && unit > 0 ? "%.1f%s" : "%.0f%s", value,
                   units[unit]);
}

static void format_seconds(uint64_t value, char out[TABLE_NUMBER_MAX]) {
    int used = value < 86400 ? 0 : snprintf(out, TABLE_NUMBER_MAX, "%" PRIu64 "d ", value / 86400);

    assert(used >= 0 && used < TABLE_NUMBER_MAX);
    (void)snprintf(out + used, (size_t)(TABLE_NUMBER_MAX - used), "%02u:%02u:%02u",
                   (unsigned)(value / 3600 % 24), (unsigned)(value / 60 % 60),
                   (unsigned)(value % 60));
}

void table_format(TableUnit unit, uint64_t value, char out[TABLE_NUMBER_MAX]) {
    switch (unit) {
    case TABLE_BYTES:
        format_bytes(value, out);
        break;
    case TABLE_SECONDS:
        format_seconds(value, out);
        break;
    case TABLE_DURATION:
        format_duration(value, out);
        break;
    case TABLE_PLAIN:
    default:
        (void)snprintf(out, TABLE_NUMBER_MAX, "%" PRIu64, value);
        break;
    }
}

/* ---- rows ---- */

void table_init(Table *table, const TableColumn *columns, unsigned count, const int *shown) {
    assert(count <= TABLE_COLUMNS_MAX);
    *table = (Table){.columns = columns, .column_count = count};
    while (*shown >= 0) {
        table->selected[table->selected_count++] = (unsigned)*shown++;
    }
}

void table_done(Table *table) {
    for (size_t i = 0; i < table->row_count * table->column_count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (Table){0};
}

size_t table_add_row(Table *table) {
    size_t row = table->row_count, count = table->column_count;
    char **larger = reallocarray(table->cells, (row + 1) * count, sizeof(char *));

    if (larger == NULL) {
        table->failed = true;
        return SIZE_MAX;
    }
    memset(larger + row * count, 0, count * sizeof(char *));
    table->cells = larger;
    return table->row_count++;
}

void table_set(Table *table, size_t row, unsigned column, const char *value) {
    char **cell;

    assert(column < table->column_count);
    if (row >= table->row_count) {
        return; /* failed is set */
    }
    cell = &table->cells[row * table->column_count + column];
    free(*cell);
    *cell = value == NULL ? NULL : strdup(value);
    table->failed = table->failed || (value != NULL && *cell == NULL);
}

void table_set_u64(Table *table, size_t row, unsigned column, uint64_t value) {
    char number[24];

    (void)snprintf(number, sizeof(number), "%" PRIu64, value);
    table_set(table, row, column, number);
}

const char *table_get(const Table *table, size_t row, unsigned column) {
    return row < table->row_count ? table->cells[row * table->column_count + column] : NULL;
}

/* The cell's number; fractions are dropped. False: it is none. */
static bool cell_number(const char *cell, uint64_t *ret) {
    char whole[32];

    (void)snprintf(whole, sizeof(whole), "%.*s", (int)strcspn(cell, "."), cell);
    return parse_u64(whole, ret) == 0;
}

/* ---- the user's choice ---- */

/* Column names may be typed in capitals, and with dashes, as the heading has them. */
static bool column_is(const TableColumn *column, const char *name) {
    const char *own = column->name;

    while (*own != '\0' &&
           (*own == tolower((unsigned char)*name) || (*own == '_' && *name == '-'))) {
        own++;
        name++;
    }
    return *own == '\0' && *name == '\0';
}

typedef struct Selecting {
    Table *table;
    const char *command;
} Selecting;

static int select_one(void *arg, const char *name, const char *value) {
    Selecting *selecting = arg;
    Table *table = selecting->table;

    for (unsigned i = 0; i < table->column_count && value == NULL; i++) {
        if (column_is(&table->columns[i], name)) {
            if (table->selected_count == TABLE_COLUMNS_MAX) {
                log_error("%s: too many columns", selecting->command);
                return -E2BIG;
            }
            table->selected[table->selected_count++] = i;
            return 0;
        }
    }
    log_error("%s: no column %s. Try berth %s --help", selecting->command, name,
              selecting->command);
    return -EINVAL;
}

int table_select(Table *table, const char *command, const char *list) {
    Selecting selecting = {table, command};

    if (*list == '+') {
        list++;
    } else {
        table->selected_count = 0;
    }
    if (options_parse(list, select_one, &selecting) != 0) {
        return EXIT_USAGE;
    }
    if (table->selected_count == 0) {
        log_error("%s: which columns? Try berth %s --help", command, command);
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

void table_select_all(Table *table) {
    for (unsigned i = 0; i < table->column_count; i++) {
        table->selected[i] = i;
    }
    table->selected_count = table->column_count;
}

int table_option(Table *table, const char *command, int option, const char *argument) {
    switch (option) {
    case 'J':
        table->json = true;
        return EXIT_OK;
    case 'n':
        table->no_headings = true;
        return EXIT_OK;
    case 'b':
        table->bytes = true;
        return EXIT_OK;
    case 'o':
        return table_select(table, command, argument);
    case TABLE_OPTION_ALL:
        table_select_all(table);
        return EXIT_OK;
    default:
        return -1;
    }
}

void table_help(const Table *table) {
    unsigned width = 0;

    printf("  -J, --json            JSON; numbers as they are, null for what is not known\n"
           "  -n, --noheadings      no line of column names\n"
           "  -b, --bytes           sizes in bytes\n"
           "  -o, --output COLUMNS  these columns, with commas between; +COLUMNS: these as well\n"
           "      --output-all      all columns\n"
           "  -h, --help            show this\n"
           "\n"
           "Columns:");
    for (unsigned i = 0; i < table->column_count; i++) {
        unsigned length = (unsigned)strlen(table->columns[i].name) + 1;

        if (width + length > 70) {
            printf("\n        ");
            width = 0;
        }
        printf(" %s", table->columns[i].name);
        width += length;
    }
    printf("\n");
}

/* ---- output ---- */

static void print_cell_json(Json *json, const TableColumn *column, const char *cell) {
    uint64_t number = 0;

    if (cell == NULL) {
        json_null(json, column->name);
    } else if (column->kind == JSON_BOOL) {
        json_bool(json, column->name, strcmp(cell, "true") == 0);
    } else if (column->kind == JSON_STRING) {
        json_string(json, column->name, cell);
    } else if (cell_number(cell, &number)) {
        json_u64(json, column->name, number);
    } else {
        json_null(json, column->name);
    }
}

static int print_json(const Table *table, const char *key) {
    Text out = {0};
    Json json = {.out = &out};
    int code;

    json_begin_object(&json, NULL);
    json_begin_array(&json, key);
    for (size_t i = 0; i < table->row_count; i++) {
        json_begin_object(&json, NULL);
        for (unsigned j = 0; j < table->selected_count; j++) {
            unsigned column = table->selected[j];

            print_cell_json(&json, &table->columns[column], table_get(table, i, column));
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

static int add_heading(struct libscols_table *out, const TableColumn *column) {
    char title[32];
    size_t length = strlen(column->name);

    assert(length < sizeof(title));
    for (size_t i = 0; i <= length; i++) {
        title[i] = (char)(column->name[i] == '_' ? '-' : toupper((unsigned char)column->name[i]));
    }
    return scols_table_new_column(out, title, 0, column->flags) == NULL ? -ENOMEM : 0;
}

static int add_line(struct libscols_table *out, const Table *table, size_t row) {
    struct libscols_line *line = scols_table_new_line(out, NULL);
    int r = line == NULL ? -ENOMEM : 0;

    for (unsigned j = 0; j < table->selected_count && r == 0; j++) {
        const TableColumn *column = &table->columns[table->selected[j]];
        const char *cell = table_get(table, row, table->selected[j]);
        char number[TABLE_NUMBER_MAX];
        uint64_t value;

        if (cell != NULL && column->kind == JSON_NUMBER) {
            bool raw = column->unit == TABLE_BYTES && table->bytes;

            if (cell_number(cell, &value)) {
                table_format(raw ? TABLE_PLAIN : column->unit, value, number);
                cell = number;
            } else {
                cell = NULL;
            }
        }
        if (cell != NULL) {
            r = scols_line_set_data(line, j, cell);
        }
    }
    return r;
}

int table_print(const Table *table, const char *key) {
    struct libscols_table *out;
    int r;

    if (table->failed) {
        log_error("out of memory");
        return EXIT_SYSTEM;
    }
    if (table->json) {
        return print_json(table, key);
    }
    out = scols_new_table();
    r = out == NULL ? -ENOMEM : scols_table_enable_noheadings(out, table->no_headings);
    for (unsigned j = 0; j < table->selected_count && r == 0; j++) {
        r = add_heading(out, &table->columns[table->selected[j]]);
    }
    for (size_t i = 0; i < table->row_count && r == 0; i++) {
        r = add_line(out, table, i);
    }
    return tool_table_finish(out, r);
}
