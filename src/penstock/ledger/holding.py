"""How a hold stands in the file of `balances.py`: one line, whose first word is its ceiling and one, or 0 where it is free.

Behind that are the id of its call and the numbers of the lines of the balances that it counts in.
"""

from collections.abc import Sequence
from struct import Struct as Layout
from typing import Final

from msgspec import Struct

LINE = 8
"""Words in a line."""
BALANCES_PER_HOLD = 10
"""A day and a month of each of five kinds of scope."""
RECORD: Final = Layout(f"=16s{BALANCES_PER_HOLD}I")
"""All but the first word of a record."""

_LINES: Final = tuple(Layout(f"={n}I{4 * (BALANCES_PER_HOLD - n)}x") for n in range(BALANCES_PER_HOLD + 1))


class Open(Struct, frozen=True, gc=False):
    """A record: where it stands, the 16 bytes of its call's id, what it holds and the balances that it holds it in."""

    at: int
    call: bytes
    ceiling: int
    lines: tuple[int, ...]


def packed(lines: Sequence[int]) -> bytes:
    """Give the places of balances as they stand in a record."""
    return _LINES[len(lines)].pack(*[line // LINE for line in lines])
