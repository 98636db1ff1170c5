/* SPDX-License-Identifier: MIT */
/*
 * Intrusive hash map of uint64 keys, and an intrusive doubly linked list.
 * Nodes are embedded in the caller's structures; the containers own nothing.
 * Duplicate keys are the caller's error (asserted).
 */
#ifndef BERTH_HASHMAP_H
#define BERTH_HASHMAP_H

#include "berth/base.h"

typedef struct ListNode {
    struct ListNode *prev, *next; /* both NULL: not in a list */
} ListNode;

typedef struct List {
    ListNode head; /* circular */
} List;

static inline void list_init(List *list) {
    list->head.prev = list->head.next = &list->head;
}
static inline bool list_empty(const List *list) {
    return list->head.next == &list->head;
}
static inline bool list_linked(const ListNode *node) {
    return node->next != NULL;
}
static inline void list_insert_before(ListNode *at, ListNode *node) {
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}
static inline void list_append(List *list, ListNode *node) {
    list_insert_before(&list->head, node);
}
static inline void list_prepend(List *list, ListNode *node) {
    list_insert_before(list->head.next, node);
}
static inline void list_remove(ListNode *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = node->next = NULL;
}
static inline ListNode *list_first(const List *list) {
    return list_empty(list) ? NULL : list->head.next;
}
static inline ListNode *list_last(const List *list) {
    return list_empty(list) ? NULL : list->head.prev;
}
/* The node after `node`, NULL at the end. */
static inline ListNode *list_next(const List *list, const ListNode *node) {
    return node->next == &list->head ? NULL : node->next;
}

typedef struct HashNode {
    struct HashNode *next;
    uint64_t key;
} HashNode;

typedef struct HashMap {
    HashNode **buckets; /* power of two, NULL while empty */
    size_t bucket_count;
    size_t count;
} HashMap;

void hashmap_init(HashMap *map);
/* The map must be empty or its nodes already disowned. */
void hashmap_done(HashMap *map);
/* 0 or -ENOMEM. */
int hashmap_enter(HashMap *map, HashNode *node, uint64_t key);
HashNode *hashmap_lookup(const HashMap *map, uint64_t key);
void hashmap_remove(HashMap *map, HashNode *node);
/* Calls fn for every node, in no order; fn may remove (and free) the node it is given. */
void hashmap_iterate(HashMap *map, void (*fn)(HashNode *node, void *arg), void *arg);

#endif
