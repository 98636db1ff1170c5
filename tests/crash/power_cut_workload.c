/* SPDX-License-Identifier: MIT */
/*
 * The workload: random operations on files and directories, the same in the model and on
 * the volume. Now and then a sync confirms what is there.
 */
#include "power_cut.h"
#include <stdio.h>

#define WRITE_MAX 9000
#define DEPTH_MAX 4

void node_path(const Node *nodes, int node, char ret[PATH_LENGTH_MAX]) {
    const char *parts[NODES];
    unsigned count = 0;

    for (; node != NO_NODE && count < ARRAY_SIZE(parts); node = nodes[node].parent) {
        parts[count++] = nodes[node].name;
    }
    ret[0] = '\0';
    while (count > 0) {
        strcat(ret, parts[--count]);
        strcat(ret, count > 0 ? "/" : "");
    }
}

static unsigned depth(const PowerCut *cut, int node) {
    unsigned levels = 0;

    for (; node != NO_NODE; node = cut->nodes[node].parent) {
        levels++;
    }
    return levels;
}

static bool is_inside(const PowerCut *cut, int node, int directory) {
    while (node != NO_NODE && node != directory) {
        node = cut->nodes[node].parent;
    }
    return node == directory;
}

static int first_child(const PowerCut *cut, int directory) {
    for (int i = 0; i < NODES; i++) {
        if (cut->nodes[i].exists && cut->nodes[i].parent == directory) {
            return i;
        }
    }
    return NO_NODE;
}

/* A directory for a new name of `node`, the root if nothing better comes along. */
static int pick_parent(PowerCut *cut, int node) {
    for (int tries = 0; tries < 8; tries++) {
        int i = (int)random_pick(cut, cut->node_count);
        if (cut->nodes[i].exists && cut->nodes[i].directory && i != cut->emptying &&
            !is_inside(cut, i, node) && depth(cut, i) < DEPTH_MAX - 1 &&
            (!cut->nodes[node].directory || depth(cut, i) < DEPTH_MAX - 2)) {
            return i;
        }
    }
    return NO_NODE;
}

static void name_node(PowerCut *cut, int i, uint32_t generation) {
    /* No longer than any of the formats allows. */
    static const char *const forms[] = {"F%d_%u.DAT", "a long name %d, item %u.txt", "inner %d-%u",
                                        "I%d_%u"};
    Node *node = &cut->nodes[i];

    /* The formats are the table's own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(node->name, sizeof(node->name), forms[random_pick(cut, 4)], i, generation);
#pragma GCC diagnostic pop
}

static int64_t do_create(PowerCut *cut, Driver *driver, int i, uint32_t number) {
    Node *node = &cut->nodes[i];
    char path[PATH_LENGTH_MAX];

    node->directory = random_pick(cut, 5) == 0;
    node->parent = pick_parent(cut, i);
    node->length = 0;
    node->content = number;
    node->exists = true;
    name_node(cut, i, number);
    node_path(cut->nodes, i, path);
    return driver_create(driver, path, node->directory ? FS_TYPE_DIRECTORY : FS_TYPE_FILE);
}

static int64_t do_remove(PowerCut *cut, Driver *driver, int i, uint32_t number) {
    Node *node = &cut->nodes[i];
    char path[PATH_LENGTH_MAX];

    node_path(cut->nodes, i, path);
    node->exists = false;
    cut->touches[number].changed[0] = node->content;
    cut->removals += node->directory;
    return driver_unlink(driver, path, node->directory);
}

static int64_t do_rename(PowerCut *cut, Driver *driver, int i, int parent, uint32_t number) {
    char from[PATH_LENGTH_MAX], to[PATH_LENGTH_MAX];

    node_path(cut->nodes, i, from);
    cut->touches[number].moves_directory = cut->nodes[i].directory;
    cut->nodes[i].parent = parent;
    name_node(cut, i, number);
    node_path(cut->nodes, i, to);
    return driver_rename(driver, from, to);
}

static int64_t do_replace(PowerCut *cut, Driver *driver, int i, int j, uint32_t number) {
    Node *node = &cut->nodes[i], *victim = &cut->nodes[j];
    char from[PATH_LENGTH_MAX], to[PATH_LENGTH_MAX];

    if (j == i || !victim->exists || victim->directory) {
        return 0;
    }
    node_path(cut->nodes, i, from);
    node_path(cut->nodes, j, to);
    cut->touches[number].other = j;
    cut->touches[number].changed[0] = victim->content;
    victim->length = node->length;
    victim->content = node->content;
    memcpy(victim->bytes, node->bytes, node->length);
    node->exists = false;
    return driver_rename(driver, from, to);
}

static int64_t do_exchange(PowerCut *cut, Driver *driver, int i, int j, uint32_t number) {
    Node *one = &cut->nodes[i], *other = &cut->nodes[j];
    char from[PATH_LENGTH_MAX], to[PATH_LENGTH_MAX], name[sizeof(one->name)];
    int parent = one->parent;

    if (!other->exists || is_inside(cut, i, j) || is_inside(cut, j, i) ||
        (one->directory && depth(cut, j) >= DEPTH_MAX - 1) ||
        (other->directory && depth(cut, i) >= DEPTH_MAX - 1)) {
        return 0;
    }
    node_path(cut->nodes, i, from);
    node_path(cut->nodes, j, to);
    cut->touches[number].other = j;
    cut->touches[number].moves_directory = one->directory || other->directory;
    memcpy(name, one->name, sizeof(name));
    memcpy(one->name, other->name, sizeof(name));
    memcpy(other->name, name, sizeof(name));
    one->parent = other->parent;
    other->parent = parent;
    cut->exchanges++;
    return driver_exchange(driver, from, to);
}

static int64_t do_truncate(PowerCut *cut, Driver *driver, int i, uint32_t number) {
    Node *node = &cut->nodes[i];
    uint32_t length = MIN(random_pick(cut, node->length + 3000), cut->length_max);
    char path[PATH_LENGTH_MAX];

    node_path(cut->nodes, i, path);
    cut->touches[number].changed[0] = node->content;
    if (length > node->length) {
        memset(node->bytes + node->length, 0, length - node->length);
    }
    node->length = length;
    return driver_truncate(driver, path, length);
}

static int64_t do_write(PowerCut *cut, Driver *driver, int i, uint32_t number) {
    Node *node = &cut->nodes[i];
    uint32_t offset = random_pick(cut, MIN(node->length + 600, cut->length_max - WRITE_MAX));
    uint32_t length = 1 + random_pick(cut, WRITE_MAX);
    char path[PATH_LENGTH_MAX];

    node_path(cut->nodes, i, path);
    cut->touches[number].changed[0] = node->content;
    if (offset > node->length) {
        memset(node->bytes + node->length, 0, offset - node->length);
    }
    for (uint32_t k = 0; k < length; k++) {
        node->bytes[offset + k] = (uint8_t)random_next(cut);
    }
    node->length = MAX(node->length, offset + length);
    return driver_write(driver, path, offset, node->bytes + offset, length);
}

/* All that is in a directory moves one level up, then it is removed. */
static int64_t go_on_emptying(PowerCut *cut, Driver *driver, uint32_t number) {
    int directory = cut->emptying;
    int child = first_child(cut, directory);

    cut->touches[number].node = child != NO_NODE ? child : directory;
    if (child != NO_NODE) {
        return do_rename(cut, driver, child, cut->nodes[directory].parent, number);
    }
    cut->emptying = NO_NODE;
    return do_remove(cut, driver, directory, number);
}

static int64_t do_operation(PowerCut *cut, Driver *driver, uint32_t number) {
    int i = (int)random_pick(cut, cut->node_count), j = (int)random_pick(cut, cut->node_count);
    const Node *node = &cut->nodes[i];

    cut->touches[number] = (Touch){.node = i, .other = NO_NODE};
    if (cut->emptying != NO_NODE) {
        return go_on_emptying(cut, driver, number);
    }
    if (!node->exists) {
        return do_create(cut, driver, i, number);
    }
    switch (random_pick(cut, 9)) {
    case 0:
        if (node->directory) {
            cut->emptying = i;
            return go_on_emptying(cut, driver, number);
        }
        return do_remove(cut, driver, i, number);
    case 1:
        return do_rename(cut, driver, i, pick_parent(cut, i), number);
    case 2:
        return node->directory ? 0 : do_replace(cut, driver, i, j, number);
    case 3:
        return do_exchange(cut, driver, i, j, number);
    case 4:
        return node->directory ? 0 : do_truncate(cut, driver, i, number);
    default:
        return node->directory ? 0 : do_write(cut, driver, i, number);
    }
}

static void confirm(PowerCut *cut, uint32_t operation) {
    Confirmed *c;

    cut->confirmed = realloc(cut->confirmed, (cut->confirmed_count + 1) * sizeof(Confirmed));
    if (cut->confirmed == NULL) {
        die(cut, "memory", 0);
    }
    c = &cut->confirmed[cut->confirmed_count++];
    c->operation = operation;
    c->moment = cut->clock;
    for (int i = 0; i < NODES; i++) {
        c->nodes[i] = cut->nodes[i];
        c->nodes[i].bytes = malloc(cut->nodes[i].length + 1u);
        if (c->nodes[i].bytes == NULL) {
            die(cut, "memory", 0);
        }
        memcpy(c->nodes[i].bytes, cut->nodes[i].bytes, cut->nodes[i].length);
    }
}

/* Notes what there is after an operation. */
static void note_model(const PowerCut *cut, Touch *touch) {
    char path[PATH_LENGTH_MAX];

    touch->tree = 0;
    for (int i = 0; i < NODES; i++) {
        const Node *node = &cut->nodes[i];

        touch->files[i] = 0;
        if (node->exists) {
            node_path(cut->nodes, i, path);
            touch->tree += entry_sum(path, node->directory, node->length);
        }
        if (node->exists && !node->directory) {
            touch->files[i] = file_sum(path, hash_bytes(node->bytes, node->length));
        }
    }
}

/* A device of these bytes whose writes are noted. */
static void record_on(PowerCut *cut, uint64_t size, void *data, BlockRecording *recording,
                      BlockDevice **ret_memory, BlockDevice **ret) {
    recording->clock = &cut->clock;
    if (block_memory_new(size, 512, data, ret_memory) != 0 ||
        block_recorder_new(*ret_memory, recording, ret) != 0) {
        die(cut, "devices", 0);
    }
}

static void run_operations(PowerCut *cut, Driver *driver) {
    for (uint32_t n = 1; n <= cut->operations; n++) {
        int64_t r = do_operation(cut, driver, n);

        if (r < 0) {
            fprintf(stderr, "operation %u\n", n);
            die(cut, "operation failed", r);
        }
        cut->touches[n].moment = cut->clock;
        note_model(cut, &cut->touches[n]);
        if (random_pick(cut, 12) == 0) {
            if (driver_sync(driver) < 0) {
                die(cut, "sync", 0);
            }
            confirm(cut, n);
        }
    }
}

void workload_run(PowerCut *cut) {
    BlockDevice *memory = NULL, *device = NULL, *journal_memory = NULL, *journal_device = NULL;
    SideJournal *journal = NULL;
    uint8_t *data = malloc(cut->size);
    Driver driver;
    int r;

    cut->emptying = NO_NODE;
    cut->touches = calloc(cut->operations + 1u, sizeof(*cut->touches));
    if (data == NULL || cut->touches == NULL) {
        die(cut, "memory", 0);
    }
    for (int i = 0; i < NODES; i++) {
        cut->nodes[i].bytes = malloc(CONTENT_MAX);
    }
    memcpy(data, cut->base, cut->size);
    record_on(cut, cut->size, data, &cut->image, &memory, &device);
    if (cut->journal_size > 0) {
        record_on(cut, cut->journal_size, NULL, &cut->journal, &journal_memory, &journal_device);
        r = sidejournal_new(journal_device, &journal);
        if (r < 0) {
            die(cut, "journal", r);
        }
    }
    r = driver_mount_journal(&driver, cut->type, device, journal, "log=256K");
    if (r < 0) {
        die(cut, "mount", r);
    }
    cut->touches[0].moment = cut->clock;
    run_operations(cut, &driver);
    driver_unmount(&driver);
    sidejournal_free(journal);
    block_free(journal_device);
    block_free(journal_memory);
    block_free(device);
    block_free(memory);
    free(data);
}
