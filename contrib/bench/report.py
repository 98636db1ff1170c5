# SPDX-License-Identifier: MIT
"""What came out: one structure (results.json), and three views of it: text for
the terminal, Markdown, and an SVG chart of the ratios.
"""
import html
import math
from statistics import median

import contenders
import workloads

COLOURS = ("#555555", "#1b6ca8", "#5fa8d3", "#9bc53d", "#e08e45", "#b5485d", "#7a5195")


def _ratio(workload, own, yard):
    """Speed relative to the yardstick in the same round: above 1 is faster."""
    mine, theirs = workloads.value(workload, own), workloads.value(workload, yard)
    return theirs / mine if workload.unit == "s" else mine / theirs


def _cell(workload, samples, yards):
    good = [sample for sample in samples if sample is not None]
    if not good:
        return None
    values = [workloads.value(workload, sample) for sample in good]
    ratios = [_ratio(workload, own, yard) for own, yard in zip(samples, yards) if own and yard]
    operations = good[0].operations
    counted = [sample.messages for sample in good if sample.messages is not None]
    messages = {name: median(m.get(name, 0) for m in counted)
                for name in sorted(set().union(*counted))} if counted else None
    roles = good[0].cpu.keys()
    cpu = {role: median(sample.cpu.get(role, 0.0) for sample in good) * 1e6 / operations
           for role in roles}
    return {"value": median(values), "values": values, "ratio": median(ratios) if ratios else None,
            "ratios": ratios, "operations": operations,
            "median_us": median(sample.median_us for sample in good),
            "cpu_us_per_operation": cpu,
            "messages": messages,
            "messages_per_operation": sum(messages.values()) / operations if counted else None,
            "load": median(sample.load for sample in good)}


def collect(bench, field, head):
    rows = []
    for workload in workloads.WORKLOADS:
        yards = bench.samples.get((workload.name, contenders.YARDSTICK), [])
        cells = {}
        for name in field:
            samples = bench.samples.get((workload.name, name), [])
            cell = _cell(workload, samples, yards or [None] * len(samples))
            if cell is not None:
                cells[name] = cell
        if cells:
            rows.append({"workload": workload.name, "unit": workload.unit,
                         "expected": workload.expected or None, "cells": cells})
    return {**head, "yardstick": contenders.YARDSTICK, "contenders": field, "rows": rows}


# ---- tables ----

def _number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _value(row, cell):
    if cell is None:
        return "-"
    ratio = f" ({cell['ratio']:.2f})" if cell["ratio"] is not None else ""
    return _number(cell["value"]) + ratio


def _cpu(cell):
    if cell is None:
        return "-"
    parts = cell["cpu_us_per_operation"]
    return f"{_number(sum(parts.values()))}" if parts else "-"


def _messages(cell):
    if cell is None or cell["messages_per_operation"] is None:
        return "-"
    return f"{cell['messages_per_operation']:.3g}"


def _tables(results):
    """(title, header, lines) of each table."""
    names = results["contenders"]
    speed = [[f"{row['workload']} [{row['unit']}]"] +
             [_value(row, row["cells"].get(name)) for name in names] +
             [f"{row['expected']}" if row["expected"] else ""] for row in results["rows"]]
    cpu = [[row["workload"]] + [_cpu(row["cells"].get(name)) for name in names]
           for row in results["rows"]]
    daemons = [name for name in names
               if any((row["cells"].get(name) or {}).get("messages") is not None
                      for row in results["rows"])]
    messages = [[row["workload"]] + [_messages(row["cells"].get(name)) for name in daemons]
                for row in results["rows"]]
    tables = [(f"Speed, and its ratio to {results['yardstick']} (above 1: faster)",
               ["workload"] + names + ["expected of fatd"], speed),
              ("CPU microseconds per operation: client, front-end and daemon "
               "(kernel threads are not counted)", ["workload"] + names, cpu)]
    if daemons:
        tables.append(("Messages to the filesystem per operation", ["workload"] + daemons, messages))
    return tables


def text(results):
    out = []
    for title, header, lines in _tables(results):
        widths = [max(len(line[i]) for line in [header] + lines) for i in range(len(header))]
        out.append(title)
        for line in [header] + lines:
            out.append("  " + line[0].ljust(widths[0]) + "  " +
                       "  ".join(word.rjust(width) for word, width in zip(line[1:], widths[1:])))
        out.append("")
    out += results["notes"]
    return "\n".join(out)


def markdown(results):
    machine = results["machine"]
    out = [f"{results['date']}, {machine['processors']} x {machine['processor']}, "
           f"{machine['memory_bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}; image on "
           f"{results['image']}; {results['rounds']} round(s); load average "
           f"{results['load_before']:.1f} before and {results['load_after']:.1f} after.", ""]
    for title, header, lines in _tables(results):
        out += [f"**{title}**", "", "| " + " | ".join(header) + " |",
                "|" + "---|" * len(header)]
        out += ["| " + " | ".join(line) + " |" for line in lines]
        out.append("")
    out += [f"- {note}" for note in results["notes"]]
    return "\n".join(out).rstrip() + "\n"


# ---- the chart ----

LEFT, WIDTH, BAR, GAP, TOP = 130, 640, 11, 12, 64
LOW, HIGH = 0.01, 10.0


def _x(ratio):
    share = math.log(min(max(ratio, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
    return LEFT + share * WIDTH


def svg(results):
    """Bars of the ratio to the yardstick, on a logarithmic scale; a mark where one was expected."""
    names = [name for name in results["contenders"] if name != results["yardstick"]]
    rows = [row for row in results["rows"]
            if any((row["cells"].get(name) or {}).get("ratio") for name in names)]
    height = TOP + len(rows) * (len(names) * BAR + GAP) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{height}" '
           'font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="10" y="18" font-size="14">Speed relative to {results["yardstick"]} on a loop '
           f'device, image on {html.escape(results["image"])} (logarithmic; right is faster)</text>']
    for i, name in enumerate(names):
        colour = COLOURS[(i + 1) % len(COLOURS)]
        out.append(f'<rect x="{LEFT + i * 110}" y="28" width="10" height="10" fill="{colour}"/>'
                   f'<text x="{LEFT + 14 + i * 110}" y="37">{html.escape(name)}</text>')
    for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10):
        dash = "" if tick == 1 else ' stroke-dasharray="2,3"'
        out.append(f'<line x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" y1="{TOP - 8}" '
                   f'y2="{height - 26}" stroke="#999999"{dash}/>'
                   f'<text x="{_x(tick):.1f}" y="{height - 12}" text-anchor="middle">{tick}</text>')
    y = TOP
    for row in rows:
        top = y
        out.append(f'<text x="{LEFT - 8}" y="{y + len(names) * BAR / 2 + 4:.1f}" '
                   f'text-anchor="end">{row["workload"]}</text>')
        for i, name in enumerate(names):
            ratio = (row["cells"].get(name) or {}).get("ratio")
            if ratio:
                colour = COLOURS[(i + 1) % len(COLOURS)]
                out.append(f'<rect x="{LEFT}" y="{y}" width="{_x(ratio) - LEFT:.1f}" '
                           f'height="{BAR - 1}" fill="{colour}"><title>{html.escape(name)}: '
                           f'{ratio:.2f}</title></rect>'
                           f'<text x="{_x(ratio) + 3:.1f}" y="{y + BAR - 2}" font-size="9">'
                           f'{ratio:.2f}</text>')
            y += BAR
        if row["expected"]:
            out.append(f'<line x1="{_x(row["expected"]):.1f}" x2="{_x(row["expected"]):.1f}" '
                       f'y1="{top - 3}" y2="{y + 2}" stroke="#cc0000" stroke-width="2"/>')
        y += GAP
    out.append("</svg>")
    return "\n".join(out) + "\n"
