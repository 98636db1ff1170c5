#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A daemon that lies: the real one behind it, and between the two this, which changes responses
and scribbles over the result arena. Started by berthfs as if it were the daemon.

HOSTILE_REAL is the real daemon, HOSTILE_SEED the seed, HOSTILE_RATE how many messages in a
thousand are changed."""
import mmap
import os
import random
import select
import socket
import subprocess
import sys

MESSAGE_MAX = 8192
HEADER = 288  # of a response
ARENA_IN = 2  # its place among the descriptors of the HELLO


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
    socket.send_fds(ours, [hello], fds)
    while True:
        ready, _, _ = select.select([front, ours], [], [])
        for source in ready:
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
            front.send(message)
            if rng.randrange(4000) < rate:
                front.send(message)  # twice


try:
    main()
except OSError:
    pass
