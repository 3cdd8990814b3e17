"""Calls, targets and a clock that is only a number: the moves of `attempts` performed against a real `Health`."""

from collections import Counter, defaultdict
from heapq import heappop, heappush
from itertools import count
from random import Random

from msgspec import Struct

from penstock.errors import (
    Overloaded,
    PenstockError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from penstock.routing.attempts import Outcome, Patience, Queue, Wait, attempts
from penstock.routing.health import Health, HealthSettings
from penstock.target import Target

POLL_S = 0.05


def target(name):
    """Make a target of a provider of the same name."""
    return Target(id=f"{name}/m", provider=name, model="m", dialect="chat")


class Reply(Struct, frozen=True):
    """What a target does with one try: its first content and its end in seconds, or its failure and when that comes."""

    first_s: float = 0.5
    end_s: float = 1.0
    error: PenstockError | None = None


class Policy(Struct, frozen=True):
    health: Health
    patience: dict[str, Patience]
    rng: Random


class Tried(Struct, frozen=True):
    at: float
    target: str
    kind: str
    probe: bool
    call: int


class Simulation:
    """`replies` says per target what it does with a try: a function of (simulation, try)."""

    def __init__(self, targets, seed=1, *, settings=None, patience=None):
        self.rng = Random(seed)
        self.now = 0.0
        self.targets = targets
        own = defaultdict(HealthSettings, settings or {})
        self.health = Health({one.provider: own[one.provider] for one in targets}, 0.0)
        self.policy = Policy(self.health, defaultdict(lambda: patience or Patience()), self.rng)
        self.replies = {one.id: lambda *_: Reply() for one in targets}
        self.tried, self.ended, self.in_flight = [], [], Counter()
        self._order, self._due, self._calls = count(), [], count()

    def call(self, at, deadline_s=120.0, targets=None):
        """Have a call come in."""
        work = self._work(next(self._calls), deadline_s, targets or self.targets)
        heappush(self._due, (at, next(self._order), work))

    def run(self, until=float("inf")):
        """Let time pass."""
        while self._due and self._due[0][0] <= until:
            self.now, _, work = heappop(self._due)
            wait_s = next(work, None)
            if wait_s is not None:
                heappush(self._due, (self.now + wait_s, next(self._order), work))

    def state(self, one):
        return next(state for state in self.health.states(self.now) if state.target == one.id)

    def _work(self, number, deadline_s, targets):
        deadline = self.now + deadline_s
        moves = attempts(targets, deadline, self.policy, self.now)
        move = next(moves)
        while True:
            if isinstance(move, Wait):
                yield move.seconds
                outcome = Outcome(self.now)
            elif isinstance(move, Queue):
                outcome = yield from self._stand(move, deadline)
            else:
                error = yield from self._try(move, number)
                if error is None:
                    self.ended.append((number, self.now, "ok"))
                    return
                outcome = Outcome(self.now, error)
            try:
                move = moves.send(outcome)
            except StopIteration:
                self.ended.append((number, self.now, "failed"))
                return

    def _try(self, move, number):
        slot = self.health.enter(move.target, self.now)
        name = move.target.id
        tried = Tried(self.now, name, move.kind, move.probe, number)
        self.tried.append(tried)
        self.in_flight[name] += 1
        reply = self.replies[name](self, tried)
        if reply.error is None:
            yield reply.first_s
            slot.first(self.now)
            yield reply.end_s - reply.first_s
            slot.leave(self.now, "ok", output_tokens=500)
        else:
            yield reply.end_s
            slot.leave(self.now, ending(reply.error), retry_after_s=reply.error.retry_after_s)
        self.in_flight[name] -= 1
        return reply.error

    def _stand(self, move, deadline):
        while True:
            yield POLL_S
            if self.now >= deadline:
                return Outcome(self.now, Overloaded("no room came"))
            for one in move.targets:
                if self.health.verdict(one, self.now, deadline - self.now) in {"go", "probe"}:
                    return Outcome(self.now, None, one)


def ending(error):
    match error:
        case UpstreamRateLimited() | UpstreamOverloaded():
            return "limited"
        case UpstreamTimeout():
            return "timeout"
        case UpstreamRejected():
            return "rejected"
        case _:
            return "failed"
