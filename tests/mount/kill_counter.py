#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts its own successes: every create, mkdir, rename, unlink, append, truncate and utimens must
succeed exactly once, whatever happens to the daemon meanwhile. EEXIST from a create that was made
twice, ENOENT from an unlink that was, a record that was appended twice or never: all are failures.

Each thread works in a directory of its own and in one shared by all, on names of its own; the
processes race for claims (O_EXCL: one winner each) and append to one file. What must be there is
written to ACCOUNT at the end, and compared with the tree.

usage: kill_counter.py run DIR ACCOUNT --seed N [--processes N] [--threads N] [--seconds S]
       kill_counter.py verify DIR ACCOUNT [--times]     also after a remount, or on a copy
"""
import argparse
import hashlib
import json
import mmap
import multiprocessing
import os
import random
import sys
import threading
import time
import traceback

RECORD = 24  # bytes of one record in the common file
SHARED, CLAIMS, COMMON, HOMES = "shared by all", "claims", "common.log", "homes"


class Worker:
    """One thread: its names, and what each must hold."""

    def __init__(self, root, process, number, seed, max_size):
        self.root, self.process, self.max_size = root, process, max_size
        self.rng = random.Random(f"{seed} {process} {number}")
        self.tag = f"p{process}t{number}"
        self.home = f"{HOMES}/thread {self.tag}"
        self.files = {}   # relative path: bytearray
        self.times = {}   # relative path: mtime set and not changed since
        self.dirs = []    # relative paths of empty directories
        self.serial = 0
        self.records = []
        self.claimed = []
        self.held = []    # (descriptor, relative path) kept open
        self.operations = 0

    def path(self, name):
        return os.path.join(self.root, name)

    def new_name(self):
        """Never used before: whoever finds it there has made it twice."""
        self.serial += 1
        form = self.rng.choice(("{t}-{n}.txt", "{t} a long name, no. {n}.data", "{t}n{n}"))
        where = self.home if self.rng.random() < 0.6 else SHARED
        return os.path.join(where, form.format(t=self.tag, n=self.serial))

    def some_file(self):
        return self.rng.choice(list(self.files)) if self.files else None

    def some_bytes(self):
        sizes = [s for s in (0, 1, 40, 511, 4096, 5000, 30000) if s <= self.max_size]
        return self.rng.randbytes(self.rng.choice(sizes))

    def drop_held(self, name):
        for fd, held in [h for h in self.held if h[1] == name]:
            os.close(fd)
            self.held.remove((fd, held))

    # ---- operations; each must succeed ----

    def create(self):
        if len(self.files) >= 40:
            return self.unlink()
        name, data = self.new_name(), self.some_bytes()
        fd = os.open(self.path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            if data and os.write(fd, data) != len(data):
                raise AssertionError(f"short write to {name}")
        finally:
            os.close(fd)
        self.files[name] = bytearray(data)
        return None

    def create_again(self):
        name = self.some_file()
        if name is None:
            return
        try:
            os.close(os.open(self.path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return
        raise AssertionError(f"{name} could be made twice")

    def make_dir(self):
        if len(self.dirs) >= 10:
            return self.remove_dir()
        name = self.new_name()
        os.mkdir(self.path(name))
        self.dirs.append(name)
        return None

    def remove_dir(self):
        if self.dirs:
            name = self.dirs.pop(self.rng.randrange(len(self.dirs)))
            os.rmdir(self.path(name))
            if self.rng.random() < 0.2 and os.path.lexists(self.path(name)):
                raise AssertionError(f"{name} is there after rmdir")

    def rename_dir(self):
        if self.dirs:
            i, new = self.rng.randrange(len(self.dirs)), self.new_name()
            os.rename(self.path(self.dirs[i]), self.path(new))
            self.dirs[i] = new

    def rename(self):
        old, new = self.some_file(), self.new_name()
        if old is None:
            return
        os.rename(self.path(old), self.path(new))
        self.moved(old, new)

    def rename_over(self):
        if len(self.files) < 2:
            return
        old, new = self.rng.sample(list(self.files), 2)
        self.drop_held(new)
        os.rename(self.path(old), self.path(new))
        self.moved(old, new)

    def moved(self, old, new):
        self.files[new] = self.files.pop(old)
        self.times.pop(new, None)
        if old in self.times:
            self.times[new] = self.times.pop(old)
        self.held = [(fd, new if name == old else name) for fd, name in self.held]

    def unlink(self):
        name = self.some_file()
        if name is None:
            return
        self.drop_held(name)
        os.unlink(self.path(name))
        del self.files[name]
        self.times.pop(name, None)
        if self.rng.random() < 0.2:
            try:
                os.stat(self.path(name))
            except FileNotFoundError:
                return
            raise AssertionError(f"{name} is there after unlink")

    def append(self):
        name = self.some_file()
        if name is None or len(self.files[name]) > self.max_size:
            return
        data = self.some_bytes()
        held = [fd for fd, n in self.held if n == name]
        fd = held[0] if held else os.open(self.path(name), os.O_RDWR | os.O_APPEND)
        if os.write(fd, data) != len(data):
            raise AssertionError(f"short append to {name}")
        self.files[name] += data
        if data:
            self.times.pop(name, None)
        if not held:
            if len(self.held) < 4:
                self.held.append((fd, name))
            else:
                os.close(fd)

    def overwrite(self):
        name = self.some_file()
        if name is None:
            return
        data, offset = self.some_bytes(), self.rng.randrange(len(self.files[name]) + 3000)
        if offset + len(data) > 2 * self.max_size:
            return
        fd = os.open(self.path(name), os.O_WRONLY)
        try:
            os.pwrite(fd, data, offset)
        finally:
            os.close(fd)
        if data:
            content = self.files[name]
            content.extend(bytes(max(0, offset - len(content))))
            content[offset:offset + len(data)] = data
            self.times.pop(name, None)

    def truncate(self):
        name = self.some_file()
        if name is None:
            return
        size = self.rng.choice((0, 1, 512, 4097, self.rng.randrange(min(60000, 2 * self.max_size))))
        os.truncate(self.path(name), size)
        content = self.files[name]
        del content[size:]
        content.extend(bytes(size - len(content)))
        self.times.pop(name, None)

    def set_time(self):
        name = self.some_file()
        if name is not None:
            t = 1_000_000_000 + 2 * self.rng.randrange(300_000_000)  # what a FAT can hold
            os.utime(self.path(name), (t, t))
            self.times[name] = t

    def common(self):
        record = f"{self.tag}:{len(self.records)}".ljust(RECORD - 1).encode() + b"\n"
        fd = os.open(self.path(COMMON), os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(fd, record) != RECORD:
                raise AssertionError("short append to the common file")
        finally:
            os.close(fd)
        self.records.append(record.decode())

    def claim(self):
        """The next claim is everybody's; one of all wins it."""
        number = self.serial
        try:
            fd = os.open(self.path(f"{CLAIMS}/claim {number}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return
        self.claimed.append(number)
        os.write(fd, self.tag.encode())
        os.close(fd)

    def sync_one(self):
        name = self.some_file()
        if name is not None:
            fd = os.open(self.path(name), os.O_RDWR)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def look(self):
        """Contents, past the kernel's cache or not; size; names."""
        name = self.some_file()
        if name is None:
            return
        direct = self.rng.random() < 0.3
        expected = self.files[name]
        status = os.stat(self.path(name))
        if status.st_size != len(expected):
            raise AssertionError(f"{name}: size {status.st_size}, expected {len(expected)}")
        if name in self.times and status.st_mtime != self.times[name]:
            raise AssertionError(f"{name}: mtime {status.st_mtime}, expected {self.times[name]}")
        got = read_file(self.path(name), direct)
        if got != expected:
            raise AssertionError(f"{name}: {difference(got, expected)} (direct: {direct})")

    def list_home(self):
        found = set(os.listdir(self.path(self.home)))
        expected = {os.path.basename(n) for n in list(self.files) + self.dirs
                    if os.path.dirname(n) == self.home}
        if found != expected:
            raise AssertionError(f"{self.home}: missing {sorted(expected - found)}, "
                                 f"too many {sorted(found - expected)}")

    OPERATIONS = ((create, 12), (create_again, 2), (make_dir, 5), (remove_dir, 4), (rename_dir, 2),
                  (rename, 7), (rename_over, 4), (unlink, 7), (append, 10), (overwrite, 6),
                  (truncate, 4), (set_time, 5), (common, 8), (claim, 4), (sync_one, 1), (look, 8),
                  (list_home, 2))

    def run(self, deadline):
        operations = [o for o, weight in self.OPERATIONS for _ in range(weight)]
        os.mkdir(self.path(self.home))
        while time.monotonic() < deadline:
            operation = self.rng.choice(operations)
            try:
                operation(self)
            except Exception as e:
                raise AssertionError(f"{self.tag} operation {self.operations} "
                                     f"({operation.__name__}): {type(e).__name__}: {e}") from e
            self.operations += 1
        for fd, _ in self.held:
            os.close(fd)

    def account(self):
        return {
            "files": {n: [len(d), hashlib.sha256(d).hexdigest()] for n, d in self.files.items()},
            "times": self.times, "dirs": self.dirs + [self.home], "records": self.records,
            "claimed": {str(n): self.tag for n in self.claimed}, "operations": self.operations,
        }


def read_file(path, direct=False):
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    try:
        data = bytearray()
        with mmap.mmap(-1, 65536) as buffer:
            while True:
                n = os.preadv(fd, [buffer], len(data))
                data += buffer[:n]
                if n == 0:
                    return data
    finally:
        os.close(fd)


def difference(got, expected):
    if len(got) != len(expected):
        return f"{len(got)} bytes, expected {len(expected)}"
    at = next(i for i in range(len(got)) if got[i] != expected[i])
    return f"byte {at} of {len(got)} is {got[at]:#x}, expected {expected[at]:#x}"


def process_main(args, process, queue):
    workers = [Worker(args.dir, process, n, args.seed, args.max_size) for n in range(args.threads)]
    deadline = time.monotonic() + args.seconds
    errors = []

    def body(worker):
        try:
            worker.run(deadline)
        except AssertionError as e:
            errors.append(str(e))
        except Exception:  # reported by the parent
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=body, args=(w,)) for w in workers]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    queue.put(([w.account() for w in workers], errors))


def merge(accounts):
    total = {"files": {}, "times": {}, "dirs": [SHARED, CLAIMS, HOMES], "records": [], "claimed": {},
             "operations": 0}
    errors = []
    for account in accounts:
        for key in ("files", "times"):
            total[key].update(account[key])
        total["dirs"] += account["dirs"]
        total["records"] += account["records"]
        for number, tag in account["claimed"].items():
            if number in total["claimed"]:
                errors.append(f"claim {number}: won by {tag} and {total['claimed'][number]}")
            total["claimed"][number] = tag
        total["operations"] += account["operations"]
    return total, errors


def verify(root, account, times):
    """Every difference between the tree and the account."""
    errors = []
    expected = dict(account["files"])
    for number, tag in account["claimed"].items():
        expected[f"{CLAIMS}/claim {number}"] = [len(tag), hashlib.sha256(tag.encode()).hexdigest()]
    dirs, files = set(), set()
    for name in os.listdir(root):  # what else lies beside is not ours
        if name not in (SHARED, CLAIMS, HOMES):
            continue
        for base, ds, fs in os.walk(os.path.join(root, name), onerror=errors.append):
            dirs.add(os.path.relpath(base, root))
            files.update(os.path.relpath(os.path.join(base, f), root) for f in fs)
            dirs.update(os.path.relpath(os.path.join(base, d), root) for d in ds)
    errors += [f"{d}: directory is missing" for d in set(account["dirs"]) - dirs]
    errors += [f"{d}: directory should not be there" for d in dirs - set(account["dirs"])]
    errors += [f"{f}: file is missing" for f in expected.keys() - files]
    errors += [f"{f}: file should not be there" for f in files - expected.keys()]
    for name in sorted(files & expected.keys()):
        data = read_file(os.path.join(root, name))
        if [len(data), hashlib.sha256(data).hexdigest()] != expected[name]:
            errors.append(f"{name}: contents differ ({len(data)} bytes, expected {expected[name][0]})")
        if times and name in account["times"]:
            mtime = os.stat(os.path.join(root, name)).st_mtime
            if mtime != account["times"][name]:
                errors.append(f"{name}: mtime {mtime}, expected {account['times'][name]}")
    data = bytes(read_file(os.path.join(root, COMMON))).decode(errors="replace")
    found = [data[i:i + RECORD] for i in range(0, len(data), RECORD)]
    if sorted(found) != sorted(account["records"]):
        once = set(found)
        errors.append(f"{COMMON}: {len(found)} records, expected {len(account['records'])}; "
                      f"{len(found) - len(once)} twice, missing "
                      f"{sorted(set(account['records']) - once)[:3]}")
    return errors


def command_run(args):
    for name in (SHARED, CLAIMS, HOMES):
        os.mkdir(os.path.join(args.dir, name))
    os.close(os.open(os.path.join(args.dir, COMMON), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    queue = multiprocessing.Queue()
    pool = [multiprocessing.Process(target=process_main, args=(args, n, queue))
            for n in range(args.processes)]
    for p in pool:
        p.start()
    accounts, errors = [], []
    for _ in pool:
        some, wrong = queue.get()
        accounts += some
        errors += wrong
    for p in pool:
        p.join()
    total, wrong = merge(accounts)
    errors += wrong
    with open(args.account, "w", encoding="utf-8") as f:
        json.dump(total, f)
    return total, errors if errors else verify(args.dir, total, True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("command", choices=("run", "verify"))
    ap.add_argument("dir")
    ap.add_argument("account")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--processes", type=int, default=2)
    ap.add_argument("--threads", type=int, default=6)
    ap.add_argument("--seconds", type=float, default=8)
    ap.add_argument("--max-size", type=int, default=100000)
    ap.add_argument("--times", action="store_true")
    args = ap.parse_args()
    if args.command == "run":
        total, errors = command_run(args)
    else:
        with open(args.account, encoding="utf-8") as f:
            total = json.load(f)
        errors = verify(args.dir, total, args.times)
    for line in errors[:20]:
        print(f"counter: {line}", file=sys.stderr)
    if errors:
        print(f"counter: seed {args.seed}: {len(errors)} errors", file=sys.stderr)
        return 1
    print(f"counter: {total['operations']} operations, {len(total['files'])} files, "
          f"{len(total['records'])} records, {len(total['claimed'])} claims as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
