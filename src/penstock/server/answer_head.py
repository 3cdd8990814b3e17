"""What the head of an answer to a call says: what comes, who answered, in which lane, after how many tries, at what cost.

Pure. As headers for any answer, or in the pieces of the very text for one that needs no task.
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
REMEMBERED: Final = 1024
"""Amounts, and targets, of which the lines are remembered; then remembering begins anew."""

_ONE_TRY: Final = (b"x-penstock-tries", b"1")
_UNFIT: Final = re.compile(r"[^\x21-\x2b\x2d-\x7e]+")
BEGINNING: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-penstock-call: "
"""How a whole answer of the first try begins, on the verbatim lane. Behind it stand the id of the call, the line of the target
(`Targets`), the provider's own headers, the line of the cost (`Costs`) and that of the length: as `headers_of` has them."""


def headers_of(kind: Header, opening: Opening, *more: Header) -> list[Header]:
    """Say what comes (`more` of it than the kind), who answered, how, and what the provider itself said in its headers."""
    call, target = (b"x-penstock-call", opening.call_id.encode()), (b"x-penstock-target", opening.target.encode())
    tries = _ONE_TRY if opening.tries == 1 else (b"x-penstock-tries", b"%d" % opening.tries)
    headers = [kind, *more, call, target, tries, (b"x-penstock-lane", opening.lane.encode())]
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
        if len(self) >= REMEMBERED:
            self.clear()
        self[nano_usd] = line
        return line


class Targets(dict[str, bytes]):
    """What stands behind the id of the call, by the target that answered."""

    def __missing__(self, target: str) -> bytes:
        line = b"\r\nx-penstock-target: %b\r\nx-penstock-tries: 1\r\nx-penstock-lane: verbatim\r\n" % target.encode()
        if len(self) >= REMEMBERED:
            self.clear()
        self[target] = line
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
