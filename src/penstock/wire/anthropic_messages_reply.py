"""Reads and writes whole messages, and what they share with their streams: blocks and endings.

Pure. Place in the line: behind `anthropic_messages.py` and `anthropic_messages_stream.py`. Source: Anthropic's API reference.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder, encode

from penstock.call import Audio, Citation, File, Foreign, Image, Part, Reasoning, Refusal, Text, ToolUse
from penstock.errors import UpstreamGarbled
from penstock.reply import (
    Choice,
    Cited,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    ForeignDelta,
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
from penstock.wire.anthropic_messages_citations import pieces, placed, read_citations, write_citation
from penstock.wire.anthropic_messages_content import DIRECT
from penstock.wire.anthropic_messages_errors import GARBLED, check_utf8, garbled, in_band, said
from penstock.wire.anthropic_messages_request_types import NAME
from penstock.wire.anthropic_messages_usage import (
    OF_USAGE,
    merge,
    neutral_usage,
    read_usage,
    strange_usage,
    tier_of,
    write_head_usage,
)
from penstock.wire.signatures import carry, take

OF_TOOL: Final = "tool_use."
"""Begins the name of a `ForeignDelta` with the unknown members of the tool call of that index; it comes before the call."""
_FINISH: Final[Mapping[str, Finish]] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "pause_turn": "pause",
        "refusal": "refusal",
    }
)
_NATIVE: Final[Mapping[Finish, str]] = MappingProxyType(
    {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
        "refusal": "refusal",
        "pause": "pause_turn",
    }
)
_BLOCKS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


class ReplyBlock(Struct, gc=False):
    """One block of an answer, of any type."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"")
    citations: Raw = Raw(b"")


class _Kind(Struct, gc=False):
    type: str


class Head(Struct, gc=False):
    """A message without its content. `usage` and `error` are read apart: a strange one must not cost the answer."""

    id: str | None = None
    model: str | None = None
    type: str | None = None
    stop_reason: str | None = None
    stop_sequence: Raw = Raw(b"")
    stop_details: Raw = Raw(b"")
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


class _Whole(Head, gc=False):
    content: list[Raw] | None = None


class _Details(Struct, gc=False):
    explanation: str | None = None
    category: str | None = None


_WHOLE: Final = Decoder(_Whole)
_BLOCK: Final = Decoder(ReplyBlock)
_KIND: Final = Decoder(_Kind)
_DETAILS: Final = Decoder(_Details)
_MEMBERS: Final = Decoder(dict[str, Raw])
_OBJECT: Final = Decoder(dict[str, Any])
_KNOWN: Final = frozenset(_Whole.__struct_fields__) | {"role"}
_KNOWN_OF_TOOL: Final = frozenset({"type", "id", "name", "input"})


def read_reply(body: bytes) -> tuple[Event, ...]:
    """Read a whole reply. An error that came with status 200 is a `Failed`. Raises UpstreamGarbled."""
    try:
        check_utf8(body)
        reply = _WHOLE.decode(body)
        if said(reply.error) or reply.type == "error":
            return Failed(in_band(reply.error)), Ended()
        if reply.content is None:
            raise UpstreamGarbled("The provider's reply has no content.")
        if not reply.content and reply.stop_reason is None:
            raise UpstreamGarbled("The provider's reply is empty and not at its end.")
        events: list[Event] = [started(reply, _MEMBERS.decode(body))]
        reading = BlockReader()
        for json in reply.content:
            reading.read(read_block(json), json, events)
    except GARBLED as error:
        raise garbled("reply", error) from None
    events += ending(reply)
    if (said_used := read_usage(reply.usage)) is not None and (usage := neutral_usage(said_used)) is not None:
        events.append(UsageReported(usage))
    events.append(Ended())
    return tuple(events)


def started(head: Head, members: Mapping[str, Raw]) -> Started:
    """Read who answers, and the members that only this dialect knows."""
    extra = tuple((name, bytes(raw)) for name, raw in members.items() if name not in _KNOWN and said(raw))
    usage = read_usage(head.usage)
    if usage is not None and (more := strange_usage(head.usage)):
        extra = (*extra, (OF_USAGE, more))
    return Started(head.id or "", head.model or "", None, None, None if usage is None else tier_of(usage), extra)


def finish_of(native: str) -> Finish:
    """Give the neutral reason for one of Anthropic's."""
    return _FINISH.get(native, "other")


class BlockReader:
    """Reads whole blocks to events; knows how far the text has come and how many tools were called."""

    __slots__ = ("length", "signature", "tools")

    def __init__(self) -> None:
        self.length = 0  # characters of the text that the next text goes on with
        self.tools = 0
        self.signature: str | None = None  # of the tool call that comes next

    def read(self, block: ReplyBlock, json: Raw, events: list[Event]) -> None:
        """Read one block."""
        kind = block.type
        if kind == "text":
            if block.text:
                events.append(TextDelta(block.text))
            self.cite(len(block.text or ""), read_citations(block.citations), events)
            return
        self.length = 0
        if kind == "tool_use":
            index = self.start_tool(block, json, events)
            events.append(ToolUseDelta(index, arguments(block.input)))
        elif kind == "thinking":
            signature, signer = take(block.signature, "anthropic")
            events.append(ReasoningDelta(block.thinking or "", signature, signer=signer))
        elif kind == "redacted_thinking":
            self.redact(block.data, events)
        else:
            events.append(PartAdded(Foreign(NAME, kind, bytes(json))))

    def cite(self, length: int, citations: list[Citation], events: list[Event]) -> None:
        """Say the sources of a block of so many characters of text, all of which has come."""
        start, self.length = self.length, self.length + length
        events += [Cited(placed(citation, start, self.length)) for citation in citations]

    def start_tool(self, block: ReplyBlock, json: Raw, events: list[Event]) -> int:
        """Say that a tool is called; give the call's index."""
        index = self.tools
        self.tools += 1
        own = {name: raw for name, raw in _MEMBERS.decode(json).items() if name not in _KNOWN_OF_TOOL and said(raw)}
        if own and own != {"caller": Raw(DIRECT)}:
            events.append(ForeignDelta(NAME, f"{OF_TOOL}{index}", encode(own)))
        signature, self.signature = self.signature, None
        signer: Any = "" if signature is None else "google"
        events.append(ToolUseStarted(index, block.id or "", block.name or "", "function", 0, signature, signer))
        return index

    def redact(self, data: str | None, events: list[Event]) -> None:
        """Read thoughts that are encrypted; a signature of Google's among them belongs to the tool call that follows."""
        signature, signer = take(data, "anthropic")
        if signer == "google":
            self.signature = signature
        else:
            events.append(ReasoningDelta("", signature, redacted=True, signer=signer))


def read_block(json: Raw) -> ReplyBlock:
    """Read one block; of a type that nobody here knows, the type alone."""
    try:
        return _BLOCK.decode(json)
    except ValidationError:
        kind = _KIND.decode(json).type
        if kind in _BLOCKS:
            raise
        return ReplyBlock(kind)


def arguments(json: Raw) -> str:
    """Give the text of a tool's input."""
    return bytes(json).decode() if said(json) else "{}"


def ending(head: Head) -> Iterator[Event]:
    """Read why the answer ended."""
    if said(head.stop_details):
        try:
            details = _DETAILS.decode(head.stop_details)
        except GARBLED:
            details = _Details()
        if details.explanation:
            yield RefusalDelta(details.explanation)
        if details.category is not None or not details.explanation:
            yield ForeignDelta(NAME, "stop_details", bytes(head.stop_details))
    if said(head.stop_sequence):
        yield ForeignDelta(NAME, "stop_sequence", bytes(head.stop_sequence))
    native = head.stop_reason or ""
    yield Finished(finish_of(native), native)


# -- writing --


def write_reply(reply: Reply) -> bytes:
    """Write a whole reply; every member that Anthropic's schema requires is there."""
    choice = reply.choices[0] if reply.choices else Choice(finish="other")
    usage = write_head_usage(reply.usage, reply.service_tier, reply.extra)
    out: dict[str, Any] = {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": list(_blocks(choice)),
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    for name, json in reply.extra:
        if name != OF_USAGE:
            out.setdefault(name, Raw(json))
    called = any(isinstance(part, ToolUse) for part in choice.parts)
    refusal = "".join(part.text for part in choice.parts if isinstance(part, Refusal))
    out["stop_reason"] = native_finish(choice.finish, choice.native_finish, called=called, refused=bool(refusal))
    if refusal:
        out["stop_details"] = stop_details(refusal)
    for foreign in choice.foreign:
        if foreign.dialect != NAME or foreign.name.startswith(OF_TOOL):
            continue
        if foreign.name == OF_USAGE:
            merge(usage, foreign.json)
        else:
            out[foreign.name] = Raw(foreign.json)
    return encode(out)


def _blocks(choice: Choice) -> Iterator[dict[str, Any] | Raw]:
    extras = {f.name: f.json for f in choice.foreign if f.dialect == NAME and f.name.startswith(OF_TOOL)}
    tools = 0
    for part in choice.parts:
        match part:
            case Text():
                for text, citations in pieces(part.text, part.citations):
                    if text or citations:
                        said_by_whom = {"citations": [write_citation(c) for c in citations]} if citations else {}
                        yield {"type": "text", "text": text, **said_by_whom}
            case ToolUse():
                if part.signature is not None and part.signer not in {"", "anthropic"}:
                    yield {"type": "redacted_thinking", "data": carry(part.signature, part.signer, "anthropic")}
                block: dict[str, Any] = {"type": "tool_use", "id": part.id, "name": part.name}
                block["input"] = Raw(whole_input(part.arguments, custom=part.kind == "custom"))
                merge(block, extras.get(f"{OF_TOOL}{tools}", b"{}"))
                tools += 1
                yield block
            case _:
                if (block := write_part(part)) is not None:
                    yield block


def write_part(part: Part) -> Any:
    """Write a part that comes whole; None if it has no place in an answer."""
    match part:
        case Reasoning(redacted=True):
            return {"type": "redacted_thinking", "data": carry(part.signature, part.signer, "anthropic") or ""}
        case Reasoning():
            signature = carry(part.signature, part.signer, "anthropic") or ""
            return {"type": "thinking", "thinking": part.text, "signature": signature}
        case Foreign() if part.dialect == NAME:
            return Raw(part.json)
        case Image(url=str(url)) | File(url=str(url)):
            return {"type": "text", "text": url}  # an answer has no pictures here, but it has links
        case Audio(transcript=str(text)) if text:
            return {"type": "text", "text": text}
        case _:
            return None


def whole_input(text: str, *, custom: bool) -> bytes:
    """Give arguments as the object that they have to be here; what is none is wrapped."""
    if not text.strip() and not custom:
        return b"{}"
    json = text.encode("utf-8", "replace")
    if not custom:
        try:
            _OBJECT.decode(json)
        except GARBLED:
            pass
        else:
            return json
    return encode({"input": text})


def stop_details(refusal: str) -> dict[str, Any]:
    """Write what a model said when it declined."""
    return {"type": "refusal", "category": None, "explanation": refusal}


def native_finish(reason: Finish, native: str, *, called: bool, refused: bool) -> str:
    """Give this API's word for why an answer ended: the provider's own if it is one of them.

    Clients run tools when the reason says so; servers that call some and say `stop` are put right.
    """
    if native in _FINISH:
        return native
    if refused:
        return "refusal"
    word = _NATIVE.get(reason, "end_turn")
    return "tool_use" if called and word == "end_turn" else word
