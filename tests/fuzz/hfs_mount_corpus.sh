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
        file.write(bytes(((i % 4 != 0) | (i // 4 % 2) << 1,)))
        for _ in range(rng.randrange(1, 12)):
            value = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
            # Rather the header nodes and the first leaves than empty ones.
            offset = rng.choice((rng.randrange(2048), rng.randrange(65536)))
            file.write(offset.to_bytes(3, "big") + bytes((value,)))
# Hardly a change of the volume, and headers of ._NAME.
for i in range(12):
    with open(f"{sys.argv[1]}/double {i:02}", "wb") as file:
        file.write(b"\3" + bytes((0, 5, 0x16, 7, 0, 2, 0, 0)) + bytes(16) + bytes((0, i % 4)))
        for _ in range(i % 4):
            file.write(b"".join(n.to_bytes(4, "big") for n in (
                rng.choice((2, 9)), rng.choice((50, 82, 200, 1 << 31)), rng.choice((0, 32, 1 << 31)))))
        file.write(rng.randbytes(rng.randrange(600)))
END
"$target" --mutations "${BERTH_FUZZ_MUTATIONS:-5}" "$dir"
