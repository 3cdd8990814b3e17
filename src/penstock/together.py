"""Takes many calls one step further together, where what befalls one of them concerns no other.

A step is a loop over those that are left; where it raises, the call that it was at is told of as failed, and the step goes on
behind it. So a loop for a thousand calls costs nothing more than the loop. It decides nothing.
Place in the line: below all steps that are taken for the calls of a turn of the event loop.
"""

from collections.abc import Callable, Iterator, Sequence
from operator import length_hint
from typing import TypeVar

T = TypeVar("T")


def together(
    step: Callable[[Iterator[T]], object], calls: Sequence[T], failed: Callable[[T, Exception], object]
) -> None:
    """Have `step` take every one of `calls`; what it raises is told to `failed`, with the call that it had taken last."""
    left = iter(calls)
    while True:
        try:
            step(left)
        except Exception as error:
            taken = len(calls) - length_hint(left)
            if not taken:
                raise  # before the first one: it concerns none of them
            failed(calls[taken - 1], error)
        else:
            return
