"""How requests are answered without their connections' tasks: what connections and handler say to each other meanwhile.

The handler is asked at once (`AtOnce`), for all requests that begin in a turn of the loop together. Of those that it takes the
connections wait for their `reply`, or for the word that the task has to `go_on` with what was begun; and tell it if the client
hangs up. The task sleeps through all of it. Place in the line: between `reading.py` and `http11.py`, which owns the socket.
"""

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from penstock.server.outlet import Clock, Outlet
from penstock.server.reading import READY, Reading
from penstock.server.request import Head, Refused, Request
from penstock.together import together


class Client(Protocol):
    """The connection of such a request. The handler says what it has `begun` for it, replies, or has its task go on."""

    begun: "Begun | None"

    @property
    def asked(self) -> Head | None:
        """The head of the request; None once it is answered, or for the task."""

    @property
    def body(self) -> bytes:
        """Its body."""

    def reply(self, answer: bytes) -> None:
        """Send the whole answer: a head that says how long its body is, and that. Once."""

    def go_on(self, begun: "Begun | None") -> None:
        """Have the task handle the request, which was `begun`, or read at the least. Once, instead of `reply`."""


class Begun(Protocol):
    """Such a request while it lasts."""

    def abandon(self, why: asyncio.CancelledError) -> None:
        """Give it up: its client is gone, or the server ends. Nothing happens to one that is over, or gone on with."""


AtOnce = Callable[[Sequence[Client]], None]
"""Begins to answer requests; those that it leaves as they are are for the task, which handles them from the start."""


def never(_clients: Sequence[Client]) -> None:
    """Leave every request to the task."""


class Host(Clock, Protocol):
    """The server of a connection; `at_once` is asked first."""

    at_once: AtOnce

    @property
    def on_crash(self) -> Callable[[BaseException], None]:
        """Is told what should not have been raised."""


class Direct(Reading):
    """A connection between two requests, and while one is answered without its task."""

    __slots__ = (
        *("_held", "_next", "_outlet", "_parked", "_queue", "_queued_bytes", "_server"),
        *("asked", "begun", "body", "transport"),
    )

    transport: asyncio.Transport
    _outlet: Outlet
    _queue: deque[Request | Refused]
    _queued_bytes: int
    _next: "asyncio.Future[Request | Refused | None] | None"  # here the task waits between requests
    _parked: "asyncio.Future[Request | Refused | None] | None"  # and here while something is answered without it
    _held: Request | None  # stands in line for its turn
    asked: Head | None  # so does this one, which has come before; or it is answered without the task
    body: bytes  # its body
    begun: Begun | None
    _server: Host

    @property
    def stands(self) -> bool:
        """Whether a request stands in line, from when it comes until it is taken up: its client may leave meanwhile."""
        return self._held is not None or (self.asked is not None and self._parked is None)

    def resume(self) -> None:
        """Have the task take up the request that stood in line, if there is one and its client is still there."""
        request, self._held = self._held, None
        if request is not None and not self._outlet.gone:
            self._take_up(request)

    def park(self) -> None:
        """Have the task sleep on, if there is one, while the request is answered without it."""
        self._next, self._parked = None, self._next

    def reply(self, answer: bytes) -> None:
        """Send the whole answer: a head that says how long its body is, and that. Once."""
        server, outlet = self._server, self._outlet
        if outlet.draining:
            answer = answer.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
        if server.in_flight > 1 and not (outlet.pending or outlet.gone):  # as `write` has it
            outlet.pending, add = answer, server.outbox.add
            add(outlet)
        else:
            outlet.write(answer)
        self._next, self._parked, self.begun = self._parked, None, None
        self.asked, self.body = None, b""
        server.in_flight -= 1
        if self._queue or self._state != READY or outlet.draining:
            self._go_ahead()
        else:
            self.deadline = server.now + server.limits.keepalive_s

    def _go_ahead(self) -> None:
        """Go on behind a reply, where that is not to wait for another request."""
        if self._outlet.draining:
            self._end(linger=bool(self._queue) or self._state != READY)
        elif self._queue:
            self._take_up(self._pop())
        elif self._waits:
            self._set_deadline()

    def go_on(self, begun: Begun | None) -> None:
        """Have the task handle the request, which was `begun`. Once, instead of `reply`."""
        request = self._asked_again(begun)
        self._unpark()
        self._take_up(request)

    def _asked_again(self, begun: Begun | None = None) -> Request:
        """Give the whole of the request that stands in line, or is answered without the task."""
        assert self.asked is not None, "only such a request is gone on with, given up or turned away"
        return self.asked.request(self.body, self._endpoints, begun)

    def _leave_line(self) -> Request | None:
        """Have no request stand in line any more, and give the one that did."""
        held, self._held = self._held, None
        if self.asked is not None:
            held, self.asked, self.body = self._asked_again(), None, b""
        return held

    def _unpark(self) -> None:
        self._next, self._parked, self.begun = self._parked, None, None
        self.asked, self.body = None, b""
        self._server.in_flight -= 1

    def _wake(self, item: Request | Refused) -> None:
        waiter, self._next = self._next, None
        if waiter is not None:
            waiter.set_result(item)

    def _give_up(self, why: asyncio.CancelledError) -> Request | None:
        """Give up what is answered without the task, and say what that was."""
        begun = self.begun
        if begun is None:
            self._leave_line()
            return None
        begun.abandon(why)
        if self.begun is None:
            return None  # its answer was there already
        request = self._asked_again()
        self._unpark()
        return request

    def _wait(self) -> "asyncio.Future[Request | Refused | None]":
        """Return the future that brings the next request, or None at the end."""
        self._next = waiter = self._server.loop.create_future()
        if self._outlet.gone:
            waiter.set_result(None)
        elif self._state == READY:
            self.deadline = self._server.now + self._server.limits.keepalive_s
        elif self._waits:
            self._set_deadline()
        return waiter

    async def _dequeue(self) -> Request | Refused:
        await asyncio.sleep(0)  # other clients have their turn
        return self._pop()

    def _pop(self) -> Request | Refused:
        item = self._queue.popleft()
        if isinstance(item, Request):
            self._queued_bytes -= len(item.body)
        if self._paused and not self._queue:
            self._resume_reading()
        return item

    def _resume_reading(self) -> None:
        self._paused = False
        self.transport.resume_reading()
        self._set_deadline()

    @abstractmethod
    def _take_up(self, item: Request | Refused) -> None:
        """Have the task answer a request, or refuse what is none; it begins with the first one that is for it."""

    @abstractmethod
    def _end(self, *, linger: bool) -> None:
        """Close after what was written."""


def take_up(server: Host, connections: Iterable[Direct]) -> None:
    """Take up the requests that stood in line or have just come, of those clients that are still there."""
    asking: list[Direct] = []
    held: list[Direct] = []
    for each in connections:
        if each.asked is None:
            held.append(each)
        else:
            each.park()
            asking.append(each)
    if asking:
        server.in_flight += len(asking)
        together(partial(_ask, server.at_once), (asking,), _leave)
        for each in asking:
            if each.begun is None and each.asked is not None:
                each.go_on(None)
    together(_resume, held, lambda _, error: server.on_crash(error))


def _ask(at_once: AtOnce, left: Iterator[Sequence[Direct]]) -> None:
    for asking in left:
        at_once(asking)


def _leave(_asking: Sequence[Direct], _why: Exception) -> None:
    """Leave requests to their tasks, which will meet the same again, and know what to answer."""


def _resume(left: Iterator[Direct]) -> None:
    for each in left:
        each.resume()
