/* SPDX-License-Identifier: MIT */
/*
 * The resource fork is a file of its own, FILE/..namedfork/rsrc, where the
 * filesystem has that; else it is an extended attribute, which ends at 64 KiB.
 */
#include "forks.h"

#define NAME_INFO "user.com.apple.FinderInfo"
#define NAME_RESOURCE "user.com.apple.ResourceFork"
#define RESOURCE_XATTR_MAX 65536u

bool forks_known(const Session *session) {
    return strncmp(session_type(session), "hfs", 3) == 0;
}

int forks_info(Session *session, uint64_t file, uint8_t ret[FORKS_INFO_SIZE]) {
    int64_t n = session_get_xattr(session, file, NAME_INFO, ret, FORKS_INFO_SIZE);

    if (n == -ENODATA) {
        memset(ret, 0, FORKS_INFO_SIZE);
        return 0;
    }
    return n < 0 ? (int)n : n == FORKS_INFO_SIZE ? 0 : -EPROTO;
}

int forks_set_info(Session *session, uint64_t file, const uint8_t info[FORKS_INFO_SIZE]) {
    return session_set_xattr(session, file, NAME_INFO, info, FORKS_INFO_SIZE);
}

/* The fork as a file. -EOPNOTSUPP: this filesystem has no such files. */
static int find_fork(Session *session, uint64_t file, FsAttr *ret) {
    FsAttr attr;
    int r = session_child(session, file, "..namedfork", &attr);

    if (r == 0) {
        r = session_child(session, attr.file_id, "rsrc", &attr);
    }
    if (r == 0) {
        *ret = attr;
    }
    return r == -ENOENT || r == -ENOTDIR ? -EOPNOTSUPP : r;
}

int forks_resource_size(Session *session, uint64_t file, uint64_t *ret) {
    FSRequest request = {.type = FS_MSG_GET_XATTR,
                         .file_id = file,
                         .name = {NAME_RESOURCE, sizeof(NAME_RESOURCE) - 1}};
    FSResponse response;
    FsAttr attr;
    int r = find_fork(session, file, &attr);

    if (r == 0) {
        *ret = attr.size;
        return 0;
    }
    if (r == -EOPNOTSUPP) {
        r = session_call(session, &request, &response);
        *ret = r == -ENODATA ? 0 : response.param1;
        r = r == -ENODATA ? 0 : r;
    }
    return r < 0 ? r : 0;
}

static int read_file(Session *session, const FsAttr *fork, uint8_t **ret, uint64_t *ret_size) {
    uint8_t *data = malloc(MAX(fork->size, UINT64_C(1)));
    uint64_t done = 0;

    if (data == NULL) {
        return -ENOMEM;
    }
    while (done < fork->size) {
        int64_t n = session_read(session, fork->file_id, done, data + done,
                                 (uint32_t)MIN(fork->size - done, (uint64_t)FS_IO_MAX));

        if (n <= 0) {
            free(data);
            return n < 0 ? (int)n : -EIO;
        }
        done += (uint64_t)n;
    }
    *ret = data;
    *ret_size = fork->size;
    return 0;
}

static int read_xattr(Session *session, uint64_t file, uint8_t **ret, uint64_t *ret_size) {
    uint8_t *data = malloc(RESOURCE_XATTR_MAX);
    int64_t n;

    if (data == NULL) {
        return -ENOMEM;
    }
    n = session_get_xattr(session, file, NAME_RESOURCE, data, RESOURCE_XATTR_MAX);
    if (n < 0 && n != -ENODATA && n != -EOPNOTSUPP) {
        free(data);
        return (int)n;
    }
    *ret = data;
    *ret_size = n < 0 ? 0 : (uint64_t)n;
    return 0;
}

int forks_read_resource(Session *session, uint64_t file, uint8_t **ret, uint64_t *ret_size) {
    FsAttr fork;
    int r = find_fork(session, file, &fork);

    if (r == 0) {
        return read_file(session, &fork, ret, ret_size);
    }
    return r == -EOPNOTSUPP ? read_xattr(session, file, ret, ret_size) : r;
}

int forks_write_resource(Session *session, uint64_t file, const uint8_t *data, uint64_t size) {
    FsAttr fork;
    int r = find_fork(session, file, &fork);

    if (r == -EOPNOTSUPP) {
        return size > RESOURCE_XATTR_MAX
                   ? -E2BIG
                   : session_set_xattr(session, file, NAME_RESOURCE, data, (uint32_t)size);
    }
    if (r == 0) {
        r = session_truncate(session, fork.file_id, size);
    }
    for (uint64_t done = 0; r == 0 && done < size;) {
        uint32_t part = (uint32_t)MIN(size - done, (uint64_t)FS_IO_MAX);

        r = session_write(session, fork.file_id, done, data + done, part);
        done += part;
    }
    return r;
}
