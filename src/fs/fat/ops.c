/* SPDX-License-Identifier: MIT */
/*
 * The table of operations, and the type that programs link in. What FAT cannot
 * do (links, special files) is missing: the framework
 * answers for it.
 */
#include "types.h"

static const FileSystemOps fat_ops = {
    .mount = fat_mount,
    .unmount = fat_unmount,
    .statfs = fat_statfs,
    .sync = fat_sync,
    .recovered = fat_recovered,
    .remount = fat_remount,
    .inode_load = fat_inode_load,
    .inode_evict = fat_inode_evict,
    .setattr = fat_setattr,
    .lookup = fat_lookup,
    .readdir = fat_readdir,
    .create = fat_create,
    .unlink = fat_unlink,
    .rename = fat_rename,
    .parent = fat_parent,
    .map = fat_map,
    .reserve = fat_reserve,
    .unreserve = fat_unreserve,
    .write_commit = fat_write_commit,
    .fallocate = fat_fallocate,
    .getxattr = fat_getxattr,
    .setxattr = fat_setxattr,
    .listxattr = fat_listxattr,
    .removexattr = fat_removexattr,
};

const FileSystemType fat_type = {
    .name = "fat",
    .daemon = "fatd",
    .fs_size = sizeof(FatVolume),
    .inode_size = sizeof(FatInode),
    .probe = fat_probe,
    .ops = &fat_ops,
    .mtime_step_ns = INT64_C(2000000000),
};
