/* SPDX-License-Identifier: MIT */
/*
 * Drives a volume through the in-process client with paths instead of file ids: what crash tests
 * and fuzzers are written in. All functions return 0 or a count, or a negative errno. As a
 * well-behaved front-end it counts lookups and lets go of what it looked up.
 */
#ifndef TESTS_VOLUME_DRIVER_H
#define TESTS_VOLUME_DRIVER_H

#include "berth/service.h"

typedef struct Driver {
    Volume *volume;
    LocalClient *client;
    uint64_t seen; /* highest response number */
    uint64_t seq;
    int64_t now_ns; /* the time stamped on the next request; advances by itself */
} Driver;

int driver_mount(Driver *driver, BlockDevice *device, const char *options); /* FAT */
int driver_mount_type(Driver *driver, const FileSystemType *type, BlockDevice *device,
                      const char *options);
/* The same with a side journal, which may be NULL and stays the caller's. */
int driver_mount_journal(Driver *driver, const FileSystemType *type, BlockDevice *device,
                         SideJournal *journal, const char *options);
/* Unmounts if mounted, frees. */
int driver_unmount(Driver *driver);
/* Frees without unmounting, as if the process had been killed: nothing more is written. */
FileSystem *driver_fs(Driver *driver);

int driver_call(Driver *driver, FSRequest *request, FSResponse *response);
/* Walks "a/b/c" from the root; "" is the root. *ret_attr may be NULL. */
int driver_stat(Driver *driver, const char *path, FsAttr *ret_attr);
int driver_create(Driver *driver, const char *path, FsFileType type);
int driver_unlink(Driver *driver, const char *path, bool directory);
int driver_rename(Driver *driver, const char *from, const char *to);
int driver_exchange(Driver *driver, const char *one, const char *other);
int64_t driver_write(Driver *driver, const char *path, uint64_t offset, const void *bytes,
                     uint32_t length);
int64_t driver_read(Driver *driver, const char *path, uint64_t offset, void *bytes,
                    uint32_t length);
int driver_truncate(Driver *driver, const char *path, uint64_t size);
int driver_sync(Driver *driver);
/* Calls fn for each entry of a directory. */
int driver_list(Driver *driver, const char *path, void (*fn)(void *arg, const FsDirEntry *entry),
                void *arg);
/* Visits everything below the root, reading at most read_max bytes of each file; stops after
 * entries_max names. Errors are counted, not fatal. Returns the names visited. */
int driver_walk(Driver *driver, unsigned entries_max, uint32_t read_max, unsigned *ret_errors);

#endif
