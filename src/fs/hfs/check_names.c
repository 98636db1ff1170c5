/* SPDX-License-Identifier: MIT */
/*
 * One file or directory under two names: what a power cut leaves of a rename. They are one when all
 * that tells one from another is the same (number, kind, date of creation), the forks of one
 * are the beginning of the other's, and no thread gives a directory another number; nothing is lost
 * then by taking one name away. Which one is a matter of what else is known: a name in a directory
 * that exists is better, and the one that the thread leads to; the spare name of an exchange is
 * worse. The record that stays is the one with more in it. Where there are two files with one
 * number, both stay, under two numbers (check_catalog.c).
 */
#include "check.h"
#include <inttypes.h>

typedef struct Names {
    Check *check;
    const CheckEntry **threads; /* of directories, by where they lead */
    size_t thread_count;
} Names;

/* Has the fork a all that b has? */
static bool covers(const HfsDiskExtentRecord *a, const HfsDiskExtentRecord *b) {
    HfsExtent more[HFS_EXTENTS_IN_RECORD], less[HFS_EXTENTS_IN_RECORD];
    bool ended = false;

    hfs_extents_decode(a, more);
    hfs_extents_decode(b, less);
    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD && !ended; i++) {
        if (less[i].count > 0 &&
            (more[i].start != less[i].start || more[i].count < less[i].count)) {
            return false;
        }
        ended = less[i].count < more[i].count;
    }
    return true;
}

static bool has_all_of(const CheckEntry *a, const CheckEntry *b) {
    const HfsDiskFile *more = &a->record.file, *less = &b->record.file;

    return a->record.type == HFS_RECORD_DIR ||
           (covers(&more->data_extents, &less->data_extents) &&
            covers(&more->resource_extents, &less->resource_extents));
}

static int target_compare(const HfsKey *a, const HfsKey *b) {
    if (a->parent != b->parent) {
        return a->parent < b->parent ? -1 : 1;
    }
    return a->length != b->length ? a->length - b->length : memcmp(a->name, b->name, a->length);
}

static int thread_compare(const void *a, const void *b) {
    const CheckEntry *left = *(const CheckEntry *const *)a, *right = *(const CheckEntry *const *)b;
    int order = target_compare(&left->record.target, &right->record.target);

    return order != 0 ? order : left->key.parent < right->key.parent ? -1 : 1;
}

static int sort_threads(Names *names) {
    Check *check = names->check;

    names->threads = calloc(MAX(check->entry_count, (size_t)1), sizeof(*names->threads));
    if (names->threads == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < check->entry_count; i++) {
        const CheckEntry *entry = &check->entries[i];

        if (!entry->dropped && entry->record.type == HFS_RECORD_DIR_THREAD) {
            names->threads[names->thread_count++] = entry;
        }
    }
    qsort(names->threads, names->thread_count, sizeof(*names->threads), thread_compare);
    return 0;
}

/* Is there a thread of another number that leads to this name? */
static bool is_anothers(const Names *names, const CheckEntry *entry) {
    size_t low = 0, high = names->thread_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (target_compare(&names->threads[middle]->record.target, &entry->key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    /* Each number has one thread at the most. */
    for (size_t i = low; i < MIN(low + 2, names->thread_count); i++) {
        const CheckEntry *thread = names->threads[i];

        if (target_compare(&thread->record.target, &entry->key) == 0 &&
            thread->key.parent != entry->record.id) {
            return true;
        }
    }
    return false;
}

static bool is_one(const Names *names, const CheckEntry *a, const CheckEntry *b) {
    bool dir = a->record.type == HFS_RECORD_DIR;
    uint32_t created[] = {
        be32_get(dir ? a->record.dir.created : a->record.file.created),
        be32_get(dir ? b->record.dir.created : b->record.file.created),
    };

    return a->record.type == b->record.type && a->record.id == b->record.id &&
           created[0] == created[1] && (has_all_of(a, b) || has_all_of(b, a)) &&
           (!dir || (!is_anothers(names, a) && !is_anothers(names, b)));
}

/* ---- which one ---- */

static bool thread_leads_to(const Check *check, const CheckEntry *entry) {
    HfsKey key = {.parent = entry->record.id};
    HfsDiskCatalogKey disk_key;
    HfsDiskThread disk;
    HfsRecord thread;
    int r;

    hfs_key_encode(&key, &disk_key);
    r = btree_lookup(&check->catalog.tree, (const uint8_t *)&disk_key, &disk, sizeof(disk));
    return r > 0 &&
           hfs_record_decode((const uint8_t *)&disk, MIN((unsigned)r, (unsigned)sizeof(disk)), 0,
                             &thread, NULL) == 0 &&
           (thread.type == HFS_RECORD_DIR_THREAD || thread.type == HFS_RECORD_FILE_THREAD) &&
           hfs_key_equal(&thread.target, &entry->key);
}

static unsigned worth(const Check *check, const CheckEntry *entry) {
    const CheckEntry *parent = check_find(check, entry->key.parent);
    bool reachable = entry->key.parent == HFS_CNID_ROOT ||
                     (parent != NULL && parent->record.type == HFS_RECORD_DIR);

    return 4u * reachable + 2u * !hfs_key_is_spare(&entry->key) + thread_leads_to(check, entry);
}

/* One of the two goes; *ret is the other. */
static int take_away(Check *check, CheckEntry *a, CheckEntry *b, CheckEntry **ret) {
    bool second = worth(check, b) > worth(check, a);
    CheckEntry *stays = second ? b : a, *goes = second ? a : b;
    HfsRecord record = has_all_of(stays, goes) ? stays->record : goes->record;
    int r;

    *ret = stays;
    if (!check_found(check, HFS_PROBLEM_TWO_NAMES,
                     "%s %" PRIu32 ", \"%.*s\" in directory %" PRIu32
                     " and \"%.*s\" in directory %" PRIu32,
                     stays->record.type == HFS_RECORD_DIR ? "directory" : "file", stays->record.id,
                     stays->key.length, (const char *)stays->key.name, stays->key.parent,
                     goes->key.length, (const char *)goes->key.name, goes->key.parent)) {
        return 0;
    }
    r = check_entry_drop(check, goes);
    if (r == 0) {
        stays->record = record;
        r = check_entry_update(check, stays);
    }
    return r;
}

int check_names(Check *check) {
    Names names = {.check = check};
    CheckEntry *before = NULL;
    int r = check_sort_ids(check);

    for (size_t i = 0; r == 0 && i < check->id_count; i++) {
        CheckEntry *entry = &check->entries[check->ids[i].entry];

        if (before == NULL || before->record.id != entry->record.id ||
            entry->record.id < HFS_CNID_FIRST_USER) {
            before = entry;
            continue;
        }
        if (names.threads == NULL) {
            r = sort_threads(&names);
        }
        if (r == 0 && is_one(&names, before, entry)) {
            r = take_away(check, before, entry, &before);
        } else {
            before = entry;
        }
    }
    free(names.threads);
    return r < 0 ? r : check_sort_ids(check);
}
