# SPDX-License-Identifier: MIT
"""What is measured. A workload is a row of the table; workloads of one group run
one after another on one fresh filesystem, because they use each other's files.

The clock runs only around the work itself. Before it, everything earlier is
written out (settle) or, for cold workloads, the mount is made anew (cool).
"""
import dataclasses
import io
import os
import random
import subprocess
import tarfile
import threading
import time

from contenders import process_cpu


PATIENCE = 600  # seconds for one run of one workload


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much work one run is."""

    large_file: int
    random_reads: int
    appends: int
    small_files: int
    tree_files: int
    image: int


FULL = Sizes(1 << 30, 16384, 1000, 20000, 3000, 3 << 30)
QUICK = Sizes(256 << 20, 4096, 200, 2000, 600, 1 << 30)


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    group: str
    unit: str           # what value() is given in; "s" means less is better
    cold: bool
    needs: tuple        # names of the workloads whose files this one uses
    command: object     # (bench, top) -> argument vector
    expected: float = 0  # ratio to ext4 on loop that a sound path reaches; 0: none was set


@dataclasses.dataclass
class Sample:
    """One run of one workload."""

    seconds: float
    operations: int
    bytes: int
    median_us: float
    cpu: dict           # seconds, by role
    messages: dict      # daemon's answers by type; None: not known
    load: float


def helper(*words):
    return lambda bench, top: [bench.helper, words[0], f"{top}/{words[1]}", *words[2:]]


def sized(words):
    """Like helper(), with a size of this run in place of {name}."""
    return lambda bench, top: [
        bench.helper, words[0], f"{top}/{words[1]}",
        *(word.format(**dataclasses.asdict(bench.sizes)) for word in words[2:])]


WORKLOADS = (
    Workload("seq-write", "large", "MB/s", False, (), sized(("seqwrite", "large", "{large_file}")), 0.4),
    Workload("seq-read-cold", "large", "MB/s", True, ("seq-write",), helper("seqread", "large"), 1.2),
    Workload("seq-read-warm", "large", "MB/s", False, ("seq-read-cold",), helper("seqread", "large")),
    Workload("rand-read-1", "large", "op/s", True, ("seq-write",),
             sized(("randread", "large", "{random_reads}", "1")), 1.0),
    Workload("rand-read-32", "large", "op/s", True, ("seq-write",),
             sized(("randread", "large", "{random_reads}", "32"))),
    Workload("append-fsync", "large", "op/s", False, (), sized(("append", "log", "{appends}"))),
    Workload("create", "small", "op/s", False, (), sized(("create", "empty", "{small_files}", "0")), 0.4),
    Workload("create-4k", "small", "op/s", False, (), sized(("create", "small", "{small_files}", "4096"))),
    Workload("stat-cold", "small", "op/s", True, ("create-4k",), helper("stat", "small"), 1.0),
    Workload("read-small", "small", "op/s", True, ("create-4k",), helper("read", "small")),
    Workload("unlink", "small", "op/s", False, ("create-4k",), helper("unlink", "small"), 0.6),
    Workload("untar", "tree", "s", False, (),
             lambda bench, top: ["tar", "-xf", bench.tree, "-C", top, "--no-same-owner"], 0.4),
    Workload("find", "tree", "s", True, ("untar",),
             lambda bench, top: ["find", f"{top}/tree", "-newermt", "2001-01-01"], 1.0),
    Workload("ls-lR", "tree", "s", False, ("find",), lambda bench, top: ["ls", "-lR", f"{top}/tree"]),
    Workload("cp-r", "tree", "s", True, ("untar",),
             lambda bench, top: ["cp", "-r", f"{top}/tree", f"{top}/copy"]),
    Workload("rm-rf", "tree", "s", False, ("untar",), lambda bench, top: ["rm", "-rf", f"{top}/tree"]),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
GROUPS = tuple(dict.fromkeys(workload.group for workload in WORKLOADS))


def with_needs(names):
    """The workloads to run so that the named ones find their files, in the table's order."""
    wanted, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo += BY_NAME[name].needs
    return [workload for workload in WORKLOADS if workload.name in wanted]


def make_tree(path, files):
    """A tar file of made-up sources: long-tailed sizes, names that no filesystem refuses."""
    rng = random.Random(1)
    words = ("cache", "block", "inode", "tree", "super", "alloc", "journal", "name", "record", "queue")
    with tarfile.open(path, "w") as tar:
        directories = ["tree"]
        tar.addfile(_member("tree", tarfile.DIRTYPE))
        for i in range(files):
            if i % 15 == 0:
                parent = rng.choice(directories[-40:])
                parent = parent if parent.count("/") < 6 else "tree"
                directories.append(f"{parent}/{rng.choice(words)}{i // 15}")
                tar.addfile(_member(directories[-1], tarfile.DIRTYPE))
            size = min(int(rng.lognormvariate(8.3, 1.3)), 1 << 20)
            name = f"{directories[-1]}/{rng.choice(words)}_{rng.choice(words)}_{i}.c"
            tar.addfile(_member(name, tarfile.REGTYPE, size), io.BytesIO(rng.randbytes(size)))


def _member(name, kind, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, size, 1_700_000_000
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


def value(workload, sample):
    """A sample in the workload's unit."""
    if workload.unit == "MB/s":
        return sample.bytes / sample.seconds / 1e6
    if workload.unit == "op/s":
        return sample.operations / sample.seconds
    return sample.seconds


def measure(bench, contender, workload):
    """Runs a workload once, on a contender that is mounted."""
    if workload.cold:
        contender.cool()
    else:
        contender.settle()
    top = str(contender.mount_point)
    command = [str(word) for word in workload.command(bench, top)]
    before = contender.messages()
    cpu = {role: process_cpu(pid) for role, pid in contender.pids().items()}
    clock = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    guard = threading.Timer(PATIENCE, process.kill)  # a filesystem that hangs
    guard.start()
    with process:
        output, errors = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    elapsed = time.monotonic() - clock
    guard.cancel()
    cpu = {role: process_cpu(pid) - cpu[role] for role, pid in contender.pids().items()}
    cpu["client"] = usage.ru_utime + usage.ru_stime
    if process.returncode != 0:
        raise RuntimeError(f"{contender.name}/{workload.name}: {' '.join(command)}: {errors.strip()}")
    after = contender.messages()
    messages = None
    if before is not None:
        messages = {name: count - before.get(name, 0) for name, count in after.items()
                    if count > before.get(name, 0)}
    if workload.group == "tree":
        numbers = (elapsed, bench.sizes.tree_files, 0, 0.0)
    else:
        words = output.split()
        numbers = (float(words[0]), int(words[1]), int(words[2]), float(words[3]))
    return Sample(*numbers, cpu, messages, os.getloadavg()[0])
