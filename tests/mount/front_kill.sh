#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# berthfs itself is killed again and again, alone and together with its daemon: no call fails, nothing
# is lost, nothing happens twice; what is unlinked and open stays.
#
# BERTH_TEST_KILL_SECONDS  of load (default 6); BERTH_TEST_SEED: printed
. "$(dirname "$0")/lib.sh"
need python3
SECONDS_EACH=${BERTH_TEST_KILL_SECONDS:-6}
SEED=${BERTH_TEST_SEED:-$(($(date +%s) % 100000))}
IMAGE=$SCRATCH/front.img
[ "$(printf '%s\n6.9\n' "$(uname -r)" | sort -V | head -1)" = 6.9 ] || skip "kernel $(uname -r) cannot send requests again"

# field NAME: of the mount's status; empty while no front-end answers.
field() {
    timeout 10 "$BERTH" status --json "$MNT" 2>/dev/null |
        python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" 2>/dev/null || true
}

note "seed $SEED"
make_image "$IMAGE" 128m -F32 -s1
do_mount "$IMAGE" "$MNT"
exec 8<>"$MNT/orphan"
echo "still here" >&8
rm "$MNT/orphan"
python3 "$HERE/kill_counter.py" run "$MNT" "$SCRATCH/account" --seed "$SEED" --processes 2 --threads 6 \
    --seconds "$SECONDS_EACH" --max-size 20000 >"$SCRATCH/counter.log" 2>&1 &
counter=$!
kills=0
while kill -0 $counter 2>/dev/null; do
    sleep 0.$((RANDOM % 8 + 1))
    front=$(field frontend_pid)
    [ -n "$front" ] || continue
    if [ $((kills % 3)) = 2 ]; then
        kill -KILL "$(field daemon_pid)" "$front" 2>/dev/null || true
    else
        kill -KILL "$front" 2>/dev/null || true
    fi
    kills=$((kills + 1))
done
wait $counter || fail "after $kills kills: $(tail -5 "$SCRATCH/counter.log")"
[ $kills -ge 3 ] || fail "only $kills kills"
[ "$(cat /proc/self/fd/8)" = "still here" ] || fail "the unlinked file has lost its contents"
exec 8>&-
note "$kills kills"
python3 "$HERE/kill_counter.py" verify "$MNT" "$SCRATCH/account" --times
do_umount "$MNT"
fsck_clean "$IMAGE"
do_mount "$IMAGE" "$MNT" -r
python3 "$HERE/kill_counter.py" verify "$MNT" "$SCRATCH/account" --times || fail "after a remount"
do_umount "$MNT"
