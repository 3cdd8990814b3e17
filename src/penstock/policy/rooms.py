"""The counters of one limit: requests and tokens in the last minute, calls at once, and how long calls stay.

Pure: time is passed in. It knows neither who is calling nor who waits. Place in the line: `admission.py` keeps one room for
each team, feature, model and key that has limits.
"""

from math import ceil
from typing import Literal

from penstock.call import Limits
from penstock.errors import RateLimited
from penstock.policy.rates import Slice, Window

SHARE = 0.05
"""What the latest call counts for, at least, in the mean time that calls stay."""
MARGIN = 1.25
"""Half of all waits are longer than expected: so much longer nearly none is."""
UNKNOWN_S = 1.0
"""After how long to come again where nobody can tell."""

Kind = Literal["key", "team", "feature", "model"]
Place = tuple["Room", Slice | None, Slice | None, int]
"""A place taken in a room: the slices in which its request and its tokens are counted, and how many tokens were taken."""


class Room:
    """One limit at work. `contested`: somebody waits for it, so that nobody may push in."""

    __slots__ = (
        "calls",
        "concurrency",
        "contested",
        "inside",
        "kind",
        "limits",
        "mean_s",
        "name",
        "requests",
        "tokens",
    )

    def __init__(self, kind: Kind, name: str, limits: Limits) -> None:
        self.kind: Kind = kind
        self.name = name
        self.inside = 0
        self.calls = 0
        self.mean_s = 0.0
        self.contested = False
        self.requests: Window | None = None
        self.tokens: Window | None = None
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """Set the limits; what was counted stays counted."""
        self.limits = limits
        self.concurrency = limits.concurrency
        self.requests = _window(self.requests, limits.rpm)
        self.tokens = _window(self.tokens, limits.tpm)

    def fits(self, tokens: int, now: float) -> bool:
        """Whether a call of so many tokens finds room now."""
        if self.concurrency is not None and self.inside >= self.concurrency:
            return False
        if self.requests is not None and not self.requests.fits(1, now):
            return False
        return self.tokens is None or self.tokens.fits(tokens, now)

    def enter(self, tokens: int, now: float) -> Place:
        """Take a place."""
        self.inside += 1
        request = None if self.requests is None else self.requests.take(1, now)
        if self.tokens is None:
            return self, request, None, 0
        tokens = min(tokens, self.tokens.limit)
        return self, request, self.tokens.take(tokens, now), tokens

    def leave(self, place: Place, tokens: int, stayed_s: float, now: float) -> None:
        """Give a place back; the call used so many tokens."""
        _, _, taken, estimate = place
        self.inside -= 1
        self.calls += 1
        self.mean_s += max(SHARE, 1 / self.calls) * (stayed_s - self.mean_s)
        if taken is not None and self.tokens is not None:
            self.tokens.correct(taken, tokens - estimate, now)

    def undo(self, place: Place, now: float) -> None:
        """Take back that somebody entered."""
        _, request, taken, estimate = place
        self.inside -= 1
        if request is not None and self.requests is not None:
            self.requests.correct(request, -1, now)
        if taken is not None and self.tokens is not None:
            self.tokens.correct(taken, -estimate, now)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it, once its windows have passed on."""
        return not self.inside and not any(window and (window.used or window.debt) for window in self._windows)

    @property
    def _windows(self) -> tuple[Window | None, Window | None]:
        return self.requests, self.tokens

    def pass_on(self, now: float) -> None:
        """Let go of what was taken a minute ago."""
        for window in self._windows:
            if window is not None:
                window.pass_on(now)

    def rate_at(self, tokens: int, now: float) -> float | None:
        """Say when its rates let a call of so many tokens in; None where no rate keeps it out."""
        at = now
        if self.requests is not None:
            at = self.requests.ready_at(1, now)
        if self.tokens is not None:
            at = max(at, self.tokens.ready_at(min(tokens, self.tokens.limit), now))
        return at if at > now else None

    def expected_at(self, ahead: int, tokens_ahead: int, tokens: int, now: float) -> float:
        """Say when a call can be expected to find room behind `ahead` others that want so many tokens together."""
        at = now
        if self.concurrency is not None and self.inside + ahead >= self.concurrency:
            at += MARGIN * self.mean_s * (self.inside + ahead + 1 - self.concurrency) / self.concurrency
        if self.requests is not None:
            at = max(at, self.requests.ready_at(ahead + 1, now))
        if self.tokens is not None:
            at = max(at, self.tokens.ready_at(tokens_ahead + min(tokens, self.tokens.limit), now))
        return at

    def refusal(self, tokens: int, wait_s: float, now: float) -> RateLimited:
        """Say that there is no room, what there is too much of, and when to come again."""
        who = f"{self.kind.capitalize()} {self.name!r}"
        if self.tokens is not None and not self.tokens.fits(tokens, now):
            what = f"{who} has used up its tokens per minute."
        elif self.requests is not None and not self.requests.fits(1, now):
            what = f"{who} has used up its requests per minute."
        elif self.concurrency is not None and self.inside >= self.concurrency:
            what = f"{who} has {self.inside} calls in flight, which is all it may have."
        else:
            what = f"{who} has room only for calls that have waited longer."
        wait_s = wait_s if wait_s > 0 else UNKNOWN_S
        return RateLimited(what, hint=f"Come again in {max(1, ceil(wait_s))} s.", retry_after_s=wait_s)


def _window(before: Window | None, limit: int | None) -> Window | None:
    if limit is None:
        return None
    if before is None:
        return Window(limit)
    before.limit = limit
    return before
