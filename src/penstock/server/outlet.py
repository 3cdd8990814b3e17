"""The sending half of a connection: whether what is written still arrives, how much of it waits, and how it ends.

The transport tells when its buffer passes the high-water mark; a handler that writes much waits in `drained`. A
client that reads nothing for the time allowed counts as gone. Knows nothing of HTTP; `responder` writes through it,
`http11` owns it.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from penstock.outbox import Outbox
from penstock.server.request import Limits

PENDING_BYTES: Final = 65_536
"""More than this does not wait for the end of a turn."""


class Clock(Protocol):
    """What a connection needs of the server: its limits, its loop, and the time, which may be one sweep old.

    With more than one request `in_flight`, or where something has to be on disk before, what is written goes to the `outbox`.
    """

    limits: Limits
    loop: asyncio.AbstractEventLoop
    outbox: Outbox
    in_flight: int
    now: float
    draining: bool  # shutting down


class Outlet:
    """Where the replies of one client go."""

    intent = ""  # see `Sender`: these are no requests

    __slots__ = (
        "_clock",
        "_deadline",
        "_outbox",
        "_relief",
        "_reset",
        "_unsent",
        "congested",
        "draining",
        "gone",
        "pending",
        "send",
        "transport",
    )

    def __init__(self, clock: Clock, transport: asyncio.Transport, reset: tuple[int, int, bytes]) -> None:
        """Write to `transport`; `reset` is the socket option with which a close sends RST."""
        self.transport, self.send = transport, transport.write
        self.gone = False  # nothing written arrives any more, or may be written
        self.congested = False  # more than the high-water mark is unsent
        self.draining = clock.draining  # the reply being written is the last
        self._clock, self._outbox = clock, clock.outbox
        self._reset = reset
        self._relief: asyncio.Future[None] | None = None  # here the handler waits while congested
        self._deadline = 0.0  # by then something must have been read; zero: none
        # Written in this turn of the loop, and not handed to the transport yet; nothing once it is gone.
        self.pending = b""
        self._unsent = 0

    def write(self, data: bytes) -> None:
        """Send this after what was written before; nothing for a client that is gone."""
        if self.pending:
            self.pending += data
            if len(self.pending) > PENDING_BYTES:
                self.flush()
        elif not self.gone:
            if self._clock.in_flight > 1 or self._outbox.due:
                self.pending = data
                add = self._outbox.add  # what a slot holds is called at less cost once it is at hand
                add(self)
            else:
                self.send(data)

    def flush(self) -> None:
        """Hand what was written to the transport, after what has to be on disk before."""
        if self._outbox.due:
            self._outbox.commit()
        data, self.pending = self.pending, b""
        if data:
            self.send(data)

    def soon(self, flush: Callable[[], None]) -> None:
        """Call `flush` at the end of this turn of the loop."""
        self._clock.loop.call_soon(flush)

    async def drained(self) -> None:
        """Return when not congested or of no more use; TimeoutError where the client stopped reading."""
        if self.congested:
            if self._relief is None or self._relief.done():
                self._relief = self._clock.loop.create_future()
            await self._relief

    def pause(self) -> None:
        """Note that the client reads more slowly than we write."""
        self.congested = True
        self.watch()

    def resume(self) -> None:
        """Let the handler go on writing."""
        if not self.gone:
            self._deadline = 0.0
        self._relieve()

    def watch(self) -> None:
        """Require that the client reads something of what is unsent."""
        self._unsent = self.transport.get_write_buffer_size()
        self._deadline = self._clock.now + self._clock.limits.write_stall_s

    def stalled(self, now: float) -> bool:
        """Return whether the client has read nothing for the time allowed."""
        if not self._deadline or now < self._deadline:
            return False
        if self.transport.get_write_buffer_size() < self._unsent:
            self.watch()
            return False
        self._deadline = 0.0
        return True

    def give_up(self) -> bool:
        """Raise TimeoutError in the handler that waits in `drained`; return whether one does."""
        if self._relief is None or self._relief.done():
            return False
        self._relief.set_exception(TimeoutError("the client stopped reading its reply"))
        return True

    def stop(self) -> None:
        """Write nothing more, and let go of what has not been sent."""
        self.gone = True
        self.pending = b""
        self._relieve()

    def close(self) -> None:
        """Close once everything written has been read, or the client stops reading."""
        self.flush()
        self.stop()
        self.watch()
        self.transport.close()

    def half_close(self) -> None:
        """End our side once everything written is sent."""
        self.flush()
        self.stop()
        self.watch()
        self.transport.write_eof()

    def reset(self) -> None:
        """Close at once, so that the client sees an error rather than an end."""
        self.flush()
        self.stop()
        self.transport.get_extra_info("socket").setsockopt(*self._reset)
        self.transport.abort()

    def _relieve(self) -> None:
        self.congested = False
        if self._relief is not None and not self._relief.done():
            self._relief.set_result(None)
