/* SPDX-License-Identifier: MIT */
/*
 * Where the volume lies is found out by the isolated probe. A probe that fails
 * (a damaged partition table) stops only those who need a partition.
 */
#include "volume.h"
#include "berth/log.h"
#include "berth/partition.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

bool volume_time(int64_t *ret) {
    const char *text = getenv("SOURCE_DATE_EPOCH");
    long long value;
    char *end;

    if (text == NULL) {
        *ret = (int64_t)time(NULL);
        return true;
    }
    errno = 0;
    value = strtoll(text, &end, 10);
    *ret = value;
    return errno == 0 && end != text && *end == '\0';
}

int volume_time_offset(void) {
    time_t now = time(NULL);
    struct tm local;

    return getenv("SOURCE_DATE_EPOCH") != NULL || localtime_r(&now, &local) == NULL
               ? 0
               : (int)local.tm_gmtoff;
}

bool volume_time_local(int64_t *ret) {
    bool good = volume_time(ret);

    *ret += volume_time_offset();
    return good;
}

int volume_open_locked(const char *path, bool readonly, bool create) {
    int flags = (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    struct stat st;
    bool exists = stat(path, &st) == 0;
    int fd, r;

    if (exists && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        log_error("%s: neither an image file nor a block device", path);
        return -ENOTBLK;
    }
    if (exists && S_ISBLK(st.st_mode)) {
        flags |= O_EXCL;
    }
    fd = open(path, flags | (!exists && create ? O_CREAT : 0), 0666);
    r = fd < 0 ? -errno : 0;
    if (r == 0 && flock(fd, (readonly ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        (void)close(fd);
    }
    if (r < 0) {
        log_error("%s: %s", path, r == -EBUSY ? "in use (mounted?)" : strerror(-r));
        return r;
    }
    return fd;
}

/* The only partition with a volume of that type, or NULL. */
static const Partition *only_partition(const ImageProbe *probe, const char *type) {
    const Partition *found = NULL;

    for (unsigned i = 0; i < probe->table.count; i++) {
        const char *is = probe->volumes[i].type;

        if (type != NULL ? strcmp(is, type) == 0 : is[0] != '\0') {
            if (found != NULL) {
                return NULL;
            }
            found = &probe->table.entries[i];
        }
    }
    return found;
}

/* Fills *ret's type and place. */
static int choose(const VolumeOpenConfig *config, const ImageProbe *probe, OpenVolume *ret) {
    const VolumeProbe *volume = &probe->whole;
    const Partition *part = NULL;

    if (config->part != NULL) {
        part = partition_find(&probe->table, config->part);
        if (part == NULL) {
            log_error("%s: no partition %s", config->path, config->part);
            return -ENOENT;
        }
    } else if (probe->table.kind != PARTITION_NONE) {
        part = only_partition(probe, config->type);
        if (part == NULL) {
            log_error("%s: there are several partitions, or none that fits; choose one",
                      config->path);
            return -ENOENT;
        }
    }
    if (part != NULL) {
        volume = &probe->volumes[part - probe->table.entries];
    }
    ret->start = volume->start;
    ret->length = volume->length;
    (void)snprintf(ret->type, sizeof(ret->type), "%s", volume->type);
    (void)snprintf(ret->title, sizeof(ret->title), "%s",
                   volume->subtype[0] != '\0' ? volume->subtype : volume->type);
    return 0;
}

static int find_volume(const VolumeOpenConfig *config, OpenVolume *ret, bool *ret_readonly) {
    _cleanup_free_ ImageProbe *probe = calloc(1, sizeof(*probe));
    char text[256] = "";
    int r = probe == NULL ? -ENOMEM : partition_probe_isolated(ret->fd, probe, text);

    if (r == -EUCLEAN && config->part == NULL) {
        log_warning("%s: %s; taking all of it", config->path, text);
        *ret_readonly = config->readonly;
        return 0;
    }
    if (r < 0) {
        log_error("%s: %s", config->path, text[0] != '\0' ? text : strerror(-r));
        return r;
    }
    *ret_readonly = config->readonly || probe->container.kind != CONTAINER_NONE;
    return choose(config, probe, ret);
}

int volume_open(const VolumeOpenConfig *config, OpenVolume *ret) {
    OpenVolume volume = {.fd = volume_open_locked(config->path, config->readonly, false)};
    BlockOpenConfig open_config;
    bool readonly = true;
    int r;

    if (volume.fd < 0) {
        return volume.fd;
    }
    r = find_volume(config, &volume, &readonly);
    if (r == 0) {
        open_config = (BlockOpenConfig){
            .fd = volume.fd, .readonly = readonly, .start = volume.start, .length = volume.length};
        r = block_posix_new(&open_config, &volume.device);
        if (r < 0) {
            log_error("%s: %s", config->path, strerror(-r));
        }
    }
    if (r < 0) {
        volume_close(&volume);
        return r;
    }
    *ret = volume;
    return 0;
}

void volume_close(OpenVolume *volume) {
    volume->device = block_free(volume->device);
    if (volume->fd >= 0) {
        (void)close(volume->fd);
        volume->fd = -1;
    }
}
