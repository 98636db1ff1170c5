/* SPDX-License-Identifier: MIT */
/*
 * From this side to a volume. A file that is there already gets the new
 * contents; a directory is merged into the one that is there.
 */
#include "berth/hfs.h"
#include "berth/log.h"
#include "copy.h"
#include "forks.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* The file of that name, empty. */
static int make_file(Copy *copy, uint64_t directory, const char *name, uint32_t mode, FsAttr *ret) {
    int r = session_create(copy->session, directory, name, FS_TYPE_FILE, mode, ret);

    if (r == -EEXIST) {
        r = session_child(copy->session, directory, name, ret);
        if (r == 0 && ret->type != FS_TYPE_FILE) {
            r = -EISDIR;
        }
        if (r == 0) {
            r = session_truncate(copy->session, ret->file_id, 0);
        }
    }
    return r;
}

static int make_directory(Copy *copy, uint64_t directory, const char *name, uint32_t mode,
                          FsAttr *ret) {
    int r = session_create(copy->session, directory, name, FS_TYPE_DIRECTORY, mode, ret);

    if (r == -EEXIST) {
        r = session_child(copy->session, directory, name, ret);
        if (r == 0 && ret->type != FS_TYPE_DIRECTORY) {
            r = -ENOTDIR;
        }
    }
    return r;
}

/* ---- plain ---- */

static int stream_in(Copy *copy, int fd, uint64_t file) {
    _cleanup_free_ uint8_t *buffer = malloc(FS_IO_MAX);
    uint64_t done = 0;

    if (buffer == NULL) {
        return -ENOMEM;
    }
    for (;;) {
        ssize_t n = read(fd, buffer, FS_IO_MAX);
        int r = n <= 0 ? (n < 0 ? -errno : 0)
                       : session_write(copy->session, file, done, buffer, (uint32_t)n);

        if (n <= 0 || r < 0) {
            return r;
        }
        done += (uint64_t)n;
    }
}

/* ---- travelling forms ---- */

static int decode_beside(const char *path, MacFile *file, const char **why) {
    _cleanup_(text_done) Text beside = {0};
    _cleanup_free_ uint8_t *bytes = NULL;
    _cleanup_close_ int fd = -1;
    size_t size = 0;
    int r;

    text_append(&beside, path, (size_t)(base_name(path) - path));
    text_printf(&beside, "._%s", base_name(path));
    if (beside.failed) {
        return -ENOMEM;
    }
    fd = open(text_string(&beside), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno; /* it has nothing but data */
    }
    r = copy_read_all(fd, &bytes, &size);
    return r < 0 ? r : mac_double_decode(bytes, size, file, why);
}

static int decode_form(Copy *copy, const char *path, int fd, MacFile *ret, const char **why) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    int r = copy_read_all(fd, &bytes, &size);

    if (r < 0) {
        return r;
    }
    if (copy->form == MAC_DOUBLE) {
        ret->data = bytes;
        ret->data_size = size;
        return size > MAC_FORK_MAX ? -EFBIG : decode_beside(path, ret, why);
    }
    r = copy->form == MAC_BINARY ? mac_binary_decode(bytes, size, ret, why)
                                 : mac_binhex_decode(bytes, size, ret, why);
    free(bytes);
    return r;
}

static int store_file(Copy *copy, const MacFile *file, const FsAttr *attr) {
    int r = 0;

    for (uint64_t done = 0; r == 0 && done < file->data_size;) {
        uint32_t part = (uint32_t)MIN(file->data_size - done, (uint64_t)FS_IO_MAX);

        r = session_write(copy->session, attr->file_id, done, file->data + done, part);
        done += part;
    }
    if (r == 0) {
        r = forks_write_resource(copy->session, attr->file_id, file->resource, file->resource_size);
    }
    if (r == 0) {
        r = forks_set_info(copy->session, attr->file_id, file->info);
    }
    if (r == 0 && file->has_times) {
        r = session_set_times(copy->session, attr->file_id,
                              MIN(file->modified * 1000000000, copy->newest_ns));
    }
    return r;
}

static int form_in(Copy *copy, const char *path, int fd, uint64_t directory, const char *name,
                   uint32_t mode) {
    char own_name[4 * HFS_TEXT_MAX + 1];
    const char *why = NULL;
    MacFile file = {0};
    FsAttr attr;
    int r = decode_form(copy, path, fd, &file, &why);

    if (r == -EBADMSG) {
        log_error("%s: %s", path, why);
        copy->failed = true;
        mac_file_done(&file);
        return r;
    }
    if (r == 0 && name == NULL) {
        name = base_name(path);
        if (copy->form != MAC_DOUBLE) {
            r = hfs_text_decode(copy->encoding, file.name, file.name_length, own_name,
                                sizeof(own_name));
            r = r > 0 ? 0 : r;
            name = own_name;
        }
    }
    if (r == 0) {
        r = make_file(copy, directory, name, mode, &attr);
    }
    if (r == 0) {
        r = store_file(copy, &file, &attr);
    }
    mac_file_done(&file);
    return r < 0 ? copy_failed(copy, path, r) : 0;
}

/* ---- files and directories ---- */

static int plain_in(Copy *copy, const char *path, int fd, uint64_t directory, const char *name,
                    const struct stat *st) {
    FsAttr attr;
    int r = make_file(copy, directory, name != NULL ? name : base_name(path), st->st_mode & 0777,
                      &attr);

    if (r == 0) {
        r = stream_in(copy, fd, attr.file_id);
    }
    if (r == 0 && S_ISREG(st->st_mode)) {
        int64_t mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;

        r = session_set_times(copy->session, attr.file_id, MIN(mtime_ns, copy->newest_ns));
    }
    return r < 0 ? copy_failed(copy, path, r) : 0;
}

static int in_at_depth(Copy *copy, const char *path, uint64_t directory, const char *name,
                       unsigned depth);

static int skip_dots(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* Not alphasort(): that depends on the locale. */
static int compare_names(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* In the order of names, so that the same directory always gives the same volume. */
static int entries_in(Copy *copy, const char *path, uint64_t directory, unsigned depth) {
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, skip_dots, compare_names);

    if (count < 0) {
        return copy_failed(copy, path, -errno);
    }
    for (int i = 0; i < count; i++) {
        _cleanup_(text_done) Text inside = {0};
        bool beside = copy->form == MAC_DOUBLE && strncmp(entries[i]->d_name, "._", 2) == 0;

        text_printf(&inside, "%s/%s", path, entries[i]->d_name);
        if (!inside.failed && !beside) {
            (void)in_at_depth(copy, text_string(&inside), directory, entries[i]->d_name, depth + 1);
        }
        free(entries[i]);
    }
    free(entries);
    return 0;
}

static int directory_in(Copy *copy, const char *path, uint64_t directory, const char *name,
                        uint32_t mode, unsigned depth) {
    FsAttr attr;
    int r =
        depth == COPY_DEPTH_MAX
            ? -ELOOP
            : make_directory(copy, directory, name != NULL ? name : base_name(path), mode, &attr);

    return r < 0 ? copy_failed(copy, path, r) : entries_in(copy, path, attr.file_id, depth);
}

static int in_at_depth(Copy *copy, const char *path, uint64_t directory, const char *name,
                       unsigned depth) {
    _cleanup_close_ int fd = -1;
    struct stat st;

    /* What the user named may be a link; what lies in a directory is taken as it is. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (depth > 0 ? O_NOFOLLOW : 0));
    if (fd < 0 && errno == ELOOP && depth > 0) {
        log_warning("%s: a symbolic link, left out", path);
        return 0;
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        return copy_failed(copy, path, -errno);
    }
    if (S_ISDIR(st.st_mode)) {
        return copy->recursive ? directory_in(copy, path, directory, name, st.st_mode & 0777, depth)
                               : copy_failed(copy, path, -EISDIR);
    }
    if (!S_ISREG(st.st_mode)) {
        log_warning("%s: neither a file nor a directory, left out", path);
        return 0;
    }
    return copy->form == MAC_PLAIN
               ? plain_in(copy, path, fd, directory, name, &st)
               : form_in(copy, path, fd, directory,
                         depth > 0 && copy->form != MAC_DOUBLE ? NULL : name, st.st_mode & 0777);
}

int copy_in(Copy *copy, const char *path, uint64_t directory, const char *name) {
    return in_at_depth(copy, path, directory, name, 0);
}

int copy_in_entries(Copy *copy, const char *path, uint64_t directory) {
    return entries_in(copy, path, directory, 0);
}
