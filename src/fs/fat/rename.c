/* SPDX-License-Identifier: MIT */
/*
 * Rename. The new name is written in class ENTRY, the old one erased in class OLD, so
 * that a power cut leaves one name or both, never none. A target that is spelled
 * exactly like the new name gives its short entry, rewritten by one write of 32
 * bytes; any other target is removed and the name written anew, which also covers
 * a change of case (the target is the moved object itself).
 *
 * An exchange leaves both names where they are and swaps what they stand for. Of two
 * sectors one is written first, and a cut between them would leave both names to one of
 * the files. So inside the record the other file has a third, spare name: that comes in
 * class LINK, then the two entries change in ENTRY and OLD, and it goes in SPARE. The record
 * begins a batch of its own, as the spare name is a whole entry, with all that
 * earlier records made of it, in a class before those of entries.
 *
 * Locks: both directories, the moved object and the victim, exclusive.
 */
#include "types.h"

typedef struct Rename {
    FatVolume *volume;
    const FsCall *call;
    FatInode *old_dir, *new_dir, *moved;
    FatInode *victim; /* another object that goes away, or NULL */
    FatSpan old_span, victim_span;
    bool in_place; /* the victim's entry is taken over */
    FatNewName name;
    FatPlace place;
} Rename;

/* Writes the moved object's entry under its new name. */
static int write_new(Txn *txn, Rename *rename, uint64_t *ret_position) {
    FatDiskEntry disk, target;
    int r = fat_entry_read(rename->volume, rename->moved->entry, &disk);

    if (r < 0) {
        return r;
    }
    if (!rename->in_place) {
        if (rename->victim != NULL) {
            r = fat_place_erase(txn, rename->new_dir, &rename->victim_span, FAT_CLASS_ENTRY);
        }
        *ret_position = rename->place.position;
        return r < 0 ? r : fat_place_write(txn, &rename->place, &disk);
    }
    r = fat_entry_read(rename->volume, rename->victim->entry, &target);
    if (r < 0) {
        return r;
    }
    memcpy(disk.name, target.name, sizeof(disk.name));
    disk.nt_flags = target.nt_flags;
    *ret_position = rename->victim->entry;
    return fat_entry_write(txn, rename->volume, rename->victim->entry, &disk, FAT_CLASS_ENTRY);
}

/* A directory that moves to another parent. */
static int update_dotdot(Txn *txn, FatInode *moved, FatInode *parent) {
    FatVolume *volume = fat_inode_volume(moved);
    FatDiskEntry disk;
    uint64_t position = 0;
    int r;

    if (!fat_dir_slot_position(volume, &moved->chain, 1, &position)) {
        return 0; /* it has no clusters: reported when it was loaded */
    }
    r = fat_entry_read(volume, position, &disk);
    if (r < 0) {
        return r;
    }
    if (fat_slot_dots(&disk) != 2) {
        return report_corrupt(volume->base.reporter, true, "directory entry", position, "DIR_Name",
                              disk.name[0], "should be '..'");
    }
    fat_entry_set_cluster(&volume->geo, &disk, fat_dir_number(parent));
    return fat_entry_write(txn, volume, position, &disk, FAT_CLASS_ENTRY);
}

static int rename_body(Txn *txn, void *arg) {
    Rename *rename = arg;
    FatInode *moved = rename->moved;
    uint64_t position = 0;
    int r = 0;

    if (rename->victim != NULL && rename->victim->directory) {
        r = fat_place_check_departures(txn, rename->victim);
    }
    if (r == 0) {
        r = write_new(txn, rename, &position);
    }
    if (r == 0) {
        r = fat_place_erase(txn, rename->old_dir, &rename->old_span, FAT_CLASS_OLD);
    }
    if (r == 0 && moved->directory && rename->old_dir != rename->new_dir) {
        r = update_dotdot(txn, moved, rename->new_dir);
    }
    if (r == 0) {
        r = fat_inode_touch(txn, rename->old_dir, rename->call->time_ns);
    }
    if (r == 0 && rename->old_dir != rename->new_dir) {
        fat_place_note_departure(txn, rename->old_dir);
        r = fat_inode_touch(txn, rename->new_dir, rename->call->time_ns);
    }
    /* The victim first: it may give its position to the moved object. */
    if (r == 0 && rename->victim != NULL) {
        r = fat_inode_unlinked(txn, rename->victim);
    }
    if (r == 0) {
        r = fat_identity_move(txn, rename->volume, moved->base.file_id, position);
    }
    if (r == 0) {
        r = txn_save(txn, &moved->entry, sizeof(moved->entry));
    }
    if (r == 0) {
        moved->entry = position;
    }
    return r;
}

/* ---- exchange ---- */

/* `inode` gets the entry that is at position, under the name that stands there. */
static int put_under(Txn *txn, FatInode *inode, const FatDiskEntry *own, const FatDiskEntry *there,
                     uint64_t position, FatClass class) {
    FatDiskEntry disk = *own;
    int r;

    memcpy(disk.name, there->name, sizeof(disk.name));
    disk.nt_flags = there->nt_flags;
    r = fat_entry_write(txn, fat_inode_volume(inode), position, &disk, class);
    if (r == 0) {
        r = txn_save(txn, &inode->entry, sizeof(inode->entry));
    }
    if (r == 0) {
        inode->entry = position;
    }
    return r;
}

/* The names stay where they are, what they stand for changes places. */
static int exchange_entries(Txn *txn, Rename *rename) {
    FatVolume *volume = rename->volume;
    FatInode *moved = rename->moved, *other = rename->victim;
    uint64_t from = moved->entry, to = other->entry;
    bool spare = rename->place.dir != NULL;
    FatDiskEntry mine, theirs;
    int r = spare ? txn_separate(txn) : 0;

    if (r == 0) {
        r = fat_entry_read(volume, from, &mine);
    }
    if (r == 0) {
        r = fat_entry_read(volume, to, &theirs);
    }
    if (r == 0 && spare) {
        r = fat_place_write_spare(txn, &rename->place, &theirs);
    }
    if (r == 0) {
        r = put_under(txn, moved, &mine, &theirs, to, FAT_CLASS_ENTRY);
    }
    if (r == 0) {
        r = put_under(txn, other, &theirs, &mine, from, spare ? FAT_CLASS_OLD : FAT_CLASS_ENTRY);
    }
    if (r == 0 && spare) {
        r = fat_place_erase_spare(txn, &rename->place);
    }
    return r;
}

static int exchange_identities(Txn *txn, FatVolume *volume, const FatInode *moved,
                               const FatInode *other) {
    /* For a moment the other one has no position: a position is one object's only. */
    int r = fat_identity_orphan(txn, volume, other->base.file_id, &(FatDiskEntry){0});

    if (r == 0) {
        r = fat_identity_move(txn, volume, moved->base.file_id, moved->entry);
    }
    return r == 0 ? fat_identity_move(txn, volume, other->base.file_id, other->entry) : r;
}

static int exchange_body(Txn *txn, void *arg) {
    Rename *rename = arg;
    bool crosses = rename->old_dir != rename->new_dir;
    int r = exchange_entries(txn, rename);

    if (r == 0) {
        r = exchange_identities(txn, rename->volume, rename->moved, rename->victim);
    }
    if (r == 0 && crosses && rename->moved->directory) {
        r = update_dotdot(txn, rename->moved, rename->new_dir);
    }
    if (r == 0 && crosses && rename->victim->directory) {
        r = update_dotdot(txn, rename->victim, rename->old_dir);
    }
    if (r == 0) {
        r = fat_inode_touch(txn, rename->old_dir, rename->call->time_ns);
    }
    return r == 0 && crosses ? fat_inode_touch(txn, rename->new_dir, rename->call->time_ns) : r;
}

/* The same exchange, seen from the other file. */
static void turn_round(Rename *rename) {
    Rename other = *rename;

    other.moved = rename->victim;
    other.victim = rename->moved;
    other.old_dir = rename->new_dir;
    other.new_dir = rename->old_dir;
    *rename = other;
}

/*
 * The spare name lies beside the entry that is rewritten last: as long as that may be undone by a
 * cut, its directory cannot go away. Either entry may be the last.
 */
static int find_spare(Rename *rename) {
    int r = fat_place_find_spare(rename->old_dir, &rename->name, &rename->place);

    if (r == -ENOSPC && rename->old_dir != rename->new_dir) {
        turn_round(rename);
        r = fat_place_find_spare(rename->old_dir, &rename->name, &rename->place);
    }
    return r;
}

static int exchange(Rename *rename, const FsRename *what) {
    FatVolume *volume = rename->volume;
    FatSpan span;
    int r;

    if (what->victim == NULL) {
        return -ENOENT;
    }
    rename->victim = fat_inode(what->victim);
    r = fat_place_locate(rename->old_dir, &what->moved_entry, rename->moved, &span);
    if (r == 0) {
        r = fat_place_locate(rename->new_dir, &what->victim_entry, rename->victim, &span);
    }
    if (r == 0 &&
        fat_block_of(volume, rename->moved->entry) != fat_block_of(volume, rename->victim->entry)) {
        r = find_spare(rename);
    }
    if (r == 0) {
        r = txn_run(volume->base.cache, rename->call->reply, exchange_body, rename);
    }
    fat_place_done(&rename->place);
    return r;
}

/* ---- another case only ---- */

/* Both spellings are one short name without a long one: only its bits for lower case change. */
static bool changes_bits_only(const Rename *rename) {
    FatDiskEntry disk;

    return !rename->name.needs_long && rename->old_span.first_slot == rename->old_span.slot &&
           fat_entry_read(rename->volume, rename->moved->entry, &disk) == 0 &&
           memcmp(disk.name, rename->name.short_name, sizeof(disk.name)) == 0;
}

static int bits_body(Txn *txn, void *arg) {
    const Rename *rename = arg;
    FatDiskEntry disk;
    int r = fat_entry_read(rename->volume, rename->moved->entry, &disk);

    if (r == 0) {
        disk.nt_flags = rename->name.nt_flags;
        r = fat_entry_write(txn, rename->volume, rename->moved->entry, &disk, FAT_CLASS_ENTRY);
    }
    return r == 0 ? fat_inode_touch(txn, rename->old_dir, rename->call->time_ns) : r;
}

/* ---- the operation ---- */

int fat_rename(FileSystem *fs, const FsCall *call, const FsRename *what) {
    Rename rename = {
        .volume = fat_volume(fs),
        .call = call,
        .old_dir = fat_inode(what->old_dir),
        .new_dir = fat_inode(what->new_dir),
        .moved = fat_inode(what->moved),
    };
    bool itself = what->victim == what->moved;
    int r;

    if (what->flags & FS_RENAME_EXCHANGE) {
        return itself ? 0 : exchange(&rename, what);
    }
    if (what->victim != NULL && !itself) {
        if (what->flags & FS_RENAME_NOREPLACE) {
            return -EEXIST;
        }
        rename.victim = fat_inode(what->victim);
        rename.in_place = what->victim_entry.exact;
    } else if (itself && what->victim_entry.exact) {
        return 0; /* old and new name are one */
    }
    r = rename.in_place ? 0
                        : fat_name_prepare(rename.volume->codepage, &what->new_name, &rename.name);
    if (r == 0 && rename.victim != NULL && rename.victim->directory) {
        r = fat_dir_check_empty(rename.victim);
    }
    if (r == 0) {
        r = fat_place_locate(rename.old_dir, &what->moved_entry, rename.moved, &rename.old_span);
    }
    if (r == 0 && itself && changes_bits_only(&rename)) {
        return txn_run(fs->cache, call->reply, bits_body, &rename);
    }
    if (r == 0 && rename.victim != NULL) {
        r = fat_place_locate(rename.new_dir, &what->victim_entry, rename.victim,
                             &rename.victim_span);
    }
    if (r == 0 && !rename.in_place) {
        uint32_t skip = itself                  ? rename.old_span.slot
                        : rename.victim != NULL ? rename.victim_span.slot
                                                : UINT32_MAX;
        r = fat_place_find(rename.new_dir, &rename.name, skip, &rename.place);
    }
    if (r == 0) {
        r = txn_run(fs->cache, call->reply, rename_body, &rename);
    }
    fat_place_done(&rename.place);
    return r;
}
