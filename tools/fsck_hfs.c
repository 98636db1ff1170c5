/* SPDX-License-Identifier: MIT */
/* fsck.hfs: checks and repairs classic HFS volumes. */
#include "berth/hfs.h"
#include "fsck.h"

int main(int argc, char **argv) {
    static const FsckFormat format = {
        .program = "fsck.hfs", .type = "hfs", .title = "classic HFS", .check = hfs_check};

    return fsck_main(argc, argv, &format);
}
