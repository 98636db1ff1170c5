/* SPDX-License-Identifier: MIT */
/*
 * Random operations on an HFS volume, held against a model of the tree of files with both
 * forks, the resource fork as an attribute and as a file that may be held when its own is gone:
 * with cold caches (every body restarts), with bodies that fail at any of their writes and must
 * then have changed nothing, with names that differ in case and accents only; and by a daemon that
 * dies all the time, and whose successors go on (recover_peer.h). The checker looks at the volume
 * at each unmount.
 */
#include "hfs_support.h"
#include "recover_peer.h"

#define OBJECTS 70u
#define SIZE_MAX_FILE 40000u
#define FORK_MAX 3000u
#define HELD 6u
#define RESOURCE "user.com.apple.ResourceFork"
#define FINDER "user.com.apple.FinderInfo"

typedef struct Object {
    bool used, directory;
    unsigned parent; /* index; 0 is the root */
    char name[100];
    uint64_t id;
    uint32_t size, resource_size;
    uint8_t info;
    bool fork_shown; /* looked up, and not let go of */
    uint8_t *data;
    uint8_t resource[FORK_MAX];
} Object;

/* A fork that is held while its file has been removed. */
typedef struct Held {
    uint64_t id; /* 0: none */
    uint32_t size;
    uint8_t bytes[FORK_MAX];
} Held;

static Object objects[OBJECTS];
static Held held[HELD];
static uint64_t random_state;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

/* ---- the model ---- */

static const char *const stems[] = {"a",
                                    "A",
                                    "\xc3\xa9t\xc3\xa9",
                                    "\xc3\x89t\xc3\xa9",
                                    "Icon\xef\x80\x8d",
                                    "long name with blanks in it ",
                                    "LONG NAME WITH BLANKS IN IT ",
                                    "z",
                                    ".hidden",
                                    "x:y"};

static void random_name(char out[100]) {
    const char *stem = stems[random_below(ARRAY_SIZE(stems))];

    if (random_below(4) == 0) {
        (void)snprintf(out, 100, "%s", stem);
    } else {
        (void)snprintf(out, 100, "%s%u", stem, random_below(40));
    }
}

static void mac_name(const char *name, uint8_t out[31], unsigned *ret_length) {
    ck_assert_int_eq(
        hfs_name_from_utf8(hfs_encoding_default(), name, strlen(name), out, ret_length), 0);
}

int hfs_name_compare(const uint8_t *a, unsigned a_length, const uint8_t *b, unsigned b_length);

static bool same_name(const char *a, const char *b) {
    uint8_t left[31], right[31];
    unsigned left_length, right_length;

    mac_name(a, left, &left_length);
    mac_name(b, right, &right_length);
    return hfs_name_compare(left, left_length, right, right_length) == 0;
}

/* Index of the object with this name in the directory; 0: none. */
static unsigned find(unsigned parent, const char *name) {
    for (unsigned i = 1; i < OBJECTS; i++) {
        if (objects[i].used && objects[i].parent == parent && same_name(objects[i].name, name)) {
            return i;
        }
    }
    return 0;
}

static unsigned random_object(bool dir) {
    for (unsigned tries = 0; tries < 50; tries++) {
        unsigned i = random_below(OBJECTS);

        if (objects[i].used && objects[i].directory == dir) {
            return i;
        }
    }
    return 0;
}

static bool is_empty(unsigned dir) {
    for (unsigned i = 1; i < OBJECTS; i++) {
        if (objects[i].used && objects[i].parent == dir) {
            return false;
        }
    }
    return true;
}

static bool is_inside(unsigned object, unsigned dir) {
    while (object != 0 && object != dir) {
        object = objects[object].parent;
    }
    return object == dir;
}

static void forget(unsigned i) {
    free(objects[i].data);
    objects[i] = (Object){0};
}

/* ---- operations: each makes the request, and the model follows if it succeeded ---- */

static bool injected; /* this operation was told to fail */
static unsigned failures_seen, successes_seen;

static void expect(int r, int wanted, const char *what, unsigned object) {
    if (injected && r == -EIO) {
        failures_seen++;
        return;
    }
    successes_seen += r >= 0;
    ck_assert_msg(r == wanted, "%s of object %u \"%s\": %d, expected %d", what, object,
                  objects[object].name, r, wanted);
}

static void do_create(void) {
    unsigned dir = random_object(true), slot = 1;
    bool is_dir = random_below(4) == 0;
    char name[100];
    int r;

    random_name(name);
    while (slot < OBJECTS && objects[slot].used) {
        slot++;
    }
    if (slot == OBJECTS) {
        return;
    }
    r = call((FSRequest){.type = FS_MSG_CREATE_FILE,
                         .file_id = objects[dir].id,
                         .name = name_of(name),
                         .file_type = is_dir ? FS_TYPE_DIRECTORY : FS_TYPE_FILE,
                         .mode = 0755});
    expect(r, find(dir, name) != 0 ? -EEXIST : 0, "create", dir);
    if (r == 0) {
        Object *object = &objects[slot];

        *object = (Object){.used = true, .directory = is_dir, .parent = dir};
        (void)snprintf(object->name, sizeof(object->name), "%s", name);
        object->id = response.attr.file_id;
        object->data = calloc(1, SIZE_MAX_FILE);
        object->info = is_dir ? 0 : '?';
    }
}

static void do_write(void) {
    unsigned i = random_object(false);
    uint32_t offset, length;
    static uint8_t bytes[20000];
    int r;

    if (i == 0) {
        return;
    }
    offset = random_below(SIZE_MAX_FILE - 1);
    length = 1 + random_below(MIN((uint32_t)sizeof(bytes), SIZE_MAX_FILE - offset));
    for (uint32_t n = 0; n < length; n++) {
        bytes[n] = (uint8_t)random_below(256);
    }
    r = write_at(objects[i].id, offset, bytes, length);
    expect(r, (int)length, "write", i);
    if (r == (int)length) {
        memcpy(objects[i].data + offset, bytes, length);
        objects[i].size = MAX(objects[i].size, offset + length);
    } else if (offset < objects[i].size) {
        /* The payload may have got there; what it was is anybody's guess until it is rewritten. */
        uint32_t part = MIN(length, objects[i].size - offset);
        memcpy(objects[i].data + offset, bytes, part);
        ck_assert_int_eq(write_at(objects[i].id, offset, bytes, part), (int)part);
    }
}

static void do_truncate(void) {
    unsigned i = random_object(false);
    uint32_t size = random_below(SIZE_MAX_FILE);
    int r;

    if (i == 0) {
        return;
    }
    r = set_size(objects[i].id, size);
    expect(r, 0, "truncate", i);
    if (r == 0) {
        if (size < objects[i].size) {
            memset(objects[i].data + size, 0, objects[i].size - size);
        }
        objects[i].size = size;
    }
}

static void do_xattr(void) {
    unsigned i = random_object(false);
    uint8_t info[32];
    int r;

    if (i == 0) {
        return;
    }
    if (random_below(2) == 0) {
        uint8_t value = (uint8_t)(1 + random_below(255));

        memset(info, value, sizeof(info));
        r = set_xattr(objects[i].id, FINDER, info, sizeof(info));
        expect(r, 0, "Finder info", i);
        objects[i].info = r == 0 ? value : objects[i].info;
    } else {
        static uint8_t bytes[FORK_MAX];
        uint32_t size = random_below(sizeof(bytes));

        for (uint32_t n = 0; n < size; n++) {
            bytes[n] = (uint8_t)random_below(256);
        }
        r = set_xattr(objects[i].id, RESOURCE, bytes, size);
        expect(r, 0, "resource fork", i);
        if (r == 0) {
            memcpy(objects[i].resource, bytes, size);
            objects[i].resource_size = size;
        }
    }
}

/* ---- forks as files ---- */

static uint64_t fork_id(unsigned i) {
    return objects[i].id | UINT64_C(1) << 32;
}

static uint64_t fork_list(unsigned dir) {
    ck_assert_int_eq(lookup(objects[dir].id, "..namedfork"), 0);
    ck_assert_uint_eq(response.attr.file_id, objects[dir].id | UINT64_C(2) << 32);
    return response.attr.file_id;
}

/* In the model. */
static void fork_put(uint8_t *fork, uint32_t *size, uint32_t offset, const uint8_t *bytes,
                     uint32_t length) {
    if (offset > *size) {
        memset(fork + *size, 0, offset - *size);
    }
    memcpy(fork + offset, bytes, length);
    *size = MAX(*size, offset + length);
}

static void fork_change(uint64_t id, uint8_t *fork, uint32_t *size, unsigned object) {
    uint32_t offset = random_below(FORK_MAX - 1), length = 1 + random_below(FORK_MAX - offset);
    uint8_t bytes[FORK_MAX];
    int r;

    if (random_below(4) == 0) {
        r = set_size(id, offset);
        expect(r, 0, "cutting the fork", object);
        if (r == 0 && offset > *size) {
            memset(fork + *size, 0, offset - *size);
        }
        *size = r == 0 ? offset : *size;
        return;
    }
    for (uint32_t n = 0; n < length; n++) {
        bytes[n] = (uint8_t)random_below(256);
    }
    r = write_at(id, offset, bytes, length);
    expect(r, (int)length, "writing the fork", object);
    if (r < 0 && offset < *size) {
        length = MIN(length, *size - offset); /* as in do_write() */
        ck_assert_int_eq(write_at(id, offset, bytes, length), (int)length);
        r = (int)length;
    }
    if (r > 0) {
        fork_put(fork, size, offset, bytes, length);
    }
}

static void do_fork(void) {
    unsigned i = random_object(false);
    uint64_t fork_dir;
    int r;

    if (i == 0) {
        return;
    }
    fork_dir = fork_list(objects[i].parent);
    ck_assert_int_eq(lookup(fork_dir, objects[i].name), 0);
    ck_assert_uint_eq(response.attr.file_id, fork_id(i));
    ck_assert_uint_eq(response.attr.size, objects[i].resource_size);
    objects[i].fork_shown = true;
    if (random_below(8) > 0) {
        fork_change(fork_id(i), objects[i].resource, &objects[i].resource_size, i);
        return;
    }
    r = call((FSRequest){
        .type = FS_MSG_DELETE_FILE, .file_id = fork_dir, .name = name_of(objects[i].name)});
    expect(r, 0, "removing the fork", i);
    objects[i].resource_size = r == 0 ? 0 : objects[i].resource_size;
}

static void held_check(const Held *fork) {
    ck_assert_int_eq(read_at(fork->id, 0, FORK_MAX), (int)fork->size);
    ck_assert_msg(fork->size == 0 || memcmp(response.data, fork->bytes, fork->size) == 0,
                  "a held fork, %llu", (unsigned long long)fork->id);
}

static void do_held(void) {
    Held *fork = &held[random_below(HELD)];

    if (fork->id == 0) {
        return;
    }
    held_check(fork);
    if (random_below(4) == 0) {
        evict(fork->id);
        fork->id = 0;
    } else {
        fork_change(fork->id, fork->bytes, &fork->size, 0);
    }
}

/* The file is gone: who has its fork may keep it. */
static void let_go(unsigned i) {
    Held *slot = &held[random_below(HELD)];
    bool keep = !objects[i].directory && objects[i].fork_shown && slot->id == 0;

    if (random_below(2) == 0) {
        evict(objects[i].id);
    }
    if (keep) {
        slot->id = fork_id(i);
        slot->size = objects[i].resource_size;
        memcpy(slot->bytes, objects[i].resource, slot->size);
    } else if (!objects[i].directory && random_below(2) == 0) {
        evict(fork_id(i));
    }
    if (random_below(4) == 0) {
        evict(objects[i].id);
    }
    forget(i);
}

static void do_remove(void) {
    unsigned i = random_object(random_below(3) == 0);
    int r;

    if (i == 0) {
        return;
    }
    r = call((FSRequest){.type = FS_MSG_DELETE_FILE,
                         .flags = objects[i].directory ? FS_REQ_RMDIR : 0,
                         .file_id = objects[objects[i].parent].id,
                         .name = name_of(objects[i].name)});
    expect(r, objects[i].directory && !is_empty(i) ? -ENOTEMPTY : 0, "remove", i);
    if (r == 0) {
        let_go(i);
    }
}

/* What should come of renaming i to name in dir, `target` standing there. */
static int rename_outcome(unsigned i, unsigned dir, unsigned target) {
    if (objects[i].directory && is_inside(dir, i)) {
        return -EINVAL;
    }
    if (target == 0 || target == i) {
        return 0;
    }
    if (objects[i].directory != objects[target].directory) {
        return objects[i].directory ? -ENOTDIR : -EISDIR;
    }
    return objects[target].directory && !is_empty(target) ? -ENOTEMPTY : 0;
}

static void do_rename(void) {
    unsigned i = random_object(random_below(3) == 0), dir = random_object(true), target;
    char name[100];
    int r, wanted;

    if (i == 0) {
        return;
    }
    random_name(name);
    target = find(dir, name);
    wanted = rename_outcome(i, dir, target);
    r = call((FSRequest){.type = FS_MSG_RENAME,
                         .file_id = objects[objects[i].parent].id,
                         .name = name_of(objects[i].name),
                         .file_id2 = objects[dir].id,
                         .name2 = name_of(name)});
    if (wanted != 0 && r < 0) {
        return; /* which of several reasons is said first is not the matter here */
    }
    expect(r, wanted, "rename", i);
    if (r == 0) {
        if (target != 0 && target != i) {
            let_go(target);
        }
        objects[i].parent = dir;
        (void)snprintf(objects[i].name, sizeof(objects[i].name), "%s", name);
    }
}

static void do_exchange(void) {
    unsigned i = random_object(random_below(3) == 0), other = random_object(random_below(3) == 0);
    Object saved;
    int r;

    if (i == 0 || other == 0 || i == other || is_inside(i, other) || is_inside(other, i)) {
        return;
    }
    r = call((FSRequest){.type = FS_MSG_RENAME,
                         .file_id = objects[objects[i].parent].id,
                         .name = name_of(objects[i].name),
                         .file_id2 = objects[objects[other].parent].id,
                         .name2 = name_of(objects[other].name),
                         .rename_flags = FS_RENAME_EXCHANGE});
    expect(r, 0, "exchange", i);
    if (r == 0) {
        saved = objects[i];
        objects[i].parent = objects[other].parent;
        memcpy(objects[i].name, objects[other].name, sizeof(saved.name));
        objects[other].parent = saved.parent;
        memcpy(objects[other].name, saved.name, sizeof(saved.name));
    }
}

/* ---- comparing ---- */

static void compare_object(unsigned i) {
    const Object *object = &objects[i];
    unsigned children = 0, forks = 0;
    int r;

    ck_assert_int_eq(lookup(objects[object->parent].id, object->name), 0);
    ck_assert_msg(response.flags & FS_RESP_EXACT, "spelling of \"%s\"", object->name);
    ck_assert_uint_eq(response.attr.file_id, object->id);
    if (object->directory) {
        for (unsigned n = 1; n < OBJECTS; n++) {
            children += objects[n].used && objects[n].parent == i;
            forks += objects[n].used && objects[n].parent == i && objects[n].resource_size > 0;
        }
        ck_assert_int_eq(list(object->id, 600, NULL, NULL), (int)children);
        ck_assert_int_eq(list(fork_list(i), 600, NULL, NULL), (int)forks);
        return;
    }
    ck_assert_uint_eq(response.attr.size, object->size);
    ck_assert_int_eq(read_at(object->id, 0, SIZE_MAX_FILE), (int)object->size);
    ck_assert_msg(object->size == 0 || memcmp(response.data, object->data, object->size) == 0,
                  "data of \"%s\"", object->name);
    r = get_xattr(object->id, RESOURCE);
    ck_assert_int_eq(r, object->resource_size == 0 ? -ENODATA : (int)object->resource_size);
    if (r > 0) {
        ck_assert_msg(memcmp(response.data, object->resource, (size_t)r) == 0,
                      "resource fork of \"%s\"", object->name);
    }
    ck_assert_int_eq(get_xattr(object->id, FINDER), 32);
    ck_assert_uint_eq(response.data[0], object->info);
}

static void compare_all(void) {
    for (unsigned i = 1; i < OBJECTS; i++) {
        if (objects[i].used) {
            compare_object(i);
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        if (held[i].id != 0) {
            held_check(&held[i]);
        }
    }
}

static void any_operation(void) {
    switch (random_below(13)) {
    case 0:
    case 1:
    case 2:
        do_create();
        break;
    case 3:
    case 4:
        do_write();
        break;
    case 5:
        do_truncate();
        break;
    case 6:
        do_xattr();
        break;
    case 7:
        do_remove();
        break;
    case 8:
        do_rename();
        break;
    case 9:
    case 10:
        do_fork();
        break;
    case 11:
        do_held();
        break;
    default:
        do_exchange();
        break;
    }
}

static void step(bool inject) {
    CacheDebug *debug = cache_debug(volume_fs(volume)->cache);

    injected = inject && random_below(2) == 0;
    debug->restart_all = random_below(2) == 0;
    debug->writes = 0;
    debug->abort_at = injected ? 1 + random_below(random_below(2) == 0 ? 6 : 40) : 0;
    any_operation();
    debug->abort_at = 0;
    debug->restart_all = false;
    if (random_below(40) == 0) {
        ck_assert_int_eq(sync_volume(), 0);
    }
}

START_TEST(random_operations_match_a_model) {
    const uint64_t block_sizes[] = {512, 2048, 17920};

    random_state = 1000 + (uint64_t)_i;
    image_create(6 << 20, block_sizes[_i % 3]);
    memset(objects, 0, sizeof(objects));
    memset(held, 0, sizeof(held));
    objects[0] = (Object){.used = true, .directory = true, .id = FS_ROOT_ID};
    for (unsigned round = 0; round < 6; round++) {
        mount_image("");
        for (unsigned n = 0; n < 250; n++) {
            step(round % 2 == 1);
        }
        compare_all();
        ck_assert_int_eq(unmount_image(), 0);
        memset(held, 0, sizeof(held));
        for (unsigned i = 1; i < OBJECTS; i++) {
            objects[i].fork_shown = false;
        }
        hfs_clean("after a round");
    }
    mount_image("ro");
    compare_all();
    ck_assert_int_eq(unmount_image(), 0);
    ck_assert_int_eq(hfs_tool("hls -laR ':'", NULL, 0), 0);
    ck_assert_uint_gt(failures_seen, 50);
    ck_assert_uint_gt(successes_seen, 500);
    for (unsigned i = 1; i < OBJECTS; i++) {
        forget(i);
    }
}
END_TEST

/* ---- deaths ---- */

static RecoverPeer peer;

static int call_peer(const FSRequest *request) {
    peer_call(&peer, request);
    response = peer.shared->cells[fs_request_slot(request->request_id)].response;
    return response.result;
}

START_TEST(deaths_change_nothing) {
    random_state = 50 + (uint64_t)_i;
    image_create(6 << 20, _i % 2 == 0 ? 512 : 2048);
    memset(objects, 0, sizeof(objects));
    memset(held, 0, sizeof(held));
    objects[0] = (Object){.used = true, .directory = true, .id = FS_ROOT_ID};
    injected = false;
    peer = (RecoverPeer){.options = "", .state = random_state, .death_range = 60};
    peer_begin(&peer, image, image_size);
    call_elsewhere = call_peer;
    for (unsigned n = 0; n < 400; n++) {
        any_operation();
        if (n % 100 == 99) {
            compare_all();
        }
    }
    peer_live(&peer);
    peer_end(&peer, image);
    call_elsewhere = NULL;
    memset(held, 0, sizeof(held));
    hfs_clean("after deaths");
    ck_assert_uint_gt(peer.deaths, 5);
    mount_image("ro");
    compare_all();
    ck_assert_int_eq(unmount_image(), 0);
    for (unsigned i = 1; i < OBJECTS; i++) {
        forget(i);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hfs_random");
    TCase *tc = tcase_create("model");
    SRunner *runner;
    int failures;

    log_init("test_hfs_random", LOG_LEVEL_ERROR);
    tcase_set_timeout(tc, 100);
    tcase_add_unchecked_fixture(tc, directory_make, support_done);
    tcase_add_loop_test(tc, random_operations_match_a_model, 0, 9);
    tcase_add_loop_test(tc, deaths_change_nothing, 0, 4);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures == 0 ? 0 : 1;
}
