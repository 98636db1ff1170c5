/* SPDX-License-Identifier: MIT */
/*
 * What the formats' checkers find in a state after a cut:
 *
 *   - fsck.fat may find lost clusters (also behind a file's end), lost parts of long names (they
 *     may lie in two sectors), the dirty mark, a stale free count, FAT copies of which one is
 *     ahead, two names for one file or directory in the middle of a rename or an exchange, and
 *     with those a '..' that does not fit; nothing else;
 *   - fsck.hfs repairs what it finds;
 *   - after the replay of a journal either finds the mark, and nothing else.
 */
#include "power_cut.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>

/* ---- two names ---- */

static void add_name(void *arg, const FsDirEntry *entry) {
    uint64_t *sum = arg;

    *sum += hash_bytes((const uint8_t *)entry->name, entry->name_length);
}

/* Two names that share clusters must be two names of one file: the same bytes from the start; or of
 * one directory: the same names. */
static void judge_shared(PowerCut *cut, uint8_t *state, const char *one, const char *other,
                         uint64_t moment) {
    static uint8_t bytes[2][CONTENT_MAX];
    BlockDevice *device = NULL;
    FsAttr attrs[2];
    Driver driver;
    bool good;

    judge_mount(cut, state, moment, &driver, &device);
    int a = driver_stat(&driver, one, &attrs[0]);
    int b = driver_stat(&driver, other, &attrs[1]);
    if (a == -ENOENT || b == -ENOENT) {
        /* fsck.fat also reads entries behind a directory's end mark, which others do not see. */
        good = a == 0 || b == 0;
    } else if (a < 0 || b < 0 || attrs[0].type != attrs[1].type) {
        good = false;
    } else if (attrs[0].type == FS_TYPE_DIRECTORY) {
        uint64_t sums[2] = {0};
        a = driver_list(&driver, one, add_name, &sums[0]);
        b = driver_list(&driver, other, add_name, &sums[1]);
        good = a == 0 && b == 0 && sums[0] == sums[1];
    } else {
        int64_t n = driver_read(&driver, one, 0, bytes[0], CONTENT_MAX);
        int64_t m = driver_read(&driver, other, 0, bytes[1], CONTENT_MAX);
        good = n > 0 && m > 0 && memcmp(bytes[0], bytes[1], (size_t)MIN(n, m)) == 0;
    }
    if (!good) {
        fprintf(stderr, "power_cut: seed %lu, moment %" PRIu64 ": '%s' and '%s' are linked\n",
                cut->seed, moment, one, other);
        exit(1);
    }
    driver_unmount(&driver);
    block_free(device);
}

/* "/one  and" and "/other", as fsck.fat prints them before it says what they share. */
static void read_shared(PowerCut *cut, uint8_t *state, char names[2][2 * PATH_LENGTH_MAX],
                        uint64_t moment) {
    names[0][strcspn(names[0], "\n")] = '\0';
    names[1][strcspn(names[1], "\n")] = '\0';
    char *and = strstr(names[0], "  and");
    if (and == NULL || names[0][0] != '/' || names[1][0] != '/') {
        die(cut, "cannot read what fsck.fat says of shared clusters, moment", (long long)moment);
    }
    *and = '\0';
    judge_shared(cut, state, names[0] + 1, names[1] + 1, moment);
}

/* ---- what fsck.fat finds ---- */

static bool has_any(const char *line, const char *const *texts) {
    for (; *texts != NULL; texts++) {
        if (strstr(line, *texts) != NULL) {
            return true;
        }
    }
    return false;
}

static bool directories_moved(const PowerCut *cut, const Window *window) {
    for (uint32_t n = window->from + 1; n <= window->to; n++) {
        if (cut->touches[n].moves_directory) {
            return true;
        }
    }
    return false;
}

/* Weighs each line of fsck.fat -n. */
void check_fat(PowerCut *cut, uint8_t *state, const char *path, uint64_t moment) {
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
                                        "has the wrong",
                                        NULL};
    /* The dirty mark lives in the first boot sector only. */
    static const char *const harmless[] = {"There are differences between boot sector",
                                           "boot sector and its backup", NULL};
    static const char *const leaks[] = {"unused cluster", "Orphaned long file name part",
                                        "chain length is >", NULL};
    static char names[2][2 * PATH_LENGTH_MAX]; /* the last two lines */
    static char line[2 * PATH_LENGTH_MAX], all[65536];
    Window window = judge_window(cut, moment);
    bool moved = directories_moved(cut, &window);
    bool lost = false, two_names = false, bad = false;
    char command[512];

    all[0] = '\0';
    snprintf(command, sizeof(command), "LC_ALL=C fsck.fat -n '%s' 2>&1", path);
    FILE *pipe = popen(command, "r");
    if (pipe == NULL) {
        die(cut, "cannot run fsck.fat", errno);
    }
    while (fgets(line, sizeof(line), pipe) != NULL) {
        strncat(all, line, sizeof(all) - strlen(all) - 1);
        if (strstr(line, "share clusters") != NULL) {
            two_names = true;
            read_shared(cut, state, names, moment);
        } else if (!has_any(line, harmless) &&
                   !(moved && (strstr(line, "does not point to parent") != NULL ||
                               strstr(line, "does not point to ..") != NULL))) {
            lost = lost || has_any(line, leaks);
            bad = bad || has_any(line, grave);
        }
        memcpy(names[0], names[1], sizeof(names[0]));
        memcpy(names[1], line, sizeof(names[1]));
    }
    int status = pclose(pipe);
    bad = bad || (cut->journal_size > 0 && (lost || two_names));
    if (bad || !WIFEXITED(status) || WEXITSTATUS(status) > 1) {
        fprintf(stderr,
                "%s\npower_cut: seed %lu, moment %" PRIu64 ": more than leaks (image kept: %s)\n",
                all, cut->seed, moment, path);
        exit(1);
    }
    cut->lost_states += lost;
    cut->two_names_states += two_names;
    cut->clean_states += !lost && !two_names;
}

/* ---- what fsck.hfs finds ---- */

/* Its exit code; all that it says goes to *all. */
static int run_fsck_hfs(PowerCut *cut, const char *flag, const char *path, char all[65536]) {
    char command[512], line[512];

    all[0] = '\0';
    snprintf(command, sizeof(command), "'%s' %s -f '%s' 2>&1", cut->fsck_hfs, flag, path);
    FILE *pipe = popen(command, "r");
    if (pipe == NULL) {
        die(cut, "cannot run fsck.hfs", errno);
    }
    while (fgets(line, sizeof(line), pipe) != NULL) {
        strncat(all, line, 65536 - strlen(all) - 1);
    }
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Nothing, or the mark alone? */
static bool only_the_mark(int code, const char *all) {
    return code == 0 || (code == 4 && strstr(all, "was not unmounted cleanly") != NULL &&
                         strstr(all, ": 1 problem,") != NULL);
}

static void read_back(PowerCut *cut, uint8_t *state, const char *path) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || pread(fd, state, cut->size, 0) != (ssize_t)cut->size) {
        die(cut, "cannot read what fsck.hfs has written", errno);
    }
}

bool check_hfs(PowerCut *cut, uint8_t *state, const char *path, uint64_t moment) {
    static char all[65536];
    int code = run_fsck_hfs(cut, "-n", path, all);

    if (only_the_mark(code, all)) {
        cut->clean_states++;
        return true;
    }
    memcpy(cut->before, state, cut->size);
    if (cut->journal_size > 0) {
        fprintf(stderr, "%s\npower_cut: seed %lu, moment %" PRIu64 ": problems\n", all, cut->seed,
                moment);
        bad_state(cut, path);
        return false;
    }
    code = run_fsck_hfs(cut, "-y", path, all);
    if ((code & ~1) != 0 || run_fsck_hfs(cut, "-n", path, all) != 0) {
        fprintf(stderr, "%s\npower_cut: seed %lu, moment %" PRIu64 ": fsck.hfs leaves problems\n",
                all, cut->seed, moment);
        bad_state(cut, path);
        return false;
    }
    read_back(cut, state, path);
    cut->repaired_states++;
    return true;
}
