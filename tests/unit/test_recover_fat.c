/* SPDX-License-Identifier: MIT */
/*
 * A daemon dies again and again, anywhere in its work, and its successors take over
 * (recover_peer.h). Whatever was answered is there, what was not happens exactly once
 * when it is sent again, and nothing that can be asked changes by a death. In the end the
 * image satisfies fsck.fat.
 *
 * BERTH_RECOVER_SEEDS=FIRST:COUNT runs other seeds, with deaths by timer as well.
 */
#include "fat_model.h"
#include "recover_answers.h"
#include "recover_crowd.h"
#include "recover_peer.h"

static RecoverPeer peer;
static unsigned first_seed = 1, seed_count = 2;
static bool timers;

static int call_peer(const FSRequest *request) {
    peer_call(&peer, request);
    response = peer.shared->cells[fs_request_slot(request->request_id)].response;
    return response.result;
}

static void begin(unsigned seed, const char *options, uint64_t death_range) {
    peer = (RecoverPeer){
        .options = options,
        .state = seed * UINT64_C(0x9e3779b97f4a7c15) + 7,
        .death_range = death_range,
        .timers = timers,
    };
    peer_begin(&peer, image, image_size);
    call_elsewhere = call_peer;
}

static void end(const char *what) {
    peer_live(&peer);
    peer_end(&peer, image);
    call_elsewhere = NULL;
    check_clean(what);
}

static void report(unsigned seed) {
    if (timers) {
        (void)printf(
            "seed %u: %llu deaths, %llu while mounting, %llu by timer, %llu requests sent again\n",
            seed, (unsigned long long)peer.deaths, (unsigned long long)peer.early_deaths,
            (unsigned long long)peer.timer_deaths, (unsigned long long)peer.resent);
    }
}

/* ---- nothing changes by a death ---- */

#define SNAPSHOT_MAX (MODEL_NODES + 1)

/* The attributes of everything that the model knows. */
static unsigned snapshot(FsAttr attrs[SNAPSHOT_MAX]) {
    unsigned count = 0;

    ck_assert_int_eq(get_attr(FS_ROOT_ID), 0);
    attrs[count++] = response.attr;
    for (int i = 0; i < MODEL_NODES; i++) {
        char path[512];
        int64_t id;

        if (!nodes[i].used) {
            continue;
        }
        model_path(&nodes[i], path);
        id = nodes[i].unlinked ? (int64_t)nodes[i].id : resolve(path);
        MODEL_CHECK(!failed(id) && get_attr((uint64_t)id) == 0, "no attributes of %s", path);
        attrs[count++] = response.attr;
    }
    return count;
}

static void check_same(const FsAttr *a, const FsAttr *b) {
#define SAME(field)                                                             \
    MODEL_CHECK(a->field == b->field, "file %llx: " #field " %lld became %lld", \
                (unsigned long long)a->file_id, (long long)a->field, (long long)b->field)
    SAME(file_id);
    SAME(generation);
    SAME(type);
    SAME(mode);
    SAME(nlink);
    SAME(uid);
    SAME(gid);
    SAME(rdev);
    SAME(block_size);
    SAME(size);
    SAME(blocks);
    SAME(atime_ns);
    SAME(mtime_ns);
    SAME(ctime_ns);
    SAME(btime_ns);
#undef SAME
}

static void check_attributes_survive(void) {
    FsAttr before[SNAPSHOT_MAX], after[SNAPSHOT_MAX];
    uint64_t range = peer.death_range;
    unsigned count = snapshot(before);

    peer_take_over(&peer);
    peer.death_range = range;
    MODEL_CHECK(snapshot(after) == count, "files got lost");
    for (unsigned i = 0; i < count; i++) {
        check_same(&before[i], &after[i]);
    }
}

/* Times of all kinds, on files, directories and the root. */
static void model_touch(void) {
    static const uint32_t masks[] = {FS_SET_MTIME, FS_SET_ATIME, FS_SET_BTIME, FS_SET_MODE};
    int slot = model_pick(true, true);
    uint64_t id = FS_ROOT_ID;
    char path[512];

    if (slot >= 0 && model_random(4) != 0) {
        model_path(&nodes[slot], path);
        id = (uint64_t)resolve(path);
    }
    MODEL_CHECK(call((FSRequest){.type = FS_MSG_SET_ATTR,
                                 .file_id = id,
                                 .set = {.mask = masks[model_random(4)],
                                         .mode = model_random(2) ? 0555 : 0755,
                                         .mtime_ns = now_ns - 123456789,
                                         .atime_ns = now_ns - INT64_C(86400123456789),
                                         .btime_ns = now_ns - 777777777}}) == 0,
                "set_attr");
}

/* ---- the model, on dying daemons ---- */

static void dying_steps(unsigned seed, unsigned steps) {
    static void (*const operations[])(void) = {
        model_create, model_create,   model_write,  model_write,  model_write, model_touch,
        model_remove, model_truncate, model_rename, model_rename, model_evict};

    model_seed = seed;
    model_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (model_step = 1; model_step <= steps; model_step++) {
        operations[model_random(ARRAY_SIZE(operations))]();
        now_ns += INT64_C(1700000001);
        if (model_step % 40 == 0) {
            model_check_all();
            check_attributes_survive();
        }
        if (model_step % 50 == 0) {
            MODEL_CHECK(sync_volume() == 0, "sync");
        }
    }
}

static void run_model(unsigned seed, unsigned steps) {
    static const struct {
        unsigned kib;
        const char *args;
    } kinds[] = {{1440, "-F 12"}, {8192, "-F 16 -s 1"}, {36000, "-F 32 -s 1"}};
    char what[64];

    image_make(kinds[seed % 3].kib, kinds[seed % 3].args);
    begin(seed, "", 60);
    dying_steps(seed, steps);
    model_check_all();
    peer_live(&peer);
    model_check_all();
    model_forget_unlinked();
    (void)snprintf(what, sizeof(what), "recovery, seed %u", seed);
    end(what);
    mount_image("ro");
    model_check_all();
    ck_assert_int_eq(unmount_image(), 0);
    for (int i = 0; i < MODEL_NODES; i++) {
        model_drop(&nodes[i]);
    }
    report(seed);
    ck_assert_uint_gt(peer.deaths, 3);
}

START_TEST(dying_model) {
    for (unsigned i = 0; i < seed_count; i++) {
        run_model(first_seed + i, 300);
    }
}
END_TEST

/* ---- many requests under way ---- */

static void run_crowd(unsigned seed, unsigned steps) {
    int64_t dir;

    image_make(8192, "-F 16 -s 1");
    begin(seed, "", 0);
    dir = make("shared", FS_TYPE_DIRECTORY);
    ck_assert(!failed(dir));
    crowd_dir = (uint64_t)dir;
    peer.chaos = true;
    peer.death_range = 60;
    peer_take_over(&peer);
    crowd_run(&peer, steps);
    peer_live(&peer);
    crowd_verify();
    end("crowd");
    report(seed);
    mount_image("ro");
    crowd_verify();
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert_uint_gt(peer.deaths, 3);
}

START_TEST(dying_crowd) {
    for (unsigned i = 0; i < seed_count; i++) {
        run_crowd(first_seed + i, 50);
    }
}
END_TEST

/* ---- each message, a death at each point ---- */

static void run_answer(const AnswerCase *test, Text *ret) {
    const AnswerIds ids = answer_setup();
    uint64_t arm = peer.death_range;
    FSRequest request = test->make(&ids);

    peer.death_range = 0;
    if (arm > 0) {
        peer_arm(&peer, arm);
    }
    (void)call(request);
    peer.shared->die_at = 0;
    answer_text(ret);
    tree_text(ret, FS_ROOT_ID, "");
    text_printf(ret, "the root:");
    file_text(ret, FS_ROOT_ID);
    text_printf(ret, "unlinked:");
    file_text(ret, ids.orphan);
}

/* True if it has died. */
static bool try_answer(const AnswerCase *test, unsigned point, const uint8_t *fresh,
                       const char *expected) {
    _cleanup_(text_done) Text text = {0};
    bool died;

    memcpy(image, fresh, image_size);
    begin(point, "", 0);
    peer.death_range = point;
    run_answer(test, &text);
    died = peer.deaths > 0;
    ck_assert_msg(strcmp(text_string(&text), expected) == 0,
                  "%s, death at point %u:\n%s\ninstead of\n%s", test->name, point,
                  text_string(&text), expected);
    ck_assert_msg(died || point > 2, "%s has no points to die at", test->name);
    if (point % 8 == 1) {
        end(test->name);
    } else {
        peer_live(&peer);
        peer_end(&peer, image);
        call_elsewhere = NULL;
    }
    return died;
}

START_TEST(every_answer) {
    const AnswerCase *test = &answer_cases[_i];
    _cleanup_(text_done) Text expected = {0};
    _cleanup_free_ uint8_t *fresh = NULL;
    unsigned point = 1;

    image_make(1440, "-F 12 -n OLDLABEL");
    fresh = malloc(image_size);
    memcpy(fresh, image, image_size);
    begin(0, "", 0);
    run_answer(test, &expected);
    end(test->name);
    while (try_answer(test, point, fresh, text_string(&expected))) {
        point++;
    }
}
END_TEST

/* What the record says of a new object is what loading it finds. */
START_TEST(created_attributes) {
    image_make(1440, "-F 12");
    mount_image("uid=7,fmask=137");
    for (uint32_t type = FS_TYPE_FILE; type <= FS_TYPE_DIRECTORY; type++) {
        const FsName name = name_of(type == FS_TYPE_FILE ? "A long file name" : "DIR");
        const FsCall made_by = {.time_ns = TIME_NS + 1234567};
        FsAttr attr = {0};
        FsInode *root, *made;
        FsEntry entry;

        ck_assert_int_eq(fs_inode_get(volume_fs(volume), FS_ROOT_ID, 0, &root), 0);
        ck_assert_int_eq(
            fat_type.ops->create(root, &made_by, &name,
                                 &(FsCreate){.type = type, .mode = 0444, .attr = &attr}, &entry),
            0);
        ck_assert_int_eq(fs_inode_get(volume_fs(volume), entry.file_id, 0, &made), 0);
        check_same(&attr, &made->attr);
        fs_inode_put(made);
        fs_inode_put(root);
    }
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

/* ---- space ---- */

static uint64_t free_blocks(void) {
    le64 words[7];

    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_STATFS}), 0);
    memcpy(words, response.data, sizeof(words));
    return le64_get(words[1]);
}

static unsigned survivors(uint64_t ids[8]) {
    int count = lifeline_memory_objects(peer.lifeline, PEER_SLOTS, ids, 8);

    ck_assert_int_ge(count, 0);
    return (unsigned)count;
}

/* A chain that is freed in steps is freed to its end by whoever comes next, without an unmount. */
START_TEST(chains_are_reclaimed) {
    uint64_t before, ids[8];
    bool died = true;

    for (unsigned point = 1; died; point++) {
        int64_t id;

        image_make(8192, "-F 16 -s 1");
        begin(point, "", 0);
        before = free_blocks();
        id = make("large", FS_TYPE_FILE);
        for (uint32_t at = 0; at < (4u << 20); at += PEER_IO) {
            ck_assert_int_eq(write_at((uint64_t)id, at, answer_bytes, PEER_IO), PEER_IO);
        }
        ck_assert_uint_eq(free_blocks(), before - (4u << 20) / 512);
        peer_arm(&peer, point);
        ck_assert_int_eq(set_size((uint64_t)id, 0), 0);
        died = peer.deaths > 0;
        peer.shared->die_at = 0;
        for (unsigned i = 0; i < 100 && free_blocks() != before; i++) {
            (void)sync_volume(); /* it goes on behind our back */
        }
        ck_assert_msg(free_blocks() == before, "death at point %u: %llu of %llu clusters are free",
                      point, (unsigned long long)free_blocks(), (unsigned long long)before);
        ck_assert_uint_eq(survivors(ids), 1);
        ck_assert_uint_eq(ids[0], FS_ROOT_ID);
        end("reclaimed");
    }
}
END_TEST

/* What the kernel holds stays; once it has let go, the space comes back. */
START_TEST(unlinked_files_are_held) {
    uint64_t before, ids[8];
    int64_t id;

    image_make(1440, "-F 12");
    begin(1, "", 0);
    id = make("file", FS_TYPE_FILE);
    ck_assert(!failed(id));
    ck_assert_int_eq(remove_path("file", false), 0);
    evict((uint64_t)id);
    before = free_blocks();
    id = make("file", FS_TYPE_FILE);
    ck_assert_int_eq(write_at((uint64_t)id, 0, answer_bytes, 30000), 30000);
    ck_assert_int_eq(remove_path("file", false), 0);
    ck_assert_uint_eq(survivors(ids), 2);
    for (unsigned i = 0; i < 3; i++) {
        peer_take_over(&peer);
        /* Loaded and put again: not let go of. */
        ck_assert_int_eq(read_at((uint64_t)id, 0, 30000), 30000);
        ck_assert_mem_eq(response.data, answer_bytes, 30000);
        ck_assert_int_eq(get_attr((uint64_t)id), 0);
        ck_assert_uint_eq(response.attr.nlink, 0);
    }
    ck_assert_uint_lt(free_blocks(), before);
    /* Dies before it has answered: the same EVICT comes again. */
    peer_fence(&peer);
    while (peer.in_flight[PEER_OWN_SLOT]) {
        peer_pump(&peer);
    }
    peer_arm(&peer, 1);
    response.number = peer.last_number;
    evict((uint64_t)id);
    ck_assert_uint_gt(peer.deaths, 3);
    ck_assert_int_eq(sync_volume(), 0);
    ck_assert_uint_eq(free_blocks(), before);
    ck_assert_uint_eq(survivors(ids), 1);
    ck_assert_int_eq(get_attr((uint64_t)id), -ESTALE);
    end("held");
}
END_TEST

/* A takeover with nothing left to do still brings the summaries up to date, and the volume is
 * clean in the end as it was in the beginning; one that was dirty stays so. */
START_TEST(marks_and_summaries) {
    image_make(36000, "-F 32 -s 1");
    begin(1, "", 0);
    for (unsigned i = 0; i < 5; i++) {
        char name[8];
        int64_t id;

        (void)snprintf(name, sizeof(name), "file%u", i);
        id = make(name, FS_TYPE_FILE);
        ck_assert_int_eq(write_at((uint64_t)id, 0, answer_bytes, 5000), 5000);
        if (i == 2) {
            ck_assert_int_eq(sync_volume(), 0);
        }
    }
    end("summaries");

    image[0x41] |= 1; /* the state bit of FAT32's boot sector */
    image_store();
    begin(2, "", 0);
    (void)make("three", FS_TYPE_FILE);
    peer_live(&peer);
    peer_live(&peer);
    peer_end(&peer, image);
    call_elsewhere = NULL;
    ck_assert_uint_eq(image[0x41] & 1, 1);
}
END_TEST

/* ---- nonsense from shared memory ---- */

typedef struct BadObject {
    uint64_t id;
    TxnObjectKind kind;
    uint32_t length;
    uint64_t word; /* the blob begins with it */
} BadObject;

static const BadObject bad_objects[] = {
    {100, TXN_OBJECT_ALIAS, 7, 5},          {100, TXN_OBJECT_ALIAS, 8, 0},
    {100, TXN_OBJECT_ORPHAN, 8, 5},         {100, TXN_OBJECT_RECLAIM, 31, 5},
    {FS_ROOT_ID, TXN_OBJECT_ORPHAN, 32, 5}, {FS_ROOT_ID, TXN_OBJECT_ALIAS, 8, 5},
    {UINT64_MAX, TXN_OBJECT_ORPHAN, 32, 5}, {UINT64_C(1) << 62, TXN_OBJECT_ALIAS, 8, 64},
};

static int put_bad(Txn *txn, void *arg) {
    const BadObject *bad = arg;
    le64 blob[5] = {le64_make(bad->word)};

    return txn_object_put(txn, bad->id, bad->kind, blob, bad->length);
}

/* It costs the right to write, nothing more. */
START_TEST(damaged_objects) {
    _cleanup_(lifeline_freep) Lifeline *lifeline = NULL;
    CacheConfig config = {.block_size = 512};
    Cache *cache;

    image_make(1440, "-F 12");
    ck_assert_int_eq(lifeline_new(1, 4, &lifeline), 0);
    ck_assert_int_eq(block_memory_new(image_size, 512, image, &device), 0);
    config.device = device;
    config.lifeline = lifeline;
    ck_assert_int_eq(cache_new(&config, &cache), 0);
    ck_assert_int_eq(txn_run(cache, NULL, put_bad, (void *)(uintptr_t)&bad_objects[_i]), 0);
    cache_free(cache); /* dies */
    ck_assert_int_eq(volume_new(&fat_type, device, NULL, &volume), 0);
    volume_set_lifeline(volume, lifeline);
    ck_assert_int_eq(local_client_new(volume, &client), 0);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_MOUNT, .flags = FS_REQ_RECOVER}), 0);
    ck_assert_uint_eq(response.flags & FS_RESP_READONLY, FS_RESP_READONLY);
    ck_assert_int_eq(make("file", FS_TYPE_FILE), -EROFS);
    ck_assert_int_eq(get_attr(FS_ROOT_ID), 0);
    (void)get_attr(bad_objects[_i].id);
    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_FENCE}), 0);
    ck_assert_int_eq(unmount_image(), 0);
}
END_TEST

static void read_environment(void) {
    const char *seeds = getenv("BERTH_RECOVER_SEEDS");

    if (seeds != NULL && sscanf(seeds, "%u:%u", &first_seed, &seed_count) >= 1) {
        timers = true;
    }
}

int main(void) {
    Suite *suite = suite_create("recover_fat");
    TCase *c = tcase_create("all");
    SRunner *runner;
    int failed_tests;

    read_environment();
    tcase_set_timeout(c, timers ? 0 : 100);
    tcase_add_checked_fixture(c, NULL, support_done);
    tcase_add_test(c, dying_model);
    tcase_add_test(c, dying_crowd);
    tcase_add_loop_test(c, every_answer, 0, (int)ARRAY_SIZE(answer_cases));
    tcase_add_test(c, created_attributes);
    tcase_add_test(c, chains_are_reclaimed);
    tcase_add_test(c, unlinked_files_are_held);
    tcase_add_test(c, marks_and_summaries);
    tcase_add_loop_test(c, damaged_objects, 0, (int)ARRAY_SIZE(bad_objects));
    suite_add_tcase(suite, c);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed_tests = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_tests == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
