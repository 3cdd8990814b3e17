"""Learns how far the estimates for a model are off, from the usage that its provider reports.

A `Factor` is a value: `observe` gives the next one, `corrected` applies it to an estimate. It follows the logarithm of
reported / estimated with a moving average, so that too much and too little weigh the same, and its spread with a moving
variance, from which the band comes. One wild report (a tool that injected pages, a cached prefix counted twice) moves it
a little only: what is far out is pulled in before it is taken in. Exact counts are never touched, and nothing becomes
exact by learning.

Where the values are kept, one per model, is the caller's business.
"""

from math import exp, inf, log, sqrt

from msgspec import Struct

from penstock.tokens.count import Buckets, CallCount, Count, total

SLOWEST = 0.05
"""Weight of a new report once many are known: the average looks back over some forty of them."""

ENOUGH = 5
"""Reports before a factor is applied."""

LEAST_TOKENS = 32
"""Shorter prompts teach nothing: what surrounds the text outweighs it."""

_FIRST_SPREAD = 0.25
"""Standard deviation of the logarithm that is assumed before anything is known."""

_FAR = 3.0
"""In standard deviations: a report farther out is taken in as if it stood there; also half the width of the band."""

_FLOOR = 0.01
"""The least spread: however well it fits, text of another kind comes."""

_WILDEST = 2.0
"""No factor goes beyond exp(2), about seven either way: an estimate that is farther off is a mistake to be seen."""


class Factor(Struct, frozen=True, gc=False):
    """What is known after `seen` reports: the mean of log(reported / estimated), and its variance."""

    seen: int = 0
    mean: float = 0.0
    variance: float = _FIRST_SPREAD * _FIRST_SPREAD


def observe(factor: Factor, estimated: int, reported: int) -> Factor:
    """Take in one report: input tokens as estimated (`Count.n`, uncorrected) and as the provider billed them."""
    if min(estimated, reported) < LEAST_TOKENS:
        return factor
    seen = factor.seen + 1
    weight = max(SLOWEST, 1 / (seen + 1))
    spread = sqrt(factor.variance)
    far = inf if factor.seen < ENOUGH else _FAR * spread
    step = log(reported) - log(estimated) - factor.mean
    step = min(max(step, -far, -_WILDEST), far, _WILDEST)
    mean = min(max(factor.mean + weight * step, -_WILDEST), _WILDEST)
    variance = (1 - weight) * (factor.variance + weight * step * step)
    return Factor(seen, mean, max(variance, _FLOOR * _FLOOR))


def corrected(count: Count, factor: Factor) -> Count:
    """Apply what was learned to an estimate; other counts, and estimates while too little is known, stay as they are.

    Of the count of a call only what is text is corrected: pictures and documents follow rules of their own.
    """
    if count.certainty != "estimated" or factor.seen < ENOUGH:
        return count
    if not isinstance(count, CallCount):
        return _scaled(count, factor)
    loose = count.buckets
    buckets = Buckets(
        system=_scaled(loose.system, factor),
        history=_scaled(loose.history, factor),
        user=_scaled(loose.user, factor),
        tools=_scaled(loose.tools, factor),
        images=loose.images,
        files=loose.files,
        overhead=_scaled(loose.overhead, factor),
    )
    whole = total(getattr(buckets, name) for name in Buckets.__struct_fields__)
    messages = tuple(_scaled(one, factor) for one in count.messages)
    return CallCount(whole.n, "estimated", whole.band, factor.seen, buckets=buckets, messages=messages)


def _scaled(count: Count, factor: Factor) -> Count:
    if not count.n:
        return count
    reach = _FAR * sqrt(factor.variance)
    n = round(count.n * exp(factor.mean))
    low, high = int(count.n * exp(factor.mean - reach)), int(count.n * exp(factor.mean + reach)) + 1
    return Count(n, "estimated", (min(low, n), max(high, n)), factor.seen)
