#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Encoder and decoder of the protocol, written from man/berth-protocol.7 alone.

decode.py EMIT SEED holds the library (through EMIT, see emit.c) to the page, three ways:
  1. messages that the library encoded decode here to the fields they were made from,
     and encode here to the same bytes;
  2. messages that are encoded here decode there to the same fields;
  3. messages that are damaged at random are refused by both or by none, and what both
     accept means the same.
"""
import json
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

I63 = 2**63 - 1
IO_MAX, INLINE_MAX = 1048576, 4096


class Bad(Exception):
    """A rule of the page is broken."""


def require(holds, what):
    if not holds:
        raise Bad(what)


def padded(length):
    return -(-length // 8) * 8


# ---- layouts: field, offset, format of struct ----

REQUEST = [
    ("magic", 0, "I"), ("version", 4, "H"), ("type", 6, "H"), ("total_length", 8, "I"),
    ("flags", 12, "H"), ("name_length", 14, "H"), ("request_id", 16, "Q"), ("file_id", 24, "Q"),
    ("file_id2", 32, "Q"), ("offset", 40, "Q"), ("length64", 48, "Q"), ("arena_offset", 56, "Q"),
    ("length", 64, "I"), ("deadline_ms", 68, "I"), ("uid", 72, "I"), ("gid", 76, "I"),
    ("pid", 80, "I"), ("arena_length", 84, "I"), ("time_ns", 88, "q"), ("mode", 96, "I"),
    ("file_type", 100, "I"), ("rdev", 104, "I"), ("rename_flags", 108, "I"),
    ("set_mask", 112, "I"), ("set_mode", 116, "I"), ("set_uid", 120, "I"), ("set_gid", 124, "I"),
    ("set_size", 128, "Q"), ("set_atime_ns", 136, "q"), ("set_mtime_ns", 144, "q"),
    ("set_ctime_ns", 152, "q"), ("set_btime_ns", 160, "q"), ("name2_length", 168, "H"),
    ("zero1", 170, "2s"), ("payload_length", 172, "I"), ("zero2", 176, "16s"),
]
RESPONSE = [
    ("magic", 0, "I"), ("version", 4, "H"), ("type", 6, "H"), ("total_length", 8, "I"),
    ("flags", 12, "H"), ("zero1", 14, "2s"), ("request_id", 16, "Q"), ("number", 24, "Q"),
    ("result", 32, "i"), ("data_length", 36, "I"), ("param1", 40, "Q"), ("param2", 48, "Q"),
    ("attr", 56, "88s"), ("parent", 144, "88s"), ("zero2", 232, "56s"),
]
ATTR = [
    ("file_id", 0, "Q"), ("generation", 8, "I"), ("type", 12, "I"), ("mode", 16, "I"),
    ("nlink", 20, "I"), ("uid", 24, "I"), ("gid", 28, "I"), ("rdev", 32, "I"),
    ("block_size", 36, "I"), ("size", 40, "Q"), ("blocks", 48, "Q"), ("atime_ns", 56, "q"),
    ("mtime_ns", 64, "q"), ("ctime_ns", 72, "q"), ("btime_ns", 80, "q"),
]
DIRENT = [
    ("total_length", 0, "I"), ("name_length", 4, "H"), ("type", 6, "B"), ("flags", 7, "B"),
    ("cookie", 8, "Q"), ("file_id", 16, "Q"), ("position", 24, "Q"), ("attr", 32, "88s"),
    ("zero", 120, "8s"),
]
HELLO = [
    ("magic", 0, "I"), ("version", 4, "I"), ("features", 8, "Q"), ("epoch", 16, "I"),
    ("slots", 20, "I"), ("arena_out_size", 24, "Q"), ("arena_in_size", 32, "Q"),
    ("image_start", 40, "Q"), ("image_length", 48, "Q"), ("flags", 56, "I"), ("pid", 60, "I"),
    ("result", 64, "i"), ("zero1", 68, "4s"), ("type", 72, "32s"), ("source", 104, "256s"),
    ("text", 360, "128s"), ("zero2", 488, "24s"),
]
MAGIC, HELLO_MAGIC = b"BRTH", b"BHLO"


def unpack(layout, data):
    return {name: struct.unpack_from("<" + form, data, at)[0] for name, at, form in layout}


def pack(layout, size, fields):
    out = bytearray(size)
    for name, at, form in layout:
        if name in fields:
            struct.pack_into("<" + form, out, at, fields[name])
    return out


# ---- the tables of types ----

TYPES = """
0   READ_FILE      file_id offset length arena             ARENA
1   WRITE_FILE     file_id offset length arena value       ARENA KILL_SUIDGID
2   LIST_DIR       file_id cookie length arena             ARENA
3   LOOKUP         file_id name
4   CREATE_FILE    file_id name mode file_type rdev target
5   DELETE_FILE    file_id name                            RMDIR
6   GET_STATS      length arena                            ARENA
7   MOUNT          takeover text                           READONLY RECOVER
8   UNMOUNT
9   SHUTDOWN
10  GET_ATTR       file_id
11  SET_ATTR       file_id set
12  RENAME         file_id name file_id2 name2 rename_flags
13  LINK           file_id file_id2 name
14  READ_LINK      file_id
15  STATFS
16  FSYNC          file_id                                 DATASYNC
17  SYNC
18  FALLOCATE      file_id offset length64 mode
19  GET_XATTR      file_id xattr length arena              ARENA
20  SET_XATTR      file_id xattr mode length arena value   ARENA
21  LIST_XATTR     file_id length arena                    ARENA
22  REMOVE_XATTR   file_id xattr
23  EVICT          cookie ids
24  PING
25  REMOUNT        text                                    READONLY
26  SEEK           file_id offset mode
27  FENCE
28  FREEZE
"""
ANSWERS = """
0   ATTR ARENA count data
1   ATTR count
2   ATTR ARENA END data
3   ATTR always PARENT_ATTR EXACT
4   ATTR always PARENT_ATTR EXACT
5   ATTR PARENT_ATTR EXACT param1
6   ARENA data
7   ATTR data text
8
9
10  ATTR always
11  ATTR always
12  ATTR PARENT_ATTR EXACT param1
13  ATTR always PARENT_ATTR EXACT
14  ATTR data
15  data
16  ATTR
17
18  ATTR
19  ATTR ARENA data param1
20  ATTR
21  ATTR ARENA data param1
22  ATTR
23
24
25  text
26  ATTR param1
27
28
"""
REQUEST_FLAGS = {"ARENA": 1, "RMDIR": 2, "DATASYNC": 4, "KILL_SUIDGID": 8, "READONLY": 16,
                 "RECOVER": 32}
RESPONSE_FLAGS = {"ATTR": 1, "PARENT_ATTR": 2, "ARENA": 4, "EXACT": 8, "END": 16, "READONLY": 32}
USES = {int(line.split()[0]): set(line.split()[2:]) for line in TYPES.strip().splitlines()}
GIVES = {int(line.split()[0]): set(line.split()[1:]) for line in ANSWERS.strip().splitlines()}
CREATE, SET_XATTR, SEEK, READ, STATFS, FALLOCATE = 4, 20, 26, 0, 15, 18
SET_FIELDS = ["mode", "uid", "gid", "size", "atime_ns", "mtime_ns", "ctime_ns", None, "btime_ns"]


def flag_mask(words, table):
    return sum(bit for word, bit in table.items() if word in words)


# ---- requests ----

def used_fields(f):
    """The header fields that this request's type, flags, file_type and set_mask leave free."""
    uses = USES[f["type"]]
    used = {"magic", "version", "type", "total_length", "flags", "request_id", "deadline_ms",
            "uid", "gid", "pid", "time_ns"}
    used |= uses & {"file_id", "file_id2", "offset", "length", "length64", "mode", "file_type",
                    "rename_flags"}
    if "cookie" in uses or ("takeover" in uses and f["flags"] & REQUEST_FLAGS["RECOVER"]):
        used.add("offset")
    if "rdev" in uses and f["file_type"] in (6, 7):
        used.add("rdev")
    if "arena" in uses and f["flags"] & REQUEST_FLAGS["ARENA"]:
        used |= {"arena_offset", "arena_length"}
    if "set" in uses:
        used.add("set_mask")
        for bit, name in enumerate(SET_FIELDS):
            if name and f["set_mask"] >> bit & 1:
                used.add("set_" + name)
    return used


def check_request_name(part, most, slash, what):
    require(1 <= len(part) <= most, what + " length")
    require(0 not in part, what + " has NUL")
    require(slash or b"/" not in part, what + " has /")


def check_request_parts(f, name, name2, payload):
    uses = USES[f["type"]]
    arena = bool(f["flags"] & REQUEST_FLAGS["ARENA"])
    if "name" in uses or "xattr" in uses:
        check_request_name(name, 255, "xattr" in uses, "name")
    else:
        require(not name, "no name")
    if "name2" in uses:
        check_request_name(name2, 255, False, "name2")
    elif "target" in uses and f["file_type"] == 3:
        check_request_name(name2, 4095, True, "target")
    else:
        require(not name2, "no name2")
    if "value" in uses and not arena:
        require(len(payload) == f["length"], "payload is the value")
    elif "text" in uses:
        require(len(payload) <= INLINE_MAX and 0 not in payload, "text")
    elif "ids" in uses:
        require(8 <= len(payload) <= INLINE_MAX and len(payload) % 8 == 0, "ids")
        require(all(struct.unpack("<%dQ" % (len(payload) // 8), payload)), "an id is 0")
    else:
        require(not payload, "no payload")


def check_request_values(f):
    uses, kind = USES[f["type"]], f["type"]
    arena = bool(f["flags"] & REQUEST_FLAGS["ARENA"])
    require(not f["flags"] & ~flag_mask(uses, REQUEST_FLAGS), "flags")
    for name in ("file_id", "file_id2"):
        require(name not in uses or f[name] != 0, name)
    if arena:
        require(1 <= f["arena_length"] <= IO_MAX, "arena_length")
        require(f["arena_offset"] % 4096 == 0, "arena_offset")
        require(f["arena_offset"] + f["arena_length"] <= I63, "arena range")
    if "length" in uses:
        require(f["length"] <= (f["arena_length"] if arena else INLINE_MAX), "length")
    if "length64" in uses:
        require(f["length64"] <= I63, "length64")
    if "offset" in uses:
        length = f["length64"] if "length64" in uses else f["length"] if "length" in uses else 0
        require(f["offset"] + length <= I63, "offset")
    if kind == CREATE:
        require(f["mode"] <= 0o7777 and 1 <= f["file_type"] <= 7, "mode or file_type")
    if kind == SET_XATTR:
        require(f["mode"] <= 3, "mode")
    if kind == SEEK:
        require(f["mode"] in (3, 4), "mode")
    if "rename_flags" in uses:
        require(f["rename_flags"] <= 3, "rename_flags")
    if "set" in uses:
        require(f["set_mask"] < 1 << 9, "set_mask")
        require(f["set_mode"] <= 0o7777 and f["set_size"] <= I63, "set")


def check_start(data, size):
    require(size <= len(data) <= 8192, "length of the packet")
    require(data[:4] == MAGIC, "magic")
    require(struct.unpack_from("<H", data, 4)[0] == 1, "version")
    require(struct.unpack_from("<I", data, 8)[0] == len(data), "total_length")


def decode_request(data):
    check_start(data, 192)
    f = unpack(REQUEST, data)
    require(f["type"] in USES, "type")
    lengths = [f.pop("name_length"), f.pop("name2_length"), f.pop("payload_length")]
    require(192 + sum(map(padded, lengths)) == len(data), "lengths")
    parts, at = [], 192
    for length in lengths:
        parts.append(data[at:at + length])
        require(not any(data[at + length:at + padded(length)]), "padding")
        at += padded(length)
    used = used_fields(f)
    for name, value in f.items():
        if name not in used:
            require(not any(value) if isinstance(value, bytes) else value == 0, name + " unused")
    check_request_values(f)
    check_request_parts(f, *parts)
    for name in ("magic", "version", "total_length", "zero1", "zero2"):
        del f[name]
    f["name"], f["name2"], f["payload"] = (part.hex() for part in parts)
    return f


def encode_request(f):
    parts = [bytes.fromhex(f[name]) for name in ("name", "name2", "payload")]
    body = b"".join(part.ljust(padded(len(part)), b"\0") for part in parts)
    head = pack(REQUEST, 192, dict(
        {k: v for k, v in f.items() if not isinstance(v, str)},
        magic=int.from_bytes(MAGIC, "little"), version=1, total_length=192 + len(body),
        name_length=len(parts[0]), name2_length=len(parts[1]), payload_length=len(parts[2])))
    return bytes(head) + body


# ---- responses ----

def decode_attr(data, present, what):
    f = unpack(ATTR, data)
    if not present:
        require(not any(data), what + " unused")
        return f
    require(f["file_id"] != 0, what + ".file_id")
    require(1 <= f["type"] <= 7, what + ".type")
    require(f["mode"] <= 0o7777, what + ".mode")
    require(f["size"] <= I63 and f["blocks"] <= I63, what + ".size")
    return f


def check_response(f):
    gives, flags, result = GIVES[f["type"]], f["flags"], f["result"]
    require(not flags & ~(flag_mask(gives, RESPONSE_FLAGS) | RESPONSE_FLAGS["READONLY"]), "flags")
    require(f["number"] != 0, "number")
    require(-4095 <= result <= (IO_MAX if "count" in gives else 0), "result")
    require(not ("always" in gives and result == 0) or flags & 1, "attr is missing")
    require(f["param1"] == 0 or "param1" in gives, "param1")
    require(f["type"] != SEEK or f["param1"] <= I63, "param1")
    require(f["param2"] == 0, "param2")
    length = f["data_length"]
    require(length <= (IO_MAX if flags & RESPONSE_FLAGS["ARENA"] else INLINE_MAX), "data_length")
    require(length == 0 or ("text" if result < 0 else "data") in gives, "no data")
    require(f["type"] != READ or result < 0 or length == result, "data is not result")
    require(f["type"] != STATFS or result != 0 or length == 56, "STATFS")


def decode_response(data):
    check_start(data, 288)
    f = unpack(RESPONSE, data)
    require(f["type"] in GIVES, "type")
    check_response(f)
    length = 0 if f["flags"] & RESPONSE_FLAGS["ARENA"] else f["data_length"]
    require(len(data) == 288 + padded(length), "lengths")
    require(not any(data[288 + length:]), "padding")
    require(not any(f.pop("zero1")) and not any(f.pop("zero2")), "zero")
    f["attr"] = decode_attr(f["attr"], f["flags"] & 1, "attr")
    f["parent"] = decode_attr(f["parent"], f["flags"] & 2, "parent")
    f["data"] = data[288:288 + length].hex()
    for name in ("magic", "version", "total_length"):
        del f[name]
    return f


def encode_response(f):
    data = bytes.fromhex(f["data"])
    body = data.ljust(padded(len(data)), b"\0")
    return bytes(pack(RESPONSE, 288, dict(
        f, magic=int.from_bytes(MAGIC, "little"), version=1, total_length=288 + len(body),
        attr=bytes(pack(ATTR, 88, f["attr"])), parent=bytes(pack(ATTR, 88, f["parent"]))))) + body


# ---- directory entries, HELLO ----

def decode_dirent(data):
    require(len(data) >= 128, "short")
    f = unpack(DIRENT, data)
    length, total = f.pop("name_length"), f.pop("total_length")
    require(total == 128 + padded(length) <= len(data), "total_length")
    name = data[128:128 + length]
    require(not any(data[128 + length:total]) and not any(f.pop("zero")), "zero")
    require(1 <= length <= 255 and 0 not in name and b"/" not in name, "name")
    require(name not in (b".", b".."), "name")
    try:
        name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Bad("name is not UTF-8") from error
    require(f["type"] <= 7 and f["flags"] <= 1, "type or flags")
    require(f["cookie"] != 0 and f["file_id"] != 0, "cookie or file_id")
    f["attr"] = decode_attr(f["attr"], f["flags"], "attr")
    if f["flags"]:
        require(f["attr"]["file_id"] == f["file_id"] and f["attr"]["type"] == f["type"], "attr")
    f["name"] = name.hex()
    return f


def encode_dirent(f):
    name = bytes.fromhex(f["name"])
    body = name.ljust(padded(len(name)), b"\0")
    return bytes(pack(DIRENT, 128, dict(
        f, total_length=128 + len(body), name_length=len(name),
        attr=bytes(pack(ATTR, 88, f["attr"]))))) + body


def decode_hello(data):
    require(len(data) == 512 and data[:4] == HELLO_MAGIC, "length or magic")
    f = unpack(HELLO, data)
    require(f["version"] != 0, "version")
    require(-4095 <= f["result"] <= 0, "result")
    require((f["slots"] > 0 or f["result"] < 0) and f["slots"] <= 4096, "slots")
    for name in ("arena_out_size", "arena_in_size"):
        require(f[name] % 4096 == 0 and f[name] <= 2**40, name)
    require(f["image_start"] + f["image_length"] <= I63, "image")
    require(f["flags"] <= 3, "flags")
    require(not any(f.pop("zero1")) and not any(f.pop("zero2")), "zero")
    for name in ("type", "source", "text"):
        text, end, rest = f[name].partition(b"\0")
        require(end and not any(rest), name + " is not terminated")
        require(all(c >= 0x20 and c != 0x7f for c in text), name + " has controls")
        f[name] = text.hex()
    allowed = set(b"abcdefghijklmnopqrstuvwxyz0123456789-_.+")
    require(set(bytes.fromhex(f["type"])) <= allowed, "type")
    del f["magic"]
    return f


def encode_hello(f):
    texts = {name: bytes.fromhex(f[name]) for name in ("type", "source", "text")}
    return bytes(pack(HELLO, 512, dict(f, magic=int.from_bytes(HELLO_MAGIC, "little"), **texts)))


DECODE = {"Q": decode_request, "A": decode_response, "D": decode_dirent, "H": decode_hello}
ENCODE = {"Q": encode_request, "A": encode_response, "D": encode_dirent, "H": encode_hello}


# ---- samples of our own ----

def number(rng, most):
    return rng.choice([0, most, rng.randrange(min(most, 1000) + 1), rng.randrange(most + 1)])


def text(rng, least, most, avoid):
    length = least + number(rng, most - least)
    return bytes(rng.choice([b for b in range(256) if b not in avoid]) for _ in range(length))


def sample_request(rng, kind):
    uses = USES[kind]
    f = {name: 0 for name, _, form in REQUEST if form[-1] in "HIQq"}
    for name in ("magic", "version", "total_length", "name_length", "name2_length",
                 "payload_length"):
        del f[name]
    name = name2 = payload = b""
    f.update(type=kind, request_id=number(rng, 2**64 - 1), time_ns=number(rng, 2**64 - 1) - 2**63)
    for key in ("deadline_ms", "uid", "gid", "pid"):
        f[key] = number(rng, 2**32 - 1)
    f["flags"] = flag_mask({w for w in uses & set(REQUEST_FLAGS) if rng.random() < .5},
                           REQUEST_FLAGS)
    arena = f["flags"] & REQUEST_FLAGS["ARENA"]
    for key in uses & {"file_id", "file_id2"}:
        f[key] = 1 + number(rng, 2**64 - 2)
    if arena:
        f["arena_offset"] = number(rng, 2**50) * 4096
        f["arena_length"] = 1 + number(rng, IO_MAX - 1)
    if "length" in uses:
        f["length"] = number(rng, f["arena_length"] if arena else INLINE_MAX)
    if "length64" in uses:
        f["length64"] = number(rng, I63)
    if "offset" in uses:
        f["offset"] = number(rng, I63 - f["length"] - f["length64"])
    if "cookie" in uses or f["flags"] & REQUEST_FLAGS["RECOVER"]:
        f["offset"] = number(rng, 2**64 - 1)
    if "mode" in uses:
        f["mode"] = {CREATE: number(rng, 0o7777), SET_XATTR: number(rng, 3),
                     SEEK: rng.choice([3, 4]), FALLOCATE: number(rng, 2**32 - 1)}[kind]
    if "file_type" in uses:
        f["file_type"] = rng.randint(1, 7)
        f["rdev"] = number(rng, 2**32 - 1) if f["file_type"] in (6, 7) else 0
    if "rename_flags" in uses:
        f["rename_flags"] = rng.randrange(4)
    if "set" in uses:
        f["set_mask"] = rng.randrange(1 << 9)
        most = {"mode": 0o7777, "uid": 2**32 - 1, "gid": 2**32 - 1, "size": I63}
        for bit, field in enumerate(SET_FIELDS):
            if field and f["set_mask"] >> bit & 1:
                f["set_" + field] = number(rng, most.get(field, I63))
    if "name" in uses or "xattr" in uses:
        name = text(rng, 1, 255, b"\0" if "xattr" in uses else b"\0/")
    if "name2" in uses:
        name2 = text(rng, 1, 255, b"\0/")
    if "target" in uses and f["file_type"] == 3:
        name2 = text(rng, 1, 4095, b"\0")
    if "value" in uses and not arena:
        payload = text(rng, f["length"], f["length"], b"")
    if "text" in uses:
        payload = text(rng, 0, INLINE_MAX, b"\0")
    if "ids" in uses:
        payload = b"".join(struct.pack("<Q", 1 + number(rng, 2**64 - 2))
                           for _ in range(1 + number(rng, 511)))
    return dict(f, name=name.hex(), name2=name2.hex(), payload=payload.hex())


def sample_attr(rng, present):
    f = {name: 0 for name, _, _ in ATTR}
    if present:
        for name, _, form in ATTR:
            f[name] = number(rng, {"I": 2**32 - 1, "Q": I63, "q": I63}[form])
        f.update(file_id=1 + number(rng, 2**64 - 2), type=rng.randint(1, 7),
                 mode=number(rng, 0o7777), btime_ns=-2**63)
    return f


def sample_response(rng, kind):
    gives = GIVES[kind]
    f = {"type": kind, "request_id": number(rng, 2**64 - 1), "number": 1 + number(rng, 2**64 - 2),
         "result": 0, "data_length": 0, "param1": 0, "param2": 0}
    words = {w for w in gives | {"READONLY"} if w in RESPONSE_FLAGS and rng.random() < .5}
    if rng.random() < .2:
        f["result"] = -rng.randint(1, 4095)
    elif "always" in gives:
        words.add("ATTR")
    f["flags"] = flag_mask(words, RESPONSE_FLAGS)
    if "param1" in gives:
        f["param1"] = number(rng, I63)
    if ("text" if f["result"] < 0 else "data") in gives:
        f["data_length"] = number(rng, IO_MAX if "ARENA" in words else INLINE_MAX)
        if kind == STATFS:
            f["data_length"] = 56
    if "count" in gives and f["result"] == 0:
        f["result"] = f["data_length"] if kind == READ else number(rng, IO_MAX)
    data = b"" if "ARENA" in words else rng.randbytes(f["data_length"])
    return dict(f, attr=sample_attr(rng, "ATTR" in words),
                parent=sample_attr(rng, "PARENT_ATTR" in words), data=data.hex())


def sample_dirent(rng):
    attr = sample_attr(rng, rng.random() < .5)
    flags = int(attr["file_id"] != 0)
    name = rng.choice(["x", "…", "café", "日本語", "a" * 255, " .", "..."]).encode()
    return {"type": attr["type"] if flags else rng.randint(0, 7), "flags": flags,
            "cookie": 1 + number(rng, 2**64 - 2), "position": number(rng, 2**64 - 1),
            "file_id": attr["file_id"] or 1 + number(rng, 2**64 - 2), "attr": attr,
            "name": name.hex()}


def sample_hello(rng):
    f = {name: number(rng, 2**32 - 1) for name in ("version", "epoch", "pid")}
    f["version"] = max(f["version"], 1)
    start = number(rng, I63)
    f.update(features=number(rng, 2**64 - 1), slots=1 + number(rng, 4095),
             arena_out_size=number(rng, 2**28) * 4096, arena_in_size=number(rng, 2**28) * 4096,
             image_start=start, image_length=number(rng, I63 - start), flags=rng.randrange(4),
             result=-number(rng, 4095), type=text(rng, 0, 31, set(range(256)) - set(b"fat12-+")),
             source=text(rng, 0, 255, set(range(32)) | {127}),
             text=text(rng, 0, 127, set(range(32)) | {127}))
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in f.items()}


def samples(rng):
    for _ in range(12):
        for kind in USES:
            yield "Q", sample_request(rng, kind)
            yield "A", sample_response(rng, kind)
        for _ in range(8):
            yield "D", sample_dirent(rng)
            yield "H", sample_hello(rng)


# ---- the three comparisons ----

def read_records(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        kind, length = chr(data[at]), struct.unpack_from("<I", data, at + 1)[0]
        yield kind, data[at + 5:at + 5 + length]
        at += 5 + length


def library_decodes(emit, path, records):
    with path.open("wb") as file:
        for kind, data in records:
            file.write(kind.encode() + struct.pack("<I", len(data)) + data)
    done = subprocess.run([emit, "read", path], stdout=subprocess.PIPE, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(records), "emit read lost a record"
    return answers


def differences(ours, theirs):
    keys = sorted(set(ours) | set(theirs))
    return [f"{k}: page {ours.get(k)!r}, library {theirs.get(k)!r}" for k in keys
            if ours.get(k) != theirs.get(k)]


def damage(rng, data):
    """A byte, a field of 2, 4 or 8 bytes, or the length changes; headers more often than bodies."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2])):
        how = rng.random()
        at = rng.randrange(min(len(out), rng.choice([200, 300, 9000])))
        if how < .4:
            out[at] = rng.choice([0, 1, 0x2f, 0x7f, 0x80, 0xff, rng.randrange(256)])
        elif how < .6:
            out[at] ^= 1 << rng.randrange(8)
        elif how < .9:
            size = rng.choice([2, 4, 8])
            at = at // size * size
            value = rng.choice([0, 1, 2, 7, 8, 255, 256, 4095, 4096, 4097, IO_MAX, IO_MAX + 1,
                                2**31, I63, I63 + 1, 2**64 - 1, len(data)])
            out[at:at + size] = (value % 256**size).to_bytes(size, "little")
            del out[len(data):]
        elif how < .95:
            del out[max(at, 1):]
        else:
            out += bytes(rng.choice([1, 8]))
    return bytes(out)


def compare_theirs(emit, seed, where, failures):
    messages, expected = where / "messages", where / "expected"
    subprocess.run([emit, "write", str(seed), messages, expected], check=True)
    records = list(read_records(messages))
    fields = [json.loads(line) for line in expected.read_text().splitlines()]
    assert len(records) == len(fields) > 900, "emit wrote too little"
    for i, ((kind, data), meant) in enumerate(zip(records, fields)):
        try:
            got = DECODE[kind](data)
        except Bad as why:
            failures.append(f"library's {kind} {i}, type {meant.get('type')}: page refuses: {why}")
            continue
        failures += [f"library's {kind} {i}: {line}" for line in differences(got, meant)]
        if ENCODE[kind](got) != data:
            failures.append(f"library's {kind} {i}: page encodes other bytes")
    return records


def compare_ours(emit, rng, where, failures):
    made = list(samples(rng))
    records = [(kind, ENCODE[kind](fields)) for kind, fields in made]
    for i, ((kind, fields), answer) in enumerate(
            zip(made, library_decodes(emit, where / "ours", records))):
        assert DECODE[kind](records[i][1]) == fields, "the page's two halves differ"
        failures += [f"page's {kind} {i}, type {fields['type']}: {line}"
                     for line in differences(fields, answer)]
    return records


def compare_damaged(emit, rng, where, records, failures):
    damaged = [(kind, damage(rng, data)) for kind, data in rng.choices(records, k=20000)]
    answers = library_decodes(emit, where / "damaged", damaged)
    accepted = 0
    for i, ((kind, data), answer) in enumerate(zip(damaged, answers)):
        try:
            ours = DECODE[kind](data)
        except Bad as why:
            if "error" not in answer:
                failures.append(f"damaged {kind} {i}: library accepts, page: {why}: "
                                + data[:300].hex())
            continue
        accepted += 1
        failures += [f"damaged {kind} {i}: {line}: {data[:300].hex()}"
                     for line in differences(ours, answer)]
    return accepted


def main():
    emit, seed = sys.argv[1], int(sys.argv[2])
    rng, failures = random.Random(seed), []
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        records = compare_theirs(emit, seed, where, failures)
        records += compare_ours(emit, rng, where, failures)
        accepted = compare_damaged(emit, rng, where, records, failures)
    for line in failures[:20]:
        print(line)
    print(f"seed {seed}: {len(records)} messages, 20000 damaged of which {accepted} are legal, "
          f"{len(failures)} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
