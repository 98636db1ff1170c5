#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Killed daemons on a slow device: the image lies on another mount of ours, whose own daemon is stopped
# for moments and killed, so that transfers of the dead end late (see kill_run.py --outer).
. "$(dirname "$0")/lib.sh"
need python3
SEED=${BERTH_TEST_SEED:-$(($(date +%s) % 100000))}
echo "seed $SEED"
mkdir "$SCRATCH/mnt-outer"
make_image "$SCRATCH/k.img" 32m -F16
make_image "$SCRATCH/outer.img" 100m -F16 -s8
mcopy -i "$SCRATCH/outer.img" "$SCRATCH/k.img" ::k.img
rm "$SCRATCH/k.img"
python3 "$HERE/kill_run.py" "$SCRATCH/mnt-outer/k.img" "$MNT" "$SCRATCH/account" --outer "$SCRATCH/outer.img" \
    --mode "${1:-kill}" --seed "$SEED" --seconds "${BERTH_TEST_KILL_SECONDS:-5}" --counter 2x4 \
    --files orphans,streams,mappings,direct || fail "seed $SEED"
fsck_clean "$SCRATCH/outer.img"
mcopy -i "$SCRATCH/outer.img" ::k.img "$SCRATCH/k.img"
fsck_clean "$SCRATCH/k.img"
mkdir "$SCRATCH/copy"
mcopy -s -n -Q -m -i "$SCRATCH/k.img" :: "$SCRATCH/copy" || fail "mcopy"
python3 "$HERE/kill_counter.py" verify "$SCRATCH/copy" "$SCRATCH/account" || fail "the image differs"
