"""Reads and writes the streams of Ollama's chat and generate: lines of JSON to events, events to lines.

Pure; one reader per upstream reply, one writer per client reply. Strategy of the reader: every line is decoded by type, and
the bytes go on as they came, whole lines only, up to the line that fails: an error is said by whoever writes to the client.
Strategy of the writer: text at once, tool calls whole, since here they come so; the last line when all is known.
Place in the line: behind `ollama.py`.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec.json import encode

from penstock.call import Call, Image, Reasoning, ToolUse
from penstock.errors import UpstreamError, UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import (
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
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
from penstock.wire.ndjson import NdjsonReader, ndjson
from penstock.wire.ollama_reasoning import write_details
from penstock.wire.ollama_reply import (
    endings,
    last,
    read_in_band,
    read_line,
    read_said,
    started,
    write_error,
    write_images,
    write_logprobs,
    write_time,
    write_use,
)
from penstock.wire.ollama_request_types import GENERATE

CONTENT_TYPE: Final = b"application/x-ndjson"
_NULL: Final = len("null")


class OllamaStreamReader:
    """Events of one stream.

    `passed` is what of the fed bytes goes on to a client of the same dialect: whole lines, as they came. From a line that
    fails on, and after the last one, nothing is passed.
    """

    __slots__ = ("_lines", "_over", "_started", "_tools", "passed")

    def __init__(self) -> None:
        self.passed = b""
        self._lines = NdjsonReader()
        self._started = self._over = False
        self._tools = 0

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """Give the events that these bytes complete; a stream that cannot be read ends in a `Failed`."""
        if self._over:
            self.passed = b""
            return ()
        try:
            lines = self._lines.feed(data)
        except UpstreamGarbled as error:
            return self._fail(error)
        return self._take(lines)

    def end(self) -> tuple[Event, ...]:
        """Say what the end of the bytes means: without a last line the reply was cut short."""
        if self._over:
            self.passed = b""
            return ()
        try:
            events = self._take(self._lines.end())
        except UpstreamGarbled as error:
            return self._fail(error)
        final = events[-1] if events else None
        if isinstance(final, Ended):
            return events
        if isinstance(final, Failed):
            if not isinstance(final.error, UpstreamGarbled):
                return events
            events = events[:-1]  # half a line: what matters is that the rest is missing
        self._over = True
        text = "The provider's stream stopped before its last line, which says that it is done."
        return (*events, Failed(UpstreamGarbled(text)))

    def _fail(self, error: UpstreamError) -> tuple[Event, ...]:
        self.passed = b""
        self._over = True
        return (Failed(error),)

    def _take(self, lines: list[bytes]) -> tuple[Event, ...]:
        """Read the lines, and settle which of their bytes are passed."""
        events: list[Event] = []
        taken, at = self._lines.taken, 0
        for line in lines:
            if line and not line.isspace():
                failure = self._read(line, events)
                if failure is not None:
                    events.append(Failed(failure))
                    self._over = True
                    taken = taken[:at]
                    break
            at += len(line) + 1
            if self._over:
                taken = taken[:at]
                break
        self.passed = taken
        return tuple(events)

    def _read(self, raw: bytes, events: list[Event]) -> UpstreamError | None:
        """Read one line; give what makes it a failure."""
        try:
            line = read_line(raw)
        except UpstreamGarbled as error:
            return error
        if len(line.error) > _NULL:
            return read_in_band(line.error)
        if not self._started:
            events.append(started(line))
            self._started = True
        self._tools = read_said(line, self._tools, events)
        if line.done:
            events += endings(line, raw, called=self._tools > 0)
            self._over = True
        return None


class OllamaStreamWriter:
    """Lines of one stream, as Ollama writes them, under the name that the client asked for.

    It has one answer: what belongs to a second choice is left out, and so is what has no place here (sound, citations).
    """

    __slots__ = ("_call", "_finish", "_foreign", "_generate", "_head", "_text", "_thought", "_tools", "_usage")

    content_type = CONTENT_TYPE

    def __init__(self, call: Call) -> None:
        self._call = call
        self._generate = call.form == GENERATE
        self._thought: list[str] = []
        self._tools: dict[int, tuple[ToolUseStarted, list[str]]] = {}
        self._foreign: list[ForeignDelta] = []
        self._finish = Finished("stop", "stop")
        self._usage: Usage | None = None
        self._begin(None)

    def send(self, events: Iterable[Event]) -> bytes:
        """Write the lines of some events; b"" if they say nothing yet."""
        waiting = list(events)
        if len(waiting) == 1:
            return self._write(waiting[0], None)
        out: list[bytes] = []
        skip = False
        for index, event in enumerate(waiting):
            if skip:
                skip = False  # the log probabilities went along with their text
                continue
            if isinstance(event, UsageReported):
                self._usage = event.usage
                continue
            after = waiting[index + 1] if index + 1 < len(waiting) else None
            skip = isinstance(after, LogprobsDelta) and isinstance(event, TextDelta) and after.choice == event.choice
            out.append(self._write(event, after if skip else None))
        return b"".join(out)

    def _begin(self, created: int | None) -> None:
        """Write what every line begins with."""
        members = {"model": self._call.model, "created_at": write_time(created)}
        self._head = encode(members)[:-1]
        said = b'"response":' if self._generate else b'"message":{"role":"assistant","content":'
        self._text = b"%b,%b" % (self._head, said)

    def _write(self, event: Event, after: Event | None) -> bytes:
        if isinstance(event, TextDelta | RefusalDelta):
            return self._say(event.text, after) if event.choice == 0 else b""
        match event:
            case Started():
                self._begin(event.created)
                return b""
            case ToolUseStarted() | ToolUseDelta() | UsageReported():
                return self._keep(event)
            case Failed(error):
                return ndjson(write_error(error))
            case Ended():
                return self._flush() + self._line({}, last(self._finish, self._foreign, self._usage))
            case _:
                return self._rare(event) if not getattr(event, "choice", 0) else b""

    def _say(self, text: str, after: Event | None) -> bytes:
        """Write text, with its log probabilities where they come after it."""
        tail = b',"done":false}' if self._generate else b'},"done":false}'
        if isinstance(after, LogprobsDelta):
            tail = tail[:-1] + b',"logprobs":%b}' % encode(write_logprobs(after.tokens))
        return ndjson(b"%b%b%b" % (self._text, encode(text), tail))

    def _keep(self, event: ToolUseStarted | ToolUseDelta | UsageReported) -> bytes:
        """Keep what is written once it is whole."""
        if isinstance(event, UsageReported):
            self._usage = event.usage
        elif event.choice == 0:
            if isinstance(event, ToolUseStarted):
                self._tools[event.index] = (event, [])
            elif event.index in self._tools:
                self._tools[event.index][1].append(event.arguments)
        return b""

    def _rare(self, event: Event) -> bytes:
        """Write an event that most streams do not have."""
        match event:
            case ReasoningDelta():
                return self._think(event)
            case Finished():
                self._finish = event
                return self._flush()
            case LogprobsDelta() if not event.refusal:
                return self._line({}, {"done": False, "logprobs": write_logprobs(event.tokens)})
            case PartAdded(part=Image(data=str(data))):
                return self._line({}, {**write_images([data], self._call.form), "done": False})
            case ForeignDelta():
                self._foreign.append(event)
        return b""

    def _think(self, event: ReasoningDelta) -> bytes:
        """Write more thinking; with a signature, which closes the block, the signed form of all of it."""
        said: dict[str, Any] = {"thinking": event.text} if event.text else {}
        self._thought.append(event.text)
        if event.signature or event.redacted:
            text = "".join(self._thought)
            self._thought.clear()
            thought = Reasoning("" if event.redacted else text, event.signature, event.redacted, (), event.signer)
            before = (Reasoning(text),) if event.redacted and text else ()
            if not self._generate:
                said["reasoning_details"] = write_details((*before, thought))
        return self._line(said) if said else b""

    def _flush(self) -> bytes:
        """Write the tool calls, which are whole now."""
        if not self._tools:
            return b""
        uses = [
            ToolUse(use.id, use.name, "".join(text), use.kind, (), use.signature, use.signer)
            for _, (use, text) in sorted(self._tools.items())
        ]
        self._tools.clear()
        return self._line({"tool_calls": [write_use(use) for use in uses]})

    def _line(self, said: dict[str, Any], rest: dict[str, Any] | None = None) -> bytes:
        """Write one line of what is said and of what stands beside it."""
        own = {"response": "", **said} if self._generate else {"message": {"role": "assistant", "content": "", **said}}
        return ndjson(b"%b,%b" % (self._head, encode(own | (rest or {"done": False}))[1:]))
