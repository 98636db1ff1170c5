#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Power cuts on every FAT type: see power_cut.c. BERTH_CRASH_STATES and BERTH_CRASH_SEEDS make it longer.
set -euo pipefail
program=$1
for tool in mkfs.fat fsck.fat; do
    command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
while read -r size args; do
    truncate -s "$size" "$dir/base.img"
    # shellcheck disable=SC2086
    mkfs.fat $args "$dir/base.img" >/dev/null
    for seed in $(seq 1 "${BERTH_CRASH_SEEDS:-2}"); do
        echo "mkfs.fat $args ($size), seed $seed"
        "$program" "$dir/base.img" "$seed" 400 "${BERTH_CRASH_STATES:-120}"
    done
    rm "$dir/base.img"
done <<'IMAGES'
1440k -F12
5m -F16 -s1
34m -F32 -s1
IMAGES
