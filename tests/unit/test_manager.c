/* SPDX-License-Identifier: MIT */
/*
 * The front-end and the service manager, the other side played by the test: states
 * and the watchdog over a datagram socket, descriptors, a daemon that is started for a
 * connection, and where daemons are found. The journal needs a journal: tests/systemd.
 */
#include "../../src/front/manager.h"

#include "berth/registry.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char directory[64];

static void make_directory(void) {
    (void)snprintf(directory, sizeof(directory), "/tmp/berth-manager.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void) {
    ck_assert_int_eq(rmdir(directory), 0);
}

static int listen_at(int type, const char *name, struct sockaddr_un *ret) {
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s", directory, name);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)ret, sizeof(*ret)), 0);
    return fd;
}

/* What came next, without waiting; "" when nothing did. */
static const char *received(int fd, int *ret_fd) {
    static char text[2048];
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = text, .iov_len = sizeof(text) - 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    struct cmsghdr *item = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;

    text[got > 0 ? got : 0] = '\0';
    if (ret_fd != NULL) {
        *ret_fd = -1;
        if (item != NULL && item->cmsg_type == SCM_RIGHTS) {
            memcpy(ret_fd, CMSG_DATA(item), sizeof(int));
        }
    }
    return text;
}

START_TEST(without_a_manager_nothing_happens) {
    (void)unsetenv("NOTIFY_SOCKET");
    notify_init();
    ck_assert(!notify_active());
    ck_assert_int_eq(notify_alive_ms(), -1);
    notify_send("READY=1");
    notify_alive();
}
END_TEST

START_TEST(states_and_descriptors_arrive) {
    struct sockaddr_un address;
    struct stat sent, got;
    int fd, passed;

    make_directory();
    fd = listen_at(SOCK_DGRAM, "notify", &address);
    (void)setenv("NOTIFY_SOCKET", address.sun_path, 1);
    (void)unsetenv("WATCHDOG_USEC");
    notify_init();
    ck_assert(notify_active());
    ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
    ck_assert_int_eq(notify_alive_ms(), -1);
    notify_send("READY=1\nSTATUS=%s", "mounted");
    ck_assert_str_eq(received(fd, NULL), "READY=1\nSTATUS=mounted");
    ck_assert_int_eq(notify_send_fd("FDSTORE=1\nFDNAME=x", fd), 0);
    ck_assert_str_eq(received(fd, &passed), "FDSTORE=1\nFDNAME=x");
    ck_assert_int_ge(passed, 0);
    ck_assert(fstat(fd, &sent) == 0 && fstat(passed, &got) == 0);
    ck_assert_uint_eq(sent.st_ino, got.st_ino);
    notify_status("on %s", "/mnt");
    ck_assert_str_eq(received(fd, NULL), "STATUS=on /mnt");
    (void)close(passed);
    (void)close(fd);
    notify_send("STATUS=nobody listens any more");
    (void)unlink(address.sun_path);
    remove_directory();
}
END_TEST

START_TEST(busy_manager_loses_nothing_and_a_deaf_one_holds_up_once) {
    struct sockaddr_un address;
    unsigned count = 0;
    pid_t child;
    int fd;

    make_directory();
    fd = listen_at(SOCK_DGRAM, "notify", &address);
    (void)setenv("NOTIFY_SOCKET", address.sun_path, 1);
    notify_init();
    child = fork();
    if (child == 0) {
        for (int i = 0; i < 2000; i++) {
            notify_send("X=%d", i);
        }
        _exit(0);
    }
    while (count < 2000) { /* as slow as we like: the sender waits */
        char text[32], expected[32];
        ssize_t got = recv(fd, text, sizeof(text) - 1, 0);

        ck_assert_int_gt(got, 0);
        text[got] = '\0';
        (void)snprintf(expected, sizeof(expected), "X=%u", count++);
        ck_assert_str_eq(text, expected);
    }
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    for (int i = 0; i < 2000; i++) { /* the case's time limit sees whether each of them waits */
        notify_send("X=%d", i);
        notify_status("%d", i);
    }
    (void)close(fd);
    (void)unlink(address.sun_path);
    remove_directory();
}
END_TEST

START_TEST(watchdog_is_fed_when_due) {
    struct sockaddr_un address;
    char pid[16];
    int fd, due;

    make_directory();
    fd = listen_at(SOCK_DGRAM, "notify", &address);
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    (void)setenv("NOTIFY_SOCKET", address.sun_path, 1);
    (void)setenv("WATCHDOG_USEC", "600000000", 1); /* ten minutes: no race with the clock */
    (void)setenv("WATCHDOG_PID", pid, 1);
    notify_init();
    ck_assert_int_eq(notify_alive_ms(), 0);
    notify_alive();
    ck_assert_str_eq(received(fd, NULL), "WATCHDOG=1");
    due = notify_alive_ms();
    ck_assert_int_gt(due, 0);
    ck_assert_int_le(due, 300000);
    notify_alive();
    ck_assert_str_eq(received(fd, NULL), "");
    (void)close(fd);
    (void)unlink(address.sun_path);
    remove_directory();
}
END_TEST

START_TEST(another_process_watchdog_is_not_ours) {
    struct sockaddr_un address;
    int fd;

    make_directory();
    fd = listen_at(SOCK_DGRAM, "notify", &address);
    (void)setenv("NOTIFY_SOCKET", address.sun_path, 1);
    (void)setenv("WATCHDOG_USEC", "1000000", 1);
    (void)setenv("WATCHDOG_PID", "1", 1);
    notify_init();
    ck_assert(notify_active());
    ck_assert_int_eq(notify_alive_ms(), -1);
    (void)close(fd);
    (void)unlink(address.sun_path);
    remove_directory();
}
END_TEST

/* ---- activation ---- */

/* Accepts, as a manager does, and lets a child of its own serve. */
static pid_t accept_for_child(int listen_fd, int client_fd, const char *say) {
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    pid_t pid = fork();

    ck_assert_int_ge(fd, 0);
    if (pid == 0) {
        char byte;

        (void)close(client_fd);
        if (say != NULL) {
            (void)!write(fd, say, strlen(say));
            (void)!read(fd, &byte, 1); /* stays until the other side goes */
        }
        _exit(7);
    }
    (void)close(fd);
    return pid;
}

START_TEST(peer_is_the_process_that_speaks) {
    struct sockaddr_un address;
    int listen_fd, fd, pidfd = -1;
    char text[16] = "";
    pid_t child, pid = 0;

    make_directory();
    listen_fd = listen_at(SOCK_SEQPACKET, "fatd.socket", &address);
    ck_assert_int_eq(activate_connect(address.sun_path, &fd), -ECONNREFUSED);
    ck_assert_int_eq(listen(listen_fd, 4), 0);
    ck_assert_int_eq(activate_connect(address.sun_path, &fd), 0);
    child = accept_for_child(listen_fd, fd, "hello");
    ck_assert_int_eq(activate_peer(fd, 10000, &pid, &pidfd), 0);
    ck_assert_int_eq(pid, child);
    ck_assert_int_ge(pidfd, 0);
    /* The message is still there, and whole. */
    ck_assert_int_eq(recv(fd, text, sizeof(text), 0), 5);
    ck_assert_str_eq(text, "hello");
    (void)close(fd);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    (void)close(pidfd);
    (void)close(listen_fd);
    (void)unlink(address.sun_path);
    remove_directory();
}
END_TEST

START_TEST(peer_that_ends_or_is_silent) {
    struct sockaddr_un address;
    int listen_fd, fd, accepted, pidfd = -1;
    pid_t child, pid = 0;

    make_directory();
    listen_fd = listen_at(SOCK_SEQPACKET, "fatd.socket", &address);
    ck_assert_int_eq(listen(listen_fd, 4), 0);
    ck_assert_int_eq(activate_connect(address.sun_path, &fd), 0);
    child = accept_for_child(listen_fd, fd, NULL);
    ck_assert_int_eq(activate_peer(fd, 10000, &pid, &pidfd), -EPIPE);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    (void)close(fd);
    ck_assert_int_eq(activate_connect(address.sun_path, &fd), 0);
    accepted = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_eq(activate_peer(fd, 50, &pid, &pidfd), -ETIMEDOUT);
    ck_assert_int_eq(pidfd, -1);
    (void)close(accepted);
    (void)close(fd);
    (void)close(listen_fd);
    (void)unlink(address.sun_path);
    remove_directory();
}
END_TEST

START_TEST(another_user_gets_no_image) {
    struct sockaddr_un address;
    int pipe_fds[2], fd = -1;
    pid_t child;
    char byte;

    if (geteuid() != 0) {
        return; /* only root has other users to try with */
    }
    make_directory();
    ck_assert_int_eq(chmod(directory, 0777), 0);
    ck_assert_int_eq(pipe(pipe_fds), 0);
    child = fork();
    if (child == 0) {
        int listen_fd;

        (void)close(pipe_fds[0]);
        if (setgid(12345) < 0 || setuid(12345) < 0) {
            _exit(1);
        }
        listen_fd = listen_at(SOCK_SEQPACKET, "fatd.socket", &address);
        if (listen(listen_fd, 1) == 0) {
            (void)!write(pipe_fds[1], "x", 1);
        }
        (void)pause();
        _exit(0);
    }
    (void)close(pipe_fds[1]);
    ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/fatd.socket", directory);
    ck_assert_int_eq(activate_connect(address.sun_path, &fd), -EPERM);
    ck_assert_int_eq(fd, -1);
    (void)kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    (void)close(pipe_fds[0]);
    (void)unlink(address.sun_path);
    remove_directory();
}
END_TEST

START_TEST(long_path_is_refused) {
    char path[200];
    int fd = -1;

    memset(path, 'x', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    ck_assert_int_eq(activate_connect(path, &fd), -ENAMETOOLONG);
    ck_assert_int_eq(registry_socket_path(path, path + 150, 20), -ENAMETOOLONG);
}
END_TEST

/* ---- registry ---- */

START_TEST(daemons_are_found_where_the_environment_says) {
    const char *where = NULL;
    char program[128], *path;
    int fd;

    make_directory();
    (void)setenv("BERTH_DAEMON_DIR", directory, 1);
    ck_assert_ptr_null(registry_find_daemon("fatd", &where));
    ck_assert_ptr_null(where);
    (void)snprintf(program, sizeof(program), "%s/fatd", directory);
    fd = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
    path = registry_find_daemon("fatd", &where);
    ck_assert_ptr_nonnull(path);
    ck_assert_str_eq(where, "environment");
    ck_assert_int_eq(access(path, X_OK), 0);
    free(path);
    (void)unsetenv("BERTH_DAEMON_DIR");
    path = registry_find_daemon("no-such-daemon", NULL);
    ck_assert_ptr_null(path);
    (void)unlink(program);
    remove_directory();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("manager");
    TCase *notify = tcase_create("notify"), *activate = tcase_create("activate");
    TCase *registry = tcase_create("registry");
    SRunner *runner;
    int failed;

    tcase_add_test(notify, without_a_manager_nothing_happens);
    tcase_add_test(notify, states_and_descriptors_arrive);
    tcase_add_test(notify, busy_manager_loses_nothing_and_a_deaf_one_holds_up_once);
    tcase_set_timeout(notify, 60);
    tcase_add_test(notify, watchdog_is_fed_when_due);
    tcase_add_test(notify, another_process_watchdog_is_not_ours);
    tcase_add_test(activate, peer_is_the_process_that_speaks);
    tcase_add_test(activate, peer_that_ends_or_is_silent);
    tcase_add_test(activate, another_user_gets_no_image);
    tcase_add_test(activate, long_path_is_refused);
    tcase_add_test(registry, daemons_are_found_where_the_environment_says);
    suite_add_tcase(suite, notify);
    suite_add_tcase(suite, activate);
    suite_add_tcase(suite, registry);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
