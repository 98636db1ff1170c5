/* SPDX-License-Identifier: MIT */
/*
 * What is in an image: the file around it and the partition table by our own code, the
 * content of each volume by libblkid and, for the Mac's, mac.c. Runs in the process that isolate.c
 * made for it; both parse bytes that nobody has checked.
 */
#include "berth/text.h"
#include "partition_internal.h"
#include <blkid/blkid.h>
#include <inttypes.h>
#include <stdio.h>

static blkid_probe probe_free(blkid_probe probe) {
    blkid_free_probe(probe);
    return NULL;
}
DEFINE_CLEANUP(blkid_probe, probe_free);

/* Copies a label as UTF-8 without control characters, cut at a character's end. */
static void copy_text(const char *value, size_t length, char *out, size_t capacity) {
    size_t used = 0;

    for (size_t at = 0; at < length && value[at] != '\0';) {
        uint32_t character;
        int n = utf8_decode(value + at, length - at, &character);
        bool printable = n > 0 && character >= 0x20 && (character < 0x7f || character >= 0xa0);
        size_t bytes = printable ? (size_t)n : 1;

        if (used + bytes >= capacity) {
            break;
        }
        if (printable) {
            memcpy(out + used, value + at, bytes);
        } else {
            out[used] = '?';
        }
        used += bytes;
        at += n > 0 ? (size_t)n : 1;
    }
    out[used] = '\0';
}

static void copy_value(blkid_probe probe, const char *name, char *out, size_t capacity) {
    const char *value;
    size_t length;

    if (blkid_probe_lookup_value(probe, name, &value, &length) == 0) {
        copy_text(value, length, out, capacity);
    }
}

/* libblkid's names to ours; its finer distinction becomes the subtype. */
static void name_type(blkid_probe probe, VolumeProbe *volume) {
    static const char *const ext_types[] = {"ext2", "ext3", "ext4", "ext4dev"};
    char type[sizeof(volume->type)] = "";

    copy_value(probe, "TYPE", type, sizeof(type));
    (void)snprintf(volume->type, sizeof(volume->type), "%s", type);
    if (strcmp(type, "vfat") == 0) {
        (void)snprintf(volume->type, sizeof(volume->type), "fat");
        copy_value(probe, "VERSION", volume->subtype, sizeof(volume->subtype));
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(ext_types); i++) {
        if (strcmp(type, ext_types[i]) == 0) {
            (void)snprintf(volume->type, sizeof(volume->type), "ext4");
            (void)snprintf(volume->subtype, sizeof(volume->subtype), "%s", type);
        }
    }
}

/* A volume that cannot be recognised, or could be two things, has no type. */
static void probe_content(int fd, VolumeProbe *ret) {
    _cleanup_(probe_freep) blkid_probe probe = blkid_new_probe();
    uint64_t start = ret->start, length = ret->length;

    if (probe == NULL || length == 0 || length > INT64_MAX ||
        blkid_probe_set_device(probe, fd, (blkid_loff_t)start, (blkid_loff_t)length) != 0) {
        return;
    }
    if (blkid_probe_enable_superblocks(probe, 1) != 0 ||
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID |
                                                     BLKID_SUBLKS_TYPE | BLKID_SUBLKS_VERSION |
                                                     BLKID_SUBLKS_SECTYPE) != 0 ||
        blkid_do_safeprobe(probe) != 0) {
        return;
    }
    name_type(probe, ret);
    copy_value(probe, "LABEL", ret->label, sizeof(ret->label));
    copy_value(probe, "UUID", ret->uuid, sizeof(ret->uuid));
}

static void probe_volume(int fd, BlockDevice *device, uint64_t start, uint64_t length,
                         VolumeProbe *ret) {
    *ret = (VolumeProbe){.start = start, .length = length};
    probe_content(fd, ret);
    /* What cannot be read is not known: no reason to give up the other volumes. */
    (void)probe_mac_volume(device, ret);
}

/* The table of the disk that lies in the container; its places become those of the file. */
static int probe_table(BlockDevice *device, ImageProbe *ret, Corruption *corruption) {
    _cleanup_(block_freep) BlockDevice *disk = NULL;
    int r = container_read(device, &ret->container);

    if (r == 0) {
        r = block_slice_new(device, ret->container.start, ret->container.length, &disk);
    }
    if (r == 0) {
        r = partition_read(disk, &ret->table, corruption);
    }
    for (unsigned i = 0; r == 0 && i < ret->table.count; i++) {
        ret->table.entries[i].start += ret->container.start;
    }
    return r;
}

int probe_image(int fd, uint64_t size, ImageProbe *ret, char *text) {
    _cleanup_(block_freep) BlockDevice *device = NULL;
    BlockOpenConfig config = {.fd = fd, .readonly = true, .length = size};
    Corruption corruption = {.structure = "", .field = ""};
    int r = block_posix_new(&config, &device);

    ret->size = size;
    if (r == 0) {
        r = probe_table(device, ret, &corruption);
    }
    if (r == -EUCLEAN) {
        (void)snprintf(text, PROBE_TEXT, "%s %" PRIu64 ", %s %" PRIu64 ": %s", corruption.structure,
                       corruption.where, corruption.field, corruption.value, corruption.text);
        return r;
    }
    if (r < 0) {
        (void)snprintf(text, PROBE_TEXT, "partition table: %s", strerror(-r));
        return r;
    }
    if (ret->table.kind == PARTITION_NONE) {
        probe_volume(fd, device, ret->container.start, ret->container.length, &ret->whole);
    }
    for (unsigned i = 0; i < ret->table.count; i++) {
        probe_volume(fd, device, ret->table.entries[i].start, ret->table.entries[i].length,
                     &ret->volumes[i]);
    }
    return 0;
}
