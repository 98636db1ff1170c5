/* SPDX-License-Identifier: MIT */
/* Memory that is handed to another process as a descriptor. */
#ifndef BERTH_IPC_MEMFILE_H
#define BERTH_IPC_MEMFILE_H

#include <stdint.h>

/* A memfd of that size (close-on-exec, never executable, not yet sealed). 0 or -errno. */
int memfile_new(const char *name, uint64_t size, int *ret);

#endif
