/* SPDX-License-Identifier: MIT */
/*
 * Buffers: finding, holding, forgetting. Replacement is 2Q: a block read for
 * the first time queues with the cold ones, which get a quarter of the limit;
 * one that returns while its number is still remembered (a ghost) joins the
 * hot ones. A scan thus pushes out nothing but other scans.
 *
 * Only idle buffers are in a queue: attached, loaded, clean and unreferenced.
 * The memory limit counts all clean ones; dirty ones are bounded by the log.
 */
#include "berth/log.h"
#include "internal.h"
#include <assert.h>
#include <inttypes.h>

#define MEMORY_DEFAULT (UINT64_C(8) << 20)
#define LOG_DEFAULT LIFELINE_RING_DEFAULT
#define COMMIT_DEFAULT_NS UINT64_C(5000000000)
#define BUFFERS_MIN 8
#define RING_BLOCKS_MIN UINT64_C(32)

static void ghost_forget(Cache *cache, CacheGhost *ghost) {
    hashmap_remove(&cache->ghosts, &ghost->hash);
    list_remove(&ghost->node);
    free(ghost);
}

static bool ghost_take(Cache *cache, uint64_t block) {
    HashNode *node = hashmap_lookup(&cache->ghosts, block);

    if (node == NULL) {
        return false;
    }
    ghost_forget(cache, container_of(node, CacheGhost, hash));
    return true;
}

/* Remembering is a favour: without memory it is left out. */
static void ghost_remember(Cache *cache, uint64_t block) {
    CacheGhost *ghost;

    if (hashmap_lookup(&cache->ghosts, block) != NULL) {
        return;
    }
    if (cache->ghosts.count > cache->clean_limit / 2) {
        ghost_forget(cache, container_of(list_first(&cache->ghost_queue), CacheGhost, node));
    }
    ghost = calloc(1, sizeof(*ghost));
    if (ghost == NULL || hashmap_enter(&cache->ghosts, &ghost->hash, block) < 0) {
        free(ghost);
        return;
    }
    list_append(&cache->ghost_queue, &ghost->node);
}

void cache_class_map_done(ClassMap *map) {
    free(map->entries);
    *map = (ClassMap){0};
}

static void buffer_free(CacheBuffer *buffer) {
    assert(buffer->refs == 0 && !buffer->attached);
    cache_class_map_done(&buffer->classes);
    free(buffer->bytes);
    free(buffer);
}

static void idle_remove(CacheBuffer *buffer) {
    Cache *cache = buffer->cache;

    if (list_linked(&buffer->idle)) {
        list_remove(&buffer->idle);
        *(buffer->hot ? &cache->hot_count : &cache->cold_count) -= 1;
    }
}

static void evict_one(Cache *cache) {
    bool cold = cache->cold_count > 0 &&
                (cache->hot_count == 0 || cache->cold_count > cache->clean_limit / 4);
    ListNode *node = list_first(cold ? &cache->cold : &cache->hot);
    CacheBuffer *buffer = container_of(node, CacheBuffer, idle);
    uint64_t block = buffer->public.block;

    cache_buffer_detach(buffer);
    cache->stats.evictions++;
    if (cold) {
        ghost_remember(cache, block);
    }
}

static void trim(Cache *cache) {
    while (cache->stats.buffers - cache->stats.dirty_buffers > cache->clean_limit &&
           cache->cold_count + cache->hot_count > 0) {
        evict_one(cache);
    }
}

static void idle_enter(CacheBuffer *buffer) {
    Cache *cache = buffer->cache;

    if (buffer->refs > 0 || !buffer->attached || buffer->state != BUFFER_PRESENT ||
        list_linked(&buffer->dirty)) {
        return;
    }
    list_append(buffer->hot ? &cache->hot : &cache->cold, &buffer->idle);
    *(buffer->hot ? &cache->hot_count : &cache->cold_count) += 1;
    trim(cache);
}

CacheBuffer *cache_buffer_lookup(Cache *cache, uint64_t block) {
    HashNode *node = hashmap_lookup(&cache->buffers, block);

    return node == NULL ? NULL : container_of(node, CacheBuffer, hash);
}

int cache_buffer_new(Cache *cache, uint64_t block, BufferState state, CacheBuffer **ret) {
    uint32_t size = cache->config.block_size;
    CacheBuffer *buffer = calloc(1, sizeof(*buffer));
    void *bytes = NULL;

    /* Aligned for direct I/O. */
    if (buffer == NULL || posix_memalign(&bytes, MIN(size, 4096U), size) != 0 ||
        hashmap_enter(&cache->buffers, &buffer->hash, block) < 0) {
        free(bytes);
        free(buffer);
        return -ENOMEM;
    }
    buffer->public.block = block;
    buffer->public.data = buffer->bytes = bytes;
    buffer->cache = cache;
    buffer->state = state;
    buffer->refs = 1;
    buffer->attached = true;
    buffer->hot = ghost_take(cache, block);
    fiber_queue_init(&buffer->waiters);
    cache->stats.buffers++;
    *ret = buffer;
    return 0;
}

void cache_buffer_ref(CacheBuffer *buffer) {
    idle_remove(buffer);
    buffer->refs++;
}

void cache_buffer_unref(CacheBuffer *buffer) {
    assert(buffer->refs > 0);
    buffer->refs--;
    if (buffer->refs > 0) {
        return;
    }
    if (buffer->attached) {
        idle_enter(buffer);
    } else {
        buffer_free(buffer);
    }
}

void cache_buffer_detach(CacheBuffer *buffer) {
    Cache *cache = buffer->cache;

    assert(buffer->attached);
    idle_remove(buffer);
    if (list_linked(&buffer->dirty)) {
        list_remove(&buffer->dirty);
        cache->stats.dirty_buffers--;
    }
    hashmap_remove(&cache->buffers, &buffer->hash);
    cache->stats.buffers--;
    buffer->attached = false;
    if (buffer->refs == 0) {
        buffer_free(buffer);
    }
}

void cache_buffer_set_dirty(CacheBuffer *buffer, uint64_t lsn) {
    Cache *cache = buffer->cache;

    assert(buffer->attached && buffer->refs > 0);
    buffer->last_lsn = lsn;
    if (list_linked(&buffer->dirty)) {
        list_remove(&buffer->dirty);
        cache->stats.dirty_buffers--;
    }
    list_append(&cache->dirty, &buffer->dirty);
    cache->stats.dirty_buffers++;
}

void cache_clean_until(Cache *cache, uint64_t tail) {
    ListNode *node;

    while ((node = list_first(&cache->dirty)) != NULL) {
        CacheBuffer *buffer = container_of(node, CacheBuffer, dirty);

        if (buffer->last_lsn > tail) {
            break;
        }
        list_remove(node);
        cache->stats.dirty_buffers--;
        cache_class_map_done(&buffer->classes);
        idle_enter(buffer);
    }
}

typedef struct ForgetRange {
    uint64_t start, count;
} ForgetRange;

static void forget_buffer(HashNode *node, void *arg) {
    const ForgetRange *range = arg;

    if (node->key - range->start < range->count) {
        cache_buffer_detach(container_of(node, CacheBuffer, hash));
    }
}

void cache_forget_range(void *arg, uint64_t start, uint64_t count) {
    Cache *cache = arg;
    ForgetRange range = {start, count};

    if (count > cache->buffers.count) {
        hashmap_iterate(&cache->buffers, forget_buffer, &range);
        return;
    }
    for (uint64_t block = start; block < start + count; block++) {
        CacheBuffer *buffer = cache_buffer_lookup(cache, block);

        if (buffer != NULL) {
            cache_buffer_detach(buffer);
        }
    }
}

void cache_wait(Cache *cache, FiberQueue *queue) {
    int r;

    if (fiber_self() != NULL) {
        fiber_queue_wait(queue);
        return;
    }
    assert(cache->config.loop != NULL);
    r = loop_step(cache->config.loop, true);
    assert(r >= 0);
    (void)r;
}

/* ---- the interface ---- */

static int get_in_body(Cache *cache, uint64_t block, CacheBuffer *buffer, CacheBuffer **ret) {
    bool fire = ++cache->debug.gets == cache->debug.restart_at;
    const TxnMiss *miss;

    if (fire || (cache->debug.restart_all && cache_txn_find_miss(&cache->txn, block) == NULL)) {
        return cache_txn_note_miss(&cache->txn, block);
    }
    if (buffer != NULL && buffer->state == BUFFER_PRESENT) {
        cache->stats.hits++;
        cache_buffer_ref(buffer);
        *ret = buffer;
        return 0;
    }
    miss = cache_txn_find_miss(&cache->txn, block);
    if (miss != NULL && miss->error < 0) {
        return miss->error;
    }
    if (block_suspends(cache->config.device) || buffer != NULL) {
        return cache_txn_note_miss(&cache->txn, block);
    }
    return cache_load_one(cache, block, ret);
}

int cache_get(Cache *cache, uint64_t block, Buffer **ret) {
    CacheBuffer *buffer;
    int r = 0;

    if (block >= cache->block_count) {
        return -ERANGE;
    }
    buffer = cache_buffer_lookup(cache, block);
    if (cache->txn.open) {
        r = get_in_body(cache, block, buffer, &buffer);
    } else if (buffer != NULL && buffer->state == BUFFER_PRESENT) {
        cache->stats.hits++;
        cache_buffer_ref(buffer);
    } else {
        r = cache_load_one(cache, block, &buffer);
    }
    if (r < 0) {
        return r;
    }
    *ret = &buffer->public;
    return 0;
}

void cache_put(Buffer *buffer) {
    if (buffer != NULL) {
        cache_buffer_unref(cache_buffer(buffer));
    }
}

const CacheStats *cache_stats(Cache *cache) {
    return &cache->stats;
}

uint32_t cache_block_size(const Cache *cache) {
    return cache->config.block_size;
}

static int config_apply(Cache *cache, const CacheConfig *config) {
    uint64_t ring = config->log_size == 0 ? LOG_DEFAULT : config->log_size;
    uint32_t size = config->block_size;
    uint64_t least;
    int r;

    if (config->device == NULL || size < 512 || size > 65536 || !is_power_of_2(size)) {
        return -EINVAL;
    }
    cache->config = *config;
    cache->block_shift = log2_u64(size);
    cache->block_count = div_ceil(config->device->size, size);
    if (cache->config.memory_limit == 0) {
        cache->config.memory_limit = MEMORY_DEFAULT;
    }
    if (cache->config.commit_ns == 0) {
        cache->config.commit_ns = COMMIT_DEFAULT_NS;
    }
    cache->clean_limit = MAX(cache->config.memory_limit / size, (size_t)BUFFERS_MIN);
    /* A quarter of the ring must take a transaction over several blocks of any size. */
    least = MAX(LIFELINE_RING_MIN, RING_BLOCKS_MIN * size);
    if (config->lifeline == NULL) {
        r = lifeline_new(MAX(MIN(ring, LIFELINE_RING_MAX), least), LIFELINE_SLOTS_MAX,
                         &cache->own_log);
        cache->log = cache->own_log;
        return r;
    }
    cache->log = config->lifeline;
    if (cache->log->ring_size < least) {
        log_error("a log of %" PRIu64 " KiB is too small for blocks of %" PRIu32
                  " bytes, which need %" PRIu64 " KiB",
                  cache->log->ring_size / 1024, size, least / 1024);
        return -EINVAL;
    }
    return 0;
}

/* What lies in the lifeline: a predecessor's work, or nothing yet. */
static int begin(Cache *cache) {
    const CacheConfig *config = &cache->config;

    if (config->lifeline != NULL && config->recover &&
        __atomic_load_n(&cache->log->header->magic, __ATOMIC_ACQUIRE) != 0) {
        return cache_recover(cache);
    }
    lifeline_format(cache->log, config->block_size, config->device->size);
    return 0;
}

int cache_new(const CacheConfig *config, Cache **ret) {
    Cache *cache = calloc(1, sizeof(*cache));
    int r;

    if (cache == NULL) {
        return -ENOMEM;
    }
    hashmap_init(&cache->buffers);
    hashmap_init(&cache->ghosts);
    list_init(&cache->cold);
    list_init(&cache->hot);
    list_init(&cache->dirty);
    list_init(&cache->ghost_queue);
    list_init(&cache->txn.touched);
    fiber_mutex_init(&cache->txn_turn);
    fiber_queue_init(&cache->progress);
    pending_init(&cache->pending);
    cache->txn.cache = cache;
    r = config_apply(cache, config);
    if (r == 0) {
        cache_checkpoint_init(cache);
        cache->view = (LogView){.ring = cache->log->ring,
                                .ring_size = cache->log->ring_size,
                                .block_size = config->block_size,
                                .block_count = cache->block_count};
        r = cache_objects_init(cache);
    }
    if (r == 0) {
        r = begin(cache);
    }
    if (r < 0) {
        (void)cache_free(cache);
        return r;
    }
    *ret = cache;
    return 0;
}

static void drop_buffer(HashNode *node, void *arg) {
    CacheBuffer *buffer = container_of(node, CacheBuffer, hash);

    (void)arg;
    /* A reference that outlives its cache is the caller's bug; the memory is not touched then. */
    assert(buffer->refs == 0);
    cache_buffer_detach(buffer);
}

static void drop_ghost(HashNode *node, void *arg) {
    ghost_forget(arg, container_of(node, CacheGhost, hash));
}

Cache *cache_free(Cache *cache) {
    if (cache == NULL) {
        return NULL;
    }
    assert(!cache->txn.open);
    cache_checkpoint_done(cache);
    hashmap_iterate(&cache->buffers, drop_buffer, NULL);
    hashmap_done(&cache->buffers);
    hashmap_iterate(&cache->ghosts, drop_ghost, cache);
    hashmap_done(&cache->ghosts);
    pending_done(&cache->pending);
    (void)lifeline_free(cache->own_log);
    free(cache->objects);
    free(cache->txn.undo);
    free(cache->txn.undo_bytes);
    free(cache->txn.commit_hooks);
    free(cache->txn.abort_hooks);
    free(cache);
    return NULL;
}
