/* SPDX-License-Identifier: MIT */
/*
 * The ranks of a B*-tree's writes (btree.h), held against what they promise. Random changes are
 * made in batches; for each batch states are built as a power cut could have left them: all writes
 * below some rank, and of those with it the ones to some nodes. In each of them
 *
 *   - every record that the batch has not removed is in some leaf that the map calls used; under
 * its own key, if it has not got another;
 *   - nothing that was put or changed in the batch, and may refer to data, is there before rank 1.
 */
#include "../../src/fs/hfs/btree.h"
#include "../../src/fs/hfs/codec.h"
#include <check.h>
#include <stdio.h>

#define NODE HFS_NODE_SIZE
#define NODES_MAX 1024u
#define KEYS 700u
#define SPARE KEYS /* one more */
#define ITEMS 4000u
#define NO_ITEM 0u
#define BATCH_MAX 40u
#define STATES 16u
#define RANKS 8u

typedef struct Write {
    uint32_t node, offset, length;
    unsigned rank;
    uint8_t *bytes;
} Write;

/* What lies under a key. Its number is in its bytes. */
typedef struct Item {
    bool before;     /* it was there when the batch began */
    bool gone;       /* removed */
    uint16_t key;    /* its key then */
    bool moved;      /* it has had another since */
    uint8_t version; /* raised with each change */
    uint8_t settled; /* the version whose data is on the medium */
} Item;

typedef struct World {
    BtreeSource source;
    Btree tree;
    uint32_t hint;
    BtreeNewest newest;
    uint32_t count, grow_by, limit;
    uint8_t now[NODES_MAX][NODE], base[NODES_MAX][NODE], state[NODES_MAX][NODE];
    uint8_t ranks[NODES_MAX][NODE]; /* + 1; 0: not written in this batch */
    Write *writes;
    size_t write_count, write_capacity;
    unsigned top; /* highest rank of the batch */
    Item items[ITEMS];
    uint32_t item_count;
    uint32_t keys[KEYS + 1]; /* the item that each has */
    bool no_order;           /* the test of the test */
} World;

static uint64_t random_state;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

/* ---- the source ---- */

static int world_read(BtreeSource *source, uint32_t node, uint8_t *out) {
    World *world = container_of(source, World, source);

    if (node >= world->count) {
        return -ERANGE;
    }
    memcpy(out, world->now[node], NODE);
    return 0;
}

static int world_write(BtreeSource *source, uint32_t node, uint32_t offset, const uint8_t *bytes,
                       uint32_t length, unsigned rank) {
    World *world = container_of(source, World, source);
    Write *write;

    rank = world->no_order ? 0 : rank;
    if (node >= world->count || !range_inside(offset, length, NODE)) {
        ck_abort_msg("%u bytes at %u of node %u of %u", length, offset, node, world->count);
    }
    for (uint32_t i = offset; i < offset + length; i++) {
        if (world->ranks[node][i] > rank + 1) {
            ck_abort_msg("node %u is written with rank %u after %u", node, rank,
                         world->ranks[node][i] - 1u);
        }
        world->ranks[node][i] = (uint8_t)(rank + 1);
    }
    if (world->write_count == world->write_capacity) {
        world->write_capacity = MAX(world->write_capacity * 2, (size_t)256);
        world->writes = realloc(world->writes, world->write_capacity * sizeof(*world->writes));
        ck_assert_ptr_nonnull(world->writes);
    }
    write = &world->writes[world->write_count++];
    *write = (Write){node, offset, length, rank, malloc(length)};
    ck_assert_ptr_nonnull(write->bytes);
    memcpy(write->bytes, bytes, length);
    memcpy(world->now[node] + offset, bytes, length);
    world->top = MAX(world->top, rank);
    return 0;
}

static int world_fresh(BtreeSource *source, uint32_t node, unsigned rank) {
    static const uint8_t zeros[NODE];

    return world_write(source, node, 0, zeros, NODE, rank);
}

static unsigned world_rank(BtreeSource *source, uint32_t node, uint32_t offset, uint32_t length) {
    World *world = container_of(source, World, source);
    unsigned top = 0;

    for (uint32_t i = offset; i < offset + length; i++) {
        top = MAX(top, world->ranks[node][i]);
    }
    return top > 0 ? top - 1 : 0;
}

static int world_grow(BtreeSource *source, uint32_t node_count, uint32_t *ret_count) {
    World *world = container_of(source, World, source);

    ck_assert_uint_eq(node_count, world->count);
    if (world->count + world->grow_by > world->limit) {
        return -ENOSPC;
    }
    world->count += world->grow_by;
    *ret_count = world->count;
    return 0;
}

static void world_new(World *world, uint32_t count, uint32_t grow_by, uint32_t limit) {
    *world = (World){
        .source = {.node_size = NODE,
                   .read = world_read,
                   .write = world_write,
                   .fresh = world_fresh,
                   .rank = world_rank,
                   .grow = world_grow},
        .count = count,
        .grow_by = grow_by,
        .limit = limit,
        .item_count = 1,
    };
    ck_assert_int_eq(btree_create(&hfs_catalog_format, &world->source, count), 0);
    ck_assert_int_eq(btree_open(&world->tree, &hfs_catalog_format, &world->source, count), 0);
    world->tree.free_hint = &world->hint;
    world->tree.newest = &world->newest;
}

static void world_done(World *world) {
    for (size_t i = 0; i < world->write_count; i++) {
        free(world->writes[i].bytes);
    }
    free(world->writes);
    free(world);
}

/* ---- batches ---- */

static void batch_begin(World *world) {
    for (size_t i = 0; i < world->write_count; i++) {
        free(world->writes[i].bytes);
    }
    world->write_count = 0;
    world->top = 0;
    memcpy(world->base, world->now, sizeof(world->base));
    memset(world->ranks, 0, sizeof(world->ranks));
    for (uint32_t i = 0; i < ITEMS; i++) {
        world->items[i].before = false;
    }
    for (uint16_t i = 0; i < KEYS; i++) {
        Item *item = &world->items[world->keys[i]];

        *item =
            (Item){.before = true, .key = i, .version = item->version, .settled = item->version};
    }
}

/* ---- changes ---- */

static void key_of(uint32_t number, HfsDiskCatalogKey *ret) {
    HfsKey key = {.parent = 2 + number % 3};

    key.length =
        (uint8_t)snprintf((char *)key.name, sizeof(key.name), "%x-%.*s", number * 2654435761u,
                          (int)(number % 21), "abcdefghijklmnopqrstuvwxyz");
    hfs_key_encode(&key, ret);
}

static unsigned bytes_of(const World *world, uint32_t number, uint8_t out[NODE]) {
    unsigned length = number % 3 == 0 ? 46 : number % 3 == 1 ? 70 : 102;
    be32 disk = be32_make(number);

    memset(out, (int)number, length);
    memcpy(out, &disk, sizeof(disk));
    out[sizeof(disk)] = world->items[number].version;
    return length;
}

static int put(World *world, uint32_t key, uint32_t number, bool replace, BtreePlace after) {
    uint8_t bytes[NODE];
    unsigned length = bytes_of(world, number, bytes);
    HfsDiskCatalogKey disk;
    int r;

    key_of(key, &disk);
    world->tree.after = after;
    r = replace ? btree_replace(&world->tree, (const uint8_t *)&disk, bytes, length)
                : btree_insert(&world->tree, (const uint8_t *)&disk, bytes, length);
    world->tree.after = (BtreePlace){0};
    if (r == 0) {
        world->keys[key] = number;
    }
    return r;
}

static int take(World *world, uint32_t key, BtreePlace after) {
    HfsDiskCatalogKey disk;
    int r;

    key_of(key, &disk);
    world->tree.after = after;
    r = btree_remove(&world->tree, (const uint8_t *)&disk);
    world->tree.after = (BtreePlace){0};
    world->keys[key] = NO_ITEM;
    return r;
}

static int step_create(World *world, uint32_t key) {
    uint32_t number = world->item_count;
    int r;

    if (number == ITEMS) {
        return 0;
    }
    world->tree.bare = true;
    r = put(world, key, number, false, (BtreePlace){0});
    world->tree.bare = false;
    world->item_count += r == 0;
    return r;
}

static int step_update(World *world, uint32_t key) {
    uint32_t number = world->keys[key];
    HfsDiskCatalogKey disk;
    uint8_t bytes[NODE];
    unsigned length;

    world->items[number].version++;
    length = bytes_of(world, number, bytes);
    key_of(key, &disk);
    return btree_update(&world->tree, (const uint8_t *)&disk, bytes, length);
}

static int step_remove(World *world, uint32_t key) {
    world->items[world->keys[key]].gone = true;
    return take(world, key, (BtreePlace){0});
}

static int step_rename(World *world, uint32_t from, uint32_t to) {
    uint32_t number = world->keys[from], victim = world->keys[to];
    int r = from == to ? 0 : put(world, to, number, victim != NO_ITEM, (BtreePlace){0});

    if (r < 0 || from == to) {
        return r;
    }
    world->items[victim].gone = true;
    world->items[number].moved = true;
    return take(world, from, world->tree.put);
}

static int step_exchange(World *world, uint32_t one, uint32_t other) {
    uint32_t mine = world->keys[one], theirs = world->keys[other];
    int r;

    if (one == other || theirs == NO_ITEM) {
        return 0;
    }
    world->items[mine].moved = world->items[theirs].moved = true;
    r = put(world, SPARE, theirs, false, (BtreePlace){0});
    if (r == 0) {
        r = put(world, other, mine, true, world->tree.put);
    }
    if (r == 0) {
        r = put(world, one, theirs, true, world->tree.put);
    }
    return r == 0 ? take(world, SPARE, world->tree.put) : r;
}

static int step_random(World *world, uint32_t key, uint32_t other) {
    if (world->keys[key] == NO_ITEM) {
        return step_create(world, key);
    }
    switch (random_below(6)) {
    case 0:
    case 1:
        return step_remove(world, key);
    case 2:
        return step_update(world, key);
    case 3:
        return step_exchange(world, key, other);
    default:
        return step_rename(world, key, other);
    }
}

static void undo(World *world, const World *before) {
    Write *writes = world->writes;
    size_t capacity = world->write_capacity;

    while (world->write_count > before->write_count) {
        free(writes[--world->write_count].bytes);
    }
    memcpy(world, before, sizeof(*world));
    world->writes = writes;
    world->write_capacity = capacity;
}

/* A change for which nothing is free is undone. False: it takes more ranks than there are left for
 * this batch, and is undone as well. */
static bool step(World *world) {
    static World before;
    int r;

    memcpy(&before, world, sizeof(before));
    r = step_random(world, random_below(KEYS), random_below(KEYS));
    ck_assert(r == 0 || r == -ENOSPC);
    if (r == 0 && world->top < RANKS) {
        return true;
    }
    /* By itself none takes that many. */
    ck_assert(r < 0 || before.write_count > 0);
    undo(world, &before);
    return r < 0;
}

/* ---- cuts ---- */

static void state_build(World *world, unsigned rank) {
    uint8_t chosen[NODES_MAX];
    unsigned chance = random_below(5);

    for (uint32_t i = 0; i < NODES_MAX; i++) {
        chosen[i] = random_below(4) < chance;
    }
    memcpy(world->state, world->base, sizeof(world->state));
    for (size_t i = 0; i < world->write_count; i++) {
        const Write *write = &world->writes[i];

        if (write->rank < rank || (write->rank == rank && chosen[write->node])) {
            memcpy(world->state[write->node] + write->offset, write->bytes, write->length);
        }
    }
}

/* Fills mapped[]. */
static void state_map(const World *world, bool mapped[NODES_MAX]) {
    uint32_t node = 0, first = 0;

    memset(mapped, 0, NODES_MAX * sizeof(*mapped));
    do {
        const uint8_t *data = world->state[node];
        unsigned record = node == 0 ? 2 : 0;
        unsigned start = btree_record_offset(NODE, data, record);
        unsigned bits = (btree_record_offset(NODE, data, record + 1) - start) * 8;
        BtreeNode header;

        for (unsigned i = 0; i < bits && first + i < NODES_MAX; i++) {
            mapped[first + i] = data[start + i / 8] & 0x80u >> i % 8;
        }
        btree_node_decode(data, &header);
        first += bits;
        node = header.next;
    } while (node != 0 && node < NODES_MAX);
}

typedef struct Found {
    bool anywhere, own_key;
} Found;

static void leaf_look(const World *world, const uint8_t *data, unsigned rank, Found *found) {
    BtreeNode node;

    btree_node_decode(data, &node);
    for (unsigned i = 0; i < node.records; i++) {
        HfsDiskCatalogKey disk;
        BtreeRecord record;
        uint32_t number;
        be32 bytes;

        btree_record_get(&hfs_catalog_format, NODE, data, i, &record);
        memcpy(&bytes, record.data, sizeof(bytes));
        number = be32_get(bytes);
        ck_assert_uint_lt(number, ITEMS);
        if (rank == 0 && record.data[4] > world->items[number].settled) {
            ck_abort_msg("version %u of %u before the data", record.data[4], number);
        }
        key_of(world->items[number].key, &disk);
        found[number].anywhere = true;
        if (hfs_catalog_format.compare(record.key, (const uint8_t *)&disk) == 0) {
            found[number].own_key = true;
        }
    }
}

/* Is something missing? */
static bool state_lacks(const World *world, unsigned rank) {
    static Found found[ITEMS];
    bool mapped[NODES_MAX];

    memset(found, 0, sizeof(found));
    state_map(world, mapped);
    for (uint32_t i = 1; i < world->count; i++) {
        if (mapped[i] && world->state[i][offsetof(BtreeDiskNode, kind)] == BTREE_NODE_LEAF &&
            btree_node_check(&hfs_catalog_format, NODE, i, world->state[i], NULL) == 0) {
            leaf_look(world, world->state[i], rank, found);
        }
    }
    for (uint32_t i = 1; i < world->item_count; i++) {
        const Item *item = &world->items[i];

        if (item->before && !item->gone && !(item->moved ? found[i].anywhere : found[i].own_key)) {
            return true;
        }
    }
    return false;
}

/* Returns how many states lacked something. */
static unsigned run(World *world, unsigned batches) {
    unsigned lacking = 0;

    for (unsigned batch = 0; batch < batches; batch++) {
        batch_begin(world);
        for (uint32_t i = random_below(BATCH_MAX); i > 0 && step(world); i--) {
        }
        for (unsigned i = 0; i < STATES; i++) {
            unsigned rank = random_below(world->top + 2);

            state_build(world, rank);
            lacking += state_lacks(world, rank);
        }
    }
    return lacking;
}

static World *world_fill(uint32_t count, uint32_t grow_by, uint32_t limit) {
    World *world = malloc(sizeof(*world));

    ck_assert_ptr_nonnull(world);
    world_new(world, count, grow_by, limit);
    for (uint32_t key = 0; key < KEYS; key += 2) {
        (void)step_create(world, key);
    }
    return world;
}

START_TEST(nothing_is_lost) {
    World *world = world_fill(1000, 0, 1000);

    random_state = (uint64_t)_i * 7919 + 1;
    ck_assert_uint_eq(run(world, 24), 0);
    world_done(world);
}
END_TEST

/* Where nodes are scarce, leaves are evened out with their neighbours, and freed ones come back at
 * once; and the file grows. */
START_TEST(nothing_is_lost_in_little_room) {
    World *world = world_fill(20, 8, 150 + (uint32_t)_i * 16);

    random_state = (uint64_t)_i * 104729 + 1;
    ck_assert_uint_eq(run(world, 24), 0);
    world_done(world);
}
END_TEST

START_TEST(without_order_it_would_be) {
    World *world = world_fill(1000, 0, 1000);
    unsigned lacking = 0;

    random_state = 1;
    world->no_order = true;
    for (unsigned batch = 0; batch < 20; batch++) {
        batch_begin(world);
        for (uint32_t i = 0; i < BATCH_MAX; i++) {
            (void)step(world);
        }
        state_build(world, 0);
        lacking += state_lacks(world, 1);
    }
    ck_assert_uint_gt(lacking, 5);
    world_done(world);
}
END_TEST

/* Names in rising order take the plain rank only, but for the first ones. */
START_TEST(few_ranks) {
    World *world = world_fill(1000, 0, 1000);
    HfsKey key = {.parent = 3, .length = 8};
    unsigned ordered = 0;

    for (uint32_t i = 0; i < 300; i++) {
        uint8_t bytes[102] = {0};
        HfsDiskCatalogKey disk;
        bool zero = false;

        batch_begin(world);
        (void)snprintf((char *)key.name, sizeof(key.name), "zz%06u", i);
        hfs_key_encode(&key, &disk);
        world->tree.bare = true;
        ck_assert_int_eq(btree_insert(&world->tree, (const uint8_t *)&disk, bytes, sizeof(bytes)),
                         0);
        ck_assert_uint_le(world->top, 1);
        for (size_t n = 0; n < world->write_count; n++) {
            zero = zero || world->writes[n].rank == 0;
        }
        ordered += zero;
    }
    ck_assert_uint_lt(ordered, 4);
    world_done(world);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hfs_ranks");
    TCase *tcase = tcase_create("ranks");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, nothing_is_lost, 0, 3);
    tcase_add_loop_test(tcase, nothing_is_lost_in_little_room, 0, 5);
    tcase_add_test(tcase, without_order_it_would_be);
    tcase_add_test(tcase, few_ranks);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
