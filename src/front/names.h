/* SPDX-License-Identifier: MIT */
/*
 * Names that the daemon has told of: (directory, name) stands for a file. What
 * may be kept, and when it goes, is decided in nodes.c; this is the container:
 * found by directory and name, listed by directory and by file, bounded by an
 * order of last use. Two names with the same 64-bit hash displace each other.
 *
 * No lock: the caller's (nodes->lock).
 */
#ifndef BERTH_FRONT_NAMES_H
#define BERTH_FRONT_NAMES_H

#include "berth/fs.h"
#include "berth/hashmap.h"

#define NAMES_MAX 32768u /* about 5 MiB with names of usual length */

typedef struct Names {
    HashMap map;
    List order; /* least recently used first */
} Names;

/* What a node contributes: heads of the lists that its names are in. */
typedef struct NameLists {
    List below; /* names in this directory */
    List here;  /* names of this file */
} NameLists;

void names_init(Names *names);
/* Every NameLists must be empty by then. */
void names_done(Names *names);
void name_lists_init(NameLists *lists);

/* May forget another name for it; without memory nothing is kept. */
void names_store(Names *names, uint64_t directory, NameLists *directory_lists, uint64_t file_id,
                 NameLists *file_lists, const FsName *name, bool exact);
/* The file_id that the name stands for, and whether it is the stored spelling; 0: not known. */
uint64_t names_find(Names *names, uint64_t directory, const FsName *name, bool *ret_exact);
void names_drop_below(Names *names, NameLists *lists);
void names_drop_here(Names *names, NameLists *lists);

#endif
