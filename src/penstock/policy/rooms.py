"""The counters of one limit: requests and tokens in the last minute, calls at once, and how long calls stay.

Pure: time is passed in. It knows neither who is calling nor who waits. Place in the line: `admission.py` keeps one room for
each team, feature, model and key that has limits.
"""

from math import ceil
from typing import Literal

from penstock.call import Limits
from penstock.errors import RateLimited
from penstock.policy.rates import GRAIN_S, MINUTE_S, NO_LIMIT, Slice, Window

FEW = 20
SHARE = 1 / FEW
"""What the latest call counts for, at least, in the mean time that calls stay; fewer calls count for the same each."""
MARGIN = 1.25
"""Half of all waits are longer than expected: so much longer nearly none is."""
UNKNOWN_S = 1.0
"""After how long to come again where nobody can tell."""

Kind = Literal["key", "team", "feature", "model"]
Place = tuple["Room", Slice | None, int]
"""A place taken in a room: the slice in which its request and its tokens are counted, and how many tokens were taken.

0 stands for a room without a limit of tokens, where none are counted.
"""


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
        "most_tokens",
        "name",
        "rates",
    )

    def __init__(self, kind: Kind, name: str, limits: Limits) -> None:
        self.kind: Kind = kind
        self.name = name
        self.inside = 0
        self.calls = 0
        self.mean_s = 0.0
        self.contested = False
        self.rates: Window | None = None
        self.limits = Limits()
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """Set the limits; what was counted stays counted, as long as there was a limit for it."""
        before, self.limits = self.limits, limits
        self.concurrency = NO_LIMIT if limits.concurrency is None else limits.concurrency
        self.most_tokens = limits.tpm or 0  # that one place may take
        if limits.rpm is limits.tpm is None:
            self.rates = None
            return
        rates = self.rates = self.rates or Window()
        rates.limit = NO_LIMIT if limits.tpm is None else limits.tpm
        rates.most_calls = NO_LIMIT if limits.rpm is None else limits.rpm
        if limits.tpm is None:
            rates.forget_amounts()
        if before.rpm is None:
            rates.forget_calls()

    def fits(self, tokens: int, now: float) -> bool:
        """Whether a call of so many tokens finds room now."""
        rates = self.rates
        return self.inside < self.concurrency and (rates is None or rates.fits(tokens, now))

    def try_enter(self, tokens: int, now: float) -> Place | None:
        """Take a place if there is room and nobody waits for it; else None.

        Within the grain in which the last call came, which is nearly always, it does what `fits` and `enter` would, in one go.
        """
        if self.contested or self.inside >= self.concurrency:
            return None
        rates = self.rates
        if rates is None or not rates.slices or rates.calls >= rates.most_calls or rates.used + tokens > rates.limit:
            return self.enter(tokens, now) if self.fits(tokens, now) else None
        first, last = rates.slices[0], rates.slices[-1]
        if now - last.began >= GRAIN_S or first.at + MINUTE_S <= now:
            return self.enter(tokens, now) if self.fits(tokens, now) else None
        if tokens > self.most_tokens:  # noqa: PLR1730 - quicker than min(), and this is done for every call
            tokens = self.most_tokens
        self.inside += 1
        rates.used += tokens
        rates.calls += 1
        last.amount += tokens
        last.calls += 1
        if now > last.at:  # noqa: PLR1730 - as above
            last.at = now
        return self, last, tokens

    def enter(self, tokens: int, now: float) -> Place:
        """Take a place."""
        self.inside += 1
        if tokens > self.most_tokens:  # noqa: PLR1730 - quicker than min(), and this is done for every call
            tokens = self.most_tokens
        return self, None if self.rates is None else self.rates.take(tokens, now), tokens

    def leave(self, place: Place, tokens: int, stayed_s: float, now: float) -> bool:
        """Give a place back; the call used so many tokens. Give whether somebody waits for it."""
        self.inside -= 1
        self.calls += 1
        self.mean_s += (SHARE if self.calls >= FEW else 1 / self.calls) * (stayed_s - self.mean_s)
        _, taken, estimate = place
        if estimate and taken is not None and self.rates is not None and self.most_tokens:
            self.rates.correct(taken, tokens - estimate, now)
        return self.contested

    def undo(self, place: Place, now: float) -> None:
        """Take back that somebody entered."""
        _, taken, estimate = place
        self.inside -= 1
        if taken is not None and self.rates is not None:
            self.rates.undo(taken, estimate, now)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it, once its window has passed on."""
        rates = self.rates
        return not self.inside and (rates is None or not (rates.used or rates.debt or rates.calls))

    def pass_on(self, now: float) -> None:
        """Let go of what was taken a minute ago."""
        if self.rates is not None:
            self.rates.pass_on(now)

    def rate_at(self, tokens: int, now: float) -> float | None:
        """Say when its rates let a call of so many tokens in; None where no rate keeps it out."""
        rates = self.rates
        at = now if rates is None else rates.ready_at(min(tokens, rates.limit), now)
        return at if at > now else None

    def expected_at(self, ahead: int, tokens_ahead: int, tokens: int, now: float) -> float:
        """Say when a call can be expected to find room behind `ahead` others that want so many tokens together."""
        at, rates = now, self.rates
        if self.inside + ahead >= self.concurrency:
            at += MARGIN * self.mean_s * (self.inside + ahead + 1 - self.concurrency) / self.concurrency
        return at if rates is None else max(at, rates.ready_at(tokens_ahead + min(tokens, rates.limit), now, ahead + 1))

    def refusal(self, tokens: int, wait_s: float, now: float) -> RateLimited:
        """Say that there is no room, what there is too much of, and when to come again."""
        who, rates = f"{self.kind.capitalize()} {self.name!r}", self.rates
        if rates is not None and not rates.fits(tokens, now):
            what = f"{who} has used up its {'requests' if rates.has(tokens) else 'tokens'} per minute."
        elif self.inside >= self.concurrency:
            what = f"{who} has {self.inside} calls in flight, which is all it may have."
        else:
            what = f"{who} has room only for calls that have waited longer."
        wait_s = wait_s if wait_s > 0 else UNKNOWN_S
        return RateLimited(what, hint=f"Come again in {max(1, ceil(wait_s))} s.", retry_after_s=wait_s)
