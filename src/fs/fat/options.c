/* SPDX-License-Identifier: MIT */
/*
 * FAT's own mount options: codepage=, tz=, time_offset=, xattr. They come from
 * whoever mounts, by way of a peer: anything unknown or out of range fails the
 * mount, with the option named in the volume's read_only_reason.
 */
#include "berth/options.h"
#include "types.h"
#include <stdio.h>

static int take_option(void *arg, const char *name, const char *value) {
    FatVolume *volume = arg;
    FileSystem *fs = &volume->base;
    const FatCodepage *page;
    int minutes;

    if (strcmp(name, "xattr") == 0 && value == NULL) {
        volume->list_xattrs = true;
        return 0;
    }
    if (strcmp(name, "codepage") == 0 && value != NULL) {
        page = fat_codepage_find(value);
        if (page != NULL) {
            volume->codepage = page;
            return 0;
        }
    }
    if (option_time_offset(name, value, &minutes) == 0) {
        volume->time_offset_minutes = minutes;
        return 0;
    }
    (void)snprintf(fs->read_only_reason, sizeof(fs->read_only_reason),
                   "fat does not know the option %.40s%s%.40s", name, value != NULL ? "=" : "",
                   value != NULL ? value : "");
    return -EINVAL;
}

int fat_options_parse(FatVolume *volume) {
    volume->codepage = fat_codepage_default();
    return options_parse(volume->base.options.extra, take_option, volume);
}
