/* SPDX-License-Identifier: MIT */
/*
 * Taking a volume over from a daemon that died, and standing still while a
 * successor tries to take it over from us (man berth-recovery.7, section 8).
 *
 * A re-sent request whose record was committed is answered from that record and
 * not run again. Result, ids and flags are the recorded ones; attributes are
 * those of now where the file is to be had, since whoever reads answers takes the
 * one with the higher number for the newer one.
 *
 * Until FENCE says that the device writes of the dead have ended, no checkpoint
 * runs and writes that would overlap one of them wait; both are below here. (Where the lifeline
 * lists none, nobody waits.) FENCE takes no lock, because whoever holds the volume's may be
 * waiting for it.
 *
 * While frozen, nothing of ours changes the lifeline or the device. Nobody tells a
 * frozen daemon that it has been replaced: when it is ended it leaves both alone.
 */
#include "berth/log.h"
#include "internal.h"
#include "reply.h"

/* ---- the beginning and the end of a mount ---- */

int volume_lifeline_begin(Volume *volume, bool recover) {
    BlockInflight *writes;
    unsigned count;
    int r;

    if (volume->lifeline == NULL) {
        return 0;
    }
    /* Only now: until here its owner was another daemon, perhaps a live one. */
    writes = lifeline_inflight(volume->lifeline, &count);
    r = block_inflight_new(volume->device, writes, count, &volume->guard);
    if (r < 0) {
        return r;
    }
    if (!recover) {
        volume->settled = true;
    }
    if (volume->settled) {
        block_inflight_settled(volume->guard);
    }
    if (volume->loop != NULL) {
        fiber_note_running(lifeline_running_word(volume->lifeline));
    }
    return 0;
}

void volume_lifeline_end(Volume *volume) {
    if (volume->guard != NULL && volume->loop != NULL) {
        fiber_note_running(NULL);
    }
    volume->guard = block_free(volume->guard);
}

bool volume_settled(const Volume *volume) {
    return volume->settled || volume->guard == NULL;
}

void volume_settle(Volume *volume) {
    volume->settled = true;
    if (volume->guard != NULL) {
        block_inflight_settled(volume->guard);
    }
    if (volume->fs != NULL && volume->fs->cache != NULL) {
        cache_settled(volume->fs->cache);
    }
}

/* Beside the requests; the volume's lock keeps unmounting away, and MOUNT's until it is answered.
 */
MAY_YIELD static void resume_fiber(void *arg) {
    Volume *volume = arg;

    fiber_rwlock_read(&volume->lock);
    if (volume->fs != NULL) {
        fs_resume(volume->fs);
    }
    fiber_rwlock_unlock(&volume->lock);
}

void volume_resume(Volume *volume) {
    if (!volume->fs->recovered) {
        return;
    }
    if (volume->loop == NULL) {
        fs_resume(volume->fs);
    } else if (fiber_spawn(resume_fiber, volume, "resume") == NULL) {
        log_warning("no fiber to go on with what was left half done: it waits for the unmount");
    }
}

/* ---- answers from the record ---- */

/* The file as it is now, or NULL: it is gone, or cannot be had. */
MAY_YIELD static FsInode *find_recorded(FileSystem *fs, bool present, const FsAttr *attr) {
    FsInode *inode = NULL;

    if (!present || fs_inode_get(fs, attr->file_id, 0, &inode) < 0) {
        return NULL;
    }
    if (inode->attr.type != attr->type) {
        fs_inode_put(inode); /* another object has its place by now */
        return NULL;
    }
    return inode;
}

MAY_YIELD int service_replay(Operation *op) {
    const FSRequest *request = op->request;
    FSResponse *response = op->response;
    FSResponse recorded;
    uint8_t reply[SERVICE_REPLY_MAX];
    int length;

    if (request->request_id == 0 || op->fs == NULL || !op->fs->recovered) {
        return 0;
    }
    length = cache_slot_reply(op->fs->cache, fs_request_slot(request->request_id),
                              fs_request_seq(request->request_id), reply);
    if (length <= 0) {
        op->outdated = length < 0;
        return length;
    }
    op->replayed = true;
    op->volume->stats.replayed++;
    if (service_reply_decode(reply, (uint32_t)length, &recorded) < 0 ||
        recorded.type != request->type || recorded.result < 0) {
        log_error("%s: the recorded answer is damaged", fs_message_name(request->type));
        return -EIO;
    }
    response->flags = recorded.flags & FS_RESP_EXACT;
    response->param1 = recorded.param1;
    op->grant = request->type == FS_MSG_CREATE_FILE || request->type == FS_MSG_LINK;
    if (op->grant || request->type == FS_MSG_SET_ATTR) {
        op->created = recorded.attr; /* these must have some, be it as they were then */
    }
    op->subject = find_recorded(op->fs, recorded.flags & FS_RESP_ATTR, &recorded.attr);
    op->parent = find_recorded(op->fs, recorded.flags & FS_RESP_PARENT_ATTR, &recorded.parent);
    return recorded.result;
}

/* ---- the messages ---- */

int service_fence(Operation *op) {
    volume_settle(op->volume);
    return 0;
}

/* The volume's lock is held exclusive: no request is under way. */
MAY_YIELD int service_freeze(Operation *op) {
    Volume *volume = op->volume;

    fs_quiesce(op->fs);
    if (op->fs->cache != NULL) {
        cache_freeze(op->fs->cache);
    }
    if (volume->guard != NULL && volume->loop != NULL) {
        fiber_note_running(NULL);
    }
    volume->frozen = true;
    return 0;
}

bool volume_frozen(const Volume *volume) {
    return volume->frozen;
}

void volume_thaw(Volume *volume) {
    volume->frozen = false;
    if (volume->guard != NULL && volume->loop != NULL) {
        fiber_note_running(lifeline_running_word(volume->lifeline));
    }
    if (volume->fs != NULL && volume->fs->cache != NULL) {
        cache_thaw(volume->fs->cache);
    }
}

MAY_YIELD void volume_abandon(Volume *volume) {
    if (volume->fs != NULL) {
        fs_abandon(volume->fs);
        volume->fs = NULL;
    }
    volume_lifeline_end(volume);
}
