/* SPDX-License-Identifier: MIT */
/*
 * The wire structures of man berth-protocol.7, and nothing else: no logic. All
 * fields are byte arrays, so that a structure has alignment 1, no padding, and the
 * layout of its declaration; the assertions below hold every offset that the page
 * gives. A change here is a change of the protocol's version.
 */
#ifndef BERTH_IPC_FORMAT_H
#define BERTH_IPC_FORMAT_H

#include <assert.h>
#include <stddef.h>

#include "berth/bytes.h"
#include "berth/channel.h"
#include "berth/message.h"

#define WIRE_ALIGN 8u                /* names and payload are padded to this, with zeros */
#define WIRE_TARGET_MAX 4095u        /* bytes of a symlink's target */
#define WIRE_ARENA_ALIGN 4096u       /* of arena_offset and of the arenas' sizes */
#define WIRE_ERRNO_MAX 4095          /* result is not below -WIRE_ERRNO_MAX */
#define WIRE_STATFS_LENGTH 56u       /* STATFS: seven u64 */
#define WIRE_DIRENT_HAS_ATTR 1u      /* WireDirent.flags */
#define WIRE_HELLO_READONLY 1u       /* WireHello.flags */
#define WIRE_HELLO_HELD 2u
#define WIRE_HELLO_MAGIC 0x4f4c4842u /* "BHLO" as bytes */
#define WIRE_SLOTS_MAX 4096u

typedef struct WireRequest {
    le32 magic;
    le16 version;
    le16 type;
    le32 total_length;
    le16 flags;
    le16 name_length;
    le64 request_id;
    le64 file_id;
    le64 file_id2;
    le64 offset;
    le64 length64;
    le64 arena_offset;
    le32 length;
    le32 deadline_ms;
    le32 uid;
    le32 gid;
    le32 pid;
    le32 arena_length;
    le64 time_ns;
    le32 mode;
    le32 file_type;
    le32 rdev;
    le32 rename_flags;
    le32 set_mask;
    le32 set_mode;
    le32 set_uid;
    le32 set_gid;
    le64 set_size;
    le64 set_atime_ns;
    le64 set_mtime_ns;
    le64 set_ctime_ns;
    le64 set_btime_ns;
    le16 name2_length;
    uint8_t reserved1[2];
    le32 payload_length;
    uint8_t reserved2[16];
} WireRequest;

typedef struct WireAttr {
    le64 file_id;
    le32 generation;
    le32 type;
    le32 mode;
    le32 nlink;
    le32 uid;
    le32 gid;
    le32 rdev;
    le32 block_size;
    le64 size;
    le64 blocks;
    le64 atime_ns;
    le64 mtime_ns;
    le64 ctime_ns;
    le64 btime_ns;
} WireAttr;

typedef struct WireResponse {
    le32 magic;
    le16 version;
    le16 type;
    le32 total_length;
    le16 flags;
    uint8_t reserved1[2];
    le64 request_id;
    le64 number;
    le32 result;
    le32 data_length;
    le64 param1;
    le64 param2;
    WireAttr attr;
    WireAttr parent;
    uint8_t reserved2[56];
} WireResponse;

typedef struct WireDirent {
    le32 total_length;
    le16 name_length;
    uint8_t type;
    uint8_t flags;
    le64 cookie;
    le64 file_id;
    le64 position;
    WireAttr attr;
    uint8_t reserved[8];
} WireDirent;

typedef struct WireHello {
    le32 magic;
    le32 version;
    le64 features;
    le32 epoch;
    le32 slots;
    le64 arena_out_size;
    le64 arena_in_size;
    le64 image_start;
    le64 image_length;
    le32 flags;
    le32 pid;
    le32 result;
    uint8_t reserved1[4];
    uint8_t type[32];
    uint8_t source[256];
    uint8_t text[128];
    uint8_t reserved2[24];
} WireHello;

#define WIRE_AT(type, field, offset) \
    static_assert(offsetof(type, field) == (offset), #type "." #field)

static_assert(sizeof(WireRequest) == FS_REQUEST_HEADER, "request header");
WIRE_AT(WireRequest, magic, 0);
WIRE_AT(WireRequest, version, 4);
WIRE_AT(WireRequest, type, 6);
WIRE_AT(WireRequest, total_length, 8);
WIRE_AT(WireRequest, flags, 12);
WIRE_AT(WireRequest, name_length, 14);
WIRE_AT(WireRequest, request_id, 16);
WIRE_AT(WireRequest, file_id, 24);
WIRE_AT(WireRequest, file_id2, 32);
WIRE_AT(WireRequest, offset, 40);
WIRE_AT(WireRequest, length64, 48);
WIRE_AT(WireRequest, arena_offset, 56);
WIRE_AT(WireRequest, length, 64);
WIRE_AT(WireRequest, deadline_ms, 68);
WIRE_AT(WireRequest, uid, 72);
WIRE_AT(WireRequest, gid, 76);
WIRE_AT(WireRequest, pid, 80);
WIRE_AT(WireRequest, arena_length, 84);
WIRE_AT(WireRequest, time_ns, 88);
WIRE_AT(WireRequest, mode, 96);
WIRE_AT(WireRequest, file_type, 100);
WIRE_AT(WireRequest, rdev, 104);
WIRE_AT(WireRequest, rename_flags, 108);
WIRE_AT(WireRequest, set_mask, 112);
WIRE_AT(WireRequest, set_mode, 116);
WIRE_AT(WireRequest, set_uid, 120);
WIRE_AT(WireRequest, set_gid, 124);
WIRE_AT(WireRequest, set_size, 128);
WIRE_AT(WireRequest, set_atime_ns, 136);
WIRE_AT(WireRequest, set_mtime_ns, 144);
WIRE_AT(WireRequest, set_ctime_ns, 152);
WIRE_AT(WireRequest, set_btime_ns, 160);
WIRE_AT(WireRequest, name2_length, 168);
WIRE_AT(WireRequest, reserved1, 170);
WIRE_AT(WireRequest, payload_length, 172);
WIRE_AT(WireRequest, reserved2, 176);

static_assert(sizeof(WireAttr) == 88, "attributes");
WIRE_AT(WireAttr, file_id, 0);
WIRE_AT(WireAttr, generation, 8);
WIRE_AT(WireAttr, type, 12);
WIRE_AT(WireAttr, mode, 16);
WIRE_AT(WireAttr, nlink, 20);
WIRE_AT(WireAttr, uid, 24);
WIRE_AT(WireAttr, gid, 28);
WIRE_AT(WireAttr, rdev, 32);
WIRE_AT(WireAttr, block_size, 36);
WIRE_AT(WireAttr, size, 40);
WIRE_AT(WireAttr, blocks, 48);
WIRE_AT(WireAttr, atime_ns, 56);
WIRE_AT(WireAttr, mtime_ns, 64);
WIRE_AT(WireAttr, ctime_ns, 72);
WIRE_AT(WireAttr, btime_ns, 80);

static_assert(sizeof(WireResponse) == FS_RESPONSE_HEADER, "response header");
WIRE_AT(WireResponse, magic, 0);
WIRE_AT(WireResponse, version, 4);
WIRE_AT(WireResponse, type, 6);
WIRE_AT(WireResponse, total_length, 8);
WIRE_AT(WireResponse, flags, 12);
WIRE_AT(WireResponse, reserved1, 14);
WIRE_AT(WireResponse, request_id, 16);
WIRE_AT(WireResponse, number, 24);
WIRE_AT(WireResponse, result, 32);
WIRE_AT(WireResponse, data_length, 36);
WIRE_AT(WireResponse, param1, 40);
WIRE_AT(WireResponse, param2, 48);
WIRE_AT(WireResponse, attr, 56);
WIRE_AT(WireResponse, parent, 144);
WIRE_AT(WireResponse, reserved2, 232);

static_assert(sizeof(WireDirent) == FS_DIRENT_HEADER, "directory entry");
WIRE_AT(WireDirent, total_length, 0);
WIRE_AT(WireDirent, name_length, 4);
WIRE_AT(WireDirent, type, 6);
WIRE_AT(WireDirent, flags, 7);
WIRE_AT(WireDirent, cookie, 8);
WIRE_AT(WireDirent, file_id, 16);
WIRE_AT(WireDirent, position, 24);
WIRE_AT(WireDirent, attr, 32);
WIRE_AT(WireDirent, reserved, 120);

static_assert(sizeof(WireHello) == HELLO_SIZE, "hello");
WIRE_AT(WireHello, magic, 0);
WIRE_AT(WireHello, version, 4);
WIRE_AT(WireHello, features, 8);
WIRE_AT(WireHello, epoch, 16);
WIRE_AT(WireHello, slots, 20);
WIRE_AT(WireHello, arena_out_size, 24);
WIRE_AT(WireHello, arena_in_size, 32);
WIRE_AT(WireHello, image_start, 40);
WIRE_AT(WireHello, image_length, 48);
WIRE_AT(WireHello, flags, 56);
WIRE_AT(WireHello, pid, 60);
WIRE_AT(WireHello, result, 64);
WIRE_AT(WireHello, reserved1, 68);
WIRE_AT(WireHello, type, 72);
WIRE_AT(WireHello, source, 104);
WIRE_AT(WireHello, text, 360);
WIRE_AT(WireHello, reserved2, 488);

/* The largest of each kind fits the largest packet. */
static_assert(FS_REQUEST_HEADER + 256 + 256 + FS_INLINE_MAX <= FS_MESSAGE_MAX, "request");
static_assert(FS_REQUEST_HEADER + 256 + WIRE_TARGET_MAX + 1 <= FS_MESSAGE_MAX, "symlink");
static_assert(FS_RESPONSE_HEADER + FS_INLINE_MAX <= FS_MESSAGE_MAX, "response");

static inline uint32_t wire_padded(uint32_t length) {
    return (length + (WIRE_ALIGN - 1)) & ~(WIRE_ALIGN - 1);
}

#endif
