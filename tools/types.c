/* SPDX-License-Identifier: MIT */
/* The filesystem types of this build: a new one is added to its library and here. */
#include "types.h"

const FileSystemType *const berth_types[] = {&fat_type, &hfs_type, NULL};
