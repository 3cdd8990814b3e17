"""Writes the streams of Messages: neutral events to server-sent ones.

Pure; one writer per client reply. Strategy: blocks stand one after the other, as Anthropic sends them. A tool call that
begins while the arguments of another are not complete waits until they are, or until the end. Arguments that are no JSON
object are held until they can be wrapped in one. The count and the ending are known last, so `message_delta` is written
with the end mark. Place in the line: behind `anthropic_messages.py`; `anthropic_messages_stream.py` is its counterpart.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder, encode

from penstock.call import Call
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
from penstock.wire.anthropic_messages_citations import write_citation
from penstock.wire.anthropic_messages_errors import write_error
from penstock.wire.anthropic_messages_reply import OF_TOOL, native_finish, stop_details, whole_input, write_part
from penstock.wire.anthropic_messages_request_types import NAME
from penstock.wire.anthropic_messages_usage import OF_USAGE, merge, write_head_usage, write_usage
from penstock.wire.framing import sse
from penstock.wire.signatures import carry

_OBJECT: Final = Decoder(dict[str, Any])
_DELTA: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n'
_TEXT: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"text_delta","text":%b}}\n\n'
)
_INPUT: Final = b'{"type":"input_json_delta","partial_json":%b}'
_START: Final = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_STOP: Final = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_END: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_EMPTY_TEXT: Final = b'{"type":"text","text":""}'
_EMPTY_THOUGHT: Final = b'{"type":"thinking","thinking":"","signature":""}'
_OF_DELTA: Final = frozenset({"stop_sequence", "stop_details", "container"})


class _Tool:
    """A tool call on its way out. `held`: its arguments wait until they are whole; None: nothing of them has come."""

    __slots__ = ("block", "held", "pieces", "started")

    def __init__(self, started: ToolUseStarted) -> None:
        self.started = started
        self.block = -1
        self.pieces: list[str] = []
        self.held: bool | None = True if started.kind == "custom" else None

    def complete(self) -> bool:
        """Return whether the arguments that have come are an object already."""
        try:
            _OBJECT.decode("".join(self.pieces))
        except (DecodeError, RecursionError, UnicodeEncodeError):
            return False
        return True


class MessagesStreamWriter:
    """Events of one stream, as Anthropic writes them. The text of a refusal becomes the explanation of `stop_details`."""

    __slots__ = (
        *("_begun", "_cited", "_ending", "_extras", "_finish", "_index", "_more_usage", "_open"),
        *("_refusal", "_start", "_tool", "_tools", "_usage", "_waiting"),
    )

    content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, call: Call) -> None:
        self._start = Started(model=call.model)
        self._begun = False
        self._index = 0  # of the block that is open, or comes next
        self._open = ""
        self._cited = False  # the open text has its sources: more text is another block
        self._tool: _Tool | None = None
        self._tools: dict[int, _Tool] = {}
        self._waiting: list[_Tool] = []
        self._extras: dict[str, bytes] = {}  # members of tool calls that come, by the name of their event
        self._refusal: list[str] = []
        self._finish = Finished("stop", "")
        self._ending: list[ForeignDelta] = []
        self._more_usage: list[bytes] = []
        self._usage: Usage | None = None

    def send(self, events: Iterable[Event]) -> bytes:
        """Write some events; b"" if they say nothing yet."""
        out: list[bytes] = []
        for event in events:
            if type(event) is TextDelta and self._open == "text" and not self._cited and not event.choice:
                out.append(_TEXT % (self._index, safe(encode(event.text))))
            else:
                self._write(event, out)
        return b"".join(out)

    def _write(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Started():
                self._start = event if not self._begun else self._start
            case UsageReported(usage):
                self._usage = usage
            case Failed(error):
                out.append(sse(safe(write_error(error)), "error"))
            case Ended():
                self._end(out)
            case _ if getattr(event, "choice", 0):
                pass  # this API has one answer
            case ForeignDelta():
                self._keep(event)
            case RefusalDelta(text):
                self._refusal.append(text)
            case Finished():
                self._finish = event
            case _:
                self._begin(out)
                self._content(event, out)

    def _content(self, event: Event, out: list[bytes]) -> None:
        match event:
            case TextDelta(text):
                self._text(text, out)
            case AudioDelta(transcript=text) if text:
                self._text(text, out)
            case ReasoningDelta():
                self._think(event, out)
            case ToolUseStarted():
                self._call(event, out)
            case ToolUseDelta(index, arguments):
                self._argue(index, arguments, out)
            case Cited(citation):
                if self._open != "text":
                    self._open_block("text", _EMPTY_TEXT, out)
                delta = {"type": "citations_delta", "citation": write_citation(citation)}
                out.append(self._named("content_block_delta", {"index": self._index, "delta": delta}))
                self._cited = True
            case PartAdded(part):
                block = write_part(part)
                if block is not None:
                    self._whole_block(block, out)

    def _keep(self, event: ForeignDelta) -> None:
        """Keep what belongs to a tool call that comes, or to the end of the message."""
        if event.dialect != NAME:
            return
        if event.name.startswith(OF_TOOL):
            self._extras[event.name] = event.json
        elif event.name == OF_USAGE:
            self._more_usage.append(event.json)
        else:
            self._ending.append(event)

    # -- blocks --

    def _text(self, text: str, out: list[bytes]) -> None:
        if self._open != "text" or self._cited:
            if not text:
                return  # an empty block could not be sent back
            self._open_block("text", _EMPTY_TEXT, out)
        out.append(_TEXT % (self._index, safe(encode(text))))

    def _think(self, event: ReasoningDelta, out: list[bytes]) -> None:
        signature = carry(event.signature, event.signer, "anthropic")
        if event.redacted:
            self._whole_block({"type": "redacted_thinking", "data": signature or ""}, out)
            return
        if self._open != "thinking":
            self._open_block("thinking", _EMPTY_THOUGHT, out)
        if event.text:
            self._delta({"type": "thinking_delta", "thinking": event.text}, out)
        if signature is not None:
            self._delta({"type": "signature_delta", "signature": signature}, out)
            self._close(out)

    def _open_block(self, kind: str, block: bytes, out: list[bytes]) -> None:
        self._close_all(out)
        self._open = kind
        self._cited = False
        out.append(_START % (self._index, block))

    def _whole_block(self, block: Any, out: list[bytes]) -> None:
        """Write a block that comes whole. A text says all in its deltas, since clients add them up."""
        if isinstance(block, dict) and block["type"] == "text":
            self._text(block["text"], out)
            return
        self._close_all(out)
        self._put(block, out)

    def _put(self, block: Any, out: list[bytes]) -> None:
        """Write the start and the end of a block, where none is open."""
        out += (self._named("content_block_start", {"index": self._index, "content_block": block}), _STOP % self._index)
        self._index += 1

    def _delta(self, delta: dict[str, Any], out: list[bytes]) -> None:
        out.append(_DELTA % (self._index, safe(encode(delta))))

    def _close(self, out: list[bytes]) -> None:
        """Close the open block."""
        if not self._open:
            return
        if (tool := self._tool) is not None:
            if tool.held:
                custom = tool.started.kind == "custom"
                json = whole_input("".join(tool.pieces), custom=custom)
                out.append(_DELTA % (self._index, _INPUT % safe(encode(json.decode()))))
            self._tool = None
        out.append(_STOP % self._index)
        self._open = ""
        self._index += 1

    def _close_all(self, out: list[bytes]) -> None:
        """Close the open block, and write the tool calls that wait."""
        self._close(out)
        waiting, self._waiting = self._waiting, []
        for tool in waiting:
            self._open_tool(tool, out)
            self._close(out)

    # -- tools --

    def _call(self, event: ToolUseStarted, out: list[bytes]) -> None:
        tool = self._tools[event.index] = _Tool(event)
        if self._tool is not None and (self._waiting or not self._tool.complete()):
            self._waiting.append(tool)
        else:
            self._open_tool(tool, out)

    def _open_tool(self, tool: _Tool, out: list[bytes]) -> None:
        """Open the block of a tool call, after the signature that belongs to it."""
        self._close(out)
        event = tool.started
        if event.signature is not None and event.signer not in {"", "anthropic"}:
            self._put({"type": "redacted_thinking", "data": carry(event.signature, event.signer, "anthropic")}, out)
        block: dict[str, Any] = {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
        merge(block, self._extras.pop(f"{OF_TOOL}{event.index}", b"{}"))
        self._open, self._tool, tool.block = "tool_use", tool, self._index
        out.append(self._named("content_block_start", {"index": self._index, "content_block": block}))
        self._pass_on(tool, "".join(tool.pieces), out)

    def _argue(self, index: int, arguments: str, out: list[bytes]) -> None:
        """Take more arguments of a tool call."""
        if index not in self._tools:
            self._call(ToolUseStarted(index, "", ""), out)
        tool = self._tools[index]
        tool.pieces.append(arguments)
        if tool is self._tool:
            self._pass_on(tool, arguments, out)
        elif self._waiting and tool is self._waiting[0] and len(tool.pieces) == 1:
            if self._tool is not None and self._tool.complete():
                self._open_tool(self._waiting.pop(0), out)
        elif tool not in self._waiting and tool.held is False and arguments:
            out.append(_DELTA % (tool.block, _INPUT % safe(encode(arguments))))  # late: its block is closed

    def _pass_on(self, tool: _Tool, arguments: str, out: list[bytes]) -> None:
        """Write arguments, as soon as they are seen to begin an object."""
        if tool.held is None:
            arguments = "".join(tool.pieces)
            begins = arguments.lstrip()
            if not begins:
                return
            tool.held = not begins.startswith("{")
        if not tool.held and arguments:
            out.append(_DELTA % (self._index, _INPUT % safe(encode(arguments))))

    # -- the message --

    def _begin(self, out: list[bytes]) -> None:
        """Write who answers, before the first content; the count so far is a part of it."""
        if self._begun:
            return
        self._begun = True
        start = self._start
        message: dict[str, Any] = {
            "id": start.id,
            "type": "message",
            "role": "assistant",
            "model": start.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_head_usage(self._usage, start.service_tier, start.extra),
        }
        for name, json in start.extra:
            message.setdefault(name, Raw(json))
        out.append(self._named("message_start", {"message": message}))

    def _end(self, out: list[bytes]) -> None:
        """Write why the answer ended, the count, and the end mark."""
        self._begin(out)
        self._close_all(out)
        finish, refusal = self._finish, "".join(self._refusal)
        word = native_finish(finish.reason, finish.native, called=bool(self._tools), refused=bool(refusal))
        delta: dict[str, Any] = {"stop_reason": word, "stop_sequence": None}
        if refusal:
            delta["stop_details"] = stop_details(refusal)
        usage = write_usage(self._usage or Usage())
        end: dict[str, Any] = {"delta": delta, "usage": usage}
        for event in self._ending:
            (delta if event.name in _OF_DELTA else end)[event.name] = Raw(event.json)
        for json in self._more_usage:
            merge(usage, json)
        out += (self._named("message_delta", end), _END)

    def _named(self, name: str, members: dict[str, Any]) -> bytes:
        """Write an event that most streams have few of."""
        return sse(safe(encode({"type": name, **members})), name)


def safe(json: bytes) -> bytes:
    """Escape what some readers of lines take for a line's end: U+2028, U+2029, U+0085. In JSON they stand in strings alone."""
    if json.isascii():
        return json
    json = json.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return json.replace(b"\xc2\x85", b"\\u0085")
