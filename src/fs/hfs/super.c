/* SPDX-License-Identifier: MIT */
/*
 * The volume: probing, mounting, the "in use" mark, the MDB, and leaving it clean. A volume that
 * is mounted for writing is marked as in use on stable storage before anything else is
 * written, and clean as the last thing. One that was found so keeps its mark: only a
 * checker may take it away. A read-only mount writes nothing at all.
 *
 * The MDB is part of every transaction that changes its counts, so it is never behind. The
 * alternate one follows when a tree's file has grown, and when the volume is left clean.
 *
 * No operation runs beside mount, unmount and remount.
 */
#include "types.h"
#include <stdio.h>

static int read_mdb(BlockDevice *device, uint64_t sector, HfsDiskMdb *ret) {
    uint8_t bytes[HFS_SECTOR];
    int r;

    if (!range_inside(sector * HFS_SECTOR, sizeof(bytes), device->size)) {
        return -ERANGE;
    }
    r = block_read(device, sector * HFS_SECTOR, bytes, sizeof(bytes));
    if (r == 0) {
        memcpy(ret, bytes, sizeof(*ret));
    }
    return r;
}

static void label_text(const HfsEncoding *encoding, const HfsMdb *mdb, char *out, size_t size) {
    int length = hfs_name_to_utf8(encoding, mdb->name, mdb->name_length, out, size - 1);

    out[MAX(length, 0)] = '\0';
}

int hfs_probe(BlockDevice *device, FsProbe *ret) {
    FsProbe probe = {.subtype = "hfs"};
    HfsDiskMdb disk;
    HfsMdb mdb;
    int r = read_mdb(device, HFS_MDB_SECTOR, &disk);

    if (r < 0) {
        return r == -ERANGE ? -ENOENT : r;
    }
    if (be16_get(disk.signature) != HFS_SIGNATURE || hfs_signature_foreign(&disk) != NULL) {
        return -ENOENT;
    }
    r = hfs_mdb_decode(&disk, &mdb, NULL);
    if (r < 0) {
        return r;
    }
    label_text(hfs_encoding_default(), &mdb, probe.label, sizeof(probe.label));
    (void)snprintf(probe.serial, sizeof(probe.serial), "%08X", mdb.created);
    *ret = probe;
    return 0;
}

/* ---- the MDB ---- */

int hfs_mdb_save(Txn *txn, HfsVolume *volume) {
    return txn_save(txn, &volume->mdb, sizeof(volume->mdb));
}

/* Only the bytes that differ: most fields stay. */
static int store_fields(Txn *txn, Buffer *buffer, const uint8_t *bytes, uint32_t from, uint32_t end,
                        unsigned class) {
    int r = 0;

    for (uint32_t to; r == 0 && from < end; from = to) {
        if (bytes[from] == buffer->data[from]) {
            to = from + 1;
            continue;
        }
        /* Neighbouring fields go together. */
        to = MIN(from + 16, end);
        while (bytes[to - 1] == buffer->data[to - 1]) {
            to--;
        }
        r = txn_write(txn, buffer, from, bytes + from, to - from, class);
    }
    return r;
}

/* From there on it says where the trees lie, which changes when they grow only. */
#define MDB_TREES offsetof(HfsDiskMdb, extents_size)

static int store_at(Txn *txn, HfsVolume *volume, uint64_t sector, unsigned trees_class) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    HfsDiskMdb disk;
    const uint8_t *bytes = (const uint8_t *)&disk;
    int r = cache_get(volume->base.cache, sector, &buffer);

    if (r < 0) {
        return r;
    }
    memcpy(&disk, buffer->data, sizeof(disk));
    hfs_mdb_encode(&volume->mdb, &disk);
    r = store_fields(txn, buffer, bytes, 0, MDB_TREES, HFS_CLASS);
    return r < 0 ? r : store_fields(txn, buffer, bytes, MDB_TREES, sizeof(disk), trees_class);
}

static int store_both(Txn *txn, HfsVolume *volume, bool alternate, unsigned trees_class) {
    int r = store_at(txn, volume, HFS_MDB_SECTOR, trees_class);

    return r == 0 && alternate && volume->alternate_sector != 0
               ? store_at(txn, volume, volume->alternate_sector, trees_class)
               : r;
}

int hfs_mdb_store(Txn *txn, HfsVolume *volume, bool alternate) {
    return store_both(txn, volume, alternate, HFS_CLASS);
}

unsigned hfs_mdb_trees_class(const Txn *txn) {
    return txn_class_written(txn, HFS_MDB_SECTOR, MDB_TREES, sizeof(HfsDiskMdb) - MDB_TREES);
}

int hfs_mdb_grown(Txn *txn, HfsVolume *volume, unsigned class) {
    return store_both(txn, volume, true, class);
}

int hfs_mdb_touch(Txn *txn, HfsVolume *volume, int64_t time_ns) {
    int r = hfs_mdb_save(txn, volume);

    if (r < 0) {
        return r;
    }
    volume->mdb.modified = be32_get(hfs_time_encode(time_ns, volume->time_offset_ns));
    volume->mdb.write_count++;
    return hfs_mdb_store(txn, volume, false);
}

/* ---- marks ---- */

typedef struct Mark {
    HfsVolume *volume;
    bool in_use;
} Mark;

static int mark_body(Txn *txn, void *arg) {
    const Mark *mark = arg;
    HfsVolume *volume = mark->volume;
    int r = hfs_mdb_save(txn, volume);

    if (r < 0) {
        return r;
    }
    if (mark->in_use) {
        volume->mdb.attributes &= (uint16_t)~HFS_ATTR_UNMOUNTED;
    } else {
        volume->mdb.attributes |= HFS_ATTR_UNMOUNTED;
    }
    return hfs_mdb_store(txn, volume, !mark->in_use);
}

/* Sets or takes away the "in use" mark, on stable storage. */
static int volume_mark(HfsVolume *volume, bool in_use) {
    Mark mark = {.volume = volume, .in_use = in_use};
    int r;

    if (volume->found_dirty || volume->marked == in_use) {
        return 0; /* its mark stays as it is */
    }
    r = cache_sync(volume->base.cache); /* what came before must not follow a "clean" */
    if (r == 0) {
        r = txn_run(volume->base.cache, NULL, mark_body, &mark);
    }
    if (r == 0) {
        r = cache_sync(volume->base.cache);
    }
    if (r == 0) {
        volume->marked = in_use;
    }
    return r;
}

/*
 * The same for a mount that took over and finds no mark (a predecessor died before it had made one,
 * or after it had taken it away): nothing may be written to the device yet, so it goes into the
 * log, to get there with what is written next.
 */
static int volume_mark_later(HfsVolume *volume) {
    Mark mark = {.volume = volume, .in_use = true};
    int r;

    if (volume->found_dirty || volume->marked) {
        return 0;
    }
    r = txn_run(volume->base.cache, NULL, mark_body, &mark);
    if (r == 0) {
        volume->marked = true;
    }
    return r;
}

/* Was the volume cleanly unmounted before us? A successor asks the first of its predecessors. */
static void load_mark(HfsVolume *volume) {
    FileSystem *fs = &volume->base;
    uint64_t note = fs->recovered ? cache_note(fs->cache) : 0;
    bool clean = volume->mdb.attributes & HFS_ATTR_UNMOUNTED &&
                 !(volume->mdb.attributes & HFS_ATTR_INCONSISTENT);

    if (note & HFS_NOTE_KNOWN) {
        volume->found_dirty = note & HFS_NOTE_FOUND_DIRTY;
        volume->forks_shown = note & HFS_NOTE_FORKS_SHOWN;
        volume->marked = !clean && !volume->found_dirty;
        return;
    }
    volume->found_dirty = !clean;
    cache_set_note(fs->cache, HFS_NOTE_KNOWN | (volume->found_dirty ? HFS_NOTE_FOUND_DIRTY : 0));
    if (volume->found_dirty) {
        log_warning("hfs: \"%s\" was not cleanly unmounted; a check is advised", fs->label);
    }
}

/* ---- mounting ---- */

static void refuse_writes(HfsVolume *volume, const char *reason) {
    FileSystem *fs = &volume->base;

    fs_set_readonly(fs, reason);
    (void)snprintf(fs->read_only_reason, sizeof(fs->read_only_reason), "%s", reason);
}

/* Where the alternate MDB is: before the last sector of the device, or behind the blocks. */
static uint64_t find_alternate(BlockDevice *device, const HfsMdb *mdb, HfsMdb *ret) {
    const uint64_t candidates[] = {
        device->size / HFS_SECTOR - HFS_ALT_MDB_FROM_END,
        mdb != NULL ? hfs_mdb_blocks_end(mdb) / HFS_SECTOR : 0,
    };

    for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
        HfsDiskMdb disk;

        if (candidates[i] > HFS_MDB_SECTOR && read_mdb(device, candidates[i], &disk) == 0 &&
            hfs_mdb_decode(&disk, ret, NULL) == 0 &&
            candidates[i] * HFS_SECTOR >= hfs_mdb_blocks_end(ret)) {
            return candidates[i];
        }
    }
    return 0;
}

static int foreign(HfsVolume *volume, const char *what) {
    FileSystem *fs = &volume->base;

    (void)snprintf(fs->read_only_reason, sizeof(fs->read_only_reason),
                   "it is %s; this is for classic HFS", what);
    return -EMEDIUMTYPE;
}

/* The MDB from the device, or, where that is broken, the alternate one, to read only. */
static int load_geometry(HfsVolume *volume) {
    FileSystem *fs = &volume->base;
    HfsDiskMdb disk;
    HfsMdb alternate;
    Corruption corruption;
    int r = read_mdb(fs->device, HFS_MDB_SECTOR, &disk);

    if (r == -ERANGE) {
        return report_corrupt(fs->reporter, false, "MDB", 0, "device size", fs->device->size,
                              "too small for an HFS volume");
    }
    if (r < 0) {
        return r;
    }
    if (hfs_signature_foreign(&disk) != NULL) {
        return foreign(volume, hfs_signature_foreign(&disk));
    }
    r = hfs_mdb_decode(&disk, &volume->mdb, &corruption);
    volume->alternate_sector = find_alternate(fs->device, r == 0 ? &volume->mdb : NULL, &alternate);
    if (r < 0) {
        r = report_corruption(fs->reporter, &corruption, false);
        if (volume->alternate_sector == 0) {
            return r;
        }
        volume->mdb = alternate;
        refuse_writes(volume, "the MDB is broken: its alternate is used");
    }
    if (hfs_mdb_check_device(&volume->mdb, fs->device->size)) {
        refuse_writes(volume, "the device is shorter than the volume");
    } else if (fs->device->readonly) {
        refuse_writes(volume, "the device is read-only");
    } else if (volume->mdb.attributes & (HFS_ATTR_SOFTWARE_LOCK | HFS_ATTR_HARDWARE_LOCK)) {
        refuse_writes(volume, "the volume is locked");
    }
    return 0;
}

/* The MDB as a predecessor's log has it: what the device has may be older. */
static int reload_mdb(HfsVolume *volume) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    HfsDiskMdb disk;
    HfsMdb mdb;
    Corruption corruption;
    int r = cache_get(volume->base.cache, HFS_MDB_SECTOR, &buffer);

    if (r < 0) {
        return r;
    }
    memcpy(&disk, buffer->data, sizeof(disk));
    if (hfs_mdb_decode(&disk, &mdb, &corruption) < 0) {
        return report_corruption(volume->base.reporter, &corruption, false);
    }
    if (mdb.block_size != volume->mdb.block_size || mdb.block_count != volume->mdb.block_count ||
        mdb.first_block != volume->mdb.first_block) {
        return report_corrupt(volume->base.reporter, false, "MDB", HFS_MDB_SECTOR * HFS_SECTOR,
                              "drNmAlBlks", mdb.block_count, "the log has another volume's");
    }
    volume->mdb = mdb;
    return 0;
}

static int check_root(HfsVolume *volume) {
    HfsRecord record;
    HfsKey key;
    int r = hfs_catalog_locate(volume, HFS_CNID_ROOT, &key, &record);

    if (r == -ESTALE || (r == 0 && record.type != HFS_RECORD_DIR)) {
        r = report_corrupt(volume->base.reporter, false, "catalog", HFS_CNID_ROOT, "root", 0,
                           "there is no root directory");
    }
    return r;
}

/* Where a crash left the volume with numbers given out that the MDB does not know of. */
static int check_next_cnid(HfsVolume *volume) {
    int r = hfs_catalog_look_through(volume);

    if (r == 0 && volume->mdb.next_cnid <= volume->places.highest &&
        volume->places.highest < UINT32_MAX) {
        log_warning("hfs: \"%s\": number %u is in use, although the next one is said to be %u",
                    volume->base.label, volume->places.highest, volume->mdb.next_cnid);
        volume->mdb.next_cnid = volume->places.highest + 1;
    }
    if (r == -EUCLEAN) {
        refuse_writes(volume, "its catalog is damaged");
        r = 0;
    }
    return r;
}

static void volume_done(HfsVolume *volume) {
    hfs_trees_done(volume);
    hfs_alloc_done(volume);
    hfs_places_done(volume);
}

static int load_volume(HfsVolume *volume) {
    FileSystem *fs = &volume->base;
    int r = hfs_places_init(volume);

    if (r == 0 && fs->recovered) {
        r = reload_mdb(volume);
        if (r == 0 && !hfs_orphans_sound(volume)) {
            refuse_writes(volume, "what is known of unlinked files is damaged");
        }
    }
    if (r == 0) {
        r = hfs_alloc_load(volume);
    }
    if (r == 0) {
        r = hfs_trees_open(volume);
    }
    if (r == 0) {
        r = check_root(volume);
    }
    if (r == 0) {
        load_mark(volume);
    }
    if (r == 0 && volume->found_dirty && !fs->readonly && !fs->recovered) {
        r = check_next_cnid(volume);
    }
    if (r == 0 && !fs->readonly) {
        r = fs->recovered ? volume_mark_later(volume) : volume_mark(volume, true);
    }
    return r;
}

int hfs_mount(FileSystem *fs) {
    HfsVolume *volume = hfs_volume(fs);
    int r = hfs_options_parse(volume);

    if (r == 0) {
        r = load_geometry(volume);
    }
    if (r == 0) {
        r = fs_cache_new(fs, HFS_SECTOR, hfs_alloc_released);
    }
    if (r < 0) {
        return r;
    }
    label_text(volume->encoding, &volume->mdb, fs->label, sizeof(fs->label));
    (void)snprintf(fs->subtype, sizeof(fs->subtype), "hfs");
    fs->block_size = volume->mdb.block_size;
    fs->case_insensitive = !fs->options.case_exact;
    r = load_volume(volume);
    if (r < 0) {
        volume_done(volume);
    }
    return r;
}

/* Everything that is owed to the image before it may be called clean. */
static int volume_settle(HfsVolume *volume) {
    int r = hfs_orphans_finish(volume);

    return r == 0 ? volume_mark(volume, false) : r;
}

int hfs_unmount(FileSystem *fs) {
    HfsVolume *volume = hfs_volume(fs);
    int r = fs->readonly ? 0 : hfs_forks_finish(volume);

    if (r == 0 && !fs->readonly) {
        r = volume_settle(volume);
    }
    volume_done(volume);
    return r;
}

int hfs_remount(FileSystem *fs, bool readonly) {
    HfsVolume *volume = hfs_volume(fs);
    int r;

    if (readonly == fs->readonly) {
        return 0;
    }
    if (!readonly) {
        if (fs->device->readonly || fs->read_only_reason[0] != '\0') {
            return -EROFS;
        }
        r = volume_mark(volume, true);
    } else if (hfs_orphans_exist(volume)) {
        return -EBUSY; /* unlinked files in use: their space could not be given back any more */
    } else {
        r = volume_settle(volume);
    }
    if (r == 0) {
        fs->readonly = readonly;
    }
    return r;
}

int hfs_statfs(FileSystem *fs, FsStatfs *ret) {
    const HfsVolume *volume = hfs_volume(fs);
    uint32_t reserved = volume->alloc.reserved;
    uint32_t free_blocks = volume->mdb.free_blocks - MIN(reserved, volume->mdb.free_blocks);
    uint64_t files = (uint64_t)volume->mdb.file_count + volume->mdb.dir_count;

    *ret = (FsStatfs){
        .blocks = volume->mdb.block_count,
        .blocks_free = free_blocks,
        .blocks_available = free_blocks,
        .files = files + (UINT32_MAX - volume->mdb.next_cnid),
        .files_free = UINT32_MAX - volume->mdb.next_cnid,
        .block_size = volume->mdb.block_size,
        .fragment_size = volume->mdb.block_size,
        .name_max = HFS_NAME_UTF8_BYTES,
    };
    return 0;
}
