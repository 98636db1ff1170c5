/* SPDX-License-Identifier: MIT */
/*
 * A daemon linked with a filesystem that tries to leave: the real service_main(), a
 * HELLO with the real descriptors, and a MOUNT whose option names the attempt. As
 * root, as an ordinary user, with and without a ring. Every attempt that could work is first made
 * without a sandbox, where it has to succeed, or the test would show nothing.
 *
 * And the layers below the system-call filter, each alone: what they refuse does not
 * depend on the filter.
 */
#include "../../src/service/sandbox_layers.h"
#include "attempts.h"
#include "berth/channel.h"
#include "berth/log.h"
#include "berth/service.h"
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define NOBODY 65534
#define SLOTS 4u
#define ESCAPED (-EXFULL) /* the result of a MOUNT whose attempt got its way */

typedef struct Escape {
    SandboxMode mode;
    bool as_nobody, without_ring;
} Escape;

typedef struct Outcome {
    int hello, mount; /* results */
    int status;       /* as waitpid() has it */
    char layers[SANDBOX_LAYERS_MAX];
} Outcome;

/* ---- the filesystem ---- */

static int escape_mount(FileSystem *fs) {
    unsigned number = 0;
    int r;

    ck_assert_int_eq(sscanf(fs->options.extra, "attempt=%u", &number), 1);
    r = escape_attempts[number].run(fs);
    return r == 0 ? ESCAPED : r;
}

static const FileSystemOps escape_ops = {.mount = escape_mount};
static const FileSystemType escape_type = {
    .name = "escape",
    .daemon = "escaped",
    .fs_size = sizeof(FileSystem),
    .inode_size = sizeof(FsInode),
    .ops = &escape_ops,
};

/* ---- the front-end's part ---- */

static int make_image(void) {
    int fd = memfd_create("image", MFD_CLOEXEC);
    uint8_t block[4096];

    memset(block, ESCAPE_PATTERN, sizeof(block));
    ck_assert_int_eq(ftruncate(fd, (off_t)ESCAPE_IMAGE_SIZE), 0);
    ck_assert_int_eq(pwrite(fd, block, sizeof(block), 0), sizeof(block));
    return fd;
}

static void be_daemon(const Escape *escape, int channel_fd) {
    static const FileSystemType *const types[] = {&escape_type, NULL};
    const ServeConfig config = {.types = types, .channel_fd = channel_fd, .sandbox = escape->mode};

    log_init("escape", LOG_LEVEL_NOTICE);
    if (escape->without_ring) {
        setenv("BERTH_NO_URING", "1", 1);
    } else {
        unsetenv("BERTH_NO_URING");
    }
    if (escape->as_nobody && geteuid() == 0 &&
        (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)) {
        _exit(99);
    }
    _exit(service_main(&config));
}

static int say_hello(Channel *channel, Arena *out, Arena *in, Outcome *ret) {
    int fds[HELLO_FD_COUNT] = {make_image(), arena_fd(out), arena_fd(in)};
    int fence[2];
    uint8_t message[HELLO_SIZE];
    char text[128];
    Hello hello = {
        .version = FS_PROTOCOL_VERSION,
        .features = HELLO_FEATURE_ARENA,
        .epoch = 1,
        .slots = SLOTS,
        .image_length = ESCAPE_IMAGE_SIZE,
        .arena_out_size = arena_size(out),
        .arena_in_size = arena_size(in),
        .type = "escape",
        .pid = (uint32_t)getpid(),
    };

    ck_assert_int_eq(lifeline_memory_new(1, SLOTS, &fds[HELLO_FD_LIFELINE]), 0);
    ck_assert_int_eq(pipe2(fence, O_CLOEXEC), 0);
    fds[HELLO_FD_FENCE] = fence[1];
    hello_encode(&hello, message);
    ck_assert_int_eq(channel_send_fds(channel, message, HELLO_SIZE, fds, HELLO_FD_COUNT), 0);
    (void)close(fds[HELLO_FD_IMAGE]);
    (void)close(fds[HELLO_FD_LIFELINE]);
    (void)close(fence[0]);
    (void)close(fence[1]);
    ck_assert_int_eq(channel_receive(channel, message, HELLO_SIZE), HELLO_SIZE);
    ck_assert_int_eq(hello_decode(message, HELLO_SIZE, &hello, text), 0);
    if (hello.result < 0) {
        (void)fprintf(stderr, "refused: %s\n", hello.text);
    } else {
        memcpy(ret->layers, hello.text, sizeof(ret->layers));
    }
    return hello.result;
}

/* 0 when the daemon ended instead of answering. */
static int call(Channel *channel, FSMessageType type, const char *options, uint64_t seq) {
    const FSRequest request = {
        .type = (uint16_t)type,
        .request_id = fs_request_id((uint16_t)(seq % SLOTS), seq),
        .payload = (const uint8_t *)options,
        .payload_length = (uint32_t)strlen(options),
    };
    uint8_t message[FS_MESSAGE_MAX];
    FSResponse response;
    char text[128];
    int length = fs_request_encode(&request, message, sizeof(message));

    ck_assert_int_gt(length, 0);
    ck_assert_int_eq(channel_send(channel, message, (size_t)length), 0);
    length = channel_receive(channel, message, sizeof(message));
    if (length <= 0) {
        return 0;
    }
    ck_assert_int_eq(fs_response_decode(message, (size_t)length, &response, text), 0);
    return response.result;
}

/* One daemon from its start to its end. */
static Outcome run_daemon(const Escape *escape, unsigned attempt) {
    Outcome outcome = {0};
    Arena *out, *in;
    Channel *channel;
    char options[64];
    int peer_fd;
    pid_t pid;

    ck_assert_int_eq(arena_new("out", 4, 2, 0, true, &out), 0);
    ck_assert_int_eq(arena_new("in", 4, 2, 0, false, &in), 0);
    ck_assert_int_eq(channel_pair(&channel, &peer_fd), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        channel_free(channel);
        be_daemon(escape, peer_fd);
    }
    (void)close(peer_fd);
    outcome.hello = say_hello(channel, out, in, &outcome);
    if (outcome.hello == 0) {
        (void)snprintf(options, sizeof(options), "attempt=%u", attempt);
        outcome.mount = call(channel, FS_MSG_MOUNT, options, 1);
        if (outcome.mount != 0) {
            (void)call(channel, FS_MSG_SHUTDOWN, "", 2);
        }
    }
    channel_free(channel);
    while (waitpid(pid, &outcome.status, 0) == pid && WIFSTOPPED(outcome.status)) {
        (void)ptrace(PTRACE_CONT, pid, 0, 0); /* an attempt that made us its tracer */
    }
    arena_free(out);
    arena_free(in);
    return outcome;
}

/* ---- the attempts ---- */

static bool was_killed(const Outcome *outcome) {
    return WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == SIGSYS;
}

static void check_refused(const Attempt *attempt, const Outcome *outcome) {
    int refusal = attempt->refusal;

    if (refusal == KILLED && !SANDBOX_TEST_PROFILE) {
        ck_assert_msg(was_killed(outcome), "%s: not killed, but result %d, status %#x",
                      attempt->name, outcome->mount, outcome->status);
        return;
    }
    refusal = refusal == KILLED ? -EPERM : refusal == ALLOWED ? ESCAPED : refusal;
    ck_assert_msg(outcome->mount == refusal, "%s: %d (%s) instead of %d, status %#x", attempt->name,
                  outcome->mount, strerror(-outcome->mount), refusal, outcome->status);
    ck_assert_msg(WIFEXITED(outcome->status) && WEXITSTATUS(outcome->status) == 0,
                  "%s: the daemon's end: %#x", attempt->name, outcome->status);
}

static void refuse_all(const Escape *escape) {
    for (unsigned i = 0; i < escape_attempt_count; i++) {
        const Attempt *attempt = &escape_attempts[i];
        Outcome outcome;

        if (attempt->needs_ring && escape->without_ring) {
            continue;
        }
        outcome = run_daemon(escape, i);
        ck_assert_msg(outcome.hello == 0, "%s: HELLO: %d", attempt->name, outcome.hello);
        check_refused(attempt, &outcome);
    }
}

START_TEST(test_free) {
    const Escape escape = {.mode = SANDBOX_OFF};

    for (unsigned i = 0; i < escape_attempt_count; i++) {
        if (escape_attempts[i].works_free) {
            Outcome outcome = run_daemon(&escape, i);

            ck_assert_str_eq(outcome.layers, "");
            ck_assert_msg(outcome.mount == ESCAPED, "%s: does not even work without a sandbox: %d",
                          escape_attempts[i].name, outcome.mount);
        }
    }
}
END_TEST

START_TEST(test_as_we_are) {
    refuse_all(&(Escape){.mode = SANDBOX_REQUIRE});
}
END_TEST

START_TEST(test_as_nobody) {
    refuse_all(&(Escape){.mode = SANDBOX_REQUIRE, .as_nobody = true});
}
END_TEST

START_TEST(test_without_ring) {
    refuse_all(&(Escape){.mode = SANDBOX_REQUIRE, .without_ring = true});
}
END_TEST

START_TEST(test_layers_are_named) {
    const char *layers[] = {"namespaces", "empty-root", "user-namespace", "privileges",
                            "landlock",   "ring",       "limits",         "seccomp"};
    Outcome outcome = run_daemon(&(Escape){.mode = SANDBOX_REQUIRE}, 0);

    for (size_t i = 0; i < ARRAY_SIZE(layers); i++) {
        ck_assert_msg(strstr(outcome.layers, layers[i]) != NULL, "no %s in \"%s\"", layers[i],
                      outcome.layers);
    }
    ck_assert_int_eq(strstr(outcome.layers, "ids") != NULL, geteuid() == 0);
}
END_TEST

/* No more namespaces of users: as on a machine that forbids them. */
START_TEST(test_missing_layer) {
    const Escape required = {.mode = SANDBOX_REQUIRE, .as_nobody = true};
    const Escape automatic = {.mode = SANDBOX_AUTO, .as_nobody = true};
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        /* In a namespace whose limit on further ones is 0. */
        int fd =
            unshare(CLONE_NEWUSER) == 0 ? open("/proc/sys/user/max_user_namespaces", O_WRONLY) : -1;
        Outcome outcome;

        if (fd < 0 || write(fd, "0\n", 2) != 2) {
            _exit(77);
        }
        outcome = run_daemon(&required, 0);
        if (outcome.hello >= 0) {
            _exit(1);
        }
        outcome = run_daemon(&automatic, 0);
        if (outcome.hello != 0 || strstr(outcome.layers, "user-namespace") != NULL ||
            strstr(outcome.layers, "seccomp") == NULL || outcome.mount != ESCAPED) {
            _exit(2);
        }
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77, "step %d",
                  WEXITSTATUS(status));
}
END_TEST

/* ---- the layers alone ---- */

static int open_something(void) {
    return open("/etc/passwd", O_RDONLY) < 0 ? errno : 0;
}

static int landlock_alone(Sandbox *sandbox) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sandbox_landlock(sandbox) != 0) {
        return -1;
    }
    return open_something();
}

static int root_alone(Sandbox *sandbox) {
    return (geteuid() != 0 && sandbox_users(sandbox) != 0) || sandbox_root(sandbox) != 0
               ? -1
               : open_something();
}

static int namespaces_alone(Sandbox *sandbox) {
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd;

    if ((geteuid() != 0 && sandbox_users(sandbox) != 0) || sandbox_namespaces(sandbox) != 0) {
        return -1;
    }
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    return connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
}

static int ids_alone(Sandbox *sandbox) {
    if (geteuid() != 0) {
        return EPERM;
    }
    return sandbox_ids(sandbox) != 0 || getuid() != NOBODY ? -1 : setuid(0) < 0 ? errno : 0;
}

static int privileges_alone(Sandbox *sandbox) {
    if (sandbox_privileges(sandbox) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ||
        prctl(PR_GET_DUMPABLE) != 0) {
        return -1;
    }
    return setpriority(PRIO_PROCESS, 0, -1) < 0 ? errno : 0;
}

static int limits_alone(Sandbox *sandbox) {
    int fd = memfd_create("file", 0);

    if (sandbox_limits(sandbox) != 0) {
        return -1;
    }
    if (dup(fd) >= 0 || errno != EMFILE) {
        return -2;
    }
    return pwrite(fd, "x", 1, (off_t)ESCAPE_IMAGE_SIZE) < 0 ? errno : 0;
}

typedef struct LayerAlone {
    const char *name;
    int (*run)(Sandbox *sandbox); /* the errno of what it refuses */
    int refusal, other_refusal;
} LayerAlone;

static const LayerAlone layers_alone[] = {
    {"landlock", landlock_alone, EACCES, EACCES},
    {"empty-root", root_alone, ENOENT, ENOENT},
    {"namespaces", namespaces_alone, ENETUNREACH, ENETUNREACH},
    {"ids", ids_alone, EPERM, EPERM},
    {"privileges", privileges_alone, EACCES, EPERM},
    {"limits", limits_alone, EFBIG, EFBIG},
};

START_TEST(test_layer_alone) {
    const LayerAlone *layer = &layers_alone[_i];
    const SandboxConfig config = {.image_end = ESCAPE_IMAGE_SIZE};
    Sandbox sandbox = {.config = &config};
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int error = layer->run(&sandbox);

        if (error != layer->refusal && error != layer->other_refusal) {
            (void)fprintf(stderr, "%s: %d (%m)\n", layer->name, error);
        }
        _exit(error != layer->refusal && error != layer->other_refusal);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(status == 0, "%s alone does not refuse", layer->name);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sandbox");
    TCase *attempts = tcase_create("attempts");
    TCase *layers = tcase_create("layers");
    SRunner *runner;
    int failed;

    (void)signal(SIGPIPE, SIG_IGN);
    tcase_set_timeout(attempts, 60);
    tcase_add_test(attempts, test_free);
    tcase_add_test(attempts, test_as_we_are);
    tcase_add_test(attempts, test_as_nobody);
    tcase_add_test(attempts, test_without_ring);
    tcase_add_test(attempts, test_layers_are_named);
    tcase_add_test(attempts, test_missing_layer);
    tcase_add_loop_test(layers, test_layer_alone, 0, (int)ARRAY_SIZE(layers_alone));
    suite_add_tcase(suite, attempts);
    suite_add_tcase(suite, layers);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
