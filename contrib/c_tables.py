# SPDX-License-Identifier: MIT
"""Prints the C tables of gen_codepages.py and gen_macscripts.py."""
import unicodedata


def begin(maker, guard):
    print("/* SPDX-License-Identifier: MIT */\n"
          f"/* Made by contrib/{maker}; do not edit. Unicode of the bytes from 0x80 on. */\n"
          f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n/* clang-format off */\n")


def table(name, values):
    print(f"static const uint16_t {name}[{len(values)}] = {{")
    for at in range(0, len(values), 12):
        print("    " + " ".join(f"0x{value:04x}," for value in values[at:at + 12]))
    print("};\n")


def literal(value):
    char = chr(value)
    if value == 0:
        return "\\0"
    # What an editor might normalise or not show is written by number.
    if unicodedata.category(char) == "Co" or unicodedata.normalize("NFKC", char) != char:
        return f"\\u{value:04x}"
    return char


def row_text(name, values):
    """A row as text: far shorter than numbers, and it can be read."""
    print(f"static const uint16_t {name}[{len(values) + 1}] =")
    for at in range(0, len(values), 47):
        part = "".join(literal(value) for value in values[at:at + 47])
        print(f'    u"{part}"' + (";" if at + 47 >= len(values) else ""))
    print()
