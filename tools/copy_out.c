/* SPDX-License-Identifier: MIT */
/*
 * From a volume to this side. Names inside directories come from the volume:
 * they are made with the directory open and without following symbolic links,
 * so that nothing is written outside the directory that the user named.
 */
#include "berth/hfs.h"
#include "berth/log.h"
#include "copy.h"
#include "forks.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static int create_file(int dir_fd, const char *name, int *ret) {
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | (dir_fd != AT_FDCWD ? O_NOFOLLOW : 0);

    *ret = openat(dir_fd, name, flags, 0666);
    return *ret < 0 ? -errno : 0;
}

static void set_time(int fd, const FsAttr *attr) {
    struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = (time_t)(attr->mtime_ns / 1000000000), .tv_nsec = attr->mtime_ns % 1000000000},
    };

    if (times[1].tv_nsec >= 0) {
        (void)futimens(fd, times);
    }
}

/* ---- plain ---- */

static int stream_out(Copy *copy, const FsAttr *attr, int fd) {
    _cleanup_free_ uint8_t *buffer = malloc(FS_IO_MAX);
    uint64_t done = 0;

    if (buffer == NULL) {
        return -ENOMEM;
    }
    for (;;) {
        int64_t n = session_read(copy->session, attr->file_id, done, buffer, FS_IO_MAX);
        int r = n <= 0 ? (int)n : copy_write_all(fd, buffer, (uint64_t)n);

        if (n <= 0 || r < 0) {
            return r;
        }
        done += (uint64_t)n;
    }
}

/* ---- travelling forms ---- */

static int read_data(Copy *copy, const FsAttr *attr, MacFile *file) {
    uint64_t done = 0;

    if (attr->size > MAC_FORK_MAX) {
        return -EFBIG;
    }
    file->data = malloc(MAX(attr->size, UINT64_C(1)));
    if (file->data == NULL) {
        return -ENOMEM;
    }
    while (done < attr->size) {
        int64_t n = session_read(copy->session, attr->file_id, done, file->data + done,
                                 (uint32_t)MIN(attr->size - done, (uint64_t)FS_IO_MAX));

        if (n <= 0) {
            return n < 0 ? (int)n : -EIO;
        }
        done += (uint64_t)n;
    }
    file->data_size = attr->size;
    return 0;
}

static int load_file(Copy *copy, const FsAttr *attr, const char *mac_name, MacFile *file) {
    unsigned length = 0;
    int r = hfs_text_encode(copy->encoding, mac_name, file->name, &length);

    file->name_length = (uint8_t)length;
    file->has_times = true;
    file->modified = attr->mtime_ns / 1000000000;
    file->created = attr->btime_ns != INT64_MIN ? attr->btime_ns / 1000000000 : file->modified;
    if (r == 0) {
        r = forks_info(copy->session, attr->file_id, file->info);
    }
    if (r == 0) {
        r = forks_read_resource(copy->session, attr->file_id, &file->resource,
                                &file->resource_size);
    }
    return r < 0 ? r : read_data(copy, attr, file);
}

static int write_beside(int dir_fd, const char *name, const MacFile *file) {
    const char *slash = strrchr(name, '/');
    _cleanup_(text_done) Text path = {0};
    _cleanup_(text_done) Text bytes = {0};
    _cleanup_close_ int fd = -1;
    size_t directory = slash != NULL ? (size_t)(slash + 1 - name) : 0;
    int r;

    text_append(&path, name, directory);
    text_printf(&path, "._%s", name + directory);
    mac_double_encode(file, &bytes);
    if (path.failed || bytes.failed) {
        return -ENOMEM;
    }
    r = create_file(dir_fd, text_string(&path), &fd);
    return r < 0 ? r : copy_write_all(fd, bytes.data, bytes.length);
}

static int write_form(Copy *copy, const MacFile *file, int dir_fd, const char *name, int fd) {
    _cleanup_(text_done) Text bytes = {0};

    switch (copy->form) {
    case MAC_BINARY:
        mac_binary_encode(file, &bytes);
        break;
    case MAC_BINHEX:
        mac_binhex_encode(file, &bytes);
        break;
    case MAC_DOUBLE:
        if (fd == STDOUT_FILENO) {
            return -EINVAL; /* it has two files */
        } else {
            int r = copy_write_all(fd, file->data, file->data_size);

            return r < 0 ? r : write_beside(dir_fd, name, file);
        }
    case MAC_PLAIN:
    default:
        return -EINVAL;
    }
    return bytes.failed ? -ENOMEM : copy_write_all(fd, bytes.data, bytes.length);
}

/* ---- files and directories ---- */

static int file_out(Copy *copy, const FsAttr *attr, const char *mac_name, int dir_fd,
                    const char *name) {
    bool to_stdout = dir_fd == AT_FDCWD && strcmp(name, "-") == 0;
    MacFile file = {0};
    int fd = STDOUT_FILENO, r = 0;

    if (copy->form != MAC_PLAIN) {
        r = load_file(copy, attr, mac_name, &file);
    }
    if (r == 0 && !to_stdout) {
        r = create_file(dir_fd, name, &fd);
    }
    if (r == 0) {
        r = copy->form == MAC_PLAIN ? stream_out(copy, attr, fd)
                                    : write_form(copy, &file, dir_fd, name, fd);
        if (!to_stdout) {
            set_time(fd, attr);
            if (close(fd) < 0 && r == 0) {
                r = -errno;
            }
        }
    }
    mac_file_done(&file);
    return r < 0 ? copy_failed(copy, name, r) : 0;
}

typedef struct Names {
    Text text; /* each with its NUL */
} Names;

static int on_entry(void *arg, const FsDirEntry *entry) {
    Names *names = arg;

    text_append(&names->text, entry->name, entry->name_length);
    text_append(&names->text, "", 1);
    return names->text.failed ? -ENOMEM : 0;
}

static int out_at_depth(Copy *copy, const FsAttr *attr, const char *mac_name, int dir_fd,
                        const char *name, unsigned depth);

static int entries_out(Copy *copy, const FsAttr *attr, int dir_fd, unsigned depth) {
    Names names = {0};
    int r = session_list(copy->session, attr->file_id, on_entry, &names);

    for (size_t at = 0; r == 0 && at < names.text.length;) {
        const char *name = names.text.data + at;
        FsAttr child;

        r = session_child(copy->session, attr->file_id, name, &child);
        if (r == 0) {
            (void)out_at_depth(copy, &child, name, dir_fd, name, depth + 1);
        }
        at += strlen(name) + 1;
    }
    text_done(&names.text);
    return r;
}

static int directory_out(Copy *copy, const FsAttr *attr, int dir_fd, const char *name,
                         unsigned depth) {
    _cleanup_close_ int fd = -1;
    int r = 0;

    if (depth == COPY_DEPTH_MAX) {
        return copy_failed(copy, name, -ELOOP);
    }
    if (mkdirat(dir_fd, name, 0777) < 0 && errno != EEXIST) {
        return copy_failed(copy, name, -errno);
    }
    fd = openat(dir_fd, name,
                O_RDONLY | O_DIRECTORY | O_CLOEXEC | (dir_fd != AT_FDCWD ? O_NOFOLLOW : 0));
    r = fd < 0 ? -errno : entries_out(copy, attr, fd, depth);
    return r < 0 ? copy_failed(copy, name, r) : 0;
}

static int out_at_depth(Copy *copy, const FsAttr *attr, const char *mac_name, int dir_fd,
                        const char *name, unsigned depth) {
    switch (attr->type) {
    case FS_TYPE_FILE:
        return file_out(copy, attr, mac_name, dir_fd, name);
    case FS_TYPE_DIRECTORY:
        return copy->recursive ? directory_out(copy, attr, dir_fd, name, depth)
                               : copy_failed(copy, name, -EISDIR);
    default:
        log_warning("%s: neither a file nor a directory, left out", name);
        return 0;
    }
}

int copy_out(Copy *copy, const FsAttr *attr, const char *mac_name, int dir_fd, const char *name) {
    return out_at_depth(copy, attr, mac_name, dir_fd, name, 0);
}
