#!/bin/bash
# SPDX-License-Identifier: MIT
# HFS volumes through the kernel: what hfsutils wrote is read, what is written here hfsutils read,
# names, times, attributes, both forks, rename, unlink while open, a full volume, fsync.
. "$(dirname "$0")/lib.sh"
need hformat hmount hcopy hls setfattr getfattr

export HOME=$SCRATCH
IMAGE=$SCRATCH/hfs.img
FSCK=$BERTH_BUILD/tools/fsck.hfs
XATTR_INFO=user.com.apple.FinderInfo
XATTR_FORK=user.com.apple.ResourceFork

# hfs_run COMMANDS: with the image mounted by hfsutils.
hfs_run() {
    hmount "$IMAGE" 0 >/dev/null
    "$@"
    humount >/dev/null
}

check() {
    "$FSCK" -n -f "$IMAGE" >"$SCRATCH/fsck" 2>&1 || fail "fsck.hfs: $(cat "$SCRATCH/fsck")"
}

note "reading what hfsutils wrote"
truncate -s 20m "$IMAGE"
hformat -l "Old Disk" "$IMAGE" 0 >/dev/null
head -c 300000 /dev/urandom >"$SCRATCH/random"
put_all() {
    hmkdir ":Folder"
    hcopy -r "$SCRATCH/random" ":Folder:random data"
    hattrib -t PICT -c ogle ":Folder:random data"
}
hfs_run put_all
do_mount "$IMAGE" "$MNT" -o ro
cmp "$SCRATCH/random" "$MNT/Folder/random data" || fail "contents"
cmp "$SCRATCH/random" "$MNT/FOLDER/Random Data" || fail "names are one in any case"
[ "$(getfattr --only-values -n $XATTR_INFO "$MNT/Folder/random data" | head -c 8)" = PICTogle ] || fail "type and creator"
if touch "$MNT/new" 2>/dev/null; then fail "written to a read-only volume"; fi
do_umount "$MNT"

note "writing"
do_mount "$IMAGE" "$MNT"
mkdir -p "$MNT/a/b/c"
cp "$SCRATCH/random" "$MNT/a/b/c/copy"
for i in $(seq 300); do echo "number $i" >"$MNT/a/file $i"; done
echo "Grüße" >"$MNT/a/Größe: 1"
printf 'TEXTttxt%024d' 0 >"$SCRATCH/info"
setfattr -n $XATTR_INFO -v "0x$(xxd -p -c 64 "$SCRATCH/info")" "$MNT/a/b/c/copy"
setfattr -n $XATTR_FORK -v "resource bytes" "$MNT/a/b/c/copy"
touch -d "1999-12-31 23:59:58" "$MNT/a/file 1"
[ "$(stat -c %Y "$MNT/a/file 1")" = "$(date -d '1999-12-31 23:59:58' +%s)" ] || fail "time"
if ln "$MNT/a/file 1" "$MNT/a/link" 2>/dev/null; then fail "a hard link"; fi
if ln -s x "$MNT/a/link" 2>/dev/null; then fail "a symbolic link"; fi
chmod a-w "$MNT/a/file 2"
[ "$(stat -c %a "$MNT/a/file 2")" = 555 ] || fail "locked"
if touch "$MNT/$(printf 'n%.0s' $(seq 32))" 2>/dev/null; then fail "a name of 32 bytes"; fi
touch "$MNT/$(printf 'n%.0s' $(seq 31))"
touch "$MNT/Case"
if mkdir "$MNT/CASE" 2>/dev/null; then fail "two names that differ in case"; fi
mv "$MNT/Case" "$MNT/step" # to the kernel both spellings are one file
mv "$MNT/step" "$MNT/case"
[ "$(ls "$MNT" | grep -i case)" = case ] || fail "rename to another case"
mv "$MNT/a/b" "$MNT/moved"
mv "$MNT/a/file 3" "$MNT/a/file 4"
[ "$(cat "$MNT/a/file 4")" = "number 3" ] || fail "rename over a file"
exec 5<>"$MNT/a/file 5"
rm "$MNT/a/file 5"
echo "still there" >&5
[ "$(stat -L -c %s /proc/self/fd/5)" = 12 ] || fail "an unlinked open file is gone"
exec 5>&-
truncate -s 100000 "$MNT/moved/c/copy"
[ "$(find "$MNT/a" -type f | wc -l)" = 299 ] || fail "number of files: $(find "$MNT/a" -type f | wc -l)"
cp -r "$MNT/moved" "$SCRATCH/moved"
do_umount "$MNT"
check

note "what hfsutils say"
see_all() {
    hls -l ":moved:c:" >"$SCRATCH/list"
    hcopy -r ":moved:c:copy" "$SCRATCH/back"
    hcopy -m ":moved:c:copy" "$SCRATCH/back.bin"
    hls -lR ":" >"$SCRATCH/all"
    hdel ":a:file 7"
    hrename ":a:file 8" ":a:renamed there"
}
hfs_run see_all
cmp "$SCRATCH/back" <(head -c 100000 "$SCRATCH/random") || fail "hcopy -r"
grep -q "TEXT/ttxt  *14  *100000 .* copy" "$SCRATCH/list" || fail "hls -l: $(cat "$SCRATCH/list")"
grep -q "resource bytes" "$SCRATCH/back.bin" || fail "hcopy -m has no resource fork"
[ "$(grep -c 'file [0-9]' "$SCRATCH/all")" = 298 ] || fail "hls -lR: $(grep -c 'file [0-9]' "$SCRATCH/all")"
do_mount "$IMAGE" "$MNT"
[ ! -e "$MNT/a/file 7" ] || fail "removed by hdel"
[ "$(cat "$MNT/a/renamed there")" = "number 8" ] || fail "renamed by hrename"
[ "$(cat "$MNT/a/Größe: 1")" = "Grüße" ] || fail "name with a colon"
same_tree "$SCRATCH/moved" "$MNT/moved"

note "a full volume"
if head -c 40m /dev/zero >"$MNT/filler" 2>/dev/null; then fail "40 MiB on 20"; fi
[ "$(df --output=avail "$MNT" | tail -1)" -lt 300 ] || fail "space is left: $(df "$MNT")"
rm "$MNT/filler"
sync -f "$MNT" 2>/dev/null || true # it may still speak of the filler
head -c 5m /dev/urandom >"$SCRATCH/big"
dd if="$SCRATCH/big" of="$MNT/big" bs=64k conv=fsync status=none
cmp "$SCRATCH/big" "$MNT/big" || fail "a big file"
rm -r "$MNT/a"
[ "$(ls "$MNT" | wc -l)" = 5 ] || fail "left: $(ls "$MNT")"
do_umount "$MNT"
check
do_mount "$IMAGE" "$MNT"
cmp "$SCRATCH/big" "$MNT/big" || fail "a big file, later"
do_umount "$MNT"

note "foreign volumes are refused by name"
printf 'H+' | dd of="$IMAGE" bs=1 seek=1024 conv=notrunc status=none
if timeout 20 "$BERTHFS" -t hfs "$IMAGE" "$MNT" 2>"$SCRATCH/error"; then fail "HFS+ as HFS"; fi
grep -q "HFS+" "$SCRATCH/error" || fail "the reason: $(cat "$SCRATCH/error")"
echo ok
