/* SPDX-License-Identifier: MIT */
/*
 * GUID partition tables (UEFI specification, chapter 5). A copy counts when
 * header and entries pass their checksums and every number in the header is
 * possible for this device; the one behind the MBR is asked first, the one in
 * the last sector only when that fails. Nothing is allocated or looped over
 * before its size is known to be sane.
 */
#include "berth/bytes.h"
#include "berth/text.h"
#include "partition_internal.h"
#include <assert.h>
#include <stdio.h>
#include <zlib.h>

#define GPT_SIGNATURE "EFI PART"
#define GPT_ENTRIES_MAX 4096u
#define GPT_ENTRY_SIZE_MAX 4096u
#define GPT_TABLE_SIZE_MAX (1024u * 1024u)
#define GPT_NAME_UNITS 36

typedef struct GptDiskHeader {
    char signature[8];
    le32 revision;
    le32 header_size;
    le32 header_crc; /* of header_size bytes, this field taken as zero */
    le32 reserved;
    le64 own_lba;
    le64 other_lba;
    le64 first_usable;
    le64 last_usable;
    uint8_t disk_guid[16];
    le64 entries_lba;
    le32 entry_count;
    le32 entry_size;
    le32 entries_crc;
} GptDiskHeader;
static_assert(sizeof(GptDiskHeader) == 92, "GPT header");

typedef struct GptDiskEntry {
    uint8_t type[16];
    uint8_t guid[16];
    le64 first;
    le64 last; /* inclusive */
    le64 attributes;
    le16 name[GPT_NAME_UNITS];
} GptDiskEntry;
static_assert(sizeof(GptDiskEntry) == 128, "GPT entry");

typedef struct GptHeader {
    uint64_t first_usable, last_usable, entries_lba;
    uint32_t entry_count, entry_size, entries_crc;
} GptHeader;

static uint32_t crc_of(const void *bytes, size_t length) {
    return (uint32_t)crc32(crc32(0, NULL, 0), bytes, (uInt)length);
}

/* ---- the header ---- */

/* sector is changed: the checksum field is cleared for the computation. */
static int decode_header(uint8_t *sector, uint32_t sector_size, uint64_t lba, uint64_t sectors,
                         GptHeader *ret, Corruption *corruption) {
    GptDiskHeader disk;
    GptHeader header;
    uint32_t size, crc;

    memcpy(&disk, sector, sizeof(disk));
    if (memcmp(disk.signature, GPT_SIGNATURE, sizeof(disk.signature)) != 0) {
        return -ENOENT;
    }
    size = le32_get(disk.header_size);
    if (size < sizeof(disk) || size > sector_size) {
        return corruption_set(corruption, "GPT header", lba, "HeaderSize", size, "impossible");
    }
    memset(sector + offsetof(GptDiskHeader, header_crc), 0, sizeof(disk.header_crc));
    crc = crc_of(sector, size);
    if (crc != le32_get(disk.header_crc)) {
        return corruption_set(corruption, "GPT header", lba, "HeaderCRC32",
                              le32_get(disk.header_crc), "checksum is %08x", crc);
    }
    if (le64_get(disk.own_lba) != lba) {
        return corruption_set(corruption, "GPT header", lba, "MyLBA", le64_get(disk.own_lba),
                              "the header lies elsewhere");
    }
    header = (GptHeader){
        .first_usable = le64_get(disk.first_usable),
        .last_usable = le64_get(disk.last_usable),
        .entries_lba = le64_get(disk.entries_lba),
        .entry_count = le32_get(disk.entry_count),
        .entry_size = le32_get(disk.entry_size),
        .entries_crc = le32_get(disk.entries_crc),
    };
    if (header.first_usable > header.last_usable || header.last_usable >= sectors) {
        return corruption_set(corruption, "GPT header", lba, "LastUsableLBA", header.last_usable,
                              "the usable range does not fit on the device");
    }
    if (header.entry_size < sizeof(GptDiskEntry) || header.entry_size > GPT_ENTRY_SIZE_MAX ||
        !is_power_of_2(header.entry_size)) {
        return corruption_set(corruption, "GPT header", lba, "SizeOfPartitionEntry",
                              header.entry_size, "impossible");
    }
    if (header.entry_count == 0 || header.entry_count > GPT_ENTRIES_MAX ||
        header.entry_count * header.entry_size > GPT_TABLE_SIZE_MAX) {
        return corruption_set(corruption, "GPT header", lba, "NumberOfPartitionEntries",
                              header.entry_count, "impossible");
    }
    if (header.entries_lba < 2 ||
        !range_inside(header.entries_lba,
                      div_ceil(header.entry_count * header.entry_size, sector_size), sectors)) {
        return corruption_set(corruption, "GPT header", lba, "PartitionEntryLBA",
                              header.entries_lba, "the entries do not fit on the device");
    }
    *ret = header;
    return 0;
}

static int load_header(BlockDevice *device, uint32_t sector_size, uint64_t lba, uint64_t sectors,
                       GptHeader *ret, Corruption *corruption) {
    _cleanup_free_ uint8_t *sector = malloc(sector_size);
    int r;

    if (sector == NULL) {
        return -ENOMEM;
    }
    r = block_read(device, lba * sector_size, sector, sector_size);
    return r < 0 ? r : decode_header(sector, sector_size, lba, sectors, ret, corruption);
}

static int load_entries(BlockDevice *device, uint32_t sector_size, const GptHeader *header,
                        uint8_t **ret, Corruption *corruption) {
    size_t size = (size_t)header->entry_count * header->entry_size;
    _cleanup_free_ uint8_t *entries = malloc(size);
    uint32_t crc;
    int r;

    if (entries == NULL) {
        return -ENOMEM;
    }
    r = block_read(device, header->entries_lba * sector_size, entries, size);
    if (r < 0) {
        return r;
    }
    crc = crc_of(entries, size);
    if (crc != header->entries_crc) {
        return corruption_set(corruption, "GPT entries", header->entries_lba,
                              "PartitionEntryArrayCRC32", header->entries_crc, "checksum is %08x",
                              crc);
    }
    *ret = STEAL_PTR(entries);
    return 0;
}

/* ---- the entries ---- */

/* The first three fields of a GUID are stored as little-endian numbers. */
static void format_guid(const uint8_t guid[16], char *out, size_t capacity) {
    (void)snprintf(out, capacity,
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", guid[3],
                   guid[2], guid[1], guid[0], guid[5], guid[4], guid[7], guid[6], guid[8], guid[9],
                   guid[10], guid[11], guid[12], guid[13], guid[14], guid[15]);
}

static bool is_surrogate(uint16_t unit) {
    return unit >= 0xd800 && unit <= 0xdfff;
}

/* Names go to terminals and scripts: what is no text becomes U+FFFD. */
static void decode_name(const le16 *disk, char *out, size_t capacity) {
    uint16_t units[GPT_NAME_UNITS];
    size_t count = 0;
    int length;

    while (count < GPT_NAME_UNITS && le16_get(disk[count]) != 0) {
        units[count] = le16_get(disk[count]);
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        bool pair =
            (units[i] & 0xfc00) == 0xd800 && i + 1 < count && (units[i + 1] & 0xfc00) == 0xdc00;

        if (pair) {
            i++;
        } else if (is_surrogate(units[i]) || units[i] < 0x20 ||
                   (units[i] >= 0x7f && units[i] < 0xa0)) {
            units[i] = 0xfffd;
        }
    }
    length = utf16_to_utf8(units, count, out, capacity - 1);
    out[MAX(length, 0)] = '\0';
}

static int decode_entries(const BlockDevice *device, const GptHeader *header,
                          const uint8_t *entries, PartitionTable *table, Corruption *corruption) {
    static const uint8_t unused[16];

    for (uint32_t i = 0; i < header->entry_count; i++) {
        GptDiskEntry disk;
        uint64_t first, last;
        Partition *entry;
        int r;

        memcpy(&disk, entries + (size_t)i * header->entry_size, sizeof(disk));
        if (memcmp(disk.type, unused, sizeof(unused)) == 0) {
            continue;
        }
        first = le64_get(disk.first);
        last = le64_get(disk.last);
        if (first > last || first < header->first_usable || last > header->last_usable) {
            return corruption_set(corruption, "GPT entry", i, first > last ? "EndingLBA" : "range",
                                  first > last ? last : first,
                                  "partition %u lies outside the usable sectors", i + 1);
        }
        r = partition_append(table, device, "GPT entry", i + 1, first, last - first + 1, &entry,
                             corruption);
        if (r < 0) {
            return r;
        }
        format_guid(disk.type, entry->type, sizeof(entry->type));
        format_guid(disk.guid, entry->uuid, sizeof(entry->uuid));
        decode_name(disk.name, entry->name, sizeof(entry->name));
    }
    return 0;
}

/* ---- the two copies ---- */

static int load_copy(BlockDevice *device, uint32_t sector_size, uint64_t lba, uint64_t sectors,
                     GptHeader *ret_header, uint8_t **ret_entries, Corruption *corruption) {
    GptHeader header;
    int r = load_header(device, sector_size, lba, sectors, &header, corruption);

    if (r == 0) {
        r = load_entries(device, sector_size, &header, ret_entries, corruption);
    }
    if (r == 0) {
        *ret_header = header;
    }
    return r;
}

int gpt_read(BlockDevice *device, uint32_t sector_size, PartitionTable *table,
             Corruption *corruption) {
    _cleanup_free_ uint8_t *entries = NULL;
    uint64_t sectors = device->size / sector_size;
    GptHeader header;
    int first, r;

    if (sectors < 3) {
        return -ENOENT;
    }
    first = r = load_copy(device, sector_size, 1, sectors, &header, &entries, corruption);
    if (r < 0 && r != -ENOMEM) {
        r = load_copy(device, sector_size, sectors - 1, sectors, &header, &entries,
                      first == -ENOENT ? corruption : NULL);
    }
    if (r < 0) {
        return first == -ENOENT ? r : first; /* the first copy's fault tells more */
    }
    return decode_entries(device, &header, entries, table, corruption);
}
