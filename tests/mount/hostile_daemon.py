#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A daemon that lies: the real one behind it, and between the two this, which changes responses,
scribbles over the result arena and, with rings, over those. Started by berthfs as if it were the
daemon.

HOSTILE_REAL is the real daemon, HOSTILE_SEED the seed, HOSTILE_RATE how many messages in a
thousand are changed, HOSTILE_TRANSPORT what is agreed with the front-end: socket or ring (the
real daemon behind is always talked to over its socket)."""
import mmap
import os
import random
import select
import socket
import subprocess
import sys

MESSAGE_MAX = 8192
HEADER = 288  # of a response
ARENA_IN, COMMON_FDS = 2, 5  # places among the descriptors of the HELLO
FEATURES, FEATURE_RING = 8, 2  # the HELLO's field, its bit
CONTROL, CONTROL_PAGE = 256, 4096


def change(rng, message):
    """One of the ways in which a message can be wrong."""
    data = bytearray(message)
    way = rng.randrange(6)
    if way == 0:
        data = data[: rng.randrange(1, len(data) + 1)]
    elif way == 1:
        data += rng.randbytes(rng.choice((1, 8, 100)))
    elif way == 2:  # an interesting number somewhere in the header
        at = rng.randrange(0, min(HEADER, len(data)) - 7, 4)
        data[at : at + 8] = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)).to_bytes(8, "little")
    elif way == 3 and len(data) > HEADER:
        at = rng.randrange(HEADER, len(data))
        data[at] = rng.randrange(256)
    else:
        for _ in range(rng.choice((1, 1, 4))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


class Rings:
    """The daemon's side of a ring pair, from the protocol's page, with lies."""

    def __init__(self, rng, rate, memory_fd, wake_fd, bell_fd):
        self.rng, self.rate, self.wake_fd, self.bell_fd = rng, rate, wake_fd, bell_fd
        self.memory = mmap.mmap(memory_fd, os.fstat(memory_fd).st_size)
        self.words = memoryview(self.memory)[:CONTROL_PAGE].cast("Q")
        self.size = (len(self.memory) - CONTROL_PAGE) // 2
        self.head = self.tail = 0
        os.set_blocking(bell_fd, False)

    def get(self, position, length):
        at = position % self.size
        data = self.memory[CONTROL_PAGE : CONTROL_PAGE + self.size]
        return (data[at:] + data[:at])[:length] if at + length > self.size else data[at : at + length]

    def put_bytes(self, position, data):
        start = CONTROL_PAGE + self.size
        at = position % self.size
        first = data[: self.size - at]
        self.memory[start + at : start + at + len(first)] = first
        self.memory[start : start + len(data) - len(first)] = data[len(first) :]

    def take(self):
        """The next request, or None, and then the front-end knows that we sleep."""
        self.words[64 // 8] = 0
        if self.words[0] == self.head:
            self.words[64 // 8] = 1
        if self.words[0] == self.head:
            return None
        length = int.from_bytes(self.get(self.head, 4), "little")
        message = bytes(self.get(self.head + 8, length))
        self.head += 8 + -(-length // 8) * 8
        self.words[128 // 8] = self.head
        return message

    def send(self, message):
        header = len(message).to_bytes(8, "little")
        if self.rng.randrange(2000) < self.rate:
            header = self.rng.choice((0, 1, len(message) + 9, 8193, 2**32 - 1, 2**32 + 4, 2**63)).to_bytes(8, "little")
        self.put_bytes(self.tail, header + message)
        self.tail += 8 + -(-len(message) // 8) * 8
        self.words[CONTROL // 8] = self.tail
        if self.rng.randrange(2000) < self.rate:
            self.lie()
        self.ring_bell(1)

    def lie(self):
        """Something in the shared memory that an honest daemon would not write. What only loses a
        message is not among it: a daemon that does not answer is another story."""
        way = self.rng.randrange(5)
        wrong = self.rng.choice((1, 8, self.size, self.size + 8, 2**32, 2**63, 2**64 - 8 - self.tail))
        if way == 0:
            self.words[CONTROL // 8] = (self.tail + wrong) % 2**64
        elif way == 1:
            self.words[128 // 8] = self.rng.choice((0, 1, self.head + wrong, 2**64 - 1)) % 2**64
        elif way == 2:
            self.words[64 // 8] = 2**64 - 1  # always wake us
        elif way == 3:
            self.ring_bell(self.rng.choice((10, 3000)))
        else:  # all of the page that is not the front-end's tail or flag, or the flag too
            for _ in range(16):
                at = self.rng.randrange(0, CONTROL_PAGE // 8)
                if at * 8 not in (0, 64, CONTROL):
                    self.words[at] = self.rng.randrange(2**64)

    def ring_bell(self, count):
        try:
            for _ in range(count):
                os.write(self.bell_fd, b"!")
        except BlockingIOError:
            pass

    def woken(self):
        os.read(self.wake_fd, 4096)


def accept(rng, rate, hello, fds):
    """HELLO and descriptors for the real daemon, and the rings if there are to be some."""
    hello = bytearray(hello)
    rings = None
    if hello[FEATURES] & FEATURE_RING:
        if os.environ.get("HOSTILE_TRANSPORT") == "ring":
            rings = Rings(rng, rate, *fds[COMMON_FDS:])
        hello[FEATURES] &= ~FEATURE_RING
    return bytes(hello), fds[:COMMON_FDS], rings


def main():
    rng = random.Random(int(os.environ["HOSTILE_SEED"]))
    rate = int(os.environ["HOSTILE_RATE"])
    front = socket.socket(fileno=int(sys.argv[sys.argv.index("--channel-fd") + 1]))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hello, fds, _, _ = socket.recv_fds(front, MESSAGE_MAX, 8)
    arena = mmap.mmap(fds[ARENA_IN], os.fstat(fds[ARENA_IN]).st_size)
    subprocess.Popen(
        [os.environ["HOSTILE_REAL"], "--channel-fd", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    hello, fds, rings = accept(rng, rate, hello, fds)
    socket.send_fds(ours, [hello], fds)
    answer = bytearray(ours.recv(MESSAGE_MAX))
    if rings:
        answer[FEATURES] |= FEATURE_RING
        if rng.randrange(1000) < rate:
            answer = change(rng, answer)
    front.send(bytes(answer))
    back = rings or front
    while True:
        while rings and (message := rings.take()) is not None:
            ours.send(message)
        ready, _, _ = select.select([front, ours] + ([rings.wake_fd] if rings else []), [], [], 0.05)
        for source in ready:
            if rings and source == rings.wake_fd:
                rings.woken()
                continue
            message = source.recv(MESSAGE_MAX)
            if not message:
                return
            if source is front:
                ours.send(message)
                continue
            if rng.randrange(1000) < rate:
                message = change(rng, message)
            if rng.randrange(1000) < rate:
                for _ in range(64):
                    at = rng.randrange(len(arena) // 16)  # the slots used first
                    arena[at] = rng.randrange(256)
            back.send(message)
            if rng.randrange(4000) < rate:
                back.send(message)  # twice
            if rings and rng.randrange(8000) < rate:
                front.send(message)  # where none belongs


if __name__ == "__main__":
    try:
        main()
    except OSError:
        pass
