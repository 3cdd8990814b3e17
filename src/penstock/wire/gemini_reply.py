"""Reads and writes whole Gemini replies, and what they share with their streams: parts, answers, endings.

Pure. `groundingMetadata` is kept whole for clients of this dialect, and told as sources to all others. Place in the line: behind `gemini.py` and `gemini_stream.py`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct, ValidationError
from msgspec.json import Decoder, decode, encode

from penstock.call import (
    Audio,
    Citation,
    File,
    Foreign,
    Image,
    Json,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolUse,
)
from penstock.errors import UpstreamGarbled
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
from penstock.wire import gemini_types as wire
from penstock.wire.gemini_content import arguments_of, foreign, inline, linked, turns_of
from penstock.wire.gemini_details import (
    read_citations,
    read_grounded,
    read_logprobs,
    read_tier,
    read_usage,
    write_citations,
    write_logprobs,
    write_usage,
)
from penstock.wire.gemini_errors import read_in_band
from penstock.wire.gemini_members import MEMBERS, Object, given, items, members, read_signature, write_signature
from penstock.wire.media import media_type_of
from penstock.wire.provider_error import clean
from penstock.wire.tool_ids import made

PROMPT_FEEDBACK: Final = "promptFeedback"
AUDIO_TYPE: Final = "inlineData.mimeType"
"""The name of the `ForeignDelta` that says what kind of sound an answer is."""
OTHER_AUDIO: Final = b'"audio/wav"'
"""What sound is taken for where nobody said."""
SILENT: Final = frozenset({b"", b"null", b"[]", b"{}"})

_EXACT: Final = Decoder(wire.ExactChunk)
_CHUNK: Final = Decoder(wire.Chunk)
_HEAD: Final = frozenset(wire.Chunk.__struct_encode_fields__) - {"createTime"}
_CANDIDATE: Final = frozenset(wire.Candidate.__struct_encode_fields__)
_KEPT: Final = (
    *("avg_logprobs", "safety_ratings", "finish_message", "token_count", "url_context_metadata", "continuation_token"),
)

_FINISH: Final[Mapping[str, Finish]] = MappingProxyType(
    {
        "STOP": "stop",
        "MAX_TOKENS": "length",
        "CONTINUATION": "pause",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "BLOCKLIST": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "SPII": "content_filter",
        "LANGUAGE": "content_filter",
        "MODEL_ARMOR": "content_filter",
        "JAILBREAK": "content_filter",
        "IMAGE_SAFETY": "content_filter",
        "IMAGE_PROHIBITED_CONTENT": "content_filter",
        "IMAGE_RECITATION": "content_filter",
        "MALFORMED_FUNCTION_CALL": "error",
        "UNEXPECTED_TOOL_CALL": "error",
        "TOO_MANY_TOOL_CALLS": "error",
        "MISSING_THOUGHT_SIGNATURE": "error",
        "MALFORMED_RESPONSE": "error",
        "OTHER": "other",
        "IMAGE_OTHER": "other",
        "NO_IMAGE": "other",
        "ESCALATION": "other",
        "PUP_LIMITED_DISABLED": "other",
        "FINISH_REASON_UNSPECIFIED": "other",
    }
)
_NATIVE: Final[Mapping[Finish, str]] = MappingProxyType(
    {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "refusal": "SAFETY"}
)


class _RawContent(Struct):
    parts: list[Raw] | Raw | None = None


class _RawCandidate(Struct):
    content: _RawContent | None = None


_RAW_CANDIDATE: Final = Decoder(_RawCandidate)

Own = tuple[Mapping[str, Raw], list[Mapping[str, Raw]]]
"""The members of a reply and of each of its candidates as they were sent, where some of them are unknown."""


def read_reply(body: bytes) -> tuple[Event, ...]:
    """Read a whole reply. An error that came with status 200 is a `Failed`. Raises UpstreamGarbled."""
    try:
        chunk, own = decode_chunk(body)
        if bytes(chunk.error) not in SILENT:
            return Failed(read_in_band(decode(body))), Ended()
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbled("reply", error) from None
    events: list[Event] = [started(chunk, own)]
    states: dict[int, State] = {}
    for place, candidate in enumerate(chunk.candidates or ()):
        parts = () if candidate.content is None else turns_of(candidate.content.parts)
        if len(parts) == 1 and parts[0].text == "" and parts[0].thought_signature is None:
            events.append(TextDelta("", place if candidate.index is None else candidate.index))
    read_candidates(chunk, own, states, events)
    if not any(state.finished for state in states.values()):
        if not states:
            raise UpstreamGarbled("The provider's reply has no candidates.")
        events += [Finished("other", "", number) for number in states]
    if (usage := read_usage(chunk.usage_metadata)) is not None:
        events.append(UsageReported(usage))
    events.append(Ended())
    return tuple(events)


def decode_chunk(data: bytes) -> tuple[wire.Chunk | wire.ExactChunk, Own | None]:
    """Decode a reply or a piece of one, and what it has beyond the reference. Raises what the decoder does."""
    if not data.isascii():
        data.decode()  # skipped strings are not checked by the decoder
    try:
        return _EXACT.decode(data), None
    except ValidationError:
        chunk = _CHUNK.decode(data)
        own = MEMBERS.decode(data)
        return chunk, (own, [members(raw) for raw in items(own.get("candidates"))])


def started(chunk: wire.Chunk | wire.ExactChunk, own: Own | None) -> Started:
    """Read who answers."""
    extra = []
    if chunk.create_time is not None:
        extra.append(("createTime", encode(chunk.create_time)))
    if own is not None:
        extra += [
            (name, bytes(raw))
            for name, raw in own[0].items()
            if name not in _HEAD and name != "createTime" and said(raw)
        ]
    tier = read_tier(chunk.usage_metadata)
    return Started(
        chunk.response_id or "", chunk.model_version or "", _unix(chunk.create_time), None, tier, tuple(extra)
    )


def _unix(time: str | None) -> int | None:
    try:
        return None if time is None else int(datetime.fromisoformat(time).timestamp())
    except (ValueError, OverflowError):
        return None


# -- candidates --


class State:
    """One choice while it is read: how many tools it called, its text, whether it ended."""

    __slots__ = ("audio", "cited", "finished", "text", "tools")

    def __init__(self) -> None:
        self.finished = False
        self.tools = 0
        self.text: list[str] = []
        self.cited: set[Citation] = set()
        self.audio = ""


def read_candidates(
    chunk: wire.Chunk | wire.ExactChunk, own: Own | None, states: dict[int, State], events: list[Event]
) -> None:
    """Read the answers of a reply, or the pieces of them; a prompt that was refused is an answer of its own."""
    for place, candidate in enumerate(chunk.candidates or ()):
        number = place if candidate.index is None else candidate.index
        state = states.get(number)
        if state is None:
            states[number] = state = State()
        if candidate.content is not None:
            raws = None if own is None else _raw_parts(own[1][place])
            for index, part in enumerate(turns_of(candidate.content.parts)):
                if part.text is not None and part.thought is None and part.thought_signature is None:
                    if part.text:
                        events.append(TextDelta(part.text, number))
                        state.text.append(part.text)
                else:
                    _read_part(
                        part, None if raws is None else raws[index], (chunk.response_id or "", number), state, events
                    )
        if own is not None or candidate.finish_reason is not None or _has_more(candidate):
            _read_rest(candidate, None if own is None else own[1][place], (number, state), events)
        if candidate.finish_reason is not None and not state.finished:
            state.finished = True
            events.append(_finished(candidate.finish_reason, number, called=state.tools > 0))
    if not chunk.candidates and said(chunk.prompt_feedback):
        reason = members(chunk.prompt_feedback).get("blockReason")
        if reason is not None:
            state = states.setdefault(0, State())
            state.finished = True
            events.append(ForeignDelta(wire.NAME, PROMPT_FEEDBACK, bytes(chunk.prompt_feedback)))
            events.append(Finished("content_filter", bytes(reason).decode().strip('"')))


def _raw_parts(own: Mapping[str, Raw]) -> list[Raw]:
    return items(members(own.get("content")).get("parts"))


def _read_part(part: wire.Part, raw: Raw | None, of: tuple[str, int], state: State, events: list[Event]) -> None:
    """Read any part but plain text."""
    reply_id, number = of
    signature, signer = read_signature(part.thought_signature)
    call = part.function_call
    if part.text is not None:
        if part.thought is True:
            events.append(ReasoningDelta(part.text, signature, choice=number, signer=signer))
            return
        if part.text:
            events.append(TextDelta(part.text, number))
            state.text.append(part.text)
    elif call is not None and not _is_piece(call, raw):
        arguments = arguments_of(call)
        ident = call.id or made(wire.NAME, reply_id, number, state.tools, call.name, arguments)
        events.append(ToolUseStarted(state.tools, ident, call.name, "function", number, signature, signer))
        events.append(ToolUseDelta(state.tools, arguments, number))
        state.tools += 1
        return
    elif part.inline_data is not None and part.thought is not True:
        _read_data(inline(part.inline_data, ()), part.inline_data, number, state, events)
    elif part.file_data is not None:
        events.append(PartAdded(linked(part.file_data, ()), number))
    elif (kept := foreign(part, raw)) is not None:
        events.append(PartAdded(kept, number))
        return
    if signature is not None:
        redacted = signer != "google" and part.text == ""
        events.append(ReasoningDelta("", signature, redacted, number, signer))


def _is_piece(call: wire.FunctionCall, raw: Raw | None) -> bool:
    """Return whether a call comes in pieces, which only clients of this dialect ask for."""
    return not call.name or (
        raw is not None and not {"partialArgs", "willContinue"}.isdisjoint(members(members(raw).get("functionCall")))
    )


def _read_data(part: Image | Audio | File, blob: wire.Blob, number: int, state: State, events: list[Event]) -> None:
    media = (blob.mime_type or "").lower()
    if not isinstance(part, Audio) and not media.startswith("audio/"):
        events.append(PartAdded(part, number))
        return
    if state.audio != media:
        state.audio = media
        events.append(ForeignDelta(wire.NAME, AUDIO_TYPE, encode(blob.mime_type), number))
    events.append(AudioDelta(part.data or "", choice=number))


def _has_more(candidate: wire.Candidate | wire.ExactCandidate) -> bool:
    """Return whether anything stands beside the parts before the end."""
    return bool(
        candidate.safety_ratings
        or candidate.grounding_metadata
        or candidate.citation_metadata
        or candidate.logprobs_result
        or candidate.url_context_metadata
        or candidate.avg_logprobs
        or candidate.finish_message
        or candidate.token_count
        or candidate.continuation_token
    )


def _read_rest(
    candidate: wire.Candidate | wire.ExactCandidate,
    own: Mapping[str, Raw] | None,
    of: tuple[int, State],
    events: list[Event],
) -> None:
    """Read what stands beside the parts of an answer."""
    number, state = of
    if candidate.citation_metadata:
        events += [Cited(citation, number) for citation in read_citations(candidate.citation_metadata)]
    if said(candidate.grounding_metadata):
        events.append(ForeignDelta(wire.NAME, "groundingMetadata", bytes(candidate.grounding_metadata), number))
        for citation in read_grounded(candidate.grounding_metadata, "".join(state.text)):
            if citation not in state.cited:
                state.cited.add(citation)
                events.append(Cited(citation, number))
    if candidate.logprobs_result and (tokens := read_logprobs(candidate.logprobs_result)):
        events.append(LogprobsDelta(tokens, choice=number))
    for name, member in _KEPT_MEMBERS:
        if said(raw := getattr(candidate, name)):
            events.append(ForeignDelta(wire.NAME, member, bytes(raw), number))
    if own is not None:
        for name, raw in own.items():
            if name not in _CANDIDATE and said(raw):
                events.append(ForeignDelta(wire.NAME, name, bytes(raw), number))


_KEPT_MEMBERS: Final = tuple(
    (name, member)
    for name, member in zip(wire.Candidate.__struct_fields__, wire.Candidate.__struct_encode_fields__, strict=True)
    if name in _KEPT
)


def _finished(native: str, number: int, *, called: bool) -> Finished:
    reason = _FINISH.get(native, "other")
    return Finished("tool_calls" if called and reason == "stop" else reason, native, number)


# -- written --


def write_reply(reply: Reply) -> bytes:
    """Write a whole reply."""
    out: Object = {}
    candidates = []
    for number, choice in enumerate(reply.choices):
        blocked = next(
            (one for one in choice.foreign if one.name == PROMPT_FEEDBACK and one.dialect == wire.NAME), None
        )
        if blocked is not None:
            out[PROMPT_FEEDBACK] = Raw(blocked.json)
        else:
            candidates.append(_write_choice(number, choice))
    if candidates or PROMPT_FEEDBACK not in out:
        out["candidates"] = candidates
    if reply.usage is not None:
        out["usageMetadata"] = write_usage(reply.usage, reply.service_tier)
    out |= head(reply.id, reply.model)
    for name, json in reply.extra:
        out.setdefault(name, Raw(json))
    return encode(out)


def head(reply_id: str, model: str) -> Object:
    """Write who answers."""
    return {**given(modelVersion=model or None), **given(responseId=reply_id or None)}


def _write_choice(number: int, choice: Choice) -> Object:
    kept = [one for one in choice.foreign if one.dialect == wire.NAME]
    audio = next((one.json for one in kept if one.name == AUDIO_TYPE), OTHER_AUDIO)
    out: Object = {
        "content": {"parts": write_parts(choice.parts, audio), "role": "model"},
        "finishReason": native_finish(choice.finish, choice.native_finish),
        "index": number,
    }
    citations = [one for part in choice.parts if isinstance(part, Text) for one in part.citations]
    if written := write_citations(citations):
        out["citationMetadata"] = {"citations": written}
    if tokens := choice.logprobs or choice.refusal_logprobs:
        out["logprobsResult"] = write_logprobs(tokens)
    for one in kept:
        if one.name != AUDIO_TYPE:
            out[one.name] = Raw(one.json)  # of two the later one, which says more
    return out


def native_finish(reason: Finish, native: str) -> str:
    """Give Gemini's word for why a choice ended: the provider's own if it is one of them."""
    known = native in _FINISH or (reason == "other" and native.isupper())  # the newest words are not known here
    return native if known else _NATIVE.get(reason, "OTHER")


def write_parts(parts: Iterable[Part], audio: Json) -> list[Any]:
    """Write what an answer consists of; a signature goes to the part that it follows on."""
    out: list[Any] = []
    for part in parts:
        if isinstance(part, Reasoning):
            write_thought(part.text, write_signature(part.signature, part.signer), part, out)
        elif (written := write_part(part, audio)) is not None:
            out.append(written)
    return out


def write_thought(text: str, signature: str | None, of: Reasoning | ReasoningDelta, out: list[Any]) -> None:
    """Write thinking, or only its signature: of Google's at the part before, of a redacted thought without `thought`."""
    signed = given(thoughtSignature=signature)
    last = out[-1] if out else None
    if text or (of.signer not in {"", "google"} and not of.redacted) or signature is None:
        out.append({"text": text, "thought": True, **signed})
    elif (
        of.signer in {"", "google"}
        and isinstance(last, dict)
        and not {"thoughtSignature", "thought", "functionCall"} & last.keys()
    ):
        last.update(signed)
    else:
        out.append({"text": "", **signed})


def write_part(part: Part, audio: Json) -> Object | Raw | None:
    """Write one part of an answer; None for what has no place in it."""
    match part:
        case Text(text) | Refusal(text):
            return {"text": text}
        case ToolUse():
            return write_call(part)
        case Image(data=str(data)):
            return {"inlineData": {"mimeType": part.media_type or "image/png", "data": data}}
        case Image(url=str(uri)) | Image(file_id=str(uri)) | File(url=str(uri)) | File(file_id=str(uri)):
            return {"fileData": {**given(mimeType=part.media_type), "fileUri": uri}}
        case File(data=str(data)):
            media = part.media_type or media_type_of(part.name or "") or "application/octet-stream"
            return {"inlineData": {"mimeType": media, "data": data}}
        case Audio(data=str(data)) if data:
            return {"inlineData": {"mimeType": Raw(audio), "data": data}}
        case Foreign() if part.dialect == wire.NAME:
            return Raw(part.json)
        case _:
            return None


def write_call(use: ToolUse) -> Object:
    """Write a call of a function; arguments that are no object are put into one."""
    text = use.arguments.encode()
    args: Object | Raw = {"input": use.arguments} if use.arguments else {}
    if use.kind == "function":
        try:
            MEMBERS.decode(text)
            args = Raw(text)
        except (DecodeError, RecursionError):
            pass
    call = {**given(id=use.id or None), "name": use.name, "args": args}
    return {"functionCall": call, **given(thoughtSignature=write_signature(use.signature, use.signer))}


def said(raw: Raw) -> bool:
    """Return whether a member says something, rather than null, nothing at all or an empty value."""
    return len(raw) > len("null") or bytes(raw) not in SILENT


def garbled(what: str, error: Exception) -> UpstreamGarbled:
    """Say that what came is not what it should be."""
    return UpstreamGarbled(f"The provider's {what} is no answer of Gemini's API: {clean(str(error), 200)}.")
