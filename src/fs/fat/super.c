/* SPDX-License-Identifier: MIT */
/*
 * The volume: probing, mounting, the "in use" mark, FSInfo, and leaving it
 * clean. A volume that is mounted for writing is marked dirty on stable storage
 * before anything else is written (boot sector as Linux does, cell 1 as the
 * specification does), and clean as the last thing. One that was found dirty
 * keeps its mark: only a checker may take it away. A read-only mount writes
 * nothing at all.
 *
 * A mount that takes over from a daemon that died goes on with what that one found:
 * our own mark does not make the volume one that was found dirty. Everything is read through
 * the cache then, which knows better than the device, and FSInfo's count is
 * not believed, for it may be from any time before.
 *
 * No operation runs beside mount, unmount and remount.
 */
#include "types.h"
#include <stdio.h>

static int read_boot(BlockDevice *device, FatDiskBoot *ret, Corruption *corruption) {
    if (device->size < sizeof(*ret)) {
        return corruption_set(corruption, "boot sector", 0, "device size", device->size,
                              "too small for a boot sector");
    }
    return block_read(device, 0, ret, sizeof(*ret));
}

static void describe(const FatGeometry *geo, char *uuid, size_t uuid_size, char *subtype,
                     size_t subtype_size) {
    if (geo->has_volume_id) {
        (void)snprintf(uuid, uuid_size, "%04X-%04X", geo->volume_id >> 16, geo->volume_id & 0xffff);
    }
    (void)snprintf(subtype, subtype_size, "fat%d", (int)geo->kind);
}

int fat_probe(BlockDevice *device, FsProbe *ret) {
    FatDiskBoot boot;
    FatGeometry geo;
    FsProbe probe = {0};
    int r;

    if (device->size < sizeof(boot)) {
        return -ENOENT;
    }
    r = block_read(device, 0, &boot, sizeof(boot));
    if (r < 0) {
        return r;
    }
    if (!fat_boot_plausible(&boot)) {
        return -ENOENT;
    }
    r = fat_boot_decode(&boot, &geo, NULL);
    if (r < 0) {
        return r;
    }
    describe(&geo, probe.uuid, sizeof(probe.uuid), probe.subtype, sizeof(probe.subtype));
    if (geo.has_label) {
        fat_label_text(fat_codepage_default(), geo.label, probe.label, sizeof(probe.label));
    }
    *ret = probe;
    return 0;
}

/* ---- marks and FSInfo ---- */

typedef struct Mark {
    FatVolume *volume;
    bool dirty, sound;
    FatClass class;
} Mark;

static int mark_body(Txn *txn, void *arg) {
    const Mark *mark = arg;
    FatVolume *volume = mark->volume;
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    uint8_t state;
    int r;

    if (volume->geo.state_offset != 0) {
        r = cache_get(volume->base.cache, 0, &buffer);
        if (r < 0) {
            return r;
        }
        state = buffer->data[volume->geo.state_offset];
        state = (uint8_t)(mark->dirty ? state | FAT_STATE_DIRTY : state & ~FAT_STATE_DIRTY);
        r = txn_write(txn, buffer, volume->geo.state_offset, &state, 1, mark->class);
        if (r < 0) {
            return r;
        }
    }
    return fat_table_set_marks(txn, volume, !mark->dirty, mark->sound, mark->class);
}

/* Sets or takes away the "in use" mark, on stable storage. */
static int volume_mark(FatVolume *volume, bool dirty) {
    bool failed = volume->base.device->stats.errors > 0;
    Mark mark = {.volume = volume,
                 .dirty = dirty || volume->found_dirty,
                 .sound = !volume->unsound && !failed,
                 .class = FAT_CLASS_FREE};
    int r;

    if (volume->found_dirty ? mark.sound || volume->unsound : volume->marked == dirty) {
        return 0;
    }
    r = cache_sync(volume->base.cache); /* what came before must not follow a "clean" */
    if (r == 0) {
        r = txn_run(volume->base.cache, NULL, mark_body, &mark);
    }
    if (r == 0) {
        r = cache_sync(volume->base.cache);
    }
    if (r == 0) {
        volume->marked = dirty;
        volume->unsound = !mark.sound;
    }
    return r;
}

/*
 * The same for a mount that took over and finds no mark (a predecessor died before it had made one,
 * or after it had taken it away): nothing may be written to the device yet, so it goes into the log
 * as the first thing of the next batch and of the first class.
 */
static int volume_mark_later(FatVolume *volume) {
    Mark mark = {
        .volume = volume, .dirty = true, .sound = !volume->unsound, .class = FAT_CLASS_NEW};
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

/* What the first of a row of daemons found (cache_note()). */
#define NOTE_KNOWN UINT64_C(1)
#define NOTE_FOUND_DIRTY UINT64_C(2)

static int load_marks(FatVolume *volume) {
    Cache *cache = volume->base.cache;
    uint64_t note = volume->base.recovered ? cache_note(cache) : 0;
    bool clean, sound;
    int r = fat_table_get_marks(volume, &clean, &sound);

    if (r < 0) {
        return r;
    }
    clean = clean && !volume->geo.dirty;
    volume->unsound = !sound;
    if (note & NOTE_KNOWN) {
        volume->found_dirty = note & NOTE_FOUND_DIRTY;
        volume->marked = !clean && !volume->found_dirty;
        return 0;
    }
    volume->found_dirty = !clean;
    cache_set_note(cache, NOTE_KNOWN | (volume->found_dirty ? NOTE_FOUND_DIRTY : 0));
    if (volume->found_dirty) {
        log_warning("fat: %s was not cleanly unmounted; a check is advised",
                    volume->base.uuid[0] != '\0' ? volume->base.uuid : "the volume");
    }
    if (!sound) {
        log_warning("fat: the volume is marked as having met I/O errors");
    }
    return 0;
}

static int load_fsinfo(FatVolume *volume) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    FatDiskFsinfo disk;
    FatFsinfo info;
    Corruption corruption;
    int r;

    if (volume->geo.fsinfo_sector == 0) {
        return 0;
    }
    r = cache_get(volume->base.cache, volume->geo.fsinfo_sector, &buffer);
    if (r < 0) {
        return r;
    }
    memcpy(&disk, buffer->data, sizeof(disk));
    if (fat_fsinfo_decode(&volume->geo, &disk, &info, &corruption) < 0) {
        (void)report_corruption(volume->base.reporter, &corruption, false);
        return 0; /* it only holds hints */
    }
    volume->has_fsinfo = true;
    volume->fsinfo_free = le32_get(disk.free_count);
    volume->fsinfo_next = le32_get(disk.next_free);
    if (info.next_free != FAT_FSINFO_UNKNOWN) {
        volume->alloc.hint = info.next_free;
    }
    volume->alloc.touched = volume->base.recovered;
    if (info.free_count != FAT_FSINFO_UNKNOWN && !volume->found_dirty && !volume->base.recovered) {
        volume->alloc.free_count = info.free_count;
        volume->alloc.free_known = true;
    }
    return 0;
}

/* The copy beside the backup boot sector: kept up where it looks like one. */
static int write_backup(Txn *txn, FatVolume *volume, const le32 values[2]) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    FatDiskFsinfo disk;
    FatFsinfo info;
    int r;

    if (volume->geo.fsinfo_backup == 0) {
        return 0;
    }
    r = cache_get(volume->base.cache, volume->geo.fsinfo_backup, &buffer);
    if (r < 0) {
        return r;
    }
    memcpy(&disk, buffer->data, sizeof(disk));
    if (fat_fsinfo_decode(&volume->geo, &disk, &info, NULL) < 0) {
        return 0;
    }
    return txn_write(txn, buffer, offsetof(FatDiskFsinfo, free_count), values, 2 * sizeof(*values),
                     FAT_CLASS_FREE);
}

typedef struct FsinfoUpdate {
    FatVolume *volume;
    uint32_t free_count, next_free;
} FsinfoUpdate;

static int fsinfo_body(Txn *txn, void *arg) {
    const FsinfoUpdate *update = arg;
    FatVolume *volume = update->volume;
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    const le32 values[2] = {le32_make(update->free_count), le32_make(update->next_free)};
    int r = cache_get(volume->base.cache, volume->geo.fsinfo_sector, &buffer);

    if (r == 0) {
        r = txn_write(txn, buffer, offsetof(FatDiskFsinfo, free_count), values, sizeof(values),
                      FAT_CLASS_FREE);
    }
    if (r == 0) {
        r = write_backup(txn, volume, values);
    }
    if (r == 0) {
        r = txn_save(txn, &volume->fsinfo_free, sizeof(volume->fsinfo_free));
    }
    if (r == 0) {
        r = txn_save(txn, &volume->fsinfo_next, sizeof(volume->fsinfo_next));
    }
    if (r == 0) {
        volume->fsinfo_free = update->free_count;
        volume->fsinfo_next = update->next_free;
    }
    return r;
}

int fat_sync(FileSystem *fs) {
    FatVolume *volume = fat_volume(fs);
    FsinfoUpdate update = {.volume = volume};
    int r;

    if (!volume->has_fsinfo || !volume->alloc.touched) {
        return 0;
    }
    r = fat_alloc_count(volume, &update.free_count);
    if (r < 0) {
        return r;
    }
    update.free_count = volume->alloc.free_count; /* reservations are not on disk */
    update.next_free = volume->alloc.hint;
    if (update.free_count == volume->fsinfo_free && update.next_free == volume->fsinfo_next) {
        return 0;
    }
    return txn_run(fs->cache, NULL, fsinfo_body, &update);
}

/* ---- mounting ---- */

void fat_refuse_writes(FatVolume *volume, const char *reason) {
    FileSystem *fs = &volume->base;

    fs_set_readonly(fs, reason);
    (void)snprintf(fs->read_only_reason, sizeof(fs->read_only_reason), "%s", reason);
}

static int load_geometry(FatVolume *volume) {
    FileSystem *fs = &volume->base;
    FatDiskBoot boot;
    Corruption corruption;
    int r = read_boot(fs->device, &boot, &corruption);

    if (r == 0) {
        r = fat_boot_decode(&boot, &volume->geo, &corruption);
    }
    if (r == 0) {
        r = fat_geometry_check_device(&volume->geo, fs->device->size, &corruption);
    }
    if (r == -EUCLEAN) {
        return report_corruption(fs->reporter, &corruption, false);
    }
    if (r < 0) {
        return r;
    }
    volume->geo.time_offset_ns = volume->time_offset_minutes * INT64_C(60000000000);
    if (r > 0) {
        fat_refuse_writes(volume, "the device is shorter than the volume");
    } else if (fs->device->readonly) {
        fat_refuse_writes(volume, "the device is read-only");
    }
    if (volume->geo.fat_too_small) {
        log_warning("fat: the FATs have cells for %u clusters only; the rest is not used",
                    volume->geo.cluster_count);
    }
    return 0;
}

/* What of the boot sector changes while mounted, as a predecessor left it. */
static int reload_boot(FatVolume *volume) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    FatDiskBoot boot;
    FatGeometry now;
    Corruption corruption;
    int r = cache_get(volume->base.cache, 0, &buffer);

    if (r < 0) {
        return r;
    }
    memcpy(&boot, buffer->data, sizeof(boot));
    if (fat_boot_decode(&boot, &now, &corruption) < 0) {
        return report_corruption(volume->base.reporter, &corruption, false);
    }
    volume->geo.dirty = now.dirty;
    volume->geo.has_label = now.has_label;
    memcpy(volume->geo.label, now.label, sizeof(now.label));
    return 0;
}

static void load_label(FatVolume *volume) {
    FileSystem *fs = &volume->base;
    uint8_t label[FAT_SHORT_LENGTH];
    FatChain root;

    fat_chain_init(&root, volume->geo.root_cluster);
    root.fixed_root = volume->geo.kind != FAT_KIND_32;
    (void)fat_chain_load(volume, &root,
                         fat_clusters_for(volume, (uint64_t)FAT_DIR_SLOTS_MAX * FAT_ENTRY_SIZE),
                         false);
    if (fat_dir_find_label(volume, &root, label, NULL) == 0) {
        fat_label_text(volume->codepage, label, fs->label, sizeof(fs->label));
    } else if (volume->geo.has_label) {
        fat_label_text(volume->codepage, volume->geo.label, fs->label, sizeof(fs->label));
    }
    fat_chain_done(&root);
}

int fat_mount(FileSystem *fs) {
    FatVolume *volume = fat_volume(fs);
    int r = fat_options_parse(volume);

    if (r == 0) {
        r = load_geometry(volume);
    }
    if (r == 0) {
        r = fs_cache_new(fs, volume->geo.sector_size, fat_alloc_released);
    }
    if (r == 0 && fs->recovered) {
        r = reload_boot(volume);
    }
    if (r < 0) {
        return r;
    }
    describe(&volume->geo, fs->uuid, sizeof(fs->uuid), fs->subtype, sizeof(fs->subtype));
    fs->block_size = volume->geo.cluster_size;
    fs->case_insensitive = !fs->options.case_exact;
    r = fat_alloc_init(volume);
    if (r == 0) {
        r = fat_identities_load(volume);
    }
    if (r == 0) {
        fat_table_choose_copy(volume);
        r = load_marks(volume);
    }
    if (r == 0) {
        r = load_fsinfo(volume);
    }
    if (r == 0 && !fs->readonly) {
        r = fs->recovered ? volume_mark_later(volume) : volume_mark(volume, true);
    }
    if (r < 0) {
        fat_identities_done(volume);
        fat_alloc_done(volume);
        return r;
    }
    load_label(volume);
    return 0;
}

/* Everything that is owed to the image before it may be called clean. */
static int volume_settle(FatVolume *volume) {
    int r = fat_orphans_finish(volume);

    if (r == 0) {
        r = fat_sync(&volume->base);
    }
    return r == 0 ? volume_mark(volume, false) : r;
}

int fat_unmount(FileSystem *fs) {
    FatVolume *volume = fat_volume(fs);
    int r = fs->readonly ? 0 : volume_settle(volume);

    fat_identities_done(volume);
    fat_alloc_done(volume);
    return r;
}

int fat_remount(FileSystem *fs, bool readonly) {
    FatVolume *volume = fat_volume(fs);
    int r;

    if (readonly == fs->readonly) {
        return 0;
    }
    if (!readonly) {
        if (fs->device->readonly || fs->read_only_reason[0] != '\0') {
            return -EROFS;
        }
        r = volume_mark(volume, true);
    } else if (fat_orphans_exist(volume)) {
        return -EBUSY; /* unlinked files in use: their space could not be given back any more */
    } else {
        r = volume_settle(volume);
    }
    if (r == 0) {
        fs->readonly = readonly;
    }
    return r;
}

int fat_statfs(FileSystem *fs, FsStatfs *ret) {
    FatVolume *volume = fat_volume(fs);
    uint32_t free_count;
    int r = fat_alloc_count(volume, &free_count);

    if (r < 0) {
        return r;
    }
    *ret = (FsStatfs){
        .blocks = volume->geo.cluster_count,
        .blocks_free = free_count,
        .blocks_available = free_count,
        .block_size = volume->geo.cluster_size,
        .fragment_size = volume->geo.cluster_size,
        .name_max = FS_NAME_MAX,
    };
    return 0;
}
