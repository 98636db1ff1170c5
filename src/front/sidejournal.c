/* SPDX-License-Identifier: MIT */
/*
 * Opening the side journal (-o journal=FILE): like the image it is opened and locked here, and
 * handed to each daemon, which alone reads more of it than its first bytes. These are
 * looked at so that a file that is something else is never made longer. Made longer: to the size
 * that the largest batch may need, as a hole, which takes room only where it is written.
 */
#include "private.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* A new file is no good if its name does not outlive a power cut. */
static int keep_name(const char *path) {
    _cleanup_free_ char *directory = strdup(path);
    _cleanup_close_ int fd = -1;
    char *slash;

    if (directory == NULL) {
        return -ENOMEM;
    }
    slash = strrchr(directory, '/');
    slash[slash == directory ? 1 : 0] = 0;
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* 0: it is there, or need not be. */
static int create(const Front *front) {
    _cleanup_close_ int fd =
        open(front->journal, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);

    if (fd < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    return fsync(fd) < 0 ? -errno : keep_name(front->journal);
}

/* Asked first: the image is locked by ourselves. */
static bool is_image(const Front *front) {
    struct stat image, journal;

    if (fstat(front->image_fd, &image) < 0 || stat(front->journal, &journal) < 0) {
        return false;
    }
    return (image.st_dev == journal.st_dev && image.st_ino == journal.st_ino) ||
           (S_ISBLK(image.st_mode) && S_ISBLK(journal.st_mode) && image.st_rdev == journal.st_rdev);
}

static int look(int fd) {
    _cleanup_free_ uint8_t *bytes = malloc(SIDEJOURNAL_LOOK);
    ssize_t length = bytes != NULL ? pread(fd, bytes, SIDEJOURNAL_LOOK, 0) : -1;

    if (length < 0) {
        return -errno;
    }
    return (int)sidejournal_look(bytes, (size_t)length);
}

/* The log's size is an option of the volume, which somebody else complains about if it is wrong. */
static uint64_t size_needed(const Front *front) {
    _cleanup_(text_done) Text text = {0};
    FsMountOptions options = {0};
    char why[128];

    if (front_options_for_volume(&front->options, true, &text) < 0 ||
        fs_options_parse(text_string(&text), &options, why) < 0) {
        options.log_bytes = 0;
    }
    return sidejournal_size(options.log_bytes, front->volume_length);
}

static int make_room(const Front *front, int fd) {
    uint64_t size = size_needed(front);
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size >= size) {
        return 0;
    }
    return ftruncate(fd, (off_t)size) < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int refuse(const Front *front, int error, const char *text) {
    log_error("%s: %s", text_string(&front->options.journal), text);
    return error;
}

int sidejournal_open(Front *front) {
    bool readonly = front->image_readonly;
    int fd, r;

    if (front->journal == NULL) {
        return 0;
    }
    if (is_image(front)) {
        return refuse(front, -EINVAL, "is the image itself");
    }
    r = readonly ? 0 : create(front);
    fd = r == 0 ? source_claim(front->journal, text_string(&front->options.journal), readonly) : r;
    if (fd == -ENOENT && readonly) {
        return 0; /* none: nothing that is not on the image */
    }
    if (fd < 0) {
        return fd == -EBUSY || fd == -EWOULDBLOCK
                   ? fd
                   : refuse(front, fd,
                            fd == -EMEDIUMTYPE ? "not a file or a block device" : strerror(-fd));
    }
    front->journal_fd = fd;
    r = look(fd);
    if (r == SIDEJOURNAL_FOREIGN) {
        return refuse(front, -EINVAL, "is no side journal, and not empty");
    }
    r = r < 0 || readonly ? MIN(r, 0) : make_room(front, fd);
    return r < 0 ? refuse(front, r, strerror(-r)) : 0;
}
