/* SPDX-License-Identifier: MIT */
/*
 * Classic HFS for programs other than its daemon: making and checking volumes.
 *
 * Making begins with a plan, which says where everything will lie, or in words
 * why there cannot be such a volume; then it is written. The layout is the one
 * that the Mac's own and other tools make, down to the clump sizes.
 */
#ifndef BERTH_HFS_H
#define BERTH_HFS_H

#include "berth/block.h"
#include "berth/check.h"

#define HFS_SIZE_MIN (400u * 1024u)
#define HFS_SIZE_MAX (UINT64_C(4) << 30)
#define HFS_MAKE_TEXT 160

/* 0 where nothing is asked for in particular. Sizes in bytes. */
typedef struct HfsMakeConfig {
    uint64_t size; /* of the volume; what is left of a sector at the end is not used */
    uint64_t block_size;
    uint64_t clump_size, catalog_clump, extents_clump;
    const char *label;    /* UTF-8 */
    const char *encoding; /* the Mac's script: "macroman" */
    int64_t time;         /* seconds since 1970, local time */
} HfsMakeConfig;

typedef struct HfsMakePlan {
    uint64_t size, sectors;
    uint32_t block_size; /* bytes */
    uint32_t block_count;
    uint32_t bitmap_sectors;
    uint32_t first_block;                              /* sector of the first block */
    uint32_t extents_blocks, catalog_blocks;           /* of the two trees, from block 0 on */
    uint32_t clump_size, catalog_clump, extents_clump; /* bytes, whole blocks */
    uint32_t time;                                     /* the Mac's */
    uint8_t label_length;
    uint8_t label[31]; /* in the script */
} HfsMakePlan;

/* -EINVAL, with the reason in text. */
int hfs_make_plan(const HfsMakeConfig *config, HfsMakePlan *ret, char text[HFS_MAKE_TEXT]);
/* Writes the empty volume, and clears what other filesystems left where they would be looked for.
 * The device must have the plan's size. */
MAY_YIELD int hfs_make(BlockDevice *device, const HfsMakePlan *plan);

/*
 * An Apple partition map with one partition of type Apple_HFS, for a disk of so many bytes: where
 * that partition lies. -EINVAL: no room.
 */
int hfs_make_map_plan(uint64_t size, uint64_t *ret_start, uint64_t *ret_length);
/* Writes driver descriptor map and partition map. */
MAY_YIELD int hfs_make_map(BlockDevice *device);

/* Names: UTF-8 and the Mac's bytes in a script ("macroman"). -EINVAL (also: no such script),
 * -EILSEQ: cannot be written in it, -ENAMETOOLONG. */
#define HFS_TEXT_MAX 31
int hfs_text_encode(const char *encoding, const char *text, uint8_t out[HFS_TEXT_MAX],
                    unsigned *ret_length);
/* Terminated; returns the length. */
int hfs_text_decode(const char *encoding, const uint8_t *mac, unsigned length, char *out,
                    size_t capacity);

/* A CheckFn. */
MAY_YIELD int hfs_check(BlockDevice *device, const CheckConfig *config, CheckReporter *reporter,
                        CheckResult *ret, char text[CHECK_TEXT]);
/* All problems it can find, to the one whose code is NULL. */
extern const CheckProblem hfs_problems[];

#endif
