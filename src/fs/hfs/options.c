/* SPDX-License-Identifier: MIT */
/*
 * HFS's own mount options: appledouble, encoding=, tz=, time_offset=. They come from whoever
 * mounts, by way of a peer: anything unknown or out of range fails the mount, with the
 * option named in the volume's read_only_reason.
 */
#include "berth/options.h"
#include "types.h"
#include <stdio.h>

#define MINUTES_MAX (24 * 60)
#define NS_PER_MINUTE INT64_C(60000000000)

static bool parse_minutes(const char *text, int *ret) {
    bool west = *text == '-';
    uint32_t minutes;

    if (parse_u32(text + (*text == '-' || *text == '+'), &minutes) < 0 || minutes > MINUTES_MAX) {
        return false;
    }
    *ret = west ? -(int)minutes : (int)minutes;
    return true;
}

/* "UTC", or what local time is ahead of it: "+2", "-03:30". There are no time zone files here. */
static bool parse_zone(const char *text, int *ret) {
    bool west = *text == '-';
    uint32_t hours, minutes = 0;
    const char *colon = strchrnul(text, ':');
    char part[3] = "";

    if (strcmp(text, "UTC") == 0) {
        *ret = 0;
        return true;
    }
    if ((*text != '-' && *text != '+') || colon - text < 2 || colon - text > 3) {
        return false;
    }
    memcpy(part, text + 1, (size_t)(colon - text - 1));
    if (parse_u32(part, &hours) < 0 || hours > 23 ||
        (*colon == ':' && (parse_u32(colon + 1, &minutes) < 0 || minutes > 59))) {
        return false;
    }
    *ret = (int)(hours * 60 + minutes);
    *ret = west ? -*ret : *ret;
    return true;
}

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
    if (value != NULL && ((strcmp(name, "tz") == 0 && parse_zone(value, &minutes)) ||
                          (strcmp(name, "time_offset") == 0 && parse_minutes(value, &minutes)))) {
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
