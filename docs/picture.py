#!/usr/bin/env python3
"""Draws the line that a call takes, as `line.svg`, in light and in dark colours.

    .venv/bin/python docs/picture.py

A change of the line is a change of the tables below; `tests/test_generated.py` compares the file with what this draws.
"""

from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("line.svg")

Words = tuple[str, str]
CALLERS: tuple[Words, ...] = (
    ("OpenAI SDK, curl", "change the base URL"),
    ("Python programs", "Gateway, AsyncGateway"),
    ("penstock ask", "the command line"),
)
THERE: tuple[Words, ...] = (
    ("identify", "whose key it is"),
    ("admit", "rate, tokens, room"),
    ("pin", "what a feature fixes"),
    ("route", "where to, and why"),
    ("reserve", "money, in writing"),
)
BACK: tuple[Words, ...] = (
    ("try", "retry, fall back"),
    ("commit", "at the first content"),
    ("meter", "tokens, cost, time"),
    ("settle", "one receipt per call"),
    ("pass on", "bytes as they came"),
)
TARGETS: tuple[Words, ...] = (
    ("openai/gpt-...", "first"),
    ("box/qwen...", "if that fails"),
    ("a fixed text", "if all of them fail"),
)
LEDGER: Words = ("ledger: a journal, then SQLite", "keys · budgets · receipts · spend · /metrics · /admin/v1")

SIDE, STEP, TALL, GAP = 164, 122, 58, 14
LEFT, TOP = 12 + SIDE + 30, 12
ROWS = (TOP + 40, TOP + 130)
INSIDE, INSIDE_TALL = 5 * STEP + 4 * GAP + 32, 204
RIGHT = LEFT + INSIDE + 30
WIDTH, HEIGHT = RIGHT + SIDE + 12, TOP + INSIDE_TALL + 28 + TALL + 12

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
.paper { fill: #ffffff; stroke: #d0d7de }
.panel { fill: #f6f8fa; stroke: #d0d7de }
.step { fill: #ffffff; stroke: #afb8c1 }
.money { fill: #fff8e6; stroke: #bf8700 }
.store { fill: #eaf3ff; stroke: #0969da }
.name { fill: #1f2328; font-weight: 600; font-size: 14.5px }
.about, .title { fill: #57606a; font-size: 11.5px }
.title { font-weight: 600; letter-spacing: 0.08em }
.arrow, .kept { stroke: #57606a; stroke-width: 1.5; fill: none; marker-end: url(#head) }
.kept { stroke: #0969da; stroke-dasharray: 4 3; marker-end: url(#kept) }
.head { fill: #57606a }
.kept-head { fill: #0969da }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117; stroke: #30363d }
.panel { fill: #161b22; stroke: #30363d }
.step { fill: #0d1117; stroke: #6e7681 }
.money { fill: #2b2111; stroke: #d29922 }
.store { fill: #0c2138; stroke: #58a6ff }
.name { fill: #e6edf3 }
.about, .title { fill: #a5b0bc }
.arrow { stroke: #a5b0bc }
.kept { stroke: #58a6ff }
.head { fill: #a5b0bc }
.kept-head { fill: #58a6ff }
}
"""


def box(kind: str, x: float, y: float, words: Words, width: float = STEP) -> str:
    """Draw a box with a name and what it is about."""
    middle = x + width / 2
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{TALL}" rx="8"/>\n'
        f'<text class="name" x="{middle}" y="{y + 25}" text-anchor="middle">{escape(words[0])}</text>\n'
        f'<text class="about" x="{middle}" y="{y + 44}" text-anchor="middle">{escape(words[1])}</text>'
    )


def arrow(path: str, kind: str = "arrow") -> str:
    """Draw an arrow along a path."""
    return f'<path class="{kind}" d="{path}"/>'


def head(name: str, kind: str) -> str:
    """Define the head of an arrow."""
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path class="{kind}" d="M0 0 8 4 0 8z"/></marker>'
    )


def steps() -> list[str]:
    """Draw the line itself: there above, back below."""
    at = [LEFT + 16 + number * (STEP + GAP) for number in range(5)]
    middle = [y + TALL / 2 for y in ROWS]
    drawn = [
        f'<rect class="panel" x="{LEFT}" y="{TOP}" width="{INSIDE}" height="{INSIDE_TALL}" rx="12"/>',
        f'<text class="title" x="{LEFT + 16}" y="{TOP + 25}">PENSTOCK</text>',
    ]
    for number, words in enumerate(THERE):
        drawn.append(box("money" if number == len(THERE) - 1 else "step", at[number], ROWS[0], words))
        if number:
            drawn.append(arrow(f"M{at[number] - GAP} {middle[0]}H{at[number] - 1}"))
    for number, words in enumerate(BACK):
        drawn.append(box("money" if words[0] == "settle" else "step", at[-1 - number], ROWS[1], words))
        if number:
            drawn.append(arrow(f"M{at[-number]} {middle[1]}H{at[-1 - number] + STEP + 1}"))
    drawn.append(arrow(f"M{at[-1] + STEP / 2} {ROWS[0] + TALL}V{ROWS[1] - 1}"))
    return drawn


def side(x: float, title: str, rows: tuple[Words, ...]) -> list[str]:
    """Draw a panel with names beside the line."""
    drawn = [
        f'<rect class="panel" x="{x}" y="{TOP}" width="{SIDE}" height="{INSIDE_TALL}" rx="12"/>',
        f'<text class="title" x="{x + 16}" y="{TOP + 25}">{title}</text>',
    ]
    for number, (name, about) in enumerate(rows):
        y = ROWS[0] + 24 + number * 56
        drawn.append(f'<text class="name" x="{x + 16}" y="{y}">{escape(name)}</text>')
        drawn.append(f'<text class="about" x="{x + 16}" y="{y + 18}">{escape(about)}</text>')
    return drawn


def sides() -> list[str]:
    """Draw who calls and who answers, with the arrows between them and the line."""
    there, back = (y + TALL / 2 for y in ROWS)
    return [
        *side(12, "APPLICATIONS", CALLERS),
        *side(RIGHT, "TARGETS", TARGETS),
        arrow(f"M{12 + SIDE} {there}H{LEFT + 15}"),
        arrow(f"M{LEFT + 16} {back}H{12 + SIDE + 1}"),
        arrow(f"M{RIGHT - 46} {back}H{RIGHT - 1}"),
    ]


def ledger() -> list[str]:
    """Draw what is remembered, and what of the line it remembers."""
    y = TOP + INSIDE_TALL + 28
    column = STEP + GAP
    begun, settled = LEFT + 16 + 4 * column, LEFT + 16 + column
    return [
        box("store", LEFT + 16 + column, y, LEDGER, 3 * column - GAP),
        arrow(f"M{begun + STEP} {ROWS[0] + TALL / 2}h8V{y + TALL / 2}H{settled + 3 * column - GAP + 1}", "kept"),
        arrow(f"M{settled + STEP / 2} {ROWS[1] + TALL}V{y - 1}", "kept"),
    ]


def draw() -> str:
    """Give the whole picture."""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    about = 'role="img" aria-label="The line that a call takes through penstock"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {about}>',
        f"<style>{STYLE}</style>",
        f"<defs>{head('head', 'head')}{head('kept', 'kept-head')}</defs>",
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="14"/>',
        *steps(),
        *sides(),
        *ledger(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
