/* SPDX-License-Identifier: MIT */
/*
 * Searching a B*-tree and walking along its leaves. Nothing is changed here.
 *
 * A descent ends because the nodes' heights must fall by one, and begin with the
 * header's depth; a walk, because from leaf to leaf the keys must rise.
 */
#include "btree.h"
#include "btree_impl.h"

int btree_corrupt(const Btree *tree, const Corruption *corruption) {
    BtreeSource *source = tree->source;

    return source->corrupt != NULL ? source->corrupt(source, corruption) : -EUCLEAN;
}

int btree_node_load(const Btree *tree, uint32_t number, uint8_t *out) {
    Corruption corruption;
    int r = tree->source->read(tree->source, number, out);

    if (r == 0) {
        r = btree_node_check(tree->format, tree->source->node_size, number, out, &corruption);
        return r < 0 ? btree_corrupt(tree, &corruption) : 0;
    }
    if (r == -ERANGE) {
        (void)corruption_set(&corruption, tree->format->name, number, "node", number,
                             "there is no such node");
        return btree_corrupt(tree, &corruption);
    }
    return r;
}

int btree_header_load(const Btree *tree, BtreeHeader *ret) {
    uint32_t size = tree->source->node_size;
    _cleanup_free_ uint8_t *data = malloc(size);
    BtreeHeader header;
    Corruption corruption;
    int r;

    if (data == NULL) {
        return -ENOMEM;
    }
    r = btree_node_load(tree, 0, data);
    if (r < 0) {
        return r;
    }
    if (btree_record_offset(size, data, 1) < sizeof(BtreeDiskNode) + sizeof(BtreeDiskHeader)) {
        (void)corruption_set(&corruption, tree->format->name, 0, "record offset",
                             btree_record_offset(size, data, 1), "the header record is too short");
        return btree_corrupt(tree, &corruption);
    }
    btree_header_decode(data, &header);
    /* The file's length was looked at when the tree was opened; nodes past it are refused. */
    if (btree_header_check(tree->format, &header, size, UINT32_MAX, &corruption) < 0) {
        return btree_corrupt(tree, &corruption);
    }
    *ret = header;
    return 0;
}

int btree_open(Btree *tree, const BtreeFormat *format, BtreeSource *source, uint64_t count) {
    BtreeHeader header;
    Corruption corruption;
    int r;

    *tree = (Btree){.format = format, .source = source};
    r = btree_header_load(tree, &header);
    if (r == 0 && btree_header_check(format, &header, source->node_size, count, &corruption) < 0) {
        r = btree_corrupt(tree, &corruption);
    }
    return r;
}

int btree_node_search(const Btree *tree, const uint8_t *data, unsigned records, const uint8_t *key,
                      bool *ret_exact) {
    unsigned low = 0, high = records; /* the first record above key is in [low, high] */

    *ret_exact = false;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        BtreeRecord record;
        int order;

        btree_record_get(tree->format, tree->source->node_size, data, middle, &record);
        order = tree->format->compare(record.key, key);
        if (order == 0) {
            *ret_exact = true;
            return (int)middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return (int)low - 1;
}

int btree_child_load(const Btree *tree, uint32_t number, unsigned height, uint8_t *out,
                     BtreeNode *ret) {
    Corruption corruption;
    int r = btree_node_load(tree, number, out);

    if (r < 0) {
        return r;
    }
    btree_node_decode(out, ret);
    if (ret->height != height || ret->kind != (height == 1 ? BTREE_NODE_LEAF : BTREE_NODE_INDEX)) {
        (void)corruption_set(&corruption, tree->format->name, number, "ndNHeight", ret->height,
                             "a node of kind %u where height %u is expected", ret->kind, height);
        return btree_corrupt(tree, &corruption);
    }
    if (ret->records == 0) {
        (void)corruption_set(&corruption, tree->format->name, number, "ndNRecs", 0,
                             "an empty node");
        return btree_corrupt(tree, &corruption);
    }
    return 0;
}

/* ---- cursors ---- */

int btree_cursor_init(BtreeCursor *cursor, const Btree *tree) {
    *cursor = (BtreeCursor){.tree = tree, .index = -1};
    cursor->data = malloc(tree->source->node_size);
    return cursor->data == NULL ? -ENOMEM : 0;
}

void btree_cursor_done(BtreeCursor *cursor) {
    free(cursor->data);
    *cursor = (BtreeCursor){.index = -1};
}

int btree_seek(BtreeCursor *cursor, const uint8_t *key) {
    const Btree *tree = cursor->tree;
    BtreeHeader header;
    uint32_t number;
    bool exact = false;
    int r = btree_header_load(tree, &header);

    cursor->number = 0;
    cursor->index = -1;
    cursor->steps = 0;
    if (r < 0 || header.depth == 0) {
        return r < 0 ? r : 1;
    }
    number = header.root;
    for (unsigned height = header.depth; height > 0; height--) {
        BtreeRecord record;
        int index;

        r = btree_child_load(tree, number, height, cursor->data, &cursor->node);
        if (r < 0) {
            return r;
        }
        index = btree_node_search(tree, cursor->data, cursor->node.records, key, &exact);
        if (height == 1) {
            cursor->number = number;
            cursor->index = index;
            break;
        }
        /* Below the first key there can only be what the first child begins with. */
        btree_record_get(tree->format, tree->source->node_size, cursor->data,
                         (unsigned)MAX(index, 0), &record);
        number = btree_record_child(&record);
    }
    return exact ? 0 : 1;
}

static int keys_fall(const Btree *tree, uint32_t number) {
    Corruption corruption;

    (void)corruption_set(&corruption, tree->format->name, number, "key", number,
                         "not above the last key of the leaf before");
    return btree_corrupt(tree, &corruption);
}

/* To the next leaf: its first key must be above the last one of this. */
static int next_leaf(BtreeCursor *cursor) {
    const Btree *tree = cursor->tree;
    uint32_t size = tree->source->node_size, number = cursor->node.next;
    _cleanup_free_ uint8_t *data = malloc(size);
    BtreeRecord last, first;
    BtreeNode node;
    int r;

    if (data == NULL) {
        return -ENOMEM;
    }
    r = btree_child_load(tree, number, 1, data, &node);
    if (r < 0) {
        return r;
    }
    btree_record_get(tree->format, size, cursor->data, cursor->node.records - 1u, &last);
    btree_record_get(tree->format, size, data, 0, &first);
    if (tree->format->compare(last.key, first.key) >= 0) {
        return keys_fall(tree, number);
    }
    memcpy(cursor->data, data, size);
    cursor->node = node;
    cursor->number = number;
    cursor->index = 0;
    cursor->steps++;
    return 0;
}

int btree_next(BtreeCursor *cursor) {
    const Btree *tree = cursor->tree;

    if (cursor->number == 0) {
        return -ENOENT;
    }
    if (cursor->index + 1 >= cursor->node.records) {
        return cursor->node.next == 0 ? -ENOENT : next_leaf(cursor);
    }
    cursor->index++;
    if (cursor->index > 0) {
        uint32_t size = tree->source->node_size;
        BtreeRecord before, now;

        btree_record_get(tree->format, size, cursor->data, (unsigned)cursor->index - 1, &before);
        btree_record_get(tree->format, size, cursor->data, (unsigned)cursor->index, &now);
        if (tree->format->compare(before.key, now.key) >= 0) {
            return keys_fall(tree, cursor->number);
        }
    }
    return 0;
}

void btree_get(const BtreeCursor *cursor, BtreeRecord *ret) {
    btree_record_get(cursor->tree->format, cursor->tree->source->node_size, cursor->data,
                     (unsigned)cursor->index, ret);
}

int btree_lookup(const Btree *tree, const uint8_t *key, void *out, unsigned capacity) {
    BtreeCursor cursor;
    BtreeRecord record;
    int r = btree_cursor_init(&cursor, tree);

    if (r == 0) {
        r = btree_seek(&cursor, key);
    }
    if (r == 0) {
        btree_get(&cursor, &record);
        if (capacity > 0) {
            memcpy(out, record.data, MIN(record.data_size, capacity));
        }
        r = (int)record.data_size;
    } else if (r == 1) {
        r = -ENOENT;
    }
    btree_cursor_done(&cursor);
    return r;
}
