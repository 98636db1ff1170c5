#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What peers do to a ring, in the form of fuzz_ring.c, and mutations of it. With a directory as
# second argument the inputs are only written there.
set -euo pipefail
command -v python3 >/dev/null || { echo "SKIP: python3 is not installed"; exit 77; }
dir=${2:-$(mktemp -d)}
[ $# -ge 2 ] || trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'PYTHON'
import pathlib, struct, sys

out = pathlib.Path(sys.argv[1])
RECORD, WORD, BYTES, RECEIVE, SEND, WAKE, SLEEP, ADVANCE = range(8)
TAIL, SLEEPING, HEAD = 256, 320, 128  # of the responses, of the responses, of the requests


def record(length, lie=0): return struct.pack("<BHB", RECORD, length, lie)
def word(offset, value): return struct.pack("<BBQ", WORD, offset // 8, value % 2**64)
def some(offset, data): return struct.pack("<BHBB", BYTES, offset, 0, len(data)) + data
def send(length): return struct.pack("<BH", SEND, length - 1)
def wake(count): return struct.pack("<BH", WAKE, count)


receive, sleep, advance = bytes([RECEIVE]), bytes([SLEEP]), bytes([ADVANCE])
runs = {
    "honest": (record(300) + receive + send(200) + advance) * 40,
    "waiting": record(1) * 30 + receive * 31 + sleep + wake(0) + receive,
    "around": (record(8000) + receive) * 12 + (send(8000) + advance) * 12,
    "full": send(8000) * 9,
    "sleeping": sleep + record(8) + sleep + receive + word(SLEEPING, 2**64 - 1) + sleep,
    "storm": wake(2000) + receive,
    "ends": record(100) + bytes([SEND]),
    "bytes": some(4096, b"\xff" * 200) + word(TAIL, 4096) + receive * 3,
}
for i, lie in enumerate((1, 8, 15, 128)):
    runs[f"record-{i}"] = record(100) + record(100, lie) + receive * 3
for i, value in enumerate((1, 8, 2**31, 2**32, 2**63, -8, -1, 36864, 36872)):
    runs[f"tail-{i}"] = record(50) + receive + word(TAIL, value) + receive * 2 + sleep + receive
    runs[f"head-{i}"] = send(50) + word(HEAD, value) + send(8000) * 5
for name, run in runs.items():
    (out / name).write_bytes(b"\0" + run)
    (out / f"{name}-disturbed").write_bytes(b"\1" + run * 4)
PYTHON
[ $# -ge 2 ] || "$1" --mutations "${BERTH_FUZZ_MUTATIONS:-40}" "$dir"
