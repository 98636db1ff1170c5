/* SPDX-License-Identifier: MIT */
/*
 * The files behind arenas and rings. They stay unsealed here, since which seals
 * are right depends on what is mapped before them.
 */
#include "memfile.h"

#include "berth/base.h"

#include <fcntl.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

int memfile_new(const char *name, uint64_t size, int *ret) {
    _cleanup_close_ int fd = -1;

    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) { /* before Linux 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
        return -errno;
    }
    *ret = steal_fd(&fd);
    return 0;
}
