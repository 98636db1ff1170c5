#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# udev's rule: its syntax, that its jumps lead somewhere, and what the program that it calls prints for
# images of other people's tools. Judged by udevadm(8) where that is installed, and by the
# grammar of udev(7) in any case. A real uevent is not tested: that takes a running udevd.
. "$(dirname "$0")/../mount/lib.sh"
need python3 hformat
RULE=$BERTH_BUILD/udev/64-berth.rules
[ -e "$RULE" ] || fail "$RULE was not made"

note "the rule"
program=$(python3 - "$RULE" <<'PYTHON'
import re, sys
TOKEN = re.compile(r'\s*([A-Z_]+)(?:\{([^}]*)\})?(==|!=|:=|\+=|-=|=)"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
MATCH = {"ACTION", "SUBSYSTEM", "KERNEL", "ENV"}
ASSIGN = {"GOTO", "LABEL", "IMPORT", "ENV"}
jumps, labels, programs = {}, {}, []
for number, line in enumerate(open(sys.argv[1]), 1):
    line = line.strip()
    if not line or line.startswith("#"):
        continue
    at = 0
    while at < len(line):
        token = TOKEN.match(line, at)
        assert token, f"line {number}: {line[at:]}"
        key, attribute, operator, value = token.groups()
        known = MATCH if operator in ("==", "!=") else ASSIGN
        assert key in known, f"line {number}: {key}{operator}"
        assert (attribute is not None) == (key in ("ENV", "IMPORT")), f"line {number}: {key}"
        if key == "GOTO":
            jumps[value] = number
        elif key == "LABEL":
            labels[value] = number
        elif key == "IMPORT":
            assert attribute == "program", attribute
            programs.append(value)
        at = token.end()
assert jumps and all(labels.get(name, 0) > number for name, number in jumps.items()), (jumps, labels)
assert len(programs) == 1 and "$devnode" in programs[0].split(), programs
print(programs[0])
PYTHON
) || fail "the rule"
[[ $program == */bin/berth\ * ]] || fail "the rule calls $program"
if command -v udevadm >/dev/null && udevadm verify --help >/dev/null 2>&1; then
    udevadm verify "$RULE" || fail "udevadm verify"
else
    echo "udevadm verify: not here"
fi

# imported IMAGE EXPECTED...: what udev would import from the rule's program; each line of it is KEY=VALUE, without
# blanks, and what is meant for file names (_ENC, UUID) in harmless characters.
imported() {
    local command=${program/\$devnode/$1} line
    # shellcheck disable=SC2086  # as udev does: at blanks
    "$BERTH" ${command#* } >"$SCRATCH/imported" || fail "$command: exit $?"
    [ -s "$SCRATCH/imported" ] || fail "$command: nothing"
    ! grep -vE '^ID_FS_((TYPE|USAGE|VERSION|LABEL_ENC|UUID|UUID_ENC)=[0-9A-Za-z#+.:=@_\\-]+|LABEL=[[:graph:]]+)$' \
        "$SCRATCH/imported" || fail "$1: not like udev's"
    [ -z "$(cut -d= -f1 "$SCRATCH/imported" | sort | uniq -d)" ] || fail "$1: a variable twice"
    for line in "${@:2}"; do
        grep -qxF -e "$line" "$SCRATCH/imported" || fail "$1: no $line in $(cat "$SCRATCH/imported")"
    done
}

note "what it imports"
make_image "$SCRATCH/fat16.img" 32m -n DATA -i 1234abcd
imported "$SCRATCH/fat16.img" ID_FS_TYPE=fat ID_FS_USAGE=filesystem ID_FS_VERSION=FAT16 \
    ID_FS_LABEL=DATA ID_FS_LABEL_ENC=DATA ID_FS_UUID=1234-ABCD ID_FS_UUID_ENC=1234-ABCD
make_image "$SCRATCH/fat32.img" 64m -F 32 -n 'TWO WORDS'
imported "$SCRATCH/fat32.img" ID_FS_VERSION=FAT32 ID_FS_LABEL=TWO_WORDS 'ID_FS_LABEL_ENC=TWO\x20WORDS'
make_image "$SCRATCH/fat12.img" 1m -n "A'B"
imported "$SCRATCH/fat12.img" ID_FS_VERSION=FAT12 "ID_FS_LABEL=A'B" "ID_FS_LABEL_ENC=A\x27B"
truncate -s 4m "$SCRATCH/hfs.img"
hformat -l 'My Disk' "$SCRATCH/hfs.img" >/dev/null
imported "$SCRATCH/hfs.img" ID_FS_TYPE=hfs ID_FS_USAGE=filesystem ID_FS_LABEL=My_Disk \
    'ID_FS_LABEL_ENC=My\x20Disk'

note "nothing of what is no volume, and of no device"
truncate -s 1m "$SCRATCH/empty.img"
for image in "$SCRATCH/empty.img" "$SCRATCH/none"; do
    ! "$BERTH" probe --udev "$image" >"$SCRATCH/imported" 2>/dev/null || fail "$image: exit 0"
    [ ! -s "$SCRATCH/imported" ] || fail "$image: $(cat "$SCRATCH/imported")"
done

note "a block device, as udev names one"
if [ "$(id -u)" = 0 ] && device=$(losetup --find --show --read-only "$SCRATCH/fat16.img" 2>/dev/null); then
    imported "$device" ID_FS_TYPE=fat ID_FS_LABEL=DATA
    losetup --detach "$device"
else
    echo "no loop device here"
fi
