#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A daemon that does one thing that no daemon may do, by name. Started by berthfs as if it were the
daemon, with the real one behind it; hostile_judge.py says what must come of it.

HOSTILE_CASE is the name, HOSTILE_REAL the real daemon, HOSTILE_STATE a directory: there each
instance takes a number. The first one lies when a file called "trigger" is looked up; those after it
are the real daemon, but where the case is about successors."""
import ctypes
import mmap
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import hostile_daemon
from hostile_daemon import ARENA_IN, MESSAGE_MAX

LIFELINE, FENCE = 3, 4  # places among the descriptors of the HELLO
READ, LIST, LOOKUP, STATS, MOUNT, GETATTR = 0, 2, 3, 6, 7, 10
RESPONSE = 288
DIRENT = 128
ATTR_AT, ATTR_TYPE, ATTR_SIZE = 56, 56 + 12, 56 + 40
NUMBER_AT, RESULT_AT, LENGTH_AT = 24, 32, 36
HAS_ATTR, IN_ARENA = 1, 4


def field(message, at, size):
    return int.from_bytes(message[at : at + size], "little")


def put(message, at, size, value):
    return message[:at] + (value % 256**size).to_bytes(size, "little") + message[at + size :]


def kind(message):
    return field(message, 6, 2)


def request_id(message):
    return field(message, 16, 8)


def answer(request, result=0, data=b"", flags=0, number=0):
    padded = data + bytes(-len(data) % 8)
    head = struct.pack("<IHHIHHQQiI", 0x48545242, field(request, 4, 2), kind(request),
                       RESPONSE + len(padded), flags, 0, request_id(request), number, result, len(data))
    return head + bytes(RESPONSE - len(head)) + padded


def dirent(name, cookie, ident):
    padded = name + bytes(-len(name) % 8)
    attr = struct.pack("<QIIIIIIIIQQqqqq", ident, 0, 1, 0o644, 1, 0, 0, 0, 4096, 5, 8, 0, 0, 0, 0)
    return struct.pack("<IHBBQQQ", DIRENT + len(padded), len(name), 1, 1, cookie, ident,
                       cookie) + attr + bytes(8) + padded


class Daemon:
    """What passes between the front-end and the real daemon."""

    def __init__(self, name, instance):
        self.name, self.instance = name, instance
        self.armed = self.over = False
        self.requests = {}
        self.cookie = 0
        self.rng = random.Random(instance)
        self.number = 0

    # ---- the start ----

    def start(self):
        self.front = socket.socket(fileno=int(sys.argv[sys.argv.index("--channel-fd") + 1]))
        hello, fds, _, _ = socket.recv_fds(self.front, MESSAGE_MAX, 8)
        self.arena = mmap.mmap(fds[ARENA_IN], os.fstat(fds[ARENA_IN]).st_size)
        self.lifeline = mmap.mmap(fds[LIFELINE], os.fstat(fds[LIFELINE]).st_size)
        self.fence = fds[FENCE]
        self.real, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Without a sandbox: a change of ids would undo its dying with us.
        subprocess.Popen([os.environ["HOSTILE_REAL"], "--channel-fd", str(theirs.fileno()),
                          "--sandbox", "off"], pass_fds=[theirs.fileno()],
                         preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
        theirs.close()
        os.environ["HOSTILE_TRANSPORT"] = "ring" if self.name.startswith("ring") else "socket"
        hello, fds, self.rings = hostile_daemon.accept(self.rng, 0, hello, fds)
        socket.send_fds(self.real, [hello], fds)
        if self.name not in ("fence held", "fence written", "late answers"):
            os.close(self.fence)
        reply = bytearray(self.real.recv(MESSAGE_MAX))
        if self.rings:
            reply[hostile_daemon.FEATURES] |= hostile_daemon.FEATURE_RING
        self.front.send(bytes(reply))

    def send(self, message):
        self.number = max(self.number, field(message, NUMBER_AT, 8))
        (self.rings or self.front).send(message)

    def run(self):
        self.start()
        while True:
            while self.rings and (message := self.rings.take()) is not None:
                self.from_front(message)
            ready, _, _ = select.select([self.front, self.real] + ([self.rings.wake_fd] if self.rings else []),
                                        [], [], 0.05)
            for source in ready:
                if self.rings and source == self.rings.wake_fd:
                    self.rings.woken()
                    continue
                message = source.recv(MESSAGE_MAX)
                if not message:
                    return
                if source is self.front:
                    self.from_front(message)
                else:
                    self.from_real(message)

    # ---- what passes ----

    def from_front(self, message):
        if kind(message) == LOOKUP and b"trigger" in message and not self.armed:
            self.armed = True
            self.trigger(message)
        self.requests[request_id(message)] = message
        if kind(message) == MOUNT and self.instance > 1 and not self.take_over(message):
            return
        if self.name == "every death" and (self.armed or self.instance > 1):
            self.die_once(kind(message))
        if not (self.armed and self.name == "silence"):
            self.real.send(message)

    def from_real(self, message):
        request = self.requests.pop(request_id(message), None)
        if request is None or not self.armed:
            self.send(message)
            return
        for lie in self.lies(request, message):
            self.send(lie)

    def die_once(self, what):
        try:
            os.close(os.open(os.path.join(os.environ["HOSTILE_STATE"], f"died-{what}"),
                             os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    # ---- successors ----

    def take_over(self, request):
        """False: the real one does not hear of it."""
        name = self.name
        if name == "takeover refused":
            self.send(answer(request, -5, b"not today", number=2**40))
        elif name == "takeover garbage":
            self.front.send(self.rng.randbytes(400))
        elif name == "takeover death":
            os._exit(3)
        elif name != "takeover silence" or self.instance > 2:
            return True
        return False

    # ---- the lies ----

    def trigger(self, request):
        name = self.name
        if name.startswith("takeover") and self.instance > 1:
            return
        if name.startswith("takeover") or name in ("fence held", "fence written", "late answers"):
            if name.startswith("fence") or name == "late answers":
                self.accomplice(request)
            os._exit(1)
        if name.startswith("lifeline"):
            self.scribble_lifeline()
            os._exit(1)
        threads = {"arena scribbled": self.scribble_arena, "ring scribbled": self.scribble_rings,
                   "ring storm": self.storm, "log flood": self.flood}
        if name in threads:
            threading.Thread(target=threads[name], daemon=True).start()
            time.sleep(0.2)  # before an answer

    def accomplice(self, request):
        """Goes on after our death, with our descriptors."""
        if os.fork() != 0:
            return
        self.real.close()
        until = time.monotonic() + 60
        release = os.path.join(os.environ["HOSTILE_STATE"], "release")
        while time.monotonic() < until and not os.path.exists(release):
            try:
                if self.name == "fence written":
                    os.set_blocking(self.fence, False)
                    os.write(self.fence, bytes(60000))
                elif self.name == "late answers":
                    self.front.send(answer(request, -2, number=2**41))
            except OSError:
                pass
            time.sleep(0.001 if self.name == "fence written" else 0.05)
        os._exit(0)

    def scribble_lifeline(self):
        what = self.name.split()[1]
        if what == "header":
            for at in range(32, 88, 8):
                self.lifeline[at : at + 8] = self.rng.choice((0, 1, 2**31, 2**63, 2**64 - 8)).to_bytes(8, "little")
        elif what == "position":
            self.lifeline[40:48] = (field(self.lifeline[40:48], 0, 8) + 2**20).to_bytes(8, "little")
        elif what == "gone":
            self.lifeline[0:8] = bytes(8)
        elif what == "tables":
            control = len(self.lifeline) - field(self.lifeline[24:32], 0, 8)
            self.lifeline[4096:control] = self.rng.randbytes(control - 4096)
        else:
            start = len(self.lifeline) - field(self.lifeline[24:32], 0, 8)
            for _ in range(20000):
                self.lifeline[self.rng.randrange(start, len(self.lifeline))] = self.rng.randrange(256)

    def scribble_arena(self):
        while True:
            for _ in range(200):
                self.arena[self.rng.randrange(len(self.arena) // 64)] = self.rng.randrange(256)
            time.sleep(0.001)

    def scribble_rings(self):
        self.rings.words[hostile_daemon.CONTROL // 8] = 2**40  # the position of what we have sent
        self.rings.ring_bell(1)
        while True:
            self.rings.words[self.rng.randrange(0, 64)] = self.rng.randrange(2**64)
            time.sleep(0.001)

    def storm(self):
        while True:
            self.rings.ring_bell(100)

    def flood(self):
        while True:
            os.write(2, b"a line that nobody wants \x1b[31m to read " * 20 + b"\n")

    def lies(self, request, message):
        name, what = self.name, kind(request)
        lookup = what == LOOKUP and b"trigger" in request
        if name == "unknown id" and lookup:
            return [put(message, 16, 8, request_id(message) + 3)]
        if name == "double answer" and lookup:
            return [message, message]
        if name == "old number" and lookup:
            return [put(message, NUMBER_AT, 8, 1)]
        if name == "huge size" and lookup:
            return [put(message, ATTR_SIZE, 8, 2**63)]
        if name == "huge data" and what == READ:
            return [put(message, LENGTH_AT, 4, 2**31 - 1)]
        if name == "more than asked" and what == READ:
            return [put(put(message, RESULT_AT, 4, 2**20), LENGTH_AT, 4, 2**20)]
        if name == "root under a name" and lookup:
            return [put(message, ATTR_AT, 8, 1)]
        if name == "ring and socket" and lookup:
            self.front.send(message)
        if name == "cycle" and what == LOOKUP:
            return [put(put(message, ATTR_AT, 8, field(request, 24, 8)), ATTR_TYPE, 4, 2)
                    if field(message, 12, 2) & HAS_ATTR and field(request, 24, 8) != 1 else message]
        if name == "types" and what in (LOOKUP, GETATTR) and field(message, ATTR_AT, 8) > 1:
            return [put(message, ATTR_TYPE, 4, self.rng.randrange(1, 8))]
        if name == "sizes" and what in (LOOKUP, GETATTR) and field(message, 12, 2) & HAS_ATTR:
            return [put(message, ATTR_SIZE, 8, self.rng.choice((0, 1, 2**40, 2**63 - 1)))]
        if name == "stats" and what == STATS:
            return [answer(request, 0, b'{"a": "' + bytes(range(256)) * 4, number=field(message, NUMBER_AT, 8))]
        if what == LIST:
            return self.lie_about_list(request, message)
        return [message]

    def lie_about_list(self, request, message):
        bad = {"name with slash": b"/", "name with nul": b"\0"}
        if self.name in bad:
            return [self.edit_list(request, message, DIRENT, bad[self.name])]
        if self.name == "list length":
            return [self.edit_list(request, message, 0, b"\xff\xff\xff\x7f")]
        if self.name in ("list endless", "list turning"):
            data = b""
            while len(data) < min(4000, field(request, 64, 4)) - 200:
                self.cookie += 1
                cookie = self.cookie if self.name == "list endless" else 1
                data += dirent(b"file %d" % self.cookie, cookie, 10**6 + self.cookie)
            return [answer(request, 0, data, number=field(message, NUMBER_AT, 8))]
        return [message]

    def edit_list(self, request, message, at, data):
        """The first entry, wherever it is."""
        if field(message, LENGTH_AT, 4) == 0:
            return message
        if field(message, 12, 2) & IN_ARENA:
            start = field(request, 56, 8) + at
            self.arena[start : start + len(data)] = data
            return message
        return message[: RESPONSE + at] + data + message[RESPONSE + at + len(data) :]


def main():
    name, state = os.environ["HOSTILE_CASE"], os.environ["HOSTILE_STATE"]
    instance = 1
    while True:
        try:
            os.close(os.open(os.path.join(state, f"instance-{instance}"), os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            instance += 1
    lasting = name.startswith("takeover") or name == "every death"
    if instance > 1 and not lasting:
        os.execv(os.environ["HOSTILE_REAL"], [os.environ["HOSTILE_REAL"]] + sys.argv[1:])
    try:
        Daemon(name, instance).run()
    except OSError:
        pass


if __name__ == "__main__":
    main()
