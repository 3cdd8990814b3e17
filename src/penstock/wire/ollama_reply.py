"""Reads and writes whole replies of Ollama's chat and generate, and what they share with their streams.

Pure. Both forms are read by what stands in them, and written as the call asked. Nothing here reads a clock: times are the
provider's, or the beginning of 1970, and durations of a provider that tells none are left out, as Ollama leaves out a zero.
Place in the line: behind `ollama.py` and `ollama_stream.py`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, decode, encode

from penstock.call import Call, Image, Reasoning, Refusal, Text, ToolUse
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import (
    Choice,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    ForeignDelta,
    Logprob,
    LogprobsDelta,
    PartAdded,
    ReasoningDelta,
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.wire import ollama_reply_types as wire
from penstock.wire import tool_ids
from penstock.wire.ollama_body import arguments
from penstock.wire.ollama_content import read_image
from penstock.wire.ollama_reasoning import read_details, read_tool_signature, write_details, write_tool_signature
from penstock.wire.ollama_request_types import GENERATE, NAME
from penstock.wire.provider_error import classify_in_stream, clean, said_by
from penstock.wire.token_counts import count, plausible

NO_LOGPROB: Final = -9999.0
"""For a token whose log probability is not told."""

_LINE: Final = Decoder(wire.Line)
_MEMBERS: Final = Decoder(dict[str, Raw])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FINISH: Final[Mapping[str, Finish]] = MappingProxyType(
    {
        "stop": "stop",
        "length": "length",
        "load": "stop",
        "unload": "stop",
        # what we write for reasons that Ollama's own models do not have
        "content_filter": "content_filter",
        "refusal": "refusal",
        "pause": "pause",
        "error": "error",
    }
)
_NATIVE: Final[Mapping[Finish, str]] = MappingProxyType({"tool_calls": "stop", "other": "stop"})
_NOTHING: Final = frozenset({b"", b"null", b'""', b"0", b"[]"})
_NULL: Final = len("null")


def read_reply(body: bytes) -> tuple[Event, ...]:
    """Read a whole reply. An error that came with status 200 is a `Failed`. Raises UpstreamGarbled."""
    reply = read_line(body)
    if len(reply.error) > _NULL:
        return Failed(read_in_band(reply.error)), Ended()
    if reply.message is None and reply.response is None and not reply.image:
        raise UpstreamGarbled("The provider's reply has neither `message` nor `response`.")
    events: list[Event] = [started(reply)]
    tools = read_said(reply, 0, events)
    if len(events) == 1 or isinstance(events[1], LogprobsDelta):
        events.insert(1, TextDelta(""))
    return (*events, *endings(reply, body, called=tools > 0))


class _Tap(Struct, gc=False):
    """What the meter needs, where nothing is unusual."""

    model: str
    done: bool
    done_reason: str
    prompt_eval_count: int
    created_at: str = ""
    eval_count: int = 0
    message: wire.ReplyMessage | None = None
    response: Raw = Raw(b"")
    error: Raw = Raw(b"")


_TAP: Final = Decoder(_Tap)


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Give start, end, usage and end mark of a whole reply; all of its events where it is unusual. Raises UpstreamGarbled."""
    try:
        reply = _TAP.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return read_reply(body)
    said, usage = reply.message is not None or reply.response, read_usage(reply.prompt_eval_count, reply.eval_count)
    if not said or reply.error or usage is None or reply.eval_count < 0 or not body.isascii():
        return read_reply(body)  # which says what is wrong with it, or finds nothing
    called = reply.message is not None and bool(reply.message.tool_calls)
    return (
        Started("", reply.model, read_time(reply.created_at)),
        finished(reply.done_reason, called=called),
        UsageReported(usage),
        Ended(),
    )


# -- what a line says --


def read_line(line: bytes) -> wire.Line:
    """Read one line, or a whole reply. Raises UpstreamGarbled."""
    try:
        if not line.isascii():
            line.decode()  # skipped strings are not checked by the decoder
        return _LINE.decode(line)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = clean(str(error), 200)
        raise UpstreamGarbled(f"The provider's reply is not one of Ollama's: {text}.") from None


def started(line: wire.Line) -> Started:
    """Read who answers."""
    return Started("", line.model or "", read_time(line.created_at))


def read_said(line: wire.Line, tools: int, events: list[Event]) -> int:
    """Read what a line says, and give the number of tool calls so far. Empty strings say nothing."""
    message = line.message
    if message is not None:
        if message.thinking or message.reasoning_details:
            events += _thoughts(message)
        if content := message.content:
            events.append(TextDelta(content))
        for image in (*(message.images or ()), *(line.images or ())):
            events.append(PartAdded(read_image(image)))
        if message.tool_calls:
            tools = _read_calls(line, message.tool_calls, tools, events)
    else:
        if line.thinking:
            events.append(ReasoningDelta(line.thinking))
        if line.response:
            events.append(TextDelta(line.response))
        if line.image:
            events.append(PartAdded(read_image(line.image)))
        if line.tool_calls:
            tools = _read_calls(line, line.tool_calls, tools, events)
    if line.logprobs:
        events.append(read_logprobs(line.logprobs))
    return tools


def _thoughts(message: wire.ReplyMessage) -> Iterator[ReasoningDelta]:
    """Read thoughts. Where signatures come along, thoughts that the plain text lacks (of earlier lines) are not said again."""
    details = read_details(message.reasoning_details)
    text = message.thinking or ""
    if "".join(detail.text for detail in details) == text and details:
        for detail in details:
            yield ReasoningDelta(detail.text, detail.signature, detail.redacted, signer=detail.signer)
        return
    if text and not (details and not details[0].redacted):
        yield ReasoningDelta(text)
        text = ""
    for detail in details:
        if text or detail.signature:
            yield ReasoningDelta(text, detail.signature, detail.redacted, signer=detail.signer)
            text = ""


def _read_calls(line: wire.Line, calls: Iterable[wire.ReplyToolCall], index: int, events: list[Event]) -> int:
    for call in calls:
        function = call.function
        text = _arguments(function.arguments)
        ident = call.id or tool_ids.made(line.created_at or "", line.model or "", index, function.name, text)
        signature, signer = read_tool_signature(call.extra_content)
        events.append(ToolUseStarted(index, ident, function.name, signature=signature, signer=signer))
        events.append(ToolUseDelta(index, text))
        index += 1
    return index


def _arguments(json: Raw) -> str:
    """Give the text of the arguments, which some servers send as a text in JSON."""
    if len(json) <= _NULL and bytes(json) in _NOTHING:
        return "{}"
    text = bytes(json).decode()
    return str(decode(json)) or "{}" if text.startswith('"') else text


def endings(line: wire.Line, raw: bytes, *, called: bool) -> Iterator[Event]:
    """Read what only the last line says: why it ended, the counts, and what has no neutral form."""
    for name, json in _MEMBERS.decode(raw).items():
        if name not in wire.KNOWN and bytes(json) not in _NOTHING:
            yield ForeignDelta(NAME, name, bytes(json))
    yield finished(line.done_reason or "", called=called)
    if (usage := read_usage(line.prompt_eval_count, line.eval_count)) is not None:
        yield UsageReported(usage)
    yield Ended()


def finished(native: str, *, called: bool) -> Finished:
    """Read why an answer ended: Ollama says "stop" where a model calls a tool, older servers nothing at all."""
    reason = _FINISH.get(native or "stop", "other")
    return Finished("tool_calls" if called and reason == "stop" else reason, native)


def native_finish(reason: Finish, native: str) -> str:
    """Give Ollama's word for why an answer ended: the provider's own if it is one of them."""
    return native if native in _FINISH and reason in {_FINISH[native], "tool_calls"} else _NATIVE.get(reason, reason)


def read_usage(into: int | None, out: int | None) -> Usage | None:
    """Read the counts; a zero is left out here. Without that of the prompt (older servers, for a cached one) there is none."""
    return None if into is None or into < 0 else plausible(Usage(into, count(out)))


def read_logprobs(tokens: Iterable[wire.TokenLogprob]) -> LogprobsDelta:
    """Read the log probabilities of some tokens."""
    return LogprobsDelta(tuple(_logprob(token, token.top_logprobs or ()) for token in tokens))


def _logprob(token: wire.Alternative, top: Iterable[wire.Alternative]) -> Logprob:
    return Logprob(
        token.token,
        NO_LOGPROB if token.logprob is None else token.logprob,
        None if token.bytes is None else tuple(token.bytes),
        tuple(_logprob(other, ()) for other in top),
    )


def read_time(text: str | None) -> int | None:
    """Read a time (RFC 3339) as Unix seconds; None for none, and for Go's zero time."""
    try:
        seconds = int(datetime.fromisoformat(text).timestamp()) if text else 0
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if seconds > 0 else None


def write_time(seconds: int | None) -> str:
    """Write Unix seconds as RFC 3339; the beginning of 1970 for what is no time."""
    try:
        return f"{_EPOCH + timedelta(seconds=seconds or 0):%Y-%m-%dT%H:%M:%SZ}"
    except OverflowError:
        return "1970-01-01T00:00:00Z"


def read_in_band(error: Raw) -> UpstreamError:
    """Read an error that stands where a reply should be; the status was 200."""
    try:
        return classify_in_stream(said_by({"error": decode(error)}))
    except (DecodeError, RecursionError):
        return UpstreamGarbled("The provider ended its reply with an error that cannot be read.")


# -- writing --


def write_reply(reply: Reply, call: Call) -> bytes:
    """Write a whole reply in the form that was asked for, under the name that was asked for."""
    choice = reply.choices[0] if reply.choices else Choice()
    thoughts = [part for part in choice.parts if isinstance(part, Reasoning)]
    uses = [part for part in choice.parts if isinstance(part, ToolUse)]
    images = [part.data for part in choice.parts if isinstance(part, Image) and part.data]
    text = "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal))
    out: dict[str, Any] = {"model": call.model, "created_at": write_time(reply.created)}
    said: dict[str, Any] = {
        "thinking": "".join(thought.text for thought in thoughts),
        "tool_calls": [write_use(use) for use in uses],
    }
    if call.form == GENERATE:
        out["response"] = text
        out.update((name, value) for name, value in said.items() if value)
    else:
        said["reasoning_details"] = write_details(thoughts)
        message = {"role": "assistant", "content": text}
        out["message"] = message | {name: value for name, value in said.items() if value}
    if images:
        out |= write_images(images, call.form)
    if choice.logprobs:
        out["logprobs"] = write_logprobs(choice.logprobs)
    ends = last(Finished(choice.finish, choice.native_finish), choice.foreign, reply.usage)
    return encode(out | {name: value for name, value in ends.items() if name not in out})


def write_use(use: ToolUse) -> dict[str, Any]:
    """Write a tool call as it stands in a message."""
    signed = write_tool_signature(use.signature, use.signer)
    return {"id": use.id, "function": {"name": use.name, "arguments": arguments(use)}, **signed}


def write_images(images: Sequence[str], form: str) -> dict[str, Any]:
    """Write pictures: a completion has one. Those of a chat stand beside the message, since the SDK fails on any within."""
    return {"image": images[0]} if form == GENERATE else {"images": images}


def write_logprobs(tokens: Iterable[Logprob]) -> list[dict[str, Any]]:
    """Write log probabilities."""
    return [
        {**_alternative(token), "top_logprobs": [_alternative(other) for other in token.top]}
        if token.top
        else _alternative(token)
        for token in tokens
    ]


def _alternative(token: Logprob) -> dict[str, Any]:
    out: dict[str, Any] = {"token": token.token, "logprob": token.logprob}
    return out if token.bytes is None else {**out, "bytes": token.bytes}


def last(finish: Finished, foreign: Iterable[ForeignDelta], usage: Usage | None) -> dict[str, Any]:
    """Give the members that only the last line has."""
    out: dict[str, Any] = {"done": True, "done_reason": native_finish(finish.reason, finish.native)}
    out.update((delta.name, Raw(delta.json)) for delta in foreign if delta.dialect == NAME)
    if usage is not None:
        out |= {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens}
    return out


def write_error(error: PenstockError) -> bytes:
    """Write an error, for a body or a stream."""
    return encode({"error": str(error)})
