/* SPDX-License-Identifier: MIT */
/*
 * A volume in use without a mount: a forked child has the image, locks itself
 * in as a daemon does, and executes requests; this side has the files of the
 * user, and believes the child no more than a mount believes a daemon. One
 * request at a time. Everything says on stderr what is wrong. Private to tools/.
 */
#ifndef BERTH_TOOLS_SESSION_H
#define BERTH_TOOLS_SESSION_H

#include "berth/message.h"

typedef struct Session Session;

typedef struct SessionConfig {
    const char *image;   /* path */
    const char *part;    /* NULL: the only one that fits */
    const char *type;    /* NULL: what it holds */
    const char *options; /* of the mount; NULL: none */
    bool readonly;
} SessionConfig;

int session_open(const SessionConfig *config, Session **ret);
const char *session_type(const Session *session); /* "hfs" */
/* Unmounts. 0, or what went wrong: then what was written may not be on disk. */
int session_close(Session *session);

/*
 * Sends a request (request_id, flags for bulk data, caller and time are filled in) and waits for
 * the answer. Bulk data of requests comes from session_buffer(), at most FS_IO_MAX bytes; the
 * answer's data is valid until the next call. Returns the result, or -EPROTO, -EPIPE when the child
 * misbehaved or died.
 */
int session_call(Session *session, FSRequest *request, FSResponse *response);
uint8_t *session_buffer(Session *session);

/* ---- what files and directories are made of; paths are relative to the root ---- */

/* -ENOENT, -ENOTDIR … Symbolic links are not followed. */
int session_lookup(Session *session, const char *path, FsAttr *ret);
/* The directory that path's last part is in, and that part, which points into path. */
int session_parent(Session *session, const char *path, FsAttr *ret, const char **ret_name);
int session_get_attr(Session *session, uint64_t file, FsAttr *ret);
int session_child(Session *session, uint64_t directory, const char *name, FsAttr *ret);
int64_t session_read(Session *session, uint64_t file, uint64_t offset, void *out, uint32_t length);
int session_write(Session *session, uint64_t file, uint64_t offset, const void *data,
                  uint32_t length);
int session_truncate(Session *session, uint64_t file, uint64_t size);
int session_create(Session *session, uint64_t directory, const char *name, FsFileType type,
                   uint32_t mode, FsAttr *ret);
int session_set_times(Session *session, uint64_t file, int64_t mtime_ns);
/* Returns the value's length; at most capacity bytes of it are in out. */
int64_t session_get_xattr(Session *session, uint64_t file, const char *name, void *out,
                          uint32_t capacity);
int session_set_xattr(Session *session, uint64_t file, const char *name, const void *value,
                      uint32_t length);
/* fn is called for each entry but "." and ".."; non-zero ends it. It must not call the session:
 * entries point into its data. */
int session_list(Session *session, uint64_t directory,
                 int (*fn)(void *arg, const FsDirEntry *entry), void *arg);

#endif
