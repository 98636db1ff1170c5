/* SPDX-License-Identifier: MIT */
/*
 * Opening a volume without mounting it: a file or device, locked like a mount,
 * and the part of it that holds the volume. Everything says on stderr what is
 * wrong. Private to tools/.
 */
#ifndef BERTH_TOOLS_VOLUME_H
#define BERTH_TOOLS_VOLUME_H

#include "berth/block.h"

typedef struct VolumeOpenConfig {
    const char *path;
    const char *part; /* number or name; NULL: the whole, or the only partition that fits */
    const char *type; /* the probe's name of what is looked for; NULL: anything */
    bool readonly;
} VolumeOpenConfig;

typedef struct OpenVolume {
    int fd;
    BlockDevice *device; /* of just the volume; read-only when it can only be read */
    char type[32];       /* what the probe found; "" nothing */
    char title[32];      /* the same for people: "HFS+ in an HFS wrapper" */
    uint64_t start, length;
} OpenVolume;

/* 0 or -errno. */
int volume_open(const VolumeOpenConfig *config, OpenVolume *ret);
void volume_close(OpenVolume *volume);

/* Opens and locks as a mount does. readonly: shared. Returns the descriptor or -errno. */
int volume_open_locked(const char *path, bool readonly, bool create);
/* Seconds since 1970: the clock, or SOURCE_DATE_EPOCH. False: that is no number. */
bool volume_time(int64_t *ret);
/* What local time is ahead of UTC, in seconds; 0 with SOURCE_DATE_EPOCH, so that volumes come out
 * the same everywhere. Formats that store local time get it for all dates: on a volume nothing
 * says when it was summer. */
int volume_time_offset(void);
/* Both together: what such formats store. */
bool volume_time_local(int64_t *ret);

#endif
