"""Counts for the line: a short prompt at once, a long one beside the event loop, so that no other call waits for it.

Place in the line: between `gateway.py` and `tokens/`, which is pure and knows no thread.
"""

import asyncio
from collections.abc import Iterable

from penstock.call import Call
from penstock.receipt import Usage
from penstock.target import Profile
from penstock.tokens.count import Count, count_call, count_text

INLINE_BYTES = 65_536
"""A longer text takes milliseconds."""


async def count_prompt(call: Call, profile: Profile) -> Count:
    """Count a prompt for a model."""
    size = len(call.raw) or call.input_bound
    if size is not None and size <= INLINE_BYTES:
        return count_call(call, profile)
    return await asyncio.to_thread(count_call, call, profile)


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
