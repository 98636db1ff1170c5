/* SPDX-License-Identifier: MIT */
/*
 * A tree as a whole: every node is reached once from the root, linked to its
 * neighbours both ways, in order, and marked in the map; the header's numbers
 * are what was counted. Whatever is wrong is repaired in the same way: the tree
 * is made anew from the records that were reached and, when some may not have
 * been, from those of leaves that the map says are used. Of records with equal
 * keys the first is taken; the others are kept, should they turn out to be
 * all that there is of a file.
 *
 * The walk looks at the tree as it was read (`original`), so that records can
 * be taken from there while `bytes` becomes the new tree. Each kind of problem
 * is told of once for each tree. A tree that was damaged is sound in memory
 * afterwards even if the repair was refused (the check is frozen then), so
 * that the later passes have something to stand on.
 */
#include "check.h"
#include <inttypes.h>
#include <stdio.h>

#define TREE_SIZE_MAX (256u * 1024u * 1024u)
#define MAP_RECORD 2u

typedef struct SavedRecord {
    BtreeRecord record;
    size_t order; /* of equal keys the one found first counts */
} SavedRecord;

typedef struct Walk {
    Check *check;
    CheckTree *tree;
    uint32_t last[BTREE_DEPTH_MAX + 1]; /* by height: the node to the left */
    uint32_t last_next[BTREE_DEPTH_MAX + 1];
    uint32_t first_leaf;
    const uint8_t *last_key; /* of the leaves */
    SavedRecord *records;
    size_t count, capacity;
    bool told[HFS_PROBLEM_COUNT];
    bool damaged; /* the tree must be made anew */
    bool missed;  /* there may be leaves that were not reached */
    int error;    /* -ENOMEM */
} Walk;

/* ---- the file ---- */

static int source_read(BtreeSource *source, uint32_t node, uint8_t *out) {
    const CheckTree *tree = container_of(source, CheckTree, source);

    if (node >= tree->nodes) {
        return -ERANGE;
    }
    memcpy(out, tree->bytes + (size_t)node * HFS_NODE_SIZE, HFS_NODE_SIZE);
    return 0;
}

static int source_write(BtreeSource *source, uint32_t node, uint32_t offset, const uint8_t *bytes,
                        uint32_t length, unsigned rank) {
    const CheckTree *tree = container_of(source, CheckTree, source);

    (void)rank;
    if (node >= tree->nodes || !range_inside(offset, length, HFS_NODE_SIZE)) {
        return -ERANGE;
    }
    memcpy(tree->bytes + (size_t)node * HFS_NODE_SIZE + offset, bytes, length);
    return 0;
}

void check_tree_done(CheckTree *tree) {
    free(tree->bytes);
    free(tree->original);
    free(tree->extents);
    free(tree->seen);
    free(tree->others);
    *tree = (CheckTree){0};
}

/* Goes over the file's extents in pieces; fn gets the piece's place on the device and in the file.
 */
static int for_each_piece(const Check *check, const CheckTree *tree,
                          int (*fn)(const Check *check, const CheckTree *tree, uint64_t where,
                                    size_t at, size_t length)) {
    size_t size = (size_t)tree->nodes * HFS_NODE_SIZE, at = 0;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < tree->extent_count && at < size; i++) {
        uint64_t where = (uint64_t)check->mdb.first_block * HFS_SECTOR +
                         (uint64_t)tree->extents[i].start * check->mdb.block_size;
        uint64_t length = (uint64_t)tree->extents[i].count * check->mdb.block_size;

        length = MIN(length, (uint64_t)(size - at));
        r = fn(check, tree, where, at, (size_t)length);
        at += (size_t)length;
    }
    return r;
}

static int read_piece(const Check *check, const CheckTree *tree, uint64_t where, size_t at,
                      size_t length) {
    return block_read(check->device, where, tree->original + at, length);
}

static int write_piece(const Check *check, const CheckTree *tree, uint64_t where, size_t at,
                       size_t length) {
    int r = 0;

    for (size_t i = 0; r == 0 && i < length; i += HFS_NODE_SIZE) {
        if (memcmp(tree->bytes + at + i, tree->original + at + i, HFS_NODE_SIZE) != 0) {
            r = block_write(check->device, where + i, tree->bytes + at + i, HFS_NODE_SIZE);
        }
    }
    return r;
}

int check_tree_store(Check *check, CheckTree *tree) {
    return for_each_piece(check, tree, write_piece);
}

int check_tree_load(Check *check, CheckTree *tree, const BtreeFormat *format, HfsExtent *extents,
                    unsigned extent_count, uint32_t size) {
    uint64_t blocks = 0;
    int r;

    *tree = (CheckTree){
        .source = {.node_size = HFS_NODE_SIZE, .read = source_read, .write = source_write},
        .format = format,
        .nodes = size / HFS_NODE_SIZE,
        .extents = extents,
        .extent_count = extent_count,
    };
    for (unsigned i = 0; i < extent_count; i++) {
        blocks += extents[i].count;
    }
    if (size > TREE_SIZE_MAX || tree->nodes == 0 || blocks * check->mdb.block_size < size) {
        (void)check_found(check, HFS_PROBLEM_TREE_PLACE,
                          "%s: %" PRIu32 " bytes in %" PRIu64 " blocks", format->name, size,
                          blocks);
        return check_fail(check, -EUCLEAN, "the %s file cannot be read", format->name);
    }
    tree->bytes = malloc((size_t)tree->nodes * HFS_NODE_SIZE);
    tree->original = malloc((size_t)tree->nodes * HFS_NODE_SIZE);
    tree->seen = calloc(BITMAP_WORDS((size_t)tree->nodes), sizeof(uint64_t));
    if (tree->bytes == NULL || tree->original == NULL || tree->seen == NULL) {
        return -ENOMEM;
    }
    r = for_each_piece(check, tree, read_piece);
    if (r == 0) {
        memcpy(tree->bytes, tree->original, (size_t)tree->nodes * HFS_NODE_SIZE);
    }
    return r;
}

/* ---- the walk ---- */

static const uint8_t *node_bytes(const CheckTree *tree, uint32_t number) {
    return tree->original + (size_t)number * HFS_NODE_SIZE;
}

static void tell(Walk *walk, HfsProblem problem, uint32_t node, const char *what) {
    walk->damaged = true;
    if (problem != HFS_PROBLEM_TREE_MAP && problem != HFS_PROBLEM_TREE_COUNT) {
        walk->missed = true;
    }
    if (!walk->told[problem]) {
        walk->told[problem] = true;
        (void)check_found(walk->check, problem, "%s, node %" PRIu32 ": %s",
                          walk->tree->format->name, node, what);
    }
}

static void save(Walk *walk, const BtreeRecord *record) {
    if (walk->count == walk->capacity) {
        size_t capacity = MAX(walk->capacity * 2, (size_t)256);
        SavedRecord *records = reallocarray(walk->records, capacity, sizeof(*records));

        if (records == NULL) {
            walk->error = -ENOMEM;
            return;
        }
        walk->records = records;
        walk->capacity = capacity;
    }
    walk->records[walk->count] = (SavedRecord){*record, walk->count};
    walk->count++;
}

/* The node's kind and place beside its neighbour; false: not a node to go into. */
static bool enter_node(Walk *walk, uint32_t number, unsigned height, BtreeNode *node) {
    CheckTree *tree = walk->tree;
    Corruption corruption = {0};

    if (number == 0 || number >= tree->nodes) {
        tell(walk, HFS_PROBLEM_TREE_INDEX, number, "there is no such node, but it is a child");
        return false;
    }
    if (bitmap_test(tree->seen, number)) {
        tell(walk, HFS_PROBLEM_TREE_LINK, number, "reached twice");
        return false;
    }
    if (btree_node_check(tree->format, HFS_NODE_SIZE, number, node_bytes(tree, number),
                         &corruption) < 0) {
        tell(walk, HFS_PROBLEM_TREE_NODE, number, corruption.text);
        return false;
    }
    btree_node_decode(node_bytes(tree, number), node);
    if (node->height != height || node->records == 0 ||
        node->kind != (height == 1 ? BTREE_NODE_LEAF : BTREE_NODE_INDEX)) {
        tell(walk, HFS_PROBLEM_TREE_NODE, number, "its kind or height is not what its place needs");
        return false;
    }
    bitmap_set(tree->seen, number);
    if (node->previous != walk->last[height]) {
        tell(walk, HFS_PROBLEM_TREE_LINK, number, "not linked to the node on its left");
    }
    if (walk->last[height] != 0 && walk->last_next[height] != number) {
        tell(walk, HFS_PROBLEM_TREE_LINK, walk->last[height],
             "not linked to the node on its right");
    }
    if (height == 1 && walk->last[1] == 0) {
        walk->first_leaf = number;
    }
    walk->last[height] = number;
    walk->last_next[height] = node->next;
    return true;
}

/* Depth is bounded by the height, which falls. */
static void walk_node(Walk *walk, uint32_t number, unsigned height, const uint8_t *index_key) {
    const CheckTree *tree = walk->tree;
    const uint8_t *before = NULL;
    BtreeNode node;

    if (!enter_node(walk, number, height, &node)) {
        return;
    }
    for (unsigned i = 0; i < node.records; i++) {
        BtreeRecord record;

        btree_record_get(tree->format, HFS_NODE_SIZE, node_bytes(tree, number), i, &record);
        if (i == 0 && index_key != NULL && tree->format->compare(index_key, record.key) > 0) {
            tell(walk, HFS_PROBLEM_TREE_INDEX, number, "begins before its place in the index");
        }
        if (before != NULL && tree->format->compare(before, record.key) >= 0) {
            tell(walk, HFS_PROBLEM_TREE_ORDER, number, "keys do not rise");
        } else if (walk->last_key != NULL &&
                   tree->format->compare(walk->last_key, record.key) >= 0) {
            tell(walk, height == 1 ? HFS_PROBLEM_TREE_ORDER : HFS_PROBLEM_TREE_INDEX, number,
                 "begins before the end of what is on its left");
        }
        before = record.key;
        if (height == 1) {
            walk->last_key = record.key;
            save(walk, &record);
        } else {
            walk_node(walk, btree_record_child(&record), height - 1, record.key);
        }
    }
}

static void check_ends(Walk *walk) {
    for (unsigned height = 1; height <= BTREE_DEPTH_MAX; height++) {
        if (walk->last_next[height] != 0) {
            tell(walk, HFS_PROBLEM_TREE_LINK, walk->last[height],
                 "linked to a node on its right, but it is the last");
        }
    }
}

/* ---- map and numbers ---- */

/* Reads the map along its chain of nodes into *mapped. False: it is damaged or too short. */
static bool read_map(Walk *walk, uint64_t *mapped) {
    CheckTree *tree = walk->tree;
    uint32_t number = 0, first = 0;

    for (;;) {
        const uint8_t *data = node_bytes(tree, number);
        unsigned record = number == 0 ? MAP_RECORD : 0, start, end;
        Corruption corruption = {0};
        BtreeNode node;

        if (btree_node_check(tree->format, HFS_NODE_SIZE, number, data, &corruption) < 0) {
            tell(walk, HFS_PROBLEM_TREE_NODE, number, corruption.text);
            return false;
        }
        btree_node_decode(data, &node);
        if (number != 0 && node.kind != BTREE_NODE_MAP) {
            tell(walk, HFS_PROBLEM_TREE_LINK, number, "in the chain of map nodes");
            return false;
        }
        bitmap_set(tree->seen, number);
        start = btree_record_offset(HFS_NODE_SIZE, data, record);
        end = btree_record_offset(HFS_NODE_SIZE, data, record + 1);
        for (uint32_t bit = 0; bit < (end - start) * 8 && first + bit < tree->nodes; bit++) {
            if ((data[start + bit / 8] & 0x80u >> bit % 8) != 0) {
                bitmap_set(mapped, first + bit);
            }
        }
        first += (end - start) * 8;
        if (node.next == 0) {
            return first >= tree->nodes;
        }
        if (node.next >= tree->nodes || bitmap_test(tree->seen, node.next)) {
            tell(walk, HFS_PROBLEM_TREE_LINK, number, "the chain of map nodes goes astray");
            return false;
        }
        number = node.next;
    }
}

static void check_map(Walk *walk, const uint64_t *mapped, bool readable) {
    const CheckTree *tree = walk->tree;

    if (!readable) {
        tell(walk, HFS_PROBLEM_TREE_MAP, 0, "the map cannot be read to its end");
        return;
    }
    for (uint32_t i = 0; i < tree->nodes; i++) {
        if (bitmap_test(mapped, i) != bitmap_test(tree->seen, i)) {
            tell(walk, HFS_PROBLEM_TREE_MAP, i,
                 bitmap_test(mapped, i) ? "marked as used but not in the tree"
                                        : "in the tree but marked as free");
            /* It may be a leaf that fell out of the tree. */
            walk->missed = walk->missed || bitmap_test(mapped, i);
        }
    }
}

static void check_numbers(Walk *walk, const BtreeHeader *header) {
    const CheckTree *tree = walk->tree;
    uint64_t used = bitmap_count_set(tree->seen, tree->nodes);
    char text[96];
    struct {
        const char *what;
        uint64_t is, should;
    } numbers[] = {
        {"records", header->leaf_records, walk->count},
        {"first leaf", header->first_leaf, walk->first_leaf},
        {"last leaf", header->last_leaf, walk->last[1]},
        {"nodes", header->node_count, tree->nodes},
        {"free nodes", header->free_nodes, tree->nodes - used},
    };

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        if (numbers[i].is != numbers[i].should) {
            (void)snprintf(text, sizeof(text), "%s: %" PRIu64 ", but there are %" PRIu64,
                           numbers[i].what, numbers[i].is, numbers[i].should);
            tell(walk, HFS_PROBLEM_TREE_COUNT, 0, text);
        }
    }
}

static int walk_tree(Walk *walk, uint64_t *mapped) {
    CheckTree *tree = walk->tree;
    Corruption corruption = {0};
    BtreeHeader header;
    bool readable;

    if (btree_node_check(tree->format, HFS_NODE_SIZE, 0, node_bytes(tree, 0), &corruption) < 0) {
        tell(walk, HFS_PROBLEM_TREE_HEADER, 0, corruption.text);
        memset(mapped, 0xff, BITMAP_WORDS((size_t)tree->nodes) * sizeof(uint64_t));
        return 0;
    }
    btree_header_decode(node_bytes(tree, 0), &header);
    if (btree_header_check(tree->format, &header, HFS_NODE_SIZE, tree->nodes, &corruption) < 0) {
        tell(walk, HFS_PROBLEM_TREE_HEADER, 0, corruption.text);
    } else if (header.root != 0) {
        walk_node(walk, header.root, header.depth, NULL);
        check_ends(walk);
    }
    readable = read_map(walk, mapped);
    if (!walk->damaged || !readable) {
        check_map(walk, mapped, readable);
    }
    if (!walk->damaged) {
        check_numbers(walk, &header);
    }
    return walk->error;
}

/* ---- making it anew ---- */

/* Leaves that the walk did not reach but the map has. */
static void save_missed(Walk *walk, const uint64_t *mapped) {
    CheckTree *tree = walk->tree;

    for (uint32_t number = 1; number < tree->nodes; number++) {
        const uint8_t *data = node_bytes(tree, number);
        BtreeNode node;

        if (bitmap_test(tree->seen, number) || !bitmap_test(mapped, number) ||
            data[offsetof(BtreeDiskNode, kind)] != BTREE_NODE_LEAF ||
            btree_node_check(tree->format, HFS_NODE_SIZE, number, data, NULL) < 0) {
            continue;
        }
        btree_node_decode(data, &node);
        for (unsigned i = 0; i < node.records; i++) {
            BtreeRecord record;

            btree_record_get(tree->format, HFS_NODE_SIZE, data, i, &record);
            save(walk, &record);
        }
    }
}

static int saved_compare(const void *a, const void *b, void *arg) {
    const SavedRecord *left = a, *right = b;
    const BtreeFormat *format = arg;
    int order = format->compare(left->record.key, right->record.key);

    return order != 0 ? order : left->order < right->order ? -1 : 1;
}

static int make_anew(Walk *walk, const uint64_t *mapped) {
    _cleanup_free_ BtreeRecord *records = NULL;
    CheckTree *tree = walk->tree;
    size_t count = 0;
    int r;

    if (walk->missed) {
        save_missed(walk, mapped);
    }
    if (walk->error < 0) {
        return walk->error;
    }
    if (walk->count > 0) {
        qsort_r(walk->records, walk->count, sizeof(SavedRecord), saved_compare,
                (void *)tree->format);
    }
    records = calloc(MAX(walk->count, (size_t)1), sizeof(*records));
    tree->others = calloc(MAX(walk->count, (size_t)1), sizeof(*tree->others));
    if (records == NULL || tree->others == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < walk->count; i++) {
        const BtreeRecord *record = &walk->records[i].record;

        if (count > 0 && tree->format->compare(records[count - 1].key, record->key) == 0) {
            tree->others[tree->other_count++] = *record;
        } else {
            records[count++] = *record;
        }
    }
    r = check_tree_build(tree, records, count);
    return r == -ENOSPC ? check_fail(walk->check, -EUCLEAN,
                                     "the %s file has no room for its records", tree->format->name)
                        : r;
}

int check_tree(Check *check, CheckTree *tree) {
    Walk walk = {.check = check, .tree = tree};
    _cleanup_free_ uint64_t *mapped = calloc(BITMAP_WORDS((size_t)tree->nodes), sizeof(uint64_t));
    int r = mapped == NULL ? -ENOMEM : walk_tree(&walk, mapped);

    if (r == 0) {
        r = walk.damaged ? make_anew(&walk, mapped)
                         : btree_open(&tree->tree, tree->format, &tree->source, tree->nodes);
    }
    free(walk.records);
    return r;
}
