/* SPDX-License-Identifier: MIT */
/*
 * The timed loops of the benchmark: what a Python loop would be too slow for.
 *
 *   helper touch BYTES              first touch of so much memory, given back at once
 *   helper seqwrite FILE BYTES      1 MiB writes, fsync at the end
 *   helper seqread FILE             1 MiB reads to the end
 *   helper randread FILE COUNT N    COUNT reads of 4 KiB, no place twice, from N threads
 *   helper append FILE COUNT        COUNT times: append 4 KiB, fsync
 *   helper create DIR COUNT BYTES   COUNT new files of that size, PER_DIRECTORY in each directory
 *   helper stat DIR                 lists the directories of DIR, stat of every file
 *   helper read DIR                 the same, reading every file to its end
 *   helper unlink DIR               the same, removing every file
 *
 * One line on standard output: seconds, operations, bytes, median and 99th
 * percentile of an operation in microseconds (0 where single ones are not
 * timed). Any failure ends the program with status 1; nothing is retried.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (1024u * 1024u)
#define BLOCK 4096u
#define PER_DIRECTORY 1000u
#define THREADS_MAX 64u

typedef struct Result {
    double seconds;
    uint64_t operations, bytes;
    double median_us, p99_us;
} Result;

static double now(void) {
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what) {
    (void)fprintf(stderr, "helper: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t number(const char *text) {
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (*text == 0 || *end != 0) {
        errno = EINVAL;
        die(text);
    }
    return value;
}

static void *memory(size_t size) {
    void *bytes = NULL;

    if (posix_memalign(&bytes, BLOCK, size) != 0) {
        die("memory");
    }
    memset(bytes, 0x5a, size); /* its first touch is not what is measured */
    return bytes;
}

static int open_file(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0644);

    if (fd < 0) {
        die(path);
    }
    return fd;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void percentiles(Result *result, double *seconds, uint64_t count) {
    qsort(seconds, count, sizeof(*seconds), compare_doubles);
    result->median_us = seconds[count / 2] * 1e6;
    result->p99_us = seconds[count * 99 / 100] * 1e6;
}

/* ---- memory ---- */

/* A virtual machine may have to get free memory back from its host, at a fifth of its speed. */
static void do_touch(uint64_t bytes) {
    uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED) {
        die("mmap");
    }
    for (uint64_t i = 0; i < bytes; i += BLOCK) {
        map[i] = 1;
    }
    (void)munmap(map, bytes);
}

/* ---- one large file ---- */

static void do_seqwrite(Result *result, const char *path, uint64_t bytes) {
    uint64_t *chunk = memory(CHUNK);
    int fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    double start = now();

    for (uint64_t at = 0; at < bytes; at += CHUNK) {
        chunk[0] = at; /* no two chunks are the same */
        if (write(fd, chunk, CHUNK) != (ssize_t)CHUNK) {
            die(path);
        }
    }
    if (fsync(fd) < 0) {
        die(path);
    }
    result->seconds = now() - start;
    result->operations = bytes / CHUNK;
    result->bytes = bytes;
    (void)close(fd);
    free(chunk);
}

static void do_seqread(Result *result, const char *path) {
    uint8_t *chunk = memory(CHUNK);
    int fd = open_file(path, O_RDONLY);
    double start = now();
    ssize_t n;

    while ((n = read(fd, chunk, CHUNK)) > 0) {
        result->bytes += (uint64_t)n;
        result->operations++;
    }
    if (n < 0) {
        die(path);
    }
    result->seconds = now() - start;
    (void)close(fd);
    free(chunk);
}

typedef struct Reader {
    pthread_t thread;
    int fd;
    const uint32_t *blocks;
    uint64_t count;
    double *seconds;
    int error;
} Reader;

static void *reader_run(void *arg) {
    Reader *reader = arg;
    uint8_t buf[BLOCK];

    for (uint64_t i = 0; i < reader->count; i++) {
        double start = now();

        if (pread(reader->fd, buf, BLOCK, (off_t)reader->blocks[i] * BLOCK) != (ssize_t)BLOCK) {
            reader->error = errno != 0 ? errno : EIO;
            break;
        }
        reader->seconds[i] = now() - start;
    }
    return NULL;
}

/* The blocks of a file in an order that is the same in every run. */
static uint32_t *shuffled(uint64_t blocks) {
    uint32_t *list = calloc(blocks, sizeof(*list));
    uint64_t state = 88172645463325252u;

    if (list == NULL) {
        die("memory");
    }
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t j;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        j = state % (i + 1);
        list[i] = list[j];
        list[j] = (uint32_t)i;
    }
    return list;
}

static void do_randread(Result *result, const char *path, uint64_t count, unsigned threads) {
    static Reader readers[THREADS_MAX];
    int fd = open_file(path, O_RDONLY);
    struct stat st;
    uint32_t *blocks;
    double *seconds = calloc(count, sizeof(*seconds));
    double start;

    if (fstat(fd, &st) < 0 || seconds == NULL) {
        die(path);
    }
    if (threads == 0 || threads > THREADS_MAX || count < threads ||
        count > (uint64_t)st.st_size / BLOCK) {
        errno = EINVAL;
        die("count or threads");
    }
    blocks = shuffled((uint64_t)st.st_size / BLOCK);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    start = now();
    for (unsigned i = 0; i < threads; i++) {
        uint64_t from = count * i / threads, to = count * (i + 1) / threads;

        readers[i] = (Reader){0, fd, blocks + from, to - from, seconds + from, 0};
        if (pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]) != 0) {
            die("pthread_create");
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        (void)pthread_join(readers[i].thread, NULL);
        if (readers[i].error != 0) {
            errno = readers[i].error;
            die(path);
        }
    }
    result->seconds = now() - start;
    result->operations = count;
    result->bytes = count * BLOCK;
    percentiles(result, seconds, count);
    free(blocks);
    free(seconds);
    (void)close(fd);
}

static void do_append(Result *result, const char *path, uint64_t count) {
    uint8_t *block = memory(BLOCK);
    double *seconds = calloc(count, sizeof(*seconds));
    int fd = open_file(path, O_WRONLY | O_CREAT | O_APPEND);
    double start = now();

    if (seconds == NULL) {
        die("memory");
    }
    for (uint64_t i = 0; i < count; i++) {
        double begin = now();

        if (write(fd, block, BLOCK) != (ssize_t)BLOCK || fsync(fd) < 0) {
            die(path);
        }
        seconds[i] = now() - begin;
    }
    result->seconds = now() - start;
    result->operations = count;
    result->bytes = count * BLOCK;
    percentiles(result, seconds, count);
    (void)close(fd);
    free(block);
    free(seconds);
}

/* ---- many small files ---- */

static void do_create(Result *result, const char *dir, uint64_t count, uint64_t bytes) {
    uint8_t *content = memory(bytes + 1);
    double start = now();
    char path[4096];

    if (mkdir(dir, 0755) < 0) {
        die(dir);
    }
    for (uint64_t i = 0; i < count; i++) {
        int fd;

        if (i % PER_DIRECTORY == 0) {
            (void)snprintf(path, sizeof(path), "%s/dir%02u", dir, (unsigned)(i / PER_DIRECTORY));
            if (mkdir(path, 0755) < 0) {
                die(path);
            }
        }
        (void)snprintf(path, sizeof(path), "%s/dir%02u/small-file-%06u.txt", dir,
                       (unsigned)(i / PER_DIRECTORY), (unsigned)i);
        fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL);
        if (bytes > 0 && write(fd, content, bytes) != (ssize_t)bytes) {
            die(path);
        }
        if (close(fd) < 0) {
            die(path);
        }
    }
    result->seconds = now() - start;
    result->operations = count;
    result->bytes = count * bytes;
    free(content);
}

static void do_stat(Result *result, int dir, const char *name) {
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        die(name);
    }
    result->bytes += (uint64_t)st.st_size;
}

static void do_read(Result *result, int dir, const char *name) {
    static uint8_t buf[64 * 1024];
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) {
        die(name);
    }
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        result->bytes += (uint64_t)n;
    }
    if (n < 0) {
        die(name);
    }
    (void)close(fd);
}

static void do_unlink(Result *result, int dir, const char *name) {
    (void)result;
    if (unlinkat(dir, name, 0) < 0) {
        die(name);
    }
}

typedef struct Names {
    char **names;
    size_t count, capacity;
} Names;

/* All of a directory first: what happens to the files must not disturb the listing. */
static void list_directory(DIR *dir, Names *ret) {
    struct dirent *entry;

    ret->count = 0;
    while ((errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (ret->count == ret->capacity) {
            ret->capacity = ret->capacity * 2 + 64;
            ret->names = reallocarray(ret->names, ret->capacity, sizeof(*ret->names));
        }
        if (ret->names == NULL || (ret->names[ret->count] = strdup(entry->d_name)) == NULL) {
            die("memory");
        }
        ret->count++;
    }
    if (errno != 0) {
        die("readdir");
    }
}

static void each_file(Result *result, const char *top, void (*fn)(Result *, int, const char *)) {
    Names directories = {0}, files = {0};
    double start = now();
    DIR *dir = opendir(top);
    char path[4096];

    if (dir == NULL) {
        die(top);
    }
    list_directory(dir, &directories);
    (void)closedir(dir);
    for (size_t i = 0; i < directories.count; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", top, directories.names[i]);
        dir = opendir(path);
        if (dir == NULL) {
            die(path);
        }
        list_directory(dir, &files);
        for (size_t j = 0; j < files.count; j++) {
            fn(result, dirfd(dir), files.names[j]);
            free(files.names[j]);
        }
        result->operations += files.count;
        (void)closedir(dir);
        free(directories.names[i]);
    }
    result->seconds = now() - start;
    free(directories.names);
    free(files.names);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    const char *path = argc > 2 ? argv[2] : "";
    Result result = {0};

    if (strcmp(what, "touch") == 0 && argc == 3) {
        do_touch(number(path));
    } else if (strcmp(what, "seqwrite") == 0 && argc == 4) {
        do_seqwrite(&result, path, number(argv[3]));
    } else if (strcmp(what, "seqread") == 0 && argc == 3) {
        do_seqread(&result, path);
    } else if (strcmp(what, "randread") == 0 && argc == 5) {
        do_randread(&result, path, number(argv[3]), (unsigned)number(argv[4]));
    } else if (strcmp(what, "append") == 0 && argc == 4) {
        do_append(&result, path, number(argv[3]));
    } else if (strcmp(what, "create") == 0 && argc == 5) {
        do_create(&result, path, number(argv[3]), number(argv[4]));
    } else if (strcmp(what, "stat") == 0 && argc == 3) {
        each_file(&result, path, do_stat);
    } else if (strcmp(what, "read") == 0 && argc == 3) {
        each_file(&result, path, do_read);
    } else if (strcmp(what, "unlink") == 0 && argc == 3) {
        each_file(&result, path, do_unlink);
    } else {
        (void)fprintf(stderr, "helper: unknown workload, or wrong number of arguments\n");
        return 1;
    }
    (void)printf("%.9f %llu %llu %.1f %.1f\n", result.seconds,
                 (unsigned long long)result.operations, (unsigned long long)result.bytes,
                 result.median_us, result.p99_us);
    return 0;
}
