/* SPDX-License-Identifier: MIT */
/*
 * What the catalog says twice: a directory's thread record leads back to it
 * (a file may have one as well, and then has a mark that says so), directories
 * know how many entries they have, and the volume how many files and
 * directories.
 */
#include "check.h"
#include <inttypes.h>

static bool is_thread(const CheckEntry *entry) {
    return entry->record.type == HFS_RECORD_DIR_THREAD ||
           entry->record.type == HFS_RECORD_FILE_THREAD;
}

/* The kind of thread that leads to this entry. */
static uint8_t thread_type(const CheckEntry *entry) {
    return entry->record.type == HFS_RECORD_DIR ? HFS_RECORD_DIR_THREAD : HFS_RECORD_FILE_THREAD;
}

/* ---- threads ---- */

static int set_thread_flag(Check *check, CheckEntry *file, bool has_thread) {
    if (!check_found(check, HFS_PROBLEM_THREAD_FLAG, "file %" PRIu32 " has %s thread record",
                     file->record.id, has_thread ? "a" : "no")) {
        return 0;
    }
    file->record.file.flags = (uint8_t)((file->record.file.flags & ~HFS_FILE_THREAD) |
                                        (has_thread ? HFS_FILE_THREAD : 0));
    return check_entry_update(check, file);
}

/* A thread record: it has an owner, and leads there. */
static int check_thread(Check *check, CheckEntry *thread) {
    CheckEntry *owner = check_find(check, thread->key.parent);
    int r = 0;

    if (owner == NULL || thread_type(owner) != thread->record.type) {
        return check_found(check, HFS_PROBLEM_THREAD_ORPHAN, "of number %" PRIu32,
                           thread->key.parent)
                   ? check_entry_drop(check, thread)
                   : 0;
    }
    if (!hfs_key_equal(&thread->record.target, &owner->key) &&
        check_found(check, HFS_PROBLEM_THREAD_WRONG,
                    "of %" PRIu32 ": \"%.*s\" in directory %" PRIu32, owner->record.id,
                    thread->record.target.length, (const char *)thread->record.target.name,
                    thread->record.target.parent)) {
        thread->record.target = owner->key;
        r = check_entry_update(check, thread);
    }
    if (r == 0 && owner->record.type == HFS_RECORD_FILE &&
        (owner->record.file.flags & HFS_FILE_THREAD) == 0) {
        r = set_thread_flag(check, owner, true);
    }
    return r;
}

static bool has_thread(const Check *check, const CheckEntry *entry) {
    HfsKey key = {.parent = entry->record.id};
    HfsDiskCatalogKey disk_key;
    uint8_t type = 0;

    hfs_key_encode(&key, &disk_key);
    return btree_lookup(&check->catalog.tree, (const uint8_t *)&disk_key, &type, 1) > 0 &&
           type == thread_type(entry);
}

static int check_owner(Check *check, size_t at) {
    CheckEntry *entry = &check->entries[at];
    HfsKey key = {.parent = entry->record.id};
    HfsRecord thread = {.type = HFS_RECORD_DIR_THREAD, .target = entry->key};

    if (entry->record.type == HFS_RECORD_FILE) {
        return (entry->record.file.flags & HFS_FILE_THREAD) != 0 && !has_thread(check, entry)
                   ? set_thread_flag(check, entry, false)
                   : 0;
    }
    if (has_thread(check, entry) ||
        !check_found(check, HFS_PROBLEM_THREAD_MISSING, "directory %" PRIu32 ", \"%.*s\"",
                     entry->record.id, entry->key.length, (const char *)entry->key.name)) {
        return 0;
    }
    return check_entry_add(check, &key, &thread);
}

int check_threads(Check *check) {
    size_t count = check->entry_count;
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++) {
        if (!check->entries[i].dropped && is_thread(&check->entries[i])) {
            r = check_thread(check, &check->entries[i]);
        }
    }
    for (size_t i = 0; r == 0 && i < count; i++) {
        if (!check->entries[i].dropped && !is_thread(&check->entries[i])) {
            r = check_owner(check, i);
        }
    }
    return r;
}

/* ---- counts ---- */

static int check_valence(Check *check, CheckEntry *dir) {
    uint16_t valence = be16_get(dir->record.dir.valence);

    /* The field has 16 bits, whatever a directory has. */
    if (valence == (uint16_t)dir->children ||
        !check_found(check, HFS_PROBLEM_VALENCE,
                     "directory %" PRIu32 ", \"%.*s\": %u, but it has %" PRIu32, dir->record.id,
                     dir->key.length, (const char *)dir->key.name, valence, dir->children)) {
        return 0;
    }
    dir->record.dir.valence = be16_make((uint16_t)dir->children);
    return check_entry_update(check, dir);
}

typedef struct Counts {
    uint32_t files, dirs, root_files, root_dirs;
} Counts;

static void check_volume_counts(Check *check, const Counts *counts) {
    HfsMdb *mdb = &check->mdb;

    if ((mdb->file_count != counts->files || mdb->dir_count != counts->dirs ||
         mdb->root_files != (uint16_t)counts->root_files ||
         mdb->root_dirs != (uint16_t)counts->root_dirs) &&
        check_found(check, HFS_PROBLEM_COUNTS,
                    "%" PRIu32 " files (%u in the root), %" PRIu32
                    " directories (%u in the root), but there are %" PRIu32 " (%" PRIu32
                    "), %" PRIu32 " (%" PRIu32 ")",
                    mdb->file_count, mdb->root_files, mdb->dir_count, mdb->root_dirs, counts->files,
                    counts->root_files, counts->dirs, counts->root_dirs)) {
        mdb->file_count = counts->files;
        mdb->dir_count = counts->dirs;
        mdb->root_files = (uint16_t)counts->root_files;
        mdb->root_dirs = (uint16_t)counts->root_dirs;
        check->mdb_changed = true;
    }
    check->result.files = counts->files;
    check->result.directories = counts->dirs;
}

int check_counts(Check *check) {
    Counts counts = {0};
    int r = 0;

    for (size_t i = 0; i < check->entry_count; i++) {
        CheckEntry *entry = &check->entries[i], *parent;
        bool in_root = entry->key.parent == HFS_CNID_ROOT;

        if (entry->dropped || is_thread(entry)) {
            continue;
        }
        parent = check_find(check, entry->key.parent);
        if (parent != NULL) {
            parent->children++;
        }
        if (entry->record.type == HFS_RECORD_FILE) {
            counts.files++;
            counts.root_files += in_root;
        } else if (entry->record.id != HFS_CNID_ROOT) {
            counts.dirs++;
            counts.root_dirs += in_root;
        }
    }
    for (size_t i = 0; r == 0 && i < check->entry_count; i++) {
        CheckEntry *entry = &check->entries[i];

        if (!entry->dropped && entry->record.type == HFS_RECORD_DIR) {
            r = check_valence(check, entry);
        }
    }
    if (r == 0) {
        check_volume_counts(check, &counts);
    }
    return r;
}
