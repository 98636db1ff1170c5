/* SPDX-License-Identifier: MIT */
/*
 * Opening an image file or block device for the posix and uring backends, and
 * the system calls that both make. The descriptor given is duplicated, never
 * closed; its file offset is neither used nor moved. The size is taken once:
 * a file that grows later stays as it was, one that shrinks gives -EIO.
 */
#include "internal.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define SECTOR_SIZE_DEFAULT 512u

static int read_geometry(int fd, uint64_t *ret_size, uint32_t *ret_sector_size,
                         bool *ret_readonly) {
    struct stat st;
    uint64_t size = 0;
    int sector_size = (int)SECTOR_SIZE_DEFAULT, readonly = 0;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (S_ISREG(st.st_mode)) {
        size = (uint64_t)st.st_size;
    } else if (S_ISBLK(st.st_mode)) {
        if (ioctl(fd, BLKGETSIZE64, &size) < 0 || ioctl(fd, BLKSSZGET, &sector_size) < 0 ||
            ioctl(fd, BLKROGET, &readonly) < 0) {
            return -errno;
        }
        if (sector_size < 512 || sector_size > 65536 || !is_power_of_2((uint64_t)sector_size)) {
            return -EIO;
        }
    } else {
        return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTBLK;
    }
    *ret_size = size;
    *ret_sector_size = (uint32_t)sector_size;
    *ret_readonly = readonly != 0 || (flags & O_ACCMODE) == O_RDONLY;
    return 0;
}

int image_open(const BlockOpenConfig *config, BlockImage *ret) {
    uint64_t size = 0;
    uint32_t sector_size = 0;
    bool readonly = false;
    int fd;
    int r = read_geometry(config->fd, &size, &sector_size, &readonly);

    if (r < 0) {
        return r;
    }
    if (!range_inside(config->start, config->length, size)) {
        return -ERANGE;
    }
    fd = fcntl(config->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        return -errno;
    }
    *ret = (BlockImage){
        .fd = fd,
        .start = config->start,
        .size = config->length != 0 ? config->length : size - config->start,
        .sector_size = sector_size,
        .readonly = config->readonly || readonly,
    };
    return 0;
}

ssize_t image_call(int fd, BlockOp op, const struct iovec *iov, int iov_count, uint64_t offset,
                   uint64_t length) {
    ssize_t n = -1;

    do {
        switch (op) {
        case BLOCK_READ:
            n = preadv(fd, iov, iov_count, (off_t)offset);
            break;
        case BLOCK_WRITE:
            n = pwritev(fd, iov, iov_count, (off_t)offset);
            break;
        case BLOCK_FLUSH:
            n = fdatasync(fd);
            break;
        case BLOCK_DISCARD:
            n = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                          (off_t)length);
            break;
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}
