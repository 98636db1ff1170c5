#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the HFS mount target over changes at random; the target makes its own volume.
set -euo pipefail
target=$1
command -v python3 >/dev/null || { echo "SKIP: python3 is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'END'
import random, sys
rng = random.Random(1985)
for i in range(60):
    with open(f"{sys.argv[1]}/{i:02}", "wb") as file:
        file.write(bytes((i % 4 != 0,)))
        for _ in range(rng.randrange(1, 12)):
            value = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
            # Rather the header nodes and the first leaves than empty ones.
            offset = rng.choice((rng.randrange(2048), rng.randrange(65536)))
            file.write(offset.to_bytes(3, "big") + bytes((value,)))
END
"$target" --mutations "${BERTH_FUZZ_MUTATIONS:-5}" "$dir"
