/* SPDX-License-Identifier: MIT */
/* Encoding and decoding of the side journal (sidejournal_codec.h). Pure. */
#include "sidejournal_codec.h"
#include "berth/lifeline.h"
#include <xxhash.h>

static const uint8_t magic[8] = {'b', 'e', 'r', 't', 'h', 'j', 'n', 'l'};

#define RING_MIN (UINT64_C(2) << 20)
#define RING_MAX (UINT64_C(64) << 20)
#define FRESH_MAX (UINT64_C(8) << 20)

/*
 * A checkpoint begins when the dirty blocks exceed the ring, after a transaction that may add a
 * quarter of the ring and some blocks made anew; and there are no more blocks than the volume has.
 * An entry of 512 bytes carries 24 more.
 */
uint64_t sidejournal_size(uint64_t ring_bytes, uint64_t volume_size) {
    uint64_t ring = ring_bytes == 0 ? LIFELINE_RING_DEFAULT : ring_bytes;
    uint64_t bytes;

    ring = MAX(ring, RING_MIN);
    ring = MIN(ring, RING_MAX);
    volume_size = align_up(MIN(volume_size, 4 * RING_MAX), 65536);
    bytes = MIN(2 * ring + ring / 4 + FRESH_MAX, volume_size);
    return SIDEJOURNAL_BODY + align_up(bytes + bytes / 16, SIDEJOURNAL_BODY);
}

static bool is_zero(const void *bytes, size_t length) {
    const uint8_t *at = bytes;

    for (size_t i = 0; i < length; i++) {
        if (at[i] != 0) {
            return false;
        }
    }
    return true;
}

SideJournalLook sidejournal_look(const uint8_t *bytes, size_t length) {
    if (length >= sizeof(SideJournalDiskHeader) && memcmp(bytes, magic, sizeof(magic)) == 0) {
        return SIDEJOURNAL_OURS;
    }
    return is_zero(bytes, length) ? SIDEJOURNAL_BLANK : SIDEJOURNAL_FOREIGN;
}

static uint64_t header_checksum(const SideJournalDiskHeader *disk) {
    return XXH3_64bits(disk, offsetof(SideJournalDiskHeader, checksum));
}

void sidejournal_header_encode(const SideJournalHeader *header, SideJournalDiskHeader *ret) {
    SideJournalDiskHeader disk = {
        .version = le32_make(SIDEJOURNAL_VERSION),
        .state = le32_make(header->committed ? 1 : 0),
        .sequence = le64_make(header->sequence),
        .volume_size = le64_make(header->volume.size),
    };

    memcpy(disk.magic, magic, sizeof(magic));
    memcpy(disk.type, header->volume.type, sizeof(disk.type));
    memcpy(disk.serial, header->volume.serial, sizeof(disk.serial));
    if (header->committed) {
        disk.block_size = le32_make(header->block_size);
        disk.blocks = le64_make(header->blocks);
        disk.body_length = le64_make(header->body_length);
        disk.body_checksum = le64_make(header->body_checksum);
        disk.log_end = le64_make(header->log_end);
    }
    disk.checksum = le64_make(header_checksum(&disk));
    *ret = disk;
}

static bool string_possible(const char *bytes, size_t size) {
    size_t length = strnlen(bytes, size);

    for (size_t i = 0; i < length; i++) {
        if (bytes[i] < ' ' || bytes[i] == 0x7f) {
            return false;
        }
    }
    return length < size && is_zero(bytes + length, size - length);
}

static bool batch_possible(const SideJournalHeader *header, uint64_t capacity) {
    uint64_t length;

    return header->block_size >= 512 && header->block_size <= 65536 &&
           is_power_of_2(header->block_size) && header->blocks > 0 &&
           header->blocks <= div_ceil(header->volume.size, header->block_size) &&
           u64_mul(header->blocks, sidejournal_entry_length(header->block_size), &length) &&
           length == header->body_length && capacity >= SIDEJOURNAL_BODY &&
           length <= capacity - SIDEJOURNAL_BODY;
}

static bool is_empty(const SideJournalDiskHeader *disk) {
    return is_zero(&disk->block_size, offsetof(SideJournalDiskHeader, zero) -
                                          offsetof(SideJournalDiskHeader, block_size));
}

int sidejournal_header_decode(const SideJournalDiskHeader *disk, uint64_t capacity,
                              SideJournalHeader *ret, const char **text) {
    uint32_t state = le32_get(disk->state);
    SideJournalHeader header = {
        .committed = state == 1,
        .sequence = le64_get(disk->sequence),
        .volume.size = le64_get(disk->volume_size),
        .block_size = le32_get(disk->block_size),
        .blocks = le64_get(disk->blocks),
        .body_length = le64_get(disk->body_length),
        .body_checksum = le64_get(disk->body_checksum),
        .log_end = le64_get(disk->log_end),
    };

    if (is_zero(disk, sizeof(*disk))) {
        return 0;
    }
    if (memcmp(disk->magic, magic, sizeof(magic)) != 0) {
        *text = "is not one";
    } else if (le64_get(disk->checksum) != header_checksum(disk)) {
        *text = "has a damaged header";
    } else if (le32_get(disk->version) != SIDEJOURNAL_VERSION) {
        *text = "is of another version";
    } else if (state > 1 || !is_zero(&disk->reserved, sizeof(disk->reserved)) ||
               !is_zero(disk->zero, sizeof(disk->zero)) || header.volume.size > INT64_MAX ||
               !string_possible(disk->type, sizeof(disk->type)) ||
               !string_possible(disk->serial, sizeof(disk->serial)) ||
               !(header.committed ? batch_possible(&header, capacity) : is_empty(disk))) {
        *text = "has an impossible header";
    } else {
        memcpy(header.volume.type, disk->type, sizeof(header.volume.type));
        memcpy(header.volume.serial, disk->serial, sizeof(header.volume.serial));
        *ret = header;
        return 1;
    }
    return -EUCLEAN;
}

uint64_t sidejournal_entry_length(uint32_t block_size) {
    return sizeof(SideJournalDiskEntry) + block_size / SIDEJOURNAL_UNIT * sizeof(le64) + block_size;
}

SideJournalDiskEntry sidejournal_entry_encode(const SideJournalEntry *entry) {
    return (SideJournalDiskEntry){.block = le64_make(entry->block),
                                  .flags = le32_make(entry->known ? 1 : 0)};
}

int sidejournal_entry_decode(const SideJournalDiskEntry *disk, const SideJournalHeader *header,
                             uint64_t least, SideJournalEntry *ret) {
    uint64_t block = le64_get(disk->block);

    if (block < least || block >= div_ceil(header->volume.size, header->block_size) ||
        le32_get(disk->flags) > 1 || le32_get(disk->reserved) != 0) {
        return -EUCLEAN;
    }
    *ret = (SideJournalEntry){.block = block, .known = le32_get(disk->flags) == 1};
    return 0;
}

uint64_t sidejournal_unit_checksum(const uint8_t *bytes) {
    return XXH3_64bits(bytes, SIDEJOURNAL_UNIT);
}
