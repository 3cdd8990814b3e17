"""Decides which alerts are due: how far a budget is spent, and how fast.

Three events. A threshold (`budget_threshold`) is a percentage of the limit; of several that are passed at once the
highest is due and names the others. 100 is due when everything is spent, or when a call is refused with hardly anything
left. A refusal with more left than that (`budget_refusal`) says that calls are too dear to be reserved. A burn rate
(`budget_burn_rate`) is due when a budget is spent so many times faster than evenly, over the last hour and over the last
five minutes, and would not last to the end of its period; it is due again after the pace has fallen below half of that.

What is due stays so until `told` says that somebody was told of it. Pure: figures and the time come in, no clock, no file,
no float. Memory: one record for each budget that has spent anything in its period, and 19 integers more for one
that has spent in the last hour.

Place in the line: beside it; `alarms.py` hands in the budgets and gives out what is due. Source: Google's SRE workbook,
chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
"""

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Literal

from msgspec import Struct

Event = Literal["budget_threshold", "budget_refusal", "budget_burn_rate"]

NEARLY_PERCENT: Final = 90
"""From here on a refusal means that the budget is used up, before that the call is too dear for what is left."""
FLOOR_PERCENT: Final = 2
"""No pace is told of before so much is spent."""

NS_PER_S: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * NS_PER_S
_SLOT_NS: Final = 5 * _MINUTE_NS
_HOUR_SLOTS: Final = 12
_SHORT: Final = 6
"""Minutes that are remembered: five, and the one that goes on."""
_LONG: Final = _HOUR_SLOTS + 1
_NEVER: Final = (1 << 63) - 1


class Standing(Struct, frozen=True, gc=False):
    """A budget at a moment: whose it is, what of it is spent and held, and from when to when its period goes.

    `refused` counts the calls that it refused in this period because too little was left (not because others held it), as
    far as this process knows. Amounts are nano-dollars, times nanoseconds since the epoch.
    """

    kind: str
    name: str
    window: str
    limit_nano_usd: int
    spent_nano_usd: int
    held_nano_usd: int
    start_ns: int
    end_ns: int
    zone: str = "UTC"
    soft: bool = False
    refused: int = 0

    @property
    def is_used_up(self) -> bool:
        """Whether everything is spent, or calls are refused with hardly anything left."""
        spent, limit = self.spent_nano_usd, self.limit_nano_usd
        return spent >= limit or (self.refused > 0 and spent * 100 >= limit * NEARLY_PERCENT)


class Rules(Struct, frozen=True):
    """What is told of: percentages of a budget, ascending, and how many times the even pace; None for no pace."""

    percents: tuple[int, ...] = (50, 80, 100)
    burn_rate: int | None = 3


class Pace(Struct, frozen=True, gc=False):
    """How fast a budget is being spent.

    So much in `span_ns`, which is `tenths` / 10 times the even pace; going on so, all is spent at `used_up_ns`.
    """

    spent_nano_usd: int
    span_ns: int
    tenths: int
    used_up_ns: int


class Due(Struct, frozen=True):
    """Something that somebody should be told. `lower` are further thresholds that were passed at the same time.

    `silent`: it was told already, when the limit was another one, and is only to be remembered.
    """

    event: Event
    budget: Standing
    at_ns: int
    percent: int | None = None
    lower: tuple[int, ...] = ()
    pace: Pace | None = None
    silent: bool = False


class Claim(Struct, frozen=True, gc=False):
    """What makes sure that something is told once: `key` may be claimed with a value that is `gap` above the last one.

    It has to be remembered until `until_s`.
    """

    key: bytes
    value: int
    gap: int
    until_s: int


def claim(due: Due) -> Claim:
    """Give what has to be claimed before this is told.

    Of a budget in a period, under one limit: each percentage once, and none below one that was told; a refusal once; a pace
    once in an hour.
    """
    budget = due.budget
    parts = (due.event, budget.kind, budget.name, budget.window, budget.zone, budget.start_ns, budget.limit_nano_usd)
    key = blake2b(repr(parts).encode(), digest_size=16).digest()
    until_s = budget.end_ns // NS_PER_S
    if due.event == "budget_burn_rate":
        return Claim(key, due.at_ns // NS_PER_S, 3600, until_s)
    return Claim(key, due.percent or 1, 1, until_s)


class _Watch:
    """What is remembered of a budget in one period.

    `told` is the highest percentage that was told, `next_nano_usd` what has to be spent for the next one. `known_ns` is
    since when `spent` is known without a gap. `recent` holds what was spent at the beginning of the last minutes and, behind
    those, of the last slots of five minutes; it is there while anything is spent.
    """

    __slots__ = (
        *("burning", "changed_ns", "dear", "end_ns", "known_ns", "limit", "minute", "next_nano_usd", "recent"),
        *("refused", "spent", "start_ns", "told"),
    )

    def __init__(self, budget: Standing, now_ns: int, since_ns: int) -> None:
        self.start_ns, self.end_ns, self.limit = budget.start_ns, budget.end_ns, budget.limit_nano_usd
        seen_whole = budget.start_ns >= since_ns
        self.known_ns = budget.start_ns if seen_whole else now_ns
        self.spent = 0 if seen_whole else budget.spent_nano_usd
        self.changed_ns = now_ns
        self.next_nano_usd = 0
        self.told = self.refused = self.minute = 0
        self.dear = self.burning = False
        self.recent: array[int] | None = None

    def advance(self, spent: int, now_ns: int) -> None:
        """Take note of what is spent now."""
        minute, recent = now_ns // _MINUTE_NS, self.recent
        if spent != self.spent:
            self.changed_ns = now_ns
        if recent is None:
            recent = self.recent = array("q", [self.spent]) * (_SHORT + _LONG)
            self.minute = minute
        elif minute > self.minute:
            before = self.spent
            for at in range(max(self.minute + 1, minute - _SHORT + 1), minute + 1):
                recent[at % _SHORT] = before
            slot = minute // 5
            for at in range(max(self.minute // 5 + 1, slot - _LONG + 1), slot + 1):
                recent[_SHORT + at % _LONG] = before
            self.minute = minute
            if now_ns - self.changed_ns > (_LONG + 1) * _SLOT_NS:
                self.recent, self.burning = None, False
        self.spent = spent

    def short(self, now_ns: int) -> tuple[int, int]:
        """Give what was spent since five minutes ago, and since when exactly."""
        assert self.recent is not None, "asked for a budget in which something is spent"
        first = self.minute - _SHORT + 1
        return self.spent - self.recent[first % _SHORT], self._no_earlier(now_ns) - first * _MINUTE_NS

    def long(self, now_ns: int) -> tuple[int, int]:
        """Give what was spent since an hour ago, and since when exactly."""
        assert self.recent is not None, "asked for a budget in which something is spent"
        first = self.minute // 5 - _HOUR_SLOTS
        return self.spent - self.recent[_SHORT + first % _LONG], self._no_earlier(now_ns) - first * _SLOT_NS

    def _no_earlier(self, now_ns: int) -> int:
        """Give the time, if the clock has not been put back."""
        return max(now_ns, self.minute * _MINUTE_NS)


class Watches:
    """Every budget that spends, as it was last seen. `now_ns` is when this begins: what was spent before is no pace."""

    __slots__ = ("_rules", "_since_ns", "_watches")

    def __init__(self, rules: Rules, now_ns: int) -> None:
        self._rules = rules
        self._since_ns = now_ns
        self._watches: dict[tuple[str, str, str], _Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def reload(self, rules: Rules) -> None:
        """Go by other rules; what was told stays told."""
        self._rules = rules
        for watch in self._watches.values():
            watch.next_nano_usd = 0  # worked out anew at the next look

    def look(self, budget: Standing, now_ns: int) -> Sequence[Due]:
        """Give what is due, again and again until it is `told`."""
        spent, key = budget.spent_nano_usd, (budget.kind, budget.name, budget.window)
        watch = self._watches.get(key)
        if watch is None or watch.start_ns != budget.start_ns:
            if spent <= 0 and not budget.refused:
                return ()
            watch = self._watches[key] = _Watch(budget, now_ns, self._since_ns)
        due: list[Due] = []
        if watch.limit != budget.limit_nano_usd:
            due += self._carry(watch, budget, now_ns)
        if spent >= watch.next_nano_usd or budget.refused > watch.refused:
            due += self._thresholds(watch, budget, now_ns)
        if watch.recent is not None or spent != watch.spent:
            watch.advance(spent, now_ns)
            if watch.recent is not None and self._rules.burn_rate is not None:
                due += self._burn(watch, budget, now_ns)
        return due

    def told(self, due: Due) -> None:
        """Take note that somebody was told, here or by another process."""
        budget = due.budget
        watch = self._watches.get((budget.kind, budget.name, budget.window))
        if watch is None or (watch.start_ns, watch.limit) != (budget.start_ns, budget.limit_nano_usd):
            return
        if due.event == "budget_burn_rate":
            watch.burning = True
            return
        if due.event == "budget_refusal":
            watch.dear = True
        elif due.percent is not None:
            watch.told = max(watch.told, due.percent)
        watch.next_nano_usd = self._next(watch)

    def forget(self, now_ns: int) -> None:
        """Let go of budgets that nobody has looked at since their period was over."""
        over = [key for key, watch in self._watches.items() if watch.end_ns + 60 * _MINUTE_NS < now_ns]
        for key in over:
            del self._watches[key]

    # -- thresholds --

    def _thresholds(self, watch: _Watch, budget: Standing, now_ns: int) -> list[Due]:
        passed, due = self._passed(budget), []
        if budget.refused > watch.refused:
            if watch.limit > 0 and 100 in self._rules.percents and budget.is_used_up:
                passed = max(passed, 100)
            elif watch.dear or watch.limit <= 0:
                watch.refused = budget.refused
            else:
                due.append(Due("budget_refusal", budget, now_ns))
        if passed > watch.told:
            lower = tuple(one for one in self._rules.percents if watch.told < one < passed)
            due.append(Due("budget_threshold", budget, now_ns, passed, lower))
        elif not due:
            watch.refused = max(watch.refused, budget.refused)
            watch.next_nano_usd = self._next(watch)
        return due

    def _passed(self, budget: Standing) -> int:
        """Give the highest percentage that is spent, 0 if none is."""
        spent, limit = budget.spent_nano_usd, budget.limit_nano_usd
        return max((one for one in self._rules.percents if spent > 0 and one * limit <= 100 * spent), default=0)

    def _next(self, watch: _Watch) -> int:
        """Give what has to be spent for the next percentage."""
        above = [one for one in self._rules.percents if one > watch.told]
        return -(-min(above) * watch.limit // 100) if above else _NEVER

    def _carry(self, watch: _Watch, budget: Standing, now_ns: int) -> list[Due]:
        """Take another limit: what was told and still holds is not told again, what holds no longer may be."""
        watch.limit, watch.next_nano_usd = budget.limit_nano_usd, 0
        watch.told = min(watch.told, self._passed(budget))
        watch.dear = watch.burning = False
        return [Due("budget_threshold", budget, now_ns, watch.told, silent=True)] if watch.told else []

    # -- pace --

    def _burn(self, watch: _Watch, budget: Standing, now_ns: int) -> list[Due]:
        rate, limit, length_ns = self._rules.burn_rate or 0, watch.limit, watch.end_ns - watch.start_ns
        spent, span_ns = watch.long(now_ns)
        if watch.burning:
            if 2 * spent * length_ns < rate * limit * span_ns:
                watch.burning = False
            return []
        if spent * length_ns <= rate * limit * span_ns or watch.spent >= limit:
            return []
        if watch.spent * 100 < limit * FLOOR_PERCENT:
            return []
        lately, lately_ns = watch.short(now_ns)
        if lately * length_ns <= rate * limit * lately_ns:
            return []
        pace = self._pace(watch, (spent, span_ns), now_ns)
        return [Due("budget_burn_rate", budget, now_ns, pace=pace)] if pace.used_up_ns < watch.end_ns else []

    def _pace(self, watch: _Watch, hour: tuple[int, int], now_ns: int) -> Pace:
        """Say how fast it goes, and for how long; where less than an hour is known, by what is known."""
        spent, span_ns = hour
        span_ns = max(min(span_ns, now_ns - watch.known_ns), _SLOT_NS)
        tenths = 10 * spent * (watch.end_ns - watch.start_ns) // (watch.limit * span_ns)
        return Pace(spent, span_ns, tenths, now_ns + (watch.limit - watch.spent) * span_ns // spent)
