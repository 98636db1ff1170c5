#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A daemon that lies cannot crash, hang or take over the front-end: whatever it answers, programs get
# errors, the mount can be unmounted, and berthfs ends with an exit code of its own.
. "$(dirname "$0")/lib.sh"
need python3

IMG=$SCRATCH/hostile.img
make_image "$SCRATCH/fresh.img" 64m -F32
mmd -i "$SCRATCH/fresh.img" ::d ::d/e
head -c 200000 /dev/urandom >"$SCRATCH/random"
for i in $(seq 40); do
    mcopy -i "$SCRATCH/fresh.img" "$SCRATCH/random" "::d/a name that needs long entries $i"
    [ "$i" -gt 3 ] || mcopy -i "$SCRATCH/fresh.img" "$SCRATCH/random" "::d/e/$i"
done
mkdir "$SCRATCH/daemons"
cp "$HERE/hostile_daemon.py" "$SCRATCH/daemons/fatd"
chmod +x "$SCRATCH/daemons/fatd"
export HOSTILE_REAL=$BERTH_BUILD/daemons/fatd BERTH_DAEMON_DIR=$SCRATCH/daemons

# Each lie by its name.
make_image "$SCRATCH/named.img" 34m -F32 -s1
mmd -i "$SCRATCH/named.img" ::d ::d/e
head -c 5000 /dev/urandom >"$SCRATCH/small"
mcopy -i "$SCRATCH/named.img" "$SCRATCH/small" ::trigger
for i in $(seq 40); do
    mcopy -i "$SCRATCH/named.img" "$SCRATCH/small" "::d/a name that needs long entries $i"
    [ "$i" -gt 3 ] || mcopy -i "$SCRATCH/named.img" "$SCRATCH/random" "::d/e/$i"
done
mkdir "$SCRATCH/named"
ln -s "$HERE/hostile_cases.py" "$SCRATCH/named/fatd"
if [ "${BERTH_TEST_HOSTILE_NAMED:-yes}" = yes ]; then
    BERTH_DAEMON_DIR=$SCRATCH/named PYTHONDONTWRITEBYTECODE=1 \
        python3 "$HERE/hostile_judge.py" "$SCRATCH/named.img" "$SCRATCH" || fail "see above"
fi

# Random ones: BERTH_TEST_HOSTILE of them.

use_mount() {
    ls -lR "$MNT" >/dev/null
    cat "$MNT"/d/e/* >/dev/null
    cp "$SCRATCH/random" "$MNT/new"
    mkdir "$MNT/made"
    mv "$MNT/new" "$MNT/made/moved"
    df "$MNT" >/dev/null
    getfattr -d "$MNT/made" >/dev/null
    rm -r "$MNT/d/e"
    sync -f "$MNT"
}

mounted=0
for seed in $(seq "${BERTH_TEST_HOSTILE:-30}"); do
    export HOSTILE_SEED=$seed HOSTILE_RATE=$((seed % 3 == 0 ? 100 : 10))
    export HOSTILE_TRANSPORT=$([ $((seed % 2)) = 0 ] && echo ring || echo socket)
    cp "$SCRATCH/fresh.img" "$IMG"
    "$BERTHFS" -f "$IMG" "$MNT" 2>"$SCRATCH/log" &
    pid=$!
    for _ in $(seq 100); do
        if mountpoint -q "$MNT" || ! kill -0 $pid 2>/dev/null; then
            break
        fi
        sleep 0.05
    done
    if mountpoint -q "$MNT"; then
        mounted=$((mounted + 1))
        export -f use_mount
        export MNT SCRATCH
        code=0
        timeout -s KILL 30 bash -c use_mount >/dev/null 2>&1 || code=$?
        [ $code != 137 ] || fail "seed $seed: a program hangs: $(cat "$SCRATCH/log")"
        umount -l "$MNT"
    fi
    code=0
    timeout 30 tail --pid=$pid -f /dev/null || fail "seed $seed: berthfs does not end: $(cat "$SCRATCH/log")"
    wait $pid || code=$?
    case $code in
    0 | 2 | 32) ;;
    *) fail "seed $seed: berthfs ended with $code: $(cat "$SCRATCH/log")" ;;
    esac
done
[ $mounted -gt 0 ] || fail "no mount ever came up"
echo "$mounted of $seed mounts came up"
