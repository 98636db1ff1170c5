/* SPDX-License-Identifier: MIT */
/* The inode table as the rest of the module sees it: made, emptied and freed with a mount. */
#ifndef BERTH_VFS_INODE_H
#define BERTH_VFS_INODE_H

#include "berth/fs.h"

#define FS_INODES_UNUSED_MAX 8192 /* unreferenced inodes kept in core */

int fs_inodes_new(FileSystem *fs);
/* No inode may be referenced. All are evicted, the dead ones reclaimed; first error. */
MAY_YIELD int fs_inodes_evict_all(FileSystem *fs);
/* The table must be empty. */
void fs_inodes_free(FileSystem *fs);

#endif
