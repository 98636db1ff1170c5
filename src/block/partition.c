/* SPDX-License-Identifier: MIT */
/*
 * MBR partition tables, with the chain of extended partitions, and the choice
 * between MBR, GPT, Apple's and none. Where an MBR stands beside an Apple map (hybrid CDs), the
 * MBR counts, as it does for the kernel.
 *
 * The signature 0x55AA alone proves nothing: boot sectors of whole-disk
 * filesystems carry it too. A sector is a table only if no boot parameter
 * block can be read from it, every status byte is one that a table has, and
 * every used entry has a start and a length. A table whose used entries then
 * point outside the device is a broken table, not an absent one.
 *
 * Extended partitions: each step reads one boot record that names one logical
 * partition and the next record. Offsets of partitions are relative to their
 * record, those of records to the extended partition. A record visited twice,
 * or one outside the extended partition, is corruption; so is a longer chain
 * than we have room for.
 */
#include "berth/bytes.h"
#include "partition_internal.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#define MBR_SECTOR_SIZE 512u
#define MBR_TYPE_PROTECTIVE 0xee
#define MBR_FIRST_LOGICAL 5u

typedef struct MbrDiskEntry {
    uint8_t status; /* 0x80: active */
    uint8_t chs_first[3];
    uint8_t type;
    uint8_t chs_last[3];
    le32 start;
    le32 sectors;
} MbrDiskEntry;
static_assert(sizeof(MbrDiskEntry) == 16, "MBR entry");

typedef struct MbrDiskSector {
    uint8_t code[440];
    le32 disk_id;
    uint8_t reserved[2];
    MbrDiskEntry entries[4];
    uint8_t signature[2];
} MbrDiskSector;
static_assert(sizeof(MbrDiskSector) == MBR_SECTOR_SIZE, "MBR");
static_assert(offsetof(MbrDiskSector, entries) == 446, "MBR");

/* ---- what a sector is ---- */

static bool has_signature(const MbrDiskSector *sector) {
    return sector->signature[0] == 0x55 && sector->signature[1] == 0xaa;
}

/*
 * Could this be the boot sector of FAT, NTFS or exFAT? The jump at the start
 * is not asked for: FAT volumes without one exist, and the parameters by
 * themselves are most unlikely in boot code.
 */
static bool is_volume_boot_sector(const MbrDiskSector *sector) {
    const uint8_t *at = sector->code;
    unsigned bytes_per_sector = at[11] | (unsigned)at[12] << 8;
    bool sizes, total, fat;

    if (memcmp(at + 3, "NTFS    ", 8) == 0 || memcmp(at + 3, "EXFAT   ", 8) == 0) {
        return true;
    }
    sizes = bytes_per_sector >= 512 && bytes_per_sector <= 4096 &&
            is_power_of_2(bytes_per_sector) && is_power_of_2(at[13]);
    total = (at[19] | at[20] | at[32] | at[33] | at[34] | at[35]) != 0;
    fat = (at[22] | at[23] | at[36] | at[37] | at[38] | at[39]) != 0;
    return sizes && (at[14] | at[15]) != 0 && at[16] >= 1 && at[16] <= 4 &&
           (at[21] == 0xf0 || at[21] >= 0xf8) && total && fat;
}

static bool is_used(const MbrDiskEntry *entry) {
    return entry->type != 0;
}

static bool is_extended(const MbrDiskEntry *entry) {
    return entry->type == 0x05 || entry->type == 0x0f || entry->type == 0x85;
}

static bool is_plausible_table(const MbrDiskSector *sector) {
    unsigned used = 0;

    for (size_t i = 0; i < ARRAY_SIZE(sector->entries); i++) {
        const MbrDiskEntry *entry = &sector->entries[i];

        if ((entry->status & 0x7f) != 0) {
            return false;
        }
        if (is_used(entry)) {
            if (le32_get(entry->start) == 0 || le32_get(entry->sectors) == 0) {
                return false;
            }
            used++;
        }
    }
    return used > 0 && !is_volume_boot_sector(sector);
}

/* ---- entries ---- */

int partition_append(PartitionTable *table, const BlockDevice *device, const char *structure,
                     unsigned number, uint64_t first, uint64_t sectors, Partition **ret_entry,
                     Corruption *corruption) {
    uint64_t start, length;
    Partition *entry;

    if (!u64_mul(first, table->sector_size, &start) ||
        !u64_mul(sectors, table->sector_size, &length) ||
        !range_inside(start, length, device->size)) {
        return corruption_set(corruption, structure, number, "range", first,
                              "partition %u reaches beyond the end of the device", number);
    }
    if (table->count == PARTITION_MAX) {
        return corruption_set(corruption, structure, number, "count", table->count,
                              "more than %d partitions", PARTITION_MAX);
    }
    entry = &table->entries[table->count++];
    *entry = (Partition){.number = number, .start = start, .length = length};
    *ret_entry = entry;
    return 0;
}

static int append_mbr(PartitionTable *table, const BlockDevice *device, uint32_t disk_id,
                      unsigned number, const MbrDiskEntry *disk, uint64_t base,
                      Corruption *corruption) {
    Partition *entry;
    int r = partition_append(table, device, "MBR", number, base + le32_get(disk->start),
                             le32_get(disk->sectors), &entry, corruption);

    if (r < 0) {
        return r;
    }
    (void)snprintf(entry->type, sizeof(entry->type), "%02x", disk->type);
    (void)snprintf(entry->uuid, sizeof(entry->uuid), "%08" PRIx32 "-%02x", disk_id, number);
    return 0;
}

/* Overlaps anywhere in the finished table. */
static int check_overlaps(const PartitionTable *table, Corruption *corruption) {
    for (unsigned i = 0; i < table->count; i++) {
        const Partition *a = &table->entries[i];

        for (unsigned j = i + 1; j < table->count; j++) {
            const Partition *b = &table->entries[j];

            if (a->start < b->start + b->length && b->start < a->start + a->length) {
                return corruption_set(corruption, "partition table", b->number, "range", b->start,
                                      "partitions %u and %u overlap", a->number, b->number);
            }
        }
    }
    return 0;
}

/* ---- the extended chain ---- */

typedef struct Chain {
    uint64_t start, sectors; /* of the extended partition */
    uint32_t disk_id;
    unsigned next_number;
    unsigned visited_count;
    uint32_t visited[PARTITION_MAX]; /* records, relative to start */
} Chain;

static int visit(Chain *chain, uint64_t record, Corruption *corruption) {
    if (record < chain->start || record - chain->start >= chain->sectors) {
        return corruption_set(corruption, "extended boot record", record, "next", record,
                              "record outside the extended partition");
    }
    for (unsigned i = 0; i < chain->visited_count; i++) {
        if (chain->visited[i] == record - chain->start) {
            return corruption_set(corruption, "extended boot record", record, "next", record,
                                  "the chain of extended partitions loops");
        }
    }
    if (chain->visited_count == ARRAY_SIZE(chain->visited)) {
        return corruption_set(corruption, "extended boot record", record, "next", record,
                              "more than %u records", chain->visited_count);
    }
    chain->visited[chain->visited_count++] = (uint32_t)(record - chain->start);
    return 0;
}

/* One record: its partition is appended, *ret_next is the next record or 0. */
static int read_record(BlockDevice *device, PartitionTable *table, Chain *chain, uint64_t record,
                       uint64_t *ret_next, Corruption *corruption) {
    MbrDiskSector sector;
    const MbrDiskEntry *own = &sector.entries[0], *next = &sector.entries[1];
    int r = block_read(device, record * table->sector_size, &sector, sizeof(sector));

    if (r < 0) {
        return r == -ERANGE ? corruption_set(corruption, "extended boot record", record, "next",
                                             record, "record beyond the end of the device")
                            : r;
    }
    if (!has_signature(&sector)) {
        return corruption_set(corruption, "extended boot record", record, "signature",
                              sector.signature[0] | (unsigned)sector.signature[1] << 8,
                              "not 0xaa55");
    }
    if (is_used(own) && !is_extended(own) && le32_get(own->sectors) > 0) {
        uint64_t first = record - chain->start + le32_get(own->start);

        if (!range_inside(first, le32_get(own->sectors), chain->sectors)) {
            return corruption_set(corruption, "extended boot record", record, "start",
                                  le32_get(own->start),
                                  "logical partition outside the extended partition");
        }
        r = append_mbr(table, device, chain->disk_id, chain->next_number, own, record, corruption);
        if (r < 0) {
            return r;
        }
        chain->next_number++;
    }
    *ret_next =
        is_extended(next) && le32_get(next->sectors) > 0 ? chain->start + le32_get(next->start) : 0;
    return 0;
}

static int read_chain(BlockDevice *device, PartitionTable *table, Chain *chain,
                      const MbrDiskEntry *extended, Corruption *corruption) {
    uint64_t record = le32_get(extended->start);

    chain->start = record;
    chain->sectors = le32_get(extended->sectors);
    chain->visited_count = 0;
    while (record != 0) {
        int r = visit(chain, record, corruption);

        if (r == 0) {
            r = read_record(device, table, chain, record, &record, corruption);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int read_mbr(BlockDevice *device, const MbrDiskSector *sector, PartitionTable *table,
                    Corruption *corruption) {
    Chain chain = {.disk_id = le32_get(sector->disk_id), .next_number = MBR_FIRST_LOGICAL};
    int r = 0;

    table->kind = PARTITION_MBR;
    table->sector_size = device->sector_size;
    for (unsigned i = 0; r == 0 && i < ARRAY_SIZE(sector->entries); i++) {
        const MbrDiskEntry *entry = &sector->entries[i];

        if (is_used(entry) && !is_extended(entry)) {
            r = append_mbr(table, device, chain.disk_id, i + 1, entry, 0, corruption);
        }
    }
    for (unsigned i = 0; r == 0 && i < ARRAY_SIZE(sector->entries); i++) {
        if (is_extended(&sector->entries[i])) {
            r = read_chain(device, table, &chain, &sector->entries[i], corruption);
        }
    }
    return r;
}

/* ---- which kind ---- */

static bool is_protective(const MbrDiskSector *sector) {
    for (size_t i = 0; i < ARRAY_SIZE(sector->entries); i++) {
        if (sector->entries[i].type == MBR_TYPE_PROTECTIVE) {
            return true;
        }
    }
    return false;
}

/* The unit of a GPT is not written down before its header: an image of a 4096-byte disk lies in a
 * file like any other. */
static int read_gpt(BlockDevice *device, PartitionTable *table, Corruption *corruption) {
    const uint32_t sizes[] = {device->sector_size, 512, 4096};
    int result = -ENOENT;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        int r;

        if (i > 0 && sizes[i] == sizes[0]) {
            continue;
        }
        *table = (PartitionTable){.kind = PARTITION_GPT, .sector_size = sizes[i]};
        r = gpt_read(device, sizes[i], table, result == -ENOENT ? corruption : NULL);
        if (r == 0) {
            return 0;
        }
        if (result == -ENOENT) {
            result = r;
        }
    }
    if (result == -ENOENT) {
        return corruption_set(corruption, "GPT header", 1, "signature", 0,
                              "the MBR announces a GPT, but there is none");
    }
    return result;
}

static int read_table(BlockDevice *device, PartitionTable *table, Corruption *corruption) {
    MbrDiskSector sector;
    int r;

    table->kind = PARTITION_NONE;
    table->sector_size = device->sector_size;
    if (device->size < sizeof(sector)) {
        return 0;
    }
    r = block_read(device, 0, &sector, sizeof(sector));
    if (r < 0) {
        return r;
    }
    if (!has_signature(&sector) || !is_plausible_table(&sector)) {
        r = apm_read(device, table, corruption);
        return r == -ENOENT ? 0 : r;
    }
    r = is_protective(&sector) ? read_gpt(device, table, corruption)
                               : read_mbr(device, &sector, table, corruption);
    return r < 0 ? r : check_overlaps(table, corruption);
}

int partition_read(BlockDevice *device, PartitionTable *ret, Corruption *corruption) {
    _cleanup_free_ PartitionTable *table = calloc(1, sizeof(*table));
    int r;

    if (table == NULL) {
        return -ENOMEM;
    }
    r = read_table(device, table, corruption);
    if (r == 0) {
        *ret = *table;
    }
    return r;
}

/* ---- naming one ---- */

static unsigned parse_number(const char *text) {
    unsigned number = 0;

    for (; *text >= '0' && *text <= '9' && number < 100000; text++) {
        number = number * 10 + (unsigned)(*text - '0');
    }
    return *text == '\0' ? number : 0;
}

const Partition *partition_find(const PartitionTable *table, const char *which) {
    unsigned number = parse_number(which[0] == 'p' ? which + 1 : which);
    const Partition *named = NULL;

    for (unsigned i = 0; i < table->count; i++) {
        const Partition *entry = &table->entries[i];

        if (number != 0 && entry->number == number) {
            return entry;
        }
        if (named == NULL && which[0] != '\0' &&
            (strcasecmp(entry->uuid, which) == 0 || strcmp(entry->name, which) == 0)) {
            named = entry;
        }
    }
    return named;
}
