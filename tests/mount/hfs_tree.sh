#!/bin/bash
# SPDX-License-Identifier: MIT
# HFS with many files: a tree untarred, compared and copied, a directory of 10,000 files listed,
# resolved and removed in random order, 32 threads at once; each time fsck.hfs and hfsutils agree.
. "$(dirname "$0")/lib.sh"
need hformat hmount hls tar

export HOME=$SCRATCH
IMAGE=$SCRATCH/hfs.img
FSCK=$BERTH_BUILD/tools/fsck.hfs
check() {
    "$FSCK" -n -f "$IMAGE" >"$SCRATCH/fsck" 2>&1 || fail "fsck.hfs: $(cat "$SCRATCH/fsck")"
}
format() {
    rm -f "$IMAGE"
    truncate -s "$1" "$IMAGE"
    hformat -l "Tree" "$IMAGE" 0 >/dev/null
}

note "a tree"
# Names of 31 characters at most, no two that differ in case only.
(cd /usr/include && find . -type f -size -200k | grep -Ev '[^/]{32}' | sort |
    awk -v most="${BERTH_TEST_FILES:-1500}" 'NR <= most {l=tolower($0); if (!seen[l]++) print $0}' >"$SCRATCH/all")
mkdir "$SCRATCH/ref"
tar -C /usr/include -T "$SCRATCH/all" -cf - | tar -C "$SCRATCH/ref" -xf - --no-same-owner
format 200m
do_mount "$IMAGE" "$MNT"
cp -r "$SCRATCH/ref" "$MNT/tree"
cp -r "$MNT/tree" "$MNT/a copy of the tree"
mv "$MNT/tree" "$MNT/renamed"
same_tree "$MNT/renamed" "$SCRATCH/ref"
do_umount "$MNT"
check
apple_clean "$IMAGE"
hmount "$IMAGE" 0 >/dev/null
files=$(find "$SCRATCH/ref" | wc -l)
listed=$(hls -1R ":renamed:" | grep -cv -e '^$' -e ':$') || true
humount >/dev/null
[ "$listed" = $((files - 1)) ] || fail "hls lists $listed, not $((files - 1))"
do_mount "$IMAGE" "$MNT"
same_tree "$MNT/a copy of the tree" "$SCRATCH/ref"
rm -rf "$MNT/renamed" "$MNT/a copy of the tree"
[ -z "$(ls -A "$MNT")" ] || fail "files left after rm -rf"
do_umount "$MNT"
check

note "10,000 files in one directory"
do_mount "$IMAGE" "$MNT"
python3 - "$MNT/many" <<'PYTHON'
import os, random, sys
root = sys.argv[1]
random.seed(4)
os.mkdir(root)
names = [f"{random.choice(['file', 'Höhe', 'été', 'A'])} {i}" for i in range(10000)]
random.shuffle(names)
for name in names:
    os.close(os.open(os.path.join(root, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
assert sorted(os.listdir(root)) == sorted(names), "listing"
random.shuffle(names)
for name in names[:3000]:
    os.unlink(os.path.join(root, name))
for name in names[3000:6000]:
    os.rename(os.path.join(root, name), os.path.join(root, name + " renamed"))
left = [name + " renamed" for name in names[3000:6000]] + names[6000:]
assert sorted(os.listdir(root)) == sorted(left), "listing after changes"
for name in left:
    os.stat(os.path.join(root, name.upper()))
PYTHON
do_umount "$MNT"
check
do_mount "$IMAGE" "$MNT"
[ "$(ls "$MNT/many" | wc -l)" = 7000 ] || fail "after a remount"
rm -r "$MNT/many"
do_umount "$MNT"
check

note "many threads"
for size in 60m 400m; do
    format $size
    do_mount "$IMAGE" "$MNT" -o cache=256k
    python3 "$HERE/parallel.py" "$MNT" 32 "${BERTH_TEST_ROUNDS:-60}" 5
    rm -rf "$SCRATCH/copy"
    cp -r "$MNT" "$SCRATCH/copy"
    do_umount "$MNT"
    check
    do_mount "$IMAGE" "$MNT" -o ro
    same_tree "$MNT" "$SCRATCH/copy"
    do_umount "$MNT"
done
echo ok
