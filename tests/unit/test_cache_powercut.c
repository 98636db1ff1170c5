/* SPDX-License-Identifier: MIT */
/*
 * What a power cut in the middle of write-out may leave. A toy volume: a
 * directory of entries (name, node, generation), nodes (generation, data
 * block), data blocks stamped with the generation and written directly. At
 * every cut each entry must lead to its node and that to its data, and names
 * that were synced and not removed must be there; what no entry names is a
 * leak and allowed.
 */
#include "cache_support.h"

/* ---- the toy volume ---- */

#define TOY_ENTRIES 64u /* 32 bytes each, blocks 0 to 3 */
#define TOY_NODES 96u   /* 32 bytes each, blocks 4 to 9 */
#define TOY_NODE_BLOCK 4u
#define TOY_DATA 10u /* data blocks from here to the end */
#define TOY_BLOCKS 120u
#define ITEM_SIZE 32u
#define PER_BLOCK (BLOCK / ITEM_SIZE)

typedef struct ToyEntry {
    uint64_t name, node, generation;
} ToyEntry;
typedef struct ToyNode {
    uint64_t generation, data;
} ToyNode;

/* Write-out order; `ordered` false puts all in one class, to see that the test notices. */
enum { CLASS_NODE, CLASS_POINTER, CLASS_ENTRY, CLASS_OLD_ENTRY, CLASS_FREED };

typedef struct Toy {
    Volume volume;
    BlockRecording recording;
    bool ordered;
    bool reuse; /* takes freed data blocks at once, against the rule */
    uint64_t generation;
    ToyEntry entries[TOY_ENTRIES];
    ToyNode nodes[TOY_NODES];
    bool used[TOY_BLOCKS];
    uint64_t must[TOY_ENTRIES]; /* names that every cut must show */
    size_t must_count;
    uint8_t *base; /* the medium at the start of the recording */
} Toy;

typedef struct ToyOp {
    Toy *toy;
    unsigned entry, old_entry, node;
    uint64_t free_block;
    ToyEntry new_entry;
    ToyNode new_node;
    bool write_entry, clear_old, write_node, write_pointer, clear_node;
} ToyOp;

static int toy_put(Txn *txn, Toy *toy, uint64_t block, unsigned index, uint32_t skip,
                   const void *bytes, uint32_t length, unsigned class) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    int r = cache_get(toy->volume.cache, block + index / PER_BLOCK, &buffer);

    if (r < 0) {
        return r;
    }
    return txn_write(txn, buffer, index % PER_BLOCK * ITEM_SIZE + skip, bytes, length,
                     toy->ordered ? class : 0);
}

static int toy_body(Txn *txn, void *arg) {
    static const uint8_t zeros[ITEM_SIZE];
    const ToyOp *op = arg;
    Toy *toy = op->toy;
    int r = 0;

    /* Against the order of classes on purpose. */
    if (r == 0 && op->clear_node) {
        r = toy_put(txn, toy, TOY_NODE_BLOCK, op->node, 0, zeros, sizeof(ToyNode), CLASS_FREED);
    }
    if (r == 0 && op->free_block != 0 &&
        (!toy->reuse || !cache_range_pending(toy->volume.cache, op->free_block, 1))) {
        r = txn_free_blocks(txn, op->free_block, 1);
    }
    if (r == 0 && op->clear_old) {
        r = toy_put(txn, toy, 0, op->old_entry, 0, zeros, sizeof(ToyEntry), CLASS_OLD_ENTRY);
    }
    if (r == 0 && op->write_entry) {
        r = toy_put(txn, toy, 0, op->entry, 0, &op->new_entry, sizeof(ToyEntry), CLASS_ENTRY);
    }
    if (r == 0 && op->write_pointer) {
        r = toy_put(txn, toy, TOY_NODE_BLOCK, op->node, 8, &op->new_node.data, 8, CLASS_POINTER);
    }
    if (r == 0 && op->write_node) {
        r = toy_put(txn, toy, TOY_NODE_BLOCK, op->node, 0, &op->new_node, sizeof(ToyNode),
                    CLASS_NODE);
    }
    return r;
}

static void toy_commit(ToyOp *op) {
    Toy *toy = op->toy;

    ck_assert_int_eq(txn_run(toy->volume.cache, NULL, toy_body, op), 0);
    if (op->clear_old) {
        toy->entries[op->old_entry] = (ToyEntry){0};
    }
    if (op->write_entry) {
        toy->entries[op->entry] = op->new_entry;
    }
    if (op->write_node || op->write_pointer) {
        toy->nodes[op->node] = op->new_node;
    }
    if (op->clear_node) {
        toy->nodes[op->node] = (ToyNode){0};
    }
    if (op->free_block != 0) {
        toy->used[op->free_block] = false;
    }
}

/* A free data block with the generation's stamp written to it, or 0. */
static uint64_t toy_data(Toy *toy, uint64_t generation) {
    for (uint64_t block = TOY_DATA; block < TOY_BLOCKS; block++) {
        uint8_t data[BLOCK];

        if (toy->used[block] || (!toy->reuse && cache_range_pending(toy->volume.cache, block, 1))) {
            continue;
        }
        toy->used[block] = true;
        memset(data, 0, sizeof(data));
        memcpy(data, &generation, sizeof(generation));
        ck_assert_int_eq(block_write(toy->volume.device, block * BLOCK, data, sizeof(data)), 0);
        return block;
    }
    return 0;
}

static bool toy_find(Toy *toy, bool used, unsigned *ret) {
    unsigned start = random_below(TOY_ENTRIES);

    for (unsigned i = 0; i < TOY_ENTRIES; i++) {
        unsigned at = (start + i) % TOY_ENTRIES;

        if ((toy->entries[at].name != 0) == used) {
            *ret = at;
            return true;
        }
    }
    return false;
}

static void toy_create(Toy *toy) {
    ToyOp op = {.toy = toy, .write_entry = true, .write_node = true};
    uint64_t data;

    while (toy->nodes[op.node].generation != 0) {
        op.node++;
    }
    toy->generation++;
    if (!toy_find(toy, false, &op.entry) || (data = toy_data(toy, toy->generation)) == 0) {
        return;
    }
    op.new_node = (ToyNode){toy->generation, data};
    op.new_entry = (ToyEntry){toy->generation, op.node, toy->generation};
    toy_commit(&op);
}

static void toy_remove(Toy *toy) {
    ToyOp op = {.toy = toy, .clear_old = true, .clear_node = true};

    if (!toy_find(toy, true, &op.old_entry)) {
        return;
    }
    for (size_t i = 0; i < toy->must_count; i++) {
        if (toy->must[i] == toy->entries[op.old_entry].name) {
            toy->must[i] = toy->must[--toy->must_count];
            break;
        }
    }
    op.node = (unsigned)toy->entries[op.old_entry].node;
    op.free_block = toy->nodes[op.node].data;
    toy_commit(&op);
}

static void toy_move(Toy *toy) {
    ToyOp op = {.toy = toy, .write_entry = true, .clear_old = true};

    if (toy_find(toy, true, &op.old_entry) && toy_find(toy, false, &op.entry)) {
        op.new_entry = toy->entries[op.old_entry];
        toy_commit(&op);
    }
}

/* New data for an old node: only the pointer changes. */
static void toy_rewrite(Toy *toy) {
    ToyOp op = {.toy = toy, .write_pointer = true};
    unsigned entry;
    uint64_t data;

    if (!toy_find(toy, true, &entry)) {
        return;
    }
    op.node = (unsigned)toy->entries[entry].node;
    op.new_node = toy->nodes[op.node];
    data = toy_data(toy, op.new_node.generation);
    if (data != 0) {
        op.free_block = op.new_node.data;
        op.new_node.data = data;
        toy_commit(&op);
    }
}

/* Does the image show a name that leads to anything but its data? And are the old names there? */
static bool toy_image_good(const Toy *toy, const uint8_t *image) {
    size_t seen = 0;

    for (unsigned i = 0; i < TOY_ENTRIES; i++) {
        ToyEntry entry;
        ToyNode node;
        uint64_t stamp;
        size_t in_must = 0;

        memcpy(&entry, image + i * ITEM_SIZE, sizeof(entry));
        if (entry.name == 0) {
            continue;
        }
        if (entry.node >= TOY_NODES) {
            return false;
        }
        memcpy(&node, image + TOY_NODE_BLOCK * BLOCK + entry.node * ITEM_SIZE, sizeof(node));
        if (node.generation != entry.generation || node.data >= TOY_BLOCKS) {
            return false;
        }
        memcpy(&stamp, image + node.data * BLOCK, sizeof(stamp));
        if (stamp != entry.generation) {
            return false;
        }
        while (in_must < toy->must_count && toy->must[in_must] != entry.name) {
            in_must++;
        }
        if (in_must < toy->must_count) {
            /* Two names in the middle of a move count once. */
            bool twice = false;

            for (unsigned j = 0; j < i; j++) {
                twice |= memcmp(image + j * ITEM_SIZE, &entry.name, sizeof(entry.name)) == 0;
            }
            seen += !twice;
        }
    }
    return seen == toy->must_count;
}

/* Cuts inside every epoch: all of the earlier ones, some sectors of this one. Returns bad ones. */
static unsigned toy_cut_all(Toy *toy, unsigned per_epoch) {
    size_t size = TOY_BLOCKS * BLOCK;
    uint8_t *image = malloc(size);
    unsigned bad = 0;

    for (uint32_t epoch = 0; epoch <= toy->recording.epoch; epoch++) {
        for (unsigned cut = 0; cut < per_epoch; cut++) {
            unsigned odds = random_below(5);

            memcpy(image, toy->base, size);
            for (size_t i = 0; i < toy->recording.count; i++) {
                const RecordedWrite *write = &toy->recording.writes[i];

                for (uint64_t at = 0; write->epoch <= epoch && at < write->length; at += BLOCK) {
                    if (write->epoch < epoch || random_below(4) < odds) {
                        memcpy(image + write->offset + at, write->data + at, BLOCK);
                    }
                }
            }
            bad += !toy_image_good(toy, image);
        }
    }
    free(image);
    return bad;
}

static void toy_start_recording(Toy *toy) {
    block_recording_done(&toy->recording);
    memcpy(toy->base, block_memory_data(toy->volume.memory), TOY_BLOCKS * BLOCK);
    toy->must_count = 0;
    for (unsigned i = 0; i < TOY_ENTRIES; i++) {
        if (toy->entries[i].name != 0) {
            toy->must[toy->must_count++] = toy->entries[i].name;
        }
    }
}

static unsigned toy_run(Toy *toy, unsigned rounds) {
    unsigned bad = 0;

    ck_assert_int_eq(block_memory_new(TOY_BLOCKS * BLOCK, BLOCK, NULL, &toy->volume.memory), 0);
    ck_assert_int_eq(block_recorder_new(toy->volume.memory, &toy->recording, &toy->volume.device),
                     0);
    volume_cache(&toy->volume, (CacheConfig){.log_size = 64 << 10});
    toy->base = malloc(TOY_BLOCKS * BLOCK);
    for (unsigned round = 0; round < rounds; round++) {
        unsigned steps = 1 + random_below(40);

        toy_start_recording(toy);
        for (unsigned i = 0; i < steps; i++) {
            switch (random_below(5)) {
            case 0:
                toy_remove(toy);
                break;
            case 1:
                toy_move(toy);
                break;
            case 2:
                toy_rewrite(toy);
                break;
            default:
                toy_create(toy);
                break;
            }
        }
        ck_assert_int_eq(cache_sync(toy->volume.cache), 0);
        ck_assert(!toy->recording.failed);
        bad += toy_cut_all(toy, 12);
        toy_start_recording(toy);
        ck_assert(toy_image_good(toy, toy->base));
    }
    block_recording_done(&toy->recording);
    free(toy->base);
    volume_close(&toy->volume);
    return bad;
}

START_TEST(test_power_cut) {
    static Toy toy;

    random_seed((uint64_t)_i);
    toy = (Toy){.ordered = true};
    ck_assert_msg(toy_run(&toy, 100) == 0, "seed %d", _i);
}
END_TEST

START_TEST(test_power_cut_notices) {
    static Toy toy;

    random_seed(1);
    toy = (Toy){.ordered = false};
    ck_assert_uint_gt(toy_run(&toy, 20), 0);
    random_seed(1);
    toy = (Toy){.ordered = true, .reuse = true};
    ck_assert_uint_gt(toy_run(&toy, 100), 0);
}
END_TEST

static Suite *power_cut_suite(void) {
    Suite *suite = suite_create("cache power cuts");
    TCase *cuts = tcase_create("power cuts");

    tcase_set_timeout(cuts, 60);
    tcase_add_loop_test(cuts, test_power_cut, 1, 5);
    tcase_add_test(cuts, test_power_cut_notices);
    suite_add_tcase(suite, cuts);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(power_cut_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
