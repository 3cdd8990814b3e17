"""Reads the streams of Responses: their events to neutral ones.

Pure; one reader per upstream reply. Every event is decoded by type, and the bytes go on as they came, whole frames only, up to
the frame that fails. An item whose pieces never came is read when it is done. Place in the line: behind `openai_responses.py`.
"""

from typing import Final

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder

from penstock.errors import UpstreamError, UpstreamGarbled
from penstock.reply import (
    Cited,
    Ended,
    Event,
    Failed,
    LogprobsDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolUseDelta,
    UsageReported,
)
from penstock.wire import openai_responses_citations
from penstock.wire import openai_responses_reply_types as wire
from penstock.wire.framing import Frame, SseReader
from penstock.wire.openai_chat_reply import check_utf8, read_in_band
from penstock.wire.openai_chat_usage import is_said
from penstock.wire.openai_responses_reply import (
    Output,
    arguments_of,
    ending,
    garbled,
    logprobs,
    read_part,
    started,
    unknown,
)

_EVENT: Final = Decoder(wire.StreamEvent)
_KIND: Final = Decoder(wire.KnownType)
_HEAD: Final = Decoder(wire.Head)
_ITEM: Final = Decoder(wire.OutputItem)
_TEXT: Final = "response.output_text.delta"
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_STARTS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_ARGUMENTS: Final = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
_THOUGHTS: Final = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
KNOWN: Final = frozenset(
    {
        *(_TEXT, "response.refusal.delta", "response.output_text.annotation.added", "error"),
        *("response.output_item.added", "response.output_item.done"),
    }
    | _ENDS
    | _STARTS
    | _ARGUMENTS
    | _THOUGHTS
)


def _served(event: Event, head: wire.Head) -> Event:
    """Add the tier of service to a count: a stream begins with the one that was asked for, often `auto`."""
    return UsageReported(event.usage, head.service_tier) if isinstance(event, UsageReported) else event


class ResponsesStreamReader:
    """Events of one stream. `passed` is what of the fed bytes goes on to a client of the same dialect, in whole frames."""

    __slots__ = ("_calls", "_kinds", "_output", "_over", "_parts", "_sse", "_started", "_told", "passed")

    def __init__(self) -> None:
        self.passed = b""
        self._sse = SseReader()
        self._started = False
        self._over = False
        self._output = Output()
        self._told: set[int] = set()  # items of which a piece came
        self._calls: dict[int, int] = {}  # place of an item -> our number of the tool call
        self._kinds: dict[int, str] = {}  # whether summary or text is told of a thought
        self._parts: dict[int, int] = {}  # which part of a summary came last

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """Give the events that these bytes complete; a stream that cannot be read ends in a `Failed`."""
        if self._over:
            self.passed = b""
            return ()
        try:
            frames = self._sse.feed(data)
        except UpstreamGarbled as error:
            return self._fail(error)
        return self._take(frames)

    def end(self) -> tuple[Event, ...]:
        """Say what the end of the bytes means: without a last event the reply was cut short."""
        if self._over:
            self.passed = b""
            return ()
        try:
            frames = self._sse.end()
        except UpstreamGarbled as error:
            return self._fail(error)
        events = self._take(frames)
        if events and isinstance(events[-1], Failed | Ended):
            return events
        self._over = True
        return (*events, Failed(UpstreamGarbled("The provider's stream stopped before its last event.")))

    def _fail(self, error: UpstreamGarbled) -> tuple[Event, ...]:
        self.passed = b""
        self._over = True
        return (Failed(error),)

    def _take(self, frames: list[Frame]) -> tuple[Event, ...]:
        taken = self._sse.taken
        events: list[Event] = []
        for frame in frames:
            failure = self._read(frame, events)
            if failure is not None:
                events.append(Failed(failure))
                taken = taken[: frame.start]
                self._over = True
                break
            if self._over:
                taken = taken[: frame.end]
                break
        self.passed = taken
        return tuple(events)

    def _read(self, frame: Frame, events: list[Event]) -> UpstreamError | None:
        """Read one frame; give what makes it a failure."""
        try:
            check_utf8(frame.data)
            try:
                event = _EVENT.decode(frame.data)
            except ValidationError:
                if _KIND.decode(frame.data).type in KNOWN:
                    raise
                return None  # an event of which nothing is read may have any shape
            if event.type == _TEXT and event.delta is not None:
                if event.delta:
                    self._output.said = True
                    self._told.add(event.output_index)
                    events.append(TextDelta(event.delta))
                if event.logprobs:
                    events.append(LogprobsDelta(logprobs(event.logprobs)))
                return None
            return self._read_other(event, frame, events)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            return garbled("stream", error)

    def _read_other(self, event: wire.StreamEvent, frame: Frame, events: list[Event]) -> UpstreamError | None:
        kind = event.type
        if kind in _ARGUMENTS:
            self._argue(event, events)
        elif kind in _THOUGHTS:
            self._think(event, events)
        elif kind == "response.output_item.added":
            self._begin(event.output_index, event.item, events)
        elif kind == "response.output_item.done":
            self._finish(event.output_index, event.item, events)
        elif kind == "response.refusal.delta" and event.delta:
            self._output.refused = True
            self._told.add(event.output_index)
            events.append(RefusalDelta(event.delta))
        elif kind == "response.output_text.annotation.added" and is_said(event.annotation):
            events.append(Cited(openai_responses_citations.read_one(event.annotation)))
        elif kind in _STARTS or kind in _ENDS:
            return self._frame_of_reply(kind, event.response, events)
        elif kind == "error" or frame.event == "error" or is_said(event.error):
            return read_in_band(event.error if is_said(event.error) else frame.data)
        return None

    def _frame_of_reply(self, kind: str, response: Raw, events: list[Event]) -> UpstreamError | None:
        """Read the reply as it stands at its start and at its end."""
        head = _HEAD.decode(response or b"{}")
        if not self._started:
            self._started = True
            events.append(started(head, unknown(bytes(response or b"{}"))))
        if kind not in _ENDS:
            return None
        if head.status is None:
            head.status = kind.removeprefix("response.")
        last = [_served(event, head) for event in ending(head, self._output)]
        failure = next((event.error for event in last if isinstance(event, Failed)), None)
        if failure is not None:
            events += [event for event in last if not isinstance(event, Failed | Ended)]
            assert isinstance(failure, UpstreamError), "it was read from the provider's reply"
            return failure
        events += last
        self._over = True
        return None

    def _begin(self, place: int, raw: Raw, events: list[Event]) -> None:
        item = _ITEM.decode(raw or b"{}")
        if item.type in _CALLS and place not in self._calls:
            self._calls[place] = self._output.calls
            self._output.start_call(item, events)

    def _argue(self, event: wire.StreamEvent, events: list[Event]) -> None:
        if event.delta and event.output_index in self._calls:
            self._told.add(event.output_index)
            events.append(ToolUseDelta(self._calls[event.output_index], event.delta))

    def _think(self, event: wire.StreamEvent, events: list[Event]) -> None:
        """Read more of a thought: of its summary or of its text, whichever comes first. Parts of a summary stand apart."""
        place = event.output_index
        if not event.delta or self._kinds.setdefault(place, event.type) != event.type:
            return
        self._told.add(place)
        before = self._parts.get(place, event.summary_index)
        self._parts[place] = event.summary_index
        events.append(ReasoningDelta(event.delta if before == event.summary_index else f"\n\n{event.delta}"))

    def _finish(self, place: int, raw: Raw, events: list[Event]) -> None:
        """Read what of an item has not come in pieces."""
        item = _ITEM.decode(raw or b"{}")
        told = place in self._told
        if item.type == "reasoning":
            self._output.read_thought(item, events, told=told)
        elif item.type in _CALLS:
            self._begin(place, raw, events)
            if not told and (arguments := arguments_of(item)):
                events.append(ToolUseDelta(self._calls[place], arguments))
        elif item.type != "message":
            events.append(PartAdded(read_part(item, raw)))
        elif not told:
            self._output.read_item(raw, events)
