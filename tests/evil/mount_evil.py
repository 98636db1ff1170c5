#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mounts every image of fat_images.py, walks it, reads everything, writes a little, unmounts.

Nothing may crash, hang or be left behind; a refusal is one clear line; the good image must work; and
whatever happened, not one byte outside the image's length may be written. Several at once.

usage: mount_evil.py BERTHFS BERTH SCRATCH [NAME-PART]
BERTH_TEST_EVIL_MODES: "ro", "rw" or both (default). BERTH_TEST_EVIL_STRIDE=N: every N-th image only.
"""
import multiprocessing
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fat_images  # noqa: E402

LIMIT = 20  # seconds for any single command
FORK = multiprocessing.get_context("fork")  # starting Python anew would take most of the time


def run(cmd, **kw):
    return subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, **kw)


def read_tree(root):
    """Reads everything, within bounds. (names, errors)"""
    count = errors = 0
    for base, dirs, files in os.walk(root, onerror=lambda e: None):
        if base.count("/") - root.count("/") > 12:
            dirs[:] = []
        count += len(dirs)
        for name in files:
            count += 1
            if count > 3000:
                return count, errors
            try:
                with open(os.path.join(base, name), "rb") as f:
                    got = 0
                    while got < 3000000:
                        piece = f.read(1 << 18)
                        if not piece:
                            break
                        got += len(piece)
            except OSError:
                errors += 1
        if count > 3000:
            break
    return count, errors


def write_file(path, mode, data):
    with open(path, mode) as f:
        f.write(data)


def write_a_little(root):
    errors = 0
    long_name = os.path.join(root, "a longer file name.dat")
    small, moved = os.path.join(root, "small.txt"), os.path.join(root, "dir", "moved.txt")
    for step in (lambda: write_file(os.path.join(root, "new file.txt"), "wb", b"x" * 10000),
                 lambda: os.mkdir(os.path.join(root, "new directory")),
                 lambda: write_file(long_name, "ab", b"y" * 5000),
                 lambda: os.truncate(long_name, 10),
                 lambda: os.rename(small, moved),
                 lambda: os.unlink(long_name)):
        try:
            step()
        except OSError:
            errors += 1
    return errors


def walk(root, mode, answer):
    count, errors = read_tree(root)
    if mode == "rw":
        errors += write_a_little(root)
    answer.send((count, errors))


def walk_with_limit(root, mode):
    """(names, errors), or None when it ended otherwise. A process of its own: it may hang."""
    receive, send = FORK.Pipe(duplex=False)
    process = FORK.Process(target=walk, args=(root, mode, send))
    process.start()
    send.close()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        raise subprocess.TimeoutExpired(["walk", mode], LIMIT)
    return receive.recv() if process.exitcode == 0 else None


def write_sparse(path, data):
    """Most of an image is zeros."""
    piece = 1 << 16
    with open(path, "wb") as f:
        for at in range(0, len(data), piece):
            part = data[at : at + piece]
            if part.strip(b"\0"):
                f.seek(at)
                f.write(part)
        f.truncate(len(data))


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


class Bench:
    """A place of its own to try images: an image file, a mount point, a log."""

    def __init__(self, berthfs, berth, scratch, number):
        self.berthfs, self.berth = berthfs, berth
        self.image, self.mnt, self.log = (
            os.path.join(scratch, f"{n}-evil-{number}") for n in ("image", "mnt", "log"))
        os.makedirs(self.mnt, exist_ok=True)

    def walk_and_unmount(self, mode, good):
        outcome = walk_with_limit(self.mnt, mode)
        if outcome is None:
            yield "the walk failed"
        if good and outcome[1] != 0:
            yield f"the good image gives {outcome[0]} names, {outcome[1]} errors"
        status = run([self.berth, "status", "--json", self.mnt]).stdout.decode("utf-8", "replace")
        if "dead" in status:
            yield f"the daemon died: {status}"
        u = run([self.berth, "umount", self.mnt])
        if u.returncode != 0:
            yield f"umount exit {u.returncode}: {u.stdout}"

    def trial(self, data, mode, good, result):
        """Yields problems; counts into result."""
        write_sparse(self.image, data)
        with open(self.log, "wb") as log:
            r = subprocess.run([self.berthfs, "-t", "fat", "-o", mode, self.image, self.mnt],
                               stdout=log, stderr=log, timeout=LIMIT)
        if r.returncode == 0:
            result["mounted"] += 1
            yield from self.walk_and_unmount(mode, good)
        else:
            result["refused"] += 1
            said = read_file(self.log)
            if os.path.ismount(self.mnt):
                yield "failed but is mounted"
            if said.count(b"\n") != 1 or r.returncode < 0:
                yield f"exit {r.returncode} and said {said!r}"
            if good:
                yield f"the good image is refused: {said}"
        said = read_file(self.log).decode("utf-8", "replace")
        if any(bad in said for bad in ("Sanitizer", "runtime error", "signal", "Assertion", "stack smashing")):
            yield said[-1500:]
        after = read_file(self.image)
        if len(after) != len(data):
            yield f"image length changed from {len(data)} to {len(after)}"
        if mode == "ro" and after != data:
            yield "a read-only mount changed the image"

    def try_image(self, name, data, mode):
        result = {"mounted": 0, "refused": 0, "problems": []}
        try:
            for problem in self.trial(data, mode, name.endswith("-good"), result):
                result["problems"].append(f"{name} ({mode}): {problem}")
        except subprocess.TimeoutExpired as e:
            result["problems"].append(f"{name} ({mode}): hangs: {e.cmd[:3]}")
            subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL)
            subprocess.run(["pkill", "-9", "-f", self.image], stderr=subprocess.DEVNULL)
        return result


def child(bench, number, name, data, mode, results):
    result = {"mounted": 0, "refused": 0, "problems": [f"{name} ({mode}): the test itself failed"]}
    try:
        result = bench.try_image(name, data, mode)
    finally:
        results.put((number, result))


def main():
    only = sys.argv[4] if len(sys.argv) > 4 else ""
    modes = os.environ.get("BERTH_TEST_EVIL_MODES", "ro rw").split()
    # Mounts spend much of their time waiting: twice as many as there are processors.
    benches = [Bench(*sys.argv[1:4], number) for number in range(2 * (os.cpu_count() or 1))]
    free, children = list(range(len(benches))), {}
    results = FORK.SimpleQueue()
    total = {"mounted": 0, "refused": 0, "problems": []}

    def collect():
        number, result = results.get()
        children.pop(number).join()
        free.append(number)
        for key, value in result.items():
            total[key] += value

    stride = int(os.environ.get("BERTH_TEST_EVIL_STRIDE", "1"))
    for index, (name, data) in enumerate(fat_images.images()):
        for mode in modes if only in name and index % stride == 0 else ():
            if not free:
                collect()
            number = free.pop()
            children[number] = FORK.Process(
                target=child, args=(benches[number], number, name, data, mode, results))
            children[number].start()
    while children:
        collect()
    for line in total["problems"]:
        print(line)
    print(f"{total['mounted']} mounted, {total['refused']} refused, {len(total['problems'])} problems")
    return 1 if total["problems"] or total["mounted"] == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
