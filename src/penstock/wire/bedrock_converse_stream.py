"""Reads the streams of Converse: frames to events.

Pure; one reader per upstream reply. Strategy: every frame is decoded by type, and the bytes go on as they came, whole frames
only, up to the frame that fails. A signature may come in pieces and the sources of a text before its end, so both wait for
the end of their block. The stream is complete when the answer has stopped and its count has come; one that ends after the
stop and without the count is complete, too. Place in the line: behind `bedrock_converse.py`.
"""

from typing import Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder, encode

from penstock.call import Foreign, Image
from penstock.errors import UpstreamError, UpstreamGarbled
from penstock.reply import (
    Cited,
    Ended,
    Event,
    Failed,
    ForeignDelta,
    PartAdded,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.wire import bedrock_converse_reply_types as wire
from penstock.wire.bedrock_converse_carried import OWN, Signed, read_redacted, read_tool_signature
from penstock.wire.bedrock_converse_citations import read_citation
from penstock.wire.bedrock_converse_errors import read_exception
from penstock.wire.bedrock_converse_reply import FIELDS, check_utf8, finished, garbled, said_tier, said_usage
from penstock.wire.bedrock_converse_request_types import NAME
from penstock.wire.eventstream import EventStreamReader, Frame
from penstock.wire.signatures import take
from penstock.wire.tool_ids import made

_START: Final = Decoder(wire.ContentBlockStart)
_DELTA: Final = Decoder(wire.ContentBlockDelta)
_STOP: Final = Decoder(wire.ContentBlockStop)
_MESSAGE_STOP: Final = Decoder(wire.MessageStop)
_METADATA: Final = Decoder(wire.Metadata)
_MEMBERS: Final = Decoder(dict[str, Raw])
_PADDING: Final = "p"
"""Bedrock fills its frames up with a member of this name, so that their lengths tell nothing."""
_NO_BLOCK: Final = -1


class _Held:
    """A block that is given when it is whole: what it began with, and its pieces."""

    __slots__ = ("kind", "pieces", "start")

    def __init__(self, kind: str, start: Raw | bytes) -> None:
        self.kind = kind
        self.start = start
        self.pieces: list[str | Raw] = []


class ConverseStreamReader:
    """Events of one stream; see `dialect.StreamReader`."""

    __slots__ = (
        *("_block", "_cited", "_counted", "_frames", "_from", "_held", "_names", "_over", "_said", "_signature"),
        *("_signed", "_stopped", "_tools", "passed"),
    )

    def __init__(self) -> None:
        self.passed = b""
        self._frames = EventStreamReader()
        self._over = self._stopped = self._counted = False
        self._tools: dict[int, int] = {}  # the block's index -> the tool call's
        self._held: dict[int, _Held] = {}
        self._signed: dict[str, Signed] = {}  # signatures of tool calls that are to come
        self._signature = ""
        self._block = _NO_BLOCK  # of the last text
        self._said = self._from = 0  # characters of the texts that follow on each other, and where its block began
        self._cited: list[Raw] = []

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """Give the events that these bytes complete; a stream that cannot be read ends in a `Failed`."""
        self.passed = b""
        if self._over:
            return ()
        frames = self._frames
        found = frames.feed(data)
        taken = frames.taken
        events: list[Event] = []
        for frame in found:
            failure = self._read(frame, events)
            if failure is not None:
                events.append(Failed(failure))
                self._over = True
                self.passed = taken[: frame.start]
                return tuple(events)
            if self._stopped and self._counted:
                events.append(Ended())
                self._over = True
                self.passed = taken if frame.end == len(taken) else taken[: frame.end]
                return tuple(events)
        self.passed = taken
        if frames.fault is not None:
            events.append(Failed(frames.fault))
            self._over = True
        return tuple(events)

    def end(self) -> tuple[Event, ...]:
        """Say what the end of the bytes means: without the stop of the answer it was cut short."""
        self.passed = b""
        if self._over:
            return ()
        self._over = True
        self._frames.end()
        if self._frames.fault is not None:
            return (Failed(self._frames.fault),)
        if self._stopped:
            return (Ended(),)
        return (Failed(UpstreamGarbled("The provider's stream stopped before the end of the answer, messageStop.")),)

    def _read(self, frame: Frame, events: list[Event]) -> UpstreamError | None:
        """Read one frame; give what makes it a failure."""
        headers, payload = frame.headers, frame.payload
        if headers.get(":message-type") != "event":
            return read_exception(headers, payload)
        try:
            check_utf8(payload)
            kind = headers.get(":event-type")
            if kind == "contentBlockDelta":
                self._delta(_DELTA.decode(payload), events)
            elif kind == "contentBlockStart":
                self._start(_START.decode(payload), payload, events)
            elif kind == "contentBlockStop":
                self._stop(_STOP.decode(payload).content_block_index, events)
            elif kind == "messageStart":
                events.append(Started())
            elif kind == "messageStop":
                self._message_stop(_MESSAGE_STOP.decode(payload), events)
            elif kind == "metadata":
                self._metadata(payload, events)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            return garbled("stream", error)
        return None

    def _delta(self, event: wire.ContentBlockDelta, events: list[Event]) -> None:
        delta, index = event.delta, event.content_block_index
        text = delta.text
        if text is not None:
            if index != self._block:
                self._flush(events)
                self._block, self._from = index, self._said
            if text:
                self._said += len(text)
                events.append(TextDelta(text))
        elif delta.tool_use is not None:
            held = self._held.get(index)
            if held is not None:
                held.pieces.append(delta.tool_use.input)
                return
            tool = self._tools.get(index)
            if tool is None:
                tool = self._begin_tool(index, wire.StartedTool(), events)
            if delta.tool_use.input:
                events.append(ToolUseDelta(tool, delta.tool_use.input))
        else:
            self._rare(delta, index, events)

    def _rare(self, delta: wire.BlockDelta, index: int, events: list[Event]) -> None:
        held = self._held.get(index)
        if delta.reasoning_content is not None:
            self._think(delta.reasoning_content, events)
        elif delta.citation:
            self._cited.append(delta.citation)
        elif held is None:
            return  # of a kind that is not known
        elif delta.tool_result is not None:
            held.pieces += delta.tool_result
        elif delta.image is not None and delta.image.source is not None:
            held.pieces.append(delta.image.source.bytes or "")

    def _think(self, delta: wire.ReasoningDelta, events: list[Event]) -> None:
        self._leave_text(events)
        if delta.text:
            self._flush(events)
            events.append(ReasoningDelta(delta.text))
        if delta.signature:
            self._signature += delta.signature
        if delta.redacted_content is not None:
            self._flush(events)
            tool = read_tool_signature(delta.redacted_content)
            if tool is not None:
                self._signed[tool[0]] = tool[1]
                return
            signature, signer = read_redacted(delta.redacted_content)
            events.append(ReasoningDelta("", signature, redacted=True, signer=signer))

    def _start(self, event: wire.ContentBlockStart, payload: bytes, events: list[Event]) -> None:
        start, index = event.start, event.content_block_index
        self._flush(events)
        if start is None:
            return
        self._leave_text(events)
        if start.tool_use is not None:
            if start.tool_use.type is None:
                self._begin_tool(index, start.tool_use, events)
            else:
                self._held[index] = _Held("toolUse", _MEMBERS.decode(_MEMBERS.decode(payload)["start"])["toolUse"])
        elif start.tool_result:
            self._held[index] = _Held("toolResult", start.tool_result)
        elif start.image is not None:
            self._held[index] = _Held("image", start.image.format.encode())

    def _begin_tool(self, index: int, tool: wire.StartedTool, events: list[Event]) -> int:
        number = len(self._tools)
        self._tools[index] = number
        ident = tool.tool_use_id or made("converse", index, tool.name)
        signed = self._signed.get(ident)
        if signed is None:
            events.append(ToolUseStarted(number, ident, tool.name))
        else:
            events.append(ToolUseStarted(number, ident, tool.name, signature=signed[0], signer=signed[1]))
        return number

    def _stop(self, index: int, events: list[Event]) -> None:
        self._flush(events)
        held = self._held.pop(index, None)
        if held is not None:
            events.append(PartAdded(_whole(held)))

    def _flush(self, events: list[Event]) -> None:
        """Give what waited for the end of its block."""
        if self._signature:
            signature, signer = take(self._signature, OWN)
            self._signature = ""
            events.append(ReasoningDelta("", signature, signer=signer))
        if self._cited:
            start, end = (self._from, self._said) if self._said > self._from else (None, None)
            events += [Cited(read_citation(raw, start, end)) for raw in self._cited]
            self._cited.clear()

    def _leave_text(self, events: list[Event]) -> None:
        """Take note that what comes now is no text: the next text is another one."""
        if self._cited:
            self._flush(events)
        self._block, self._said, self._from = _NO_BLOCK, 0, 0

    def _message_stop(self, event: wire.MessageStop, events: list[Event]) -> None:
        self._flush(events)
        events += [PartAdded(_whole(held)) for held in self._held.values()]
        self._held.clear()
        if event.additional_model_response_fields:
            events.append(ForeignDelta(NAME, FIELDS, bytes(event.additional_model_response_fields)))
        events.append(finished(event.stop_reason or ""))
        self._stopped = True

    def _metadata(self, payload: bytes, events: list[Event]) -> None:
        metadata = _METADATA.decode(payload)
        usage = said_usage(metadata.usage)
        for name, raw in _MEMBERS.decode(payload).items():
            if name not in {"usage", _PADDING}:
                events.append(ForeignDelta(NAME, name, bytes(raw)))
        if usage is not None:
            events.append(UsageReported(usage, said_tier(metadata.service_tier)))
        self._counted = True


def _whole(held: _Held) -> Foreign | Image:
    """Put a block together: a picture, or the use of a tool on the server, which only this dialect knows."""
    texts = "".join(piece for piece in held.pieces if isinstance(piece, str))
    if held.kind == "image":
        return Image(data=texts, media_type=f"image/{bytes(held.start).decode()}")
    block: dict[str, object] = dict(_MEMBERS.decode(held.start))
    if held.kind == "toolUse":
        block["input"] = _json(texts)
    else:
        block["content"] = held.pieces
    return Foreign(NAME, held.kind, encode({held.kind: block}))


def _json(text: str) -> Raw | dict[str, str]:
    """Give the arguments of a tool as JSON; what is none is a text in it."""
    try:
        _MEMBERS.decode(text)
    except (DecodeError, RecursionError):
        return {"input": text} if text else {}
    return Raw(text.encode())
