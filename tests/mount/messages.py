# SPDX-License-Identifier: MIT
"""Counts messages per operation on both sides of the front-end.

messages.py BERTHFS BERTH IMAGE DIRECTORY SCRATCH

Each row of the table is one operation, repeated; the numbers are messages per operation. What comes
once (the first OPEN is answered with "never again", and the like) is spent before the counting.
"""
import ctypes
import json
import os
import subprocess
import sys
import time

BERTHFS, BERTH, IMAGE, MOUNT, SCRATCH = sys.argv[1:]
ROOT = os.geteuid() == 0
MIB = 1 << 20
failures = []


def path(*names):
    return os.path.join(MOUNT, *names)


def stats():
    return json.loads(subprocess.check_output([BERTH, "stats", "--json", MOUNT]))


def prime():
    """Everything that the kernel asks only once per mount."""
    name = path("prime")
    with open(name, "w") as file:
        file.write("x")
    for _ in range(2):
        with open(name) as file:
            file.read()
        os.listdir(MOUNT)
        try:
            os.getxattr(name, "user.none")
        except OSError:
            pass
    with open(name, "a") as file:
        file.write("y")
    os.unlink(name)
    os.sync()


def mount():
    subprocess.run([BERTHFS, IMAGE, MOUNT], check=True, timeout=30)
    prime()


def unmount():
    subprocess.run([BERTH, "umount", MOUNT], check=True, timeout=60)


def counts():
    answer = stats()
    daemon = {n: row["count"] for n, row in answer["requests"].items() if n != "GET_STATS"}
    return answer["frontend"]["requests"], daemon


def difference(before, after):
    return {n: after[n] - before.get(n, 0) for n in after if after[n] != before.get(n, 0)}


def words(spent, times):
    return " ".join(f"{n} {count / times:.3g}" for n, count in sorted(spent.items())) or "-"


def measure(action, times):
    time.sleep(0.1)  # what the last one left behind: EVICTs wait for company up to 50 ms
    before = counts()
    for i in range(times):
        action(i)
    return [difference(*pair) for pair in zip(before, counts())]


def excess(what, side, got, limit, times):
    """A line for each limit that is not kept."""
    got = dict(got, **{"all together": sum(got.values())})
    limits = limit if isinstance(limit, dict) else {"all together": limit}
    # One message in a hundred may be somebody else's: a timer, a desktop that looks around.
    return [f"{what}: {side} {name}: {got[name]} for {times}, not {most} each"
            for name, most in limits.items() if got.get(name, 0) > most * times + times // 100]


def row(what, action, times=1, daemon=None, kernel=None, tries=1):
    """Runs action(i) `times` times. Limits are messages per operation: a number for all together,
    or a dictionary by name (those not in it are free). What changes nothing can be tried more than
    once: others on this machine may empty its caches."""
    for _ in range(tries):
        from_kernel, to_daemon = measure(action, times)
        over = excess(what, "daemon", to_daemon, daemon if daemon is not None else {}, times)
        over += excess(what, "kernel", from_kernel, kernel if kernel is not None else {}, times)
        if not over:
            break
    print(f"{what:42}| {words(from_kernel, times):58}| {words(to_daemon, times)}")
    failures.extend(over)


def read(name, stat=False):
    fd = os.open(name, os.O_RDONLY)
    if stat:
        os.fstat(fd)
    while os.read(fd, 65536):
        pass
    os.close(fd)


def create(name, content=b"", flags=os.O_EXCL):
    fd = os.open(name, os.O_CREAT | os.O_WRONLY | flags, 0o644)
    if content:
        os.write(fd, content)
    os.close(fd)


def write_many(name, times, size):
    fd = os.open(name, os.O_CREAT | os.O_WRONLY)
    for _ in range(times):
        os.write(fd, b"m" * size)
    os.fsync(fd)
    os.close(fd)


def run(*command):
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def names_and_small_files():
    name = path("warm")
    create(name, b"w" * 10000)
    for _ in range(2):
        read(name, True)
        os.listdir(MOUNT)
    row("nothing", lambda i: None, 100, daemon=0, kernel=0, tries=3)
    row("stat, warm", lambda i: os.stat(name), 100, daemon=0, kernel=0, tries=3)
    row("open read close, warm", lambda i: read(name), 100, daemon=0, kernel=0, tries=3)
    row("open fstat read close, warm", lambda i: read(name, True), 100, daemon=0, tries=3)
    row("list a known directory", lambda i: os.listdir(MOUNT), 100, daemon=0, tries=3)

    def new(kind, i):
        return path("new", f"{kind}{i}")

    removal = {"DELETE_FILE": 1, "EVICT": 0.1, "all together": 1.1}
    data = b"d" * 4096
    os.mkdir(path("new"))
    row("create, empty", lambda i: create(new("empty", i)), 200, daemon=2,
        kernel={"LOOKUP": 1, "MKNOD": 1, "RELEASE": 0})
    # The kernel stores the times that it has kept; mostly the WRITE has set the same.
    row("create, 4 KiB, close", lambda i: create(new("full", i), data), 200,
        daemon={"SET_ATTR": 0.1, "all together": 3.1})
    row("overwrite 4 KiB, truncating", lambda i: create(new("full", i), data, os.O_TRUNC), 100)
    row("append 100 bytes, close", lambda i: create(new("full", i), b"a" * 100, os.O_APPEND), 100,
        daemon={"SET_ATTR": 0.1, "all together": 1.1})
    row("rename", lambda i: os.rename(new("full", i), new("moved", i)), 100, daemon=2.1)
    row("unlink, known", lambda i: os.unlink(new("moved", i)), 100, daemon=removal)
    row("mkdir", lambda i: os.mkdir(new("dir", i)), 100, daemon=2)
    row("rmdir", lambda i: os.rmdir(new("dir", i)), 100, daemon=removal)
    row("1,000 writes of 100 bytes, fsync", lambda i: write_many(path("merged"), 1000, 100), 1,
        daemon={"WRITE_FILE": 2, "all together": 7}, kernel={"WRITE": 2, "GETXATTR": 1})


def many_names():
    os.mkdir(path("many"))
    for i in range(1000):
        create(path("many", f"file number {i}"), b"m" * (i % 3))
    os.sync()
    # The kernel may keep no other spelling than the stored one, and asks each time.
    other = path("many", "FILE NUMBER 1")
    os.stat(other)
    row("stat by another spelling, again", lambda i: os.stat(other), 100, daemon=0, tries=3)
    # A deletion by another spelling makes the kernel ask again for all names, also of open files.
    held = [os.open(path("many", f"file number {i}"), os.O_RDONLY) for i in range(500)]
    os.unlink(path("many", "FILE NUMBER 999"))
    row("stat of open files, names revoked", lambda i: os.stat(path("many", f"file number {i}")),
        500, daemon={"LOOKUP": 0, "GET_ATTR": 0}, tries=3)
    for fd in held:
        os.close(fd)
    os.mkdir(path("dirs"))
    for i in range(100):
        os.mkdir(path("dirs", f"{i}"))
        for name in "abc":
            create(path("dirs", f"{i}", name))


def listing_cold():
    row("ls -l of 1,000 files, cold", lambda i: run("ls", "-l", path("many")), 1, daemon=20,
        kernel={"READDIRPLUS": 20})
    row("stat after ls -l", lambda i: os.stat(path("many", f"file number {i}")), 500, daemon=0,
        tries=3)
    row("ls -l of 1,000 files, again", lambda i: run("ls", "-l", path("many")), 1, daemon=20)
    # Per directory a LOOKUP and one LIST_DIR, which says that it was all.
    row("find, 100 directories", lambda i: run("find", MOUNT), 1,
        daemon={"LIST_DIR": 106, "all together": 210})


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("length", ctypes.c_ushort),
                ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]


def listing_goes_on():
    """What comes into a directory after its last entry was read is seen by who reads on."""
    libc = ctypes.CDLL(None)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.POINTER(Dirent)
    os.mkdir(path("on"))
    create(path("on", "first"))
    stream = ctypes.c_void_p(libc.opendir(path("on").encode()))
    seen = []
    while "first" not in seen:
        seen.append(libc.readdir(stream).contents.name.decode())
    for name in ("second", "third"):
        create(path("on", name))
        while entry := libc.readdir(stream):
            seen.append(entry.contents.name.decode())
    libc.closedir(stream)
    if sorted(seen) != [".", "..", "first", "second", "third"]:
        failures.append(f"a listing that goes on shows {sorted(seen)}")


def check_limits():
    """Root's mounts get the limits of their backing device raised."""
    device = os.stat(MOUNT).st_dev
    bdi = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}"
    for name, expected in (("read_ahead_kb", 4096), ("max_ratio", 100), ("strict_limit", 0)):
        try:
            with open(os.path.join(bdi, name)) as file:
                value = int(file.read())
        except FileNotFoundError:
            continue  # an older kernel, or no sysfs here
        if value != expected:
            failures.append(f"{bdi}/{name} is {value}, {expected} expected")


def bulk():
    row("write 64 MiB, fsync", lambda i: write_many(path("big"), 64, MIB), 1,
        daemon={"WRITE_FILE": 80})
    unmount()
    mount()
    row("read 64 MiB, cold", lambda i: read(path("big")), 1,
        daemon={"READ_FILE": 72 if ROOT else 520})
    if stats()["in_service_max"] < 2:
        failures.append("sequential reading never has two reads in flight")
    if ROOT:
        check_limits()
    row("read 64 MiB, warm", lambda i: read(path("big")), 1, daemon=0, tries=3)


def trees():
    source = os.path.join(SCRATCH, "source")
    os.mkdir(source)
    for i in range(200):
        with open(os.path.join(source, f"file {i}"), "wb") as file:
            file.write(b"t" * 2000)
    run("tar", "-C", source, "-cf", source + ".tar", ".")
    os.mkdir(path("tar"))
    row("untar 200 files of 2,000 bytes",
        lambda i: run("tar", "-C", path("tar"), "--no-same-owner", "-xf", source + ".tar"), 1,
        daemon=200 * 4 + 10)
    row("rm -r of them", lambda i: run("rm", "-r", path("tar")), 1, daemon=200 + 20)


mount()
print(f"{'messages per operation':42}| {'kernel to front-end':58}| front-end to daemon")
names_and_small_files()
many_names()
unmount()
mount()
listing_cold()
listing_goes_on()
bulk()
trees()
unmount()
for line in failures:
    print("FAIL:", line, file=sys.stderr)
sys.exit(1 if failures else 0)
