/* SPDX-License-Identifier: MIT */
/*
 * Apple partition maps (Inside Macintosh: Devices, chapter 3). Block 0 is the
 * driver descriptor map, which says how large the blocks are; the map's entries
 * lie in the blocks after it, one in each, the map's own among them. CDs have
 * blocks of 2048 bytes, or say so and count in 512 all the same, or carry both
 * maps: the size is right where block 1 holds the entry of a map that begins
 * there, and the size in block 0 is asked first.
 *
 * Every entry repeats the number of entries; the first one's counts, and the map
 * ends early at a block that is no entry, as it does for other systems. Overlaps
 * are not refused: hybrid CDs have them by design. Unused space is an entry too
 * and keeps its number, but its range means nothing and may lie anywhere.
 */
#include "berth/bytes.h"
#include "berth/text.h"
#include "partition_internal.h"
#include <assert.h>
#include <stdio.h>

#define APM_DRIVER_SIGNATURE 0x4552u /* "ER" */
#define APM_SIGNATURE 0x504du        /* "PM" */
#define APM_ENTRIES_MAX 4096u        /* of which PARTITION_MAX may be partitions */
#define APM_FIRST_ENTRY 1u

typedef struct ApmDiskDriverMap {
    be16 signature;  /* sbSig */
    be16 block_size; /* sbBlkSize */
    be32 blocks;     /* sbBlkCount */
} ApmDiskDriverMap;
static_assert(sizeof(ApmDiskDriverMap) == 8, "Block0");

typedef struct ApmDiskEntry {
    be16 signature; /* pmSig */
    be16 reserved;
    be32 map_entries; /* pmMapBlkCnt */
    be32 start;       /* pmPyPartStart: blocks */
    be32 blocks;      /* pmPartBlkCnt */
    uint8_t name[32]; /* pmPartName: NUL-terminated when shorter */
    uint8_t type[32]; /* pmParType */
} ApmDiskEntry;
static_assert(sizeof(ApmDiskEntry) == 80, "Partition");
static_assert(offsetof(ApmDiskEntry, type) == 48, "pmParType");

/* Types are names that Apple gave, in ASCII. */
static void copy_type(const uint8_t type[32], char out[33]) {
    size_t length = 0;

    for (; length < 32 && type[length] != '\0'; length++) {
        out[length] = type[length] >= 0x20 && type[length] < 0x7f ? (char)type[length] : '?';
    }
    out[length] = '\0';
}

static void copy_name(const uint8_t name[32], char *out, size_t capacity) {
    (void)macroman_to_utf8(name, strnlen((const char *)name, 32), out, capacity);
}

static bool is_type(const ApmDiskEntry *entry, const char *type) {
    return strncmp((const char *)entry->type, type, sizeof(entry->type)) == 0;
}

static int load_entry(BlockDevice *device, uint32_t block_size, uint64_t block, ApmDiskEntry *ret) {
    int r = block_read(device, block * block_size, ret, sizeof(*ret));

    if (r == -ERANGE || (r == 0 && be16_get(ret->signature) != APM_SIGNATURE)) {
        return -ENOENT;
    }
    return r;
}

/* Does block 1 hold the entry of the map itself? */
static int find_map(BlockDevice *device, uint32_t block_size, ApmDiskEntry *ret) {
    int r = load_entry(device, block_size, APM_FIRST_ENTRY, ret);

    if (r < 0) {
        return r;
    }
    return is_type(ret, "Apple_partition_map") && be32_get(ret->start) == APM_FIRST_ENTRY ? 0
                                                                                          : -ENOENT;
}

static int find_block_size(BlockDevice *device, PartitionTable *table, ApmDiskEntry *ret) {
    ApmDiskDriverMap drivers;
    uint32_t sizes[3] = {0, 512, 2048};
    int r = block_read(device, 0, &drivers, sizeof(drivers));

    if (r == 0 && be16_get(drivers.signature) == APM_DRIVER_SIGNATURE) {
        sizes[0] = be16_get(drivers.block_size);
    }
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(sizes); i++) {
        if (sizes[i] < 512 || sizes[i] > 4096 || !is_power_of_2(sizes[i])) {
            continue;
        }
        r = find_map(device, sizes[i], ret);
        if (r == 0) {
            table->sector_size = sizes[i];
            return 0;
        }
        r = r == -ENOENT ? 0 : r;
    }
    return r < 0 ? r : -ENOENT;
}

static int append(PartitionTable *table, const BlockDevice *device, unsigned number,
                  const ApmDiskEntry *disk, Corruption *corruption) {
    Partition *entry;
    int r;

    if (be32_get(disk->blocks) == 0 || is_type(disk, "Apple_Free") ||
        is_type(disk, "Apple_Extra") || is_type(disk, "Apple_Void")) {
        return 0;
    }
    r = partition_append(table, device, "Apple partition map", number, be32_get(disk->start),
                         be32_get(disk->blocks), &entry, corruption);
    if (r == 0) {
        copy_type(disk->type, entry->type);
        copy_name(disk->name, entry->name, sizeof(entry->name));
    }
    return r;
}

int apm_read(BlockDevice *device, PartitionTable *table, Corruption *corruption) {
    ApmDiskEntry entry;
    uint32_t count;
    int r = find_block_size(device, table, &entry);

    if (r < 0) {
        return r;
    }
    table->kind = PARTITION_APM;
    count = be32_get(entry.map_entries);
    if (count == 0 || count > APM_ENTRIES_MAX) {
        return corruption_set(corruption, "Apple partition map", 1, "pmMapBlkCnt", count,
                              "impossible number of entries");
    }
    for (uint32_t number = 1; r == 0 && number <= count; number++) {
        r = load_entry(device, table->sector_size, number, &entry);
        if (r == -ENOENT) {
            return 0;
        }
        if (r == 0) {
            r = append(table, device, number, &entry, corruption);
        }
    }
    return r;
}
