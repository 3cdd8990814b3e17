"""What would be done with a call, and what it could cost at most: the answer of `penstock plan`. Values, and how a plan is told."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from penstock.call import Call
from penstock.target import Target, usd
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


async def steps(
    call: Call,
    targets: tuple[Target, ...],
    dearest: Callable[[Target, int], int | None],
    counted: Callable[[Call, Target], Awaitable[Count]],
) -> tuple[Step, ...]:
    """Tell of each target in the order of the plan; `dearest` gives the most that so many input tokens may cost there."""
    found = []
    for number, target in enumerate(targets):
        count = await counted(call, target)
        ceiling = dearest(target, count.band[1])
        note = "first" if number == 0 else "if all before it fail"
        found.append(Step(target.id, count, None if ceiling is None else usd(ceiling), note))
    return tuple(found)
