/* SPDX-License-Identifier: MIT */
/*
 * The framework below the messages: names, options, byte-range locks, the inode
 * table's rules, and file I/O with its pipeline of extending writes, over the toy
 * filesystem. Tests with fibers run a loop of their own; where an order of events
 * matters, the toy's knobs suspend at the chosen place.
 */
#include "berth/log.h"
#include "toyfs.h"
#include <check.h>

/* ---- names and options ---- */

static int check_name(const char *text, size_t length) {
    return fs_name_check(&(FsName){text, (uint32_t)length});
}

START_TEST(test_name_rules) {
    char longest[300];

    memset(longest, 'x', sizeof(longest));
    ck_assert_int_eq(check_name("a", 1), 0);
    ck_assert_int_eq(check_name("...", 3), 0);
    ck_assert_int_eq(check_name(".a", 2), 0);
    ck_assert_int_eq(check_name("\xc3\xa9t\xc3\xa9", 5), 0);
    ck_assert_int_eq(check_name(longest, 255), 0);
    ck_assert_int_eq(check_name(longest, 256), -ENAMETOOLONG);
    ck_assert_int_eq(check_name("", 0), -EINVAL);
    ck_assert_int_eq(check_name(".", 1), -EINVAL);
    ck_assert_int_eq(check_name("..", 2), -EINVAL);
    ck_assert_int_eq(check_name("a/b", 3), -EINVAL);
    ck_assert_int_eq(check_name("a\0b", 3), -EINVAL);
    ck_assert_int_eq(check_name("\xff", 1), -EILSEQ);
    ck_assert_int_eq(check_name("\xc3", 1), -EILSEQ);
}
END_TEST

START_TEST(test_options) {
    FsMountOptions options;
    char text[128];

    ck_assert_int_eq(fs_options_parse("", &options, text), 0);
    ck_assert(!options.readonly && options.uid == 0 && options.fmask == 022 &&
              options.errors == ERRORS_REMOUNT_RO && options.extra[0] == '\0');
    ck_assert_int_eq(fs_options_parse("ro,uid=1000,gid=100,umask=077,dmask=7,errors=continue,"
                                      "commit=2.5,cache=2M,case=exact,codepage=850,tz=a\\,b,quiet",
                                      &options, text),
                     0);
    ck_assert(options.readonly && options.uid == 1000 && options.gid == 100);
    ck_assert_uint_eq(options.fmask, 077);
    ck_assert_uint_eq(options.dmask, 7);
    ck_assert_uint_eq(options.errors, ERRORS_CONTINUE);
    ck_assert_uint_eq(options.commit_ns, UINT64_C(2500000000));
    ck_assert_uint_eq(options.cache_bytes, 2u << 20);
    ck_assert(options.case_exact);
    ck_assert_str_eq(options.extra, "codepage=850,tz=a\\,b,quiet");
    ck_assert_int_eq(fs_options_parse("ro,rw", &options, text), 0);
    ck_assert(!options.readonly);
}
END_TEST

START_TEST(test_bad_options) {
    static const char *const bad[] = {"uid=",       "uid=-1",      "uid=x",        "umask=9",
                                      "errors=now", "errors",      "commit=never", "ro=1",
                                      "case=upper", "cache=9999G", "umask=77777"};
    FsMountOptions options = {.uid = 42};
    char text[128], many[1200] = "a";

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int r = fs_options_parse(bad[i], &options, text);

        ck_assert_msg(r < 0, "%s was accepted", bad[i]);
        ck_assert_msg(strncmp(strstr(text, "option ") + 7, bad[i], 2) == 0, "%s: text \"%s\"",
                      bad[i], text);
    }
    for (unsigned i = 0; i < 100; i++) {
        strcat(many, ",abcdefghi");
    }
    ck_assert_int_eq(fs_options_parse(many, &options, text), -EINVAL);
    ck_assert_uint_eq(options.uid, 42); /* untouched by failures */
}
END_TEST

/* ---- fibers ---- */

static Loop *loop;

static void setup_loop(void) {
    toy = (struct ToyKnobs){0};
    ck_assert_int_eq(loop_new(&(LoopConfig){.no_ring = true}, &loop), 0);
}

static void teardown_loop(void) {
    loop = loop_free(loop);
}

static void run_fibers(void) {
    (void)fiber_run_ready();
    ck_assert_msg(fiber_count() == 0, "%u fibers are stuck", fiber_count());
}

/* ---- byte ranges ---- */

typedef struct RangeUser {
    FsRangeLock *lock;
    uint64_t start, length;
    bool exclusive, has_it;
    bool release;
} RangeUser;

static void range_fiber(void *arg) {
    RangeUser *user = arg;
    FsRangeHold hold;

    fs_range_lock(user->lock, &hold, user->start, user->length, user->exclusive);
    user->has_it = true;
    while (!user->release) {
        fiber_yield();
    }
    user->has_it = false;
    fs_range_unlock(user->lock, &hold);
}

/* Lets every fiber run a few times. */
static void turn(void *arg) {
    unsigned *rounds = arg;

    while ((*rounds)-- > 0) {
        fiber_yield();
    }
}

static bool state_is(const RangeUser *users, const char *expected) {
    for (size_t i = 0; expected[i] != '\0'; i++) {
        if (users[i].has_it != (expected[i] == '1')) {
            return false;
        }
    }
    return true;
}

/* Watches from a fiber of its own: the others yield for ever until released. */
typedef struct RangeScript {
    RangeUser *users;
    size_t count;
    const char *const *expected; /* one more than count: before and after each release */
    const size_t *releases;
    int failed_at;
} RangeScript;

static void range_script(void *arg) {
    RangeScript *script = arg;

    for (size_t step = 0;; step++) {
        unsigned rounds = 5;

        turn(&rounds);
        if (script->failed_at < 0 && !state_is(script->users, script->expected[step])) {
            script->failed_at = (int)step;
        }
        if (step == script->count) {
            return;
        }
        script->users[script->releases[step]].release = true;
    }
}

START_TEST(test_range_order) {
    FsRangeLock lock;
    RangeUser users[] = {
        {&lock, 0, 100, false, false, false},  {&lock, 50, 100, false, false, false},
        {&lock, 0, 10, true, false, false},    {&lock, 0, 5, false, false, false},
        {&lock, 1000, 10, true, false, false}, {&lock, 5, UINT64_MAX, false, false, false},
    };
    /* Readers 0 and 1 share. Writer 2 waits for 0; reader 3 must not overtake it; 4 is elsewhere;
     * 5 conflicts with 2, which came first, and with 4. */
    static const char *const steps[] = {"110010", "011010", "001010", "000110",
                                        "000010", "000001", "000000"};
    static const size_t releases[] = {0, 1, 2, 3, 4, 5};
    RangeScript script = {users, ARRAY_SIZE(users), steps, releases, -1};

    fs_range_init(&lock);
    for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
        ck_assert_ptr_nonnull(fiber_spawn(range_fiber, &users[i], "range"));
    }
    ck_assert_ptr_nonnull(fiber_spawn(range_script, &script, "script"));
    run_fibers();
    ck_assert_msg(script.failed_at < 0, "state after step %d is wrong", script.failed_at);
    ck_assert(list_empty(&lock.held) && list_empty(&lock.waiting));
}
END_TEST

/* ---- a mounted toy ---- */

static BlockDevice *memory, *device;
static BlockFaults faults;
static FileSystem *fs;

static void mount_toy(Loop *with) {
    FsMountOptions options;
    char text[256];

    faults = (BlockFaults){0};
    ck_assert_int_eq(block_memory_new(TOY_BLOCKS * TOY_BLOCK, 512, NULL, &memory), 0);
    ck_assert_int_eq(block_fault_new(memory, &faults, &device), 0);
    ck_assert_int_eq(fs_options_parse("", &options, text), 0);
    ck_assert_int_eq(fs_mount(&toy_type, device, with, &options, &fs, text), 0);
}

static void unmount_fiber(void *arg) {
    *(int *)arg = fs_unmount(fs);
}

static void setup_mounted(void) {
    setup_loop();
    mount_toy(loop);
}

static void teardown_mounted(void) {
    int r = 1;

    ck_assert_ptr_nonnull(fiber_spawn(unmount_fiber, &r, "unmount"));
    run_fibers();
    ck_assert_int_eq(r, 0);
    device = block_free(device);
    memory = block_free(memory);
    teardown_loop();
}

/* A file in the toy's table, without the framework. */
static ToyFile *make_file(unsigned index) {
    ToyFile *file = &toy_fs(fs)->files[index];

    *file = (ToyFile){
        .used = true,
        .parent = FS_ROOT_ID,
        .attr = {.file_id = TOY_ID(index), .type = FS_TYPE_FILE, .nlink = 1},
    };
    (void)snprintf(file->name, sizeof(file->name), "file%u", index);
    return file;
}

typedef struct Getter {
    uint64_t file_id;
    int result;
    FsInode *inode;
} Getter;

static void get_fiber(void *arg) {
    Getter *getter = arg;

    getter->result = fs_inode_get(fs, getter->file_id, 0, &getter->inode);
}

static void forget_fiber(void *arg) {
    Getter *getter = arg;

    getter->result = fs_inode_forget(fs, getter->file_id, (uint64_t)(uintptr_t)getter->inode);
}

START_TEST(test_one_load_for_many) {
    Getter getters[5];

    (void)make_file(1);
    toy.load_yields = 3;
    for (size_t i = 0; i < ARRAY_SIZE(getters); i++) {
        getters[i] = (Getter){TOY_ID(1), 1, NULL};
        ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getters[i], "get"));
    }
    run_fibers();
    ck_assert_uint_eq(toy.loads, 1);
    for (size_t i = 0; i < ARRAY_SIZE(getters); i++) {
        ck_assert_int_eq(getters[i].result, 0);
        ck_assert_ptr_eq(getters[i].inode, getters[0].inode);
    }
    ck_assert_uint_eq(getters[0].inode->refs, 5);
    for (size_t i = 0; i < ARRAY_SIZE(getters); i++) {
        fs_inode_put(getters[i].inode);
    }
    ck_assert_ptr_nonnull(fs_inode_peek(fs, TOY_ID(1))); /* kept for a while */
}
END_TEST

START_TEST(test_failed_load_is_shared_and_forgotten) {
    Getter getters[4];

    (void)make_file(1);
    toy.load_yields = 3;
    toy.load_error = -EIO;
    for (size_t i = 0; i < ARRAY_SIZE(getters); i++) {
        getters[i] = (Getter){TOY_ID(1), 1, NULL};
        ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getters[i], "get"));
    }
    run_fibers();
    ck_assert_uint_eq(toy.loads, 1);
    for (size_t i = 0; i < ARRAY_SIZE(getters); i++) {
        ck_assert_int_eq(getters[i].result, -EIO);
    }
    ck_assert_uint_eq(fs_inode_count(fs), 0);
    toy.load_error = 0;
    getters[0].result = 1;
    ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getters[0], "get"));
    run_fibers();
    ck_assert_int_eq(getters[0].result, 0);
    fs_inode_put(getters[0].inode);
}
END_TEST

static void forget(uint64_t file_id, uint64_t seen) {
    Getter getter = {file_id, 1, (FsInode *)(uintptr_t)seen};

    ck_assert_ptr_nonnull(fiber_spawn(forget_fiber, &getter, "forget"));
    run_fibers();
    ck_assert_int_eq(getter.result, 0);
}

START_TEST(test_forget_rule) {
    Getter getter = {TOY_ID(1), 1, NULL};
    ToyFile *file = make_file(1);

    ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getter, "get"));
    run_fibers();
    fs_inode_grant(getter.inode, 10);
    file->attr.nlink = getter.inode->attr.nlink = 0;
    forget(TOY_ID(1), 9); /* granted later than that */
    ck_assert_uint_eq(getter.inode->granted, 10);
    forget(TOY_ID(1), 10); /* let go, but referenced here */
    ck_assert_uint_eq(toy.evictions, 0);
    ck_assert(fs_inode_held(getter.inode));
    fs_inode_put(getter.inode);
    run_fibers(); /* the reaper's */
    ck_assert_uint_eq(toy.evictions, 1);
    ck_assert_uint_eq(fs_inode_count(fs), 0);
    ck_assert(!file->used);
    forget(TOY_ID(1), 99);
    forget(FS_ROOT_ID, 99);
}
END_TEST

/* Who wants an id that is being evicted waits, and then finds what is there now. */
START_TEST(test_get_during_eviction) {
    Getter getter = {TOY_ID(1), 1, NULL};

    make_file(1)->attr.nlink = 0;
    ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getter, "get"));
    run_fibers();
    toy.load_yields = 5;
    fs_inode_put(getter.inode); /* starts the reaper */
    ck_assert_ptr_null(fs_inode_peek(fs, TOY_ID(1)));
    ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getter, "get"));
    run_fibers();
    ck_assert_int_eq(getter.result, -ESTALE);
    ck_assert_uint_eq(toy.evictions, 1);
}
END_TEST

/* What is loaded after a grant may have been granted by it. */
START_TEST(test_load_counts_as_granted) {
    Getter getter = {TOY_ID(1), 1, NULL};

    (void)make_file(1);
    fs_inode_grant_absent(fs, 20);
    ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getter, "get"));
    run_fibers();
    ck_assert_uint_eq(getter.inode->granted, 20);
    fs_inode_put(getter.inode);
    ck_assert(fs_inode_held(fs_inode_peek(fs, TOY_ID(1))));
    forget(TOY_ID(1), 20);
    ck_assert(!fs_inode_held(fs_inode_peek(fs, TOY_ID(1))));
}
END_TEST

START_TEST(test_new_inode) {
    FsInode *inode = NULL, *again = NULL;

    (void)make_file(2);
    ck_assert_int_eq(fs_inode_new(fs, TOY_ID(2), &inode), 0);
    ck_assert_int_eq(fs_inode_new(fs, TOY_ID(2), &again), -EEXIST);
    ck_assert_int_eq(fs_inode_get(fs, TOY_ID(2), 0, &again), 0);
    ck_assert_ptr_eq(inode, again);
    ck_assert_uint_eq(toy.loads, 0);
    fs_inode_put(again);
    fs_inode_put(inode);
}
END_TEST

/* Unreferenced inodes stay for a while, in a bounded number; the oldest go first. */
START_TEST(test_unused_are_bounded) {
    const uint64_t count = 8192 + 500;
    FsInode *dead = NULL;

    toy.any_id = true;
    for (uint64_t i = 0; i < count; i++) {
        FsInode *inode = NULL;

        ck_assert_int_eq(fs_inode_get(fs, 1000 + i, 0, &inode), 0);
        if (i == 0) {
            dead = inode;
            fs_inode_grant(inode, 1);
            inode->attr.nlink = 0; /* unlinked and held: it must not go */
        }
        fs_inode_put(inode);
    }
    ck_assert_uint_le(fs_inode_count(fs), 8193);
    ck_assert_uint_ge(toy.evictions, 499);
    ck_assert_ptr_null(fs_inode_peek(fs, 1001));
    ck_assert_ptr_nonnull(fs_inode_peek(fs, 1000 + count - 1));
    ck_assert_ptr_eq(fs_inode_peek(fs, 1000), dead);
    dead->attr.nlink = 1;
}
END_TEST

/* ---- file I/O ---- */

typedef struct Writer {
    uint64_t offset;
    uint32_t length;
    uint8_t fill;
    int64_t result;
    uint8_t bytes[8192];
} Writer;

static FsInode *file;
static uint64_t slow_offset;
static unsigned slow_yields;

/* The payload of the write at slow_offset takes a while. */
static void slow_map(uint64_t offset, uint32_t flags) {
    if (flags != 0 && offset == slow_offset) {
        toy_suspend(slow_yields);
    }
}

static void write_fiber(void *arg) {
    Writer *writer = arg;
    const FsCall call = {.time_ns = 5};

    memset(writer->bytes, writer->fill, writer->length);
    writer->result = fs_file_write(file, &call, writer->offset, writer->bytes, writer->length);
}

static void setup_file(void) {
    Getter getter = {TOY_ID(1), 1, NULL};

    setup_mounted();
    /* What a freed block held before: it must never be seen. */
    memset(block_memory_data(memory), 0xee, TOY_BLOCKS * TOY_BLOCK);
    (void)make_file(1);
    ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getter, "get"));
    run_fibers();
    file = getter.inode;
    slow_offset = UINT64_MAX;
    slow_yields = 20;
    toy.on_map = slow_map;
}

static void teardown_file(void) {
    ck_assert_ptr_null(file->append);
    ck_assert(list_empty(&file->ranges.held) && list_empty(&file->ranges.waiting));
    fs_inode_put(file);
    teardown_mounted();
}

static void write_all(Writer *writers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ck_assert_ptr_nonnull(fiber_spawn(write_fiber, &writers[i], "write"));
    }
    run_fibers();
}

/* The file holds exactly these runs of bytes: pairs of length and value, ended by length 0. */
static void expect_runs(const unsigned *runs) {
    static uint8_t bytes[65536];
    uint64_t size = 0, at = 0;

    for (const unsigned *run = runs; run[0] != 0; run += 2) {
        size += run[0];
    }
    ck_assert_uint_eq(file->attr.size, size);
    memset(bytes, 0x55, sizeof(bytes));
    ck_assert_int_eq(fs_file_read(file, 0, bytes, sizeof(bytes)), (int64_t)size);
    for (const unsigned *run = runs; run[0] != 0; run += 2) {
        for (unsigned i = 0; i < run[0]; i++, at++) {
            if (bytes[at] != run[1]) {
                ck_abort_msg("byte %llu is %#x instead of %#x", (unsigned long long)at, bytes[at],
                             run[1]);
            }
        }
    }
}
#define EXPECT_RUNS(...) expect_runs((const unsigned[]){__VA_ARGS__, 0, 0})

START_TEST(test_appends_overlap_and_commit_in_order) {
    static Writer writers[3];

    writers[0] = (Writer){.offset = 0, .length = 1000, .fill = 1};
    writers[1] = (Writer){.offset = 1000, .length = 1000, .fill = 2};
    writers[2] = (Writer){.offset = 2000, .length = 500, .fill = 3};
    slow_offset = 0; /* the first is the last to have its payload written */
    write_all(writers, 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(writers[i].result, writers[i].length);
        ck_assert_uint_eq(toy.commit_order[i], writers[i].offset);
    }
    EXPECT_RUNS(1000, 1, 1000, 2, 500, 3);
}
END_TEST

START_TEST(test_gaps_out_of_order) {
    static Writer writers[3];

    writers[0] = (Writer){.offset = 3000, .length = 100, .fill = 1};
    writers[1] = (Writer){.offset = 0, .length = 700, .fill = 2}; /* into the first one's gap */
    writers[2] = (Writer){.offset = 5000, .length = 10, .fill = 3};
    slow_offset = 3000;
    write_all(writers, 3);
    EXPECT_RUNS(700, 2, 2300, 0, 100, 1, 1900, 0, 10, 3);
}
END_TEST

/* The first of two fails: what it covered reads as zeros, not as what the blocks held before. */
START_TEST(test_first_of_two_fails) {
    static Writer writers[2];

    writers[0] = (Writer){.offset = 0, .length = 1000, .fill = 1};
    writers[1] = (Writer){.offset = 1000, .length = 1000, .fill = 2};
    if (_i == 0) {
        slow_offset = 0;
        faults.fail_write_at = 2; /* the first to be issued is the second's */
    } else {
        slow_offset = 1000;
        toy.commit_error = -EIO; /* payload written, record not */
        toy.commit_error_offset = 0;
    }
    write_all(writers, 2);
    ck_assert_int_eq(writers[0].result, -EIO);
    ck_assert_int_eq(writers[1].result, 1000);
    EXPECT_RUNS(1000, 0, 1000, 2);
}
END_TEST

/* The first fails and its place cannot even be zeroed: the second must not expose it. */
START_TEST(test_first_of_two_fails_for_good) {
    static Writer writers[3];

    writers[0] = (Writer){.offset = 0, .length = 512, .fill = 1};
    writers[1] = (Writer){.offset = 512, .length = 512, .fill = 2};
    slow_offset = 0;                     /* the second is queued behind it by then */
    faults.fail_range_start = TOY_BLOCK; /* the first block that the toy hands out */
    faults.fail_range_length = TOY_BLOCK;
    write_all(writers, 2);
    ck_assert_int_eq(writers[0].result, -EIO);
    ck_assert_int_eq(writers[1].result, -EIO);
    ck_assert_uint_eq(file->attr.size, 0);
    ck_assert_uint_eq(toy_blocks_used(fs), 0);
    faults.fail_range_length = 0;
    writers[2] = (Writer){.offset = 600, .length = 100, .fill = 3};
    write_all(&writers[2], 1);
    EXPECT_RUNS(600, 0, 100, 3);
}
END_TEST

/* The second fails: only what is beyond the first's end is given back, and after both. */
START_TEST(test_second_of_two_fails) {
    static Writer writers[2];

    writers[0] = (Writer){.offset = 0, .length = 1000, .fill = 1};
    writers[1] = (Writer){.offset = 1000, .length = 4000, .fill = 2};
    slow_offset = 0;
    toy.commit_error = -EIO;
    toy.commit_error_offset = 1000;
    write_all(writers, 2);
    ck_assert_int_eq(writers[0].result, 1000);
    ck_assert_int_eq(writers[1].result, -EIO);
    ck_assert_uint_eq(toy.last_keep_end, 1000);
    ck_assert_uint_eq(toy_blocks_used(fs), 2);
    EXPECT_RUNS(1000, 1);
}
END_TEST

START_TEST(test_no_space) {
    static Writer writers[3];

    toy.block_limit = 4;
    writers[0] = (Writer){.offset = 0, .length = 1024, .fill = 1};
    writers[1] = (Writer){.offset = 1024, .length = 4096, .fill = 2};
    writers[2] = (Writer){.offset = 1024, .length = 512, .fill = 3};
    slow_offset = 0;
    write_all(writers, 3);
    ck_assert_int_eq(writers[0].result, 1024);
    ck_assert_int_eq(writers[1].result, -ENOSPC);
    ck_assert_int_eq(writers[2].result, 512);
    ck_assert_uint_eq(toy_blocks_used(fs), 3);
    EXPECT_RUNS(1024, 1, 512, 3);
}
END_TEST

/* Space of an unlinked file that is being reclaimed is waited for. */
START_TEST(test_no_space_waits_for_reclaim) {
    static Writer writer;
    Getter getter = {TOY_ID(2), 1, NULL};
    ToyFile *other = make_file(2);

    toy.block_limit = 4;
    other->attr.nlink = 0;
    ck_assert_ptr_nonnull(fiber_spawn(get_fiber, &getter, "get"));
    run_fibers();
    ck_assert_int_eq(toy_reserve(getter.inode, 4 * TOY_BLOCK), 0);
    toy.load_yields = 5;
    fs_inode_put(getter.inode); /* the reaper will take its time */
    writer = (Writer){.offset = 0, .length = 1024, .fill = 1};
    write_all(&writer, 1);
    ck_assert_int_eq(writer.result, 1024);
    EXPECT_RUNS(1024, 1);
}
END_TEST

START_TEST(test_overwrite) {
    static Writer writers[3];

    writers[0] = (Writer){.offset = 0, .length = 3000, .fill = 1};
    write_all(writers, 1);
    writers[1] = (Writer){.offset = 500, .length = 1500, .fill = 2};
    writers[2] = (Writer){.offset = 1000, .length = 100, .fill = 3}; /* after it, though faster */
    slow_offset = 500;
    write_all(writers + 1, 2);
    EXPECT_RUNS(500, 1, 500, 2, 100, 3, 900, 2, 1000, 1);
    ck_assert_uint_eq(toy.commits, 3); /* one record each, in place as well */

    faults.fail_write_at = 1;
    write_all(writers + 1, 1);
    ck_assert_int_eq(writers[1].result, -EIO);
    ck_assert_uint_eq(toy.commits, 3);
}
END_TEST

START_TEST(test_adjacent_extents_are_one_request) {
    static Writer writer;
    static uint8_t bytes[8192];
    uint64_t reads, writes = device->stats.writes;

    writer = (Writer){.offset = 0, .length = 8192, .fill = 9};
    write_all(&writer, 1);
    ck_assert_uint_eq(device->stats.writes - writes, 1);
    reads = device->stats.reads;
    ck_assert_int_eq(fs_file_read(file, 0, bytes, sizeof(bytes)), 8192);
    ck_assert_uint_eq(device->stats.reads - reads, 1);
    faults.fail_read_at = 1;
    ck_assert_int_eq(fs_file_read(file, 0, bytes, sizeof(bytes)), -EIO);
    ck_assert_int_eq(fs_file_read(file, 8192, bytes, 1), 0);
    ck_assert_int_eq(fs_file_read(file, 8000, bytes, 1000), 192);
}
END_TEST

/* The rest of the last page is the file's: one whole page is written, and what follows it is not.
 */
START_TEST(test_ragged_end_is_filled_up) {
    static Writer writers[2];
    const uint8_t *data = block_memory_data(memory);
    uint64_t writes = device->stats.writes;
    FsExtent extent;

    device->direct_alignment = 512;
    writers[0] = (Writer){.offset = 0, .length = 700, .fill = 7};
    write_all(writers, 1);
    ck_assert_uint_eq(device->stats.writes - writes, 2); /* a whole page, and the ragged one */
    ck_assert_int_eq(fs->type->ops->map(file, 0, 0, &extent), 0);
    for (unsigned at = 0; at < 1100; at++) {
        unsigned expected = at < 700 ? 7 : at < 1024 ? 0 : 0xee;
        if (data[extent.device_offset + at] != expected) {
            ck_abort_msg("byte %u is %#x on the device", at, data[extent.device_offset + at]);
        }
    }
    /* Two at once: the second begins in the page that the first fills up. */
    writers[0] = (Writer){.offset = 1024, .length = 100, .fill = 8};
    writers[1] = (Writer){.offset = 1124, .length = 10, .fill = 9};
    slow_offset = 1123;
    write_all(writers, 2);
    EXPECT_RUNS(700, 7, 324, 0, 100, 8, 10, 9);
}
END_TEST

/* Random writers with random delays and failures against a model of the bytes. */
static unsigned seed;

static void random_map(uint64_t offset, uint32_t flags) {
    (void)offset;
    (void)flags;
    toy_suspend((unsigned)rand_r(&seed) % 4);
}

START_TEST(test_random_writers) {
    static Writer writers[8];
    static uint8_t bytes[32768];

    seed = 7000u + (unsigned)_i;
    fiber_set_chaos(_i % 2 != 0 ? seed : 0); /* locks that are free suspend as well */
    device->direct_alignment = _i % 3 == 0 ? 512 : 0;
    toy.on_map = random_map;
    for (unsigned round = 0; round < 20; round++) {
        uint64_t size = file->attr.size;

        for (unsigned i = 0; i < ARRAY_SIZE(writers); i++) {
            uint64_t base = (unsigned)rand_r(&seed) % 2 ? size : 0;

            writers[i].offset = base / 2 + (unsigned)rand_r(&seed) % 4000;
            writers[i].length = 1 + (unsigned)rand_r(&seed) % 3000;
            writers[i].fill = (uint8_t)(1 + i);
        }
        faults.fail_write_at = (unsigned)rand_r(&seed) % 30;
        write_all(writers, ARRAY_SIZE(writers));
        ck_assert_uint_le(file->attr.size, sizeof(bytes));
        ck_assert_uint_eq(toy_blocks_used(fs), div_ceil(file->attr.size, TOY_BLOCK));
        faults.fail_write_at = 0;
        ck_assert_int_eq(fs_file_read(file, 0, bytes, sizeof(bytes)), (int64_t)file->attr.size);
        for (uint64_t at = 0; at < file->attr.size; at++) {
            if (bytes[at] == 0xee) { /* (each ck_assert costs a message: too slow by the byte) */
                ck_abort_msg("seed %u round %u: byte %llu of %llu was never written",
                             7000u + (unsigned)_i, round, (unsigned long long)at,
                             (unsigned long long)file->attr.size);
            }
        }
        for (unsigned i = 0; i < ARRAY_SIZE(writers); i++) {
            ck_assert(writers[i].result == writers[i].length || writers[i].result == -EIO);
            if (writers[i].result < 0) {
                continue;
            }
            /* Nothing zeroed what was acknowledged (fills are never 0). */
            for (uint64_t at = writers[i].offset; at < writers[i].offset + writers[i].length;
                 at++) {
                if (bytes[at] == 0) {
                    ck_abort_msg("seed %u round %u: write %u lost byte %llu", 7000u + (unsigned)_i,
                                 round, i, (unsigned long long)at);
                }
            }
        }
        if (file->attr.size > 20000) {
            ck_assert_int_eq(toy_setattr(file, NULL, &(FsSetattr){.mask = FS_SET_SIZE}), 0);
        }
    }
    fiber_set_chaos(0);
}
END_TEST

static Suite *vfs_suite(void) {
    Suite *suite = suite_create("vfs");
    TCase *pure = tcase_create("pure");
    TCase *ranges = tcase_create("ranges");
    TCase *inodes = tcase_create("inodes");
    TCase *io = tcase_create("io");

    tcase_add_test(pure, test_name_rules);
    tcase_add_test(pure, test_options);
    tcase_add_test(pure, test_bad_options);
    suite_add_tcase(suite, pure);
    tcase_add_checked_fixture(ranges, setup_loop, teardown_loop);
    tcase_add_test(ranges, test_range_order);
    suite_add_tcase(suite, ranges);
    tcase_add_checked_fixture(inodes, setup_mounted, teardown_mounted);
    tcase_add_test(inodes, test_one_load_for_many);
    tcase_add_test(inodes, test_failed_load_is_shared_and_forgotten);
    tcase_add_test(inodes, test_forget_rule);
    tcase_add_test(inodes, test_get_during_eviction);
    tcase_add_test(inodes, test_load_counts_as_granted);
    tcase_add_test(inodes, test_new_inode);
    tcase_add_test(inodes, test_unused_are_bounded);
    suite_add_tcase(suite, inodes);
    tcase_add_checked_fixture(io, setup_file, teardown_file);
    tcase_add_test(io, test_appends_overlap_and_commit_in_order);
    tcase_add_test(io, test_gaps_out_of_order);
    tcase_add_loop_test(io, test_first_of_two_fails, 0, 2);
    tcase_add_test(io, test_first_of_two_fails_for_good);
    tcase_add_test(io, test_second_of_two_fails);
    tcase_add_test(io, test_no_space);
    tcase_add_test(io, test_no_space_waits_for_reclaim);
    tcase_add_test(io, test_overwrite);
    tcase_add_test(io, test_adjacent_extents_are_one_request);
    tcase_add_test(io, test_ragged_end_is_filled_up);
    tcase_add_loop_test(io, test_random_writers, 0, 30);
    suite_add_tcase(suite, io);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(vfs_suite());
    int failed;

    log_init("test_vfs", LOG_LEVEL_ERROR);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
