/* SPDX-License-Identifier: MIT */
/*
 * Which filesystem, and where in the image. The image's bytes are looked at by a
 * forked child only (partition_probe_isolated); here its answers are compared
 * with what was asked for.
 */
#include "private.h"

#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* Other people's names for types of ours. */
static const char *const aliases[][2] = {
    {"vfat", "fat"}, {"msdos", "fat"}, {"fat12", "fat"}, {"fat16", "fat"}, {"fat32", "fat"},
};

static const FileSystemType *find_type(const Front *front, const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
        if (strcmp(name, aliases[i][0]) == 0) {
            name = aliases[i][1];
        }
    }
    return name[0] == 0 ? NULL : fs_type_find(front->types, name);
}

static int image_size(const Front *front, uint64_t *ret) {
    struct stat st;
    uint64_t size;

    if (fstat(front->image_fd, &st) < 0) {
        return -errno;
    }
    if (S_ISBLK(st.st_mode)) {
        if (ioctl(front->image_fd, BLKGETSIZE64, &size) < 0) {
            return -errno;
        }
    } else {
        size = (uint64_t)st.st_size;
    }
    *ret = size;
    return 0;
}

static void list_partitions(const ImageProbe *probe, Text *ret) {
    for (unsigned i = 0; i < probe->table.count; i++) {
        const Partition *part = &probe->table.entries[i];
        const char *type = probe->volumes[i].type;

        text_printf(ret, "%s%u: %s%s%s", i > 0 ? ", " : "", part->number,
                    type[0] != 0 ? type : "unknown", part->name[0] != 0 ? " " : "", part->name);
    }
}

/* The only partition that can be mounted, or NULL. */
static const Partition *only_partition(const Front *front, const ImageProbe *probe) {
    const Partition *found = NULL;

    for (unsigned i = 0; i < probe->table.count; i++) {
        if (find_type(front, probe->volumes[i].type) != NULL) {
            if (found != NULL) {
                return NULL;
            }
            found = &probe->table.entries[i];
        }
    }
    return found;
}

static int say_partitions(const Front *front, const ImageProbe *probe, const char *what) {
    _cleanup_(text_done) Text list = {0};

    list_partitions(probe, &list);
    log_error("%s: %s; partitions: %s", front->source_given, what,
              list.length > 0 ? text_string(&list) : "none");
    return -ENODEV;
}

/* Picks the volume: by part=, the whole image, or the only partition that can be mounted. */
static int pick_volume(Front *front, const ImageProbe *probe, const VolumeProbe **ret) {
    const Partition *part;

    if (front->options.part[0] != 0) {
        part = partition_find(&probe->table, front->options.part);
        if (part == NULL) {
            return say_partitions(front, probe, "no such partition");
        }
    } else if (probe->table.kind == PARTITION_NONE || probe->table.count == 0) {
        *ret = &probe->whole;
        front->volume_start = probe->whole.start;
        front->volume_length = probe->whole.length;
        return 0;
    } else {
        part = only_partition(front, probe);
        if (part == NULL) {
            return say_partitions(front, probe, "choose a partition with -o part=");
        }
        log_notice("%s: mounting partition %u", front->source_given, part->number);
    }
    *ret = &probe->volumes[part - probe->table.entries];
    front->volume_start = part->start;
    front->volume_length = part->length;
    return 0;
}

/* The sectors of such a file can be changed, its checksums cannot be kept: reading only. */
static void say_container(Front *front, const ImageProbe *probe) {
    if (probe->container.kind == CONTAINER_NONE) {
        return;
    }
    log_notice("%s: a %s file%s, mounting read-only", front->source_given,
               container_name(probe->container.kind),
               probe->container.checksum == CHECKSUM_BAD ? " with a wrong checksum" : "");
    front->image_readonly = true;
}

static int detect_by_content(Front *front, const ImageProbe *probe) {
    const VolumeProbe *volume = NULL;
    int r = pick_volume(front, probe, &volume);

    if (r < 0) {
        return r;
    }
    say_container(front, probe);
    if (front->type != NULL) {
        return 0; /* type= was given: the daemon has the last word */
    }
    front->type = find_type(front, volume->type);
    if (front->type != NULL) {
        return 0;
    }
    if (volume->type[0] != 0) {
        log_error("%s: holds %s, which berth cannot mount", front->source_given,
                  volume->subtype[0] != 0 ? volume->subtype : volume->type);
    } else {
        log_error("%s: no filesystem that berth knows was found (-o type= to insist)",
                  front->source_given);
    }
    return -ENODEV;
}

static int detect_at_start(Front *front, uint64_t size) {
    if (front->options.start >= size) {
        log_error("%s: start=%llu is behind the image's end (%llu bytes)", front->source_given,
                  (unsigned long long)front->options.start, (unsigned long long)size);
        return -EINVAL;
    }
    if (front->type == NULL) {
        log_error("%s: start= needs type= too", front->source_given);
        return -EINVAL;
    }
    front->volume_start = front->options.start;
    front->volume_length = size - front->options.start;
    return 0;
}

int source_detect(Front *front) {
    _cleanup_free_ ImageProbe *probe = calloc(1, sizeof(*probe));
    char text[256] = "";
    uint64_t size = 0;
    int r = probe == NULL ? -ENOMEM : image_size(front, &size);

    if (r == 0 && front->options.type[0] != 0) {
        front->type = find_type(front, front->options.type);
        if (front->type == NULL) {
            log_error("%s: berth has no filesystem type \"%s\"", front->source_given,
                      front->options.type);
            return -ENODEV;
        }
    }
    if (r == 0 && size == 0) {
        log_error("%s: is empty", front->source_given);
        return -ENODEV;
    }
    if (r == 0 && front->options.has_start) {
        return detect_at_start(front, size);
    }
    if (r == 0) {
        r = partition_probe_isolated(front->image_fd, probe, text);
    }
    if (r == 0) {
        return detect_by_content(front, probe);
    }
    if (front->type != NULL && front->options.part[0] == 0 && r != -ENOMEM) {
        front->volume_start = 0;
        front->volume_length = size;
        return 0;
    }
    log_error("%s: %s", front->source_given, text[0] != 0 ? text : strerror(-r));
    return r;
}
