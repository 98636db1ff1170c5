/* SPDX-License-Identifier: MIT */
/*
 * Every operation that changes a FAT volume, with a fault at every point where a transaction can
 * stop: a miss at each cache access in turn, an abort at each write in turn. After each
 * commit and each abort what is in core equals what the cache holds (fat_invariant.h).
 *
 * A miss must not show: the image after unmounting is the same byte for byte. After an abort
 * users see what they saw before (where the operation is one record), and the
 * same operation succeeds when it is tried again.
 */
#include "fat_invariant.h"
#include <linux/falloc.h>

typedef struct Scenario {
    const char *name;
    void (*setup)(void);    /* may be NULL */
    int (*operation)(void); /* 0 or more, or an errno */
    enum {
        ATOMIC,
        STEPS, /* several records, or data written in place: an abort may leave a part */
        QUIET, /* an abort is logged, the rest is done at unmount */
    } kind;
} Scenario;

static uint8_t bytes[70000];

static int result_of(int64_t id) {
    return failed(id) ? (int)id : 0;
}

static int write_path(const char *path, uint64_t offset, uint32_t length) {
    int64_t id = resolve(path);

    return failed(id) ? (int)id : write_at((uint64_t)id, offset, bytes, length);
}

static int set_attr(const char *path, FsSetattr set) {
    int64_t id = resolve(path);

    return failed(id)
               ? (int)id
               : call((FSRequest){.type = FS_MSG_SET_ATTR, .file_id = (uint64_t)id, .set = set});
}

static int set_x(uint64_t id, const char *name, const char *value) {
    return call((FSRequest){.type = FS_MSG_SET_XATTR,
                            .file_id = id,
                            .name = name_of(name),
                            .length = (uint32_t)strlen(value),
                            .payload = (const uint8_t *)value,
                            .payload_length = (uint32_t)strlen(value)});
}

/* What all scenarios start from. "full" has no free slot in its last cluster. */
static void make_tree(void) {
    static const char *const dirs[] = {"one", "two", "two/d", "two/empty", "one/empty", "full"};
    static const char *const files[] = {"one/a file", "two/d/leaf", "lower",
                                        "UPPER.TXT",  "big",        "Some Long Name.text"};
    unsigned per_cluster = 16, count = 2;
    char name[32];

    fill(bytes, sizeof(bytes), 5, 0);
    mount_image("");
    for (unsigned i = 0; i < ARRAY_SIZE(dirs); i++) {
        ck_assert(!failed(make(dirs[i], FS_TYPE_DIRECTORY)));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        ck_assert(!failed(make(files[i], FS_TYPE_FILE)));
    }
    ck_assert_int_gt(write_path("one/a file", 0, 5000), 0);
    ck_assert_int_gt(write_path("big", 0, 20000), 0);
    ck_assert_int_gt(write_path("Some Long Name.text", 0, 700), 0);
    per_cluster = fat_volume(volume_fs(volume))->geo.cluster_size / FAT_ENTRY_SIZE;
    for (; count % per_cluster != 0; count++) {
        (void)snprintf(name, sizeof(name), "full/F%u", count);
        ck_assert(!failed(make(name, FS_TYPE_FILE)));
    }
    ck_assert_int_eq(unmount_image(), 0);
}

/* ---- names ---- */

static int op_create(void) {
    return result_of(make("NEW", FS_TYPE_FILE));
}
static int op_create_long(void) {
    return result_of(make("two/a long name that takes some slots", FS_TYPE_FILE));
}
static int op_create_growing(void) {
    return result_of(make("full/X", FS_TYPE_FILE));
}
static int op_create_long_growing(void) {
    return result_of(make("full/another long name that lies in two sectors", FS_TYPE_FILE));
}
static int op_mkdir(void) {
    return result_of(make("one/directory", FS_TYPE_DIRECTORY));
}
static int op_mkdir_growing(void) {
    return result_of(make("full/a directory", FS_TYPE_DIRECTORY));
}

/* An id is held whose natural place then gets another object. */
static void hold_moved(void) {
    ck_assert_int_eq(rename_path("lower", "two/elsewhere", 0), 0);
}
static int op_create_squatter(void) {
    return result_of(make("squats", FS_TYPE_FILE));
}
static void squat(void) {
    hold_moved();
    ck_assert(!failed(make("squats", FS_TYPE_FILE)));
    evict(response.attr.file_id);
}
static int op_settle(void) {
    return result_of(resolve("squats"));
}
static int op_evict_moved(void) {
    int64_t id = resolve("two/elsewhere");
    le64 wire = le64_make((uint64_t)id);

    return call((FSRequest){.type = FS_MSG_EVICT,
                            .offset = response.number,
                            .payload = (const uint8_t *)&wire,
                            .payload_length = sizeof(wire)});
}

static int op_unlink(void) {
    return remove_path("big", false);
}
static int op_unlink_long(void) {
    return remove_path("Some Long Name.text", false);
}
static int op_rmdir(void) {
    return remove_path("two/empty", true);
}
static int op_rename(void) {
    return rename_path("big", "large", 0);
}
static int op_rename_long(void) {
    return rename_path("Some Long Name.text", "one/quite another long name.text", 0);
}
static int op_rename_growing(void) {
    return rename_path("one/a file", "full/a file", 0);
}
static int op_rename_over(void) {
    return rename_path("big", "one/a file", 0);
}
static int op_rename_over_other_case(void) {
    return rename_path("big", "one/A FILE", 0);
}
static int op_rename_case(void) {
    return rename_path("Some Long Name.text", "some LONG name.TEXT", 0);
}
static int op_rename_case_bits(void) {
    return rename_path("lower", "LOWER", 0);
}
static int op_rename_directory(void) {
    return rename_path("two/d", "one/moved here", 0);
}
static int op_rename_directory_over(void) {
    return rename_path("two/d", "one/empty", 0);
}
static void move_out(void) {
    ck_assert_int_eq(rename_path("two/d/leaf", "leaf", 0), 0);
}
static int op_rmdir_left(void) {
    return remove_path("two/d", true);
}
static int op_rename_over_left(void) {
    return rename_path("one/empty", "two/d", 0);
}

static int op_exchange(void) {
    return rename_path("one/a file", "big", FS_RENAME_EXCHANGE);
}
static int op_exchange_near(void) {
    return rename_path("lower", "UPPER.TXT", FS_RENAME_EXCHANGE);
}
static int op_exchange_directory(void) {
    return rename_path("two/d", "one/a file", FS_RENAME_EXCHANGE);
}
static int op_exchange_directories(void) {
    return rename_path("one/empty", "two/d", FS_RENAME_EXCHANGE);
}
static int op_exchange_growing(void) {
    return rename_path("full/F5", "big", FS_RENAME_EXCHANGE);
}

/* No room beside the first of the two entries: the spare name goes to the other directory. */
static void fill_root(void) {
    int64_t r = 0;
    char name[32];

    for (unsigned i = 0; i < 300 && !failed(r); i++) {
        (void)snprintf(name, sizeof(name), "ROOT%u", i);
        r = make(name, FS_TYPE_FILE);
    }
    ck_assert(!failed(r) || r == -ENOSPC);
}
static int op_exchange_turned(void) {
    return rename_path("big", "one/a file", FS_RENAME_EXCHANGE);
}

/* ---- files ---- */

static int op_write_first(void) {
    return write_path("lower", 0, 3000);
}
static int op_append(void) {
    return write_path("one/a file", 5000, 9000);
}
static int op_write_gap(void) {
    return write_path("one/a file", 17000, 100);
}
static int op_overwrite(void) {
    return write_path("big", 1000, 3000);
}
static int op_shrink(void) {
    return set_attr("big", (FsSetattr){.mask = FS_SET_SIZE, .size = 1500});
}
static int op_empty(void) {
    return set_attr("big", (FsSetattr){.mask = FS_SET_SIZE});
}
static int op_grow(void) {
    return set_attr("one/a file", (FsSetattr){.mask = FS_SET_SIZE, .size = 30000});
}
static int op_shrink_with_times(void) {
    return set_attr("big", (FsSetattr){.mask = FS_SET_SIZE | FS_SET_MTIME,
                                       .size = 1500,
                                       .mtime_ns = TIME_NS - INT64_C(1000000000000)});
}
static int op_times(void) {
    return set_attr("big", (FsSetattr){.mask = FS_SET_MTIME | FS_SET_ATIME,
                                       .mtime_ns = TIME_NS - INT64_C(1000000000000),
                                       .atime_ns = TIME_NS - INT64_C(900000000000000)});
}
static int op_mode(void) {
    return set_attr("big", (FsSetattr){.mask = FS_SET_MODE, .mode = 0555});
}
static int fallocate_path(uint32_t mode) {
    int64_t id = resolve("one/a file");

    return failed(id) ? (int)id
                      : call((FSRequest){.type = FS_MSG_FALLOCATE,
                                         .file_id = (uint64_t)id,
                                         .mode = mode,
                                         .offset = 4000,
                                         .length64 = 20000});
}
static int op_fallocate(void) {
    return fallocate_path(0);
}
static int op_fallocate_keep(void) {
    return fallocate_path(FALLOC_FL_KEEP_SIZE);
}
static void unlink_open(void) {
    ck_assert_int_eq(remove_path("big", false), 0);
}
static uint64_t orphan_id;
static void make_orphan(void) {
    orphan_id = (uint64_t)resolve("big");
    unlink_open();
}
static int op_orphan_write(void) {
    return write_at(orphan_id, 19000, bytes, 9000);
}
static int op_orphan_shrink(void) {
    return set_size(orphan_id, 100);
}
static int op_orphan_evict(void) {
    le64 wire = le64_make(orphan_id);

    return call((FSRequest){.type = FS_MSG_EVICT,
                            .offset = response.number,
                            .payload = (const uint8_t *)&wire,
                            .payload_length = sizeof(wire)});
}

/* ---- the volume ---- */

static int op_label(void) {
    return set_x(FS_ROOT_ID, "user.fat.label", "LABEL");
}
static void label(void) {
    ck_assert_int_eq(op_label(), 0);
}
static int op_label_change(void) {
    return set_x(FS_ROOT_ID, "user.fat.label", "OTHER");
}
static int op_label_remove(void) {
    return call((FSRequest){
        .type = FS_MSG_REMOVE_XATTR, .file_id = FS_ROOT_ID, .name = name_of("user.fat.label")});
}
static int op_dos_attributes(void) {
    int64_t id = resolve("one/a file");

    return failed(id) ? (int)id : set_x((uint64_t)id, "user.DOSATTRIB", "0x02");
}
static void use_space(void) {
    ck_assert_int_gt(op_append(), 0);
}
static int op_sync(void) {
    return sync_volume();
}

static const Scenario scenarios[] = {
    {"create", NULL, op_create, ATOMIC},
    {"create long", NULL, op_create_long, ATOMIC},
    {"create growing", NULL, op_create_growing, ATOMIC},
    {"create long growing", NULL, op_create_long_growing, ATOMIC},
    {"mkdir", NULL, op_mkdir, ATOMIC},
    {"mkdir growing", NULL, op_mkdir_growing, ATOMIC},
    {"create squatter", hold_moved, op_create_squatter, ATOMIC},
    {"settle", squat, op_settle, ATOMIC},
    {"evict moved", hold_moved, op_evict_moved, ATOMIC},
    {"unlink", NULL, op_unlink, ATOMIC},
    {"unlink long", NULL, op_unlink_long, ATOMIC},
    {"rmdir", NULL, op_rmdir, ATOMIC},
    {"rename", NULL, op_rename, ATOMIC},
    {"rename long", NULL, op_rename_long, ATOMIC},
    {"rename growing", NULL, op_rename_growing, ATOMIC},
    {"rename over", NULL, op_rename_over, ATOMIC},
    {"rename over other case", NULL, op_rename_over_other_case, ATOMIC},
    {"rename case", NULL, op_rename_case, ATOMIC},
    {"rename case bits", NULL, op_rename_case_bits, ATOMIC},
    {"rename directory", NULL, op_rename_directory, ATOMIC},
    {"rename directory over", NULL, op_rename_directory_over, ATOMIC},
    {"rmdir left", move_out, op_rmdir_left, ATOMIC},
    {"rename over left", move_out, op_rename_over_left, ATOMIC},
    {"exchange", NULL, op_exchange, ATOMIC},
    {"exchange near", NULL, op_exchange_near, ATOMIC},
    {"exchange directory", NULL, op_exchange_directory, ATOMIC},
    {"exchange directories", NULL, op_exchange_directories, ATOMIC},
    {"exchange growing", NULL, op_exchange_growing, ATOMIC},
    {"exchange turned", fill_root, op_exchange_turned, ATOMIC},
    {"write first", NULL, op_write_first, ATOMIC},
    {"append", NULL, op_append, ATOMIC},
    {"write gap", NULL, op_write_gap, ATOMIC},
    {"overwrite", NULL, op_overwrite, STEPS},
    {"shrink", NULL, op_shrink, ATOMIC},
    {"empty", NULL, op_empty, ATOMIC},
    {"grow", NULL, op_grow, STEPS},
    {"shrink with times", NULL, op_shrink_with_times, ATOMIC},
    {"times", NULL, op_times, ATOMIC},
    {"mode", NULL, op_mode, ATOMIC},
    {"fallocate", NULL, op_fallocate, STEPS},
    {"fallocate keep", NULL, op_fallocate_keep, ATOMIC},
    {"orphan write", make_orphan, op_orphan_write, ATOMIC},
    {"orphan shrink", make_orphan, op_orphan_shrink, ATOMIC},
    {"orphan evict", make_orphan, op_orphan_evict, QUIET},
    {"label", NULL, op_label, ATOMIC},
    {"label change", label, op_label_change, ATOMIC},
    {"label remove", label, op_label_remove, ATOMIC},
    {"dos attributes", NULL, op_dos_attributes, ATOMIC},
    {"sync", use_space, op_sync, STEPS},
};

static const struct {
    unsigned kib;
    const char *args;
} formats[] = {{1440, "-F 12 -s 1"}, {2500, "-F 16 -s 1"}, {4096, "-F 32 -s 1"}};

/* ---- one run with one fault ---- */

typedef enum FaultKind { FAULT_NONE, FAULT_RESTART, FAULT_ABORT, FAULT_COLD } FaultKind;

typedef struct Sweep {
    const Scenario *scenario;
    unsigned format;
    const uint8_t *fresh;
    uint64_t gets, writes;  /* of the operation without a fault */
    uint64_t before, after; /* what users see */
    uint8_t *reference;     /* the image after unmounting */
    uint8_t *checked;       /* the last image that fsck.fat was content with */
    unsigned fired;
} Sweep;

static void check_image(Sweep *sweep, const char *what) {
    if (sweep->checked == NULL || memcmp(sweep->checked, image, image_size) != 0) {
        check_clean(what);
        free(sweep->checked);
        sweep->checked = malloc(image_size);
        memcpy(sweep->checked, image, image_size);
    }
}

static void begin(const Sweep *sweep, const char *what) {
    memcpy(image, sweep->fresh, image_size);
    now_ns = TIME_NS;
    mount_image("log=256K");
    if (sweep->scenario->setup != NULL) {
        sweep->scenario->setup();
    }
    now_ns = TIME_NS + INT64_C(86400000000000);
    (void)invariant_check(what);
}

/* An abort leaves what was there, and the next try succeeds. */
static void try_again(const Sweep *sweep, const char *what) {
    uint64_t seen = invariant_check(what);
    int r;

    ck_assert_msg(sweep->scenario->kind == STEPS || seen == sweep->before,
                  "%s: a part of it is there", what);
    r = sweep->scenario->operation();
    ck_assert_msg(r >= 0, "%s: then %d", what, r);
}

static void run_once(Sweep *sweep, FaultKind kind, uint64_t at) {
    static const char *const kinds[] = {"no fault", "restart", "abort", "cold"};
    CacheDebug *debug;
    uint64_t gets, writes, seen;
    char what[128];
    int r;

    (void)snprintf(what, sizeof(what), "mkfs.fat %s: %s, %s at %llu", formats[sweep->format].args,
                   sweep->scenario->name, kinds[kind], (unsigned long long)at);
    begin(sweep, what);
    debug = cache_debug(volume_fs(volume)->cache);
    gets = debug->gets;
    writes = debug->writes;
    if (kind == FAULT_NONE) {
        sweep->before = invariant_check(what);
        gets = debug->gets;
    }
    debug->restart_at = kind == FAULT_RESTART ? debug->gets + at : 0;
    debug->abort_at = kind == FAULT_ABORT ? debug->writes + at : 0;
    debug->restart_all = kind == FAULT_COLD;
    r = sweep->scenario->operation();
    gets = debug->gets - gets;
    writes = debug->writes - writes;
    *debug = (CacheDebug){.gets = debug->gets, .writes = debug->writes};
    ck_assert_msg(r >= 0 || (r == -EIO && kind == FAULT_ABORT), "%s: %d", what, r);
    if (r == -EIO) {
        sweep->fired++;
        try_again(sweep, what);
    }
    seen = invariant_check(what);
    ck_assert_msg(kind == FAULT_NONE || seen == sweep->after, "%s: the outcome differs", what);
    ck_assert_int_eq(unmount_image(), 0);
    if (kind == FAULT_NONE) {
        sweep->gets = gets;
        sweep->writes = writes;
        sweep->after = seen;
        sweep->reference = malloc(image_size);
        memcpy(sweep->reference, image, image_size);
    }
    ck_assert_msg(kind == FAULT_ABORT || memcmp(sweep->reference, image, image_size) == 0,
                  "%s: the image differs", what);
    check_image(sweep, what);
}

START_TEST(test_sweep) {
    uint8_t *fresh;

    image_make(formats[_i].kib, formats[_i].args);
    make_tree();
    fresh = malloc(image_size);
    memcpy(fresh, image, image_size);
    for (unsigned i = 0; i < ARRAY_SIZE(scenarios); i++) {
        Sweep sweep = {.scenario = &scenarios[i], .format = (unsigned)_i, .fresh = fresh};

        run_once(&sweep, FAULT_NONE, 0);
        /* Objects and identities alone can be changed without a write. */
        ck_assert_msg(sweep.writes > 0 || sweep.before == sweep.after, "%s: no writes",
                      scenarios[i].name);
        run_once(&sweep, FAULT_COLD, 0);
        for (uint64_t at = 1; at <= sweep.gets; at++) {
            run_once(&sweep, FAULT_RESTART, at);
        }
        for (uint64_t at = 1; at <= sweep.writes; at++) {
            run_once(&sweep, FAULT_ABORT, at);
        }
        ck_assert_msg(sweep.fired > 0 || sweep.writes == 0 || scenarios[i].kind == QUIET,
                      "%s: no abort showed", scenarios[i].name);
        free(sweep.reference);
        free(sweep.checked);
    }
    free(fresh);
}
END_TEST

/* Two sectors and no slot for the spare name: refused, and nothing has changed. */
START_TEST(test_exchange_without_room) {
    int64_t first, last;
    uint64_t seen;

    image_make(1440, "-F 12 -r 32");
    mount_image("");
    first = make("FIRST", FS_TYPE_FILE);
    (void)make("SECOND", FS_TYPE_FILE);
    fill_root();
    last = resolve("ROOT29");
    ck_assert(!failed(last));
    seen = invariant_check("before");
    ck_assert_int_eq(rename_path("FIRST", "ROOT29", FS_RENAME_EXCHANGE), -ENOSPC);
    ck_assert_uint_eq(invariant_check("refused"), seen);
    ck_assert_int_eq(resolve("FIRST"), first);
    ck_assert_int_eq(rename_path("FIRST", "SECOND", FS_RENAME_EXCHANGE), 0);
    ck_assert_int_eq(resolve("SECOND"), first);
    ck_assert_int_eq(remove_path("ROOT7", false), 0);
    ck_assert_int_eq(rename_path("SECOND", "ROOT29", FS_RENAME_EXCHANGE), 0);
    ck_assert_int_eq(resolve("ROOT29"), first);
    ck_assert_int_eq(resolve("SECOND"), last);
    /* The slot of the spare name is free again. */
    ck_assert(!failed(make("AGAIN", FS_TYPE_FILE)));
    (void)invariant_check("after");
    ck_assert_int_eq(unmount_image(), 0);
    check_clean("exchange without room");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fat sweep");
    TCase *sweeps = tcase_create("sweeps");
    SRunner *runner;
    int failures;

    if (run("PATH=$PATH:/usr/sbin:/sbin; { command -v mkfs.fat && command -v fsck.fat; } "
            ">/dev/null") != 0) {
        (void)fprintf(stderr, "skipped: dosfstools are not installed\n");
        return 77;
    }
    log_init("test_fat_sweep", LOG_LEVEL_ERROR); /* evictions that fail are what was asked for */
    tcase_add_checked_fixture(sweeps, NULL, support_done);
    tcase_set_timeout(sweeps, 120);
    tcase_add_loop_test(sweeps, test_sweep, 0, ARRAY_SIZE(formats));
    tcase_add_test(sweeps, test_exchange_without_room);
    suite_add_tcase(suite, sweeps);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? 0 : 1;
}
