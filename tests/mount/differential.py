#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random operations on a mounted volume and on a plain directory, side by side.

Every operation is made on both sides; the results (errno, contents, names, sizes) must agree.
What FAT cannot do (links, modes, owners) is not asked for; names are lower case on both sides so
that the reference file system's case sensitivity does not matter, unless --case is given, which
checks the volume's own rules against a dictionary.

usage: differential.py MOUNT REFERENCE --seed N --ops N
"""
import argparse
import errno
import os
import random
import sys


NAMES = [
    "a", "b", "readme.txt", "a name with spaces.text", "x" * 60, "y" * 200 + ".data", "ünïcödé",
    "日本語の名前.txt", "emoji-😀", "dots.in.the.name.c", "UPPER~1", ".hidden", "plus+comma,semi;eq=[]",
    "longfilename1.txt", "longfilename2.txt", "longfilename3.txt", "longfilename10.txt",
]


class Side:
    """One tree; every method returns ('ok', value) or ('errno', name)."""

    def __init__(self, root):
        self.root = root
        self.open_files = {}

    def path(self, p):
        return os.path.join(self.root, p) if p else self.root

    def call(self, fn, *args):
        try:
            return ("ok", fn(*args))
        except OSError as e:
            return ("errno", errno.errorcode.get(e.errno, e.errno))

    def create(self, p):
        def run():
            os.close(os.open(self.path(p), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        return self.call(run)

    def write(self, p, off, data):
        def run():
            fd = os.open(self.path(p), os.O_WRONLY)
            try:
                return os.pwrite(fd, data, off)
            finally:
                os.close(fd)
        return self.call(run)

    def append(self, p, data):
        def run():
            fd = os.open(self.path(p), os.O_WRONLY | os.O_APPEND)
            try:
                return os.write(fd, data)
            finally:
                os.close(fd)
        return self.call(run)

    def rewrite(self, p, data):
        def run():
            fd = os.open(self.path(p), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                return os.write(fd, data)
            finally:
                os.close(fd)
        return self.call(run)

    def read(self, p, off, n):
        def run():
            fd = os.open(self.path(p), os.O_RDONLY)
            try:
                return os.pread(fd, n, off)
            finally:
                os.close(fd)
        return self.call(run)

    def truncate(self, p, size):
        return self.call(os.truncate, self.path(p), size)

    def mkdir(self, p):
        return self.call(os.mkdir, self.path(p))

    def rmdir(self, p):
        return self.call(os.rmdir, self.path(p))

    def unlink(self, p):
        return self.call(os.unlink, self.path(p))

    def rename(self, p, q):
        return self.call(os.rename, self.path(p), self.path(q))

    def listdir(self, p):
        return self.call(lambda: sorted(os.listdir(self.path(p))))

    def stat(self, p):
        def run():
            st = os.lstat(self.path(p))
            is_dir = (st.st_mode & 0o170000) == 0o040000
            return ("dir", None) if is_dir else ("file", st.st_size)
        return self.call(run)

    def fsync(self, p):
        def run():
            fd = os.open(self.path(p), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        return self.call(run)

    def hold(self, key, p):
        def run():
            self.open_files[key] = os.open(self.path(p), os.O_RDWR)
        return self.call(run)

    def held_write(self, key, off, data):
        return self.call(lambda: os.pwrite(self.open_files[key], data, off))

    def held_read(self, key, off, n):
        def run():
            st = os.fstat(self.open_files[key])
            return (st.st_size, os.pread(self.open_files[key], n, off))
        return self.call(run)

    def release(self, key):
        fd = self.open_files.pop(key, None)
        if fd is not None:
            os.close(fd)
        return ("ok", fd is not None)

    def release_all(self):
        for key in list(self.open_files):
            self.release(key)


def compare_trees(a, b, where=""):
    la, lb = a.listdir(where), b.listdir(where)
    if la != lb:
        return f"listing of {where!r}: {la} against {lb}"
    for name in la[1]:
        p = os.path.join(where, name) if where else name
        sa, sb = a.stat(p), b.stat(p)
        if sa != sb:
            return f"stat of {p!r}: {sa} against {sb}"
        if sa[1][0] == "dir":
            bad = compare_trees(a, b, p)
            if bad:
                return bad
        else:
            with open(a.path(p), "rb") as fa, open(b.path(p), "rb") as fb:
                while True:
                    ca, cb = fa.read(1 << 20), fb.read(1 << 20)
                    if ca != cb:
                        return f"contents of {p!r} differ"
                    if not ca:
                        break
    return None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("mount")
    ap.add_argument("reference")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--ops", type=int, default=1000)
    ap.add_argument("--max-size", type=int, default=200000)
    args = ap.parse_args()
    rng = random.Random(args.seed)
    a, b = Side(args.mount), Side(args.reference)
    dirs, files = [""], []
    history = []

    def any_name():
        d = rng.choice(dirs)
        n = rng.choice(NAMES) if rng.random() < 0.8 else f"n{rng.randrange(400)}"
        return os.path.join(d, n) if d else n

    def some_path():
        r = rng.random()
        if r < 0.55 and files:
            return rng.choice(files)
        if r < 0.7 and len(dirs) > 1:
            return rng.choice(dirs[1:])
        return any_name()

    def refresh():
        dirs[:] = [""]
        files[:] = []
        for base, ds, fs in os.walk(args.reference):
            rel = os.path.relpath(base, args.reference)
            rel = "" if rel == "." else rel
            dirs.extend(os.path.join(rel, d) if rel else d for d in ds)
            files.extend(os.path.join(rel, f) if rel else f for f in fs)
        dirs.sort()
        files.sort()

    ops = (["create"] * 10 + ["write"] * 16 + ["append"] * 8 + ["rewrite"] * 8 + ["read"] * 10 +
           ["truncate"] * 8 + ["mkdir"] * 5 + ["rmdir"] * 4 + ["unlink"] * 10 + ["rename"] * 12 +
           ["listdir"] * 4 + ["stat"] * 4 + ["fsync"] * 2 + ["hold"] * 3 + ["held_write"] * 4 +
           ["held_read"] * 4 + ["release"] * 3)
    for i in range(args.ops):
        op = rng.choice(ops)
        if op in ("create", "mkdir"):
            call = (op, any_name())
        elif op == "write":
            off = rng.randrange(args.max_size) if rng.random() < 0.5 else rng.randrange(5000)
            call = (op, some_path(), off, rng.randbytes(rng.choice([1, 100, 511, 512, 4096, 40000])))
        elif op == "append":
            call = (op, some_path(), rng.randbytes(rng.choice([1, 77, 512, 9000])))
        elif op == "rewrite":
            call = (op, some_path(), rng.randbytes(rng.choice([0, 1, 600, 33000])))
        elif op == "read":
            call = (op, some_path(), rng.randrange(args.max_size), rng.choice([1, 512, 70000]))
        elif op == "truncate":
            call = (op, some_path(), rng.choice([0, 1, 511, 4097, rng.randrange(args.max_size)]))
        elif op == "rename":
            call = (op, some_path(), some_path() if rng.random() < 0.4 else any_name())
        elif op == "hold":
            call = (op, rng.randrange(6), some_path())
            if call[1] in a.open_files:
                continue
        elif op in ("held_write", "held_read", "release"):
            key = rng.randrange(6)
            if key not in a.open_files:
                continue
            if op == "held_write":
                call = (op, key, rng.randrange(args.max_size), rng.randbytes(rng.choice([1, 5000])))
            elif op == "held_read":
                call = (op, key, rng.randrange(args.max_size), 5000)
            else:
                call = (op, key)
        else:
            call = (op, some_path())
        history.append(call)
        ra = getattr(a, call[0])(*call[1:])
        rb = getattr(b, call[0])(*call[1:])
        if ra != rb:
            shown = tuple(x if not isinstance(x, bytes) else f"<{len(x)} bytes>" for x in call)
            print(f"seed {args.seed} op {i}: {shown}: volume {str(ra)[:300]}, reference {str(rb)[:300]}")
            return 1
        if op in ("create", "mkdir", "rmdir", "unlink", "rename", "rewrite"):
            refresh()
        if i % 500 == 499:
            bad = compare_trees(a, b)
            if bad:
                print(f"seed {args.seed} after op {i}: {bad}")
                return 1
    a.release_all()
    b.release_all()
    bad = compare_trees(a, b)
    if bad:
        print(f"seed {args.seed} at the end: {bad}")
        return 1
    print(f"seed {args.seed}: {len(history)} operations agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
