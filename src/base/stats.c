/* SPDX-License-Identifier: MIT */
/*
 * Latency histograms and clocks. A histogram belongs to one thread; readers
 * of another see counters that may be a sample apart, which statistics bear.
 */
#include "berth/stats.h"

#include <time.h>

void histogram_add(Histogram *histogram, uint64_t ns) {
    unsigned bucket = ns < 2 ? 0 : 63 - (unsigned)__builtin_clzll(ns);

    histogram->bucket[MIN(bucket, HISTOGRAM_BUCKETS - 1u)]++;
    histogram->count++;
    histogram->sum_ns += ns;
    histogram->max_ns = MAX(histogram->max_ns, ns);
}

uint64_t histogram_percentile(const Histogram *histogram, double percentile) {
    double rank = (double)histogram->count * percentile / 100.0;
    uint64_t seen = 0;

    if (histogram->count == 0) {
        return 0;
    }
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->bucket[i];
        if (seen > 0 && (double)seen >= rank) {
            uint64_t bound = UINT64_C(2) << i;

            return i == HISTOGRAM_BUCKETS - 1 ? MAX(bound, histogram->max_ns) : bound;
        }
    }
    return histogram->max_ns;
}

uint64_t clock_monotonic_ns(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

int64_t clock_realtime_ns(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + (int64_t)now.tv_nsec;
}
