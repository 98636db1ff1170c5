/* SPDX-License-Identifier: MIT */
/*
 * Nodes: lookup counts, attributes and names per file_id. See nodes.h for the
 * rules about EVICT and names. Locks: nodes->lock, a leaf.
 */
#include "nodes.h"

typedef struct Node {
    HashNode hash;    /* key: file_id */
    uint64_t lookups; /* above zero */
    uint32_t place;   /* in the keepsake */
    bool has_attr;
    FsAttr attr;
    uint64_t list_end; /* 0: not known */
    NameLists lists;
} Node;

static Node *node_find_locked(Nodes *nodes, uint64_t file_id) {
    HashNode *hash = hashmap_lookup(&nodes->map, file_id);

    return hash == NULL ? NULL : container_of(hash, Node, hash);
}

/* With the lock. Makes a node without lookups, at a place in the keepsake if it has one already. */
static int node_new(Nodes *nodes, uint64_t file_id, const uint32_t *place, Node **ret) {
    Node *node = calloc(1, sizeof(*node));
    int r = node == NULL ? -ENOMEM : hashmap_enter(&nodes->map, &node->hash, file_id);

    if (r == 0 && place != NULL) {
        node->place = *place;
    } else if (r == 0 && nodes->keepsake != NULL) {
        r = keepsake_node_take(nodes->keepsake, file_id, &node->place);
        if (r < 0) {
            hashmap_remove(&nodes->map, &node->hash);
        }
    }
    if (r < 0) {
        free(node);
        return r;
    }
    atomic_fetch_or(&nodes->id_bits, file_id);
    name_lists_init(&node->lists);
    *ret = node;
    return 0;
}

static void node_set_lookups(Nodes *nodes, Node *node, uint64_t lookups) {
    node->lookups = lookups;
    if (nodes->keepsake != NULL) {
        keepsake_node_set(nodes->keepsake, node->place, lookups);
    }
}

static void node_drop(HashNode *hash, void *arg) {
    Nodes *nodes = arg;
    Node *node = container_of(hash, Node, hash);

    names_drop_below(&nodes->names, &node->lists);
    names_drop_here(&nodes->names, &node->lists);
    hashmap_remove(&nodes->map, hash);
    free(node);
}

int nodes_adopt(Nodes *nodes) {
    const Keepsake *keepsake = nodes->keepsake;

    hashmap_iterate(&nodes->map, node_drop, nodes); /* their places were in another keepsake */
    for (uint32_t i = 0; i < keepsake->node_capacity; i++) {
        const KeepsakeNode *kept = &keepsake->nodes[i];
        Node *node;
        int r;

        /* One that was entered or dropped when its owner died may lack either number: counting
         * too much is harmless. */
        if (kept->file_id != 0 && node_find_locked(nodes, kept->file_id) == NULL) {
            r = node_new(nodes, kept->file_id, &i, &node);
            if (r < 0) {
                return r;
            }
            node_set_lookups(nodes, node, MAX(kept->lookups, UINT64_C(1)));
        }
    }
    return node_find_locked(nodes, FS_ROOT_ID) != NULL ? 0 : nodes_grant(nodes, FS_ROOT_ID);
}

int nodes_init(Nodes *nodes, Keepsake *keepsake) {
    memset(nodes, 0, sizeof(*nodes));
    pthread_mutex_init(&nodes->lock, NULL);
    hashmap_init(&nodes->map);
    names_init(&nodes->names);
    nodes->keepsake = keepsake;
    return nodes_grant(nodes, FS_ROOT_ID);
}

void nodes_done(Nodes *nodes) {
    hashmap_iterate(&nodes->map, node_drop, nodes);
    hashmap_done(&nodes->map);
    names_done(&nodes->names);
    pthread_mutex_destroy(&nodes->lock);
}

int nodes_grant(Nodes *nodes, uint64_t file_id) {
    Node *node;
    int r = 0;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, file_id);
    if (node == NULL) {
        r = node_new(nodes, file_id, NULL, &node);
    }
    if (r == 0) {
        node_set_lookups(nodes, node, node->lookups + 1);
    }
    pthread_mutex_unlock(&nodes->lock);
    return r;
}

void nodes_saw(Nodes *nodes, uint64_t number) {
    pthread_mutex_lock(&nodes->lock);
    nodes->seen = MAX(nodes->seen, number);
    pthread_mutex_unlock(&nodes->lock);
}

unsigned nodes_forget(Nodes *nodes, const NodeForget *forgets, unsigned count, uint64_t *ret_ids) {
    unsigned gone = 0;
    Node *node;

    pthread_mutex_lock(&nodes->lock);
    for (unsigned i = 0; i < count; i++) {
        node = node_find_locked(nodes, forgets[i].file_id);
        if (node == NULL || forgets[i].file_id == FS_ROOT_ID) {
            continue;
        }
        node_set_lookups(nodes, node, node->lookups - MIN(forgets[i].lookups, node->lookups));
        if (node->lookups == 0) {
            ret_ids[gone++] = forgets[i].file_id;
            node_drop(&node->hash, nodes);
        }
    }
    pthread_mutex_unlock(&nodes->lock);
    return gone;
}

unsigned nodes_keep_gone(Nodes *nodes, uint64_t *file_ids, unsigned count, uint64_t *ret_seen) {
    unsigned gone = 0;

    pthread_mutex_lock(&nodes->lock);
    for (unsigned i = 0; i < count; i++) {
        if (node_find_locked(nodes, file_ids[i]) == NULL) {
            file_ids[gone++] = file_ids[i];
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

void nodes_name_store(Nodes *nodes, uint64_t directory, const FsName *name, bool exact,
                      uint64_t file_id) {
    Node *above, *node;

    pthread_mutex_lock(&nodes->lock);
    above = node_find_locked(nodes, directory);
    node = node_find_locked(nodes, file_id);
    if (above != NULL && node != NULL) {
        names_store(&nodes->names, directory, &above->lists, file_id, &node->lists, name, exact);
    }
    pthread_mutex_unlock(&nodes->lock);
}

bool nodes_lookup(Nodes *nodes, uint64_t directory, const FsName *name, FsAttr *ret,
                  bool *ret_exact) {
    Node *node = NULL;
    uint64_t file_id;
    bool exact = false, found;

    pthread_mutex_lock(&nodes->lock);
    file_id = names_find(&nodes->names, directory, name, &exact);
    if (file_id != 0) {
        node = node_find_locked(nodes, file_id);
    }
    found = node != NULL && node->has_attr && node->attr.nlink > 0;
    if (found) {
        node_set_lookups(nodes, node, node->lookups + 1);
        nodes->answers++;
        *ret = node->attr;
        *ret_exact = exact;
    }
    pthread_mutex_unlock(&nodes->lock);
    return found;
}

void nodes_name_drop_of(Nodes *nodes, uint64_t file_id) {
    Node *node;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, file_id);
    if (node != NULL) {
        names_drop_here(&nodes->names, &node->lists);
    }
    pthread_mutex_unlock(&nodes->lock);
}

void nodes_name_drop_in(Nodes *nodes, uint64_t directory) {
    Node *node;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, directory);
    if (node != NULL) {
        names_drop_below(&nodes->names, &node->lists);
    }
    pthread_mutex_unlock(&nodes->lock);
}

void nodes_list_end_store(Nodes *nodes, uint64_t directory, uint64_t offset) {
    Node *node;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, directory);
    if (node != NULL) {
        node->list_end = offset;
    }
    pthread_mutex_unlock(&nodes->lock);
}

bool nodes_list_ended(Nodes *nodes, uint64_t directory, uint64_t offset) {
    Node *node;
    bool ended;

    pthread_mutex_lock(&nodes->lock);
    node = node_find_locked(nodes, directory);
    ended = node != NULL && offset != 0 && node->list_end == offset;
    nodes->answers += ended;
    pthread_mutex_unlock(&nodes->lock);
    return ended;
}

void nodes_list_end_drop(Nodes *nodes, uint64_t directory) {
    nodes_list_end_store(nodes, directory, 0);
}

NodesStats nodes_stats(Nodes *nodes) {
    NodesStats stats;

    pthread_mutex_lock(&nodes->lock);
    stats = (NodesStats){nodes->map.count, nodes->names.map.count, nodes->answers};
    pthread_mutex_unlock(&nodes->lock);
    return stats;
}
