"""What `ledger.py` found, as lines, tables and a picture. Draws and writes text; measures nothing."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from typing import Any

PARTS = ("intent", "receipt", "store", "checkpoints", "sums")
WARM_MS, COLD_MS, BYTES, WHOLE_US, PER_S = 200.0, 1000.0, 300.0, 25.0, 5000.0


@dataclass(frozen=True)
class Target:
    """An aim: at most, or at least, so much."""

    aim: str
    limit: float
    found: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def targets(largest: Any, retried: Any, speed: Any) -> tuple[Target, ...]:
    """Give the aims and what was found with most receipts."""
    most = f"{largest.rows:,} receipts"
    return (
        Target(f"yesterday by feature, warm, {most}: report", WARM_MS, largest.ms["report, warm"], "ms"),
        Target(f"yesterday by feature, cold, {most}: report", COLD_MS, largest.ms["report, cold"], "ms"),
        Target(
            f"the same, cold: whole command, interpreter included, {most}", COLD_MS, largest.ms["command, cold"], "ms"
        ),
        Target(f"a receipt on disk, {most}", BYTES, largest.bytes, "bytes"),
        Target(f"a receipt on disk, 1.2 tries, {retried.rows:,} receipts", BYTES, retried.bytes, "bytes"),
        Target("the ledger's processor time per call, and hold and settle", WHOLE_US, with_hold(largest), "us"),
        Target("receipts a second at 6,000 calls in flight", PER_S, speed.per_s, "/s", at_least=True),
    )


def with_hold(found: Any) -> float:
    """Give the processor time of all that money costs a call here."""
    return float(found.whole_us + found.us["hold, settle"])


def line(found: Any) -> str:
    """One size, in one line."""
    parts = ", ".join(f"{name} {found.us[name]:.2f}" for name in (*PARTS, "hold, settle") if name in found.us)
    times = ", ".join(f"{name} {value:.1f}" for name, value in found.ms.items())
    size = f"{found.bytes:.1f} bytes each (sums {found.sums_bytes:.1f})"
    return f"{found.rows:,}: {size}; {found.per_s:,.0f}/s; us: {parts}; ms: {times}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def markdown(every: Sequence[Any], retried: Any, speed: Any, aims: Sequence[Target], took_s: float) -> str:
    """Lay everything out."""
    head = ["", *(f"{found.rows:,}" for found in every)]
    names = (*PARTS, "hold, settle")
    costs = [[f"{name}, us", *(f"{found.us[name]:.2f}" for found in every)] for name in names]
    costs.append(["all of it, us", *(f"{with_hold(found):.2f}" for found in every)])
    costs.append(["receipts a second", *(f"{found.per_s:,.0f}" for found in every)])
    costs.append(["bytes a receipt", *(f"{found.bytes:.1f}" for found in every)])
    costs.append(["of these: sums that are kept", *(f"{found.sums_bytes:.1f}" for found in every)])
    times = [[f"{name}, ms", *(f"{found.ms[name]:.1f}" for found in every)] for name in every[0].ms]
    verdicts = [
        [aim.aim, f"{'>=' if aim.at_least else '<='} {aim.limit:,.0f} {aim.unit}", f"{aim.found:,.1f}", _verdict(aim)]
        for aim in aims
    ]
    more = [
        [name, f"{found.rows:,}", f"{found.bytes:.1f}", f"{found.whole_us:.2f}", f"{found.per_s:,.0f}"]
        for name, found in (("1.2 tries on average", retried), ("4,000 calls/s, 1.5 s each", speed))
    ]
    return "\n".join(
        [
            "# What the ledger costs\n",
            "Written by `python bench/ledger.py`, which says what the rows mean. Microseconds are processor time per call,",
            "milliseconds the clock's. Calls over 30 days, of 5 features, 20 teams, 200 keys, 10,000 users, 3 models.\n",
            _table(["aim", "limit", "found", "verdict"], verdicts) + "\n",
            _table(head, costs) + "\n",
            _table(head, times) + "\n",
            _table(["other traffic", "receipts", "bytes", "us, all of the ledger", "receipts/s"], more) + "\n",
            f"- machine: {platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}",
            f"- the run took {took_s:,.0f} s",
            "",
        ]
    )


def _verdict(aim: Target) -> str:
    return "pass" if aim.met else "FAIL"


# -- the picture --

WIDTH, TALL, LEFT, TOP, PLOT_W, PLOT_H, GAP = 860, 330, 58, 46, 330, 200, 96
STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-size: 12px }
.paper { fill: #ffffff; stroke: #d0d7de }
.title { fill: #1f2328; font-weight: 600; font-size: 14px }
.label { fill: #57606a }
.grid { stroke: #d0d7de; stroke-width: 1 }
.limit { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 5 4 }
.a { stroke: #0969da } .b { stroke: #bf8700 } .c { stroke: #1a7f37 }
.ta { fill: #0969da } .tb { fill: #9a6700 } .tc { fill: #1a7f37 }
.a, .b, .c { fill: none; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; stroke: #30363d } .title { fill: #e6edf3 } .label { fill: #9198a1 } .grid { stroke: #30363d }
  .ta { fill: #4493f8 } .tb { fill: #d29922 } .tc { fill: #3fb950 }
  .a { stroke: #4493f8 } .b { stroke: #d29922 } .c { stroke: #3fb950 }
}
"""
Line = tuple[str, Sequence[float]]


def picture(every: Sequence[Any]) -> str:
    """Draw both against the number of receipts: what a call costs, and how long a report takes."""
    sizes = [found.rows for found in every]
    costs: tuple[Line, ...] = (
        ("all of it", [with_hold(found) for found in every]),
        ("moving receipts into the store", [found.us["store"] for found in every]),
        ("hold and settle", [found.us["hold, settle"] for found in every]),
    )
    times: tuple[Line, ...] = (
        ("30 days by feature, warm", [found.ms["30 days by feature"] for found in every]),
        ("yesterday by feature, cold", [found.ms["report, cold"] for found in every]),
        ("yesterday by feature, warm", [found.ms["report, warm"] for found in every]),
    )
    label = "What a call costs and how long a report takes, from a thousand receipts to ten million"
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TALL}" width="{WIDTH}" height="{TALL}" '
                f'role="img" aria-label="{label}">'
            ),
            f"<style>{STYLE}</style>",
            f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{TALL - 1}" rx="8"/>',
            *_plot(LEFT, "processor time per call, microseconds", sizes, costs, WHOLE_US),
            *_plot(LEFT + PLOT_W + GAP, "a report, milliseconds", sizes, times, WARM_MS),
            "</svg>",
            "",
        ]
    )


def _plot(left: int, title: str, sizes: Sequence[int], lines: Sequence[Line], limit: float) -> list[str]:
    top = max(limit, *(max(values) for _, values in lines)) * 1.1
    first, last = log10(sizes[0]), log10(sizes[-1])

    def x(size: float) -> float:
        return left + PLOT_W * (log10(size) - first) / (last - first or 1)

    def y(value: float) -> float:
        return TOP + PLOT_H * (1 - value / top)

    drawn = [f'<text class="title" x="{left}" y="{TOP - 18}">{escape(title)}</text>']
    for part in range(5):
        value = limit * part / 4
        drawn.append(f'<path class="grid" d="M{left} {y(value):.1f}H{left + PLOT_W}"/>')
        drawn.append(f'<text class="label" text-anchor="end" x="{left - 8}" y="{y(value) + 4:.1f}">{value:g}</text>')
    drawn.append(f'<path class="limit" d="M{left} {y(limit):.1f}H{left + PLOT_W}"/>')
    drawn += [
        f'<text class="label" text-anchor="middle" x="{x(size):.1f}" y="{TOP + PLOT_H + 18}">{size:,}</text>'
        for size in sizes
    ]
    for place, (name, values) in enumerate(lines):
        kind = "abc"[place]
        points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in zip(sizes, values, strict=True))
        below = TOP + PLOT_H + 40 + 16 * place
        drawn.append(f'<polyline class="{kind}" points="{points}"/>')
        drawn.append(f'<text class="t{kind}" x="{left}" y="{below}">{escape(name)}: {values[-1]:.1f} at the end</text>')
    return drawn
