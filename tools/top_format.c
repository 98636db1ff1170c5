/* SPDX-License-Identifier: MIT */
/*
 * The lines of berth top, the same on a screen and in a file. Every text comes from
 * somebody else (paths, states): what cannot be printed in the user's locale is a
 * question mark, so that nothing drives the terminal, and widths are counted in
 * columns, not bytes.
 */
#include "table.h"
#include "top.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

static const char *const sort_names[TOP_SORT_COUNT] = {
    [TOP_SORT_OPERATIONS] = "operations", [TOP_SORT_LATENCY] = "latency",
    [TOP_SORT_BYTES] = "bytes",           [TOP_SORT_RESTARTS] = "restarts",
    [TOP_SORT_DIRECTORY] = "directory",
};

const char *top_sort_name(TopSort sort) {
    return sort_names[sort];
}

/* Largest first, but names in their order, which also decides between equals. */
static int compare(const void *a, const void *b, void *arg) {
    const TopRow *left = a, *right = b;
    double l = 0, r = 0;

    switch (*(const TopSort *)arg) {
    case TOP_SORT_OPERATIONS:
        l = left->operations;
        r = right->operations;
        break;
    case TOP_SORT_LATENCY:
        l = (double)left->p99_ns;
        r = (double)right->p99_ns;
        break;
    case TOP_SORT_BYTES:
        l = left->read_bytes + left->written_bytes;
        r = right->read_bytes + right->written_bytes;
        break;
    case TOP_SORT_RESTARTS:
        l = (double)left->restarts;
        r = (double)right->restarts;
        break;
    case TOP_SORT_DIRECTORY:
    case TOP_SORT_COUNT:
    default:
        break;
    }
    if (l != r) {
        return l > r ? -1 : 1;
    }
    return strcmp(left->directory, right->directory);
}

void top_sort(TopSnapshot *snapshot, TopSort sort) {
    if (snapshot->count > 1) {
        qsort_r(snapshot->rows, snapshot->count, sizeof(*snapshot->rows), compare, &sort);
    }
}

/* Copies text that can be printed, up to `width` columns. */
static void copy_printable(const char *text, int width, char out[TOP_LINE_MAX]) {
    size_t used = 0, left = strlen(text);
    mbstate_t state = {0};
    int columns = 0;

    while (left > 0 && used + MB_LEN_MAX < TOP_LINE_MAX) {
        wchar_t character;
        size_t length = mbrtowc(&character, text, left, &state);
        int wide;

        if (length == (size_t)-1 || length == (size_t)-2 || length == 0) {
            state = (mbstate_t){0};
            length = 1;
            wide = -1;
        } else {
            wide = iswprint((wint_t)character) ? wcwidth(character) : -1;
        }
        if (columns + (wide < 0 ? 1 : wide) > width) {
            break;
        }
        if (wide < 0) {
            out[used++] = '?';
            columns++;
        } else {
            memcpy(out + used, text, length);
            used += length;
            columns += wide;
        }
        text += length;
        left -= length;
    }
    out[used] = '\0';
}

static void copy_ascii(const char *text, char *out, size_t size) {
    (void)snprintf(out, size, "%s", text);
    for (char *c = out; *c != '\0'; c++) {
        *c = *c >= ' ' && *c < 0x7f ? *c : '?';
    }
}

/* 0 to 9999 as they are, then "12.3k". */
static void format_rate(double value, char out[TABLE_NUMBER_MAX]) {
    static const char *const units[] = {"", "k", "M", "G"};
    unsigned unit = 0;

    while (value >= 9999.5 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1000;
        unit++;
    }
    (void)snprintf(out, TABLE_NUMBER_MAX,
                   unit > 0 || (value > 0 && value < 10) ? "%.1f%s" : "%.0f%s", value, units[unit]);
}

static void format_bytes_rate(double value, char out[TABLE_NUMBER_MAX]) {
    table_format(TABLE_BYTES, (uint64_t)MIN(round(value), 1e18), out);
}

static void format_latency(uint64_t ns, char out[TABLE_NUMBER_MAX]) {
    if (ns == 0) {
        (void)snprintf(out, TABLE_NUMBER_MAX, "-");
    } else {
        table_format(TABLE_DURATION, ns, out);
    }
}

void top_format_head(const TopSnapshot *snapshot, int width, char out[TOP_LINE_MAX]) {
    char clock[16] = "", line[TOP_LINE_MAX];
    char operations[TABLE_NUMBER_MAX], messages[TABLE_NUMBER_MAX];
    char read_bytes[TABLE_NUMBER_MAX], written_bytes[TABLE_NUMBER_MAX];
    TopRow total = {0};
    size_t silent = 0;
    time_t now = time(NULL);
    struct tm local;

    for (size_t i = 0; i < snapshot->count; i++) {
        const TopRow *row = &snapshot->rows[i];

        total.operations += row->operations;
        total.messages += row->messages;
        total.read_bytes += row->read_bytes;
        total.written_bytes += row->written_bytes;
        total.restarts += row->restarts;
        silent += !row->answers;
    }
    if (localtime_r(&now, &local) != NULL) {
        (void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
    }
    format_rate(total.operations, operations);
    format_rate(total.messages, messages);
    format_bytes_rate(total.read_bytes, read_bytes);
    format_bytes_rate(total.written_bytes, written_bytes);
    if (snapshot->error < 0) {
        (void)snprintf(line, sizeof(line), "berth top %s  cannot read the mount table: %s", clock,
                       strerror(-snapshot->error));
    } else {
        (void)snprintf(line, sizeof(line),
                       "berth top %s  %zu mounts, %zu silent  %s ops/s  %s msg/s  %s/s read  %s/s "
                       "written  %llu restarts",
                       clock, snapshot->count, silent, operations, messages, read_bytes,
                       written_bytes, (unsigned long long)total.restarts);
    }
    copy_printable(line, width, out);
}

/* Below this width the type makes room for the directory. */
#define WIDTH_WITH_TYPE 100

/* The columns before the directory. */
static int format_columns(const char *const cells[10], int width, char out[TOP_LINE_MAX]) {
    if (width < WIDTH_WITH_TYPE) {
        return snprintf(out, TOP_LINE_MAX, "%6s %6s %6s %6s %5s %6s %7s %3s %-10.10s ", cells[0],
                        cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7],
                        cells[8]);
    }
    return snprintf(out, TOP_LINE_MAX, "%6s %6s %6s %6s %5s %6s %7s %3s %-10.10s %-6.12s ",
                    cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7],
                    cells[8], cells[9]);
}

/* How many columns a text takes in which everything can be printed. */
static int columns_of(const char *text) {
    size_t left = strlen(text);
    mbstate_t state = {0};
    int columns = 0;

    while (left > 0) {
        wchar_t character;
        size_t length = mbrtowc(&character, text, left, &state);

        if (length == 0 || length > left) {
            break; /* never: copy_printable() made it */
        }
        columns += wcwidth(character);
        text += length;
        left -= length;
    }
    return columns;
}

/* Of a path that is too long the end says more: "<art/of/it". */
static void append_path(const char *path, int room, char line[TOP_LINE_MAX], size_t used) {
    char printable[TOP_LINE_MAX], *start = printable;
    mbstate_t state = {0};
    bool cut = false;

    copy_printable(path, TOP_LINE_MAX, printable);
    while (columns_of(start) > room - cut && *start != '\0') {
        size_t length = mbrtowc(NULL, start, strlen(start), &state);

        start += length > 0 && length <= strlen(start) ? length : strlen(start);
        cut = true;
    }
    (void)snprintf(line + used, TOP_LINE_MAX - used, "%s%s", cut && room > 0 ? "<" : "", start);
}

void top_format_titles(int width, char out[TOP_LINE_MAX]) {
    static const char *const titles[10] = {"OPS/S",  "MSG/S",   "P50", "P99",   "HIT%",
                                           "READ/S", "WRITE/S", "RST", "STATE", "TYPE"};
    char line[TOP_LINE_MAX];
    int used = format_columns(titles, width, line);

    (void)snprintf(line + used, sizeof(line) - (size_t)used, "DIRECTORY");
    copy_printable(line, width, out);
}

void top_format_row(const TopRow *row, int width, char out[TOP_LINE_MAX]) {
    char operations[TABLE_NUMBER_MAX] = "-", messages[TABLE_NUMBER_MAX] = "-";
    char p50[TABLE_NUMBER_MAX] = "-", p99[TABLE_NUMBER_MAX] = "-", hits[TABLE_NUMBER_MAX] = "-";
    char read_bytes[TABLE_NUMBER_MAX] = "-", written_bytes[TABLE_NUMBER_MAX] = "-";
    char restarts[TABLE_NUMBER_MAX] = "-";
    char state[sizeof(row->state)], type[sizeof(row->type)];
    const char *const cells[10] = {operations, messages,      p50,      p99,   hits,
                                   read_bytes, written_bytes, restarts, state, type};
    int used;

    if (row->answers) {
        format_rate(row->operations, operations);
        format_rate(row->messages, messages);
        format_latency(row->p50_ns, p50);
        format_latency(row->p99_ns, p99);
        if (row->hit_rate >= 0) {
            (void)snprintf(hits, sizeof(hits), "%.1f", row->hit_rate);
        }
        format_bytes_rate(row->read_bytes, read_bytes);
        format_bytes_rate(row->written_bytes, written_bytes);
        table_format(TABLE_PLAIN, row->restarts, restarts);
    }
    /* In ASCII, so that bytes are columns. */
    copy_ascii(row->state, state, sizeof(state));
    copy_ascii(row->type, type, sizeof(type));
    used = format_columns(cells, width, out);
    append_path(row->directory, MAX(width - used, 0), out, (size_t)used);
    if (width < used) {
        out[width] = '\0';
    }
}
