/* SPDX-License-Identifier: MIT */
/*
 * HFS's own mount options: appledouble, encoding=, tz=, time_offset=. They come from whoever
 * mounts, by way of a peer: anything unknown or out of range fails the mount, with the
 * option named in the volume's read_only_reason.
 */
#include "berth/options.h"
#include "types.h"
#include <stdio.h>

#define NS_PER_MINUTE INT64_C(60000000000)

static int take_option(void *arg, const char *name, const char *value) {
    HfsVolume *volume = arg;
    FileSystem *fs = &volume->base;
    int minutes;

    if (strcmp(name, "encoding") == 0 && value != NULL) {
        const HfsEncoding *encoding = hfs_encoding_find(value);

        if (encoding != NULL) {
            volume->encoding = encoding;
            return 0;
        }
    }
    if (strcmp(name, "appledouble") == 0 && value == NULL) {
        volume->appledouble = true;
        return 0;
    }
    if (option_time_offset(name, value, &minutes) == 0) {
        volume->time_offset_ns = minutes * NS_PER_MINUTE;
        return 0;
    }
    (void)snprintf(fs->read_only_reason, sizeof(fs->read_only_reason),
                   "hfs does not know the option %.40s%s%.40s", name, value != NULL ? "=" : "",
                   value != NULL ? value : "");
    return -EINVAL;
}

int hfs_options_parse(HfsVolume *volume) {
    volume->encoding = hfs_encoding_default();
    return options_parse(volume->base.options.extra, take_option, volume);
}
