/* SPDX-License-Identifier: MIT */
/*
 * Names: see names.h. Each is one allocation, in one hash chain and three lists.
 * No locks of its own.
 */
#include "names.h"

#include <stdlib.h>

typedef struct KnownName {
    HashNode hash;
    ListNode order, below, here;
    uint64_t directory, file_id;
    uint32_t length;
    bool exact;
    char text[];
} KnownName;

/* FNV-1a over both. That somebody can make names collide costs him his cache, nothing else. */
static uint64_t name_hash(uint64_t directory, const FsName *name) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (unsigned i = 0; i < sizeof(directory); i++) {
        hash = (hash ^ (directory >> (8 * i) & 0xff)) * UINT64_C(0x100000001b3);
    }
    for (uint32_t i = 0; i < name->length; i++) {
        hash = (hash ^ (unsigned char)name->text[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

void names_init(Names *names) {
    hashmap_init(&names->map);
    list_init(&names->order);
}

void names_done(Names *names) {
    hashmap_done(&names->map);
}

void name_lists_init(NameLists *lists) {
    list_init(&lists->below);
    list_init(&lists->here);
}

static void name_drop(Names *names, KnownName *known) {
    hashmap_remove(&names->map, &known->hash);
    list_remove(&known->order);
    list_remove(&known->below);
    list_remove(&known->here);
    free(known);
}

void names_store(Names *names, uint64_t directory, NameLists *directory_lists, uint64_t file_id,
                 NameLists *file_lists, const FsName *name, bool exact) {
    uint64_t hash = name_hash(directory, name);
    HashNode *same = hashmap_lookup(&names->map, hash);
    KnownName *known;

    if (same != NULL) {
        name_drop(names, container_of(same, KnownName, hash));
    } else if (names->map.count >= NAMES_MAX) {
        name_drop(names, container_of(list_first(&names->order), KnownName, order));
    }
    known = malloc(sizeof(*known) + name->length);
    if (known == NULL) {
        return;
    }
    known->directory = directory;
    known->file_id = file_id;
    known->length = name->length;
    known->exact = exact;
    memcpy(known->text, name->text, name->length);
    if (hashmap_enter(&names->map, &known->hash, hash) < 0) {
        free(known);
        return;
    }
    list_append(&names->order, &known->order);
    list_append(&directory_lists->below, &known->below);
    list_append(&file_lists->here, &known->here);
}

uint64_t names_find(Names *names, uint64_t directory, const FsName *name, bool *ret_exact) {
    HashNode *hash = hashmap_lookup(&names->map, name_hash(directory, name));
    KnownName *known = hash == NULL ? NULL : container_of(hash, KnownName, hash);

    if (known == NULL || known->directory != directory || known->length != name->length ||
        memcmp(known->text, name->text, name->length) != 0) {
        return 0;
    }
    list_remove(&known->order);
    list_append(&names->order, &known->order);
    *ret_exact = known->exact;
    return known->file_id;
}

void names_drop_below(Names *names, NameLists *lists) {
    while (!list_empty(&lists->below)) {
        name_drop(names, container_of(list_first(&lists->below), KnownName, below));
    }
}

void names_drop_here(Names *names, NameLists *lists) {
    while (!list_empty(&lists->here)) {
        name_drop(names, container_of(list_first(&lists->here), KnownName, here));
    }
}
