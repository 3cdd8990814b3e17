"""Which sums that are kept already serve a question, and what is left to be summed from the calls. Pure.

What calls sum up to is kept by quarters of an hour and by days (UTC), in up to eight ways (`WAYS`): by each dimension and
by all of them but the user. A span is cut into whole days that have sums by what is asked for, whole quarters that have,
and the rest, for which the calls themselves are read. Whatever is kept or missing, the answer is the same.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from penstock.ledger import summing
from penstock.ledger.ids import first_key
from penstock.ledger.periods import MAX_NS, QUARTER_NS

DAY: Final = 96
"""Quarters of an hour in a day."""

NAMES: Final = ("feature", "model", "team", "user", "key", "target", "prompt")
"""What calls are summed by beside time, in the order in which sums have it."""

WAYS: Final = (
    *(("feature",), ("model",), ("team",), ("target",), ("prompt",), ("key",), ("user",)),
    ("feature", "model", "team", "key", "target", "prompt"),
)
"""The ways in which sums are kept, the smallest first; each is known by its place."""
WIDE: Final = len(WAYS) - 1
PAIRS: Final = (("model", "target"), ("team", "key"), ("feature", "prompt"))
"""Names of which one mostly follows from the other: what is summed up by both is soon summed up by each."""

LATE_NS: Final = 300_000_000_000
"""How long after its end the calls of a quarter are awaited: those that began in it end later."""

_SLACK_NS = 60_000_000_000
"""How far a call's moment may lie from that of its id."""


class Span(Struct, frozen=True, gc=False):
    """From `since_ns` up to but not including `until_ns`."""

    since_ns: int
    until_ns: int


class Piece(Struct, gc=False):
    """A part of a span: kept sums of a way, by so many `quarters`; or calls, where `quarters` is 0."""

    quarters: int
    way: int
    since_ns: int
    until_ns: int


Marks = Callable[[int, int, int], Iterable[tuple[int, int]]]
"""By a length in quarters, a first quarter and one beyond the last: which have sums, in order, and a bit per way."""


def pieces(span: Span, by: Sequence[str], marks: Marks, lengths: Sequence[int] = (DAY, 1)) -> list[Piece]:
    """Cut a span into what kept sums of these lengths give by these names, and what only the calls do."""
    ways = [way for way, names in enumerate(WAYS) if set(by) <= set(names)]
    whole = Span(max(span.since_ns, 0), min(span.until_ns, MAX_NS))
    rest = [whole] if whole.since_ns < whole.until_ns else []
    found: list[Piece] = []
    for length in lengths if ways else ():
        left: list[Span] = []
        for gap in rest:
            left += _cover(gap, length, ways, marks, found)
        rest = left
    return found + [Piece(0, 0, gap.since_ns, gap.until_ns) for gap in rest]


def _cover(gap: Span, length: int, ways: Sequence[int], marks: Marks, found: list[Piece]) -> list[Span]:
    """Add the pieces of a gap that have sums of this length; give what is left of it."""
    size = length * QUARTER_NS
    first, beyond = -(-gap.since_ns // size) * length, gap.until_ns // size * length
    left: list[Span] = []
    at, last = gap.since_ns, None
    for quarter, kept in marks(length, first, beyond) if first < beyond else ():
        way = next((way for way in ways if kept >> way & 1), None)
        if way is None:
            continue
        start = quarter * QUARTER_NS
        if last is not None and last.way == way and last.until_ns == start:
            last.until_ns = start + size
        else:
            last = Piece(length, way, start, start + size)
            found.append(last)
        if start > at:
            left.append(Span(at, start))
        at = start + size
    if at < gap.until_ns:
        left.append(Span(at, gap.until_ns))
    return left


def bounds(span: Span) -> dict[str, Any]:
    """Give the span as parameters: as moments, and as the keys that can hold them, ids being in order of time."""
    since, until = max(span.since_ns, 0), min(span.until_ns, MAX_NS)
    first, beyond = first_key(since - _SLACK_NS), first_key(until + _SLACK_NS)
    return {"first": first, "beyond": beyond, "since_ns": since, "until_ns": until}


def part_of(piece: Piece, by: Sequence[str], *, timed: bool, grouped: bool = True) -> tuple[str, dict[str, Any]]:
    """Give the statement that sums a piece up by these names, and its values but for :step."""
    if not piece.quarters:
        return summing.sums_of_calls(by, timed=timed, grouped=grouped), bounds(Span(piece.since_ns, piece.until_ns))
    first, beyond = piece.since_ns // QUARTER_NS, piece.until_ns // QUARTER_NS
    values = {"way": piece.way, "quarters": piece.quarters, "first_quarter": first, "beyond_quarter": beyond}
    return summing.sums_of_sums(by, timed=timed), values
