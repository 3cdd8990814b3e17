"""What is written in one turn of the event loop, handed to the kernel at its end, all of it together.

A write to a socket wakes whoever reads it, on another processor: with an idle reader that costs more than the rest of the
write, and a reader that is awake already costs nothing. So where many calls are under way, what they write waits for the end
of the turn, which is never longer than the turn itself. Nothing is held back beyond it, and nothing is put in another order.

Place in the line: below both ends of it, the clients' (`server/outlet.py`) and the providers' (`providers/connection.py`).
"""

from asyncio import AbstractEventLoop
from typing import Protocol


class Sender(Protocol):
    """Has something to write."""

    def flush(self) -> None:
        """Write it, unless that is of no more use. Does not raise."""


class Outbox:
    """Those who write at the end of this turn of the loop."""

    __slots__ = ("_loop", "_senders")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._senders: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Let somebody write at the end of this turn; once, until then."""
        if not self._senders:
            self._loop.call_soon(self._flush)
        self._senders.append(sender)

    def _flush(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.flush()
