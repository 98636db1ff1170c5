#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Requests with answers to them, good and bad, in the form of fuzz_response.c, and mutations of
# them. With a directory as second argument the inputs are only written there.
set -euo pipefail
command -v python3 >/dev/null || { echo "SKIP: python3 is not installed"; exit 77; }
dir=${2:-$(mktemp -d)}
[ $# -ge 2 ] || trap 'rm -rf "$dir"' EXIT
python3 - "$dir" <<'PYTHON'
import pathlib, struct, sys

out = pathlib.Path(sys.argv[1])
ATTR, PARENT, ARENA, EXACT, END, READONLY = 1, 2, 4, 8, 16, 32
HOW_START, HOW_ID, HOW_TYPE, HOW_NUMBER, HOW_ARENA, HOW_TWICE, HOW_LOST = (1 << i for i in range(7))
LOOKUP, GETATTR, SETATTR, READLINK, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, CREATE, \
    READDIRPLUS, READ, WRITE, FSYNC, FALLOCATE, LSEEK, STATFS, GETXATTR, LISTXATTR, SETXATTR, \
    REMOVEXATTR, IOCTL, MOUNT, STATS = range(26)
FILE, DIRECTORY = 1, 2
ANSWER = 255


def attr(ident, kind=FILE, size=5, mode=0o644, block=4096):
    return struct.pack("<QIIIIIIIIQQqqqq", ident, 1, kind, mode, 1, 0, 0, 0, block, size, 8, 1, -2, 3, 4)


def answer(flags=0, result=0, data=b"", length=None, param1=0, a=None, parent=None, how=0, pick=0,
           arena=None):
    body = struct.pack("<12xHxx", flags) + bytes(16) + struct.pack(
        "<iIQQ", result, len(data) if length is None else length, param1, 0)
    body += (a or bytes(88)) + (parent or bytes(88)) + bytes(56) + data + bytes(-len(data) % 8)
    how |= HOW_ARENA if arena is not None else 0
    rest = struct.pack("<H", len(arena)) + arena if arena is not None else b""
    return bytes([ANSWER, how, pick]) + struct.pack("<H", len(body)) + body + rest


def ask(which, thing=0, how=0):
    return bytes([which, thing, how])


def dirent(name, cookie, ident, kind=FILE, has_attr=1, total=None):
    padded = name + bytes(-len(name) % 8)
    return struct.pack("<IHBBQQQ", 128 + len(padded) if total is None else total, len(name), kind,
                       has_attr, cookie, ident, cookie) + (attr(ident, kind) if has_attr else
                                                           bytes(88)) + bytes(8) + padded


found = answer(ATTR | PARENT | EXACT, a=attr(20), parent=attr(1, DIRECTORY))
names = [b"a", b"a longer name", "é".encode(), b"x" * 255]
listing = b"".join(dirent(n, i + 1, 30 + i) for i, n in enumerate(names))
runs = {
    "lookup": ask(LOOKUP) + found + ask(LOOKUP) + ask(GETATTR, 1) + answer(result=-2),
    "lookup-none": ask(LOOKUP) + answer(result=-2),
    "lookup-root": ask(LOOKUP) + answer(ATTR, a=attr(1)),
    "lookup-lost": ask(LOOKUP) + answer(ATTR, a=attr(20), how=HOW_LOST),
    "twice": ask(LOOKUP) + answer(ATTR, a=attr(20), how=HOW_TWICE),
    "order": ask(LOOKUP) + ask(GETATTR, 1) + answer(ATTR, a=attr(2), pick=1) + found,
    "old-number": ask(LOOKUP) + answer(ATTR, a=attr(20), how=HOW_NUMBER),
    "other-id": ask(LOOKUP) + answer(ATTR, a=attr(20), how=HOW_ID),
    "other-type": ask(LOOKUP) + answer(ATTR, a=attr(20), how=HOW_TYPE),
    "no-start": ask(LOOKUP) + answer(ATTR, a=attr(20), how=HOW_START),
    "getattr": ask(GETATTR, 2) + answer(ATTR, a=attr(3, DIRECTORY, block=3)),
    "getattr-other": ask(GETATTR, 2) + answer(ATTR, a=attr(4)),
    "setattr": ask(SETATTR, 2, 8) + answer(ATTR | READONLY, a=attr(3)),
    "readlink": ask(READLINK, 2) + answer(data=b"target\0more"),
    "readlink-long": ask(READLINK, 2) + answer(data=b"t" * 4096),
    "read": ask(READ, 2) + answer(result=60, data=b"d" * 60),
    "read-arena": ask(READ, 2, 2) + answer(ARENA, 7000, length=7000, arena=b"d" * 7000),
    "read-more": ask(READ, 2) + answer(result=101, data=b"d" * 101),
    "write": ask(WRITE, 2) + answer(ATTR, 100, a=attr(3)),
    "write-more": ask(WRITE, 2) + answer(ATTR, 101, a=attr(3)),
    "lseek": ask(LSEEK, 2) + answer(param1=2**63) + ask(LSEEK, 2) + answer(param1=7),
    "statfs": ask(STATFS) + answer(data=struct.pack("<7Q", 9, 8, 7, 6, 5, 4096, 255)),
    "xattr": ask(GETXATTR, 2, 1) + answer(data=b"value") + ask(GETXATTR, 2) + answer(param1=2**60),
    "xattrs": ask(LISTXATTR, 2, 2) + answer(ARENA, length=500, arena=b"user.a\0" * 80),
    "setxattr": ask(SETXATTR, 2) + answer() + ask(REMOVEXATTR, 2) + answer(result=-61),
    "ioctl": ask(IOCTL, 2) + answer(data=b"0x20") + ask(IOCTL, 2) + answer(data=b"z" * 40),
    "list": ask(READDIRPLUS, 0, 1) + answer(END, data=listing) + ask(READDIRPLUS, 0, 0xf1),
    "list-arena": ask(READDIRPLUS, 0, 2) + answer(ARENA, length=len(listing), arena=listing),
    "list-lost": ask(READDIRPLUS, 0, 1) + answer(data=listing, how=HOW_LOST),
    "list-full": ask(READDIRPLUS, 0, 0) + answer(data=listing),
    "own": ask(MOUNT) + answer(data=b"label=x\ncase=fold\n") + ask(STATS) + answer(ARENA, length=9,
                                                                                 arena=b'{"a": 1}\n'),
    "all": b"".join(ask(i, 2, 1) for i in range(12)) + answer(result=-5, pick=11) + found,
    "changes": b"".join(ask(i, 2) + answer(ATTR if i in (SYMLINK, MKNOD, MKDIR, LINK, CREATE) else 0,
                                           a=attr(3 if i == LINK else 40 + i) if
                                           i in (SYMLINK, MKNOD, MKDIR, LINK, CREATE) else None)
                        for i in (SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, CREATE)),
}
for name, bad in {"slash": dirent(b"a/b", 1, 30), "nul": dirent(b"a\0b", 1, 30),
                  "dots": dirent(b"..", 1, 30), "root": dirent(b"r", 1, 1, DIRECTORY),
                  "cookie": dirent(b"c", 0, 30), "far": dirent(b"f", 2**63 - 1, 30),
                  "type": dirent(b"t", 1, 30, 9), "length": dirent(b"l", 1, 30, total=2**31),
                  "plain": dirent(b"p", 1, 30, FILE, 0)}.items():
    runs["list-" + name] = ask(READDIRPLUS, 0, 1) + answer(data=listing + bad)
for name, run in runs.items():
    for mode in range(4):
        (out / f"{name}-{mode}").write_bytes(bytes([mode]) + run)
PYTHON
[ $# -ge 2 ] || "$1" --mutations "${BERTH_FUZZ_MUTATIONS:-40}" "$dir"
