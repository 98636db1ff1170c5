/* SPDX-License-Identifier: MIT */
/*
 * An Apple partition map for one HFS volume, as the Mac's own formatter lays it
 * out (Inside Macintosh: Devices, chapter 3): the driver descriptor map in
 * block 0, a map with room for 63 entries behind it, the volume from block 64
 * on. There is no driver: Apple's is not ours to give away, and a descriptor
 * that points at something else would be run by the Mac's ROM. Macs that have a
 * driver for the drive (CDs, cartridges, emulators, later ROMs) mount the volume.
 */
#include "berth/hfs.h"
#include "format.h"

#define MAP_BLOCKS 63u
#define MAP_START 1u
#define VOLUME_START (MAP_START + MAP_BLOCKS)
#define MAP_ENTRIES 2u

/* pmPartStatus: valid, allocated, readable, writable; the map is in use as well. */
#define STATUS_VOLUME 0x33u
#define STATUS_MAP 0x37u

typedef struct DiskDriverMap {
    be16 signature;
    be16 block_size;
    be32 block_count;
    be16 device_type;
    be16 device_id;
    be32 data;
    be16 driver_count;
    uint8_t rest[494];
} DiskDriverMap;
static_assert(sizeof(DiskDriverMap) == HFS_SECTOR, "Block0");

typedef struct DiskMapEntry {
    be16 signature;
    be16 reserved;
    be32 entries;
    be32 start;
    be32 count;
    char name[32];
    char type[32];
    be32 data_start; /* logical: from the partition's start */
    be32 data_count;
    be32 status;
    uint8_t rest[420];
} DiskMapEntry;
static_assert(sizeof(DiskMapEntry) == HFS_SECTOR, "Partition");

int hfs_make_map_plan(uint64_t size, uint64_t *ret_start, uint64_t *ret_length) {
    uint64_t sectors = MIN(size / HFS_SECTOR, (uint64_t)UINT32_MAX);

    if (sectors < VOLUME_START + HFS_SIZE_MIN / HFS_SECTOR) {
        return -EINVAL;
    }
    *ret_start = (uint64_t)VOLUME_START * HFS_SECTOR;
    *ret_length = (sectors - VOLUME_START) * HFS_SECTOR;
    return 0;
}

static DiskMapEntry make_entry(uint32_t start, uint32_t count, uint32_t status) {
    return (DiskMapEntry){
        .signature = be16_make(0x504d), /* "PM" */
        .entries = be32_make(MAP_ENTRIES),
        .start = be32_make(start),
        .count = be32_make(count),
        .data_count = be32_make(count),
        .status = be32_make(status),
    };
}

int hfs_make_map(BlockDevice *device) {
    uint32_t sectors = (uint32_t)MIN(device->size / HFS_SECTOR, (uint64_t)UINT32_MAX);
    DiskDriverMap drivers = {
        .signature = be16_make(0x4552), /* "ER" */
        .block_size = be16_make(HFS_SECTOR),
        .block_count = be32_make(sectors),
        .device_type = be16_make(1),
        .device_id = be16_make(1),
    };
    DiskMapEntry map = make_entry(MAP_START, MAP_BLOCKS, STATUS_MAP);
    DiskMapEntry volume = make_entry(VOLUME_START, sectors - VOLUME_START, STATUS_VOLUME);
    uint8_t empty[HFS_SECTOR] = {0};
    int r;

    memcpy(map.name, "Apple", sizeof("Apple"));
    memcpy(map.type, "Apple_partition_map", sizeof("Apple_partition_map"));
    memcpy(volume.name, "MacOS", sizeof("MacOS"));
    memcpy(volume.type, "Apple_HFS", sizeof("Apple_HFS"));
    r = block_write(device, 0, &drivers, sizeof(drivers));
    for (uint64_t block = MAP_START; r == 0 && block < VOLUME_START; block++) {
        r = block_write(device, block * HFS_SECTOR,
                        block == MAP_START       ? (const void *)&map
                        : block == MAP_START + 1 ? (const void *)&volume
                                                 : empty,
                        HFS_SECTOR);
    }
    return r < 0 ? r : block_flush(device);
}
