/* SPDX-License-Identifier: MIT */
/*
 * Changing a B*-tree (see btree.h for the method). One edit goes up from a leaf, level by level:
 *
 *   window   the node to change, or it and a neighbour under the same parent
 *   items    the records of the window in order, with the change made
 *   parts    how the items are laid out over 0 to 3 nodes, which are those of the window or new
 *   pointers what the parent must hold for these nodes instead of for the window:
 *            the change one level up
 *
 * Neighbours' links, the map and the header's counts follow. It ends where the parent's records
 * stay as they are, or at the root, which may be split or given up.
 */
#include "btree_impl.h"

#define WINDOW_MAX 2u
#define PARTS_MAX 3u
/* A node that is emptier than this looks for a neighbour to join; not one that would be too full.
 */
#define LOW_MARK(capacity) ((capacity) / 3)
#define JOIN_MARK(capacity) ((capacity) / 4 * 3)
/* Two nodes take a third's worth of records instead of a split if that leaves them some room. */
#define ROTATE_MARK(capacity) ((capacity) / 8 * 15)
/* Leaves do it only when there are fewer free nodes than this: then no records move between them
 * but where one is given up, and that takes fewer ranks. */
#define SCARCE(count) ((count) / 8)

typedef struct Item {
    const uint8_t *bytes; /* key and data as stored */
    unsigned size;
} Item;

/* A node that items are laid out into. */
typedef struct Part {
    uint32_t number;
    unsigned first; /* of its items; they end where the next part's begin */
    int window;     /* the window node that it is; NEW: none */
    unsigned rank;  /* of a new one; of others when all are known */
} Part;
#define NEW (-1)

typedef struct Edit {
    Btree *tree;
    uint32_t node_size;
    unsigned capacity; /* bytes for records and their offsets */
    BtreeHeader header;
    /* The way down: [height]. index: the record that was followed or found. */
    uint32_t path[BTREE_DEPTH_MAX + 1];
    int index[BTREE_DEPTH_MAX + 1];
    unsigned height; /* of the level being changed */
    /* The change at this level: `removed` records at `at` go, `added` come. */
    unsigned at, removed, added_count;
    Item added[PARTS_MAX];
    uint8_t *added_bytes[2][PARTS_MAX]; /* of this level and the one below it, by turns */
    /* The window. */
    uint32_t window[WINDOW_MAX];
    BtreeNode nodes[WINDOW_MAX];
    uint8_t *window_data[WINDOW_MAX];
    unsigned window_count;
    unsigned parent_index; /* of the window's first node in the parent */
    Item *items;
    unsigned item_count, total;
    unsigned border;    /* the first item of the window's second node */
    unsigned added_at;  /* the first item that was added */
    unsigned put_index; /* in its leaf, of the record that was put */
    unsigned part_count;
    Part parts[PARTS_MAX + 1];
    uint8_t *parent, *scratch;
    void *memory;
} Edit;

/* ---- beginning and end ---- */

static void edit_done(Edit *edit) {
    free(edit->memory);
}

static int edit_init(Edit *edit, Btree *tree) {
    uint32_t size = tree->source->node_size;
    size_t items = (size_t)WINDOW_MAX * (size / 4) + PARTS_MAX;
    size_t pointer = BTREE_KEY_SIZE_MAX + 4;
    uint8_t *bytes;

    *edit = (Edit){.tree = tree, .node_size = size};
    if (tree->source->write == NULL) {
        return -EROFS;
    }
    edit->capacity = size - (unsigned)sizeof(BtreeDiskNode) - 2;
    edit->memory = malloc(items * sizeof(Item) + (WINDOW_MAX + 2) * (size_t)size +
                          2 * PARTS_MAX * MAX(pointer, (size_t)size));
    if (edit->memory == NULL) {
        return -ENOMEM;
    }
    edit->items = edit->memory;
    bytes = (uint8_t *)edit->memory + items * sizeof(Item);
    for (unsigned i = 0; i < WINDOW_MAX; i++, bytes += size) {
        edit->window_data[i] = bytes;
    }
    edit->parent = bytes;
    edit->scratch = bytes + size;
    bytes += 2 * (size_t)size;
    for (unsigned i = 0; i < 2 * PARTS_MAX; i++, bytes += MAX(pointer, (size_t)size)) {
        edit->added_bytes[i / PARTS_MAX][i % PARTS_MAX] = bytes;
    }
    return btree_header_load(tree, &edit->header);
}

/* Down to the key's leaf. 0: it is there; 1: it would come behind index[1]. */
static int edit_descend(Edit *edit, const uint8_t *key) {
    const Btree *tree = edit->tree;
    uint32_t number = edit->header.root;
    bool exact = false;

    for (unsigned height = edit->header.depth; height > 0; height--) {
        BtreeRecord record;
        BtreeNode node;
        int index, r = btree_child_load(tree, number, height, edit->scratch, &node);

        if (r < 0) {
            return r;
        }
        index = btree_node_search(tree, edit->scratch, node.records, key, &exact);
        edit->path[height] = number;
        edit->index[height] = height > 1 ? MAX(index, 0) : index;
        if (height > 1) {
            btree_record_get(tree->format, edit->node_size, edit->scratch,
                             (unsigned)edit->index[height], &record);
            number = btree_record_child(&record);
        }
    }
    return exact ? 0 : 1;
}

/* ---- the window and its items ---- */

static int links_broken(const Edit *edit, uint32_t number, const char *field, uint32_t value) {
    Corruption corruption;

    (void)corruption_set(&corruption, edit->tree->format->name, number, field, value,
                         "neighbours do not point to each other");
    return btree_corrupt(edit->tree, &corruption);
}

static void items_add(Edit *edit, const uint8_t *bytes, unsigned size) {
    edit->items[edit->item_count++] = (Item){bytes, size};
    edit->total += size + 2;
}

static void items_add_added(Edit *edit) {
    edit->added_at = edit->item_count;
    for (unsigned i = 0; i < edit->added_count; i++) {
        items_add(edit, edit->added[i].bytes, edit->added[i].size);
    }
}

/* The records of window node i; the change is made in the node that it belongs to. */
static void items_collect(Edit *edit, unsigned i, bool changed) {
    const uint8_t *data = edit->window_data[i];
    unsigned records = edit->nodes[i].records;

    for (unsigned n = 0; n < records; n++) {
        unsigned start = btree_record_offset(edit->node_size, data, n);
        unsigned end = btree_record_offset(edit->node_size, data, n + 1);

        if (changed && n == edit->at) {
            items_add_added(edit);
        }
        if (!changed || n < edit->at || n >= edit->at + edit->removed) {
            items_add(edit, data + start, end - start);
        }
    }
    if (changed && edit->at >= records) {
        items_add_added(edit);
    }
    edit->border = i == 0 ? edit->item_count : edit->border;
}

/* Bytes that a node's records and offsets take. */
static unsigned node_used(const Edit *edit, const uint8_t *data, const BtreeNode *node) {
    return btree_record_offset(edit->node_size, data, node->records) -
           (unsigned)sizeof(BtreeDiskNode) + 2u * node->records;
}

/* The parent's record number `index` as a child: loaded into window slot `slot`. */
static int window_load(Edit *edit, unsigned slot, unsigned index) {
    BtreeRecord record;

    btree_record_get(edit->tree->format, edit->node_size, edit->parent, index, &record);
    edit->window[slot] = btree_record_child(&record);
    return btree_child_load(edit->tree, edit->window[slot], edit->height, edit->window_data[slot],
                            &edit->nodes[slot]);
}

static void window_swap(Edit *edit) {
    uint32_t number = edit->window[0];
    BtreeNode node = edit->nodes[0];
    uint8_t *data = edit->window_data[0];

    edit->window[0] = edit->window[1];
    edit->nodes[0] = edit->nodes[1];
    edit->window_data[0] = edit->window_data[1];
    edit->window[1] = number;
    edit->nodes[1] = node;
    edit->window_data[1] = data;
}

/* Takes a neighbour into the window if, together, that makes at most `most` bytes. */
static int window_widen(Edit *edit, bool left, unsigned most) {
    unsigned index = left ? edit->parent_index - 1 : edit->parent_index + 1;
    int r = window_load(edit, 1, index);

    if (r < 0) {
        return r;
    }
    if (edit->total + node_used(edit, edit->window_data[1], &edit->nodes[1]) > most) {
        return 0;
    }
    edit->window_count = 2;
    if (left) {
        edit->parent_index = index;
        window_swap(edit);
    }
    if (edit->window[0] == edit->window[1] || edit->nodes[0].next != edit->window[1] ||
        edit->nodes[1].previous != edit->window[0]) {
        return links_broken(edit, edit->window[0], "ndFLink", edit->nodes[0].next);
    }
    edit->item_count = edit->total = 0;
    items_collect(edit, 0, !left);
    items_collect(edit, 1, left);
    return 0;
}

/* Loads the node and collects; decides about a neighbour and the number of parts. */
static int window_open(Edit *edit) {
    bool root = edit->height == edit->header.depth;
    unsigned parent_records = 0;
    int r;

    edit->window_count = 1;
    edit->window[0] = edit->path[edit->height];
    edit->item_count = edit->total = 0;
    r = btree_child_load(edit->tree, edit->window[0], edit->height, edit->window_data[0],
                         &edit->nodes[0]);
    if (r == 0 && !root) {
        BtreeNode parent;

        r = btree_child_load(edit->tree, edit->path[edit->height + 1], edit->height + 1,
                             edit->parent, &parent);
        parent_records = parent.records;
        edit->parent_index = (unsigned)edit->index[edit->height + 1];
    }
    if (r < 0) {
        return r;
    }
    items_collect(edit, 0, true);
    edit->part_count = edit->item_count == 0 ? 0 : 1;
    if (edit->total > edit->capacity) {
        edit->part_count = 2;
        if (!root && edit->parent_index > 0 &&
            (edit->height > 1 || edit->header.free_nodes < SCARCE(edit->header.node_count))) {
            r = window_widen(edit, true, ROTATE_MARK(edit->capacity));
        }
    } else if (!root && edit->item_count > 0 && edit->total < LOW_MARK(edit->capacity)) {
        if (edit->parent_index > 0) {
            r = window_widen(edit, true, JOIN_MARK(edit->capacity));
        }
        if (r == 0 && edit->window_count == 1 && edit->parent_index + 1 < parent_records) {
            r = window_widen(edit, false, JOIN_MARK(edit->capacity));
        }
    }
    return r;
}

/* ---- laying out ---- */

/* Spreads the items evenly over part_count nodes. False: they do not fit so. */
static bool parts_spread(Edit *edit) {
    unsigned item = 0, done = 0;

    for (unsigned part = 0; part < edit->part_count; part++) {
        unsigned target = edit->total * (part + 1) / edit->part_count, used = 0;
        bool last = part + 1 == edit->part_count;

        edit->parts[part].first = item;
        while (item < edit->item_count) {
            unsigned size = edit->items[item].size + 2;
            unsigned behind = edit->part_count - 1 - part; /* each needs an item */

            if (!last && used > 0 &&
                (done + size / 2 > target || edit->item_count - item <= behind)) {
                break;
            }
            if (used + size > edit->capacity) {
                break;
            }
            used += size;
            done += size;
            item++;
        }
        if (used == 0) {
            return false;
        }
    }
    edit->parts[edit->part_count].first = item;
    return item == edit->item_count;
}

/* Records that come in rising order, at the tree's end or one behind the other, leave full nodes
 * behind them: what was added begins a node, and what lies behind it another. */
static bool is_append(const Edit *edit) {
    const BtreeNewest *newest = edit->tree->newest;
    bool at_end = edit->nodes[0].next == 0 && edit->at + edit->removed >= edit->nodes[0].records;
    bool goes_on = edit->height == 1 && newest != NULL && newest->node == edit->window[0] &&
                   newest->index + 1 == edit->at;

    return edit->window_count == 1 && edit->part_count == 2 && (at_end || goes_on) &&
           edit->added_count == edit->removed + 1 && edit->item_count > 1;
}

static int parts_lay_out(Edit *edit) {
    Corruption corruption;

    if (edit->part_count == 0) {
        return 0;
    }
    if (is_append(edit)) {
        unsigned last = edit->added_at + edit->added_count;

        edit->part_count = last < edit->item_count ? 3 : 2;
        edit->parts[0].first = 0;
        edit->parts[1].first = last - 1;
        edit->parts[2].first = last;
        edit->parts[edit->part_count].first = edit->item_count;
        return 0;
    }
    for (; edit->part_count <= PARTS_MAX; edit->part_count++) {
        if (parts_spread(edit)) {
            return 0;
        }
    }
    (void)corruption_set(&corruption, edit->tree->format->name, edit->window[0], "record",
                         edit->total, "its records are too large to be split");
    return btree_corrupt(edit->tree, &corruption);
}

/* ---- which nodes, and in which rank ---- */

/* Does window node `from` give one of its records to this part? */
static bool gives(const Edit *edit, unsigned from, unsigned part) {
    unsigned first = edit->parts[part].first, end = edit->parts[part + 1].first;
    unsigned own_first = from == 0 ? 0 : edit->border;
    unsigned own_end = from == 0 ? edit->border : edit->item_count;

    if (edit->parts[part].window == (int)from) {
        return false;
    }
    first = MAX(first, own_first);
    end = MIN(end, own_end);
    /* Those that were added are nobody's gift. */
    if (first >= edit->added_at && end <= edit->added_at + edit->added_count) {
        return false;
    }
    return first < end;
}

static unsigned window_rank(const Edit *edit, unsigned window);

static unsigned part_rank(const Edit *edit, unsigned part) {
    int window = edit->parts[part].window;

    return window == NEW ? edit->parts[part].rank : window_rank(edit, (unsigned)window);
}

/* Records move one way only between two nodes, so this ends. */
static unsigned window_rank(const Edit *edit, unsigned window) {
    const BtreePlace *after = &edit->tree->after;
    uint32_t number = edit->window[window];
    unsigned rank = btree_node_rank(edit->tree, number, BTREE_RANK_PLAIN);

    if (edit->height > 1) {
        return rank;
    }
    if (edit->removed > 0 && after->node != 0 && number == edit->path[1]) {
        rank = MAX(rank, after->rank + (after->node != number));
    }
    for (unsigned i = 0; i < edit->part_count; i++) {
        if (gives(edit, window, i)) {
            unsigned taken = part_rank(edit, i);

            rank = MAX(rank, taken + 1);
        }
    }
    return rank;
}

/* May this record refer to data that is not on the medium yet? It does not if it has not been
 * written for some time, or only in a leaf that had rank 0. */
static bool is_young(const Edit *edit, unsigned item) {
    unsigned window = item < edit->border ? 0 : 1;
    const Item *record = &edit->items[item];

    if (item >= edit->added_at && item < edit->added_at + edit->added_count) {
        return !edit->tree->bare;
    }
    return btree_bytes_rank(edit->tree, edit->window[window],
                            (uint32_t)(record->bytes - edit->window_data[window]),
                            record->size) > 0;
}

/* A leaf that only has what was added takes nothing from others, and can wait. */
static unsigned new_rank(const Edit *edit, const Part *part) {
    bool takes = false, young = false;

    for (unsigned i = part->first; i < part[1].first; i++) {
        takes = takes || i < edit->added_at || i >= edit->added_at + edit->added_count;
        young = young || is_young(edit, i);
    }
    return takes && !young ? 0 : BTREE_RANK_PLAIN;
}

static int part_new(Edit *edit, Part *part) {
    unsigned rank = edit->height == 1 ? new_rank(edit, part) : BTREE_RANK_PLAIN;

    part->window = NEW;
    return btree_node_alloc(edit->tree, &edit->header, edit->scratch, &part->number, rank,
                            &part->rank);
}

/* Nodes for the parts: the window's as far as they go. */
static int parts_number(Edit *edit) {
    int r = 0;

    for (unsigned i = 0; i < MIN(edit->part_count, edit->window_count); i++) {
        edit->parts[i].window = (int)i;
        edit->parts[i].number = edit->window[i];
    }
    for (unsigned i = edit->window_count; r == 0 && i < edit->part_count; i++) {
        r = part_new(edit, &edit->parts[i]);
    }
    return r;
}

static int part_store(Edit *edit, unsigned part) {
    const Part *this = &edit->parts[part];
    bool last = part + 1 == edit->part_count;
    unsigned offset = sizeof(BtreeDiskNode), records = this[1].first - this->first;
    BtreeNode node = {
        .next = last ? edit->nodes[edit->window_count - 1].next : this[1].number,
        .previous = part == 0 ? edit->nodes[0].previous : this[-1].number,
        .kind = edit->nodes[0].kind,
        .height = edit->nodes[0].height,
        .records = (uint16_t)records,
    };

    btree_node_init(&node, edit->node_size, edit->scratch);
    for (unsigned n = 0; n < records; n++) {
        const Item *item = &edit->items[this->first + n];

        memcpy(edit->scratch + offset, item->bytes, item->size);
        btree_node_set_offset(edit->node_size, edit->scratch, n, offset);
        offset += item->size;
    }
    btree_node_set_offset(edit->node_size, edit->scratch, records, offset);
    if (edit->height == 1 && edit->added_count > 0 && edit->added_at >= this->first &&
        edit->added_at < this[1].first) {
        edit->tree->put = (BtreePlace){this->number, this->rank};
        edit->put_index = edit->added_at - this->first;
    }
    return btree_node_store(edit->tree, this->number, edit->scratch, this->rank);
}

/* What the window's nodes are to be written with must be known before one of them is. */
static int parts_store(Edit *edit) {
    unsigned ranks[WINDOW_MAX] = {0};
    int r = 0;

    for (unsigned i = 0; i < edit->window_count; i++) {
        ranks[i] = window_rank(edit, i);
    }
    for (unsigned i = 0; r == 0 && i < edit->part_count; i++) {
        Part *part = &edit->parts[i];

        part->rank = part->window == NEW ? part->rank : ranks[part->window];
        r = part_store(edit, i);
    }
    for (unsigned i = edit->part_count; r == 0 && i < edit->window_count; i++) {
        r = btree_node_free(edit->tree, &edit->header, edit->scratch, edit->window[i], ranks[i]);
    }
    return r;
}

/* ---- links ---- */

/* Neighbour `number` outside the window pointed to `from` and points to `to` now. */
static int link_change(Edit *edit, uint32_t number, bool forward, uint32_t from, uint32_t to) {
    BtreeSource *source = edit->tree->source;
    be32 disk = be32_make(to);
    BtreeNode node;
    int r;

    if (number == 0 || from == to) {
        return 0;
    }
    r = btree_child_load(edit->tree, number, edit->height, edit->scratch, &node);
    if (r < 0) {
        return r;
    }
    if ((forward ? node.next : node.previous) != from) {
        return links_broken(edit, number, forward ? "ndFLink" : "ndBLink",
                            forward ? node.next : node.previous);
    }
    return source->write(
        source, number, forward ? offsetof(BtreeDiskNode, next) : offsetof(BtreeDiskNode, previous),
        disk.b, sizeof(disk), btree_node_rank(edit->tree, number, BTREE_RANK_PLAIN));
}

static int links_follow(Edit *edit) {
    uint32_t previous = edit->nodes[0].previous;
    uint32_t next = edit->nodes[edit->window_count - 1].next;
    uint32_t old_first = edit->window[0], old_last = edit->window[edit->window_count - 1];
    uint32_t first = edit->part_count > 0 ? edit->parts[0].number : next;
    uint32_t last = edit->part_count > 0 ? edit->parts[edit->part_count - 1].number : previous;
    int r = link_change(edit, previous, true, old_first, first);

    if (r == 0) {
        r = link_change(edit, next, false, old_last, last);
    }
    if (r == 0 && edit->height == 1) {
        if (edit->header.first_leaf == old_first) {
            edit->header.first_leaf = first;
        }
        if (edit->header.last_leaf == old_last) {
            edit->header.last_leaf = last;
        }
    }
    return r;
}

/* ---- upwards ---- */

/* The record that a parent has for a part. */
static void pointer_make(Edit *edit, unsigned part) {
    const BtreeFormat *format = edit->tree->format;
    const uint8_t *key = edit->items[edit->parts[part].first].bytes;
    unsigned field = format->wide_keys ? 2 : 1;
    unsigned length = btree_key_length(format, key);
    unsigned size = (field + (format->variable_index ? length : format->max_key_length) + 1) & ~1u;
    be32 child = be32_make(edit->parts[part].number);
    uint8_t *out = edit->added_bytes[edit->height % 2][part];

    memset(out, 0, size);
    memcpy(out, key, field + length);
    if (!format->variable_index) {
        out[field - 1] = (uint8_t)format->max_key_length;
        if (format->wide_keys) {
            out[0] = (uint8_t)(format->max_key_length >> 8);
        }
    }
    memcpy(out + size, child.b, sizeof(child));
    edit->added[part] = (Item){out, size + (unsigned)sizeof(child)};
}

/* Does the parent hold exactly these pointers already? */
static bool pointers_stay(const Edit *edit) {
    if (edit->part_count != edit->window_count) {
        return false;
    }
    for (unsigned i = 0; i < edit->part_count; i++) {
        unsigned index = edit->parent_index + i;
        unsigned start = btree_record_offset(edit->node_size, edit->parent, index);
        unsigned end = btree_record_offset(edit->node_size, edit->parent, index + 1);

        if (end - start != edit->added[i].size ||
            memcmp(edit->parent + start, edit->added[i].bytes, end - start) != 0) {
            return false;
        }
    }
    return true;
}

/* The root was split: a new one above it. */
static int root_raise(Edit *edit) {
    unsigned offset = sizeof(BtreeDiskNode);
    BtreeNode node = {
        .kind = BTREE_NODE_INDEX,
        .height = (uint8_t)(edit->header.depth + 1),
        .records = (uint16_t)edit->part_count,
    };
    unsigned rank;
    uint32_t number;
    int r;

    if (edit->header.depth == BTREE_DEPTH_MAX) {
        return -ENOSPC;
    }
    r = btree_node_alloc(edit->tree, &edit->header, edit->scratch, &number, BTREE_RANK_PLAIN,
                         &rank);
    if (r < 0) {
        return r;
    }
    btree_node_init(&node, edit->node_size, edit->scratch);
    for (unsigned i = 0; i < edit->part_count; i++) {
        memcpy(edit->scratch + offset, edit->added[i].bytes, edit->added[i].size);
        btree_node_set_offset(edit->node_size, edit->scratch, i, offset);
        offset += edit->added[i].size;
    }
    btree_node_set_offset(edit->node_size, edit->scratch, edit->part_count, offset);
    edit->header.depth++;
    edit->header.root = number;
    return btree_node_store(edit->tree, number, edit->scratch, rank);
}

/* An index root with one child gives way to it. */
static int root_lower(Edit *edit) {
    while (edit->header.depth > 1) {
        uint32_t root = edit->header.root;
        BtreeRecord record;
        BtreeNode node;
        int r = btree_child_load(edit->tree, root, edit->header.depth, edit->scratch, &node);

        if (r < 0 || node.records > 1) {
            return r;
        }
        btree_record_get(edit->tree->format, edit->node_size, edit->scratch, 0, &record);
        edit->header.root = btree_record_child(&record);
        edit->header.depth--;
        r = btree_node_free(edit->tree, &edit->header, edit->scratch, root, BTREE_RANK_PLAIN);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int root_follow(Edit *edit) {
    if (edit->part_count > 1) {
        return root_raise(edit);
    }
    if (edit->part_count == 0) {
        edit->header.depth = 0;
        edit->header.root = edit->header.first_leaf = edit->header.last_leaf = 0;
        return 0;
    }
    return edit->height > 1 ? root_lower(edit) : 0;
}

/* One level; 1: the parent needs a change as well, which is set up. */
static int edit_level(Edit *edit) {
    bool root = edit->height == edit->header.depth;
    int r = window_open(edit);

    if (r == 0) {
        r = parts_lay_out(edit);
    }
    if (r == 0) {
        r = parts_number(edit);
    }
    if (r == 0) {
        r = parts_store(edit);
    }
    if (r == 0) {
        r = links_follow(edit);
    }
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < edit->part_count; i++) {
        pointer_make(edit, i);
    }
    edit->added_count = edit->part_count;
    if (root) {
        return root_follow(edit);
    }
    edit->at = edit->parent_index;
    edit->removed = edit->window_count;
    return pointers_stay(edit) ? 0 : 1;
}

static int edit_run(Edit *edit) {
    int r = 1;

    for (edit->height = 1; r == 1; edit->height++) {
        r = edit_level(edit);
    }
    return r < 0 ? r : btree_header_store(edit->tree, &edit->header);
}

/* ---- the operations ---- */

/* The first record of an empty tree. */
static int plant(Edit *edit) {
    unsigned offset = sizeof(BtreeDiskNode);
    BtreeNode node = {.kind = BTREE_NODE_LEAF, .height = 1, .records = 1};
    unsigned rank;
    uint32_t number;
    int r = btree_node_alloc(edit->tree, &edit->header, edit->scratch, &number, BTREE_RANK_PLAIN,
                             &rank);

    if (r < 0) {
        return r;
    }
    btree_node_init(&node, edit->node_size, edit->scratch);
    memcpy(edit->scratch + offset, edit->added[0].bytes, edit->added[0].size);
    btree_node_set_offset(edit->node_size, edit->scratch, 0, offset);
    btree_node_set_offset(edit->node_size, edit->scratch, 1, offset + edit->added[0].size);
    r = btree_node_store(edit->tree, number, edit->scratch, rank);
    edit->tree->put = (BtreePlace){number, rank};
    edit->header.depth = 1;
    edit->header.root = edit->header.first_leaf = edit->header.last_leaf = number;
    return r < 0 ? r : btree_header_store(edit->tree, &edit->header);
}

/* The record that is added. -EFBIG. */
static int record_make(Edit *edit, const uint8_t *key, const void *data, unsigned length) {
    const BtreeFormat *format = edit->tree->format;
    unsigned key_size = btree_key_size(format, key);
    unsigned key_bytes = btree_key_length(format, key) + (format->wide_keys ? 2 : 1);
    unsigned size = (key_size + length + 1) & ~1u;
    uint8_t *bytes = edit->added_bytes[0][0];

    if (size + 2 > edit->capacity / 3) {
        return -EFBIG;
    }
    memset(bytes, 0, size);
    memcpy(bytes, key, key_bytes);
    memcpy(bytes + key_size, data, length);
    edit->added[0] = (Item){bytes, size};
    edit->added_count = 1;
    return 0;
}

int btree_insert(Btree *tree, const uint8_t *key, const void *data, unsigned length) {
    Edit edit;
    int r = edit_init(&edit, tree);

    if (r == 0) {
        r = record_make(&edit, key, data, length);
    }
    if (r == 0) {
        r = edit_descend(&edit, key);
        r = r == 0 ? -EEXIST : r;
    }
    if (r == 1) {
        edit.at = (unsigned)(edit.index[1] + 1);
        edit.header.leaf_records++;
        r = edit.header.depth == 0 ? plant(&edit) : edit_run(&edit);
        if (r == 0 && tree->newest != NULL) {
            *tree->newest = (BtreeNewest){tree->put.node, edit.put_index};
        }
    }
    edit_done(&edit);
    return r;
}

int btree_replace(Btree *tree, const uint8_t *key, const void *data, unsigned length) {
    Edit edit;
    int r = edit_init(&edit, tree);

    if (r == 0) {
        r = record_make(&edit, key, data, length);
    }
    if (r == 0) {
        r = edit_descend(&edit, key);
        r = r == 1 ? -ENOENT : r;
    }
    if (r == 0) {
        edit.at = (unsigned)edit.index[1];
        edit.removed = 1;
        r = edit_run(&edit);
    }
    edit_done(&edit);
    return r;
}

int btree_remove(Btree *tree, const uint8_t *key) {
    Edit edit;
    int r = edit_init(&edit, tree);

    if (r == 0) {
        r = edit_descend(&edit, key);
        r = r == 1 ? -ENOENT : r;
    }
    if (r == 0) {
        edit.at = (unsigned)edit.index[1];
        edit.removed = 1;
        edit.header.leaf_records -= edit.header.leaf_records > 0;
        r = edit_run(&edit);
    }
    edit_done(&edit);
    return r;
}
