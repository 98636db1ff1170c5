/* SPDX-License-Identifier: MIT */
/*
 * A daemon's start and end: its command line, the HELLO (in which the front-end
 * hands over the image, the arenas and the lifeline; a daemon opens nothing itself), what is
 * built from it, and the serve loop's result as exit code (man fatd.8).
 *
 * The HELLO is answered exactly once: with result 0 when everything is ready to
 * serve, else with an errno and one line of text.
 */
#include "berth/log.h"
#include "serve.h"
#include <getopt.h>
#include <stdio.h>

#define HELLO_TIMEOUT_MS 10000

/* What a HELLO brings and what is made of it; released in one place. */
typedef struct Daemon {
    Hello hello;
    int fds[HELLO_FD_MAX];
    Transport *transport;
    ArenaMap written, read;
    Loop *loop;
    BlockDevice *device;
    BlockDevice *journal_device; /* NULL: no side journal */
    SideJournal *journal;
    Lifeline *lifeline;
    Volume *volume;
    int signal_fd;
    int watched[3];                  /* places in the ring's table, -1: none */
    char layers[SANDBOX_LAYERS_MAX]; /* of the sandbox, in force */
} Daemon;

static void daemon_done(Daemon *daemon) {
    daemon->volume = volume_free(daemon->volume);
    daemon->device = block_free(daemon->device);
    daemon->journal = sidejournal_free(daemon->journal);
    daemon->journal_device = block_free(daemon->journal_device);
    for (size_t i = 0; i < ARRAY_SIZE(daemon->watched); i++) {
        if (daemon->watched[i] >= 0) {
            loop_unregister_fd(daemon->loop, daemon->watched[i]);
        }
    }
    if (daemon->loop != NULL) {
        daemon->loop = loop_free(daemon->loop);
    }
    daemon->lifeline = lifeline_free(daemon->lifeline);
    arena_unmap(&daemon->written);
    arena_unmap(&daemon->read);
    for (size_t i = 0; i < ARRAY_SIZE(daemon->fds); i++) {
        base_closep(&daemon->fds[i]);
    }
    daemon->transport = transport_free(daemon->transport);
    base_closep(&daemon->signal_fd);
}

static int receive_hello(Daemon *daemon, char text[128]) {
    uint8_t message[HELLO_SIZE];
    unsigned count = 0, expected;
    int r = channel_receive_fds(transport_channel(daemon->transport), message, sizeof(message),
                                daemon->fds, HELLO_FD_MAX, &count, HELLO_TIMEOUT_MS);

    if (r <= 0) {
        (void)snprintf(text, 128, "no HELLO: %s", r == 0 ? "end of file" : strerror(-r));
        return r == 0 ? -EPIPE : r;
    }
    r = hello_decode(message, (size_t)r, &daemon->hello, text);
    expected = HELLO_FD_COUNT;
    expected += daemon->hello.features & HELLO_FEATURE_RING ? HELLO_RING_FDS : 0;
    expected += daemon->hello.features & HELLO_FEATURE_JOURNAL ? 1 : 0;
    if (r == 0 && count != expected) {
        (void)snprintf(text, 128, "HELLO came with %u descriptors instead of %u", count, expected);
        r = -EPROTO;
    }
    if (r == 0 && (daemon->hello.features & HELLO_FEATURE_JOURNAL) != 0) {
        int fd = steal_fd(&daemon->fds[count - 1]);

        daemon->fds[HELLO_FD_JOURNAL] = fd;
    }
    return r;
}

static int answer_hello(Daemon *daemon, int result, const char *text) {
    uint8_t message[HELLO_SIZE];
    Hello answer = daemon->hello;

    answer.version = MIN(answer.version, FS_PROTOCOL_VERSION);
    answer.features &= HELLO_FEATURES_KNOWN;
    answer.pid = (uint32_t)getpid();
    answer.result = result;
    (void)snprintf(answer.text, sizeof(answer.text), "%s", result < 0 ? text : daemon->layers);
    hello_encode(&answer, message);
    return channel_send(transport_channel(daemon->transport), message, sizeof(message));
}

static int open_arenas(Daemon *daemon) {
    const Hello *hello = &daemon->hello;
    int r =
        arena_map(daemon->fds[HELLO_FD_ARENA_OUT], hello->arena_out_size, false, &daemon->written);

    if (r == 0) {
        r = arena_map(daemon->fds[HELLO_FD_ARENA_IN], hello->arena_in_size, true, &daemon->read);
    }
    return r;
}

/* Nothing of it is read before MOUNT: a spare's belongs to a daemon that lives. */
static int open_lifeline(Daemon *daemon) {
    int r = lifeline_open(daemon->fds[HELLO_FD_LIFELINE], daemon->hello.slots, &daemon->lifeline);

    if (r == 0) { /* it has a descriptor of its own */
        (void)close(steal_fd(&daemon->fds[HELLO_FD_LIFELINE]));
    }
    return r;
}

static int open_journal(Daemon *daemon) {
    const BlockOpenConfig config = {
        .fd = daemon->fds[HELLO_FD_JOURNAL], .readonly = daemon->hello.readonly, .direct = -1};
    int r;

    if ((daemon->hello.features & HELLO_FEATURE_JOURNAL) == 0) {
        return 0;
    }
    r = block_uring_new(&config, daemon->loop, &daemon->journal_device);
    return r < 0 ? r : sidejournal_new(daemon->journal_device, &daemon->journal);
}

static int open_ring(Daemon *daemon) {
    if ((daemon->hello.features & HELLO_FEATURE_RING) == 0) {
        return 0;
    }
    return transport_ring_accept(daemon->transport, daemon->hello.slots,
                                 daemon->fds + HELLO_FD_RING);
}

/* A sandboxed ring polls only what is in its table. */
static int register_watched(Daemon *daemon) {
    const int watched[ARRAY_SIZE(daemon->watched)] = {
        channel_fd(transport_channel(daemon->transport)),
        daemon->signal_fd,
        transport_has_ring(daemon->transport) ? transport_wake_fd(daemon->transport) : -1,
    };

    for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
        int r = watched[i] >= 0 ? loop_register_fd(daemon->loop, watched[i]) : -1;

        if (r < 0 && watched[i] >= 0) {
            return r;
        }
        daemon->watched[i] = r;
    }
    return 0;
}

/*
 * The fence ends with the last I/O of this process, which a ring outlives: so the ring keeps it.
 * Where there is none it stays open as an ordinary descriptor, and the process's end closes it.
 */
static int give_fence(Daemon *daemon) {
    int r;

    if (!loop_has_ring(daemon->loop)) {
        return 0;
    }
    r = loop_keep_file(daemon->loop, daemon->fds[HELLO_FD_FENCE]);
    if (r == 0) {
        (void)close(steal_fd(&daemon->fds[HELLO_FD_FENCE]));
    }
    return r;
}

/* Locks the process in, before anything of the image is read: that begins with the MOUNT message.
 */
static int lock_in(Daemon *daemon, SandboxMode mode, char text[128]) {
    uint64_t image_end = daemon->hello.image_start + daemon->device->size;
    const SandboxConfig sandbox = {
        .mode = mode,
        .loop = daemon->loop,
        /* Limits know no files: the larger of the two. */
        .image_end =
            daemon->journal != NULL ? MAX(image_end, daemon->journal_device->size) : image_end,
        .again = daemon->hello.epoch > 1,
        .memory_fd = lifeline_fd(daemon->lifeline),
    };
    int r = loop_has_ring(daemon->loop) ? register_watched(daemon) : 0;

    if (r == 0) {
        r = give_fence(daemon);
    }
    if (r < 0) {
        (void)snprintf(text, 128, "cannot register a descriptor: %s", strerror(-r));
        return r;
    }
    return sandbox_enter(&sandbox, daemon->layers, text);
}

/* Everything between the HELLO and its answer. */
static int build(Daemon *daemon, const ServeConfig *config, char text[128]) {
    const Hello *hello = &daemon->hello;
    const FileSystemType *type = fs_type_find(config->types, hello->type);
    const LoopConfig loop_config = {
        .max_fibers = hello->slots + SERVER_SPARE_FIBERS,
        .closed = config->sandbox != SANDBOX_OFF,
    };
    const BlockOpenConfig image = {
        .fd = daemon->fds[HELLO_FD_IMAGE],
        .readonly = hello->readonly,
        .start = hello->image_start,
        .length = hello->image_length,
        .direct = -1,
    };
    int r;

    if (type == NULL) {
        (void)snprintf(text, 128, "this daemon does not know the type \"%s\"", hello->type);
        return -ENODEV;
    }
    r = open_arenas(daemon);
    if (r < 0) {
        (void)snprintf(text, 128, "cannot map the arena: %s", strerror(-r));
        return r;
    }
    r = open_ring(daemon);
    if (r < 0) {
        (void)snprintf(text, 128, "cannot use the rings: %s", strerror(-r));
        return r;
    }
    r = loop_new(&loop_config, &daemon->loop);
    if (r < 0) {
        (void)snprintf(text, 128, "cannot make an event loop: %s", strerror(-r));
        return r;
    }
    r = block_uring_new(&image, daemon->loop, &daemon->device);
    if (r < 0) {
        (void)snprintf(text, 128, "cannot use the image: %s", strerror(-r));
        return r;
    }
    r = open_journal(daemon);
    if (r < 0) {
        (void)snprintf(text, 128, "cannot use the side journal: %s", strerror(-r));
        return r;
    }
    r = open_lifeline(daemon);
    if (r < 0) {
        (void)snprintf(text, 128, "cannot use the lifeline: %s", strerror(-r));
        return r;
    }
    r = volume_new(type, daemon->device, daemon->loop, &daemon->volume);
    if (r == 0) {
        volume_set_lifeline(daemon->volume, daemon->lifeline);
        volume_set_journal(daemon->volume, daemon->journal);
        daemon->signal_fd = server_signals();
        r = MIN(daemon->signal_fd, 0);
    }
    return r < 0 ? r : lock_in(daemon, config->sandbox, text);
}

int service_main(const ServeConfig *config) {
    Daemon daemon = {
        .fds = {-1, -1, -1, -1, -1, -1, -1, -1, -1}, .signal_fd = -1, .watched = {-1, -1, -1}};
    Channel *channel = NULL;
    char text[128] = "";
    int exit_code = 1;
    int r = channel_new(config->channel_fd, &channel);

    if (r == 0) {
        r = transport_new(channel, &daemon.transport);
    }
    if (r == 0) {
        r = receive_hello(&daemon, text);
        if (r == 0) {
            r = build(&daemon, config, text);
            if (answer_hello(&daemon, r, text[0] != '\0' ? text : strerror(-r)) < 0 && r == 0) {
                r = -EPIPE;
            }
        }
    }
    if (r < 0) {
        log_error("cannot serve: %s", text[0] != '\0' ? text : strerror(-r));
    } else {
        const ServerConfig server = {
            .loop = daemon.loop,
            .transport = daemon.transport,
            .volume = daemon.volume,
            .slots = daemon.hello.slots,
            .written = &daemon.written,
            .read = &daemon.read,
            .signal_fd = daemon.signal_fd,
            .held = daemon.hello.held,
            .debug = config->debug,
        };

        exit_code = server_run(&server);
    }
    daemon_done(&daemon);
    return exit_code;
}

static void usage(FILE *out, const char *program) {
    (void)fprintf(out,
                  "usage: %s --channel-fd N [--sandbox auto|require|off]\n"
                  "Serves one volume to a berth front-end over the connected socket N.\n"
                  "Started by berthfs(1), not by hand. BERTH_DEBUG=1 logs every message.\n",
                  program);
}

/* A descriptor number, or -1. */
static int parse_fd(const char *text) {
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && value >= 0 && value <= 65535 ? (int)value
                                                                                     : -1;
}

int daemon_main(int argc, char **argv, const FileSystemType *const *types) {
    static const struct option options[] = {
        {"channel-fd", required_argument, NULL, 'c'},
        {"sandbox", required_argument, NULL, 's'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *debug = getenv("BERTH_DEBUG");
    const char *program = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
    ServeConfig config = {.types = types, .channel_fd = -1};
    int option;

    config.debug = debug != NULL && *debug != '\0' && strcmp(debug, "0") != 0;
    log_init(program, config.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_NOTICE);
    while ((option = getopt_long(argc, argv, "Vh", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            config.channel_fd = parse_fd(optarg);
            break;
        case 's':
            if (sandbox_mode_parse(optarg, &config.sandbox) < 0) {
                usage(stderr, program);
                return 2;
            }
            break;
        case 'V':
            (void)printf("%s (berth) %s\n", program, BERTH_VERSION);
            return 0;
        case 'h':
            usage(stdout, program);
            return 0;
        default:
            usage(stderr, program);
            return 2;
        }
    }
    if (config.channel_fd < 0 || optind != argc) {
        usage(stderr, program);
        return 2;
    }
    return service_main(&config);
}
