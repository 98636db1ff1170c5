/* SPDX-License-Identifier: MIT */
/*
 * fatd: serves one FAT volume. Everything a daemon is lies in src/service; what a
 * FAT is lies in src/fs/fat. This program says which types it knows.
 */
#include "berth/service.h"

static const FileSystemType *const types[] = {&fat_type, NULL};

int main(int argc, char **argv) {
    return daemon_main(argc, argv, types);
}
