/* SPDX-License-Identifier: MIT */
/*
 * Classic HFS on disk, as Inside Macintosh: Files describes it ("IM" below; the chapter is "File
 * Manager", 2-52 to 2-77). Only layout: no logic. All numbers are big-endian; times are seconds
 * since 1904-01-01 in local time; extents count allocation blocks, everything else 512-byte
 * sectors unless it says bytes.
 *
 * A volume: two sectors of boot blocks | MDB | bitmap | allocation blocks | alternate MDB (the
 * last sector but one) | one sector reserved.
 */
#ifndef HFS_FORMAT_H
#define HFS_FORMAT_H

#include "berth/bytes.h"
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define HFS_SECTOR 512u
#define HFS_MDB_SECTOR 2u       /* from the volume's start */
#define HFS_ALT_MDB_FROM_END 2u /* sectors before the end of the volume */
#define HFS_BITMAP_SECTOR 3u    /* where drVBMSt usually points */
#define HFS_SIGNATURE 0x4244u   /* "BD" */
#define HFS_SIGNATURE_MFS 0xd2d7u
#define HFS_SIGNATURE_PLUS 0x482bu /* "H+", also in drVCSize of a wrapper */
#define HFS_SIGNATURE_X 0x4858u    /* "HX" */
#define HFS_NODE_SIZE 512u
#define HFS_NAME_MAX 31u  /* bytes of a file's or directory's name */
#define HFS_LABEL_MAX 27u /* of a volume's */
#define HFS_BLOCKS_MAX 65535u
#define HFS_EXTENTS_IN_RECORD 3u

/* Seconds from 1904-01-01 to 1970-01-01. */
#define HFS_EPOCH_OFFSET UINT32_C(2082844800)

/* Catalog node ids (IM 2-65). */
#define HFS_CNID_ROOT_PARENT 1u
#define HFS_CNID_ROOT 2u
#define HFS_CNID_EXTENTS 3u
#define HFS_CNID_CATALOG 4u
#define HFS_CNID_BAD_BLOCKS 5u
#define HFS_CNID_FIRST_USER 16u

/* ---- extents (IM 2-75) ---- */

typedef struct HfsDiskExtent {
    be16 start; /* xdrStABN */
    be16 count; /* xdrNumABlks */
} HfsDiskExtent;
typedef struct HfsDiskExtentRecord {
    HfsDiskExtent extents[HFS_EXTENTS_IN_RECORD];
} HfsDiskExtentRecord;
static_assert(sizeof(HfsDiskExtentRecord) == 12, "IM 2-75");

#define HFS_FORK_DATA 0x00u
#define HFS_FORK_RESOURCE 0xffu

typedef struct HfsDiskExtentKey {
    uint8_t length;   /* xkrKeyLen: 7 */
    uint8_t fork;     /* xkrFkType */
    be32 file;        /* xkrFNum */
    be16 first_block; /* xkrFABN: the file's allocation block that the record begins with */
} HfsDiskExtentKey;
static_assert(sizeof(HfsDiskExtentKey) == 8, "IM 2-74");
#define HFS_EXTENT_KEY_LENGTH 7u

/* ---- master directory block (IM 2-60) ---- */

typedef struct HfsDiskMdb {
    be16 signature;      /* drSigWord */
    be32 created;        /* drCrDate */
    be32 modified;       /* drLsMod */
    be16 attributes;     /* drAtrb: HFS_ATTR_ */
    be16 root_files;     /* drNmFls: files in the root directory */
    be16 bitmap_start;   /* drVBMSt */
    be16 alloc_hint;     /* drAllocPtr: where the next search for space begins */
    be16 block_count;    /* drNmAlBlks */
    be32 block_size;     /* drAlBlkSiz: bytes, a multiple of 512 */
    be32 clump_size;     /* drClpSiz: bytes, default of files */
    be16 first_block;    /* drAlBlSt: sector of allocation block 0 */
    be32 next_cnid;      /* drNxtCNID */
    be16 free_blocks;    /* drFreeBks */
    uint8_t name_length; /* drVN */
    uint8_t name[HFS_LABEL_MAX];
    be32 backed_up;                   /* drVolBkUp */
    be16 backup_sequence;             /* drVSeqNum */
    be32 write_count;                 /* drWrCnt */
    be32 extents_clump;               /* drXTClpSiz: bytes */
    be32 catalog_clump;               /* drCTClpSiz: bytes */
    be16 root_dirs;                   /* drNmRtDirs: directories in the root directory */
    be32 file_count;                  /* drFilCnt: files on the volume */
    be32 dir_count;                   /* drDirCnt: directories, without the root */
    be32 finder_info[8];              /* drFndrInfo */
    be16 embed_signature;             /* drVCSize; HFS_SIGNATURE_PLUS in a wrapper (TN1150) */
    HfsDiskExtent embed;              /* drVBMCSize, drCtlCSize; where the HFS+ volume lies */
    be32 extents_size;                /* drXTFlSize: bytes */
    HfsDiskExtentRecord extents_file; /* drXTExtRec */
    be32 catalog_size;                /* drCTFlSize: bytes */
    HfsDiskExtentRecord catalog_file; /* drCTExtRec */
} HfsDiskMdb;
static_assert(sizeof(HfsDiskMdb) == 162, "IM 2-60");
static_assert(offsetof(HfsDiskMdb, block_size) == 20, "drAlBlkSiz");
static_assert(offsetof(HfsDiskMdb, next_cnid) == 30, "drNxtCNID");
static_assert(offsetof(HfsDiskMdb, name_length) == 36, "drVN");
static_assert(offsetof(HfsDiskMdb, backed_up) == 64, "drVolBkUp");
static_assert(offsetof(HfsDiskMdb, write_count) == 70, "drWrCnt");
static_assert(offsetof(HfsDiskMdb, file_count) == 84, "drFilCnt");
static_assert(offsetof(HfsDiskMdb, finder_info) == 92, "drFndrInfo");
static_assert(offsetof(HfsDiskMdb, embed_signature) == 124, "drVCSize");
static_assert(offsetof(HfsDiskMdb, extents_size) == 130, "drXTFlSize");
static_assert(offsetof(HfsDiskMdb, catalog_file) == 150, "drCTExtRec");

#define HFS_ATTR_HARDWARE_LOCK (1u << 7)
#define HFS_ATTR_UNMOUNTED (1u << 8) /* cleanly: 0 while it is mounted for writing */
#define HFS_ATTR_SPARED (1u << 9)    /* bad blocks have been spared */
#define HFS_ATTR_INCONSISTENT (1u << 11)
#define HFS_ATTR_SOFTWARE_LOCK (1u << 15)

/* ---- B*-trees (IM 2-66 to 2-72; the same in HFS+, TN1150) ---- */

typedef struct BtreeDiskNode {
    be32 next;      /* ndFLink: 0 none */
    be32 previous;  /* ndBLink */
    uint8_t kind;   /* ndType: BTREE_NODE_ */
    uint8_t height; /* ndNHeight: leaves 1 */
    be16 records;   /* ndNRecs */
    uint8_t reserved[2];
} BtreeDiskNode;
static_assert(sizeof(BtreeDiskNode) == 14, "IM 2-68");
/* At a node's end, backwards: be16 offsets of the records and of the free space behind them. */

#define BTREE_NODE_INDEX 0x00u
#define BTREE_NODE_HEADER 0x01u
#define BTREE_NODE_MAP 0x02u
#define BTREE_NODE_LEAF 0xffu

typedef struct BtreeDiskHeader {
    be16 depth;           /* bthDepth */
    be32 root;            /* bthRoot */
    be32 leaf_records;    /* bthNRecs */
    be32 first_leaf;      /* bthFNode */
    be32 last_leaf;       /* bthLNode */
    be16 node_size;       /* bthNodeSize */
    be16 max_key_length;  /* bthKeyLen */
    be32 node_count;      /* bthNNodes */
    be32 free_nodes;      /* bthFree */
    uint8_t reserved[76]; /* bthResv; used by HFS+ */
} BtreeDiskHeader;
static_assert(sizeof(BtreeDiskHeader) == 106, "IM 2-70");
/* The header node's records: BtreeDiskHeader, 128 reserved bytes, the first part of the map. Map
 * nodes follow in ndFLink, with one record each. The first bit (0x80 of byte 0) is node 0. */
#define BTREE_HEADER_RESERVED 128u

/* ---- catalog (IM 2-70 to 2-73) ---- */

typedef struct HfsDiskCatalogKey {
    uint8_t length; /* ckrKeyLen: 6 + name_length in leaves, 37 in index nodes */
    uint8_t reserved;
    be32 parent; /* ckrParID */
    uint8_t name_length;
    uint8_t name[HFS_NAME_MAX]; /* ckrCName */
} HfsDiskCatalogKey;
static_assert(sizeof(HfsDiskCatalogKey) == 38, "IM 2-71");
#define HFS_CATALOG_KEY_MIN 6u
#define HFS_CATALOG_KEY_MAX 37u

#define HFS_RECORD_DIR 1u
#define HFS_RECORD_FILE 2u
#define HFS_RECORD_DIR_THREAD 3u
#define HFS_RECORD_FILE_THREAD 4u

typedef struct HfsDiskPoint {
    be16 v, h;
} HfsDiskPoint;

/* FInfo and DInfo (Finder Interface): 16 bytes each, and as many of FXInfo and DXInfo. */
typedef struct HfsDiskFileInfo {
    uint8_t type[4];    /* fdType */
    uint8_t creator[4]; /* fdCreator */
    be16 flags;         /* fdFlags: HFS_FINDER_ */
    HfsDiskPoint location;
    be16 folder; /* fdFldr */
} HfsDiskFileInfo;
static_assert(sizeof(HfsDiskFileInfo) == 16, "FInfo");

#define HFS_FINDER_INVISIBLE 0x4000u
#define HFS_FINDER_ALIAS 0x8000u
#define HFS_FINDER_INFO_SIZE 32u /* FInfo and FXInfo, or DInfo and DXInfo */

typedef struct HfsDiskDir {
    uint8_t type; /* cdrType: HFS_RECORD_DIR */
    uint8_t reserved;
    be16 flags;            /* dirFlags */
    be16 valence;          /* dirVal: entries in it */
    be32 id;               /* dirDirID */
    be32 created;          /* dirCrDat */
    be32 modified;         /* dirMdDat */
    be32 backed_up;        /* dirBkDat */
    uint8_t info[16];      /* dirUsrInfo: DInfo */
    uint8_t more_info[16]; /* dirFndrInfo: DXInfo */
    uint8_t reserved2[16];
} HfsDiskDir;
static_assert(sizeof(HfsDiskDir) == 70, "IM 2-72");

typedef struct HfsDiskFile {
    uint8_t type; /* cdrType: HFS_RECORD_FILE */
    uint8_t reserved;
    uint8_t flags;                        /* filFlags: HFS_FILE_ */
    uint8_t file_type;                    /* filTyp: 0 */
    HfsDiskFileInfo info;                 /* filUsrWds */
    be32 id;                              /* filFlNum */
    be16 data_start;                      /* filStBlk: 0, not used */
    be32 data_size;                       /* filLgLen: bytes */
    be32 data_allocated;                  /* filPyLen */
    be16 resource_start;                  /* filRStBlk: 0, not used */
    be32 resource_size;                   /* filRLgLen */
    be32 resource_allocated;              /* filRPyLen */
    be32 created;                         /* filCrDat */
    be32 modified;                        /* filMdDat */
    be32 backed_up;                       /* filBkDat */
    uint8_t more_info[16];                /* filFndrInfo: FXInfo */
    be16 clump_size;                      /* filClpSize */
    HfsDiskExtentRecord data_extents;     /* filExtRec */
    HfsDiskExtentRecord resource_extents; /* filRExtRec */
    uint8_t reserved2[4];
} HfsDiskFile;
static_assert(sizeof(HfsDiskFile) == 102, "IM 2-72");
static_assert(offsetof(HfsDiskFile, id) == 20, "filFlNum");
static_assert(offsetof(HfsDiskFile, created) == 44, "filCrDat");
static_assert(offsetof(HfsDiskFile, data_extents) == 74, "filExtRec");

#define HFS_FILE_LOCKED 0x01u
#define HFS_FILE_THREAD 0x02u /* it has a thread record */
#define HFS_FILE_USED 0x80u   /* the record is in use */

/* Of a directory: key (directory's own id, no name); of a file only if it was asked for. */
typedef struct HfsDiskThread {
    uint8_t type; /* cdrType: HFS_RECORD_DIR_THREAD, HFS_RECORD_FILE_THREAD */
    uint8_t reserved[9];
    be32 parent; /* thdParID */
    uint8_t name_length;
    uint8_t name[HFS_NAME_MAX]; /* thdCName */
} HfsDiskThread;
static_assert(sizeof(HfsDiskThread) == 46, "IM 2-73");

#endif
