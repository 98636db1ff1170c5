/* SPDX-License-Identifier: MIT */
/*
 * Volumes of the Mac by their signature in the third sector: MFS, which
 * libblkid does not know; HFS+ and HFSX; and the HFS volumes that only wrap an
 * HFS+ volume, which look like any HFS volume to those who do not ask. Named
 * here so that they can be refused by name.
 */
#include "berth/bytes.h"
#include "berth/text.h"
#include "partition_internal.h"
#include <assert.h>
#include <stdio.h>

#define MAC_DIRECTORY_AT 1024u
#define LABEL_MAX 27u

/* The fields that HFS and MFS have in the same place, and HFS's word about what it wraps. */
typedef struct MacDiskDirectory {
    be16 signature;
    uint8_t dates[8];
    be16 attributes;
    be16 files;
    be16 map_start;
    be16 map_length;
    be16 blocks;
    be32 block_size;
    uint8_t more[12];
    uint8_t name_length;
    uint8_t name[LABEL_MAX];
    uint8_t rest[60];
    be16 embed_signature;
} MacDiskDirectory;
static_assert(offsetof(MacDiskDirectory, block_size) == 20, "drAlBlkSiz");
static_assert(offsetof(MacDiskDirectory, name_length) == 36, "drVN");
static_assert(offsetof(MacDiskDirectory, embed_signature) == 124, "drVCSize");

static void set_type(VolumeProbe *volume, const char *type, const char *subtype) {
    (void)snprintf(volume->type, sizeof(volume->type), "%s", type);
    (void)snprintf(volume->subtype, sizeof(volume->subtype), "%s", subtype);
}

static bool is_mfs(const MacDiskDirectory *directory) {
    uint32_t block_size = be32_get(directory->block_size);

    return be16_get(directory->blocks) > 0 && block_size >= 512 && block_size % 512 == 0 &&
           directory->name_length >= 1 && directory->name_length <= LABEL_MAX;
}

/* libblkid gives the bytes as they are. */
static void set_label(const MacDiskDirectory *directory, VolumeProbe *volume) {
    (void)macroman_to_utf8(directory->name, MIN(directory->name_length, LABEL_MAX), volume->label,
                           sizeof(volume->label));
}

int probe_mac_volume(BlockDevice *device, VolumeProbe *volume) {
    MacDiskDirectory directory;
    bool unknown = volume->type[0] == '\0';
    int r;

    if (volume->length < MAC_DIRECTORY_AT + 512) {
        return 0;
    }
    r = block_read(device, volume->start + MAC_DIRECTORY_AT, &directory, sizeof(directory));
    if (r < 0) {
        return r;
    }
    switch (be16_get(directory.signature)) {
    case 0xd2d7:
        if (unknown && is_mfs(&directory)) {
            set_type(volume, "mfs", "MFS");
            set_label(&directory, volume);
        }
        break;
    case 0x4244: /* "BD" */
        if (strcmp(volume->type, "hfsplus") == 0 && be16_get(directory.embed_signature) == 0x482b) {
            set_type(volume, "hfsplus", "HFS+ in an HFS wrapper");
        } else if (strcmp(volume->type, "hfs") == 0) {
            set_label(&directory, volume);
        }
        break;
    case 0x482b: /* "H+" */
        if (strcmp(volume->type, "hfsplus") == 0) {
            set_type(volume, "hfsplus", "HFS+");
        }
        break;
    case 0x4858: /* "HX" */
        if (strcmp(volume->type, "hfsplus") == 0) {
            set_type(volume, "hfsplus", "HFSX");
        }
        break;
    default:
        break;
    }
    return 0;
}
