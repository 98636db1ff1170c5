#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many threads at once, each in a directory of its own plus one shared directory, each keeping an
account of what must be there; the accounts are checked at the end.

usage: parallel.py DIR THREADS ROUNDS SEED
"""
import os
import random
import sys
import threading


def worker(root, number, rounds, seed, account, errors):
    rng = random.Random(seed * 1000 + number)
    home = os.path.join(root, f"thread {number}")
    shared = os.path.join(root, "shared")
    mine = {}
    try:
        os.mkdir(home)
        for i in range(rounds):
            name = f"file {rng.randrange(40)} of thread {number}.dat"
            path = os.path.join(rng.choice([home, shared]), name)
            what = rng.random()
            if what < 0.5:
                data = rng.randbytes(rng.choice([0, 10, 4000, 70000]))
                with open(path, "wb") as f:
                    f.write(data)
                mine[path] = data
            elif what < 0.65 and mine:
                victim = rng.choice(sorted(mine))
                os.unlink(victim)
                del mine[victim]
            elif what < 0.8 and mine:
                old = rng.choice(sorted(mine))
                os.rename(old, path)
                mine[path] = mine.pop(old)
            elif mine:
                known = rng.choice(sorted(mine))
                with open(known, "rb") as f:
                    if f.read() != mine[known]:
                        raise AssertionError(f"{known}: wrong contents in round {i}")
            if i % 25 == 0:
                os.listdir(shared)
    except Exception as e:  # the main thread reports it
        errors.append(f"thread {number}: {type(e).__name__}: {e}")
    account[number] = mine


def main():
    root, threads, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    os.mkdir(os.path.join(root, "shared"))
    account, errors = {}, []
    pool = [threading.Thread(target=worker, args=(root, n, rounds, seed, account, errors))
            for n in range(threads)]
    for t in pool:
        t.start()
    for t in pool:
        t.join()
    expected = {}
    for mine in account.values():
        expected.update(mine)
    found = set()
    for base, _, names in os.walk(root):
        for name in names:
            path = os.path.join(base, name)
            found.add(path)
            if path not in expected:
                errors.append(f"{path} should not be there")
                continue
            with open(path, "rb") as f:
                if f.read() != expected[path]:
                    errors.append(f"{path}: wrong contents")
    errors.extend(f"{path} is missing" for path in expected.keys() - found)
    for line in errors[:20]:
        print(line)
    if errors:
        print(f"seed {seed}: {len(errors)} errors")
        return 1
    print(f"{threads} threads, {rounds} rounds each: {len(expected)} files as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
