"""What is written in one turn of the event loop, handed to the kernel at its end, all of it together.

A write to a socket wakes whoever reads it, on another processor: with an idle reader that costs more than the rest of the
write, and a reader that is awake already costs nothing. So where many calls are under way, what they write waits for the end
of the turn, which is never longer than the turn itself. Nothing is held back beyond it, and nothing is put in another order.

What has to be on disk before any of that is written (`before`) is done first, once for the whole turn. Whoever writes to a
socket without waiting for the end of the turn looks whether something is `due`, and has it done (`commit`). Where the record
of a call cannot be written, its request is taken back (`refuse`).

Place in the line: below both ends of it, the clients' (`server/outlet.py`) and the providers' (`providers/connection.py`),
and below the ledger.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from penstock.errors import PenstockError
from penstock.per_loop import PerLoop


class Sender(Protocol):
    """Has something to write."""

    pending: bytes  # what it is; empty where that is of no more use
    intent: str  # names the call whose intent has to be on disk before; empty for what is no request

    @property
    def send(self) -> Callable[[bytes], object]:
        """Writes it. Does not raise."""


class Request(Sender, Protocol):
    """Has the request of a call to write."""

    def refuse(self, why: PenstockError) -> None:
        """Note that it must not go out."""


class Outbox(PerLoop):
    """Those who write at the end of this turn of the loop. `due` is what has to be done before anybody writes.

    `add` lets somebody write at the end of this turn; once, until then.
    `intent` names the call that was the last to ask for its intent to be written in this turn, until its request is here.
    """

    _name = "penstock_outbox"

    __slots__ = ("_last", "_loop", "_scheduled", "_senders", "add", "due", "intent")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.due: list[Callable[[], object]] = []
        self.intent = ""
        self._loop = loop
        self._senders: list[Sender] = []
        self._last: list[Callable[[], object]] = []
        self._scheduled = False
        self.add: Callable[[Sender], None] = self._add_first

    def add_request(self, request: Request) -> None:
        """Do as `add`; where the intent of its call is not on disk yet, it goes out with that or not at all."""
        request.intent, self.intent = self.intent, ""
        self.add(request)

    def before(self, work: Callable[[], object]) -> None:
        """Have something done before anybody writes, at the end of this turn or earlier."""
        if not self._scheduled:
            self._schedule()
        self.due.append(work)

    def at_end(self, work: Callable[[], object]) -> None:
        """Have something done at the end of this turn, before `due` and the writing; what it writes belongs to this turn."""
        if not self._scheduled:
            self._schedule()
        self._last.append(work)

    def refuse(self, intent: str, why: PenstockError) -> None:
        """Take back the request of a call whose intent could not be written."""
        for sender in self._senders:
            if sender.intent == intent:
                cast(Request, sender).refuse(why)

    def commit(self) -> None:
        """Do now what has to be done before anybody writes."""
        due = self.due
        while due:
            due[-1]()
            due.pop()

    def _add_first(self, sender: Sender) -> None:
        """Do what `add` is to do, where nothing is scheduled; for all others of this turn `add` is nothing but the list's own."""
        self._schedule()
        self._senders.append(sender)

    def _schedule(self) -> None:
        self._scheduled, self.add = True, self._senders.append
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Do what is left to do, and write. Whatever is raised on the way, the rest has its turn in the next one."""
        last, self._last = iter(self._last), []
        left: Iterator[Sender] = iter(())
        try:
            for work in last:
                work()
            if self.due:
                self.commit()
            left, self._senders = iter(self._senders), []
            self._scheduled, self.add, self.intent = False, self._add_first, ""
            for sender in left:
                data = sender.pending
                if data:
                    sender.pending, send = b"", sender.send
                    send(data)
        except BaseException:
            self._last[:0] = last
            self._senders[:0] = left
            if self._last or self._senders or self.due:
                self._schedule()
            raise
        if self._last and not self._scheduled:
            self._schedule()
