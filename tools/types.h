/* SPDX-License-Identifier: MIT */
/* The filesystem types of this build, and `berth list --types`. Private to tools/. */
#ifndef BERTH_TOOLS_TYPES_H
#define BERTH_TOOLS_TYPES_H

#include "berth/fs.h"

/* NULL-terminated. */
extern const FileSystemType *const berth_types[];

#endif
