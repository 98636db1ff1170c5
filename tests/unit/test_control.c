/* SPDX-License-Identifier: MIT */
/*
 * The control socket, both ends in one process and with clients that misbehave,
 * and the parsing of mountinfo. Runs in a runtime directory of its own where
 * the user is not root; root's is /run/berth, with a device number that no
 * mount has.
 */
#include "berth/control.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

static dev_t test_device(void) {
    return makedev(4000, (unsigned)getpid() & 0xfffff);
}

typedef struct Answers {
    unsigned calls;
    size_t long_reply;
} Answers;

static int answer(void *arg, const char *command, Text *reply) {
    Answers *answers = arg;

    __atomic_add_fetch(&answers->calls, 1, __ATOMIC_RELAXED);
    if (strcmp(command, "status") == 0) {
        text_printf(reply, "{\"state\": \"running\"}\nsecond line");
        return 0;
    }
    if (strcmp(command, "stats") == 0) {
        for (size_t i = 0; i < answers->long_reply; i++) {
            text_printf(reply, "%c", (char)('a' + i % 26));
        }
        return 0;
    }
    if (strcmp(command, "quiet") == 0) {
        return -EBUSY;
    }
    text_printf(reply, "no such command: %s\nforged", command);
    return -EOPNOTSUPP;
}

static ControlServer *start_server(Answers *answers) {
    ControlServer *server = NULL;

    ck_assert_int_eq(control_server_new(test_device(), answer, answers, &server), 0);
    return server;
}

START_TEST(call_and_answer) {
    Answers answers = {.long_reply = 1000000};
    ControlServer *server = start_server(&answers);
    Text reply = {0};

    text_printf(&reply, "before ");
    ck_assert_int_eq(control_call(test_device(), geteuid(), "status", &reply), 0);
    ck_assert_str_eq(text_string(&reply), "before {\"state\": \"running\"}\nsecond line");
    text_done(&reply);
    ck_assert_int_eq(control_call(test_device(), geteuid(), "stats", &reply), 0);
    ck_assert_uint_eq(reply.length, 1000000);
    text_done(&reply);
    ck_assert_int_eq(control_call(test_device(), geteuid(), "frobnicate", &reply), -EOPNOTSUPP);
    ck_assert_str_eq(text_string(&reply), "no such command: frobnicate");
    text_done(&reply);
    ck_assert_int_eq(control_call(test_device(), geteuid(), "quiet", &reply), -EBUSY);
    ck_assert_str_eq(text_string(&reply), strerror(EBUSY));
    text_done(&reply);
    ck_assert_int_eq(control_call(test_device(), geteuid(), "two\nlines", &reply), -EINVAL);
    ck_assert_uint_eq(answers.calls, 4);
    ck_assert_ptr_null(control_server_free(server));
}
END_TEST

START_TEST(nobody_there) {
    Answers answers = {0};
    ControlServer *server;
    Text reply = {0};

    ck_assert_int_eq(control_call(test_device(), geteuid(), "status", &reply), -ENOENT);
    server = start_server(&answers);
    ck_assert_int_eq(control_call(makedev(4001, 1), geteuid(), "status", &reply), -ENOENT);
    ck_assert_ptr_null(control_server_free(server));
    ck_assert_int_eq(control_call(test_device(), geteuid(), "status", &reply), -ENOENT);
    ck_assert_ptr_null(control_server_free(NULL));
}
END_TEST

/* Where the server of this process listens. */
static struct sockaddr_un socket_address(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *runtime = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/berth/%u:%u.sock", runtime,
                   major(test_device()), minor(test_device()));
    return address;
}

static int connect_raw(void) {
    struct sockaddr_un address = socket_address();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_msg(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "%s: %s",
                  address.sun_path, strerror(errno));
    return fd;
}

START_TEST(dead_socket_is_refused_and_replaced) {
    struct sockaddr_un address = socket_address();
    Answers answers = {0};
    ControlServer *first = start_server(&answers), *second;
    Text reply = {0};
    pid_t child = fork();

    if (child == 0) { /* leaves its socket behind, as a killed front-end does */
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        (void)unlink(address.sun_path);
        _exit(bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0);
    }
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(control_call(test_device(), geteuid(), "status", &reply), -ECONNREFUSED);
    second = start_server(&answers);
    ck_assert_ptr_null(control_server_free(first)); /* must not take the second's socket along */
    ck_assert_int_eq(control_call(test_device(), geteuid(), "status", &reply), 0);
    text_done(&reply);
    ck_assert_ptr_null(control_server_free(second));
    ck_assert_int_eq(access(address.sun_path, F_OK), -1);
}
END_TEST

START_TEST(rude_clients) {
    char buffer[400], command[300];
    Answers answers = {0};
    ControlServer *server = start_server(&answers);
    Text reply = {0};
    int fd = connect_raw();

    (void)close(fd); /* says nothing */
    fd = connect_raw();
    ck_assert_int_eq(write(fd, "stat", 4), 4);
    (void)close(fd); /* half a command */
    fd = connect_raw();
    memset(command, 'x', sizeof(command));
    ck_assert_int_eq(send(fd, command, sizeof(command), MSG_NOSIGNAL), sizeof(command));
    ck_assert_int_gt(read(fd, buffer, sizeof(buffer)), 0);
    ck_assert_int_eq(strncmp(buffer, "error 22 ", 9), 0);
    (void)close(fd);
    fd = connect_raw();
    ck_assert_int_eq(write(fd, "status\n", 7), 7);
    (void)close(fd); /* does not wait for the answer */
    ck_assert_int_eq(control_call(test_device(), geteuid(), "status", &reply), 0);
    text_done(&reply);
    fd = connect_raw(); /* stalls: stopping must not wait for it */
    ck_assert_ptr_null(control_server_free(server));
    (void)close(fd);
}
END_TEST

START_TEST(other_users_are_not_heard) {
    Answers answers = {0};
    struct sockaddr_un address = socket_address();
    ControlServer *server;
    int fd, status = 0;
    pid_t child;

    if (geteuid() != 0) {
        return; /* needs a second user */
    }
    server = start_server(&answers);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(chmod("/run/berth", 0755), 0);
    ck_assert_int_eq(chmod(address.sun_path, 0666), 0);
    child = fork();
    if (child == 0) {
        char buffer[100] = "";

        if (setresuid(65534, 65534, 65534) != 0 ||
            connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
            write(fd, "sync\n", 5) != 5 || read(fd, buffer, sizeof(buffer) - 1) <= 0) {
            _exit(1);
        }
        _exit(strncmp(buffer, "error 1 ", 8) == 0 ? 0 : 2);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(chmod("/run/berth", 0700), 0);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(answers.calls, 0);
    (void)close(fd);
    ck_assert_ptr_null(control_server_free(server));
}
END_TEST

START_TEST(foreign_directory_is_not_used) {
    char directory[] = "/tmp/test_control.XXXXXX", path[64];
    Answers answers = {0};
    Text reply = {0};
    int status = 0;
    pid_t child;

    if (geteuid() != 0) {
        return; /* needs a second user */
    }
    ck_assert_ptr_nonnull(mkdtemp(directory));
    (void)snprintf(path, sizeof(path), "%s/berth", directory);
    ck_assert_int_eq(chmod(directory, 0755), 0);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    child = fork();
    if (child == 0) {
        ControlServer *server = NULL;

        (void)setenv("XDG_RUNTIME_DIR", directory, 1);
        if (setresuid(64999, 64999, 64999) != 0 ||
            control_server_new(test_device(), answer, &answers, &server) != 0) {
            _exit(1);
        }
        /* The directory of root's must have been passed over for /tmp/berth-64999. */
        if (access("/tmp/berth-64999", F_OK) != 0 ||
            control_call(test_device(), 64999, "status", &reply) != 0) {
            _exit(2);
        }
        text_done(&reply);
        (void)control_server_free(server);
        _exit(rmdir("/tmp/berth-64999") == 0 ? 0 : 3);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    (void)rmdir(path);
    (void)rmdir(directory);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* ---- mountinfo ---- */

static const char mountinfo[] =
    "22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
    "36 22 0:45 / /mnt/a\\040b rw,nosuid,nodev,relatime shared:5 master:2 - fuse.berthfs "
    "/img/x\\134y\\011.img rw,user_id=1000,group_id=1000\n"
    "37 22 0:46 / /mnt/other rw - fuse.sshfs berthfs rw,user_id=0\n"
    "38 22 0:47 / /mnt/ro ro,nosuid - fuse.berthfs d rw,user_id=0,group_id=0\n"
    "39 22 0:48 / /mnt/ro rw,nosuid - fuse.berthfs e ro,user_id=4294967295,group_id=0\n"
    "40 22 0:49\n"
    "41 22 zero / /mnt/z rw - fuse.berthfs f rw\n"
    "42 22 0:50 / /mnt/nodash rw fuse.berthfs f rw\n"
    "43 22 0:51 / /mnt/short rw - fuse.berthfs f\n"
    "\n"
    "44 22 0:52 / /mnt/odd\\04 rw - fuse.berthfs g\\400 rw";

START_TEST(mountinfo_lines) {
    MountEntry *entries = NULL;
    size_t count = 0;

    ck_assert_int_eq(mounts_parse(mountinfo, strlen(mountinfo), &entries, &count), 0);
    ck_assert_uint_eq(count, 4);
    ck_assert_str_eq(entries[0].directory, "/mnt/a b");
    ck_assert_str_eq(entries[0].source, "/img/x\\y\t.img");
    ck_assert_str_eq(entries[0].options, "rw,nosuid,nodev,relatime,user_id=1000,group_id=1000");
    ck_assert_uint_eq(entries[0].device, makedev(0, 45));
    ck_assert_uint_eq(entries[0].owner, 1000);
    ck_assert(!entries[0].readonly);
    ck_assert(entries[1].readonly);
    ck_assert(entries[2].readonly);
    ck_assert_str_eq(entries[2].options, "ro,nosuid,user_id=4294967295,group_id=0");
    ck_assert_str_eq(entries[3].directory, "/mnt/odd\\04");
    ck_assert_str_eq(entries[3].source, "g\\400");
    ck_assert_ptr_eq(mounts_find(entries, count, "/mnt/ro"), &entries[2]);
    ck_assert_ptr_null(mounts_find(entries, count, "/mnt"));
    mounts_free(entries, count);
}
END_TEST

START_TEST(mountinfo_every_prefix) {
    for (size_t length = 0; length <= strlen(mountinfo); length++) {
        MountEntry *entries = NULL;
        size_t count = 99;

        ck_assert_int_eq(mounts_parse(mountinfo, length, &entries, &count), 0);
        ck_assert_uint_le(count, 4);
        mounts_free(entries, count);
    }
}
END_TEST

START_TEST(mountinfo_of_this_machine) {
    MountEntry *entries = NULL;
    size_t count = 0;

    ck_assert_int_eq(mounts_read(&entries, &count), 0);
    ck_assert_ptr_null(mounts_find(entries, count, "/proc"));
    mounts_free(entries, count);
}
END_TEST

int main(void) {
    char runtime[] = "/tmp/test_control.XXXXXX", path[64];
    Suite *suite = suite_create("control");
    TCase *tests = tcase_create("control");
    SRunner *runner;
    int failed;

    if (mkdtemp(runtime) == NULL || setenv("XDG_RUNTIME_DIR", runtime, 1) != 0) {
        perror("runtime directory");
        return EXIT_FAILURE;
    }
    tcase_add_test(tests, call_and_answer);
    tcase_add_test(tests, nobody_there);
    tcase_add_test(tests, dead_socket_is_refused_and_replaced);
    tcase_add_test(tests, rude_clients);
    tcase_add_test(tests, other_users_are_not_heard);
    tcase_add_test(tests, foreign_directory_is_not_used);
    tcase_add_test(tests, mountinfo_lines);
    tcase_add_test(tests, mountinfo_every_prefix);
    tcase_add_test(tests, mountinfo_of_this_machine);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    (void)snprintf(path, sizeof(path), "%s/berth", runtime);
    (void)rmdir(path);
    (void)rmdir(runtime);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
