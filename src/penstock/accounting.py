"""The money and the memory of a call: what it may cost is held, what it will do is written down, and how it ended is booked.

Place in the line: `gateway.py` calls `reserve` (else `reserve_counted`) and `intend` before a provider is called, `again`
before a try that may cost once more, `grow` while a reply flows that may outgrow what is held for it, and `settle` at the
end, which is `closing.py`.
"""

from typing import Protocol

from msgspec import Raw

from penstock.call import Call, Who
from penstock.closing import Books, Calls, Closing
from penstock.errors import BudgetExhausted
from penstock.growth import Growth
from penstock.inflight import InFlight, LiveTry
from penstock.ledger.limits import Hold
from penstock.ledger.records import BriefIntent, Intent, in_common
from penstock.target import TOKENS_PER_RATE, Target, most

TEMPLATE_TOKENS = 256
"""What a chat template may add to any prompt (role marks, a default system text), on top of the bound of a call."""

TERMS = 1000
"""Plans, with what is asked of them, of which the dearest end is remembered."""
Asked = tuple[tuple[str, ...], str, int | None, int | None]
"""The targets of a plan, and what bounds an answer: the operation, how many tokens and how many choices."""


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


def intent_in_common(call: Call, who: Who, target: Target) -> Raw | None:
    """Give what is written down of every such call before it is made, whatever it is named and may cost."""
    of_whom = who.key_id, who.team, who.feature, who.user, who.session
    return in_common(Intent("", 0, call.dialect, call.model, call.stream, *of_whom, target.id))


class Accounting(Closing):
    """The accounts of one configuration's calls, which are counted in `calls`."""

    def __init__(self, books: Books, calls: Calls) -> None:
        super().__init__(books, calls)
        self._growth = Growth(books.reservations)
        self._terms: dict[Asked, tuple[int, int]] = {}  # what a token of the input may cost that day, and all else

    def reserve(self, flight: InFlight[Hold], plan: Priced) -> bool:
        """Hold the dearest end of the plan by a bound that is surely enough; tell whether there is one, and room for it."""
        call, now_ns = flight.call, flight.started_ns
        bound, sampling = call.input_bound, call.sampling
        if bound is None:
            return False
        terms = self._terms.get((plan.ids, call.operation, sampling.max_tokens, sampling.n))
        if terms is None or not self._begins_ns <= now_ns < self._ends_ns:
            flight.ceiling = ceiling = self.dearest(plan, call, bound, now_ns)
        else:
            flight.ceiling = ceiling = (bound * terms[0] + terms[1]) // TOKENS_PER_RATE
        try:
            flight.holds.append(self._reservations.budgets.hold(flight.who, ceiling, now_ns, flight.id, call.model))
        except BudgetExhausted:
            return False  # the bound may be far too high
        return True

    async def reserve_counted(self, flight: InFlight[Hold], plan: Priced) -> None:
        """Hold the dearest end of the plan by a count, which takes longer. Raises BudgetExhausted."""
        counts = [await self._books.calibration.count(flight.call, target) for target in plan.targets]
        flight.counted = counts[0].n
        try:
            self._hold(flight, plan, max(count.band[1] for count in counts))
        except BudgetExhausted:
            self._reservations.refuse(flight.who, flight.ceiling, flight.started_ns, flight.call.model)
            raise

    def give_back(self, flight: InFlight[Hold]) -> None:
        """Hold nothing any more for a call that was not made."""
        self._reservations.settle(flight.holds, 0)

    def again(self, flight: InFlight[Hold]) -> None:
        """Hold once more: a further try after one that may be billed costs again. Raises BudgetExhausted."""
        hold = self._reservations.budgets.hold
        flight.holds.append(hold(flight.who, flight.ceiling, flight.started_ns, flight.id, flight.call.model))

    def _hold(self, flight: InFlight[Hold], plan: Priced, tokens: int) -> None:
        call, now_ns = flight.call, flight.started_ns
        ceiling = flight.ceiling = self.dearest(plan, call, tokens, now_ns)
        flight.holds.append(self._reservations.budgets.hold(flight.who, ceiling, now_ns, flight.id, call.model))

    def grow(self, flight: InFlight[Hold], live: LiveTry) -> None:
        """Look at a reply that flows: see `Growth`. Raises BudgetExhausted, or Overloaded where budgets are shared."""
        self._growth.look(flight, live, self._today(flight.started_ns))

    def dearest(self, plan: Priced, call: Call, input_tokens: int, now_ns: int) -> int | None:
        """Give the most that any target of the plan may cost, in nano-dollars; None if one of them has no price."""
        rates = self._reservations.rates(plan.targets, plan.ids, self._today(now_ns))
        if rates is None:
            return None
        output_tokens = plan.output_bound(call)
        if len(rates) <= 1:  # it is one sum: all of it but the input is remembered, with what rounds it up
            into, out = rates[0] if rates else (0, 0)
            if len(self._terms) >= TERMS:
                self._terms.clear()
            asked = (plan.ids, call.operation, call.sampling.max_tokens, call.sampling.n)
            self._terms[asked] = into, TEMPLATE_TOKENS * into + output_tokens * out + TOKENS_PER_RATE - 1
        return most(input_tokens + TEMPLATE_TOKENS, output_tokens, rates)

    def _today(self, now_ns: int) -> str:
        """Give the day (UTC) of a moment, ISO; what a token costs is looked up anew each day."""
        if not self._begins_ns <= now_ns < self._ends_ns:
            self._terms.clear()
        return super()._today(now_ns)

    def intend(self, flight: InFlight[Hold], target: Target, *, soon: bool = False, common: Raw | None = None) -> None:
        """Write down that the call will be made, at this target first: from here on it cannot be lost.

        `soon`, for who hands its request to the outbox before anything else happens: together with what else this turn of the
        loop has to write down, before the request goes out. `common` is what its intent has in common with others. Raises
        Overloaded.
        """
        config_hash = self._books.config_hash
        intent: Intent | BriefIntent
        if common is not None:
            intent = BriefIntent(flight.id, flight.started_ns, common, flight.ceiling, config_hash)
        else:
            who, call = flight.who, flight.call
            intent = Intent(  # by position: see InFlight.close
                flight.id, flight.started_ns, call.dialect, call.model, call.stream, who.key_id, who.team, who.feature,
                who.user, who.session, target.id, flight.ceiling, config_hash,
            )  # fmt: skip
        self._ledger.intend(intent, soon=soon)
        flight.intended = True
