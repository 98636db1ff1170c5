/* SPDX-License-Identifier: MIT */
/*
 * Images by mkfs.fat, mounted in this process over a memory device through
 * local_call(), so that every request passes dispatch as it does in the daemon.
 * Paths are resolved component by component, as the kernel does. What fsck.fat
 * and mtools say about the image is asked after unmounting.
 */
#ifndef FAT_SUPPORT_H
#define FAT_SUPPORT_H

#include "berth/bytes.h"
#include "berth/log.h"
#include "berth/service.h"
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#ifndef VOLUME_TYPE
#define VOLUME_TYPE fat_type /* another format's tests define it */
#endif
#define UNUSED __attribute__((unused))
#define TIME_NS (INT64_C(1700000000) * 1000000000) /* what requests carry as "now" */

static char directory[64] = "";
static char image_path[128];
static uint8_t *image;
static uint64_t image_size;
static BlockDevice *device;
static Volume *volume;
static LocalClient *client;
static FSResponse response;
static int64_t now_ns = TIME_NS;
/* Where requests go instead of to `client`, if set: fills `response`, returns its result. */
static int (*call_elsewhere)(const FSRequest *request);

__attribute__((format(printf, 1, 2))) static int run(const char *fmt, ...) {
    char command[1024];
    va_list args;
    int status;

    va_start(args, fmt);
    (void)vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    status = system(command);
    return status;
}

/* The image file's bytes into memory. */
static UNUSED void image_load(void) {
    FILE *file = fopen(image_path, "rb");
    struct stat st;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fstat(fileno(file), &st), 0);
    image_size = (uint64_t)st.st_size;
    free(image);
    image = malloc(image_size);
    ck_assert_ptr_nonnull(image);
    ck_assert_uint_eq(fread(image, 1, image_size, file), image_size);
    ck_assert_int_eq(fclose(file), 0);
}

static UNUSED void image_store(void) {
    FILE *file = fopen(image_path, "wb");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(image, 1, image_size, file), image_size);
    ck_assert_int_eq(fclose(file), 0);
}

/* args: of mkfs.fat, without the size. */
static UNUSED void image_make(unsigned kib, const char *args) {
    if (directory[0] == '\0') {
        (void)snprintf(directory, sizeof(directory), "/tmp/test_fat.XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
    }
    (void)snprintf(image_path, sizeof(image_path), "%s/image", directory);
    ck_assert_msg(run("rm -f %s && PATH=$PATH:/usr/sbin:/sbin mkfs.fat -C %s %s %u >/dev/null 2>&1",
                      image_path, args, image_path, kib) == 0,
                  "mkfs.fat %s %u", args, kib);
    image_load();
}

static UNUSED void support_done(void) {
    if (directory[0] != '\0') {
        (void)run("rm -rf %s", directory);
        directory[0] = '\0';
    }
    free(image);
    image = NULL;
}

/* fsck.fat finds nothing to say. */
static UNUSED void check_clean(const char *what) {
    image_store();
    if (run("PATH=$PATH:/usr/sbin:/sbin fsck.fat -n %s >%s/fsck 2>&1", image_path, directory) !=
        0) {
        (void)run("cat %s/fsck; cp %s /tmp/test_fat.failed", directory, image_path);
        ck_abort_msg("%s: fsck.fat is not content (image kept as /tmp/test_fat.failed)", what);
    }
}

static int call(FSRequest request) {
    static uint64_t seq;

    request.request_id = fs_request_id(0, ++seq);
    request.time_ns = now_ns;
    if (call_elsewhere != NULL) {
        return call_elsewhere(&request);
    }
    return local_call(client, &request, &response);
}

static FsName name_of(const char *text) {
    return (FsName){text, (uint32_t)strlen(text)};
}

static UNUSED int mount_try(const char *options) {
    ck_assert_int_eq(block_memory_new(image_size, 512, image, &device), 0);
    ck_assert_int_eq(volume_new(&VOLUME_TYPE, device, NULL, &volume), 0);
    ck_assert_int_eq(local_client_new(volume, &client), 0);
    return call((FSRequest){.type = FS_MSG_MOUNT,
                            .payload = (const uint8_t *)options,
                            .payload_length = (uint32_t)strlen(options)});
}

static UNUSED void mount_image(const char *options) {
    int r = mount_try(options);

    ck_assert_msg(r == 0, "mount: %d %.*s", r, (int)response.data_length,
                  (const char *)response.data);
}

static UNUSED int unmount_image(void) {
    int r = call((FSRequest){.type = FS_MSG_UNMOUNT});

    client = local_client_free(client);
    volume = volume_free(volume);
    device = block_free(device);
    return r;
}

/* Fresh ids have bit 63, so that "negative" is not enough. */
static UNUSED bool failed(int64_t result) {
    return result < 0 && result > -4096;
}

/* ---- requests ---- */

static UNUSED int lookup(uint64_t dir, const char *name) {
    return call((FSRequest){.type = FS_MSG_LOOKUP, .file_id = dir, .name = name_of(name)});
}

/* file_id of "a/b/c" ("" is the root), or a negative errno. */
static UNUSED int64_t resolve(const char *path) {
    uint64_t id = FS_ROOT_ID;
    char part[256];

    while (*path != '\0') {
        size_t length = strcspn(path, "/");
        int r;
        (void)snprintf(part, sizeof(part), "%.*s", (int)length, path);
        path += length + (path[length] == '/');
        r = lookup(id, part);
        if (r < 0) {
            return r;
        }
        id = response.attr.file_id;
    }
    return (int64_t)id;
}

/* The directory part's id, and the name. */
static UNUSED int64_t resolve_parent(const char *path, const char **ret_name) {
    const char *slash = strrchr(path, '/');
    char parent[256] = "";

    if (slash != NULL) {
        (void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
    }
    *ret_name = slash != NULL ? slash + 1 : path;
    return resolve(parent);
}

static UNUSED int get_attr(uint64_t id) {
    return call((FSRequest){.type = FS_MSG_GET_ATTR, .file_id = id});
}

static UNUSED int64_t make(const char *path, uint32_t type) {
    const char *name;
    int64_t dir = resolve_parent(path, &name);
    int r;

    if (failed(dir)) {
        return dir;
    }
    r = call((FSRequest){.type = FS_MSG_CREATE_FILE,
                         .file_id = (uint64_t)dir,
                         .name = name_of(name),
                         .file_type = type,
                         .mode = 0755});
    return r < 0 ? r : (int64_t)response.attr.file_id;
}

static UNUSED int remove_path(const char *path, bool is_dir) {
    const char *name;
    int64_t dir = resolve_parent(path, &name);

    if (failed(dir)) {
        return (int)dir;
    }
    return call((FSRequest){.type = FS_MSG_DELETE_FILE,
                            .flags = is_dir ? FS_REQ_RMDIR : 0,
                            .file_id = (uint64_t)dir,
                            .name = name_of(name)});
}

static UNUSED int rename_path(const char *from, const char *to, uint32_t flags) {
    const char *old_name, *new_name;
    int64_t old_dir = resolve_parent(from, &old_name);
    int64_t new_dir = resolve_parent(to, &new_name);

    if (failed(old_dir) || failed(new_dir)) {
        return (int)(failed(old_dir) ? old_dir : new_dir);
    }
    return call((FSRequest){.type = FS_MSG_RENAME,
                            .file_id = (uint64_t)old_dir,
                            .name = name_of(old_name),
                            .file_id2 = (uint64_t)new_dir,
                            .name2 = name_of(new_name),
                            .rename_flags = flags});
}

static UNUSED int write_at(uint64_t id, uint64_t offset, const void *bytes, uint32_t length) {
    return call((FSRequest){.type = FS_MSG_WRITE_FILE,
                            .file_id = id,
                            .offset = offset,
                            .length = length,
                            .payload = bytes,
                            .payload_length = length});
}

static UNUSED int read_at(uint64_t id, uint64_t offset, uint32_t length) {
    return call(
        (FSRequest){.type = FS_MSG_READ_FILE, .file_id = id, .offset = offset, .length = length});
}

static UNUSED int set_size(uint64_t id, uint64_t size) {
    return call((FSRequest){
        .type = FS_MSG_SET_ATTR, .file_id = id, .set = {.mask = FS_SET_SIZE, .size = size}});
}

static UNUSED int sync_volume(void) {
    return call((FSRequest){.type = FS_MSG_SYNC});
}

/* The other side lets go of an id. */
static UNUSED void evict(uint64_t id) {
    le64 wire = le64_make(id);

    ck_assert_int_eq(call((FSRequest){.type = FS_MSG_EVICT,
                                      .offset = response.number,
                                      .payload = (const uint8_t *)&wire,
                                      .payload_length = sizeof(wire)}),
                     0);
}

/* Calls fn for each entry; returns how many, or a negative errno. */
static UNUSED int list(uint64_t dir, uint32_t bytes, void (*fn)(void *arg, const FsDirEntry *entry),
                       void *arg) {
    uint64_t cookie = 0;
    int count = 0;

    for (;;) {
        _cleanup_free_ uint8_t *data = NULL;
        uint32_t length, at = 0;
        bool end;
        int r = call((FSRequest){
            .type = FS_MSG_LIST_DIR, .file_id = dir, .offset = cookie, .length = bytes});
        if (r < 0) {
            return r;
        }
        length = response.data_length;
        end = response.flags & FS_RESP_END || length == 0;
        data = malloc(length + 1);
        if (length > 0) {
            memcpy(data, response.data, length);
        }
        while (at < length) {
            FsDirEntry entry;
            int used = fs_dirent_decode(data + at, length - at, &entry);
            ck_assert_int_gt(used, 0);
            at += (uint32_t)used;
            cookie = entry.cookie;
            count += 1;
            if (fn != NULL) {
                fn(arg, &entry);
            }
        }
        if (end) {
            return count;
        }
    }
}

/* Bytes that tell file and offset apart. */
static UNUSED void fill(uint8_t *out, size_t length, uint32_t seed, uint64_t offset) {
    for (size_t i = 0; i < length; i++) {
        uint64_t at = offset + i;
        out[i] = (uint8_t)((at * 2654435761u + seed * 40503u + (at >> 9)) >> 7);
    }
}

#endif
