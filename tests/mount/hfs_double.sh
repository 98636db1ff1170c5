#!/bin/bash
# SPDX-License-Identifier: MIT
# -o appledouble: ._NAME beside each file that has Finder information or a resource fork. Read by a
# decoder of our own (hfs_double.py) and by `berth get`'s form; written by cp, tar and rsync, from
# files as a Mac and as others make them; judged by hfsutils (MacBinary) and fsck.hfs.
. "$(dirname "$0")/lib.sh"
need hformat hmount hcopy setfattr getfattr python3

export HOME=$SCRATCH
IMAGE=$SCRATCH/hfs.img
FSCK=$BERTH_BUILD/tools/fsck.hfs
XATTR_INFO=user.com.apple.FinderInfo
XATTR_FORK=user.com.apple.ResourceFork

check() {
    "$FSCK" -n -f "$IMAGE" >"$SCRATCH/fsck" 2>&1 || fail "fsck.hfs: $(cat "$SCRATCH/fsck")"
}

double() {
    python3 "$HERE/hfs_double.py" "$@"
}

# refused ERRNO COMMAND: fails, and with this.
refused() {
    if "${@:2}" 2>"$SCRATCH/error"; then fail "not refused: ${*:2}"; fi
    grep -q "$1" "$SCRATCH/error" || fail "${*:2}: $(cat "$SCRATCH/error")"
}

truncate -s 40m "$IMAGE"
hformat -l Doubles "$IMAGE" 0 >/dev/null
head -c 3000001 /dev/urandom >"$SCRATCH/fork"
head -c 5000 /dev/urandom >"$SCRATCH/small"
printf 'TEXTttxt%024d' 0 >"$SCRATCH/info"

note "reading"
do_mount "$IMAGE" "$MNT"
echo plain >"$MNT/plain"
echo data >"$MNT/both"
cat "$SCRATCH/fork" >"$MNT/..namedfork/both"
setfattr -n $XATTR_INFO -v "0x$(xxd -p -c 64 "$SCRATCH/info")" "$MNT/both"
echo data >"$MNT/little"
cat "$SCRATCH/small" >"$MNT/..namedfork/little"
echo data >"$MNT/informed"
setfattr -n $XATTR_INFO -v "0x$(xxd -p -c 64 "$SCRATCH/info")" "$MNT/informed"
do_umount "$MNT"
do_mount "$IMAGE" "$MNT" -o ro,appledouble
[ "$(ls -A "$MNT" | sort | tr '\n' ' ')" = "._both ._informed ._little both informed little plain " ] || fail "listed: $(ls -A "$MNT")"
[ ! -e "$MNT/._plain" ] || fail "there is nothing beside plain"
[ ! -e "$MNT/..namedfork" ] || fail "both views at once"
[ "$(stat -c %i "$MNT/._both")" = $(($(stat -c %i "$MNT/both") + (3 << 32))) ] || fail "the node id"
double check "$MNT/._both" "$SCRATCH/info" "$SCRATCH/fork" || fail "._both"
double check "$MNT/._informed" "$SCRATCH/info" /dev/null || fail "._informed"
cmp <(tail -c +100001 "$MNT/._both") <(tail -c +99919 "$SCRATCH/fork") || fail "from the middle"
cmp <(dd if="$MNT/._both" bs=7 skip=11 count=2 status=none) <(head -c 91 "$MNT/._both" | tail -c 14) || fail "over the end of the header"
cp "$MNT/._little" "$MNT/._informed" "$SCRATCH"
do_umount "$MNT"
mkdir "$SCRATCH/got"
for name in little informed; do
    (cd "$SCRATCH/got" && "$BERTH" get --as=appledouble "$IMAGE:/$name" >/dev/null) || fail "berth get"
    double same "$SCRATCH/got/._$name" "$SCRATCH/._$name" || fail "berth get has another ._$name"
done

note "writing"
double make plain "$SCRATCH/info" "$SCRATCH/small" >"$SCRATCH/mac" # as a Mac does without attributes
double make attributes "$SCRATCH/info" "$SCRATCH/fork" >"$SCRATCH/mac-attributes"
double make netatalk "$SCRATCH/info" "$SCRATCH/small" >"$SCRATCH/netatalk"
double make fork-only /dev/null "$SCRATCH/small" >"$SCRATCH/fork-only"
double make fork-first "$SCRATCH/info" "$SCRATCH/small" >"$SCRATCH/fork-first"
do_mount "$IMAGE" "$MNT" -o appledouble
for kind in mac mac-attributes netatalk fork-only; do
    echo "the data of $kind" >"$MNT/$kind"
    cp "$SCRATCH/$kind" "$MNT/._$kind" || fail "cp of $kind"
    cmp "$SCRATCH/$kind" "$MNT/._$kind" || fail "$kind, from the cache"
    [ "$(cat "$MNT/$kind")" = "the data of $kind" ] || fail "$kind: data"
done
do_umount "$MNT"
check
do_mount "$IMAGE" "$MNT" -o appledouble
for kind in mac mac-attributes netatalk; do
    double same "$SCRATCH/$kind" "$MNT/._$kind" || fail "$kind, from the volume"
done
double check "$MNT/._fork-only" - "$SCRATCH/small" || fail "fork-only, from the volume"
cmp "$SCRATCH/mac" "$MNT/._mac" || fail "a Mac's own is not the same"
mkdir "$MNT/copy" "$MNT/copy/a"
cp "$MNT/mac" "$MNT/mac-attributes" "$MNT/copy"
cp "$MNT/._mac" "$MNT/._mac-attributes" "$MNT/copy"
tar cf "$SCRATCH/copy.tar" -C "$MNT/copy" mac ._mac mac-attributes ._mac-attributes
tar xf "$SCRATCH/copy.tar" -C "$MNT/copy/a" || fail "tar"
for name in mac mac-attributes; do
    double same "$MNT/copy/a/._$name" "$MNT/._$name" || fail "$name, by tar"
done
if command -v rsync >/dev/null; then
    mkdir "$MNT/rsync"
    cp "$MNT/mac" "$MNT/rsync/mac"
    rsync --inplace "$MNT/._mac" "$MNT/rsync/._mac" || fail "rsync --inplace"
    double same "$MNT/rsync/._mac" "$MNT/._mac" || fail "by rsync"
fi
python3 - "$MNT" "$SCRATCH/mac" <<'END' || fail "pieces"
import os, sys
root, mac = sys.argv[1], open(sys.argv[2], "rb").read()
name = root + "/._mac"
# in place: the Finder's information, the fork's bytes, its end
fd = os.open(name, os.O_RDWR)
os.pwrite(fd, b"APPLaplt", 50)
os.pwrite(fd, b"fork bytes", 82 + 100)
os.fsync(fd)
info = os.getxattr(root + "/mac", "user.com.apple.FinderInfo")
assert info[:8] == b"APPLaplt" and info[8:] == mac[58:82], info
want = bytearray(mac[82:])
want[100:110] = b"fork bytes"
assert os.getxattr(root + "/mac", "user.com.apple.ResourceFork") == bytes(want)
os.ftruncate(fd, 82 + 50)
assert os.getxattr(root + "/mac", "user.com.apple.ResourceFork") == bytes(want[:50])
os.close(fd)
# through the attributes
os.setxattr(root + "/mac", "user.com.apple.ResourceFork", b"other")
os.setxattr(root + "/mac", "user.com.apple.FinderInfo", b"PICTogle" + bytes(24))
with open(name, "rb") as f:
    now = f.read()
assert now[50:58] == b"PICTogle" and now[82:] == b"other" and len(now) == 87, now
# away, and there again
os.unlink(name)
assert not os.path.exists(name) and os.path.exists(root + "/mac")
assert os.listxattr(root + "/mac") == []
fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
assert os.path.getsize(name) == 0
os.write(fd, mac)
os.close(fd)
assert open(name, "rb").read() == mac
# held while its file goes
fd = os.open(name, os.O_RDWR)
os.unlink(root + "/mac")
assert not os.path.exists(name)
os.pwrite(fd, b"still", 82)
os.fsync(fd)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
assert os.pread(fd, 5, 82) == b"still"
os.close(fd)
END

note "what is refused"
echo data >"$MNT/new"
head -c 9000 /dev/urandom >"$SCRATCH/noise"
refused "Invalid argument" dd if="$SCRATCH/noise" of="$MNT/._new" bs=9000 conv=fsync status=none
refused "Invalid argument" dd if="$SCRATCH/fork-first" of="$MNT/._new" bs=9000 conv=fsync status=none
[ -z "$(getfattr -d "$MNT/new" 2>/dev/null | grep Resource)" ] || fail "noise in the fork"
touch "$MNT/x"
refused "not permitted" python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$MNT/x" "$MNT/._both"
refused "not permitted" python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$MNT/x" "$MNT/._plain"
refused "not permitted" python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$MNT/._both" "$MNT/y"
mv "$MNT/both" "$MNT/moved"
[ ! -e "$MNT/._both" ] || fail "._both stayed behind"
double check "$MNT/._moved" "$SCRATCH/info" "$SCRATCH/fork" || fail "._moved"
echo "nobody's" >"$MNT/._nobody" # an ordinary file
for i in $(seq 150); do
    echo "$i" >"$MNT/copy/listed $i"
    [ $((i % 3)) != 0 ] || setfattr -n $XATTR_INFO -v "0x$(xxd -p -c 64 "$SCRATCH/info")" "$MNT/copy/listed $i"
done
[ "$(ls -A "$MNT/copy" | grep -c '^._listed')" = 50 ] || fail "listing: $(ls -A "$MNT/copy" | grep -c '^._listed')"
[ "$(ls -A "$MNT/copy" | sort | uniq -d | wc -l)" = 0 ] || fail "listed twice"
rm -r "$MNT/copy" || fail "rm -r"
do_umount "$MNT"
check
hmount "$IMAGE" 0 >/dev/null
hcopy -m ":mac-attributes" "$SCRATCH/file.bin"
humount >/dev/null
python3 - "$SCRATCH/file.bin" "$SCRATCH/fork" <<'END' || fail "hcopy -m"
import struct, sys
whole, fork = (open(name, "rb").read() for name in sys.argv[1:])
data, resource = struct.unpack(">II", whole[83:91])
start = 128 + (data + 127) // 128 * 128
assert whole[start:start + resource] == fork and whole[65:73] == b"TEXTttxt"
END
echo ok
