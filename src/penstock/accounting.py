"""The money and the memory of a call: what it may cost is held, what it will do is written down, and how it ended is booked.

Place in the line: `gateway.py` calls `reserve` and `intend` before a provider is called, `again` before a try that may cost
once more, and `settle` at the end, which runs once for every call, whatever happened to it, and never waits.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any, Protocol

from msgspec import Struct

from penstock.call import Call, Ticket
from penstock.counting import count_prompt, estimate
from penstock.deadlines import Deadlines
from penstock.errors import BudgetExhausted
from penstock.flushing import Flusher
from penstock.inflight import InFlight, rough
from penstock.ledger.budgets import Hold
from penstock.ledger.records import Intent
from penstock.receipt import Receipt
from penstock.reservations import Reservations
from penstock.target import Target

TEMPLATE_TOKENS = 256
"""What a chat template may add to any prompt (role marks, a default system text), on top of the bound of a call."""

_NS_PER_DAY = 86_400_000_000_000
_EPOCH = 719_163


class Priced(Protocol):
    """A plan, as far as money is concerned; `ids` are the names of its targets."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """Where the call may go."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names."""
        ...

    def output_bound(self, call: Call) -> int:
        """Give the most output tokens that the call may bill."""
        ...


class Books(Struct, frozen=True):
    """Where calls are booked: the ledger behind its flusher, the budgets, the room that they had (`leave`), and who counts them (`observe`)."""

    flusher: Flusher
    reservations: Reservations
    leave: Callable[[Ticket, int, float], None]
    observe: Callable[[Receipt], None]
    config_hash: str


class Accounting:
    """The accounts of one configuration's calls. `clock` gives the loop's seconds, `closed` is told of each call's end."""

    def __init__(
        self,
        books: Books,
        deadlines: Deadlines[InFlight[Hold]],
        clock: Callable[[], float],
        closed: Callable[[], None],
    ) -> None:
        self._books = books
        self._deadlines = deadlines
        self._clock = clock
        self._closed = closed
        self._day = (0, "")

    async def reserve(self, flight: InFlight[Hold], plan: Priced) -> None:
        """Hold the dearest end of the plan: by a bound that is surely enough, else by a count. Raises BudgetExhausted."""
        bound = flight.call.input_bound
        if bound is not None:
            with suppress(BudgetExhausted):  # the bound may be far too high
                return self._hold(flight, plan, bound)
        counts = [await count_prompt(flight.call, target.profile) for target in plan.targets]
        flight.counted = counts[0].n
        return self._hold(flight, plan, max(count.band[1] for count in counts))

    def again(self, flight: InFlight[Hold]) -> None:
        """Hold once more: a further try after one that may be billed costs again. Raises BudgetExhausted."""
        hold, model = self._books.reservations.hold, flight.call.model
        flight.holds.append(hold(flight.who, flight.ceiling, flight.started_ns, flight.id, model))

    def dearest(self, plan: Priced, call: Call, input_tokens: int, now_ns: int) -> int | None:
        """Give the most that any target of the plan may cost, in nano-dollars; None if one of them has no price."""
        tokens = (input_tokens + TEMPLATE_TOKENS, plan.output_bound(call))
        return self._books.reservations.dearest(plan.targets, plan.ids, self._today(now_ns), tokens)

    def intend(self, flight: InFlight[Hold], target: Target) -> None:
        """Write down that the call will be made, at this target first: from here on it cannot be lost."""
        who = flight.who
        self._books.flusher.ledger.intend(
            Intent(  # by position: see InFlight.close
                flight.id,
                flight.started_ns,
                flight.call.dialect,
                flight.call.model,
                flight.call.stream,
                who.key_id,
                who.team,
                who.feature,
                who.user,
                who.session,
                target.id,
                flight.ceiling,
                self._books.config_hash,
            )
        )
        flight.intended = True

    def settle(self, flight: InFlight[Hold]) -> Receipt:
        """Close the call and give its receipt; once, however often it is called."""
        if flight.receipt is not None:
            return flight.receipt
        now, day, books = self._clock(), self._today(flight.started_ns), self._books
        if flight.error is not None:
            flight.error.call_id = flight.id
        try:
            flight.close(now, day, estimate, books.config_hash)
        finally:  # whatever a provider's exchange or a prompt does on the way
            receipt = self._book(flight, flight.receipt or flight.close(now, day, rough, books.config_hash), now)
        return receipt

    def _hold(self, flight: InFlight[Hold], plan: Priced, tokens: int) -> None:
        flight.ceiling = self.dearest(plan, flight.call, tokens, flight.started_ns)
        self.again(flight)

    def _book(self, flight: InFlight[Any], receipt: Receipt, now: float) -> Receipt:
        """Write the receipt down, and give back what was reserved."""
        books = self._books
        books.flusher.ledger.settle(receipt)
        books.reservations.settle(flight.holds, receipt.cost_nano_usd or 0)
        if flight.ticket is not None:
            books.leave(flight.ticket, receipt.usage.input_tokens + receipt.usage.output_tokens, now)
        self._deadlines.forget(flight)
        books.observe(receipt)
        books.flusher.soon()
        self._closed()
        return receipt

    def _today(self, now_ns: int) -> str:
        """Give the day (UTC) of a moment, ISO."""
        number = now_ns // _NS_PER_DAY
        if self._day[0] != number:
            self._day = (number, date.fromordinal(_EPOCH + number).isoformat())
        return self._day[1]
