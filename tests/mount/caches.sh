#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the caches of the kernel and of the front-end must not get wrong: truncation without OPEN,
# modes that nobody but the kernel checks, names under many spellings, files without a name.
. "$(dirname "$0")/lib.sh"
need python3

# forget_all: what is read next comes from the image.
forget_all() {
    if [ "$(id -u)" = 0 ]; then
        sync
        echo 3 >/proc/sys/vm/drop_caches
    else
        do_umount "$MNT"
        do_mount "$IMG" "$MNT"
    fi
}

IMG=$SCRATCH/caches.img
make_image "$IMG" 64m -F32
do_mount "$IMG" "$MNT"

note "truncation at open"
head -c 100000 /dev/zero >"$MNT/f"
cat "$MNT/f" >/dev/null
: >"$MNT/f"
[ "$(stat -c %s "$MNT/f")" = 0 ] || fail "size $(stat -c %s "$MNT/f") after : >f"
forget_all
[ "$(stat -c %s "$MNT/f")" = 0 ] || fail "the old contents are back: $(stat -c %s "$MNT/f") bytes"
head -c 100000 /dev/zero >"$MNT/f"
echo short >"$MNT/f"
forget_all
[ "$(cat "$MNT/f")" = short ] || fail "$(stat -c %s "$MNT/f") bytes after echo >f"

note "suid and sgid never come to be, or go with a write"
chmod 6755 "$MNT/f" 2>/dev/null || true
echo more >>"$MNT/f"
[ $((0$(stat -c %a "$MNT/f") & 06000)) = 0 ] || fail "mode $(stat -c %a "$MNT/f") after a write"
forget_all
[ $((0$(stat -c %a "$MNT/f") & 06000)) = 0 ] || fail "mode $(stat -c %a "$MNT/f") on the medium"

note "names against a model, in any spelling"
mkdir "$MNT/model"
python3 "$HERE/caches.py" "$MNT/model" "${BERTH_TEST_SEED:-1}" "${BERTH_TEST_ROUNDS:-3000}"

note "files without a name"
python3 - "$MNT" <<'PYTHON'
import os, sys, time

os.chdir(sys.argv[1])
name = "nameless"
before = os.statvfs(".").f_bfree
fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
os.write(fd, b"n" * 300000)
os.fsync(fd)
other = os.open(name.upper(), os.O_RDONLY)
os.unlink(name)
os.utime(fd, (1e9, 1e9))
os.fchmod(fd, 0o755)
os.ftruncate(fd, 1000)
os.pwrite(fd, b"x", 500)
os.fsync(fd)
stat = os.fstat(fd)
assert (stat.st_size, stat.st_nlink) == (1000, 0), stat
assert os.pread(other, 2, 499) == b"nx"
for spelling in (name, name.upper(), "NameLess"):
    assert not os.path.exists(spelling), spelling
again = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
assert os.fstat(again).st_ino != stat.st_ino, "a new file has the number of one that is still open"
assert os.fstat(again).st_size == 0
for each in (fd, other, again):
    os.close(each)
os.unlink(name)
for _ in range(50):  # the last references go when the kernel gets to it
    after = os.statvfs(".").f_bfree
    if after == before:
        break
    time.sleep(0.1)
assert after == before, f"{before} blocks free before, {after} afterwards"
PYTHON
do_umount "$MNT"
fsck_clean "$IMG"

if [ "$(id -u)" = 0 ]; then
    note "modes are enforced for others"
    chmod 711 "$SCRATCH"
    do_mount "$IMG" "$MNT" -o allow_other,uid=65534,gid=65534,fmask=022,dmask=022
    other() {
        setpriv --reuid "$1" --regid "$1" --clear-groups bash -c "$2" 2>/dev/null
    }
    other 65534 "echo mine >$MNT/owned" || fail "the owner cannot create"
    other 65534 "echo mine >>$MNT/owned" || fail "the owner cannot append"
    ! other 65533 "echo his >>$MNT/owned" || fail "somebody else appends to a file of mode 0644"
    ! other 65533 "touch $MNT/his" || fail "somebody else creates in a directory of mode 0755"
    ! other 65533 "rm -f $MNT/owned" || fail "somebody else deletes"
    other 65533 "cat $MNT/owned" >/dev/null || fail "somebody else cannot read"
    other 65534 "chmod 444 $MNT/owned" || fail "the owner cannot write-protect"
    ! other 65534 "echo more >>$MNT/owned" || fail "the owner appends to a file of mode 0444"
    other 65534 "chmod 644 $MNT/owned && : >$MNT/owned" || fail "the owner cannot truncate"
    [ ! -s "$MNT/owned" ] || fail "truncation by an ordinary user is lost"
    do_umount "$MNT"
    do_mount "$IMG" "$MNT" -o allow_other,uid=65534,dmask=0222
    ! other 65534 "touch $MNT/new" || fail "creation in a directory of mode 0555"
    do_umount "$MNT"
    fsck_clean "$IMG"
fi
