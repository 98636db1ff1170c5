/* SPDX-License-Identifier: MIT */
/* HFS's resource forks are nodes of their own, whose ids follow from the files' (man hfsd.8). */
#include "forks.h"

#define NAME_INFO "user.com.apple.FinderInfo"
#define FORK_ID_BIT (UINT64_C(1) << 32)

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

static int find_fork(Session *session, uint64_t file, FsAttr *ret) {
    int r = forks_known(session) ? session_get_attr(session, file | FORK_ID_BIT, ret) : -EOPNOTSUPP;

    return r == 0 && ret->type != FS_TYPE_FILE ? -EPROTO : r;
}

int forks_resource_size(Session *session, uint64_t file, uint64_t *ret) {
    FsAttr fork;
    int r = find_fork(session, file, &fork);

    *ret = r == 0 ? fork.size : 0;
    return r;
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

int forks_read_resource(Session *session, uint64_t file, uint8_t **ret, uint64_t *ret_size) {
    FsAttr fork;
    int r = find_fork(session, file, &fork);

    return r == 0 ? read_file(session, &fork, ret, ret_size) : r;
}

int forks_write_resource(Session *session, uint64_t file, const uint8_t *data, uint64_t size) {
    FsAttr fork;
    int r = find_fork(session, file, &fork);

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
