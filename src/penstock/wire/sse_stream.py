"""What the readers of SSE streams with an end mark have in common: bytes to frames, and what the end of the bytes means.

Pure. A dialect brings `_take`, which reads frames and settles what of their bytes is passed, and may bring `_template`, which
says how the next events can be read at less cost where they are like the last one. Strategy of that: a template is in
force only while the next byte begins an event, and every read that is not all of its kind goes the long way, which is the
one definition; the short one changes nothing of what the long one remembers.
Place in the line: under the stream readers of chat completions and of Messages.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from msgspec import DecodeError

from penstock.errors import UpstreamError, UpstreamGarbled
from penstock.passage import Passage, Taker
from penstock.reply import Ended, Event, Failed, TextDelta
from penstock.wire.framing import Frame, SseReader
from penstock.wire.sse_template import MAX_TEMPLATE_BYTES, TextTemplate

_TRIALS: Final = 4
"""So many templates in a row that were of no use are made of one stream."""


class MarkedStreamReader(ABC):
    """See `dialect.StreamReader`. `MARK` is what its streams end with, as an error names it."""

    __slots__ = ("_known", "_late_lf", "_over", "_ready", "_sse", "_trials", "passed")

    MARK: ClassVar[str]

    def __init__(self) -> None:
        self.passed = b""
        self._sse = SseReader()
        self._over = False
        self._late_lf = False  # the end mark's frame ended with a CR: its LF may follow
        self._ready: TextTemplate | None = None  # what the next bytes may be read with
        self._known: TextTemplate | None = None
        self._trials = _TRIALS

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """Give the events that these bytes complete; a stream that cannot be read ends in a `Failed`."""
        ready = self._ready
        if ready is not None and (texts := ready.read(data)) is not None:
            self.passed = data
            return texts
        return self._feed(data)

    def short_way(self, taker: Taker) -> Passage | None:
        """Give the way of bytes that pass without `feed`, as long as they are chunks, each with one event like the last.

        It may be used until the next `feed`; what they mean is told to who takes them. None where nothing of the kind is known.
        """
        ready = self._ready
        return None if ready is None or not ready.used else ready.in_chunks(taker)

    def _feed(self, data: bytes) -> tuple[Event, ...]:
        """Read any bytes, and settle how the next ones may be read."""
        self._ready = None
        if self._over:
            self.passed = b"\n" if self._late_lf and data.startswith(b"\n") else b""
            self._late_lf = self._late_lf and not data
            return ()
        if (known := self._alike(data)) is not None:
            self.passed = data
            return known
        try:
            frames = self._sse.feed(data)
        except UpstreamGarbled as error:
            return self._fail(error)
        events = self._take(frames)
        if events and type(events[-1]) is TextDelta and self._sse.between:
            self._ready = self._learn(frames[-1])
        return events

    def _alike(self, data: bytes) -> tuple[Event, ...] | None:
        """Read bytes that are plainly known from other streams, and are passed as they came; None for any others."""
        del data
        return None

    def _learn(self, frame: Frame) -> TextTemplate | None:
        """Give the template for events like this one, the last of what was taken."""
        block = self._sse.taken[frame.start : frame.end]
        known = self._known
        if known is not None and known.read(block) is not None:
            return known
        if known is not None and known.used:
            self._trials = _TRIALS
        if not self._trials or len(block) > MAX_TEMPLATE_BYTES:
            return None
        self._trials -= 1
        try:
            self._known = self._template(frame, block)
        except (DecodeError, UnicodeDecodeError, RecursionError):  # a reader never raises, whatever came
            self._known = None
        return self._known

    def _template(self, frame: Frame, block: bytes) -> TextTemplate | None:
        """Make a template of a frame if it means a text and nothing else; `block` are its bytes."""
        del frame, block
        return None

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
        cut = UpstreamGarbled(f"The provider's stream stopped before its end mark, {self.MARK}.")
        return (*events, Failed(cut))

    def _fail(self, error: UpstreamError) -> tuple[Event, ...]:
        self.passed = self._sse.taken
        self._over = True
        return (Failed(error),)

    @abstractmethod
    def _take(self, frames: list[Frame]) -> tuple[Event, ...]:
        """Read the frames, and settle in `passed` which of their bytes go on."""
