"""Writes the streams of Converse: events to frames.

Pure; one writer per client reply. A block is open at a time, and blocks of tool calls come one after the other, since
clients put the pieces to the call that began last: where a provider mixes the pieces of several calls, those of the later
calls wait until the earlier one is complete JSON, or the answer ends. Of several answers the first is written.
Place in the line: behind `bedrock_converse.py`.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder, decode, encode

from penstock.call import Call, Citation, Foreign, Image, Reasoning, ToolUse
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.wire.bedrock_converse_blocks import Object, tool_id
from penstock.wire.bedrock_converse_citations import write_citation
from penstock.wire.bedrock_converse_errors import write_exception
from penstock.wire.bedrock_converse_media import image_format
from penstock.wire.bedrock_converse_reply import FIELDS, NO_METRICS, native_finish, reasoning, signed, write_usage
from penstock.wire.bedrock_converse_request_types import NAME
from penstock.wire.eventstream import CONTENT_TYPE, event_frame, header_block

_MEMBERS: Final = Decoder(dict[str, Raw])


def _headers(kind: str) -> bytes:
    return header_block({":event-type": kind, ":content-type": "application/json", ":message-type": "event"})


class _Tool:
    """A tool call while it is written: its block once it has one, the pieces of its arguments, and whether it has ended."""

    __slots__ = ("block", "checked", "done", "pieces", "started")

    def __init__(self, started: ToolUseStarted) -> None:
        self.started = started
        self.block: int | None = None
        self.pieces: list[str] = []
        self.checked = 0  # how many pieces there were when they were no whole JSON yet
        self.done = False

    @property
    def is_complete(self) -> bool:
        """Whether the pieces are one JSON text; asked again only when there are more."""
        if self.started.kind == "custom" or len(self.pieces) == self.checked:
            return False
        self.checked = len(self.pieces)
        try:
            decode("".join(self.pieces))
        except (DecodeError, RecursionError):
            return False
        self.checked = -1
        return True


class ConverseStreamWriter:
    """Frames of one stream; see `dialect.StreamWriter`."""

    __slots__ = (
        *("_begun", "_block", "_closing", "_extra", "_fields", "_kinds", "_next", "_open", "_stop", "_tool", "_tools"),
        *("_usage", "_waiting"),
    )

    content_type = CONTENT_TYPE

    def __init__(self, call: Call) -> None:
        del call  # a reply of this API repeats nothing of it
        self._kinds: dict[str, bytes] = {}
        self._begun = False
        self._open = ""  # what the open block holds: text, cited text, reasoning, tool
        self._block = 0
        self._next = 0
        self._tool: _Tool | None = None
        self._tools: dict[int, _Tool] = {}
        self._waiting: list[_Tool] = []
        self._closing = b""
        self._fields: Raw | None = None
        self._extra: Object = {}
        self._usage = Usage()
        self._stop = False

    def send(self, events: Iterable[Event]) -> bytes:
        """Write the frames of some events; b"" if they say nothing yet."""
        out: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta) and event.choice == 0:
                out.append(self._text(event.text))
            elif isinstance(event, UsageReported):
                self._usage = event.usage
            else:
                out.append(self._write(event))
        return b"".join(out)

    def _write(self, event: Event) -> bytes:
        match event:
            case Started():
                return b""
            case Failed(error):
                return write_exception(error)
            case Ended():
                return self._end()
            case _:
                return self._rare(event) if getattr(event, "choice", 0) == 0 else b""

    def _rare(self, event: Event) -> bytes:
        match event:
            case ToolUseStarted():
                return self._begin_tool(event)
            case ToolUseDelta():
                return self._more_of_tool(event)
            case ReasoningDelta():
                return self._think(event)
            case RefusalDelta(text=text) | AudioDelta(transcript=text):
                return self._text(text) if text else b""
            case Cited(citation):
                return self._cite(citation)
            case PartAdded(part):
                return self._whole(part)
            case Finished(reason, native):
                return self._finish(native_finish(reason, native))
            case _:
                self._keep(event)
        return b""

    # -- frames --

    def _frame(self, kind: str, payload: bytes) -> bytes:
        headers = self._kinds.get(kind)
        if headers is None:
            headers = self._kinds[kind] = _headers(kind)
        return event_frame(headers, payload)

    def _delta(self, delta: Any) -> bytes:
        return self._frame("contentBlockDelta", encode({"contentBlockIndex": self._block, "delta": delta}))

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._frame("messageStart", b'{"role":"assistant"}')

    def _enter(self, kind: str) -> bytes:
        """Be in a block of this kind; text with sources ends with them."""
        if self._open == kind:
            return b""
        return self._leave() + self._new(kind)

    def _new(self, kind: str) -> bytes:
        """Be in a new block; none is open."""
        self._open = kind
        self._block = self._next
        self._next += 1
        return self._begin()

    def _leave(self) -> bytes:
        """Close the open block, and the blocks of all tool calls that wait."""
        out = self._close()
        if not self._waiting:
            return out
        waiting, self._waiting = self._waiting, []
        return out + b"".join([self._open_tool(tool) + self._close() for tool in waiting])

    def _close(self) -> bytes:
        if not self._open:
            return b""
        out = b""
        tool, self._tool = self._tool, None
        if tool is not None:
            tool.done = True
            if self._closing:
                out = self._delta({"toolUse": {"input": self._closing.decode()}})
            elif not any(tool.pieces):
                out = self._delta({"toolUse": {"input": "{}"}})
        self._open = ""
        return out + self._frame("contentBlockStop", b'{"contentBlockIndex":%d}' % self._block)

    # -- blocks --

    def _text(self, text: str) -> bytes:
        begun = b"" if self._open == "text" else self._enter("text")
        payload = b'{"contentBlockIndex":%d,"delta":{"text":%b}}' % (self._block, encode(text))
        headers = self._kinds.get("contentBlockDelta")
        frame = self._frame("contentBlockDelta", payload) if headers is None else event_frame(headers, payload)
        return begun + frame if begun else frame

    def _cite(self, citation: Citation) -> bytes:
        """Write a source of the text before it; text that comes after it begins a block of its own."""
        begun = b"" if self._open == "cited" else self._enter("text")
        self._open = "cited"
        return begun + self._delta({"citation": write_citation(citation)})

    def _think(self, event: ReasoningDelta) -> bytes:
        """Write thinking; a signature, or its being encrypted, ends the block."""
        if event.redacted:
            out = self._leave() + self._new("reasoning")
            blob = reasoning(Reasoning("", event.signature, redacted=True, signer=event.signer))
            return out + self._delta({"reasoningContent": blob}) + self._close()
        out = self._enter("reasoning")
        if event.text:
            out += self._delta({"reasoningContent": {"text": event.text}})
        if event.signature is not None:
            thought = reasoning(Reasoning("", event.signature, signer=event.signer))["reasoningText"]
            out += self._delta({"reasoningContent": {"signature": thought["signature"]}}) + self._close()
        return out

    def _begin_tool(self, event: ToolUseStarted) -> bytes:
        tool = self._tools[event.index] = _Tool(event)
        current = self._tool
        if current is not None and (self._waiting or not current.is_complete):
            self._waiting.append(tool)
            return b""
        return self._leave() + self._open_tool(tool)

    def _open_tool(self, tool: _Tool) -> bytes:
        """Begin the block of a tool call, with what has come of its arguments."""
        start = tool.started
        ident = tool_id(start.id)
        out = b""
        for block in signed(ident, ToolUse(ident, start.name, "", signature=start.signature, signer=start.signer)):
            out += self._new("reasoning") + self._delta(block) + self._close()  # such a block is its own delta
        out += self._new("tool")
        self._tool = tool
        tool.block = self._block
        begun = {"contentBlockIndex": self._block, "start": {"toolUse": {"toolUseId": ident, "name": start.name}}}
        out += self._frame("contentBlockStart", encode(begun))
        self._closing = b""
        if start.kind == "custom":
            self._closing = b'"}'
            out += self._delta({"toolUse": {"input": '{"input":"'}})
        return out + self._arguments(tool, "".join(tool.pieces))

    def _arguments(self, tool: _Tool, text: str) -> bytes:
        if not text:
            return b""
        if tool.started.kind == "custom":
            text = encode(text)[1:-1].decode()
        delta = {"contentBlockIndex": tool.block, "delta": {"toolUse": {"input": text}}}
        return self._frame("contentBlockDelta", encode(delta))

    def _more_of_tool(self, event: ToolUseDelta) -> bytes:
        out = b""
        if event.index not in self._tools:
            out = self._begin_tool(ToolUseStarted(event.index, f"tool_{event.index}", ""))
        tool = self._tools[event.index]
        tool.pieces.append(event.arguments)
        if tool is self._tool or tool.done:
            out += self._arguments(tool, event.arguments)
        return out

    def _whole(self, part: object) -> bytes:
        """Write a part that comes whole; what a stream cannot say is left out."""
        if isinstance(part, Image) and part.data and (form := image_format(part.media_type)) is not None:
            return self._held({"image": {"format": form}}, {"image": {"source": {"bytes": part.data}}})
        if not isinstance(part, Foreign) or part.dialect != NAME:
            return b""
        block = _MEMBERS.decode(_MEMBERS.decode(part.json).get(part.kind, b"{}"))
        if part.kind == "toolUse":
            input_ = bytes(block.pop("input", b"{}")).decode()
            return self._held({"toolUse": block}, {"toolUse": {"input": input_}})
        if part.kind == "toolResult":
            content = block.pop("content", Raw(b"[]"))
            return self._held({"toolResult": block}, {"toolResult": content})
        return b""

    def _held(self, start: Object, delta: Object) -> bytes:
        out = self._leave() + self._new("whole")
        out += self._frame("contentBlockStart", encode({"contentBlockIndex": self._block, "start": start}))
        return out + self._delta(delta) + self._close()

    # -- the end --

    def _keep(self, event: Event) -> None:
        if isinstance(event, ForeignDelta) and event.dialect == NAME:
            if event.name == FIELDS:
                self._fields = Raw(event.json)
            else:
                self._extra[event.name] = Raw(event.json)

    def _finish(self, native: str) -> bytes:
        self._stop = True
        stop: Object = {"stopReason": native}
        if self._fields is not None:
            stop[FIELDS] = self._fields
        return self._begin() + self._leave() + self._frame("messageStop", encode(stop))

    def _end(self) -> bytes:
        """Write the count, which the API demands along with a time; before it the stop, if nobody said it."""
        out = b"" if self._stop else self._finish("end_turn")
        metadata: Object = {"usage": write_usage(self._usage), "metrics": NO_METRICS, **self._extra}
        return out + self._frame("metadata", encode(metadata))
