"""What the head of an answer to a call says: what comes, who answered, in which lane, after how many tries, at what cost.

Pure. As headers for any answer, or as the very lines for one that needs no task.
Place in the line: beside `app.py`, which sends them.
"""

import re
from collections.abc import Sequence
from typing import Final

from penstock.reply import Opening
from penstock.server.request import Header
from penstock.target import usd

JSON: Final = (b"content-type", b"application/json")

LONGEST_NAME, MOST_NAMES = 64, 40
"""Of what a target could not express, no more is listed in a header."""
COSTS: Final = 1024
"""Amounts of which the line is remembered; then remembering begins anew."""

_ONE_TRY: Final = (b"x-penstock-tries", b"1")
_UNFIT: Final = re.compile(r"[^\x21-\x2b\x2d-\x7e]+")
LINES: Final = (
    b"content-type: application/json\r\nx-penstock-call: %b\r\nx-penstock-target: %b\r\n"
    b"x-penstock-tries: 1\r\nx-penstock-lane: verbatim\r\n%b%b"
)
"""What `headers_of` and `cost_of` say of a whole answer of the first try, on the verbatim lane: the ids of call and target are to
be put in, the provider's own headers and the line of the cost."""


def headers_of(kind: Header, opening: Opening) -> list[Header]:
    """Say what comes, who answered, how, and what the provider itself said in its headers."""
    who, target, lane = opening.call_id.encode(), opening.target.encode(), opening.lane.encode()
    tries = _ONE_TRY if opening.tries == 1 else (b"x-penstock-tries", b"%d" % opening.tries)
    headers = [kind, (b"x-penstock-call", who), (b"x-penstock-target", target), tries, (b"x-penstock-lane", lane)]
    if opening.dropped or opening.cache != "none":
        headers += _rarely(opening)
    headers += opening.headers
    return headers


def cost_of(nano_usd: int) -> Header:
    """Say what an answer cost."""
    return b"x-penstock-cost-usd", usd(nano_usd).encode()


class Costs(dict[int | None, bytes]):
    """The line that says what an answer cost, by nano-dollars; none where that is not known."""

    def __missing__(self, nano_usd: int | None) -> bytes:
        line = b"" if nano_usd is None else b"%b: %b\r\n" % cost_of(nano_usd)
        if len(self) >= COSTS:
            self.clear()
        self[nano_usd] = line
        return line


def lines_of(headers: Sequence[Header]) -> bytes:
    """Write headers as lines."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _listed(names: Sequence[str]) -> bytes:
    """List names in a header; those of unknown members are the client's own, which could have anything in them."""
    shown = [_UNFIT.sub("_", name)[:LONGEST_NAME] for name in names[:MOST_NAMES]]
    return ", ".join(shown).encode()


def _rarely(opening: Opening) -> list[Header]:
    headers = [] if opening.cache == "none" else [(b"x-penstock-cache", opening.cache.encode())]
    if opening.dropped:
        headers.append((b"x-penstock-dropped", _listed(opening.dropped)))
    return headers
