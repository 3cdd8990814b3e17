#!/usr/bin/env python3
"""Draws the losses of the last run, `figures.json`, as `curves.svg`. Readable on light and on dark pages.

python training/curves.py
"""

from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).parent
WIDTH, HEIGHT, LEFT, TOP, GAP = 300, 190, 46, 46, 24
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600}.axis{stroke:#999;fill:none}"
    ".grid{stroke:#8884;fill:none}.line{fill:none;stroke-width:2}.a{stroke:#0969da}.b{stroke:#bc4c00}"
    ".la{fill:#0969da}.lb{fill:#bc4c00}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}.a{stroke:#58a6ff}.b{stroke:#f0883e}.la{fill:#58a6ff}.lb{fill:#f0883e}}"
)
PANELS = (
    ("pretrain", "1. Pre-training: next token", (("train", "training text"), ("check", "other text"))),
    ("sft", "2. Fine-tuning: answers only", (("train", "training questions"), ("check", "tuning questions, unseen"))),
    ("dpo", "3. Preference: margin", (("margin", "right minus wrong, log-probability"),)),
)


def panel(
    stage: str, title: str, lines: tuple[tuple[str, str], ...], points: list[dict[str, Any]], x: int
) -> list[str]:
    """Draw one stage: its title, axes, grid and one line per value."""
    last = max(point["step"] for point in points)
    top = max(point[name] for point in points for name, _ in lines)
    top = top if stage == "dpo" else min(top, 4.0 if stage == "pretrain" else 1.5)
    bottom = TOP + HEIGHT
    parts = [f'<text class="title" x="{x}" y="18">{title}</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * HEIGHT
        parts.append(f'<path class="grid" d="M{x} {y:.1f}h{WIDTH}"/>')
        parts.append(
            f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{share * top:.{1 if top > 2 else 2}f}</text>'
        )
    parts.append(f'<path class="axis" d="M{x} {TOP}V{bottom}H{x + WIDTH}"/>')
    parts.append(f'<text x="{x + WIDTH}" y="{bottom + 18}" text-anchor="end">step {last}</text>')
    for number, (name, label) in enumerate(lines):
        kind = "ab"[number]
        spots = [
            (x + point["step"] / last * WIDTH, bottom - min(1.0, max(0.0, point[name] / top)) * HEIGHT)
            for point in points
        ]
        path = "L".join(f"{across:.1f} {down:.1f}" for across, down in spots)
        parts.append(f'<path class="line {kind}" d="M{path}"/>')
        parts.append(f'<text class="l{kind}" x="{x + 130 * number}" y="34">{label}</text>')
    return parts


def picture(figures: dict[str, Any]) -> str:
    """Draw all stages side by side."""
    width = len(PANELS) * (LEFT + WIDTH + GAP)
    size = f"0 0 {width} {TOP + HEIGHT + 30}"
    label = "Losses of the three stages of training"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
    ]
    for number, (stage, title, lines) in enumerate(PANELS):
        if points := figures["stages"].get(stage):
            parts += panel(stage, title, lines, points, LEFT + number * (LEFT + WIDTH + GAP))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    figures_ = msgspec.json.decode((HERE / "figures.json").read_bytes())
    (HERE / "curves.svg").write_text(picture(figures_), encoding="utf-8")
