/* SPDX-License-Identifier: MIT */
/*
 * Write-out by way of a side journal (berth/sidejournal.h). All batches of a checkpoint go
 * as one: the journal is written and flushed, then their blocks are written to their
 * places in no order and flushed, then the journal is emptied and flushed. Only then
 * are freed ranges released, since until then a replay would overwrite their next owner.
 * File data has been flushed before, as ever.
 *
 * After a predecessor's death the journal may hold its batch, of which any part may be
 * in place: that batch is completed from the journal before another takes its room, and
 * what lies in the places of the next one is read and not taken from the log.
 */
#include "berth/log.h"
#include "internal.h"

int fold_commit_journalled(const Fold *fold, SideJournal *journal, BlockDevice *device, bool look) {
    uint64_t end = 0;
    int r = look ? sidejournal_resume(journal, device, &end) : 0;

    if (r < 0 || fold->end <= end) {
        return r; /* a log that lost its end has nothing newer */
    }
    return sidejournal_commit(journal, fold, device, look);
}

static int put_in_place(Cache *cache, const Fold *fold) {
    int r = fold_write_all(fold, cache->config.device, &cache->stats.blocks_written);

    if (r == 0) {
        r = cache_flush_device(cache);
    }
    return r < 0 ? r : sidejournal_clear(cache->config.journal);
}

static int write_fold(Cache *cache, const Fold *fold) {
    unsigned failures = 0;
    int r;

    do {
        r = fold_commit_journalled(fold, cache->config.journal, cache->config.device,
                                   cache->part_written);
        if (r < 0) {
            log_error("writing to the side journal: %s", strerror(-r));
        }
    } while (r < 0 && r != -EUCLEAN && ++failures < CACHE_ATTEMPTS);
    if (r <= 0) {
        return r;
    }
    failures = 0;
    do {
        r = put_in_place(cache, fold);
    } while (r < 0 && r != -EUCLEAN && ++failures < CACHE_ATTEMPTS);
    return r;
}

int cache_write_journalled(Cache *cache, uint64_t target) {
    Fold fold;
    int r = fold_init(&fold, &cache->view, cache->log->tail, target);

    if (r < 0) {
        return r;
    }
    r = write_fold(cache, &fold);
    fold_done(&fold);
    if (r < 0) {
        return r;
    }
    cache->part_written = false;
    while (cache->log->tail < target) {
        cache_release_batch(cache, cache_batch_end(cache, 0));
    }
    return 0;
}
