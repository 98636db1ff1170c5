#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random I/O on one file (buffered, mapped, direct), and several at once, against a copy in memory.
. "$(dirname "$0")/lib.sh"
FX=$BERTH_BUILD/tests/stress/file_exerciser
OPS=${BERTH_TEST_OPS:-1500}
for geometry in "-F16 -s4" "-F32 -s1"; do
    # shellcheck disable=SC2086
    make_image "$SCRATCH/x.img" 80m $geometry
    do_mount "$SCRATCH/x.img" "$MNT"
    "$FX" "$MNT/one" "$OPS" 11 300000
    "$FX" "$MNT/direct" "$OPS" 12 300000 --direct
    pids=()
    for i in 1 2 3 4; do
        "$FX" "$MNT/parallel$i" "$OPS" $((20 + i)) 2000000 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || fail "a parallel exerciser failed"
    done
    do_umount "$MNT"
    fsck_clean "$SCRATCH/x.img"
done
