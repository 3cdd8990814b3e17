"""What would be done with a call, and what it could cost at most: the answer of `penstock plan`. Values only."""

from msgspec import Struct

from penstock.tokens.count import Count


class Step(Struct, frozen=True):
    """One target of a plan: what its prompt counts as, and the most that the call can cost there."""

    target: str
    input: Count
    ceiling_usd: str | None
    note: str


class Skipped(Struct, frozen=True):
    """A target that would not be tried, and why."""

    target: str
    reason: str


class Foresight(Struct, frozen=True):
    """What `penstock plan` tells."""

    model: str
    steps: tuple[Step, ...]
    left_out: tuple[Skipped, ...] = ()
    static: str | None = None
