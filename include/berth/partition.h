/* SPDX-License-Identifier: MIT */
/*
 * Partition tables (MBR with extended partitions, GPT, Apple's), files around
 * disk images, and detection of what a volume holds (libblkid). Everything read
 * is hostile: programs with rights worth having call partition_probe_isolated(),
 * which does the parsing in a forked child that can only answer.
 */
#ifndef BERTH_PARTITION_H
#define BERTH_PARTITION_H

#include "berth/block.h"
#include "berth/report.h"

#define PARTITION_MAX 128

typedef enum PartitionTableKind {
    PARTITION_NONE,
    PARTITION_MBR,
    PARTITION_GPT,
    PARTITION_APM,
} PartitionTableKind;

typedef struct Partition {
    unsigned number; /* as the kernel counts: MBR 1 to 4, logical from 5, GPT slot + 1,
                      * Apple: the entry's block */
    uint64_t start;  /* bytes */
    uint64_t length; /* bytes, inside the device */
    char type[40];   /* "0c", the GUID in lower case, or "Apple_HFS" */
    char name[112];  /* GPT name as UTF-8, Apple's as ASCII, "" for MBR */
    char uuid[40];   /* GPT unique GUID, "diskid-NN" for MBR, "" for Apple's */
} Partition;

typedef struct PartitionTable {
    PartitionTableKind kind;
    uint32_t sector_size;
    unsigned count;
    Partition entries[PARTITION_MAX];
} PartitionTable;

/*
 * Reads the table. Whole-disk filesystems whose boot sector looks like an MBR
 * (FAT: 0x55AA and a plausible BPB) give kind NONE, and so does an MBR without
 * any partition. Extended partitions are not listed, only the logical ones in
 * them; of an Apple partition map, everything but unused space. -EUCLEAN with *corruption for a
 * broken table (loops of extended partitions, overlaps, ranges past the end, bad GPT checksums in
 * both copies), -EIO, -ENOMEM.
 */
int partition_read(BlockDevice *device, PartitionTable *ret, Corruption *corruption);
/* Finds "1", "p1", a name, or a GUID. NULL: no such partition. */
const Partition *partition_find(const PartitionTable *table, const char *which);

/* Files around images of disks, which begin at an offset and can only be read. */
typedef enum ImageContainerKind {
    CONTAINER_NONE,
    CONTAINER_DISKCOPY,
    CONTAINER_MACBINARY,
    CONTAINER_MACBINARY_DISKCOPY,
} ImageContainerKind;

typedef struct ImageContainer {
    ImageContainerKind kind;
    uint64_t start, length; /* the disk's bytes in the file; all of it for CONTAINER_NONE */
    enum { CHECKSUM_UNKNOWN, CHECKSUM_GOOD, CHECKSUM_BAD } checksum;
} ImageContainer;

/* 0 (kind NONE when there is no container) or the device's -errno. */
int container_read(BlockDevice *device, ImageContainer *ret);
const char *container_name(ImageContainerKind kind); /* "DiskCopy 4.2" */

typedef struct VolumeProbe {
    uint64_t start, length; /* bytes of the probed range */
    char type[32];    /* berth's name: "fat", "ext4", "hfs" …; libblkid's name for types that
                         berth does not know; "" nothing found, or more than one thing */
    char subtype[32]; /* "FAT32", "HFS+ in an HFS wrapper" … or "" */
    char label[256];  /* UTF-8 */
    char uuid[64];
} VolumeProbe;

typedef struct ImageProbe {
    uint64_t size;
    ImageContainer container;
    PartitionTable table;               /* its entries' places: bytes of the file */
    VolumeProbe whole;                  /* of the whole disk (when table.kind is NONE) */
    VolumeProbe volumes[PARTITION_MAX]; /* parallel to table.entries */
} ImageProbe;

/* Probes fd (not closed, offset unused) in a forked child with limits on time (10 s) and memory.
 * 0, -EUCLEAN, -EIO, -ETIMEDOUT, -EPROTO when the child died or answered nonsense; *text (256
 * bytes) says what was wrong. */
int partition_probe_isolated(int fd, ImageProbe *ret, char text[256]);

#endif
