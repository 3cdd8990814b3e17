"""Reads the streams of chat completions: chunks to events.

Pure; one reader per upstream reply. Strategy of the reader: every event is decoded by type, and
the bytes go on as they came, whole frames only, up to the frame that fails: an error is said by whoever writes to the
client, in its own words. Place in the line: behind `openai_chat.py`.
"""

import re
from typing import Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder, decode

from penstock.errors import UpstreamError
from penstock.reply import (
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.wire import openai_chat_reply_types as wire
from penstock.wire.framing import Frame
from penstock.wire.openai_chat_content import LEGACY_ID
from penstock.wire.openai_chat_habits import Habits, Head
from penstock.wire.openai_chat_reply import (
    UNSIGNED,
    called,
    check_utf8,
    finished,
    garbled,
    kind_of,
    missing_id,
    read_beside,
    read_delta,
    read_in_band,
    read_logprobs,
    started,
)
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.openai_chat_thoughts import read_pieces, read_signature
from penstock.wire.openai_chat_usage import NULL, is_said, read_usage
from penstock.wire.sse_stream import MarkedStreamReader
from penstock.wire.sse_template import MAX_TEMPLATE_BYTES, TextTemplate, template

_CHUNK: Final = Decoder(wire.StreamChunk)
_TEXT_AT: Final = re.compile(rb'"content" ?: ?"([^"\\]*(?:\\.[^"\\]*)*)"').search
_NOISE_AT: Final = re.compile(rb'"obfuscation" ?: ?"([^"\\]*)"').search
_DONE: Final = b"[DONE]"
_CLOSE: Final = b"data: [DONE]\n\n"
_LEGACY: Final = -1
"""Stands for the index of a deprecated `function_call`, which has none."""


class ChatStreamReader(MarkedStreamReader):
    """Events of one stream.

    `passed` is what of the fed bytes goes on to a client of the same dialect: whole frames, as they came, and the very
    object that was fed where that ends with a frame. From a frame that fails on, and after the end mark, nothing is passed.
    With `strip_usage` the frame that carries usage alone is left out: it was asked for by us, not by the client.
    `habits` are what streams before it had in common, of the same model.
    """

    __slots__ = ("_choices", "_cut", "_habits", "_head", "_id", "_named", "_started", "_strip")

    MARK = "[DONE]"

    def __init__(self, *, strip_usage: bool, habits: Habits | None = None) -> None:
        super().__init__()
        self._strip = strip_usage
        self._habits = habits
        self._head: Head | None = None  # what the habits go by
        self._started = self._named = False
        self._cut = False  # the last frame was left out: the LF of its CRLF may follow
        self._id = ""
        self._choices: dict[int, _ChoiceState] = {}

    def _take(self, frames: list[Frame]) -> tuple[Event, ...]:
        """Read the frames, and settle which of their bytes are passed."""
        events: list[Event] = []
        taken, is_lone = self._sse.taken, len(frames) == 1 and not self._choices
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
        if is_lone and self._habits is not None and not self._over:
            self._head = self._habits.learn(taken, tuple(events)) or self._head
        return tuple(events)

    def _alike(self, data: bytes) -> tuple[Event, ...] | None:
        """Read one event that was read in an earlier stream but for its head and its text; or the usage and the end mark."""
        habits, head = self._habits, self._head
        if habits is None or self._cut or len(data) > MAX_TEMPLATE_BYTES or not self._sse.begins(data):
            return None
        if head is None and not self._started:
            head = Head.of(data)
        if head is None or data[: head.size] != head.text:
            return None
        rest = data[head.size :]
        said = habits.read(rest)
        if said is None:
            return self._closing(habits, head, rest)
        last = said[-1] if said else None
        if type(last) is Finished:
            if self._choices:
                return None
            self._choices[last.choice] = _ChoiceState(finished=True)
        elif last is not None:
            self._ready = self._known = habits.template(head, rest)
        if self._named:
            return said
        self._head, self._id = head, head.start.id
        self._started = self._named = True
        return head.start, *said

    def _closing(self, habits: Habits, head: Head, rest: bytes) -> tuple[Event, ...] | None:
        """Read usage, where no choice says more, and the end mark where it comes in one go with it."""
        is_last = rest.endswith(_CLOSE)
        event = rest[: -len(_CLOSE)] if is_last else rest
        json = habits.usage(event) if self._named and not self._strip else None
        if json is None:
            return None
        try:
            check_utf8(json)
            usage = read_usage(Raw(json))
        except (UnicodeDecodeError, RecursionError):
            return None
        if usage is None:
            return None
        reported = UsageReported(usage, head.start.service_tier)
        self._over = is_last
        return (reported, Ended()) if is_last else (reported,)

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
                    text = delta.content
                    if (
                        delta.tool_calls is not None
                        or delta.reasoning_content is not None
                        or delta.reasoning is not None
                        or delta.refusal is not None
                        or delta.audio is not None
                        or delta.function_call is not None
                        or delta.reasoning_details
                        or delta.annotations
                        or delta.images
                        or isinstance(text, list)
                    ):
                        self._read_rare(delta, number, events)
                    elif text:
                        events.append(TextDelta(text, number))
                if choice.logprobs is not None:
                    events += read_logprobs(choice.logprobs, number)
                if choice.finish_reason is not None:
                    self._finish(choice.finish_reason, number, events)
        if len(chunk.usage) > NULL and (usage := read_usage(chunk.usage)) is not None:
            events.append(UsageReported(usage, chunk.service_tier))
        return None, not choices and len(chunk.usage) > NULL

    def _template(self, frame: Frame, block: bytes) -> TextTemplate | None:
        """Make a template where nothing is told but text of the first choice; tried out with another text and other noise."""
        data = frame.data
        found = _TEXT_AT(data)
        if found is None or frame.event:
            return None
        noise = _NOISE_AT(data, found.end())
        at, text = found.end(1), decode(b'"%b"' % found[1], type=str)
        chunk, longer = _CHUNK.decode(data), _CHUNK.decode(data[:at] + b"?" + data[at:])
        if not (_says(chunk, text) and _says(longer, text + "?")):
            return None
        if noise is not None:
            at = noise.end(1)
            if _CHUNK.decode(data[:at] + b"?" + data[at:]) != chunk:
                noise = None
        return template(block, frame, found.span(1), None if noise is None else noise.span(1))

    def _start(self, chunk: wire.StreamChunk, events: list[Event]) -> None:
        """Say who answers, as soon as it is said; at the first choice at the latest."""
        events.append(started(chunk))
        self._started = True
        self._named = bool(chunk.id)
        self._id = chunk.id or ""

    def _read_rare(self, delta: wire.Delta, number: int, events: list[Event]) -> None:
        """Read a delta that has more than text. Thoughts without a signature are remembered, since it may follow."""
        state = self._choices.setdefault(number, _ChoiceState())
        if is_said(delta.reasoning_details):
            if not read_pieces(delta, state.told, number, events):
                events.append(ForeignDelta(NAME, "reasoning_details", bytes(delta.reasoning_details), number))
        elif text := delta.reasoning_content or delta.reasoning:
            state.told.append(text)
        state.refused = state.refused or bool(delta.refusal)
        read_delta(delta, number, events)
        for call in delta.tool_calls or ():
            state.read(call, number, self._id, events)
        if delta.function_call is not None:
            call = wire.ReplyToolCall(_LEGACY, f"{LEGACY_ID}0", delta.function_call)
            state.read(call, number, self._id, events)
        if delta.annotations or delta.images:
            read_beside(delta, number, events)

    def _finish(self, native: str, number: int, events: list[Event]) -> None:
        """Say once that a choice ended, also where the server says it again along with the usage."""
        state = self._choices.setdefault(number, _ChoiceState())
        if not state.finished:
            state.finished = True
            events.append(finished(native, number, refused=state.refused))


def _says(chunk: wire.StreamChunk, text: str) -> bool:
    """Return whether a chunk means this text of the first choice, and nothing else."""
    said = [wire.StreamChoice(delta=wire.Delta(text))]
    return chunk.choices == said and not is_said(chunk.error) and len(chunk.usage) <= NULL


def _in_band(chunk: wire.StreamChunk, frame: Frame) -> UpstreamError | None:
    """Give the error that stands in a frame."""
    if is_said(chunk.error):
        return read_in_band(chunk.error)
    return read_in_band(frame.data) if frame.event == "error" else None


class _ChoiceState:
    """One choice while it streams: whether it has ended, and which pieces of tool calls belong together."""

    __slots__ = ("_at", "_ids", "_last", "finished", "refused", "told")

    def __init__(self, *, finished: bool = False) -> None:
        self.finished = finished
        self.refused = False
        self.told: list[str] = []  # thoughts without a signature, so far
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
            signature = read_signature(call.extra_content) if call.extra_content else UNSIGNED
            events.append(ToolUseStarted(index, ident, name or "", kind_of(call), number, *signature))
        self._last = given
        if arguments:
            events.append(ToolUseDelta(index, arguments, number))
