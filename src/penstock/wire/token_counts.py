"""Decides which counts of tokens can be true: the parts of a whole are held to it, and absurd wholes are none.

A provider may say anything. Whatever it says, no price of a part can turn a cost negative here: parts that exclude each
other (read from a cache or written to it; sound or pictures; thoughts, sound or pictures) share the whole. A whole
beyond `MOST_TOKENS` is no count of one call: the gateway's own count stands in for it.
Pure. Place in the line: behind the readers of usage of all dialects.
"""

from typing import Final

from penstock.receipt import Usage

MOST_TOKENS: Final = 1_000_000_000
"""The largest windows have some millions; with this many no sum of money leaves 64 bits."""


def count(value: int | None) -> int:
    """Give a count; what is missing or below 0 is 0."""
    return value if value is not None and value > 0 else 0


def plausible(said: Usage) -> Usage | None:
    """Hold the parts of a count, none of them below 0, to the whole; None where the whole cannot be true."""
    into, out = said.input_tokens, said.output_tokens
    if into > MOST_TOKENS or out > MOST_TOKENS:
        return None
    if (
        said.cached_input_tokens + said.cache_write_tokens + said.cache_write_1h_tokens <= into
        and said.audio_input_tokens + said.image_input_tokens <= into
        and said.reasoning_tokens + said.audio_output_tokens + said.image_output_tokens <= out
        and said.rejected_prediction_tokens <= out
        and said.accepted_prediction_tokens <= MOST_TOKENS
    ):
        return said
    cached, hour, written = _shares(into, said.cached_input_tokens, said.cache_write_1h_tokens, said.cache_write_tokens)
    heard, seen = _shares(into, said.audio_input_tokens, said.image_input_tokens)
    thought, voiced, drawn = _shares(out, said.reasoning_tokens, said.audio_output_tokens, said.image_output_tokens)
    return Usage(
        into,
        out,
        cached,
        written,
        hour,
        thought,
        heard,
        voiced,
        min(said.accepted_prediction_tokens, MOST_TOKENS),
        min(said.rejected_prediction_tokens, out),
        said.source,
        seen,
        drawn,
    )


def _shares(whole: int, *parts: int) -> list[int]:
    """Give each part as much of the whole as those before it leave."""
    shares = []
    for part in parts:
        shares.append(min(part, whole))
        whole -= shares[-1]
    return shares
