#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`berth restart` and SIGHUP: the daemon is replaced by the program now on disk, under load and with
files in use, and no call fails; a program that cannot take over leaves the old one serving.

usage: kill_restart.py IMAGE DIR ACCOUNT DAEMON_DIR --seed N [--seconds S]
DAEMON_DIR/fatd is a link that is changed; BERTH_BUILD/tests/mount/poison_fatd is the other program.
"""
import argparse
import os
import signal
import subprocess
import sys
import time

from kill_mount import Failure, Mount, Watchdog, now

HERE = os.path.dirname(os.path.abspath(__file__))


def require(condition, text):
    if not condition:
        raise Failure(text)


def restart(mount):
    return subprocess.run([mount.build + "/tools/berth", "restart", mount.directory], timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)


def program(pid):
    return os.path.basename(os.readlink(f"/proc/{pid}/exe"))


def link(args, target):
    os.symlink(target, args.daemons + "/new")
    os.rename(args.daemons + "/new", args.daemons + "/fatd")


class OpenThings:
    """What must survive: descriptors, a position in a directory, an unlinked file."""

    def __init__(self, root):
        self.path = f"{root}/in use.txt"
        self.fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        self.gone = os.open(f"{root}/gone.txt", os.O_CREAT | os.O_EXCL | os.O_RDWR)
        os.unlink(f"{root}/gone.txt")
        self.data = b""

    def use(self):
        self.data += b"%d\n" % len(self.data)
        for fd in (self.fd, self.gone):
            os.pwrite(fd, self.data, 0)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            require(os.pread(fd, 1 << 20, 0) == self.data, "a file in use reads wrong")
        require(os.fstat(self.gone).st_nlink == 0, "an unlinked file has a name")


def check_good(mount, args, things):
    """Each of the ways to replace it, and it is another process with the program of the moment."""
    poisoned, plain = mount.build + "/tests/mount/poison_fatd", mount.build + "/daemons/fatd"
    for i, target in enumerate((poisoned, plain, poisoned, plain)):
        link(args, target)
        old = mount.daemon()[0]
        if i % 2:
            os.kill(mount.process.pid, signal.SIGHUP)
        else:
            r = restart(mount)
            require(r.returncode == 0, f"berth restart: exit {r.returncode}: {r.stderr.decode()}")
        deadline = now() + 15
        while mount.daemon()[0] in (old, None):
            require(now() < deadline, "the daemon is still the old one")
            time.sleep(0.01)
        pid = mount.daemon()[0]
        require(program(pid) == os.path.basename(target), f"the new daemon is {program(pid)}")
        while os.path.exists(f"/proc/{old}"):
            require(now() < deadline, "the old daemon is still there")
            time.sleep(0.01)
        things.use()


def check_bad(mount, args, things):
    """Programs that cannot take over (the last one dies of it, see command()): an error is reported,
    the old daemon goes on, read-write."""
    with open(args.daemons + "/broken", "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\nexit 1\n")
    os.chmod(args.daemons + "/broken", 0o755)
    for target in ("broken", "missing", mount.build + "/tests/mount/poison_fatd"):
        link(args, target)
        old = mount.daemon()[0]
        r = restart(mount)
        require(r.returncode != 0, f"berth restart with {target} claims success")
        require(r.stderr.strip(), f"berth restart with {target} says nothing")
        require(mount.daemon()[0] == old, f"after a restart with {target} the daemon is another")
        require(not mount.status()["readonly"], f"read-only after a restart with {target}")
        things.use()
    link(args, mount.build + "/daemons/fatd")
    r = restart(mount)
    require(r.returncode == 0, f"berth restart after bad ones: {r.stderr.decode()}")
    things.use()


def command(args):
    environment = {"BERTH_DAEMON_DIR": args.daemons}
    for part, check in (("good", check_good), ("bad", check_bad)):
        if part == "bad":
            environment["BERTH_POISON_MOUNT"] = "any"
        link(args, os.environ["BERTH_BUILD"] + "/daemons/fatd")
        where = f"{args.dir}/{part}"
        with Mount(args.image, args.dir, "", environment) as mount:
            dog = Watchdog(mount, 120)
            os.mkdir(where)
            before = mount.settled_account()
            things = OpenThings(where)
            counter = subprocess.Popen([sys.executable, HERE + "/kill_counter.py", "run", where,
                                        f"{args.account}.{part}", f"--seed={args.seed}",
                                        f"--seconds={args.seconds}"])
            try:
                time.sleep(0.3)
                check(mount, args, things)
            finally:
                code = counter.wait()
            require(code == 0, f"the load failed; berthfs says: {mount.log()[-3000:]}")
            os.close(things.fd)
            os.close(things.gone)
            mount.check_leaks(before)
            dog.stop()
            mount.umount()
            print(f"{part}: no call failed, nothing left")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("image")
    ap.add_argument("dir")
    ap.add_argument("account")
    ap.add_argument("daemons")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--seconds", type=float, default=5)
    args = ap.parse_args()
    try:
        command(args)
    except (Failure, OSError, subprocess.SubprocessError) as e:
        print(f"FAIL: seed {args.seed}: {type(e).__name__}: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
