#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What programs keep open while the daemon dies: unlinked files, half-read directories, mappings,
databases, archives, direct and synchronous I/O. Each check repeats itself until the time is over
and compares everything with what it knows.

usage: kill_files.py DIR SECONDS SEED IMAGE CHECK...
IMAGE: the volume's own image, in which mtools must find what fsync confirmed.
"""
import ctypes
import filecmp
import hashlib
import mmap
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

LIBC = ctypes.CDLL(None, use_errno=True)


def require(condition, text):
    if not condition:
        raise AssertionError(text)


def aligned(data):
    """The same bytes where O_DIRECT can take them from."""
    buffer = mmap.mmap(-1, max(len(data), 1))
    buffer[:len(data)] = data
    return buffer


def read_direct(path, size):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, (size + 4096) & ~4095 or 4096) as buffer:
            n = os.preadv(fd, [buffer], 0)
            return buffer[:n]
    finally:
        os.close(fd)


def file_bytes(path):
    with open(path, "rb") as f:
        return f.read()


# ---- the checks: generators, one step each ----

def orphans(root, rng, image):
    """Files without a name, in use: written, read, cut, grown."""
    serial, held = 0, []
    while True:
        if len(held) < 6:
            serial += 1
            path = f"{root}/orphan {serial}"
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
            data = bytearray(rng.randbytes(rng.choice((0, 700, 20000))))
            os.pwrite(fd, data, 0)
            if rng.random() < 0.3:
                os.fsync(fd)
            os.unlink(path)
            held.append((fd, data))
        for fd, data in held:
            what = rng.random()
            if what < 0.4:
                piece, at = rng.randbytes(rng.choice((1, 600, 9000))), rng.randrange(len(data) + 1)
                os.pwrite(fd, piece, at)
                data[at:at + len(piece)] = piece
            elif what < 0.5:
                size = rng.randrange(len(data) + 5000)
                os.ftruncate(fd, size)
                del data[size:]
                data.extend(bytes(size - len(data)))
            if rng.random() < 0.5:
                os.fdatasync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            got = os.pread(fd, len(data) + 100, 0)
            require(got == bytes(data), f"an unlinked file reads wrong: {len(got)} bytes of {len(data)}")
            status = os.fstat(fd)
            require((status.st_size, status.st_nlink) == (len(data), 0), f"fstat of an unlinked file: {status}")
        if rng.random() < 0.3:
            os.close(held.pop(rng.randrange(len(held)))[0])
        yield


def forks(root, rng, image):
    """HFS: resource forks in use, of files that are renamed, written and removed meanwhile."""
    serial, held = 0, []
    while True:
        if len(held) < 5:
            serial += 1
            with open(f"{root}/forked {serial}", "wb") as f:
                f.write(b"data")
            fd = os.open(f"{root}/..namedfork/forked {serial}", os.O_RDWR)
            held.append([fd, bytearray(), f"forked {serial}"])
        for entry in held:
            fd, data, name = entry
            what = rng.random()
            if what < 0.4:
                piece, at = rng.randbytes(rng.choice((1, 600, 30000))), rng.randrange(len(data) + 1)
                os.pwrite(fd, piece, at)
                data[at:at + len(piece)] = piece
            elif what < 0.5:
                size = rng.randrange(len(data) + 5000)
                os.ftruncate(fd, size)
                del data[size:]
                data.extend(bytes(size - len(data)))
            elif what < 0.6 and name:
                entry[2] = f"{name}'"[:31]
                os.rename(f"{root}/{name}", f"{root}/{entry[2]}")
                name = entry[2]
            elif what < 0.7 and name:
                os.unlink(f"{root}/{name}")
                entry[2] = name = None
            if rng.random() < 0.5:
                os.fdatasync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            got = os.pread(fd, len(data) + 100, 0)
            require(got == bytes(data), f"a fork reads wrong: {len(got)} bytes of {len(data)}")
            require(os.fstat(fd).st_size == len(data), f"fstat of a fork: {os.fstat(fd)}")
            if name:
                status = os.stat(f"{root}/..namedfork/{name}")
                require(status.st_ino == os.stat(f"{root}/{name}").st_ino + (1 << 32) and
                        status.st_size == len(data), f"stat of a fork: {status}")
                require(file_bytes(f"{root}/{name}") == b"data", f"{name} itself reads wrong")
        if rng.random() < 0.3:
            fd, data, name = held.pop(rng.randrange(len(held)))
            os.close(fd)
            if name:
                require(file_bytes(f"{root}/..namedfork/{name}") == bytes(data), "a fork after close")
                os.unlink(f"{root}/{name}")
        yield


def doubles(root, rng, image):
    """HFS with appledouble: ._NAME written whole, in two layouts, changed in place, held without NAME."""
    serial, held = 0, []
    while True:
        serial += 1
        name = f"{root}/doubled {serial}"
        double = f"{root}/._doubled {serial}"
        with open(name, "wb") as f:
            f.write(b"data")
        info, fork = rng.randbytes(32), rng.randbytes(rng.choice((0, 500, 70000)))
        start = rng.choice((82, 4096))
        header = b"\0\5\x16\7\0\2\0\0" + bytes(16) + b"\0\2"
        for entry in ((9, start - 32, 32), (2, start, len(fork))):
            header += b"".join(part.to_bytes(4, "big") for part in entry)
        content = bytearray(header.ljust(start - 32, b"\0") + info + fork)
        fd = os.open(double, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.write(fd, content)
        os.fsync(fd)
        yield
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        got = os.pread(fd, len(content) + 100, 0)
        require(got[start:] == fork and len(got) == len(content), f"{double}: another fork, {len(got)}")
        require(os.getxattr(name, "user.com.apple.FinderInfo") == info, f"{double}: another Finder information")
        require(file_bytes(name) == b"data", f"{name} itself reads wrong")
        content[start:] = fork = fork + rng.randbytes(3000)
        os.pwrite(fd, fork[-3000:], len(content) - 3000)
        os.unlink(name)
        require(not os.path.exists(double), f"{double} without its file")
        held.append((fd, start, fork))
        for fd, start, fork in held:
            got = os.pread(fd, len(fork) + 100, start)
            require(got == fork, f"a ._NAME in use reads wrong: {len(got)} bytes of {len(fork)}")
        if len(held) > 4:
            os.close(held.pop(rng.randrange(len(held)))[0])
        yield


def streams(root, rng, image):
    """Half-read directories: every name that stays is given exactly once."""
    where = f"{root}/listed"
    os.mkdir(where)
    stay = {f"name that stays, number {i}" if i % 3 else f"n{i}" for i in range(400)}
    for name in sorted(stay):
        os.close(os.open(f"{where}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    buffer = ctypes.create_string_buffer(2000)
    serial = 0
    while True:
        seen = []
        fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while True:
                n = LIBC.getdents64(fd, buffer, ctypes.c_size_t(len(buffer)))
                require(n >= 0, f"getdents64: {os.strerror(ctypes.get_errno())}")
                if n == 0:
                    break
                at = 0
                while at < n:
                    length = int.from_bytes(buffer[at + 16:at + 18], "little")
                    seen.append(buffer[at + 19:at + length].split(b"\0")[0].decode())
                    at += length
                if rng.random() < 0.2:  # names that come and go beside
                    serial += 1
                    os.close(os.open(f"{where}/{serial} comes", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    os.unlink(f"{where}/{serial} comes")
                yield
        finally:
            os.close(fd)
        got = [s for s in seen if s in stay]
        require(len(got) == len(stay) and set(got) == stay,
                f"listing: {len(got)} names of {len(stay)}, missing {sorted(stay - set(got))[:3]}")


def mappings(root, rng, image):
    """Shared mappings, written and synced; the bytes are compared past the kernel's cache."""
    size = 256 * 1024
    path = f"{root}/mapped"
    model = bytearray(rng.randbytes(size))
    with open(path, "wb") as f:
        f.write(model)
    fd = os.open(path, os.O_RDWR)
    shared = mmap.mmap(fd, size)
    while True:
        for _ in range(20):
            data = rng.randbytes(rng.choice((1, 64, 4096, 10000)))
            at = rng.randrange(size - len(data) + 1)
            shared[at:at + len(data)] = data
            model[at:at + len(data)] = data
        if rng.random() < 0.5:
            shared.flush()
            require(read_direct(path, size) == bytes(model), "after msync the file differs from the mapping")
        else:
            os.fsync(fd)
        require(shared[:] == bytes(model), "a mapping differs from what was stored there")
        yield


def databases(root, rng, image):
    """SQLite with each of its journals: no error, no row lost, integrity_check clean."""
    rows, modes = {}, ("delete", "truncate", "persist", "wal")
    connection, serial = sqlite3.connect(f"{root}/data.sqlite", timeout=60), 0
    connection.execute("create table t (id integer primary key, v blob)")
    connection.commit()
    for turn in range(1 << 30):
        if turn % 10 == 0:
            connection.execute(f"pragma journal_mode={modes[turn // 10 % len(modes)]}").fetchall()
        keep = rng.random() < 0.85
        staged = dict(rows)
        for _ in range(rng.randrange(1, 12)):
            if staged and rng.random() < 0.3:
                row = rng.choice(list(staged))
                connection.execute("delete from t where id = ?", (row,))
                del staged[row]
            else:
                serial += 1
                staged[serial] = rng.randbytes(rng.choice((10, 500, 6000)))
                connection.execute("insert into t values (?, ?)", (serial, staged[serial]))
        if keep:
            connection.commit()
            rows = staged
        else:
            connection.rollback()
        if turn % 5 == 4:
            got = dict(connection.execute("select id, v from t"))
            require(got == rows, f"sqlite: {len(got)} rows, expected {len(rows)}")
            check = connection.execute("pragma integrity_check").fetchall()
            require(check == [("ok",)], f"sqlite: {check}")
        if len(rows) > 300:
            connection.execute("delete from t where id % 2")
            connection.commit()
            rows = {i: v for i, v in rows.items() if i % 2 == 0}
        yield


def archives(root, rng, image):
    """tar x, compare, tar c, compare, rm -r."""
    with tempfile.TemporaryDirectory() as host:
        os.mkdir(f"{host}/tree")
        for i in range(50):
            where = f"{host}/tree/directory {i % 7}/inner" if i % 2 else f"{host}/tree"
            os.makedirs(where, exist_ok=True)
            with open(f"{where}/file number {i}.bin", "wb") as f:
                f.write(rng.randbytes(rng.choice((0, 100, 3000, 40000))))
        run = lambda *argv: subprocess.run(argv, check=True)
        run("tar", "-C", host, "-cf", f"{host}/in.tar", "tree")
        while True:
            os.mkdir(f"{root}/unpacked")
            run("tar", "-C", f"{root}/unpacked", "--no-same-owner", "--no-same-permissions", "-xf",
                f"{host}/in.tar")
            run("diff", "-r", f"{host}/tree", f"{root}/unpacked/tree")
            yield
            run("tar", "-C", f"{root}/unpacked", "-cf", f"{root}/out.tar", "tree")
            run("tar", "-C", f"{root}/unpacked", "-df", f"{root}/out.tar")
            yield
            shutil.rmtree(f"{root}/unpacked")
            os.unlink(f"{root}/out.tar")
            yield


def direct(root, rng, image):
    """O_DIRECT: what was written is read back, from the same and from another descriptor."""
    size, unit = 1 << 20, 65536
    model = bytearray(size)
    path = f"{root}/direct"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_DIRECT)
    os.ftruncate(fd, size)
    while True:
        length = rng.choice((512, 4096, unit))
        at = rng.randrange(size // length) * length
        data = rng.randbytes(length)
        with aligned(data) as buffer:
            require(os.pwritev(fd, [buffer], at) == length, "a direct write was short")
        model[at:at + length] = data
        require(read_direct(path, size) == bytes(model), "direct I/O reads something else than was written")
        yield


def synced(root, rng, image):
    """After fsync returned, the image itself holds the file: read by mtools, past the mount."""
    serial, data = 0, bytearray()
    path = f"{root}/synced"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND)
    inside = "::" + path[len(os.environ["KILL_MOUNT"]):]
    while True:
        serial += 1
        piece = rng.randbytes(rng.choice((10, 600, 5000)))
        os.write(fd, piece)
        data += piece
        os.fsync(fd)
        if serial % 8 == 0:
            r = subprocess.run(["mtype", "-i", image, inside], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, check=False)
            require(r.returncode == 0, f"mtype after fsync: {r.stderr.decode()}")
            require(r.stdout == bytes(data), f"fsync returned, but the image holds {len(r.stdout)} bytes, "
                                             f"not these {len(data)}")
        if len(data) > 200000:
            os.ftruncate(fd, 0)
            data.clear()
        yield


def copies(root, rng, image):
    """cp of a file of some megabytes there and back."""
    with tempfile.TemporaryDirectory() as host:
        with open(f"{host}/big", "wb") as f:
            f.write(rng.randbytes(3_000_000))
        want = hashlib.sha256(file_bytes(f"{host}/big")).hexdigest()
        while True:
            shutil.copyfile(f"{host}/big", f"{root}/copy 1")
            yield
            shutil.copyfile(f"{root}/copy 1", f"{root}/copy 2")
            require(filecmp.cmp(f"{host}/big", f"{root}/copy 2", shallow=False), "a copy differs")
            got = hashlib.sha256(read_direct(f"{root}/copy 2", 3_000_000)).hexdigest()
            require(got == want, "a copy differs past the kernel's cache")
            os.unlink(f"{root}/copy 1")
            os.unlink(f"{root}/copy 2")
            yield


CHECKS = {f.__name__: f for f in (orphans, forks, doubles, streams, mappings, databases, archives, direct, synced, copies)}


def child(root, seconds, seed, image, name):
    """Runs one check; the exit status says how it went."""
    try:
        where = f"{root}/{name}"
        os.mkdir(where)
        deadline = time.monotonic() + seconds
        steps = 0
        for _ in CHECKS[name](where, random.Random(f"{seed} {name}"), image):
            steps += 1
            if time.monotonic() > deadline:
                break
        print(f"{name}: {steps} steps", flush=True)
        code = 0
    except Exception as e:  # the parent counts
        print(f"{name}: seed {seed}: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
        code = 1
    os._exit(code)


def main():
    root, seconds, seed, image = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    os.environ["KILL_MOUNT"] = root
    os.environ["MTOOLS_SKIP_CHECK"] = "1"
    where = f"{root}/files"
    os.mkdir(where)
    pids = []
    for name in sys.argv[5:]:
        pid = os.fork()
        if pid == 0:
            child(where, seconds, seed, image, name)
        pids.append(pid)
    failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
