"""Knows how the targets are, and says which of them may be called now.

One breaker, adaptive limit, retry budget and latency per target; calls at once and rates per provider. All of it is fed by the
tries themselves: each takes room at its target and says, when it gives that back, how it ended (`known.py`). It never calls,
waits or reads a clock, and it decides nothing about a call: `attempts.py` asks it, `execute.py` tells it. A reload hands its knowledge on.

Every question is answered in constant time. Clients may name any model of a provider, so at most 2,000 targets are
remembered; what was not used for longest makes room, unless a try is in flight there or its breaker is open.
"""

from collections.abc import Mapping
from typing import Final

from penstock.routing.allowance import Allowance, HealthSettings
from penstock.routing.known import Ending, Known, Slot, TargetState, Verdict, state
from penstock.target import Target

__all__ = ("Ending", "Health", "HealthSettings", "Known", "Slot", "TargetState", "Verdict")

MOST_TARGETS: Final = 2000
_LOOKS: Final = 16


class Health:
    """The health of all targets of one configuration."""

    __slots__ = ("_known", "_providers")

    def __init__(self, providers: Mapping[str, HealthSettings], now: float, before: "Health | None" = None) -> None:
        """Begin; `before` is what this takes the place of, whose tries in flight go on counting."""
        old: dict[str, Allowance] = {}
        known: dict[str, Known] = {}
        if before is not None:
            old, known = before._providers, before._known  # noqa: SLF001 - another one of this class
        self._providers: dict[str, Allowance] = {}
        for name, settings in providers.items():
            if name in old:
                old[name].change(settings, now)
                self._providers[name] = old[name]
            else:
                self._providers[name] = Allowance(settings, now)
        self._known: dict[str, Known] = {name: one for name, one in known.items() if one.target.provider in providers}
        for one in self._known.values():
            one.is_calm = False  # other settings, other limits

    def verdict(self, target: Target, now: float, left_s: float) -> Verdict:
        """Say whether a target may be called now by a call that has `left_s` seconds left."""
        return (self._known.get(target.id) or self._add(target)).verdict(now, left_s)

    def enter_calm(self, target: Target, left_s: float) -> Known | None:
        """Take the room of one try where nothing but room matters, as nearly always; None where more has to be thought of.

        There it does what `enter_at_once` does, but for the slot. The try is the target's number `breaker.began`.
        """
        known = self._known.get(target.id)
        if known is None or not known.is_calm or left_s < known.needs_s:
            return None
        provider = known.provider
        if provider.in_flight >= provider.concurrency:
            return None
        provider.in_flight += 1
        known.limit.in_flight += 1
        known.breaker.began += 1
        return known

    def enter_at_once(self, target: Target, now: float, left_s: float, tokens: int) -> Slot | None:
        """Take the room of one try where the verdict is "go"; None where it is another one."""
        known = self._known.get(target.id) or self._add(target)
        return known.enter(now, tokens) if known.verdict(now, left_s) == "go" else None

    def is_full(self, target: Target, now: float) -> bool:
        """Tell whether a target has no room, whatever else may be said of it; quicker than `verdict`."""
        known = self._known.get(target.id)
        return known is not None and known.is_full(now)

    def enter(self, target: Target, now: float, tokens: int = 0) -> Slot:
        """Take the room of one try, of which about so many tokens are expected, whatever the verdict says."""
        return (self._known.get(target.id) or self._add(target)).enter(now, tokens)

    def may_retry(self, target: Target, now: float) -> bool:  # noqa: ARG002 - the budget of today knows no time
        """Take one token of the target's retry budget; False if there is none."""
        known = self._known.get(target.id) or self._add(target)
        known.is_calm = False
        return known.budget.spend()

    def cooling_s(self, target: Target, now: float) -> float:
        """Give the seconds for which the target asked to be left alone."""
        known = self._known.get(target.id)
        return 0.0 if known is None else max(0.0, known.cooling_until - now)

    def ttft_s(self, target: Target, now: float) -> float:
        """Give the expected time to first content; 0.0 where too little is known."""
        known = self._known.get(target.id)
        return (known.latency.expected_s(now) or 0.0) if known is not None else 0.0

    def free_in_s(self, target: Target, now: float, ahead: int) -> float:
        """Give the expected seconds until there is room at the target for one who stands behind `ahead` others.

        Room comes back at the limit divided by how long a try holds it; never infinite.
        """
        known = self._known.get(target.id) or self._add(target)
        provider = known.provider
        cap = provider.concurrency
        limit = known.limit.limit(cap)
        missing = ahead + 1 + known.limit.in_flight - limit
        wait_s = max(0.0, missing * known.held.mean_s() / limit)
        missing = ahead + 1 + provider.in_flight - cap
        wait_s = max(wait_s, missing * provider.held.mean_s() / cap, known.cooling_until - now)
        for rate in (provider.requests, provider.tokens):
            if rate is not None:
                wait_s = max(wait_s, rate.wait_s(now))
        return wait_s

    def states(self, now: float) -> tuple[TargetState, ...]:
        """Give how every target is that was tried so far."""
        return tuple(state(known, now) for known in self._known.values())

    def _add(self, target: Target) -> Known:
        """Begin to remember a target, and forget another one if there are too many."""
        known = self._known
        if len(known) >= MOST_TARGETS:
            self._forget()
        added = known[target.id] = Known(target, self._providers[target.provider])
        return added

    def _forget(self) -> None:
        """Forget one target that was not used since it was last looked at; after a few looks the one that stands first."""
        known = self._known
        for _ in range(_LOOKS):
            name = next(iter(known))
            one = known.pop(name)
            if one.seen == one.breaker.began and not one.limit.in_flight and one.breaker.opened_at is None:
                return
            one.seen = one.breaker.began
            known[name] = one
        del known[next(iter(known))]
