/* SPDX-License-Identifier: MIT */
/*
 * Runs of clusters, and cluster chains as runs. A chain is walked lazily and
 * remembered, so that the end of a large file costs a walk once; every cell
 * is checked, cycles are found by Brent's method over the jumps. A broken
 * chain keeps its good part for reading and is never freed.
 *
 * Several readers of one inode may walk the same chain at once: whoever comes
 * back from a suspension and finds the list longer goes on from there.
 */
#include "types.h"

/* Clusters freed by one transaction; halved when the log is too small for that. */
#define RECLAIM_STEP 4096u
/* FAT cells loaded ahead of a walk. */
#define WALK_AHEAD 8192u

/* ---- runs ---- */

void fat_runs_done(FatRunList *list) {
    free(list->runs);
    *list = (FatRunList){0};
}

int fat_runs_room(FatRunList *list, uint32_t extra) {
    uint32_t capacity = MAX(list->capacity, 4u);
    FatRun *runs;

    if (extra <= list->capacity - list->count) {
        return 0;
    }
    while (capacity - list->count < extra) {
        if (capacity > UINT32_MAX / 2) {
            return -ENOMEM;
        }
        capacity *= 2;
    }
    runs = reallocarray(list->runs, capacity, sizeof(*runs));
    if (runs == NULL) {
        return -ENOMEM;
    }
    list->runs = runs;
    list->capacity = capacity;
    return 0;
}

int fat_runs_append(FatRunList *list, uint32_t cluster, uint32_t count) {
    FatRun *last = list->count > 0 ? &list->runs[list->count - 1] : NULL;
    int r;

    if (last != NULL && last->cluster + last->count == cluster) {
        last->count += count;
    } else {
        r = fat_runs_room(list, 1);
        if (r < 0) {
            return r;
        }
        list->runs[list->count++] =
            (FatRun){.index = list->length, .cluster = cluster, .count = count};
    }
    list->length += count;
    return 0;
}

const FatRun *fat_runs_find(const FatRunList *list, uint32_t index) {
    uint32_t low = 0;
    uint32_t high = list->count;

    if (index >= list->length) {
        return NULL;
    }
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (list->runs[middle].index <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &list->runs[low];
}

uint32_t fat_runs_last(const FatRunList *list) {
    const FatRun *last;

    if (list->count == 0) {
        return 0;
    }
    last = &list->runs[list->count - 1];
    return last->cluster + last->count - 1;
}

void fat_runs_truncate(FatRunList *list, uint32_t length) {
    while (list->count > 0) {
        FatRun *last = &list->runs[list->count - 1];
        if (last->index < length) {
            last->count = MIN(last->count, length - last->index);
            list->length = last->index + last->count;
            return;
        }
        list->count -= 1;
    }
    list->length = 0;
}

void fat_runs_drop_head(FatRunList *list, uint32_t count) {
    uint32_t kept = 0;

    assert(count <= list->length);
    for (uint32_t i = 0; i < list->count; i++) {
        FatRun run = list->runs[i];
        uint32_t end = run.index + run.count;
        uint32_t skip = run.index < count ? MIN(count - run.index, run.count) : 0;
        if (end <= count) {
            continue;
        }
        list->runs[kept++] = (FatRun){.index = run.index + skip - count,
                                      .cluster = run.cluster + skip,
                                      .count = run.count - skip};
    }
    list->count = kept;
    list->length -= count;
}

/* ---- walking ---- */

void fat_chain_init(FatChain *chain, uint32_t first) {
    *chain = (FatChain){.first = first, .power = 1};
}

void fat_chain_done(FatChain *chain) {
    fat_runs_done(&chain->runs);
}

/* Remembers that the chain is broken here, and reports it. */
static int chain_damage(FatVolume *volume, FatChain *chain, uint32_t value, bool writing) {
    uint32_t last = fat_runs_last(&chain->runs);

    chain->damaged = true;
    chain->damage_value = value;
    if (last == 0) {
        return report_corrupt(volume->base.reporter, writing, "directory entry", chain->first,
                              "first cluster", value, "valid clusters are 2 to %u",
                              volume->geo.cluster_count + 1);
    }
    return report_corrupt(volume->base.reporter, writing, "FAT", last, "cell", value,
                          "%s in the chain that begins at cluster %u",
                          value == FAT_CELL_FREE                   ? "a free cluster"
                          : value == FAT_CELL_BAD                  ? "a bad cluster"
                          : fat_cluster_valid(&volume->geo, value) ? "a loop"
                                                                   : "a cluster outside the volume",
                          chain->first);
}

/* Brent: true when the jump to `cluster` has been made before. */
static bool chain_loops(FatChain *chain, uint32_t cluster) {
    if (cluster == chain->tortoise) {
        return true;
    }
    chain->jumps += 1;
    if (chain->jumps == chain->power) {
        chain->tortoise = cluster;
        chain->power = chain->power < UINT32_MAX / 2 ? chain->power * 2 : chain->power;
        chain->jumps = 0;
    }
    return false;
}

/* Takes the next part of the chain into the list. */
static int chain_step(FatVolume *volume, FatChain *chain, bool writing) {
    uint32_t known = chain->runs.length;
    uint32_t last, count, next;
    int r;

    if (known == 0) {
        if (chain->first == 0) {
            chain->complete = true;
            return 0;
        }
        if (!fat_cluster_valid(&volume->geo, chain->first)) {
            return chain_damage(volume, chain, chain->first, writing);
        }
        return fat_runs_append(&chain->runs, chain->first, 1);
    }
    last = fat_runs_last(&chain->runs);
    if (last % WALK_AHEAD == 0 || known == 1) {
        (void)fat_table_prefetch(volume, last,
                                 MIN(WALK_AHEAD, volume->geo.cluster_count + 2 - last));
    }
    r = fat_table_follow(volume, last, &count, &next);
    if (r < 0) {
        return r;
    }
    if (!writing && next != FAT_CELL_END && !fat_cluster_valid(&volume->geo, next)) {
        (void)fat_table_second_opinion(volume, last + count, &next);
    }
    if (chain->runs.length != known || chain->complete || chain->damaged) {
        return 0; /* somebody else walked on meanwhile */
    }
    if (count > 0) {
        r = fat_runs_append(&chain->runs, last + 1, count);
        if (r < 0) {
            return r;
        }
    }
    if (next == FAT_CELL_END) {
        chain->complete = true;
        return 0;
    }
    if (!fat_cluster_valid(&volume->geo, next)) {
        return chain_damage(volume, chain, next, writing);
    }
    if (chain->runs.length >= volume->geo.cluster_count ||
        (next != last + count + 1 && chain_loops(chain, next))) {
        return chain_damage(volume, chain, next, writing);
    }
    return fat_runs_append(&chain->runs, next, 1);
}

int fat_chain_load(FatVolume *volume, FatChain *chain, uint32_t clusters, bool writing) {
    if (chain->fixed_root) {
        return 0;
    }
    while (chain->runs.length < clusters && !chain->complete) {
        int r = chain->damaged ? chain_damage(volume, chain, chain->damage_value, writing)
                               : chain_step(volume, chain, writing);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* ---- freeing ---- */

/* Another file's cells are not ours to free: crossed chains end here. */
static int check_run(FatVolume *volume, uint32_t cluster, uint32_t count, uint32_t after) {
    uint32_t done = 0;

    while (done < count) {
        uint32_t expected, same, next;
        int r = fat_table_follow(volume, cluster + done, &same, &next);
        if (r < 0) {
            return r;
        }
        if (done + same + 1 > count) {
            same = count - done - 1;
            next = cluster + count; /* the run was cut out of a longer row */
        }
        done += same + 1;
        expected = done < count ? cluster + done : after;
        if (next != expected) {
            return report_corrupt(volume->base.reporter, true, "FAT", cluster + done - 1, "cell",
                                  next, "should be 0x%x: chains cross", expected);
        }
    }
    return 0;
}

int fat_chain_free(Txn *txn, FatVolume *volume, const FatRunList *runs, uint32_t from,
                   uint32_t count) {
    assert(from <= runs->length && count <= runs->length - from);
    while (count > 0) {
        const FatRun *run = fat_runs_find(runs, from);
        uint32_t skip = from - run->index;
        uint32_t part = MIN(run->count - skip, count);
        uint32_t cluster = run->cluster + skip;
        const FatRun *after = fat_runs_find(runs, from + part);
        int r =
            check_run(volume, cluster, part,
                      after == NULL ? FAT_CELL_END : after->cluster + (from + part - after->index));

        if (r == 0) {
            r = fat_table_free(txn, volume, cluster, part);
        }
        if (r == 0) {
            r = fat_alloc_free(txn, volume, cluster, part);
        }
        if (r < 0) {
            return r;
        }
        from += part;
        count -= part;
    }
    return 0;
}

typedef struct ReclaimStep {
    FatVolume *volume;
    const FatChain *chain;
    uint32_t from, count;
    uint64_t object;
    TxnObjectKind kind;
} ReclaimStep;

static int reclaim_body(Txn *txn, void *arg) {
    const ReclaimStep *step = arg;
    const FatRunList *runs = &step->chain->runs;
    uint32_t next = step->from + step->count;
    int r = fat_chain_free(txn, step->volume, runs, step->from, step->count);

    if (r < 0 || step->object == 0) {
        return r;
    }
    if (next < runs->length) {
        const FatRun *run = fat_runs_find(runs, next);
        return fat_reclaim_put(txn, step->volume, step->object, step->kind,
                               run->cluster + (next - run->index));
    }
    return step->kind == TXN_OBJECT_ORPHAN ? fat_identity_forget(txn, step->volume, step->object)
                                           : txn_object_remove(txn, step->object, step->kind);
}

int fat_chain_reclaim(FatVolume *volume, FatChain *chain, uint64_t object, TxnObjectKind kind) {
    ReclaimStep step = {.volume = volume, .chain = chain, .object = object, .kind = kind};
    uint32_t limit = RECLAIM_STEP;
    int broken = fat_chain_load(volume, chain, UINT32_MAX, true);

    if (broken < 0) {
        if (broken != -EUCLEAN) {
            return broken;
        }
        fat_runs_truncate(&chain->runs, 0); /* for the checker: nothing is freed, only forgotten */
    }
    do {
        int r;
        step.count = MIN(chain->runs.length - step.from, limit);
        fat_table_prefetch_write(volume, &chain->runs, step.from, step.count);
        r = txn_run(volume->base.cache, NULL, reclaim_body, &step);
        if (r == -E2BIG && limit > 1) {
            limit /= 2;
            continue;
        }
        if (r < 0) {
            return r;
        }
        step.from += step.count;
    } while (step.from < chain->runs.length);
    return broken;
}
