"""Counts for the line: a short prompt at once, a long one beside the event loop, so that no other call waits for it.

Place in the line: between `gateway.py` and `tokens/`, which is pure and knows no thread.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from penstock.call import Call
from penstock.errors import DeadlineExceeded, UpstreamError
from penstock.inflight import InFlight, LiveTry, rough
from penstock.plugins import Counts, Provider
from penstock.receipt import Usage
from penstock.target import Profile, Target
from penstock.tokens.count import Count, count_call, count_text

INLINE_BYTES = 65_536
"""A longer text takes milliseconds."""

UNLIKELY = 1_000_000_000
"""Tokens of a prompt: a provider that counts as many is not believed."""


async def count_prompt(call: Call, profile: Profile) -> Count:
    """Count a prompt for a model."""
    size = len(call.raw) or call.input_bound
    if size is not None and size <= INLINE_BYTES:
        return count_call(call, profile)
    return await asyncio.to_thread(count_call, call, profile)


async def count_asking(call: Call, target: Target, provider: Provider, deadline: float, limit_s: float) -> Count:
    """Count with the model's own vocabulary, else by asking its provider, else roughly.

    What the provider does not say within `limit_s` seconds (until `deadline`, the loop's), or says in jest, is estimated.
    """
    count = await count_prompt(call, target.profile)
    if count.certainty == "exact" or not isinstance(provider, Counts):
        return count
    with suppress(UpstreamError, DeadlineExceeded, TimeoutError):
        async with asyncio.timeout(limit_s):
            counted = await provider.count(call, target, deadline)
        if counted is not None and 0 <= counted < UNLIKELY:
            return Count(counted, "provider", (counted, counted))
    return count


def estimate(flight: InFlight[Any], live: LiveTry) -> Usage:
    """Count what a provider did not report: the prompt, and the text that passed; roughly, if they are long."""
    call, profile, meter = flight.call, live.target.profile, live.meter
    is_long = (call.input_bound or len(call.raw)) > INLINE_BYTES or meter.kept > INLINE_BYTES
    if is_long or profile.tokenizer is None:  # whose vocabulary is not public is not worth loading another one
        return rough(flight, live)
    return count_used(call, meter.text, profile)


def count_used(call: Call, answer: Iterable[str], profile: Profile) -> Usage:
    """Count what a provider did not report: the prompt, and the text that passed."""
    prompt = count_call(call, profile)
    said = count_text("".join(answer), profile)
    sure = prompt.certainty == said.certainty == "exact"
    return Usage(prompt.n, said.n, source="counted" if sure else "estimated")


def load(profiles: Iterable[Profile]) -> None:
    """Load the vocabularies of these models, so that no call waits for one. Takes tenths of a second each."""
    for profile in profiles:
        if profile.tokenizer is not None:
            count_text("x", profile)
