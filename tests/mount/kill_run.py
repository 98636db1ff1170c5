#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mounts an image, runs programs on it while the daemon is killed again and again, checks that
nothing of berthfs leaks, unmounts. The programs (kill_counter.py, kill_files.py, file_exerciser)
judge themselves; the caller checks the image.

usage: kill_run.py IMAGE DIR ACCOUNT --mode MODE --seed N --seconds S [--options O]
                   [--counter PROCESSESxTHREADS] [--files CHECK,...] [--exercisers N]
                   [--outer OUTER_IMAGE]
With --outer IMAGE is a file on another mount of ours (DIR-outer), whose daemon is stopped for
moments all the time and now and then killed: a slow device, whose transfers end late.
"""
import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time

from kill_mount import Failure, Killer, Mount, Watchdog

HERE = os.path.dirname(os.path.abspath(__file__))


def start_programs(args, mount):
    """name: process."""
    programs = {}
    if args.counter:
        processes, threads = args.counter.split("x")
        programs["counter"] = [sys.executable, HERE + "/kill_counter.py", "run", mount.directory,
                               args.account, f"--seed={args.seed}", f"--processes={processes}",
                               f"--threads={threads}", f"--seconds={args.seconds}",
                               f"--max-size={args.max_size}"]
    if args.files:
        programs["files"] = [sys.executable, HERE + "/kill_files.py", mount.directory,
                             str(args.seconds), str(args.seed), args.image, *args.files.split(",")]
    for i in range(args.exercisers):
        programs[f"exerciser {i}"] = [
            mount.build + "/tests/stress/file_exerciser", f"{mount.directory}/exercised {i}",
            str(int(args.seconds * args.exerciser_rate)), str(args.seed * 100 + i), "400000"] + (
                ["--direct"] if i % 2 else [])
    return {name: subprocess.Popen(argv) for name, argv in programs.items()}


def run(args):
    with Mount(args.image, args.dir, args.options) as mount:
        dog = Watchdog(mount, args.seconds * 4 + 60)
        first = None
        if args.mode != "none":
            # What is made lazily shall be there before the first account is taken.
            first = Killer(mount, args.mode, args.seed)
            first.step()
        before = mount.settled_account()
        killer = Killer(mount, args.mode, args.seed, pause=args.pause)
        programs = start_programs(args, mount)
        try:
            killer.run_until(lambda: all(p.poll() is not None for p in programs.values()))
        finally:
            codes = {name: p.wait() for name, p in programs.items()}
        wrong = {name: code for name, code in codes.items() if code != 0}
        if wrong:
            raise Failure(f"failed: {wrong}; berthfs says: {mount.log()[-3000:]}")
        status = mount.status()
        if status["state"] != "running" or status["readonly"]:
            raise Failure(f"status at the end: {status}")
        killer.check_deaths(first.killed if first else ())
        if not os.listdir(mount.directory):
            raise Failure("the mount is empty")
        mount.check_leaks(before)
        dog.stop()
        mount.umount()
        restarts = (status.get("daemon") or {}).get("restarts", "?")
        print(f"seed {args.seed}: {killer.summary()}, {restarts} daemons after the first")
        if args.mode != "none" and killer.kills < args.least_kills:
            raise Failure(f"only {killer.kills} kills")


class SlowDevice(threading.Thread):
    """Stops the outer mount's daemon for some milliseconds, again and again."""

    def __init__(self, mount, seed):
        super().__init__(daemon=True)
        self.mount, self.rng, self.done = mount, random.Random(f"slow {seed}"), False

    def run(self):
        while not self.done:
            pid = self.mount.daemon()[0]
            kill = self.rng.random() < 0.03
            try:
                if pid is not None:
                    os.kill(pid, signal.SIGKILL if kill else signal.SIGSTOP)
                    time.sleep(self.rng.uniform(0.002, 0.04))
                    os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
            time.sleep(self.rng.uniform(0.001, 0.03))


def run_on_slow_device(args):
    with Mount(args.outer, args.dir + "-outer") as outer:
        dog = Watchdog(outer, args.seconds * 8 + 120)
        slow = SlowDevice(outer, args.seed)
        slow.start()
        try:
            run(args)
        finally:
            slow.done = True
            slow.join()
        dog.stop()
        outer.umount()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("image")
    ap.add_argument("dir")
    ap.add_argument("account")
    ap.add_argument("--outer")
    ap.add_argument("--mode", default="kill")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--seconds", type=float, default=8)
    ap.add_argument("--options", default="")
    ap.add_argument("--counter", default="")
    ap.add_argument("--files", default="")
    ap.add_argument("--exercisers", type=int, default=0)
    ap.add_argument("--exerciser-rate", type=float, default=40, help="operations a second planned")
    ap.add_argument("--max-size", type=int, default=100000)
    ap.add_argument("--least-kills", type=int, default=3)
    ap.add_argument("--pause", type=lambda t: tuple(float(x) for x in t.split("-")), default=(0.02, 0.2),
                    help="LEAST-MOST seconds between two kills")
    args = ap.parse_args()
    started = time.monotonic()
    try:
        (run_on_slow_device if args.outer else run)(args)
    except (Failure, OSError, subprocess.SubprocessError) as e:
        print(f"FAIL: mode {args.mode}, seed {args.seed}, after {time.monotonic() - started:.0f} s: {e}",
              file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
