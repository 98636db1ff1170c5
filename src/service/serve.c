/* SPDX-License-Identifier: MIT */
/*
 * The serve loop: the front-end's requests in, each into a fiber of its own, and
 * the responses out in the order of their numbers. It runs outside fibers, in the
 * loop's callbacks or between its turns, and never waits.
 *
 * With rings (transport.h) there is nothing to be called back for while requests
 * keep coming: every turn of the loop starts by taking what is there, and only when
 * there is nothing does the turn wait, with the ring's sleeping flag raised.
 *
 * Admission: a request's slot must be free and its sequence higher than the
 * slot's last; a slot is free again when its response has been sent. So requests
 * in service, tasks and unsent responses are all bounded by the number of slots,
 * whatever the peer does. A peer that breaks the protocol is not answered: one
 * log line, the channel is shut, and the daemon ends as if the front-end had died.
 *
 * The end (SHUTDOWN, end of file, SIGTERM, broken protocol): nothing more is
 * admitted, what is in service finishes, the volume is synced and unmounted. A frozen
 * volume (FREEZE) is left as it is.
 */
#include "serve.h"
#include "berth/log.h"
#include "internal.h"
#include <assert.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

typedef struct Server Server;

/* One request from receiving it to having sent the answer. */
typedef struct Task {
    ListNode node; /* in `idle` or `outgoing` */
    Server *server;
    FSRequest request; /* names and payload point into message */
    ServiceBuffers buffers;
    size_t length;                   /* of the encoded response */
    uint8_t message[FS_MESSAGE_MAX]; /* the request, then the response */
    uint8_t data[FS_INLINE_MAX];     /* inline data of the response */
} Task;

typedef struct Slot {
    uint64_t seq; /* of the last request */
    bool busy;
} Slot;

struct Server {
    ServerConfig config;
    Slot *slots;
    List idle;     /* tasks for reuse */
    List outgoing; /* tasks whose response the socket has not taken yet, in order */
    unsigned in_service;
    bool busy; /* something was received since the last look */
    LoopWatch *watch, *signal_watch;
    LoopWatch *wake_watch; /* with rings only */
    bool closing;          /* nothing is admitted any more */
    bool broken;           /* nothing is sent any more */
    bool leaving;          /* SIGTERM: the volume stays mounted, for a successor */
    bool flushing;         /* the end waits until all responses have been sent (SHUTDOWN) */
    FiberQueue quiet;      /* the closing fiber waits here for in_service and outgoing */
    bool stopped;          /* the loop is to end */
    int exit_code;
};

/* How long the end of a daemon waits for the end of its predecessors' device writes, when nobody is
 * left to tell of it. (Seen: up to a tenth of a second.) */
#define UNSETTLED_PATIENCE_NS UINT64_C(2000000000)

static void server_close(Server *server, int exit_code);
static void server_protocol_error(Server *server, const char *text);

/* ---- tasks ---- */

static Task *task_get(Server *server) {
    ListNode *node = list_first(&server->idle);
    Task *task;

    if (node != NULL) {
        list_remove(node);
        return container_of(node, Task, node);
    }
    task = malloc(sizeof(*task));
    if (task != NULL) {
        task->node = (ListNode){NULL, NULL};
        task->server = server;
    }
    return task;
}

static void task_put(Task *task) {
    list_prepend(&task->server->idle, &task->node);
}

/* ---- responses ---- */

static void server_update_watch(Server *server) {
    bool sending = !list_empty(&server->outgoing);

    loop_watch_set_events(server->watch,
                          (short)((server->closing ? 0 : POLLIN) | (sending ? POLLOUT : 0)));
    if (server->wake_watch != NULL && server->closing) {
        loop_watch_set_events(server->wake_watch, 0);
    }
}

/* The response has left: the front-end may use the slot again as soon as it reads it. */
static void task_sent(Task *task) {
    Server *server = task->server;

    server->slots[fs_request_slot(task->request.request_id)].busy = false;
    task_put(task);
    if (list_empty(&server->outgoing)) {
        fiber_queue_wake_all(&server->quiet);
    }
}

/* 0: sent or given up; -EAGAIN: the socket is full. */
static int task_try_send(Task *task) {
    Server *server = task->server;
    int r = server->broken
                ? -EPIPE
                : transport_try_send(server->config.transport, task->message, task->length);

    if (r == -EAGAIN) {
        return r;
    }
    if (r < 0 && !server->broken) {
        server->broken = true;
        if (r != -EPIPE) {
            log_error("cannot send a response: %s", strerror(-r));
        }
        server_close(server, r == -EPIPE ? 0 : 1);
    }
    return 0;
}

static void server_flush(Server *server) {
    ListNode *node;

    while ((node = list_first(&server->outgoing)) != NULL) {
        Task *task = container_of(node, Task, node);

        if (task_try_send(task) == -EAGAIN) {
            break;
        }
        list_remove(node);
        task_sent(task);
    }
    server_update_watch(server);
}

/* Encodes and sends, without suspending since the response got its number. */
static void task_respond(Task *task, FSResponse *response) {
    Server *server = task->server;
    char text[512];
    int r;

    if (server->config.debug) {
        log_debug("%s", fs_response_to_text(response, text, sizeof(text)));
    }
    if (response->data_length > 0 && task->buffers.out != task->data) {
        response->flags |= FS_RESP_ARENA;
        response->data = NULL;
    }
    r = fs_response_encode(response, task->message, sizeof(task->message));
    if (r < 0) {
        /* A filesystem answered what the wire cannot express: an error instead, same number. */
        const FSResponse failed = {
            .type = response->type,
            .request_id = response->request_id,
            .number = response->number,
            .result = -EIO,
        };

        log_error("%s: the response cannot be encoded: %s", fs_message_name(response->type),
                  fs_response_to_text(response, text, sizeof(text)));
        r = fs_response_encode(&failed, task->message, sizeof(task->message));
        assert(r > 0);
    }
    task->length = (size_t)r;
    if (!list_empty(&server->outgoing) || task_try_send(task) == -EAGAIN) {
        list_append(&server->outgoing, &task->node);
        server_update_watch(server);
        return;
    }
    task_sent(task);
}

/* ---- requests ---- */

MAY_YIELD static void task_fiber(void *arg) {
    Task *task = arg;
    Server *server = task->server;
    bool shutdown = task->request.type == FS_MSG_SHUTDOWN;
    FSResponse response;

    fiber_set_tag(task->request.request_id);
    if (service_dispatch(server->config.volume, &task->request, &task->buffers, &response) == 0) {
        task_respond(task, &response);
    } else {
        task_put(task);
        server_protocol_error(server, "a request that is older than the last one in its slot");
    }
    server->in_service--;
    if (shutdown) {
        server->flushing = true;
        server_close(server, 0);
    }
    if (server->in_service == 0) {
        fiber_queue_wake_all(&server->quiet);
    }
}

/* Where the bulk bytes lie: in the message, or at a checked place in one of the arenas. */
static int task_resolve_buffers(Task *task) {
    const ServerConfig *config = &task->server->config;
    const FSRequest *request = &task->request;
    uint8_t *slot;

    task->buffers = (ServiceBuffers){request->payload, task->data, sizeof(task->data)};
    if (!(request->flags & FS_REQ_ARENA)) {
        return 0;
    }
    if (request->type == FS_MSG_WRITE_FILE || request->type == FS_MSG_SET_XATTR) {
        task->buffers.in = arena_at(config->written, request->arena_offset, request->length);
        return task->buffers.in != NULL ? 0 : -EPROTO;
    }
    slot = arena_at(config->read, request->arena_offset, request->arena_length);
    if (slot == NULL) {
        return -EPROTO;
    }
    task->buffers.out = slot;
    task->buffers.out_capacity = request->arena_length;
    return 0;
}

/* The slot rule. */
static int server_take_slot(Server *server, uint64_t request_id) {
    unsigned index = fs_request_slot(request_id);
    uint64_t seq = fs_request_seq(request_id);

    if (index >= server->config.slots || server->slots[index].busy ||
        seq <= server->slots[index].seq) {
        return -EPROTO;
    }
    server->slots[index] = (Slot){seq, true};
    return 0;
}

/* Answered here and now, not by a fiber: it says that the loop turns. */
static void task_pong(Task *task) {
    FSResponse response = {
        .type = FS_MSG_PING,
        .request_id = task->request.request_id,
        .number = volume_next_number(task->server->config.volume),
    };

    task_respond(task, &response);
}

static void task_refuse(Task *task, int error) {
    FSResponse response = {
        .type = task->request.type,
        .request_id = task->request.request_id,
        .number = volume_next_number(task->server->config.volume),
        .result = error,
    };

    task_respond(task, &response);
}

/* Decodes and admits what lies in task->message. -EPROTO with text: the peer misbehaved. */
static int server_admit(Server *server, Task *task, size_t length, char text[128]) {
    FSRequest *request = &task->request;
    char line[512];
    int r = fs_request_decode(task->message, length, request, text);

    if (r < 0) {
        return r;
    }
    if (server->config.debug) {
        log_debug("%s", fs_request_to_text(request, line, sizeof(line)));
    }
    if (server_take_slot(server, request->request_id) < 0) {
        (void)snprintf(text, 128, "request_id %#llx: bad slot or sequence",
                       (unsigned long long)request->request_id);
        return -EPROTO;
    }
    if (task_resolve_buffers(task) < 0) {
        (void)snprintf(text, 128, "arena_offset %llu, length %u: outside the arena",
                       (unsigned long long)request->arena_offset, request->arena_length);
        return -EPROTO;
    }
    if (request->type == FS_MSG_PING) {
        task_pong(task);
        return 0;
    }
    if (fiber_spawn(task_fiber, task, fs_message_name(request->type)) == NULL) {
        task_refuse(task, -ENOMEM);
        return 0;
    }
    server->in_service++;
    server->busy = true;
    return 0;
}

static void server_protocol_error(Server *server, const char *text) {
    log_error("the front-end broke the protocol: %s", text);
    server->broken = true;
    transport_shutdown(server->config.transport);
    server_close(server, 1);
}

static void server_front_gone(Server *server) {
    log_info("the front-end has gone");
    if (server->config.held) {
        _exit(0); /* unmounting would take back what the kernel still holds, like unlinked files */
    }
    server->broken = true;
    server_close(server, 0);
}

/* Takes all that is there, so that one turn of the loop submits the I/O of many requests; but no
 * more than an honest front-end can have sent, since the turn must come to its end. */
static void server_receive(Server *server) {
    for (unsigned i = 0; i < server->config.slots && !server->closing; i++) {
        Task *task = task_get(server);
        char text[128] = "cannot receive";
        int r;

        if (task == NULL) {
            return; /* the watch is level-triggered: tried again */
        }
        r = transport_try_receive(server->config.transport, task->message, sizeof(task->message));
        if (r == -EAGAIN) {
            task_put(task);
            return;
        }
        if (r == 0 || r == -EPIPE || r == -ECONNRESET) {
            task_put(task);
            server_front_gone(server);
            return;
        }
        if (r > 0) {
            r = server_admit(server, task, (size_t)r, text);
        }
        if (r < 0) {
            task_put(task);
            server_protocol_error(server, text);
        }
    }
}

/* With rings: what a sign from the peer means (transport_woken, transport_try_end), after all that
 * it sent before has been taken. */
static void server_take_sign(Server *server, int sign) {
    server_receive(server);
    if (sign < 0 && !server->closing) {
        if (sign == -EPIPE) {
            server_front_gone(server);
        } else {
            server_protocol_error(server, "packets or wake-ups without a message");
        }
    }
}

static void on_wake(void *arg, short revents) {
    Server *server = arg;

    if (revents & POLLNVAL) { /* we would never be woken again */
        server_protocol_error(server, "the pipe for wake-ups cannot be polled");
        return;
    }
    server_take_sign(server, transport_woken(server->config.transport));
}

static void on_channel(void *arg, short revents) {
    Server *server = arg;

    if (revents & POLLOUT) {
        server_flush(server);
    }
    if (revents & (POLLIN | POLLHUP | POLLERR)) {
        if (server->closing) {
            server->broken = true; /* nobody reads any more: let the unsent ones go */
            server_flush(server);
            loop_watch_set_events(server->watch, 0);
        } else if (server->wake_watch != NULL) {
            server_take_sign(server, transport_try_end(server->config.transport));
        } else {
            server_receive(server);
        }
    }
}

/* All is answered, so the next request may be as close as the front-end's reply to the last. With
 * requests in service there are completions to wait for, which a look does not see. */
static void server_look(Server *server) {
    Transport *transport = server->config.transport;

    uint32_t limit_ns;

    if (!server->busy || server->in_service > 0 || server->closing) {
        return;
    }
    server->busy = false;
    limit_ns = transport_look_limit(transport, TRANSPORT_WAIT_MESSAGE);
    if (limit_ns > 0 && transport_look(transport, TRANSPORT_WAIT_MESSAGE, limit_ns, -1)) {
        server_receive(server);
    }
}

/* One more look before the kernel takes over. May the loop wait? While there are fibers to run it
 * does not, and the flag stays down: nobody need wake us. */
static bool server_may_wait(Server *server) {
    if (server->wake_watch == NULL || server->closing) {
        return true;
    }
    server_receive(server);
    server_look(server);
    return !server->closing && !fiber_any_ready() &&
           transport_prepare_sleep(server->config.transport);
}

static int server_loop(Server *server) {
    int r = 0;

    while (r == 0) {
        bool wait = server_may_wait(server);

        if (server->stopped) {
            break;
        }
        r = loop_step(server->config.loop, wait);
    }
    return r;
}

/* ---- the end ---- */

/* Nothing is received any more, so FENCE cannot come. */
MAY_YIELD static void settle_alone(Server *server) {
    Volume *volume = server->config.volume;

    if (!volume_settled(volume)) {
        loop_sleep(server->config.loop, UNSETTLED_PATIENCE_NS);
        volume_settle(volume);
    }
}

/* Everything is on the image, and the lifeline as it is: the front-end has another daemon go on.
 * Unmounting would take back what the kernel still holds, like unlinked files that are open. */
MAY_YIELD static void leave(Server *server) {
    const FSRequest request = {.type = FS_MSG_SYNC};
    const ServiceBuffers buffers = {0};
    FSResponse response;

    settle_alone(server);
    (void)service_dispatch(server->config.volume, &request, &buffers, &response);
    volume_abandon(server->config.volume);
}

MAY_YIELD static void closing_fiber(void *arg) {
    Server *server = arg;
    Volume *volume = server->config.volume;

    settle_alone(server); /* requests may wait for it */
    while (server->in_service > 0) {
        fiber_queue_wait(&server->quiet);
    }
    if (server->leaving && !server->broken && volume_fs(volume) != NULL) {
        leave(server);
    }
    if (volume_frozen(volume)) {
        log_notice("ended while frozen: the volume is left to a successor");
        volume_abandon(volume);
    }
    if (volume_fs(volume) != NULL) {
        const FSRequest request = {.type = FS_MSG_UNMOUNT};
        const ServiceBuffers buffers = {0};
        FSResponse response;

        settle_alone(server); /* MOUNT may have been the last request */
        (void)service_dispatch(volume, &request, &buffers, &response);
        if (response.result < 0) {
            log_error("unmounting failed: %s", strerror(-response.result));
            server->exit_code = 1;
        }
    }
    while (!list_empty(&server->outgoing) && server->flushing && !server->broken) {
        fiber_queue_wait(&server->quiet);
    }
    server->stopped = true;
}

static void server_close(Server *server, int exit_code) {
    if (server->closing) {
        return;
    }
    server->closing = true;
    server->exit_code = exit_code;
    server_update_watch(server);
    if (fiber_spawn(closing_fiber, server, "close") == NULL) {
        log_error("no fiber to unmount in: the volume is left as it is");
        server->exit_code = 1;
        server->stopped = true;
    }
}

static void on_signal(void *arg, short revents) {
    Server *server = arg;
    struct signalfd_siginfo info;

    (void)revents;
    if (read(server->config.signal_fd, &info, sizeof(info)) == sizeof(info)) {
        log_notice("SIGTERM: the volume is left to a successor");
        server->leaving = true;
        server->flushing = false; /* a front-end that does not read cannot keep us */
        fiber_queue_wake_all(&server->quiet);
        server_close(server, 0);
    }
}

/* SIGTERM ends the daemon in order. A terminal's SIGINT is for the front-end, which will tell. */
int server_signals(void) {
    sigset_t set;
    int fd;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static int server_watch_transport(Server *server) {
    Transport *transport = server->config.transport;
    Loop *loop = server->config.loop;

    server->watch =
        loop_watch_new(loop, channel_fd(transport_channel(transport)), POLLIN, on_channel, server);
    if (server->watch == NULL || !transport_has_ring(transport)) {
        return server->watch != NULL ? 0 : -ENOMEM;
    }
    server->wake_watch =
        loop_watch_new(loop, transport_wake_fd(transport), POLLIN, on_wake, server);
    return server->wake_watch != NULL ? 0 : -ENOMEM;
}

static void server_done(Server *server) {
    List *lists[] = {&server->idle, &server->outgoing};

    loop_watch_free(server->watch);
    loop_watch_free(server->signal_watch);
    loop_watch_free(server->wake_watch);
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        ListNode *node;

        while ((node = list_first(lists[i])) != NULL) {
            list_remove(node);
            free(container_of(node, Task, node));
        }
    }
    free(server->slots);
}

int server_run(const ServerConfig *config) {
    Server server = {.config = *config};
    int r;

    list_init(&server.idle);
    list_init(&server.outgoing);
    fiber_queue_init(&server.quiet);
    server.slots = calloc(config->slots, sizeof(*server.slots));
    r = server.slots != NULL ? server_watch_transport(&server) : -ENOMEM;
    if (r == 0) {
        server.signal_watch =
            loop_watch_new(config->loop, config->signal_fd, POLLIN, on_signal, &server);
        r = server.signal_watch != NULL ? 0 : -ENOMEM;
    }
    if (r == 0) {
        r = server_loop(&server);
    }
    if (r < 0) {
        log_error("the event loop failed: %s", strerror(-r));
        server.exit_code = 1;
    }
    server_done(&server);
    return server.exit_code;
}
