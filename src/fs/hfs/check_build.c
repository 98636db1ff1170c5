/* SPDX-License-Identifier: MIT */
/*
 * A tree made anew from all its records at once, level by level from the
 * leaves up. Inserting one after the other would leave half of each node empty,
 * and a tree that was full would not fit into its file any more; here nodes are
 * as full as they must be, and a fifth of each stays free when there is room.
 */
#include "btree_impl.h"
#include "check.h"

#define NODE_USABLE (HFS_NODE_SIZE - (unsigned)sizeof(BtreeDiskNode) - 2u)
#define RECORD_MAX (NODE_USABLE / 2 - 2u) /* with its key: two must fit into a node */
#define INDEX_KEY_MAX 38u

/* A node of the level that was just made: what its parent has to know. */
typedef struct Child {
    const uint8_t *key;
    uint32_t number;
} Child;

typedef struct Build {
    Btree tree;
    BtreeHeader header;
    unsigned limit; /* bytes of records and their offsets in a node */
    BtreeNode node; /* the one being filled, number 0: none */
    uint32_t number;
    unsigned used;
    uint8_t data[HFS_NODE_SIZE], scratch[HFS_NODE_SIZE];
    Child *children; /* of the level being made */
    size_t child_count;
} Build;

static unsigned record_size(const BtreeRecord *record) {
    return record->key_size + ((record->data_size + 1) & ~1u);
}

/* How many nodes the leaves take when so much of each is used. */
static size_t count_leaves(const BtreeRecord *records, size_t count, unsigned limit) {
    size_t nodes = 0;
    unsigned used = limit;

    for (size_t i = 0; i < count; i++) {
        unsigned size = record_size(&records[i]) + 2;

        if (used + size > limit) {
            nodes++;
            used = 0;
        }
        used += size;
    }
    return nodes;
}

/* The node is written when it is known what comes after it. */
static int finish_node(Build *build, uint32_t next) {
    if (build->number == 0) {
        return 0;
    }
    build->node.next = next;
    btree_node_encode(&build->node, build->data);
    btree_node_set_offset(HFS_NODE_SIZE, build->data, build->node.records,
                          (unsigned)sizeof(BtreeDiskNode) + build->used);
    return btree_node_store(&build->tree, build->number, build->data, 0);
}

static int next_node(Build *build, unsigned height, const uint8_t *first_key) {
    uint32_t number = 0, previous = build->number;
    Child *children;
    unsigned rank;
    int r = btree_node_alloc(&build->tree, &build->header, build->scratch, &number, 0, &rank);

    if (r == 0) {
        r = finish_node(build, number);
    }
    if (r < 0) {
        return r;
    }
    children = reallocarray(build->children, build->child_count + 1, sizeof(*children));
    if (children == NULL) {
        return -ENOMEM;
    }
    build->children = children;
    build->children[build->child_count++] = (Child){first_key, number};
    build->number = number;
    build->used = 0;
    build->node = (BtreeNode){.previous = previous,
                              .kind = height == 1 ? BTREE_NODE_LEAF : BTREE_NODE_INDEX,
                              .height = (uint8_t)height};
    btree_node_init(&build->node, HFS_NODE_SIZE, build->data);
    return 0;
}

static int add_record(Build *build, unsigned height, const BtreeRecord *record) {
    unsigned size = record_size(record), at;
    int r;

    if (build->number == 0 || build->used + size + 2 * (build->node.records + 1u) > build->limit) {
        r = next_node(build, height, record->key);
        if (r < 0) {
            return r;
        }
    }
    at = (unsigned)sizeof(BtreeDiskNode) + build->used;
    memcpy(build->data + at, record->key, record->key_size);
    memcpy(build->data + at + record->key_size, record->data, record->data_size);
    btree_node_set_offset(HFS_NODE_SIZE, build->data, build->node.records, at);
    build->node.records++;
    build->used += size;
    return 0;
}

static int add_leaves(Build *build, const BtreeRecord *records, size_t count) {
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++) {
        r = add_record(build, 1, &records[i]);
    }
    if (r == 0) {
        r = finish_node(build, 0);
    }
    build->header.leaf_records = (uint32_t)count;
    if (r == 0 && build->child_count > 0) {
        build->header.first_leaf = build->children[0].number;
        build->header.last_leaf = build->number;
    }
    return r;
}

/* A child's first key at the length that all keys of an index have, and its number. */
static int add_child(Build *build, unsigned height, const Child *child) {
    const BtreeFormat *format = build->tree.format;
    uint8_t key[INDEX_KEY_MAX + 2] = {0};
    be32 number = be32_make(child->number);
    BtreeRecord record = {.key_size = (1u + format->max_key_length + 1u) & ~1u,
                          .data = (const uint8_t *)&number,
                          .data_size = sizeof(number)};
    Child *last;
    int r;

    memcpy(key, child->key, 1u + btree_key_length(format, child->key));
    key[0] = (uint8_t)format->max_key_length;
    record.key = key;
    r = add_record(build, height, &record);
    /* It may have begun a node: that one's first key must outlive this call. */
    last = build->child_count > 0 ? &build->children[build->child_count - 1] : NULL;
    if (last != NULL && last->key == key) {
        last->key = child->key;
    }
    return r;
}

/* Index levels until one node is left: the root. */
static int add_indexes(Build *build) {
    unsigned height = build->child_count > 0 ? 1 : 0;
    int r = 0;

    while (r == 0 && build->child_count > 1) {
        Child *below = STEAL_PTR(build->children);
        size_t count = build->child_count;

        build->child_count = 0;
        build->number = 0;
        height++;
        for (size_t i = 0; r == 0 && i < count; i++) {
            r = add_child(build, height, &below[i]);
        }
        if (r == 0) {
            r = finish_node(build, 0);
        }
        free(below);
    }
    build->header.depth = (uint16_t)height;
    build->header.root = height > 0 && r == 0 ? build->children[0].number : 0;
    return r;
}

/* Without those that no node can have, and of equal keys the first. */
static size_t drop_impossible(const BtreeFormat *format, BtreeRecord *records, size_t count) {
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (record_size(&records[i]) <= RECORD_MAX &&
            (kept == 0 || format->compare(records[kept - 1].key, records[i].key) < 0)) {
            records[kept++] = records[i];
        }
    }
    return kept;
}

int check_tree_build(CheckTree *tree, BtreeRecord *records, size_t count) {
    Build *build = calloc(1, sizeof(*build));
    size_t leaves;
    int r;

    if (build == NULL) {
        return -ENOMEM;
    }
    count = drop_impossible(tree->format, records, count);
    memset(tree->bytes, 0, (size_t)tree->nodes * HFS_NODE_SIZE);
    tree->anew = true;
    build->limit = NODE_USABLE * 4 / 5;
    leaves = count_leaves(records, count, build->limit);
    if (leaves + leaves / 4 + 4 > tree->nodes) { /* with the indexes above them */
        build->limit = NODE_USABLE;
    }
    r = btree_create(tree->format, &tree->source, tree->nodes);
    if (r == 0) {
        r = btree_open(&build->tree, tree->format, &tree->source, tree->nodes);
    }
    if (r == 0) {
        r = btree_header_load(&build->tree, &build->header);
    }
    if (r == 0) {
        r = add_leaves(build, records, count);
    }
    if (r == 0) {
        r = add_indexes(build);
    }
    if (r == 0) {
        r = btree_header_store(&build->tree, &build->header);
    }
    free(build->children);
    free(build);
    return r < 0 ? r : btree_open(&tree->tree, tree->format, &tree->source, tree->nodes);
}
