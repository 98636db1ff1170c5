/* SPDX-License-Identifier: MIT */
/*
 * The plan: a block is as small as 65,535 of them allow (hence the odd sizes
 * of HFS, 17,920 bytes for instance); each tree gets a 128th of the blocks, and
 * grows by that. The bitmap has no more sectors than the blocks need, and what
 * it leaves over of the last block's sectors is not used.
 *
 * Writing: the places of other filesystems' signatures, bitmap, trees, then the
 * two master directory blocks after a flush: a volume whose making was cut off
 * is no volume.
 */
#include "berth/hfs.h"
#include "codec.h"
#include "encoding.h"
#include <inttypes.h>
#include <stdio.h>

#define CLUMPS_IN_VOLUME 128u /* a tree's clump is the volume's 128th part */
#define CLUMP_BLOCKS 4u       /* of files */
#define SECTORS_AROUND 5u     /* boot blocks, MDB, alternate MDB, reserved */
#define BLOCK_SIZE_MAX (UINT32_C(1) << 30)
#define CLEARED_AT_START \
    (132u * 1024u) /* where libblkid finds everything but what lies at the end */
#define CLEARED_AT_END (64u * 1024u)

/* ---- the plan ---- */

/* How many blocks there are, and sectors of bitmap for them. */
static void divide(HfsMakePlan *plan, uint32_t sectors_in_block) {
    uint64_t usable = plan->sectors - SECTORS_AROUND;
    uint32_t bitmap = 0, blocks = 0;

    do {
        bitmap++;
        blocks = (uint32_t)MIN((usable - bitmap) / sectors_in_block, (uint64_t)UINT32_MAX);
    } while (bitmap < HFS_BLOCKS_MAX / (8 * HFS_SECTOR) + 1 && blocks > bitmap * 8 * HFS_SECTOR);
    plan->block_count = blocks;
    plan->bitmap_sectors = bitmap;
    plan->first_block = HFS_BITMAP_SECTOR + bitmap;
}

static int choose_block_size(HfsMakePlan *plan, uint64_t asked, char *text) {
    uint32_t smallest = (uint32_t)(1 + ((plan->sectors - SECTORS_AROUND - 1) >> 16));

    if (asked % HFS_SECTOR != 0 || asked > BLOCK_SIZE_MAX) {
        (void)snprintf(text, HFS_MAKE_TEXT, "block size %" PRIu64 ": must be a multiple of %u",
                       asked, HFS_SECTOR);
        return -EINVAL;
    }
    if (asked == 0) {
        divide(plan, smallest);
        if (plan->block_count > HFS_BLOCKS_MAX) {
            divide(plan, ++smallest);
        }
        plan->block_size = smallest * HFS_SECTOR;
        return 0;
    }
    divide(plan, (uint32_t)(asked / HFS_SECTOR));
    if (plan->block_count > HFS_BLOCKS_MAX) {
        (void)snprintf(text, HFS_MAKE_TEXT,
                       "block size %" PRIu64 ": too small, a volume has at most %u blocks", asked,
                       HFS_BLOCKS_MAX);
        return -EINVAL;
    }
    plan->block_size = (uint32_t)asked;
    return 0;
}

/* In whole blocks; `asked` in bytes, or 0. */
static uint32_t clump_blocks(const HfsMakePlan *plan, uint64_t asked, uint32_t usual) {
    uint64_t blocks = asked != 0 ? div_ceil(asked, plan->block_size) : MAX(usual, (uint32_t)1);

    return (uint32_t)MIN(blocks, (uint64_t)INT32_MAX / plan->block_size);
}

static int set_clumps(const HfsMakeConfig *config, HfsMakePlan *plan, char *text) {
    uint32_t usual = plan->block_count / CLUMPS_IN_VOLUME;

    plan->extents_blocks = clump_blocks(plan, config->extents_clump, usual);
    plan->catalog_blocks = clump_blocks(plan, config->catalog_clump, usual);
    if ((uint64_t)plan->catalog_blocks * plan->block_size < 2ull * HFS_NODE_SIZE) {
        plan->catalog_blocks = 2; /* a header and a leaf */
    }
    plan->extents_clump = plan->extents_blocks * plan->block_size;
    plan->catalog_clump = plan->catalog_blocks * plan->block_size;
    plan->clump_size = clump_blocks(plan, config->clump_size, CLUMP_BLOCKS) * plan->block_size;
    if ((uint64_t)plan->extents_blocks + plan->catalog_blocks >= plan->block_count) {
        (void)snprintf(text, HFS_MAKE_TEXT,
                       "extents overflow file and catalog of %" PRIu32 " and %" PRIu32
                       " blocks leave nothing of the volume's %" PRIu32,
                       plan->extents_blocks, plan->catalog_blocks, plan->block_count);
        return -EINVAL;
    }
    return 0;
}

static int set_label(const HfsMakeConfig *config, HfsMakePlan *plan, char *text) {
    const HfsEncoding *encoding = hfs_encoding_find(config->encoding);
    unsigned length = 0;
    int r;

    if (encoding == NULL) {
        (void)snprintf(text, HFS_MAKE_TEXT, "no such encoding: %.60s", config->encoding);
        return -EINVAL;
    }
    r = hfs_name_from_utf8(encoding, config->label, strlen(config->label), plan->label, &length);
    if (r == -ENAMETOOLONG || length > HFS_LABEL_MAX) {
        (void)snprintf(text, HFS_MAKE_TEXT, "the label is longer than %u bytes", HFS_LABEL_MAX);
        return -EINVAL;
    }
    if (r < 0) {
        (void)snprintf(text, HFS_MAKE_TEXT,
                       r == -EILSEQ ? "the label cannot be written in %s"
                                    : "the label is empty or has a slash in it",
                       hfs_encoding_name(encoding));
        return -EINVAL;
    }
    plan->label_length = (uint8_t)length;
    return 0;
}

static int set_time(const HfsMakeConfig *config, HfsMakePlan *plan, char *text) {
    if (config->time < -(int64_t)HFS_EPOCH_OFFSET ||
        config->time > (int64_t)UINT32_MAX - (int64_t)HFS_EPOCH_OFFSET) {
        (void)snprintf(text, HFS_MAKE_TEXT, "HFS knows no dates but those of 1904 to 2040");
        return -EINVAL;
    }
    plan->time = (uint32_t)(config->time + (int64_t)HFS_EPOCH_OFFSET);
    return 0;
}

int hfs_make_plan(const HfsMakeConfig *config, HfsMakePlan *ret, char text[HFS_MAKE_TEXT]) {
    HfsMakePlan plan = {.size = config->size, .sectors = config->size / HFS_SECTOR};
    int r;

    if (config->size < HFS_SIZE_MIN || config->size > HFS_SIZE_MAX) {
        (void)snprintf(text, HFS_MAKE_TEXT, "%" PRIu64 " bytes: an HFS volume has 400 KiB to 4 GiB",
                       config->size);
        return -EINVAL;
    }
    r = choose_block_size(&plan, config->block_size, text);
    if (r == 0) {
        r = set_clumps(config, &plan, text);
    }
    if (r == 0) {
        r = set_label(config, &plan, text);
    }
    if (r == 0) {
        r = set_time(config, &plan, text);
    }
    if (r == 0) {
        *ret = plan;
    }
    return r;
}

/* ---- the trees, in memory ---- */

typedef struct TreeImage {
    BtreeSource source;
    uint8_t *bytes;
    uint32_t nodes;
} TreeImage;

static int image_read(BtreeSource *source, uint32_t node, uint8_t *out) {
    const TreeImage *image = container_of(source, TreeImage, source);

    if (node >= image->nodes) {
        return -ERANGE;
    }
    memcpy(out, image->bytes + (size_t)node * HFS_NODE_SIZE, HFS_NODE_SIZE);
    return 0;
}

static int image_write(BtreeSource *source, uint32_t node, uint32_t offset, const uint8_t *bytes,
                       uint32_t length, unsigned rank) {
    TreeImage *image = container_of(source, TreeImage, source);

    (void)rank;
    if (node >= image->nodes || !range_inside(offset, length, HFS_NODE_SIZE)) {
        return -ERANGE;
    }
    memcpy(image->bytes + (size_t)node * HFS_NODE_SIZE + offset, bytes, length);
    return 0;
}

static int image_new(TreeImage *image, const BtreeFormat *format, uint64_t size) {
    *image = (TreeImage){
        .source = {.node_size = HFS_NODE_SIZE, .read = image_read, .write = image_write},
        .bytes = calloc(1, size),
        .nodes = (uint32_t)(size / HFS_NODE_SIZE),
    };
    return image->bytes == NULL ? -ENOMEM : btree_create(format, &image->source, image->nodes);
}

/* The root directory and its thread. */
static int fill_catalog(TreeImage *image, const HfsMakePlan *plan) {
    HfsDiskDir dir = {
        .type = HFS_RECORD_DIR,
        .id = be32_make(HFS_CNID_ROOT),
        .created = be32_make(plan->time),
        .modified = be32_make(plan->time),
    };
    HfsDiskThread thread = {
        .type = HFS_RECORD_DIR_THREAD,
        .parent = be32_make(HFS_CNID_ROOT_PARENT),
        .name_length = (uint8_t)plan->label_length,
    };
    HfsKey place = {.parent = HFS_CNID_ROOT_PARENT, .length = (uint8_t)plan->label_length};
    HfsDiskCatalogKey key;
    Btree tree;
    int r = btree_open(&tree, &hfs_catalog_format, &image->source, image->nodes);

    memcpy(thread.name, plan->label, plan->label_length);
    memcpy(place.name, plan->label, plan->label_length);
    if (r == 0) {
        hfs_key_encode(&place, &key);
        r = btree_insert(&tree, (const uint8_t *)&key, &dir, sizeof(dir));
    }
    if (r == 0) {
        place = (HfsKey){.parent = HFS_CNID_ROOT};
        hfs_key_encode(&place, &key);
        r = btree_insert(&tree, (const uint8_t *)&key, &thread, sizeof(thread));
    }
    return r;
}

/* ---- writing ---- */

static int clear(BlockDevice *device, uint64_t offset, uint64_t length) {
    static const uint8_t zeros[16384];
    int r = 0;

    for (uint64_t at = 0; r == 0 && at < length; at += sizeof(zeros)) {
        r = block_write(device, offset + at, zeros, MIN(length - at, sizeof(zeros)));
    }
    return r;
}

static int write_bitmap(BlockDevice *device, const HfsMakePlan *plan) {
    uint32_t used = plan->extents_blocks + plan->catalog_blocks;
    size_t size = (size_t)plan->bitmap_sectors * HFS_SECTOR;
    _cleanup_free_ uint8_t *bitmap = calloc(1, size);

    if (bitmap == NULL) {
        return -ENOMEM;
    }
    memset(bitmap, 0xff, used / 8);
    if (used % 8 != 0) {
        bitmap[used / 8] = (uint8_t)(0xff00u >> used % 8);
    }
    return block_write(device, (uint64_t)HFS_BITMAP_SECTOR * HFS_SECTOR, bitmap, size);
}

static int write_trees(BlockDevice *device, const HfsMakePlan *plan) {
    uint64_t extents_size = (uint64_t)plan->extents_blocks * plan->block_size;
    uint64_t catalog_size = (uint64_t)plan->catalog_blocks * plan->block_size;
    uint64_t start = (uint64_t)plan->first_block * HFS_SECTOR;
    TreeImage extents = {0}, catalog = {0};
    int r = image_new(&extents, &hfs_extents_format, extents_size);

    if (r == 0) {
        r = image_new(&catalog, &hfs_catalog_format, catalog_size);
    }
    if (r == 0) {
        r = fill_catalog(&catalog, plan);
    }
    if (r == 0) {
        r = block_write(device, start, extents.bytes, extents_size);
    }
    if (r == 0) {
        r = block_write(device, start + extents_size, catalog.bytes, catalog_size);
    }
    free(extents.bytes);
    free(catalog.bytes);
    return r;
}

static HfsDiskExtentRecord one_extent(uint32_t start, uint32_t count) {
    HfsDiskExtentRecord record = {0};

    record.extents[0] = (HfsDiskExtent){be16_make((uint16_t)start), be16_make((uint16_t)count)};
    return record;
}

static void make_mdb(const HfsMakePlan *plan, HfsDiskMdb *ret) {
    uint32_t used = plan->extents_blocks + plan->catalog_blocks;

    *ret = (HfsDiskMdb){
        .signature = be16_make(HFS_SIGNATURE),
        .created = be32_make(plan->time),
        .modified = be32_make(plan->time),
        .attributes = be16_make(HFS_ATTR_UNMOUNTED),
        .bitmap_start = be16_make(HFS_BITMAP_SECTOR),
        .alloc_hint = be16_make((uint16_t)used),
        .block_count = be16_make((uint16_t)plan->block_count),
        .block_size = be32_make(plan->block_size),
        .clump_size = be32_make(plan->clump_size),
        .first_block = be16_make((uint16_t)plan->first_block),
        .next_cnid = be32_make(HFS_CNID_FIRST_USER),
        .free_blocks = be16_make((uint16_t)(plan->block_count - used)),
        .name_length = (uint8_t)plan->label_length,
        .extents_clump = be32_make(plan->extents_clump),
        .catalog_clump = be32_make(plan->catalog_clump),
        .extents_size = be32_make(plan->extents_blocks * plan->block_size),
        .extents_file = one_extent(0, plan->extents_blocks),
        .catalog_size = be32_make(plan->catalog_blocks * plan->block_size),
        .catalog_file = one_extent(plan->extents_blocks, plan->catalog_blocks),
    };
    memcpy(ret->name, plan->label, plan->label_length);
}

static int write_mdbs(BlockDevice *device, const HfsMakePlan *plan) {
    uint8_t sector[HFS_SECTOR] = {0};
    HfsDiskMdb mdb;
    int r;

    make_mdb(plan, &mdb);
    memcpy(sector, &mdb, sizeof(mdb));
    r = block_write(device, (plan->sectors - HFS_ALT_MDB_FROM_END) * HFS_SECTOR, sector,
                    sizeof(sector));
    if (r == 0) {
        r = block_write(device, (uint64_t)HFS_MDB_SECTOR * HFS_SECTOR, sector, sizeof(sector));
    }
    return r;
}

int hfs_make(BlockDevice *device, const HfsMakePlan *plan) {
    int r;

    if (device->size != plan->size) {
        return -EINVAL;
    }
    r = clear(device, 0, CLEARED_AT_START);
    if (r == 0) {
        r = clear(device, device->size - CLEARED_AT_END, CLEARED_AT_END);
    }
    if (r == 0) {
        r = write_bitmap(device, plan);
    }
    if (r == 0) {
        r = write_trees(device, plan);
    }
    if (r == 0) {
        r = block_flush(device);
    }
    if (r == 0) {
        r = write_mdbs(device, plan);
    }
    return r < 0 ? r : block_flush(device);
}
