"""Where calls stand that found no room at any of their targets: the line behind the targets' own limits.

It asks `routing/health.py` whether there is room and `waiting.py` whose turn it is. Whoever is let go has taken the room
by then, so that nobody can come between. Place in the line: `gateway.py` refuses here what would wait in vain, before any money
is held; `execute.py` lets a call stand.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from penstock.call import Call, Who
from penstock.routing.health import Health, Slot, TargetState
from penstock.settings import Priority, ServerSettings
from penstock.target import Target
from penstock.waiting import Claim, Entry, Line, Lobby

LOOK_S = 0.02
"""How often it is looked, while somebody stands there, whether time alone has made room: a rate, a rest that was asked for."""

Taken = tuple[Target, Slot]


class Stander(Protocol):
    """A call that may have to stand."""

    call: Call
    who: Who
    deadline: float

    @property
    def asked_tokens(self) -> int:
        """How many tokens it may take, roughly."""
        ...


class TargetLine(Line[str, Taken]):
    """The line of one configuration. `clock` gives the loop's seconds; `priority` says who goes first."""

    def __init__(
        self,
        health: Health,
        settings: ServerSettings,
        clock: Callable[[], float],
        lobby: Lobby,
        priority: Callable[[Who], Priority],
    ) -> None:
        """Begin; `lobby` is the other line, with which this one shares its bound."""
        super().__init__(settings.queue, clock, self._return)
        self.beside, lobby.beside = lobby, self
        self._health = health
        self._queue_s = settings.queue_s
        self._priority = priority

    @property
    def everybody(self) -> int:
        """How many calls wait for any room, of their own or of a target."""
        return self.waiting + (0 if self.beside is None else self.beside.waiting)

    def states(self) -> tuple[TargetState, ...]:
        """Tell how each target does that was tried so far."""
        return self._health.states(self._clock())

    def has_room(self, call: Stander, targets: tuple[Target, ...]) -> bool:
        """Tell whether a call could go to one of these targets now, or soonest by not standing here."""
        now, health = self._clock(), self._health
        for target in targets:
            if not health.is_full(target, now) or health.verdict(target, now, call.deadline - now) != "full":
                return True
        return False

    def refuse_hopeless(self, call: Stander, targets: tuple[Target, ...]) -> None:
        """Raise Overloaded for a call that would stand here in vain."""
        claim = self._claim(call, targets)
        expected_s = self._expected_s(targets, claim)
        if self._clock() + expected_s > claim.latest:
            raise self._late(claim, expected_s)

    async def stand(self, call: Stander, targets: tuple[Target, ...]) -> Taken:
        """Wait until one of the targets has room for this call, and take it. Raises Overloaded."""
        claim = self._claim(call, targets)
        return await self.wait(claim, self._expected_s(targets, claim))

    def move(self) -> None:
        """Let go whoever has room now."""
        self.wake(self._give)

    def _claim(self, call: Stander, targets: tuple[Target, ...]) -> Claim[str]:
        who = call.who
        latest = min(call.deadline, self._clock() + self._queue_s)
        ids = tuple([target.id for target in targets])
        return Claim(ids, (who.team, who.key_id), self._priority(who), latest, 1, (targets, call))

    def _expected_s(self, targets: tuple[Target, ...], claim: Claim[str]) -> float:
        now, free_in_s = self._clock(), self._health.free_in_s
        return min([free_in_s(target, now, self.ahead(target.id, claim)) for target in targets], default=inf)

    def _give(self, entry: Entry[str, Any]) -> Taken | None:
        targets, call = entry.claim.about
        now, health = self._clock(), self._health
        for target in targets:
            if health.verdict(target, now, inf) in {"go", "probe"}:  # too late or not, it is its turn
                return target, health.enter(target, now, call.asked_tokens)
        return None

    def _return(self, taken: Taken) -> None:
        taken[1].leave(self._clock(), "cancelled")

    def _due(self) -> float:
        return self._clock() + LOOK_S if self.waiting else inf

    def _look(self) -> None:
        self.move()
