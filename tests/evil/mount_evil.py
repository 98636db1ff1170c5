#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mounts every image of fat_images.py, walks it, reads everything, writes a little, unmounts.

Nothing may crash, hang or be left behind; a refusal is one clear line; the good image must work; and
whatever happened, not one byte outside the image's length may be written.

usage: mount_evil.py BERTHFS BERTH SCRATCH [NAME-PART]
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fat_images  # noqa: E402

LIMIT = 20  # seconds for any single command


def run(cmd, **kw):
    return subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, **kw)


WALK = r"""
import os, sys
root, writing = sys.argv[1], sys.argv[2] == "rw"
count = errors = 0
for base, dirs, files in os.walk(root, onerror=lambda e: None):
    if base.count("/") - root.count("/") > 12:
        dirs[:] = []
    for name in files:
        count += 1
        if count > 3000:
            sys.exit(0)
        try:
            with open(os.path.join(base, name), "rb") as f:
                got = 0
                while got < 3000000:
                    piece = f.read(1 << 18)
                    if not piece:
                        break
                    got += len(piece)
        except OSError as e:
            errors += 1
    for name in dirs:
        count += 1
        if count > 3000:
            sys.exit(0)
if writing:
    for step in (lambda: open(os.path.join(root, "new file.txt"), "wb").write(b"x" * 10000),
                 lambda: os.mkdir(os.path.join(root, "new directory")),
                 lambda: open(os.path.join(root, "a longer file name.dat"), "ab").write(b"y" * 5000),
                 lambda: os.truncate(os.path.join(root, "a longer file name.dat"), 10),
                 lambda: os.rename(os.path.join(root, "small.txt"), os.path.join(root, "dir", "moved.txt")),
                 lambda: os.unlink(os.path.join(root, "a longer file name.dat")),
                 lambda: os.sync()):
        try:
            step()
        except OSError as e:
            errors += 1
print(f"{count} names, {errors} errors")
"""


def main():
    berthfs, berth, scratch = sys.argv[1:4]
    only = sys.argv[4] if len(sys.argv) > 4 else ""
    image, mnt, log = (os.path.join(scratch, n) for n in ("evil.img", "mnt-evil", "log"))
    os.makedirs(mnt, exist_ok=True)
    problems, mounted, refused = [], 0, 0
    for name, data in fat_images.images():
        if only not in name:
            continue
        for mode in ("ro", "rw"):
            with open(image, "wb") as f:
                f.write(data)
            what = f"{name} ({mode})"
            try:
                with open(log, "wb") as log_file:
                    r = subprocess.run([berthfs, "-t", "fat", "-o", mode, image, mnt], stdout=log_file,
                                       stderr=log_file, timeout=LIMIT)
                said = open(log, "rb").read().decode("utf-8", "replace")
                if r.returncode != 0:
                    refused += 1
                    if os.path.ismount(mnt):
                        problems.append(f"{what}: failed but is mounted")
                    if not said.strip() or r.returncode < 0:
                        problems.append(f"{what}: exit {r.returncode} and said {said!r}")
                    if name.endswith("-good"):
                        problems.append(f"{what}: the good image is refused: {said}")
                else:
                    mounted += 1
                    w = run([sys.executable, "-c", WALK, mnt, mode])
                    if w.returncode != 0:
                        problems.append(f"{what}: walk exit {w.returncode}: {w.stdout[-300:]}")
                    if name.endswith("-good") and b" 0 errors" not in w.stdout:
                        problems.append(f"{what}: the good image gives {w.stdout}")
                    status = run([berth, "status", "--json", mnt]).stdout.decode("utf-8", "replace")
                    if "dead" in status:
                        problems.append(f"{what}: the daemon died: {status}")
                    u = run([berth, "umount", mnt])
                    if u.returncode != 0:
                        problems.append(f"{what}: umount exit {u.returncode}: {u.stdout}")
                said = open(log, "rb").read().decode("utf-8", "replace")
                for bad in ("Sanitizer", "runtime error", "signal", "Assertion", "stack smashing"):
                    if bad in said:
                        problems.append(f"{what}: {said[-1500:]}")
                        break
                after = open(image, "rb").read()
                if len(after) != len(data):
                    problems.append(f"{what}: image length changed from {len(data)} to {len(after)}")
                if mode == "ro" and after != data:
                    problems.append(f"{what}: a read-only mount changed the image")
            except subprocess.TimeoutExpired as e:
                problems.append(f"{what}: hangs: {e.cmd[:3]}")
                subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL)
                subprocess.run(["pkill", "-9", "-f", image], stderr=subprocess.DEVNULL)
    for line in problems:
        print(line)
    print(f"{mounted} mounted, {refused} refused, {len(problems)} problems")
    return 1 if problems or mounted == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
