#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# 32 threads at once; then everything again after a fresh mount, and the checkers.
. "$(dirname "$0")/lib.sh"
for geometry in "-F16 -s8" "-F32 -s2"; do
    # shellcheck disable=SC2086
    make_image "$SCRATCH/p.img" 200m $geometry
    do_mount "$SCRATCH/p.img" "$MNT"
    python3 "$HERE/parallel.py" "$MNT" 32 "${BERTH_TEST_ROUNDS:-60}" 5
    mkdir "$SCRATCH/copy"
    cp -r "$MNT/." "$SCRATCH/copy/"
    do_umount "$MNT"
    fsck_clean "$SCRATCH/p.img"
    do_mount "$SCRATCH/p.img" "$MNT" -o ro
    same_tree "$MNT" "$SCRATCH/copy"
    do_umount "$MNT"
    rm -rf "$SCRATCH/copy"
done
