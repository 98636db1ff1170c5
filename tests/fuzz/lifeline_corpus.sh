#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Logs as daemons leave them, in the form of fuzz_lifeline.c, and mutations of them. With a
# directory as second argument the inputs are only written there.
set -euo pipefail
command -v python3 >/dev/null || { echo "SKIP: python3 is not installed"; exit 77; }
dir=${2:-$(mktemp -d)}
[ $# -ge 2 ] || trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'PYTHON'
import pathlib, random, struct, sys

BLOCK, BLOCKS = 512, 65
STARTS_BATCH, REPLY, BROKEN = 1, 2, 4
HEADER, TABLES, RAW, ROUND = 1, 2, 4, 8
out = pathlib.Path(sys.argv[1])
rnd = random.Random(7)


def item(kind, cls, offset, block, data, length=None):
    length = len(data) if length is None else length
    return struct.pack("<BBHIIQ", kind, cls, 0, offset, length, block) + data


def base(block): return item(1, 0, 0, block, rnd.randbytes(BLOCK))
def zero(block, cls): return item(2, cls, 0, block, b"")
def put(block, cls): return item(3, cls, rnd.randrange(500), block, rnd.randbytes(9))
def bits(block, cls): return item(4, cls, 40, block, rnd.randbytes(6), 3)
def free(block): return item(5, 0, 0, block, struct.pack("<Q", 2))
def obj(ident, keep): return item(6, 1 + ident % 3, keep, ident, b"blob" if keep else b"")


def record(items, flags=0, slot=0):
    data = b"".join(items)
    return bytes([flags, slot, len(items)]) + struct.pack("<H", len(data)) + data


def log(records, flags=0):
    result, based, freed = b"", set(), 0
    for i in range(records):
        starts = STARTS_BATCH if i == 0 or rnd.random() < 0.2 else 0
        if starts:
            based.clear()
        items = []
        for _ in range(rnd.randrange(1, 5)):
            block = rnd.randrange(40)
            if block not in based:
                items.append(base(block) if rnd.random() < 0.8 else zero(block, 0))
                based.add(block)
            items.append(put(block, rnd.randrange(8)) if rnd.random() < 0.7 else bits(block, 3))
        if rnd.random() < 0.3 and freed < 12:
            items.append(free(40 + 2 * freed))
            freed += 1
        if rnd.random() < 0.5:
            items.append(obj(rnd.randrange(9), rnd.randrange(2)))
        reply = REPLY if rnd.random() < 0.5 else 0
        result += record(items, starts | reply | flags, rnd.randrange(1, 8) if reply else 0)
    return result


def header(head, tail=65536, done=0, **more):
    fields = dict(magic=0x656E696C6566696C, version=1, block_size=BLOCK, volume=64 * BLOCK + 100,
                  ring=65536, slots=8, objects=4096, applied=tail, batch=tail)
    fields.update(more)
    return struct.pack("<QIIQQIIQQQQIIQQ", fields["magic"], fields["version"],
                       fields["block_size"], fields["volume"], fields["ring"], fields["slots"],
                       fields["objects"], head, tail, fields["applied"], fields["batch"], done, 0,
                       9, 10)


def tables():
    data = b""
    for i in range(4):
        data += bytes([i]) + struct.pack("<QQII", i, 65536 + i, 1 + i % 4, rnd.randrange(600))
    for i in range(4):
        data += struct.pack("<QQII", rnd.randrange(2000), 65536, rnd.randrange(300), 0)
    return data + struct.pack("<QQQQ", 512, 512, 0, 0)


for i in range(12):
    (out / f"log-{i}").write_bytes(bytes([0]) + log(i + 1))
    (out / f"round-{i}").write_bytes(bytes([ROUND]) + log(i + 1))
    (out / f"tables-{i}").write_bytes(bytes([TABLES]) + tables() + log(i))
    (out / f"long-{i}").write_bytes(bytes([ROUND * (i & 1)]) + log(60))
    (out / f"broken-{i}").write_bytes(bytes([0]) + log(i) + log(1, BROKEN) + log(2))
    one = record([base(3), put(3, 1)], STARTS_BATCH)
    used = (48 + len(one) - 5 + 7) // 8 * 8
    (out / f"header-{i}").write_bytes(bytes([HEADER]) + header(65536 + used, done=i // 4 * 2 - i // 8)
                                      + one)
(out / "wrong-head").write_bytes(bytes([HEADER]) + header(65536 + 65528) + log(3))
(out / "wrong-tail").write_bytes(bytes([HEADER]) + header(65536, 65544) + log(3))
(out / "raw").write_bytes(bytes([RAW]) + rnd.randbytes(3000))
PYTHON
[ $# -ge 2 ] || "$1" --mutations "${BERTH_FUZZ_MUTATIONS:-20}" "$dir"
