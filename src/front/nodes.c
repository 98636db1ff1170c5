/* SPDX-License-Identifier: MIT */
/*
 * Nodes: lookup counts and attributes per file_id. See nodes.h for the rule
 * about EVICT. Locks: nodes->lock, a leaf.
 */
#include "nodes.h"

typedef struct Node {
    HashNode hash; /* key: file_id */
    uint64_t lookups;
    bool has_attr;
    FsAttr attr;
} Node;

static Node *node_find_locked(Nodes *nodes, uint64_t file_id) {
    HashNode *hash = hashmap_lookup(&nodes->map, file_id);

    return hash == NULL ? NULL : container_of(hash, Node, hash);
}

int nodes_init(Nodes *nodes) {
    memset(nodes, 0, sizeof(*nodes));
    pthread_mutex_init(&nodes->lock, NULL);
    hashmap_init(&nodes->map);
    return nodes_grant(nodes, FS_ROOT_ID);
}

static void node_drop(HashNode *hash, void *arg) {
    Nodes *nodes = arg;
    Node *node = container_of(hash, Node, hash);

    hashmap_remove(&nodes->map, hash);
    free(node);
}

void nodes_done(Nodes *nodes) {
    hashmap_iterate(&nodes->map, node_drop, nodes);
    hashmap_done(&nodes->map);
    pthread_mutex_destroy(&nodes->lock);
}

int nodes_grant(Nodes *nodes, uint64_t file_id) {
    Node *node;
    int r = 0;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, file_id);
    if (node != NULL) {
        node->lookups++;
    } else {
        node = calloc(1, sizeof(*node));
        r = node == NULL ? -ENOMEM : hashmap_enter(&nodes->map, &node->hash, file_id);
        if (r < 0) {
            free(node);
        } else {
            node->lookups = 1;
        }
    }
    pthread_mutex_unlock(&nodes->lock);
    return r;
}

void nodes_saw(Nodes *nodes, uint64_t number) {
    pthread_mutex_lock(&nodes->lock);
    nodes->seen = MAX(nodes->seen, number);
    pthread_mutex_unlock(&nodes->lock);
}

unsigned nodes_forget(Nodes *nodes, const NodeForget *forgets, unsigned count, uint64_t *ret_ids,
                      uint64_t *ret_seen) {
    unsigned gone = 0;
    Node *node;

    pthread_mutex_lock(&nodes->lock);
    for (unsigned i = 0; i < count; i++) {
        node = node_find_locked(nodes, forgets[i].file_id);
        if (node == NULL || forgets[i].file_id == FS_ROOT_ID) {
            continue;
        }
        node->lookups -= MIN(forgets[i].lookups, node->lookups);
        if (node->lookups == 0) {
            ret_ids[gone++] = forgets[i].file_id;
            hashmap_remove(&nodes->map, &node->hash);
            free(node);
        }
    }
    *ret_seen = nodes->seen;
    pthread_mutex_unlock(&nodes->lock);
    return gone;
}

uint64_t nodes_count(Nodes *nodes) {
    uint64_t count;

    pthread_mutex_lock(&nodes->lock);
    count = nodes->map.count;
    pthread_mutex_unlock(&nodes->lock);
    return count;
}

void nodes_attr_store(Nodes *nodes, const FsAttr *attr) {
    Node *node;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, attr->file_id);
    if (node != NULL) {
        node->attr = *attr;
        node->has_attr = true;
    }
    pthread_mutex_unlock(&nodes->lock);
}

void nodes_attr_drop(Nodes *nodes, uint64_t file_id) {
    Node *node;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, file_id);
    if (node != NULL) {
        node->has_attr = false;
    }
    pthread_mutex_unlock(&nodes->lock);
}

bool nodes_attr_get(Nodes *nodes, uint64_t file_id, FsAttr *ret) {
    Node *node;
    bool found;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, file_id);
    found = node != NULL && node->has_attr;
    if (found) {
        *ret = node->attr;
    }
    pthread_mutex_unlock(&nodes->lock);
    return found;
}
