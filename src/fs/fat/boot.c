/* SPDX-License-Identifier: MIT */
/*
 * The boot sector's decoder: strict on what the layout follows from, lenient on
 * cosmetics (jump, OEM name, 0xaa55, type string), since floppies and cameras
 * leave them out. Pure; see codec.h.
 */
#include "codec.h"

#define BOOT "boot sector"

static bool media_valid(uint8_t media) {
    return media == 0xf0 || media >= 0xf8;
}

bool fat_boot_plausible(const FatDiskBoot *disk) {
    const FatDiskBpb *bpb = &disk->bpb;
    bool wide = le16_get(bpb->fat_size16) == 0;
    const FatDiskExtended *extended = wide ? &disk->fat32.extended : &disk->fat16.extended;

    if (memcmp(bpb->oem_name, "NTFS    ", 8) == 0 || memcmp(bpb->oem_name, "EXFAT   ", 8) == 0) {
        return false;
    }
    if (memcmp(disk->fat16.extended.type, "FAT", 3) == 0 ||
        memcmp(disk->fat32.extended.type, "FAT", 3) == 0) {
        return true;
    }
    return media_valid(bpb->media) && bpb->fat_count >= 1 && bpb->fat_count <= 4 &&
           (bpb->jump[0] == 0xeb || bpb->jump[0] == 0xe9) &&
           (extended->signature == FAT_EXTENDED_SIGNATURE ||
            is_power_of_2(le16_get(bpb->bytes_per_sector)));
}

static int decode_sizes(const FatDiskBpb *bpb, FatGeometry *geo, Corruption *corruption) {
    geo->sector_size = le16_get(bpb->bytes_per_sector);
    if (!is_power_of_2(geo->sector_size) || geo->sector_size < FAT_SECTOR_MIN ||
        geo->sector_size > FAT_SECTOR_MAX) {
        return corruption_set(corruption, BOOT, 0, "BPB_BytsPerSec", geo->sector_size,
                              "must be 512, 1024, 2048 or 4096");
    }
    geo->sector_shift = log2_u64(geo->sector_size);
    geo->cluster_sectors = bpb->sectors_per_cluster;
    if (!is_power_of_2(geo->cluster_sectors)) {
        return corruption_set(corruption, BOOT, 0, "BPB_SecPerClus", geo->cluster_sectors,
                              "must be a power of two");
    }
    geo->cluster_size = geo->cluster_sectors * geo->sector_size;
    geo->cluster_shift = log2_u64(geo->cluster_size);
    geo->reserved_sectors = le16_get(bpb->reserved_sectors);
    if (geo->reserved_sectors == 0) {
        return corruption_set(corruption, BOOT, 0, "BPB_RsvdSecCnt", 0, "must not be 0");
    }
    geo->fat_count = bpb->fat_count;
    if (geo->fat_count == 0) {
        return corruption_set(corruption, BOOT, 0, "BPB_NumFATs", 0, "must not be 0");
    }
    if (!media_valid(bpb->media)) {
        return corruption_set(corruption, BOOT, 0, "BPB_Media", bpb->media,
                              "must be 0xf0 or 0xf8 to 0xff");
    }
    geo->media = bpb->media;
    geo->root_entries = le16_get(bpb->root_entries);
    geo->total_sectors = le16_get(bpb->total_sectors16);
    if (geo->total_sectors == 0) {
        geo->total_sectors = le32_get(bpb->total_sectors32);
    }
    if (geo->total_sectors == 0) {
        return corruption_set(corruption, BOOT, 0, "BPB_TotSec32", 0, "no size is given");
    }
    return 0;
}

/* The fields that only FAT32 has. */
static int decode_wide(const FatDiskBoot32 *disk, FatGeometry *geo, Corruption *corruption) {
    unsigned flags = le16_get(disk->flags);
    uint32_t backup = le16_get(disk->backup_sector);

    geo->fat_sectors = le32_get(disk->fat_size32);
    if (geo->fat_sectors == 0) {
        return corruption_set(corruption, BOOT, 0, "BPB_FATSz32", 0, "the FAT has no sectors");
    }
    if (le16_get(disk->version) != 0) {
        return corruption_set(corruption, BOOT, 0, "BPB_FSVer", le16_get(disk->version),
                              "unknown version");
    }
    if (geo->root_entries != 0) {
        return corruption_set(corruption, BOOT, 0, "BPB_RootEntCnt", geo->root_entries,
                              "must be 0 on FAT32");
    }
    if (flags & FAT_FLAGS_NO_MIRROR) {
        geo->mirrored = false;
        geo->active_fat = flags & FAT_FLAGS_ACTIVE;
        if (geo->active_fat >= geo->fat_count) {
            return corruption_set(corruption, BOOT, 0, "BPB_ExtFlags", flags, "active FAT %u of %u",
                                  geo->active_fat, geo->fat_count);
        }
    }
    geo->root_cluster = le32_get(disk->root_cluster);
    geo->fsinfo_sector = le16_get(disk->fsinfo_sector);
    if (geo->fsinfo_sector >= geo->reserved_sectors) {
        geo->fsinfo_sector = 0; /* 0xffff is a documented "none" */
    }
    if (backup < geo->reserved_sectors) {
        geo->boot_backup = backup;
    }
    if (geo->fsinfo_sector != 0 && backup > geo->fsinfo_sector &&
        backup + geo->fsinfo_sector < geo->reserved_sectors) {
        geo->fsinfo_backup = backup + geo->fsinfo_sector;
    }
    return 0;
}

/* "FAT Type Determination", and the bounds of the data area. */
static int decode_layout(FatGeometry *geo, bool wide, Corruption *corruption) {
    uint64_t root_sectors =
        div_ceil((uint64_t)geo->root_entries * FAT_ENTRY_SIZE, geo->sector_size);
    uint64_t root_start = geo->reserved_sectors + (uint64_t)geo->fat_count * geo->fat_sectors;
    uint64_t data_start = root_start + root_sectors;
    uint64_t clusters, cells;

    if (data_start >= geo->total_sectors) {
        return corruption_set(corruption, BOOT, 0, wide ? "BPB_FATSz32" : "BPB_FATSz16",
                              geo->fat_sectors, "data would start at sector %llu of %u",
                              (unsigned long long)data_start, geo->total_sectors);
    }
    clusters = (geo->total_sectors - data_start) / geo->cluster_sectors;
    if (clusters == 0) {
        return corruption_set(corruption, BOOT, 0, "BPB_TotSec32", geo->total_sectors,
                              "no room for a cluster");
    }
    if (clusters >= FAT32_CLUSTERS_END || (!wide && clusters >= FAT16_CLUSTERS_END)) {
        return corruption_set(corruption, BOOT, 0, "BPB_TotSec32", geo->total_sectors,
                              "%llu clusters are too many", (unsigned long long)clusters);
    }
    /* Formatters make FAT32 with few clusters when asked to; the layout then tells. */
    geo->kind = wide ? FAT_KIND_32 : clusters < FAT12_CLUSTERS_END ? FAT_KIND_12 : FAT_KIND_16;
    cells = ((uint64_t)geo->fat_sectors << geo->sector_shift) * 8 / geo->kind;
    if (cells < 3) {
        return corruption_set(corruption, BOOT, 0, wide ? "BPB_FATSz32" : "BPB_FATSz16",
                              geo->fat_sectors, "the FAT is too small");
    }
    geo->fat_too_small = cells < clusters + 2;
    geo->cluster_count = (uint32_t)MIN(clusters, cells - 2);
    geo->root_start = (uint32_t)root_start;
    geo->data_start = (uint32_t)data_start;
    if (wide && !fat_cluster_valid(geo, geo->root_cluster)) {
        return corruption_set(corruption, BOOT, 0, "BPB_RootClus", geo->root_cluster,
                              "valid clusters are 2 to %u", geo->cluster_count + 1);
    }
    if (!wide && geo->root_entries == 0) {
        return corruption_set(corruption, BOOT, 0, "BPB_RootEntCnt", 0,
                              "must not be 0 on FAT12 and FAT16");
    }
    return 0;
}

int fat_boot_decode(const FatDiskBoot *disk, FatGeometry *ret, Corruption *corruption) {
    bool wide = le16_get(disk->bpb.fat_size16) == 0;
    const FatDiskExtended *extended = wide ? &disk->fat32.extended : &disk->fat16.extended;
    FatGeometry geo = {.mirrored = true};
    int r;

    r = decode_sizes(&disk->bpb, &geo, corruption);
    if (r < 0) {
        return r;
    }
    if (wide) {
        r = decode_wide(&disk->fat32, &geo, corruption);
        if (r < 0) {
            return r;
        }
    } else {
        geo.fat_sectors = le16_get(disk->bpb.fat_size16);
    }
    r = decode_layout(&geo, wide, corruption);
    if (r < 0) {
        return r;
    }
    if (extended->signature == FAT_EXTENDED_SIGNATURE ||
        extended->signature == FAT_EXTENDED_SIGNATURE_SHORT) {
        geo.state_offset = (uint32_t)((const uint8_t *)&extended->state - disk->bytes);
        geo.dirty = extended->state & FAT_STATE_DIRTY;
        geo.has_volume_id = true;
        geo.volume_id = le32_get(extended->volume_id);
        geo.has_label = extended->signature == FAT_EXTENDED_SIGNATURE;
        memcpy(geo.label, extended->label, sizeof(geo.label));
    }
    *ret = geo;
    return 0;
}

int fat_geometry_check_device(const FatGeometry *geo, uint64_t device_size,
                              Corruption *corruption) {
    uint64_t needed = (uint64_t)geo->data_start << geo->sector_shift;

    if (device_size >= (uint64_t)geo->total_sectors << geo->sector_shift) {
        return 0;
    }
    if (geo->kind == FAT_KIND_32) {
        needed = fat_cluster_offset(geo, geo->root_cluster) + geo->cluster_size;
    }
    if (device_size < needed) {
        return corruption_set(corruption, BOOT, 0, "BPB_TotSec32", geo->total_sectors,
                              "the device ends at byte %llu, before the root directory's end",
                              (unsigned long long)device_size);
    }
    return 1;
}
