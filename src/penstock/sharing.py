"""Equal calls made once: an answer from the cache, one that is on its way to somebody else, or a call of one's own.

The first caller leads: its call is made, and whoever asks the same meanwhile follows it (`broadcast.py`). An error before the
opening reaches them all, except where it is the leader's own (its time, its budget, its rate): then the next one leads. An
answer that came to a good end is kept for those who come later.

Nothing here knows what a call is: `gateway.py` gives the work, a key for what is equal, and how a follower is settled.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from penstock.broadcast import Broadcast, Following, Joining, Work
from penstock.errors import SHUTDOWN
from penstock.ledger.cache import ReplyCache, Stored, keep
from penstock.reply import Chunk, Opening

__all__ = ("Following", "Joining", "Sharing", "Terms", "Work")


class Terms(Struct, frozen=True):
    """How a call may be answered.

    fresh_s  how old an answer of the cache may be, in seconds; None: the cache is not asked
    single   an equal call that is on its way will do, and others may follow this one
    """

    fresh_s: float | None
    single: bool = True


class Sharing:
    """The cache, and the calls on their way that may be followed."""

    def __init__(self, cache: ReplyCache, clock: Callable[[], float]) -> None:
        """`clock` gives the loop's seconds."""
        self._cache = cache
        self._clock = clock
        self._running: dict[bytes, Broadcast] = {}
        self._all: set[Broadcast] = set()

    @property
    def running(self) -> int:
        """How many calls may be followed now."""
        return len(self._running)

    def stale(self, key: bytes, within_s: float) -> Stored | None:
        """Find an answer that may be older than what is fresh: better than none."""
        return self._cache.get(key, self._clock(), within_s)

    async def begin(self, key: bytes, terms: Terms, work: Work, joining: Joining) -> Stored | Following:
        """Give an answer from the cache, or one that is on its way, up to its opening; else have the work done.

        A follower whose call ends here, by a PenstockError or a cancellation, has been finished before that is raised; a
        leader's work does that itself.
        """
        while True:
            if terms.fresh_s is not None:
                stored = self._cache.get(key, self._clock(), terms.fresh_s)
                if stored is not None:
                    return stored
            running = self._running.get(key) if terms.single else None
            if running is None:
                following = self._lead(key, terms, work).follow(joining, leads=True)
            else:
                following = running.follow(joining, leads=False)
                following.expire_in(joining.deadline - self._clock())
            if await following.opened():
                return following

    def _lead(self, key: bytes, terms: Terms, work: Work) -> Broadcast:
        def closed(broadcast: Broadcast) -> None:
            if self._running.get(key) is broadcast:
                del self._running[key]

        def complete(opening: Opening, chunks: list[Chunk]) -> None:
            stored = keep(opening, chunks, self._clock())
            if stored is not None:
                self._cache.put(key, stored)

        broadcast = Broadcast(work, closed, complete)
        if terms.single:
            self._running[key] = broadcast
        self._all.add(broadcast)
        broadcast.task.add_done_callback(lambda _: self._all.discard(broadcast))
        return broadcast

    async def close(self) -> None:
        """End what is still on its way, and wait until it is settled."""
        left = tuple(self._all)
        for broadcast in left:
            broadcast.stop(SHUTDOWN)
        if left:
            await asyncio.wait([broadcast.task for broadcast in left])
