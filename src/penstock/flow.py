"""An answer on its way to whoever asked: its opening, then its chunks, the last of which has the receipt.

Whatever happens after the opening ends as one chunk: complete, or with `Failed`. A caller pulls chunks one by one (`next`),
or lets the provider push them as they arrive (`pump`), which saves a turn of the loop for each. It decides nothing and knows
no bytes; place in the line: what `gateway.py` gives out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from penstock.continuation import Continuation
from penstock.errors import ClientClosed, PenstockError, UpstreamError, UpstreamGarbled
from penstock.event import Event, Failed
from penstock.inflight import InFlight
from penstock.live_try import LiveTry, name_target
from penstock.passage import Outflow
from penstock.receipt import Receipt, Settled
from penstock.reply import Chunk, Opening

H = TypeVar("H")


Pump = Callable[[Callable[[Chunk], bool]], Awaitable[bool]]
"""Hands chunks on until it is told to pause (True) or there are no more (False)."""


class Line(Protocol[H]):
    """What a flow needs of the gateway."""

    def settle(self, flight: InFlight[H]) -> Settled | Receipt:
        """Close the call, once, and give its receipt."""
        ...

    def break_off(self, flight: InFlight[H], error: BaseException) -> None:
        """Note what was raised by work of the call, and raise here what is to come out instead of it."""
        ...

    async def resume(
        self, flight: InFlight[H], error: PenstockError, going_on: Continuation
    ) -> tuple[LiveTry, Chunk] | None:
        """Have another target go on with an answer that was cut; None where none does."""
        ...

    def grow(self, flight: InFlight[H], live: LiveTry) -> None:
        """Hold more for a reply that has passed its meter's limit, and set the next one. Raises BudgetExhausted."""
        ...

    def abandon(self, flight: InFlight[H]) -> None:
        """Settle a call that nobody waits for any more, at once or when its reply has been read to the end."""
        ...


class Flow(Generic[H]):
    """One answer. It has to be closed, which settles the call if it has not come to its end."""

    done = False
    _whole: Chunk | None = None  # the last chunk of a reply that came to its end
    _given = False  # the last chunk was handed on already
    _refused: PenstockError | None = None  # why what is pushed may not pass any more
    _going_on: Continuation | None = None
    _give: Callable[[Chunk], bool]
    outflow: Callable[[], Outflow | None] | None = None
    """Gives where the bytes of a chunk may go as they came, None where they may not; set by whoever can tell."""

    def __init__(
        self, line: Line[H], flight: InFlight[H], opening: Opening, live: LiveTry | None, chunk: Chunk
    ) -> None:
        """Begin with the first chunk; `live` is the try that it comes from, None where it is all there is."""
        self.opening = opening
        self._line = line
        self._flight = flight
        self._live = live
        self._chunk: Chunk | None = chunk
        if flight.continues and live is not None:
            self._going_on = Continuation()

    async def next(self) -> Chunk | None:
        """Give the next chunk; None after the last."""
        flight = self._flight
        if self.done:
            return None
        first = self._chunk
        if first is not None and self._going_on is None:
            return self._opened(first)
        if flight.error is not None:
            return self._ended(flight.error)  # its time was over while nobody read
        try:
            try:
                return await self._step()
            except BaseException as error:
                self._line.break_off(flight, error)
                raise
        except PenstockError as error:
            return self._ended(error)

    async def pump(self, give: Callable[[Chunk], bool], room: Callable[[], Awaitable[None]]) -> None:
        """Hand every chunk to `give` as it arrives, up to the last; where it says True, wait for `room` first.

        Cancelled because the process ends, it gives a last chunk that says so.
        """
        self._give = give
        live, pump = self._live, None
        if live is not None and self._going_on is None:
            pump = getattr(live.exchange, "pump", None)  # a provider may have it
        try:
            while not self.done:
                if pump is None:
                    chunk = await self.next()
                    is_full = chunk is not None and give(chunk)
                elif (first := self._chunk) is not None:
                    chunk = self._opened(first)
                    is_full = chunk is not None and give(chunk)
                else:
                    last = await self._pumped(pump)
                    is_full = last is None or give(last)
                if is_full and not self.done:
                    await room()
        except asyncio.CancelledError as why:
            flight = self._flight
            if flight.settled is None:  # it waited for room
                flight.cut(why)
            if not (self.done or flight.error is None or isinstance(flight.error, ClientClosed)):
                chunk = self._ended(flight.error)
                assert chunk is not None, "a flow that is not done has its last chunk to give"
                give(chunk)
            raise

    def close(self) -> None:
        """Settle the call if it has not come to its end: nobody reads on."""
        self.done = True
        if self._flight.settled is None:
            self._flight.cut(GeneratorExit())
            self._line.abandon(self._flight)

    def _opened(self, first: Chunk) -> Chunk | None:
        """Let the first chunk pass; it was there from the beginning, so that nothing is waited for."""
        flight = self._flight
        if flight.error is not None:
            return self._ended(flight.error)  # its time was over while nobody read
        self._chunk = None
        try:
            try:
                return self._passing(first)
            except BaseException as error:
                self._line.break_off(flight, error)
                raise
        except PenstockError as error:
            return self._ended(error)

    async def _step(self) -> Chunk:
        if self._going_on is not None:
            chunk = await self._joined(self._going_on)
            is_cut = self._chunk is not None  # the next target's first waits, and may be its last: it is not this one
            return chunk if is_cut else self._passing(chunk)
        return self._passing(await self._read())

    async def _joined(self, going_on: Continuation) -> Chunk:
        """Read on, and where the reply breaks off have another target go on with it."""
        chunk, self._chunk = self._chunk, None
        error: PenstockError | None = None
        try:
            chunk = await self._read() if chunk is None else chunk
        except UpstreamError as broken:
            error = broken
        events = () if chunk is None else chunk.events
        live = self._live
        assert live is not None, "only an answer of a provider is gone on with"
        if live.meter.error is not None:
            error, events = live.meter.error, tuple(e for e in events if not isinstance(e, Failed))
        if going_on.resumed:
            events = going_on.join(events)
        going_on.hear(events)
        if error is None or not going_on.possible:
            return self._as_it_is(chunk, events, error)
        next_one = await self._line.resume(self._flight, error, going_on)
        if next_one is None:
            return self._as_it_is(chunk, events, error)
        self._live, self._chunk = next_one
        return Chunk(events)

    def _as_it_is(self, chunk: Chunk | None, events: tuple[Event, ...], error: PenstockError | None) -> Chunk:
        if chunk is None:
            assert error is not None, "nothing was read, so something was raised"
            raise error
        failed = next((event.error for event in events if isinstance(event, Failed)), error)
        if failed is not None and self._live is not None:
            self._live.meter.error = failed
            events = (*(e for e in events if not isinstance(e, Failed)), Failed(failed))
        return Chunk(events)

    async def _read(self) -> Chunk:
        """Read on after the commit point, where a failure can only end the stream."""
        flight, live = self._flight, self._live
        assert live is not None, "a reply without a try is one chunk"
        assert live.exchange is not None, "a try that answered has an exchange"
        flight.wait()
        chunk = await live.exchange.read()
        flight.waiting = False
        if chunk is None:
            raise _unfinished(live)
        live.meter.observe(chunk.events)
        return chunk

    async def _pumped(self, pump: Pump) -> Chunk | None:
        """Let the provider push for as long as there is room; give the last chunk where it failed."""
        flight, live = self._flight, self._live
        assert live is not None, "nothing is pushed without a try"
        error = flight.error
        try:
            try:
                if error is None:
                    flight.wait()
                    exchange: Any = live.exchange
                    outflow = None if self.outflow is None else self.outflow()
                    if outflow is not None and hasattr(
                        exchange, "say"
                    ):  # it may pass bytes on by itself, of text alone
                        exchange.say = live.meter.passing(outflow, partial(self._look, live))
                    paused = await pump(self._taking(live))
                    flight.waiting, error = False, self._refused
                    if error is None and not (paused or self.done):
                        error = _unfinished(live)
                if error is not None:
                    self._line.break_off(flight, error)
            except BaseException as raised:
                self._line.break_off(flight, raised)
                raise
        except PenstockError as broken:
            error = broken
        return None if error is None else self._ended(error)

    def _taking(self, live: LiveTry) -> Callable[[Chunk], bool]:
        """Give what takes a chunk that the provider pushes, and tells whether it has to pause, or may stop."""
        meter, give = live.meter, self._give
        observe = meter.observe

        def arrived(chunk: Chunk) -> bool:
            observe(chunk.events)
            if meter.ended or meter.error is not None:
                chunk = self._passing(chunk)
                self._given = True
            elif meter.passed > meter.limit and self._look(live):
                return True
            return give(chunk) or self.done

        return arrived

    def _look(self, live: LiveTry) -> bool:
        """Hold more for a reply that has passed its limit; tell whether that was refused."""
        try:
            self._line.grow(self._flight, live)
        except PenstockError as error:  # which is no business of the provider that called
            self._refused = error
            return True
        return False

    def _passing(self, chunk: Chunk) -> Chunk:
        """Let a chunk pass; the last one gets the receipt."""
        live, flight = self._live, self._flight
        if live is not None:
            meter = live.meter
            if not meter.ended and meter.error is None:
                if meter.passed > meter.limit:
                    self._line.grow(flight, live)
                return chunk
            if meter.error is not None:
                flight.fail("error", name_target(meter.error, live.target))
        self.done = True
        self._whole = chunk
        return Chunk(chunk.events, chunk.raw, self._line.settle(flight))

    def _ended(self, error: PenstockError) -> Chunk | None:
        """Make the last chunk of a reply that broke off; one that was complete (its exchange could not be closed) stays so."""
        self.done = True
        receipt, whole = self._line.settle(self._flight), self._whole
        if self._given:
            return None  # a deadline, say, came in the same moment
        if whole is not None:
            return Chunk(whole.events, whole.raw, receipt)
        return Chunk((Failed(error),), None, receipt)


def _unfinished(live: LiveTry | None) -> UpstreamGarbled:
    who = "The provider" if live is None else live.target.id
    return UpstreamGarbled(f"{who} ended its reply without its end mark.")
