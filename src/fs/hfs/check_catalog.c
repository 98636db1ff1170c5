/* SPDX-License-Identifier: MIT */
/*
 * The catalog's records: each makes sense, there is a root directory, and no
 * two files or directories have one number. The tree is sound by now, and the
 * array of entries is made from it here, in the order of keys; the repairs of
 * all passes change both.
 */
#include "check.h"
#include "order.h"
#include <inttypes.h>

/* ---- entries and tree ---- */

static int entry_push(Check *check, const HfsKey *key, const HfsRecord *record) {
    if (check->entry_count == check->entry_capacity) {
        size_t capacity = MAX(check->entry_capacity * 2, (size_t)64);
        CheckEntry *entries = reallocarray(check->entries, capacity, sizeof(*entries));

        if (entries == NULL) {
            return -ENOMEM;
        }
        check->entries = entries;
        check->entry_capacity = capacity;
    }
    check->entries[check->entry_count++] = (CheckEntry){.key = *key, .record = *record};
    return 0;
}

/* The record's bytes; a thread's take `thread`. */
static const void *record_bytes(const HfsRecord *record, HfsDiskThread *thread,
                                unsigned *ret_length) {
    switch (record->type) {
    case HFS_RECORD_DIR:
        *ret_length = sizeof(record->dir);
        return &record->dir;
    case HFS_RECORD_FILE:
        *ret_length = sizeof(record->file);
        return &record->file;
    default:
        hfs_thread_encode(record->type, &record->target, thread);
        *ret_length = sizeof(*thread);
        return thread;
    }
}

/* A full catalog cannot take another record: the repair does not happen. */
static int no_room(Check *check, int r) {
    return r == -ENOSPC
               ? check_fail(check, -EUCLEAN, "the catalog file has no room for another record")
               : r;
}

static int tree_insert(Check *check, const HfsKey *key, const HfsRecord *record) {
    HfsDiskCatalogKey disk_key;
    HfsDiskThread thread;
    unsigned length;
    const void *bytes = record_bytes(record, &thread, &length);

    hfs_key_encode(key, &disk_key);
    return no_room(check,
                   btree_insert(&check->catalog.tree, (const uint8_t *)&disk_key, bytes, length));
}

static int tree_remove(Check *check, const HfsKey *key) {
    HfsDiskCatalogKey disk_key;

    hfs_key_encode(key, &disk_key);
    return btree_remove(&check->catalog.tree, (const uint8_t *)&disk_key);
}

int check_entry_update(Check *check, const CheckEntry *entry) {
    HfsDiskCatalogKey disk_key;
    HfsDiskThread thread;
    unsigned length;
    const void *bytes = record_bytes(&entry->record, &thread, &length);
    int r;

    hfs_key_encode(&entry->key, &disk_key);
    r = btree_update(&check->catalog.tree, (const uint8_t *)&disk_key, bytes, length);
    if (r == -EUCLEAN) { /* a thread that was too short for its new name */
        r = btree_remove(&check->catalog.tree, (const uint8_t *)&disk_key);
        if (r == 0) {
            r = btree_insert(&check->catalog.tree, (const uint8_t *)&disk_key, bytes, length);
        }
    }
    return no_room(check, r);
}

int check_entry_drop(Check *check, CheckEntry *entry) {
    entry->dropped = true;
    return tree_remove(check, &entry->key);
}

int check_entry_add(Check *check, const HfsKey *key, const HfsRecord *record) {
    int r = tree_insert(check, key, record);

    return r < 0 ? r : entry_push(check, key, record);
}

/* ---- reading all records ---- */

/* What a record's type and key cannot have together. */
bool check_key_fits(const HfsKey *key, const HfsRecord *record) {
    switch (record->type) {
    case HFS_RECORD_DIR:
    case HFS_RECORD_FILE:
        return key->length > 0 && key->parent != 0 && record->id != 0;
    default:
        return key->length == 0 && key->parent != 0;
    }
}

typedef struct BadKeys {
    HfsKey *keys;
    size_t count;
} BadKeys;

static int remember_bad(BadKeys *bad, const HfsKey *key) {
    HfsKey *keys = reallocarray(bad->keys, bad->count + 1, sizeof(*keys));

    if (keys == NULL) {
        return -ENOMEM;
    }
    bad->keys = keys;
    bad->keys[bad->count++] = *key;
    return 0;
}

/* A reserved number is a reason for the decoder to refuse a record. Here it is one to give it
 * another: the record is decoded with a number that is allowed, and gets its own back. */
static int decode_reserved(const BtreeRecord *raw, HfsRecord *ret) {
    uint8_t data[sizeof(HfsDiskFile)];
    be32 allowed = be32_make(HFS_CNID_FIRST_USER), own;
    bool dir = raw->data[0] == HFS_RECORD_DIR;
    size_t at = dir ? offsetof(HfsDiskDir, id) : offsetof(HfsDiskFile, id);
    int r;

    if (raw->data_size < at + sizeof(own) || (!dir && raw->data[0] != HFS_RECORD_FILE)) {
        return -EUCLEAN;
    }
    memcpy(data, raw->data, MIN(raw->data_size, sizeof(data)));
    memcpy(&own, data + at, sizeof(own));
    memcpy(data + at, &allowed, sizeof(allowed));
    r = hfs_record_decode(data, MIN(raw->data_size, (unsigned)sizeof(data)), 0, ret, NULL);
    if (r < 0 || be32_get(own) >= HFS_CNID_FIRST_USER) {
        return -EUCLEAN;
    }
    ret->id = be32_get(own);
    if (dir) {
        ret->dir.id = own;
    } else {
        ret->file.id = own;
    }
    return 0;
}

static int read_record(Check *check, const BtreeRecord *raw, BadKeys *bad) {
    Corruption corruption = {.text = "its key is not one for it"};
    HfsRecord record;
    HfsKey key;
    int r;

    hfs_key_decode(raw->key, &key);
    r = hfs_record_decode(raw->data, raw->data_size, key.parent, &record, &corruption);
    if (r < 0) {
        r = decode_reserved(raw, &record);
    }
    if (r == 0 && check_key_fits(&key, &record)) {
        return entry_push(check, &key, &record);
    }
    /* Also when it stays: nothing can be done with it. */
    if (check_found(check, HFS_PROBLEM_RECORD, "in directory %" PRIu32 ": %s", key.parent,
                    corruption.text)) {
        return remember_bad(bad, &key);
    }
    return 0;
}

static int read_records(Check *check, BadKeys *bad) {
    HfsDiskCatalogKey lowest;
    BtreeCursor cursor;
    int r = btree_cursor_init(&cursor, &check->catalog.tree);

    hfs_key_encode(&(HfsKey){0}, &lowest);
    if (r == 0) {
        r = btree_seek(&cursor, (const uint8_t *)&lowest);
    }
    if (r >= 0) {
        r = r == 0 ? 0 : btree_next(&cursor);
    }
    while (r == 0) {
        BtreeRecord record;

        btree_get(&cursor, &record);
        r = read_record(check, &record, bad);
        if (r == 0) {
            r = btree_next(&cursor);
        }
    }
    btree_cursor_done(&cursor);
    return r == -ENOENT ? 0 : r;
}

static int set_id(Check *check, CheckEntry *entry, uint32_t id) {
    entry->record.id = id;
    if (entry->record.type == HFS_RECORD_DIR) {
        entry->record.dir.id = be32_make(id);
    } else {
        entry->record.file.id = be32_make(id);
    }
    return check_entry_update(check, entry);
}

/* ---- the root directory ---- */

static bool is_root(const CheckEntry *entry) {
    return entry->record.type == HFS_RECORD_DIR && entry->record.id == HFS_CNID_ROOT &&
           entry->key.parent == HFS_CNID_ROOT_PARENT;
}

static HfsKey root_key(const HfsMdb *mdb) {
    HfsKey key = {.parent = HFS_CNID_ROOT_PARENT, .length = mdb->name_length};

    memcpy(key.name, mdb->name, mdb->name_length);
    return key;
}

/*
 * From what there is: a directory with the root's number elsewhere, one with
 * another number in the root's place, or nothing.
 */
static int make_root(Check *check, CheckEntry *misplaced, CheckEntry *misnumbered) {
    const HfsMdb *mdb = &check->mdb;
    HfsKey key = root_key(mdb);
    HfsRecord record = {.type = HFS_RECORD_DIR, .id = HFS_CNID_ROOT};
    int r = 0;

    if (misplaced != NULL) {
        record = misplaced->record;
        r = check_entry_drop(check, misplaced);
    } else if (misnumbered != NULL) {
        return set_id(check, misnumbered, HFS_CNID_ROOT);
    } else {
        record.dir.type = HFS_RECORD_DIR;
        record.dir.id = be32_make(HFS_CNID_ROOT);
        record.dir.created = be32_make(mdb->created);
        record.dir.modified = be32_make(mdb->modified);
    }
    if (r == 0) {
        r = check_entry_add(check, &key, &record);
    }
    return r == -EEXIST ? check_fail(check, -EUCLEAN, "there is a file in the root's place") : r;
}

static void check_root_name(Check *check, const HfsKey *key) {
    HfsMdb *mdb = &check->mdb;

    if ((key->length != mdb->name_length || memcmp(key->name, mdb->name, key->length) != 0) &&
        key->length <= HFS_LABEL_MAX &&
        check_found(check, HFS_PROBLEM_ROOT_NAME, "\"%.*s\" and \"%.*s\"", mdb->name_length,
                    (const char *)mdb->name, key->length, (const char *)key->name)) {
        mdb->name_length = key->length;
        memcpy(mdb->name, key->name, key->length);
        check->mdb_changed = true;
    }
}

static int check_root(Check *check) {
    CheckEntry *misplaced = NULL, *misnumbered = NULL;

    for (size_t i = 0; i < check->entry_count; i++) {
        CheckEntry *entry = &check->entries[i];

        if (is_root(entry)) {
            check_root_name(check, &entry->key);
            return 0;
        }
        if (entry->record.type == HFS_RECORD_DIR && entry->record.id == HFS_CNID_ROOT) {
            misplaced = entry;
        } else if (entry->record.type == HFS_RECORD_DIR &&
                   entry->key.parent == HFS_CNID_ROOT_PARENT) {
            misnumbered = entry;
        }
    }
    return check_found(check, HFS_PROBLEM_ROOT, "\"%.*s\"", check->mdb.name_length,
                       (const char *)check->mdb.name)
               ? make_root(check, misplaced, misnumbered)
               : check_fail(check, -EUCLEAN, "without a root directory there is nothing to check");
}

/* ---- ids ---- */

static int id_compare(const void *a, const void *b) {
    const CheckId *left = a, *right = b;

    if (left->id != right->id) {
        return left->id < right->id ? -1 : 1;
    }
    return left->entry < right->entry ? -1 : 1;
}

int check_sort_ids(Check *check) {
    free(check->ids);
    check->id_count = 0;
    check->ids = calloc(MAX(check->entry_count, (size_t)1), sizeof(CheckId));
    if (check->ids == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < check->entry_count; i++) {
        const CheckEntry *entry = &check->entries[i];

        if (!entry->dropped &&
            (entry->record.type == HFS_RECORD_DIR || entry->record.type == HFS_RECORD_FILE)) {
            check->ids[check->id_count++] = (CheckId){entry->record.id, (uint32_t)i};
        }
    }
    qsort(check->ids, check->id_count, sizeof(CheckId), id_compare);
    return 0;
}

CheckEntry *check_find(const Check *check, uint32_t id) {
    size_t low = 0, high = check->id_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (check->ids[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < check->id_count && check->ids[low].id == id
               ? &check->entries[check->ids[low].entry]
               : NULL;
}

static int give_id(Check *check, CheckEntry *entry, uint32_t id) {
    check->mdb.next_cnid = id + 1;
    check->mdb_changed = true;
    return set_id(check, entry, id);
}

/* The number that an entry cannot keep, if so. */
static int check_id(Check *check, size_t at, uint32_t *next) {
    const CheckId *id = &check->ids[at];
    CheckEntry *entry = &check->entries[id->entry];
    HfsProblem problem = HFS_PROBLEM_COUNT;

    if (is_root(entry)) {
        return 0; /* whoever else has that number cannot keep it */
    }
    if (id->id >= HFS_CNID_FIRST_USER && at > 0 && check->ids[at - 1].id == id->id) {
        problem = HFS_PROBLEM_ID_TWICE;
    } else if (id->id < HFS_CNID_FIRST_USER) {
        problem = HFS_PROBLEM_ID_RESERVED;
    }
    if (problem == HFS_PROBLEM_COUNT ||
        !check_found(check, problem, "%" PRIu32 ": \"%.*s\" in directory %" PRIu32, id->id,
                     entry->key.length, (const char *)entry->key.name, entry->key.parent)) {
        return 0;
    }
    if (*next == UINT32_MAX) {
        return check_fail(check, -EUCLEAN, "there are no numbers left for files");
    }
    return give_id(check, entry, (*next)++);
}

static int check_ids(Check *check) {
    uint32_t highest, next;
    int r = check_sort_ids(check);

    if (r < 0) {
        return r;
    }
    highest = check->id_count > 0 ? check->ids[check->id_count - 1].id : 0;
    next = MAX(highest, HFS_CNID_FIRST_USER - 1);
    next = MAX(next == UINT32_MAX ? next : next + 1, check->mdb.next_cnid);
    if (check->mdb.next_cnid <= highest &&
        check_found(check, HFS_PROBLEM_NEXT_ID, "%" PRIu32 ", but there is %" PRIu32,
                    check->mdb.next_cnid, highest)) {
        check->mdb.next_cnid = next;
        check->mdb_changed = true;
    }
    for (size_t i = 0; r == 0 && i < check->id_count; i++) {
        r = check_id(check, i, &next);
    }
    return r < 0 ? r : check_sort_ids(check);
}

int check_catalog(Check *check) {
    BadKeys bad = {0};
    int r = read_records(check, &bad);

    for (size_t i = 0; r == 0 && i < bad.count; i++) {
        r = tree_remove(check, &bad.keys[i]);
    }
    free(bad.keys);
    if (r == 0) {
        r = check_root(check);
    }
    if (r == 0) {
        r = check_names(check);
    }
    return r < 0 ? r : check_ids(check);
}
