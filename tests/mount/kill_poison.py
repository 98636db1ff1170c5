#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A daemon with planted bugs (tests/support/poison_fatd.c): what one request kills again and again
fails alone, with EIO and one line in the log; a daemon that dies with no request to blame ends in a
read-only mount with everything acknowledged on the image.

usage: kill_poison.py names IMAGE DIR ACCOUNT --seed N       the image holds d/POISON-*, d/TOXIC-*
       kill_poison.py recover|any|later IMAGE DIR ACCOUNT --seed N
BERTH_DAEMON_DIR names the directory with the daemon.
"""
import argparse
import ctypes
import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

from kill_mount import Failure, Mount, Watchdog, now

HERE = os.path.dirname(os.path.abspath(__file__))
HOW = ("segv", "abort", "exit", "loop")
FIRST = 6661  # lengths of writes that die before their commit, and from the next hundred on after it,
FROM = 1 << 20  # from here on


def require(condition, text):
    if not condition:
        raise Failure(text)


def must_fail(what, call, *args):
    start = now()
    try:
        call(*args)
    except OSError as e:
        require(e.errno == errno.EIO, f"{what}: {e}, expected EIO")
        return now() - start
    raise Failure(f"{what}: succeeded, expected EIO")


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def direct_write(path, length, offset, byte):
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 8192) as buffer:
            buffer[:length] = bytes([byte]) * length
            with memoryview(buffer)[:length] as view:
                return os.pwritev(fd, [view], offset)
    finally:
        os.close(fd)


def start_counter(mount, args, seconds):
    return subprocess.Popen([sys.executable, HERE + "/kill_counter.py", "run", mount.directory,
                             args.account, f"--seed={args.seed}", f"--seconds={seconds}",
                             f"--processes={args.processes}", f"--threads={args.threads}"])


# ---- requests that kill ----

def poisonous_names(where, times):
    for how in HOW:  # a listing would make the kernel know them: after this
        times.append(must_fail(f"stat of POISON-{how}", os.stat, f"{where}/POISON-{how}.txt"))
    names = sorted(os.listdir(where))
    require(set(names) >= {f"POISON-{how}.txt" for how in HOW}, f"the listing has only {names}")
    toxic = f"{where}/TOXIC-abort.txt"
    times.append(must_fail("create of TOXIC", create, f"{where}/TOXIC-segv new"))
    times.append(must_fail("unlink of TOXIC", os.unlink, toxic))
    times.append(must_fail("rename of TOXIC", os.rename, toxic, f"{where}/moved"))
    require(sorted(os.listdir(where)) == names, "a request that failed has changed the directory")
    with open(toxic, "rb") as f:
        require(f.read() == b"toxic\n", "a file that could not be renamed reads wrong")


def poisonous_writes(where, times):
    path = f"{where}/written"
    create(path)
    require(direct_write(path, 8192, FROM, 1) == 8192, "short write")
    for i, how in enumerate(HOW):
        times.append(must_fail(f"write that ends by {how}", direct_write, path, FIRST + i, FROM + 8192, 2))
        require(os.stat(path).st_size == FROM + 8192, "a write that failed has changed the size")
    with open(path, "rb") as f:
        require(f.read() == bytes(FROM) + bytes([1]) * 8192, "a write that failed has changed the contents")


def once(where):
    """The daemon dies when all is done and nobody knows it yet: done once, and no error."""
    for how in HOW:
        path = f"{where}/ONCE-{how}"
        create(path)
        with open(path, "ab") as f:
            f.write(b"once\n")
        os.rename(path, f"{where}/kept {how}")
        create(path)
        os.mkdir(path + " directory")
        os.unlink(path)
        require(not os.path.exists(path), f"{path} is there after unlink")
        with open(f"{where}/kept {how}", "rb") as f:
            require(f.read() == b"once\n", f"kept {how} reads wrong")
    path = f"{where}/written once"
    create(path)
    for i in range(len(HOW)):
        require(direct_write(path, FIRST + 100 + i, FROM + 8192 * i, 3 + i) == FIRST + 100 + i, "short write")
    with open(path, "rb") as f:
        data = f.read()[FROM:]
    for i in range(len(HOW)):
        piece = data[8192 * i:8192 * (i + 1)].rstrip(b"\0")
        require(piece == bytes([3 + i]) * (FIRST + 100 + i), f"write {i} reads wrong")


def check_log(mount):
    """One line for each request that was given up, and its name in it."""
    log = mount.log()
    for name in [f"POISON-{how}" for how in HOW] + ["TOXIC-segv"]:
        lines = [line for line in log.splitlines() if name in line]
        require(len(lines) == 1, f"{len(lines)} log lines name {name}, expected one:\n{log[-4000:]}")
    require(sum("ONCE-" in line for line in log.splitlines()) == 0, "a request that was done is in the log")


def command_names(args):
    with Mount(args.image, args.dir, "heartbeat=1") as mount:
        dog = Watchdog(mount, 240)
        before = mount.settled_account()
        counter = start_counter(mount, args, args.seconds)
        time.sleep(0.5)  # the load shall be there
        times = []
        try:
            poisonous_names(f"{args.dir}/d", times)
            once(f"{args.dir}/d")
            poisonous_writes(f"{args.dir}/d", times)
            check_log(mount)
        finally:
            code = counter.wait()
        require(code == 0, "the load beside failed")
        status = mount.status()
        require(status["state"] == "running" and not status["readonly"], f"status: {status}")
        mount.check_leaks(before)
        dog.stop()
        mount.umount()
        print(f"{len(times)} poisonous requests, given up after at most {max(times):.1f} s; "
              f"{(status.get('daemon') or {}).get('restarts')} daemons after the first")


# ---- deaths without a request ----

def write_back(directory):
    """What the kernel holds goes to the daemon, but no fsync with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    for base, _, names in os.walk(directory):
        for name in names:
            fd = os.open(os.path.join(base, name), os.O_RDWR)
            if libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), 7) != 0:
                raise Failure(f"sync_file_range: {os.strerror(ctypes.get_errno())}")
            os.close(fd)


class ProcessCount(threading.Thread):
    """How many daemons are started from here on."""

    def __init__(self, mount):
        super().__init__(daemon=True)
        self.mount, self.found, self.done = mount, set(), False
        self.start()

    def run(self):
        while not self.done:
            self.found.update(self.mount.children())
            time.sleep(0.002)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_readonly(mount, patience):
    deadline = now() + patience
    while now() < deadline:
        status = mount.status()
        if status["readonly"]:
            return status
        time.sleep(0.05)
    raise Failure(f"not read-only after {patience} s: {mount.status()}\n{mount.log()[-3000:]}")


def check_readonly(mount, args, readable):
    root = args.dir
    try:
        create(f"{root}/new")
        raise Failure("a file could be made on a read-only mount")
    except OSError as e:
        require(e.errno in ((errno.EROFS,) if readable else (errno.EROFS, errno.EIO)), f"create: {e}")
    try:
        require(len(os.listdir(root)) >= 3, "the mount is empty")
    except OSError as e:
        require(not readable and e.errno == errno.EIO, f"listing: {e}")
    try:
        os.statvfs(root)
    except OSError as e:
        require(not readable and e.errno == errno.EIO, f"statvfs: {e}")
    if readable:
        code = subprocess.call([sys.executable, HERE + "/kill_counter.py", "verify", root, args.account,
                                "--times"])
        require(code == 0, "acknowledged work cannot be read")


def command_mount(args):
    with Mount(args.image, args.dir, "commit=100", {"BERTH_POISON_MOUNT": args.command}) as mount:
        dog = Watchdog(mount, 150)
        counter = start_counter(mount, args, min(args.seconds, 2))
        require(counter.wait() == 0, "the load failed before anything was killed")
        write_back(args.dir)
        count = ProcessCount(mount)
        os.kill(mount.daemon()[0], signal.SIGKILL)
        status = wait_for_readonly(mount, 30)
        require(status["read_only_reason"], f"no reason given: {status}")
        check_readonly(mount, args, args.command != "any")
        cpu, children = cpu_seconds(mount.process.pid), set(count.found)
        time.sleep(2)
        check_readonly(mount, args, args.command != "any")
        count.done = True
        cpu = cpu_seconds(mount.process.pid) - cpu
        require(cpu < 0.5, f"berthfs used {cpu:.1f} s of 2 s: a busy loop?")
        require(len(count.found) - len(children) <= 2, f"daemons are still being started: {count.found}")
        require(len(count.found) <= 16, f"{len(count.found)} daemons were started")
        lines = [line for line in mount.log().splitlines() if "read-only" in line]
        require(1 <= len(lines) <= 2, f"{len(lines)} log lines say read-only:\n{mount.log()[-3000:]}")
        require("ENOTCONN" not in mount.log(), "ENOTCONN in the log")
        dog.stop()
        mount.umount()
        print(f"{args.command}: {len(count.found)} daemons, then: {lines[0]}")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("command", choices=("names", "recover", "any", "later"))
    ap.add_argument("image")
    ap.add_argument("dir")
    ap.add_argument("account")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--seconds", type=float, default=8)
    ap.add_argument("--processes", type=int, default=2)
    ap.add_argument("--threads", type=int, default=4)
    args = ap.parse_args()
    try:
        (command_names if args.command == "names" else command_mount)(args)
    except (Failure, OSError, subprocess.SubprocessError) as e:
        print(f"FAIL: {args.command}, seed {args.seed}: {type(e).__name__}: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
