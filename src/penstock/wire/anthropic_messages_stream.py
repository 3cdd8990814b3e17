"""Reads the streams of Messages: server-sent events to neutral ones.

Pure; one reader per upstream reply. Strategy: every event is decoded by its type, the name of its frame means nothing but
`error`; blocks that only this API knows wait until they are whole. The bytes go on as they came, whole frames only, up to
the frame that fails. Place in the line: behind `anthropic_messages.py`; `anthropic_messages_writer.py` is its counterpart.
"""

import re
from typing import Any, Final

from msgspec import Raw, Struct
from msgspec.json import Decoder, decode, encode

from penstock.call import Citation, Foreign
from penstock.errors import UpstreamError, UpstreamGarbled
from penstock.reply import (
    Ended,
    Event,
    Failed,
    ForeignDelta,
    PartAdded,
    ReasoningDelta,
    TextDelta,
    ToolUseDelta,
    UsageReported,
)
from penstock.wire.anthropic_messages_citations import read_citation, read_citations
from penstock.wire.anthropic_messages_errors import GARBLED, check_utf8, garbled, in_band, said
from penstock.wire.anthropic_messages_reply import (
    BlockReader,
    Head,
    ReplyBlock,
    arguments,
    ending,
    read_block,
    started,
    whole_input,
)
from penstock.wire.anthropic_messages_request_types import NAME
from penstock.wire.anthropic_messages_usage import OF_USAGE, WireUsage, neutral_usage, read_usage, strange_usage
from penstock.wire.framing import MAX_FRAME_BYTES, Frame
from penstock.wire.signatures import take
from penstock.wire.sse_stream import MarkedStreamReader
from penstock.wire.sse_template import TextTemplate, template


class _Delta(Struct, gc=False):
    """More of a block, or the end of the message."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: Raw = Raw(b"")


class _StreamEvent(Struct, gc=False):
    """One event of a stream, of any type."""

    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: Raw = Raw(b"")
    message: Raw = Raw(b"")
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


class _MessageDelta(Struct, gc=False):
    delta: Raw = Raw(b"")


class _WholeDelta(Struct):
    delta: dict[str, Any]


_EVENT: Final = Decoder(_StreamEvent)
_HEAD: Final = Decoder(Head)
_MESSAGE_DELTA: Final = Decoder(_MessageDelta)
_MEMBERS: Final = Decoder(dict[str, Raw])
_OBJECT: Final = Decoder(dict[str, Any])
_WHOLE_DELTA: Final = Decoder(_WholeDelta)
_TEXT_AT: Final = re.compile(rb'"text" ?: ?"([^"\\]*(?:\\.[^"\\]*)*)"').search
_KNOWN_OF_DELTA: Final = frozenset({"stop_reason", "stop_sequence", "stop_details"})
_KNOWN_OF_EVENT: Final = frozenset({"type", "delta", "usage"})


class _OpenBlock:
    """A block while it comes in. `tool` is the index of a tool call, `whole` what of an unknown block has come."""

    __slots__ = ("block", "citations", "json", "kind", "length", "pieces", "signature", "tool")

    def __init__(self, block: ReplyBlock, json: Raw) -> None:
        self.kind = block.type
        self.block = block
        self.json = json
        self.tool = -1
        self.length = 0  # characters of text
        self.citations: list[Citation] = []
        self.signature: str | None = None
        self.pieces: list[str | bytes] = []

    def note(self, text: str) -> str:
        """Count a text that was read the short way for this block, and give it back."""
        self.length += len(text)
        return text


class MessagesStreamReader(MarkedStreamReader):
    """Events of one stream; see `dialect.StreamReader`. From the frame that fails on, and after the end mark, nothing passes."""

    __slots__ = ("_blocks", "_finished", "_held", "_reading", "_spoken", "_started", "_usage")

    MARK = "message_stop"

    def __init__(self) -> None:
        super().__init__()
        self._started = self._finished = False
        self._reading = BlockReader()
        self._blocks: dict[int, _OpenBlock] = {}
        self._held = 0  # bytes of blocks that wait until they are whole
        self._usage = WireUsage()
        self._spoken = _OpenBlock(ReplyBlock("text"), Raw(b"{}"))  # whose text is read the short way

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """See `MarkedStreamReader.feed`. Text that is read the short way counts for its block as any other does."""
        ready = self._ready
        if ready is not None and (texts := ready.read(data)) is not None:
            self.passed = data
            self._spoken.length += sum([len(text.text) for text in texts])
            return texts
        return self._feed(data)

    def _template(self, frame: Frame, block: bytes) -> TextTemplate | None:
        """Make a template where nothing is told but text of a block of text that is open; tried out with a longer text."""
        data = frame.data
        found = _TEXT_AT(data)
        if found is None:
            return None
        at, text = found.end(1), decode(b'"%b"' % found[1], type=str)
        event, longer = _EVENT.decode(data), _EVENT.decode(data[:at] + b"?" + data[at:])
        index, opened = event.index, self._blocks.get(event.index)
        if opened is None or opened.kind != "text" or event != _text(index, text) or longer != _text(index, text + "?"):
            return None
        self._spoken = opened
        made = template(block, frame, found.span(1))
        if made is not None:
            made.noted = opened.note
        return made

    def _take(self, frames: list[Frame]) -> tuple[Event, ...]:
        """Read the frames, and settle which of their bytes are passed."""
        events: list[Event] = []
        taken = self._sse.taken
        for frame in frames:
            failure = self._read(frame, events)
            if failure is not None:
                events.append(Failed(failure))
                self._over = True
                taken = taken[: frame.start]
                break
            if self._over:
                taken = taken[: frame.end]
                self._late_lf = taken.endswith(b"\r")
                break
        self.passed = taken
        return tuple(events)

    def _read(self, frame: Frame, events: list[Event]) -> UpstreamError | None:
        """Read one frame; give what makes it a failure."""
        data = frame.data
        try:
            if not data.isascii():
                check_utf8(data)
            event = _EVENT.decode(data)
            kind = event.type
            if kind == "content_block_delta":
                if event.delta is not None:
                    self._more(event.index, event.delta, data, events)
            elif kind == "error" or frame.event == "error":
                return in_band(event.error)
            elif kind == "content_block_start":
                self._open(event.index, event.content_block, events)
            elif kind == "content_block_stop":
                self._close(event.index, events)
            else:
                self._of_message(kind, event, data, events)
        except GARBLED as error:
            return garbled("stream", error)
        if self._held > MAX_FRAME_BYTES:
            return UpstreamGarbled(f"A block of the provider's stream exceeds {MAX_FRAME_BYTES} bytes.")
        return None

    # -- the message --

    def _of_message(self, kind: str, event: _StreamEvent, data: bytes, events: list[Event]) -> None:
        """Read what begins and ends a message; events of other types (ping) mean nothing."""
        if kind == "message_start":
            self._start(event.message, events)
        elif kind == "message_delta":
            self._end_of_message(event, data, events)
        elif kind == "message_stop":
            self._close_all(events)
            events.append(Ended())
            self._over = True

    def _start(self, message: Raw, events: list[Event]) -> None:
        """Say who answers, and what is known of the usage."""
        if self._started or not message:
            return
        self._started = True
        head = _HEAD.decode(message)
        members = _MEMBERS.decode(message)
        events.append(started(head, members))
        self._report(head.usage, events)

    def _end_of_message(self, event: _StreamEvent, data: bytes, events: list[Event]) -> None:
        """Read why the answer ended, the last count, and what only this dialect knows."""
        self._close_all(events)
        delta = _MESSAGE_DELTA.decode(data).delta
        if said(delta):
            members = _MEMBERS.decode(delta)
            _strange(members, _KNOWN_OF_DELTA, events)
            head = _HEAD.decode(delta)
            if head.stop_reason is not None and not self._finished:
                self._finished = True
                events += ending(head)
        _strange(_MEMBERS.decode(data), _KNOWN_OF_EVENT, events)
        if read_usage(event.usage) is not None and (more := strange_usage(event.usage)):
            events.append(ForeignDelta(NAME, OF_USAGE, more))
        self._report(event.usage, events)

    def _report(self, json: Raw, events: list[Event]) -> None:
        """Report a count. Later ones are totals that replace the earlier; what they leave out stays."""
        usage = read_usage(json)
        if usage is None:
            return
        old = self._usage
        self._usage = WireUsage(
            *(
                getattr(old, name) if getattr(usage, name) is None else getattr(usage, name)
                for name in WireUsage.__struct_fields__
            )
        )
        if self._usage.input_tokens is None:
            return  # the beginning is missing (llama.cpp), and half a count is none
        if (known := neutral_usage(self._usage)) is not None:
            events.append(UsageReported(known))

    # -- blocks --

    def _open(self, index: int, json: Raw, events: list[Event]) -> None:
        block = read_block(json)
        self._close(index, events)
        self._blocks[index] = opened = _OpenBlock(block, json)
        kind = block.type
        if kind == "text":
            opened.citations = read_citations(block.citations)
            if block.text:
                opened.length = len(block.text)
                events.append(TextDelta(block.text))
            return
        self._reading.length = 0
        if kind == "tool_use":
            opened.tool = self._reading.start_tool(block, json, events)
        elif kind == "thinking":
            opened.signature = block.signature
            if block.thinking:
                events.append(ReasoningDelta(block.thinking))
        elif kind == "redacted_thinking":
            self._reading.redact(block.data, events)
        else:
            self._held += len(json)

    def _more(self, index: int, delta: _Delta, data: bytes, events: list[Event]) -> None:
        """Read more of a block; one that was never opened is opened by the kind of what comes."""
        opened = self._blocks.get(index)
        if opened is None:
            kind = "text" if delta.type == "text_delta" else "thinking" if delta.type == "thinking_delta" else ""
            opened = self._blocks[index] = _OpenBlock(ReplyBlock(kind), Raw(b"{}"))
        if delta.text is not None and opened.kind == "text":
            if delta.text:
                opened.length += len(delta.text)
                events.append(TextDelta(delta.text))
        elif delta.partial_json is not None and opened.tool >= 0:
            if delta.partial_json:
                opened.length += 1
                events.append(ToolUseDelta(opened.tool, delta.partial_json))
        elif delta.thinking is not None and opened.kind == "thinking":
            if delta.thinking:
                events.append(ReasoningDelta(delta.thinking))
        elif delta.signature is not None and opened.kind == "thinking":
            opened.signature = delta.signature
        elif delta.citation and opened.kind == "text":
            opened.citations.append(read_citation(delta.citation))
        else:
            self._held += len(data)
            opened.pieces.append(data if delta.partial_json is None else delta.partial_json)

    def _close_all(self, events: list[Event]) -> None:
        for index in list(self._blocks):
            self._close(index, events)

    def _close(self, index: int, events: list[Event]) -> None:
        """Say what is known of a block only when it is whole."""
        self._known = None  # a template is for one block
        opened = self._blocks.pop(index, None)
        if opened is None:
            return
        if opened.kind == "text":
            self._reading.cite(opened.length, opened.citations, events)
        elif opened.tool >= 0:
            if not opened.length:
                events.append(ToolUseDelta(opened.tool, arguments(opened.block.input)))
        elif opened.kind == "thinking":
            signature, signer = take(opened.signature, "anthropic")
            if signature is not None:
                events.append(ReasoningDelta("", signature, signer=signer))
        elif opened.kind not in {"", "redacted_thinking"}:
            events.append(PartAdded(Foreign(NAME, opened.kind, _whole(opened))))


def _text(index: int, text: str) -> _StreamEvent:
    return _StreamEvent("content_block_delta", index, _Delta("text_delta", text))


def _whole(opened: _OpenBlock) -> bytes:
    """Put a block together that only this dialect knows: its start, and what came after it."""
    if not opened.pieces:
        return bytes(opened.json)
    block = _OBJECT.decode(opened.json)
    pieces: list[str] = []
    for piece in opened.pieces:
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        for name, value in _WHOLE_DELTA.decode(piece).delta.items():
            old = block.get(name)
            if name != "type":
                block[name] = old + value if isinstance(old, str) and isinstance(value, str) else value
    if text := "".join(pieces):
        block["input"] = Raw(whole_input(text, custom=False))
    return encode(block)


def _strange(members: dict[str, Raw], known: frozenset[str], events: list[Event]) -> None:
    """Say the members that have no neutral form."""
    events += [ForeignDelta(NAME, name, bytes(raw)) for name, raw in members.items() if name not in known and said(raw)]
