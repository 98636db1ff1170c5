/* SPDX-License-Identifier: MIT */
/*
 * What the mkfs programs share: the file or device that a volume is made on.
 * Everything says on stderr what is wrong. Private to tools/.
 */
#ifndef BERTH_TOOLS_MKFS_H
#define BERTH_TOOLS_MKFS_H

#include "berth/block.h"

enum { MKFS_USAGE = 1, MKFS_FAILED = 1 }; /* mkfs(8)'s exit code for all that goes wrong */

typedef struct MkfsTarget {
    const char *path;
    int fd;
    uint64_t size; /* that it has, or will have */
    bool created;  /* the file was made for this, and goes again when nothing comes of it */
    bool grow;     /* it is a file that must get that size first */
    BlockDevice *device;
} MkfsTarget;

/*
 * Opens and locks; dry_run: for reading only. size: what a file shall have, 0: as it is. Refuses
 * what is mounted or in use, and without force what is not empty. 0 or an exit code.
 */
int mkfs_target_open(const char *path, uint64_t size, bool dry_run, bool force, MkfsTarget *ret);
/* Gives the file its size and *target its device. 0 or an exit code. */
int mkfs_target_ready(MkfsTarget *target);
void mkfs_target_done(MkfsTarget *target);

/* "400K": bytes, or K, M, G of 1024. */
bool mkfs_parse_size(const char *text, uint64_t *ret);

#endif
