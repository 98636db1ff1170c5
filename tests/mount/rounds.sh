#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Mount, write, unmount, at once mount again: no race, and each time the image is clean the moment
# the unmount returns, by `berth umount` and by plain umount(8) with our helper. No process is left:
# the holder ends by itself, a moment after the front-end.
. "$(dirname "$0")/lib.sh"
make_image "$SCRATCH/r.img" 16m -F16
for i in $(seq 1 "${BERTH_TEST_MOUNTS:-100}"); do
    do_mount "$SCRATCH/r.img" "$MNT"
    echo "round $i" >"$MNT/round-$i.txt"
    do_umount "$MNT"
    if [ $((i % 10)) = 0 ]; then
        fsck_clean "$SCRATCH/r.img"
        [ "$(mdir -b -i "$SCRATCH/r.img" :: | wc -l)" = "$i" ] || fail "round $i: mtools sees other files"
    fi
    for _ in $(seq 100); do
        left=$(pgrep -af "$SCRATCH/r.img") || break
        sleep 0.02
    done
    [ -z "$left" ] || fail "round $i: a process is left: $left"
done
fsck_clean "$SCRATCH/r.img"
