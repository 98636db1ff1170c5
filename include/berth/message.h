/* SPDX-License-Identifier: MIT */
/*
 * The messages: FSRequest and FSResponse, their wire form (man
 * berth-protocol.7) and their words. Everything is little-endian with fixed
 * offsets. Decoding works on a private copy only (copy, then check, then use)
 * and accepts nothing that encoding could not have produced.
 */
#ifndef BERTH_MESSAGE_H
#define BERTH_MESSAGE_H

#include "berth/base.h"
#include "berth/fs.h"

#define FS_PROTOCOL_MAGIC 0x48545242u /* "BRTH" as bytes */
#define FS_PROTOCOL_VERSION 1u
#define FS_REQUEST_HEADER 192u
#define FS_RESPONSE_HEADER 288u
#define FS_INLINE_MAX 4096u /* payload carried in the message itself */
#define FS_MESSAGE_MAX 8192u
#define FS_IO_MAX (1024u * 1024u) /* one READ_FILE or WRITE_FILE */

typedef enum FSMessageType {
    FS_MSG_READ_FILE = 0,
    FS_MSG_WRITE_FILE = 1,
    FS_MSG_LIST_DIR = 2,
    FS_MSG_LOOKUP = 3,
    FS_MSG_CREATE_FILE = 4,
    FS_MSG_DELETE_FILE = 5,
    FS_MSG_GET_STATS = 6,
    FS_MSG_MOUNT = 7,
    FS_MSG_UNMOUNT = 8,
    FS_MSG_SHUTDOWN = 9,
    FS_MSG_GET_ATTR = 10,
    FS_MSG_SET_ATTR = 11,
    FS_MSG_RENAME = 12,
    FS_MSG_LINK = 13,
    FS_MSG_READ_LINK = 14,
    FS_MSG_STATFS = 15,
    FS_MSG_FSYNC = 16,
    FS_MSG_SYNC = 17,
    FS_MSG_FALLOCATE = 18,
    FS_MSG_GET_XATTR = 19,
    FS_MSG_SET_XATTR = 20,
    FS_MSG_LIST_XATTR = 21,
    FS_MSG_REMOVE_XATTR = 22,
    FS_MSG_EVICT = 23,
    FS_MSG_PING = 24,
    FS_MSG_REMOUNT = 25,
    FS_MSG_SEEK = 26,
    FS_MSG_FENCE = 27,
    FS_MSG_FREEZE = 28,
    FS_MSG_COUNT,
} FSMessageType;

const char *fs_message_name(unsigned type); /* "READ_FILE"; "type-N" for an unknown one */

/* request_id: slot in the upper 16 bits, sequence in the lower 48. */
static inline uint64_t fs_request_id(uint16_t slot, uint64_t seq) {
    return (uint64_t)slot << 48 | (seq & UINT64_C(0xffffffffffff));
}
static inline uint16_t fs_request_slot(uint64_t id) {
    return (uint16_t)(id >> 48);
}
static inline uint64_t fs_request_seq(uint64_t id) {
    return id & UINT64_C(0xffffffffffff);
}

enum FSRequestFlags {
    FS_REQ_ARENA = 1 << 0,        /* payload lies in (or is wanted in) the arena at arena_offset */
    FS_REQ_RMDIR = 1 << 1,        /* DELETE_FILE: a directory */
    FS_REQ_DATASYNC = 1 << 2,     /* FSYNC */
    FS_REQ_KILL_SUIDGID = 1 << 3, /* WRITE_FILE */
    FS_REQ_READONLY = 1 << 4,     /* REMOUNT, MOUNT */
    FS_REQ_RECOVER = 1 << 5,      /* MOUNT: take over what a predecessor left in the lifeline */
    FS_REQ_FLAGS_ALL = (1 << 6) - 1,
};

/*
 * One structure for all types, as in the original design; a field that a type does not use is
 * zero on the wire. Meaning per type:
 *   READ_FILE, WRITE_FILE  file_id, offset, length; payload inline (WRITE, length <= 4096) or ARENA
 *   LIST_DIR     file_id, offset = cookie, length = most bytes of entries wanted
 *   LOOKUP, DELETE_FILE    file_id = directory, name
 *   CREATE_FILE  file_id = directory, name, mode (permission bits), file_type, rdev; name2 = target
 *   RENAME       file_id, name -> file_id2, name2; rename_flags
 *   LINK         file_id = target, file_id2 = directory, name
 *   SET_ATTR     file_id, set
 *   FALLOCATE    file_id, offset, length64, mode
 *   SEEK         file_id, offset, mode = SEEK_DATA or SEEK_HOLE
 *   *_XATTR      file_id, name = attribute, payload = value, mode = flags, length = most bytes
 *                wanted, or the value's (SET_XATTR; 0 with an inline payload: filled in)
 *   GET_STATS    length = most bytes wanted
 *   EVICT        offset = number of the last response seen; payload = file_ids, 8 bytes each
 *   MOUNT, REMOUNT         payload = option string; MOUNT with RECOVER: offset = number of the last
 *                response of the predecessors, from which this daemon's go on
 *   FENCE        nothing: all device I/O of the predecessors has ended
 *   FREEZE       nothing: answered when nothing is under way and nothing will be begun; the next
 *                request thaws
 *   GET_ATTR, READ_LINK, FSYNC            file_id
 *   STATFS, SYNC, PING, UNMOUNT, SHUTDOWN nothing
 * What is wanted, or written, above FS_INLINE_MAX bytes needs an arena slot.
 */
typedef struct FSRequest {
    uint16_t type;
    uint16_t flags;
    uint64_t request_id;
    uint64_t file_id;
    uint64_t file_id2;
    uint64_t offset;
    uint64_t length64;
    uint32_t length;
    uint32_t deadline_ms; /* relative; 0: none */
    uint32_t uid, gid, pid;
    int64_t time_ns;
    uint32_t mode;
    uint32_t file_type; /* FsFileType */
    uint32_t rdev;
    uint32_t rename_flags;
    FsSetattr set;
    uint64_t arena_offset; /* of the payload's slot, in the `out` (WRITE) or `in` arena */
    uint32_t arena_length; /* usable bytes there */
    FsName name, name2;
    const uint8_t *payload; /* inline */
    uint32_t payload_length;
} FSRequest;

enum FSResponseFlags {
    FS_RESP_ATTR = 1 << 0,        /* attr is present */
    FS_RESP_PARENT_ATTR = 1 << 1, /* parent is present */
    FS_RESP_ARENA = 1 << 2,       /* data lies in the request's arena slot */
    FS_RESP_EXACT = 1 << 3,       /* LOOKUP: the spelling asked for is the stored one */
    FS_RESP_END = 1 << 4,         /* LIST_DIR: nothing comes after */
    FS_RESP_READONLY = 1 << 5,    /* the volume is read-only now */
    FS_RESP_FLAGS_ALL = (1 << 6) - 1,
};

/*
 * param1, param2 per type: LOOKUP, CREATE, LINK: unused (attr.file_id names the object);
 * DELETE_FILE: file_id of the victim; RENAME: file_id of what was replaced, or 0; SEEK: offset;
 * GET/LIST_XATTR: full size of the value (data_length is 0 when only the size was asked).
 * STATFS: data = 7 little-endian u64 (blocks, free, available, files, files_free, block_size,
 * name_max). MOUNT: data = "key=value" lines (label, uuid, subtype, block_size, case, readonly);
 * MOUNT and REMOUNT that failed: data = one line of text (hostile bytes to who logs it).
 * READ_FILE: data_length equals result. LOOKUP, CREATE_FILE, LINK, GET_ATTR and SET_ATTR that
 * succeeded always carry attr; RENAME's attr is the object moved, its parent the new directory.
 * attr belongs to the request's file (for names: the object named), parent to its directory.
 */
typedef struct FSResponse {
    uint16_t type; /* the request's */
    uint16_t flags;
    uint64_t request_id;
    uint64_t number; /* of this response, rising over the epochs, in the order of sending */
    int32_t result;  /* 0 or -errno; READ_FILE and WRITE_FILE: bytes done */
    uint32_t data_length;
    uint64_t param1, param2;
    FsAttr attr, parent;
    const uint8_t *data; /* inline; NULL with ARENA */
} FSResponse;

/*
 * Encode into buf. Returns the length of the message (at most FS_MESSAGE_MAX), -EMSGSIZE when it
 * does not fit in capacity, -EINVAL for a message that the wire cannot express. Numbers that the
 * type does not use are left out; a flag, name or payload that it does not use is -EINVAL.
 */
int fs_request_encode(const FSRequest *request, uint8_t *buf, size_t capacity);
int fs_response_encode(const FSResponse *response, uint8_t *buf, size_t capacity);
/* Decode a private copy. Names and payload point into buf. -EPROTO with *text (128 bytes, may be
 * NULL) naming field and value. */
int fs_request_decode(const uint8_t *buf, size_t length, FSRequest *ret, char text[128]);
int fs_response_decode(const uint8_t *buf, size_t length, FSResponse *ret, char text[128]);
/* One line in words, for -o debug. Returns buf. */
const char *fs_request_to_text(const FSRequest *request, char *buf, size_t capacity);
const char *fs_response_to_text(const FSResponse *response, char *buf, size_t capacity);

/* LIST_DIR entries (inline or in the arena): packed one after the other, each padded to 8. */
#define FS_DIRENT_HEADER 128u
/* Bytes written, -EMSGSIZE when it does not fit, -EINVAL for what decoding would refuse. */
int fs_dirent_encode(const FsDirEntry *entry, uint8_t *buf, size_t capacity);
/* Decodes one (checked; name by fs_name_check's rules); returns bytes consumed or -EPROTO. */
int fs_dirent_decode(const uint8_t *buf, size_t length, FsDirEntry *ret);

#endif
