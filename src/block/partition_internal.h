/* SPDX-License-Identifier: MIT */
/* What the files that read partition tables and volumes share. */
#ifndef BERTH_BLOCK_PARTITION_INTERNAL_H
#define BERTH_BLOCK_PARTITION_INTERNAL_H

#include "berth/partition.h"

/* Sanitizers need address space and system calls that the child otherwise does not have. */
#if defined(__SANITIZE_ADDRESS__)
#define PROBE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define PROBE_SANITIZED 1
#endif
#endif
#ifndef PROBE_SANITIZED
#define PROBE_SANITIZED 0
#endif

/* partition.c: appends a range in sectors of table->sector_size; checks that it lies on the
 * device and that there is room. *ret_entry: the strings are the caller's to fill. */
int partition_append(PartitionTable *table, const BlockDevice *device, const char *structure,
                     unsigned number, uint64_t first, uint64_t sectors, Partition **ret_entry,
                     Corruption *corruption);

/*
 * gpt.c: reads the table for one sector size into *table (kind, sector size,
 * entries). -ENOENT: neither copy has the signature.
 */
int gpt_read(BlockDevice *device, uint32_t sector_size, PartitionTable *table,
             Corruption *corruption);

/* apm.c: reads an Apple partition map into *table. -ENOENT: there is none. */
int apm_read(BlockDevice *device, PartitionTable *table, Corruption *corruption);

/* mac.c: names a Mac's volume that libblkid does not know, or not by the name that says enough. */
int probe_mac_volume(BlockDevice *device, VolumeProbe *volume);

/*
 * probe.c: table and volumes of an image of `size` bytes, in this process.
 * text (PROBE_TEXT bytes) says what was wrong.
 */
#define PROBE_TEXT 256
typedef int ProbeFn(int fd, uint64_t size, ImageProbe *ret, char *text);
ProbeFn probe_image;

/* isolate.c: runs fn in a confined child, for at most so many seconds, and checks its answer. */
int probe_isolated(int fd, ProbeFn *fn, unsigned seconds, ImageProbe *ret, char *text);

#endif
