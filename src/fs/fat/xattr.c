/* SPDX-License-Identifier: MIT */
/*
 * What FAT stores and POSIX has no call for, as extended attributes (man fatd.8):
 * user.DOSATTRIB, the attribute byte, on everything but the root directory, and
 * user.fat.label, the volume label, on the root directory. They can always be read
 * and set by name; that there are any is said only under the option xattr, since
 * the kernel asks for security.* and ACLs at every turn once it believes so.
 *
 * The label is kept in the root directory and repeated in the boot sector and that
 * one's backup: all are changed in one transaction.
 *
 * Locks: the inode's; exclusive for changes.
 */
#include "types.h"
#include <stdio.h>
#include <sys/xattr.h>

#define NAME_DOS "user.DOSATTRIB"
#define NAME_LABEL "user.fat.label"
/* What may be changed: the other bits say what the entry is. */
#define SETTABLE \
    ((uint8_t)(FAT_ATTR_READ_ONLY | FAT_ATTR_HIDDEN | FAT_ATTR_SYSTEM | FAT_ATTR_ARCHIVE))

typedef enum XattrKind { XATTR_UNKNOWN, XATTR_DOS, XATTR_LABEL } XattrKind;

static bool name_is(const FsName *name, const char *text) {
    return name->length == strlen(text) && memcmp(name->text, text, name->length) == 0;
}

static XattrKind xattr_kind(const FatInode *inode, const FsName *name) {
    bool root = inode->base.file_id == FS_ROOT_ID;

    if (!root && name_is(name, NAME_DOS)) {
        return XATTR_DOS;
    }
    return root && name_is(name, NAME_LABEL) ? XATTR_LABEL : XATTR_UNKNOWN;
}

/* The convention of getxattr(2): with a capacity of 0 only the size is told. */
static int give(const char *value, size_t length, char *buf, uint32_t capacity) {
    if (capacity > 0 && length > capacity) {
        return -ERANGE;
    }
    if (capacity > 0) {
        memcpy(buf, value, length);
    }
    return (int)length;
}

int fat_getxattr(FsInode *base, const FsName *name, void *buf, uint32_t capacity) {
    FatInode *inode = fat_inode(base);
    FatVolume *volume = fat_inode_volume(inode);
    uint8_t label[FAT_SHORT_LENGTH];
    char text[FAT_LABEL_TEXT_MAX] = "";
    int r;

    switch (xattr_kind(inode, name)) {
    case XATTR_DOS:
        (void)snprintf(text, sizeof(text), "0x%02x", inode->attributes);
        break;
    case XATTR_LABEL:
        r = fat_dir_find_label(volume, &inode->chain, label, NULL);
        if (r < 0) {
            return r == -ENOENT ? -ENODATA : r;
        }
        fat_label_text(volume->codepage, label, text, sizeof(text));
        break;
    case XATTR_UNKNOWN:
        return -ENODATA;
    }
    return give(text, strlen(text), buf, capacity);
}

int fat_listxattr(FsInode *base, char *buf, uint32_t capacity) {
    FatInode *inode = fat_inode(base);
    FatVolume *volume = fat_inode_volume(inode);
    uint8_t label[FAT_SHORT_LENGTH];
    int r;

    if (!volume->list_xattrs) {
        return -EOPNOTSUPP;
    }
    if (base->file_id != FS_ROOT_ID) {
        return give(NAME_DOS, sizeof(NAME_DOS), buf, capacity);
    }
    r = fat_dir_find_label(volume, &inode->chain, label, NULL);
    return r == 0 ? give(NAME_LABEL, sizeof(NAME_LABEL), buf, capacity) : r == -ENOENT ? 0 : r;
}

/* ---- the attribute byte ---- */

typedef struct DosChange {
    FatInode *inode;
    uint8_t attributes;
} DosChange;

static int dos_body(Txn *txn, void *arg) {
    const DosChange *change = arg;
    FatDiskEntry disk;
    int r = fat_inode_entry_get(change->inode, &disk);

    if (r < 0) {
        return r;
    }
    disk.attributes =
        (uint8_t)((disk.attributes & (uint8_t)~SETTABLE) | (change->attributes & SETTABLE));
    return fat_inode_entry_put(txn, change->inode, &disk);
}

/* "0x21", with or without the 0x, perhaps with the terminator that Samba writes. */
static int parse_attributes(const char *value, uint32_t length, uint8_t *ret) {
    unsigned bits = 0;

    if (length > 0 && value[length - 1] == '\0') {
        length -= 1;
    }
    if (length > 2 && value[0] == '0' && (value[1] == 'x' || value[1] == 'X')) {
        value += 2;
        length -= 2;
    }
    if (length == 0 || length > 4) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < length; i++) {
        const char *digits = "0123456789abcdef";
        const char *found = memchr(digits, value[i] | 0x20, 16);
        if (value[i] == '\0' || found == NULL) {
            return -EINVAL;
        }
        bits = bits * 16 + (unsigned)(found - digits);
    }
    if (bits & ~(unsigned)(SETTABLE | FAT_ATTR_DIRECTORY)) {
        return -EINVAL;
    }
    *ret = (uint8_t)bits;
    return 0;
}

static int set_attributes(FatInode *inode, const FsCall *call, const char *value, uint32_t length) {
    DosChange change = {.inode = inode};
    int r = parse_attributes(value, length, &change.attributes);

    if (r < 0) {
        return r;
    }
    if (change.attributes & FAT_ATTR_DIRECTORY && !inode->directory) {
        return -EINVAL;
    }
    return txn_run(inode->base.fs->cache, call->reply, dos_body, &change);
}

/* ---- the label ---- */

typedef struct LabelChange {
    FatInode *root;
    const FsCall *call;
    uint64_t position; /* of the present label's entry; 0: there is none */
    bool remove;
    FatNewName name; /* its short name is the label */
    FatPlace place;  /* for a first label */
} LabelChange;

/* The repetition in one boot sector, if that has a field for it. */
static int write_boot_label(Txn *txn, FatVolume *volume, uint32_t sector, const uint8_t *label) {
    _cleanup_(cache_putp) Buffer *buffer = NULL;
    const uint32_t start = volume->geo.state_offset - (uint32_t)offsetof(FatDiskExtended, state);
    int r = cache_get(volume->base.cache, sector, &buffer);

    if (r < 0 ||
        buffer->data[start + offsetof(FatDiskExtended, signature)] != FAT_EXTENDED_SIGNATURE) {
        return r;
    }
    return txn_write(txn, buffer, start + (uint32_t)offsetof(FatDiskExtended, label), label,
                     FAT_SHORT_LENGTH, FAT_CLASS_ENTRY);
}

static int write_label_entry(Txn *txn, LabelChange *change) {
    FatVolume *volume = fat_inode_volume(change->root);
    const FatGeometry *geo = &volume->geo;
    FatDiskEntry disk = {.attributes = FAT_ATTR_VOLUME_ID};

    fat_entry_set_mtime(geo, &disk, change->call->time_ns);
    if (change->position == 0) {
        return fat_place_write(txn, &change->place, &disk);
    }
    memcpy(disk.name, change->name.short_name, sizeof(disk.name));
    if (change->remove) {
        disk.name[0] = FAT_NAME_DELETED;
    }
    return fat_entry_write(txn, volume, change->position, &disk, FAT_CLASS_ENTRY);
}

static int label_body(Txn *txn, void *arg) {
    LabelChange *change = arg;
    FatVolume *volume = fat_inode_volume(change->root);
    const uint8_t *label =
        change->remove ? (const uint8_t *)"NO NAME    " : change->name.short_name;
    int r = write_label_entry(txn, change);

    if (r == 0 && volume->geo.has_label) {
        r = write_boot_label(txn, volume, 0, label);
    }
    if (r == 0 && volume->geo.has_label && volume->geo.boot_backup != 0) {
        r = write_boot_label(txn, volume, volume->geo.boot_backup, label);
    }
    return r;
}

/* text NULL: the label goes away. */
static int set_label(FatInode *root, const FsCall *call, const char *text, uint32_t length) {
    FatVolume *volume = fat_inode_volume(root);
    LabelChange change = {.root = root, .call = call, .remove = text == NULL};
    uint8_t old[FAT_SHORT_LENGTH];
    int r =
        text == NULL ? 0 : fat_label_make(volume->codepage, text, length, change.name.short_name);

    if (r < 0) {
        return r;
    }
    r = fat_dir_find_label(volume, &root->chain, old, &change.position);
    if (r == -ENOENT && text != NULL) {
        change.name.page = volume->codepage;
        r = fat_place_find_room(root, &change.name, &change.place);
    }
    if (r == 0) {
        r = txn_run(volume->base.cache, call->reply, label_body, &change);
    }
    if (r == 0) {
        static const uint8_t none[FAT_SHORT_LENGTH] = {'N', 'O', ' ', 'N', 'A', 'M',
                                                       'E', ' ', ' ', ' ', ' '};
        fat_label_text(volume->codepage, text != NULL ? change.name.short_name : none,
                       volume->base.label, sizeof(volume->base.label));
    }
    fat_place_done(&change.place);
    return r == -ENOENT ? -ENODATA : r;
}

/* ---- changing ---- */

int fat_setxattr(FsInode *base, const FsCall *call, const FsName *name, const void *value,
                 uint32_t length, uint32_t flags) {
    FatInode *inode = fat_inode(base);
    XattrKind kind = xattr_kind(inode, name);
    int r;

    if (kind == XATTR_UNKNOWN) {
        return -EOPNOTSUPP;
    }
    r = fat_getxattr(base, name, NULL, 0);
    if (r < 0 && r != -ENODATA) {
        return r;
    }
    if ((flags & XATTR_CREATE && r >= 0) || (flags & XATTR_REPLACE && r < 0)) {
        return r < 0 ? -ENODATA : -EEXIST;
    }
    return kind == XATTR_DOS ? set_attributes(inode, call, value, length)
                             : set_label(inode, call, value == NULL ? "" : value, length);
}

int fat_removexattr(FsInode *base, const FsCall *call, const FsName *name) {
    FatInode *inode = fat_inode(base);

    switch (xattr_kind(inode, name)) {
    case XATTR_DOS:
        return -EPERM; /* the byte is always there */
    case XATTR_LABEL:
        return set_label(inode, call, NULL, 0);
    case XATTR_UNKNOWN:
        break;
    }
    return -ENODATA;
}
