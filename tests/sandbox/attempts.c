/* SPDX-License-Identifier: MIT */
/* The attempts. Each is one system call as raw as it gets, or one request to the ring. */
#include "attempts.h"
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/falloc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define BLOCK 4096

static int outcome(long r) {
    return r < 0 ? -errno : 0;
}

/* ---- what daemons do all the time ---- */

static int offloaded(void *arg) {
    *(int *)arg = 1;
    return 0;
}

static int try_daily_work(FileSystem *fs) {
    _cleanup_free_ uint8_t *block = malloc(BLOCK), *large = malloc(4 << 20);
    int done = 0, r;

    memset(large, 1, 4 << 20);
    r = block_read(fs->device, 0, block, BLOCK);
    if (r == 0 && block[0] != ESCAPE_PATTERN) {
        r = -EBADMSG;
    }
    if (r == 0) {
        r = block_write(fs->device, fs->device->size - BLOCK, block, BLOCK);
    }
    if (r == 0) {
        r = block_flush(fs->device);
    }
    if (r == 0) {
        r = block_discard(fs->device, fs->device->size - BLOCK, BLOCK);
    }
    if (r == 0) {
        r = loop_offload(fs->loop, offloaded, &done);
    }
    if (r == 0) {
        loop_sleep(fs->loop, 1000000);
    }
    if (r == 0) { /* as the cache does before it uses a part of the log */
        r = outcome(fallocate(lifeline_fd(fs->lifeline), 0, 0, 1 << 16));
    }
    return r == 0 && done != 1 ? -EBADMSG : r;
}

/* ---- files ---- */

static int try_open(FileSystem *fs) {
    return outcome(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static int try_duplicate(FileSystem *fs) {
    return outcome(fcntl(0, F_DUPFD, 100));
}

static int try_memory_file(FileSystem *fs) {
    return outcome(memfd_create("one", 0));
}

static int try_grow_lifeline(FileSystem *fs) {
    return outcome(ftruncate(lifeline_fd(fs->lifeline), INT64_C(1) << 40));
}

static int try_keep_size_lifeline(FileSystem *fs) {
    return outcome(fallocate(lifeline_fd(fs->lifeline), FALLOC_FL_KEEP_SIZE, 0, BLOCK));
}

/* The lowest descriptor that reads as the image, or as anything else of the kind memory file. */
static int find_fd(bool image) {
    uint8_t byte;

    for (int fd = 3; fd < 64; fd++) {
        if (pread(fd, &byte, 1, 0) == 1 && (byte == ESCAPE_PATTERN) == image) {
            return fd;
        }
    }
    return -1;
}

static int try_truncate_image(FileSystem *fs) {
    return outcome(ftruncate(find_fd(true), (off_t)ESCAPE_IMAGE_SIZE + BLOCK));
}

static int try_grow_arena(FileSystem *fs) {
    return outcome(ftruncate(find_fd(false), 1 << 30));
}

static int try_allocate_arena(FileSystem *fs) {
    return outcome(fallocate(find_fd(false), 0, 0, BLOCK));
}

static int try_allocate_image(FileSystem *fs) {
    return outcome(fallocate(find_fd(true), 0, (off_t)ESCAPE_IMAGE_SIZE, BLOCK));
}

static int try_write_behind(FileSystem *fs) {
    return outcome(pwrite(find_fd(true), "x", 1, (off_t)ESCAPE_IMAGE_SIZE));
}

static int try_writev_behind(FileSystem *fs) {
    const struct iovec iov = {(char *)"x", 1};

    return outcome(pwritev(find_fd(true), &iov, 1, (off_t)ESCAPE_IMAGE_SIZE));
}

static int try_device_behind(FileSystem *fs) {
    uint8_t block[512] = {0};

    return block_write(fs->device, fs->device->size, block, sizeof(block));
}

/* ---- through the ring ---- */

typedef struct RingCall {
    LoopIo io;
    Fiber *fiber;
    bool done;
} RingCall;

static void ring_call_done(LoopIo *io, int result) {
    RingCall *call = container_of(io, RingCall, io);

    call->done = true;
    fiber_wake(call->fiber);
}

static int ring_wait(FileSystem *fs, struct io_uring_sqe *sqe) {
    RingCall call = {.io.done = ring_call_done, .fiber = fiber_self()};

    loop_sqe_attach(fs->loop, sqe, &call.io);
    while (!call.done) {
        fiber_suspend();
    }
    return MIN(call.io.result, 0);
}

static int try_ring_open(FileSystem *fs) {
    struct io_uring_sqe *sqe = loop_sqe(fs->loop);

    io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
    return ring_wait(fs, sqe);
}

static int try_ring_socket(FileSystem *fs) {
    struct io_uring_sqe *sqe = loop_sqe(fs->loop);

    io_uring_prep_rw(IORING_OP_SOCKET, sqe, AF_INET, NULL, 0, SOCK_STREAM);
    return ring_wait(fs, sqe);
}

static int try_ring_other_file(FileSystem *fs) {
    static uint8_t byte;
    struct io_uring_sqe *sqe = loop_sqe(fs->loop);

    io_uring_prep_read(sqe, find_fd(true), &byte, 1, 0);
    return ring_wait(fs, sqe);
}

/* The image is the first file in the table. */
static int try_ring_write_behind(FileSystem *fs) {
    struct io_uring_sqe *sqe = loop_sqe(fs->loop);

    io_uring_prep_write(sqe, 0, "x", 1, ESCAPE_IMAGE_SIZE);
    sqe->flags |= IOSQE_FIXED_FILE;
    return ring_wait(fs, sqe);
}

static int try_new_ring(FileSystem *fs) {
    struct io_uring_params params = {0};

    return outcome(syscall(SYS_io_uring_setup, 4, &params));
}

/* ---- the network ---- */

static int try_socket(FileSystem *fs) {
    return outcome(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_socket_pair(FileSystem *fs) {
    int fds[2];

    return outcome(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
}

static int try_connect(FileSystem *fs) {
    const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/nobody"};

    return outcome(connect(3, (const struct sockaddr *)&address, sizeof(address)));
}

/* ---- processes ---- */

static int try_fork(FileSystem *fs) {
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid == 0) {
        _exit(0);
    }
    return outcome(pid < 0 ? pid : waitpid(pid, NULL, 0));
}

static void *thread_main(void *arg) {
    return arg;
}

static int try_thread(FileSystem *fs) {
    pthread_t thread;
    int r = pthread_create(&thread, NULL, thread_main, NULL);

    return r != 0 ? -r : -pthread_join(thread, NULL);
}

static int try_exec(FileSystem *fs) {
    return outcome(execl("/bin/true", "true", NULL));
}

static int try_trace(FileSystem *fs) {
    return outcome(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int try_trace_me(FileSystem *fs) {
    return outcome(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int try_kill(FileSystem *fs) {
    return outcome(kill(1, 0));
}

static int try_kill_sibling(FileSystem *fs) {
    return outcome(kill(0, 0)); /* the process group: the daemons that one front-end started */
}

static int try_thread_kill(FileSystem *fs) {
    return outcome(syscall(SYS_tgkill, 1, 1, 0));
}

static int try_pidfd(FileSystem *fs) {
    return outcome(syscall(SYS_pidfd_open, getpid(), 0));
}

static int try_other_memory(FileSystem *fs) {
    uint8_t here;
    struct iovec local = {&here, 1}, remote = {&here, 1};

    return outcome(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
}

/* ---- privileges ---- */

static int try_unshare(FileSystem *fs) {
    return outcome(unshare(CLONE_FS));
}

static int try_user_namespace(FileSystem *fs) {
    return outcome(unshare(CLONE_NEWUSER));
}

static int try_mount(FileSystem *fs) {
    return outcome(mount("none", "/", "tmpfs", 0, NULL));
}

static int try_setuid(FileSystem *fs) {
    return outcome(setuid(0));
}

static int try_raise_limit(FileSystem *fs) {
    const struct rlimit limit = {65536, 65536};

    return outcome(syscall(SYS_setrlimit, RLIMIT_NOFILE, &limit));
}

static int try_executable_memory(FileSystem *fs) {
    return mmap(NULL, BLOCK, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                   MAP_FAILED
               ? -errno
               : 0;
}

static int try_make_executable(FileSystem *fs) {
    void *page = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page == MAP_FAILED ? -EBADMSG : outcome(mprotect(page, BLOCK, PROT_READ | PROT_EXEC));
}

static int try_bpf(FileSystem *fs) {
    union bpf_attr attr = {0};

    return outcome(syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &attr, sizeof(attr)));
}

static int try_keys(FileSystem *fs) {
    return outcome(syscall(SYS_keyctl, 0, -3, 0, 0, 0)); /* the session keyring's id */
}

const Attempt escape_attempts[] = {
    {"daily work", try_daily_work, ALLOWED, true, false},
    {"open", try_open, -EPERM, true, false},
    {"duplicate a descriptor", try_duplicate, -EPERM, true, false},
    {"a memory file", try_memory_file, KILLED, true, false},
    {"grow the lifeline", try_grow_lifeline, KILLED, false, false},
    {"another mode of fallocate", try_keep_size_lifeline, KILLED, true, false},
    {"allocate an arena", try_allocate_arena, KILLED, true, false},
    {"grow the image", try_truncate_image, KILLED, true, false},
    {"grow the arena", try_grow_arena, KILLED, false, false},
    {"allocate behind the image", try_allocate_image, KILLED, true, false},
    {"pwrite behind the image", try_write_behind, KILLED, true, false},
    {"pwritev behind the image", try_writev_behind, KILLED, true, false},
    {"the device, behind its end", try_device_behind, -ERANGE, false, false},
    {"open through the ring", try_ring_open, -EACCES, true, true},
    {"socket through the ring", try_ring_socket, -EACCES, true, true},
    {"an unregistered file through the ring", try_ring_other_file, -EACCES, true, true},
    {"write behind the image through the ring", try_ring_write_behind, -EFBIG, true, true},
    {"a ring of its own", try_new_ring, KILLED, true, false},
    {"socket", try_socket, KILLED, true, false},
    {"socketpair", try_socket_pair, KILLED, true, false},
    {"connect", try_connect, KILLED, false, false},
    {"fork", try_fork, KILLED, true, false},
    {"a new thread", try_thread, KILLED, true, false},
    {"execve", try_exec, KILLED, false, false},
    {"ptrace the front-end", try_trace, KILLED, false, false},
    {"ptrace", try_trace_me, KILLED, true, false},
    {"kill", try_kill, KILLED, false, false},
    {"kill a sibling", try_kill_sibling, KILLED, true, false},
    {"tgkill another process", try_thread_kill, KILLED, false, false},
    {"pidfd_open", try_pidfd, KILLED, true, false},
    {"read a process's memory", try_other_memory, KILLED, true, false},
    {"unshare", try_unshare, KILLED, true, false},
    {"a user namespace", try_user_namespace, KILLED, false, false},
    {"mount", try_mount, KILLED, false, false},
    {"setuid", try_setuid, KILLED, false, false},
    {"raise a limit", try_raise_limit, KILLED, false, false},
    {"executable memory", try_executable_memory, KILLED, true, false},
    {"make memory executable", try_make_executable, KILLED, true, false},
    {"bpf", try_bpf, KILLED, false, false},
    {"keyctl", try_keys, KILLED, false, false},
};
const size_t escape_attempt_count = ARRAY_SIZE(escape_attempts);
