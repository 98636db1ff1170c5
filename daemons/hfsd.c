/* SPDX-License-Identifier: MIT */
/*
 * hfsd: serves one HFS volume. Everything a daemon is lies in src/service; what an
 * HFS volume is lies in src/fs/hfs. This program says which types it knows.
 */
#include "berth/service.h"

static const FileSystemType *const types[] = {&hfs_type, NULL};

int main(int argc, char **argv) {
    return daemon_main(argc, argv, types);
}
