/* SPDX-License-Identifier: MIT */
/*
 * Random operation sequences on a volume and on a model in memory, which must
 * agree after each of them and after a new mount. Ids are let go of at random, so
 * that aliases, squatters and orphans come and go. A sweep repeats one sequence
 * with a transaction aborted (or a block missed) at every point in turn.
 */
#ifndef FAT_MODEL_H
#define FAT_MODEL_H

#include "fat_support.h"

#define MODEL_NODES 48
#define MODEL_SIZE_MAX 30000u

typedef struct ModelNode {
    bool used, is_dir, unlinked;
    int parent; /* -1: the root */
    unsigned name, variant;
    uint64_t id; /* of an unlinked one */
    uint32_t size;
    uint8_t *data;
} ModelNode;

static ModelNode nodes[MODEL_NODES];
static uint64_t model_state;
static bool model_aborts; /* -EIO is retried: the sweep's fault */
static unsigned model_seed, model_step;

static unsigned model_random(unsigned below) {
    model_state = model_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(model_state >> 33) % below;
}

/* One of twenty names, in two spellings that fold to the same. */
static void model_name(unsigned name, unsigned variant, char out[64]) {
    static const char *const forms[4][2] = {
        {"plain", "PLAIN"},
        {"A rather Long name, the number is ", "a RATHER long NAME, the Number is "},
        {"UP.TX", "up.tx"},
        {"\303\244\303\266 ", "\303\204\303\226 "}};

    (void)snprintf(out, 64, "%s%u", forms[name % 4][variant], name);
}

static void model_path(const ModelNode *node, char out[512]) {
    char name[64], rest[512];

    model_name(node->name, node->variant, name);
    (void)snprintf(out, 512, "%s", name);
    while (node->parent >= 0) {
        node = &nodes[node->parent];
        model_name(node->name, node->variant, name);
        memcpy(rest, out, sizeof(rest));
        (void)snprintf(out, 512, "%.60s/%.440s", name, rest);
    }
}

static int model_find(int parent, unsigned name) {
    for (int i = 0; i < MODEL_NODES; i++) {
        if (nodes[i].used && !nodes[i].unlinked && nodes[i].parent == parent &&
            nodes[i].name == name) {
            return i;
        }
    }
    return -1;
}

static int model_pick(bool dirs, bool files) {
    unsigned start = model_random(MODEL_NODES);

    for (unsigned i = 0; i < MODEL_NODES; i++) {
        const ModelNode *node = &nodes[(start + i) % MODEL_NODES];
        if (node->used && !node->unlinked && (node->is_dir ? dirs : files)) {
            return (int)((start + i) % MODEL_NODES);
        }
    }
    return -1;
}

static bool model_inside(int node, int dir) {
    while (node >= 0 && node != dir) {
        node = nodes[node].parent;
    }
    return node == dir;
}

static unsigned model_children(int dir) {
    unsigned count = 0;

    for (int i = 0; i < MODEL_NODES; i++) {
        count += nodes[i].used && !nodes[i].unlinked && nodes[i].parent == dir;
    }
    return count;
}

static void model_drop(ModelNode *node) {
    free(node->data);
    *node = (ModelNode){0};
}

#define MODEL_CHECK(condition, fmt, ...)                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            ck_abort_msg("seed %u step %u: " fmt, model_seed, model_step, ##__VA_ARGS__); \
        }                                                                                 \
    } while (0)

/* Repeats what the sweep made fail. */
#define MODEL_CALL(expression)                 \
    __extension__({                            \
        int64_t result_ = (expression);        \
        if (result_ == -EIO && model_aborts) { \
            result_ = (expression);            \
        }                                      \
        result_;                               \
    })

static void model_check_file(uint64_t id, const ModelNode *node) {
    int64_t r = MODEL_CALL(read_at(id, 0, MODEL_SIZE_MAX + 4096));

    MODEL_CHECK(r == node->size, "read %lld of %u bytes", (long long)r, node->size);
    for (uint32_t i = 0; i < node->size; i++) {
        MODEL_CHECK(response.data[i] == node->data[i], "byte %u of %u is %02x, not %02x", i,
                    node->size, response.data[i], node->data[i]);
    }
}

typedef struct ModelListing {
    int dir;
    unsigned seen;
} ModelListing;

static void model_listed(void *arg, const FsDirEntry *entry) {
    ModelListing *listing = arg;

    for (int i = 0; i < MODEL_NODES; i++) {
        char name[64];
        if (!nodes[i].used || nodes[i].unlinked || nodes[i].parent != listing->dir) {
            continue;
        }
        model_name(nodes[i].name, nodes[i].variant, name);
        if (strlen(name) == entry->name_length &&
            memcmp(name, entry->name, entry->name_length) == 0) {
            listing->seen += 1;
            return;
        }
    }
    MODEL_CHECK(false, "%.*s should not be there", (int)entry->name_length, entry->name);
}

static void model_check_all(void) {
    ModelListing root = {.dir = -1};

    MODEL_CHECK(list(FS_ROOT_ID, 1024, model_listed, &root) >= 0, "list");
    MODEL_CHECK(root.seen == model_children(-1), "the root has %u entries", root.seen);
    for (int i = 0; i < MODEL_NODES; i++) {
        ModelListing listing = {.dir = i};
        char path[512];
        int64_t id;
        if (!nodes[i].used) {
            continue;
        }
        model_path(&nodes[i], path);
        id = nodes[i].unlinked ? (int64_t)nodes[i].id : resolve(path);
        MODEL_CHECK(!failed(id), "%s: %lld", path, (long long)id);
        if (!nodes[i].is_dir) {
            model_check_file((uint64_t)id, &nodes[i]);
            continue;
        }
        MODEL_CHECK(list((uint64_t)id, 1024, model_listed, &listing) >= 0, "list %s", path);
        MODEL_CHECK(listing.seen == model_children(i), "%s has %u entries", path, listing.seen);
    }
}

/* ---- operations ---- */

static void model_create(void) {
    int parent = model_random(3) == 0 ? -1 : model_pick(true, false);
    unsigned name = model_random(20);
    int slot = 0;
    char path[512];
    int64_t id;

    while (slot < MODEL_NODES && nodes[slot].used) {
        slot++;
    }
    if (slot == MODEL_NODES) {
        return;
    }
    nodes[slot] = (ModelNode){
        .is_dir = model_random(3) == 0, .parent = parent, .name = name, .variant = model_random(2)};
    model_path(&nodes[slot], path);
    id = MODEL_CALL(make(path, nodes[slot].is_dir ? FS_TYPE_DIRECTORY : FS_TYPE_FILE));
    if (model_find(parent, name) >= 0) {
        MODEL_CHECK(id == -EEXIST, "create %s: %lld", path, (long long)id);
        return;
    }
    MODEL_CHECK(!failed(id), "create %s: %lld", path, (long long)id);
    nodes[slot].used = true;
    nodes[slot].data = calloc(1, MODEL_SIZE_MAX);
}

static void model_write(void) {
    int slot = model_pick(false, true);
    static uint8_t bytes[8192];
    char path[512];
    uint32_t offset, length;
    int64_t id, r;

    if (slot < 0) {
        return;
    }
    offset = model_random(MODEL_SIZE_MAX - 1);
    if (model_random(2) == 0) {
        offset = MIN(nodes[slot].size, MODEL_SIZE_MAX - 1);
    }
    length = MIN(1 + model_random(sizeof(bytes) - 1), MODEL_SIZE_MAX - offset);
    fill(bytes, length, model_step, offset);
    model_path(&nodes[slot], path);
    id = resolve(path);
    r = MODEL_CALL(write_at((uint64_t)id, offset, bytes, length));
    if (r == -ENOSPC) {
        return;
    }
    MODEL_CHECK(r == length, "write %s %u at %u: %lld", path, length, offset, (long long)r);
    memcpy(nodes[slot].data + offset, bytes, length);
    nodes[slot].size = MAX(nodes[slot].size, offset + length);
}

static void model_truncate(void) {
    int slot = model_pick(false, true);
    uint32_t size = model_random(2) == 0 ? 0 : model_random(MODEL_SIZE_MAX);
    char path[512];
    int64_t id, r;

    if (slot < 0) {
        return;
    }
    model_path(&nodes[slot], path);
    id = resolve(path);
    r = MODEL_CALL(set_size((uint64_t)id, size));
    if (r == -ENOSPC) {
        return;
    }
    MODEL_CHECK(r == 0, "truncate %s to %u: %lld", path, size, (long long)r);
    if (size < nodes[slot].size) {
        memset(nodes[slot].data + size, 0, nodes[slot].size - size);
    }
    nodes[slot].size = size;
}

/* The object stays open, or not. */
static void model_unlinked(int slot, uint64_t id) {
    nodes[slot].unlinked = true;
    nodes[slot].parent = -1; /* which may go as well */
    nodes[slot].id = id;
    if (nodes[slot].is_dir || model_random(2) == 0) {
        evict(id);
        model_drop(&nodes[slot]);
    }
}

static void model_remove(void) {
    int slot = model_pick(true, true);
    char path[512];
    int64_t id, r;

    if (slot < 0) {
        return;
    }
    model_path(&nodes[slot], path);
    id = resolve(path);
    r = MODEL_CALL(remove_path(path, nodes[slot].is_dir));
    if (nodes[slot].is_dir && model_children(slot) > 0) {
        MODEL_CHECK(r == -ENOTEMPTY, "rmdir %s: %lld", path, (long long)r);
        return;
    }
    MODEL_CHECK(r == 0, "remove %s: %lld", path, (long long)r);
    model_unlinked(slot, (uint64_t)id);
}

static void model_rename(void) {
    int slot = model_pick(true, true);
    int parent = model_random(3) == 0 ? -1 : model_pick(true, false);
    ModelNode target;
    char from[512], to[512], victim_path[512];
    int64_t victim_id = 0;
    int victim;
    int64_t r;

    if (slot < 0) {
        return;
    }
    if (model_random(3) == 0) {
        parent = nodes[slot].parent;
    }
    target = (ModelNode){.parent = parent, .name = model_random(20), .variant = model_random(2)};
    if (model_random(4) == 0) {
        target.parent = nodes[slot].parent;
        target.name = nodes[slot].name; /* perhaps another spelling */
    }
    victim = model_find(target.parent, target.name);
    model_path(&nodes[slot], from);
    model_path(&target, to);
    if (victim >= 0) {
        model_path(&nodes[victim], victim_path);
        victim_id = resolve(victim_path);
    }
    if (model_inside(target.parent, slot)) {
        r = MODEL_CALL(rename_path(from, to, 0));
        MODEL_CHECK(failed(r), "rename %s into itself: %lld", from, (long long)r);
        return;
    }
    r = MODEL_CALL(rename_path(from, to, 0));
    if (victim >= 0 && victim != slot && nodes[victim].is_dir != nodes[slot].is_dir) {
        MODEL_CHECK(r == -EISDIR || r == -ENOTDIR || r == -ENOTEMPTY, "rename %s %s: %lld", from,
                    to, (long long)r);
        return;
    }
    if (victim >= 0 && victim != slot && nodes[victim].is_dir && model_children(victim) > 0) {
        MODEL_CHECK(r == -ENOTEMPTY, "rename %s %s: %lld", from, to, (long long)r);
        return;
    }
    if (r == -ENOSPC) {
        return;
    }
    MODEL_CHECK(r == 0, "rename %s %s: %lld", from, to, (long long)r);
    nodes[slot].parent = target.parent;
    nodes[slot].name = target.name;
    nodes[slot].variant = target.variant;
    if (victim >= 0 && victim != slot) {
        model_unlinked(victim, (uint64_t)victim_id);
    }
}

/* Lets go of something: an open unlinked file, or a name's id. */
static void model_evict(void) {
    int slot = (int)model_random(MODEL_NODES);
    char path[512];
    int64_t id;

    if (!nodes[slot].used) {
        return;
    }
    if (nodes[slot].unlinked) {
        model_check_file(nodes[slot].id, &nodes[slot]);
        evict(nodes[slot].id);
        model_drop(&nodes[slot]);
        return;
    }
    model_path(&nodes[slot], path);
    id = resolve(path);
    evict((uint64_t)id);
}

static void model_forget_unlinked(void) {
    for (int i = 0; i < MODEL_NODES; i++) {
        if (nodes[i].used && nodes[i].unlinked) {
            model_drop(&nodes[i]);
        }
    }
}

static void model_steps(unsigned seed, unsigned steps) {
    static void (*const operations[])(void) = {
        model_create, model_create, model_write,  model_write, model_write, model_truncate,
        model_remove, model_rename, model_rename, model_evict, model_evict};

    model_seed = seed;
    model_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (model_step = 1; model_step <= steps; model_step++) {
        operations[model_random(ARRAY_SIZE(operations))]();
        now_ns += INT64_C(2000000000);
        if (model_step % 64 == 0) {
            model_check_all();
        }
        if (model_step % 50 == 0) {
            MODEL_CHECK(sync_volume() == 0, "sync");
        }
    }
}

/* After unmount: fsck.fat is content, a new mount shows the same. */
static void model_finish(void) {
    char what[64];

    cache_debug(volume_fs(volume)->cache)->abort_at = 0;
    model_check_all();
    MODEL_CHECK(unmount_image() == 0, "unmount");
    model_forget_unlinked();
    (void)snprintf(what, sizeof(what), "seed %u", model_seed);
    check_clean(what);
    mount_image("ro");
    model_check_all();
    MODEL_CHECK(unmount_image() == 0, "unmount");
    for (int i = 0; i < MODEL_NODES; i++) {
        model_drop(&nodes[i]);
    }
}

static UNUSED void model_run(unsigned seed, unsigned steps, bool cold, const char *options) {
    mount_image(options);
    cache_debug(volume_fs(volume)->cache)->restart_all = cold;
    model_steps(seed, steps);
    model_finish();
}

/* The same short sequence, with a fault at each point in turn. */
static UNUSED void model_sweep(unsigned seed) {
    uint8_t *fresh = malloc(image_size);
    const unsigned steps = 40;

    memcpy(fresh, image, image_size);
    model_aborts = true;
    for (unsigned kind = 0; kind < 2; kind++) {
        uint64_t total = 1;
        for (uint64_t at = 1; at <= total; at += 1 + total / 60) {
            CacheDebug *debug;
            uint64_t before;
            memcpy(image, fresh, image_size);
            mount_image("");
            debug = cache_debug(volume_fs(volume)->cache);
            before = kind == 0 ? debug->writes : debug->gets;
            if (kind == 0) {
                debug->abort_at = before + at;
            } else {
                debug->restart_at = before + at;
            }
            model_steps(seed, steps);
            total = (kind == 0 ? debug->writes : debug->gets) - before;
            model_finish();
        }
    }
    model_aborts = false;
    free(fresh);
}

#endif
