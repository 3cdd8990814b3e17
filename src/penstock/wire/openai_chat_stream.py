"""Reads and writes the streams of chat completions: chunks to events, events to chunks.

Pure; one reader per upstream reply, one writer per client reply. Strategy of the reader: every event is decoded by type, and
the bytes go on as they came, whole frames only, up to the frame that fails: an error is said by whoever writes to the
client, in its own words. Place in the line: behind `openai_chat.py`.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder, encode

from penstock.call import Call
from penstock.errors import UpstreamError, UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.wire import openai_chat_reply_types as wire
from penstock.wire.framing import Frame, SseReader, sse
from penstock.wire.openai_chat_content import LEGACY_ID
from penstock.wire.openai_chat_reply import (
    NULL,
    OF_CHOICE,
    called,
    check_utf8,
    finished,
    garbled,
    is_said,
    kind_of,
    missing_id,
    native_finish,
    read_delta,
    read_in_band,
    read_logprobs,
    read_usage,
    started,
    write_error,
    write_logprobs,
    write_usage,
)
from penstock.wire.openai_chat_request_types import NAME

_CHUNK: Final = Decoder(wire.StreamChunk)
_DONE: Final = b"[DONE]"
_LEGACY: Final = -1
"""Stands for the index of a deprecated `function_call`, which has none."""


class ChatStreamReader:
    """Events of one stream.

    `passed` is what of the fed bytes goes on to a client of the same dialect: whole frames, as they came, and the very
    object that was fed where that ends with a frame. From a frame that fails on, and after the end mark, nothing is passed.
    With `strip_usage` the frame that carries usage alone is left out: it was asked for by us, not by the client.
    """

    __slots__ = ("_choices", "_cut", "_id", "_late_lf", "_named", "_over", "_sse", "_started", "_strip", "passed")

    def __init__(self, *, strip_usage: bool) -> None:
        self.passed = b""
        self._sse = SseReader()
        self._strip = strip_usage
        self._started = self._named = False
        self._over = False
        self._cut = False  # the last frame was left out: the LF of its CRLF may follow
        self._late_lf = False  # the same of the end mark, which was not left out
        self._id = ""
        self._choices: dict[int, _ChoiceState] = {}

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """Give the events that these bytes complete; a stream that cannot be read ends in a `Failed`."""
        if self._over:
            self.passed = b"\n" if self._late_lf and data.startswith(b"\n") else b""
            self._late_lf = self._late_lf and not data
            return ()
        try:
            frames = self._sse.feed(data)
        except UpstreamGarbled as error:
            return self._fail(error)
        return self._take(frames)

    def end(self) -> tuple[Event, ...]:
        """Say what the end of the bytes means: without the end mark the reply was cut short."""
        if self._over:
            self.passed = b""
            return ()
        try:
            frames = self._sse.end()
        except UpstreamGarbled as error:
            return self._fail(error)
        events = self._take(frames)
        last = events[-1] if events else None
        if isinstance(last, Ended):
            return events
        if isinstance(last, Failed):
            if not isinstance(last.error, UpstreamGarbled):
                return events
            events = events[:-1]  # half a frame: what matters is that the rest is missing
        self._over = True
        return (*events, Failed(UpstreamGarbled("The provider's stream stopped before its end mark, [DONE].")))

    def _fail(self, error: UpstreamError) -> tuple[Event, ...]:
        self.passed = self._sse.taken
        self._over = True
        return (Failed(error),)

    def _take(self, frames: list[Frame]) -> tuple[Event, ...]:
        """Read the frames, and settle which of their bytes are passed."""
        events: list[Event] = []
        taken = self._sse.taken
        kept: list[bytes] = []
        start = self._sse.leads if self._cut else 0
        self._cut = False if taken else self._cut
        for frame in frames:
            if frame.data == _DONE:
                events.append(Ended())
                self._over = True
                taken = taken[: frame.end]
                self._late_lf = taken.endswith(b"\r")
                break
            failure, usage_only = self._read(frame, events)
            if failure is not None:
                events.append(Failed(failure))
                self._over = True
                taken = taken[: frame.start]
                break
            if usage_only and self._strip:
                kept.append(taken[start : frame.start])
                start = frame.end
                self._cut = True
            else:
                self._cut = False
        self.passed = taken if not start and not kept else b"".join((*kept, taken[start:]))
        return tuple(events)

    def _read(self, frame: Frame, events: list[Event]) -> tuple[UpstreamError | None, bool]:
        """Read one frame; give what makes it a failure, and whether it holds nothing but usage."""
        try:
            check_utf8(frame.data)
            chunk = _CHUNK.decode(frame.data)
            if (chunk.error or frame.event) and (failure := _in_band(chunk, frame)) is not None:
                return failure, False
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            return garbled("stream", error), False
        choices = chunk.choices
        if not self._named and (chunk.id or (choices and not self._started)):
            self._start(chunk, events)
        if choices:
            for choice in choices:
                number, delta = choice.index, choice.delta
                if delta is not None:
                    read_delta(delta, number, events)
                    if delta.tool_calls is not None or delta.function_call is not None or delta.annotations:
                        self._read_rare(delta, number, events)
                if choice.logprobs is not None:
                    events += read_logprobs(choice.logprobs, number)
                if choice.finish_reason is not None:
                    self._finish(choice.finish_reason, number, events)
        if len(chunk.usage) <= NULL:
            return None, False
        if (usage := read_usage(chunk.usage)) is not None:
            events.append(UsageReported(usage))
        return None, not choices

    def _start(self, chunk: wire.StreamChunk, events: list[Event]) -> None:
        """Say who answers, as soon as it is said; at the first choice at the latest."""
        events.append(started(chunk))
        self._started = True
        self._named = bool(chunk.id)
        self._id = chunk.id or ""

    def _read_rare(self, delta: wire.Delta, number: int, events: list[Event]) -> None:
        state = self._choices.setdefault(number, _ChoiceState())
        for call in delta.tool_calls or ():
            state.read(call, number, self._id, events)
        if delta.function_call is not None:
            call = wire.ReplyToolCall(_LEGACY, f"{LEGACY_ID}0", delta.function_call)
            state.read(call, number, self._id, events)
        if is_said(delta.annotations):
            events.append(ForeignDelta(NAME, "annotations", bytes(delta.annotations), number))

    def _finish(self, native: str, number: int, events: list[Event]) -> None:
        """Say once that a choice ended, also where the server says it again along with the usage."""
        state = self._choices.setdefault(number, _ChoiceState())
        if not state.finished:
            state.finished = True
            events.append(finished(native, number))


def _in_band(chunk: wire.StreamChunk, frame: Frame) -> UpstreamError | None:
    """Give the error that stands in a frame."""
    if is_said(chunk.error):
        return read_in_band(chunk.error)
    return read_in_band(frame.data) if frame.event == "error" else None


class _ChoiceState:
    """One choice while it streams: whether it has ended, and which pieces of tool calls belong together."""

    __slots__ = ("_at", "_ids", "_last", "finished")

    def __init__(self) -> None:
        self.finished = False
        self._at: dict[int, int] = {}  # the server's index -> ours
        self._ids: list[str] = []
        self._last = 0

    def read(self, call: wire.ReplyToolCall, number: int, reply_id: str, events: list[Event]) -> None:
        """Read a piece. A new id begins a new call, also under an index that was used before (Gemini), or under none."""
        name, arguments = called(call)
        given = call.index if call.index is not None else len(self._ids) if call.id else self._last
        index = self._at.get(given)
        if index is None or (call.id and name and call.id != self._ids[index]):
            index = self._at[given] = len(self._ids)
            ident = call.id or missing_id(reply_id, number, index)
            self._ids.append(ident)
            events.append(ToolUseStarted(index, ident, name or "", kind_of(call), number))
        self._last = given
        if arguments:
            events.append(ToolUseDelta(index, arguments, number))


class ChatStreamWriter:
    """Chunks of one stream, as OpenAI writes them: a role first, `finish_reason` in every choice, usage if asked for, [DONE].

    What has no place in this dialect (signatures of thoughts, members of other dialects) is left out.
    """

    __slots__ = ("_head", "_roles", "_start", "_tail", "_tools", "_usage", "_usage_asked")

    content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, call: Call) -> None:
        self._start = Started(model=call.model)
        self._head = b""
        self._usage_asked = call.stream_usage
        self._tail = b',"usage":null}' if call.stream_usage else b"}"
        self._usage: Usage | None = None
        self._roles: set[int] = set()
        self._tools: dict[tuple[int, int], ToolUseStarted] = {}

    def send(self, events: Iterable[Event]) -> bytes:
        """Write the chunks of some events; b"" if they say nothing yet."""
        waiting = list(events)
        out: list[bytes] = []
        for index, event in enumerate(waiting):
            if isinstance(event, LogprobsDelta):
                before = waiting[index - 1] if index else None
                if not isinstance(before, TextDelta | RefusalDelta) or before.choice != event.choice:
                    out.append(self._delta(event.choice, b"{}", _logprobs(event)))
                continue  # else it went along with the text
            after = waiting[index + 1] if index + 1 < len(waiting) else None
            out.append(self._write(event, after))
        return b"".join(out)

    def _write(self, event: Event, after: Event | None) -> bytes:
        match event:
            case TextDelta(text, number):
                return self._delta(number, b'{"content":%b}' % encode(text), _logprobs(after, number), b'""')
            case RefusalDelta(text, number):
                return self._delta(number, b'{"refusal":%b}' % encode(text), _logprobs(after, number))
            case Started():
                self._start = event
                self._head = b""
                return b""
            case UsageReported(usage):
                self._usage = usage
                return b""
            case Finished(reason, native, number):
                return self._delta(number, b"{}", finish=encode(native_finish(reason, native)))
            case Failed(error):
                self._usage = None
                return sse(write_error(error))
            case Ended():
                return self._end()
            case _:
                number, delta = event.choice, self._rare(event)
                return self._delta(number, encode(delta)) if delta else b""

    def _rare(self, event: Event) -> dict[str, Any]:
        """Give the delta of an event that most streams do not have."""
        match event:
            case ReasoningDelta(text=text) if text:
                return {"reasoning_content": text}
            case ToolUseStarted(index=index, choice=number):
                self._tools[number, index] = event
                return _tool(event, {"name": event.name}, "")
            case ToolUseDelta(index, arguments, number):
                return _tool(self._tools.get((number, index)) or ToolUseStarted(index, "", ""), None, arguments)
            case AudioDelta():
                said = {"id": event.id, "data": event.data or None, "transcript": event.transcript or None}
                said_of = {name: value for name, value in said.items() if value is not None}
                return {"audio": said_of if event.expires_at is None else {**said_of, "expires_at": event.expires_at}}
            case ForeignDelta(dialect, name, json) if dialect == NAME and not name.startswith(OF_CHOICE):
                return {name: Raw(json)}
            case _:
                return {}

    def _delta(
        self, number: int, delta: bytes, logprobs: bytes = b"null", content: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        """Write one chunk of one choice; before the first of a choice goes its role."""
        role = b""
        if number not in self._roles:
            self._roles.add(number)
            role = self._delta(number, b'{"role":"assistant","content":%b}' % content)
        chunk = b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b'
        return role + sse(chunk % (self._head or self._heading(), number, delta, logprobs, finish, self._tail))

    def _heading(self) -> bytes:
        """Write what every chunk begins with."""
        start = self._start
        members: dict[str, Any] = {
            "id": start.id,
            "object": "chat.completion.chunk",
            "created": start.created or 0,
            "model": start.model,
        }
        if start.service_tier is not None:
            members["service_tier"] = start.service_tier
        if start.fingerprint is not None:
            members["system_fingerprint"] = start.fingerprint
        self._head = encode(members)[:-1] + b',"choices":['
        return self._head

    def _end(self) -> bytes:
        usage = b""
        if self._usage_asked and self._usage is not None:
            usage = sse(b'%b],"usage":%b}' % (self._head or self._heading(), encode(write_usage(self._usage))))
        return usage + sse(_DONE)


def _tool(start: ToolUseStarted, named: dict[str, str] | None, arguments: str) -> dict[str, Any]:
    """Give the delta of a tool call: its start has id, type and name, its pieces the index and more arguments."""
    said = named or {}
    if start.id.startswith(LEGACY_ID):
        return {"function_call": {**said, "arguments": arguments}}
    call: dict[str, Any] = {"index": start.index}
    if named is not None:
        call["id"] = start.id
    if start.kind == "custom":  # OpenAI's schema of chunks knows functions only, so no type is said
        call["custom"] = {**said, "input": arguments}
    else:
        if named is not None:
            call["type"] = "function"
        call["function"] = {**said, "arguments": arguments}
    return {"tool_calls": [call]}


def _logprobs(event: Event | None, number: int | None = None) -> bytes:
    """Write the log probabilities, if it is they that come next for this choice."""
    if not isinstance(event, LogprobsDelta) or number not in {None, event.choice}:
        return b"null"
    return encode(write_logprobs(() if event.refusal else event.tokens, event.tokens if event.refusal else ()))
