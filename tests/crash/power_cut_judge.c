/* SPDX-License-Identifier: MIT */
/*
 * Judging a state that a cut may have left, by the format's checker (power_cut_checkers.c) and by
 * what had been confirmed:
 *
 *   - every file that a sync had confirmed and nothing touched since reads as it was;
 *   - every file that a sync had confirmed and that got no more than other names since is
 *     there under some name;
 *   - with a journal the names, types and sizes are those between two operations, and so are the
 *     bytes of files that no later one wrote to.
 */
#include "power_cut.h"
#include <inttypes.h>
#include <stdio.h>

#define TREE_MAX 512

/* Everything that a state shows. */
typedef struct Tree {
    Driver driver;
    BlockDevice *device;
    char *paths[TREE_MAX]; /* directories */
    unsigned count;
    int visiting;
    struct {
        uint64_t hash, sum; /* of its bytes; file_sum() */
        uint32_t length;
    } files[TREE_MAX];
    unsigned file_count;
    uint64_t sum; /* entry_sum() */
} Tree;

Window judge_window(const PowerCut *cut, uint64_t moment) {
    Window window = {0};

    for (size_t i = 0; i < cut->confirmed_count && cut->confirmed[i].moment <= moment; i++) {
        window.confirmed = &cut->confirmed[i];
        window.from = window.confirmed->operation;
    }
    for (window.to = window.from; window.to < cut->operations;) {
        window.to++;
        /* Operations after this one cannot have reached the device. */
        if (cut->touches[window.to].moment > moment) {
            break;
        }
    }
    return window;
}

void judge_mount(PowerCut *cut, uint8_t *state, uint64_t moment, Driver *driver,
                 BlockDevice **ret_device) {
    if (block_memory_new(cut->size, 512, state, ret_device) != 0 ||
        driver_mount_type(driver, cut->type, *ret_device, "ro") < 0) {
        die(cut, "the cut state does not mount, moment", (long long)moment);
    }
}

uint64_t entry_sum(const char *path, bool directory, uint64_t length) {
    uint64_t hash = hash_bytes((const uint8_t *)path, strlen(path));

    return (hash ^ (directory ? 1 : length + 2)) * 0x9e3779b97f4a7c15u;
}

uint64_t file_sum(const char *path, uint64_t bytes_hash) {
    return ((hash_bytes((const uint8_t *)path, strlen(path)) + bytes_hash) * 0x9e3779b97f4a7c15u) |
           1;
}

uint64_t hash_bytes(const uint8_t *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

/* ---- what had been confirmed ---- */

static void tree_entry(void *arg, const FsDirEntry *entry) {
    static uint8_t bytes[CONTENT_MAX];
    Tree *tree = arg;
    char path[PATH_LENGTH_MAX];

    snprintf(path, sizeof(path), "%s%s%.*s", tree->paths[tree->visiting],
             tree->visiting > 0 ? "/" : "", (int)entry->name_length, entry->name);
    if (entry->type == FS_TYPE_DIRECTORY) {
        tree->sum += entry_sum(path, true, 0);
        if (tree->count < TREE_MAX) {
            tree->paths[tree->count++] = strdup(path);
        }
        return;
    }
    int64_t length = driver_read(&tree->driver, path, 0, bytes, sizeof(bytes));
    tree->sum += entry_sum(path, false, (uint64_t)MAX(length, 0));
    if (length >= 0 && tree->file_count < TREE_MAX) {
        tree->files[tree->file_count].hash = hash_bytes(bytes, (size_t)length);
        tree->files[tree->file_count].sum = file_sum(path, tree->files[tree->file_count].hash);
        tree->files[tree->file_count++].length = (uint32_t)length;
    }
}

static void tree_read(Tree *tree) {
    tree->file_count = 0;
    tree->sum = 0;
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

static bool wrong(PowerCut *cut, const char *path, uint32_t operation, const char *what,
                  uint64_t moment) {
    fprintf(stderr, "power_cut: seed %lu, moment %" PRIu64 ": \"%s\" of operation %u %s\n",
            cut->seed, moment, path, operation, what);
    return false;
}

static bool is_as_confirmed(Driver *driver, const Node *file, const char *path) {
    static uint8_t bytes[CONTENT_MAX];
    FsAttr attr = {0};

    if (driver_stat(driver, path, &attr) < 0 ||
        (attr.type == FS_TYPE_DIRECTORY) != file->directory) {
        return false;
    }
    return file->directory || (attr.size == file->length &&
                               driver_read(driver, path, 0, bytes, CONTENT_MAX) == file->length &&
                               memcmp(bytes, file->bytes, file->length) == 0);
}

static bool judge_confirmed(PowerCut *cut, Tree *tree, const Window *window, uint64_t moment) {
    uint32_t operation = window->from;
    bool good = true;

    for (int i = 0; i < NODES; i++) {
        const Node *node = &window->confirmed->nodes[i];
        char path[PATH_LENGTH_MAX];

        if (!node->exists) {
            continue;
        }
        node_path(window->confirmed->nodes, i, path);
        if (!node_touched(cut, window, i)) {
            if (!is_as_confirmed(&tree->driver, node, path)) {
                good = wrong(cut, path, operation, "was confirmed and is wrong", moment);
            }
        } else if (!node->directory && node->length > 0 &&
                   !content_changed(cut, window, node->content) && !tree_has(tree, node)) {
            good = wrong(cut, path, operation, "was confirmed, only got other names, and is gone",
                         moment);
        }
    }
    return good;
}

static bool has_file(const Tree *tree, uint64_t sum) {
    for (unsigned i = 0; i < tree->file_count; i++) {
        if (tree->files[i].sum == sum) {
            return true;
        }
    }
    return false;
}

/* Are the bytes of all files those after operation n, but for files that a later one may have begun
 * to write to? */
static bool bytes_are_those_of(const PowerCut *cut, const Tree *tree, uint32_t n, uint32_t to) {
    for (int i = 0; i < NODES; i++) {
        bool later = cut->touches[n].files[i] == 0;

        for (uint32_t m = n + 1; m <= to && !later; m++) {
            later = cut->touches[m].node == i || cut->touches[m].other == i;
        }
        if (!later && !has_file(tree, cut->touches[n].files[i])) {
            return false;
        }
    }
    return true;
}

/* Does all that there is lie between two operations? */
static bool judge_atomic(PowerCut *cut, const Tree *tree, const Window *window, uint64_t moment) {
    bool names = false;

    for (uint32_t n = window->from; n <= window->to; n++) {
        if (cut->touches[n].tree == tree->sum) {
            if (bytes_are_those_of(cut, tree, n, window->to)) {
                return true;
            }
            names = true;
        }
    }
    return wrong(cut, "", window->from,
                 names ? "or later: a file has other bytes than it had when it was like this"
                       : "or of none up to the cut is what the volume shows",
                 moment);
}

/* False: something that was confirmed is lost. */
static bool judge_tree(PowerCut *cut, uint8_t *state, uint64_t moment) {
    static Tree tree;
    Window window = judge_window(cut, moment);
    bool good = true;

    judge_mount(cut, state, moment, &tree.driver, &tree.device);
    tree_read(&tree);
    if (cut->journal_size > 0) {
        good = judge_atomic(cut, &tree, &window, moment);
    }
    if (window.confirmed != NULL) {
        good = judge_confirmed(cut, &tree, &window, moment) && good;
    }
    driver_unmount(&tree.driver);
    block_free(tree.device);
    return good;
}

void judge_state(PowerCut *cut, uint8_t *state, const char *path, uint64_t moment) {
    if (cut->type == &fat_type) {
        check_fat(cut, state, path, moment);
    } else if (!check_hfs(cut, state, path, moment)) {
        return;
    }
    if (!judge_tree(cut, state, moment)) {
        bad_state(cut, path);
    }
}
