"""Ordinary calls on their way without a task: sent, answered and settled by those who bring the requests and the replies.

A task, its futures and two turns of the loop are a sixth of what such a call costs, and it needs them only where it has to
wait: for room, for money, for a connection, for a second try. So calls begin this way where they have not to, and here is
what becomes of them: a whole answer is given out in the turn of the loop in which it came; whatever else has come, a stream's
head among it, the line goes on with (`Gateway.go_on`), which knows every case. It decides nothing, and sees no bytes.

The calls of a turn take each step together, one step after the other: what a step needs is then in the processor's caches
for all of them but the first. Apart from that each goes its own way, and what befalls one concerns no other.

Place in the line: beside `gateway.py`, as `flow.py` is for calls that have a task.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from msgspec import Struct

from penstock.call import Call, Who
from penstock.calls_alike import Common, Standing
from penstock.errors import UpstreamError
from penstock.inflight import InFlight
from penstock.meter import Meter
from penstock.outbox import Outbox
from penstock.plugins import UNSENT, Exchange, Prepared
from penstock.receipt import Settled
from penstock.reply import Told
from penstock.routing.router import Plan
from penstock.together import together


class Asker(Protocol):
    """Whoever has a call begin this way: it is of `who`, and `standing` knows what it has in common with others."""

    @property
    def call(self) -> Call:
        """What is asked."""
        ...

    @property
    def who(self) -> Who:
        """The owner of the key."""
        ...

    @property
    def standing(self) -> Standing:
        """The caller."""
        ...

    def begun(self, call: "Direct") -> None:
        """Hear that the call is on its way."""
        ...

    def answered(self, call: "Direct", exchange: Exchange, body: bytes | None, settled: Settled) -> None:
        """Take the whole answer of an exchange, and how the call ended."""
        ...

    def handed_over(self, call: "Direct | None") -> None:
        """Have a task go on with the call (see `Gateway.go_on`), or take it from the start where nothing is left of it."""
        ...


class Line(Protocol):
    """What such a call needs of the gateway; `in_flight` counts the calls that have not ended."""

    in_flight: int

    def settle(self, flight: InFlight[Any]) -> Settled:
        """Close the call, once, and say how it ended."""
        ...

    def settle_told(self, answered: "Sequence[Direct]") -> None:
        """Do the same for calls whose only try told all of its answer; what is raised on the way is the `defect` of its call."""
        ...

    def break_off(self, flight: InFlight[Any], error: BaseException) -> None:
        """Settle a call that something ended; what is to be raised instead of that is raised here."""
        ...


class Direct(Struct, eq=False):
    """One call; a provider takes it for the future that waits for its reply.

    `told` is all of its answer, where one value tells it. `over` once it is answered, given up or gone on with elsewhere;
    `defect` is what should not have been raised.
    """

    answers: "Answers"
    common: Common
    flight: InFlight[Any]
    prepared: Prepared
    asker: Asker
    over: bool = False
    told: Told | None = None
    defect: BaseException | None = None

    __repr__ = object.__repr__

    @property
    def plan(self) -> Plan:
        """Where it goes."""
        return self.common.plan

    def done(self) -> bool:
        """Tell whether nobody waits here any more."""
        return self.over

    cancelled = done

    def set_result(self, is_full: bool, /) -> None:  # noqa: ARG002, FBT001 - as a future has it
        """Hear that the reply is there, or a part of it, or a fault."""
        if not self.over:
            add = self.answers.add  # what a slot holds is called at less cost once it is at hand
            add(self)

    def abandon(self, why: asyncio.CancelledError) -> None:
        """Give the call up: its client is gone, or the process ends. What came before that is given out before."""
        try:
            self.answers.give_out()
        finally:  # whatever that raises concerns others
            if not self.over:
                self.over = True
                flight = self.flight
                self.prepared.abandon(why)
                flight.tries[0].sent = UNSENT not in why.args
                self.answers.line.break_off(flight, why)

    def hand_over(self) -> None:
        """Have a task go on, as if nothing of the answer had been seen."""
        live = self.flight.tries[0]
        live.exchange, live.first_at, live.told, live.meter = None, None, None, Meter()
        self.asker.handed_over(self)


class Answers:
    """What has come for the calls of one configuration in this turn of the loop. It is given out at the turn's end.

    `add` takes note that something has come for a call; if no other is under way, it is given out there and then.
    """

    __slots__ = ("_came", "_clock", "add", "line")

    def __init__(self, line: Line, clock: Callable[[], float]) -> None:
        self.line = line
        self._clock = clock
        self._came: list[Direct] = []
        self.add: Callable[[Direct], None] = self._add_first

    def _add_first(self, call: Direct) -> None:
        """Do what `add` is to do, for the first of a turn; for all others it is nothing but the list's own."""
        self._came.append(call)
        if self.line.in_flight > 1:
            self.add = self._came.append
            Outbox.of(asyncio.get_running_loop()).at_end(self.give_out)
        else:
            self.give_out()

    def give_out(self) -> None:
        """Settle and give out what has come. Where something fails that should not, a task goes on: it is to be told as well."""
        if not self._came:
            return
        self.add = self._add_first
        came, self._came = self._came, []
        told: list[Direct] = []
        together(partial(self._read, told), came, _fail)
        try:
            self.line.settle_told(told)
        finally:
            together(_give, told, _fail)

    def _read(self, told: list[Direct], left: Iterator[Direct]) -> None:
        """Read what has come: nearly always a provider tells all of it in one value."""
        for call in left:
            if call.over or call.told is not None:
                continue
            call.told = answer = call.prepared.tell()
            if answer is not None:
                told.append(call)
            elif (known := self._answer(call)) is None:
                call.hand_over()
            else:
                call.over = True
                call.asker.answered(call, *known)

    def _answer(self, call: Direct) -> tuple[Exchange, bytes | None, Settled] | None:
        """Read an answer of which more is to be said; None where none has come."""
        try:
            exchange = call.prepared.answer()
            chunk = None if exchange is None else exchange.take()
        except UpstreamError:
            return None  # the line reads it once more, and knows what to do
        if exchange is None or chunk is None:
            return None
        flight = call.flight
        live = flight.tries[0]
        meter = live.meter
        meter.observe(chunk.events)
        if not (meter.ended and meter.begun and meter.error is None):
            return None
        live.exchange, live.first_at, flight.waiting = exchange, self._clock(), False
        return exchange, chunk.raw, self.line.settle(flight)


def _give(left: Iterator[Direct]) -> None:
    """Give answers out that are settled."""
    for call in left:
        settled, told = call.flight.settled, call.told
        if settled is None or told is None or call.defect is not None:
            call.hand_over()
        else:
            call.over, answered = True, call.asker.answered
            answered(call, call.prepared, told.raw, settled)


def _fail(call: Direct, error: Exception) -> None:
    """Have a task tell of what should not have been raised."""
    call.defect = error
    call.hand_over()
