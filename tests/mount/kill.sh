#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs on a mount whose daemon is killed all the time: no call fails, nothing is lost, nothing
# happens twice, the image is clean afterwards, and nothing of berthfs leaks.
#
# usage: kill.sh [MODE...]   (none kill burst stop crash spare both restart mix; see kill_mount.py)
# BERTH_TEST_KILL_SECONDS    of load per mode and geometry (default 5)
# BERTH_TEST_KILL_LOAD       PROCESSESxTHREADS of the counting program (default 2x6)
# BERTH_TEST_KILL_GEOMETRIES how many geometries each mode gets (default 1, all: 8)
# BERTH_TEST_KILL_HEAVY=1    several hundred threads at once, on volumes with room for them
# BERTH_TEST_KILL_OPTIONS    more mount options
# BERTH_TEST_SEED            default: from the clock, printed
. "$(dirname "$0")/lib.sh"
need python3 tar
SECONDS_EACH=${BERTH_TEST_KILL_SECONDS:-5}
LOAD=${BERTH_TEST_KILL_LOAD:-2x6}
SEED=${BERTH_TEST_SEED:-$(($(date +%s) % 100000))}
MODES=${*:-kill}
# Small volumes have no room for everything.
declare -A CHECKS=([large]=orphans,streams,mappings,databases,archives,direct,synced [small]=orphans,streams,synced [heavy]=orphans,streams,mappings,databases,archives,direct,synced,copies)
GEOMETRIES="
fat16-32m 32m large -F16
fat32-64m 64m large -F32 -s1
fat12-16m 16m small -F12 -s16
fat32-256m 256m large -F32
fat16-1k-sector 64m large -F16 -S1024
fat32-4k-sector 300m large -F32 -S4096 -s1
fat16-64k-cluster 800m large -F16 -s128
fat12-6m 6m small -F12 -s4
"

HEAVY_GEOMETRIES="
fat32-1g 1g heavy -F32
fat16-1g 1g heavy -F16 -s32
fat32-512m 512m heavy -F32 -s1
fat16-2g 2000m heavy -F16 -s64
fat32-1k-sector 1g heavy -F32 -S1024
fat32-4k-sector 1g heavy -F32 -S4096 -s1
fat16-4k-sector 1g heavy -F16 -S4096 -s4
fat32-2g 2200m heavy -F32 -s64
"
if [ -n "${BERTH_TEST_KILL_HEAVY:-}" ]; then
    GEOMETRIES=$HEAVY_GEOMETRIES
    LOAD=${BERTH_TEST_KILL_LOAD:-8x40}
fi

one() {
    local mode=$1 name=$2 size=$3 class=$4 seed=$5 options='' load=$LOAD extra=()
    shift 5
    note "$mode on $name, seed $seed (again with: BERTH_TEST_SEED=$seed $0 $mode)"
    make_image "$SCRATCH/k.img" "$size" "$@"
    case $class in
    small) load=1x3 extra+=(--max-size 8000) ;;
    large) extra+=(--exercisers 2) ;;
    heavy) extra+=(--exercisers 4 --max-size 12000) ;;
    esac
    case $mode in
    stop) options=heartbeat=1 extra+=(--least-kills 1) ;;
    spare) extra+=(--least-kills 1) ;;
    esac
    options+=${BERTH_TEST_KILL_OPTIONS:+${options:+,}$BERTH_TEST_KILL_OPTIONS}
    python3 "$HERE/kill_run.py" "$SCRATCH/k.img" "$MNT" "$SCRATCH/account" --mode "$mode" --seed "$seed" \
        --seconds "$SECONDS_EACH" --counter "$load" --files "${CHECKS[$class]}" --options "$options" \
        "${extra[@]}" || fail "$mode on $name, seed $seed"
    fsck_clean "$SCRATCH/k.img"
    do_mount "$SCRATCH/k.img" "$MNT" -r
    python3 "$HERE/kill_counter.py" verify "$MNT" "$SCRATCH/account" --times || fail "after a remount"
    do_umount "$MNT"
    rm -rf "$SCRATCH/copy"
    mkdir "$SCRATCH/copy"
    mcopy -s -n -Q -m -i "$SCRATCH/k.img" :: "$SCRATCH/copy" || fail "mcopy"
    python3 "$HERE/kill_counter.py" verify "$SCRATCH/copy" "$SCRATCH/account" || fail "mtools sees something else"
}

for mode in $MODES; do
    count=0
    while read -r name size class args; do
        [ -n "$name" ] && [ $count -lt "${BERTH_TEST_KILL_GEOMETRIES:-1}" ] || continue
        # shellcheck disable=SC2086
        one "$mode" "$name" "$size" "$class" $((SEED + count)) $args
        count=$((count + 1))
    done <<<"$GEOMETRIES"
done
