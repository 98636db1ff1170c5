#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Power cuts on every FAT type and on HFS, without and with a side journal: see power_cut.c.
# On HFS also with so many files that the catalog's file grows and its tree is four nodes high, and with
# little room in one place.
# BERTH_CRASH_STATES and BERTH_CRASH_SEEDS make it longer.
#
# usage: power_cut.sh POWER_CUT FSCK_HFS MKFS_HFS
set -euo pipefail
program=$1 fsck_hfs=$2 mkfs_hfs=$3
for tool in mkfs.fat fsck.fat; do
    command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

operations=400

# cut WHAT [power_cut arguments]
cut() {
    local what=$1
    shift
    for seed in $(seq 1 "${BERTH_CRASH_SEEDS:-2}"); do
        echo "$what, seed $seed"
        "$program" "$@" "$dir/base.img" "$seed" "$operations" "${BERTH_CRASH_STATES:-120}"
    done
}

while read -r size args; do
    truncate -s "$size" "$dir/base.img"
    # shellcheck disable=SC2086
    mkfs.fat $args "$dir/base.img" >/dev/null
    cut "mkfs.fat $args ($size)"
    cut "mkfs.fat $args ($size), journal" -j
    rm "$dir/base.img"
done <<'IMAGES'
1440k -F12
5m -F16 -s1
34m -F32 -s1
IMAGES

truncate -s 5m "$dir/base.img"
"$mkfs_hfs" "$dir/base.img" >/dev/null
cut "mkfs.hfs" -y "$fsck_hfs"
cut "mkfs.hfs, journal" -j -y "$fsck_hfs"
operations=1500
cut "mkfs.hfs, many files" -n 200 -y "$fsck_hfs"
# Two blocks free, two lost, and so on, and trees that grow by two nodes (drXTClpSiz, drCTClpSiz): forks,
# the catalog's as well, are in pieces, and the trees full.
put() {
    dd of="$dir/base.img" bs=1 seek="$1" conv=notrunc status=none
}
head -c 1240 /dev/zero | tr '\0' '\314' | put $((1536 + 32))
printf '\0\0\4\0\0\0\4\0' | put $((1024 + 74))
cut "mkfs.hfs, many files in pieces" -n 200 -y "$fsck_hfs"
operations=400
rm "$dir/base.img"
if command -v hformat >/dev/null; then
    truncate -s 20m "$dir/base.img"
    HOME=$dir hformat -l Cut "$dir/base.img" 0 >/dev/null
    cut "hformat" -y "$fsck_hfs"
    cut "hformat, journal" -j -y "$fsck_hfs"
fi
