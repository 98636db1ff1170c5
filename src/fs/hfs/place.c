/* SPDX-License-Identifier: MIT */
/*
 * Where objects were last seen. A file's CNID does not tell where its record is (only
 * directories, and few files, have thread records), so every key that is given out is remembered
 * here. What is found must be checked against the record. And ghosts: where entries were that went
 * away, for listings that want to go on behind them.
 *
 * Both may forget. No lock: nothing here suspends.
 */
#include "types.h"

static HfsPlace *place_lookup(HfsVolume *volume, uint32_t cnid) {
    HashNode *node = hashmap_lookup(&volume->places.map, cnid);

    return node != NULL ? container_of(node, HfsPlace, node) : NULL;
}

static void place_free(HashNode *node, void *arg) {
    HfsPlaces *places = arg;

    hashmap_remove(&places->map, node);
    free(container_of(node, HfsPlace, node));
}

int hfs_places_init(HfsVolume *volume) {
    hashmap_init(&volume->places.map);
    volume->places.ghosts = calloc(HFS_GHOSTS, sizeof(*volume->places.ghosts));
    return volume->places.ghosts == NULL ? -ENOMEM : 0;
}

void hfs_places_done(HfsVolume *volume) {
    hashmap_iterate(&volume->places.map, place_free, &volume->places);
    hashmap_done(&volume->places.map);
    free(volume->places.ghosts);
    volume->places.ghosts = NULL;
}

static void forgot(HfsPlaces *places) {
    places->complete = false;
    places->forgotten++;
}

void hfs_place_note(HfsVolume *volume, uint32_t cnid, const HfsKey *key) {
    HfsPlaces *places = &volume->places;
    HfsPlace *place = place_lookup(volume, cnid);

    if (place == NULL) {
        if (places->map.count >= HFS_PLACES_MAX) {
            hashmap_iterate(&places->map, place_free, places);
            forgot(places);
        }
        place = malloc(sizeof(*place));
        if (place == NULL || hashmap_enter(&places->map, &place->node, cnid) < 0) {
            free(place);
            forgot(places);
            return;
        }
    }
    place->key = *key;
    places->highest = MAX(places->highest, cnid);
}

const HfsKey *hfs_place_find(HfsVolume *volume, uint32_t cnid) {
    const HfsPlace *place = place_lookup(volume, cnid);

    return place != NULL ? &place->key : NULL;
}

void hfs_place_forget(HfsVolume *volume, uint32_t cnid) {
    HfsPlace *place = place_lookup(volume, cnid);

    if (place != NULL) {
        place_free(&place->node, &volume->places);
    }
}

void hfs_place_left(HfsVolume *volume, uint32_t cnid, const HfsKey *key) {
    HfsPlaces *places = &volume->places;

    places->ghosts[places->next_ghost] = (HfsGhost){cnid, *key};
    places->next_ghost = (places->next_ghost + 1) % HFS_GHOSTS;
    hfs_place_forget(volume, cnid);
}

const HfsKey *hfs_place_ghost(HfsVolume *volume, uint32_t directory, uint32_t cnid) {
    const HfsPlaces *places = &volume->places;

    /* The latest first: one name may have been left several times. */
    for (unsigned i = 1; i <= HFS_GHOSTS; i++) {
        unsigned at = (places->next_ghost + HFS_GHOSTS - i) % HFS_GHOSTS;

        if (places->ghosts[at].cnid == cnid && places->ghosts[at].key.parent == directory) {
            return &places->ghosts[at].key;
        }
    }
    return NULL;
}
