"""Counts what passed in the last minute, so that never more than a limit passes in any minute.

A sliding window: what was taken leaves it a minute later. A bucket that refills would let up to twice the limit through in
its first minute; fixed minutes would do so around each full one. What is taken within a quarter of a second is kept as one
slice that leaves with its youngest part, so a window holds at most 257 of them, and passes at least 99.6 % of its limit.

A window counts two things in one go: an amount (tokens), and how often it was taken (requests). The amount is taken by an
estimate and corrected once it is known. What went beyond its limit is a debt: it takes up the window, as soon as there is
room, before anything else does.

Pure: time is passed in. Place in the line: the counters of `rooms.py`.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

MINUTE_S = 60.0
GRAIN_S = MINUTE_S / 256
MOST_DEBT = 10
"""Minutes for which one call may shut its successors out, whatever a provider says that it used."""
NO_LIMIT: Final = 1 << 62
"""More than anything ever takes."""

_GONE = -1


class Slice:
    """What was taken within a grain: `amount`, negative once it has left its window, in so many `calls`.

    `at` is the time of the last of it.
    """

    __slots__ = ("amount", "at", "began", "calls")

    def __init__(self, amount: int, calls: int, at: float, began: float) -> None:
        self.amount = amount
        self.calls = calls
        self.at = at
        self.began = began


class Window:
    """At most `limit` in any minute, taken by at most `most_calls`."""

    __slots__ = ("calls", "debt", "limit", "most_calls", "slices", "used")

    def __init__(self, limit: int = NO_LIMIT, most_calls: int = NO_LIMIT) -> None:
        self.limit = limit
        self.most_calls = most_calls
        self.used = 0
        self.calls = 0
        self.debt = 0
        self.slices: deque[Slice] = deque()

    def fits(self, amount: int, now: float) -> bool:
        """Whether `amount` may be taken now. More than the limit needs the whole window."""
        slices = self.slices
        if slices and slices[0].at + MINUTE_S <= now:
            self.pass_on(now)
        return self.calls < self.most_calls and (self.used + amount <= self.limit or self.has(amount))

    def has(self, amount: int) -> bool:
        """Whether the amount alone would fit, by what was let go of until now."""
        return self.used + amount <= self.limit or (amount > self.limit and self.used <= 0)

    def take(self, amount: int, now: float, calls: int = 1) -> Slice:
        """Take it, or the whole window if it is more than that; give the slice in which it is counted."""
        if amount > self.limit:  # noqa: PLR1730 - quicker than min(), and this is done for every call
            amount = self.limit
        self.used += amount
        self.calls += calls
        slices = self.slices
        if slices and now - (last := slices[-1]).began < GRAIN_S:
            last.amount += amount
            last.calls += calls
            if now > last.at:  # noqa: PLR1730 - as above
                last.at = now
            return last
        new = Slice(amount, calls, now, now)
        slices.append(new)
        return new

    def correct(self, taken: Slice, more: int, now: float) -> None:
        """Count `more` (or less, if negative) of what was taken. What has left the window is not given back."""
        slices, used = self.slices, self.used + more
        if self.debt or used > self.limit or taken.amount + more < 0 or not slices or slices[0].at + MINUTE_S <= now:
            self._correct(taken, more, now)
        elif more > 0:
            self.take(more, now, 0)
        else:
            taken.amount += more
            self.used = used

    def _correct(self, taken: Slice, more: int, now: float) -> None:
        """Do as `correct`, whatever is owed, gone, or more than there is."""
        if self.slices and self.slices[0].at + MINUTE_S <= now:
            self.pass_on(now)
        if more > 0:
            fits = min(more, max(0, self.limit - self.used))
            if fits:
                self.take(fits, now, 0)
            self.debt = min(self.debt + more - fits, MOST_DEBT * self.limit)
        elif taken.amount > 0:
            back = min(self._paid(-more) if self.debt else -more, taken.amount)
            taken.amount -= back
            self.used -= back

    def _paid(self, amount: int) -> int:
        """Pay debts with what comes back; give what is left of it."""
        paid = min(self.debt, amount)
        self.debt -= paid
        return amount - paid

    def undo(self, taken: Slice, amount: int, now: float) -> None:
        """Give back a call that took so much: it never was."""
        self.correct(taken, -amount, now)
        if taken.calls > 0:
            taken.calls -= 1
            self.calls -= 1

    def ready_at(self, amount: int, now: float, calls: int = 1) -> float:
        """Say when `amount` can have been taken by so many calls; in a minute after another, if it is more than one's worth."""
        self.pass_on(now)
        at, over = now, self.used + self.debt + amount - self.limit
        if over > 0:
            at = _ready_at(over, self.limit, ((one.amount, one.at) for one in self.slices), now)
        over = self.calls + calls - self.most_calls
        if over > 0:
            at = max(at, _ready_at(over, self.most_calls, ((one.calls, one.at) for one in self.slices), now))
        return at

    def pass_on(self, now: float) -> None:
        """Let go of what was taken a minute ago; debts take its place."""
        slices = self.slices
        while slices and slices[0].at + MINUTE_S <= now:
            gone = slices.popleft()
            self.used -= gone.amount
            self.calls -= gone.calls
            gone.amount, gone.calls = _GONE, 0
            if self.debt and (paid := min(self.debt, self.limit - self.used)) > 0:
                self.debt -= paid
                self.take(paid, gone.at + MINUTE_S, 0)

    def forget_amounts(self) -> None:
        """Go on as if nothing had been taken but calls."""
        self.used = self.debt = 0
        for one in self.slices:
            one.amount = 0

    def forget_calls(self) -> None:
        """Go on as if nobody had called."""
        self.calls = 0
        for one in self.slices:
            one.calls = 0


def _ready_at(over: int, limit: int, slices: Iterable[tuple[int, float]], now: float) -> float:
    """Say when so much of what is counted in slices has left, and what comes after it as well: a limit's worth a minute."""
    rounds = (over - 1) // limit
    rest = over - rounds * limit
    at = now + MINUTE_S  # what is taken now leaves then
    for amount, when in slices:
        rest -= amount
        if rest <= 0:
            at = when + MINUTE_S
            break
    return at + rounds * MINUTE_S
