/* SPDX-License-Identifier: MIT */
/*
 * FAT's own mount options: codepage=, tz=, time_offset=, xattr. They come from
 * whoever mounts, by way of a peer: anything unknown or out of range fails the
 * mount, with the option named in the volume's read_only_reason.
 */
#include "berth/options.h"
#include "types.h"
#include <stdio.h>

#define MINUTES_MAX (24 * 60)

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
    const char *colon;
    char part[3] = "";

    if (strcmp(text, "UTC") == 0) {
        *ret = 0;
        return true;
    }
    if (*text != '-' && *text != '+') {
        return false;
    }
    text += 1;
    colon = strchrnul(text, ':');
    if (colon - text > 2) {
        return false;
    }
    memcpy(part, text, (size_t)(colon - text));
    if (parse_u32(part, &hours) < 0 || hours > 23 ||
        (*colon == ':' && (parse_u32(colon + 1, &minutes) < 0 || minutes > 59))) {
        return false;
    }
    *ret = (int)(hours * 60 + minutes);
    *ret = west ? -*ret : *ret;
    return true;
}

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
    if (value != NULL && ((strcmp(name, "tz") == 0 && parse_zone(value, &minutes)) ||
                          (strcmp(name, "time_offset") == 0 && parse_minutes(value, &minutes)))) {
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
