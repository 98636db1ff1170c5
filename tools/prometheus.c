/* SPDX-License-Identifier: MIT */
/*
 * berth stats --prometheus: the text format of Prometheus, version 0.0.4, for the
 * node exporter's textfile collector. A metric's samples stand together whatever
 * mount they are of, as the format wants it; names and units follow its
 * conventions (seconds, bytes, _total for what only rises).
 *
 * Labels hold paths that users choose: backslash, quote and newline are escaped,
 * and json_read() and mounts_read() have made sure of the rest.
 */
#include "prometheus.h"

#include "berth/stats.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define OPERATION_MAX 64u  /* bytes of a name */
#define OPERATIONS_MAX 64u /* kinds that one mount may have: more than there are */

typedef struct Metric {
    const char *name, *path, *type, *help;
} Metric;

static const Metric metrics[] = {
    {"berth_uptime_seconds", "status.uptime", "gauge", "Time since the mount."},
    {"berth_readonly", "status.readonly", "gauge", "1 if the mount is read-only."},
    {"berth_daemon_restarts_total", "status.daemon.restarts", "counter",
     "Daemons that took over after another had died."},
    {"berth_corruptions_total", "filesystem.corruptions", "counter",
     "Places where the volume was found corrupt."},
    {"berth_inodes", "filesystem.inodes", "gauge", "Files and directories held in memory."},
    {"berth_read_bytes_total", "bytes_read", "counter", "Bytes read from files."},
    {"berth_written_bytes_total", "bytes_written", "counter", "Bytes written to files."},
    {"berth_requests_in_service", "in_service", "gauge", "Requests that the daemon works on."},
    {"berth_fibers", "fibers", "gauge", "Fibers of the daemon."},
    {"berth_cache_hits_total", "cache.hits", "counter", "Metadata blocks found in memory."},
    {"berth_cache_misses_total", "cache.misses", "counter", "Metadata blocks read."},
    {"berth_cache_prefetched_total", "cache.prefetched", "counter",
     "Metadata blocks read ahead of use."},
    {"berth_cache_evictions_total", "cache.evictions", "counter", "Metadata blocks dropped."},
    {"berth_cache_buffers", "cache.buffers", "gauge", "Metadata blocks in memory."},
    {"berth_cache_dirty_buffers", "cache.dirty_buffers", "gauge",
     "Metadata blocks not yet written."},
    {"berth_cache_transactions_total", "cache.transactions", "counter", "Changes committed."},
    {"berth_cache_checkpoints_total", "cache.checkpoints", "counter",
     "Times that changes were written out."},
    {"berth_cache_blocks_written_total", "cache.blocks_written", "counter",
     "Metadata blocks written out."},
    {"berth_log_bytes_total", "cache.log_bytes", "counter", "Bytes logged."},
    {"berth_device_reads_total", "device.reads", "counter", "Reads of the image."},
    {"berth_device_read_bytes_total", "device.read_bytes", "counter", "Bytes read from the image."},
    {"berth_device_writes_total", "device.writes", "counter", "Writes of the image."},
    {"berth_device_written_bytes_total", "device.write_bytes", "counter",
     "Bytes written to the image."},
    {"berth_device_flushes_total", "device.flushes", "counter", "Flushes of the image."},
    {"berth_device_errors_total", "device.errors", "counter", "Failed operations on the image."},
    {"berth_frontend_nodes", "frontend.nodes", "gauge", "Files that the kernel holds."},
    {"berth_frontend_lookups_answered_total", "frontend.lookups_answered", "counter",
     "Lookups answered without the daemon."},
    {"berth_frontend_getattrs_answered_total", "frontend.getattrs_answered", "counter",
     "Attribute requests answered without the daemon."},
};

static void put_label(Text *out, const char *key, const char *value) {
    text_printf(out, "%s=\"", key);
    for (; *value != '\0'; value++) {
        switch (*value) {
        case '\n':
            text_append(out, "\\n", 2);
            break;
        case '"':
        case '\\':
            text_append(out, "\\", 1);
            text_append(out, value, 1);
            break;
        default:
            text_append(out, value, 1);
            break;
        }
    }
    text_append(out, "\"", 1);
}

/* Bytes that are not UTF-8 would make the whole file unreadable. */
static void put_path_label(Text *out, const char *key, const char *value) {
    _cleanup_free_ char *copy = strdup(value);
    size_t length = strlen(value);

    if (copy == NULL) {
        out->failed = true;
        return;
    }
    for (size_t at = 0; at < length;) {
        uint32_t character;
        int used = utf8_decode(value + at, length - at, &character);

        if (used < 0) {
            copy[at] = '?';
        }
        at += used < 0 ? 1u : (size_t)used;
    }
    put_label(out, key, copy);
}

/* name{mount="...",type="..." and stays open for more labels. */
static void put_name(Text *out, const char *name, const PrometheusMount *mount) {
    text_printf(out, "%s{", name);
    put_path_label(out, "mount", mount->directory);
    text_append(out, ",", 1);
    put_label(out, "type", values_text(&mount->values, "status.type"));
}

/* An operation's name, which the mount's owner could have made up. */
static void put_operation(Text *out, const char *name, size_t length) {
    char operation[OPERATION_MAX];

    (void)snprintf(operation, sizeof(operation), "%.*s", (int)MIN(length, sizeof(operation) - 1),
                   name);
    text_append(out, ",", 1);
    put_path_label(out, "op", operation);
}

/* Whole numbers exactly. main() has seen to it that the decimal point is one. */
static void put_number(Text *out, double value) {
    if (value == floor(value) && value < 1e15) {
        text_printf(out, " %" PRIu64 "\n", (uint64_t)value);
    } else {
        text_printf(out, " %.9g\n", value);
    }
}

static void put_head(Text *out, const char *name, const char *type, const char *help) {
    text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_info(Text *out, const PrometheusMount *mounts, size_t count) {
    put_head(out, "berth_up", "gauge", "1 if the front-end and its daemon answer.");
    for (size_t i = 0; i < count; i++) {
        put_name(out, "berth_up", &mounts[i]);
        text_append(out, "}", 1);
        put_number(out, mounts[i].error == 0);
    }
    put_head(out, "berth_mount_info", "gauge", "What is mounted; always 1.");
    for (size_t i = 0; i < count; i++) {
        const Values *values = &mounts[i].values;

        put_name(out, "berth_mount_info", &mounts[i]);
        text_append(out, ",", 1);
        put_path_label(out, "source", mounts[i].source);
        text_append(out, ",", 1);
        put_label(out, "label", values_text(values, "status.label"));
        text_append(out, ",", 1);
        put_label(out, "state", values_text(values, "status.state"));
        text_append(out, ",", 1);
        put_label(out, "transport", values_text(values, "status.transport"));
        text_append(out, "} 1\n", 4);
    }
}

/* One counter for each kind of request. */
static void put_requests(Text *out, const char *name, const char *member, const char *help,
                         const PrometheusMount *mounts, size_t count) {
    put_head(out, name, "counter", help);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < mounts[i].values.count; j++) {
            const Value *value = &mounts[i].values.items[j];
            const char *operation;
            size_t length = values_request(value->path, member, &operation);

            if (length > 0 && value->kind == JSON_NUMBER) {
                put_name(out, name, &mounts[i]);
                put_operation(out, operation, length);
                text_append(out, "}", 1);
                put_number(out, value->number);
            }
        }
    }
}

#define LATENCY_METRIC "berth_request_duration_seconds"
#define LATENCY_FIRST 10u /* about a microsecond */
#define LATENCY_STEP 2u   /* each bucket four times the one before */

/* A request's histogram: every other of the daemon's buckets, added up. */
static void put_latency(Text *out, const PrometheusMount *mount, const char *operation,
                        size_t length) {
    double total = 0;
    char path[160];

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        (void)snprintf(path, sizeof(path), "requests.%.*s.buckets.%u", (int)length, operation, i);
        total += values_number(&mount->values, path);
        if (i + 1 >= LATENCY_FIRST && (i + 1 - LATENCY_FIRST) % LATENCY_STEP == 0 &&
            i + 1 < HISTOGRAM_BUCKETS) {
            put_name(out, LATENCY_METRIC "_bucket", mount);
            put_operation(out, operation, length);
            text_printf(out, ",le=\"%.9g\"}", ldexp(1, (int)i + 1) / 1e9);
            put_number(out, total);
        }
    }
    put_name(out, LATENCY_METRIC "_bucket", mount);
    put_operation(out, operation, length);
    text_printf(out, ",le=\"+Inf\"}");
    put_number(out, total);
    put_name(out, LATENCY_METRIC "_sum", mount);
    put_operation(out, operation, length);
    text_append(out, "}", 1);
    (void)snprintf(path, sizeof(path), "requests.%.*s.total_ns", (int)length, operation);
    put_number(out, values_number(&mount->values, path) / 1e9);
    put_name(out, LATENCY_METRIC "_count", mount);
    put_operation(out, operation, length);
    text_append(out, "}", 1);
    put_number(out, total);
}

static void put_latencies(Text *out, const PrometheusMount *mounts, size_t count) {
    put_head(out, LATENCY_METRIC, "histogram", "Time in the daemon, by kind of request.");
    for (size_t i = 0; i < count; i++) {
        unsigned operations = 0;

        for (size_t j = 0; j < mounts[i].values.count && operations < OPERATIONS_MAX; j++) {
            const char *operation;
            size_t length = values_request(mounts[i].values.items[j].path, "count", &operation);

            if (length > 0 && length < OPERATION_MAX) {
                put_latency(out, &mounts[i], operation, length);
                operations++;
            }
        }
    }
}

void prometheus_write(Text *out, const PrometheusMount *mounts, size_t count) {
    put_info(out, mounts, count);
    for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
        const Metric *metric = &metrics[i];

        put_head(out, metric->name, metric->type, metric->help);
        for (size_t j = 0; j < count; j++) {
            const Value *value = values_find(&mounts[j].values, metric->path);

            if (value != NULL && (value->kind == JSON_NUMBER || value->kind == JSON_BOOL)) {
                put_name(out, metric->name, &mounts[j]);
                text_append(out, "}", 1);
                put_number(out, value->number);
            }
        }
    }
    put_requests(out, "berth_requests_total", "count", "Requests to the daemon.", mounts, count);
    put_requests(out, "berth_request_errors_total", "errors",
                 "Requests that the daemon answered with an error.", mounts, count);
    put_requests(out, "berth_frontend_requests_total", NULL, "Requests from the kernel.", mounts,
                 count);
    put_latencies(out, mounts, count);
}
