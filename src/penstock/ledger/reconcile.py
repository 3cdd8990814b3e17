"""What the ledger says and what a provider says, day by day (UTC) and model by model, and where they differ.

The ledger's side are its tries, since each of them is billed, under the model that answered. Only figures that the
export has are compared. Pure but for the tries, which it is given.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from penstock.ledger.exports import Said
from penstock.receipt import Attempt
from penstock.target import BASIS_POINTS, usd

FIGURES = ("input_tokens", "cached_input_tokens", "output_tokens", "cost_nano_usd")
_DATE = re.compile(r"-(?:20\d\d-\d\d-\d\d|20\d{6})$")


class Tolerance(Struct, frozen=True):
    """How far figures may lie apart: by basis points of what the export says, and money by so much as well."""

    basis_points: int = 0
    nano_usd: int = 0


class Side(Struct, frozen=True):
    """What one of the two says; None: nothing.

    estimated and unpriced  tries of the ledger whose cost is an estimate, or not known at all
    """

    requests: int | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nano_usd: int | None = None
    estimated: int = 0
    unpriced: int = 0


class Line(Struct, frozen=True):
    """A day and a model, both sides of it, and how much more the ledger says than the export. `within`: they agree."""

    day: str
    model: str
    ledger: Side
    export: Side
    difference: Side
    within: bool


class _Sum:
    __slots__ = ("cached", "cost", "estimated", "input", "output", "requests", "unpriced")

    def __init__(self) -> None:
        self.requests = self.input = self.cached = self.output = self.cost = self.estimated = self.unpriced = 0

    def add(self, attempt: Attempt) -> None:
        usage = attempt.usage
        self.requests += 1
        if usage is not None:
            self.input += usage.input_tokens
            self.cached += usage.cached_input_tokens
            self.output += usage.output_tokens
        self.cost += attempt.cost_nano_usd or 0
        self.estimated += attempt.cost_status == "estimated"
        self.unpriced += attempt.cost_nano_usd is None

    def side(self) -> Side:
        return Side(self.requests, self.input, self.cached, self.output, self.cost, self.estimated, self.unpriced)


Key = tuple[str, str]


def ledger_side(tries: Iterable[tuple[str, Attempt]], provider: str | None = None) -> dict[Key, Side]:
    """Sum tries up by day and model: the one that the provider named, else the one that was asked for."""
    sums: dict[Key, _Sum] = {}
    for day, attempt in tries:
        where, _, model = attempt.target.partition("/")
        if provider is None or where == provider:
            sums.setdefault((day, (attempt.response_model or model).lower()), _Sum()).add(attempt)
    return {key: one.side() for key, one in sums.items()}


def compare(ledger: dict[Key, Side], export: Iterable[Said], tolerance: Tolerance) -> tuple[Line, ...]:
    """Give a line for each day and model of either side. Days are those of the export, from its first to its last."""
    said = {(row.day, row.model): _side(row) for row in export}
    if not said:
        return ()
    first, last = min(day for day, _ in said), max(day for day, _ in said)
    ours = {key: side for key, side in ledger.items() if first <= key[0] <= last}
    if all(not model for _, model in said):
        ours = _by_day(ours)
    ours = _renamed(ours, said)
    none, nothing = Side(0, 0, 0, 0, 0), Side()
    return tuple(_line(key, ours.get(key, none), said.get(key, nothing), tolerance) for key in sorted({*ours, *said}))


def total(lines: Iterable[Line], tolerance: Tolerance) -> Line:
    """Give the line of all lines together."""
    both = list(lines)
    ledger, export = (_all([getattr(line, name) for line in both]) for name in ("ledger", "export"))
    return _line(("", ""), ledger, export, tolerance)


def _all(sides: list[Side]) -> Side:
    sums: dict[str, int | None] = {}
    for name in Side.__struct_fields__:
        values = [value for side in sides if (value := getattr(side, name)) is not None]
        sums[name] = sum(values) if values else None
    return Side(**{**sums, "estimated": sums["estimated"] or 0, "unpriced": sums["unpriced"] or 0})  # type: ignore[arg-type]


def _side(row: Said) -> Side:
    return Side(row.requests, row.input_tokens, row.cached_input_tokens, row.output_tokens, row.cost_nano_usd)


def _by_day(sides: dict[Key, Side]) -> dict[Key, Side]:
    days: dict[str, list[Side]] = {}
    for (day, _), side in sides.items():
        days.setdefault(day, []).append(side)
    return {(day, ""): _all(found) for day, found in days.items()}


def _renamed(ours: dict[Key, Side], said: dict[Key, Side]) -> dict[Key, Side]:
    """Use the export's name for a model, where it has another one for it: with a date, or as people write it."""
    found: dict[Key, Side] = {}
    for (day, model), side in ours.items():
        name = model
        if (day, model) not in said:
            others = [other for when, other in said if when == day and (day, other) not in ours]
            alike = [other for other in others if plain(other) == plain(model)]
            name = alike[0] if len(alike) == 1 else model
        before = found.get((day, name))
        found[day, name] = side if before is None else _all([before, side])
    return found


def plain(model: str) -> str:
    """Write a model's name without its date and with hyphens alone: `Claude Haiku 4.5` is `claude-haiku-4-5`."""
    return _DATE.sub("", re.sub(r"[ ._]+", "-", model.strip().lower()))


def _line(key: Key, ledger: Side, export: Side, tolerance: Tolerance) -> Line:
    """Compare what both say. Where the export lacks the row, it says nothing was used."""
    silent = all(getattr(export, name) is None for name in FIGURES)
    difference: dict[str, int | None] = {}
    within = True
    for name in ("requests", *FIGURES):
        ours, theirs = getattr(ledger, name), getattr(export, name)
        if theirs is None and not silent:
            continue
        difference[name] = (ours or 0) - (theirs or 0)
        if name in FIGURES:
            within = within and abs(difference[name] or 0) <= _allowed(name, theirs or 0, tolerance)
    return Line(*key, ledger, export, Side(**difference), within)  # type: ignore[arg-type]


def _allowed(name: str, theirs: int, tolerance: Tolerance) -> int:
    share = abs(theirs) * tolerance.basis_points // BASIS_POINTS
    return max(share, tolerance.nano_usd) if name == "cost_nano_usd" else share


def dollars(nano_usd: int | None) -> str | None:
    """Write an amount; None stays None."""
    return None if nano_usd is None else usd(nano_usd)
