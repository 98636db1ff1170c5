/* SPDX-License-Identifier: MIT */
/*
 * What a volume is made on. A file is opened without O_TRUNC and grows only
 * when all else has been checked.
 */
#include "mkfs.h"
#include "berth/log.h"
#include "berth/partition.h"
#include "volume.h"

#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

bool mkfs_parse_size(const char *text, uint64_t *ret) {
    uint64_t value, unit = 1;
    char *end;

    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    switch (*end) {
    case 'k':
    case 'K':
        unit = UINT64_C(1) << 10;
        break;
    case 'm':
    case 'M':
        unit = UINT64_C(1) << 20;
        break;
    case 'g':
    case 'G':
        unit = UINT64_C(1) << 30;
        break;
    case '\0':
        return u64_mul(value, 1, ret);
    default:
        return false;
    }
    return end[1] == '\0' && u64_mul(value, unit, ret);
}

static int say(const MkfsTarget *target, const char *what) {
    log_error("%s: %s", target->path, what);
    return MKFS_FAILED;
}

/* The image's own size, and whether it is a file. */
static int measure(const MkfsTarget *target, uint64_t *ret_size, bool *ret_file) {
    struct stat st;
    uint64_t size;

    if (fstat(target->fd, &st) < 0) {
        return say(target, strerror(errno));
    }
    if (S_ISREG(st.st_mode)) {
        size = (uint64_t)st.st_size;
    } else if (!S_ISBLK(st.st_mode)) {
        return say(target, "neither an image file nor a block device");
    } else if (ioctl(target->fd, BLKGETSIZE64, &size) < 0) {
        return say(target, strerror(errno));
    }
    *ret_size = size;
    *ret_file = S_ISREG(st.st_mode);
    return 0;
}

static int check_empty(const MkfsTarget *target) {
    _cleanup_free_ ImageProbe *probe = calloc(1, sizeof(*probe));
    char text[256] = "";
    const char *found = NULL;
    int r = probe == NULL ? -ENOMEM : partition_probe_isolated(target->fd, probe, text);

    if (r == -EUCLEAN) {
        found = "a damaged partition table";
    } else if (r < 0) {
        return say(target, text[0] != '\0' ? text : strerror(-r));
    } else if (probe->table.kind != PARTITION_NONE) {
        found = "a partition table";
    } else if (probe->container.kind != CONTAINER_NONE) {
        found = container_name(probe->container.kind);
    } else if (probe->whole.subtype[0] != '\0') {
        found = probe->whole.subtype;
    } else if (probe->whole.type[0] != '\0') {
        found = probe->whole.type;
    }
    if (found != NULL) {
        log_error("%s: holds %s already; --force to overwrite it", target->path, found);
        return MKFS_FAILED;
    }
    return 0;
}

int mkfs_target_open(const char *path, uint64_t size, bool dry_run, bool force, MkfsTarget *ret) {
    MkfsTarget target = {.path = path, .size = size, .created = access(path, F_OK) < 0};
    uint64_t has = 0;
    bool file = false;
    int r;

    target.fd = volume_open_locked(path, dry_run, size > 0 && !dry_run);
    r = target.fd < 0 ? MKFS_FAILED : measure(&target, &has, &file);
    if (r == 0 && size > has && !file) {
        r = say(&target, "the device is smaller than that");
    }
    if (r == 0 && size > 0 && size < has) {
        r = say(&target, "is larger than that already");
    }
    if (r == 0 && has > 0 && !force) {
        r = check_empty(&target);
    }
    if (r != 0) {
        mkfs_target_done(&target);
        return r;
    }
    target.size = size > 0 ? size : has;
    target.grow = file && target.size > has;
    *ret = target;
    return 0;
}

int mkfs_target_ready(MkfsTarget *target) {
    BlockOpenConfig config = {.fd = target->fd, .length = target->size};
    int r;

    if (target->grow && ftruncate(target->fd, (off_t)target->size) < 0) {
        return say(target, strerror(errno));
    }
    r = block_posix_new(&config, &target->device);
    return r < 0 ? say(target, strerror(-r)) : 0;
}

void mkfs_target_done(MkfsTarget *target) {
    if (target->created && target->fd >= 0 && target->device == NULL) {
        (void)unlink(target->path);
    }
    target->device = block_free(target->device);
    if (target->fd >= 0) {
        (void)close(target->fd);
        target->fd = -1;
    }
}
