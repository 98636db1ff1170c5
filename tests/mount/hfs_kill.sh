#!/bin/bash
# SPDX-License-Identifier: MIT
# Programs on an HFS mount whose daemon is killed all the time (see kill.sh): no call fails, nothing
# is lost, nothing happens twice, fsck.hfs finds nothing afterwards.
#
# usage: hfs_kill.sh [MODE...]
. "$(dirname "$0")/lib.sh"
need hformat python3

export HOME=$SCRATCH
IMAGE=$SCRATCH/hfs.img
SEED=${BERTH_TEST_SEED:-$(($(date +%s) % 100000))}
MODES=${*:-kill}

for mode in $MODES; do
    for size in 100m 2g 40m; do
        # The last one with the other view of resource forks.
        files=orphans,forks,streams,mappings,databases
        [ $size != 40m ] || files=orphans,doubles
        note "$mode on $size, seed $SEED (again with: BERTH_TEST_SEED=$SEED $0 $mode)"
        rm -rf "$IMAGE" "$SCRATCH/account"
        truncate -s $size "$IMAGE"
        hformat -l "Killed" "$IMAGE" 0 >/dev/null
        options=${BERTH_TEST_KILL_OPTIONS:-}
        [ $size != 40m ] || options+=${options:+,}appledouble
        [ "$mode" != stop ] || options+=${options:+,}heartbeat=1
        python3 "$HERE/kill_run.py" "$IMAGE" "$MNT" "$SCRATCH/account" --options "$options" --mode "$mode" --seed "$SEED" \
            --seconds "${BERTH_TEST_KILL_SECONDS:-5}" --counter "${BERTH_TEST_KILL_LOAD:-2x4}" \
            --files $files --exercisers 1 || fail "$mode, seed $SEED"
        "$BERTH_BUILD/tools/fsck.hfs" -n -f "$IMAGE" >"$SCRATCH/fsck" 2>&1 ||
            fail "fsck.hfs: $(cat "$SCRATCH/fsck")"
        do_mount "$IMAGE" "$MNT" -o ro
        python3 "$HERE/kill_counter.py" verify "$MNT" "$SCRATCH/account" --times || fail "after a remount"
        do_umount "$MNT"
        SEED=$((SEED + 1))
    done
done
echo ok
