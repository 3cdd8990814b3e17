"""An ordinary call on its way without a task: sent, answered and settled by those who bring the request and the reply.

A task, its futures and two turns of the loop are a sixth of what such a call costs, and it needs them only where it has to
wait: for room, for money, for a connection, for a second try. So `gateway.py` begins a call this way where it has not to, and
here is what becomes of it: a whole answer is given out at once; whatever else has come, the line goes on with
(`Gateway.go_on`), which knows every case. It decides nothing, and sees no bytes.

Place in the line: beside `gateway.py`, as `flow.py` is for calls that have a task.
"""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from penstock.accounting import Accounting
from penstock.call import Call, Caller, Sampling, Ticket, Who
from penstock.errors import UpstreamError
from penstock.inflight import InFlight, LiveTry
from penstock.meter import Meter
from penstock.plugins import UNSENT, Exchange, Prepared, Prepares
from penstock.receipt import Settled
from penstock.reply import Told
from penstock.routing.router import Plan
from penstock.target import Target

LARGEST = 1024
"""Characters of a call's options, at most, that are remembered."""
_TOO_LARGE = Sampling()
"""Stands for options that are not remembered: no call has these."""

P_contra = TypeVar("P_contra", contravariant=True)


class Asker(Protocol):
    """Whoever began a call this way."""

    def answered(self, call: "Direct", exchange: Exchange, body: bytes | None, settled: Settled) -> None:
        """Take the whole answer of an exchange, and how the call ended."""
        ...

    def handed_over(self, call: "Direct") -> None:
        """Have a task go on with the call: see `Gateway.go_on`."""
        ...


class Line(Protocol):
    """What such a call needs of the gateway; `in_flight` counts the calls that have not ended."""

    in_flight: int

    def planned(self, call: Call, who: Who, caller: Caller) -> tuple[Call, Who, Plan]:
        """Say who pays, what is pinned and where the call may go."""
        ...

    def settle(self, flight: InFlight[Any]) -> Settled:
        """Close the call, once, and say how it ended."""
        ...

    def settle_told(self, flight: InFlight[Any], live: LiveTry, told: Told, kin: object) -> Settled:
        """Do the same for one whose only try told all of its answer; `kin` is the same for those that are like it."""
        ...

    def break_off(self, flight: InFlight[Any], error: BaseException) -> None:
        """Settle a call that something ended; what is to be raised instead of that is raised here."""
        ...

    def idle(self) -> None:
        """Hear that there is none any more."""
        ...


class Doors(Protocol):
    """Where there may be room for a call: see `policy/admission.py`."""

    def try_enter(self, who: Who, model: str, call: Call, now: float) -> Ticket | None:
        """Take a place wherever a limit applies; None where it has to wait."""
        ...

    def undo(self, ticket: Ticket, now: float) -> None:
        """Take back that a call entered."""
        ...


class Tries(Protocol[P_contra]):
    """Who makes tries: see `execute.py`."""

    def begin(self, call: P_contra, targets: tuple[Target, ...], now: float) -> LiveTry | None:
        """Take the room of a first try; None where something stands in its way."""
        ...

    def until(self, targets: tuple[Target, ...], now: float, deadline: float) -> float:
        """Say until when a first try may last."""
        ...


class Clocks(Protocol):
    """What tells the time and names calls: see `gateway.Process`."""

    @property
    def ledger(self) -> "Names":
        """What gives ids."""
        ...

    @property
    def clock(self) -> Callable[[], float]:
        """What gives the loop's seconds."""
        ...

    @property
    def wall_ns(self) -> Callable[[], int]:
        """What gives nanoseconds since the epoch."""
        ...


class Names(Protocol):
    """What gives ids: see `ledger/ids.py`."""

    @property
    def new_id(self) -> Callable[[int], str]:
        """Gives an id to a call that began at this wall time."""
        ...


class Steps(Struct, frozen=True):
    """Who takes a call one step further each. Replies of the `sheltered` providers are read on when the caller hangs up."""

    doors: Doors
    accounts: Accounting
    tries: Tries[InFlight[Any]]
    clocks: Clocks
    providers: Mapping[str, object]
    sheltered: frozenset[str]


class Direct(Struct, eq=False):
    """One call; a provider takes it for the future that waits for its reply.

    `kin` is the same for those of which the same is known (see `Common`). `over` once it is answered, given up or gone on with
    elsewhere; `defect` is what should not have been raised.
    """

    line: Line
    clock: Callable[[], float]
    plan: Plan
    flight: InFlight[Any]
    prepared: Prepared
    asker: Asker
    kin: object
    over: bool = False
    defect: BaseException | None = None

    __repr__ = object.__repr__

    def done(self) -> bool:
        """Tell whether nobody waits here any more."""
        return self.over

    cancelled = done

    def set_result(self, is_full: bool, /) -> None:  # noqa: ARG002, FBT001 - as a future has it
        """Hear that the reply is there, or a part of it, or a fault."""
        if self.over:
            return
        flight, prepared = self.flight, self.prepared
        live = flight.tries[0]
        answer: tuple[Exchange, bytes | None, Settled] | None
        try:
            told = live.told = prepared.tell()
            if told is None:
                answer = self._answer(live)
            else:
                live.exchange, settle_told = prepared, self.line.settle_told
                answer = prepared, told.raw, settle_told(flight, live, told, self.kin)
        except BaseException as error:
            self.defect = error
            self._hand_over(live)
            raise
        if answer is None:
            self._hand_over(live)
        else:
            self.over = True
            exchange, body, settled = answer
            self.asker.answered(self, exchange, body, settled)

    def _answer(self, live: LiveTry) -> tuple[Exchange, bytes | None, Settled] | None:
        """Read an answer of which more is to be said than a provider tells; None where none has come."""
        try:
            exchange = self.prepared.answer()
            chunk = None if exchange is None else exchange.take()
        except UpstreamError:
            return None  # the line reads it once more, and knows what to do
        if exchange is None or chunk is None:
            return None
        meter, flight = live.meter, self.flight
        meter.observe(chunk.events)
        if not (meter.ended and meter.begun and meter.error is None):
            return None
        live.exchange, live.first_at, flight.waiting = exchange, self.clock(), False
        return exchange, chunk.raw, self.line.settle(flight)

    def abandon(self, why: asyncio.CancelledError) -> None:
        """Give the call up: its client is gone, or the process ends."""
        if not self.over:
            self.over = True
            flight = self.flight
            self.prepared.abandon(why)
            flight.tries[0].sent = UNSENT not in why.args
            self.line.break_off(flight, why)

    def _hand_over(self, live: LiveTry) -> None:
        live.exchange, live.first_at, live.told, live.meter = None, None, None, Meter()
        self.asker.handed_over(self)


Prepare = Callable[[Call, Target], Prepared | None]
"""Readies a call at a target, if it can be sent this moment: see `plugins.Prepares`."""


class Common(Struct, frozen=True, eq=False):
    """What calls have in common that say the same but for their messages: who pays, where they go, and how much they may say.

    It holds for calls of one caller, the owner of the key as it was (`of`), under one configuration (`by` is its mark), with
    the very same `sampling`, and of the same `model`. `prepare` readies nothing where such a call needs more than its provider.
    `fits` is the largest bound of its input with which it surely has room at every target; it may take `within_s` seconds, and
    its first try `first_s`. `kin` stands for the caller, who pays, the model and the plan, whatever the options.
    """

    of: Who
    by: object
    sampling: Sampling
    model: str
    who: Who
    plan: Plan
    prepare: Prepare
    fits: int
    within_s: float
    first_s: float
    kin: object


class Standing:
    """A caller, who speaks one dialect, and what its last call has in common with those that are like it."""

    __slots__ = ("caller", "common")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.common: Common | None = None


def _never(_call: Call, _target: Target) -> None:
    """Ready no call: there is more to do for it than its provider does."""


def _is_small(sampling: Sampling) -> bool:
    """Tell whether options are small enough to be kept: the client chooses them."""
    texts = (*sampling.stop, sampling.reasoning_effort or "")
    return not sampling.logit_bias and sum(map(len, texts)) <= LARGEST


def _says_more(call: Call) -> bool:
    """Tell whether a call says itself who pays for it, or has something that some targets cannot honour."""
    return not (call.feature is call.user is call.session is None and not call.native)


class Directs:
    """Begins the calls of one configuration that nothing stands in the way of."""

    def __init__(self, line: Line, steps: Steps, within_s: float) -> None:
        """`within_s` seconds are the time for a call that has none of its own."""
        self._line, self._mark = line, object()
        self._doors, self._accounts, self._tries = steps.doors, steps.accounts, steps.tries
        self._clocks = steps.clocks.clock, steps.clocks.wall_ns, steps.clocks.ledger.new_id
        self._within_s = within_s
        able = {name: one for name, one in steps.providers.items() if isinstance(one, Prepares)}
        self._prepare = {name: one.prepare for name, one in able.items() if name not in steps.sheltered}

    def begin(self, call: Call, who: Who, standing: Standing, asker: Asker) -> Direct | None:
        """Take a call through every step up to its provider; None, and nothing is left of it, where one has more to do.

        The steps and their order are those of `Gateway.begin`; what one of them raises it will raise there as well.
        """
        line, accounts, common, (clock, wall_ns, new_id) = self._line, self._accounts, standing.common, self._clocks
        now_ns, now = wall_ns(), clock()
        if (
            common is None
            or common.sampling is not call.sampling
            or common.model != call.model
            or common.of is not who
            or common.by is not self._mark
            or not (call.feature is call.user is call.session is None)  # as `_says_more` has it
            or call.native
        ):
            call, common = self._find(call, who, standing)
        plan, bound = common.plan, call.input_bound
        if not (plan.surely_serves(call) if bound is None else bound <= common.fits):
            return None
        targets = plan.targets
        prepare = common.prepare
        prepared = prepare(call, targets[0])
        ticket = None if prepared is None else self._doors.try_enter(common.who, plan.model, call, now)
        if prepared is None or ticket is None:
            return None
        call_id, deadline, latest = new_id(now_ns), now + common.within_s, now + common.first_s
        flight: InFlight[Any] = InFlight(
            call_id, now_ns, now, call, common.who, deadline, ticket, targets, plan.baseline
        )
        line.in_flight += 1
        direct: Direct | None = None
        try:
            if accounts.reserve(flight, plan) and self._tries.begin(flight, targets, now) is not None:
                accounts.intend(flight, targets[0], soon=prepared.by_outbox)
                direct = Direct(line, clock, plan, flight, prepared, asker, common.kin)
                if prepared.leave(deadline if latest > deadline else latest, direct):  # noqa: FURB136 - quicker than min()
                    return direct
                accounts.intend(flight, targets[0])  # now, since its request goes another way
        except BaseException:
            self._undo(flight, now)
            raise
        if direct is None:
            self._undo(flight, now)
        else:
            asker.handed_over(direct)
        return direct

    def _find(self, call: Call, who: Who, standing: Standing) -> tuple[Call, Common]:
        """Say who pays for a call and where it goes, which may be known already from one with other options.

        It is remembered, unless the call says itself who pays for it, has what some targets cannot honour, or is changed here.
        """
        known, mark, says_more = standing.common, self._mark, _says_more(call)
        said = call.sampling if _is_small(call.sampling) else _TOO_LARGE
        if known is None or known.of is not who or known.by is not mark or known.model != call.model or says_more:
            asked, caller = call, standing.caller
            call, payer, plan = self._line.planned(call, who, caller)
            options, targets = plan.options, plan.targets
            may_be_kept = options.cache_s is not None or options.stale_s is not None
            prepare: Prepare = _never if may_be_kept else self._prepare.get(targets[0].provider, _never)
            within_s, first_s = caller.within(self._within_s), self._tries.until(targets, 0.0, inf)
            says_more, kin = says_more or call is not asked, object()
        else:
            payer, plan, prepare = known.who, known.plan, known.prepare
            within_s, first_s, kin = known.within_s, known.first_s, known.kin
        fits = plan.most_input(call)
        common = Common(who, mark, said, call.model, payer, plan, prepare, fits, within_s, first_s, kin)
        if not says_more:
            standing.common = common
        return call, common

    def _undo(self, flight: InFlight[Any], now: float) -> None:
        """Leave everything as it was before the call came."""
        for live in flight.tries:
            live.end("cancelled", now)
        self._accounts.give_back(flight)
        if flight.ticket is not None:
            self._doors.undo(flight.ticket, now)
        line = self._line
        line.in_flight -= 1
        if not line.in_flight:
            line.idle()
