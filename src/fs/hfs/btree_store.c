/* SPDX-License-Identifier: MIT */
/*
 * What changes of a B*-tree write: the bytes of a node that differ, with the node's rank
 * (btree.h); and the change that needs no more than that.
 */
#include "btree_impl.h"

#define DIFF_GAP 16u

/* ---- ranks ---- */

unsigned btree_bytes_rank(const Btree *tree, uint32_t node, uint32_t offset, uint32_t length) {
    BtreeSource *source = tree->source;

    return source->rank == NULL ? 0 : source->rank(source, node, offset, length);
}

unsigned btree_node_rank(const Btree *tree, uint32_t number, unsigned least) {
    unsigned rank = btree_bytes_rank(tree, number, 0, tree->source->node_size);

    return MAX(least, rank);
}

/* ---- nodes ---- */

/* All of a node has one rank, so that each rank shows what it was between two changes. */
static int node_store(const Btree *tree, uint32_t number, const uint8_t *data, unsigned rank) {
    BtreeSource *source = tree->source;
    uint32_t size = source->node_size;
    _cleanup_free_ uint8_t *old = malloc(size);
    int r = old == NULL ? -ENOMEM : source->read(source, number, old);

    for (uint32_t i = 0; r == 0 && i < size;) {
        uint32_t end = i, same = 0;

        if (old[i] == data[i]) {
            i++;
            continue;
        }
        /* Up to where enough bytes in a row are the same. */
        for (uint32_t at = i; at < size && same < DIFF_GAP; at++) {
            same = old[at] == data[at] ? same + 1 : 0;
            end = same == 0 ? at + 1 : end;
        }
        r = source->write(source, number, i, data + i, end - i, rank);
        i = end;
    }
    return r;
}

int btree_node_store(const Btree *tree, uint32_t number, const uint8_t *data, unsigned rank) {
    return node_store(tree, number, data, btree_node_rank(tree, number, rank));
}

int btree_header_store(const Btree *tree, const BtreeHeader *header) {
    _cleanup_free_ uint8_t *data = malloc(tree->source->node_size);
    int r = data == NULL ? -ENOMEM : btree_node_load(tree, 0, data);

    if (r < 0) {
        return r;
    }
    btree_header_encode(header, data);
    /* Apart from the map, which lies in the same node. */
    return node_store(tree, 0, data, BTREE_RANK_PLAIN);
}

/* ---- a record in its place ---- */

int btree_update(Btree *tree, const uint8_t *key, const void *data, unsigned length) {
    Corruption corruption;
    BtreeCursor cursor;
    BtreeRecord record;
    int r = btree_cursor_init(&cursor, tree);

    if (r == 0 && tree->source->write == NULL) {
        r = -EROFS;
    }
    if (r == 0) {
        r = btree_seek(&cursor, key);
        r = r == 1 ? -ENOENT : r;
    }
    if (r == 0) {
        btree_get(&cursor, &record);
        if (record.data_size < length) {
            (void)corruption_set(&corruption, tree->format->name, cursor.number, "record",
                                 record.data_size, "shorter than %u bytes", length);
            r = btree_corrupt(tree, &corruption);
        } else {
            size_t at = (size_t)(record.data - cursor.data);
            unsigned rank = btree_node_rank(tree, cursor.number, BTREE_RANK_PLAIN);

            if (tree->after.node != 0) {
                rank = MAX(rank, tree->after.rank + (tree->after.node != cursor.number));
            }
            memcpy(cursor.data + at, data, length);
            tree->put = (BtreePlace){cursor.number, rank};
            r = btree_node_store(tree, cursor.number, cursor.data, rank);
        }
    }
    btree_cursor_done(&cursor);
    return r;
}
