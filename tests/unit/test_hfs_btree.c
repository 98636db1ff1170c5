/* SPDX-License-Identifier: MIT */
/*
 * B*-trees over a tree file in memory: random inserts and removals held against a model, with
 * the whole tree's structure checked all along, growth into map nodes, and nodes with any of
 * their bytes changed, which must never lead outside of one or round in circles.
 */
#include "../../src/fs/hfs/btree.h"
#include "../../src/fs/hfs/codec.h"
#include <check.h>
#include <stdio.h>

#define NODE HFS_NODE_SIZE
#define KEYS 6000u

typedef struct MemoryTree {
    BtreeSource source;
    Btree tree;
    uint8_t *nodes;
    uint32_t count, grow_by, limit;
    uint64_t reads;
    uint32_t hint;
} MemoryTree;

static uint64_t random_state;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

static int memory_read(BtreeSource *source, uint32_t node, uint8_t *out) {
    MemoryTree *memory = container_of(source, MemoryTree, source);

    memory->reads++;
    if (node >= memory->count) {
        return -ERANGE;
    }
    memcpy(out, memory->nodes + (size_t)node * NODE, NODE);
    return 0;
}

static int memory_write(BtreeSource *source, uint32_t node, uint32_t offset, const uint8_t *bytes,
                        uint32_t length, unsigned rank) {
    MemoryTree *memory = container_of(source, MemoryTree, source);

    (void)rank;
    if (node >= memory->count || !range_inside(offset, length, NODE)) {
        ck_abort_msg("%u bytes at %u of node %u of %u", length, offset, node, memory->count);
    }
    memcpy(memory->nodes + (size_t)node * NODE + offset, bytes, length);
    return 0;
}

static int memory_grow(BtreeSource *source, uint32_t node_count, uint32_t *ret_count) {
    MemoryTree *memory = container_of(source, MemoryTree, source);

    if (memory->count + memory->grow_by > memory->limit) {
        return -ENOSPC;
    }
    memory->nodes = realloc(memory->nodes, (size_t)(memory->count + memory->grow_by) * NODE);
    ck_assert_ptr_nonnull(memory->nodes);
    /* Not zeros: whoever takes a node writes all of it. */
    memset(memory->nodes + (size_t)memory->count * NODE, 0xa5, (size_t)memory->grow_by * NODE);
    memory->count += memory->grow_by;
    ck_assert_uint_gt(memory->count, node_count);
    *ret_count = memory->count;
    return 0;
}

static void memory_new(MemoryTree *memory, const BtreeFormat *format, uint32_t count,
                       uint32_t grow_by) {
    *memory = (MemoryTree){
        .source = {.node_size = NODE,
                   .read = memory_read,
                   .write = memory_write,
                   .grow = memory_grow},
        .count = count,
        .grow_by = grow_by,
        .limit = 1u << 20,
    };
    memory->nodes = calloc(count, NODE);
    ck_assert_ptr_nonnull(memory->nodes);
    ck_assert_int_eq(btree_create(format, &memory->source, count), 0);
    ck_assert_int_eq(btree_open(&memory->tree, format, &memory->source, count), 0);
    memory->tree.free_hint = &memory->hint;
}

/* ---- the whole structure ---- */

typedef struct Check {
    MemoryTree *memory;
    uint8_t *used; /* per node */
    uint32_t records, used_count;
    uint8_t last[BTREE_KEY_SIZE_MAX];
    bool any;
    uint32_t previous[BTREE_DEPTH_MAX + 1]; /* last node seen at each height */
} Check;

static void check_mark(Check *check, uint32_t number) {
    if (number >= check->memory->count || check->used[number]) {
        ck_abort_msg("node %u is there twice, or not at all", number);
    }
    check->used[number] = 1;
    check->used_count++;
}

static void check_links(Check *check, uint32_t number, const BtreeNode *node) {
    uint32_t *previous = &check->previous[node->height];

    ck_assert_uint_eq(node->previous, *previous);
    if (*previous != 0) {
        BtreeNode before;
        btree_node_decode(check->memory->nodes + (size_t)*previous * NODE, &before);
        ck_assert_uint_eq(before.next, number);
    }
    *previous = number;
}

static void check_subtree(Check *check, uint32_t number, unsigned height, const uint8_t *first) {
    const BtreeFormat *format = check->memory->tree.format;
    const uint8_t *data = check->memory->nodes + (size_t)number * NODE;
    Corruption corruption = {0};
    BtreeNode node;

    check_mark(check, number);
    ck_assert_msg(btree_node_check(format, NODE, number, data, &corruption) == 0, "node %u: %s %s",
                  number, corruption.field, corruption.text);
    btree_node_decode(data, &node);
    ck_assert_uint_eq(node.height, height);
    ck_assert_uint_gt(node.records, 0);
    check_links(check, number, &node);
    for (unsigned i = 0; i < node.records; i++) {
        BtreeRecord record;

        btree_record_get(format, NODE, data, i, &record);
        if (i == 0 && first != NULL) {
            ck_assert_msg(format->compare(first, record.key) == 0, "the parent's key of node %u",
                          number);
        }
        if (height > 1) {
            check_subtree(check, btree_record_child(&record), height - 1, record.key);
            continue;
        }
        if (check->any && format->compare(check->last, record.key) >= 0) {
            ck_abort_msg("order in node %u", number);
        }
        memcpy(check->last, record.key, record.key_size);
        check->any = true;
        check->records++;
    }
}

static bool map_bit(const MemoryTree *memory, uint32_t number) {
    uint32_t node = 0, first = 0;

    for (;;) {
        const uint8_t *data = memory->nodes + (size_t)node * NODE;
        unsigned record = node == 0 ? 2 : 0;
        unsigned start = btree_record_offset(NODE, data, record);
        unsigned bits = (btree_record_offset(NODE, data, record + 1) - start) * 8;
        BtreeNode header;

        if (number - first < bits) {
            return data[start + (number - first) / 8] & 0x80u >> (number - first) % 8;
        }
        btree_node_decode(data, &header);
        if (header.next == 0) {
            ck_abort_msg("the map ends before node %u", number);
        }
        first += bits;
        node = header.next;
    }
}

static void check_tree(MemoryTree *memory, uint32_t records) {
    Check check = {.memory = memory, .used = calloc(memory->count, 1)};
    BtreeHeader header;
    BtreeNode node;

    ck_assert_int_eq(btree_header_load(&memory->tree, &header), 0);
    ck_assert_uint_eq(header.node_count, memory->count);
    for (uint32_t map = 0; map != 0 || check.used_count == 0; map = node.next) {
        check_mark(&check, map);
        btree_node_decode(memory->nodes + (size_t)map * NODE, &node);
        if (node.next == 0) {
            break;
        }
    }
    if (header.depth > 0) {
        check_subtree(&check, header.root, header.depth, NULL);
        ck_assert_uint_eq(check.previous[1], header.last_leaf);
    } else {
        ck_assert_uint_eq(header.root + header.first_leaf + header.last_leaf, 0);
    }
    ck_assert_uint_eq(check.records, records);
    ck_assert_uint_eq(header.leaf_records, records);
    ck_assert_uint_eq(header.free_nodes, header.node_count - check.used_count);
    for (uint32_t i = 0; i < memory->count; i++) {
        if (map_bit(memory, i) != check.used[i]) {
            ck_abort_msg("map bit of node %u", i);
        }
    }
    free(check.used);
}

/* ---- a model: keys by number ---- */

typedef struct Model {
    bool present[KEYS];
    uint8_t value[KEYS];
    uint32_t count;
} Model;

/* Names of all lengths, and their order has nothing to do with the number's. */
static void key_of(uint32_t number, HfsDiskCatalogKey *ret) {
    HfsKey key = {.parent = 2 + number % 7};

    key.length =
        (uint8_t)snprintf((char *)key.name, sizeof(key.name), "%x-%.*s", number * 2654435761u,
                          (int)(number % 22), "abcdefghijklmnopqrstuvwxyz");
    hfs_key_encode(&key, ret);
}

static unsigned value_of(uint32_t number, uint8_t seed, uint8_t out[HFS_NODE_SIZE]) {
    unsigned length = number % 3 == 0 ? 46 : number % 3 == 1 ? 70 : 102;

    memset(out, seed, length);
    return length;
}

static void model_step(MemoryTree *memory, Model *model, bool insert) {
    uint32_t number = random_below(KEYS);
    uint8_t value[HFS_NODE_SIZE], seed = (uint8_t)(1 + random_below(255));
    unsigned length = value_of(number, seed, value);
    HfsDiskCatalogKey disk;
    const uint8_t *key = (const uint8_t *)&disk;
    int r;

    key_of(number, &disk);
    if (!insert) {
        r = btree_remove(&memory->tree, key);
        ck_assert_int_eq(r, model->present[number] ? 0 : -ENOENT);
        model->count -= model->present[number];
        model->present[number] = false;
        return;
    }
    r = btree_insert(&memory->tree, key, value, length);
    ck_assert_int_eq(r, model->present[number] ? -EEXIST : 0);
    if (r == -EEXIST) {
        ck_assert_int_eq(btree_update(&memory->tree, key, value, length), 0);
    }
    model->count += !model->present[number];
    model->present[number] = true;
    model->value[number] = seed;
}

static void model_compare(MemoryTree *memory, const Model *model) {
    BtreeCursor cursor;
    uint32_t walked = 0;
    const HfsDiskCatalogKey lowest = {.length = 6};

    for (uint32_t i = 0; i < KEYS; i++) {
        uint8_t value[HFS_NODE_SIZE], expected[HFS_NODE_SIZE];
        HfsDiskCatalogKey key;
        int r;

        key_of(i, &key);
        r = btree_lookup(&memory->tree, (const uint8_t *)&key, value, sizeof(value));
        if (!model->present[i]) {
            ck_assert_int_eq(r, -ENOENT);
            continue;
        }
        ck_assert_int_eq(r, (int)value_of(i, model->value[i], expected));
        ck_assert_int_eq(memcmp(value, expected, (size_t)r), 0);
    }
    ck_assert_int_eq(btree_cursor_init(&cursor, &memory->tree), 0);
    ck_assert_int_eq(btree_seek(&cursor, (const uint8_t *)&lowest), 1);
    while (btree_next(&cursor) == 0) {
        walked++;
    }
    btree_cursor_done(&cursor);
    ck_assert_uint_eq(walked, model->count);
}

START_TEST(random_changes_match_a_model) {
    static Model model;
    MemoryTree memory;

    random_state = 1 + (uint64_t)_i;
    memset(&model, 0, sizeof(model));
    memory_new(&memory, &hfs_catalog_format, 8, _i % 2 == 0 ? 1 : 37);
    for (unsigned phase = 0; phase < 6; phase++) {
        /* Filling, staying, emptying. */
        unsigned of_ten = phase % 3 == 0 ? 9 : phase % 3 == 1 ? 5 : 1;

        for (unsigned step = 0; step < 6000; step++) {
            model_step(&memory, &model, random_below(10) < of_ten);
            if (step % 500 == 0) {
                check_tree(&memory, model.count);
            }
        }
        check_tree(&memory, model.count);
        model_compare(&memory, &model);
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        HfsDiskCatalogKey key;

        key_of(i, &key);
        ck_assert_int_eq(btree_remove(&memory.tree, (const uint8_t *)&key),
                         model.present[i] ? 0 : -ENOENT);
    }
    check_tree(&memory, 0);
    free(memory.nodes);
}
END_TEST

/* Rising keys fill their nodes; falling ones at least half. */
START_TEST(rows_of_keys_fill_nodes) {
    const unsigned rows = 20000;
    MemoryTree memory;
    BtreeHeader header;

    memory_new(&memory, &hfs_extents_format, 4, 64);
    for (unsigned i = 0; i < rows; i++) {
        unsigned number = _i == 0 ? i : rows - 1 - i;
        HfsDiskExtentKey key = hfs_extent_key(16 + number / 60000, 0, (uint16_t)(number % 60000));
        HfsDiskExtentRecord record = {0};

        ck_assert_int_eq(btree_insert(&memory.tree, (const uint8_t *)&key, &record, sizeof(record)),
                         0);
    }
    check_tree(&memory, rows);
    ck_assert_int_eq(btree_header_load(&memory.tree, &header), 0);
    /* 22 records of 20 + 2 bytes fit. */
    ck_assert_uint_lt(header.node_count - header.free_nodes, _i == 0 ? rows / 20 : rows / 10);
    for (unsigned i = 0; i < rows; i++) {
        HfsDiskExtentKey key = hfs_extent_key(16 + i / 60000, 0, (uint16_t)(i % 60000));

        ck_assert_int_eq(btree_remove(&memory.tree, (const uint8_t *)&key), 0);
    }
    check_tree(&memory, 0);
    free(memory.nodes);
}
END_TEST

/* 2048 - 64 bits in the header, 492 * 8 in each map node. */
START_TEST(the_map_goes_on_in_map_nodes) {
    MemoryTree memory;
    uint32_t records = 0;

    memory_new(&memory, &hfs_catalog_format, (uint32_t)_i, 1);
    check_tree(&memory, 0);
    for (uint32_t i = 0; i < 2500; i++) {
        HfsKey name = {.parent = 5, .length = 4};
        HfsDiskCatalogKey key;
        uint8_t value[102] = {0};

        memcpy(name.name,
               &(be32){{(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}}, 4);
        hfs_key_encode(&name, &key);
        if (btree_insert(&memory.tree, (const uint8_t *)&key, value, sizeof(value)) == 0) {
            records++;
        }
    }
    check_tree(&memory, records);
    free(memory.nodes);
}
END_TEST

START_TEST(a_full_file_is_enospc_and_harmless) {
    MemoryTree memory;
    uint32_t records = 0;
    int r = 0;

    memory_new(&memory, &hfs_catalog_format, 16, 4);
    memory.limit = 16;
    for (uint32_t i = 0; i < KEYS && r == 0; i++) {
        uint8_t value[HFS_NODE_SIZE] = {0};
        HfsDiskCatalogKey key;
        uint8_t *copy = malloc((size_t)memory.count * NODE);

        memcpy(copy, memory.nodes, (size_t)memory.count * NODE);
        key_of(i, &key);
        r = btree_insert(&memory.tree, (const uint8_t *)&key, value, 102);
        if (r < 0) {
            memcpy(memory.nodes, copy, (size_t)memory.count * NODE); /* as an abort does */
        }
        records += r == 0;
        free(copy);
    }
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_uint_gt(records, 30);
    check_tree(&memory, records);
    free(memory.nodes);
}
END_TEST

/* ---- hostile bytes ---- */

static void use_all(MemoryTree *memory) {
    const HfsDiskCatalogKey lowest = {.length = 6};
    BtreeCursor cursor;
    Btree tree;

    memory->reads = 0;
    if (btree_open(&tree, memory->tree.format, &memory->source, memory->count) < 0) {
        return;
    }
    ck_assert_int_eq(btree_cursor_init(&cursor, &tree), 0);
    if (btree_seek(&cursor, (const uint8_t *)&lowest) >= 0) {
        while (btree_next(&cursor) == 0) {
        }
    }
    btree_cursor_done(&cursor);
    for (unsigned i = 0; i < 12; i++) {
        uint8_t value[HFS_NODE_SIZE];
        uint32_t number = random_below(KEYS);
        HfsDiskCatalogKey key;

        key_of(number, &key);
        (void)btree_insert(&tree, (const uint8_t *)&key, value, value_of(number, 1, value));
        key_of(random_below(KEYS), &key);
        (void)btree_remove(&tree, (const uint8_t *)&key);
    }
    ck_assert_msg(memory->reads < 20000, "%llu reads", (unsigned long long)memory->reads);
}

START_TEST(broken_nodes_are_refused) {
    static Model model;
    MemoryTree memory;
    uint8_t *good;
    uint32_t count;

    random_state = 77;
    memset(&model, 0, sizeof(model));
    memory_new(&memory, &hfs_catalog_format, 8, 8);
    for (unsigned step = 0; step < 700; step++) {
        model_step(&memory, &model, true);
    }
    count = memory.count;
    memory.limit = count + 64;
    good = malloc((size_t)count * NODE);
    memcpy(good, memory.nodes, (size_t)count * NODE);
    for (unsigned round = 0; round < 3000; round++) {
        random_state = round;
        memory.nodes = realloc(memory.nodes, (size_t)count * NODE);
        memory.count = count;
        memcpy(memory.nodes, good, (size_t)count * NODE);
        for (unsigned changes = 1 + random_below(4); changes > 0; changes--) {
            /* Rather headers and offsets than contents, and rather small numbers. */
            uint32_t node = random_below(count), at = random_below(NODE);

            at = random_below(3) == 0 ? at : random_below(2) == 0 ? at % 20 : NODE - 1 - at % 16;
            memory.nodes[(size_t)node * NODE + at] =
                (uint8_t)(random_below(2) == 0 ? random_below(256) : random_below(count));
        }
        use_all(&memory);
    }
    free(good);
    free(memory.nodes);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hfs_btree");
    TCase *tc = tcase_create("btree");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tc, 100);
    tcase_add_loop_test(tc, random_changes_match_a_model, 0, 4);
    tcase_add_loop_test(tc, rows_of_keys_fill_nodes, 0, 2);
    tcase_add_loop_test(tc, the_map_goes_on_in_map_nodes, 2047, 2051);
    tcase_add_test(tc, a_full_file_is_enospc_and_harmless);
    tcase_add_test(tc, broken_nodes_are_refused);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
