#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes what the Mac's scripts mean in Unicode: MacRoman, and all the others.

Run by hand when another script is wanted (perl's Encode knows some that Python does not):
    contrib/gen_macscripts.py roman > src/base/macroman_table.h
    contrib/gen_macscripts.py > src/fs/hfs/encoding_tables.h

Of each script the bytes from 0x80 on. 0: the byte stands for nothing, for more than one character,
or for one that a lower byte has already (right-to-left scripts repeat ASCII there). Japanese has
rows of 188 characters by lead byte as well (trail bytes 0x40 to 0x7e and 0x80 to 0xfc).

Then the canonical compositions of these characters, sorted, so that decomposed names are found;
second 0: another code point for the same character.
"""
import subprocess
import sys
import unicodedata

from c_tables import begin, row_text, table

SINGLE = {
    "cyrillic": "mac_cyrillic", "greek": "mac_greek",
    "centraleurope": "mac_latin2", "turkish": "mac_turkish", "icelandic": "mac_iceland",
    "croatian": "mac_croatian", "romanian": "mac_romanian", "arabic": "mac_arabic",
    "farsi": "mac_farsi",
}
PERL = {"hebrew": "MacHebrew", "thai": "MacThai", "japanese": "MacJapanese"}
LEADS = [*range(0x81, 0xA0), *range(0xE0, 0xFD)]
TRAILS = [*range(0x40, 0x7F), *range(0x80, 0xFD)]


def python_chars(codec, sequences):
    return [sequence.decode(codec, "ignore") for sequence in sequences]


def perl_chars(codec, sequences):
    """One line of hexadecimal code points for each sequence; empty when it is none."""
    program = ("use Encode; while (<STDIN>) { chomp; "
               f"my $s = decode('{codec}', pack('H*', $_), Encode::FB_QUIET); "
               "print join(' ', map { sprintf '%x', ord } split //, $s), \"\\n\"; }")
    lines = subprocess.run(["perl", "-e", program], text=True, check=True, stdout=subprocess.PIPE,
                           input="".join(s.hex() + "\n" for s in sequences)).stdout.split("\n")
    return ["".join(chr(int(code, 16)) for code in line.split()) for line in lines[:-1]]


def units(chars, known):
    """One code unit each; 0 for none, several, and what is known already (which grows)."""
    values = []
    for char in chars:
        char = min(unicodedata.normalize("NFC", char), char, key=len)
        fits = len(char) == 1 and ord(char) < 0x10000 and char != "\ufffd" and char not in known
        values.append(ord(char) if fits else 0)
        if fits:
            known.add(char)
    return values


def compositions(characters):
    triples = set()
    for char in characters:
        while char:
            parts = unicodedata.decomposition(char)
            if not parts or parts.startswith("<"):
                break
            codes = [int(code, 16) for code in parts.split()]
            triples.add((codes[0], codes[1] if len(codes) > 1 else 0, ord(char)))
            char = chr(codes[0])
    for code in range(0x80, 0x3000):
        parts = unicodedata.decomposition(chr(code))
        if parts and not parts.startswith("<") and " " not in parts:
            if chr(int(parts, 16)) in characters or int(parts, 16) < 0x80:
                triples.add((code, 0, int(parts, 16)))
    return sorted(triples)


def main():
    high = [bytes([byte]) for byte in range(0x80, 0x100)]
    roman = units(python_chars("mac_roman", high), set())
    if sys.argv[1:] == ["roman"]:
        begin("gen_macscripts.py", "BERTH_MACROMAN_TABLE_H")
        table("macroman_table", roman)
        print("#endif")
        return
    begin("gen_macscripts.py", "HFS_ENCODING_TABLES_H")
    characters = {chr(unit) for unit in roman}
    for name in [*SINGLE, *PERL]:
        chars = python_chars(SINGLE[name], high) if name in SINGLE else perl_chars(PERL[name], high)
        known = {chr(code) for code in range(0x80)}
        if name == "japanese":
            # The yen sign has the place of the backslash, which lies at 0x80.
            known = known - {"\\"} | {"\u00a5"}
        table(f"script_{name}", units(chars, known))
        characters |= known
    rows = {lead: units(perl_chars("MacJapanese", [bytes([lead, trail]) for trail in TRAILS]), known)
            for lead in LEADS}
    rows = {lead: row for lead, row in rows.items() if any(row)}
    characters |= known
    for lead, row in rows.items():
        row_text(f"script_japanese_{lead:02x}", row)
    print("/* By lead byte - 0x80; NULL: not one. */\n"
          "static const uint16_t *const script_japanese_rows[128] = {")
    for lead in rows:
        print(f"    [0x{lead - 0x80:02x}] = script_japanese_{lead:02x},")
    print("};\n")
    triples = compositions(characters)
    print("typedef struct Composition {\n    uint16_t first, second, composed;\n} Composition;\n\n"
          f"static const Composition compositions[{len(triples)}] = {{")
    for at in range(0, len(triples), 4):
        print("    " + " ".join("{0x%04x, 0x%04x, 0x%04x}," % t for t in triples[at:at + 4]))
    print("};\n\n#endif")


main()
