/* SPDX-License-Identifier: MIT */
/*
 * The fsck programs: one command line, one way of asking and telling for all
 * formats. Each format's program is this with its check function. Private to
 * tools/.
 */
#ifndef BERTH_TOOLS_FSCK_H
#define BERTH_TOOLS_FSCK_H

#include "berth/check.h"

typedef struct FsckFormat {
    const char *program; /* "fsck.hfs" */
    const char *type;    /* as the probe calls it: "hfs" */
    const char *title;   /* "classic HFS" */
    CheckFn *check;
} FsckFormat;

/* The program's main(). */
int fsck_main(int argc, char **argv, const FsckFormat *format);

#endif
