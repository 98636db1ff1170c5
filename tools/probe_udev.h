/* SPDX-License-Identifier: MIT */
/* A probe's result for udev. Private to tools/. */
#ifndef BERTH_TOOLS_PROBE_UDEV_H
#define BERTH_TOOLS_PROBE_UDEV_H

#include "berth/partition.h"

/* ID_FS_TYPE and its like. An exit code; EXIT_SYSTEM without a word when there is no volume. */
int probe_print_udev(const ImageProbe *probe);

#endif
