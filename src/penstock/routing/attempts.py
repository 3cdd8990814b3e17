"""Decides what to try next: the one owner of retries and fallbacks.

A generator of moves, which is not even made where the first try succeeds, as it nearly always does. It yields `Try` (call
this target), `Wait` (so many seconds) or `Queue` (stand in line for room at any of these targets), is sent the outcome of
each, and returns when there is nothing left to try. It never waits, calls or reads a clock itself: its driver (`execute.py`)
does, so that the whole policy is tested as tables.

Strategy. The first target in the plan's order that may be called now. After a failure whose class says `retry`, the same one
again: at most `retries` times, as long as its retry budget has a token, after a full-jitter backoff (uniform between 0 and
min(cap, base * 2**k)) or what the provider asked for with `Retry-After`, never earlier. A wait that does not fit before the
deadline, or that is longer than `patience_s` while another target is left, means the next target at once; the one that asked
for it is come back to if nothing else is left. A failure of class `next` goes on to the next target, `model` passes over
all targets of the same model, `stop` ends it all.

Where no target may be called, those that are full are queued for. Where none is full either, a target that asked to be left
alone is waited for, an open breaker is tried all the same (the last target is never taken away from a call), and where every
target is too slow for the time that is left, the fastest is tried.
"""

from collections.abc import Generator, Mapping, Sequence
from random import Random
from typing import Final, Literal, Protocol

from msgspec import Struct

from penstock.errors import PenstockError
from penstock.routing.health import Verdict
from penstock.target import Target

Kind = Literal["first", "retry", "fallback"]


class Try(Struct, frozen=True, gc=False):
    """Call `target`; `kind` says why. `probe`: it tries whether the target works again."""

    target: Target
    kind: Kind
    probe: bool = False


class Wait(Struct, frozen=True, gc=False):
    """Do nothing for a while before the next move."""

    seconds: float


class Queue(Struct, frozen=True, gc=False):
    """Stand in line until any of these targets has room."""

    targets: tuple[Target, ...]


class Outcome(Struct, frozen=True):
    """How a move ended, and when (the driver's monotonic seconds).

    A `Wait` ends without an error. A `Queue` ends with the target that has room, or with the error that refused the wait.
    """

    now: float
    error: PenstockError | None = None
    target: Target | None = None


class Patience(Struct, frozen=True):
    """The bounds of trying: `retries` more tries per target, backoff in seconds."""

    retries: int = 2
    base_s: float = 0.25
    cap_s: float = 8.0
    patience_s: float = 2.0


class States(Protocol):
    """What is asked about targets; `Health` answers it."""

    def verdict(self, target: Target, now: float, left_s: float) -> Verdict:
        """Say whether a target may be called now by a call that has so many seconds left."""
        ...

    def may_retry(self, target: Target, now: float) -> bool:
        """Take a token of the target's retry budget, if there is one."""
        ...

    def cooling_s(self, target: Target, now: float) -> float:
        """Give the seconds for which the target asked to be left alone."""
        ...

    def ttft_s(self, target: Target, now: float) -> float:
        """Give the expected time to its first content."""
        ...


class Policy(Protocol):
    """What the tries of any call go by: the health of targets, the patience (with each provider, or all), and chance."""

    @property
    def health(self) -> States:
        """Who is asked about targets."""
        ...

    @property
    def patience(self) -> Patience | Mapping[str, Patience]:
        """The bounds of trying; by provider, if it is a mapping."""
        ...

    @property
    def rng(self) -> Random:
        """Where jitter comes from."""
        ...


Move = Try | Wait | Queue
PATIENCE: Final = Patience()


def attempts(
    targets: tuple[Target, ...],
    deadline: float,
    policy: Policy,
    now: float,
    since: int = 0,
    tried: Outcome | None = None,
) -> Generator[Move, Outcome, None]:
    """Yield the moves of one call; the driver closes it when a try has succeeded.

    `targets` are in the plan's order, at least one. `since` is how many tries the call had before: with any, none of these is
    its first. Without `tried` there always is a first move, and it may end without a `Try` only after a `Queue` was refused.

    Where the first target may be called at once (its verdict at `now` is "go"), that is the first move. A driver may make
    this one before it asks here, and then begins with its outcome as `tried`.
    """
    outcome = tried
    if outcome is None and policy.health.verdict(targets[0], now, deadline - now) == "go":
        outcome = yield Try(targets[0], "fallback" if since else "first")
    if outcome is not None and ((error := outcome.error) is None or error.then == "stop"):
        return
    search = _Search(targets, deadline, policy, now, since)
    if outcome is not None and error is not None:
        search.take(targets[0])
        yield from search.learn(targets[0], outcome.now, error)
    while (move := (yield from search.choose())) is not None:
        outcome = yield move
        if (error := outcome.error) is None or error.then == "stop":
            return
        yield from search.learn(move.target, outcome.now, error)


class _Later(Struct, frozen=True, gc=False):
    """A target that may be called from `due` on. `is_retry`: it was tried, and another try has to be paid for."""

    due: float
    target: Target
    is_retry: bool = False


class _Search:
    """What one call has still to try: `_todo` may be tried, `_later` waits to be come back to."""

    __slots__ = (
        *("_deadline", "_is_refused", "_kind", "_later", "_made", "_now", "_policy", "_retries", "_states", "_todo"),
    )

    def __init__(self, targets: tuple[Target, ...], deadline: float, policy: Policy, now: float, since: int) -> None:
        self._now = now
        self._made = 0
        self._deadline = deadline
        self._policy = policy
        self._states = policy.health
        self._kind: Literal["first", "fallback"] = "fallback" if since else "first"
        self._todo = list(targets)
        self._later: list[_Later] = []
        self._retries: dict[str, int] = {}  # of the targets that were tried
        self._is_refused = False  # no room could be waited for

    def choose(self) -> Generator[Move, Outcome, Try | None]:
        """Give the next try, after whatever has to be waited for; None if nothing is left."""
        verdict_of = self._states.verdict
        while True:
            now = self._now
            left_s = self._deadline - now
            if self._made and left_s <= 0:
                return None
            others: dict[Verdict, list[Target]] = {}
            for target in self._todo:
                verdict = verdict_of(target, now, left_s)
                if verdict == "go" or verdict == "probe":  # noqa: PLR1714 - quicker, and this is done for every call
                    return self.take(target, is_probe=verdict == "probe")
                others.setdefault(verdict, []).append(target)
            if "full" in others:
                move = yield from self._queue(others["full"])
                if move is not None:
                    return move
                continue
            soonest = self._soonest(others.get("cooling", ()))
            if soonest is None or ("open" in others and not self._is_near(soonest)):
                return self._last_resort(others)
            yield from self._wait_for(soonest)

    def take(self, target: Target, *, is_probe: bool = False) -> Try:
        """Take a target out of those that may be tried, and give its try."""
        self._todo.remove(target)
        if target.id in self._retries:
            return Try(target, "retry", is_probe)
        self._retries[target.id] = 0
        kind, self._kind = self._kind, "fallback"
        return Try(target, kind, is_probe)

    def learn(self, target: Target, now: float, error: PenstockError) -> Generator[Move, Outcome, None]:
        """Draw the conclusions from a failure: the same target again, perhaps after a wait, another one, or another model."""
        self._now = now
        self._made += 1
        if error.then == "retry":
            yield from self._come_back(target, error)
        elif error.then == "model":
            self._todo = [other for other in self._todo if other.model != target.model]
            self._later = [one for one in self._later if one.target.model != target.model]

    def _come_back(self, target: Target, error: PenstockError) -> Generator[Move, Outcome, None]:
        """Have a target that failed tried again: after its wait, later, or not at all."""
        own, count = self._patience(target), self._retries[target.id]
        wait_s = _wait_s(error, count, self._policy.rng, own)
        due = self._now + wait_s
        if count >= own.retries or due >= self._deadline:
            return
        if self._todo:
            if self._states.verdict(target, self._now, self._deadline - self._now) == "open":
                return
            if wait_s > own.patience_s:
                self._later.append(_Later(due, target, is_retry=True))
                return
        yield from self._wait_for(_Later(due, target, is_retry=True))

    def _queue(self, full: list[Target]) -> Generator[Move, Outcome, Try | None]:
        """Wait for room at any of these; without any, they are out."""
        outcome = yield Queue(tuple(full))
        self._now = now = outcome.now
        if outcome.target is not None:
            is_probe = self._states.verdict(outcome.target, now, self._deadline - now) == "probe"
            return self.take(outcome.target, is_probe=is_probe)
        if outcome.error is not None:
            self._is_refused = True
            self._todo = [target for target in self._todo if target not in full]
        return None

    def _soonest(self, cooling: Sequence[Target]) -> _Later | None:
        """Say what can be called soonest, if that is in time."""
        now, cooling_s = self._now, self._states.cooling_s
        waiting = [*self._later, *(_Later(now + cooling_s(target, now), target) for target in cooling)]
        soonest = min(waiting, key=_due, default=None)
        if soonest is None or soonest.due >= self._deadline or (self._is_refused and not self._is_near(soonest)):
            return None
        return soonest

    def _wait_for(self, one: _Later) -> Generator[Move, Outcome, None]:
        """Wait until a target may be called, and a retry is paid for."""
        target = one.target
        if one.is_retry:
            self._later = [other for other in self._later if other is not one]
            if not self._states.may_retry(target, self._now):
                return
            self._retries[target.id] += 1
            due = one.due
        else:  # all who wait for it would come at the same moment
            most_s = min(self._patience(target).base_s, (self._deadline - one.due) / 2)
            due = one.due + self._policy.rng.uniform(0.0, most_s)
        while self._now < due:
            outcome = yield Wait(due - self._now)
            self._now = outcome.now
        if one.is_retry:
            self._todo.insert(0, target)

    def _last_resort(self, others: Mapping[Verdict, Sequence[Target]]) -> Try | None:
        """Give a try where nothing is ready and nothing can be waited for."""
        if self._is_refused:
            return None
        cooling = [target for target in others.get("cooling", ()) if target.id not in self._retries]
        for target in (*others.get("open", ()), *cooling):
            return self.take(target)
        late = others.get("late", ())
        if self._made or not late:
            return None
        return self.take(min(late, key=lambda target: self._states.ttft_s(target, self._now)))

    def _is_near(self, one: _Later) -> bool:
        return one.due - self._now <= self._patience(one.target).patience_s

    def _patience(self, target: Target) -> Patience:
        patience = self._policy.patience
        return patience if isinstance(patience, Patience) else patience[target.provider]


def _due(one: _Later) -> float:
    return one.due


def _wait_s(error: PenstockError, count: int, rng: Random, patience: Patience) -> float:
    """Seconds before the next try at the same target: never earlier than the provider asked for."""
    backoff = rng.uniform(0.0, min(patience.cap_s, patience.base_s * 2.0**count))
    asked = error.retry_after_s
    return backoff if asked is None else max(0.0, asked) + backoff
