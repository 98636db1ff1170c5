/* SPDX-License-Identifier: MIT */
/*
 * B*-trees of HFS and HFS+: searching, walking, and changing them. A tree lies in a file of its
 * own, in nodes of one size; node 0 is the header, a chain of map nodes says which nodes are
 * used. Layout: BtreeDisk* in format.h.
 *
 * Where the nodes come from is the caller's: a BtreeSource reads a node and changes bytes of it,
 * over a transaction (daemon) or a plain device or memory (mkfs, fsck). So a function here fails
 * with whatever the source fails with, -ERESTART included, and what a failed change has written
 * until then is the caller's to undo: a transaction's abort, or a scratch copy.
 *
 * Nothing is kept in core but the format and a hint: the header is read anew for every
 * operation, so that there is nothing an abort would have to restore.
 *
 * Every node is checked when it is read (btree_node_check()), heights must fall by one on the way
 * down, and a walk along the leaves must find rising keys: so nothing here loops or leaves a
 * node, whatever the image says. -EUCLEAN goes through BtreeSource.corrupt().
 *
 * Changes: one algorithm does splits, rotations and merges. A level takes a node, or it and its
 * left or right neighbour under the same parent, lays the changed list of records out over as many
 * nodes as it needs, and what that means for the parent (other first keys, more or fewer children)
 * is a change of the same kind there.
 *
 * Ranks: in what order the nodes may reach the medium, so that a power cut in between leaves every
 * record in some leaf that is marked as used (a checker then finds it, whatever the index and the
 * links say). Each write has a rank; what has a lower one is on the medium before, what has the
 * same one may come in any order. A new leaf comes first, with the bit in the map that says
 * that it is used: rank 0. A leaf that records move out of comes after the one they move into, and
 * so does its end, where it is freed. So that this takes few ranks, leaves are split rather than
 * evened out with their neighbours, as long as there are free nodes. As a node is always
 * written with rising ranks, each rank shows it as it was between two changes. Index nodes, links
 * and the header's numbers can be made again from the leaves: they have rank 1, as has all
 * else. The data of files is on the medium before rank 1 but not before rank 0: so a new leaf
 * has rank 1 as well when a record in it may refer to data that is not there, as it was put there
 * or changed not long ago. A source that writes in no order, or at once, takes no notice.
 */
#ifndef HFS_BTREE_H
#define HFS_BTREE_H

#include "berth/base.h"
#include "berth/report.h"
#include "format.h"

#define BTREE_DEPTH_MAX 16u
#define BTREE_NODE_SIZE_MIN 512u
#define BTREE_NODE_SIZE_MAX 32768u
#define BTREE_KEY_SIZE_MAX 520u /* with its length field: HFS+ catalog keys have 518 */

/* What the trees of one kind have in common. */
typedef struct BtreeFormat {
    const char *name;        /* for reports: "catalog" */
    bool wide_keys;          /* HFS+: the key's length field has 16 bits, not 8 */
    bool variable_index;     /* index nodes keep keys at their length; else at max_key_length */
    uint16_t max_key_length; /* what the header must say */
    /* Order of two keys, given with their length fields; they have passed key_check. */
    int (*compare)(const uint8_t *a, const uint8_t *b);
    /* Is a key of this length (length field not counted, inside its record and at most
     * max_key_length) one of this tree? key points to the length field. */
    bool (*key_check)(const uint8_t *key, unsigned length);
} BtreeFormat;

typedef struct BtreeSource BtreeSource;
struct BtreeSource {
    uint32_t node_size;
    /* The node's bytes, copied. -ERANGE: there is no such node in the file. */
    int (*read)(BtreeSource *source, uint32_t node, uint8_t *out);
    /* Changes bytes of a node. NULL: the tree is read only. */
    int (*write)(BtreeSource *source, uint32_t node, uint32_t offset, const uint8_t *bytes,
                 uint32_t length, unsigned rank);
    /* A free node is taken: what it holds does not matter, it may be read as zeros from now on.
     * NULL: nothing to do. */
    int (*fresh)(BtreeSource *source, uint32_t node, unsigned rank);
    /* The lowest rank that these bytes can have: the highest they were written with, as long as
     * that may not be on the medium. NULL: 0. */
    unsigned (*rank)(BtreeSource *source, uint32_t node, uint32_t offset, uint32_t length);
    /* All nodes are used: makes the file longer by some; *ret_count is its new length in nodes.
     * -ENOSPC. NULL: it cannot grow. */
    int (*grow)(BtreeSource *source, uint32_t node_count, uint32_t *ret_count);
    /* Reports and returns -EUCLEAN. NULL: nobody wants to know. */
    int (*corrupt)(BtreeSource *source, const Corruption *corruption);
};

/* Where a change has put a record. */
typedef struct BtreePlace {
    uint32_t node; /* 0: nowhere */
    unsigned rank;
} BtreePlace;
#define BTREE_SOMEWHERE UINT32_MAX /* not in the node in question */

typedef struct BtreeNewest {
    uint32_t node;
    unsigned index;
} BtreeNewest;

typedef struct Btree {
    const BtreeFormat *format;
    BtreeSource *source;
    uint32_t *free_hint; /* where the search for a free node begins; may be NULL */
    BtreePlace put;      /* of the newest insert, replace or update */
    bool bare;           /* what is put refers to no data */
    BtreeNewest *newest; /* what was inserted last: the next may go on behind it; may be NULL */
    /* The record that a remove, replace or update takes away stays until what was put there is
     * on the medium. */
    BtreePlace after;
} Btree;

/* ---- nodes, in memory ---- */

typedef struct BtreeNode {
    uint32_t next, previous;
    uint8_t kind, height;
    uint16_t records;
} BtreeNode;

typedef struct BtreeHeader {
    uint16_t depth, node_size, max_key_length;
    uint32_t root, leaf_records, first_leaf, last_leaf, node_count, free_nodes;
} BtreeHeader;

typedef struct BtreeRecord {
    const uint8_t *key; /* from its length field on */
    unsigned key_size;  /* with length field and padding */
    const uint8_t *data;
    unsigned data_size; /* up to where the next record begins: may have a byte of padding */
} BtreeRecord;

/*
 * Is this a sound node? Kind, height, number of records, rising offsets inside the node, keys
 * inside their records and (index, leaf) ones that the format knows. Not looked at: order of keys,
 * links.
 */
int btree_node_check(const BtreeFormat *format, uint32_t node_size, uint32_t number,
                     const uint8_t *data, Corruption *ret);
void btree_node_decode(const uint8_t *data, BtreeNode *ret);
void btree_node_encode(const BtreeNode *node, uint8_t *data);
/* Offset of record `index`; index == records: of the free space. The node has been checked. */
unsigned btree_record_offset(uint32_t node_size, const uint8_t *data, unsigned index);
/* Of an index or leaf node that has been checked. */
void btree_record_get(const BtreeFormat *format, uint32_t node_size, const uint8_t *data,
                      unsigned index, BtreeRecord *ret);
/* A record of an index node: the child's number. */
uint32_t btree_record_child(const BtreeRecord *record);
/* Length of a key without, and space it takes in a leaf with length field and padding. */
unsigned btree_key_length(const BtreeFormat *format, const uint8_t *key);
unsigned btree_key_size(const BtreeFormat *format, const uint8_t *key);

void btree_header_decode(const uint8_t *data, BtreeHeader *ret); /* of node 0 */
void btree_header_encode(const BtreeHeader *header, uint8_t *data);
/* Sizes and numbers against each other and the format; count: nodes that the file has room for. */
int btree_header_check(const BtreeFormat *format, const BtreeHeader *header, uint32_t node_size,
                       uint64_t count, Corruption *ret);
/* Node 0 of an empty tree of node_count nodes with its map; the map beyond what fits there needs
 * map nodes: btree_create() writes those as well (in nodes 1 ...), over any writable source. */
int btree_create(const BtreeFormat *format, BtreeSource *source, uint32_t node_count);

/* ---- searching ---- */

/* Reads and checks the header. count: nodes that the file has room for. */
MAY_YIELD int btree_open(Btree *tree, const BtreeFormat *format, BtreeSource *source,
                         uint64_t count);
MAY_YIELD int btree_header_load(const Btree *tree, BtreeHeader *ret);

/* A place in the leaves, with a copy of its node. Zero-initialised is fine for done. */
typedef struct BtreeCursor {
    const Btree *tree;
    uint8_t *data;   /* the leaf */
    uint32_t number; /* 0: nowhere (empty tree) */
    BtreeNode node;
    int index;      /* -1: before the first record of the tree */
    uint32_t steps; /* leaves walked */
} BtreeCursor;
int btree_cursor_init(BtreeCursor *cursor, const Btree *tree);
void btree_cursor_done(BtreeCursor *cursor);
/* 0: at the key's record; 1: there is none, at the last record before it (index -1: none). */
MAY_YIELD int btree_seek(BtreeCursor *cursor, const uint8_t *key);
/* 0, or -ENOENT behind the last record. */
MAY_YIELD int btree_next(BtreeCursor *cursor);
void btree_get(const BtreeCursor *cursor, BtreeRecord *ret);
/* Copies up to capacity bytes of the record's data. Returns the data's size, -ENOENT. */
MAY_YIELD int btree_lookup(const Btree *tree, const uint8_t *key, void *out, unsigned capacity);

/* ---- changing ---- */

/* -EEXIST; -EFBIG: takes more than a third of a node. */
int btree_insert(Btree *tree, const uint8_t *key, const void *data, unsigned length);
int btree_remove(Btree *tree, const uint8_t *key); /* -ENOENT */
/* Another record in the place of one with an equal key. -ENOENT, -EFBIG. */
int btree_replace(Btree *tree, const uint8_t *key, const void *data, unsigned length);
/* Overwrites the first `length` bytes of a record's data; its size stays. -ENOENT, -EUCLEAN. */
int btree_update(Btree *tree, const uint8_t *key, const void *data, unsigned length);

#endif
