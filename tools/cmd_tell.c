/* SPDX-License-Identifier: MIT */
/*
 * The subcommands that tell a mount one word and wait until it is done: berth sync, and berth
 * restart, which has the daemon replaced by the program that is on disk now (man
 * berth-recovery.7, section 7).
 */
#include "berth.h"

#include "berth/log.h"

#include <getopt.h>
#include <stdio.h>

/* `word` is the subcommand and what the mount is told; `does` ends in a newline. */
static int tell(int argc, char **argv, const char *word, const char *does) {
    static const struct option long_options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    Text reply = {0};
    int option = getopt_long(argc, argv, "h", long_options, NULL), code;

    if (option == 'h') {
        printf("Usage: berth %s DIR\n\n%s\n  -h, --help  show this\n", word, does);
        return EXIT_OK;
    }
    if (option != -1 || argc - optind != 1) {
        log_error("%s takes one DIR. Try berth %s --help", word, word);
        return EXIT_USAGE;
    }
    code = tool_ask(argv[optind], word, &reply);
    text_done(&reply);
    return code;
}

int cmd_restart(int argc, char **argv) {
    return tell(argc, argv, "restart",
                "Replaces the daemon of the mount at DIR by the program that is on disk now.\n"
                "Programs that use the mount notice a short pause, nothing else.\n");
}

int cmd_sync(int argc, char **argv) {
    return tell(argc, argv, "sync",
                "Returns when everything written to the mount at DIR is on disk.\n");
}
