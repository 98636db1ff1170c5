#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the FAT mount target over every image of tests/evil, read-only and read-write, with mutations.
set -euo pipefail
target=$1
for tool in mkfs.fat mcopy python3; do
    command -v $tool >/dev/null || { echo "SKIP: $tool is not installed"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 "$(dirname "$0")/../evil/fat_images.py" --write "$dir/all"
# The FAT32 images are large for what they add under mutation; the small ones carry the load.
mkdir "$dir/small"
mv "$dir"/all/fat12-* "$dir/small/"
find "$dir/all" -size +24M -delete
"$target" --prefix 1 --mutations "${BERTH_FUZZ_MUTATIONS:-1}" "$dir/small"
"$target" --prefix 0 --mutations 1 "$dir/small"
"$target" --prefix 1 --mutations 0 "$dir/all"
