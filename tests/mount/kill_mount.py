# SPDX-License-Identifier: MIT
"""A mount whose daemon is going to be killed: berthfs in the foreground with its log in a file,
its processes told apart (front-end, daemon, spare), the ways of killing, and the accounts that
show a leak. Used by the kill_*.py programs; never touches a process that is not a child of the
berthfs it started.
"""
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time


SLOWEST = 8  # seconds from a kill to the next answer, on a busy machine
CRASHES_MAX = 3  # by a signal that a daemon might bring upon itself, in one run


class Failure(Exception):
    """Something that must not happen; the text says what."""


def now():
    return time.monotonic()


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def process_state(pid):
    """One letter as ps has it, "" when there is no such process."""
    text = read_text(f"/proc/{pid}/stat")
    return text.rpartition(")")[2].split()[0] if text else ""


class Mount:
    """with Mount(...) as mount: the volume is mounted; afterwards no process of it is left."""

    def __init__(self, image, directory, options="", environment=None, log=None):
        self.build = os.environ["BERTH_BUILD"]
        self.image, self.directory, self.options = image, directory, options
        self.environment = dict(os.environ, **(environment or {}))
        self.log_path = log or directory + ".log"
        self.process = None
        self.device = None
        self.socket = None
        self.seen = set()  # every daemon process there ever was, as far as we looked

    # ---- up and down ----

    def __enter__(self):
        options = ",".join(o for o in (self.options, os.environ.get("BERTH_TEST_OPTIONS", "")) if o)
        command = [self.build + "/tools/berthfs", "-f"]
        command += ["-o", options] if options else []
        before = os.stat(self.directory).st_dev
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command + [self.image, self.directory], stderr=log,
                                            stdin=subprocess.DEVNULL, env=self.environment)
        deadline = now() + 30
        while True:
            if self.process.poll() is not None:
                raise Failure(f"berthfs ended with {self.process.returncode}: {self.log()[-2000:]}")
            self.device = os.stat(self.directory).st_dev
            if self.device != before:
                break
            if now() > deadline:
                raise Failure("berthfs does not mount")
            time.sleep(0.01)
        self.socket = self.find_socket()
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.abandon()
        return False

    def find_socket(self):
        name = f"{os.major(self.device)}:{os.minor(self.device)}.sock"
        places = ["/run/berth"] if os.geteuid() == 0 else [
            os.environ.get("XDG_RUNTIME_DIR", "/nonexistent") + "/berth",
            f"/run/user/{os.geteuid()}/berth"]
        places.append(f"/tmp/berth-{os.geteuid()}")
        deadline = now() + 10
        while now() < deadline:
            for place in places:
                if os.path.exists(f"{place}/{name}"):
                    return f"{place}/{name}"
            time.sleep(0.01)
        raise Failure(f"no control socket {name}")

    def umount(self):
        """`berth umount`: everything is on the image, and every process is gone."""
        self.children()
        r = subprocess.run([self.build + "/tools/berth", "umount", self.directory],
                           stderr=subprocess.PIPE, timeout=120, check=False)
        if r.returncode != 0:
            raise Failure(f"berth umount: exit {r.returncode}: {r.stderr.decode()}\n{self.log()[-2000:]}")
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            raise Failure("berthfs goes on after the unmount") from None
        if code != 0:
            raise Failure(f"berthfs ended with {code}: {self.log()[-2000:]}")
        left = [p for p in self.seen if os.path.exists(f"/proc/{p}") and
                read_text(f"/proc/{p}/comm").strip().endswith(("fatd", "hfsd"))]
        if left:
            raise Failure(f"daemons left after the unmount: {left}")

    def abandon(self):
        """The way out when a test has failed: nothing hangs, nothing is left."""
        pids = list(self.children())
        subprocess.run(["umount", "-l", self.directory], stderr=subprocess.DEVNULL, check=False)
        if os.geteuid() != 0:
            subprocess.run(["fusermount3", "-uz", self.directory], stderr=subprocess.DEVNULL,
                           check=False)
        self.process.kill()
        self.process.wait()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    # ---- what is there ----

    def log(self):
        return read_text(self.log_path)

    def ask(self, command, timeout=10):
        """Body of the control socket's answer."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(self.socket)
            s.sendall(command.encode() + b"\n")
            data = b""
            while True:
                more = s.recv(65536)
                if not more:
                    break
                data += more
        head, _, body = data.decode(errors="replace").partition("\n")
        if head != "ok":
            raise Failure(f"control socket: {command}: {head} {body}")
        return body

    def status(self):
        return json.loads(self.ask("status"))

    def daemon(self):
        """(pid or None, spare's pid or None, restarts) as the front-end says."""
        status = self.status()
        info = status.get("daemon") or {}
        if not isinstance(info, dict):
            info = {}
        return (info.get("pid") or status.get("daemon_pid") or None, info.get("spare_pid") or None,
                info.get("restarts") or 0)

    def children(self):
        """pid: state, of the front-end's children."""
        found = {}
        base = f"/proc/{self.process.pid}/task"
        try:
            tasks = os.listdir(base)
        except OSError:
            return found
        for task in tasks:
            for pid in read_text(f"{base}/{task}/children").split():
                found[int(pid)] = process_state(pid)
        self.seen.update(found)
        return found

    # ---- leaks ----

    def account(self):
        """What must not grow: descriptors by kind, mappings of memory files, threads, children."""
        base = f"/proc/{self.process.pid}"
        kinds = {}
        for fd in os.listdir(base + "/fd"):
            try:
                target = os.readlink(f"{base}/fd/{fd}")
            except OSError:
                continue
            kind = target.split(":")[0] if not target.startswith("/") else target
            kinds[kind] = kinds.get(kind, 0) + 1
        maps = read_text(base + "/maps").splitlines()
        children = self.children()
        return {
            "descriptors": kinds,
            "memory files mapped": sum("memfd:" in line for line in maps),
            "mappings": len(maps),
            "threads": len(os.listdir(base + "/task")),
            "children": len(children),
            "zombies": sum(state == "Z" for state in children.values()),
        }

    def has_shadow_memory(self):
        """AddressSanitizer reserves terabytes."""
        for line in read_text(f"/proc/{self.process.pid}/maps").splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if end - start > 1 << 40:
                return True
        return False

    def settled_account(self, patience=10):
        """The account once it has stood still for half a second."""
        deadline, last, since = now() + patience, None, now()
        while True:
            account = self.account()
            if account != last:
                last, since = account, now()
            if now() - since > 0.5 or now() > deadline:
                return account
            time.sleep(0.05)

    def check_leaks(self, before, patience=15):
        """Equal to `before`, but for a few mappings of malloc's own: more of them under
        AddressSanitizer, which reports by itself what was not freed."""
        deadline = now() + patience
        allowed = 400 if self.has_shadow_memory() else 24
        while True:
            after = self.settled_account(2)
            slack = after["mappings"] - before["mappings"]
            if {**after, "mappings": 0} == {**before, "mappings": 0} and slack <= allowed:
                return after
            if now() > deadline:
                raise Failure(f"leak in berthfs: before {before}, after {after}")
            time.sleep(0.2)


class Watchdog:
    """Ends the front-end when the time is over, so that no program hangs in the mount for ever."""

    def __init__(self, mount, seconds):
        self.mount, self.fired, self.report = mount, False, ""
        self.timer = threading.Timer(seconds, self.fire)
        self.timer.daemon = True
        self.timer.start()

    def fire(self):
        self.fired = True
        lines = [f"watchdog: log of berthfs: {self.mount.log()[-3000:]}"]
        try:
            lines.append(f"status: {self.mount.status()}")
        except (OSError, Failure, ValueError) as e:
            lines.append(f"status: {e}")
        for pid, state in self.mount.children().items():
            lines.append(f"child {pid}: {state} {read_text(f'/proc/{pid}/wchan')}")
        print("\n".join(lines), file=sys.stderr, flush=True)
        self.mount.abandon()

    def stop(self):
        self.timer.cancel()
        if self.fired:
            raise Failure("not finished in time (a hang?)")


class Killer:
    """Kills in one of several ways, and measures how soon the mount answers again.

    mode: none, kill, burst, stop, crash, spare, both, restart, or mix.
    """

    PLAIN = ("kill", "burst", "crash", "spare", "both", "restart")

    def __init__(self, mount, mode, seed, heartbeat=1.0, pause=(0.02, 0.2)):
        self.mount, self.mode, self.heartbeat, self.pause = mount, mode, heartbeat, pause
        self.rng = random.Random(seed)
        self.kills = self.crashes = 0
        self.killed = set()
        self.times = []       # seconds from the kill to the next answer, one a kill
        self.stop_times = []  # the same for hangs, from SIGSTOP: the heartbeat's share included

    def send(self, pid, number):
        """False if there is no such process any more."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        self.kills += 1
        self.killed.add(pid)
        return True

    def check_deaths(self, more=()):
        """Nobody has died but those whom we killed or replaced."""
        for line in self.mount.log().splitlines():
            death = re.search(r"\(process (\d+)\) (was ended|was stopped|exited)", line)
            if death and int(death[1]) not in self.killed.union(more):
                raise Failure(f"a daemon died that nobody had killed: {line} (killed: {sorted(self.killed.union(more))})")

    def stop_and_wait(self, pid):
        """A hang is noticed when something is asked."""
        start = now()
        if self.send(pid, signal.SIGSTOP):
            os.statvfs(self.mount.directory)
            self.stop_times.append(now() - start)

    def kill_and_wait(self, pid, number):
        """Kills, waits for the death, asks the mount something that no cache answers."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        start = now()
        try:
            if not self.send(pid, number):
                return
            if not select.select([fd], [], [], 30)[0]:
                raise Failure(f"process {pid} does not die of signal {number}")
        finally:
            os.close(fd)
        os.statvfs(self.mount.directory)
        self.times.append(now() - start)
        if self.times[-1] > SLOWEST:
            raise Failure(f"{self.times[-1]:.1f} s without an answer after the death of process {pid}: "
                          f"{self.mount.log()[-1500:]}")

    def step(self):
        mode = self.mode
        if mode == "mix":
            mode = self.rng.choice(self.PLAIN)
        pid, spare, _ = self.mount.daemon()
        if mode == "none":
            os.statvfs(self.mount.directory)
        elif mode == "restart":
            self.restart()
        elif pid is None:
            return  # between two
        elif mode == "kill":
            self.kill_and_wait(pid, signal.SIGKILL)
        elif mode == "crash":
            # A daemon that crashes again and again in no request is given up, and rightly so.
            number = signal.SIGKILL
            if self.crashes < CRASHES_MAX and self.rng.random() < 0.3:
                self.crashes += 1
                number = self.rng.choice((signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS))
            self.kill_and_wait(pid, number)
        elif mode == "stop" and self.crashes < CRASHES_MAX:
            self.crashes += 1
            self.stop_and_wait(pid)
        elif mode == "stop":
            self.kill_and_wait(pid, signal.SIGKILL)
        elif mode == "burst":
            end = now() + 0.01
            for _ in range(3):
                while pid is None or not self.send(pid, signal.SIGKILL):
                    if now() > end + 0.05:
                        break
                    pid = self.mount.daemon()[0]
                time.sleep(max(0.0, min(0.003, end - now())))
                pid = self.mount.daemon()[0]
            os.statvfs(self.mount.directory)
        elif mode == "spare":
            if spare is not None:
                self.send(spare, signal.SIGKILL)
        elif mode == "both":
            if spare is not None:
                self.send(spare, signal.SIGKILL)
            self.kill_and_wait(pid, signal.SIGKILL)

    def restart(self):
        r = subprocess.run([self.mount.build + "/tools/berth", "restart", self.mount.directory],
                           stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, timeout=60, check=False)
        if r.returncode != 0:
            raise Failure(f"berth restart: exit {r.returncode}: {r.stderr.decode()}")
        self.kills += 1

    def rest(self):
        if self.mode == "restart":
            time.sleep(0.4)
        elif self.mode == "none":
            time.sleep(0.02)
        else:
            time.sleep(self.rng.uniform(*self.pause))

    def run_until(self, done):
        while not done():
            self.step()
            self.rest()

    def summary(self):
        text = f"{self.kills} kills ({self.mode})"
        for name, times in (("recovery", self.times), ("after a hang", self.stop_times)):
            if times:
                ordered = sorted(times)
                at = lambda q: ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1000
                text += (f", {name} of {len(ordered)}: median {at(0.5):.0f} ms, p95 {at(0.95):.0f} ms, "
                         f"max {ordered[-1] * 1000:.0f} ms")
        return text
