"""Reads and writes whole chat completions, and what they share with their streams: usage, log probabilities, endings.

Pure. Place in the line: behind `openai_chat.py` and `openai_chat_stream.py`.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder, decode, encode

from penstock.call import Audio, Image, Members, Reasoning, Refusal, Signer, Text, ToolUse
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled
from penstock.reply import (
    AudioDelta,
    Choice,
    Cited,
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
    RefusalDelta,
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.wire import openai_chat_parts, openai_chat_thoughts
from penstock.wire import openai_chat_reply_types as wire
from penstock.wire.openai_chat_content import LEGACY_ID
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.openai_chat_usage import NOTHING, NULL, is_said, read_usage, write_usage
from penstock.wire.provider_error import classify_in_stream, clean, said_by

OF_CHOICE: Final = "choice."
"""Begins the name of a `ForeignDelta` that stands beside the message rather than in it."""
NO_LOGPROB: Final = -9999.0
"""What OpenAI sends for a token outside the most likely ones."""

UNSIGNED: Final[tuple[None, Signer]] = (None, "")

_EXACT: Final = Decoder(wire.ExactReply)
_WHOLE: Final = Decoder(wire.WholeReply)
_MEMBERS: Final = Decoder(dict[str, Raw])
_CHOICES: Final = Decoder(list[dict[str, Raw]])

_FINISH: Final[Mapping[str, Finish]] = MappingProxyType(
    {
        "stop": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
        # what compatible servers say instead
        "eos": "stop",
        "end_turn": "stop",
        "max_tokens": "length",
        "model_length": "length",
        "refusal": "refusal",
        "error": "error",
    }
)
_NATIVE: Final[Mapping[str, str]] = MappingProxyType(
    {"length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter", "refusal": "content_filter"}
)
_REFUSED: Final = ("refusal", "stop")
_SERVER_ERROR: Final = 500
_KINDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "authentication_error",
        402: "insufficient_quota",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }
)
_OFFICIAL: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_KNOWN_OF_REPLY: Final = frozenset(wire.ExactReply.__struct_fields__)
_KNOWN_OF_CHOICE: Final = frozenset(wire.WholeChoice.__struct_fields__)
_KNOWN_OF_MESSAGE: Final = frozenset(wire.ExactMessage.__struct_fields__)


def read_reply(body: bytes) -> tuple[Event, ...]:
    """Read a whole reply. An error that came with status 200 is a `Failed`. Raises UpstreamGarbled."""
    reply: wire.WholeReply | wire.ExactReply
    own: list[dict[str, Raw]] = []
    extra: Members = ()
    try:
        check_utf8(body)
        try:
            reply = _EXACT.decode(body)
        except ValidationError:
            reply = _WHOLE.decode(body)
            members = _MEMBERS.decode(body)
            extra = _unknown(members, _KNOWN_OF_REPLY)
            own = _CHOICES.decode(members["choices"]) if reply.choices else []
        if reply.error and is_said(reply.error):
            return Failed(read_in_band(reply.error)), Ended()
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbled("reply", error) from None
    if reply.choices is None:
        raise UpstreamGarbled("The provider's reply has no choices.")
    events: list[Event] = [started(reply, extra)]
    for index, choice in enumerate(reply.choices):
        _read_choice(choice, reply.id or "", events)
        if own:
            _read_unknown(own[index], choice.index, events)
        events.append(finished(choice.finish_reason or "", choice.index, refused=bool(choice.message.refusal)))
    if len(reply.usage) > NULL and (usage := read_usage(reply.usage)) is not None:
        events.append(UsageReported(usage))
    events.append(Ended())
    return tuple(events)


def _read_choice(choice: wire.WholeChoice, reply_id: str, events: list[Event]) -> None:
    number, message = choice.index, choice.message
    if is_said(message.reasoning_details) and not openai_chat_thoughts.read_whole(message, number, events):
        events.append(ForeignDelta(NAME, "reasoning_details", bytes(message.reasoning_details), number))
    read_delta(message, number, events, whole=True)
    if message.annotations or message.images:
        read_beside(message, number, events)
    if message.tool_calls is not None:
        for index, call in enumerate(message.tool_calls):
            name, arguments = called(call)
            ident = call.id or missing_id(reply_id, number, index)
            signature = openai_chat_thoughts.read_signature(call.extra_content) if call.extra_content else UNSIGNED
            events.append(ToolUseStarted(index, ident, name or "", kind_of(call), number, *signature))
            events.append(ToolUseDelta(index, arguments, number))
    if message.function_call is not None:
        name, arguments = called(wire.ReplyToolCall(function=message.function_call))
        events.append(ToolUseStarted(0, f"{LEGACY_ID}0", name or "", choice=number))
        events.append(ToolUseDelta(0, arguments, number))
    if choice.logprobs is not None:
        events += read_logprobs(choice.logprobs, number)


def _read_unknown(own: dict[str, Raw], number: int, events: list[Event]) -> None:
    """Read the members of a choice and of its message that have no neutral form."""
    for name, json in _unknown(_MEMBERS.decode(own["message"]), _KNOWN_OF_MESSAGE):
        events.append(ForeignDelta(NAME, name, json, number))
    for name, json in _unknown(own, _KNOWN_OF_CHOICE):
        events.append(ForeignDelta(NAME, OF_CHOICE + name, json, number))


def write_reply(reply: Reply) -> bytes:
    """Write a whole reply; every member that OpenAI's schema requires is there."""
    out: dict[str, Any] = {
        "id": reply.id,
        "object": "chat.completion",
        "created": reply.created or 0,
        "model": reply.model,
        "choices": [_write_choice(number, choice) for number, choice in enumerate(reply.choices)],
    }
    if reply.usage is not None:
        out["usage"] = write_usage(reply.usage)
    if reply.service_tier is not None:
        out["service_tier"] = reply.service_tier
    if reply.fingerprint is not None:
        out["system_fingerprint"] = reply.fingerprint
    for name, json in reply.extra:
        out.setdefault(name, Raw(json))
    return encode(out)


def _write_choice(number: int, choice: Choice) -> dict[str, Any]:
    texts = [part.text for part in choice.parts if isinstance(part, Text)]
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    thoughts = [part for part in choice.parts if isinstance(part, Reasoning)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if thoughts:
        message["reasoning_content"] = "".join(part.text for part in thoughts)
    if openai_chat_thoughts.are_signed(thoughts):
        message["reasoning_details"] = openai_chat_thoughts.write_details(thoughts)
    if annotations := openai_chat_parts.write_annotations(choice.parts)[0]:
        message["annotations"] = annotations
    if images := openai_chat_parts.write_images(part for part in choice.parts if isinstance(part, Image)):
        message["images"] = images
    for part in choice.parts:
        if isinstance(part, Audio):
            message["audio"] = {
                "id": part.id or "",
                "data": part.data or "",
                "expires_at": part.expires_at or 0,
                "transcript": part.transcript or "",
            }
        elif isinstance(part, ToolUse) and part.id.startswith(LEGACY_ID):
            message["function_call"] = {"name": part.name, "arguments": part.arguments}
        elif isinstance(part, ToolUse):
            message.setdefault("tool_calls", []).append(write_tool_use(part))
    out: dict[str, Any] = {
        "index": number,
        "message": message,
        "logprobs": write_logprobs(choice.logprobs, choice.refusal_logprobs),
        "finish_reason": native_finish(choice.finish, choice.native_finish),
    }
    for foreign in choice.foreign:
        if foreign.dialect == NAME:
            place, name = (
                (out, foreign.name[len(OF_CHOICE) :]) if foreign.name.startswith(OF_CHOICE) else (message, foreign.name)
            )
            place.setdefault(name, Raw(foreign.json))
    return out


def write_tool_use(use: ToolUse) -> dict[str, Any]:
    """Write a tool call as it stands in a message."""
    if use.kind == "custom":
        call: dict[str, Any] = {"id": use.id, "type": "custom", "custom": {"name": use.name, "input": use.arguments}}
    else:
        call = {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": use.arguments}}
    if use.signature is not None:
        call.update(openai_chat_thoughts.write_signature(use.signature, use.signer))
    return call


# -- what streams have in common with it --


def started(reply: wire.ReplyHead, extra: Members = ()) -> Started:
    """Read who answers."""
    created = int(reply.created) if reply.created else None
    return Started(reply.id or "", reply.model or "", created, reply.system_fingerprint, reply.service_tier, extra)


def read_delta(delta: wire.Delta, choice: int, events: list[Event], *, whole: bool = False) -> None:
    """Read what a message or a piece of it says, apart from its tool calls. Empty strings say nothing, but a whole text does."""
    if thought := delta.reasoning_content or delta.reasoning:
        events.append(ReasoningDelta(thought, choice=choice))
    if content := delta.content:
        text = content if isinstance(content, str) else "".join(part.text or "" for part in content)
        events.append(TextDelta(text, choice))
    elif whole and content is not None:
        events.append(TextDelta("", choice))
    if delta.refusal:
        events.append(RefusalDelta(delta.refusal, choice))
    if (audio := delta.audio) is not None:
        events.append(AudioDelta(audio.data or "", audio.transcript or "", audio.id, audio.expires_at, choice))


def read_beside(delta: wire.Delta, choice: int, events: list[Event]) -> None:
    """Read sources and pictures, in a message or a piece of it."""
    if is_said(delta.annotations):
        events += [Cited(citation, choice) for citation in openai_chat_parts.read_annotations(delta.annotations)]
    if is_said(delta.images):
        images = openai_chat_parts.read_images(delta.images)
        if images is None:
            events.append(ForeignDelta(NAME, "images", bytes(delta.images), choice))
        else:
            events += [PartAdded(image, choice) for image in images]


def called(call: wire.ReplyToolCall) -> tuple[str | None, str]:
    """Give the name and the arguments of a tool call, as far as they are there."""
    if call.custom is not None:
        return call.custom.name, call.custom.input or ""
    if call.function is None:
        return None, ""
    arguments = call.function.arguments
    return call.function.name, encode(arguments).decode() if isinstance(arguments, dict) else arguments or ""


def kind_of(call: wire.ReplyToolCall) -> Literal["function", "custom"]:
    """Give the kind of a tool call by what it holds."""
    return "function" if call.custom is None else "custom"


def missing_id(reply_id: str, choice: int, index: int) -> str:
    """Make an id for a tool call whose server gave none (Gemini's compatible endpoint): unique within the conversation."""
    return f"call_{reply_id}_{choice}_{index}"


def read_logprobs(logprobs: wire.Logprobs, choice: int) -> Iterator[LogprobsDelta]:
    """Read the log probabilities of text and refusal."""
    for tokens, refusal in ((logprobs.content, False), (logprobs.refusal, True)):
        if tokens:
            yield LogprobsDelta(tuple(_logprob(token, token.top_logprobs or ()) for token in tokens), refusal, choice)


def _logprob(token: wire.Alternative, top: list[wire.Alternative] | tuple[()]) -> Logprob:
    return Logprob(
        token.token,
        NO_LOGPROB if token.logprob is None else token.logprob,
        None if token.bytes is None else tuple(token.bytes),
        tuple(_logprob(other, ()) for other in top),
    )


def write_logprobs(content: tuple[Logprob, ...], refusal: tuple[Logprob, ...]) -> dict[str, Any] | None:
    """Write log probabilities; None where there are none."""
    if not content and not refusal:
        return None
    return {
        "content": [_write_logprob(token) for token in content] or None,
        "refusal": [_write_logprob(token) for token in refusal] or None,
    }


def _write_logprob(token: Logprob) -> dict[str, Any]:
    return {**_write_alternative(token), "top_logprobs": [_write_alternative(other) for other in token.top]}


def _write_alternative(token: Logprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": token.bytes}


def finished(native: str, choice: int, *, refused: bool = False) -> Finished:
    """Read why a choice ended. OpenAI says `stop` after a refusal as well, which stands in a member of its own."""
    reason = _FINISH.get(native, "other")
    return Finished("refusal" if refused and reason == "stop" else reason, native, choice)


def native_finish(reason: Finish, native: str) -> str:
    """Give the schema's word for why a choice ended: the provider's own if it is one of them and means the same here."""
    if native in _OFFICIAL and (_FINISH[native] == reason or reason not in _NATIVE or (reason, native) == _REFUSED):
        return native
    return _NATIVE.get(reason, "stop")


def read_in_band(error: Raw | bytes) -> UpstreamError:
    """Read an error that stands where a reply should be; the status was 200."""
    return classify_in_stream(said_by({"error": decode(error)}))


def write_error(error: PenstockError) -> bytes:
    """Write an error as OpenAI's error object, for a body or a stream."""
    return encode({"error": error_object(error)})


def error_object(error: PenstockError) -> dict[str, Any]:
    """Give OpenAI's error object; the status decides its type."""
    kind = _KINDS.get(error.status, "invalid_request_error" if error.status < _SERVER_ERROR else "server_error")
    return {"message": str(error), "type": kind, "param": error.param, "code": error.code}


def check_utf8(body: bytes) -> None:
    """Raise UnicodeDecodeError for what is not UTF-8, in members too that the decoder skips or keeps as they are."""
    if not body.isascii():
        body.decode()


def garbled(what: str, error: Exception) -> UpstreamGarbled:
    """Say that what came is not what it should be."""
    return UpstreamGarbled(f"The provider's {what} is not a chat completion: {clean(str(error), 200)}.")


def _unknown(own: dict[str, Raw], known: frozenset[str]) -> Members:
    """Give the members that have no neutral form and say something."""
    return tuple((name, bytes(raw)) for name, raw in own.items() if name not in known and bytes(raw) not in NOTHING)
