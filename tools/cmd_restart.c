/* SPDX-License-Identifier: MIT */
/*
 * berth restart: has a mount's daemon replaced by the program that is on disk now
 * (man berth-recovery.7, section 7). The mount goes on all the while; if the new one
 * cannot take over, the old one stays.
 */
#include "berth.h"

#include "berth/log.h"

#include <getopt.h>
#include <stdio.h>

int cmd_restart(int argc, char **argv) {
    static const struct option long_options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    ToolMounts mounts = {0};
    const MountEntry *mount = NULL;
    Text reply = {0};
    int option = getopt_long(argc, argv, "h", long_options, NULL), code;

    if (option == 'h') {
        printf("Usage: berth restart DIR\n"
               "\n"
               "Replaces the daemon of the mount at DIR by the program that is on disk now.\n"
               "Programs that use the mount notice a short pause, nothing else.\n"
               "\n"
               "  -h, --help  show this\n");
        return EXIT_OK;
    }
    if (option != -1 || argc - optind != 1) {
        log_error("restart takes one DIR. Try berth restart --help");
        return EXIT_USAGE;
    }
    code = tool_mount_find(&mounts, argv[optind], &mount);
    if (code == EXIT_OK) {
        code = tool_mount_ask(mount, "restart", &reply);
    }
    text_done(&reply);
    tool_mounts_done(&mounts);
    return code;
}
