/* SPDX-License-Identifier: MIT */
/*
 * READDIRPLUS: directory entries with their attributes. Each entry that carries
 * attributes was granted by the daemon like a LOOKUP, so its lookup count is
 * raised here, before the reply; what the kernel does not get is taken back.
 *
 * Offsets: 0 is the start, 1 is behind ".", 2 behind "..", both made here; what
 * follows is the daemon's cookie plus 2. The kernel reads on until it gets nothing;
 * where the last answer was said to be all, and no name has changed since, it gets that
 * from here. The entries in `response` are a private copy (replies.c).
 */
#include "private.h"

#include <sys/stat.h>

#define OWN_ENTRIES 2u      /* "." and ".." */
#define DIRENTPLUS_DOT 160u /* bytes of one of them in a reply */

typedef struct Listing {
    Front *front;
    Pending *pending;
    char *buf;
    size_t size, used;
    bool full;
    uint64_t next;     /* offset behind the last one in buf */
    uint64_t *granted; /* file_ids in buf */
    unsigned granted_count;
} Listing;

/* False: it does not fit, and nothing after it will be tried. */
static bool listing_add(Listing *listing, const char *name, const struct fuse_entry_param *entry,
                        uint64_t next) {
    size_t room = listing->size - listing->used, need;

    if (listing->full) {
        return false;
    }
    need = fuse_add_direntry_plus(listing->pending->fuse, listing->buf + listing->used, room, name,
                                  entry, (off_t)next);
    if (need > room) {
        listing->full = true;
        return false;
    }
    listing->used += need;
    listing->next = next;
    return true;
}

static void add_dots(Listing *listing, uint64_t offset) {
    struct fuse_entry_param entry = {0}; /* no node: the kernel has these */

    entry.attr.st_mode = S_IFDIR;
    entry.attr.st_ino = listing->pending->request.file_id;
    if (offset == 0) {
        listing_add(listing, ".", &entry, 1);
    }
    if (offset <= 1) {
        listing_add(listing, "..", &entry, 2);
    }
}

/* One entry of the daemon's, already checked. */
static void add_entry(Listing *listing, const FsDirEntry *dirent) {
    Front *front = listing->front;
    struct fuse_entry_param entry = {0};
    FsAttr attr = {.file_id = dirent->file_id, .type = dirent->type};
    char name[FS_NAME_MAX + 1];
    bool granted = dirent->has_attr && nodes_grant(&front->nodes, dirent->file_id) == 0;

    memcpy(name, dirent->name, dirent->name_length);
    name[dirent->name_length] = 0;
    if (granted) {
        const FsName stored = {.text = name, .length = dirent->name_length};

        nodes_attr_store(&front->nodes, &dirent->attr);
        nodes_name_store(&front->nodes, listing->pending->request.file_id, &stored, true,
                         dirent->file_id);
        entry.ino = dirent->file_id;
        entry.generation = dirent->attr.generation;
        entry.attr_timeout = front->long_timeout;
        entry.entry_timeout = entry_timeout(front, dirent->file_id, true);
        attr = dirent->attr;
    }
    attr_to_stat(&attr, &entry.attr);
    if (listing_add(listing, name, &entry, dirent->cookie + OWN_ENTRIES)) {
        if (granted) {
            listing->granted[listing->granted_count++] = dirent->file_id;
        }
    } else if (granted) {
        forget_later(front, dirent->file_id);
    }
}

static int decode_entry(const uint8_t *data, uint32_t length, FsDirEntry *ret) {
    FsDirEntry entry;
    char text[128];
    int n = fs_dirent_decode(data, length, &entry);

    if (n <= 0 || entry.cookie == 0 || entry.cookie > (uint64_t)INT64_MAX - OWN_ENTRIES ||
        entry.file_id <= FS_ROOT_ID || entry.name_length == 0 || entry.name_length > FS_NAME_MAX ||
        entry.type == FS_TYPE_UNKNOWN || entry.type >= FS_TYPE_COUNT ||
        (entry.has_attr && response_check_attr(&entry.attr, entry.file_id, text) < 0)) {
        return -EPROTO;
    }
    *ret = entry;
    return n;
}

static int add_all(Listing *listing, const FSResponse *response) {
    FsDirEntry entry;
    int n;

    for (uint32_t at = 0; at < response->data_length; at += (uint32_t)n) {
        n = decode_entry(response->data + at, response->data_length - at, &entry);
        if (n < 0) {
            return n;
        }
        add_entry(listing, &entry);
    }
    return 0;
}

static void finish_list(Front *front, Pending *pending, const FSResponse *response) {
    _cleanup_free_ char *buf = malloc(pending->size);
    _cleanup_free_ uint64_t *granted =
        calloc(response->data_length / FS_DIRENT_HEADER + 1, sizeof(*granted));
    Listing listing = {.front = front,
                       .pending = pending,
                       .buf = buf,
                       .size = pending->size,
                       .next = pending->offset,
                       .granted = granted};
    int r = response->result;

    if (r == 0 && (buf == NULL || granted == NULL)) {
        r = -ENOMEM;
    }
    if (r == 0) {
        add_dots(&listing, pending->offset);
        r = add_all(&listing, response);
        if (r == -EPROTO) {
            log_error("%s: the daemon sent a directory entry that cannot be", front->source_given);
            daemon_kill(front->daemon);
            r = -EIO;
        }
    }
    if (r == 0 && !listing.full && (response->flags & FS_RESP_END) != 0) {
        nodes_list_end_store(&front->nodes, pending->request.file_id, listing.next);
    }
    /* Not before: see nodes.h. */
    nodes_saw(&front->nodes, response->number);
    if (r < 0) {
        fuse_reply_err(pending->fuse, -r);
    } else {
        r = fuse_reply_buf(pending->fuse, buf, listing.used);
    }
    for (unsigned i = 0; r < 0 && i < listing.granted_count; i++) {
        forget_later(front, granted[i]);
    }
}

/* As many bytes of daemon entries as surely fit: the kernel's are 24 bytes longer than ours, which
 * are at least 136. */
static uint32_t list_length(size_t size, uint64_t offset) {
    size_t dots = offset < OWN_ENTRIES ? (OWN_ENTRIES - offset) * DIRENTPLUS_DOT : 0;
    size_t room = size > dots ? size - dots : 0;

    return (uint32_t)MIN(room - room * 3 / 20, (size_t)ARENA_SMALL);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi) {
    Front *front = fuse_req_userdata(req);
    Pending *pending;
    int r = 0;

    if (off < 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if (nodes_list_ended(&front->nodes, ino, (uint64_t)off)) {
        fuse_reply_buf(req, NULL, 0);
        return;
    }
    pending = fuse_begin(req, FS_MSG_LIST_DIR, ino, finish_list);
    pending->offset = (uint64_t)off;
    pending->size = (uint32_t)MIN(size, (size_t)FS_IO_MAX);
    pending->request.offset = pending->offset < OWN_ENTRIES ? 0 : pending->offset - OWN_ENTRIES;
    pending->request.length =
        MAX(list_length(pending->size, pending->offset), FS_DIRENT_HEADER * 4);
    if (pending->request.length > FS_INLINE_MAX) {
        r = pending_take_in(front, pending, pending->request.length);
    }
    if (r < 0) {
        fuse_abandon(front, pending, r);
        return;
    }
    pending_start(front, pending);
}
