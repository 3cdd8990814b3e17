"""Counts for the line: a short prompt at once, a long one beside the event loop, so that no other call waits for it.

Place in the line: between `gateway.py` and `tokens/`, which is pure and knows no thread.
"""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any

from penstock.call import Call
from penstock.errors import DeadlineExceeded, UpstreamError
from penstock.inflight import InFlight, LiveTry, rough
from penstock.plugins import Counts, Provider
from penstock.receipt import Usage
from penstock.target import Profile, Target
from penstock.tokenizer_files import load_tokenizer
from penstock.tokens.count import Count, count_call, count_text, is_ready
from penstock.tokens.sample import by_bytes, call_by_bytes, sampled, sampled_call

INLINE_BYTES = 16_384
"""A prompt up to here is counted at once, which takes a millisecond or three; a longer one beside the loop."""

THREADS = 1
"""Long prompts that are counted at the same time.

More would not be quicker, since the engine holds the interpreter's lock while it counts, and each would make the loop wait
for one more slice of its text. The price: a long prompt waits while another one is counted.
"""

SETTLED_BYTES = 32_768
"""Up to here prompt and answer are counted whole when a call ends, which takes a few milliseconds each at the worst."""

LONGEST_BYTES = 8_388_608
"""A longer prompt is not read again for its estimate."""

UNLIKELY = 1_000_000_000
"""Tokens of a prompt: a provider that counts as many is not believed."""


@lru_cache(maxsize=1)
def _aside() -> ThreadPoolExecutor:
    """Give the threads that count beside the loop."""
    return ThreadPoolExecutor(THREADS, "count")


async def count_prompt(call: Call, profile: Profile, inline_bytes: int = INLINE_BYTES) -> Count:
    """Count a prompt for a model; at once up to so many bytes, if the vocabulary is loaded."""
    size = len(call.raw) or call.input_bound
    if size is not None and size <= inline_bytes and is_ready(profile):
        return count_call(call, profile)
    return await asyncio.get_running_loop().run_in_executor(_aside(), count_call, call, profile)


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
    """Count what a provider did not report: the prompt, and the text that passed.

    The loop waits meanwhile, so that long ones are estimated by samples, and by classes of bytes where the vocabulary is not
    public: another one would have to be loaded for it.
    """
    call, profile, meter = flight.call, live.target.profile, live.meter
    size = call.input_bound or len(call.raw)
    if size > LONGEST_BYTES:
        return rough(flight, live)
    said = "".join(meter.text)
    if profile.tokenizer is None:
        into = call_by_bytes(call, profile) if flight.counted is None else flight.counted
        out = by_bytes(said.encode("utf-8", "surrogatepass"))
    elif size <= SETTLED_BYTES and meter.passed <= SETTLED_BYTES:
        return count_used(call, (said,), profile)
    else:
        prompt = count_call if size <= SETTLED_BYTES else sampled_call
        into = prompt(call, profile).n if flight.counted is None else flight.counted
        out = sampled(said, profile).n
    if meter.beyond:
        out = -(-out * meter.passed // (meter.passed - meter.beyond))
    return Usage(into, out, source="estimated")


def count_used(call: Call, answer: Iterable[str], profile: Profile) -> Usage:
    """Count what a provider did not report: the prompt, and the text that passed."""
    prompt = count_call(call, profile)
    said = count_text("".join(answer), profile)
    sure = prompt.certainty == said.certainty == "exact"
    return Usage(prompt.n, said.n, source="counted" if sure else "estimated")


def load(targets: Iterable[Target]) -> list[str]:
    """Load the vocabularies of these models, so that no call waits for one; give what is wrong with files of the user.

    Takes tenths of a second each, and seconds for a large file. The one that others are estimated with takes 40 MB, and is
    loaded once it is needed.
    """
    found = list(targets)
    names = dict.fromkeys(target.profile.tokenizer for target in found)
    wrong = [problem for name in names if (problem := load_tokenizer(name))]
    for target in found:
        if target.profile.tokenizer is not None:
            count_text("x", target.profile)
    return wrong
