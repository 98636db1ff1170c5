/* SPDX-License-Identifier: MIT */
/*
 * What berth get and put share: copying a file's bytes between a session and
 * this side, in a Mac's travelling form if asked for. Private to tools/.
 */
#ifndef BERTH_TOOLS_COPY_H
#define BERTH_TOOLS_COPY_H

#include "macfile.h"
#include "session.h"

#define COPY_DEPTH_MAX 128u

typedef struct Copy {
    Session *session;
    MacForm form;
    const char *encoding; /* of names in travelling forms */
    bool recursive;
    int64_t newest_ns; /* no file gets a later date than this */
    bool failed;       /* something could not be copied; said on stderr */
} Copy;

/* Says what went wrong with what; sets failed. Returns the error. */
int copy_failed(Copy *copy, const char *name, int error);

/* A file of this side as a whole. -EFBIG: more than both forks can have. */
int copy_read_all(int fd, uint8_t **ret, size_t *ret_size);
int copy_write_all(int fd, const void *bytes, uint64_t size);

/* copy_out.c: the object `attr` to `name` in the directory dir_fd (AT_FDCWD: as the user wrote it).
 */
int copy_out(Copy *copy, const FsAttr *attr, const char *mac_name, int dir_fd, const char *name);
/* copy_in.c: the file or directory `path` of this side into a directory of the volume, as `name`;
 * NULL: the name that it has. */
int copy_in(Copy *copy, const char *path, uint64_t directory, const char *name);
/* All that is in a directory of this side. */
int copy_in_entries(Copy *copy, const char *path, uint64_t directory);

#endif
