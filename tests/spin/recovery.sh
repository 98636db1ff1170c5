#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The model of recovery, searched completely: as it is nothing may be wrong, and with any one rule
# left out something must be.
#
# usage: recovery.sh [--long]
set -euo pipefail
model=$(cd "$(dirname "$0")" && pwd)/recovery.pml
for tool in spin gcc; do
    command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# search [-D...]: searches, prints the number of errors.
search() {
    spin "$@" -a "$model" >spin.log 2>&1 || { cat spin.log; return 2; }
    gcc -w -O1 -DSAFETY -DCOLLAPSE -DMEMLIM=2000 -o pan pan.c
    timeout 300 ./pan -n -m200000 >pan.log 2>&1 || true
    if ! grep -q 'errors: ' pan.log || grep -Eq "max search depth too small|reached -DMEMLIM" pan.log; then
        cat pan.log
        return 2
    fi
    grep -Eo 'errors: [0-9]+' pan.log | grep -Eo '[0-9]+'
}

right() {
    local errors
    errors=$(search "$@") || { echo "FAIL: $*: $errors"; exit 1; }
    if [ "$errors" != 0 ]; then
        grep '^pan:1' pan.log
        spin -k recovery.pml.trail -p "$@" "$model" 2>/dev/null | tail -60 || true
        echo "FAIL: $*: the model breaks its promise"
        exit 1
    fi
    echo "$*: nothing wrong in $(grep 'states, stored' pan.log | awk '{print $1}') states"
}

wrong() {
    local errors
    errors=$(search "$@") || { echo "FAIL: $*: $errors"; exit 1; }
    [ "$errors" != 0 ] || { echo "FAIL: $*: nothing is wrong although a rule is missing"; exit 1; }
    echo "$*: $(sed -n 's/^pan:1: //p' pan.log | head -n 1)"
}

if [ "${1:-}" = --long ]; then
    right -DDEATHS=2 -DOPS=2
    right -DDEATHS=1 -DOPS=4
else
    right -DDEATHS=1 -DOPS=3
fi
for rule in NO_EPOCH NO_FENCE NO_SLOTS NO_APPLIED NO_PIDFD NO_QUARANTINE EARLY_REPLY; do
    wrong -DDEATHS=1 -DOPS=4 -D$rule
done
