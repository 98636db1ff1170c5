#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From end to end: an image of mkfs.fat and mtools mounts, reads right, takes writes, and is clean
# in the eyes of fsck.fat and mtools afterwards. And what mount(8) expects of a mount program.
. "$(dirname "$0")/lib.sh"
need mmd mdir

IMG=$SCRATCH/smoke.img
make_image "$IMG" 64m -F32
printf 'hello world\n' >"$SCRATCH/hello"
head -c 300000 /dev/urandom >"$SCRATCH/random"
mmd -i "$IMG" ::Directory
mcopy -i "$IMG" "$SCRATCH/hello" "::A long file name.txt"
mcopy -i "$IMG" "$SCRATCH/random" ::Directory/random.bin

note "read-only"
before=$(sha256sum "$IMG")
do_mount "$IMG" "$MNT" -o ro
cmp "$MNT/A long file name.txt" "$SCRATCH/hello" || fail "contents differ"
cmp "$MNT/directory/RANDOM.BIN" "$SCRATCH/random" || fail "contents differ, or names do not fold"
[ "$(ls "$MNT")" = $'A long file name.txt\nDirectory' ] || fail "listing: $(ls "$MNT")"
! touch "$MNT/new" 2>/dev/null || fail "a read-only mount takes writes"
findmnt -no OPTIONS "$MNT" | says '^ro,nosuid,nodev' || fail "options: $(findmnt -no OPTIONS "$MNT")"
[ "$(findmnt -no SOURCE "$MNT")" = "$IMG" ] || fail "source: $(findmnt -no SOURCE "$MNT")"
do_umount "$MNT"
[ "$before" = "$(sha256sum "$IMG")" ] || fail "a read-only mount changed the image"

note "read-write"
do_mount "$IMG" "$MNT"
cp "$SCRATCH/random" "$MNT/copy"
mkdir "$MNT/d"
mv "$MNT/copy" "$MNT/d/moved"
: >"$MNT/A long file name.txt"
[ ! -s "$MNT/A long file name.txt" ] || fail "truncation at open is lost"
printf 'one\n' >>"$MNT/d/log"
printf 'two\n' >>"$MNT/d/log"
rm "$MNT/Directory/random.bin"
rmdir "$MNT/Directory"
exec 5<>"$MNT/unlinked"
printf 'still here' >&5
rm "$MNT/unlinked"
[ "$(stat -L -c %s /proc/self/fd/5)" = 10 ] || fail "an unlinked open file is gone"
exec 5>&-
name=$(printf 'x%.0s' $(seq 256))
touch "$MNT/$name" 2>"$SCRATCH/error" && fail "a name of 256 bytes"
grep -q 'File name too long' "$SCRATCH/error" || fail "$(cat "$SCRATCH/error")"

note "a second mount is refused, and told why"
mkdir "$SCRATCH/mnt2"
code=0
"$BERTHFS" "$IMG" "$SCRATCH/mnt2" 2>"$SCRATCH/error" || code=$?
[ $code = 32 ] || fail "exit code $code, 32 expected"
grep -q "$MNT" "$SCRATCH/error" || fail "does not say who has it: $(cat "$SCRATCH/error")"
do_umount "$MNT"
fsck_clean "$IMG"
mcopy -n -i "$IMG" ::d/moved "$SCRATCH/moved"
cmp "$SCRATCH/moved" "$SCRATCH/random" || fail "mtools reads something else"
[ "$(mtype -i "$IMG" ::d/log)" = $'one\ntwo' ] || fail "appending: $(mtype -i "$IMG" ::d/log)"

note "without a daemon"
do_mount "$IMG" "$MNT" -o direct
cmp "$MNT/d/moved" "$SCRATCH/random" || fail "contents differ"
cp "$SCRATCH/hello" "$MNT/again"
do_umount "$MNT"
fsck_clean "$IMG"

note "errors are one line and an exit code"
for case in "32 $SCRATCH/absent.img $MNT" "32 $IMG $SCRATCH/absent" "32 /dev/zero $MNT" "32 $SCRATCH/random $MNT"; do
    # shellcheck disable=SC2086
    set -- $case
    code=0
    "$BERTHFS" "$2" "$3" 2>"$SCRATCH/error" || code=$?
    [ $code = "$1" ] || fail "berthfs $2 $3: exit code $code, $1 expected"
    [ "$(wc -l <"$SCRATCH/error")" = 1 ] || fail "berthfs $2 $3: $(cat "$SCRATCH/error")"
done

note "in the foreground, ended by SIGTERM"
"$BERTHFS" -f "$IMG" "$MNT" &
pid=$!
for _ in $(seq 100); do
    mountpoint -q "$MNT" && break
    sleep 0.1
done
cmp "$MNT/again" "$SCRATCH/hello" || fail "contents differ"
kill -TERM $pid
wait $pid || fail "berthfs -f: exit $?"
! mountpoint -q "$MNT" || fail "still mounted"
fsck_clean "$IMG"

if [ "$(id -u)" = 0 ]; then
    note "remount, without a second daemon"
    do_mount "$IMG" "$MNT"
    printf 'x' >"$MNT/before"
    "$BERTHFS" -o remount,ro "$IMG" "$MNT" || fail "remount,ro: exit $?"
    ! touch "$MNT/new" 2>/dev/null || fail "writes after remount,ro"
    "$BERTHFS" -o remount,rw "$IMG" "$MNT" || fail "remount,rw: exit $?"
    touch "$MNT/new"
    do_umount "$MNT"
    fsck_clean "$IMG"

    note "a dead front-end's mount is cleared away"
    "$BERTHFS" -f -o noholder "$IMG" "$MNT" &
    pid=$!
    for _ in $(seq 100); do
        mountpoint -q "$MNT" && break
        sleep 0.1
    done
    kill -KILL $pid
    wait $pid || true
    do_mount "$IMG" "$MNT"
    ls "$MNT" >/dev/null
    do_umount "$MNT"
    fsck_clean "$IMG"
fi
