/* SPDX-License-Identifier: MIT */
/* Statistics in the text format of Prometheus. Private to tools/. */
#ifndef BERTH_TOOLS_PROMETHEUS_H
#define BERTH_TOOLS_PROMETHEUS_H

#include "values.h"

typedef struct PrometheusMount {
    const char *directory, *source;
    Values values; /* the statistics, and the status as "status.*" */
    int error;     /* not 0: they could not be had */
} PrometheusMount;

void prometheus_write(Text *out, const PrometheusMount *mounts, size_t count);

#endif
