"""Reads whole Responses, and what their streams share with them: items, usage, endings.

Pure. Place in the line: behind `openai_responses.py` and `openai_responses_stream.py`, on the provider's side.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from penstock.call import Foreign, Image, Members, Signer
from penstock.errors import UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import (
    Cited,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    Logprob,
    LogprobsDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.wire import openai_responses_citations
from penstock.wire import openai_responses_reply_types as wire
from penstock.wire.openai_chat_reply import check_utf8, read_in_band, read_logprobs
from penstock.wire.openai_chat_reply_types import Logprobs, TokenLogprob
from penstock.wire.openai_chat_usage import NULL, is_said
from penstock.wire.openai_responses_reasoning import Signature, read_item
from penstock.wire.openai_responses_request_types import NAME
from penstock.wire.provider_error import clean
from penstock.wire.token_counts import count, plausible

IMAGE: Final = "image_generation_call"

_WHOLE: Final = Decoder(wire.WholeReply)
_TAPPED: Final = Decoder(wire.TappedReply)
_USAGE: Final = Decoder(wire.WireUsage)
_ITEM: Final = Decoder(wire.OutputItem)
_PARTS: Final = Decoder(list[wire.ContentPart] | None)
_MEMBERS: Final = Decoder(dict[str, Raw])
_TEXT: Final = Decoder(str | None)
_BEGUN: Final = frozenset({"queued", "in_progress"})
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})

_INCOMPLETE: Final[Mapping[str, Finish]] = MappingProxyType(
    {"max_output_tokens": "length", "content_filter": "content_filter"}
)
ECHOED: Final = frozenset(
    {
        *("id", "object", "created_at", "model", "status", "output", "usage", "error", "incomplete_details"),
        *("service_tier", "background", "completed_at", "instructions", "max_output_tokens", "max_tool_calls"),
        *("parallel_tool_calls", "previous_response_id", "prompt_cache_key", "reasoning", "safety_identifier"),
        *("store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"),
        *("metadata", "prompt_cache_retention", "output_text"),
    }
)
"""Members of a reply that are read, or that say again what was asked."""


def read_reply(body: bytes) -> tuple[Event, ...]:
    """Read a whole reply. An error that came with status 200 is a `Failed`. Raises UpstreamGarbled."""
    try:
        check_utf8(body)
        reply = _WHOLE.decode(body)
        if is_said(reply.error):
            return Failed(read_in_band(reply.error)), Ended()
        if reply.output is None:
            raise UpstreamGarbled("The provider's reply has no output.")
        if not reply.output and reply.status in _BEGUN and not reply.background:
            raise UpstreamGarbled("The provider's reply is empty and not at its end.")
        output = Output()
        events: list[Event] = [started(reply, unknown(body))]
        for raw in reply.output:
            output.read_item(raw, events)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbled("reply", error) from None
    events += ending(reply, output)
    return tuple(events)


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Read start, end and usage of a whole reply; all of it where it is unusual. Raises UpstreamGarbled."""
    try:
        reply = _TAPPED.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return read_reply(body)  # which says what is wrong
    if not reply.output or len(reply.error) > NULL or len(reply.usage) <= NULL or not body.isascii():
        return read_reply(body)
    output = Output()
    output.calls = sum(item.type in _CALLS for item in reply.output)
    return started(reply), *ending(reply, output)


def started(reply: wire.Head, extra: Members = ()) -> Started:
    """Read who answers."""
    created = None if reply.created_at is None else int(reply.created_at)
    return Started(reply.id or "", reply.model or "", created, None, reply.service_tier, extra)


def unknown(body: bytes) -> Members:
    """Give the members that have no neutral form, say something, and do not say again what was asked."""
    members = _MEMBERS.decode(body)
    return tuple((name, bytes(raw)) for name, raw in members.items() if name not in ECHOED and is_said(raw))


def ending(reply: wire.Head, output: "Output") -> list[Event]:
    """Read how a reply ends, what it cost, and that it is complete."""
    events: list[Event] = []
    if (usage := read_usage(reply.usage)) is not None:
        events.append(UsageReported(usage))
    if reply.status in {"failed", "cancelled"}:
        failure = read_in_band(reply.error if is_said(reply.error) else b'{"message":"It gives no reason."}')
        return [*events, Failed(failure), Ended()]
    events.append(output.finished(reply))
    events.append(Ended())
    return events


class Output:
    """What of a reply's output has been read: how many tool calls, whether a refusal, signatures that wait for their call."""

    __slots__ = ("_signed", "calls", "refused", "said")

    def __init__(self) -> None:
        self.calls = 0
        self.refused = False
        self.said = False
        self._signed: dict[str, Signature] = {}

    def finished(self, reply: wire.Head) -> Finished:
        """Say why the reply ended."""
        if reply.status == "incomplete":
            reason = (reply.incomplete_details.reason if reply.incomplete_details else None) or "incomplete"
            return Finished(_INCOMPLETE.get(reason, "other"), reason)
        status = reply.status or "completed"
        if self.calls:
            return Finished("tool_calls", status)
        return Finished("refusal" if self.refused and not self.said else "stop", status)

    def read_item(self, raw: Raw, events: list[Event]) -> None:
        """Read one item that is complete."""
        item = _ITEM.decode(raw)
        if item.type == "message":
            for part in _PARTS.decode(item.content) if item.content else ():
                self._read_part(part, events)
        elif item.type in _CALLS:
            self.start_call(item, events)
            if arguments := arguments_of(item):
                events.append(ToolUseDelta(self.calls - 1, arguments))
        elif item.type == "reasoning":
            self.read_thought(item, events)
        else:
            events.append(PartAdded(read_part(item, raw)))

    def _read_part(self, part: wire.ContentPart, events: list[Event]) -> None:
        if part.refusal is not None:
            self.refused = True
            events.append(RefusalDelta(part.refusal))
        elif part.text is not None:
            self.said = True
            events.append(TextDelta(part.text))
            if part.logprobs:
                events.append(LogprobsDelta(logprobs(part.logprobs)))
            if len(part.annotations) > len("[]"):
                events += [Cited(citation) for citation in openai_responses_citations.read(part.annotations)]

    def start_call(self, item: wire.OutputItem, events: list[Event]) -> None:
        """Begin a tool call, with the signature that came before it."""
        call_id = item.call_id or item.id or ""
        signed = self._signed.pop(call_id, None)
        kind = "custom" if item.type == "custom_tool_call" else "function"
        signer: Signer = signed[2] if signed else ""  # type: ignore[assignment]  # one of the literals
        signature = signed[1] if signed else None
        events.append(ToolUseStarted(self.calls, call_id, item.name or "", kind, 0, signature, signer))  # type: ignore[arg-type]  # one of the two
        self.calls += 1

    def read_thought(self, item: wire.OutputItem, events: list[Event], *, told: bool = False) -> None:
        """Read a thought, or with `told` what is left of one whose text is known: its signature."""
        if told and not item.encrypted_content:
            return
        thought = read_item(item.id, item.encrypted_content or None, texts(item.summary), texts(item.content))
        if isinstance(thought, tuple):
            self._signed[thought[0]] = thought
            return
        signature = thought.signature if item.encrypted_content else None
        signer: Signer = thought.signer if signature is not None else ""
        text = "" if told else thought.text
        if text or signature is not None:
            events.append(ReasoningDelta(text, signature, thought.redacted, 0, signer))


def read_part(item: wire.OutputItem, raw: Raw) -> Image | Foreign:
    """Read an item that comes whole: a picture, or what only this API knows."""
    if item.type == IMAGE and (data := _text(item.result)):
        members = _MEMBERS.decode(raw)
        extra = tuple((name, bytes(json)) for name, json in members.items() if name not in {"type", "result"})
        return Image(data=data, media_type=f"image/{item.output_format or 'png'}", extra=extra)
    return Foreign(NAME, item.type, bytes(raw))


def arguments_of(item: wire.OutputItem) -> str:
    """Give the arguments of a tool call as text; an object, which some servers send, as its JSON."""
    raw = item.input if item.type == "custom_tool_call" else item.arguments
    text = _text(raw)
    return text if text is not None else bytes(raw).decode() if is_said(raw) else ""


def _text(raw: Raw) -> str | None:
    try:
        return _TEXT.decode(raw) if raw else None
    except DecodeError:
        return None


def texts(raw: Raw) -> list[str]:
    """Give the texts of the parts of a thought."""
    return [part.text or "" for part in _PARTS.decode(raw) or ()] if raw else []


def logprobs(tokens: list[TokenLogprob]) -> tuple[Logprob, ...]:
    """Read log probabilities."""
    return next((delta.tokens for delta in read_logprobs(Logprobs(tokens), 0)), ())


def read_usage(json: Raw) -> Usage | None:
    """Read the provider's count; None if there is none, or none that makes sense. The parts are held to the whole."""
    if len(json) <= NULL:
        return None
    try:
        usage = _USAGE.decode(json)
    except (DecodeError, UnicodeDecodeError):
        return None
    if usage.input_tokens is None and usage.output_tokens is None:
        return None
    given = usage.input_tokens_details or wire.InputDetails()
    made = usage.output_tokens_details or wire.OutputDetails()
    said = Usage(
        count(usage.input_tokens),
        count(usage.output_tokens),
        count(given.cached_tokens),
        count(given.cache_write_tokens),
        0,
        count(made.reasoning_tokens),
        count(given.audio_tokens),
        count(made.audio_tokens),
        image_input_tokens=count(given.image_tokens),
        image_output_tokens=count(made.image_tokens),
    )
    return plausible(said)


def garbled(what: str, error: Exception) -> UpstreamGarbled:
    """Say that what came is not what it should be."""
    return UpstreamGarbled(f"The provider's {what} is not a Response: {clean(str(error), 200)}.")
