# SPDX-License-Identifier: MIT
"""An HFS volume's bytes, by field: what tests need to damage one and to look at it.

Offsets are those of Inside Macintosh: Files, chapter 2. Everything is written
down here a second time on purpose: the tests must not believe the code.
"""
import struct

MDB = {  # name: (offset, struct format)
    "drSigWord": (0, "H"), "drCrDate": (2, "I"), "drLsMod": (6, "I"), "drAtrb": (10, "H"),
    "drNmFls": (12, "H"), "drVBMSt": (14, "H"), "drAllocPtr": (16, "H"), "drNmAlBlks": (18, "H"),
    "drAlBlkSiz": (20, "I"), "drClpSiz": (24, "I"), "drAlBlSt": (28, "H"), "drNxtCNID": (30, "I"),
    "drFreeBks": (34, "H"), "drVN": (36, "B"), "drWrCnt": (70, "I"), "drXTClpSiz": (74, "I"),
    "drCTClpSiz": (78, "I"), "drNmRtDirs": (82, "H"), "drFilCnt": (84, "I"), "drDirCnt": (88, "I"),
    "drVCSize": (124, "H"), "drXTFlSize": (130, "I"), "drXTStart": (134, "H"),
    "drXTCount": (136, "H"), "drCTFlSize": (146, "I"), "drCTStart": (150, "H"),
    "drCTCount": (152, "H"),
}
HEADER = {  # of a tree, from its header record on
    "depth": (0, "H"), "root": (2, "I"), "records": (6, "I"), "first": (10, "I"), "last": (14, "I"),
    "node_size": (18, "H"), "key_length": (20, "H"), "nodes": (22, "I"), "free": (26, "I"),
}
NODE = {"next": (0, "I"), "previous": (4, "I"), "kind": (8, "B"), "height": (9, "B"),
        "records": (10, "H")}
DIR = {"type": (0, "B"), "valence": (4, "H"), "id": (6, "I")}
FILE = {"type": (0, "B"), "flags": (2, "B"), "id": (20, "I"), "data_size": (26, "I"),
        "data_allocated": (30, "I"), "resource_size": (36, "I"), "resource_allocated": (40, "I"),
        "data_extents": (74, "6H"), "resource_extents": (86, "6H")}
THREAD = {"type": (0, "B"), "parent": (10, "I"), "name_length": (14, "B")}
RECORD_TYPES = {1: DIR, 2: FILE, 3: THREAD, 4: THREAD}


class Image:
    """The whole file is in memory; save() writes it."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.data = bytearray(file.read())

    def save(self, path=None):
        with open(path or self.path, "wb") as file:
            file.write(self.data)

    def get(self, base, table, field):
        offset, kind = table[field]
        value = struct.unpack_from(">" + kind, self.data, base + offset)
        return value[0] if len(value) == 1 else value

    def put(self, base, table, field, value):
        offset, kind = table[field]
        struct.pack_into(">" + kind, self.data, base + offset,
                         *(value if isinstance(value, tuple) else (value,)))

    def mdb(self, field, value=None):
        if value is not None:
            self.put(1024, MDB, field, value)
        return self.get(1024, MDB, field)

    @property
    def alternate(self):
        return len(self.data) // 512 * 512 - 1024

    def block(self, number):
        """Where an allocation block lies."""
        return self.mdb("drAlBlSt") * 512 + number * self.mdb("drAlBlkSiz")

    def bit(self, block, value=None):
        at = self.mdb("drVBMSt") * 512 + block // 8
        mask = 0x80 >> block % 8
        if value is not None:
            self.data[at] = self.data[at] | mask if value else self.data[at] & ~mask
        return self.data[at] & mask != 0

    def tree(self, name):
        return Tree(self, name)


class Tree:
    """The catalog ("CT") or the extents overflow file ("XT"); it must be in one piece."""

    def __init__(self, image, name):
        self.image = image
        self.start = image.block(image.mdb(f"dr{name}Start"))
        self.nodes = image.mdb(f"dr{name}FlSize") // 512

    def node(self, number):
        return self.start + number * 512

    def header(self, field, value=None):
        if value is not None:
            self.image.put(self.start + 14, HEADER, field, value)
        return self.image.get(self.start + 14, HEADER, field)

    def field(self, number, field, value=None):
        if value is not None:
            self.image.put(self.node(number), NODE, field, value)
        return self.image.get(self.node(number), NODE, field)

    def map_bit(self, number, value=None):
        at = self.start + 14 + 106 + 128 + number // 8
        mask = 0x80 >> number % 8
        data = self.image.data
        if value is not None:
            data[at] = data[at] | mask if value else data[at] & ~mask
        return data[at] & mask != 0

    def offset(self, number, index, value=None):
        at = self.node(number) + 512 - 2 * (index + 1)
        if value is not None:
            struct.pack_into(">H", self.image.data, at, value)
        return struct.unpack_from(">H", self.image.data, at)[0]

    def record(self, number, index):
        """(where its key begins, where its data begins)"""
        key = self.node(number) + self.offset(number, index)
        return key, key + (self.image.data[key] + 2 & ~1)

    def leaves(self):
        number = self.header("first")
        while number:
            yield number
            number = self.field(number, "next")

    def records(self):
        for leaf in self.leaves():
            for index in range(self.field(leaf, "records")):
                yield self.record(leaf, index)


class Catalog(Tree):
    def __init__(self, image):
        super().__init__(image, "CT")

    def entries(self):
        """(parent, name, key's place, data's place, type)"""
        data = self.image.data
        for key, at in self.records():
            parent, length = struct.unpack_from(">IB", data, key + 2)
            yield parent, bytes(data[key + 7:key + 7 + length]), key, at, data[at]

    def find(self, name, kind=None):
        for parent, is_name, key, at, is_kind in self.entries():
            if is_name == name and is_kind in (1, 2) and kind in (None, is_kind):
                return parent, key, at
        raise KeyError(name)

    def thread(self, number):
        for parent, name, key, at, kind in self.entries():
            if parent == number and not name and kind in (3, 4):
                return key, at
        raise KeyError(number)

    def get(self, at, field):
        return self.image.get(at, RECORD_TYPES[self.image.data[at]], field)

    def put(self, at, field, value):
        self.image.put(at, RECORD_TYPES[self.image.data[at]], field, value)
