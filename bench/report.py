"""Writes what a run has found: Markdown tables, JSON with every single figure, and a bar chart. Measures nothing.

The tables hold medians over the rounds; the ratios are ratios of those medians, so a reader can check them by hand.
"""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import findings
from findings import BUSY, NOISE, Findings, Target

_WIDTH, _BAR, _LEFT, _RIGHT = 760, 26, 110, 240
_OURS, _OTHER = "#2563eb", "#94a3b8"


def number(value: float | None, digits: int = 0) -> str:
    """Return a figure with thousands separators, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def significant(value: float | None) -> str:
    """Return a ratio with about three significant digits."""
    if value is None:
        return "-"
    size = abs(value)
    digits = 0 if size >= 100 or not size else 1 if size >= 10 else 2 if size >= 0.1 else 4
    return f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table whose columns also line up in a terminal; the first column is text."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "| " + " | ".join((first, *rest)) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def _pair(low: float | None, high: float | None, digits: int) -> str:
    return "-" if low is None or high is None else f"{number(low, digits)} / {number(high, digits)}"


def _ms(value_us: float | None) -> float | None:
    return None if value_us is None else value_us / 1e3


def plain_table(found: Findings) -> str:
    """Lay out the plain calls: rates, ratios against nginx, latencies, CPU, memory, start."""
    kinds, busy = found.kinds(), str(BUSY)
    head = ["plain calls", *(f"req/s c={kind}" for kind in kinds), f"x nginx (c={busy})", f"req/s min..max (c={busy})"]
    head += ["p50 / p99 ms c=1", f"p50 / p99 ms c={busy}", "p50 added us c=1", f"p99 added ms c={busy}"]
    head += [f"CPU us a call c={busy}", "RSS idle / loaded MB", "start s"]
    rows = []
    for name in found.versions:
        if not found.loads(name, busy):
            continue
        resident, spread = found.residents.get(name), found.spread(name)
        is_direct = name == "direct"
        added = findings.difference(found.p50_us(name, "1"), found.p50_us("direct", "1"))
        late = findings.difference(found.p99_us(name, busy), found.p99_us("direct", busy))
        loaded = resident.loaded.rss_mb if resident and resident.loaded else None
        rows.append(
            [
                name,
                *(number(found.per_s(name, kind)) for kind in kinds),
                significant(findings.ratio(found.per_s(name), found.per_s("nginx"))),
                f"{number(spread[0])}..{number(spread[1])}" if spread else "-",
                _pair(_ms(found.p50_us(name, "1")), _ms(found.p99_us(name, "1")), 2),
                _pair(_ms(found.p50_us(name, busy)), _ms(found.p99_us(name, busy)), 2),
                "-" if is_direct else number(added),
                "-" if is_direct else number(_ms(late), 2),
                number(found.cpu_us(name), 1),
                _pair(resident.idle.rss_mb, loaded, 0) if resident else "-",
                number(findings.median(resident.starts_s), 2) if resident else "-",
            ]
        )
    return table(head, rows)


def stream_table(found: Findings) -> str:
    """Lay out the streams: how many were whole, CPU a chunk against nginx, time to first token."""
    rows = []
    for name in found.versions:
        cells = [cell for cell in found.cells if cell.name == name and cell.kind == "streams"]
        if not cells:
            continue
        loads = [cell.load.as_dict() for cell in cells]
        first = [findings.median(one[key] for one in loads) for key in ("ttft_p50_ms", "ttft_p99_ms")]
        rows.append(
            [
                name,
                f"{sum(one['complete'] for one in loads):,} of {sum(one['streams'] for one in loads):,}",
                number(findings.median(one["chunks"] / one["seconds"] for one in loads)),
                number(found.cpu_us(name, "streams"), 1),
                significant(findings.ratio(found.cpu_us(name, "streams"), found.cpu_us("nginx", "streams"))),
                _pair(first[0], first[1], 2),
                number(findings.median(one["total_p50_ms"] for one in loads)),
            ]
        )
    head = ["streams", "complete", "chunks/s", "CPU us a chunk", "x nginx", "TTFT p50 / p99 ms", "whole stream ms"]
    return table(head, rows)


def target_table(targets: Sequence[Target]) -> str:
    """Lay out the aims and how they went."""
    verdicts = {True: "pass", False: "FAIL", None: "not measured"}
    rows = [
        [
            target.aim,
            f"{'>=' if target.at_least else '<='} {target.limit:g} {target.unit}",
            "-" if target.found is None else f"{significant(target.found)} {target.unit}",
            verdicts[target.met],
        ]
        for target in targets
    ]
    return table(["penstock's targets", "limit", "found", "verdict"], rows)


def notes(found: Findings) -> list[str]:
    """Say what a reader must know beside the tables: what each does, what is missing, faults, receipts, noise."""
    lines = [f"- **{name}** {version}: {does}." for name, (version, does) in found.versions.items()]
    lines += [f"- **{name}** not measured: {reason}" for name, reason in found.not_measured.items()]
    lines += [f"- **{name}**, faults under load: {fault}." for name in found.versions if (fault := found.faults(name))]
    if found.ledger_problem:
        lines.append(f"- Receipts not compared: {found.ledger_problem}")
    if found.ledger:
        held = sum(check.holds for check in found.ledger)
        answered, recorded = (sum(getattr(check, of) for check in found.ledger) for of in ("answered", "recorded"))
        lines.append(
            f"- Receipts: {recorded:,} stored for {answered:,} good answers ({held} of {len(found.ledger)} loads match; "
            f"what is above the answers are calls in flight when wrk stopped)."
        )
        lines += [
            f"- Receipts of {check.what} differ: {check.recorded:,}, must lie in {check.answered:,}..{check.at_most:,}."
            for check in found.ledger
            if not check.holds
        ]
    noise = found.noise()
    verdict = "noisy: repeat the run on a quiet machine" if noise > NOISE else "quiet"
    lines.append(f"- Share of a core that went to something that takes no part: {noise:.1%} at worst ({verdict}).")
    return lines


def markdown(found: Findings) -> str:
    """Return the whole report."""
    settings = found.settings
    run = (
        f"- run: {settings['rounds']} rounds of {settings['seconds']} s, {settings['streams']} streams x "
        f"{settings['passes']}, order drawn with seed {settings['seed']}; medians"
    )
    parts = [
        "# Overhead, measured side by side\n",
        "Generated by `python bench/overhead.py`; what the columns mean and what is not measured: `bench/README.md`.\n",
        *([plain_table(found) + "\n", stream_table(found) + "\n"] if found.cells else []),
        *([target_table(findings.targets(found)) + "\n"] if "penstock" in settings["names"] else []),
        "\n".join(notes(found)) + "\n",
        "\n".join(f"- {key}: {value}" for key, value in found.machine.items()),
        run,
    ]
    return "\n".join(parts) + "\n"


def as_json(found: Findings) -> dict[str, Any]:
    """Everything, single rounds included."""
    return {
        "machine": found.machine,
        "settings": found.settings,
        "candidates": {name: {"version": it[0], "does": it[1]} for name, it in found.versions.items()},
        "not_measured": found.not_measured,
        "residents": {
            name: {
                "starts_s": list(it.starts_s),
                "idle": vars(it.idle),
                "loaded": vars(it.loaded) if it.loaded else None,
            }
            for name, it in found.residents.items()
        },
        "import_s": found.import_s,
        "cells": [cell.as_dict() for cell in found.cells],
        "receipts": [{**vars(check), "holds": check.holds} for check in found.ledger],
        "receipts_problem": found.ledger_problem,
        "targets": [{**vars(target), "met": target.met} for target in findings.targets(found)],
    }


def _bars(title: str, rows: Sequence[tuple[str, float, str]], top: int) -> tuple[list[str], int]:
    """Draw one group of bars, lengths in proportion to the values; return its elements and where it ends."""
    room, most = _WIDTH - _LEFT - _RIGHT, max((value for _, value, _ in rows), default=0.0) or 1.0
    drawn = [f'<text x="16" y="{top}" class="title">{escape(title)}</text>']
    for place, (name, value, label) in enumerate(rows):
        y = top + 14 + place * _BAR
        length = max(1.0, room * value / most)
        colour = _OURS if name == "penstock" else _OTHER
        drawn += [
            f'<text x="{_LEFT - 8}" y="{y + 14}" class="name">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR - 7}" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{y + 14}" class="value">{escape(label)}</text>',
        ]
    return drawn, top + 14 + len(rows) * _BAR + 30


def svg(found: Findings) -> str:
    """Draw throughput (linear) and CPU a call (logarithmic) at 64 connections, with the figures' origin."""
    fastest = found.per_s("nginx")
    rates = [
        (name, rate, f"{number(rate)} req/s ({significant(findings.ratio(rate, fastest))} x nginx)")
        for name in found.versions
        if (rate := found.per_s(name)) is not None
    ]
    # From 1 us on a logarithmic scale: the costs lie three orders of magnitude apart.
    costs = [
        (name, max(0.0, math.log10(cost)), f"{number(cost, 1)} us")
        for name in found.versions
        if (cost := found.cpu_us(name))
    ]
    drawn, end = _bars(f"Throughput, {BUSY} connections, gateway on one core (longer is better)", rates, 30)
    more, end = _bars(
        f"CPU microseconds a call, {BUSY} connections, logarithmic from 1 (shorter is better)", costs, end
    )
    machine = found.machine
    origin = [
        f"{machine['machine']}, {machine['kernel']}, Python {machine['python']}, {machine['nginx']}, {machine['wrk']}",
        f"{machine['date']}, commit {machine['commit']}; medians of {found.settings['rounds']} interleaved rounds",
    ]
    foot = [f'<text x="16" y="{end + 16 * row}" class="foot">{escape(text)}</text>' for row, text in enumerate(origin)]
    style = (
        "text{font-family:system-ui,sans-serif;font-size:13px;fill:#0f172a}.title{font-weight:600}"
        ".name{text-anchor:end}.foot{font-size:11px;fill:#475569}"
    )
    height = end + 16 * len(origin) + 4
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" aria-label="Gateway throughput and CPU per call">'
    )
    return "\n".join(
        [
            opening,
            f"<style>{style}</style>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            *drawn,
            *more,
            *foot,
            "</svg>",
            "",
        ]
    )


def write(found: Findings, folder: Path, stem: str) -> list[Path]:
    """Write the three files `<stem>.md`, `.json` and `.svg` into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "md": markdown(found),
        "json": json.dumps(as_json(found), indent=1) + "\n",
        "svg": svg(found),
    }
    paths = []
    for suffix, content in contents.items():
        path = folder / f"{stem}.{suffix}"
        path.write_text(content)
        paths.append(path)
    return paths
