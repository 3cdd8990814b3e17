"""What calls of one caller have in common, which is found once for all those that differ in their messages alone.

Who pays, where they go and how much they may say follows from the caller, the configuration, the model and the options. It
is remembered for the last of them, unless a call says itself who pays for it. Place in the line: `beginning.py` asks here
before it begins a call; the answers are those of `Gateway.planned`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Protocol

from msgspec import Raw, Struct

from penstock.accounting import intent_in_common
from penstock.call import Call, Caller, Sampling, Who
from penstock.plugins import Prepared
from penstock.routing.router import Plan
from penstock.target import Target

LARGEST = 1024
"""Characters of a call's options, at most, that are remembered."""
_TOO_LARGE = Sampling()
"""Stands for options that are not remembered: no call has these."""

Prepare = Callable[[Call, Target], Prepared | None]
"""Readies a call at a target, if it can be sent this moment: see `plugins.Prepares`."""


Until = Callable[[tuple[Target, ...], float, float], float]
"""Says until when a first try may last, that begins now, of a call with this deadline."""


class Common(Struct, frozen=True, eq=False):
    """What calls have in common that say the same but for their messages: who pays, where they go, and how much they may say.

    It holds for calls of one caller, the owner of the key as it was (`of`), under one configuration (`by` is its mark), with
    the very same `sampling`, of the same `model`, all of them streams or none. `prepare` readies nothing where such a call needs more than its provider.
    `fits` is the largest bound of its input with which it surely has room at every target; it may take `within_s` seconds, and
    its first try `first_s`. `kin` stands for the caller, who pays, the model and the plan, whatever the options. `intent` is what
    the intents of such calls have in common (`intent_in_common`); None where that is not worth to be known.
    """

    of: Who
    by: object
    sampling: Sampling
    model: str
    stream: bool
    who: Who
    plan: Plan
    prepare: Prepare
    fits: int
    within_s: float
    first_s: float
    kin: object
    intent: Raw | None


class Standing:
    """A caller, who speaks one dialect, and what its last call has in common with those that are like it."""

    __slots__ = ("caller", "common")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.common: Common | None = None


def _never(_call: Call, _target: Target) -> None:
    """Ready no call: there is more to do for it than its provider does."""


def _if_whole(prepare: Prepare, call: Call, target: Target) -> Prepared | None:
    """Ready a call whose answer is not a stream: another target may go on with that, which the line has to see."""
    return None if call.stream else prepare(call, target)


def _is_small(sampling: Sampling) -> bool:
    """Tell whether options are small enough to be kept: the client chooses them."""
    texts = (*sampling.stop, sampling.reasoning_effort or "")
    return not sampling.logit_bias and sum(map(len, texts)) <= LARGEST


def _says_more(call: Call) -> bool:
    """Tell whether a call says itself who pays for it, or has something that some targets cannot honour."""
    return not (call.feature is call.user is call.session is None and not call.native)


class Planner(Protocol):
    """What says who pays for a call and where it goes: see `gateway.py`."""

    def planned(self, call: Call, who: Who, caller: Caller) -> tuple[Call, Who, Plan]:
        """Say who pays, what is pinned and where the call may go."""


class Commons:
    """Finds what calls of one configuration have in common; `mark` stands for it."""

    def __init__(self, line: Planner, until: Until, prepares: Mapping[str, Prepare], within_s: float) -> None:
        """Begin; `prepares` has the providers that ready a call at once, `within_s` is the time for one that has none of its own."""
        self.mark = object()
        self._line, self._until, self._prepares, self._within_s = line, until, prepares, within_s

    def find(self, call: Call, who: Who, standing: Standing) -> tuple[Call, Common]:
        """Say who pays for a call and where it goes, which may be known already from one with other options.

        It is remembered, unless the call says itself who pays for it, has what some targets cannot honour, or is changed here.
        """
        known, mark, says_more = standing.common, self.mark, _says_more(call)
        said = call.sampling if _is_small(call.sampling) else _TOO_LARGE
        if (
            known is None
            or known.of is not who
            or known.by is not mark
            or known.model != call.model
            or known.stream is not call.stream
            or says_more
        ):
            asked, caller = call, standing.caller
            call, payer, plan = self._line.planned(call, who, caller)
            options, targets = plan.options, plan.targets
            may_be_kept = options.cache_s is not None or options.stale_s is not None
            prepare: Prepare = _never if may_be_kept else self._prepares.get(targets[0].provider, _never)
            prepare = partial(_if_whole, prepare) if options.continues else prepare
            within_s, first_s = caller.within(self._within_s), self._until(targets, 0.0, inf)
            says_more, kin = says_more or call is not asked, object()
            intent = None if says_more else intent_in_common(call, payer, targets[0])
        else:
            payer, plan, prepare = known.who, known.plan, known.prepare
            within_s, first_s, kin, intent = known.within_s, known.first_s, known.kin, known.intent
        fits = plan.most_input(call)
        alike = who, mark, said, call.model, call.stream
        common = Common(*alike, payer, plan, prepare, fits, within_s, first_s, kin, intent)
        if not says_more:
            standing.common = common
        return call, common
