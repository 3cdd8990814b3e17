"""Usage both ways, with the service tier and the members of it that only this dialect knows.

Pure. Anthropic counts what was read from the cache and written to it beside the input, the neutral form within it.
Place in the line: behind `anthropic_messages_reply.py`, `anthropic_messages_stream.py` and `anthropic_messages_writer.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Raw, Struct
from msgspec.json import Decoder, encode

from penstock.call import Members
from penstock.receipt import Usage
from penstock.wire.anthropic_messages_errors import GARBLED, said
from penstock.wire.token_counts import count, plausible

OF_USAGE: Final = "usage"
"""Names a `ForeignDelta`, or a member of `Started.extra`, with the members of the usage that have no neutral form."""

_TIERS: Final[Mapping[str, str]] = MappingProxyType({"standard": "default"})
_NATIVE_TIERS: Final[Mapping[str, str]] = MappingProxyType(
    {"default": "standard", "standard": "standard", "priority": "priority", "batch": "batch"}
)


class CacheCreation(Struct, gc=False):
    """What was written to the prompt cache, by how long it is kept."""

    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class OutputDetails(Struct, gc=False):
    """What the output was."""

    thinking_tokens: int | None = None


class WireUsage(Struct, gc=False):
    """Tokens. `input_tokens` leaves out what was read from the cache and written to it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None
    service_tier: str | None = None


_USAGE: Final = Decoder(WireUsage)
_MEMBERS: Final = Decoder(dict[str, Raw])
_KNOWN: Final = frozenset(WireUsage.__struct_fields__)


def read_usage(json: Raw) -> WireUsage | None:
    """Read the provider's count; None if there is none, or none that makes sense."""
    if not said(json):
        return None
    try:
        return _USAGE.decode(json)
    except GARBLED:
        return None


def strange_usage(json: Raw) -> bytes:
    """Give the members of the usage that have no neutral form, as an object; b"" if there are none."""
    own = {name: raw for name, raw in _MEMBERS.decode(json).items() if name not in _KNOWN and said(raw)}
    return encode(own) if own else b""


def neutral_usage(usage: WireUsage) -> Usage | None:
    """Give the count in which input and output are inclusive; None for one that cannot be true.

    An hour's cache writes are a part of all writes.
    """
    cached, written = count(usage.cache_read_input_tokens), count(usage.cache_creation_input_tokens)
    hour = 0
    if (parts := usage.cache_creation) is not None:
        hour = count(parts.ephemeral_1h_input_tokens)
        written = max(written, hour + count(parts.ephemeral_5m_input_tokens))
    details = usage.output_tokens_details
    thought = 0 if details is None else count(details.thinking_tokens)
    total = count(usage.input_tokens) + cached + written
    return plausible(Usage(total, count(usage.output_tokens), cached, written - hour, hour, thought))


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write a count, as a message and the end of a stream have it."""
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    out: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - usage.cached_input_tokens - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        out["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return out


def write_head_usage(usage: Usage | None, tier: str | None, extra: Members) -> dict[str, Any]:
    """Write the count of a message, with the tier that served it and what only this dialect knows."""
    known = usage or Usage()
    out = write_usage(known)
    out["cache_creation"] = {
        "ephemeral_5m_input_tokens": known.cache_write_tokens,
        "ephemeral_1h_input_tokens": known.cache_write_1h_tokens,
    }
    if tier is not None and tier in _NATIVE_TIERS:
        out["service_tier"] = _NATIVE_TIERS[tier]
    for name, json in extra:
        if name == OF_USAGE:
            merge(out, json)
    return out


def tier_of(usage: WireUsage) -> str | None:
    """Give the service tier in OpenAI's words."""
    tier = usage.service_tier
    return None if tier is None else _TIERS.get(tier, tier)


def merge(out: dict[str, Any], json: bytes) -> None:
    """Add the members of an object that are not there yet."""
    try:
        members = _MEMBERS.decode(json)
    except GARBLED:
        return
    for name, value in members.items():
        out.setdefault(name, value)
