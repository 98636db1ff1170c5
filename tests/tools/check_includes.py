#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the sources to the layers: a module includes only what stands below it.

    check_includes.py SOURCE_ROOT

Layers, lowest first, are in LAYERS; each header of include/berth belongs to
one (HEADERS: a new header must be added here). Code in src/fs/<name> may use
base to formats, whatever stands above; daemons, tools, tests may use everything.
A quoted include without "berth/" must lie beside the file that includes it,
so nobody reaches into another module's folder. Tests may reach into src.
"""
import pathlib
import re
import sys

LAYERS = ["base", "fiber", "block", "cache", "vfs", "formats", "ipc", "service", "front"]

HEADERS = {
    "base": ["base", "bitmap", "bytes", "check", "hashmap", "log", "options", "report", "stats", "text"],
    "fiber": ["fiber", "loop"],
    "block": ["block", "partition"],
    "cache": ["cache", "lifeline", "sidejournal"],
    "vfs": ["fs"],
    "formats": ["hfs"],
    "ipc": ["channel", "message", "transport"],
    "service": ["sandbox", "service"],
    "front": ["control", "front", "registry"],
}
LAYER_OF = {f"berth/{name}.h": layer for layer, names in HEADERS.items() for name in names}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def layer_of_file(path):
    """The highest layer that a file may use, or None when it may use all."""
    parts = path.parts
    if parts[:2] == ("include", "berth"):
        return LAYER_OF.get("berth/" + path.name)
    if parts[:2] == ("src", "fs"):
        return "formats"
    if parts[0] == "src" and parts[1] in LAYERS:
        return parts[1]
    return None


def check_file(root, path):
    text = (root / path).read_text(encoding="utf-8")
    limit = layer_of_file(path)
    if path.parts[0] == "include" and limit is None:
        yield 1, f"{path.name} belongs to no layer: add it to HEADERS in this script"
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        bracket, name = match.groups()
        if name.startswith("berth/"):
            if name not in LAYER_OF:
                yield line, f"{name} belongs to no layer: add it to HEADERS in this script"
            elif limit and LAYERS.index(LAYER_OF[name]) > LAYERS.index(limit):
                yield line, f"{name} is of layer {LAYER_OF[name]}, above {limit}"
        elif bracket == '"' and path.parts[0] != "tests":
            if "/" in name or not (root / path.parent / name).exists():
                yield line, f'"{name}" is not a file beside this one'


def main():
    root = pathlib.Path(sys.argv[1])
    files = [p.relative_to(root) for top in ("include", "src", "daemons", "tools", "tests")
             for p in sorted((root / top).rglob("*.[ch]"))]
    if len(files) < 20:
        print(f"only {len(files)} sources under {root}: wrong directory?")
        return 1
    errors = 0
    for path in files:
        for line, problem in check_file(root, path):
            print(f"{path}:{line}: {problem}")
            errors += 1
    print(f"{len(files)} files, {errors} wrong includes")
    return 1 if errors else 0


sys.exit(main())
