/* SPDX-License-Identifier: MIT */
/* What the files of the B*-tree offer each other; the public face is btree.h. */
#ifndef HFS_BTREE_IMPL_H
#define HFS_BTREE_IMPL_H

#include "btree.h"

/* Reports; -EUCLEAN. */
int btree_corrupt(const Btree *tree, const Corruption *corruption);
/* Read and checked. */
MAY_YIELD int btree_node_load(const Btree *tree, uint32_t number, uint8_t *out);
/* The same for an index or leaf node, which must have that height and not be empty. */
MAY_YIELD int btree_child_load(const Btree *tree, uint32_t number, unsigned height, uint8_t *out,
                               BtreeNode *ret);
/* The record with the key, or the last one before it; -1: all are above. */
int btree_node_search(const Btree *tree, const uint8_t *data, unsigned records, const uint8_t *key,
                      bool *ret_exact);

/* ---- building nodes ---- */

/* Bytes of a map node's record. */
#define BTREE_MAP_RECORD(node_size) ((node_size)-20u)
void btree_node_init(const BtreeNode *node, uint32_t node_size, uint8_t *data); /* zeroed */
void btree_node_set_offset(uint32_t node_size, uint8_t *data, unsigned index, unsigned offset);
#define BTREE_RANK_PLAIN 1u /* of what needs no order */
/* The lowest rank that bytes can have; that a node can have which should have at least `least`. */
unsigned btree_bytes_rank(const Btree *tree, uint32_t node, uint32_t offset, uint32_t length);
unsigned btree_node_rank(const Btree *tree, uint32_t number, unsigned least);
/* Writes what differs from what the source has; rank: at least. */
int btree_node_store(const Btree *tree, uint32_t number, const uint8_t *data, unsigned rank);
int btree_header_store(const Btree *tree, const BtreeHeader *header);

/* ---- btree_map.c; data: room for one node ---- */

/* Takes a free node, or has the file grow; the header's counts follow. *ret_rank: what the node is
 * to be written with, at least `rank`; it counts as used then. -ENOSPC. */
int btree_node_alloc(Btree *tree, BtreeHeader *header, uint8_t *data, uint32_t *ret, unsigned rank,
                     unsigned *ret_rank);
int btree_node_free(Btree *tree, BtreeHeader *header, uint8_t *data, uint32_t number,
                    unsigned rank);

#endif
