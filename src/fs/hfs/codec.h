/* SPDX-License-Identifier: MIT */
/*
 * HFS structures between disk and core: pure functions, shared by the daemon, mkfs and fsck. What
 * does not make sense is -EUCLEAN with a Corruption; nothing here reads or logs.
 */
#ifndef HFS_CODEC_H
#define HFS_CODEC_H

#include "berth/report.h"
#include "btree.h"

#define HFS_FILE_SIZE_MAX UINT64_C(0x7fffffff)
#define HFS_TIME_NONE INT64_MIN

typedef struct HfsExtent {
    uint16_t start, count; /* allocation blocks; count 0: none */
} HfsExtent;

typedef struct HfsMdb {
    uint32_t created, modified, backed_up; /* Mac time */
    uint16_t attributes, bitmap_start, alloc_hint, block_count, first_block, free_blocks;
    uint16_t root_files, root_dirs;
    uint32_t block_size, clump_size, extents_clump, catalog_clump;
    uint32_t next_cnid, write_count, file_count, dir_count;
    uint8_t name_length;
    uint8_t name[HFS_LABEL_MAX];
    uint32_t extents_size, catalog_size; /* bytes */
    HfsExtent extents_file[HFS_EXTENTS_IN_RECORD], catalog_file[HFS_EXTENTS_IN_RECORD];
} HfsMdb;

/* What a volume's third sector begins with, when it is not classic HFS. NULL: not known. */
const char *hfs_signature_foreign(const HfsDiskMdb *disk);
/* Geometry and the trees' places against each other: sectors, bitmap, blocks. -EUCLEAN. */
int hfs_mdb_decode(const HfsDiskMdb *disk, HfsMdb *ret, Corruption *corruption);
/* Leaves what HfsMdb does not hold (Finder information, backup sequence) as it is. */
void hfs_mdb_encode(const HfsMdb *mdb, HfsDiskMdb *disk);
/* Bytes from the volume's start to the end of its last allocation block. */
uint64_t hfs_mdb_blocks_end(const HfsMdb *mdb);
/* 0: the volume fits; 1: the device is too short for it. */
int hfs_mdb_check_device(const HfsMdb *mdb, uint64_t device_size);

void hfs_extents_decode(const HfsDiskExtentRecord *disk, HfsExtent ret[HFS_EXTENTS_IN_RECORD]);
void hfs_extents_encode(const HfsExtent extents[HFS_EXTENTS_IN_RECORD], HfsDiskExtentRecord *ret);
/* All inside the volume, none behind an empty one. */
int hfs_extents_check(const HfsMdb *mdb, const HfsExtent extents[HFS_EXTENTS_IN_RECORD],
                      const char *structure, uint64_t where, Corruption *corruption);

/* ---- keys ---- */

extern const BtreeFormat hfs_catalog_format, hfs_extents_format;

/* A place in the catalog. Length 0: of a thread record. */
typedef struct HfsKey {
    uint32_t parent;
    uint8_t length;
    uint8_t name[HFS_NAME_MAX];
} HfsKey;

void hfs_key_encode(const HfsKey *key, HfsDiskCatalogKey *ret);
/* Of a key that has passed the format's check. */
void hfs_key_decode(const uint8_t *key, HfsKey *ret);
bool hfs_key_equal(const HfsKey *a, const HfsKey *b); /* byte by byte */
/* The name that a file has for the time of an exchange; there is a number in it. */
#define HFS_SPARE_NAME "EXCHG%03u.TMP"
#define HFS_SPARE_NAMES 1000u
bool hfs_key_is_spare(const HfsKey *key);
HfsDiskExtentKey hfs_extent_key(uint32_t file, uint8_t fork, uint16_t first_block);

/* ---- catalog records ---- */

typedef struct HfsRecord {
    uint8_t type; /* HFS_RECORD_ */
    uint32_t id;  /* of a file or directory */
    union {
        HfsDiskDir dir;
        HfsDiskFile file;
        HfsKey target; /* of a thread: where its object is */
    };
} HfsRecord;

/* From a record's data, which may be hostile. where: for the report. */
int hfs_record_decode(const uint8_t *data, unsigned size, uint64_t where, HfsRecord *ret,
                      Corruption *corruption);
void hfs_thread_encode(uint8_t type, const HfsKey *target, HfsDiskThread *ret);

/* ---- times ---- */

/* offset_ns: local time minus UTC. */
int64_t hfs_time_decode(be32 time, int64_t offset_ns);
be32 hfs_time_encode(int64_t ns, int64_t offset_ns);

#endif
