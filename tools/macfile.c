/* SPDX-License-Identifier: MIT */
/*
 * MacBinary and AppleDouble. MacBinary has no room for FXInfo but two bytes of
 * it; its dates are local time, AppleDouble's are UTC.
 */
#include "macfile.h"
#include "berth/bytes.h"
#include "volume.h"
#include <assert.h>

#define EPOCH_1904 INT64_C(2082844800) /* seconds before 1970 */
#define EPOCH_2000 INT64_C(946684800)
#define BINARY_HEADER 128u
#define BINARY_CRC_AT 124u
#define BINARY_VERSION 130u
#define BINARY_VERSION_OLDEST 129u

void mac_file_done(MacFile *file) {
    free(file->data);
    free(file->resource);
    *file = (MacFile){0};
}

bool mac_form_parse(const char *text, MacForm *ret) {
    static const char *const names[] = {
        [MAC_BINARY] = "macbinary", [MAC_DOUBLE] = "appledouble", [MAC_BINHEX] = "binhex"};

    for (size_t i = MAC_BINARY; i < ARRAY_SIZE(names); i++) {
        if (strcmp(names[i], text) == 0) {
            *ret = (MacForm)i;
            return true;
        }
    }
    return false;
}

/* Polynomial 0x1021, most significant bit first. */
uint16_t mac_crc(uint16_t crc, const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        crc = (uint16_t)(crc ^ bytes[i] << 8);
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = (uint16_t)((crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1);
        }
    }
    return crc;
}

static int copy_fork(const uint8_t *bytes, uint64_t size, uint8_t **ret) {
    uint8_t *copy = malloc(MAX(size, UINT64_C(1)));

    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, bytes, size);
    *ret = copy;
    return 0;
}

/* Local time as the volume has it: the session's volume was opened with the same offset. */
static be32 time_1904(int64_t seconds) {
    int64_t value = seconds + volume_time_offset() + EPOCH_1904;

    return be32_make(value < 0 || value > UINT32_MAX ? 0 : (uint32_t)value);
}

static int64_t time_from_1904(be32 field) {
    return (int64_t)be32_get(field) - EPOCH_1904 - volume_time_offset();
}

/* ---- MacBinary ---- */

typedef struct BinaryHeader {
    uint8_t zero1;
    uint8_t name_length;
    uint8_t name[MAC_NAME_MAX];
    uint8_t type_creator[8];
    uint8_t flags_high;
    uint8_t zero2;
    uint8_t place[6]; /* FInfo's location and folder */
    uint8_t protected_flag;
    uint8_t zero3;
    be32 data_size;
    be32 resource_size;
    be32 created;
    be32 modified;
    be16 comment_size;
    uint8_t flags_low;
    uint8_t signature[4]; /* "mBIN": version III */
    uint8_t script, more_flags;
    uint8_t reserved[8];
    be32 unpacked_size;
    be16 extra_header_size;
    uint8_t version, needed_version;
    be16 crc;
    uint8_t end[2];
} BinaryHeader;
static_assert(sizeof(BinaryHeader) == BINARY_HEADER, "MacBinary");
static_assert(offsetof(BinaryHeader, data_size) == 83, "MacBinary");
static_assert(offsetof(BinaryHeader, crc) == BINARY_CRC_AT, "MacBinary II");

static void append_padded(Text *out, const uint8_t *bytes, uint64_t size) {
    static const char zeros[BINARY_HEADER];

    text_append(out, (const char *)bytes, size);
    text_append(out, zeros, (size_t)(align_up(size, BINARY_HEADER) - size));
}

void mac_binary_encode(const MacFile *file, Text *ret) {
    BinaryHeader header = {
        .name_length = file->name_length,
        .flags_high = file->info[8],
        .data_size = be32_make((uint32_t)file->data_size),
        .resource_size = be32_make((uint32_t)file->resource_size),
        .created = time_1904(file->created),
        .modified = time_1904(file->modified),
        .flags_low = file->info[9],
        .signature = {'m', 'B', 'I', 'N'},
        .script = file->info[24], /* FXInfo: fdScript, fdXFlags */
        .more_flags = file->info[25],
        .version = BINARY_VERSION,
        .needed_version = BINARY_VERSION_OLDEST,
    };

    memcpy(header.name, file->name, file->name_length);
    memcpy(header.type_creator, file->info, 8);
    memcpy(header.place, file->info + 10, 6);
    header.crc = be16_make(mac_crc(0, (const uint8_t *)&header, BINARY_CRC_AT));
    text_append(ret, (const char *)&header, sizeof(header));
    append_padded(ret, file->data, file->data_size);
    append_padded(ret, file->resource, file->resource_size);
}

static const char *binary_wrong(const BinaryHeader *header, size_t size) {
    uint64_t data = be32_get(header->data_size), resource = be32_get(header->resource_size);
    uint64_t start = BINARY_HEADER + align_up(be16_get(header->extra_header_size), BINARY_HEADER);

    if (header->zero1 != 0 || header->zero2 != 0 || header->name_length == 0 ||
        header->name_length > MAC_NAME_MAX) {
        return "not a MacBinary file";
    }
    if (header->needed_version > BINARY_VERSION) {
        return "a later version of MacBinary";
    }
    if (mac_crc(0, (const uint8_t *)header, BINARY_CRC_AT) != be16_get(header->crc)) {
        return "the header's checksum is wrong, or it is version I";
    }
    if (data > MAC_FORK_MAX || resource > MAC_FORK_MAX ||
        start + align_up(data, BINARY_HEADER) + resource > size) {
        return "shorter than its header says";
    }
    return NULL;
}

int mac_binary_decode(const uint8_t *bytes, size_t size, MacFile *ret, const char **why) {
    BinaryHeader header;
    MacFile file = {0};
    size_t start;
    int r;

    *why = size < sizeof(header) ? "too short for MacBinary" : NULL;
    if (*why == NULL) {
        memcpy(&header, bytes, sizeof(header));
        *why = binary_wrong(&header, size);
    }
    if (*why != NULL) {
        return -EBADMSG;
    }
    start = BINARY_HEADER + align_up(be16_get(header.extra_header_size), BINARY_HEADER);
    file.name_length = header.name_length;
    memcpy(file.name, header.name, header.name_length);
    memcpy(file.info, header.type_creator, 8);
    file.info[8] = header.flags_high;
    file.info[9] = header.flags_low;
    memcpy(file.info + 10, header.place, 6);
    if (memcmp(header.signature, "mBIN", 4) == 0) {
        file.info[24] = header.script;
        file.info[25] = header.more_flags;
    }
    file.has_times = true;
    file.created = time_from_1904(header.created);
    file.modified = time_from_1904(header.modified);
    file.data_size = be32_get(header.data_size);
    file.resource_size = be32_get(header.resource_size);
    r = copy_fork(bytes + start, file.data_size, &file.data);
    if (r == 0) {
        r = copy_fork(bytes + start + align_up(file.data_size, BINARY_HEADER), file.resource_size,
                      &file.resource);
    }
    if (r < 0) {
        mac_file_done(&file);
        return r;
    }
    *ret = file;
    return 0;
}

/* ---- AppleDouble ---- */

#define DOUBLE_MAGIC 0x00051607u
#define DOUBLE_VERSION 0x00020000u
#define DOUBLE_VERSION_OLD 0x00010000u
#define DOUBLE_RESOURCE 2u
#define DOUBLE_DATES 8u
#define DOUBLE_FINDER 9u
#define DOUBLE_ENTRIES 3u
#define DOUBLE_DATE_NONE INT32_MIN

typedef struct DoubleEntry {
    be32 id;
    be32 offset;
    be32 length;
} DoubleEntry;

typedef struct DoubleHeader {
    be32 magic;
    be32 version;
    uint8_t filler[16];
    be16 entries;
} DoubleHeader;
static_assert(sizeof(DoubleHeader) == 26, "AppleDouble");

static be32 time_2000(int64_t seconds) {
    int64_t value = seconds - EPOCH_2000;

    value = value < INT32_MIN || value > INT32_MAX ? DOUBLE_DATE_NONE : value;
    return be32_make((uint32_t)(int32_t)value);
}

void mac_double_encode(const MacFile *file, Text *ret) {
    const uint32_t first = sizeof(DoubleHeader) + DOUBLE_ENTRIES * sizeof(DoubleEntry);
    be32 dates[4] = {time_2000(file->created), time_2000(file->modified), time_2000(INT64_MAX),
                     time_2000(INT64_MAX)};
    DoubleHeader header = {.magic = be32_make(DOUBLE_MAGIC),
                           .version = be32_make(DOUBLE_VERSION),
                           .entries = be16_make(DOUBLE_ENTRIES)};
    DoubleEntry entries[DOUBLE_ENTRIES] = {
        {be32_make(DOUBLE_FINDER), be32_make(first), be32_make(MAC_INFO_SIZE)},
        {be32_make(DOUBLE_DATES), be32_make(first + MAC_INFO_SIZE), be32_make(sizeof(dates))},
        {be32_make(DOUBLE_RESOURCE), be32_make(first + MAC_INFO_SIZE + (uint32_t)sizeof(dates)),
         be32_make((uint32_t)file->resource_size)},
    };

    text_append(ret, (const char *)&header, sizeof(header));
    text_append(ret, (const char *)entries, sizeof(entries));
    text_append(ret, (const char *)file->info, MAC_INFO_SIZE);
    text_append(ret, (const char *)dates, sizeof(dates));
    text_append(ret, (const char *)file->resource, file->resource_size);
}

static int take_entry(const uint8_t *bytes, const DoubleEntry *entry, MacFile *file) {
    const uint8_t *at = bytes + be32_get(entry->offset);
    uint32_t length = be32_get(entry->length);
    be32 dates[2];

    switch (be32_get(entry->id)) {
    case DOUBLE_FINDER:
        memcpy(file->info, at, MIN(length, MAC_INFO_SIZE));
        return 0;
    case DOUBLE_DATES:
        if (length >= sizeof(dates)) {
            memcpy(dates, at, sizeof(dates));
            file->has_times = true;
            file->created = (int32_t)be32_get(dates[0]) + EPOCH_2000;
            file->modified = (int32_t)be32_get(dates[1]) + EPOCH_2000;
        }
        return 0;
    case DOUBLE_RESOURCE:
        if (file->resource != NULL) {
            return -EBADMSG;
        }
        file->resource_size = length;
        return copy_fork(at, length, &file->resource);
    default:
        return 0;
    }
}

int mac_double_decode(const uint8_t *bytes, size_t size, MacFile *file, const char **why) {
    DoubleHeader header;
    unsigned count;
    int r = 0;

    *why = "not an AppleDouble file";
    if (size < sizeof(header)) {
        return -EBADMSG;
    }
    memcpy(&header, bytes, sizeof(header));
    count = be16_get(header.entries);
    if (be32_get(header.magic) != DOUBLE_MAGIC ||
        (be32_get(header.version) != DOUBLE_VERSION &&
         be32_get(header.version) != DOUBLE_VERSION_OLD) ||
        count > (size - sizeof(header)) / sizeof(DoubleEntry)) {
        return -EBADMSG;
    }
    *why = "an entry lies outside the file, or comes twice";
    for (unsigned i = 0; r == 0 && i < count; i++) {
        DoubleEntry entry;

        memcpy(&entry, bytes + sizeof(header) + i * sizeof(entry), sizeof(entry));
        r = range_inside(be32_get(entry.offset), be32_get(entry.length), size) &&
                    be32_get(entry.length) <= MAC_FORK_MAX
                ? take_entry(bytes, &entry, file)
                : -EBADMSG;
    }
    return r;
}
