"""How the account of a call is closed: written down, counted, and what was reserved for it given back.

It runs once for every call, whatever happened to it, and never waits. The calls of a turn of the loop that ended as nearly all
do, with an answer that one value tells, are closed together, one step after the other.
Place in the line: the end of it, for `gateway.py` and `direct.py`; `accounting.py` opens what is closed here.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from typing import Any, Protocol

from msgspec import Struct, structs

from penstock.calibrating import Calibration
from penstock.call import Ticket
from penstock.counting import estimate
from penstock.deadlines import Deadlines
from penstock.errors import DeadlineExceeded, PenstockError
from penstock.flushing import Flusher
from penstock.inflight import InFlight, LiveTry, rough
from penstock.ledger.limits import Hold
from penstock.ledger.rows import Row
from penstock.meter import Meter
from penstock.plugins import Exchange
from penstock.receipt import Receipt, Settled, Usage
from penstock.reply import Told
from penstock.reservations import Reservations
from penstock.settlement import WHOLE, Alike, Counted, ordinary, settle
from penstock.target import usd
from penstock.together import together

log = logging.getLogger("penstock")

TARGETS = 1000
"""Of so many it is remembered when a call may teach the calibration something."""

_NS_PER_DAY = 86_400_000_000_000
_EPOCH = 719_163


class Common(Protocol):
    """What a call has in common with others: see `direct.py`."""

    @property
    def kin(self) -> object:
        """The same for those of which the same is known."""
        ...


class Answered(Protocol):
    """A call whose answer is there: see `direct.py`."""

    told: Told | None
    defect: BaseException | None

    @property
    def flight(self) -> InFlight[Any]:
        """The call."""
        ...

    @property
    def common(self) -> Common:
        """What it has in common with others."""
        ...

    @property
    def prepared(self) -> Exchange:
        """What answered."""
        ...


Written = tuple[InFlight[Any], Row, Counted]
"""A call with its row, and what is counted of it."""


class Calls(Protocol):
    """Whose calls are booked; `in_flight` counts those that have not ended."""

    in_flight: int

    def idle(self) -> None:
        """Hear that there is none any more."""
        ...


class Books(Struct, frozen=True):
    """Where calls are booked: the ledger behind its flusher, the budgets, the room that they had (`leave`), and who counts them.

    `observe` counts a receipt, `count` a call of which the figures are at hand: see `Metrics`. `left` is told where somebody
    waits for the room that a call has left. `deadlines` are watched until then; `clock` gives the loop's seconds.
    """

    flusher: Flusher
    reservations: Reservations
    leave: Callable[[Ticket, int, float], bool]
    left: Callable[[], None]
    observe: Callable[[Receipt], None]
    count: Callable[[Counted], None]
    calibration: Calibration
    config_hash: str
    deadlines: Deadlines[InFlight[Hold]]
    clock: Callable[[], float]


class Closing:
    """The end of one configuration's calls, which are counted in `calls`."""

    def __init__(self, books: Books, calls: Calls) -> None:
        self._books, self._calls = books, calls
        self._ledger, self._reservations = books.flusher.ledger, books.reservations
        self._deadlines, self._clock = books.deadlines, books.clock
        self._alike = Alike(books.config_hash)
        self._day, self._begins_ns, self._ends_ns = "", 0, 0
        self._learns_at: dict[str, float] = {}  # by target: when a call of it may teach the calibration something
        self.outgrown: dict[str, int] = {}  # calls by target that cost more than was held for them

    def settle(self, flight: InFlight[Hold]) -> Settled:
        """Close the call and say how it ended; once, however often it is called."""
        if flight.settled is not None:
            return flight.settled
        now, ns = self._clock(), flight.started_ns
        day = self._day if self._begins_ns <= ns < self._ends_ns else self._today(ns)
        if flight.error is not None:
            self._name(flight, flight.error)
        try:
            written = settle(flight, now, day, estimated, self._alike)
        except BaseException:  # whatever a provider's exchange or a prompt does on the way
            self._book(flight, settle(flight, now, day, _rough, self._alike), now)
            raise
        return self._book(flight, written, now)

    def settle_told(self, answered: Sequence[Answered]) -> None:
        """Do as `settle` for calls whose only try told all of its answer, this moment: one step after the other for all.

        What is raised on the way is the `defect` of its call.
        """
        clock = self._clock
        now = clock()
        ended: list[Answered] = []
        rows: list[Written] = []
        together(partial(self._end, ended, now), answered, _fail)
        together(partial(self._write, rows, now), ended, _fail)
        if rows:
            flights, written, counted = zip(*rows, strict=True)
            self._ledger.settle_rows([flight.id for flight in flights], [*written])
            try:
                self._close(flights, now)
            finally:
                count = self._books.count
                for figures in counted:
                    count(figures)

    def _end(self, ended: list[Answered], now: float, left: Iterator[Answered]) -> None:
        """End the tries of such calls; those that had come to another end are settled as they are."""
        for call in left:
            flight = call.flight
            live, baseline = flight.tries[0], flight.baseline
            live.told, live.exchange, live.first_at = call.told, call.prepared, now  # nobody saw any of it before
            if flight.error is None and live.ended is None and (baseline is None or baseline is live.target):
                live.end("ok", now)
                ended.append(call)
            else:
                self.settle(flight)

    def _write(self, rows: list[Written], now: float, left: Iterator[Answered]) -> None:
        """Give the rows of such calls, and settle those of which a row cannot say all. For their `kin` see `Alike`."""
        alike = self._alike
        nearer = alike.nearer
        for call in left:
            flight, told, kin = call.flight, call.told, call.common.kin
            assert told is not None, "it told all of its answer"
            ns = flight.started_ns
            day = self._day if self._begins_ns <= ns < self._ends_ns else self._today(ns)
            found = nearer.get((kin, day, told.model, told.finish, told.fingerprint, told.service_tier))
            if found is None:
                found = alike.find(flight, told, WHOLE, day, kin)
            written = None if found is None else ordinary(flight, told, found, now)
            if written is None:
                self.settle(flight)
            else:
                rows.append((flight, *written))

    def _name(self, flight: InFlight[Hold], error: PenstockError) -> None:
        """Tell an error whose it is, and whether its provider may have worked for it."""
        error.call_id = flight.id
        if isinstance(error, DeadlineExceeded) and flight.tries and flight.tries[-1].status == "open":
            error.worked = flight.tries[-1].sent  # that one was asked and never said no

    def _book(self, flight: InFlight[Any], written: tuple[Row, Counted] | None, now: float) -> Settled:
        """Write down how a call ended, and give back what was reserved."""
        books, settled = self._books, flight.settled
        assert settled is not None, "a call is booked once it is settled"
        if written is None:
            self._ledger.settle(settled.receipt)
            self._close((flight,), now, learns=True)
            books.observe(settled.receipt)
        else:
            self._ledger.settle_row(settled.id, written[0])
            self._close((flight,), now)
            books.count(written[1])
        return settled

    def _close(self, flights: Sequence[InFlight[Any]], now: float, *, learns: bool = False) -> None:
        """Give back what was reserved for calls that are written down; the calibration `learns` of them, or if it is time.

        What should not be raised for one of them is raised once nothing is left of the others.
        """
        books, calls, reservations = self._books, self._calls, self._reservations
        settle, leave, is_awaited = reservations.budgets.settle, books.leave, False
        forget, at = self._deadlines.forget, self._learns_at
        holding, inside = iter(flights), iter(flights)  # those that still have money, and room
        try:
            for flight in holding:
                holds, settled = flight.holds, flight.settled
                assert settled is not None, "a call is closed once it is settled"
                cost = settled.cost_nano_usd or 0
                if len(holds) == 1:
                    settle(holds[0], cost)
                else:
                    reservations.settle(holds, cost)
                if cost > (flight.ceiling or 0):
                    self._note(flight, settled.receipt, cost)
            for flight in inside:
                ticket, settled = flight.ticket, flight.settled
                if ticket is not None and settled is not None and leave(ticket, settled.tokens, now):
                    is_awaited = True
                forget(flight)
                if learns or now >= at.get(flight.tries[0].target.id, now):
                    self._learn(flight, now)
        except BaseException:
            is_awaited = True  # perhaps
            self._close_rest(flights, holding, inside, now)
            raise
        finally:
            if is_awaited:
                books.left()
            if books.flusher.timer is None:
                books.flusher.soon()
            calls.in_flight -= len(flights)
            if not calls.in_flight:
                calls.idle()

    def _close_rest(
        self,
        flights: Sequence[InFlight[Any]],
        holding: Iterator[InFlight[Any]],
        inside: Iterator[InFlight[Any]],
        now: float,
    ) -> None:
        """Do what is left of `_close` where something was raised for one of the calls: one after the other, whatever is raised."""
        together(self._give_back, [*holding], _tell)
        together(partial(self._leave, now), [*inside], _tell)
        for flight in flights:
            self._deadlines.forget(flight)

    def _give_back(self, left: Iterator[InFlight[Any]]) -> None:
        """Give back the money that is held for calls."""
        for flight in left:
            settled = flight.settled
            assert settled is not None, "a call is closed once it is settled"
            cost = settled.cost_nano_usd or 0
            self._reservations.settle(flight.holds, cost)
            if cost > (flight.ceiling or 0):
                self._note(flight, settled.receipt, cost)

    def _leave(self, now: float, left: Iterator[InFlight[Any]]) -> None:
        """Give back the room that calls have."""
        for flight in left:
            if flight.ticket is not None and flight.settled is not None:
                self._books.leave(flight.ticket, flight.settled.tokens, now)

    def _learn(self, flight: InFlight[Any], now: float) -> None:
        """Let the calibration look at a call, and note from when on it may care for another one of its target."""
        calibration, at = self._books.calibration, self._learns_at
        calibration.settled(flight, now)
        if len(at) >= TARGETS:
            at.clear()
        for live in flight.tries:
            at[live.target.id] = calibration.next_at(live.target)

    def _note(self, flight: InFlight[Any], receipt: Receipt, cost: int) -> None:
        """Count a call that cost more than was held for all of its tries, and log the first of each target."""
        held = max(sum(hold.ceiling_nano_usd for hold in flight.holds), (flight.ceiling or 0) * len(flight.holds))
        if cost <= held or flight.ceiling is None:
            return
        target = receipt.target or ""
        count = self.outgrown[target] = self.outgrown.get(target, 0) + 1
        if count == 1:
            log.warning(
                "call %s to %s cost %s USD, more than the %s that was held for it: the provider gave or billed more than was"
                " asked for, or its catalogue entry is wrong (logged once per target)",
                *(receipt.id, target, usd(cost), usd(held)),
            )

    def _today(self, now_ns: int) -> str:
        """Give the day (UTC) of a moment, ISO; most of those who ask are of the same day."""
        if not self._begins_ns <= now_ns < self._ends_ns:
            number = now_ns // _NS_PER_DAY
            self._begins_ns, self._ends_ns = number * _NS_PER_DAY, (number + 1) * _NS_PER_DAY
            self._day = date.fromordinal(_EPOCH + number).isoformat()
        return self._day


def _fail(call: Answered, error: Exception) -> None:
    """Take note of what should not have been raised."""
    call.defect = error


def _tell(flight: InFlight[Any], error: Exception) -> None:
    """Have the log tell of it, where something else is raised already."""
    log.error("call %s could not be closed", flight.id, exc_info=error)


def estimated(flight: InFlight[Any], live: LiveTry) -> Usage:
    """Give what a try used as far as it is known, and the rest by a count of what passed."""
    return _completed(live.meter, estimate(flight, live))


def _rough(flight: InFlight[Any], live: LiveTry) -> Usage:
    return _completed(live.meter, rough(flight, live))


def _completed(meter: Meter, counted: Usage) -> Usage:
    """Add what was counted of the text that passed after the provider's last word to what that said."""
    said = meter.reported
    if said is None:
        return counted
    since = -(-counted.output_tokens * (meter.passed - meter.counted) // (meter.passed or 1))
    into = said.input_tokens or counted.input_tokens
    return structs.replace(said, input_tokens=into, output_tokens=said.output_tokens + since, source=counted.source)
