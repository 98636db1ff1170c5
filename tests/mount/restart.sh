#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Replacing the daemon of a mount in use: see kill_restart.py. Then, what is no mount cannot be restarted.
. "$(dirname "$0")/lib.sh"
need python3
SEED=${BERTH_TEST_SEED:-$(($(date +%s) % 100000))}
echo "seed $SEED"
mkdir "$SCRATCH/daemons"
make_image "$SCRATCH/r.img" 64m -F32 -s1
BERTH_DAEMON_DIR=$SCRATCH/daemons python3 "$HERE/kill_restart.py" "$SCRATCH/r.img" "$MNT" "$SCRATCH/account" \
    "$SCRATCH/daemons" --seed "$SEED" || fail "seed $SEED"
fsck_clean "$SCRATCH/r.img"
do_mount "$SCRATCH/r.img" "$MNT" -r
for part in good bad; do
    python3 "$HERE/kill_counter.py" verify "$MNT/$part" "$SCRATCH/account.$part" --times || fail "$part: after a remount"
done
do_umount "$MNT"
code=0
"$BERTH" restart "$MNT" 2>"$SCRATCH/said" || code=$?
[ $code != 0 ] && [ -s "$SCRATCH/said" ] || fail "berth restart of no mount: exit $code, $(cat "$SCRATCH/said")"
