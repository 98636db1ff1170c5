/* SPDX-License-Identifier: MIT */
/*
 * The child and the talking to it. Requests and responses travel in their wire
 * form over a socket, bulk data in a piece of shared memory; what the child
 * says is decoded from a private copy, and bulk data is copied before anybody
 * looks at it.
 */
#include "session.h"
#include "berth/lifeline.h"
#include "berth/log.h"
#include "berth/service.h"
#include "types.h"
#include "volume.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

struct Session {
    const char *image;
    char type[32];
    pid_t child;
    int socket;
    uint8_t *shared; /* FS_IO_MAX bytes, written by either side */
    uint8_t *data;   /* the last answer's */
    uint64_t seq;
    bool mounted, dead;
    uint8_t message[FS_MESSAGE_MAX];
};

/* ---- the child ---- */

typedef struct Server {
    Volume *volume;
    int socket;
    uint8_t *shared;
    uint8_t message[FS_MESSAGE_MAX];
} Server;

static ssize_t receive(int fd, void *buffer, size_t size) {
    struct iovec iov = {.iov_base = buffer, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    do {
        n = recvmsg(fd, &header, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (header.msg_flags & MSG_TRUNC) != 0 ? -EPROTO : n;
}

static int transmit(int fd, const void *buffer, size_t size) {
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buffer, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    do {
        n = sendmsg(fd, &header, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static int serve_one(Server *server) {
    ServiceBuffers buffers = {.out = server->shared, .out_capacity = FS_IO_MAX};
    ssize_t n = receive(server->socket, server->message, sizeof(server->message));
    FSRequest request;
    FSResponse response;
    int r;

    if (n <= 0) {
        return -EPIPE;
    }
    if (fs_request_decode(server->message, (size_t)n, &request, NULL) < 0) {
        return -EPROTO;
    }
    buffers.in = (request.flags & FS_REQ_ARENA) != 0 ? server->shared : request.payload;
    r = service_dispatch(server->volume, &request, &buffers, &response);
    if (r < 0) {
        return r;
    }
    if (response.data_length > FS_INLINE_MAX) {
        response.flags |= FS_RESP_ARENA;
        response.data = NULL;
    }
    r = fs_response_encode(&response, server->message, sizeof(server->message));
    return r < 0 ? r : transmit(server->socket, server->message, (size_t)r);
}

/* Nothing of the parent's must outlive in here but what the volume needs. */
static void close_others(int keep_a, int keep_b) {
    for (int fd = 3; fd < 1024; fd++) {
        if (fd != keep_a && fd != keep_b) {
            (void)close(fd);
        }
    }
}

__attribute__((noreturn)) static void child_main(const OpenVolume *opened, int socket,
                                                 uint8_t *shared, pid_t parent) {
    static Server server;
    const FileSystemType *type = fs_type_find(berth_types, opened->type);
    const LoopConfig loop_config = {.no_ring = true};
    BlockOpenConfig image = {.fd = opened->fd,
                             .readonly = opened->device->readonly,
                             .start = opened->start,
                             .length = opened->length};
    SandboxConfig sandbox = {.mode = SANDBOX_AUTO};
    Lifeline *lifeline = NULL;
    char layers[SANDBOX_LAYERS_MAX], text[128] = "";
    BlockDevice *device = NULL;
    int r;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    log_init("berth", LOG_LEVEL_WARNING);
    close_others(opened->fd, socket);
    server = (Server){.socket = socket, .shared = shared};
    r = loop_new(&loop_config, &sandbox.loop);
    if (r == 0) {
        r = block_posix_new(&image, &device);
    }
    if (r == 0) {
        r = volume_new(type, device, NULL, &server.volume);
    }
    if (r == 0) {
        r = lifeline_new(0, 1, &lifeline);
    }
    if (r == 0) {
        volume_set_lifeline(server.volume, lifeline);
        sandbox.memory_fd = lifeline_fd(lifeline);
        sandbox.image_end = opened->start + device->size;
        r = sandbox_enter(&sandbox, layers, text);
    }
    if (r < 0) {
        log_error("%s", text[0] != '\0' ? text : strerror(-r));
    }
    while (r == 0) {
        r = serve_one(&server);
    }
    _exit(r == -EPIPE ? 0 : 1);
}

/* ---- calls ---- */

const char *session_type(const Session *session) {
    return session->type;
}

uint8_t *session_buffer(Session *session) {
    return session->shared;
}

static int64_t clock_now_ns(void) {
    struct timespec now;
    int64_t epoch = 0;

    if (getenv("SOURCE_DATE_EPOCH") != NULL && volume_time(&epoch)) {
        return epoch * 1000000000;
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Takes the data over from where the child wrote it. */
static int take_data(Session *session, FSResponse *response) {
    if (response->data_length > FS_IO_MAX) {
        return -EPROTO;
    }
    if ((response->flags & FS_RESP_ARENA) != 0) {
        memcpy(session->data, session->shared, response->data_length);
    } else if (response->data_length > 0) {
        memcpy(session->data, response->data, response->data_length);
    }
    response->data = session->data;
    return 0;
}

static int exchange(Session *session, const FSRequest *request, FSResponse *response) {
    int n = fs_request_encode(request, session->message, sizeof(session->message));
    int r = n < 0 ? n : transmit(session->socket, session->message, (size_t)n);
    ssize_t got;

    if (r < 0) {
        return r;
    }
    got = receive(session->socket, session->message, sizeof(session->message));
    if (got <= 0) {
        return got < 0 ? (int)got : -EPIPE;
    }
    r = fs_response_decode(session->message, (size_t)got, response, NULL);
    if (r < 0 || response->type != request->type || response->request_id != request->request_id) {
        return -EPROTO;
    }
    return take_data(session, response);
}

int session_call(Session *session, FSRequest *request, FSResponse *response) {
    int r;

    if (session->dead) {
        return -EPIPE;
    }
    request->request_id = fs_request_id(0, ++session->seq);
    request->uid = getuid();
    request->gid = getgid();
    request->pid = (uint32_t)getpid();
    request->time_ns = clock_now_ns();
    if ((request->flags & FS_REQ_ARENA) != 0) {
        request->arena_length = FS_IO_MAX;
    }
    r = exchange(session, request, response);
    if (r < 0) {
        log_error("%s: the process that reads it %s", session->image,
                  r == -EPROTO ? "gave a wrong answer" : "has died");
        session->dead = true;
        return r;
    }
    return response->result;
}

/* ---- opening and closing ---- */

/* The formats of this build store local time; whoever does not say which means his own. */
static void mount_options(const char *given, Text *ret) {
    int offset = volume_time_offset();

    text_printf(ret, "%s", given != NULL ? given : "");
    if (offset != 0 && strstr(text_string(ret), "tz=") == NULL &&
        strstr(text_string(ret), "time_offset=") == NULL) {
        text_printf(ret, "%stime_offset=%d", ret->length > 0 ? "," : "", offset / 60);
    }
}

static int mount_volume(Session *session, const SessionConfig *config, bool readonly) {
    _cleanup_(text_done) Text options = {0};
    FSRequest request = {.type = FS_MSG_MOUNT, .flags = readonly ? FS_REQ_READONLY : 0};
    FSResponse response = {0};
    int r;

    mount_options(config->options, &options);
    if (options.failed || options.length > FS_INLINE_MAX) {
        log_error("%s: the options are too long", config->image);
        return -EINVAL;
    }
    request.payload = (const uint8_t *)text_string(&options);
    request.payload_length = (uint32_t)options.length;
    r = session_call(session, &request, &response);

    if (r < 0 && !session->dead) {
        char text[256];
        size_t length = MIN((size_t)response.data_length, sizeof(text) - 1);

        memcpy(text, response.data, length);
        text[length] = '\0';
        log_error("%s: %s", config->image, length > 0 ? text : strerror(-r));
    }
    if (r == 0 && !readonly && (response.flags & FS_RESP_READONLY) != 0) {
        log_error("%s: can only be read", config->image);
        return -EROFS;
    }
    session->mounted = r == 0;
    return r;
}

static int start_child(Session *session, const OpenVolume *opened) {
    int ends[2];
    pid_t parent = getpid();

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        return -errno;
    }
    session->child = fork();
    if (session->child == 0) {
        child_main(opened, ends[1], session->shared, parent);
    }
    (void)close(ends[1]);
    session->socket = ends[0];
    return session->child < 0 ? -errno : 0;
}

static void session_free(Session *session) {
    if (session->socket >= 0) {
        (void)close(session->socket);
    }
    if (session->child > 0) {
        (void)waitpid(session->child, NULL, 0);
    }
    if (session->shared != NULL) {
        (void)munmap(session->shared, FS_IO_MAX);
    }
    free(session->data);
    free(session);
}

static int session_new(const char *image, Session **ret) {
    Session *session = calloc(1, sizeof(*session));
    void *shared;

    if (session == NULL) {
        return -ENOMEM;
    }
    session->image = image;
    session->socket = -1;
    session->data = malloc(FS_IO_MAX);
    shared = mmap(NULL, FS_IO_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    session->shared = shared != MAP_FAILED ? shared : NULL;
    if (session->data == NULL || session->shared == NULL) {
        session_free(session);
        return -ENOMEM;
    }
    *ret = session;
    return 0;
}

int session_open(const SessionConfig *config, Session **ret) {
    VolumeOpenConfig open_config = {.path = config->image,
                                    .part = config->part,
                                    .type = config->type,
                                    .readonly = config->readonly};
    Session *session = NULL;
    OpenVolume opened;
    int r = volume_open(&open_config, &opened);

    if (r < 0) {
        return r;
    }
    if (config->type != NULL) {
        (void)snprintf(opened.type, sizeof(opened.type), "%s", config->type);
    }
    if (fs_type_find(berth_types, opened.type) == NULL) {
        log_error("%s: holds %s, which berth cannot read", config->image,
                  opened.title[0] != '\0' ? opened.title : "nothing that is known");
        r = -ENODEV;
    }
    if (r == 0 && !config->readonly && opened.device->readonly) {
        log_error("%s: can only be read", config->image);
        r = -EROFS;
    }
    if (r == 0) {
        r = session_new(config->image, &session);
    }
    if (r == 0) {
        (void)snprintf(session->type, sizeof(session->type), "%s", opened.type);
        r = start_child(session, &opened);
    }
    volume_close(&opened); /* the lock lasts as long as the child's descriptor */
    if (r == 0) {
        r = mount_volume(session, config, config->readonly);
    }
    if (r < 0) {
        if (session != NULL) {
            session_free(session);
        }
        return r;
    }
    *ret = session;
    return 0;
}

int session_close(Session *session) {
    FSRequest request = {.type = FS_MSG_UNMOUNT};
    FSResponse response;
    int r = 0;

    if (session->mounted) {
        r = session_call(session, &request, &response);
        if (r < 0 && !session->dead) {
            log_error("%s: unmounting: %s", session->image, strerror(-r));
        }
    }
    session_free(session);
    return r;
}
