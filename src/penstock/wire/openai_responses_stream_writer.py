"""Writes the streams of Responses: neutral events to those of OpenAI's API, numbered, each item opened and closed.

Pure; one writer per client reply. Thoughts and texts are closed when something else begins, tool calls when the answer ends,
since their pieces may come mixed. A failure is one `error` event. Place in the line: behind `openai_responses.py`.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Raw
from msgspec.json import encode

from penstock.call import Call, Citation, Reasoning, Text, ToolUse
from penstock.errors import PenstockError
from penstock.receipt import Usage
from penstock.reply import (
    Cited,
    Ended,
    Event,
    Failed,
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
from penstock.wire.framing import sse
from penstock.wire.openai_chat_reply import error_object
from penstock.wire.openai_responses_output import (
    Ending,
    Item,
    Response,
    message,
    output_text,
    refusal,
    tool_call,
    whole_item,
    write_logprobs,
)
from penstock.wire.openai_responses_reasoning import item_id, write_item, write_tool_signature
from penstock.wire.openai_responses_signature import split

_LINES: Final = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""Characters at which some readers break lines, although the standard does not."""


_INPUT_DELTA: Final = b"response.custom_tool_call_input.delta"
_ARGUMENTS_DELTA: Final = b"response.function_call_arguments.delta"
_SUMMARY_DELTA: Final = b"response.reasoning_summary_text.delta"


class _Thought:
    """A thought that is open. Its text goes out as a summary."""

    __slots__ = ("ident", "place", "said")

    def __init__(self, ident: str, place: int) -> None:
        self.ident = ident
        self.place = place
        self.said: list[str] = []


class _Message:
    """A message that is open, with the part that is open in it."""

    __slots__ = ("annotations", "content", "ident", "kind", "logprobs", "place", "prefix", "said")

    def __init__(self, ident: str, place: int) -> None:
        self.ident = ident
        self.place = place
        self.content: list[Item] = []
        self.kind = ""
        self.prefix = b""
        self.said: list[str] = []
        self.logprobs: list[Logprob] = []
        self.annotations: list[Citation] = []


class _Tool:
    """A tool call that is open."""

    __slots__ = ("ident", "place", "said", "started")

    def __init__(self, started: ToolUseStarted, ident: str, place: int) -> None:
        self.started = started
        self.ident = ident
        self.place = place
        self.said: list[str] = []


class ResponsesStreamWriter:
    """Events of one stream."""

    __slots__ = (
        "_call",
        "_failed",
        "_finish",
        "_items",
        "_open",
        "_out",
        "_refused",
        "_response",
        "_sequence",
        "_start",
        "_tier",
        "_tools",
        "_usage",
    )

    content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, call: Call) -> None:
        self._call = call
        self._start = Started(model=call.model)
        self._response: Response | None = None
        self._refused = False
        self._sequence = 0
        self._items: list[bytes] = []  # as they are when done; b"" until then
        self._open: _Thought | _Message | None = None
        self._tools: dict[int, _Tool] = {}
        self._usage: Usage | None = None
        self._tier: str | None = None
        self._finish: Finished | None = None
        self._failed = False
        self._out: list[bytes] = []

    def send(self, events: Iterable[Event]) -> bytes:
        """Write some events; b"" if they say nothing yet."""
        waiting = list(events)
        logprobs = _logprobs(waiting)
        for index, event in enumerate(waiting):
            if isinstance(event, TextDelta) and event.choice == 0:
                self._text(event.text, logprobs.get(index, ()))
                continue
            if isinstance(event, UsageReported):
                self._usage, self._tier = event.usage, event.service_tier or self._tier
                continue
            match event:
                case Started():
                    self._start = event
                case Failed(error):
                    self._fail(error)
                case Ended():
                    self._end()
                case Finished(choice=0):
                    self._finish = event
                case _:
                    self._write(event, logprobs.get(index))
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _write(self, event: Event, orphans: tuple[Logprob, ...] | None) -> None:
        match event:
            case LogprobsDelta(choice=0) if orphans is not None and isinstance(self._open, _Message):
                self._text("", orphans)
            case ReasoningDelta(choice=0):
                self._think(event)
            case RefusalDelta(text, 0):
                self._refused = True
                self._refuse(text)
            case ToolUseStarted(choice=0):
                self._call_tool(event)
            case ToolUseDelta(index, arguments, 0):
                self._argue(index, arguments)
            case Cited(citation, 0):
                self._cite(citation)
            case PartAdded(part, 0):
                self._close()
                item = whole_item(part, self._start.id, len(self._items))
                if item is not None:
                    self._whole(item)
            case _:
                pass

    # -- events --

    def _event(self, kind: str, **members: Any) -> None:
        if self._response is None:
            self._begin()
        data = encode({"type": kind, **members, "sequence_number": self._sequence})
        self._sequence += 1
        self._out.append(sse(_one_line(data), kind))

    def _delta(self, kind: bytes, place: bytes, text: str) -> None:
        """Write a piece of what has begun; `place` are the members that say of what."""
        event = b'event: %b\ndata: {"type":"%b",%b,"delta":%b,"sequence_number":%d}\n\n'
        self._out.append(event % (kind, kind, place, _one_line(encode(text)), self._sequence))
        self._sequence += 1

    def _begin(self) -> None:
        self._response = Response(self._start, self._call)
        for kind in ("response.created", "response.in_progress"):
            self._event(kind, response=self._response.write((), None))

    def _add(self, item: Item | Raw) -> int:
        place = len(self._items)
        self._items.append(b"")
        self._event("response.output_item.added", output_index=place, item=item)
        return place

    def _done(self, place: int, item: Item | Raw) -> None:
        self._items[place] = encode(item)
        self._event("response.output_item.done", output_index=place, item=item)

    def _whole(self, item: Item | Raw) -> None:
        self._done(self._add(item), item)

    def _ident(self, prefix: str) -> str:
        return item_id(prefix, self._start.id, len(self._items))

    # -- messages --

    def _text(self, text: str, logprobs: tuple[Logprob, ...]) -> None:
        open_message = self._open
        if not isinstance(open_message, _Message) or open_message.kind != "output_text":
            open_message = self._open_part("output_text")
        open_message.said.append(text)
        written = b"[]"
        if logprobs:
            open_message.logprobs += logprobs
            written = _one_line(encode(write_logprobs(logprobs)))
        self._out.append(
            b'%b%b,"logprobs":%b,"sequence_number":%d}\n\n'
            % (open_message.prefix, _one_line(encode(text)), written, self._sequence)
        )
        self._sequence += 1

    def _refuse(self, text: str) -> None:
        open_message = self._open
        if not isinstance(open_message, _Message) or open_message.kind != "refusal":
            open_message = self._open_part("refusal")
        open_message.said.append(text)
        self._event("response.refusal.delta", **self._place(open_message), delta=text)

    def _open_part(self, kind: str) -> _Message:
        """Open a part of a message, and the message if there is none."""
        opened = self._open
        if isinstance(opened, _Message):
            self._close_part(opened)
        else:
            self._close()
            ident = self._ident("msg")
            opened = self._open = _Message(ident, self._add(message(ident, [], "in_progress")))
        opened.kind = kind
        opened.said, opened.logprobs, opened.annotations = [], [], []
        place = self._place(opened)
        part = refusal("") if kind == "refusal" else output_text(Text(""), ())
        self._event("response.content_part.added", **place, part=part)
        head = encode({"type": "response.output_text.delta", **place})
        opened.prefix = b'event: response.output_text.delta\ndata: %b,"delta":' % head[:-1]
        return opened

    def _place(self, opened: _Message) -> Item:
        return {"item_id": opened.ident, "output_index": opened.place, "content_index": len(opened.content)}

    def _close_part(self, opened: _Message) -> None:
        text, place = "".join(opened.said), self._place(opened)
        if opened.kind == "refusal":
            part = refusal(text)
            self._event("response.refusal.done", **place, refusal=text)
        else:
            part = output_text(Text(text, (), tuple(opened.annotations)), tuple(opened.logprobs))
            self._event("response.output_text.done", **place, text=text, logprobs=part["logprobs"])
        self._event("response.content_part.done", **place, part=part)
        opened.content.append(part)

    def _cite(self, citation: Citation) -> None:
        """Write a source of the text that is open; one whose text is closed has no place any more."""
        opened = self._open
        if not isinstance(opened, _Message) or opened.kind != "output_text":
            return
        annotation = openai_responses_citations.write(citation)
        if annotation is not None:
            place = {**self._place(opened), "annotation_index": len(opened.annotations)}
            opened.annotations.append(citation)
            self._event("response.output_text.annotation.added", **place, annotation=annotation)

    # -- thoughts --

    def _think(self, event: ReasoningDelta) -> None:
        if event.redacted or not isinstance(self._open, _Thought):
            self._close()
            ident = self._own_id(event) or self._ident("rs")
            self._open = _Thought(ident, self._add({"id": ident, "type": "reasoning", "summary": []}))
        opened = self._open
        assert isinstance(opened, _Thought), "just opened"
        place = {"item_id": opened.ident, "output_index": opened.place, "summary_index": 0}
        if event.text:
            if not opened.said:
                part = {"type": "summary_text", "text": ""}
                self._event("response.reasoning_summary_part.added", **place, part=part)
            opened.said.append(event.text)
            at = b'"item_id":%b,"output_index":%d,"summary_index":0' % (encode(opened.ident), opened.place)
            self._delta(_SUMMARY_DELTA, at, event.text)
        if event.signature is not None or event.redacted:
            self._close_thought(opened, event)

    @staticmethod
    def _own_id(event: ReasoningDelta) -> str | None:
        """Give the id that OpenAI's model gave the thought, if it is known from the start: an item's id may not change."""
        if event.signature is None or event.signer != "openai":
            return None
        return split(event.signature)[0]

    def _close_thought(self, opened: _Thought, event: ReasoningDelta) -> None:
        text = "".join(opened.said)
        place = {"item_id": opened.ident, "output_index": opened.place, "summary_index": 0}
        if opened.said:
            self._event("response.reasoning_summary_text.done", **place, text=text)
            part = {"type": "summary_text", "text": text}
            self._event("response.reasoning_summary_part.done", **place, part=part)
        item = write_item(Reasoning(text, event.signature, event.redacted, (), event.signer), opened.ident)
        item["id"] = opened.ident
        self._done(opened.place, item)
        self._open = None

    # -- tools --

    def _call_tool(self, event: ToolUseStarted) -> None:
        self._close()
        use = ToolUse(event.id, event.name, "", event.kind, (), event.signature, event.signer)
        signature = write_tool_signature(use, self._ident("rs"))
        if signature is not None:
            self._whole(signature)
        ident = self._ident("fc")
        self._tools[event.index] = _Tool(event, ident, self._add(tool_call(use, ident, "in_progress")))

    def _argue(self, index: int, arguments: str) -> None:
        tool = self._tools.get(index)
        if tool is None:
            self._call_tool(ToolUseStarted(index, "", ""))
            tool = self._tools[index]
        if arguments:
            tool.said.append(arguments)
            kind = _INPUT_DELTA if tool.started.kind == "custom" else _ARGUMENTS_DELTA
            self._delta(kind, b'"item_id":%b,"output_index":%d' % (encode(tool.ident), tool.place), arguments)

    def _close_tools(self) -> None:
        for tool in self._tools.values():
            text, start = "".join(tool.said), tool.started
            place = {"item_id": tool.ident, "output_index": tool.place}
            if start.kind == "custom":
                self._event("response.custom_tool_call_input.done", **place, input=text)
            else:
                self._event("response.function_call_arguments.done", **place, name=start.name, arguments=text)
            self._done(tool.place, tool_call(ToolUse(start.id, start.name, text, start.kind), tool.ident))
        self._tools.clear()

    # -- endings --

    def _close(self, status: str = "completed") -> None:
        """Close the thought or the message that is open."""
        opened = self._open
        if isinstance(opened, _Thought):
            self._close_thought(opened, ReasoningDelta())
        elif isinstance(opened, _Message):
            self._close_part(opened)
            self._done(opened.place, message(opened.ident, opened.content, status))
        self._open = None

    def _end(self) -> None:
        """Close what is open, and say the whole reply again; after a failure nothing more."""
        if self._failed:
            return
        finish = self._finish or Finished("stop")
        end = Ending(finish.reason, finish.native, self._usage, None, refused=self._refused)
        self._close("incomplete" if end.status == "incomplete" else "completed")
        self._close_tools()
        if self._response is None:
            self._begin()
        assert self._response is not None, "just begun"
        whole = self._response.write([Raw(item) for item in self._items], end)
        if self._tier is not None:
            whole["service_tier"] = self._tier
        self._event(f"response.{end.status}", response=whole)

    def _fail(self, error: PenstockError) -> None:
        """Write the error in the event's own members, and as the object for which OpenAI's SDK raises.

        It begins nothing: on the verbatim lane what came before is the provider's own.
        """
        said = error_object(error)
        flat = {name: said[name] for name in ("code", "message", "param")}
        data = encode({"type": "error", **flat, "error": said, "sequence_number": self._sequence})
        self._out.append(sse(_one_line(data), "error"))
        self._failed = True


def _logprobs(events: list[Event]) -> dict[int, tuple[Logprob, ...]]:
    """Give the log probabilities by the place of the text that they go with: the one before them, else the first.

    Where no text is there, they stand at their own place.
    """
    found: dict[int, tuple[Logprob, ...]] = {}
    if LogprobsDelta not in map(type, events):
        return found
    first: int | None = None
    before: Event | None = None
    for index, event in enumerate(events):
        if isinstance(event, TextDelta) and event.choice == 0:
            first = index if first is None else first
        elif isinstance(event, LogprobsDelta) and event.choice == 0 and not event.refusal:
            place = index - 1 if isinstance(before, TextDelta) and before.choice == 0 else first
            place = index if place is None else place
            found[place] = found.get(place, ()) + event.tokens
        before = event
    return found


def _one_line(json: bytes) -> bytes:
    """Escape what some readers take for the end of a line."""
    if json.isascii():
        return json
    for raw, escaped in _LINES:
        if raw in json:
            json = json.replace(raw, escaped)
    return json
