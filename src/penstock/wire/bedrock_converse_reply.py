"""Reads and writes whole Converse replies, and what they share with their streams: usage, endings, thinking, tool calls.

Pure. A reply of this API has no id, no date and no model; members that have no neutral form (metrics, trace, the model's own
fields) go on to clients of this dialect. Place in the line: behind `bedrock_converse.py` and `bedrock_converse_stream.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import DecodeError, Raw, structs
from msgspec.json import Decoder, encode

from penstock.call import Audio, Part, Reasoning, Refusal, Text, ToolUse
from penstock.errors import UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import Choice, Ended, Event, Finish, Finished, ForeignDelta, Reply, Started, UsageReported, unfold
from penstock.wire import bedrock_converse_reply_types as wire
from penstock.wire.bedrock_converse_blocks import Blocks, BlockWriter, Object, arguments, tool_id
from penstock.wire.bedrock_converse_carried import OWN, write_redacted, write_tool_signature
from penstock.wire.bedrock_converse_citations import cited_blocks
from penstock.wire.bedrock_converse_content import read_parts
from penstock.wire.bedrock_converse_request_types import NAME
from penstock.wire.provider_error import clean
from penstock.wire.signatures import carry
from penstock.wire.token_counts import count, plausible

FIELDS: Final = "additionalModelResponseFields"
NO_METRICS: Final = Raw(b'{"latencyMs":0}')
"""The API demands a time; where no provider said one, there is none to tell."""

_REPLY: Final = Decoder(wire.WholeReply)
_TAPPED: Final = Decoder(wire.TappedReply)
_USAGE: Final = Decoder(wire.TokenUsage | None)
_TIER: Final = Decoder(wire.Tier | None)
_MEMBERS: Final = Decoder(dict[str, Raw])
_NEUTRAL: Final = frozenset({"output", "stopReason", "usage", "serviceTier"})

_FINISH: Final[Mapping[str, Finish]] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
        "malformed_model_output": "error",
        "malformed_tool_use": "error",
        # what models behind the API have been seen to say
        "refusal": "refusal",
        "pause_turn": "pause",
    }
)
_NATIVE: Final[Mapping[Finish, str]] = MappingProxyType(
    {
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "content_filtered",
        "refusal": "content_filtered",
        "error": "malformed_model_output",
    }
)
_OFFICIAL: Final = frozenset(_FINISH) - {"refusal", "pause_turn"}


def read_reply(body: bytes) -> tuple[Event, ...]:
    """Read a whole reply. Raises UpstreamGarbled."""
    try:
        check_utf8(body)
        reply = _REPLY.decode(body)
        parts = read_parts(reply.output.message.content)
        members = _MEMBERS.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbled("reply", error) from None
    foreign = [ForeignDelta(NAME, name, bytes(raw)) for name, raw in members.items() if name not in _NEUTRAL]
    native = reply.stop_reason or ""
    choice = Choice(_placed(parts), _FINISH.get(native, "other"), native, foreign=tuple(foreign))
    tier = None if reply.service_tier is None else reply.service_tier.type
    usage = said_usage(reply.usage)
    return unfold(Reply(service_tier=tier, choices=(choice,), usage=usage, ended=True))


def _placed(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Say of each citation where its text stands among the texts that follow on each other, which become one."""
    placed: list[Part] = []
    said = 0
    for part in parts:
        if not isinstance(part, Text):
            said = 0
            placed.append(part)
            continue
        if part.citations and said:
            moved = tuple(structs.replace(one, start=said, end=said + len(part.text)) for one in part.citations)
            placed.append(structs.replace(part, citations=moved))
        else:
            placed.append(part)
        said += len(part.text)
    return tuple(placed)


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Read start, end, usage and end mark of a whole reply; all of it where it is unusual. Raises UpstreamGarbled."""
    try:
        reply = _TAPPED.decode(body)
        check_utf8(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return read_reply(body)
    usage = read_usage(reply.usage)
    if usage is None:
        return read_reply(body)
    tier = None if reply.service_tier is None else reply.service_tier.type
    return Started(service_tier=tier), finished(reply.stop_reason), UsageReported(usage), Ended()


def write_reply(reply: Reply) -> bytes:
    """Write a whole reply; every member that the service model requires is there. Of several answers the first is written."""
    choice = reply.choices[0] if reply.choices else Choice()
    writer = BlockWriter("", own=True)
    blocks = [block for part in choice.parts for block in reply_blocks(part, writer)]
    out: Object = {
        "output": {"message": {"role": "assistant", "content": blocks}},
        "stopReason": native_finish(choice.finish, choice.native_finish),
        "usage": write_usage(reply.usage or Usage()),
    }
    if reply.service_tier is not None:
        out["serviceTier"] = {"type": reply.service_tier}
    for foreign in choice.foreign:
        if foreign.dialect == NAME:
            out.setdefault(foreign.name, Raw(foreign.json))
    out.setdefault("metrics", NO_METRICS)
    return encode(out)


def reply_blocks(part: Part, writer: BlockWriter) -> Blocks:
    """Write a part of an answer; what no block can hold (the address of a picture, foreign parts) is left out."""
    match part:
        case Text():
            return list(cited_blocks(part.text, part.citations)) if part.citations else [{"text": part.text}]
        case Reasoning():
            return [{"reasoningContent": reasoning(part)}]
        case ToolUse():
            input_ = arguments(part.arguments, part.kind, own=True)
            use = {"toolUse": {"toolUseId": tool_id(part.id), "name": part.name, "input": input_}}
            return [*signed(tool_id(part.id), part), use]
        case Refusal():
            return [{"text": part.text}]
        case Audio():
            said: Blocks = [{"text": part.transcript}] if part.transcript else []
            return said + (writer.part(Audio(part.data, part.format)) if part.data else [])
        case _:
            return writer.part(part)


def reasoning(part: Reasoning) -> Object:
    """Write thinking, with its signature in a form that comes back whole."""
    if part.redacted:
        return {"redactedContent": write_redacted(part.signature or "", part.signer)}
    text: Object = {"text": part.text}
    if part.signature is not None:
        text["signature"] = carry(part.signature, part.signer, OWN)
    return {"reasoningText": text}


def signed(ident: str, use: ToolUse) -> Blocks:
    """Give the block that goes before a tool call and carries its signature; none if it has none."""
    if use.signature is None:
        return []
    blob = write_tool_signature(ident, use.signature, use.signer)
    return [{"reasoningContent": {"redactedContent": blob}}]


# -- what streams have in common with it --


def said_usage(json: Raw) -> Usage | None:
    """Read the provider's count out of a reply; None if there is none, or none that makes sense."""
    try:
        return read_usage(_USAGE.decode(json)) if json else None
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def said_tier(json: Raw) -> str | None:
    """Read the tier of service out of a reply; None if there is none."""
    try:
        found = _TIER.decode(json) if json else None
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if found is None else found.type


def read_usage(said: wire.TokenUsage | None) -> Usage | None:
    """Read the provider's count; None if there is none. What was cached is not among its input tokens, but is among ours."""
    if said is None or (said.input_tokens is None and said.output_tokens is None):
        return None
    cached, written = count(said.cache_read_input_tokens), count(said.cache_write_input_tokens)
    hour = sum(count(detail.input_tokens) for detail in said.cache_details or () if detail.ttl == "1h")
    hour = min(hour, written)
    into = count(said.input_tokens) + cached + written
    return plausible(Usage(into, count(said.output_tokens), cached, written - hour, hour))


def write_usage(usage: Usage) -> Object:
    """Write a count."""
    cached, short, hour = usage.cached_input_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens
    out: Object = {
        "inputTokens": max(0, usage.input_tokens - cached - short - hour),
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
    }
    if cached or short or hour:
        out["cacheReadInputTokens"] = cached
        out["cacheWriteInputTokens"] = short + hour
    details = [{"ttl": ttl, "inputTokens": tokens} for ttl, tokens in (("1h", hour), ("5m", short)) if tokens]
    if details:
        out["cacheDetails"] = details
    return out


def finished(native: str) -> Finished:
    """Read why an answer ended."""
    return Finished(_FINISH.get(native, "other"), native)


def native_finish(reason: Finish, native: str) -> str:
    """Give the service model's word for why an answer ended: the provider's own if it is one of them."""
    return native if native in _OFFICIAL else _NATIVE.get(reason, "end_turn")


def check_utf8(body: bytes) -> None:
    """Raise UnicodeDecodeError for what is not UTF-8, in members too that the decoder skips or keeps as they are."""
    if not body.isascii():
        body.decode()


def garbled(what: str, error: Exception) -> UpstreamGarbled:
    """Say that what came is not what it should be."""
    return UpstreamGarbled(f"The provider's {what} is not one of Converse: {clean(str(error), 200)}.")
