/* SPDX-License-Identifier: MIT */
/*
 * The intrusive hash map: chained buckets, doubled when there are as many
 * nodes as buckets, never shrunk. The caller locks.
 *
 * Keys often come from a peer or an image, so the hash is keyed with bytes
 * that differ for each process (AT_RANDOM, which needs no system call and so
 * works inside a sandbox): nobody can choose keys that share a bucket.
 */
#include "berth/hashmap.h"

#include <assert.h>
#include <sys/auxv.h>

#define HASHMAP_FIRST_BUCKETS 16

static uint64_t hashmap_seed(void) {
    static uint64_t seed; /* every thread would store the same value */
    uint64_t value = __atomic_load_n(&seed, __ATOMIC_RELAXED);

    if (value == 0) {
        const void *random = (const void *)getauxval(AT_RANDOM);

        if (random != NULL) {
            memcpy(&value, random, sizeof(value));
        }
        value |= 1;
        __atomic_store_n(&seed, value, __ATOMIC_RELAXED);
    }
    return value;
}

static size_t hashmap_slot(const HashMap *map, uint64_t key) {
    uint64_t hash = key ^ hashmap_seed();

    hash = (hash ^ (hash >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    hash = (hash ^ (hash >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    return (size_t)(hash ^ (hash >> 32)) & (map->bucket_count - 1);
}

void hashmap_init(HashMap *map) {
    *map = (HashMap){0};
}

void hashmap_done(HashMap *map) {
    free(map->buckets);
    *map = (HashMap){0};
}

static int hashmap_grow(HashMap *map) {
    size_t old_count = map->bucket_count;
    HashNode **old = map->buckets;
    size_t new_count = old_count == 0 ? HASHMAP_FIRST_BUCKETS : old_count * 2;
    HashNode **buckets = calloc(new_count, sizeof(HashNode *));

    if (buckets == NULL) {
        return -ENOMEM;
    }
    map->buckets = buckets;
    map->bucket_count = new_count;
    for (size_t i = 0; i < old_count; i++) {
        HashNode *node = old[i];

        while (node != NULL) {
            HashNode *next = node->next;
            size_t slot = hashmap_slot(map, node->key);

            node->next = buckets[slot];
            buckets[slot] = node;
            node = next;
        }
    }
    free(old);
    return 0;
}

int hashmap_enter(HashMap *map, HashNode *node, uint64_t key) {
    size_t slot;

    /* Long chains are better than a failure: only the very first growth must succeed. */
    if (map->count >= map->bucket_count && hashmap_grow(map) < 0 && map->buckets == NULL) {
        return -ENOMEM;
    }
    assert(hashmap_lookup(map, key) == NULL);
    slot = hashmap_slot(map, key);
    node->key = key;
    node->next = map->buckets[slot];
    map->buckets[slot] = node;
    map->count++;
    return 0;
}

HashNode *hashmap_lookup(const HashMap *map, uint64_t key) {
    HashNode *node;

    if (map->buckets == NULL) {
        return NULL;
    }
    for (node = map->buckets[hashmap_slot(map, key)]; node != NULL; node = node->next) {
        if (node->key == key) {
            return node;
        }
    }
    return NULL;
}

void hashmap_remove(HashMap *map, HashNode *node) {
    HashNode **link;

    assert(map->buckets != NULL);
    link = &map->buckets[hashmap_slot(map, node->key)];
    while (*link != node) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = node->next;
    node->next = NULL;
    map->count--;
}

void hashmap_iterate(HashMap *map, void (*fn)(HashNode *node, void *arg), void *arg) {
    for (size_t i = 0; i < map->bucket_count; i++) {
        HashNode *node = map->buckets[i];

        while (node != NULL) {
            HashNode *next = node->next; /* fn may free the node */

            fn(node, arg);
            node = next;
        }
    }
}
