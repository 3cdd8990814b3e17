"""Begins calls without a task, as far as nothing stands in their way: see `direct.py` for what becomes of them.

The calls that begin in one turn of the loop take every step together, one step after the other. The steps are those of
`Gateway.begin`, which begins whatever is left of them.
Place in the line: beside `gateway.py`, behind admission up to the providers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from penstock.accounting import Accounting
from penstock.call import Call, Ticket, Who
from penstock.calls_alike import Common, Commons, Planner
from penstock.direct import Answers, Asker, Direct
from penstock.direct import Line as Settling
from penstock.inflight import InFlight, LiveTry
from penstock.plugins import Prepared, Prepares
from penstock.target import Target
from penstock.together import together

P_contra = TypeVar("P_contra", contravariant=True)


class Line(Settling, Planner, Protocol):
    """What calls that begin need of the gateway."""

    def idle(self) -> None:
        """Hear that no call is left that has not ended."""
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


Ready = tuple[Asker, Call, Common, Prepared]
"""A call that is ready to be sent."""


class Directs:
    """Begins the calls of one configuration that nothing stands in the way of."""

    def __init__(self, line: Line, steps: Steps, within_s: float) -> None:
        """`within_s` seconds are the time for a call that has none of its own."""
        self._line = line
        self._doors, self._accounts, self._tries = steps.doors, steps.accounts, steps.tries
        self._clocks = steps.clocks.clock, steps.clocks.wall_ns, steps.clocks.ledger.new_id
        self._answers = Answers(line, steps.clocks.clock)
        able = {name: one for name, one in steps.providers.items() if isinstance(one, Prepares)}
        prepares = {name: one.prepare for name, one in able.items() if name not in steps.sheltered}
        self._commons = Commons(line, steps.tries.until, prepares, within_s)

    def begin(self, askers: Sequence[Asker]) -> None:
        """Take calls through every step up to their providers, those for which there is nothing more to do.

        Of the others nothing is left. The steps and their order are those of `Gateway.begin`; what one of them raises it will
        raise there as well.
        """
        self._answers.give_out()  # what it makes room for can be taken
        clock, wall_ns, _ = self._clocks
        now_ns, now = wall_ns(), clock()
        ready: list[Ready] = []
        entered: list[Direct] = []
        reserved: list[Direct] = []
        together(partial(self._prepare, ready), askers, _decline)
        together(partial(self._enter, entered, now_ns, now), ready, lambda call, _: call[0].handed_over(None))
        undo = partial(self._undo, now)
        together(partial(self._reserve, reserved, now), entered, undo)
        together(partial(self._send, now), reserved, partial(self._take_back, now))

    def _prepare(self, ready: list[Ready], left: Iterator[Asker]) -> None:
        """Ready calls for their first target."""
        mark = self._commons.mark
        for asker in left:
            call, who, standing = asker.call, asker.who, asker.standing
            common = standing.common
            if (
                common is None
                or common.sampling is not call.sampling
                or common.model != call.model
                or common.stream is not call.stream
                or common.of is not who
                or common.by is not mark
                or not (call.feature is call.user is call.session is None)  # as `says_more` has it
                or call.native
            ):
                call, common = self._commons.find(call, who, standing)
            plan, bound, prepare = common.plan, call.input_bound, common.prepare
            if plan.surely_serves(call) if bound is None else bound <= common.fits:
                prepared = prepare(call, plan.targets[0])
                if prepared is not None:
                    ready.append((asker, call, common, prepared))
                    continue
            asker.handed_over(None)

    def _enter(self, entered: list[Direct], now_ns: int, now: float, left: Iterator[Ready]) -> None:
        """Take a place for calls, and name them."""
        line, answers, try_enter, new_id = self._line, self._answers, self._doors.try_enter, self._clocks[2]
        for asker, call, common, prepared in left:
            who, plan = common.who, common.plan
            ticket = try_enter(who, plan.model, call, now)
            if ticket is None:
                asker.handed_over(None)
                continue
            flight: InFlight[Any] = InFlight(
                new_id(now_ns), now_ns, now, call, who, now + common.within_s, ticket, plan.targets, plan.baseline
            )
            line.in_flight += 1
            entered.append(Direct(answers, common, flight, prepared, asker))

    def _reserve(self, reserved: list[Direct], now: float, left: Iterator[Direct]) -> None:
        """Hold what calls may cost, and take the room of their first tries."""
        reserve, begin = self._accounts.reserve, self._tries.begin
        for call in left:
            flight, plan = call.flight, call.common.plan
            if reserve(flight, plan) and begin(flight, plan.targets, now) is not None:
                reserved.append(call)
            else:
                self._undo(now, call)

    def _send(self, now: float, left: Iterator[Direct]) -> None:
        """Write down that calls will be made, and make them."""
        intend = self._accounts.intend
        for call in left:
            flight, common, prepared, asker = call.flight, call.common, call.prepared, call.asker
            target, leave = common.plan.targets[0], prepared.leave
            latest, deadline = now + common.first_s, flight.deadline
            intend(flight, target, soon=prepared.by_outbox, common=common.intent)
            if leave(deadline if latest > deadline else latest, call):  # noqa: FURB136 - quicker than min()
                begun = asker.begun
                begun(call)
            else:
                intend(flight, target)  # now, since its request goes another way
                asker.handed_over(call)

    def _take_back(self, now: float, call: Direct, why: Exception) -> None:
        """Leave everything as it was; a call that is written down already is settled by a task, which tells of it."""
        if call.flight.intended:
            call.defect = why
            call.asker.handed_over(call)
        else:
            self._undo(now, call)

    def _undo(self, now: float, call: Direct, _why: Exception | None = None) -> None:
        """Leave everything as it was before a call came, which is for a task now."""
        flight, line = call.flight, self._line
        for live in flight.tries:
            live.end("cancelled", now)
        self._accounts.give_back(flight)
        if flight.ticket is not None:
            self._doors.undo(flight.ticket, now)
        line.in_flight -= 1
        if not line.in_flight:
            line.idle()
        call.asker.handed_over(None)


def _decline(asker: Asker, _why: Exception) -> None:
    """Have a task begin with the call: it raises the same again."""
    asker.handed_over(None)
