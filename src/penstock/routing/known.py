"""What is known of one target, and the room of one try there.

A try takes a `Slot` and says, when it gives that back, how it ended. Where nothing but room matters, as nearly always, it needs
none: it is counted as it begins, and as it is answered (`Known.answered`). Pure; place in the line: `health.py` keeps one for
each target.
"""

from math import inf
from typing import Final, Literal

from msgspec import Struct

from penstock.routing.allowance import Allowance
from penstock.routing.breaker import Breaker, BreakerState
from penstock.routing.concurrency import AdaptiveLimit
from penstock.routing.held import HeldTime
from penstock.routing.latency import Latency
from penstock.routing.retry_budget import CAPACITY, RetryBudget
from penstock.target import Target

COOLING_S: Final = 60.0
"""How long a `Retry-After` keeps other calls away at most: a provider that says an hour may mean one caller's quota."""

SLOWEST_TOKENS_PER_S: Final = 5.0
"""A stream below this is slower than people read (about 250 words a minute): broken, where `slow_s` asks for such a judgement."""
FEWEST_TOKENS: Final = 32
"""A shorter answer says nothing about its speed."""

_ROUND_TRIP_S: Final = 1.0  # until one is known
_LONGEST_ROUND_TRIP_S: Final = 10.0

Verdict = Literal["go", "probe", "open", "cooling", "full", "late"]
"""Whether a target may be called: yes; yes, as the probe of its breaker; no: its breaker is open, it asked to be left alone,
it has no room, or its first content would come too late."""

Ending = Literal["ok", "failed", "limited", "timeout", "rejected", "cancelled"]
"""What a try says about the health of its target: it answered, failed, was busy (429, 529), stayed silent, refused what the
caller wrote (4xx), or nothing at all."""


_FAILURES: Final[frozenset[Ending]] = frozenset({"failed", "timeout"})
_COOLING: Final = _FAILURES | {"limited"}  # no caller may keep others away by what it writes


class TargetState(Struct, frozen=True):
    """How one target is, as operators see it. Times are seconds; `ttft` is the time to first content.

    `failures` of `calls` are those that the breaker looks at now, `openings` how often it opened since the start.
    """

    target: str
    breaker: BreakerState
    open_for_s: float | None
    next_probe_in_s: float | None
    openings: int
    failures: int
    calls: int
    in_flight: int
    limit: int
    cooling_s: float
    retry_tokens: float
    ttft_p50_s: float | None
    ttft_p95_s: float | None


class Known:
    """What is known of one target. `seen` is how many tries had begun when somebody last looked for room here.

    It is calm while nothing but room has to be thought of: its breaker is closed and the last try was answered, nobody is kept
    away, the budget and the limit are as large as they can be, and its provider limits nothing but calls at once. Then a call
    with more than `needs_s` seconds left may begin a try without a slot, and one that was answered is counted by `answered`.
    Whatever else happens ends the calm; the next try that begins looks whether it is there again.
    """

    __slots__ = (
        *("breaker", "budget", "cooling_until", "held", "is_calm", "latency", "limit", "needs_s"),
        *("provider", "seen", "target"),
    )

    def __init__(self, target: Target, provider: Allowance) -> None:
        self.target = target
        self.provider = provider
        self.breaker = Breaker()
        self.limit = AdaptiveLimit()
        self.budget = RetryBudget()
        self.latency = Latency()
        self.cooling_until = -inf
        self.held = HeldTime()
        self.is_calm = False
        self.needs_s = -inf
        self.seen = -1

    def verdict(self, now: float, left_s: float) -> Verdict:
        """Say whether it may be called now by a call that has `left_s` seconds left."""
        breaker = self.breaker
        is_open = breaker.opened_at is not None
        if is_open and now < breaker.next_probe_at:
            return "open"
        if now < self.cooling_until:
            return "cooling"
        expected_s = self.latency.expected_s(now)
        if expected_s is not None and expected_s > left_s:
            return "late"
        if self.is_full(now):
            return "full"
        return "probe" if is_open else "go"

    def is_full(self, now: float) -> bool:
        """Tell whether one more try would be too many, for the target or for its provider."""
        limit, provider = self.limit, self.provider
        if limit.in_flight + 1 > limit.most or provider.in_flight >= provider.concurrency:
            return True
        return provider.is_rated and provider.rate_wait_s(now) > 0.0

    def enter(self, now: float, tokens: int) -> "Slot":
        """Take the room of one try, whether there is any or not."""
        provider, breaker, budget = self.provider, self.breaker, self.budget
        self.limit.in_flight += 1
        provider.in_flight += 1
        if budget.tenths < CAPACITY:
            budget.earn()
        if provider.is_rated:
            provider.take(tokens)
        number = breaker.begin()
        is_probe = breaker.opened_at is not None and breaker.begin_probe(now, provider.probe_s)
        self.is_calm = (
            provider.is_calm
            and breaker.opened_at is None
            and breaker.row == 0
            and now >= self.cooling_until
            and budget.tenths >= CAPACITY
            and self.limit.most >= provider.concurrency
        )
        return Slot(self, now, tokens, number, is_probe)

    def slot(self, began: float, number: int) -> "Slot":
        """Give the slot of a try that began without one: there is more to say of it than that it was answered."""
        return Slot(self, began, 0, number, False)

    def answered(self, began: float, number: int, now: float) -> bool:
        """Take back the room of a try that began without a slot and was answered, as `Slot.leave` would.

        False, and nothing is done, where it is not calm any more, or the try is older than the last change of the breaker.
        """
        provider, breaker = self.provider, self.breaker
        if not self.is_calm or number <= breaker.changed_at:
            return False
        breaker.answered += 1
        breaker.outcomes.append(now)
        self.limit.in_flight -= 1
        provider.in_flight -= 1
        held_s = now - began
        self.held.add(held_s)
        provider.held.add(held_s)
        return True

    def round_trip_s(self) -> float:
        """Give how long it takes until the target shows how it takes a try."""
        mean_s = self.latency.mean_s()
        return _ROUND_TRIP_S if mean_s is None else min(mean_s, _LONGEST_ROUND_TRIP_S)


class Slot(Struct, eq=False):
    """The room of one try at its target, until it is given back. `probe` tells whether it tries an open breaker."""

    _known: Known
    _began: float
    _tokens: int
    _number: int
    probe: bool
    _first_at: float | None = None
    _held: bool = True
    _slow: bool = False

    def first(self, now: float) -> None:
        """Note that the first content of a stream came. Of a whole reply, which comes at its end, say nothing here."""
        if self._first_at is not None or not self._held:
            return
        self._first_at = now
        known = self._known
        ttft_s, slow_s = now - self._began, known.provider.slow_s
        known.latency.add(ttft_s, now)
        known.needs_s = known.latency.median_s or -inf
        if slow_s is not None and ttft_s > slow_s:
            self._slow = True
            known.breaker.fail(now, self._number, known.provider.probe_s)
        else:
            known.breaker.answer(now, self._number)
            if known.latency.has_surged():
                known.is_calm = False
                known.limit.back_off(now, known.round_trip_s(), known.provider.concurrency)
            else:
                known.limit.grow(known.provider.concurrency)

    def leave(
        self, now: float, ending: Ending, output_tokens: int = 0, tokens: int = 0, retry_after_s: float | None = None
    ) -> bool:
        """Give the room back and say how the try ended; only the first word counts. Give whether that opened the breaker.

        `output_tokens` is what came out, as far as it came as fast as the target could; `tokens` is what it used in all.
        """
        known = self._known
        provider, breaker, limit = known.provider, known.breaker, known.limit
        has_opened = False
        if ending != "ok" or self.probe or not (provider.is_plain and self._held):
            if not self._held:
                return False
            has_opened = self._judge(now, ending, output_tokens, tokens, retry_after_s)
        elif self._first_at is None:  # it came, and nothing else matters; of a stream that was noted when it began
            breaker.answer(now, self._number)
            if limit.most < provider.concurrency:
                limit.grow(provider.concurrency)
        self._held = False
        limit.in_flight -= 1
        provider.in_flight -= 1
        held_s = now - self._began
        known.held.add(held_s)
        provider.held.add(held_s)
        return has_opened

    def _judge(self, now: float, ending: Ending, output_tokens: int, tokens: int, retry_after_s: float | None) -> bool:
        """Note what an ending says of the target, whatever it is, before the room is given back. Give as `leave` does."""
        known = self._known
        provider, breaker = known.provider, known.breaker
        openings, known.is_calm = breaker.openings, False
        if ending != "ok":
            self._badly(now, ending, retry_after_s)
        elif provider.slow_s is not None and self._trickled(now, provider.slow_s, output_tokens):
            breaker.fail(now, self._number, provider.probe_s, answered=self._first_at is not None)
        elif self._first_at is None:  # else it was noted when that came
            breaker.answer(now, self._number)
            known.limit.grow(provider.concurrency)
        if self.probe:
            breaker.end_probe(self._number)
        if provider.tokens is not None:
            provider.tokens.take(tokens - self._tokens)
        return breaker.openings != openings

    def _trickled(self, now: float, slow_s: float, output_tokens: int) -> bool:
        """Tell whether an answer came so slowly that it is none, and that was not counted when its first content came."""
        if self._slow or output_tokens < FEWEST_TOKENS:
            return False
        took_s = now - (self._began if self._first_at is None else self._first_at)
        return took_s > slow_s and output_tokens < SLOWEST_TOKENS_PER_S * took_s

    def _badly(self, now: float, ending: Ending, retry_after_s: float | None) -> None:
        """Note any other ending."""
        known, breaker, has_begun = self._known, self._known.breaker, self._first_at is not None
        provider = known.provider
        if ending in _FAILURES:
            if not self._slow:
                breaker.fail(now, self._number, provider.probe_s, answered=has_begun)
        elif ending == "rejected" and self.probe:
            breaker.answer(now, self._number)  # it works
        elif not has_begun:
            breaker.pass_over(self._number)
        if ending == "limited":
            known.limit.refuse(now, known.round_trip_s(), provider.concurrency)
        elif ending == "timeout":
            known.limit.back_off(now, known.round_trip_s(), provider.concurrency)
        if retry_after_s is not None and ending in _COOLING:
            known.cooling_until = max(known.cooling_until, now + min(retry_after_s, COOLING_S))


def state(known: Known, now: float) -> TargetState:
    """Say how a target is."""
    breaker, latency = known.breaker, known.latency.quantiles_s()
    failures, calls = breaker.window(now)
    opened_at = breaker.opened_at
    return TargetState(
        target=known.target.id,
        breaker=breaker.state(now),
        open_for_s=None if opened_at is None else now - opened_at,
        next_probe_in_s=None if opened_at is None else max(0.0, breaker.next_probe_at - now),
        openings=breaker.openings,
        failures=failures,
        calls=calls,
        in_flight=known.limit.in_flight,
        limit=known.limit.limit(known.provider.concurrency),
        cooling_s=max(0.0, known.cooling_until - now),
        retry_tokens=known.budget.tenths / 10,
        ttft_p50_s=None if latency is None else latency[0],
        ttft_p95_s=None if latency is None else latency[1],
    )
