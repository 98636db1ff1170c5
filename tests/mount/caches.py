# SPDX-License-Identifier: MIT
"""Names against a model, on a volume where names fold case.

caches.py DIRECTORY SEED ROUNDS      (the directory is empty)

A few files in a few directories are created, opened, renamed, replaced, deleted, listed, always by
a spelling drawn at random, so that what the kernel and the front-end remember of other spellings
is put to the test all the time. After each change some spellings are looked at.
"""
import os
import random
import sys

ROOT, SEED, ROUNDS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(SEED)
NAMES = ["a", "some longer name.txt", "bc.d", "number four", "FIVE", "six"]
DIRECTORIES = ["", "north", "South side"]
model = {}  # (directory, lower case name) -> [stored spelling, contents]
held = {}  # file descriptors that stay open for a while: fd -> contents


def spell(text):
    return "".join(rng.choice((c.lower(), c.upper())) for c in text) if rng.random() < 0.7 else text


def path(directory, name):
    return os.path.join(ROOT, spell(directory), name)


def check(directory, name):
    known = model.get((directory, name.lower()))
    where = path(directory, name)
    try:
        with open(where, "rb") as file:
            contents = file.read()
    except FileNotFoundError:
        contents = None
    expected = known[1] if known else None
    assert contents == expected, f"{where}: {contents}, {expected} expected"


def write(directory, name, step):
    key = (directory, name.lower())
    contents = b"%d" % step
    with open(path(directory, name), "wb") as file:
        file.write(contents)
    if key in model:
        model[key][1] = contents
    else:
        model[key] = [name, contents]


def delete(directory, name):
    key = (directory, name.lower())
    try:
        os.unlink(path(directory, name))
        assert key in model, f"{name} could be deleted, and was not there"
        del model[key]
    except FileNotFoundError:
        assert key not in model, f"{name} could not be deleted"


def rename(directory, name, to_directory, to_name):
    key, to_key = (directory, name.lower()), (to_directory, to_name.lower())
    if key == to_key:
        return  # the kernel's to decide
    try:
        os.rename(path(directory, name), path(to_directory, to_name))
        assert key in model, f"{name} could be renamed, and was not there"
        contents = model.pop(key)[1]
        model[to_key] = [model[to_key][0] if to_key in model else to_name, contents]
    except FileNotFoundError:
        assert key not in model, f"{name} could not be renamed"


def hold(directory, name):
    key = (directory, name.lower())
    if key in model and len(held) < 20:
        held[os.open(path(directory, name), os.O_RDONLY)] = None
    elif held:
        os.close(held.popitem()[0])


def listing(directory):
    found = sorted(n.lower() for n in os.listdir(os.path.join(ROOT, spell(directory)))
                   if n.lower() not in [d.lower() for d in DIRECTORIES])
    expected = sorted(key[1] for key in model if key[0] == directory)
    assert found == expected, f"{directory}: {found}, {expected} expected"


def move_directory():
    os.rename(os.path.join(ROOT, spell("north")), os.path.join(ROOT, "aside"))
    assert not os.path.exists(os.path.join(ROOT, spell("north"))), "a directory is where it was"
    os.rename(os.path.join(ROOT, spell("aside")), os.path.join(ROOT, "north"))


def step(number):
    directory, name = rng.choice(DIRECTORIES), spell(rng.choice(NAMES))
    what = rng.random()
    if what < 0.35:
        write(directory, name, number)
    elif what < 0.55:
        delete(directory, name)
    elif what < 0.75:
        rename(directory, name, rng.choice(DIRECTORIES), spell(rng.choice(NAMES)))
    elif what < 0.85:
        hold(directory, name)
    elif what < 0.9:
        listing(directory)
    elif what < 0.93:
        move_directory()
    for _ in range(3):
        check(rng.choice(DIRECTORIES), spell(rng.choice(NAMES)))


for n in DIRECTORIES[1:]:
    os.mkdir(os.path.join(ROOT, n))
for number in range(ROUNDS):
    try:
        step(number)
    except (AssertionError, OSError) as error:
        sys.exit(f"seed {SEED}, step {number}: {type(error).__name__}: {error}")
for fd in held:
    os.close(fd)
print(f"seed {SEED}: {ROUNDS} steps, {len(model)} files at the end")
