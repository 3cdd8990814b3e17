"""The sending half of a connection to an upstream: how a request leaves, and how one is taken back that has not left.

A request that is alone leaves at once, others leave together at the end of the turn of the loop (`outbox.py`); so does one whose
call has to be on disk before. Where that fails it never leaves. Place in the line: `connection.py` is the other half.
"""

import asyncio
from collections.abc import Callable
from math import inf

import msgspec

from penstock.errors import PenstockError
from penstock.outbox import Outbox
from penstock.plugins import Waiter
from penstock.providers.exchange import Fault, Reply


class Sending:
    """What a connection sends, and when that has to be answered: `due` is when the upstream was silent for too long."""

    __slots__ = ("_first_byte_s", "_unsent", "deadline", "due", "intent", "loop", "pending", "reply", "send")

    reply: Reply | None
    send: Callable[[bytes], None]  # the transport's
    _first_byte_s: float

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.reply = None
        self.pending = b""  # a request that is to be written, by `send`, at the end of this turn of the loop
        self.intent = ""  # of its call, which is to be on disk before
        self.due = self.deadline = inf
        self._unsent = False

    def start(self, deadline: float, now: float, waiter: Waiter | None = None) -> Reply:
        """Await the reply to a request that is about to be written.

        Its `waiter`, a future where none is given, resolves when it is whole, when it has begun to stream, or on a fault.
        """
        self.deadline = deadline
        self.due = now + self._first_byte_s
        waiter = self.loop.create_future() if waiter is None else waiter
        reply = self.reply = Reply(self, waiter)  # type: ignore[arg-type]  # the other half has the rest
        return reply

    def ask(self, request: bytes, deadline: float, now: float, waiter: Waiter, outbox: Outbox | None) -> Reply:
        """Do as `start`, and write the request: at the end of this turn of the loop, where an outbox is given or one is due."""
        self.deadline = deadline
        self.due = now + self._first_byte_s
        reply = self.reply = Reply(self, waiter)  # type: ignore[arg-type]  # the other half has the rest
        if outbox is None and not (outbox := Outbox.of(self.loop)).due:
            self.send(request)
        else:
            self.pending, add = request, outbox.add
            self.intent, outbox.intent = outbox.intent, ""
            add(self)
        return reply

    def refuse(self, why: PenstockError) -> None:
        """Note that the request must not go out: whoever awaits its reply is told why, where it would have been written."""
        reply = self.reply
        if reply is not None:  # else nobody does any more
            self.send = lambda _: take_back(reply, why)

    # The transport calls, whose buffer has hardly any room.

    def pause_writing(self) -> None:
        """Note that part of a request waits for the upstream to read."""
        self._unsent = True

    def resume_writing(self) -> None:
        """Note that the request is out."""
        self._unsent = False


class _Outgoing(msgspec.Struct, eq=False):
    """A request that is written at the end of this turn of the loop."""

    reply: Reply
    pending: bytes
    write: Callable[[bytes], None]
    intent: str = ""
    why: PenstockError | None = None  # it must not go out

    def send(self, request: bytes) -> None:
        """Write it, unless nobody awaits its reply any more."""
        reply, waiter = self.reply, self.reply.waiter
        if reply.connection is not None and not (waiter is not None and waiter.cancelled()):
            if self.why is not None:
                take_back(reply, self.why)
                return
            reply.unsent = False
            self.write(request)

    def refuse(self, why: PenstockError) -> None:
        """Note that it must not go out: whoever awaits its reply is told why, at the end of this turn as well."""
        self.why = why


def take_back(reply: Reply, why: PenstockError) -> None:
    """Fail the reply to a request that must not go out."""
    connection = reply.connection
    assert connection is not None, "a request that waits to be written has its connection"
    waiter, reply.waiter = reply.waiter, None  # it is told after the fault is there
    connection.fail("aborted", why.message)
    reply.fault, reply.unsent = Fault("aborted", why.message, sent=False, why=why), True
    reply.waiter = waiter
    reply.wake()


def depart(reply: Reply, request: bytes, write: Callable[[bytes], None], outbox: Outbox | None) -> Reply:
    """Write the request of this reply; with an `outbox` at the end of this turn of the loop, together with others.

    So it is without one where something has to be on disk before.
    """
    if outbox is None:
        assert reply.connection is not None, "a reply that is about to be asked for has its connection"
        outbox = Outbox.of(reply.connection.loop)
        if not outbox.due:
            write(request)
            return reply
    reply.unsent = True
    outbox.add_request(_Outgoing(reply, request, write))
    return reply
