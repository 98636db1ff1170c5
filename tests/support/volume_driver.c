/* SPDX-License-Identifier: MIT */
/* See volume_driver.h. */
#include "volume_driver.h"
#include <stdio.h>

FileSystem *driver_fs(Driver *driver) {
    return volume_fs(driver->volume);
}

int driver_call(Driver *driver, FSRequest *request, FSResponse *response) {
    request->request_id = fs_request_id(0, ++driver->seq);
    request->time_ns = driver->now_ns;
    driver->now_ns += 1000000000;
    int result = local_call(driver->client, request, response);
    driver->seen = MAX(driver->seen, response->number);
    return result;
}

static void evict(Driver *driver, uint64_t file_id) {
    uint8_t payload[8];
    FSResponse response;

    if (file_id == FS_ROOT_ID || file_id == 0) {
        return;
    }
    for (unsigned i = 0; i < 8; i++) {
        payload[i] = (uint8_t)(file_id >> (8 * i));
    }
    FSRequest request = {.type = FS_MSG_EVICT,
                         .offset = driver->seen,
                         .payload = payload,
                         .payload_length = sizeof(payload)};
    (void)driver_call(driver, &request, &response);
}

int driver_mount(Driver *driver, BlockDevice *device, const char *options) {
    return driver_mount_type(driver, &fat_type, device, options);
}

int driver_mount_type(Driver *driver, const FileSystemType *type, BlockDevice *device,
                      const char *options) {
    return driver_mount_journal(driver, type, device, NULL, options);
}

int driver_mount_journal(Driver *driver, const FileSystemType *type, BlockDevice *device,
                         SideJournal *journal, const char *options) {
    *driver = (Driver){.now_ns = INT64_C(1700000000000000000)};
    int r = volume_new(type, device, NULL, &driver->volume);
    if (r == 0) {
        volume_set_journal(driver->volume, journal);
        r = local_client_new(driver->volume, &driver->client);
    }
    if (r == 0) {
        FSRequest request = {.type = FS_MSG_MOUNT,
                             .payload = (const uint8_t *)options,
                             .payload_length = (uint32_t)strlen(options)};
        FSResponse response;
        r = driver_call(driver, &request, &response);
    }
    if (r < 0) {
        local_client_free(driver->client);
        volume_free(driver->volume);
        *driver = (Driver){0};
    }
    return r;
}

int driver_unmount(Driver *driver) {
    int r = 0;

    if (driver->client != NULL) {
        FSRequest request = {.type = FS_MSG_UNMOUNT};
        FSResponse response;
        r = driver_call(driver, &request, &response);
    }
    local_client_free(driver->client);
    volume_free(driver->volume);
    *driver = (Driver){0};
    return r;
}

static int lookup(Driver *driver, uint64_t directory, const char *name, size_t length,
                  FsAttr *ret) {
    FSResponse response;
    FSRequest request = {.type = FS_MSG_LOOKUP,
                         .file_id = directory,
                         .name = {.text = name, .length = (uint32_t)length}};
    int r = driver_call(driver, &request, &response);
    if (r >= 0) {
        *ret = response.attr;
    }
    return r;
}

static int resolve(Driver *driver, const char *path, size_t length, FsAttr *ret) {
    FSResponse response;
    FSRequest request = {.type = FS_MSG_GET_ATTR, .file_id = FS_ROOT_ID};
    int r = driver_call(driver, &request, &response);
    FsAttr attr = response.attr;

    while (r >= 0 && length > 0) {
        const char *slash = memchr(path, '/', length);
        size_t part = slash != NULL ? (size_t)(slash - path) : length;
        uint64_t parent = attr.file_id;
        r = lookup(driver, parent, path, part, &attr);
        evict(driver, parent);
        part += slash != NULL;
        path += part;
        length -= part;
    }
    if (r < 0) {
        return r;
    }
    *ret = attr;
    return 0;
}

/* Splits "dir/name": *ret_name points at the name, the parent's id is returned through *ret. */
static int resolve_parent(Driver *driver, const char *path, uint64_t *ret, FsName *ret_name) {
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    FsAttr attr;

    int r = resolve(driver, path, slash != NULL ? (size_t)(slash - path) : 0, &attr);
    if (r == 0) {
        *ret = attr.file_id;
        *ret_name = (FsName){.text = name, .length = (uint32_t)strlen(name)};
    }
    return r;
}

int driver_stat(Driver *driver, const char *path, FsAttr *ret_attr) {
    FsAttr attr;
    int r = resolve(driver, path, strlen(path), &attr);

    if (r == 0) {
        evict(driver, attr.file_id);
        if (ret_attr != NULL) {
            *ret_attr = attr;
        }
    }
    return r;
}

int driver_create(Driver *driver, const char *path, FsFileType type) {
    FSRequest request = {.type = FS_MSG_CREATE_FILE,
                         .file_type = type,
                         .mode = type == FS_TYPE_DIRECTORY ? 0755 : 0644};
    FSResponse response;
    int r = resolve_parent(driver, path, &request.file_id, &request.name);

    if (r == 0) {
        r = driver_call(driver, &request, &response);
        if (r >= 0) {
            evict(driver, response.attr.file_id);
        }
        evict(driver, request.file_id);
    }
    return r;
}

int driver_unlink(Driver *driver, const char *path, bool directory) {
    FSRequest request = {.type = FS_MSG_DELETE_FILE, .flags = directory ? FS_REQ_RMDIR : 0};
    FSResponse response;
    int r = resolve_parent(driver, path, &request.file_id, &request.name);

    if (r == 0) {
        r = driver_call(driver, &request, &response);
        if (r >= 0) {
            evict(driver, response.param1);
        }
        evict(driver, request.file_id);
    }
    return r;
}

static int rename_with(Driver *driver, const char *from, const char *to, uint32_t flags) {
    FSRequest request = {.type = FS_MSG_RENAME, .rename_flags = flags};
    FSResponse response;
    FsAttr moved;

    int r = resolve(driver, from, strlen(from), &moved);
    if (r == 0) {
        r = resolve_parent(driver, from, &request.file_id, &request.name);
    }
    if (r == 0) {
        r = resolve_parent(driver, to, &request.file_id2, &request.name2);
    }
    if (r == 0) {
        r = driver_call(driver, &request, &response);
        if (r >= 0 && response.param1 != moved.file_id) {
            evict(driver, response.param1);
        }
        evict(driver, moved.file_id);
        evict(driver, request.file_id);
        evict(driver, request.file_id2);
    }
    return r;
}

int driver_rename(Driver *driver, const char *from, const char *to) {
    return rename_with(driver, from, to, 0);
}

int driver_exchange(Driver *driver, const char *one, const char *other) {
    return rename_with(driver, one, other, FS_RENAME_EXCHANGE);
}

static int64_t transfer(Driver *driver, const char *path, FSRequest *request, void *out) {
    FSResponse response;
    FsAttr attr;

    int r = resolve(driver, path, strlen(path), &attr);
    if (r < 0) {
        return r;
    }
    request->file_id = attr.file_id;
    r = driver_call(driver, request, &response);
    if (r > 0 && out != NULL) {
        memcpy(out, response.data, MIN((uint32_t)r, request->length));
    }
    evict(driver, attr.file_id);
    return r;
}

int64_t driver_write(Driver *driver, const char *path, uint64_t offset, const void *bytes,
                     uint32_t length) {
    FSRequest request = {.type = FS_MSG_WRITE_FILE,
                         .offset = offset,
                         .length = length,
                         .payload = bytes,
                         .payload_length = length};
    return transfer(driver, path, &request, NULL);
}

int64_t driver_read(Driver *driver, const char *path, uint64_t offset, void *bytes,
                    uint32_t length) {
    FSRequest request = {.type = FS_MSG_READ_FILE, .offset = offset, .length = length};
    return transfer(driver, path, &request, bytes);
}

int driver_truncate(Driver *driver, const char *path, uint64_t size) {
    FSRequest request = {.type = FS_MSG_SET_ATTR, .set = {.mask = FS_SET_SIZE, .size = size}};
    return (int)transfer(driver, path, &request, NULL);
}

int driver_sync(Driver *driver) {
    FSRequest request = {.type = FS_MSG_SYNC};
    FSResponse response;

    return driver_call(driver, &request, &response);
}

static int list(Driver *driver, uint64_t directory, void (*fn)(void *arg, const FsDirEntry *entry),
                void *arg) {
    uint64_t cookie = 0;
    unsigned rounds = 0;

    for (;;) {
        FSRequest request = {
            .type = FS_MSG_LIST_DIR, .file_id = directory, .offset = cookie, .length = 65536};
        FSResponse response;
        int r = driver_call(driver, &request, &response);
        if (r < 0) {
            return r;
        }
        /* fn may make calls of its own, which reuse the client's buffer. */
        _cleanup_free_ uint8_t *copy = malloc(response.data_length + 1u);
        if (copy == NULL) {
            return -ENOMEM;
        }
        if (response.data_length > 0) {
            memcpy(copy, response.data, response.data_length);
        }
        for (uint32_t used = 0; used < response.data_length;) {
            FsDirEntry entry;
            r = fs_dirent_decode(copy + used, response.data_length - used, &entry);
            if (r < 0) {
                return r;
            }
            used += (uint32_t)r;
            cookie = entry.cookie;
            fn(arg, &entry);
        }
        if ((response.flags & FS_RESP_END) != 0 || response.data_length == 0) {
            return 0;
        }
        if (++rounds > 100000) {
            return -ELOOP;
        }
    }
}

int driver_list(Driver *driver, const char *path, void (*fn)(void *arg, const FsDirEntry *entry),
                void *arg) {
    FsAttr attr;
    int r = resolve(driver, path, strlen(path), &attr);

    if (r == 0) {
        r = list(driver, attr.file_id, fn, arg);
        evict(driver, attr.file_id);
    }
    return r;
}

typedef struct Walk {
    Driver *driver;
    unsigned entries, entries_max, errors;
    uint32_t read_max;
    uint64_t directories[512]; /* still to visit */
    unsigned waiting;
    uint8_t *buffer;
    uint64_t parent;
} Walk;

static void walk_entry(void *arg, const FsDirEntry *entry) {
    Walk *walk = arg;
    FsAttr attr;

    if (walk->entries >= walk->entries_max) {
        return;
    }
    walk->entries++;
    if (lookup(walk->driver, walk->parent, entry->name, entry->name_length, &attr) < 0) {
        walk->errors++;
        return;
    }
    if (attr.type == FS_TYPE_DIRECTORY) {
        if (walk->waiting < ARRAY_SIZE(walk->directories)) {
            walk->directories[walk->waiting++] = attr.file_id;
            return;
        }
    } else {
        for (uint64_t offset = 0; offset < attr.size && offset < walk->read_max;) {
            FSRequest request = {.type = FS_MSG_READ_FILE,
                                 .file_id = attr.file_id,
                                 .offset = offset,
                                 .length = MIN(walk->read_max, FS_IO_MAX)};
            FSResponse response;
            int r = driver_call(walk->driver, &request, &response);
            if (r <= 0) {
                walk->errors += r < 0;
                break;
            }
            offset += (uint64_t)r;
        }
    }
    evict(walk->driver, attr.file_id);
}

int driver_walk(Driver *driver, unsigned entries_max, uint32_t read_max, unsigned *ret_errors) {
    _cleanup_free_ Walk *walk = calloc(1, sizeof(*walk));

    if (walk == NULL) {
        return -ENOMEM;
    }
    walk->driver = driver;
    walk->entries_max = entries_max;
    walk->read_max = read_max;
    walk->directories[walk->waiting++] = FS_ROOT_ID;
    while (walk->waiting > 0) {
        walk->parent = walk->directories[--walk->waiting];
        if (list(driver, walk->parent, walk_entry, walk) < 0) {
            walk->errors++;
        }
        evict(driver, walk->parent);
    }
    *ret_errors = walk->errors;
    return (int)walk->entries;
}
