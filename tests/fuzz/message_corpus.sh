#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random bytes of many lengths, and mutations of them, through the message decoders.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for length in 1 8 100 192 200 288 300 512 4096 8192; do
    head -c "$length" /dev/urandom >"$dir/random-$length"
    head -c "$length" /dev/zero >"$dir/zero-$length"
    { printf 'BRTH'; head -c "$length" /dev/zero; } >"$dir/magic-$length"
done
"$1" --mutations 200 "$dir"
