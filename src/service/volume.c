/* SPDX-License-Identifier: MIT */
/*
 * A Volume: one device, the filesystem mounted on it, and the messages that
 * concern it as a whole. MOUNT, UNMOUNT, REMOUNT and SHUTDOWN hold the volume's
 * lock exclusive, everything else shared, so `fs` does not change under a request.
 */
#include "berth/bytes.h"
#include "berth/log.h"
#include "internal.h"
#include <assert.h>
#include <stdio.h>

int volume_new(const FileSystemType *type, BlockDevice *device, Loop *loop, Volume **ret) {
    Volume *volume = calloc(1, sizeof(*volume));

    if (volume == NULL) {
        return -ENOMEM;
    }
    volume->type = type;
    volume->device = device;
    volume->loop = loop;
    volume->started_ns = clock_monotonic_ns();
    fiber_rwlock_init(&volume->lock);
    *ret = volume;
    return 0;
}

void volume_set_lifeline(Volume *volume, Lifeline *lifeline) {
    assert(volume->fs == NULL);
    volume->lifeline = lifeline;
}

void volume_set_journal(Volume *volume, SideJournal *journal) {
    assert(volume->fs == NULL);
    volume->journal = journal;
}

Volume *volume_free(Volume *volume) {
    if (volume == NULL) {
        return NULL;
    }
    if (volume->fs != NULL) {
        /* Through a request, so that a suspending device is driven even outside fibers. */
        LocalClient *client;
        FSResponse response;

        if (local_client_new(volume, &client) == 0) {
            (void)local_call(client, &(FSRequest){.type = FS_MSG_UNMOUNT}, &response);
            local_client_free(client);
        }
    }
    assert(volume->fs == NULL);
    free(volume);
    return NULL;
}

FileSystem *volume_fs(Volume *volume) {
    return volume->fs;
}

const VolumeStats *volume_stats(const Volume *volume) {
    return &volume->stats;
}

/* ---- the messages ---- */

/* Formats into the response's data; what does not fit is cut off. */
static void answer_text(Operation *op, const char *text) {
    uint32_t length = (uint32_t)MIN(strlen(text), (size_t)service_capacity(op));

    if (length > 0) {
        memcpy(op->buffers->out, text, length);
    }
    service_answer_data(op, length);
}

/* The payload as a string. Longer ones than the wire carries come from local callers only. */
static int copy_options(const FSRequest *request, char ret[FS_INLINE_MAX + 1]) {
    if (request->payload_length > FS_INLINE_MAX) {
        return -EINVAL;
    }
    if (request->payload_length > 0) {
        memcpy(ret, request->payload, request->payload_length);
    }
    ret[request->payload_length] = '\0';
    return strlen(ret) == request->payload_length ? 0 : -EINVAL;
}

static int parse_options(const FSRequest *request, FsMountOptions *ret, char text[128]) {
    char *options = malloc(FS_INLINE_MAX + 1); /* too large for a fiber's frame */
    int r = options != NULL ? copy_options(request, options) : -ENOMEM;

    text[0] = '\0';
    if (r == 0) {
        r = fs_options_parse(options, ret, text);
    }
    free(options);
    return r;
}

/* One "key=value" line; the value may come from the image, so control characters are replaced. */
static void add_line(Text *text, const char *key, const char *value) {
    text_printf(text, "%s=", key);
    for (const char *c = value; *c != '\0'; c++) {
        char byte = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;

        text_append(text, &byte, 1);
    }
    text_append(text, "\n", 1);
}

static int answer_mounted(Operation *op) {
    const FileSystem *fs = op->volume->fs;
    bool folds = fs->case_insensitive && !fs->options.case_exact;
    _cleanup_(text_done) Text text = {0};

    add_line(&text, "label", fs->label);
    add_line(&text, "uuid", fs->uuid);
    add_line(&text, "subtype", fs->subtype);
    text_printf(&text, "block_size=%u\n", fs->block_size);
    add_line(&text, "case", folds ? "fold" : "exact");
    add_line(&text, "readonly", fs->readonly ? "1" : "0");
    if (fs->read_only_reason[0] != '\0') {
        add_line(&text, "read_only_reason", fs->read_only_reason);
    }
    answer_text(op, text_string(&text));
    return text.failed ? -ENOMEM : 0;
}

/* Whatever the predecessors' answers named, up to number `last`, may be held. */
static void take_over(Volume *volume, uint64_t last) {
    volume->number = MAX(volume->number, last);
    fs_inode_grant_absent(volume->fs, last);
    /* FENCE was faster, or there is nothing to wait for. (Nobody notes writes to a journal.) */
    if (volume->settled || !volume->fs->recovered || volume->guard == NULL ||
        (volume->journal == NULL && !block_inflight_unsettled(volume->guard))) {
        volume_settle(volume);
    }
}

/* Of a MOUNT that failed. */
MAY_YIELD static void give_up(Volume *volume, bool recover) {
    if (volume->fs != NULL && !recover) {
        (void)fs_unmount(volume->fs);
        volume->fs = NULL;
    }
    volume_abandon(volume); /* what was taken over is left to another successor */
}

MAY_YIELD int service_mount(Operation *op) {
    Volume *volume = op->volume;
    bool recover = (op->request->flags & FS_REQ_RECOVER) != 0;
    FsMountOptions options;
    char text[256] = "";
    int r;

    if (volume->fs != NULL) {
        return -EBUSY;
    }
    r = parse_options(op->request, &options, text);
    if (r == 0) {
        options.readonly = options.readonly || (op->request->flags & FS_REQ_READONLY) != 0;
        r = volume_lifeline_begin(volume, recover);
    }
    if (r == 0) {
        r = volume_journal_begin(volume, &options, recover, text);
    }
    if (r == 0) {
        r = fs_mount_with(volume->type, volume->guard != NULL ? volume->guard : volume->device,
                          volume->loop, volume->lifeline, volume->journal, recover, &options,
                          &volume->fs, text);
    }
    if (r == 0) {
        op->fs = volume->fs;
        if (recover) {
            take_over(volume, op->request->offset);
        }
        r = fs_inode_get(op->fs, FS_ROOT_ID, 0, &op->subject);
        if (r < 0) {
            (void)snprintf(text, sizeof(text), "cannot read the root directory: %s", strerror(-r));
        } else {
            op->grant = true;
            r = answer_mounted(op);
        }
    }
    if (r == 0) {
        volume_resume(volume);
    }
    if (r < 0) {
        fs_inode_put(STEAL_PTR(op->subject));
        give_up(volume, recover);
        answer_text(op, text[0] != '\0' ? text : strerror(-r));
    }
    return r;
}

MAY_YIELD int service_unmount(Operation *op) {
    Volume *volume = op->volume;
    int r = fs_unmount(volume->fs); /* which may wait for FENCE, and that for the cache */

    volume->fs = NULL;
    volume_lifeline_end(volume);
    volume->settled = false; /* that was this mount's */
    return r;
}

/* The serve loop ends after it; a local caller frees the volume. */
MAY_YIELD int service_shutdown(Operation *op) {
    return op->volume->fs != NULL ? service_unmount(op) : 0;
}

MAY_YIELD static int remount(FileSystem *fs, bool readonly) {
    int r = 0;

    if (readonly == fs->readonly) {
        return 0;
    }
    if (!readonly && (fs->device->readonly || fs->read_only_reason[0] != '\0')) {
        return -EROFS;
    }
    if (readonly) {
        (void)fs_reclaim(fs); /* while space can still be given back */
        r = fs_sync(fs);
    }
    if (r == 0 && fs->type->ops->remount != NULL) {
        r = fs->type->ops->remount(fs, readonly);
    }
    if (r == 0 && fs->cache != NULL) {
        r = cache_sync(fs->cache);
    }
    if (r == 0) {
        fs->readonly = readonly;
    }
    return r;
}

MAY_YIELD int service_remount(Operation *op) {
    FsMountOptions options;
    char text[128];
    int r = parse_options(op->request, &options, text);

    if (r == 0) {
        r = remount(op->fs, options.readonly || (op->request->flags & FS_REQ_READONLY) != 0);
        if (r == -EROFS) {
            (void)snprintf(text, sizeof(text), "%.120s",
                           op->fs->read_only_reason[0] != '\0' ? op->fs->read_only_reason
                                                               : "the device is read-only");
        }
    }
    if (r < 0) {
        answer_text(op, text);
    }
    return r;
}

MAY_YIELD int service_statfs(Operation *op) {
    FsStatfs statfs = {0};
    le64 words[7];
    int r;

    if (op->fs->type->ops->statfs == NULL) {
        return -EOPNOTSUPP;
    }
    if (service_capacity(op) < sizeof(words)) {
        return -EINVAL;
    }
    r = op->fs->type->ops->statfs(op->fs, &statfs);
    if (r < 0) {
        return r;
    }
    words[0] = le64_make(statfs.blocks);
    words[1] = le64_make(statfs.blocks_free);
    words[2] = le64_make(statfs.blocks_available);
    words[3] = le64_make(statfs.files);
    words[4] = le64_make(statfs.files_free);
    words[5] = le64_make(statfs.block_size);
    words[6] = le64_make(statfs.name_max);
    memcpy(op->buffers->out, words, sizeof(words));
    service_answer_data(op, sizeof(words));
    return 0;
}

MAY_YIELD int service_sync(Operation *op) {
    return fs_sync(op->fs);
}

/* The ids that the other side let go of. What one of them meets does not keep the others. */
MAY_YIELD int service_evict(Operation *op) {
    const FSRequest *request = op->request;
    int first_error = 0;

    if (request->payload_length % sizeof(le64) != 0 || request->payload_length > FS_INLINE_MAX) {
        return -EINVAL;
    }
    for (uint32_t at = 0; at < request->payload_length; at += (uint32_t)sizeof(le64)) {
        le64 raw;
        int r;

        memcpy(&raw, request->payload + at, sizeof(raw));
        r = fs_inode_forget(op->fs, le64_get(raw), request->offset);
        if (first_error == 0) {
            first_error = r;
        }
    }
    return first_error;
}

int service_ping(Operation *op) {
    (void)op;
    return 0;
}

int service_stats(Operation *op) {
    Text text = {0};
    int r = volume_stats_json(op->volume, &text);

    if (r == 0 && text.length > MIN(op->request->length, service_capacity(op))) {
        r = -ERANGE; /* half a JSON document helps nobody */
    }
    if (r == 0) {
        answer_text(op, text_string(&text));
    }
    text_done(&text);
    return r;
}
