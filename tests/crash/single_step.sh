#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Death at every instruction: see single_step.c. BERTH_STEP_LONG=1: other FATs, more of everything.
set -euo pipefail
program=$1
for tool in mkfs.fat fsck.fat; do
    command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }
done
[ "$(uname -m)" = x86_64 ] || { echo "SKIP: knows the registers of x86-64 only"; exit 77; }
! grep -q __asan_init "$program" || { echo "SKIP: the sanitizers' own instructions are most of it"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

run() {
    local size=$1 args=$2
    shift 2
    truncate -s "$size" "$dir/base.img"
    # shellcheck disable=SC2086
    mkfs.fat $args "$dir/base.img" >/dev/null
    echo "mkfs.fat $args ($size)"
    "$program" "$dir/base.img" "$@"
    rm "$dir/base.img"
}

if [ -n "${BERTH_STEP_LONG:-}" ]; then
    run 1440k -F12 --every 4 --recoveries 20
    run 9m "-F16 -s4" --every 8 --recoveries 100
    run 34m "-F32 -s1" --every 8 --recoveries 200
else
    run 320k -F12
fi
