#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Daemons with planted bugs: see kill_poison.py.
#
# usage: kill_poison.sh [names recover any later]
. "$(dirname "$0")/lib.sh"
need python3
SEED=${BERTH_TEST_SEED:-$(($(date +%s) % 100000))}
echo "seed $SEED"
mkdir "$SCRATCH/daemons"
ln -s "$BERTH_BUILD/tests/mount/poison_fatd" "$SCRATCH/daemons/fatd"

# What only the rescue writer has touched still bears the mark of a volume in use, and a summary
# from before; nothing else.
fsck_rescued() {
    local out
    out=$(fsck.fat -n "$1" 2>&1) || true
    if echo "$out" | grep -Ev '^fsck.fat |Dirty bit is set|removing dirty bit|Free cluster summary wrong|Auto-correcting|Leaving filesystem unchanged|boot sector and its backup|mostly harmless|  65:01/00|Not automatically fixing|^$|files, .* clusters$'; then
        fail "fsck.fat -n $1 complains"
    fi
}

for what in ${*:-names recover any later}; do
    note "$what"
    make_image "$SCRATCH/p.img" 64m -F32 -s1
    mmd -i "$SCRATCH/p.img" ::d
    for name in POISON-{segv,abort,exit,loop}.txt "plain file.txt"; do
        echo "$name" | mcopy -i "$SCRATCH/p.img" - "::d/$name"
    done
    echo toxic | mcopy -i "$SCRATCH/p.img" - ::d/TOXIC-abort.txt
    BERTH_DAEMON_DIR=$SCRATCH/daemons python3 "$HERE/kill_poison.py" "$what" "$SCRATCH/p.img" "$MNT" \
        "$SCRATCH/account" --seed "$SEED" || fail "$what, seed $SEED"
    if [ "$what" = names ]; then
        fsck_clean "$SCRATCH/p.img"
    else
        fsck_rescued "$SCRATCH/p.img"
    fi
    rm -rf "$SCRATCH/copy"
    mkdir "$SCRATCH/copy"
    mcopy -s -n -Q -m -i "$SCRATCH/p.img" :: "$SCRATCH/copy" || fail "mcopy"
    python3 "$HERE/kill_counter.py" verify "$SCRATCH/copy" "$SCRATCH/account" || fail "$what: the image differs"
done
