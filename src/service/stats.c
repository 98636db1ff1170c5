/* SPDX-License-Identifier: MIT */
/*
 * GET_STATS: what a volume counted, as one JSON object. Message types that never
 * came are left out. Times are in nanoseconds; percentiles are upper bounds of
 * the histogram's bucket (powers of two). buckets[i] counts the requests that took
 * 2^i to 2^(i+1) ns, up to the last that is not 0: who looks twice can tell the
 * percentiles of the time between. No locks: nothing here suspends.
 */
#include "internal.h"

static void json_latency(Json *json, const Histogram *latency) {
    unsigned used = HISTOGRAM_BUCKETS;

    json_u64(json, "total_ns", latency->sum_ns);
    json_u64(json, "mean_ns", latency->sum_ns / latency->count);
    json_u64(json, "p50_ns", histogram_percentile(latency, 50));
    json_u64(json, "p90_ns", histogram_percentile(latency, 90));
    json_u64(json, "p99_ns", histogram_percentile(latency, 99));
    json_u64(json, "p999_ns", histogram_percentile(latency, 99.9));
    json_u64(json, "max_ns", latency->max_ns);
    while (used > 0 && latency->bucket[used - 1] == 0) {
        used--;
    }
    json_begin_array(json, "buckets");
    for (unsigned i = 0; i < used; i++) {
        json_u64(json, NULL, latency->bucket[i]);
    }
    json_end_array(json);
}

static void json_requests(Json *json, const VolumeStats *stats) {
    json_begin_object(json, "requests");
    for (unsigned type = 0; type < FS_MSG_COUNT; type++) {
        const Histogram *latency = &stats->latency[type];

        if (latency->count == 0) {
            continue;
        }
        json_begin_object(json, fs_message_name(type));
        json_u64(json, "count", latency->count);
        json_u64(json, "errors", stats->errors[type]);
        json_latency(json, latency);
        json_end_object(json);
    }
    json_end_object(json);
}

static void json_device(Json *json, const BlockDevice *device) {
    const BlockStats *stats = &device->stats;

    json_begin_object(json, "device");
    json_string(json, "backend", device->backend->name);
    json_u64(json, "size", device->size);
    json_u64(json, "reads", stats->reads);
    json_u64(json, "read_bytes", stats->read_bytes);
    json_u64(json, "writes", stats->writes);
    json_u64(json, "write_bytes", stats->write_bytes);
    json_u64(json, "flushes", stats->flushes);
    json_u64(json, "discards", stats->discards);
    json_u64(json, "errors", stats->errors);
    json_u64(json, "inflight_max", stats->inflight_max);
    json_end_object(json);
}

static void json_cache(Json *json, Cache *cache) {
    const CacheStats *stats = cache_stats(cache);

    json_begin_object(json, "cache");
    json_u64(json, "hits", stats->hits);
    json_u64(json, "misses", stats->misses);
    json_u64(json, "prefetched", stats->prefetched);
    json_u64(json, "evictions", stats->evictions);
    json_u64(json, "buffers", stats->buffers);
    json_u64(json, "dirty_buffers", stats->dirty_buffers);
    json_u64(json, "transactions", stats->transactions);
    json_u64(json, "restarts", stats->restarts);
    json_u64(json, "aborts", stats->aborts);
    json_u64(json, "checkpoints", stats->checkpoints);
    json_u64(json, "batches", stats->batches);
    json_u64(json, "blocks_written", stats->blocks_written);
    json_u64(json, "class_flushes", stats->class_flushes);
    json_u64(json, "log_bytes", stats->log_bytes);
    json_end_object(json);
}

static void json_filesystem(Json *json, const FileSystem *fs) {
    json_begin_object(json, "filesystem");
    json_string(json, "label", fs->label);
    json_string(json, "uuid", fs->uuid);
    json_string(json, "subtype", fs->subtype);
    json_u64(json, "block_size", fs->block_size);
    json_bool(json, "readonly", fs->readonly);
    json_string(json, "read_only_reason", fs->read_only_reason);
    json_u64(json, "corruptions", reporter_count(fs->reporter));
    json_u64(json, "inodes", fs_inode_count(fs));
    json_u64(json, "name_changes", fs->name_changes);
    json_end_object(json);
}

int volume_stats_json(Volume *volume, Text *ret) {
    const VolumeStats *stats = &volume->stats;
    Json json = {.out = ret};

    json_begin_object(&json, NULL);
    json_string(&json, "type", volume->type->name);
    json_double(&json, "uptime", (double)(clock_monotonic_ns() - volume->started_ns) / 1e9);
    json_u64(&json, "responses", volume->number);
    json_u64(&json, "in_service", stats->in_service);
    json_u64(&json, "in_service_max", stats->in_service_max);
    json_u64(&json, "bytes_read", stats->bytes_read);
    json_u64(&json, "bytes_written", stats->bytes_written);
    json_u64(&json, "replayed", stats->replayed);
    json_u64(&json, "fibers", fiber_count());
    json_u64(&json, "fiber_stack_high_water", fiber_stack_high_water());
    if (volume->fs != NULL) {
        json_filesystem(&json, volume->fs);
        if (volume->fs->cache != NULL) {
            json_cache(&json, volume->fs->cache);
        }
    }
    json_device(&json, volume->device);
    if (volume->journal != NULL) {
        volume_journal_json(volume, &json);
    }
    json_requests(&json, stats);
    json_end_object(&json);
    return ret->failed ? -ENOMEM : 0;
}
