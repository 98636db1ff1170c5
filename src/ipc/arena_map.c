/* SPDX-License-Identifier: MIT */
/*
 * The daemon's side of an arena: a mapping of a received memfd. The seals are
 * checked before anything is mapped: a file that cannot shrink is one whose pages
 * cannot vanish under an access. What lies in the mapping may change at any time;
 * copy, then check, then use.
 */
#include "berth/channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SEALS_NEEDED (F_SEAL_SHRINK | F_SEAL_GROW)

int arena_map(int fd, uint64_t size, bool writable, ArenaMap *ret) {
    struct stat st;
    int seals;
    void *base;

    if (size == 0 || size > SIZE_MAX || size % (uint64_t)sysconf(_SC_PAGESIZE) != 0) {
        return -EINVAL;
    }
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size != size) {
        return -EPROTO;
    }
    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS_NEEDED) != SEALS_NEEDED) {
        return -EPROTO;
    }
    base =
        mmap(NULL, (size_t)size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return -errno;
    }
    *ret = (ArenaMap){.base = base, .size = size};
    return 0;
}

void arena_unmap(ArenaMap *map) {
    if (map->base != NULL) {
        (void)munmap(map->base, (size_t)map->size);
    }
    *map = (ArenaMap){0};
}

void *arena_at(const ArenaMap *map, uint64_t offset, uint64_t length) {
    if (map->base == NULL || !range_inside(offset, length, map->size)) {
        return NULL;
    }
    return map->base + offset;
}
