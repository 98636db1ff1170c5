/* SPDX-License-Identifier: MIT */
/*
 * berth top: samples of all mounts (top_sample.c), drawn on a terminal
 * (top_screen.c) or printed (cmd_top.c). Private to tools/.
 */
#ifndef BERTH_TOOLS_TOP_H
#define BERTH_TOOLS_TOP_H

#include "berth.h"

#include <sys/types.h>

/* What one mount did between two samples; in the first, since it was mounted. */
typedef struct TopRow {
    char *directory; /* any bytes but NUL */
    char type[32], state[32];
    bool answers;
    double operations, messages;      /* per second, from the kernel; to the daemon */
    double read_bytes, written_bytes; /* per second */
    double hit_rate;                  /* of the metadata cache, 0 to 100; negative: not used */
    uint64_t p50_ns, p99_ns;          /* 0: no requests */
    uint64_t restarts;                /* since it was mounted */
} TopRow;

typedef struct TopSnapshot {
    TopRow *rows;
    size_t count;
    int error; /* the mount table could not be read */
} TopSnapshot;
void top_snapshot_done(TopSnapshot *snapshot);

/* Remembers the counters of the sample before. One thread at a time. */
typedef struct TopSampler TopSampler;
TopSampler *top_sampler_new(void); /* NULL: no memory */
TopSampler *top_sampler_free(TopSampler *sampler);
/* 0 or -ENOMEM. */
int top_sample(TopSampler *sampler, TopSnapshot *ret);

typedef enum TopSort {
    TOP_SORT_OPERATIONS,
    TOP_SORT_LATENCY,
    TOP_SORT_BYTES,
    TOP_SORT_RESTARTS,
    TOP_SORT_DIRECTORY,
    TOP_SORT_COUNT,
} TopSort;
/* "operations": also what --sort takes. */
const char *top_sort_name(TopSort sort);
void top_sort(TopSnapshot *snapshot, TopSort sort);

/* Lines without a newline, at most `width` columns of a terminal, nothing in them but what can be
 * printed. */
#define TOP_LINE_MAX 1024
void top_format_head(const TopSnapshot *snapshot, int width, char out[TOP_LINE_MAX]);
void top_format_titles(int width, char out[TOP_LINE_MAX]);
void top_format_row(const TopRow *row, int width, char out[TOP_LINE_MAX]);

typedef struct TopConfig {
    unsigned delay_ms;
    uint64_t rounds; /* 0: without end */
    TopSort sort;
} TopConfig;
/* Until the user quits. An exit code. */
int top_screen(const TopConfig *config);

#endif
