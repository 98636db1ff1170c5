/* SPDX-License-Identifier: MIT */
/*
 * A filesystem for tests of the framework: metadata in plain memory, data on any
 * block device, names that compare without case. It has no cache and no
 * transactions, so what a test sees is the framework's doing. Knobs make it fail,
 * count and suspend at chosen places.
 */
#ifndef BERTH_TESTS_TOYFS_H
#define BERTH_TESTS_TOYFS_H

#include "berth/fs.h"
#include <stdio.h>
#include <strings.h>

#define TOY_BLOCK 512u
#define TOY_FILES 64u
#define TOY_FILE_BLOCKS 128u
#define TOY_BLOCKS 2048u
#define TOY_ID(index) (UINT64_C(100) + (index))

typedef struct ToyFile {
    bool used;
    FsAttr attr;
    uint64_t parent; /* 0: has no name */
    char name[FS_NAME_MAX + 1];
    uint32_t blocks[TOY_FILE_BLOCKS]; /* 0: none */
    unsigned allocated;               /* committed or reserved, contiguous from the start */
} ToyFile;

typedef struct ToyFs {
    FileSystem base;
    ToyFile files[TOY_FILES]; /* 0 is the root */
    bool block_used[TOY_BLOCKS];
} ToyFs;

/* What tests turn and read. */
static struct ToyKnobs {
    unsigned loads, evictions, commits, unreserves;
    unsigned load_yields; /* suspensions inside inode_load and inode_evict */
    unsigned name_yields; /* suspensions inside operations on names, before they act */
    int load_error, create_error, commit_error;
    bool any_id;                  /* every id loads, as an empty file */
    uint64_t commit_error_offset; /* with commit_error: only the commit of this offset fails */
    unsigned block_limit;         /* blocks that may be in use, 0: all */
    void (*on_map)(uint64_t offset, uint32_t flags);
    uint64_t commit_order[64]; /* offsets in order of commit */
    uint64_t last_keep_end;    /* of unreserve */
    bool mounted;
} toy;

static inline ToyFs *toy_fs(FileSystem *fs) {
    return container_of(fs, ToyFs, base);
}

static inline ToyFile *toy_file(FileSystem *fs, uint64_t file_id) {
    ToyFs *self = toy_fs(fs);
    uint64_t index = file_id == FS_ROOT_ID ? 0 : file_id - 100;

    return index < TOY_FILES && self->files[index].used ? &self->files[index] : NULL;
}

static inline void toy_suspend(unsigned times) {
    for (unsigned i = 0; i < times && fiber_self() != NULL; i++) {
        fiber_yield();
    }
}

static inline unsigned toy_blocks_used(const FileSystem *fs) {
    const ToyFs *self = container_of(fs, const ToyFs, base);
    unsigned used = 0;

    for (unsigned i = 1; i < TOY_BLOCKS; i++) {
        used += self->block_used[i];
    }
    return used;
}

static inline int toy_mount(FileSystem *fs) {
    ToyFs *self = toy_fs(fs);

    self->files[0] = (ToyFile){
        .used = true,
        .attr = {.file_id = FS_ROOT_ID, .type = FS_TYPE_DIRECTORY, .mode = 0755, .nlink = 2},
    };
    (void)snprintf(fs->label, sizeof(fs->label), "toy");
    fs->block_size = TOY_BLOCK;
    fs->case_insensitive = true;
    if (strstr(fs->options.extra, "broken") != NULL) {
        return report_corrupt(fs->reporter, false, "toy", 0, "field", 7, "told to be broken");
    }
    toy.mounted = true;
    return 0;
}

static inline int toy_unmount(FileSystem *fs) {
    (void)fs;
    toy.mounted = false;
    return 0;
}

static inline int toy_statfs(FileSystem *fs, FsStatfs *ret) {
    *ret = (FsStatfs){.blocks = TOY_BLOCKS,
                      .blocks_free = TOY_BLOCKS - toy_blocks_used(fs),
                      .block_size = TOY_BLOCK,
                      .name_max = FS_NAME_MAX};
    return 0;
}

static inline int toy_inode_load(FsInode *inode, uint64_t position) {
    ToyFile *file;

    (void)position;
    toy.loads++;
    toy_suspend(toy.load_yields);
    if (toy.load_error != 0) {
        return toy.load_error;
    }
    if (toy.any_id) {
        inode->attr = (FsAttr){.type = FS_TYPE_FILE, .nlink = 1};
        return 0;
    }
    file = toy_file(inode->fs, inode->file_id);
    if (file == NULL) {
        return -ESTALE;
    }
    inode->attr = file->attr;
    return 0;
}

static inline void toy_cut(FileSystem *fs, ToyFile *file, unsigned keep) {
    while (file->allocated > keep) {
        toy_fs(fs)->block_used[file->blocks[--file->allocated]] = false;
        file->blocks[file->allocated] = 0;
    }
}

static inline int toy_inode_evict(FsInode *inode) {
    toy.evictions++;
    toy_suspend(toy.load_yields);
    if (inode->attr.nlink == 0) {
        ToyFile *file = toy_file(inode->fs, inode->file_id);

        toy_cut(inode->fs, file, 0);
        file->used = false;
    }
    return 0;
}

static inline int toy_lookup(FsInode *dir, const FsName *name, FsEntry *ret) {
    ToyFs *self = toy_fs(dir->fs);

    toy_suspend(toy.name_yields);
    for (unsigned i = 1; i < TOY_FILES; i++) {
        const ToyFile *file = &self->files[i];

        if (file->used && file->parent == dir->file_id && strlen(file->name) == name->length &&
            strncasecmp(file->name, name->text, name->length) == 0) {
            *ret = (FsEntry){TOY_ID(i), i, memcmp(file->name, name->text, name->length) == 0};
            return 0;
        }
    }
    return -ENOENT;
}

static inline int toy_readdir(FsInode *dir, uint64_t cookie, FsDirEmit *emit) {
    ToyFs *self = toy_fs(dir->fs);

    for (unsigned i = (unsigned)cookie + 1; i < TOY_FILES; i++) {
        const ToyFile *file = &self->files[i];
        int r;

        if (!file->used || file->parent != dir->file_id) {
            continue;
        }
        r = fs_dir_emit(emit, &(FsDirEntry){
                                  .name = file->name,
                                  .name_length = (uint32_t)strlen(file->name),
                                  .cookie = i,
                                  .file_id = TOY_ID(i),
                                  .position = i,
                                  .type = (FsFileType)file->attr.type,
                                  .has_attr = true,
                                  .attr = file->attr,
                              });
        if (r != 0) {
            return r < 0 ? r : 0;
        }
    }
    return 0;
}

static inline int toy_create(FsInode *dir, const FsCall *call, const FsName *name,
                             const FsCreate *what, FsEntry *ret) {
    ToyFs *self = toy_fs(dir->fs);

    toy_suspend(toy.name_yields);
    if (toy.create_error != 0) {
        return toy.create_error;
    }
    if (what->type != FS_TYPE_FILE && what->type != FS_TYPE_DIRECTORY) {
        return -EOPNOTSUPP;
    }
    for (unsigned i = 1; i < TOY_FILES; i++) {
        ToyFile *file = &self->files[i];

        if (file->used) {
            continue;
        }
        *file = (ToyFile){
            .used = true,
            .parent = dir->file_id,
            .attr = {.file_id = TOY_ID(i),
                     .type = what->type,
                     .mode = what->mode,
                     .nlink = what->type == FS_TYPE_DIRECTORY ? 2 : 1,
                     .mtime_ns = call->time_ns},
        };
        memcpy(file->name, name->text, name->length);
        dir->attr.mtime_ns = call->time_ns;
        *ret = (FsEntry){TOY_ID(i), i, true};
        return 0;
    }
    return -ENOSPC;
}

static inline int toy_unlink(FsInode *dir, const FsCall *call, const FsName *name,
                             const FsEntry *entry, FsInode *victim) {
    ToyFile *file = toy_file(dir->fs, entry->file_id);

    (void)name;
    toy_suspend(toy.name_yields);
    if (victim->attr.type == FS_TYPE_DIRECTORY) {
        for (unsigned i = 1; i < TOY_FILES; i++) {
            const ToyFile *child = &toy_fs(dir->fs)->files[i];

            if (child->used && child->parent == victim->file_id) {
                return -ENOTEMPTY;
            }
        }
    }
    file->parent = 0;
    file->attr.nlink = victim->attr.nlink = 0;
    dir->attr.mtime_ns = call->time_ns;
    return 0;
}

static inline int toy_rename(FileSystem *fs, const FsCall *call, const FsRename *rename) {
    ToyFile *file = toy_file(fs, rename->moved->file_id);

    toy_suspend(toy.name_yields);
    if (rename->flags & FS_RENAME_EXCHANGE) {
        return -EINVAL;
    }
    if (rename->victim != NULL && rename->victim != rename->moved) {
        ToyFile *victim = toy_file(fs, rename->victim->file_id);

        victim->parent = 0;
        victim->attr.nlink = rename->victim->attr.nlink = 0;
    }
    file->parent = rename->new_dir->file_id;
    memset(file->name, 0, sizeof(file->name));
    memcpy(file->name, rename->new_name.text, rename->new_name.length);
    rename->new_dir->attr.mtime_ns = call->time_ns;
    return 0;
}

static inline int toy_parent(FsInode *dir, uint64_t *ret) {
    const ToyFile *file = toy_file(dir->fs, dir->file_id);

    toy_suspend(toy.name_yields);
    *ret = file->parent == 0 ? FS_ROOT_ID : file->parent;
    return 0;
}

static inline int toy_map(FsInode *inode, uint64_t offset, uint32_t flags, FsExtent *ret) {
    const ToyFile *file = toy_file(inode->fs, inode->file_id);
    uint64_t index = offset / TOY_BLOCK;

    if (toy.on_map != NULL) {
        toy.on_map(offset, flags);
    }
    if (index >= file->allocated) {
        return -EUCLEAN;
    }
    *ret =
        (FsExtent){.kind = FS_EXTENT_DATA,
                   .device_offset = (uint64_t)file->blocks[index] * TOY_BLOCK + offset % TOY_BLOCK,
                   .length = TOY_BLOCK - offset % TOY_BLOCK};
    return 0;
}

static inline int toy_reserve(FsInode *inode, uint64_t end) {
    ToyFs *self = toy_fs(inode->fs);
    ToyFile *file = toy_file(inode->fs, inode->file_id);
    uint64_t wanted = div_ceil(end, TOY_BLOCK);

    if (wanted > TOY_FILE_BLOCKS) {
        return -EFBIG;
    }
    while (file->allocated < wanted) {
        unsigned block = 1;

        while (block < TOY_BLOCKS && self->block_used[block]) {
            block++;
        }
        if (block == TOY_BLOCKS ||
            (toy.block_limit != 0 && toy_blocks_used(inode->fs) >= toy.block_limit)) {
            return -ENOSPC;
        }
        self->block_used[block] = true;
        file->blocks[file->allocated++] = block;
    }
    return 0;
}

static inline void toy_unreserve(FsInode *inode, uint64_t keep_end) {
    ToyFile *file = toy_file(inode->fs, inode->file_id);

    toy.unreserves++;
    toy.last_keep_end = keep_end;
    toy_cut(inode->fs, file, (unsigned)div_ceil(MAX(keep_end, file->attr.size), TOY_BLOCK));
}

static inline int toy_write_commit(FsInode *inode, const FsCall *call, uint64_t offset,
                                   uint64_t length) {
    ToyFile *file = toy_file(inode->fs, inode->file_id);

    if (toy.commit_error != 0 && offset == toy.commit_error_offset) {
        return toy.commit_error;
    }
    if (toy.commits < ARRAY_SIZE(toy.commit_order)) {
        toy.commit_order[toy.commits] = offset;
    }
    toy.commits++;
    inode->attr.size = MAX(inode->attr.size, offset + length);
    inode->attr.mtime_ns = call->time_ns;
    file->attr = inode->attr;
    return 0;
}

static inline int toy_setattr(FsInode *inode, const FsCall *call, const FsSetattr *set) {
    ToyFile *file = toy_file(inode->fs, inode->file_id);

    (void)call;
    if (set->mask & FS_SET_MODE) {
        inode->attr.mode = set->mode;
    }
    if (set->mask & FS_SET_KILL_SUIDGID) {
        inode->attr.mode &= 0777;
    }
    if (set->mask & FS_SET_SIZE) {
        int r = toy_reserve(inode, set->size);

        if (r == 0 && set->size > inode->attr.size) {
            r = fs_file_zero(inode, inode->attr.size, set->size);
        }
        if (r < 0) {
            return r;
        }
        inode->attr.size = set->size;
    }
    file->attr = inode->attr;
    if (set->mask & FS_SET_SIZE) {
        toy_cut(inode->fs, file, (unsigned)div_ceil(set->size, TOY_BLOCK));
    }
    return 0;
}

static const FileSystemOps toy_ops = {
    .mount = toy_mount,
    .unmount = toy_unmount,
    .statfs = toy_statfs,
    .inode_load = toy_inode_load,
    .inode_evict = toy_inode_evict,
    .setattr = toy_setattr,
    .lookup = toy_lookup,
    .readdir = toy_readdir,
    .create = toy_create,
    .unlink = toy_unlink,
    .rename = toy_rename,
    .parent = toy_parent,
    .map = toy_map,
    .reserve = toy_reserve,
    .unreserve = toy_unreserve,
    .write_commit = toy_write_commit,
};

static const FileSystemType toy_type = {
    .name = "toy",
    .daemon = "toyd",
    .fs_size = sizeof(ToyFs),
    .inode_size = sizeof(FsInode),
    .ops = &toy_ops,
};

#endif
