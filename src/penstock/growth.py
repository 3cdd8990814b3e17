"""What a reply that flows may come to cost is held in time: when to look at it, and by how much its hold grows.

A look compares what has passed with what the hold is enough for, and says how far the next one may be: to where all of that may
be used up, were the text from there on as dense as any can be. So no more passes than is paid for, however seldom anybody
looks. Where every wall is far, so much is held at once that there is nothing to be counted; where one is near, looks come
closer to each other, down to `LOOK_BYTES` of the meter.

Place in the line: `accounting.py` has it; it asks the budgets and sets the meter.
"""

from operator import attrgetter
from typing import Any

from penstock.closing import estimated
from penstock.errors import LimitError
from penstock.inflight import InFlight, LiveTry
from penstock.ledger.limits import ENDLESS, Hold
from penstock.meter import NEVER, Meter
from penstock.reservations import Reservations
from penstock.target import TOKENS_PER_RATE, Ceiling, Target, most

SPARE = 8
"""More is held once less than one part in so many is left of what is held."""
STEP_TOKENS = 1024
"""What a hold grows by at the least, beyond what has passed; it is half again otherwise."""
SMALL_STEP_TOKENS = 64
"""What it grows by where a budget has no room for that."""
MUCH_TOKENS = 16_384
"""What it grows by where every wall is far: each has room for `FAR` such steps, so that nobody else lacks it."""
FAR = 256
MARGIN_TOKENS = 128
"""Input tokens' worth of a hold that is not used up knowingly: what is under way when a stream is ended costs as well."""
BYTES_PER_TOKEN = 4
"""What a token of a prompt is taken to have where nobody has counted it."""

_WALL = attrgetter("wall")


class Growth:
    """The holds of replies that flow, in the budgets of one configuration."""

    def __init__(self, reservations: Reservations) -> None:
        self._reservations = reservations

    def look(self, flight: InFlight[Hold], live: LiveTry, day: str) -> None:
        """Look at a reply that flows: hold more where it may come to cost what is held, and say when to look again.

        What passed is what the provider reports, and is counted where it does not. `day` is that of the call. Raises
        BudgetExhausted, or Overloaded where budgets are shared, once that costs all that is held and no budget has room for
        more.
        """
        meter, target = live.meter, live.target
        is_first = meter.limit < 0  # or more input was reported than there seemed to be
        hold = flight.holds[-1] if flight.holds else None
        if hold is None or target.free or (is_first and min(map(_WALL, hold.budgets), default=ENDLESS) >= ENDLESS):
            meter.watch(NEVER, NEVER, 0)
            return
        if not (is_first or meter.roomy) and meter.goes_on(target.profile):
            return
        into, rates = _input_tokens(flight, meter), self._rates(target, day)
        if is_first or meter.roomy:
            meter.roomy = self._holds_much(hold, rates)
        room = _output_for(_bar(hold), into, rates)
        used = meter.most_tokens(target.profile) if is_first or meter.roomy else NEVER
        if used > room:  # else there is nothing to be counted
            used = meter.output_tokens(target.profile)
        if used > room:
            spent = most(into, used, rates)
            large = max(hold.ceiling_nano_usd * 3 // 2, spent + most(0, STEP_TOKENS, rates))
            small = (spent + most(0, SMALL_STEP_TOKENS, rates)) * SPARE // (SPARE - 1) + 1
            refused = self._grown(hold, large, small)
            if refused is not None:
                _go_on(flight, live, hold, rates, refused)
                return
            room = _output_for(_bar(hold), into, rates)
        meter.watch(into, room, used, _output_for(hold.ceiling_nano_usd, into, rates) - room)

    def _holds_much(self, hold: Hold, rates: tuple[Ceiling, ...]) -> bool:
        """Hold a lot more where every wall is still far; tell whether that was done."""
        return _is_far(hold, rates) and self._grown(hold, hold.ceiling_nano_usd + most(0, MUCH_TOKENS, rates)) is None

    def _grown(self, hold: Hold, *ceilings: int) -> LimitError | None:
        """Hold so much, or else as much as comes next; give why not even the last is possible."""
        refused: LimitError | None = None
        for ceiling in ceilings:
            try:
                self._reservations.grow(hold, ceiling)
            except LimitError as error:
                refused = error
            else:
                return None
        return refused

    def _rates(self, target: Target, day: str) -> tuple[Ceiling, ...]:
        """Give the dearest rates of a target on a day; none where it has no price."""
        return self._reservations.rates((target,), (target.id,), day) or ()


def _is_far(hold: Hold, rates: tuple[Ceiling, ...]) -> bool:
    """Tell whether every wall is far, as its period thinks, which is asked before anything is held."""
    need = FAR * most(0, MUCH_TOKENS, rates)
    walls = zip(hold.budgets, hold.periods, strict=True)
    return not any(period.spent + period.held + need > budget.wall for budget, period in walls)


def _go_on(flight: InFlight[Any], live: LiveTry, hold: Hold, rates: tuple[Ceiling, ...], refused: LimitError) -> None:
    """Let a reply that cannot grow have what is held, as it would be billed now; raise where that is used up."""
    meter = live.meter
    used = estimated(flight, live) if meter.usage is None else meter.usage
    room = _output_for(hold.ceiling_nano_usd, used.input_tokens + MARGIN_TOKENS, rates)
    if room < used.output_tokens:
        raise refused
    meter.watch(used.input_tokens, room, used.output_tokens)


def _bar(hold: Hold) -> int:
    """Give the most that may be spent before more is held."""
    return hold.ceiling_nano_usd - hold.ceiling_nano_usd // SPARE - 1


def _output_for(nano_usd: int, into: int, rates: tuple[Ceiling, ...]) -> int:
    """Give the most output tokens that so much money is enough for; below 0 where not even the input is paid by it."""
    room = NEVER
    for rate_in, rate_out in rates:
        left = nano_usd * TOKENS_PER_RATE - into * rate_in
        room = min(room, left // rate_out if rate_out else NEVER if left >= 0 else -1)
    return room


def _input_tokens(flight: InFlight[Any], meter: Meter) -> int:
    """Give the input as it is reported, else as it was counted, else as its length has it."""
    if meter.reported is not None and meter.reported.input_tokens:
        return meter.reported.input_tokens
    return -(-(flight.call.input_bound or 0) // BYTES_PER_TOKEN) if flight.counted is None else flight.counted
