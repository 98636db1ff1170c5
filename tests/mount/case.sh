#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One object, many spellings: what the kernel remembers of a name must not outlive what another
# spelling of it did. And how few messages the daemon gets for what is known already.
. "$(dirname "$0")/lib.sh"
need python3

make_image "$SCRATCH/case.img" 64m -F32
do_mount "$SCRATCH/case.img" "$MNT"
cd "$MNT"

gone() {
    [ ! -e "$1" ] || fail "$1 is still there after $2"
}
holds() {
    [ "$(cat "$1")" = "$2" ] || fail "$1 holds \"$(cat "$1")\", \"$2\" expected, after $3"
}

! stat FOO 2>/dev/null || fail "FOO exists"
echo one >foo
holds FOO one "its absence was remembered"
holds Foo one "creation"
[ "$(ls)" = foo ] || fail "listing: $(ls)"
rm FOO
gone foo "rm FOO"
gone Foo "rm FOO"
echo two >foo
stat foo >/dev/null
mv Foo bar
gone foo "mv Foo bar"
gone FOO "mv Foo bar"
holds BAR two "mv Foo bar"
echo three >other
stat bar >/dev/null
mv other BAR
holds bar three "mv other BAR"
[ "$(ls | wc -l)" = 1 ] || fail "listing: $(ls)"
mkdir dir
touch dir/inside
ls Dir >/dev/null
mv DIR moved
gone dir/inside "mv DIR moved"
[ -e moved/INSIDE ] || fail "moved/INSIDE is gone"
rm -r MOVED
gone moved "rm -r MOVED"
# In two steps, since one never leaves the kernel.
mv bar step
mv step Bar
[ "$(ls)" = Bar ] || fail "listing: $(ls)"

note "messages"
python3 - "$BERTH" "$MNT" <<'PYTHON'
import json, os, subprocess, sys

berth, mount = sys.argv[1:]


def counts():
    stats = json.loads(subprocess.check_output([berth, "stats", "--json", mount]))
    return {name: row["count"] for name, row in stats["requests"].items() if name != "GET_STATS"}


def spent(action):
    before = counts()
    action()
    after = counts()
    return {n: after[n] - before.get(n, 0) for n in after if after[n] != before.get(n, 0)}


def expect(what, action, allowed):
    got = spent(action)
    if any(got[n] > allowed.get(n, 0) for n in got):
        sys.exit(f"{what}: {got}, at most {allowed} expected")


def read(name):
    with open(name, "rb") as file:
        os.fstat(file.fileno())
        return file.read()


name = os.path.join(mount, "file")
with open(name, "wb") as file:
    file.write(b"x" * 10000)
read(name)
os.listdir(mount)
expect("stat of a known file", lambda: [os.stat(name) for _ in range(100)], {})
expect("open, fstat, read, close of a known file", lambda: [read(name) for _ in range(100)], {})
expect("listing a known directory", lambda: [os.listdir(mount) for _ in range(10)], {})


def create(i):
    os.close(os.open(f"{name}{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))


expect("creating 100 files", lambda: [create(i) for i in range(100)], {"LOOKUP": 100, "CREATE_FILE": 100})
expect("deleting 100 files", lambda: [os.unlink(f"{name}{i}") for i in range(100)], {"DELETE_FILE": 100, "EVICT": 100})
PYTHON
cd /
do_umount "$MNT"
fsck_clean "$SCRATCH/case.img"
