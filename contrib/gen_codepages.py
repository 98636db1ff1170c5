#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes src/fs/fat/codepage_tables.h: what the OEM code pages mean in Unicode.

Run by hand when another code page is wanted:
    contrib/gen_codepages.py > src/fs/fat/codepage_tables.h

Below 0x80 all are ASCII. 0: the byte stands for nothing. Code page 932 has
characters of two bytes as well: one row of 188 for each lead byte (trail bytes
0x40 to 0x7e and 0x80 to 0xfc). Its user-defined rows 0xf0 to 0xf9 are computed.
Where several pairs of bytes stand for one character, Windows writes the first
one, but not one of rows 0xed and 0xee if there is another. Python takes those rows
first; that there is no other difference is checked here.
"""
from c_tables import begin, row_text, table

SINGLE = ["437", "737", "775", "850", "852", "855", "857", "858", "860", "861", "862", "863", "865",
          "866", "1250", "1251", "1252"]
LEADS = [*range(0x81, 0xA0), *range(0xE0, 0xF0), *range(0xFA, 0xFD)]
TRAILS = [*range(0x40, 0x7F), *range(0x80, 0xFD)]


def unit(codec, *octets):
    try:
        text = bytes(octets).decode(codec)
    except UnicodeDecodeError:
        return 0
    return ord(text) if len(text) == 1 else 0


def check_order(rows):
    first = {}
    for late in (False, True):
        for lead in rows:
            if (lead in (0xED, 0xEE)) == late:
                for trail, value in zip(TRAILS, rows[lead]):
                    if value:
                        first.setdefault(value, bytes([lead, trail]))
    for value, octets in first.items():
        theirs = chr(value).encode("cp932")
        assert theirs == octets or theirs[0] in (0xED, 0xEE), hex(value)


def main():
    begin("gen_codepages.py", "FAT_CODEPAGE_TABLES_H")
    for name in SINGLE + ["932"]:
        table(f"codepage_{name}", [unit("cp" + name, byte) for byte in range(0x80, 0x100)])
    rows = {lead: [unit("cp932", lead, trail) for trail in TRAILS] for lead in LEADS}
    rows = {lead: row for lead, row in rows.items() if any(row)}
    check_order(rows)
    for lead, row in rows.items():
        row_text(f"codepage_932_{lead:02x}", row)
    print("/* By lead byte - 0x80; NULL: not one, or a user-defined one. */\n"
          "static const uint16_t *const codepage_932_rows[128] = {")
    for lead in rows:
        print(f"    [0x{lead - 0x80:02x}] = codepage_932_{lead:02x},")
    print("};\n\n#endif")


main()
