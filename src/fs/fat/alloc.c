/* SPDX-License-Identifier: MIT */
/*
 * Which clusters may be handed out: a bitmap in segments, read from the FAT when
 * a search comes by. Only so many are kept in core; the others are read again. A clear bit means:
 * free in committed state, not reserved, not pending (freed, but not yet forgotten by the image:
 * only fat_alloc_released() clears that bit). Reservations live in core only, and become used in
 * the transaction that links them.
 *
 * scan_lock: one fiber reads segments at a time. Everything else here happens
 * between suspensions.
 */
#include "types.h"

/* When so many segments hold no run that is long enough, the longest seen will do. */
#define SEARCH_SEGMENTS 8u

/* Segments whose bits are kept in core: 4 MiB. */
#define MAPS_MAX 1024u

int fat_alloc_init(FatVolume *volume) {
    FatAlloc *alloc = &volume->alloc;

    fiber_mutex_init(&alloc->scan_lock);
    alloc->segment_count = (uint32_t)div_ceil(volume->geo.cluster_count, FAT_SEGMENT_CLUSTERS);
    alloc->segments = calloc(alloc->segment_count, sizeof(*alloc->segments));
    alloc->map_limit = MAPS_MAX;
    alloc->hint = 2;
    return alloc->segments == NULL ? -ENOMEM : 0;
}

void fat_alloc_done(FatVolume *volume) {
    FatAlloc *alloc = &volume->alloc;

    for (uint32_t i = 0; alloc->segments != NULL && i < alloc->segment_count; i++) {
        free(alloc->segments[i].bits);
    }
    free(alloc->segments);
    alloc->segments = NULL;
}

/* The segment of a cluster and its bit there. */
static FatSegment *segment_of(FatAlloc *alloc, uint32_t cluster, uint32_t *ret_bit) {
    *ret_bit = (cluster - 2) % FAT_SEGMENT_CLUSTERS;
    return &alloc->segments[(cluster - 2) / FAT_SEGMENT_CLUSTERS];
}

static void mark_available(FatVolume *volume, uint32_t cluster, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bit;
        FatSegment *segment = segment_of(&volume->alloc, cluster + i, &bit);
        if (segment->bits != NULL) {
            if (!bitmap_test(segment->bits, bit)) {
                continue;
            }
            bitmap_clear(segment->bits, bit);
        }
        segment->available += segment->counted;
    }
}

static void mark_reserved(FatSegment *segment, uint32_t bit, uint32_t count) {
    bitmap_set_range(segment->bits, bit, count);
    segment->available -= count;
    segment->reserved += count;
}

/* The part of a run that lies in the segment of its first cluster. */
static uint32_t part_in_segment(uint32_t cluster, uint32_t count) {
    return MIN(count, FAT_SEGMENT_CLUSTERS - (cluster - 2) % FAT_SEGMENT_CLUSTERS);
}

/* ---- reading the FAT ---- */

typedef struct PendingMark {
    FatVolume *volume;
    FatSegment *segment;
    uint32_t first, count; /* clusters that were just read */
} PendingMark;

/* A pending range in sectors, as clusters within [first, first + count). */
static void mark_pending(void *arg, uint64_t start, uint64_t count) {
    const PendingMark *mark = arg;
    const FatGeometry *geo = &mark->volume->geo;
    uint64_t from, to;

    if (start + count <= geo->data_start) {
        return;
    }
    from = start <= geo->data_start ? 2 : (start - geo->data_start) / geo->cluster_sectors + 2;
    to = div_ceil(start + count - geo->data_start, geo->cluster_sectors) + 2;
    from = MAX(from, mark->first);
    to = MIN(to, (uint64_t)mark->first + mark->count);
    if (from < to) {
        bitmap_set_range(mark->segment->bits, (from - 2) % FAT_SEGMENT_CLUSTERS, to - from);
    }
}

/* All segments are known: the count is exact, whatever FSInfo said. */
static void count_free(FatVolume *volume) {
    FatAlloc *alloc = &volume->alloc;
    uint64_t free_count =
        alloc->reserved + cache_pending_blocks(volume->base.cache) / volume->geo.cluster_sectors;

    for (uint32_t i = 0; i < alloc->segment_count; i++) {
        free_count += alloc->segments[i].available;
    }
    alloc->free_count = (uint32_t)free_count;
    alloc->free_known = true;
}

static int segment_read(FatVolume *volume, FatSegment *segment, uint32_t index) {
    uint32_t base = index * FAT_SEGMENT_CLUSTERS;
    uint32_t clusters = MIN(FAT_SEGMENT_CLUSTERS, volume->geo.cluster_count - base);
    uint32_t done = 0;

    (void)fat_table_prefetch(volume, base + 2, clusters);
    while (done < clusters) {
        PendingMark mark = {.volume = volume, .segment = segment, .first = base + 2 + done};
        int r =
            fat_table_scan(volume, mark.first, clusters - done, base, segment->bits, &mark.count);
        if (r < 0) {
            return r;
        }
        cache_pending_iterate(
            volume->base.cache, fat_block_of(volume, fat_cluster_offset(&volume->geo, mark.first)),
            (uint64_t)mark.count * volume->geo.cluster_sectors, mark_pending, &mark);
        done += mark.count;
    }
    if (clusters < FAT_SEGMENT_CLUSTERS) {
        bitmap_set_range(segment->bits, clusters, FAT_SEGMENT_CLUSTERS - clusters);
    }
    segment->available =
        (uint32_t)(FAT_SEGMENT_CLUSTERS - bitmap_count_set(segment->bits, FAT_SEGMENT_CLUSTERS));
    segment->ready = true;
    return 0;
}

static void segment_drop(FatAlloc *alloc, FatSegment *segment) {
    free(segment->bits);
    segment->bits = NULL;
    segment->ready = false;
    alloc->map_count -= 1;
}

/* Makes room for one more. Where everything is reserved, there will be more than planned. */
static void drop_one(FatAlloc *alloc) {
    for (uint32_t i = 0; i < alloc->segment_count && alloc->map_count >= alloc->map_limit; i++) {
        FatSegment *segment = &alloc->segments[alloc->hand];
        alloc->hand = (alloc->hand + 1) % alloc->segment_count;
        if (segment->bits != NULL && segment->reserved == 0) {
            segment_drop(alloc, segment);
        }
    }
}

static int segment_load(FatVolume *volume, FatSegment *segment, uint32_t index) {
    FatAlloc *alloc = &volume->alloc;
    int r;

    drop_one(alloc);
    segment->bits = calloc(BITMAP_WORDS(FAT_SEGMENT_CLUSTERS), sizeof(*segment->bits));
    if (segment->bits == NULL) {
        return -ENOMEM;
    }
    alloc->map_count += 1;
    r = segment_read(volume, segment, index);
    if (r < 0) {
        segment_drop(alloc, segment);
        return r;
    }
    if (!segment->counted) {
        segment->counted = true;
        if (++alloc->counted_count == alloc->segment_count) {
            count_free(volume);
        }
    }
    return 0;
}

/* The segment with its bits, which are there until the caller suspends. */
static int segment_get(FatVolume *volume, uint32_t index, FatSegment **ret) {
    FatAlloc *alloc = &volume->alloc;
    FatSegment *segment = &alloc->segments[index];
    int r = 0;

    if (!segment->ready) {
        fiber_mutex_lock(&alloc->scan_lock);
        if (!segment->ready) {
            r = segment_load(volume, segment, index);
        }
        fiber_mutex_unlock(&alloc->scan_lock);
    }
    if (r == 0) {
        *ret = segment;
    }
    return r;
}

/* ---- reserving ---- */

typedef struct Found {
    uint32_t index; /* of the segment */
    uint32_t bit, count;
} Found;

/* The first run of at least `want`, or else the longest, if it beats *best. True: long enough. */
static bool segment_search(const FatSegment *segment, uint32_t index, uint32_t from, uint32_t want,
                           Found *best) {
    uint64_t bit = from;

    while (segment->available > 0) {
        uint64_t end;
        bit = bitmap_find_clear(segment->bits, bit, FAT_SEGMENT_CLUSTERS);
        if (bit == FAT_SEGMENT_CLUSTERS) {
            break;
        }
        end = bitmap_find_set(segment->bits, bit, MIN(bit + want, FAT_SEGMENT_CLUSTERS));
        if (end - bit > best->count) {
            *best = (Found){index, (uint32_t)bit, (uint32_t)(end - bit)};
            if (best->count == want) {
                return true;
            }
        }
        bit = end;
    }
    return false;
}

/* Looks at the goal, then from the hint on through the whole volume. */
static int search(FatVolume *volume, uint32_t goal, uint32_t want, Found *best) {
    FatAlloc *alloc = &volume->alloc;
    uint32_t first = (alloc->hint - 2) / FAT_SEGMENT_CLUSTERS;
    uint32_t from = (alloc->hint - 2) % FAT_SEGMENT_CLUSTERS;
    FatSegment *segment = NULL;
    int r;

    if (fat_cluster_valid(&volume->geo, goal)) {
        uint32_t index = (goal - 2) / FAT_SEGMENT_CLUSTERS;
        uint32_t bit = (goal - 2) % FAT_SEGMENT_CLUSTERS;
        r = segment_get(volume, index, &segment);
        if (r < 0) {
            return r;
        }
        if (!bitmap_test(segment->bits, bit)) {
            uint64_t end = bitmap_find_set(segment->bits, bit,
                                           MIN((uint64_t)bit + want, FAT_SEGMENT_CLUSTERS));
            *best = (Found){index, bit, (uint32_t)(end - bit)};
            return 0;
        }
    }
    for (uint32_t i = 0; i <= alloc->segment_count; i++) {
        uint32_t index = (first + i) % alloc->segment_count;
        if (alloc->segments[index].counted && alloc->segments[index].available == 0) {
            continue; /* full: not worth reading again */
        }
        r = segment_get(volume, index, &segment);
        if (r < 0) {
            return r;
        }
        if (segment_search(segment, index, i == 0 ? from : 0, want, best) ||
            (best->count > 0 && i >= SEARCH_SEGMENTS)) {
            return 0;
        }
    }
    return best->count > 0 ? 0 : -ENOSPC;
}

/* Takes one run of 1 to want clusters. */
static int reserve_run(FatVolume *volume, uint32_t goal, uint32_t want, FatRunList *list) {
    FatAlloc *alloc = &volume->alloc;
    bool synced = false;

    for (;;) {
        Found best = {.count = 0};
        FatSegment *segment = NULL;
        uint32_t cluster;
        int r = search(volume, goal, want, &best);

        if (r == -ENOSPC && !synced && cache_pending_blocks(volume->base.cache) > 0) {
            synced = true;
            r = cache_sync(volume->base.cache);
            if (r < 0) {
                return r;
            }
            continue;
        }
        if (r < 0) {
            return r;
        }
        r = segment_get(volume, best.index, &segment); /* it may have been dropped again */
        if (r < 0) {
            return r;
        }
        /* Somebody else may have come since the search saw this run. */
        if (bitmap_find_set(segment->bits, best.bit, best.bit + best.count) !=
            best.bit + best.count) {
            continue;
        }
        cluster = best.index * FAT_SEGMENT_CLUSTERS + best.bit + 2;
        r = fat_runs_append(list, cluster, best.count);
        if (r < 0) {
            return r;
        }
        mark_reserved(segment, best.bit, best.count);
        alloc->reserved += best.count;
        alloc->hint = cluster + best.count;
        if (!fat_cluster_valid(&volume->geo, alloc->hint)) {
            alloc->hint = 2;
        }
        return 0;
    }
}

int fat_alloc_reserve(FatVolume *volume, uint32_t goal, uint32_t want, FatRunList *list) {
    uint32_t before = list->length;

    while (list->length - before < want) {
        uint32_t rest = want - (list->length - before);
        int r = reserve_run(volume, goal, MIN(rest, FAT_SEGMENT_CLUSTERS), list);
        if (r < 0) {
            fat_alloc_release(volume, list, before);
            fat_runs_truncate(list, before);
            return r;
        }
        goal = fat_runs_last(list) + 1;
    }
    return 0;
}

void fat_alloc_release(FatVolume *volume, const FatRunList *list, uint32_t from) {
    FatAlloc *alloc = &volume->alloc;

    while (from < list->length) {
        const FatRun *run = fat_runs_find(list, from);
        uint32_t cluster = run->cluster + (from - run->index);
        uint32_t part = part_in_segment(cluster, run->index + run->count - from);
        uint32_t bit;
        FatSegment *segment = segment_of(alloc, cluster, &bit);

        mark_available(volume, cluster, part);
        assert(alloc->reserved >= part && segment->reserved >= part);
        alloc->reserved -= part;
        segment->reserved -= part;
        from += part;
    }
}

/* ---- inside transactions ---- */

int fat_alloc_use(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count) {
    FatAlloc *alloc = &volume->alloc;
    int r = txn_save(txn, &alloc->reserved, sizeof(alloc->reserved));

    if (r == 0) {
        r = txn_save(txn, &alloc->free_count, sizeof(alloc->free_count));
    }
    for (uint32_t done = 0, part; r == 0 && done < count; done += part) {
        uint32_t bit;
        FatSegment *segment = segment_of(alloc, cluster + done, &bit);
        part = part_in_segment(cluster + done, count - done);
        r = txn_save(txn, &segment->reserved, sizeof(segment->reserved));
        if (r == 0) {
            assert(segment->reserved >= part);
            segment->reserved -= part;
        }
    }
    if (r < 0) {
        return r;
    }
    assert(alloc->reserved >= count);
    alloc->touched = true;
    alloc->reserved -= count;
    alloc->free_count -= MIN(count, alloc->free_count);
    return 0;
}

int fat_alloc_use_list(Txn *txn, FatVolume *volume, const FatRunList *list, uint32_t count) {
    int r = 0;

    for (uint32_t i = 0; r == 0 && count > 0; i++) {
        uint32_t part = MIN(list->runs[i].count, count);
        r = fat_alloc_use(txn, volume, list->runs[i].cluster, part);
        count -= part;
    }
    return r;
}

int fat_alloc_free(Txn *txn, FatVolume *volume, uint32_t cluster, uint32_t count) {
    FatAlloc *alloc = &volume->alloc;
    int r = txn_save(txn, &alloc->free_count, sizeof(alloc->free_count));

    if (r < 0) {
        return r;
    }
    alloc->touched = true;
    alloc->free_count = MIN(alloc->free_count + count, volume->geo.cluster_count);
    return txn_free_blocks(txn, fat_block_of(volume, fat_cluster_offset(&volume->geo, cluster)),
                           (uint64_t)count * volume->geo.cluster_sectors);
}

void fat_alloc_released(void *arg, uint64_t block, uint64_t count) {
    FileSystem *fs = arg;
    FatVolume *volume = fat_volume(fs);
    const FatGeometry *geo = &volume->geo;
    uint64_t from, to;

    if (volume->alloc.segments == NULL || block < geo->data_start) {
        return;
    }
    from = (block - geo->data_start) / geo->cluster_sectors;
    to = (block + count - geo->data_start) / geo->cluster_sectors;
    to = MIN(to, geo->cluster_count);
    if (from < to) {
        mark_available(volume, (uint32_t)from + 2, (uint32_t)(to - from));
    }
}

int fat_alloc_count(FatVolume *volume, uint32_t *ret_free) {
    FatAlloc *alloc = &volume->alloc;

    for (uint32_t i = 0; i < alloc->segment_count && !alloc->free_known; i++) {
        FatSegment *segment;
        int r = alloc->segments[i].counted ? 0 : segment_get(volume, i, &segment);
        if (r < 0) {
            return r;
        }
    }
    *ret_free = alloc->free_count - MIN(alloc->reserved, alloc->free_count);
    return 0;
}
