#!/bin/bash
# SPDX-License-Identifier: MIT
# Resource forks as files, DIR/..namedfork/NAME: of any size, read, written, cut, mapped, while their
# file is renamed, removed, given another fork as an attribute, and while the daemon dies. What is in
# them hfsutils say (MacBinary), and fsck.hfs that the volume is whole.
. "$(dirname "$0")/lib.sh"
need hformat hmount hcopy setfattr getfattr python3

export HOME=$SCRATCH
IMAGE=$SCRATCH/hfs.img
FSCK=$BERTH_BUILD/tools/fsck.hfs
XATTR_FORK=user.com.apple.ResourceFork
FORKS=$MNT/..namedfork

check() {
    "$FSCK" -n -f "$IMAGE" >"$SCRATCH/fsck" 2>&1 || fail "fsck.hfs: $(cat "$SCRATCH/fsck")"
}

# macbinary NAME: what hfsutils find, its two forks into data and rsrc.
macbinary() {
    hmount "$IMAGE" 0 >/dev/null
    hcopy -m "$1" "$SCRATCH/file.bin"
    humount >/dev/null
    python3 - "$SCRATCH/file.bin" "$SCRATCH/data" "$SCRATCH/rsrc" <<'END'
import struct, sys
with open(sys.argv[1], "rb") as f:
    whole = f.read()
data, resource = struct.unpack(">II", whole[83:91])
start = 128 + (data + 127) // 128 * 128
open(sys.argv[2], "wb").write(whole[128:128 + data])
open(sys.argv[3], "wb").write(whole[start:start + resource])
END
}

# refused ERRNO COMMAND: fails, and with this.
refused() {
    if "${@:2}" 2>"$SCRATCH/error"; then fail "not refused: ${*:2}"; fi
    grep -q "$1" "$SCRATCH/error" || fail "${*:2}: $(cat "$SCRATCH/error")"
}

truncate -s 40m "$IMAGE"
hformat -l Forks "$IMAGE" 0 >/dev/null
head -c 5242981 /dev/urandom >"$SCRATCH/fork"
head -c 70000 /dev/urandom >"$SCRATCH/bytes"

note "writing forks of any size"
do_mount "$IMAGE" "$MNT"
mkdir "$MNT/Folder"
cp "$SCRATCH/bytes" "$MNT/Folder/App"
echo data >"$MNT/Small"
[ "$(stat -c '%F %s' "$FORKS/small")" = "regular empty file 0" ] || fail "a fork that is not there yet"
cp "$SCRATCH/fork" "$MNT/Folder/..namedfork/App"
cmp "$SCRATCH/fork" "$MNT/Folder/..namedfork/APP" || fail "a fork of 5 MiB"
printf 'resource bytes' >"$FORKS/Small"
printf ' and more' >>"$FORKS/Small"
[ "$(getfattr --only-values -n $XATTR_FORK "$MNT/Small")" = "resource bytes and more" ] || fail "as an attribute"
refused "too long" getfattr --only-values -n $XATTR_FORK "$MNT/Folder/App"
cmp "$SCRATCH/bytes" "$MNT/Folder/App" || fail "the data fork has changed"
[ "$(cat "$MNT/Small")" = data ] || fail "the other data fork has changed"
[ "$(stat -c %i "$FORKS/Small")" = $(($(stat -c %i "$MNT/Small") + (1 << 32))) ] || fail "the node id of a fork"
[ "$(stat -c %i "$FORKS")" = $(($(stat -c %i "$MNT") + (2 << 32))) ] || fail "the node id of the list"
[ "$(ls -A "$MNT" | tr '\n' ' ')" = "Folder Small " ] || fail "listed: $(ls -A "$MNT")"
[ "$(ls -A "$FORKS")" = Small ] || fail "forks listed: $(ls -A "$FORKS")"
[ "$(find "$MNT" | wc -l)" = 4 ] || fail "found: $(find "$MNT")"
python3 - "$FORKS/Small" "$MNT/Folder/..namedfork/App" <<'END' || fail "mappings and sizes"
import mmap, os, sys
small, big = sys.argv[1:]
with open(small, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
    m[0:8] = b"RESOURCE"
    m.flush()
    os.fsync(f.fileno())
assert open(small, "rb").read() == b"RESOURCE bytes and more"
with open(big, "r+b") as f:
    f.truncate(100000)
    f.truncate(300000)
    f.seek(299990)
    f.write(b"0123456789abc")
    f.flush()
    os.fsync(f.fileno())
    assert os.fstat(f.fileno()).st_size == 300003
    f.seek(100000)
    assert f.read(100) == bytes(100)
    os.posix_fallocate(f.fileno(), 0, 400000)
    f.truncate(300003)
END
(head -c 100000 "$SCRATCH/fork"; head -c 199990 /dev/zero; printf 0123456789abc) >"$SCRATCH/fork2"
cmp "$SCRATCH/fork2" "$MNT/Folder/..namedfork/App" || fail "cut and grown"
do_umount "$MNT"
check
macbinary ":Folder:App"
cmp "$SCRATCH/rsrc" "$SCRATCH/fork2" || fail "hcopy -m: another fork"
cmp "$SCRATCH/data" "$SCRATCH/bytes" || fail "hcopy -m: other data"
do_mount "$IMAGE" "$MNT" -o case=exact
cat "$SCRATCH/fork" >"$MNT/Folder/..namedfork/App"
[ ! -e "$FORKS/new" ] || fail "the fork of nothing"
touch "$MNT/new"
[ -e "$FORKS/new" ] || fail "no fork of a new file"
[ ! -e "$FORKS/New" ] || fail "another case"
do_umount "$MNT"
macbinary ":Folder:App"
cmp "$SCRATCH/rsrc" "$SCRATCH/fork" || fail "hcopy -m: another fork of 5 MiB"

note "what forks are not"
do_mount "$IMAGE" "$MNT"
refused "No such file" cp "$SCRATCH/bytes" "$FORKS/none"
refused "not permitted" mkdir "$FORKS/dir"
refused "not permitted" ln -s x "$FORKS/link"
refused "not permitted" ln "$FORKS/Small" "$MNT/link"
refused "not permitted" mv -T "$FORKS" "$MNT/else"
refused "not permitted" rmdir "$FORKS"
refused "File exists" mkdir "$FORKS"
refused "not permitted" touch "$FORKS"
refused "not permitted" python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$FORKS/Small" "$MNT/new"
refused "not permitted" python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$MNT/new" "$FORKS/Small"
refused "not supported" setfattr -n $XATTR_FORK -v x "$FORKS/Small"
[ -z "$(getfattr -d "$FORKS/Small")" ] || fail "attributes of a fork"
refused "No such file" ls "$FORKS/Folder"
refused "Not a directory" cat "$MNT/Small/..namedfork/rsrc" # the kernel's: nobody is asked

note "a fork without its file, with another name, with other bytes"
python3 - "$MNT" <<'END' || fail "held forks"
import errno, os, sys, time
root = sys.argv[1]
forks = root + "/..namedfork/"

def held(name, size):
    with open(f"{root}/{name}", "wb") as f:
        f.write(b"d" * 1000)
    f = open(forks + name, "w+b", buffering=0)
    f.write(b"r" * size)
    return f

# unlinked
free = os.statvfs(root).f_bfree
f = held("gone", 300000)
os.unlink(root + "/gone")
assert not os.path.exists(forks + "gone")
assert os.pread(f.fileno(), 10, 299995) == b"r" * 5
f.write(b"s" * 300000)
os.fsync(f.fileno())
f.close()
for _ in range(100):
    if os.statvfs(root).f_bfree == free:
        break
    time.sleep(0.1)
assert os.statvfs(root).f_bfree == free, "its space is still in use"
# replaced, and the new file has a fork of its own
f, g = held("one", 5000), held("two", 100)
os.rename(root + "/two", root + "/one")
assert os.path.getsize(forks + "one") == 100
f.write(b"t" * 5000)
assert os.fstat(f.fileno()).st_size == 10000
assert os.pread(f.fileno(), 20000, 0) == b"r" * 5000 + b"t" * 5000
g.write(b"g")
assert os.path.getsize(forks + "one") == 101
# renamed
os.mkdir(root + "/elsewhere")
os.rename(root + "/one", root + "/elsewhere/Three")
g.write(b"h")
os.fsync(g.fileno())
assert os.path.getsize(root + "/elsewhere/..namedfork/three") == 102
assert not os.path.exists(forks + "one")
f.close()
g.close()
# removed by itself: the file stays
f = held("four", 1000)
f.close()
os.unlink(forks + "four")
assert os.path.getsize(forks + "four") == 0 and os.path.getsize(root + "/four") == 1000
# another fork as an attribute: nobody sees the old one's bytes or size
f = held("five", 50000)
os.fsync(f.fileno())
for size in (7, 60000, 1):
    os.setxattr(root + "/five", "user.com.apple.ResourceFork", b"x" * size)
    with open(forks + "five", "rb") as new:
        assert new.read() == b"x" * size, size
try:
    os.pread(f.fileno(), 10, 0)
    raise AssertionError("the old one can be read")
except OSError as e:
    assert e.errno == errno.EIO, e
try:
    f.close()
except OSError:
    pass
os.removexattr(root + "/five", "user.com.apple.ResourceFork")
assert os.path.getsize(forks + "five") == 0
END
do_umount "$MNT"
check

note "archives"
do_mount "$IMAGE" "$MNT"
(cd "$MNT" && tar cf "$SCRATCH/forks.tar" -C "$MNT/Folder/..namedfork" .)
tar tf "$SCRATCH/forks.tar" | grep -q '^./App$' || fail "tar of the forks"
rm -r "$MNT/elsewhere" "$MNT/Folder"
do_umount "$MNT"
check
echo ok
