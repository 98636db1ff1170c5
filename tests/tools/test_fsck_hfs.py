#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fsck.hfs against volumes that were damaged on purpose, field by field.

    test_fsck_hfs.py MKFS FSCK [CASE...]

A good volume is made with mkfs.hfs and filled by hfsutils; each case damages a
copy. Then: -n finds the problem by its code, exits with 4 and writes nothing;
-y repairs all and exits with 1; a second -n -f finds nothing; hfsutils still
list the volume and read a file that the damage has nothing to do with.
"""
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from hfs_image import Catalog, Image

MKFS, FSCK = sys.argv[1:3]
GOOD = None  # the image's path
CONTENT = {}  # name: data fork of each file in the root


def run(*args, env=None, **more):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          env=env, **more)


def fsck(path, *options):
    result = run(FSCK, "--json", *options, path)
    assert result.returncode in (0, 1, 4, 5), (result.returncode, result.stderr)
    return result.returncode, json.loads(result.stdout)


def hfsutils(home, script):
    """Runs hfsutils commands with the volume mounted; their output."""
    result = run("sh", "-ec", script, env={**os.environ, "HOME": str(home)})
    assert result.returncode == 0, (script, result.stderr)
    return result.stdout


def make_good(folder):
    """Directories of several nodes, files of both forks, one fork in many pieces."""
    path = folder / "good.img"
    assert run(MKFS, "-q", "-s", "1M", "-L", "Check", "--catalog-clump", "64K",
               "--extents-clump", "8K", path).returncode == 0
    rng = random.Random(6)
    script = [f"hmount {path} >/dev/null"]
    for i in range(40):
        CONTENT[b"File %d" % i] = rng.randbytes(500 + i * 7)
        (folder / f"f{i}").write_bytes(CONTENT[b"File %d" % i])
        script.append(f"hcopy -r {folder}/f{i} ':File {i}'")
    for i in range(25):
        script.append(f"hmkdir ':Folder number {i}'")
        script.append(f"hcopy -r {folder}/f{i} ':Folder number {i}:inside {i}'")
    script.append("hmkdir ':Folder number 3:deeper'; hmkdir ':Folder number 3:deeper:deepest'")
    # Every second block free: what comes then has no two blocks beside each other.
    filler = (1 << 20) // 512 - 40 - 300
    (folder / "fill").write_bytes(bytes(512))
    script.append("hmkdir :fill")
    script += [f"hcopy -r {folder}/fill ':fill:{i}'" for i in range(60)]
    script += [f"hdel ':fill:{i}'" for i in range(1, 60, 2)]
    script.append("humount")
    hfsutils(folder, "\n".join(script))
    take_long_runs(path, filler)
    CONTENT[b"Pieces"] = rng.randbytes(512 * 14)
    (folder / "pieces").write_bytes(CONTENT[b"Pieces"])
    hfsutils(folder, f"hmount {path} >/dev/null; hcopy -r {folder}/pieces :Pieces; humount")
    give_long_runs(path)
    # A resource fork, by MacBinary.
    header = bytearray(128)
    header[1:2 + 8] = b"\x08Resource"
    header[65:73] = b"TEXTttxt"
    struct.pack_into(">II", header, 83, 100, 900)
    header[122:124] = b"\x81\x81"
    crc = 0
    for byte in header[:124]:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    struct.pack_into(">H", header, 124, crc)
    (folder / "bin").write_bytes(header + rng.randbytes(100) + bytes(28) + rng.randbytes(1024))
    hfsutils(folder, f"hmount {path} >/dev/null; hcopy -m {folder}/bin :; humount")
    return path


TAKEN = []


def take_long_runs(path, _count):
    """Marks all free blocks as used that have a free neighbour."""
    image = Image(path)
    count = image.mdb("drNmAlBlks")
    free = [not image.bit(i) for i in range(count)] + [False]
    for i in range(count):
        if free[i] and (free[i - 1] or free[i + 1]):
            TAKEN.append(i)
    for i in TAKEN:
        image.bit(i, True)
    image.mdb("drFreeBks", image.mdb("drFreeBks") - len(TAKEN))
    image.save()


def give_long_runs(path):
    image = Image(path)
    for i in TAKEN:
        image.bit(i, False)
    image.mdb("drFreeBks", image.mdb("drFreeBks") + len(TAKEN))
    image.save()


# ---- damage: a function for each case, and the codes that must be told ----

CASES = {}


def case(*codes, exit_repaired=(1,)):
    def add(function):
        CASES[function.__name__] = (function, set(codes), exit_repaired)
        return function
    return add


@case("mdb")
def mdb_zero(image, catalog):
    image.data[1024:1536] = bytes(512)


@case("mdb")
def mdb_block_size(image, catalog):
    image.mdb("drAlBlkSiz", 513)


@case("mdb")
def mdb_tree_outside(image, catalog):
    image.mdb("drCTStart", 65000)


@case("alternate-mdb")
def alternate_zero(image, catalog):
    image.data[image.alternate:image.alternate + 512] = bytes(512)


@case("alternate-mdb")
def alternate_old(image, catalog):
    image.data[image.alternate + 18] ^= 1


@case("not-clean")
def not_clean(image, catalog):
    image.mdb("drAtrb", 0)


@case("not-clean")
def inconsistent(image, catalog):
    image.mdb("drAtrb", 0x0900)


@case("tree-header")
def header_root(image, catalog):
    catalog.header("root", 60000)


@case("tree-header")
def header_depth(image, catalog):
    catalog.header("depth", 255)


@case("tree-node")
def header_depth_by_one(image, catalog):
    catalog.header("depth", catalog.header("depth") + 1)


@case("tree-header")
def header_kind(image, catalog):
    catalog.field(0, "kind", 0xff)


@case("tree-header")
def header_node_size(image, catalog):
    catalog.header("node_size", 1024)


@case("tree-count")
def header_records(image, catalog):
    catalog.header("records", catalog.header("records") + 1)


@case("tree-count")
def header_free(image, catalog):
    catalog.header("free", catalog.header("free") - 1)


@case("tree-count")
def header_last(image, catalog):
    catalog.header("last", catalog.header("first"))


@case("tree-node")
def node_kind(image, catalog):
    catalog.field(list(catalog.leaves())[2], "kind", 7)


@case("tree-node")
def node_height(image, catalog):
    catalog.field(list(catalog.leaves())[2], "height", 2)


@case("tree-node")
def node_records(image, catalog):
    catalog.field(list(catalog.leaves())[1], "records", 250)


@case("tree-node")
def node_offset(image, catalog):
    catalog.offset(list(catalog.leaves())[1], 1, 600)


@case("tree-node")
def node_offsets_overlap(image, catalog):
    leaf = list(catalog.leaves())[1]
    catalog.offset(leaf, 1, catalog.offset(leaf, 0))


@case("tree-node")
def node_key_length(image, catalog):
    key, _ = catalog.record(list(catalog.leaves())[1], 0)
    image.data[key] = 255


@case("tree-node")
def node_empty(image, catalog):
    catalog.field(list(catalog.leaves())[3], "records", 0)


@case("tree-link")
def link_next(image, catalog):
    catalog.field(list(catalog.leaves())[1], "next", 0)


@case("tree-link")
def link_loop(image, catalog):
    leaves = list(catalog.leaves())
    catalog.field(leaves[2], "next", leaves[0])


@case("tree-link")
def link_previous(image, catalog):
    catalog.field(list(catalog.leaves())[2], "previous", 1)


@case("tree-link")
def link_last(image, catalog):
    catalog.field(catalog.header("last"), "next", catalog.header("first"))


def index_record(catalog, index):
    root = catalog.header("root")
    assert catalog.field(root, "kind") == 0, "the catalog has just one node"
    return catalog.record(root, index)


@case("tree-index")
def index_outside(image, catalog):
    struct.pack_into(">I", image.data, index_record(catalog, 1)[1], 0x7fffffff)


@case("tree-link")
def index_twice(image, catalog):
    image.data[index_record(catalog, 1)[1]:][:4] = b""
    first, second = index_record(catalog, 0)[1], index_record(catalog, 1)[1]
    image.data[second:second + 4] = image.data[first:first + 4]


@case("tree-index")
def index_key(image, catalog):
    key, _ = index_record(catalog, 1)
    struct.pack_into(">I", image.data, key + 2, 1)


@case("tree-node")
def index_to_itself(image, catalog):
    struct.pack_into(">I", image.data, index_record(catalog, 0)[1], 0)
    root = catalog.header("root")
    catalog.field(root, "height", 9)


@case("tree-order")
def order(image, catalog):
    leaf = list(catalog.leaves())[2]
    key, _ = catalog.record(leaf, 1)
    struct.pack_into(">I", image.data, key + 2, 1)


@case("tree-map")
def map_free(image, catalog):
    catalog.map_bit(list(catalog.leaves())[0], False)


@case("tree-map")
def map_used(image, catalog):
    catalog.map_bit(catalog.nodes - 1, True)


@case("tree-header", "extent-orphan", exit_repaired=None)
def extents_header(image, catalog):
    """Only what the header says is lost: all records are found."""
    tree = image.tree("XT")
    tree.field(0, "records", 9999)
    # A record of nobody, to see that the rebuilt tree is looked at.
    for key, _ in tree.records():
        struct.pack_into(">I", image.data, key + 2, 4000)


@case("tree-count")
def extents_count(image, catalog):
    tree = image.tree("XT")
    tree.header("records", 77)


@case("record")
def record_type(image, catalog):
    image.data[catalog.find(b"File 7")[2]] = 9


@case("record")
def record_id_zero(image, catalog):
    catalog.put(catalog.find(b"File 7")[2], "id", 0)


@case("record")
def thread_name(image, catalog):
    number = catalog.get(catalog.find(b"Folder number 3")[2], "id")
    catalog.put(catalog.thread(number)[1], "name_length", 200)


@case("root")
def root_record(image, catalog):
    catalog.put(catalog.find(b"Check", 1)[2], "id", 5000)
    image.mdb("drNxtCNID", 5001)


@case("root-name")
def root_name(image, catalog):
    image.data[1024 + 37:1024 + 38] = b"X"


@case("id-twice")
def id_twice(image, catalog):
    catalog.put(catalog.find(b"File 7")[2], "id", catalog.get(catalog.find(b"File 8")[2], "id"))


@case("id-twice")
def id_twice_dirs(image, catalog):
    catalog.put(catalog.find(b"Folder number 7")[2], "id",
                catalog.get(catalog.find(b"Folder number 8")[2], "id"))


@case("two-names", "bitmap-lost")
def two_names(image, catalog):
    """File 7 is File 8 as well: what a rename leaves that is cut off in the middle."""
    to, start = catalog.find(b"File 7")[2], catalog.find(b"File 8")[2]
    image.data[to:to + 102] = image.data[start:start + 102]


@case("two-names")
def two_names_of_a_directory(image, catalog):
    """The number of folder 7 is nobody's any more; what was in it is lost."""
    to, start = catalog.find(b"Folder number 7")[2], catalog.find(b"Folder number 8")[2]
    thread = catalog.thread(catalog.get(to, "id"))[1]
    image.data[thread + 20] ^= 1
    image.data[to:to + 70] = image.data[start:start + 70]


@case("tree-map", "lost")
def name_taken(image, catalog):
    """A leaf that is in no tree, with another file 20."""
    _, _, at = catalog.find(b"File 20")
    leaf = next(leaf for leaf in catalog.leaves() if 0 <= at - catalog.node(leaf) < 512)
    other = catalog.nodes - 1
    start, to = catalog.node(leaf), catalog.node(other)
    image.data[to:to + 512] = image.data[start:start + 512]
    catalog.put(at - start + to, "id", 6000)
    catalog.map_bit(other, True)


@case("id-reserved")
def id_reserved(image, catalog):
    catalog.put(catalog.find(b"File 7")[2], "id", 5)


@case("next-id")
def next_id(image, catalog):
    image.mdb("drNxtCNID", 20)


@case("lost", "thread-orphan")
def lost_directory(image, catalog):
    """The directory's record makes no sense any more; what was in it is lost."""
    image.data[catalog.find(b"Folder number 3")[2]] = 77


@case("lost")
def lost_file(image, catalog):
    parent, key, _ = catalog.find(b"deeper")
    struct.pack_into(">I", image.data, key + 2, 0x00ffffff)


@case("loop")
def loop(image, catalog):
    """deeper lies in deepest, which lies in deeper."""
    _, key, at = catalog.find(b"deeper")
    deepest = catalog.get(catalog.find(b"deepest")[2], "id")
    struct.pack_into(">I", image.data, key + 2, deepest)
    thread = catalog.thread(catalog.get(at, "id"))[1]
    catalog.put(thread, "parent", deepest)


@case("thread-wrong")
def thread_parent(image, catalog):
    catalog.put(catalog.thread(catalog.get(catalog.find(b"deeper")[2], "id"))[1], "parent", 2)


@case("thread-wrong")
def threads_at_each_other(image, catalog):
    one = catalog.get(catalog.find(b"deeper")[2], "id")
    two = catalog.get(catalog.find(b"deepest")[2], "id")
    catalog.put(catalog.thread(one)[1], "parent", two)
    catalog.put(catalog.thread(two)[1], "parent", one)


@case("thread-orphan", "thread-missing")
def thread_kind(image, catalog):
    catalog.put(catalog.thread(catalog.get(catalog.find(b"deeper")[2], "id"))[1], "type", 4)


@case("thread-flag")
def thread_flag(image, catalog):
    at = catalog.find(b"File 7")[2]
    catalog.put(at, "flags", catalog.get(at, "flags") | 2)


@case("valence")
def valence(image, catalog):
    catalog.put(catalog.find(b"fill")[2], "valence", 999)


@case("counts")
def count_files(image, catalog):
    image.mdb("drFilCnt", 1)


@case("counts")
def count_root(image, catalog):
    image.mdb("drNmRtDirs", 1)


@case("extent-range")
def extent_outside(image, catalog):
    catalog.put(catalog.find(b"File 7")[2], "data_extents", (65000, 2, 0, 0, 0, 0))


@case("extent-range")
def extent_after_empty(image, catalog):
    at = catalog.find(b"File 7")[2]
    start, count = catalog.get(at, "data_extents")[:2]
    catalog.put(at, "data_extents", (start, count, 0, 0, 5, 1))


@case("extent-twice")
def extent_twice(image, catalog):
    catalog.put(catalog.find(b"File 7")[2], "data_extents",
                catalog.get(catalog.find(b"File 8")[2], "data_extents"))


@case("extent-twice", "extent-orphan", exit_repaired=None)
def extent_of_the_catalog(image, catalog):
    at = catalog.find(b"Pieces")[2]
    catalog.put(at, "data_extents", (image.mdb("drCTStart"), 14, 0, 0, 0, 0))


@case("extent-orphan", "fork-size", "fork-allocated")
def overflow_elsewhere(image, catalog):
    """The overflow records of a fork in pieces belong to a file that is not there."""
    for key, _ in list(image.tree("XT").records())[-1:]:
        struct.pack_into(">I", image.data, key + 2, 5000)


@case("extent-range")
def overflow_outside(image, catalog):
    for _, at in list(image.tree("XT").records())[:1]:
        struct.pack_into(">H", image.data, at, 60000)


@case("fork-allocated")
def fork_allocated(image, catalog):
    catalog.put(catalog.find(b"Resource")[2], "resource_allocated", 512)


@case("fork-size")
def fork_size(image, catalog):
    catalog.put(catalog.find(b"Resource")[2], "resource_size", 1 << 31)


@case("bitmap-free", "free-count")
def bitmap_free(image, catalog):
    start, _ = catalog.get(catalog.find(b"File 8")[2], "data_extents")[:2]
    image.bit(start, False)
    image.mdb("drFreeBks", image.mdb("drFreeBks") + 1)


@case("bitmap-lost")
def bitmap_lost(image, catalog):
    image.bit(image.mdb("drNmAlBlks") - 1, True)


@case("free-count")
def free_count(image, catalog):
    image.mdb("drFreeBks", 1)


@case("tree-place")
def trees_overlap(image, catalog):
    image.mdb("drXTStart", image.mdb("drCTStart"))


@case("device-short")
def device_short(image, catalog):
    del image.data[len(image.data) // 2:]


HOPELESS = {"trees_overlap", "device_short"}
SPOILS_CONTENT = {"root_record"}


class FsckTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-test-fsck-"))
        self.path = self.folder / "image"
        shutil.copyfile(GOOD, self.path)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def check_content(self, names):
        for name in names:
            out = hfsutils(self.folder, f"hmount {self.path} >/dev/null; "
                           f"hcopy -r ':{name.decode()}' -; humount")
            self.assertEqual(out, CONTENT[name], name)

    def test_good_volume(self):
        code, answer = fsck(self.path, "-n")
        self.assertEqual((code, answer["skipped"]), (0, True))
        code, answer = fsck(self.path, "-n", "-f")
        self.assertEqual(code, 0, answer)
        self.assertEqual(answer["problems"], [])
        self.assertEqual(answer["files"], 40 + 25 + 30 + 2)
        self.assertEqual(answer["directories"], 25 + 2 + 1)
        self.check_content(CONTENT)

    def test_pieces_are_in_the_overflow_file(self):
        self.assertGreaterEqual(len(list(Image(self.path).tree("XT").records())), 2)

    def test_preen_leaves_damage(self):
        image = Image(self.path)
        CASES["record_type"][0](image, Catalog(image))
        CASES["valence"][0](image, Catalog(image))
        image.save()
        code, answer = fsck(self.path, "-p", "-f")
        self.assertTrue(code & 4, answer)
        code, answer = fsck(self.path, "-n", "-f")
        self.assertIn("record", [p["code"] for p in answer["problems"]])
        self.assertEqual(Image(self.path).mdb("drAtrb") & 0x100, 0)

    def test_preen_repairs_numbers(self):
        image = Image(self.path)
        for name in ("valence", "count_files", "bitmap_lost", "free_count", "not_clean"):
            CASES[name][0](image, Catalog(image))
        image.save()
        code, answer = fsck(self.path, "-p")
        self.assertEqual(code, 1, answer)
        self.assertEqual(fsck(self.path, "-n", "-f")[0], 0)
        self.assertEqual(fsck(self.path, "-p")[1]["skipped"], True)

    def test_other_volumes_are_refused_by_name(self):
        for signature, name in ((b"H+", "HFS+"), (b"\xd2\xd7", "MFS"), (b"xx", "not an HFS")):
            image = Image(GOOD)
            image.data[1024:1026] = signature
            image.data[image.alternate:image.alternate + 2] = b"xx"
            image.save(self.path)
            result = run(FSCK, "-n", self.path)
            self.assertEqual(result.returncode, 8)
            self.assertIn(name, result.stderr.decode())

    def test_random_damage_is_survived_and_repaired(self):
        seed = int(os.environ.get("TEST_SEED", random.randrange(1 << 30)))
        rng = random.Random(seed)
        for turn in range(int(os.environ.get("TEST_ROUNDS", 60))):
            image = Image(GOOD)
            good = Image(GOOD)
            tree = good.tree(rng.choice(("CT", "CT", "XT")))
            for _ in range(rng.randrange(1, 12)):
                where = rng.randrange(3)
                if where == 0:
                    at = tree.start + rng.randrange(tree.nodes * 512)
                elif where == 1:
                    leaf = rng.choice(list(Catalog(good).leaves()))
                    at = Catalog(good).node(leaf) + rng.randrange(512)
                else:
                    at = 1024 + rng.randrange(162)
                image.data[at] = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
            image.save(self.path)
            result = run(FSCK, "-n", "-f", self.path)
            self.assertIn(result.returncode, (0, 4, 8), (seed, turn, result))
            self.assertEqual(self.path.read_bytes(), image.data, (seed, turn))
            result = run(FSCK, "-y", "-f", self.path)
            told = (seed, turn, result.returncode, result.stdout[-2000:], result.stderr)
            self.assertIn(result.returncode, (0, 1, 4, 5, 8), told)
            if result.returncode <= 1:
                again = run(FSCK, "-n", "-f", self.path)
                self.assertEqual(again.returncode, 0, (told, again.stdout))

    def damage(self, name):
        """All that -y tells, and the image after it."""
        image = Image(self.path)
        CASES[name][0](image, Catalog(image))
        image.save()
        code, answer = fsck(self.path, "-y", "-f")
        self.assertEqual(code, 1, answer)
        image = Image(self.path)
        return {problem["code"] for problem in answer["problems"]}, Catalog(image)

    def test_two_names_are_not_two_files(self):
        told, catalog = self.damage("two_names")
        self.assertFalse(told & {"id-twice", "extent-twice", "lost"}, told)
        names = [entry[1] for entry in catalog.entries()]
        self.assertEqual((b"File 7" in names) + (b"File 8" in names), 1)
        if b"File 8" in names:
            self.check_content([b"File 8"])

    def test_a_file_whose_name_is_taken_is_found(self):
        told, _ = self.damage("name_taken")
        self.assertNotIn("id-twice", told)
        self.check_content([b"File 20"])
        out = hfsutils(self.folder, f"hmount {self.path} >/dev/null; "
                       "hcopy -r ':lost+found:File 20' -; humount")
        self.assertEqual(out, CONTENT[b"File 20"])

    def test_usage(self):
        self.assertEqual(run(FSCK).returncode, 16)
        self.assertEqual(run(FSCK, "-n", "-y", self.path).returncode, 16)
        self.assertEqual(run(FSCK, self.path, stdin=subprocess.DEVNULL).returncode, 16)
        self.assertEqual(run(FSCK, "-C", "x", "-n", self.path).returncode, 16)
        self.assertEqual(run(FSCK, "-n", self.folder / "none").returncode, 8)
        self.assertEqual(run(FSCK, "--help").returncode, 0)

    def test_progress(self):
        lines = run(FSCK, "-n", "-f", "-C", "1", self.path).stdout.decode().splitlines()
        passes = [int(line.split()[0]) for line in lines if line.endswith(str(self.path))
                  and line[0].isdigit()]
        self.assertEqual(sorted(set(passes)), [1, 2, 3, 4, 5])
        self.assertEqual(passes, sorted(passes))


def add_case(name):
    damage, codes, exits = CASES[name]

    def test(self):
        image = Image(self.path)
        damage(image, Catalog(image))
        image.save()
        code, answer = fsck(self.path, "-n", "-f")
        told = {problem["code"] for problem in answer["problems"]}
        self.assertTrue(codes <= told, f"expected {codes}: {json.dumps(answer, indent=1)}")
        self.assertEqual(code, 4, answer)
        self.assertEqual(Image(self.path).data, image.data, "-n has written")
        code, answer = fsck(self.path, "-y", "-f")
        if name in HOPELESS:
            self.assertEqual(code, 4, answer)
            after = Image(self.path)
            if name != "device_short":  # nothing but the mark that it is not sound
                self.assertEqual(after.mdb("drAtrb"), 0)
                after.mdb("drAtrb", image.mdb("drAtrb"))
            self.assertEqual(after.data, image.data)
            return
        self.assertIn(code, exits or (1,), json.dumps(answer, indent=1))
        code, again = fsck(self.path, "-n", "-f")
        self.assertEqual((code, again["problems"]), (0, []),
                         json.dumps((answer, again), indent=1))
        self.assertNotEqual(Image(self.path).mdb("drAtrb") & 0x100, 0)
        if name not in SPOILS_CONTENT:
            self.check_content([b"File 20", b"File 39"])

    setattr(FsckTest, f"test_case_{name}", test)


for each in CASES:
    add_case(each)

if __name__ == "__main__":
    if any(shutil.which(tool) is None for tool in ("hmount", "hcopy")):
        print("skipped: hfsutils are not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="berth-test-fsck-") as top:
        GOOD = make_good(pathlib.Path(top))
        unittest.main(argv=[sys.argv[0], *(f"FsckTest.{name}" for name in sys.argv[3:])])
