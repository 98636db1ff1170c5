/* SPDX-License-Identifier: MIT */
/*
 * HFS structures between disk and core. Every number of an image is checked here before
 * anything is computed from it.
 */
#include "codec.h"
#include "order.h"

#define NS_PER_SECOND INT64_C(1000000000)

/* ---- master directory block ---- */

const char *hfs_signature_foreign(const HfsDiskMdb *disk) {
    switch (be16_get(disk->signature)) {
    case HFS_SIGNATURE:
        return be16_get(disk->embed_signature) == HFS_SIGNATURE_PLUS
                   ? "an HFS wrapper around an HFS+ volume"
                   : NULL;
    case HFS_SIGNATURE_MFS:
        return "an MFS volume";
    case HFS_SIGNATURE_PLUS:
    case HFS_SIGNATURE_X:
        return "an HFS+ volume";
    default:
        return NULL;
    }
}

static void mdb_take(const HfsDiskMdb *disk, HfsMdb *ret) {
    *ret = (HfsMdb){
        .created = be32_get(disk->created),
        .modified = be32_get(disk->modified),
        .backed_up = be32_get(disk->backed_up),
        .attributes = be16_get(disk->attributes),
        .bitmap_start = be16_get(disk->bitmap_start),
        .alloc_hint = be16_get(disk->alloc_hint),
        .block_count = be16_get(disk->block_count),
        .first_block = be16_get(disk->first_block),
        .free_blocks = be16_get(disk->free_blocks),
        .root_files = be16_get(disk->root_files),
        .root_dirs = be16_get(disk->root_dirs),
        .block_size = be32_get(disk->block_size),
        .clump_size = be32_get(disk->clump_size),
        .extents_clump = be32_get(disk->extents_clump),
        .catalog_clump = be32_get(disk->catalog_clump),
        .next_cnid = be32_get(disk->next_cnid),
        .write_count = be32_get(disk->write_count),
        .file_count = be32_get(disk->file_count),
        .dir_count = be32_get(disk->dir_count),
        .name_length = (uint8_t)MIN(disk->name_length, HFS_LABEL_MAX),
        .extents_size = be32_get(disk->extents_size),
        .catalog_size = be32_get(disk->catalog_size),
    };
    memcpy(ret->name, disk->name, ret->name_length);
    hfs_extents_decode(&disk->extents_file, ret->extents_file);
    hfs_extents_decode(&disk->catalog_file, ret->catalog_file);
}

static int mdb_bad(Corruption *corruption, const char *field, uint64_t value, const char *text) {
    return corruption_set(corruption, "MDB", (uint64_t)HFS_MDB_SECTOR * HFS_SECTOR, field, value,
                          "%s", text);
}

static int check_geometry(const HfsMdb *mdb, Corruption *corruption) {
    uint32_t bitmap = ((uint32_t)mdb->block_count + HFS_SECTOR * 8 - 1) / (HFS_SECTOR * 8);

    if (mdb->block_size == 0 || mdb->block_size % HFS_SECTOR != 0) {
        return mdb_bad(corruption, "drAlBlkSiz", mdb->block_size, "no multiple of 512");
    }
    if (mdb->block_count == 0) {
        return mdb_bad(corruption, "drNmAlBlks", 0, "no allocation blocks");
    }
    if (mdb->bitmap_start <= HFS_MDB_SECTOR) {
        return mdb_bad(corruption, "drVBMSt", mdb->bitmap_start, "the bitmap covers the MDB");
    }
    if (mdb->first_block < mdb->bitmap_start + bitmap) {
        return mdb_bad(corruption, "drAlBlSt", mdb->first_block,
                       "the allocation blocks begin inside the bitmap");
    }
    if (mdb->free_blocks > mdb->block_count) {
        return mdb_bad(corruption, "drFreeBks", mdb->free_blocks, "more than there are blocks");
    }
    return 0;
}

/* A tree's file: whole nodes, and its first extents inside the volume. */
static int check_tree_file(const HfsMdb *mdb, const char *name, const HfsExtent *extents,
                           uint32_t size, bool all, Corruption *corruption) {
    uint64_t bytes = 0;
    int r = hfs_extents_check(mdb, extents, name, 0, corruption);

    for (unsigned i = 0; r == 0 && i < HFS_EXTENTS_IN_RECORD; i++) {
        bytes += (uint64_t)extents[i].count * mdb->block_size;
    }
    if (r == 0 && (size < HFS_NODE_SIZE || size % HFS_NODE_SIZE != 0)) {
        r = mdb_bad(corruption, name, size, "no whole nodes");
    }
    if (r == 0 && (bytes == 0 || (all && size > bytes))) {
        r = mdb_bad(corruption, name, size, "longer than its extents");
    }
    return r;
}

int hfs_mdb_decode(const HfsDiskMdb *disk, HfsMdb *ret, Corruption *corruption) {
    HfsMdb mdb;
    int r;

    if (be16_get(disk->signature) != HFS_SIGNATURE) {
        return mdb_bad(corruption, "drSigWord", be16_get(disk->signature), "not an HFS volume");
    }
    if (disk->name_length == 0 || disk->name_length > HFS_LABEL_MAX) {
        return mdb_bad(corruption, "drVN", disk->name_length, "no length of a volume's name");
    }
    mdb_take(disk, &mdb);
    r = check_geometry(&mdb, corruption);
    if (r == 0) {
        r = check_tree_file(&mdb, "drXTFlSize", mdb.extents_file, mdb.extents_size, true,
                            corruption);
    }
    if (r == 0) {
        r = check_tree_file(&mdb, "drCTFlSize", mdb.catalog_file, mdb.catalog_size, false,
                            corruption);
    }
    if (r == 0) {
        *ret = mdb;
    }
    return r;
}

void hfs_mdb_encode(const HfsMdb *mdb, HfsDiskMdb *disk) {
    disk->signature = be16_make(HFS_SIGNATURE);
    disk->created = be32_make(mdb->created);
    disk->modified = be32_make(mdb->modified);
    disk->backed_up = be32_make(mdb->backed_up);
    disk->attributes = be16_make(mdb->attributes);
    disk->bitmap_start = be16_make(mdb->bitmap_start);
    disk->alloc_hint = be16_make(mdb->alloc_hint);
    disk->block_count = be16_make(mdb->block_count);
    disk->first_block = be16_make(mdb->first_block);
    disk->free_blocks = be16_make(mdb->free_blocks);
    disk->root_files = be16_make(mdb->root_files);
    disk->root_dirs = be16_make(mdb->root_dirs);
    disk->block_size = be32_make(mdb->block_size);
    disk->clump_size = be32_make(mdb->clump_size);
    disk->extents_clump = be32_make(mdb->extents_clump);
    disk->catalog_clump = be32_make(mdb->catalog_clump);
    disk->next_cnid = be32_make(mdb->next_cnid);
    disk->write_count = be32_make(mdb->write_count);
    disk->file_count = be32_make(mdb->file_count);
    disk->dir_count = be32_make(mdb->dir_count);
    disk->name_length = mdb->name_length;
    memset(disk->name, 0, sizeof(disk->name));
    memcpy(disk->name, mdb->name, mdb->name_length);
    disk->extents_size = be32_make(mdb->extents_size);
    disk->catalog_size = be32_make(mdb->catalog_size);
    hfs_extents_encode(mdb->extents_file, &disk->extents_file);
    hfs_extents_encode(mdb->catalog_file, &disk->catalog_file);
}

uint64_t hfs_mdb_blocks_end(const HfsMdb *mdb) {
    return (uint64_t)mdb->first_block * HFS_SECTOR + (uint64_t)mdb->block_count * mdb->block_size;
}

int hfs_mdb_check_device(const HfsMdb *mdb, uint64_t device_size) {
    return hfs_mdb_blocks_end(mdb) > device_size;
}

/* ---- extents ---- */

void hfs_extents_decode(const HfsDiskExtentRecord *disk, HfsExtent ret[HFS_EXTENTS_IN_RECORD]) {
    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD; i++) {
        ret[i] = (HfsExtent){be16_get(disk->extents[i].start), be16_get(disk->extents[i].count)};
    }
}

void hfs_extents_encode(const HfsExtent extents[HFS_EXTENTS_IN_RECORD], HfsDiskExtentRecord *ret) {
    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD; i++) {
        ret->extents[i] = (HfsDiskExtent){be16_make(extents[i].start), be16_make(extents[i].count)};
    }
}

int hfs_extents_check(const HfsMdb *mdb, const HfsExtent extents[HFS_EXTENTS_IN_RECORD],
                      const char *structure, uint64_t where, Corruption *corruption) {
    for (unsigned i = 0; i < HFS_EXTENTS_IN_RECORD; i++) {
        const HfsExtent *extent = &extents[i];

        if (extent->count == 0) {
            continue;
        }
        if (i > 0 && extents[i - 1].count == 0) {
            return corruption_set(corruption, structure, where, "xdrNumABlks", extent->count,
                                  "extent %u comes after an empty one", i);
        }
        if ((uint32_t)extent->start + extent->count > mdb->block_count) {
            return corruption_set(corruption, structure, where, "xdrStABN", extent->start,
                                  "%u blocks from there end outside the volume of %u",
                                  extent->count, mdb->block_count);
        }
    }
    return 0;
}

/* ---- keys ---- */

static int catalog_compare(const uint8_t *a, const uint8_t *b) {
    const size_t name = offsetof(HfsDiskCatalogKey, name);
    const size_t length = offsetof(HfsDiskCatalogKey, name_length);
    /* Big-endian: as bytes they are in order. */
    int order = memcmp(a + offsetof(HfsDiskCatalogKey, parent),
                       b + offsetof(HfsDiskCatalogKey, parent), sizeof(be32));

    return order != 0 ? order : hfs_name_compare(a + name, a[length], b + name, b[length]);
}

static bool catalog_key_check(const uint8_t *key, unsigned length) {
    unsigned name_length;

    if (length < HFS_CATALOG_KEY_MIN) {
        return false;
    }
    name_length = key[offsetof(HfsDiskCatalogKey, name_length)];
    return name_length <= HFS_NAME_MAX && name_length <= length - HFS_CATALOG_KEY_MIN;
}

static int extents_compare(const uint8_t *a, const uint8_t *b) {
    HfsDiskExtentKey left, right;

    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    if (be32_get(left.file) != be32_get(right.file)) {
        return be32_get(left.file) < be32_get(right.file) ? -1 : 1;
    }
    if (left.fork != right.fork) {
        return left.fork < right.fork ? -1 : 1;
    }
    return (int)be16_get(left.first_block) - (int)be16_get(right.first_block);
}

static bool extents_key_check(const uint8_t *key, unsigned length) {
    uint8_t fork = length == HFS_EXTENT_KEY_LENGTH ? key[offsetof(HfsDiskExtentKey, fork)] : 1;

    return fork == HFS_FORK_DATA || fork == HFS_FORK_RESOURCE;
}

const BtreeFormat hfs_catalog_format = {
    .name = "catalog",
    .max_key_length = HFS_CATALOG_KEY_MAX,
    .compare = catalog_compare,
    .key_check = catalog_key_check,
};

const BtreeFormat hfs_extents_format = {
    .name = "extents overflow",
    .max_key_length = HFS_EXTENT_KEY_LENGTH,
    .compare = extents_compare,
    .key_check = extents_key_check,
};

void hfs_key_encode(const HfsKey *key, HfsDiskCatalogKey *ret) {
    *ret = (HfsDiskCatalogKey){
        .length = (uint8_t)(HFS_CATALOG_KEY_MIN + key->length),
        .parent = be32_make(key->parent),
        .name_length = key->length,
    };
    memcpy(ret->name, key->name, key->length);
}

void hfs_key_decode(const uint8_t *key, HfsKey *ret) {
    const uint8_t *name = key + offsetof(HfsDiskCatalogKey, name);
    be32 parent;

    memcpy(&parent, key + offsetof(HfsDiskCatalogKey, parent), sizeof(parent));
    *ret = (HfsKey){
        .parent = be32_get(parent),
        .length = key[offsetof(HfsDiskCatalogKey, name_length)],
    };
    memcpy(ret->name, name, ret->length);
}

bool hfs_key_equal(const HfsKey *a, const HfsKey *b) {
    return a->parent == b->parent && a->length == b->length &&
           memcmp(a->name, b->name, a->length) == 0;
}

bool hfs_key_is_spare(const HfsKey *key) {
    return key->length == 12 && memcmp(key->name, "EXCHG", 5) == 0 &&
           memcmp(key->name + 8, ".TMP", 4) == 0;
}

HfsDiskExtentKey hfs_extent_key(uint32_t file, uint8_t fork, uint16_t first_block) {
    return (HfsDiskExtentKey){
        .length = HFS_EXTENT_KEY_LENGTH,
        .fork = fork,
        .file = be32_make(file),
        .first_block = be16_make(first_block),
    };
}

/* ---- catalog records ---- */

static int record_short(Corruption *corruption, uint64_t where, const uint8_t *data,
                        unsigned size) {
    return corruption_set(corruption, "catalog record", where, "cdrType", data[0],
                          "%u bytes are too few", size);
}

static int thread_decode(const uint8_t *data, unsigned size, uint64_t where, HfsRecord *ret,
                         Corruption *corruption) {
    const unsigned fixed = offsetof(HfsDiskThread, name);
    HfsDiskThread thread = {0};

    if (size < fixed) {
        return record_short(corruption, where, data, size);
    }
    memcpy(&thread, data, MIN(size, sizeof(thread)));
    if (thread.name_length > HFS_NAME_MAX || thread.name_length > size - fixed) {
        return corruption_set(corruption, "catalog record", where, "thdCName", thread.name_length,
                              "no length of a name");
    }
    ret->target = (HfsKey){.parent = be32_get(thread.parent), .length = thread.name_length};
    memcpy(ret->target.name, thread.name, thread.name_length);
    return 0;
}

int hfs_record_decode(const uint8_t *data, unsigned size, uint64_t where, HfsRecord *ret,
                      Corruption *corruption) {
    HfsRecord record = {.type = data[0]};
    int r = 0;

    switch (record.type) {
    case HFS_RECORD_DIR:
        if (size < sizeof(record.dir)) {
            return record_short(corruption, where, data, size);
        }
        memcpy(&record.dir, data, sizeof(record.dir));
        record.id = be32_get(record.dir.id);
        break;
    case HFS_RECORD_FILE:
        if (size < sizeof(record.file)) {
            return record_short(corruption, where, data, size);
        }
        memcpy(&record.file, data, sizeof(record.file));
        record.id = be32_get(record.file.id);
        break;
    case HFS_RECORD_DIR_THREAD:
    case HFS_RECORD_FILE_THREAD:
        r = thread_decode(data, size, where, &record, corruption);
        break;
    default:
        return corruption_set(corruption, "catalog record", where, "cdrType", record.type,
                              "no kind of record");
    }
    if (r == 0 && (record.type == HFS_RECORD_DIR || record.type == HFS_RECORD_FILE) &&
        record.id != HFS_CNID_ROOT && record.id < HFS_CNID_FIRST_USER) {
        return corruption_set(corruption, "catalog record", where, "id", record.id,
                              "a reserved number");
    }
    if (r == 0) {
        *ret = record;
    }
    return r;
}

void hfs_thread_encode(uint8_t type, const HfsKey *target, HfsDiskThread *ret) {
    *ret = (HfsDiskThread){
        .type = type,
        .parent = be32_make(target->parent),
        .name_length = target->length,
    };
    memcpy(ret->name, target->name, target->length);
}

/* ---- times ---- */

int64_t hfs_time_decode(be32 time, int64_t offset_ns) {
    int64_t seconds = (int64_t)be32_get(time) - (int64_t)HFS_EPOCH_OFFSET;

    return seconds * NS_PER_SECOND - offset_ns;
}

be32 hfs_time_encode(int64_t ns, int64_t offset_ns) {
    int64_t local, seconds;

    if (__builtin_add_overflow(ns, offset_ns, &local)) {
        local = ns;
    }
    seconds = local / NS_PER_SECOND - (local % NS_PER_SECOND < 0) + (int64_t)HFS_EPOCH_OFFSET;
    return be32_make((uint32_t)MAX(0, MIN(seconds, (int64_t)UINT32_MAX)));
}
