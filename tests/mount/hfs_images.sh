#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The images that Macs left: in an Apple partition map, in DiskCopy and MacBinary files; and those
# that are no classic HFS, refused by name. A mounted volume is safe from mkfs, fsck and put.
. "$(dirname "$0")/lib.sh"
need hmount python3
MKFS=$BERTH_BUILD/tools/mkfs.hfs
FSCK=$BERTH_BUILD/tools/fsck.hfs
export HOME=$SCRATCH
cd "$SCRATCH"

refused() { # IMAGE WORDS [OPTION...]
    local image=$1 words=$2
    shift 2
    ! "$BERTH" mount "$@" "$image" "$MNT" 2>err || fail "$image was mounted"
    grep -q "$words" err || fail "$image: \"$(cat err)\", \"$words\" expected"
}

note "an Apple partition map"
"$MKFS" -q --apm -L Mapped -s 8M map.img
head -c 300000 /dev/urandom >big
"$BERTH" mount map.img "$MNT" 2>err
cp big "$MNT/"
"$BERTH" umount "$MNT"
"$BERTH" mount -o part=MacOS map.img "$MNT"
cmp big "$MNT/big"
note "what is mounted is left alone"
for command in "$MKFS -F map.img" "$FSCK -y -f map.img" "$BERTH put big map.img:/"; do
    ! $command >err 2>&1 || fail "$command: done while mounted"
    grep -q "in use" err || fail "$command: $(cat err)"
done
"$BERTH" umount "$MNT"
"$FSCK" -n -f map.img
refused map.img "no filesystem" -o part=1
refused map.img "no such partition" -o part=3
hmount map.img >/dev/null
hcopy -r :big theirs
humount
cmp big theirs

note "blocks of 2048 bytes, as on CDs"
"$MKFS" -q -L Disc -s 4M volume.img
"$BERTH" put big volume.img:/
python3 - <<'END'
import struct
volume = open("volume.img", "rb").read()
start = 20
cd = bytearray(start * 2048) + volume
struct.pack_into(">2sHI", cd, 0, b"ER", 2048, len(cd) // 2048)
for number, (first, count, kind) in enumerate(((1, 3, b"Apple_partition_map"),
                                               (start, len(volume) // 2048, b"Apple_HFS"),
                                               (4, 16, b"Apple_Free")), 1):
    struct.pack_into(">2sHIII32s32s", cd, number * 2048, b"PM", 0, 3, first, count, b"x", kind)
open("cd.img", "wb").write(cd)

def diskcopy(data):
    total = 0
    for word, in struct.iter_unpack(">H", data):
        total = total + word & 0xffffffff
        total = total >> 1 | (total & 1) << 31
    header = bytearray(84)
    header[:5] = b"\x04Disk"
    struct.pack_into(">IIII", header, 64, len(data), 0, total, 0)
    header[82] = 1
    return bytes(header) + data

def macbinary(data):
    header = bytearray(128)
    header[1:6] = b"\x04Disk"
    struct.pack_into(">I", header, 83, len(data))
    header[122:124] = b"\x81\x81"
    crc = 0
    for byte in header[:124]:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    struct.pack_into(">H", header, 124, crc)
    return bytes(header) + data + bytes(-len(data) % 128)

open("diskcopy.img", "wb").write(diskcopy(volume))
open("macbinary.img", "wb").write(macbinary(volume))
open("both.img", "wb").write(macbinary(diskcopy(volume)))

def changed(name, **words):
    data = bytearray(volume)
    for at, value in words.items():
        struct.pack_into(">H", data, 1024 + int(at[1:]), value)
    open(name, "wb").write(data)
    return data

changed("mfs.img", _0=0xd2d7)
plus = changed("wrapper.img", _124=0x482b, _126=100, _128=200)
at = struct.unpack_from(">H", plus, 1024 + 28)[0] * 512 + 100 * 512 + 1024
struct.pack_into(">HH", plus, at, 0x482b, 4)
struct.pack_into(">I", plus, at + 40, 4096)
open("wrapper.img", "wb").write(plus)
plus = bytearray(1 << 20)
struct.pack_into(">HH", plus, 1024, 0x482b, 4)
struct.pack_into(">II", plus, 1024 + 40, 4096, 256)
open("plus.img", "wb").write(plus)
END
"$BERTH" mount cd.img "$MNT" 2>err
cmp big "$MNT/big"
"$BERTH" umount "$MNT"

for image in diskcopy macbinary both; do
    note "a volume in $image.img: for reading"
    cp $image.img before
    "$BERTH" mount $image.img "$MNT" 2>err
    cmp big "$MNT/big"
    ! touch "$MNT/new" 2>/dev/null || fail "$image.img can be written"
    ! mount -o remount,rw "$MNT" 2>/dev/null || fail "$image.img was made writable"
    "$BERTH" umount "$MNT"
    cmp before $image.img
    "$FSCK" -n -f $image.img
    ! "$FSCK" -y -f $image.img 2>err || fail "$image.img was to be repaired"
done
note "a DiskCopy file with a wrong checksum is told of, and mounted"
printf x | dd of=diskcopy.img bs=1 seek=4000000 conv=notrunc status=none
"$BERTH" mount diskcopy.img "$MNT" 2>err
grep -q "wrong checksum" err || fail "not told: $(cat err)"
"$BERTH" umount "$MNT"

note "other volumes of Macs"
refused mfs.img MFS
refused mfs.img MFS -t hfs
refused wrapper.img "HFS+ in an HFS wrapper"
refused wrapper.img "HFS+" -t hfs
refused plus.img "HFS+"
refused plus.img "HFS+" -t hfs
