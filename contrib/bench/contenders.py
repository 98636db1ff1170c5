# SPDX-License-Identifier: MIT
"""Who competes: how each filesystem is made, mounted, unmounted and looked at.

A contender owns at most one mount, one loop device and one process at a time,
and close() gives back all three, whatever state a failure left them in. Only
processes started here are ever signalled.

What is cold: cool() unmounts and mounts again, and drops the image's pages
from the page cache. That empties every cache above the image (an image in
memory stays in memory). The machine's other caches are left alone.
"""
import ctypes
import json
import os
import subprocess
import time

MNT_DETACH = 2


class Skip(Exception):
    """This contender cannot take part here; the text says why."""


def run(*command, **options):
    """Runs a command to its end; its error output becomes the exception's text."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip()
        raise RuntimeError(f"{' '.join(map(str, command))}: status {done.returncode}: {text}")
    return done.stdout


def process_cpu(pid):
    """CPU seconds that a process has used, to the nanosecond; 0 when it is gone.

    The clock of another process (clock_getcpuclockid): /proc/PID/stat shows the
    same sum, in steps of 10 ms.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def drop_image_cache(image):
    """Throws the image's clean pages away (on tmpfs nothing happens)."""
    fd = os.open(image, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


class Contender:
    """One filesystem on one image. Subclasses say how to make, mount and sync it."""

    name = ""
    tools = ()
    needs_root = False

    def __init__(self, settings):
        self.settings = settings
        self.image = None
        self.mount_point = None
        self.process = None
        self.mounted = False

    def check(self):
        """Raises Skip when something that this contender needs is missing."""
        for tool in self.tools:
            if not self.settings.which(tool):
                raise Skip(f"{tool} is not installed")
        if self.needs_root and os.geteuid() != 0:
            raise Skip("needs root")

    def open(self, image, mount_point):
        """A new filesystem on the image, mounted."""
        self.image, self.mount_point = image, mount_point
        self.make()
        self.mount()

    def cool(self):
        self.unmount()
        drop_image_cache(self.image)
        self.mount()

    def mount(self):
        self.mounted = True  # perhaps only half: close() finds out
        self.start()

    def unmount(self):
        if self.mounted:
            self.stop()
            self.mounted = False

    def settle(self):
        """Everything written so far is on the image: the next workload does not pay for it."""
        run("sync", "-f", self.mount_point)

    def close(self):
        """Leaves nothing behind, if need be without ceremony."""
        try:
            if self.mounted and os.path.ismount(self.mount_point):
                self.stop()
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            print(f"bench: {self.name}: {error}; detaching the mount")
            libc = ctypes.CDLL(None, use_errno=True)
            libc.umount2(os.fsencode(self.mount_point), MNT_DETACH)
        self.mounted = False
        if self.process is not None:
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    # What a FUSE server needs; the kernel's filesystem overrides start and stop.

    def spawn(self, *command):
        """Starts a server in the foreground and waits until its mount is there."""
        with open(self.settings.scratch / f"{self.name}.log", "w+") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
            deadline = time.monotonic() + 30
            while not os.path.ismount(self.mount_point):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{self.name} does not mount: {log.read().strip()}")
                time.sleep(0.01)

    def start(self):
        raise NotImplementedError

    def stop(self):
        """Unmounts and waits for the server's end: only then everything is on the image."""
        run("umount", self.mount_point, timeout=120)
        if self.process is not None:
            self.process.wait(timeout=120)
            self.process = None

    def make(self):
        raise NotImplementedError

    def pids(self):
        """The processes whose CPU time counts, by role."""
        return {"server": self.process.pid} if self.process else {}

    def messages(self):
        """Requests that the daemon has answered so far, by type; None: not known."""
        return None


class Berth(Contender):
    """fatd behind berthfs."""

    tools = ("mkfs.fat",)
    options = ()

    def __init__(self, settings):
        super().__init__(settings)
        self.berth = settings.build / "tools/berth"
        self.berthfs = settings.build / "tools/berthfs"
        self.roles = {}

    def make(self):
        run("mkfs.fat", "-F32", self.image)

    def start(self):
        options = ["-o", ",".join(self.options)] if self.options else []
        self.spawn(self.berthfs, "-f", *options, self.image, self.mount_point)
        status = self.status()
        self.roles = {"front-end": self.process.pid}
        if status["daemon_pid"]:
            self.roles["daemon"] = status["daemon_pid"]

    def status(self):
        """The control socket comes a moment after the mount."""
        deadline = time.monotonic() + 10
        while True:
            try:
                return json.loads(run(self.berth, "status", self.mount_point, "--json"))
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self):
        run(self.berth, "umount", self.mount_point, timeout=120)
        self.process.wait(timeout=120)
        self.process = None

    def settle(self):
        run(self.berth, "sync", self.mount_point)

    def pids(self):
        return self.roles

    def messages(self):
        stats = json.loads(run(self.berth, "stats", self.mount_point, "--json"))
        return {name: row["count"] for name, row in stats["requests"].items()
                if name != "GET_STATS"}


class BerthDefault(Berth):
    name = "fatd"


class BerthSocket(Berth):
    name = "fatd-socket"
    options = ("transport=socket",)

    def check(self):
        super().check()
        manual = self.settings.top / "man/berthfs.8.scd"
        if "transport=" not in manual.read_text():
            raise Skip("this build has one transport only")


class BerthDirect(Berth):
    name = "direct"
    options = ("direct",)


class Hfsd(Berth):
    """hfsd behind berthfs; a volume has at most 65,535 blocks, large ones in an image of this size."""

    name = "hfsd"
    tools = ()

    def make(self):
        run(self.settings.build / "tools/mkfs.hfs", "--force", self.image)


class Ext4Loop(Contender):
    """The yardstick: the kernel's ext4 on a loop device."""

    name = "ext4"
    tools = ("mkfs.ext4", "losetup")
    needs_root = True

    def make(self):
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            self.image)

    def start(self):
        self.loop = run("losetup", "--find", "--show", self.image).strip()
        try:
            run("mount", "-t", "ext4", "-o", "nodiscard", self.loop, self.mount_point)
        except RuntimeError:
            run("losetup", "--detach", self.loop)
            raise

    def stop(self):
        run("umount", self.mount_point, timeout=120)
        run("losetup", "--detach", self.loop)

    def close(self):
        super().close()
        # After a failure the device may still be there; it is ours only if it has our image.
        if self.image is not None:
            for device in run("losetup", "--noheadings", "--output", "NAME", "--associated",
                              self.image).split():
                run("losetup", "--detach", device)


class Fuse2fs(Contender):
    name = "fuse2fs"
    tools = ("fuse2fs", "mkfs.ext4")

    make = Ext4Loop.make

    def start(self):
        self.spawn("fuse2fs", "-f", "-o", "rw,fakeroot", self.image, self.mount_point)


class Ntfs3g(Contender):
    name = "ntfs-3g"
    tools = ("ntfs-3g", "mkntfs")

    def make(self):
        run("mkntfs", "--quick", "--force", "--quiet", self.image)

    def start(self):
        self.spawn("ntfs-3g", "-o", "no_detach", self.image, self.mount_point)


CONTENDERS = (Ext4Loop, BerthDefault, BerthSocket, BerthDirect, Hfsd, Fuse2fs, Ntfs3g)
YARDSTICK = Ext4Loop.name
