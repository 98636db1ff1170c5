#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""berth ls, get and put on images that are not mounted.

    test_files.py BERTH MKFS_HFS FSCK_HFS

FAT with mtools and HFS with hfsutils as the other opinion; a Mac's files with
both forks in MacBinary, AppleDouble and BinHex, in both directions.
"""
import binascii
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BERTH, MKFS, FSCK = map(os.path.abspath, sys.argv[1:4])
HAVE_HFSUTILS = all(shutil.which(tool) for tool in ("hmount", "hls", "hcopy", "hattrib"))
HAVE_MTOOLS = all(shutil.which(tool) for tool in ("mcopy", "mkfs.fat"))


class FilesTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-test-files-"))
        self.image = self.folder / "image"
        self.rng = random.Random(self.id())

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_tool(self, *args, code=0, **more):
        result = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                                env={**os.environ, "HOME": str(self.folder)}, cwd=self.folder,
                                timeout=60, **more)
        self.assertEqual(result.returncode, code, (args, result.stdout[:500], result.stderr))
        return result.stderr.decode() if code else result.stdout

    def berth(self, *args, code=0):
        return self.run_tool(BERTH, *args, code=code)

    def place(self, path, part=None):
        return f"{self.image}{'@' + part if part else ''}:{path}"

    def file(self, name, size):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rng.randbytes(size))
        return path

    def make_hfs(self, *options):
        self.run_tool(MKFS, "-q", "-s", "8M", "-L", "Files", *options, self.image)

    def check_hfs(self):
        self.run_tool(FSCK, "-n", "-f", self.image)

    def hfsutils(self, script):
        return self.run_tool("sh", "-ec",
                             f"hmount {self.image} >/dev/null; {script}; humount >/dev/null")

    # ---- plain ----

    def check_tree(self):
        """A tree in and out again."""
        for name, size in (("tree/a", 0), ("tree/b", 1), ("tree/sub/c", 3_000_000),
                           ("tree/sub/deep/er/d", 4097)):
            self.file(name, size)
        os.utime(self.folder / "tree/b", (1_000_000_000, 1_000_000_000))
        os.symlink("/etc/passwd", self.folder / "tree/link")
        self.berth("put", "-r", "tree", self.place("/"))
        self.berth("put", "tree/b", self.place("/other name"))
        self.assertEqual(self.berth("ls", self.place("/")).split(b"\n"), [b"other name", b"tree", b""])
        self.assertEqual(self.berth("ls", self.place("/tree/sub")), b"c\ndeep\n")
        out = self.folder / "out"
        out.mkdir()
        self.berth("get", "-r", self.place("/tree"), "out")
        os.unlink(self.folder / "tree/link")
        self.run_tool("diff", "-r", "tree", "out/tree")
        self.assertEqual((out / "tree/b").stat().st_mtime, 1_000_000_000)
        self.assertEqual(self.berth("get", self.place("/other name"), "-"),
                         (self.folder / "tree/b").read_bytes())
        # The second time, over what is there.
        self.file("tree/b", 70000)
        self.berth("put", "-r", "tree", self.place("/"))
        self.berth("get", self.place("/tree/b"), "again")
        self.assertEqual((self.folder / "again").read_bytes(), (self.folder / "tree/b").read_bytes())

    def check_errors(self):
        self.file("f", 10)
        for args in (("get",), ("get", "nocolon"), ("get", ":/x"), ("put", "f"), ("ls",),
                     ("get", "--as", "zip", self.place("/f")), ("ls", self.place("/"), "two")):
            self.berth(*args, code=1)
        self.berth("get", self.place("/none"), code=2)
        self.berth("get", self.place("/"), code=2)
        self.berth("ls", self.place("/none"), code=2)
        self.berth("put", "nothere", self.place("/"), code=2)
        self.berth("put", "f", self.place("/no/such/place"), code=2)
        self.berth("put", "f", "f", self.place("/one"), code=2)
        self.berth("put", ".", self.place("/"), code=2)
        self.berth("ls", self.place("/../.."), code=2)
        self.berth("ls", f"{self.folder}/absent:/", code=2)

    @unittest.skipUnless(HAVE_MTOOLS, "mtools are not installed")
    def test_fat(self):
        with open(self.image, "wb") as file:
            file.truncate(16 << 20)
        self.run_tool("mkfs.fat", self.image)
        self.check_tree()
        self.check_errors()
        self.run_tool("mcopy", "-i", self.image, "::/tree/sub/c", "theirs")
        self.run_tool("cmp", "theirs", "tree/sub/c")
        self.run_tool("fsck.fat", "-n", self.image)
        self.assertIn("no resource forks",
                      self.berth("get", "--as", "binhex", self.place("/tree/b"), "x", code=1))
        entry, = json.loads(self.berth("ls", "--json", self.place("/tree/b")))["entries"]
        self.assertEqual((entry["name"], entry["size"], entry["type"]), ("b", 70000, None))

    @unittest.skipUnless(HAVE_HFSUTILS, "hfsutils are not installed")
    def test_hfs(self):
        self.make_hfs()
        self.check_tree()
        self.check_errors()
        self.check_hfs()
        self.hfsutils("hcopy -r :tree:sub:c theirs; hls -l :tree; hmkdir :theirs; "
                      "hcopy -r tree/sub/c ':theirs:with/slash'")
        self.run_tool("cmp", "theirs", "tree/sub/c")
        self.assertEqual(self.berth("ls", self.place("/theirs")), b"with:slash\n")
        self.berth("get", self.place("/theirs/with:slash"), "back")
        self.run_tool("cmp", "back", "tree/sub/c")

    def test_partition(self):
        self.make_hfs("--apm")
        self.file("f", 1000)
        self.berth("put", "f", self.place("/", "2"))
        self.assertEqual(self.berth("ls", self.place("/", "MacOS")), b"f\n")
        self.assertEqual(self.berth("ls", self.place("/")), b"f\n")
        self.berth("ls", self.place("/", "1"), code=2)
        self.berth("ls", self.place("/", "7"), code=2)

    def test_container_can_only_be_read(self):
        self.make_hfs()
        self.file("f", 1000)
        self.berth("put", "f", self.place("/"))
        data = self.image.read_bytes()
        total = 0
        for word, in struct.iter_unpack(">H", data):
            total = total + word & 0xffffffff
            total = total >> 1 | (total & 1) << 31
        header = bytearray(84)
        header[0:5] = b"\x04Disk"
        struct.pack_into(">IIII", header, 64, len(data), 0, total, 0)
        header[82] = 1
        self.image.write_bytes(header + data)
        self.assertEqual(self.berth("ls", self.place("/")), b"f\n")
        self.assertIn("DiskCopy 4.2", self.berth("probe", self.image).decode())
        self.assertIs(json.loads(self.berth("probe", "--json", self.image))["container"]["checksum_good"], True)
        self.assertIn("only be read", self.berth("put", "f", self.place("/g"), code=2))

    def test_in_use(self):
        self.make_hfs()
        self.file("f", 10)
        import fcntl
        with open(self.image, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            self.assertIn("in use", self.berth("put", "f", self.place("/"), code=2))
            self.berth("ls", self.place("/"))
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assertIn("in use", self.berth("ls", self.place("/"), code=2))

    def test_damaged_volume(self):
        self.make_hfs()
        data = bytearray(self.image.read_bytes())
        data[1024 + 18:1024 + 24] = b"\xff" * 6
        data[-1024:] = bytes(1024)
        self.image.write_bytes(data)
        self.berth("ls", "-t", "hfs", self.place("/"), code=2)

    # ---- both forks ----

    def make_mac_file(self):
        """By hfsutils from a MacBinary file of ours: 3 KiB data, more resources than an xattr could hold."""
        data, resource = self.rng.randbytes(1000) + b"\x90" * 700 + bytes(1300), self.rng.randbytes(150000)
        header = bytearray(128)
        header[1:11] = b"\x09Mac File\xa5"
        header[65:73] = b"TEXTttxt"
        header[73] = 0x04
        struct.pack_into(">IIII", header, 83, len(data), len(resource), 0xb0000000, 0xb0001000)
        header[122:124] = b"\x81\x81"
        struct.pack_into(">H", header, 124, binascii.crc_hqx(bytes(header[:124]), 0))
        (self.folder / "made.bin").write_bytes(header + data + bytes(-len(data) % 128) + resource +
                                               bytes(-len(resource) % 128))
        return data, resource

    @unittest.skipUnless(HAVE_HFSUTILS, "hfsutils are not installed")
    def test_forks(self):
        data, resource = self.make_mac_file()
        self.make_hfs()
        self.berth("put", "--as", "macbinary", "made.bin", self.place("/"))
        listed = self.hfsutils("hls -l")
        self.assertIn(b"TEXT/ttxt", listed)
        self.assertIn(b" 150000 ", listed)
        self.assertIn(b" 3000 ", listed)
        name = "Mac File•"
        self.assertEqual(self.berth("ls", self.place("/")).decode(), name + "\n")
        entry, = json.loads(self.berth("ls", "--json", self.place("/")))["entries"]
        self.assertEqual((entry["type"], entry["creator"], entry["size"], entry["resource_size"]),
                         ("TEXT", "ttxt", 3000, 150000))
        # Out by them, and by us: the same forks.
        self.hfsutils("hcopy -m ':Mac File\\\u00a5' theirs.bin || hcopy -m ':Mac*' theirs.bin")
        for form, suffix in (("macbinary", ".bin"), ("binhex", ".hqx"), ("appledouble", "")):
            os.mkdir(self.folder / form)
            self.berth("get", "--as", form, self.place("/" + name), form)
            self.assertEqual(sorted(os.listdir(self.folder / form)),
                             sorted([name + suffix] + (["._" + name] if form == "appledouble" else [])))
            self.berth("put", "--as", form, f"{form}/{name}{suffix}", self.place("/again " + form))
            self.assertEqual(self.berth("get", self.place("/again " + form), "-"), data)
            entry, = json.loads(self.berth("ls", "--json", self.place("/again " + form)))["entries"]
            self.assertEqual((entry["type"], entry["creator"], entry["resource_size"]),
                             ("TEXT", "ttxt", 150000), form)
        ours = (self.folder / "macbinary" / (name + ".bin")).read_bytes()
        theirs = (self.folder / "theirs.bin").read_bytes()
        start = 128 + (len(data) + 127) // 128 * 128
        self.assertEqual(ours[128:start], theirs[128:start])
        self.assertEqual(ours[start:start + 150000], resource)
        self.assertEqual(theirs[start:start + 150000], resource)
        self.assertEqual(ours[65:75], theirs[65:75])
        # BinHex of ours read by them, and the other way round.
        shutil.copy(self.folder / "binhex" / (name + ".hqx"), self.folder / "ours.hqx")
        self.hfsutils("hcopy -b ours.hqx ':from binhex'; hcopy -b ':from binhex' theirs.hqx")
        self.berth("put", "--as", "binhex", "theirs.hqx", self.place("/theirs"))
        for path in ("/from binhex", "/theirs"):
            self.berth("get", "--as", "macbinary", self.place(path), "x.bin")
            got = (self.folder / "x.bin").read_bytes()
            self.assertEqual(got[128:128 + 3000], data, path)
            self.assertEqual(got[start:start + 150000], resource, path)
        self.check_hfs()

    def test_appledouble_tree(self):
        self.make_mac_file()
        self.make_hfs()
        self.berth("put", "--as", "macbinary", "made.bin", self.place("/one"))
        self.berth("get", "--as", "appledouble", self.place("/one"), "one")
        os.makedirs(self.folder / "t/u")
        for name in ("one", "._one"):
            shutil.copy(self.folder / name, self.folder / "t/u" / name)
        self.file("t/plain", 99)
        self.berth("put", "-r", "--as", "appledouble", "t", self.place("/"))
        self.assertEqual(self.berth("ls", self.place("/t/u")), b"one\n")
        self.berth("get", "-r", "--as", "appledouble", self.place("/t"), "t2")
        for name in ("u/one", "u/._one", "plain"):
            self.assertEqual((self.folder / "t" / name).read_bytes(),
                             (self.folder / "t2" / name).read_bytes(), name)

    def test_hostile_forms(self):
        """Cut off and changed at every place: refused, or taken, but never more."""
        self.make_mac_file()
        self.make_hfs()
        self.berth("put", "--as", "macbinary", "made.bin", self.place("/one"))
        for form, name in (("macbinary", "x"), ("binhex", "x"), ("appledouble", "._x")):
            self.berth("get", "--as", form, self.place("/one"), "x")
            good = (self.folder / name).read_bytes()
            for turn in range(25):
                bad = bytearray(good)
                if turn % 2:
                    del bad[self.rng.randrange(min(len(bad), 3000)):]
                for _ in range(self.rng.randrange(4)):
                    if bad:
                        bad[self.rng.randrange(min(len(bad), 200))] = self.rng.randrange(256)
                (self.folder / name).write_bytes(bad)
                result = subprocess.run([BERTH, "put", "--as", form, "x", self.place("/two")],
                                        capture_output=True, check=False, cwd=self.folder, timeout=60)
                self.assertIn(result.returncode, (0, 2), (form, turn, result.stderr))
        self.check_hfs()


if __name__ == "__main__":
    os.environ.setdefault("TZ", time.tzname[0] if time.timezone == 0 else "UTC")
    unittest.main(argv=[sys.argv[0], *(f"FilesTest.{name}" for name in sys.argv[4:])])
