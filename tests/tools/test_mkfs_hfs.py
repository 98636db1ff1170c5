#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mkfs.hfs beside hformat, which makes the same volumes but for one odd key length.

    test_mkfs_hfs.py MKFS FSCK

Every volume must be sound for fsck.hfs, and hfsutils must mount and use it.
"""
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from hfs_image import MDB, Catalog, Image

MKFS, FSCK = sys.argv[1:3]
MIB = 1 << 20
HAVE_HFSUTILS = all(shutil.which(tool) for tool in ("hformat", "hmount", "hls", "hcopy"))


class MkfsTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-test-mkfs-"))
        self.path = self.folder / "image"

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_tool(self, *args, **env):
        env = {**os.environ, "HOME": str(self.folder), **env}
        return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                              check=False)

    def mkfs(self, *options, code=0, **env):
        result = self.run_tool(MKFS, *options, self.path, **env)
        self.assertEqual(result.returncode, code, result)
        return result.stderr.decode() if code else result.stdout.decode()

    def check_sound(self):
        result = self.run_tool(FSCK, "-n", "-f", self.path)
        self.assertEqual(result.returncode, 0, result)

    @unittest.skipUnless(HAVE_HFSUTILS, "hfsutils are not installed")
    def test_as_hformat(self):
        """Byte by byte. The key of a thread record has length 6, as on a Mac; hformat writes 7."""
        for size in (800 * 1024, 1440 * 1024, 5_000_000, 32 * MIB, 100 * MIB, 2047 * MIB):
            theirs = self.folder / "theirs"
            theirs.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            with open(theirs, "wb") as file:
                file.truncate(size)
            self.assertEqual(self.run_tool("hformat", "-l", "Test", theirs).returncode, 0)
            with open(theirs, "rb") as file:
                file.seek(1024 + MDB["drCrDate"][0])
                created = struct.unpack(">I", file.read(4))[0]
            self.mkfs("-q", "-L", "Test", "-s", str(size),
                      SOURCE_DATE_EPOCH=str(created - 2082844800))
            differences = self.compare(theirs, self.path)
            self.assertLessEqual(len(differences), 2, (size, differences))
            self.check_sound()

    @staticmethod
    def compare(one, two):
        """Where they differ, in the first 40 MiB (more than both trees have) and the last."""
        differences = []
        size = one.stat().st_size
        assert size == two.stat().st_size
        with open(one, "rb") as left, open(two, "rb") as right:
            for at in {*range(0, min(40 * MIB, size), MIB), max(size - MIB, 0)}:
                left.seek(at)
                right.seek(at)
                a, b = left.read(MIB), right.read(MIB)
                if a != b:
                    differences += [at + i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]]
        return differences

    @unittest.skipUnless(HAVE_HFSUTILS, "hfsutils are not installed")
    def test_hfsutils_use_it(self):
        for options in (("-s", "800K"), ("-s", "20M", "-b", "17920"), ("-s", "10M", "--apm"),
                        ("-s", "3G"), ("-s", "4G")):
            self.path.unlink(missing_ok=True)
            self.mkfs("-q", "-L", "Volume", *options)
            script = (f"hmount {self.path} >/dev/null; hmkdir :Folder; "
                      f"hcopy -r {__file__} :Folder:copy; hcopy -r :Folder:copy - | cmp - {__file__};"
                      "hls -a; humount")
            result = self.run_tool("sh", "-ec", script)
            self.assertEqual((result.returncode, result.stderr), (0, b""), options)
            self.assertIn(b"Folder", result.stdout)
            self.check_sound()

    def test_sizes(self):
        for size in (400 * 1024, 400 * 1024 + 511, 1 << 20, 33 * MIB, (4 << 30)):
            self.path.unlink(missing_ok=True)
            self.mkfs("-q", "-s", str(size))
            self.assertEqual(self.path.stat().st_size, size)
            self.check_sound()
        for size in (400 * 1024 - 1, (4 << 30) + 1):
            self.path.unlink(missing_ok=True)
            self.assertIn("400 KiB to 4 GiB", self.mkfs("-s", str(size), code=1))
            self.assertFalse(self.path.exists())

    def test_label(self):
        self.mkfs("-q", "-s", "1M", "-L", "Ca\u0301fé: 5\u20ac")
        image = Image(self.path)
        self.assertEqual(bytes(image.data[1024 + 36:1024 + 48]), b"\x08C\x87f\x8e/ 5\xdb\0\0\0")
        self.assertEqual(Catalog(image).find("Cáfé/ 5€".encode("mac_roman"))[0], 1)
        self.mkfs("-q", "-F", "-L", "Диск", "--encoding", "maccyrillic")
        self.assertEqual(bytes(Image(self.path).data[1024 + 36:1024 + 41]), b"\x04\x84\xe8\xf1\xea")
        for label in ("", "a/b", "Диск", "x" * 28, "\udcff"):
            self.mkfs("-q", "-F", "-L", label, code=1)
        self.mkfs("-q", "-F", "-L", "x" * 27)

    def test_options(self):
        out = self.mkfs("-s", "20M", "-b", "4K", "--clump-size", "10000", "--catalog-clump", "100K",
                        "--extents-clump", "1")
        self.assertIn("blocks of 4096 bytes", out)
        image = Image(self.path)
        self.assertEqual([image.mdb(name) for name in ("drAlBlkSiz", "drClpSiz", "drCTClpSiz",
                                                       "drCTFlSize", "drXTClpSiz")],
                         [4096, 12288, 102400, 102400, 4096])
        self.check_sound()
        for options in (("-b", "1000"), ("-b", "1x"), ("--catalog-clump", "30M"), ("-L",), ("-b", "0x200"),
                        ("--encoding", "utf-8"), ("--nonsense",)):
            self.mkfs("-F", *options, code=1)
        self.assertIn("too small", self.mkfs("-F", "-s", "100M", "-b", "512", code=1))
        self.assertEqual(self.path.stat().st_size, 20 * MIB, "grew before all was checked")

    def test_what_is_there_is_kept(self):
        self.mkfs("-q", "-s", "1M")
        before = self.path.read_bytes()
        self.assertIn("hfs", self.mkfs(code=1))
        self.mkfs("--apm", code=1)
        self.mkfs("-n", "-F")
        self.assertEqual(self.path.read_bytes(), before)
        self.mkfs("-q", "-F", "--apm")
        self.assertIn("partition table", self.mkfs(code=1))
        self.assertEqual(self.path.read_bytes()[:2], b"ER")
        with open(self.path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            self.assertIn("in use", self.mkfs("-F", code=1))

    def test_what_was_there_is_gone(self):
        if shutil.which("mke2fs") is None:
            self.skipTest("no mke2fs")
        self.path.write_bytes(bytes(8 * MIB))
        self.assertEqual(self.run_tool("mke2fs", "-q", "-t", "ext4", self.path).returncode, 0)
        self.mkfs(code=1)
        self.mkfs("-q", "-F")
        self.check_sound()
        self.mkfs(code=1)  # and it is seen as what it is

    def test_same_date_same_bytes(self):
        images = []
        for name in ("one", "two"):
            self.path = self.folder / name
            self.mkfs("-q", "-s", "2M", "--apm", SOURCE_DATE_EPOCH="1000000000", TZ=f"X{len(images)}")
            images.append(self.path.read_bytes())
        self.assertEqual(*images)
        image = images[0][32768:]
        self.assertEqual(struct.unpack_from(">I", image, 1026)[0], 1000000000 + 2082844800)
        self.mkfs("-F", code=1, SOURCE_DATE_EPOCH="soon")
        self.mkfs("-F", code=1, SOURCE_DATE_EPOCH=str(2 ** 32))

    def test_fill(self):
        tree = self.folder / "tree"
        (tree / "Sub/Deeper").mkdir(parents=True)
        (tree / "Sub/Deeper/é").write_bytes(b"x" * 100000)
        (tree / "a").write_bytes(b"a")
        (tree / "._a").write_bytes(struct.pack(">II16xHIIIIII", 0x51607, 0x20000, 2, 9, 50, 32, 2, 82, 5) +
                                   b"TEXTttxt" + bytes(24) + b"rsrc!")
        os.symlink("a", tree / "link")
        images = []
        for zone in ("UTC", "XYZ-5"):
            self.path.unlink(missing_ok=True)
            self.mkfs("-q", "-s", "2M", "--apm", "-d", str(tree), "--appledouble", TZ=zone,
                      SOURCE_DATE_EPOCH="1000000000")
            images.append(self.path.read_bytes())
        self.assertEqual(*images)
        self.check_sound()
        if HAVE_HFSUTILS:
            out = self.run_tool("sh", "-ec", f"hmount {self.path} >/dev/null; hls -lR; humount").stdout
            self.assertRegex(out, rb"TEXT/ttxt +5 +1 Sep  9  2001 a\n")
            self.assertRegex(out, rb"100000 Sep  9  2001 \x8e\n")
            self.assertNotIn(b"link", out)
        self.mkfs("-F", "-d", str(self.folder / "absent"), code=1)
        (tree / "big").write_bytes(bytes(3 << 20))
        self.mkfs("-F", "-d", str(tree), code=1)

    def test_map(self):
        self.mkfs("-q", "-s", "2M", "--apm", "-L", "Mapped")
        data = self.path.read_bytes()
        self.assertEqual(struct.unpack_from(">2sHI", data, 0), (b"ER", 512, 4096))
        self.assertEqual(data[16:18], b"\0\0", "there is no driver to start")
        for block, (start, count, kind) in enumerate(((1, 63, b"Apple_partition_map"),
                                                      (64, 4032, b"Apple_HFS")), 1):
            entry = data[block * 512:]
            self.assertEqual(struct.unpack_from(">2sHIII", entry, 0), (b"PM", 0, 2, start, count))
            self.assertEqual(entry[48:80].rstrip(b"\0"), kind)
        self.assertEqual(data[64 * 512 + 1024:][:2], b"BD")
        self.assertEqual(data[-1024:-1022], b"BD")
        self.assertIn("larger", self.mkfs("-s", "1M", "--apm", "-F", code=1))
        self.path.unlink()
        self.mkfs("-s", "431K", "--apm", code=1)
        self.mkfs("-s", "432K", "--apm", "-F")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
