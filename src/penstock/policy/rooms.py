"""The counters of one limit: requests and tokens in the last minute, calls at once, and how long calls stay.

Pure: time is passed in. It knows neither who is calling nor who waits. Place in the line: `admission.py` keeps one room for
each team, feature, model and key that has limits.
"""

from math import ceil, inf
from typing import Literal

from penstock.call import Limits, Ticket
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


class Room:
    """One limit at work. `contested`: somebody waits for it, so that nobody may push in.

    Nearly always there is room for many more. So where one has entered, others have leave to do so without a look, as long as
    that grain lasts: `lets` counts them down. What they took is worked into the counters as soon as anybody looks at those,
    which ends the leave.
    """

    __slots__ = (
        *("calls", "concurrency", "contested", "kind", "lets", "limits", "mean_s", "most_tokens", "name"),
        *("_bar", "_entered", "_let", "_open", "_rates", "_until", "_was"),
    )

    def __init__(self, kind: Kind, name: str, limits: Limits) -> None:
        self.kind: Kind = kind
        self.name = name
        self.calls = 0
        self.mean_s = 0.0
        self.contested = False
        self.limits = Limits()
        self._entered = 0
        self._rates: Window | None = None
        self.lets = self._let = 0  # how many still have leave, and had it at first
        self._open = Slice(0, 0, -inf, -inf)  # the slice in which they are counted,
        self._was = 0  # what it held when leave was given,
        self._bar = 0  # and what it may hold
        self._until = -inf
        self.limit(limits)

    @property
    def inside(self) -> int:
        """How many calls are there."""
        self._look()
        return self._entered - self.calls

    @property
    def rates(self) -> Window | None:
        """What passed in the last minute; None where that is not limited."""
        self._look()
        return self._rates

    def limit(self, limits: Limits) -> None:
        """Set the limits; what was counted stays counted, as long as there was a limit for it."""
        self._look()
        before, self.limits = self.limits, limits
        self.concurrency = NO_LIMIT if limits.concurrency is None else limits.concurrency
        self.most_tokens = limits.tpm or 0  # that one place may take
        if limits.rpm is limits.tpm is None:
            self._rates = None
            return
        rates = self._rates = self._rates or Window()
        rates.limit = NO_LIMIT if limits.tpm is None else limits.tpm
        rates.most_calls = NO_LIMIT if limits.rpm is None else limits.rpm
        if limits.tpm is None:
            rates.forget_amounts()
        if before.rpm is None:
            rates.forget_calls()

    def contest(self) -> None:
        """Let nobody in any more but those that wait."""
        self._look()
        self.contested = True

    def fits(self, tokens: int, now: float) -> bool:
        """Whether a call of so many tokens finds room now."""
        rates = self.rates
        return self._entered - self.calls < self.concurrency and (rates is None or rates.fits(tokens, now))

    def is_let(self, tokens: int, now: float) -> bool:
        """Whether a call of so many tokens has leave to enter."""
        last = self._open
        return self.lets > 0 and last.amount + tokens <= self._bar and last.at <= now < self._until

    def try_enter(self, tokens: int, now: float, also: Ticket | None = None) -> Ticket | None:
        """Take a place if there is room and nobody waits for it; else None. Where tokens are not limited, they are to be 0."""
        last = self._open
        amount = last.amount + tokens
        if self.lets > 0 and amount <= self._bar and last.at <= now < self._until:  # as `is_let` has it
            self.lets -= 1
            last.amount = amount
            last.at = now
            return Ticket(self, last, tokens, now, also)
        return None if self.contested or not self.fits(tokens, now) else self.enter(tokens, now, also)

    def enter(self, tokens: int, now: float, also: Ticket | None = None) -> Ticket:
        """Take a place, and give others leave."""
        rates = self.rates
        self._entered += 1
        tokens = min(tokens, self.most_tokens)
        taken = None if rates is None else rates.take(tokens, now)
        self._give_leave()
        return Ticket(self, taken, tokens, now, also)

    def leave(self, ticket: Ticket, tokens: int, now: float) -> bool:
        """Give a place back, and those that the call has elsewhere; it used so many tokens. Give whether somebody waits for one."""
        self.calls += 1
        self.mean_s += (SHARE if self.calls >= FEW else 1 / self.calls) * (now - ticket.entered - self.mean_s)
        if ticket.tokens:
            taken, more = ticket.taken, tokens - ticket.tokens
            if more > 0 or now >= self._until or taken.amount + more < 0:
                self._correct(taken, more, now)
            else:  # nothing is owed, or leaves the window now: as `Window.correct` has it
                taken.amount += more
                if taken is not self._open:
                    self._was -= more
        if ticket.also is None:
            return self.contested
        return ticket.also.room.leave(ticket.also, tokens, now) or self.contested

    def undo(self, ticket: Ticket, now: float) -> None:
        """Take back that somebody entered."""
        rates = self.rates
        self._entered -= 1
        if ticket.taken is not None and rates is not None:
            rates.undo(ticket.taken, ticket.tokens, now)

    def _correct(self, taken: Slice, more: int, now: float) -> None:
        """Count `more` tokens than a place took, or less, whatever that changes."""
        if not self.most_tokens:
            return
        last, amount = self._open, self._open.amount + more
        if more > 0 and amount <= self._bar and last.at <= now < self._until:  # as `Window.correct` has it
            last.amount = amount
            last.at = now
        elif (rates := self.rates) is not None:
            rates.correct(taken, more, now)

    def _give_leave(self) -> None:
        """Let others enter without a look, as long as nothing leaves the window, and all of them fit."""
        rates, lets = self._rates, self.concurrency + self.calls - self._entered
        if rates is None:
            self._bar, self._until = NO_LIMIT, inf
        elif rates.debt or self.contested:
            return
        else:
            first, last = rates.slices[0], rates.slices[-1]
            lets = min(lets, rates.most_calls - rates.calls)
            self._open, self._was = last, last.amount
            self._bar = rates.limit - rates.used + last.amount
            self._until = last.began + GRAIN_S if first is last else min(last.began + GRAIN_S, first.at + MINUTE_S)
        self.lets = self._let = lets

    def _look(self) -> None:
        """Work into the counters what passed by leave, and let nobody else enter by it."""
        if self._until == -inf:
            return
        passed, rates, last = self._let - self.lets, self._rates, self._open
        self._entered += passed
        if rates is not None:
            rates.calls += passed
            last.calls += passed
            rates.used += last.amount - self._was
        self.lets = self._let = 0
        self._until = -inf

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it, once its window has passed on."""
        rates = self.rates
        return not self.inside and (rates is None or not (rates.used or rates.debt or rates.calls))

    def pass_on(self, now: float) -> None:
        """Let go of what was taken a minute ago."""
        rates = self.rates
        if rates is not None:
            rates.pass_on(now)

    def rate_at(self, tokens: int, now: float) -> float | None:
        """Say when its rates let a call of so many tokens in; None where no rate keeps it out."""
        rates = self.rates
        at = now if rates is None else rates.ready_at(min(tokens, rates.limit), now)
        return at if at > now else None

    def expected_at(self, ahead: int, tokens_ahead: int, tokens: int, now: float) -> float:
        """Say when a call can be expected to find room behind `ahead` others that want so many tokens together."""
        at, rates, inside = now, self.rates, self.inside
        if inside + ahead >= self.concurrency:
            at += MARGIN * self.mean_s * (inside + ahead + 1 - self.concurrency) / self.concurrency
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
