/* SPDX-License-Identifier: MIT */
/* See single_step.h: memory, daemons over it, and the judgement of one state. */
#include "single_step.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

#define RING_BYTES (UINT64_C(64) << 10)
#define TREE_MAX 64

static int trouble(Shared *shared, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int trouble(Shared *shared, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(shared->trouble, sizeof(shared->trouble), format, arguments);
    va_end(arguments);
    return -1;
}

/* ---- memory ---- */

static int map_both(Memory *memory) {
    void *lifeline =
        mmap(NULL, memory->lifeline_size, PROT_READ, MAP_SHARED, memory->lifeline_fd, 0);
    void *device = mmap(NULL, memory->device_size, PROT_READ, MAP_SHARED, memory->device_fd, 0);

    if (lifeline == MAP_FAILED || device == MAP_FAILED) {
        return -errno;
    }
    memory->lifeline = lifeline;
    memory->device = device;
    return 0;
}

static int memory_make(uint64_t device_size, Memory *ret) {
    struct stat st;
    int r = lifeline_memory_new(RING_BYTES, STEP_SLOTS, &ret->lifeline_fd);

    if (r < 0) {
        return r;
    }
    ret->device_fd = memfd_create("device", MFD_CLOEXEC);
    if (ret->device_fd < 0 || ftruncate(ret->device_fd, (off_t)device_size) < 0 ||
        fstat(ret->lifeline_fd, &st) < 0) {
        return -errno;
    }
    ret->lifeline_size = (uint64_t)st.st_size;
    ret->device_size = device_size;
    return map_both(ret);
}

static int write_all(int fd, const uint8_t *bytes, uint64_t length) {
    for (uint64_t at = 0; at < length;) {
        ssize_t n = pwrite(fd, bytes + at, length - at, (off_t)at);

        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        at += (uint64_t)n;
    }
    return 0;
}

int memory_new(const char *image, Memory *ret) {
    _cleanup_close_ int fd = open(image, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes;
    struct stat st;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        return -errno;
    }
    r = memory_make((uint64_t)st.st_size, ret);
    if (r == 0) {
        r = write_all(ret->device_fd, bytes, ret->device_size);
    }
    (void)munmap(bytes, (size_t)st.st_size);
    return r;
}

int memory_copy(const Memory *memory, Memory *ret) {
    int r = memory_make(memory->device_size, ret);

    if (r == 0) {
        r = write_all(ret->device_fd, memory->device, memory->device_size);
    }
    if (r == 0) {
        r = write_all(ret->lifeline_fd, memory->lifeline, memory->lifeline_size);
    }
    return r;
}

/* ---- daemons ---- */

int world_open(const Memory *memory, World *ret) {
    const BlockOpenConfig config = {.fd = memory->device_fd, .direct = 0};
    int r;

    *ret = (World){.memory = *memory, .driver.now_ns = INT64_C(1700000000000000000)};
    r = lifeline_open(memory->lifeline_fd, STEP_SLOTS, &ret->lifeline);
    if (r == 0) {
        r = block_posix_new(&config, &ret->device);
    }
    if (r == 0) {
        r = volume_new(&fat_type, ret->device, NULL, &ret->driver.volume);
    }
    if (r == 0) {
        volume_set_lifeline(ret->driver.volume, ret->lifeline);
        r = local_client_new(ret->driver.volume, &ret->driver.client);
    }
    return r;
}

int world_mount(World *world, bool recover, uint64_t seen) {
    static const char options[] = "errors=remount-ro";
    FSRequest request = {.type = FS_MSG_MOUNT,
                         .flags = recover ? FS_REQ_RECOVER : 0,
                         .offset = recover ? seen : 0,
                         .payload = (const uint8_t *)options,
                         .payload_length = sizeof(options) - 1};
    FSRequest fence = {.type = FS_MSG_FENCE};
    FSResponse response;
    int r;

    /* What the judge asks must not meet slots that the requests under test have used. */
    world->driver.seq = recover ? UINT64_C(1) << 32 : 0;
    r = driver_call(&world->driver, &request, &response);
    world->driver.seen = MAX(world->driver.seen, seen);
    return r == 0 && recover ? driver_call(&world->driver, &fence, &response) : r;
}

void world_execute(World *world, Shared *shared, FSResponse *ret) {
    (void)local_call(world->driver.client, &shared->request, ret);
    ret->data = NULL;
    world->driver.seen = MAX(world->driver.seen, ret->number);
}

/* ---- the tree ---- */

typedef struct Walk {
    Driver *driver;
    const char *written; /* contents do not count */
    char paths[TREE_MAX][512];
    const char *directory;
    unsigned count;
    bool overflow;
} Walk;

static void walk_entry(void *arg, const FsDirEntry *entry) {
    Walk *walk = arg;

    if (walk->count == TREE_MAX) {
        walk->overflow = true;
        return;
    }
    (void)snprintf(walk->paths[walk->count++], sizeof(walk->paths[0]), "%s%s%.*s", walk->directory,
                   walk->directory[0] != '\0' ? "/" : "", (int)entry->name_length, entry->name);
}

static uint64_t mix(uint64_t seed, const void *bytes, size_t length) {
    return XXH3_64bits_withSeed(bytes, length, seed);
}

/* Names, types, sizes and times; contents of the files. Entries in the order of their listing. */
static int digest_entry(Driver *driver, const char *path, uint64_t written, Digest *digest,
                        FsAttr *ret_attr) {
    static uint8_t buffer[65536];
    FsAttr attr;
    int r = driver_stat(driver, path, &attr);

    if (r < 0) {
        return r;
    }
    *ret_attr = attr;
    const uint64_t facts[] = {attr.type, attr.mode, attr.size, (uint64_t)attr.mtime_ns};
    digest->names = mix(digest->names, path, strlen(path));
    digest->names = mix(digest->names, facts, sizeof(facts));
    for (uint64_t at = 0; attr.type == FS_TYPE_FILE && at < attr.size;) {
        int64_t n = driver_read(driver, path, at, buffer, sizeof(buffer));
        if (n <= 0) {
            return n < 0 ? (int)n : -EIO;
        }
        digest->everything = mix(digest->everything, buffer, (size_t)n);
        if (attr.file_id != written) {
            digest->contents = mix(digest->contents, buffer, (size_t)n);
        }
        at += (uint64_t)n;
    }
    return 0;
}

static int take_digest(Driver *driver, uint64_t written, Digest *ret) {
    static Walk walk; /* large; never two at a time */
    Digest digest = {1, 2, 3};
    FsAttr attr;
    int r;

    walk = (Walk){.driver = driver, .directory = ""};
    r = driver_list(driver, "", walk_entry, &walk);
    for (unsigned i = 0; i < walk.count && r >= 0; i++) {
        r = digest_entry(driver, walk.paths[i], written, &digest, &attr);
        if (r == 0 && attr.type == FS_TYPE_DIRECTORY) {
            walk.directory = walk.paths[i];
            r = driver_list(driver, walk.paths[i], walk_entry, &walk);
        }
    }
    if (walk.overflow) {
        return -E2BIG;
    }
    digest.everything = mix(digest.everything, &digest.names, sizeof(digest.names));
    digest.contents = mix(digest.contents, &digest.names, sizeof(digest.names));
    *ret = digest;
    return r < 0 ? r : 0;
}

/* ---- judgement ---- */

static uint64_t written_file(const Shared *shared) {
    return shared->writes_in_place ? shared->request.file_id : 0;
}

/* Recovers a copy. 0, or trouble. */
static int revive(const Memory *memory, Shared *shared, World *ret) {
    Memory copy;
    int r = memory_copy(memory, &copy);

    if (r == 0) {
        r = world_open(&copy, ret);
    }
    if (r < 0) {
        return trouble(shared, "cannot set up a copy: %s", strerror(-r));
    }
    r = world_mount(ret, true, shared->seen);
    if (r < 0) {
        return trouble(shared, "MOUNT with RECOVER: %s", strerror(-r));
    }
    if (volume_fs(ret->driver.volume)->readonly) {
        return trouble(shared, "recovered read-only: %s",
                       volume_fs(ret->driver.volume)->read_only_reason);
    }
    return 0;
}

/* The tree as a successor would find it. Looking at it lets go of what the other side holds, so
 * this is done on a copy of its own. */
static int digest_copy(const Memory *memory, Shared *shared, Digest *ret) {
    World world;
    int r = revive(memory, shared, &world);

    if (r == 0) {
        r = take_digest(&world.driver, written_file(shared), ret);
    }
    return r < 0 && shared->trouble[0] == '\0'
               ? trouble(shared, "recovered, but reading the tree: %s", strerror(-r))
               : r;
}

int judge_foresee(const Memory *memory, Shared *shared) {
    World world;
    int r = digest_copy(memory, shared, &shared->before);

    if (r == 0) {
        r = revive(memory, shared, &world);
    }
    if (r == 0) {
        world_execute(&world, shared, &shared->expected);
        r = shared->request.type == FS_MSG_UNMOUNT ? world_mount(&world, false, 0) : 0;
    }
    if (r == 0) {
        r = take_digest(&world.driver, written_file(shared), &shared->after);
    }
    return r < 0 && shared->trouble[0] == '\0'
               ? trouble(shared, "before the first step: %s", strerror(-r))
               : r;
}

static bool same_attr(const FsAttr *a, const FsAttr *b) {
    return a->file_id == b->file_id && a->type == b->type && a->mode == b->mode &&
           a->size == b->size && a->mtime_ns == b->mtime_ns && a->nlink == b->nlink;
}

/* again: what the answer describes may have been let go of meanwhile. */
static int compare_answer(Shared *shared, const FSResponse *got, bool again) {
    const FSResponse *expected = &shared->expected;
    const char *when = again ? "sent a third time" : "sent again";
    bool has_attr = got->flags & FS_RESP_ATTR;

    if (got->result != expected->result) {
        return trouble(shared, "%s: result %d, expected %d", when, got->result, expected->result);
    }
    if (got->result < 0) {
        return 0;
    }
    if (got->param1 != expected->param1) {
        return trouble(shared, "%s: param1 %#llx, expected %#llx", when,
                       (unsigned long long)got->param1, (unsigned long long)expected->param1);
    }
    if (!again && has_attr != ((expected->flags & FS_RESP_ATTR) != 0)) {
        return trouble(shared, "%s: attributes %s", when, has_attr ? "unasked" : "missing");
    }
    if (!again && has_attr && !same_attr(&got->attr, &expected->attr)) {
        return trouble(shared,
                       "%s: attributes differ: file %#llx size %llu mtime %lld nlink %u mode %o, "
                       "expected file "
                       "%#llx size %llu mtime %lld nlink %u mode %o",
                       when, (unsigned long long)got->attr.file_id,
                       (unsigned long long)got->attr.size, (long long)got->attr.mtime_ns,
                       got->attr.nlink, got->attr.mode, (unsigned long long)expected->attr.file_id,
                       (unsigned long long)expected->attr.size, (long long)expected->attr.mtime_ns,
                       expected->attr.nlink, expected->attr.mode);
    }
    return 0;
}

/* Is the volume as before, or as after? */
static int judge_tree(const Memory *memory, Shared *shared) {
    Digest now;
    int r = digest_copy(memory, shared, &now);

    if (r == 0 && now.contents != shared->before.contents &&
        now.everything != shared->after.everything) {
        return trouble(shared, "recovered, the tree is neither as before nor as after");
    }
    return r;
}

static int judge_after(Shared *shared, World *world, const char *when) {
    Digest now;
    int r = take_digest(&world->driver, written_file(shared), &now);

    if (r < 0) {
        return trouble(shared, "%s, reading the tree: %s", when, strerror(-r));
    }
    return now.everything == shared->after.everything
               ? 0
               : trouble(shared, "%s, the tree is not what it must be", when);
}

/* No complaint at all about an image that was unmounted. */
static int ask_fsck(Shared *shared, const Memory *memory) {
    char path[64], command[160];
    int status;

    (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), memory->device_fd);
    (void)snprintf(command, sizeof(command), "fsck.fat -n %s >/dev/null 2>&1", path);
    status = system(command);
    return status == 0 ? 0 : trouble(shared, "fsck.fat complains (status %d)", status);
}

int judge_state(const Memory *memory, Shared *shared, bool check_image) {
    bool unmounting = shared->request.type == FS_MSG_UNMOUNT;
    bool thrice = shared->recorded && shared->expected.result >= 0;
    FSRequest unmount = {.type = FS_MSG_UNMOUNT};
    FSResponse response;
    World world;
    int r = judge_tree(memory, shared);

    if (r == 0) {
        r = revive(memory, shared, &world);
    }
    for (unsigned time = 0; time < (thrice ? 2 : 1) && r == 0 && !unmounting; time++) {
        world_execute(&world, shared, &response);
        r = compare_answer(shared, &response, time > 0);
        if (r == 0) {
            r = judge_after(shared, &world, time > 0 ? "sent a third time" : "sent again");
        }
    }
    if (r == 0 && (check_image || unmounting)) {
        r = driver_call(&world.driver, &unmount, &response);
        r = r < 0 ? trouble(shared, "UNMOUNT: %s", strerror(-r)) : ask_fsck(shared, &world.memory);
    }
    return r;
}
