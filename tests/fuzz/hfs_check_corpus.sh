#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the HFS check target over inputs at random; the target makes its own volume.
set -euo pipefail
target=$1
command -v python3 >/dev/null || { echo "SKIP: python3 is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'END'
import random, sys
rng = random.Random(1984)
for i in range(40):
    with open(f"{sys.argv[1]}/{i:02}", "wb") as file:
        for _ in range(rng.randrange(1, 30)):
            value = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
            file.write(bytes((rng.randrange(256), rng.randrange(256), 0, value)))
END
"$target" --mutations "${BERTH_FUZZ_MUTATIONS:-20}" "$dir"
