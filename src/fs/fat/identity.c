/* SPDX-License-Identifier: MIT */
/*
 * File ids. A plain file's id is the position of its short entry (in units of
 * 32 bytes), so millions of them cost no table. Objects exist for exceptions
 * only, and until the id is let go of: ALIAS for an entry that was moved, or
 * that squats on a position whose natural id another object still holds (it
 * then has a fresh id with bit 63), ORPHAN for data without an entry, which is in
 * the object instead. RECLAIM lists chains that are being freed in steps. The root has
 * no entry either: an ALIAS object of another length keeps its times.
 *
 * The maps here mirror the committed objects of the cache, by id and by position.
 * They change inside transaction bodies together with the object; hooks undo
 * the change on abort. A predecessor's objects come from shared memory: what makes no
 * sense there costs the volume its right to be written.
 */
#include "types.h"

typedef struct AliasBlob {
    le64 position;
} AliasBlob;

static FatIdentity *find_id(FatVolume *volume, uint64_t id) {
    HashNode *node = hashmap_lookup(&volume->identities.by_id, id);

    return node == NULL ? NULL : container_of(node, FatIdentity, by_id);
}

static FatIdentity *find_position(FatVolume *volume, uint64_t position) {
    HashNode *node = hashmap_lookup(&volume->identities.by_position, position);

    return node == NULL ? NULL : container_of(node, FatIdentity, by_position);
}

static int identity_enter(FatVolume *volume, FatIdentity *identity) {
    int r = hashmap_enter(&volume->identities.by_id, &identity->by_id, identity->id);

    if (r == 0 && identity->position != 0) {
        r = hashmap_enter(&volume->identities.by_position, &identity->by_position,
                          identity->position);
        if (r < 0) {
            hashmap_remove(&volume->identities.by_id, &identity->by_id);
        }
    }
    return r;
}

static void identity_remove(FatVolume *volume, FatIdentity *identity) {
    hashmap_remove(&volume->identities.by_id, &identity->by_id);
    if (identity->position != 0) {
        hashmap_remove(&volume->identities.by_position, &identity->by_position);
    }
}

/* ---- loading and dropping ---- */

static int load_identity(FatVolume *volume, uint64_t file_id, uint64_t position) {
    FatIdentity *identity;
    int r;

    if (find_id(volume, file_id) != NULL ||
        (position != 0 && find_position(volume, position) != NULL)) {
        return -EPROTO;
    }
    identity = calloc(1, sizeof(*identity));
    if (identity == NULL) {
        return -ENOMEM;
    }
    identity->id = file_id;
    identity->position = position;
    r = identity_enter(volume, identity);
    if (r < 0) {
        free(identity);
    }
    return r;
}

static int load_inherited(FatIdentities *identities, uint64_t file_id) {
    if (identities->inherited_count == identities->inherited_room) {
        uint32_t room = MAX(16u, identities->inherited_room * 2);
        uint64_t *larger = realloc(identities->inherited, room * sizeof(*larger));

        if (larger == NULL) {
            return -ENOMEM;
        }
        identities->inherited = larger;
        identities->inherited_room = room;
    }
    identities->inherited[identities->inherited_count++] = file_id;
    return 0;
}

/* -EPROTO: not one of ours. */
static int load_object(FatVolume *volume, uint64_t file_id, TxnObjectKind kind, const void *blob,
                       uint32_t length) {
    FatIdentities *identities = &volume->identities;
    uint64_t fresh = file_id & ~FAT_ID_FRESH;
    AliasBlob alias;

    if (file_id == FS_ROOT_ID) {
        return kind == FAT_OBJECT_ROOT && length == sizeof(FatDiskEntry) ? 0 : -EPROTO;
    }
    if (file_id == 0 || fresh >= FAT_ID_UNSETTLED) {
        return -EPROTO;
    }
    if (file_id & FAT_ID_FRESH) {
        identities->next_fresh = MAX(identities->next_fresh, fresh + 1);
    }
    if (kind == TXN_OBJECT_ALIAS && length == sizeof(alias)) {
        memcpy(&alias, blob, sizeof(alias));
        return le64_get(alias.position) != 0
                   ? load_identity(volume, file_id, le64_get(alias.position))
                   : -EPROTO;
    }
    if (kind == TXN_OBJECT_ALIAS || length != sizeof(FatDiskEntry)) {
        return -EPROTO;
    }
    return kind == TXN_OBJECT_ORPHAN ? load_identity(volume, file_id, 0)
                                     : load_inherited(identities, file_id);
}

static int load_next_object(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                            uint32_t length) {
    FatVolume *volume = arg;
    int r = load_object(volume, file_id, kind, blob, length);

    if (r == -EPROTO) {
        log_error("fat: the survivor %#llx of kind %d makes no sense", (unsigned long long)file_id,
                  (int)kind);
        fat_refuse_writes(volume, "the memory of the last daemon is damaged");
        r = 0;
    }
    return r;
}

int fat_identities_load(FatVolume *volume) {
    hashmap_init(&volume->identities.by_id);
    hashmap_init(&volume->identities.by_position);
    volume->identities.next_fresh = 1;
    return cache_object_iterate(volume->base.cache, load_next_object, volume);
}

static void drop_identity(HashNode *node, void *arg) {
    FatVolume *volume = arg;
    FatIdentity *identity = container_of(node, FatIdentity, by_id);

    identity_remove(volume, identity);
    free(identity);
}

void fat_identities_done(FatVolume *volume) {
    hashmap_iterate(&volume->identities.by_id, drop_identity, volume);
    hashmap_done(&volume->identities.by_id);
    hashmap_done(&volume->identities.by_position);
    free(volume->identities.inherited);
    volume->identities.inherited = NULL;
}

/* ---- asking ---- */

const FatIdentity *fat_identity_find(FatVolume *volume, uint64_t id) {
    return find_id(volume, id);
}

uint64_t fat_identity_fresh(FatVolume *volume) {
    return FAT_ID_FRESH | volume->identities.next_fresh++;
}

bool fat_identity_at(FatVolume *volume, uint64_t position, uint64_t *ret_id) {
    const FatIdentity *identity = find_position(volume, position);
    uint64_t natural = fat_id_natural(position);

    if (identity != NULL) {
        *ret_id = identity->id;
        return true;
    }
    if (find_id(volume, natural) != NULL) {
        return false;
    }
    *ret_id = natural;
    return true;
}

/* ---- changing, in bodies ---- */

typedef struct IdentityChange {
    FatVolume *volume;
    FatIdentity *old, *new; /* either may be NULL */
} IdentityChange;

static void change_committed(void *arg) {
    IdentityChange *change = arg;

    free(change->old);
    free(change);
}

static void change_aborted(void *arg) {
    IdentityChange *change = arg;

    if (change->new != NULL) {
        identity_remove(change->volume, change->new);
        free(change->new);
    }
    if (change->old != NULL) {
        /* The maps were as large before: entering it again needs no memory. */
        int r = identity_enter(change->volume, change->old);
        assert(r == 0);
        (void)r;
    }
    free(change);
}

/* Replaces what is known of id. has: it stays an exception, at position (0: orphan). */
static int change_identity(Txn *txn, FatVolume *volume, uint64_t id, bool has, uint64_t position) {
    IdentityChange *change = calloc(1, sizeof(*change));
    FatIdentity *new = has ? calloc(1, sizeof(*new)) : NULL;
    int r = 0;

    if (change == NULL || (has && new == NULL)) {
        free(change);
        free(new);
        return -ENOMEM;
    }
    *change = (IdentityChange){.volume = volume, .old = find_id(volume, id)};
    if (change->old != NULL) {
        identity_remove(volume, change->old);
    }
    if (has) {
        new->id = id;
        new->position = position;
        r = identity_enter(volume, new);
        if (r == 0) {
            change->new = new;
        } else {
            free(new);
        }
    }
    if (r == 0) {
        r = txn_on_commit(txn, change_committed, change);
    }
    if (r < 0) {
        change_aborted(change);
        return r;
    }
    r = txn_on_abort(txn, change_aborted, change);
    if (r < 0) {
        /* The commit hook is dropped by the abort that follows. */
        change_aborted(change);
    }
    return r;
}

/* Takes away the object that stands for id now. */
static int remove_object(Txn *txn, FatVolume *volume, uint64_t id) {
    const FatIdentity *identity = find_id(volume, id);

    if (identity == NULL) {
        return 0;
    }
    return txn_object_remove(txn, id,
                             identity->position != 0 ? TXN_OBJECT_ALIAS : TXN_OBJECT_ORPHAN);
}

int fat_identity_move(Txn *txn, FatVolume *volume, uint64_t id, uint64_t position) {
    AliasBlob blob = {.position = le64_make(position)};
    const FatIdentity *identity = find_id(volume, id);
    int r;

    if (fat_id_natural(position) == id) {
        return fat_identity_forget(txn, volume, id);
    }
    if (identity != NULL && identity->position == 0) {
        r = remove_object(txn, volume, id);
        if (r < 0) {
            return r;
        }
    }
    r = txn_object_put(txn, id, TXN_OBJECT_ALIAS, &blob, sizeof(blob));
    return r < 0 ? r : change_identity(txn, volume, id, true, position);
}

int fat_object_put(Txn *txn, uint64_t id, TxnObjectKind kind, const FatDiskEntry *entry) {
    return txn_object_put(txn, id, kind, entry, sizeof(*entry));
}

int fat_reclaim_put(Txn *txn, FatVolume *volume, uint64_t id, TxnObjectKind kind, uint32_t first) {
    FatDiskEntry entry = {0};

    fat_entry_set_cluster(&volume->geo, &entry, first);
    return fat_object_put(txn, id, kind, &entry);
}

int fat_identity_orphan(Txn *txn, FatVolume *volume, uint64_t id, const FatDiskEntry *entry) {
    int r = remove_object(txn, volume, id);

    if (r == 0) {
        r = fat_object_put(txn, id, TXN_OBJECT_ORPHAN, entry);
    }
    return r < 0 ? r : change_identity(txn, volume, id, true, 0);
}

int fat_identity_forget(Txn *txn, FatVolume *volume, uint64_t id) {
    int r;

    if (find_id(volume, id) == NULL) {
        return 0;
    }
    r = remove_object(txn, volume, id);
    return r < 0 ? r : change_identity(txn, volume, id, false, 0);
}

/* ---- settling a conflict at lookup ---- */

typedef struct Settle {
    FatVolume *volume;
    uint64_t id, position;
} Settle;

static int settle_body(Txn *txn, void *arg) {
    Settle *settle = arg;

    if (fat_identity_at(settle->volume, settle->position, &settle->id)) {
        return 0; /* somebody else was faster */
    }
    settle->id = fat_identity_fresh(settle->volume);
    return fat_identity_move(txn, settle->volume, settle->id, settle->position);
}

int fat_identity_settle(FatVolume *volume, uint64_t position, uint64_t *ret_id) {
    Settle settle = {.volume = volume, .position = position};
    int r;

    if (fat_identity_at(volume, position, ret_id)) {
        return 0;
    }
    r = txn_run(volume->base.cache, NULL, settle_body, &settle);
    if (r == 0) {
        *ret_id = settle.id;
    }
    return r;
}

/* ---- data without an entry ---- */

int fat_object_get(FatVolume *volume, uint64_t id, TxnObjectKind kind, FatDiskEntry *ret) {
    FatDiskEntry entry;
    int r = cache_object_get(volume->base.cache, id, kind, &entry, sizeof(entry));

    if (r < 0) {
        return r;
    }
    if (r != sizeof(entry)) {
        return -ENOENT;
    }
    *ret = entry;
    return 0;
}

typedef struct NextOrphan {
    uint64_t id;
    TxnObjectKind kind;
} NextOrphan;

static int take_orphan(void *arg, uint64_t file_id, TxnObjectKind kind, const void *blob,
                       uint32_t length) {
    NextOrphan *next = arg;

    (void)blob;
    if (kind == TXN_OBJECT_ALIAS || length != sizeof(FatDiskEntry)) {
        return 0;
    }
    *next = (NextOrphan){file_id, kind};
    return 1;
}

bool fat_orphans_exist(FatVolume *volume) {
    NextOrphan next;

    return cache_object_iterate(volume->base.cache, take_orphan, &next) != 0;
}

/* Frees the chain of an object, and the object with it. */
MAY_YIELD static int finish_object(FatVolume *volume, uint64_t id, TxnObjectKind kind) {
    FatDiskEntry disk;
    FatEntry entry;
    FatChain chain;
    int r = fat_object_get(volume, id, kind, &disk);

    if (r < 0) {
        return r;
    }
    fat_entry_decode(&volume->geo, &disk, &entry);
    fat_chain_init(&chain, entry.first_cluster);
    r = fat_chain_reclaim(volume, &chain, id, kind);
    fat_chain_done(&chain);
    return r == -EUCLEAN ? 0 : r; /* it was reported, and the object is gone */
}

int fat_orphans_finish(FatVolume *volume) {
    for (;;) {
        NextOrphan next = {0};
        int r = cache_object_iterate(volume->base.cache, take_orphan, &next);

        if (r > 0) {
            r = finish_object(volume, next.id, next.kind);
        } else {
            return r;
        }
        if (r < 0) {
            return r;
        }
    }
}

int fat_recovered(FileSystem *fs) {
    FatVolume *volume = fat_volume(fs);
    FatIdentities *identities = &volume->identities;
    int r = 0;

    while (r == 0 && identities->inherited_count > 0) {
        r = finish_object(volume, identities->inherited[--identities->inherited_count],
                          TXN_OBJECT_RECLAIM);
    }
    return r;
}
