/* SPDX-License-Identifier: MIT */
/* Paths, files and directories of a session: each call is one request, or a few. */
#include "session.h"

static FsName name_of(const char *text) {
    return (FsName){.text = text, .length = (uint32_t)strlen(text)};
}

int session_child(Session *session, uint64_t directory, const char *name, FsAttr *ret) {
    FSRequest request = {.type = FS_MSG_LOOKUP, .file_id = directory, .name = name_of(name)};
    FSResponse response;
    int r = request.name.length > FS_NAME_MAX ? -ENAMETOOLONG
                                              : session_call(session, &request, &response);

    if (r == 0) {
        *ret = response.attr;
    }
    return r;
}

int session_get_attr(Session *session, uint64_t file, FsAttr *ret) {
    FSRequest request = {.type = FS_MSG_GET_ATTR, .file_id = file};
    FSResponse response;
    int r = session_call(session, &request, &response);

    if (r == 0) {
        *ret = response.attr;
    }
    return r;
}

/* Goes down along the first `length` bytes of path. */
static int walk(Session *session, const char *path, size_t length, FsAttr *ret) {
    char name[FS_NAME_MAX + 1];
    FsAttr attr;
    int r = session_get_attr(session, FS_ROOT_ID, &attr);

    for (size_t at = 0; r == 0 && at < length;) {
        size_t part = strcspn(path + at, "/");

        part = MIN(part, length - at);
        if (part > FS_NAME_MAX) {
            return -ENAMETOOLONG;
        }
        if (part > 0) {
            memcpy(name, path + at, part);
            name[part] = '\0';
            r = strcmp(name, ".") == 0    ? 0
                : strcmp(name, "..") == 0 ? -EINVAL
                                          : session_child(session, attr.file_id, name, &attr);
        }
        at += part + 1;
    }
    if (r == 0) {
        *ret = attr;
    }
    return r;
}

int session_lookup(Session *session, const char *path, FsAttr *ret) {
    return walk(session, path, strlen(path), ret);
}

int session_parent(Session *session, const char *path, FsAttr *ret, const char **ret_name) {
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    int r = walk(session, path, (size_t)(name - path), ret);

    if (r == 0 && ret->type != FS_TYPE_DIRECTORY) {
        r = -ENOTDIR;
    }
    if (r == 0) {
        *ret_name = name;
    }
    return r;
}

int64_t session_read(Session *session, uint64_t file, uint64_t offset, void *out, uint32_t length) {
    FSRequest request = {.type = FS_MSG_READ_FILE,
                         .flags = FS_REQ_ARENA,
                         .file_id = file,
                         .offset = offset,
                         .length = MIN(length, FS_IO_MAX)};
    FSResponse response;
    int r = session_call(session, &request, &response);

    if (r >= 0) {
        if (response.data_length > request.length) {
            return -EPROTO;
        }
        memcpy(out, response.data, response.data_length);
        return response.data_length;
    }
    return r;
}

int session_write(Session *session, uint64_t file, uint64_t offset, const void *data,
                  uint32_t length) {
    while (length > 0) {
        FSRequest request = {.type = FS_MSG_WRITE_FILE,
                             .flags = FS_REQ_ARENA,
                             .file_id = file,
                             .offset = offset,
                             .length = MIN(length, FS_IO_MAX)};
        FSResponse response;
        int r;

        memcpy(session_buffer(session), data, request.length);
        r = session_call(session, &request, &response);
        if (r <= 0 || (uint32_t)r > request.length) {
            return r < 0 ? r : -EIO;
        }
        offset += (uint32_t)r;
        length -= (uint32_t)r;
        data = (const uint8_t *)data + r;
    }
    return 0;
}

static int set_attr(Session *session, uint64_t file, const FsSetattr *set) {
    FSRequest request = {.type = FS_MSG_SET_ATTR, .file_id = file, .set = *set};
    FSResponse response;

    return session_call(session, &request, &response);
}

int session_truncate(Session *session, uint64_t file, uint64_t size) {
    return set_attr(session, file, &(FsSetattr){.mask = FS_SET_SIZE, .size = size});
}

int session_set_times(Session *session, uint64_t file, int64_t mtime_ns) {
    return set_attr(session, file, &(FsSetattr){.mask = FS_SET_MTIME, .mtime_ns = mtime_ns});
}

int session_create(Session *session, uint64_t directory, const char *name, FsFileType type,
                   uint32_t mode, FsAttr *ret) {
    FSRequest request = {.type = FS_MSG_CREATE_FILE,
                         .file_id = directory,
                         .name = name_of(name),
                         .file_type = type,
                         .mode = mode};
    FSResponse response;
    int r = request.name.length > FS_NAME_MAX ? -ENAMETOOLONG
                                              : session_call(session, &request, &response);

    if (r == 0) {
        *ret = response.attr;
    }
    return r;
}

int64_t session_get_xattr(Session *session, uint64_t file, const char *name, void *out,
                          uint32_t capacity) {
    FSRequest request = {.type = FS_MSG_GET_XATTR,
                         .flags = FS_REQ_ARENA,
                         .file_id = file,
                         .name = name_of(name),
                         .length = capacity};
    FSResponse response;
    int r = session_call(session, &request, &response);

    if (r < 0) {
        return r;
    }
    if (response.data_length > capacity) {
        return -EPROTO;
    }
    memcpy(out, response.data, response.data_length);
    return (int64_t)response.data_length;
}

int session_set_xattr(Session *session, uint64_t file, const char *name, const void *value,
                      uint32_t length) {
    FSRequest request = {.type = FS_MSG_SET_XATTR,
                         .flags = FS_REQ_ARENA,
                         .file_id = file,
                         .name = name_of(name),
                         .length = length};
    FSResponse response;

    if (length > FS_IO_MAX) {
        return -E2BIG;
    }
    if (length > 0) {
        memcpy(session_buffer(session), value, length);
    }
    return session_call(session, &request, &response);
}

static bool is_dots(const FsDirEntry *entry) {
    return entry->name[0] == '.' &&
           (entry->name_length == 1 || (entry->name_length == 2 && entry->name[1] == '.'));
}

int session_list(Session *session, uint64_t directory,
                 int (*fn)(void *arg, const FsDirEntry *entry), void *arg) {
    uint64_t cookie = 0;
    int r = 0;

    while (r == 0) {
        FSRequest request = {.type = FS_MSG_LIST_DIR,
                             .flags = FS_REQ_ARENA,
                             .file_id = directory,
                             .offset = cookie,
                             .length = FS_IO_MAX};
        FSResponse response;

        r = session_call(session, &request, &response);
        for (uint32_t at = 0; r == 0 && at < response.data_length;) {
            FsDirEntry entry;
            int n = fs_dirent_decode(response.data + at, response.data_length - at, &entry);

            if (n <= 0) {
                return -EPROTO;
            }
            at += (uint32_t)n;
            cookie = entry.cookie;
            r = is_dots(&entry) ? 0 : fn(arg, &entry);
        }
        if (r != 0 || (response.flags & FS_RESP_END) != 0) {
            break;
        }
        if (cookie == request.offset) {
            return -EPROTO; /* it would go on for ever */
        }
    }
    return r;
}
