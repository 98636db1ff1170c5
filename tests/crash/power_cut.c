/* SPDX-License-Identifier: MIT */
/*
 * Power cuts on real FAT volumes. A seeded workload runs on a recording device; afterwards device
 * states are built as a cut could have left them: everything before some flush, and of the writes
 * between that flush and the next a random subset of sectors. For each state
 *
 *   - fsck.fat may find lost clusters (also behind a file's end), lost parts of long names (they
 *     may lie in two sectors), the dirty mark, a stale free count, FAT copies of which one is
 * ahead, or, in the middle of a rename, two names for one file; nothing else;
 *   - every file that a sync had confirmed and nobody touched since reads as it was.
 *
 * usage: power_cut IMAGE SEED OPERATIONS STATES   (IMAGE: fresh from mkfs.fat, not changed)
 */
#include "berth/log.h"
#include "volume_driver.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FILES 24
#define CONTENT_MAX 40000

typedef struct ModelFile {
    bool exists;
    uint32_t length;
    uint32_t touched_at; /* operation that last changed or renamed it */
    uint8_t *content;
    char path[64];
} ModelFile;

/* What a sync had confirmed. */
typedef struct Confirmed {
    uint32_t operation, epoch;
    ModelFile files[FILES];
} Confirmed;

typedef struct PowerCut {
    uint64_t random;
    unsigned long seed;
    uint8_t *base;
    uint64_t size;
    BlockRecording recording;
    ModelFile files[FILES];
    Confirmed *confirmed;
    size_t confirmed_count;
    /* Per operation: which file it touched, and the epochs around it. */
    struct Touch {
        int file, other;
        uint32_t epoch;
    } * touches;
    uint32_t operations;
    unsigned long lost_states, clean_states, two_names_states;
} PowerCut;

static uint64_t next_random(PowerCut *cut) {
    cut->random ^= cut->random << 13;
    cut->random ^= cut->random >> 7;
    cut->random ^= cut->random << 17;
    return cut->random;
}

static uint32_t pick(PowerCut *cut, uint32_t limit) {
    return (uint32_t)(next_random(cut) % limit);
}

static void die(const PowerCut *cut, const char *what, long long detail) {
    fprintf(stderr, "power_cut: seed %lu: %s (%lld)\n", cut->seed, what, detail);
    exit(1);
}

static void name_file(PowerCut *cut, int i, unsigned generation) {
    static const char *const forms[] = {"F%d_%u.DAT", "a long name %d generation %u.txt",
                                        "dir/inner %d-%u", "dir/I%d_%u"};

    /* The formats are the table's own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(cut->files[i].path, sizeof(cut->files[i].path), forms[pick(cut, 4)], i, generation);
#pragma GCC diagnostic pop
}

static int do_operation(PowerCut *cut, Driver *driver, uint32_t number) {
    int i = (int)pick(cut, FILES);
    ModelFile *file = &cut->files[i];
    static uint8_t bytes[9000];
    int64_t r = 0;

    cut->touches[number].file = i;
    cut->touches[number].other = -1;
    file->touched_at = number;
    if (!file->exists) {
        name_file(cut, i, number);
        r = driver_create(driver, file->path, FS_TYPE_FILE);
        file->exists = r >= 0;
        file->length = 0;
        return (int)r;
    }
    switch (pick(cut, 8)) {
    case 0:
        r = driver_unlink(driver, file->path, false);
        file->exists = r < 0;
        break;
    case 1: {
        char old[sizeof(file->path)];
        memcpy(old, file->path, sizeof(old));
        name_file(cut, i, number);
        r = driver_rename(driver, old, file->path);
        break;
    }
    case 2: { /* rename over another */
        int j = (int)pick(cut, FILES);
        ModelFile *victim = &cut->files[j];
        if (j == i || !victim->exists) {
            break;
        }
        r = driver_rename(driver, file->path, victim->path);
        victim->length = file->length;
        memcpy(victim->content, file->content, file->length);
        victim->touched_at = number;
        file->exists = false;
        cut->touches[number].other = j;
        break;
    }
    case 3: {
        uint32_t length = pick(cut, file->length + 3000);
        length = MIN(length, (uint32_t)CONTENT_MAX);
        r = driver_truncate(driver, file->path, length);
        if (length > file->length) {
            memset(file->content + file->length, 0, length - file->length);
        }
        file->length = length;
        break;
    }
    default: {
        uint32_t offset = pick(cut, MIN(file->length + 600, (uint32_t)CONTENT_MAX - 9000));
        uint32_t length = 1 + pick(cut, sizeof(bytes));
        for (uint32_t k = 0; k < length; k++) {
            bytes[k] = (uint8_t)next_random(cut);
        }
        r = driver_write(driver, file->path, offset, bytes, length);
        if (offset > file->length) {
            memset(file->content + file->length, 0, offset - file->length);
        }
        memcpy(file->content + offset, bytes, length);
        file->length = MAX(file->length, offset + length);
        break;
    }
    }
    return (int)r;
}

static void confirm(PowerCut *cut, uint32_t operation) {
    cut->confirmed = realloc(cut->confirmed, (cut->confirmed_count + 1) * sizeof(Confirmed));
    if (cut->confirmed == NULL) {
        die(cut, "memory", 0);
    }
    Confirmed *c = &cut->confirmed[cut->confirmed_count++];
    c->operation = operation;
    c->epoch = cut->recording.epoch;
    for (int i = 0; i < FILES; i++) {
        c->files[i] = cut->files[i];
        if (cut->files[i].exists) {
            c->files[i].content = malloc(cut->files[i].length + 1u);
            memcpy(c->files[i].content, cut->files[i].content, cut->files[i].length);
        }
    }
}

static void run_workload(PowerCut *cut) {
    BlockDevice *memory = NULL, *device = NULL;
    Driver driver;

    uint8_t *data = malloc(cut->size);
    memcpy(data, cut->base, cut->size);
    if (block_memory_new(cut->size, 512, data, &memory) != 0 ||
        block_recorder_new(memory, &cut->recording, &device) != 0) {
        die(cut, "devices", 0);
    }
    int r = driver_mount(&driver, device, "log=256K");
    if (r < 0) {
        die(cut, "mount", r);
    }
    if (driver_create(&driver, "dir", FS_TYPE_DIRECTORY) < 0) {
        die(cut, "mkdir", 0);
    }
    for (uint32_t n = 1; n <= cut->operations; n++) {
        r = do_operation(cut, &driver, n);
        if (r < 0) {
            die(cut, "operation failed", r);
        }
        cut->touches[n].epoch = cut->recording.epoch;
        if (pick(cut, 12) == 0) {
            if (driver_sync(&driver) < 0) {
                die(cut, "sync", 0);
            }
            confirm(cut, n);
        }
    }
    driver_unmount(&driver);
    block_free(device);
    block_free(memory);
    free(data);
}

/* Everything before `epoch`, and a random subset of the sectors written in it. */
static void build_state(PowerCut *cut, uint8_t *state, uint32_t epoch) {
    unsigned keep = pick(cut, 5); /* 0: none … 4: all, between: chance */

    memcpy(state, cut->base, cut->size);
    for (size_t i = 0; i < cut->recording.count; i++) {
        const RecordedWrite *w = &cut->recording.writes[i];
        if (w->epoch > epoch) {
            break;
        }
        for (uint64_t done = 0; done < w->length; done += 512) {
            if (w->epoch < epoch || pick(cut, 4) < keep) {
                memcpy(state + w->offset + done, w->data + done,
                       MIN(w->length - done, (uint64_t)512));
            }
        }
    }
}

/* Two names that share clusters must be two names of one file: the same bytes from the start. */
static void judge_shared(PowerCut *cut, uint8_t *state, const char *one, const char *other,
                         uint32_t epoch) {
    static uint8_t bytes[2][CONTENT_MAX];
    BlockDevice *device = NULL;
    Driver driver;

    if (block_memory_new(cut->size, 512, state, &device) != 0 ||
        driver_mount(&driver, device, "ro") < 0) {
        die(cut, "the cut state does not mount, epoch", epoch);
    }
    int64_t a = driver_read(&driver, one, 0, bytes[0], CONTENT_MAX);
    int64_t b = driver_read(&driver, other, 0, bytes[1], CONTENT_MAX);
    /* fsck.fat also reads entries behind a directory's end mark, which are not there for others. */
    bool one_hidden = (a == -ENOENT && b > 0) || (b == -ENOENT && a > 0);
    if (!one_hidden && (a <= 0 || b <= 0 || memcmp(bytes[0], bytes[1], (size_t)MIN(a, b)) != 0)) {
        fprintf(stderr, "power_cut: seed %lu, epoch %u: '%s' (%lld) and '%s' (%lld) are linked\n",
                cut->seed, epoch, one, (long long)a, other, (long long)b);
        exit(1);
    }
    driver_unmount(&driver);
    block_free(device);
}

/* Runs fsck.fat -n and weighs each line. */
static void judge_checker(PowerCut *cut, uint8_t *state, const char *path, uint32_t epoch) {
    static char names[2][1024]; /* the last two lines */
    char command[512], line[1024];
    static char all[16384];
    bool lost = false, two_names = false, bad = false;

    all[0] = '\0';
    snprintf(command, sizeof(command), "LC_ALL=C fsck.fat -n '%s' 2>&1", path);
    FILE *pipe = popen(command, "r");
    if (pipe == NULL) {
        die(cut, "cannot run fsck.fat", errno);
    }
    while (fgets(line, sizeof(line), pipe) != NULL) {
        strncat(all, line, sizeof(all) - strlen(all) - 1);
        static const char *const grave[] = {"Contains a free cluster",
                                            "Bad",
                                            "bad ",
                                            "Start does point",
                                            "Start cluster beyond",
                                            "chain length is <",
                                            "Circular",
                                            "Cluster chain",
                                            "does not",
                                            "Duplicate",
                                            "wrong first",

                                            "Wrong checksum",
                                            "Start (",
                                            "self",
                                            "Logical",
                                            "has the wrong"};
        if (strstr(line, "share clusters") != NULL) {
            two_names = true;
            names[0][strcspn(names[0], "\n")] = '\0';
            names[1][strcspn(names[1], "\n")] = '\0';
            char *and = strstr(names[0], "  and");
            if (and == NULL || names[0][0] != '/' || names[1][0] != '/') {
                die(cut, "cannot read what fsck.fat says of shared clusters, epoch", epoch);
            }
            *and = '\0';
            judge_shared(cut, state, names[0] + 1, names[1] + 1, epoch);
        } else if (strstr(line, "There are differences between boot sector") != NULL ||
                   strstr(line, "boot sector and its backup") != NULL) {
            continue; /* the dirty mark lives in the first one only */
        } else {
            lost = lost || strstr(line, "unused cluster") != NULL ||
                   strstr(line, "Orphaned long file name part") != NULL ||
                   strstr(line, "chain length is >") != NULL;
            for (size_t i = 0; i < ARRAY_SIZE(grave); i++) {
                bad = bad || strstr(line, grave[i]) != NULL;
            }
        }
        memcpy(names[0], names[1], sizeof(names[0]));
        memcpy(names[1], line, sizeof(names[1]));
    }
    int status = pclose(pipe);
    if (bad || !WIFEXITED(status) || WEXITSTATUS(status) > 1) {
        fprintf(stderr, "%s\npower_cut: seed %lu, epoch %u: more than leaks (image kept: %s)\n",
                all, cut->seed, epoch, path);
        exit(1);
    }
    cut->lost_states += lost;
    cut->two_names_states += two_names;
    cut->clean_states += !lost && !two_names;
}

/* What the last sync before this epoch confirmed and nothing touched afterwards must be there. */
static void judge_confirmed(PowerCut *cut, uint8_t *state, const char *path, uint32_t epoch) {
    const Confirmed *c = NULL;
    BlockDevice *device = NULL;
    Driver driver;
    static uint8_t bytes[CONTENT_MAX];

    for (size_t i = 0; i < cut->confirmed_count && cut->confirmed[i].epoch <= epoch; i++) {
        c = &cut->confirmed[i];
    }
    if (c == NULL) {
        return;
    }
    bool touched[FILES] = {false};
    for (uint32_t n = c->operation + 1; n <= cut->operations; n++) {
        touched[cut->touches[n].file] = true;
        if (cut->touches[n].other >= 0) {
            touched[cut->touches[n].other] = true;
        }
        /* Operations made after this epoch's checkpoint cannot have reached the device. */
        if (cut->touches[n].epoch > epoch) {
            break;
        }
    }
    if (block_memory_new(cut->size, 512, state, &device) != 0 ||
        driver_mount(&driver, device, "ro") < 0) {
        die(cut, "the cut state does not mount, epoch", epoch);
    }
    for (int i = 0; i < FILES; i++) {
        const ModelFile *file = &c->files[i];
        if (!file->exists || touched[i]) {
            continue;
        }
        FsAttr attr;
        int r = driver_stat(&driver, file->path, &attr);
        int64_t n = r < 0 ? r : driver_read(&driver, file->path, 0, bytes, CONTENT_MAX);
        if (r < 0 || attr.size != file->length || n != file->length ||
            memcmp(bytes, file->content, file->length) != 0) {
            fprintf(stderr,
                    "power_cut: seed %lu, epoch %u: %s was confirmed at operation %u and is wrong "
                    "(stat %d, size %llu of %u, image kept: %s)\n",
                    cut->seed, epoch, file->path, c->operation, r,
                    r < 0 ? 0ULL : (unsigned long long)attr.size, file->length, path);
            exit(1);
        }
    }
    driver_unmount(&driver);
    block_free(device);
}

static void load_base(PowerCut *cut, const char *path) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0) {
        die(cut, "cannot open the image", errno);
    }
    cut->size = (uint64_t)st.st_size;
    cut->base = malloc(cut->size);
    if (cut->base == NULL || read(fd, cut->base, cut->size) != (ssize_t)cut->size) {
        die(cut, "cannot read the image", errno);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: power_cut IMAGE SEED OPERATIONS STATES\n");
        return 2;
    }
    static PowerCut cut;

    cut.seed = strtoul(argv[2], NULL, 0);
    cut.operations = (uint32_t)strtoul(argv[3], NULL, 0);
    cut.random = cut.seed * 0x9e3779b97f4a7c15u + 1;
    log_init("power_cut", LOG_LEVEL_ERROR); /* every cut state says that it is dirty */
    load_base(&cut, argv[1]);
    cut.touches = calloc(cut.operations + 1, sizeof(*cut.touches));
    for (int i = 0; i < FILES; i++) {
        cut.files[i].content = malloc(CONTENT_MAX);
    }
    run_workload(&cut);
    uint8_t *state = malloc(cut.size);
    char path[] = "/tmp/berth-power-cut.XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || state == NULL) {
        die(&cut, "scratch file", errno);
    }
    unsigned long states = strtoul(argv[4], NULL, 0);
    for (unsigned long i = 0; i < states; i++) {
        uint32_t epoch = pick(&cut, cut.recording.epoch + 1);
        build_state(&cut, state, epoch);
        if (pwrite(fd, state, cut.size, 0) != (ssize_t)cut.size) {
            die(&cut, "scratch file", errno);
        }
        judge_checker(&cut, state, path, epoch);
        judge_confirmed(&cut, state, path, epoch);
    }
    printf("seed %lu: %u operations, %zu writes in %u epochs, %lu states: %lu clean, %lu with lost "
           "clusters, %lu with two names\n",
           cut.seed, cut.operations, cut.recording.count, cut.recording.epoch, states,
           cut.clean_states, cut.lost_states, cut.two_names_states);
    free(state);
    close(fd);
    unlink(path);
    return 0;
}
