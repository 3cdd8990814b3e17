"""Decides whether a target is left alone for a while: a circuit breaker.

Closed, it opens after 5 failures in a row, or when at least half of the last 20 outcomes (at least 10 of them, none older
than 10 s) are failures. A try that gave its first content counts as answered from then on, and as failed if it breaks off
later. Open, it lets one probe through per interval and is then half-open; any first content closes it.

Two things would mislead it. What began before it last changed says nothing about now and is not counted: neither a timeout
that comes in after the target has healed, nor an old answer that ends well after it broke. And since a failure often comes in
sooner than an answer, the first outcomes after a change may all be failures although most tries will be answered; so until 20
have been, at least a third of all that began no later than the one that failed must have failed as well.

It only says so. Whether a call goes to an open target all the same, where nothing else is left, is decided in `attempts.py`,
and such a call closes it as a probe would. Pure; place in the line: one per target in `health.py`.
"""

from collections import deque
from typing import Final, Literal

IN_A_ROW: Final = 5
WINDOW: Final = 20
WINDOW_S: Final = 10.0
FEWEST: Final = 10

BreakerState = Literal["closed", "open", "half_open"]


class Failed(float):
    """When a try failed, among the times when others were answered."""


class Breaker:
    """The breaker of one target.

    Tries are told apart by the number that `begin` gives, which is how many `began` until then. `opened_at` is None while the
    breaker is closed, `openings` counts how often it opened.
    """

    __slots__ = (
        *("began", "next_probe_at", "opened_at", "openings"),
        *("answered", "changed_at", "_failed", "_neutral", "outcomes", "_probes", "row"),
    )

    def __init__(self) -> None:
        """Begin closed."""
        self.next_probe_at = 0.0
        self.opened_at: float | None = None
        self.openings = 0
        self.began = 0
        self.changed_at = 0  # as many had begun when it last opened or closed
        self.outcomes: deque[float] = deque(maxlen=WINDOW)  # when; those that failed as `Failed`
        self.row = 0  # failures since the last answer
        self.answered = self._failed = self._neutral = 0  # since the last change
        self._probes = 0  # in flight

    def state(self, now: float) -> BreakerState:
        """Name the state: half-open is one whose probe is under way, or may be sent."""
        if self.opened_at is None:
            return "closed"
        return "half_open" if self._probes or now >= self.next_probe_at else "open"

    def begin(self) -> int:
        """Note that a try begins, and give its number."""
        self.began += 1
        return self.began

    def begin_probe(self, now: float, probe_s: float) -> bool:
        """Tell whether the try that just began is the probe of this interval."""
        if self.opened_at is None or now < self.next_probe_at:
            return False
        self.next_probe_at = now + probe_s
        self._probes += 1
        return True

    def end_probe(self, number: int) -> None:
        """Note that a probe is over, however it ended."""
        if number > self.changed_at:
            self._probes -= 1

    def answer(self, now: float, number: int) -> None:
        """Note that a try was answered: its first content came, or another sign that the target works."""
        if number <= self.changed_at or self.opened_at is not None:
            if number <= self.changed_at:
                return
            self.opened_at = None
            self.outcomes.clear()
            self._change()
        self.row = 0
        self.answered += 1
        self.outcomes.append(now)

    def pass_over(self, number: int) -> None:
        """Note that a try ended in a way that says nothing of the target's health."""
        if number > self.changed_at:
            self._neutral += 1

    def fail(self, now: float, number: int, probe_s: float, *, answered: bool = False) -> None:
        """Note that a try failed; `answered` tells that it had been noted as answered before."""
        if number <= self.changed_at or self.opened_at is not None:
            return  # an open one stays open until its next probe
        if answered:
            self._take_back()
        self.row += 1
        self._failed += 1
        self.outcomes.append(Failed(now))
        failures, calls = self.window(now)
        if self.row < IN_A_ROW and (calls < FEWEST or failures * 2 < calls):
            return
        if self.answered < WINDOW and self._failed * 3 < number - self.changed_at - self._neutral:
            return
        self.opened_at = now
        self.next_probe_at = now + probe_s
        self.openings += 1
        self._change()

    def window(self, now: float) -> tuple[int, int]:
        """Give how many of the outcomes that count now are failures, and how many there are."""
        recent = [type(at) is Failed for at in self.outcomes if now - at <= WINDOW_S]
        return sum(recent), len(recent)

    def _take_back(self) -> None:
        """Forget one answer, of a try that broke off."""
        outcomes = self.outcomes
        self.answered -= 1
        for place in range(len(outcomes) - 1, -1, -1):
            if type(outcomes[place]) is not Failed:
                del outcomes[place]
                return

    def _change(self) -> None:
        self.changed_at = self.began
        self.answered = self._failed = self._neutral = 0
        self._probes = 0
        self.row = 0
