/* SPDX-License-Identifier: MIT */
/*
 * Creating and unlinking. Everything that must be searched or reserved comes
 * first, then one transaction changes the directory, the parent's times and the
 * identities. An unlinked object becomes an orphan; its clusters are freed when
 * the last user lets go of it.
 *
 * Locks: directory and victim exclusive.
 */
#include "types.h"

typedef struct Create {
    FatInode *dir;
    const FsCall *call;
    FatNewName name;
    FatPlace place;
    FatEntry entry;
    FatRunList cluster; /* a directory's first one */
    FsEntry *ret;
    FsAttr *attr; /* what loading the new object will find; may be NULL */
} Create;

/* "." and "..", in a zeroed cluster. */
static int fill_directory(Txn *txn, const Create *create) {
    FatVolume *volume = fat_inode_volume(create->dir);
    uint32_t cluster = create->entry.first_cluster;
    uint64_t position = fat_cluster_offset(&volume->geo, cluster);
    FatEntry dots = create->entry;
    FatDiskEntry disk;
    int r = fat_table_link(txn, volume, cluster, 1, FAT_CELL_END, FAT_CLASS_NEW);

    if (r == 0) {
        r = fat_blocks_zero(txn, volume, cluster, 1);
    }
    if (r == 0) {
        r = fat_alloc_use(txn, volume, cluster, 1);
    }
    memset(dots.name, ' ', sizeof(dots.name));
    dots.name[0] = '.';
    if (r == 0) {
        fat_entry_encode(&volume->geo, &dots, &disk);
        r = fat_entry_write(txn, volume, position, &disk, FAT_CLASS_NEW);
    }
    if (r == 0) {
        dots.name[1] = '.';
        dots.first_cluster = fat_dir_number(create->dir);
        fat_entry_encode(&volume->geo, &dots, &disk);
        r = fat_entry_write(txn, volume, position + FAT_ENTRY_SIZE, &disk, FAT_CLASS_NEW);
    }
    return r;
}

/* The id of what is put at position: its natural one, if nobody holds that. */
static int identify(Txn *txn, FatVolume *volume, uint64_t position, uint64_t *ret_id) {
    if (fat_identity_at(volume, position, ret_id)) {
        return 0;
    }
    *ret_id = fat_identity_fresh(volume);
    return fat_identity_move(txn, volume, *ret_id, position);
}

static void fill_attributes(const Create *create, const FatDiskEntry *disk) {
    FatVolume *volume = fat_inode_volume(create->dir);
    FatEntry entry;

    fat_entry_decode(&volume->geo, disk, &entry);
    fat_attr_fill(volume, &entry, create->ret->file_id, create->attr);
    if (create->attr->type == FS_TYPE_DIRECTORY) {
        create->attr->size = volume->geo.cluster_size;
        create->attr->blocks = (create->attr->size + 511) / 512;
    }
}

static void create_done(void *arg) {
    Create *create = arg;

    fat_runs_truncate(&create->cluster, 0); /* the directory's now */
}

static int create_body(Txn *txn, void *arg) {
    Create *create = arg;
    FatVolume *volume = fat_inode_volume(create->dir);
    FatDiskEntry disk;
    int r = 0;

    if (create->cluster.length > 0) {
        r = fill_directory(txn, create);
        if (r == 0) {
            r = txn_on_commit(txn, create_done, create);
        }
    }
    if (r == 0) {
        fat_entry_encode(&volume->geo, &create->entry, &disk);
        r = fat_place_write(txn, &create->place, &disk);
    }
    if (r == 0) {
        r = identify(txn, volume, create->place.position, &create->ret->file_id);
    }
    if (r == 0) {
        r = fat_inode_touch(txn, create->dir, create->call->time_ns);
    }
    create->ret->position = create->place.slot + create->place.slots - 1;
    create->ret->exact = true;
    if (r == 0 && create->attr != NULL) {
        fill_attributes(create, &disk);
    }
    return r;
}

int fat_create(FsInode *base, const FsCall *call, const FsName *name, const FsCreate *what,
               FsEntry *ret) {
    FatInode *dir = fat_inode(base);
    FatVolume *volume = fat_inode_volume(dir);
    bool directory = what->type == FS_TYPE_DIRECTORY;
    Create create = {.dir = dir, .call = call, .ret = ret, .attr = what->attr};
    int r;

    if (!directory && what->type != FS_TYPE_FILE) {
        return -EPERM;
    }
    r = fat_name_prepare(volume->codepage, name, &create.name);
    if (r < 0) {
        return r;
    }
    create.entry = (FatEntry){
        .attributes = directory ? FAT_ATTR_DIRECTORY : FAT_ATTR_ARCHIVE,
        .mtime_ns = call->time_ns,
        .atime_ns = call->time_ns,
        .btime_ns = call->time_ns,
    };
    if (!directory && !(what->mode & 0222)) {
        create.entry.attributes |= FAT_ATTR_READ_ONLY;
    }
    r = fat_place_find(dir, &create.name, UINT32_MAX, &create.place);
    if (r == 0 && directory) {
        r = fat_alloc_reserve(volume, 0, 1, &create.cluster);
        create.entry.first_cluster = fat_runs_last(&create.cluster);
    }
    if (r == 0) {
        r = txn_run(volume->base.cache, call->reply, create_body, &create);
    }
    fat_alloc_release(volume, &create.cluster, 0);
    fat_runs_done(&create.cluster);
    fat_place_done(&create.place);
    return r;
}

/* ---- unlink, rmdir ---- */

int fat_inode_unlinked(Txn *txn, FatInode *victim) {
    FatVolume *volume = fat_inode_volume(victim);
    FsAttr *attr = &victim->base.attr;
    FatDiskEntry disk;
    int r;

    fat_inode_entry_make(victim, &disk); /* on disk it may be another's already */
    r = fat_identity_orphan(txn, volume, attr->file_id, &disk);
    if (r == 0) {
        r = txn_save(txn, attr, sizeof(*attr));
    }
    if (r == 0) {
        r = txn_save(txn, &victim->entry, sizeof(victim->entry));
    }
    if (r == 0) {
        attr->nlink = 0;
        victim->entry = 0;
    }
    return r;
}

typedef struct Unlink {
    FatInode *dir, *victim;
    const FsCall *call;
    FatSpan span;
} Unlink;

static int unlink_body(Txn *txn, void *arg) {
    const Unlink *unlink = arg;
    int r = unlink->victim->directory ? fat_place_check_departures(txn, unlink->victim) : 0;

    if (r == 0) {
        r = fat_place_erase(txn, unlink->dir, &unlink->span, FAT_CLASS_ENTRY);
    }
    if (r == 0) {
        r = fat_inode_unlinked(txn, unlink->victim);
    }
    return r == 0 ? fat_inode_touch(txn, unlink->dir, unlink->call->time_ns) : r;
}

int fat_unlink(FsInode *base, const FsCall *call, const FsName *name, const FsEntry *entry,
               FsInode *victim) {
    FatInode *dir = fat_inode(base);
    Unlink unlink = {.dir = dir, .victim = fat_inode(victim), .call = call};
    int r;

    (void)name; /* the entry says where it is */
    r = unlink.victim->directory ? fat_dir_check_empty(unlink.victim) : 0;
    if (r == 0) {
        r = fat_place_locate(dir, entry, unlink.victim, &unlink.span);
    }
    return r < 0 ? r : txn_run(base->fs->cache, call->reply, unlink_body, &unlink);
}
