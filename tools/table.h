/* SPDX-License-Identifier: MIT */
/*
 * Rows of named cells, printed as util-linux prints them: an aligned table, with
 * -o COLUMNS, --noheadings and --bytes, or JSON. Private to tools/.
 */
#ifndef BERTH_TOOLS_TABLE_H
#define BERTH_TOOLS_TABLE_H

#include "berth.h"

/* How a number is shown to people; JSON has it as it is. */
typedef enum TableUnit {
    TABLE_PLAIN,
    TABLE_BYTES,    /* "1.5M", a number with --bytes */
    TABLE_SECONDS,  /* "4d 03:02:01" */
    TABLE_DURATION, /* of nanoseconds: "1.2ms" */
} TableUnit;

typedef struct TableColumn {
    const char *name; /* as JSON has it; the heading is in capitals, with dashes */
    JsonKind kind;
    TableUnit unit;
    int flags; /* of libsmartcols */
} TableColumn;

#define TABLE_COLUMNS_MAX 32u

typedef struct Table {
    const TableColumn *columns;
    unsigned column_count;
    unsigned selected[TABLE_COLUMNS_MAX];
    unsigned selected_count;
    bool json, no_headings, bytes;
    char **cells; /* row after row; NULL: not known */
    size_t row_count;
    bool failed; /* no memory: said when printed */
} Table;

/* The columns shown unless the user says otherwise: indices, ended by -1. */
void table_init(Table *table, const TableColumn *columns, unsigned count, const int *shown);
void table_done(Table *table);
/* "a,b", or "+a,b" to add to what is shown. An exit code, said on stderr. */
int table_select(Table *table, const char *command, const char *list);
void table_select_all(Table *table);
/* Handles -J, -n, -b, -o LIST and --output-all (TABLE_OPTION_ALL). -1: not one of them. */
#define TABLE_OPTION_ALL 256
#define TABLE_SHORT_OPTIONS "Jnbo:"
#define TABLE_LONG_OPTIONS                                                             \
    {"json", no_argument, NULL, 'J'}, {"noheadings", no_argument, NULL, 'n'},          \
        {"bytes", no_argument, NULL, 'b'}, {"output", required_argument, NULL, 'o'}, { \
        "output-all", no_argument, NULL, TABLE_OPTION_ALL                              \
    }
int table_option(Table *table, const char *command, int option, const char *argument);
/* The text about these options, and the columns, for --help. */
void table_help(const Table *table);

/* A new row's index, all its cells unknown. */
size_t table_add_row(Table *table);
/* value may be NULL: not known. Rows that could not be added are ignored. */
void table_set(Table *table, size_t row, unsigned column, const char *value);
void table_set_u64(Table *table, size_t row, unsigned column, uint64_t value);
const char *table_get(const Table *table, size_t row, unsigned column);
/* Prints the table, or {"key": [...]}. An exit code. */
int table_print(const Table *table, const char *key);

/* "1.5M", as lsblk(8) has sizes; "850us", "1.2ms"; "4d 03:02:01". */
#define TABLE_NUMBER_MAX 40
void table_format(TableUnit unit, uint64_t value, char out[TABLE_NUMBER_MAX]);

/* list_types.c: the other table of berth list. */
void list_types_init(Table *table);
int list_types_print(Table *table);

#endif
