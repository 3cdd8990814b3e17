"""Reads and writes the counts of tokens in chat completions, whole and streamed.

Pure. Place in the line: below `openai_chat_reply.py` and `openai_chat_stream.py`.
"""

from typing import Any, Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from penstock.receipt import Usage
from penstock.wire import openai_chat_reply_types as wire
from penstock.wire.token_counts import count, plausible

NULL: Final = len("null")
NOTHING: Final = frozenset({b"", b"null", b"[]", b"{}", b'""', b"false"})

_USAGE: Final = Decoder(wire.WireUsage)


def is_said(json: Raw) -> bool:
    """Return whether a member says something, rather than null, nothing at all or an empty value."""
    return len(json) > len("false") or bytes(json) not in NOTHING


def read_usage(json: Raw) -> Usage | None:
    """Read the provider's count; None if there is none, or none that makes sense.

    `completion_tokens` leaves the reasoning out at some servers (xAI, Gemini), while their total has it; ours is inclusive.
    The parts are held to the whole, so that no price of a part can turn a cost negative.
    """
    if not is_said(json):
        return None
    try:
        usage = _USAGE.decode(json)
    except (DecodeError, UnicodeDecodeError):
        return None
    into, out = usage.prompt_tokens, usage.completion_tokens
    if into is None and out is None:
        return None
    into, out = count(into), count(out)
    out += max(0, count(usage.total_tokens) - into - out)
    given, made = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = usage.prompt_cache_hit_tokens or usage.cached_tokens
    if given is None and made is None and not cached:
        return plausible(Usage(into, out))
    given, made = given or wire.InputDetails(), made or wire.OutputDetails()
    cached = given.cached_tokens or cached
    said = Usage(
        into,
        out,
        count(cached),
        count(given.cache_write_tokens),
        0,
        count(made.reasoning_tokens),
        count(given.audio_tokens),
        count(made.audio_tokens),
        count(made.accepted_prediction_tokens),
        count(made.rejected_prediction_tokens),
        "provider",
        count(given.image_tokens),
        count(made.image_tokens),
    )
    return plausible(said)


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write a count with the details that the schema has."""
    given = {"cached_tokens": usage.cached_input_tokens, "audio_tokens": usage.audio_input_tokens}
    if usage.cache_write_tokens:
        given["cache_write_tokens"] = usage.cache_write_tokens
    if usage.image_input_tokens:
        given["image_tokens"] = usage.image_input_tokens
    made = {
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": usage.audio_output_tokens,
        "accepted_prediction_tokens": usage.accepted_prediction_tokens,
        "rejected_prediction_tokens": usage.rejected_prediction_tokens,
    }
    if usage.image_output_tokens:
        made["image_tokens"] = usage.image_output_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": given,
        "completion_tokens_details": made,
    }
