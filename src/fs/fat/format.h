/* SPDX-License-Identifier: MIT */
/*
 * The FAT file system on disk: FAT12, FAT16 and FAT32 with long names. Layouts
 * only, no logic. Section names are those of Microsoft's "FAT: General
 * Overview of On-Disk Format", version 1.03 (fatgen103); all fields are little
 * endian.
 */
#ifndef FAT_FORMAT_H
#define FAT_FORMAT_H

#include "berth/bytes.h"
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define FAT_BOOT_SIGNATURE 0xaa55
#define FAT_EXTENDED_SIGNATURE 0x29       /* BS_BootSig: volume id, label and type are present */
#define FAT_EXTENDED_SIGNATURE_SHORT 0x28 /* only the volume id is */
#define FAT_SECTOR_MIN 512u
#define FAT_SECTOR_MAX 4096u

/* "FAT Type Determination": by the count of clusters alone. */
#define FAT12_CLUSTERS_END 4085u
#define FAT16_CLUSTERS_END 65525u
/* Cells are 28 bits, 0x0ffffff7 marks bad clusters. */
#define FAT32_CLUSTERS_END 0x0ffffff5u

/* "BPB and boot sector": the part that all types share. */
typedef struct FatDiskBpb {
    uint8_t jump[3];
    uint8_t oem_name[8];
    le16 bytes_per_sector;
    uint8_t sectors_per_cluster;
    le16 reserved_sectors;
    uint8_t fat_count;
    le16 root_entries;
    le16 total_sectors16;
    uint8_t media;
    le16 fat_size16;
    le16 sectors_per_track;
    le16 heads;
    le32 hidden_sectors;
    le32 total_sectors32;
} FatDiskBpb;
static_assert(sizeof(FatDiskBpb) == 36, "BPB");
static_assert(offsetof(FatDiskBpb, bytes_per_sector) == 11, "BPB_BytsPerSec");
static_assert(offsetof(FatDiskBpb, fat_size16) == 22, "BPB_FATSz16");
static_assert(offsetof(FatDiskBpb, total_sectors32) == 32, "BPB_TotSec32");

/* The part from BS_DrvNum on, at offset 36 (FAT12, FAT16) or 64 (FAT32). */
typedef struct FatDiskExtended {
    uint8_t drive;
    uint8_t state; /* BS_Reserved1: bit 0 in use or not cleanly unmounted, bit 1 surface test */
    uint8_t signature;
    le32 volume_id;
    uint8_t label[11];
    uint8_t type[8];
} FatDiskExtended;
static_assert(sizeof(FatDiskExtended) == 26, "extended boot record");
#define FAT_STATE_DIRTY 0x01

typedef struct FatDiskBoot16 {
    FatDiskBpb bpb;
    FatDiskExtended extended;
    uint8_t code[448];
    le16 boot_signature;
} FatDiskBoot16;
static_assert(sizeof(FatDiskBoot16) == 512, "boot sector");
static_assert(offsetof(FatDiskBoot16, extended.volume_id) == 39, "BS_VolID");

typedef struct FatDiskBoot32 {
    FatDiskBpb bpb;
    le32 fat_size32;
    le16 flags; /* BPB_ExtFlags: bits 0-3 the active FAT, bit 7 it alone is kept */
    le16 version;
    le32 root_cluster;
    le16 fsinfo_sector;
    le16 backup_sector;
    uint8_t reserved[12];
    FatDiskExtended extended;
    uint8_t code[420];
    le16 boot_signature;
} FatDiskBoot32;
static_assert(sizeof(FatDiskBoot32) == 512, "boot sector");
static_assert(offsetof(FatDiskBoot32, root_cluster) == 44, "BPB_RootClus");
static_assert(offsetof(FatDiskBoot32, extended.volume_id) == 67, "BS_VolID");
#define FAT_FLAGS_ACTIVE 0x000f
#define FAT_FLAGS_NO_MIRROR 0x0080

/* The first 512 bytes of the volume; fat_size16 == 0 tells that it is the FAT32 form. */
typedef union FatDiskBoot {
    FatDiskBpb bpb;
    FatDiskBoot16 fat16;
    FatDiskBoot32 fat32;
    uint8_t bytes[512];
} FatDiskBoot;

/* "FSInfo sector structure". */
typedef struct FatDiskFsinfo {
    le32 lead_signature;
    uint8_t reserved1[480];
    le32 struct_signature;
    le32 free_count;
    le32 next_free;
    uint8_t reserved2[12];
    le32 trail_signature;
} FatDiskFsinfo;
static_assert(sizeof(FatDiskFsinfo) == 512, "FSInfo");
static_assert(offsetof(FatDiskFsinfo, free_count) == 488, "FSI_Free_Count");
#define FAT_FSINFO_LEAD 0x41615252u
#define FAT_FSINFO_STRUCT 0x61417272u
#define FAT_FSINFO_TRAIL 0xaa550000u
#define FAT_FSINFO_UNKNOWN 0xffffffffu

/* "FAT directory structure". */
#define FAT_ENTRY_SIZE 32u
#define FAT_SHORT_LENGTH 11u
typedef struct FatDiskEntry {
    uint8_t name[FAT_SHORT_LENGTH];
    uint8_t attributes;
    uint8_t nt_flags; /* DIR_NTRes */
    uint8_t create_tenths;
    le16 create_time;
    le16 create_date;
    le16 access_date;
    le16 cluster_high;
    le16 write_time;
    le16 write_date;
    le16 cluster_low;
    le32 size;
} FatDiskEntry;
static_assert(sizeof(FatDiskEntry) == FAT_ENTRY_SIZE, "directory entry");
static_assert(offsetof(FatDiskEntry, cluster_high) == 20, "DIR_FstClusHI");
static_assert(offsetof(FatDiskEntry, size) == 28, "DIR_FileSize");

#define FAT_ATTR_READ_ONLY 0x01
#define FAT_ATTR_HIDDEN 0x02
#define FAT_ATTR_SYSTEM 0x04
#define FAT_ATTR_VOLUME_ID 0x08
#define FAT_ATTR_DIRECTORY 0x10
#define FAT_ATTR_ARCHIVE 0x20
#define FAT_ATTR_LONG_NAME 0x0f
#define FAT_ATTR_LONG_NAME_MASK 0x3f

#define FAT_NAME_END 0x00      /* this slot and all after it are free */
#define FAT_NAME_DELETED 0xe5  /* this slot is free */
#define FAT_NAME_KANJI_E5 0x05 /* stands for a real 0xe5 */

/* Undocumented in fatgen103: how Windows NT shows 8.3 names without a long name. */
#define FAT_NT_LOWER_BASE 0x08
#define FAT_NT_LOWER_EXTENSION 0x10

/* "Long directory entries". */
typedef struct FatDiskLong {
    uint8_t order;
    le16 name1[5];
    uint8_t attributes;
    uint8_t type;
    uint8_t checksum;
    le16 name2[6];
    le16 cluster;
    le16 name3[2];
} FatDiskLong;
static_assert(sizeof(FatDiskLong) == FAT_ENTRY_SIZE, "long directory entry");
static_assert(offsetof(FatDiskLong, attributes) == 11, "LDIR_Attr");
static_assert(offsetof(FatDiskLong, name3) == 28, "LDIR_Name3");
#define FAT_LONG_LAST 0x40
#define FAT_LONG_UNITS 13u
#define FAT_LONG_SLOTS_MAX 20u
#define FAT_LONG_NAME_MAX 255u

#define FAT_FILE_SIZE_MAX UINT64_C(0xffffffff)
/* "The size of a directory": 65536 entries. */
#define FAT_DIR_SLOTS_MAX 65536u

#endif
