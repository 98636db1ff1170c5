#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random operation sequences on every FAT geometry, compared step by step with a plain directory.
. "$(dirname "$0")/lib.sh"
OPS=${BERTH_TEST_OPS:-1200}
SEEDS=${BERTH_TEST_SEEDS:-1}
mkdir "$SCRATCH/ref"
while read -r name size args; do
    [ -n "$name" ] || continue
    for seed in $(seq 1 "$SEEDS"); do
        note "$name, seed $seed"
        # shellcheck disable=SC2086
        make_image "$SCRATCH/$name.img" "$size" $args
        do_mount "$SCRATCH/$name.img" "$MNT"
        rm -rf "$SCRATCH/ref"
        mkdir "$SCRATCH/ref"
        max=200000
        [ "$name" != fat12-floppy ] || max=6000
        python3 "$HERE/differential.py" "$MNT" "$SCRATCH/ref" --seed "$seed" --ops "$OPS" --max-size $max
        do_umount "$MNT"
        fsck_clean "$SCRATCH/$name.img"
        do_mount "$SCRATCH/$name.img" "$MNT" -o ro
        same_tree "$MNT" "$SCRATCH/ref"
        do_umount "$MNT"
        rm "$SCRATCH/$name.img"
    done
done <<<"$FAT_GEOMETRIES"
