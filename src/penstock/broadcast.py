"""One call that several callers follow: its answer is recorded as it comes in, and each gets all of it.

The call runs in a task of its own. Whoever comes later gets what was recorded so far, then every chunk as it arrives. Nobody
slows the others down, and the source waits only for the fastest of them. A caller that leaves, the one that began it too,
ends nothing as long as another follows; when the last one leaves, the call is cancelled. Memory is bounded: of a long
answer is forgotten what all have read, and whoever is too far behind then gets no more of it.

It decides nothing about calls and knows no cache. Place in the line: used by `sharing.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from typing import Any, Final, Protocol

from msgspec import Struct, structs

from penstock.errors import (
    SHUTDOWN,
    BudgetExhausted,
    ClientClosed,
    DeadlineExceeded,
    Internal,
    Overloaded,
    PenstockError,
    RateLimited,
)
from penstock.event import Failed
from penstock.ledger.cache import size
from penstock.receipt import Receipt
from penstock.reply import Chunk, Opening

RECORD_BYTES: Final = 8 << 20
"""A longer answer is followed by nobody who comes later, and what all have read of it is forgotten."""
AHEAD_BYTES: Final = 256 << 10
"""What may be recorded that even the fastest caller has not read."""
ENDING_S: Final = 1.0
"""How long a caller that is being shut down waits for the last word of its answer."""

_ITS_OWN: Final = (DeadlineExceeded, BudgetExhausted, RateLimited)
"""What a leader may fail of that need not concern those who follow."""

Give = Callable[[Chunk], bool]
Room = Callable[[], Awaitable[None]]
Finish = Callable[[PenstockError | None, Receipt | None], Receipt | None]
"""Settles a follower's call: why it failed, and the leader's receipt, as far as that has ended."""


class Answer(Protocol):
    """What a call gives; `penstock.flow.Flow` is one."""

    opening: Opening

    async def pump(self, give: Give, room: Room) -> None:
        """Hand every chunk to `give`, up to the last, which has the receipt; where it says True, wait for `room`."""
        ...

    def close(self) -> None:
        """Settle the call, if it has not come to its end."""
        ...


Work = Callable[[], Coroutine[Any, Any, Answer]]


class Joining(Struct, frozen=True):
    """One caller: the id of its own call, its deadline in the loop's seconds, and what settles it if it only follows.

    `finish` is told once how a follower's call ended, and gives its receipt. It is never called for a leader, whose call
    is settled by its own work.
    """

    call_id: str
    deadline: float
    finish: Finish


def again(error: PenstockError) -> PenstockError:
    """Make the same error once more, for another call: errors are given the id of the call that they end."""
    fresh: PenstockError = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    fresh.call_id = ""
    return fresh


class Following:
    """An answer as one caller gets it, with the face of a `Flow`. It has to be closed."""

    __slots__ = (
        *("at", "done", "failed", "leads", "opening", "read"),
        *("_broadcast", "_joining", "_left", "_timer", "_waiter"),
    )

    opening: Opening

    def __init__(self, broadcast: "Broadcast", joining: Joining, *, leads: bool) -> None:
        self.done = False
        self.leads = leads
        self.at = 0  # how many chunks it has had
        self.read = 0  # and how many bytes of memory they took
        self.failed: PenstockError | None = None  # why this caller alone gets no more
        self._broadcast = broadcast
        self._joining = joining
        self._left = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def expire_in(self, seconds: float) -> None:
        """Fail at that time; a leader's deadline is its own call's business."""
        if seconds < inf:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self.fail(DeadlineExceeded("The deadline passed while the call was being answered."))

    def fail(self, error: PenstockError) -> None:
        """Get no more of the answer, for this reason."""
        self.failed = self.failed or error
        self.wake()

    def wake(self) -> None:
        """Look again whether there is something to give."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def opened(self) -> bool:
        """Wait for the opening; False where the leader failed of its own and another has to lead. Raises PenstockError."""
        broadcast = self._broadcast
        try:
            while broadcast.opening is None and broadcast.error is None and self.failed is None:
                await self._wait()
        except asyncio.CancelledError as why:
            if SHUTDOWN in why.args:
                broadcast.stop(SHUTDOWN)
                self._leave(Overloaded("The gateway was shut down before the call ended."))
            self.close()
            raise
        error = self.failed or broadcast.error
        if error is None:
            assert broadcast.opening is not None, "without an error there is an opening"
            mine = self._joining.call_id
            self.opening = broadcast.opening if self.leads else structs.replace(broadcast.opening, call_id=mine)
            return True
        self.done = True
        if self.leads:
            self._leave(None)
            raise error
        if error is broadcast.error and isinstance(error, _ITS_OWN):
            self._drop()
            return False
        error = again(error)
        self._leave(error)
        raise error

    async def next(self) -> Chunk | None:
        """Give the next chunk; None after the last, which has this call's own receipt."""
        if self.done:
            return None
        broadcast = self._broadcast
        while not broadcast.over and (self.at >= broadcast.end or self.failed is not None):
            if self.failed is not None and not self.leads:
                break
            await self._wait()
        if self.failed is not None:
            return self._last(Chunk((Failed(self.failed),), None, broadcast.receipt))
        chunk = broadcast.take(self)
        if chunk is None:
            error = broadcast.error or Internal("The answer broke off.", hint="Ask again.")
            return self._last(Chunk((Failed(error),), None, broadcast.receipt))
        return chunk if chunk.receipt is None else self._last(chunk)

    def _last(self, chunk: Chunk) -> Chunk:
        self.done = True
        if self.leads:
            self._leave(None)
            return chunk
        events, error = chunk.events, None
        if events and isinstance(events[-1], Failed):
            error = again(events[-1].error)
            events = (*events[:-1], Failed(error))
        return Chunk(events, chunk.raw, self._leave(error))

    async def pump(self, give: Give, room: Room) -> None:
        """Hand every chunk to `give` as it arrives, up to the last; where it says True, wait for `room` first.

        Cancelled because the process ends, it gives the rest of what there is, and a last chunk that says so.
        """
        try:
            while (chunk := await self.next()) is not None:
                if give(chunk) and not self.done:
                    await room()
        except asyncio.CancelledError as why:
            if SHUTDOWN in why.args and not self.done:
                await self._broadcast.end_now()
                while (chunk := await self.next()) is not None:
                    give(chunk)
            raise

    def close(self) -> None:
        """Leave: a follower that has not come to the end is settled as one that hung up."""
        self.done = True
        self._leave(ClientClosed("The client closed the connection."))

    def _leave(self, error: PenstockError | None) -> Receipt | None:
        if self._left:
            return None
        self._drop()
        return None if self.leads else self._joining.finish(error, self._broadcast.receipt)

    def _drop(self) -> None:
        self._left = True
        if self._timer is not None:
            self._timer.cancel()
        self._broadcast.leave(self)


class Broadcast:
    """One call and those who follow it. `closed` is told once that nobody can join any more, `complete` of its end."""

    __slots__ = (
        *("error", "opening", "over", "receipt"),
        *(
            "_begun",
            "_bytes",
            "_chunks",
            "_closed",
            "_complete",
            "_first",
            "_followers",
            "_reason",
            "_relief",
            "_stopped",
            "_task",
            "_written",
        ),
    )

    def __init__(
        self, work: Work, closed: Callable[["Broadcast"], None], complete: Callable[[Opening, list[Chunk]], None]
    ) -> None:
        """Begin the work at once, in a task."""
        self.opening: Opening | None = None
        self.error: PenstockError | None = None
        self.receipt: Receipt | None = None  # the leader's
        self.over = False
        self._closed = closed
        self._complete = complete
        self._chunks: list[tuple[Chunk, int]] = []
        self._first = 0  # how many chunks before those are forgotten
        self._bytes = 0  # of those that are not
        self._written = 0  # of all
        self._followers: dict[Following, None] = {}  # in the order in which they came
        self._relief: asyncio.Future[None] | None = None
        self._begun = False
        self._stopped = False
        self._reason: str | None = None
        self._task = asyncio.get_running_loop().create_task(self._drive(work))

    @property
    def end(self) -> int:
        """How many chunks have come."""
        return self._first + len(self._chunks)

    @property
    def task(self) -> asyncio.Task[None]:
        """The work."""
        return self._task

    def follow(self, joining: Joining, *, leads: bool) -> Following:
        """Let one more caller have the answer, from its beginning."""
        following = Following(self, joining, leads=leads)
        self._followers[following] = None
        return following

    def take(self, following: Following) -> Chunk | None:
        """Give a follower its next chunk; None where there is none."""
        if following.at >= self.end:
            return None
        chunk, took = self._chunks[following.at - self._first]
        following.at += 1
        following.read += took
        if self._relief is not None and self._written - following.read <= AHEAD_BYTES and not self._relief.done():
            self._relief.set_result(None)
        return chunk

    def leave(self, following: Following) -> None:
        """Count one follower less; without any the work is cancelled, unless its last chunk is there."""
        self._followers.pop(following, None)
        if not self._followers and self.receipt is None:
            self.stop()
        elif self._relief is not None and not self._relief.done() and not self._is_ahead():
            self._relief.set_result(None)

    def stop(self, message: str | None = None) -> None:
        """Cancel the work, once; nobody joins it any more."""
        self._closed(self)
        if not self._stopped and not self.over:
            self._stopped = True
            if self._begun:
                self._task.cancel(message)
            else:  # a task that is cancelled before it begins does nothing at all: its call would never be settled
                self._reason = message

    async def end_now(self) -> None:
        """Shut the work down and wait for its last word."""
        if not self.over:
            self.stop(SHUTDOWN)
            await asyncio.wait({self._task}, timeout=ENDING_S)
        self.over = True

    async def _drive(self, work: Work) -> None:
        self._begun = True
        if self._stopped:
            self._task.cancel(self._reason)
        try:
            answer = await work()
            self.opening = answer.opening
            self._wake()
            try:
                await answer.pump(self._record, self._room)
            finally:
                answer.close()
            if self._first == 0:
                self._complete(answer.opening, [chunk for chunk, _ in self._chunks])
        except PenstockError as error:
            self.error = error
        except asyncio.CancelledError:
            self.error = Overloaded("The gateway was shut down before the call ended.")
            raise
        finally:
            if self.opening is None and self.error is None:
                self.error = Internal("The gateway failed.", hint="Its log tells more.")
            self.over = True
            self._closed(self)
            self._wake()

    def _record(self, chunk: Chunk) -> bool:
        """Keep a chunk for those who follow; tell whether even the fastest of them is behind."""
        took = size(chunk)
        self._chunks.append((chunk, took))
        self._bytes += took
        self._written += took
        if chunk.receipt is not None:
            self.receipt = chunk.receipt
        if self._bytes > RECORD_BYTES:
            self._forget()
        self._wake()
        return self._is_ahead()

    def _is_ahead(self) -> bool:
        fastest = max([one.read for one in self._followers if one.failed is None], default=self._written)
        return self._written - fastest > AHEAD_BYTES

    async def _room(self) -> None:
        """Wait until one of those who follow has nearly all there is."""
        while self._is_ahead():
            self._relief = asyncio.get_running_loop().create_future()
            try:
                await self._relief
            finally:
                self._relief = None

    def _forget(self) -> None:
        """Let go of what all have read, and of those who are too far behind for that to help."""
        self._closed(self)
        while True:
            readers = [one for one in self._followers if one.failed is None]
            seen = min([one.at for one in readers], default=self.end) - self._first
            self._bytes -= sum(took for _, took in self._chunks[:seen])
            self._first += seen
            del self._chunks[:seen]
            slowest = min(readers, key=_had, default=None)
            if self._bytes <= RECORD_BYTES or slowest is None or slowest.at == max(map(_had, readers)):
                return
            slowest.fail(Overloaded("The answer was read too slowly to be kept any longer."))

    def _wake(self) -> None:
        for following in self._followers:
            following.wake()


def _had(following: Following) -> int:
    return following.at
