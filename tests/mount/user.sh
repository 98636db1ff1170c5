#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# As an ordinary user, through fusermount3: mount, write, list, unmount.
. "$(dirname "$0")/lib.sh"
need fusermount3 setpriv
[ "$(id -u)" = 0 ] || skip "this test starts as root to become somebody else"
make_image "$SCRATCH/u.img" 16m -F16
chmod 755 "$SCRATCH"
chown -R 65534:65534 "$SCRATCH"
as_user() {
    setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR HOME="$SCRATCH" "$@"
}
as_user test -x "$BERTHFS" || skip "the build directory is not readable for other users"
as_user "$BERTHFS" "$SCRATCH/u.img" "$MNT" || fail "an ordinary user cannot mount: exit $?"
as_user sh -c "echo hello >'$MNT/hello.txt' && cat '$MNT/hello.txt'" | says -x hello
[ "$(as_user stat -c %u:%g "$MNT/hello.txt")" = 65534:65534 ] || fail "owner is not the mounting user"
as_user "$BERTH" list | says "$MNT" || fail "berth list does not show it"
as_user "$BERTH" umount "$MNT" || fail "an ordinary user cannot unmount"
! mountpoint -q "$MNT" || fail "still mounted"
fsck_clean "$SCRATCH/u.img"
mtype -i "$SCRATCH/u.img" ::hello.txt | says -x hello
