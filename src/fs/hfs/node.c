/* SPDX-License-Identifier: MIT */
/*
 * One node of a B*-tree in memory: is it sound, what is in it. Pure functions over its
 * bytes; everything else in the tree's code relies on btree_node_check() having passed.
 */
#include "btree_impl.h"

#define HEADER_RECORDS 3u

void btree_node_decode(const uint8_t *data, BtreeNode *ret) {
    BtreeDiskNode disk;

    memcpy(&disk, data, sizeof(disk));
    *ret = (BtreeNode){
        .next = be32_get(disk.next),
        .previous = be32_get(disk.previous),
        .kind = disk.kind,
        .height = disk.height,
        .records = be16_get(disk.records),
    };
}

void btree_node_encode(const BtreeNode *node, uint8_t *data) {
    BtreeDiskNode disk = {
        .next = be32_make(node->next),
        .previous = be32_make(node->previous),
        .kind = node->kind,
        .height = node->height,
        .records = be16_make(node->records),
    };

    memcpy(data, &disk, sizeof(disk));
}

unsigned btree_record_offset(uint32_t node_size, const uint8_t *data, unsigned index) {
    be16 offset;

    memcpy(&offset, data + node_size - 2 * (index + 1), sizeof(offset));
    return be16_get(offset);
}

unsigned btree_key_length(const BtreeFormat *format, const uint8_t *key) {
    return format->wide_keys ? (unsigned)key[0] << 8 | key[1] : key[0];
}

static unsigned key_field(const BtreeFormat *format) {
    return format->wide_keys ? 2 : 1;
}

/* With the byte that keeps data at even offsets. */
unsigned btree_key_size(const BtreeFormat *format, const uint8_t *key) {
    return (key_field(format) + btree_key_length(format, key) + 1) & ~1u;
}

static int check_key(const BtreeFormat *format, uint32_t number, const BtreeNode *node,
                     unsigned index, const uint8_t *record, unsigned size, Corruption *ret) {
    unsigned length;

    if (size < key_field(format)) {
        return corruption_set(ret, format->name, number, "record", index, "too short for a key");
    }
    length = btree_key_length(format, record);
    if (length > format->max_key_length ||
        btree_key_size(format, record) + (node->kind == BTREE_NODE_INDEX ? 4 : 1) > size) {
        return corruption_set(ret, format->name, number, "key length", length,
                              "record %u has %u bytes", index, size);
    }
    if (!format->key_check(record, length)) {
        return corruption_set(ret, format->name, number, "key", length,
                              "the key of record %u is none", index);
    }
    return 0;
}

static int check_kind(const BtreeFormat *format, uint32_t number, const BtreeNode *node,
                      Corruption *ret) {
    bool height_good = false;

    switch (node->kind) {
    case BTREE_NODE_LEAF:
        height_good = node->height == 1;
        break;
    case BTREE_NODE_INDEX:
        height_good = node->height >= 2 && node->height <= BTREE_DEPTH_MAX;
        break;
    case BTREE_NODE_HEADER:
    case BTREE_NODE_MAP:
        height_good = true; /* nobody looks at it, and not everybody writes 0 */
        break;
    default:
        return corruption_set(ret, format->name, number, "ndType", node->kind, "no kind of node");
    }
    if (!height_good) {
        return corruption_set(ret, format->name, number, "ndNHeight", node->height,
                              "of a node of kind %u", node->kind);
    }
    if ((node->kind == BTREE_NODE_HEADER) != (number == 0)) {
        return corruption_set(ret, format->name, number, "ndType", node->kind,
                              "only node 0 is the header");
    }
    return 0;
}

int btree_node_check(const BtreeFormat *format, uint32_t node_size, uint32_t number,
                     const uint8_t *data, Corruption *ret) {
    unsigned at = sizeof(BtreeDiskNode), end;
    BtreeNode node;
    int r;

    btree_node_decode(data, &node);
    r = check_kind(format, number, &node, ret);
    if (r < 0) {
        return r;
    }
    if (node.records > (node_size - sizeof(BtreeDiskNode)) / 4) {
        return corruption_set(ret, format->name, number, "ndNRecs", node.records,
                              "too many for a node of %u bytes", node_size);
    }
    if ((node.kind == BTREE_NODE_HEADER && node.records < HEADER_RECORDS) ||
        (node.kind == BTREE_NODE_MAP && node.records < 1)) {
        return corruption_set(ret, format->name, number, "ndNRecs", node.records,
                              "too few for a node of kind %u", node.kind);
    }
    end = node_size - 2 * (node.records + 1u);
    for (unsigned i = 0; i <= node.records; i++) {
        unsigned offset = btree_record_offset(node_size, data, i);

        if (offset > end || (i == 0 ? offset != at : offset <= at) || offset % 2 != 0) {
            return corruption_set(ret, format->name, number, "record offset", offset,
                                  "of record %u; the one before is at %u", i, at);
        }
        at = offset;
    }
    if (node.kind != BTREE_NODE_INDEX && node.kind != BTREE_NODE_LEAF) {
        return 0;
    }
    for (unsigned i = 0; i < node.records; i++) {
        unsigned start = btree_record_offset(node_size, data, i);
        unsigned size = btree_record_offset(node_size, data, i + 1) - start;

        r = check_key(format, number, &node, i, data + start, size, ret);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

void btree_record_get(const BtreeFormat *format, uint32_t node_size, const uint8_t *data,
                      unsigned index, BtreeRecord *ret) {
    unsigned start = btree_record_offset(node_size, data, index);
    unsigned end = btree_record_offset(node_size, data, index + 1);
    unsigned key_size = btree_key_size(format, data + start);

    *ret = (BtreeRecord){
        .key = data + start,
        .key_size = key_size,
        .data = data + start + key_size,
        .data_size = end - start - key_size,
    };
}

uint32_t btree_record_child(const BtreeRecord *record) {
    be32 child;

    memcpy(&child, record->data, sizeof(child));
    return be32_get(child);
}

/* ---- the header ---- */

void btree_header_decode(const uint8_t *data, BtreeHeader *ret) {
    BtreeDiskHeader disk;

    memcpy(&disk, data + sizeof(BtreeDiskNode), sizeof(disk));
    *ret = (BtreeHeader){
        .depth = be16_get(disk.depth),
        .node_size = be16_get(disk.node_size),
        .max_key_length = be16_get(disk.max_key_length),
        .root = be32_get(disk.root),
        .leaf_records = be32_get(disk.leaf_records),
        .first_leaf = be32_get(disk.first_leaf),
        .last_leaf = be32_get(disk.last_leaf),
        .node_count = be32_get(disk.node_count),
        .free_nodes = be32_get(disk.free_nodes),
    };
}

void btree_header_encode(const BtreeHeader *header, uint8_t *data) {
    BtreeDiskHeader disk;

    memcpy(&disk, data + sizeof(BtreeDiskNode), sizeof(disk));
    disk.depth = be16_make(header->depth);
    disk.node_size = be16_make(header->node_size);
    disk.max_key_length = be16_make(header->max_key_length);
    disk.root = be32_make(header->root);
    disk.leaf_records = be32_make(header->leaf_records);
    disk.first_leaf = be32_make(header->first_leaf);
    disk.last_leaf = be32_make(header->last_leaf);
    disk.node_count = be32_make(header->node_count);
    disk.free_nodes = be32_make(header->free_nodes);
    memcpy(data + sizeof(BtreeDiskNode), &disk, sizeof(disk));
}

int btree_header_check(const BtreeFormat *format, const BtreeHeader *header, uint32_t node_size,
                       uint64_t count, Corruption *ret) {
    const struct {
        const char *field;
        uint32_t node;
    } nodes[] = {{"bthRoot", header->root},
                 {"bthFNode", header->first_leaf},
                 {"bthLNode", header->last_leaf}};

    if (header->node_size != node_size) {
        return corruption_set(ret, format->name, 0, "bthNodeSize", header->node_size, "expected %u",
                              node_size);
    }
    if (header->max_key_length != format->max_key_length) {
        return corruption_set(ret, format->name, 0, "bthKeyLen", header->max_key_length,
                              "expected %u", format->max_key_length);
    }
    if (header->node_count == 0 || header->node_count > count) {
        return corruption_set(ret, format->name, 0, "bthNNodes", header->node_count,
                              "the file has %llu", (unsigned long long)count);
    }
    if (header->free_nodes >= header->node_count) {
        return corruption_set(ret, format->name, 0, "bthFree", header->free_nodes, "of %u nodes",
                              header->node_count);
    }
    if (header->depth > BTREE_DEPTH_MAX) {
        return corruption_set(ret, format->name, 0, "bthDepth", header->depth, "too deep");
    }
    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        bool there = nodes[i].node != 0;

        if (there != (header->depth > 0) || nodes[i].node >= header->node_count) {
            return corruption_set(ret, format->name, 0, nodes[i].field, nodes[i].node,
                                  "in a tree of depth %u with %u nodes", header->depth,
                                  header->node_count);
        }
    }
    return 0;
}

/* ---- building ---- */

void btree_node_init(const BtreeNode *node, uint32_t node_size, uint8_t *data) {
    memset(data, 0, node_size);
    btree_node_encode(node, data);
}

void btree_node_set_offset(uint32_t node_size, uint8_t *data, unsigned index, unsigned offset) {
    be16 disk = be16_make((uint16_t)offset);

    memcpy(data + node_size - 2 * (index + 1), &disk, sizeof(disk));
}
