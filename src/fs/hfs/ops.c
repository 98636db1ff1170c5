/* SPDX-License-Identifier: MIT */
/*
 * The table of operations, and the type that programs link in. What HFS cannot do (links, special
 * files) is missing: the framework answers for it.
 */
#include "types.h"

static const FileSystemOps hfs_ops = {
    .mount = hfs_mount,
    .unmount = hfs_unmount,
    .statfs = hfs_statfs,
    .remount = hfs_remount,
    .inode_load = hfs_inode_load,
    .inode_evict = hfs_inode_evict,
    .setattr = hfs_setattr,
    .lookup = hfs_lookup,
    .readdir = hfs_readdir,
    .create = hfs_create,
    .unlink = hfs_unlink,
    .rename = hfs_rename,
    .parent = hfs_parent,
    .map = hfs_map,
    .reserve = hfs_reserve,
    .unreserve = hfs_unreserve,
    .write_begin = hfs_write_begin,
    .write_commit = hfs_write_commit,
    .fallocate = hfs_fallocate,
    .getxattr = hfs_getxattr,
    .setxattr = hfs_setxattr,
    .listxattr = hfs_listxattr,
    .removexattr = hfs_removexattr,
};

const FileSystemType hfs_type = {
    .name = "hfs",
    .daemon = "hfsd",
    .fs_size = sizeof(HfsVolume),
    .inode_size = sizeof(HfsInode),
    .probe = hfs_probe,
    .ops = &hfs_ops,
    .face_bits = HFS_FACE_BITS,
};
