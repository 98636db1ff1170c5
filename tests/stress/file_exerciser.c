/* SPDX-License-Identifier: MIT */
/*
 * Random reads, writes, mapped reads and writes, truncations, fsyncs, re-opens and cache drops on
 * one file, each compared with a copy in memory. What fsx does, for files on a mounted volume.
 *
 * usage: file_exerciser FILE OPERATIONS SEED MAX_SIZE [--direct]
 * Exit 0: all agreed. A difference prints the seed, the operation's number and the first bad byte.
 */
#include "berth/base.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef struct Exerciser {
    const char *path;
    int fd;
    uint8_t *model, *scratch;
    size_t size, max_size;
    uint64_t random;
    unsigned long operation, seed;
    bool direct;
} Exerciser;

static uint64_t next_random(Exerciser *x) {
    x->random ^= x->random << 13;
    x->random ^= x->random >> 7;
    x->random ^= x->random << 17;
    return x->random;
}

static uint64_t pick(Exerciser *x, uint64_t limit) {
    return limit == 0 ? 0 : next_random(x) % limit;
}

static void die(const Exerciser *x, const char *what) {
    fprintf(stderr, "file_exerciser: seed %lu, operation %lu: %s: %s\n", x->seed, x->operation,
            what, strerror(errno));
    exit(1);
}

static void compare(const Exerciser *x, const char *how, size_t offset, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (x->scratch[i] != x->model[offset + i]) {
            fprintf(stderr,
                    "file_exerciser: seed %lu, operation %lu: %s of %zu at %zu: byte %zu is "
                    "%02x, expected %02x (file size %zu)\n",
                    x->seed, x->operation, how, length, offset, offset + i, x->scratch[i],
                    x->model[offset + i], x->size);
            exit(1);
        }
    }
}

static void check_size(const Exerciser *x) {
    struct stat st;

    if (fstat(x->fd, &st) != 0) {
        die(x, "fstat");
    }
    if ((size_t)st.st_size != x->size) {
        fprintf(stderr, "file_exerciser: seed %lu, operation %lu: size is %lld, expected %zu\n",
                x->seed, x->operation, (long long)st.st_size, x->size);
        exit(1);
    }
}

/* A range inside the file, or (growing) up to the maximum. Direct I/O wants multiples of 512. */
static void pick_range(Exerciser *x, bool growing, size_t *offset, size_t *length) {
    size_t limit = growing ? x->max_size : x->size;
    size_t longest = pick(x, 4) == 0 ? 400000 : 20000;

    *offset = pick(x, limit);
    *length = 1 + pick(x, MIN(limit - *offset, longest));
    if (x->direct) {
        *offset &= ~(size_t)511;
        *length = (*length + 511) & ~(size_t)511;
    }
    *length = MIN(*length, limit - *offset);
}

static void do_read(Exerciser *x) {
    size_t offset, length;

    if (x->size == 0) {
        return;
    }
    pick_range(x, false, &offset, &length);
    ssize_t n =
        pread(x->fd, x->scratch, x->direct ? (length + 511) & ~(size_t)511 : length, (off_t)offset);
    if (n < (ssize_t)length) {
        die(x, "short read");
    }
    compare(x, "read", offset, length);
}

static void grow_model(Exerciser *x, size_t end) {
    if (end > x->size) {
        x->size = end;
    }
}

static void do_write(Exerciser *x) {
    size_t offset, length;

    pick_range(x, true, &offset, &length);
    if (x->direct && length % 512 != 0) {
        return;
    }
    for (size_t i = 0; i < length; i++) {
        x->scratch[i] = (uint8_t)next_random(x);
    }
    if (pwrite(x->fd, x->scratch, length, (off_t)offset) != (ssize_t)length) {
        die(x, "write");
    }
    memcpy(x->model + offset, x->scratch, length);
    grow_model(x, offset + length);
}

static void do_truncate(Exerciser *x) {
    size_t size = pick(x, x->max_size);

    if (ftruncate(x->fd, (off_t)size) != 0) {
        die(x, "ftruncate");
    }
    if (size < x->size) {
        memset(x->model + size, 0, x->size - size);
    }
    x->size = size;
}

static void do_mapped(Exerciser *x, bool writing) {
    size_t offset, length;

    if (x->size == 0) {
        return;
    }
    pick_range(x, false, &offset, &length);
    size_t start = offset & ~(size_t)4095;
    uint8_t *map = mmap(NULL, offset + length - start, writing ? PROT_READ | PROT_WRITE : PROT_READ,
                        MAP_SHARED, x->fd, (off_t)start);
    if (map == MAP_FAILED) {
        die(x, "mmap");
    }
    if (writing) {
        for (size_t i = 0; i < length; i++) {
            map[offset - start + i] = x->model[offset + i] = (uint8_t)next_random(x);
        }
        if (msync(map, offset + length - start, pick(x, 2) ? MS_SYNC : MS_ASYNC) != 0) {
            die(x, "msync");
        }
    } else {
        memcpy(x->scratch, map + (offset - start), length);
        compare(x, "mapped read", offset, length);
    }
    munmap(map, offset + length - start);
}

static void do_reopen(Exerciser *x) {
    if (close(x->fd) != 0) {
        die(x, "close");
    }
    x->fd = open(x->path, O_RDWR | (x->direct ? O_DIRECT : 0));
    if (x->fd < 0) {
        die(x, "open");
    }
}

static void do_drop(Exerciser *x) {
    if (fsync(x->fd) != 0) {
        die(x, "fsync");
    }
    (void)posix_fadvise(x->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void step(Exerciser *x) {
    switch (pick(x, 12)) {
    case 0 ... 2:
        do_read(x);
        break;
    case 3 ... 5:
        do_write(x);
        break;
    case 6:
        do_truncate(x);
        break;
    case 7:
    case 8:
        if (!x->direct) {
            do_mapped(x, pick(x, 2) != 0);
        }
        break;
    case 9:
        do_reopen(x);
        break;
    default:
        do_drop(x);
        break;
    }
    check_size(x);
}

static void final_check(Exerciser *x) {
    do_reopen(x);
    for (size_t offset = 0; offset < x->size; offset += 65536) {
        size_t length = MIN(x->size - offset, (size_t)65536);
        if (pread(x->fd, x->scratch, 65536, (off_t)offset) < (ssize_t)length) {
            die(x, "final read");
        }
        compare(x, "final read", offset, length);
    }
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: file_exerciser FILE OPERATIONS SEED MAX_SIZE [--direct]\n");
        return 2;
    }
    Exerciser x = {.path = argv[1],
                   .seed = strtoul(argv[3], NULL, 0),
                   .max_size = strtoul(argv[4], NULL, 0),
                   .direct = argc > 5};
    unsigned long operations = strtoul(argv[2], NULL, 0);
    x.random = x.seed * 0x9e3779b97f4a7c15u + 1;
    x.model = calloc(1, x.max_size + 65536);
    if (x.model == NULL || posix_memalign((void **)&x.scratch, 4096, x.max_size + 65536) != 0) {
        die(&x, "memory");
    }
    x.fd = open(x.path, O_RDWR | O_CREAT | O_TRUNC | (x.direct ? O_DIRECT : 0), 0644);
    if (x.fd < 0) {
        die(&x, "open");
    }
    for (x.operation = 1; x.operation <= operations; x.operation++) {
        step(&x);
    }
    final_check(&x);
    printf("seed %lu: %lu operations agree\n", x.seed, operations);
    close(x.fd);
    free(x.model);
    free(x.scratch);
    return 0;
}
