"""Reads and writes the streams of Gemini's API: server-sent events, and for clients also one array of JSON.

Pure; one reader per upstream reply, one writer per client reply. The API has no end mark: a stream is complete when every
answer that it began has said why it ended. Strategy of the writer: text goes out at once; a call of a function is written
when it is whole, since its arguments are an object here; why an answer ended waits for the usage, so that both stand in the
last chunk, as in Gemini's own. Place in the line: behind `gemini.py`.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError, Raw
from msgspec.json import decode, encode

from penstock.call import Call, Citation, Json, ToolUse
from penstock.errors import UpstreamError, UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Cited,
    Embedded,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
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
from penstock.wire import gemini_types as wire
from penstock.wire.framing import Frame, SseReader
from penstock.wire.gemini_details import read_tier, read_usage, write_citations, write_logprobs, write_usage
from penstock.wire.gemini_errors import error_object, read_in_band
from penstock.wire.gemini_members import Object, write_signature
from penstock.wire.gemini_reply import (
    AUDIO_TYPE,
    OTHER_AUDIO,
    PROMPT_FEEDBACK,
    SILENT,
    State,
    decode_chunk,
    garbled,
    head,
    native_finish,
    read_candidates,
    started,
    write_call,
    write_part,
    write_thought,
)

SSE_TYPE: Final = b"text/event-stream"
JSON_TYPE: Final = b"application/json; charset=UTF-8"
MAX_STRAY_BYTES: Final = 65_536

_SEPARATORS: Final = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""What some clients take for line ends."""


class GeminiStreamReader:
    """Events of one stream. `passed` is what of the fed bytes goes on to a client of the same dialect; see `dialect.py`."""

    __slots__ = ("_over", "_sse", "_started", "_states", "_stray", "_usage", "_waiting", "passed")

    def __init__(self) -> None:
        self.passed = b""
        self._sse = SseReader()
        self._over = False
        self._started = False
        self._states: dict[int, State] = {}
        self._usage = b""
        self._waiting = 0  # bytes of an event that is not complete
        self._stray = bytearray()  # what came outside of any event: Google writes some errors so

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """Give the events that these bytes complete; a stream that cannot be read ends in a `Failed`."""
        if self._over:
            self.passed = b""
            return ()
        try:
            frames = self._sse.feed(data)
        except UpstreamGarbled as error:
            return self._fail(error)
        if self._waiting or self._sse.taken is not data:
            self._keep_stray(data)
        return self._take(frames)

    def end(self) -> tuple[Event, ...]:
        """Say what the end of the bytes means: without the end of every answer the reply was cut short."""
        self.passed = b""
        if self._over:
            return ()
        try:
            frames = self._sse.end()
        except UpstreamGarbled as error:
            return self._fail(error)
        events = self._take(frames)
        last = events[-1] if events else None
        if isinstance(last, Failed):
            if not isinstance(last.error, UpstreamGarbled):
                return events
            events = events[:-1]  # half a frame: what matters is that the rest is missing
        self._over = True
        if self._states and all(state.finished for state in self._states.values()):
            return (*events, Ended())
        cut = UpstreamGarbled("The provider's stream stopped before it said why it ended.")
        return (*events, Failed(self._stray_error() or cut))

    def _keep_stray(self, data: bytes) -> None:
        """Keep what belongs to no complete event yet, as far as an error could stand in it."""
        self._waiting = waiting = self._waiting + len(data) - len(self._sse.taken)
        if waiting <= len(data):
            self._stray[:] = data[len(data) - waiting :][:MAX_STRAY_BYTES] if waiting > 0 else b""
        else:
            self._stray += data[: max(0, MAX_STRAY_BYTES - len(self._stray))]

    def _stray_error(self) -> UpstreamError | None:
        """Read the error that stands outside of any event."""
        start = min((at for at in (self._stray.find(b"{"), self._stray.find(b"[")) if at >= 0), default=-1)
        if start < 0 or b'"error"' not in self._stray or self._stray.lstrip().startswith(b"data:"):
            return None
        try:
            return read_in_band(decode(bytes(self._stray[start:])))
        except (DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _fail(self, error: UpstreamError) -> tuple[Event, ...]:
        self.passed = self._sse.taken
        self._over = True
        return (Failed(error),)

    def _take(self, frames: list[Frame]) -> tuple[Event, ...]:
        """Read the frames, and settle which of their bytes are passed."""
        events: list[Event] = []
        self.passed = taken = self._sse.taken
        for frame in frames:
            failure = self._read(frame.data, events)
            if failure is not None:
                events.append(Failed(failure))
                self._over = True
                self.passed = taken[: frame.start]
                break
        return tuple(events)

    def _read(self, data: bytes, events: list[Event]) -> UpstreamError | None:
        """Read one frame; give what makes it a failure."""
        try:
            chunk, own = decode_chunk(data)
            if chunk.error and bytes(chunk.error) not in SILENT:
                return read_in_band(decode(data))
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            return garbled("stream", error)
        if not self._started:
            self._started = True
            events.append(started(chunk, own))
        if chunk.candidates or chunk.prompt_feedback:
            read_candidates(chunk, own, self._states, events)
        if chunk.usage_metadata:
            usage = bytes(chunk.usage_metadata)
            if usage != self._usage:
                self._usage = usage
                if (counted := read_usage(chunk.usage_metadata)) is not None:
                    events.append(UsageReported(counted, read_tier(chunk.usage_metadata)))
        return None


class GeminiStreamWriter:
    """Chunks of one stream. What has no place in this dialect (parts of other dialects) is left out."""

    __slots__ = ("_answers", "_array", "_begun", "_closed", "_start", "_tail", "_tier", "_usage", "content_type")

    def __init__(self, call: Call) -> None:
        self._array = call.form == "array"
        self.content_type = JSON_TYPE if self._array else SSE_TYPE
        self._start = Started(model=call.model)
        self._tail = b""
        self._answers: dict[int, _Answer] = {}
        self._usage: Usage | None = None
        self._tier: str | None = None
        self._begun = self._closed = False

    def send(self, events: Iterable[Event]) -> bytes:
        """Write the chunks of some events; b"" if they say nothing yet."""
        if self._closed:
            return b""
        out: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta) and event.choice not in self._answers:
                out.append(self._text(event))
            elif isinstance(event, ReasoningDelta) and event.choice not in self._answers and _is_unsigned(event):
                out.append(self._thought(event))
            else:
                self._write(event, out)
        if self._answers:
            self._flush(out)
        return b"".join(out)

    def _text(self, event: TextDelta) -> bytes:
        """Write text where nothing waits before it: nearly every chunk of nearly every stream."""
        chunk = b'{"candidates":[{"content":{"parts":[{"text":%b}],"role":"model"},"index":%d}]%b'
        return self._chunk(chunk % (encode(event.text), event.choice, self._tail or self._ending()))

    def _thought(self, event: ReasoningDelta) -> bytes:
        """Write thinking where nothing waits before it."""
        chunk = b'{"candidates":[{"content":{"parts":[{"text":%b,"thought":true}],"role":"model"},"index":%d}]%b'
        return self._chunk(chunk % (encode(event.text), event.choice, self._tail or self._ending()))

    def _write(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Started():
                self._start = event
                self._tail = b""
            case UsageReported(usage, tier):
                self._usage, self._tier = usage, tier or self._tier
            case Failed(error):
                self._close(self._chunk(encode(error_object(error))), out)
            case Ended():
                if not self._closed:
                    self._flush(out)
                    self._close(self._last(), out)
            case Embedded():
                pass
            case _:
                answer = self._answers.get(event.choice)
                if answer is not None and answer.citations and not isinstance(event, Cited):
                    self._flush(out)  # sources belong to the text before them
                    answer = self._answers.get(event.choice)
                if answer is None:
                    self._answers[event.choice] = answer = _Answer()
                answer.add(event)

    def _close(self, last: bytes, out: list[bytes]) -> None:
        out.append(last)
        if self._array:
            out.append(b"\n]" if self._begun else b"[]")
        self._closed = True
        self._answers.clear()

    def _flush(self, out: list[bytes]) -> None:
        """Write what the answers have to say by now."""
        for number, answer in list(self._answers.items()):
            if said := answer.take():
                said["index"] = number
                out.append(self._chunk(b'{"candidates":[%b]%b' % (encode(said), self._tail or self._ending())))
            if answer.is_idle:
                del self._answers[number]

    def _last(self) -> bytes:
        """Write the last chunk: why each answer ended, and what it cost; b"" if nobody says either."""
        last: Object = {}
        candidates: list[Object] = []
        for number, answer in sorted(self._answers.items()):
            if answer.feedback is not None:
                last[PROMPT_FEEDBACK] = Raw(answer.feedback)
            else:
                candidates.append({**answer.ending(), "index": number})
        if candidates:
            last["candidates"] = candidates
        if self._usage is not None:
            last["usageMetadata"] = write_usage(self._usage, self._tier or self._start.service_tier)
        return self._chunk(encode(last)[:-1] + (self._tail or self._ending())) if last else b""

    def _ending(self) -> bytes:
        """Write what every chunk ends with."""
        start = self._start
        ending = encode({**head(start.id, start.model), **{name: Raw(json) for name, json in start.extra}})[1:]
        self._tail = ending if ending == b"}" else b"," + ending
        return self._tail

    def _chunk(self, json: bytes) -> bytes:
        if not json.isascii():
            for raw, escaped in _SEPARATORS:
                json = json.replace(raw, escaped)
        if b"\n" in json or b"\r" in json:  # between members: within a string they are escaped
            json = json.replace(b"\r", b" ").replace(b"\n", b" ")
        if not self._array:
            return b"data: %b\r\n\r\n" % json
        before = b",\r\n" if self._begun else b"["
        self._begun = True
        return before + json


def _is_unsigned(event: ReasoningDelta) -> bool:
    return event.signature is None and not event.redacted and event.text != ""


class _Answer:
    """One answer while it is written: parts that can go out, calls that are not whole yet, and its end."""

    __slots__ = ("_audio", "_beside", "_calls", "_finish", "_parts", "_tokens", "citations", "feedback")

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._calls: dict[int, tuple[ToolUseStarted, list[str]]] = {}
        self._audio: Json = b""
        self.citations: list[Citation] = []
        self._tokens: list[Logprob] = []
        self._beside: Object = {}
        self._finish: Finished | None = None
        self.feedback: Json | None = None

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits, so that what comes next may go out at once."""
        return not (self._calls or self._beside or self._audio or self._finish or self.feedback)

    def add(self, event: Event) -> None:
        match event:
            case ToolUseStarted(index=index):
                self._calls[index] = (event, [])
            case ToolUseDelta(index, arguments, number):
                self._calls.setdefault(index, (ToolUseStarted(index, "", "", choice=number), []))[1].append(arguments)
            case Cited(citation):
                self.citations.append(citation)
            case LogprobsDelta(tokens=tokens):
                self._tokens += tokens
            case ForeignDelta(dialect=wire.NAME):
                self._add_foreign(event)
            case Finished():
                self._settle()
                self._finish = event
            case _:
                self._add_part(event)

    def _add_foreign(self, event: ForeignDelta) -> None:
        if event.name == AUDIO_TYPE:
            self._audio = event.json
        elif event.name == PROMPT_FEEDBACK:
            self.feedback = event.json
        else:
            self._beside[event.name] = Raw(event.json)

    def _add_part(self, event: Event) -> None:
        """Add what is whole as it comes; calls before it are whole then."""
        self._settle()
        match event:
            case TextDelta(text=text) | RefusalDelta(text=text):
                self._parts.append({"text": text})
            case ReasoningDelta(text=text, signature=signature) if text or signature:
                write_thought(text, write_signature(signature, event.signer), event, self._parts)
            case AudioDelta(data=data) if data:
                self._parts.append({"inlineData": {"mimeType": Raw(self._audio or OTHER_AUDIO), "data": data}})
            case PartAdded(part):
                written = write_part(part, self._audio or OTHER_AUDIO)
                self._parts += [] if written is None else [written]
            case _:
                pass

    def _settle(self) -> None:
        """Write the calls whose arguments are complete."""
        for _, (start, arguments) in sorted(self._calls.items()):
            text = "".join(arguments)
            use = ToolUse(start.id, start.name, text, start.kind, (), start.signature, start.signer)
            self._parts.append(write_call(use))
        self._calls.clear()

    def take(self) -> Object:
        """Give what can be said now, as a candidate; {} if that is nothing."""
        said: Object = {}
        if self._parts:
            said["content"] = {"parts": self._parts, "role": "model"}
        if written := write_citations(self.citations):
            said["citationMetadata"] = {"citations": written}
        if self._tokens:
            said["logprobsResult"] = write_logprobs(self._tokens)
        if said:
            said |= self._beside
            self._parts, self.citations, self._tokens, self._beside = [], [], [], {}
        return said

    def ending(self) -> Object:
        """Give the last piece: an empty text, as Gemini sends it, with why the answer ended."""
        out: Object = {"content": {"parts": [{"text": ""}], "role": "model"}}
        if self._finish is not None:
            out["finishReason"] = native_finish(self._finish.reason, self._finish.native)
        return out | self._beside
