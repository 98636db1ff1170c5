#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Adds up meson's test logs; the last line is "N passed, N failed, N skipped".

    summarize_tests.py [--failed TEXT]... [LABEL=TESTLOG.JSON]...

Prints what failed, with the end of its output and the command to repeat it,
and why tests were skipped. --failed counts something that is no test, like a
build that broke. Exit status 1 when anything failed.
"""
import argparse
import json
import os
import shlex
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
OUTPUT_LINES = 40


def read_log(path):
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            if line.strip():
                yield json.loads(line)


def output_of(test):
    text = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    return [line for line in text.splitlines() if line.strip()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--failed", action="append", default=[])
    parser.add_argument("logs", nargs="*", metavar="LABEL=TESTLOG.JSON")
    arguments = parser.parse_args()
    passed = skipped = 0
    failed = len(arguments.failed)
    for log in arguments.logs:
        label, path = log.split("=", 1)
        for test in read_log(path):
            name, lines = f"{label}: {test['name']}", output_of(test)
            if test["result"] in PASSED:
                passed += 1
            elif test["result"] == "SKIP":
                skipped += 1
                print(f"SKIPPED {name}: {lines[-1] if lines else 'it does not say why'}")
            else:
                failed += 1
                print(f"FAILED {name} ({test['result']}, exit code {test.get('returncode')})")
                build = os.path.dirname(os.path.dirname(path))
                again = ["meson", "test", "-C", build, "-v", test["name"].split(" / ")[-1]]
                print(f"    again with: {shlex.join(again)}")
                for line in lines[-OUTPUT_LINES:]:
                    print(f"    | {line}")
    for text in arguments.failed:
        print(f"FAILED {text}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


sys.exit(main())
