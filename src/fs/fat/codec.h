/* SPDX-License-Identifier: MIT */
/*
 * Bytes to plain values and back: boot sector, FSInfo, directory entries, long
 * names, timestamps. Pure functions without volume state, so that the mounted
 * filesystem, checkers and fuzzers share them. Every field is checked before it
 * is returned; what is wrong goes into a Corruption (which may be NULL).
 */
#ifndef FAT_CODEC_H
#define FAT_CODEC_H

#include "berth/base.h"
#include "berth/report.h"
#include "format.h"

typedef enum FatKind { FAT_KIND_12 = 12, FAT_KIND_16 = 16, FAT_KIND_32 = 32 } FatKind;

/* A boot sector's facts, checked against each other. Sectors are logical ones. */
typedef struct FatGeometry {
    FatKind kind;
    uint32_t sector_size, sector_shift;
    uint32_t cluster_sectors, cluster_size, cluster_shift;
    uint32_t reserved_sectors;
    uint32_t fat_count, fat_sectors; /* sectors of one FAT */
    uint32_t active_fat;             /* the one that is read */
    bool mirrored;                   /* all FATs are written, not only the active one */
    uint32_t root_entries;           /* FAT12, FAT16; else 0 */
    uint32_t root_start;             /* sector of the fixed root directory */
    uint32_t root_cluster;           /* FAT32; else 0 */
    uint32_t data_start;             /* sector of cluster 2 */
    uint32_t total_sectors;
    uint32_t cluster_count; /* valid clusters are 2 to cluster_count + 1 */
    uint32_t fsinfo_sector; /* 0: none */
    bool fat_too_small;     /* the FATs hold fewer cells than the data area has clusters */
    bool dirty;             /* state bit of the boot sector */
    uint32_t state_offset;  /* byte of the state in the boot sector */
    bool has_volume_id, has_label;
    uint32_t volume_id;
    uint8_t label[FAT_SHORT_LENGTH];
    uint32_t boot_backup;   /* the boot sector's copy (FAT32); 0: none */
    uint32_t fsinfo_backup; /* FSInfo's copy beside the boot sector's; 0: none */
    uint8_t media;
    /* Local time, which is what entries hold, minus UTC. Not in the boot sector: the mount says. */
    int64_t time_offset_ns;
} FatGeometry;

/* Does it look as if somebody had meant it to be FAT? Decides between "not ours" and "broken". */
bool fat_boot_plausible(const FatDiskBoot *disk);
int fat_boot_decode(const FatDiskBoot *disk, FatGeometry *ret, Corruption *corruption);
/* The same bounds for a device of this many bytes: 0, 1 (shorter than the volume, but FATs and
 * root directory are inside), -EUCLEAN. */
int fat_geometry_check_device(const FatGeometry *geo, uint64_t device_size, Corruption *corruption);

static inline bool fat_cluster_valid(const FatGeometry *geo, uint32_t cluster) {
    return cluster >= 2 && cluster - 2 < geo->cluster_count;
}
/* Byte offset of a valid cluster in the volume. */
static inline uint64_t fat_cluster_offset(const FatGeometry *geo, uint32_t cluster) {
    return ((uint64_t)geo->data_start << geo->sector_shift) +
           ((uint64_t)(cluster - 2) << geo->cluster_shift);
}

typedef struct FatFsinfo {
    uint32_t free_count; /* FAT_FSINFO_UNKNOWN, or at most cluster_count */
    uint32_t next_free;  /* FAT_FSINFO_UNKNOWN, or a valid cluster */
} FatFsinfo;
/* -EUCLEAN when the signatures are wrong; values out of bounds become "unknown". */
int fat_fsinfo_decode(const FatGeometry *geo, const FatDiskFsinfo *disk, FatFsinfo *ret,
                      Corruption *corruption);

/* Nanoseconds since 1970, of the time that is stored. What a date cannot hold (day 0, month 15) is
 * clamped. */
#define FAT_TIME_NONE INT64_MIN
int64_t fat_time_decode(le16 date, le16 time, uint8_t tenths);
/* Years outside 1980 to 2107 are clamped. tenths counts 10 ms. */
void fat_time_encode(int64_t ns, le16 *ret_date, le16 *ret_time, uint8_t *ret_tenths);

/* A short entry: any bytes decode. */
typedef struct FatEntry {
    uint8_t name[FAT_SHORT_LENGTH];
    uint8_t attributes, nt_flags;
    uint32_t first_cluster; /* unchecked */
    uint32_t size;
    int64_t mtime_ns, atime_ns, btime_ns; /* btime: FAT_TIME_NONE when unset */
} FatEntry;
void fat_entry_decode(const FatGeometry *geo, const FatDiskEntry *disk, FatEntry *ret);
void fat_entry_encode(const FatGeometry *geo, const FatEntry *entry, FatDiskEntry *ret);
void fat_entry_set_cluster(const FatGeometry *geo, FatDiskEntry *disk, uint32_t cluster);
void fat_entry_set_mtime(const FatGeometry *geo, FatDiskEntry *disk, int64_t ns);
void fat_entry_set_atime(const FatGeometry *geo, FatDiskEntry *disk, int64_t ns);
void fat_entry_set_btime(const FatGeometry *geo, FatDiskEntry *disk, int64_t ns);

typedef enum FatSlotKind {
    FAT_SLOT_END, /* free, and so are all that follow */
    FAT_SLOT_FREE,
    FAT_SLOT_LONG,
    FAT_SLOT_LABEL,
    FAT_SLOT_DOT, /* "." and ".." */
    FAT_SLOT_ENTRY,
} FatSlotKind;
FatSlotKind fat_slot_kind(const FatDiskEntry *disk);
/* ".": 1, "..": 2, anything else: 0. */
int fat_slot_dots(const FatDiskEntry *disk);

uint8_t fat_short_checksum(const uint8_t name[FAT_SHORT_LENGTH]);

/* The long-name slots before a short entry, collected in the order of the disk (last part first).
 */
typedef struct FatLongName {
    uint16_t units[FAT_LONG_SLOTS_MAX * FAT_LONG_UNITS];
    unsigned length;   /* units, after a successful fat_long_finish() */
    unsigned parts;    /* slots of the set; 0: none is being collected */
    unsigned expected; /* order of the next part; 0: complete */
    uint8_t checksum;
} FatLongName;
void fat_long_reset(FatLongName *name);
/* Takes one slot. False: it starts no set and continues none (the set so far is dropped). */
bool fat_long_add(FatLongName *name, const FatDiskLong *disk);
/* The set is complete, belongs to this short name and is a name: sets length. */
bool fat_long_finish(FatLongName *name, const uint8_t short_name[FAT_SHORT_LENGTH]);
static inline unsigned fat_long_slots(unsigned length) {
    return (length + FAT_LONG_UNITS - 1) / FAT_LONG_UNITS;
}
/* Part `order` (1 for the first units) of a name of `length` units. */
void fat_long_encode(const uint16_t *units, unsigned length, unsigned order, uint8_t checksum,
                     FatDiskLong *ret);

#endif
