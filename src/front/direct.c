/* SPDX-License-Identifier: MIT */
/*
 * daemon=never: the filesystem runs here, on the thread that sends the request,
 * over a device that never suspends. The requests and the checks are the same as
 * with a daemon; only the hop is missing.
 *
 * Locks: direct->lock, held over a request and its reply, as the answer's data
 * lies in the client's one buffer.
 */
#include "private.h"

struct Direct {
    pthread_mutex_t lock;
    BlockDevice *device, *journal_device;
    SideJournal *journal;
    Volume *volume;
    LocalClient *client;
};

int direct_new(Front *front, Direct **ret) {
    BlockOpenConfig config = {.fd = front->image_fd,
                              .readonly = front->image_readonly,
                              .start = front->volume_start,
                              .length = front->volume_length,
                              .direct = 0};
    Direct *direct = calloc(1, sizeof(*direct));
    int r;

    if (direct == NULL) {
        return -ENOMEM;
    }
    pthread_mutex_init(&direct->lock, NULL);
    r = block_posix_new(&config, &direct->device);
    if (r == 0) {
        r = volume_new(front->type, direct->device, NULL, &direct->volume);
    }
    if (r == 0 && front->journal_fd >= 0) {
        r = sidejournal_new_posix(front->journal_fd, front->image_readonly, &direct->journal_device,
                                  &direct->journal);
        volume_set_journal(direct->volume, direct->journal);
    }
    if (r == 0) {
        r = local_client_new(direct->volume, &direct->client);
    }
    if (r < 0) {
        direct_free(direct);
        return r;
    }
    *ret = direct;
    return 0;
}

Direct *direct_free(Direct *direct) {
    if (direct != NULL) {
        local_client_free(direct->client);
        volume_free(direct->volume);
        block_free(direct->device);
        sidejournal_free(direct->journal);
        block_free(direct->journal_device);
        pthread_mutex_destroy(&direct->lock);
        free(direct);
    }
    return NULL;
}

void direct_execute(Front *front, Pending *pending) {
    Direct *direct = front->direct;
    FSResponse response = {0};

    pthread_mutex_lock(&direct->lock);
    (void)local_call(direct->client, &pending->request, &response);
    response.type = pending->request.type;
    response_accept(front, pending, &response);
    pending_finish(front, pending, &response);
    pthread_mutex_unlock(&direct->lock);
}
