/* SPDX-License-Identifier: MIT */
/*
 * Every file and directory can be reached from the root. What lies in a
 * directory that does not exist, or in a ring of directories that lie in each
 * other, is moved into the directory lost+found in the root, under its own name
 * or, when that is taken there, a numbered one. So is what was found in a
 * damaged tree under a name that another file has as well.
 */
#include "check.h"
#include <inttypes.h>
#include <stdio.h>

#define LOST_NAME "lost+found"

static bool is_object(const CheckEntry *entry) {
    return !entry->dropped &&
           (entry->record.type == HFS_RECORD_DIR || entry->record.type == HFS_RECORD_FILE);
}

static CheckEntry *find_dir(const Check *check, uint32_t id) {
    CheckEntry *entry = check_find(check, id);

    return entry != NULL && entry->record.type == HFS_RECORD_DIR ? entry : NULL;
}

static bool key_taken(const Check *check, const HfsKey *key) {
    HfsDiskCatalogKey disk_key;

    hfs_key_encode(key, &disk_key);
    return btree_lookup(&check->catalog.tree, (const uint8_t *)&disk_key, NULL, 0) != -ENOENT;
}

static void set_name(HfsKey *key, const char *name) {
    key->length = (uint8_t)strlen(name);
    memcpy(key->name, name, key->length);
}

/* A name that is free in the directory, made from `base` and a number where need be. */
static void free_name(const Check *check, HfsKey *key, const char *base) {
    char name[HFS_NAME_MAX + 1];

    for (uint32_t i = 2; key_taken(check, key); i++) {
        (void)snprintf(name, sizeof(name), "%.19s %" PRIu32, base, i);
        set_name(key, name);
    }
}

/* The directory's id in *ret; it is made when it is not there. */
static int lost_directory(Check *check, uint32_t *ret) {
    HfsKey key = {.parent = HFS_CNID_ROOT};
    HfsRecord record = {.type = HFS_RECORD_DIR};
    HfsDiskCatalogKey disk_key;
    HfsDiskDir dir;
    int r;

    set_name(&key, LOST_NAME);
    hfs_key_encode(&key, &disk_key);
    r = btree_lookup(&check->catalog.tree, (const uint8_t *)&disk_key, &dir, sizeof(dir));
    if (r >= (int)sizeof(dir) && dir.type == HFS_RECORD_DIR) {
        *ret = be32_get(dir.id);
        return 0;
    }
    free_name(check, &key, LOST_NAME);
    if (check->mdb.next_cnid == UINT32_MAX) {
        return check_fail(check, -EUCLEAN, "there are no numbers left for files");
    }
    record.id = check->mdb.next_cnid++;
    check->mdb_changed = true;
    record.dir.type = HFS_RECORD_DIR;
    record.dir.id = be32_make(record.id);
    record.dir.created = hfs_time_encode(check->config.now * INT64_C(1000000000), 0);
    record.dir.modified = record.dir.created;
    *ret = record.id;
    return check_entry_add(check, &key, &record);
}

/* The key that it gets in lost+found. */
static int lost_key(Check *check, uint32_t id, HfsKey *key) {
    char name[HFS_NAME_MAX + 1];
    int r = lost_directory(check, &key->parent);

    if (r == 0 && key_taken(check, key)) {
        (void)snprintf(name, sizeof(name), "file %" PRIu32, id);
        set_name(key, name);
        free_name(check, key, name);
    }
    return r;
}

static int move_entry(Check *check, size_t at) {
    CheckEntry moved = check->entries[at];
    int r = lost_key(check, moved.record.id, &moved.key);

    if (r == 0) {
        r = check_entry_drop(check, &check->entries[at]);
    }
    return r < 0 ? r : check_entry_add(check, &moved.key, &moved.record);
}

/* ---- what has lost its name to another ---- */

/* A file or directory of which there is nothing else. */
static bool is_all_there_is(const Check *check, const BtreeRecord *raw, HfsKey *key,
                            HfsRecord *record) {
    hfs_key_decode(raw->key, key);
    return hfs_record_decode(raw->data, raw->data_size, key->parent, record, NULL) == 0 &&
           check_key_fits(key, record) &&
           (record->type == HFS_RECORD_DIR || record->type == HFS_RECORD_FILE) &&
           record->id >= HFS_CNID_FIRST_USER && record->id < UINT32_MAX &&
           check_find(check, record->id) == NULL;
}

/* lost+found must not get a number that one of them has. */
static void spare_numbers(Check *check) {
    for (size_t i = 0; i < check->catalog.other_count; i++) {
        HfsRecord record;
        HfsKey key;

        if (is_all_there_is(check, &check->catalog.others[i], &key, &record) &&
            check->mdb.next_cnid <= record.id) {
            check->mdb.next_cnid = record.id + 1;
            check->mdb_changed = true;
        }
    }
}

static int take_other(Check *check, const BtreeRecord *raw) {
    HfsRecord record;
    HfsKey key;
    int r;

    if (!is_all_there_is(check, raw, &key, &record) ||
        !check_found(check, HFS_PROBLEM_LOST,
                     "%s %" PRIu32 ", \"%.*s\" in directory %" PRIu32 " like another",
                     record.type == HFS_RECORD_DIR ? "directory" : "file", record.id, key.length,
                     (const char *)key.name, key.parent)) {
        return 0;
    }
    r = lost_key(check, record.id, &key);
    if (r == 0) {
        r = check_entry_add(check, &key, &record);
    }
    return r < 0 ? r : check_sort_ids(check);
}

/* ---- what has no directory ---- */

/*
 * Goes up from a directory until one whose way is known. The directory where
 * the way ends, or meets itself, is the one to move; entries above stay where
 * they are, in it. Returns that entry's index, or SIZE_MAX.
 */
static size_t walk_up(Check *check, CheckEntry *from, HfsProblem *ret_problem) {
    CheckEntry *at = from, *parent;
    size_t lost = SIZE_MAX;

    while (at->reach == REACH_UNKNOWN) {
        at->reach = REACH_WALKING;
        if (at->record.id == HFS_CNID_ROOT) {
            break;
        }
        parent = find_dir(check, at->key.parent);
        if (parent == NULL || parent->reach == REACH_WALKING) {
            *ret_problem = parent == NULL ? HFS_PROBLEM_LOST : HFS_PROBLEM_LOOP;
            lost = (size_t)(at - check->entries);
            break;
        }
        at = parent;
    }
    for (at = from; at != NULL && at->reach == REACH_WALKING;) {
        at->reach = REACH_ROOT;
        at = find_dir(check, at->key.parent);
    }
    return lost;
}

static int check_reach(Check *check, size_t at) {
    CheckEntry *entry = &check->entries[at];
    HfsProblem problem = HFS_PROBLEM_LOST;
    size_t lost = SIZE_MAX;

    if (entry->record.type == HFS_RECORD_DIR) {
        lost = walk_up(check, entry, &problem);
    } else if (find_dir(check, entry->key.parent) == NULL) {
        lost = at;
    }
    if (lost == SIZE_MAX) {
        return 0;
    }
    entry = &check->entries[lost];
    return check_found(check, problem, "%s %" PRIu32 ", \"%.*s\" in directory %" PRIu32,
                       entry->record.type == HFS_RECORD_DIR ? "directory" : "file",
                       entry->record.id, entry->key.length, (const char *)entry->key.name,
                       entry->key.parent)
               ? move_entry(check, lost)
               : 0;
}

int check_lost(Check *check) {
    size_t count;
    int r = 0;

    spare_numbers(check);
    for (size_t i = 0; r == 0 && i < check->catalog.other_count; i++) {
        r = take_other(check, &check->catalog.others[i]);
    }
    count = check->entry_count; /* what is added from now on is in its place */
    for (size_t i = 0; r == 0 && i < count; i++) {
        if (is_object(&check->entries[i])) {
            r = check_reach(check, i);
        }
    }
    return r < 0 ? r : check_sort_ids(check);
}
