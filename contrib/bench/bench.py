#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures berth beside other filesystems; contrib/bench/run calls it.

Rounds are interleaved: within a round, each group of workloads runs on every
contender before the next group begins, so that the sides of a ratio are
measured within a minute or two of each other. Ratios are taken within a
round, and then their median; values are medians too.
"""
import argparse
import fnmatch
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import contenders
import report
import workloads


class Settings:
    """What contenders need to know of this run."""

    def __init__(self, top, build, scratch):
        self.top, self.build, self.scratch = top, build, scratch

    @staticmethod
    def which(tool):
        return shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


class Bench:
    def __init__(self, args, scratch):
        self.args = args
        self.helper = args.helper
        self.sizes = workloads.QUICK if args.quick else workloads.FULL
        self.rounds = args.rounds or (1 if args.quick else 3)
        self.settings = Settings(args.top, args.build, scratch)
        self.tree = scratch / "tree.tar"
        self.mount_point = scratch / "mnt"
        self.mount_point.mkdir()
        self.samples = {}   # (workload, contender) -> one Sample or None a round
        self.notes = []
        directory = pathlib.Path("/dev/shm") if args.shm else args.image_dir
        self.image_dir = pathlib.Path(tempfile.mkdtemp(prefix="berth-bench-", dir=directory))
        self.image = self.image_dir / "image"
        self.where = "memory" if args.shm else f"disk ({args.image_dir})"

    def selected(self, contender, workload):
        patterns = self.args.only or ["*/*"]
        name = f"{contender}/{workload}"
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    def field(self):
        """The contenders that can take part and were asked for."""
        found = []
        for kind in contenders.CONTENDERS:
            if not any(self.selected(kind.name, w.name) for w in workloads.WORKLOADS):
                continue
            contender = kind(self.settings)
            try:
                contender.check()
                found.append(contender)
            except contenders.Skip as skip:
                self.notes.append(f"{kind.name} left out: {skip}")
        return found

    def prepare(self):
        """Every byte of the image, and the memory that caches will need, touched once."""
        size = self.sizes.image
        room = shutil.disk_usage(self.image_dir).free
        if room < size + (512 << 20):
            raise RuntimeError(f"{self.image_dir}: {size >> 20} MiB are needed, {room >> 20} free")
        chunk = os.urandom(1 << 20)
        with open(self.image, "wb") as image:
            for _ in range(size >> 20):
                image.write(chunk)
            os.fsync(image.fileno())  # nobody's first fsync shall pay for this
        workloads.make_tree(self.tree, self.sizes.tree_files)

    def run_group(self, contender, chosen):
        """One contender's turn: a fresh filesystem, the group's workloads in order."""
        subprocess.run([self.helper, "touch", str(self.sizes.image)], check=True,
                       stdout=subprocess.DEVNULL)
        try:
            contender.open(self.image, self.mount_point)
            for workload in workloads.with_needs(w.name for w in chosen):
                sample = workloads.measure(self, contender, workload)
                if workload in chosen:
                    self.samples[workload.name, contender.name][-1] = sample
                    print(f"  {contender.name:12} {workload.name:14} "
                          f"{workloads.value(workload, sample):10.4g} {workload.unit}", flush=True)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            self.notes.append(str(error))
            print(f"  {contender.name}: {error}", flush=True)
        finally:
            contender.close()

    def run(self):
        field = self.field()
        self.prepare()
        for number in range(self.rounds):
            print(f"round {number + 1} of {self.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
            for group in workloads.GROUPS:
                # Not always the same one first, nor the same one after the heaviest.
                for contender in field[number % len(field):] + field[:number % len(field)]:
                    chosen = [w for w in workloads.WORKLOADS
                              if w.group == group and self.selected(contender.name, w.name)]
                    for workload in chosen:
                        self.samples.setdefault((workload.name, contender.name), []).append(None)
                    if chosen:
                        self.run_group(contender, chosen)
        return [contender.name for contender in field]

    def done(self):
        shutil.rmtree(self.image_dir, ignore_errors=True)


def machine():
    model = ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"processor": model, "processors": os.cpu_count(), "kernel": platform.release(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="contrib/bench/run", description="Measures berth beside other filesystems.",
        epilog="contenders: " + ", ".join(kind.name for kind in contenders.CONTENDERS) +
               ". workloads: " + ", ".join(workloads.BY_NAME))
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--rounds", type=int, default=0, help="rounds (3; with --quick 1)")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--image-dir", type=pathlib.Path, default=pathlib.Path("/var/tmp"),
                       help="where on disk the image is made (/var/tmp)")
    place.add_argument("--shm", action="store_true", help="the image in memory, in /dev/shm")
    parser.add_argument("--only", action="append", metavar="CONTENDER/WORKLOAD",
                        help="with * as wildcard; may be repeated")
    parser.add_argument("--output", type=pathlib.Path,
                        help="where results.json, results.md and results.svg go "
                             "(bench-results in the build directory)")
    parser.add_argument("--top", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--build", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--helper", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.output = args.output or args.build / "bench-results"
    for pattern in args.only or []:
        if pattern.count("/") != 1:
            parser.error(f"--only {pattern}: CONTENDER/WORKLOAD is expected")
        if not any(fnmatch.fnmatchcase(f"{kind.name}/{name}", pattern)
                   for kind in contenders.CONTENDERS for name in workloads.BY_NAME):
            parser.error(f"--only {pattern}: there is no such contender or workload")
    return args


def main(argv):
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is unmounted
    os.environ.update(LC_ALL="C", TZ="UTC")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as scratch:
        bench = Bench(args, pathlib.Path(scratch))
        load_before = os.getloadavg()[0]
        try:
            field = bench.run()
        finally:
            bench.done()
        results = report.collect(bench, field, {
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(started)),
            "machine": machine(), "rounds": bench.rounds, "quick": args.quick,
            "image": bench.where, "load_before": load_before, "load_after": os.getloadavg()[0],
            "seconds": time.time() - started, "notes": bench.notes})
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (args.output / "results.md").write_text(report.markdown(results))
    (args.output / "results.svg").write_text(report.svg(results))
    print("\n" + report.text(results))
    print(f"results.json, results.md and results.svg are in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
