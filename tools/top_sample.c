/* SPDX-License-Identifier: MIT */
/*
 * Samples for berth top: every mount is asked for its status and its counters, and
 * what has changed since the sample before becomes rates and percentiles. Counters
 * of a daemon begin anew when it is replaced: then what they show now is what
 * happened since.
 *
 * A mount that does not answer within PATIENCE_MS is a row all the same; it must
 * not hold up the others for longer. Asking costs each mount one GET_STATS, which is
 * left out of the numbers.
 */
#include "top.h"
#include "values.h"

#include "berth/stats.h"

#include <inttypes.h>
#include <stdio.h>

#define PATIENCE_MS 1000u
#define OWN_REQUEST "GET_STATS"

typedef struct Counters {
    double operations, messages, read_bytes, written_bytes, hits, misses;
    double buckets[HISTOGRAM_BUCKETS];
} Counters;

typedef struct Memory {
    dev_t device;
    double frontend_pid; /* a device number is used again */
    uint64_t at_ns;
    Counters counters;
} Memory;

struct TopSampler {
    Memory *memories;
    size_t count;
};

TopSampler *top_sampler_new(void) {
    return calloc(1, sizeof(TopSampler));
}

TopSampler *top_sampler_free(TopSampler *sampler) {
    if (sampler != NULL) {
        free(sampler->memories);
        free(sampler);
    }
    return NULL;
}

void top_snapshot_done(TopSnapshot *snapshot) {
    for (size_t i = 0; i < snapshot->count; i++) {
        free(snapshot->rows[i].directory);
    }
    free(snapshot->rows);
    *snapshot = (TopSnapshot){0};
}

/* ---- counters ---- */

static bool is_own(const char *name, size_t length) {
    return length == strlen(OWN_REQUEST) && memcmp(name, OWN_REQUEST, length) == 0;
}

/* "requests.NAME.buckets.I" */
static void take_bucket(Counters *counters, const Value *value) {
    const char *name = value->path + strlen("requests."), *end;
    size_t length = strcspn(name, ".");
    unsigned long bucket;

    end = name + length;
    if (strncmp(end, ".buckets.", 9) == 0 && !is_own(name, length)) {
        bucket = strtoul(end + 9, NULL, 10);
        if (bucket < HISTOGRAM_BUCKETS) {
            counters->buckets[bucket] += value->number;
        }
    }
}

static void counters_take(const Values *values, Counters *ret) {
    *ret = (Counters){
        .read_bytes = values_number(values, "bytes_read"),
        .written_bytes = values_number(values, "bytes_written"),
        .hits = values_number(values, "cache.hits"),
        .misses = values_number(values, "cache.misses"),
    };
    for (size_t i = 0; i < values->count; i++) {
        const Value *value = &values->items[i];
        const char *name;
        size_t length = values_request(value->path, "count", &name);

        if (length > 0 && !is_own(name, length)) {
            ret->messages += value->number;
        }
        if (values_request(value->path, NULL, &name) > 0) {
            ret->operations += value->number;
        }
        if (strncmp(value->path, "requests.", 9) == 0) {
            take_bucket(ret, value);
        }
    }
}

/* What was added since; a counter that fell has begun anew. */
static double since(double now, double before) {
    return now >= before ? now - before : now;
}

static void counters_subtract(Counters *now, const Counters *before) {
    now->operations = since(now->operations, before->operations);
    now->messages = since(now->messages, before->messages);
    now->read_bytes = since(now->read_bytes, before->read_bytes);
    now->written_bytes = since(now->written_bytes, before->written_bytes);
    now->hits = since(now->hits, before->hits);
    now->misses = since(now->misses, before->misses);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        now->buckets[i] = since(now->buckets[i], before->buckets[i]);
    }
}

static uint64_t percentile(const Counters *counters, double wanted) {
    Histogram histogram = {0};

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        histogram.bucket[i] = (uint64_t)MIN(counters->buckets[i], 1e15);
        histogram.count += histogram.bucket[i];
    }
    return histogram_percentile(&histogram, wanted);
}

/* ---- rows ---- */

static void row_fill(TopRow *row, const Values *values, const Counters *change, double seconds) {
    double looked = change->hits + change->misses;

    row->answers = true;
    row->operations = change->operations / seconds;
    row->messages = change->messages / seconds;
    row->read_bytes = change->read_bytes / seconds;
    row->written_bytes = change->written_bytes / seconds;
    row->hit_rate = looked > 0 ? 100 * change->hits / looked : -1;
    row->p50_ns = percentile(change, 50);
    row->p99_ns = percentile(change, 99);
    row->restarts = (uint64_t)MIN(values_number(values, "status.daemon.restarts"), 1e15);
}

static const Memory *memory_find(const TopSampler *sampler, const Memory *like) {
    for (size_t i = 0; i < sampler->count; i++) {
        const Memory *memory = &sampler->memories[i];

        if (memory->device == like->device && memory->frontend_pid == like->frontend_pid) {
            return memory;
        }
    }
    return NULL;
}

/* Fills the row, and *ret with what is to be remembered. False: the mount does not answer. */
static bool sample_mount(const TopSampler *sampler, const MountEntry *mount, TopRow *row,
                         Memory *ret) {
    Values values = {0};
    const Memory *before;
    Counters change;
    double seconds;
    int r = values_ask(&values, "status.", mount, "status", PATIENCE_MS);

    (void)snprintf(row->type, sizeof(row->type), "%s", values_text(&values, "status.type"));
    (void)snprintf(row->state, sizeof(row->state), "%s", values_text(&values, "status.state"));
    row->hit_rate = -1;
    if (r == 0) {
        r = values_ask(&values, "", mount, "stats", PATIENCE_MS);
    }
    if (r < 0) {
        if (row->state[0] == '\0' || strcmp(row->state, "running") == 0) {
            (void)snprintf(row->state, sizeof(row->state), "%s", tool_silence(r));
        }
        values_done(&values);
        return false;
    }
    *ret = (Memory){.device = mount->device,
                    .frontend_pid = values_number(&values, "status.frontend_pid"),
                    .at_ns = clock_monotonic_ns()};
    counters_take(&values, &ret->counters);
    change = ret->counters;
    before = memory_find(sampler, ret);
    /* The front-end's in whole seconds; the daemon's may be a successor's. */
    seconds = MAX(values_number(&values, "status.uptime"), values_number(&values, "uptime"));
    if (before != NULL) {
        counters_subtract(&change, &before->counters);
        seconds = (double)(ret->at_ns - before->at_ns) / 1e9;
    }
    row_fill(row, &values, &change, MAX(seconds, 0.001));
    values_done(&values);
    return true;
}

int top_sample(TopSampler *sampler, TopSnapshot *ret) {
    TopSnapshot snapshot = {0};
    MountEntry *mounts = NULL;
    Memory *memories;
    size_t count = 0, remembered = 0;
    int r = 0;

    snapshot.error = mounts_read(&mounts, &count);
    snapshot.rows = calloc(count + 1, sizeof(*snapshot.rows));
    memories = calloc(count + 1, sizeof(*memories));
    if (snapshot.rows == NULL || memories == NULL) {
        r = -ENOMEM;
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        TopRow *row = &snapshot.rows[i];

        row->directory = strdup(mounts[i].directory);
        if (row->directory == NULL) {
            r = -ENOMEM;
            break;
        }
        snapshot.count++;
        if (sample_mount(sampler, &mounts[i], row, &memories[remembered])) {
            remembered++;
        }
    }
    mounts_free(mounts, count);
    if (r < 0) {
        free(memories);
        top_snapshot_done(&snapshot);
        return r;
    }
    free(sampler->memories);
    sampler->memories = memories;
    sampler->count = remembered;
    *ret = snapshot;
    return 0;
}
