/* SPDX-License-Identifier: MIT */
/*
 * Which nodes of a B*-tree are used: the map, whose first part lies in the header node and
 * whose rest in a chain of map nodes, and the tree file's growth when all are. The header's
 * counts are kept in the caller's BtreeHeader, who stores it.
 */
#include "btree_impl.h"

#define HEADER_MAP_RECORD 2u
#define CANDIDATES 64u /* free nodes that a search looks at */

/* The part of the map that lies in one node. */
typedef struct MapPart {
    uint32_t node, next;     /* next: the map node after this one */
    uint32_t first;          /* node whose bit comes first */
    unsigned offset, length; /* bytes in the node */
} MapPart;

static int part_load(const Btree *tree, uint32_t number, uint8_t *data, MapPart *part) {
    uint32_t size = tree->source->node_size;
    unsigned record = number == 0 ? HEADER_MAP_RECORD : 0;
    Corruption corruption;
    BtreeNode node;
    int r = btree_node_load(tree, number, data);

    if (r < 0) {
        return r;
    }
    btree_node_decode(data, &node);
    if (number != 0 && node.kind != BTREE_NODE_MAP) {
        (void)corruption_set(&corruption, tree->format->name, number, "ndType", node.kind,
                             "in the chain of map nodes");
        return btree_corrupt(tree, &corruption);
    }
    part->node = number;
    part->next = node.next;
    part->offset = btree_record_offset(size, data, record);
    part->length = btree_record_offset(size, data, record + 1) - part->offset;
    return 0;
}

/* The part with the bit of `wanted`. -ENOENT: the map ends before it; *part is its last one then.
 */
static int part_find(const Btree *tree, uint32_t wanted, uint8_t *data, MapPart *part) {
    uint32_t number = 0;
    int r;

    *part = (MapPart){0};
    for (;;) {
        r = part_load(tree, number, data, part);
        if (r < 0) {
            return r;
        }
        /* Every part has bits, so this ends. */
        if (wanted - part->first < part->length * 8) {
            return 0;
        }
        if (part->next == 0) {
            return -ENOENT;
        }
        part->first += part->length * 8;
        number = part->next;
    }
}

static int map_too_short(const Btree *tree, uint32_t number) {
    Corruption corruption;

    (void)corruption_set(&corruption, tree->format->name, number, "map", number,
                         "the map has no bit for this node");
    return btree_corrupt(tree, &corruption);
}

/* Changes a node's bit, which must be the opposite, with this rank or, if need be, a higher one. */
static int map_set(const Btree *tree, uint32_t number, bool used, uint8_t *data, unsigned *rank) {
    Corruption corruption;
    MapPart part;
    unsigned at;
    uint8_t bit = (uint8_t)(0x80u >> number % 8), byte;
    int r = part_find(tree, number, data, &part);

    if (r < 0) {
        return r == -ENOENT ? map_too_short(tree, number) : r;
    }
    at = part.offset + (number - part.first) / 8;
    byte = data[at];
    if (((byte & bit) != 0) == used) {
        (void)corruption_set(&corruption, tree->format->name, number, "map", byte,
                             used ? "a node that is used counts as free"
                                  : "a node that is in the tree counts as free");
        return btree_corrupt(tree, &corruption);
    }
    byte ^= bit;
    *rank = MAX(*rank, btree_bytes_rank(tree, part.node, at, 1));
    return tree->source->write(tree->source, part.node, at, &byte, 1, *rank);
}

/* ---- growth ---- */

/* A new map node `number` behind the last part. */
static int add_map_node(const Btree *tree, const MapPart *last, uint32_t number, uint8_t *data) {
    BtreeSource *source = tree->source;
    uint32_t size = source->node_size;
    BtreeNode node = {.previous = last->node, .kind = BTREE_NODE_MAP, .records = 1};
    be32 next = be32_make(number);
    uint32_t at = offsetof(BtreeDiskNode, next);
    int r;

    btree_node_init(&node, size, data);
    btree_node_set_offset(size, data, 0, sizeof(BtreeDiskNode));
    btree_node_set_offset(size, data, 1, BTREE_MAP_RECORD(size) + (unsigned)sizeof(BtreeDiskNode));
    r = source->write(source, number, 0, data, size, btree_node_rank(tree, number, 0));
    if (r == 0) {
        r = source->write(source, last->node, at, next.b, sizeof(next),
                          btree_bytes_rank(tree, last->node, at, sizeof(next)));
    }
    return r;
}

/* Map nodes until all nodes have a bit; they are taken from `from` on. */
static int extend_map(const Btree *tree, BtreeHeader *header, uint32_t from, uint8_t *data) {
    MapPart part;
    int r;

    while ((r = part_find(tree, header->node_count - 1, data, &part)) == -ENOENT) {
        unsigned rank = 0;

        if (from >= header->node_count) {
            return -ENOSPC;
        }
        r = add_map_node(tree, &part, from, data);
        if (r == 0) {
            r = map_set(tree, from++, true, data, &rank);
        }
        if (r < 0) {
            return r;
        }
        header->free_nodes--;
    }
    return r;
}

static int tree_grow(const Btree *tree, BtreeHeader *header, uint8_t *data) {
    BtreeSource *source = tree->source;
    uint32_t before = header->node_count, count;
    int r;

    if (source->grow == NULL) {
        return -ENOSPC;
    }
    r = source->grow(source, before, &count);
    if (r < 0) {
        return r;
    }
    assert(count > before);
    header->node_count = count;
    header->free_nodes += count - before;
    return extend_map(tree, header, before, data);
}

/* ---- what the rest of the tree's code uses ---- */

/* The first clear bit at or above *from in this part; false: none. */
static bool part_search(const MapPart *part, const uint8_t *data, uint32_t count, uint32_t *from) {
    uint32_t number = MAX(*from, part->first);

    while (number < count && number - part->first < part->length * 8) {
        uint8_t byte = data[part->offset + (number - part->first) / 8];

        if (byte == 0xff) {
            number = (number | 7u) + 1;
        } else if (byte & 0x80u >> number % 8) {
            number++;
        } else {
            *from = number;
            return true;
        }
    }
    return false;
}

/* A free node, and the lowest rank that it can be written with. */
typedef struct Candidate {
    uint32_t number; /* 0: none */
    unsigned rank;
} Candidate;

/* Looks at some free nodes in [from, to), for one that has a lower rank than *best. */
static int find_free(const Btree *tree, uint32_t from, uint32_t to, uint8_t *data,
                     Candidate *best) {
    MapPart part = {0};
    int r = 0;

    for (unsigned tries = CANDIDATES; from < to && tries > 0; tries--) {
        unsigned rank;

        if (part.length == 0 || from - part.first >= part.length * 8) {
            r = part_find(tree, from, data, &part);
            if (r < 0) {
                return r == -ENOENT ? map_too_short(tree, from) : r;
            }
        }
        if (!part_search(&part, data, to, &from)) {
            from = part.first + part.length * 8;
            tries++;
            continue;
        }
        rank = btree_bytes_rank(tree, part.node, part.offset + (from - part.first) / 8, 1);
        rank = btree_node_rank(tree, from, rank);
        if (best->number == 0 || rank < best->rank) {
            *best = (Candidate){from, rank};
        }
        if (rank == 0) {
            break;
        }
        from++;
    }
    return 0;
}

int btree_node_alloc(Btree *tree, BtreeHeader *header, uint8_t *data, uint32_t *ret, unsigned rank,
                     unsigned *ret_rank) {
    Corruption corruption;
    Candidate found = {0};
    uint32_t from = 0;
    int r;

    if (header->free_nodes == 0) {
        r = tree_grow(tree, header, data);
        if (r < 0) {
            return r;
        }
    }
    if (tree->free_hint != NULL && *tree->free_hint < header->node_count) {
        from = *tree->free_hint;
    }
    r = find_free(tree, from, header->node_count, data, &found);
    if (r == 0 && (found.number == 0 || found.rank > 0)) {
        r = find_free(tree, 0, from, data, &found);
    }
    if (r == 0 && (found.number == 0 || header->free_nodes == 0)) {
        (void)corruption_set(&corruption, tree->format->name, 0, "bthFree", header->free_nodes,
                             "the map has no free node");
        return btree_corrupt(tree, &corruption);
    }
    rank = MAX(rank, found.rank);
    if (r == 0) {
        r = map_set(tree, found.number, true, data, &rank);
    }
    if (r == 0 && tree->source->fresh != NULL) {
        r = tree->source->fresh(tree->source, found.number, rank);
    }
    if (r < 0) {
        return r;
    }
    header->free_nodes--;
    /* Not behind it: should this change be undone and made again, it must find the same node. */
    if (tree->free_hint != NULL) {
        *tree->free_hint = found.number;
    }
    *ret = found.number;
    *ret_rank = rank;
    return 0;
}

/* The search for a free node does not go back to it: it is better left alone for a while. */
int btree_node_free(Btree *tree, BtreeHeader *header, uint8_t *data, uint32_t number,
                    unsigned rank) {
    int r = map_set(tree, number, false, data, &rank);

    if (r == 0) {
        /* Nothing of what it held stays, as Apple's checker would have it. */
        memset(data, 0, tree->source->node_size);
        r = btree_node_store(tree, number, data, rank);
    }
    header->free_nodes += r == 0;
    return r;
}

/* ---- a new tree ---- */

int btree_create(const BtreeFormat *format, BtreeSource *source, uint32_t node_count) {
    uint32_t size = source->node_size;
    unsigned offset = sizeof(BtreeDiskNode);
    BtreeNode node = {.kind = BTREE_NODE_HEADER, .records = HEADER_MAP_RECORD + 1};
    BtreeHeader header = {
        .node_size = (uint16_t)size,
        .max_key_length = format->max_key_length,
        .node_count = node_count,
        .free_nodes = node_count - 1,
    };
    Btree tree = {.format = format, .source = source};
    _cleanup_free_ uint8_t *data = malloc(size);
    int r;

    if (data == NULL) {
        return -ENOMEM;
    }
    btree_node_init(&node, size, data);
    btree_node_set_offset(size, data, 0, offset);
    offset += (unsigned)sizeof(BtreeDiskHeader);
    btree_node_set_offset(size, data, 1, offset);
    offset += BTREE_HEADER_RESERVED;
    btree_node_set_offset(size, data, HEADER_MAP_RECORD, offset);
    data[offset] = 0x80; /* node 0 itself */
    btree_node_set_offset(size, data, HEADER_MAP_RECORD + 1, size - 2 * (HEADER_MAP_RECORD + 2));
    btree_header_encode(&header, data);
    r = source->write(source, 0, 0, data, size, 0);
    if (r == 0) {
        r = extend_map(&tree, &header, 1, data);
    }
    return r < 0 ? r : btree_header_store(&tree, &header);
}
