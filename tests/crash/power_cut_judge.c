/* SPDX-License-Identifier: MIT */
/*
 * Judging a state that a cut may have left, by fsck.fat and by what had been confirmed:
 *
 *   - fsck.fat may find lost clusters (also behind a file's end), lost parts of long names (they
 *     may lie in two sectors), the dirty mark, a stale free count, FAT copies of which one is
 *     ahead, two names for one file or directory in the middle of a rename or an exchange, and
 *     with those a '..' that does not fit; nothing else;
 *   - every file that a sync had confirmed and nothing touched since reads as it was;
 *   - every file that a sync had confirmed and that got no more than other names since is
 *     there under some name.
 */
#include "power_cut.h"
#include <stdio.h>
#include <sys/wait.h>

#define TREE_MAX 512

/* Operations that may have reached the state: those in (from, to]. */
typedef struct Window {
    const Confirmed *confirmed; /* NULL: nothing was */
    uint32_t from, to;
} Window;

/* Everything that a state shows. */
typedef struct Tree {
    Driver driver;
    BlockDevice *device;
    char *paths[TREE_MAX]; /* directories */
    unsigned count;
    int visiting;
    struct {
        uint64_t hash;
        uint32_t length;
    } files[TREE_MAX];
    unsigned file_count;
} Tree;

static Window window_of(const PowerCut *cut, uint32_t epoch) {
    Window window = {0};

    for (size_t i = 0; i < cut->confirmed_count && cut->confirmed[i].epoch <= epoch; i++) {
        window.confirmed = &cut->confirmed[i];
        window.from = window.confirmed->operation;
    }
    for (window.to = window.from; window.to < cut->operations;) {
        window.to++;
        /* Operations after this one cannot have reached the device. */
        if (cut->touches[window.to].epoch > epoch) {
            break;
        }
    }
    return window;
}

static void mount_state(PowerCut *cut, uint8_t *state, uint32_t epoch, Driver *driver,
                        BlockDevice **ret_device) {
    if (block_memory_new(cut->size, 512, state, ret_device) != 0 ||
        driver_mount(driver, *ret_device, "ro") < 0) {
        die(cut, "the cut state does not mount, epoch", epoch);
    }
}

static uint64_t hash_bytes(const uint8_t *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

/* ---- two names ---- */

static void add_name(void *arg, const FsDirEntry *entry) {
    uint64_t *sum = arg;

    *sum += hash_bytes((const uint8_t *)entry->name, entry->name_length);
}

/* Two names that share clusters must be two names of one file: the same bytes from the start; or of
 * one directory: the same names. */
static void judge_shared(PowerCut *cut, uint8_t *state, const char *one, const char *other,
                         uint32_t epoch) {
    static uint8_t bytes[2][CONTENT_MAX];
    BlockDevice *device = NULL;
    FsAttr attrs[2];
    Driver driver;
    bool good;

    mount_state(cut, state, epoch, &driver, &device);
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
        fprintf(stderr, "power_cut: seed %lu, epoch %u: '%s' and '%s' are linked\n", cut->seed,
                epoch, one, other);
        exit(1);
    }
    driver_unmount(&driver);
    block_free(device);
}

/* "/one  and" and "/other", as fsck.fat prints them before it says what they share. */
static void read_shared(PowerCut *cut, uint8_t *state, char names[2][2 * PATH_LENGTH_MAX],
                        uint32_t epoch) {
    names[0][strcspn(names[0], "\n")] = '\0';
    names[1][strcspn(names[1], "\n")] = '\0';
    char *and = strstr(names[0], "  and");
    if (and == NULL || names[0][0] != '/' || names[1][0] != '/') {
        die(cut, "cannot read what fsck.fat says of shared clusters, epoch", epoch);
    }
    *and = '\0';
    judge_shared(cut, state, names[0] + 1, names[1] + 1, epoch);
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

/* Runs fsck.fat -n and weighs each line. */
static void judge_checker(PowerCut *cut, uint8_t *state, const char *path, uint32_t epoch) {
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
    Window window = window_of(cut, epoch);
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
            read_shared(cut, state, names, epoch);
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
    if (bad || !WIFEXITED(status) || WEXITSTATUS(status) > 1) {
        fprintf(stderr, "%s\npower_cut: seed %lu, epoch %u: more than leaks (image kept: %s)\n",
                all, cut->seed, epoch, path);
        exit(1);
    }
    cut->lost_states += lost;
    cut->two_names_states += two_names;
    cut->clean_states += !lost && !two_names;
}

/* ---- what had been confirmed ---- */

static void tree_entry(void *arg, const FsDirEntry *entry) {
    static uint8_t bytes[CONTENT_MAX];
    Tree *tree = arg;
    char path[PATH_LENGTH_MAX];

    snprintf(path, sizeof(path), "%s%s%.*s", tree->paths[tree->visiting],
             tree->visiting > 0 ? "/" : "", (int)entry->name_length, entry->name);
    if (entry->type == FS_TYPE_DIRECTORY) {
        if (tree->count < TREE_MAX) {
            tree->paths[tree->count++] = strdup(path);
        }
        return;
    }
    int64_t length = driver_read(&tree->driver, path, 0, bytes, sizeof(bytes));
    if (length >= 0 && tree->file_count < TREE_MAX) {
        tree->files[tree->file_count].hash = hash_bytes(bytes, (size_t)length);
        tree->files[tree->file_count++].length = (uint32_t)length;
    }
}

static void tree_read(Tree *tree) {
    tree->file_count = 0;
    tree->count = 1;
    tree->paths[0] = strdup("");
    for (tree->visiting = 0; tree->visiting < (int)tree->count; tree->visiting++) {
        (void)driver_list(&tree->driver, tree->paths[tree->visiting], tree_entry, tree);
    }
    for (unsigned i = 0; i < tree->count; i++) {
        free(tree->paths[i]);
    }
}

static bool tree_has(const Tree *tree, const Node *file) {
    uint64_t hash = hash_bytes(file->bytes, file->length);

    for (unsigned i = 0; i < tree->file_count; i++) {
        if (tree->files[i].length == file->length && tree->files[i].hash == hash) {
            return true;
        }
    }
    return false;
}

/* Did an operation in the window change these bytes, or remove them? */
static bool content_changed(const PowerCut *cut, const Window *window, uint32_t content) {
    for (uint32_t n = window->from + 1; n <= window->to; n++) {
        if (cut->touches[n].changed[0] == content || cut->touches[n].changed[1] == content) {
            return true;
        }
    }
    return false;
}

/* Did one touch the node, or what it lay in? */
static bool node_touched(const PowerCut *cut, const Window *window, int node) {
    for (; node != NO_NODE; node = window->confirmed->nodes[node].parent) {
        for (uint32_t n = window->from + 1; n <= window->to; n++) {
            if (cut->touches[n].node == node || cut->touches[n].other == node) {
                return true;
            }
        }
    }
    return false;
}

static void judge_untouched(PowerCut *cut, Driver *driver, const Window *window, int i,
                            const char *image, uint32_t epoch) {
    static uint8_t bytes[CONTENT_MAX];
    const Node *file = &window->confirmed->nodes[i];
    char path[PATH_LENGTH_MAX];
    FsAttr attr = {0};
    int64_t n = 0;

    node_path(window->confirmed->nodes, i, path);
    int r = driver_stat(driver, path, &attr);
    if (r == 0 && !file->directory) {
        n = driver_read(driver, path, 0, bytes, CONTENT_MAX);
    }
    if (r < 0 || (attr.type == FS_TYPE_DIRECTORY) != file->directory ||
        (!file->directory && (attr.size != file->length || n != file->length ||
                              memcmp(bytes, file->bytes, file->length) != 0))) {
        fprintf(stderr,
                "power_cut: seed %lu, epoch %u: %s was confirmed at operation %u and is wrong "
                "(stat %d, size %llu of %u, image kept: %s)\n",
                cut->seed, epoch, path, window->confirmed->operation, r,
                (unsigned long long)attr.size, file->length, image);
        exit(1);
    }
}

static void judge_confirmed(PowerCut *cut, uint8_t *state, const char *image, uint32_t epoch) {
    static Tree tree;
    Window window = window_of(cut, epoch);

    if (window.confirmed == NULL) {
        return;
    }
    mount_state(cut, state, epoch, &tree.driver, &tree.device);
    tree_read(&tree);
    for (int i = 0; i < NODES; i++) {
        const Node *node = &window.confirmed->nodes[i];

        if (!node->exists) {
            continue;
        }
        if (!node_touched(cut, &window, i)) {
            judge_untouched(cut, &tree.driver, &window, i, image, epoch);
        } else if (!node->directory && node->length > 0 &&
                   !content_changed(cut, &window, node->content) && !tree_has(&tree, node)) {
            char path[PATH_LENGTH_MAX];
            node_path(window.confirmed->nodes, i, path);
            fprintf(stderr,
                    "power_cut: seed %lu, epoch %u: what was confirmed at operation %u as %s and "
                    "only got other names is gone (image kept: %s)\n",
                    cut->seed, epoch, window.confirmed->operation, path, image);
            exit(1);
        }
    }
    driver_unmount(&tree.driver);
    block_free(tree.device);
}

void judge_state(PowerCut *cut, uint8_t *state, const char *path, uint32_t epoch) {
    judge_checker(cut, state, path, epoch);
    judge_confirmed(cut, state, path, epoch);
}
