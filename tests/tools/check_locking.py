#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the table of man berth-locking.7 with the one in src/service/dispatch.c.

Usage: check_locking.py SOURCE_ROOT. Prints each row that differs; exit status 1 if any does.
"""
import pathlib
import re
import sys

NEEDS = [  # in the page's order of words
    ("ROW_DIRECTORY", "directory"),
    ("ROW_FILE", "file"),
    ("ROW_NAME", "name"),
    ("ROW_NAME2", "name2"),
    ("ROW_RANGE", "range"),
    ("ROW_UNMOUNTED", "unmounted"),
]
ROW = re.compile(
    r"\[FS_MSG_(\w+)\]\s*=\s*\{\s*\w+,\s*([^,]*?),\s*VOLUME_(\w+),\s*INODE_(\w+)\s*\}"
)


def rows_of_code(text):
    rows = {}
    for name, flags, volume, inode in ROW.findall(text):
        flags = {flag.strip() for flag in flags.split("|")}
        unknown = flags - {flag for flag, _ in NEEDS} - {"ROW_WRITER", "0"}
        if unknown:
            sys.exit(f"dispatch.c: {name}: flags this test does not know: {unknown}")
        needs = [word for flag, word in NEEDS if flag in flags] or ["-"]
        changes = "yes" if "ROW_WRITER" in flags else "no"
        rows[name] = (" ".join(needs), changes, volume.lower(), inode.lower())
    return rows


def rows_of_page(text):
    table = re.search(r"^```\nmessage .*?\n(.*?)^```", text, re.S | re.M)
    if table is None:
        sys.exit("berth-locking.7: the table was not found")
    rows = {}
    for line in table.group(1).splitlines():
        words = line.split()
        rows[words[0]] = (" ".join(words[1:-3]), *words[-3:])
    return rows


def main():
    root = pathlib.Path(sys.argv[1])
    code = rows_of_code((root / "src/service/dispatch.c").read_text())
    page = rows_of_page((root / "man/berth-locking.7.scd").read_text())
    types = re.findall(r"^\s+FS_MSG_(\w+) = \d+,", (root / "include/berth/message.h").read_text(), re.M)
    bad = 0
    for name in sorted(set(code) | set(page) | set(types)):
        if not (name in types and code.get(name) == page.get(name) is not None):
            print(f"{name}: code {code.get(name)}, page {page.get(name)}, "
                  f"{'known' if name in types else 'unknown'} to message.h")
            bad = 1
    print(f"{len(types)} messages compared")
    return bad if types else 1


if __name__ == "__main__":
    sys.exit(main())
