/* SPDX-License-Identifier: MIT */
/*
 * Files around disk images that the Mac's tools made: DiskCopy 4.2 (a header of
 * 84 bytes, the sectors, their tags) and MacBinary (a header of 128 bytes, the
 * data fork, the resource fork), and the first inside the second. The sectors
 * lie in one piece, so that such a file is a slice with an offset; it can only
 * be read, as its checksums would become wrong.
 *
 * Neither header has a signature worth the name. A header counts when all its
 * fields agree with each other and with the size of the file, and for MacBinary
 * when its CRC is right (version II and III; the first version has none and is
 * taken when what it wraps is a DiskCopy image or begins like a volume).
 */
#include "berth/bytes.h"
#include "partition_internal.h"
#include <assert.h>

#define SECTOR 512u

typedef struct DiskCopyHeader {
    uint8_t name_length;
    uint8_t name[63];
    be32 data_size;
    be32 tag_size;
    be32 data_checksum;
    be32 tag_checksum;
    uint8_t disk_format;
    uint8_t format_byte;
    be16 magic;
} DiskCopyHeader;
static_assert(sizeof(DiskCopyHeader) == 84, "DiskCopy 4.2");

#define DISKCOPY_MAGIC 0x0100u
#define DISKCOPY_TAG 12u /* bytes for each sector, if there are tags */
/* Larger ones exist, but nobody wants to wait for their checksum. */
#define DISKCOPY_CHECKED_MAX (32u * 1024u * 1024u)

typedef struct MacBinaryHeader {
    uint8_t zero1;
    uint8_t name_length;
    uint8_t name[63];
    uint8_t finder[9]; /* type, creator, high byte of the flags */
    uint8_t zero2;
    uint8_t place[6];
    uint8_t protected_flag;
    uint8_t zero3;
    be32 data_size;
    be32 resource_size;
    uint8_t dates[8];
    be16 comment_size;
    uint8_t flags_low;
    uint8_t reserved[18];
    be16 extra_header_size;
    uint8_t version, needed_version;
    be16 crc; /* of everything before it */
    uint8_t end[2];
} MacBinaryHeader;
static_assert(sizeof(MacBinaryHeader) == 128, "MacBinary");
static_assert(offsetof(MacBinaryHeader, data_size) == 83, "MacBinary");
static_assert(offsetof(MacBinaryHeader, crc) == 124, "MacBinary II");

/* ---- DiskCopy 4.2 ---- */

/* Sum of big-endian words, turned right by a bit after each. */
static int diskcopy_checksum(BlockDevice *device, uint64_t start, uint32_t size, uint32_t *ret) {
    uint8_t buffer[SECTOR];
    uint32_t sum = 0;

    for (uint32_t at = 0; at < size; at += SECTOR) {
        int r = block_read(device, start + at, buffer, SECTOR);

        if (r < 0) {
            return r;
        }
        for (unsigned i = 0; i < SECTOR; i += 2) {
            sum += (uint32_t)(buffer[i] << 8 | buffer[i + 1]);
            sum = sum >> 1 | sum << 31;
        }
    }
    *ret = sum;
    return 0;
}

/* A container at `start` that has `length` bytes to it. -ENOENT: none. */
static int read_diskcopy(BlockDevice *device, uint64_t start, uint64_t length,
                         ImageContainer *ret) {
    DiskCopyHeader header;
    uint32_t data, tags, sum;
    int r;

    if (length < sizeof(header) + SECTOR) {
        return -ENOENT;
    }
    r = block_read(device, start, &header, sizeof(header));
    if (r < 0) {
        return r;
    }
    data = be32_get(header.data_size);
    tags = be32_get(header.tag_size);
    if (be16_get(header.magic) != DISKCOPY_MAGIC || header.name_length > sizeof(header.name) ||
        data == 0 || data % SECTOR != 0 || (tags != 0 && tags != data / SECTOR * DISKCOPY_TAG) ||
        (uint64_t)data + tags > length - sizeof(header)) {
        return -ENOENT;
    }
    *ret = (ImageContainer){
        .kind = CONTAINER_DISKCOPY, .start = start + sizeof(header), .length = data};
    if (data <= DISKCOPY_CHECKED_MAX) {
        r = diskcopy_checksum(device, ret->start, data, &sum);
        ret->checksum = r < 0                                   ? CHECKSUM_UNKNOWN
                        : sum == be32_get(header.data_checksum) ? CHECKSUM_GOOD
                                                                : CHECKSUM_BAD;
    }
    return 0;
}

/* ---- MacBinary ---- */

/* CRC-16 with polynomial 0x1021, from 0. */
static uint16_t crc16(const uint8_t *bytes, size_t length) {
    unsigned crc = 0;

    for (size_t i = 0; i < length; i++) {
        crc ^= (unsigned)bytes[i] << 8;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
        }
    }
    return (uint16_t)crc;
}

/* Boot blocks, a partition map or a volume's directory: what images of disks begin with. */
static int begins_like_disk(BlockDevice *device, uint64_t start, uint64_t length) {
    uint8_t signatures[3][2];

    if (length < 3 * SECTOR) {
        return 0;
    }
    for (unsigned i = 0; i < 3; i++) {
        int r = block_read(device, start + (uint64_t)i * SECTOR, signatures[i], 2);

        if (r < 0) {
            return r;
        }
    }
    return memcmp(signatures[1], "PM", 2) == 0 || memcmp(signatures[2], "BD", 2) == 0 ||
           memcmp(signatures[2], "H+", 2) == 0 || memcmp(signatures[2], "\xd2\xd7", 2) == 0;
}

static bool macbinary_plausible(const MacBinaryHeader *header, uint64_t size) {
    uint64_t data = be32_get(header->data_size), resource = be32_get(header->resource_size);

    return header->zero1 == 0 && header->zero2 == 0 && header->zero3 == 0 &&
           header->name_length >= 1 && header->name_length <= sizeof(header->name) && data > 0 &&
           be16_get(header->extra_header_size) == 0 &&
           sizeof(*header) + align_up(data, 128) + resource <= align_up(size, 128);
}

static int read_macbinary(BlockDevice *device, ImageContainer *ret) {
    MacBinaryHeader header;
    uint32_t data;
    int r;

    if (device->size < sizeof(header) + SECTOR) {
        return -ENOENT;
    }
    r = block_read(device, 0, &header, sizeof(header));
    if (r < 0 || !macbinary_plausible(&header, device->size)) {
        return r < 0 ? r : -ENOENT;
    }
    data = be32_get(header.data_size);
    if (data > device->size - sizeof(header)) {
        return -ENOENT;
    }
    r = read_diskcopy(device, sizeof(header), data, ret);
    if (r == 0) {
        ret->kind = CONTAINER_MACBINARY_DISKCOPY;
        return 0;
    }
    if (r != -ENOENT) {
        return r;
    }
    if (crc16((const uint8_t *)&header, offsetof(MacBinaryHeader, crc)) != be16_get(header.crc) ||
        header.version < 129) {
        r = begins_like_disk(device, sizeof(header), data);
        if (r <= 0) {
            return r < 0 ? r : -ENOENT;
        }
    }
    *ret = (ImageContainer){
        .kind = CONTAINER_MACBINARY, .start = sizeof(header), .length = align_down(data, SECTOR)};
    return ret->length > 0 ? 0 : -ENOENT;
}

int container_read(BlockDevice *device, ImageContainer *ret) {
    ImageContainer container = {0};
    int r = read_diskcopy(device, 0, device->size, &container);

    if (r == -ENOENT) {
        r = read_macbinary(device, &container);
    }
    if (r == -ENOENT) {
        container = (ImageContainer){.kind = CONTAINER_NONE, .length = device->size};
        r = 0;
    }
    if (r == 0) {
        *ret = container;
    }
    return r;
}

const char *container_name(ImageContainerKind kind) {
    switch (kind) {
    case CONTAINER_DISKCOPY:
        return "DiskCopy 4.2";
    case CONTAINER_MACBINARY:
        return "MacBinary";
    case CONTAINER_MACBINARY_DISKCOPY:
        return "DiskCopy 4.2 in MacBinary";
    case CONTAINER_NONE:
    default:
        return "none";
    }
}
