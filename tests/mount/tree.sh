#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A tree of some thousand files: untarred, compared, copied, renamed, deleted; mtools reads the same.
. "$(dirname "$0")/lib.sh"
need tar
# Headers are on every machine that can build this; FAT-safe names, no links followed.
(cd /usr/include && find . -type f -size -200k | sort >"$SCRATCH/all")
head -n "${BERTH_TEST_FILES:-1500}" "$SCRATCH/all" | tar -C /usr/include -T - -cf "$SCRATCH/tree.tar"
mkdir "$SCRATCH/ref"
# Names that differ only in case cannot both live on FAT.
tar -tf "$SCRATCH/tree.tar" | awk '{l=tolower($0); if (seen[l]++) print $0}' >"$SCRATCH/exclude"
tar -C "$SCRATCH/ref" -xf "$SCRATCH/tree.tar" --exclude-from="$SCRATCH/exclude" --no-same-owner
for geometry in "-F16 -s8" "-F32 -s1"; do
    # shellcheck disable=SC2086
    make_image "$SCRATCH/t.img" 200m $geometry
    do_mount "$SCRATCH/t.img" "$MNT"
    mkdir "$MNT/tree"
    tar -C "$MNT/tree" -xf "$SCRATCH/tree.tar" --exclude-from="$SCRATCH/exclude" --no-same-owner
    same_tree "$MNT/tree" "$SCRATCH/ref"
    cp -r "$MNT/tree" "$MNT/a copy of the tree"
    mv "$MNT/tree" "$MNT/renamed"
    do_umount "$MNT"
    fsck_clean "$SCRATCH/t.img"
    mkdir "$SCRATCH/out"
    mcopy -s -n -Q -i "$SCRATCH/t.img" ::renamed "$SCRATCH/out/" || fail "mtools cannot read the tree"
    same_tree "$SCRATCH/out/renamed" "$SCRATCH/ref"
    rm -rf "$SCRATCH/out"
    do_mount "$SCRATCH/t.img" "$MNT"
    same_tree "$MNT/a copy of the tree" "$SCRATCH/ref"
    rm -rf "$MNT/renamed" "$MNT/a copy of the tree"
    [ -z "$(ls -A "$MNT")" ] || fail "files left after rm -rf"
    do_umount "$MNT"
    fsck_clean "$SCRATCH/t.img"
done
