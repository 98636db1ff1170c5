#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line of berth, without any mount.

    test_cli.py BERTH MAN_PAGE_SOURCE

Help and version, exit codes of wrong usage, that the man page knows every
option, the shape of `list --json`, and `probe` on images made by mkfs.fat and
sfdisk, compared with what those were told to make.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BERTH = MAN = None
SUBCOMMANDS = ["mount", "ls", "get", "put", "mkfs", "fsck", "umount", "list", "probe", "stats", "status", "sync", "top"]


def run(*arguments, name=None):
    return subprocess.run([name or BERTH, *arguments], capture_output=True, text=True,
                          timeout=60, executable=BERTH)


class CommandLine(unittest.TestCase):
    def check_usage_error(self, *arguments):
        result = run(*arguments)
        self.assertEqual(result.returncode, 1, arguments)
        self.assertEqual(result.stdout, "", arguments)
        self.assertNotEqual(result.stderr, "", arguments)

    def test_help_goes_to_stdout(self):
        for arguments in [["--help"], ["-h"]] + [[name, "--help"] for name in SUBCOMMANDS]:
            result = run(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""), arguments)
            self.assertTrue(result.stdout.startswith("Usage: berth"), arguments)

    def test_version(self):
        self.assertRegex(run("-V").stdout, r"^berth \d+\.\d+\.\d+\n$")
        self.assertEqual(run("--version").returncode, 0)

    def test_wrong_usage(self):
        for arguments in [[], ["frobnicate"], ["--frobnicate"], ["mount"], ["mount", "one"],
                          ["mount", "-x", "a", "b"], ["mkfs"], ["mkfs", "-t"], ["mkfs", "-t", "../x", "f"],
                          ["mkfs", "f"], ["fsck"], ["fsck", "/dev/null"], ["umount"], ["list", "extra"],
                          ["list", "-o", "nonsense"], ["list", "-o", "source=1"], ["probe"],
                          ["probe", "a", "b"], ["stats"], ["sync", "--json", "/"], ["list", "-o", ","],
                          ["stats", "-P", "--json", "/"], ["stats", "-P", "/", "/"],
                          ["status", "--json", "-o", "state", "/"], ["top", "extra"],
                          ["top", "-d", "0"], ["top", "-n", "0"], ["top", "-s", "nonsense"],
                          ["top"]]:
            self.check_usage_error(*arguments)

    def test_not_a_mount(self):
        with tempfile.TemporaryDirectory() as directory:
            self.assertEqual(run("umount", directory).returncode, 32)
            for command in ["stats", "status", "sync"]:
                result = run(command, directory)
                self.assertEqual(result.returncode, 1)
                self.assertIn(directory, result.stderr)

    def test_helper_names(self):
        with tempfile.TemporaryDirectory() as directory:
            for name in ["umount.berth", "/sbin/umount.fuse.berthfs"]:
                result = run(directory, "-f", "-l", "-n", "-r", "-v", "-t", "fuse.berthfs",
                             name=name)
                self.assertEqual(result.returncode, 32)
                self.assertIn(directory, result.stderr)

    def test_list_json(self):
        mounts = json.loads(run("list", "--json").stdout)["mounts"]
        for mount in mounts:
            for member in ["source", "directory", "type", "options", "frontend_pid", "daemon_pid",
                           "uptime"]:
                self.assertIn(member, mount)
        chosen = json.loads(run("list", "--json", "-o", "source,FRONTEND-PID").stdout)
        for mount in chosen["mounts"]:
            self.assertEqual(list(mount), ["source", "frontend_pid"])

    def test_list_types(self):
        types = {t["type"]: t for t in json.loads(run("list", "--types", "--json").stdout)["types"]}
        self.assertEqual(types["fat"]["daemon"], "fatd")
        headings = run("list", "-t").stdout.splitlines()[0].split()
        self.assertEqual(headings, ["TYPE", "DAEMON", "PATH", "FOUND", "MOUNTS", "STATE"])
        self.assertEqual(len(run("list", "-t", "-n").stdout.splitlines()), len(types))
        added = run("list", "-t", "-o", "+restarts").stdout.splitlines()[0].split()
        self.assertEqual(added, headings + ["RESTARTS"])

    def test_top_batch_and_prometheus_without_mounts_are_well_formed(self):
        lines = run("top", "--batch", "-n", "1").stdout.splitlines()
        self.assertRegex(lines[0], r"^berth top \d\d:\d\d:\d\d  \d+ mounts")
        self.assertIn("DIRECTORY", lines[1])
        self.assertTrue(run("stats", "--prometheus").stdout.startswith("# HELP berth_up "))

    def test_man_page_knows_every_option(self):
        with open(MAN, encoding="utf-8") as page:
            page_text = page.read()
        for name in SUBCOMMANDS:
            self.assertIn(f"\n## {name} ", page_text)
            for option in re.findall(r"^ +(?:-\w, )?(--[\w-]+)", run(name, "--help").stdout,
                                     re.MULTILINE):
                self.assertIn(option, page_text, name)


class Probe(unittest.TestCase):
    def setUp(self):
        for tool in ["mkfs.fat", "sfdisk"]:
            if shutil.which(tool) is None:
                self.skipTest(f"{tool} is not installed")
        self.directory = tempfile.TemporaryDirectory()
        self.image = os.path.join(self.directory.name, "disk.img")
        self.addCleanup(self.directory.cleanup)

    def make(self, size, *command, text=None):
        with open(self.image, "wb") as image:
            image.truncate(size)
        if command:
            subprocess.run([*command, self.image], check=True, input=text, text=True,
                           capture_output=True)

    def probe(self):
        result = run("probe", "--json", self.image)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_whole_volume(self):
        for size, bits in [(4 << 20, "12"), (32 << 20, "16"), (64 << 20, "32")]:
            self.make(size, "mkfs.fat", "-F", bits, "-n", "LABEL" + bits, "-i", "1234abcd")
            found = self.probe()
            self.assertEqual(found["size"], size)
            self.assertIsNone(found["partition_table"])
            self.assertEqual(len(found["volumes"]), 1)
            volume = found["volumes"][0]
            self.assertEqual(volume["type"], "fat")
            self.assertEqual(volume["label"], "LABEL" + bits)
            self.assertEqual(volume["uuid"], "1234-ABCD")
            self.assertEqual(volume["size"], size)
            self.assertIsNone(volume["number"])
            self.assertIn("LABEL" + bits, run("probe", self.image).stdout)

    def test_partitions(self):
        for kind, label in [("dos", "mbr"), ("gpt", "gpt")]:
            self.make(64 << 20, "sfdisk", "-q",
                      text=f"label: {kind}\nstart=2048, size=65536\nstart=67584, size=16384\n")
            part = os.path.join(self.directory.name, "part.img")
            with open(part, "wb") as file:
                file.truncate(32 << 20)
            subprocess.run(["mkfs.fat", "-F", "16", "-n", "INSIDE", part], check=True,
                           capture_output=True)
            with open(part, "rb") as source, open(self.image, "r+b") as target:
                target.seek(2048 * 512)
                shutil.copyfileobj(source, target)
            found = self.probe()
            self.assertEqual(found["partition_table"], {"kind": label, "sector_size": 512})
            self.assertEqual([(v["number"], v["start"], v["size"]) for v in found["volumes"]],
                             [(1, 1 << 20, 32 << 20), (2, 67584 * 512, 8 << 20)])
            self.assertEqual([(v["type"], v["label"]) for v in found["volumes"]],
                             [("fat", "INSIDE"), (None, None)])

    def test_nothing_inside(self):
        for size in [0, 1, 511, 512, 1 << 20]:
            self.make(size)
            found = self.probe()
            self.assertEqual(found["size"], size)
            self.assertIsNone(found["partition_table"])
            self.assertIsNone(found["volumes"][0]["type"])

    def test_not_an_image(self):
        for path, code in [("/nonexistent", 2), (self.directory.name, 1), ("/dev/null", 1)]:
            result = run("probe", path)
            self.assertEqual(result.returncode, code, path)
            self.assertIn(path, result.stderr)
        fifo = os.path.join(self.directory.name, "fifo")
        os.mkfifo(fifo)
        self.assertEqual(run("probe", fifo).returncode, 1)


if __name__ == "__main__":
    BERTH, MAN = sys.argv[1:3]
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    os.environ["LC_ALL"] = "C.UTF-8"
    unittest.main(argv=sys.argv[:1])
