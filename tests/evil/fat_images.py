#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""FAT images with broken metadata, one lie at a time.

Makes a good image with mkfs.fat and mtools, then yields (name, bytes) with one field, chain or
directory changed. Offsets are those of the FAT specification (fatgen103). Used by mount_evil.py
through the real mount, and by the fuzzers as their corpus:

    fat_images.py --write DIR      writes every image as DIR/NAME.img
"""
import os
import random
import struct
import subprocess
import sys
import tempfile


def run(*cmd, **kw):
    env = dict(os.environ, MTOOLS_SKIP_CHECK="1", TZ="UTC")
    subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, **kw)


def base_image(fat_bits, kib, per_cluster):
    with tempfile.TemporaryDirectory() as d:
        img = os.path.join(d, "base.img")
        with open(img, "wb") as f:
            f.truncate(kib * 1024)
        run("mkfs.fat", "-F", str(fat_bits), "-s", str(per_cluster), "-n", "EVIL", "-i", "12345678", img)
        run("mmd", "-i", img, "::dir", "::dir/sub directory with a long name")
        for name, size in (("small.txt", 5), ("a longer file name.dat", 9000), ("dir/inner.bin", 20000),
                           ("dir/sub directory with a long name/deep.txt", 700), ("empty", 0)):
            src = os.path.join(d, "src")
            with open(src, "wb") as f:
                f.write((b"%s contents " % name.encode()) * (size // 10 + 1))
                f.truncate(size)
            run("mcopy", "-i", img, src, "::" + name)
        with open(img, "rb") as f:
            return f.read()


class Fat:
    """Enough of the format to aim: geometry, cells, directory slots."""

    def __init__(self, image):
        self.b = bytearray(image)
        g = lambda fmt, off: struct.unpack_from(fmt, self.b, off)[0]
        self.sector = g("<H", 11)
        self.spc = self.b[13]
        self.reserved = g("<H", 14)
        self.fats = self.b[16]
        self.root_entries = g("<H", 17)
        self.fat_sectors = g("<H", 22) or g("<I", 36)
        total = g("<H", 19) or g("<I", 32)
        self.root_sector = self.reserved + self.fats * self.fat_sectors
        self.data_sector = self.root_sector + -(-self.root_entries * 32 // self.sector)
        self.clusters = (total - self.data_sector) // self.spc
        self.bits = 12 if self.clusters < 4085 else 16 if self.clusters < 65525 else 32
        self.root_cluster = g("<I", 44) if self.bits == 32 else 0

    def cluster(self, n):
        return (self.data_sector + (n - 2) * self.spc) * self.sector

    def root(self):
        return self.cluster(self.root_cluster) if self.bits == 32 else self.root_sector * self.sector

    def get(self, n):
        base = self.reserved * self.sector
        if self.bits == 32:
            return struct.unpack_from("<I", self.b, base + 4 * n)[0] & 0x0fffffff
        if self.bits == 16:
            return struct.unpack_from("<H", self.b, base + 2 * n)[0]
        v = struct.unpack_from("<H", self.b, base + n + n // 2)[0]
        return v >> 4 if n & 1 else v & 0xfff

    def set(self, n, value):
        for copy in range(self.fats):
            base = (self.reserved + copy * self.fat_sectors) * self.sector
            if self.bits == 32:
                struct.pack_into("<I", self.b, base + 4 * n, value)
            elif self.bits == 16:
                struct.pack_into("<H", self.b, base + 2 * n, value & 0xffff)
            else:
                off = base + n + n // 2
                v = struct.unpack_from("<H", self.b, off)[0]
                v = (v & 0x000f) | (value & 0xfff) << 4 if n & 1 else (v & 0xf000) | (value & 0xfff)
                struct.pack_into("<H", self.b, off, v)

    def find(self, start, size, short):
        for off in range(start, start + size, 32):
            if self.b[off:off + 11] == short and self.b[off + 11] & 0x0f != 0x0f:
                return off
        raise KeyError(short)

    def first(self, slot):
        return struct.unpack_from("<H", self.b, slot + 26)[0] | struct.unpack_from("<H", self.b, slot + 20)[0] << 16

    def set_first(self, slot, n):
        struct.pack_into("<H", self.b, slot + 26, n & 0xffff)
        struct.pack_into("<H", self.b, slot + 20, n >> 16 & 0xffff)


BOOT_FIELDS = [
    ("bytes-per-sector", 11, "<H", [0, 1, 3, 256, 511, 513, 8192, 65535]),
    ("sectors-per-cluster", 13, "<B", [0, 3, 255]),
    ("reserved-sectors", 14, "<H", [0, 65535]),
    ("number-of-fats", 16, "<B", [0, 3, 255]),
    ("root-entries", 17, "<H", [1, 15, 65535]),
    ("total-sectors-16", 19, "<H", [1, 65535]),
    ("media", 21, "<B", [0, 1]),
    ("fat-size-16", 22, "<H", [0, 1, 65535]),
    ("total-sectors-32", 32, "<I", [0, 1, 0x7fffffff, 0xffffffff]),
    ("jump", 0, "<B", [0]),
    ("signature", 510, "<H", [0, 0xaa54]),
]
BOOT_FIELDS_32 = [
    ("fat-size-32", 36, "<I", [0, 1, 0xffffffff]),
    ("ext-flags", 40, "<H", [0x80, 0x8f, 0xffff]),
    ("fs-version", 42, "<H", [1, 0xffff]),
    ("root-cluster", 44, "<I", [0, 1, 0x0ffffff7, 0xffffffff]),
    ("fsinfo-sector", 48, "<H", [0, 2, 0xffff]),
    ("backup-boot", 50, "<H", [0xffff]),
]


def images():
    rng = random.Random(7)
    for bits, kib, spc in ((12, 1440, 1), (16, 16384, 4), (32, 40960, 1)):
        good = base_image(bits, kib, spc)
        tag = f"fat{bits}"
        yield f"{tag}-good", good

        def changed(fn):
            f = Fat(good)
            fn(f)
            return bytes(f.b)

        for name, off, fmt, values in BOOT_FIELDS + (BOOT_FIELDS_32 if bits == 32 else []):
            for v in values:
                yield f"{tag}-{name}-{v:#x}", changed(lambda f: struct.pack_into(fmt, f.b, off, v))

        f = Fat(good)
        root_size = f.spc * f.sector if bits == 32 else f.root_entries * 32
        root = f.root()
        s_dir = f.find(root, root_size, b"DIR        ")
        s_small = f.find(root, root_size, b"SMALL   TXT")
        s_long = f.find(root, root_size, b"ALONGE~1DAT")
        dir_cluster, long_first = f.first(s_dir), f.first(s_long)
        in_dir = f.cluster(dir_cluster)
        eoc = {12: 0xfff, 16: 0xffff, 32: 0x0fffffff}[bits]
        bad = eoc - 8
        last = f.clusters + 1

        chain = [
            ("loop-to-self", lambda f: f.set(long_first, long_first)),
            ("loop-back", lambda f: (f.set(f.get(long_first), long_first))),
            ("into-free", lambda f: f.set(long_first, last)),
            ("into-bad", lambda f: f.set(long_first, bad)),
            ("into-zero", lambda f: f.set(long_first, 0)),
            ("into-one", lambda f: f.set(long_first, 1)),
            ("past-end", lambda f: f.set(long_first, last + 1)),
            ("reserved-value", lambda f: f.set(long_first, eoc - 9 if bits != 32 else 0x0ffffff6)),
            ("cut-short", lambda f: f.set(long_first, eoc)),
            ("cross-into-other-file", lambda f: f.set(long_first, f.first(s_small))),
            ("cross-into-directory", lambda f: f.set(long_first, dir_cluster)),
            ("directory-loop", lambda f: f.set(dir_cluster, dir_cluster)),
            ("directory-into-file", lambda f: f.set(dir_cluster, long_first)),
            ("cell0-wrong", lambda f: f.set(0, 0)),
            ("cell1-dirty-and-error", lambda f: f.set(1, {12: 0, 16: 0x3fff, 32: 0x03ffffff}[bits])),
            ("all-cells-ff", lambda f: [f.set(n, eoc) for n in range(2, min(f.clusters, 3000))]),
            ("all-cells-bad", lambda f: [f.set(n, bad) for n in range(20, min(f.clusters, 3000))]),
        ]
        entries = [
            ("first-cluster-0-with-size", lambda f: f.set_first(s_long, 0)),
            ("first-cluster-1", lambda f: f.set_first(s_long, 1)),
            ("first-cluster-past-end", lambda f: f.set_first(s_long, last + 1)),
            ("first-cluster-huge", lambda f: f.set_first(s_long, 0xffffffff)),
            ("size-4gib", lambda f: struct.pack_into("<I", f.b, s_long + 28, 0xffffffff)),
            ("size-one-more", lambda f: struct.pack_into("<I", f.b, s_long + 28, 900000)),
            ("size-zero-with-chain", lambda f: struct.pack_into("<I", f.b, s_long + 28, 0)),
            ("directory-first-0", lambda f: f.set_first(s_dir, 0)),
            ("directory-is-itself", lambda f: f.set_first(f.find(in_dir, f.spc * f.sector, b"SUBDIR~1   "), dir_cluster)),
            ("directory-is-root", lambda f: f.set_first(s_dir, f.root_cluster)),
            ("directory-has-size", lambda f: struct.pack_into("<I", f.b, s_dir + 28, 0xffffffff)),
            ("dotdot-elsewhere", lambda f: f.set_first(in_dir + 32, long_first)),
            ("dotdot-past-end", lambda f: f.set_first(in_dir + 32, last + 1)),
            ("dot-missing", lambda f: f.b.__setitem__(slice(in_dir, in_dir + 11), b"NOTDOT     ")),
            ("attr-all", lambda f: f.b.__setitem__(s_long + 11, 0xff)),
            ("attr-label-and-dir", lambda f: f.b.__setitem__(s_long + 11, 0x18)),
            ("name-with-slash", lambda f: f.b.__setitem__(slice(s_small, s_small + 11), b"A/B/C   TXT")),
            ("name-with-nul", lambda f: f.b.__setitem__(slice(s_small, s_small + 11), b"A\0B\0C   TXT")),
            ("name-all-spaces", lambda f: f.b.__setitem__(slice(s_small, s_small + 11), b" " * 11)),
            ("name-dot", lambda f: f.b.__setitem__(slice(s_small, s_small + 11), b".          ")),
            ("name-dotdot", lambda f: f.b.__setitem__(slice(s_small, s_small + 11), b"..         ")),
            ("name-high-bytes", lambda f: f.b.__setitem__(slice(s_small, s_small + 11), bytes(range(0xf0, 0xfb)))),
            ("times-all-ones", lambda f: f.b.__setitem__(slice(s_small + 13, s_small + 26), b"\xff" * 13)),
            ("duplicate-name", lambda f: f.b.__setitem__(slice(s_small, s_small + 11), b"DIR        ")),
            ("lfn-wrong-order", lambda f: f.b.__setitem__(s_long - 64, 0x4f)),
            ("lfn-order-0", lambda f: f.b.__setitem__(s_long - 32, 0)),
            ("lfn-bad-checksum", lambda f: f.b.__setitem__(s_long - 32 + 13, 0x55)),
            ("lfn-slash", lambda f: struct.pack_into("<H", f.b, s_long - 32 + 1, ord("/"))),
            ("lfn-nul-first", lambda f: struct.pack_into("<H", f.b, s_long - 32 + 1, 0)),
            ("lfn-lone-surrogate", lambda f: struct.pack_into("<H", f.b, s_long - 32 + 1, 0xd800)),
            ("lfn-without-short", lambda f: f.b.__setitem__(s_long, 0xe5)),
            ("root-all-lfn", lambda f: [f.b.__setitem__(root + i * 32 + 11, 0x0f) for i in range(root_size // 32)]),
            ("root-no-end", lambda f: [f.b.__setitem__(root + i * 32, 0xe5) for i in range(16, root_size // 32)]),
        ]
        for group in (chain, entries):
            for name, fn in group:
                yield f"{tag}-{name}", changed(fn)
        for cut in (0, 1, 511, 512, 5000, f.data_sector * f.sector + 100, len(good) - 1):
            yield f"{tag}-cut-at-{cut}", good[:cut]
        for i in range(6):
            noisy = bytearray(good)
            limit = (f.data_sector + 40 * f.spc) * f.sector
            for _ in range(60):
                noisy[rng.randrange(36 if i % 2 else 512, limit)] = rng.randrange(256)
            yield f"{tag}-noise-{i}", bytes(noisy)
        zero = bytearray(good)
        zero[f.reserved * f.sector:f.root_sector * f.sector] = bytes((f.root_sector - f.reserved) * f.sector)
        yield f"{tag}-fat-all-zero", bytes(zero)
    yield "zeros", bytes(1 << 20)
    yield "ones", b"\xff" * (1 << 20)
    yield "random", random.Random(9).randbytes(1 << 20)


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--write":
        os.makedirs(sys.argv[2], exist_ok=True)
        for name, data in images():
            with open(os.path.join(sys.argv[2], name + ".img"), "wb") as f:
                f.write(data)
        return 0
    count = sum(1 for _ in images())
    print(f"{count} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
