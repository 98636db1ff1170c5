#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A file's mtime is that of its last write(2), however much later the data is written and stored, and although
# the front-end keeps to itself what would change nothing on the volume (two seconds are FAT's step).
. "$(dirname "$0")/lib.sh"
need python3
make_image "$SCRATCH/t.img" 64m -F32
do_mount "$SCRATCH/t.img" "$MNT"
python3 - "$MNT" "$SCRATCH/expected" <<'PYTHON'
import json, os, sys, time

MOUNT, EXPECTED = sys.argv[1:]
NAMES = ["sync", "large", "close", "fsync"] + [f"many {i}" for i in range(20)]
expected = {}


def now():
    return int(time.time()) // 2 * 2


def write(fd, name, length):
    """The kernel stamps with its coarse clock: a write near a step may get either side of it."""
    while not 0.1 < time.time() % 2 < 1.5:
        time.sleep(0.02)
    expected[name] = now()
    os.write(fd, b"t" * length)
    assert expected[name] == now(), "this machine is too slow for this test"


def create(name):
    return os.open(os.path.join(MOUNT, name), os.O_CREAT | os.O_WRONLY)


files = {name: create(name) for name in NAMES + ["late"]}
for name in NAMES:
    write(files[name], name, 3000000 if name == "large" else 20000)
time.sleep(2.5)
write(files["late"], "late", 1)  # long after it was created
os.close(files.pop("close"))
os.fsync(files["fsync"])
os.close(files.pop("late"))
os.sync()  # starts all writing, then waits: times are stored while data is under way
fd = os.open(os.path.join(MOUNT, "many 0"), os.O_WRONLY | os.O_APPEND)
write(fd, "many 0", 10)
os.close(fd)
os.utime(os.path.join(MOUNT, "many 1"), (10 ** 9, 10 ** 9))
expected["many 1"] = 10 ** 9
os.rename(os.path.join(MOUNT, "many 2"), os.path.join(MOUNT, "renamed"))
expected["renamed"] = expected.pop("many 2")
for fd in files.values():
    os.close(fd)
with open(EXPECTED, "w") as file:
    json.dump(expected, file)
PYTHON
do_umount "$MNT"
do_mount "$SCRATCH/t.img" "$MNT"
python3 - "$MNT" "$SCRATCH/expected" <<'PYTHON'
import json, os, sys

with open(sys.argv[2]) as file:
    expected = json.load(file)
wrong = {name: os.stat(os.path.join(sys.argv[1], name)).st_mtime - mtime
         for name, mtime in expected.items()}
wrong = {name: error for name, error in wrong.items() if error != 0}
sys.exit(f"mtimes that are off by seconds: {wrong}" if wrong else 0)
PYTHON
do_umount "$MNT"
fsck_clean "$SCRATCH/t.img"
