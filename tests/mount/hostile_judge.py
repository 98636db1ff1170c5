#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One hostile daemon after the other (hostile_cases.py), and what must come of each: the front-end
lives, loses no descriptor, goes on serving (or says in one line and in its status why it does not),
and can be unmounted in bounded time.

hostile_judge.py IMAGE SCRATCH [NAME...]   IMAGE has a file "trigger" and directories "d", "d/e"
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import time

IMAGE, SCRATCH, ONLY = sys.argv[1], sys.argv[2], sys.argv[3:]
BUILD = os.environ["BERTH_BUILD"]
BERTHFS, BERTH = BUILD + "/tools/berthfs", BUILD + "/tools/berth"
BROKEN = "broke the protocol and is stopped: a response: "
USE_S, UMOUNT_S, MOUNT_S = 55, 30, 30

# Name: what the log must say, the states that the volume may be in afterwards, mount options.
RUNS = ["running"]
WORSE = ["running", "read-only", "failed"]
CASES = {
    "unknown id": (BROKEN + "answers no request in flight", RUNS, ""),
    "double answer": (BROKEN + "answers no request in flight", RUNS, ""),
    "old number": (BROKEN + "number is not above", RUNS, ""),
    "late answers": ("took over", RUNS, ""),
    "huge size": (BROKEN + "attr.size", RUNS, ""),
    "huge data": (BROKEN + "data_length", RUNS, ""),
    "more than asked": (BROKEN, RUNS, ""),
    "root under a name": (BROKEN + "the root under a name", RUNS, ""),
    "name with slash": ("directory entry that cannot be", RUNS, ""),
    "name with nul": ("directory entry that cannot be", RUNS, ""),
    "list length": ("directory entry that cannot be", RUNS, ""),
    "list endless": ("", RUNS, ""),
    "list turning": ("", RUNS, ""),
    "cycle": ("", RUNS, ""),
    "types": ("", RUNS, ""),
    "sizes": ("", RUNS, ""),
    "stats": ("", RUNS, ""),
    "log flood": ("a line that nobody wants", RUNS, ""),
    "arena scribbled": ("", RUNS, ""),
    "ring scribbled": (BROKEN, RUNS, ""),
    "ring and socket": (BROKEN, RUNS, ""),
    "ring storm": ("", RUNS, ""),
    "silence": ("has not answered for 1 s and is stopped", RUNS, "heartbeat=1"),
    "every death": ("ended by signal 9", RUNS, ""),
    "fence held": ("took over", RUNS, ""),
    "fence written": ("took over", RUNS, ""),
    "takeover refused": ("cannot take over: not today", ["failed"], ""),
    "takeover garbage": ("everything is answered with an error", ["failed"], ""),
    "takeover death": ("everything is answered with an error", ["failed"], ""),
    "takeover silence": ("took over", RUNS, "heartbeat=1"),
    "lifeline header": ("lost|took over|cannot be written", WORSE, ""),
    "lifeline position": ("lost|took over|cannot be written", WORSE, ""),
    "lifeline gone": ("lost|took over|cannot be written", WORSE, "heartbeat=1"),
    "lifeline tables": ("lost|took over|cannot be written", WORSE, ""),
    "lifeline log": ("lost|took over|cannot be written", WORSE, ""),
}
USE = """
stat trigger; ls -lR . | head -n 3000; cat d/e/* trigger | head -c 3000000 | wc -c
cp trigger new; mkdir made; mv new made/moved; df .; getfattr -d made; rm -r d/e; sync -f .
"""


LINGER = ("fence held", "fence written", "late answers")  # something of the dead one lives on


# Not every write need get there, or the last answer is missing.
LOSING = ("types", "sizes", "cycle", "arena scribbled", "stats", "every death", "ring storm",
          "ring scribbled", "ring and socket",
          *(name for name in CASES if name.startswith("lifeline")))


class Wrong(Exception):
    pass


class Case:
    def __init__(self, name):
        self.name = name
        self.pattern, self.states, self.options = CASES[name]
        self.home = os.path.join(SCRATCH, name.replace(" ", "-"))
        self.mount = os.path.join(SCRATCH, "mnt-" + name.replace(" ", "-"))
        self.log = self.home + "/log"

    def log_text(self):
        with open(self.log, errors="replace") as file:
            return file.read(1 << 24)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def status(self):
        return json.loads(subprocess.check_output([BERTH, "status", "--json", self.mount], timeout=20,
                                                  stderr=subprocess.DEVNULL))

    def expect(self, holds, text):
        if not holds:
            raise Wrong(text)

    def up(self):
        os.makedirs(self.home + "/state")
        os.makedirs(self.mount)
        shutil.copyfile(IMAGE, self.home + "/img")
        environment = dict(os.environ, HOSTILE_CASE=self.name, HOSTILE_STATE=self.home + "/state")
        options = "noholder" + ("," + self.options if self.options else "")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([BERTHFS, "-f", "-o", options, self.home + "/img", self.mount],
                                            stderr=log, env=environment)
        until = time.monotonic() + MOUNT_S
        while not os.path.ismount(self.mount):
            self.expect(self.process.poll() is None and time.monotonic() < until, "does not mount")
            time.sleep(0.05)

    def run(self, script, seconds):
        """Its exit status; None: it did not come to its end."""
        process = subprocess.Popen(["bash", "-c", script], cwd=self.mount, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(20)
            return None

    def used(self):
        """Programs see what they see, but they come to their end."""
        if self.name in ("list endless", "list turning"):
            self.run("stat trigger", USE_S)
            self.run("ls d", 3)
            self.expect(self.run("cat trigger; stat d/e/1", 10) is not None, "others wait for an endless directory")
        else:
            self.expect(self.run(USE, USE_S) is not None, "programs hang")

    def settled(self, states):
        """The state comes to be one of those that may be."""
        until = time.monotonic() + 20
        while True:
            try:
                status = self.status()
            except subprocess.CalledProcessError:  # the control socket comes after the mount
                status = {"state": "none"}
            if status["state"] in states and status["daemon"]["spare_pid"]:
                return status
            if status["state"] in states and time.monotonic() > until - 18:
                return status
            self.expect(time.monotonic() < until, f"the state is {status['state']}, not {states}")
            time.sleep(0.1)

    def serves(self, status):
        status_of_write = self.run("echo good > after && [ $(cat after) = good ] && rm after", 20)
        self.expect(status_of_write is not None, "a program hangs")
        if status["state"] == "running" and not status["readonly"]:
            self.expect(status_of_write == 0 or self.name in LOSING,
                        "running, but a file cannot be written")
        if status["state"] != "running":
            self.expect(status_of_write != 0, f"{status['state']}, but a file can be written")
        if status["state"] == "failed":
            self.expect(self.run("ls d/e", 20) not in (None, 0), "failed, but a directory can be listed")

    def judge(self):
        self.up()
        self.settled(RUNS)
        before = self.descriptors()
        self.used()
        status = self.settled(self.states)
        self.serves(status)
        self.expect(re.search(self.pattern, self.log_text()), f"the log lacks: {self.pattern}")
        subprocess.run([BERTH, "stats", self.mount], timeout=20, capture_output=True)
        until = time.monotonic() + 10
        # The first daemon may have had no rings, those after it have: two descriptors.
        while self.descriptors() > before + (3 if self.name in LINGER else 2):
            self.expect(time.monotonic() < until, f"{before} descriptors became {self.descriptors()}")
            time.sleep(0.1)
        self.down(status)

    def down(self, status):
        if self.name in LINGER:
            time.sleep(1)
            open(self.home + "/state/release", "w").close()
        started = time.monotonic()
        subprocess.run([BERTH, "umount", self.mount], timeout=UMOUNT_S, capture_output=True)
        self.expect(not os.path.ismount(self.mount), "still mounted after berth umount")
        code = self.process.wait(UMOUNT_S)
        lost = status["state"] != "running" or self.name in LOSING
        self.expect(code in ((0, 32) if lost else (0,)), f"berthfs ended with {code}")
        if not lost:
            check = subprocess.run(["fsck.fat", "-n", self.home + "/img"], capture_output=True, text=True)
            self.expect(check.returncode == 0, "fsck.fat: " + check.stdout)
        self.took = time.monotonic() - started
        text = self.log_text()
        self.expect(not re.search("Sanitizer|runtime error|Assertion", text), "sanitizer")

    def end(self):
        """Whatever it came to."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        subprocess.run(["umount", "-l", self.mount], capture_output=True)
        open(self.home + "/state/release", "w").close()


def one(name):
    case = Case(name)
    started = time.monotonic()
    text = None
    try:
        case.judge()
    except (Wrong, OSError, ValueError, subprocess.SubprocessError) as error:
        text = f"{name}: {error}"
    finally:
        case.end()
    print(f"{name}: {time.monotonic() - started:.1f} s{'' if text is None else ', FAILED'}", flush=True)
    if text is not None:
        text += "\n" + "".join("    | " + line for line in case.log_text().splitlines(True)[-12:])
    return text


def main():
    names = ONLY or list(CASES)
    slow = [name for name in names if "heartbeat" in CASES[name][2] or "fence" in name]
    names = slow + [name for name in names if name not in slow]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        failures = [text for text in pool.map(one, names) if text is not None]
    for text in failures:
        print("FAIL: " + text)
    print(f"{len(names)} hostile daemons, {len(failures)} judged wrong")
    return 1 if failures else 0


sys.exit(main())
