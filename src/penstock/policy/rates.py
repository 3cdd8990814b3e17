"""Counts what passed in the last minute, so that never more than a limit passes in any minute.

A sliding window: what was taken leaves it a minute later. A bucket that refills would let up to twice the limit through in
its first minute; fixed minutes would do so around each full one. What is taken within a quarter of a second is kept as one
slice that leaves with its youngest part, so a window holds at most 257 of them, and passes at least 99.6 % of its limit.

Tokens are taken by an estimate and corrected once they are known. What went beyond the limit is a debt: it takes up the
window, as soon as there is room, before anything else does.

Pure: time is passed in. Place in the line: the counters of `rooms.py`.
"""

from collections import deque

MINUTE_S = 60.0
GRAIN_S = MINUTE_S / 256
MOST_DEBT = 10
"""Minutes for which one call may shut its successors out, whatever a provider says that it used."""

_GONE = -1


class Slice:
    """What was taken within a grain: `amount`, negative once it has left its window; `at` is the time of the last of it."""

    __slots__ = ("amount", "at", "began")

    def __init__(self, amount: int, at: float) -> None:
        self.amount = amount
        self.at = at
        self.began = at


class Window:
    """At most `limit` in any minute."""

    __slots__ = ("debt", "limit", "slices", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.debt = 0
        self.slices: deque[Slice] = deque()

    def fits(self, amount: int, now: float) -> bool:
        """Whether `amount` may be taken now. More than the limit needs the whole window."""
        slices = self.slices
        if slices and slices[0].at + MINUTE_S <= now:
            self.pass_on(now)
        used, limit = self.used, self.limit
        return used + amount <= limit or (amount > limit and used <= 0)

    def take(self, amount: int, now: float) -> Slice:
        """Take it, or the whole window if it is more than that; give the slice in which it is counted."""
        amount = min(amount, self.limit)
        self.used += amount
        slices = self.slices
        if slices:
            last = slices[-1]
            if now - last.began < GRAIN_S:
                last.amount += amount
                last.at = max(last.at, now)
                return last
        new = Slice(amount, now)
        slices.append(new)
        return new

    def correct(self, taken: Slice, more: int, now: float) -> None:
        """Count `more` (or less, if negative) of what was taken. What has left the window is not given back."""
        self.pass_on(now)
        if more > 0:
            fits = min(more, max(0, self.limit - self.used))
            if fits:
                self.take(fits, now)
            self.debt = min(self.debt + more - fits, MOST_DEBT * self.limit)
        elif taken.amount > 0:
            paid = min(self.debt, -more)
            self.debt -= paid
            back = min(-more - paid, taken.amount)
            taken.amount -= back
            self.used -= back

    def ready_at(self, amount: int, now: float) -> float:
        """Say when `amount` can have been taken; as much as a minute's worth after another, if it is more than that."""
        self.pass_on(now)
        over = self.used + self.debt + amount - self.limit
        if over <= 0:
            return now
        rounds = (over - 1) // self.limit  # a limit's worth leaves in every minute
        rest = over - rounds * self.limit
        at = now + MINUTE_S  # what is taken now leaves then
        for one in self.slices:
            rest -= one.amount
            if rest <= 0:
                at = one.at + MINUTE_S
                break
        return at + rounds * MINUTE_S

    def pass_on(self, now: float) -> None:
        """Let go of what was taken a minute ago; debts take its place."""
        slices = self.slices
        while slices and slices[0].at + MINUTE_S <= now:
            gone = slices.popleft()
            self.used -= gone.amount
            gone.amount = _GONE
            if self.debt and (paid := min(self.debt, self.limit - self.used)) > 0:
                self.debt -= paid
                self.take(paid, gone.at + MINUTE_S)
