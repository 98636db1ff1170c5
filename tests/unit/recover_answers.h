/* SPDX-License-Identifier: MIT */
/*
 * Every message that changes something, with a death at each point in turn: the answer that
 * comes in the end, and the tree, are those of a daemon that lives.
 */
#ifndef BERTH_TESTS_RECOVER_ANSWERS_H
#define BERTH_TESTS_RECOVER_ANSWERS_H

#include "recover_peer.h"
#include <linux/falloc.h>

/* What the setup leaves: ids of the objects that the messages are about. */
typedef struct AnswerIds {
    uint64_t dir, other, empty, full, file, second, large, orphan;
} AnswerIds;

typedef struct AnswerCase {
    const char *name;
    FSRequest (*make)(const AnswerIds *ids);
} AnswerCase;

static uint8_t answer_bytes[PEER_IO];

#define ANSWER_LARGE (900u * 1024)

static FSRequest request_create(const AnswerIds *ids, const char *name, uint32_t type) {
    return (FSRequest){.type = FS_MSG_CREATE_FILE,
                       .file_id = ids->dir,
                       .name = name_of(name),
                       .file_type = type,
                       .mode = 0555};
}

static FSRequest make_file(const AnswerIds *ids) {
    return request_create(ids, "A new file with a long name", FS_TYPE_FILE);
}

static FSRequest make_directory(const AnswerIds *ids) {
    return request_create(ids, "NEWDIR", FS_TYPE_DIRECTORY);
}

static FSRequest make_there(const AnswerIds *ids) {
    return request_create(ids, "file", FS_TYPE_FILE);
}

static FSRequest request_delete(const AnswerIds *ids, const char *name, uint16_t flags) {
    return (FSRequest){
        .type = FS_MSG_DELETE_FILE, .flags = flags, .file_id = ids->dir, .name = name_of(name)};
}

static FSRequest make_unlink(const AnswerIds *ids) {
    return request_delete(ids, "file", 0);
}

static FSRequest make_unlink_large(const AnswerIds *ids) {
    return request_delete(ids, "LARGE", 0);
}

static FSRequest make_rmdir(const AnswerIds *ids) {
    return request_delete(ids, "EMPTY", FS_REQ_RMDIR);
}

static FSRequest make_rmdir_full(const AnswerIds *ids) {
    return request_delete(ids, "full", FS_REQ_RMDIR);
}

static FSRequest request_rename(uint64_t from, const char *name, uint64_t to, const char *name2,
                                uint32_t flags) {
    return (FSRequest){.type = FS_MSG_RENAME,
                       .file_id = from,
                       .name = name_of(name),
                       .file_id2 = to,
                       .name2 = name_of(name2),
                       .rename_flags = flags};
}

static FSRequest make_rename(const AnswerIds *ids) {
    return request_rename(ids->dir, "file", ids->dir, "An entirely different name", 0);
}

static FSRequest make_respell(const AnswerIds *ids) {
    return request_rename(ids->dir, "file", ids->dir, "FILE", 0);
}

static FSRequest make_replace(const AnswerIds *ids) {
    return request_rename(ids->dir, "file", ids->other, "second", 0);
}

static FSRequest make_move_directory(const AnswerIds *ids) {
    return request_rename(ids->dir, "full", ids->other, "moved", 0);
}

static FSRequest make_exchange(const AnswerIds *ids) {
    return request_rename(ids->dir, "full", ids->other, "second", FS_RENAME_EXCHANGE);
}

static FSRequest make_times(const AnswerIds *ids) {
    return (FSRequest){.type = FS_MSG_SET_ATTR,
                       .file_id = ids->file,
                       .set = {.mask = FS_SET_MTIME | FS_SET_ATIME | FS_SET_MODE,
                               .mode = 0444,
                               .mtime_ns = TIME_NS + 987654321,
                               .atime_ns = TIME_NS}};
}

static FSRequest make_root_times(const AnswerIds *ids) {
    (void)ids;
    return (FSRequest){.type = FS_MSG_SET_ATTR,
                       .file_id = FS_ROOT_ID,
                       .set = {.mask = FS_SET_MTIME, .mtime_ns = TIME_NS + 987654321}};
}

static FSRequest request_size(uint64_t id, uint64_t size) {
    return (FSRequest){
        .type = FS_MSG_SET_ATTR, .file_id = id, .set = {.mask = FS_SET_SIZE, .size = size}};
}

static FSRequest make_grow(const AnswerIds *ids) {
    return request_size(ids->file, 200000);
}

static FSRequest make_shrink(const AnswerIds *ids) {
    return request_size(ids->large, 12345);
}

static FSRequest make_empty(const AnswerIds *ids) {
    return request_size(ids->large, 0);
}

static FSRequest make_grow_orphan(const AnswerIds *ids) {
    return request_size(ids->orphan, 9999);
}

static FSRequest request_write(uint64_t id, uint64_t offset, uint32_t length) {
    return (FSRequest){.type = FS_MSG_WRITE_FILE,
                       .file_id = id,
                       .offset = offset,
                       .length = length,
                       .payload = answer_bytes,
                       .payload_length = length};
}

static FSRequest make_append(const AnswerIds *ids) {
    return request_write(ids->file, 1000, 5000);
}

static FSRequest make_overwrite(const AnswerIds *ids) {
    return request_write(ids->large, 4096, 8192);
}

static FSRequest make_write_behind(const AnswerIds *ids) {
    return request_write(ids->file, 30000, 3000);
}

static FSRequest make_write_orphan(const AnswerIds *ids) {
    return request_write(ids->orphan, 500, 3000);
}

static FSRequest make_allocate(const AnswerIds *ids) {
    return (FSRequest){
        .type = FS_MSG_FALLOCATE, .file_id = ids->file, .offset = 0, .length64 = 50000};
}

static FSRequest make_promise(const AnswerIds *ids) {
    return (FSRequest){.type = FS_MSG_FALLOCATE,
                       .file_id = ids->file,
                       .length64 = 50000,
                       .mode = FALLOC_FL_KEEP_SIZE};
}

static FSRequest request_xattr(uint16_t type, uint64_t id, const char *name, const char *value) {
    return (FSRequest){.type = type,
                       .file_id = id,
                       .name = name_of(name),
                       .length = (uint32_t)strlen(value),
                       .payload = (const uint8_t *)value,
                       .payload_length = (uint32_t)strlen(value)};
}

static FSRequest make_attributes(const AnswerIds *ids) {
    return request_xattr(FS_MSG_SET_XATTR, ids->file, "user.DOSATTRIB", "0x6");
}

static FSRequest make_label(const AnswerIds *ids) {
    (void)ids;
    return request_xattr(FS_MSG_SET_XATTR, FS_ROOT_ID, "user.fat.label", "NEWLABEL");
}

static FSRequest make_no_label(const AnswerIds *ids) {
    (void)ids;
    return request_xattr(FS_MSG_REMOVE_XATTR, FS_ROOT_ID, "user.fat.label", "");
}

static FSRequest make_sync(const AnswerIds *ids) {
    (void)ids;
    return (FSRequest){.type = FS_MSG_SYNC};
}

static FSRequest make_fsync(const AnswerIds *ids) {
    return (FSRequest){.type = FS_MSG_FSYNC, .file_id = ids->file};
}

static const AnswerCase answer_cases[] = {
    {"create a file", make_file},
    {"create a directory", make_directory},
    {"create what is there", make_there},
    {"unlink", make_unlink},
    {"unlink a large file", make_unlink_large},
    {"rmdir", make_rmdir},
    {"rmdir what is not empty", make_rmdir_full},
    {"rename", make_rename},
    {"rename to another spelling", make_respell},
    {"rename over a file", make_replace},
    {"move a directory", make_move_directory},
    {"exchange", make_exchange},
    {"set times", make_times},
    {"set the root's times", make_root_times},
    {"grow", make_grow},
    {"shrink", make_shrink},
    {"shrink to nothing", make_empty},
    {"grow an unlinked file", make_grow_orphan},
    {"append", make_append},
    {"overwrite", make_overwrite},
    {"write behind the end", make_write_behind},
    {"write to an unlinked file", make_write_orphan},
    {"fallocate", make_allocate},
    {"fallocate that keeps the size", make_promise},
    {"set an attribute byte", make_attributes},
    {"set the label", make_label},
    {"remove the label", make_no_label},
    {"sync", make_sync},
    {"fsync", make_fsync},
};

static AnswerIds answer_setup(void) {
    AnswerIds ids;

    ids.dir = (uint64_t)make("dir", FS_TYPE_DIRECTORY);
    ids.other = (uint64_t)make("other", FS_TYPE_DIRECTORY);
    ids.empty = (uint64_t)make("dir/EMPTY", FS_TYPE_DIRECTORY);
    ids.full = (uint64_t)make("dir/full", FS_TYPE_DIRECTORY);
    ck_assert(!failed(make("dir/full/inside", FS_TYPE_FILE)));
    ids.file = (uint64_t)make("dir/file", FS_TYPE_FILE);
    ids.second = (uint64_t)make("other/second", FS_TYPE_FILE);
    ids.large = (uint64_t)make("dir/LARGE", FS_TYPE_FILE);
    ids.orphan = (uint64_t)make("dir/orphan", FS_TYPE_FILE);
    fill(answer_bytes, sizeof(answer_bytes), 77, 0);
    ck_assert_int_eq(write_at(ids.file, 0, answer_bytes, 1000), 1000);
    ck_assert_int_eq(write_at(ids.second, 0, answer_bytes, 2000), 2000);
    ck_assert_int_eq(write_at(ids.orphan, 0, answer_bytes, 700), 700);
    for (uint32_t at = 0; at < ANSWER_LARGE; at += PEER_IO) {
        ck_assert_int_gt(write_at(ids.large, at, answer_bytes, MIN(PEER_IO, ANSWER_LARGE - at)), 0);
    }
    ck_assert_int_eq(remove_path("dir/orphan", false), 0);
    return ids;
}

/* ---- comparing ---- */

/* Everything there is to be seen, as one text. */
static void tree_text(Text *out, uint64_t dir, const char *path);

typedef struct TreeText {
    Text *out;
    const char *path;
    unsigned count;
    struct {
        char name[FS_NAME_MAX + 1];
        uint64_t id;
        bool is_dir;
    } entries[32];
} TreeText;

static void tree_listed(void *arg, const FsDirEntry *entry) {
    TreeText *tree = arg;

    ck_assert_uint_lt(tree->count, ARRAY_SIZE(tree->entries));
    (void)snprintf(tree->entries[tree->count].name, sizeof(tree->entries[0].name), "%.*s",
                   (int)entry->name_length, entry->name);
    tree->entries[tree->count].id = entry->file_id;
    tree->entries[tree->count++].is_dir = entry->type == FS_TYPE_DIRECTORY;
}

static void attr_text(Text *out, const FsAttr *attr) {
    text_printf(
        out, " id %llx type %u mode %o nlink %u size %llu blocks %llu times %lld %lld %lld %lld",
        (unsigned long long)attr->file_id, attr->type, attr->mode, attr->nlink,
        (unsigned long long)attr->size, (unsigned long long)attr->blocks, (long long)attr->atime_ns,
        (long long)attr->mtime_ns, (long long)attr->ctime_ns, (long long)attr->btime_ns);
}

static void file_text(Text *out, uint64_t id) {
    uint64_t sum = 0;
    uint32_t offset = 0;
    int r;

    ck_assert_int_eq(get_attr(id), 0);
    attr_text(out, &response.attr);
    if (response.attr.type == FS_TYPE_FILE) {
        while ((r = read_at(id, offset, PEER_IO)) > 0) {
            for (int i = 0; i < r; i++) {
                sum = sum * 31 + response.data[i];
            }
            offset += (uint32_t)r;
        }
        ck_assert_int_eq(r, 0);
    }
    text_printf(out, " sum %llx\n", (unsigned long long)sum);
}

static void tree_text(Text *out, uint64_t dir, const char *path) {
    _cleanup_free_ TreeText *tree = calloc(1, sizeof(*tree));

    tree->out = out;
    ck_assert_int_ge(list(dir, 4096, tree_listed, tree), 0);
    for (unsigned i = 0; i < tree->count; i++) {
        char below[300];

        (void)snprintf(below, sizeof(below), "%.200s/%.90s", path, tree->entries[i].name);
        text_printf(out, "%s:", below);
        file_text(out, tree->entries[i].id);
        if (tree->entries[i].is_dir) {
            tree_text(out, tree->entries[i].id, below);
        }
    }
}

static void answer_text(Text *out) {
    text_printf(out, "result %d flags %x param1 %llx", response.result,
                response.flags & ~(unsigned)FS_RESP_READONLY, (unsigned long long)response.param1);
    if (response.flags & FS_RESP_ATTR) {
        attr_text(out, &response.attr);
    }
    if (response.flags & FS_RESP_PARENT_ATTR) {
        attr_text(out, &response.parent);
    }
    text_printf(out, "\n");
}

#endif
