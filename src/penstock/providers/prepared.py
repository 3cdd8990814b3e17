"""A call that can be sent this moment, and what becomes of it without a task: see `direct.py`.

Nearly always that is a whole answer of which nothing is unusual, which is told in one value; whatever else there is the provider
reads. Place in the line: `http.py` prepares calls, `pool.py` sends them.
"""

from asyncio import CancelledError
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from msgspec import Struct

from penstock.call import Call
from penstock.plugins import Exchange, Waiter, WholeExchange
from penstock.providers.auth import Header
from penstock.providers.exchange import Reply
from penstock.providers.pool import Pool
from penstock.receipt import Lane
from penstock.reply import Told
from penstock.target import Target


class Sender(Protocol):
    """The provider of such a call. Of the headers that are `silent` there is nothing to pass on."""

    silent: Sequence[Header]

    def pass_on(self, headers: Sequence[Header]) -> tuple[Header, ...]:
        """Keep of the headers of a reply what clients rely on."""
        ...

    def whole(self, reply: Reply, call: Call, target: Target) -> WholeExchange | None:
        """Give the answer, where that is what has come, all of it."""
        ...

    async def arrived(self, reply: Reply, call: Call, target: Target) -> Exchange:
        """Give what has come, or raise what came instead of a reply."""
        ...

    async def send(self, call: Call, target: Target, deadline: float) -> Exchange:
        """Send the call and wait until its reply begins."""
        ...


class Prepared(Struct, eq=False):
    """One call; once it has told its answer it stands for the exchange, of which nothing is left to read."""

    provider: Sender
    pool: Pool
    call: Call
    target: Target
    say: Callable[[bytes], Told | None]
    request: bytes
    reply: Reply | None = None
    headers: tuple[Header, ...] = ()
    by_outbox: bool = True
    lane: ClassVar[Lane] = "verbatim"
    dropped: ClassVar[tuple[str, ...]] = ()
    status: ClassVar[int] = 200
    __repr__ = object.__repr__  # shows no content

    def leave(self, deadline: float, waiter: Waiter) -> bool:
        """Send it, and have `waiter` told when its reply has come, or a part of it, or a fault; False: nothing was sent."""
        self.reply = reply = self.pool.begin(self.request, deadline, waiter)
        return reply is not None

    def tell(self) -> Told | None:
        """Give the answer in one value, where it has come, is whole, and nothing is unusual in it."""
        reply = self.reply
        if reply is None or (body := reply.whole) is None or reply.status != 200:
            return None
        say = self.say
        if reply.headers is not self.provider.silent:
            self.headers = self.provider.pass_on(reply.headers)
        return say(body)

    def answer(self) -> WholeExchange | None:
        """Give the answer, where it has come and is whole; None for whatever else there is."""
        return None if self.reply is None else self.provider.whole(self.reply, self.call, self.target)

    async def arrived(self, deadline: float) -> Exchange:
        """Give what has come instead of a whole answer, after it is sent if it was not. Raises an `UpstreamError`."""
        reply = self.reply
        if reply is None:
            return await self.provider.send(self.call, self.target, deadline)
        if reply.connection is not None:  # it has begun to stream, and may last as long as the call from here on
            reply.connection.deadline = deadline
        await reply.begun()
        return await self.provider.arrived(reply, self.call, self.target)

    def abandon(self, why: CancelledError) -> None:
        """Let go of the reply since its call was cancelled, which learns if its request had not even gone out."""
        if self.reply is not None:
            self.reply.abandon(why)

    async def read(self) -> None:
        """Give nothing more."""

    def close(self) -> None:
        """Hold nothing: its connection has gone back already."""
