#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""AppleDouble files (version 2), taken apart and made in the ways that several systems do.

usage: hfs_double.py check FILE INFO FORK    has it this Finder information (-: none) and fork?
       hfs_double.py same FILE FILE          have both the same of both?
       hfs_double.py make KIND INFO FORK     to standard output
KIND: plain, attributes (a Mac's with extended attributes), netatalk (more entries), fork-only,
fork-first (the Finder information behind the fork).
"""
import struct
import sys

RESOURCE, NAME, COMMENT, DATES, FINDER = 2, 3, 4, 8, 9


def parse(data):
    """(Finder information or None, fork)."""
    magic, version, count = struct.unpack(">II16xH", data[:26])
    if (magic, version) != (0x00051607, 0x00020000):
        raise ValueError(f"magic {magic:#x}, version {version:#x}")
    info, fork = None, b""
    for i in range(count):
        kind, offset, length = struct.unpack(">III", data[26 + 12 * i:38 + 12 * i])
        if offset + length > len(data):
            raise ValueError(f"entry {kind} goes to {offset + length} of {len(data)}")
        if kind == FINDER:
            info = data[offset:offset + 32]
        elif kind == RESOURCE:
            fork = data[offset:offset + length]
    return info, fork


def make(entries):
    """entries: (id, bytes, offset or None: behind the one before), in the order of the header."""
    table, body = b"", {}
    at = 26 + 12 * len(entries)
    for kind, content, offset in entries:
        at = at if offset is None else offset
        table += struct.pack(">III", kind, at, len(content))
        body[at] = content
        at += len(content)
    out = bytearray(max(at + len(content) for at, content in body.items()))
    out[:26] = struct.pack(">II16sH", 0x00051607, 0x00020000, b"Mac OS X        ", len(entries))
    out[26:26 + len(table)] = table
    for at, content in body.items():
        out[at:at + len(content)] = content
    return bytes(out)


def make_kind(kind, info, fork):
    if kind == "plain":
        return make([(FINDER, info, None), (RESOURCE, fork, None)])
    if kind == "attributes":
        attributes = b"\0\0ATTR" + bytes(range(256)) * 14
        return make([(FINDER, (info + attributes).ljust(3760, b"\0"), None), (RESOURCE, fork, None)])
    if kind == "netatalk":
        return make([(NAME, b"a name".ljust(255, b"\0"), None), (COMMENT, b"said".ljust(200, b"\0"), None),
                     (DATES, bytes(16), None), (FINDER, info, None), (RESOURCE, fork, 741)])
    if kind == "fork-only":
        return make([(RESOURCE, fork, None)])
    if kind == "fork-first":
        return make([(RESOURCE, fork, None), (FINDER, info, None)])
    raise ValueError(kind)


def read(name):
    with open(name, "rb") as f:
        return f.read()


def main():
    what, *names = sys.argv[1:]
    if what == "make":
        sys.stdout.buffer.write(make_kind(names[0], read(names[1]), read(names[2])))
        return 0
    found = parse(read(names[0]))
    if what == "same":
        wanted = parse(read(names[1]))
    else:
        wanted = (found[0] if names[1] == "-" else read(names[1]), read(names[2]))
    if found != wanted:
        print(f"{names[0]}: {found[0]!r}, {len(found[1])} bytes, not {wanted[0]!r}, {len(wanted[1])} bytes",
              file=sys.stderr)
    return 0 if found == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
