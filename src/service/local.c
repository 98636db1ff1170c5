/* SPDX-License-Identifier: MIT */
/*
 * The in-process client: a request goes straight to service_dispatch(), with the
 * request's payload as input and a private buffer for output. Inside a fiber, or
 * on a volume without a loop (whose device never suspends), it is a plain call;
 * otherwise a fiber runs it while this drives the loop until the answer is there.
 * One call at a time per client; responses may be used until the next one.
 */
#include "berth/log.h"
#include "internal.h"

struct LocalClient {
    Volume *volume;
    uint8_t *out; /* FS_IO_MAX bytes */
};

int local_client_new(Volume *volume, LocalClient **ret) {
    LocalClient *client = calloc(1, sizeof(*client));

    if (client == NULL) {
        return -ENOMEM;
    }
    client->volume = volume;
    client->out = malloc(FS_IO_MAX);
    if (client->out == NULL) {
        free(client);
        return -ENOMEM;
    }
    *ret = client;
    return 0;
}

LocalClient *local_client_free(LocalClient *client) {
    if (client != NULL) {
        free(client->out);
        free(client);
    }
    return NULL;
}

typedef struct DrivenCall {
    bool done;
    FSResponse *response;
} DrivenCall;

static void call_done(void *ctx, FSResponse *response) {
    DrivenCall *call = ctx;

    *call->response = *response;
    call->done = true;
}

int local_call(LocalClient *client, const FSRequest *request, FSResponse *response) {
    const ServiceBuffers buffers = {request->payload, client->out, FS_IO_MAX};
    Volume *volume = client->volume;
    DrivenCall call = {false, response};
    int r;

    if (request->type == FS_MSG_WRITE_FILE || request->type == FS_MSG_SET_XATTR) {
        if (request->payload_length != request->length) {
            *response = (FSResponse){.type = request->type, .result = -EINVAL};
            return -EINVAL;
        }
    }
    if (volume->loop == NULL || fiber_self() != NULL) {
        service_dispatch(volume, request, &buffers, response);
        return response->result;
    }
    r = fs_op_async(volume, request, &buffers, call_done, &call);
    if (r < 0) {
        *response = (FSResponse){.type = request->type, .result = r};
        return r;
    }
    while (!call.done) {
        r = loop_step(volume->loop, true);
        if (r < 0) {
            /* The fiber still uses the request: there is no way back from here. */
            log_error("the event loop failed: %s", strerror(-r));
            abort();
        }
    }
    return response->result;
}
