#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks a file in Prometheus' text format, and that these mounts are in it.

    prometheus.py FILE DIRECTORY...

Every line has to parse, a metric's samples stand together after its HELP and
TYPE, no sample comes twice, and histograms rise to their count.
"""
import collections
import re
import sys

SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} '
                    r'([0-9.e+-]+|\+Inf)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"')


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    assert text.endswith("\n")
    kinds, seen, current = {}, {}, None
    histograms = collections.defaultdict(list)
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in kinds, f"{current} comes twice"
            kinds[current] = None
        elif line.startswith("# TYPE "):
            assert line.split()[2] == current, line
            kinds[current] = line.split()[3]
        else:
            match = SAMPLE.match(line)
            assert match, f"not a sample: {line!r}"
            name, labels, value = match[1], tuple(LABEL.findall(match[2])), float(match[3])
            base = re.sub("_(bucket|sum|count)$", "", name)
            assert current in (name, base), f"{name} stands under {current}"
            assert kinds[current] != "counter" or name.endswith("_total"), name
            assert (name, labels) not in seen, line
            seen[name, labels] = value
            if name.endswith("_bucket"):
                histograms[tuple(l for l in labels if l[0] != "le")].append(value)
    for labels, buckets in histograms.items():
        assert buckets == sorted(buckets), (labels, buckets)
        assert buckets[-1] == seen["berth_request_duration_seconds_count", labels]
        assert buckets[-1] == seen["berth_requests_total", labels], labels
    for directory in sys.argv[2:]:
        known = directory.encode(errors="surrogateescape").decode("utf-8", errors="replace")
        known = known.replace("\ufffd", "?").replace("\\", "\\\\").replace("\n", "\\n")
        assert seen["berth_up", (("mount", known), ("type", "fat"))] == 1, directory


main()
