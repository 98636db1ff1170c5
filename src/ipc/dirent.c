/* SPDX-License-Identifier: MIT */
/*
 * LIST_DIR's entries to bytes and back (man berth-protocol.7). Decoding works on a
 * private copy of what the daemon wrote, like all decoding; the name goes to the
 * kernel's readdir, so it is held to the rules of names in full.
 */
#include "berth/text.h"
#include "rules.h"

/* fs_name_check's rules, so that encoding and decoding agree on them. */
static bool name_is_valid(const char *name, uint32_t length) {
    if (length == 0 || length > FS_NAME_MAX) {
        return false;
    }
    if (memchr(name, 0, length) != NULL || memchr(name, '/', length) != NULL) {
        return false;
    }
    if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.'))) {
        return false;
    }
    return utf8_valid(name, length);
}

static bool entry_is_valid(const FsDirEntry *entry) {
    if (!name_is_valid(entry->name, entry->name_length) || entry->cookie == 0 ||
        entry->file_id == 0 || (unsigned)entry->type >= FS_TYPE_COUNT) {
        return false;
    }
    if (!entry->has_attr) {
        return true;
    }
    return message_check_attr(&entry->attr, "attr", NULL) == 0 &&
           entry->attr.file_id == entry->file_id && entry->attr.type == (uint32_t)entry->type;
}

int fs_dirent_encode(const FsDirEntry *entry, uint8_t *buf, size_t capacity) {
    WireDirent wire = {0};
    uint32_t padded, total;

    if (!entry_is_valid(entry)) {
        return -EINVAL;
    }
    padded = wire_padded(entry->name_length);
    total = FS_DIRENT_HEADER + padded;
    if (total > capacity) {
        return -EMSGSIZE;
    }
    wire.total_length = le32_make(total);
    wire.name_length = le16_make((uint16_t)entry->name_length);
    wire.type = (uint8_t)entry->type;
    wire.flags = entry->has_attr ? WIRE_DIRENT_HAS_ATTR : 0;
    wire.cookie = le64_make(entry->cookie);
    wire.file_id = le64_make(entry->file_id);
    wire.position = le64_make(entry->position);
    if (entry->has_attr) {
        message_attr_encode(&entry->attr, &wire.attr);
    }
    memcpy(buf, &wire, sizeof(wire));
    memcpy(buf + sizeof(wire), entry->name, entry->name_length);
    memset(buf + sizeof(wire) + entry->name_length, 0, padded - entry->name_length);
    return (int)total;
}

int fs_dirent_decode(const uint8_t *buf, size_t length, FsDirEntry *ret) {
    WireDirent wire;
    FsDirEntry entry = {0};
    uint32_t total, padded;

    if (length < sizeof(wire)) {
        return -EPROTO;
    }
    memcpy(&wire, buf, sizeof(wire));
    entry.name_length = le16_get(wire.name_length);
    total = le32_get(wire.total_length);
    padded = wire_padded(entry.name_length);
    if (total != FS_DIRENT_HEADER + padded || total > length) {
        return -EPROTO;
    }
    if (wire.type >= FS_TYPE_COUNT || wire.flags > WIRE_DIRENT_HAS_ATTR ||
        !wire_is_zero(wire.reserved, sizeof(wire.reserved)) ||
        !wire_is_zero(buf + sizeof(wire) + entry.name_length, padded - entry.name_length)) {
        return -EPROTO;
    }
    entry.name = (const char *)buf + sizeof(wire);
    entry.cookie = le64_get(wire.cookie);
    entry.file_id = le64_get(wire.file_id);
    entry.position = le64_get(wire.position);
    entry.type = (FsFileType)wire.type;
    entry.has_attr = wire.flags != 0;
    message_attr_decode(&wire.attr, &entry.attr);
    if (!entry.has_attr && !wire_is_zero(&wire.attr, sizeof(wire.attr))) {
        return -EPROTO;
    }
    if (!entry_is_valid(&entry)) {
        return -EPROTO;
    }
    *ret = entry;
    return (int)total;
}
