"""What there is one of for each event loop, made when somebody first asks for it.

It lives in the loop's own namespace and ends with it, so that no module holds state. It decides nothing.
Place in the line: below all that many calls share while they are under way, as `outbox.py` and `passage.py` are.
"""

from asyncio import AbstractEventLoop
from typing import ClassVar, Self


class PerLoop:
    """Something that a loop has one of; it is made with the loop alone. `_name` is what the loop has it by."""

    __slots__ = ()

    _name: ClassVar[str]

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Begin for this loop."""

    @classmethod
    def of(cls, loop: AbstractEventLoop) -> Self:
        """Give the loop's own."""
        found: Self | None = vars(loop).get(cls._name)
        if found is None:
            found = vars(loop)[cls._name] = cls(loop)
        return found
