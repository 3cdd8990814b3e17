"""Decides what to try next: the one owner of retries and fallbacks.

A generator of moves. It yields `Try` (call this target, within so many seconds) or `Wait` (so many seconds), is sent the
outcome of each, and returns when there is nothing left to try. It never waits, calls or reads a clock itself: its driver
(`execute.py`) does, so that the whole policy is tested as tables.

Strategy: per target one first try and at most `retries` more, and only for failures whose class says `retry`; before a
retry a full-jitter backoff (uniform between 0 and min(cap, base * 2**k)), or what the provider asked for with
`Retry-After`. A wait that does not fit before the deadline, or that is longer than `patience_s` while another target
stands ready, means the next target at once. A failure of class `stop` ends it all.
"""

from collections.abc import Generator, Mapping
from random import Random
from typing import Literal

from msgspec import Struct

from penstock.errors import PenstockError
from penstock.target import Target


class Try(Struct, frozen=True, gc=False):
    """Call `target`; `kind` says why."""

    target: Target
    kind: Literal["first", "retry", "fallback"]


class Wait(Struct, frozen=True, gc=False):
    """Do nothing for a while before the next move."""

    seconds: float


class Outcome(Struct, frozen=True):
    """How a move ended, and when (the driver's monotonic seconds). A `Wait` ends without an error."""

    now: float
    error: PenstockError | None = None


class Patience(Struct, frozen=True):
    """The bounds of trying: `retries` more tries per target, backoff in seconds."""

    retries: int = 2
    base_s: float = 0.25
    cap_s: float = 8.0
    patience_s: float = 2.0


Move = Try | Wait
PATIENCE = Patience()


def attempts(
    targets: tuple[Target, ...],
    deadline: float,
    rng: Random,
    patience: Patience | Mapping[str, Patience] = PATIENCE,
) -> Generator[Move, Outcome, None]:
    """Yield the moves of one call; `patience` may be given per provider. The driver closes it when a try has succeeded."""
    last = len(targets) - 1
    own = patience if isinstance(patience, Patience) else PATIENCE
    for place, target in enumerate(targets):
        if not isinstance(patience, Patience):
            own = patience[target.provider]
        outcome = yield Try(target, "first" if place == 0 else "fallback")
        for count in range(own.retries):
            error = outcome.error
            if error is None or error.then == "stop":
                return
            if error.then == "next":
                break
            wait_s = _wait_s(error, count, rng, own)
            if outcome.now + wait_s >= deadline or (place < last and wait_s > own.patience_s):
                break
            if wait_s > 0:
                yield Wait(wait_s)
            outcome = yield Try(target, "retry")
        if outcome.error is None or outcome.error.then == "stop":
            return


def _wait_s(error: PenstockError, count: int, rng: Random, patience: Patience) -> float:
    """Seconds before the next try at the same target: never earlier than the provider asked for."""
    backoff = rng.uniform(0.0, min(patience.cap_s, patience.base_s * 2.0**count))
    asked = error.retry_after_s
    return backoff if asked is None else max(0.0, asked) + backoff
