/* SPDX-License-Identifier: MIT */
/*
 * The inode table of one mount: file_id to FsInode.
 *
 * An inode is in core while it is referenced (`refs`), and a while longer. It
 * enters unloaded; whoever entered it loads it, and others that want the same id
 * wait for that one load. Unreferenced inodes wait in `lru`, oldest first, for
 * being wanted again; a load evicts the oldest when there are too many. A dead
 * inode (nlink 0) that neither side holds goes to `dying` instead and is evicted
 * at once, which reclaims its space. `evicting` inodes stay in the map until the
 * filesystem is done with them, so that nobody loads an id that is being freed.
 *
 * Grants (man berth-recovery.7, F3): `granted` is the number of the last
 * response that gave the other side this id. EVICT carries the highest number
 * it had seen; a later grant wins over it. What is loaded counts as granted by
 * the latest grant of all, since an earlier life of it in core may have been.
 *
 * Invariants: refs == 0 <=> in lru or dying (or being evicted); in dying =>
 * evicting; a held inode with an object of its own (ALIAS, ORPHAN) never leaves
 * the core. No lock of its own: nothing here suspends between look and change.
 */
#include "inode.h"
#include "berth/log.h"
#include <assert.h>

struct FsInodeTable {
    HashMap map;
    List lru, dying;
    size_t lru_count;
    unsigned evictions;      /* being evicted or waiting in dying */
    uint64_t eviction_steps; /* evictions begun and ended, ever */
    bool reaping;            /* a fiber works on dying */
    bool resuming;           /* fs_resume() is under way */
    uint64_t last_grant;     /* number of the last response that granted anything */
    FiberQueue changed;      /* woken after each load and each eviction */
};

int fs_inodes_new(FileSystem *fs) {
    struct FsInodeTable *table = calloc(1, sizeof(*table));

    if (table == NULL) {
        return -ENOMEM;
    }
    hashmap_init(&table->map);
    list_init(&table->lru);
    list_init(&table->dying);
    fiber_queue_init(&table->changed);
    fs->inodes = table;
    return 0;
}

void fs_inodes_free(FileSystem *fs) {
    struct FsInodeTable *table = fs->inodes;

    if (table == NULL) {
        return;
    }
    assert(table->map.count == 0 && table->evictions == 0);
    hashmap_done(&table->map);
    free(table);
    fs->inodes = NULL;
}

size_t fs_inode_count(const FileSystem *fs) {
    return fs->inodes->map.count;
}

static FsInode *table_find(const struct FsInodeTable *table, uint64_t file_id) {
    HashNode *node = hashmap_lookup(&table->map, file_id);

    return node != NULL ? container_of(node, FsInode, node) : NULL;
}

/* Is there something beside the natural place that tells what the id is? */
static bool inode_has_object(const FileSystem *fs, uint64_t file_id) {
    uint8_t blob[TXN_OBJECT_BLOB_MAX];

    return fs->cache != NULL &&
           (cache_object_get(fs->cache, file_id, TXN_OBJECT_ALIAS, blob, sizeof(blob)) >= 0 ||
            cache_object_get(fs->cache, file_id, TXN_OBJECT_ORPHAN, blob, sizeof(blob)) >= 0);
}

static void inode_ref(FsInode *inode) {
    if (inode->refs++ == 0) {
        list_remove(&inode->lru);
        inode->fs->inodes->lru_count--;
    }
}

/* A new, referenced, unloaded inode in the map. */
static int inode_enter(FileSystem *fs, uint64_t file_id, FsInode **ret) {
    FsInode *inode = calloc(1, fs->type->inode_size);
    int r;

    if (inode == NULL) {
        return -ENOMEM;
    }
    inode->fs = fs;
    inode->file_id = file_id;
    inode->refs = 1;
    inode->granted = fs->inodes->last_grant;
    fiber_rwlock_init(&inode->lock);
    fs_range_init(&inode->ranges);
    r = hashmap_enter(&fs->inodes->map, &inode->node, file_id);
    if (r < 0) {
        free(inode);
        return r;
    }
    *ret = inode;
    return 0;
}

/* Of an inode that is marked `evicting` and in no list. */
MAY_YIELD static int inode_evict(FsInode *inode) {
    FileSystem *fs = inode->fs;
    struct FsInodeTable *table = fs->inodes;
    int r = 0;

    assert(inode->evicting && inode->refs == 0 && inode->append == NULL);
    fiber_rwlock_write(&inode->lock);
    if (fs->type->ops->inode_evict != NULL) {
        r = fs->type->ops->inode_evict(inode);
    }
    fiber_rwlock_unlock(&inode->lock);
    if (r < 0) {
        log_warning("%s: cannot evict file %#llx: %s", fs->type->name,
                    (unsigned long long)inode->file_id, strerror(-r));
    }
    hashmap_remove(&table->map, &inode->node);
    table->evictions--;
    table->eviction_steps++;
    free(inode);
    fiber_queue_wake_all(&table->changed);
    return r;
}

/* Takes an unreferenced inode that is in no list out of everybody's reach. */
static void inode_condemn(FsInode *inode) {
    inode->evicting = true;
    inode->fs->inodes->evictions++;
    inode->fs->inodes->eviction_steps++;
    list_append(&inode->fs->inodes->dying, &inode->lru);
}

MAY_YIELD static int table_reap(struct FsInodeTable *table) {
    int first_error = 0;
    ListNode *node;

    while ((node = list_first(&table->dying)) != NULL) {
        int r;

        list_remove(node);
        r = inode_evict(container_of(node, FsInode, lru));
        if (first_error == 0) {
            first_error = r;
        }
    }
    return first_error;
}

static void reap_fiber(void *arg) {
    struct FsInodeTable *table = arg;

    (void)table_reap(table);
    table->reaping = false;
    fiber_queue_wake_all(&table->changed);
}

/* Gets the condemned evicted without making the caller wait where that can be. */
static void table_start_reaping(FileSystem *fs) {
    struct FsInodeTable *table = fs->inodes;

    if (table->reaping || list_empty(&table->dying)) {
        return;
    }
    if (fs->loop == NULL) {
        (void)table_reap(table);
        return;
    }
    /* When there is no fiber to be had, the next put, fs_reclaim() or unmount does it. */
    table->reaping = fiber_spawn(reap_fiber, table, "reap") != NULL;
}

/* Makes room for one more unreferenced inode. */
MAY_YIELD static void table_trim(FileSystem *fs) {
    struct FsInodeTable *table = fs->inodes;

    /* A few candidates at most: those that must stay go to the young end, the bound is soft. */
    for (unsigned tries = 0; tries < 8 && table->lru_count > FS_INODES_UNUSED_MAX; tries++) {
        FsInode *inode = container_of(list_first(&table->lru), FsInode, lru);

        list_remove(&inode->lru);
        if (inode->dead || inode_has_object(fs, inode->file_id)) {
            list_append(&table->lru, &inode->lru);
            continue;
        }
        table->lru_count--;
        inode->evicting = true;
        table->evictions++;
        table->eviction_steps++;
        (void)inode_evict(inode);
    }
}

MAY_YIELD static int inode_load(FileSystem *fs, uint64_t file_id, uint64_t position,
                                FsInode **ret) {
    FsInode *inode;
    int r = inode_enter(fs, file_id, &inode);

    if (r < 0) {
        return r;
    }
    fiber_rwlock_write(&inode->lock);
    r = fs->type->ops->inode_load(inode, position);
    fiber_rwlock_unlock(&inode->lock);
    if (r < 0) {
        inode->load_error = r;
        hashmap_remove(&fs->inodes->map, &inode->node);
    } else {
        inode->attr.file_id = file_id;
        inode->loaded = true;
        inode->dead = inode->attr.nlink == 0;
    }
    fiber_queue_wake_all(&fs->inodes->changed);
    if (r < 0) {
        fs_inode_put(inode);
        return r;
    }
    *ret = inode;
    return 0;
}

MAY_YIELD int fs_inode_get(FileSystem *fs, uint64_t file_id, uint64_t position, FsInode **ret) {
    struct FsInodeTable *table = fs->inodes;
    FsInode *inode;

    if (table->lru_count > FS_INODES_UNUSED_MAX && table_find(table, file_id) == NULL) {
        table_trim(fs);
    }
    while ((inode = table_find(table, file_id)) != NULL && inode->evicting) {
        (void)table_reap(table); /* if no fiber was to be had for it */
        if (table_find(table, file_id) == inode) {
            fiber_queue_wait(&table->changed);
        }
    }
    if (inode == NULL) {
        return inode_load(fs, file_id, position, ret);
    }
    inode_ref(inode);
    while (!inode->loaded && inode->load_error == 0) {
        fiber_queue_wait(&table->changed);
    }
    if (!inode->loaded) {
        int r = inode->load_error;

        fs_inode_put(inode);
        return r;
    }
    *ret = inode;
    return 0;
}

uint64_t fs_inode_eviction_steps(const FileSystem *fs) {
    return fs->inodes->eviction_steps;
}

bool fs_inode_evictions_pending(const FileSystem *fs) {
    return fs->inodes->evictions > 0;
}

FsInode *fs_inode_peek(FileSystem *fs, uint64_t file_id) {
    FsInode *inode = table_find(fs->inodes, file_id);

    return inode != NULL && inode->loaded && !inode->evicting ? inode : NULL;
}

int fs_inode_new(FileSystem *fs, uint64_t file_id, FsInode **ret) {
    FsInode *inode;
    int r;

    if (table_find(fs->inodes, file_id) != NULL) {
        return -EEXIST;
    }
    r = inode_enter(fs, file_id, &inode);
    if (r < 0) {
        return r;
    }
    inode->attr.file_id = file_id;
    inode->attr.nlink = 1;
    inode->loaded = true;
    *ret = inode;
    return 0;
}

void fs_inode_put(FsInode *inode) {
    struct FsInodeTable *table;

    if (inode == NULL) {
        return;
    }
    assert(inode->refs > 0);
    if (--inode->refs > 0) {
        return;
    }
    if (!inode->loaded) {
        free(inode); /* its load failed: it is in no map and no list */
        return;
    }
    table = inode->fs->inodes;
    inode->dead = inode->attr.nlink == 0;
    if (inode->granted == 0 && (inode->dead || inode_has_object(inode->fs, inode->file_id))) {
        inode_condemn(inode);
        table_start_reaping(inode->fs);
        return;
    }
    list_append(&table->lru, &inode->lru);
    table->lru_count++;
}

MAY_YIELD int fs_inode_forget(FileSystem *fs, uint64_t file_id, uint64_t seen) {
    FsInode *inode = table_find(fs->inodes, file_id);
    int r;

    if (file_id == FS_ROOT_ID || (inode != NULL && inode->evicting)) {
        return 0;
    }
    if (inode == NULL && !inode_has_object(fs, file_id)) {
        return 0;
    }
    r = fs_inode_get(fs, file_id, 0, &inode);
    if (r < 0) {
        return r == -ESTALE ? 0 : r;
    }
    if (inode->granted <= seen) {
        inode->granted = 0;
    }
    fs_inode_put(inode);
    return 0;
}

void fs_inode_grant(FsInode *inode, uint64_t number) {
    inode->granted = MAX(inode->granted, number);
    /* The root is for ever: its grant says nothing of others. */
    if (inode->file_id != FS_ROOT_ID) {
        fs_inode_grant_absent(inode->fs, number);
    }
}

void fs_inode_grant_absent(FileSystem *fs, uint64_t number) {
    fs->inodes->last_grant = MAX(fs->inodes->last_grant, number);
}

bool fs_inode_held(const FsInode *inode) {
    return inode->granted != 0 || inode->refs > 0;
}

MAY_YIELD bool fs_reclaim(FileSystem *fs) {
    struct FsInodeTable *table = fs->inodes;
    bool found = table->evictions > 0 || table->resuming;

    (void)table_reap(table);
    while (table->evictions > 0 || table->resuming) {
        fiber_queue_wait(&table->changed);
    }
    if (fs->cache == NULL || (!found && cache_pending_blocks(fs->cache) == 0)) {
        return found;
    }
    return cache_sync(fs->cache) == 0;
}

MAY_YIELD void fs_resume(FileSystem *fs) {
    struct FsInodeTable *table = fs->inodes;
    int r;

    if (!fs->recovered || fs->readonly || fs->type->ops->recovered == NULL) {
        return;
    }
    table->resuming = true;
    r = fs->type->ops->recovered(fs);
    table->resuming = false;
    fiber_queue_wake_all(&table->changed);
    if (r < 0) {
        log_warning("%s: finishing what was left half done: %s", fs->type->name, strerror(-r));
    }
}

MAY_YIELD void fs_quiesce(FileSystem *fs) {
    struct FsInodeTable *table = fs->inodes;

    (void)table_reap(table); /* if no fiber was to be had for it */
    while (table->evictions > 0 || table->reaping || table->resuming) {
        fiber_queue_wait(&table->changed);
    }
}

MAY_YIELD int fs_inodes_evict_all(FileSystem *fs) {
    struct FsInodeTable *table = fs->inodes;
    ListNode *node;
    int first_error = 0;

    /* Again: an inode may have held a reference to another. */
    do {
        int r;

        while ((node = list_first(&table->lru)) != NULL) {
            FsInode *inode = container_of(node, FsInode, lru);

            list_remove(node);
            table->lru_count--;
            inode->granted = 0; /* nobody is left to hold anything */
            inode_condemn(inode);
        }
        r = table_reap(table);
        first_error = first_error == 0 ? r : first_error;
        while (table->evictions > 0 || table->reaping) {
            fiber_queue_wait(&table->changed);
        }
    } while (!list_empty(&table->lru));
    assert(table->map.count == 0);
    return first_error;
}
