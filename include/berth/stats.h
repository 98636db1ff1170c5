/* SPDX-License-Identifier: MIT */
/* Latency histograms with powers-of-two buckets, and the clock they use. */
#ifndef BERTH_STATS_H
#define BERTH_STATS_H

#include "berth/base.h"

#define HISTOGRAM_BUCKETS 40

/* bucket[i] counts samples of [2^i, 2^(i+1)) ns; bucket 0 also those below 2. */
typedef struct Histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
    uint64_t bucket[HISTOGRAM_BUCKETS];
} Histogram;

void histogram_add(Histogram *histogram, uint64_t ns);
/* Upper bound in ns of the bucket that holds the given percentile (0 to 100); 0 when empty. */
uint64_t histogram_percentile(const Histogram *histogram, double percentile);

/* CLOCK_MONOTONIC and CLOCK_REALTIME in ns. */
uint64_t clock_monotonic_ns(void);
int64_t clock_realtime_ns(void);

#endif
